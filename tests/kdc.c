/* SPDX-License-Identifier: MIT */
/* The KDC engine against a client made of the same message tables: refusals by code, invariants of tickets,
 * guess budgets, retransmission, password change. Case numbers (T033, ...) are those of the project's
 * security list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kdc/internal.h"

/* Rows name what they care about; the rest is zero. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#define REALM "NAS1"
#define NOW INT64_C(1700000000)
#define F(n) KRB_FLAG(n)

/* ---- a world: realm, accounts, clock, one worker ---- */

#define ACCOUNTS_MAX 32
static struct world {
    struct kdc_config cf;
    struct kdc k;
    struct sp_env env;
    struct sp_rng_fixed rng;
    struct store_lookup port;
    struct store_account account[ACCOUNTS_MAX];
    struct store_key keys[ACCOUNTS_MAX][16];
    uint32_t count;
    struct sp_arena keep, mem, cm; /* accounts; the step's; the client's */
    struct kdc_source from;
    enum kdc_door door;
    struct kdc_actions out;
    size_t capacity;
} W;
static uint8_t keep_block[1 << 20], mem_block[1 << 20], client_block[8 << 20];

static bool find(struct store_lookup *s, struct sp_span lookup, struct sp_arena *mem,
                 struct store_account *out, struct sp_err *e)
{
    (void)s;
    (void)mem;
    for (uint32_t i = 0; i < W.count; i++) {
        bool hit = sp_same(W.account[i].lookup, lookup);

        for (uint32_t j = 0; j < W.account[i].alias_lookups.count; j++)
            hit = hit || sp_same(W.account[i].alias_lookups.v[j], lookup);
        if (hit) {
            *out = W.account[i];
            return true;
        }
    }
    return sp_fail(e, SP_ENOTFOUND, 0, "no such account");
}

static bool find_id(struct store_lookup *s, uint64_t id, struct sp_arena *mem, struct store_account *out,
                    struct sp_err *e)
{
    (void)s;
    (void)mem;
    for (uint32_t i = 0; i < W.count; i++)
        if (W.account[i].id == id) {
            *out = W.account[i];
            return true;
        }
    return sp_fail(e, SP_ENOTFOUND, 0, "no such account");
}

/* "a/b" with a type; an '@' is an ordinary byte. */
static struct krb_name name_of(struct sp_arena *mem, const char *text, int32_t type)
{
    struct sp_err e = {0};
    struct krb_name n = {
        type, {sp_new_array(mem, struct sp_span, 8, &e), 0}
    };

    for (const char *p = text; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL)
        n.parts.v[n.parts.count++] = sp_span(p, strcspn(p, "/"));
    return n;
}

static struct store_account *add(const char *name, enum store_kind kind, uint32_t flags, const char *alias)
{
    struct store_account *a = &W.account[W.count];
    struct store_key *keys = W.keys[W.count];
    struct krb_name n = name_of(&W.keep, name, NT_PRINCIPAL);
    struct sp_err e = {0};

    *a = (struct store_account){.id = 100 + W.count,
                                .generation = 7,
                                .kind = kind,
                                .flags = flags,
                                .name = sp_str(name),
                                .keys = keys};
    W.count++;
    assert_true(krb_name_key(&n, &W.cf.realm, &W.keep, &a->lookup, &e));
    if (alias) {
        struct krb_name an = name_of(&W.keep, alias, NT_PRINCIPAL);

        a->alias_lookups = (struct sp_spans){sp_new(&W.keep, struct sp_span, &e), 1};
        assert_true(krb_name_key(&an, &W.cf.realm, &W.keep, &a->alias_lookups.v[0], &e));
    }
    if (kind == STORE_USER) {
        assert_true(kdc_make_keys(&W.cf, W.k.crypto, &n, sp_span(NULL, 0), SP_LIT("correct horse"), 1,
                                  &W.keep, keys, &a->key_count, &e));
    } else if (kind == STORE_KRBTGT) { /* three versions: 5, 4, 3 */
        for (uint32_t v = 5; v >= 3; v--) {
            uint32_t count;

            assert_true(kdc_make_random_keys(&W.cf, &W.rng.rng, v, NULL, 0, keys + a->key_count, &count, &e));
            a->key_count += count;
        }
    } else {
        assert_true(kdc_make_random_keys(&W.cf, &W.rng.rng, 1, NULL, 0, keys, &a->key_count, &e));
    }
    return a;
}

static struct store_account *account(const char *name)
{
    for (uint32_t i = 0; i < W.count; i++)
        if (sp_same(W.account[i].name, sp_str(name)))
            return &W.account[i];
    fail_msg("no account %s", name);
    return NULL;
}

static struct kdc_source source(uint8_t last)
{
    struct kdc_source s = {
        .id = {4, 192, 0, 2, last},
          .text = "192.0.2.x"
    };

    return s;
}

