/* SPDX-License-Identifier: MIT */
/* The courier's engine, one decision at a time; ladder_world.c lets thousands of clients loose on it. Times
 * are milliseconds of a clock that stands still between calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "courier/ladder.h"
#include "ladder_messages.h"

#define MS INT64_C(1000)
#define NAS1 SP_LIT("NAS1")
enum { ACTIONS = 4096, ROOM = 16 << 20 };

static struct bed {
    struct ladder *l;
    struct sp_rng_fixed rng;
    int64_t now_us;
    struct ladder_target target[16];
    struct ladder_realm realm;
    struct ladder_action a[ACTIONS];
    uint32_t n;
    struct sp_arena mem;
} b;
static _Alignas(16) uint8_t room[ROOM];

/* ---- the bed ---- */

static struct sp_env env(void)
{
    return (struct sp_env){1900000000 * INT64_C(1000000) + b.now_us, b.now_us, &b.rng.rng};
}

static void drain(void)
{
    struct ladder_action a;
    struct sp_err e = {0};

    while (ladder_next(b.l, env(), &a)) {
        assert_true(b.n < ACTIONS);
        a.bytes = sp_dup(&b.mem, a.bytes, &e);
        a.text = sp_dup(&b.mem, a.text, &e);
        a.name = sp_dup(&b.mem, a.name, &e);
        assert_true(sp_ok(&e));
        b.a[b.n++] = a;
    }
}

/* Lets time go by, and returns what happened meanwhile. */
static void pass(int64_t ms)
{
    int64_t to = b.now_us + ms * MS, due;

    b.n = 0;
    while ((due = ladder_due_us(b.l)) >= 0 && due <= to) {
        b.now_us = due > b.now_us ? due : b.now_us;
        ladder_tick(b.l, env());
        drain();
    }
    b.now_us = to;
}

static void begin_with(const struct ladder_limits *limits)
{
    free(b.l);
    memset(&b, 0, sizeof b);
    sp_arena_init(&b.mem, room, sizeof room);
    sp_rng_fixed_init(&b.rng, 4);
    b.now_us = 1000 * 1000 * MS;
    b.l = ladder_init(malloc(ladder_bytes(limits)), limits, &b.rng.rng);
    b.realm.name = NAS1;
    b.realm.targets = b.target;
}

static struct ladder_target *add(enum ladder_rung rung, const char *host)
{
    struct ladder_target *t = &b.target[b.realm.target_count++];

    *t = (struct ladder_target){.rung = rung, .host = sp_str(host), .port = 88};
    if (rung != LADDER_NATIVE)
        *t = (struct ladder_target){
            .rung = rung, .host = sp_str(host), .port = 443, .path = SP_LIT("/KdcProxy"), .tls = true};
    return t;
}

static void configure(const char *rungs)
{
    struct sp_err e = {0};

    b.realm.rung_count = 0;
    for (; *rungs; rungs++)
        b.realm.ladder[b.realm.rung_count++] = *rungs == 'n'   ? LADDER_NATIVE
                                               : *rungs == 'r' ? LADDER_RELAY
                                               : *rungs == 'i' ? LADDER_INBAND
                                                               : LADDER_LOCAL;
    if (!ladder_configure(b.l, env(), &b.realm, 1, &e))
        fail_msg("%s", e.text);
}

/* A realm of KDCs at 192.0.2.1 and so on, by this ladder. */
static void begin(const char *rungs, uint32_t kdcs)
{
    static const char *const ips[] = {"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4",
                                      "192.0.2.5", "192.0.2.6", "192.0.2.7", "192.0.2.8"};

    begin_with(NULL);
    for (uint32_t i = 0; i < kdcs; i++)
        add(LADDER_NATIVE, ips[i]);
    if (strchr(rungs, 'r'))
        add(LADDER_RELAY, "198.51.100.1");
    if (strchr(rungs, 'i'))
        add(LADDER_INBAND, "203.0.113.1");
    configure(rungs);
}

static struct sp_span as_req(void)
{
    return message_request(KRB_AS_REQ, NAS1, NULL, 0, &b.mem);
}

static struct sp_span with_padata(int32_t one, int32_t two, size_t n)
{
    const int32_t types[] = {one, two, 0};

    return message_request(KRB_AS_REQ, NAS1, types, n, &b.mem);
}

static struct sp_span as_rep(void)
{
    return message_reply(KRB_AS_REP, NAS1, 100, &b.mem);
}

/* 0: taken; else the code of the refusal. */
static int32_t ask_as(const struct ladder_request *q)
{
    struct sp_err e = {0};
    bool taken = ladder_ask(b.l, env(), q, &e);

    b.n = 0;
    drain();
    if (!taken)
        assert_int_equal(b.n, 0);
    assert_true(taken || e.proto != 0);
    return taken ? 0 : e.proto;
}

static void ask(uint64_t tag, struct sp_span message)
{
    struct ladder_request q = {.message = message, .tag = tag, .source = {1}};
    int32_t code = ask_as(&q);

    if (code)
        fail_msg("refused with %d", code);
}

static void tell(uint32_t id, enum ladder_end end, struct sp_span bytes, const char *text)
{
    struct ladder_outcome o = {.try_id = id, .end = end, .bytes = bytes, .text = sp_str(text)};

    ladder_tell(b.l, env(), &o);
    b.n = 0;
    drain();
}

static void forget(uint64_t tag)
{
    ladder_forget(b.l, env(), tag);
    b.n = 0;
    drain();
}

static const struct ladder_action *got(enum ladder_what what, uint32_t nth)
{
    for (uint32_t i = 0; i < b.n; i++)
        if (b.a[i].what == what && nth-- == 0)
            return &b.a[i];
    return NULL;
}

static uint32_t count_of(enum ladder_what what)
{
    uint32_t n = 0;

    while (got(what, n))
        n++;
    return n;
}

/* The only try among what just happened: to 192.0.2.LAST for KDCs; its id. */
static uint32_t one_try(enum ladder_carry carry, uint8_t last)
{
    const struct ladder_action *a = got(LADDER_TRY, 0);

    assert_non_null(a);
    assert_int_equal(count_of(LADDER_TRY), 1);
    if (a->carry != carry || (last && a->address.ip[3] != last))
        fail_msg("carry %d to .%d instead of %d to .%d", a->carry, a->address.ip[3], carry, last);
    return a->id;
}

static const struct ladder_action *ended(enum ladder_what what, uint64_t tag)
{
    const struct ladder_action *a = got(what, 0);

    if (!a)
        fail_msg("%u actions, the first %d, none %d: %.*s", b.n, b.n ? (int)b.a[0].what : -1, what,
                 b.n ? (int)b.a[0].text.n : 0, b.n ? (const char *)b.a[0].text.p : "");
    assert_int_equal(a->tag, tag);
    return a;
}

static bool says(const struct ladder_action *a, const char *what)
{
    if (memmem(a->text.p, a->text.n, what, strlen(what)))
        return true;
    print_error("\"%.*s\" does not say \"%s\"\n", (int)a->text.n, (const char *)a->text.p, what);
    return false;
}

static struct ladder_health health(uint32_t i)
{
    struct ladder_health h = {0};

    assert_true(ladder_health_at(b.l, 0, i, &h));
    return h;
}

/* An exchange that leaves the KDC at this address alive. */
static void answered_by(enum ladder_carry carry, uint8_t last, int64_t ms)
{
    uint32_t id;

    ask(1, as_req());
    id = one_try(carry, last);
    b.now_us += ms * MS;
    tell(id, LADDER_ANSWERED, as_rep(), "");
    (void)ended(LADDER_ANSWER, 1);
}

/* ---- what is carried ---- */

static struct sp_span plus(struct sp_span s, const char *more)
{
    struct sp_err e = {0};
    struct sp_span both = sp_format(&b.mem, &e, "%*s", (int)(s.n + strlen(more)), "");

    memcpy((void *)(uintptr_t)both.p, s.p, s.n);
    memcpy((uint8_t *)(uintptr_t)both.p + s.n, more, strlen(more));
    return both;
}

static void whitelist(void **state) /* T103, T104, T108 */
{
    const int32_t fast[] = {PA_FX_FAST, 0}, pkinit[] = {16, 0}, timestamp[] = {PA_ENC_TIMESTAMP, 0};
    struct sp_span as, kpasswd, longer;
    const struct sp_span none = {0};

    (void)state;
    begin("n", 1);
    as = as_req();
    kpasswd = message_kpasswd(NAS1, "changepw", &b.mem);
    longer = plus(kpasswd, "x");
    const struct sp_span tgs = message_request(KRB_TGS_REQ, NAS1, NULL, 0, &b.mem);
    const struct sp_span letter = sp_span("j", 1);
    const struct sp_span http = SP_LIT("GET / HTTP/1.1\r\n\r\n");
    const struct sp_span as_more = plus(as, "x");
    const struct sp_span as_twice = plus(as, "j");
    const struct sp_span as_cut = sp_span(as.p, as.n - 1);
    const struct sp_span reply = as_rep();
    const struct sp_span error = message_error(NAS1, 25, &b.mem);
    const struct sp_span priv = message_priv(&b.mem);
    const struct sp_span kpasswd_cut = sp_span(kpasswd.p, kpasswd.n - 1);
    const struct sp_span other_ticket = message_kpasswd(NAS1, "admin", &b.mem);
    const struct sp_span as_inside = message_kpasswd_of(1, as, message_priv(&b.mem), &b.mem);
    const struct sp_span no_priv =
        message_kpasswd_of(1, sp_span(kpasswd.p + 6, kpasswd.n - 6 - message_priv(&b.mem).n), as, &b.mem);
    const struct sp_span version_2 = message_kpasswd_of(2, as, as, &b.mem);
    const struct sp_span stamped = message_request(KRB_AS_REQ, NAS1, timestamp, 8, &b.mem);
    const struct sp_span armoured = message_request(KRB_AS_REQ, NAS1, fast, 8, &b.mem);
    const struct sp_span certified = message_request(KRB_AS_REQ, NAS1, pkinit, 8, &b.mem);
    const struct sp_span tgs_plain = message_request(KRB_TGS_REQ, NAS1, NULL, 0, &b.mem);
    const struct sp_span large = message_request(KRB_AS_REQ, NAS1, fast, 120 * 1024, &b.mem);
    const struct sp_span too_large = plus(message_request(KRB_AS_REQ, NAS1, fast, 128 * 1024, &b.mem), "x");
    const struct {
        const char *why;
        struct sp_span message;
        bool armoured_only, kpasswd;
        int32_t code;
    } rows[] = {
        {"AS-REQ",                                  as,           false, false, 0             },
        {"TGS-REQ",                                 tgs,          false, false, 0             },
        {"nothing",                                 none,         false, false, 60            },
        {"one byte",                                letter,       false, false, 60            },
        {"HTTP",                                    http,         false, false, 60            },
        {"AS-REQ and a byte",                       as_more,      false, false, 60            },
        {"AS-REQ twice",                            as_twice,     false, false, 60            },
        {"AS-REQ cut",                              as_cut,       false, false, 60            },
        {"AS-REP",                                  reply,        false, false, 60            },
        {"KRB-ERROR",                               error,        false, false, 60            },
        {"KRB-PRIV",                                priv,         false, false, 60            },
        {"a password change where none is carried", kpasswd,      false, false, KDC_ERR_POLICY},
        {"a password change",                       kpasswd,      false, true,  0             },
        {"a password change and a byte",            longer,       false, true,  60            },
        {"a password change cut",                   kpasswd_cut,  false, true,  60            },
        {"a ticket of something else",              other_ticket, false, true,  KDC_ERR_POLICY},
        {"a password change that is a request",     as_inside,    false, true,  60            },
        {"a password change without KRB-PRIV",      no_priv,      false, true,  60            },
        {"version 2 of a password change",          version_2,    false, true,  60            },
        {"plain where armour is wanted",            as,           true,  false, KDC_ERR_POLICY},
        {"timestamp where armour is wanted",        stamped,      true,  false, KDC_ERR_POLICY},
        {"armour",                                  armoured,     true,  false, 0             },
        {"PKINIT",                                  certified,    true,  false, 0             },
        {"TGS-REQ where armour is wanted",          tgs_plain,    true,  false, 0             },
        {"120 KiB",                                 large,        false, false, 0             },
        {"over 128 KiB",                            too_large,    false, false, 60            },
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ladder_request q = {
            .message = rows[i].message, .tag = i + 1, .armoured_only = rows[i].armoured_only};
        int32_t code;

        b.realm.kpasswd = rows[i].kpasswd;
        configure("n");
        code = ask_as(&q);
        if (code != rows[i].code)
            fail_msg("%s: %d instead of %d", rows[i].why, code, rows[i].code);
        forget(i + 1);
        assert_int_equal(ladder_in_flight(b.l), 0);
    }
}

