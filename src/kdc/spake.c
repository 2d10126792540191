/* SPDX-License-Identifier: MIT */
/* SPAKE pre-authentication (RFC 9588), the KDC's end. Nothing is kept between challenge and response: what
 * the second needs of the first travels with the client, sealed, in PA-FX-COOKIE (RFC 6113 5.2). Unknown
 * names go the same way with the key of their stand-in, and a response that is altered before it is tried. */
#include "krb/spake.h"
#include "kdc/internal.h"

/* A cookie: a random start, then what is sealed with a key made of the store's secret and that start. So
 * every worker reads it, before and after a restart, and no key is ever used twice. */
enum {
    START_N = 16,
    PLAIN_N = 1 + 1 + 8 + CRYPTO_GROUP_SCALAR_MAX + CRYPTO_GROUP_HASH_MAX,
    SEALED_N = PLAIN_N + CRYPTO_SEAL_OVERHEAD,
    COOKIE_N = START_N + SEALED_N,
};

struct between { /* challenge and response */
    int32_t group, etype;
    int64_t at_s; /* by the wall clock, which all workers and the next start have in common */
    uint8_t x[CRYPTO_GROUP_SCALAR_MAX];
    struct krb_spake_hash hash;
};

static bool cookie_key(struct kdc_work *w, const uint8_t start[START_N], uint8_t key[32], struct sp_err *e)
{
    uint8_t b[7 + START_N] = "cookie";

    memcpy(b + 7, start, START_N);
    return crypto_hmac_sha256(w->k->crypto, sp_span(w->cf->name_secret, sizeof w->cf->name_secret),
                              sp_span(b, sizeof b), key, e);
}

static void pack(const struct between *s, uint8_t p[PLAIN_N])
{
    *p++ = (uint8_t)s->group;
    *p++ = (uint8_t)s->etype;
    for (int i = 0; i < 8; i++)
        *p++ = (uint8_t)((uint64_t)s->at_s >> (56 - 8 * i));
    memcpy(p, s->x, sizeof s->x);
    memcpy(p + sizeof s->x, s->hash.b, sizeof s->hash.b);
}

static void unpack(const uint8_t p[PLAIN_N], struct between *s)
{
    uint64_t at = 0;

    *s = (struct between){.group = *p++, .hash.n = CRYPTO_GROUP_HASH_MAX};
    s->etype = *p++;
    for (int i = 0; i < 8; i++)
        at = at << 8 | *p++;
    s->at_s = (int64_t)at;
    memcpy(s->x, p, sizeof s->x);
    memcpy(s->hash.b, p + sizeof s->x, sizeof s->hash.b);
}

static const uint8_t once[CRYPTO_SEAL_NONCE]; /* zeros: each key seals one cookie */

static bool make_cookie(struct kdc_work *w, const struct kdc_as *a, const struct between *s,
                        struct sp_span *out)
{
    uint8_t *p = sp_alloc(w->mem, COOKIE_N, &w->e), key[32], plain[PLAIN_N];
    bool ok;

    if (!p)
        return false;
    sp_rng_fill(w->env.rng, p, START_N);
    pack(s, plain);
    ok = cookie_key(w, p, key, &w->e) &&
         crypto_seal(w->k->crypto, key, once, a->lookup, sp_span(plain, sizeof plain), p + START_N, &w->e);
    sp_wipe(key, sizeof key);
    sp_wipe(plain, sizeof plain);
    *out = sp_span(p, COOKIE_N);
    return ok;
}

