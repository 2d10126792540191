/* SPDX-License-Identifier: MIT */
#include "setup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

_Noreturn void bench_die(const char *what, const struct sp_err *e)
{
    fprintf(stderr, "%s: %s%s%s\n", program_invocation_short_name, what, e ? ": " : "", e ? e->text : "");
    exit(1);
}

void *bench_map(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        bench_die("no memory", NULL);
    return p;
}

void bench_map_arena(struct sp_arena *a, size_t n)
{
    sp_arena_init(a, bench_map(n), n);
}

int64_t bench_wall_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

uint64_t bench_mono_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void bench_init_maker(struct bench_maker *m, struct crypto *crypto, int32_t etype, struct sp_env env)
{
    struct sp_err e = {0};

    *m = (struct bench_maker){.crypto = crypto, .etype = etype, .env = env};
    m->scratch = bench_map(BENCH_SCRATCH);
    if (!m->crypto)
        m->crypto = crypto_new(&e);
    if (!m->crypto)
        bench_die("crypto", &e);
}

void bench_fetch_tgts(struct bench_maker *m, uint32_t users, struct sp_arena *big, struct sp_arena *reading,
                      bench_ask_fn *ask, void *asker)
{
    struct sp_err e = {0};

    for (uint32_t i = 0; i < BENCH_TGTS; i++) {
        struct bench_request q;
        struct sp_span reply;

        if (!bench_make(m, BENCH_AS_TS, 1 + i % users, 1, big, &q, &e))
            bench_die("cannot make a request", &e);
        reply = ask(asker, q.bytes);
        sp_arena_reset(reading);
        if (!bench_check(m->crypto, &q, reply, reading, &m->tgt[i], &e))
            bench_die("cannot get a ticket", &e);
    }
}

static uint32_t random_below(struct bench_maker *m, uint32_t n)
{
    uint32_t x;

    sp_rng_fill(m->env.rng, &x, sizeof x);
    return x % n;
}

void bench_make_many(struct bench_maker *m, const struct bench_wish *w, struct sp_arena *big,
                     struct bench_request *out)
{
    struct sp_err e = {0};

    for (uint32_t i = 0; i < w->count; i++)
        if (!bench_make(m, w->kind, 1 + random_below(m, w->users), 1 + random_below(m, w->services), big,
                        &out[i], &e))
            bench_die("cannot make a request", &e);
}
