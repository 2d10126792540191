/* SPDX-License-Identifier: MIT */
/* An established context as bytes for another process of the same user: nothing in them is protected, and
 * nothing in them is believed before it was checked. */
#include "bytes/cursor.h"
#include "bytes/emitter.h"
#include "gss/kctx_internal.h"

#define EXPORT_MAGIC 0x53504b31u /* "SPK1": another layout gets another number */

static void put_key(struct sp_emit *o, const struct sp_key *k)
{
    sp_put_bytes(o, sp_span(k->b, k->n));
    sp_put_u8(o, k->n);
    sp_put_be32(o, (uint32_t)k->etype);
}

static void put_name(struct sp_emit *o, const char name[KCTX_NAME_MAX])
{
    struct sp_span s = sp_span(name, strnlen(name, KCTX_NAME_MAX - 1));

    sp_put_bytes(o, s);
    sp_put_be16(o, (uint16_t)s.n);
}

/* Back to front, as all writing here: read it from below. */
static void put_context(struct sp_emit *o, const struct kctx *k)
{
    put_name(o, k->service);
    put_name(o, k->client);
    sp_put_be64(o, (uint64_t)k->endtime);
    sp_put_be64(o, (uint64_t)k->authtime);
    sp_put_be64(o, k->recv_seen);
    sp_put_be64(o, k->recv_seq);
    sp_put_be64(o, k->send_seq);
    put_key(o, &k->acceptor_subkey);
    put_key(o, &k->subkey);
    put_key(o, &k->session);
    sp_put_be32(o, k->flags);
    sp_put_u8(o, k->no_finished);
    sp_put_u8(o, (uint8_t)k->role);
    sp_put_be32(o, EXPORT_MAGIC);
}

bool kctx_export(struct kctx *k, uint8_t *out, size_t *out_n, struct sp_err *e)
{
    uint8_t block[KCTX_EXPORT_MAX];
    struct sp_emit o = sp_emit_to(block, sizeof block, e);
    size_t have = *out_n;
    struct sp_span made;
    bool ok;

    if (!kctx_check_ready(k, e))
        return false;
    put_context(&o, k);
    sp_assert(sp_put_done(&o, &made));
    *out_n = made.n;
    ok = have >= made.n || sp_fail(e, SP_EFULL, 0, "room for %zu bytes, %zu are needed", have, made.n);
    if (ok) {
        memcpy(out, made.p, made.n);
        kctx_wipe(k);
    }
    sp_wipe(block, sizeof block);
    return ok;
}

static bool get_key(struct sp_cur *c, struct sp_key *k)
{
    const uint8_t *at = c->p;
    struct sp_key v = {.etype = (int32_t)sp_get_be32(c, "key type")};
    const struct crypto_type *t = crypto_find_type(v.etype);
    struct sp_span b;

    v.n = sp_get_u8(c, "key length");
    if (v.n == 0 ? v.etype != 0 : !t || v.n != t->key_n)
        return sp_cur_fail(c, at, KCTX_DEFECTIVE, "key", "not of a type and length of ours");
    b = sp_take(c, v.n, "key");
    if (b.n == v.n && v.n > 0)
        memcpy(v.b, b.p, b.n);
    *k = v;
    return sp_ok(c->e);
}

static bool get_name(struct sp_cur *c, char out[KCTX_NAME_MAX])
{
    const uint8_t *at = c->p;
    struct sp_span s = sp_take(c, sp_get_be16(c, "name length"), "name");

    if (s.n >= KCTX_NAME_MAX || memchr(s.p, 0, s.n))
        return sp_cur_fail(c, at, KCTX_DEFECTIVE, "name", "too long, or with a NUL in it");
    if (s.n > 0)
        memcpy(out, s.p, s.n);
    return sp_ok(c->e);
}

static bool get_context(struct sp_cur *c, struct kctx *k)
{
    uint32_t magic = sp_get_be32(c, "magic");
    uint8_t role = sp_get_u8(c, "role"), no_finished = sp_get_u8(c, "no_finished");

    if (magic != EXPORT_MAGIC || role > KCTX_ACCEPTOR || no_finished > 1)
        return sp_cur_fail(c, c->base, KCTX_DEFECTIVE, "context", "not an exported context");
    k->role = (enum kctx_role)role;
    k->no_finished = no_finished;
    k->flags = sp_get_be32(c, "flags");
    if (!get_key(c, &k->session) || !get_key(c, &k->subkey) || !get_key(c, &k->acceptor_subkey))
        return false;
    k->send_seq = sp_get_be64(c, "send_seq");
    k->recv_seq = sp_get_be64(c, "recv_seq");
    k->recv_seen = sp_get_be64(c, "recv_seen");
    k->authtime = (int64_t)sp_get_be64(c, "authtime");
    k->endtime = (int64_t)sp_get_be64(c, "endtime");
    return get_name(c, k->client) && get_name(c, k->service) && sp_cur_done(c, "context");
}

bool kctx_import(struct kctx *k, struct sp_span bytes, struct sp_err *e)
{
    struct kctx made = {.state = KCTX_READY};
    struct sp_cur c = sp_cur_of(bytes, e);
    bool ok;

    if (k->state != KCTX_NEW)
        return sp_fail(e, SP_EREFUSED, KCTX_NO_CONTEXT, "the context is in use");
    ok = get_context(&c, &made);
    if (ok && made.session.n == 0)
        ok = sp_fail(e, SP_EINPUT, KCTX_DEFECTIVE, "an exported context without a key");
    if (ok)
        *k = made;
    else if (e->proto == 0) /* cut, or too long */
        e->proto = KCTX_DEFECTIVE;
    kctx_wipe(&made);
    return ok;
}
