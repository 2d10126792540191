/* SPDX-License-Identifier: MIT */
/* SHA-1, SHA-256, SHA-384, their HMAC with the keyed state kept, and PBKDF2. Nothing here can fail. */
#ifndef SP_CRYPTO_OPENSSL_HASH_H
#define SP_CRYPTO_OPENSSL_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/span.h"

enum crypto_hash { HASH_SHA1, HASH_SHA256, HASH_SHA384 };

#define HASH_MAX 48

/* The chaining value after the one block of key and pad. */
union crypto_midstate {
    uint32_t w[8];
    uint64_t q[8];
};

/* An HMAC key, ready to be used any number of times. A secret. */
struct crypto_hmac {
    enum crypto_hash hash;
    union crypto_midstate inner, outer;
};

size_t crypto_hash_n(enum crypto_hash hash);
void crypto_hash(enum crypto_hash hash, struct sp_span in, uint8_t *out);

void crypto_hmac_key(struct crypto_hmac *h, enum crypto_hash hash, struct sp_span key);
/* Over the parts one after the other; out has room for HASH_MAX bytes. */
void crypto_hmac_sum(const struct crypto_hmac *h, const struct sp_span *parts, size_t part_count,
                     uint8_t *out);

/* RFC 8018 section 5.2; the salt comes in parts. out_n at most 64. */
struct crypto_pbkdf2 {
    enum crypto_hash hash;
    struct sp_span password;
    struct sp_span salt[3];
    uint32_t iter;
};
void crypto_pbkdf2(const struct crypto_pbkdf2 *in, uint8_t *out, size_t out_n);

#endif
