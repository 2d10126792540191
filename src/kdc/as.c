/* SPDX-License-Identifier: MIT */
/* The AS exchange (RFC 4120 3.1). Pre-authentication is always required, and until it was given nothing in
 * the answer depends on whether the client exists. */
#include "kdc/internal.h"

/* Decision 43: these make no sense in an AS request; POSTDATED and anonymity are not ours. */
static const uint8_t refused[] = {
    OPT_FORWARDED,         OPT_PROXY,           OPT_POSTDATED, OPT_CNAME_IN_ADDL_TKT,
    OPT_REQUEST_ANONYMOUS, OPT_ENC_TKT_IN_SKEY, OPT_RENEW,     OPT_VALIDATE};

static bool check_request(struct kdc_work *w, struct kdc_as *a)
{
    const struct krb_req_body *b = &w->m.body;

    if (!KRB_HAS(b, 1) || b->cname.parts.count == 0)
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_C_PRINCIPAL_UNKNOWN, "no client named");
    for (size_t i = 0; i < sizeof refused; i++)
        if (kdc_option(w, refused[i]))
            return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_BADOPTION, "option %u in an AS request", refused[i]);
    if (!kdc_check_padata(w))
        return false;
    for (uint32_t i = 0; i < w->cf->enctype_count && a->etype == 0; i++)
        if (kdc_has_i32(&b->etypes, w->cf->enctypes[i]))
            a->etype = w->cf->enctypes[i];
    if (a->etype == 0)
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_ETYPE_NOSUPP,
                       "none of the client's encryption types is used here (RC4, DES and Camellia are not)");
    return kdc_check_times(w);
}

/* What follows the look-up does not branch on whether somebody was found: the processor would guess right
 * more often for one kind of name than for the other. */
static bool find_client(struct kdc_work *w, struct kdc_as *a)
{
    static const bool expected[SP_EBUG + 1] = {[SP_OK] = true, [SP_ENOTFOUND] = true};
    struct krb_name *name = &w->m.body.cname;
    struct sp_err e = {0};
    bool found;

    if (!krb_name_key(name, &w->cf->realm, w->mem, &a->lookup, &e) ||
        !kdc_salt_for(w->cf, w->k->crypto, name, a->lookup, w->mem, &a->salt, &e)) {
        if (e.kind == SP_EINPUT) /* no account can have such a name, so this tells nothing */
            return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_C_PRINCIPAL_UNKNOWN, "an impossible client name");
        w->e = e;
        return false;
    }
    found = w->k->accounts->find(w->k->accounts, a->lookup, w->mem, &w->client, &e);
    if (!expected[e.kind]) {
        w->e = e;
        return false;
    }
    a->known = found & ((w->client.kind == STORE_USER) | (w->client.kind == STORE_SERVICE));
    w->out->record.account_id = w->client.id & (0 - (uint64_t)a->known);
    return true;
}

/* The entry that tells the client how its key is made. Random keys and unknown names get what the realm's
 * rule gives; which it is is chosen without a branch, as the processor's guess would show. */
static bool make_info2(struct kdc_work *w, const struct kdc_as *a, const struct store_key *k, int32_t etype,
                       struct sp_span *out)
{
    const struct crypto_type *t = crypto_find_type(etype);
    bool own = a->known & (k->salt.p != NULL);
    struct krb_info2 entry = {.has = KRB_BIT(1), .etype = etype, .salt = *(own ? &k->salt : &a->salt)};
    struct krb_infos2 list = {&entry, 1};
    uint32_t count = 0;
    uint8_t be[4];

    for (uint32_t i = 0; i < w->cf->enctype_count; i++)
        if (w->cf->enctypes[i] == etype)
            count = w->cf->iterations[i];
    count = *(own ? &k->iterations : &count);
    if (count != 0 && t && count != t->s2k_iter) {
        for (int i = 0; i < 4; i++)
            be[i] = (uint8_t)(count >> (24 - 8 * i));
        entry.has |= KRB_BIT(2);
        entry.params = sp_span(be, 4);
    }
    return krb_make(KRB_INFOS2, &list, w->mem, out, &w->e);
}

