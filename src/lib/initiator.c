/* SPDX-License-Identifier: MIT */
/* Making initiators. Which ticket is used is settled by the first event, as only that knows the time. */
#include "lib/internal.h"

#define FLAGS_ALL                                                                                            \
    (SALLYPORT_DELEG | SALLYPORT_MUTUAL | SALLYPORT_REPLAY | SALLYPORT_SEQUENCE | SALLYPORT_CONF |           \
     SALLYPORT_INTEG | SALLYPORT_DCE | SALLYPORT_IDENTIFY | SALLYPORT_DELEG_POLICY)
#define OPTIONS_ALL                                                                                          \
    (SALLYPORT_SPNEGO | SALLYPORT_TIMESTAMP | SALLYPORT_DISCOVER | SALLYPORT_SERVICE_BY_AS |                 \
     SALLYPORT_OLD_MIT)

struct making {
    struct sallyport_context *x;
    const struct sallyport_initiator *how;
};

static bool set_mechs(const struct sallyport_initiator *how, struct sec_initiator *i, struct sp_err *e)
{
    static const enum token_mech mech[] = {TOKEN_UNKNOWN, TOKEN_IAKERB, TOKEN_KRB5, TOKEN_MS_KRB5};

    for (int n = 0; n < 4 && how->mechs[n] != 0; n++) {
        if (how->mechs[n] < SALLYPORT_IAKERB || how->mechs[n] > SALLYPORT_MS_KRB5)
            return sp_fail(e, SP_EINPUT, 0, "mechanism %d", how->mechs[n]);
        i->mechs[i->mech_count++] = mech[how->mechs[n]];
    }
    if (i->mech_count == 0)
        i->mechs[i->mech_count++] = TOKEN_IAKERB;
    if (i->mech_count > 1 && !i->spnego)
        return sp_fail(e, SP_EINPUT, 0, "more than one mechanism, and no SPNEGO to choose one");
    return true;
}

static bool set_target(struct sp_arena *mem, const struct sallyport_initiator *how, struct sec_initiator *i,
                       struct sp_err *e)
{
    struct client_wish *w = &i->wish;

    if (!how->target || !lib_dup_name(mem, how->target, &w->service, &w->service_realm, e))
        return how->target ? false : sp_fail(e, SP_EINPUT, 0, "an initiator needs a target");
    if (w->service.parts.count == 2)
        w->service.type = NT_SRV_HST;
    i->target_host = w->service.parts.v[w->service.parts.count - 1];
    return !how->target_host || (i->target_host = sp_dup(mem, sp_str(how->target_host), e)).p;
}

static bool set_forwarded(struct sp_arena *mem, struct sallyport_bytes file, struct sallyport_context *x,
                          struct sp_err *e)
{
    struct sp_span own = {0};

    x->forwarded = (struct krb_ccache){0};
    if (!lib_dup(mem, file, &own, e) || (own.p && !krb_get_ccache(own, mem, &x->forwarded, e)))
        return false;
    return !own.p || x->forwarded.count > 0 ||
           sp_fail(e, SP_EINPUT, KCTX_NO_CRED, "no ticket to be forwarded");
}

static bool set_bindings(struct sp_arena *mem, const struct making *m, struct sp_err *e)
{
    if (!m->how->bindings)
        return true;
    m->x->initiator.bindings = m->x->bindings;
    return lib_hash_bindings(m->x->lib, m->how->bindings, mem, m->x->bindings, NULL, e);
}

static bool fill(struct sp_arena *mem, void *arg, struct sp_err *e)
{
    struct making *m = arg;
    const struct sallyport_initiator *how = m->how;
    struct lib_secrets_in in = {how->client, how->password, how->keytab, how->ccache, how->learnt};
    struct sec_initiator i = {.spnego = how->options & SALLYPORT_SPNEGO,
                              .flags = how->flags,
                              .discover = how->options & SALLYPORT_DISCOVER,
                              .service_by_as = how->options & SALLYPORT_SERVICE_BY_AS,
                              .old_mit =
                                  how->options & SALLYPORT_OLD_MIT ? SEC_OLD_MIT_ACCEPT : SEC_OLD_MIT_OFF};

    if (how->options & SALLYPORT_TIMESTAMP)
        client_policy_direct(&i.policy);
    else
        client_policy_in_band(&i.policy);
    if (!set_mechs(how, &i, e) || !set_target(mem, how, &i, e))
        return false;
    m->x->initiator = i;
    return lib_get_secrets(mem, &in, &m->x->secrets, e) && set_forwarded(mem, how->forwarded, m->x, e) &&
           set_bindings(mem, m, e);
}

static bool check(const struct sallyport_initiator *how, struct sp_err *e)
{
    if ((how->options & ~(uint32_t)OPTIONS_ALL) != 0 || (how->flags & ~(uint32_t)FLAGS_ALL) != 0)
        return sp_fail(e, SP_EINPUT, 0, "an option or a flag that this version does not know");
    return true;
}

static struct sallyport_context *make(struct sallyport *lib, const struct sallyport_initiator *how,
                                      struct sp_err *e, struct sallyport_error *error)
{
    struct sallyport_context *x = lib_context(lib, LIB_INITIATOR, e);
    struct making m = {x, how};
    size_t first =
        16384 + 2 * (how->password.n + how->keytab.n + how->ccache.n + how->forwarded.n + how->learnt.n);

    return lib_finish(x, lib,
                      x && check(how, e) && lib_build(lib, first, fill, &m, &x->setup, e) &&
                          lib_take(lib, SEC_ARENA_MIN, &x->room, e),
                      e, error);
}

struct sallyport_context *sallyport_initiator_new(struct sallyport *lib,
                                                  const struct sallyport_initiator *options,
                                                  struct sallyport_error *error)
{
    struct sallyport_initiator how;
    struct sp_err e = {0};

    if (LIB_READ(&how, options, &e))
        return make(lib, &how, &e, error);
    (void)lib_end(lib, false, &e, error);
    return NULL;
}

/* A ticket for the target, else a TGT, else keys, else the password. */
static void choose(struct sallyport_context *x, int64_t now_s)
{
    struct client_wish *w = &x->initiator.wish;
    const struct lib_secrets *s = &x->secrets;
    struct sp_span realm = w->service_realm.n > 0 ? w->service_realm : s->realm;

    w->client = s->client;
    w->realm = s->realm;
    w->known = s->has_known ? &s->known : NULL;
    if (s->has_ccache)
        x->initiator.ticket = krb_find_credential(&s->ccache, &w->service, realm, now_s);
    w->tgt = lib_find_tgt(s, now_s);
    if (w->tgt)
        return;
    w->keys = s->keys;
    w->key_count = s->key_count;
    if (s->key_count == 0)
        w->password = s->password;
}

bool lib_begin_initiator(struct sallyport_context *x, int64_t now_s, struct sp_err *e)
{
    struct sp_arena mem;

    choose(x, now_s);
    if (x->forwarded.count > 0)
        x->initiator.forwarded = &x->forwarded.v[0];
    sp_arena_init(&mem, x->room.p, x->room.n);
    return sec_new_initiator(&x->sec, x->lib->crypto, &x->initiator, &mem, e);
}
