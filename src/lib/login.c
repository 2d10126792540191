/* SPDX-License-Identifier: MIT */
/* The client's exchanges alone: the same loop, with KDCs only. */
#include "lib/internal.h"

#define ROOM (256 * 1024)

struct making {
    struct sallyport_context *x;
    const struct sallyport_login *how;
};

static bool fill(struct sp_arena *mem, void *arg, struct sp_err *e)
{
    struct making *m = arg;
    const struct sallyport_login *how = m->how;
    struct lib_secrets_in in = {how->client, how->password, how->keytab, how->ccache, how->learnt};
    struct client_wish w = {.life_s = how->life_s, .renew_s = how->renew_s};

    if (!lib_get_secrets(mem, &in, &m->x->secrets, e) ||
        (how->service && !lib_dup_name(mem, how->service, &w.service, &w.service_realm, e)))
        return false;
    if (w.service.parts.count == 2 && !krb_is_tgs_name(&w.service, m->x->secrets.realm))
        w.service.type = NT_SRV_HST;
    m->x->wish = w;
    return true;
}

static bool set_goal(const struct sallyport_login *how, struct sallyport_context *x, struct sp_err *e)
{
    static const enum client_goal goal[] = {[SALLYPORT_GET_TGT] = CLIENT_TGT,
                                            [SALLYPORT_GET_SERVICE] = CLIENT_SERVICE,
                                            [SALLYPORT_GET_FORWARDED] = CLIENT_FORWARDED,
                                            [SALLYPORT_GET_RENEWED] = CLIENT_RENEWED};
    struct client_wish *w = &x->wish;
    uint32_t t = how->ticket_options;

    if (how->goal < SALLYPORT_GET_TGT || how->goal > SALLYPORT_GET_RENEWED || t > 7 ||
        (how->options & ~(uint32_t)(SALLYPORT_TIMESTAMP | SALLYPORT_SERVICE_BY_AS)) != 0)
        return sp_fail(e, SP_EINPUT, 0, "a goal or an option that this version does not know");
    w->goal = goal[how->goal];
    if (w->goal == CLIENT_SERVICE && (how->options & SALLYPORT_SERVICE_BY_AS) && !x->secrets.has_ccache)
        w->goal = CLIENT_SERVICE_BY_AS;
    w->options = (t & SALLYPORT_FORWARDABLE ? KRB_FLAG(OPT_FORWARDABLE) : 0) |
                 (t & SALLYPORT_PROXIABLE ? KRB_FLAG(OPT_PROXIABLE) : 0) |
                 (t & SALLYPORT_RENEWABLE ? KRB_FLAG(OPT_RENEWABLE) : 0);
    if (how->options & SALLYPORT_TIMESTAMP)
        client_policy_direct(&x->policy);
    else
        client_policy_in_band(&x->policy);
    return true;
}

static bool name_it(struct sallyport_context *x, struct sp_err *e)
{
    struct sp_text t = sp_text(x->name, sizeof x->name);

    if (x->secrets.client.parts.count == 0 || x->secrets.realm.n == 0)
        return sp_fail(e, SP_EINPUT, 0, "a login needs a client with its realm");
    krb_text_principal(&t, &x->secrets.client, x->secrets.realm);
    return !t.cut || sp_fail(e, SP_EINPUT, 0, "a name of more than %d bytes", KCTX_NAME_MAX);
}

static bool take_room(struct sallyport_context *x, struct sp_err *e)
{
    if (!lib_take(x->lib, ROOM, &x->room, e))
        return false;
    sp_arena_init(&x->mem, x->room.p, x->room.n);
    return true;
}

struct sallyport_context *sallyport_login_new(struct sallyport *lib, const struct sallyport_login *options,
                                              struct sallyport_error *error)
{
    struct sallyport_login how;
    struct sp_err e = {0};
    struct sallyport_context *x = LIB_READ(&how, options, &e) ? lib_context(lib, LIB_LOGIN, &e) : NULL;
    struct making m = {x, &how};

    return lib_finish(x, lib,
                      x && lib_build(lib, 16384, fill, &m, &x->setup, &e) && name_it(x, &e) &&
                          set_goal(&how, x, &e) && take_room(x, &e),
                      &e, error);
}

/* ---- steps ---- */

static bool start(struct sallyport_context *x, const struct sallyport_event *ev, struct client_action *act,
                  struct sp_err *e)
{
    struct lib_secrets *s = &x->secrets;
    struct client_wish *w = &x->wish;

    if (x->begun)
        return sp_fail(e, SP_EREFUSED, KCTX_NO_CONTEXT, "this event is not due");
    x->begun = true;
    w->client = s->client;
    w->realm = s->realm;
    w->password = s->password;
    w->keys = s->keys;
    w->key_count = s->key_count;
    w->tgt = lib_find_tgt(s, ev->wall_us / 1000000);
    w->known = s->has_known ? &s->known : NULL;
    if (s->has_ccache && !w->tgt)
        return sp_fail(e, SP_EREFUSED, KCTX_NO_CRED, "the credential cache has no TGT that is still good");
    return client_start(&x->client, x->lib->crypto, &x->policy, w, lib_env(x->lib, ev->wall_us, ev->mono_us),
                        &x->mem, act, e);
}

static bool is_waiting(const struct sallyport_context *x)
{
    enum client_state s = x->client ? client_state(x->client) : CLIENT_IDLE;

    return s == CLIENT_AS || s == CLIENT_TGS;
}

static bool advance(struct sallyport_context *x, const struct sallyport_event *ev, struct client_action *act,
                    struct sp_err *e)
{
    if (ev->kind == SALLYPORT_START)
        return start(x, ev, act, e);
    if (ev->kind == SALLYPORT_TOKEN || !is_waiting(x))
        return sp_fail(e, SP_EREFUSED, KCTX_NO_CONTEXT, "this event is not due");
    if (ev->kind == SALLYPORT_NOT_CARRIED)
        return sp_fail(e, SP_EREFUSED,
                       ev->code == KRB_AP_ERR_IAKERB_KDC_NOT_FOUND ? KRB_AP_ERR_IAKERB_KDC_NOT_FOUND
                                                                   : KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE,
                       "no KDC answered");
    return client_reply(x->client, lib_env(x->lib, ev->wall_us, ev->mono_us), lib_span(ev->bytes), act, e);
}

bool lib_step_login(struct sallyport_context *x, const struct sallyport_event *ev,
                    struct sallyport_action *out, struct sp_err *e)
{
    struct client_action act = {0};

    if (!advance(x, ev, &act, e)) {
        if (e->proto != KCTX_NO_CONTEXT) {
            client_wipe(x->client);
            x->failed = true;
        }
        return false;
    }
    out->what = act.done ? SALLYPORT_DONE : SALLYPORT_CARRY;
    out->realm = lib_bytes(act.realm);
    out->message = lib_bytes(act.request);
    out->peer = act.done ? x->name : NULL;
    return true;
}
