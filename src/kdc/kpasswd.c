/* SPDX-License-Identifier: MIT */
/* Password change (RFC 3244, and the older version 1 that it describes): prove, hand to the keeper, answer.
 */
#include "kdc/internal.h"

#define VERSION_CHANGE 1
#define VERSION_SET 0xff80
enum result { /* RFC 3244 2 */
              R_SUCCESS = 0,
              R_MALFORMED = 1,
              R_HARDERROR = 2,
              R_AUTHERROR = 3,
              R_SOFTERROR = 4,
              R_ACCESSDENIED = 5,
              R_BAD_VERSION = 6,
              R_INITIAL_NEEDED = 7,
};

struct frame {
    uint16_t version;
    struct sp_span ap_req, priv;
};

static uint16_t be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static bool read_frame(struct sp_span in, struct frame *f)
{
    size_t ap;

    if (in.n < 6 || be16(in.p) != in.n || in.n - 6 < (ap = be16(in.p + 4)))
        return false;
    *f = (struct frame){be16(in.p + 2), sp_span(in.p + 6, ap), sp_span(in.p + 6 + ap, in.n - 6 - ap)};
    return true;
}

static struct sp_span make_frame(struct sp_span ap_rep, struct sp_span body, struct sp_arena *mem)
{
    size_t n = 6 + ap_rep.n + body.n;
    struct sp_err e = {0};
    uint8_t *p = n <= UINT16_MAX && body.n ? sp_alloc(mem, n, &e) : NULL;

    if (!p)
        return sp_span(NULL, 0);
    p[0] = (uint8_t)(n >> 8);
    p[1] = (uint8_t)n;
    p[3] = 1; /* the reply's version is 1 for both (decision 57) */
    p[4] = (uint8_t)(ap_rep.n >> 8);
    p[5] = (uint8_t)ap_rep.n;
    if (ap_rep.n)
        memcpy(p + 6, ap_rep.p, ap_rep.n);
    memcpy(p + 6 + ap_rep.n, body.p, body.n);
    return sp_span(p, n);
}

static struct sp_span result_data(uint16_t result, struct sp_span text, struct sp_arena *mem,
                                  struct sp_err *e)
{
    uint8_t *p = sp_alloc(mem, 2 + text.n, e);

    if (!p)
        return sp_span(NULL, 0);
    p[0] = (uint8_t)(result >> 8);
    p[1] = (uint8_t)result;
    if (text.n)
        memcpy(p + 2, text.p, text.n);
    return sp_span(p, 2 + text.n);
}

/* No key is agreed: a KRB-ERROR in the frame, the result in its e-data. */
static void refuse(struct kdc_work *w, uint16_t result, const char *text)
{
    static struct sp_span parts[2] = {
        {(const uint8_t *)"kadmin",   6},
        {(const uint8_t *)"changepw", 8}
    };
    struct kdc_record *r = &w->out->record;
    struct krb_name changepw = krb_name_of(NT_SRV_INST, parts, 2);
    bool ours = w->e.kind != SP_EREFUSED && w->e.kind != SP_EINPUT;
    struct sp_err e = {0};

    r->code = kdc_outward_code(w->cf, KDC_TGS, ours ? 0 : w->e.proto, w->proven);
    r->inner_code = kdc_inner_code(ours ? 0 : w->e.proto);
    memcpy(r->text, w->e.text, sizeof r->text);
    w->err_sname = &changepw;
    w->err_data = result_data(ours ? R_HARDERROR : result, sp_str(text), w->mem, &e);
    w->out->reply = make_frame(SP_LIT(""), kdc_make_error(w, r->code, false), w->mem);
    if (w->req->door == KDC_UDP && !w->proven && !kdc_is_near(&w->req->source) &&
        w->out->reply.n > w->req->bytes.n)
        w->out->reply = sp_span(NULL, 0);
}

/* ---- the answer under the client's key ---- */

static bool make_priv(struct kdc *k, struct sp_env env, const struct kdc_change *c, struct sp_span data,
                      struct sp_arena *mem, struct sp_span *out, struct sp_err *e)
{
    static const uint8_t nowhere[4] = {0};
    struct krb_enc_priv part = {
        .has = KRB_BIT(1) | KRB_BIT(2) | KRB_BIT(3),
        .user_data = data,
        .timestamp = env.wall_us / 1000000,
        .usec = (uint32_t)(env.wall_us % 1000000),
        .seq = c->seq,
        .saddr = {c->local_address_n == 16 ? 24 : 2, sp_span(c->local_address, c->local_address_n)},
    };
    struct krb_priv priv = {.enc.etype = c->reply_key.etype};
    struct sp_span plain;
    uint8_t *p;
    size_t n;

