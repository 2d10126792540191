/* SPDX-License-Identifier: MIT */
/* A ticket and an authenticator shown to this KDC itself (RFC 4120 3.2.3), by a TGS request or by kpasswd. */
#include "kdc/internal.h"

bool kdc_to_key(const struct krb_keyblock *k, struct sp_key *out, struct sp_err *e)
{
    const struct crypto_type *t = crypto_find_type(k->type);

    if (!t || k->value.n != t->key_n)
        return sp_fail(e, SP_EREFUSED, KDC_ERR_ETYPE_NOSUPP, "a key of type %d with %zu bytes", k->type,
                       k->value.n);
    *out = (struct sp_key){.n = t->key_n, .etype = k->type};
    memcpy(out->b, k->value.p, k->value.n);
    return true;
}

/* Decrypts and reads. What verifies but cannot be read was not made by us or by a sane peer. */
static bool open_part(struct kdc_work *w, const struct sp_key *key, uint32_t usage, const struct krb_enc *enc,
                      enum krb_type t, void *out)
{
    uint8_t *p = sp_alloc(w->mem, enc->cipher.n, &w->e);
    size_t n = enc->cipher.n;

    if (!p)
        return false;
    if (enc->etype != key->etype)
        return sp_fail(&w->e, SP_EREFUSED, KRB_AP_ERR_BAD_INTEGRITY,
                       "encrypted with type %d, the key is of type %d", enc->etype, key->etype);
    return crypto_decrypt(w->k->crypto, key, usage, enc->cipher, p, &n, &w->e) &&
           krb_get(t, sp_span(p, n), KRB_STRICT, w->mem, out, &w->e);
}

static bool find_own(struct kdc_work *w, const struct krb_ticket *t, enum store_kind kind,
                     struct store_account *a)
{
    int32_t code = kind == STORE_KRBTGT ? KDC_ERR_POLICY : KRB_AP_ERR_NOT_US;
    struct sp_err e = {0};

    if (!krb_is_realm(&w->cf->realm, t->realm))
        return sp_fail(&w->e, SP_EREFUSED, code, "a ticket of another realm");
    if (kdc_find_named(w, &t->sname, a, &e) && a->kind == kind)
        return true;
    if (e.kind != SP_OK && e.kind != SP_ENOTFOUND && e.kind != SP_EINPUT) {
        w->e = e;
        return false;
    }
    return sp_fail(&w->e, SP_EREFUSED, code, "the ticket is for another service");
}

static bool find_ticket_key(struct kdc_work *w, const struct krb_enc *enc, uint32_t kvno_back,
                            const struct store_account *a, const struct store_key **key)
{
    uint32_t newest = store_kvno(a);

    *key = NULL;
    if (KRB_HAS(enc, 1) && enc->kvno > 0 && enc->kvno <= newest && newest - enc->kvno <= kvno_back)
        *key = store_find_key(a, enc->etype, (uint32_t)enc->kvno);
    if (!*key)
        return sp_fail(&w->e, SP_EREFUSED, KRB_AP_ERR_BADKEYVER, "no key of type %d, version %lld",
                       enc->etype, KRB_HAS(enc, 1) ? (long long)enc->kvno : 0);
    return true;
}

static bool check_ticket(struct kdc_work *w, const struct krb_enc_ticket *t)
{
    if (t->flags & KRB_FLAG(TKT_INVALID))
        return sp_fail(&w->e, SP_EREFUSED, KRB_AP_ERR_TKT_NYV, "the ticket is marked invalid");
    if ((KRB_HAS(t, 6) ? t->starttime : t->authtime) > w->now_s + w->cf->skew_s)
        return sp_fail(&w->e, SP_EREFUSED, KRB_AP_ERR_TKT_NYV, "the ticket is not valid yet");
    if (t->endtime <= w->now_s)
        return sp_fail(&w->e, SP_EREFUSED, KRB_AP_ERR_TKT_EXPIRED, "the ticket has expired");
    if (!krb_is_realm(&w->cf->realm, t->crealm) || t->transited.contents.n != 0)
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_POLICY, "a client of another realm");
    return true;
}

