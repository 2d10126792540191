/* SPDX-License-Identifier: MIT */
/* The front of every security context: what may come when, how much of it, and what can be asked. */
#include "base/secret.h"
#include "gss/internal.h"

#define EVENT_KINDS 4

bool sec_defective(struct sp_err *e, const char *what)
{
    return sp_fail(e, SP_EINPUT, KCTX_DEFECTIVE, "%s", what);
}

/* ---- the life of the object ---- */

/* The transcript takes the arena's end as it is: an arena's own allocation would write zeros over all of it.
 * An arena that is smaller than it should be gets a share of every part. */
static bool make(struct sec **out, enum sec_role role, struct crypto *c, struct sp_arena *mem,
                 struct sp_err *e)
{
    struct sec *s = sp_new(mem, struct sec, e);
    size_t left = mem->max - mem->used, tokens = left / 8 * 3, login;
    uint8_t *p = mem->p + mem->used;

    if (!s)
        return false;
    tokens = tokens > SEC_TRANSCRIPT_MAX ? SEC_TRANSCRIPT_MAX : tokens;
    login = role == SEC_INITIATOR ? (left - tokens) / 2 : 0;
    s->role = role;
    s->crypto = c;
    s->mech = TOKEN_UNKNOWN;
    sp_arena_init(&s->client_mem, p, login);
    sp_arena_init(&s->scratch, p + login, left - tokens - login);
    s->inner.tokens = (struct transcript){.p = mem->p + mem->max - tokens, .max = tokens};
    *out = s;
    return true;
}

static bool contradiction(struct sp_err *e, const char *text)
{
    return sp_fail(e, SP_EINPUT, 0, "%s", text);
}

bool sec_new_initiator(struct sec **s, struct crypto *c, const struct sec_initiator *how,
                       struct sp_arena *mem, struct sp_err *e)
{
    *s = NULL;
    if (how->mech_count == 0 || how->mech_count > sizeof how->mechs / sizeof how->mechs[0] ||
        (!how->spnego && how->mech_count > 1))
        return contradiction(e, "one mechanism, or up to four with SPNEGO, are needed");
    for (uint32_t i = 0; i < how->mech_count; i++)
        if (how->mechs[i] != TOKEN_IAKERB && how->mechs[i] != TOKEN_KRB5 && how->mechs[i] != TOKEN_MS_KRB5)
            return contradiction(e, "a mechanism that is not ours");
    if (!make(s, SEC_INITIATOR, c, mem, e))
        return false;
    (*s)->how.initiator = *how;
    (*s)->spnego = how->spnego;
    (*s)->mech = how->mechs[0];
    iakerb_restart(*s);
    return true;
}

bool sec_new_acceptor(struct sec **s, struct crypto *c, const struct sec_acceptor *how, struct sp_arena *mem,
                      struct sp_err *e)
{
    *s = NULL;
    if (!how->keys)
        return contradiction(e, "an acceptor needs keys");
    if (!make(s, SEC_ACCEPTOR, c, mem, e))
        return false;
    (*s)->how.acceptor = *how;
    iakerb_restart(*s);
    return true;
}

/* What could be of use to whoever reads this memory later. */
static void forget(struct sec *s)
{
    size_t used = s->inner.tokens.n;

    kctx_wipe(&s->inner.k);
    client_wipe(s->inner.client);
    client_wipe(s->inner.forwarding);
    sp_arena_reset(&s->client_mem);
    sp_wipe(s->inner.tokens.p, used);
    s->inner.tokens.n = 0;
    s->inner.client = s->inner.forwarding = NULL;
    s->inner.realm = s->inner.cookie = s->inner.asking = s->inner.as_req = sp_span(NULL, 0);
}

void sec_wipe(struct sec *s)
{
    if (!s)
        return;
    forget(s);
    sp_arena_reset(&s->scratch);
    sp_wipe(&s->how, sizeof s->how);
    s->done = false;
    s->failed = true;
}

/* ---- one step ---- */

/* The mechanism of an acceptor that was not told one shows in the first token. */
static bool find_mech(struct sec *s, struct sp_span first, struct sp_err *e)
{
    struct sp_err why = {0};
    struct token t = {.mech = TOKEN_UNKNOWN};
    bool framed = token_get(first, &t, &why);

    if (framed && t.mech == TOKEN_SPNEGO) {
        s->spnego = true;
        return true;
    }
    if (s->how.acceptor.spnego_only)
        return sec_defective(e, "not a SPNEGO token, and no other is wanted");
    if (framed && (t.mech == TOKEN_IAKERB || t.mech == TOKEN_KRB5 || t.mech == TOKEN_MS_KRB5))
        s->mech = t.mech;
    else if (krb_sniff(first) == KRB_AP_REQ) /* DCE style */
        s->mech = TOKEN_KRB5;
    else
        return framed ? sp_fail(e, SP_EREFUSED, KCTX_BAD_MECH, "%s is not a mechanism of ours",
                                token_mech_name(t.mech))
                      : sec_defective(e, why.text);
    return true;
}

static bool is_due(const struct sec *s, enum sec_event_kind kind)
{
    if ((unsigned)kind >= EVENT_KINDS)
        return false;
    if (!s->begun && s->role == SEC_ACCEPTOR) /* SPNEGO lets the acceptor speak first */
        return kind == SEC_TOKEN || kind == SEC_START;
    if (!s->begun && s->spnego && kind == SEC_TOKEN)
        return true;
    if (s->spnego && kind == SEC_TOKEN) /* only a request on its way holds it up */
        return s->inner.state != IAKERB_CARRYING;
    return iakerb_is_due(s, kind);
}

