/* SPDX-License-Identifier: MIT */
/* The AS exchange (RFC 4120 3.1, RFC 6806, RFC 9588), seen from the client. */
#include "base/secret.h"
#include "client/internal.h"

#define ENTRIES_MAX 4 /* of padata in a request */

static bool make_tgs_name(struct client *cl, struct sp_span realm, struct krb_name *out, struct sp_err *e)
{
    struct sp_span parts[2] = {SP_LIT("krbtgt"), realm};
    struct krb_name n = krb_name_of(NT_SRV_INST, parts, 2);

    return client_dup_name(cl->mem, &n, out, e);
}

/* With keys only their types are of use: a KDC names one type alone, the first that the request lists. */
static bool list_etypes(struct client *cl, struct krb_i32s *out, struct sp_err *e)
{
    out->v = sp_new_array(&cl->scratch, int32_t, cl->policy.etype_count, e);
    if (!out->v)
        return false;
    for (uint32_t i = 0; i < cl->policy.etype_count; i++) {
        bool use = cl->password.p != NULL;

        for (uint32_t k = 0; k < cl->key_count; k++)
            use = use || cl->keys[k].etype == cl->policy.etypes[i];
        if (use)
            out->v[out->count++] = cl->policy.etypes[i];
    }
    return out->count > 0 || sp_fail(e, SP_EREFUSED, KDC_ERR_ETYPE_NOSUPP,
                                     "none of the keys is of an encryption type that may be used");
}

static bool make_body(struct client *cl, struct sp_env env, struct krb_req_body *b, struct sp_err *e)
{
    b->has = KRB_BIT(1);
    b->cname = cl->name;
    b->realm = cl->realm;
    b->options = cl->options;
    if (cl->goal == CLIENT_SERVICE_BY_AS)
        b->sname = cl->service;
    else if (!make_tgs_name(cl, cl->realm, &b->sname, e))
        return false;
    client_fill_body(cl, env, b);
    return list_etypes(cl, &b->etypes, e);
}

static bool put_proof(struct client *cl, struct sp_env env, const struct krb_req_body *b,
                      struct krb_padata *list, struct sp_err *e)
{
    struct krb_pa *pa = &list->v[list->count];
    struct sp_span body;

    switch (cl->as.proof) {
    case CLIENT_PROOF_TIMESTAMP:
        cl->as.support_sent = false;
        list->count++;
        return client_put_timestamp(cl, env, pa, e);
    case CLIENT_PROOF_SPAKE: /* K'[n] covers the body of the very request that carries the response */
        list->count++;
        return krb_make(KRB_REQ_BODY, b, &cl->scratch, &body, e) && client_put_response(cl, env, body, pa, e);
    case CLIENT_PROOF_NONE:
        break;
    }
    cl->as.support_sent = cl->policy.spake;
    list->count += cl->policy.spake;
    return !cl->policy.spake || client_put_support(cl, pa, e);
}

bool client_ask_as(struct client *cl, struct sp_env env, struct client_action *out, struct sp_err *e)
{
    struct krb_pa pa[ENTRIES_MAX] = {0};
    struct krb_kdc_req m = {.has = KRB_BIT(3), .padata.v = pa};

    cl->state = CLIENT_AS;
    if (!make_body(cl, env, &m.body, e))
        return false;
    if (cl->as.cookie.n > 0)
        pa[m.padata.count++] = (struct krb_pa){PA_FX_COOKIE, cl->as.cookie};
    if (!put_proof(cl, env, &m.body, &m.padata, e))
        return false;
    pa[m.padata.count++] = (struct krb_pa){PA_REQ_ENC_PA_REP, SP_LIT("")};
    return client_send(cl, KRB_AS_REQ, &m, out, e);
}

/* Without the error leg, where the wish says how the key is made and a timestamp may be shown. */
static bool proves_at_once(struct client *cl)
{
    bool have = cl->password.p != NULL;

    for (uint32_t i = 0; i < cl->key_count; i++)
        have = have || cl->keys[i].etype == cl->known.etype;
    return cl->has_known && have && cl->policy.timestamp && client_offers(cl, cl->known.etype) &&
           !(cl->policy.spake && cl->known.spake) && !cl->as.probing;
}

