/* SPDX-License-Identifier: MIT */
/* Changing a password, seen from the client (RFC 3244 2). A subkey is made for each request: whoever answers
 * under it has read that very request, so the reply needs no clock. */
#include "client/kpasswd.h"

#include "base/secret.h"
#include "base/text.h"
#include "bytes/cursor.h"
#include "bytes/emitter.h"
#include "client/internal.h"

enum { VERSION_CHANGE = 1, VERSION_SET = 0xff80, FRAME_N = 6 };

/* ---- the request ---- */

static bool check_wish(const struct client_change_wish *w, struct sp_err *e)
{
    const struct crypto_type *t = crypto_find_type(w->ticket->key.etype);

    if (w->password.n == 0 || w->password.n > CLIENT_PASSWORD_MAX)
        return sp_fail(e, SP_EINPUT, 0, "a password of %zu bytes, at most %d", w->password.n,
                       CLIENT_PASSWORD_MAX);
    if (!t || w->ticket->key.n != t->key_n)
        return sp_fail(e, SP_EINPUT, 0, "the session key of the ticket given is of type %d",
                       w->ticket->key.etype);
    if (!(w->ticket->flags & KRB_FLAG(TKT_INITIAL)))
        return sp_fail(
            e, SP_EREFUSED, KDC_ERR_POLICY,
            "a password is changed with a ticket that came straight from a password; the KDC gave another");
    return true;
}

static bool seal(struct crypto *c, struct sp_env env, enum krb_type type, const void *m,
                 const struct sp_key *key, uint32_t usage, struct sp_arena *mem, struct krb_enc *out,
                 struct sp_err *e)
{
    struct sp_span plain;
    uint8_t *p;
    size_t n;

    if (!krb_make(type, m, mem, &plain, e))
        return false;
    n = crypto_cipher_n(key->etype, plain.n);
    p = sp_alloc(mem, n, e);
    if (!p || !crypto_encrypt(c, key, usage, env.rng, plain, p, &n, e))
        return false;
    *out = (struct krb_enc){.etype = key->etype, .cipher = sp_span(p, n)};
    return true;
}

static bool make_ap_req(const struct client_change *ch, struct crypto *c, struct sp_env env,
                        const struct krb_credential *t, struct sp_arena *mem, struct sp_span *out,
                        struct sp_err *e)
{
    struct krb_authenticator a = {.has = KRB_BIT(6) | KRB_BIT(7), .crealm = t->crealm, .cname = t->client};
    struct krb_ap_req ap = {0};

    a.ctime = ch->ctime;
    a.cusec = ch->cusec;
    a.subkey = (struct krb_keyblock){ch->subkey.etype, sp_span(ch->subkey.b, ch->subkey.n)};
    a.seq = ch->seq;
    return krb_get(KRB_TICKET, t->ticket, KRB_STRICT, mem, &ap.ticket, e) &&
           seal(c, env, KRB_AUTHENTICATOR, &a, &ch->session, KU_AP_REQ_AUTH, mem, &ap.authenticator, e) &&
           krb_make(KRB_AP_REQ, &ap, mem, out, e);
}

/* Version 1 for the client's own password: servers older than RFC 3244 know nothing else. */
static bool make_data(const struct client_change_wish *w, struct sp_arena *mem, struct sp_span *out,
                      struct sp_err *e)
{
    struct krb_change_passwd m = {.has = KRB_BIT(1) | KRB_BIT(2),
                                  .newpasswd = w->password,
                                  .targname = w->target,
                                  .targrealm = w->target_realm};

    if (w->target.parts.count > 0)
        return krb_make(KRB_CHANGE_PASSWD, &m, mem, out, e);
    *out = w->password;
    return true;
}

/* RFC 4120 5.7.1 wants an address of the sender; who is behind a translator knows none that means anything.
 */
static bool make_priv(const struct client_change *ch, struct crypto *c, struct sp_env env,
                      struct sp_span data, struct sp_arena *mem, struct sp_span *out, struct sp_err *e)
{
    static const uint8_t nowhere[4] = {0};
    struct krb_enc_priv part = {
        .has = KRB_BIT(1) | KRB_BIT(2) | KRB_BIT(3),
        .user_data = data,
        .timestamp = ch->ctime,
        .usec = ch->cusec,
        .seq = ch->seq,
        .saddr = {2, sp_span(nowhere, sizeof nowhere)},
    };
    struct krb_priv priv = {0};