static void fresh_shared(void)
{
    static void *block;
    struct kdc_shared_size size = {512, 1024, 64};

    if (block)
        munmap(block, kdc_shared_bytes(size));
    block = mmap(NULL, kdc_shared_bytes(size), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(block != MAP_FAILED);
    W.k.shared = kdc_shared_init(block, size, (const uint8_t *)"0123456789abcdef");
    assert_ptr_equal(kdc_shared_attach(block, kdc_shared_bytes(size)), W.k.shared);
    assert_null(kdc_shared_attach(block, 100));
}

static int setup(void **state)
{
    static struct sp_span aliases[1] = {
        {(const uint8_t *)"NAS1.EXAMPLE", 12}
    };
    struct sp_err e = {0};

    (void)state;
    memset(&W, 0, sizeof W);
    sp_arena_init(&W.keep, keep_block, sizeof keep_block);
    sp_arena_init(&W.cm, client_block, sizeof client_block);
    W.capacity = sizeof mem_block;
    sp_rng_fixed_init(&W.rng, 42);
    kdc_config_defaults(&W.cf, KDC_STANDARD);
    W.cf.realm = (struct krb_realm){
        SP_LIT(REALM), {aliases, 1}
    };
    for (int i = 0; i < 4; i++)
        W.cf.iterations[i] = 1000; /* fast, and not the default */
    W.env = (struct sp_env){NOW * 1000000 + 123456, INT64_C(5000) * 1000000, &W.rng.rng};
    W.port = (struct store_lookup){find, find_id};
    W.k = (struct kdc){&W.cf, &W.port, crypto_new(&e), NULL};
    assert_non_null(W.k.crypto);
    W.from = source(1);
    W.door = KDC_TCP;
    fresh_shared();
    add("krbtgt/" REALM, STORE_KRBTGT, 0, NULL);
    add("kadmin/changepw", STORE_CHANGEPW, 0, NULL);
    add("alice", STORE_USER, 0, "al");
    add("bob", STORE_USER, STORE_DISABLED, NULL);
    add("carol", STORE_USER, STORE_MUST_CHANGE, NULL);
    add("dave", STORE_USER, 0, NULL)->expires_s = NOW - 10;
    add("erin", STORE_USER, 0, NULL)->password_expires_s = NOW - 10;
    add("root", STORE_USER, STORE_ADMIN, NULL);
    add("frank", STORE_USER, STORE_ALLOW_RENEW | STORE_ALLOW_FORWARD, NULL)->renew_s = 7 * 86400;
    add("host/nas1", STORE_SERVICE, 0, "host/192.0.2.9");
    add("cifs/nas1", STORE_SERVICE, 0, NULL);
    add("HTTP/off", STORE_SERVICE, STORE_DISABLED, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    crypto_free(W.k.crypto);
    return 0;
}

/* ---- the client ---- */

static struct sp_span run(struct sp_span bytes)
{
    struct kdc_request q = {.bytes = bytes, .door = W.door, .source = W.from};
    struct sp_err e = {0};

    sp_arena_init(&W.mem, mem_block, W.capacity);
    kdc_step(&W.k, W.env, &q, &W.mem, &W.out);
    return W.out.reply.n ? sp_dup(&W.cm, W.out.reply, &e) : sp_span(NULL, 0);
}

static int32_t code_of(struct sp_span reply, struct krb_error *out)
{
    static struct krb_error err;
    struct sp_err e = {0};

    if (reply.n == 0)
        return -1;
    if (krb_sniff(reply) != KRB_ERROR)
        return 0;
    assert_true(krb_get(KRB_ERROR, reply, KRB_STRICT, &W.cm, &err, &e));
    /* decision 53, in whatever test this is called */
    assert_true(sp_same(err.realm, W.cf.realm.name) && err.sname.parts.count > 0);
    assert_int_equal(err.stime, W.env.wall_us / 1000000);
    if (out)
        *out = err;
    return err.code;
}

struct as_ask {
    const char *client, *service, *realm;
    uint32_t options;
    int32_t name_type, etypes[4];
    int64_t till, rtime, from;
    const char *password; /* NULL: no proof */
    int64_t ahead_us;     /* of the proof's time */
    int32_t proof_etype;
    bool protect; /* padata 149 */
    uint32_t nonce;
};

static struct sp_key password_key(const char *client, const char *password, int32_t etype)
{
    struct krb_name n = name_of(&W.cm, client, NT_PRINCIPAL);
    struct sp_err e = {0};
    struct sp_span salt;
    struct sp_key k;

    assert_true(kdc_salt_of(&W.cf, W.k.crypto, &n, &W.cm, &salt, &e));
    assert_true(
        crypto_string_to_key(W.k.crypto, etype, sp_str(password), salt, sp_span("\0\0\3\350", 4), &k, &e));
    return k;
}

static struct sp_span seal(enum krb_type t, const void *m, const struct sp_key *k, uint32_t usage)
{
    struct sp_err e = {0};
    struct sp_span plain;
    size_t n;
    uint8_t *p;

    assert_true(krb_make(t, m, &W.cm, &plain, &e));
    n = crypto_cipher_n(k->etype, plain.n);
    p = sp_alloc(&W.cm, n, &e);
    assert_true(crypto_encrypt(W.k.crypto, k, usage, &W.rng.rng, plain, p, &n, &e));
    return sp_span(p, n);
}

static bool open_sealed(enum krb_type t, const struct krb_enc *enc, const struct sp_key *k, uint32_t usage,
                        void *out)
{
    struct sp_err e = {0};
    uint8_t *p = sp_alloc(&W.cm, enc->cipher.n, &e);
    size_t n = enc->cipher.n;

    return crypto_decrypt(W.k.crypto, k, usage, enc->cipher, p, &n, &e) &&
           krb_get(t, sp_span(p, n), KRB_STRICT, &W.cm, out, &e);
}

static struct sp_span put(enum krb_type t, const void *m)
{
    struct sp_err e = {0};
    struct sp_span s;

    if (!krb_make(t, m, &W.cm, &s, &e))
        fail_msg("%s: %s", krb_type_name(t), e.text);
    return s;
}

static struct krb_pa stamp_with(const struct sp_key *k, int64_t us)
{
    struct krb_pa_enc_ts ts = {.has = KRB_BIT(1), .time = us / 1000000, .usec = (uint32_t)(us % 1000000)};
    struct krb_enc enc = {.etype = k->etype, .cipher = seal(KRB_PA_ENC_TS, &ts, k, KU_PA_ENC_TS)};

    return (struct krb_pa){PA_ENC_TIMESTAMP, put(KRB_ENC, &enc)};
}

static void fill_body(struct krb_req_body *b, const struct as_ask *a)
{
    struct sp_err e = {0};

    b->options = a->options;
    if (a->client) {
        b->has |= KRB_BIT(1);
        b->cname = name_of(&W.cm, a->client, a->name_type ? a->name_type : NT_PRINCIPAL);
    }
    b->realm = sp_str(a->realm ? a->realm : REALM);
    if (a->service) {
        b->has |= KRB_BIT(3);
        b->sname = name_of(&W.cm, a->service, NT_SRV_INST);
    }
    if (a->from) {
        b->has |= KRB_BIT(4);
        b->from = a->from;
    }
    if (a->rtime) {
        b->has |= KRB_BIT(6);
        b->rtime = a->rtime;
    }
    b->till = a->till;
    b->nonce = a->nonce ? a->nonce : 0x9234abcd;
    b->etypes.v = sp_new_array(&W.cm, int32_t, 4, &e);
    while (b->etypes.count < 4 && a->etypes[b->etypes.count]) {
        b->etypes.v[b->etypes.count] = a->etypes[b->etypes.count];
        b->etypes.count++;
    }
    if (b->etypes.count == 0)
        b->etypes.v[b->etypes.count++] = 18;
}

static struct sp_span as_req(struct as_ask a)
{
    struct krb_kdc_req m = {0};
    struct krb_pa pa[2];
    struct sp_key k;

    fill_body(&m.body, &a);
    m.padata.v = pa;
    if (a.password) {
        k = password_key(a.client, a.password,
                         a.proof_etype ? a.proof_etype
                         : a.etypes[0] ? a.etypes[0]
                                       : 18);
        pa[m.padata.count++] = stamp_with(&k, W.env.wall_us + a.ahead_us);
    }
    if (a.protect)
        pa[m.padata.count++] = (struct krb_pa){PA_REQ_ENC_PA_REP, SP_LIT("")};
    m.has = m.padata.count ? KRB_BIT(3) : 0;
    return put(KRB_AS_REQ, &m);
}

struct got { /* a ticket in the client's hands, and what is inside */
    struct krb_kdc_rep rep;
    struct krb_enc_kdc_rep part;
    struct krb_enc_ticket inside;
    struct sp_key session;
};

static void look_inside(struct got *g)
{
    struct store_account a;
    struct sp_err e = {0};
    struct sp_span key;
    const struct store_key *k;

    assert_true(krb_name_key(&g->rep.ticket.sname, &W.cf.realm, &W.cm, &key, &e));
    assert_true(find(NULL, key, &W.cm, &a, &e));
    k = store_find_key(&a, g->rep.ticket.enc.etype, g->rep.ticket.enc.kvno);
    assert_non_null(k);
    assert_true(open_sealed(KRB_ENC_TICKET, &g->rep.ticket.enc, &k->key, KU_TICKET, &g->inside));
    assert_true(kdc_to_key(&g->part.key, &g->session, &e));
    assert_true(sp_same(g->part.key.value, g->inside.key.value));
    assert_int_equal(g->part.flags, g->inside.flags);
    assert_int_equal(g->part.endtime, g->inside.endtime);
    assert_true(KRB_HAS(&g->part, 6) && KRB_HAS(&g->inside, 6));
    assert_true(krb_same_name(&g->part.sname, &g->rep.ticket.sname));
    assert_int_equal(g->part.last_req.count, 1);
    assert_int_equal(g->inside.transited.type, 1);
    assert_int_equal(g->inside.transited.contents.n, 0);
}

static struct got as_got(struct sp_span reply, const struct sp_key *k)
{
    struct sp_err e = {0};
    struct got g = {0};

    assert_int_equal(code_of(reply, NULL), 0);
    assert_true(krb_get(KRB_AS_REP, reply, KRB_STRICT, &W.cm, &g.rep, &e));
    assert_true(
        open_sealed(KRB_ENC_AS_REP, &g.rep.enc, k, KU_AS_REP, &g.part)); /* tag 25 or it would not read */
    look_inside(&g);
    return g;
}

static struct got login(const char *who, const char *service, uint32_t options)
{
    struct sp_key k = password_key(who, "correct horse", 18);

    return as_got(run(as_req((struct as_ask){who, service, .options = options, .password = "correct horse"})),
                  &k);
}

struct tgs_ask {
    const char *service, *realm;
    uint32_t options;
    int32_t etype;
    int64_t till, rtime, from, ahead_us;
    bool no_checksum, no_subkey;
    const char *other_cname;
    struct krb_authdata ad; /* enc-authorization-data */
    int32_t cksum_type;     /* 0: the right one */
    uint32_t cksum_usage;
    int32_t extra_pa;
    const struct sp_key *ad_key;
};
static struct sp_key subkey;

static struct sp_span tgs_req(const struct got *tgt, struct tgs_ask a)
{
    struct as_ask ask = {.service = a.service,
                         .realm = a.realm,
                         .options = a.options,
                         .etypes = {a.etype},
                         .till = a.till,
                         .rtime = a.rtime,
                         .from = a.from};
    struct krb_kdc_req m = {.has = KRB_BIT(3)};
    struct krb_authenticator auth = {.crealm = SP_LIT(REALM), .cname = tgt->rep.cname};
    struct krb_ap_req ap = {.ticket = tgt->rep.ticket};
    struct krb_pa pa[2] = {{.type = PA_TGS_REQ}, {.type = a.extra_pa}};
    int64_t at = W.env.wall_us + a.ahead_us;
    uint8_t sum[CRYPTO_CKSUM_MAX];
    size_t n = sizeof sum;
    struct sp_err e = {0};
    struct sp_span body;

    assert_true(crypto_random_key(18, &W.rng.rng, &subkey, &e));
    fill_body(&m.body, &ask);
    if (a.ad.count) {
        m.body.has |= KRB_BIT(10);
        m.body.enc_authdata.etype = a.no_subkey ? tgt->session.etype : subkey.etype;
        m.body.enc_authdata.cipher = seal(KRB_AUTHDATA, &a.ad, a.no_subkey ? &tgt->session : &subkey,
                                          a.no_subkey ? KU_TGS_REQ_AD_SESSION : KU_TGS_REQ_AD_SUBKEY);
    }
    body = put(KRB_REQ_BODY, &m.body);
    if (!a.no_checksum) {
        assert_true(crypto_checksum(W.k.crypto, &tgt->session,
                                    a.cksum_usage ? a.cksum_usage : KU_TGS_REQ_CKSUM, body, sum, &n, &e));
        auth.has |= KRB_BIT(3);
        auth.cksum = (struct krb_checksum){
            a.cksum_type ? a.cksum_type : crypto_find_type(tgt->session.etype)->cksumtype, sp_span(sum, n)};
    }
    if (!a.no_subkey) {
        auth.has |= KRB_BIT(6);
        auth.subkey = (struct krb_keyblock){18, sp_span(subkey.b, subkey.n)};
    }
    if (a.other_cname)
        auth.cname = name_of(&W.cm, a.other_cname, NT_PRINCIPAL);
    auth.ctime = at / 1000000;
    auth.cusec = (uint32_t)(at % 1000000);
    ap.authenticator.etype = tgt->session.etype;
    ap.authenticator.cipher = seal(KRB_AUTHENTICATOR, &auth, &tgt->session, KU_TGS_REQ_AUTH);
    pa[0].value = put(KRB_AP_REQ, &ap);
    m.padata = (struct krb_padata){pa, a.extra_pa ? 2 : 1};
    return put(KRB_TGS_REQ, &m);
}

static struct got tgs_got(struct sp_span reply, const struct got *tgt, bool with_subkey)
{
    struct sp_err e = {0};
    struct got g = {0};

    if (code_of(reply, NULL) != 0)
        fail_msg("refused: %d %s", W.out.record.code, W.out.record.text);
    assert_true(krb_get(KRB_TGS_REP, reply, KRB_STRICT, &W.cm, &g.rep, &e));
    assert_true(open_sealed(KRB_ENC_TGS_REP, &g.rep.enc, with_subkey ? &subkey : &tgt->session,
                            with_subkey ? KU_TGS_REP_SUBKEY : KU_TGS_REP_SESSION, &g.part));
    look_inside(&g);
    return g;
}

static struct got fetch(const struct got *tgt, struct tgs_ask a)
{
    return tgs_got(run(tgs_req(tgt, a)), tgt, !a.no_subkey);
}

#define TGS "krbtgt/" REALM

/* ---- logins that work ---- */

static void test_login(void **state)
{
    struct sp_span reply = run(as_req((struct as_ask){
        "alice", TGS, .etypes = {23, -135, 17, 18}
    }));
    struct krb_padata methods;
    struct krb_infos2 info;
    struct sp_err e = {0};
    struct krb_error err;
    struct got g, s;

    (void)state;
    assert_int_equal(code_of(reply, &err), KDC_ERR_PREAUTH_REQUIRED);
    assert_true(krb_get(KRB_PADATA, err.data, KRB_STRICT, &W.cm, &methods, &e));
    assert_int_equal(methods.count, 2);
    assert_int_equal(methods.v[0].type, PA_ETYPE_INFO2);
    assert_int_equal(methods.v[1].type, PA_ENC_TIMESTAMP);
    assert_true(krb_get(KRB_INFOS2, methods.v[0].value, KRB_STRICT, &W.cm, &info, &e));
    assert_int_equal(info.count, 1);
    assert_int_equal(info.v[0].etype, 18);
    assert_true(sp_same(info.v[0].salt, SP_LIT(REALM "alice")));
    assert_true(KRB_HAS(&info.v[0], 2) && sp_same(info.v[0].params, sp_span("\0\0\3\350", 4)));

    g = login("alice", TGS, F(OPT_FORWARDABLE) | F(OPT_RENEWABLE) | F(OPT_PROXIABLE) | F(OPT_RENEWABLE_OK));
    assert_int_equal(g.part.flags, F(TKT_INITIAL) | F(TKT_PRE_AUTHENT) | F(TKT_PROXIABLE));
    assert_int_equal(g.part.nonce, 0x9234abcd);
    assert_int_equal(g.part.endtime, NOW + 36000);
    assert_int_equal(g.part.starttime, NOW);
    assert_int_equal(g.rep.padata.count, 1);
    assert_int_equal(g.rep.padata.v[0].type, PA_ETYPE_INFO2);
    assert_string_equal(W.out.record.event, "as");
    assert_true(sp_same(W.out.record.client, SP_LIT("alice@" REALM)));
    assert_true(W.out.record.proven && !W.out.record.failed);

    s = fetch(&g, (struct tgs_ask){"cifs/NAS1"});
    assert_int_equal(s.part.endtime, NOW + 36000);
    assert_true(sp_same(s.part.sname.parts.v[1], SP_LIT("NAS1"))); /* as asked */
    assert_false(KRB_HAS(&s.inside, 10));                          /* no account id in service tickets */
    assert_false(KRB_HAS(&s.part, 12));
    s = fetch(&g, (struct tgs_ask){"host/192.0.2.9", .no_subkey = true});
    assert_int_equal(s.part.endtime, NOW + 900);
    assert_int_equal(s.part.flags, F(TKT_PRE_AUTHENT));
    s = login("alice", "host/nas1", 0); /* a service ticket straight away */
    assert_int_equal(s.part.endtime, NOW + 900);
    assert_false(KRB_HAS(&s.inside, 10));
    (void)login("erin", "kadmin/changepw", 0); /* expired password: that still works */
    (void)login("carol", "kadmin/changepw", 0);
}

static void test_proof_of_each_type(void **state)
{
    static const int32_t type[] = {17, 18, 19, 20};

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct as_ask a = {
            "alice", TGS, .etypes = {18, 17},
                .password = "correct horse", .proof_etype = type[i]
        };
        struct sp_key k = password_key("alice", "correct horse", type[i]);
        struct got g = as_got(run(as_req(a)), &k);

        assert_int_equal(g.rep.enc.etype, type[i]);
        assert_int_equal(g.session.etype, 18);
    }
}

/* ---- names and realms ---- */

static void test_names(void **state)
{
    struct sp_key k = password_key("alice", "correct horse", 18);
    struct as_ask a = {"alice@" REALM, TGS, .name_type = NT_ENTERPRISE, .password = "correct horse"};
    struct krb_error err;
    struct got g;

    (void)state;
    g = as_got(run(as_req(a)), &k); /* without canonicalize: exactly as sent (decision 49) */
    assert_int_equal(g.rep.cname.type, NT_ENTERPRISE);
    assert_true(sp_same(g.inside.cname.parts.v[0], SP_LIT("alice@" REALM)));
    (void)fetch(&g, (struct tgs_ask){"host/nas1"});
    a.options = F(OPT_CANONICALIZE);
    g = as_got(run(as_req(a)), &k);
    assert_int_equal(g.rep.cname.type, NT_PRINCIPAL);
    assert_true(sp_same(g.rep.cname.parts.v[0], SP_LIT("alice")));
    a.realm = "NAS1.EXAMPLE"; /* decision 50 */
    a.service = "krbtgt/NAS1.EXAMPLE";
    g = as_got(run(as_req(a)), &k);
    assert_true(sp_same(g.rep.crealm, SP_LIT(REALM)) && sp_same(g.part.srealm, SP_LIT(REALM)));
    assert_true(sp_same(g.part.sname.parts.v[1], SP_LIT(REALM)));
    assert_int_equal(code_of(run(as_req((struct as_ask){"alice", TGS, "nas1"})), &err), KDC_ERR_WRONG_REALM);
    assert_true(KRB_HAS(&err, 7) && sp_same(err.crealm, SP_LIT(REALM)));
    assert_int_equal(code_of(run(as_req((struct as_ask){"alice", TGS, "ELSEWHERE"})), &err),
                     KDC_ERR_WRONG_REALM);
    assert_false(KRB_HAS(&err, 7));
}

static void test_protected_request(void **state) /* decision 44 */
{
    struct sp_key k = password_key("alice", "correct horse", 18);
    struct as_ask a = {"alice", TGS, .options = F(OPT_CANONICALIZE), .password = "correct horse",
                       .protect = true};
    struct sp_span req = as_req(a);
    struct got g = as_got(run(req), &k);
    struct krb_checksum c;
    struct sp_err e = {0};

    (void)state;
    assert_true((g.part.flags & F(TKT_ENC_PA_REP)) && KRB_HAS(&g.part, 12));
    assert_int_equal(g.part.enc_padata.v[0].type, PA_REQ_ENC_PA_REP);
    assert_true(krb_get(KRB_CHECKSUM, g.part.enc_padata.v[0].value, KRB_STRICT, &W.cm, &c, &e));
    assert_true(crypto_verify(W.k.crypto, &k, KU_AS_REQ, c.type, req, c.sum, &e));
    a.options = 0;
    g = as_got(run(as_req(a)), &k);
    assert_true(!(g.part.flags & F(TKT_ENC_PA_REP)) && !KRB_HAS(&g.part, 12));
    a.options = F(OPT_CANONICALIZE);
    a.protect = false;
    g = as_got(run(as_req(a)), &k);
    assert_true(!(g.part.flags & F(TKT_ENC_PA_REP)) && !KRB_HAS(&g.part, 12));
}

/* ---- refusals ---- */

static void test_as_refusals(void **state)
{
    static const struct {
        const char *why;
        struct as_ask a;
        int32_t code;
    } row[] = {
        {"T033 user",                  {"alice", TGS},                                                       25},
        {"T033 service as client",     {"host/nas1", TGS},                                                   25},
        {"T033 disabled",              {"bob", TGS},                                                         25},
        {"T033 for a service",         {"alice", "host/nas1"},                                               25},
        {"T033 krbtgt as client",      {TGS, TGS},                                                           25},
        {"T011 no cname",              {NULL, TGS},                                                          6 },
        {"T011 no sname",              {"alice", NULL},                                                      7 },
        {"T011 neither",               {NULL, NULL},                                                         6 },
        {"T035 RC4 alone",             {"alice", TGS, .etypes = {23}},                                       14},
        {"T035 DES, Camellia",         {"alice", TGS, .etypes = {3, 1, 25, 26}},                             14},
        {"T035 negative alone",        {"alice", TGS, .etypes = {-135}},                                     14},
        {"T050 a user as service",     {"alice", "root"},                                                    7 },
        {"T050 foreign service",       {"alice", "cifs/other"},                                              7 },
        {"T050 address not listed",    {"alice", "host/192.0.2.10"},                                         7 },
        {"T037 other krbtgt",          {"alice", "krbtgt/ELSEWHERE"},                                        7 },
        {"T037 lower case krbtgt",     {"alice", "krbtgt/nas1"},                                             7 },
        {"T037 lower case",            {"alice", TGS, "nas1"},                                               68},
        {"T037 empty",                 {"alice", TGS, ""},                                                   68},
        {"T037 foreign",               {"alice", TGS, "X"},                                                  68},
        {"T049 forwarded",             {"alice", TGS, .options = F(OPT_FORWARDED)},                          13},
        {"T049 proxy",                 {"alice", TGS, .options = F(OPT_PROXY)},                              13},
        {"T049 renew",                 {"alice", TGS, .options = F(OPT_RENEW)},                              13},
        {"T049 validate",              {"alice", TGS, .options = F(OPT_VALIDATE)},                           13},
        {"T049 user-to-user",          {"alice", TGS, .options = F(OPT_ENC_TKT_IN_SKEY)},                    13},
        {"T049 S4U2Proxy",             {"alice", TGS, .options = F(OPT_CNAME_IN_ADDL_TKT)},                  13},
        {"T049 postdate",              {"alice", TGS, .options = F(OPT_POSTDATED)},                          13},
        {"T049 anonymous",             {"alice", TGS, .options = F(OPT_REQUEST_ANONYMOUS)},                  13},
        {"unknown bits are ignored",   {"alice", TGS, .options = F(20) | F(9)},                              25},
        {"from, border",               {"alice", TGS, .from = NOW + 300},                                    25},
        {"from, beyond",               {"alice", TGS, .from = NOW + 301},                                    10},
        {"till in the past",           {"alice", TGS, .till = NOW},                                          11},
        {"till 1970 means long",       {"alice", TGS, .till = 0},                                            25},
        {"T040 late, border",          {"alice", TGS, .password = "correct horse", .ahead_us = -300000000},  0 },
        {"T040 late",                  {"alice", TGS, .password = "correct horse", .ahead_us = -300000001},  37},
        {"T040 early, border",         {"alice", TGS, .password = "correct horse", .ahead_us = 300000000},   0 },
        {"T040 early",                 {"alice", TGS, .password = "correct horse", .ahead_us = 300000001},   37},
        {"T040 a day",                 {"alice", TGS, .password = "correct horse", .ahead_us = 86400000000}, 37},
        {"wrong password",             {"alice", TGS, .password = "wrong"},                                  24},
        {"unknown user",               {"nobody", TGS, .password = "correct horse"},                         24},
        {"disabled, wrong",            {"bob", TGS, .password = "wrong"},                                    24},
        {"disabled",                   {"bob", TGS, .password = "correct horse"},                            18},
        {"must change, wrong",         {"carol", TGS, .password = "wrong"},                                  24},
        {"must change",                {"carol", TGS, .password = "correct horse"},                          23},
        {"must change, service",       {"carol", "host/nas1", .password = "correct horse"},                  23},
        {"account expired",            {"dave", TGS, .password = "correct horse"},                           1 },
        {"password expired",           {"erin", TGS, .password = "correct horse"},                           23},
        {"service disabled",           {"alice", "HTTP/off", .password = "correct horse"},                   19},
        {"service disabled, no proof", {"alice", "HTTP/off"},                                                25},
    };
    int bad = 0;

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        int32_t code;
        struct krb_error err = {0};

        fresh_shared();
        code = code_of(run(as_req(row[i].a)), &err);
        if (code != row[i].code || W.out.record.code != code ||
            (code != 0 && code != 25 && KRB_HAS(&err, 12))) {
            bad++;
            print_error("%s: %d (%s), expected %d\n", row[i].why, code, W.out.record.text, row[i].code);
        }
    }
    assert_int_equal(bad, 0);
}

