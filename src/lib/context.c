/* SPDX-License-Identifier: MIT */
/* One context: its life, its steps, and what it can be asked. */
#include "lib/internal.h"

struct sallyport_context *lib_context(struct sallyport *lib, enum lib_role role, struct sp_err *e)
{
    struct sallyport_context *x;
    struct lib_block own;

    if (!lib_take(lib, sizeof *x, &own, e))
        return NULL;
    x = own.p;
    *x = (struct sallyport_context){.lib = lib, .role = role, .own = own};
    return x;
}

void sallyport_context_free(struct sallyport_context *x)
{
    struct sallyport *lib;
    struct lib_block own;

    if (!x)
        return;
    lib = x->lib;
    sec_wipe(x->sec); /* the engines wipe what they used of the room, which is far larger */
    client_wipe(x->client);
    if (x->role == LIB_LOGIN)
        sp_arena_reset(&x->mem);
    lib_drop(lib, &x->room);
    lib_drop_wiped(lib, &x->setup);
    lib_drop_wiped(lib, &x->change);
    own = x->own;
    lib_drop_wiped(lib, &own);
}

struct sallyport_context *lib_finish(struct sallyport_context *x, struct sallyport *lib, bool ok,
                                     struct sp_err *e, struct sallyport_error *to)
{
    if (lib_end(lib, ok, e, to))
        return x;
    sallyport_context_free(x);
    return NULL;
}

struct kctx *lib_kctx(struct sallyport_context *x)
{
    struct kctx *k = x->sec ? sec_kctx(x->sec) : NULL;

    return k ? k : &x->message;
}

/* ---- steps ---- */

/* The end of an initiator or acceptor: what the action says of it. */
static bool tell_done(struct sallyport_context *x, struct sallyport_action *out, struct sp_err *e)
{
    const struct kctx *k = lib_kctx(x);

    if (!kctx_session_key(k, &x->key, e))
        return false;
    out->peer = k->role == KCTX_INITIATOR ? k->service : k->client;
    out->key = (struct sallyport_bytes){x->key.b, x->key.n};
    out->key_type = x->key.etype;
    out->flags = k->flags;
    return true;
}

static enum sallyport_do translate(const struct sec_action *a)
{
    static const enum sallyport_do what[] = {
        [SEC_SEND] = SALLYPORT_SEND, [SEC_CARRY] = SALLYPORT_CARRY, [SEC_DONE] = SALLYPORT_DONE};

    return what[a->what];
}

static bool step_sec(struct sallyport_context *x, const struct sallyport_event *ev,
                     struct sallyport_action *out, struct sp_err *e)
{
    static const enum sec_event_kind kind[] = {[SALLYPORT_START] = SEC_START,
                                               [SALLYPORT_TOKEN] = SEC_TOKEN,
                                               [SALLYPORT_CARRIED] = SEC_CARRIED,
                                               [SALLYPORT_NOT_CARRIED] = SEC_NOT_CARRIED};
    struct sec_event in = {.kind = kind[ev->kind], .bytes = lib_span(ev->bytes), .code = ev->code};
    struct sec_action act = {0};
    bool ok;

    if (!x->sec && !lib_begin_initiator(x, ev->wall_us / 1000000, e))
        return false;
    ok = sec_step(x->sec, lib_env(x->lib, ev->wall_us, ev->mono_us), &in, &act, e);
    out->token = lib_bytes(act.token);
    if (!ok)
        return false;
    out->what = (int32_t)translate(&act);
    out->realm = lib_bytes(act.realm);
    out->message = lib_bytes(act.message);
    return act.what != SEC_DONE || tell_done(x, out, e);
}

static bool check_event(const struct sallyport_context *x, const struct sallyport_event *in,
                        struct sallyport_event *ev, struct sp_err *e)
{
    if (!LIB_READ(ev, in, e) || !lib_check(ev->bytes, "an event", e))
        return false;
    if (x->failed || x->role == LIB_IMPORTED || (x->sec && sec_is_established(x->sec)) ||
        ev->kind < SALLYPORT_START || ev->kind > SALLYPORT_NOT_CARRIED)
        return sp_fail(e, SP_EREFUSED, KCTX_NO_CONTEXT,
                       x->failed ? "this context has failed" : "this event is not due");
    return true;
}

static bool step(struct sallyport_context *x, const struct sallyport_event *event,
                 struct sallyport_action *out, struct sp_err *e)
{
    struct sallyport_event ev;

    if (!check_event(x, event, &ev, e))
        return false;
    if (x->change.p)
        return lib_step_change(x, &ev, out, e);
    return x->role == LIB_LOGIN ? lib_step_login(x, &ev, out, e) : step_sec(x, &ev, out, e);
}

enum sallyport_do sallyport_step(struct sallyport_context *x, const struct sallyport_event *event,
                                 struct sallyport_action *action)
{
    struct sallyport_action out = {.what = SALLYPORT_STOP};
    struct sp_err e = {0};

    if (!action || action->size <= sizeof action->size)
        return SALLYPORT_STOP;
    x->why.size = sizeof x->why;
    if (!step(x, event, &out, &e) || x->lib->starved) {
        bool starved = x->lib->starved;

        x->failed |= starved;
        (void)lib_end(x->lib, false, &e, &x->why);
        out = (struct sallyport_action){.what = SALLYPORT_STOP, .token = out.token, .why = &x->why};
        if (starved) {
            sec_wipe(x->sec);
            client_wipe(x->client);
            out.token = (struct sallyport_bytes){0};
        }
    }
    (void)LIB_WRITE(action, &out);
    return (enum sallyport_do)out.what;
}