    if (c->local_address_n == 0)
        part.saddr.address = sp_span(nowhere, sizeof nowhere);
    if (!krb_make(KRB_ENC_PRIV, &part, mem, &plain, e))
        return false;
    n = crypto_cipher_n(c->reply_key.etype, plain.n);
    p = sp_alloc(mem, n, e);
    if (!p || !crypto_encrypt(k->crypto, &c->reply_key, KU_PRIV, env.rng, plain, p, &n, e))
        return false;
    priv.enc.cipher = sp_span(p, n);
    return krb_make(KRB_PRIV, &priv, mem, out, e);
}

/* Empty, with the reason in e, when memory runs out. */
static struct sp_span make_answer(struct kdc *k, struct sp_env env, const struct kdc_change *c,
                                  uint16_t result, struct sp_span text, struct sp_arena *mem,
                                  struct sp_err *e)
{
    struct sp_span data = result_data(result, text, mem, e), priv, answer;

    if (!data.p || !make_priv(k, env, c, data, mem, &priv, e))
        return sp_span(NULL, 0);
    answer = make_frame(sp_span(c->ap_rep, c->ap_rep_n), priv, mem);
    if (answer.n == 0)
        sp_fail(e, SP_ENOMEM, 0, "no memory for the answer");
    return answer;
}

static void keep_answer(struct kdc *k, struct sp_env env, const struct kdc_change *c, struct sp_span answer)
{
    struct kdc_hash h;

    memcpy(&h, c->request_hash, sizeof h);
    if (answer.n)
        kdc_kept_put(k->shared, env.mono_us, h, &(struct kdc_kept){answer, 0, true});
}

void kdc_finish_change(struct kdc *k, struct sp_env env, const struct kdc_change *c, uint16_t result,
                       struct sp_span text, struct sp_arena *mem, struct sp_span *reply)
{
    struct sp_err e = {0};

    *reply = make_answer(k, env, c, result, text, mem, &e);
    keep_answer(k, env, c, *reply);
}

/* RFC 4120 3.2.4: the client's own time back, under the session key. */
static bool make_ap_rep(struct kdc_work *w, const struct kdc_presented *p, struct kdc_change *c)
{
    struct krb_enc_ap_rep part = {.has = KRB_BIT(3), .ctime = p->auth.ctime, .cusec = p->auth.cusec};
    uint8_t cipher[256];
    struct krb_ap_rep rep = {.enc.etype = p->session.etype};
    struct sp_span plain, out;
    size_t n = sizeof cipher;

    sp_rng_fill(w->env.rng, &c->seq, sizeof c->seq);
    c->seq &= 0x3fffffff; /* peers that read it as signed */
    part.seq = c->seq;
    if (!krb_make(KRB_ENC_AP_REP, &part, w->mem, &plain, &w->e) ||
        !crypto_encrypt(w->k->crypto, &p->session, KU_AP_REP, w->env.rng, plain, cipher, &n, &w->e))
        return false;
    rep.enc.cipher = sp_span(cipher, n);
    if (!krb_make(KRB_AP_REP, &rep, w->mem, &out, &w->e))
        return false;
    if (out.n > sizeof c->ap_rep)
        return sp_fail(&w->e, SP_EBUG, 0, "an AP-REP of %zu bytes", out.n);
    memcpy(c->ap_rep, out.p, out.n);
    c->ap_rep_n = (uint16_t)out.n;
    return true;
}

/* ---- reading the request ---- */

static bool open_priv(struct kdc_work *w, const struct kdc_presented *p, struct sp_span in,
                      struct krb_enc_priv *out)
{
    const struct sp_key *key = p->has_subkey ? &p->subkey : &p->session;
    struct krb_priv priv = {0};
    uint8_t *plain;
    size_t n;

