/* SPDX-License-Identifier: MIT */
/* The TGS exchange (RFC 4120 3.3) with referrals (RFC 6806 8), seen from the client. */
#include "base/secret.h"
#include "client/internal.h"

/* Whose KDC takes this TGT. */
static struct sp_span realm_of(const struct krb_credential *tgt)
{
    return tgt->server.parts.v[1];
}

static bool is_tgs_name(const struct krb_name *n)
{
    return n->parts.count == 2 && sp_same(n->parts.v[0], SP_LIT("krbtgt")) && n->parts.v[1].n > 0;
}

/* What the TGT cannot give is not asked for: some KDCs refuse instead of leaving it out. */
static uint32_t options_of(const struct client *cl)
{
    static const uint8_t same[][2] = {
        {OPT_FORWARDABLE, TKT_FORWARDABLE},
        {OPT_PROXIABLE,   TKT_PROXIABLE  },
        {OPT_RENEWABLE,   TKT_RENEWABLE  },
    };
    uint32_t o = cl->options;

    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        bool has = (cl->hop.flags & KRB_FLAG(same[i][1])) != 0;

        if (!has)
            o &= ~KRB_FLAG(same[i][0]);
        else if (cl->goal == CLIENT_FORWARDED || cl->goal == CLIENT_RENEWED)
            o |= KRB_FLAG(same[i][0]);
    }
    if (cl->goal == CLIENT_FORWARDED)
        o |= KRB_FLAG(OPT_FORWARDED);
    if (cl->goal == CLIENT_RENEWED)
        o |= KRB_FLAG(OPT_RENEW);
    return o;
}

static bool make_sname(struct client *cl, struct krb_name *out, struct sp_err *e)
{
    struct sp_span there = cl->service_realm.n > 0 ? cl->service_realm : cl->realm;
    struct sp_span parts[2] = {SP_LIT("krbtgt"), there};
    struct krb_name n = krb_name_of(NT_SRV_INST, parts, 2);

    cl->crossing = false;
    if (cl->goal != CLIENT_SERVICE) {
        *out = cl->hop.server;
        return true;
    }
    /* A service of the client's own realm may be found elsewhere by referral, so only a named realm is gone
     * to. */
    if (cl->service_realm.n == 0 || sp_same(realm_of(&cl->hop), there)) {
        *out = cl->service;
        return true;
    }
    cl->crossing = true;
    return client_dup_name(cl->mem, &n, out, e);
}

static bool make_body(struct client *cl, struct sp_env env, struct krb_req_body *b, struct sp_err *e)
{
    b->options = options_of(cl);
    b->realm = realm_of(&cl->hop);
    b->etypes = (struct krb_i32s){cl->policy.etypes, cl->policy.etype_count};
    client_fill_body(cl, env, b);
    return make_sname(cl, &b->sname, e);
}

/* RFC 4120 5.5.1: the checksum ties the body to the authenticator, so that nobody changes what is asked. */
static bool put_authenticator(struct client *cl, struct sp_env env, struct sp_span body, struct krb_enc *out,
                              struct sp_err *e)
{
    const struct krb_credential *t = &cl->hop;
    int64_t us = client_now_us(cl, env);
    uint8_t sum[CRYPTO_CKSUM_MAX];
    size_t n = sizeof sum;
    struct krb_authenticator a = {
        .has = KRB_BIT(3) | KRB_BIT(6) | KRB_BIT(7), .crealm = t->crealm, .cname = t->client};

    if (!crypto_random_key(t->key.etype, env.rng, &cl->subkey, e) ||
        !crypto_checksum(cl->crypto, &t->key, KU_TGS_REQ_CKSUM, body, sum, &n, e))
        return false;
    a.cksum = (struct krb_checksum){crypto_find_type(t->key.etype)->cksumtype, sp_span(sum, n)};
    a.ctime = us / 1000000;
    a.cusec = (uint32_t)(us % 1000000);
    a.subkey = (struct krb_keyblock){cl->subkey.etype, sp_span(cl->subkey.b, cl->subkey.n)};
    sp_rng_fill(env.rng, &a.seq, sizeof a.seq);
    a.seq &= 0x3fffffff; /* as elsewhere: old peers read it as a signed number */
    return client_seal(cl, env, KRB_AUTHENTICATOR, &a, &t->key, KU_TGS_REQ_AUTH, out, e);
}

static bool ask(struct client *cl, struct sp_env env, struct client_action *out, struct sp_err *e)
{
    struct krb_pa pa = {.type = PA_TGS_REQ};
    struct krb_kdc_req m = {
        .has = KRB_BIT(3), .padata = {&pa, 1}
    };
    struct krb_ap_req ap = {0};
    struct sp_span body;

    cl->state = CLIENT_TGS;
    return make_body(cl, env, &m.body, e) && krb_make(KRB_REQ_BODY, &m.body, &cl->scratch, &body, e) &&
           krb_get(KRB_TICKET, cl->hop.ticket, KRB_STRICT, &cl->scratch, &ap.ticket, e) &&
           put_authenticator(cl, env, body, &ap.authenticator, e) &&
           krb_make(KRB_AP_REQ, &ap, &cl->scratch, &pa.value, e) && client_send(cl, KRB_TGS_REQ, &m, out, e);
}

