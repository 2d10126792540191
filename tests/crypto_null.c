/* SPDX-License-Identifier: MIT */
/* The fuzzers' backend keeps the sizes and the refusals of the real one, and opens to zeros. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "crypto/crypto.h"

static const int32_t etypes[] = {17, 18, 19, 20};
static struct crypto *crypto;
static struct sp_rng_fixed chance;

static int setup(void **state)
{
    struct sp_err e = {0};

    (void)state;
    sp_rng_fixed_init(&chance, 1);
    crypto = crypto_new(&e);
    return crypto ? 0 : -1;
}

static struct sp_key random_key(int32_t etype)
{
    struct sp_err e = {0};
    struct sp_key key;

    assert_true(crypto_random_key(etype, &chance.rng, &key, &e));
    return key;
}

static bool decrypt(const struct sp_key *key, uint32_t usage, const uint8_t *cipher, size_t n,
                    struct sp_err *e)
{
    uint8_t out[100];
    size_t out_n = sizeof out;
    bool ok;

    *e = (struct sp_err){0};
    ok = crypto_decrypt(crypto, key, usage, sp_span(cipher, n), out, &out_n, e);
    return ok && sp_same(sp_span(out, out_n), SP_LIT("letters"));
}

static void test_cipher(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct sp_key key = random_key(etypes[i]), other = random_key(etypes[i]);
        size_t tag_n = crypto_find_type(etypes[i])->tag_n;
        struct sp_err e = {0};
        uint8_t cipher[100];
        size_t n = 0;

        assert_false(crypto_encrypt(crypto, &key, 1, &chance.rng, SP_LIT("letters"), cipher, &n, &e));
        assert_int_equal(e.kind, SP_EFULL);
        assert_int_equal(n, crypto_cipher_n(etypes[i], 7));
        e = (struct sp_err){0};
        assert_true(crypto_encrypt(crypto, &key, 1, &chance.rng, SP_LIT("letters"), cipher, &n, &e));
        assert_true(decrypt(&key, 1, cipher, n, &e));
        assert_false(decrypt(&key, 2, cipher, n, &e));
        assert_int_equal(e.proto, 31);
        assert_false(decrypt(&other, 1, cipher, n, &e));
        assert_int_equal(e.proto, 31);
        memset(cipher + n - tag_n, 0, tag_n);
        assert_true(decrypt(&other, 2, cipher, n, &e));
        assert_false(decrypt(&key, 1, cipher, crypto_cipher_n(etypes[i], 0) - 1, &e));
        assert_int_equal(e.proto, 31);
    }
}

static void test_checksum(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct sp_key key = random_key(etypes[i]);
        int32_t type = crypto_find_type(etypes[i])->cksumtype;
        struct sp_err e = {0};
        uint8_t sum[CRYPTO_CKSUM_MAX];
        size_t n = sizeof sum;

        assert_true(crypto_checksum(crypto, &key, 1, SP_LIT("x"), sum, &n, &e));
        assert_true(crypto_verify(crypto, &key, 1, type, SP_LIT("x"), sp_span(sum, n), &e));
        assert_false(crypto_verify(crypto, &key, 1, type, SP_LIT("y"), sp_span(sum, n), &e));
        assert_int_equal(e.proto, 41);
        e = (struct sp_err){0};
        assert_false(crypto_verify(crypto, &key, 1, type + 1, SP_LIT("x"), sp_span(sum, n), &e));
        assert_int_equal(e.proto, 50);
        e = (struct sp_err){0};
        memset(sum, 0, n);
        assert_true(crypto_verify(crypto, &key, 1, type, SP_LIT("y"), sp_span(sum, n), &e));
        assert_false(crypto_verify(crypto, &key, 1, type, SP_LIT("y"), sp_span(sum, n - 1), &e));
        assert_int_equal(e.proto, 41);
    }
}

static void test_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct sp_key a, b;
        struct sp_err e = {0};

        assert_true(crypto_string_to_key(crypto, etypes[i], SP_LIT("p"), SP_LIT("s"), SP_LIT(""), &a, &e));
        assert_true(crypto_string_to_key(crypto, etypes[i], SP_LIT("p"), SP_LIT("s"), SP_LIT(""), &b, &e));
        assert_memory_equal(&a, &b, sizeof a);
        assert_int_equal(a.n, crypto_find_type(etypes[i])->key_n);
        assert_true(crypto_string_to_key(crypto, etypes[i], SP_LIT("q"), SP_LIT("s"), SP_LIT(""), &b, &e));
        assert_memory_not_equal(a.b, b.b, a.n);
        assert_true(crypto_derive(crypto, &a, SP_LIT("x"), &a, &e));
        assert_true(crypto_fx_cf2(crypto, &a, SP_LIT("x"), &b, SP_LIT("y"), &b, &e));
        assert_int_equal(b.n, a.n);
        assert_false(
            crypto_string_to_key(crypto, etypes[i], SP_LIT("p"), SP_LIT("s"), SP_LIT("\0\0\0\0"), &b, &e));
        assert_int_equal(e.kind, SP_EINPUT);
        e = (struct sp_err){0};
        assert_false(crypto_string_to_key(crypto, 23, SP_LIT("p"), SP_LIT("s"), SP_LIT(""), &b, &e));
        assert_int_equal(e.proto, 14);
    }
}

static void test_seal(void **state)
{
    uint8_t key[32] = {1}, nonce[12] = {2}, sealed[20], out[4];
    struct sp_err e = {0};

    (void)state;
    assert_true(crypto_seal(crypto, key, nonce, SP_LIT("ad"), SP_LIT("text"), sealed, &e));
    assert_true(crypto_open(crypto, key, nonce, SP_LIT("ad"), sp_span(sealed, 20), out, &e));
    assert_memory_equal(out, "text", 4);
    assert_false(crypto_open(crypto, key, nonce, SP_LIT("da"), sp_span(sealed, 20), out, &e));
    assert_int_equal(e.kind, SP_EREFUSED);
    e = (struct sp_err){0};
    memset(sealed + 4, 0, 16);
    assert_true(crypto_open(crypto, key, nonce, SP_LIT("da"), sp_span(sealed, 20), out, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cipher),
        cmocka_unit_test(test_checksum),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_seal),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
