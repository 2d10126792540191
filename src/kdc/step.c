/* SPDX-License-Identifier: MIT */
/* One request in, one reply out: which exchange, was it answered before, may the answer go out this way. */
#include "kdc/internal.h"

/* ---- codes ---- */

int32_t kdc_inner_code(int32_t reason)
{
    switch (reason) {
    case KDC_WHY_UNKNOWN:
        return KDC_ERR_C_PRINCIPAL_UNKNOWN;
    case KDC_WHY_PASSWORD:
        return KDC_ERR_PREAUTH_FAILED;
    case KDC_WHY_THROTTLED:
    case KDC_WHY_DISABLED:
        return KDC_ERR_CLIENT_REVOKED;
    case KDC_WHY_EXPIRED:
        return KDC_ERR_NAME_EXP;
    case KDC_WHY_OLD_PASSWORD:
        return KDC_ERR_KEY_EXPIRED;
    default:
        return reason > 0 ? reason : KRB_ERR_GENERIC;
    }
}

int32_t kdc_outward_code(const struct kdc_config *config, enum kdc_exchange x, int32_t reason, bool proven)
{
    if (reason <= KDC_WHY_UNKNOWN && reason >= KDC_WHY_THROTTLED) /* one way for the three (T034) */
        return (config->reveal_unknown & (reason == KDC_WHY_UNKNOWN)) ? KDC_ERR_C_PRINCIPAL_UNKNOWN
                                                                      : KDC_ERR_PREAUTH_FAILED;
    switch (reason) {
    case KDC_WHY_DISABLED: /* to a holder of a TGT "revoked" says no more than a changed password would */
        if (!config->reveal_disabled && x == KDC_TGS)
            return proven ? KDC_ERR_TGT_REVOKED : KDC_ERR_PREAUTH_FAILED;
        return proven && config->reveal_disabled ? KDC_ERR_CLIENT_REVOKED : KDC_ERR_PREAUTH_FAILED;
    case KDC_WHY_EXPIRED:
    case KDC_WHY_OLD_PASSWORD:
        return proven ? kdc_inner_code(reason) : KDC_ERR_PREAUTH_FAILED;
    case KRB_AP_ERR_MODIFIED: /* decision 48: a checksum that fails is 31 */
        return KRB_AP_ERR_BAD_INTEGRITY;
    default:
        return reason > 0 && reason <= KDC_ERR_MORE_PREAUTH_DATA_REQUIRED ? reason : KRB_ERR_GENERIC;
    }
}

/* ---- texts for the record ---- */

struct sp_span kdc_text_of(struct kdc_work *w, const struct krb_name *name, struct sp_span realm)
{
    size_t max = realm.n * 2 + 3;
    struct sp_err e = {0};
    struct sp_text t;
    char *p;

    for (uint32_t i = 0; i < name->parts.count; i++)
        max += name->parts.v[i].n * 2 + 1;
    p = sp_alloc(w->mem, max, &e);
    if (!p)
        return sp_span(NULL, 0);
    t = sp_text(p, max);
    krb_text_principal(&t, name, realm);
    return sp_span(p, t.n);
}

static void note_request(struct kdc_work *w)
{
    const struct krb_req_body *b = &w->m.body;
    struct kdc_record *r = &w->out->record;

    if (KRB_HAS(b, 1))
        r->client = kdc_text_of(w, &b->cname, b->realm);
    if (KRB_HAS(b, 3))
        r->service = kdc_text_of(w, &b->sname, b->realm);
    for (uint32_t i = 0; i < b->etypes.count && r->requested_count < 8; i++)
        r->requested_etypes[r->requested_count++] = b->etypes.v[i];
}

/* ---- errors (RFC 4120 5.9.1; decision 53) ---- */

struct sp_span kdc_make_error(struct kdc_work *w, int32_t code, bool terse)
{
    struct sp_span tgs[2] = {SP_LIT("krbtgt"), w->cf->realm.name}, out = {0};
    struct krb_error m = {
        .stime = w->now_s,
        .susec = (uint32_t)(w->env.wall_us % 1000000),
        .code = code,
        .realm = w->cf->realm.name,
        .sname = w->err_sname && !terse ? *w->err_sname : krb_name_of(NT_SRV_INST, tgs, 2),
    };
    struct sp_err e = {0}, again = {0};

    if (w->err_crealm && code == KDC_ERR_WRONG_REALM) {
        m.has |= KRB_BIT(7);
        m.crealm = w->cf->realm.name;
        if (KRB_HAS(&w->m.body, 1)) {
            m.has |= KRB_BIT(8);
            m.cname = w->m.body.cname;
        }
    }
    if (!terse && code != KDC_ERR_PREAUTH_REQUIRED && code != KDC_ERR_MORE_PREAUTH_DATA_REQUIRED) {
        m.has |= KRB_BIT(11);
        m.text = sp_str(krb_code_name(code));
    }
    if (!terse && w->err_data.n) {
        m.has |= KRB_BIT(12);
        m.data = w->err_data;
    }
    if (krb_put(KRB_ERROR, &m, w->out->reserve, sizeof w->out->reserve, &out, &e) ||
        krb_make(KRB_ERROR, &m, w->mem, &out, &again))
        return out;
    m.has &= ~KRB_BIT(12) & ~KRB_BIT(8); /* long names and no memory: what is left must fit */
    m.sname = krb_name_of(NT_SRV_INST, tgs, 2);
    e = (struct sp_err){0};
    if (krb_put(KRB_ERROR, &m, w->out->reserve, sizeof w->out->reserve, &out, &e))
        return out;
    return sp_span(NULL, 0);
}

