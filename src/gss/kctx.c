/* SPDX-License-Identifier: MIT */
/* The AP exchange of RFC 4121 4.1: who the peers are, which keys they share, what they agreed on. */
#include "bytes/cursor.h"
#include "bytes/emitter.h"
#include "gss/kctx_internal.h"

#define CKSUMTYPE_GSSAPI 0x8003
#define BINDINGS_N 16
#define FIXED_N 24 /* of the 0x8003 checksum: length, bindings, flags */
#define AD_AP_OPTIONS 143
#define AP_OPTIONS_CBT 0x4000 /* MS-KILE: the client would have sent its bindings, had it known any */
#define SEQ_MASK 0x3fffffff   /* old peers take a larger number as negative */
#define THIRD_MAX 512         /* the third leg of DCE style has no lists in it */
#define ADDRESS_HEAD_N 8

/* What an initiator may ask for; INTEG, CONF and TRANS are always there. */
#define ASKABLE                                                                                              \
    (KCTX_DELEG | KCTX_MUTUAL | KCTX_REPLAY | KCTX_SEQUENCE | KCTX_DCE | KCTX_IDENTIFY | KCTX_EXTENDED_ERROR)
#define DELEGATES (KCTX_DELEG | KCTX_DELEG_POLICY)
#define ALWAYS (KCTX_CONF | KCTX_INTEG | KCTX_TRANS)
/* What an acceptor believes of what it was told. */
#define HONOURED (ASKABLE | KCTX_CONF | KCTX_INTEG)

static const uint8_t no_bindings[BINDINGS_N];
static const uint8_t not_by_md5[BINDINGS_N] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                               0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

void kctx_wipe(struct kctx *k)
{
    sp_wipe(k, sizeof *k);
}

/* Out of memory leaves the context as it was, for another try with more; any other failure ends it. */
static bool settle(struct kctx *k, struct kctx *made, bool ok, struct sp_arena *mem, size_t mark,
                   const struct sp_err *e)
{
    if (ok) {
        *k = *made;
    } else {
        if (mem)
            mem->used = mark;
        if (e->kind != SP_ENOMEM && e->kind != SP_EFULL) {
            kctx_wipe(k);
            k->state = KCTX_DEAD;
        }
    }
    sp_wipe(made, sizeof *made);
    return ok;
}

static bool check_state(const struct kctx *k, enum kctx_role role, enum kctx_state want, struct sp_err *e)
{
    if (k->state != want || (want != KCTX_NEW && k->role != role))
        return sp_fail(e, SP_EREFUSED, KCTX_NO_CONTEXT, "this is not the context's turn (state %d)",
                       k->state);
    return true;
}

static void establish(struct kctx *k)
{
    k->state = KCTX_READY;
    k->flags |= KCTX_PROT_READY;
    k->recv_seen = UINT64_MAX; /* nothing before the first number can arrive */
}

/* ---- keys and encrypted parts ---- */

static bool to_key(const struct krb_keyblock *b, struct sp_key *out, struct sp_err *e)
{
    const struct crypto_type *t = crypto_find_type(b->type);

    if (!t || b->value.n != t->key_n)
        return sp_fail(e, SP_EREFUSED, KDC_ERR_ETYPE_NOSUPP, "a key of type %d with %zu bytes", b->type,
                       b->value.n);
    *out = (struct sp_key){.n = t->key_n, .etype = b->type};
    memcpy(out->b, b->value.p, b->value.n);
    return true;
}

static struct krb_keyblock of_key(const struct sp_key *k)
{
    return (struct krb_keyblock){k->etype, sp_span(k->b, k->n)};
}

static bool open_bytes(struct crypto *c, const struct sp_key *key, uint32_t usage, const struct krb_enc *enc,
                       struct sp_arena *mem, struct sp_span *out, struct sp_err *e)
{
    uint8_t *p;
    size_t n = enc->cipher.n;

    if (enc->etype != key->etype)
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_BAD_INTEGRITY,
                       "encrypted with type %d, the key is of type %d", enc->etype, key->etype);
    p = sp_alloc(mem, n, e);
    if (!p || !crypto_decrypt(c, key, usage, enc->cipher, p, &n, e))
        return false;
    *out = sp_span(p, n);
    return true;
}

static bool open_part(struct crypto *c, const struct sp_key *key, uint32_t usage, const struct krb_enc *enc,
                      enum krb_type t, struct sp_arena *mem, void *out, struct sp_err *e)
{
    struct sp_span plain;

    return open_bytes(c, key, usage, enc, mem, &plain, e) && krb_get(t, plain, KRB_STRICT, mem, out, e);
}

static bool seal_part(struct crypto *c, struct sp_rng *rng, const struct sp_key *key, uint32_t usage,
                      enum krb_type t, const void *part, struct sp_arena *mem, struct krb_enc *out,
                      struct sp_err *e)
{
    struct sp_span plain;
    uint8_t *p;
    size_t n;

    if (!crypto_find_type(key->etype))
        return sp_fail(e, SP_EREFUSED, KDC_ERR_ETYPE_NOSUPP, "encryption type %d is not supported",
                       key->etype);
    if (!krb_make(t, part, mem, &plain, e))
        return false;
    n = crypto_cipher_n(key->etype, plain.n);
    p = sp_alloc(mem, n, e);
    if (!p || !crypto_encrypt(c, key, usage, rng, plain, p, &n, e))
        return false;
    *out = (struct krb_enc){.etype = key->etype, .cipher = sp_span(p, n)};
    return true;
}

