/* SPDX-License-Identifier: MIT */
/* The crypto port: what engines may ask of a backend. One backend is linked: crypto/openssl/ in products,
 * crypto/null/ under fuzzers (no secrecy, same sizes, so that deep states are reachable). Encryption types
 * 17, 18 (RFC 3962) and 19, 20 (RFC 8009).
 *
 * A backend keeps what it derives from a key only when key->keep is set (at most CRYPTO_KEPT_MAX keys, the
 * least recently used goes first), and the key of crypto_keep_seal; everything else is forgotten, wiped,
 * before the call returns. A backend belongs to one thread. Output buffers never overlap inputs, but
 * decrypting in place (out == cipher.p) and encrypting in place behind the confounder's room (plain.p == out
 * + CRYPTO_CONFOUNDER_N) are allowed. */
#ifndef SP_CRYPTO_CRYPTO_H
#define SP_CRYPTO_CRYPTO_H

#include "base/env.h"
#include "base/err.h"
#include "base/secret.h"
#include "base/span.h"

enum crypto_etype {
    ENCTYPE_AES128_CTS_HMAC_SHA1_96 = 17,
    ENCTYPE_AES256_CTS_HMAC_SHA1_96 = 18,
    ENCTYPE_AES128_CTS_HMAC_SHA256_128 = 19,
    ENCTYPE_AES256_CTS_HMAC_SHA384_192 = 20,
};

enum crypto_cksumtype {
    CKSUMTYPE_HMAC_SHA1_96_AES128 = 15,
    CKSUMTYPE_HMAC_SHA1_96_AES256 = 16,
    CKSUMTYPE_HMAC_SHA256_128_AES128 = 19,
    CKSUMTYPE_HMAC_SHA384_192_AES256 = 20,
};

#define CRYPTO_KEPT_MAX 1024 /* long-term keys whose derived keys are kept */
#define CRYPTO_CONFOUNDER_N 16
#define CRYPTO_OVERHEAD_MAX 40  /* confounder and tag: 16 + 24 (type 20) */
#define CRYPTO_CKSUM_MAX 24     /* bytes of the longest checksum */
#define CRYPTO_PRF_MAX 48       /* bytes of the longest pseudo-random() output (type 20) */
#define CRYPTO_SEAL_OVERHEAD 16 /* AES-256-GCM tag; the nonce is the caller's */
#define CRYPTO_SEAL_NONCE 12
#define CRYPTO_S2K_ITER_MAX 1000000

struct crypto;

/* ---- facts about types; no backend needed ---- */

/* What is fixed about an encryption type; NULL when it is not one of ours. */
struct crypto_type {
    int32_t etype;
    int32_t cksumtype;    /* the one keyed checksum that goes with it */
    uint8_t key_n, tag_n; /* bytes of a key; of the integrity tag, which is the checksum's length too */
    uint8_t prf_n;
    uint32_t s2k_iter; /* PBKDF2 count when no parameters are given (RFC 3962 4, RFC 8009 4) */
    const char *name;  /* as in the IANA registry: "aes256-cts-hmac-sha1-96" */
};
const struct crypto_type *crypto_find_type(int32_t etype);
/* NULL and 14 for a type that is not ours; NULL and SP_EINPUT for a key of the wrong length. */
const struct crypto_type *crypto_check_key(const struct sp_key *key, struct sp_err *e);
/* By IANA name, MIT's short names ("aes256-cts", "aes256-sha2") or number; NULL when unknown. */
const struct crypto_type *crypto_find_type_named(struct sp_span name);

/* Bytes of the ciphertext of plain_n bytes: confounder, text, tag. etype must be ours. */
size_t crypto_cipher_n(int32_t etype, size_t plain_n);

/* ---- Kerberos: RFC 3961 section 3 operations ----
 * All give SP_EREFUSED with proto KDC_ERR_ETYPE_NOSUPP (14) for a type that is not ours,
 * SP_EFULL when out is too small (*out_n then says how much is needed), SP_EBACKEND when the library fails.
 */

/* *out_n: in the room at out, out the bytes written. */
SP_MUST bool crypto_encrypt(struct crypto *c, const struct sp_key *key, uint32_t usage, struct sp_rng *rng,
                            struct sp_span plain, uint8_t *out, size_t *out_n, struct sp_err *e);

