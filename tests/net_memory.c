/* SPDX-License-Identifier: MIT */
/* Every allocation of the courier's network code fails once (T027): each exchange still ends once, the door
 * serves the next one, and nothing is left behind. The linker puts these functions before our own objects'
 * calls. */
#include "net/exchange.h"
#include "net/resolver.h"
#include "web_world.h"

static long until_failure; /* 0: never */

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *p, size_t n);

static bool is_due(void)
{
    return until_failure > 0 && --until_failure == 0;
}

void *__wrap_malloc(size_t n)
{
    return is_due() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t count, size_t n)
{
    return is_due() ? NULL : __real_calloc(count, n);
}

void *__wrap_realloc(void *p, size_t n)
{
    return is_due() ? NULL : __real_realloc(p, n);
}

struct ended {
    int count;
    bool well;
};

static void on_done(void *owner, const struct net_exchange_result *r)
{
    struct ended *e = owner;

    e->count++;
    e->well = r->end == NET_EXCHANGE_DONE;
}

static void on_found(void *owner, const struct net_found *f)
{
    struct ended *e = owner;

    e->count++;
    e->well = f->count > 0;
}

static void wait_for(struct world *w, struct ended *e)
{
    for (int turns = 0; e->count == 0 && turns < 400; turns++)
        turn(w, 5);
    assert_int_equal(e->count, 1);
}

static struct net_plan plan_for(struct world *w, const char *bytes, struct ended *e)
{
    *e = (struct ended){0};
    return (struct net_plan){
        .to = w->at,
        .bytes = sp_str(bytes),
        .until_us = net_base_now_us() + S,
        .reply_max = 70000,
        .done = on_done,
        .owner = e,
    };
}

/* True: it came back as it should. */
static bool flow_post(struct world *w, bool *begun)
{
    static char body[60000]; /* so that buffers grow at both ends */
    struct sp_err err = {0};
    struct ended e;
    struct net_web_client *c =
        net_web_client_new(w->base, &(struct net_web_settings){.ca_file = ca_file}, &err);

    *begun = false;
    if (!c) {
        assert_int_not_equal(err.kind, SP_OK);
        return false;
    }
    memset(body, 'x', sizeof body - 1);
    struct net_post p = {plan_for(w, body, &e), "relay.test", 443, "/KdcProxy", TYPE, NULL, true};
    *begun = net_exchange_post(c, &p) != NULL;
    if (*begun)
        wait_for(w, &e);
    net_web_client_free(c);
    return *begun && e.well;
}

static bool flow_tcp(struct world *w, bool *begun)
{
    struct ended e;
    struct net_plan p = plan_for(w, "x", &e);

    *begun =
        net_exchange_tcp(w->base, &p) != NULL; /* the door understands nothing of this, and says so in TLS */
    if (*begun)
        wait_for(w, &e);
    return *begun && e.count == 1 && !e.well;
}

static bool flow_resolve(struct world *w, bool *begun)
{
    struct sp_err err = {0};
    struct ended e = {0};
    struct net_resolver *r = net_resolver_new(w->base, "127.0.0.1:9", &err);

    *begun = false;
    if (!r) {
        assert_int_not_equal(err.kind, SP_OK);
        return false;
    }
    *begun = net_resolve(r, NET_LOOKUP_ADDRESS, "localhost", on_found, &e) != NULL;
    if (*begun)
        wait_for(w, &e);
    net_resolver_free(r);
    return *begun && e.well;
}

typedef bool flow(struct world *w, bool *begun);

/* Until n is beyond what the flow allocates. */
static void fail_each(struct world *w, flow *f, long at_least)
{
    long n;

    for (n = 1;; n++) {
        bool begun, well;

        until_failure = n;
        (void)f(w, &begun);
        bool reached = until_failure == 0;
        until_failure = 0;
        turn_for(w, S / 50);
        well = f(w, &begun);
        assert_true(well); /* with memory again, all is as before */
        turn_for(w, S / 50);
        if (!reached)
            break;
    }
    print_message("%ld allocations\n", n - 1);
    assert_true(n > at_least);
}

static void test_flows(void **state)
{
    static flow *const flows[] = {flow_post, flow_tcp, flow_resolve};
    static const long at_least[] = {12, 2, 3};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct world w;

        open_world(&w, NULL, &good, &ca, NULL);
        fail_each(&w, flows[i], at_least[i]);
        turn_for(&w, S / 5);
        assert_true(net_web_is_idle(w.web));
        close_world(&w);
    }
}

static void test_beginnings(void **state)
{
    struct net_web_handler h = {on_request, on_gone, on_refused, NULL};
    bool done = false;

    (void)state;
    for (long n = 1; !done; n++) {
        struct sp_err e = {0};
        struct net_address a;

        assert_true(net_parse_address(SP_LIT("127.0.0.1:0"), &a, &e));
        int fd = net_listen_tcp(&a, &e);
        until_failure = n;
        struct net_base *b = net_base_new(NULL, &e);
        struct net_web *w = b ? net_web_new(b, NULL, &h, &e) : NULL;
        struct net_web_tls *t =
            w ? net_web_tls_new(pem_of(&good), (struct sp_span){0}, certificate_of(&ca), &e) : NULL;
        bool ok = t && net_web_add(w, fd, t, &a, 1, &e);
        done = until_failure > 0;
        until_failure = 0;
        assert_int_equal(ok, done);
        assert_int_equal(e.kind == SP_OK, done);
        net_web_free(w);
        net_web_tls_free(t);
        net_base_free(b);
        close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beginnings),
        cmocka_unit_test(test_flows),
    };

    return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
