/* SPDX-License-Identifier: MIT */
/* The client engine against our own KDC engine, and against a peer made here of the message tables that can
 * do each thing wrong, one at a time. Case numbers (T073, ...) are those of the project's security list. */
#include "client/client.h"
#include "krb/spake.h"
#include "realm.h"

/* Rows name what they care about; the rest is zero. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#define F(n) KRB_FLAG(n)

static struct sp_arena mem; /* the client's */
static _Alignas(16) uint8_t mem_block[1 << 18];

static int set_up(void **state)
{
    (void)state;
    sp_arena_init(&mem, mem_block, sizeof mem_block);
    return !realm_open();
}

static int tear_down(void **state)
{
    (void)state;
    realm_close();
    return 0;
}

/* ---- driving ---- */

typedef struct sp_span peer_fn(struct sp_span request);

static struct outcome {
    struct client *cl;
    struct sp_err e;
    bool ok;
    struct client_action act;
} O;

static void drive(const struct client_policy *p, const struct client_wish *w, peer_fn *peer)
{
    O = (struct outcome){0};
    sp_arena_reset(&mem);
    O.ok = client_start(&O.cl, crypto, p, w, env, &mem, &O.act, &O.e);
    while (O.ok && !O.act.done) {
        assert_true(O.act.request.n > 0 && O.act.realm.n > 0);
        env.mono_us += 1000;
        env.wall_us += 1000;
        O.ok = client_reply(O.cl, env, peer(O.act.request), &O.act, &O.e);
    }
}

static void must(const char *why)
{
    if (!O.ok)
        fail_msg("%s: %s %d: %s", why, sp_kind_name(O.e.kind), O.e.proto, O.e.text);
    assert_int_equal(client_state(O.cl), CLIENT_DONE);
}

static void refused(const char *why, enum sp_kind kind, int32_t proto)
{
    if (O.ok)
        fail_msg("%s: taken", why);
    if (O.e.kind != kind || O.e.proto != proto)
        fail_msg("%s: %s %d: %s", why, sp_kind_name(O.e.kind), O.e.proto, O.e.text);
    if (strlen(O.e.text) >= sizeof O.e.text - 1)
        fail_msg("%s: the text does not fit: %s", why, O.e.text);
    if (O.cl) {
        assert_int_equal(client_state(O.cl), CLIENT_FAILED);
        assert_null(client_tgt(O.cl));
        assert_null(client_service(O.cl));
    }
}

static struct client_wish wish_of(enum client_goal goal)
{
    return (struct client_wish){.goal = goal,
                                .client = name_of("alice", NT_PRINCIPAL),
                                .realm = SP_LIT(REALM),
                                .password = SP_LIT(WORD),
                                .service = goal == CLIENT_SERVICE || goal == CLIENT_SERVICE_BY_AS
                                               ? name_of("host/nas1", NT_SRV_HST)
                                               : (struct krb_name){0}};
}

static struct client_policy direct(void)
{
    struct client_policy p;

    client_policy_direct(&p);
    return p;
}

static struct client_policy in_band(void)
{
    struct client_policy p;

    client_policy_in_band(&p);
    return p;
}

/* With a timestamp and nothing else, whatever the KDC has. */
static struct client_policy stamped(void)
{
    struct client_policy p = direct();

    p.spake = false;
    return p;
}

/* The ticket opens with the service's key and says what the credential says. */
static void look_inside(const struct krb_credential *c, const char *service)
{
    struct store_account *a = account(service);
    struct krb_enc_ticket in = {0};
    struct krb_ticket t = {0};
    const struct store_key *k;

    assert_non_null(c);
    get(KRB_TICKET, c->ticket, &t);
    k = store_find_key(a, t.enc.etype, (uint32_t)t.enc.kvno);
    assert_non_null(k);
    assert_true(open_sealed(KRB_ENC_TICKET, &t.enc, &k->key, KU_TICKET, &in));
    assert_true(sp_same(in.key.value, sp_span(c->key.b, c->key.n)));
    assert_int_equal(in.key.type, c->key.etype);
    assert_int_equal(in.flags, c->flags);
    assert_int_equal(in.endtime, c->endtime);
    assert_int_equal(in.starttime, c->starttime);
    assert_int_equal(in.authtime, c->authtime);
    assert_int_equal(in.renew_till, c->renew_till);
    assert_true(krb_same_name(&in.cname, &c->client) && sp_same(in.crealm, c->crealm));
    assert_true(krb_same_name(&t.sname, &c->server) && sp_same(t.realm, c->srealm));
}

/* ---- logins at our own KDC ---- */

static void every_type_of_key(void **state)
{
    static const int32_t etype[] = {17, 18, 19, 20};

    (void)state;
    for (int i = 0; i < 8; i++) {
        struct client_policy p = stamped();
        struct client_wish w = wish_of(CLIENT_SERVICE);
        struct sp_key k = store_find_key(account("alice"), etype[i / 2], 0)->key;

        p.etypes[0] = etype[i / 2];
        p.etype_count = 1;
        if (i % 2) {
            w.password = sp_span(NULL, 0);
            w.keys = &k;
            w.key_count = 1;
        }
        drive(&p, &w, our_kdc);
        must("login");
        look_inside(client_tgt(O.cl), "krbtgt/" REALM);
        look_inside(client_service(O.cl), "host/nas1");
        assert_int_equal(client_tgt(O.cl)->key.etype, etype[i / 2]);
        assert_int_equal(client_service(O.cl)->key.etype, etype[i / 2]);
        assert_true(client_tgt(O.cl)->flags & F(TKT_ENC_PA_REP));
        assert_string_equal(client_preauth(O.cl), "timestamp");
        assert_int_equal(client_rounds(O.cl), 3);
        assert_int_equal(client_offset_s(O.cl), 0);
    }
}

/* Decision 23: in band, with SPAKE, 2 for the TGT, one more for a service, 2 for a service straight away. */
static void spake_at_our_kdc(void **state)
{
    static const enum client_goal goal[] = {CLIENT_TGT, CLIENT_SERVICE, CLIENT_SERVICE_BY_AS};

    (void)state;
    for (int i = 0; i < 12; i++) {
        struct client_policy p = in_band();
        struct client_wish w = wish_of(goal[i % 3]);

        p.etypes[0] = 17 + i / 3;
        p.etype_count = 1;
        drive(&p, &w, our_kdc);
        must("in band");
        assert_string_equal(client_preauth(O.cl), "spake");
        assert_int_equal(client_rounds(O.cl), i % 3 == 1 ? 3 : 2);
        if (i % 3 < 2)
            look_inside(client_tgt(O.cl), "krbtgt/" REALM);
        if (i % 3 > 0)
            look_inside(client_service(O.cl), "host/nas1");
        w.password = SP_LIT("wrong");
        drive(&p, &w, our_kdc);
        refused("wrong password", SP_EREFUSED, KDC_ERR_PREAUTH_FAILED);
        kdc_shared_unlock(W.k.shared, account("alice")->id);
    }
}

static void keys_choose_the_type(void **state)
{
    struct client_policy p = stamped();
    struct client_wish w = wish_of(CLIENT_TGT);
    struct sp_key k[2] = {
        store_find_key(account("alice"), 19, 0)->key, {.etype = 23, .n = 16}
    };

    (void)state;
    w.password = sp_span(NULL, 0);
    w.keys = k;
    w.key_count = 2;
    drive(&p, &w, our_kdc);
    must("a key of type 19 alone");
    w.keys = k + 1;
    w.key_count = 1;
    drive(&p, &w, our_kdc);
    refused("a key of type 23", SP_EREFUSED, KDC_ERR_ETYPE_NOSUPP);
    w = wish_of(CLIENT_TGT);
    w.password = SP_LIT("wrong");
    drive(&p, &w, our_kdc);
    refused("a wrong password", SP_EREFUSED, KDC_ERR_PREAUTH_FAILED);
}

static void service_by_as(void **state)
{
    struct client_policy p = stamped();
    struct client_wish w = wish_of(CLIENT_SERVICE_BY_AS);

    (void)state;
    w.life_s = 600;
    drive(&p, &w, our_kdc);
    must("service by AS");
    look_inside(client_service(O.cl), "host/nas1");
    assert_null(client_tgt(O.cl));
    assert_int_equal(client_rounds(O.cl), 2);
    assert_true(client_service(O.cl)->endtime <= NOW + 601);
}