static uint32_t random_seq(struct sp_rng *rng)
{
    uint32_t v;

    sp_rng_fill(rng, &v, sizeof v);
    return v & SEQ_MASK;
}

/* name@REALM as a text that ends with NUL; one that is cut would be somebody else's. */
static bool keep_name(const struct krb_name *name, struct sp_span realm, char out[KCTX_NAME_MAX],
                      struct sp_err *e)
{
    struct sp_text t = sp_text(out, KCTX_NAME_MAX);

    krb_text_principal(&t, name, realm);
    return !t.cut || sp_fail(e, SP_EINPUT, KRB_ERR_FIELD_TOOLONG, "a principal name is too long");
}

/* ---- bindings ---- */

static void put_address(struct sp_emit *o, uint32_t type, struct sp_span address)
{
    sp_put_bytes(o, address);
    sp_put_le32(o, (uint32_t)address.n);
    sp_put_le32(o, type);
}

bool kctx_put_bindings(const struct kctx_bindings *b, struct sp_arena *mem, struct sp_span *out,
                       struct sp_err *e)
{
    size_t n = 2 * ADDRESS_HEAD_N + 4 + b->initiator.n + b->acceptor.n + b->application.n;
    uint8_t *p = sp_alloc(mem, n, e);
    struct sp_emit o = sp_emit_to(p, n, e);

    if (!p)
        return false;
    sp_put_bytes(&o, b->application);
    sp_put_le32(&o, (uint32_t)b->application.n);
    put_address(&o, b->acceptor_type, b->acceptor);
    put_address(&o, b->initiator_type, b->initiator);
    return sp_put_done(&o, out);
}

bool kctx_hash_bindings(struct crypto *c, const struct kctx_bindings *b, struct sp_arena *mem,
                        uint8_t out[16], struct sp_err *e)
{
    size_t mark = mem->used;
    struct sp_span all;
    bool ok = kctx_put_bindings(b, mem, &all, e) && crypto_md5(c, all, out, e);

    mem->used = mark;
    return ok;
}

/* ---- the checksum 0x8003 (RFC 4121 4.1.1) ---- */

static uint32_t finished_usage(enum kctx_finished kind)
{
    return kind == KCTX_FINISHED_OLD ? KU_FINISHED_OLD : KU_FINISHED_DRAFT;
}

static uint32_t finished_extension(enum kctx_finished kind)
{
    return kind == KCTX_FINISHED_OLD ? 1 : 2;
}

static bool make_finished(const struct kctx *k, struct crypto *c, const struct kctx_transcript *t,
                          struct sp_arena *mem, struct sp_span *out, struct sp_err *e)
{
    uint8_t sum[CRYPTO_CKSUM_MAX];
    size_t n = sizeof sum;
    struct krb_iakerb_finished f = {.mic = {.type = crypto_find_type(k->subkey.etype)->cksumtype}};

    if (!crypto_checksum(c, &k->subkey, finished_usage(t->kind), t->tokens, sum, &n, e))
        return false;
    f.mic.sum = sp_span(sum, n);
    return krb_make(KRB_IAKERB_FINISHED, &f, mem, out, e);
}

static bool make_checksum(const struct kctx *k, const struct kctx_ask *ask, struct sp_span finished,
                          struct sp_arena *mem, struct sp_span *out, struct sp_err *e)
{
    struct sp_span cred = k->flags & KCTX_DELEG ? ask->cred : sp_span(NULL, 0);
    size_t n = FIXED_N + (cred.n ? 4 + cred.n : 0) + (finished.n ? 8 + finished.n : 0);
    uint8_t *p = sp_alloc(mem, n, e);
    struct sp_emit o = sp_emit_to(p, n, e);

    if (!p)
        return false;
    if (finished.n) {
        sp_put_bytes(&o, finished);
        sp_put_be32(&o, (uint32_t)finished.n);
        sp_put_be32(&o, finished_extension(ask->transcript.kind));
    }
    if (cred.n) {
        sp_put_bytes(&o, cred);
        sp_put_le16(&o, (uint16_t)cred.n);
        sp_put_le16(&o, 1); /* GSS_C_DELEG_FLAG, 4.1.1 DlgOpt */
    }
    sp_put_le32(&o, k->flags & ~(uint32_t)KCTX_DELEG_POLICY);
    sp_put_bytes(&o, sp_span(ask->bindings ? ask->bindings : no_bindings, BINDINGS_N));
    sp_put_le32(&o, BINDINGS_N);
    return sp_put_done(&o, out);
}

/* ---- initiator ---- */

