/* SPDX-License-Identifier: MIT */
/* Whole conversations: our initiator and our acceptor with our own KDC engine behind it; recorded ones of MIT
 * krb5; and peers that do one thing wrong. Case numbers (T061, ...) are those of the project's security list.
 */
#include "bytes/der.h"
#include "gss/internal.h"
#include "realm.h"

/* Rows name what they care about; the rest is zero. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#define SERVICE "host/nas1"
#define TOKENS_MAX 64
#define FLAGS (KCTX_MUTUAL | KCTX_REPLAY | KCTX_SEQUENCE | KCTX_CONF | KCTX_INTEG)

static _Alignas(16) uint8_t i_block[SEC_ARENA_MIN], a_block[SEC_ARENA_MIN];
static struct sp_arena i_mem, a_mem;

static int set_up(void **state)
{
    (void)state;
    return !realm_open();
}

static int tear_down(void **state)
{
    (void)state;
    realm_close();
    return 0;
}

static struct sp_span cat(struct sp_span a, struct sp_span b)
{
    struct sp_err e = {0};
    uint8_t *p = sp_alloc(&scrap, a.n + b.n, &e);

    assert_non_null(p);
    if (a.n)
        memcpy(p, a.p, a.n);
    if (b.n)
        memcpy(p + a.n, b.p, b.n);
    return sp_span(p, a.n + b.n);
}

static struct sp_span frame(enum token_mech m, uint16_t id, struct sp_span body)
{
    struct sp_err e = {0};
    struct sp_span s;

    assert_true(token_make(m, id, body, &scrap, &s, &e));
    return s;
}

/* ---- one conversation ---- */

/* What a man in the middle makes of token n (from 1, both directions); p NULL: drop it. */
typedef struct sp_span meddle_fn(unsigned n, struct sp_span token);
typedef struct sp_span kdc_fn(struct sp_span realm, struct sp_span request);

static struct {
    struct sec_initiator how_i;
    struct sec_acceptor how_a;
    meddle_fn *meddle;
    kdc_fn *kdc;
    bool greet; /* the acceptor speaks first */
    /* what came of it */
    struct sec *i, *a;
    struct sp_err ei, ea;
    bool i_ok, a_ok;
    struct sp_span token[TOKENS_MAX];
    unsigned count, carried;
    struct sp_span carried_realm;
    struct sp_span error_token;
} C;

static struct {
    struct kctx_keys port;
    unsigned asked;
} keytab;

static bool find_key(struct kctx_keys *keys, const struct krb_name *service, struct sp_span realm,
                     int32_t etype, uint32_t kvno, struct sp_key *out, struct sp_err *e)
{
    const struct store_key *k;

    (void)keys;
    (void)realm;
    keytab.asked++;
    if (!krb_same_name(service, &(struct krb_name){.parts = name_of(SERVICE, 2).parts}))
        return sp_fail(e, SP_ENOTFOUND, KRB_AP_ERR_NOT_US, "not us");
    k = store_find_key(account(SERVICE), etype, kvno);
    if (!k)
        return sp_fail(e, SP_ENOTFOUND, KRB_AP_ERR_NOKEY, "no key");
    *out = k->key;
    return true;
}

static struct {
    struct kctx_replays port;
    struct sp_span seen[8];
    unsigned count;
} replays;

static bool note(struct kctx_replays *r, struct sp_span cipher, int64_t now_s, int32_t skew_s,
                 struct sp_err *e)
{
    (void)r;
    (void)now_s;
    (void)skew_s;
    for (unsigned i = 0; i < replays.count; i++)
        if (sp_same(replays.seen[i], cipher))
            return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_REPEAT, "seen");
    if (replays.count < 8)
        replays.seen[replays.count++] = copy(cipher);
    return true;
}

static struct sp_span ask_kdc(struct sp_span realm, struct sp_span request)
{
    assert_true(sp_same(realm, SP_LIT(REALM)));
    return our_kdc(request);
}

/* Raw IAKERB with a password, a direct policy's timestamp, everything else as it usually is. */
static void begin(void)
{
    struct client_policy p;

    sp_arena_init(&i_mem, i_block, sizeof i_block);
    sp_arena_init(&a_mem, a_block, sizeof a_block);
    memset(&C, 0, sizeof C);
    keytab.port.find = find_key;
    keytab.asked = 0;
    replays.port.note = note;
    replays.count = 0;
    client_policy_direct(&p);
    p.spake = false;
    C.kdc = ask_kdc;
    C.how_i = (struct sec_initiator){
        .mechs = {TOKEN_IAKERB},
        .mech_count = 1,
        .wish = { .client = name_of("alice", NT_PRINCIPAL),
                  .realm = SP_LIT(REALM),
                  .password = SP_LIT(WORD),
                  .service = name_of(SERVICE, NT_SRV_HST)},
        .policy = p,
        .target_host = SP_LIT("nas1.example"),
        .flags = FLAGS
    };
    C.how_a = (struct sec_acceptor){
        .realm = W.cf.realm, .keys = &keytab.port, .replays = &replays.port, .skew_s = 300};
}

static struct sp_span pass(struct sp_span token)
{
    struct sp_span t = copy(token);

    assert_true(C.count < TOKENS_MAX);
    C.count++;
    if (C.meddle)
        t = C.meddle(C.count, t);
    C.token[C.count - 1] = t;
    return t;
}

/* One event for one side, its carrying included. False: it failed. */
static bool feed(struct sec *s, struct sec_event ev, struct sec_action *act, struct sp_err *e)
{
    bool ok;

    env.mono_us += 1000;
    env.wall_us += 1000;
    ok = sec_step(s, env, &ev, act, e);
    while (ok && act->what == SEC_CARRY) {
        struct sp_span answer;

        C.carried++;
        C.carried_realm = copy(act->realm);
        answer = C.kdc(act->realm, copy(act->message));
        ev = answer.p ? (struct sec_event){.kind = SEC_CARRIED, .bytes = answer}
                      : (struct sec_event){.kind = SEC_NOT_CARRIED, .code = 86};
        ok = sec_step(s, env, &ev, act, e);
    }
    return ok;
}

static void open_both(void)
{
    C.i_ok = sec_new_initiator(&C.i, crypto, &C.how_i, &i_mem, &C.ei);
    C.a_ok = sec_new_acceptor(&C.a, crypto, &C.how_a, &a_mem, &C.ea);
}

static void converse(void)
{
    struct sec_action act;
    struct sp_span token = {0};
    bool first = true;

    open_both();
    if (C.i_ok && C.a_ok && C.greet) {
        C.a_ok = feed(C.a, (struct sec_event){.kind = SEC_START}, &act, &C.ea);
        assert_true(C.a_ok);
        token = pass(act.token);
        first = false;
    }
    while (C.i_ok && C.a_ok) {
        struct sec_event ev = {.kind = first ? SEC_START : SEC_TOKEN, .bytes = token};

        first = false;
        C.i_ok = feed(C.i, ev, &act, &C.ei);
        if (!C.i_ok || act.token.n == 0)
            break;
        token = pass(act.token);
        if (!token.p)
            break;
        C.a_ok = feed(C.a, (struct sec_event){.kind = SEC_TOKEN, .bytes = token}, &act, &C.ea);
        if (!C.a_ok)
            C.error_token = copy(act.token);
        if (!C.a_ok || act.token.n == 0)
            break;
        token = pass(act.token);
        if (!token.p || (sec_is_established(C.i) && sec_is_established(C.a)))
            break;
    }
}

static void never_ntlm(void)
{
    struct sp_span oid = token_oid(TOKEN_NTLMSSP);

    for (unsigned n = 0; n < C.count; n++)
        for (size_t at = 0; C.token[n].p && at + oid.n <= C.token[n].n; at++)
            if (memcmp(C.token[n].p + at, oid.p, oid.n) == 0 && !C.meddle)
                fail_msg("token %u names NTLM", n + 1);
    if (C.i)
        assert_true(C.i->mech != TOKEN_NTLMSSP && sec_mech(C.i) != TOKEN_NTLMSSP);
    if (C.a)
        assert_true(C.a->mech != TOKEN_NTLMSSP && sec_mech(C.a) != TOKEN_NTLMSSP);
}

/* Both established with the same keys, and messages pass both ways in order. */
static void talk(struct sec *from, struct sec *to)
{
    uint8_t sealed[256], open[256];
    size_t n = sizeof sealed, m = sizeof open;
    struct sp_err e = {0};
    enum kctx_wrap how = KCTX_INTEGRITY;
    bool good = false;

    if (!kctx_wrap(sec_kctx(from), crypto, &rng.rng, KCTX_CONFIDENTIAL, SP_LIT("hello"), sealed, &n, &e) ||
        !kctx_unwrap(sec_kctx(to), crypto, sp_span(sealed, n), open, &m, &how, &good, &e))
        fail_msg("message: %s %d", e.text, e.proto);
    assert_true(sp_same(sp_span(open, m), SP_LIT("hello")) && how == KCTX_CONFIDENTIAL && good);
}

static void must_at(const char *why, enum token_mech mech, unsigned from_client, int line)
{
    struct sp_key ki = {0}, ka = {0};
    struct sp_err e = {0};
    struct sec_facts f;

    if (!C.i_ok || !C.a_ok)
        fail_msg("line %d, %s: initiator %s %d %s; acceptor %s %d %s", line, why, sp_kind_name(C.ei.kind),
                 C.ei.proto, C.ei.text, sp_kind_name(C.ea.kind), C.ea.proto, C.ea.text);
    if (!sec_is_established(C.i) || !sec_is_established(C.a))
        fail_msg("line %d, %s: not established", line, why);
    assert_true(kctx_session_key(sec_kctx(C.i), &ki, &e) && kctx_session_key(sec_kctx(C.a), &ka, &e));
    assert_true(ki.n == ka.n && memcmp(ki.b, ka.b, ki.n) == 0);
    assert_int_equal(sec_mech(C.i), mech);
    assert_int_equal(sec_mech(C.a), mech);
    assert_string_equal(sec_kctx(C.a)->client, "alice@" REALM);
    assert_string_equal(sec_kctx(C.i)->service, SERVICE "@" REALM);
    sec_tell(C.a, &f);
    if (f.from_client != from_client)
        fail_msg("line %d, %s: %u tokens from the client", line, why, f.from_client);
    sec_tell(C.i, &f);
    assert_int_equal(f.from_client, from_client);
    assert_false(f.no_finished);
    talk(C.i, C.a);
    talk(C.a, C.i);
    talk(C.i, C.a);
    never_ntlm();
}
#define must(why, mech, n) must_at(why, mech, n, __LINE__)

static void failed_at(struct sec *s, bool ok, const struct sp_err *e, enum sp_kind kind, int32_t proto,
                      const char *why, int line)
{
    struct sec_action act;
    struct sp_err again = {0};

    if (ok || e->kind != kind || e->proto != proto)
        fail_msg("line %d, %s: %s, %s %d: %s", line, why, ok ? "taken" : "refused", sp_kind_name(e->kind),
                 e->proto, e->text);
    assert_false(sec_is_established(s));
    assert_null(sec_kctx(s));
    assert_int_equal(sec_mech(s), TOKEN_UNKNOWN);
    assert_null(sec_got_service(s));
    assert_false(sec_step(s, env, &(struct sec_event){.kind = SEC_TOKEN}, &act, &again));
    assert_int_equal(again.proto, KCTX_NO_CONTEXT);
    never_ntlm();
}
#define a_refused(kind, proto, why) failed_at(C.a, C.a_ok, &C.ea, kind, proto, why, __LINE__)
#define i_refused(kind, proto, why) failed_at(C.i, C.i_ok, &C.ei, kind, proto, why, __LINE__)

/* ---- ours to ours ---- */

static void four_types_and_styles(void **state)
{
    static const int32_t etype[] = {17, 18, 19, 20};
    static const struct {
        uint32_t flags;
        unsigned more;
    } style[] = {
        {FLAGS,                0},
        {FLAGS & ~KCTX_MUTUAL, 0},
        {FLAGS | KCTX_DCE,     1},
        {0,                    0},
    };

    (void)state;
    for (int i = 0; i < 16; i++) {
        begin();
        C.how_i.policy.etypes[0] = etype[i / 4];
        C.how_i.policy.etype_count = 1;
        C.how_i.flags = style[i % 4].flags;
        converse();
        must("types and styles", TOKEN_IAKERB, 4 + style[i % 4].more);
        assert_int_equal(sec_kctx(C.i)->session.etype, etype[i / 4]);
        assert_int_equal(C.carried, 3);
    }
}

static struct krb_credential tgt, ticket;

static void keep_tickets(void)
{
    struct krb_credential t;

    converse();
    must("tickets", TOKEN_IAKERB, 4);
    t = *sec_got_tgt(C.i);
    tgt = t;
    tgt.client = name_of("alice", NT_PRINCIPAL);
    tgt.server = name_of("krbtgt/" REALM, NT_SRV_INST);
    tgt.crealm = tgt.srealm = SP_LIT(REALM);
    tgt.ticket = copy(t.ticket);
    t = *sec_got_service(C.i);
    ticket = t;
    ticket.client = tgt.client;
    ticket.server = name_of(SERVICE, NT_SRV_HST);
    ticket.crealm = ticket.srealm = SP_LIT(REALM);
    ticket.ticket = copy(t.ticket);
    sec_wipe(C.i);
    sec_wipe(C.a);
}

static void get_tickets(void)
{
    begin();
    keep_tickets();
}

static void with_ticket(void)
{
    begin();
    C.how_i.wish.password = sp_span(NULL, 0);
    C.how_i.ticket = &ticket;
}

/* Decision 23. */
static void round_trips_are_as_promised(void **state)
{
    struct client_known known;
    struct sec_facts f;

    (void)state;
    begin();
    client_policy_in_band(&C.how_i.policy);
    converse();
    must("SPAKE", TOKEN_IAKERB, 4);
    begin();
    client_policy_in_band(&C.how_i.policy);
    C.how_i.service_by_as = true;
    converse();
    must("SPAKE, service by AS", TOKEN_IAKERB, 3);
    assert_null(sec_got_tgt(C.i));
    begin();
    C.how_i.service_by_as = true;
    converse();
    must("timestamp, service by AS", TOKEN_IAKERB, 3);
    assert_true(sec_learnt(C.i, &known));
    known.salt = copy(known.salt);
    known.params = copy(known.params);
    begin();
    C.how_i.wish.known = &known;
    C.how_i.service_by_as = true;
    converse();
    must("timestamp, known, service by AS", TOKEN_IAKERB, 2);
    begin();
    C.how_i.wish.known = &known;
    converse();
    must("timestamp, known", TOKEN_IAKERB, 3);
    begin();
    C.how_i.wish.realm = sp_span(NULL, 0);
    C.how_i.discover = true;
    converse();
    must("discovery", TOKEN_IAKERB, 5);
    sec_tell(C.a, &f);
    assert_true(f.discovered && !f.windows && !f.old_mit);
    assert_true(sp_same(f.realm, SP_LIT(REALM)));
    get_tickets();
    begin();
    C.how_i.wish.password = sp_span(NULL, 0);
    C.how_i.wish.tgt = &tgt;
    converse();
    must("TGT", TOKEN_IAKERB, 2);
    with_ticket();
    converse();
    must("ticket", TOKEN_IAKERB, 1);
    assert_int_equal(C.carried, 0);
    assert_true(C.token[0].p[2 + (C.token[0].p[1] == 0x82 ? 2 : 1) + 8] == 0x01); /* an AP-REQ */
    with_ticket();
    C.how_i.mechs[0] = TOKEN_KRB5;
    converse();
    must("krb5", TOKEN_KRB5, 1);
    begin();
    C.how_i.mechs[0] = TOKEN_KRB5;
    converse();
    i_refused(SP_EREFUSED, KCTX_NO_CRED, "krb5 without a ticket");
    begin();
    C.how_i.wish.password = sp_span(NULL, 0);
    converse();
    i_refused(SP_EREFUSED, KCTX_NO_CRED, "IAKERB with nothing");
}