static void known_parameters(void **state)
{
    struct client_policy p = stamped();
    struct client_wish w = wish_of(CLIENT_TGT);
    struct client_known known = {0};
    uint8_t salt[64];

    (void)state;
    drive(&p, &w, our_kdc);
    must("login");
    assert_true(client_learnt(O.cl, &known));
    assert_int_equal(known.etype, 18);
    assert_true(sp_same(known.salt, SP_LIT(REALM "alice")));
    assert_true(sp_same(known.params, sp_span("\0\0\x10\x01", 4)));
    memcpy(salt, known.salt.p, known.salt.n);
    known = (struct client_known){
        18, {salt,                            known.salt.n},
         {(const uint8_t *)"\0\0\x10\x01", 4           }
    };
    w.known = &known;
    drive(&p, &w, our_kdc);
    must("known");
    assert_int_equal(client_rounds(O.cl), 1);
    w.goal = CLIENT_SERVICE;
    w.service = name_of("host/nas1", NT_SRV_HST);
    drive(&p, &w, our_kdc);
    must("known, and a service");
    assert_int_equal(client_rounds(O.cl), 2);
    w = wish_of(CLIENT_TGT);
    w.known = &known;
    w.password = SP_LIT("wrong");
    W.out.record.failed = false;
    drive(&p, &w, our_kdc);
    refused("known, wrong password", SP_EREFUSED, KDC_ERR_PREAUTH_FAILED);
    assert_false(W.out.record.failed); /* the last leg showed no second proof */
    salt[0] ^= 1;
    w.password = SP_LIT(WORD);
    drive(&p, &w, our_kdc);
    must("what was known is no longer true");
    assert_int_equal(client_rounds(O.cl), 3);
    known.spake = true; /* then the support goes first */
    p.spake = true;
    salt[0] ^= 1;
    drive(&p, &w, our_kdc);
    must("known to have SPAKE");
    assert_int_equal(client_rounds(O.cl), 2);
}

static struct krb_credential copy_of(const struct krb_credential *c)
{
    struct krb_credential out = *c;
    struct sp_err e = {0};

    out.client = name_of("alice", NT_PRINCIPAL);
    out.server = name_of("krbtgt/" REALM, NT_SRV_INST);
    out.crealm = out.srealm = SP_LIT(REALM);
    out.ticket = sp_dup(&scrap, c->ticket, &e);
    return out;
}

static struct client_wish with_tgt(enum client_goal goal, const struct krb_credential *tgt)
{
    struct client_wish w = wish_of(goal);

    w.password = sp_span(NULL, 0);
    w.tgt = tgt;
    return w;
}

static void forwarded_and_renewed(void **state)
{
    struct client_policy p = stamped();
    struct client_wish w = wish_of(CLIENT_TGT);
    struct krb_credential tgt;

    (void)state;
    w.options = F(OPT_FORWARDABLE) | F(OPT_RENEWABLE);
    w.life_s = 3600;
    w.renew_s = 86400;
    drive(&p, &w, our_kdc);
    must("login");
    tgt = copy_of(client_tgt(O.cl));
    assert_true(tgt.flags & F(TKT_FORWARDABLE) && tgt.flags & F(TKT_RENEWABLE));
    assert_true(tgt.renew_till <= NOW + 86401 && tgt.renew_till > NOW + 86000);
    w = with_tgt(CLIENT_FORWARDED, &tgt);
    drive(&p, &w, our_kdc);
    must("forwarded");
    look_inside(client_tgt(O.cl), "krbtgt/" REALM);
    assert_true(client_tgt(O.cl)->flags & F(TKT_FORWARDED));
    assert_int_equal(client_rounds(O.cl), 1);
    env.wall_us += INT64_C(1800) * 1000000;
    w = with_tgt(CLIENT_RENEWED, &tgt);
    drive(&p, &w, our_kdc);
    must("renewed");
    look_inside(client_tgt(O.cl), "krbtgt/" REALM);
    assert_true(client_tgt(O.cl)->endtime > tgt.endtime);
    w = with_tgt(CLIENT_SERVICE, &tgt);
    w.options = F(OPT_FORWARDABLE);
    drive(&p, &w, our_kdc);
    must("a service from a TGT");
    look_inside(client_service(O.cl), "host/nas1");
    assert_int_equal(client_rounds(O.cl), 1);
    w.service = name_of("host/other", NT_SRV_HST);
    drive(&p, &w, our_kdc);
    refused("no such service", SP_EREFUSED, KDC_ERR_S_PRINCIPAL_UNKNOWN);
    W.cf.forwardable = false;
    w = with_tgt(CLIENT_FORWARDED, &tgt);
    drive(&p, &w, our_kdc);
    refused("not forwardable any more", SP_EREFUSED, KDC_ERR_POLICY);
}

static void clocks(void **state)
{
    static const struct {
        int64_t ahead_s;
        bool ok;
        uint32_t rounds;
    } rows[] = {
        {0,      true,  3},
        {3600,   true,  4}, /* one more, for the KDC's time */
        {-3600,  true,  4},
        {86399,  true,  4},
        {90000,  false, 0},
        {-90000, false, 0},
    };
    struct client_policy p = stamped();
    struct client_wish w = wish_of(CLIENT_SERVICE);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        W.ahead_us = rows[i].ahead_s * 1000000;
        drive(&p, &w, our_kdc);
        if (!rows[i].ok) {
            refused("too far", SP_EREFUSED, KRB_AP_ERR_SKEW);
            continue;
        }
        must("clock");
        assert_int_equal(client_offset_s(O.cl), rows[i].ahead_s);
        assert_int_equal(client_rounds(O.cl), rows[i].rounds);
    }
}

static void realms_that_were_guessed(void **state)
{
    static const char *const guess[] = {".", "nas1", "NAS1.EXAMPLE", REALM};

    (void)state;
    for (int i = 0; i < 8; i++) {
        struct client_policy p = stamped();
        struct client_wish w = wish_of(CLIENT_SERVICE);

        p.adopt_realm = i % 2;
        w.realm = sp_str(guess[i / 2]);
        drive(&p, &w, our_kdc);
        if (i / 2 == 0 && !p.adopt_realm) {
            assert_false(O.ok);
            assert_int_equal(O.e.kind, SP_EINPUT);
        } else if (i / 2 < 3 && !p.adopt_realm) {
            refused(guess[i / 2], SP_EREFUSED, KDC_ERR_WRONG_REALM);
        } else {
            must(guess[i / 2]);
            assert_true(sp_same(client_tgt(O.cl)->crealm, SP_LIT(REALM)));
            assert_int_equal(client_rounds(O.cl), 3);
        }
    }
}

static void wishes_that_contradict_themselves(void **state)
{
    struct client_policy p = stamped();
    struct sp_key key = {.etype = 18, .n = 32};
    struct krb_credential tgt =
                              {
                                  .server = name_of("host/nas1", 2), .key = key
    },
                          keyless = {.server = name_of("krbtgt/" REALM, 2), .key = {.etype = 18, .n = 16}};
    struct client_wish w[15];

    (void)state;
    for (size_t i = 0; i < sizeof w / sizeof w[0]; i++)
        w[i] = wish_of(i == 8 || i == 12 || i == 14 ? CLIENT_SERVICE
                       : i == 9                     ? CLIENT_SERVICE_BY_AS
                                                    : CLIENT_TGT);
    w[0].password = sp_span(NULL, 0);
    w[1].keys = &key;
    w[1].key_count = 1;
    w[2].tgt = &tgt;
    w[3].goal = CLIENT_RENEWED;
    w[4].client.parts.count = 0;
    w[5].realm = SP_LIT("");
    w[6].realm = SP_LIT(".");
    w[7].service = name_of("host/nas1", 2);
    w[8].service.parts.count = 0;
    w[9].service_realm = SP_LIT("ELSEWHERE");
    w[10].options = F(OPT_FORWARDED);
    w[11].life_s = -1;
    w[12].password = sp_span(NULL, 0);
    w[12].tgt = &tgt; /* no TGT */
    w[13] = with_tgt(CLIENT_TGT, &tgt);
    w[14] = with_tgt(CLIENT_SERVICE, &keyless);
    for (size_t i = 0; i < sizeof w / sizeof w[0]; i++) {
        drive(&p, &w[i], our_kdc);
        if (O.ok || O.e.kind != SP_EINPUT || O.cl)
            fail_msg("wish %zu: %s", i, O.e.text);
        if ((i == 12 && !strstr(O.e.text, "no ticket-granting ticket")) ||
            (i == 14 && !strstr(O.e.text, "session key of the ticket")))
            fail_msg("wish %zu: refused for something else: %s", i, O.e.text);
    }
    p.etypes[0] = 23;
    p.etype_count = 1;
    w[0] = wish_of(CLIENT_TGT);
    drive(&p, &w[0], our_kdc);
    assert_int_equal(O.e.kind, SP_EINPUT);
}

/* ---- a peer of our own making ---- */

