/* SPDX-License-Identifier: MIT */
#include "gss/ride.h"

#include "bytes/der.h"
#include "gss/token.h"
#include "krb/codes.h"
#include "krb/messages.h"

static enum krb_type header_of(enum ride_dialect d)
{
    return d == RIDE_OLD ? KRB_IAKERB_HEADER_OLD : KRB_IAKERB_HEADER;
}

/* The first token of a context is framed in both dialects. */
bool ride_make(const struct ride *r, struct sp_arena *mem, struct sp_span *token, struct sp_err *e)
{
    const struct krb_iakerb_header h = {.target_realm = r->realm};
    struct sp_span header;
    uint8_t *body;

    if (!krb_make(header_of(r->dialect), &h, mem, &header, e) ||
        !(body = sp_alloc(mem, header.n + r->message.n, e)))
        return false;
    memcpy(body, header.p, header.n);
    if (r->message.n)
        memcpy(body + header.n, r->message.p, r->message.n);
    return token_make(TOKEN_IAKERB, TOKEN_IAKERB_PROXY, sp_span(body, header.n + r->message.n), mem, token,
                      e);
}

/* Framed, or as MIT before 1.22 and some others send it: the token id alone, or for an error nothing at all.
 */
static bool open_token(enum ride_dialect d, struct sp_span in, struct token *out, struct sp_err *e)
{
    if (in.n > 0 && in.p[0] == DER_APPLICATION) {
        if (!token_get(in, out, e))
            return false;
        return out->mech == TOKEN_IAKERB || (out->mech == TOKEN_KRB5 && out->id == TOKEN_KRB_ERROR) ||
               sp_fail(e, SP_EINPUT, 0, "a token of %s", token_mech_name(out->mech));
    }
    *out = (struct token){.mech = TOKEN_IAKERB, .id = TOKEN_KRB_ERROR, .body = in};
    if (krb_sniff(in) == KRB_ERROR)
        return true;
    if (in.n > 2) {
        out->id = (uint16_t)(in.p[0] << 8 | in.p[1]);
        out->body = sp_span(in.p + 2, in.n - 2);
    }
    return (in.n > 2 && (out->id == TOKEN_KRB_ERROR || (d == RIDE_OLD && out->id == TOKEN_IAKERB_PROXY))) ||
           sp_fail(e, SP_EINPUT, 0, "no token of IAKERB");
}

static bool refused(const struct krb_error *m, struct sp_err *e)
{
    return sp_fail(e, SP_EREFUSED, m->code, "the service refused: %s", krb_code_name(m->code));
}

/* The acceptor's own words about KDCs look like a KDC's. */
static bool check_error(struct sp_span message, bool own, struct sp_arena *mem, struct sp_err *e)
{
    struct krb_error m;

    if (!krb_get(KRB_ERROR, message, KRB_UNKNOWN_TAIL, mem, &m, e))
        return false;
    return (!own && m.code != KRB_AP_ERR_IAKERB_KDC_NOT_FOUND &&
            m.code != KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE) ||
           refused(&m, e);
}

/* Which realm the header names says nothing: Windows writes "." whatever it was asked. */
bool ride_get(enum ride_dialect d, struct sp_span token, struct sp_arena *mem, struct sp_span *message,
              struct sp_err *e)
{
    struct krb_iakerb_header h;
    struct sp_span der, rest;
    struct token t;
    struct sp_cur c;

    if (!open_token(d, token, &t, e))
        return false;
    if (t.id == TOKEN_KRB_ERROR)
        return check_error(t.body, true, mem, e);
    if (t.id != TOKEN_IAKERB_PROXY)
        return sp_fail(e, SP_EINPUT, 0, "a token that carries no message");
    c = sp_cur_of(t.body, e);
    if (!sp_der_any(&c, "IAKERB-HEADER", &der) || !krb_get(header_of(d), der, KRB_UNKNOWN_TAIL, mem, &h, e))
        return false;
    rest = sp_span(c.p, sp_left(&c));
    if (rest.n == 0)
        return sp_fail(e, SP_EINPUT, 0, "a header without a message");
    if (krb_sniff(rest) == KRB_ERROR && !check_error(rest, false, mem, e))
        return false;
    *message = rest;
    return true;
}