static bool begin(struct kctx *k, const struct kctx_ask *ask, struct sp_env env, struct sp_err *e)
{
    const struct krb_credential *t = ask->ticket;
    const struct crypto_type *type = crypto_find_type(t->key.etype);

    if (!type || t->key.n != type->key_n)
        return sp_fail(e, SP_EREFUSED, KDC_ERR_ETYPE_NOSUPP, "the ticket's session key is of type %d",
                       t->key.etype);
    if (ask->cred.n > UINT16_MAX)
        return sp_fail(e, SP_EINPUT, KRB_ERR_FIELD_TOOLONG, "a delegated credential of %zu bytes",
                       ask->cred.n);
    k->role = KCTX_INITIATOR;
    k->flags = (ask->flags & (ASKABLE | DELEGATES)) | ALWAYS;
    if (ask->cred.n == 0)
        k->flags &= ~(uint32_t)DELEGATES;
    if (k->flags & KCTX_DCE) /* its third leg answers an AP-REP */
        k->flags |= KCTX_MUTUAL;
    k->session = t->key;
    k->session.keep = false;
    k->authtime = t->authtime;
    k->endtime = t->endtime;
    k->ctime = env.wall_us / 1000000 + ask->offset_s;
    k->cusec = (uint32_t)(env.wall_us % 1000000);
    k->send_seq = k->recv_seq = random_seq(env.rng);
    return crypto_random_key(k->session.etype, env.rng, &k->subkey, e) &&
           keep_name(&t->client, t->crealm, k->client, e) && keep_name(&t->server, t->srealm, k->service, e);
}

static bool make_ap_req(struct kctx *k, struct crypto *c, struct sp_env env, const struct kctx_ask *ask,
                        struct sp_arena *mem, struct sp_span *out, struct sp_err *e)
{
    struct krb_authenticator a = {.has = KRB_BIT(3) | KRB_BIT(6) | KRB_BIT(7),
                                  .crealm = ask->ticket->crealm,
                                  .cname = ask->ticket->client,
                                  .cksum = {.type = CKSUMTYPE_GSSAPI},
                                  .cusec = k->cusec,
                                  .ctime = k->ctime,
                                  .subkey = of_key(&k->subkey),
                                  .seq = (uint32_t)k->send_seq};
    struct krb_ap_req m = {.options = k->flags & KCTX_MUTUAL ? KRB_FLAG(2) : 0};
    struct sp_span finished = {0};

    if (ask->transcript.kind != KCTX_FINISHED_NONE &&
        !make_finished(k, c, &ask->transcript, mem, &finished, e))
        return false;
    return make_checksum(k, ask, finished, mem, &a.cksum.sum, e) &&
           krb_get(KRB_TICKET, ask->ticket->ticket, KRB_STRICT, mem, &m.ticket, e) &&
           seal_part(c, env.rng, &k->session, KU_AP_REQ_AUTH, KRB_AUTHENTICATOR, &a, mem, &m.authenticator,
                     e) &&
           krb_make(KRB_AP_REQ, &m, mem, out, e);
}

bool kctx_request(struct kctx *k, struct crypto *c, struct sp_env env, const struct kctx_ask *ask,
                  struct sp_arena *mem, struct sp_span *ap_req, struct sp_err *e)
{
    struct kctx made = {0};
    size_t mark = mem->used;
    bool ok;

    *ap_req = sp_span(NULL, 0);
    if (!check_state(k, KCTX_INITIATOR, KCTX_NEW, e))
        return false;
    ok = begin(&made, ask, env, e) && make_ap_req(&made, c, env, ask, mem, ap_req, e);
    if (made.flags & KCTX_MUTUAL)
        made.state = KCTX_WAIT_REP;
    else
        establish(&made);
    return settle(k, &made, ok, mem, mark, e);
}

/* The acceptor's KRB-ERROR. Nobody vouches for it, but a context that is refused has nowhere to go. */
static bool refused_by_peer(struct sp_span reply, struct sp_arena *mem, struct sp_err *e)
{
    struct krb_error m;

    if (!krb_get(KRB_ERROR, reply, KRB_STRICT, mem, &m, e))
        return false;
    return sp_fail(e, SP_EREFUSED, m.code > 0 ? m.code : KRB_ERR_GENERIC, "the acceptor refused: %s",
                   krb_code_name(m.code));
}

static bool take_ap_rep(struct kctx *k, struct crypto *c, struct sp_span reply, struct sp_arena *mem,
                        struct sp_err *e)
{
    struct krb_ap_rep m;
    struct krb_enc_ap_rep part;

    if (krb_sniff(reply) == KRB_ERROR)
        return refused_by_peer(reply, mem, e);
    if (!krb_get(KRB_AP_REP, reply, KRB_STRICT, mem, &m, e) ||
        !open_part(c, &k->session, KU_AP_REP, &m.enc, KRB_ENC_AP_REP, mem, &part, e))
        return false;
    if (part.ctime != k->ctime || part.cusec != k->cusec)
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_MODIFIED, "the AP-REP answers another AP-REQ");
    k->recv_seq = KRB_HAS(&part, 3) ? part.seq : 0;
    return !KRB_HAS(&part, 2) || to_key(&part.subkey, &k->acceptor_subkey, e);
}

static bool make_ap_rep(struct kctx *k, struct crypto *c, struct sp_env env,
                        const struct krb_enc_ap_rep *part, struct sp_arena *mem, struct sp_span *out,
                        struct sp_err *e)
{
    struct krb_ap_rep m = {0};

    return seal_part(c, env.rng, &k->session, KU_AP_REP, KRB_ENC_AP_REP, part, mem, &m.enc, e) &&
           krb_make(KRB_AP_REP, &m, mem, out, e);
}