/* Decision 25. */
static bool count_in(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sp_err *e)
{
    if (ev->kind == SEC_TOKEN) {
        s->bytes += ev->bytes.n;
        s->from_client += s->role == SEC_ACCEPTOR;
    }
    if (s->began_us == 0)
        s->began_us = env.mono_us ? env.mono_us : 1;
    if (env.mono_us - s->began_us > SEC_LIFE_US)
        return sp_fail(e, SP_EREFUSED, KCTX_UNAUTHORIZED, "not established after %d s",
                       (int)(SEC_LIFE_US / 1000000));
    if (ev->kind == SEC_TOKEN && ev->bytes.n > SEC_TOKEN_MAX)
        return sp_fail(e, SP_EREFUSED, KRB_ERR_FIELD_TOOLONG, "a token of %zu bytes", ev->bytes.n);
    return true;
}

static bool check_counts(const struct sec *s, struct sp_err *e)
{
    if (s->from_client > SEC_MESSAGES_MAX)
        return sp_fail(e, SP_EREFUSED, KCTX_UNAUTHORIZED, "more than %d messages from the client",
                       SEC_MESSAGES_MAX);
    if (s->bytes > SEC_TRANSCRIPT_MAX)
        return sp_fail(e, SP_EREFUSED, KCTX_UNAUTHORIZED, "more than %d bytes of tokens", SEC_TRANSCRIPT_MAX);
    return true;
}

static bool count_out(struct sec *s, const struct sec_action *out, struct sp_err *e)
{
    if (out->what == SEC_CARRY || out->token.n == 0)
        return true;
    s->bytes += out->token.n;
    s->from_client += s->role == SEC_INITIATOR;
    return check_counts(s, e);
}

static bool step(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
                 struct sp_err *e)
{
    bool first = !s->begun;

    s->begun = true;
    if (!count_in(s, env, ev, e) || !check_counts(s, e))
        return false;
    if (s->role == SEC_ACCEPTOR && first && ev->kind == SEC_START)
        s->spnego = true;
    if (s->role == SEC_ACCEPTOR && s->mech == TOKEN_UNKNOWN && !s->spnego && !find_mech(s, ev->bytes, e))
        return false;
    return (s->spnego ? spnego_step(s, env, ev, out, e) : iakerb_step(s, env, ev, out, e)) &&
           count_out(s, out, e);
}

/* SMB carries the acceptor's last word to an initiator that is done already. */
static bool after_the_end(const struct sec *s, const struct sec_event *ev, struct sec_action *out,
                          struct sp_err *e)
{
    if (s->spnego && s->role == SEC_INITIATOR && ev->kind == SEC_TOKEN && spnego_is_farewell(ev->bytes)) {
        *out = (struct sec_action){.what = SEC_DONE};
        return true;
    }
    return sp_fail(e, SP_EREFUSED, KCTX_DEFECTIVE, "a token for a context that is established");
}

bool sec_step(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
              struct sp_err *e)
{
    *out = (struct sec_action){0};
    if (s->failed)
        return sp_fail(e, SP_EREFUSED, KCTX_NO_CONTEXT, "this context has failed");
    if (s->done)
        return after_the_end(s, ev, out, e);
    if (!is_due(s, ev->kind))
        return sp_fail(e, SP_EREFUSED, KCTX_NO_CONTEXT, "this event is not due");
    if (s->inner.k.state == KCTX_NEW) /* a delegated credential lies in there from then on */
        sp_arena_reset(&s->scratch);
    if (step(s, env, ev, out, e)) {
        s->done = out->what == SEC_DONE;
        return true;
    }
    *out = (struct sec_action){.token = out->token};
    s->failed = true;
    forget(s);
    if (e->kind == SP_EINPUT && e->proto == 0 && ev->kind == SEC_TOKEN)
        e->proto = KCTX_DEFECTIVE;
    return false;
}

/* ---- what can be asked at any time ---- */

bool sec_is_established(const struct sec *s)
{
    return s->done;
}

struct kctx *sec_kctx(struct sec *s)
{
    return s->done ? &s->inner.k : NULL;
}

enum token_mech sec_mech(const struct sec *s)
{
    return s->done ? s->mech : TOKEN_UNKNOWN;
}

void sec_tell(const struct sec *s, struct sec_facts *out)
{
    *out = (struct sec_facts){.from_client = s->from_client,
                              .bytes = s->bytes,
                              .discovered = s->inner.discovered,
                              .old_mit = s->inner.dialect == IAKERB_OLD && s->inner.tokens.n > 0,
                              .no_finished = s->done && s->inner.k.no_finished,
                              .windows = s->inner.flags_seen,
                              .realm = s->inner.realm};
}

const struct krb_credential *sec_got_tgt(const struct sec *s)
{
    return s->inner.client ? client_tgt(s->inner.client) : NULL;
}

const struct krb_credential *sec_got_service(const struct sec *s)
{
    return s->inner.client ? client_service(s->inner.client) : NULL;
}

const char *sec_preauth(const struct sec *s)
{
    const struct client *c = s->inner.client;

    return c && (client_tgt(c) || client_service(c)) && !s->how.initiator.wish.tgt ? client_preauth(c) : NULL;
}

bool sec_learnt(const struct sec *s, struct client_known *out)
{
    return s->inner.client && client_learnt(s->inner.client, out);
}
