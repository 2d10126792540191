/* SPDX-License-Identifier: MIT */
/* Keys whose derived keys are kept: a hash table with a list in order of use. Entry 0 is the list's anchor,
 * so an index of 0 means none. The pages of entries never used stay untouched (calloc). */
#include <stdlib.h>

#include "crypto/openssl/backend.h"

bool crypto_kept_init(struct crypto_kept *k, struct sp_err *e)
{
    k->v = calloc(CRYPTO_KEPT_MAX + 1, sizeof *k->v);
    return k->v || sp_fail(e, SP_EBACKEND, 0, "no memory for kept keys");
}

void crypto_kept_free(struct crypto_kept *k)
{
    if (k->v)
        sp_wipe(k->v, (k->count + 1u) * sizeof *k->v);
    sp_wipe(k->seen, sizeof k->seen);
    free(k->v);
}

/* A key is as random as any hash of it; multiplying spreads those that somebody chose. */
static uint64_t hash_of(const uint8_t *key)
{
    uint64_t a, b;

    memcpy(&a, key, 8);
    memcpy(&b, key + 8, 8);
    return (a ^ b) * 0x9e3779b97f4a7c15u;
}

static uint16_t *bucket_of(struct crypto_kept *k, const uint8_t *key)
{
    return &k->bucket[hash_of(key) >> 32 & (KEPT_BUCKETS - 1)];
}

static void unlink_order(struct crypto_kept *k, uint16_t i)
{
    struct kept_key *x = &k->v[i];

    k->v[x->newer].older = x->older;
    k->v[x->older].newer = x->newer;
}

static void link_newest(struct crypto_kept *k, uint16_t i)
{
    struct kept_key *x = &k->v[i], *anchor = &k->v[0];

    x->newer = 0;
    x->older = anchor->older;
    k->v[anchor->older].newer = i;
    anchor->older = i;
}

static void unlink_bucket(struct crypto_kept *k, uint16_t i)
{
    uint16_t *at = bucket_of(k, k->v[i].key);

    while (*at != i)
        at = &k->v[*at].chain;
    *at = k->v[i].chain;
}

/* All bytes are compared: a hash never stands for a key. */
static uint16_t find_key(struct crypto_kept *k, const struct sp_key *key)
{
    uint16_t i = *bucket_of(k, key->b);

    while (i != 0 && !(k->v[i].etype == key->etype && k->v[i].key_n == key->n &&
                       sp_equal_ct(k->v[i].key, key->b, key->n)))
        i = k->v[i].chain;
    return i;
}

/* An entry that was never used, or the one whose last use is longest ago, wiped. */
static uint16_t take_entry(struct crypto_kept *k)
{
    uint16_t i;

    if (k->count < CRYPTO_KEPT_MAX)
        return ++k->count;
    i = k->v[0].newer;
    unlink_order(k, i);
    unlink_bucket(k, i);
    sp_wipe(&k->v[i], sizeof k->v[i]);
    return i;
}

static uint16_t add_key(struct crypto_kept *k, const struct sp_key *key)
{
    uint16_t *bucket = bucket_of(k, key->b);
    uint16_t i = take_entry(k);
    struct kept_key *x = &k->v[i];

    x->etype = key->etype;
    x->key_n = key->n;
    memcpy(x->key, key->b, key->n);
    x->chain = *bucket;
    *bucket = i;
    link_newest(k, i);
    return i;
}

const struct derived *crypto_kept_find(struct crypto_kept *k, const struct sp_key *key,
                                       enum derived_kind kind, uint32_t usage)
{
    uint16_t i = find_key(k, key);
    struct kept_key *x = &k->v[i];

    if (i == 0)
        return NULL;
    if (k->v[0].older != i) {
        unlink_order(k, i);
        link_newest(k, i);
    }
    for (size_t s = 0; s < x->slot_count; s++)
        if (x->slot[s].usage == usage && x->slot[s].kind == kind)
            return &x->slot[s].d;
    return NULL;
}

bool crypto_kept_worth(struct crypto_kept *k, const struct sp_key *key, enum derived_kind kind,
                       uint32_t usage)
{
    uint64_t h = (hash_of(key->b) ^ (uint64_t)usage << 8 ^ kind) * 0x9e3779b97f4a7c15u;
    uint16_t *at = &k->seen[h >> 32 & (KEPT_SEEN - 1)], tag = (uint16_t)(h >> 48 | 1);
    bool seen = *at == tag;

    *at = tag;
    return seen;
}

const struct derived *crypto_kept_put(struct crypto_kept *k, const struct sp_key *key, enum derived_kind kind,
                                      uint32_t usage, const struct derived *d)
{
    uint16_t i = find_key(k, key);
    struct kept_key *x = &k->v[i ? i : add_key(k, key)];
    struct kept_slot *slot = &x->slot[x->slot_next];

    x->slot_next = (uint8_t)((x->slot_next + 1) % KEPT_SLOTS);
    if (x->slot_count < KEPT_SLOTS)
        x->slot_count++;
    *slot = (struct kept_slot){usage, kind, *d};
    return &slot->d;
}
