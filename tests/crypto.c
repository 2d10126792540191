/* SPDX-License-Identifier: MIT */
/* Vectors are those published in RFC 3961 A.1, RFC 3962 B, RFC 8009 A, RFC 6113 A, RFC 4231, RFC 7914 12 and
 * NIST's GCM set; those of pseudo-random() for types 17 and 18 are from the tests of MIT krb5. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/text.h"
#include "crypto/crypto.h"
#include "crypto/openssl/backend.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static const int32_t etypes[] = {17, 18, 19, 20};

static struct crypto *crypto;
static struct sp_rng_fixed chance;

static int setup(void **state)
{
    struct sp_err e = {0};

    (void)state;
    sp_rng_fixed_init(&chance, 3962);
    crypto = crypto_new(&e);
    return crypto ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    crypto_free(crypto);
    return 0;
}

/* ---- helpers ---- */

struct bytes {
    uint8_t b[512];
    size_t n;
};

static struct bytes hex(const char *s)
{
    struct bytes v;

    assert_true(sp_unhex(sp_str(s), v.b, sizeof v.b, &v.n));
    return v;
}

static struct sp_span span(const struct bytes *v)
{
    return sp_span(v->b, v->n);
}

static struct sp_key key_of(int32_t etype, const char *s)
{
    struct bytes v = hex(s);
    struct sp_key key = {.n = (uint8_t)v.n, .etype = etype};

    assert_true(v.n <= sizeof key.b);
    memcpy(key.b, v.b, v.n);
    return key;
}

static struct sp_key random_key(int32_t etype)
{
    struct sp_err e = {0};
    struct sp_key key;

    assert_true(crypto_random_key(etype, &chance.rng, &key, &e));
    return key;
}

static void same_hex(const void *p, size_t n, const char *want)
{
    struct bytes v = hex(want);

    assert_int_equal(n, v.n);
    assert_memory_equal(p, v.b, n);
}

/* A generator that gives one confounder. */
struct given {
    struct sp_rng rng;
    const uint8_t *p;
};

static void give(struct sp_rng *rng, void *p, size_t n)
{
    assert_int_equal(n, 16);
    memcpy(p, ((struct given *)(void *)rng)->p, n);
}

/* ---- facts ---- */

static void test_types(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int32_t etype;
    } rows[] = {
        {"aes128-cts-hmac-sha1-96",    17},
        {"aes256-cts-hmac-sha1-96",    18},
        {"aes128-cts-hmac-sha256-128", 19},
        {"aes256-cts-hmac-sha384-192", 20},
        {"aes128-cts",                 17},
        {"aes256-cts",                 18},
        {"AES256-CTS",                 18},
        {"aes128-sha1",                17},
        {"aes256-sha1",                18},
        {"aes128-sha2",                19},
        {"aes256-sha2",                20},
        {"17",                         17},
        {"20",                         20},
    };
    static const char *const unknown[] = {"",       "16",  "21",        "23", "rc4-hmac", "arcfour-hmac",
                                          "aes256", "18 ", "4294967314"};

    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct crypto_type *t = crypto_find_type_named(sp_str(rows[i].name));
        assert_non_null(t);
        assert_int_equal(t->etype, rows[i].etype);
        assert_ptr_equal(t, crypto_find_type(rows[i].etype));
    }
    for (size_t i = 0; i < COUNT(unknown); i++)
        assert_null(crypto_find_type_named(sp_str(unknown[i])));
    assert_null(crypto_find_type(0));
    assert_null(crypto_find_type(-128));
    assert_null(crypto_find_type(23));
}

static void test_sizes(void **state)
{
    (void)state;
    static const struct crypto_type want[] = {
        {17, 15, 16, 12, 16, 4096,  ""},
        {18, 16, 32, 12, 16, 4096,  ""},
        {19, 19, 16, 16, 32, 32768, ""},
        {20, 20, 32, 24, 48, 32768, ""},
    };

    for (size_t i = 0; i < COUNT(want); i++) {
        const struct crypto_type *t = crypto_find_type(want[i].etype);
        assert_int_equal(t->cksumtype, want[i].cksumtype);
        assert_int_equal(t->key_n, want[i].key_n);
        assert_int_equal(t->tag_n, want[i].tag_n);
        assert_int_equal(t->prf_n, want[i].prf_n);
        assert_int_equal(t->s2k_iter, want[i].s2k_iter);
        assert_int_equal(crypto_cipher_n(t->etype, 100), 116u + want[i].tag_n);
        assert_true(t->tag_n <= CRYPTO_CKSUM_MAX && t->prf_n <= CRYPTO_PRF_MAX);
        assert_true(crypto_cipher_n(t->etype, 0) <= CRYPTO_OVERHEAD_MAX);
    }
}

/* ---- published values ---- */

static void test_nfold(void **state)
{
    (void)state;
    static const struct {
        const char *in, *want;
    } rows[] = {
        {"012345",                                "be072631276b1955"                                                },
        {"password",                              "78a07b6caf85fa"                                                  },
        {"Rough Consensus, and Running Code",     "bb6ed30870b7f0e0"                                                },
        {"password",                              "59e4a8ca7c0385c3c37b3f6d2000247cb6e6bd5b3e"                      },
        {"MASSACHVSETTS INSTITVTE OF TECHNOLOGY", "db3b0d8f0b061e603282b308a50841229ad798fab9540c1b"                },
        {"Q",                                     "518a54a215a8452a518a54a215a8452a518a54a215"                      },
        {"ba",                                    "fb25d531ae8974499f52fd92ea9857c4ba24cf297e"                      },
        {"kerberos",                              "6b65726265726f73"                                                },
        {"kerberos",                              "6b65726265726f737b9b5b2b93132b93"                                },
        {"kerberos",                              "8372c236344e5f1550cd0747e15d62ca7a5a3bcea4"                      },
        {"kerberos",                              "6b65726265726f737b9b5b2b93132b935c9bdcdad95c9899c4cae4dee6d6cae4"},
    };
    uint8_t out[NFOLD_MAX];

    for (size_t i = 0; i < COUNT(rows); i++) {
        size_t n = strlen(rows[i].want) / 2;
        crypto_nfold(sp_str(rows[i].in), out, n);
        same_hex(out, n, rows[i].want);
    }
}

