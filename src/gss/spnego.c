/* SPDX-License-Identifier: MIT */
/* SPNEGO (RFC 4178, MS-SPNG) around a mechanism of ours. Nothing here can choose NTLM or NegoEx: no move of
 * the table leads to them, their tokens are not read, and their OIDs are never written. */
#include "bytes/der.h"
#include "gss/internal.h"

enum neg_state { NEG_COMPLETED, NEG_INCOMPLETE, NEG_REJECT, NEG_REQUEST_MIC, NEG_ABSENT };

/* ---- the decision ---- */

static const struct spnego_row rows[SPNEGO_CAUSES] = {
    [SPNEGO_CANNOT_START] = {"cannot start",     SPNEGO_NEXT,           0,              NULL                                },
    [SPNEGO_NOTHING_STARTS] = {"nothing starts",   SPNEGO_STOP,           KCTX_NO_CRED,
                             "no ticket, password or key for any mechanism"                                                 },
    [SPNEGO_START_FAILED] = {"start failed",     SPNEGO_STOP,           0,              NULL                                },
    [SPNEGO_TOOK_FIRST] = {"took first",       SPNEGO_GO_ON,          0,              NULL                                },
    [SPNEGO_TOOK_FIRST_ASKS] = {"took first, asks", SPNEGO_GO_ON_WITH_MIC, 0,              NULL                                },
    [SPNEGO_TOOK_FIRST_MUTE] = {"took first, mute", SPNEGO_STOP,           KCTX_DEFECTIVE,
                             "the server took our first choice and does not answer its token"                               },
    [SPNEGO_TOOK_ALIAS] = {"took alias",       SPNEGO_GO_ON_WITH_MIC, 0,              NULL                                },
    [SPNEGO_TOOK_OTHER_ASKS] = {"took other, asks", SPNEGO_RESTART,        0,              NULL                                },
    [SPNEGO_TOOK_OTHER] = {"took other",       SPNEGO_STOP,           KCTX_DEFECTIVE,
                             "the server took a later choice and does not want the choice confirmed"                        },
    [SPNEGO_TOOK_UNOFFERED] = {"took unoffered",   SPNEGO_STOP,           KCTX_BAD_MECH,
                             "the server chose a mechanism that was not offered"                                            },
    [SPNEGO_TOOK_NTLM] = {"took NTLM",        SPNEGO_STOP,           KCTX_BAD_MECH,
                             "the server chose NTLM, which was not offered and is not spoken here"                          },
    [SPNEGO_TOOK_NOTHING] = {"took nothing",     SPNEGO_STOP,           KCTX_DEFECTIVE,
                             "the server's first answer names no mechanism"                                                 },
    [SPNEGO_REJECTED] = {"rejected",         SPNEGO_STOP,           KCTX_BAD_MECH,  "the server rejects the negotiation"},
    [SPNEGO_LISTS_FIRST] = {"lists first",      SPNEGO_GO_ON,          0,              NULL                                },
    [SPNEGO_LISTS_LATER] = {"lists later",      SPNEGO_RESTART,        0,              NULL                                },
    [SPNEGO_LISTS_NONE] = {"lists none",       SPNEGO_STOP,           KCTX_BAD_MECH,
                             "the client offers neither IAKERB nor Kerberos"                                                },
    [SPNEGO_UNREADABLE] = {"unreadable",       SPNEGO_STOP,           KCTX_DEFECTIVE, NULL                                },
    [SPNEGO_MECH_FAILED] = {"mechanism failed", SPNEGO_STOP,           0,              NULL                                },
    [SPNEGO_MIC_WRONG] = {"MIC wrong",        SPNEGO_STOP,           KCTX_BAD_SIG,
                             "the list of mechanisms was changed on the way (mechListMIC)"                                  },
    [SPNEGO_MIC_MISSING] = {"MIC missing",      SPNEGO_STOP,           KCTX_BAD_SIG,
                             "the list of mechanisms is not confirmed (mechListMIC)"                                        },
};

const struct spnego_row *spnego_row(enum spnego_cause cause)
{
    return &rows[cause];
}

/* Fails as the row says; a failure that is noted already stays. Always false. */
static bool stop(enum spnego_cause cause, struct sp_err *e)
{
    const struct spnego_row *r = &rows[cause];

    return sp_fail(e, r->proto == KCTX_DEFECTIVE ? SP_EINPUT : SP_EREFUSED, r->proto, "%s",
                   r->text ? r->text : r->name);
}

