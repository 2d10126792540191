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

#include "bytes/der.h"
#include "kdc/internal.h"
#include "krb/spake.h"

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
    uint64_t version;
    struct store_account account[ACCOUNTS_MAX];
    struct store_key keys[ACCOUNTS_MAX][16];
    uint32_t count;
    struct sp_arena keep, mem, cm; /* accounts; the step's; the client's */
    struct kdc_source from;
    enum kdc_door door;
    struct kdc_actions out;
    size_t capacity;
    uint32_t udp_max, found; /* found: look-ups */
    int broken;              /* the look-up that fails, counted from 1; 0: none */
} W;
static uint8_t keep_block[1 << 20], mem_block[1 << 20], client_block[8 << 20];

static bool find(struct store_lookup *s, struct sp_span lookup, struct sp_arena *mem,
                 struct store_account *out, struct sp_err *e)
{
    (void)s;
    (void)mem;
    if (W.broken > 0 && --W.broken == 0)
        return sp_fail(e, SP_EBACKEND, 0, "the store cannot be read");
    for (uint32_t i = 0; i < W.count; i++) {
        bool hit = sp_same(W.account[i].lookup, lookup);

        for (uint32_t j = 0; j < W.account[i].alias_lookups.count; j++)
            hit = hit || sp_same(W.account[i].alias_lookups.v[j], lookup);
        if (hit) {
            *out = W.account[i];
            W.found++;
            return true;
        }
    }
    W.found++; /* the port's promise: a name that is not there costs as much, and a stand-in is left */
    for (uint32_t i = 0; i < W.count; i++)
        if (sp_same(W.account[i].lookup, SP_LIT("alice")))
            *out = W.account[i];
    return sp_fail(e, SP_ENOTFOUND, 0, "no such account");
}

static bool find_id(struct store_lookup *s, uint64_t id, struct sp_arena *mem, struct store_account *out,
                    struct sp_err *e)
{
    (void)s;
    (void)mem;
    if (W.broken > 0 && --W.broken == 0)
        return sp_fail(e, SP_EBACKEND, 0, "the store cannot be read");
    for (uint32_t i = 0; i < W.count; i++)
        if (W.account[i].id == id) {
            *out = W.account[i];
            W.found++;
            return true;
        }
    return sp_fail(e, SP_ENOTFOUND, 0, "no such account");
}

static uint64_t version(struct store_lookup *s)
{
    (void)s;
    return W.version;
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
    W.port = (struct store_lookup){find, find_id, version};
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
    add("dave", STORE_USER, 0, NULL)->expires_s = NOW;
    add("erin", STORE_USER, 0, NULL)->password_expires_s = NOW;
    add("root", STORE_USER, STORE_ADMIN, NULL);
    add("frank", STORE_USER, STORE_ALLOW_RENEW | STORE_ALLOW_FORWARD, NULL)->renew_s = 7 * 86400;
    add("host/nas1", STORE_SERVICE, 0, "host/192.0.2.9");
    add("cifs/nas1", STORE_SERVICE, 0, NULL);
    add("HTTP/off", STORE_SERVICE, STORE_DISABLED, NULL);
    add("ldap/old", STORE_SERVICE, 0, NULL)->expires_s = NOW;
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
    struct kdc_request q = {.bytes = bytes, .door = W.door, .source = W.from, .udp_reply_max = W.udp_max};
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
    int32_t extra_pa;
    void (*edit)(struct krb_req_body *b);
    const char *salt_of;            /* the account, where it is not named as itself */
    struct sp_span stamp, stamp_to; /* element in the proof's plain text, and what it is replaced by */
};

static uint8_t *room(size_t n)
{
    struct sp_err e = {0};
    uint8_t *p = sp_alloc(&W.cm, n, &e);

    if (!p)
        abort(); /* the test wants too much */
    return p;
}

/* What was found in the bytes of `in`, an element or several, replaced by others; the lengths around follow.
 */
static struct sp_span splice(struct sp_span in, const uint8_t *at, size_t n, struct sp_span to)
{
    struct sp_err e = {0};
    size_t cap = in.n + to.n + 16, mark;
    struct sp_emit o = sp_emit_to(room(cap), cap, &e);
    struct sp_span out = {0}, inner;
    const uint8_t *p = in.p, *next = in.p, *body = in.p;

    while (p != at && next <= at) { /* the element that begins there, or the one around it */
        size_t len;

        p = next;
        body = p + 2;
        len = p[1];
        if (len >= 0x80)
            for (len = 0; body < p + 2 + (p[1] & 0x7f); body++)
                len = len << 8 | *body;
        next = body + len;
    }
    inner = p == at ? to : splice(sp_span(body, (size_t)(next - body)), at, n, to);
    next = p == at ? at + n : next;
    sp_put_bytes(&o, sp_span(next, (size_t)(in.p + in.n - next)));
    mark = o.n;
    sp_put_bytes(&o, inner);
    if (p != at)
        sp_put_der_head(&o, *p, mark);
    sp_put_bytes(&o, sp_span(in.p, (size_t)(p - in.p)));
    assert_true(sp_put_done(&o, &out));
    return out;
}

static struct sp_span replace(struct sp_span in, struct sp_span from, struct sp_span to)
{
    const uint8_t *at = from.n ? memmem(in.p, in.n, from.p, from.n) : NULL;

    if (from.n == 0)
        return in;
    assert_non_null(at);
    return splice(in, at, from.n, to);
}

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

static struct sp_span seal_bytes(struct sp_span plain, const struct sp_key *k, uint32_t usage)
{
    struct sp_err e = {0};
    size_t n = crypto_cipher_n(k->etype, plain.n);
    uint8_t *p = sp_alloc(&W.cm, n, &e);

    assert_true(crypto_encrypt(W.k.crypto, k, usage, &W.rng.rng, plain, p, &n, &e));
    return sp_span(p, n);
}

static struct sp_span seal(enum krb_type t, const void *m, const struct sp_key *k, uint32_t usage)
{
    struct sp_err e = {0};
    struct sp_span plain;

    assert_true(krb_make(t, m, &W.cm, &plain, &e));
    return seal_bytes(plain, k, usage);
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

static struct krb_pa stamp_with(const struct sp_key *k, const struct as_ask *a)
{
    int64_t us = W.env.wall_us + a->ahead_us;
    struct krb_pa_enc_ts ts = {.has = KRB_BIT(1), .time = us / 1000000, .usec = (uint32_t)(us % 1000000)};
    struct sp_span plain = replace(put(KRB_PA_ENC_TS, &ts), a->stamp, a->stamp_to);
    struct krb_enc enc = {.etype = k->etype, .cipher = seal_bytes(plain, k, KU_PA_ENC_TS)};

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
    if (a->edit)
        a->edit(b);
}

static struct sp_span as_req(struct as_ask a)
{
    struct krb_kdc_req m = {0};
    struct krb_pa pa[3];
    struct sp_key k;

    fill_body(&m.body, &a);
    m.padata.v = pa;
    if (a.password) {
        k = password_key(a.salt_of ? a.salt_of : a.client, a.password,
                         a.proof_etype ? a.proof_etype
                         : a.etypes[0] ? a.etypes[0]
                                       : 18);
        pa[m.padata.count++] = stamp_with(&k, &a);
    }
    if (a.protect)
        pa[m.padata.count++] = (struct krb_pa){PA_REQ_ENC_PA_REP, SP_LIT("")};
    if (a.extra_pa)
        pa[m.padata.count++] = (struct krb_pa){a.extra_pa, SP_LIT("x")};
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
    k = store_find_key(&a, g->rep.ticket.enc.etype, (uint32_t)g->rep.ticket.enc.kvno);
    assert_non_null(k);
    assert_true(open_sealed(KRB_ENC_TICKET, &g->rep.ticket.enc, &k->key, KU_TICKET, &g->inside));
    assert_true(kdc_to_key(&g->part.key, &g->session, &e));
    assert_true(sp_same(g->part.key.value, g->inside.key.value));
    assert_int_equal(g->part.flags, g->inside.flags);
    assert_int_equal(g->part.endtime, g->inside.endtime);
    assert_true(KRB_HAS(&g->part, 6) && KRB_HAS(&g->inside, 6));
    assert_int_equal(KRB_HAS(&g->part, 8), (g->part.flags & F(TKT_RENEWABLE)) != 0);
    assert_int_equal(KRB_HAS(&g->inside, 8), KRB_HAS(&g->part, 8));
    assert_false(KRB_HAS(&g->part, 11) || KRB_HAS(&g->inside, 9)); /* no addresses, whatever was asked */
    assert_true(sp_same(g->rep.crealm, W.cf.realm.name) && sp_same(g->inside.crealm, W.cf.realm.name));
    assert_true(sp_same(g->rep.ticket.realm, W.cf.realm.name) && sp_same(g->part.srealm, W.cf.realm.name));
    assert_true(krb_same_name(&g->rep.cname, &g->inside.cname) && g->rep.cname.type == g->inside.cname.type);
    assert_int_equal(g->part.sname.type, g->rep.ticket.sname.type);
    assert_true(krb_same_name(&g->part.sname, &g->rep.ticket.sname));
    assert_int_equal(g->part.last_req.count, 1); /* decision 56 */
    assert_int_equal(g->part.last_req.v[0].type, 0);
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
    const char *other_crealm;
    size_t cksum_cut;
    struct sp_span ad_bytes;      /* enc-authorization-data as bytes */
    int32_t ad_etype, auth_etype; /* 0: the right ones */
    void (*edit)(struct krb_req_body *b);
    struct sp_span auth, auth_to, ap, ap_to; /* elements replaced in the authenticator, in the AP-REQ */
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
                         .from = a.from,
                         .edit = a.edit};
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
    if (a.ad.count || a.ad_bytes.n) {
        m.body.has |= KRB_BIT(10);
        m.body.enc_authdata.etype = a.ad_etype ? a.ad_etype : a.no_subkey ? tgt->session.etype : subkey.etype;
        m.body.enc_authdata.cipher = seal_bytes(a.ad_bytes.n ? a.ad_bytes : put(KRB_AUTHDATA, &a.ad),
                                                a.no_subkey ? &tgt->session : &subkey,
                                                a.no_subkey ? KU_TGS_REQ_AD_SESSION : KU_TGS_REQ_AD_SUBKEY);
    }
    body = put(KRB_REQ_BODY, &m.body);
    if (!a.no_checksum) {
        assert_true(crypto_checksum(W.k.crypto, &tgt->session,
                                    a.cksum_usage ? a.cksum_usage : KU_TGS_REQ_CKSUM, body, sum, &n, &e));
        auth.has |= KRB_BIT(3);
        auth.cksum = (struct krb_checksum){a.cksum_type ? a.cksum_type
                                                        : crypto_find_type(tgt->session.etype)->cksumtype,
                                           sp_span(sum, n - a.cksum_cut)};
    }
    if (!a.no_subkey) {
        auth.has |= KRB_BIT(6);
        auth.subkey = (struct krb_keyblock){18, sp_span(subkey.b, subkey.n)};
    }
    if (a.other_cname)
        auth.cname = name_of(&W.cm, a.other_cname, NT_PRINCIPAL);
    if (a.other_crealm)
        auth.crealm = sp_str(a.other_crealm);
    auth.ctime = at / 1000000;
    auth.cusec = (uint32_t)(at % 1000000);
    ap.authenticator.etype = a.auth_etype ? a.auth_etype : tgt->session.etype;
    ap.authenticator.cipher =
        seal_bytes(replace(put(KRB_AUTHENTICATOR, &auth), a.auth, a.auth_to), &tgt->session, KU_TGS_REQ_AUTH);
    pa[0].value = replace(put(KRB_AP_REQ, &ap), a.ap, a.ap_to);
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
    struct krb_error err = {0};
    struct got g, s;

    (void)state;
    assert_int_equal(code_of(reply, &err), KDC_ERR_PREAUTH_REQUIRED);
    assert_false(KRB_HAS(&err, 11)); /* no text: it is the usual first answer */
    assert_true(krb_get(KRB_PADATA, err.data, KRB_STRICT, &W.cm, &methods, &e));
    assert_int_equal(methods.count, 4); /* decision 45 */
    assert_int_equal(methods.v[0].type, PA_ETYPE_INFO2);
    assert_int_equal(methods.v[1].type, PA_SPAKE);
    assert_int_equal(methods.v[2].type, PA_ENC_TIMESTAMP);
    assert_int_equal(methods.v[3].type, PA_FX_COOKIE);
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
    struct krb_infos2 info;
    struct sp_err e = {0};

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct as_ask a = {
            "alice", TGS, .etypes = {18, 17},
                .password = "correct horse", .proof_etype = type[i]
        };
        struct sp_key k = password_key("alice", "correct horse", type[i]);
        struct got g = as_got(run(as_req(a)), &k);

        assert_int_equal(g.rep.enc.etype, type[i]);
        assert_int_equal(g.rep.padata.count, 1); /* decision 45: the entry of that key, again */
        assert_true(krb_get(KRB_INFOS2, g.rep.padata.v[0].value, KRB_STRICT, &W.cm, &info, &e));
        assert_true(info.count == 1 && info.v[0].etype == type[i]);
        assert_int_equal(g.session.etype, 18);
    }
}

static void keep_keys(struct store_account *a, int32_t etype)
{
    struct store_key *keys = W.keys[a - W.account];
    uint32_t n = 0;

    for (uint32_t i = 0; i < a->key_count; i++)
        if (keys[i].key.etype == etype)
            keys[n++] = keys[i];
    a->key_count = n;
}

/* Decision 61: an account without a key of the client's types can be told from an unknown name. */
static void test_keys_of_few_types(void **state)
{
    struct krb_padata methods;
    struct krb_infos2 info;
    struct krb_error err = {0};
    struct sp_err e = {0};

    (void)state;
    keep_keys(account("alice"), 19);
    assert_int_equal(code_of(run(as_req((struct as_ask){
                                 "alice", TGS, .etypes = {18, 17}
    })),
                             NULL),
                     14);
    assert_int_equal(code_of(run(as_req((struct as_ask){
                                 "alice", TGS, .etypes = {18, 19}
    })),
                             &err),
                     25);
    assert_true(krb_get(KRB_PADATA, err.data, KRB_STRICT, &W.cm, &methods, &e));
    assert_true(krb_get(KRB_INFOS2, methods.v[0].value, KRB_STRICT, &W.cm, &info, &e));
    assert_true(info.count == 1 && info.v[0].etype == 19);
    assert_int_equal(code_of(run(as_req((struct as_ask){
                                 "alice", TGS, .etypes = {18, 19},
                                     .password = "correct horse"
    })),
                             NULL),
                     24);
}

/* ---- names and realms ---- */