/* Nobody named the realm: it is taken from the host's name and from what the KDC says. */
static void realms_for_local_accounts(void **state)
{
    static const char *const host[] = {"nas1.example", "nas1", "192.0.2.7", "2001:db8::1", ""};

    (void)state;
    for (size_t i = 0; i < sizeof host / sizeof host[0]; i++) {
        begin();
        C.how_i.wish.realm = sp_span(NULL, 0);
        C.how_i.target_host = sp_str(host[i]);
        converse();
        must(host[i], TOKEN_IAKERB, 4);
    }
}

static void delegation(void **state)
{
    struct krb_credential got = {0};
    struct sp_err e = {0};

    (void)state;
    get_tickets();
    with_ticket();
    C.how_i.forwarded = &tgt;
    C.how_i.flags |= KCTX_DELEG;
    converse();
    must("delegation", TOKEN_IAKERB, 1);
    assert_true(kctx_read_cred(sec_kctx(C.a)->delegated, &scrap, &got, &e));
    assert_true(sp_same(got.ticket, tgt.ticket));
    with_ticket();
    C.how_i.flags |= KCTX_DELEG;
    converse();
    must("nothing to delegate", TOKEN_IAKERB, 1);
    assert_int_equal(sec_kctx(C.a)->delegated.n, 0);
}

static void old_dialect(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct sec_facts f;

        begin();
        C.how_i.old_mit = SEC_OLD_MIT_ACCEPT;
        C.how_a.old_mit = SEC_OLD_MIT_ACCEPT;
        C.how_i.flags = i ? FLAGS & ~KCTX_MUTUAL : FLAGS;
        converse();
        must("old dialect", TOKEN_IAKERB, 4);
        sec_tell(C.a, &f);
        assert_true(f.old_mit);
        assert_int_equal(C.token[0].p[0], 0x60);
        assert_memory_equal(C.token[1].p, "\x05\x01\x30", 3);
        assert_memory_equal(C.token[2].p, "\x05\x01\x30", 3);
        assert_int_equal(C.token[6].p[0], 0x60);
    }
    begin();
    C.how_i.old_mit = SEC_OLD_MIT_ACCEPT;
    converse();
    a_refused(SP_EINPUT, KCTX_DEFECTIVE, "old dialect, switched off");
    assert_int_equal(C.error_token.n, 0);
    begin();
    C.how_a.old_mit = SEC_OLD_MIT_ACCEPT;
    converse();
    must("draft, where both are taken", TOKEN_IAKERB, 4);
    begin();
    C.how_i.old_mit = SEC_OLD_MIT_ACCEPT;
    C.how_i.discover = true;
    C.how_i.wish.realm = sp_span(NULL, 0);
    converse();
    assert_true(!C.i_ok && C.ei.kind == SP_EINPUT && C.count == 0);
}

/* ---- SPNEGO, by hand on one side ---- */

static struct sp_span tlv(uint8_t tag, struct sp_span content)
{
    size_t n = content.n + 6;
    struct sp_err e = {0};
    uint8_t *p = sp_alloc(&scrap, n, &e);
    struct sp_emit o = sp_emit_to(p, n, &e);
    struct sp_span out = {0};

    sp_put_der(&o, tag, content);
    assert_true(p && sp_put_done(&o, &out));
    return out;
}

static const struct sp_span none;

static struct sp_span mech_list(const enum token_mech *m, unsigned count)
{
    struct sp_span all = {0};

    for (unsigned i = 0; i < count; i++)
        all = cat(all, tlv(0x06, token_oid(m[i])));
    return tlv(0x30, all);
}

static struct sp_span neg_init(struct sp_span list, struct sp_span token)
{
    struct sp_span body = tlv(0xa0, list);

    if (token.n)
        body = cat(body, tlv(0xa2, tlv(0x04, token)));
    return frame(TOKEN_SPNEGO, 0, tlv(0xa0, tlv(0x30, body)));
}

/* state under 0, mech TOKEN_UNKNOWN, no bytes: the field is left out */
static struct sp_span neg_resp(int state, enum token_mech mech, struct sp_span token, struct sp_span mic)
{
    uint8_t v = (uint8_t)state;
    struct sp_span body = {0};

    if (state >= 0)
        body = cat(body, tlv(0xa0, tlv(0x0a, sp_span(&v, 1))));
    if (mech != TOKEN_UNKNOWN)
        body = cat(body, tlv(0xa1, tlv(0x06, token_oid(mech))));
    if (token.n)
        body = cat(body, tlv(0xa2, tlv(0x04, token)));
    if (mic.n)
        body = cat(body, tlv(0xa3, tlv(0x04, mic)));
    return tlv(0xa1, tlv(0x30, body));
}

struct resp {
    int state;
    enum token_mech mech;
    struct sp_span token, mic;
};

static struct resp read_resp(struct sp_span in)
{
    struct sp_err e = {0};
    struct sp_cur c = sp_cur_of(in, &e);
    struct resp r = {-1, TOKEN_UNKNOWN, {0}, {0}};
    const uint8_t *outer[3] = {0};
    struct sp_span v = SP_LIT("?");

    assert_true(sp_der_enter(&c, 0xa1, "resp", &outer[0]) && sp_der_enter(&c, 0x30, "resp", &outer[1]));
    while (sp_left(&c) > 0) {
        static const uint8_t inner[] = {0x0a, 0x06, 0x04, 0x04};
        uint8_t tag = c.p[0];

        assert_true(tag >= 0xa0 && tag <= 0xa3);
        assert_true(sp_der_enter(&c, tag, "field", &outer[2]) &&
                    sp_der_get(&c, inner[tag - 0xa0], "field", &v) && sp_der_leave(&c, "field", outer[2]));
        if (tag == 0xa0)
            r.state = v.p[0];
        else if (tag == 0xa1)
            r.mech = token_mech_of(v);
        else if (tag == 0xa2)
            r.token = v;
        else
            r.mic = v;
    }
    assert_true(sp_der_leave(&c, "resp", outer[1]) && sp_der_leave(&c, "resp", outer[0]));
    return r;
}

static struct sp_span mic_of(struct sec *s, struct sp_span list)
{
    uint8_t p[KCTX_MIC_MAX];
    size_t n = sizeof p;
    struct sp_err e = {0};

    assert_true(kctx_get_mic(sec_kctx(s), crypto, &list, 1, p, &n, &e));
    return copy(sp_span(p, n));
}

static struct sec_action act_i, act_a;

static bool to_i(struct sp_span token)
{
    return C.i_ok = feed(C.i, (struct sec_event){.kind = SEC_TOKEN, .bytes = token}, &act_i, &C.ei);
}

static bool to_a(struct sp_span token)
{
    C.a_ok = feed(C.a, (struct sec_event){.kind = SEC_TOKEN, .bytes = token}, &act_a, &C.ea);
    if (!C.a_ok)
        C.error_token = copy(act_a.token);
    return C.a_ok;
}

static bool start_i(void)
{
    return C.i_ok = feed(C.i, (struct sec_event){.kind = SEC_START}, &act_i, &C.ei);
}

static void spnego_ours_to_ours(void **state)
{
    static const struct {
        uint32_t flags;
        enum sec_list_mic mic;
        unsigned from_client;
    } rows[] = {
        {FLAGS,                SEC_MIC_STRICT,    5},
        {FLAGS,                SEC_MIC_WHEN_SENT, 4},
        {FLAGS & ~KCTX_MUTUAL, SEC_MIC_STRICT,    4},
        {FLAGS & ~KCTX_MUTUAL, SEC_MIC_WHEN_SENT, 4},
        {FLAGS | KCTX_DCE,     SEC_MIC_STRICT,    5},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin();
        C.how_i.spnego = C.how_a.spnego_only = true;
        C.how_i.flags = rows[i].flags;
        C.how_a.list_mic = rows[i].mic;
        converse();
        must("spnego", TOKEN_IAKERB, rows[i].from_client);
        assert_int_equal(read_resp(C.token[1]).mech, TOKEN_IAKERB);
        assert_int_equal(read_resp(C.token[3]).mech, TOKEN_UNKNOWN); /* in the first reply only */
    }
    begin();
    C.how_i.spnego = C.greet = true;
    converse();
    must("the server speaks first", TOKEN_IAKERB, 5);
    assert_memory_equal(C.token[0].p + C.token[0].n - 36, "not_defined_in_RFC4178@please_ignore", 36);
    get_tickets();
    with_ticket();
    C.how_i.spnego = true;
    C.how_i.mechs[0] = TOKEN_MS_KRB5;
    C.how_i.mechs[1] = TOKEN_KRB5;
    C.how_i.mechs[2] = TOKEN_IAKERB;
    C.how_i.mech_count = 3;
    converse();
    must("Microsoft's OID", TOKEN_MS_KRB5, 1);
    assert_int_equal(read_resp(C.token[1]).mech, TOKEN_MS_KRB5);
    assert_int_equal(read_resp(C.token[1]).mic.n, 0);
    begin();
    C.how_i.spnego = true;
    C.how_i.mechs[0] = TOKEN_KRB5;
    C.how_i.mechs[1] = TOKEN_IAKERB;
    C.how_i.mech_count = 2;
    converse();
    must("krb5 cannot start", TOKEN_IAKERB, 5);
    begin();
    C.how_a.spnego_only = true;
    converse();
    a_refused(SP_EINPUT, KCTX_DEFECTIVE, "raw tokens are not wanted");
}

/* A client by hand, whose first choices are not ours. */
static const enum token_mech windows_list[] = {TOKEN_NEGOEX, TOKEN_NTLMSSP, TOKEN_IAKERB,
                                               TOKEN_LATE_FALLBACK};

static struct sp_span select_later(void)
{
    struct sp_span list = mech_list(windows_list, 4);
    struct resp r;

    open_both();
    assert_true(start_i()); /* raw: what goes into SPNEGO is made here */
    assert_true(to_a(neg_init(list, SP_LIT("NEGOEXTS\1\2\3"))));
    r = read_resp(act_a.token);
    assert_true(r.state == 3 && r.mech == TOKEN_IAKERB && !r.token.n && !r.mic.n);
    do {
        assert_true(to_a(neg_resp(r.state == 3 ? 1 : -1, TOKEN_UNKNOWN, copy(act_i.token), none)));
        r = read_resp(copy(act_a.token));
        assert_true(r.mech == TOKEN_UNKNOWN && r.state == 1);
        assert_true(to_i(r.token));
    } while (act_i.what != SEC_DONE);
    assert_true(r.mic.n > 0 && act_a.what == SEC_SEND && !sec_is_established(C.a));
    assert_null(sec_kctx(C.a));
    assert_true(kctx_verify_list_mic(sec_kctx(C.i), crypto, list, r.mic, &C.ei));
    return list;
}

static void reselection_at_the_acceptor(void **state)
{
    struct sp_span list, mic;
    uint8_t *p;

    (void)state;
    for (int i = 0; i < 9; i++) {
        begin();
        C.how_a.list_mic = i % 2 ? SEC_MIC_STRICT : SEC_MIC_WHEN_SENT; /* no difference here */
        list = select_later();
        mic = mic_of(C.i, list);
        p = (uint8_t *)(uintptr_t)mic.p;
        switch (i) {
        case 0:
            assert_true(to_a(neg_resp(0, TOKEN_UNKNOWN, none, mic)));
            assert_true(sec_is_established(C.a) && act_a.token.n == 0);
            break;
        case 1: /* as Windows does it */
            assert_true(to_a(neg_resp(-1, TOKEN_UNKNOWN, none, mic)));
            assert_true(sp_same(act_a.token, sp_span("\xa1\x07\x30\x05\xa0\x03\x0a\x01\0", 9)));
            assert_true(sec_is_established(C.a));
            break;
        case 2:
            p[mic.n - 1] ^= 1;
            to_a(neg_resp(0, TOKEN_UNKNOWN, none, mic));
            a_refused(SP_EREFUSED, KCTX_BAD_SIG, "a wrong MIC");
            break;
        case 3:
            to_a(neg_resp(0, TOKEN_UNKNOWN, none, none));
            a_refused(SP_EREFUSED, KCTX_BAD_SIG, "no MIC");
            assert_string_equal(C.ea.text, spnego_row(SPNEGO_MIC_MISSING)->text);
            break;
        case 4:
            to_a(neg_resp(0, TOKEN_UNKNOWN, none, mic_of(C.i, mech_list(windows_list + 1, 3))));
            a_refused(SP_EREFUSED, KCTX_BAD_SIG, "a MIC over another list");
            break;
        case 5:
            to_a(neg_resp(0, TOKEN_UNKNOWN, SP_LIT("more"), mic));
            a_refused(SP_EINPUT, KCTX_DEFECTIVE, "a token of an established mechanism");
            break;
        case 6:
            to_a(neg_resp(0, TOKEN_IAKERB, none, mic));
            a_refused(SP_EINPUT, KCTX_DEFECTIVE, "supportedMech from an initiator");
            break;
        case 7:
            to_a(neg_resp(2, TOKEN_UNKNOWN, none, mic));
            a_refused(SP_EREFUSED, KCTX_BAD_MECH, "reject");
            break;
        default:
            to_a(neg_resp(0, TOKEN_UNKNOWN, none, mic.n ? sp_span(mic.p, 7) : mic));
            a_refused(SP_EREFUSED, KCTX_BAD_SIG, "half a MIC");
        }
        if (i > 1)
            assert_int_equal(read_resp(C.error_token).state, 2);
    }
}

/* A server by hand around a raw acceptor of ours; it takes what we offer second. */
static void reselection_at_the_initiator(void **state)
{
    static const enum token_mech ours[] = {TOKEN_IAKERB, TOKEN_KRB5};
    struct sp_span list = mech_list(ours, 2), mic;
    struct resp r;

    (void)state;
    get_tickets();
    for (int i = 0; i < 6; i++) {
        uint8_t *p;

        with_ticket();
        C.how_i.spnego = true;
        C.how_i.mechs[1] = TOKEN_KRB5;
        C.how_i.mech_count = 2;
        open_both();
        assert_true(start_i());
        assert_true(to_i(neg_resp(3, TOKEN_KRB5, none, none)));
        r = read_resp(copy(act_i.token));
        assert_true(to_a(r.token));
        assert_int_equal(sec_mech(C.a), TOKEN_KRB5);
        mic = mic_of(C.a, list);
        p = (uint8_t *)(uintptr_t)mic.p;
        switch (i) {
        case 0: /* MIT, Windows and Samba */
            assert_true(to_i(neg_resp(1, TOKEN_UNKNOWN, copy(act_a.token), mic)));
            assert_true(act_i.what == SEC_DONE && sec_mech(C.i) == TOKEN_KRB5);
            r = read_resp(copy(act_i.token));
            assert_true(r.state == 0 && r.mic.n > 0);
            assert_true(kctx_verify_list_mic(sec_kctx(C.a), crypto, list, r.mic, &C.ea));
            assert_true(to_i(neg_resp(0, TOKEN_UNKNOWN, none, none)));
            assert_true(act_i.what == SEC_DONE && act_i.token.n == 0 && sec_is_established(C.i));
            assert_false(to_i(neg_resp(1, TOKEN_UNKNOWN, none, none)));
            assert_true(sec_is_established(C.i)); /* refused, and nothing lost */
            break;
        case 1: /* the client's MIC first, the server's with its last word */
            assert_true(to_i(neg_resp(1, TOKEN_UNKNOWN, copy(act_a.token), none)));
            assert_true(act_i.what == SEC_SEND && !sec_is_established(C.i));
            assert_true(to_i(neg_resp(0, TOKEN_UNKNOWN, none, mic)));
            assert_true(act_i.what == SEC_DONE);
            break;
        case 2:
            to_i(neg_resp(0, TOKEN_UNKNOWN, copy(act_a.token), none));
            i_refused(SP_EREFUSED, KCTX_BAD_SIG, "no MIC");
            break;
        case 3:
            p[4] ^= 1;
            to_i(neg_resp(1, TOKEN_UNKNOWN, copy(act_a.token), mic));
            i_refused(SP_EREFUSED, KCTX_BAD_SIG, "a wrong MIC");
            break;
        case 4:
            assert_true(to_i(neg_resp(1, TOKEN_UNKNOWN, copy(act_a.token), none)));
            to_i(neg_resp(1, TOKEN_UNKNOWN, none, none));
            i_refused(SP_EREFUSED, KCTX_BAD_SIG, "no MIC, ever");
            break;
        default: /* MS-SPNG 3.3.5: a later supportedMech changes nothing */
            assert_true(to_i(neg_resp(1, TOKEN_NTLMSSP, copy(act_a.token), mic)));
            assert_int_equal(sec_mech(C.i), TOKEN_KRB5);
        }
    }
}

