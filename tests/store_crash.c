/* SPDX-License-Identifier: MIT */
/* kill -9 at any moment loses no acknowledged change (T111), opens within a second, and leaves no half
 * account. A child writes and says through a pipe what was committed; it is killed; the parent opens the
 * store and compares. Cycles: SALLYPORT_CRASH_CYCLES, default 30. */
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "store/lmdb/lmdb.h"

enum { NAMES = 200 };

static const uint8_t master[32] = "0123456789abcdef0123456789abcde";
static char dir[64];
static uint8_t block[1 << 18];

/* What is known of each name: the generation last acknowledged (0: absent). The one change that was under way
 * when the child died may have happened or not. */
static uint64_t known[NAMES];

struct report {
    int name;
    uint64_t generation; /* 0: deleted */
};

_Noreturn static void stop(const char *what, const char *why)
{
    fprintf(stderr, "FAILED: %s: %s\n", what, why);
    exit(1);
}

static int64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

struct opened {
    struct crypto *crypto;
    struct sp_rng_fixed rng;
    struct lmdb_store *store;
};

static void open_store(struct opened *o, uint64_t seed, enum lmdb_mode mode)
{
    struct sp_err e = {0};

    sp_rng_fixed_init(&o->rng, seed);
    o->crypto = crypto_new(&e);
    o->store = o->crypto ? lmdb_open(dir, mode, master, o->crypto, &o->rng.rng, &e) : NULL;
    if (!o->store)
        stop("open", e.text);
}

static void close_store(struct opened *o)
{
    lmdb_close(o->store);
    crypto_free(o->crypto);
}

/* Finds "nN" or its alias "aN"; false when absent. */
static bool get(struct opened *o, int name, char letter, struct store_account *out)
{
    struct store_lookup *l = lmdb_lookup(o->store);
    struct sp_arena mem;
    struct sp_err e = {0};
    char key[16];
    bool ok;

    sp_arena_init(&mem, block, sizeof block);
    snprintf(key, sizeof key, "%c%d", letter, name);
    ok = l->find(l, sp_str(key), &mem, out, &e);
    lmdb_settle(o->store);
    if (!ok && e.kind != SP_ENOTFOUND)
        stop("find", e.text);
    return ok;
}

static uint64_t change(struct opened *o, int name)
{
    struct store_account a;
    struct store_key key = {
        .key = {.n = 32, .etype = 18, .keep = true},
          .kvno = 1
    };
    char own[16], alias[16];
    struct sp_span alias_span;
    struct sp_err e = {0};
    uint32_t dice;

    snprintf(own, sizeof own, "n%d", name);
    snprintf(alias, sizeof alias, "a%d", name);
    alias_span = sp_str(alias);
    sp_rng_fill(&o->rng.rng, &dice, sizeof dice);
    if (!get(o, name, 'n', &a)) {
        a = (struct store_account){.kind = STORE_USER};
    } else if (dice % 8 == 0) {
        if (!lmdb_delete(o->store, a.id, &e))
            stop("delete", e.text);
        return 0;
    }
    a.generation++;
    a.name = a.lookup = sp_str(own);
    a.aliases = a.alias_lookups = (struct sp_spans){&alias_span, 1};
    key.kvno = (uint32_t)a.generation;
    memset(key.key.b, (int)(a.generation & 0xff), key.key.n);
    a.keys = &key;
    a.key_count = 1;
    if (!lmdb_put(o->store, &a, &e))
        stop("put", e.text);
    return a.generation;
}

_Noreturn static void write_until_killed(int fd, uint64_t seed)
{
    struct opened o;

    open_store(&o, seed, LMDB_WRITE);
    for (;;) {
        struct report r = {0};
        uint32_t dice;

        sp_rng_fill(&o.rng.rng, &dice, sizeof dice);
        r.name = (int)(dice % NAMES);
        r.generation = change(&o, r.name);
        if (write(fd, &r, sizeof r) != sizeof r)
            _exit(1);
    }
}

static uint64_t acknowledged;

static void collect(int fd)
{
    struct report r;

    while (read(fd, &r, sizeof r) == sizeof r) {
        known[r.name] = r.generation;
        acknowledged++;
    }
}

static void check_one(struct opened *o, int name, int *unsure)
{
    struct store_account a, by_alias;
    bool there = get(o, name, 'n', &a);
    uint64_t generation = there ? a.generation : 0;
    char what[64];

    snprintf(what, sizeof what, "n%d", name);
    if (get(o, name, 'a', &by_alias) != there || (there && by_alias.id != a.id))
        stop(what, "name and alias disagree");
    if (there) {
        get(o, name, 'n', &a); /* the alias's look-up used the same memory */
        if (a.key_count != 1 || a.keys[0].kvno != generation || a.keys[0].key.b[5] != (uint8_t)generation)
            stop(what, "half an account");
    }
    if (generation == known[name])
        return;
    if (generation != 0 && generation != known[name] + 1)
        stop(what, "an acknowledged change is lost");
    known[name] = generation; /* the change under way, committed but not yet reported: one at most */
    ++*unsure;
}

static int64_t check_all(void)
{
    struct opened o;
    int64_t start = now_us(), took;
    int unsure = 0;

    open_store(&o, 1, LMDB_WRITE);
    took = now_us() - start;
    for (int i = 0; i < NAMES; i++)
        check_one(&o, i, &unsure);
    if (unsure > 1)
        stop("store", "more than one change differs from what was acknowledged");
    close_store(&o);
    return took;
}

static int64_t cycle(uint64_t seed)
{
    int fd[2];
    pid_t child;

    if (pipe(fd) != 0)
        stop("pipe", "cannot be made");
    child = fork();
    if (child < 0)
        stop("fork", "not possible");
    if (child == 0) {
        close(fd[0]);
        write_until_killed(fd[1], seed);
    }
    close(fd[1]);
    if (seed % 2) /* on a busy machine the child may not get to its first commit in time */
        (void)poll(&(struct pollfd){.fd = fd[0], .events = POLLIN}, 1, 5000);
    usleep((useconds_t)(seed * 7919 % 40000)); /* anywhere between start and some dozens of commits */
    kill(child, SIGKILL);
    collect(fd[0]);
    close(fd[0]);
    waitpid(child, NULL, 0);
    return check_all();
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

int main(void)
{
    const char *env = getenv("SALLYPORT_CRASH_CYCLES");
    int cycles = env ? atoi(env) : 30;
    int64_t slowest = 0;
    struct opened o;

    snprintf(dir, sizeof dir, "/tmp/sp-crash-XXXXXX");
    if (!mkdtemp(dir))
        stop(dir, "cannot be made");
    open_store(&o, 1, LMDB_CREATE);
    close_store(&o);
    for (int i = 1; i <= cycles; i++) {
        int64_t took = cycle((uint64_t)i);

        slowest = took > slowest ? took : slowest;
    }
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    printf("%d kills, %llu acknowledged changes, none lost; slowest start %lld us\n", cycles,
           (unsigned long long)acknowledged, (long long)slowest);
    if (slowest > 1000000)
        stop("start", "took more than a second");
    return acknowledged > 0 ? 0 : 1;
}
