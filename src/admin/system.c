/* SPDX-License-Identifier: MIT */
/* The operating system's time and chance. */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

#include "admin/private.h"

/* One mapping that a fork empties: `left` becomes 0 in the child, which then draws its own bytes. */
struct pool {
    size_t left;
    uint8_t b[4096 - sizeof(size_t)];
};

struct system_rng {
    struct sp_rng rng;
    struct pool *pool; /* NULL: no such mapping here; every call draws */
};

static void draw(void *p, size_t n)
{
    uint8_t *at = p;

    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            fputs("sallyport: the system gives no random bytes\n", stderr);
            abort();
        }
        at += got;
        n -= (size_t)got;
    }
}

static void fill(struct sp_rng *rng, void *p, size_t n)
{
    struct pool *pool = ((struct system_rng *)rng)->pool;

    if (!pool || n > sizeof pool->b) {
        draw(p, n);
        return;
    }
    if (pool->left < n) {
        draw(pool->b, sizeof pool->b);
        pool->left = sizeof pool->b;
    }
    pool->left -= n;
    memcpy(p, pool->b + pool->left, n);
    sp_wipe(pool->b + pool->left, n);
}

static struct pool *make_pool(void)
{
    void *p = mmap(NULL, sizeof(struct pool), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    if (madvise(p, sizeof(struct pool), MADV_WIPEONFORK) == 0)
        return p;
    munmap(p, sizeof(struct pool));
    return NULL;
}

struct sp_rng *admin_system_rng(void)
{
    static struct system_rng r;

    if (!r.rng.fill) {
        r.pool = make_pool();
        r.rng.fill = fill;
    }
    return &r.rng;
}

static int64_t clock_us(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

struct sp_env admin_env(void)
{
    return (struct sp_env){clock_us(CLOCK_REALTIME), clock_us(CLOCK_MONOTONIC), admin_system_rng()};
}

int64_t admin_mono_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

int64_t admin_now_s(void)
{
    return clock_us(CLOCK_REALTIME) / 1000000;
}

static void wipe_and_free(void *p)
{
    if (p)
        sp_wipe(p, malloc_usable_size(p));
    free(p);
}

void admin_wipe_json(void)
{
    cJSON_Hooks hooks = {malloc, wipe_and_free};

    cJSON_InitHooks(&hooks);
}