bool client_begin_as(struct client *cl, struct sp_env env, struct client_action *out, struct sp_err *e)
{
    struct client_recipe r = {true, cl->known.etype, cl->known.salt, cl->known.params};

    cl->as.proof = CLIENT_PROOF_NONE;
    cl->as.cookie = cl->as.challenge = sp_span(NULL, 0);
    cl->as.by_known = proves_at_once(cl);
    if (cl->as.by_known) {
        if (!client_keep_recipe(cl, &r, e))
            return false;
        cl->as.proof = CLIENT_PROOF_TIMESTAMP;
    }
    return client_ask_as(cl, env, out, e);
}

/* ---- errors ---- */

static bool is_realm_text(struct sp_span r)
{
    for (size_t i = 0; i < r.n; i++)
        if (r.p[i] <= ' ' || r.p[i] == 0x7f || r.p[i] == '/' || r.p[i] == '@')
            return false;
    return r.n > 0 && r.n <= 255 && sp_is_utf8(r) && !sp_same(r, SP_LIT("."));
}

/* Another realm than the wish's: only where the wish's was a guess, and only once. */
static bool adopt_realm(struct client *cl, struct sp_span realm, struct sp_err *e)
{
    struct sp_span kept;

    if (sp_same(realm, cl->realm))
        return true;
    if (!cl->policy.adopt_realm || cl->as.adopted || !is_realm_text(realm)) {
        char shown[80];
        struct sp_text t = sp_text(shown, sizeof shown);

        sp_text_safe(&t, realm);
        return sp_fail(e, SP_EREFUSED, KDC_ERR_WRONG_REALM,
                       "the KDC answers for another realm (%s); give the right realm with the user's name",
                       shown);
    }
    kept = sp_dup(cl->mem, realm, e);
    if (!kept.p)
        return false;
    cl->realm = kept;
    cl->as.adopted = true;
    return true;
}

static bool same_as_known(const struct client *cl, const struct client_recipe *r)
{
    return r->etype == cl->known.etype && sp_same(r->salt, cl->known.salt) &&
           sp_same(r->params, cl->known.params);
}

static bool take_recipe(struct client *cl, const struct krb_infos2 *info, struct sp_err *e)
{
    struct client_recipe r = {0};

    if (info->count == 0)
        return cl->as.recipe.set || sp_fail(e, SP_EREFUSED, KDC_ERR_PREAUTH_REQUIRED,
                                            "the KDC does not say how the key is made (ETYPE-INFO2)");
    if (!client_choose_recipe(cl, info, &r, e))
        return false;
    /* What was known is still true, so it was the password; asking twice would count twice. */
    if (cl->as.probing && same_as_known(cl, &r))
        return sp_fail(e, SP_EREFUSED, KDC_ERR_PREAUTH_FAILED, "wrong password or key");
    return client_keep_recipe(cl, &r, e);
}

/* Decision 24: what can be guessed on is shown only where policy says so. SPAKE comes first everywhere. */
static bool choose_proof(struct client *cl, const struct client_offer *o, struct sp_err *e)
{
    struct client_as *a = &cl->as;

    if (cl->policy.spake && o->spake && o->challenge.n > 0) {
        a->proof = CLIENT_PROOF_SPAKE;
        return (a->challenge = sp_dup(cl->mem, o->challenge, e)).p != NULL;
    }
    if (cl->policy.spake && o->spake && !a->hinted) { /* a hint alone: our support again, with its cookie */
        a->hinted = true;
        a->proof = CLIENT_PROOF_NONE;
        return true;
    }
    if (o->timestamp && cl->policy.timestamp) {
        a->proof = CLIENT_PROOF_TIMESTAMP;
        return true;
    }
    if (o->timestamp)
        return sp_fail(
            e, SP_EREFUSED, KDC_ERR_PREAUTH_REQUIRED,
            "only an encrypted timestamp is offered; allow it: `sallyport login --allow-timestamp`, or the "
            "line 'HOST allow-timestamp' in ~/.config/sallyport/pins");
    return sp_fail(e, SP_EREFUSED, KDC_ERR_PREAUTH_REQUIRED,
                   "the KDC offers no pre-authentication that can be used here");
}

static bool take_offer(struct client *cl, struct sp_env env, const struct krb_error *err,
                       struct client_action *out, struct sp_err *e)
{
    struct client_offer o = {0};

