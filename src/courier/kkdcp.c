/* SPDX-License-Identifier: MIT */
#include "courier/kkdcp.h"

#include "bytes/emitter.h"
#include "krb/codes.h"
#include "krb/messages.h"

enum { LENGTH_N = 4, HAS_REALM = 1, HAS_HINT = 2 };
/* MS-NRPC 3.5.4.3.1: bits F (the primary domain controller) and V (one that can be written to). */
enum { HINT_PRIMARY = 0x80, HINT_WRITABLE = 0x1000 };

/* RFC 4120 7.2.2: four bytes of length, then as many of message; MS-KKDCP keeps them inside the wrapper. */
static bool unwrap(struct sp_span body, struct sp_span in, struct sp_span *message, struct sp_err *e)
{
    uint32_t at = (uint32_t)(in.p - body.p);
    size_t n;

    if (in.n < LENGTH_N)
        return sp_fail_at(e, SP_EINPUT, KRB_ERR_GENERIC, at, "kerb-message of %zu bytes", in.n);
    n = (size_t)in.p[0] << 24 | (size_t)in.p[1] << 16 | (size_t)in.p[2] << 8 | in.p[3];
    if (n != in.n - LENGTH_N)
        return sp_fail_at(e, SP_EINPUT, KRB_ERR_GENERIC, at, "kerb-message says %zu bytes and has %zu", n,
                          in.n - LENGTH_N);
    *message = sp_span(in.p + LENGTH_N, n);
    return true;
}

static bool get_body(struct sp_span body, struct sp_arena *mem, struct krb_kdc_proxy *m, bool *more,
                     struct sp_err *e)
{
    struct sp_err strict = {0};

    if (body.n > KKDCP_BODY_MAX)
        return sp_fail(e, SP_EINPUT, KRB_ERR_GENERIC, "a body of %zu bytes", body.n);
    *more = false;
    if (krb_get(KRB_KDC_PROXY, body, KRB_STRICT, mem, m, &strict))
        return true;
    *more = true;
    if (krb_get(KRB_KDC_PROXY, body, KRB_UNKNOWN_TAIL, mem, m, e))
        return true;
    e->proto = KRB_ERR_GENERIC;
    return false;
}

static bool get(struct sp_span body, struct sp_arena *mem, struct kkdcp *out, struct sp_err *e)
{
    struct krb_kdc_proxy m = {0};
    struct kkdcp v = {0};

    if (!get_body(body, mem, &m, &v.more, e) || !unwrap(body, m.message, &v.message, e))
        return false;
    if (KRB_HAS(&m, HAS_REALM))
        v.realm = m.target_domain;
    v.hinted = KRB_HAS(&m, HAS_HINT);
    v.hint = v.hinted ? (uint32_t)m.dclocator_hint : 0;
    *out = v;
    return true;
}

bool kkdcp_get_request(struct sp_span body, struct sp_arena *mem, struct kkdcp *out, struct sp_err *e)
{
    struct kkdcp v;

    if (!get(body, mem, &v, e))
        return false;
    if (v.realm.n == 0) /* MS-KKDCP 3.2.5.1: ERROR_BAD_FORMAT */
        return sp_fail(e, SP_EINPUT, KRB_ERR_GENERIC, "no target-domain");
    *out = v;
    return true;
}

bool kkdcp_get_reply(struct sp_span body, struct sp_arena *mem, struct kkdcp *out, struct sp_err *e)
{
    return get(body, mem, out, e);
}

bool kkdcp_make(const struct kkdcp *m, struct sp_arena *mem, struct sp_span *body, struct sp_err *e)
{
    struct krb_kdc_proxy v = {.target_domain = m->realm, .dclocator_hint = m->hint};
    size_t n = m->message.n + LENGTH_N;
    struct sp_emit o;
    uint8_t *p;

    if (m->message.n > KKDCP_BODY_MAX)
        return sp_fail(e, SP_EINPUT, KRB_ERR_GENERIC, "a message of %zu bytes for a relay", m->message.n);
    p = sp_alloc(mem, n, e);
    if (!p)
        return false;
    o = sp_emit_to(p, n, e);
    sp_put_bytes(&o, m->message);
    sp_put_be32(&o, (uint32_t)m->message.n);
    v.has = (m->realm.n ? KRB_BIT(HAS_REALM) : 0) | (m->hinted ? KRB_BIT(HAS_HINT) : 0);
    if (!sp_put_done(&o, &v.message) || !krb_make(KRB_KDC_PROXY, &v, mem, body, e))
        return false;
    return body->n <= KKDCP_BODY_MAX ||
           sp_fail(e, SP_EINPUT, KRB_ERR_GENERIC, "a body of %zu bytes for a relay", body->n);
}

bool kkdcp_wants_primary(const struct kkdcp *m)
{
    return m->hinted && (m->hint & (HINT_PRIMARY | HINT_WRITABLE)) != 0;
}
