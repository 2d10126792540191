/* SPDX-License-Identifier: MIT */
/* Ours against libkrb5: the same keys, usages and messages, both directions, all four types. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "crypto/crypto.h"

/* Last: it makes macros of names that are enumerators in ours. */
#include <krb5/krb5.h>

#define ROUNDS 4000
#define TEXT_N 600

static const int32_t etypes[] = {17, 18, 19, 20};

/* One round's material. */
struct round {
    struct sp_key key;
    krb5_keyblock theirs;
    uint32_t usage;
    uint8_t text[TEXT_N];
    size_t n;
};

static struct crypto *crypto;
static krb5_context krb5;
static struct sp_rng_fixed chance;

static int setup(void **state)
{
    struct sp_err e = {0};
    uint8_t seed[32] = {1};
    krb5_data d = {0, sizeof seed, (char *)seed};

    (void)state;
    sp_rng_fixed_init(&chance, 8009);
    crypto = crypto_new(&e);
    if (!crypto || krb5_init_context(&krb5) != 0)
        return -1;
    return krb5_c_random_add_entropy(krb5, KRB5_C_RANDSOURCE_EXTERNAL_PROTOCOL, &d) != 0 ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    krb5_free_context(krb5);
    crypto_free(crypto);
    return 0;
}

static uint32_t below(uint32_t n)
{
    uint32_t v;

    sp_rng_fill(&chance.rng, &v, sizeof v);
    return v % n;
}

/* libkrb5 takes what it only reads as char * all the same. */
static krb5_data data_of(const void *p, size_t n)
{
    krb5_data d = {0, (unsigned)n, NULL};

    memcpy(&d.data, &p, sizeof p);
    return d;
}

static struct sp_span text_of(const struct round *r)
{
    return sp_span(r->text, r->n);
}

static krb5_keyblock keyblock_of(struct sp_key *key)
{
    return (krb5_keyblock){0, key->etype, key->n, key->b};
}

/* Every other key is one to keep; a kept one comes back now and then, with another usage. */
static void draw(struct round *r, uint32_t i)
{
    struct sp_err e = {0};

    if (i < 4 || i % 3 != 0)
        assert_true(crypto_random_key(etypes[below(4)], &chance.rng, &r->key, &e));
    r->key.keep = i % 2 == 0;
    r->usage = 1 + below(64);
    r->n = below(TEXT_N + 1);
    sp_rng_fill(&chance.rng, r->text, r->n);
    r->theirs = keyblock_of(&r->key);
}

static void they_decrypt(const struct round *r)
{
    static uint8_t cipher[TEXT_N + CRYPTO_OVERHEAD_MAX], out[TEXT_N + CRYPTO_OVERHEAD_MAX];
    krb5_enc_data in = {.enctype = r->key.etype};
    krb5_data plain = data_of(out, sizeof out);
    size_t n = sizeof cipher, theirs_n;
    struct sp_err e = {0};

    assert_true(crypto_encrypt(crypto, &r->key, r->usage, &chance.rng, text_of(r), cipher, &n, &e));
    assert_int_equal(krb5_c_encrypt_length(krb5, r->key.etype, r->n, &theirs_n), 0);
    assert_int_equal(n, theirs_n);
    in.ciphertext = data_of(cipher, n);
    assert_int_equal(krb5_c_decrypt(krb5, &r->theirs, (krb5_keyusage)r->usage, NULL, &in, &plain), 0);
    assert_true(sp_same(sp_span(plain.data, plain.length), text_of(r)));
}

