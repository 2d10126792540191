/* SPDX-License-Identifier: MIT */
/* The public library as its users see it: nothing but the installed header. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "sallyport/sallyport.h"

/* Rows name what they care about; the rest is zero. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#define WORD "correct horse battery"
#define WALL_US INT64_C(1700000000000000)
#define FLAGS (SALLYPORT_MUTUAL | SALLYPORT_REPLAY | SALLYPORT_SEQUENCE | SALLYPORT_CONF | SALLYPORT_INTEG)
#define B(s) ((struct sallyport_bytes){(s), sizeof(s) - 1})

/* ---- the caller's side: memory and chance that fail when they are told to ---- */

static struct {
    unsigned live, taken, fail_at; /* fail_at 0: never; else the n-th allocation, from 1 */
    unsigned drawn, dry_at;
    uint64_t chance;
    bool leaked; /* memory came back with the password in it */
    int64_t now_us;
} M;

struct head {
    size_t n;
    max_align_t align;
};

static void *allocate(void *user, size_t n)
{
    struct head *h;

    assert_ptr_equal(user, &M);
    if (++M.taken == M.fail_at)
        return NULL;
    h = malloc(sizeof *h + n);
    assert_non_null(h);
    h->n = n;
    memset(h + 1, 0xa5, n);
    M.live++;
    return h + 1;
}

static void release(void *user, void *p)
{
    struct head *h = (struct head *)p - 1;

    assert_ptr_equal(user, &M);
    M.leaked |= memmem(p, h->n, WORD, sizeof WORD - 1) != NULL;
    M.live--;
    free(h);
}

static bool draw(void *user, void *p, size_t n)
{
    uint8_t *b = p;

    assert_ptr_equal(user, &M);
    if (++M.drawn == M.dry_at)
        return false;
    for (size_t i = 0; i < n; i++) {
        M.chance = M.chance * UINT64_C(6364136223846793005) + 1442695040888963407u;
        b[i] = (uint8_t)(M.chance >> 56);
    }
    return true;
}

static struct sallyport *open_lib(void)
{
    struct sallyport_options o = {
        .size = sizeof o, .user = &M, .random = draw, .allocate = allocate, .release = release};
    struct sallyport_error e = SALLYPORT_ERROR_INIT;

    return sallyport_new(&o, &e);
}

static int set_up(void **state)
{
    (void)state;
    memset(&M, 0, sizeof M);
    M.chance = 4120;
    M.now_us = WALL_US;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return M.live != 0 || M.leaked;
}

/* ---- a realm ---- */

static struct {
    struct sallyport *lib;
    struct sallyport_kdc *kdc;
    struct sallyport_keytab *keytab;
    uint8_t file[4096];
    size_t file_n;
    unsigned asked;
    struct sallyport_bytes source; /* n 0: "here" */
} W;

static bool add(const char *name, struct sallyport_bytes password, struct sallyport_error *e)
{
    struct sallyport_account a = {
        .size = sizeof a, .name = name, .password = password, .options = SALLYPORT_ACCOUNT_FORWARDABLE};

    return sallyport_kdc_add(W.kdc, &a, e);
}

static bool make_world(struct sallyport_error *e)
{
    struct sallyport_kdc_options k = {.size = sizeof k,
                                      .realm = "NAS1",
                                      .options = SALLYPORT_KDC_FORWARDABLE | SALLYPORT_KDC_NO_GUESS_LIMITS,
                                      .iterations = 4097};
    struct sallyport_keytab_options t = {.size = sizeof t};

    memset(&W, 0, sizeof W);
    W.file_n = sizeof W.file;
    if (!(W.lib = open_lib()) || !(W.kdc = sallyport_kdc_new(W.lib, &k, e)) || !add("alice", B(WORD), e) ||
        !add("host/nas1", (struct sallyport_bytes){0}, e) ||
        !add("backup/nas1", (struct sallyport_bytes){0}, e) ||
        !sallyport_kdc_keytab(W.kdc, "host/nas1", W.file, &W.file_n, e))
        return false;
    t.keytab = (struct sallyport_bytes){W.file, W.file_n};
    return (W.keytab = sallyport_keytab_new(W.lib, &t, e)) != NULL;
}

static void end_world(void)
{
    sallyport_keytab_free(W.keytab);
    sallyport_kdc_free(W.kdc);
    sallyport_free(W.lib);
    memset(&W, 0, sizeof W);
}

static void world(void)
{
    struct sallyport_error e = SALLYPORT_ERROR_INIT;

    if (!make_world(&e))
        fail_msg("%s", e.text);
}

static struct sallyport_event event(int32_t kind, struct sallyport_bytes bytes)
{
    return (struct sallyport_event){.size = sizeof(struct sallyport_event),
                                    .kind = kind,
                                    .bytes = bytes,
                                    .wall_us = M.now_us,
                                    .mono_us = M.now_us};
}

static struct sallyport_bytes ask_kdc(struct sallyport_bytes message)
{
    struct sallyport_request q = {.size = sizeof q,
                                  .bytes = message,
                                  .source = W.source.n ? W.source : B("here"),
                                  .wall_us = M.now_us,
                                  .mono_us = M.now_us};
    struct sallyport_answer a = {.size = sizeof a};

    M.now_us++;
    W.asked++;
    return sallyport_kdc_step(W.kdc, &q, &a, NULL) ? a.reply : (struct sallyport_bytes){0};
}

/* ---- conversations ---- */

static struct sallyport_initiator usual_i(void)
{
    return (struct sallyport_initiator){.size = sizeof(struct sallyport_initiator),
                                        .client = "alice@NAS1",
                                        .target = "host/nas1",
                                        .flags = FLAGS,
                                        .password = B(WORD)};
}

static struct sallyport_acceptor usual_a(void)
{
    return (struct sallyport_acceptor){
        .size = sizeof(struct sallyport_acceptor), .realm = "NAS1", .keytab = W.keytab};
}

struct talk {
    struct sallyport_context *side[2];
    struct sallyport_action end[2]; /* what each side was last told */
    struct sallyport_error why;     /* of the side that stopped, or of making it */
    char peer[2][64];
    uint8_t first[4096]; /* the first token */
    size_t first_n;
    unsigned tokens;
    bool ok;
};

static struct sallyport_action step(struct sallyport_context *x, struct sallyport_event ev)
{
    struct sallyport_action a = {.size = sizeof a};
    enum sallyport_do what;

    for (;;) {
        what = sallyport_step(x, &ev, &a);
        assert_int_equal(a.what, what);
        if (what != SALLYPORT_CARRY)
            return a;
        assert_int_equal(a.realm.n, 4);
        ev = event(SALLYPORT_CARRIED, ask_kdc(a.message));
    }
}

static void converse(struct talk *t)
{
    struct sallyport_event ev = event(SALLYPORT_START, (struct sallyport_bytes){0});
    unsigned done = 0;

    for (int turn = 0; done < 2; turn = !turn) {
        struct sallyport_action a = t->end[turn] = step(t->side[turn], ev);

        if (a.what == SALLYPORT_STOP) {
            t->why = *a.why;
            return;
        }
        if (t->tokens == 0 && a.token.n <= sizeof t->first)
            memcpy(t->first, a.token.p, t->first_n = a.token.n);
        t->tokens += a.token.n > 0;
        if (a.what == SALLYPORT_DONE) {
            done++;
            assert_true(strlen(a.peer) < sizeof t->peer[turn]);
            memcpy(t->peer[turn], a.peer, strlen(a.peer) + 1);
        }
        ev = event(SALLYPORT_TOKEN, a.token);
        if (a.token.n == 0)
            break;
    }
    t->ok = done == 2;
}

static struct talk talk(const struct sallyport_initiator *i, const struct sallyport_acceptor *a)
{
    struct talk t = {.why = SALLYPORT_ERROR_INIT};

    t.side[0] = sallyport_initiator_new(W.lib, i, &t.why);
    t.side[1] = t.side[0] ? sallyport_acceptor_new(W.lib, a, &t.why) : NULL;
    if (t.side[1])
        converse(&t);
    return t;
}

static void end_talk(struct talk *t)
{
    sallyport_context_free(t->side[0]);
    sallyport_context_free(t->side[1]);
}

