/* SPDX-License-Identifier: MIT */
/* The client's side of RFC 3244 against our own KDC engine, and against answers that are made here, each
 * wrong in one thing. */
#include "client/client.h"
#include "client/kpasswd.h"
#include "realm.h"

#define CHANGE "kadmin/changepw"
#define NEXT "a longer and better one"

static struct sp_arena mem;
static _Alignas(16) uint8_t mem_block[1 << 18];
static struct krb_credential ticket;
static struct client_change pending;

static int set_up(void **state)
{
    (void)state;
    sp_arena_init(&mem, mem_block, sizeof mem_block);
    memset(&pending, 0, sizeof pending);
    if (!realm_open())
        return 1;
    add(CHANGE, STORE_CHANGEPW);
    add("root", STORE_USER)->flags |= STORE_ADMIN;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    realm_close();
    return 0;
}

static void log_in(const char *user, enum client_goal goal)
{
    struct client_wish w = {.goal = goal,
                            .client = name_of(user, NT_PRINCIPAL),
                            .realm = SP_LIT(REALM),
                            .password = SP_LIT(WORD),
                            .service = name_of(CHANGE, NT_SRV_INST)};
    struct client_policy p;
    struct client_action act;
    struct client *cl;
    struct sp_err e = {0};
    bool ok;

    client_policy_direct(&p);
    sp_arena_reset(&mem);
    ok = client_start(&cl, crypto, &p, &w, env, &mem, &act, &e);
    while (ok && !act.done)
        ok = client_reply(cl, env, our_kdc(act.request), &act, &e);
    if (!ok)
        fail_msg("%s", e.text);
    ticket = *client_service(cl);
}

static struct sp_span request(struct client_change_wish w)
{
    struct sp_err e = {0};
    struct sp_span out = {0};

    w.ticket = &ticket;
    if (!client_change_request(&pending, crypto, env, &w, &scrap, &out, &e))
        fail_msg("%s", e.text);
    return out;
}

static struct sp_span change_own(void)
{
    return request((struct client_change_wish){.password = SP_LIT(NEXT)});
}

static struct sp_span change_of(const char *target)
{
    return request((struct client_change_wish){
        .password = SP_LIT(NEXT), .target = name_of(target, NT_PRINCIPAL), .target_realm = SP_LIT(REALM)});
}

/* Our server; a change that it would make gets this verdict from its keeper. */
static struct sp_span our_server(struct sp_span bytes, uint16_t result, const char *text)
{
    struct kdc_request q = {
        .bytes = bytes, .door = KDC_TCP, .source = {.id = {4, 192, 0, 2, 1}, .text = "192.0.2.1"}
    };
    struct sp_span reply;
    struct sp_arena kmem;
    struct sp_err e = {0};

    sp_arena_init(&kmem, kdc_block, sizeof kdc_block);
    memset(&W.out, 0, sizeof W.out);
    kdc_kpasswd_step(&W.k, env, &q, &kmem, &W.out);
    reply = W.out.reply;
    if (W.out.has_change)
        kdc_finish_change(&W.k, env, W.out.change, result, sp_str(text), &kmem, &reply);
    return sp_dup(&scrap, reply, &e);
}

static struct client_verdict verdict(struct sp_span reply)
{
    struct client_verdict v = {0};
    struct sp_err e = {0};

    if (!client_change_reply(&pending, crypto, reply, &scrap, &v, &e))
        fail_msg("%s", e.text);
    return v;
}

static void refused(struct sp_span reply, enum sp_kind kind, int32_t proto, const char *words)
{
    struct client_verdict v = {.result = 99};
    struct sp_err e = {0};

    assert_false(client_change_reply(&pending, crypto, reply, &scrap, &v, &e));
    assert_int_equal(v.result, 99);
    if (e.kind != kind || e.proto != proto || !strstr(e.text, words))
        fail_msg("%s %d: %s", sp_kind_name(e.kind), e.proto, e.text);
}

static void ones_own_password(void **state)
{
    struct client_verdict v;
    struct sp_span asked;

    (void)state;
    log_in("alice", CLIENT_SERVICE_BY_AS);
    asked = change_own();
    v = verdict(our_server(asked, CLIENT_CHANGED, "done"));
    assert_true(W.out.has_change);
    assert_true(sp_same(sp_span(W.out.change->password, W.out.change->password_n), SP_LIT(NEXT)));
    assert_int_equal(W.out.change->account_id, account("alice")->id);
    assert_int_equal(v.result, CLIENT_CHANGED);
    assert_true(sp_same(v.text, SP_LIT("done")));
    assert_null(memmem(asked.p, asked.n, NEXT, sizeof NEXT - 1));
}

static void a_policy_that_says_no(void **state)
{
    struct client_verdict v;

    (void)state;
    log_in("alice", CLIENT_SERVICE_BY_AS);
    v = verdict(our_server(change_own(), CLIENT_CHANGE_SOFTERROR, "too short"));
    assert_int_equal(v.result, CLIENT_CHANGE_SOFTERROR);
    assert_true(sp_same(v.text, SP_LIT("too short")));
}

