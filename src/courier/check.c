/* SPDX-License-Identifier: MIT */
/* What is carried, and what is an answer to it: exactly one well-formed AS-REQ, TGS-REQ or password change,
 * nothing behind it (T103), and one AS-REP, TGS-REP, KRB-ERROR or reply to a password change back (T106). */
#include "bytes/cursor.h"
#include "courier/engine.h"
#include "krb/messages.h"
#include "krb/name.h"

enum { PA_PK_AS_REQ = 16, HAS_PADATA = 3 };
enum { KPASSWD_CHANGE = 1, KPASSWD_SET = 0xff80, KPASSWD_HEAD = 6 };

static bool not_carried(struct sp_err *e, const char *what)
{
    return sp_fail(e, SP_EREFUSED, KRB_ERR_GENERIC, "%s is not carried", what);
}

/* RFC 3244 2 and its reply: length of the whole, version, length of an AP message that stands next. */
struct kpasswd {
    unsigned version;
    struct sp_span ap, rest;
};

static bool get_kpasswd(struct sp_span in, struct kpasswd *out, struct sp_err *e)
{
    struct sp_cur c = sp_cur_of(in, e);
    struct kpasswd v = {0};
    size_t n = sp_get_be16(&c, "length");

    v.version = sp_get_be16(&c, "version");
    v.ap = sp_take(&c, sp_get_be16(&c, "length of the AP message"), "AP message");
    if (!sp_ok(e))
        return false;
    v.rest = sp_span(c.p, sp_left(&c));
    if (n != in.n)
        return sp_fail_at(e, SP_EINPUT, KRB_ERR_GENERIC, 0, "a password change says %zu bytes and has %zu", n,
                          in.n);
    *out = v;
    return true;
}

static bool looks_like_kpasswd(struct sp_span in)
{
    unsigned version = in.n >= KPASSWD_HEAD ? (unsigned)in.p[2] << 8 | in.p[3] : 0;

    return version == KPASSWD_CHANGE || version == KPASSWD_SET;
}

static bool check_kpasswd(struct sp_span in, struct sp_arena *mem, struct facts *out, struct sp_err *e)
{
    struct kpasswd k = {0};
    struct krb_ap_req ap = {0};
    struct krb_priv priv = {0};

    if (!get_kpasswd(in, &k, e) || !krb_get(KRB_AP_REQ, k.ap, KRB_STRICT, mem, &ap, e) ||
        !krb_get(KRB_PRIV, k.rest, KRB_STRICT, mem, &priv, e))
        return false;
    if (!krb_is_changepw_name(&ap.ticket.sname)) /* T108 */
        return sp_fail(e, SP_EREFUSED, KDC_ERR_POLICY, "a password change with a ticket of something else");
    *out = (struct facts){.kind = LADDER_KPASSWD, .realm = ap.ticket.realm};
    return true;
}

static void look_at_padata(const struct krb_kdc_req *m, struct facts *out)
{
    bool fast = false, timestamp = false, challenge = false, spake = false, pkinit = false;

    for (uint32_t i = 0; KRB_HAS(m, HAS_PADATA) && i < m->padata.count; i++) {
        int32_t type = m->padata.v[i].type;
        fast |= type == PA_FX_FAST;
        timestamp |= type == PA_ENC_TIMESTAMP;
        challenge |= type == PA_ENCRYPTED_CHALLENGE;
        spake |= type == PA_SPAKE;
        pkinit |= type == PA_PK_AS_REQ;
    }
    out->proof = timestamp || challenge || spake || fast;
    out->guessable = timestamp || (challenge && !fast);
    out->armoured = fast || pkinit;
}