static void test_names(void **state)
{
    struct sp_key k = password_key("alice", "correct horse", 18);
    struct as_ask a = {"alice@" REALM, TGS, .name_type = NT_ENTERPRISE, .password = "correct horse"};
    struct krb_error err = {0};
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

static void no_client_parts(struct krb_req_body *b)
{
    b->cname.parts.count = 0;
}

static void no_service_parts(struct krb_req_body *b)
{
    b->sname.parts.count = 0;
}

static void no_types(struct krb_req_body *b)
{
    b->etypes.count = 0;
}

static const struct {
    const char *why;
    struct as_ask a;
    int32_t code;
} as_row[] = {
    {"T033 user",                       {"alice", TGS},                                                        25},
    {"T033 service as client",          {"host/nas1", TGS},                                                    25},
    {"T033 disabled",                   {"bob", TGS},                                                          25},
    {"T033 for a service",              {"alice", "host/nas1"},                                                25},
    {"T033 krbtgt as client",           {TGS, TGS},                                                            25},
    {"T011 no cname",                   {NULL, TGS},                                                           6 },
    {"T011 no sname",                   {"alice", NULL},                                                       7 },
    {"T011 neither",                    {NULL, NULL},                                                          6 },
    {"T035 RC4 alone",                  {"alice", TGS, .etypes = {23}},                                        14},
    {"T035 DES, Camellia",              {"alice", TGS, .etypes = {3, 1, 25, 26}},                              14},
    {"T035 negative alone",             {"alice", TGS, .etypes = {-135}},                                      14},
    {"T050 a user as service",          {"alice", "root"},                                                     7 },
    {"T050 foreign service",            {"alice", "cifs/other"},                                               7 },
    {"T050 address not listed",         {"alice", "host/192.0.2.10"},                                          7 },
    {"T037 other krbtgt",               {"alice", "krbtgt/ELSEWHERE"},                                         7 },
    {"T037 lower case krbtgt",          {"alice", "krbtgt/nas1"},                                              7 },
    {"T037 lower case",                 {"alice", TGS, "nas1"},                                                68},
    {"T037 empty",                      {"alice", TGS, ""},                                                    68},
    {"T037 foreign",                    {"alice", TGS, "X"},                                                   68},
    {"T049 forwarded",                  {"alice", TGS, .options = F(OPT_FORWARDED)},                           13},
    {"T049 proxy",                      {"alice", TGS, .options = F(OPT_PROXY)},                               13},
    {"T049 renew",                      {"alice", TGS, .options = F(OPT_RENEW)},                               13},
    {"T049 validate",                   {"alice", TGS, .options = F(OPT_VALIDATE)},                            13},
    {"T049 user-to-user",               {"alice", TGS, .options = F(OPT_ENC_TKT_IN_SKEY)},                     13},
    {"T049 S4U2Proxy",                  {"alice", TGS, .options = F(OPT_CNAME_IN_ADDL_TKT)},                   13},
    {"T049 postdate",                   {"alice", TGS, .options = F(OPT_POSTDATED)},                           13},
    {"T049 anonymous",                  {"alice", TGS, .options = F(OPT_REQUEST_ANONYMOUS)},                   13},
    {"unknown bits are ignored",        {"alice", TGS, .options = F(20) | F(9)},                               25},
    {"from, border",                    {"alice", TGS, .from = NOW + 300},                                     25},
    {"from, beyond",                    {"alice", TGS, .from = NOW + 301},                                     10},
    {"till in the past",                {"alice", TGS, .till = NOW},                                           11},
    {"till 1970 means long",            {"alice", TGS, .till = 0},                                             25},
    {"T040 late, border",               {"alice", TGS, .password = "correct horse", .ahead_us = -300000000},   0 },
    {"T040 late",                       {"alice", TGS, .password = "correct horse", .ahead_us = -300000001},   37},
    {"T040 early, border",              {"alice", TGS, .password = "correct horse", .ahead_us = 300000000},    0 },
    {"T040 early",                      {"alice", TGS, .password = "correct horse", .ahead_us = 300000001},    37},
    {"T040 a day",                      {"alice", TGS, .password = "correct horse", .ahead_us = 86400000000},  37},
    {"wrong password",                  {"alice", TGS, .password = "wrong"},                                   24},
    {"unknown user",                    {"nobody", TGS, .password = "correct horse"},                          24},
    {"the stand-in's own key",          {"nobody", TGS, .password = "correct horse", .salt_of = "alice"},      24},
    {"disabled, wrong",                 {"bob", TGS, .password = "wrong"},                                     24},
    {"disabled",                        {"bob", TGS, .password = "correct horse"},                             18},
    {"must change, wrong",              {"carol", TGS, .password = "wrong"},                                   24},
    {"must change",                     {"carol", TGS, .password = "correct horse"},                           23},
    {"must change, service",            {"carol", "host/nas1", .password = "correct horse"},                   23},
    {"account expired",                 {"dave", TGS, .password = "correct horse"},                            1 },
    {"password expired",                {"erin", TGS, .password = "correct horse"},                            23},
    {"service disabled",                {"alice", "HTTP/off", .password = "correct horse"},                    19},
    {"service disabled, no proof",      {"alice", "HTTP/off"},                                                 25},
    {"T033 kadmin/changepw as client",  {"kadmin/changepw", TGS},                                              25},
    {"T033 must change",                {"carol", TGS},                                                        25},
    {"T033 for kadmin/changepw",        {"alice", "kadmin/changepw"},                                          25},
    {"T033 with unknown padata",        {"alice", TGS, .extra_pa = 9999},                                      25},
    {"T033 krbtgt as client, proof",    {TGS, TGS, .password = "correct horse"},                               24},
    {"T011 name without parts",         {"alice", TGS, .edit = no_client_parts},                               6 },
    {"T011 service without parts",      {"alice", TGS, .edit = no_service_parts},                              7 },
    {"T011 no encryption types",        {"alice", TGS, .edit = no_types},                                      14},
    {"T040 a day late",                 {"alice", TGS, .password = "correct horse", .ahead_us = -86400000000}, 37},
    {"T037 the realm's alias",          {"alice", TGS, "NAS1.EXAMPLE"},                                        68},
    {"T037 dot",                        {"alice", TGS, "."},                                                   68},
    {"T037 krbtgt of an alias",         {"alice", "krbtgt/NAS1.EXAMPLE"},                                      7 },
    {"T049 postdate, from",             {"alice", TGS, .options = F(OPT_POSTDATED), .from = NOW + 900},        13},
    {"T049 S4U2Self",                   {"alice", TGS, .extra_pa = PA_FOR_USER},                               13},
    {"T049 S4U2Self, 130",              {"alice", TGS, .extra_pa = PA_S4U_X509_USER},                          13},
    {"impossible client",               {"ali\001ce", TGS},                                                    6 },
    {"client not UTF-8",                {"ali\377ce", TGS},                                                    6 },
    {"user in another case",            {"Alice", TGS, .password = "correct horse"},                           24},
    {"another realm's user",            {"alice@ELSEWHERE", TGS, .password = "correct horse"},                 24},
    {"FAST is ignored",                 {"alice", TGS, .password = "correct horse", .extra_pa = PA_FX_FAST},   0 },
    {"disabled, for a password change", {"bob", "kadmin/changepw", .password = "correct horse"},               18},
    {"expired, for a password change",  {"dave", "kadmin/changepw", .password = "correct horse"},              1 },
    {"service expired",                 {"alice", "ldap/old", .password = "correct horse"},                    19},
    {"service expired, no proof",       {"alice", "ldap/old"},                                                 25},
    {"disabled service as client",      {"HTTP/off", TGS, .password = "correct horse"},                        24},
};

static void test_as_refusals(void **state)
{
    int bad = 0;

    (void)state;
    for (size_t i = 0; i < sizeof as_row / sizeof as_row[0]; i++) {
        int32_t code;
        struct krb_error err = {0};

        struct sp_span req = as_req(as_row[i].a);
        uint64_t chance = W.rng.state;
        uint32_t found = W.found;

        fresh_shared();
        code = code_of(run(req), &err);
        if (strncmp(as_row[i].why, "T049", 4) == 0 && (W.found != found || W.rng.state != chance)) {
            bad++; /* nothing is read, decrypted or made for them */
            print_error("%s: refused late\n", as_row[i].why);
        }
        if (code != as_row[i].code || W.out.record.code != code ||
            (code != 0 && code != 25 && KRB_HAS(&err, 12))) {
            bad++;
            print_error("%s: %d (%s), expected %d\n", as_row[i].why, code, W.out.record.text, as_row[i].code);
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
        {KDC_AS,  90,                   false, 90},
        {KDC_AS,  91,                   false, 91},
        {KDC_AS,  92,                   false, 60},
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        assert_int_equal(kdc_outward_code(&W.cf, row[i].x, row[i].reason, row[i].proven), row[i].code);
    W.cf.reveal_disabled = false;
    assert_int_equal(kdc_outward_code(&W.cf, KDC_AS, KDC_WHY_DISABLED, true), 24);
    assert_int_equal(kdc_outward_code(&W.cf, KDC_TGS, KDC_WHY_DISABLED, true), 20);
}

static size_t differing(struct sp_span a, struct sp_span b)
{
    size_t n = a.n == b.n && a.p && b.p ? 0 : SIZE_MAX;

    for (size_t i = 0; n != SIZE_MAX && i < a.n; i++)
        n += a.p[i] != b.p[i];
    return n;
}

/* T034: names of every kind, of one length. First leg: one letter apart. Second: the same bytes. Both cost as
 * many look-ups that find something, and no randomness; the records differ. */
static void test_kinds_of_names_look_alike(void **state)
{
    static const struct {
        int64_t expires, password_expires;
        uint32_t flags;
        int32_t inner; /* of the second leg */
    } row[] = {
        {0,       0,       0,                 24},
        {0,       0,       STORE_DISABLED,    24},
        {0,       0,       STORE_MUST_CHANGE, 24},
        {NOW - 1, 0,       0,                 24},
        {0,       NOW - 1, 0,                 24},
        {0,       0,       0,                 18}, /* throttled: with the right password */
        {0,       0,       0,                 6 }, /* unknown */
        {0,       0,       0,                 18}, /* unknown and throttled */
    };
    enum { LOCKED = 5, UNKNOWN = 6, COUNT = 8 };
    static char who[2][COUNT][5];
    struct sp_span first[2] = {{0}, {0}};

    (void)state;
    W.cf.spake = false; /* its own test is below */
    for (int salts = 0; salts < 2; salts++) {
        W.cf.salt = salts ? KDC_SALT_RANDOM : KDC_SALT_DEFAULT;
        for (int i = 0; i < COUNT; i++) {
            bool locked = i == LOCKED || i == COUNT - 1;
            struct store_account *a;

            memcpy(who[salts][i], salts ? "s34" : "t34", 3);
            who[salts][i][3] = (char)('a' + i);
            if (i < UNKNOWN) {
                a = add(who[salts][i], STORE_USER, row[i].flags, NULL);
                a->expires_s = row[i].expires;
                a->password_expires_s = row[i].password_expires;
            }
            fresh_shared();
            for (int n = 0; locked && n < 4; n++) {
                W.env.wall_us++;
                (void)run(as_req((struct as_ask){who[salts][i], TGS, .password = "wrong"}));
            }
            W.env.wall_us = NOW * 1000000 + 123456;
            for (int leg = 0; leg < 2; leg++) {
                struct sp_span req = as_req((struct as_ask){who[salts][i], TGS,
                                                            .password = !leg          ? NULL
                                                                        : i == LOCKED ? "correct horse"
                                                                                      : "wrong"});
                uint64_t chance = W.rng.state;
                struct sp_span reply;

                W.found = 0;
                reply = run(req);
                assert_int_equal(code_of(reply, NULL), leg ? 24 : 25);
                assert_int_equal(W.found, 2);
                assert_true(W.rng.state == chance);
                assert_int_equal(W.out.record.inner_code, leg ? row[i].inner : 25);
                assert_int_equal(W.out.record.failed, leg && !locked);
                if (i == 0)
                    first[leg] = reply;
                assert_int_equal(reply.n, first[leg].n);
                if (leg == 1 || !salts)
                    assert_int_equal(differing(reply, first[leg]), leg == 0 && i > 0);
            }
        }
    }
}

/* Decision 12: the first answer of two names of equal length differs in the name alone, the second in
 * nothing. */
static void test_unknown_looks_known(void **state)
{
    struct sp_span a, b;

    (void)state;
    W.cf.spake = false;
    for (int salt = 0; salt < 2; salt++) {
        W.cf.salt = salt ? KDC_SALT_RANDOM : KDC_SALT_DEFAULT;
        add(salt ? "hugo" : "dora", STORE_USER, 0, NULL);
        a = run(as_req((struct as_ask){salt ? "hugo" : "dora", TGS}));
        b = run(as_req((struct as_ask){salt ? "gugo" : "gora", TGS}));
        assert_int_equal(a.n, b.n);
        if (!salt)
            assert_int_equal(differing(a, b), 1);
        W.cf.salt = KDC_SALT_DEFAULT;
        a = run(as_req((struct as_ask){"dave", TGS, .password = "wrong"}));
        b = run(as_req((struct as_ask){"gave", TGS, .password = "wrong"}));
        assert_true(sp_same(a, b));
        assert_int_equal(code_of(a, NULL), 24);
    }
}

static const struct {
    const char *why;
    struct tgs_ask a;
    int32_t code;
} tgs_row[] = {
    {"plain",                         {"host/nas1"},                                                            0 },
    {"T043 no checksum",              {"host/nas1", .no_checksum = true},                                       50},
    {"T043 unkeyed type",             {"host/nas1", .cksum_type = 14},                                          50},
    {"T043 other type",               {"host/nas1", .cksum_type = 15},                                          50},
    {"T043 other usage",              {"host/nas1", .cksum_usage = 10},                                         31},
    {"T040 border",                   {"host/nas1", .ahead_us = 300000000},                                     0 },
    {"T040 beyond",                   {"host/nas1", .ahead_us = 300000001},                                     37},
    {"T040 late",                     {"host/nas1", .ahead_us = -300000001},                                    37},
    {"other cname",                   {"host/nas1", .other_cname = "root"},                                     36},
    {"T011 no sname",                 {NULL},                                                                   7 },
    {"T050 user",                     {"root"},                                                                 7 },
    {"T050 other host",               {"cifs/other"},                                                           7 },
    {"T037 realm",                    {"host/nas1", "X"},                                                       68},
    {"T037 alias",                    {"host/nas1", "nas1"},                                                    68},
    {"T037 foreign krbtgt",           {"krbtgt/X"},                                                             7 },
    {"kadmin/changepw",               {"kadmin/changepw"},                                                      12},
    {"service disabled",              {"HTTP/off"},                                                             19},
    {"T035 RC4",                      {"host/nas1", .etype = 23},                                               14},
    {"T049 renew",                    {TGS, .options = F(OPT_RENEW)},                                           13},
    {"T049 forward",                  {TGS, .options = F(OPT_FORWARDED)},                                       13},
    {"T049 proxy",                    {"host/nas1", .options = F(OPT_PROXY)},                                   13},
    {"T049 validate",                 {TGS, .options = F(OPT_VALIDATE)},                                        13},
    {"T049 user-to-user",             {"host/nas1", .options = F(OPT_ENC_TKT_IN_SKEY)},                         13},
    {"T049 S4U2Proxy",                {"host/nas1", .options = F(OPT_CNAME_IN_ADDL_TKT)},                       13},
    {"T049 S4U2Self",                 {"host/nas1", .extra_pa = PA_FOR_USER},                                   13},
    {"T049 S4U2Self, 130",            {"host/nas1", .extra_pa = PA_S4U_X509_USER},                              13},
    {"FAST is ignored",               {"host/nas1", .extra_pa = PA_FX_FAST},                                    0 },
    {"till in the past",              {"host/nas1", .till = NOW - 1},                                           11},
    {"from in the future",            {"host/nas1", .from = NOW + 301},                                         10},
    {"T043 truncated",                {"host/nas1", .cksum_cut = 1},                                            31},
    {"T043 empty",                    {"host/nas1", .cksum_cut = 12},                                           31},
    {"T043 type of another key",      {"host/nas1", .cksum_type = 20},                                          50},
    {"T040 late, border",             {"host/nas1", .ahead_us = -300000000},                                    0 },
    {"T040 a day",                    {"host/nas1", .ahead_us = 86400000000},                                   37},
    {"other crealm",                  {"host/nas1", .other_crealm = "X"},                                       36},
    {"T011 no subkey",                {"host/nas1", .no_subkey = true},                                         0 },
    {"T011 service without parts",    {"host/nas1", .edit = no_service_parts},                                  7 },
    {"T011 no encryption types",      {"host/nas1", .edit = no_types},                                          14},
    {"T050 alias not configured",     {"host/nas1.example"},                                                    7 },
    {"T050 address not listed",       {"host/192.0.2.10"},                                                      7 },
    {"T050 the service without host", {"host"},                                                                 7 },
    {"T049 postdate",                 {TGS, .options = F(OPT_POSTDATED), .from = NOW + 900},                    13},
    {"T049 anonymous",                {TGS, .options = F(OPT_REQUEST_ANONYMOUS)},                               13},
    {"T037 alias, canonicalize",      {"host/nas1", "nas1", .options = F(OPT_CANONICALIZE)},                    0 },
    {"T037 dot",                      {"host/nas1", "."},                                                       68},
    {"T037 dot, canonicalize",        {"host/nas1", ".", .options = F(OPT_CANONICALIZE)},                       0 },
    {"T037 krbtgt of an alias",       {"krbtgt/NAS1.EXAMPLE"},                                                  7 },
    {"unknown padata",                {"host/nas1", .extra_pa = 9999},                                          0 },
    {"unknown options",               {"host/nas1", .options = F(20) | F(9)},                                   0 },
    {"till 2100",                     {"host/nas1", .till = INT64_C(4102444800), .rtime = INT64_C(4102444800)}, 0 },
    {"from, border",                  {"host/nas1", .from = NOW + 300},                                         0 },
    {"service expired",               {"ldap/old"},                                                             19},
    {"authdata of another type",      {"host/nas1", .ad_bytes = SP_LIT("\x30\x00"), .ad_etype = 17},            31},
    {"authdata, empty",               {"host/nas1", .ad_bytes = SP_LIT("\x30\x00")},                            0 },
    {"authdata that is none",         {"host/nas1", .ad_bytes = SP_LIT("\x31\x00")},                            60},
    {"authenticator of another type", {"host/nas1", .auth_etype = 17},                                          31},
    {"service in capitals",           {"HOST/NAS1"},                                                            0 },
};

static void test_tgs_refusals(void **state)
{
    struct got tgt = login("alice", TGS, 0);
    int bad = 0;

    (void)state;
    for (size_t i = 0; i < sizeof tgs_row / sizeof tgs_row[0]; i++) {
        struct sp_span req = tgs_req(&tgt, tgs_row[i].a);
        uint64_t chance = W.rng.state;
        uint32_t found = W.found;
        struct krb_error err = {0};
        int32_t code = code_of(run(req), &err);

        if (strncmp(tgs_row[i].why, "T049", 4) == 0 &&
            !(tgs_row[i].a.options & (F(OPT_RENEW) | F(OPT_FORWARDED)))) /* those depend on the ticket */
            assert_true(W.found == found && W.rng.state == chance);
        if (code != tgs_row[i].code || KRB_HAS(&err, 12)) {
            bad++;
            print_error("%s: %d (%s), expected %d\n", tgs_row[i].why, code, W.out.record.text,
                        tgs_row[i].code);
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
    account("frank")->expires_s = NOW + 5; /* decision 15: what happens to the account happens to its TGT */
    g = login("frank", TGS, 0);
    assert_int_equal(tgs_code(&g), 0);
    account("frank")->expires_s = NOW;
    assert_int_equal(tgs_code(&g), 1);
    account("frank")->expires_s = 0;
    g = login("frank", TGS, F(OPT_RENEWABLE));
    g.inside.renew_till = NOW;
    g = forge(&g, store_find_key(kt, 18, 5), 5, TGS);
    assert_int_equal(code_of(run(tgs_req(&g, (struct tgs_ask){TGS, .options = F(OPT_RENEW)})), NULL), 32);
    g = tgt;
    g.inside.starttime = NOW + 300; /* of a KDC whose clock is ahead */
    g = forge(&g, store_find_key(kt, 18, 5), 5, TGS);
    assert_int_equal(tgs_code(&g), 0);
    g.inside.starttime = NOW + 301;
    g = forge(&g, store_find_key(kt, 18, 5), 5, TGS);
    assert_int_equal(tgs_code(&g), 33);
    g = tgt; /* sixteen bytes of another type name no account */
    g.inside.authdata = (struct krb_authdata){
        &(struct krb_ad){
                         AD_IF_RELEVANT, put(KRB_AUTHDATA, &(struct krb_authdata){&(struct krb_ad){77, SP_LIT("0123456789abcdef")}, 1})},
        1
    };
    g = forge(&g, store_find_key(kt, 18, 5), 5, TGS);
    assert_int_equal(tgs_code(&g), 20);
    g = tgt;
    g.inside.crealm = SP_LIT("X"); /* T037 */
    g = forge(&g, store_find_key(kt, 18, 5), 5, TGS);
    assert_int_equal(tgs_code(&g), 12);
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
    s = fetch(&r, (struct tgs_ask){TGS, .options = all}); /* allowed then, not now: left off */
    assert_false(s.part.flags & (F(TKT_RENEWABLE) | F(TKT_FORWARDABLE)));
    s = login("frank", "host/nas1", all); /* no more than the TGS gives */
    assert_false(s.part.flags & F(TKT_RENEWABLE));
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
            assert_int_equal((c.part.flags & F(TKT_PROXIABLE)) != 0, (oj & F(OPT_PROXIABLE)) != 0);
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

/* A store that cannot be read is our trouble: 60, and never "unknown", "revoked" or "wrong password". */
static void test_broken_store(void **state)
{
    struct got tgt = login("alice", TGS, 0);
    int failed = 0;

    (void)state;
    for (int kind = 0; kind < 4; kind++)
        for (int n = 1; n < 5; n++) {
            static const char *const who[] = {"alice", "alice", "nobody"};
            struct sp_span req =
                kind == 3 ? tgs_req(&tgt, (struct tgs_ask){"host/nas1"})
                          : as_req((struct as_ask){who[kind], TGS, .password = kind ? "wrong" : NULL});
            int32_t code, good;

            fresh_shared();
            W.broken = n;
            code = code_of(run(req), NULL);
            failed += W.broken == 0;
            if (W.broken == 0 && !(kind == 2 && n == 3)) /* the look-up that only takes its time */
                assert_int_equal(code, 60);
            W.broken = 0;
            good = code_of(run(req), NULL); /* and nothing of it was kept */
            assert_int_equal(good, kind == 3 ? 0 : kind ? 24 : 25);
        }
    assert_true(failed >= 2 + 2 + 2 + 3);
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
    struct krb_error err = {0};

    (void)state;
    W.door = KDC_UDP;
    reply = run(req);
    assert_true(code_of(reply, &err) == 52 && reply.n <= req.n);
    assert_false(KRB_HAS(&err, 11) || KRB_HAS(&err, 12)); /* as small as possible */
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

/* T022: away from loopback nothing that was not proven is answered with more bytes than came, whatever came.
 */
static void test_no_amplification(void **state)
{
    struct got tgt = login("alice", TGS, 0), other = tgt;
    struct sp_span whole[6];
    uint8_t copy[4096];
    int answered = 0;

    (void)state;
    other.session.b[0] ^= 1; /* proves nothing */
    whole[0] = as_req((struct as_ask){"alice", TGS, .password = "correct horse"});
    whole[1] = as_req((struct as_ask){"alice", TGS});
    whole[2] = tgs_req(&other, (struct tgs_ask){"host/nas1"});
    whole[3] = tgs_req(&other, (struct tgs_ask){NULL, .options = F(OPT_VALIDATE)});
    whole[4] = put(KRB_AP_REQ, &(struct krb_ap_req){.ticket = tgt.rep.ticket});
    whole[5] = as_req((struct as_ask){"a", "b"});
    W.door = KDC_UDP;
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
        for (size_t n = 0; n <= whole[i].n; n++) {
            struct sp_span reply;

            assert_true(whole[i].n < sizeof copy);
            memcpy(copy, whole[i].p, n);
            W.cm.used = 1 << 20;
            reply = run(sp_span(copy, n));
            assert_true(reply.n <= n);
            answered += reply.n > 0;
            assert_false(W.out.record.failed || W.out.record.proven);
        }
    assert_true(answered > 100);
}

/* Decision 48: the table keeps the whole reply; whether it fits is asked of each transport (T024). */
static void test_table_and_transports(void **state)
{
    struct got tgt = login("alice", TGS, 0);
    struct sp_span req = tgs_req(&tgt, (struct tgs_ask){"host/nas1"}), reply, again;
    struct sp_span wrong = as_req((struct as_ask){"alice", TGS, .password = "wrong"});

    (void)state;
    W.door = KDC_UDP;
    W.from.loopback = true;
    W.udp_max = 200;
    reply = run(req);
    assert_true(code_of(reply, NULL) == 52 && reply.n <= 200);
    assert_int_equal(W.out.record.code, 52);
    W.door = KDC_TCP;
    reply = run(req);
    assert_true(code_of(reply, NULL) == 0 && reply.n > 200 && W.out.record.retransmission);
    W.door = KDC_UNIX;
    W.from = source(77);
    again = run(req);
    assert_true(sp_same(again, reply));
    W.door = KDC_UDP;
    W.from.loopback = true;
    W.udp_max = (uint32_t)reply.n;
    assert_true(sp_same(run(req), reply));
    W.udp_max--;
    assert_int_equal(code_of(run(req), NULL), 52);
    W.from.loopback = false;
    W.udp_max = 0;
    again = run(req);
    assert_true(sp_same(again, reply));
    W.env.mono_us += (KDC_RETRANSMIT_S + 1) * INT64_C(1000000);
    assert_int_equal(code_of(run(req), NULL), 0); /* forgotten; the same bytes are no replay */
    assert_false(W.out.record.retransmission);
    W.door = KDC_TCP; /* a wrong password sent again is one failure */
    for (int i = 0; i < 20; i++) {
        assert_int_equal(code_of(run(wrong), NULL), 24);
        assert_int_equal(W.out.record.failed, i == 0);
    }
    W.from = source(77);
    (void)run(as_req((struct as_ask){"alice", TGS, .password = "correct horse"}));
    assert_int_equal(W.out.record.code, 0);
    W.from =
        source(78); /* a datagram from afar with the bytes of a login that TCP has answered: decision 47 */
    req = as_req((struct as_ask){"root", TGS, .password = "correct horse"});
    assert_int_equal(code_of(run(req), NULL), 0);
    W.door = KDC_UDP;
    assert_int_equal(code_of(run(req), NULL), 52);
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

/* T006, T007, T011: one element of a good request replaced. `at`: where the reader stops, counted from where
 * the replacement stands; -1 where it reads on, or what it misses leaves no place. */
static void test_elements_of_as_requests(void **state)
{
    static const struct {
        const char *why;
        struct sp_span from, to;
        int32_t code, at;
    } row[] = {
        {"T007 pvno 4",                        SP_LIT("\xa1\x03\x02\x01\x05"),                     SP_LIT("\xa1\x03\x02\x01\x04"),                     3,  4 },
        {"T007 pvno 2^32 + 5",                 SP_LIT("\xa1\x03\x02\x01\x05"),                     SP_LIT("\xa1\x07\x02\x05\x01\0\0\0\5"),             3,  4 },
        {"T007 msg-type 12",                   SP_LIT("\xa2\x03\x02\x01\x0a"),                     SP_LIT("\xa2\x03\x02\x01\x0c"),                     40, 4 },
        {"T007 msg-type -10",                  SP_LIT("\xa2\x03\x02\x01\x0a"),                     SP_LIT("\xa2\x03\x02\x01\xf6"),                     40, 4 },
        {"T007 nonce 2^31",                    SP_LIT("\xa7\x07\x02\x05\0\x92\x34\xab\xcd"),
         SP_LIT("\xa7\x07\x02\x05\0\x80\0\0\0"),                                                                                                       25, -1},
        {"T007 nonce 2^32 - 1",                SP_LIT("\xa7\x07\x02\x05\0\x92\x34\xab\xcd"),
         SP_LIT("\xa7\x07\x02\x05\0\xff\xff\xff\xff"),                                                                                                 25, -1},
        {"T007 nonce 2^32",                    SP_LIT("\xa7\x07\x02\x05\0\x92\x34\xab\xcd"),
         SP_LIT("\xa7\x07\x02\x05\1\0\0\0\0"),                                                                                                         60, 4 },
        {"T007 nonce -2^31",                   SP_LIT("\xa7\x07\x02\x05\0\x92\x34\xab\xcd"),
         SP_LIT("\xa7\x06\x02\x04\x80\0\0\0"),                                                                                                         25, -1},
        {"T007 nonce below",                   SP_LIT("\xa7\x07\x02\x05\0\x92\x34\xab\xcd"),
         SP_LIT("\xa7\x07\x02\x05\xff\x7f\xff\xff\xff"),                                                                                               60, 4 },
        {"T007 type 2^31",                     SP_LIT("\x02\x01\x12"),                             SP_LIT("\x02\x05\0\x80\0\0\0"),                     60, 2 },
        {"T007 type 2^31 - 1, with 18",        SP_LIT("\x02\x01\x12"),
         SP_LIT("\x02\x04\x7f\xff\xff\xff\x02\x01\x12"),                                                                                               25, -1},
        {"T007 type -2^31, with 18",           SP_LIT("\x02\x01\x12"),                             SP_LIT("\x02\x04\x80\0\0\0\x02\x01\x12"),           25,
         -1                                                                                                                                                  },
        {"T007 type below",                    SP_LIT("\x02\x01\x12"),                             SP_LIT("\x02\x05\xff\x7f\xff\xff\xff\x02\x01\x12"), 60,
         2                                                                                                                                                   },
        {"T007 name type 2^31",                SP_LIT("\xa0\x03\x02\x01\x01"),                     SP_LIT("\xa0\x07\x02\x05\0\x80\0\0\0"),             60,
         4                                                                                                                                                   },
        {"T011 no pvno",                       SP_LIT("\xa1\x03\x02\x01\x05"),                     SP_LIT(""),                                         60, -1},
        {"T011 no msg-type",                   SP_LIT("\xa2\x03\x02\x01\x0a"),                     SP_LIT(""),                                         60, -1},
        {"T011 no options",                    SP_LIT("\xa0\x07\x03\x05\0\0\0\0\0"),               SP_LIT(""),                                         60, -1},
        {"T011 no realm",                      SP_LIT("\xa2\x06\x1b\x04NAS1"),                     SP_LIT(""),                                         60, -1},
        {"T011 no till",
         SP_LIT("\xa5\x11\x18\x0f"
                "19700101000000Z"),
         SP_LIT(""),                                                                                                                                   60, -1},
        {"T011 no nonce",                      SP_LIT("\xa7\x07\x02\x05\0\x92\x34\xab\xcd"),       SP_LIT(""),                                         60, -1},
        {"T011 no list of types",              SP_LIT("\xa8\x05\x30\x03\x02\x01\x12"),             SP_LIT(""),                                         60, -1},
        {"T011 no name type",                  SP_LIT("\xa0\x03\x02\x01\x01"),                     SP_LIT(""),                                         60, -1},
        {"T011 no name parts",
         SP_LIT("\xa1\x09\x30\x07\x1b\x05"
                "alice"),
         SP_LIT(""),                                                                                                                                   60, -1},
        {"T006 twice",                         SP_LIT("\xa8\x05\x30\x03\x02\x01\x12"),
         SP_LIT("\xa8\x05\x30\x03\x02\x01\x12\xa8\x05\x30\x03\x02\x01\x12"),                                                                           60, 7 },
        {"T006 unknown field",                 SP_LIT("\xa8\x05\x30\x03\x02\x01\x12"),
         SP_LIT("\xa8\x05\x30\x03\x02\x01\x12\xac\x03\x02\x01\x01"),                                                                                   60, 7 },
        {"T006 unknown field outside",         SP_LIT("\xa1\x03\x02\x01\x05"),
         SP_LIT("\xa0\x03\x02\x01\x05\xa1\x03\x02\x01\x05"),                                                                                           60, 0 },
        {"T006 wrong order",                   SP_LIT("\xa1\x03\x02\x01\x05\xa2\x03\x02\x01\x0a"),
         SP_LIT("\xa2\x03\x02\x01\x0a\xa1\x03\x02\x01\x05"),                                                                                           60, 0 },
        {"T006 universal in place of context", SP_LIT("\xa2\x06\x1b\x04NAS1"),                     SP_LIT("\x30\x06\x1b\x04NAS1"),
         60,                                                                                                                                               0 },
    };
    struct sp_span good = as_req((struct as_ask){"alice", TGS}), req;
    int bad = 0;

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct krb_kdc_req m;
        struct sp_err e = {0};
        int32_t code, at = -1;

        req = replace(good, row[i].from, row[i].to);
        W.found = 0;
        code = code_of(run(req), NULL);
        if (!krb_get(KRB_AS_REQ, req, KRB_STRICT, &W.cm, &m, &e) && row[i].at >= 0)
            at = (int32_t)e.at -
                 (int32_t)((const uint8_t *)memmem(req.p, req.n, row[i].to.p, row[i].to.n) - req.p);
        if (code != row[i].code || at != row[i].at || sp_ok(&e) != (code == 25) ||
            (code != 25 && W.found != 0)) {
            bad++;
            print_error("%s: %d at %d (%s), expected %d at %d\n", row[i].why, code, at, e.text, row[i].code,
                        row[i].at);
        }
    }
    assert_int_equal(bad, 0);
}

static void test_elements_of_tgs_requests(void **state)
{
    static const struct {
        const char *why;
        struct tgs_ask a;
        int32_t code;
    } row[] = {
        {"T007 AP-REQ pvno 4",
         {"host/nas1", .ap = SP_LIT("\xa0\x03\x02\x01\x05"), .ap_to = SP_LIT("\xa0\x03\x02\x01\x04")},
         39                                                                                                      },
        {"T007 AP-REQ msg-type 15",
         {"host/nas1", .ap = SP_LIT("\xa1\x03\x02\x01\x0e"), .ap_to = SP_LIT("\xa1\x03\x02\x01\x0f")},
         40                                                                                                      },
        {"T007 ticket version 4",
         {"host/nas1", .ap = SP_LIT("\xa0\x03\x02\x01\x05\xa1\x06\x1b\x04NAS1"),
          .ap_to = SP_LIT("\xa0\x03\x02\x01\x04\xa1\x06\x1b\x04NAS1")},
         39                                                                                                      },
        {"T007 kvno -1",
         {"host/nas1", .ap = SP_LIT("\xa1\x03\x02\x01\x05"), .ap_to = SP_LIT("\xa1\x03\x02\x01\xff")},
         44                                                                                                      },
        {"T007 kvno 2^32 + 5",
         {"host/nas1", .ap = SP_LIT("\xa1\x03\x02\x01\x05"), .ap_to = SP_LIT("\xa1\x07\x02\x05\1\0\0\0\5")},
         60                                                                                                      },
        {"T007 kvno 2^31 + 5",
         {"host/nas1", .ap = SP_LIT("\xa1\x03\x02\x01\x05"), .ap_to = SP_LIT("\xa1\x07\x02\x05\0\x80\0\0\5")},
         44                                                                                                      },
        {"T007 kvno 2^31 + 5, signed",
         {"host/nas1", .ap = SP_LIT("\xa1\x03\x02\x01\x05"), .ap_to = SP_LIT("\xa1\x06\x02\x04\x80\0\0\5")},
         44                                                                                                      },
        {"T007 authenticator version 4",
         {"host/nas1", .auth = SP_LIT("\xa0\x03\x02\x01\x05"), .auth_to = SP_LIT("\xa0\x03\x02\x01\x04")},
         39                                                                                                      },
        {"T007 usec 10^6",
         {"host/nas1", .auth = SP_LIT("\xa4\x05\x02\x03\x01\xe2\x40"),
          .auth_to = SP_LIT("\xa4\x05\x02\x03\x0f\x42\x40")},
         60                                                                                                      },
        {"T007 usec 999999",
         {"host/nas1", .auth = SP_LIT("\xa4\x05\x02\x03\x01\xe2\x40"),
          .auth_to = SP_LIT("\xa4\x05\x02\x03\x0f\x42\x3f")},
         0                                                                                                       },
        {"T007 usec -1",
         {"host/nas1", .auth = SP_LIT("\xa4\x05\x02\x03\x01\xe2\x40"),
          .auth_to = SP_LIT("\xa4\x03\x02\x01\xff")},
         60                                                                                                      },
        {"T011 no usec",                      {"host/nas1", .auth = SP_LIT("\xa4\x05\x02\x03\x01\xe2\x40")},   60},
        {"T011 no crealm",                    {"host/nas1", .auth = SP_LIT("\xa1\x06\x1b\x04NAS1")},           60},
        {"T011 no authenticator version",     {"host/nas1", .auth = SP_LIT("\xa0\x03\x02\x01\x05")},           60},
        {"T011 no AP-REQ pvno",               {"host/nas1", .ap = SP_LIT("\xa0\x03\x02\x01\x05")},             60},
        {"T011 no AP-REQ options",            {"host/nas1", .ap = SP_LIT("\xa2\x07\x03\x05\0\0\0\0\0")},       60},
        {"T011 no realm in the ticket",       {"host/nas1", .ap = SP_LIT("\xa1\x06\x1b\x04NAS1")},             60},
        {"T049 use-session-key",
         {"host/nas1", .ap = SP_LIT("\xa2\x07\x03\x05\0\0\0\0\0"),
          .ap_to = SP_LIT("\xa2\x07\x03\x05\0\x40\0\0\0")},
         13                                                                                                      },
        {"T006 authenticator, unknown field",
         {"host/nas1", .auth = SP_LIT("\xa4\x05\x02\x03\x01\xe2\x40"),
          .auth_to = SP_LIT("\xa4\x05\x02\x03\x01\xe2\x40\xa4\x05\x02\x03\x01\xe2\x40")},
         60                                                                                                      },
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
    assert_int_equal(code_of(run(put(KRB_TGS_REQ,
                                     &(struct krb_kdc_req){
                                         .body = {.realm = SP_LIT(REALM),
                                                  .has = KRB_BIT(3),
                                                  .sname = name_of(&W.cm, "host/nas1", NT_SRV_HST),
                                                  .etypes = {(int32_t[]){18}, 1}}
    })),
                             NULL),
                     16); /* no ticket at all */
}

static void test_microseconds_of_the_proof(void **state) /* T007 */
{
    struct as_ask a = {"alice", TGS, .password = "correct horse",
                       .stamp = SP_LIT("\xa1\x05\x02\x03\x01\xe2\x40")};

    (void)state;
    a.stamp_to = SP_LIT("\xa1\x05\x02\x03\x0f\x42\x40");
    assert_int_equal(code_of(run(as_req(a)), NULL), 60);
    a.stamp_to = SP_LIT("\xa1\x05\x02\x03\x0f\x42\x3f");
    assert_int_equal(code_of(run(as_req(a)), NULL), 0);
    W.env.wall_us += 1000000;
    a.stamp_to = SP_LIT(""); /* it is optional */
    a.stamp = SP_LIT("\xa1\x05\x02\x03\x01\xe2\x40");
    assert_int_equal(code_of(run(as_req(a)), NULL), 0);
}

/* ---- T010: lists longer than any sane peer's ---- */

/* A field with a list of `count` times `one`. */
static struct sp_span many(uint8_t field, struct sp_span one, int count)
{
    size_t cap = one.n * (size_t)count + 16;
    struct sp_err e = {0};
    struct sp_emit o = sp_emit_to(room(cap), cap, &e);
    struct sp_span out = {0};

    for (int i = 0; i < count; i++)
        sp_put_bytes(&o, one);
    sp_put_der_head(&o, DER_SEQUENCE, 0);
    if (field)
        sp_put_der_head(&o, field, 0);
    assert_true(sp_put_done(&o, &out));
    return out;
}

#define ONE_AD SP_LIT("\x30\x09\xa0\x03\x02\x01\x63\xa1\x02\x04\x00")

/* What was read before the refusal is the measure of the work: the elements allowed, and one head more. */
static void test_long_lists(void **state)
{
    static const struct {
        const char *why;
        struct sp_span one, at; /* before the field that begins so */
        int count;
        uint32_t max;
        int32_t good;
        uint8_t field;
    } row[] = {
        {"types",      SP_LIT("\x02\x01\x12"),                                 SP_LIT("\xa8\x05\x30\x03\x02\x01\x12"), 5000, KRB_ETYPES_MAX,     25,
         0xa8                                                                                                                                            },
        {"padata",     SP_LIT("\x30\x09\xa1\x03\x02\x01\x63\xa2\x02\x04\x00"), SP_LIT("\xa4"),                         5000,
         KRB_PADATA_MAX,                                                                                                                         25, 0xa3},
        {"addresses",  SP_LIT("\x30\x09\xa0\x03\x02\x01\x02\xa1\x02\x04\x00"), SP_LIT(""),                             1000,
         KRB_ADDRESSES_MAX,                                                                                                                      25, 0xa9},
        {"name parts", SP_LIT("\x1b\x01x"),
         SP_LIT("\xa1\x09\x30\x07\x1b\x05"
                "alice"),
         5000,                                                                                                               KRB_NAME_PARTS_MAX, 25, 0xa1},
    };
    struct sp_span good = as_req((struct as_ask){"alice", TGS});

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        for (int k = 0; k < 3; k++) {
            int count = k == 2 ? row[i].count : (int)row[i].max + k;
            struct sp_span list = many(row[i].field, row[i].one, count), req;
            const uint8_t *at = row[i].at.n ? memmem(good.p, good.n, row[i].at.p, row[i].at.n) : NULL;
            struct krb_kdc_req m;
            struct sp_err e = {0};
            size_t last;

            if (row[i].field == 0xa3) /* an optional field that was not there */
                req = splice(good, at, 0, list);
            else if (row[i].field == 0xa9) { /* the last of the body: behind the types */
                struct sp_span types = SP_LIT("\xa8\x05\x30\x03\x02\x01\x12"), both[2] = {types, list};
                uint8_t *p = sp_alloc(&W.cm, types.n + list.n, &e);

                memcpy(p, both[0].p, both[0].n);
                memcpy(p + both[0].n, both[1].p, both[1].n);
                req = replace(good, types, sp_span(p, types.n + list.n));
            } else
                req = splice(good, at, row[i].at.n, list);
            W.found = 0;
            assert_int_equal(code_of(run(req), NULL), k ? 60 : row[i].good);
            assert_int_equal(krb_get(KRB_AS_REQ, req, KRB_STRICT, &W.cm, &m, &e), k == 0);
            if (k == 0)
                continue;
            last = (size_t)((const uint8_t *)memmem(req.p, req.n, list.p, 16) - req.p) + list.n;
            assert_int_equal(e.kind, SP_EINPUT);
            assert_int_equal(e.at, last - row[i].one.n * (size_t)(count - (int)row[i].max));
            assert_int_equal(W.found, 0);
            assert_true(W.mem.used < 4096); /* nothing was made for the rest */
        }
}

static void test_long_authdata(void **state) /* T010 */
{
    static const struct {
        int count;
        bool inside; /* of AD-IF-RELEVANT */
        int32_t code;
    } row[] = {
        {KRB_AUTHDATA_MAX,     false, 0 },
        {KRB_AUTHDATA_MAX + 1, false, 60},
        {KRB_AUTHDATA_MAX,     true,  0 },
        {KRB_AUTHDATA_MAX + 1, true,  60},
        {5000,                 false, 60},
        {5000,                 true,  60},
        {10000,                false, 61}, /* more bytes than a message may have */
        {10000,                true,  61},
    };
    struct got tgt = login("alice", TGS, 0);

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct sp_span list = many(0, ONE_AD, row[i].count);
        struct krb_ad outer = {AD_IF_RELEVANT, list};
        uint64_t chance;
        struct sp_span req = tgs_req(&tgt, (struct tgs_ask){
                                               "host/nas1", .ad = {&outer, row[i].inside},
                                               .ad_bytes = row[i].inside ? sp_span(NULL, 0) : list
        });

        chance = W.rng.state;
        assert_int_equal(code_of(run(req), NULL), row[i].code);
        if (row[i].code != 0)
            assert_true(W.rng.state == chance); /* no ticket was begun */
        W.cm.used = 4 << 20;
    }
}

/* ---- what is granted ---- */

static void test_options_of_stock_clients(void **state) /* decision 43 */
{
    static const struct {
        const char *who;
        uint32_t options, flags; /* beside initial and pre-authenticated */
        bool realm_renews, realm_forwards;
    } row[] = {
        {"alice", 0x50000010,                           F(TKT_PROXIABLE),                                         false, false}, /* kinit */
        {"alice", 0x50000000,                           F(TKT_PROXIABLE),                                         false, false}, /* Java, Heimdal */
        {"alice", 0x40810010,                           0,                                                        false, false}, /* Windows */
        {"frank", 0x50000010,                           F(TKT_PROXIABLE) | F(TKT_FORWARDABLE) | F(TKT_RENEWABLE), false, false},
        {"frank", 0x40810010,                           F(TKT_FORWARDABLE) | F(TKT_RENEWABLE),                    false, false},
        {"alice", 0x40810010,                           F(TKT_FORWARDABLE) | F(TKT_RENEWABLE),                    true,  true },
        {"alice", F(OPT_ALLOW_POSTDATE) | F(9) | F(20), 0,                                                        false, false},
        {"alice", F(OPT_DISABLE_TRANSITED_CHECK),       0,                                                        false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct got g;

        W.cf.renew_life_s = row[i].realm_renews ? 86400 : 0;
        W.cf.forwardable = row[i].realm_forwards;
        W.env.wall_us += 1000;
        g = login(row[i].who, TGS, row[i].options);
        assert_int_equal(g.part.flags, row[i].flags | F(TKT_INITIAL) | F(TKT_PRE_AUTHENT));
        g = fetch(&g, (struct tgs_ask){"host/nas1", .options = F(OPT_PROXIABLE) | F(OPT_ALLOW_POSTDATE)});
        assert_int_equal(g.part.flags, F(TKT_PROXIABLE) | F(TKT_PRE_AUTHENT));
    }
}

#define FAR INT64_C(4102444800) /* the year 2100, as Windows asks */

static void test_times_granted(void **state) /* decision 51 */
{
    static const struct {
        const char *who;
        uint32_t options;
        int64_t from, till, rtime, end, renew_till; /* the last two from NOW; renew_till 0: none */
    } row[] = {
        {"alice", 0,                   0,          0,           0,           36000, 0        }, /* Java: as long as allowed */
        {"alice", 0,                   0,          FAR,         FAR,         36000, 0        },
        {"alice", 0,                   0,          NOW + 100,   0,           100,   0        },
        {"alice", 0,                   NOW + 300,  NOW + 36000, 0,           36000, 0        }, /* starts now all the same */
        {"alice", 0,                   NOW - 5000, FAR,         0,           36000, 0        },
        {"frank", F(OPT_RENEWABLE),    0,          FAR,         FAR,         36000, 7 * 86400},
        {"frank", F(OPT_RENEWABLE),    0,          0,           0,           36000, 7 * 86400},
        {"frank", F(OPT_RENEWABLE),    0,          FAR,         NOW + 90000, 36000, 90000    },
        {"frank", F(OPT_RENEWABLE),    0,          FAR,         NOW + 36000, 36000, 0        },
        {"frank", F(OPT_RENEWABLE),    0,          FAR,         NOW + 36001, 36000, 36001    },
        {"frank", F(OPT_RENEWABLE),    0,          FAR,         NOW + 100,   36000, 0        }, /* before it ends anyway */
        {"frank", F(OPT_RENEWABLE_OK), 0,          NOW + 90000, 0,           36000, 90000    },
        {"frank", F(OPT_RENEWABLE_OK), 0,          NOW + 3000,  0,           3000,  0        },
        {"frank", 0,                   0,          FAR,         FAR,         36000, 0        },
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct as_ask a = {row[i].who,
                           TGS,
                           .options = row[i].options,
                           .password = "correct horse",
                           .from = row[i].from,
                           .till = row[i].till,
                           .rtime = row[i].rtime,
                           .nonce = (uint32_t)i + 1,
                           .ahead_us = (int64_t)i};
        struct sp_key k = password_key(row[i].who, "correct horse", 18);
        struct got g = as_got(run(as_req(a)), &k);

        assert_int_equal(g.part.starttime, NOW);
        assert_int_equal(g.part.authtime, NOW);
        assert_int_equal(g.part.endtime, NOW + row[i].end);
        assert_int_equal(g.part.renew_till, row[i].renew_till ? NOW + row[i].renew_till : 0);
        g = fetch(&g, (struct tgs_ask){"cifs/nas1", .till = row[i].till, .rtime = row[i].rtime,
                                       .options = row[i].options});
        assert_int_equal(g.part.endtime, NOW + row[i].end);
        assert_int_equal(g.part.renew_till, 0);
        assert_int_equal(g.part.authtime, NOW);
    }
}

static void test_lifetimes(void **state) /* section 4: two profiles, settable per service and per account */
{
    /* NOLINTNEXTLINE(bugprone-suspicious-missing-comma): TGS is two literals */
    static const char *const service[] = {TGS, "host/nas1", "cifs/nas1", "nfs/nas1", "kadmin/changepw"};
    static const int32_t life[2][5] = {
        {36000, 900,   36000, 36000, 300},
        {36000, 36000, 36000, 36000, 300}
    };

    (void)state;
    add("nfs/nas1", STORE_SERVICE, 0, NULL);
    for (int p = 0; p < 2; p++) {
        kdc_config_defaults(&W.cf, p ? KDC_WINDOWS_LIKE : KDC_STANDARD);
        assert_true(W.cf.skew_s == 300 && W.cf.renew_life_s == 0 && !W.cf.forwardable);
        assert_true(W.cf.guess_limits && W.cf.reveal_disabled && !W.cf.reveal_unknown);
        assert_true(W.cf.enctype_count == 4 && W.cf.enctypes[0] == 18 && W.cf.enctypes[1] == 17 &&
                    W.cf.enctypes[2] == 20 && W.cf.enctypes[3] == 19); /* decision 11 */
        W.cf.realm = (struct krb_realm){
            SP_LIT(REALM), {NULL, 0}
        };
        for (int i = 0; i < 4; i++)
            W.cf.iterations[i] = 1000;
        for (int i = 0; i < 5; i++) {
            struct got g = login("alice", service[i], 0);

            W.env.wall_us += 1000000;
            assert_int_equal(g.part.endtime - g.part.starttime, life[p][i]);
        }
    }
    account("cifs/nas1")->life_s = 77;
    assert_int_equal(login("alice", "cifs/nas1", 0).part.endtime, W.env.wall_us / 1000000 + 77);
    account("root")->life_s = 55;
    assert_int_equal(login("root", TGS, 0).part.endtime, W.env.wall_us / 1000000 + 55);
    account("frank")->expires_s = W.env.wall_us / 1000000 + 44;
    assert_int_equal(login("frank", TGS, F(OPT_RENEWABLE)).part.endtime, W.env.wall_us / 1000000 + 44);
}

static void netbios_address(struct krb_req_body *b) /* as Windows sends it */
{
    static struct krb_address a[] = {
        {20, {(const uint8_t *)"CLIENT          ", 16}},
        {2,  {(const uint8_t *)"\xc0\0\2\1", 4}       }
    };

    b->has |= KRB_BIT(9);
    b->addresses = (struct krb_addresses){a, 2};
}

static void test_addresses_are_ignored(void **state) /* none is issued: look_inside */
{
    struct sp_key k = password_key("alice", "correct horse", 18);
    struct got g = as_got(
        run(as_req((struct as_ask){"alice", TGS, .password = "correct horse", .edit = netbios_address})), &k);

    (void)state;
    (void)fetch(&g, (struct tgs_ask){"host/nas1", .edit = netbios_address});
    (void)fetch(&g, (struct tgs_ask){"cifs/nas1"});
}

static const int32_t *asked_types;

static void ask_types(struct krb_req_body *b)
{
    for (b->etypes.count = 0; b->etypes.count < 4 && asked_types[b->etypes.count]; b->etypes.count++)
        b->etypes.v[b->etypes.count] = asked_types[b->etypes.count];
}

static void test_session_keys(void **state) /* decision 56; the server's order, decision 11 */
{
    static const struct {
        int32_t asked[4], session, ticket;
        const char *service;
    } row[] = {
        {{20, 19, 17, 18}, 18, 18, "host/nas1"},
        {{20, 17},         17, 18, "host/nas1"}, /* the ticket is the service's affair */
        {{19, 20},         20, 18, "host/nas1"},
        {{19},             19, 18, "host/nas1"},
        {{23, -135, 19},   19, 18, "host/nas1"},
        {{18, 19},         19, 19, "cifs/nas1"}, /* which has that one alone */
        {{18, 17},         0,  0,  "cifs/nas1"},
    };
    struct got tgt, s;

    (void)state;
    keep_keys(account("cifs/nas1"), 19);
    tgt = login("alice", TGS, 0);
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct sp_span req;

        asked_types = row[i].asked;
        req = tgs_req(&tgt, (struct tgs_ask){row[i].service, .edit = ask_types});
        if (!row[i].session) {
            assert_int_equal(code_of(run(req), NULL), 14);
            continue;
        }
        s = tgs_got(run(req), &tgt, true);
        assert_int_equal(s.session.etype, row[i].session);
        assert_int_equal(s.rep.ticket.enc.etype, row[i].ticket);
        assert_int_equal(s.rep.enc.etype, subkey.etype);
    }
    assert_int_equal(
        code_of(run(as_req((struct as_ask){"alice", "cifs/nas1", .password = "correct horse"})), NULL), 14);
    s.session = password_key("alice", "correct horse", 18);
    s = as_got(run(as_req((struct as_ask){
                   "alice", "cifs/nas1", .etypes = {18, 19},
                       .password = "correct horse"
    })),
               &s.session);
    assert_true(s.session.etype == 19 && s.rep.ticket.enc.etype == 19 && s.rep.enc.etype == 18);
    (void)run(as_req((struct as_ask){"alice", TGS, .etypes = {23}}));
    assert_non_null(strstr(W.out.record.text, "RC4")); /* the log says why */
}

static void test_parameters_of_keys(void **state) /* s2kparams only where they differ from the type's own */
{
    static const struct {
        int32_t etype;
        uint32_t set;
        int told;
    } row[] = {
        {18, 0,     0    },
        {18, 4096,  0    },
        {18, 4097,  4097 },
        {17, 0,     0    },
        {17, 32768, 32768},
        {20, 0,     0    },
        {20, 32768, 0    },
        {19, 32768, 0    },
        {19, 4096,  4096 },
    };

    (void)state;
    assert_true(crypto_find_type(17)->s2k_iter == 4096 && crypto_find_type(18)->s2k_iter == 4096);
    assert_true(crypto_find_type(19)->s2k_iter == 32768 && crypto_find_type(20)->s2k_iter == 32768);
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        for (int known = 0; known < 2; known++) {
            struct krb_padata methods;
            struct krb_infos2 info;
            struct krb_error err = {0};
            struct sp_err e = {0};

            for (int j = 0; j < 4; j++) {
                W.cf.iterations[j] = row[i].set;
                W.keys[account("alice") - W.account][j].iterations = row[i].set;
            }
            assert_int_equal(code_of(run(as_req((struct as_ask){known ? "alice" : "nobody", TGS,
                                                                .etypes = {row[i].etype}})),
                                     &err),
                             25);
            assert_true(krb_get(KRB_PADATA, err.data, KRB_STRICT, &W.cm, &methods, &e));
            assert_true(krb_get(KRB_INFOS2, methods.v[0].value, KRB_STRICT, &W.cm, &info, &e));
            assert_int_equal(info.v[0].etype, row[i].etype);
            assert_int_equal(KRB_HAS(&info.v[0], 2), row[i].told != 0);
            if (row[i].told)
                assert_int_equal(info.v[0].params.p[2] << 8 | info.v[0].params.p[3], row[i].told);
        }
}

static void test_key_expiration(void **state) /* decision 56: present when there is one */
{
    struct got g = login("alice", TGS, 0);

    (void)state;
    assert_false(KRB_HAS(&g.part, 3));
    account("alice")->password_expires_s = NOW + 5000;
    W.env.wall_us += 1000;
    g = login("alice", TGS, 0);
    assert_true(KRB_HAS(&g.part, 3));
    assert_int_equal(g.part.key_expiration, NOW + 5000);
    g = fetch(&g, (struct tgs_ask){"host/nas1"});
    assert_false(KRB_HAS(&g.part, 3));
    account("erin")->flags |= STORE_NO_EXPIRY;
    g = login("erin", TGS, 0);
    assert_false(KRB_HAS(&g.part, 3));
}

/* The account's id goes with the TGT, in AD-IF-RELEVANT under a number of ours, and nowhere else. */
static void test_account_in_tickets(void **state) /* decisions 15, 54 */
{
    struct got g = login("alice", TGS, F(OPT_RENEWABLE)), s;
    struct krb_authdata inner;
    struct sp_err e = {0};

    (void)state;
    assert_true(KRB_HAS(&g.inside, 10) && g.inside.authdata.count == 1);
    assert_int_equal(g.inside.authdata.v[0].type, AD_IF_RELEVANT);
    assert_true(krb_get(KRB_AUTHDATA, g.inside.authdata.v[0].data, KRB_STRICT, &W.cm, &inner, &e));
    assert_true(inner.count == 1 && inner.v[0].type == AD_SALLYPORT_ACCOUNT && inner.v[0].type < 0);
    s = login("alice", "kadmin/changepw", 0);
    assert_true(KRB_HAS(&s.inside, 10));
    s = fetch(&g, (struct tgs_ask){TGS}); /* a TGT from a TGT */
    assert_true(KRB_HAS(&s.inside, 10));
    s = fetch(&g, (struct tgs_ask){"host/nas1"}); /* no PAC either */
    assert_false(KRB_HAS(&s.inside, 10));
    s = login("alice", "cifs/nas1", 0);
    assert_false(KRB_HAS(&s.inside, 10));
}

static void test_service_as_client(void **state) /* decision 55 */
{
    struct krb_kdc_req m = {.has = KRB_BIT(3)};
    struct as_ask a = {"host/nas1", TGS, .options = F(OPT_CANONICALIZE)};
    const struct store_key *k = store_find_key(account("host/nas1"), 18, 0);
    struct krb_pa pa = stamp_with(&k->key, &a);
    struct got g;

    (void)state;
    fill_body(&m.body, &a);
    m.padata = (struct krb_padata){&pa, 1};
    g = as_got(run(put(KRB_AS_REQ, &m)), &k->key);
    assert_int_equal(g.rep.cname.parts.count, 2);
    (void)fetch(&g, (struct tgs_ask){"cifs/nas1"});
    assert_int_equal(code_of(run(tgs_req(&g, (struct tgs_ask){"alice"})), NULL), 7);
}

static int32_t service_type;

static void type_service(struct krb_req_body *b)
{
    b->sname.type = service_type;
}

static void test_forms_of_names(void **state) /* section 1, decisions 13, 20, 49 */
{
    static const struct {
        const char *who;
        int32_t type;
        bool canonicalize;
        const char *cname; /* in the reply; NULL: unknown */
        int32_t ctype;
        const char *account;
    } row[] = {
        {"alice",              NT_PRINCIPAL,  false, "alice",            NT_PRINCIPAL,  "alice"           },
        {"alice",              NT_PRINCIPAL,  true,  "alice",            NT_PRINCIPAL,  "alice"           },
        {"alice",              -3,            false, "alice",            -3,            "alice"           },
        {"alice",              99,            false, "alice",            99,            "alice"           },
        {"alice",              99,            true,  "alice",            NT_PRINCIPAL,  "alice"           },
        {"alice@NAS1",         NT_ENTERPRISE, false, "alice@NAS1",       NT_ENTERPRISE, "alice"           },
        {"alice@nas1",         NT_ENTERPRISE, true,  "alice",            NT_PRINCIPAL,  "alice"           },
        {"alice@nas1.example", NT_ENTERPRISE, true,  "alice",            NT_PRINCIPAL,  "alice"           },
        {"alice@NAS1",         NT_PRINCIPAL,  false, "alice@NAS1",       NT_PRINCIPAL,  "alice"           }, /* escaped by the client */
        {"alice@ELSEWHERE",    NT_ENTERPRISE, true,  NULL,               0,             "alice"           },
        {"al",                 NT_PRINCIPAL,  false, "al",               NT_PRINCIPAL,  "alice"           },
        {"al",                 NT_PRINCIPAL,  true,  "alice",            NT_PRINCIPAL,  "alice"           },
        {"ALICE",              NT_PRINCIPAL,  true,  NULL,               0,             "alice"           },
        {"PC7$",               NT_PRINCIPAL,  false, "PC7$",             NT_PRINCIPAL,  "PC7$"            }, /* without case */
        {"pc7$",               NT_PRINCIPAL,  true,  "PC7$",             NT_PRINCIPAL,  "PC7$"            },
        {"pc7$@NAS1",          NT_ENTERPRISE, true,  "PC7$",             NT_PRINCIPAL,  "PC7$"            },
        {"gina@example.com",   NT_ENTERPRISE, false, "gina@example.com", NT_ENTERPRISE,
         "gina@example.com"                                                                               }, /* one component */
        {"gina@example.com",   NT_PRINCIPAL,  true,  "gina@example.com", NT_PRINCIPAL,  "gina@example.com"},
    };

    (void)state;
    add("PC7$", STORE_USER, 0, NULL);
    add("gina@example.com", STORE_USER, 0, NULL)->name = SP_LIT("gina\\@example.com");
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct as_ask a = {row[i].who,
                           i % 2 ? TGS : "HOST/Nas1",
                           .name_type = row[i].type,
                           .password = "correct horse",
                           .salt_of = row[i].account,
                           .options = row[i].canonicalize ? F(OPT_CANONICALIZE) : 0};
        struct sp_key k = password_key(row[i].account, "correct horse", 18);
        struct sp_span reply = run(as_req(a));
        struct got g, t;

        if (!row[i].cname) {
            assert_int_equal(code_of(reply, NULL), 24);
            continue;
        }
        g = as_got(reply, &k);
        assert_int_equal(g.rep.cname.parts.count, 1);
        assert_true(sp_same(g.rep.cname.parts.v[0], sp_str(row[i].cname)));
        assert_int_equal(g.rep.cname.type, row[i].ctype);
        assert_true(sp_same(g.part.sname.parts.v[1], sp_str(i % 2 ? REALM : "Nas1"))); /* byte for byte */
        if (i % 2 == 0)
            continue;
        t = fetch(&g, (struct tgs_ask){"Cifs/nAS1", .options = F(OPT_CANONICALIZE)});
        assert_true(krb_same_name(&t.rep.cname, &g.rep.cname) && t.rep.cname.type == g.rep.cname.type);
        assert_true(sp_same(t.part.sname.parts.v[0], SP_LIT("Cifs")));
        assert_false(KRB_HAS(&t.rep, 2) || KRB_HAS(&t.part, 12));
    }
    for (int32_t type = 0; type < 4; type++) { /* name types are ignored and echoed: look_inside */
        struct got g = login("alice", TGS, 0), t;

        W.env.wall_us += 1000;
        service_type = type == 3 ? 99 : type;
        t = fetch(&g, (struct tgs_ask){"host/nas1", .edit = type_service});
        assert_int_equal(t.part.sname.type, service_type);
    }
}

static void test_aliases_of_the_realm(void **state) /* section 1, decision 50 */
{
    static const struct {
        const char *realm, *service, *who;
        int32_t type;
        uint32_t options;
        int32_t code;
    } row[] = {
        {".",            "krbtgt/.",            "alice", NT_PRINCIPAL,  F(OPT_CANONICALIZE), 0 },
        {"",             "krbtgt/NAS1",         "alice", NT_PRINCIPAL,  F(OPT_CANONICALIZE), 0 },
        {"nas1",         "krbtgt/nas1",         "alice", NT_PRINCIPAL,  F(OPT_CANONICALIZE), 0 },
        {"nas1.example", "krbtgt/Nas1.Example", "alice", NT_PRINCIPAL,  F(OPT_CANONICALIZE), 0 },
        {"nas1.example", "krbtgt/nas1.example", "alice", NT_ENTERPRISE, 0,                   0 },
        {"NAS1",         "krbtgt/nas1.example", "alice", NT_ENTERPRISE, 0,                   0 },
        {".",            "krbtgt/NAS1",         "alice", NT_PRINCIPAL,  0,                   68},
        {"",             "krbtgt/NAS1",         "alice", NT_PRINCIPAL,  0,                   68},
        {"NAS1.EXAMPLE", "krbtgt/NAS1",         "alice", NT_PRINCIPAL,  0,                   68},
        {"nas2",         "krbtgt/nas2",         "alice", NT_PRINCIPAL,  F(OPT_CANONICALIZE), 68},
        {"NAS1",         "krbtgt/nas2",         "alice", NT_PRINCIPAL,  F(OPT_CANONICALIZE), 7 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct as_ask a = {row[i].who,
                           row[i].service,
                           row[i].realm,
                           .name_type = row[i].type,
                           .options = row[i].options,
                           .password = "correct horse"};
        struct sp_key k = password_key("alice", "correct horse", 18);
        struct krb_error err = {0};
        struct sp_span reply = run(as_req(a));
        struct got g;

        assert_int_equal(code_of(reply, &err), row[i].code);
        if (row[i].code == 68) { /* names the real realm to who asked for an alias of it, else nothing */
            assert_int_equal(KRB_HAS(&err, 7), strcmp(row[i].realm, "nas2") != 0);
            assert_true(!KRB_HAS(&err, 7) || sp_same(err.crealm, SP_LIT(REALM)));
        }
        if (row[i].code)
            continue;
        g = as_got(reply, &k); /* crealm, srealm, the ticket's realm: look_inside */
        assert_true(sp_same(g.part.sname.parts.v[1], SP_LIT(REALM)));
        g = tgs_got(
            run(tgs_req(&g, (struct tgs_ask){"host/nas1", row[i].realm, .options = F(OPT_CANONICALIZE)})), &g,
            true);
    }
}

static void negative_nonce(struct krb_req_body *b)
{
    b->nonce = -5;
}

static void test_nonces(void **state) /* decision 16: echoed as sent */
{
    struct sp_key k = password_key("alice", "correct horse", 18);
    struct got g = as_got(
        run(as_req((struct as_ask){"alice", TGS, .password = "correct horse", .nonce = UINT32_MAX})), &k);

    (void)state;
    assert_int_equal(g.part.nonce, UINT32_MAX);
    g = as_got(
        run(as_req((struct as_ask){"alice", TGS, .password = "correct horse", .edit = negative_nonce})), &k);
    assert_int_equal(g.part.nonce, -5);
    g = fetch(&g, (struct tgs_ask){"host/nas1", .edit = negative_nonce});
    assert_int_equal(g.part.nonce, -5);
}

/* RFC 6806 11 with an enterprise name, and in a TGS request, where MIT is alone with it (section 2). */
static void test_protection_elsewhere(void **state)
{
    struct as_ask a = {"alice@" REALM, TGS, .name_type = NT_ENTERPRISE, .password = "correct horse",
                       .protect = true};
    struct sp_key k = password_key("alice", "correct horse", 18);
    struct got g = as_got(run(as_req(a)), &k);

    (void)state;
    assert_true((g.part.flags & F(TKT_ENC_PA_REP)) && KRB_HAS(&g.part, 12));
    g = fetch(&g, (struct tgs_ask){TGS, .options = F(OPT_CANONICALIZE), .extra_pa = PA_REQ_ENC_PA_REP});
    assert_false((g.part.flags & F(TKT_ENC_PA_REP)) || KRB_HAS(&g.part, 12) || KRB_HAS(&g.rep, 2));
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

static void test_replays_outlive_the_block(void **state)
{
    static uint8_t saved[1 << 16];
    const struct kdc_hash one = {1, 2}, two = {3, 4};
    int64_t at = W.env.mono_us;
    size_t n;

    (void)state;
    assert_int_equal(kdc_replay_note(W.k.shared, at, 100, SP_LIT("long"), one), KDC_NEW);
    assert_int_equal(kdc_replay_note(W.k.shared, at, 10, SP_LIT("short"), one), KDC_NEW);
    assert_int_equal(kdc_shared_save_replays(W.k.shared, W.env, saved, 23), 0);
    n = kdc_shared_save_replays(W.k.shared, W.env, saved, sizeof saved);
    assert_int_equal(n, 24 + 2 * 32);
    fresh_shared();
    wait_s(50);
    W.env.mono_us -= 40 * INT64_C(1000000); /* another clock: the machine was started anew */
    kdc_shared_load_replays(W.k.shared, W.env, sp_span(saved, n - 1)); /* not one of ours */
    kdc_shared_load_replays(W.k.shared, W.env, sp_span(saved, n));
    at = W.env.mono_us;
    assert_int_equal(kdc_replay_note(W.k.shared, at, 100, SP_LIT("long"), one), KDC_SAME_REQUEST);
    assert_int_equal(kdc_replay_note(W.k.shared, at, 100, SP_LIT("long"), two), KDC_REPLAYED);
    assert_int_equal(kdc_replay_note(W.k.shared, at, 10, SP_LIT("short"), two), KDC_NEW);
    at += 53 * INT64_C(1000000); /* ends are rounded up to seconds, when noted and when loaded */
    assert_int_equal(kdc_replay_note(W.k.shared, at, 100, SP_LIT("long"), two), KDC_NEW);
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

static void test_guess_longest_wait(void **state) /* 2 s, 4 s, ... up to 15 minutes, and then that again */
{
    static const int64_t waits[] = {2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900};

    (void)state;
    assert_true(guess(1, "alice", "correct horse")); /* familiar: no budget of strangers in the way */
    for (int i = 0; i < 4; i++)
        assert_true(guess(1, "alice", "wrong"));
    for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
        wait_s(waits[i] - 1);
        assert_false(guess(1, "alice", "correct horse")); /* nothing is verified, and no wait begins anew */
        assert_int_equal(W.out.record.code, 24);
        wait_s(1);
        assert_true(guess(1, "alice", "wrong"));
    }
    wait_s(900);
    assert_true(guess(1, "alice", "correct horse"));
    assert_int_equal(W.out.record.code, 0);
    W.cf.guess_limits = false; /* tests only */
    for (int i = 0; i < 100; i++)
        assert_true(guess(5, "alice", "wrong"));
}

static bool reserved(const struct kdc_source *s, uint64_t account)
{
    struct kdc_guess g;

    return kdc_guess_reserve(W.k.shared, &W.cf, W.env, s, account, &g);
}

static void test_guess_attested(void **state) /* decision 59 */
{
    struct kdc_source direct = source(1), said = source(1), whole = source(3);
    struct kdc_guess g;
    int n;

    (void)state;
    said.attester = 1001;
    whole.attester = 1001;
    whole.whole_service = true;
    assert_true(kdc_guess_reserve(W.k.shared, &W.cf, W.env, &direct, 5, &g));
    kdc_guess_success(W.k.shared, W.env, &direct, &g);
    assert_true(kdc_guess_reserve(W.k.shared, &W.cf, W.env, &whole, 5, &g));
    kdc_guess_success(W.k.shared, W.env, &whole, &g);
    for (n = 0; n < 50; n++) { /* strangers use up the account's budget */
        struct kdc_source s = source((uint8_t)(100 + n));

        if (!reserved(&s, 5))
            break;
    }
    assert_int_equal(n, KDC_GUESS_UNFAMILIAR);
    assert_true(reserved(&direct, 5));
    assert_false(reserved(&said, 5));  /* the same address, vouched for by another */
    assert_false(reserved(&whole, 5)); /* stands for everybody: never familiar */
    fresh_shared();
    for (n = 0; n < 100; n++) { /* one attester, one account, as many addresses as it likes to name */
        struct kdc_source s = source((uint8_t)n);

        s.attester = 1001;
        s.loopback = true;
        if (!reserved(&s, 5))
            break;
    }
    assert_int_equal(n, KDC_GUESS_ATTESTER);
    wait_s(KDC_GUESS_WINDOW_S);
    assert_true(reserved(&said, 5));
}

/* Tries that overlap: what is given back is one's own, not what another took meanwhile. */
static void test_guess_give_back(void **state)
{
    struct kdc_source s = source(1);
    struct kdc_guess g[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_true(kdc_guess_reserve(W.k.shared, &W.cf, W.env, &s, 5, &g[i]));
    kdc_guess_give_back(W.k.shared, &g[0]);
    assert_true(reserved(&s, 5));
    assert_true(reserved(&s, 5));
    assert_false(reserved(&s, 5)); /* two of the three, and two more */
}

/* A table that is full drops the counters that say least: nobody gets out of a wait by filling it. */
static void test_guess_table_full(void **state)
{
    struct kdc_source s = source(1), other = source(2);

    (void)state;
    for (int i = 0; i < KDC_GUESS_FREE; i++)
        assert_true(reserved(&s, 5));
    for (int i = 0; i < 5000; i++) {
        other.id[6] = (uint8_t)i;
        other.id[7] = (uint8_t)(1 + i / 256);
        (void)reserved(&other, 1000 + (uint64_t)i);
        if (i % 50 == 0)
            assert_false(reserved(&s, 5));
    }
    wait_s(2);
    assert_true(reserved(&s, 5));
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

/* ---- SPAKE (RFC 9588): the other end, made of the same parts ---- */

struct offer { /* what error 25 or 91 brought */
    int32_t code, type[6];
    uint32_t count;
    struct krb_info2 info;
    struct sp_span reply, support, message, cookie; /* support: PA-SPAKE as sent; message: as it came */
    struct krb_pa_spake spake;                      /* has 0: none, or a hint */
};

static struct sp_span support_of(int32_t first, int32_t second)
{
    int32_t group[2] = {first, second};
    struct krb_pa_spake m = {
        .has = KRB_BIT(0), .support.groups = {group, second ? 2 : 1}
    };

    return first ? put(KRB_PA_SPAKE, &m) : SP_LIT("");
}

static struct sp_span as_req_with(const struct as_ask *a, const struct krb_pa *pa, uint32_t count)
{
    struct krb_kdc_req m = {.has = count ? KRB_BIT(3) : 0};
    struct krb_pa all[4];

    for (uint32_t i = 0; i < count; i++)
        all[i] = pa[i];
    m.padata = (struct krb_padata){all, count};
    fill_body(&m.body, a);
    return put(KRB_AS_REQ, &m);
}

static void read_offer(struct sp_span reply, struct offer *o)
{
    struct krb_error err = {0};
    struct krb_padata methods = {0};
    struct krb_infos2 infos = {0};
    struct sp_err e = {0};

    o->reply = reply;
    o->code = code_of(reply, &err);
    if (o->code != 25 && o->code != 91)
        return;
    assert_false(KRB_HAS(&err, 11));
    assert_true(krb_get(KRB_PADATA, err.data, KRB_STRICT, &W.cm, &methods, &e));
    o->count = methods.count;
    for (uint32_t i = 0; i < methods.count && i < 6; i++) {
        const struct krb_pa *pa = &methods.v[i];

        o->type[i] = pa->type;
        if (pa->type == PA_ETYPE_INFO2) {
            assert_true(krb_get(KRB_INFOS2, pa->value, KRB_STRICT, &W.cm, &infos, &e));
            assert_int_equal(infos.count, 1);
            o->info = infos.v[0];
        } else if (pa->type == PA_SPAKE && pa->value.n) {
            o->message = pa->value;
            assert_true(krb_get(KRB_PA_SPAKE, pa->value, KRB_STRICT, &W.cm, &o->spake, &e));
            assert_int_equal(o->spake.has, KRB_BIT(1));
            assert_int_equal(o->spake.challenge.factors.count, 1);
            assert_int_equal(o->spake.challenge.factors.v[0].type, KRB_SPAKE_SF_NONE);
        } else if (pa->type == PA_FX_COOKIE) {
            o->cookie = pa->value;
        }
    }
}

static struct offer challenged(struct as_ask a, int32_t first, int32_t second)
{
    struct offer o = {.support = support_of(first, second)};
    struct krb_pa pa = {PA_SPAKE, o.support};

    a.password = NULL;
    read_offer(run(as_req_with(&a, &pa, first != 0)), &o);
    return o;
}

enum lie {
    HONEST,
    BAD_POINT,
    SHORT_POINT,
    OTHER_FACTOR,
    OTHER_TYPE,
    OTHER_BODY,
    OTHER_SUPPORT,
    NO_COOKIE,
    GARBAGE
};
static struct sp_key spake_reply;      /* K'[0] of the last response */
static const struct sp_key *spake_key; /* instead of the password's */

/* S, and K as the client has it. */
static void client_share(const struct offer *o, const struct sp_key *ikey, uint8_t w[32], uint8_t s[33],
                         uint8_t k[33])
{
    int32_t g = o->spake.challenge.group;
    struct sp_err e = {0};
    uint8_t y[32];

    assert_true(krb_spake_w(W.k.crypto, g, ikey, w, &e));
    assert_true(crypto_group_keygen(W.k.crypto, g, CRYPTO_BLIND_N, w, &W.rng.rng, y, s, &e));
    assert_true(crypto_group_result(W.k.crypto, g, CRYPTO_BLIND_M, w, y, o->spake.challenge.pubkey, k, &e));
}

static struct krb_pa response_pa(const struct offer *o, const struct as_ask *a, struct sp_span body,
                                 enum lie lie)
{
    int32_t g = o->spake.challenge.group;
    size_t n = crypto_find_group(g)->point_n;
    struct sp_key ikey = password_key(a->salt_of ? a->salt_of : a->client, a->password, o->info.etype), k1;
    struct krb_spake_factor f = {.type = lie == OTHER_FACTOR ? 2 : KRB_SPAKE_SF_NONE};
    struct krb_pa_spake m = {.has = KRB_BIT(2)};
    struct krb_spake_hash h = {0};
    struct sp_err e = {0};
    uint8_t w[32], *s = room(33), k[33];
    struct krb_spake_derivation from = {g, &ikey, w, sp_span(k, n), &h, body};

    if (spake_key)
        ikey = *spake_key;
    client_share(o, &ikey, w, s, k);
    if (lie == BAD_POINT)
        memset(s, 0xff, n);
    assert_true(
        krb_spake_update(W.k.crypto, g, &h, lie == OTHER_SUPPORT ? SP_LIT("x") : o->support, o->message, &e));
    assert_true(krb_spake_update(W.k.crypto, g, &h, sp_span(s, n), SP_LIT(""), &e));
    assert_true(krb_spake_key(W.k.crypto, &from, 0, &spake_reply, &e));
    assert_true(krb_spake_key(W.k.crypto, &from, 1, &k1, &e));
    m.response.pubkey = sp_span(s, lie == SHORT_POINT ? n - 1 : n);
    m.response.factor.etype = lie == OTHER_TYPE ? 17 : k1.etype;
    m.response.factor.cipher =
        seal_bytes(lie == GARBAGE ? SP_LIT("garbage") : put(KRB_SPAKE_FACTOR, &f), &k1, KU_SPAKE);
    return (struct krb_pa){PA_SPAKE, put(KRB_PA_SPAKE, &m)};
}

static struct sp_span answer(const struct offer *o, struct as_ask a, enum lie lie)
{
    struct krb_req_body b = {0};
    struct krb_pa pa[3] = {
        {0          },
        { PA_FX_COOKIE,  o->cookie},
        { PA_REQ_ENC_PA_REP, SP_LIT("")}
    };

    fill_body(&b, &a);
    pa[0] = response_pa(o, &a, put(KRB_REQ_BODY, &b), lie);
    if (lie == OTHER_BODY)
        a.nonce = 77;
    if (a.protect)
        return as_req_with(&a, pa, 3);
    return as_req_with(&a, pa, lie == NO_COOKIE ? 1 : 2);
}

static const struct as_ask right = {"alice", TGS, .password = "correct horse"};
static const struct as_ask wrong = {"alice", TGS, .password = "wrong"};

/* Both groups, every type of key, the challenge in the first answer and after support. */
static void test_spake_login(void **state)
{
    static const struct {
        int32_t first, second, group, code;
    } row[] = {
        {0, 0, 1, 25},
        {1, 0, 1, 91},
        {2, 0, 2, 91},
        {1, 2, 1, 91},
        {2, 1, 2, 91},
        {4, 2, 2, 91},
        {3, 1, 1, 91},
    };
    static const int32_t hinted[] = {PA_ETYPE_INFO2, PA_SPAKE, PA_ENC_TIMESTAMP, PA_FX_COOKIE},
                         asked[] = {PA_ETYPE_INFO2, PA_SPAKE, PA_FX_COOKIE};
    static const int32_t type[] = {17, 18, 19, 20};

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        for (int t = 0; t < 4; t++) {
            struct as_ask a = right;
            struct krb_infos2 info;
            struct sp_err e = {0};
            struct offer o;
            struct got g;

            a.etypes[0] = type[t];
            o = challenged(a, row[i].first, row[i].second);
            assert_int_equal(o.code, row[i].code); /* decisions 45 and 46 */
            assert_int_equal(o.count, o.code == 25 ? 4 : 3);
            assert_memory_equal(o.type, o.code == 25 ? hinted : asked, o.count * sizeof o.type[0]);
            assert_int_equal(o.spake.challenge.group, row[i].group);
            assert_string_equal(W.out.record.preauth, "none");
            g = as_got(run(answer(&o, a, HONEST)), &spake_reply);
            assert_string_equal(W.out.record.preauth, "spake");
            assert_true(W.out.record.proven && !W.out.record.failed);
            assert_int_equal(g.rep.enc.etype, type[t]);
            assert_int_equal(g.rep.padata.count, 1); /* decision 45 */
            assert_int_equal(g.rep.padata.v[0].type, PA_ETYPE_INFO2);
            assert_true(krb_get(KRB_INFOS2, g.rep.padata.v[0].value, KRB_STRICT, &W.cm, &info, &e));
            assert_true(info.count == 1 && info.v[0].etype == type[t]);
            assert_int_equal(g.part.flags, F(TKT_INITIAL) | F(TKT_PRE_AUTHENT));
            (void)fetch(&g, (struct tgs_ask){"host/nas1"});
        }
}

/* Decision 44 with SPAKE: the checksum is made with K'[0]. */
static void test_spake_protects(void **state)
{
    struct as_ask a = right;
    struct krb_checksum c;
    struct sp_err e = {0};
    struct sp_span req;
    struct offer o;
    struct got g;

    (void)state;
    a.protect = true;
    a.options = F(OPT_CANONICALIZE);
    o = challenged(a, 0, 0);
    req = answer(&o, a, HONEST);
    g = as_got(run(req), &spake_reply);
    assert_true(g.part.flags & F(TKT_ENC_PA_REP));
    assert_int_equal(g.part.enc_padata.v[0].type, PA_REQ_ENC_PA_REP);
    assert_true(krb_get(KRB_CHECKSUM, g.part.enc_padata.v[0].value, KRB_STRICT, &W.cm, &c, &e));
    assert_true(crypto_verify(W.k.crypto, &spake_reply, KU_AS_REQ, c.type, req, c.sum, &e));
}

/* Whether the last request cost alice one of her free tries: three more are free, then the right password is
 * verified or not. */
static bool was_counted(void)
{
    int64_t at = W.env.wall_us;
    int32_t code;

    for (int i = 0; i < 3; i++) {
        W.env.wall_us = NOW * 1000000 + i;
        assert_int_equal(code_of(run(as_req(wrong)), NULL), 24);
    }
    code = code_of(run(as_req(right)), NULL);
    W.env.wall_us = at;
    assert_true(code == 0 || (code == 24 && W.out.record.inner_code == 18));
    return code != 0;
}

static void later(int64_t s)
{
    W.env.wall_us += s * 1000000;
    W.env.mono_us += (s > 0 ? s : 0) * 1000000;
}

enum between {
    NOTHING,
    LATER_600,
    LATER_601,
    EARLIER_600,
    EARLIER_601,
    RESTART,
    OTHER_KDC,
    ROTATED,
    NEW_PASSWORD,
    ANSWERED,
    FAILED_BEFORE,
    FROM_ROOT,
    FROM_ALIAS,
    COOKIE_CUT,
    COOKIE_LONGER,
    COOKIE_NONE
};

static void happen(enum between what, struct offer *o)
{
    static struct store_key rotated[STORE_KEYS_MAX];
    struct store_account *krbtgt = account(TGS);
    struct as_ask other = right;
    struct sp_err e = {0};
    uint32_t count;

    switch (what) {
    case LATER_600:
    case LATER_601:
        later(what == LATER_600 ? 600 : 601);
        break;
    case EARLIER_600:
    case EARLIER_601:
        later(what == EARLIER_600 ? -600 : -601);
        break;
    case RESTART:
        fresh_shared();
        break;
    case OTHER_KDC:
        W.cf.name_secret[31] ^= 1;
        break;
    case ROTATED: /* twice */
        assert_true(kdc_make_random_keys(&W.cf, &W.rng.rng, 7, NULL, 0, rotated, &count, &e));
        assert_true(kdc_make_random_keys(&W.cf, &W.rng.rng, 6, NULL, 0, rotated + count, &count, &e));
        krbtgt->keys = rotated;
        krbtgt->key_count = 2 * count;
        break;
    case NEW_PASSWORD:
        for (uint32_t i = 0; i < account("alice")->key_count; i++)
            account("alice")->keys[i].key.b[0] ^= 1;
        break;
    case ANSWERED:
        other.nonce = 5;
        (void)as_got(run(answer(o, other, HONEST)), &spake_reply);
        break;
    case FAILED_BEFORE: /* proven, so no try is lost */
        other.nonce = 5;
        assert_int_equal(code_of(run(answer(o, other, OTHER_FACTOR)), NULL), 24);
        break;
    case FROM_ROOT:
        other.client = "root";
        o->cookie = challenged(other, 0, 0).cookie;
        break;
    case FROM_ALIAS:
        other.client = "al";
        o->cookie = challenged(other, 0, 0).cookie;
        break;
    case COOKIE_CUT:
        o->cookie.n--;
        break;
    case COOKIE_LONGER:
        memcpy(room(o->cookie.n + 1), o->cookie.p, o->cookie.n);
        o->cookie.n++;
        break;
    case COOKIE_NONE:
        o->cookie = SP_LIT("");
        break;
    case NOTHING:
        break;
    }
}

/* T054, and every other way in which a response can be wrong. */
static const struct {
    const char *why;
    enum between between;
    enum lie lie;
    struct as_ask a;
    int32_t code;
    bool counted;
} spake_row[] = {
    {"right",                              NOTHING,       HONEST,        {"alice", TGS, .password = "correct horse"},          0,  false},
    {"wrong password",                     NOTHING,       HONEST,        {"alice", TGS, .password = "wrong"},                  24, true },
    {"600 s old",                          LATER_600,     HONEST,        {"alice", TGS, .password = "correct horse"},          0,  false},
    {"T054 expired",                       LATER_601,     HONEST,        {"alice", TGS, .password = "correct horse"},          90, false},
    {"T054 expired, wrong password",       LATER_601,     HONEST,        {"alice", TGS, .password = "wrong"},                  90, false},
    {"server's clock set back",            EARLIER_600,   HONEST,        {"alice", TGS, .password = "correct horse"},          0,  false},
    {"server's clock set back further",
     EARLIER_601,                                         HONEST,
     {"alice", TGS, .password = "correct horse"},
     90,                                                                                                                           false},
    {"after a restart",                    RESTART,       HONEST,        {"alice", TGS, .password = "correct horse"},          0,  false},
    {"T054 of another KDC",                OTHER_KDC,     HONEST,        {"alice", TGS, .password = "correct horse"},          24, false},
    {"T054 after two rotations",           ROTATED,       HONEST,        {"alice", TGS, .password = "correct horse"},          0,  false},
    {"T054 replayed after success",        ANSWERED,      HONEST,        {"alice", TGS, .password = "correct horse"},          24, false},
    {"T054 replayed after success, wrong", ANSWERED,      HONEST,        {"alice", TGS, .password = "wrong"},                  24, false},
    {"used up by a failure",               FAILED_BEFORE, HONEST,        {"alice", TGS, .password = "correct horse"},          24, false},
    {"T054 of another client",             FROM_ROOT,     HONEST,        {"alice", TGS, .password = "correct horse"},          24, false},
    {"of another name of the client",
     FROM_ALIAS,                                          HONEST,
     {"alice", TGS, .password = "correct horse"},
     24,                                                                                                                           false},
    {"cookie cut",                         COOKIE_CUT,    HONEST,        {"alice", TGS, .password = "correct horse"},          24, false},
    {"cookie longer",                      COOKIE_LONGER, HONEST,        {"alice", TGS, .password = "correct horse"},          24, false},
    {"cookie empty",                       COOKIE_NONE,   HONEST,        {"alice", TGS, .password = "correct horse"},          24, false},
    {"no cookie",                          NOTHING,       NO_COOKIE,     {"alice", TGS, .password = "correct horse"},          24, false},
    {"another factor",                     NOTHING,       OTHER_FACTOR,  {"alice", TGS, .password = "correct horse"},          24, false},
    {"a factor that cannot be read",
     NOTHING,                                             GARBAGE,
     {"alice", TGS, .password = "correct horse"},
     60,                                                                                                                           false},
    {"factor of another type",             NOTHING,       OTHER_TYPE,    {"alice", TGS, .password = "correct horse"},          24, true },
    {"no point",                           NOTHING,       BAD_POINT,     {"alice", TGS, .password = "correct horse"},          24, true },
    {"point too short",                    NOTHING,       SHORT_POINT,   {"alice", TGS, .password = "correct horse"},          24, true },
    {"another body than was proven",
     NOTHING,                                             OTHER_BODY,
     {"alice", TGS, .password = "correct horse"},
     24,                                                                                                                           true },
    {"another support than was sent",
     NOTHING,                                             OTHER_SUPPORT,
     {"alice", TGS, .password = "correct horse"},
     24,                                                                                                                           true },
    {"unknown service",                    NOTHING,       HONEST,        {"alice", "cifs/other", .password = "correct horse"}, 7,  false},
    {"service disabled",                   NOTHING,       HONEST,        {"alice", "HTTP/off", .password = "correct horse"},   19, false},
    {"disabled",                           NOTHING,       HONEST,        {"bob", TGS, .password = "correct horse"},            18, false},
    {"disabled, wrong",                    NOTHING,       HONEST,        {"bob", TGS, .password = "wrong"},                    24, true },
    {"must change",                        NOTHING,       HONEST,        {"carol", TGS, .password = "correct horse"},          23, false},
    {"must change, for the change",
     NOTHING,                                             HONEST,
     {"carol", "kadmin/changepw", .password = "correct horse"},
     0,                                                                                                                            false},
    {"account expired",                    NOTHING,       HONEST,        {"dave", TGS, .password = "correct horse"},           1,  false},
    {"unknown user",                       NOTHING,       HONEST,        {"nobody", TGS, .password = "correct horse"},         24, true },
    {"the stand-in's own key",
     NOTHING,                                             HONEST,
     {"nobody", TGS, .password = "correct horse", .salt_of = "alice"},
     24,                                                                                                                           true },
};

static void test_spake_refusals(void **state)
{
    int bad = 0;

    (void)state;
    for (size_t i = 0; i < sizeof spake_row / sizeof spake_row[0]; i++) {
        for (int32_t support = 0; support < 3; support++) {
            struct as_ask a = spake_row[i].a, first = a;
            struct krb_error err = {0};
            struct offer o;
            int32_t code;
            bool proven;

            (void)teardown(NULL);
            (void)setup(NULL);
            first.service = TGS;
            o = challenged(first, support, 0);
            assert_int_equal(o.code, support ? 91 : 25);
            happen(spake_row[i].between, &o);
            code = code_of(run(answer(&o, a, spake_row[i].lie)), &err);
            proven = W.out.record.proven;
            if (code != spake_row[i].code || W.out.record.code != code || KRB_HAS(&err, 12) ||
                W.out.record.failed != spake_row[i].counted || (code == 0 && !proven) ||
                (strcmp(a.client, "alice") == 0 && was_counted() != spake_row[i].counted)) {
                bad++;
                print_error("%s (%d): %d (%s), expected %d\n", spake_row[i].why, support, code,
                            W.out.record.text, spake_row[i].code);
            }
        }
    }
    assert_int_equal(bad, 0);
}

/* T054: every bit of the cookie counts, and none of it a try. */
static void test_spake_flipped_cookies(void **state)
{
    struct offer o = challenged(right, 0, 0);
    size_t n = o.cookie.n, mark = W.cm.used;
    uint8_t *p = room(n);

    (void)state;
    assert_true(n > 64);
    for (size_t i = 0; i < 8 * n; i++) {
        struct offer bent = o;

        memcpy(p, o.cookie.p, n);
        p[i / 8] ^= (uint8_t)(1 << i % 8);
        bent.cookie = sp_span(p, n);
        assert_int_equal(code_of(run(answer(&bent, right, HONEST)), NULL), 24);
        assert_false(W.out.record.failed);
        W.cm.used = mark + ((n + 15) & ~(size_t)15);
    }
    assert_int_equal(code_of(run(answer(&o, right, HONEST)), NULL), 0);
    assert_false(was_counted());
}

/* Of the first leg. */
static void test_spake_offers(void **state)
{
    static const int32_t none[] = {3};
    struct krb_pa_spake m = {
        .has = KRB_BIT(0), .support.groups = {(int32_t *)(uintptr_t)none, 1}
    };
    struct krb_enc enc = {.etype = 18, .cipher = SP_LIT("x")};
    struct krb_pa pa = {PA_SPAKE, {0}};
    struct offer o;

    (void)state;
    pa.value = put(KRB_PA_SPAKE, &m); /* P-384 alone */
    assert_int_equal(code_of(run(as_req_with(&right, &pa, 1)), NULL), 24);
    assert_false(W.out.record.failed);
    m.support.groups.count = 0;
    pa.value = put(KRB_PA_SPAKE, &m);
    assert_int_equal(code_of(run(as_req_with(&right, &pa, 1)), NULL), 24);
    pa.value = SP_LIT(""); /* what only a KDC sends */
    assert_int_equal(code_of(run(as_req_with(&right, &pa, 1)), NULL), 60);
    pa.value = challenged(right, 0, 0).message;
    assert_int_equal(code_of(run(as_req_with(&right, &pa, 1)), NULL), 24);
    pa.value = put(KRB_PA_SPAKE, &(struct krb_pa_spake){.has = KRB_BIT(3), .encdata = enc});
    assert_int_equal(code_of(run(as_req_with(&right, &pa, 1)), NULL), 24);
    assert_false(W.out.record.failed);
    assert_false(was_counted());

    W.cf.challenge = KDC_CHALLENGE_ON_SUPPORT;
    o = challenged(right, 0, 0);
    assert_true(o.code == 25 && o.count == 3 && o.type[1] == PA_SPAKE && o.spake.has == 0);
    o = challenged(right, 1, 0);
    assert_true(o.code == 91 && o.spake.has != 0);
    W.cf.challenge = KDC_CHALLENGE_ALWAYS;

    W.cf.timestamp = false;
    o = challenged(right, 0, 0);
    assert_true(o.code == 25 && o.count == 3 && o.type[1] == PA_SPAKE && o.type[2] == PA_FX_COOKIE);
    assert_int_equal(code_of(run(as_req(right)), NULL), KDC_ERR_PADATA_TYPE_NOSUPP);
    assert_int_equal(code_of(run(as_req(wrong)), NULL), KDC_ERR_PADATA_TYPE_NOSUPP);
    (void)as_got(run(answer(&o, right, HONEST)), &spake_reply);
    W.cf.timestamp = true;

    o = challenged(right, 0, 0);
    W.cf.spake = false; /* then it is unknown padata */
    assert_int_equal(code_of(run(answer(&o, right, HONEST)), NULL), 25);
    o = challenged(right, 1, 0);
    assert_true(o.code == 25 && o.count == 2 && o.type[1] == PA_ENC_TIMESTAMP);
}

/* Decision 46: which doors give a challenge unasked. */
static void test_spake_doors(void **state)
{
    static const struct {
        enum kdc_door door;
        bool near, freely;
        int32_t code;
        bool challenge;
    } row[] = {
        {KDC_TCP,     false, false, 25, true },
        {KDC_TCP,     true,  false, 25, true },
        {KDC_UNIX,    true,  false, 25, true },
        {KDC_UDP,     true,  false, 25, true },
        {KDC_UDP,     false, false, 52, false},
        {KDC_UDP,     false, true,  25, false},
        {KDC_COURIER, false, false, 25, true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct offer o;

        W.door = row[i].door;
        W.from.loopback = row[i].near;
        W.cf.udp_replies_freely = row[i].freely;
        o = challenged(right, 0, 0);
        assert_int_equal(o.code, row[i].code);
        assert_int_equal(o.spake.has != 0, row[i].challenge);
        assert_int_equal(o.cookie.n != 0, row[i].challenge);
    }
}

/* T040: nothing in the exchange is told by the client's clock but what it wants to have. */
static void test_spake_clocks(void **state)
{
    static const int64_t off_s[] = {-301, -299, 299, 301, -86400, 86400, -10 * 365 * 86400, 50 * 365 * 86400};

    (void)state;
    for (size_t i = 0; i < sizeof off_s / sizeof off_s[0]; i++) {
        struct as_ask a = right;
        int64_t till = NOW + off_s[i] + 10 * 86400;
        struct offer o;
        struct got g;

        a.till = till > NOW ? till : 0; /* a client ten years behind must ask for "as long as allowed" */
        o = challenged(a, 0, 0);
        g = as_got(run(answer(&o, a, HONEST)), &spake_reply);
        assert_int_equal(g.part.authtime, NOW);
    }
}

/* Decision 48. */
static void test_spake_retransmission(void **state)
{
    struct offer o = challenged(right, 0, 0);
    struct sp_span req = answer(&o, right, HONEST), first = run(req);

    (void)state;
    assert_int_equal(code_of(first, NULL), 0);
    assert_true(sp_same(run(req), first));
    assert_true(W.out.record.retransmission);
    later(20); /* no longer kept: answered afresh, not refused as a replay */
    (void)as_got(run(req), &spake_reply);
    assert_false(W.out.record.retransmission);
    o = challenged(wrong, 0, 0);
    req = answer(&o, wrong, HONEST);
    first = run(req);
    assert_true(W.out.record.failed);
    for (int i = 0; i < 20; i++) /* one wrong try, however often it is sent */
        assert_true(sp_same(run(req), first));
    assert_int_equal(code_of(run(as_req(right)), NULL), 0);
}

/* Guesses by SPAKE and by timestamp draw on one budget. */
static void test_spake_guesses(void **state)
{
    struct offer o;

    (void)state;
    for (int i = 0; i < 4; i++) {
        o = challenged(wrong, i % 2, 0);
        assert_int_equal(code_of(run(answer(&o, wrong, HONEST)), NULL), 24);
        assert_true(W.out.record.failed);
    }
    o = challenged(right, 0, 0);
    assert_int_equal(code_of(run(answer(&o, right, HONEST)), NULL), 24); /* decision 52: never verified */
    assert_true(W.out.record.inner_code == 18 && !W.out.record.failed && !W.out.record.proven);
    assert_int_equal(code_of(run(as_req(right)), NULL), 24);
    later(3);
    o = challenged(right, 0, 0);
    (void)as_got(run(answer(&o, right, HONEST)), &spake_reply);
}

/* The key that a response of that client is tried with where there is no other. */
static struct sp_key dummy_of(struct krb_name *client)
{
    struct sp_err e = {0};
    struct sp_span lookup;
    struct sp_key k;

    assert_true(krb_name_key(client, &W.cf.realm, &W.cm, &lookup, &e));
    assert_true(kdc_dummy_key(&W.cf, W.k.crypto, 18, lookup, &k, &e));
    return k;
}

/* Even who knew the key that stands in for an unknown name's would get nothing: the stand-in's and, where
 * that has none, the dummy. Nor would who got the name between challenge and response, with no key yet. */
static void test_spake_stand_in(void **state)
{
    struct as_ask a = {"nobody", TGS, .password = "correct horse", .salt_of = "alice"};
    struct krb_name n = name_of(&W.cm, a.client, NT_PRINCIPAL);
    struct offer o = challenged(a, 0, 0), later_known;
    struct sp_key k = dummy_of(&n);
    struct sp_err e = {0};

    (void)state;
    assert_int_equal(code_of(run(answer(&o, a, HONEST)), NULL), 24);
    assert_true(W.out.record.inner_code == 6 && W.out.record.failed && !W.out.record.proven);

    spake_key = &k;
    account("alice")->key_count = 0; /* she is the stand-in */
    o = challenged(a, 0, 0);
    later_known = challenged(a, 0, 0);
    assert_int_equal(code_of(run(answer(&o, a, HONEST)), NULL), 24);
    assert_true(W.out.record.inner_code == 6 && W.out.record.failed && !W.out.record.proven);
    assert_true(krb_name_key(&n, &W.cf.realm, &W.cm, &account("alice")->lookup, &e));
    assert_int_equal(code_of(run(answer(&later_known, a, HONEST)), NULL), 24);
    assert_true(W.out.record.inner_code == 24 && W.out.record.failed && !W.out.record.proven);
    spake_key = NULL;
}

static void blank(struct sp_span s)
{
    if (s.n)
        memset((uint8_t *)(uintptr_t)s.p, 0, s.n);
}

/* T034 for both legs: names of every kind, of one length. But for the name, what is random has one length, is
 * as much and costs as many look-ups. */
static void test_spake_kinds_look_alike(void **state)
{
    static const struct {
        int64_t expires, password_expires;
        uint32_t flags;
        int32_t inner;
    } row[] = {
        {0,       0,       0,                 24},
        {0,       0,       STORE_DISABLED,    24},
        {0,       0,       STORE_MUST_CHANGE, 24},
        {NOW - 1, 0,       0,                 24},
        {0,       NOW - 1, 0,                 24},
        {0,       0,       0,                 18}, /* throttled, with the right password */
        {0,       0,       0,                 6 }, /* unknown */
        {0,       0,       0,                 18}, /* unknown and throttled */
    };
    enum { LOCKED = 5, UNKNOWN = 6, COUNT = 8 };
    static char who[COUNT][5];
    uint64_t drawn = 0;

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        memcpy(who[i], "v34", 3);
        who[i][3] = (char)('a' + i);
        if (i < UNKNOWN) {
            struct store_account *a = add(who[i], STORE_USER, row[i].flags, NULL);

            a->expires_s = row[i].expires;
            a->password_expires_s = row[i].password_expires;
        }
    }
    for (int32_t group = 0; group < 3; group++) {
        struct sp_span first[2] = {{0}, {0}};

        for (int i = 0; i < COUNT; i++) {
            bool locked = i == LOCKED || i == COUNT - 1;
            struct as_ask a = {who[i], TGS, .password = i == LOCKED ? "correct horse" : "wrong"};
            struct sp_span req, reply;
            struct offer o;

            fresh_shared();
            for (int n = 0; locked && n < 4; n++) {
                W.env.wall_us++;
                (void)run(as_req((struct as_ask){who[i], TGS, .password = "wrong"}));
            }
            W.env.wall_us = NOW * 1000000 + 123456;
            W.rng.state = 99;
            W.found = 0;
            o = challenged(a, group, 0);
            assert_int_equal(W.found, 2);
            assert_int_equal(o.code, group ? 91 : 25);
            drawn = i == 0 ? W.rng.state : drawn;
            assert_true(W.rng.state == drawn && drawn != 99);
            req = answer(&o, a, HONEST);
            W.rng.state = 99;
            W.found = 0;
            reply = run(req);
            assert_int_equal(code_of(reply, NULL), 24);
            assert_int_equal(W.found, 2);
            assert_true(W.rng.state == 99);
            assert_int_equal(W.out.record.inner_code, row[i].inner);
            assert_int_equal(W.out.record.failed, !locked);
            blank(o.spake.challenge.pubkey);
            blank(o.cookie);
            if (i == 0) {
                first[0] = o.reply;
                first[1] = reply;
            }
            assert_int_equal(differing(o.reply, first[0]), i > 0);
            assert_int_equal(differing(reply, first[1]), 0);
        }
    }
}

static const struct kdc_source *closer(void *door)
{
    static struct kdc_source s = {
        .id = {1, 7},
          .loopback = true, .text = "uid 7"
    };

    ++*(int *)door;
    return &s;
}

/* T056: so many challenges a source, then a hint; who asks on is told to come back. */
static void test_spake_flood(void **state)
{
    struct krb_pa support = {PA_SPAKE, support_of(1, 0)};
    struct sp_span plain = as_req((struct as_ask){"alice", TGS}), asking = as_req_with(&right, &support, 1);
    struct kdc_request q = {.bytes = plain, .door = KDC_TCP, .source = W.from, .look_closer = closer};
    int given = 0, looks = 0;
    size_t mark = W.cm.used;
    struct offer o = {0};

    (void)state;
    for (int i = 0; i < KDC_CHALLENGES + 10; i++) {
        W.cm.used = mark;
        read_offer(run(plain), &o);
        given += o.cookie.n != 0;
        o = (struct offer){0};
    }
    assert_int_equal(given, KDC_CHALLENGES);
    assert_int_equal(code_of(run(asking), NULL), KDC_ERR_SVC_UNAVAILABLE);
    assert_false(W.out.record.failed);
    W.from = source(2); /* nobody else is hurt */
    assert_true(challenged(right, 0, 0).cookie.n != 0);
    W.from = source(1);
    assert_int_equal(code_of(run(as_req(right)), NULL), 0); /* nor other proofs */
    q.source = W.from; /* where the door can tell users apart, each has a share */
    q.door_data = &looks;
    sp_arena_init(&W.mem, mem_block, sizeof mem_block);
    kdc_step(&W.k, W.env, &q, &W.mem, &W.out);
    read_offer(W.out.reply, &o);
    assert_true(o.cookie.n != 0 && looks == 1);
    later(KDC_CHALLENGES_S);
    assert_true(challenged(right, 0, 0).cookie.n != 0);
    assert_int_equal(code_of(run(asking), NULL), 91);
    fresh_shared();
    W.from.loopback = true;
    for (int i = 0; i < KDC_CHALLENGES * KDC_GUESS_NEAR; i++)
        assert_true(kdc_spend_challenge(W.k.shared, W.env, &W.from));
    assert_false(kdc_spend_challenge(W.k.shared, W.env, &W.from));
}

/* T027 for both legs: too little memory is an error 60, costs nothing, and the same bytes work afterwards. */
static void test_spake_capacities(void **state)
{
    struct krb_pa support = {PA_SPAKE, support_of(2, 0)};
    size_t mark;

    (void)state;
    for (int leg = 0; leg < 2; leg++) {
        struct offer o = challenged(right, 0, 0);
        struct sp_span req = leg ? answer(&o, right, HONEST) : as_req_with(&right, &support, 1);
        int32_t want = leg ? 0 : 91, code = -1;

        mark = W.cm.used;
        for (size_t n = 0; code != want; n += 64) {
            assert_true(n < 65536);
            W.cm.used = mark;
            W.capacity = n;
            fresh_shared();
            code = code_of(run(req), NULL);
            if (code != want)
                assert_int_equal(code, 60);
            W.capacity = sizeof mem_block;
            if (code != want) {
                assert_int_equal(code_of(run(req), NULL), want);
                assert_false(was_counted());
            }
        }
    }
}

/* ---- little memory (T027) ---- */

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

/* T027: every request of the tables above with memory that ends at every place. An error, the next try of the
 * same bytes with enough of it gives what it should, and no failure is held against anybody. */
static void test_capacities_of_all(void **state)
{
    enum { AS = sizeof as_row / sizeof as_row[0], ALL = AS + sizeof tgs_row / sizeof tgs_row[0] };
    struct got tgt = login("alice", TGS, 0);
    size_t mark = W.cm.used;

    (void)state;
    assert_true(ALL >= 60);
    for (size_t i = 0; i < ALL; i++) {
        struct sp_span req, reply;
        int32_t want = i < AS ? as_row[i].code : tgs_row[i - AS].code, code = -1;

        W.cm.used = mark;
        req = i < AS ? as_req(as_row[i].a) : tgs_req(&tgt, tgs_row[i - AS].a);
        for (size_t n = 0; code != want; n += 208) {
            size_t kept = W.cm.used;

            assert_true(n < 65536);
            W.capacity = n;
            fresh_shared();
            reply = run(req);
            code = code_of(reply, NULL);
            if (code != want && code != 60)
                fail_msg("%s: %d with %zu bytes", i < AS ? as_row[i].why : tgs_row[i - AS].why, code, n);
            assert_true(code == want ||
                        sp_same(sp_span(W.out.record.ticket_id, 16), sp_span((uint8_t[16]){0}, 16)));
            assert_int_equal(W.out.record.code, code);
            W.capacity = sizeof mem_block;
            if (code != want) {
                assert_int_equal(code_of(run(req), NULL), want);
                assert_false(W.out.record.retransmission);
            }
            W.cm.used = kept;
        }
    }
}

/* ---- password change ---- */

struct change_ask {
    uint16_t version;
    const char *target, *password;
    bool bad_seq;
    int32_t priv_etype; /* 0: the right one */
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
    priv.enc.etype = a.priv_etype ? a.priv_etype : 18;
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

/* Our own end, which KRB-PRIV names: 24 is IPv6 (RFC 4120 7.5.3). */
static const struct krb_address v4 =
                                    {
                                        2, {(const uint8_t *)"\x7f\0\0\1", 4}
},
                                v6 = {24, {(const uint8_t *)"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\7", 16}};
static const struct krb_address *asked_at = &v4;

static struct sp_span run_change(struct sp_span bytes)
{
    struct kdc_request q = {
        .bytes = bytes, .door = W.door, .source = W.from, .local_address_n = (uint8_t)asked_at->address.n};
    struct sp_err e = {0};

    memcpy(q.local_address, asked_at->address.p, asked_at->address.n);
    sp_arena_init(&W.mem, mem_block, W.capacity);
    kdc_kpasswd_step(&W.k, W.env, &q, &W.mem, &W.out);
    return W.out.reply.n ? sp_dup(&W.cm, W.out.reply, &e) : sp_span(NULL, 0);
}

static struct sp_span change_text; /* what the user is told */

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
    assert_true(part.saddr.type == asked_at->type && sp_same(part.saddr.address, asked_at->address));
    change_text = sp_span(part.user_data.p + 2, part.user_data.n - 2);
    return part.user_data.p[0] << 8 | part.user_data.p[1];
}

static int be16_at(const uint8_t *p)
{
    return p[0] << 8 | p[1];
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
    assert_true(sp_same(change_text, SP_LIT("too short")));
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
    assert_int_equal(
        change_result(run_change(change_req(&t, (struct change_ask){1, NULL, "x", .priv_etype = 17})), &t),
        1031);
    W.broken = 3; /* service, client, and then the target */
    assert_int_equal(change_result(run_change(change_req(&t, (struct change_ask){0xff80, "alice", "x"})), &t),
                     2);
    assert_false(W.out.has_change);
    admin = login("root", "kadmin/changepw", 0);
    (void)run_change(change_req(&admin, (struct change_ask){0xff80, "bob", "set by root"}));
    assert_true(W.out.has_change);
    assert_int_equal(W.out.change->account_id, account("bob")->id);
    assert_int_equal(W.out.change->by_id, account("root")->id);
    assert_int_equal(
        change_result(run_change(change_req(&admin, (struct change_ask){0xff80, "host/nas1", "x"})), &admin),
        5);
    assert_int_equal(
        change_result(run_change(change_req(&admin, (struct change_ask){0xff80, "nobody", "x"})), &admin), 2);
    g = t; /* without INITIAL */
    g.inside.flags &= ~F(TKT_INITIAL);
    g = forge(&g, store_find_key(account("kadmin/changepw"), 18, 0), 1, "kadmin/changepw");
    assert_int_equal(change_result(run_change(change_req(&g, (struct change_ask){1, NULL, "x"})), &g), 7);
    g = login("alice", TGS, 0); /* a TGT is not a ticket for it */
    assert_int_equal(change_result(run_change(change_req(&g, (struct change_ask){1, NULL, "x"})), &g), 1035);
    account("alice")->generation++; /* the password changed: the ticket is dead */
    assert_int_equal(change_result(run_change(change_req(&t, (struct change_ask){1, NULL, "x"})), &t), 1020);
    account("alice")->flags |= STORE_DISABLED; /* T053 at this door */
    assert_int_equal(change_result(run_change(change_req(&t, (struct change_ask){1, NULL, "x"})), &t), 1018);
    account("alice")->id = 9999;
    assert_int_equal(change_result(run_change(change_req(&t, (struct change_ask){1, NULL, "x"})), &t), 1006);
    assert_int_equal(run_change(SP_LIT("rubbish")).n, 0);
}

static void test_change_at_ipv6(void **state)
{
    struct got t = login("alice", "kadmin/changepw", 0);
    struct sp_span reply;
    static struct kdc_change c;

    (void)state;
    asked_at = &v6;
    assert_int_equal(change_result(run_change(change_req(&t, (struct change_ask){1, NULL, ""})), &t), 4);
    assert_int_equal(run_change(change_req(&t, (struct change_ask){1, NULL, "new password 1"})).n, 0);
    assert_true(W.out.has_change);
    c = *W.out.change;
    kdc_finish_change(&W.k, W.env, &c, 0, SP_LIT(""), &W.cm, &reply);
    assert_int_equal(change_result(reply, &t), 0);
    asked_at = &v4;
}

/* T027 at the kpasswd door: nothing to say, or a refusal, until there is memory enough to ask the keeper. */
static void test_change_capacities(void **state)
{
    struct got t = login("alice", "kadmin/changepw", 0);
    size_t mark;
    int kept = 0;

    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        struct sp_span req =
            change_req(&t, (struct change_ask){kind ? 0xff80 : 1, kind == 2 ? "bob" : NULL, "x"});
        bool done = false;

        mark = W.cm.used;
        for (size_t n = 0; !done; n += 112) {
            struct sp_span reply;

            assert_true(n < 65536);
            W.cm.used = mark;
            W.capacity = n;
            fresh_shared();
            reply = run_change(req);
            done = W.out.has_change || (kind == 2 && reply.n > 0 && change_result(reply, &t) == 5);
            kept += !done && reply.n > 0;
            if (!done && reply.n > 0) /* 60, or "could not be read", never that it was accepted */
                assert_true(change_result(reply, &t) != 0);
            assert_true(!done || kind == 2 || reply.n == 0);
            W.capacity = sizeof mem_block;
            if (done)
                break;
            reply = run_change(req); /* nothing was noted: the same bytes are taken when there is memory */
            assert_true(kind == 2 ? change_result(reply, &t) == 5 : W.out.has_change);
        }
    }
    assert_true(kept > 0);
}

/* T044 for the other door: whatever bit is turned, no password is set that nobody asked for. */
static void test_change_flips(void **state)
{
    struct got t = login("alice", "kadmin/changepw", 0);
    size_t mark = W.cm.used;
    uint8_t copy[4096];
    int asked = 0;

    (void)state;
    for (int version = 0; version < 2; version++) {
        struct sp_span req = change_req(&t, (struct change_ask){version ? 0xff80 : 1, NULL, "new password"});

        assert_true(req.n < sizeof copy);
        for (size_t bit = 0; bit < req.n * 8; bit++) {
            memcpy(copy, req.p, req.n);
            copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
            if (bit % 512 == 0)
                fresh_shared();
            (void)run_change(sp_span(copy, req.n));
            if (!W.out.has_change)
                continue;
            asked++;
            assert_int_equal(W.out.change->account_id, account("alice")->id);
            if (version || be16_at(copy + 2) == 1)
                assert_true(sp_same(sp_span(W.out.change->password, W.out.change->password_n),
                                    SP_LIT("new password")));
            fresh_shared();
        }
        assert_int_equal(W.cm.used > mark, true);
    }
    assert_true(asked > 0 &&
                asked < 128); /* options, type and case of the service name: nothing covers them */
}

/* T022 at the kpasswd door; decision 57: the same bytes are answered again, the same authenticator is not. */
static void test_change_by_datagram(void **state)
{
    struct got t = login("alice", "kadmin/changepw", 0), bad = t;
    struct sp_span req, reply;
    uint8_t copy[4096];

    (void)state;
    W.door = KDC_UDP;
    bad.session.b[0] ^= 1;
    req = change_req(&bad, (struct change_ask){1, NULL, "new password"});
    for (size_t n = 0; n <= req.n; n++) {
        memcpy(copy, req.p, n);
        if (n >= 2) {
            copy[0] = (uint8_t)(n >> 8);
            copy[1] = (uint8_t)n;
        }
        reply = run_change(sp_span(copy, n));
        assert_true(reply.n <= n && !W.out.has_change);
    }
    req = change_req(&t, (struct change_ask){1, NULL, ""});
    reply = run_change(req);
    assert_int_equal(change_result(reply, &t), 4);
    assert_true(sp_same(run_change(req), reply));
    assert_true(W.out.record.retransmission);
    assert_true(req.n < sizeof copy);
    memcpy(copy, req.p, req.n);
    copy[2] = 0xff; /* version 0xff80 around the same halves */
    copy[3] = 0x80;
    assert_int_equal(change_result(run_change(sp_span(copy, req.n)), &t), 1034);
}

/* Usual and long replies have places of their own; each length up to the longest comes back, no longer one.
 */
static void test_kept_lengths(void **state)
{
    static const size_t n[] = {1, 959, 960, 961, 1500, KDC_RETRANSMIT_MAX, KDC_RETRANSMIT_MAX + 1};
    static uint8_t reply[KDC_RETRANSMIT_MAX + 1];
    struct kdc_kept out;

    (void)state;
    for (size_t i = 0; i < sizeof reply; i++)
        reply[i] = (uint8_t)(i * 7 + i / 256);
    for (size_t i = 0; i < sizeof n / sizeof n[0]; i++) /* all of one place: the ways are enough for them */
        kdc_kept_put(W.k.shared, W.env.mono_us, (struct kdc_hash){64, i},
                     &(struct kdc_kept){sp_span(reply, n[i]), (int32_t)i, i % 2 != 0});
    for (size_t i = 0; i < sizeof n / sizeof n[0]; i++) {
        bool found = kdc_kept_find(W.k.shared, W.env.mono_us, (struct kdc_hash){64, i}, &W.cm, &out);

        assert_int_equal(found, n[i] <= KDC_RETRANSMIT_MAX);
        if (found)
            assert_true(sp_same(out.reply, sp_span(reply, n[i])) && out.code == (int32_t)i &&
                        out.proven == (i % 2 != 0));
    }
    assert_false(kdc_kept_find(W.k.shared, W.env.mono_us, (struct kdc_hash){64, 99}, &W.cm, &out));
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

/* ---- accounts of the KDC itself, remembered ---- */

static uint32_t looks_for(const char *who)
{
    W.found = 0;
    (void)run(as_req((struct as_ask){who, TGS}));
    return W.found;
}

static void rotate(struct store_account *a, struct store_key keys[STORE_KEYS_MAX])
{
    struct sp_err e = {0};

    keys[0] = (struct store_key){.kvno = a->keys[0].kvno + 1};
    assert_true(crypto_random_key(18, &W.rng.rng, &keys[0].key, &e));
    assert_true(a->key_count < STORE_KEYS_MAX);
    memcpy(keys + 1, a->keys, a->key_count * sizeof *keys);
    a->key_count++;
    a->keys = keys;
}

static void test_own_accounts(void **state)
{
    struct store_account *own = account(TGS);
    struct store_key keys[STORE_KEYS_MAX];
    uint32_t kvno = own->keys[0].kvno;
    struct sp_err e = {0};
    struct got tgt;
    uint8_t *p;

    (void)state;
    assert_int_equal(looks_for("alice"), 2); /* version 0: the service is read each time */
    assert_int_equal(looks_for("alice"), 2);
    W.version = 5;
    assert_int_equal(looks_for("alice"), 3); /* read, and read again to stay */
    assert_int_equal(looks_for("alice"), 1);
    assert_int_equal(looks_for("nobody"), 1);
    tgt = login("alice", TGS, 0);
    assert_int_equal(tgt.rep.ticket.enc.kvno, kvno);
    rotate(own, keys);
    W.version = 6;
    (void)fetch(&tgt, (struct tgs_ask){"host/nas1"});
    W.env.wall_us += 1000;
    assert_int_equal(login("alice", TGS, 0).rep.ticket.enc.kvno, kvno + 1);
    p = sp_alloc(&W.k.own.mem, 100, &e);
    assert_non_null(p);
    memset(p, 0xaa, 100);
    kdc_forget_own(&W.k);
    for (int i = 0; i < 100; i++)
        assert_int_equal(p[i], 0);
    assert_int_equal(looks_for("alice"), 3);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_hash),
        T(test_kept_lengths),
        T(test_keys),
        T(test_own_accounts),
        T(test_login),
        T(test_proof_of_each_type),
        T(test_keys_of_few_types),
        T(test_names),
        T(test_protected_request),
        T(test_as_refusals),
        T(test_settings),
        T(test_outward_codes),
        T(test_unknown_looks_known),
        T(test_kinds_of_names_look_alike),
        T(test_tgs_refusals),
        T(test_tickets),
        T(test_revocation),
        T(test_flips),
        T(test_renew_and_forward),
        T(test_never_grows),
        T(test_authdata),
        T(test_broken_store),
        T(test_retransmission),
        T(test_udp),
        T(test_table_and_transports),
        T(test_no_amplification),
        T(test_garbage),
        T(test_options_of_stock_clients),
        T(test_times_granted),
        T(test_lifetimes),
        T(test_addresses_are_ignored),
        T(test_session_keys),
        T(test_parameters_of_keys),
        T(test_key_expiration),
        T(test_account_in_tickets),
        T(test_service_as_client),
        T(test_forms_of_names),
        T(test_aliases_of_the_realm),
        T(test_nonces),
        T(test_protection_elsewhere),
        T(test_guess_waits),
        T(test_guess_strangers),
        T(test_replays_outlive_the_block),
        T(test_guess_near),
        T(test_guess_attested),
        T(test_guess_give_back),
        T(test_guess_table_full),
        T(test_guess_longest_wait),
        T(test_guess_together),
        T(test_dead_holder),
        T(test_spake_login),
        T(test_spake_protects),
        T(test_spake_refusals),
        T(test_spake_flipped_cookies),
        T(test_spake_offers),
        T(test_spake_doors),
        T(test_spake_clocks),
        T(test_spake_retransmission),
        T(test_spake_guesses),
        T(test_spake_stand_in),
        T(test_spake_kinds_look_alike),
        T(test_spake_flood),
        T(test_spake_capacities),
        T(test_capacities),
        T(test_capacities_of_all),
        T(test_change),
        T(test_change_by_datagram),
        T(test_change_flips),
        T(test_change_at_ipv6),
        T(test_change_capacities),
        T(test_elements_of_as_requests),
        T(test_elements_of_tgs_requests),
        T(test_microseconds_of_the_proof),
        T(test_long_lists),
        T(test_long_authdata),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