static struct talk usual(void)
{
    struct sallyport_initiator i = usual_i();
    struct sallyport_acceptor a = usual_a();
    struct talk t = talk(&i, &a);

    if (!t.ok)
        fail_msg("%s", t.why.text);
    return t;
}

/* ---- logins ---- */

struct file {
    uint8_t b[16384];
    size_t n;
};

static struct sallyport_bytes bytes(const struct file *f)
{
    return (struct sallyport_bytes){f->b, f->n};
}

static struct sallyport_context *login(const struct sallyport_login *how, struct sallyport_error *e)
{
    struct sallyport_context *x = sallyport_login_new(W.lib, how, e);
    struct sallyport_action a;

    if (!x)
        return NULL;
    a = step(x, event(SALLYPORT_START, (struct sallyport_bytes){0}));
    if (a.what == SALLYPORT_DONE)
        return x;
    *e = *a.why;
    sallyport_context_free(x);
    return NULL;
}

static struct file get(struct sallyport_login how)
{
    struct sallyport_error e = SALLYPORT_ERROR_INIT;
    struct file f = {.n = sizeof f.b};
    struct sallyport_context *x;

    how.size = sizeof how;
    x = login(&how, &e);
    if (!x || !sallyport_credentials(x, f.b, &f.n, &e))
        fail_msg("%s", e.text);
    sallyport_context_free(x);
    return f;
}

/* ---- tests ---- */

static void whole_login(void **state)
{
    struct sallyport_facts f = {.size = sizeof f};
    uint8_t key[2][32], text[128], sealed[64 + SALLYPORT_WRAP_MORE], mic[SALLYPORT_MIC_MAX], prf[2][40];
    size_t n[2] = {32, 32}, sealed_n = sizeof sealed, text_n = sizeof text, mic_n = sizeof mic;
    int32_t type[2], how = -1;
    struct talk t;

    (void)state;
    world();
    t = usual();
    assert_string_equal(t.peer[0], "host/nas1@NAS1");
    assert_string_equal(t.peer[1], "alice@NAS1");
    assert_string_equal(sallyport_client_name(t.side[0]), "alice@NAS1");
    assert_string_equal(sallyport_service_name(t.side[1]), "host/nas1@NAS1");
    assert_int_equal(t.tokens, 8);
    assert_int_equal(W.asked, 3);
    for (int i = 0; i < 2; i++) {
        assert_true(sallyport_tell(t.side[i], &f));
        assert_true(f.established && f.mech == SALLYPORT_IAKERB && (f.flags & FLAGS) == FLAGS &&
                    !f.no_finished);
        assert_int_equal(f.round_trips, 4);
        assert_true(sallyport_session_key(t.side[i], key[i], &n[i], &type[i], NULL));
        assert_int_equal(t.end[i].key.n, n[i]);
        assert_memory_equal(t.end[i].key.p, key[i], n[i]);
        assert_true(sallyport_prf(t.side[i], SALLYPORT_PRF_FULL, B("in"), prf[i], sizeof prf[i], NULL));
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(key[0], key[1], n[0]);
    assert_memory_equal(prf[0], prf[1], sizeof prf[0]);
    assert_true(sallyport_wrap(t.side[0], SALLYPORT_SEALED, B("hello"), sealed, &sealed_n, NULL));
    assert_true(sealed_n <= 5 + SALLYPORT_WRAP_MORE);
    assert_true(
        sallyport_unwrap(t.side[1], (struct sallyport_bytes){sealed, sealed_n}, text, &text_n, &how, NULL));
    assert_int_equal(how, SALLYPORT_SEALED);
    assert_int_equal(text_n, 5);
    assert_memory_equal(text, "hello", 5);
    assert_true(sallyport_sign(t.side[1], B("good"), mic, &mic_n, NULL));
    assert_true(sallyport_verify(t.side[0], B("good"), (struct sallyport_bytes){mic, mic_n}, NULL));
    end_talk(&t);
    end_world();
}

static void messages_out_of_order(void **state)
{
    struct sallyport_error e = SALLYPORT_ERROR_INIT;
    uint8_t sealed[128], text[128], mic[SALLYPORT_MIC_MAX];
    size_t n = sizeof sealed, m = sizeof text, mic_n = sizeof mic;
    struct talk t;

    (void)state;
    world();
    t = usual();
    assert_true(sallyport_wrap(t.side[0], SALLYPORT_SIGNED, B("once"), sealed, &n, NULL));
    assert_true(sallyport_unwrap(t.side[1], (struct sallyport_bytes){sealed, n}, text, &m, NULL, NULL));
    m = sizeof text;
    assert_false(sallyport_unwrap(t.side[1], (struct sallyport_bytes){sealed, n}, text, &m, NULL, &e));
    assert_int_equal(e.code, SALLYPORT_DUPLICATE);
    assert_int_equal(m, 4);
    sealed[n - 1] ^= 1;
    m = sizeof text;
    assert_false(sallyport_unwrap(t.side[1], (struct sallyport_bytes){sealed, n}, text, &m, NULL, &e));
    assert_int_equal(m, 0);
    n = 3;
    assert_false(sallyport_wrap(t.side[0], SALLYPORT_SIGNED, B("once"), sealed, &n, &e));
    assert_int_equal(e.kind, SALLYPORT_FULL);
    assert_true(n > 3 && n <= sizeof sealed);
    assert_false(sallyport_wrap(t.side[0], 7, B("once"), sealed, &n, &e));
    assert_int_equal(e.kind, SALLYPORT_INPUT);
    assert_true(sallyport_sign(t.side[0], B("good"), mic, &mic_n, NULL));
    assert_false(sallyport_verify(t.side[1], B("evil"), (struct sallyport_bytes){mic, mic_n}, &e));
    assert_int_equal(e.kind, SALLYPORT_REFUSED);
    n = sallyport_wrap_limit(t.side[0], SALLYPORT_SEALED, 1000);
    assert_true(n > 900 && n < 1000);
    assert_int_equal(sallyport_wrap_limit(t.side[0], SALLYPORT_SEALED, 8), 0);
    end_talk(&t);
    end_world();
}

static void every_way_in(void **state)
{
    static const struct {
        const char *name;
        uint32_t options;
        int32_t mech;
        bool service_ticket, tgt, keytab, learnt, no_realm;
        unsigned asked; /* requests to the KDC during the conversation */
    } row[] = {
  /* clang-format off */
        {.name = "a password", .asked = 3},
        {.name = "a password, by SPNEGO", .options = SALLYPORT_SPNEGO, .asked = 3},
        {.name = "timestamp", .options = SALLYPORT_TIMESTAMP, .asked = 3},
        {.name = "a ticket by AS", .options = SALLYPORT_SERVICE_BY_AS, .asked = 2},
        {.name = "no realm in the name", .options = SALLYPORT_DISCOVER, .no_realm = true, .asked = 3},
        {.name = "what was learnt", .learnt = true, .asked = 3},
        {.name = "a TGT", .tgt = true, .asked = 1},
        {.name = "a service ticket", .service_ticket = true},
        {.name = "a service ticket, krb5", .service_ticket = true, .mech = SALLYPORT_KRB5},
        {.name = "by SPNEGO", .service_ticket = true, .mech = SALLYPORT_MS_KRB5, .options = SALLYPORT_SPNEGO},
  /* clang-format on */
    };

    (void)state;
    world();
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        struct sallyport_initiator i = usual_i();
        struct sallyport_acceptor a = usual_a();
        struct file cache = {0}, hint = {.n = sizeof hint.b};
        struct sallyport_facts f = {.size = sizeof f};
        struct talk t;

        i.options = row[k].options;
        i.mechs[0] = row[k].mech;
        if (row[k].no_realm)
            i.client = "alice";
        if (row[k].tgt || row[k].service_ticket) {
            cache =
                get((struct sallyport_login){.goal = row[k].tgt ? SALLYPORT_GET_TGT : SALLYPORT_GET_SERVICE,
                                             .service = row[k].tgt ? NULL : "host/nas1",
                                             .client = "alice@NAS1",
                                             .password = B(WORD)});
            i.client = NULL;
            i.password = (struct sallyport_bytes){0};
            i.ccache = bytes(&cache);
        }
        if (row[k].learnt) {
            t = usual();
            assert_true(sallyport_learnt(t.side[0], hint.b, &hint.n, NULL));
            end_talk(&t);
            i.learnt = bytes(&hint);
        }
        W.asked = 0;
        t = talk(&i, &a);
        if (!t.ok)
            fail_msg("%s: %s", row[k].name, t.why.text);
        assert_string_equal(t.peer[1], "alice@NAS1");
        assert_true(sallyport_tell(t.side[1], &f));
        assert_int_equal(f.mech, row[k].mech ? row[k].mech : SALLYPORT_IAKERB);
        if (W.asked != row[k].asked)
            fail_msg("%s: %u requests, not %u", row[k].name, W.asked, row[k].asked);
        end_talk(&t);
        M.now_us += 1000000;
    }
    end_world();
}