static bool unreadable(struct sp_err *e, const char *what)
{
    return sp_fail(e, SP_EINPUT, rows[SPNEGO_UNREADABLE].proto, "SPNEGO: %s", what);
}

/* ---- reading ---- */

struct neg_fields { /* of NegTokenInit, NegTokenInit2 or NegTokenResp, by context tag; whole elements */
    struct sp_span v[5];
};

/* Fields in order of their tags; those with higher tags than we know are skipped (extension marker). */
static bool get_fields(struct sp_cur *c, struct neg_fields *out, struct sp_err *e)
{
    const uint8_t *outer, *field;
    int last = -1;

    if (!sp_der_enter(c, DER_SEQUENCE, "negotiation token", &outer))
        return false;
    while (sp_left(c) > 0) {
        uint8_t tag = c->p[0];
        int n = tag - DER_CONTEXT;
        struct sp_span whole;

        if (n <= last || n > 30)
            return unreadable(e, "fields out of order");
        if (!sp_der_enter(c, tag, "field", &field) || !sp_der_any(c, "field", &whole) ||
            !sp_der_leave(c, "field", field))
            return false;
        if (n < 5)
            out->v[n] = whole;
        last = n;
    }
    return sp_der_leave(c, "negotiation token", outer);
}

static bool get_choice(struct sp_span in, uint8_t tag, struct neg_fields *out, struct sp_err *e)
{
    struct sp_cur c = sp_cur_of(in, e);
    const uint8_t *outer;

    return sp_der_enter(&c, tag, "negotiation token", &outer) && get_fields(&c, out, e) &&
           sp_der_leave(&c, "negotiation token", outer) && sp_cur_done(&c, "negotiation token");
}

/* An absent field is an empty span, and so is a present one of no bytes. */
static bool get_value(struct sp_span field, uint8_t tag, struct sp_span *out, struct sp_err *e)
{
    struct sp_cur c = sp_cur_of(field, e);

    *out = sp_span(NULL, 0);
    return field.n == 0 || (sp_der_get(&c, tag, "field", out) && sp_cur_done(&c, "field"));
}

struct neg_init {
    struct sp_span list; /* MechTypeList, whole */
    struct sp_span token, mic;
};

/* [3] is a MIC, or the hints of NegTokenInit2, which has the MIC in [4] and whose hints say nothing. */
static bool get_init(struct sp_span in, struct neg_init *out, struct sp_err *e)
{
    struct neg_fields f = {0};
    struct neg_init v = {0};
    bool hints;

    if (!get_choice(in, DER_CONTEXT | 0, &f, e))
        return false;
    hints = f.v[3].n > 0 && f.v[3].p[0] == DER_SEQUENCE;
    v.list = f.v[0];
    if (!get_value(f.v[2], DER_OCTET_STRING, &v.token, e) ||
        !get_value(hints ? f.v[4] : f.v[3], DER_OCTET_STRING, &v.mic, e))
        return false;
    *out = v;
    return true;
}

struct neg_resp {
    enum neg_state state;
    bool has_mech;
    enum token_mech mech;
    struct sp_span token, mic;
};

static bool get_state(struct sp_span field, enum neg_state *out, struct sp_err *e)
{
    struct sp_span v;

    *out = NEG_ABSENT;
    if (!get_value(field, DER_ENUMERATED, &v, e))
        return false;
    if (field.n == 0)
        return true;
    if (v.n != 1 || v.p[0] > NEG_REQUEST_MIC)
        return unreadable(e, "negState");
    *out = (enum neg_state)v.p[0];
    return true;
}

static bool get_resp(struct sp_span in, struct neg_resp *out, struct sp_err *e)
{
    struct neg_fields f = {0};
    struct neg_resp v = {0};
    struct sp_span oid;

    if (!get_choice(in, DER_CONTEXT | 1, &f, e) || !get_state(f.v[0], &v.state, e) ||
        !get_value(f.v[1], DER_OID, &oid, e) || !get_value(f.v[2], DER_OCTET_STRING, &v.token, e) ||
        !get_value(f.v[3], DER_OCTET_STRING, &v.mic, e))
        return false;
    v.has_mech = f.v[1].n > 0;
    v.mech = token_mech_of(oid);
    *out = v;
    return true;
}