enum at {
    AT_NOTHING,
    AT_ERROR,
    AT_OFFER,
    AT_CHALLENGE,
    AT_AS_REP,
    AT_AS_PART,
    AT_TGS_REP,
    AT_TGS_PART,
    AT_AS_BOTH,
    AT_TGS_BOTH,
    AT_BYTES
};

struct offer { /* the inside of errors 25 and 91 */
    struct krb_info2 info[3];
    struct krb_infos2 infos;
    struct krb_pa pa[6];
    struct krb_padata list;
};

struct row {
    const char *why;
    enum at at;
    void (*alter)(void *m);
    int32_t proto;    /* SP_EREFUSED with this; 0: SP_EINPUT */
    const char *says; /* in the text: so that a row is refused for what it bends */
};

static struct peer {
    bool insists;                                      /* asks for a proof again after a right one */
    bool spake, at_once, no_stamp, no_proof, protects; /* at_once: the challenge in error 25 instead of 91 */
    int32_t group, etype, says;                        /* says: this code, to everything */
    int64_t stime;
    const char *realm;     /* what it calls itself; NULL: as it is asked */
    const char *const *to; /* realms to refer to, one after the other; NULL at the end */
    uint32_t referred, requests;
    uint32_t flags;
    uint32_t trusts, granted; /* bit n of trusts: the nth ticket of a TGS is ok-as-delegate */
    const struct row *row;
    struct sp_span support, challenge;
    uint8_t w[32], x[32];
    struct sp_key ikey, session, subkey, reply;
    uint32_t proofs; /* timestamps and responses that were right */
} P;

static void alter(enum at at, void *m)
{
    if (P.row && P.row->at == at)
        P.row->alter(m);
}

static struct sp_span say(int32_t code, struct sp_span realm, struct sp_span data)
{
    struct krb_error m = {.has = data.n ? KRB_BIT(12) : 0,
                          .stime = P.stime ? P.stime : NOW,
                          .code = code,
                          .realm = realm,
                          .sname = name_of("krbtgt/X", NT_SRV_INST),
                          .data = data};

    alter(AT_ERROR, &m);
    return put(KRB_ERROR, &m);
}

static struct sp_span make_challenge(const struct krb_kdc_req *q)
{
    const struct krb_pa *pa = find_pa(&q->padata, PA_SPAKE);
    struct krb_spake_factor none = {.type = KRB_SPAKE_SF_NONE};
    struct krb_pa_spake m = {
        .has = KRB_BIT(1), .challenge.group = P.group, .challenge.factors = {&none, 1}
    };
    uint8_t point[33];
    struct sp_err e = {0};

    P.support = sp_dup(&scrap, pa ? pa->value : sp_span(NULL, 0), &e);
    assert_true(krb_spake_w(crypto, P.group, &P.ikey, P.w, &e));
    assert_true(crypto_group_keygen(crypto, P.group, CRYPTO_BLIND_M, P.w, &rng.rng, P.x, point, &e));
    m.challenge.pubkey = sp_span(point, crypto_find_group(P.group)->point_n);
    P.challenge = put(KRB_PA_SPAKE, &m);
    alter(AT_CHALLENGE, &m);
    return put(KRB_PA_SPAKE, &m);
}

static struct sp_span ask_for_proof(const struct krb_kdc_req *q)
{
    struct offer o = {
        .infos = {o.info, 1},
          .list = {o.pa,   0}
    };
    bool now = P.spake && (P.at_once || find_pa(&q->padata, PA_SPAKE));
    struct sp_span realm = P.realm ? sp_str(P.realm) : q->body.realm;

    o.info[0] = (struct krb_info2){
        KRB_BIT(1) | KRB_BIT(2), P.etype, SP_LIT("salt"), {(const uint8_t *)"\0\0\x10\0", 4}
    };
    o.pa[o.list.count++].type = PA_ETYPE_INFO2;
    if (P.spake)
        o.pa[o.list.count++] = (struct krb_pa){PA_SPAKE, now ? make_challenge(q) : sp_span(NULL, 0)};
    if (P.spake)
        o.pa[o.list.count++] = (struct krb_pa){PA_FX_COOKIE, SP_LIT("a cookie")};
    if (!P.no_stamp)
        o.pa[o.list.count++].type = PA_ENC_TIMESTAMP;
    alter(AT_OFFER, &o);
    o.pa[0].value = put(KRB_INFOS2, &o.infos);
    return say(now && !P.at_once ? KDC_ERR_MORE_PREAUTH_DATA_REQUIRED : KDC_ERR_PREAUTH_REQUIRED, realm,
               put(KRB_PADATA, &o.list));
}

/* RFC 9588 4.3 from the KDC's side. */
static bool takes_response(const struct krb_kdc_req *q, struct sp_span value)
{
    const struct krb_pa *cookie = find_pa(&q->padata, PA_FX_COOKIE);
    struct krb_spake_hash h = {0};
    struct krb_spake_factor factor = {0};
    struct krb_pa_spake m = {0};
    struct sp_err e = {0};
    struct sp_key k1;
    uint8_t shared[33];
    struct krb_spake_derivation from = {
        P.group, &P.ikey, P.w, {shared, crypto_find_group(P.group)->point_n},
           &h, q->body.raw
    };

    get(KRB_PA_SPAKE, value, &m);
    assert_int_equal(m.has, KRB_BIT(2));
    if (!cookie || !sp_same(cookie->value, SP_LIT("a cookie")))
        return false;
    assert_true(
        crypto_group_result(crypto, P.group, CRYPTO_BLIND_N, P.w, P.x, m.response.pubkey, shared, &e));
    assert_true(krb_spake_update(crypto, P.group, &h, P.support, P.challenge, &e));
    assert_true(krb_spake_update(crypto, P.group, &h, m.response.pubkey, sp_span(NULL, 0), &e));
    assert_true(krb_spake_key(crypto, &from, 0, &P.reply, &e) && krb_spake_key(crypto, &from, 1, &k1, &e));
    return open_sealed(KRB_SPAKE_FACTOR, &m.response.factor, &k1, KU_SPAKE, &factor) &&
           factor.type == KRB_SPAKE_SF_NONE && !KRB_HAS(&factor, 1);
}

static bool takes_stamp(struct sp_span value)
{
    struct krb_pa_enc_ts ts;
    struct krb_enc enc = {0};

    get(KRB_ENC, value, &enc);
    P.reply = P.ikey;
    return open_sealed(KRB_PA_ENC_TS, &enc, &P.ikey, KU_PA_ENC_TS, &ts);
}

struct reply_parts {
    struct krb_kdc_rep rep;
    struct krb_enc_kdc_rep part;
    struct krb_lastreq_entry last;
    struct krb_pa protect;
};

static struct sp_span finish_reply(struct reply_parts *r, const struct sp_key *k, bool as)
{
    struct krb_enc made;
    struct sp_span out;

    alter(as ? AT_AS_BOTH : AT_TGS_BOTH, r);
    alter(as ? AT_AS_PART : AT_TGS_PART, &r->part);
    made = seal(as ? KRB_ENC_AS_REP : KRB_ENC_TGS_REP, &r->part, k, as ? KU_AS_REP : KU_TGS_REP_SUBKEY);
    r->rep.enc = made;
    alter(as ? AT_AS_REP : AT_TGS_REP, &r->rep);
    out = put(as ? KRB_AS_REP : KRB_TGS_REP, &r->rep);
    return out;
}

static void fill_reply(struct reply_parts *r, const struct krb_kdc_req *q, struct krb_name sname)
{
    struct sp_span realm = P.realm ? sp_str(P.realm) : q->body.realm;
    struct sp_err e = {0};

    assert_true(crypto_random_key(18, &rng.rng, &P.session, &e));
    r->rep = (struct krb_kdc_rep){
        .crealm = sp_str(P.realm ? P.realm : REALM),
        .cname = name_of("alice", NT_PRINCIPAL),
        .ticket = {realm, sname, {.etype = 18, .cipher = SP_LIT("a ticket nobody opens")}}
    };
    r->part = (struct krb_enc_kdc_rep){
        .has = KRB_BIT(6) | KRB_BIT(8),
        .key = {18,       {P.session.b, P.session.n}},
        .last_req = {&r->last, 1                         },
        .nonce = q->body.nonce,
        .flags = P.flags,
        .authtime = NOW,
        .starttime = NOW,
        .endtime = q->body.till ? q->body.till : NOW + 36000,
        .renew_till = q->body.rtime ? q->body.rtime : NOW + 86400,
        .srealm = realm,
        .sname = sname
    };
}

