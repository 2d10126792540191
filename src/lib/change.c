/* SPDX-License-Identifier: MIT */
/* Changing a password: a login for kadmin/changepw, and one message more. */
#include "base/text.h"
#include "client/kpasswd.h"
#include "lib/internal.h"

enum state { LOGGING_IN, ASKED, OVER };

struct change {
    enum state state;
    struct client_change pending;
    struct krb_name target; /* no parts: the client's own */
    struct sp_span target_realm;
    uint16_t password_n;
    uint8_t password[CLIENT_PASSWORD_MAX];
    uint8_t names[4096];
};

/* ---- making one ---- */

static bool take_target(struct change *ch, const char *target, struct sp_span realm, struct sp_err *e)
{
    struct sp_arena mem;

    if (!target)
        return true;
    sp_arena_init(&mem, ch->names, sizeof ch->names);
    if (!lib_dup_name(&mem, target, &ch->target, &ch->target_realm, e))
        return false;
    if (ch->target_realm.n == 0)
        ch->target_realm = realm;
    return true;
}

static bool take_change(struct sallyport_context *x, const struct sallyport_change *how, struct sp_err *e)
{
    struct change *ch;

    if (!lib_check(how->next, "a password", e))
        return false;
    if (how->next.n == 0 || how->next.n > CLIENT_PASSWORD_MAX)
        return sp_fail(e, SP_EINPUT, 0, "a password of %zu bytes, at most %d", how->next.n,
                       CLIENT_PASSWORD_MAX);
    if (!lib_take(x->lib, sizeof *ch, &x->change, e))
        return false;
    ch = x->change.p;
    memset(ch, 0, sizeof *ch);
    memcpy(ch->password, how->next.p, how->next.n);
    ch->password_n = (uint16_t)how->next.n;
    return take_target(ch, how->target, x->secrets.realm, e);
}

/* RFC 3244 wants a ticket straight from the AS exchange. */
static struct sallyport_login login_for(const struct sallyport_change *how)
{
    return (struct sallyport_login){.size = sizeof(struct sallyport_login),
                                    .goal = SALLYPORT_GET_SERVICE,
                                    .options = how->options | SALLYPORT_SERVICE_BY_AS,
                                    .client = how->client,
                                    .service = "kadmin/changepw",
                                    .password = how->password,
                                    .keytab = how->keytab,
                                    .learnt = how->learnt};
}

struct sallyport_context *sallyport_change_new(struct sallyport *lib, const struct sallyport_change *options,
                                               struct sallyport_error *error)
{
    struct sallyport_change how;
    struct sallyport_login login;
    struct sallyport_context *x;
    struct sp_err e = {0};

    if (!LIB_READ(&how, options, &e))
        return lib_finish(NULL, lib, false, &e, error);
    login = login_for(&how);
    x = sallyport_login_new(lib, &login, error);
    return x ? lib_finish(x, lib, take_change(x, &how, &e), &e, error) : NULL;
}

/* ---- steps ---- */

static bool ask(struct sallyport_context *x, const struct sallyport_event *ev, struct sallyport_action *out,
                struct sp_err *e)
{
    struct change *ch = x->change.p;
    struct client_change_wish w = {.ticket = client_service(x->client),
                                   .password = sp_span(ch->password, ch->password_n),
                                   .target = ch->target,
                                   .target_realm = ch->target_realm,
                                   .offset_us = client_offset_s(x->client) * 1000000};
    struct sp_env env = lib_env(x->lib, ev->wall_us, ev->mono_us);
    struct sp_span message;

    if (!client_change_request(&ch->pending, x->lib->crypto, env, &w, &x->mem, &message, e))
        return false;
    sp_wipe(ch->password, sizeof ch->password);
    ch->state = ASKED;
    *out = (struct sallyport_action){
        .what = SALLYPORT_CARRY_CHANGE, .realm = lib_bytes(x->secrets.realm), .message = lib_bytes(message)};
    return true;
}

static bool refuse(const struct client_verdict *v, struct sp_err *e)
{
    bool policy = v->result == CLIENT_CHANGE_SOFTERROR || v->result == CLIENT_CHANGE_ACCESSDENIED;
    char words[80];
    struct sp_text t = sp_text(words, sizeof words);

    sp_text_safe(&t, v->text);
    return sp_fail(e, SP_EREFUSED, policy ? KDC_ERR_POLICY : KRB_ERR_GENERIC,
                   "the password was not changed (%u)%s%s", v->result, v->text.n ? ": " : "",
                   v->text.n ? words : "");
}

static bool take_answer(struct sallyport_context *x, const struct sallyport_event *ev,
                        struct sallyport_action *out, struct sp_err *e)
{
    struct change *ch = x->change.p;
    struct client_verdict v;

    if (ev->kind == SALLYPORT_NOT_CARRIED)
        return sp_fail(e, SP_EREFUSED,
                       ev->code == KRB_AP_ERR_IAKERB_KDC_NOT_FOUND ? KRB_AP_ERR_IAKERB_KDC_NOT_FOUND
                                                                   : KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE,
                       "no password server answered: whether the password was changed is not known");
    if (!client_change_reply(&ch->pending, x->lib->crypto, lib_span(ev->bytes), &x->mem, &v, e))
        return false;
    if (v.result != CLIENT_CHANGED)
        return refuse(&v, e);
    *out = (struct sallyport_action){.what = SALLYPORT_DONE, .peer = x->name};
    return true;
}

static bool is_due(const struct change *ch, const struct sallyport_event *ev)
{
    return ch->state == LOGGING_IN ||
           (ch->state == ASKED && (ev->kind == SALLYPORT_CARRIED || ev->kind == SALLYPORT_NOT_CARRIED));
}

bool lib_step_change(struct sallyport_context *x, const struct sallyport_event *ev,
                     struct sallyport_action *out, struct sp_err *e)
{
    struct change *ch = x->change.p;
    bool ok;

    if (!is_due(ch, ev))
        return sp_fail(e, SP_EREFUSED, KCTX_NO_CONTEXT, "this event is not due");
    if (ch->state == LOGGING_IN) {
        if (!lib_step_login(x, ev, out, e))
            return false;
        if (out->what != SALLYPORT_DONE)
            return true;
        ok = ask(x, ev, out, e);
    } else {
        ok = take_answer(x, ev, out, e);
        sp_wipe(ch, sizeof *ch);
        ch->state = OVER;
        x->changed = ok;
    }
    if (!ok) {
        client_wipe(x->client);
        x->failed = true;
    }
    return ok;
}
