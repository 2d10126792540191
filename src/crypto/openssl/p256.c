/* SPDX-License-Identifier: MIT */
/* P-256 (RFC 9588 12.1, group 2) by OpenSSL. Every multiplication is of one point by one scalar that is
 * marked secret: those are the paths that OpenSSL keeps in constant time. */
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/obj_mac.h>
#include <stdlib.h>

#include "crypto/openssl/groups.h"

enum {
    POINT_N = 33,
    SCALAR_N = 32,
    DRAWN_N = 48
}; /* 128 bits more than the order: no bias that could be seen */

static const uint8_t constant[2][POINT_N] = {
    [CRYPTO_BLIND_M] = {0x02, 0x88, 0x6e, 0x2f, 0x97, 0xac, 0xe4, 0x6e, 0x55, 0xba, 0x9d,
                        0xd7, 0x24, 0x25, 0x79, 0xf2, 0x99, 0x3b, 0x64, 0xe1, 0x6e, 0xf3,
                        0xdc, 0xab, 0x95, 0xaf, 0xd4, 0x97, 0x33, 0x3d, 0x8f, 0xa1, 0x2f},
    [CRYPTO_BLIND_N] = {0x03, 0xd8, 0xbb, 0xd6, 0xc6, 0x39, 0xc6, 0x29, 0x37, 0xb0, 0x4d,
                        0x99, 0x7f, 0x38, 0xc3, 0x77, 0x07, 0x19, 0xc6, 0x29, 0xd7, 0x01,
                        0x4d, 0x49, 0xa2, 0x4b, 0x4f, 0x98, 0xba, 0xa1, 0x29, 0x2b, 0x49},
};

struct p256 {
    EC_GROUP *group;
    BN_CTX *bn;
    EC_POINT *constant[2], *a, *b;
    BIGNUM *scalar;
};

void p256_free(struct p256 *g)
{
    if (!g)
        return;
    EC_POINT_free(g->constant[0]);
    EC_POINT_free(g->constant[1]);
    EC_POINT_clear_free(g->a);
    EC_POINT_clear_free(g->b);
    BN_clear_free(g->scalar);
    BN_CTX_free(g->bn);
    EC_GROUP_free(g->group);
    free(g);
}

static bool init(struct p256 *g)
{
    g->group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
    g->bn = BN_CTX_secure_new();
    g->scalar = BN_secure_new();
    if (!g->group || !g->bn || !g->scalar)
        return false;
    g->a = EC_POINT_new(g->group);
    g->b = EC_POINT_new(g->group);
    for (int i = 0; i < 2; i++) {
        g->constant[i] = EC_POINT_new(g->group);
        if (!g->constant[i] || !EC_POINT_oct2point(g->group, g->constant[i], constant[i], POINT_N, g->bn))
            return false;
    }
    return g->a && g->b;
}

struct p256 *p256_new(void)
{
    struct p256 *g = calloc(1, sizeof *g);

    if (g && init(g))
        return g;
    p256_free(g);
    return NULL;
}

/* The number in bytes modulo the group's order, marked as secret. */
static bool load(struct p256 *g, const uint8_t *bytes, size_t n)
{
    BN_set_flags(g->scalar, BN_FLG_CONSTTIME);
    return BN_bin2bn(bytes, (int)n, g->scalar) &&
           BN_nnmod(g->scalar, g->scalar, EC_GROUP_get0_order(g->group), g->bn);
}

/* to = w*M or w*N. */
static bool blinding(struct p256 *g, enum crypto_blind blind, const uint8_t *w, EC_POINT *to)
{
    return load(g, w, SCALAR_N) && EC_POINT_mul(g->group, to, NULL, g->constant[blind], g->scalar, g->bn);
}

static bool put(struct p256 *g, const EC_POINT *p, uint8_t *out)
{
    return EC_POINT_point2oct(g->group, p, POINT_CONVERSION_COMPRESSED, out, POINT_N, g->bn) == POINT_N;
}

bool p256_public(struct p256 *g, enum crypto_blind blind, const uint8_t *w, const uint8_t *private_scalar,
                 uint8_t *public_value)
{
    bool ok = blinding(g, blind, w, g->b) && load(g, private_scalar, SCALAR_N) &&
              EC_POINT_mul(g->group, g->a, g->scalar, NULL, NULL, g->bn) &&
              EC_POINT_add(g->group, g->a, g->a, g->b, g->bn) && put(g, g->a, public_value);

    BN_clear(g->scalar);
    return ok;
}

bool p256_keygen(struct p256 *g, enum crypto_blind blind, const uint8_t *w, struct sp_rng *rng,
                 uint8_t *private_scalar, uint8_t *public_value)
{
    uint8_t drawn[DRAWN_N];
    bool ok;

    sp_rng_fill(rng, drawn, sizeof drawn);
    ok = load(g, drawn, sizeof drawn) && BN_bn2binpad(g->scalar, private_scalar, SCALAR_N) == SCALAR_N &&
         p256_public(g, blind, w, private_scalar, public_value);
    sp_wipe(drawn, sizeof drawn);
    return ok;
}

/* The curve has no points of small order but infinity: what is on it and compressed is good. */
bool p256_result(struct p256 *g, enum crypto_blind blind, const uint8_t *w, const uint8_t *private_scalar,
                 const uint8_t *theirs, uint8_t *shared)
{
    bool ok = (theirs[0] == 2 || theirs[0] == 3) &&
              EC_POINT_oct2point(g->group, g->a, theirs, POINT_N, g->bn) && blinding(g, blind, w, g->b) &&
              EC_POINT_invert(g->group, g->b, g->bn) && EC_POINT_add(g->group, g->a, g->a, g->b, g->bn) &&
              load(g, private_scalar, SCALAR_N) &&
              EC_POINT_mul(g->group, g->b, NULL, g->a, g->scalar, g->bn) &&
              !EC_POINT_is_at_infinity(g->group, g->b) && put(g, g->b, shared);

    BN_clear(g->scalar);
    return ok;
}
