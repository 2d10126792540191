/* SPDX-License-Identifier: MIT */
/* The backend for fuzzers: sizes, refusals and determinism as in the real one, and no secrecy at all. Texts
 * are not encrypted, so that a fuzzer can change what is inside. A tag (checksum, seal) is a cheap mix of
 * key, usage and bytes; a tag of nothing but zeros is taken as good under every key: a fuzzer reaches what
 * lies behind any check by writing zeros. */
#include "crypto/crypto.h"

#define CONFOUNDER_N 16

enum {
    KDC_ERR_ETYPE_NOSUPP = 14,
    KRB_AP_ERR_BAD_INTEGRITY = 31,
    KRB_AP_ERR_MODIFIED = 41,
    KRB_AP_ERR_INAPP_CKSUM = 50
};

struct crypto {
    char unused;
};

struct crypto *crypto_new(struct sp_err *e)
{
    static struct crypto only;

    (void)e;
    return &only;
}

void crypto_free(struct crypto *c)
{
    (void)c;
}

/* FNV-1a, 64 bits; and SplitMix64's last step, to make as many bytes of it as are wanted. */
static uint64_t mix(uint64_t h, struct sp_span s)
{
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ s.p[i]) * 0x100000001b3u;
    return (h ^ s.n) * 0x100000001b3u;
}

static uint64_t mix_number(uint64_t h, uint64_t v)
{
    return mix(h, sp_span(&v, sizeof v));
}

static uint64_t mix_key(const struct sp_key *key, char purpose, uint32_t usage)
{
    uint64_t h = mix_number(0xcbf29ce484222325u, (uint64_t)(unsigned char)purpose << 32 | usage);

    return mix(mix_number(h, (uint64_t)key->etype), sp_span(key->b, key->n));
}

static void spread(uint64_t h, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t z = h + (i + 1) * 0x9e3779b97f4a7c15u;

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        out[i] = (uint8_t)(z ^ (z >> 31));
    }
}

static bool is_good(uint64_t h, struct sp_span tag)
{
    uint8_t want[CRYPTO_CKSUM_MAX];
    static const uint8_t zero[CRYPTO_CKSUM_MAX];

    spread(h, want, tag.n);
    return memcmp(tag.p, zero, tag.n) == 0 || memcmp(tag.p, want, tag.n) == 0;
}

static bool check_room(size_t need, size_t *out_n, struct sp_err *e)
{
    size_t have = *out_n;

    *out_n = need;
    return have >= need || sp_fail(e, SP_EFULL, 0, "room for %zu bytes, %zu are needed", have, need);
}

/* Pieces are mixed as the one text that they stand for. */
static uint64_t mix_pieces(uint64_t h, const struct sp_span *pieces, size_t count)
{
    size_t n = 0;

    for (size_t k = 0; k < count; n += pieces[k++].n)
        for (size_t i = 0; i < pieces[k].n; i++)
            h = (h ^ pieces[k].p[i]) * 0x100000001b3u;
    return (h ^ n) * 0x100000001b3u;
}

/* What stands beside the text is mixed in behind it, with its place. */
static uint64_t mix_beside(uint64_t h, struct sp_span body, const struct crypto_beside *b)
{
    h = mix(h, body);
    for (uint32_t i = 0; b && i < b->count; i++)
        h = mix(mix_number(h, b->v[i].at), b->v[i].bytes);
    return h;
}

bool crypto_encrypt(struct crypto *c, const struct sp_key *key, uint32_t usage, struct sp_rng *rng,
                    struct sp_span plain, uint8_t *out, size_t *out_n, struct sp_err *e)
{
    return crypto_encrypt_beside(c, key, usage, rng, plain, NULL, out, out_n, e);
}

bool crypto_encrypt_beside(struct crypto *c, const struct sp_key *key, uint32_t usage, struct sp_rng *rng,
                           struct sp_span plain, const struct crypto_beside *b, uint8_t *out, size_t *out_n,
                           struct sp_err *e)
{
    const struct crypto_type *t = crypto_check_key(key, e);
    size_t body_n = CONFOUNDER_N + plain.n;

    (void)c;
    if (!t || !check_room(crypto_cipher_n(t->etype, plain.n), out_n, e) ||
        !crypto_check_beside(b, plain.n, e))
        return false;
    sp_rng_fill(rng, out, CONFOUNDER_N);
    if (plain.n > 0)
        memmove(out + CONFOUNDER_N, plain.p, plain.n);
    spread(mix_beside(mix_key(key, 'e', usage), sp_span(out, body_n), b), out + body_n, t->tag_n);
    return true;
}