static void test_settings(void **state)
{
    (void)state;
    W.cf.reveal_unknown = true;
    assert_int_equal(code_of(run(as_req((struct as_ask){"nobody", TGS})), NULL), 6);
    W.cf.reveal_disabled = false;
    assert_int_equal(code_of(run(as_req((struct as_ask){"bob", TGS, .password = "correct horse"})), NULL),
                     24);
    assert_int_equal(W.out.record.inner_code, 18);
}

static void test_outward_codes(void **state)
{
    static const struct {
        enum kdc_exchange x;
        int32_t reason;
        bool proven;
        int32_t code;
    } row[] = {
        {KDC_AS,  KDC_WHY_UNKNOWN,      false, 24},
        {KDC_AS,  KDC_WHY_PASSWORD,     false, 24},
        {KDC_AS,  KDC_WHY_THROTTLED,    false, 24},
        {KDC_AS,  KDC_WHY_THROTTLED,    true,  24},
        {KDC_AS,  KDC_WHY_DISABLED,     false, 24},
        {KDC_AS,  KDC_WHY_DISABLED,     true,  18},
        {KDC_AS,  KDC_WHY_EXPIRED,      false, 24},
        {KDC_AS,  KDC_WHY_EXPIRED,      true,  1 },
        {KDC_AS,  KDC_WHY_OLD_PASSWORD, true,  23},
        {KDC_TGS, KDC_WHY_DISABLED,     true,  18},
        {KDC_TGS, 41,                   true,  31},
        {KDC_TGS, 20,                   true,  20},
        {KDC_AS,  0,                    false, 60},
        {KDC_AS,  12345,                false, 60},
        {KDC_AS,  -99,                  true,  60},
        {KDC_AS,  25,                   false, 25},
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        assert_int_equal(kdc_outward_code(&W.cf, row[i].x, row[i].reason, row[i].proven), row[i].code);
    W.cf.reveal_disabled = false;
    assert_int_equal(kdc_outward_code(&W.cf, KDC_AS, KDC_WHY_DISABLED, true), 24);
    assert_int_equal(kdc_outward_code(&W.cf, KDC_TGS, KDC_WHY_DISABLED, true), 20);
}

/* Decision 12: the first answer of two names of equal length differs in the name alone, the second in
 * nothing. */
static void test_unknown_looks_known(void **state)
{
    struct sp_span a, b;

    (void)state;
    for (int salt = 0; salt < 2; salt++) {
        W.cf.salt = salt ? KDC_SALT_RANDOM : KDC_SALT_DEFAULT;
        add(salt ? "hugo" : "dora", STORE_USER, 0, NULL);
        a = run(as_req((struct as_ask){salt ? "hugo" : "dora", TGS}));
        b = run(as_req((struct as_ask){salt ? "gugo" : "gora", TGS}));
        assert_int_equal(a.n, b.n);
        if (!salt) {
            size_t diff = 0;

            for (size_t i = 0; i < a.n; i++)
                diff += a.p[i] != b.p[i];
            assert_int_equal(diff, 1);
        }
        W.cf.salt = KDC_SALT_DEFAULT;
        a = run(as_req((struct as_ask){"dave", TGS, .password = "wrong"}));
        b = run(as_req((struct as_ask){"gave", TGS, .password = "wrong"}));
        assert_true(sp_same(a, b));
        assert_int_equal(code_of(a, NULL), 24);
    }
}

static void test_tgs_refusals(void **state)
{
    static const struct {
        const char *why;
        struct tgs_ask a;
        int32_t code;
    } row[] = {
        {"plain",               {"host/nas1"},                                      0 },
        {"T043 no checksum",    {"host/nas1", .no_checksum = true},                 50},
        {"T043 unkeyed type",   {"host/nas1", .cksum_type = 14},                    50},
        {"T043 other type",     {"host/nas1", .cksum_type = 15},                    50},
        {"T043 other usage",    {"host/nas1", .cksum_usage = 10},                   31},
        {"T040 border",         {"host/nas1", .ahead_us = 300000000},               0 },
        {"T040 beyond",         {"host/nas1", .ahead_us = 300000001},               37},
        {"T040 late",           {"host/nas1", .ahead_us = -300000001},              37},
        {"other cname",         {"host/nas1", .other_cname = "root"},               36},
        {"T011 no sname",       {NULL},                                             7 },
        {"T050 user",           {"root"},                                           7 },
        {"T050 other host",     {"cifs/other"},                                     7 },
        {"T037 realm",          {"host/nas1", "X"},                                 68},
        {"T037 alias",          {"host/nas1", "nas1"},                              68},
        {"T037 foreign krbtgt", {"krbtgt/X"},                                       7 },
        {"kadmin/changepw",     {"kadmin/changepw"},                                12},
        {"service disabled",    {"HTTP/off"},                                       19},
        {"T035 RC4",            {"host/nas1", .etype = 23},                         14},
        {"T049 renew",          {TGS, .options = F(OPT_RENEW)},                     13},
        {"T049 forward",        {TGS, .options = F(OPT_FORWARDED)},                 13},
        {"T049 proxy",          {"host/nas1", .options = F(OPT_PROXY)},             13},
        {"T049 validate",       {TGS, .options = F(OPT_VALIDATE)},                  13},
        {"T049 user-to-user",   {"host/nas1", .options = F(OPT_ENC_TKT_IN_SKEY)},   13},
        {"T049 S4U2Proxy",      {"host/nas1", .options = F(OPT_CNAME_IN_ADDL_TKT)}, 13},
        {"T049 S4U2Self",       {"host/nas1", .extra_pa = PA_FOR_USER},             13},
        {"T049 S4U2Self, 130",  {"host/nas1", .extra_pa = PA_S4U_X509_USER},        13},
        {"FAST is ignored",     {"host/nas1", .extra_pa = PA_FX_FAST},              0 },
        {"till in the past",    {"host/nas1", .till = NOW - 1},                     11},
        {"from in the future",  {"host/nas1", .from = NOW + 301},                   10},
    };
    struct got tgt = login("alice", TGS, 0);
    int bad = 0;

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        int32_t code = code_of(run(tgs_req(&tgt, row[i].a)), NULL);

        if (code != row[i].code) {
            bad++;
            print_error("%s: %d (%s), expected %d\n", row[i].why, code, W.out.record.text, row[i].code);
        }
    }
    assert_int_equal(bad, 0);
}