static void we_decrypt(const struct round *r)
{
    static uint8_t cipher[TEXT_N + CRYPTO_OVERHEAD_MAX], out[TEXT_N + CRYPTO_OVERHEAD_MAX];
    krb5_data plain = data_of(r->text, r->n);
    krb5_enc_data made = {.ciphertext = data_of(cipher, sizeof cipher)};
    size_t n = sizeof out;
    struct sp_err e = {0};

    assert_int_equal(krb5_c_encrypt(krb5, &r->theirs, (krb5_keyusage)r->usage, NULL, &plain, &made), 0);
    assert_true(
        crypto_decrypt(crypto, &r->key, r->usage, sp_span(cipher, made.ciphertext.length), out, &n, &e));
    assert_true(sp_same(sp_span(out, n), text_of(r)));
    cipher[below(made.ciphertext.length)] ^= (uint8_t)(1 + below(255));
    n = sizeof out;
    assert_false(
        crypto_decrypt(crypto, &r->key, r->usage, sp_span(cipher, made.ciphertext.length), out, &n, &e));
    assert_int_equal(e.proto, KRB5KRB_AP_ERR_BAD_INTEGRITY - ERROR_TABLE_BASE_krb5);
}

static void test_encryption(void **state)
{
    static struct round r;

    (void)state;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        draw(&r, i);
        they_decrypt(&r);
        we_decrypt(&r);
    }
}

static void test_checksums(void **state)
{
    static struct round r;

    (void)state;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        int32_t type;
        krb5_checksum theirs;
        krb5_data in;
        uint8_t ours[CRYPTO_CKSUM_MAX];
        size_t n = sizeof ours;
        struct sp_err e = {0};
        krb5_boolean valid = 0;

        draw(&r, i);
        in = data_of(r.text, r.n);
        assert_int_equal(krb5_c_make_checksum(krb5, 0, &r.theirs, (krb5_keyusage)r.usage, &in, &theirs), 0);
        type = theirs.checksum_type;
        assert_int_equal(type, crypto_find_type(r.key.etype)->cksumtype);
        assert_true(crypto_checksum(crypto, &r.key, r.usage, text_of(&r), ours, &n, &e));
        assert_true(sp_same(sp_span(ours, n), sp_span(theirs.contents, theirs.length)));
        assert_true(
            crypto_verify(crypto, &r.key, r.usage, type, text_of(&r), sp_span(theirs.contents, n), &e));
        memcpy(theirs.contents, ours, n);
        assert_int_equal(
            krb5_c_verify_checksum(krb5, &r.theirs, (krb5_keyusage)r.usage, &in, &theirs, &valid), 0);
        assert_true(valid);
        krb5_free_checksum_contents(krb5, &theirs);
    }
}

static void test_prf(void **state)
{
    static struct round r;

    (void)state;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint8_t theirs[CRYPTO_PRF_MAX], ours[CRYPTO_PRF_MAX];
        krb5_data in, out;
        size_t n = sizeof ours, theirs_n;
        struct sp_err e = {0};

        draw(&r, i);
        in = data_of(r.text, r.n);
        assert_int_equal(krb5_c_prf_length(krb5, r.key.etype, &theirs_n), 0);
        out = data_of(theirs, theirs_n);
        assert_int_equal(krb5_c_prf(krb5, &r.theirs, &in, &out), 0);
        assert_true(crypto_prf(crypto, &r.key, text_of(&r), ours, &n, &e));
        assert_true(sp_same(sp_span(ours, n), sp_span(theirs, theirs_n)));
    }
}

/* Letters: libkrb5 takes the peppers as C strings. */
static void draw_pepper(char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (char)('a' + below(26));
    p[n] = 0;
}

static void test_fx_cf2(void **state)
{
    static struct round a, b;

    (void)state;
    for (uint32_t i = 0; i < ROUNDS / 4; i++) {
        char pepper_a[40], pepper_b[40];
        krb5_keyblock *theirs = NULL;
        struct sp_key ours;
        struct sp_err e = {0};

        draw(&a, i);
        draw(&b, i);
        draw_pepper(pepper_a, below(sizeof pepper_a));
        draw_pepper(pepper_b, below(sizeof pepper_b));
        assert_int_equal(krb5_c_fx_cf2_simple(krb5, &a.theirs, pepper_a, &b.theirs, pepper_b, &theirs), 0);
        assert_true(crypto_fx_cf2(crypto, &a.key, sp_str(pepper_a), &b.key, sp_str(pepper_b), &ours, &e));
        assert_int_equal(ours.etype, theirs->enctype);
        assert_true(sp_same(sp_span(ours.b, ours.n), sp_span(theirs->contents, theirs->length)));
        krb5_free_keyblock(krb5, theirs);
    }
}