/* Every cause of the one table is brought about, and what happens is what its row says. */
static enum spnego_cause first_reply(struct sp_span reply, bool more)
{
    enum spnego_cause cause;

    begin();
    if (more)
        with_ticket();
    C.how_i.spnego = true;
    C.how_i.mechs[1] = TOKEN_KRB5;
    C.how_i.mech_count = more ? 2 : 1;
    open_both();
    assert_true(start_i());
    to_i(reply);
    for (cause = 0; cause < SPNEGO_CAUSES; cause++)
        if (spnego_row(cause)->text && !C.i_ok && strcmp(spnego_row(cause)->text, C.ei.text) == 0)
            return cause;
    return SPNEGO_CAUSES;
}

static void cause_is(enum spnego_cause got, enum spnego_cause want, bool *seen)
{
    const struct spnego_row *r = spnego_row(want);

    if (got != want)
        fail_msg("%s: %s %d %s", r->name, got < SPNEGO_CAUSES ? spnego_row(got)->name : "none", C.ei.proto,
                 C.ei.text);
    assert_int_equal(r->move, SPNEGO_STOP);
    i_refused(r->proto == KCTX_DEFECTIVE ? SP_EINPUT : SP_EREFUSED, r->proto, r->name);
    seen[want] = true;
}

static void first_replies(bool *seen)
{
    static const enum token_mech strange[] = {TOKEN_KRB5,   TOKEN_MS_KRB5,       TOKEN_KRB5_U2U,
                                              TOKEN_NEGOEX, TOKEN_LATE_FALLBACK, TOKEN_SPNEGO};

    for (int neg = 0; neg < 4; neg++) {
        if (neg == 2)
            continue;
        cause_is(first_reply(neg_resp(neg, TOKEN_NTLMSSP, none, none), false), SPNEGO_TOOK_NTLM, seen);
        cause_is(first_reply(neg_resp(neg, TOKEN_NTLMSSP, SP_LIT("NTLMSSP\0\2"), none), true),
                 SPNEGO_TOOK_NTLM, seen);
        for (size_t m = 0; m < sizeof strange / sizeof strange[0]; m++)
            cause_is(first_reply(neg_resp(neg, strange[m], none, none), false), SPNEGO_TOOK_UNOFFERED, seen);
        cause_is(first_reply(neg_resp(neg, TOKEN_UNKNOWN, SP_LIT("x"), none), false), SPNEGO_TOOK_NOTHING,
                 seen);
        cause_is(first_reply(neg_resp(neg, TOKEN_IAKERB, none, none), false), SPNEGO_TOOK_FIRST_MUTE, seen);
        if (neg != 3)
            cause_is(first_reply(neg_resp(neg, TOKEN_KRB5, none, none), true), SPNEGO_TOOK_OTHER, seen);
        cause_is(first_reply(neg_resp(neg, TOKEN_KRB5, SP_LIT("x"), none), true), SPNEGO_TOOK_OTHER, seen);
    }
    cause_is(first_reply(neg_resp(2, TOKEN_UNKNOWN, none, none), false), SPNEGO_REJECTED, seen);
    cause_is(first_reply(neg_resp(2, TOKEN_NTLMSSP, none, none), true), SPNEGO_REJECTED, seen);
    assert_int_equal(first_reply(neg_resp(3, TOKEN_KRB5, none, none), true), SPNEGO_CAUSES);
    assert_true(C.i_ok && C.i->mech == TOKEN_KRB5 && C.i->negotiation.want_mic);
    assert_int_equal(spnego_row(SPNEGO_TOOK_OTHER_ASKS)->move, SPNEGO_RESTART);
    seen[SPNEGO_TOOK_OTHER_ASKS] = true;
    assert_int_equal(first_reply(SP_LIT("\x30\0"), false), SPNEGO_CAUSES);
    i_refused(SP_EINPUT, spnego_row(SPNEGO_UNREADABLE)->proto, "unreadable");
    seen[SPNEGO_UNREADABLE] = true;
}

/* The same answer with and without request-mic, and under the mechanism's other name. */
static void accepted_replies(bool *seen)
{
    static const struct {
        enum token_mech mechs[2], took;
        int state;
        enum spnego_cause cause;
    } rows[] = {
        {{TOKEN_KRB5, TOKEN_IAKERB},  TOKEN_KRB5,    0, SPNEGO_TOOK_FIRST     },
        {{TOKEN_KRB5, TOKEN_IAKERB},  TOKEN_KRB5,    3, SPNEGO_TOOK_FIRST_ASKS},
        {{TOKEN_MS_KRB5, TOKEN_KRB5}, TOKEN_KRB5,    1, SPNEGO_TOOK_ALIAS     },
        {{TOKEN_KRB5, TOKEN_MS_KRB5}, TOKEN_MS_KRB5, 1, SPNEGO_TOOK_ALIAS     },
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sp_span init, list;

        with_ticket();
        C.how_i.spnego = true;
        memcpy(C.how_i.mechs, rows[i].mechs, sizeof rows[i].mechs);
        C.how_i.mech_count = 2;
        list = mech_list(rows[i].mechs, 2);
        open_both();
        assert_true(start_i());
        init = none;
        for (size_t at = 0; at + 2 < act_i.token.n; at++)
            if (act_i.token.p[at] == 0x60 && at > 0) { /* the mechanism's own token ends this one */
                init = copy(sp_span(act_i.token.p + at, act_i.token.n - at));
                break;
            }
        assert_true(to_a(init));
        assert_true(to_i(neg_resp(rows[i].state, rows[i].took, copy(act_a.token), none)));
        assert_int_equal(C.i->negotiation.want_mic, spnego_row(rows[i].cause)->move == SPNEGO_GO_ON_WITH_MIC);
        if (C.i->negotiation.want_mic) {
            struct resp r = read_resp(act_i.token);
            bool good = false;

            assert_false(sec_is_established(C.i));
            assert_true(kctx_verify_mic(sec_kctx(C.a), crypto, &list, 1, r.mic, &good, &C.ea));
            assert_true(to_i(neg_resp(0, TOKEN_UNKNOWN, none, mic_of(C.a, list))));
        }
        assert_true(sec_is_established(C.i));
        talk(C.i, C.a);
        seen[rows[i].cause] = true;
    }
}

/* What makes a mechanism fail is never a reason to try another. */
static struct sp_span no_kdc(struct sp_span realm, struct sp_span request)
{
    (void)realm;
    (void)request;
    return none;
}

static struct sp_span change_reply(unsigned n, struct sp_span token)
{
    if (n == 4) { /* in the realm that the header repeats */
        for (size_t at = 0; at + 4 <= token.n; at++)
            if (memcmp(token.p + at, REALM, 4) == 0) {
                ((uint8_t *)(uintptr_t)token.p)[at] ^= 1;
                break;
            }
    }
    return token;
}

static void mechanism_fails(bool *seen)
{
    static const struct {
        const char *why;
        int32_t i_proto, a_proto;
    } rows[] = {
        {"wrong password",              24, 0 },
        {"unknown user",                24, 0 },
        {"another realm",               85, 0 },
        {"no KDC",                      86, 0 },
        {"nothing that may be shown",   25, 0 },
        {"unknown service",             7,  0 },
        {"a header changed on the way", 0,  31},
        {"the acceptor has no key",     0,  35},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin();
        C.how_i.spnego = true;
        C.how_i.mechs[1] = TOKEN_KRB5;
        C.how_i.mech_count = 2;
        C.how_i.wish.password = i == 0 ? SP_LIT("nope") : C.how_i.wish.password;
        C.how_i.wish.client = i == 1 ? name_of("nobody", 1) : C.how_i.wish.client;
        C.how_i.wish.realm = i == 2 ? SP_LIT("ELSEWHERE") : C.how_i.wish.realm;
        C.kdc = i == 3 ? no_kdc : C.kdc;
        C.how_i.policy.timestamp = i != 4;
        C.how_i.wish.service = i == 5   ? name_of("host/none", 3)
                               : i == 7 ? name_of("backup/nas1", 3)
                                        : C.how_i.wish.service;
        C.meddle = i == 6 ? change_reply : NULL;
        converse();
        if (rows[i].i_proto)
            i_refused(SP_EREFUSED, rows[i].i_proto, rows[i].why);
        else
            failed_at(C.a, C.a_ok, &C.ea, i == 7 ? SP_ENOTFOUND : SP_EREFUSED, rows[i].a_proto, rows[i].why,
                      __LINE__);
        if (rows[i].a_proto) { /* and the initiator hears why, and stops */
            struct resp r = read_resp(C.error_token);

            assert_true(r.state == 2 && r.token.n > 0);
            to_i(C.error_token);
            i_refused(SP_EREFUSED, rows[i].a_proto, rows[i].why);
        }
    }
    assert_int_equal(spnego_row(SPNEGO_MECH_FAILED)->move, SPNEGO_STOP);
    seen[SPNEGO_MECH_FAILED] = true;
}

static void lists(bool *seen)
{
    static const struct {
        enum token_mech m[3];
        unsigned count;
        enum spnego_cause cause;
    } rows[] = {
        {{TOKEN_NTLMSSP},                             1, SPNEGO_LISTS_NONE },
        {{TOKEN_NEGOEX},                              1, SPNEGO_LISTS_NONE }, /* T092 */
        {{TOKEN_NEGOEX, TOKEN_NTLMSSP, TOKEN_SPNEGO}, 3, SPNEGO_LISTS_NONE },
        {{TOKEN_KRB5_U2U, TOKEN_LATE_FALLBACK},       2, SPNEGO_LISTS_NONE },
        {{TOKEN_NEGOEX, TOKEN_KRB5},                  2, SPNEGO_LISTS_LATER},
        {{TOKEN_NTLMSSP, TOKEN_NEGOEX, TOKEN_IAKERB}, 3, SPNEGO_LISTS_LATER},
        {{TOKEN_MS_KRB5, TOKEN_KRB5, TOKEN_NTLMSSP},  3, SPNEGO_LISTS_FIRST},
        {{TOKEN_IAKERB, TOKEN_NTLMSSP},               2, SPNEGO_LISTS_FIRST},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct spnego_row *r = spnego_row(rows[i].cause);
        struct resp got;

        begin();
        open_both();
        to_a(neg_init(mech_list(rows[i].m, rows[i].count),
                      rows[i].cause == SPNEGO_LISTS_FIRST ? none : SP_LIT("NTLMSSP\0\1")));
        assert_int_equal(C.a_ok, r->move != SPNEGO_STOP);
        got = read_resp(copy(C.a_ok ? act_a.token : C.error_token));
        assert_int_equal(got.state, r->move == SPNEGO_STOP ? 2 : r->move == SPNEGO_RESTART ? 3 : 1);
        if (!C.a_ok)
            a_refused(SP_EREFUSED, r->proto, r->name);
        else
            assert_true(got.mech == TOKEN_IAKERB || got.mech == TOKEN_KRB5 || got.mech == TOKEN_MS_KRB5);
        assert_true(C.a->mech != TOKEN_NTLMSSP && C.a->mech != TOKEN_NEGOEX);
        seen[rows[i].cause] = true;
    }
}

static void starts(bool *seen)
{
    static const enum token_mech krb5_first[] = {TOKEN_KRB5, TOKEN_IAKERB};

    for (int i = 0; i < 3; i++) {
        begin();
        C.how_i.spnego = true;
        memcpy(C.how_i.mechs, krb5_first, sizeof krb5_first);
        C.how_i.mech_count = 2;
        C.how_i.wish.password = i == 1 ? none : C.how_i.wish.password;
        C.how_i.wish.service.parts.count = i == 2 ? 0 : 2;
        converse();
        if (i == 0)
            must("the next of our list", TOKEN_IAKERB, 5);
        else if (i == 1)
            i_refused(SP_EREFUSED, spnego_row(SPNEGO_NOTHING_STARTS)->proto, "nothing starts");
        else
            assert_true(!C.i_ok && C.ei.kind == SP_EINPUT && C.count == 0);
    }
    assert_int_equal(spnego_row(SPNEGO_CANNOT_START)->move, SPNEGO_NEXT);
    assert_int_equal(spnego_row(SPNEGO_START_FAILED)->move, SPNEGO_STOP);
    seen[SPNEGO_CANNOT_START] = seen[SPNEGO_NOTHING_STARTS] = seen[SPNEGO_START_FAILED] = true;
}

/* T083, T092 */
static void no_row_leads_to_ntlm(void **state)
{
    bool seen[SPNEGO_CAUSES] = {0};

    get_tickets();
    starts(seen);
    first_replies(seen);
    accepted_replies(seen);
    lists(seen);
    mechanism_fails(seen);
    reselection_at_the_acceptor(state); /* MIC wrong and missing, both sides */
    reselection_at_the_initiator(state);
    seen[SPNEGO_MIC_WRONG] = seen[SPNEGO_MIC_MISSING] = true;
    for (int i = 0; i < SPNEGO_CAUSES; i++) {
        const struct spnego_row *r = spnego_row((enum spnego_cause)i);

        if (!seen[i] || !r->name)
            fail_msg("row %d (%s) was not walked", i, r->name ? r->name : "empty");
        assert_true(r->move == SPNEGO_STOP || r->proto == 0);
    }
}