/* The key that a proof will be made with; *etype: its type. For unknown names the stand-in's, or NULL. */
static bool find_key(struct kdc_work *w, const struct kdc_as *a, const struct store_key **k, int32_t *etype)
{
    *etype = a->etype;
    *k = store_find_key(&w->client, a->etype, 0);
    for (uint32_t i = 0; !*k && a->known && i < w->cf->enctype_count;
         i++) { /* an account without that type of key */
        *etype = w->cf->enctypes[i];
        *k = kdc_has_i32(&w->m.body.etypes, *etype) ? store_find_key(&w->client, *etype, 0) : NULL;
    }
    return *k || !a->known ||
           sp_fail(&w->e, SP_EREFUSED, KDC_ERR_ETYPE_NOSUPP,
                   "the account has no key of a type the client takes");
}

/* Errors 25 and 91 (decision 45): one ETYPE-INFO2 entry, then what is offered. 91 goes to a client that said
 * which SPAKE groups it has, and goes on with SPAKE alone (RFC 9588 4.2). */
static bool ask_for_proof(struct kdc_work *w, struct kdc_as *a)
{
    static const struct store_key none;
    struct kdc_spake_offer spake;
    struct krb_pa offer[4] = {{.type = PA_ETYPE_INFO2}};
    struct krb_padata list = {offer, 1};
    const struct store_key *k;
    int32_t etype;

    if (w->cf->reveal_unknown && !a->known)
        return sp_fail(&w->e, SP_EREFUSED, KDC_WHY_UNKNOWN, "no such client");
    if (!find_key(w, a, &k, &etype) || !make_info2(w, a, k ? k : &none, etype, &offer[0].value))
        return false;
    if (w->cf->spake) {
        if (!kdc_spake_offer(w, a, k, etype, &spake))
            return false;
        offer[list.count++] = (struct krb_pa){PA_SPAKE, spake.spake};
    }
    if (w->cf->timestamp && !a->said_pa)
        offer[list.count++] = (struct krb_pa){PA_ENC_TIMESTAMP, SP_LIT("")};
    if (w->cf->spake && spake.cookie.n)
        offer[list.count++] = (struct krb_pa){PA_FX_COOKIE, spake.cookie};
    if (!krb_make(KRB_PADATA, &list, w->mem, &w->err_data, &w->e))
        return false;
    w->e.kind = SP_EREFUSED; /* the usual first answer; not worth a text */
    w->e.proto = a->said_pa ? KDC_ERR_MORE_PREAUTH_DATA_REQUIRED : KDC_ERR_PREAUTH_REQUIRED;
    return false;
}

const struct kdc_source *kdc_as_source(const struct kdc_work *w, struct kdc_as *a)
{
    if (!a->from)
        a->from = w->req->look_closer ? w->req->look_closer(w->req->door_data) : &w->req->source;
    return a->from;
}

bool kdc_as_reserve(struct kdc_work *w, struct kdc_as *a)
{
    uint64_t who = kdc_guess_unknown(w->k->shared, a->lookup); /* asked for known ones too: it takes time */

    who = *(a->known ? &w->client.id : &who);
    return kdc_guess_reserve(w->k->shared, w->cf, w->env, kdc_as_source(w, a), who, &a->guess);
}

struct sp_span kdc_as_proof(const struct kdc_work *w, bool honest, struct sp_span cipher, uint8_t *room)
{
    uint64_t change = (w->hash.a | 1) & ((uint64_t)honest - 1), head = 0; /* chosen without a branch */
    size_t n = cipher.n < sizeof change ? cipher.n : sizeof change;

    memcpy(room, cipher.p, cipher.n);
    memcpy(&head, room, n);
    head ^= change;
    memcpy(room, &head, n);
    return sp_span(room, cipher.n);
}

