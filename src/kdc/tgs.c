/* SPDX-License-Identifier: MIT */
/* The TGS exchange (RFC 4120 3.3): each ticket can only shrink what its parent had. */
#include "kdc/internal.h"

#define AD_DEPTH_MAX 2 /* AD-IF-RELEVANT within AD-IF-RELEVANT; deeper ones are left out */

/* S4U, user-to-user, validation, proxies, post-dating and anonymity: refused before anything is decrypted. */
static bool check_options(struct kdc_work *w)
{
    static const uint8_t refused[] = {
        OPT_PROXY,           OPT_POSTDATED, OPT_CNAME_IN_ADDL_TKT, OPT_REQUEST_ANONYMOUS,
        OPT_ENC_TKT_IN_SKEY, OPT_VALIDATE};

    for (size_t i = 0; i < sizeof refused; i++)
        if (kdc_option(w, refused[i]))
            return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_BADOPTION, "option %u in a TGS request", refused[i]);
    return kdc_check_padata(w);
}

/* RFC 4120 3.3.2: the checksum over the body must be keyed. */
static bool check_body(struct kdc_work *w, const struct kdc_presented *p)
{
    const struct krb_authenticator *a = &p->auth;

    if (!KRB_HAS(a, 3))
        return sp_fail(&w->e, SP_EREFUSED, KRB_AP_ERR_INAPP_CKSUM, "no checksum over the request");
    return crypto_verify(w->k->crypto, &p->session, KU_TGS_REQ_CKSUM, a->cksum.type, w->m.body.raw,
                         a->cksum.sum, &w->e);
}

static bool has_flag(const struct kdc_presented *p, int bit)
{
    return (p->ticket.flags & KRB_FLAG(bit)) != 0;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int32_t renew_life(const struct kdc_work *w, const struct store_account *a)
{
    return (a->flags & STORE_ALLOW_RENEW) && a->renew_s > 0 ? a->renew_s : w->cf->renew_life_s;
}

static bool check_renew(struct kdc_work *w, const struct kdc_presented *p)
{
    if (!has_flag(p, TKT_RENEWABLE) || !KRB_HAS(&p->ticket, 8) || w->service.kind != STORE_KRBTGT)
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_BADOPTION, "the ticket is not renewable");
    if (renew_life(w, &p->owner) <= 0)
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_POLICY, "nothing is renewable any more");
    if (p->ticket.renew_till <= w->now_s)
        return sp_fail(&w->e, SP_EREFUSED, KRB_AP_ERR_TKT_EXPIRED, "past the end of renewal");
    return true;
}

static bool check_forward(struct kdc_work *w, const struct kdc_presented *p)
{
    if (!has_flag(p, TKT_FORWARDABLE))
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_BADOPTION, "the ticket is not forwardable");
    if (!w->cf->forwardable && !(p->owner.flags & STORE_ALLOW_FORWARD))
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_POLICY, "nothing is forwardable any more");
    return true;
}

static bool check_asked(struct kdc_work *w, const struct kdc_presented *p)
{
    if (w->service.kind == STORE_CHANGEPW) /* decision 55: from an AS exchange only */
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_POLICY,
                       "a ticket for password changes needs the password");
    if (kdc_option(w, OPT_RENEW) && !check_renew(w, p))
        return false;
    if (kdc_option(w, OPT_FORWARDED) && !check_forward(w, p))
        return false;
    return kdc_check_times(w) && kdc_check_service(w);
}

