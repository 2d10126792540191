/* SPDX-License-Identifier: MIT */
/* A closed loop of Kerberos requests over UDP: W outstanding at any time, all made before the clock starts,
 * each different from all others. One thread; each of the W sockets has one request under way, and they are
 * waited for in turn, so that the client itself costs two system calls a request. Prints one JSON object. */
#include "cputime.h"
#include "requests.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WINDOW_MAX 256
#define REPLY_MAX 65536
#define VERIFY_MAX 200
#define PIDS_MAX 8
#define TIMEOUT_S 2
#define DRAIN_MS 20 /* until a server that has answered everything sleeps, and its account is exact */

struct options {
    struct sockaddr_in server;
    enum bench_kind kind;
    bool raw; /* datagrams without a meaning, for the floor */
    size_t raw_n;
    uint32_t count, warmup, window, users, services;
    pid_t pids[PIDS_MAX];
    uint32_t pid_count;
};

struct slot {
    int fd;
    uint32_t request;
    uint64_t sent_ns;
};

struct kept {
    uint32_t request;
    struct sp_span reply;
};

struct run {
    const struct options *o;
    struct bench_maker maker;
    struct bench_request *requests;
    struct sp_arena big;     /* requests and kept replies */
    struct sp_arena reading; /* reset for every reply read */
    struct slot slots[WINDOW_MAX];
    uint32_t *latency_ns;
    uint32_t lost, odd, latencies;
    struct kept kept[VERIFY_MAX];
    uint32_t kept_count;
    uint8_t reply[REPLY_MAX];
};

_Noreturn static void die(const char *what, const struct sp_err *e)
{
    fprintf(stderr, "bench-load: %s%s%s\n", what, e ? ": " : "", e ? e->text : "");
    exit(1);
}

static void *map(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        die("no memory", NULL);
    return p;
}

static uint64_t mono_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int64_t wall_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int dial(const struct options *o)
{
    struct timeval wait = {.tv_sec = TIMEOUT_S};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (const struct sockaddr *)&o->server, sizeof o->server) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) != 0)
        die("cannot reach the server's address", NULL);
    return fd;
}

/* ---- making requests ---- */

static void ask_once(struct run *r, const struct bench_request *q, struct bench_tgt *tgt)
{
    int fd = dial(r->o);
    ssize_t n = send(fd, q->bytes.p, q->bytes.n, 0);
    struct sp_err e = {0};

    if (n >= 0)
        n = recv(fd, r->reply, sizeof r->reply, 0);
    if (n < 0)
        die("no answer while fetching tickets", NULL);
    sp_arena_reset(&r->reading);
    if (!bench_check(r->maker.crypto, q, sp_span(r->reply, (size_t)n), &r->reading, tgt, &e))
        die("cannot get a ticket", &e);
    close(fd);
}

static void fetch_tgts(struct run *r)
{
    struct sp_err e = {0};
    struct bench_request q;

    for (uint32_t i = 0; i < BENCH_TGTS; i++) {
        if (!bench_make(&r->maker, BENCH_AS_TS, 1 + i % r->o->users, 1, &r->big, &q, &e))
            die("cannot make a request", &e);
        ask_once(r, &q, &r->maker.tgt[i]);
    }
}

static uint32_t random_below(struct run *r, uint32_t n)
{
    uint32_t x;

    sp_rng_fill(r->maker.env.rng, &x, sizeof x);
    return x % n;
}

static void make_raw(struct run *r, struct bench_request *q)
{
    struct sp_err e = {0};
    uint8_t *p = sp_alloc(&r->big, r->o->raw_n, &e);

    if (!p)
        die("no room for requests", &e);
    sp_rng_fill(r->maker.env.rng, p, r->o->raw_n);
    *q = (struct bench_request){.bytes = sp_span(p, r->o->raw_n)};
}

static void make_requests(struct run *r)
{
    const struct options *o = r->o;
    struct sp_err e = {0};

    for (uint32_t i = 0; i < o->warmup + o->count; i++)
        if (o->raw)
            make_raw(r, &r->requests[i]);
        else if (!bench_make(&r->maker, o->kind, 1 + random_below(r, o->users),
                             1 + random_below(r, o->services), &r->big, &r->requests[i], &e))
            die("cannot make a request", &e);
}