static void refuse(struct kdc_work *w)
{
    struct kdc_record *r = &w->out->record;
    int32_t reason = w->e.proto;

    if (w->e.kind != SP_EREFUSED && w->e.kind != SP_EINPUT)
        reason = 0; /* our trouble, not the peer's */
    r->code = kdc_outward_code(w->cf, w->exchange, reason, w->proven);
    r->inner_code = kdc_inner_code(reason);
    memcpy(r->text, w->e.text, sizeof r->text);
    memset(r->ticket_id, 0, sizeof r->ticket_id);
    if (r->code != KDC_ERR_PREAUTH_REQUIRED &&
        r->code != KDC_ERR_MORE_PREAUTH_DATA_REQUIRED) /* decision 45 */
        w->err_data = sp_span(NULL, 0);
    if (r->code == KRB_ERR_GENERIC)
        w->keep = false;
    w->out->reply = kdc_make_error(w, r->code, false);
}

/* ---- transports ---- */

bool kdc_is_near(const struct kdc_source *s)
{
    return s->loopback || s->console;
}

/* Decisions 17 and 47: what does not fit, or would amplify, becomes the smallest error there is. */
static void fit(struct kdc_work *w)
{
    const struct kdc_request *q = w->req;
    bool careful = !kdc_is_near(&q->source) && !w->cf->udp_replies_freely;
    size_t max = q->udp_reply_max ? q->udp_reply_max : KDC_UDP_REPLY_MAX;

    if (q->door != KDC_UDP)
        return;
    if (careful && !w->proven && max > q->bytes.n)
        max = q->bytes.n;
    if (w->out->reply.n <= max)
        return;
    w->out->record.code = KRB_ERR_RESPONSE_TOO_BIG;
    w->out->reply = kdc_make_error(w, KRB_ERR_RESPONSE_TOO_BIG, true);
    if (careful && w->out->reply.n > q->bytes.n)
        w->out->reply = sp_span(NULL, 0); /* a datagram too short for any request that could be granted */
}

static bool answered_before(struct kdc_work *w)
{
    struct kdc_kept kept;

    if (!kdc_kept_find(w->k->shared, w->env.mono_us, w->hash, w->mem, &kept))
        return false;
    w->out->reply = kept.reply;
    w->out->record.code = kept.code;
    w->out->record.inner_code = kept.code;
    w->out->record.retransmission = true;
    w->proven = kept.proven;
    return true;
}

static void run(struct kdc_work *w, enum krb_type t)
{
    bool ok;

    if (!krb_get(t, w->req->bytes, KRB_STRICT, w->mem, &w->m, &w->e)) {
        refuse(w);
        return;
    }
    note_request(w);
    ok = w->exchange == KDC_AS ? kdc_as(w) : kdc_tgs(w);
    if (!ok)
        refuse(w);
    if (w->keep)
        kdc_kept_put(w->k->shared, w->env.mono_us, w->hash,
                     &(struct kdc_kept){w->out->reply, w->out->record.code, w->proven});
}

static void step(struct kdc_work *w)
{
    enum krb_type t = krb_sniff(w->req->bytes);
    bool far = !kdc_is_near(&w->req->source) && !w->cf->udp_replies_freely;

    w->out->record.event = t == KRB_AS_REQ ? "as" : t == KRB_TGS_REQ ? "tgs" : "malformed";
    w->exchange = t == KRB_TGS_REQ ? KDC_TGS : KDC_AS;
    if (t == KRB_TYPE_COUNT || t == KRB_ERROR || t == KRB_AS_REP || t == KRB_TGS_REP)
        return; /* no request; an answer to an answer would make two servers talk for ever */
    if (w->req->bytes.n > KDC_MESSAGE_MAX || (t != KRB_AS_REQ && t != KRB_TGS_REQ)) {
        w->e.kind = SP_EREFUSED;
        w->e.proto = w->req->bytes.n > KDC_MESSAGE_MAX ? KRB_ERR_FIELD_TOOLONG : KRB_AP_ERR_MSG_TYPE;
        refuse(w);
    } else if (t == KRB_AS_REQ && w->req->door == KDC_UDP && far) {
        w->out->reply = kdc_make_error(w, w->out->record.code = KRB_ERR_RESPONSE_TOO_BIG, true);
    } else {
        w->hash = kdc_shared_hash(w->k->shared, w->req->bytes);
        if (!answered_before(w))
            run(w, t);
    }
    fit(w);
}

struct kdc_work kdc_begin(struct kdc *k, struct sp_env env, const struct kdc_request *req,
                          struct sp_arena *mem, struct kdc_actions *out)
{
    memset(out, 0, offsetof(struct kdc_actions, reserve));
    return (struct kdc_work){.k = k,
                             .cf = k->config,
                             .env = env,
                             .now_s = env.wall_us / 1000000,
                             .req = req,
                             .mem = mem,
                             .out = out};
}

void kdc_step(struct kdc *k, struct sp_env env, const struct kdc_request *req, struct sp_arena *mem,
              struct kdc_actions *out)
{
    struct kdc_work w = kdc_begin(k, env, req, mem, out);

    out->record.preauth = "none";
    step(&w);
}
