/* SPDX-License-Identifier: MIT */
/* The RFC 3961 operations: what is the same for all types. */
#include "crypto/openssl/backend.h"

const struct crypto_profile *crypto_profile_of(const struct crypto_type *t)
{
    return t->etype >= ENCTYPE_AES128_CTS_HMAC_SHA256_128 ? crypto_rfc8009() : crypto_rfc3962();
}

static bool check_room(size_t need, size_t *out_n, struct sp_err *e)
{
    size_t have = *out_n;

    *out_n = need;
    return have >= need || sp_fail(e, SP_EFULL, 0, "room for %zu bytes, %zu are needed", have, need);
}

/* From the kept ones, or made: into `room`, which the caller wipes, and from there into the kept ones. */
static const struct derived *get_derived(struct crypto *c, const struct crypto_type *t,
                                         const struct sp_key *key, enum derived_kind kind, uint32_t usage,
                                         struct derived *room, struct sp_err *e)
{
    const struct derived *d = key->keep ? crypto_kept_find(&c->kept, key, kind, usage) : NULL;

    if (d)
        return d;
    if (!crypto_profile_of(t)->derive(c, key, kind, usage, room, e))
        return NULL;
    return key->keep && crypto_kept_worth(&c->kept, key, kind, usage)
               ? crypto_kept_put(&c->kept, key, kind, usage, room)
               : room;
}

/* Key schedules of kept keys may stay in the contexts; they are kept anyway. */
static void forget(struct crypto *c, const struct sp_key *key, struct derived *room)
{
    sp_wipe(room, sizeof *room);
    if (!key->keep)
        crypto_aes_forget(c);
}

size_t crypto_covered(struct sp_span body, const struct crypto_beside *b, struct sp_span *out)
{
    size_t n = 0, done = 0;

    for (uint32_t i = 0; b && i < b->count; i++) {
        size_t at = AES_BLOCK_N + b->v[i].at;

        if (at > done)
            out[n++] = sp_span(body.p + done, at - done);
        out[n++] = b->v[i].bytes;
        done = at;
    }
    out[n++] = sp_span(body.p + done, body.n - done);
    return n;
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
    struct derived room = {0};
    const struct derived *d;
    bool ok;

    if (!t)
        return false;
    if (plain.n > TEXT_MAX)
        return sp_fail(e, SP_EINPUT, 0, "a text of %zu bytes is too long to encrypt", plain.n);
    if (!check_room(crypto_cipher_n(t->etype, plain.n), out_n, e) || !crypto_check_beside(b, plain.n, e))
        return false;
    d = get_derived(c, t, key, DERIVED_CIPHER, usage, &room, e);
    sp_rng_fill(rng, out, AES_BLOCK_N);
    if (plain.n > 0)
        memmove(out + AES_BLOCK_N, plain.p, plain.n);
    ok = d && crypto_profile_of(t)->encrypt(c, t, d, out, AES_BLOCK_N + plain.n, b, e);
    if (!ok)
        sp_wipe(out, AES_BLOCK_N + plain.n);
    forget(c, key, &room);
    return ok;
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
    struct derived room = {0};
    const struct derived *d;
    bool ok;

    if (!t)
        return false;
    if (cipher.n < crypto_cipher_n(t->etype, 0) || cipher.n > TEXT_MAX)
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_BAD_INTEGRITY, "a ciphertext of %zu bytes cannot be %s",
                       cipher.n, t->name);
    if (!check_room(cipher.n, out_n, e) ||
        !crypto_check_beside(b, cipher.n - crypto_cipher_n(t->etype, 0), e))
        return false;
    d = get_derived(c, t, key, DERIVED_CIPHER, usage, &room, e);
    ok = d && crypto_profile_of(t)->decrypt(c, t, d, cipher, b, out, e);
    *out_n = ok ? cipher.n - crypto_cipher_n(t->etype, 0) : 0;
    if (ok)
        memmove(out, out + AES_BLOCK_N, *out_n);
    forget(c, key, &room);
    return ok;
}

