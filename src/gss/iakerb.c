/* SPDX-License-Identifier: MIT */
/* IAKERB (draft-ietf-kitten-iakerb-03), and plain krb5 as the same thing without proxied messages. */
#include "bytes/der.h"
#include "gss/internal.h"

#define REALM_MAX 255
#define HEADER_ROOM 512  /* framing and header around a KDC's message */
#define AP_REQ_ROOM 8192 /* all of an AP-REQ but its tickets */
#define HAS_COOKIE KRB_BIT(2)
#define HAS_FLAGS KRB_BIT(3)
#define HAS_E_TEXT KRB_BIT(11)

static bool is_krb5(enum token_mech m)
{
    return m == TOKEN_KRB5 || m == TOKEN_MS_KRB5;
}

void iakerb_restart(struct sec *s)
{
    struct iakerb *k = &s->inner;
    struct transcript empty = {.p = k->tokens.p, .max = k->tokens.max};

    kctx_wipe(&k->k);
    client_wipe(k->client);
    client_wipe(k->forwarding);
    sp_arena_reset(&s->client_mem);
    *k = (struct iakerb){.tokens = empty, .state = s->role == SEC_INITIATOR ? IAKERB_START : IAKERB_LISTEN};
}

/* ---- the transcript ---- */

/* *kept is the token where it stays. */
static bool remember(struct transcript *t, struct sp_span token, struct sp_span *kept, struct sp_err *e)
{
    if (token.n > t->max - t->n)
        return t->max < SEC_TRANSCRIPT_MAX
                   ? sp_fail(e, SP_ENOMEM, 0, "no room for the tokens of this context")
                   : sp_fail(e, SP_EREFUSED, KCTX_UNAUTHORIZED, "more than %d bytes of tokens",
                             SEC_TRANSCRIPT_MAX);
    memcpy(t->p + t->n, token.p, token.n);
    *kept = sp_span(t->p + t->n, token.n);
    t->n += token.n;
    return true;
}

static struct kctx_transcript covered(const struct iakerb *k)
{
    struct kctx_transcript t = {.kind = KCTX_FINISHED_NONE};

    if (k->tokens.n == 0)
        return t;
    t.kind = k->dialect == IAKERB_OLD ? KCTX_FINISHED_OLD : KCTX_FINISHED_DRAFT;
    t.tokens = sp_span(k->tokens.p, k->tokens.n);
    return t;
}

/* ---- what came in ---- */

struct incoming {
    uint16_t id;         /* enum token_id */
    enum token_mech oid; /* TOKEN_UNKNOWN: not framed */
    struct sp_span body;
};

static bool get_framed(const struct sec *s, struct sp_span in, struct incoming *out, struct sp_err *e)
{
    struct token t;

    if (!token_get(in, &t, e))
        return false;
    if (!is_krb5(t.mech) && !(t.mech == TOKEN_IAKERB && s->mech == TOKEN_IAKERB))
        return sec_defective(e, "a token of another mechanism");
    if (t.id == TOKEN_IAKERB_PROXY && t.mech != TOKEN_IAKERB)
        return sec_defective(e, "a proxied message under another mechanism's OID");
    *out = (struct incoming){t.id, t.mech, t.body};
    return true;
}

/* Unframed tokens: of DCE style, of peers that leave the frame off AP-REP and errors, and the later ones of
 * MIT before 1.22. */
static bool get_incoming(const struct sec *s, struct sp_span in, struct incoming *out, struct sp_err *e)
{
    enum krb_type t = krb_sniff(in);
    uint16_t id = in.n > 2 ? (uint16_t)(in.p[0] << 8 | in.p[1]) : 0;

    *out = (struct incoming){.oid = TOKEN_UNKNOWN, .body = in};
    if (in.n > 0 && in.p[0] == DER_APPLICATION)
        return get_framed(s, in, out, e);
    if (t == KRB_AP_REQ || t == KRB_AP_REP || t == KRB_ERROR) {
        out->id = t == KRB_AP_REQ ? TOKEN_AP_REQ : t == KRB_AP_REP ? TOKEN_AP_REP : TOKEN_KRB_ERROR;
        return true;
    }
    if (id != TOKEN_KRB_ERROR && !(id == TOKEN_IAKERB_PROXY && s->inner.dialect == IAKERB_OLD))
        return sec_defective(e, in.n ? "not a token of this mechanism" : "an empty token");
    out->id = id;
    out->body = sp_span(in.p + 2, in.n - 2);
    return true;
}

