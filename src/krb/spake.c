/* SPDX-License-Identifier: MIT */
#include "krb/spake.h"

#include "base/secret.h"

/* Numbers are hashed as four bytes, big-endian. */
struct number {
    uint8_t b[4];
};

static struct number number(uint32_t v)
{
    return (struct number){
        {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v}
    };
}

static struct sp_span bytes_of(const struct number *v)
{
    return sp_span(v->b, sizeof v->b);
}

bool krb_spake_update(struct crypto *c, int32_t group, struct krb_spake_hash *h, struct sp_span first,
                      struct sp_span second, struct sp_err *e)
{
    const struct crypto_group_info *info = crypto_find_group(group);
    struct krb_spake_hash next = {.n = info ? info->hash_n : 0};
    struct sp_span parts[3] = {sp_span(h->b, next.n), first, second};

    if (!crypto_group_hash(c, group, parts, 3, next.b, e))
        return false;
    *h = next;
    return true;
}

bool krb_spake_w(struct crypto *c, int32_t group, const struct sp_key *ikey,
                 uint8_t w[CRYPTO_GROUP_SCALAR_MAX], struct sp_err *e)
{
    const struct crypto_group_info *info = crypto_find_group(group);
    uint8_t pepper[15] = "SPAKEsecret";
    struct number id = number((uint32_t)group);

    if (!info)
        return sp_fail(e, SP_EREFUSED, 24, "SPAKE group %d is not supported", group);
    memcpy(pepper + 11, id.b, 4);
    return crypto_prf_plus(c, ikey, sp_span(pepper, sizeof pepper), w, info->scalar_n, e);
}

bool krb_spake_key(struct crypto *c, const struct krb_spake_derivation *from, uint32_t n, struct sp_key *out,
                   struct sp_err *e)
{
    const struct crypto_group_info *info = crypto_find_group(from->group);
    const struct crypto_type *t = crypto_find_type(from->ikey->etype);
    struct number group = number((uint32_t)from->group), etype = number((uint32_t)from->ikey->etype),
                  key_n = number(n);
    uint8_t block = 1; /* one block of hash holds every key of ours */
    struct sp_key k = {.etype = from->ikey->etype};
    bool ok;

    if (!info || !t)
        return sp_fail(e, SP_EREFUSED, 24, "SPAKE with group %d, encryption type %d", from->group,
                       from->ikey->etype);
    k.n = t->key_n;
    {
        struct sp_span parts[] = {SP_LIT("SPAKEkey"), bytes_of(&group),
                                  bytes_of(&etype),   sp_span(from->w, info->scalar_n),
                                  from->shared,       sp_span(from->hash->b, from->hash->n),
                                  from->body,         bytes_of(&key_n),
                                  sp_span(&block, 1)};

        ok = crypto_group_hash(c, from->group, parts, sizeof parts / sizeof parts[0], k.b, e) &&
             crypto_fx_cf2(c, from->ikey, SP_LIT("SPAKE"), &k, SP_LIT("keyderiv"), out, e);
    }
    sp_wipe(&k, sizeof k);
    return ok;
}