#define CHICKEN "I would like the General Gau's Chicken, please, and wonton soup."
static void test_cts(void **state)
{
    (void)state;
    static const struct {
        size_t n;
        const char *want;
    } rows[] = {
        {17, "c6353568f2bf8cb4d8a580362da7ff7f97"                                                          },
        {31, "fc00783e0efdb2c1d445d4c8eff7ed2297687268d6ecccc0c07b25e25ecfe5"                              },
        {32, "39312523a78662d5be7fcbcc98ebf5a897687268d6ecccc0c07b25e25ecfe584"                            },
        {47,
         "97687268d6ecccc0c07b25e25ecfe584b3fffd940c16a18c1b5549d2f838029e39312523a78662d5be7fcbcc98ebf5"  },
        {48,
         "97687268d6ecccc0c07b25e25ecfe5849dad8bbb96c4cdc03bc103e1a194bbd839312523a78662d5be7fcbcc98ebf5a8"},
        {64,
         "97687268d6ecccc0c07b25e25ecfe58439312523a78662d5be7fcbcc98ebf5a84807efe836ee89a526730dbc2f7bc840"
         "9dad8bbb96c4cdc03bc103e1a194bbd8"                                                                },
    };
    struct bytes key = hex("636869636b656e207465726979616b69");

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct sp_err e = {0};
        uint8_t text[64];

        memcpy(text, CHICKEN, sizeof text);
        assert_true(crypto_aes_cts(crypto, AES_CTS_ENCRYPT, key.b, 16, text, text, rows[i].n, &e));
        same_hex(text, rows[i].n, rows[i].want);
        assert_true(crypto_aes_cts(crypto, AES_CTS_DECRYPT, key.b, 16, text, text, rows[i].n, &e));
        assert_memory_equal(text, CHICKEN, sizeof text);
    }
}