/* T014 */
static void malformed_negotiation(void **state)
{
    static const enum token_mech one[] = {TOKEN_IAKERB};
    struct sp_span list = mech_list(one, 1), many = {0}, oid = tlv(0x06, token_oid(TOKEN_NEGOEX));
    struct sp_span good = neg_init(list, none), bad[16];
    unsigned count = 0;

    (void)state;
    for (int i = 0; i < 33; i++)
        many = cat(many, oid);
    bad[count++] = neg_init(tlv(0x30, none), none);
    bad[count++] = neg_init(tlv(0x30, many), none);
    bad[count++] = neg_init(tlv(0x30, tlv(0x04, SP_LIT("x"))), none);
    bad[count++] = neg_init(tlv(0x31, oid), none);
    bad[count++] = neg_resp(1, TOKEN_IAKERB, SP_LIT("x"), none);
    bad[count++] = cat(good, SP_LIT("\0"));
    bad[count++] = sp_span(good.p, good.n - 1);
    bad[count++] = frame(TOKEN_SPNEGO, 0, none);
    bad[count++] = frame(TOKEN_SPNEGO, 0, tlv(0xa1, tlv(0x30, tlv(0xa0, list))));
    bad[count++] =
        frame(TOKEN_SPNEGO, 0, tlv(0xa0, tlv(0x30, cat(tlv(0xa2, tlv(4, SP_LIT("x"))), tlv(0xa0, list)))));
    bad[count++] = frame(TOKEN_SPNEGO, 0, tlv(0xa0, tlv(0x30, cat(tlv(0xa0, list), tlv(0xa0, list)))));
    bad[count++] = frame(TOKEN_SPNEGO, 0, tlv(0xa0, tlv(0x30, tlv(0xa0, cat(list, list)))));
    bad[count++] = neg_init(list, good); /* SPNEGO inside SPNEGO */
    bad[count++] = neg_init(list, SP_LIT("NTLMSSP"));
    for (unsigned i = 0; i < count; i++) {
        char why[32];

        snprintf(why, sizeof why, "malformed %u", i);
        begin();
        C.how_a.spnego_only = true;
        open_both();
        to_a(bad[i]);
        a_refused(SP_EINPUT, KCTX_DEFECTIVE, why);
    }
    begin(); /* unknown fields behind are for later versions */
    open_both();
    assert_true(
        to_a(frame(TOKEN_SPNEGO, 0, tlv(0xa0, tlv(0x30, cat(tlv(0xa0, list), tlv(0xa7, tlv(4, none))))))));
}

/* ---- refusals ---- */

static struct sp_key alice_key; /* spares the tests below the string-to-key */

static void with_key(void)
{
    begin();
    alice_key = store_find_key(account("alice"), 18, 0)->key;
    C.how_i.wish.password = none;
    C.how_i.wish.keys = &alice_key;
    C.how_i.wish.key_count = 1;
}

static unsigned flip_token;
static size_t flip_at;

static struct sp_span flip(unsigned n, struct sp_span token)
{
    if (n == flip_token && flip_at < token.n)
        ((uint8_t *)(uintptr_t)token.p)[flip_at] ^= 1;
    return token;
}

/* T067: whatever is changed in a proxied token, nobody becomes established; and what gets as far as the AP
 * step is seen there. */
static void every_change_is_seen(void **state)
{
    unsigned at_the_end = 0, before = 0;

    (void)state;
    for (flip_token = 1; flip_token <= 6; flip_token++) {
        size_t n = 1, step;

        for (flip_at = 0; flip_at < n; flip_at += step) {
            sp_arena_reset(&scrap);
            with_key();
            C.meddle = flip;
            converse();
            n = C.count >= flip_token ? C.token[flip_token - 1].n : n;
            step = flip_at < 40 ? 1 : 5;
            if (C.a_ok && sec_is_established(C.a))
                fail_msg("token %u, byte %zu: taken", flip_token, flip_at);
            assert_false(sec_is_established(C.i));
            if (C.i_ok && C.i->inner.k.state == KCTX_WAIT_REP) {
                a_refused(SP_EREFUSED, KRB_AP_ERR_BAD_INTEGRITY, "FINISHED");
                at_the_end++;
            } else {
                before++;
            }
        }
    }
    if (at_the_end < 20 || before < 50)
        fail_msg("%u changes got as far as the AP step, %u did not", at_the_end, before);
}

static const struct sp_span discovery = {
    (const uint8_t *)"\x60\x10\x06\x06\x2b\x06\x01\x05\x02\x05\x05\x01\x30\x04\xa1\x02\x0c\x00", 18};

static struct sp_span drop_last(unsigned n, struct sp_span token)
{
    return n == 8 ? none : token;
}

/* T067, T070: one more, one less, in another order. */
static void missing_extra_reordered(void **state)
{
    struct sp_span early = {0}, ap_req;

    (void)state;
    for (int i = 0; i < 4; i++) {
        with_key();
        open_both();
        assert_true(start_i());
        early = copy(act_i.token);
        if (i == 0) /* the acceptor saw one more */
            assert_true(to_a(discovery));
        if (i == 1) { /* the same request twice: its first answer never came to the initiator */
            assert_true(to_a(early));
        }
        while (C.i->inner.state != IAKERB_ASKED_PEER) {
            struct sp_span t = copy(act_i.token);

            assert_true(to_a(t));
            assert_true(to_i(copy(act_a.token)));
        }
        ap_req = copy(act_i.token);
        if (i == 2) /* ... and after the initiator had made its AP-REQ */
            assert_true(to_a(discovery));
        assert_int_equal(to_a(ap_req), i == 3);
        if (i < 3)
            a_refused(SP_EREFUSED, KRB_AP_ERR_BAD_INTEGRITY, "the conversations differ");
    }
    assert_true(sec_is_established(C.a)); /* a proxied token after the AP-REQ: refused, and nothing lost */
    assert_false(to_a(early));
    assert_int_equal(C.ea.proto, KCTX_DEFECTIVE);
    assert_true(sec_is_established(C.a) && sec_kctx(C.a));
    assert_false(to_i(early)); /* nor is it an AP-REP */
    i_refused(SP_EINPUT, KCTX_DEFECTIVE, "a proxied token instead of the AP-REP");
    with_key(); /* the AP-REQ where nothing was proxied */
    open_both();
    to_a(ap_req);
    a_refused(SP_EREFUSED, KRB_AP_ERR_MSG_TYPE, "FINISHED without a conversation");
    with_key(); /* T078: the AP-REP never comes */
    C.meddle = drop_last;
    converse();
    assert_true(C.i_ok && !sec_is_established(C.i) && sec_is_established(C.a));
}

static void order_at_the_initiator(void **state)
{
    struct sp_err why = {.proto = 60};
    struct sp_span error, ap_rep;
    struct sec_action act;

    (void)state;
    with_key();
    converse();
    must("for its AP-REP", TOKEN_IAKERB, 4);
    ap_rep = copy(C.token[7]);
    error = none;
    assert_true(kctx_make_error(env, &why, none, NULL, &scrap, &error, &C.ei));
    for (int i = 0; i < 8; i++) {
        static const int32_t proto[] = {KCTX_DEFECTIVE, KCTX_DEFECTIVE, KCTX_DEFECTIVE, 60, 60, 60,
                                        KCTX_DEFECTIVE, KCTX_DEFECTIVE};
        struct sp_span t = i == 0   ? discovery
                           : i == 1 ? ap_rep
                           : i == 2 ? none
                           : i == 3 ? frame(TOKEN_IAKERB, TOKEN_KRB_ERROR, error) /* Apple */
                           : i == 4 ? cat(SP_LIT("\3\0"), error)
                           : i == 5 ? error
                           : i == 6 ? cat(SP_LIT("\5\1"), sp_span(discovery.p + 12, 6))
                                    : frame(TOKEN_KRB5, TOKEN_IAKERB_PROXY, error);

        with_key();
        open_both();
        assert_true(start_i());
        to_i(t);
        i_refused(proto[i] == 60 ? SP_EREFUSED : SP_EINPUT, proto[i], "instead of a KDC's message");
    }
    with_key();
    open_both();
    assert_true(start_i());
    for (int kind = -1; kind < 6; kind++) { /* events that are not due change nothing */
        struct sp_err e = {0};

        if (kind == SEC_TOKEN)
            continue;
        assert_false(sec_step(C.i, env, &(struct sec_event){.kind = (enum sec_event_kind)kind}, &act, &e));
        assert_int_equal(e.proto, KCTX_NO_CONTEXT);
        assert_true(!C.i->failed && C.i->inner.state == IAKERB_ASKED_KDC);
    }
    with_key(); /* replayed into another context */
    open_both();
    assert_true(start_i());
    while (C.i->inner.state != IAKERB_ASKED_PEER) {
        assert_true(to_a(copy(act_i.token)));
        assert_true(to_i(copy(act_a.token)));
    }
    to_i(ap_rep);
    assert_true(!C.i_ok && C.ei.kind == SP_EREFUSED); /* sealed in another session key */
}

/* Decision 25. */
/* T065: discovery counts. */
static void limits(void **state)
{
    struct sp_span big;
    uint8_t *p;
    struct sp_err e = {0};

    (void)state;
    begin();
    open_both();
    for (int i = 1; i <= SEC_MESSAGES_MAX; i++)
        assert_true(to_a(discovery));
    to_a(discovery);
    a_refused(SP_EREFUSED, KCTX_UNAUTHORIZED, "message 21");
    begin();
    open_both();
    assert_true(to_a(discovery));
    env.mono_us += SEC_LIFE_US - 2000;
    assert_true(to_a(discovery));
    env.mono_us += 1000;
    to_a(discovery);
    a_refused(SP_EREFUSED, KCTX_UNAUTHORIZED, "30 s");
    p = sp_alloc(&scrap, 64900, &e);
    assert_non_null(p);
    big = frame(TOKEN_IAKERB, TOKEN_IAKERB_PROXY,
                tlv(0x30, cat(tlv(0xa1, tlv(0x0c, none)), tlv(0xa9, tlv(4, sp_span(p, 64900))))));
    assert_true(big.n <= SEC_TOKEN_MAX);
    begin();
    open_both();
    for (int i = 1; i <= 4; i++)
        assert_true(to_a(big));
    to_a(big);
    a_refused(SP_EREFUSED, KCTX_UNAUTHORIZED, "256 KiB");
    begin();
    open_both();
    to_a(cat(big, sp_span(p, 100)));
    a_refused(SP_EREFUSED, KRB_ERR_FIELD_TOOLONG, "a token of more than 65000 bytes");
    begin();
    open_both();
    assert_true(start_i());
    env.mono_us += SEC_LIFE_US + 1;
    to_i(discovery);
    i_refused(SP_EREFUSED, KCTX_UNAUTHORIZED, "30 s, initiator");
}

/* An AS-REQ as a client of that realm makes it. */
static struct sp_span as_req_of(const char *user, const char *realm)
{
    struct krb_kdc_req m = {
        .body = {.has = KRB_BIT(1) | KRB_BIT(3),
                 .cname = name_of(user, 1),
                 .realm = sp_str(realm),
                 .sname = name_of("krbtgt/" REALM, 2),
                 .till = NOW + 3600,
                 .nonce = 7,
                 .etypes = {(int32_t[]){18}, 1}}
    };

    return put(KRB_AS_REQ, &m);
}

static struct sp_span as_req(const char *realm)
{
    return as_req_of("alice", realm);
}

static struct sp_span proxied(struct sp_span realm, struct sp_span message)
{
    struct krb_iakerb_header h = {.target_realm = realm};

    return frame(TOKEN_IAKERB, TOKEN_IAKERB_PROXY, cat(put(KRB_IAKERB_HEADER, &h), message));
}

static int32_t answered_code(struct sp_span token, struct sp_span realm)
{
    struct krb_error m = {0};
    struct krb_iakerb_header h = {0};
    struct token t = {0};
    struct sp_cur c;
    struct sp_err e = {0};
    struct sp_span der = {0};

    assert_true(token_get(token, &t, &e) && t.id == TOKEN_IAKERB_PROXY);
    c = sp_cur_of(t.body, &e);
    assert_true(sp_der_any(&c, "header", &der) &&
                krb_get(KRB_IAKERB_HEADER, der, KRB_STRICT, &scrap, &h, &e));
    assert_true(sp_same(h.target_realm, realm)); /* as it was asked for */
    assert_int_equal(h.has & (KRB_BIT(2) | KRB_BIT(3)), 0);
    assert_true(krb_get(KRB_ERROR, sp_span(c.p, sp_left(&c)), KRB_STRICT, &scrap, &m, &e));
    assert_false(KRB_HAS(&m, 11));
    return m.code;
}

/* T061 */
static void target_realms(void **state)
{
    static char long_realm[257];
    static struct sp_span listed[] = {
        {(const uint8_t *)"EXAMPLE.COM", 11}
    };
    static const struct {
        const char *realm, *body;
        int32_t code; /* 25, 68: carried, 85: answered, negative: refused */
    } rows[] = {
        {REALM,          REALM,         25            },
        {"nas1",         REALM,         25            },
        {"",             REALM,         25            }, /* sspi-rs */
        {".",            ".",           68            }, /* Scapy; the KDC tells the name */
        {"nas1.example", "NAS1",        25            },
        {"",             "EXAMPLE.COM", 85            },
        {"EXAMPLE.COM",  "EXAMPLE.COM", 25            },
        {"EXAMPLE.COM",  REALM,         85            },
        {"example.com",  "example.com", 85            },
        {"ELSEWHERE",    "ELSEWHERE",   85            },
        {REALM,          "ELSEWHERE",   85            },
        {"192.0.2.1",    REALM,         85            },
        {"nas1:88",      REALM,         85            },
        {"NAS1.",        REALM,         85            },
        {long_realm + 1, REALM,         85            },
        {long_realm,     REALM,         KCTX_DEFECTIVE},
        {"A/B",          REALM,         KCTX_DEFECTIVE},
        {"A\nB",         REALM,         KCTX_DEFECTIVE},
        {"A@B",          REALM,         KCTX_DEFECTIVE},
        {"A\xff",        REALM,         KCTX_DEFECTIVE},
    };

    (void)state;
    memset(long_realm, 'R', 256);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sp_span realm = sp_str(rows[i].realm);

        begin();
        C.how_a.realms = (struct sp_spans){listed, 1};
        C.kdc = sp_same(realm, listed[0]) ? no_kdc : C.kdc;
        open_both();
        to_a(proxied(realm, as_req(rows[i].body)));
        assert_int_equal(C.carried, rows[i].code == 25 || rows[i].code == 68);
        if (rows[i].code < 0)
            a_refused(SP_EINPUT, KCTX_DEFECTIVE, rows[i].realm);
        else if (C.kdc == no_kdc)
            assert_int_equal(answered_code(act_a.token, realm), rows[i].code == 25 ? 86 : rows[i].code);
        else
            assert_int_equal(answered_code(act_a.token, realm), rows[i].code);
        if (C.carried)
            assert_true(sp_same(C.carried_realm, C.kdc == no_kdc ? listed[0] : SP_LIT(REALM)));
    }
    begin(); /* NUL: MIT took what stands before it */
    open_both();
    to_a(proxied(sp_span("NAS1\0X", 6), as_req(REALM)));
    a_refused(SP_EINPUT, KCTX_DEFECTIVE, "NUL");
}

/* T062: nothing but one request leaves, nothing but its answer comes back. */
static struct sp_span given;

static struct sp_span give(struct sp_span realm, struct sp_span request)
{
    (void)realm;
    (void)request;
    return given;
}

static struct sp_span error_of(int32_t code)
{
    struct sp_err why = {.kind = SP_EREFUSED, .proto = code}, e = {0};
    struct sp_span made;

    assert_true(kctx_make_error(env, &why, none, NULL, &scrap, &made, &e));
    return made;
}

