/* SPDX-License-Identifier: MIT */
/* Groups for fuzzers: a public value is the private one under a mask that both know, and two parties reach
 * the same shared value. */
#include "crypto/crypto.h"

enum { KDC_ERR_PREAUTH_FAILED = 24 };

static bool unknown(int32_t group, struct sp_err *e)
{
    return sp_fail(e, SP_EREFUSED, KDC_ERR_PREAUTH_FAILED, "SPAKE group %d is not supported", group);
}

bool crypto_group_keygen(struct crypto *c, int32_t group, enum crypto_blind blind, const uint8_t *w,
                         struct sp_rng *rng, uint8_t *private_scalar, uint8_t *public_value, struct sp_err *e)
{
    const struct crypto_group_info *info = crypto_find_group(group);

    (void)c;
    if (!info)
        return unknown(group, e);
    sp_rng_fill(rng, private_scalar, info->scalar_n);
    memset(public_value, 2, info->point_n);
    for (size_t i = 0; i < info->scalar_n; i++)
        public_value[i + info->point_n - info->scalar_n] = (uint8_t)(private_scalar[i] ^ w[i] ^ blind);
    return true;
}

bool crypto_group_result(struct crypto *c, int32_t group, enum crypto_blind blind, const uint8_t *w,
                         const uint8_t *private_scalar, struct sp_span theirs, uint8_t *shared,
                         struct sp_err *e)
{
    const struct crypto_group_info *info = crypto_find_group(group);

    (void)c;
    if (!info)
        return unknown(group, e);
    if (theirs.n != info->point_n)
        return sp_fail(e, SP_EREFUSED, KDC_ERR_PREAUTH_FAILED, "the peer's SPAKE value is no point of %s",
                       info->name);
    memset(shared, 2, info->point_n);
    for (size_t i = 0; i < info->scalar_n; i++) {
        size_t at = i + info->point_n - info->scalar_n;

        shared[at] = (uint8_t)(theirs.p[at] ^ w[i] ^ blind ^ private_scalar[i]);
    }
    return true;
}

bool crypto_group_hash(struct crypto *c, int32_t group, const struct sp_span *parts, uint32_t count,
                       uint8_t *out, struct sp_err *e)
{
    (void)c;
    if (!crypto_find_group(group))
        return unknown(group, e);
    memset(out, 0, CRYPTO_GROUP_HASH_MAX);
    for (uint32_t k = 0; k < count; k++)
        for (size_t i = 0; i < parts[k].n; i++)
            out[i % CRYPTO_GROUP_HASH_MAX] = (uint8_t)(out[i % CRYPTO_GROUP_HASH_MAX] * 31 + parts[k].p[i]);
    return true;
}