static struct sp_span as_rep(const struct krb_kdc_req *q, struct sp_span request)
{
    uint8_t sum[CRYPTO_CKSUM_MAX];
    size_t n = sizeof sum;
    struct krb_checksum c = {.type = crypto_find_type(P.reply.etype)->cksumtype};
    struct reply_parts r = {0};
    struct krb_info2 info = {
        KRB_BIT(1) | KRB_BIT(2), P.etype, SP_LIT("salt"), {(const uint8_t *)"\0\0\x10\0", 4}
    };
    struct krb_infos2 infos = {&info, 1};
    struct krb_pa pa = {PA_ETYPE_INFO2, put(KRB_INFOS2, &infos)};
    struct sp_err e = {0};
    char *text;

    fill_reply(&r, q, q->body.sname);
    if (P.realm && krb_is_tgs_name(&q->body.sname, q->body.realm)) {
        text = sp_alloc(&scrap, 64, &e);
        snprintf(text, 64, "krbtgt/%s", P.realm);
        r.part.sname = r.rep.ticket.sname = name_of(text, NT_SRV_INST);
    }
    if (P.protects) {
        assert_true(crypto_checksum(crypto, &P.reply, KU_AS_REQ, request, sum, &n, &e));
        c.sum = sp_span(sum, n);
        r.protect = (struct krb_pa){PA_REQ_ENC_PA_REP, put(KRB_CHECKSUM, &c)};
        r.part.has |= KRB_BIT(12);
        r.part.enc_padata = (struct krb_padata){&r.protect, 1};
        r.part.flags |= F(TKT_ENC_PA_REP);
    }
    if (P.no_proof) {
        r.rep.has = KRB_BIT(2);
        r.rep.padata = (struct krb_padata){&pa, 1};
    }
    return finish_reply(&r, &P.reply, true);
}

static struct sp_span answer_as(struct sp_span request)
{
    struct krb_kdc_req q = {0};
    const struct krb_pa *stamp, *spake;
    struct krb_pa_spake m = {0};
    struct sp_span realm;

    get(KRB_AS_REQ, request, &q);
    assert_false(KRB_HAS(&q.body, 9)); /* no addresses */
    assert_non_null(find_pa(&q.padata, PA_REQ_ENC_PA_REP));
    realm = P.realm ? sp_str(P.realm) : q.body.realm;
    stamp = find_pa(&q.padata, PA_ENC_TIMESTAMP);
    spake = find_pa(&q.padata, PA_SPAKE);
    if (spake)
        get(KRB_PA_SPAKE, spake->value, &m);
    P.reply = P.ikey;
    if (P.no_stamp && stamp)
        return ask_for_proof(&q);
    if (!stamp && !(m.has & KRB_BIT(2)))
        return P.no_proof ? as_rep(&q, request) : ask_for_proof(&q);
    if (stamp ? !takes_stamp(stamp->value) : !takes_response(&q, spake->value))
        return say(KDC_ERR_PREAUTH_FAILED, realm, sp_span(NULL, 0));
    P.proofs++;
    return P.insists ? ask_for_proof(&q) : as_rep(&q, request);
}

static struct sp_span answer_tgs(struct sp_span request)
{
    struct krb_kdc_req q = {0};
    struct krb_ap_req ap = {0};
    struct krb_authenticator a = {0};
    struct reply_parts r = {0};
    struct sp_err e = {0};
    char *text = sp_alloc(&scrap, 64, &e);

    get(KRB_TGS_REQ, request, &q);
    get(KRB_AP_REQ, find_pa(&q.padata, PA_TGS_REQ)->value, &ap);
    assert_true(open_sealed(KRB_AUTHENTICATOR, &ap.authenticator, &P.session, KU_TGS_REQ_AUTH, &a));
    assert_true(KRB_HAS(&a, 3) && KRB_HAS(&a, 6));
    assert_true(
        crypto_verify(crypto, &P.session, KU_TGS_REQ_CKSUM, a.cksum.type, q.body.raw, a.cksum.sum, &e));
    P.subkey = (struct sp_key){.etype = a.subkey.type, .n = (uint8_t)a.subkey.value.n};
    memcpy(P.subkey.b, a.subkey.value.p, a.subkey.value.n);
    fill_reply(&r, &q, q.body.sname);
    r.part.flags |= P.trusts >> P.granted++ & 1 ? F(TKT_OK_AS_DELEGATE) : 0;
    if (P.to && P.to[P.referred]) {
        snprintf(text, 64, "krbtgt/%s", P.to[P.referred++]);
        r.part.sname = r.rep.ticket.sname = name_of(text, NT_SRV_INST);
    }
    return finish_reply(&r, &P.subkey, false);
}

static struct sp_span rogue(struct sp_span request)
{
    struct sp_span out;

    P.requests++;
    if (P.says)
        return say(P.says, SP_LIT(REALM), sp_span(NULL, 0));
    out = krb_sniff(request) == KRB_AS_REQ ? answer_as(request) : answer_tgs(request);
    alter(AT_BYTES, &out);
    return out;
}

static void fresh_peer(bool spake)
{
    struct sp_err e = {0};

    sp_arena_reset(&scrap);
    P = (struct peer){.spake = spake, .group = CRYPTO_EDWARDS25519, .etype = 18, .protects = true};
    assert_true(crypto_string_to_key(crypto, 18, SP_LIT(WORD), SP_LIT("salt"), sp_span("\0\0\x10\0", 4),
                                     &P.ikey, &e));
    env.wall_us = NOW * 1000000 + 123456;
}

static void flip(struct sp_span s, size_t i)
{
    ((uint8_t *)(uintptr_t)s.p)[i] ^= 1;
}

/* ---- what it does wrong ---- */

static struct krb_enc_kdc_rep *part(void *m)
{
    return m;
}
static void other_nonce(void *m)
{
    part(m)->nonce ^= 1;
}
static void other_sname(void *m)
{
    part(m)->sname = name_of("host/elsewhere", 2);
}
static void other_srealm(void *m)
{
    part(m)->srealm = SP_LIT("ELSEWHERE");
}
static void weak_key(void *m)
{
    part(m)->key.type = 23;
    part(m)->key.value.n = 16;
}
static void short_key(void *m)
{
    part(m)->key.value.n--;
}
static void ended(void *m)
{
    part(m)->endtime = NOW;
}
static void not_yet(void *m)
{
    part(m)->starttime = NOW + CLIENT_SKEW_S + 2;
}
static void not_yet_logged_in(void *m)
{
    part(m)->authtime = NOW + CLIENT_OFFSET_MAX_S + 2;
}
static void backwards(void *m)
{
    part(m)->starttime = NOW + 250;
    part(m)->endtime = NOW + 240;
}
static void longer(void *m)
{
    part(m)->endtime++;
}
static void renewed_longer(void *m)
{
    part(m)->renew_till++;
}
static void renewed_before(void *m)
{
    part(m)->renew_till = NOW - 1;
}
static void invalid(void *m)
{
    part(m)->flags |= F(TKT_INVALID);
}
static void unprotected(void *m)
{
    part(m)->has &= ~KRB_BIT(12);
}
static void protected_by_nothing(void *m)
{
    part(m)->enc_padata.count = 0;
}
static void saw_another(void *m)
{
    flip(part(m)->enc_padata.v[0].value, part(m)->enc_padata.v[0].value.n - 1);
}
static void saw_by_another_type(void *m)
{
    struct krb_checksum c;

    get(KRB_CHECKSUM, part(m)->enc_padata.v[0].value, &c);
    c.type = 14; /* SHA-1 without a key */
    part(m)->enc_padata.v[0].value = put(KRB_CHECKSUM, &c);
}

static struct krb_kdc_rep *rep(void *m)
{
    return m;
}
static void other_cname(void *m)
{
    rep(m)->cname = name_of("mallory", 1);
}
static void no_cname(void *m)
{
    rep(m)->cname.parts.count = 0;
}
static void other_crealm(void *m)
{
    rep(m)->crealm = SP_LIT("ELSEWHERE");
}
static void other_ticket(void *m)
{
    rep(m)->ticket.sname = name_of("host/elsewhere", 2);
}
static void other_ticket_realm(void *m)
{
    rep(m)->ticket.realm = SP_LIT("ELSEWHERE");
}
static void other_label(void *m)
{
    rep(m)->enc.etype = 17;
}
static void weak_label(void *m)
{
    rep(m)->enc.etype = 23;
}
static void touched(void *m)
{
    flip(rep(m)->enc.cipher, 20);
}
static void cut(void *m)
{
    rep(m)->enc.cipher.n = 7;
}

static void other_service(void *m)
{
    struct reply_parts *r = m;

    r->part.sname = r->rep.ticket.sname = name_of("host/elsewhere", 2);
}
static void other_tgs(void *m)
{
    struct reply_parts *r = m;

    r->part.sname = r->rep.ticket.sname = name_of("krbtgt/ELSEWHERE", 2);
}
static void other_issuer(void *m)
{
    struct reply_parts *r = m;

    r->part.srealm = r->rep.ticket.realm = SP_LIT("ELSEWHERE");
}