static void refusals(void **state)
{
    static const char *bound = "tls-server-end-point:0123456789", *other = "tls-server-end-point:9876543210";
    struct sallyport_bindings here = {
        .size = sizeof here, .application = {bound, strlen(bound)}
    };
    struct sallyport_bindings there = {
        .size = sizeof there, .application = {other, strlen(other)}
    };
    const struct {
        const char *name, *client, *target, *service;
        struct sallyport_bytes password;
        const struct sallyport_bindings *i, *a;
        uint32_t i_options, a_options;
        int32_t code;
    } row[] = {
  /* clang-format off */
        {"a wrong password", "alice@NAS1", "host/nas1", NULL, B("wrong"), .code = SALLYPORT_ERR_PREAUTH_FAILED},
        {"an unknown user", "mallory@NAS1", "host/nas1", NULL, B(WORD), .code = SALLYPORT_ERR_PREAUTH_FAILED},
        {"an unknown service", "alice@NAS1", "host/nas2", NULL, B(WORD), .code = 7},
        {"another's ticket", "alice@NAS1", "backup/nas1", NULL, B(WORD), .code = 35},
        {"not the service", "alice@NAS1", "host/nas1", "HTTP/nas1", B(WORD), .code = 35},
        {"another channel", "alice@NAS1", "host/nas1", NULL, B(WORD), &here, &there, .code = SALLYPORT_BAD_BINDINGS},
        {"no channel", "alice@NAS1", "host/nas1", NULL, B(WORD), NULL, &there, .a_options = SALLYPORT_REQUIRE_BINDINGS,
         .code = SALLYPORT_BAD_BINDINGS},
        {"no SPNEGO", "alice@NAS1", "host/nas1", NULL, B(WORD), .a_options = SALLYPORT_SPNEGO_ONLY,
         .code = SALLYPORT_DEFECTIVE_TOKEN},
        {"another realm", "alice@ELSEWHERE", "host/nas1", NULL, B(WORD), .code = SALLYPORT_ERR_KDC_NOT_FOUND},
        {"nothing to log in with", "alice@NAS1", "host/nas1", NULL, {0}, .code = SALLYPORT_NO_CRED},
        {"the same channel", "alice@NAS1", "host/nas1", "host/nas1", B(WORD), &here, &here, .code = 0},
  /* clang-format on */
    };

    (void)state;
    world();
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        struct sallyport_initiator i = usual_i();
        struct sallyport_acceptor a = usual_a();
        struct talk t;

        i.client = row[k].client;
        i.target = row[k].target;
        i.password = row[k].password;
        i.bindings = row[k].i;
        i.options = row[k].i_options;
        a.bindings = row[k].a;
        a.options = row[k].a_options;
        a.service = row[k].service;
        t = talk(&i, &a);
        if (t.ok != (row[k].code == 0) || t.why.code != row[k].code)
            fail_msg("%s: %s (%d)", row[k].name, t.why.text, (int)t.why.code);
        end_talk(&t);
        M.now_us += 1000000;
    }
    end_world();
}

