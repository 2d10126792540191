/* SPDX-License-Identifier: MIT */
/* How a client proves its password: SPAKE (RFC 9588), or an encrypted timestamp (RFC 4120 5.2.7.2) where that
 * is allowed; and what it believes of what a KDC says about keys before it has proven anything. */
#include "base/secret.h"
#include "client/internal.h"

static bool read_entry(struct client *cl, const struct krb_pa *pa, struct client_offer *o, struct sp_err *e)
{
    switch (pa->type) {
    case PA_ETYPE_INFO2:
        return krb_get(KRB_INFOS2, pa->value, KRB_STRICT, &cl->scratch, &o->info, e);
    case PA_ENC_TIMESTAMP:
        o->timestamp = true;
        return true;
    case PA_SPAKE: /* empty: a hint; else the challenge */
        o->spake = true;
        o->challenge = pa->value;
        return true;
    case PA_FX_COOKIE:
        o->cookie = pa->value;
        return true;
    default:
        return true;
    }
}

bool client_get_offer(struct client *cl, struct sp_span data, struct client_offer *out, struct sp_err *e)
{
    struct krb_padata list = {0};
    struct client_offer o = {0};

    if (!krb_get(KRB_PADATA, data, KRB_STRICT, &cl->scratch, &list, e))
        return false;
    for (uint32_t i = 0; i < list.count; i++)
        if (!read_entry(cl, &list.v[i], &o, e))
            return false;
    *out = o;
    return true;
}

/* A KDC that was seen with a stronger key of this account and now wants a weaker one may be another one that
 * wants something cheaper to guess on. Neither the key's size nor the work for one guess may shrink. */
static bool weaker_than_known(const struct client *cl, int32_t etype)
{
    const struct crypto_type *now = crypto_find_type(etype);
    const struct crypto_type *then = cl->has_known ? crypto_find_type(cl->known.etype) : NULL;

    return then && (now->key_n < then->key_n || now->s2k_iter < then->s2k_iter);
}

static const struct sp_key *find_key(const struct client *cl, int32_t etype)
{
    for (uint32_t i = 0; i < cl->key_count; i++)
        if (cl->keys[i].etype == etype)
            return &cl->keys[i];
    return NULL;
}

bool client_choose_recipe(struct client *cl, const struct krb_infos2 *info, struct client_recipe *out,
                          struct sp_err *e)
{
    bool weak = false;

    for (uint32_t i = 0; i < info->count; i++) {
        const struct krb_info2 *v = &info->v[i];

        if (!client_offers(cl, v->etype) || (!cl->password.p && !find_key(cl, v->etype)))
            continue;
        if (weaker_than_known(cl, v->etype)) {
            weak = true;
            continue;
        }
        *out = (struct client_recipe){.set = true, .etype = v->etype};
        if (KRB_HAS(v, 1))
            out->salt = v->salt;
        else if (!krb_default_salt(cl->realm, &cl->name, &cl->scratch, &out->salt, e))
            return false;
        if (KRB_HAS(v, 2))
            out->params = v->params;
        return true;
    }
    if (weak)
        return sp_fail(
            e, SP_EREFUSED, KDC_ERR_ETYPE_NOSUPP,
            "the KDC offers a weaker key than this account had (encryption type %d); if its keys did "
            "change, forget what is known",
            cl->known.etype);
    return sp_fail(e, SP_EREFUSED, KDC_ERR_ETYPE_NOSUPP,
                   "the KDC offers no encryption type that was asked for (RC4 and DES are never used)");
}

bool client_keep_recipe(struct client *cl, const struct client_recipe *r, struct sp_err *e)
{
    struct client_recipe *have = &cl->as.recipe;
    struct client_recipe kept = *r;

    if (have->set && have->etype == r->etype && sp_same(have->salt, r->salt) &&
        sp_same(have->params, r->params))
        return true;
    kept.salt = sp_dup(cl->mem, r->salt, e);
    kept.params = sp_dup(cl->mem, r->params, e);
    if (!kept.salt.p || !kept.params.p)
        return false;
    *have = kept;
    cl->as.has_ikey = false;
    return true;
}

/* A count that is too small makes guessing cheap, one that is too large stops this host. */
static bool check_params(const struct client *cl, struct sp_span params, struct sp_err *e)
{
    uint32_t n;

    if (params.n == 0)
        return true;
    if (params.n != 4)
        return client_distrust(e, "parameters of the key of an unknown shape");
    n = (uint32_t)params.p[0] << 24 | (uint32_t)params.p[1] << 16 | (uint32_t)params.p[2] << 8 | params.p[3];
    if (n < cl->policy.s2k_iter_min || n > cl->policy.s2k_iter_max)
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_MODIFIED,
                       "the KDC wants %u rounds to make the key; %u to %u are believed", n,
                       cl->policy.s2k_iter_min, cl->policy.s2k_iter_max);
    return true;
}

bool client_derive(struct client *cl, struct sp_err *e)
{
    struct client_as *a = &cl->as;
    const struct sp_key *k;

    if (a->has_ikey)
        return true;
    if (cl->password.p) {
        if (!check_params(cl, a->recipe.params, e) ||
            !crypto_string_to_key(cl->crypto, a->recipe.etype, cl->password, a->recipe.salt, a->recipe.params,
                                  &a->ikey, e))
            return false;
    } else {
        k = find_key(cl, a->recipe.etype);
        if (!k)
            return sp_fail(e, SP_EREFUSED, KDC_ERR_ETYPE_NOSUPP, "no key of encryption type %d is at hand",
                           a->recipe.etype);
        a->ikey = *k;
    }
    a->ikey.keep = false;
    a->has_ikey = true;
    return true;
}