/* P42: one user and three failures of pre-authentication in a context. */
static void tries(void **state)
{
    static const struct {
        int32_t code;
        bool counts;
    } rows[] = {
        {KDC_ERR_PREAUTH_FAILED,      true },
        {KRB_AP_ERR_BAD_INTEGRITY,    true }, /* Heimdal's word for it */
        {KDC_ERR_PREAUTH_REQUIRED,    false},
        {KDC_ERR_C_PRINCIPAL_UNKNOWN, false},
        {KRB_AP_ERR_SKEW,             false},
    };
    struct sp_span tgs_req;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin();
        C.kdc = give;
        given = error_of(rows[i].code);
        open_both();
        for (int n = 1; n <= SEC_FAILURES_MAX; n++) {
            assert_true(to_a(proxied(SP_LIT(REALM), as_req(REALM))));
            assert_int_equal(answered_code(act_a.token, SP_LIT(REALM)), rows[i].code);
        }
        assert_int_equal(to_a(proxied(SP_LIT(REALM), as_req(REALM))), !rows[i].counts);
        assert_int_equal(C.carried, SEC_FAILURES_MAX + !rows[i].counts);
        if (rows[i].counts)
            a_refused(SP_EREFUSED, KCTX_UNAUTHORIZED, "a fourth try");
    }
    with_key(); /* a TGS proves nobody's password */
    converse();
    tgs_req = copy(C.token[4]);
    begin();
    C.kdc = give;
    given = error_of(KRB_AP_ERR_BAD_INTEGRITY);
    open_both();
    for (int n = 0; n < SEC_FAILURES_MAX; n++)
        assert_true(to_a(tgs_req));
    assert_true(to_a(proxied(SP_LIT(REALM), as_req(REALM))));
    given = none;
    begin();
    open_both();
    assert_true(to_a(discovery));
    assert_true(to_a(proxied(SP_LIT(REALM), as_req_of("WELLKNOWN/ANONYMOUS", REALM)))); /* for armour */
    assert_true(to_a(proxied(SP_LIT(REALM), as_req(REALM))));
    assert_true(to_a(proxied(SP_LIT("."), as_req("NAS1.EXAMPLE"))));
    assert_true(to_a(proxied(SP_LIT(REALM), as_req_of("WELLKNOWN/ANONYMOUS", REALM))));
    assert_int_equal(C.carried, 4);
    to_a(proxied(SP_LIT(REALM), as_req_of("backup/nas1", REALM)));
    a_refused(SP_EREFUSED, KCTX_UNAUTHORIZED, "a second user");
    assert_int_equal(C.carried, 4);
}

static void bodies(void **state)
{
    struct sp_span req = as_req(REALM), bad[12], rep, tgs, error;
    unsigned count = 0;
    struct krb_error m = {.has = KRB_BIT(11),
                          .stime = NOW,
                          .code = 60,
                          .realm = SP_LIT(REALM),
                          .sname = name_of("krbtgt/" REALM, 2),
                          .text = SP_LIT("LOOKING_UP_SERVER")};
    struct krb_error got = {0};
    struct token t;
    struct sp_err e = {0};

    (void)state;
    with_key();
    converse();
    rep.p = memchr(C.token[3].p + 10, 0x6b, 40);
    rep.n = (size_t)(C.token[3].p + C.token[3].n - rep.p);
    tgs.p = memchr(C.token[5].p + 10, 0x6d, 40);
    tgs.n = (size_t)(C.token[5].p + C.token[5].n - tgs.p);
    error = put(KRB_ERROR, &m);
    bad[count++] = SP_LIT("GET / HTTP/1.1\r\n\r\n");
    bad[count++] = cat(req, req);
    bad[count++] = cat(req, SP_LIT("\0"));
    bad[count++] = sp_span(req.p, req.n - 1);
    bad[count++] = cat(SP_LIT("\0\0\0\x80"), req);
    bad[count++] = rep;
    bad[count++] = error;
    bad[count++] = SP_LIT("\x6e\x02\x30\0");
    bad[count++] = SP_LIT("\x74\x02\x30\0");
    bad[count++] = SP_LIT("\x6a\x80\0\0");
    bad[count++] = SP_LIT("j");
    for (unsigned i = 0; i < count; i++) {
        char why[32];

        snprintf(why, sizeof why, "body %u", i);
        begin();
        open_both();
        to_a(proxied(SP_LIT(REALM), bad[i]));
        a_refused(SP_EINPUT, C.ea.proto ? C.ea.proto : 1, why);
        assert_int_equal(C.carried, 0);
        assert_int_equal(C.error_token.n, 0);
    }
    bad[count++] = tgs; /* of a TGS, to an AS-REQ */
    for (unsigned i = 0; i < count; i++) {
        begin();
        C.kdc = give;
        given = i == 5 ? cat(rep, SP_LIT("\0")) : i == 6 ? sp_span(error.p, error.n - 1) : bad[i];
        open_both();
        assert_true(to_a(proxied(SP_LIT(REALM), req)));
        assert_int_equal(answered_code(act_a.token, SP_LIT(REALM)), 86);
    }
    for (int kept = 0; kept < 2; kept++) { /* P44 */
        begin();
        C.kdc = give;
        given = error;
        C.how_a.e_text = kept ? SEC_E_TEXT_KEEP : SEC_E_TEXT_DROP;
        open_both();
        assert_true(to_a(proxied(SP_LIT(REALM), req)));
        assert_true(token_get(act_a.token, &t, &e));
        assert_true(krb_get(KRB_ERROR, sp_span(t.body.p + 10, t.body.n - 10), KRB_STRICT, &scrap, &got, &e));
        assert_int_equal(KRB_HAS(&got, 11), kept);
        assert_int_equal(got.code, 60);
    }
    given = none;
}

/* ---- header fields ---- */

static unsigned edit_token;
static uint32_t edit_has;

static struct sp_span edit_header(unsigned n, struct sp_span token)
{
    struct krb_iakerb_header h = {0};
    struct token t = {0};
    struct sp_err e = {0};
    struct sp_cur c;
    struct sp_span der = {0};

    if (n != edit_token)
        return token;
    assert_true(token_get(token, &t, &e));
    c = sp_cur_of(t.body, &e);
    assert_true(sp_der_any(&c, "header", &der) &&
                krb_get(KRB_IAKERB_HEADER, der, KRB_STRICT, &scrap, &h, &e));
    h.has |= edit_has;
    h.cookie = SP_LIT("cookie!");
    h.header_flags = 0x01000000;
    return frame(TOKEN_IAKERB, TOKEN_IAKERB_PROXY,
                 cat(put(KRB_IAKERB_HEADER, &h), sp_span(c.p, sp_left(&c))));
}

static struct krb_iakerb_header header_of(struct sp_span token)
{
    struct krb_iakerb_header h = {0};
    struct token t;
    struct sp_err e = {0};
    struct sp_cur c;
    struct sp_span der;

    assert_true(token_get(token, &t, &e) && t.id == TOKEN_IAKERB_PROXY && t.mech == TOKEN_IAKERB);
    c = sp_cur_of(t.body, &e);
    assert_true(sp_der_any(&c, "header", &der) &&
                krb_get(KRB_IAKERB_HEADER, der, KRB_STRICT, &scrap, &h, &e));
    return h;
}

static void header_fields(void **state)
{
    struct token t;
    struct sp_err e = {0};

    (void)state;
    for (int i = 0; i < 4; i++) {
        with_key();
        edit_token = i < 2 ? 2 : 1;
        edit_has = KRB_BIT(i % 2 ? 3 : 2);
        C.meddle = edit_header;
        converse();
        a_refused(SP_EREFUSED, KRB_AP_ERR_BAD_INTEGRITY, "somebody added a field");
        assert_true(token_get(C.token[6], &t, &e) && t.id == TOKEN_AP_REQ);
        assert_int_equal(t.mech, i % 2 ? TOKEN_KRB5 : TOKEN_IAKERB); /* header-flags give Windows away */
        assert_int_equal(header_of(C.token[2]).has & 0xc, i == 0 ? KRB_BIT(2) : 0);
        if (i == 0)
            assert_true(sp_same(header_of(C.token[2]).cookie, SP_LIT("cookie!")));
        assert_int_equal(header_of(C.token[4]).has & 0xc, 0); /* echoed once */
        if (i == 3) {                                         /* zeros, where they were sent */
            assert_int_equal(header_of(C.token[1]).has & 0xc, KRB_BIT(3));
            assert_int_equal(header_of(C.token[1]).header_flags, 0);
            assert_int_equal(header_of(C.token[3]).has & 0xc, 0);
        }
    }
    with_key();
    C.how_i.krb5_framed_ap_req = true;
    converse();
    must("krb5's OID", TOKEN_IAKERB, 4);
    assert_true(token_get(C.token[6], &t, &e) && t.mech == TOKEN_KRB5);
    assert_true(token_get(C.token[7], &t, &e) && t.mech == TOKEN_KRB5); /* mirrored */
}

/* Looks at what is asked of the KDC, and does what `Z` says with the answer. */
static struct {
    unsigned forwards;   /* requests for a forwarded TGT */
    bool ok_as_delegate; /* the KDC says so of every service */
    bool forged;         /* somebody who has not the KDC's key does */
    int32_t refuses;     /* to forward, with this code */
} Z;

/* The reply of a TGS with another flag, sealed in the request's subkey, or in a key that a forger can know.
 */
static struct sp_span with_flag(const struct krb_kdc_req *q, struct sp_span reply)
{
    static const struct sp_key forger = {.n = 32, .etype = 18};
    struct sp_key session = {0}, subkey = {0};
    struct krb_ap_req ap;
    struct krb_enc_ticket inside;
    struct krb_authenticator auth;
    struct krb_kdc_rep rep;
    struct krb_enc_kdc_rep part;

    get(KRB_AP_REQ, find_pa(&q->padata, PA_TGS_REQ)->value, &ap);
    assert_true(open_sealed(KRB_ENC_TICKET, &ap.ticket.enc,
                            &store_find_key(account("krbtgt/" REALM), ap.ticket.enc.etype, 0)->key, KU_TICKET,
                            &inside));
    session = (struct sp_key){.n = (uint8_t)inside.key.value.n, .etype = inside.key.type};
    memcpy(session.b, inside.key.value.p, session.n);
    assert_true(open_sealed(KRB_AUTHENTICATOR, &ap.authenticator, &session, KU_TGS_REQ_AUTH, &auth));
    subkey = (struct sp_key){.n = (uint8_t)auth.subkey.value.n, .etype = auth.subkey.type};
    memcpy(subkey.b, auth.subkey.value.p, subkey.n);
    get(KRB_TGS_REP, reply, &rep);
    assert_true(open_sealed(KRB_ENC_TGS_REP, &rep.enc, &subkey, KU_TGS_REP_SUBKEY, &part));
    part.flags |= KRB_FLAG(TKT_OK_AS_DELEGATE);
    rep.enc = seal(KRB_ENC_TGS_REP, &part, Z.forged ? &forger : &subkey, KU_TGS_REP_SUBKEY);
    return put(KRB_TGS_REP, &rep);
}

static struct sp_span watched_kdc(struct sp_span realm, struct sp_span request)
{
    struct krb_kdc_req q;
    struct sp_span reply;
    enum krb_type t = krb_sniff(request);

    assert_true(sp_same(realm, SP_LIT(REALM)));
    get(t, request, &q);
    if (q.body.options & KRB_FLAG(OPT_FORWARDED)) {
        Z.forwards++;
        if (Z.refuses)
            return error_of(Z.refuses);
    }
    reply = our_kdc(request);
    return krb_sniff(reply) == KRB_TGS_REP && (Z.ok_as_delegate || Z.forged) ? with_flag(&q, reply) : reply;
}

static void begin_watched(void)
{
    memset(&Z, 0, sizeof Z);
    begin();
    C.kdc = watched_kdc;
}

/* The acceptor has a forwarded TGT, and it is of use. */
static void was_delegated(const char *why)
{
    struct krb_credential got = {0}, kept;
    struct sp_err e = {0};
    struct sec_facts f;

    assert_true(sec_kctx(C.i)->flags & KCTX_DELEG);
    assert_true(sec_kctx(C.a)->flags & KCTX_DELEG);
    assert_false(sec_kctx(C.a)->flags & KCTX_DELEG_POLICY); /* RFC 5896: is not on the wire */
    if (!kctx_read_cred(sec_kctx(C.a)->delegated, &scrap, &got, &e))
        fail_msg("%s: %s", why, e.text);
    assert_true(got.flags & KRB_FLAG(TKT_FORWARDED));
    assert_true(krb_is_tgs_name(&got.server, SP_LIT(REALM)));
    kept = got;
    kept.ticket = copy(got.ticket);
    begin();
    C.how_i.wish.password = none;
    C.how_i.wish.tgt = &kept;
    converse();
    must(why, TOKEN_IAKERB, 2);
    sec_tell(C.a, &f);
}

static void was_not_delegated(void)
{
    assert_false((sec_kctx(C.i)->flags | sec_kctx(C.a)->flags) & (KCTX_DELEG | KCTX_DELEG_POLICY));
    assert_int_equal(sec_kctx(C.a)->delegated.n, 0);
}

/* A forwarded TGT with a ticket of that many bytes, about. */
static struct krb_credential long_tgt(size_t n)
{
    struct krb_credential c = tgt;
    struct krb_ticket t = {0};
    static uint8_t cipher[SEC_TOKEN_MAX];

    get(KRB_TICKET, tgt.ticket, &t);
    t.enc.cipher = sp_span(cipher, n);
    c.ticket = put(KRB_TICKET, &t);
    return c;
}

static void get_forwardable(void)
{
    begin();
    C.how_i.wish.options = KRB_FLAG(OPT_FORWARDABLE);
    keep_tickets();
    assert_true(tgt.flags & KRB_FLAG(TKT_FORWARDABLE));
}

static void with_tgt(void)
{
    begin_watched();
    C.how_i.wish.password = none;
    C.how_i.wish.tgt = &tgt;
}

/* RFC 4121 4.1.1 with a TGT that is fetched through the acceptor: one round trip more than without. */
static void delegation_in_band(void **state)
{
    enum { BY_SPAKE = 1, BY_AS = 2, BY_TGT = 4, BY_TICKET = 8, OLD = 16 };
    static const struct {
        const char *why;
        unsigned legs, how;
        uint32_t more;
    } rows[] = {
        {"password",               5, 0,                  0       },
        {"SPAKE, no TGT wanted",   5, BY_SPAKE | BY_AS,   0       },
        {"DCE style",              6, 0,                  KCTX_DCE},
        {"MIT's old dialect",      5, OLD,                0       },
        {"TGT",                    3, BY_TGT,             0       },
        {"TGT and service ticket", 2, BY_TGT | BY_TICKET, 0       },
    };

    (void)state;
    get_forwardable();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin_watched();
        if (rows[i].how & BY_SPAKE)
            client_policy_in_band(&C.how_i.policy);
        if (rows[i].how & BY_TGT)
            with_tgt();
        C.how_i.ticket = rows[i].how & BY_TICKET ? &ticket : NULL;
        C.how_i.service_by_as = rows[i].how & BY_AS;
        C.how_i.old_mit = C.how_a.old_mit = rows[i].how & OLD ? SEC_OLD_MIT_ACCEPT : SEC_OLD_MIT_OFF;
        C.how_i.flags |= KCTX_DELEG | rows[i].more;
        converse();
        must(rows[i].why, TOKEN_IAKERB, rows[i].legs);
        assert_int_equal(Z.forwards, 1);
        was_delegated(rows[i].why);
    }
}