    if (!krb_get(KRB_PRIV, in, KRB_STRICT, w->mem, &priv, &w->e))
        return false;
    n = priv.enc.cipher.n;
    plain = sp_alloc(w->mem, n, &w->e);
    if (!plain)
        return false;
    if (priv.enc.etype != key->etype)
        return sp_fail(&w->e, SP_EREFUSED, KRB_AP_ERR_BAD_INTEGRITY, "KRB-PRIV of type %d", priv.enc.etype);
    if (!crypto_decrypt(w->k->crypto, key, KU_PRIV, priv.enc.cipher, plain, &n, &w->e) ||
        !krb_get(KRB_ENC_PRIV, sp_span(plain, n), KRB_STRICT, w->mem, out, &w->e))
        return false;
    /* Ties the two halves together where no fresh subkey does. */
    if (KRB_HAS(&p->auth, 7) && KRB_HAS(out, 3) && p->auth.seq != out->seq)
        return sp_fail(&w->e, SP_EREFUSED, KRB_AP_ERR_BAD_INTEGRITY,
                       "the two halves of the request do not belong together");
    if (!p->has_subkey && !KRB_HAS(out, 3) &&
        (!KRB_HAS(out, 1) ||
         !kdc_within_skew(w->env.wall_us, kdc_peer_us(out->timestamp, out->usec), w->cf->skew_s)))
        return sp_fail(&w->e, SP_EREFUSED, KRB_AP_ERR_SKEW, "KRB-PRIV without a fresh time");
    return true;
}

struct verdict {
    uint16_t result;
    const char *text;
};

/* Whose password: the client's own, or another's when an administrator asks (decision 57). */
static struct verdict find_target(struct kdc_work *w, const struct kdc_presented *p,
                                  const struct krb_change_passwd *m, struct store_account *target)
{
    struct sp_err e = {0};
    struct sp_span key;

    *target = p->owner;
    if (KRB_HAS(m, 2) && !krb_is_realm_alias(&w->cf->realm, m->targrealm) &&
        !krb_is_realm(&w->cf->realm, m->targrealm))
        return (struct verdict){R_HARDERROR, "No such realm here."};
    if (KRB_HAS(m, 1)) {
        bool found = krb_name_key(&m->targname, &w->cf->realm, w->mem, &key, &e) &&
                     w->k->accounts->find(w->k->accounts, key, w->mem, target, &e);

        if (!found && e.kind != SP_ENOTFOUND && e.kind != SP_EINPUT) /* our trouble */
            return (struct verdict){R_HARDERROR, "The account could not be read."};
        if ((!found || target->id != p->owner.id) && !(p->owner.flags & STORE_ADMIN))
            return (struct verdict){R_ACCESSDENIED,
                                    "Only an administrator may set the password of another account."};
        if (!found)
            return (struct verdict){R_HARDERROR, "No such account."};
    }
    if (target->kind != STORE_USER)
        return (struct verdict){R_ACCESSDENIED, "A service has a random key, not a password."};
    return (struct verdict){R_SUCCESS, ""};
}

static struct verdict read_wish(struct kdc_work *w, const struct kdc_presented *p, uint16_t version,
                                struct sp_span data, struct kdc_change *c)
{
    struct krb_change_passwd m = {.newpasswd = data};
    struct store_account target = {0};
    struct sp_err e = {0};
    struct verdict v;

    if (!(p->ticket.flags & KRB_FLAG(TKT_INITIAL)))
        return (struct verdict){R_INITIAL_NEEDED, "The ticket must come from a password."};
    if (version == VERSION_SET && !krb_get(KRB_CHANGE_PASSWD, data, KRB_STRICT, w->mem, &m, &e))
        return (struct verdict){R_MALFORMED, "The request could not be read."};
    v = find_target(w, p, &m, &target);
    if (v.result != R_SUCCESS)
        return v;
    if (m.newpasswd.n == 0 || m.newpasswd.n > sizeof c->password)
        return (struct verdict){R_SOFTERROR,
                                m.newpasswd.n ? "The password is too long." : "The password is empty."};
    memcpy(c->password, m.newpasswd.p, m.newpasswd.n);
    c->password_n = (uint16_t)m.newpasswd.n;
    c->account_id = target.id;
    c->generation = target.generation;
    c->by_id = p->owner.id;
    return v;
}

