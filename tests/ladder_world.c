/* SPDX-License-Identifier: MIT */
/* The courier's engine in a world made up for it: thousands of clients, hundreds of realms, KDCs that are
 * slow, lossy, silent, broken or gone, names and networks that change, a clock that jumps from one event to
 * the next. The same seed is the same world. What must hold whatever happens is checked at every event, and
 * how long people waited at the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "courier/engine.h"
#include "ladder_messages.h"

#define MS INT64_C(1000)
#define S (1000 * MS)
enum {
    REALMS = 400,
    PLACES = 4, /* of one realm: KDCs, and the last one its relay where it has one */
    HOSTS = REALMS * PLACES,
    CLIENTS = 4096,
    EVENTS = 1 << 17,
    OPEN = 1 << 16,
    WAITS = 1 << 20,
    CANARY = 64,
};

enum temper { GOOD, SILENT, REFUSING, GARBLING, BUSY, FLAPPING, ONLY_TCP, TEMPERS };
enum making { WELL_KEPT, BLACK_HOLE, NATIVE_DEAD, WILD }; /* of a realm */
enum happening { ASKS, TRY_ENDS, FOUND, TIMES_OUT, NETWORK, RENAMED };

struct event {
    int64_t at_us;
    enum happening what;
    uint32_t id;    /* of a client, a try or a look-up */
    uint32_t round; /* of a client's request */
    uint32_t host, realm;
    enum ladder_end end;
    enum ladder_kind kind;
    enum ladder_lookup lookup;
    int32_t code; /* of a KRB-ERROR to answer with */
};

struct host {
    enum temper temper;
    int64_t latency_us;
    uint32_t loss; /* of a thousand datagrams */
};

struct client {
    uint32_t realm, round;
    bool waits;
    int64_t asked_us;
    uint8_t source[24];
};

struct realm_made {
    enum making making;
    char name[16], host[PLACES][24];
    struct ladder_target target[PLACES];
    struct sp_span request[2], reply[2], busy, too_big;
};

static struct world {
    struct ladder *l;
    uint8_t *block;
    size_t bytes;
    struct sp_rng_fixed chance, rng;
    int64_t now_us;
    struct event *event;
    uint32_t events;
    struct realm_made realm[REALMS];
    struct ladder_realm config[REALMS];
    uint32_t realms;
    struct host host[HOSTS];
    struct client client[CLIENTS];
    uint32_t clients;
    int64_t think_us;
    uint32_t open[OPEN]; /* ids of tries the driver has */
    uint32_t opens;
    uint32_t shift; /* what names lead to now */
    bool asking;
    uint64_t limited_at[WILD + 1]; /* by the making of the realm */
    uint64_t asked, answered, refused, limited, tries, cancels, lookups;
    struct sp_arena mem;
} w;

struct waits { /* of requests to realms of one making */
    uint32_t n;
    int32_t us[WAITS];
};
static struct waits waits[4];
static _Alignas(16) uint8_t room[64 << 20];

/* ---- chance, time ---- */

static uint32_t dice(uint32_t n)
{
    uint64_t v;

    sp_rng_fill(&w.chance.rng, &v, sizeof v);
    return (uint32_t)(v % n);
}

static struct sp_env env(void)
{
    return (struct sp_env){1900000000 * S + w.now_us, w.now_us, &w.rng.rng};
}

static void push(struct event v)
{
    uint32_t i = w.events++;

    assert_true(w.events < EVENTS);
    for (; i > 0 && w.event[(i - 1) / 2].at_us > v.at_us; i = (i - 1) / 2)
        w.event[i] = w.event[(i - 1) / 2];
    w.event[i] = v;
}

static struct event pop(void)
{
    struct event first = w.event[0], last = w.event[--w.events];
    uint32_t i = 0, child;

    for (; (child = 2 * i + 1) < w.events; i = child) {
        if (child + 1 < w.events && w.event[child + 1].at_us < w.event[child].at_us)
            child++;
        if (w.event[child].at_us >= last.at_us)
            break;
        w.event[i] = w.event[child];
    }
    w.event[i] = last;
    return first;
}

/* ---- tries that the driver has ---- */

static uint32_t *open_at(uint32_t id)
{
    uint32_t i = (id * 2654435761u) % OPEN;

    while (w.open[i] && w.open[i] != id)
        i = (i + 1) % OPEN;
    return &w.open[i];
}