bool crypto_decrypt(struct crypto *c, const struct sp_key *key, uint32_t usage, struct sp_span cipher,
                    uint8_t *out, size_t *out_n, struct sp_err *e)
{
    return crypto_decrypt_beside(c, key, usage, cipher, NULL, out, out_n, e);
}

bool crypto_decrypt_beside(struct crypto *c, const struct sp_key *key, uint32_t usage, struct sp_span cipher,
                           const struct crypto_beside *b, uint8_t *out, size_t *out_n, struct sp_err *e)
{
    const struct crypto_type *t = crypto_check_key(key, e);
    struct sp_span body = cipher, tag;

    (void)c;
    if (!t)
        return false;
    if (cipher.n < crypto_cipher_n(t->etype, 0))
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_BAD_INTEGRITY, "a ciphertext of %zu bytes cannot be %s",
                       cipher.n, t->name);
    if (!check_room(cipher.n, out_n, e) ||
        !crypto_check_beside(b, cipher.n - crypto_cipher_n(t->etype, 0), e))
        return false;
    body.n -= t->tag_n;
    tag = sp_span(cipher.p + body.n, t->tag_n);
    *out_n = 0;
    if (!is_good(mix_beside(mix_key(key, 'e', usage), body, b), tag))
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_BAD_INTEGRITY, "wrong integrity tag (%s)", t->name);
    *out_n = body.n - CONFOUNDER_N;
    memmove(out, body.p + CONFOUNDER_N, *out_n);
    return true;
}

bool crypto_checksum_pieces(struct crypto *c, const struct sp_key *key, uint32_t usage,
                            const struct sp_span *pieces, size_t count, uint8_t *out, size_t *out_n,
                            struct sp_err *e)
{
    const struct crypto_type *t = crypto_check_key(key, e);

    (void)c;
    if (!t || !check_room(t->tag_n, out_n, e))
        return false;
    spread(mix_pieces(mix_key(key, 'c', usage), pieces, count), out, t->tag_n);
    return true;
}

bool crypto_checksum(struct crypto *c, const struct sp_key *key, uint32_t usage, struct sp_span data,
                     uint8_t *out, size_t *out_n, struct sp_err *e)
{
    return crypto_checksum_pieces(c, key, usage, &data, 1, out, out_n, e);
}

bool crypto_verify_pieces(struct crypto *c, const struct sp_key *key, uint32_t usage, int32_t cksumtype,
                          const struct sp_span *pieces, size_t count, struct sp_span sum, struct sp_err *e)
{
    const struct crypto_type *t = crypto_check_key(key, e);

    (void)c;
    if (!t)
        return false;
    if (cksumtype != t->cksumtype)
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_INAPP_CKSUM, "checksum type %d with a key of %s", cksumtype,
                       t->name);
    if (sum.n != t->tag_n || !is_good(mix_pieces(mix_key(key, 'c', usage), pieces, count), sum))
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_MODIFIED, "wrong checksum, key usage %u", usage);
    return true;
}

bool crypto_verify(struct crypto *c, const struct sp_key *key, uint32_t usage, int32_t cksumtype,
                   struct sp_span data, struct sp_span sum, struct sp_err *e)
{
    return crypto_verify_pieces(c, key, usage, cksumtype, &data, 1, sum, e);
}

bool crypto_prf(struct crypto *c, const struct sp_key *key, struct sp_span in, uint8_t *out, size_t *out_n,
                struct sp_err *e)
{
    const struct crypto_type *t = crypto_check_key(key, e);

    (void)c;
    if (!t || !check_room(t->prf_n, out_n, e))
        return false;
    spread(mix(mix_key(key, 'p', 0), in), out, t->prf_n);
    return true;
}

bool crypto_derive(struct crypto *c, const struct sp_key *key, struct sp_span constant, struct sp_key *out,
                   struct sp_err *e)
{
    const struct crypto_type *t = crypto_check_key(key, e);
    uint64_t h;

    (void)c;
    if (!t)
        return false;
    if (constant.n == 0)
        return sp_fail(e, SP_EINPUT, 0, "an empty constant to derive a key with");
    h = mix(mix_key(key, 'd', 0), constant);
    *out = (struct sp_key){.n = t->key_n, .etype = t->etype};
    spread(h, out->b, out->n);
    return true;
}