/* MS-KILE 3.4.5.1: the client returns the acceptor's number, and no key of its own. */
static bool make_third(struct kctx *k, struct crypto *c, struct sp_env env, struct sp_arena *mem,
                       struct sp_span *out, struct sp_err *e)
{
    struct krb_enc_ap_rep part = {
        .has = KRB_BIT(3), .ctime = k->ctime, .cusec = k->cusec, .seq = (uint32_t)k->recv_seq};

    return make_ap_rep(k, c, env, &part, mem, out, e);
}

bool kctx_take_reply(struct kctx *k, struct crypto *c, struct sp_env env, struct sp_span reply,
                     struct sp_arena *mem, struct sp_span *third, struct sp_err *e)
{
    struct kctx made;
    size_t mark = mem->used;
    bool ok;

    *third = sp_span(NULL, 0);
    if (!check_state(k, KCTX_INITIATOR, KCTX_WAIT_REP, e))
        return false;
    made = *k;
    ok = take_ap_rep(&made, c, reply, mem, e) &&
         (!(made.flags & KCTX_DCE) || make_third(&made, c, env, mem, third, e));
    establish(&made);
    return settle(k, &made, ok, mem, mark, e);
}

/* ---- delegation ---- */

bool kctx_make_cred(struct crypto *c, struct sp_env env, const struct krb_credential *forwarded,
                    const struct sp_key *session, struct sp_arena *mem, struct sp_span *out, struct sp_err *e)
{
    const struct krb_credential *f = forwarded;
    struct krb_cred_info info = {.has = KRB_BIT(1) | KRB_BIT(2) | KRB_BIT(3) | KRB_BIT(4) | KRB_BIT(6) |
                                        KRB_BIT(8) | KRB_BIT(9),
                                 .key = of_key(&f->key),
                                 .prealm = f->crealm,
                                 .pname = f->client,
                                 .flags = f->flags,
                                 .authtime = f->authtime,
                                 .starttime = f->starttime,
                                 .endtime = f->endtime,
                                 .renew_till = f->renew_till,
                                 .srealm = f->srealm,
                                 .sname = f->server};
    struct krb_enc_cred part = {
        .has = KRB_BIT(2) | KRB_BIT(3),
        .info = {&info, 1},
        .timestamp = env.wall_us / 1000000,
        .usec = (uint32_t)(env.wall_us % 1000000)
    };
    struct krb_ticket ticket;
    struct krb_cred m = {
        .tickets = {&ticket, 1}
    };
    size_t mark = mem->used;

    info.has |= f->starttime ? KRB_BIT(5) : 0;
    info.has |= f->renew_till ? KRB_BIT(7) : 0;
    if (krb_get(KRB_TICKET, f->ticket, KRB_STRICT, mem, &ticket, e) &&
        seal_part(c, env.rng, session, KU_CRED, KRB_ENC_CRED, &part, mem, &m.enc, e) &&
        krb_make(KRB_CRED, &m, mem, out, e))
        return true;
    mem->used = mark;
    return false;
}

bool kctx_read_cred(struct sp_span delegated, struct sp_arena *mem, struct krb_credential *out,
                    struct sp_err *e)
{
    struct krb_cred m;
    struct krb_enc_cred part;
    const struct krb_cred_info *i;
    struct krb_credential v;

    if (!krb_get(KRB_CRED, delegated, KRB_STRICT, mem, &m, e))
        return false;
    if (m.enc.etype != 0)
        return sp_fail(e, SP_EINPUT, 0, "a KRB-CRED that is still encrypted");
    if (!krb_get(KRB_ENC_CRED, m.enc.cipher, KRB_STRICT, mem, &part, e))
        return false;
    if (m.tickets.count == 0 || part.info.count == 0)
        return sp_fail(e, SP_EINPUT, 0, "a KRB-CRED without a ticket");
    i = &part.info.v[0];
    v = (struct krb_credential){.client = i->pname,
                                .server = i->sname,
                                .crealm = i->prealm,
                                .srealm = i->srealm,
                                .flags = i->flags,
                                .authtime = i->authtime,
                                .starttime = i->starttime,
                                .endtime = i->endtime,
                                .renew_till = i->renew_till,
                                .ticket = m.tickets.v[0].raw};
    if (!to_key(&i->key, &v.key, e))
        return false;
    *out = v;
    return true;
}

/* ---- acceptor ---- */

struct accepting { /* one AP-REQ on its way */
    struct kctx made;
    struct crypto *c;
    struct sp_env env;
    const struct kctx_accepting *how;
    struct sp_arena *mem;
    struct sp_err *e;
    struct krb_ap_req ap;
    struct krb_enc_ticket ticket;
    struct krb_authenticator auth;
};