static struct offer *offer(void *m)
{
    return m;
}
static void only_rc4(void *m)
{
    offer(m)->info[0].etype = 23;
}
static void only_des(void *m)
{
    offer(m)->info[0].etype = 3;
}
static void only_17(void *m)
{
    offer(m)->info[0].etype = 17;
}
static void no_info(void *m)
{
    offer(m)->pa[0].type = 1234;
}
static void count_of(void *m, const char *four)
{
    offer(m)->info[0].params = sp_span(four, 4);
}
static void count_4095(void *m)
{
    count_of(m, "\0\0\x0f\xff");
}
static void count_1(void *m)
{
    count_of(m, "\0\0\0\1");
}
static void count_2_to_32(void *m)
{
    count_of(m, "\0\0\0\0");
}
static void count_too_large(void *m)
{
    count_of(m, "\0\x0f\x42\x41");
}
static void count_of_three_bytes(void *m)
{
    offer(m)->info[0].params.n = 3;
}
static void nothing_offered(void *m)
{
    offer(m)->list.count = 1;
}
static void other_cookie(void *m)
{
    for (uint32_t i = 0; i < offer(m)->list.count; i++)
        if (offer(m)->pa[i].type == PA_FX_COOKIE)
            offer(m)->pa[i].value = SP_LIT("b cookie");
}

static struct krb_error *err(void *m)
{
    return m;
}
static void no_data(void *m)
{
    err(m)->has = 0;
}
static void junk_data(void *m)
{
    err(m)->data = SP_LIT("junk");
}
static void other_error_realm(void *m)
{
    err(m)->realm = SP_LIT("ELSEWHERE");
}

static struct krb_spake_challenge *challenge(void *m)
{
    return &((struct krb_pa_spake *)m)->challenge;
}
static void group_not_ours(void *m)
{
    challenge(m)->group = 3;
}
static void second_factor(void *m)
{
    challenge(m)->factors.v[0].type = 2;
}
static void no_point(void *m)
{
    memset((uint8_t *)(uintptr_t)challenge(m)->pubkey.p, 0, challenge(m)->pubkey.n);
}
static void short_point(void *m)
{
    challenge(m)->pubkey.n--;
}
static void other_point(void *m)
{
    struct sp_err e = {0};
    uint8_t w[32] = {7}, x[32];

    assert_true(crypto_group_keygen(crypto, P.group, CRYPTO_BLIND_M, w, &rng.rng, x,
                                    (uint8_t *)(uintptr_t)challenge(m)->pubkey.p, &e));
}
static void more_factors(void *m) /* the same challenge, other bytes: the transcript tells */
{
    static struct krb_spake_factor two[2] = {{.type = 9}, {.type = KRB_SPAKE_SF_NONE}};

    challenge(m)->factors.v = two;
    challenge(m)->factors.count = 2;
}
static void no_challenge(void *m)
{
    ((struct krb_pa_spake *)m)->has = KRB_BIT(0);
}

static struct sp_span *bytes(void *m)
{
    return m;
}
static void garbage(void *m)
{
    *bytes(m) = SP_LIT("garbage");
}
static void nothing(void *m)
{
    bytes(m)->n = 0;
}
static void cut_short(void *m)
{
    bytes(m)->n--;
}
static void wrong_message(void *m)
{
    struct krb_kdc_rep r = {
        .crealm = SP_LIT(REALM), .cname = name_of("a", 1), .ticket = {SP_LIT("X"), name_of("x", 1)}
    };
    bool as = bytes(m)->p[0] == 0x6d;

    *bytes(m) = put(as ? KRB_AS_REP : KRB_TGS_REP, &r);
}

/* Each thing wrong in an AS exchange; with a timestamp and with SPAKE alike. */
static const struct row as_rows[] = {
    {"another service in both",                AT_AS_BOTH, other_service,        41, "it is for another service"         },
    {"another realm's TGT",                    AT_AS_BOTH, other_tgs,            41, "it is for another service"         },
    {"another realm in both",                  AT_AS_BOTH, other_issuer,         41, "it comes from another realm"       },
    {"nonce",                                  AT_AS_PART, other_nonce,          41, "it answers another request (nonce)"},
    {"sealed sname",                           AT_AS_PART, other_sname,          41, "name different services"           },
    {"sealed srealm",                          AT_AS_PART, other_srealm,         41, "name different services"           },
    {"session key of type 23",                 AT_AS_PART, weak_key,             41, "a session key of a type that was"  },
    {"session key too short",                  AT_AS_PART, short_key,            41, "a session key of a type that was"  },
    {"ended",                                  AT_AS_PART, ended,                41, "the ticket has already ended"      },
    {"starts in the future",                   AT_AS_PART, not_yet,              41, "the ticket begins in the future"   },
    {"dated days away",                        AT_AS_PART, not_yet_logged_in,    41, "the login is dated more than a"    },
    {"ends before it starts",                  AT_AS_PART, backwards,            41, "the ticket ends before it begins"  },
    {"longer than asked",                      AT_AS_PART, longer,               41, "the ticket lives longer than was"  },
    {"renewable longer than asked",            AT_AS_PART, renewed_longer,       41, "the end of renewal is not what"    },
    {"renewable until before it starts",       AT_AS_PART, renewed_before,       41, "the end of renewal is not what"    },
    {"invalid",                                AT_AS_PART, invalid,              41, "the ticket is marked invalid"      },
    {"flag 15 without padata",                 AT_AS_PART, unprotected,          41, "no checksum of the request,"       },
    {"flag 15 with empty padata",              AT_AS_PART, protected_by_nothing, 41, "no checksum of the request,"       },
    {"checksum of another request",            AT_AS_PART, saw_another,          41, "the KDC saw another request than"  },
    {"checksum without a key",                 AT_AS_PART, saw_by_another_type,  41, "the KDC saw another request than"  },
    {"another user",                           AT_AS_REP,  other_cname,          41, "it is for another user"            },
    {"no user",                                AT_AS_REP,  no_cname,             41, "it is for another user"            },
    {"another user's realm",                   AT_AS_REP,  other_crealm,         41, "it is for a user of another realm" },
    {"a ticket for another service",           AT_AS_REP,  other_ticket,         41, "name different services"           },
    {"a ticket of another realm",              AT_AS_REP,  other_ticket_realm,   41, "name different services"           },
    {"sealed part labelled 17",                AT_AS_REP,  other_label,          41, "it is sealed with another type of" },
    {"sealed part labelled 23",                AT_AS_REP,  weak_label,           41, "it is sealed with another type of" },
    {"sealed part touched",                    AT_AS_REP,  touched,              41, "it does not open"                  },
    {"sealed part cut",                        AT_AS_REP,  cut,                  41, "it does not open"                  },
    {"T073: only type 23",                     AT_OFFER,   only_rc4,             14, "the KDC offers no encryption type" },
    {"T073: only type 3",                      AT_OFFER,   only_des,             14, "the KDC offers no encryption type" },
    {"T073: only 17 for one known to have 18", AT_OFFER,   only_17,              14, "the KDC offers a weaker key than"  },
    {"no ETYPE-INFO2",                         AT_OFFER,   no_info,              25, "the KDC does not say how the key"  },
    {"4095 rounds",                            AT_OFFER,   count_4095,           41, "the KDC wants 4095 rounds to make" },
    {"1 round",                                AT_OFFER,   count_1,              41, "the KDC wants 1 rounds to make"    },
    {"2^32 rounds",                            AT_OFFER,   count_2_to_32,        41, "the KDC wants 0 rounds to make"    },
    {"1000001 rounds",                         AT_OFFER,   count_too_large,      41, "the KDC wants 1000001 rounds to"   },
    {"rounds in three bytes",                  AT_OFFER,   count_of_three_bytes, 41, "parameters of the key of an"       },
    {"nothing offered",                        AT_OFFER,   nothing_offered,      25, "the KDC offers no"                 },
    {"junk in error 25",                       AT_ERROR,   junk_data,            0,  "METHOD-DATA: another tag"          },
    {"another realm in error 25",              AT_ERROR,   other_error_realm,    68, "the KDC answers for another realm" },
    {"garbage",                                AT_BYTES,   garbage,              0,  "this is no answer of a KDC to"     },
    {"nothing",                                AT_BYTES,   nothing,              0,  "this is no answer of a KDC to"     },
    {"cut short",                              AT_BYTES,   cut_short,            0,  "KRB-ERROR: longer than what holds" },
    {"a reply of the other exchange",          AT_BYTES,   wrong_message,        0,  "this is no answer of a KDC to"     },
};
static const struct row spake_rows[] = {
    {"no e-data",                             AT_ERROR,     no_data,        91, "the KDC asks for"                 },
    {"group 3",                               AT_CHALLENGE, group_not_ours, 41, "a SPAKE challenge in a group that"},
    {"only a second factor that is not ours", AT_CHALLENGE, second_factor,  24,
     "the KDC demands a second factor,"                                                                            },
    {"zeros for a point",                     AT_CHALLENGE, no_point,       41, "the SPAKE challenge is no point"  },
    {"a point too short",                     AT_CHALLENGE, short_point,    41, "the SPAKE challenge is no point"  },
    {"another point",                         AT_CHALLENGE, other_point,    24, "wrong password or key"            },
    {"the same point in other bytes",         AT_CHALLENGE, more_factors,   24, "wrong password or key"            },
    {"no challenge",                          AT_CHALLENGE, no_challenge,   41, "a SPAKE message that is no"       },
    {"another cookie",                        AT_OFFER,     other_cookie,   24, "wrong password or key"            },
};
static const struct row tgs_rows[] = {
    {"another service in both",      AT_TGS_BOTH, other_service,      41, "it is for another service"         },
    {"a referral nobody asked for",  AT_TGS_BOTH, other_tgs,          41, "it is for another service"         },
    {"another realm in both",        AT_TGS_BOTH, other_issuer,       41, "it comes from another realm"       },
    {"nonce",                        AT_TGS_PART, other_nonce,        41, "it answers another request (nonce)"},
    {"sealed sname",                 AT_TGS_PART, other_sname,        41, "name different services"           },
    {"sealed srealm",                AT_TGS_PART, other_srealm,       41, "name different services"           },
    {"session key of type 23",       AT_TGS_PART, weak_key,           41, "a session key of a type that was"  },
    {"session key too short",        AT_TGS_PART, short_key,          41, "a session key of a type that was"  },
    {"ended",                        AT_TGS_PART, ended,              41, "the ticket has already ended"      },
    {"starts in the future",         AT_TGS_PART, not_yet,            41, "the ticket begins in the future"   },
    {"dated days away",              AT_TGS_PART, not_yet_logged_in,  41, "begins in the future"              },
    {"longer than its TGT",          AT_TGS_PART, longer,             41, "outlives"                          },
    {"invalid",                      AT_TGS_PART, invalid,            41, "the ticket is marked invalid"      },
    {"another user",                 AT_TGS_REP,  other_cname,        41, "it is for another user"            },
    {"another user's realm",         AT_TGS_REP,  other_crealm,       41, "it is for another user"            },
    {"a ticket for another service", AT_TGS_REP,  other_ticket,       41, "name different services"           },
    {"a ticket of another realm",    AT_TGS_REP,  other_ticket_realm, 41, "name different services"           },
    {"sealed part labelled 17",      AT_TGS_REP,  other_label,        41, "it is sealed with another type of" },
    {"sealed part touched",          AT_TGS_REP,  touched,            41, "it does not open"                  },
};

