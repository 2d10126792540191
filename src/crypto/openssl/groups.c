/* SPDX-License-Identifier: MIT */
/* SPAKE2's groups behind the port. */
#include <openssl/err.h>

#include "crypto/openssl/backend.h"
#include "crypto/openssl/groups.h"

enum { KDC_ERR_PREAUTH_FAILED = 24 };

static bool unknown(int32_t group, struct sp_err *e)
{
    return sp_fail(e, SP_EREFUSED, KDC_ERR_PREAUTH_FAILED, "SPAKE group %d is not supported", group);
}

/* Made when first asked for: most processes never are. */
static struct p256 *p256_of(struct crypto *c, struct sp_err *e)
{
    if (!c->p256)
        c->p256 = p256_new();
    if (!c->p256)
        (void)crypto_fail_backend(e, "P-256");
    return c->p256;
}

bool crypto_group_keygen(struct crypto *c, int32_t group, enum crypto_blind blind, const uint8_t *w,
                         struct sp_rng *rng, uint8_t *private_scalar, uint8_t *public_value, struct sp_err *e)
{
    struct p256 *g;

    if (group == CRYPTO_EDWARDS25519)
        return edwards25519_keygen(blind, w, rng, private_scalar, public_value) ||
               sp_fail(e, SP_EBACKEND, 0, "libsodium, a SPAKE key");
    if (group != CRYPTO_P256)
        return unknown(group, e);
    g = p256_of(c, e);
    return g && (p256_keygen(g, blind, w, rng, private_scalar, public_value) ||
                 crypto_fail_backend(e, "a SPAKE key"));
}

bool crypto_group_result(struct crypto *c, int32_t group, enum crypto_blind blind, const uint8_t *w,
                         const uint8_t *private_scalar, struct sp_span theirs, uint8_t *shared,
                         struct sp_err *e)
{
    const struct crypto_group_info *info = crypto_find_group(group);
    struct p256 *g = NULL;
    bool ok;

    if (!info)
        return unknown(group, e);
    if (group == CRYPTO_P256 && !(g = p256_of(c, e)))
        return false;
    ok = theirs.n == info->point_n && (g ? p256_result(g, blind, w, private_scalar, theirs.p, shared)
                                         : edwards25519_result(blind, w, private_scalar, theirs.p, shared));
    ERR_clear_error();
    return ok || sp_fail(e, SP_EREFUSED, KDC_ERR_PREAUTH_FAILED, "the peer's SPAKE value is no point of %s",
                         info->name);
}

bool crypto_group_hash(struct crypto *c, int32_t group, const struct sp_span *parts, uint32_t count,
                       uint8_t *out, struct sp_err *e)
{
    (void)c;
    if (!crypto_find_group(group))
        return unknown(group, e);
    groups_sha256(parts, count, out);
    return true;
}