bool client_begin_tgs(struct client *cl, struct sp_env env, struct client_action *out, struct sp_err *e)
{
    if (!is_tgs_name(&cl->tgt.server))
        return sp_fail(e, SP_EINPUT, 0, "the ticket given is no ticket-granting ticket");
    if (!crypto_find_type(cl->tgt.key.etype) || cl->tgt.key.n != crypto_find_type(cl->tgt.key.etype)->key_n)
        return sp_fail(e, SP_EINPUT, 0, "the session key of the ticket given is of type %d",
                       cl->tgt.key.etype);
    cl->hop = cl->tgt;
    cl->seen[0] = realm_of(&cl->hop);
    cl->seen_count = 1;
    return ask(cl, env, out, e);
}

bool client_tgs_error(struct client *cl, struct sp_env env, const struct krb_error *err,
                      struct client_action *out, struct sp_err *e)
{
    if (err->code == KRB_AP_ERR_SKEW)
        return client_take_clock(cl, env, err, e) && ask(cl, env, out, e);
    return client_refuse(err, e);
}

/* RFC 4120 2.8: whom to delegate to is for the client's own realm to say, and for another one as far as the
 * realms on the way there have the same flag. */
static void trust_less(const struct client *cl, struct krb_credential *got)
{
    if (!krb_is_tgs_name(&cl->hop.server, cl->hop.crealm) && !(cl->hop.flags & KRB_FLAG(TKT_OK_AS_DELEGATE)))
        got->flags &= ~KRB_FLAG(TKT_OK_AS_DELEGATE);
}

static bool finish(struct client *cl, const struct krb_kdc_rep *rep, const struct krb_enc_kdc_rep *part,
                   struct client_action *out, struct sp_err *e)
{
    bool of_tgt = cl->goal == CLIENT_FORWARDED || cl->goal == CLIENT_RENEWED;

    if (cl->goal == CLIENT_FORWARDED && !(part->flags & KRB_FLAG(TKT_FORWARDED)))
        return client_distrust(e, "the ticket is not marked as forwarded");
    if (!client_keep(cl, rep, part, of_tgt ? &cl->tgt : &cl->result, e))
        return false;
    trust_less(cl, &cl->result);
    cl->has_result = !of_tgt;
    cl->state = CLIENT_DONE;
    *out = (struct client_action){.done = true};
    return true;
}

/* Another realm's TGT instead of the service's ticket. */
static bool follow(struct client *cl, struct sp_env env, const struct krb_kdc_rep *rep,
                   const struct krb_enc_kdc_rep *part, struct client_action *out, struct sp_err *e)
{
    struct sp_span to = part->sname.parts.v[1];
    struct krb_credential next;

    for (uint32_t i = 0; i < cl->seen_count; i++)
        if (sp_same(cl->seen[i], to))
            return client_distrust(e, "a referral in a circle");
    if (cl->seen_count > CLIENT_REFERRALS_MAX)
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_MODIFIED,
                       "more than %d referrals on the way to the service", CLIENT_REFERRALS_MAX);
    if (!client_keep(cl, rep, part, &next, e))
        return false;
    trust_less(cl, &next);
    cl->hop = next;
    sp_wipe(&next, sizeof next);
    cl->seen[cl->seen_count++] = realm_of(&cl->hop);
    return ask(cl, env, out, e);
}

static bool check_names(const struct client *cl, const struct krb_kdc_rep *rep,
                        const struct krb_enc_kdc_rep *part, struct sp_err *e)
{
    if (!krb_same_name(&rep->cname, &cl->hop.client) || !sp_same(rep->crealm, cl->hop.crealm))
        return client_distrust(e, "it is for another user");
    if (!sp_same(part->srealm, cl->asked.realm))
        return client_distrust(e, "it comes from another realm");
    if (cl->goal != CLIENT_RENEWED && part->endtime > cl->hop.endtime)
        return client_distrust(e, "the ticket outlives the one it was got with");
    return true;
}

bool client_tgs_reply(struct client *cl, struct sp_env env, struct sp_span reply, struct client_action *out,
                      struct sp_err *e)
{
    struct krb_kdc_rep rep = {0};
    struct krb_enc_kdc_rep part = {0};
    bool asked;

    if (!krb_get(KRB_TGS_REP, reply, KRB_STRICT, &cl->scratch, &rep, e) ||
        !client_open(cl, &rep.enc, &cl->subkey, KU_TGS_REP_SUBKEY, &part, e) ||
        !client_check_part(cl, env, &rep, &part, e) || !check_names(cl, &rep, &part, e))
        return false;
    asked = krb_same_name(&part.sname, &cl->asked.sname);
    if (asked && !cl->crossing)
        return finish(cl, &rep, &part, out, e);
    if (asked ||
        (cl->goal == CLIENT_SERVICE && is_tgs_name(&part.sname) && (cl->policy.canonicalize || cl->crossing)))
        return follow(cl, env, &rep, &part, out, e);
    return client_distrust(e, "it is for another service");
}