/* What was altered, sealed for another client or by another KDC cannot be told apart, and is no guess. */
static bool open_cookie(struct kdc_work *w, const struct kdc_as *a, struct between *s)
{
    const struct krb_pa *pa = kdc_find_pa(&w->m.padata, PA_FX_COOKIE);
    uint8_t key[32], plain[PLAIN_N];
    struct sp_err e = {0};
    bool ok;
    int64_t age;

    ok = pa && pa->value.n == COOKIE_N && cookie_key(w, pa->value.p, key, &e) &&
         crypto_open(w->k->crypto, key, once, a->lookup, sp_span(pa->value.p + START_N, SEALED_N), plain, &e);
    if (ok)
        unpack(plain, s);
    sp_wipe(key, sizeof key);
    sp_wipe(plain, sizeof plain);
    if (!ok)
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_PREAUTH_FAILED, "%s",
                       pa ? "a cookie that was altered, or made for another client or by another KDC"
                          : "a SPAKE response without cookie");
    age = w->now_s - s->at_s;
    if (age > KDC_COOKIE_S || age < -KDC_COOKIE_S) /* the other way when the server's clock was set back */
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_PREAUTH_EXPIRED, "the challenge is %lld s old",
                       (long long)age);
    if (kdc_replay_note(w->k->shared, w->env.mono_us, 2 * KDC_COOKIE_S + 1, pa->value, w->hash) ==
        KDC_REPLAYED)
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_PREAUTH_FAILED, "the challenge was answered before");
    return true;
}

/* The account's key or the stand-in's, or where that has none one that takes as long to use. */
static const struct sp_key *some_key(struct kdc_work *w, const struct kdc_as *a, const struct store_key *own,
                                     int32_t etype, struct sp_key *dummy, struct sp_err *e)
{
    if (!kdc_dummy_key(w->cf, w->k->crypto, etype, a->lookup, dummy,
                       e)) /* where it is not needed too: it takes time */
        return NULL;
    dummy->keep = true;
    return own ? &own->key : dummy;
}

/* ---- challenge ---- */

/* Without support edwards25519, which every client has; else what the client likes best of ours, as MIT's KDC
 * chooses. 0: nothing. */
static int32_t choose_group(const struct kdc_as *a)
{
    const struct krb_i32s *theirs = &a->said.support.groups;

    if (!a->said_pa)
        return CRYPTO_EDWARDS25519;
    for (uint32_t i = 0; i < theirs->count; i++)
        if (crypto_find_group(theirs->v[i]))
            return theirs->v[i];
    return 0;
}

static bool make_message(struct kdc_work *w, struct between *s, const struct sp_key *ikey,
                         struct sp_span *out)
{
    const struct crypto_group_info *g = crypto_find_group(s->group);
    uint8_t wb[CRYPTO_GROUP_SCALAR_MAX], t[CRYPTO_GROUP_POINT_MAX];
    struct krb_spake_factor factor = {.type = KRB_SPAKE_SF_NONE};
    struct krb_pa_spake m = {
        .has = KRB_BIT(1), .challenge = {.group = s->group, .factors = {&factor, 1}}
    };
    bool ok;

    ok = krb_spake_w(w->k->crypto, s->group, ikey, wb, &w->e) &&
         crypto_group_keygen(w->k->crypto, s->group, CRYPTO_BLIND_M, wb, w->env.rng, s->x, t, &w->e);
    sp_wipe(wb, sizeof wb);
    m.challenge.pubkey = sp_span(t, g->point_n);
    return ok && krb_make(KRB_PA_SPAKE, &m, w->mem, out, &w->e);
}

static bool make_challenge(struct kdc_work *w, const struct kdc_as *a, struct between *s,
                           const struct store_key *own, struct kdc_spake_offer *o)
{
    struct sp_span support = a->said_pa ? a->said_pa->value : SP_LIT("");
    struct sp_key dummy = {0};
    const struct sp_key *ikey = some_key(w, a, own, s->etype, &dummy, &w->e);
    bool ok;

    ok = ikey && make_message(w, s, ikey, &o->spake) &&
         krb_spake_update(w->k->crypto, s->group, &s->hash, support, o->spake, &w->e) &&
         make_cookie(w, a, s, &o->cookie);
    sp_wipe(&dummy, sizeof dummy);
    return ok;
}

/* T056: a challenge costs more than the rest of an error 25, and anybody may ask. On loopback the one source
 * of all is looked at more closely only when it has used up its share. */
static bool can_afford(struct kdc_work *w, struct kdc_as *a)
{
    const struct kdc_request *q = w->req;

    if (kdc_spend_challenge(w->k->shared, w->env, &q->source))
        return true;
    return q->look_closer && kdc_spend_challenge(w->k->shared, w->env, kdc_as_source(w, a));
}

bool kdc_spake_offer(struct kdc_work *w, struct kdc_as *a, const struct store_key *own, int32_t etype,
                     struct kdc_spake_offer *o)
{
    struct between s = {.group = choose_group(a), .etype = etype, .at_s = w->now_s};
    bool asked = a->said_pa != NULL, ok;