/* Seals the TGT's content again, changed, under a key of choice. */
static struct got forge(const struct got *tgt, const struct store_key *k, uint32_t kvno, const char *sname)
{
    struct got g = *tgt;

    g.rep.ticket.enc =
        (struct krb_enc){KRB_BIT(1), k->key.etype, kvno, seal(KRB_ENC_TICKET, &g.inside, &k->key, KU_TICKET)};
    g.rep.ticket.sname = name_of(&W.cm, sname, NT_SRV_INST);
    return g;
}

static int32_t tgs_code(const struct got *g)
{
    return code_of(run(tgs_req(g, (struct tgs_ask){"host/nas1"})), NULL);
}

static void test_tickets(void **state)
{
    struct got tgt = login("alice", TGS, 0), g, s = fetch(&tgt, (struct tgs_ask){"host/nas1"});
    const struct store_account *kt = account(TGS), *host = account("host/nas1");
    static const struct {
        uint32_t sealed, told;
        int32_t code;
    } version[] = {
        {5, 5,          0 },
        {4, 4,          0 },
        {3, 3,          44},
        {5, 4,          31},
        {5, 6,          44},
        {5, 0,          44},
        {5, UINT32_MAX, 44}
    }; /* T039 */

    (void)state;
    for (size_t i = 0; i < sizeof version / sizeof version[0]; i++) {
        g = forge(&tgt, store_find_key(kt, 18, version[i].sealed), version[i].told, TGS);
        assert_int_equal(tgs_code(&g), version[i].code);
    }
    g = tgt;
    g.rep.ticket.enc.has = 0;
    assert_int_equal(tgs_code(&g), 44);
    assert_int_equal(tgs_code(&s), 12); /* not a TGT */
    g = tgt;
    g.inside.flags |= F(TKT_FORWARDABLE); /* T051: with a key that is not the TGS's */
    g = forge(&g, store_find_key(host, 18, 0), 5, TGS);
    assert_int_equal(tgs_code(&g), 31);
    g = forge(&g, store_find_key(host, 18, 0), 1, "host/nas1");
    assert_int_equal(tgs_code(&g), 12);
    g = tgt;
    g.rep.ticket.realm = SP_LIT("X");
    assert_int_equal(tgs_code(&g), 12); /* T037 */
    g = tgt;
    g.inside.transited.contents = SP_LIT("X");
    g = forge(&g, store_find_key(kt, 18, 5), 5, TGS);
    assert_int_equal(tgs_code(&g), 12);
    g = tgt;
    g.inside.flags |= F(TKT_INVALID);
    g = forge(&g, store_find_key(kt, 18, 5), 5, TGS);
    assert_int_equal(tgs_code(&g), 33);
    g = tgt;
    g.inside.has &= ~KRB_BIT(10);
    g = forge(&g, store_find_key(kt, 18, 5), 5, TGS);
    assert_int_equal(tgs_code(&g), 20);
    W.env.wall_us += INT64_C(36000) * 1000000;
    assert_int_equal(tgs_code(&tgt), 32);
}