static bool read_ticket(struct accepting *a, struct sp_span ap_req)
{
    const struct krb_ticket *t = &a->ap.ticket;
    struct sp_key key = {0};
    bool ok;

    if (!krb_get(KRB_AP_REQ, ap_req, KRB_STRICT, a->mem, &a->ap, a->e))
        return false;
    if (a->ap.options & KRB_FLAG(1)) /* use-session-key */
        return sp_fail(a->e, SP_EREFUSED, KDC_ERR_BADOPTION, "user-to-user is not supported");
    ok = a->how->keys->find(a->how->keys, &t->sname, t->realm, t->enc.etype,
                            KRB_HAS(&t->enc, 1) ? (uint32_t)t->enc.kvno : 0, &key, a->e) &&
         open_part(a->c, &key, KU_TICKET, &t->enc, KRB_ENC_TICKET, a->mem, &a->ticket, a->e) &&
         to_key(&a->ticket.key, &a->made.session, a->e);
    sp_wipe(&key, sizeof key);
    return ok;
}

static bool check_ticket(struct accepting *a)
{
    const struct krb_enc_ticket *t = &a->ticket;
    int64_t now_s = a->env.wall_us / 1000000, skew_s = a->how->skew_s;

    if (t->flags & KRB_FLAG(TKT_INVALID))
        return sp_fail(a->e, SP_EREFUSED, KRB_AP_ERR_TKT_NYV, "the ticket is marked invalid");
    if ((KRB_HAS(t, 6) ? t->starttime : t->authtime) > now_s + skew_s)
        return sp_fail(a->e, SP_EREFUSED, KRB_AP_ERR_TKT_NYV, "the ticket is not valid yet");
    if (t->endtime + skew_s < now_s) /* RFC 4120 3.2.3 */
        return sp_fail(a->e, SP_EREFUSED, KRB_AP_ERR_TKT_EXPIRED, "the ticket has expired");
    /* RFC 4120 2.7: a path that no KDC vouched for is ours to judge, and we know no paths. */
    if (t->transited.contents.n != 0 && !(t->flags & KRB_FLAG(TKT_TRANSITED_POLICY_CHECKED)))
        return sp_fail(a->e, SP_EREFUSED, KDC_ERR_POLICY, "no KDC checked the realms on the ticket's way");
    a->made.authtime = t->authtime;
    a->made.endtime = t->endtime;
    return keep_name(&t->cname, t->crealm, a->made.client, a->e) &&
           keep_name(&a->ap.ticket.sname, a->ap.ticket.realm, a->made.service, a->e);
}

static bool check_authenticator(struct accepting *a)
{
    const struct krb_authenticator *v = &a->auth;
    int64_t off_us;

    if (!open_part(a->c, &a->made.session, KU_AP_REQ_AUTH, &a->ap.authenticator, KRB_AUTHENTICATOR, a->mem,
                   &a->auth, a->e))
        return false;
    if (!krb_same_name(&v->cname, &a->ticket.cname) || !sp_same(v->crealm, a->ticket.crealm))
        return sp_fail(a->e, SP_EREFUSED, KRB_AP_ERR_BADMATCH,
                       "ticket and authenticator name different clients");
    off_us = v->ctime * 1000000 + v->cusec - a->env.wall_us;
    if ((off_us < 0 ? -off_us : off_us) > (int64_t)a->how->skew_s * 1000000)
        return sp_fail(a->e, SP_EREFUSED, KRB_AP_ERR_SKEW, "the client's clock is off by more than %d s",
                       a->how->skew_s);
    a->made.ctime = v->ctime;
    a->made.cusec = v->cusec;
    a->made.recv_seq = KRB_HAS(v, 7) ? v->seq : 0;
    a->made.send_seq = a->made.recv_seq;
    return !KRB_HAS(v, 6) || to_key(&v->subkey, &a->made.subkey, a->e);
}

/* The value of 0x8003, taken apart. */
struct gss_checksum {
    const uint8_t *bindings;
    uint32_t flags;
    struct sp_span cred, rest;
};

static bool read_checksum(struct accepting *a, struct gss_checksum *out)
{
    struct sp_err why = {0};
    struct sp_cur c = sp_cur_of(a->auth.cksum.sum, &why);
    struct gss_checksum v = {0};
    uint32_t n = sp_get_le32(&c, "Lgth");
    uint16_t one = 1;

    v.bindings = sp_take(&c, BINDINGS_N, "Bnd").p;
    v.flags = sp_get_le32(&c, "Flags");
    if (v.flags & KCTX_DELEG) {
        one = sp_get_le16(&c, "DlgOpt");
        v.cred = sp_take(&c, sp_get_le16(&c, "Dlgth"), "Deleg");
    }
    v.rest = sp_take(&c, sp_left(&c), "Exts");
    if (!sp_ok(&why) || n != BINDINGS_N || one != 1)
        return sp_fail(a->e, SP_EINPUT, KCTX_DEFECTIVE, "the GSS-API checksum cannot be read: %s", why.text);
    *out = v;
    return true;
}

/* The extensions behind the flags that mean something here. */
struct extensions {
    struct sp_span channel;     /* type 0; n 0: not there */
    struct sp_span finished[2]; /* type 1, type 2; p NULL: not there */
    bool twice;
};

enum extension_layout {
    EXTENSION_BE32, /* RFC 4121 4.1.1.2 */
    EXTENSION_LE16, /* Apple's Heimdal: spec'd nowhere */
};

