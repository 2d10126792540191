/* SPDX-License-Identifier: MIT */
/* Types 17 and 18: RFC 3961's simplified profile with AES-CTS and HMAC-SHA1-96 (RFC 3962). */
#include "crypto/openssl/backend.h"

#define CONSTANTS_MAX 2

/* DR of several constants under one key schedule (RFC 3961 section 5.1): each block is the encryption of the
 * one before, so the first blocks go together, and so do the second ones. */
static bool derive_folded(struct crypto *c, const struct sp_key *key, const uint8_t *folded, size_t count,
                          uint8_t out[CONSTANTS_MAX][32], struct sp_err *e)
{
    uint8_t block[CONSTANTS_MAX * AES_BLOCK_N];
    size_t n = count * AES_BLOCK_N;
    bool ok = crypto_aes_load(c, key->b, key->n, e);

    for (size_t half = 0; ok && half < key->n; half += AES_BLOCK_N) {
        ok = crypto_aes_blocks(c, key->n, half == 0 ? folded : block, block, n, e);
        for (size_t i = 0; i < count; i++)
            memcpy(out[i] + half, block + i * AES_BLOCK_N, AES_BLOCK_N);
    }
    sp_wipe(block, sizeof block);
    return ok;
}

static bool derive_one(struct crypto *c, const struct sp_key *key, const uint8_t folded[AES_BLOCK_N],
                       uint8_t *out, struct sp_err *e)
{
    uint8_t key_out[CONSTANTS_MAX][32];
    bool ok = derive_folded(c, key, folded, 1, key_out, e);

    if (ok)
        memcpy(out, key_out[0], key->n);
    sp_wipe(key_out, sizeof key_out);
    return ok;
}

static bool derive_constant(struct crypto *c, const struct sp_key *key, struct sp_span constant, uint8_t *out,
                            struct sp_err *e)
{
    uint8_t folded[AES_BLOCK_N];

    crypto_nfold(constant, folded, sizeof folded);
    return derive_one(c, key, folded, out, e);
}

/* usage | last byte, folded. The small usages, which are all that RFC 4120 and its extensions use, are folded
 * once. */
static const uint8_t *folded_usage(struct crypto *c, uint32_t usage, int which,
                                   uint8_t room[FOLD_COUNT][AES_BLOCK_N])
{
    if (usage >= FOLDED_USAGES) {
        crypto_nfold_usage(usage, room);
        return room[which];
    }
    if (!(c->is_folded >> usage & 1)) {
        crypto_nfold_usage(usage, c->folded[usage]);
        c->is_folded |= UINT64_C(1) << usage;
    }
    return c->folded[usage][which];
}

static bool derive(struct crypto *c, const struct sp_key *key, enum derived_kind kind, uint32_t usage,
                   struct derived *out, struct sp_err *e)
{
    uint8_t room[FOLD_COUNT][AES_BLOCK_N], keys[CONSTANTS_MAX][32];
    bool ok;

    if (kind == DERIVED_PRF)
        return derive_one(c, key, c->folded_prf, out->aes, e);
    if (kind == DERIVED_CIPHER)
        ok = derive_folded(c, key, folded_usage(c, usage, FOLD_KE, room), 2, keys, e); /* KI lies behind KE */
    else
        ok = derive_folded(c, key, folded_usage(c, usage, FOLD_KC, room), 1, keys, e);
    if (ok) {
        memcpy(out->aes, keys[0], key->n);
        crypto_hmac_key(&out->mac, HASH_SHA1, sp_span(keys[kind == DERIVED_CIPHER], key->n));
    }
    sp_wipe(keys, sizeof keys);
    return ok;
}

static void tag(const struct derived *d, struct sp_span text, const struct crypto_beside *b,
                uint8_t sum[HASH_MAX])
{
    struct sp_span parts[COVERED_MAX];

    crypto_hmac_sum(&d->mac, parts, crypto_covered(text, b, parts), sum);
}

static bool encrypt(struct crypto *c, const struct crypto_type *t, const struct derived *d, uint8_t *body,
                    size_t body_n, const struct crypto_beside *b, struct sp_err *e)
{
    uint8_t sum[HASH_MAX];

    tag(d, sp_span(body, body_n), b, sum);
    memcpy(body + body_n, sum, t->tag_n);
    return crypto_aes_cts(c, AES_CTS_ENCRYPT, d->aes, t->key_n, body, body, body_n, e);
}

static bool decrypt(struct crypto *c, const struct crypto_type *t, const struct derived *d,
                    struct sp_span cipher, const struct crypto_beside *b, uint8_t *out, struct sp_err *e)
{
    struct sp_span text = {out, cipher.n - t->tag_n};
    uint8_t sum[HASH_MAX];
    bool same;

    if (!crypto_aes_cts(c, AES_CTS_DECRYPT, d->aes, t->key_n, cipher.p, out, text.n, e))
        return false;
    tag(d, text, b, sum);
    same = sp_equal_ct(sum, cipher.p + text.n, t->tag_n);
    sp_wipe(sum, sizeof sum);
    if (same)
        return true;
    sp_wipe(out, text.n);
    return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_BAD_INTEGRITY, "wrong integrity tag (%s)", t->name);
}

/* RFC 3962 section 6: the hash cut to whole blocks (one), encrypted. */
static bool prf(struct crypto *c, const struct crypto_type *t, const struct derived *d, struct sp_span in,
                uint8_t *out, struct sp_err *e)
{
    uint8_t sum[HASH_MAX];
    bool ok;

    crypto_hash(HASH_SHA1, in, sum);
    ok = crypto_aes_load(c, d->aes, t->key_n, e) && crypto_aes_blocks(c, t->key_n, sum, out, AES_BLOCK_N, e);
    sp_wipe(sum, sizeof sum);
    return ok;
}

const struct crypto_profile *crypto_rfc3962(void)
{
    static const struct crypto_profile profile = {derive, derive_constant, encrypt, decrypt, prf};

    return &profile;
}
