/* SPDX-License-Identifier: MIT */
/* The lock, idle memory and crypto backends, random bytes. */
#include "plugin/mech/kept.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "base/secret.h"

#define IDLE_MAX 16
#define BLOCKS_MAX 4
#define BLOCK_TOUCHED_MAX (256 * 1024) /* more goes back to the kernel */
#define POOL_N 4096
#define DRAW_MAX 256 /* longer requests are the kernel's */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t prepared = PTHREAD_ONCE_INIT;

/* ---- the lock ---- */

static void hold(void)
{
    (void)pthread_mutex_lock(&lock);
}

static void let_go(void)
{
    (void)pthread_mutex_unlock(&lock);
}

static void prepare(void)
{
    (void)pthread_atfork(hold, let_go, let_go);
}

void kept_lock(void)
{
    (void)pthread_once(&prepared, prepare);
    hold();
}

void kept_unlock(void)
{
    let_go();
}

/* ---- memory of contexts: mapping it, and every page of it anew, costs more than an AP exchange ---- */

static struct {
    void *v[BLOCKS_MAX];
    size_t count;
} blocks;

void *kept_map(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    (void)madvise(p, n, MADV_DONTDUMP); /* it will hold keys */
    return p;
}

void *mech_take_block(struct sp_err *e)
{
    void *p = NULL;

    kept_lock();
    if (blocks.count > 0)
        p = blocks.v[--blocks.count];
    kept_unlock();
    if (!p)
        p = kept_map(MECH_BLOCK_N);
    if (!p)
        (void)sp_fail(e, SP_ENOMEM, 0, "out of memory");
    return p;
}

void mech_give_block(void *block, size_t touched)
{
    if (!block)
        return;
    kept_lock();
    if (touched <= BLOCK_TOUCHED_MAX && blocks.count < BLOCKS_MAX) {
        blocks.v[blocks.count++] = block;
        block = NULL;
    }
    kept_unlock();
    if (block)
        (void)munmap(block, MECH_BLOCK_N);
}

/* ---- crypto backends ---- */

static struct {
    struct crypto *v[IDLE_MAX];
    size_t count;
} idle;

struct crypto *mech_take_crypto(struct sp_err *e)
{
    struct crypto *c = NULL;

    kept_lock();
    if (idle.count > 0)
        c = idle.v[--idle.count];
    kept_unlock();
    return c ? c : crypto_new(e);
}

void mech_give_crypto(struct crypto *c)
{
    kept_lock();
    if (c && idle.count < IDLE_MAX) {
        idle.v[idle.count++] = c;
        c = NULL;
    }
    kept_unlock();
    crypto_free(c);
}

/* ---- random bytes, drawn by the page ---- */

/* The kernel empties this page in a child: nobody hands out what a parent still has. */
static struct pool {
    size_t left;
    uint8_t bytes[POOL_N - sizeof(size_t)];
} * pool;

static struct pool *make_pool(void)
{
    void *p = kept_map(POOL_N);

    if (p && madvise(p, POOL_N, MADV_WIPEONFORK) == 0)
        return p;
    if (p)
        (void)munmap(p, POOL_N);
    return NULL;
}

/* False: ask the kernel, it may have to wait. */
static bool refill(size_t n)
{
    if (!pool)
        pool = make_pool();
    if (!pool)
        return false;
    if (pool->left < n) {
        ssize_t got = getrandom(pool->bytes, sizeof pool->bytes, GRND_NONBLOCK);

        pool->left = got == (ssize_t)sizeof pool->bytes ? sizeof pool->bytes : 0;
    }
    return pool->left >= n;
}

static void fill(struct sp_rng *rng, void *p, size_t n)
{
    bool drawn = false;

    (void)rng;
    if (n <= DRAW_MAX) {
        kept_lock();
        drawn = refill(n);
        if (drawn) {
            pool->left -= n;
            memcpy(p, pool->bytes + pool->left, n);
            sp_wipe(pool->bytes + pool->left, n);
        }
        kept_unlock();
    }
    if (!drawn) {
        struct sp_env world = host_env();

        sp_rng_fill(world.rng, p, n);
    }
}

struct sp_env mech_env(void)
{
    static struct sp_rng rng = {fill};
    struct sp_env env = host_env();

    env.rng = &rng;
    return env;
}