static void open_try(uint32_t id)
{
    uint32_t *at = open_at(id);

    assert_int_equal(*at, 0);
    assert_true(w.opens++ < OPEN / 2);
    *at = id;
}

/* False: it was closed before. Those behind it in the table may have to move up. */
static bool close_try(uint32_t id)
{
    uint32_t *at = open_at(id), i, moved;

    if (!*at)
        return false;
    *at = 0;
    w.opens--;
    for (i = (uint32_t)(at - w.open + 1) % OPEN; (moved = w.open[i]) != 0; i = (i + 1) % OPEN) {
        w.open[i] = 0;
        *open_at(moved) = moved;
    }
    return true;
}

/* ---- what the network does ---- */

static uint32_t host_of(const struct ladder_address *a)
{
    return (uint32_t)a->ip[1] << 16 | (uint32_t)a->ip[2] << 8 | a->ip[3];
}

static struct ladder_address address_of(uint32_t host)
{
    return (struct ladder_address){
        4, {10, (uint8_t)(host >> 16), (uint8_t)(host >> 8), (uint8_t)host}
    };
}

static int64_t latency(const struct host *h)
{
    int64_t tail = dice(1000);

    return h->latency_us / 2 + dice((uint32_t)h->latency_us) + h->latency_us * tail * tail * tail / 500000000;
}

static enum temper temper_now(const struct host *h)
{
    if (h->temper != FLAPPING)
        return h->temper;
    return (w.now_us / (20 * S) + (h - w.host)) % 3 ? GOOD : (w.now_us / (60 * S)) % 2 ? SILENT : REFUSING;
}

static void network_carries(const struct ladder_action *a)
{
    struct event v = {.what = TRY_ENDS, .id = a->id, .kind = a->kind, .end = LADDER_ANSWERED};
    static const struct host engine = {GOOD, 2 * MS, 0};
    const struct host *h = &engine;
    enum temper t;

    open_try(a->id);
    w.tries++;
    v.host = a->target ? host_of(&a->address) : NIL;
    if (a->target) {
        assert_true(a->address.n == 4 && a->address.ip[0] == 10 && v.host < HOSTS);
        h = &w.host[v.host];
    }
    for (v.realm = 0; !sp_same(sp_str(w.realm[v.realm].name), a->realm);)
        v.realm++;
    assert_true(v.realm < w.realms && a->bytes.n > 0 && a->until_us > w.now_us);
    t = temper_now(h);
    v.at_us = w.now_us + latency(h) * (a->carry == LADDER_BY_UDP ? 1 : 2);
    if (t == SILENT || (a->carry == LADDER_BY_UDP && (t == ONLY_TCP || dice(1000) < h->loss))) {
        v.end = LADDER_REFUSED; /* the driver's own time is up */
        v.at_us = a->until_us;
    } else if (t == REFUSING) {
        v.end = LADDER_REFUSED;
        v.at_us = w.now_us + 200;
    } else if (t == GARBLING) {
        v.end = dice(2) ? LADDER_GARBLED : LADDER_ANSWERED;
        v.code = -1;
    } else if (t == BUSY) {
        v.code = KDC_ERR_SVC_UNAVAILABLE;
    } else if (a->carry == LADDER_BY_UDP && dice(50) == 0) {
        v.code = KRB_ERR_RESPONSE_TOO_BIG;
    }
    push(v);
}

static void resolver_looks_up(const struct ladder_action *a)
{
    struct event v = {.what = FOUND, .id = a->id, .lookup = a->lookup, .at_us = w.now_us + MS + dice(10000)};
    unsigned host = 0;
    char name[300];

    w.lookups++;
    (void)snprintf(name, sizeof name, "%.*s", SP_FMT(a->name));
    if (a->lookup == LADDER_LOOKUP_ADDRESS) {
        assert_int_equal(sscanf(name, "k%u.example", &host), 1);
        v.host = host;
        v.end = dice(100) ? LADDER_ANSWERED : LADDER_REFUSED;
        v.at_us += dice(40) ? 0 : 2 * S;
    }
    for (v.realm = 0; !sp_same(sp_str(w.realm[v.realm].name), a->realm);)
        v.realm++;
    push(v);
}

/* ---- the driver ---- */