#define RAEBURN "ATHENA.MIT.EDUraeburn"
#define X64 "XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX"
#define SALT8009 "\x10\xdf\x9d\xd7\x83\xe5\xbc\x8a\xce\xa1\x73\x0e\x74\x35\x5f\x61" RAEBURN
static void test_string_to_key(void **state)
{
    (void)state;
    static const struct {
        int32_t etype;
        uint32_t iter; /* 0: no parameters */
        const char *password, *salt, *want;
    } rows[] = {
        {17, 1,     "password",         RAEBURN,                            "42263c6e89f4fc28b8df68ee09799f15"                                },
        {17, 2,     "password",         RAEBURN,                            "c651bf29e2300ac27fa469d693bdda13"                                },
        {17, 1200,  "password",         RAEBURN,                            "4c01cd46d632d01e6dbe230a01ed642a"                                },
        {17, 5,     "password",         "\x12\x34\x56\x78\x78\x56\x34\x12", "e9b23d52273747dd5c35cb55be619d8e"                                },
        {17, 1200,  X64,                "pass phrase equals block size",    "59d1bb789a828b1aa54ef9c2883f69ed"                                },
        {17, 1200,  X64 "X",            "pass phrase exceeds block size",   "cb8005dc5f90179a7f02104c0018751d"                                },
        {17, 50,    "\xf0\x9d\x84\x9e", "EXAMPLE.COMpianist",               "f149c1f2e154a73452d43e7fe62a56e5"                                },
        {18, 1,     "password",         RAEBURN,                            "fe697b52bc0d3ce14432ba036a92e65bbb52280990a2fa27883998d72af30161"},
        {18, 2,     "password",         RAEBURN,                            "a2e16d16b36069c135d5e9d2e25f896102685618b95914b467c67622225824ff"},
        {18, 1200,  "password",         RAEBURN,                            "55a6ac740ad17b4846941051e1e8b0a7548d93b0ab30a8bc3ff16280382b8c2a"},
        {18, 5,     "password",         "\x12\x34\x56\x78\x78\x56\x34\x12",
         "97a4e786be20d81a382d5ebc96d5909cabcdadc87ca48f574504159f16c36e31"                                                                   },
        {18, 1200,  X64,                "pass phrase equals block size",
         "89adee3608db8bc71f1bfbfe459486b05618b70cbae22092534e56c553ba4b34"                                                                   },
        {18, 1200,  X64 "X",            "pass phrase exceeds block size",
         "d78c5c9cb872a8c9dad4697f0bb5b2d21496c82beb2caeda2112fceea057401b"                                                                   },
        {18, 50,    "\xf0\x9d\x84\x9e", "EXAMPLE.COMpianist",
         "4b6d9839f84406df1f09cc166db4b83c571848b784a3d6bdc346589a3e393f9e"                                                                   },
        {19, 32768, "password",         SALT8009,                           "089bca48b105ea6ea77ca5d2f39dc5e7"                                },
        {19, 0,     "password",         SALT8009,                           "089bca48b105ea6ea77ca5d2f39dc5e7"                                },
        {20, 32768, "password",         SALT8009,                           "45bd806dbf6a833a9cffc1c94589a222367a79bc21c413718906e9f578a78467"},
        {20, 0,     "password",         SALT8009,                           "45bd806dbf6a833a9cffc1c94589a222367a79bc21c413718906e9f578a78467"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        uint32_t v = rows[i].iter;
        uint8_t params[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
        struct sp_err e = {0};
        struct sp_key key;

        assert_true(crypto_string_to_key(crypto, rows[i].etype, sp_str(rows[i].password),
                                         sp_str(rows[i].salt), sp_span(params, v ? 4 : 0), &key, &e));
        assert_int_equal(key.etype, rows[i].etype);
        assert_false(key.keep);
        same_hex(key.b, key.n, rows[i].want);
    }
}

#define KEY19 "3705d96080c17728a0e800eab6e0d23c"
#define KEY20 "6d404d37faf79f9df0d33568d320669800eb4836472ea8a026d16b7182460c52"

static void test_derive(void **state)
{
    (void)state;
    static const struct {
        int32_t etype;
        const char *key, *constant, *want;
    } rows[] = {
        {19, KEY19,                              "0000000299",       "b31a018a48f54776f403e9a396325dc3"                                },
        {19, KEY19,                              "00000002aa",       "9b197dd1e8c5609d6e67c3e37c62c72e"                                },
        {19, KEY19,                              "0000000255",       "9fda0e56ab2d85e1569a688696c26a6c"                                },
        {20, KEY20,                              "00000002aa",       "56ab22bee63d82d7bc5227f6773f8ea7a5eb1c825160c38312980c442e5c7e49"},
        {17, "cdedb5281bb2f801565a1122b2563515", "6b65726265726f73", "42263c6e89f4fc28b8df68ee09799f15"                                },
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct sp_key key = key_of(rows[i].etype, rows[i].key), out;
        struct bytes constant = hex(rows[i].constant);
        struct sp_err e = {0};

        assert_true(crypto_derive(crypto, &key, span(&constant), &out, &e));
        assert_int_equal(out.etype, rows[i].etype);
        same_hex(out.b, out.n, rows[i].want);
    }
}

static const struct {
    int32_t etype;
    const char *plain, *confounder, *cipher;
} ciphers[] = {
    {19, "",                                           "7e5895eaf2672435bad817f545a37148",
     "ef85fb890bb8472f4dab20394dca781dad877eda39d50c870c0d5a0a8e48c718"                                },
    {19, "000102030405",                               "7bca285e2fd4130fb55b1a5c83bc5b24",
     "84d7f30754ed987bab0bf3506beb09cfb55402cef7e6877ce99e247e52d16ed4421dfdf8976c"                    },
    {19, "000102030405060708090a0b0c0d0e0f",           "56ab21713ff62c0a1457200f6fa9948f",
     "3517d640f50ddc8ad3628722b3569d2ae07493fa8263254080ea65c1008e8fc295fb4852e7d83e1e7c48c37eebe6b0d3"},
    {19, "000102030405060708090a0b0c0d0e0f1011121314", "a7a4e29a4728ce10664fb64e49ad3fac",
     "720f73b18d9859cd6ccb4346115cd336c70f58edc0c4437c5573544c31c813bce1e6d072c186b39a413c2f92ca9b8334a287ffc"
     "b"
     "fc"                                                                                              },
    {20, "",                                           "f764e9fa15c276478b2c7d0c4e5f58e4",
     "41f53fa5bfe7026d91faf9be959195a058707273a96a40f0a01960621ac612748b9bbfbe7eb4ce3c"                },
    {20, "000102030405",                               "b80d3251c1f6471494256ffe712d0b9a",
     "4ed7b37c2bcac8f74f23c1cf07e62bc7b75fb3f637b9f559c7f664f69eab7b6092237526ea0d1f61cb20d69d10f2"    },
    {20, "000102030405060708090a0b0c0d0e0f",           "53bf8a0d105265d4e276428624ce5e63",
     "bc47ffec7998eb91e8115cf8d19dac4bbbe2e163e87dd37f49beca92027764f68cf51f14d798c2273f35df574d1f932e40c4ff2"
     "5"
     "5b36a266"                                                                                        },
    {20, "000102030405060708090a0b0c0d0e0f1011121314", "763e65367e864f02f55153c7e3b58af1",
     "40013e2df58e8751957d2878bcd2d6fe101ccfd556cb1eae79db3c3ee86429f2b2a602ac86fef6ecb647d6295fae077a1feb517"
     "5"
     "08d2c16b4192e01f62"                                                                              },
};

static void test_ciphers(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(ciphers); i++) {
        struct sp_key key = key_of(ciphers[i].etype, ciphers[i].etype == 19 ? KEY19 : KEY20);
        struct bytes plain = hex(ciphers[i].plain), confounder = hex(ciphers[i].confounder);
        struct given rng = {{give}, confounder.b};
        struct sp_err e = {0};
        uint8_t out[128];
        size_t n = sizeof out;

        assert_true(crypto_encrypt(crypto, &key, 2, &rng.rng, span(&plain), out, &n, &e));
        same_hex(out, n, ciphers[i].cipher);
        assert_int_equal(n, crypto_cipher_n(key.etype, plain.n));
        assert_true(crypto_decrypt(crypto, &key, 2, sp_span(out, n), out, &n, &e));
        same_hex(out, n, ciphers[i].plain);
    }
}

static void test_checksums(void **state)
{
    (void)state;
    static const struct {
        int32_t etype;
        const char *key, *want;
    } rows[] = {
        {19, KEY19, "d78367186643d67b411cba9139fc1dee"                },
        {20, KEY20, "45ee791567eefca37f4ac1e0222de80d43c3bfa06699672a"},
    };
    struct bytes data = hex("000102030405060708090a0b0c0d0e0f1011121314");

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct sp_key key = key_of(rows[i].etype, rows[i].key);
        struct sp_err e = {0};
        uint8_t out[CRYPTO_CKSUM_MAX];
        size_t n = sizeof out;

        assert_true(crypto_checksum(crypto, &key, 2, span(&data), out, &n, &e));
        same_hex(out, n, rows[i].want);
        assert_true(crypto_verify(crypto, &key, 2, rows[i].etype, span(&data), sp_span(out, n), &e));
    }
}

static void test_prf(void **state)
{
    (void)state;
    static const struct {
        int32_t etype;
        const char *key, *in, *want;
    } rows[] = {
        {17, "ae272e7cdec86ac5138cdb196d8e297d",                                 "0161",     "77b39a37a868920f2a51f9dd150c5717"                                },
        {17, "67ab1cfef35e4c27ffdeac60385a3e9c",                                 "0162",     "e06c0dd31ff02091994f2ef5178bfe3d"                                },
        {18, "c01f157211f7b77eaaf457c3e156690127ee127d810ba6392e97baa243eb0616", "0161",
         "b2628c788e2e9c4a9bb4644678c29f2f"                                                                                                                    },
        {18, "c01f157211f7b77eaaf457c3e156690127ee127d810ba6392e97baa243eb0616", "0261",
         "b406373350cee8a6126f4a9b65a0cd21"                                                                                                                    },
        {18,
         "9d520d2d980aa7cb6b693682b62da258b33386795164"
         "2ce647ae62b1e5e0b5e9",                                                 "0162",     "ff0e289ea756c0559a0e911856961a49"                                },
        {19, KEY19,                                                              "74657374", "9d188616f63852fe86915bb840b4a886ff3e6bb0f819b49b893393d393854295"},
        {20, KEY20,                                                              "74657374",
         "9801f69a368c2bf675e59521e177d9a07f67efe1cfde8d3c8d6f6a0256e3b17db3c1b62ad1b8553360d17367eb1514d2"                                                    },
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct sp_key key = key_of(rows[i].etype, rows[i].key);
        struct bytes in = hex(rows[i].in);
        struct sp_err e = {0};
        uint8_t out[CRYPTO_PRF_MAX];
        size_t n = sizeof out;

        assert_true(crypto_prf(crypto, &key, span(&in), out, &n, &e));
        same_hex(out, n, rows[i].want);
    }
}