static void same_key(int32_t etype, struct round *password, struct round *salt, uint32_t iter)
{
    uint8_t params[4] = {0, 0, (uint8_t)(iter >> 8), (uint8_t)iter};
    krb5_data their_password = data_of(password->text, password->n),
              their_salt = data_of(salt->text, salt->n);
    krb5_data their_params = data_of(params, sizeof params);
    krb5_keyblock theirs;
    struct sp_key ours;
    struct sp_err e = {0};

    assert_int_equal(
        krb5_c_string_to_key_with_params(krb5, etype, &their_password, &their_salt, &their_params, &theirs),
        0);
    assert_true(crypto_string_to_key(crypto, etype, text_of(password), text_of(salt),
                                     sp_span(params, sizeof params), &ours, &e));
    assert_true(sp_same(sp_span(ours.b, ours.n), sp_span(theirs.contents, theirs.length)));
    krb5_free_keyblock_contents(krb5, &theirs);
}

/* libkrb5 refuses counts under the default, which makes this slow; hence few rounds. Lengths on both sides of
 * a hash's block. */
static void test_string_to_key(void **state)
{
    static const uint32_t rounds[] = {60, 60, 8, 8};
    static struct round password, salt;

    (void)state;
    for (size_t t = 0; t < 4; t++)
        for (uint32_t i = 0; i < rounds[t]; i++) {
            draw(&password, 1);
            draw(&salt, 1);
            password.n %= 300;
            salt.n %= 100;
            same_key(etypes[t], &password, &salt, crypto_find_type(etypes[t])->s2k_iter + below(50));
        }
}

/* Without parameters: the defaults are the same. */
static void test_default_counts(void **state)
{
    krb5_data password = data_of("password", 8), salt = data_of("EXAMPLE.ORGalice", 16);

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        krb5_keyblock theirs;
        struct sp_key ours;
        struct sp_err e = {0};

        assert_int_equal(krb5_c_string_to_key(krb5, etypes[i], &password, &salt, &theirs), 0);
        assert_true(crypto_string_to_key(crypto, etypes[i], SP_LIT("password"), SP_LIT("EXAMPLE.ORGalice"),
                                         SP_LIT(""), &ours, &e));
        assert_true(sp_same(sp_span(ours.b, ours.n), sp_span(theirs.contents, theirs.length)));
        krb5_free_keyblock_contents(krb5, &theirs);
    }
}

/* The names that administrators know are theirs too. */
static void test_names(void **state)
{
    static const char *const names[] = {"aes128-cts",
                                        "aes256-cts",
                                        "aes128-sha1",
                                        "aes256-sha1",
                                        "aes128-sha2",
                                        "aes256-sha2",
                                        "aes128-cts-hmac-sha1-96",
                                        "aes256-cts-hmac-sha1-96",
                                        "aes128-cts-hmac-sha256-128",
                                        "aes256-cts-hmac-sha384-192"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char copy[40];
        krb5_enctype etype;

        memcpy(copy, names[i], strlen(names[i]) + 1);
        assert_int_equal(krb5_string_to_enctype(copy, &etype), 0);
        assert_int_equal(crypto_find_type_named(sp_str(names[i]))->etype, etype);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encryption),    cmocka_unit_test(test_checksums),
        cmocka_unit_test(test_prf),           cmocka_unit_test(test_fx_cf2),
        cmocka_unit_test(test_string_to_key), cmocka_unit_test(test_default_counts),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