static bool read_extensions(struct sp_span in, enum extension_layout layout, struct extensions *out)
{
    struct sp_err why = {0};
    struct sp_cur c = sp_cur_of(in, &why);
    struct extensions v = {0};

    while (sp_left(&c) > 0) {
        uint32_t type = layout == EXTENSION_BE32 ? sp_get_be32(&c, "type") : sp_get_le16(&c, "type");
        uint32_t n = layout == EXTENSION_BE32 ? sp_get_be32(&c, "length") : sp_get_le16(&c, "length");
        struct sp_span data = sp_take(&c, n, "data");

        if (type == 0 && n > 0) {
            v.twice |= v.channel.n > 0;
            v.channel = data;
        }
        if (type != 1 && type != 2)
            continue;
        v.twice |= v.finished[type - 1].p != NULL;
        v.finished[type - 1] = data;
    }
    *out = v;
    return sp_ok(&why);
}

/* The two layouts cannot be mistaken for one another: BE32 read as LE16 begins with type 0 and length 512,
 * LE16 read as BE32 with a type and a length far beyond the token. */
static bool find_extensions(struct accepting *a, struct sp_span in, struct extensions *x)
{
    if (!read_extensions(in, EXTENSION_BE32, x) &&
        (!read_extensions(in, EXTENSION_LE16, x) || !x->finished[1].p || x->finished[0].p))
        return sp_fail(a->e, SP_EINPUT, KCTX_DEFECTIVE, "extensions of the GSS-API checksum cannot be read");
    if (x->twice)
        return sp_fail(a->e, SP_EINPUT, KCTX_DEFECTIVE, "an extension is there twice");
    return true;
}

static bool verify_finished(struct accepting *a, struct sp_span der)
{
    const struct kctx_transcript *t = &a->how->transcript;
    struct krb_iakerb_finished f;
    struct sp_err why = {0};

    if (a->made.subkey.n == 0)
        return sp_fail(a->e, SP_EREFUSED, KDC_ERR_NULL_KEY, "FINISHED without a subkey to verify it with");
    if (!krb_get(KRB_IAKERB_FINISHED, der, KRB_UNKNOWN_TAIL, a->mem, &f, &why))
        return sp_fail(a->e, why.kind, why.kind == SP_EINPUT ? KCTX_DEFECTIVE : why.proto, "%s", why.text);
    if (crypto_verify(a->c, &a->made.subkey, finished_usage(t->kind), f.mic.type, t->tokens, f.mic.sum, &why))
        return true;
    if (why.proto == KRB_AP_ERR_MODIFIED) /* what MIT's acceptor answers, too */
        return sp_fail(a->e, SP_EREFUSED, KRB_AP_ERR_BAD_INTEGRITY,
                       "the messages before this one were changed on the way (FINISHED)");
    return sp_fail(a->e, why.kind, why.proto, "FINISHED: %s", why.text);
}

/* Present it must be right, and of the dialect of this context (spec'd in the draft, 4); absent only where
 * that is allowed; and it has no business where nothing was proxied (decision 28). */
static bool check_finished(struct accepting *a, const struct extensions *x)
{
    enum kctx_finished kind = a->how->transcript.kind;
    uint32_t own;

    if (kind == KCTX_FINISHED_NONE) {
        if (x->finished[0].p || x->finished[1].p)
            return sp_fail(a->e, SP_EREFUSED, KRB_AP_ERR_MSG_TYPE, "FINISHED, but nothing was proxied");
        return true;
    }
    own = finished_extension(kind) - 1;
    if (x->finished[own].p)
        return verify_finished(a, x->finished[own]);
    if (x->finished[1 - own].p)
        return sp_fail(a->e, SP_EREFUSED, KCTX_BAD_SIG, "FINISHED of another dialect");
    a->made.no_finished = a->how->finished_may_lack;
    return a->made.no_finished || sp_fail(a->e, SP_EREFUSED, KCTX_BAD_SIG,
                                          "messages were proxied and the AP-REQ does not confirm them");
}

/* What cannot be read is no statement of the client's; but running out of memory must not hide one. */
static bool find_cbt(struct accepting *a, const struct krb_authdata *list, int depth, bool *found)
{
    for (uint32_t i = 0; i < list->count; i++) {
        const struct krb_ad *ad = &list->v[i];
        struct krb_authdata inner;
        struct sp_err why = {0};

        if (ad->type == AD_AP_OPTIONS && ad->data.n == 4 && (ad->data.p[1] & (AP_OPTIONS_CBT >> 8)))
            *found = true;
        if (ad->type != AD_IF_RELEVANT || depth > 0)
            continue;
        if (krb_get(KRB_AUTHDATA, ad->data, KRB_STRICT, a->mem, &inner, &why)) {
            if (!find_cbt(a, &inner, depth + 1, found))
                return false;
        } else if (why.kind != SP_EINPUT) {
            return sp_fail(a->e, why.kind, why.proto, "%s", why.text);
        }
    }
    return true;
}