static void test_fx_cf2(void **state)
{
    (void)state;
    static const struct {
        int32_t etype;
        const char *want;
    } rows[] = {
        {17, "97df97e4b798b29eb31ed7280287a92a"                                },
        {18, "4d6ca4e629785c1f01baf55e2e548566b9617ae3a96868c337cb93b5e72b1c7b"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct sp_err e = {0};
        struct sp_key a, b, out;

        assert_true(
            crypto_string_to_key(crypto, rows[i].etype, SP_LIT("key1"), SP_LIT("key1"), SP_LIT(""), &a, &e));
        assert_true(
            crypto_string_to_key(crypto, rows[i].etype, SP_LIT("key2"), SP_LIT("key2"), SP_LIT(""), &b, &e));
        assert_true(crypto_fx_cf2(crypto, &a, SP_LIT("a"), &b, SP_LIT("b"), &out, &e));
        assert_int_equal(out.etype, rows[i].etype);
        same_hex(out.b, out.n, rows[i].want);
    }
}

/* Any length is the beginning of the longest one; 255 blocks are all. */
static void test_prf_plus_lengths(void **state)
{
    static uint8_t whole[255 * CRYPTO_PRF_MAX], part[255 * CRYPTO_PRF_MAX + 1], long_pepper[1025];

    (void)state;
    for (size_t i = 0; i < COUNT(etypes); i++) {
        struct sp_key key = random_key(etypes[i]);
        size_t max = 255u * crypto_find_type(etypes[i])->prf_n;
        struct sp_err e = {0};

        assert_true(crypto_prf_plus(crypto, &key, SP_LIT("pepper"), whole, max, &e));
        for (size_t n = 0; n < 100; n++) {
            part[n] = 0xee;
            assert_true(crypto_prf_plus(crypto, &key, SP_LIT("pepper"), part, n, &e));
            assert_memory_equal(part, whole, n);
            assert_int_equal(part[n], 0xee);
        }
        assert_false(crypto_prf_plus(crypto, &key, SP_LIT("pepper"), part, max + 1, &e));
        assert_int_equal(e.kind, SP_EINPUT);
        e = (struct sp_err){0};
        assert_true(crypto_prf_plus(crypto, &key, sp_span(long_pepper, 1024), part, 16, &e));
        assert_false(crypto_prf_plus(crypto, &key, sp_span(long_pepper, 1025), part, 16, &e));
        assert_int_equal(e.kind, SP_EINPUT);
    }
}

/* ---- refusals ---- */

static void is_refused(bool done, const struct sp_err *e, enum sp_kind kind, int32_t proto)
{
    assert_false(done);
    assert_int_equal(e->kind, kind);
    assert_int_equal(e->proto, proto);
}

static bool decrypt(const struct sp_key *key, uint32_t usage, const uint8_t *cipher, size_t n,
                    struct sp_err *e)
{
    uint8_t out[256];
    size_t out_n = sizeof out;

    *e = (struct sp_err){0};
    return crypto_decrypt(crypto, key, usage, sp_span(cipher, n), out, &out_n, e);
}

static void test_tampering(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(etypes); i++) {
        struct sp_key key = random_key(etypes[i]), other = random_key(etypes[i]);
        struct sp_err e = {0};
        uint8_t cipher[256];
        size_t n = sizeof cipher;

        assert_true(crypto_encrypt(crypto, &key, 3, &chance.rng, sp_str(CHICKEN), cipher, &n, &e));
        assert_true(decrypt(&key, 3, cipher, n, &e));
        for (size_t at = 0; at < n; at++) {
            cipher[at] ^= 1;
            is_refused(decrypt(&key, 3, cipher, n, &e), &e, SP_EREFUSED, 31);
            cipher[at] ^= 1;
        }
        for (size_t cut = 0; cut < n; cut++)
            is_refused(decrypt(&key, 3, cipher, cut, &e), &e, SP_EREFUSED, 31);
        is_refused(decrypt(&key, 2, cipher, n, &e), &e, SP_EREFUSED, 31);
        is_refused(decrypt(&other, 3, cipher, n, &e), &e, SP_EREFUSED, 31);
    }
}

/* What was decrypted under a wrong tag is not left behind. */
static void test_nothing_left_behind(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(etypes); i++) {
        struct sp_key key = random_key(etypes[i]);
        struct sp_err e = {0};
        uint8_t cipher[256], out[256] = {0}, zero[256] = {0};
        size_t n = sizeof cipher, out_n = sizeof out;

        assert_true(crypto_encrypt(crypto, &key, 3, &chance.rng, sp_str(CHICKEN), cipher, &n, &e));
        cipher[n - 1] ^= 1;
        is_refused(crypto_decrypt(crypto, &key, 3, sp_span(cipher, n), out, &out_n, &e), &e, SP_EREFUSED, 31);
        assert_int_equal(out_n, 0);
        assert_memory_equal(out, zero, sizeof out);
    }
}