    if (cl->as.proof != CLIENT_PROOF_NONE && !cl->as.by_known)
        return client_refuse(err, e);
    if (!KRB_HAS(err, 12))
        return sp_fail(e, SP_EREFUSED, err->code,
                       "the KDC asks for pre-authentication and does not say which");
    if (!adopt_realm(cl, err->realm, e) || !client_get_offer(cl, err->data, &o, e) ||
        !take_recipe(cl, &o.info, e))
        return false;
    cl->as.by_known = false;
    cl->lesson.spake = cl->lesson.spake || o.spake;
    cl->as.cookie = sp_dup(cl->mem, o.cookie, e);
    return cl->as.cookie.p && choose_proof(cl, &o, e) && client_ask_as(cl, env, out, e);
}

bool client_as_error(struct client *cl, struct sp_env env, const struct krb_error *err,
                     struct client_action *out, struct sp_err *e)
{
    switch (err->code) {
    case KDC_ERR_PREAUTH_REQUIRED:
    case KDC_ERR_MORE_PREAUTH_DATA_REQUIRED:
        return take_offer(cl, env, err, out, e);
    case KDC_ERR_PREAUTH_FAILED: /* the password may have changed since what is known was learnt */
        if (!cl->as.by_known || cl->as.probing)
            break;
        cl->as.probing = true;
        return client_begin_as(cl, env, out, e);
    case KRB_AP_ERR_SKEW:
        if (cl->as.proof != CLIENT_PROOF_TIMESTAMP)
            break;
        return client_take_clock(cl, env, err, e) && client_ask_as(cl, env, out, e);
    case KDC_ERR_WRONG_REALM: /* RFC 6806 7 */
        if (!KRB_HAS(err, 7) || sp_same(err->crealm, cl->realm))
            break;
        return adopt_realm(cl, err->crealm, e) && client_begin_as(cl, env, out, e);
    case KDC_ERR_PREAUTH_EXPIRED: /* the cookie; from the start */
        if (cl->as.expired)
            break;
        cl->as.expired = true;
        return client_begin_as(cl, env, out, e);
    default:
        break;
    }
    return client_refuse(err, e);
}

/* ---- the reply ---- */

/* A KDC that asks for no proof at all: how the key is made stands in the reply, or is the default. */
static bool take_unproven(struct client *cl, const struct krb_kdc_rep *rep, struct sp_err *e)
{
    struct krb_info2 plain = {.etype = rep->enc.etype};
    struct krb_infos2 info = {&plain, 1};

    for (uint32_t i = 0; i < rep->padata.count; i++)
        if (rep->padata.v[i].type == PA_ETYPE_INFO2 &&
            !krb_get(KRB_INFOS2, rep->padata.v[i].value, KRB_STRICT, &cl->scratch, &info, e))
            return false;
    if (!take_recipe(cl, &info, e) || !client_derive(cl, e))
        return false;
    cl->as.reply_key = cl->as.ikey;
    return true;
}

static bool open_reply(struct client *cl, const struct krb_kdc_rep *rep, struct krb_enc_kdc_rep *part,
                       struct sp_err *e)
{
    struct sp_err why = {0};

    if (cl->as.proof == CLIENT_PROOF_NONE && !take_unproven(cl, rep, e))
        return false;
    if (client_open(cl, &rep->enc, &cl->as.reply_key, KU_AS_REP, part, &why))
        return true;
    if (why.kind == SP_EREFUSED && cl->as.proof == CLIENT_PROOF_NONE)
        return sp_fail(e, SP_EREFUSED, KDC_ERR_PREAUTH_FAILED,
                       "wrong password or key: the KDC's reply does not open");
    *e = why;
    return false;
}

/* RFC 6806 11: a KDC that can says what request it saw, so that nobody has weakened it on the way. */
static bool check_request_seen(struct client *cl, const struct krb_enc_kdc_rep *part, struct sp_err *e)
{
    struct krb_checksum sum = {0};
    struct sp_err bad = {0};

    if (!(part->flags & KRB_FLAG(TKT_ENC_PA_REP)))
        return true;
    for (uint32_t i = 0; KRB_HAS(part, 12) && i < part->enc_padata.count; i++)
        if (part->enc_padata.v[i].type == PA_REQ_ENC_PA_REP) {
            if (!krb_get(KRB_CHECKSUM, part->enc_padata.v[i].value, KRB_STRICT, &cl->scratch, &sum, e))
                return false;
            return crypto_verify(cl->crypto, &cl->as.reply_key, KU_AS_REQ, sum.type, cl->asked.bytes, sum.sum,
                                 &bad) ||
                   client_distrust(e, "the KDC saw another request than was sent");
        }
    return client_distrust(e, "no checksum of the request, though the ticket is marked so");
}