static void note_wait(struct client *c)
{
    struct waits *v = &waits[w.realm[c->realm].making];
    int64_t us = w.now_us - c->asked_us;

    assert_true(c->waits && us <= w.l->limit.all_ms * MS); /* exactly once, and in time */
    c->waits = false;
    if (v->n < WAITS)
        v->us[v->n++] = (int32_t)us;
    push((struct event){.at_us = w.now_us + w.think_us / 2 + dice((uint32_t)w.think_us),
                        .what = ASKS,
                        .id = (uint32_t)(c - w.client)});
}

static void drain(void)
{
    struct ladder_action a;

    while (ladder_next(w.l, env(), &a)) {
        struct client *c = &w.client[a.tag >> 32];

        switch (a.what) {
        case LADDER_TRY:
            network_carries(&a);
            break;
        case LADDER_LOOK_UP:
            resolver_looks_up(&a);
            break;
        case LADDER_CANCEL:
            assert_true(close_try(a.id));
            w.cancels++;
            break;
        case LADDER_ANSWER:
        case LADDER_REFUSE:
        default:
            assert_int_equal((uint32_t)a.tag, c->round);
            assert_true(a.what == LADDER_REFUSE ? a.text.n > 0 : a.bytes.n > 0);
            w.answered += a.what == LADDER_ANSWER;
            w.refused += a.what == LADDER_REFUSE;
            note_wait(c);
            break;
        }
    }
}

static void client_asks(uint32_t i)
{
    struct client *c = &w.client[i];
    struct ladder_request q = {.message = w.realm[c->realm].request[dice(2)]};
    struct sp_err e = {0};

    if (!w.asking)
        return;
    q.tag = (uint64_t)i << 32 | ++c->round;
    memcpy(q.source, c->source, sizeof q.source);
    c->asked_us = w.now_us;
    c->waits = true;
    w.asked++;
    if (ladder_ask(w.l, env(), &q, &e)) {
        if (w.realm[c->realm].making == WILD && dice(50) == 0) { /* and is gone */
            drain();
            if (c->waits) {
                ladder_forget(w.l, env(), q.tag);
                drain();
                w.refused++;
                note_wait(c);
            }
        }
        return;
    }
    assert_int_equal(e.proto, KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE);
    w.limited++;
    w.limited_at[w.realm[c->realm].making]++;
    note_wait(c);
}

static void try_ends(const struct event *v)
{
    const struct realm_made *r = &w.realm[v->realm];
    struct ladder_outcome o = {.try_id = v->id, .end = v->end, .text = SP_LIT("so it was")};

    if (!close_try(v->id))
        return; /* cancelled meanwhile: the driver forgot it */
    if (v->end == LADDER_ANSWERED)
        o.bytes = v->code == KDC_ERR_SVC_UNAVAILABLE    ? r->busy
                  : v->code == KRB_ERR_RESPONSE_TOO_BIG ? r->too_big
                  : v->code < 0                         ? SP_LIT("junk")
                                                        : r->reply[v->kind == LADDER_TGS];
    ladder_tell(w.l, env(), &o);
}

static void told(const struct event *v)
{
    struct ladder_found f = {.lookup_id = v->id, .failed = v->end == LADDER_REFUSED};

    if (v->lookup == LADDER_LOOKUP_ADDRESS && !f.failed) {
        f.count = 1;
        f.record[0].address = address_of((v->host / PLACES) * PLACES + (v->host + w.shift) % PLACES);
    } else if (v->lookup == LADDER_LOOKUP_SRV) {
        for (f.count = 0; f.count < PLACES - 1; f.count++) {
            f.record[f.count].host = sp_str(w.realm[v->realm].host[f.count]);
            f.record[f.count].port = 88;
            f.record[f.count].weight = 10;
        }
    }
    ladder_tell_found(w.l, env(), &f);
}

static void happens(const struct event *v)
{
    switch (v->what) {
    case ASKS:
        client_asks(v->id);
        break;
    case TRY_ENDS:
        try_ends(v);
        break;
    case FOUND:
        told(v);
        break;
    case NETWORK:
        ladder_network_changed(w.l, env());
        if (w.asking)
            push((struct event){.at_us = w.now_us + 30 * S + dice(60000000), .what = NETWORK});
        break;
    case RENAMED:
        w.shift++;
        if (w.asking)
            push((struct event){.at_us = w.now_us + 400 * S, .what = RENAMED});
        break;
    case TIMES_OUT:
    default:
        break;
    }
    drain();
}