bool crypto_string_to_key(struct crypto *c, int32_t etype, struct sp_span password, struct sp_span salt,
                          struct sp_span params, struct sp_key *out, struct sp_err *e)
{
    const struct crypto_type *t = crypto_find_type(etype);
    const uint8_t *p = params.p;
    uint32_t iter = t ? t->s2k_iter : 0;

    (void)c;
    if (!t)
        return sp_fail(e, SP_EREFUSED, KDC_ERR_ETYPE_NOSUPP, "encryption type %d is not supported", etype);
    if (params.n != 0 && params.n != 4)
        return sp_fail(e, SP_EINPUT, 0, "string-to-key parameters of %zu bytes, not 4", params.n);
    if (params.n == 4)
        iter = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    if (iter == 0 || iter > CRYPTO_S2K_ITER_MAX)
        return sp_fail(e, SP_EINPUT, 0, "string-to-key count %u is outside 1 to %d", iter,
                       CRYPTO_S2K_ITER_MAX);
    *out = (struct sp_key){.n = t->key_n, .etype = etype};
    spread(mix(mix(mix_number((uint64_t)etype, iter), password), salt), out->b, out->n);
    return true;
}

static uint64_t mix_seal(const uint8_t *key, const uint8_t *nonce, struct sp_span ad, struct sp_span plain)
{
    return mix(mix(mix(mix('s', sp_span(key, 32)), sp_span(nonce, CRYPTO_SEAL_NONCE)), ad), plain);
}

void crypto_keep_seal(struct crypto *c, const uint8_t key[32])
{
    (void)c;
    (void)key;
}

bool crypto_seal(struct crypto *c, const uint8_t key[32], const uint8_t nonce[12], struct sp_span ad,
                 struct sp_span plain, uint8_t *out, struct sp_err *e)
{
    (void)c;
    (void)e;
    if (plain.n > 0)
        memcpy(out, plain.p, plain.n);
    spread(mix_seal(key, nonce, ad, plain), out + plain.n, CRYPTO_SEAL_OVERHEAD);
    return true;
}

bool crypto_open(struct crypto *c, const uint8_t key[32], const uint8_t nonce[12], struct sp_span ad,
                 struct sp_span sealed, uint8_t *out, struct sp_err *e)
{
    struct sp_span text = sealed;

    (void)c;
    if (sealed.n < CRYPTO_SEAL_OVERHEAD)
        return sp_fail(e, SP_EREFUSED, 0, "a sealed record of %zu bytes", sealed.n);
    text.n -= CRYPTO_SEAL_OVERHEAD;
    if (!is_good(mix_seal(key, nonce, ad, text), sp_span(text.p + text.n, CRYPTO_SEAL_OVERHEAD)))
        return sp_fail(e, SP_EREFUSED, 0, "the seal is broken: altered, or sealed with another key");
    memmove(out, text.p, text.n);
    return true;
}

bool crypto_sha256(struct crypto *c, struct sp_span data, uint8_t out[32], struct sp_err *e)
{
    (void)c;
    (void)e;
    spread(mix('h', data), out, 32);
    return true;
}

bool crypto_md5(struct crypto *c, struct sp_span data, uint8_t out[16], struct sp_err *e)
{
    (void)c;
    (void)e;
    spread(mix('5', data), out, 16);
    return true;
}

bool crypto_hmac_sha256(struct crypto *c, struct sp_span key, struct sp_span data, uint8_t out[32],
                        struct sp_err *e)
{
    (void)c;
    (void)e;
    spread(mix(mix('m', key), data), out, 32);
    return true;
}

bool crypto_scrypt(struct crypto *c, struct sp_span password, struct sp_span salt, struct crypto_scrypt cost,
                   uint8_t out[32], struct sp_err *e)
{
    (void)c;
    if (cost.n < 2 || (cost.n & (cost.n - 1)) != 0 || cost.r == 0 || cost.p == 0)
        return sp_fail(e, SP_EINPUT, 0, "scrypt cost %llu, %u, %u", (unsigned long long)cost.n, cost.r,
                       cost.p);
    spread(mix(mix(mix_number(cost.n, (uint64_t)cost.r << 32 | cost.p), password), salt), out, 32);
    return true;
}