bool spnego_is_farewell(struct sp_span token)
{
    struct sp_err e = {0};
    struct neg_resp r;

    return get_resp(token, &r, &e) && r.state == NEG_COMPLETED && r.token.n == 0 && r.mic.n == 0;
}

/* ---- writing ---- */

static void put_field(struct sp_emit *o, uint8_t number, uint8_t tag, struct sp_span content)
{
    size_t mark = o->n;

    sp_put_der(o, tag, content);
    sp_put_der_head(o, DER_CONTEXT | number, mark);
}

static bool make_resp(struct sec *s, const struct neg_resp *r, struct sp_span *out, struct sp_err *e)
{
    size_t n = 80 + r->token.n + r->mic.n;
    uint8_t *p = sp_alloc(&s->scratch, n, e), state = (uint8_t)r->state;
    struct sp_emit o = sp_emit_to(p, n, e);

    if (!p)
        return false;
    if (r->mic.n)
        put_field(&o, 3, DER_OCTET_STRING, r->mic);
    if (r->token.n)
        put_field(&o, 2, DER_OCTET_STRING, r->token);
    if (r->has_mech)
        put_field(&o, 1, DER_OID, token_oid(r->mech));
    put_field(&o, 0, DER_ENUMERATED, sp_span(&state, 1));
    sp_put_der_head(&o, DER_SEQUENCE, 0);
    sp_put_der_head(&o, DER_CONTEXT | 1, 0);
    return sp_put_done(&o, out);
}

static bool make_init(struct sec *s, struct sp_span list, struct sp_span token, struct sp_span hints,
                      struct sp_span *out, struct sp_err *e)
{
    size_t n = 64 + list.n + token.n + hints.n, mark;
    uint8_t *p = sp_alloc(&s->scratch, n, e);
    struct sp_emit o = sp_emit_to(p, n, e);
    struct sp_span body;

    if (!p)
        return false;
    if (hints.n) {
        mark = o.n;
        sp_put_bytes(&o, hints);
        sp_put_der_head(&o, DER_CONTEXT | 3, mark);
    }
    if (token.n)
        put_field(&o, 2, DER_OCTET_STRING, token);
    mark = o.n;
    sp_put_bytes(&o, list);
    sp_put_der_head(&o, DER_CONTEXT | 0, mark);
    sp_put_der_head(&o, DER_SEQUENCE, 0);
    sp_put_der_head(&o, DER_CONTEXT | 0, 0);
    return sp_put_done(&o, &body) && token_make(TOKEN_SPNEGO, TOKEN_NO_ID, body, &s->scratch, out, e);
}

static bool put_list(struct spnego *n, const enum token_mech *mechs, uint32_t count, struct sp_err *e)
{
    struct sp_emit o = sp_emit_to(n->list, sizeof n->list, e);
    struct sp_span out;

    for (uint32_t i = count; i > 0; i--)
        sp_put_der(&o, DER_OID, token_oid(mechs[i - 1]));
    sp_put_der_head(&o, DER_SEQUENCE, 0);
    if (!sp_put_done(&o, &out))
        return false;
    memmove(n->list, out.p, out.n);
    n->list_n = out.n;
    return true;
}

/* ---- the MIC over the list, 5 ---- */

static struct sp_span list_of(const struct sec *s)
{
    return sp_span(s->negotiation.list, s->negotiation.list_n);
}

static bool make_mic(struct sec *s, struct sp_span *out, struct sp_err *e)
{
    struct sp_span list = list_of(s);
    uint8_t *p = sp_alloc(&s->scratch, KCTX_MIC_MAX, e);
    size_t n = KCTX_MIC_MAX;

    if (!p || !kctx_get_mic(&s->inner.k, s->crypto, &list, 1, p, &n, e))
        return false;
    s->negotiation.sent_mic = true;
    *out = sp_span(p, n);
    return true;
}

/* MIT counts this MIC among the messages, Windows does not and numbers it 0: its number is used up only when
 * it is the one that is due. */