struct proxied {
    struct krb_iakerb_header header;
    struct sp_span message;
};

static bool get_header(struct sec *s, enum iakerb_dialect d, struct sp_span der,
                       struct krb_iakerb_header *out, struct sp_err *e)
{
    return krb_get(d == IAKERB_OLD ? KRB_IAKERB_HEADER_OLD : KRB_IAKERB_HEADER, der, KRB_UNKNOWN_TAIL,
                   &s->scratch, out, e);
}

/* The realm's string tag of the first token decides the dialect, for good (spec of the old one: what MIT 1.9
 * to 1.21 did). */
static bool settle_dialect(struct sec *s, struct sp_span der, struct sp_err *e)
{
    struct sp_err draft = {0}, old = {0};
    struct krb_iakerb_header h;

    if (s->inner.dialect != IAKERB_OPEN)
        return true;
    if (get_header(s, IAKERB_DRAFT, der, &h, &draft)) {
        s->inner.dialect = IAKERB_DRAFT;
        return true;
    }
    if (!get_header(s, IAKERB_OLD, der, &h, &old))
        return sp_fail_at(e, draft.kind, draft.proto, draft.at, "%s", draft.text);
    if (s->how.acceptor.old_mit != SEC_OLD_MIT_ACCEPT)
        return sec_defective(e, "the dialect of MIT krb5 before 1.22, which is switched off");
    s->inner.dialect = IAKERB_OLD;
    return true;
}

static bool get_proxied(struct sec *s, struct sp_span in, struct proxied *out, struct sp_err *e)
{
    struct sp_cur c = sp_cur_of(in, e);
    struct sp_span der;

    if (!sp_der_any(&c, "IAKERB-HEADER", &der) || !settle_dialect(s, der, e) ||
        !get_header(s, s->inner.dialect, der, &out->header, e))
        return false;
    out->message = sp_span(c.p, sp_left(&c));
    return true;
}

/* Text that may stand in a realm; RFC 4120 6.1 has more to say, but not to a proxy. */
static bool is_realm_text(struct sp_span r)
{
    for (size_t i = 0; i < r.n; i++)
        if (r.p[i] <= ' ' || r.p[i] == 0x7f || r.p[i] == '/' || r.p[i] == '@')
            return false;
    return r.n <= REALM_MAX && sp_is_utf8(r);
}

/* ---- what goes out ---- */

struct outgoing {
    struct krb_iakerb_header header;
    struct sp_span message;
};

static bool join(struct sec *s, struct sp_span a, struct sp_span b, struct sp_span *out, struct sp_err *e)
{
    uint8_t *p = sp_alloc(&s->scratch, a.n + b.n, e);

    if (!p)
        return false;
    memcpy(p, a.p, a.n);
    if (b.n)
        memcpy(p + a.n, b.p, b.n);
    *out = sp_span(p, a.n + b.n);
    return true;
}

/* MIT before 1.22 framed the first token of a context and no later one. */
static bool frame_proxied(struct sec *s, struct sp_span body, struct sp_span *out, struct sp_err *e)
{
    if (s->inner.dialect == IAKERB_OLD && s->inner.tokens.n > 0)
        return join(s, SP_LIT("\x05\x01"), body, out, e);
    return token_make(TOKEN_IAKERB, TOKEN_IAKERB_PROXY, body, &s->scratch, out, e);
}

static bool send_proxied(struct sec *s, const struct outgoing *o, struct sec_action *out, struct sp_err *e)
{
    enum krb_type t = s->inner.dialect == IAKERB_OLD ? KRB_IAKERB_HEADER_OLD : KRB_IAKERB_HEADER;
    struct sp_span header, body, token;

    if (!krb_make(t, &o->header, &s->scratch, &header, e) || !join(s, header, o->message, &body, e) ||
        !frame_proxied(s, body, &token, e))
        return false;
    if (token.n > SEC_TOKEN_MAX)
        return sp_fail(e, SP_EREFUSED, KRB_ERR_FIELD_TOOLONG, "a message of %zu bytes cannot be proxied",
                       o->message.n);
    *out = (struct sec_action){.what = SEC_SEND};
    return remember(&s->inner.tokens, token, &out->token, e);
}

/* ---- acceptor: requests ---- */