/* What cannot be had is not delegated, and ends nothing; an answer that is not the KDC's does. */
static void delegation_that_fails(void **state)
{
    struct krb_credential plain;

    (void)state;
    get_forwardable();
    plain = tgt;
    plain.flags &= ~KRB_FLAG(TKT_FORWARDABLE);
    with_tgt();
    C.how_i.wish.tgt = &plain;
    C.how_i.flags |= KCTX_DELEG;
    converse();
    must("not forwardable", TOKEN_IAKERB, 2);
    assert_int_equal(Z.forwards, 0);
    was_not_delegated();
    for (int i = 0; i < 3; i++) {
        with_tgt();
        C.how_i.flags |= KCTX_DELEG;
        Z.refuses = i == 0 ? KDC_ERR_POLICY : i == 1 ? KDC_ERR_BADOPTION : KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE;
        converse();
        must("the KDC says no", TOKEN_IAKERB, 3);
        assert_int_equal(Z.forwards, 1);
        was_not_delegated();
    }
    W.cf.forwardable = false;
    begin_watched();
    C.how_i.flags |= KCTX_DELEG;
    converse();
    must("a realm without forwarding", TOKEN_IAKERB, 4);
    assert_int_equal(Z.forwards, 0);
    was_not_delegated();
    W.cf.forwardable = true;
    with_tgt();
    C.how_i.ticket = &ticket;
    C.how_i.flags |= KCTX_DELEG;
    Z.forged = true;
    converse();
    i_refused(SP_EREFUSED, KRB_AP_ERR_MODIFIED, "a forwarded TGT from somebody else");
    for (size_t n = 50000; n <= 64000; n += 14000) {
        plain = long_tgt(n);
        with_tgt();
        C.how_i.ticket = &ticket;
        C.how_i.forwarded = &plain;
        C.how_i.flags |= KCTX_DELEG;
        converse();
        must("a long ticket", TOKEN_IAKERB, 1);
        assert_true(C.token[0].n <= SEC_TOKEN_MAX);
        assert_int_equal(sec_kctx(C.a)->delegated.n > 0, n == 50000);
        if (n != 50000)
            was_not_delegated();
    }
    with_tgt();
    C.how_i.mechs[0] = TOKEN_KRB5;
    C.how_i.ticket = &ticket;
    C.how_i.flags |= KCTX_DELEG;
    converse();
    must("krb5 fetches nothing", TOKEN_KRB5, 1);
    was_not_delegated();
}

/* NegTokenInit2 with delegFlag among its reqFlags (RFC 4178 4.2.1). */
static struct sp_span ask_for_delegation(unsigned n, struct sp_span token)
{
    static const enum token_mech list[] = {TOKEN_IAKERB};
    struct sp_span body = cat(tlv(0xa0, mech_list(list, 1)), SP_LIT("\xa1\x04\x03\x02\x01\xfe"));

    return n == 1 ? frame(TOKEN_SPNEGO, 0, tlv(0xa0, tlv(0x30, body))) : token;
}

/* T079: neither the acceptor nor who speaks for the KDC decides; the caller's flags do, and with the policy's
 * flag the KDC's word about the service, under its seal (RFC 5896). */
