/* SPDX-License-Identifier: MIT */
#ifndef SP_CRYPTO_OPENSSL_NFOLD_H
#define SP_CRYPTO_OPENSSL_NFOLD_H

#include "base/span.h"

#define NFOLD_MAX 64

/* RFC 3961 section 5.1. in is not empty; out_n at most NFOLD_MAX. */
void crypto_nfold(struct sp_span in, uint8_t *out, size_t out_n);

/* The three constants of a key usage (RFC 3961 section 5.3), folded to a block of 16. */
enum { FOLD_KC, FOLD_KE, FOLD_KI, FOLD_COUNT };
void crypto_nfold_usage(uint32_t usage, uint8_t out[FOLD_COUNT][16]);

#endif