static void anothers_password(void **state)
{
    struct client_verdict v;

    (void)state;
    log_in("alice", CLIENT_SERVICE_BY_AS);
    v = verdict(our_server(change_of("root"), CLIENT_CHANGED, ""));
    assert_false(W.out.has_change);
    assert_int_equal(v.result, CLIENT_CHANGE_ACCESSDENIED);
    assert_true(v.text.n > 0);
    log_in("root", CLIENT_SERVICE_BY_AS);
    v = verdict(our_server(change_of("alice"), CLIENT_CHANGED, ""));
    assert_true(W.out.has_change);
    assert_int_equal(W.out.change->account_id, account("alice")->id);
    assert_int_equal(v.result, CLIENT_CHANGED);
}

static void wishes_that_cannot_be(void **state)
{
    static uint8_t much[CLIENT_PASSWORD_MAX + 1];
    struct client_change_wish w = {.ticket = &ticket, .password = SP_LIT(NEXT)};
    struct sp_span out;
    struct sp_err e = {0};

    (void)state;
    log_in("alice", CLIENT_SERVICE_BY_AS);
    ticket.flags &= ~KRB_FLAG(TKT_INITIAL);
    assert_false(client_change_request(&pending, crypto, env, &w, &scrap, &out, &e));
    assert_true(e.kind == SP_EREFUSED && e.proto == KDC_ERR_POLICY);
    ticket.flags |= KRB_FLAG(TKT_INITIAL);
    for (size_t n = 0; n <= sizeof much; n += sizeof much) {
        e.kind = SP_OK;
        w.password = sp_span(much, n);
        assert_false(client_change_request(&pending, crypto, env, &w, &scrap, &out, &e));
        assert_int_equal(e.kind, SP_EINPUT);
    }
    w.password = sp_span(much, CLIENT_PASSWORD_MAX);
    e = (struct sp_err){0};
    assert_true(client_change_request(&pending, crypto, env, &w, &scrap, &out, &e));
    ticket.key.n = 5;
    assert_false(client_change_request(&pending, crypto, env, &w, &scrap, &out, &e));
    assert_int_equal(e.kind, SP_EINPUT);
    for (size_t i = 0; i < sizeof pending; i++) /* no key stays behind */
        assert_int_equal(((const uint8_t *)&pending)[i], 0);
}

/* A server that does not know the ticket's key answers with an error that nobody can prove. */
static void an_error_in_the_clear(void **state)
{
    struct sp_span asked, reply;

    (void)state;
    log_in("alice", CLIENT_SERVICE_BY_AS);
    asked = change_own();
    account(CHANGE)->keys[0].key.b[0] ^= 1;
    account(CHANGE)->keys[1].key.b[0] ^= 1;
    reply = our_server(asked, CLIENT_CHANGED, "");
    assert_false(W.out.has_change);
    refused(reply, SP_EREFUSED, W.out.record.code, "not accepted");
    refused(sp_span(reply.p + 6, reply.n - 6), SP_EREFUSED, W.out.record.code,
            "not accepted"); /* without a frame */
}

static void a_claim_of_success_in_the_clear(void **state)
{
    static const uint8_t changed[] = {0, 0, 'o', 'k'};
    struct krb_error m = {.has = KRB_BIT(12), .code = KRB_ERR_GENERIC, .stime = NOW, .realm = SP_LIT(REALM)};
    struct sp_span err;
    uint8_t frame[512] = {0};

    (void)state;
    log_in("alice", CLIENT_SERVICE_BY_AS);
    (void)change_own();
    m.sname = name_of(CHANGE, NT_SRV_INST);
    m.data = sp_span(changed, sizeof changed);
    err = put(KRB_ERROR, &m);
    memcpy(frame + 6, err.p, err.n);
    frame[0] = (uint8_t)((err.n + 6) >> 8);
    frame[1] = (uint8_t)(err.n + 6);
    frame[3] = 1;
    refused(sp_span(frame, err.n + 6), SP_EREFUSED, KRB_ERR_GENERIC, "ok");
}

static void every_byte_matters(void **state)
{
    struct sp_span reply;

    (void)state;
    log_in("alice", CLIENT_SERVICE_BY_AS);
    reply = our_server(change_own(), CLIENT_CHANGED, "done");
    for (size_t i = 0; i < reply.n; i++) {
        struct client_verdict v = {0};
        struct sp_err e = {0};
        uint8_t *p = (uint8_t *)(uintptr_t)reply.p;

        if (i == 2 || i == 3) /* the version is not looked at */
            continue;
        p[i] ^= 0x20;
        if (client_change_reply(&pending, crypto, reply, &scrap, &v, &e))
            fail_msg("byte %zu of %zu was changed, and nobody noticed", i, reply.n);
        assert_true(e.kind == SP_EINPUT || e.kind == SP_EREFUSED);
        p[i] ^= 0x20;
        e.kind = SP_OK;
        assert_false(client_change_reply(&pending, crypto, sp_span(reply.p, i), &scrap, &v, &e));
        assert_true(e.kind == SP_EINPUT || e.kind == SP_EREFUSED);
    }
    (void)verdict(reply);
}