/* The realm whose KDC is meant; p NULL when there is none. Only the local one has other names and no case. */
static struct sp_span find_realm(const struct sec_acceptor *how, struct sp_span asked)
{
    if (krb_is_realm_alias(&how->realm, asked))
        return how->realm.name;
    for (uint32_t i = 0; i < how->realms.count; i++)
        if (sp_same(how->realms.v[i], asked))
            return how->realms.v[i];
    return sp_span(NULL, 0);
}

/* Header-flags are answered where they were sent and nowhere else: Apple's reader takes no third field, and
 * Windows' has one. */
static bool answer(struct sec *s, struct sp_span message, struct sec_action *out, struct sp_err *e)
{
    struct outgoing o = {
        .header = {.has = s->inner.flags_now ? HAS_FLAGS : 0, .target_realm = s->inner.asking},
        .message = message
    };

    s->inner.state = IAKERB_LISTEN;
    return send_proxied(s, &o, out, e);
}

static bool answer_error(struct sec *s, struct sp_env env, int32_t code, struct sec_action *out,
                         struct sp_err *e)
{
    struct sp_err why = {.kind = SP_EREFUSED, .proto = code};
    struct sp_span message;

    return kctx_make_error(env, &why, sp_span(NULL, 0), NULL, &s->scratch, &message, e) &&
           answer(s, message, out, e);
}

/* Draft 3.1: no realm and no message asks for ours. */
static bool answer_discovery(struct sec *s, struct sp_env env, struct sec_action *out, struct sp_err *e)
{
    if (s->inner.asking.n > 0 || s->inner.dialect == IAKERB_OLD)
        return sec_defective(e, "a proxied message without a message");
    s->inner.discovered = true;
    if (s->how.acceptor.realm.name.n == 0)
        return answer_error(s, env, KRB_AP_ERR_IAKERB_KDC_NOT_FOUND, out, e);
    s->inner.asking = s->how.acceptor.realm.name;
    return answer(s, sp_span(NULL, 0), out, e);
}

/* RFC 8062: armour is got in this name before anybody's password is tried. */
static bool is_anonymous(const struct krb_name *n)
{
    return n->parts.count == 2 && sp_same(n->parts.v[0], SP_LIT("WELLKNOWN")) &&
           sp_same(n->parts.v[1], SP_LIT("ANONYMOUS"));
}

/* Who guesses passwords needs a new context, which is counted elsewhere, for every user and every few tries.
 */
static bool check_tries(struct sec *s, struct sp_span message, const struct krb_kdc_req *req,
                        struct sp_err *e)
{
    struct krb_kdc_req first;

    if (is_anonymous(&req->body.cname))
        return true;
    if (s->inner.failures >= SEC_FAILURES_MAX)
        return sp_fail(e, SP_EREFUSED, KCTX_UNAUTHORIZED, "pre-authentication failed %d times in one context",
                       SEC_FAILURES_MAX);
    if (s->inner.as_req.n == 0)
        s->inner.as_req = message;
    return krb_get(KRB_AS_REQ, s->inner.as_req, KRB_STRICT, &s->scratch, &first, e) &&
           (krb_same_name(&first.body.cname, &req->body.cname) ||
            sp_fail(e, SP_EREFUSED, KCTX_UNAUTHORIZED, "two users in one context"));
}

/* One whole AS-REQ or TGS-REQ whose realm is that of the KDC it is meant for, and nothing else, leaves here.
 */
static bool carry(struct sec *s, struct sp_env env, struct sp_span message, struct sec_action *out,
                  struct sp_err *e)
{
    struct sp_span realm = find_realm(&s->how.acceptor, s->inner.asking);
    enum krb_type t = krb_sniff(message);
    struct krb_kdc_req req;

    if (t != KRB_AS_REQ && t != KRB_TGS_REQ)
        return sec_defective(e, "the proxied message is no request to a KDC");
    if (!krb_get(t, message, KRB_STRICT, &s->scratch, &req, e))
        return false;
    if (!realm.p || !sp_same(find_realm(&s->how.acceptor, req.body.realm), realm))
        return answer_error(s, env, KRB_AP_ERR_IAKERB_KDC_NOT_FOUND, out, e);
    if (t == KRB_AS_REQ && !check_tries(s, message, &req, e))
        return false;
    s->inner.asked = t;
    s->inner.realm = realm;
    s->inner.state = IAKERB_CARRYING;
    *out = (struct sec_action){.what = SEC_CARRY, .realm = realm, .message = message};
    return true;
}