/* ---- the loop ---- */

static void send_next(struct run *r, struct slot *s, uint32_t i)
{
    const struct sp_span b = r->requests[i].bytes;

    s->request = i;
    s->sent_ns = mono_ns();
    if (send(s->fd, b.p, b.n, 0) != (ssize_t)b.n)
        die("send failed: is the server there?", NULL);
}

/* Replies to verify are spread over the run. */
static void keep(struct run *r, uint32_t request, size_t n)
{
    struct sp_err e = {0};
    uint32_t every = (r->o->count + VERIFY_MAX - 1) / VERIFY_MAX;

    if (r->o->raw || r->kept_count == VERIFY_MAX || request < r->o->warmup ||
        (request - r->o->warmup) % every)
        return;
    r->kept[r->kept_count] = (struct kept){request, sp_dup(&r->big, sp_span(r->reply, n), &e)};
    if (!sp_ok(&e))
        die("no room for replies", &e);
    r->kept_count++;
}

static void receive(struct run *r, struct slot *s)
{
    ssize_t n = recv(s->fd, r->reply, sizeof r->reply, 0);
    uint64_t took = mono_ns() - s->sent_ns;

    if (n < 0) {
        r->lost++;
        close(s->fd); /* an answer that comes late must not be taken for the next one's */
        s->fd = dial(r->o);
        return;
    }
    if (s->request >= r->o->warmup)
        r->latency_ns[r->latencies++] = (uint32_t)took;
    if (!r->o->raw && !bench_looks_right(r->o->kind, sp_span(r->reply, (size_t)n)))
        r->odd++;
    keep(r, s->request, (size_t)n);
}

/* Sends requests from..to and waits for all of them; wall nanoseconds. */
static uint64_t exchange(struct run *r, uint32_t from, uint32_t to)
{
    uint64_t began = mono_ns();
    uint32_t sent = from, done = from, window = r->o->window;

    while (sent < to && sent - from < window) {
        send_next(r, &r->slots[sent - from], sent);
        sent++;
    }
    for (; done < to; done++) {
        struct slot *s = &r->slots[(done - from) % window];

        receive(r, s);
        if (sent < to)
            send_next(r, s, sent++);
    }
    return mono_ns() - began;
}

static uint64_t cpu_of_server(const struct options *o)
{
    uint64_t sum = 0;

    usleep(DRAIN_MS * 1000);
    for (uint32_t i = 0; i < o->pid_count; i++)
        sum += bench_cpu_ns(o->pids[i]);
    return sum;
}

static uint32_t verify(struct run *r)
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
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static double percentile_us(const struct run *r, unsigned percent)
{
    return r->latencies ? (double)r->latency_ns[(uint64_t)(r->latencies - 1) * percent / 100] / 1000 : 0;
}

static void report(struct run *r, uint64_t wall_ns, uint64_t cpu_ns, uint32_t bad)
{
    const struct options *o = r->o;

    qsort(r->latency_ns, r->latencies, sizeof *r->latency_ns, by_size);
    printf(
        "{\"kind\":\"%s\",\"requests\":%u,\"window\":%u,\"users\":%u,\"seconds\":%.4f,\"per_second\":%.0f,"
        "\"p50_us\":%.1f,\"p99_us\":%.1f,\"cpu_us\":%.3f,\"lost\":%u,\"odd\":%u,\"verified\":%u,\"bad\":%u,"
        "\"request_bytes\":%zu,\"reply_bytes\":%zu}\n",
        o->raw ? "raw" : bench_kind_name(o->kind), o->count, o->window, o->users, (double)wall_ns / 1e9,
        o->count * 1e9 / (double)wall_ns, percentile_us(r, 50), percentile_us(r, 99),
        (double)cpu_ns / 1000 / o->count, r->lost, r->odd, r->kept_count, bad, r->requests[o->warmup].bytes.n,
        r->kept_count ? r->kept[0].reply.n : 0);
}

/* ---- command line ---- */