static void realm_names(void **state) /* T101 */
{
    static const struct {
        const char *asked, *in_body;
        enum ladder_door door;
        int32_t code;
    } rows[] = {
        {"NAS1",            "NAS1",         LADDER_DOOR_SOCKET,       0 },
        {"",                "NAS1",         LADDER_DOOR_LOOPBACK_UDP, 0 },
        {"nas1",            "NAS1",         LADDER_DOOR_RELAY,        0 },
        {"nas1.example",    "NAS1",         LADDER_DOOR_RELAY,        0 },
        {"Nas1.Example",    "nas1.EXAMPLE", LADDER_DOOR_RELAY,        0 },
        {"nas1.example",    "NAS1",         LADDER_DOOR_SOCKET,       0 },
        {"nas1",            "NAS1",         LADDER_DOOR_SOCKET,       85},
        {"",                "nas1",         LADDER_DOOR_LOOPBACK_TCP, 85},
        {"NAS1",            "OTHER",        LADDER_DOOR_RELAY,        85},
        {"NAS1",            ".",            LADDER_DOOR_SOCKET,       0 },
        {"NAS1",            "",             LADDER_DOOR_RELAY,        0 },
        {".",               "NAS1",         LADDER_DOOR_SOCKET,       0 },
        {".",               ".",            LADDER_DOOR_SOCKET,       85},
        {"",                "",             LADDER_DOOR_SOCKET,       85},
        {"OTHER",           ".",            LADDER_DOOR_SOCKET,       85},
        {"OTHER",           "NAS1",         LADDER_DOOR_RELAY,        85},
        {"127.0.0.1",       "127.0.0.1",    LADDER_DOOR_RELAY,        85},
        {"2130706433",      "2130706433",   LADDER_DOOR_RELAY,        85},
        {"[::1]",           "[::1]",        LADDER_DOOR_RELAY,        85},
        {"localhost",       "localhost",    LADDER_DOOR_RELAY,        85},
        {"169.254.169.254", "NAS1",         LADDER_DOOR_RELAY,        85},
        {"NAS1:445",        "NAS1",         LADDER_DOOR_RELAY,        85},
        {"NAS1.",           "NAS1",         LADDER_DOOR_RELAY,        85},
        {"NAS%31",          "NAS1",         LADDER_DOOR_RELAY,        85},
        {"N\0A\0S\0",       "NAS1",         LADDER_DOOR_RELAY,        85},
        {"*",               "NAS1",         LADDER_DOOR_RELAY,        85},
        {"NAS1 ",           "NAS1 ",        LADDER_DOOR_RELAY,        85},
    };
    struct sp_span alias[] = {SP_LIT("nas1.example"), SP_LIT("N1")};

    (void)state;
    begin("n", 1);
    b.realm.aliases = (struct sp_spans){alias, 2};
    b.realm.discover = LADDER_SRV;
    configure("n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ladder_request q = {.door = rows[i].door, .realm = sp_str(rows[i].asked), .tag = i + 1};
        int32_t code;

        q.message = message_request(KRB_AS_REQ, sp_str(rows[i].in_body), NULL, 0, &b.mem);
        code = ask_as(&q);
        if (code != rows[i].code)
            fail_msg("\"%s\" with \"%s\": %d instead of %d", rows[i].asked, rows[i].in_body, code,
                     rows[i].code);
        assert_true(code == 0 || b.n == 0); /* no packet, no look-up */
        if (code == 0)
            assert_true(sp_same(got(LADDER_TRY, 0)->realm, NAS1));
        forget(i + 1);
    }
}

static void finds_realms(void **state)
{
    struct sp_span alias[] = {SP_LIT("nas1.example")};
    uint32_t realm = 7;

    (void)state;
    begin("n", 1);
    b.realm.aliases = (struct sp_spans){alias, 1};
    configure("n");
    assert_true(ladder_find_realm(b.l, SP_LIT("NAS1.EXAMPLE"), &realm));
    assert_int_equal(realm, 0);
    assert_false(ladder_find_realm(b.l, SP_LIT("NAS"), &realm));
    assert_false(ladder_find_realm(b.l, SP_LIT(""), &realm));
    alias[0] = SP_LIT("."); /* the one that is meant when none is said */
    configure("n");
    ask(1, message_request(KRB_AS_REQ, SP_LIT(""), NULL, 0, &b.mem));
    assert_true(sp_same(got(LADDER_TRY, 0)->realm, NAS1));
}

/* ---- the ladder ---- */

static void rungs_in_order(void **state)
{
    const struct ladder_action *a;
    uint32_t id;

    (void)state;
    begin("nril", 1);
    ask(5, as_req());
    id = one_try(LADDER_BY_UDP, 1);
    tell(id, LADDER_REFUSED, NAS1, "connection refused");
    id = one_try(LADDER_BY_TCP, 1); /* the same KDC may be heard by TCP */
    tell(id, LADDER_REFUSED, NAS1, "connection refused");
    id = one_try(LADDER_BY_HTTPS, 1);
    a = got(LADDER_TRY, 0);
    assert_true(a->target && a->target->tls && sp_same(a->target->path, SP_LIT("/KdcProxy")));
    assert_int_equal(a->port, 443);
    tell(id, LADDER_REFUSED, NAS1, "certificate has expired");
    id = one_try(LADDER_BY_NEGOTIATE, 1);
    tell(id, LADDER_UNSUPPORTED, NAS1, "no Negotiate");
    id = one_try(LADDER_BY_WORKER, 0);
    assert_null(got(LADDER_TRY, 0)->target);
    b.now_us += 3 * MS;
    tell(id, LADDER_ANSWERED, as_rep(), "");
    a = ended(LADDER_ANSWER, 5);
    assert_int_equal(a->rung, LADDER_LOCAL);
    assert_int_equal(a->took_us, 3 * MS);
    assert_true(sp_same(a->bytes, as_rep()));
    assert_true(says(a,
                     "native: 192.0.2.1: connection refused; relay: 198.51.100.1: certificate has expired; "
                     "in-band: 203.0.113.1: no Negotiate"));
    assert_int_equal(health(2).life, LADDER_NO_WAY);
    assert_int_equal(health(0).life, LADDER_DEAD);
    assert_null(health(3).target);
    assert_int_equal(ladder_in_flight(b.l), 0);
}

static void every_rung_fails(void **state)
{
    const struct ladder_action *a;

    (void)state;
    begin("nl", 1);
    ask(5, as_req());
    tell(one_try(LADDER_BY_UDP, 1), LADDER_REFUSED, NAS1, "no route");
    tell(one_try(LADDER_BY_TCP, 1), LADDER_REFUSED, NAS1, "no route");
    tell(one_try(LADDER_BY_WORKER, 0), LADDER_REFUSED, NAS1, "no worker");
    a = ended(LADDER_REFUSE, 5);
    assert_int_equal(a->code, 86);
    assert_false(a->garbled);
    assert_true(says(a, "native: 192.0.2.1: no route; local: no worker"));
}

static void no_place_is_85(void **state)
{
    const struct ladder_action *a;

    (void)state;
    begin("nr", 0);
    b.realm.target_count = 0;
    configure("nr");
    ask(5, as_req());
    a = ended(LADDER_REFUSE, 5);
    assert_int_equal(a->code, 85);
    assert_true(says(a, "native: no place is known; relay: no place is known"));
}

/* ---- UDP and TCP ---- */

static void too_big_goes_by_tcp(void **state)
{
    (void)state;
    begin("n", 2);
    ask(1, as_req());
    tell(one_try(LADDER_BY_UDP, 1), LADDER_ANSWERED, message_error(NAS1, 52, &b.mem), "");
    assert_null(got(LADDER_ANSWER, 0));
    tell(one_try(LADDER_BY_TCP, 1), LADDER_ANSWERED, as_rep(), "");
    (void)ended(LADDER_ANSWER, 1);
    assert_int_equal(health(0).answers, 2);
    ask(2, as_req()); /* UDP is still the way */
    (void)one_try(LADDER_BY_UDP, 1);
}

static void large_requests_go_by_tcp(void **state)
{
    static const struct {
        size_t n;
        enum ladder_carry carry;
    } rows[] = {
        {900,  LADDER_BY_UDP},
        {1400, LADDER_BY_TCP},
    };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        begin("n", 1);
        ask(1, with_padata(PA_PAC_REQUEST, 0, rows[i].n));
        (void)one_try(rows[i].carry, 1);
    }
    begin("n", 1);
    b.target[0].tcp_only = true;
    configure("n");
    ask(1, as_req());
    (void)one_try(LADDER_BY_TCP, 1);
}

