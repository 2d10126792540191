/* SPDX-License-Identifier: MIT */
/* bench-load: a closed loop of Kerberos requests, W outstanding at any time. Prints one JSON object. */
#include "load.h"
#include "arguments.h"
#include "cputime.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define DRAIN_MS 20 /* until a server that has answered everything sleeps, and its account is exact */

/* ---- making requests ---- */

/* By UDP, whatever the way of what is measured. */
static struct sp_span ask_once(void *asker, struct sp_span request)
{
    struct load_run *r = asker;
    int fd = load_dial_udp(r->o->kdc.sin_port ? &r->o->kdc : &r->o->server);
    ssize_t n = send(fd, request.p, request.n, 0);

    if (n >= 0)
        n = recv(fd, r->reply, sizeof r->reply, 0);
    if (n < 0)
        bench_die("no answer while fetching tickets", NULL);
    close(fd);
    return sp_span(r->reply, (size_t)n);
}

static void make_raw(struct load_run *r, struct bench_request *q)
{
    struct sp_err e = {0};
    uint8_t *p = sp_alloc(&r->big, r->o->raw_n, &e);

    if (!p)
        bench_die("no room for requests", &e);
    sp_rng_fill(r->maker.env.rng, p, r->o->raw_n);
    *q = (struct bench_request){.bytes = sp_span(p, r->o->raw_n)};
}

static void make_requests(struct load_run *r)
{
    const struct load_options *o = r->o;
    struct bench_wish all = o->wish;

    all.count += o->warmup;
    if (o->raw && o->way == LOAD_UDP) {
        for (uint32_t i = 0; i < all.count; i++)
            make_raw(r, &r->requests[i]);
        return;
    }
    if (all.kind == BENCH_TGS)
        bench_fetch_tgts(&r->maker, all.users, &r->big, &r->reading, ask_once, r);
    bench_make_many(&r->maker, &all, &r->big, r->requests);
}

/* ---- the loop ---- */

/* Replies to verify are spread over the run. */
static void keep(struct load_run *r, uint32_t request, struct sp_span reply)
{
    struct sp_err e = {0};
    uint32_t every = (r->o->wish.count + LOAD_VERIFY_MAX - 1) / LOAD_VERIFY_MAX;

    if (r->o->raw || r->kept_count == LOAD_VERIFY_MAX || request < r->o->warmup ||
        (request - r->o->warmup) % every)
        return;
    r->kept[r->kept_count] = (struct load_kept){request, sp_dup(&r->big, reply, &e)};
    if (!sp_ok(&e))
        bench_die("no room for replies", &e);
    r->kept_count++;
}

void load_note_reply(struct load_run *r, const struct load_slot *s, struct sp_span reply)
{
    uint64_t took = bench_mono_ns() - s->sent_ns;

    if (s->request >= r->o->warmup)
        r->latency_ns[r->latencies++] = took;
    if (!r->o->raw && !bench_looks_right(r->o->wish.kind, reply))
        r->odd++;
    keep(r, s->request, reply);
}

static uint64_t cpu_of(const struct load_pids *p)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < p->count; i++)
        sum += bench_cpu_ns(p->v[i]);
    return sum;
}

struct cost { /* nanoseconds */
    uint64_t wall, server, beside;
};

static struct cost cost_till_now(const struct load_options *o)
{
    usleep(DRAIN_MS * 1000);
    return (struct cost){.server = cpu_of(&o->pids), .beside = cpu_of(&o->beside)};
}