static bool verify_mic(struct sec *s, struct sp_span mic, struct sp_err *e)
{
    struct sp_span list = list_of(s);
    struct sp_err why = {0};
    struct sp_cur c = sp_cur_of(mic, &why);
    bool good = false, ok;

    sp_skip(&c, 8, "header");
    if (sp_get_be64(&c, "SND_SEQ") == s->inner.k.recv_seq && sp_ok(&why))
        ok = kctx_verify_mic(&s->inner.k, s->crypto, &list, 1, mic, &good, &why);
    else
        ok = sp_ok(&why) && kctx_verify_list_mic(&s->inner.k, s->crypto, list, mic, &why);
    s->negotiation.got_mic |= ok;
    return ok || stop(SPNEGO_MIC_WRONG, e);
}

static bool several_rounds(const struct sec *s)
{
    return s->from_client + (s->role == SEC_INITIATOR) > 1;
}

/* ---- acceptor ---- */

static bool is_ours(enum token_mech m)
{
    return m == TOKEN_IAKERB || m == TOKEN_KRB5 || m == TOKEN_MS_KRB5;
}

/* The initiator's first that is one of ours; names of mechanisms are compared, their tokens never read. */
static bool choose(struct sec *s, struct sp_span list, enum spnego_cause *cause, struct sp_err *e)
{
    struct sp_cur c = sp_cur_of(list, e);
    const uint8_t *outer;
    struct sp_span oid;
    uint32_t count = 0;

    *cause = SPNEGO_LISTS_NONE;
    if (list.n == 0 || list.n > SPNEGO_LIST_MAX)
        return unreadable(e, "no list of mechanisms, or one that is too long");
    if (!sp_der_enter(&c, DER_SEQUENCE, "mechTypes", &outer))
        return false;
    while (sp_left(&c) > 0) {
        if (!sp_der_get(&c, DER_OID, "mechType", &oid))
            return false;
        if (*cause == SPNEGO_LISTS_NONE && is_ours(token_mech_of(oid))) {
            s->mech = token_mech_of(oid);
            *cause = count ? SPNEGO_LISTS_LATER : SPNEGO_LISTS_FIRST;
        }
        if (++count > SPNEGO_MECHS_MAX)
            return unreadable(e, "too many mechanisms");
    }
    memcpy(s->negotiation.list, list.p, list.n);
    s->negotiation.list_n = list.n;
    return count > 0 || unreadable(e, "an empty list of mechanisms");
}

static bool reply(struct sec *s, enum sec_do what, struct neg_resp *r, struct sec_action *out,
                  struct sp_err *e)
{
    r->has_mech = !s->negotiation.answered;
    r->mech = s->mech;
    s->negotiation.answered = true;
    *out = (struct sec_action){.what = what};
    return make_resp(s, r, &out->token, e);
}

/* The mechanism is established: now, does the list have to be confirmed? Always when it decided something,
 * or the peer asks; and, unless configured otherwise, whenever it costs no more than bytes: Windows and Samba
 * insist on it as well (MS-SPNG <8>). */
static bool confirm(struct sec *s, struct sp_span token, struct sp_span mic, struct sec_action *out,
                    struct sp_err *e)
{
    struct spnego *n = &s->negotiation;
    bool able = (s->inner.k.flags & KCTX_INTEG) != 0;
    struct neg_resp r = {.state = NEG_COMPLETED, .token = token};

    n->inner_done = true;
    if (mic.n && !verify_mic(s, mic, e))
        return false;
    if (n->want_mic && !able)
        return stop(SPNEGO_MIC_MISSING, e);
    n->want_mic |= able && several_rounds(s) && s->how.acceptor.list_mic == SEC_MIC_STRICT;
    if (!n->want_mic && !n->got_mic)
        return reply(s, SEC_DONE, &r, out, e);
    if (!make_mic(s, &r.mic, e))
        return false;
    r.state = n->got_mic ? NEG_COMPLETED : NEG_INCOMPLETE;
    return reply(s, n->got_mic ? SEC_DONE : SEC_SEND, &r, out, e);
}

/* The mechanism's step, and its outcome in SPNEGO's words. */
static bool accept_step(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sp_span mic,
                        struct sec_action *out, struct sp_err *e)
{
    struct neg_resp r = {.state = NEG_INCOMPLETE};

    if (!iakerb_step(s, env, ev, out, e))
        return stop(SPNEGO_MECH_FAILED, e);
    if (out->what == SEC_DONE)
        return confirm(s, out->token, mic, out, e);
    if (mic.n)
        return unreadable(e, "a mechListMIC before the mechanism is established");
    r.token = out->token;
    return out->what == SEC_CARRY || reply(s, SEC_SEND, &r, out, e);
}

