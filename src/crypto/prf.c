/* SPDX-License-Identifier: MIT */
/* PRF+ and KRB-FX-CF2 (RFC 6113 section 5.1): they need nothing but crypto_prf, so every backend compiles
 * them in. */
#include "crypto/crypto.h"

#define PEPPER_MAX 1024 /* all uses known (FAST, SPAKE, PKINIT) stay under 300 */
#define BLOCKS_MAX 255  /* the counter is one byte */

/* Whole blocks first, then what is left of the last one. */
static bool fill(struct crypto *c, const struct sp_key *key, struct sp_span numbered, uint8_t *number,
                 uint8_t *out, size_t want_n, struct sp_err *e)
{
    uint8_t block[CRYPTO_PRF_MAX];
    bool ok = true;

    for (size_t done = 0; ok && done < want_n;) {
        size_t block_n = sizeof block;

        ++*number;
        ok = crypto_prf(c, key, numbered, block, &block_n, e);
        if (ok) {
            size_t n = want_n - done < block_n ? want_n - done : block_n;
            memcpy(out + done, block, n);
            done += n;
        }
    }
    sp_wipe(block, sizeof block);
    return ok;
}

bool crypto_prf_plus(struct crypto *c, const struct sp_key *key, struct sp_span pepper, uint8_t *out,
                     size_t want_n, struct sp_err *e)
{
    const struct crypto_type *t = crypto_find_type(key->etype);
    uint8_t in[1 + PEPPER_MAX] = {0};

    if (!t)
        return sp_fail(e, SP_EREFUSED, 14, "encryption type %d is not supported", key->etype);
    if (pepper.n > PEPPER_MAX)
        return sp_fail(e, SP_EINPUT, 0, "a pepper of %zu bytes; %d are allowed", pepper.n, PEPPER_MAX);
    if (want_n > (size_t)BLOCKS_MAX * t->prf_n)
        return sp_fail(e, SP_EINPUT, 0, "%zu bytes of PRF+ asked for, %d blocks are all there is", want_n,
                       BLOCKS_MAX);
    if (pepper.n > 0)
        memcpy(in + 1, pepper.p, pepper.n);
    return fill(c, key, sp_span(in, 1 + pepper.n), in, out, want_n, e);
}

bool crypto_fx_cf2(struct crypto *c, const struct sp_key *a, struct sp_span pepper_a, const struct sp_key *b,
                   struct sp_span pepper_b, struct sp_key *out, struct sp_err *e)
{
    const struct crypto_type *t = crypto_find_type(a->etype);
    struct sp_key x = {.etype = a->etype}, y = {0};
    bool ok;

    if (!t)
        return sp_fail(e, SP_EREFUSED, 14, "encryption type %d is not supported", a->etype);
    x.n = t->key_n;
    ok = crypto_prf_plus(c, a, pepper_a, x.b, x.n, e) && crypto_prf_plus(c, b, pepper_b, y.b, x.n, e);
    for (size_t i = 0; i < x.n; i++)
        x.b[i] ^= y.b[i];
    if (ok)
        *out = x;
    sp_wipe(&x, sizeof x);
    sp_wipe(&y, sizeof y);
    return ok;
}