static bool accept_proxied(struct sec *s, struct sp_env env, struct sp_span token, struct sec_action *out,
                           struct sp_err *e)
{
    struct proxied p = {0};
    struct incoming in;

    if (!remember(&s->inner.tokens, token, &token, e) || !get_incoming(s, token, &in, e) ||
        !get_proxied(s, in.body, &p, e))
        return false;
    if (!is_realm_text(p.header.target_realm))
        return sec_defective(e, "a target-realm that cannot be one");
    s->inner.asking = p.header.target_realm;
    s->inner.flags_now = (p.header.has & HAS_FLAGS) != 0;
    s->inner.flags_seen |= s->inner.flags_now;
    return p.message.n == 0 ? answer_discovery(s, env, out, e) : carry(s, env, p.message, out, e);
}

/* ---- acceptor: what the KDC said ---- */

static bool drop_e_text(struct sec *s, struct krb_error *m, struct sp_span *message, struct sp_err *e)
{
    if (s->how.acceptor.e_text == SEC_E_TEXT_KEEP || !(m->has & HAS_E_TEXT))
        return true;
    m->has &= ~HAS_E_TEXT;
    return krb_make(KRB_ERROR, m, &s->scratch, message, e);
}

static void count_failure(struct sec *s, int32_t code)
{
    s->inner.failures +=
        s->inner.asked == KRB_AS_REQ && (code == KDC_ERR_PREAUTH_FAILED || code == KRB_AP_ERR_BAD_INTEGRITY);
}

static bool is_reply(struct sec *s, struct sp_span *message, struct sp_err *e)
{
    enum krb_type want = s->inner.asked == KRB_AS_REQ ? KRB_AS_REP : KRB_TGS_REP, t = krb_sniff(*message);
    struct krb_kdc_rep rep;
    struct krb_error err;

    if (message->n > SEC_TOKEN_MAX - HEADER_ROOM - REALM_MAX)
        return sp_fail(e, SP_EINPUT, 0, "a KDC's message of %zu bytes", message->n);
    if (t == KRB_ERROR) {
        if (!krb_get(t, *message, KRB_STRICT, &s->scratch, &err, e))
            return false;
        count_failure(s, err.code);
        return drop_e_text(s, &err, message, e);
    }
    return (t == want || sp_fail(e, SP_EINPUT, 0, "no answer of a KDC to this request")) &&
           krb_get(t, *message, KRB_STRICT, &s->scratch, &rep, e);
}

/* What is not a KDC's answer to this request is no answer. */
static bool give_carried(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
                         struct sp_err *e)
{
    struct sp_span message = ev->bytes;
    struct sp_err why = {0};

    if (is_reply(s, &message, &why))
        return answer(s, message, out, e);
    if (why.kind != SP_EINPUT)
        return sp_fail(e, why.kind, why.proto, "%s", why.text);
    return answer_error(s, env, KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE, out, e);
}

static bool give_not_carried(struct sec *s, struct sp_env env, const struct sec_event *ev,
                             struct sec_action *out, struct sp_err *e)
{
    return answer_error(s, env,
                        ev->code == KRB_AP_ERR_IAKERB_KDC_NOT_FOUND ? KRB_AP_ERR_IAKERB_KDC_NOT_FOUND
                                                                    : KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE,
                        out, e);
}

/* ---- acceptor: the AP exchange ---- */

/* Framed as the AP-REQ was: MIT refuses an AP-REP under another OID. */
static bool frame_like(struct sec *s, enum token_mech oid, uint16_t id, struct sp_span body,
                       struct sp_span *out, struct sp_err *e)
{
    *out = body;
    return oid == TOKEN_UNKNOWN || token_make(oid, id, body, &s->scratch, out, e);
}

/* Best effort: the failure itself is what counts. */
static void tell_refusal(struct sec *s, struct sp_env env, enum token_mech oid, const struct sp_err *why,
                         struct sec_action *out)
{
    struct sp_span message;
    struct sp_err e = {0};

    if (!kctx_make_error(env, why, sp_span(NULL, 0), NULL, &s->scratch, &message, &e) ||
        !frame_like(s, oid, TOKEN_KRB_ERROR, message, &out->token, &e))
        out->token = sp_span(NULL, 0);
}