static void bend(const struct row *rows, size_t count, struct client_policy p, enum client_goal goal,
                 bool spake, uint32_t proofs_max)
{
    for (size_t i = 0; i < count; i++) {
        struct client_known known = {.etype = 18, .salt = SP_LIT("salt"), .spake = true};
        struct client_wish w;

        fresh_peer(spake);
        P.no_stamp = spake;
        w = wish_of(goal);
        w.life_s = goal == CLIENT_TGT ? 3600 : 0;
        w.renew_s = 7200;
        w.options = F(OPT_RENEWABLE);
        if (strncmp(rows[i].why, "T073", 4) == 0)
            w.known = &known;
        P.row = &rows[i];
        if (w.known)
            p.spake = true;
        drive(&p, &w, rogue);
        refused(rows[i].why, rows[i].proto ? SP_EREFUSED : SP_EINPUT, rows[i].proto);
        if (!strstr(O.e.text, rows[i].says))
            fail_msg("%s: refused for something else: %s", rows[i].why, O.e.text);
        if (rows[i].at == AT_OFFER && P.proofs > proofs_max)
            fail_msg("%s: a proof was shown", rows[i].why);
    }
}

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static void replies_bent(void **state)
{
    struct client_policy plain = stamped(), spake = in_band();

    (void)state;
    plain.canonicalize = spake.canonicalize = false;
    bend(as_rows, COUNT(as_rows), plain, CLIENT_TGT, false, 0);
    bend(as_rows, COUNT(as_rows), spake, CLIENT_TGT, true, 0);
    bend(spake_rows, COUNT(spake_rows), spake, CLIENT_TGT, true, 0);
    bend(tgs_rows, COUNT(tgs_rows), plain, CLIENT_SERVICE, false, 1);
    for (int i = 0; i < 2;
         i++) { /* without any of it, all is well; so each row is refused for what it bends */
        struct client_wish w;

        fresh_peer(i == 1);
        w = wish_of(CLIENT_SERVICE);
        w.life_s = 3600;
        drive(i ? &spake : &plain, &w, rogue);
        must("nothing bent");
        assert_int_equal(P.proofs, 1);
    }
}

/* What a KDC may say at any time, and what becomes of it. */
static void codes(void **state)
{
    static const int32_t code[] = {1,  6,  7,  9,  12, 13, 14, 18, 20, 23, 24, 25,  31,
                                   32, 37, 41, 52, 60, 68, 77, 85, 86, 90, 91, 500, -3};
    struct client_policy p = stamped();

    (void)state;
    for (size_t i = 0; i < COUNT(code); i++)
        for (int spake = 0; spake < 2; spake++) {
            struct client_wish w;

            fresh_peer(false);
            w = wish_of(CLIENT_TGT);
            P.says = code[i];
            p.spake = spake;
            drive(&p, &w, rogue);
            refused(krb_code_name(code[i]), SP_EREFUSED, code[i]);
            assert_int_equal(P.requests, code[i] == KDC_ERR_PREAUTH_EXPIRED ? 2 : 1);
        }
}

static int32_t then_says;
static uint32_t then_after;
static struct sp_span later(struct sp_span request)
{
    if (P.requests == then_after)
        P.says = then_says;
    return rogue(request);
}

static void codes_later(void **state)
{
    static const struct {
        int32_t code;
        uint32_t after, requests;
        int64_t stime;
        int32_t proto;
    } rows[] = {
        {24, 1, 2, 0,                             24}, /* the password */
        {25, 1, 2, 0,                             25}, /* asks again for what it has */
        {91, 1, 2, 0,                             91},
        {37, 1, 3, NOW + 3600,                    37}, /* believed once */
        {37, 1, 2, NOW + CLIENT_OFFSET_MAX_S + 1, 37},
        {37, 1, 2, NOW - CLIENT_OFFSET_MAX_S - 1, 37},
        {18, 1, 2, 0,                             18},
        {7,  2, 3, 0,                             7 }, /* at the TGS: once, and no second try */
        {25, 2, 3, 0,                             25},
        {37, 2, 4, NOW - 3600,                    37},
        {85, 2, 3, 0,                             85},
        {52, 2, 3, 0,                             52},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct client_policy p = stamped();
        struct client_wish w;

        fresh_peer(false);
        w = wish_of(CLIENT_SERVICE);
        P.stime = rows[i].stime;
        then_says = rows[i].code;
        then_after = rows[i].after;
        drive(&p, &w, later);
        refused(krb_code_name(rows[i].code), SP_EREFUSED, rows[i].proto);
        assert_int_equal(P.requests, rows[i].requests);
    }
}

/* One proof in a login, or a KDC could collect them. */
static void one_proof(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct client_policy p = direct();
        struct client_wish w;

        fresh_peer(i > 0);
        P.insists = true;
        P.at_once = i == 2;
        w = wish_of(CLIENT_TGT);
        drive(&p, &w, rogue);
        refused("asked again", SP_EREFUSED,
                i == 1 ? KDC_ERR_MORE_PREAUTH_DATA_REQUIRED : KDC_ERR_PREAUTH_REQUIRED);
        assert_int_equal(P.proofs, 1);
        assert_int_equal(P.requests, 2);
    }
}

