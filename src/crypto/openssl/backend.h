/* SPDX-License-Identifier: MIT */
/* The inside of the OpenSSL backend; for its own files and its tests. */
#ifndef SP_CRYPTO_OPENSSL_BACKEND_H
#define SP_CRYPTO_OPENSSL_BACKEND_H

#include <openssl/evp.h>

#include "crypto/crypto.h"
#include "crypto/openssl/hash.h"
#include "crypto/openssl/nfold.h"

#define AES_BLOCK_N 16
#define TEXT_MAX (1u << 30) /* EVP counts in int */

enum {
    KDC_ERR_ETYPE_NOSUPP = 14,
    KRB_AP_ERR_BAD_INTEGRITY = 31,
    KRB_AP_ERR_MODIFIED = 41,
    KRB_AP_ERR_INAPP_CKSUM = 50
};

/* What one key gives for one purpose (RFC 3961 section 5.3, RFC 8009 section 5). */
enum derived_kind {
    DERIVED_CIPHER, /* Ke and Ki */
    DERIVED_CKSUM,  /* Kc */
    DERIVED_PRF,    /* 17, 18: the AES key "prf"; 19, 20: the base key itself, ready for HMAC */
    DERIVED_KINDS,
};

/* Ke is kept as bytes: loading it costs 50 ns, while a kept EVP context costs about 700 bytes. */
struct derived {
    uint8_t aes[32];
    struct crypto_hmac mac;
};

/* What differs between RFC 3962 and RFC 8009. */
struct crypto_profile {
    bool (*derive)(struct crypto *c, const struct sp_key *key, enum derived_kind kind, uint32_t usage,
                   struct derived *out, struct sp_err *e);
    bool (*derive_constant)(struct crypto *c, const struct sp_key *key, struct sp_span constant, uint8_t *out,
                            struct sp_err *e);
    /* body: confounder and text, encrypted in place; the tag goes behind it. b: beside it, or NULL. */
    bool (*encrypt)(struct crypto *c, const struct crypto_type *t, const struct derived *d, uint8_t *body,
                    size_t body_n, const struct crypto_beside *b, struct sp_err *e);
    /* Confounder and text to out; out may be cipher.p. Wrong tag: 31, and nothing decrypted is left in out.
     */
    bool (*decrypt)(struct crypto *c, const struct crypto_type *t, const struct derived *d,
                    struct sp_span cipher, const struct crypto_beside *b, uint8_t *out, struct sp_err *e);
    bool (*prf)(struct crypto *c, const struct crypto_type *t, const struct derived *d, struct sp_span in,
                uint8_t *out, struct sp_err *e);
};
/* What a tag covers: body (confounder and text), and what stands beside the text in its place. Returns how
 * many pieces that is. */
#define COVERED_MAX (2 * CRYPTO_BESIDE_MAX + 1)
size_t crypto_covered(struct sp_span body, const struct crypto_beside *b, struct sp_span *out);

const struct crypto_profile *crypto_rfc3962(void);
const struct crypto_profile *crypto_rfc8009(void);
const struct crypto_profile *crypto_profile_of(const struct crypto_type *t);

/* ---- AES: contexts made once, keys loaded per call ---- */

enum aes_mode { AES_CTS_ENCRYPT, AES_CTS_DECRYPT, AES_ECB, AES_MODES };

struct crypto_aes {
    EVP_CIPHER_CTX *ctx[2][AES_MODES]; /* 128, 256 */
    EVP_CIPHER_CTX *gcm;               /* any key */
    EVP_CIPHER_CTX *kept_gcm;          /* holds kept_seal, from crypto_keep_seal */
    uint8_t kept_seal[32];
    uint8_t ecb_key[2][32]; /* what the contexts for single blocks hold */
    bool ecb_holds[2];
    bool loaded[2][AES_MODES]; /* holds a key since the last forgetting */
};
SP_MUST bool crypto_aes_init(struct crypto_aes *a, OSSL_LIB_CTX *lib, struct sp_err *e);
void crypto_aes_free(struct crypto_aes *a);

/* AES-CBC with ciphertext stealing (CS3, RFC 3962 section 5), zero IV, n >= 16; out may be in. */
SP_MUST bool crypto_aes_cts(struct crypto *c, enum aes_mode mode, const uint8_t *key, size_t key_n,
                            const uint8_t *in, uint8_t *out, size_t n, struct sp_err *e);
/* Single blocks, n a multiple of 16; load first. */
SP_MUST bool crypto_aes_load(struct crypto *c, const uint8_t *key, size_t key_n, struct sp_err *e);
SP_MUST bool crypto_aes_blocks(struct crypto *c, size_t key_n, const uint8_t *in, uint8_t *out, size_t n,
                               struct sp_err *e);
/* Overwrites the key schedules that were loaded. */
void crypto_aes_forget(struct crypto *c);

/* ---- kept keys ---- */

#define KEPT_SLOTS                                                                                           \
    8 /* a krbtgt key needs 2; a user's 1, 3, 56; a service's 2, 11 and what PAC and FAST add */
#define KEPT_BUCKETS 2048
#define KEPT_SEEN 8192

struct kept_slot {
    uint32_t usage;
    enum derived_kind kind;
    struct derived d;
};

struct kept_key {
    int32_t etype;
    uint16_t chain;        /* next in its bucket; indices, 0 is none */
    uint16_t newer, older; /* the order of use */
    uint8_t key[32];
    uint8_t key_n;
    uint8_t slot_count, slot_next;
    struct kept_slot slot[KEPT_SLOTS];
};

struct crypto_kept {
    struct kept_key
        *v; /* [CRYPTO_KEPT_MAX + 1]; v[0] is the anchor of the order: newer = oldest, older = newest */
    uint16_t count;
    uint16_t bucket[KEPT_BUCKETS];
    uint16_t seen[KEPT_SEEN]; /* tags of what was asked for lately */
};
SP_MUST bool crypto_kept_init(struct crypto_kept *k, struct sp_err *e);
void crypto_kept_free(struct crypto_kept *k);
/* NULL when it is not there. Valid until the next put. */
const struct derived *crypto_kept_find(struct crypto_kept *k, const struct sp_key *key,
                                       enum derived_kind kind, uint32_t usage);
/* Whether this was asked for before, not long ago. What is used once costs less to derive than to put in. */
bool crypto_kept_worth(struct crypto_kept *k, const struct sp_key *key, enum derived_kind kind,
                       uint32_t usage);
const struct derived *crypto_kept_put(struct crypto_kept *k, const struct sp_key *key, enum derived_kind kind,
                                      uint32_t usage, const struct derived *d);

/* ---- the backend ---- */

#define FOLDED_USAGES 64 /* bits of is_folded */

struct crypto {
    OSSL_LIB_CTX *lib; /* our own: neither openssl.cnf nor another part of the process changes what we get */
    struct crypto_aes aes;
    struct crypto_kept kept;
    uint8_t folded[FOLDED_USAGES][FOLD_COUNT][AES_BLOCK_N]; /* n-fold of usage | 99, AA, 55 */
    uint64_t is_folded;                                     /* by usage: made when first asked for */
    uint8_t folded_prf[AES_BLOCK_N];
    struct p256 *p256; /* made when first asked for */
};

/* SP_EBACKEND with the library's own reason; leaves its error queue empty. */
bool crypto_fail_backend(struct sp_err *e, const char *what);

#endif