static bool check_names(struct client *cl, const struct krb_kdc_rep *rep, const struct krb_enc_kdc_rep *part,
                        struct sp_err *e)
{
    bool renamed = cl->policy.canonicalize || cl->name.type == NT_ENTERPRISE;
    bool moved = !sp_same(rep->crealm, cl->realm);

    if (!krb_same_name(&rep->cname, &cl->name) && (!renamed || rep->cname.parts.count == 0))
        return client_distrust(e, "it is for another user");
    if (moved && (!cl->policy.adopt_realm || cl->as.adopted))
        return client_distrust(e, "it is for a user of another realm");
    if (!sp_same(part->srealm, rep->crealm))
        return client_distrust(e, "it comes from another realm than the user's");
    if (cl->goal != CLIENT_SERVICE_BY_AS && !krb_same_name(&part->sname, &cl->asked.sname) &&
        (!moved || !krb_is_tgs_name(&part->sname, part->srealm)))
        return client_distrust(e, "it is for another service");
    return !moved || adopt_realm(cl, rep->crealm, e);
}

/* Only a KDC that holds the key could say this, in answer to this request: so it is its clock. */
static bool learn_clock(struct client *cl, struct sp_env env, const struct krb_enc_kdc_rep *part,
                        struct sp_err *e)
{
    int64_t off_s = part->authtime - env.wall_us / 1000000;

    if (off_s > CLIENT_OFFSET_MAX_S || off_s < -CLIENT_OFFSET_MAX_S)
        return client_distrust(e, "the login is dated more than a day away; look at the clocks");
    /* Whole seconds and the way back make a few: as good as none. */
    cl->offset_us = off_s > 2 || off_s < -2 ? off_s * 1000000 : 0;
    return true;
}

static void learn(struct client *cl)
{
    static const char *const names[] = {"none", "timestamp", "spake"};

    cl->preauth = names[cl->as.proof];
    cl->learnt = cl->password.p != NULL;
    cl->lesson.etype = cl->as.recipe.etype;
    cl->lesson.salt = cl->as.recipe.salt;
    cl->lesson.params = cl->as.recipe.params;
    cl->lesson.spake = cl->lesson.spake || (cl->as.by_known && cl->known.spake);
}

/* Decision 14: a service's ticket straight from this exchange is what our KDC gives. Active Directory names
 * the service's account in it instead (RFC 6806 11 leaves KDCs that freedom). Nobody could tell whether that
 * is the service that was meant, so the ticket is dropped, and one is asked for by way of a TGT. */
static bool begin_with_tgt(struct client *cl, struct sp_env env, struct client_action *out, struct sp_err *e)
{
    cl->goal = CLIENT_SERVICE;
    cl->known = cl->lesson;
    cl->has_known = true;
    cl->as.hinted = cl->as.expired = cl->as.probing = false;
    return client_begin_as(cl, env, out, e);
}

bool client_as_reply(struct client *cl, struct sp_env env, struct sp_span reply, struct client_action *out,
                     struct sp_err *e)
{
    struct krb_kdc_rep rep = {0};
    struct krb_enc_kdc_rep part = {0};
    struct krb_credential *to = cl->goal == CLIENT_SERVICE_BY_AS ? &cl->result : &cl->tgt;

    if (!krb_get(KRB_AS_REP, reply, KRB_STRICT, &cl->scratch, &rep, e) || !open_reply(cl, &rep, &part, e) ||
        !learn_clock(cl, env, &part, e) || !client_check_part(cl, env, &rep, &part, e) ||
        !check_request_seen(cl, &part, e) || !check_names(cl, &rep, &part, e))
        return false;
    learn(cl);
    if (cl->goal == CLIENT_SERVICE_BY_AS && !krb_same_name(&part.sname, &cl->asked.sname))
        return begin_with_tgt(cl, env, out, e);
    if (!client_keep(cl, &rep, &part, to, e))
        return false;
    client_forget_secret(cl);
    if (cl->goal == CLIENT_SERVICE_BY_AS)
        cl->has_result = true;
    else
        cl->has_tgt = true;
    if (cl->goal == CLIENT_SERVICE)
        return client_begin_tgs(cl, env, out, e);
    cl->state = CLIENT_DONE;
    *out = (struct client_action){.done = true};
    return true;
}