bool client_put_support(struct client *cl, struct krb_pa *pa, struct sp_err *e)
{
    int32_t groups[] = {CRYPTO_EDWARDS25519, CRYPTO_P256};
    struct krb_pa_spake m = {
        .has = KRB_BIT(0), .support.groups = {groups, 2}
    };
    struct sp_span made;

    if (!krb_make(KRB_PA_SPAKE, &m, &cl->scratch, &made, e))
        return false;
    if (!cl->as.support.p && !(cl->as.support = sp_dup(cl->mem, made, e)).p)
        return false;
    *pa = (struct krb_pa){PA_SPAKE, cl->as.support};
    return true;
}

bool client_put_timestamp(struct client *cl, struct sp_env env, struct krb_pa *pa, struct sp_err *e)
{
    int64_t us = client_now_us(cl, env);
    struct krb_pa_enc_ts ts = {.has = KRB_BIT(1), .time = us / 1000000, .usec = (uint32_t)(us % 1000000)};
    struct krb_enc enc;

    pa->type = PA_ENC_TIMESTAMP;
    if (!client_derive(cl, e))
        return false;
    cl->as.reply_key = cl->as.ikey;
    return client_seal(cl, env, KRB_PA_ENC_TS, &ts, &cl->as.ikey, KU_PA_ENC_TS, &enc, e) &&
           krb_make(KRB_ENC, &enc, &cl->scratch, &pa->value, e);
}

static bool check_challenge(const struct krb_pa_spake *m, struct sp_err *e)
{
    if (!(m->has & KRB_BIT(1)))
        return client_distrust(e, "a SPAKE message that is no challenge");
    if (!crypto_find_group(m->challenge.group))
        return client_distrust(e, "a SPAKE challenge in a group that was not offered");
    for (uint32_t i = 0; i < m->challenge.factors.count; i++)
        if (m->challenge.factors.v[i].type == KRB_SPAKE_SF_NONE)
            return true;
    return sp_fail(e, SP_EREFUSED, KDC_ERR_PREAUTH_FAILED,
                   "the KDC demands a second factor, which is not supported");
}

struct exchange { /* what must not outlive one response */
    uint8_t w[CRYPTO_GROUP_SCALAR_MAX], scalar[CRYPTO_GROUP_SCALAR_MAX], shared[CRYPTO_GROUP_POINT_MAX];
    struct sp_key factor_key;
};

/* The client blinds with N, the KDC with M. A point that is none was never made by a KDC. */
static bool agree(struct client *cl, struct sp_env env, const struct krb_spake_challenge *ch,
                  struct exchange *x, uint8_t *pubkey, struct sp_err *e)
{
    struct sp_err bad = {0};

    if (!krb_spake_w(cl->crypto, ch->group, &cl->as.ikey, x->w, e) ||
        !crypto_group_keygen(cl->crypto, ch->group, CRYPTO_BLIND_N, x->w, env.rng, x->scalar, pubkey, e))
        return false;
    if (crypto_group_result(cl->crypto, ch->group, CRYPTO_BLIND_M, x->w, x->scalar, ch->pubkey, x->shared,
                            &bad))
        return true;
    if (bad.kind == SP_EREFUSED)
        return client_distrust(e, "the SPAKE challenge is no point of its group");
    *e = bad;
    return false;
}

static bool respond(struct client *cl, struct sp_env env, const struct krb_spake_challenge *ch,
                    struct sp_span body, struct exchange *x, struct krb_pa *pa, struct sp_err *e)
{
    const struct crypto_group_info *g = crypto_find_group(ch->group);
    uint8_t pubkey[CRYPTO_GROUP_POINT_MAX];
    struct krb_pa_spake m = {.has = KRB_BIT(2), .response.pubkey = sp_span(pubkey, g->point_n)};
    struct krb_spake_factor none = {.type = KRB_SPAKE_SF_NONE};
    struct krb_spake_hash hash = {0};
    struct sp_span support = cl->as.support_sent ? cl->as.support : sp_span(NULL, 0);
    struct krb_spake_derivation from = {
        .group = ch->group, .ikey = &cl->as.ikey, .w = x->w, .hash = &hash, .body = body};

    if (!agree(cl, env, ch, x, pubkey, e))
        return false;
    from.shared = sp_span(x->shared, g->point_n);
    return krb_spake_update(cl->crypto, ch->group, &hash, support, cl->as.challenge, e) &&
           krb_spake_update(cl->crypto, ch->group, &hash, m.response.pubkey, sp_span(NULL, 0), e) &&
           krb_spake_key(cl->crypto, &from, 0, &cl->as.reply_key, e) &&
           krb_spake_key(cl->crypto, &from, 1, &x->factor_key, e) &&
           client_seal(cl, env, KRB_SPAKE_FACTOR, &none, &x->factor_key, KU_SPAKE, &m.response.factor, e) &&
           krb_make(KRB_PA_SPAKE, &m, &cl->scratch, &pa->value, e);
}

bool client_put_response(struct client *cl, struct sp_env env, struct sp_span body, struct krb_pa *pa,
                         struct sp_err *e)
{
    struct krb_pa_spake m = {0};
    struct exchange x = {0};
    bool ok;

    pa->type = PA_SPAKE;
    ok = krb_get(KRB_PA_SPAKE, cl->as.challenge, KRB_STRICT, &cl->scratch, &m, e) && check_challenge(&m, e) &&
         client_derive(cl, e) && respond(cl, env, &m.challenge, body, &x, pa, e);
    sp_wipe(&x, sizeof x);
    return ok;
}