static void run(int64_t us)
{
    int64_t end = w.now_us + us, due;

    for (;;) {
        due = ladder_due_us(w.l);
        if (due >= 0 && due < w.now_us)
            due = w.now_us;
        if (due >= 0 && due <= end && (!w.events || due <= w.event[0].at_us)) {
            w.now_us = due;
            ladder_tick(w.l, env());
            assert_true(ladder_due_us(w.l) < 0 || ladder_due_us(w.l) > w.now_us);
            drain();
        } else if (w.events && w.event[0].at_us <= end) {
            struct event v = pop();
            w.now_us = v.at_us;
            happens(&v);
        } else {
            break;
        }
        assert_true(w.l->in_flight <= w.l->limit.requests && w.l->hold.used <= w.l->limit.bytes);
    }
    w.now_us = end;
}

/* ---- making a world ---- */

static void make_messages(struct realm_made *r)
{
    struct sp_span name = sp_str(r->name);
    static const int32_t some[] = {PA_PAC_REQUEST, 0};

    r->request[0] = message_request(KRB_AS_REQ, name, some, 10 + dice(1500), &w.mem);
    r->request[1] = message_request(KRB_TGS_REQ, name, NULL, 0, &w.mem);
    r->reply[0] = message_reply(KRB_AS_REP, name, 300, &w.mem);
    r->reply[1] = message_reply(KRB_TGS_REP, name, 300, &w.mem);
    r->busy = message_error(name, KDC_ERR_SVC_UNAVAILABLE, &w.mem);
    r->too_big = message_error(name, KRB_ERR_RESPONSE_TOO_BIG, &w.mem);
}

static void make_host(uint32_t realm, uint32_t place, enum making making)
{
    struct host *h = &w.host[realm * PLACES + place];
    bool relay = place == PLACES - 1;

    *h = (struct host){GOOD, 2 * MS + dice(6000), 5};
    if (making == BLACK_HOLE || (making == NATIVE_DEAD && !relay))
        h->temper = SILENT;
    if (making == WILD) {
        h->temper = (enum temper)dice(TEMPERS);
        h->latency_us = MS + dice(dice(5) ? 30000 : 800000);
        h->loss = dice(4) ? 5 : 300;
    }
}

static void make_realm(enum making making)
{
    uint32_t i = w.realms++;
    struct realm_made *r = &w.realm[i];
    struct ladder_realm *c = &w.config[i];
    bool named = making == WILD && dice(2), found = making == WILD && dice(3) == 0;

    *r = (struct realm_made){.making = making};
    (void)snprintf(r->name, sizeof r->name, "REALM%u", i);
    make_messages(r);
    *c = (struct ladder_realm){.name = sp_str(r->name), .targets = r->target};
    c->ladder[c->rung_count++] = LADDER_NATIVE;
    if (making == NATIVE_DEAD || making == WILD)
        c->ladder[c->rung_count++] = LADDER_RELAY;
    if (making == WILD && dice(3) == 0)
        c->ladder[c->rung_count++] = LADDER_LOCAL;
    c->discover = found ? LADDER_SRV : LADDER_STATIC;
    for (uint32_t k = 0; k < PLACES; k++) {
        uint32_t host = i * PLACES + k;
        struct ladder_target *t = &r->target[c->target_count];

        make_host(i, k, making);
        (void)snprintf(r->host[k], sizeof r->host[k], named || found ? "k%u.example" : "10.%u.%u.%u",
                       named || found ? host : host >> 16, host >> 8 & 255, host & 255);
        *t = (struct ladder_target){.rung = LADDER_NATIVE, .host = sp_str(r->host[k]), .port = 88};
        if (k == PLACES - 1)
            *t = (struct ladder_target){.rung = LADDER_RELAY,
                                        .host = sp_str(r->host[k]),
                                        .port = 443,
                                        .path = SP_LIT("/KdcProxy"),
                                        .tls = true};
        c->target_count += !found || k == PLACES - 1;
    }
}

static void make_clients(uint32_t count, uint32_t first, uint32_t realms)
{
    for (uint32_t i = 0; i < count; i++) {
        struct client *c = &w.client[w.clients];

        *c = (struct client){.realm = first + i % realms};
        memcpy(c->source, &w.clients, sizeof w.clients);
        push((struct event){.at_us = w.now_us + dice((uint32_t)w.think_us), .what = ASKS, .id = w.clients});
        w.clients++;
    }
}