static bool verify_ap_req(struct sec *s, struct sp_env env, const struct incoming *in, struct sp_span *reply,
                          struct sp_err *e)
{
    const struct sec_acceptor *how = &s->how.acceptor;
    struct kctx_accepting a = {.keys = how->keys,
                               .replays = how->replays,
                               .skew_s = how->skew_s,
                               .bindings = how->bindings,
                               .channel = how->channel,
                               .require_bindings = how->require_bindings,
                               .refuse_own = how->own == SEC_OWN_REFUSED,
                               .transcript = covered(&s->inner),
                               .finished_may_lack = how->finished == SEC_FINISHED_OPTIONAL};

    if (!kctx_accept(&s->inner.k, s->crypto, env, &a, in->body, &s->scratch, reply, e))
        return false;
    if (in->oid == TOKEN_UNKNOWN && !(s->inner.k.flags & KCTX_DCE))
        return sec_defective(e, "an AP-REQ without framing, and not in DCE style");
    return true;
}

static bool accept_ap_req(struct sec *s, struct sp_env env, const struct incoming *in, struct sec_action *out,
                          struct sp_err *e)
{
    struct sp_span reply;
    bool dce;

    if (!verify_ap_req(s, env, in, &reply, e)) {
        tell_refusal(s, env, in->oid, e, out);
        return false;
    }
    dce = (s->inner.k.flags & KCTX_DCE) != 0;
    *out = (struct sec_action){.what = dce ? SEC_SEND : SEC_DONE};
    s->inner.state = dce ? IAKERB_THIRD : IAKERB_END;
    return reply.n == 0 || frame_like(s, dce ? TOKEN_UNKNOWN : in->oid, TOKEN_AP_REP, reply, &out->token, e);
}

static bool take_request(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
                         struct sp_err *e)
{
    struct incoming in;

    if (!get_incoming(s, ev->bytes, &in, e))
        return false;
    switch (in.id) {
    case TOKEN_IAKERB_PROXY:
        return accept_proxied(s, env, ev->bytes, out, e);
    case TOKEN_AP_REQ:
        return accept_ap_req(s, env, &in, out, e);
    default:
        return sec_defective(e, "not a token that an initiator sends");
    }
}

static bool take_third(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
                       struct sp_err *e)
{
    struct incoming in;

    if (!get_incoming(s, ev->bytes, &in, e))
        return false;
    if (in.id != TOKEN_AP_REP)
        return sec_defective(e, "the third leg of DCE style is due");
    if (!kctx_accept_third(&s->inner.k, s->crypto, env, in.body, e))
        return false;
    s->inner.state = IAKERB_END;
    *out = (struct sec_action){.what = SEC_DONE};
    return true;
}

/* ---- initiator: the AP exchange ---- */

/* The service's ticket, once it is there: what was given, or what the login got. */
static const struct krb_credential *service_ticket(const struct sec *s)
{
    const struct krb_credential *t = s->how.initiator.ticket;

    if (!t && s->inner.client)
        t = client_service(s->inner.client);
    sp_assert(t);
    return t;
}

/* What of both flags is granted. RFC 5896 3: with the policy's alone, the KDC's word about the service
 * decides. */
static uint32_t delegation_of(const struct sec *s)
{
    uint32_t asked = s->how.initiator.flags, granted = asked & KCTX_DELEG;

    if ((asked & KCTX_DELEG_POLICY) && (service_ticket(s)->flags & KRB_FLAG(TKT_OK_AS_DELEGATE)))
        granted = KCTX_DELEG | KCTX_DELEG_POLICY;
    return granted;
}

static const struct krb_credential *forwarded_tgt(const struct sec *s)
{
    const struct client *f = s->inner.forwarding;

    if (s->how.initiator.forwarded)
        return s->how.initiator.forwarded;
    return f && client_state(f) == CLIENT_DONE ? client_tgt(f) : NULL;
}

/* A token has no room for a ticket of any size; without it the flags tell that nothing was delegated. */
static bool make_cred(struct sec *s, struct sp_env env, struct kctx_ask *ask, struct sp_err *e)
{
    const struct krb_credential *f = forwarded_tgt(s);
    uint32_t granted = delegation_of(s);

    ask->flags = (ask->flags & ~(uint32_t)(KCTX_DELEG | KCTX_DELEG_POLICY)) | granted;
    if (!granted || !f || f->ticket.n + ask->ticket->ticket.n > SEC_TOKEN_MAX - AP_REQ_ROOM)
        return true;
    return kctx_make_cred(s->crypto, env, f, &ask->ticket->key, &s->scratch, &ask->cred, e);
}

