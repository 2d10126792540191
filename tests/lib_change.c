/* SPDX-License-Identifier: MIT */
/* Changing a password through the public library, with our own KDC and password server behind it. */
#include "realm.h"
#include "sallyport/sallyport.h"

#define CHANGE "kadmin/changepw"
#define NEXT "a longer and better one"
#define B(s) ((struct sallyport_bytes){(s), sizeof(s) - 1})

static struct sallyport *lib;
static unsigned kdc_asked, server_asked;

static bool draw(void *user, void *p, size_t n)
{
    (void)user;
    sp_rng_fill(&rng.rng, p, n);
    return true;
}

static int set_up(void **state)
{
    struct sallyport_options o = {.size = sizeof o, .random = draw};

    (void)state;
    kdc_asked = server_asked = 0;
    if (!realm_open())
        return 1;
    add(CHANGE, STORE_CHANGEPW);
    add("root", STORE_USER)->flags |= STORE_ADMIN;
    lib = sallyport_new(&o, NULL);
    return !lib;
}

static int tear_down(void **state)
{
    (void)state;
    sallyport_free(lib);
    realm_close();
    return 0;
}

static struct sallyport_bytes bytes(struct sp_span s)
{
    return (struct sallyport_bytes){s.p, s.n};
}

/* What the keeper says of a change that is proven. */
static struct {
    uint16_t result;
    const char *text;
} keeper;

static struct sp_span server(struct sp_span message)
{
    struct kdc_request q = {
        .bytes = message, .door = KDC_TCP, .source = {.id = {4, 192, 0, 2, 1}, .text = "192.0.2.1"}
    };
    struct sp_arena kmem;
    struct sp_span reply;
    struct sp_err e = {0};

    server_asked++;
    sp_arena_init(&kmem, kdc_block, sizeof kdc_block);
    memset(&W.out, 0, sizeof W.out);
    kdc_kpasswd_step(&W.k, env, &q, &kmem, &W.out);
    reply = W.out.reply;
    if (W.out.has_change)
        kdc_finish_change(&W.k, env, W.out.change, keeper.result, sp_str(keeper.text), &kmem, &reply);
    return sp_dup(&scrap, reply, &e);
}

static struct sallyport_event event(int32_t kind, struct sallyport_bytes b)
{
    return (struct sallyport_event){.size = sizeof(struct sallyport_event),
                                    .kind = kind,
                                    .bytes = b,
                                    .wall_us = env.wall_us,
                                    .mono_us = env.mono_us};
}

/* Until the password server would be asked, or the end. */
static enum sallyport_do log_in(struct sallyport_context *x, struct sallyport_action *a)
{
    struct sallyport_event ev = event(SALLYPORT_START, B(""));
    enum sallyport_do what;

    *a = (struct sallyport_action){.size = sizeof *a};
    while ((what = sallyport_step(x, &ev, a)) == SALLYPORT_CARRY) {
        kdc_asked++;
        ev = event(SALLYPORT_CARRIED, bytes(our_kdc(sp_span(a->message.p, a->message.n))));
    }
    return what;
}

static enum sallyport_do whole(struct sallyport_context *x, struct sallyport_action *a)
{
    struct sallyport_event ev;

    if (log_in(x, a) != SALLYPORT_CARRY_CHANGE)
        return (enum sallyport_do)a->what;
    assert_true(sp_same(sp_span(a->realm.p, a->realm.n), SP_LIT(REALM)));
    ev = event(SALLYPORT_CARRIED, bytes(server(sp_span(a->message.p, a->message.n))));
    return sallyport_step(x, &ev, a);
}

static struct sallyport_context *begin(const char *client, const char *target)
{
    struct sallyport_change how = {
        .size = sizeof how, .client = client, .password = B(WORD), .next = B(NEXT), .target = target};
    struct sallyport_error e = SALLYPORT_ERROR_INIT;
    struct sallyport_context *x = sallyport_change_new(lib, &how, &e);

    if (!x)
        fail_msg("%s", e.text);
    return x;
}

static bool established(struct sallyport_context *x)
{
    struct sallyport_facts f = {.size = sizeof f};

    assert_true(sallyport_tell(x, &f));
    return f.established;
}