static uint32_t verify(struct load_run *r)
{
    uint32_t bad = 0;

    for (uint32_t i = 0; i < r->kept_count; i++) {
        struct sp_err e = {0};

        sp_arena_reset(&r->reading);
        if (!bench_check(r->maker.crypto, &r->requests[r->kept[i].request], r->kept[i].reply, &r->reading,
                         NULL, &e) &&
            bad++ == 0)
            fprintf(stderr, "bench-load: bad reply: %s\n", e.text);
    }
    return bad;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static double percentile_us(const struct load_run *r, unsigned percent)
{
    uint64_t at = r->latencies ? (uint64_t)(r->latencies - 1) * percent / 100 : 0;

    return r->latencies ? (double)r->latency_ns[at] / 1000 : 0;
}

/* The ways of enum load_way. */
static const struct {
    const char *name;
    void (*open)(struct load_run *r);
    uint64_t (*exchange)(struct load_run *r, uint32_t from, uint32_t to);
} ways[] = {
    {"udp",        load_open_udp, load_exchange_udp},
    {"tcp",        load_open_tcp, load_exchange_tcp},
    {"tcp-burst",  load_open_tcp, load_exchange_tcp},
    {"https",      load_open_web, load_exchange_web},
    {"https-each", load_open_web, load_exchange_web},
};

static void report_web(const struct load_run *r)
{
    if (r->o->way >= LOAD_WEB)
        printf("\"connections\":%u,\"resumed\":%u,", r->connections, r->resumed);
}

static void report(struct load_run *r, const struct cost *c, uint32_t bad)
{
    const struct load_options *o = r->o;
    uint32_t count = o->wish.count;

    qsort(r->latency_ns, r->latencies, sizeof *r->latency_ns, by_size);
    printf("{\"kind\":\"%s\",\"way\":\"%s\",\"etype\":%d,\"requests\":%u,\"window\":%u,\"users\":%u,"
           "\"seconds\":%.4f,"
           "\"per_second\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,\"cpu_us\":%.3f,",
           o->raw ? "raw" : bench_kind_name(o->wish.kind), ways[o->way].name, (int)o->etype, count, o->window,
           o->wish.users, (double)c->wall / 1e9, count * 1e9 / (double)c->wall, percentile_us(r, 50),
           percentile_us(r, 99), percentile_us(r, 100), (double)c->server / 1000 / count);
    if (o->beside.count)
        printf("\"beside_us\":%.3f,", (double)c->beside / 1000 / count);
    report_web(r);
    printf("\"lost\":%u,\"odd\":%u,\"verified\":%u,\"bad\":%u,\"request_bytes\":%zu,\"reply_bytes\":%zu}\n",
           r->lost, r->odd, r->kept_count, bad, r->requests[o->warmup].bytes.n,
           r->kept_count ? r->kept[0].reply.n : 0);
}

/* ---- command line ---- */

_Noreturn static void usage(void)
{
    fputs(
        "usage: bench-load --server ADDRESS:PORT --kind as-plain|as-ts|tgs\n"
        "                  [--tcp | --burst | --https [--each] [--resume] [--kdc ADDRESS:PORT]] [--raw "
        "BYTES]\n"
        "                  [--type 18|20] [--count N] [--warmup N] [--window W] [--users N] [--services N]\n"
        "                  [--pid PID]... [--beside PID]...\n"
        "--tcp: a connection for each request, always W of them; --burst: W are begun at once, the next W "
        "when\n"
        "all are answered. --raw sends datagrams of that size without meaning and verifies nothing (for\n"
        "bench-floor). --https: MS-KKDCP, a window of connections that are kept; --each: a connection for "
        "each\n"
        "request; --resume: with the TLS session of the one before; --raw: each reply's body has that size "
        "and no\n"
        "meaning. --kdc: where tickets come from, by UDP. --pid: whose CPU time is divided by the requests,\n"
        "descendants included; --beside: the same, told apart.\n",
        stderr);
    exit(2);
}

static bool add_pid(struct load_pids *p, const char *value)
{
    uint32_t pid;

    if (p->count >= LOAD_PIDS_MAX || !bench_read_number(value, 1u << 30, &pid))
        return false;
    p->v[p->count++] = (pid_t)pid;
    return true;
}

static bool set_way(struct load_options *o, enum load_way way)
{
    bool ok = o->way == LOAD_UDP || (o->way == LOAD_WEB && way == LOAD_WEB_EACH);

    o->way = way;
    return ok;
}

static bool set(void *into, int letter, const char *value)
{
    struct load_options *o = into;

    switch (letter) {
    case 's':
        return bench_read_address(value, &o->server);
    case 'k':
        return bench_find_kind(value, &o->wish.kind);
    case 'e':
        return bench_read_etype(value, &o->etype);
    case 't':
        return set_way(o, LOAD_TCP);
    case 'b':
        return set_way(o, LOAD_BURST);
    case 'h':
        return set_way(o, LOAD_WEB);
    case 'E':
        return set_way(o, LOAD_WEB_EACH);
    case 'R':
        o->resume = true;
        return true;
    case 'K':
        return bench_read_address(value, &o->kdc);
    case 'r':
        o->raw = true;
        return bench_read_number(value, 1500, &o->raw_n);
    case 'c':
        return bench_read_number(value, 10000000, &o->wish.count);
    case 'W':
        return bench_read_number(value, 10000000, &o->warmup);
    case 'w':
        return bench_read_number(value, LOAD_WINDOW_MAX, &o->window);
    case 'u':
        return bench_read_number(value, 100000000, &o->wish.users);
    case 'v':
        return bench_read_number(value, 100000000, &o->wish.services);
    case 'B':
        return add_pid(&o->beside, value);
    default:
        return add_pid(&o->pids, value);
    }
}

static struct load_options parse(int argc, char **argv)
{
    static const struct option names[] = {
        {"server",   1, NULL, 's'},
        {"kind",     1, NULL, 'k'},
        {"type",     1, NULL, 'e'},
        {"tcp",      0, NULL, 't'},
        {"burst",    0, NULL, 'b'},
        {"raw",      1, NULL, 'r'},
        {"count",    1, NULL, 'c'},
        {"warmup",   1, NULL, 'W'},
        {"window",   1, NULL, 'w'},
        {"users",    1, NULL, 'u'},
        {"services", 1, NULL, 'v'},
        {"pid",      1, NULL, 'p'},
        {"beside",   1, NULL, 'B'},
        {"https",    0, NULL, 'h'},
        {"each",     0, NULL, 'E'},
        {"resume",   0, NULL, 'R'},
        {"kdc",      1, NULL, 'K'},
        {NULL,       0, NULL, 0  },
    };
    struct load_options o = {
        .wish = {.count = 10000, .users = 10, .services = 10},
        .warmup = 500,
        .window = 16,
        .etype = ENCTYPE_AES256_CTS_HMAC_SHA1_96
    };

    if (bench_read_options(argc, argv, names, set, &o) != argc || o.server.sin_port == 0 ||
        (o.raw && o.way != LOAD_UDP && o.way < LOAD_WEB))
        usage();
    return o;
}

static void prepare(struct load_run *r)
{
    const struct load_options *o = r->o;
    size_t total = (size_t)o->warmup + o->wish.count;

    bench_init_maker(&r->maker, NULL, o->etype,
                     (struct sp_env){.wall_us = bench_wall_us(), .rng = bench_system_rng()});
    r->requests = bench_map(total * sizeof *r->requests);
    r->latency_ns = bench_map(total * sizeof *r->latency_ns);
    bench_map_arena(&r->big,
                    (total + BENCH_TGTS) * BENCH_REQUEST_ROOM + LOAD_VERIFY_MAX * (size_t)LOAD_REPLY_MAX);
    bench_map_arena(&r->reading, 1u << 20);
    make_requests(r);
}

int main(int argc, char **argv)
{
    struct load_options o = parse(argc, argv);
    static struct load_run r;
    struct cost before, cost;
    uint64_t wall;
    uint32_t bad;

    r.o = &o;
    prepare(&r);
    ways[o.way].open(&r);
    ways[o.way].exchange(&r, 0, o.warmup);
    r.lost = r.odd = r.latencies = 0;
    before = cost_till_now(&o);
    wall = ways[o.way].exchange(&r, o.warmup, o.warmup + o.wish.count);
    cost = cost_till_now(&o);
    cost = (struct cost){wall, cost.server - before.server, cost.beside - before.beside};
    bad = verify(&r);
    report(&r, &cost, bad);
    crypto_free(r.maker.crypto);
    return bad || r.lost || r.odd ? 1 : 0;
}