/* ---- questions ---- */

const char *sallyport_client_name(const struct sallyport_context *x)
{
    const struct kctx *k = x->sec ? sec_kctx(x->sec) : NULL;

    return x->role == LIB_LOGIN ? x->name : k ? k->client : x->message.client;
}

const char *sallyport_service_name(const struct sallyport_context *x)
{
    const struct kctx *k = x->sec ? sec_kctx(x->sec) : NULL;

    return k ? k->service : x->message.service;
}

static int32_t mech_number(enum token_mech m)
{
    return m == TOKEN_IAKERB    ? SALLYPORT_IAKERB
           : m == TOKEN_KRB5    ? SALLYPORT_KRB5
           : m == TOKEN_MS_KRB5 ? SALLYPORT_MS_KRB5
                                : 0;
}

bool sallyport_tell(struct sallyport_context *x, struct sallyport_facts *facts)
{
    const struct kctx *k = lib_kctx(x);
    struct sallyport_facts out = {.flags = k->flags,
                                  .end_s = k->endtime,
                                  .established = k->state == KCTX_READY,
                                  .no_finished = k->no_finished};
    struct sec_facts f;

    if (x->sec) {
        sec_tell(x->sec, &f);
        out.mech = mech_number(sec_mech(x->sec));
        out.round_trips = f.from_client;
        out.old_mit = f.old_mit;
        out.windows = f.windows;
        out.realm = lib_bytes(f.realm);
    }
    if (x->client) {
        out.established = client_state(x->client) == CLIENT_DONE && (!x->change.p || x->changed);
        out.round_trips = client_rounds(x->client);
    }
    return LIB_WRITE(facts, &out);
}

/* ---- tickets ---- */

struct cache_of {
    struct krb_credential v[2];
    uint32_t count;
    int64_t offset_s;
    struct sp_span delegated;
    struct sp_span made;
};

static bool fill_cache(struct sp_arena *mem, void *arg, struct sp_err *e)
{
    struct cache_of *of = arg;
    struct krb_ccache c;

    if (of->delegated.n > 0) {
        if (!kctx_read_cred(of->delegated, mem, &of->v[0], e))
            return false;
        of->count = 1;
    }
    c = (struct krb_ccache){.principal = of->v[0].client,
                            .realm = of->v[0].crealm,
                            .offset_s = (int32_t)of->offset_s,
                            .v = of->v,
                            .count = of->count};
    return krb_put_ccache(&c, mem, &of->made, e);
}

static bool give_cache(struct sallyport_context *x, struct cache_of *of, void *out, size_t *n,
                       struct sp_err *e)
{
    size_t first = 16384 + 4 * of->delegated.n;
    struct lib_block b = {0};
    bool ok;

    for (uint32_t i = 0; i < of->count; i++)
        first += 4 * of->v[i].ticket.n;
    ok = lib_build(x->lib, first, fill_cache, of, &b, e) && lib_give(of->made, out, n, e);
    lib_drop_wiped(x->lib, &b);
    sp_wipe(of, sizeof *of);
    return ok;
}

static bool put_cache(struct sallyport_context *x, void *out, size_t *n, struct sp_err *e)
{
    const struct krb_credential *c[2] = {NULL, NULL};
    struct cache_of of = {0};

    if (x->sec) {
        c[0] = sec_got_tgt(x->sec);
        c[1] = sec_got_service(x->sec);
    } else if (x->client) {
        c[0] = client_tgt(x->client);
        c[1] = client_service(x->client);
        of.offset_s = client_offset_s(x->client);
    }
    for (int i = 0; i < 2; i++)
        if (c[i])
            of.v[of.count++] = *c[i];
    if (of.count == 0)
        return sp_fail(e, SP_ENOTFOUND, KCTX_NO_CRED, "no tickets were got");
    return give_cache(x, &of, out, n, e);
}

bool sallyport_credentials(struct sallyport_context *x, void *out, size_t *n, struct sallyport_error *error)
{
    struct sp_err e = {0};

    return lib_end(x->lib, put_cache(x, out, n, &e), &e, error);
}

bool sallyport_delegated(struct sallyport_context *x, void *out, size_t *n, struct sallyport_error *error)
{
    struct cache_of of = {.delegated = lib_kctx(x)->delegated};
    struct sp_err e = {0};
    bool ok = of.delegated.n > 0 || sp_fail(&e, SP_ENOTFOUND, KCTX_NO_CRED, "nothing was delegated");

    return lib_end(x->lib, ok && give_cache(x, &of, out, n, &e), &e, error);
}

bool sallyport_learnt(struct sallyport_context *x, void *out, size_t *n, struct sallyport_error *error)
{
    struct client_known k;
    struct sp_err e = {0};
    bool ok = (x->sec && sec_learnt(x->sec, &k)) || (x->client && client_learnt(x->client, &k)) ||
              sp_fail(&e, SP_ENOTFOUND, 0, "nothing was learnt");

    return lib_end(x->lib, ok && lib_put_learnt(&k, out, n, &e), &e, error);
}