/* Room needed: cipher.n (the confounder is moved away). Wrong tag, or too short: SP_EREFUSED, proto
 * KRB_AP_ERR_BAD_INTEGRITY (31). */
SP_MUST bool crypto_decrypt(struct crypto *c, const struct sp_key *key, uint32_t usage, struct sp_span cipher,
                            uint8_t *out, size_t *out_n, struct sp_err *e);

/* Bytes that the tag covers as if they stood in the text, but that are neither encrypted nor carried
 * (GSS-API's SIGN_ONLY buffers, RFC 3961's profiles as MS-KILE and MIT extend them). */
#define CRYPTO_BESIDE_MAX 64
struct crypto_beside {
    struct {
        size_t at; /* offset in the plain text; never falls from one to the next */
        struct sp_span bytes;
    } v[CRYPTO_BESIDE_MAX];
    uint32_t count;
};
/* crypto_encrypt and crypto_decrypt are these with b NULL. */
SP_MUST bool crypto_encrypt_beside(struct crypto *c, const struct sp_key *key, uint32_t usage,
                                   struct sp_rng *rng, struct sp_span plain, const struct crypto_beside *b,
                                   uint8_t *out, size_t *out_n, struct sp_err *e);
SP_MUST bool crypto_decrypt_beside(struct crypto *c, const struct sp_key *key, uint32_t usage,
                                   struct sp_span cipher, const struct crypto_beside *b, uint8_t *out,
                                   size_t *out_n, struct sp_err *e);
/* For backends: every offset lies in the text of text_n bytes, and none before the one before it; else
 * SP_EINPUT. */
bool crypto_check_beside(const struct crypto_beside *b, size_t text_n, struct sp_err *e);

/* The keyed checksum that goes with the key's type. Room needed: CRYPTO_CKSUM_MAX. */
SP_MUST bool crypto_checksum(struct crypto *c, const struct sp_key *key, uint32_t usage, struct sp_span data,
                             uint8_t *out, size_t *out_n, struct sp_err *e);

/* cksumtype must be the one of the key's type: else SP_EREFUSED, proto KRB_AP_ERR_INAPP_CKSUM (50).
 * A wrong value: proto KRB_AP_ERR_MODIFIED (41). */
SP_MUST bool crypto_verify(struct crypto *c, const struct sp_key *key, uint32_t usage, int32_t cksumtype,
                           struct sp_span data, struct sp_span sum, struct sp_err *e);

/* The same over several pieces that count as one text: GSS-API signs a header behind data that it may not
 * move. */
SP_MUST bool crypto_checksum_pieces(struct crypto *c, const struct sp_key *key, uint32_t usage,
                                    const struct sp_span *pieces, size_t count, uint8_t *out, size_t *out_n,
                                    struct sp_err *e);
SP_MUST bool crypto_verify_pieces(struct crypto *c, const struct sp_key *key, uint32_t usage,
                                  int32_t cksumtype, const struct sp_span *pieces, size_t count,
                                  struct sp_span sum, struct sp_err *e);

/* pseudo-random() of the type: prf_n bytes. */
SP_MUST bool crypto_prf(struct crypto *c, const struct sp_key *key, struct sp_span in, uint8_t *out,
                        size_t *out_n, struct sp_err *e);

/* PRF+ (RFC 6113 5.1): fills want_n bytes, at most 255 blocks. */
SP_MUST bool crypto_prf_plus(struct crypto *c, const struct sp_key *key, struct sp_span pepper, uint8_t *out,
                             size_t want_n, struct sp_err *e);

/* KRB-FX-CF2 (RFC 6113 5.1); the result has a's type. */
SP_MUST bool crypto_fx_cf2(struct crypto *c, const struct sp_key *a, struct sp_span pepper_a,
                           const struct sp_key *b, struct sp_span pepper_b, struct sp_key *out,
                           struct sp_err *e);

/* RFC 3961 5.3 DK / RFC 8009 5 KDF-HMAC-SHA2 with a constant: key_n bytes. Public for tests and for SPAKE
 * later. */
SP_MUST bool crypto_derive(struct crypto *c, const struct sp_key *key, struct sp_span constant,
                           struct sp_key *out, struct sp_err *e);

/* params: empty, or four bytes (a big-endian PBKDF2 count; 0 stands for 2^32 and is refused with the others
 * above CRYPTO_S2K_ITER_MAX). A bad length or count: SP_EINPUT. Slow on purpose: milliseconds. */