static void usage(void)
{
    fputs("usage: bench-load --server ADDRESS:PORT --kind as-plain|as-ts|tgs [--raw BYTES] [--count N] "
          "[--warmup N]\n"
          "                  [--window W] [--users N] [--services N] [--pid PID]...\n"
          "--raw sends datagrams of that size without meaning and verifies nothing (for bench-floor).\n"
          "--pid: whose CPU time is divided by the requests, descendants included.\n",
          stderr);
    exit(2);
}

static uint32_t number(const char *text, uint32_t max)
{
    uint64_t n;

    if (!sp_decimal(sp_str(text), max, &n) || n == 0)
        usage();
    return (uint32_t)n;
}

static void set_server(struct options *o, char *text)
{
    char *colon = strrchr(text, ':');

    if (!colon)
        usage();
    *colon = 0;
    o->server.sin_family = AF_INET;
    o->server.sin_port = htons((uint16_t)number(colon + 1, 65535));
    if (inet_pton(AF_INET, text, &o->server.sin_addr) != 1)
        usage();
}

static void set(struct options *o, int letter, char *value)
{
    switch (letter) {
    case 's':
        set_server(o, value);
        break;
    case 'k':
        if (!bench_find_kind(value, &o->kind))
            usage();
        break;
    case 'r':
        o->raw = true;
        o->raw_n = number(value, 65000);
        break;
    case 'c':
        o->count = number(value, 10000000);
        break;
    case 'W':
        o->warmup = number(value, 10000000);
        break;
    case 'w':
        o->window = number(value, WINDOW_MAX);
        break;
    case 'u':
        o->users = number(value, 100000000);
        break;
    case 'v':
        o->services = number(value, 100000000);
        break;
    case 'p':
        if (o->pid_count == PIDS_MAX)
            usage();
        o->pids[o->pid_count++] = (pid_t)number(value, 1u << 30);
        break;
    default:
        usage();
    }
}

static struct options parse(int argc, char **argv)
{
    static const struct option names[] = {
        {"server",   1, NULL, 's'},
        {"kind",     1, NULL, 'k'},
        {"raw",      1, NULL, 'r'},
        {"count",    1, NULL, 'c'},
        {"warmup",   1, NULL, 'W'},
        {"window",   1, NULL, 'w'},
        {"users",    1, NULL, 'u'},
        {"services", 1, NULL, 'v'},
        {"pid",      1, NULL, 'p'},
        {NULL,       0, NULL, 0  },
    };
    struct options o = {.count = 10000, .warmup = 500, .window = 16, .users = 10, .services = 10};
    int letter;

    while ((letter = getopt_long(argc, argv, "", names, NULL)) != -1)
        set(&o, letter, optarg);
    if (optind != argc || o.server.sin_port == 0)
        usage();
    return o;
}

int main(int argc, char **argv)
{
    struct options o = parse(argc, argv);
    struct sp_err e = {0};
    static struct run r;
    uint32_t total = o.warmup + o.count, bad;
    size_t room = ((size_t)total + BENCH_TGTS) * 2048 + VERIFY_MAX * (size_t)REPLY_MAX;
    uint64_t wall, cpu;

    r.o = &o;
    r.maker = (struct bench_maker){.crypto = crypto_new(&e), .scratch = map(BENCH_SCRATCH)};
    r.maker.env = (struct sp_env){.wall_us = wall_us(), .rng = bench_system_rng()};
    if (!r.maker.crypto)
        die("crypto", &e);
    r.requests = map(total * sizeof *r.requests);
    r.latency_ns = map(total * sizeof *r.latency_ns);
    sp_arena_init(&r.big, map(room), room);
    sp_arena_init(&r.reading, map(1u << 20), 1u << 20);
    if (!o.raw && o.kind == BENCH_TGS)
        fetch_tgts(&r);
    make_requests(&r);
    for (uint32_t i = 0; i < o.window; i++)
        r.slots[i].fd = dial(&o);
    exchange(&r, 0, o.warmup);
    r.lost = r.odd = r.latencies = 0;
    cpu = cpu_of_server(&o);
    wall = exchange(&r, o.warmup, total);
    cpu = cpu_of_server(&o) - cpu;
    bad = verify(&r);
    report(&r, wall, cpu, bad);
    crypto_free(r.maker.crypto);
    return bad || r.lost || r.odd ? 1 : 0;
}