static void test_verify_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(etypes); i++) {
        const struct crypto_type *t = crypto_find_type(etypes[i]);
        struct sp_key key = random_key(etypes[i]);
        struct sp_span data = SP_LIT("a checksum is over this");
        struct sp_err e = {0};
        uint8_t sum[CRYPTO_CKSUM_MAX + 1] = {0};
        size_t n = CRYPTO_CKSUM_MAX;

        assert_true(crypto_checksum(crypto, &key, 6, data, sum, &n, &e));
        assert_int_equal(n, t->tag_n);
        assert_true(crypto_verify(crypto, &key, 6, t->cksumtype, data, sp_span(sum, n), &e));
        for (int32_t type = -140; type < 40; type++)
            if (type != t->cksumtype) {
                is_refused(crypto_verify(crypto, &key, 6, type, data, sp_span(sum, n), &e), &e, SP_EREFUSED,
                           50);
                e = (struct sp_err){0};
            }
        for (size_t at = 0; at < n; at++, e = (struct sp_err){0}) {
            sum[at] ^= 0x80;
            is_refused(crypto_verify(crypto, &key, 6, t->cksumtype, data, sp_span(sum, n), &e), &e,
                       SP_EREFUSED, 41);
            sum[at] ^= 0x80;
        }
        is_refused(crypto_verify(crypto, &key, 7, t->cksumtype, data, sp_span(sum, n), &e), &e, SP_EREFUSED,
                   41);
        e = (struct sp_err){0};
        is_refused(crypto_verify(crypto, &key, 6, t->cksumtype, data, sp_span(sum, n - 1), &e), &e,
                   SP_EREFUSED, 41);
        e = (struct sp_err){0};
        is_refused(crypto_verify(crypto, &key, 6, t->cksumtype, data, sp_span(sum, n + 1), &e), &e,
                   SP_EREFUSED, 41);
        e = (struct sp_err){0};
        is_refused(crypto_verify(crypto, &key, 6, t->cksumtype, data, SP_LIT(""), &e), &e, SP_EREFUSED, 41);
        e = (struct sp_err){0};
        data.n--;
        is_refused(crypto_verify(crypto, &key, 6, t->cksumtype, data, sp_span(sum, n), &e), &e, SP_EREFUSED,
                   41);
    }
}

/* Every operation, with this key: the same refusal. */
static void all_refuse(const struct sp_key *key, enum sp_kind kind, int32_t proto)
{
    uint8_t in[100] = {0}, out[200];
    struct sp_span data = sp_span(in, sizeof in);
    struct sp_key made;
    struct sp_err e = {0};
    size_t n = sizeof out;

    is_refused(crypto_encrypt(crypto, key, 1, &chance.rng, data, out, &n, &e), &e, kind, proto);
    e = (struct sp_err){0};
    is_refused(crypto_decrypt(crypto, key, 1, data, out, &n, &e), &e, kind, proto);
    e = (struct sp_err){0};
    is_refused(crypto_checksum(crypto, key, 1, data, out, &n, &e), &e, kind, proto);
    e = (struct sp_err){0};
    is_refused(crypto_verify(crypto, key, 1, 16, data, sp_span(in, 12), &e), &e, kind, proto);
    e = (struct sp_err){0};
    is_refused(crypto_prf(crypto, key, data, out, &n, &e), &e, kind, proto);
    e = (struct sp_err){0};
    is_refused(crypto_prf_plus(crypto, key, data, out, 20, &e), &e, kind, proto);
    e = (struct sp_err){0};
    is_refused(crypto_derive(crypto, key, data, &made, &e), &e, kind, proto);
    e = (struct sp_err){0};
    is_refused(crypto_fx_cf2(crypto, key, data, key, data, &made, &e), &e, kind, proto);
}

static void test_unusable_keys(void **state)
{
    static const int32_t unknown[] = {0, 1, 3, 16, 21, 23, 24, 26, -128, INT32_MAX, INT32_MIN};
    struct sp_key key = {.n = 32}, made;
    struct sp_err e;

    (void)state;
    for (size_t i = 0; i < COUNT(unknown); i++) {
        key.etype = unknown[i];
        all_refuse(&key, SP_EREFUSED, 14);
        e = (struct sp_err){0};
        is_refused(crypto_string_to_key(crypto, unknown[i], SP_LIT("p"), SP_LIT("s"), SP_LIT(""), &made, &e),
                   &e, SP_EREFUSED, 14);
        e = (struct sp_err){0};
        is_refused(crypto_random_key(unknown[i], &chance.rng, &made, &e), &e, SP_EREFUSED, 14);
    }
    for (size_t i = 0; i < COUNT(etypes); i++)
        for (uint8_t n = 0; n <= sizeof key.b; n++) {
            key = (struct sp_key){.etype = etypes[i], .n = n, .keep = n % 2};
            if (n != crypto_find_type(etypes[i])->key_n)
                all_refuse(&key, SP_EINPUT, 0);
        }
}

static void test_room(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(etypes); i++) {
        const struct crypto_type *t = crypto_find_type(etypes[i]);
        struct sp_key key = random_key(etypes[i]);
        size_t need = crypto_cipher_n(etypes[i], 7);
        uint8_t cipher[64], out[64];

        for (size_t room = 0; room <= need; room++) {
            struct sp_err e = {0};
            size_t n = room;
            bool ok;

            memset(cipher, 0xee, sizeof cipher);
            ok = crypto_encrypt(crypto, &key, 1, &chance.rng, SP_LIT("letters"), cipher, &n, &e);
            assert_int_equal(n, need);
            assert_int_equal(ok, room == need);
            assert_int_equal(e.kind, room == need ? SP_OK : SP_EFULL);
            assert_int_equal(cipher[room], 0xee);
        }
        for (size_t room = 0; room <= need; room++) {
            struct sp_err e = {0};
            size_t n = room;
            bool ok = crypto_decrypt(crypto, &key, 1, sp_span(cipher, need), out, &n, &e);

            assert_int_equal(n, room == need ? 7 : need);
            assert_int_equal(ok, room == need);
            assert_int_equal(e.kind, room == need ? SP_OK : SP_EFULL);
        }
        for (size_t room = 0; room < t->tag_n; room++) {
            struct sp_err e = {0};
            size_t n = room;

            is_refused(crypto_checksum(crypto, &key, 1, SP_LIT("x"), out, &n, &e), &e, SP_EFULL, 0);
            assert_int_equal(n, t->tag_n);
            e = (struct sp_err){0};
            n = room;
            is_refused(crypto_prf(crypto, &key, SP_LIT("x"), out, &n, &e), &e, SP_EFULL, 0);
            assert_int_equal(n, t->prf_n);
        }
    }
}