static void begin(uint64_t seed, const struct ladder_limits *limits, int64_t think_us)
{
    free(w.block);
    free(w.event);
    memset(&w, 0, sizeof w);
    for (int i = 0; i < 4; i++)
        waits[i].n = 0;
    sp_arena_init(&w.mem, room, sizeof room);
    sp_rng_fixed_init(&w.chance, seed);
    sp_rng_fixed_init(&w.rng, seed + 1);
    w.now_us = 100 * S;
    w.think_us = think_us;
    w.asking = true;
    w.event = calloc(EVENTS, sizeof *w.event);
    w.bytes = ladder_bytes(limits);
    w.block = malloc(w.bytes + CANARY);
    assert_true(w.event && w.block);
    memset(w.block, 0xa5, w.bytes + CANARY);
    w.l = ladder_init(w.block, limits, &w.rng.rng);
}

static void configure(void)
{
    struct sp_err e = {0};

    if (!ladder_configure(w.l, env(), w.config, w.realms, &e))
        fail_msg("%s", e.text);
}

/* Nobody asks any more: everything comes to its end, and everything is given back. */
static void end(const char *what)
{
    w.asking = false;
    run(120 * S);
    assert_int_equal(ladder_in_flight(w.l), 0);
    assert_int_equal(ladder_due_us(w.l), -1);
    assert_int_equal(w.opens, 0);
    assert_int_equal(w.events, 0);
    ladder_tick(w.l, env());
    assert_int_equal(w.l->hold.used, 0);
    assert_int_equal(w.l->probes, 0);
    assert_int_equal(w.l->sick, 0);
    for (uint32_t i = 0; i < w.l->free_tries.top; i++)
        assert_int_equal(w.l->tries[i].state, TRY_FREE);
    for (uint32_t i = 0; i < w.l->free_requests.top; i++)
        assert_int_equal(w.l->requests[i].state, REQUEST_FREE);
    for (uint32_t i = 0; i < w.l->free_accounts.top; i++)
        assert_true(w.l->accounts[i].in_flight == 0 && w.l->accounts[i].bytes == 0);
    for (uint32_t i = 0; i < w.l->realm_top; i++)
        assert_true(w.l->realms[i].in_flight == 0 && w.l->realms[i].bytes == 0 && w.l->realms[i].probes == 0);
    for (size_t i = 0; i < CANARY; i++)
        assert_int_equal(w.block[w.bytes + i], 0xa5);
    assert_int_equal(w.asked, w.answered + w.refused + w.limited);
    print_message(
        "%s: %llu requests, %llu answered, %llu refused, %llu over a limit; %llu tries, %llu cancelled, "
        "%llu look-ups\n",
        what, (unsigned long long)w.asked, (unsigned long long)w.answered, (unsigned long long)w.refused,
        (unsigned long long)w.limited, (unsigned long long)w.tries, (unsigned long long)w.cancels,
        (unsigned long long)w.lookups);
}

static int by_size(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

    return (x > y) - (x < y);
}

static int64_t wait_at(enum making m, uint32_t thousandth)
{
    struct waits *v = &waits[m];

    assert_true(v->n > 100);
    qsort(v->us, v->n, sizeof v->us[0], by_size);
    return v->us[(uint64_t)(v->n - 1) * thousandth / 1000];
}

/* ---- the worlds ---- */

static const struct ladder_limits for_many = {.realms = REALMS};

/* 30 realms with 600 clients; then the same beside 340 black holes with five times as many. */
static void healthy_beside_black_holes(void **state)
{
    int64_t alone, beside, dead;

    (void)state;
    begin(1, &for_many, 2 * S);
    for (int i = 0; i < 30; i++)
        make_realm(WELL_KEPT);
    configure();
    make_clients(600, 0, 30);
    run(300 * S);
    end("30 realms");
    assert_true(w.answered == w.asked);
    alone = wait_at(WELL_KEPT, 990);

    begin(1, &for_many, 2 * S);
    for (int i = 0; i < 30; i++)
        make_realm(WELL_KEPT);
    for (int i = 0; i < 340; i++)
        make_realm(BLACK_HOLE);
    configure();
    make_clients(600, 0, 30);
    run(5 * S); /* the black holes open under a running courier */
    waits[WELL_KEPT].n = 0;
    make_clients(3000, 30, 340);
    run(300 * S);
    end("30 realms beside 340 black holes");
    beside = wait_at(WELL_KEPT, 990);
    dead = wait_at(BLACK_HOLE, 1000);
    print_message(
        "p99 of the healthy: %lld us alone, %lld us beside; most waited for at a black hole: %lld us\n",
        (long long)alone, (long long)beside, (long long)dead);
    assert_int_equal(w.limited_at[WELL_KEPT], 0);
    assert_true(beside <= 2 * alone);
    assert_true(dead < S);
}

