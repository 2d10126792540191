/* SPDX-License-Identifier: MIT */
#include "daemon/tally.h"

#include <stdatomic.h>

#include "daemon/channel.h"

#define KINDS 256u
#define SOURCES 32768u
#define PROBES 16u

struct held { /* by one worker */
    _Alignas(64) _Atomic uint32_t streams;
    _Atomic int64_t oldest_us;
};

struct tally {
    uint64_t key;
    _Atomic uint32_t epoch;
    _Atomic uint32_t workers; /* the highest that ever held something, plus 1 */
    _Atomic uint64_t kinds[KINDS];
    _Atomic uint64_t sources[SOURCES];
    struct held held[WORKERS_MAX];
};

size_t tally_bytes(void)
{
    return sizeof(struct tally);
}

struct tally *tally_init(void *block, uint64_t key)
{
    struct tally *t = block;

    t->key = key;
    return t;
}

static uint64_t mix(uint64_t h, const uint8_t *p, size_t n)
{
    for (; n > 0; n--)
        h = (h ^ *p++) * 0x100000001b3u;
    h ^= h >> 32;
    return h * 0x9e3779b97f4a7c15u;
}

/* ---- records: 20 bits of kind, 16 of second, 28 of count ---- */

#define KIND_OF(v) ((uint32_t)((v) >> 44))
#define SECOND_OF(v) ((uint16_t)((v) >> 28))
#define SEEN_OF(v) ((uint32_t)(v)&0xfffffffu)

uint32_t tally_kind(const char *event, int32_t code)
{
    uint64_t h = mix(14695981039346656037u, (const uint8_t *)event, strlen(event));

    return (uint32_t)(mix(h, (const uint8_t *)&code, sizeof code) >> 44);
}

/* 0: the place is somebody else's in this second; else 1 + how many were seen before. A worker whose clock
 * reading is a little older counts into the newer second. */
static uint32_t see_at(_Atomic uint64_t *at, uint32_t kind, uint16_t second)
{
    uint64_t v = atomic_load_explicit(at, memory_order_relaxed), next;
    bool stale;

    do {
        stale = v == 0 || (int16_t)(second - SECOND_OF(v)) > 0;
        if (!stale && KIND_OF(v) != kind)
            return 0;
        next = stale ? (uint64_t)kind << 44 | (uint64_t)second << 28 | 1 : v + (SEEN_OF(v) < 0xfffffffu);
    } while (
        !atomic_compare_exchange_weak_explicit(at, &v, next, memory_order_relaxed, memory_order_relaxed));
    return stale ? 1 : 1 + SEEN_OF(v);
}

uint32_t tally_see_kind(struct tally *t, uint32_t kind, int64_t second)
{
    uint32_t seen = 0;

    for (uint32_t i = 0; i < PROBES && seen == 0; i++)
        seen = see_at(&t->kinds[(kind + i) % KINDS], kind, (uint16_t)second);
    return seen ? seen - 1 : 0;
}

/* ---- connections ---- */

void tally_set_streams(struct tally *t, uint32_t worker, uint32_t count, int64_t oldest_us)
{
    struct held *h = &t->held[worker % WORKERS_MAX];
    uint32_t seen = atomic_load(&t->workers);

    while (seen <= worker && !atomic_compare_exchange_weak(&t->workers, &seen, worker + 1))
        continue;
    atomic_store_explicit(&h->oldest_us, oldest_us, memory_order_relaxed);
    atomic_store_explicit(&h->streams, count, memory_order_release);
}

static uint32_t workers_of(const struct tally *t)
{
    uint32_t n = atomic_load_explicit(&t->workers, memory_order_relaxed);

    return n < WORKERS_MAX ? n : WORKERS_MAX;
}

uint32_t tally_streams(const struct tally *t)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < workers_of(t); i++)
        sum += atomic_load_explicit(&t->held[i].streams, memory_order_relaxed);
    return sum;
}

uint32_t tally_oldest(const struct tally *t)
{
    uint32_t found = TALLY_NOBODY;
    int64_t oldest_us = INT64_MAX;

    for (uint32_t i = 0; i < workers_of(t); i++) {
        int64_t at = atomic_load_explicit(&t->held[i].oldest_us, memory_order_relaxed);
        if (atomic_load_explicit(&t->held[i].streams, memory_order_relaxed) == 0 || at >= oldest_us)
            continue;
        oldest_us = at;
        found = i;
    }
    return found;
}

void tally_forget_worker(struct tally *t, uint32_t worker)
{
    tally_set_streams(t, worker, 0, 0);
    for (uint32_t i = 0; i < SOURCES; i++)
        if (atomic_load_explicit(&t->sources[i], memory_order_relaxed)) /* pages nobody touched stay so */
            atomic_store_explicit(&t->sources[i], 0, memory_order_relaxed);
    atomic_fetch_add(&t->epoch, 1);
}

uint32_t tally_epoch(const struct tally *t)
{
    return atomic_load(&t->epoch);
}

/* ---- sources: 48 bits of name, 16 of count; a count of zero frees the place with the same stroke ---- */

#define NAME_OF(v) ((v) >> 16)
#define COUNT_OF(v) ((uint32_t)((v)&0xffff))
#define COUNT_MAX 0xffffu

uint64_t tally_source(const struct tally *t, const uint8_t id[24])
{
    uint64_t name = mix(t->key, id, 24) >> 16;

    return name ? name : 1;
}

static _Atomic uint64_t *place_of(struct tally *t, uint64_t source, uint32_t i)
{
    return &t->sources[(source + i) % SOURCES];
}

/* The place that has the name, or else the first that is free; NULL: neither. */
static _Atomic uint64_t *find_place(struct tally *t, uint64_t source, uint64_t *v)
{
    _Atomic uint64_t *unused = NULL;

    for (uint32_t i = 0; i < PROBES; i++) {
        _Atomic uint64_t *at = place_of(t, source, i);
        *v = atomic_load_explicit(at, memory_order_relaxed);
        if (NAME_OF(*v) == source)
            return at;
        if (*v == 0 && !unused)
            unused = at;
    }
    *v = 0;
    return unused;
}

uint32_t tally_join(struct tally *t, uint64_t source, uint32_t count)
{
    for (;;) {
        uint64_t v;
        _Atomic uint64_t *at = find_place(t, source, &v);
        uint32_t sum = COUNT_OF(v) + count;

        if (!at || sum > COUNT_MAX)
            return count;
        if (atomic_compare_exchange_strong(at, &v, source << 16 | sum))
            return sum;
    }
}

bool tally_leave(struct tally *t, uint64_t source, uint32_t limit)
{
    for (;;) {
        uint64_t v;
        _Atomic uint64_t *at = find_place(t, source, &v);
        uint32_t had = COUNT_OF(v);

        if (!at || had == 0 || had <= limit)
            return false;
        if (atomic_compare_exchange_strong(at, &v, had == 1 ? 0 : v - 1))
            return true;
    }
}
