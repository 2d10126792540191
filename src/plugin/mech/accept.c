/* SPDX-License-Identifier: MIT */
/* The acceptor. It carries requests to the KDC of this host and learns neither password nor keys from them.
 */
#include "plugin/mech/engine.h"

#define SKEW_S 300

struct beginning {
    gss_cred_id_t cred;
    gss_channel_bindings_t bindings;
    struct sp_span token;
};

/* What the daemon knows is of use to messages for a KDC alone: a context that begins with an AP-REQ carries
 * none. */
static bool set_realms(struct mech_ctx *x, struct sp_span first, struct sec_acceptor *how, struct sp_err *e)
{
    struct host_realm local;
    struct sp_err ignored = {0};
    struct token t;

    if (token_get(first, &t, &ignored) && t.mech == TOKEN_IAKERB && t.id == TOKEN_AP_REQ)
        return true;
    if (!mech_find_local(&x->courier, &x->mem, &local, e))
        return false;
    how->realm = (struct krb_realm){local.name, local.aliases};
    how->realms = local.others;
    how->old_mit = local.old_mit ? SEC_OLD_MIT_ACCEPT : SEC_OLD_MIT_OFF;
    how->finished = local.finished_required ? SEC_FINISHED_REQUIRED : SEC_FINISHED_OPTIONAL;
    return true;
}

static bool fill(struct mech_ctx *x, const struct beginning *b, struct sp_err *e)
{
    struct sec_acceptor how = {.skew_s = SKEW_S};

    x->cred = mech_share_cred((struct mech_cred *)b->cred);
    if (!x->cred && !mech_acquire(&x->cred, NULL, GSS_C_ACCEPT, GSS_C_NO_CRED_STORE, e))
        return false;
    if (!x->cred->keytab)
        return sp_fail(e, SP_EREFUSED, KCTX_NO_CRED, "a credential for initiating alone");
    if (!mech_bind(x, b->bindings, &how.bindings, &how.channel, e) || !set_realms(x, b->token, &how, e))
        return false;
    mech_open_ports(&x->ports, x->cred);
    how.keys = &x->ports.keys;
    how.replays = &x->ports.replays;
    return sec_new_acceptor(&x->sec, x->crypto, &how, &x->sec_mem, e);
}

static struct mech_ctx *begin(const struct beginning *b, struct sp_err *e)
{
    struct mech_ctx *x = mech_new_ctx(SEC_ACCEPTOR, e);

    if (x && fill(x, b, e))
        return x;
    mech_free_ctx(x);
    return NULL;
}

static bool step(struct mech_ctx *x, struct sp_span token, gss_buffer_t out, struct sp_err *e)
{
    struct sec_event ev = {.kind = SEC_TOKEN, .bytes = token};
    struct sp_err giving = {0};
    struct sec_action a;
    bool ok;

    for (;;) {
        a = (struct sec_action){0};
        ok = sec_step(x->sec, mech_env(), &ev, &a, e);
        if (!ok || a.what != SEC_CARRY)
            break;
        mech_carry(x, &a, &ev);
    }
    if (!ok || a.what == SEC_DONE) {
        x->k = ok ? sec_kctx(x->sec) : NULL;
        mech_note(x, ok ? NULL : e);
    }
    if (a.token.n > 0 && !mech_give(out, a.token, &giving))
        return ok && sp_fail(e, giving.kind, 0, "%s", giving.text);
    return ok;
}

static bool give_delegated(struct mech_ctx *x, gss_cred_id_t *out, struct sp_err *e)
{
    struct krb_credential ticket;
    struct mech_cred *c = NULL;

    if (!out || !x->k || x->k->delegated.n == 0)
        return true;
    if (!kctx_read_cred(x->k->delegated, &x->mem, &ticket, e) || !mech_wrap_delegated(&c, &ticket, e))
        return false;
    *out = (gss_cred_id_t)c;
    return true;
}

OM_uint32 mech_accept_sec_context(OM_uint32 *minor, gss_ctx_id_t *ctx, gss_cred_id_t cred, gss_buffer_t in,
                                  gss_channel_bindings_t bindings, gss_name_t *source, gss_OID *actual,
                                  gss_buffer_t out, OM_uint32 *got_flags, OM_uint32 *got_life,
                                  gss_cred_id_t *delegated)
{
    struct beginning b = {cred, bindings, mech_span(in)};
    struct mech_ctx *x = (struct mech_ctx *)*ctx;
    struct sp_err e = {0};

    *minor = 0;
    *out = (gss_buffer_desc)GSS_C_EMPTY_BUFFER;
    if (source)
        *source = GSS_C_NO_NAME;
    if (delegated)
        *delegated = GSS_C_NO_CREDENTIAL;
    if (x && x->role != SEC_ACCEPTOR)
        (void)sp_fail(&e, SP_EREFUSED, KCTX_NO_CONTEXT, "not a context that is being accepted");
    else if (!x)
        x = begin(&b, &e);
    if (sp_ok(&e) && step(x, mech_span(in), out, &e) && x->k)
        (void)(give_delegated(x, delegated, &e) && mech_give_principal(x->k->client, source, &e));
    if (!sp_ok(&e)) {
        if (*ctx == GSS_C_NO_CONTEXT)
            mech_free_ctx(x);
        return mech_fail(minor, &e);
    }
    *ctx = (gss_ctx_id_t)x;
    if (actual)
        *actual = &mech_oid_iakerb;
    if (got_flags)
        *got_flags = mech_flags(x);
    if (got_life)
        *got_life = mech_life(x);
    return x->k ? GSS_S_COMPLETE : GSS_S_CONTINUE_NEEDED;
}