static void test_string_to_key_refusals(void **state)
{
    (void)state;
    static const struct {
        struct sp_span params;
        bool ok;
    } rows[] = {
        {{(const uint8_t *)"\0\0\0\1", 4},         true },
        {{(const uint8_t *)"\0\0\0\0", 4},         false},
        {{(const uint8_t *)"\0\x0f\x42\x41", 4},   false}, /* 1,000,001 */
        {{(const uint8_t *)"\xff\xff\xff\xff", 4}, false},
        {{(const uint8_t *)"\0\0\1", 3},           false},
        {{(const uint8_t *)"\0\0\0\1\1", 5},       false},
        {{(const uint8_t *)"\1", 1},               false},
    };

    for (size_t i = 0; i < COUNT(etypes); i++)
        for (size_t r = 0; r < COUNT(rows); r++) {
            struct sp_err e = {0};
            struct sp_key key;
            bool ok =
                crypto_string_to_key(crypto, etypes[i], SP_LIT("p"), SP_LIT("s"), rows[r].params, &key, &e);

            assert_int_equal(ok, rows[r].ok);
            assert_int_equal(e.kind, rows[r].ok ? SP_OK : SP_EINPUT);
        }
}

static void test_empty_constant(void **state)
{
    struct sp_key key = random_key(18), out;
    struct sp_err e = {0};

    (void)state;
    is_refused(crypto_derive(crypto, &key, SP_LIT(""), &out, &e), &e, SP_EINPUT, 0);
}

/* ---- round trips, kept keys ---- */

static void test_round_trips(void **state)
{
    static uint8_t plain[700], cipher[800], out[800];

    (void)state;
    sp_rng_fill(&chance.rng, plain, sizeof plain);
    for (size_t i = 0; i < COUNT(etypes); i++) {
        struct sp_key key = random_key(etypes[i]);

        for (size_t len = 0; len < 200; len++) {
            struct sp_err e = {0};
            size_t n = sizeof cipher, out_n = sizeof out;

            assert_true(crypto_encrypt(crypto, &key, 100, &chance.rng, sp_span(plain, len), cipher, &n, &e));
            assert_int_equal(n, crypto_cipher_n(etypes[i], len));
            assert_true(crypto_decrypt(crypto, &key, 100, sp_span(cipher, n), out, &out_n, &e));
            assert_int_equal(out_n, len);
            assert_memory_equal(out, plain, len);
            assert_true(crypto_decrypt(crypto, &key, 100, sp_span(cipher, n), cipher, &n, &e));
            assert_int_equal(n, len);
            assert_memory_equal(cipher, plain, len);
        }
    }
}

/* The same operations with a kept key and with one that is not: same bytes. */
static void agree(const struct sp_key *kept, uint32_t usage)
{
    static const struct sp_span text = {(const uint8_t *)CHICKEN, sizeof CHICKEN - 1};
    struct sp_key once = *kept;
    uint8_t confounder[16], a[128], b[128];
    size_t a_n = sizeof a, b_n = sizeof b;
    struct given rng = {{give}, confounder};
    struct sp_err e = {0};

    once.keep = false;
    sp_rng_fill(&chance.rng, confounder, sizeof confounder);
    assert_true(crypto_encrypt(crypto, kept, usage, &rng.rng, text, a, &a_n, &e));
    assert_true(crypto_encrypt(crypto, &once, usage, &rng.rng, text, b, &b_n, &e));
    assert_int_equal(a_n, b_n);
    assert_memory_equal(a, b, a_n);
    assert_true(crypto_decrypt(crypto, kept, usage, sp_span(b, b_n), b, &b_n, &e));
    assert_true(sp_same(sp_span(b, b_n), text));
    a_n = sizeof a;
    assert_true(crypto_checksum(crypto, kept, usage, text, a, &a_n, &e));
    assert_true(crypto_verify(crypto, &once, usage, crypto_find_type(once.etype)->cksumtype, text,
                              sp_span(a, a_n), &e));
    a_n = sizeof a;
    b_n = sizeof b;
    assert_true(crypto_prf(crypto, kept, text, a, &a_n, &e));
    assert_true(crypto_prf(crypto, &once, text, b, &b_n, &e));
    assert_true(sp_same(sp_span(a, a_n), sp_span(b, b_n)));
}

static void test_kept_agrees(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(etypes); i++) {
        struct sp_key key = random_key(etypes[i]);

        key.keep = true;
        for (int round = 0; round < 3; round++)
            for (uint32_t usage = 0; usage < 3 * KEPT_SLOTS; usage++)
                agree(&key, usage);
        agree(&key, UINT32_MAX);
    }
}

static bool is_kept(const struct sp_key *key)
{
    struct sp_key probe = *key;

    for (uint16_t i = 1; i <= crypto->kept.count; i++)
        if (crypto->kept.v[i].etype == probe.etype && memcmp(crypto->kept.v[i].key, probe.b, probe.n) == 0)
            return true;
    return false;
}

/* What is asked for once is derived and forgotten; the second time it stays. */
static void test_kept_from_second_use(void **state)
{
    struct sp_key key = random_key(18);
    struct sp_err e = {0};
    uint8_t out[128];

    (void)state;
    key.keep = true;
    for (uint32_t round = 0; round < 2; round++)
        for (uint32_t usage = 1; usage <= 3; usage++) {
            size_t n = sizeof out;

            assert_int_equal(is_kept(&key), round == 1 && usage > 1);
            assert_true(crypto_encrypt(crypto, &key, usage, &chance.rng, SP_LIT("text"), out, &n, &e));
        }
    assert_int_equal(crypto->kept.count, 1);
    assert_int_equal(crypto->kept.v[1].slot_count, 3);
}