/* RFC 6542 3.2: a checksum with the initiator's subkey of what else is hashed with MD5. */
static bool verify_channel(struct accepting *a, struct sp_span der)
{
    struct krb_checksum sum;
    struct sp_err why = {0};

    if (a->made.subkey.n == 0)
        return sp_fail(a->e, SP_EREFUSED, KDC_ERR_NULL_KEY, "bindings without a subkey to verify them with");
    if (!krb_get(KRB_CHECKSUM, der, KRB_UNKNOWN_TAIL, a->mem, &sum, &why))
        return sp_fail(a->e, why.kind, why.kind == SP_EINPUT ? KCTX_DEFECTIVE : why.proto, "%s", why.text);
    if (crypto_verify(a->c, &a->made.subkey, KU_CHANNEL, sum.type, a->how->channel, sum.sum, &why))
        return true;
    if (why.proto == KRB_AP_ERR_MODIFIED)
        return sp_fail(a->e, SP_EREFUSED, KCTX_BAD_BINDINGS, "the client saw another channel");
    return sp_fail(a->e, why.kind, why.proto, "bindings: %s", why.text);
}

/* better: RFC 6542's extension. Beside it Bnd may be all ones, for "not by MD5", or be left out. */
static bool check_bindings(struct accepting *a, const uint8_t *theirs, struct sp_span better)
{
    const uint8_t *ours = a->how->bindings;
    bool proven = ours && a->how->channel.n > 0 && better.n > 0;
    bool none = memcmp(theirs, no_bindings, BINDINGS_N) == 0, aware = false;

    if (proven && !verify_channel(a, better))
        return false;
    if (proven && (none || memcmp(theirs, not_by_md5, BINDINGS_N) == 0)) {
        a->made.flags |= KCTX_CHANNEL_BOUND;
        return true;
    }
    if (none && a->how->require_bindings)
        return sp_fail(a->e, SP_EREFUSED, KCTX_BAD_BINDINGS, "no channel bindings, and they are required");
    if (!ours)
        return true;
    if (none)
        return find_cbt(a, &a->auth.authdata, 0, &aware) &&
               (!aware || sp_fail(a->e, SP_EREFUSED, KCTX_BAD_BINDINGS,
                                  "the client knows channel bindings and saw no channel"));
    if (!sp_equal_ct(ours, theirs, BINDINGS_N))
        return sp_fail(a->e, SP_EREFUSED, KCTX_BAD_BINDINGS, "the client saw another channel");
    a->made.flags |= KCTX_CHANNEL_BOUND;
    return true;
}

/* RFC 4121 4.1.1 names the session key; peers that take their subkey are known. */
static bool take_cred(struct accepting *a, struct sp_span in)
{
    const struct sp_key *keys[] = {&a->made.session, &a->made.subkey};
    struct sp_span plain = {0};
    struct krb_cred m;
    bool open = false;

    if (in.n == 0)
        return sp_fail(a->e, SP_EINPUT, KCTX_DEFECTIVE, "a delegated credential of no bytes");
    if (!krb_get(KRB_CRED, in, KRB_STRICT, a->mem, &m, a->e))
        return false;
    for (size_t i = 0; i < 2 && !open; i++) {
        struct sp_err why = {0};

        open = keys[i]->n && open_bytes(a->c, keys[i], KU_CRED, &m.enc, a->mem, &plain, &why);
        if (!open && why.kind != SP_OK && why.kind != SP_EREFUSED)
            return sp_fail(a->e, why.kind, why.proto, "%s", why.text);
    }
    if (!open)
        return sp_fail(a->e, SP_EREFUSED, KRB_AP_ERR_BAD_INTEGRITY, "the delegated credential does not open");
    m.enc = (struct krb_enc){.etype = 0, .cipher = plain};
    return krb_make(KRB_CRED, &m, a->mem, &a->made.delegated, a->e);
}

/* A principal is known by its name; that none of its keys is of this type makes it no other. */
static bool check_own(struct accepting *a)
{
    struct sp_key key = {0};
    struct sp_err why = {0};
    bool known;

    if (!a->how->refuse_own)
        return true;
    known = a->how->keys->find(a->how->keys, &a->ticket.cname, a->ticket.crealm, a->ap.ticket.enc.etype, 0,
                               &key, &why) ||
            why.proto == KRB_AP_ERR_NOKEY || why.proto == KRB_AP_ERR_BADKEYVER;
    sp_wipe(&key, sizeof key);
    if (known)
        return sp_fail(a->e, SP_EREFUSED, KCTX_UNAUTHORIZED,
                       "the client is this host, and what it made came back to it");
    return why.kind == SP_ENOTFOUND || sp_fail(a->e, why.kind, why.proto, "%s", why.text);
}

/* Decision 28: nothing but 0x8003 says what the client wants. */
static bool check_checksum(struct accepting *a)
{
    struct gss_checksum v = {0};
    struct extensions x;

    if (!KRB_HAS(&a->auth, 3) || a->auth.cksum.type != CKSUMTYPE_GSSAPI)
        return sp_fail(a->e, SP_EREFUSED,
                       a->how->transcript.kind == KCTX_FINISHED_NONE ? KRB_AP_ERR_INAPP_CKSUM : KCTX_BAD_SIG,
                       "the authenticator has no GSS-API checksum");
    if (!read_checksum(a, &v))
        return false;
    a->made.flags = (v.flags & HONOURED) | KCTX_TRANS;
    if (a->made.flags & KCTX_DCE)
        a->made.flags |= KCTX_MUTUAL;
    return find_extensions(a, v.rest, &x) && check_bindings(a, v.bindings, x.channel) &&
           check_finished(a, &x) && (!(v.flags & KCTX_DELEG) || take_cred(a, v.cred));
}