/* Decision 24: in band nothing that can be guessed on is shown, and the text says how to allow it. */
static void timestamp_only(void **state)
{
    struct client_policy p = in_band();
    struct client_wish w = wish_of(CLIENT_TGT);
    struct client_known known = {
        .etype = 18, .salt = SP_LIT("salt"), .params = {(const uint8_t *)"\0\0\x10\0", 4}
    };

    (void)state;
    for (int i = 0; i < 2; i++) {
        fresh_peer(false);
        w = wish_of(CLIENT_TGT);
        w.known = i ? &known : NULL;
        drive(&p, &w, rogue);
        refused("T072", SP_EREFUSED, KDC_ERR_PREAUTH_REQUIRED);
        assert_non_null(strstr(O.e.text, "allow it: `sallyport login --allow-timestamp`"));
        assert_non_null(strstr(O.e.text, "'HOST allow-timestamp' in ~/.config/sallyport/pins"));
        assert_int_equal(P.proofs, 0);
    }
    p.timestamp = true;
    drive(&p, &w, rogue);
    must("allowed");
}

static void spake_agrees(void **state)
{
    struct client_known known;

    (void)state;
    for (int i = 0; i < 16; i++) {
        struct client_policy p = i & 8 ? direct() : in_band();
        struct client_wish w;
        struct sp_err e = {0};

        fresh_peer(true);
        P.group = i & 1 ? CRYPTO_P256 : CRYPTO_EDWARDS25519;
        P.at_once = i & 2;
        if (i & 4) {
            P.etype = 20;
            assert_true(crypto_string_to_key(crypto, 20, SP_LIT(WORD), SP_LIT("salt"),
                                             sp_span("\0\0\x10\0", 4), &P.ikey, &e));
        }
        w = wish_of(i & 1 ? CLIENT_SERVICE : i & 2 ? CLIENT_SERVICE_BY_AS : CLIENT_TGT);
        drive(&p, &w, rogue);
        must("SPAKE");
        assert_string_equal(client_preauth(O.cl), "spake");
        assert_int_equal(client_rounds(O.cl), i & 1 ? 3 : 2);
        assert_int_equal(P.proofs, 1);
        assert_true(client_learnt(O.cl, &known));
        assert_true(known.spake && known.etype == P.etype && sp_same(known.salt, SP_LIT("salt")));
        w.password = SP_LIT("wrong");
        drive(&p, &w, rogue);
        refused("wrong password", SP_EREFUSED, KDC_ERR_PREAUTH_FAILED);
    }
}

/* A KDC that learns of SPAKE by its own offer alone: the first request carried a timestamp, on the strength
 * of what was known. With the challenge at once the transcript begins without a support (RFC 9588 6). */
static void spake_instead_of_a_timestamp(void **state)
{
    struct client_known known = {
        .etype = 18, .salt = SP_LIT("salt"), .params = {(const uint8_t *)"\0\0\x10\0", 4}
    };

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct client_policy p = direct();
        struct client_wish w;

        fresh_peer(true);
        P.no_stamp = true;
        P.at_once = i & 1;
        P.group = i & 2 ? CRYPTO_P256 : CRYPTO_EDWARDS25519;
        w = wish_of(CLIENT_TGT);
        w.known = &known;
        drive(&p, &w, rogue);
        must("SPAKE after all");
        assert_string_equal(client_preauth(O.cl), "spake");
        assert_int_equal(client_rounds(O.cl), P.at_once ? 2 : 3);
        assert_int_equal(P.proofs, 1);
    }
}

/* T073: neither a smaller key nor one that is cheaper to guess on. */
static void weaker_than_known(void **state)
{
    static const struct {
        int32_t known, offered;
        bool ok;
    } rows[] = {
        {20, 17, false},
        {20, 18, false},
        {20, 19, false},
        {20, 20, true },
        {19, 17, false},
        {19, 18, false},
        {18, 17, false},
        {18, 19, false},
        {18, 20, true },
        {17, 18, true },
        {17, 19, true },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct client_known known = {.etype = rows[i].known, .salt = SP_LIT("salt"), .spake = true};
        struct client_policy p = in_band();
        struct client_wish w;
        struct sp_err e = {0};

        fresh_peer(true);
        P.etype = rows[i].offered;
        assert_true(crypto_string_to_key(crypto, P.etype, SP_LIT(WORD), SP_LIT("salt"),
                                         sp_span("\0\0\x10\0", 4), &P.ikey, &e));
        w = wish_of(CLIENT_TGT);
        w.known = &known;
        drive(&p, &w, rogue);
        if (rows[i].ok) {
            must("as good as known");
            continue;
        }
        refused("weaker than known", SP_EREFUSED, KDC_ERR_ETYPE_NOSUPP);
        assert_non_null(strstr(O.e.text, "a weaker key than this account had"));
        assert_int_equal(P.proofs, 0);
    }
}

static void no_proof_wanted(void **state)
{
    struct client_policy p = in_band();
    struct client_wish w;

    (void)state;
    fresh_peer(false);
    P.no_proof = true;
    w = wish_of(CLIENT_SERVICE);
    drive(&p, &w, rogue);
    must("no proof");
    assert_string_equal(client_preauth(O.cl), "none");
    assert_int_equal(client_rounds(O.cl), 2);
    w.password = SP_LIT("wrong");
    drive(&p, &w, rogue);
    refused("wrong password", SP_EREFUSED, KDC_ERR_PREAUTH_FAILED);
}

static void realms_adopted(void **state)
{
    struct client_policy p = in_band();
    struct client_wish w;

    (void)state;
    for (int i = 0; i < 4; i++) { /* as a Windows host does, which answers for its own name */
        fresh_peer(true);
        w = wish_of(CLIENT_SERVICE);
        w.realm = SP_LIT(".");
        p.adopt_realm = true;
        P.no_proof = i == 1;
        P.realm = i == 2 ? "A/B" : i == 3 ? "A\1B" : "WIN25";
        drive(&p, &w, rogue);
        if (i >= 2) {
            refused("no realm at all", SP_EREFUSED, KDC_ERR_WRONG_REALM);
            continue;
        }
        must("a realm adopted");
        assert_true(sp_same(client_tgt(O.cl)->crealm, SP_LIT("WIN25")));
        assert_true(krb_is_tgs_name(&client_tgt(O.cl)->server, SP_LIT("WIN25")));
        assert_true(sp_same(client_service(O.cl)->crealm, SP_LIT("WIN25")));
        assert_int_equal(client_rounds(O.cl), i == 0 ? 3 : 2);
    }
}

/* Active Directory names the account of a service in a ticket straight from the AS exchange; others give a
 * TGT. */
static void account_of_service(void *m)
{
    struct reply_parts *r = m;

    if (sp_same(r->part.sname.parts.v[0], SP_LIT("host")))
        r->part.sname = r->rep.ticket.sname = name_of("NAS1$", NT_PRINCIPAL);
}
static void tgt_for_service(void *m)
{
    struct reply_parts *r = m;

    if (sp_same(r->part.sname.parts.v[0], SP_LIT("host")))
        r->part.sname = r->rep.ticket.sname = name_of("krbtgt/" REALM, NT_SRV_INST);
}

/* Decision 14: that is no ticket for the service, and no reason to give up. With a timestamp the second login
 * needs no error leg, because the first has learnt how the key is made. */
static void service_by_as_elsewhere(void **state)
{
    static const struct row rows[] = {
        {"the account's name", AT_AS_BOTH, account_of_service, 0,  NULL                       },
        {"a TGT",              AT_AS_BOTH, tgt_for_service,    0,  NULL                       },
        {"another's, always",  AT_AS_BOTH, other_service,      41, "it is for another service"},
    };

    (void)state;
    for (size_t i = 0; i < 2 * COUNT(rows); i++) {
        const struct row *row = &rows[i / 2];
        struct client_policy p = i & 1 ? in_band() : stamped();
        struct client_wish w;

        fresh_peer(i & 1);
        w = wish_of(CLIENT_SERVICE_BY_AS);
        P.no_stamp = i & 1;
        P.row = row;
        drive(&p, &w, rogue);
        if (row->says) {
            refused(row->why, SP_EREFUSED, row->proto);
            assert_non_null(strstr(O.e.text, row->says));
            continue;
        }
        must(row->why);
        assert_true(krb_same_name(&client_service(O.cl)->server, &w.service));
        assert_true(krb_is_tgs_name(&client_tgt(O.cl)->server, SP_LIT(REALM)));
        assert_int_equal(P.proofs, 2);
        assert_int_equal(client_rounds(O.cl), i & 1 ? 5 : 4);
    }
}