static void tcp_beside_silent_udp(void **state)
{
    uint32_t udp, tcp;

    (void)state;
    begin("n", 1);
    for (int i = 0; i < 2; i++) {
        ask(1, as_req());
        udp = one_try(LADDER_BY_UDP, 1);
        pass(250);
        tcp = one_try(LADDER_BY_TCP, 1);
        assert_null(got(LADDER_CANCEL, 0));
        b.now_us += 10 * MS;
        tell(tcp, LADDER_ANSWERED, as_rep(), "");
        (void)ended(LADDER_ANSWER, 1);
        assert_int_equal(got(LADDER_CANCEL, 0)->id, udp);
    }
    ask(1, as_req()); /* twice is enough: this network drops UDP */
    tcp = one_try(LADDER_BY_TCP, 1);
    tell(tcp, LADDER_REFUSED, NAS1, "reset"); /* now TCP fails, so UDP is asked again */
    tell(one_try(LADDER_BY_UDP, 1), LADDER_ANSWERED, as_rep(), "");
    (void)ended(LADDER_ANSWER, 1);
    ask(1, as_req());
    (void)one_try(LADDER_BY_UDP, 1);
}

/* ---- hedges ---- */

static void hedged_and_cancelled(void **state)
{
    uint32_t first, second;

    (void)state;
    begin("n", 3);
    ask(1, as_req());
    first = one_try(LADDER_BY_UDP, 1);
    pass(49);
    assert_int_equal(b.n, 0);
    pass(1);
    second = one_try(LADDER_BY_UDP, 2);
    b.now_us += 2 * MS;
    tell(second, LADDER_ANSWERED, as_rep(), "");
    assert_int_equal(ended(LADDER_ANSWER, 1)->took_us, 52 * MS);
    assert_int_equal(count_of(LADDER_CANCEL), 1);
    assert_int_equal(got(LADDER_CANCEL, 0)->id, first);
    ask(2, as_req()); /* the silent one is not asked first again */
    tell(one_try(LADDER_BY_UDP, 2), LADDER_ANSWERED, as_rep(), "");
    (void)ended(LADDER_ANSWER, 2);
    pass(5000);
    ask(3, as_req()); /* and later beside, to see whether it lives */
    assert_int_equal(count_of(LADDER_TRY), 2);
    first = got(LADDER_TRY, 0)->id;
    assert_int_equal(got(LADDER_TRY, 0)->address.ip[3], 1);
    tell(first, LADDER_ANSWERED, as_rep(), "");
    (void)ended(LADDER_ANSWER, 3);
    ask(4, as_req()); /* then it is the first again */
    (void)one_try(LADDER_BY_UDP, 1);
}

static void hedge_waits_by_latency(void **state)
{
    (void)state;
    begin("n", 2);
    answered_by(LADDER_BY_UDP, 1, 40);
    assert_int_equal(health(0).latency_us, 40 * MS);
    ask(2, as_req());
    (void)one_try(LADDER_BY_UDP, 1);
    pass(159);
    assert_int_equal(b.n, 0);
    pass(1);
    assert_int_equal(count_of(LADDER_TRY), 2); /* the other KDC, and this one by TCP */
}

/* Wrong passwords count on each KDC: four times the pause. */
static void proofs_wait_longer(void **state)
{
    (void)state;
    begin("n", 2);
    ask(1, with_padata(PA_ENC_TIMESTAMP, 0, 60));
    (void)one_try(LADDER_BY_UDP, 1);
    pass(199);
    assert_int_equal(b.n, 0);
    pass(1);
    assert_int_equal(count_of(LADDER_TRY), 2);
}

static void slower_is_asked_later(void **state)
{
    (void)state;
    begin("n", 2);
    answered_by(LADDER_BY_UDP, 1, 1);
    ask(1, as_req());
    pass(20);
    b.now_us += MS;
    tell(one_try(LADDER_BY_UDP, 2), LADDER_ANSWERED, as_rep(), "");
    (void)ended(LADDER_ANSWER, 1);
    assert_int_equal(health(1).life, LADDER_ALIVE);
}

static void primary_first(void **state)
{
    struct ladder_request q = {.tag = 1, .prefer_primary = true};

    (void)state;
    begin("n", 3);
    b.target[2].primary = true;
    configure("n");
    q.message = as_req();
    assert_int_equal(ask_as(&q), 0);
    (void)one_try(LADDER_BY_UDP, 3);
}

static void all_targets_of_a_rung(void **state)
{
    uint32_t seen = 0;

    (void)state;
    begin("n", 8);
    ask(1, as_req());
    seen |= 1u << got(LADDER_TRY, 0)->address.ip[3];
    pass(899);
    for (uint32_t i = 0; got(LADDER_TRY, i); i++)
        seen |= 1u << got(LADDER_TRY, i)->address.ip[3];
    assert_int_equal(seen, 0x1fe);
}

/* ---- what KDCs say ---- */

static void busy_goes_elsewhere(void **state)
{
    struct sp_span busy;
    const struct ladder_action *a;

    (void)state;
    begin("n", 2);
    busy = message_error(NAS1, KDC_ERR_SVC_UNAVAILABLE, &b.mem);
    ask(1, as_req());
    tell(one_try(LADDER_BY_UDP, 1), LADDER_ANSWERED, busy, "");
    tell(one_try(LADDER_BY_UDP, 2), LADDER_ANSWERED, busy, "");
    a = ended(LADDER_REFUSE, 1);
    assert_int_equal(a->code, 29);
    assert_int_equal(health(0).life, LADDER_ALIVE);
}

static void errors_are_answers(void **state)
{
    const struct ladder_action *a;

    (void)state;
    begin("n", 2);
    ask(1, as_req());
    tell(one_try(LADDER_BY_UDP, 1), LADDER_ANSWERED, message_error(NAS1, 25, &b.mem), "");
    a = ended(LADDER_ANSWER, 1);
    assert_int_equal(a->code, 25);
    assert_true(sp_same(a->bytes, message_error(NAS1, 25, &b.mem)));
}

static void answers_are_checked(void **state) /* T106 */
{
    struct sp_span tgs_rep, rep, kpasswd;
    const struct sp_span none = {0};

    (void)state;
    begin("n", 1);
    tgs_rep = message_reply(KRB_TGS_REP, NAS1, 10, &b.mem);
    rep = as_rep();
    kpasswd = message_kpasswd_reply(&b.mem);
    const struct sp_span rep_more = plus(rep, "x");
    const struct sp_span rep_cut = sp_span(rep.p, rep.n - 1);
    const struct sp_span html = SP_LIT("<html>502</html>");
    const struct sp_span request = as_req();
    const struct sp_span error = message_error(NAS1, 7, &b.mem);
    const struct sp_span error_cut = sp_span(message_error(NAS1, 7, &b.mem).p, 40);
    const struct sp_span large = message_reply(KRB_AS_REP, NAS1, 120 * 1024, &b.mem);
    const struct sp_span too_large = message_reply(KRB_AS_REP, NAS1, 128 * 1024, &b.mem);
    const struct sp_span kpasswd_error = message_kpasswd_of(1, none, message_error(NAS1, 7, &b.mem), &b.mem);
    const struct sp_span bare_error = message_error(NAS1, 7, &b.mem);
    const struct sp_span kpasswd_more = plus(kpasswd, "x");
    const struct sp_span version_7 = message_kpasswd_of(7, none, message_error(NAS1, 7, &b.mem), &b.mem);
    const struct {
        const char *why;
        enum ladder_kind kind;
        struct sp_span bytes;
        bool good;
    } rows[] = {
        {"AS-REP",                      LADDER_AS,      rep,           true },
        {"TGS-REP to an AS-REQ",        LADDER_AS,      tgs_rep,       false},
        {"AS-REP to a TGS-REQ",         LADDER_TGS,     rep,           false},
        {"TGS-REP",                     LADDER_TGS,     tgs_rep,       true },
        {"AS-REP and a byte",           LADDER_AS,      rep_more,      false},
        {"AS-REP cut",                  LADDER_AS,      rep_cut,       false},
        {"nothing",                     LADDER_AS,      none,          false},
        {"HTML",                        LADDER_AS,      html,          false},
        {"the request",                 LADDER_AS,      request,       false},
        {"error",                       LADDER_TGS,     error,         true },
        {"error cut",                   LADDER_TGS,     error_cut,     false},
        {"120 KiB",                     LADDER_AS,      large,         true },
        {"over 128 KiB",                LADDER_AS,      too_large,     false},
        {"kpasswd reply",               LADDER_KPASSWD, kpasswd,       true },
        {"kpasswd error",               LADDER_KPASSWD, kpasswd_error, true },
        {"bare error",                  LADDER_KPASSWD, bare_error,    true },
        {"kpasswd reply and a byte",    LADDER_KPASSWD, kpasswd_more,  false},
        {"AS-REP to a password change", LADDER_KPASSWD, rep,           false},
        {"kpasswd version 7",           LADDER_KPASSWD, version_7,     false},
    };

    b.realm.kpasswd = true;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct ladder_action *a;

        configure("n");
        ladder_network_changed(b.l, env());
        ask(i + 1, rows[i].kind == LADDER_AS    ? as_req()
                   : rows[i].kind == LADDER_TGS ? message_request(KRB_TGS_REQ, NAS1, NULL, 0, &b.mem)
                                                : message_kpasswd(NAS1, "changepw", &b.mem));
        tell(got(LADDER_TRY, 0)->id, LADDER_ANSWERED, rows[i].bytes, "");
        a = got(rows[i].good ? LADDER_ANSWER : LADDER_REFUSE, 0);
        if (!a || a->tag != i + 1)
            fail_msg("%s", rows[i].why);
        if (rows[i].good)
            assert_true(sp_same(a->bytes, rows[i].bytes));
        else
            assert_true(a->garbled && a->code == 86);
    }
}

static void garbled_goes_on(void **state)
{
    (void)state;
    begin("n", 2);
    ask(1, as_req());
    tell(one_try(LADDER_BY_UDP, 1), LADDER_ANSWERED, SP_LIT("junk"), "");
    tell(one_try(LADDER_BY_UDP, 2), LADDER_ANSWERED, as_rep(), "");
    assert_false(ended(LADDER_ANSWER, 1)->garbled);
    assert_int_equal(health(0).life, LADDER_DEAD);
}

static void strange_outcomes_are_ignored(void **state)
{
    uint32_t id;

    (void)state;
    begin("n", 1);
    ask(1, as_req());
    id = one_try(LADDER_BY_UDP, 1);
    for (uint32_t bad = 0; bad < 5; bad++)
        tell(bad == 4 ? id + (1u << 20) : id + 1 + bad * 77, LADDER_ANSWERED, as_rep(), "");
    tell(0, LADDER_ANSWERED, as_rep(), "");
    assert_int_equal(ladder_in_flight(b.l), 1);
    tell(id, LADDER_ANSWERED, as_rep(), "");
    (void)ended(LADDER_ANSWER, 1);
    tell(id, LADDER_ANSWERED, as_rep(), "");
    assert_int_equal(b.n, 0);
}

/* ---- names ---- */

static void found(uint32_t id, const struct ladder_record *r, uint32_t count, bool failed)
{
    struct ladder_found f = {.lookup_id = id, .failed = failed, .count = count};

    memcpy(f.record, r, count * sizeof *r);
    ladder_tell_found(b.l, env(), &f);
    b.n = 0;
    drain();
}