static void test_revocation(void **state) /* decision 15, T053 */
{
    struct got tgt = login("alice", TGS, 0);
    struct store_account *a = account("alice");

    (void)state;
    a->generation++;
    assert_int_equal(tgs_code(&tgt), 20);
    a->flags |= STORE_DISABLED;
    assert_int_equal(tgs_code(&tgt), 18);
    a->id = 9999;
    assert_int_equal(tgs_code(&tgt), 6);
}

static bool within(const uint8_t *p, struct sp_span s)
{
    return p >= s.p && p < s.p + s.n;
}

/* T044: every byte of a request. Ticket and authenticator give 31, the body 31 or what its reader says; the
 * few bytes that nothing protects (name types and options around the ticket) may pass, unless the request
 * itself came before. */
static void test_flips(void **state)
{
    struct got tgt = login("alice", TGS, 0);
    struct sp_span req = tgs_req(&tgt, (struct tgs_ask){"host/nas1"});
    struct krb_kdc_req m;
    struct krb_ap_req ap;
    struct sp_err e = {0};
    uint8_t copy[4096];
    int granted = 0;

    (void)state;
    assert_true(req.n < sizeof copy);
    assert_true(krb_get(KRB_TGS_REQ, req, 0, &W.cm, &m, &e));
    assert_true(krb_get(KRB_AP_REQ, m.padata.v[0].value, 0, &W.cm, &ap, &e));
    for (int bit = 0; bit < 8; bit++)
        for (size_t i = 0; i < req.n; i++) {
            int32_t code;

            memcpy(copy, req.p, req.n);
            copy[i] ^= (uint8_t)(1 << bit);
            W.cm.used = 4 << 20; /* what was kept stays below */
            code = code_of(run(sp_span(copy, req.n)), NULL);
            if (within(req.p + i, ap.ticket.enc.cipher) || within(req.p + i, ap.authenticator.cipher))
                assert_int_equal(code, 31);
            else if (within(req.p + i, m.body.raw))
                assert_true(code > 0);
            if (code == 0) {
                granted++;
                fresh_shared();
            }
        }
    assert_true(granted > 0 && granted < 64);
    assert_int_equal(code_of(run(req), NULL), 0);
}

/* ---- policy, invariants ---- */

static void test_renew_and_forward(void **state)
{
    uint32_t all = F(OPT_FORWARDABLE) | F(OPT_RENEWABLE) | F(OPT_PROXIABLE);
    struct got tgt = login("frank", TGS, all), r, f, s;

    (void)state;
    assert_true((tgt.part.flags & F(TKT_RENEWABLE)) && (tgt.part.flags & F(TKT_FORWARDABLE)));
    assert_int_equal(tgt.part.renew_till, NOW + 7 * 86400);
    W.env.wall_us += INT64_C(20000) * 1000000;
    r = fetch(&tgt, (struct tgs_ask){TGS, .options = F(OPT_RENEW)});
    assert_int_equal(r.part.starttime, NOW + 20000);
    assert_int_equal(r.part.endtime, NOW + 56000);
    assert_int_equal(r.part.renew_till, NOW + 7 * 86400);
    assert_int_equal(r.part.authtime, NOW);
    assert_int_equal(r.part.flags, tgt.part.flags & ~F(TKT_INITIAL));
    f = fetch(&r, (struct tgs_ask){TGS, .options = F(OPT_FORWARDED) | F(OPT_FORWARDABLE)});
    assert_true((f.part.flags & F(TKT_FORWARDED)) && f.part.endtime <= r.part.endtime);
    s = fetch(&f, (struct tgs_ask){"host/nas1", .options = all});
    assert_true((s.part.flags & F(TKT_FORWARDED)) && !(s.part.flags & F(TKT_RENEWABLE)));
    account("frank")->flags &= ~(uint32_t)(STORE_ALLOW_RENEW | STORE_ALLOW_FORWARD);
    assert_int_equal(code_of(run(tgs_req(&r, (struct tgs_ask){TGS, .options = F(OPT_RENEW)})), NULL), 12);
    assert_int_equal(code_of(run(tgs_req(&r, (struct tgs_ask){TGS, .options = F(OPT_FORWARDED)})), NULL), 12);
    W.cf.renew_life_s = 86400; /* a realm that grants it */
    r = login("alice", TGS, F(OPT_RENEWABLE));
    assert_int_equal(r.part.renew_till, NOW + 20000 + 86400);
    W.env.wall_us += INT64_C(35000) * 1000000;
    r = fetch(&r, (struct tgs_ask){TGS, .options = F(OPT_RENEW)});
    W.env.wall_us += INT64_C(35000) * 1000000;
    r = fetch(&r, (struct tgs_ask){TGS, .options = F(OPT_RENEW)});
    assert_int_equal(r.part.endtime, NOW + 20000 + 86400); /* never past the end of renewal */
}