static bool read_request(struct sp_span in, struct sp_arena *mem, struct facts *out, struct sp_err *e)
{
    enum krb_type t = krb_sniff(in);
    struct krb_kdc_req m = {0};
    struct facts f = {.kind = t == KRB_AS_REQ ? LADDER_AS : LADDER_TGS};

    if (in.n == 0 || in.n > LADDER_MESSAGE_MAX)
        return sp_fail(e, SP_EREFUSED, KRB_ERR_GENERIC, "a message of %zu bytes", in.n);
    if (looks_like_kpasswd(in))
        return check_kpasswd(in, mem, out, e);
    if (t != KRB_AS_REQ && t != KRB_TGS_REQ)
        return not_carried(e, t == KRB_TYPE_COUNT ? "what is no Kerberos message" : krb_type_name(t));
    if (!krb_get(t, in, KRB_STRICT, mem, &m, e))
        return false;
    f.realm = m.body.realm;
    if (t == KRB_AS_REQ)
        look_at_padata(&m, &f);
    *out = f;
    return true;
}

bool check_request(struct sp_span message, struct sp_arena *mem, struct facts *out, struct sp_err *e)
{
    if (read_request(message, mem, out, e))
        return true;
    if (e->proto != KDC_ERR_POLICY)
        e->proto = KRB_ERR_GENERIC;
    return false;
}

/* ---- answers ---- */

static bool check_error(struct sp_span in, struct sp_arena *mem, int32_t *code, struct sp_err *e)
{
    struct krb_error m = {0};

    if (!krb_get(KRB_ERROR, in, KRB_UNKNOWN_TAIL, mem, &m, e))
        return false;
    *code = m.code;
    return true;
}

/* The reply's own framing; a bare KRB-ERROR, or one where the AP-REP would be absent (RFC 3244 2). */
static bool check_kpasswd_reply(struct sp_span in, struct sp_arena *mem, int32_t *code, struct sp_err *e)
{
    struct kpasswd k = {0};
    struct krb_ap_rep ap = {0};
    struct krb_priv priv = {0};

    if (krb_sniff(in) == KRB_ERROR)
        return check_error(in, mem, code, e);
    if (!get_kpasswd(in, &k, e))
        return false;
    if (k.version != KPASSWD_CHANGE && k.version != KPASSWD_SET)
        return sp_fail(e, SP_EINPUT, 0, "version %u of a password change", k.version);
    if (k.ap.n == 0)
        return check_error(k.rest, mem, code, e);
    return krb_get(KRB_AP_REP, k.ap, KRB_UNKNOWN_TAIL, mem, &ap, e) &&
           krb_get(KRB_PRIV, k.rest, KRB_UNKNOWN_TAIL, mem, &priv, e);
}

bool check_answer(enum ladder_kind kind, struct sp_span answer, struct sp_arena *mem, int32_t *code,
                  struct sp_err *e)
{
    enum krb_type want = kind == LADDER_AS ? KRB_AS_REP : KRB_TGS_REP, t = krb_sniff(answer);
    struct krb_kdc_rep m = {0};

    *code = 0;
    if (answer.n > LADDER_MESSAGE_MAX)
        return sp_fail(e, SP_EINPUT, 0, "an answer of %zu bytes", answer.n);
    if (kind == LADDER_KPASSWD)
        return check_kpasswd_reply(answer, mem, code, e);
    if (t == KRB_ERROR)
        return check_error(answer, mem, code, e);
    if (t != want)
        return sp_fail(e, SP_EINPUT, 0, "%s where %s belongs",
                       t == KRB_TYPE_COUNT ? "no Kerberos message" : krb_type_name(t), krb_type_name(want));
    return krb_get(want, answer, KRB_UNKNOWN_TAIL, mem, &m, e);
}

bool check_make_policy(struct sp_env env, struct sp_span realm, struct sp_arena *mem, struct sp_span *out,
                       struct sp_err *e)
{
    struct sp_span parts[2] = {SP_LIT("krbtgt"), realm};
    struct krb_error m = {
        .stime = env.wall_us / US_PER_S,
        .susec = (uint32_t)(env.wall_us % US_PER_S),
        .code = KDC_ERR_POLICY,
        .realm = realm,
        .sname = krb_name_of(NT_SRV_INST, parts, 2),
    };

    return krb_make(KRB_ERROR, &m, mem, out, e);
}