static void no_delegation_unasked(void **state)
{
    static const struct {
        const char *why;
        uint32_t asked;
        bool ok_as_delegate, forged, want;
    } rows[] = {
        {"nothing asked",                     0,                              false, false, false},
        {"nothing asked, trusted",            0,                              true,  false, false},
        {"policy asked, not trusted",         KCTX_DELEG_POLICY,              false, false, false},
        {"policy asked, trusted",             KCTX_DELEG_POLICY,              true,  false, true },
        {"policy asked, trust is forged",     KCTX_DELEG_POLICY,              false, true,  false},
        {"both asked, not trusted",           KCTX_DELEG | KCTX_DELEG_POLICY, false, false, true },
        {"delegation asked, trust is forged", KCTX_DELEG,                     false, true,  false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin_watched();
        C.how_i.flags |= rows[i].asked;
        C.how_i.wish.options = KRB_FLAG(OPT_FORWARDABLE);
        Z.ok_as_delegate = rows[i].ok_as_delegate;
        Z.forged = rows[i].forged;
        converse();
        assert_int_equal(Z.forwards, rows[i].want);
        if (rows[i].forged) {
            i_refused(SP_EREFUSED, KRB_AP_ERR_MODIFIED, rows[i].why);
            continue;
        }
        must(rows[i].why, TOKEN_IAKERB, rows[i].want ? 5 : 4);
        assert_int_equal((sec_kctx(C.i)->flags & KCTX_DELEG_POLICY) != 0,
                         rows[i].want && rows[i].ok_as_delegate);
        if (rows[i].want)
            was_delegated(rows[i].why);
        else
            was_not_delegated();
    }
    begin_watched();
    C.how_i.wish.options = KRB_FLAG(OPT_FORWARDABLE);
    C.how_i.spnego = C.greet = true;
    C.meddle = ask_for_delegation;
    converse();
    must("the acceptor asks", TOKEN_IAKERB, 5);
    assert_int_equal(Z.forwards, 0);
    was_not_delegated();
    begin_watched(); /* a forwarded TGT that is there already stays, too */
    C.how_i.flags |= KCTX_DELEG_POLICY;
    C.how_i.forwarded = &tgt;
    converse();
    must("not trusted with what is there", TOKEN_IAKERB, 4);
    was_not_delegated();
}

/* ---- a KDC, an acceptor and a network that lie ---- */

/* What the acceptor gave to its client: the bytes of a KDC, or error 86. */
static void passed_or_86(struct sp_span sent)
{
    struct token t = {0};
    struct sp_err e = {0};

    assert_true(token_get(act_a.token, &t, &e) && t.id == TOKEN_IAKERB_PROXY);
    if (t.body.n < sent.n || !sp_same(sp_span(t.body.p + t.body.n - sent.n, sent.n), sent))
        assert_int_equal(answered_code(act_a.token, SP_LIT(REALM)), KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE);
}

/* T063: lengths that a KDC lies about, and what it sends without end, are error 86 to the client. */
static void lengths_of_a_rogue_kdc(void **state)
{
    static const uint8_t length[] = {0, 1, 0x7f, 0x80, 0x81, 0x82, 0x84, 0xff};
    struct sp_span rep, error, req = as_req(REALM);
    static uint8_t big[128 * 1024];

    (void)state;
    with_key();
    converse();
    rep.p = memchr(C.token[3].p + 10, 0x6b, 40);
    rep.n = (size_t)(C.token[3].p + C.token[3].n - rep.p);
    error = copy(our_kdc(as_req(REALM)));
    assert_true(krb_sniff(rep) == KRB_AS_REP && krb_sniff(error) == KRB_ERROR);
    for (size_t i = 0; i < 2 * (rep.n + error.n) * sizeof length; i++) {
        struct sp_span whole = i / sizeof length % 2 ? rep : error, sent;
        size_t at = i / sizeof length / 2 % whole.n, mark = scrap.used;

        begin();
        C.kdc = give;
        sent = given = copy(whole);
        ((uint8_t *)(uintptr_t)sent.p)[at] = length[i % sizeof length];
        open_both();
        assert_true(to_a(proxied(SP_LIT(REALM), req)));
        passed_or_86(sent);
        assert_true(to_a(discovery)); /* and the context lives */
        scrap.used = mark;
    }
    memcpy(big, error.p, error.n);
    for (size_t n = error.n + 1; n <= sizeof big; n = n * 3 / 2 + 1) {
        begin();
        C.kdc = give;
        given = sp_span(big, n);
        big[1] = 0x84;
        for (int k = 0; k < 4; k++) /* one message as long as it says, or four thousand million bytes */
            big[2 + k] = n % 2 ? 0xff : (uint8_t)((n - 6) >> (24 - 8 * k));
        open_both();
        assert_true(to_a(proxied(SP_LIT(REALM), req)));
        assert_int_equal(answered_code(act_a.token, SP_LIT(REALM)), KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE);
    }
    given = none;
}

/* The longest message of a KDC that is carried, and one that no token holds. */
static void long_answers(void **state)
{
    static uint8_t data[65000];
    struct krb_error m = {.has = KRB_BIT(12),
                          .stime = NOW,
                          .code = KDC_ERR_PREAUTH_REQUIRED,
                          .realm = SP_LIT(REALM),
                          .sname = name_of("krbtgt/" REALM, 2)};

    (void)state;
    for (size_t n = 63000; n <= sizeof data; n += 2000) {
        begin();
        C.kdc = give;
        m.data = sp_span(data, n);
        given = put(KRB_ERROR, &m);
        open_both();
        assert_true(to_a(proxied(SP_LIT(REALM), as_req(REALM))));
        assert_int_equal(answered_code(act_a.token, SP_LIT(REALM)), n == 63000 ? 25 : 86);
        assert_true(act_a.token.n <= SEC_TOKEN_MAX);
    }
    given = none;
}

static int32_t offered_etype;
static uint32_t keys_made;

/* Error 25 as a rogue makes it: one type of key, a timestamp, no SPAKE. */
static struct sp_span offers_one_type(struct sp_span realm, struct sp_span request)
{
    struct krb_info2 info = {KRB_BIT(1), offered_etype, SP_LIT("salt"), {0}};
    struct krb_infos2 infos = {&info, 1};
    struct krb_pa pa[2] = {{.type = PA_ETYPE_INFO2}, {.type = PA_ENC_TIMESTAMP}};
    struct krb_padata list = {pa, 2};
    struct krb_error m = {.has = KRB_BIT(12),
                          .stime = NOW,
                          .code = KDC_ERR_PREAUTH_REQUIRED,
                          .realm = realm,
                          .sname = name_of("krbtgt/" REALM, 2)};
    struct krb_kdc_req q;

    get(KRB_AS_REQ, request, &q);
    keys_made += find_pa(&q.padata, PA_ENC_TIMESTAMP) != NULL;
    pa[0].value = put(KRB_INFOS2, &infos);
    m.data = put(KRB_PADATA, &list);
    return put(KRB_ERROR, &m);
}

/* T073, in-band, raw and in SPNEGO, where falling back to anything else would be the attack's aim. */
static void weak_types_offered(void **state)
{
    static const struct {
        int32_t etype, known;
    } rows[] = {
        {23, 0 },
        {3,  0 },
        {23, 20},
        {17, 20},
        {17, 18},
        {19, 20},
    };

    (void)state;
    for (size_t i = 0; i < 2 * sizeof rows / sizeof rows[0]; i++) {
        struct client_known known = {.etype = rows[i / 2].known, .salt = SP_LIT("salt"), .spake = true};

        begin();
        C.how_i.spnego = i % 2;
        C.how_i.wish.known = known.etype ? &known : NULL;
        C.how_i.policy.spake = known.etype != 0; /* so that what is known is not shown at once */
        C.kdc = offers_one_type;
        offered_etype = rows[i / 2].etype;
        keys_made = 0;
        converse();
        i_refused(SP_EREFUSED, KDC_ERR_ETYPE_NOSUPP, "a weak type of key");
        assert_int_equal(keys_made, 0);
    }
}

static struct sp_span without_frame(unsigned n, struct sp_span token)
{
    struct token t = {0};
    struct sp_err e = {0};

    if (n != 8)
        return token;
    assert_true(token_get(token, &t, &e) && t.id == TOKEN_AP_REP);
    return copy(t.body);
}

static struct sp_span under_krb5(unsigned n, struct sp_span token)
{
    return n == 8 ? frame(TOKEN_KRB5, TOKEN_AP_REP, without_frame(n, token)) : token;
}

/* Kerberos.NET leaves the frame off the AP-REP; Windows may put krb5's OID there. */
static void frames_of_the_ap_rep(void **state)
{
    static meddle_fn *const ways[] = {without_frame, under_krb5};

    (void)state;
    for (int i = 0; i < 2; i++) {
        with_key();
        C.meddle = ways[i];
        converse();
        must("another frame", TOKEN_IAKERB, 4);
    }
}

/* T075: B hands everything to the honest A. */
static void relayed_to_another_host(void **state)
{
    (void)state;
    begin(); /* A's KDC knows the name: the ticket is not for A */
    C.how_i.wish.service = name_of("backup/nas1", NT_SRV_HST);
    C.how_i.target_host = SP_LIT("b.example");
    converse();
    a_refused(SP_ENOTFOUND, KRB_AP_ERR_NOT_US, "a ticket for somebody else");
    assert_false(sec_is_established(C.i));
    begin(); /* it does not: there is no ticket */
    C.how_i.wish.service = name_of("host/b", NT_SRV_HST);
    C.how_i.target_host = SP_LIT("b.example");
    converse();
    i_refused(SP_EREFUSED, KDC_ERR_S_PRINCIPAL_UNKNOWN, "no such service");
    assert_false(sec_is_established(C.a));
}

/* T088: what this host made comes back to it. Nobody who has no key gains by that; and where the peer is
 * known to be elsewhere, the host itself is no client. */
static void own_tokens_come_back(void **state)
{
    uint8_t sealed[256], open[256], mic[KCTX_MIC_MAX];
    size_t n = sizeof sealed, m = sizeof open, mic_n = sizeof mic;
    struct sp_span text = SP_LIT("hello"), ap_req;
    struct sp_err e = {0};
    enum kctx_wrap how;
    bool good = true;

    (void)state;
    get_tickets();
    with_ticket();
    open_both();
    assert_true(start_i());
    ap_req = copy(act_i.token);
    to_i(ap_req); /* to who made it */
    i_refused(SP_EINPUT, KCTX_DEFECTIVE, "one's own AP-REQ");
    with_ticket();
    converse();
    must("for its messages", TOKEN_IAKERB, 1);
    for (int i = 0; i < 2; i++) {
        struct kctx *k = sec_kctx(i ? C.i : C.a);

        n = sizeof sealed, m = sizeof open, mic_n = sizeof mic;
        assert_true(kctx_wrap(k, crypto, &rng.rng, KCTX_CONFIDENTIAL, text, sealed, &n, &e));
        assert_true(kctx_get_mic(k, crypto, &text, 1, mic, &mic_n, &e));
        assert_false(kctx_unwrap(k, crypto, sp_span(sealed, n), open, &m, &how, &good, &e));
        assert_false(good);
        e = (struct sp_err){0};
        assert_false(kctx_verify_mic(k, crypto, &text, 1, sp_span(mic, mic_n), &good, &e));
        assert_false(good);
        e = (struct sp_err){0};
    }
    sec_wipe(C.a); /* the same AP-REQ again, wherever it comes from */
    sp_arena_init(&a_mem, a_block, sizeof a_block);
    assert_true(sec_new_acceptor(&C.a, crypto, &C.how_a, &a_mem, &C.ea));
    to_a(C.token[0]);
    a_refused(SP_EREFUSED, KRB_AP_ERR_REPEAT, "the same AP-REQ");
}

static void own_host_as_client(void **state)
{
    static const char *const client[] = {"alice", SERVICE, "backup/nas1"};

    (void)state;
    for (int i = 0; i < 6; i++) {
        struct sp_key key;
        bool own = i / 2 == 1;

        with_key();
        key = store_find_key(account(client[i / 2]), 18, 0)->key;
        C.how_i.wish.client = name_of(client[i / 2], NT_PRINCIPAL);
        C.how_i.wish.keys = &key;
        C.how_a.own = i % 2 ? SEC_OWN_REFUSED : SEC_OWN_TAKEN;
        converse();
        if (own && C.how_a.own == SEC_OWN_REFUSED)
            a_refused(SP_EREFUSED, KCTX_UNAUTHORIZED, "one's own host");
        else
            assert_true(sec_is_established(C.i) && sec_is_established(C.a));
    }
}

/* ---- T081: who edits the negotiation ---- */

enum edit {
    EDIT_SWAP,
    EDIT_SWAP_AND_ASK, /* ... and the server is made to say that the choice is to be confirmed */
    EDIT_REMOVE_FIRST,
    EDIT_ADD_NTLM,
    EDIT_REMOVE_LAST,
    EDIT_ADD_NEGOEX,
    EDIT_CHOICE,
    EDIT_NO_MIC,
    EDITS
};
static enum edit edit;

static struct sp_span mech_token(struct sp_span init)
{
    struct token t = {0};
    struct sp_err e = {0};
    struct sp_cur c;
    const uint8_t *end[3];
    struct sp_span list, token = {0};

    assert_true(token_get(init, &t, &e));
    c = sp_cur_of(t.body, &e);
    assert_true(sp_der_enter(&c, 0xa0, "init", &end[0]) && sp_der_enter(&c, 0x30, "init", &end[1]) &&
                sp_der_any(&c, "mechTypes", &list) && sp_der_enter(&c, 0xa2, "mechToken", &end[2]) &&
                sp_der_get(&c, 0x04, "mechToken", &token));
    return copy(token);
}

static struct sp_span edit_list(struct sp_span init)
{
    static const enum token_mech lists[][3] = {
        [EDIT_SWAP] = {TOKEN_KRB5,    TOKEN_IAKERB},
          [EDIT_SWAP_AND_ASK] = {TOKEN_KRB5,    TOKEN_IAKERB},
        [EDIT_REMOVE_FIRST] = {TOKEN_KRB5   },
          [EDIT_ADD_NTLM] = {TOKEN_NTLMSSP, TOKEN_IAKERB,             TOKEN_KRB5},
        [EDIT_REMOVE_LAST] = {TOKEN_IAKERB },
          [EDIT_ADD_NEGOEX] = {TOKEN_IAKERB, TOKEN_NEGOEX},
    };
    unsigned n = 0;

    while (n < 3 && lists[edit][n] != 0)
        n++;
    return neg_init(mech_list(lists[edit], n), lists[edit][0] == TOKEN_IAKERB ? mech_token(init) : none);
}

static struct sp_span edit_negotiation(unsigned n, struct sp_span token)
{
    struct resp r;

    if (n == 1)
        return edit < EDIT_CHOICE ? edit_list(token) : token;
    if (token.p[0] != 0xa1)
        return token;
    r = read_resp(token);
    if (edit == EDIT_SWAP_AND_ASK && n == 2)
        return neg_resp(3, r.mech, r.token, r.mic);
    if (edit == EDIT_CHOICE && n == 2)
        return neg_resp(r.state, TOKEN_KRB5, r.token, r.mic);
    return edit == EDIT_NO_MIC ? neg_resp(r.state, r.mech, r.token, none) : token;
}

/* Whatever is done to lists, choice or MIC: either the context fails, or it is what it would have been. RFC
 * 4178 5 lets a first choice go unconfirmed; who meddles gets no other one. */
static void negotiation_edited(void **state)
{
    static const enum token_mech ours[] = {TOKEN_IAKERB, TOKEN_KRB5};
    static const bool fails[EDITS][2] = {
        [EDIT_SWAP] = {true,  true },
          [EDIT_SWAP_AND_ASK] = {true,  true },
        [EDIT_REMOVE_FIRST] = {true,  true },
          [EDIT_ADD_NTLM] = {true,  true },
        [EDIT_REMOVE_LAST] = {false, false},
          [EDIT_ADD_NEGOEX] = {true,  false},
        [EDIT_CHOICE] = {true,  true },
          [EDIT_NO_MIC] = {true,  false},
    };

    (void)state;
    get_tickets();
    for (int i = 0; i < 2 * EDITS; i++) {
        bool warm = i % 2;

        edit = (enum edit)(i / 2);
        if (warm)
            with_ticket();
        else
            with_key(); /* without a ticket krb5 is not in the list */
        C.how_i.spnego = C.how_a.spnego_only = true;
        memcpy(C.how_i.mechs, ours, sizeof ours);
        C.how_i.mech_count = 2;
        C.meddle = edit_negotiation;
        converse();
        never_ntlm();
        if (fails[edit][warm])
            assert_true(!sec_is_established(C.i) && (!C.i_ok || !C.a_ok));
        else
            must("nothing gained", TOKEN_IAKERB, warm ? 1 : 5);
    }
}

static struct sp_span name_realm(unsigned n, struct sp_span token)
{
    return n == 2 ? given : token;
}

/* What the server says the realm is. */
static void discovered_realms(void **state)
{
    static const struct {
        const char *realm;
        bool adopt;
        int32_t proto;
    } rows[] = {
        {".",         false, KDC_ERR_WRONG_REALM},
        {"",          false, KDC_ERR_WRONG_REALM},
        {".",         true,  0                  },
        {"",          true,  0                  },
        {"A/B",       true,  KCTX_DEFECTIVE     },
        {"ELSEWHERE", true,  85                 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        with_key();
        C.how_i.wish.realm = none;
        C.how_i.discover = true;
        C.how_i.policy.adopt_realm = rows[i].adopt;
        given = proxied(sp_str(rows[i].realm), none);
        C.meddle = name_realm;
        converse();
        if (rows[i].proto)
            i_refused(rows[i].proto > 0 ? SP_EREFUSED : SP_EINPUT, rows[i].proto, rows[i].realm);
        else
            a_refused(SP_EREFUSED, KRB_AP_ERR_BAD_INTEGRITY, rows[i].realm); /* it was not what it sent */
    }
    with_key(); /* T072: an acceptor that names a realm gets nothing to guess on */
    C.how_i.wish.realm = none;
    C.how_i.discover = true;
    C.how_i.policy.timestamp = false;
    converse();
    i_refused(SP_EREFUSED, KDC_ERR_PREAUTH_REQUIRED, "only a timestamp would do");
    with_key();
    C.how_i.discover = true;
    converse();
    assert_true(!C.i_ok && C.ei.kind == SP_EINPUT); /* a name that has a realm */
    given = none;
}

/* FINISHED may lack where that is configured, and then it is told. */
static void without_finished(void **state)
{
    struct kctx k = {0};
    struct kctx_ask ask = {0};
    struct sp_span ap_req;
    struct sec_facts f;
    struct sp_err e = {0};

    get_tickets();
    (void)state;
    for (int i = 0; i < 2; i++) {
        begin();
        C.how_a.finished = i ? SEC_FINISHED_OPTIONAL : SEC_FINISHED_REQUIRED;
        open_both();
        assert_true(to_a(discovery));
        ask = (struct kctx_ask){.ticket = &ticket, .flags = FLAGS};
        memset(&k, 0, sizeof k);
        assert_true(kctx_request(&k, crypto, env, &ask, &scrap, &ap_req, &e));
        to_a(frame(TOKEN_KRB5, TOKEN_AP_REQ, ap_req)); /* as Scapy does it */
        if (i == 0) {
            a_refused(SP_EREFUSED, KCTX_BAD_SIG, "no FINISHED");
            continue;
        }
        assert_true(C.a_ok && sec_is_established(C.a));
        sec_tell(C.a, &f);
        assert_true(f.no_finished);
    }
    begin(); /* raw, and not DCE style */
    open_both();
    memset(&k, 0, sizeof k);
    assert_true(kctx_request(&k, crypto, env, &ask, &scrap, &ap_req, &e));
    to_a(ap_req);
    a_refused(SP_EINPUT, KCTX_DEFECTIVE, "an AP-REQ without framing");
}

/* T071: every question in every state. */
static void ask_everything(struct sec *s)
{
    struct sec_facts f;
    struct client_known known;
    bool done = sec_is_established(s);

    sec_tell(s, &f);
    assert_int_equal(sec_kctx(s) != NULL, done);
    assert_int_equal(sec_mech(s) != TOKEN_UNKNOWN, done);
    (void)sec_got_tgt(s);
    (void)sec_got_service(s);
    (void)sec_learnt(s, &known);
    assert_false(f.no_finished);
}

static void every_call_in_every_state(void **state)
{
    (void)state;
    for (int legs = 0; legs < 12; legs++) {
        with_key();
        C.how_i.spnego = legs % 2;
        open_both();
        ask_everything(C.i);
        ask_everything(C.a);
        assert_true(start_i());
        for (int i = 0; i < legs / 2; i++) {
            ask_everything(C.i);
            assert_true(to_a(copy(act_i.token)));
            ask_everything(C.a);
            if (act_a.token.n == 0 || sec_is_established(C.i))
                break;
            assert_true(to_i(copy(act_a.token)));
            if (act_i.token.n == 0)
                break;
        }
        ask_everything(C.i);
        sec_wipe(C.i);
        sec_wipe(C.a);
        ask_everything(C.i);
        ask_everything(C.a);
        sec_wipe(C.i);
        assert_false(to_a(discovery));
        assert_false(to_i(discovery));
    }
    sec_wipe(NULL);
}

static void little_memory(void **state)
{
    bool worked = false;
    size_t step;

    (void)state;
    for (size_t n = 0; n < 400000; n += step) {
        step = n < 4096 ? 16 : n < 32768 ? 1008 : 9984;
        sp_arena_reset(&scrap);
        with_key();
        C.how_i.spnego = true;
        C.how_i.flags |= KCTX_DELEG;
        C.how_a.realm = W.cf.realm;
        sp_arena_init(&i_mem, i_block, n);
        sp_arena_init(&a_mem, a_block, n);
        converse();
        worked = C.i && C.a && C.i_ok && C.a_ok && sec_is_established(C.i) && sec_is_established(C.a);
        if (!C.i_ok)
            assert_true(C.ei.kind == SP_ENOMEM);
        else if (!C.a_ok && C.ea.kind != SP_ENOMEM)
            fail_msg("%zu bytes: %s %s", n, sp_kind_name(C.ea.kind), C.ea.text);
    }
    assert_true(worked);
}

static void bindings_and_replays(void **state)
{
    static const uint8_t one[16] = {1}, two[16] = {2};
    static const struct {
        const uint8_t *i, *a;
        bool required;
        int32_t proto;
    } rows[] = {
        {one,  one,  true,  0                },
        {one,  two,  false, KCTX_BAD_BINDINGS},
        {NULL, one,  false, 0                },
        {NULL, one,  true,  KCTX_BAD_BINDINGS},
        {one,  NULL, false, 0                },
    };

    (void)state;
    get_tickets();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        with_ticket();
        C.how_i.bindings = rows[i].i;
        C.how_a.bindings = rows[i].a;
        C.how_a.require_bindings = rows[i].required;
        converse();
        if (rows[i].proto) {
            struct token t;
            struct krb_error m;
            struct sp_err e = {0};

            a_refused(SP_EREFUSED, rows[i].proto, "bindings");
            assert_true(token_get(C.error_token, &t, &e) && t.id == TOKEN_KRB_ERROR &&
                        t.mech == TOKEN_IAKERB);
            assert_true(krb_get(KRB_ERROR, t.body, KRB_STRICT, &scrap, &m, &e));
            assert_int_equal(m.code, 60);
            to_i(C.error_token);
            i_refused(SP_EREFUSED, 60, "bindings");
        } else {
            must("bindings", TOKEN_IAKERB, 1);
            assert_int_equal((sec_kctx(C.a)->flags & KCTX_CHANNEL_BOUND) != 0, i == 0);
        }
    }
    sec_wipe(C.a); /* the last one's AP-REQ, to another context of the same acceptor */
    sp_arena_init(&a_mem, a_block, sizeof a_block);
    assert_true(sec_new_acceptor(&C.a, crypto, &C.how_a, &a_mem, &C.ea));
    to_a(C.token[0]);
    a_refused(SP_EREFUSED, KRB_AP_ERR_REPEAT, "replayed");
}

/* ---- recorded conversations ---- */

#define RECORDED_MAX 16
static struct recording {
    struct sp_span token[RECORDED_MAX];
    bool from_client[RECORDED_MAX];
    unsigned count;
    int64_t now_s;
    struct sp_key service, session;
} R;

/* The hex digits behind `label` on one of the file's lines. */
static bool find_hex(const char *line, const char *label, struct sp_span *out)
{
    const char *at = strstr(line, label);
    uint8_t *p;
    size_t n = 0;
    struct sp_err e = {0};

    if (!at)
        return false;
    at += strlen(label);
    p = sp_alloc(&scrap, strlen(at) / 2 + 1, &e);
    assert_non_null(p);
    assert_true(sp_unhex(sp_span(at, strspn(at, "0123456789abcdef")), p, strlen(at) / 2 + 1, &n));
    *out = sp_span(p, n);
    return true;
}

static int32_t type_of(const char *line)
{
    const char *at = strstr(line, "etype ");

    return at ? (int32_t)strtol(at + 6, NULL, 10) : 0;
}

static void key_of(const char *line, struct sp_key *out)
{
    char label[24];
    struct sp_span b = SP_LIT("");

    snprintf(label, sizeof label, "etype %d ", type_of(line));
    assert_true(find_hex(line, label, &b) && b.n <= sizeof out->b);
    *out = (struct sp_key){.etype = type_of(line), .n = (uint8_t)b.n};
    memcpy(out->b, b.p, b.n);
}

/* "2026-11-21 01:17:55" */
static int64_t time_of(const char *text)
{
    static const uint8_t at[6] = {0, 5, 8, 11, 14, 17};
    long v[6];

    for (int i = 0; i < 6; i++)
        v[i] = strtol(text + at[i], NULL, 10);
    return sp_date_unix((struct sp_date){(int32_t)v[0], (uint8_t)v[1], (uint8_t)v[2], (uint8_t)v[3],
                                         (uint8_t)v[4], (uint8_t)v[5]});
}

static void read_line(const char *line, bool *token, bool *from_client)
{
    if (*token) {
        assert_true(R.count < RECORDED_MAX);
        R.from_client[R.count] = *from_client;
        assert_true(find_hex(line, "", &R.token[R.count++]));
        *token = false;
    } else if (strncmp(line, "# run at ", 9) == 0) {
        R.now_s = time_of(line + 9);
    } else if (strstr(line, "/fs1.sally.test key: ")) {
        key_of(line, &R.service);
    } else if (strncmp(line, "# GSS session key", 17) == 0) {
        struct sp_span b = SP_LIT("");

        assert_true(find_hex(line, "KEY): ", &b) && b.n <= sizeof R.session.b);
        R.session.n = (uint8_t)b.n;
        memcpy(R.session.b, b.p, b.n);
    } else if (strstr(line, "-TO-")) {
        *token = true;
        *from_client = strncmp(line, "INITIATOR", 9) == 0;
    }
}

/* Conversation `which` of the file: each begins with "# run at". */
static void load(const char *name, int which)
{
    static char line[1 << 17];
    char path[512];
    bool token = false, from_client = false;
    FILE *f;
    int at = -1;

    memset(&R, 0, sizeof R);
    snprintf(path, sizeof path, "%s/%s", TEST_VECTORS, name);
    f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        at += strncmp(line, "# run at", 8) == 0;
        if (at == which)
            read_line(line, &token, &from_client);
    }
    fclose(f);
    assert_true(R.count > 0 && R.now_s > 0);
}

static bool find_recorded(struct kctx_keys *keys, const struct krb_name *service, struct sp_span realm,
                          int32_t etype, uint32_t kvno, struct sp_key *out, struct sp_err *e)
{
    (void)keys;
    (void)service;
    (void)realm;
    (void)kvno;
    if (etype != R.service.etype)
        return sp_fail(e, SP_ENOTFOUND, KRB_AP_ERR_NOKEY, "no key");
    *out = R.service;
    return true;
}

/* A KDC's message where the recorded token has it: behind the header. */
static struct sp_span message_of(struct sp_span token)
{
    struct sp_err e = {0};
    struct sp_cur c;
    struct sp_span der = {0};
    struct token t = {.body = sp_span(token.p + 2, token.n - 2)};