static void test_eviction(void **state)
{
    enum { MANY = CRYPTO_KEPT_MAX + 300 };
    static struct sp_key keys[MANY];

    (void)state;
    for (size_t i = 0; i < MANY; i++) {
        keys[i] = random_key(etypes[i % 4]);
        keys[i].keep = true;
        agree(&keys[i], 2);
        if (i < CRYPTO_KEPT_MAX && i % 100 == 99)
            agree(&keys[0], 2); /* used again before the table was full, so it outlives its neighbours */
    }
    assert_int_equal(crypto->kept.count, CRYPTO_KEPT_MAX);
    assert_true(is_kept(&keys[0]));
    assert_false(is_kept(&keys[1]));
    assert_false(is_kept(&keys[300]));
    assert_true(is_kept(&keys[301]));
    assert_true(is_kept(&keys[MANY - 1]));
    for (size_t i = 0; i < MANY; i++)
        agree(&keys[i], (uint32_t)(1 + i % 5));
    for (size_t i = MANY; i-- > 0;)
        agree(&keys[i], 2);
}

/* Keys that differ in one byte, or in their type alone, are different keys. */
static void test_kept_look_alikes(void **state)
{
    struct sp_key key = random_key(18);

    (void)state;
    key.keep = true;
    for (size_t at = 0; at < key.n; at++) {
        agree(&key, 2);
        key.b[at] ^= 1;
    }
    agree(&key, 2);
    key.etype = 20;
    agree(&key, 2);
    key.etype = 18;
    agree(&key, 2);
}

/* The contexts hold the zero key again: what they would encrypt says so. */
static void nothing_is_loaded(void)
{
    static const uint8_t zero[32];

    assert_int_equal(crypto->kept.count, 0);
    for (int size = 0; size < 2; size++) {
        uint8_t left[16], want[16];
        size_t key_n = size ? 32 : 16;
        struct sp_err e = {0};

        for (int mode = 0; mode < AES_MODES; mode++)
            assert_false(crypto->aes.loaded[size][mode]);
        assert_true(crypto_aes_blocks(crypto, key_n, zero, left, 16, &e));
        assert_true(crypto_aes_load(crypto, zero, key_n, &e));
        assert_true(crypto_aes_blocks(crypto, key_n, zero, want, 16, &e));
        assert_memory_equal(left, want, 16);
        crypto_aes_forget(crypto);
    }
}

static void test_nothing_is_kept_unasked(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(etypes); i++) {
        struct sp_key key = random_key(etypes[i]);
        struct sp_err e = {0};
        uint8_t out[128];
        size_t n = sizeof out;

        assert_true(crypto_encrypt(crypto, &key, 1, &chance.rng, SP_LIT("text"), out, &n, &e));
        nothing_is_loaded();
        assert_true(crypto_decrypt(crypto, &key, 1, sp_span(out, n), out, &n, &e));
        nothing_is_loaded();
        n = sizeof out;
        assert_true(crypto_prf(crypto, &key, SP_LIT("text"), out, &n, &e));
        nothing_is_loaded();
        assert_true(crypto_derive(crypto, &key, SP_LIT("text"), &key, &e));
        nothing_is_loaded();
    }
}

/* The sealing context is left with the zero key too: going on with it gives what sealing with zeros gives. */
static void test_seal_is_forgotten(void **state)
{
    static const uint8_t zero[32];
    uint8_t key[32] = {1}, nonce[12] = {2}, sealed[32], left[16], want[32];
    struct sp_err e = {0};
    int n;

    (void)state;
    assert_true(crypto_seal(crypto, key, nonce, SP_LIT(""), sp_span(zero, 16), sealed, &e));
    assert_int_equal(EVP_CipherInit_ex2(crypto->aes.gcm, NULL, NULL, nonce, 1, NULL), 1);
    assert_int_equal(EVP_CipherUpdate(crypto->aes.gcm, left, &n, zero, 16), 1);
    assert_true(crypto_seal(crypto, zero, nonce, SP_LIT(""), sp_span(zero, 16), want, &e));
    assert_memory_equal(left, want, 16);
    assert_memory_not_equal(left, sealed, 16);
}

/* The key that was named stays; what is done with others in between changes nothing. */
static void test_seal_is_kept(void **state)
{
    static const uint8_t zero[32];
    uint8_t key[32] = {1}, other[32] = {3}, nonce[12] = {2}, want[32], sealed[32], out[16];
    struct sp_err e = {0};

    (void)state;
    assert_true(crypto_seal(crypto, key, nonce, SP_LIT("ad"), sp_span(zero, 16), want, &e));
    crypto_keep_seal(crypto, key);
    for (int i = 0; i < 3; i++) {
        assert_true(crypto_seal(crypto, key, nonce, SP_LIT("ad"), sp_span(zero, 16), sealed, &e));
        assert_memory_equal(sealed, want, 32);
        assert_true(crypto_open(crypto, key, nonce, SP_LIT("ad"), sp_span(want, 32), out, &e));
        assert_memory_equal(out, zero, 16);
        is_refused(crypto_open(crypto, other, nonce, SP_LIT("ad"), sp_span(want, 32), out, &e), &e,
                   SP_EREFUSED, 0);
        is_refused(crypto_open(crypto, key, nonce, SP_LIT("da"), sp_span(want, 32), out, &e), &e, SP_EREFUSED,
                   0);
    }
    crypto_keep_seal(crypto, NULL);
    assert_memory_equal(crypto->aes.kept_seal, zero, 32);
    assert_true(crypto_seal(crypto, zero, nonce, SP_LIT("ad"), sp_span(zero, 16), sealed, &e));
    assert_memory_not_equal(sealed, want, 32);
    assert_true(crypto_open(crypto, key, nonce, SP_LIT("ad"), sp_span(want, 32), out, &e));
}

static void test_random_key(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(etypes); i++) {
        struct sp_key a = random_key(etypes[i]), b = random_key(etypes[i]);

        assert_int_equal(a.etype, etypes[i]);
        assert_int_equal(a.n, crypto_find_type(etypes[i])->key_n);
        assert_false(a.keep);
        assert_memory_not_equal(a.b, b.b, a.n);
    }
}

/* ---- sealing, hashing ---- */

