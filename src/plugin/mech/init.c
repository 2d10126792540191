/* SPDX-License-Identifier: MIT */
/* The initiator. */
#include "plugin/mech/engine.h"

#include <stdlib.h>

#include "host/pins.h"

#define WANTED                                                                                               \
    (KCTX_DELEG | KCTX_MUTUAL | KCTX_REPLAY | KCTX_SEQUENCE | KCTX_CONF | KCTX_INTEG | KCTX_CHANNEL_BOUND |  \
     KCTX_DCE | KCTX_IDENTIFY | KCTX_EXTENDED_ERROR | KCTX_DELEG_POLICY)

/* What a new context is made of, while it is being put together. */
struct plan {
    struct mech_ctx *x;
    struct sec_initiator how;
    struct lib lib;
    const struct krb_ccache *cache; /* the context's */
    struct sp_err *e;
};

static struct sp_span target_host(const struct mech_name *t)
{
    return t->name.parts.count > 1 ? t->name.parts.v[1] : sp_span(NULL, 0);
}

/* ---- which tickets of the cache ---- */

static bool is_tgt_of(const struct krb_credential *c, struct sp_span realm)
{
    return krb_is_tgs_name(&c->server, realm);
}

static const struct krb_credential *longest(const struct krb_credential *a, const struct krb_credential *b,
                                            int64_t now_s)
{
    if (b->endtime <= now_s)
        return a;
    return !a || b->endtime > a->endtime ? b : a;
}

/* A ticket for the very service; and the TGT nearest to it: of the service's realm if there is one, else our
 * own. */
static void choose_tickets(struct plan *p)
{
    const struct client_wish *w = &p->how.wish;
    const struct krb_credential *near = NULL, *own = NULL;
    int64_t now = host_env().wall_us / 1000000;

    for (uint32_t i = 0; i < p->cache->count; i++) {
        const struct krb_credential *c = &p->cache->v[i];

        if (krb_same_name(&c->server, &w->service) &&
            (w->service_realm.n == 0 || sp_same(w->service_realm, c->srealm)))
            p->how.ticket = longest(p->how.ticket, c, now);
        if (w->service_realm.n > 0 && is_tgt_of(c, w->service_realm))
            near = longest(near, c, now);
        if (is_tgt_of(c, p->cache->realm))
            own = longest(own, c, now);
    }
    p->how.wish.tgt = near ? near : own;
}

static bool wish_from_ccache(struct plan *p)
{
    if (!mech_get_tickets(&p->lib, p->x->cred->ccache, &p->x->tickets, p->e))
        return false;
    p->cache = mech_cache_of(p->x->tickets);
    p->how.wish.client = p->cache->principal;
    p->how.wish.realm = p->cache->realm;
    choose_tickets(p);
    return p->how.ticket || p->how.wish.tgt ||
           sp_fail(p->e, SP_EREFUSED, KCTX_NO_CRED, "no ticket in the cache helps to reach this service");
}

static bool wish_from_secret(struct plan *p)
{
    const struct mech_cred *c = p->x->cred;
    struct client_wish *w = &p->how.wish;

    w->client = c->name->name;
    if (!lib_open(&p->lib, p->e))
        return false;
    w->realm = c->name->realm.n ? c->name->realm : lib_default_realm(&p->lib, &p->x->mem);
    p->how.discover = w->realm.n == 0 && p->how.old_mit == SEC_OLD_MIT_OFF; /* which has no discovery */
    if (c->source == MECH_PASSWORD) {
        w->password = sp_span(c->password, c->password_n);
        p->how.service_by_as =
            w->service_realm.n == 0 || sp_same(w->service_realm, w->realm); /* decision 14 */
        return true;
    }
    struct sp_key *keys;

    if (!lib_read_keys(&p->lib, c->client_keytab, &w->client, w->realm, &p->x->mem, &keys, &w->key_count,
                       p->e))
        return false;
    w->keys = keys;
    return true;
}

/* A server that nobody vouches for learns nothing to guess on, unless its host is pinned (decision 24). */
static bool set_policy(struct plan *p)
{
    struct host_pin pin;

    if (!host_find_pin(p->how.target_host, &pin, p->e))
        return false;
    p->how.policy.timestamp = pin.timestamp;
    p->how.old_mit = pin.old_mit ? SEC_OLD_MIT_ACCEPT : SEC_OLD_MIT_OFF;
    return true;
}

/* Pins are about messages to a KDC. With a ticket for the service there are none, but for delegation. */
static bool asks_nobody(const struct plan *p)
{
    return p->how.ticket && (p->how.flags & (KCTX_DELEG | KCTX_DELEG_POLICY)) == 0;
}

static bool make_wish(struct plan *p)
{
    const struct mech_name *t = p->x->target;

    p->how.mechs[0] = TOKEN_IAKERB;
    p->how.mech_count = 1;
    p->how.target_host = target_host(t);
    p->how.flags = p->x->flags;
    p->how.wish.service = t->name;
    p->how.wish.service_realm = t->realm;
    client_policy_in_band(&p->how.policy);
    if (t->realm.n == 0 && t->host_based)
        p->how.wish.service_realm = mech_host_realm(&p->lib, p->how.target_host, &p->x->mem);
    switch (p->x->cred->source) {
    case MECH_CCACHE:
        return wish_from_ccache(p) && (asks_nobody(p) || set_policy(p));
    case MECH_PASSWORD:
    case MECH_KEYTAB:
        return set_policy(p) && wish_from_secret(p);
    case MECH_NOTHING:
    default:
        return sp_fail(p->e, SP_EREFUSED, KCTX_NO_CRED, "a credential for accepting alone");
    }
}