    *o = (struct kdc_spake_offer){.spake = SP_LIT("")};
    if (s.group == 0)
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_PREAUTH_FAILED, "no SPAKE group that is used here");
    /* Decision 46. A datagram from afar gets no more than a hint. */
    if (!asked && (w->cf->challenge == KDC_CHALLENGE_ON_SUPPORT ||
                   (w->req->door == KDC_UDP && !kdc_is_near(&w->req->source))))
        return true;
    if (!can_afford(w, a))
        return !asked || sp_fail(&w->e, SP_EREFUSED, KDC_ERR_SVC_UNAVAILABLE,
                                 "more SPAKE challenges than this source may ask for");
    ok = make_challenge(w, a, &s, own, o);
    sp_wipe(&s, sizeof s);
    return ok;
}

/* ---- response ---- */

/* The same work for every kind of name, throttled or not; only `allowed` with a known account's own key can
 * succeed. A dummy key is nobody's. */
static bool try_response(struct kdc_work *w, struct kdc_as *a, struct between *s, bool allowed,
                         uint8_t *plain, size_t *n)
{
    const struct krb_spake_response *r = &a->said.response;
    const struct crypto_group_info *g = crypto_find_group(s->group);
    bool honest = allowed & a->known & (a->key != NULL), ok;
    uint8_t wb[CRYPTO_GROUP_SCALAR_MAX], shared[CRYPTO_GROUP_POINT_MAX];
    struct sp_key dummy = {0}, k1 = {0};
    struct sp_err e = {0};
    struct crypto *c = w->k->crypto;
    struct krb_spake_derivation from = {.group = s->group, .w = wb, .hash = &s->hash, .body = w->m.body.raw};

    *n = r->factor.cipher.n;
    from.ikey = some_key(w, a, a->key, s->etype, &dummy, &e);
    ok = from.ikey && krb_spake_w(c, s->group, from.ikey, wb, &e) &&
         crypto_group_result(c, s->group, CRYPTO_BLIND_N, wb, s->x, r->pubkey, shared, &e) &&
         krb_spake_update(c, s->group, &s->hash, r->pubkey, SP_LIT(""), &e);
    from.shared = sp_span(shared, g ? g->point_n : 0);
    ok = ok && krb_spake_key(c, &from, 1, &k1, &e) && r->factor.etype == k1.etype &&
         crypto_decrypt(c, &k1, KU_SPAKE, kdc_as_proof(w, honest, r->factor.cipher, plain), plain, n, &e) &&
         honest && krb_spake_key(c, &from, 0, &a->reply, &e);
    sp_wipe(wb, sizeof wb);
    sp_wipe(shared, sizeof shared);
    sp_wipe(&dummy, sizeof dummy);
    sp_wipe(&k1, sizeof k1);
    return ok;
}

static bool check_factor(struct kdc_work *w, struct sp_span plain)
{
    struct krb_spake_factor f = {0};

    return krb_get(KRB_SPAKE_FACTOR, plain, KRB_STRICT, w->mem, &f, &w->e) &&
           (f.type == KRB_SPAKE_SF_NONE ||
            sp_fail(&w->e, SP_EREFUSED, KDC_ERR_PREAUTH_FAILED, "SPAKE factor %d was not offered", f.type));
}

bool kdc_spake_verify(struct kdc_work *w, struct kdc_as *a)
{
    struct between s = {0};
    uint8_t *plain;
    size_t n = 0;
    bool allowed, ok;

    w->out->record.preauth = "spake";
    plain = sp_alloc(w->mem, a->said.response.factor.cipher.n, &w->e);
    if (!plain || !open_cookie(w, a, &s))
        return false;
    w->keep = true;
    a->key = store_find_key(&w->client, s.etype, 0);
    allowed = kdc_as_reserve(w, a);
    ok = try_response(w, a, &s, allowed, plain, &n);
    sp_wipe(&s, sizeof s);
    if (!ok)
        return kdc_as_wrong(w, a, allowed);
    w->proven = true;
    w->out->record.proven = true;
    return check_factor(w, sp_span(plain, n));
}