/* False with w->e set: no key to answer under, or nothing is to be said (w->e stays clear). */
static bool prove(struct kdc_work *w, const struct frame *f, struct kdc_presented *p,
                  struct krb_enc_priv *priv)
{
    if (!kdc_read_ticket(w, f->ap_req, STORE_CHANGEPW, 0, p))
        return false;
    w->out->record.client = kdc_text_of(w, &p->ticket.cname, p->ticket.crealm);
    return kdc_check_authenticator(w, p, KU_AP_REQ_AUTH) && kdc_check_owner(w, p) &&
           open_priv(w, p, f->priv, priv);
}

/* What is decided, for this request alone: an identical one is being worked on, another with the same
 * authenticator is a replay. */
static bool is_first(struct kdc_work *w, const struct kdc_presented *p)
{
    switch (kdc_replay_note(w->k->shared, w->env.mono_us, 2 * w->cf->skew_s + 1, p->ap.authenticator.cipher,
                            w->hash)) {
    case KDC_NEW:
        return true;
    case KDC_SAME_REQUEST:
        return false; /* the keeper is at it: the answer will come */
    case KDC_REPLAYED:
        break;
    }
    sp_fail(&w->e, SP_EREFUSED, KRB_AP_ERR_REPEAT, "the authenticator was seen before");
    refuse(w, R_AUTHERROR, "The request was seen before.");
    return false;
}

static void refuse_wish(struct kdc_work *w, const struct kdc_presented *p, const struct kdc_change *c,
                        struct verdict v)
{
    struct sp_span answer = make_answer(w->k, w->env, c, v.result, sp_str(v.text), w->mem, &w->e);

    if (answer.n == 0) {
        refuse(w, R_HARDERROR, "The server is busy; try again in a moment.");
        return;
    }
    if (!is_first(w, p))
        return;
    w->out->record.inner_code = v.result;
    w->out->record.code = KDC_ERR_POLICY;
    memcpy(w->out->record.text, v.text, strlen(v.text) + 1);
    w->out->reply = answer;
    keep_answer(w->k, w->env, c, answer);
}

/* Everything that needs memory comes before the note of the authenticator: who is told to try again can. */
static void change(struct kdc_work *w, const struct frame *f, struct kdc_presented *p)
{
    struct kdc_change *c = sp_new(w->mem, struct kdc_change, &w->e);
    struct krb_enc_priv priv = {0};
    struct verdict v;

    if (!c || !prove(w, f, p, &priv) || !make_ap_rep(w, p, c)) {
        refuse(w, R_AUTHERROR, "The request was not accepted.");
        return;
    }
    c->reply_key = p->has_subkey ? p->subkey : p->session;
    memcpy(c->request_hash, &w->hash, sizeof w->hash);
    memcpy(c->local_address, w->req->local_address, sizeof c->local_address);
    c->local_address_n = w->req->local_address_n <= 16 ? w->req->local_address_n : 0;
    v = read_wish(w, p, f->version, priv.user_data, c);
    if (v.result != R_SUCCESS) {
        refuse_wish(w, p, c, v);
        return;
    }
    if (!is_first(w, p))
        return;
    w->out->record.proven = true;
    w->out->has_change = true;
    w->out->change = c;
}

static void step(struct kdc_work *w)
{
    struct kdc_presented p = {0};
    struct kdc_kept kept;
    struct frame f;

    if (!read_frame(w->req->bytes, &f)) {
        w->out->record.event = "malformed";
        return; /* no kpasswd message at all */
    }
    if (f.version != VERSION_CHANGE && f.version != VERSION_SET) {
        sp_fail(&w->e, SP_EREFUSED, KRB_ERR_GENERIC, "kpasswd version %u", f.version);
        refuse(w, R_BAD_VERSION, "Unknown version.");
        return;
    }
    w->hash = kdc_shared_hash(w->k->shared, w->req->bytes);
    if (kdc_kept_find(w->k->shared, w->env.mono_us, w->hash, w->mem, &kept)) {
        w->out->reply = kept.reply;
        w->out->record.retransmission = true;
        return;
    }
    change(w, &f, &p);
    sp_wipe(&p.session, sizeof p.session);
    sp_wipe(&p.subkey, sizeof p.subkey);
}

void kdc_kpasswd_step(struct kdc *k, struct sp_env env, const struct kdc_request *req, struct sp_arena *mem,
                      struct kdc_actions *out)
{
    struct kdc_work w = kdc_begin(k, env, req, mem, out);

    out->record.event = "kpasswd";
    out->record.preauth = "ticket";
    step(&w);
}
