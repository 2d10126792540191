/* SPDX-License-Identifier: MIT */
/* Types 19 and 20: AES-CTS with HMAC-SHA2, encrypt then MAC (RFC 8009). */
#include "crypto/openssl/backend.h"

static enum crypto_hash hash_of(size_t key_n)
{
    return key_n == 16 ? HASH_SHA256 : HASH_SHA384;
}

/* KDF-HMAC-SHA2 (section 3): one block is always enough. out_n is at most the digest's length. */
static void kdf(const struct crypto_hmac *base, struct sp_span label, struct sp_span context, uint8_t *out,
                size_t out_n)
{
    static const uint8_t one[4] = {0, 0, 0, 1}, nul[1] = {0};
    const uint8_t bits[4] = {0, 0, (uint8_t)(out_n * 8 >> 8), (uint8_t)(out_n * 8)};
    const struct sp_span parts[] = {
        {one,  4},
        label, {nul,  1},
        context, {bits, 4}
    };
    uint8_t sum[HASH_MAX];

    crypto_hmac_sum(base, parts, 5, sum);
    memcpy(out, sum, out_n);
    sp_wipe(sum, sizeof sum);
}

static bool derive_constant(struct crypto *c, const struct sp_key *key, struct sp_span constant, uint8_t *out,
                            struct sp_err *e)
{
    struct crypto_hmac base;

    (void)c;
    (void)e;
    crypto_hmac_key(&base, hash_of(key->n), sp_span(key->b, key->n));
    kdf(&base, constant, SP_LIT(""), out, key->n);
    sp_wipe(&base, sizeof base);
    return true;
}

/* Kc and Ki are as long as the tag, Ke as the key (section 5). */
static void derive_usage(const struct crypto_hmac *base, size_t key_n, enum derived_kind kind, uint32_t usage,
                         struct derived *out)
{
    uint8_t label[5] = {(uint8_t)(usage >> 24), (uint8_t)(usage >> 16), (uint8_t)(usage >> 8),
                        (uint8_t)usage};
    size_t mac_n = key_n == 16 ? 16 : 24;
    uint8_t mac_key[24];

    label[4] = kind == DERIVED_CIPHER ? 0x55 : 0x99;
    kdf(base, sp_span(label, 5), SP_LIT(""), mac_key, mac_n);
    crypto_hmac_key(&out->mac, base->hash, sp_span(mac_key, mac_n));
    sp_wipe(mac_key, sizeof mac_key);
    if (kind != DERIVED_CIPHER)
        return;
    label[4] = 0xaa;
    kdf(base, sp_span(label, 5), SP_LIT(""), out->aes, key_n);
}

static bool derive(struct crypto *c, const struct sp_key *key, enum derived_kind kind, uint32_t usage,
                   struct derived *out, struct sp_err *e)
{
    struct crypto_hmac base;

    (void)c;
    (void)e;
    crypto_hmac_key(&base, hash_of(key->n), sp_span(key->b, key->n));
    if (kind == DERIVED_PRF)
        out->mac = base;
    else
        derive_usage(&base, key->n, kind, usage, out);
    sp_wipe(&base, sizeof base);
    return true;
}

/* Over the cipher state, which is always zero here, and the ciphertext. */
static void tag(const struct derived *d, struct sp_span body, const struct crypto_beside *b,
                uint8_t sum[HASH_MAX])
{
    static const uint8_t iv[AES_BLOCK_N];
    struct sp_span parts[1 + COVERED_MAX];

    parts[0] = sp_span(iv, sizeof iv);
    crypto_hmac_sum(&d->mac, parts, 1 + crypto_covered(body, b, parts + 1), sum);
}

static bool encrypt(struct crypto *c, const struct crypto_type *t, const struct derived *d, uint8_t *body,
                    size_t body_n, const struct crypto_beside *b, struct sp_err *e)
{
    uint8_t sum[HASH_MAX];

    if (!crypto_aes_cts(c, AES_CTS_ENCRYPT, d->aes, t->key_n, body, body, body_n, e))
        return false;
    tag(d, sp_span(body, body_n), b, sum);
    memcpy(body + body_n, sum, t->tag_n);
    return true;
}

static bool decrypt(struct crypto *c, const struct crypto_type *t, const struct derived *d,
                    struct sp_span cipher, const struct crypto_beside *b, uint8_t *out, struct sp_err *e)
{
    size_t body_n = cipher.n - t->tag_n;
    uint8_t sum[HASH_MAX];
    bool same;

    tag(d, sp_span(cipher.p, body_n), b, sum);
    same = sp_equal_ct(sum, cipher.p + body_n, t->tag_n);
    sp_wipe(sum, sizeof sum);
    if (!same)
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_BAD_INTEGRITY, "wrong integrity tag (%s)", t->name);
    return crypto_aes_cts(c, AES_CTS_DECRYPT, d->aes, t->key_n, cipher.p, out, body_n, e);
}

static bool prf(struct crypto *c, const struct crypto_type *t, const struct derived *d, struct sp_span in,
                uint8_t *out, struct sp_err *e)
{
    (void)c;
    (void)e;
    kdf(&d->mac, SP_LIT("prf"), in, out, t->prf_n);
    return true;
}

const struct crypto_profile *crypto_rfc8009(void)
{
    static const struct crypto_profile profile = {derive, derive_constant, encrypt, decrypt, prf};

    return &profile;
}
