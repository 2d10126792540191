/* SPDX-License-Identifier: MIT */
/* The two groups of SPAKE2 behind one shape. Public values are points blinded with w*M or w*N. */
#ifndef SP_CRYPTO_OPENSSL_GROUPS_H
#define SP_CRYPTO_OPENSSL_GROUPS_H

#include "crypto/crypto.h"

struct p256; /* p256.c */
struct p256 *p256_new(void);
void p256_free(struct p256 *g); /* NULL allowed */

bool p256_keygen(struct p256 *g, enum crypto_blind blind, const uint8_t *w, struct sp_rng *rng,
                 uint8_t *private_scalar, uint8_t *public_value);
bool p256_result(struct p256 *g, enum crypto_blind blind, const uint8_t *w, const uint8_t *private_scalar,
                 const uint8_t *theirs, uint8_t *shared);

/* edwards25519.c, by libsodium: all in constant time. */
bool edwards25519_keygen(enum crypto_blind blind, const uint8_t *w, struct sp_rng *rng,
                         uint8_t *private_scalar, uint8_t *public_value);
bool edwards25519_result(enum crypto_blind blind, const uint8_t *w, const uint8_t *private_scalar,
                         const uint8_t *theirs, uint8_t *shared);
/* The public value that belongs to a private scalar; keygen's second half, and what vectors pin. */
bool edwards25519_public(enum crypto_blind blind, const uint8_t *w, const uint8_t *private_scalar,
                         uint8_t *public_value);
bool p256_public(struct p256 *g, enum crypto_blind blind, const uint8_t *w, const uint8_t *private_scalar,
                 uint8_t *public_value);

/* SHA-256 over parts; beside edwards25519, because libsodium's headers and ours share a name. */
void groups_sha256(const struct sp_span *parts, uint32_t count, uint8_t out[32]);

#endif