static struct mech_cred *own_cred(gss_cred_id_t cred, struct sp_err *e)
{
    struct mech_cred *c = mech_share_cred((struct mech_cred *)cred);

    if (!c && !mech_acquire(&c, NULL, GSS_C_INITIATE, GSS_C_NO_CRED_STORE, e))
        return NULL;
    return c;
}

struct beginning {
    gss_cred_id_t cred;
    const struct mech_name *target;
    uint32_t flags;
    gss_channel_bindings_t bindings;
};

static bool fill(struct mech_ctx *x, const struct beginning *b, struct sp_err *e)
{
    struct plan p = {.x = x, .e = e};
    bool ok;

    x->flags = (b->flags & WANTED) | KCTX_CONF | KCTX_INTEG;
    x->cred = own_cred(b->cred, e);
    if (!x->cred || mech_failed_lately(x->cred, b->target, e))
        return false;
    x->target = mech_make_name(&b->target->name, b->target->realm, e);
    if (!x->target)
        return false;
    x->target->host_based = b->target->host_based;
    ok = mech_bind(x, b->bindings, &p.how.bindings, NULL, e) && make_wish(&p) &&
         sec_new_initiator(&x->sec, x->crypto, &p.how, &x->sec_mem, e);
    lib_close(&p.lib);
    return ok;
}

static struct mech_ctx *begin(const struct beginning *b, struct sp_err *e)
{
    struct mech_ctx *x;

    if (!b->target) {
        (void)sp_fail(e, SP_EREFUSED, KCTX_UNAUTHORIZED, "no target name");
        return NULL;
    }
    x = mech_new_ctx(SEC_INITIATOR, e);
    if (x && fill(x, b, e))
        return x;
    mech_free_ctx(x);
    return NULL;
}

/* What was fetched goes where the TGT came from, for the next program (decision 28), as soon as it is here:
 * curl never comes back with the acceptor's last token. That the cache is full or read-only is no reason to
 * fail. */
static void keep_ticket(struct mech_ctx *x)
{
    const struct krb_credential *got = sec_got_service(x->sec);
    struct sp_err ignored = {0};
    struct lib l = {0};
    bool kept = got && x->cred->source == MECH_CCACHE && lib_open(&l, &ignored) &&
                lib_store_ticket(&l, x->cred->ccache, got, &ignored);

    (void)kept;
    lib_close(&l);
}

static bool step(struct mech_ctx *x, const struct sec_event *ev, gss_buffer_t out, struct sp_err *e)
{
    struct sec_action a = {0};
    struct sp_err giving = {0};
    bool had = sec_got_service(x->sec) != NULL, ok = sec_step(x->sec, mech_env(), ev, &a, e);

    if (a.token.n > 0 && !mech_give(out, a.token, &giving))
        return ok && sp_fail(e, giving.kind, 0, "%s", giving.text);
    if (!ok) {
        mech_note_failure(x->cred, x->target, e);
        return false;
    }
    if (a.what == SEC_CARRY)
        return sp_fail(e, SP_EBUG, 0, "an initiator carries nothing");
    if (!had)
        keep_ticket(x);
    if (a.what == SEC_DONE) {
        x->k = sec_kctx(x->sec);
        mech_note_success(x->cred, x->target);
    }
    return true;
}

/* A context whose first step failed is none; later ones stay, failed, until the caller deletes them. */
static OM_uint32 refuse(OM_uint32 *minor, struct mech_ctx *x, gss_ctx_id_t *ctx, const struct sp_err *e)
{
    if (*ctx == GSS_C_NO_CONTEXT)
        mech_free_ctx(x);
    return mech_fail(minor, e);
}

OM_uint32 mech_init_sec_context(OM_uint32 *minor, gss_cred_id_t cred, gss_ctx_id_t *ctx, gss_name_t target,
                                gss_OID mech, OM_uint32 flags, OM_uint32 life,
                                gss_channel_bindings_t bindings, gss_buffer_t in, gss_OID *actual,
                                gss_buffer_t out, OM_uint32 *got_flags, OM_uint32 *got_life)
{
    struct beginning b = {cred, (struct mech_name *)target, flags, bindings};
    struct mech_ctx *x = (struct mech_ctx *)*ctx;
    struct sec_event ev = {.kind = x ? SEC_TOKEN : SEC_START, .bytes = mech_span(in)};
    struct sp_err e = {0};

    (void)mech;
    (void)life;
    *minor = 0;
    *out = (gss_buffer_desc)GSS_C_EMPTY_BUFFER;
    if (x && x->role != SEC_INITIATOR)
        (void)sp_fail(&e, SP_EREFUSED, KCTX_NO_CONTEXT, "not a context that is being initiated");
    else if (!x)
        x = begin(&b, &e);
    if (sp_ok(&e))
        (void)step(x, &ev, out, &e);
    if (!sp_ok(&e))
        return refuse(minor, x, ctx, &e);
    *ctx = (gss_ctx_id_t)x;
    if (actual)
        *actual = &mech_oid_iakerb;
    if (got_flags)
        *got_flags = mech_flags(x);
    if (got_life)
        *got_life = mech_life(x);
    return x->k ? GSS_S_COMPLETE : GSS_S_CONTINUE_NEEDED;
}