/* T071: every public function on contexts in every state. */
static void functions_in_every_state(void **state)
{
    enum { FRESH_I, FRESH_A, FRESH_LOGIN, MIDDLE, FAILED, READY, EXPORTED, IMPORTED, LOGGED_IN, STATES };
    struct sallyport_login how = {.size = sizeof how, .client = "alice@NAS1", .password = B(WORD)};
    struct sallyport_error e = SALLYPORT_ERROR_INIT;
    struct sallyport_initiator i;
    struct sallyport_acceptor a;
    struct sallyport_context *x[STATES];
    struct talk t, u;
    uint8_t out[SALLYPORT_EXPORT_MAX];
    size_t n;

    (void)state;
    world();
    i = usual_i();
    a = usual_a();
    t = usual();
    u = usual();
    n = sizeof out;
    assert_true(sallyport_export(u.side[0], out, &n, &e));
    x[FRESH_I] = sallyport_initiator_new(W.lib, &i, &e);
    x[FRESH_A] = sallyport_acceptor_new(W.lib, &a, &e);
    x[FRESH_LOGIN] = sallyport_login_new(W.lib, &how, &e);
    x[MIDDLE] = sallyport_initiator_new(W.lib, &i, &e);
    assert_int_equal(step(x[MIDDLE], event(SALLYPORT_START, B(""))).what, SALLYPORT_SEND);
    x[FAILED] = sallyport_acceptor_new(W.lib, &a, &e);
    assert_int_equal(step(x[FAILED], event(SALLYPORT_TOKEN, B("rubbish"))).what, SALLYPORT_STOP);
    x[READY] = t.side[0];
    x[EXPORTED] = u.side[0];
    x[IMPORTED] = sallyport_import(W.lib, (struct sallyport_bytes){out, n}, &e);
    x[LOGGED_IN] = login(&how, &e);
    for (int s = 0; s < STATES; s++) {
        bool ready = s == READY || s == IMPORTED, tickets = s == READY || s == LOGGED_IN || s == EXPORTED;
        struct sallyport_facts f = {.size = sizeof f};
        uint8_t big[16384], wrapped[128];
        int32_t type;
        size_t m;

        assert_non_null(x[s]);
#define TRY(want, call)                                                                                      \
    do {                                                                                                     \
        m = sizeof big;                                                                                      \
        e.kind = e.code = 0;                                                                                 \
        if ((call) != (want))                                                                                \
            fail_msg("state %d: " #call ": %s", s, e.text);                                                  \
        if (!(want))                                                                                         \
            assert_true(e.kind == SALLYPORT_REFUSED || e.kind == SALLYPORT_NOT_FOUND ||                      \
                        e.kind == SALLYPORT_INPUT);                                                          \
    } while (0)
        TRY(ready, sallyport_wrap(x[s], SALLYPORT_SEALED, B("text"), big, &m, &e));
        TRY(ready, sallyport_sign(x[s], B("text"), big, &m, &e));
        TRY(ready, sallyport_prf(x[s], SALLYPORT_PRF_PARTIAL, B("text"), big, 16, &e));
        TRY(ready, sallyport_session_key(x[s], big, &m, &type, &e));
        TRY(false, sallyport_unwrap(x[s], B("not a token"), wrapped, &m, NULL, &e));
        TRY(false, sallyport_verify(x[s], B("text"), B("not a MIC"), &e));
        TRY(false, sallyport_delegated(x[s], big, &m, &e));
        TRY(tickets, sallyport_credentials(x[s], big, &m, &e));
        TRY(tickets, sallyport_learnt(x[s], big, &m, &e));
        assert_true(sallyport_tell(x[s], &f));
        assert_int_equal(f.established, ready || s == LOGGED_IN);
        assert_int_equal(sallyport_wrap_limit(x[s], SALLYPORT_SIGNED, 500) > 0, ready);
        assert_non_null(sallyport_client_name(x[s]));
        assert_non_null(sallyport_service_name(x[s]));
        if (ready)
            assert_string_equal(sallyport_client_name(x[s]), "alice@NAS1");
        for (int32_t kind = -1; kind <= SALLYPORT_NOT_CARRIED + 1; kind++) /* none of them is due */
            if (kind != SALLYPORT_START || (s != FRESH_I && s != FRESH_A && s != FRESH_LOGIN)) {
                struct sallyport_event ev = event(kind, B("x"));
                struct sallyport_action act = {.size = sizeof act};

                assert_int_equal(sallyport_step(x[s], &ev, &act), SALLYPORT_STOP);
                assert_non_null(act.why);
                assert_true(act.why->kind == SALLYPORT_REFUSED || act.why->kind == SALLYPORT_INPUT);
                assert_true(!ready || act.why->code == SALLYPORT_NO_CONTEXT); /* and changes nothing */
            }
        TRY(ready, sallyport_export(x[s], big, &m, &e));
    }
    for (int s = 0; s < STATES; s++)
        sallyport_context_free(x[s]);
    sallyport_context_free(t.side[1]);
    sallyport_context_free(u.side[1]);
    end_world();
}

static void exported_contexts_go_on(void **state)
{
    struct sallyport_error e = SALLYPORT_ERROR_INIT;
    uint8_t out[SALLYPORT_EXPORT_MAX], sealed[128], text[128];
    size_t n = 0, sealed_n = sizeof sealed, text_n = sizeof text;
    struct sallyport_context *x;
    struct talk t;

    (void)state;
    world();
    t = usual();
    assert_false(sallyport_export(t.side[1], NULL, &n, &e));
    assert_int_equal(e.kind, SALLYPORT_FULL);
    assert_true(n > 0 && n <= sizeof out);
    assert_true(sallyport_export(t.side[1], out, &n, &e));
    x = sallyport_import(W.lib, (struct sallyport_bytes){out, n}, &e);
    assert_true(sallyport_wrap(t.side[0], SALLYPORT_SEALED, B("hello"), sealed, &sealed_n, &e));
    assert_true(sallyport_unwrap(x, (struct sallyport_bytes){sealed, sealed_n}, text, &text_n, NULL, &e));
    assert_null(sallyport_import(W.lib, (struct sallyport_bytes){out, n - 1}, &e));
    assert_int_equal(e.kind, SALLYPORT_INPUT);
    sallyport_context_free(x);
    end_talk(&t);
    end_world();
}

static bool seen_once(void *user, struct sallyport_bytes authenticator, int64_t now_s, int32_t keep_s)
{
    unsigned *calls = user;

    assert_true(authenticator.n > 0 && now_s == M.now_us / 1000000 && keep_s >= 300);
    return ++*calls == 1;
}

static void replays(void **state)
{
    struct sallyport_error e = SALLYPORT_ERROR_INIT;
    unsigned calls = 0;

    (void)state;
    world();
    for (int ported = 0; ported < 2; ported++) {
        struct sallyport_keytab_options o = {
            .size = sizeof o,
            .keytab = {W.file, W.file_n},
            .first_seen = ported ? seen_once : NULL,
            .user = &calls
        };
        struct sallyport_initiator i = usual_i();
        struct sallyport_acceptor a = usual_a();
        struct file cache = get((struct sallyport_login){.goal = SALLYPORT_GET_SERVICE,
                                                         .service = "host/nas1",
                                                         .client = "alice@NAS1",
                                                         .password = B(WORD)});
        struct sallyport_context *again;
        struct sallyport_action act;
        struct talk t;

        a.keytab = sallyport_keytab_new(W.lib, &o, &e);
        i.ccache = bytes(&cache);
        i.mechs[0] = SALLYPORT_KRB5;
        t = talk(&i, &a);
        assert_true(t.ok);
        again = sallyport_acceptor_new(W.lib, &a, &e);
        act = step(again, event(SALLYPORT_TOKEN, (struct sallyport_bytes){t.first, t.first_n}));
        assert_int_equal(act.what, SALLYPORT_STOP);
        assert_int_equal(act.why->code, SALLYPORT_ERR_REPEAT);
        assert_true(act.token.n > 0); /* the peer is told */
        sallyport_context_free(again);
        end_talk(&t);
        sallyport_keytab_free(a.keytab);
    }
    assert_int_equal(calls, 2);
    end_world();
}

/* Sixteen slots are one bucket: the seventeenth login has no room, and nothing is forgotten for it. */
static void a_full_memory_refuses(void **state)
{
    struct sallyport_error e = SALLYPORT_ERROR_INIT;
    struct sallyport_keytab_options o = {.size = sizeof o, .replay_slots = 1};
    struct sallyport_initiator i;
    struct sallyport_acceptor a;
    struct file cache;

    (void)state;
    world();
    i = usual_i();
    a = usual_a();
    o.keytab = (struct sallyport_bytes){W.file, W.file_n};
    a.keytab = sallyport_keytab_new(W.lib, &o, &e);
    cache = get((struct sallyport_login){
        .goal = SALLYPORT_GET_SERVICE, .service = "host/nas1", .client = "alice@NAS1", .password = B(WORD)});
    i.ccache = bytes(&cache);
    i.mechs[0] = SALLYPORT_KRB5;
    for (int k = 0; k < 18; k++) {
        struct talk t = talk(&i, &a);

        assert_int_equal(t.ok, k != 16);
        if (!t.ok)
            assert_int_equal(t.why.code, SALLYPORT_UNAUTHORIZED);
        end_talk(&t);
        M.now_us += k == 16 ? INT64_C(700) * 1000000 : 1000; /* they end, and there is room again */
    }
    sallyport_keytab_free(a.keytab);
    end_world();
}

static void delegation(void **state)
{
    struct sallyport_error e = SALLYPORT_ERROR_INIT;
    struct sallyport_initiator i;
    struct sallyport_acceptor a;
    struct file tgt, fwd, got = {.n = sizeof got.b}, service;
    struct talk t;

    (void)state;
    world();
    i = usual_i();
    a = usual_a();
    tgt = get((struct sallyport_login){
        .ticket_options = SALLYPORT_FORWARDABLE, .client = "alice@NAS1", .password = B(WORD)});
    fwd = get((struct sallyport_login){.goal = SALLYPORT_GET_FORWARDED, .ccache = bytes(&tgt)});
    i.ccache = bytes(&tgt);
    i.forwarded = bytes(&fwd);
    i.flags |= SALLYPORT_DELEG;
    t = talk(&i, &a);
    if (!t.ok)
        fail_msg("%s", t.why.text);
    assert_true(t.end[1].flags & SALLYPORT_DELEG);
    if (!sallyport_delegated(t.side[1], got.b, &got.n, &e))
        fail_msg("%s", e.text);
    service = get((struct sallyport_login){
        .goal = SALLYPORT_GET_SERVICE, .service = "backup/nas1", .ccache = bytes(&got)});
    assert_true(service.n > 0);
    end_talk(&t);
    i.forwarded = (struct sallyport_bytes){0}; /* fetched through the acceptor */
    t = talk(&i, &a);
    if (!t.ok)
        fail_msg("%s", t.why.text);
    assert_int_equal(t.tokens, 6);
    assert_true(t.end[0].flags & t.end[1].flags & SALLYPORT_DELEG);
    got.n = sizeof got.b;
    if (!sallyport_delegated(t.side[1], got.b, &got.n, &e))
        fail_msg("%s", e.text);
    service = get((struct sallyport_login){
        .goal = SALLYPORT_GET_SERVICE, .service = "backup/nas1", .ccache = bytes(&got)});
    assert_true(service.n > 0);
    end_talk(&t);
    i.flags = (i.flags & ~(uint32_t)SALLYPORT_DELEG) | SALLYPORT_DELEG_POLICY; /* our KDC says so of nobody */
    t = talk(&i, &a);
    if (!t.ok)
        fail_msg("%s", t.why.text);
    assert_int_equal(t.tokens, 4);
    assert_false((t.end[0].flags | t.end[1].flags) & (SALLYPORT_DELEG | SALLYPORT_DELEG_POLICY));
    got.n = sizeof got.b;
    assert_false(sallyport_delegated(t.side[1], got.b, &got.n, &e));
    assert_int_equal(e.kind, SALLYPORT_NOT_FOUND);
    end_talk(&t);
    end_world();
}

/* T088: this host's own principal is a client like any other, unless the caller knows that the peer is
 * elsewhere. */
static void own_host_as_client(void **state)
{
    (void)state;
    world();
    for (int k = 0; k < 2; k++) {
        struct sallyport_initiator i = usual_i();
        struct sallyport_acceptor a = usual_a();
        struct talk t;

        i.client = NULL;
        i.password = (struct sallyport_bytes){0};
        i.keytab = (struct sallyport_bytes){W.file, W.file_n};
        a.options = k ? SALLYPORT_REFUSE_OWN : 0;
        t = talk(&i, &a);
        assert_int_equal(t.ok, !k);
        if (k)
            assert_int_equal(t.why.code, SALLYPORT_UNAUTHORIZED);
        end_talk(&t);
    }
    end_world();
}

static void logins(void **state)
{
    static const struct {
        const char *name;
        struct sallyport_login how;
        int32_t kind, code;
    } row[] = {
  /* clang-format off */
        {"a wrong password", {.client = "alice@NAS1", .password = B("no")}, SALLYPORT_REFUSED, 24},
        {"no realm", {.client = "alice", .password = B(WORD)}, SALLYPORT_INPUT, 0},
        {"nobody", {.password = B(WORD)}, SALLYPORT_INPUT, 0},
        {"nothing", {.client = "alice@NAS1"}, SALLYPORT_INPUT, 0},
        {"a strange goal", {.goal = 9, .client = "alice@NAS1", .password = B(WORD)}, SALLYPORT_INPUT, 0},
        {"a strange option", {.options = 1u << 30, .client = "alice@NAS1", .password = B(WORD)}, SALLYPORT_INPUT, 0},
        {"no service", {.goal = SALLYPORT_GET_SERVICE, .client = "alice@NAS1", .password = B(WORD)}, SALLYPORT_INPUT, 0},
        {"a bad name", {.client = "al//ice@NAS1", .password = B(WORD)}, SALLYPORT_INPUT, 0},
        {"a bad keytab", {.client = "alice@NAS1", .keytab = B("rubbish")}, SALLYPORT_INPUT, 0},
        {"a bad ccache", {.client = "alice@NAS1", .ccache = B("rubbish")}, -1, 0},
        {"bad hints", {.client = "alice@NAS1", .password = B(WORD), .learnt = B("rubbish")}, SALLYPORT_INPUT, 0},
  /* clang-format on */
    };
    struct sallyport_login by_keys;
    struct file f;

    (void)state;
    world();
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        struct sallyport_error e = SALLYPORT_ERROR_INIT;
        struct sallyport_login how = row[k].how;

        how.size = sizeof how;
        assert_null(login(&how, &e));
        if ((row[k].kind >= 0 && e.kind != row[k].kind) || (row[k].kind >= 0 && e.code != row[k].code) ||
            !e.text[0])
            fail_msg("%s: %s, %d: %s", row[k].name, sallyport_kind_name(e.kind), (int)e.code, e.text);
    }
    by_keys = (struct sallyport_login){
        .keytab = {W.file, W.file_n}
    }; /* the keytab's own principal */
    f = get(by_keys);
    assert_true(f.n > 0);
    end_world();
}