static uint32_t flags_of(const struct kdc_work *w, const struct kdc_presented *p)
{
    uint32_t parent = p->ticket.flags;
    uint32_t f = parent & (KRB_FLAG(TKT_PRE_AUTHENT) | KRB_FLAG(TKT_HW_AUTHENT) | KRB_FLAG(TKT_FORWARDED));
    bool renew = kdc_option(w, OPT_RENEW);

    if (kdc_option(w, OPT_PROXIABLE)) /* always when asked (decision 43: Java compares); PROXY is refused */
        f |= KRB_FLAG(TKT_PROXIABLE);
    else if (renew)
        f |= parent & KRB_FLAG(TKT_PROXIABLE);
    if ((renew || kdc_option(w, OPT_FORWARDABLE)) &&
        (w->cf->forwardable || (p->owner.flags & STORE_ALLOW_FORWARD)))
        f |= parent & KRB_FLAG(TKT_FORWARDABLE);
    if (kdc_option(w, OPT_FORWARDED))
        f |= KRB_FLAG(TKT_FORWARDED);
    return f;
}

static void set_times(const struct kdc_work *w, const struct kdc_presented *p, struct kdc_grant *g)
{
    const struct krb_req_body *b = &w->m.body;
    const struct krb_enc_ticket *t = &p->ticket;
    int64_t started = KRB_HAS(t, 6) ? t->starttime : t->authtime;
    int64_t life = kdc_service_life(w->cf, &w->service, &w->sname), rtime;

    g->authtime = t->authtime;
    g->start = w->now_s; /* decision 51 */
    if (kdc_option(w, OPT_RENEW)) {
        g->end = least(least(w->now_s + (t->endtime - started), t->renew_till), kdc_wanted(b->till));
        g->renew_till = t->renew_till;
    } else {
        g->end = least(least(w->now_s + life, t->endtime), kdc_wanted(b->till));
        rtime = KRB_HAS(b, 6) ? kdc_wanted(b->rtime) : KDC_NONE_S;
        if (kdc_option(w, OPT_RENEWABLE) && has_flag(p, TKT_RENEWABLE) && KRB_HAS(t, 8) &&
            w->service.kind == STORE_KRBTGT && renew_life(w, &p->owner) > 0)
            g->renew_till = least(t->renew_till, rtime);
    }
    if (p->owner.expires_s)
        g->end = least(g->end, p->owner.expires_s);
    if (g->renew_till < g->end)
        g->renew_till = 0;
    if (g->renew_till)
        g->flags |= KRB_FLAG(TKT_RENEWABLE);
}

/* What only a KDC may put into a ticket; also our own account element, which is made anew where it belongs.
 */
static bool only_kdc_issues(int32_t type)
{
    return type == AD_KDC_ISSUED || type == AD_WIN2K_PAC || type == AD_SIGNTICKET ||
           type == AD_SALLYPORT_ACCOUNT;
}

static bool copy_authdata(struct kdc_work *w, const struct krb_authdata *in, int depth,
                          struct krb_authdata *out);

static bool copy_container(struct kdc_work *w, struct sp_span data, int depth, struct krb_authdata *out)
{
    struct krb_authdata in = {0}, kept = {0};
    struct krb_ad *ad = &out->v[out->count];

    if (depth >= AD_DEPTH_MAX)
        return true;
    if (!krb_get(KRB_AUTHDATA, data, KRB_STRICT, w->mem, &in, &w->e))
        return false;
    kept.v = sp_new_array(w->mem, struct krb_ad, in.count, &w->e);
    if (!kept.v || !copy_authdata(w, &in, depth + 1, &kept))
        return false;
    if (kept.count == 0)
        return true;
    out->count++;
    ad->type = AD_IF_RELEVANT;
    return krb_make(KRB_AUTHDATA, &kept, w->mem, &ad->data, &w->e);
}

/* Appends to out, which has room for all of in. */
static bool copy_authdata(struct kdc_work *w, const struct krb_authdata *in, int depth,
                          struct krb_authdata *out)
{
    for (uint32_t i = 0; i < in->count; i++) {
        const struct krb_ad *ad = &in->v[i];

        if (ad->type == AD_MANDATORY_FOR_KDC ||
            ad->type == AD_AND_OR) /* restrictions that we do not understand */
            return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_POLICY, "authorization data of type %d", ad->type);
        if (ad->type == AD_IF_RELEVANT) {
            if (!copy_container(w, ad->data, depth, out))
                return false;
        } else if (!only_kdc_issues(ad->type)) {
            out->v[out->count++] = *ad;
        }
    }
    return true;
}