/* The acceptor's subkey has the type of the initiator's, as Windows does it; the ticket's without one. */
static bool make_reply(struct accepting *a, struct sp_span *reply)
{
    struct kctx *k = &a->made;
    struct krb_enc_ap_rep part = {.has = KRB_BIT(2) | KRB_BIT(3), .ctime = k->ctime, .cusec = k->cusec};

    if (!crypto_random_key(k->subkey.n ? k->subkey.etype : k->session.etype, a->env.rng, &k->acceptor_subkey,
                           a->e))
        return false;
    k->send_seq = part.seq = random_seq(a->env.rng);
    part.subkey = of_key(&k->acceptor_subkey);
    return make_ap_rep(k, a->c, a->env, &part, a->mem, reply, a->e);
}

/* What libkrb5 knows an authenticator by, too: the checksum at the end of the ciphertext. */
static struct sp_span replay_tag(const struct accepting *a)
{
    struct sp_span cipher =
        a->ap.authenticator.cipher; /* it was decrypted: its type is ours, and it is long enough */
    size_t n = crypto_find_type(a->made.session.etype)->tag_n;

    return sp_span(cipher.p + cipher.n - n, n);
}

/* The replay cache comes last: only what would have been accepted is worth remembering. */
static bool accept(struct accepting *a, struct sp_span ap_req, struct sp_span *reply)
{
    struct kctx_replays *r = a->how->replays;

    if (!read_ticket(a, ap_req) || !check_ticket(a) || !check_authenticator(a) || !check_own(a) ||
        !check_checksum(a))
        return false;
    if ((a->made.flags & KCTX_MUTUAL) && !make_reply(a, reply))
        return false;
    if (r && !r->note(r, replay_tag(a), a->env.wall_us / 1000000, a->how->skew_s, a->e))
        return false;
    if (a->made.flags & KCTX_DCE)
        a->made.state = KCTX_WAIT_THIRD;
    else
        establish(&a->made);
    return true;
}

bool kctx_accept(struct kctx *k, struct crypto *c, struct sp_env env, const struct kctx_accepting *how,
                 struct sp_span ap_req, struct sp_arena *mem, struct sp_span *reply, struct sp_err *e)
{
    struct accepting a = {
        .made = {.role = KCTX_ACCEPTOR}, .c = c, .env = env, .how = how, .mem = mem, .e = e};
    size_t mark = mem->used;
    bool ok;

    *reply = sp_span(NULL, 0);
    if (!check_state(k, KCTX_ACCEPTOR, KCTX_NEW, e))
        return false;
    ok = accept(&a, ap_req, reply);
    if (!ok)
        *reply = sp_span(NULL, 0);
    return settle(k, &a.made, ok, mem, mark, e);
}

/* Our own AP-REP, sent back to us, holds the same number: what tells them apart is its key. */
static bool check_third(const struct kctx *k, struct crypto *c, struct sp_span third, struct sp_err *e)
{
    uint8_t block[2 * THIRD_MAX];
    struct sp_arena mem;
    struct krb_ap_rep m;
    struct krb_enc_ap_rep part;
    bool ok;

    if (third.n > THIRD_MAX)
        return sp_fail(e, SP_EINPUT, KCTX_DEFECTIVE, "a third leg of %zu bytes", third.n);
    sp_arena_init(&mem, block, sizeof block);
    ok = krb_get(KRB_AP_REP, third, KRB_STRICT, &mem, &m, e) &&
         open_part(c, &k->session, KU_AP_REP, &m.enc, KRB_ENC_AP_REP, &mem, &part, e);
    if (ok && (KRB_HAS(&part, 2) || !KRB_HAS(&part, 3) || part.seq != k->send_seq))
        ok = sp_fail(e, SP_EREFUSED, KRB_AP_ERR_MODIFIED, "the third leg does not answer our AP-REP");
    sp_arena_reset(&mem);
    return ok;
}

bool kctx_accept_third(struct kctx *k, struct crypto *c, struct sp_env env, struct sp_span third,
                       struct sp_err *e)
{
    struct kctx made;
    bool ok;

    (void)env; /* the number is fresh, so no time is looked at */
    if (!check_state(k, KCTX_ACCEPTOR, KCTX_WAIT_THIRD, e))
        return false;
    made = *k;
    ok = check_third(&made, c, third, e);
    establish(&made);
    return settle(k, &made, ok, NULL, 0, e);
}

bool kctx_make_error(struct sp_env env, const struct sp_err *why, struct sp_span realm,
                     const struct krb_name *service, struct sp_arena *mem, struct sp_span *out,
                     struct sp_err *e)
{
    struct sp_span nobody[] = {SP_LIT("WELLKNOWN"), SP_LIT("ANONYMOUS")}; /* RFC 8062 3 */
    struct krb_error m = {.stime = env.wall_us / 1000000,
                          .susec = (uint32_t)(env.wall_us % 1000000),
                          .code = why->proto > 0 && why->proto <= 127 ? why->proto : KRB_ERR_GENERIC,
                          .realm = service ? realm : SP_LIT("WELLKNOWN:ANONYMOUS"),
                          .sname = service ? *service : krb_name_of(NT_WELLKNOWN, nobody, 2)};

    return krb_make(KRB_ERROR, &m, mem, out, e);
}