/* Halves of honest messages, put together by somebody between. */
static struct sp_span joined(struct sp_span first, struct sp_span second)
{
    size_t ap_n = (size_t)first.p[4] << 8 | first.p[5], other_n = (size_t)second.p[4] << 8 | second.p[5];
    size_t n = 6 + ap_n + second.n - 6 - other_n;
    struct sp_err e = {0};
    uint8_t *p = sp_alloc(&scrap, n, &e);

    memcpy(p, first.p, 6 + ap_n);
    memcpy(p + 6 + ap_n, second.p + 6 + other_n, n - 6 - ap_n);
    p[0] = (uint8_t)(n >> 8);
    p[1] = (uint8_t)n;
    return sp_span(p, n);
}

static void halves_of_other_messages(void **state)
{
    struct sp_span asked, reply, before;

    (void)state;
    log_in("alice", CLIENT_SERVICE_BY_AS);
    before = our_server(change_own(), CLIENT_CHANGED, "done");
    env.wall_us += 5;
    asked = change_own();
    reply = our_server(asked, CLIENT_CHANGE_SOFTERROR, "no");
    refused(before, SP_EREFUSED, KRB_AP_ERR_MODIFIED, "another request");
    refused(joined(reply, before), SP_EREFUSED, KRB_AP_ERR_MODIFIED, "does not open");
    refused(joined(reply, asked), SP_EREFUSED, KRB_AP_ERR_MODIFIED,
            "halves"); /* our own message, come back */
    assert_int_equal(verdict(reply).result, CLIENT_CHANGE_SOFTERROR);
}

/* A server that counts nothing: its AP-REP has no number, and its KRB-PRIV may have any but ours. */
static struct sp_span without_number(struct sp_span reply)
{
    size_t n = (size_t)reply.p[4] << 8 | reply.p[5];
    struct krb_ap_rep rep = {0};
    struct krb_enc_ap_rep part = {0};
    struct sp_err e = {0};
    struct sp_span der;
    uint8_t *p;

    get(KRB_AP_REP, sp_span(reply.p + 6, n), &rep);
    assert_true(open_sealed(KRB_ENC_AP_REP, &rep.enc, &pending.session, KU_AP_REP, &part));
    part.has &= ~KRB_BIT(3);
    rep.enc = seal(KRB_ENC_AP_REP, &part, &pending.session, KU_AP_REP);
    der = put(KRB_AP_REP, &rep);
    p = sp_alloc(&scrap, 6 + der.n, &e);
    memcpy(p + 6, der.p, der.n);
    p[4] = (uint8_t)(der.n >> 8);
    p[5] = (uint8_t)der.n;
    return joined(sp_span(p, 6 + der.n), reply);
}

static void a_server_that_does_not_count(void **state)
{
    struct sp_span asked, reply;

    (void)state;
    log_in("alice", CLIENT_SERVICE_BY_AS);
    asked = change_own();
    reply = without_number(our_server(asked, CLIENT_CHANGE_SOFTERROR, "no"));
    assert_int_equal(verdict(reply).result, CLIENT_CHANGE_SOFTERROR);
    refused(joined(reply, asked), SP_EREFUSED, KRB_AP_ERR_MODIFIED, "halves");
}

static void without_memory(void **state)
{
    struct client_change_wish w = {.ticket = &ticket, .password = SP_LIT(NEXT)};
    struct sp_span out, reply;
    static uint8_t block[16384];
    struct sp_arena little;
    bool ok = false;

    (void)state;
    log_in("alice", CLIENT_SERVICE_BY_AS);
    for (size_t n = 0; n <= sizeof block && !ok; n += 64) {
        struct sp_err e = {0};

        sp_arena_init(&little, block, n);
        ok = client_change_request(&pending, crypto, env, &w, &little, &out, &e);
        assert_true(ok || e.kind == SP_ENOMEM);
    }
    assert_true(ok);
    reply = our_server(out, CLIENT_CHANGED, "done");
    ok = false;
    for (size_t n = 0; n <= sizeof block && !ok; n += 64) {
        struct client_verdict v;
        struct sp_err e = {0};

        sp_arena_init(&little, block, n);
        ok = client_change_reply(&pending, crypto, reply, &little, &v, &e);
        assert_true(ok || e.kind == SP_ENOMEM);
    }
    assert_true(ok);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(ones_own_password),     T(a_policy_that_says_no),    T(anothers_password),
        T(wishes_that_cannot_be), T(an_error_in_the_clear),    T(a_claim_of_success_in_the_clear),
        T(every_byte_matters),    T(halves_of_other_messages), T(a_server_that_does_not_count),
        T(without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
