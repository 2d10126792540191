/* SPDX-License-Identifier: MIT */
/* Tickets and the replies that bring them (RFC 4120 5.3, 5.4.2). */
#include "kdc/internal.h"

static bool seal(struct kdc_work *w, enum krb_type t, const void *msg, const struct sp_key *key,
                 uint32_t usage, struct krb_enc *out)
{
    struct sp_span plain;
    uint8_t *p;
    size_t n;

    if (!krb_make(t, msg, w->mem, &plain, &w->e))
        return false;
    n = crypto_cipher_n(key->etype, plain.n);
    p = sp_alloc(w->mem, n, &w->e);
    if (!p || !crypto_encrypt(w->k->crypto, key, usage, w->env.rng, plain, p, &n, &w->e))
        return false;
    out->etype = key->etype;
    out->cipher = sp_span(p, n);
    return true;
}

/* The service's own key: the first of our order that its newest version has. */
static const struct store_key *service_key(const struct kdc_work *w)
{
    uint32_t kvno = store_kvno(&w->service);

    for (uint32_t i = 0; i < w->cf->enctype_count && kvno; i++) {
        const struct store_key *k = store_find_key(&w->service, w->cf->enctypes[i], kvno);

        if (k)
            return k;
    }
    return NULL;
}

static struct krb_keyblock keyblock(const struct sp_key *k)
{
    return (struct krb_keyblock){k->etype, sp_span(k->b, k->n)};
}

static bool make_ticket(struct kdc_work *w, const struct kdc_grant *g, struct krb_ticket *t)
{
    const struct store_key *k = service_key(w);
    struct krb_enc_ticket et = {
        .has = KRB_BIT(6) | (g->renew_till ? KRB_BIT(8) : 0) | (g->ad.count ? KRB_BIT(10) : 0),
        .flags = g->flags,
        .key = keyblock(&g->session),
        .crealm = w->cf->realm.name,
        .cname = g->cname,
        .transited = {.type = 1, .contents = SP_LIT("")},
        .authtime = g->authtime,
        .starttime = g->start,
        .endtime = g->end,
        .renew_till = g->renew_till,
        .authdata = g->ad,
    };

    if (!k)
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_NULL_KEY, "the service has no key of an allowed type");
    *t = (struct krb_ticket){.realm = w->cf->realm.name, .sname = w->sname};
    t->enc.has = KRB_BIT(1);
    t->enc.kvno = k->kvno;
    if (!seal(w, KRB_ENC_TICKET, &et, &k->key, KU_TICKET, &t->enc))
        return false;
    w->out->record.ticket_etype = k->key.etype;
    /* The encrypted confounder: different for every ticket, and there for the taking. */
    memcpy(w->out->record.ticket_id, t->enc.cipher.p, sizeof w->out->record.ticket_id);
    return true;
}

static bool make_enc_part(struct kdc_work *w, const struct kdc_grant *g, const struct kdc_sealing *how,
                          struct krb_enc *out)
{
    struct krb_lastreq_entry none = {0, 0};
    struct krb_enc_kdc_rep part = {
        .has = KRB_BIT(6) | (how->key_expiration ? KRB_BIT(3) : 0) | (g->renew_till ? KRB_BIT(8) : 0) |
               (how->enc_padata.count ? KRB_BIT(12) : 0),
        .key = keyblock(&g->session),
        .last_req = {&none, 1},
        .nonce = w->m.body.nonce,
        .key_expiration = how->key_expiration,
        .flags = g->flags,
        .authtime = g->authtime,
        .starttime = g->start,
        .endtime = g->end,
        .renew_till = g->renew_till,
        .srealm = w->cf->realm.name,
        .sname = w->sname,
        .enc_padata = how->enc_padata,
    };

    out->has = how->kvno ? KRB_BIT(1) : 0;
    out->kvno = how->kvno;
    return seal(w, w->exchange == KDC_AS ? KRB_ENC_AS_REP : KRB_ENC_TGS_REP, &part, how->key, how->usage,
                out);
}

bool kdc_make_reply(struct kdc_work *w, struct kdc_grant *g, const struct kdc_sealing *how)
{
    int32_t etype = kdc_session_etype(w->cf, &w->m.body.etypes, &w->service);
    struct krb_kdc_rep rep = {
        .has = how->padata.count ? KRB_BIT(2) : 0,
        .padata = how->padata,
        .crealm = w->cf->realm.name,
        .cname = g->cname,
    };
    bool ok;

    if (etype == 0)
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_ETYPE_NOSUPP,
                       "no encryption type that client, service and realm share");
    ok = crypto_random_key(etype, w->env.rng, &g->session, &w->e) && make_ticket(w, g, &rep.ticket) &&
         make_enc_part(w, g, how, &rep.enc) &&
         krb_make(w->exchange == KDC_AS ? KRB_AS_REP : KRB_TGS_REP, &rep, w->mem, &w->out->reply, &w->e);
    sp_wipe(&g->session, sizeof g->session);
    w->out->record.session_etype = etype;
    w->out->record.reply_etype = how->key->etype;
    return ok;
}

static void put_be64(uint8_t *p, uint64_t v)
{
    for (int i = 7; i >= 0; i--, v >>= 8)
        p[i] = (uint8_t)v;
}

static uint64_t get_be64(const uint8_t *p)
{
    uint64_t v = 0;

    for (int i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}

bool kdc_put_account(struct kdc_work *w, const struct store_account *a, struct krb_ad *out)
{
    uint8_t b[16];
    struct krb_ad in = {AD_SALLYPORT_ACCOUNT, sp_span(b, sizeof b)};
    struct krb_authdata list = {&in, 1};

    put_be64(b, a->id);
    put_be64(b + 8, a->generation);
    out->type = AD_IF_RELEVANT;
    return krb_make(KRB_AUTHDATA, &list, w->mem, &out->data, &w->e);
}

static bool account_in(const struct krb_authdata *ad, uint64_t *id, uint64_t *generation)
{
    for (uint32_t i = 0; i < ad->count; i++)
        if (ad->v[i].type == AD_SALLYPORT_ACCOUNT && ad->v[i].data.n == 16) {
            *id = get_be64(ad->v[i].data.p);
            *generation = get_be64(ad->v[i].data.p + 8);
            return true;
        }
    return false;
}

bool kdc_get_account(struct kdc_work *w, const struct krb_authdata *ad, uint64_t *id, uint64_t *generation)
{
    for (uint32_t i = 0; i < ad->count; i++) {
        struct krb_authdata inner = {0};
        struct sp_err e = {0};

        if (ad->v[i].type == AD_IF_RELEVANT &&
            krb_get(KRB_AUTHDATA, ad->v[i].data, KRB_STRICT, w->mem, &inner, &e) &&
            account_in(&inner, id, generation))
            return true;
        if (e.kind == SP_ENOMEM) { /* our trouble; must not be told as a ticket without an account */
            w->e = e;
            return false;
        }
    }
    return false;
}