    return seal(c, env, KRB_ENC_PRIV, &part, &ch->subkey, KU_PRIV, mem, &priv.enc, e) &&
           krb_make(KRB_PRIV, &priv, mem, out, e);
}

static bool make_frame(uint16_t version, struct sp_span ap_req, struct sp_span priv, struct sp_arena *mem,
                       struct sp_span *out, struct sp_err *e)
{
    size_t n = FRAME_N + ap_req.n + priv.n;
    uint8_t *p = n <= UINT16_MAX ? sp_alloc(mem, n, e) : NULL;
    struct sp_emit o;

    if (n > UINT16_MAX)
        return sp_fail(e, SP_EINPUT, KRB_ERR_FIELD_TOOLONG, "a request of %zu bytes", n);
    if (!p)
        return false;
    o = sp_emit_to(p, n, e);
    sp_put_bytes(&o, priv);
    sp_put_bytes(&o, ap_req);
    sp_put_be16(&o, (uint16_t)ap_req.n);
    sp_put_be16(&o, version);
    sp_put_be16(&o, (uint16_t)n);
    return sp_put_done(&o, out);
}

static bool begin(struct client_change *ch, struct sp_env env, const struct client_change_wish *w,
                  struct sp_err *e)
{
    int64_t us = env.wall_us + w->offset_us;

    *ch = (struct client_change){
        .session = w->ticket->key, .ctime = us / 1000000, .cusec = (uint32_t)(us % 1000000)};
    sp_rng_fill(env.rng, &ch->seq, sizeof ch->seq);
    ch->seq &= 0x3fffffff; /* as elsewhere: old peers read it as a signed number */
    return crypto_random_key(ch->session.etype, env.rng, &ch->subkey, e);
}

bool client_change_request(struct client_change *ch, struct crypto *c, struct sp_env env,
                           const struct client_change_wish *w, struct sp_arena *mem, struct sp_span *out,
                           struct sp_err *e)
{
    uint16_t version = w->target.parts.count > 0 ? VERSION_SET : VERSION_CHANGE;
    struct sp_span data, ap_req, priv;

    if (check_wish(w, e) && begin(ch, env, w, e) && make_data(w, mem, &data, e) &&
        make_ap_req(ch, c, env, w->ticket, mem, &ap_req, e) && make_priv(ch, c, env, data, mem, &priv, e) &&
        make_frame(version, ap_req, priv, mem, out, e))
        return true;
    sp_wipe(ch, sizeof *ch);
    return false;
}

/* ---- the reply ---- */

static bool distrust(struct sp_err *e, const char *why)
{
    return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_MODIFIED, "the password server's reply cannot be trusted: %s",
                   why);
}

/* Length, version, length of the AP-REP; the version is not looked at, servers answer with either. */
static bool read_frame(struct sp_span reply, struct sp_span *ap_rep, struct sp_span *rest, struct sp_err *e)
{
    struct sp_cur c = sp_cur_of(reply, e);
    uint16_t n = sp_get_be16(&c, "message length");

    (void)sp_get_be16(&c, "protocol version");
    *ap_rep = sp_take(&c, sp_get_be16(&c, "AP-REP length"), "AP-REP");
    *rest = sp_take(&c, sp_left(&c), "KRB-PRIV");
    return sp_ok(e) && (n == reply.n || sp_fail(e, SP_EINPUT, 0,
                                                "a kpasswd message of %zu bytes says it has %u", reply.n, n));
}

static bool open_enc(struct crypto *c, const struct krb_enc *enc, const struct sp_key *key, uint32_t usage,
                     struct sp_arena *mem, struct sp_span *out, struct sp_err *e)
{
    uint8_t *p = sp_alloc(mem, enc->cipher.n, e);
    size_t n = enc->cipher.n;
    struct sp_err bad = {0};

