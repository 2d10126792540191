/* SPDX-License-Identifier: MIT */
/* The engine alone, in one process: kdc_step over a real store, no sockets. For callgrind (collect at the
 * function bench_steps) and for nanoseconds per step. Replies are verified like those of the load generator.
 */
#include "arguments.h"
#include "setup.h"

#include "kdc/kdc.h"
#include "store/lmdb/lmdb.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SERVICES = 10, ARENA = 1 << 20, REPLY_ROOM = 2048 };

struct engine {
    struct kdc kdc;
    struct kdc_config config;
    struct bench_maker maker;
    struct sp_arena arena, big;
    struct lmdb_store *store;
    uint32_t users;
};

/* ---- the realm ---- */

static void put(struct engine *g, enum store_kind kind, const char *name, enum bench_owner owner, uint32_t i)
{
    struct sp_err e = {0};
    struct store_key keys[2] = {{.kvno = 1}, {.kvno = 1}};
    struct store_account a = {.generation = 1,
                              .kind = kind,
                              .name = sp_str(name),
                              .lookup = sp_str(name),
                              .keys = keys,
                              .key_count = 2,
                              .created_s = 1,
                              .changed_s = 1};

    if (!bench_key(g->kdc.crypto, owner, i, 18, &keys[0].key, &e) ||
        !bench_key(g->kdc.crypto, owner, i, 17, &keys[1].key, &e) || !lmdb_put_many(g->store, &a, 1, &e))
        bench_die("cannot write an account", &e);
}

static void fill_realm(struct engine *g)
{
    char name[2 * BENCH_NAME_MAX], part[BENCH_NAME_MAX];

    put(g, STORE_KRBTGT, "krbtgt/bench.test", BENCH_SERVER, 0);
    for (uint32_t i = 1; i <= g->users; i++) {
        snprintf(name, sizeof name, "%.*s", SP_FMT(bench_user_name(i, part)));
        put(g, STORE_USER, name, BENCH_USER, i);
    }
    for (uint32_t i = 1; i <= SERVICES; i++) {
        snprintf(name, sizeof name, BENCH_SERVICE "/%.*s", SP_FMT(bench_service_instance(i, part)));
        put(g, STORE_SERVICE, name, BENCH_SERVER, i);
    }
}

static void init(struct engine *g, const char *dir, struct sp_rng *rng)
{
    static const uint8_t master[32] = {1}, secret[16] = {2};
    struct sp_err e = {0};
    size_t shared = kdc_shared_bytes((struct kdc_shared_size){0});

    g->kdc.crypto = crypto_new(&e);
    if (!g->kdc.crypto)
        bench_die("crypto", &e);
    g->store = lmdb_open(dir, LMDB_CREATE, master, g->kdc.crypto, rng, &e);
    if (!g->store)
        bench_die("store", &e);
    kdc_config_defaults(&g->config, KDC_STANDARD);
    g->config.realm.name = sp_str(BENCH_REALM);
    g->config.challenge = KDC_CHALLENGE_ON_SUPPORT; /* as for all servers that bench/kdc starts */
    g->kdc.config = &g->config;
    g->kdc.accounts = lmdb_lookup(g->store);
    g->kdc.shared = kdc_shared_init(bench_map(shared), (struct kdc_shared_size){0}, secret);
    bench_map_arena(&g->arena, ARENA);
    bench_init_maker(&g->maker, g->kdc.crypto, ENCTYPE_AES256_CTS_HMAC_SHA1_96,
                     (struct sp_env){bench_wall_us(), (int64_t)bench_mono_ns() / 1000, rng});
    fill_realm(g);
}

/* ---- the steps ---- */

static struct kdc_request request_of(struct sp_span bytes)
{
    struct kdc_request q = {
        .bytes = bytes, .door = KDC_UDP, .local_address = {127, 0, 0, 1},
                .local_address_n = 4
    };

    q.source.id[0] = 4;
    q.source.loopback = true;
    memcpy(q.source.text, "127.0.0.1", 10);
    return q;
}