/* Requests of healthy realms are refused by no limit, whatever the others do. */
static void no_healthy_request_is_refused(void **state)
{
    uint64_t before;

    (void)state;
    begin(2, &for_many, S);
    for (int i = 0; i < 5; i++)
        make_realm(WELL_KEPT);
    for (int i = 0; i < 395; i++)
        make_realm(BLACK_HOLE);
    configure();
    make_clients(100, 0, 5);
    run(10 * S);
    assert_int_equal(w.answered, w.asked - w.l->in_flight);
    make_clients(3950, 5, 395);
    run(60 * S);
    before = w.answered;
    run(60 * S);
    assert_true(w.answered > before + 100 * 50); /* black holes answer nothing: these are all healthy */
    end("5 realms beside 395 black holes");
    assert_int_equal(w.limited_at[WELL_KEPT], 0);
    assert_true(wait_at(WELL_KEPT, 1000) < S);
}

/* KDCs that drop everything, and a relay that lives: whoever comes first finds out, the others are told. */
static void dead_rungs(void **state)
{
    int64_t first, later;

    (void)state;
    begin(3, &for_many, 10 * S);
    for (int i = 0; i < 50; i++)
        make_realm(NATIVE_DEAD);
    configure();
    make_clients(1000, 0, 50);
    run(12 * S);
    first = wait_at(NATIVE_DEAD, 1000);
    waits[NATIVE_DEAD].n = 0;
    run(1800 * S);
    end("50 realms whose KDCs are dead");
    later = wait_at(NATIVE_DEAD, 1000);
    print_message("unknown to be dead: %lld us at most; known: %lld us at most, p99 %lld us\n",
                  (long long)first, (long long)later, (long long)wait_at(NATIVE_DEAD, 990));
    assert_true(first < S);
    assert_true(later < 300 * MS);
    assert_int_equal(w.answered, w.asked);
}

/* Everything at once, for two hours. */
static void wild(void **state)
{
    (void)state;
    begin(4,
          &(struct ladder_limits){
              .realms = 120, .requests = 512, .bytes = 2 << 20, .sources = 1000, .dead_retry_ms = 500},
          30 * S);
    for (int i = 0; i < 120; i++)
        make_realm(i % 3 ? WILD : WELL_KEPT);
    configure();
    make_clients(2400, 0, 120);
    push((struct event){.at_us = w.now_us + 50 * S, .what = NETWORK});
    push((struct event){.at_us = w.now_us + 100 * S, .what = RENAMED});
    for (int i = 0; i < 72; i++) {
        run(100 * S);
        if (i % 6 == 5) { /* realms go and come back */
            uint32_t all = w.realms;
            w.realms -= 20;
            configure();
            w.realms = all;
            configure();
        }
        for (int k = 0; k < 20; k++) { /* and hosts change their mind */
            uint32_t realm = dice(w.realms);
            if (w.realm[realm].making == WILD)
                make_host(realm, dice(PLACES), WILD);
        }
    }
    end("a wild world");
    assert_true(w.answered > w.asked * 7 / 10);
    assert_true(wait_at(WELL_KEPT, 990) < 300 * MS);
}

/* The same seed, the same world, to the last request. */
static void twice_the_same(void **state)
{
    uint64_t tries[2], answered[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        begin(5, &for_many, 5 * S);
        for (int k = 0; k < 60; k++)
            make_realm(WILD);
        configure();
        make_clients(500, 0, 60);
        run(300 * S);
        tries[i] = w.tries;
        answered[i] = w.answered;
        end("a world");
    }
    assert_true(tries[0] == tries[1] && answered[0] == answered[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(healthy_beside_black_holes),
        cmocka_unit_test(no_healthy_request_is_refused),
        cmocka_unit_test(dead_rungs),
        cmocka_unit_test(wild),
        cmocka_unit_test(twice_the_same),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    free(w.block);
    free(w.event);
    return failed;
}