static bool accept_first(struct sec *s, struct sp_env env, struct sp_span in, struct sec_action *out,
                         struct sp_err *e)
{
    struct token t;
    struct neg_init init;
    struct neg_resp r = {.state = NEG_INCOMPLETE};
    enum spnego_cause cause;

    if (!token_get(in, &t, e))
        return false;
    if (t.mech != TOKEN_SPNEGO)
        return unreadable(e, "a token of another mechanism");
    if (!get_init(t.body, &init, e) || !choose(s, init.list, &cause, e))
        return false;
    switch (rows[cause].move) {
    case SPNEGO_GO_ON:
        if (init.token.n)
            return accept_step(s, env, &(struct sec_event){.kind = SEC_TOKEN, .bytes = init.token}, init.mic,
                               out, e);
        return reply(s, SEC_SEND, &r, out, e);
    case SPNEGO_RESTART: /* the token is the first choice's: not ours to read */
        s->negotiation.want_mic = true;
        r.state = NEG_REQUEST_MIC;
        return reply(s, SEC_SEND, &r, out, e);
    case SPNEGO_GO_ON_WITH_MIC:
    case SPNEGO_NEXT:
    case SPNEGO_STOP:
        break;
    }
    return stop(cause, e);
}

/* Established on our side: all that is missing is the initiator's MIC. */
static bool accept_mic(struct sec *s, const struct neg_resp *in, struct sec_action *out, struct sp_err *e)
{
    struct neg_resp r = {.state = NEG_COMPLETED};

    if (in->token.n)
        return unreadable(e, "a token for a mechanism that is established");
    if (!in->mic.n)
        return stop(SPNEGO_MIC_MISSING, e);
    if (!verify_mic(s, in->mic, e))
        return false;
    *out = (struct sec_action){.what = SEC_DONE};
    /* An initiator that says it is done wants to hear no more; Windows' does not say so, and does. */
    return in->state == NEG_COMPLETED || reply(s, SEC_DONE, &r, out, e);
}

static bool accept_later(struct sec *s, struct sp_env env, struct sp_span in, struct sec_action *out,
                         struct sp_err *e)
{
    struct neg_resp r;

    if (!get_resp(in, &r, e))
        return false;
    if (r.has_mech)
        return unreadable(e, "supportedMech from an initiator");
    if (r.state == NEG_REJECT)
        return stop(SPNEGO_REJECTED, e);
    if (s->negotiation.inner_done)
        return accept_mic(s, &r, out, e);
    return accept_step(s, env, &(struct sec_event){.kind = SEC_TOKEN, .bytes = r.token}, r.mic, out, e);
}

/* NegTokenInit2 (MS-SPNG 2.2.1), for a server that speaks first. */
static bool greet(struct sec *s, struct sec_action *out, struct sp_err *e)
{
    static const enum token_mech mechs[] = {TOKEN_MS_KRB5, TOKEN_KRB5, TOKEN_IAKERB};
    const struct sp_span name = SP_LIT("not_defined_in_RFC4178@please_ignore");
    struct sp_emit o;
    uint8_t p[64];
    struct sp_span hints;

    o = sp_emit_to(p, sizeof p, e);
    put_field(&o, 0, DER_STRING, name);
    sp_put_der_head(&o, DER_SEQUENCE, 0);
    *out = (struct sec_action){.what = SEC_SEND};
    return sp_put_done(&o, &hints) && put_list(&s->negotiation, mechs, sizeof mechs / sizeof mechs[0], e) &&
           make_init(s, list_of(s), sp_span(NULL, 0), hints, &out->token, e);
}

/* Once the list was read, a failure has a shape: reject, with what the mechanism has to say. */
static void tell_reject(struct sec *s, struct sec_action *out)
{
    struct neg_resp r = {.state = NEG_REJECT, .token = out->token};
    struct sp_err e = {0};

    if (s->mech == TOKEN_UNKNOWN && s->negotiation.list_n == 0)
        return;
    if (!make_resp(s, &r, &out->token, &e))
        out->token = sp_span(NULL, 0);
}

static bool accept(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
                   struct sp_err *e)
{
    bool ok;

    if (ev->kind == SEC_START)
        return greet(s, out, e);
    if (ev->kind != SEC_TOKEN)
        ok = accept_step(s, env, ev, sp_span(NULL, 0), out, e);
    else if (s->mech == TOKEN_UNKNOWN)
        ok = accept_first(s, env, ev->bytes, out, e);
    else
        ok = accept_later(s, env, ev->bytes, out, e);
    if (!ok)
        tell_reject(s, out);
    return ok;
}