static void test_never_grows(void **state)
{
    static const uint32_t bits[] = {F(OPT_FORWARDABLE), F(OPT_PROXIABLE), F(OPT_RENEWABLE),
                                    F(OPT_RENEWABLE_OK)};
    static const int64_t till[] = {0, NOW + 100, NOW + 5000, INT64_C(4102444800)};
    static const char *const service[] = {TGS, "host/nas1", "cifs/nas1"};

    (void)state;
    W.cf.guess_limits = false;
    W.cf.renew_life_s = 86400;
    for (uint32_t i = 0; i < 16; i++)
        for (uint32_t j = 0; j < 16; j++) {
            uint32_t oi = 0, oj = 0;
            struct got p, c;

            for (int b = 0; b < 4; b++) {
                oi |= i >> b & 1 ? bits[b] : 0;
                oj |= j >> b & 1 ? bits[b] : 0;
            }
            W.cm.used = 0;
            W.env.wall_us = NOW * 1000000;
            p = login(i % 2 ? "frank" : "alice", TGS, oi);
            W.env.wall_us += INT64_C(1000) * 1000000 * (int64_t)j;
            c = fetch(&p, (struct tgs_ask){service[j % 3], .options = oj,
                                           .till = till[j % 4] == 0 ? 0 : till[j % 4] + 20000});
            assert_int_equal(c.part.flags & ~p.part.flags & ~F(TKT_PROXIABLE), 0); /* decision 43 */
            assert_true(c.part.endtime <= p.part.endtime && c.part.starttime >= p.part.starttime);
            assert_true(c.part.renew_till <= p.part.renew_till);
            assert_true(c.part.endtime > c.part.starttime);
        }
}

static void test_authdata(void **state) /* decision 56 */
{
    struct got tgt = login("alice", TGS, 0), s;
    struct krb_ad deep[] = {
        {AD_SALLYPORT_ACCOUNT, SP_LIT("0123456789abcdef")},
        {77,                   SP_LIT("kept")            }
    };
    struct krb_authdata inner = {deep, 2}, read;
    struct krb_ad ad[] = {
        {AD_WIN2K_PAC,   SP_LIT("pac")   },
        {AD_IF_RELEVANT, put(KRB_AUTHDATA, &inner)},
        {99,              SP_LIT("x")                            }
    };
    struct sp_err e = {0};

    (void)state;
    for (int sub = 0; sub < 2; sub++) {
        s = fetch(&tgt, (struct tgs_ask){
                            "host/nas1", .ad = {ad, 3},
                               .no_subkey = !sub
        });
        assert_int_equal(s.inside.authdata.count, 2);
        assert_int_equal(s.inside.authdata.v[1].type, 99);
        assert_true(krb_get(KRB_AUTHDATA, s.inside.authdata.v[0].data, 0, &W.cm, &read, &e));
        assert_int_equal(read.count, 1);
        assert_int_equal(read.v[0].type, 77);
    }
    ad[0].type = AD_MANDATORY_FOR_KDC;
    assert_int_equal(code_of(run(tgs_req(&tgt,
                                         (struct tgs_ask){
                                             "host/nas1", .ad = {ad, 1}
    })),
                             NULL),
                     12);
}

/* ---- retransmission and replay (decision 48) ---- */

static void test_retransmission(void **state)
{
    struct as_ask a = {"alice", TGS, .password = "correct horse"};
    struct sp_span req = as_req(a), first = run(req), tgs, again;
    struct sp_key k = password_key("alice", "correct horse", 18);
    struct got tgt = as_got(first, &k);
    struct krb_kdc_req m;
    struct krb_ap_req ap;
    struct sp_err e = {0};

    (void)state;
    W.from = source(9); /* across doors and sources */
    W.door = KDC_UNIX;
    assert_true(sp_same(run(req), first));
    assert_true(W.out.record.retransmission);
    W.env.mono_us += (KDC_RETRANSMIT_S + 1) * INT64_C(1000000);
    again = run(req); /* forgotten, yet no replay */
    assert_int_equal(code_of(again, NULL), 0);
    assert_false(sp_same(again, first));
    assert_true(krb_get(KRB_AS_REQ, req, 0, &W.cm, &m, &e));
    m.body.nonce++;
    assert_int_equal(code_of(run(put(KRB_AS_REQ, &m)), NULL), 34);
    tgs = tgs_req(&tgt, (struct tgs_ask){"host/nas1"});
    first = run(tgs);
    assert_true(sp_same(run(tgs), first));
    assert_true(krb_get(KRB_TGS_REQ, tgs, 0, &W.cm, &m, &e));
    m.body.nonce++;
    assert_int_equal(code_of(run(put(KRB_TGS_REQ, &m)), NULL), 31); /* other body */
    m.body.nonce--;
    assert_true(krb_get(KRB_AP_REQ, m.padata.v[0].value, 0, &W.cm, &ap, &e));
    m.padata.v = (struct krb_pa[]){
        m.padata.v[0], {PA_FX_FAST, SP_LIT("x")}
    };
    m.padata.count = 2;
    assert_int_equal(code_of(run(put(KRB_TGS_REQ, &m)), NULL), 34); /* other padata */
}

static void test_udp(void **state) /* decisions 17 and 47, T022 */
{
    struct sp_span req = as_req((struct as_ask){"alice", TGS}), reply;
    struct got tgt = login("alice", TGS, 0);

    (void)state;
    W.door = KDC_UDP;
    reply = run(req);
    assert_true(reply.n == 0 || (code_of(reply, NULL) == 52 && reply.n <= req.n));
    reply = run(as_req((struct as_ask){"alice", TGS, .password = "wrong"}));
    assert_int_equal(code_of(reply, NULL), 52);
    assert_false(W.out.record.failed);
    assert_int_equal(code_of(run(tgs_req(&tgt, (struct tgs_ask){"host/nas1"})), NULL), 0); /* proven */
    assert_int_equal(run(sp_span("\x6a\x02\x30\x00", 4)).n, 0);
    W.from.loopback = true;
    assert_int_equal(code_of(run(req), NULL), 25);
    W.from = source(1);
    W.cf.udp_replies_freely = true;
    assert_int_equal(code_of(run(req), NULL), 25);
}

static void test_garbage(void **state)
{
    static const struct {
        struct sp_span in;
        int32_t code;
    } row[] = {
        {SP_LIT(""),                     -1},
        {SP_LIT("GET / HTTP/1.0"),       -1},
        {SP_LIT("\x6a\x00"),             60},
        {SP_LIT("\x6c\x03\x30\x01\x00"), 60},
        {SP_LIT("\x6e\x02\x30\x00"),     40}, /* an AP-REQ */
        {SP_LIT("\x7e\x02\x30\x00"),     -1}, /* an error: two servers would talk for ever */
        {SP_LIT("\x6b\x02\x30\x00"),     -1},
    };
    static uint8_t big[KDC_MESSAGE_MAX + 1] = {0x6a};

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        assert_int_equal(code_of(run(row[i].in), NULL), row[i].code);
    assert_int_equal(code_of(run(sp_span(big, sizeof big)), NULL), 61);
}

/* T007, T010: pvno and msg-type by their bytes in a good request; more encryption types than there may be. */
static void test_ranges(void **state)
{
    static const struct {
        const char *from, *to;
        int32_t code;
    } row[] = {
        {"\xa1\x03\x02\x01\x05", "\xa1\x03\x02\x01\x04", 3 },
        {"\xa2\x03\x02\x01\x0a", "\xa2\x03\x02\x01\x0c", 40},
    };
    struct sp_span req = as_req((struct as_ask){"alice", TGS});
    struct krb_kdc_req m;
    struct sp_err e = {0};
    uint8_t copy[1024], *p;
    int32_t many[KRB_ETYPES_MAX + 1];

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        memcpy(copy, req.p, req.n);
        p = memmem(copy, req.n, row[i].from, 5);
        assert_non_null(p);
        memcpy(p, row[i].to, 5);
        assert_int_equal(code_of(run(sp_span(copy, req.n)), NULL), row[i].code);
    }
    assert_true(krb_get(KRB_AS_REQ, req, 0, &W.cm, &m, &e));
    for (int i = 0; i <= KRB_ETYPES_MAX; i++)
        many[i] = 18;
    m.body.etypes = (struct krb_i32s){many, KRB_ETYPES_MAX};
    assert_int_equal(code_of(run(put(KRB_AS_REQ, &m)), NULL), 25);
    m.body.etypes.count++;
    e = (struct sp_err){0};
    if (krb_make(KRB_AS_REQ, &m, &W.cm, &req, &e)) /* our own writer may refuse it, too */
        assert_int_equal(code_of(run(req), NULL), 60);
}

/* ---- guessing ---- */