/* HASH_MAX bytes of it, of which the type's tag_n count. */
static bool sum_data(struct crypto *c, const struct crypto_type *t, const struct sp_key *key, uint32_t usage,
                     const struct sp_span *pieces, size_t count, uint8_t sum[HASH_MAX], struct sp_err *e)
{
    struct derived room = {0};
    const struct derived *d = get_derived(c, t, key, DERIVED_CKSUM, usage, &room, e);

    if (d)
        crypto_hmac_sum(&d->mac, pieces, count, sum);
    forget(c, key, &room);
    return d != NULL;
}

bool crypto_checksum_pieces(struct crypto *c, const struct sp_key *key, uint32_t usage,
                            const struct sp_span *pieces, size_t count, uint8_t *out, size_t *out_n,
                            struct sp_err *e)
{
    const struct crypto_type *t = crypto_check_key(key, e);
    uint8_t sum[HASH_MAX];

    if (!t || !check_room(t->tag_n, out_n, e) || !sum_data(c, t, key, usage, pieces, count, sum, e))
        return false;
    memcpy(out, sum, t->tag_n);
    sp_wipe(sum, sizeof sum);
    return true;
}

bool crypto_checksum(struct crypto *c, const struct sp_key *key, uint32_t usage, struct sp_span data,
                     uint8_t *out, size_t *out_n, struct sp_err *e)
{
    return crypto_checksum_pieces(c, key, usage, &data, 1, out, out_n, e);
}

bool crypto_verify_pieces(struct crypto *c, const struct sp_key *key, uint32_t usage, int32_t cksumtype,
                          const struct sp_span *pieces, size_t count, struct sp_span given, struct sp_err *e)
{
    const struct crypto_type *t = crypto_check_key(key, e);
    uint8_t sum[HASH_MAX];
    bool same;

    if (!t)
        return false;
    if (cksumtype != t->cksumtype)
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_INAPP_CKSUM, "checksum type %d with a key of %s", cksumtype,
                       t->name);
    if (given.n != t->tag_n)
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_MODIFIED, "a checksum of %zu bytes, key usage %u", given.n,
                       usage);
    if (!sum_data(c, t, key, usage, pieces, count, sum, e))
        return false;
    same = sp_equal_ct(sum, given.p, t->tag_n);
    sp_wipe(sum, sizeof sum);
    return same || sp_fail(e, SP_EREFUSED, KRB_AP_ERR_MODIFIED, "wrong checksum, key usage %u", usage);
}

bool crypto_verify(struct crypto *c, const struct sp_key *key, uint32_t usage, int32_t cksumtype,
                   struct sp_span data, struct sp_span given, struct sp_err *e)
{
    return crypto_verify_pieces(c, key, usage, cksumtype, &data, 1, given, e);
}

bool crypto_prf(struct crypto *c, const struct sp_key *key, struct sp_span in, uint8_t *out, size_t *out_n,
                struct sp_err *e)
{
    const struct crypto_type *t = crypto_check_key(key, e);
    struct derived room = {0};
    const struct derived *d;
    bool ok;

    if (!t || !check_room(t->prf_n, out_n, e))
        return false;
    d = get_derived(c, t, key, DERIVED_PRF, 0, &room, e);
    ok = d && crypto_profile_of(t)->prf(c, t, d, in, out, e);
    forget(c, key, &room);
    return ok;
}

bool crypto_derive(struct crypto *c, const struct sp_key *key, struct sp_span constant, struct sp_key *out,
                   struct sp_err *e)
{
    const struct crypto_type *t = crypto_check_key(key, e);
    struct sp_key made = {0};
    bool ok;

    if (!t)
        return false;
    if (constant.n == 0)
        return sp_fail(e, SP_EINPUT, 0, "an empty constant to derive a key with");
    made.n = t->key_n;
    made.etype = t->etype;
    ok = crypto_profile_of(t)->derive_constant(c, key, constant, made.b, e);
    if (ok)
        *out = made;
    sp_wipe(&made, sizeof made);
    crypto_aes_forget(c);
    return ok;
}