    if (token.n < 3)
        return none;
    if (token.p[0] == 0xa0 || token.p[0] == 0xa1)
        return message_of(read_resp(token).token);
    if (token.p[0] == 0x60)
        assert_true(token_get(token, &t, &e));
    c = sp_cur_of(t.body, &e);
    assert_true(sp_der_any(&c, "header", &der));
    return sp_span(c.p, sp_left(&c));
}

static void begin_recorded(void)
{
    static struct kctx_keys port = {find_recorded};

    begin();
    env.wall_us = R.now_s * 1000000;
    C.how_a = (struct sec_acceptor){.realm = {.name = SP_LIT("SALLY.TEST")},
                                    .keys = &port,
                                    .replays = &replays.port,
                                    .skew_s = 300,
                                    .old_mit = SEC_OLD_MIT_ACCEPT,
                                    .list_mic = SEC_MIC_WHEN_SENT,
                                    .e_text = SEC_E_TEXT_KEEP}; /* as MIT relayed it, and its client saw it */
    C.kdc = give;
    open_both();
}

/* Our acceptor in the place of MIT's: what it proxies is the same to the byte, and what FINISHED covers. */
static void replay(const char *name)
{
    unsigned proxied_count = 0;
    struct sp_key k;
    bool last;

    begin_recorded();
    for (unsigned i = 0; i < R.count; i++) {
        struct sp_span mine;

        if (!R.from_client[i])
            continue;
        last = i + 2 >= R.count;
        given = last ? none : message_of(R.token[i + 1]);
        if (!to_a(R.token[i]))
            fail_msg("%s, token %u: %s %d", name, i + 1, C.ea.text, C.ea.proto);
        mine = act_a.token;
        if (last)
            break;
        if (!sp_same(mine, R.token[i + 1]))
            fail_msg("%s, token %u: %zu bytes instead of %zu", name, i + 2, mine.n, R.token[i + 1].n);
        proxied_count++;
    }
    assert_true(proxied_count >= 3 && sec_is_established(C.a));
    assert_non_null(strstr(sec_kctx(C.a)->client, "@SALLY.TEST"));
    assert_false(sec_kctx(C.a)->no_finished);
    assert_true(kctx_session_key(sec_kctx(C.a), &k, &C.ea));
    if (R.from_client[R.count - 1]) { /* without an AP-REP the session key is the initiator's */
        assert_int_equal(act_a.token.n, 0);
        assert_true(k.n == R.session.n && memcmp(k.b, R.session.b, k.n) == 0);
    } else {
        assert_int_equal(act_a.token.n, R.token[R.count - 1].n);
        assert_memory_equal(act_a.token.p, R.token[R.count - 1].p, 20);
    }
}

static void recorded_conversations(void **state)
{
    static const char *const files[] = {"iakerb-new-aes256sha1.txt", "iakerb-new-aes256sha2.txt",
                                        "iakerb-new-discovery.txt",  "iakerb-new-nomutual.txt",
                                        "iakerb-old-1.20.1.txt",     "spnego-iakerb-first.txt"};

    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        load(files[i], 0);
        replay(files[i]);
    }
    for (unsigned i = 0; i < 6; i++) { /* one bit of what FINISHED covers: a KDC's message, as relayed */
        load("iakerb-new-aes256sha1.txt", 0);
        begin_recorded();
        for (unsigned n = 0; n < R.count; n += 2) {
            given = none;
            if (n + 1 < R.count - 1)
                given = message_of(R.token[n + 1]);
            if (n / 2 == i % 3 && given.n) /* in the last byte: inside the encrypted part or e-data */
                ((uint8_t *)(uintptr_t)given.p)[given.n - 1 - i / 3] ^= 1;
            if (!to_a(R.token[n]))
                break;
        }
        a_refused(SP_EREFUSED, KRB_AP_ERR_BAD_INTEGRITY, "one bit");
    }
    given = none;
}

/* What MIT's acceptor answered with errors, ours does, too. */
static void recorded_refusals(void **state)
{
    static const struct {
        int which;
        int32_t code;
        unsigned tokens;
    } rows[] = {
        {1, 85, 2},
        {2, 86, 2},
        {3, 24, 4},
        {4, 6,  2},
        {5, 7,  8},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static struct sp_span dead[] = {
            {(const uint8_t *)"DEAD.TEST", 9}
        };

        load("iakerb-new-errors.txt", rows[i].which);
        assert_int_equal(R.count, rows[i].tokens);
        begin();
        env.wall_us = R.now_s * 1000000;
        C.how_a.realm.name = SP_LIT("SALLY.TEST");
        C.how_a.realms = (struct sp_spans){dead, 1};
        C.how_a.e_text = SEC_E_TEXT_KEEP;
        C.kdc = give;
        open_both();
        for (unsigned n = 0; n < R.count; n += 2) {
            struct krb_error m;
            struct sp_span message = message_of(R.token[n + 1]);

            given = rows[i].code >= 85 ? none : message;
            assert_true(to_a(R.token[n]));
            if (given.n) {
                assert_true(sp_same(act_a.token, R.token[n + 1]));
                continue;
            }
            assert_true(krb_get(KRB_ERROR, message_of(act_a.token), KRB_STRICT, &scrap, &m, &C.ea));
            assert_int_equal(m.code, rows[i].code);
            assert_true(sp_same(header_of(act_a.token).target_realm, header_of(R.token[n + 1]).target_realm));
        }
        assert_false(sec_is_established(C.a));
        assert_null(sec_kctx(C.a));
    }
    given = none;
}

/* Our initiator in the place of MIT's, as far as the nonce allows: error 25 is answered with a proof, and the
 * recorded AP-REP of somebody else's request is not taken for an answer to ours. */
static void recorded_answers(void **state)
{
    static const char *const files[] = {"iakerb-new-aes256sha1.txt", "iakerb-new-discovery.txt",
                                        "iakerb-old-1.20.1.txt"};

    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        unsigned n = i == 1 ? 2 : 0;
        struct krb_kdc_req req;
        bool proof = false;

        load(files[i], 0);
        begin();
        env.wall_us = R.now_s * 1000000;
        C.how_i.wish.realm = i == 1 ? none : SP_LIT("SALLY.TEST");
        C.how_i.wish.password = SP_LIT("Passw0rd!");
        C.how_i.discover = i == 1;
        C.how_i.old_mit = i == 2 ? SEC_OLD_MIT_ACCEPT : SEC_OLD_MIT_OFF;
        open_both();
        assert_true(start_i());
        if (i == 1) {
            assert_true(sp_same(act_i.token, R.token[0]));
            assert_true(to_i(R.token[1]));
        }
        /* framing and header as MIT writes them, but for the length of what follows */
        assert_memory_equal(act_i.token.p + 3, R.token[n].p + 3, 27);
        assert_true(to_i(R.token[n + 1])); /* KRB-ERROR 25 */
        assert_true(krb_get(KRB_AS_REQ, message_of(act_i.token), KRB_STRICT, &scrap, &req, &C.ei));
        for (uint32_t p = 0; p < req.padata.count; p++)
            proof |= req.padata.v[p].type == PA_ENC_TIMESTAMP;
        assert_true(proof);
        assert_int_equal(act_i.token.p[0], i == 2 ? 0x05 : 0x60);
        to_i(R.token[n + 3]);
        i_refused(SP_EREFUSED, KRB_AP_ERR_MODIFIED, "an AS-REP for another nonce");
    }
}

/* Headers, AP-REP and MIC of a Windows acceptor. */
static void windows(void **state)
{
    static const char names[][24] = {"IAKERB-HEADER sent",     "IAKERB-HEADER in every",
                                     "EncAPRepPart plaintext", "acceptor subkey (etype",
                                     "mechListMIC made by",    "it verifies with"};
    struct sp_span v[6] = {0};
    static char line[4096];
    char path[512];
    struct krb_iakerb_header h = {0};
    struct krb_enc_ap_rep part = {0};
    struct kctx k = {.state = KCTX_READY, .role = KCTX_INITIATOR, .flags = FLAGS};
    struct sp_err e = {0};
    FILE *f;
    int next = -1;

    (void)state;
    snprintf(path, sizeof path, "%s/windows-29617-derived.txt", TEST_VECTORS);
    f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (next >= 0)
            assert_true(find_hex(line, "", &v[next]));
        next = -1;
        for (int i = 0; i < 6; i++)
            if (strncmp(line, names[i], strlen(names[i])) == 0)
                next = i;
    }
    fclose(f);
    assert_true(krb_get(KRB_IAKERB_HEADER, v[1], KRB_UNKNOWN_TAIL, &scrap, &h, &e));
    assert_true(sp_same(h.target_realm, SP_LIT(".")) && h.header_flags == 0x01000000);
    assert_true(krb_get(KRB_ENC_AP_REP, v[2], KRB_STRICT, &scrap, &part, &e));
    k.acceptor_subkey = (struct sp_key){.etype = part.subkey.type, .n = (uint8_t)part.subkey.value.n};
    memcpy(k.acceptor_subkey.b, part.subkey.value.p, part.subkey.value.n);
    assert_true(sp_same(sp_span(k.acceptor_subkey.b, k.acceptor_subkey.n), v[3]));
    k.recv_seq = part.seq; /* the MIC is numbered 0 */
    assert_true(kctx_verify_list_mic(&k, crypto, v[5], v[4], &e));
    /* its client's first token gets our acceptor to carry, and an answer with flags */
    begin();
    C.how_a.realm.name = SP_LIT("WIN25H2INS");
    C.kdc = give;
    given = none;
    open_both();
    assert_true(to_a(frame(TOKEN_IAKERB, TOKEN_IAKERB_PROXY, cat(v[0], as_req("WIN25H2INS")))));
    assert_int_equal(C.carried, 1);
    h = header_of(act_a.token);
    assert_true(sp_same(h.target_realm, SP_LIT("WIN25H2INS")));
    assert_true((h.has & 0xc) == KRB_BIT(3) && h.header_flags == 0);
    /* its acceptor's header, around our KDC's messages, is what our initiator takes */
    with_key();
    C.how_i.spnego = true;
    open_both();
    assert_true(start_i());
    assert_true(to_a(copy(act_i.token)));
    assert_true(to_i(neg_resp(
        1, TOKEN_IAKERB, frame(TOKEN_IAKERB, TOKEN_IAKERB_PROXY, cat(v[1], message_of(act_a.token))), none)));
    assert_true(C.i->inner.flags_seen && C.i->inner.state == IAKERB_ASKED_KDC);
}

static struct sp_span large_cookie(unsigned n, struct sp_span token)
{
    struct sp_err e = {0};
    uint8_t *p = sp_alloc(&scrap, SEC_COOKIE_MAX + 1, &e);
    struct krb_iakerb_header h = {.has = KRB_BIT(2), .target_realm = SP_LIT(REALM)};
    struct krb_iakerb_header was;

    assert_non_null(p);
    if (n != 2)
        return token;
    was = header_of(token);
    assert_true(sp_same(was.target_realm, h.target_realm));
    h.cookie = sp_span(p, SEC_COOKIE_MAX + edit_has);
    return frame(TOKEN_IAKERB, TOKEN_IAKERB_PROXY, cat(put(KRB_IAKERB_HEADER, &h), message_of(token)));
}

static void strange_tokens(void **state)
{
    struct sp_span body = sp_span(discovery.p + 12, 6);

    (void)state;
    get_tickets();
    for (int i = 0; i < 2; i++) { /* proxied messages are IAKERB's alone */
        begin();
        open_both();
        if (i)
            assert_true(to_a(discovery));
        to_a(frame(TOKEN_KRB5, TOKEN_IAKERB_PROXY, body));
        a_refused(SP_EINPUT, KCTX_DEFECTIVE, "a proxied message under krb5's OID");
    }
    for (edit_has = 0; edit_has < 2; edit_has++) { /* one byte of a cookie too many */
        with_key();
        C.meddle = large_cookie;
        converse();
        if (edit_has)
            i_refused(SP_EREFUSED, KRB_ERR_FIELD_TOOLONG, "a large cookie");
        else
            a_refused(SP_EREFUSED, KRB_AP_ERR_BAD_INTEGRITY, "a cookie that nobody sent");
    }
    for (int i = 0; i < 3; i++) { /* T085: NTLM has no door here */
        begin();
        open_both();
        to_a(i == 0   ? sp_span("NTLMSSP\0\1\0\0\0\7\x82\x08\xa2", 16)
             : i == 1 ? sp_span("NTLMSSP\0\3\0\0\0", 12)
                      : frame(TOKEN_NTLMSSP, 0, SP_LIT("NTLMSSP\0\1")));
        a_refused(i == 2 ? SP_EREFUSED : SP_EINPUT, i == 2 ? KCTX_BAD_MECH : KCTX_DEFECTIVE, "NTLM, raw");
        assert_int_equal(C.error_token.n, 0);
    }
    begin(); /* a ticket names its realm */
    C.how_i.wish.password = C.how_i.wish.realm = none;
    C.how_i.wish.tgt = &tgt;
    C.how_i.discover = true;
    converse();
    assert_true(!C.i_ok && C.ei.kind == SP_EINPUT && C.count == 0);
    with_key();
    C.how_i.spnego = true;
    open_both();
    assert_true(start_i() && to_a(copy(act_i.token)) && to_i(copy(act_a.token)));
    to_a(neg_resp(1, TOKEN_UNKNOWN, read_resp(copy(act_i.token)).token, SP_LIT("MIC")));
    a_refused(SP_EINPUT, KCTX_DEFECTIVE, "a MIC before there is a key");
    for (int i = 0; i < 2; i++) {
        with_key();
        C.how_i.spnego = true;
        open_both();
        assert_true(start_i() && to_a(copy(act_i.token)));
        to_i(neg_resp(i, TOKEN_IAKERB, read_resp(copy(act_a.token)).token, i ? SP_LIT("MIC") : none));
        i_refused(SP_EINPUT, KCTX_DEFECTIVE, "done, or a MIC, before there is a key");
    }
    with_ticket(); /* the third leg of DCE style is missing to a server that says it is done */
    C.how_i.spnego = true;
    C.how_i.mechs[0] = TOKEN_KRB5;
    C.how_i.flags |= KCTX_DCE;
    open_both();
    assert_true(start_i() && to_a(copy(act_i.token)));
    to_i(neg_resp(0, TOKEN_KRB5, read_resp(copy(act_a.token)).token, none));
    i_refused(SP_EINPUT, KCTX_DEFECTIVE, "done without the third leg");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(four_types_and_styles),
        T(round_trips_are_as_promised),
        T(realms_for_local_accounts),
        T(delegation),
        T(old_dialect),
        T(spnego_ours_to_ours),
        T(reselection_at_the_acceptor),
        T(reselection_at_the_initiator),
        T(no_row_leads_to_ntlm),
        T(malformed_negotiation),
        T(every_change_is_seen),
        T(missing_extra_reordered),
        T(order_at_the_initiator),
        T(limits),
        T(tries),
        T(target_realms),
        T(bodies),
        T(header_fields),
        T(delegation_in_band),
        T(delegation_that_fails),
        T(no_delegation_unasked),
        T(lengths_of_a_rogue_kdc),
        T(long_answers),
        T(weak_types_offered),
        T(frames_of_the_ap_rep),
        T(relayed_to_another_host),
        T(own_tokens_come_back),
        T(own_host_as_client),
        T(negotiation_edited),
        T(discovered_realms),
        T(without_finished),
        T(every_call_in_every_state),
        T(little_memory),
        T(bindings_and_replays),
        T(strange_tokens),
        T(recorded_conversations),
        T(recorded_refusals),
        T(recorded_answers),
        T(windows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