static bool guess(uint8_t from, const char *who, const char *password)
{
    W.from = source(from);
    W.cm.used = 0;
    W.env.wall_us += 1; /* each try other bytes */
    (void)run(as_req((struct as_ask){who, TGS, .password = password}));
    return W.out.record.failed || W.out.record.proven; /* something was verified */
}

static void wait_s(int64_t s)
{
    W.env.wall_us += s * 1000000;
    W.env.mono_us += s * 1000000;
}

static void test_guess_waits(void **state)
{
    (void)state;
    for (const char *who = "alice"; who; who = strcmp(who, "alice") == 0 ? "nobody" : NULL) {
        fresh_shared();
        for (int i = 0; i < 4; i++)
            assert_true(guess(1, who, "wrong"));
        for (int64_t wait = 2; wait <= 512; wait *= 2) { /* 2, 4, 8 ... */
            assert_false(guess(1, who, "correct horse"));
            assert_int_equal(W.out.record.code, 24);
            wait_s(wait - 1);
            assert_false(guess(1, who, "wrong"));
            wait_s(1);
            if (wait > 64) /* else the account's budget for strangers speaks */
                fresh_shared();
            if (wait > 64)
                break;
            assert_true(guess(1, who, "wrong"));
        }
    }
    fresh_shared();
    for (int i = 0; i < 3; i++)
        assert_true(guess(1, "alice", "wrong"));
    for (int i = 0; i < 20; i++) /* successes cost nothing */
        assert_true(guess(1, "alice", "correct horse") && W.out.record.code == 0);
    fresh_shared();
    for (int i = 0; i < 4; i++)
        assert_true(guess(1, i % 2 ? "alice" : "root", "wrong"));
    assert_false(guess(1, "frank", "wrong")); /* the source as a whole */
    assert_true(guess(2, "frank", "wrong"));
    wait_s(KDC_GUESS_WINDOW_S + 3);
    for (int i = 0; i < 4; i++)
        assert_true(guess(1, "alice", "wrong"));
    assert_false(guess(1, "alice", "wrong"));
    kdc_shared_unlock(W.k.shared, account("alice")->id);
    assert_true(guess(1, "alice", "wrong"));
}

static void test_guess_strangers(void **state)
{
    static uint8_t saved[1 << 16];
    size_t n;

    (void)state;
    assert_true(guess(200, "alice", "correct horse")); /* familiar from now on */
    for (int i = 0; i < 10; i++)
        assert_true(guess((uint8_t)(10 + i), "alice", "wrong"));
    for (int i = 0; i < 5; i++)
        assert_false(guess((uint8_t)(30 + i), "alice", "correct horse"));
    assert_true(guess(200, "alice", "correct horse")); /* nobody locks a user out from afar */
    assert_int_equal(W.out.record.code, 0);
    n = kdc_shared_save(W.k.shared, saved, sizeof saved);
    assert_true(n > 24);
    fresh_shared();
    kdc_shared_load(W.k.shared, sp_span(saved, n));
    for (int i = 0; i < 10; i++)
        assert_true(guess((uint8_t)(10 + i), "alice", "wrong"));
    assert_false(guess(40, "alice", "wrong"));
    assert_true(guess(200, "alice", "correct horse"));
    wait_s(KDC_GUESS_WINDOW_S);
    assert_true(guess(40, "alice", "wrong"));
    wait_s(31 * 86400);
    for (int i = 0; i < 10; i++)
        assert_true(guess((uint8_t)(10 + i), "alice", "wrong"));
    assert_false(guess(200, "alice", "correct horse")); /* a stranger again after thirty days */
}

static void test_guess_near(void **state)
{
    struct kdc_guess g;
    struct kdc_source near_by = source(1), console = source(2);
    int n = 0;

    (void)state;
    near_by.loopback = true;
    console.console = true;
    while (n < 100 && kdc_guess_reserve(W.k.shared, &W.cf, W.env, &near_by, 5, &g))
        n++;
    assert_int_equal(n, 40);
    for (n = 0; n < 100 && kdc_guess_reserve(W.k.shared, &W.cf, W.env, &console, 5, &g); n++)
        ;
    assert_int_equal(n, 100);
    near_by = source(3); /* loopback has not used up the strangers' budget */
    assert_true(kdc_guess_reserve(W.k.shared, &W.cf, W.env, &near_by, 5, &g));
    near_by.attester = 1001;
    fresh_shared();
    for (n = 0; n < 400; n++) {
        near_by.id[5] = (uint8_t)n;
        near_by.id[6] = (uint8_t)(n >> 8);
        if (!kdc_guess_reserve(W.k.shared, &W.cf, W.env, &near_by, (uint64_t)n, &g))
            break;
    }
    assert_int_equal(n, KDC_GUESS_ATTESTER_ALL);
}

/* Four processes at once, one block: exactly the budget is verified. */
static void test_guess_together(void **state)
{
    enum { WORKERS = 4, ROUNDS = 20 };

    (void)state;
    for (int round = 0; round < ROUNDS; round++)
        for (int strangers = 0; strangers < 2; strangers++) {
            int sum = 0, status;

            fresh_shared();
            for (int p = 0; p < WORKERS; p++)
                if (fork() == 0) {
                    struct kdc_guess g;
                    int n = 0;

                    for (int i = 0; i < 50; i++) {
                        struct kdc_source s = source(strangers ? (uint8_t)(1 + p * 50 + i) : 1);

                        n += kdc_guess_reserve(W.k.shared, &W.cf, W.env, &s, 5, &g);
                    }
                    _exit(n);
                }
            for (int p = 0; p < WORKERS; p++) {
                assert_true(wait(&status) > 0 && WIFEXITED(status));
                sum += WEXITSTATUS(status);
            }
            assert_int_equal(sum, strangers ? KDC_GUESS_UNFAMILIAR : KDC_GUESS_FREE);
        }
}

static void test_dead_holder(void **state)
{
    struct kdc_guess g;
    struct kdc_source s = source(1);
    struct kdc_table t = kdc_guess_table(W.k.shared);

    (void)state;
    for (uint64_t i = 0; i <= t.mask; i++)
        (void)kdc_bucket_lock(t, i << 32); /* and never unlocked */
    assert_true(kdc_guess_reserve(W.k.shared, &W.cf, W.env, &s, 5, &g));
}

static void test_hash(void **state) /* the published SipHash-2-4-128 vectors: key 00..0f, data 00.. */
{
    uint8_t key[16], data[15];
    struct kdc_hash h;

    (void)state;
    for (uint8_t i = 0; i < 16; i++)
        key[i] = i;
    for (uint8_t i = 0; i < 15; i++)
        data[i] = i;
    h = kdc_hash128(key, sp_span(data, 0));
    assert_true(h.a == 0xe6a825ba047f81a3u && h.b == 0x930255c71472f66du);
    h = kdc_hash128(key, sp_span(data, 1));
    assert_true(h.a == 0x44af996bd8c187dau && h.b == 0x45fc229b11597634u);
}

/* ---- little memory ---- */

static void test_capacities(void **state)
{
    struct sp_span req = as_req((struct as_ask){"alice", TGS, .password = "correct horse"}), reply;
    bool done = false;

    (void)state;
    for (size_t n = 0; n <= 65536; n += n < 2048 ? 64 : 1024) {
        int32_t code;

        W.capacity = n;
        W.cm.used = 1 << 20;
        reply = run(req);
        code = code_of(reply, NULL);
        assert_true(code == 60 || (code == 0 && n > 0));
        assert_false(done && code != 0); /* once it was enough, it is answered before */
        done = done || code == 0;
    }
    assert_true(done);
    W.capacity = sizeof mem_block;
    for (int i = 0; i < 4; i++) /* none of the failures was held against the source */
        assert_true(guess(1, "root", "wrong"));
}

/* ---- password change ---- */

struct change_ask {
    uint16_t version;
    const char *target, *password;
    struct sp_span raw;
    bool bad_seq;
};

static struct sp_span change_req(const struct got *t, struct change_ask a)
{
    struct krb_authenticator auth = {
        .has = KRB_BIT(6) | KRB_BIT(7), .crealm = SP_LIT(REALM), .cname = t->rep.cname, .seq = 77};
    struct krb_ap_req ap = {.ticket = t->rep.ticket};
    struct krb_change_passwd wish = {.newpasswd = sp_str(a.password)};
    struct krb_enc_priv part = {
        .has = KRB_BIT(3), .user_data = sp_str(a.password), .seq = a.bad_seq ? 78 : 77};
    struct krb_priv priv = {0};
    struct sp_err e = {0};
    struct sp_span x, y;
    uint8_t *p;