static void ones_own(void **state)
{
    struct sallyport_context *x = begin("alice@NAS1", NULL);
    struct sallyport_event ev = event(SALLYPORT_START, B(""));
    struct sallyport_action a;

    (void)state;
    keeper.result = 0;
    keeper.text = "done";
    if (whole(x, &a) != SALLYPORT_DONE)
        fail_msg("%s", a.why->text);
    assert_true(W.out.has_change);
    assert_true(sp_same(sp_span(W.out.change->password, W.out.change->password_n), SP_LIT(NEXT)));
    assert_int_equal(W.out.change->account_id, account("alice")->id);
    assert_string_equal(a.peer, "alice@NAS1");
    assert_true(established(x));
    assert_true(kdc_asked >= 2 && server_asked == 1);
    for (int32_t kind = SALLYPORT_START; kind <= SALLYPORT_NOT_CARRIED; kind++) {
        ev.kind = kind;
        assert_int_equal(sallyport_step(x, &ev, &a), SALLYPORT_STOP);
        assert_int_equal(a.why->code, SALLYPORT_NO_CONTEXT);
    }
    assert_true(established(x));
    sallyport_context_free(x);
}

static void an_administrator(void **state)
{
    struct sallyport_context *x = begin("root@NAS1", "alice");
    struct sallyport_action a;

    (void)state;
    keeper.result = 0;
    keeper.text = "";
    assert_int_equal(whole(x, &a), SALLYPORT_DONE);
    assert_int_equal(W.out.change->account_id, account("alice")->id);
    assert_int_equal(W.out.change->by_id, account("root")->id);
    sallyport_context_free(x);
}

static void stopped(struct sallyport_context *x, const struct sallyport_action *a, int32_t code,
                    const char *words)
{
    assert_int_equal(a->what, SALLYPORT_STOP);
    if (a->why->kind != SALLYPORT_REFUSED || a->why->code != code || !strstr(a->why->text, words))
        fail_msg("%d %d: %s", a->why->kind, a->why->code, a->why->text);
    assert_false(established(x));
    sallyport_context_free(x);
}

static void refusals(void **state)
{
    struct sallyport_context *x = begin("alice@NAS1", NULL);
    struct sallyport_event ev = event(SALLYPORT_NOT_CARRIED, B(""));
    struct sallyport_action a;
    struct sp_span reply;
    struct sp_err e = {0};

    (void)state;
    keeper.result = 4;
    keeper.text = "use a longer one";
    (void)whole(x, &a);
    stopped(x, &a, 12, "use a longer one");
    x = begin("alice@NAS1", "root@NAS1");
    (void)whole(x, &a);
    stopped(x, &a, 12, "administrator");
    x = begin("alice@NAS1", NULL);
    assert_int_equal(log_in(x, &a), SALLYPORT_CARRY_CHANGE);
    assert_false(established(x));
    assert_int_equal(sallyport_step(x, &ev, &a), SALLYPORT_STOP);
    stopped(x, &a, SALLYPORT_ERR_KDC_NO_RESPONSE, "not known");
    x = begin("alice@NAS1", NULL);
    assert_int_equal(log_in(x, &a), SALLYPORT_CARRY_CHANGE);
    keeper.result = 0;
    reply = sp_dup(&scrap, server(sp_span(a.message.p, a.message.n)), &e);
    ((uint8_t *)(uintptr_t)reply.p)[reply.n - 1] ^= 1;
    ev = event(SALLYPORT_CARRIED, bytes(reply));
    assert_int_equal(sallyport_step(x, &ev, &a), SALLYPORT_STOP);
    stopped(x, &a, KRB_AP_ERR_MODIFIED, "trusted");
    account("alice")->flags |= STORE_DISABLED;
    x = begin("alice@NAS1", NULL);
    (void)whole(x, &a);
    assert_int_equal(a.what, SALLYPORT_STOP);
    sallyport_context_free(x);
}

static void wishes_that_cannot_be(void **state)
{
    static char much[1025];
    struct sallyport_change good = {.size = sizeof good,
                                    .client = "alice@NAS1",
                                    .password = B(WORD),
                                    .next = B(NEXT)},
                            bad[7];
    struct sallyport_error e = SALLYPORT_ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        bad[i] = good;
    bad[0].next.n = 0;
    bad[1].next = (struct sallyport_bytes){much, sizeof much};
    bad[2].client = "alice";
    bad[3].password.p = NULL;
    bad[4].target = "a\\";
    bad[5].options = 64;
    bad[6].size = 3;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct sallyport_context *x = sallyport_change_new(lib, &bad[i], &e);
        struct sallyport_action a;

        if (x && i == 3) { /* a login without a secret ends at its first event */
            assert_int_equal(log_in(x, &a), SALLYPORT_STOP);
            sallyport_context_free(x);
            continue;
        }
        if (x || e.kind != SALLYPORT_INPUT)
            fail_msg("%zu: %s", i, e.text);
    }
    assert_null(sallyport_change_new(lib, NULL, &e));
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {T(ones_own), T(an_administrator), T(refusals),
                                       T(wishes_that_cannot_be)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