static int64_t offset_s(const struct sec *s)
{
    const struct client *last = s->inner.forwarding ? s->inner.forwarding : s->inner.client;

    return last ? client_offset_s(last) : 0;
}

/* Acceptors of Apple and Kerberos.NET want IAKERB's OID here; of Windows, which its header-flags give away,
 * only krb5's is known to work. */
static enum token_mech ap_oid(const struct sec *s)
{
    if (s->how.initiator.flags & KCTX_DCE)
        return TOKEN_UNKNOWN;
    if (s->mech != TOKEN_IAKERB || s->inner.flags_seen || s->how.initiator.krb5_framed_ap_req)
        return TOKEN_KRB5;
    return TOKEN_IAKERB;
}

static bool send_ap_req(struct sec *s, struct sp_env env, struct sec_action *out, struct sp_err *e)
{
    const struct sec_initiator *how = &s->how.initiator;
    struct kctx_ask ask = {.ticket = service_ticket(s),
                           .flags = how->flags,
                           .bindings = how->bindings,
                           .transcript = covered(&s->inner),
                           .offset_s = offset_s(s)};
    struct sp_span message;

    if (!make_cred(s, env, &ask, e) ||
        !kctx_request(&s->inner.k, s->crypto, env, &ask, &s->scratch, &message, e))
        return false;
    s->inner.state = s->inner.k.state == KCTX_READY ? IAKERB_END : IAKERB_ASKED_PEER;
    *out = (struct sec_action){.what = s->inner.k.state == KCTX_READY ? SEC_DONE : SEC_SEND};
    return frame_like(s, ap_oid(s), TOKEN_AP_REQ, message, &out->token, e);
}

static bool take_ap_rep(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
                        struct sp_err *e)
{
    struct incoming in;
    struct sp_span third;

    if (!get_incoming(s, ev->bytes, &in, e))
        return false;
    if (in.id != TOKEN_AP_REP && in.id != TOKEN_KRB_ERROR)
        return sec_defective(e, "the AP-REP is due");
    if (!kctx_take_reply(&s->inner.k, s->crypto, env, in.body, &s->scratch, &third, e))
        return false;
    s->inner.state = IAKERB_END;
    *out = (struct sec_action){.what = SEC_DONE, .token = third};
    return true;
}

/* ---- initiator: proxied messages ---- */

static bool ask_kdc(struct sec *s, const struct client_action *act, struct sec_action *out, struct sp_err *e)
{
    struct outgoing o = {
        .header = {.target_realm = act->realm, .cookie = s->inner.cookie},
          .message = act->request
    };

    o.header.has = o.header.cookie.p ? HAS_COOKIE : 0;
    s->inner.cookie = sp_span(NULL, 0); /* echoed once */
    s->inner.realm = act->realm;
    s->inner.state = IAKERB_ASKED_KDC;
    return send_proxied(s, &o, out, e);
}

/* The TGT of the client's own realm, where a forwarded one is to be had with it and has a use. */
static const struct krb_credential *tgt_to_forward(const struct sec *s)
{
    const struct krb_credential *t =
        s->inner.client ? client_tgt(s->inner.client) : s->how.initiator.wish.tgt;
    bool useful = s->mech == TOKEN_IAKERB && !s->inner.forwarding && !forwarded_tgt(s) && delegation_of(s);

    return useful && t && (t->flags & KRB_FLAG(TKT_FORWARDABLE)) && krb_is_tgs_name(&t->server, t->crealm)
               ? t
               : NULL;
}

static bool start_forwarding(struct sec *s, struct sp_env env, const struct krb_credential *tgt,
                             struct sec_action *out, struct sp_err *e)
{
    struct client_wish w = {.goal = CLIENT_FORWARDED, .tgt = tgt, .offset_s = offset_s(s)};
    struct client_action act;

    return client_start(&s->inner.forwarding, s->crypto, &s->how.initiator.policy, &w, env, &s->client_mem,
                        &act, e) &&
           ask_kdc(s, &act, out, e);
}

/* The service's ticket is there. */
static bool go_on(struct sec *s, struct sp_env env, struct sec_action *out, struct sp_err *e)
{
    const struct krb_credential *t = tgt_to_forward(s);

    return t ? start_forwarding(s, env, t, out, e) : send_ap_req(s, env, out, e);
}

static bool send_request(struct sec *s, struct sp_env env, const struct client_action *act,
                         struct sec_action *out, struct sp_err *e)
{
    return act->done ? go_on(s, env, out, e) : ask_kdc(s, act, out, e);
}