static void a_silent_kdc_ends_a_login(void **state)
{
    struct sallyport_login how = {.size = sizeof how, .client = "alice@NAS1", .password = B(WORD)};
    struct sallyport_event ev = event(SALLYPORT_START, B(""));
    struct sallyport_action act = {.size = sizeof act};
    struct sallyport_context *x;

    (void)state;
    world();
    x = sallyport_login_new(W.lib, &how, NULL);
    assert_int_equal(sallyport_step(x, &ev, &act), SALLYPORT_CARRY);
    ev = event(SALLYPORT_NOT_CARRIED, B(""));
    ev.code = SALLYPORT_ERR_KDC_NO_RESPONSE;
    assert_int_equal(sallyport_step(x, &ev, &act), SALLYPORT_STOP);
    assert_int_equal(act.why->code, SALLYPORT_ERR_KDC_NO_RESPONSE);
    ev = event(SALLYPORT_START, B(""));
    assert_int_equal(sallyport_step(x, &ev, &act), SALLYPORT_STOP);
    assert_int_equal(act.why->code, SALLYPORT_NO_CONTEXT);
    sallyport_context_free(x);
    end_world();
}

/* SMB servers do: MS-SPNG's NegTokenInit2 goes out before the client said anything. */
static void the_acceptor_speaks_first(void **state)
{
    struct sallyport_initiator i;
    struct sallyport_acceptor a;
    struct sallyport_action act;
    struct talk t = {0};

    (void)state;
    world();
    i = usual_i();
    a = usual_a();
    i.options = SALLYPORT_SPNEGO;
    t.side[0] = sallyport_initiator_new(W.lib, &i, NULL);
    t.side[1] = sallyport_acceptor_new(W.lib, &a, NULL);
    act = step(t.side[1], event(SALLYPORT_START, B("")));
    assert_int_equal(act.what, SALLYPORT_SEND);
    for (int turn = 0, done = 0; done < 2; turn = !turn) {
        act = step(t.side[turn], event(SALLYPORT_TOKEN, act.token));
        assert_int_not_equal(act.what, SALLYPORT_STOP);
        done += act.what == SALLYPORT_DONE;
        if (act.token.n == 0)
            break;
    }
    assert_string_equal(sallyport_client_name(t.side[1]), "alice@NAS1");
    end_talk(&t);
    end_world();
}

/* Wrong passwords of one source make it wait, not another one. */
static void guesses_are_counted(void **state)
{
    struct sallyport_kdc_options k = {.size = sizeof k, .realm = "NAS1", .iterations = 4097};
    struct sallyport_login good = {.size = sizeof good, .client = "alice@NAS1", .password = B(WORD)},
                           bad = good;
    struct sallyport_error e = SALLYPORT_ERROR_INIT;
    struct sallyport_context *x;

    (void)state;
    world();
    sallyport_kdc_free(W.kdc);
    W.kdc = sallyport_kdc_new(W.lib, &k, &e);
    assert_true(add("alice", B(WORD), &e));
    bad.password = B("wrong");
    for (int n = 0; n < 6; n++) {
        assert_null(login(&bad, &e));
        assert_int_equal(e.code, SALLYPORT_ERR_PREAUTH_FAILED);
    }
    assert_null(login(&good, &e)); /* the same word to the outside */
    assert_int_equal(e.code, SALLYPORT_ERR_PREAUTH_FAILED);
    W.source = B("there");
    x = login(&good, &e);
    assert_non_null(x);
    sallyport_context_free(x);
    end_world();
}

/* ---- a KDC whose accounts the caller keeps ---- */

static struct {
    char name[4][64];
    uint8_t record[4][SALLYPORT_RECORD_MAX];
    size_t n[4];
    unsigned count;
    bool broken;
} store;

static int find(void *user, const char *name, uint64_t id, struct sallyport_record *out)
{
    assert_ptr_equal(user, &store);
    for (unsigned i = 0; i < store.count; i++)
        if (name ? strcmp(name, store.name[i]) == 0 : id == i + 1) {
            out->id = i + 1;
            out->bytes = (struct sallyport_bytes){store.record[i], store.n[i]};
            return 1;
        }
    return store.broken ? -1 : 0;
}

static void records_of_the_caller(void **state)
{
    static const char *const name[] = {"krbtgt/NAS1", "alice", "HOST/NAS1"};
    static const uint8_t secret[32] = "the secret of this realm";
    struct sallyport_kdc_options k = {.size = sizeof k,
                                      .realm = "NAS1",
                                      .secret = secret,
                                      .find = find,
                                      .user = &store,
                                      .iterations = 4097};
    struct sallyport_account a = {.size = sizeof a, .name = "bob"};
    struct sallyport_error e = SALLYPORT_ERROR_INIT;
    struct talk t;

    (void)state;
    world();
    sallyport_kdc_free(W.kdc);
    memset(&store, 0, sizeof store);
    W.kdc = sallyport_kdc_new(W.lib, &k, &e);
    for (unsigned i = 0; i < 3; i++) {
        size_t n = sizeof store.name[i];

        a = (struct sallyport_account){.size = sizeof a,
                                       .name = name[i],
                                       .id = i + 1,
                                       .password = i == 1 ? B(WORD) : (struct sallyport_bytes){0}};
        store.n[i] = sizeof store.record[i];
        assert_true(sallyport_kdc_make_record(W.kdc, &a, store.record[i], &store.n[i], &e));
        assert_true(sallyport_kdc_lookup_name(W.kdc, name[i], store.name[i], &n, &e));
        store.count++;
    }
    assert_string_equal(store.name[2], "host/nas1");
    assert_true(store.n[1] < 1024);
    assert_false(sallyport_kdc_add(W.kdc, &a, &e));
    assert_int_equal(e.kind, SALLYPORT_REFUSED);
    sallyport_kdc_free(W.kdc); /* records outlive it */
    W.kdc = sallyport_kdc_new(W.lib, &k, &e);
    sallyport_keytab_free(W.keytab);
    W.file_n = sizeof W.file;
    assert_true(sallyport_kdc_keytab(W.kdc, "host/nas1", W.file, &W.file_n, &e));
    W.keytab = sallyport_keytab_new(
        W.lib,
        &(struct sallyport_keytab_options){
            .size = sizeof(struct sallyport_keytab_options), .keytab = {W.file, W.file_n}
    },
        &e);
    t = usual();
    end_talk(&t);
    W.file_n = sizeof W.file;
    assert_false(sallyport_kdc_keytab(W.kdc, "host/none", W.file, &W.file_n, &e));
    assert_int_equal(e.kind, SALLYPORT_NOT_FOUND);
    store.broken = true;
    assert_false(sallyport_kdc_keytab(W.kdc, "host/none", W.file, &W.file_n, &e));
    assert_int_equal(e.kind, SALLYPORT_BACKEND);
    store.record[2][store.n[2] - 1] ^= 1;
    assert_false(sallyport_kdc_keytab(W.kdc, "host/nas1", W.file, &W.file_n, &e));
    assert_int_equal(e.kind, SALLYPORT_BACKEND);
    memcpy(store.name[2], "host/nas2", 10); /* one account's record under another's name */
    store.record[2][store.n[2] - 1] ^= 1;
    assert_false(sallyport_kdc_keytab(W.kdc, "host/nas2", W.file, &W.file_n, &e));
    assert_int_equal(e.kind, SALLYPORT_BACKEND);
    end_world();
}