/* enc-authorization-data, RFC 4120 5.4.1 */
static bool read_asked_authdata(struct kdc_work *w, const struct kdc_presented *p, struct krb_authdata *out)
{
    const struct krb_enc *enc = &w->m.body.enc_authdata;
    const struct sp_key *key = p->has_subkey ? &p->subkey : &p->session;
    uint32_t usage = p->has_subkey ? KU_TGS_REQ_AD_SUBKEY : KU_TGS_REQ_AD_SESSION;
    size_t n = enc->cipher.n;
    uint8_t *plain;

    if (!KRB_HAS(&w->m.body, 10))
        return true;
    plain = sp_alloc(w->mem, n, &w->e);
    if (!plain)
        return false;
    if (enc->etype != key->etype)
        return sp_fail(&w->e, SP_EREFUSED, KRB_AP_ERR_BAD_INTEGRITY, "authorization data of type %d",
                       enc->etype);
    return crypto_decrypt(w->k->crypto, key, usage, enc->cipher, plain, &n, &w->e) &&
           krb_get(KRB_AUTHDATA, sp_span(plain, n), KRB_STRICT, w->mem, out, &w->e);
}

static bool set_authdata(struct kdc_work *w, const struct kdc_presented *p, struct kdc_grant *g)
{
    struct krb_authdata asked = {0};

    if (!read_asked_authdata(w, p, &asked))
        return false;
    g->ad.v = sp_new_array(w->mem, struct krb_ad, p->ticket.authdata.count + asked.count + 1, &w->e);
    if (!g->ad.v)
        return false;
    if (w->service.kind == STORE_KRBTGT && !kdc_put_account(w, &p->owner, &g->ad.v[g->ad.count++]))
        return false;
    if (!copy_authdata(w, &p->ticket.authdata, 0, &g->ad) || !copy_authdata(w, &asked, 0, &g->ad))
        return false;
    return g->ad.count <= KRB_AUTHDATA_MAX ||
           sp_fail(&w->e, SP_EREFUSED, KRB_ERR_GENERIC, "%u elements of authorization data", g->ad.count);
}

static bool grant(struct kdc_work *w, const struct kdc_presented *p)
{
    struct kdc_grant g = {.cname = p->ticket.cname, .flags = flags_of(w, p)};
    struct kdc_sealing how = {
        .key = p->has_subkey ? &p->subkey : &p->session,
        .usage = p->has_subkey ? KU_TGS_REP_SUBKEY : KU_TGS_REP_SESSION,
    };

    set_times(w, p, &g);
    return set_authdata(w, p, &g) && kdc_make_reply(w, &g, &how);
}

static bool run(struct kdc_work *w, struct kdc_presented *p)
{
    const struct krb_pa *pa = kdc_find_pa(&w->m.padata, PA_TGS_REQ);

    if (!check_options(w))
        return false;
    if (!pa)
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_PADATA_TYPE_NOSUPP, "a TGS request without a ticket");
    if (!kdc_read_ticket(w, pa->value, STORE_KRBTGT, 1, p))
        return false;
    w->out->record.client = kdc_text_of(w, &p->ticket.cname, p->ticket.crealm);
    w->out->record.preauth = "tgt";
    if (!kdc_check_authenticator(w, p, KU_TGS_REQ_AUTH) || !check_body(w, p))
        return false;
    w->keep = true;
    return kdc_check_replay(w, p) && kdc_check_owner(w, p) && kdc_check_realm(w) && kdc_find_service(w) &&
           check_asked(w, p) && grant(w, p);
}

bool kdc_tgs(struct kdc_work *w)
{
    struct kdc_presented p = {0};
    bool ok = run(w, &p);

    sp_wipe(&p.session, sizeof p.session);
    sp_wipe(&p.subkey, sizeof p.subkey);
    return ok;
}