/* Where nobody named a realm: that of a Windows machine's local accounts is its short name in capitals; a
 * machine that is called by its address is ".". */
static bool guess_realm(struct sec *s, struct sp_span *out, struct sp_err *e)
{
    struct sp_span host = s->how.initiator.target_host;
    bool named = false;
    uint8_t *p;
    size_t n = 0;

    while (n < host.n && host.p[n] != '.' && host.p[n] != ':')
        named |= host.p[n] < '0' || host.p[n] > '9', n++;
    if (!named || n > REALM_MAX || (n < host.n && host.p[n] == ':')) {
        *out = SP_LIT(".");
        return true;
    }
    p = sp_alloc(&s->scratch, n, e);
    for (size_t i = 0; p && i < n; i++)
        p[i] = (uint8_t)(host.p[i] >= 'a' && host.p[i] <= 'z' ? host.p[i] - 0x20 : host.p[i]);
    *out = sp_span(p, n);
    return p != NULL;
}

static bool start_client(struct sec *s, struct sp_env env, struct sp_span realm, struct sec_action *out,
                         struct sp_err *e)
{
    const struct sec_initiator *how = &s->how.initiator;
    bool delegates = (how->flags & (KCTX_DELEG | KCTX_DELEG_POLICY)) != 0;
    struct client_wish w = how->wish;
    struct client_policy p = how->policy;
    struct client_action act;

    w.goal = how->service_by_as && !w.tgt && !delegates ? CLIENT_SERVICE_BY_AS : CLIENT_SERVICE;
    w.options |= delegates && !w.tgt ? KRB_FLAG(OPT_FORWARDABLE) : 0;
    w.realm = realm;
    if (realm.n == 0 && !w.tgt) {
        p.adopt_realm = true;
        if (!guess_realm(s, &w.realm, e))
            return false;
    }
    return client_start(&s->inner.client, s->crypto, &p, &w, env, &s->client_mem, &act, e) &&
           send_request(s, env, &act, out, e);
}

static bool send_discovery(struct sec *s, struct sec_action *out, struct sp_err *e)
{
    const struct sec_initiator *how = &s->how.initiator;
    struct outgoing o = {0};

    if (how->wish.realm.n > 0 || how->wish.tgt || how->old_mit != SEC_OLD_MIT_OFF)
        return sp_fail(e, SP_EINPUT, 0,
                       "discovery is for a name without a realm, and not in MIT's old dialect");
    s->inner.discovered = true;
    s->inner.state = IAKERB_ASKED_REALM;
    return send_proxied(s, &o, out, e);
}

static bool initiate(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
                     struct sp_err *e)
{
    const struct sec_initiator *how = &s->how.initiator;
    const struct client_wish *w = &how->wish;

    (void)ev;
    s->inner.dialect = how->old_mit == SEC_OLD_MIT_ACCEPT ? IAKERB_OLD : IAKERB_DRAFT;
    if (how->ticket)
        return go_on(s, env, out, e);
    if (s->mech != TOKEN_IAKERB)
        return sp_fail(e, SP_EREFUSED, KCTX_NO_CRED, "no ticket for this service, and krb5 fetches none");
    if (!w->password.p && w->key_count == 0 && !w->tgt)
        return sp_fail(e, SP_EREFUSED, KCTX_NO_CRED, "neither a ticket nor a password or key to get one");
    return how->discover ? send_discovery(s, out, e) : start_client(s, env, w->realm, out, e);
}

/* The acceptor's own KRB-ERROR, in the open: it ends the context. In a proxied message it would be the KDC's,
 * and the login's to judge. */
static bool refused_openly(struct sec *s, struct sp_span message, struct sp_err *e)
{
    struct krb_error m;

    if (!krb_get(KRB_ERROR, message, KRB_STRICT, &s->scratch, &m, e))
        return false;
    return sp_fail(e, SP_EREFUSED, m.code > 0 ? m.code : KRB_ERR_GENERIC, "the acceptor refused: %s",
                   krb_code_name(m.code));
}

static bool take_header(struct sec *s, const struct krb_iakerb_header *h, struct sp_err *e)
{
    s->inner.flags_seen |= (h->has & HAS_FLAGS) != 0;
    if (!(h->has & HAS_COOKIE))
        return true;
    if (h->cookie.n > SEC_COOKIE_MAX)
        return sp_fail(e, SP_EREFUSED, KRB_ERR_FIELD_TOOLONG, "a cookie of %zu bytes", h->cookie.n);
    s->inner.cookie = h->cookie;
    return true;
}