/* Replies are copied out, as a socket would. */
__attribute__((noinline)) static void bench_steps(struct engine *g, const struct kdc_request *q, size_t count,
                                                  uint8_t (*replies)[REPLY_ROOM], uint32_t *sizes)
{
    for (size_t i = 0; i < count; i++) {
        struct kdc_actions out;

        sp_arena_reset(&g->arena);
        kdc_step(&g->kdc, g->maker.env, &q[i], &g->arena, &out);
        sizes[i] = (uint32_t)out.reply.n;
        if (out.reply.n <= REPLY_ROOM && out.reply.n > 0)
            memcpy(replies[i], out.reply.p, out.reply.n);
    }
}

static struct sp_span step_once(void *asker, struct sp_span request)
{
    static uint8_t reply[1][REPLY_ROOM];
    struct kdc_request q = request_of(request);
    uint32_t size;

    bench_steps(asker, &q, 1, reply, &size);
    return sp_span(reply[0], size);
}

static void verify(struct engine *g, const struct bench_request *r, size_t count,
                   uint8_t (*replies)[REPLY_ROOM], const uint32_t *sizes)
{
    for (size_t i = 0; i < count; i++) {
        struct sp_err e = {0};

        sp_arena_reset(&g->arena);
        if (!bench_check(g->kdc.crypto, &r[i], sp_span(replies[i], sizes[i]), &g->arena, NULL, &e))
            bench_die("a bad reply", &e);
    }
}

static int64_t cpu_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void run(struct engine *g, enum bench_kind kind, uint32_t count)
{
    struct bench_request *r = bench_map(count * sizeof *r);
    struct kdc_request *q = bench_map(count * sizeof *q);
    uint8_t(*replies)[REPLY_ROOM] = bench_map(count * REPLY_ROOM);
    uint32_t *sizes = bench_map(count * sizeof *sizes);
    int64_t began;

    if (kind == BENCH_TGS)
        bench_fetch_tgts(&g->maker, g->users, &g->big, &g->arena, step_once, g);
    bench_make_many(&g->maker, &(struct bench_wish){kind, (uint32_t)count, g->users, SERVICES}, &g->big, r);
    for (size_t i = 0; i < count; i++)
        q[i] = request_of(r[i].bytes);
    memset(replies, 0, count * REPLY_ROOM); /* page faults are not the engine's */
    began = cpu_us();
    bench_steps(g, q, count, replies, sizes);
    began = cpu_us() - began;
    verify(g, r, count, replies, sizes);
    printf("{\"kind\":\"%s\",\"requests\":%u,\"users\":%u,\"cpu_us\":%.3f,\"reply_"
           "bytes\":%u}\n",
           bench_kind_name(kind), count, g->users, (double)began / (double)count, sizes[0]);
}

static void usage(void)
{
    fputs("usage: bench-engine --kind as-plain|as-ts|tgs --dir EMPTY-DIRECTORY [--count N] [--users N]\n",
          stderr);
    exit(2);
}

struct wish {
    enum bench_kind kind;
    const char *dir;
    uint32_t count, users;
};

static bool set(void *into, int letter, const char *value)
{
    struct wish *w = into;

    switch (letter) {
    case 'k':
        return bench_find_kind(value, &w->kind);
    case 'd':
        w->dir = value;
        return true;
    case 'c':
        return bench_read_number(value, 1000000, &w->count);
    default:
        return bench_read_number(value, 10000000, &w->users);
    }
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"kind",  1, NULL, 'k'},
        {"dir",   1, NULL, 'd'},
        {"count", 1, NULL, 'c'},
        {"users", 1, NULL, 'u'},
        {NULL,    0, NULL, 0  },
    };
    static struct engine g;
    static struct sp_rng_fixed rng;
    struct wish w = {.kind = BENCH_AS_TS, .count = 10000, .users = 100};

    if (bench_read_options(argc, argv, names, set, &w) != argc || !w.dir)
        usage();
    g.users = w.users;
    sp_rng_fixed_init(&rng, 1);
    bench_map_arena(&g.big, ((size_t)w.count + BENCH_TGTS) * BENCH_REQUEST_ROOM);
    init(&g, w.dir, &rng.rng);
    run(&g, w.kind, w.count);
    lmdb_close(g.store);
    crypto_free(g.kdc.crypto);
    return 0;
}