    if (!p)
        return false;
    if (enc->etype != key->etype)
        return distrust(e, "it is sealed with another type of key");
    if (!crypto_decrypt(c, key, usage, enc->cipher, p, &n, &bad)) {
        if (bad.kind == SP_EREFUSED || bad.kind == SP_EINPUT)
            return distrust(e, "it does not open");
        *e = bad;
        return false;
    }
    *out = sp_span(p, n);
    return true;
}

/* RFC 4120 3.2.5: the server could read our authenticator. A subkey of its own is not used here (RFC 3244 2).
 */
static bool read_ap_rep(const struct client_change *ch, struct crypto *c, struct sp_span in,
                        struct sp_arena *mem, struct krb_enc_ap_rep *out, struct sp_err *e)
{
    struct krb_ap_rep rep;
    struct sp_span plain;

    if (!krb_get(KRB_AP_REP, in, KRB_STRICT, mem, &rep, e) ||
        !open_enc(c, &rep.enc, &ch->session, KU_AP_REP, mem, &plain, e) ||
        !krb_get(KRB_ENC_AP_REP, plain, KRB_STRICT, mem, out, e))
        return false;
    return (out->ctime == ch->ctime && out->cusec == ch->cusec) || distrust(e, "it answers another request");
}

/* Both directions have one key: the number says that it is not our own message that came back. */
static bool read_priv(const struct client_change *ch, struct crypto *c, const struct krb_enc_ap_rep *rep,
                      struct sp_span in, struct sp_arena *mem, struct krb_enc_priv *out, struct sp_err *e)
{
    struct krb_priv priv;
    struct sp_span plain;

    if (!krb_get(KRB_PRIV, in, KRB_STRICT, mem, &priv, e) ||
        !open_enc(c, &priv.enc, &ch->subkey, KU_PRIV, mem, &plain, e) ||
        !krb_get(KRB_ENC_PRIV, plain, KRB_STRICT, mem, out, e))
        return false;
    if (KRB_HAS(rep, 3) ? !KRB_HAS(out, 3) || out->seq != rep->seq : KRB_HAS(out, 3) && out->seq == ch->seq)
        return distrust(e, "its two halves do not belong together");
    return true;
}

static bool read_verdict(struct sp_span data, struct client_verdict *out, struct sp_err *e)
{
    struct sp_cur c = sp_cur_of(data, e);
    struct client_verdict v = {.result = sp_get_be16(&c, "result code")};

    v.text = sp_take(&c, sp_left(&c), "result text");
    if (!sp_ok(e))
        return false;
    *out = v;
    return true;
}

/* Nothing in it is proven. Its words may help all the same. */
static bool read_error(struct sp_span in, struct sp_arena *mem, struct sp_err *e)
{
    struct krb_error err;
    struct client_verdict v = {0};
    struct sp_err none = {0};
    char words[80];
    struct sp_text t = sp_text(words, sizeof words);

    if (!krb_get(KRB_ERROR, in, KRB_STRICT, mem, &err, e))
        return false;
    if (err.data.n > 0 && read_verdict(err.data, &v, &none))
        sp_text_safe(&t, v.text);
    return sp_fail(e, SP_EREFUSED, err.code, "the password server refused: %s%s%s", krb_code_name(err.code),
                   v.text.n ? ": " : "", v.text.n ? words : "");
}

bool client_change_reply(const struct client_change *ch, struct crypto *c, struct sp_span reply,
                         struct sp_arena *mem, struct client_verdict *out, struct sp_err *e)
{
    struct krb_enc_ap_rep rep = {0};
    struct krb_enc_priv priv = {0};
    struct sp_span ap_rep, rest;

    if (krb_sniff(reply) == KRB_ERROR) /* bare, as some servers send it */
        return read_error(reply, mem, e);
    if (!read_frame(reply, &ap_rep, &rest, e))
        return false;
    if (ap_rep.n == 0)
        return read_error(rest, mem, e);
    return read_ap_rep(ch, c, ap_rep, mem, &rep, e) && read_priv(ch, c, &rep, rest, mem, &priv, e) &&
           read_verdict(priv.user_data, out, e);
}
