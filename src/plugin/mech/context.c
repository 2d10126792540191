/* SPDX-License-Identifier: MIT */
/* The life of a context: memory, what can be asked of it in any state. */
#include "plugin/mech/engine.h"

#include <stdlib.h>

#define OWN_N (512 * 1024)
#define CARRY_N (MECH_BLOCK_N - OWN_N - SEC_ARENA_MIN)
#define AF_INET6_OF_KERBEROS 24 /* RFC 4120 7.5.3; RFC 2744 has no number for it */

struct mech_ctx *mech_new_ctx(enum sec_role role, struct sp_err *e)
{
    struct mech_ctx *x = calloc(1, sizeof *x);
    uint8_t *block;

    if (!x) {
        (void)sp_fail(e, SP_ENOMEM, 0, "out of memory");
        return NULL;
    }
    x->role = role;
    host_courier_init(&x->courier);
    x->crypto = mech_take_crypto(e);
    x->block = block = x->crypto ? mech_take_block(e) : NULL;
    if (!block) {
        mech_free_ctx(x);
        return NULL;
    }
    sp_arena_init(&x->mem, block, OWN_N);
    sp_arena_init(&x->sec_mem, block + OWN_N, SEC_ARENA_MIN);
    sp_arena_init(&x->carry_mem, block + OWN_N + SEC_ARENA_MIN, CARRY_N);
    return x;
}

/* About how much memory was written to; what a step needs is some times its token. */
static size_t estimate_touched(const struct mech_ctx *x)
{
    struct sec_facts facts = {0};

    if (x->sec)
        sec_tell(x->sec, &facts);
    return x->mem.peak + x->sec_mem.peak + x->carry_mem.peak + 16 * facts.bytes;
}

/* `sec` has been wiped, and with it what it parted from its arena. */
static void free_block(struct mech_ctx *x, size_t touched)
{
    if (!x->block)
        return;
    sp_arena_reset(&x->mem);
    sp_arena_reset(&x->sec_mem);
    sp_arena_reset(&x->carry_mem);
    mech_give_block(x->block, touched);
}

void mech_free_ctx(struct mech_ctx *x)
{
    size_t touched;

    if (!x)
        return;
    touched = estimate_touched(x);
    sec_wipe(x->sec);
    host_courier_close(&x->courier);
    mech_close_ports(&x->ports);
    mech_give_crypto(x->crypto);
    mech_drop_tickets(x->tickets);
    mech_drop_cred(x->cred);
    free(x->target);
    free_block(x, touched);
    free(x);
}

struct kctx *mech_established(gss_ctx_id_t handle, struct sp_err *e)
{
    struct mech_ctx *x = (struct mech_ctx *)handle;

    if (x && x->k)
        return x->k;
    (void)sp_fail(e, SP_EREFUSED, KCTX_NO_CONTEXT, "the context is not established");
    return NULL;
}

/* The client's address counts only where the daemon believes this uid ([courier] attest). */
static void note_address(struct host_courier *h, gss_channel_bindings_t b)
{
    size_t n = b->initiator_address.length;

    if ((b->initiator_addrtype == GSS_C_AF_INET && n == 4) ||
        (b->initiator_addrtype == AF_INET6_OF_KERBEROS && n == 16)) {
        memcpy(h->address, b->initiator_address.value, n);
        h->address_n = (uint8_t)n;
    }
}

bool mech_bind(struct mech_ctx *x, gss_channel_bindings_t b, const uint8_t **out, struct sp_span *channel,
               struct sp_err *e)
{
    struct kctx_bindings k;

    *out = NULL;
    if (b == GSS_C_NO_CHANNEL_BINDINGS)
        return true;
    k = (struct kctx_bindings){b->initiator_addrtype, b->acceptor_addrtype, mech_span(&b->initiator_address),
                               mech_span(&b->acceptor_address), mech_span(&b->application_data)};
    note_address(&x->courier, b);
    *out = x->bindings;
    return kctx_hash_bindings(x->crypto, &k, &x->mem, x->bindings, e) &&
           (!channel || kctx_put_bindings(&k, &x->mem, channel, e));
}