/* The texts are copied, at one length: formatting takes time that could be seen. */
bool kdc_as_wrong(struct kdc_work *w, const struct kdc_as *a, bool allowed)
{
    static const struct {
        int32_t reason;
        char text[32];
    } say[2][2] = {
        {{KDC_WHY_THROTTLED, "too many failures; not verified"},
         {KDC_WHY_THROTTLED, "too many failures; not verified"}                                             },
        {{KDC_WHY_UNKNOWN, "no such client"},                    {KDC_WHY_PASSWORD, "wrong password or key"}},
    };

    w->out->record.failed = allowed;
    w->e.kind = SP_EREFUSED;
    w->e.proto = say[allowed][a->known].reason;
    memcpy(w->e.text, say[allowed][a->known].text, sizeof say[0][0].text);
    return false;
}

static bool try_key(struct kdc_work *w, const struct sp_key *key, struct sp_span cipher, uint8_t *plain,
                    size_t *n)
{
    struct sp_err e = {0};

    *n = cipher.n;
    return crypto_decrypt(w->k->crypto, key, KU_PA_ENC_TS, cipher, plain, n, &e);
}

/* What a failed try costs beside: one key made from the name and then used once and, where the record has no
 * key of that type, another that the backend keeps as it keeps those of accounts. */
static void spend_keys(struct kdc_work *w, const struct kdc_as *a, uint8_t *plain)
{
    struct sp_err e = {0};
    struct sp_key dummy;
    size_t n;

    if (kdc_dummy_key(w->cf, w->k->crypto, a->proof.etype, a->lookup, &dummy, &e)) {
        dummy.keep = true;
        if (!a->key)
            (void)try_key(w, &dummy, a->proof.cipher, plain, &n);
        dummy.keep = false;
        dummy.b[0] ^= 1;
        (void)try_key(w, &dummy, a->proof.cipher, plain, &n);
    }
    sp_wipe(&dummy, sizeof dummy);
}

/* Whatever fails costs two decryptions, one with a key that may be kept and one with a key that is not;
 * unknown and throttled ones too. */
static bool open_proof(struct kdc_work *w, struct kdc_as *a, bool allowed, uint8_t *plain, size_t *n)
{
    bool honest = allowed & a->known;

    if (a->key && try_key(w, &a->key->key, kdc_as_proof(w, honest, a->proof.cipher, plain), plain, n) &&
        honest)
        return true;
    spend_keys(w, a, plain);
    return false;
}

static bool check_stamp(struct kdc_work *w, struct kdc_as *a, struct sp_span plain)
{
    struct krb_pa_enc_ts ts = {0};

    if (!krb_get(KRB_PA_ENC_TS, plain, KRB_STRICT, w->mem, &ts, &w->e))
        return false;
    if (!kdc_within_skew(w->env.wall_us, kdc_peer_us(ts.time, KRB_HAS(&ts, 1) ? ts.usec : 0), w->cf->skew_s))
        return sp_fail(&w->e, SP_EREFUSED, KRB_AP_ERR_SKEW, "the client's clock is off by more than %d s",
                       w->cf->skew_s);
    if (kdc_replay_note(w->k->shared, w->env.mono_us, 2 * w->cf->skew_s + 1, a->proof.cipher, w->hash) ==
        KDC_REPLAYED)
        return sp_fail(&w->e, SP_EREFUSED, KRB_AP_ERR_REPEAT, "the timestamp was seen before");
    return true;
}