static void test_hashes(void **state)
{
    struct sp_err e = {0};
    struct bytes key = hex("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b");
    uint8_t out[32], long_key[131];

    (void)state;
    assert_true(crypto_sha256(crypto, SP_LIT("abc"), out, &e));
    same_hex(out, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_true(crypto_sha256(crypto, sp_span(NULL, 0), out, &e));
    same_hex(out, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_true(crypto_hmac_sha256(crypto, span(&key), SP_LIT("Hi There"), out, &e));
    same_hex(out, 32, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    assert_true(crypto_hmac_sha256(crypto, SP_LIT("Jefe"), SP_LIT("what do ya want for nothing?"), out, &e));
    same_hex(out, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(long_key, 0xaa, sizeof long_key);
    assert_true(crypto_hmac_sha256(crypto, sp_span(long_key, sizeof long_key),
                                   SP_LIT("Test Using Larger Than Block-Size Key - Hash Key First"), out,
                                   &e));
    same_hex(out, 32, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static void test_scrypt(void **state)
{
    static const struct crypto_scrypt bad[] = {
        {0,    8, 1},
        {1,    8, 1},
        {1000, 8, 1},
        {1024, 0, 1},
        {1024, 8, 0}
    };
    uint8_t out[32];

    (void)state;
    struct sp_err e = {0};
    assert_true(
        crypto_scrypt(crypto, sp_span(NULL, 0), sp_span(NULL, 0), (struct crypto_scrypt){16, 1, 1}, out, &e));
    same_hex(out, 32, "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442");
    assert_true(crypto_scrypt(crypto, SP_LIT("password"), SP_LIT("NaCl"), (struct crypto_scrypt){1024, 8, 16},
                              out, &e));
    same_hex(out, 32, "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162");
    for (size_t i = 0; i < COUNT(bad); i++, e = (struct sp_err){0})
        is_refused(crypto_scrypt(crypto, SP_LIT("p"), SP_LIT("s"), bad[i], out, &e), &e, SP_EINPUT, 0);
    is_refused(
        crypto_scrypt(crypto, SP_LIT("p"), SP_LIT("s"), (struct crypto_scrypt){1u << 30, 8, 1}, out, &e), &e,
        SP_EBACKEND, 0);
}

static void test_seal(void **state)
{
    struct bytes key = hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
    struct bytes nonce = hex("cafebabefacedbaddecaf888"),
                 ad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    struct bytes plain = hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
                             "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39");
    uint8_t sealed[128], out[128], zero[128] = {0};
    size_t n = plain.n + CRYPTO_SEAL_OVERHEAD;
    struct sp_err e = {0};

    (void)state;
    assert_true(crypto_seal(crypto, key.b, nonce.b, span(&ad), span(&plain), sealed, &e));
    same_hex(
        sealed, n,
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838"
        "c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b");
    assert_true(crypto_open(crypto, key.b, nonce.b, span(&ad), sp_span(sealed, n), out, &e));
    assert_memory_equal(out, plain.b, plain.n);
    for (size_t at = 0; at < n; at++, e = (struct sp_err){0}) {
        sealed[at] ^= 4;
        is_refused(crypto_open(crypto, key.b, nonce.b, span(&ad), sp_span(sealed, n), out, &e), &e,
                   SP_EREFUSED, 0);
        assert_memory_equal(out, zero, plain.n);
        sealed[at] ^= 4;
    }
    for (size_t cut = 0; cut < n; cut++, e = (struct sp_err){0})
        is_refused(crypto_open(crypto, key.b, nonce.b, span(&ad), sp_span(sealed, cut), out, &e), &e,
                   SP_EREFUSED, 0);
    ad.b[0] ^= 1;
    is_refused(crypto_open(crypto, key.b, nonce.b, span(&ad), sp_span(sealed, n), out, &e), &e, SP_EREFUSED,
               0);
    ad.b[0] ^= 1;
    nonce.b[11] ^= 1;
    e = (struct sp_err){0};
    is_refused(crypto_open(crypto, key.b, nonce.b, span(&ad), sp_span(sealed, n), out, &e), &e, SP_EREFUSED,
               0);
}

/* Nothing to seal, nothing beside it; and sealing again after opening uses the right direction. */
static void test_seal_empty(void **state)
{
    uint8_t key[32] = {1}, nonce[12] = {2}, sealed[CRYPTO_SEAL_OVERHEAD], out[1];
    struct sp_err e = {0};

    (void)state;
    for (int round = 0; round < 3; round++) {
        nonce[0]++;
        assert_true(crypto_seal(crypto, key, nonce, sp_span(NULL, 0), sp_span(NULL, 0), sealed, &e));
        assert_true(
            crypto_open(crypto, key, nonce, sp_span(NULL, 0), sp_span(sealed, sizeof sealed), out, &e));
    }
}

static void test_two_backends(void **state)
{
    struct sp_err e = {0};
    struct crypto *second = crypto_new(&e);
    struct sp_key key = random_key(18);
    uint8_t out[64];
    size_t n = sizeof out;

    (void)state;
    assert_non_null(second);
    key.keep = true;
    assert_true(crypto_encrypt(crypto, &key, 1, &chance.rng, SP_LIT("text"), out, &n, &e));
    assert_true(crypto_decrypt(second, &key, 1, sp_span(out, n), out, &n, &e));
    assert_true(sp_same(sp_span(out, n), SP_LIT("text")));
    crypto_free(second);
    crypto_free(NULL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_types),
        T(test_sizes),
        T(test_nfold),
        T(test_cts),
        T(test_string_to_key),
        T(test_derive),
        T(test_ciphers),
        T(test_checksums),
        T(test_prf),
        T(test_fx_cf2),
        T(test_prf_plus_lengths),
        T(test_tampering),
        T(test_nothing_left_behind),
        T(test_verify_refusals),
        T(test_unusable_keys),
        T(test_room),
        T(test_string_to_key_refusals),
        T(test_empty_constant),
        T(test_round_trips),
        T(test_kept_agrees),
        T(test_kept_from_second_use),
        T(test_eviction),
        T(test_kept_look_alikes),
        T(test_nothing_is_kept_unasked),
        T(test_random_key),
        T(test_hashes),
        T(test_scrypt),
        T(test_seal),
        T(test_seal_empty),
        T(test_seal_is_forgotten),
        T(test_seal_is_kept),
        T(test_two_backends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