SP_MUST bool crypto_string_to_key(struct crypto *c, int32_t etype, struct sp_span password,
                                  struct sp_span salt, struct sp_span params, struct sp_key *out,
                                  struct sp_err *e);

/* random-to-key of fresh bytes. */
SP_MUST bool crypto_random_key(int32_t etype, struct sp_rng *rng, struct sp_key *out, struct sp_err *e);

/* ---- sealing and hashing for the store, cookies and names ---- */

/* AES-256-GCM; key is 32 bytes, nonce CRYPTO_SEAL_NONCE bytes, never used twice with one key. Writes plain.n
 * + 16 bytes. */
SP_MUST bool crypto_seal(struct crypto *c, const uint8_t key[32], const uint8_t nonce[12], struct sp_span ad,
                         struct sp_span plain, uint8_t *out, struct sp_err *e);
/* sealed = text and tag; writes sealed.n - 16 bytes. Altered: SP_EREFUSED. */
SP_MUST bool crypto_open(struct crypto *c, const uint8_t key[32], const uint8_t nonce[12], struct sp_span ad,
                         struct sp_span sealed, uint8_t *out, struct sp_err *e);

/* A copy of this one key stays, ready, until another is named, NULL is, or the backend goes. */
void crypto_keep_seal(struct crypto *c, const uint8_t key[32]);

SP_MUST bool crypto_sha256(struct crypto *c, struct sp_span data, uint8_t out[32], struct sp_err *e);
SP_MUST bool crypto_hmac_sha256(struct crypto *c, struct sp_span key, struct sp_span data, uint8_t out[32],
                                struct sp_err *e);
/* scrypt, RFC 7914; n a power of two. 32 bytes. */
struct crypto_scrypt {
    uint64_t n;
    uint32_t r, p;
};
SP_MUST bool crypto_scrypt(struct crypto *c, struct sp_span password, struct sp_span salt,
                           struct crypto_scrypt cost, uint8_t out[32], struct sp_err *e);

/* ---- groups of SPAKE2 (RFC 9588 12.1); edwards25519 by libsodium, P-256 by OpenSSL ---- */
enum crypto_group {
    CRYPTO_EDWARDS25519 = 1,
    CRYPTO_P256 = 2,
};
#define CRYPTO_GROUP_SCALAR_MAX 32
#define CRYPTO_GROUP_POINT_MAX 33
#define CRYPTO_GROUP_HASH_MAX 32
struct crypto_group_info {
    int32_t group;
    uint8_t scalar_n, point_n,
        hash_n; /* bytes of w, of a public value and of the shared value, of the group's hash */
    const char *name;
};
const struct crypto_group_info *crypto_find_group(int32_t group); /* NULL: not ours */
enum crypto_blind { CRYPTO_BLIND_M, CRYPTO_BLIND_N }; /* which constant a public value was blinded with */

/* A fresh private scalar and the public value  private*P + w*(M or N). Constant time in w and the private
 * scalar. */
SP_MUST bool crypto_group_keygen(struct crypto *c, int32_t group, enum crypto_blind blind, const uint8_t *w,
                                 struct sp_rng *rng, uint8_t *private_scalar, uint8_t *public_value,
                                 struct sp_err *e);
/* private * (theirs - w*(M or N)); theirs was blinded with `blind`. SP_EREFUSED, proto KDC_ERR_PREAUTH_FAILED
 * (24): not a point of the group, or of small order. */
SP_MUST bool crypto_group_result(struct crypto *c, int32_t group, enum crypto_blind blind, const uint8_t *w,
                                 const uint8_t *private_scalar, struct sp_span theirs, uint8_t *shared,
                                 struct sp_err *e);
/* The group's hash (SHA-256 for both). */
SP_MUST bool crypto_group_hash(struct crypto *c, int32_t group, const struct sp_span *parts, uint32_t count,
                               uint8_t *out, struct sp_err *e);
/* MD5, for the channel bindings of RFC 4121 4.1.1.2 alone. */
SP_MUST bool crypto_md5(struct crypto *c, struct sp_span data, uint8_t out[16], struct sp_err *e);

/* ---- the backend's life; called by drivers and tests only ---- */
struct crypto *crypto_new(struct sp_err *e); /* NULL on failure */
void crypto_free(struct crypto *c);          /* wipes what was kept; NULL allowed */

#endif