/* ---- initiator ---- */

static bool can_start(const struct sec *s, enum token_mech m)
{
    const struct sec_initiator *how = &s->how.initiator;
    const struct client_wish *w = &how->wish;

    return how->ticket || (m == TOKEN_IAKERB && (w->password.p || w->key_count > 0 || w->tgt));
}

static bool was_offered(const struct spnego *n, enum token_mech m)
{
    for (uint32_t i = 0; i < n->offered_count; i++)
        if (n->offered[i] == m)
            return true;
    return false;
}

/* Offered is what could be gone through with. */
static bool offer(struct sec *s, struct sp_err *e)
{
    struct spnego *n = &s->negotiation;

    for (uint32_t i = 0; i < s->how.initiator.mech_count; i++) {
        enum token_mech m = s->how.initiator.mechs[i];

        if (!can_start(s, m) && rows[SPNEGO_CANNOT_START].move == SPNEGO_NEXT)
            continue;
        if (!was_offered(n, m))
            n->offered[n->offered_count++] = m;
    }
    if (n->offered_count == 0)
        return stop(SPNEGO_NOTHING_STARTS, e);
    s->mech = n->offered[0];
    return put_list(n, n->offered, n->offered_count, e);
}

static bool start_mech(struct sec *s, struct sp_env env, struct sec_action *out, struct sp_err *e)
{
    if (!iakerb_step(s, env, &(struct sec_event){.kind = SEC_START}, out, e))
        return stop(SPNEGO_START_FAILED, e);
    s->negotiation.inner_done = out->what == SEC_DONE;
    return true;
}

static bool initiate(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
                     struct sp_err *e)
{
    struct token t;
    struct neg_init hint;

    /* A server's own list is not protected by anything: it is read, and changes nothing. */
    if (ev->kind == SEC_TOKEN) {
        if (!token_get(ev->bytes, &t, e))
            return false;
        if (t.mech != TOKEN_SPNEGO)
            return unreadable(e, "a token of another mechanism");
        if (!get_init(t.body, &hint, e))
            return false;
    }
    if (!offer(s, e) || !start_mech(s, env, out, e))
        return false;
    out->what = SEC_SEND; /* whatever the mechanism thinks: the acceptor has to agree */
    return make_init(s, list_of(s), out->token, sp_span(NULL, 0), &out->token, e);
}

static bool is_alias(enum token_mech a, enum token_mech b)
{
    return (a == TOKEN_KRB5 && b == TOKEN_MS_KRB5) || (a == TOKEN_MS_KRB5 && b == TOKEN_KRB5);
}

static enum spnego_cause judge_first(const struct sec *s, const struct neg_resp *r)
{
    const struct spnego *n = &s->negotiation;
    bool mute = r->token.n == 0 && !n->inner_done;

    if (r->state == NEG_REJECT)
        return SPNEGO_REJECTED;
    if (!r->has_mech)
        return SPNEGO_TOOK_NOTHING;
    if (r->mech == TOKEN_NTLMSSP)
        return SPNEGO_TOOK_NTLM;
    if (!is_ours(r->mech) || !was_offered(n, r->mech))
        return SPNEGO_TOOK_UNOFFERED;
    if (r->mech == s->mech && mute)
        return SPNEGO_TOOK_FIRST_MUTE;
    if (r->mech == s->mech)
        return r->state == NEG_REQUEST_MIC ? SPNEGO_TOOK_FIRST_ASKS : SPNEGO_TOOK_FIRST;
    if (is_alias(r->mech, s->mech) && !mute)
        return SPNEGO_TOOK_ALIAS;
    return r->state == NEG_REQUEST_MIC && r->token.n == 0 ? SPNEGO_TOOK_OTHER_ASKS : SPNEGO_TOOK_OTHER;
}

/* What we send once the mechanism is there, or on its way. */
static bool respond(struct sec *s, enum sec_do what, enum neg_state state, struct sp_span token,
                    struct sec_action *out, struct sp_err *e)
{
    struct spnego *n = &s->negotiation;
    struct neg_resp r = {.state = state, .token = token};

