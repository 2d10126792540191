/* SPDX-License-Identifier: MIT */
/* Sealing and hashing for the store, cookies and names. */
#include <openssl/err.h>

#include "crypto/openssl/backend.h"

#define SCRYPT_MEMORY_MAX (256u << 20)

static bool is_kept(struct crypto *c, EVP_CIPHER_CTX *x)
{
    return x == c->aes.kept_gcm;
}

/* While none is named the kept key is all zeros, and so is what its context holds. */
static EVP_CIPHER_CTX *context_for(struct crypto *c, const uint8_t key[32])
{
    return sp_equal_ct(key, c->aes.kept_seal, 32) ? c->aes.kept_gcm : c->aes.gcm;
}

/* Loading a key takes longer than opening a record. Takes the associated data in, too; text and tag are the
 * caller's turn. */
static bool start(struct crypto *c, EVP_CIPHER_CTX *x, int encrypts, const uint8_t *key, const uint8_t *nonce,
                  struct sp_span ad)
{
    int n;

    return EVP_CipherInit_ex2(x, NULL, is_kept(c, x) ? NULL : key, nonce, encrypts, NULL) &&
           (ad.n == 0 || EVP_CipherUpdate(x, NULL, &n, ad.p, (int)ad.n));
}

static bool update(EVP_CIPHER_CTX *x, struct sp_span in, uint8_t *out)
{
    int n;

    return in.n == 0 || EVP_CipherUpdate(x, out, &n, in.p, (int)in.n);
}

static void forget_key(struct crypto *c, EVP_CIPHER_CTX *x)
{
    static const uint8_t zero[32];

    if (!is_kept(c, x))
        (void)EVP_CipherInit_ex2(x, NULL, zero, NULL, 1, NULL);
}

/* It cannot fail where the load at the start did not. */
void crypto_keep_seal(struct crypto *c, const uint8_t key[32])
{
    static const uint8_t zero[32];

    memcpy(c->aes.kept_seal, key ? key : zero, 32);
    sp_assert(EVP_CipherInit_ex2(c->aes.kept_gcm, NULL, c->aes.kept_seal, NULL, 1, NULL));
}

bool crypto_seal(struct crypto *c, const uint8_t key[32], const uint8_t nonce[12], struct sp_span ad,
                 struct sp_span plain, uint8_t *out, struct sp_err *e)
{
    EVP_CIPHER_CTX *x = context_for(c, key);
    uint8_t none[16];
    int n;
    bool ok;

    if (plain.n > TEXT_MAX || ad.n > TEXT_MAX)
        return sp_fail(e, SP_EINPUT, 0, "a record of %zu bytes is too long to seal", plain.n);
    ok = start(c, x, 1, key, nonce, ad) && update(x, plain, out) && EVP_EncryptFinal_ex(x, none, &n) &&
         EVP_CIPHER_CTX_ctrl(x, EVP_CTRL_AEAD_GET_TAG, CRYPTO_SEAL_OVERHEAD, out + plain.n);
    forget_key(c, x);
    return ok || crypto_fail_backend(e, "sealing");
}

bool crypto_open(struct crypto *c, const uint8_t key[32], const uint8_t nonce[12], struct sp_span ad,
                 struct sp_span sealed, uint8_t *out, struct sp_err *e)
{
    EVP_CIPHER_CTX *x = context_for(c, key);
    uint8_t tag[CRYPTO_SEAL_OVERHEAD], none[16];
    struct sp_span text = sealed;
    int n;
    bool ok, same;

    if (sealed.n < CRYPTO_SEAL_OVERHEAD || sealed.n > TEXT_MAX || ad.n > TEXT_MAX)
        return sp_fail(e, SP_EREFUSED, 0, "a sealed record of %zu bytes", sealed.n);
    text.n -= CRYPTO_SEAL_OVERHEAD;
    memcpy(tag, sealed.p + text.n, sizeof tag);
    ok = start(c, x, 0, key, nonce, ad) && update(x, text, out) &&
         EVP_CIPHER_CTX_ctrl(x, EVP_CTRL_AEAD_SET_TAG, sizeof tag, tag);
    same = ok && EVP_DecryptFinal_ex(x, none, &n) > 0;
    forget_key(c, x);
    if (!same)
        sp_wipe(out, text.n);
    if (!ok)
        return crypto_fail_backend(e, "opening a seal");
    if (same)
        return true;
    ERR_clear_error();
    return sp_fail(e, SP_EREFUSED, 0, "the seal is broken: altered, or sealed with another key");
}

bool crypto_sha256(struct crypto *c, struct sp_span data, uint8_t out[32], struct sp_err *e)
{
    (void)c;
    (void)e;
    crypto_hash(HASH_SHA256, data, out);
    return true;
}

bool crypto_hmac_sha256(struct crypto *c, struct sp_span key, struct sp_span data, uint8_t out[32],
                        struct sp_err *e)
{
    struct crypto_hmac h;

    (void)c;
    (void)e;
    crypto_hmac_key(&h, HASH_SHA256, key);
    crypto_hmac_sum(&h, &data, 1, out);
    sp_wipe(&h, sizeof h);
    return true;
}

bool crypto_scrypt(struct crypto *c, struct sp_span password, struct sp_span salt, struct crypto_scrypt cost,
                   uint8_t out[32], struct sp_err *e)
{
    if (cost.n < 2 || (cost.n & (cost.n - 1)) != 0 || cost.r == 0 || cost.p == 0)
        return sp_fail(e, SP_EINPUT, 0, "scrypt cost %llu, %u, %u", (unsigned long long)cost.n, cost.r,
                       cost.p);
    if (EVP_PBE_scrypt_ex(password.n ? (const char *)password.p : "", password.n, salt.p, salt.n, cost.n,
                          cost.r, cost.p, SCRYPT_MEMORY_MAX, out, 32, c->lib, NULL) == 1)
        return true;
    return crypto_fail_backend(e, "scrypt");
}