static void accounts(void **state)
{
    struct sallyport_account a = {.size = sizeof a, .name = "alice", .password = B(WORD)};
    struct sallyport_error e = SALLYPORT_ERROR_INIT;
    struct sallyport_request q = {.size = sizeof q, .bytes = B("rubbish")};
    struct sallyport_answer r = {.size = sizeof r};
    char name[8];
    size_t n = sizeof name;

    (void)state;
    world();
    assert_false(sallyport_kdc_add(W.kdc, &a, &e));
    assert_int_equal(e.kind, SALLYPORT_EXISTS);
    a.name = "bob@ELSEWHERE";
    assert_false(sallyport_kdc_add(W.kdc, &a, &e));
    a.name = NULL;
    assert_false(sallyport_kdc_add(W.kdc, &a, &e));
    a.name = "bob";
    a.options = 64;
    assert_false(sallyport_kdc_add(W.kdc, &a, &e));
    assert_int_equal(e.kind, SALLYPORT_INPUT);
    a.options = SALLYPORT_ACCOUNT_DISABLED;
    assert_true(sallyport_kdc_add(W.kdc, &a, &e));
    assert_null(login(&(struct sallyport_login){.size = sizeof(struct sallyport_login),
                                                .client = "bob@NAS1",
                                                .password = B(WORD)},
                      &e));
    assert_int_equal(e.code, 18);
    assert_false(sallyport_kdc_lookup_name(W.kdc, "much-too-long", name, &n, &e));
    assert_int_equal(e.kind, SALLYPORT_FULL);
    assert_int_equal(n, 14);
    assert_true(sallyport_kdc_step(W.kdc, &q, &r, &e));
    assert_int_equal(r.reply.n, 0);
    assert_string_equal(r.event, "malformed");
    q.source = B("an address of more than twenty-three bytes");
    assert_false(sallyport_kdc_step(W.kdc, &q, &r, &e));
    assert_int_equal(e.kind, SALLYPORT_INPUT);
    r.size = 0;
    assert_false(sallyport_kdc_step(W.kdc, &q, &r, &e));
    end_world();
}

/* ---- what goes wrong on the caller's side ---- */

static bool whole_story(void)
{
    struct sallyport_error e = SALLYPORT_ERROR_INIT;
    struct sallyport_initiator i = usual_i();
    struct sallyport_acceptor a;
    struct file f = {.n = sizeof f.b};
    struct sallyport_context *x = NULL;
    struct talk t = {0};
    bool ok = make_world(&e);

    a = usual_a();
    a.service = "host/nas1";
    if (ok) {
        t = talk(&i, &a);
        ok = t.ok && sallyport_credentials(t.side[0], f.b, &f.n, &e);
    }
    i.ccache = bytes(&f);
    if (ok) {
        end_talk(&t);
        t = talk(&i, &a);
        ok = t.ok;
    }
    f.n = sizeof f.b;
    ok = ok && sallyport_export(t.side[0], f.b, &f.n, &e) && (x = sallyport_import(W.lib, bytes(&f), &e));
    sallyport_context_free(x);
    end_talk(&t);
    end_world();
    return ok;
}

static void every_allocation_fails_once(void **state)
{
    unsigned all;

    (void)state;
    assert_true(whole_story());
    all = M.taken;
    assert_true(all > 15);
    for (unsigned n = 1; n <= all; n++) {
        M.taken = 0;
        M.fail_at = n;
        if (whole_story())
            fail_msg("allocation %u of %u failed, and nobody noticed", n, all);
        assert_int_equal(M.live, 0);
    }
}

static void every_draw_fails_once(void **state)
{
    unsigned all;

    (void)state;
    assert_true(whole_story());
    all = M.drawn;
    assert_true(all > 20);
    for (unsigned n = 1; n <= all; n++) {
        M.drawn = 0;
        M.dry_at = n;
        if (whole_story())
            fail_msg("draw %u of %u failed, and nobody noticed", n, all);
        assert_int_equal(M.live, 0);
    }
}

static void a_dry_wrap_says_nothing(void **state)
{
    struct sallyport_error e = SALLYPORT_ERROR_INIT;
    uint8_t out[256] = {0};
    size_t n = sizeof out;
    struct talk t;

    (void)state;
    world();
    t = usual();
    M.dry_at = M.drawn + 1;
    assert_false(sallyport_wrap(t.side[0], SALLYPORT_SEALED, B("hello"), out, &n, &e));
    assert_int_equal(e.kind, SALLYPORT_BACKEND);
    assert_int_equal(n, 0);
    for (size_t k = 0; k < sizeof out; k++)
        assert_int_equal(out[k], 0);
    end_talk(&t);
    end_world();
}

/* ---- messages in pieces ---- */

#define DATA_N 11

/* A message of header, data, what is signed beside it, and perhaps a trailer. */
struct message {
    uint8_t header[128], trailer[128], text[DATA_N];
    struct sallyport_piece v[5];
    size_t count;
};

static void lay_out(struct message *m, const char *text, size_t count)
{
    memcpy(m->text, text, DATA_N);
    m->count = count;
    m->v[0] = (struct sallyport_piece){SALLYPORT_PIECE_HEADER, m->header, sizeof m->header};
    m->v[1] = (struct sallyport_piece){SALLYPORT_PIECE_DATA, m->text, DATA_N};
    m->v[2] = (struct sallyport_piece){SALLYPORT_PIECE_SIGN_ONLY, (void *)(uintptr_t) "beside", 6};
    m->v[3] = (struct sallyport_piece){SALLYPORT_PIECE_PADDING, NULL, 0};
    m->v[4] = (struct sallyport_piece){SALLYPORT_PIECE_TRAILER, m->trailer, sizeof m->trailer};
}

static void wrapped_as_announced(struct sallyport_context *x, int32_t how, struct message *m)
{
    struct sallyport_piece want[5];
    struct sallyport_error e = SALLYPORT_ERROR_INIT;

    memcpy(want, m->v, sizeof want);
    assert_true(sallyport_piece_lengths(x, how, want, m->count, &e));
    assert_true(sallyport_wrap_pieces(x, how, m->v, m->count, &e));
    for (size_t i = 0; i < m->count; i++)
        assert_int_equal(m->v[i].n, want[i].n);
}