OM_uint32 mech_life(const struct mech_ctx *x)
{
    int64_t now = host_env().wall_us / 1000000;

    if (!x->k)
        return 0;
    return x->k->endtime > now ? (OM_uint32)(x->k->endtime - now) : 0;
}

uint32_t mech_flags(const struct mech_ctx *x)
{
    if (x->k)
        return (x->k->flags | GSS_C_PROT_READY_FLAG) & ~(uint32_t)GSS_C_TRANS_FLAG; /* see entries.h */
    return x->flags & ~(uint32_t)(GSS_C_PROT_READY_FLAG | GSS_C_DELEG_FLAG | GSS_C_DELEG_POLICY_FLAG);
}

bool mech_give_principal(const char *text, gss_name_t *out, struct sp_err *e)
{
    if (out)
        *out = (gss_name_t)mech_parse_name(sp_str(text), e);
    return sp_ok(e);
}

/* ---- entry points ---- */

OM_uint32 mech_delete_sec_context(OM_uint32 *minor, gss_ctx_id_t *ctx, gss_buffer_t out)
{
    *minor = 0;
    if (out)
        *out = (gss_buffer_desc)GSS_C_EMPTY_BUFFER;
    if (ctx) {
        mech_free_ctx((struct mech_ctx *)*ctx);
        *ctx = GSS_C_NO_CONTEXT;
    }
    return GSS_S_COMPLETE;
}

/* RFC 4121 4.3: no such tokens are made any more, and one that arrives ends nothing. */
OM_uint32 mech_process_context_token(OM_uint32 *minor, gss_ctx_id_t ctx, gss_buffer_t token)
{
    (void)ctx;
    (void)token;
    return mech_fail_text(minor, GSS_S_DEFECTIVE_TOKEN, "context tokens behind the last one are not taken");
}

OM_uint32 mech_context_time(OM_uint32 *minor, gss_ctx_id_t ctx, OM_uint32 *life)
{
    struct sp_err e = {0};

    *minor = 0;
    if (!mech_established(ctx, &e))
        return mech_fail(minor, &e);
    *life = mech_life((struct mech_ctx *)ctx);
    return *life ? GSS_S_COMPLETE : GSS_S_CONTEXT_EXPIRED;
}

static bool give_names(const struct mech_ctx *x, gss_name_t *source, gss_name_t *target, struct sp_err *e)
{
    if (source)
        *source = GSS_C_NO_NAME;
    if (target)
        *target = GSS_C_NO_NAME;
    if (x->k)
        return mech_give_principal(x->k->client, source, e) && mech_give_principal(x->k->service, target, e);
    if (target && x->target)
        *target = (gss_name_t)mech_make_name(&x->target->name, x->target->realm, e);
    return sp_ok(e);
}

OM_uint32 mech_inquire_context(OM_uint32 *minor, gss_ctx_id_t ctx, gss_name_t *source, gss_name_t *target,
                               OM_uint32 *life, gss_OID *mech, OM_uint32 *flags, int *local, int *open)
{
    const struct mech_ctx *x = (struct mech_ctx *)ctx;
    struct sp_err e = {0};

    *minor = 0;
    if (!x)
        return GSS_S_NO_CONTEXT;
    if (!give_names(x, source, target, &e))
        return mech_fail(minor, &e);
    if (life)
        *life = mech_life(x);
    if (mech)
        *mech = &mech_oid_iakerb;
    if (flags)
        *flags = mech_flags(x);
    if (local)
        *local = x->role == SEC_INITIATOR;
    if (open)
        *open = x->k != NULL;
    return GSS_S_COMPLETE;
}

OM_uint32 mech_set_sec_context_option(OM_uint32 *minor, gss_ctx_id_t *ctx, gss_OID object, gss_buffer_t value)
{
    (void)ctx;
    (void)object;
    (void)value;
    *minor = 0;
    return GSS_S_UNAVAILABLE;
}