static void referrals(void **state)
{
    static const char *const two[] = {"B", "C", NULL}, *const circle[] = {"B", "C", "B", NULL},
                             *const home[] = {REALM, NULL}, *const five[] = {"B", "C", "D", "E", "F", NULL},
                             *const six[] = {"B", "C", "D", "E", "F", "G", NULL};
    static const struct {
        const char *const *to;
        const char *service_realm;
        bool canonicalize;
        const char *says; /* NULL: it works */
        uint32_t rounds;
    } rows[] = {
        {NULL,   "",  true,  NULL,                     3},
        {two,    "",  true,  NULL,                     5},
        {five,   "",  true,  NULL,                     8},
        {six,    "",  true,  "more than 5 referrals",  0},
        {circle, "",  true,  "a referral in a circle", 0},
        {home,   "",  true,  "a referral in a circle", 0},
        {two,    "",  false, "another service",        0}, /* not asked for */
        {NULL,   "Z", true,  NULL,                     4}, /* krbtgt/Z, then the service there */
        {two,    "C", false, NULL,                     5}, /* a step on the way to a named realm may always be given */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct client_policy p = stamped();
        struct client_wish w;

        fresh_peer(false);
        w = wish_of(CLIENT_SERVICE);
        w.service_realm = sp_str(rows[i].service_realm);
        P.to = rows[i].to;
        p.canonicalize = rows[i].canonicalize;
        drive(&p, &w, rogue);
        if (rows[i].says) {
            refused("referral", SP_EREFUSED, KRB_AP_ERR_MODIFIED);
            assert_non_null(strstr(O.e.text, rows[i].says));
            continue;
        }
        must("referral");
        assert_int_equal(client_rounds(O.cl), rows[i].rounds);
        assert_true(krb_same_name(&client_service(O.cl)->server, &w.service));
        assert_true(krb_is_tgs_name(&client_tgt(O.cl)->server, SP_LIT(REALM)));
    }
}

/* T079: a realm on the way that the realm before it does not trust cannot say whom to delegate to. */
static void delegation_by_other_realms(void **state)
{
    static const char *const two[] = {"B", "C", NULL};
    static const struct {
        const char *const *to;
        uint32_t trusts;
        bool want;
    } rows[] = {
        {NULL, 0, false},
        {NULL, 1, true },
        {two,  4, false},
        {two,  5, false},
        {two,  6, false},
        {two,  3, false},
        {two,  7, true },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct client_policy p = stamped();
        struct client_wish w;

        fresh_peer(false);
        w = wish_of(CLIENT_SERVICE);
        P.to = rows[i].to;
        P.trusts = rows[i].trusts;
        drive(&p, &w, rogue);
        must("ok-as-delegate");
        assert_int_equal(P.granted, rows[i].to ? 3 : 1);
        assert_int_equal((client_service(O.cl)->flags & F(TKT_OK_AS_DELEGATE)) != 0, rows[i].want);
    }
}

/* A forwarded ticket that is not, and what is asked with which TGT. */
static void forwarding_bent(void **state)
{
    struct client_policy p = stamped();
    struct client_wish w;
    struct krb_credential tgt;

    (void)state;
    for (int i = 0; i < 2; i++) {
        fresh_peer(false);
        w = wish_of(CLIENT_TGT);
        drive(&p, &w, rogue);
        must("login");
        tgt = copy_of(client_tgt(O.cl));
        P.flags = i ? F(TKT_FORWARDED) : 0;
        w = with_tgt(CLIENT_FORWARDED, &tgt);
        drive(&p, &w, rogue);
        if (i)
            must("forwarded");
        else
            refused("not forwarded", SP_EREFUSED, KRB_AP_ERR_MODIFIED);
    }
}

/* Every byte of the two replies, one bit each: refused, or the same credential. */
static size_t flip_at, flip_n;
static enum krb_type flip_in;
static struct sp_span flipped(struct sp_span request)
{
    struct sp_span out = rogue(request);

    if (krb_sniff(out) == flip_in) {
        flip_n = out.n;
        if (flip_at < out.n)
            ((uint8_t *)(uintptr_t)out.p)[flip_at] ^= (uint8_t)(1u << (flip_at % 8));
    }
    return out;
}

static void bits(void **state)
{
    static const enum krb_type in[] = {KRB_AS_REP, KRB_TGS_REP};
    struct client_policy p = stamped();
    uint32_t taken = 0, tried = 0;

    (void)state;
    p.canonicalize = false;
    for (int t = 0; t < 2; t++) {
        flip_in = in[t];
        flip_n = 1;
        for (flip_at = 0; flip_at < flip_n; flip_at++, tried++) {
            struct client_wish w;
            const struct krb_credential *c;

            fresh_peer(false);
            w = wish_of(CLIENT_SERVICE);
            drive(&p, &w, flipped);
            if (!O.ok) {
                assert_true(O.e.kind == SP_EREFUSED || O.e.kind == SP_EINPUT);
                continue;
            }
            taken++; /* name types and what only the service can check: the ticket's own bytes */
            c = client_service(O.cl);
            assert_true(krb_same_name(&c->server, &w.service) && krb_same_name(&c->client, &w.client));
            assert_true(sp_same(c->crealm, SP_LIT(REALM)) && sp_same(c->srealm, SP_LIT(REALM)));
            assert_memory_equal(c->key.b, P.session.b, P.session.n);
            assert_int_equal(c->endtime, NOW + 36000);
        }
    }
    assert_true(tried > 600);
    assert_true(taken < tried / 6);
}

/* Nothing is left behind: not when it succeeded and was wiped, not when it failed. */
static bool holds(const void *needle, size_t n)
{
    return memmem(mem_block, sizeof mem_block, needle, n) != NULL;
}

static void secrets_are_forgotten(void **state)
{
    struct client_policy p = in_band();
    struct client_wish w;

    (void)state;
    for (int i = 0; i < 2; i++) {
        fresh_peer(true);
        w = wish_of(CLIENT_SERVICE);
        if (i) {
            w.password = sp_span(NULL, 0);
            w.keys = &P.ikey;
            w.key_count = 1;
        }
        drive(&p, &w, rogue);
        must("login");
        assert_false(holds(P.ikey.b, P.ikey.n));
        assert_false(holds(P.reply.b, P.reply.n));
        assert_true(holds(P.session.b, P.session.n));
        assert_true(holds(P.subkey.b, P.subkey.n));
        client_wipe(O.cl);
        assert_false(holds(P.session.b, P.session.n));
        assert_false(holds(P.subkey.b, P.subkey.n));
        assert_null(client_tgt(O.cl));
        P.row = &tgs_rows[0];
        drive(&p, &w, rogue);
        refused("a failed login", SP_EREFUSED, 41);
        assert_false(holds(P.ikey.b, P.ikey.n));
        assert_false(holds(P.session.b, P.session.n));
    }
    client_wipe(NULL);
}

static void every_size_of_arena(void **state)
{
    struct client_policy p = in_band();
    struct sp_arena small;
    uint32_t failed = 0, done = 0;

    (void)state;
    for (size_t n = 0; n <= 40000; n += n < 4096 ? 16 : 256) {
        struct client_wish w;
        struct client_action act;
        struct sp_err e = {0};
        struct client *cl;
        bool ok;

        fresh_peer(true);
        w = wish_of(CLIENT_SERVICE);
        sp_arena_init(&small, mem_block, n);
        ok = client_start(&cl, crypto, &p, &w, env, &small, &act, &e);
        while (ok && !act.done)
            ok = client_reply(cl, env, rogue(act.request), &act, &e);
        if (ok)
            done++;
        else if (e.kind == SP_ENOMEM)
            failed++;
        else
            fail_msg("%zu bytes: %s %d: %s", n, sp_kind_name(e.kind), e.proto, e.text);
    }
    assert_true(done > 10 && failed > 100);
}

/* A reply when none is due changes nothing. */
static void order(void **state)
{
    struct client_policy p = stamped();
    struct client_wish w;
    struct client_action act = {0};
    struct sp_err e = {0};

    (void)state;
    fresh_peer(false);
    w = wish_of(CLIENT_TGT);
    drive(&p, &w, rogue);
    must("login");
    assert_false(client_reply(O.cl, env, SP_LIT("x"), &act, &e));
    assert_int_equal(e.kind, SP_EINPUT);
    assert_non_null(client_tgt(O.cl));
    assert_int_equal(client_state(O.cl), CLIENT_DONE);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(every_type_of_key),
        T(spake_at_our_kdc),
        T(keys_choose_the_type),
        T(service_by_as),
        T(known_parameters),
        T(forwarded_and_renewed),
        T(clocks),
        T(realms_that_were_guessed),
        T(wishes_that_contradict_themselves),
        T(replies_bent),
        T(codes),
        T(codes_later),
        T(one_proof),
        T(timestamp_only),
        T(spake_agrees),
        T(spake_instead_of_a_timestamp),
        T(weaker_than_known),
        T(no_proof_wanted),
        T(realms_adopted),
        T(service_by_as_elsewhere),
        T(referrals),
        T(delegation_by_other_realms),
        T(forwarding_bent),
        T(bits),
        T(secrets_are_forgotten),
        T(every_size_of_arena),
        T(order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