    *out = (struct sec_action){.what = what};
    if (n->inner_done && !n->sent_mic && !make_mic(s, &r.mic, e))
        return false;
    return make_resp(s, &r, &out->token, e);
}

/* The mechanism is established on our side. A server that is done as well has nothing to be told; any other
 * gets our MIC, which Windows and Samba wait for. */
static bool conclude(struct sec *s, const struct neg_resp *in, struct sp_span token, struct sec_action *out,
                     struct sp_err *e)
{
    struct spnego *n = &s->negotiation;

    if (in->mic.n && !verify_mic(s, in->mic, e))
        return false;
    if (in->state == NEG_COMPLETED) {
        if (token.n)
            return unreadable(e, "the server is done, and the mechanism is not");
        if (n->want_mic && !n->got_mic)
            return stop(SPNEGO_MIC_MISSING, e);
        *out = (struct sec_action){.what = SEC_DONE};
        return true;
    }
    if (n->sent_mic) /* it was told everything, and is not done */
        return n->got_mic ? unreadable(e, "the server goes on when everything was said")
                          : stop(SPNEGO_MIC_MISSING, e);
    return respond(s, n->got_mic ? SEC_DONE : SEC_SEND, NEG_COMPLETED, token, out, e);
}

static bool go_on(struct sec *s, struct sp_env env, const struct neg_resp *r, struct sec_action *out,
                  struct sp_err *e)
{
    struct spnego *n = &s->negotiation;

    if (n->inner_done)
        return r->token.n ? unreadable(e, "a token for a mechanism that is established")
                          : conclude(s, r, sp_span(NULL, 0), out, e);
    if (!iakerb_step(s, env, &(struct sec_event){.kind = SEC_TOKEN, .bytes = r->token}, out, e))
        return stop(SPNEGO_MECH_FAILED, e);
    n->inner_done = out->what == SEC_DONE;
    if (n->inner_done && (out->token.n == 0 || r->state == NEG_COMPLETED || r->mic.n))
        return conclude(s, r, out->token, out, e);
    if (r->state == NEG_COMPLETED || r->mic.n)
        return unreadable(e, "the server is done, and the mechanism is not");
    return respond(s, SEC_SEND, NEG_INCOMPLETE, out->token, out, e);
}

static bool restart(struct sec *s, struct sp_env env, enum token_mech m, struct sec_action *out,
                    struct sp_err *e)
{
    s->negotiation.inner_done = false;
    s->negotiation.want_mic = true;
    iakerb_restart(s);
    s->mech = m;
    return start_mech(s, env, out, e) && respond(s, SEC_SEND, NEG_INCOMPLETE, out->token, out, e);
}

/* What the mechanism has to say about it is better than "reject". */
static bool rejected(struct sec *s, struct sp_env env, const struct neg_resp *r, struct sp_err *e)
{
    struct sec_action none;

    if (r->token.n && !s->negotiation.inner_done &&
        !iakerb_step(s, env, &(struct sec_event){.kind = SEC_TOKEN, .bytes = r->token}, &none, e))
        return false;
    return stop(SPNEGO_REJECTED, e);
}

static bool take_reply(struct sec *s, struct sp_env env, struct sp_span in, struct sec_action *out,
                       struct sp_err *e)
{
    struct neg_resp r;
    enum spnego_cause cause = SPNEGO_TOOK_FIRST;

    if (!get_resp(in, &r, e))
        return false;
    if (r.state == NEG_REJECT)
        return rejected(s, env, &r, e);
    if (!s->negotiation.answered) /* MS-SPNG 3.3.5: a later supportedMech is not looked at */
        cause = judge_first(s, &r);
    s->negotiation.answered = true;
    switch (rows[cause].move) {
    case SPNEGO_GO_ON_WITH_MIC:
        s->negotiation.want_mic = true;
        return go_on(s, env, &r, out, e);
    case SPNEGO_GO_ON:
        return go_on(s, env, &r, out, e);
    case SPNEGO_RESTART:
        return restart(s, env, r.mech, out, e);
    case SPNEGO_NEXT:
    case SPNEGO_STOP:
        break;
    }
    return stop(cause, e);
}

bool spnego_step(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
                 struct sp_err *e)
{
    if (s->role == SEC_ACCEPTOR)
        return accept(s, env, ev, out, e);
    return s->negotiation.list_n == 0 ? initiate(s, env, ev, out, e) : take_reply(s, env, ev->bytes, out, e);
}