static void messages_in_pieces(void **state)
{
    struct talk t;

    (void)state;
    world();
    t = usual();
    for (unsigned k = 0; k < 8; k++) { /* signed or sealed, with and without a trailer, both ways */
        int32_t how = k & 1 ? SALLYPORT_SEALED : SALLYPORT_SIGNED, was = -1;
        struct sallyport_context *from = t.side[k >> 2], *to = t.side[!(k >> 2)];
        struct sallyport_error e = SALLYPORT_ERROR_INIT;
        struct message m;

        lay_out(&m, "hello world", k & 2 ? 5 : 4);
        wrapped_as_announced(from, how, &m);
        assert_int_equal(memcmp(m.text, "hello world", DATA_N) != 0, how == SALLYPORT_SEALED);
        m.v[2].p = (void *)(uintptr_t) "astray";
        assert_false(sallyport_unwrap_pieces(to, m.v, m.count, &was, &e));
        assert_true(e.kind == SALLYPORT_REFUSED && e.code == SALLYPORT_BAD_SIG);
        m.v[2].p = (void *)(uintptr_t) "beside";
        if (!sallyport_unwrap_pieces(to, m.v, m.count, &was, &e))
            fail_msg("%u: %s", k, e.text);
        assert_int_equal(was, how);
        assert_memory_equal(m.text, "hello world", DATA_N);
        e.code = 0;
        if (how == SALLYPORT_SIGNED) { /* a sealed one is not there any more */
            assert_false(sallyport_unwrap_pieces(to, m.v, m.count, NULL, &e));
            assert_int_equal(e.code, SALLYPORT_DUPLICATE);
        }
    }
    end_talk(&t);
    end_world();
}

static void a_stream_is_opened_in_place(void **state)
{
    struct sallyport_error e = SALLYPORT_ERROR_INIT;
    uint8_t sealed[128], again[128];
    size_t n = sizeof sealed;
    struct sallyport_piece v[2] = {
        {SALLYPORT_PIECE_STREAM, sealed, 0},
        {SALLYPORT_PIECE_DATA,   NULL,   0},
    };
    struct talk t;

    (void)state;
    world();
    t = usual();
    assert_true(sallyport_wrap(t.side[0], SALLYPORT_SEALED, B("hello"), sealed, &n, NULL));
    v[0].n = n;
    memcpy(again, sealed, n);
    sealed[n - 1] ^= 1;
    assert_false(sallyport_unwrap_pieces(t.side[1], v, 2, NULL, &e));
    assert_null(v[1].p);
    sealed[n - 1] ^= 1;
    assert_true(sallyport_unwrap_pieces(t.side[1], v, 2, NULL, &e));
    assert_int_equal(v[1].n, 5);
    assert_true((uint8_t *)v[1].p > sealed && (uint8_t *)v[1].p < sealed + n);
    assert_memory_equal(v[1].p, "hello", 5);
    memcpy(sealed, again, n); /* once more: genuine, and not due */
    v[1] = (struct sallyport_piece){SALLYPORT_PIECE_DATA, NULL, 0};
    assert_false(sallyport_unwrap_pieces(t.side[1], v, 2, NULL, &e));
    assert_int_equal(e.code, SALLYPORT_DUPLICATE);
    assert_int_equal(v[1].n, 5);
    assert_memory_equal(v[1].p, "hello", 5);
    end_talk(&t);
    end_world();
}

/* Each of these, and the text is what it was. */
static void pieces_that_make_no_message(void **state)
{
    static const struct {
        size_t which; /* of lay_out's */
        struct sallyport_piece instead;
        int32_t kind;
    } wrong[] = {
        {0, {SALLYPORT_PIECE_HEADER, NULL, 3},      SALLYPORT_INPUT},
        {0, {SALLYPORT_PIECE_HEADER, NULL, 0},      SALLYPORT_FULL },
        {0, {SALLYPORT_PIECE_PADDING, NULL, 0},     SALLYPORT_INPUT},
        {3, {SALLYPORT_PIECE_HEADER, NULL, 0},      SALLYPORT_INPUT},
        {3, {SALLYPORT_PIECE_STREAM, NULL, 0},      SALLYPORT_INPUT},
        {3, {SALLYPORT_PIECE_STREAM + 1, NULL, 0},  SALLYPORT_INPUT},
        {3, {-1, NULL, 0},                          SALLYPORT_INPUT},
        {1, {SALLYPORT_PIECE_DATA, NULL, SIZE_MAX}, SALLYPORT_INPUT},
        {4, {SALLYPORT_PIECE_TRAILER, NULL, 0},     SALLYPORT_FULL },
    };
    struct sallyport_piece many[SALLYPORT_PIECES_MAX + 1] = {{0}};
    struct sallyport_error e = SALLYPORT_ERROR_INIT;
    struct message m;
    struct talk t;

    (void)state;
    world();
    t = usual();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        lay_out(&m, "hello world", 5);
        m.v[wrong[i].which] = wrong[i].instead;
        if (sallyport_wrap_pieces(t.side[0], SALLYPORT_SEALED, m.v, 5, &e) || e.kind != wrong[i].kind)
            fail_msg("%zu: %s", i, e.text);
        assert_memory_equal(m.text, "hello world", DATA_N);
    }
    lay_out(&m, "hello world", 5);
    assert_false(sallyport_wrap_pieces(t.side[0], 2, m.v, 5, &e));
    assert_int_equal(e.kind, SALLYPORT_INPUT);
    assert_false(sallyport_piece_lengths(t.side[0], SALLYPORT_SEALED, m.v + 1, 4, &e));
    assert_false(sallyport_wrap_pieces(t.side[0], SALLYPORT_SEALED, NULL, 1, &e));
    for (size_t i = 0; i <= SALLYPORT_PIECES_MAX; i++)
        many[i].kind = i ? SALLYPORT_PIECE_SIGN_ONLY : SALLYPORT_PIECE_HEADER;
    assert_false(sallyport_piece_lengths(t.side[0], SALLYPORT_SEALED, many, SALLYPORT_PIECES_MAX + 1, &e));
    assert_true(sallyport_piece_lengths(t.side[0], SALLYPORT_SEALED, many, SALLYPORT_PIECES_MAX, &e));
    assert_false(sallyport_unwrap_pieces(t.side[1], m.v + 1, 4, NULL, &e));
    assert_int_equal(e.kind, SALLYPORT_INPUT);
    end_talk(&t);
    end_world();
}

/* No context, no memory, no chance. */
static void pieces_without_what_it_takes(void **state)
{
    struct sallyport_error e = SALLYPORT_ERROR_INIT;
    struct sallyport_initiator i;
    struct sallyport_context *early;
    struct message m;
    struct talk t;

    (void)state;
    world();
    t = usual();
    i = usual_i();
    early = sallyport_initiator_new(W.lib, &i, &e);
    lay_out(&m, "hello world", 5);
    assert_false(sallyport_piece_lengths(early, SALLYPORT_SEALED, m.v, 5, &e));
    assert_int_equal(e.code, SALLYPORT_NO_CONTEXT);
    assert_false(sallyport_wrap_pieces(early, SALLYPORT_SEALED, m.v, 5, &e));
    assert_int_equal(e.code, SALLYPORT_NO_CONTEXT);
    assert_false(sallyport_unwrap_pieces(early, m.v, 5, NULL, &e));
    assert_int_equal(e.code, SALLYPORT_NO_CONTEXT);
    M.fail_at = M.taken + 1;
    assert_false(sallyport_wrap_pieces(t.side[0], SALLYPORT_SEALED, m.v, 5, &e));
    assert_int_equal(e.kind, SALLYPORT_NO_MEMORY);
    assert_memory_equal(m.text, "hello world", DATA_N);
    M.dry_at = M.drawn + 1;
    assert_false(sallyport_wrap_pieces(t.side[0], SALLYPORT_SEALED, m.v, 5, &e));
    assert_int_equal(e.kind, SALLYPORT_BACKEND);
    for (size_t k = 0; k < DATA_N; k++)
        assert_int_equal(m.text[k], 0);
    sallyport_context_free(early);
    end_talk(&t);
    end_world();
}

/* ---- the ABI ---- */

