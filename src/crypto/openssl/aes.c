/* SPDX-License-Identifier: MIT */
/* AES by EVP. OpenSSL's own CTS (104 ns for 50 bytes, 153 with a new key) beats CBC with the last blocks
 * swapped by hand (127 and 184; decrypting 153 against 192), because every call through EVP costs more than a
 * block. */
#include <openssl/core_names.h>

#include "crypto/openssl/backend.h"

static const uint8_t zero[32];

struct mode {
    const char *name[2];
    bool encrypts, steals;
};
static const struct mode modes[AES_MODES] = {
    [AES_CTS_ENCRYPT] = {{"AES-128-CBC-CTS", "AES-256-CBC-CTS"}, true,  true },
    [AES_CTS_DECRYPT] = {{"AES-128-CBC-CTS", "AES-256-CBC-CTS"}, false, true },
    [AES_ECB] = {{"AES-128-ECB", "AES-256-ECB"},         true,  false},
};

/* No set_padding: stealing never pads, single blocks are never finished with EVP_EncryptFinal, and EVP would
 * repeat the setting at every new key, which costs as much as the key schedule. The context takes a reference
 * to the algorithm, so ours can go at once. */
static EVP_CIPHER_CTX *context(OSSL_LIB_CTX *lib, const char *name, bool encrypts, const OSSL_PARAM *params)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(lib, name, NULL);
    EVP_CIPHER_CTX *x = EVP_CIPHER_CTX_new();

    if (!cipher || !x || !EVP_CipherInit_ex2(x, cipher, zero, zero, encrypts, params)) {
        EVP_CIPHER_CTX_free(x);
        x = NULL;
    }
    EVP_CIPHER_free(cipher);
    return x;
}

bool crypto_aes_init(struct crypto_aes *a, OSSL_LIB_CTX *lib, struct sp_err *e)
{
    char cs3[] = OSSL_CIPHER_CTS_MODE_CS3;
    const OSSL_PARAM steal[] = {OSSL_PARAM_construct_utf8_string(OSSL_CIPHER_PARAM_CTS_MODE, cs3, 0),
                                OSSL_PARAM_construct_end()};

    for (int size = 0; size < 2; size++)
        for (int m = 0; m < AES_MODES; m++) {
            a->ctx[size][m] =
                context(lib, modes[m].name[size], modes[m].encrypts, modes[m].steals ? steal : NULL);
            if (!a->ctx[size][m])
                return crypto_fail_backend(e, modes[m].name[size]);
        }
    a->gcm = context(lib, "AES-256-GCM", true, NULL);
    a->kept_gcm = context(lib, "AES-256-GCM", true, NULL);
    return (a->gcm && a->kept_gcm) || crypto_fail_backend(e, "AES-256-GCM");
}

void crypto_aes_free(struct crypto_aes *a)
{
    for (int size = 0; size < 2; size++)
        for (int m = 0; m < AES_MODES; m++)
            EVP_CIPHER_CTX_free(a->ctx[size][m]);
    EVP_CIPHER_CTX_free(a->gcm);
    EVP_CIPHER_CTX_free(a->kept_gcm);
    sp_wipe(a->kept_seal, sizeof a->kept_seal);
    sp_wipe(a->ecb_key, sizeof a->ecb_key);
}

static EVP_CIPHER_CTX *loaded(struct crypto *c, enum aes_mode mode, const uint8_t *key, size_t key_n)
{
    int size = key_n == 32;
    EVP_CIPHER_CTX *x = c->aes.ctx[size][mode];

    c->aes.loaded[size][mode] = true;
    /* No IV: that puts back the one of the first time, zero, without EVP asking for its length through
     * parameters. */
    return EVP_CipherInit_ex2(x, NULL, key, NULL, modes[mode].encrypts, NULL) ? x : NULL;
}

bool crypto_aes_cts(struct crypto *c, enum aes_mode mode, const uint8_t *key, size_t key_n, const uint8_t *in,
                    uint8_t *out, size_t n, struct sp_err *e)
{
    EVP_CIPHER_CTX *x = loaded(c, mode, key, key_n);
    int done = 0;

    if (!x || !EVP_CipherUpdate(x, out, &done, in, (int)n) || (size_t)done != n)
        return crypto_fail_backend(e, "AES-CTS");
    return true;
}

/* A request derives from one key again and again. */
bool crypto_aes_load(struct crypto *c, const uint8_t *key, size_t key_n, struct sp_err *e)
{
    int size = key_n == 32;

    if (c->aes.ecb_holds[size] && sp_equal_ct(c->aes.ecb_key[size], key, key_n))
        return true;
    c->aes.ecb_holds[size] = false;
    if (!loaded(c, AES_ECB, key, key_n))
        return crypto_fail_backend(e, "AES key");
    memcpy(c->aes.ecb_key[size], key, key_n);
    c->aes.ecb_holds[size] = true;
    return true;
}

bool crypto_aes_blocks(struct crypto *c, size_t key_n, const uint8_t *in, uint8_t *out, size_t n,
                       struct sp_err *e)
{
    int done = 0;

    if (!EVP_EncryptUpdate(c->aes.ctx[key_n == 32][AES_ECB], out, &done, in, (int)n) || (size_t)done != n)
        return crypto_fail_backend(e, "AES");
    return true;
}

/* Loading another key is the cheap way: a reset would free and allocate. It cannot fail where the first load
 * did not. */
void crypto_aes_forget(struct crypto *c)
{
    for (int size = 0; size < 2; size++)
        for (int m = 0; m < AES_MODES; m++)
            if (c->aes.loaded[size][m]) {
                EVP_CipherInit_ex2(c->aes.ctx[size][m], NULL, zero, NULL, modes[m].encrypts, NULL);
                c->aes.loaded[size][m] = false;
            }
    sp_wipe(c->aes.ecb_key, sizeof c->aes.ecb_key);
    c->aes.ecb_holds[0] = c->aes.ecb_holds[1] = false;
}