static void addresses_that_are_never_sent_to(void **state) /* P41 */
{
    static const struct {
        const char *text;
        struct ladder_address a;
        bool sent;
    } rows[] = {
        {"public",          {4, {192, 0, 2, 9}},                                                true },
        {"private",         {4, {10, 0, 0, 9}},                                                 true },
        {"loopback",        {4, {127, 0, 0, 1}},                                                false},
        {"loopback, other", {4, {127, 255, 3, 4}},                                              false},
        {"this host",       {4, {0, 0, 0, 0}},                                                  false},
        {"link-local",      {4, {169, 254, 1, 1}},                                              false},
        {"metadata",        {4, {169, 254, 169, 254}},                                          false},
        {"beside them",     {4, {169, 253, 169, 254}},                                          true },
        {"multicast",       {4, {224, 0, 0, 1}},                                                false},
        {"below it",        {4, {223, 255, 255, 1}},                                            true },
        {"broadcast",       {4, {255, 255, 255, 255}},                                          false},
        {"::",              {16, {0}},                                                          false},
        {"::1",             {16, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},             false},
        {"fe80::1",         {16, {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},       false},
        {"febf::1",         {16, {0xfe, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},       false},
        {"fd00::1",         {16, {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},          true },
        {"fd00:ec2::254",   {16, {0xfd, 0, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x54}}, false},
        {"ff02::1",         {16, {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},          false},
        {"mapped loopback", {16, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1}},     false},
        {"NAT64 loopback",  {16, {0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 127, 0, 0, 1}},  false},
        {"2001:db8::1",     {16, {0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},    true },
        {"no address",      {5, {1, 2, 3, 4, 5}},                                               false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ladder_record r = {.address = rows[i].a};
        const struct ladder_action *a;

        begin("n", 0);
        add(LADDER_NATIVE, "kdc.example");
        configure("n");
        ask(1, as_req());
        a = got(LADDER_LOOK_UP, 0);
        assert_true(a && b.n == 1 && a->lookup == LADDER_LOOKUP_ADDRESS &&
                    sp_same(a->name, SP_LIT("kdc.example")));
        found(a->id, &r, 1, false);
        if ((got(LADDER_TRY, 0) != NULL) != rows[i].sent)
            fail_msg("%s", rows[i].text);
        if (!rows[i].sent)
            assert_true(says(ended(LADDER_REFUSE, 1), "addresses that nothing is sent to") &&
                        got(LADDER_REFUSE, 0)->code == 85);
    }
}

static void listed_addresses(void **state)
{
    static const struct {
        const char *host;
        bool listed, sent;
    } rows[] = {
        {"127.0.0.1",       true,  true },
        {"127.0.0.1",       false, false},
        {"::1",             true,  true },
        {"[::1]",           true,  true },
        {"::1",             false, false},
        {"2001:db8::1:2",   false, true },
        {"1:2:3:4:5:6:7:8", false, true },
        {"192.0.2.1",       false, true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin("n", 0);
        add(LADDER_NATIVE, rows[i].host)->listed_ip = rows[i].listed;
        configure("n");
        ask(1, as_req());
        assert_null(got(LADDER_LOOK_UP, 0));
        if ((got(LADDER_TRY, 0) != NULL) != rows[i].sent)
            fail_msg("%s", rows[i].host);
    }
    /* not an address: looked up */
    for (const char *const *h =
             (const char *const[]){"1.2.3", "1.2.3.4.5", "01.2.3.4", "256.1.1.1", "1:2", ":::", "1::2::3",
                                   "::g", "1:2:3:4:5:6:7:8:9", "12345::", "1:", NULL};
         *h; h++) {
        begin("n", 0);
        add(LADDER_NATIVE, *h);
        configure("n");
        ask(1, as_req());
        if (!got(LADDER_LOOK_UP, 0))
            fail_msg("%s", *h);
    }
}

static const struct ladder_record one_address = {
    .address = {4, {192, 0, 2, 77}}
};

static void names_are_pinned(void **state)
{
    const struct ladder_record other = {
        .address = {4, {192, 0, 2, 88}}
    };
    uint32_t id;

    (void)state;
    begin("n", 0);
    add(LADDER_NATIVE, "kdc.example");
    configure("n");
    ask(1, as_req());
    found(got(LADDER_LOOK_UP, 0)->id, &one_address, 1, false);
    tell(one_try(LADDER_BY_UDP, 77), LADDER_ANSWERED, as_rep(), "");
    pass(299000);
    ask(2, as_req());
    assert_null(got(LADDER_LOOK_UP, 0));
    tell(one_try(LADDER_BY_UDP, 77), LADDER_ANSWERED, as_rep(), "");
    pass(2000);
    ask(3, as_req()); /* asked again, and the old answer used meanwhile */
    id = got(LADDER_LOOK_UP, 0)->id;
    tell(one_try(LADDER_BY_UDP, 77), LADDER_ANSWERED, as_rep(), "");
    found(id, &other, 0, true); /* the resolver failed: what was known stays */
    pass(2500);
    ask(4, as_req());
    id = got(LADDER_LOOK_UP, 0)->id;
    tell(one_try(LADDER_BY_UDP, 77), LADDER_ANSWERED, as_rep(), "");
    found(id, &other, 1, false);
    ask(5, as_req());
    (void)one_try(LADDER_BY_UDP, 88);
    found(id, &one_address, 1, false); /* an old answer says nothing */
    ask(6, as_req());
    (void)one_try(LADDER_BY_UDP, 88);
}

static void names_that_are_not_known(void **state)
{
    static const struct {
        bool failed;
        const char *says;
        int64_t again_ms;
    } rows[] = {
        {true,  "the resolver does not answer", 2000 },
        {false, "its name is not known",        20000},
    };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        begin("n", 0);
        add(LADDER_NATIVE, "kdc.example");
        configure("n");
        ask(1, as_req());
        found(got(LADDER_LOOK_UP, 0)->id, &one_address, 0, rows[i].failed);
        assert_true(says(ended(LADDER_REFUSE, 1), rows[i].says));
        pass(rows[i].again_ms - 1);
        ask(2, as_req());
        assert_null(got(LADDER_LOOK_UP, 0));
        (void)ended(LADDER_REFUSE, 2);
        pass(2);
        ask(3, as_req()); /* known to be dead: asked for beside, not waited for */
        (void)ended(LADDER_REFUSE, 3);
        found(got(LADDER_LOOK_UP, 0)->id, &one_address, 1, false);
        ask(4, as_req());
        (void)one_try(LADDER_BY_UDP, 77);
    }
}

static void silent_resolver_costs_one_rung(void **state)
{
    (void)state;
    begin("nl", 0);
    add(LADDER_NATIVE, "kdc.example");
    configure("nl");
    ask(1, as_req());
    assert_int_equal(count_of(LADDER_LOOK_UP), 1);
    pass(900);
    (void)one_try(LADDER_BY_WORKER, 0);
    ask(2, as_req()); /* and only once */
    (void)one_try(LADDER_BY_WORKER, 0);
}

static void places_are_looked_up(void **state)
{
    const struct ladder_record srv[] = {
        {.host = SP_LIT("b.example."),  .port = 88,   .priority = 20},
        {.host = SP_LIT("a.example"),   .port = 88,   .priority = 10},
        {.host = SP_LIT("odd.example"), .port = 8888, .priority = 1 },
        {.host = SP_LIT("127.0.0.1"),   .port = 88,   .priority = 1 },
        {.host = SP_LIT("."),           .port = 88,   .priority = 1 },
        {.host = SP_LIT("a b"),         .port = 88,   .priority = 1 },
    };
    uint32_t udp, tcp;

    (void)state;
    begin("n", 0);
    b.realm.discover = LADDER_SRV;
    configure("n");
    ask(1, as_req());
    assert_int_equal(b.n, 2);
    assert_true(sp_same(got(LADDER_LOOK_UP, 0)->name, SP_LIT("_kerberos._udp.NAS1")));
    assert_true(sp_same(got(LADDER_LOOK_UP, 1)->name, SP_LIT("_kerberos._tcp.NAS1")));
    assert_int_equal(got(LADDER_LOOK_UP, 0)->lookup, LADDER_LOOKUP_SRV);
    udp = got(LADDER_LOOK_UP, 0)->id;
    tcp = got(LADDER_LOOK_UP, 1)->id;
    found(udp, srv, 6, false);
    assert_int_equal(count_of(LADDER_LOOK_UP), 2); /* the addresses of two hosts and of no other */
    assert_true(sp_same(got(LADDER_LOOK_UP, 0)->name, SP_LIT("a.example")));
    assert_true(sp_same(got(LADDER_LOOK_UP, 1)->name, SP_LIT("b.example")));
    found(got(LADDER_LOOK_UP, 0)->id, &one_address, 1, false);
    assert_int_equal(got(LADDER_TRY, 0)->port, 88);
    tell(one_try(LADDER_BY_UDP, 77), LADDER_ANSWERED, as_rep(), "");
    (void)ended(LADDER_ANSWER, 1);
    found(tcp, srv, 0, false);
    assert_true(health(0).found && sp_same(health(0).target->host, SP_LIT("a.example")));
    assert_true(health(1).found);
    pass(301000);
    ask(2, as_req()); /* the second look-up finds one of them no more */
    for (uint32_t i = 0; got(LADDER_LOOK_UP, i); i++)
        if (sp_same(got(LADDER_LOOK_UP, i)->name, SP_LIT("_kerberos._udp.NAS1")))
            udp = got(LADDER_LOOK_UP, i)->id;
    found(udp, srv + 1, 1, false);
    struct ladder_health h;
    assert_true(ladder_health_at(b.l, 0, 0, &h) && !ladder_health_at(b.l, 0, 1, &h));
    assert_int_equal(h.life, LADDER_ALIVE); /* what stays keeps what is known of it */
}

static void uri_records(void **state)
{
    const struct ladder_record uri[] = {
        {.host = SP_LIT("proxy.example"),  .kkdcp = true, .path = SP_LIT("/x"), .priority = 1  },
        {.host = SP_LIT("proxy2.example"), .kkdcp = true, .port = 8443,         .priority = 1  },
        {.host = SP_LIT("kdc.example"),    .port = 88,    .priority = 2,        .primary = true},
    };

    (void)state;
    begin("nr", 0);
    b.realm.target_count = 0;
    b.realm.discover = LADDER_URI_THEN_SRV;
    configure("nr");
    ask(1, as_req());
    assert_int_equal(b.n, 1);
    assert_true(sp_same(got(LADDER_LOOK_UP, 0)->name, SP_LIT("_kerberos.NAS1")));
    found(got(LADDER_LOOK_UP, 0)->id, uri, 3, false);
    assert_true(b.n == 1 && sp_same(got(LADDER_LOOK_UP, 0)->name, SP_LIT("kdc.example")));
    found(got(LADDER_LOOK_UP, 0)->id, &one_address, 1, false);
    tell(one_try(LADDER_BY_UDP, 77), LADDER_REFUSED, NAS1, "no");
    tell(one_try(LADDER_BY_TCP, 77), LADDER_REFUSED, NAS1, "no");
    assert_true(sp_same(got(LADDER_LOOK_UP, 0)->name, SP_LIT("proxy.example")));
    found(got(LADDER_LOOK_UP, 0)->id, &one_address, 1, false);
    (void)one_try(LADDER_BY_HTTPS, 77);
    assert_true(sp_same(got(LADDER_TRY, 0)->target->path, SP_LIT("/x")) && got(LADDER_TRY, 0)->port == 443);

    begin("n", 0); /* no URI: SRV is asked */
    b.realm.discover = LADDER_URI_THEN_SRV;
    configure("n");
    ask(1, as_req());
    found(got(LADDER_LOOK_UP, 0)->id, uri, 0, false);
    assert_true(got(LADDER_LOOK_UP, 0) && got(LADDER_LOOK_UP, 0)->lookup == LADDER_LOOKUP_SRV);
}

static void addresses_one_after_another(void **state)
{
    const struct ladder_record both[] = {{.address = {4, {192, 0, 2, 61}}},
                                         {.address = {4, {192, 0, 2, 62}}}};

    (void)state;
    begin("n", 0);
    add(LADDER_NATIVE, "kdc.example");
    configure("n");
    ask(1, as_req());
    found(got(LADDER_LOOK_UP, 0)->id, both, 2, false);
    tell(one_try(LADDER_BY_UDP, 61), LADDER_REFUSED, NAS1, "no route");
    tell(one_try(LADDER_BY_TCP, 61), LADDER_REFUSED, NAS1, "no route");
    tell(one_try(LADDER_BY_UDP, 62), LADDER_ANSWERED, as_rep(), "");
    (void)ended(LADDER_ANSWER, 1);
    ask(2, as_req());
    (void)one_try(LADDER_BY_UDP, 62); /* the one that worked */
}

static void own_addresses_are_not_sent_to(void **state) /* P41 */
{
    const struct ladder_address own[] = {
        {7, {1}            },
        {4, {192, 0, 2, 77}}
    };

    (void)state;
    begin("n", 0);
    add(LADDER_NATIVE, "kdc.example");
    configure("n");
    ladder_own_addresses(b.l, own, 2);
    ask(1, as_req());
    found(got(LADDER_LOOK_UP, 0)->id, &one_address, 1, false);
    assert_true(says(ended(LADDER_REFUSE, 1), "addresses that nothing is sent to"));
    ladder_own_addresses(b.l, own, 1);
    pass(21000);
    ask(2, as_req());
    (void)ended(LADDER_REFUSE, 2);
    found(got(LADDER_LOOK_UP, 0)->id, &one_address, 1, false);
    ask(3, as_req());
    (void)one_try(LADDER_BY_UDP, 77);
}

static void places_for_password_changes(void **state)
{
    const struct ladder_record srv[] = {
        {.host = SP_LIT("kdc.example"),   .port = 88  },
        {.host = SP_LIT("admin.example"), .port = 464 },
        {.host = SP_LIT("odd.example"),   .port = 4464}
    };
    uint32_t udp;

    (void)state;
    begin("n", 0);
    b.realm.kpasswd = true;
    b.realm.discover = LADDER_SRV;
    configure("n");
    ask(1, as_req());
    udp = got(LADDER_LOOK_UP, 0)->id;
    found(got(LADDER_LOOK_UP, 1)->id, srv, 1, false);
    found(udp, srv, 0, true); /* what one query does not know does not take back what another found */
    assert_true(sp_same(health(0).target->host, SP_LIT("kdc.example")));
    ask(2, message_kpasswd(NAS1, "changepw", &b.mem));
    assert_int_equal(b.n, 1);
    assert_true(sp_same(got(LADDER_LOOK_UP, 0)->name, SP_LIT("_kpasswd._udp.NAS1")));
    found(got(LADDER_LOOK_UP, 0)->id, srv + 1, 2, false);
    assert_true(sp_same(got(LADDER_LOOK_UP, 0)->name, SP_LIT("admin.example")));
    found(got(LADDER_LOOK_UP, 0)->id, &one_address, 1, false);
    (void)one_try(LADDER_BY_UDP, 77);
    assert_int_equal(got(LADDER_TRY, 0)->port, 464);
}

/* What is found fills up what is left; what is listed later takes its place. */
static void listed_before_found(void **state)
{
    struct ladder_record srv[LADDER_FOUND_MAX];
    static char host[20][16];
    uint32_t udp;

    (void)state;
    begin("n", 2);
    b.realm.discover = LADDER_SRV;
    configure("n");
    ask(1, as_req());
    udp = got(LADDER_LOOK_UP, 0)->id;
    for (uint32_t i = 0; i < LADDER_FOUND_MAX; i++) {
        (void)snprintf(host[i], sizeof host[i], "k%u.example", i);
        srv[i] = (struct ladder_record){.host = sp_str(host[i]), .port = 88, .priority = (uint16_t)i};
    }
    found(udp, srv, LADDER_FOUND_MAX, false);
    assert_false(health(1).found);
    assert_true(health(2).found && sp_same(health(15).target->host, SP_LIT("k13.example")));
    for (uint32_t i = 0; i < 6; i++)
        add(LADDER_NATIVE, "192.0.2.50")->port = (uint16_t)(1000 + i);
    configure("n");
    assert_false(health(7).found);
    assert_true(health(8).found && health(15).found);
    b.realm.discover = LADDER_STATIC;
    configure("n");
    struct ladder_health h;
    assert_false(ladder_health_at(b.l, 0, 8, &h));
}

/* What was decided before a configuration and is taken after it does not go to a place that is gone. */
static void decided_and_gone(void **state)
{
    struct ladder_request q = {.tag = 1};
    struct sp_err e = {0};

    (void)state;
    begin("n", 2);
    q.message = as_req();
    assert_true(ladder_ask(b.l, env(), &q, &e));
    b.target[0] = b.target[1];
    b.realm.target_count = 1;
    configure("n");
    b.n = 0;
    drain();
    (void)one_try(LADDER_BY_UDP, 2);
}

static void decided_and_forgotten(void **state)
{
    struct ladder_request q = {.tag = 1};
    struct sp_err e = {0};

    (void)state;
    begin("n", 2);
    q.message = as_req();
    assert_true(ladder_ask(b.l, env(), &q, &e));
    forget(1);
    assert_int_equal(b.n, 0);
    assert_int_equal(ladder_in_flight(b.l), 0);
}

static void the_driver_finds_it_garbled(void **state)
{
    const struct ladder_action *a;

    (void)state;
    begin("r", 0);
    ask(1, as_req());
    tell(one_try(LADDER_BY_HTTPS, 1), LADDER_GARBLED, NAS1, "status 200 with HTML");
    a = ended(LADDER_REFUSE, 1);
    assert_true(a->garbled && a->code == 86 && says(a, "relay: 198.51.100.1: status 200 with HTML"));
}

static void relays_one_after_another(void **state)
{
    (void)state;
    begin("r", 0);
    add(LADDER_RELAY, "198.51.100.2");
    configure("r");
    ask(1, as_req());
    (void)one_try(LADDER_BY_HTTPS, 1);
    pass(200);
    b.now_us += 5 * MS;
    tell(one_try(LADDER_BY_HTTPS, 2), LADDER_ANSWERED, as_rep(), "");
    (void)ended(LADDER_ANSWER, 1);
    ask(2, as_req());
    (void)one_try(LADDER_BY_HTTPS, 2); /* by health, not by place */
}

static void too_many_names(void **state)
{
    static struct sp_span alias[40];
    static char text[40][8];
    struct sp_err e = {0};

    (void)state;
    begin_with(&(struct ladder_limits){.realms = 2});
    for (uint32_t i = 0; i < 40; i++) {
        (void)snprintf(text[i], sizeof text[i], "a%u", i);
        alias[i] = sp_str(text[i]);
    }
    b.realm.aliases = (struct sp_spans){alias, 15};
    configure("l");
    b.realm.aliases.count = 16;
    assert_false(ladder_configure(b.l, env(), &b.realm, 1, &e));
    assert_int_equal(e.kind, SP_EINPUT);
}

/* ---- in-band ---- */

static void timestamps_in_band(void **state) /* decision 60 */
{
    static const struct {
        const char *why;
        int32_t one, two;
        bool allowed, sent;
    } rows[] = {
        {"nothing to guess",         PA_PAC_REQUEST,         0,                      false, true },
        {"timestamp",                PA_ENC_TIMESTAMP,       0,                      false, false},
        {"timestamp behind others",  PA_PAC_REQUEST,         PA_ENC_TIMESTAMP,       false, false},
        {"timestamp, pinned host",   PA_ENC_TIMESTAMP,       0,                      true,  true },
        {"challenge without armour", PA_ENCRYPTED_CHALLENGE, 0,                      false, false},
        {"challenge in armour",      PA_FX_FAST,             PA_ENCRYPTED_CHALLENGE, false, true },
        {"timestamp beside armour",  PA_FX_FAST,             PA_ENC_TIMESTAMP,       false, false},
        {"SPAKE",                    PA_SPAKE,               0,                      false, true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin("i", 0);
        b.target[0].timestamp_allowed = rows[i].allowed;
        configure("i");
        ask(1, with_padata(rows[i].one, rows[i].two, 40));
        if ((got(LADDER_TRY, 0) != NULL) != rows[i].sent)
            fail_msg("%s", rows[i].why);
        if (!rows[i].sent) {
            const struct ladder_action *a = ended(LADDER_ANSWER, 1);
            struct krb_error m = {0};
            struct sp_err e = {0};

            assert_int_equal(a->code, KDC_ERR_POLICY);
            assert_int_equal(a->rung, LADDER_INBAND);
            assert_true(says(a, "in-band: 203.0.113.1: nobody vouches for it"));
            assert_true(krb_get(KRB_ERROR, a->bytes, KRB_STRICT, &b.mem, &m, &e));
            assert_true(m.code == 12 && sp_same(m.realm, NAS1) && m.stime >= 1900000000);
        }
    }
}

/* IAKERB has no place for it: its acceptor would take the bytes for no token at all. */
static void no_password_change_in_band(void **state)
{
    (void)state;
    begin("ni", 1);
    b.realm.kpasswd = true;
    configure("ni");
    ask(1, message_kpasswd(NAS1, "changepw", &b.mem));
    tell(one_try(LADDER_BY_UDP, 1), LADDER_REFUSED, NAS1, "no");
    tell(one_try(LADDER_BY_TCP, 1), LADDER_REFUSED, NAS1, "no");
    (void)ended(LADDER_REFUSE, 1);
    begin("i", 0);
    b.realm.kpasswd = true;
    configure("i");
    ask(1, message_kpasswd(NAS1, "changepw", &b.mem));
    (void)ended(LADDER_REFUSE, 1);
}

static void withheld_goes_on_to_local(void **state)
{
    (void)state;
    begin("il", 0);
    ask(1, with_padata(PA_ENC_TIMESTAMP, 0, 40));
    tell(one_try(LADDER_BY_WORKER, 0), LADDER_ANSWERED, as_rep(), "");
    assert_true(says(ended(LADDER_ANSWER, 1), "in-band: 203.0.113.1: nobody vouches for it"));
}

/* A probe is bound by the rule, too. */
static void timestamps_do_not_probe(void **state)
{
    (void)state;
    begin("il", 0);
    ask(1, as_req());
    tell(one_try(LADDER_BY_NEGOTIATE, 1), LADDER_REFUSED, NAS1, "no");
    pass(5000);
    ask(2, with_padata(PA_ENC_TIMESTAMP, 0, 40));
    (void)one_try(LADDER_BY_WORKER, 0);
}

/* ---- health ---- */

static void silence_is_death(void **state)
{
    const struct ladder_action *a;
    uint32_t udp, local;

    (void)state;
    begin("nl", 1);
    ask(1, as_req());
    udp = one_try(LADDER_BY_UDP, 1);
    pass(899);
    assert_int_equal(count_of(LADDER_TRY), 1); /* TCP */
    pass(1);
    local = one_try(LADDER_BY_WORKER, 0);
    assert_int_equal(health(0).life, LADDER_DEAD);
    tell(local, LADDER_ANSWERED, as_rep(), "");
    assert_true(says(ended(LADDER_ANSWER, 1), "native: 192.0.2.1: no answer in 900 ms"));
    ask(2, as_req()); /* dead: skipped at once, not even a probe yet */
    local = one_try(LADDER_BY_WORKER, 0);
    tell(local, LADDER_ANSWERED, as_rep(), "");
    a = ended(LADDER_ANSWER, 2);
    assert_int_equal(a->took_us, 0);
    assert_true(says(a, "no answer in 900 ms"));
    pass(1500);
    ask(3, as_req()); /* a probe beside */
    assert_int_equal(count_of(LADDER_TRY), 2);
    udp = got(LADDER_TRY, 0)->id;
    assert_int_equal(got(LADDER_TRY, 0)->carry, LADDER_BY_UDP);
    tell(got(LADDER_TRY, 1)->id, LADDER_ANSWERED, as_rep(), "");
    assert_null(got(LADDER_CANCEL, 0)); /* which goes on when the request is over */
    ask(4, as_req());
    assert_int_equal(count_of(LADDER_TRY), 1); /* one at a time */
    tell(one_try(LADDER_BY_WORKER, 0), LADDER_ANSWERED, as_rep(), "");
    tell(udp, LADDER_ANSWERED, as_rep(), "");
    assert_int_equal(b.n, 0);
    assert_int_equal(health(0).life, LADDER_ALIVE);
    ask(5, as_req());
    (void)one_try(LADDER_BY_UDP, 1);
}

static void probes_answer_too(void **state)
{
    (void)state;
    begin("nr", 1);
    ask(1, as_req());
    tell(one_try(LADDER_BY_UDP, 1), LADDER_REFUSED, NAS1, "no");
    tell(one_try(LADDER_BY_TCP, 1), LADDER_REFUSED, NAS1, "no");
    tell(one_try(LADDER_BY_HTTPS, 1), LADDER_ANSWERED, as_rep(), "");
    pass(1300);
    ask(2, as_req());
    assert_int_equal(count_of(LADDER_TRY), 2);
    tell(got(LADDER_TRY, 0)->id, LADDER_ANSWERED, as_rep(), "");
    assert_int_equal(ended(LADDER_ANSWER, 2)->rung, LADDER_NATIVE);
}

/* Pauses double from 1 s to 64 s, a quarter more or less. */
static void back_off(void **state)
{
    (void)state;
    begin("nl", 1);
    ask(1, as_req());
    tell(one_try(LADDER_BY_UDP, 1), LADDER_REFUSED, NAS1, "no");
    tell(one_try(LADDER_BY_TCP, 1), LADDER_REFUSED, NAS1, "no");
    tell(one_try(LADDER_BY_WORKER, 0), LADDER_ANSWERED, as_rep(), "");
    for (int64_t pause = 1000, i = 0; i < 10; i++, pause = pause < 64000 ? pause * 2 : pause) {
        uint32_t probe;

        pass(pause * 3 / 4 - 1);
        ask(2, as_req());
        tell(one_try(LADDER_BY_WORKER, 0), LADDER_ANSWERED, as_rep(), "");
        pass(pause / 2 + 1);
        ask(3, as_req());
        assert_int_equal(count_of(LADDER_TRY), 2);
        probe = got(LADDER_TRY, 0)->id;
        tell(got(LADDER_TRY, 1)->id, LADDER_ANSWERED, as_rep(), "");
        tell(probe, LADDER_REFUSED, NAS1, "no");
    }
}

static void network_change_forgets_deaths(void **state)
{
    (void)state;
    begin("nl", 2);
    ask(1, as_req());
    pass(1000);
    tell(got(LADDER_TRY, count_of(LADDER_TRY) - 1)->id, LADDER_ANSWERED, as_rep(), "");
    assert_int_equal(health(0).life, LADDER_DEAD);
    ask(2, as_req());
    (void)one_try(LADDER_BY_WORKER, 0);
    ladder_network_changed(b.l, env());
    b.n = 0;
    drain();
    assert_int_equal(health(0).life, LADDER_UNKNOWN);
    (void)one_try(LADDER_BY_UDP, 1); /* the request under way climbs again */
    ladder_network_changed(b.l, env());
    b.n = 0;
    drain();
    assert_int_equal(b.n, 0); /* once */
    ask(3, as_req());
    (void)one_try(LADDER_BY_UDP, 1);
}

/* The dead are given a moment when there is nobody else; not every time. */
static void last_chance(void **state)
{
    int64_t began;

    (void)state;
    begin("n", 1);
    ask(1, as_req());
    pass(900);
    assert_int_equal(ended(LADDER_REFUSE, 1)->took_us, 900 * MS);
    pass(4000); /* the probe that it left ends */
    ask(2, as_req());
    (void)one_try(LADDER_BY_UDP, 1);
    began = b.now_us;
    ask(3, as_req()); /* one moment at a time */
    (void)ended(LADDER_REFUSE, 3);
    pass(1000);
    assert_true(ended(LADDER_REFUSE, 2)->took_us <= 300 * MS);
    (void)began;
    pass(4000);
    ask(4, as_req());
    tell(one_try(LADDER_BY_UDP, 1), LADDER_ANSWERED, as_rep(), "");
    (void)ended(LADDER_ANSWER, 4);
}

/* A KDC that takes 1.5 s is lost to the first request and answers the next. */
static void slow_is_not_dead(void **state)
{
    uint32_t id;

    (void)state;
    begin("n", 1);
    ask(1, as_req());
    id = one_try(LADDER_BY_UDP, 1);
    pass(1500);
    (void)ended(LADDER_REFUSE, 1);
    tell(id, LADDER_ANSWERED, as_rep(), "");
    assert_int_equal(health(0).life, LADDER_ALIVE);
    ask(2, as_req());
    id = one_try(LADDER_BY_UDP, 1);
    pass(1500);
    assert_null(got(LADDER_REFUSE, 0));
    tell(id, LADDER_ANSWERED, as_rep(), "");
    (void)ended(LADDER_ANSWER, 2);
}

static void everything_ends_in_time(void **state)
{
    (void)state;
    begin("nril", 3);
    ask(1, as_req());
    pass(4499);
    assert_null(got(LADDER_REFUSE, 0));
    pass(1);
    assert_int_equal(ended(LADDER_REFUSE, 1)->code, 86);
    assert_int_equal(ladder_in_flight(b.l), 0);
    pass(10000);
    assert_int_equal(ladder_due_us(b.l), -1);
}

static void health_has_words(void **state)
{
    struct ladder_health h;

    (void)state;
    begin("nrl", 1);
    answered_by(LADDER_BY_UDP, 1, 10);
    h = health(0);
    assert_true(h.life == LADDER_ALIVE && h.answers == 1 && h.latency_us == 10 * MS && !h.reason[0] &&
                !h.found);
    assert_int_equal(h.since_us, b.now_us);
    ask(2, as_req());
    tell(one_try(LADDER_BY_UDP, 1), LADDER_REFUSED, NAS1, "bell \a");
    tell(one_try(LADDER_BY_TCP, 1), LADDER_REFUSED, NAS1, "bell \a");
    h = health(0);
    assert_true(h.life == LADDER_DEAD && h.failures == 1);
    assert_string_equal(h.reason, "bell \\x07");
    assert_int_equal(health(1).rung, LADDER_RELAY);
    assert_int_equal(health(2).rung, LADDER_LOCAL);
    assert_false(ladder_health_at(b.l, 0, 3, &h));
    assert_false(ladder_health_at(b.l, 1, 0, &h));
}

static void far_is_asked_after_near(void **state)
{
    const struct ladder_action *a;
    uint32_t probe;

    (void)state;
    begin("n", 2);
    answered_by(LADDER_BY_UDP, 1, 100);
    ask(2, as_req());
    pass(400);
    for (uint32_t i = 0; (a = got(LADDER_TRY, i)) != NULL && a->address.ip[3] != 2;)
        i++;
    assert_non_null(a);
    b.now_us += MS;
    tell(a->id, LADDER_ANSWERED, as_rep(), "");
    (void)ended(LADDER_ANSWER, 2);
    pass(5000);
    ask(3, as_req()); /* a probe of the first beside; it answers, late */
    assert_int_equal(count_of(LADDER_TRY), 2);
    probe = got(LADDER_TRY, 0)->id;
    assert_int_equal(got(LADDER_TRY, 0)->address.ip[3], 1);
    b.now_us += MS;
    tell(got(LADDER_TRY, 1)->id, LADDER_ANSWERED, as_rep(), "");
    (void)ended(LADDER_ANSWER, 3);
    b.now_us += 99 * MS;
    tell(probe, LADDER_ANSWERED, as_rep(), "");
    assert_true(health(0).life == LADDER_ALIVE && health(1).life == LADDER_ALIVE && !health(0).reason[0]);
    answered_by(LADDER_BY_UDP, 2, 1);
}

static void proofs_do_not_probe(void **state)
{
    (void)state;
    begin("nr", 1);
    ask(1, as_req());
    tell(one_try(LADDER_BY_UDP, 1), LADDER_REFUSED, NAS1, "no");
    tell(one_try(LADDER_BY_TCP, 1), LADDER_REFUSED, NAS1, "no");
    tell(one_try(LADDER_BY_HTTPS, 1), LADDER_ANSWERED, as_rep(), "");
    pass(5000);
    ask(2, with_padata(PA_ENC_TIMESTAMP, 0, 40));
    (void)one_try(LADDER_BY_HTTPS, 1);
}

/* Couriers that lost a KDC together do not come back together. */
static void pauses_differ(void **state)
{
    int64_t seen[8];
    uint32_t different = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        begin("nl", 1);
        sp_rng_fixed_init(&b.rng, 100 + seed);
        ask(1, as_req());
        tell(one_try(LADDER_BY_UDP, 1), LADDER_REFUSED, NAS1, "no");
        tell(one_try(LADDER_BY_TCP, 1), LADDER_REFUSED, NAS1, "no");
        tell(one_try(LADDER_BY_WORKER, 0), LADDER_ANSWERED, as_rep(), "");
        for (seen[seed] = 0; count_of(LADDER_TRY) < 2; seen[seed] += 10) {
            forget(2);
            pass(10);
            ask(2, as_req());
        }
        assert_true(seen[seed] >= 750 && seen[seed] <= 1260);
        for (uint64_t k = 0; k < seed; k++)
            different += seen[k] != seen[seed];
    }
    assert_true(different > 20);
}

/* An address that nobody lists any more is looked at with other eyes. */
static void listed_no_more(void **state)
{
    (void)state;
    begin("n", 0);
    add(LADDER_NATIVE, "localhost")->listed_ip = true;
    configure("n");
    ask(1, as_req());
    found(got(LADDER_LOOK_UP, 0)->id,
          &(struct ladder_record){
              .address = {4, {127, 0, 0, 1}}
    },
          1, false);
    (void)one_try(LADDER_BY_UDP, 1);
    b.target[0].listed_ip = false;
    configure("n");
    ask(2, as_req());
    assert_null(got(LADDER_TRY, 0));
}

static void kpasswd_length(void **state) /* T104 */
{
    struct ladder_request q = {.tag = 1};

    (void)state;
    begin("n", 1);
    b.realm.kpasswd = true;
    configure("n");
    for (int by = -6; by <= 6; by++) {
        q.message = message_kpasswd(NAS1, "changepw", &b.mem);
        uint8_t *p = (uint8_t *)(uintptr_t)q.message.p;
        unsigned n = ((unsigned)p[0] << 8 | p[1]) + (unsigned)by;
        p[0] = (uint8_t)(n >> 8);
        p[1] = (uint8_t)n;
        assert_int_equal(ask_as(&q), by ? 60 : 0);
    }
}

/* ---- password changes ---- */

static void password_changes(void **state)
{
    uint32_t id;

    (void)state;
    begin("n", 3);
    b.realm.kpasswd = true;
    b.target[1].primary = true;
    b.target[2].kpasswd_port = 4464;
    configure("n");
    ask(1, message_kpasswd(NAS1, "changepw", &b.mem));
    id = one_try(LADDER_BY_UDP, 2);
    assert_int_equal(got(LADDER_TRY, 0)->port, 464);
    assert_int_equal(got(LADDER_TRY, 0)->kind, LADDER_KPASSWD);
    pass(150);
    assert_int_equal(b.n, 0); /* nobody else is asked beside */
    tell(id, LADDER_REFUSED, NAS1, "no");
    tell(one_try(LADDER_BY_TCP, 2), LADDER_REFUSED, NAS1, "no");
    tell(one_try(LADDER_BY_UDP, 1), LADDER_REFUSED, NAS1, "no");
    tell(one_try(LADDER_BY_TCP, 1), LADDER_REFUSED, NAS1, "no");
    id = one_try(LADDER_BY_UDP, 3);
    assert_int_equal(got(LADDER_TRY, 0)->port, 4464);
    tell(id, LADDER_ANSWERED, message_kpasswd_reply(&b.mem), "");
    (void)ended(LADDER_ANSWER, 1);
}

/* ---- limits ---- */

static int32_t ask_of(uint8_t source, uint64_t tag, struct sp_span realm)
{
    struct ladder_request q = {.tag = tag, .source = {source}};
    struct sp_arena before = b.mem;
    int32_t code;

    q.message = message_request(KRB_AS_REQ, realm, NULL, 0, &b.mem);
    code = ask_as(&q);
    b.mem = before;
    return code;
}

static void limit_of_a_source(void **state)
{
    const struct ladder_limits limits = {.requests = 64, .per_source = 3};

    (void)state;
    begin_with(&limits);
    configure("l");
    for (uint64_t i = 1; i <= 3; i++)
        assert_int_equal(ask_of(1, i, NAS1), 0);
    assert_int_equal(ask_of(1, 4, NAS1), 86);
    assert_int_equal(ask_of(2, 5, NAS1), 0);
    forget(2);
    assert_int_equal(ask_of(1, 6, NAS1), 0);
    assert_int_equal(ask_of(1, 7, NAS1), 86);
}

static void limit_of_a_realm(void **state)
{
    const struct ladder_limits limits = {.requests = 64};

    (void)state;
    begin_with(&limits);
    b.realm.in_flight_max = 5;
    configure("l");
    for (uint8_t i = 1; i <= 5; i++)
        assert_int_equal(ask_of(i, i, NAS1), 0);
    assert_int_equal(ask_of(6, 6, NAS1), 86);
    assert_int_equal(ladder_in_flight(b.l), 5);
    forget(1);
    assert_int_equal(ask_of(6, 6, NAS1), 0);
}

static void limit_of_a_rate(void **state)
{
    (void)state;
    begin("l", 0);
    b.realm.per_second_max = 10;
    configure("l");
    for (uint64_t i = 0; i < 25; i++) {
        assert_int_equal(ask_of(1, 1, NAS1), i < 10 ? 0 : 86);
        forget(1);
    }
    assert_int_equal(ask_of(2, 2, NAS1), 0); /* others have their own */
    b.now_us += 100 * MS;
    assert_int_equal(ask_of(1, 1, NAS1), 0);
    forget(1);
    assert_int_equal(ask_of(1, 1, NAS1), 86);
    b.now_us += 10000 * MS; /* what was saved up is one second's worth */
    for (uint64_t i = 0; i < 11; i++) {
        assert_int_equal(ask_of(1, 1, NAS1), i < 10 ? 0 : 86);
        forget(1);
    }
}

static void limit_of_bytes(void **state)
{
    const struct ladder_limits limits = {.requests = 64, .bytes = 1 << 20};
    const int32_t pa[] = {PA_PAC_REQUEST, 0};
    struct sp_span large;
    uint64_t taken = 0;

    (void)state;
    begin_with(&limits);
    configure("l");
    large = message_request(KRB_AS_REQ, NAS1, pa, 100000, &b.mem);
    for (uint8_t i = 1; i <= 16; i++) {
        struct ladder_request q = {.message = large, .tag = i, .source = {i}};
        taken += ask_as(&q) == 0;
        b.mem.used = 0; /* what was drained is not looked at */
        large = message_request(KRB_AS_REQ, NAS1, pa, 100000, &b.mem);
    }
    assert_int_equal(taken, 4); /* half is for others */
    for (uint64_t i = 1; i <= 16; i++)
        forget(i);
    struct ladder_request q = {.message = large, .tag = 77, .source = {1}};
    assert_int_equal(ask_as(&q), 0);
}

/* Many realms at once; the same KDC address for all, which does not matter. */
static void configure_many(uint32_t count, struct ladder_realm *v, char (*names)[16])
{
    struct sp_err e = {0};

    add(LADDER_NATIVE, "192.0.2.1");
    for (uint32_t i = 0; i < count; i++) {
        (void)snprintf(names[i], sizeof names[i], "R%u", i);
        v[i] = (struct ladder_realm){.name = sp_str(names[i]),
                                     .ladder = {LADDER_NATIVE},
                                     .rung_count = 1,
                                     .targets = b.target,
                                     .target_count = 1};
    }
    if (!ladder_configure(b.l, env(), v, count, &e))
        fail_msg("%s", e.text);
}

static void bulkheads(void **state)
{
    static struct ladder_realm v[200];
    static char names[200][16];
    uint32_t taken = 0;

    (void)state;
    begin_with(NULL);
    configure_many(200, v, names);
    for (uint32_t i = 1; i < 200; i++) /* black holes, everybody asks them */
        for (uint8_t k = 0; k < 20; k++)
            taken += ask_of(k, i * 100 + k, v[i].name) == 0;
    assert_true(taken == 512 && ladder_in_flight(b.l) == 512);
    assert_int_equal(ask_of(99, 1, v[0].name), 86); /* not heard of yet: that half is full */
    pass(1000);
    assert_int_equal(ladder_in_flight(b.l), 0);
    assert_int_equal(ask_of(99, 1, v[0].name), 0);
    tell(got(LADDER_TRY, 0)->id, LADDER_ANSWERED, message_reply(KRB_AS_REP, v[0].name, 9, &b.mem), "");
    (void)ended(LADDER_ANSWER, 1);
    b.now_us += 3000 * MS;
    taken = 0;
    for (uint32_t i = 1; i < 200; i++)
        for (uint8_t k = 0; k < 20; k++)
            taken += ask_of(k, i * 100 + k, v[i].name) == 0;
    for (uint32_t k = 0; k < 100; k++) /* alive: there is room whatever others do */
        assert_int_equal(ask_of((uint8_t)(100 + k % 50), 100000 + k, v[0].name), 0);
}

static void total_is_kept(void **state)
{
    static struct ladder_realm v[40];
    static char names[40][16];
    const struct ladder_limits limits = {.requests = 100, .per_source = 1000};
    uint32_t taken = 0;

    (void)state;
    begin_with(&limits);
    configure_many(40, v, names);
    for (uint32_t i = 0; i < 40; i++) {
        v[i].ladder[0] = LADDER_LOCAL;
        v[i].in_flight_max = 100;
    }
    struct sp_err e = {0};
    assert_true(ladder_configure(b.l, env(), v, 40, &e));
    for (uint32_t i = 0; i < 2; i++) /* two that are greedy leave a third of it */
        for (uint32_t k = 0; k < 100; k++)
            taken += ask_of(1, i * 100 + k, v[i].name) == 0;
    assert_int_equal(taken, 75);
    for (uint32_t i = 2; i < 12; i++)
        assert_int_equal(ask_of(2, 1000 + i, v[i].name), 0);
    for (uint32_t i = 0; i < 40 * 100; i++)
        (void)ask_of(3, 2000 + i, v[i % 40].name);
    assert_int_equal(ladder_in_flight(b.l), 100);
    pass(4500);
    assert_int_equal(ladder_in_flight(b.l), 0);
}

static void memory_is_bounded(void **state)
{
    const struct ladder_limits small = {.requests = 16, .sources = 16, .realms = 4, .bytes = 128 * 1024};

    (void)state;
    assert_true(ladder_bytes(NULL) < (size_t)26 << 20);
    assert_true(ladder_bytes(&small) < (size_t)1 << 20);
    begin_with(&small);
    configure("l");
    for (uint8_t i = 0; i < 200; i++) { /* more sources than are remembered */
        assert_int_equal(ask_of(i, 1, NAS1), 0);
        forget(1);
    }
}

/* ---- configurations ---- */

static void bad_configurations(void **state)
{
    static char long_name[300];
    struct ladder_target t = {.rung = LADDER_NATIVE, .host = SP_LIT("kdc"), .port = 88}, many[17];
    struct sp_span same[] = {SP_LIT("a")};
    struct ladder_realm good = {
        .name = NAS1, .ladder = {LADDER_NATIVE}, .rung_count = 1, .targets = &t, .target_count = 1};
    struct ladder_realm v[2];
    struct sp_err e = {0};

    (void)state;
    memset(long_name, 'x', sizeof long_name);
    begin_with(NULL);
    assert_true(ladder_configure(b.l, env(), &good, 1, &e));
    for (int i = 0; i < 14; i++) {
        struct ladder_target bad = t;

        v[0] = v[1] = good;
        v[1].name = SP_LIT("A");
        v[1].targets = &bad;
        for (int k = 0; k < 17; k++)
            many[k] = t;
        switch (i) {
        case 0:
            v[1].name = SP_LIT("nas1");
            break;
        case 1:
            v[0].aliases = (struct sp_spans){same, 1};
            break;
        case 2:
            v[1].name = (struct sp_span){0};
            break;
        case 3:
            v[1].name = sp_span(long_name, 256);
            break;
        case 4:
            v[1].rung_count = 0;
            break;
        case 5:
            v[1].rung_count = 5;
            break;
        case 6:
            v[1].rung_count = 2;
            v[1].ladder[1] = LADDER_NATIVE;
            break;
        case 7:
            v[1].ladder[0] = LADDER_RUNGS;
            break;
        case 8:
            bad.rung = LADDER_LOCAL;
            break;
        case 9:
            bad.host.n = 0;
            break;
        case 10:
            bad.host = sp_span(long_name, 256);
            break;
        case 11:
            bad.path = sp_span(long_name, 128);
            break;
        case 12:
            bad.port = 0;
            break;
        default:
            v[1].targets = many;
            v[1].target_count = 17;
            break;
        }
        e = (struct sp_err){0};
        if (ladder_configure(b.l, env(), v, 2, &e) || e.kind != SP_EINPUT)
            fail_msg("row %d: %s", i, e.text);
    }
    ask(1, as_req()); /* and the good one is still there */
    assert_int_equal(count_of(LADDER_LOOK_UP), 1);
    begin_with(&(struct ladder_limits){.realms = 1});
    v[0] = v[1] = good;
    v[1].name = SP_LIT("B");
    e = (struct sp_err){0};
    assert_false(ladder_configure(b.l, env(), v, 2, &e));
    assert_int_equal(e.kind, SP_EINPUT);
}

static void health_outlives_configurations(void **state)
{
    struct ladder_health h;
    uint32_t id, other;

    (void)state;
    begin("n", 3);
    ask(1, as_req());
    pass(50);
    tell(one_try(LADDER_BY_UDP, 2), LADDER_ANSWERED, as_rep(), "");
    ask(7, as_req());
    id = one_try(LADDER_BY_UDP, 2);
    b.target[0] = b.target[1]; /* 192.0.2.1 goes, the others move up, one comes */
    b.target[1] = b.target[2];
    b.target[2].host = SP_LIT("192.0.2.9");
    configure("nl");
    h = health(0);
    assert_true(h.life == LADDER_ALIVE && sp_same(h.target->host, SP_LIT("192.0.2.2")));
    assert_int_equal(health(1).life, LADDER_UNKNOWN);
    assert_true(sp_same(health(2).target->host, SP_LIT("192.0.2.9")));
    tell(id, LADDER_ANSWERED, as_rep(), ""); /* what was under way goes on */
    (void)ended(LADDER_ANSWER, 7);

    ask(8, as_req());
    id = one_try(LADDER_BY_UDP, 2);
    struct sp_err e = {0};
    b.realm.name = SP_LIT("OTHER"); /* also when the realm is gone */
    assert_true(ladder_configure(b.l, env(), &b.realm, 1, &e));
    assert_false(ladder_find_realm(b.l, NAS1, &other));
    tell(id, LADDER_ANSWERED, as_rep(), "");
    assert_true(sp_same(ended(LADDER_ANSWER, 8)->realm, NAS1));
    assert_int_equal(health(0).life, LADDER_UNKNOWN);
}

/* Realms come and go while requests of theirs are under way. */
static void realms_come_and_go(void **state)
{
    static char names[400][16];
    struct sp_err e = {0};
    uint32_t refused = 0;

    (void)state;
    begin_with(&(struct ladder_limits){.realms = 2});
    add(LADDER_NATIVE, "192.0.2.1");
    for (uint32_t i = 0; i < 400; i++) {
        (void)snprintf(names[i], sizeof names[i], "R%u", i);
        b.realm = (struct ladder_realm){.name = sp_str(names[i]),
                                        .ladder = {LADDER_NATIVE},
                                        .rung_count = 1,
                                        .targets = b.target,
                                        .target_count = 1};
        e = (struct sp_err){0};
        if (!ladder_configure(b.l, env(), &b.realm, 1, &e)) {
            assert_int_equal(e.kind, SP_EFULL);
            refused++;
            pass(1000);
            continue;
        }
        (void)ask_of(1, i, b.realm.name);
    }
    assert_true(refused > 0 && refused < 40);
    pass(10000);
    assert_int_equal(ladder_in_flight(b.l), 0);
}

/* ---- forgetting ---- */

static void forgotten(void **state)
{
    uint32_t id;

    (void)state;
    begin("n", 2);
    ask(1, as_req());
    id = one_try(LADDER_BY_UDP, 1);
    forget(2);
    assert_int_equal(ladder_in_flight(b.l), 1);
    forget(1);
    assert_true(b.n == 1 && got(LADDER_CANCEL, 0)->id == id);
    assert_int_equal(ladder_in_flight(b.l), 0);
    tell(id, LADDER_ANSWERED, as_rep(), "");
    assert_int_equal(b.n, 0);
    assert_int_equal(ladder_due_us(b.l), -1);
}

static void forgotten_between_end_and_action(void **state)
{
    struct ladder_outcome o = {.end = LADDER_ANSWERED};
    struct ladder_action a;

    (void)state;
    begin("n", 1);
    ask(1, as_req());
    o.try_id = one_try(LADDER_BY_UDP, 1);
    o.bytes = as_rep();
    ladder_tell(b.l, env(), &o);
    ladder_forget(b.l, env(), 1);
    assert_false(ladder_next(b.l, env(), &a));
}

/* Whoever does not take actions loses none. */
static void actions_wait(void **state)
{
    struct ladder_outcome o = {.end = LADDER_ANSWERED};
    uint32_t ids[50];

    (void)state;
    begin("l", 0);
    for (uint32_t i = 0; i < 50; i++) {
        ask(i, as_req());
        ids[i] = one_try(LADDER_BY_WORKER, 0);
    }
    o.bytes = as_rep();
    for (uint32_t i = 0; i < 50; i++) {
        o.try_id = ids[i];
        ladder_tell(b.l, env(), &o);
    }
    b.n = 0;
    drain();
    assert_int_equal(count_of(LADDER_ANSWER), 50);
    for (uint32_t i = 0; i < 50; i++)
        assert_true(got(LADDER_ANSWER, i)->tag == i && sp_same(got(LADDER_ANSWER, i)->bytes, o.bytes));
}

static void rung_names(void **state)
{
    (void)state;
    assert_string_equal(ladder_rung_name(LADDER_INBAND), "in-band");
    assert_string_equal(ladder_rung_name(LADDER_RUNGS), "none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whitelist),
        cmocka_unit_test(realm_names),
        cmocka_unit_test(finds_realms),
        cmocka_unit_test(rungs_in_order),
        cmocka_unit_test(every_rung_fails),
        cmocka_unit_test(no_place_is_85),
        cmocka_unit_test(too_big_goes_by_tcp),
        cmocka_unit_test(large_requests_go_by_tcp),
        cmocka_unit_test(tcp_beside_silent_udp),
        cmocka_unit_test(hedged_and_cancelled),
        cmocka_unit_test(hedge_waits_by_latency),
        cmocka_unit_test(proofs_wait_longer),
        cmocka_unit_test(slower_is_asked_later),
        cmocka_unit_test(primary_first),
        cmocka_unit_test(all_targets_of_a_rung),
        cmocka_unit_test(busy_goes_elsewhere),
        cmocka_unit_test(errors_are_answers),
        cmocka_unit_test(answers_are_checked),
        cmocka_unit_test(garbled_goes_on),
        cmocka_unit_test(strange_outcomes_are_ignored),
        cmocka_unit_test(addresses_that_are_never_sent_to),
        cmocka_unit_test(listed_addresses),
        cmocka_unit_test(names_are_pinned),
        cmocka_unit_test(names_that_are_not_known),
        cmocka_unit_test(silent_resolver_costs_one_rung),
        cmocka_unit_test(places_are_looked_up),
        cmocka_unit_test(uri_records),
        cmocka_unit_test(addresses_one_after_another),
        cmocka_unit_test(own_addresses_are_not_sent_to),
        cmocka_unit_test(places_for_password_changes),
        cmocka_unit_test(listed_before_found),
        cmocka_unit_test(decided_and_gone),
        cmocka_unit_test(decided_and_forgotten),
        cmocka_unit_test(the_driver_finds_it_garbled),
        cmocka_unit_test(relays_one_after_another),
        cmocka_unit_test(too_many_names),
        cmocka_unit_test(timestamps_in_band),
        cmocka_unit_test(withheld_goes_on_to_local),
        cmocka_unit_test(timestamps_do_not_probe),
        cmocka_unit_test(silence_is_death),
        cmocka_unit_test(probes_answer_too),
        cmocka_unit_test(back_off),
        cmocka_unit_test(network_change_forgets_deaths),
        cmocka_unit_test(last_chance),
        cmocka_unit_test(slow_is_not_dead),
        cmocka_unit_test(everything_ends_in_time),
        cmocka_unit_test(health_has_words),
        cmocka_unit_test(far_is_asked_after_near),
        cmocka_unit_test(proofs_do_not_probe),
        cmocka_unit_test(pauses_differ),
        cmocka_unit_test(listed_no_more),
        cmocka_unit_test(kpasswd_length),
        cmocka_unit_test(no_password_change_in_band),
        cmocka_unit_test(password_changes),
        cmocka_unit_test(limit_of_a_source),
        cmocka_unit_test(limit_of_a_realm),
        cmocka_unit_test(limit_of_a_rate),
        cmocka_unit_test(limit_of_bytes),
        cmocka_unit_test(bulkheads),
        cmocka_unit_test(total_is_kept),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(bad_configurations),
        cmocka_unit_test(health_outlives_configurations),
        cmocka_unit_test(realms_come_and_go),
        cmocka_unit_test(forgotten),
        cmocka_unit_test(forgotten_between_end_and_action),
        cmocka_unit_test(actions_wait),
        cmocka_unit_test(rung_names),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    free(b.l);
    return failed;
}