    assert_true(crypto_random_key(18, &W.rng.rng, &subkey, &e));
    auth.subkey = (struct krb_keyblock){18, sp_span(subkey.b, subkey.n)};
    auth.ctime = W.env.wall_us / 1000000;
    ap.authenticator.etype = t->session.etype;
    ap.authenticator.cipher = seal(KRB_AUTHENTICATOR, &auth, &t->session, KU_AP_REQ_AUTH);
    if (a.version != 1) {
        if (a.target) {
            wish.has = KRB_BIT(1) | KRB_BIT(2);
            wish.targname = name_of(&W.cm, a.target, NT_PRINCIPAL);
            wish.targrealm = SP_LIT(REALM);
        }
        part.user_data = put(KRB_CHANGE_PASSWD, &wish);
    }
    part.saddr = (struct krb_address){2, SP_LIT("\x7f\0\0\1")};
    priv.enc.etype = 18;
    priv.enc.cipher = seal(KRB_ENC_PRIV, &part, &subkey, KU_PRIV);
    x = put(KRB_AP_REQ, &ap);
    y = put(KRB_PRIV, &priv);
    p = sp_alloc(&W.cm, 6 + x.n + y.n, &e);
    p[0] = (uint8_t)((6 + x.n + y.n) >> 8);
    p[1] = (uint8_t)(6 + x.n + y.n);
    p[2] = (uint8_t)(a.version >> 8);
    p[3] = (uint8_t)a.version;
    p[4] = (uint8_t)(x.n >> 8);
    p[5] = (uint8_t)x.n;
    memcpy(p + 6, x.p, x.n);
    memcpy(p + 6 + x.n, y.p, y.n);
    return sp_span(p, 6 + x.n + y.n);
}

static struct sp_span run_change(struct sp_span bytes)
{
    struct kdc_request q = {
        .bytes = bytes,
        .door = W.door,
        .source = W.from,
        .local_address = {127, 0, 0, 1},
        .local_address_n = 4
    };
    struct sp_err e = {0};

    sp_arena_init(&W.mem, mem_block, W.capacity);
    kdc_kpasswd_step(&W.k, W.env, &q, &W.mem, &W.out);
    return W.out.reply.n ? sp_dup(&W.cm, W.out.reply, &e) : sp_span(NULL, 0);
}

/* RFC 3244's result; 1000 + code when it came as a KRB-ERROR. */
static int change_result(struct sp_span r, const struct got *t)
{
    size_t ap = r.n >= 6 ? (size_t)(r.p[4] << 8 | r.p[5]) : 0;
    struct krb_ap_rep rep;
    struct krb_enc_ap_rep ap_part;
    struct krb_priv priv;
    struct krb_enc_priv part;
    struct krb_error err;
    struct sp_err e = {0};

    if (r.n == 0)
        return -1;
    assert_int_equal(r.p[0] << 8 | r.p[1], r.n);
    assert_int_equal(r.p[2] << 8 | r.p[3], 1);
    if (ap == 0) {
        int32_t code = code_of(sp_span(r.p + 6, r.n - 6), &err);

        assert_true(KRB_HAS(&err, 12) && err.data.n > 2);
        return 1000 + code;
    }
    assert_true(krb_get(KRB_AP_REP, sp_span(r.p + 6, ap), 0, &W.cm, &rep, &e));
    assert_true(open_sealed(KRB_ENC_AP_REP, &rep.enc, &t->session, KU_AP_REP, &ap_part));
    assert_int_equal(ap_part.ctime, W.env.wall_us / 1000000);
    assert_true(krb_get(KRB_PRIV, sp_span(r.p + 6 + ap, r.n - 6 - ap), 0, &W.cm, &priv, &e));
    assert_true(open_sealed(KRB_ENC_PRIV, &priv.enc, &subkey, KU_PRIV, &part));
    assert_int_equal(part.seq, ap_part.seq);
    assert_true(sp_same(part.saddr.address, SP_LIT("\x7f\0\0\1")));
    return part.user_data.p[0] << 8 | part.user_data.p[1];
}

static void test_change(void **state)
{
    struct got t = login("alice", "kadmin/changepw", 0), admin, g;
    struct sp_span req = change_req(&t, (struct change_ask){1, NULL, "new password 1"}), reply, other;
    static struct kdc_change c;

    (void)state;
    assert_int_equal(t.part.endtime, NOW + 300);
    assert_int_equal(run_change(req).n, 0);
    assert_true(W.out.has_change);
    c = *W.out.change;
    assert_int_equal(c.account_id, account("alice")->id);
    assert_int_equal(c.by_id, c.account_id);
    assert_true(sp_same(sp_span(c.password, c.password_n), SP_LIT("new password 1")));
    assert_int_equal(run_change(req).n, 0); /* pending: not asked twice */
    assert_false(W.out.has_change);
    kdc_finish_change(&W.k, W.env, &c, 0, SP_LIT(""), &W.cm, &reply);
    assert_int_equal(change_result(reply, &t), 0);
    other = run_change(req); /* answered, not repeated */
    assert_true(sp_same(other, reply) && !W.out.has_change);
    W.env.mono_us += 20 * INT64_C(1000000);
    assert_int_equal(run_change(req).n, 0);
    assert_false(W.out.has_change);

    (void)run_change(change_req(&t, (struct change_ask){0xff80, NULL, "new password 2"}));
    assert_true(W.out.has_change);
    c = *W.out.change;
    kdc_finish_change(&W.k, W.env, &c, 4, SP_LIT("too short"), &W.cm, &reply);
    assert_int_equal(change_result(reply, &t), 4);
    (void)run_change(change_req(&t, (struct change_ask){0xff80, "alice", "new password 3"}));
    assert_true(W.out.has_change);
    assert_int_equal(change_result(run_change(change_req(&t, (struct change_ask){0xff80, "bob", "x"})), &t),
                     5);
    assert_int_equal(
        change_result(run_change(change_req(&t, (struct change_ask){0xff80, "nobody", "x"})), &t), 5);
    assert_int_equal(change_result(run_change(change_req(&t, (struct change_ask){1, NULL, ""})), &t), 4);
    assert_int_equal(change_result(run_change(change_req(&t, (struct change_ask){2, NULL, "x"})), &t), 1060);
    assert_int_equal(
        change_result(run_change(change_req(&t, (struct change_ask){1, NULL, "x", .bad_seq = true})), &t),
        1031);
    admin = login("root", "kadmin/changepw", 0);
    (void)run_change(change_req(&admin, (struct change_ask){0xff80, "bob", "set by root"}));
    assert_true(W.out.has_change);
    assert_int_equal(W.out.change->account_id, account("bob")->id);
    assert_int_equal(W.out.change->by_id, account("root")->id);
    assert_int_equal(
        change_result(run_change(change_req(&admin, (struct change_ask){0xff80, "host/nas1", "x"})), &admin),
        5);
    g = t; /* without INITIAL */
    g.inside.flags &= ~F(TKT_INITIAL);
    g = forge(&g, store_find_key(account("kadmin/changepw"), 18, 0), 1, "kadmin/changepw");
    assert_int_equal(change_result(run_change(change_req(&g, (struct change_ask){1, NULL, "x"})), &g), 7);
    g = login("alice", TGS, 0); /* a TGT is not a ticket for it */
    assert_int_equal(change_result(run_change(change_req(&g, (struct change_ask){1, NULL, "x"})), &g), 1035);
    account("alice")->generation++; /* the password changed: the ticket is dead */
    assert_int_equal(change_result(run_change(change_req(&t, (struct change_ask){1, NULL, "x"})), &t), 1020);
    assert_int_equal(run_change(SP_LIT("rubbish")).n, 0);
}

static void test_keys(void **state)
{
    struct store_key k[4];
    uint32_t n;
    struct sp_err e = {0};
    struct krb_name ent = name_of(&W.cm, "alice@nas1", NT_ENTERPRISE),
                    host = name_of(&W.cm, "NAS1$", NT_PRINCIPAL);
    struct sp_span salt;

    (void)state;
    assert_true(kdc_salt_of(&W.cf, W.k.crypto, &ent, &W.cm, &salt, &e));
    assert_true(sp_same(salt, SP_LIT(REALM "alice")));
    assert_true(kdc_salt_of(&W.cf, W.k.crypto, &host, &W.cm, &salt, &e));
    assert_true(sp_same(salt, SP_LIT(REALM "NAS1$")));
    W.cf.salt = KDC_SALT_RANDOM;
    assert_true(kdc_salt_of(&W.cf, W.k.crypto, &host, &W.cm, &salt, &e));
    assert_int_equal(salt.n, 32);
    assert_true(kdc_make_random_keys(&W.cf, &W.rng.rng, 3, NULL, 0, k, &n, &e));
    assert_true(n == 4 && k[0].key.etype == 18 && k[0].kvno == 3 && k[0].key.keep);
    assert_false(kdc_make_random_keys(&W.cf, &W.rng.rng, 3, (int32_t[]){23}, 1, k, &n, &e));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_hash),
        T(test_keys),
        T(test_login),
        T(test_proof_of_each_type),
        T(test_names),
        T(test_protected_request),
        T(test_as_refusals),
        T(test_settings),
        T(test_outward_codes),
        T(test_unknown_looks_known),
        T(test_tgs_refusals),
        T(test_tickets),
        T(test_revocation),
        T(test_flips),
        T(test_renew_and_forward),
        T(test_never_grows),
        T(test_authdata),
        T(test_retransmission),
        T(test_udp),
        T(test_garbage),
        T(test_guess_waits),
        T(test_guess_strangers),
        T(test_guess_near),
        T(test_guess_together),
        T(test_dead_holder),
        T(test_capacities),
        T(test_change),
        T(test_ranges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