static void sizes_of_structs(void **state)
{
    struct {
        struct sallyport_recipe r;
        uint8_t later[16];
    } big = {
        .r = {.type = SALLYPORT_AES256_SHA1,
              .iterations = 4096,
              .password = B("password"),
              .salt = B("ATHENA.MIT.EDUraeburn")}
    };
    struct sallyport_error e = SALLYPORT_ERROR_INIT, small = {.size = 4, .code = 77};
    struct sallyport_action act = {.size = offsetof(struct sallyport_action, realm)};
    struct sallyport_event ev = event(SALLYPORT_START, B(""));
    struct sallyport_initiator i;
    struct sallyport_context *x;
    uint8_t key[32];
    size_t n = sizeof key;

    (void)state;
    world();
    big.r.size = sizeof big;
    assert_true(sallyport_string_to_key(W.lib, &big.r, key, &n, &e));
    assert_int_equal(n, 32);
    big.later[15] = 1;
    assert_false(sallyport_string_to_key(W.lib, &big.r, key, &n, &e));
    assert_int_equal(e.kind, SALLYPORT_INPUT);
    for (size_t size = 0; size < sizeof(size_t); size++) {
        big.r.size = size;
        assert_false(sallyport_string_to_key(W.lib, &big.r, key, &n, &small));
        assert_int_equal(small.code, 77);
    }
    assert_false(sallyport_string_to_key(W.lib, NULL, key, &n, &e));
    i = usual_i();
    x = sallyport_initiator_new(W.lib, &i, &e);
    act.message.n = 99;
    assert_int_equal(sallyport_step(x, &ev, &act), SALLYPORT_SEND);
    assert_true(act.token.n > 0 && act.message.n == 99); /* what the caller does not know is not touched */
    act.size = 0;
    assert_int_equal(sallyport_step(x, &ev, &act), SALLYPORT_STOP);
    assert_int_equal(sallyport_step(x, &ev, NULL), SALLYPORT_STOP);
    sallyport_context_free(x);
    end_world();
}

#if defined(__LP64__)
/* What was compiled against version 0.1 goes on working: these never shrink, and members never move. */
_Static_assert(sizeof(struct sallyport_error) == 184, "ABI");
_Static_assert(sizeof(struct sallyport_options) == 40, "ABI");
_Static_assert(sizeof(struct sallyport_event) == 48, "ABI");
_Static_assert(sizeof(struct sallyport_action) == 104, "ABI");
_Static_assert(sizeof(struct sallyport_bindings) == 64, "ABI");
_Static_assert(sizeof(struct sallyport_initiator) == 144, "ABI");
_Static_assert(sizeof(struct sallyport_keytab_options) == 48, "ABI");
_Static_assert(sizeof(struct sallyport_acceptor) == 72, "ABI");
_Static_assert(sizeof(struct sallyport_login) == 120, "ABI");
_Static_assert(sizeof(struct sallyport_facts) == 48, "ABI");
_Static_assert(sizeof(struct sallyport_recipe) == 48, "ABI");
_Static_assert(sizeof(struct sallyport_record) == 24, "ABI");
_Static_assert(sizeof(struct sallyport_kdc_options) == 64, "ABI");
_Static_assert(sizeof(struct sallyport_account) == 64, "ABI");
_Static_assert(sizeof(struct sallyport_request) == 64, "ABI");
_Static_assert(sizeof(struct sallyport_answer) == 96, "ABI");
_Static_assert(sizeof(struct sallyport_piece) == 24, "ABI");
#endif

static void string_to_key(void **state)
{
    /* RFC 3962 B, 1200 iterations; RFC 8009 A, 32768 */
    static const struct {
        int32_t type;
        uint32_t iterations;
        struct sallyport_bytes password, salt;
        const char *key;
        size_t n;
    } row[] = {
  /* clang-format off */
        {17, 1200, B("password"), B("ATHENA.MIT.EDUraeburn"),
         "\x4c\x01\xcd\x46\xd6\x32\xd0\x1e\x6d\xbe\x23\x0a\x01\xed\x64\x2a", 16},
        {18, 1200, B("password"), B("ATHENA.MIT.EDUraeburn"),
         "\x55\xa6\xac\x74\x0a\xd1\x7b\x48\x46\x94\x10\x51\xe1\xe8\xb0\xa7\x54\x8d\x93\xb0\xab\x30\xa8\xbc\x3f\xf1\x62\x80"
         "\x38\x2b\x8c\x2a",
         32},
  /* clang-format on */
    };
    struct sallyport_error e = SALLYPORT_ERROR_INIT;
    struct sallyport_recipe r = {.size = sizeof r, .type = 23, .password = B("x"), .salt = B("y")};
    uint8_t key[32];
    size_t n = sizeof key;

    (void)state;
    world();
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        struct sallyport_recipe v = {.size = sizeof v,
                                     .type = row[k].type,
                                     .iterations = row[k].iterations,
                                     .password = row[k].password,
                                     .salt = row[k].salt};

        n = sizeof key;
        assert_true(sallyport_string_to_key(W.lib, &v, key, &n, &e));
        assert_int_equal(n, row[k].n);
        assert_memory_equal(key, row[k].key, n);
    }
    n = sizeof key;
    assert_false(sallyport_string_to_key(W.lib, &r, key, &n, &e));
    assert_int_equal(e.code, 14);
    r.type = 18;
    n = 31;
    assert_false(sallyport_string_to_key(W.lib, &r, key, &n, &e));
    assert_int_equal(e.kind, SALLYPORT_FULL);
    assert_int_equal(n, 32);
    r.iterations = 1000001;
    assert_false(sallyport_string_to_key(W.lib, &r, key, &n, &e));
    assert_int_equal(e.kind, SALLYPORT_INPUT);
    end_world();
}

static void wrong_arguments(void **state)
{
    struct sallyport_options o = {.size = sizeof o, .user = &M};
    struct sallyport_error e = SALLYPORT_ERROR_INIT;
    struct sallyport_initiator i;
    struct sallyport_acceptor a;

    (void)state;
    assert_null(sallyport_new(&o, &e));
    assert_int_equal(e.kind, SALLYPORT_INPUT);
    o.random = draw;
    o.allocate = allocate;
    assert_null(sallyport_new(&o, &e));
    world();
#define BAD(what)                                                                                            \
    i = usual_i();                                                                                           \
    a = usual_a();                                                                                           \
    what;                                                                                                    \
    assert_null(sallyport_initiator_new(W.lib, &i, &e) && sallyport_acceptor_new(W.lib, &a, &e) ? &e         \
                                                                                                : NULL);     \
    assert_int_equal(e.kind, SALLYPORT_INPUT)
    BAD(i.target = NULL);
    BAD(i.target = "");
    BAD(i.client = "@NAS1");
    BAD(i.mechs[0] = 4);
    BAD(i.options = 32);
    BAD(i.mechs[0] = i.mechs[1] = SALLYPORT_KRB5);
    BAD(i.flags = 0x40000000);
    BAD(i.password = ((struct sallyport_bytes){NULL, 5}));
    BAD(i.keytab = B("rubbish"));
    BAD(i.forwarded = B("\5\4"));
    {
        struct sallyport_acceptor bad[4] = {usual_a(), usual_a(), usual_a(), usual_a()};

        bad[0].keytab = NULL;
        bad[1].options = 128;
        bad[2].options = SALLYPORT_REQUIRE_BINDINGS;
        bad[3].skew_s = -1;
        for (int k = 0; k < 4; k++) {
            assert_null(sallyport_acceptor_new(W.lib, &bad[k], &e));
            assert_int_equal(e.kind, SALLYPORT_INPUT);
        }
    }
    sallyport_context_free(NULL);
    sallyport_keytab_free(NULL);
    sallyport_kdc_free(NULL);
    sallyport_free(NULL);
    assert_string_equal(sallyport_version(), SALLYPORT_VERSION);
    assert_string_equal(sallyport_kind_name(SALLYPORT_REFUSED), "refused");
    assert_string_equal(sallyport_kind_name(99), "?");
    end_world();
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(whole_login),
        T(messages_out_of_order),
        T(every_way_in),
        T(refusals),
        T(functions_in_every_state),
        T(exported_contexts_go_on),
        T(replays),
        T(a_full_memory_refuses),
        T(delegation),
        T(own_host_as_client),
        T(logins),
        T(a_silent_kdc_ends_a_login),
        T(the_acceptor_speaks_first),
        T(guesses_are_counted),
        T(records_of_the_caller),
        T(accounts),
        T(every_allocation_fails_once),
        T(every_draw_fails_once),
        T(a_dry_wrap_says_nothing),
        T(messages_in_pieces),
        T(a_stream_is_opened_in_place),
        T(pieces_that_make_no_message),
        T(pieces_without_what_it_takes),
        T(sizes_of_structs),
        T(string_to_key),
        T(wrong_arguments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