bool kdc_read_ticket(struct kdc_work *w, struct sp_span ap_req, enum store_kind kind, uint32_t kvno_back,
                     struct kdc_presented *p)
{
    const struct store_key *key;
    struct store_account own = {0};

    if (!krb_get(KRB_AP_REQ, ap_req, KRB_STRICT, w->mem, &p->ap, &w->e))
        return false;
    if (p->ap.options & KRB_FLAG(1)) /* use-session-key: user-to-user */
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_BADOPTION, "user-to-user");
    if (!find_own(w, &p->ap.ticket, kind, &own) ||
        !find_ticket_key(w, &p->ap.ticket.enc, kvno_back, &own, &key))
        return false;
    return open_part(w, &key->key, KU_TICKET, &p->ap.ticket.enc, KRB_ENC_TICKET, &p->ticket) &&
           kdc_to_key(&p->ticket.key, &p->session, &w->e) && check_ticket(w, &p->ticket);
}

bool kdc_check_authenticator(struct kdc_work *w, struct kdc_presented *p, uint32_t usage)
{
    const struct krb_authenticator *a = &p->auth;

    if (!open_part(w, &p->session, usage, &p->ap.authenticator, KRB_AUTHENTICATOR, &p->auth))
        return false;
    w->proven = true;
    if (!krb_same_name(&a->cname, &p->ticket.cname) || !sp_same(a->crealm, p->ticket.crealm))
        return sp_fail(&w->e, SP_EREFUSED, KRB_AP_ERR_BADMATCH,
                       "ticket and authenticator name different clients");
    if (!kdc_within_skew(w->env.wall_us, kdc_peer_us(a->ctime, a->cusec), w->cf->skew_s))
        return sp_fail(&w->e, SP_EREFUSED, KRB_AP_ERR_SKEW, "the client's clock is off by more than %d s",
                       w->cf->skew_s);
    p->has_subkey = KRB_HAS(a, 6);
    return !p->has_subkey || kdc_to_key(&a->subkey, &p->subkey, &w->e);
}

bool kdc_check_replay(struct kdc_work *w, const struct kdc_presented *p)
{
    if (kdc_replay_note(w->k->shared, w->env.mono_us, 2 * w->cf->skew_s + 1, p->ap.authenticator.cipher,
                        w->hash) == KDC_REPLAYED)
        return sp_fail(&w->e, SP_EREFUSED, KRB_AP_ERR_REPEAT, "the authenticator was seen before");
    return true;
}

/* Decision 15: the account behind a ticket of ours is found by id, and must be as it was when the ticket was
 * made. */
bool kdc_check_owner(struct kdc_work *w, struct kdc_presented *p)
{
    struct store_account *a = &p->owner;
    uint64_t id = 0, generation = 0;
    struct sp_err e = {0};

    if (!KRB_HAS(&p->ticket, 10) || !kdc_get_account(w, &p->ticket.authdata, &id, &generation))
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_TGT_REVOKED, "the ticket names no account");
    w->out->record.account_id = id;
    if (!w->k->accounts->find_id(w->k->accounts, id, w->mem, a, &e)) {
        if (e.kind == SP_ENOTFOUND)
            return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_C_PRINCIPAL_UNKNOWN, "the account was deleted");
        w->e = e;
        return false;
    }
    if (a->flags & STORE_DISABLED)
        return sp_fail(&w->e, SP_EREFUSED, KDC_WHY_DISABLED, "the account is disabled");
    if (a->generation != generation)
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_TGT_REVOKED,
                       "the account changed after the ticket was made");
    if (a->expires_s && a->expires_s <= w->now_s)
        return sp_fail(&w->e, SP_EREFUSED, KDC_WHY_EXPIRED, "the account has expired");
    return true;
}