/* RFC 4120 5.2.7.2, with the try reserved before and given back unless the password was wrong. */
static bool verify(struct kdc_work *w, struct kdc_as *a, const struct krb_pa *pa)
{
    uint8_t *plain;
    size_t n = 0;
    bool allowed;

    w->out->record.preauth = "timestamp";
    if (!w->cf->timestamp)
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_PADATA_TYPE_NOSUPP, "timestamps are not taken here");
    if (!krb_get(KRB_ENC, pa->value, KRB_STRICT, w->mem, &a->proof, &w->e))
        return false;
    if (!crypto_find_type(a->proof.etype))
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_ETYPE_NOSUPP, "timestamp with encryption type %d",
                       a->proof.etype);
    plain = sp_alloc(w->mem, a->proof.cipher.n, &w->e);
    if (!plain)
        return false;
    w->keep = true;
    a->key = store_find_key(&w->client, a->proof.etype, 0);
    allowed = kdc_as_reserve(w, a);
    if (!open_proof(w, a, allowed, plain, &n))
        return kdc_as_wrong(w, a, allowed);
    a->reply = a->key->key;
    w->proven = true;
    w->out->record.proven = true;
    return check_stamp(w, a, sp_span(plain, n));
}

/* Told only now, after the proof (decision 52). */
static bool check_client(struct kdc_work *w)
{
    const struct store_account *c = &w->client;
    bool old = (c->flags & STORE_MUST_CHANGE) ||
               (c->password_expires_s && c->password_expires_s <= w->now_s && !(c->flags & STORE_NO_EXPIRY));

    if (c->flags & STORE_DISABLED)
        return sp_fail(&w->e, SP_EREFUSED, KDC_WHY_DISABLED, "the account is disabled");
    if (c->expires_s && c->expires_s <= w->now_s)
        return sp_fail(&w->e, SP_EREFUSED, KDC_WHY_EXPIRED, "the account has expired");
    if (old && w->service.kind != STORE_CHANGEPW)
        return sp_fail(&w->e, SP_EREFUSED, KDC_WHY_OLD_PASSWORD,
                       "the password has expired or must be changed");
    return true;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void set_times(const struct kdc_work *w, struct kdc_grant *g)
{
    const struct krb_req_body *b = &w->m.body;
    const struct store_account *c = &w->client;
    int64_t till = kdc_wanted(b->till), life = kdc_service_life(w->cf, &w->service, &w->sname), want;
    int32_t renew = (c->flags & STORE_ALLOW_RENEW) && c->renew_s > 0 ? c->renew_s : w->cf->renew_life_s;

    if (c->life_s > 0)
        life = least(life, c->life_s);
    g->authtime = g->start = w->now_s;
    g->end = least(till, w->now_s + life);
    if (c->expires_s)
        g->end = least(g->end, c->expires_s);
    if (renew <= 0 || w->service.kind != STORE_KRBTGT)
        return;
    if (kdc_option(w, OPT_RENEWABLE))
        want = KRB_HAS(b, 6) ? kdc_wanted(b->rtime) : KDC_NONE_S;
    else if (kdc_option(w, OPT_RENEWABLE_OK) && till > g->end)
        want = till;
    else
        return;
    g->renew_till = least(want, w->now_s + renew);
    if (c->expires_s)
        g->renew_till = least(g->renew_till, c->expires_s);
    if (g->renew_till <= g->end)
        g->renew_till = 0;
    else
        g->flags |= KRB_FLAG(TKT_RENEWABLE);
}

static bool set_grant(struct kdc_work *w, struct kdc_grant *g)
{
    struct sp_span none;

    g->flags = KRB_FLAG(TKT_INITIAL) | KRB_FLAG(TKT_PRE_AUTHENT);
    if (kdc_option(w, OPT_PROXIABLE)) /* Java wants to see it again; PROXY itself is refused */
        g->flags |= KRB_FLAG(TKT_PROXIABLE);
    if (kdc_option(w, OPT_FORWARDABLE) && (w->cf->forwardable || (w->client.flags & STORE_ALLOW_FORWARD)))
        g->flags |= KRB_FLAG(TKT_FORWARDABLE);
    set_times(w, g);
    g->cname = w->m.body.cname; /* decision 49 */
    if (kdc_option(w, OPT_CANONICALIZE)) {
        if (!krb_parse_name(w->client.name, w->mem, &g->cname, &none, &w->e))
            return false;
        g->cname.type = NT_PRINCIPAL;
    }
    if (w->service.kind != STORE_KRBTGT && w->service.kind != STORE_CHANGEPW)
        return true; /* ids of accounts are nobody's business but ours */
    g->ad.v = sp_new(w->mem, struct krb_ad, &w->e);
    g->ad.count = 1;
    return g->ad.v && kdc_put_account(w, &w->client, &g->ad.v[0]);
}

/* Decision 44, RFC 6806 11: flag 15 and the checksum of the request go together. */
static bool protect_request(struct kdc_work *w, const struct kdc_as *a, struct kdc_grant *g,
                            struct krb_pa *pa, struct kdc_sealing *how)
{
    uint8_t sum[CRYPTO_CKSUM_MAX];
    size_t n = sizeof sum;
    struct krb_checksum c = {.type = crypto_find_type(a->reply.etype)->cksumtype};

    if (!w->canonical || !kdc_find_pa(&w->m.padata, PA_REQ_ENC_PA_REP))
        return true;
    if (!crypto_checksum(w->k->crypto, &a->reply, KU_AS_REQ, w->req->bytes, sum, &n, &w->e))
        return false;
    c.sum = sp_span(sum, n);
    pa->type = PA_REQ_ENC_PA_REP;
    how->enc_padata = (struct krb_padata){pa, 1};
    g->flags |= KRB_FLAG(TKT_ENC_PA_REP);
    return krb_make(KRB_CHECKSUM, &c, w->mem, &pa->value, &w->e);
}

static bool grant(struct kdc_work *w, struct kdc_as *a)
{
    struct krb_pa info = {PA_ETYPE_INFO2, {0}}, protect = {0};
    struct kdc_grant g = {0};
    struct kdc_sealing how = {
        .key = &a->reply,
        .usage = KU_AS_REP,
        .kvno = a->key->kvno,
        .padata = {&info, 1},
        .key_expiration = w->client.flags & STORE_NO_EXPIRY ? 0 : w->client.password_expires_s,
    };

    return set_grant(w, &g) && protect_request(w, a, &g, &protect, &how) &&
           make_info2(w, a, a->key, a->reply.etype, &info.value) && kdc_make_reply(w, &g, &how);
}

/* What came as proof, SPAKE before a timestamp. Nothing: it is asked for. */
static bool prove(struct kdc_work *w, struct kdc_as *a)
{
    const struct krb_pa *stamp = kdc_find_pa(&w->m.padata, PA_ENC_TIMESTAMP);

    if (a->said_pa && KRB_HAS(&a->said, 2))
        return kdc_spake_verify(w, a);
    if (stamp)
        return verify(w, a, stamp);
    if (a->said_pa && !KRB_HAS(&a->said, 0))
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_PREAUTH_FAILED,
                       "a SPAKE message that clients do not send");
    return ask_for_proof(w, a);
}

static bool read_spake(struct kdc_work *w, struct kdc_as *a)
{
    if (w->cf->spake) /* else unknown, and ignored (decision 56) */
        a->said_pa = kdc_find_pa(&w->m.padata, PA_SPAKE);
    return !a->said_pa || krb_get(KRB_PA_SPAKE, a->said_pa->value, KRB_STRICT, w->mem, &a->said, &w->e);
}

bool kdc_as(struct kdc_work *w)
{
    struct kdc_as a = {0};
    bool ok;

    if (!check_request(w, &a) || !read_spake(w, &a) || !kdc_check_realm(w) || !kdc_find_service(w) ||
        !find_client(w, &a))
        return false;
    ok = prove(w, &a) && check_client(w) && kdc_check_service(w) && grant(w, &a);
    sp_wipe(&a.reply, sizeof a.reply);
    if (ok)
        kdc_guess_success(w->k->shared, w->env, a.from, &a.guess);
    else if (w->proven)
        kdc_guess_give_back(w->k->shared, &a.guess);
    return ok;
}