static bool get_reply(struct sec *s, struct sp_span token, struct proxied *out, struct sp_err *e)
{
    struct incoming in;

    if (!get_incoming(s, token, &in, e))
        return false;
    if (in.id == TOKEN_KRB_ERROR)
        return refused_openly(s, in.body, e);
    if (in.id != TOKEN_IAKERB_PROXY)
        return sec_defective(e, "a proxied reply is due");
    return remember(&s->inner.tokens, token, &token, e) && get_incoming(s, token, &in, e) &&
           get_proxied(s, in.body, out, e) && take_header(s, &out->header, e);
}

/* A KDC that does not forward is no reason to fail: nothing is delegated, and the flags say so. An answer
 * that cannot be trusted is one. */
static bool take_forwarded(struct sec *s, struct sp_env env, struct sp_span reply, struct sec_action *out,
                           struct sp_err *e)
{
    struct client_action act;
    struct sp_err why = {0};

    if (client_reply(s->inner.forwarding, env, reply, &act, &why))
        return act.done ? send_ap_req(s, env, out, e) : ask_kdc(s, &act, out, e);
    if (krb_sniff(reply) == KRB_ERROR && why.kind == SP_EREFUSED)
        return send_ap_req(s, env, out, e);
    return sp_fail_at(e, why.kind, why.proto, why.at, "%s", why.text);
}

/* The realm in the header of a KDC's message says nothing: Windows writes "." whatever it was asked. */
static bool take_proxied(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
                         struct sp_err *e)
{
    struct proxied p = {0};
    struct client_action act;

    if (!get_reply(s, ev->bytes, &p, e))
        return false;
    if (p.message.n == 0)
        return sec_defective(e, "a proxied reply without a message");
    if (s->inner.forwarding)
        return take_forwarded(s, env, p.message, out, e);
    return client_reply(s->inner.client, env, p.message, &act, e) && send_request(s, env, &act, out, e);
}

/* Nobody vouches for the answer: it is the realm of a name that had none, and what may be shown to its KDC is
 * the policy's to say. */
static bool take_realm(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
                       struct sp_err *e)
{
    struct proxied p = {0};
    struct sp_span realm;

    if (!get_reply(s, ev->bytes, &p, e))
        return false;
    if (p.message.n > 0)
        return krb_sniff(p.message) == KRB_ERROR ? refused_openly(s, p.message, e)
                                                 : sec_defective(e, "a message where only a realm is due");
    realm = p.header.target_realm;
    if (!is_realm_text(realm))
        return sec_defective(e, "a target-realm that cannot be one");
    if (realm.n > 0 && !sp_same(realm, SP_LIT(".")))
        return start_client(s, env, realm, out, e);
    if (!s->how.initiator.policy.adopt_realm)
        return sp_fail(e, SP_EREFUSED, KDC_ERR_WRONG_REALM,
                       "the server does not name its realm; give it with the user's name");
    return start_client(s, env, sp_span(NULL, 0), out, e);
}

/* ---- the table of states ---- */

typedef bool step_fn(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
                     struct sp_err *e);

static step_fn *const table[IAKERB_STATES][4] = {
    [IAKERB_START] = {[SEC_START] = initiate      },
    [IAKERB_ASKED_REALM] = {[SEC_TOKEN] = take_realm    },
    [IAKERB_ASKED_KDC] = {[SEC_TOKEN] = take_proxied  },
    [IAKERB_ASKED_PEER] = {[SEC_TOKEN] = take_ap_rep   },
    [IAKERB_LISTEN] = {[SEC_TOKEN] = take_request  },
    [IAKERB_CARRYING] = {[SEC_CARRIED] = give_carried, [SEC_NOT_CARRIED] = give_not_carried},
    [IAKERB_THIRD] = {[SEC_TOKEN] = take_third                           },
    [IAKERB_END] = {0},
};

bool iakerb_is_due(const struct sec *s, enum sec_event_kind kind)
{
    return table[s->inner.state][kind] != NULL;
}

bool iakerb_step(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
                 struct sp_err *e)
{
    step_fn *f = table[s->inner.state][ev->kind];

    return f ? f(s, env, ev, out, e) : sec_defective(e, "a token that is not due");
}
