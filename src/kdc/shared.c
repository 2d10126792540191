/* SPDX-License-Identifier: MIT */
#include "kdc/shared.h"

#include <stdatomic.h>

#include "kdc/internal.h"

/* Layout: header, guess buckets, familiar buckets, replay buckets, kept replies. Pages nobody touched cost
 * nothing. */
#define MAGIC 0x53504b4443303401u /* changes with the layout */
#define CACHE_LINE 64
#define GUESS_SLOTS 32768u
#define REPLAY_SLOTS 65536u
#define RETRANSMIT_SLOTS 1024u
#define WAYS 4u       /* places where one request's reply may be kept */
#define LONG_SHARE 8u /* for so many places for usual replies there is one for a long one */

/* Heads lie apart from the replies: looking for a reply that is not there, which is the rule, reads
 * neighbours. */
struct kept {
    _Atomic uint32_t lock;
    uint32_t n;
    uint64_t a, b;
    int64_t until_us;
    int32_t code;
    uint32_t proven;
    uint8_t pad[24];
};
_Static_assert(sizeof(struct kept) == CACHE_LINE, "a head is a cache line");
_Static_assert(sizeof(struct kdc_bucket) == 256, "a bucket is four cache lines");
#define USUAL_N 960u /* replies without much authorization data are shorter */
#define LONG_N KDC_RETRANSMIT_MAX

/* Who goes through all buckets leaves out those that nobody used: looking alone would give them memory. */
#define USED_WORDS 64u
struct kdc_shared {
    uint64_t magic;
    uint8_t secret[16];
    uint8_t familiar[16];               /* travels with what kdc_shared_save writes */
    uint32_t guess, replay, retransmit; /* buckets, buckets, replies; powers of two */
    _Atomic uint32_t any_long;          /* a long reply was kept: before, nobody looks for one */
    uint32_t stretch;                   /* buckets to a bit of `used`: 2 to this power */
    _Atomic uint64_t used[USED_WORDS];  /* by stretches of the three tables: a bucket was locked */
    uint8_t pad[4096 - 64 - 8 * USED_WORDS];
};
_Static_assert(sizeof(struct kdc_shared) == 4096, "the header is one page");

/* ---- keyed hash: SipHash-2-4-128 (Aumasson, Bernstein) ---- */

static uint64_t rotl(uint64_t x, unsigned n)
{
    return (x << n) | (x >> (64 - n));
}

struct sip {
    uint64_t a, b, c, d;
};

static inline struct sip mixed(struct sip v)
{
    v.a += v.b;
    v.c += v.d;
    v.b = rotl(v.b, 13) ^ v.a;
    v.d = rotl(v.d, 16) ^ v.c;
    v.a = rotl(v.a, 32);
    v.c += v.b;
    v.a += v.d;
    v.b = rotl(v.b, 17) ^ v.c;
    v.d = rotl(v.d, 21) ^ v.a;
    v.c = rotl(v.c, 32);
    return v;
}

static inline struct sip absorbed(struct sip v, uint64_t m)
{
    v.d ^= m;
    v = mixed(mixed(v));
    v.a ^= m;
    return v;
}

static uint64_t le64(const uint8_t *p, size_t n)
{
    uint64_t x = 0;

    if (n == 8 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
        memcpy(&x, p, 8);
    else
        for (size_t i = 0; i < n; i++)
            x |= (uint64_t)p[i] << (8 * i);
    return x;
}

struct kdc_hash kdc_hash128(const uint8_t key[16], struct sp_span data)
{
    uint64_t k0 = le64(key, 8), k1 = le64(key + 8, 8);
    struct sip v = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du ^ 0xee, k0 ^ 0x6c7967656e657261u,
                    k1 ^ 0x7465646279746573u};
    struct kdc_hash h;
    size_t i;

    for (i = 0; data.n - i >= 8; i += 8)
        v = absorbed(v, le64(data.p + i, 8));
    v = absorbed(v, (uint64_t)data.n << 56 | (data.n > i ? le64(data.p + i, data.n - i) : 0));
    v.c ^= 0xee;
    v = mixed(mixed(mixed(mixed(v))));
    h.a = v.a ^ v.b ^ v.c ^ v.d;
    v.b ^= 0xdd;
    v = mixed(mixed(mixed(mixed(v))));
    h.b = v.a ^ v.b ^ v.c ^ v.d;
    return h;
}

const uint8_t *kdc_shared_secret(const struct kdc_shared *s)
{
    return s->secret;
}

struct kdc_hash kdc_shared_hash(const struct kdc_shared *s, struct sp_span data)
{
    return kdc_hash128(s->secret, data);
}

/* ---- the block ---- */

static uint32_t power(uint32_t want, uint32_t otherwise)
{
    uint32_t n = 16;

    if (want == 0)
        want = otherwise;
    while (n < want && n < 1u << 28)
        n *= 2;
    return n;
}

static size_t all_bytes(uint32_t guess, uint32_t replay, uint32_t retransmit)
{
    return sizeof(struct kdc_shared) + (2 * (size_t)guess + replay) * sizeof(struct kdc_bucket) +
           (size_t)retransmit * (sizeof(struct kept) + USUAL_N) +
           (size_t)(retransmit / LONG_SHARE) * (sizeof(struct kept) + LONG_N);
}

size_t kdc_shared_bytes(struct kdc_shared_size size)
{
    return all_bytes(power(size.guess_slots, GUESS_SLOTS) / 8, power(size.replay_slots, REPLAY_SLOTS) / 16,
                     power(size.retransmit_slots, RETRANSMIT_SLOTS));
}

struct kdc_shared *kdc_shared_init(void *block, struct kdc_shared_size size, const uint8_t secret[16])
{
    struct kdc_shared *s = block;
    struct kdc_hash f = kdc_hash128(secret, SP_LIT("familiar"));

    s->guess = power(size.guess_slots, GUESS_SLOTS) / 8;
    s->replay = power(size.replay_slots, REPLAY_SLOTS) / 16;
    s->retransmit = power(size.retransmit_slots, RETRANSMIT_SLOTS);
    while ((2 * s->guess + s->replay) >> s->stretch > 64 * USED_WORDS)
        s->stretch++;
    memcpy(s->secret, secret, 16);
    memcpy(s->familiar, &f, 16);
    s->magic = MAGIC;
    return s;
}

struct kdc_shared *kdc_shared_attach(void *block, size_t n)
{
    struct kdc_shared *s = block;

    if (!block || n < sizeof *s || s->magic != MAGIC || n < all_bytes(s->guess, s->replay, s->retransmit))
        return NULL;
    return s;
}

static struct kdc_table table_at(const struct kdc_shared *s, size_t skip, uint32_t buckets)
{
    struct kdc_bucket *first = (struct kdc_bucket *)(uintptr_t)(s + 1);

    return (struct kdc_table){first + skip, buckets - 1, s};
}

static bool is_used(struct kdc_table t, uint64_t i)
{
    const struct kdc_bucket *first = (const struct kdc_bucket *)(const void *)(t.of + 1);
    uint64_t at = (uint64_t)(t.b + i - first) >> t.of->stretch;

    return atomic_load_explicit(&t.of->used[at / 64], memory_order_relaxed) >> at % 64 & 1;
}

static void note_use(struct kdc_table t, const struct kdc_bucket *b)
{
    struct kdc_shared *s = (struct kdc_shared *)(uintptr_t)t.of;
    uint64_t at = (uint64_t)(b - (const struct kdc_bucket *)(void *)(s + 1)) >> s->stretch;
    uint64_t bit = UINT64_C(1) << at % 64;

    if (!(atomic_load_explicit(&s->used[at / 64], memory_order_relaxed) & bit))
        atomic_fetch_or_explicit(&s->used[at / 64], bit, memory_order_relaxed);
}

struct kdc_table kdc_guess_table(const struct kdc_shared *s)
{
    return table_at(s, 0, s->guess);
}

struct kdc_table kdc_familiar_table(const struct kdc_shared *s)
{
    return table_at(s, s->guess, s->guess);
}

const uint8_t *kdc_familiar_key(const struct kdc_shared *s)
{
    return s->familiar;
}

/* The places of one size: `mask + 1` heads, then as many times n bytes. */
struct shelf {
    struct kept *heads;
    uint32_t mask, n;
};

static struct shelf usual(const struct kdc_shared *s)
{
    struct kdc_table t = table_at(s, 2 * (size_t)s->guess + s->replay, 1);

    return (struct shelf){(struct kept *)(void *)t.b, s->retransmit - 1, USUAL_N};
}

static uint8_t *bytes_of(struct shelf at, const struct kept *k)
{
    return (uint8_t *)(at.heads + at.mask + 1) + (size_t)(k - at.heads) * at.n;
}

static struct shelf longer(const struct kdc_shared *s)
{
    struct shelf u = usual(s);

    return (struct shelf){(struct kept *)(void *)bytes_of(u, u.heads + u.mask + 1),
                          s->retransmit / LONG_SHARE - 1, LONG_N};
}

static struct kept *kept_at(struct shelf at, uint64_t i)
{
    return at.heads + (i & at.mask);
}

/* ---- locks ---- */

/* A holder keeps a lock for well under a microsecond unless it is preempted. After this many looks (a tenth
 * of a second or more) without any change it must have been killed, and the lock is taken over: counters may
 * then be off by one, nothing worse. */
#define LOOKS_MAX (1u << 22)

static void look_away(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* A lock holds 0 or a number that grows with each holder, so that a waiter sees that others get on. */
static void lock_take(_Atomic uint32_t *lock)
{
    uint32_t seen = atomic_load_explicit(lock, memory_order_relaxed), last = seen, looks = 0;

    for (;;) {
        uint32_t want = (seen & ~1u) + 3; /* odd: held */

        if ((seen & 1) == 0 || looks > LOOKS_MAX) {
            if (atomic_compare_exchange_weak_explicit(lock, &seen, want, memory_order_acquire,
                                                      memory_order_relaxed))
                return;
        } else {
            look_away();
            seen = atomic_load_explicit(lock, memory_order_relaxed);
        }
        looks = seen == last ? looks + 1 : 0;
        last = seen;
    }
}

static void lock_drop(_Atomic uint32_t *lock)
{
    uint32_t held = atomic_load_explicit(lock, memory_order_relaxed);

    atomic_store_explicit(lock, held & ~1u, memory_order_release);
}

static struct kdc_bucket *bucket_of(struct kdc_table t, uint64_t key)
{
    return t.b + ((key >> 32) & t.mask);
}

void kdc_bucket_fetch(struct kdc_table t, uint64_t key)
{
    const uint8_t *b = (const uint8_t *)bucket_of(t, key);

    for (size_t i = 0; i < sizeof *t.b; i += CACHE_LINE)
        __builtin_prefetch(b + i, 1);
}

struct kdc_bucket *kdc_bucket_lock(struct kdc_table t, uint64_t key)
{
    struct kdc_bucket *b = bucket_of(t, key);

    note_use(t, b);
    lock_take(&b->lock);
    return b;
}

struct kdc_bucket *kdc_bucket_walk(struct kdc_table t, uint64_t i)
{
    return is_used(t, i) ? kdc_bucket_lock(t, i << 32) : NULL;
}

void kdc_bucket_unlock(struct kdc_bucket *b)
{
    lock_drop(&b->lock);
}

struct kdc_slot *kdc_bucket_find(struct kdc_bucket *b, uint64_t key)
{
    for (int i = 0; i < KDC_BUCKET_SLOTS; i++)
        if (b->slot[i].key == key)
            return &b->slot[i];
    return NULL;
}

/* ---- replay windows ---- */

struct replay_slot {
    uint64_t proof;   /* its hash; the other half of that says which bucket */
    uint32_t request; /* of the request's hash */
    uint32_t until_s; /* monotonic; 0: free */
};
#define REPLAY_BUCKET_SLOTS 15
struct replay_bucket {
    _Atomic uint32_t lock;
    uint32_t pad[3];
    struct replay_slot slot[REPLAY_BUCKET_SLOTS];
};
_Static_assert(sizeof(struct replay_bucket) == sizeof(struct kdc_bucket),
               "so that one table is laid out as another");

static struct kdc_table replay_table(const struct kdc_shared *s)
{
    return table_at(s, 2 * (size_t)s->guess, s->replay);
}

static struct replay_bucket *replays_of(struct kdc_bucket *b)
{
    return (struct replay_bucket *)(void *)b;
}

static struct replay_slot *find_replay(struct replay_bucket *b, uint64_t proof, int64_t now_s)
{
    for (int i = 0; i < REPLAY_BUCKET_SLOTS; i++)
        if (b->slot[i].proof == proof && b->slot[i].until_s > now_s)
            return &b->slot[i];
    return NULL;
}

/* Rounded up: a window may be a second longer, never shorter. */
static uint32_t end_s(int64_t until_us)
{
    return (uint32_t)((until_us + 999999) / 1000000);
}

static struct replay_slot *soonest(struct replay_bucket *b)
{
    struct replay_slot *best = &b->slot[0];

    for (int i = 1; i < REPLAY_BUCKET_SLOTS; i++)
        if (b->slot[i].until_s < best->until_s)
            best = &b->slot[i];
    return best;
}

enum kdc_replay kdc_replay_note(struct kdc_shared *s, int64_t mono_us, int32_t life_s, struct sp_span proof,
                                struct kdc_hash request)
{
    struct kdc_hash h = kdc_shared_hash(s, proof);
    int64_t now_s = mono_us / 1000000;
    struct kdc_bucket *b = kdc_bucket_lock(replay_table(s), h.a);
    const struct replay_slot *seen = find_replay(replays_of(b), h.b, now_s);
    enum kdc_replay verdict = KDC_NEW;

    if (seen)
        verdict = seen->request == (uint32_t)request.a ? KDC_SAME_REQUEST : KDC_REPLAYED;
    else
        *soonest(replays_of(b)) =
            (struct replay_slot){h.b, (uint32_t)request.a, end_s(mono_us + life_s * INT64_C(1000000))};
    kdc_bucket_unlock(b);
    return verdict;
}

/* ---- retransmission table ---- */

static bool find_on(struct shelf at, int64_t mono_us, struct kdc_hash request, struct sp_arena *mem,
                    struct kdc_kept *out)
{
    for (uint32_t i = 0; i < WAYS; i++) {
        struct kept *k = kept_at(at, request.a + i);
        struct sp_err e = {0};
        bool found = false;

        if (k->a != request.a || k->b != request.b)
            continue;
        lock_take(&k->lock);
        if (k->a == request.a && k->b == request.b && k->until_us > mono_us && k->n <= at.n) {
            out->reply = sp_dup(mem, sp_span(bytes_of(at, k), k->n), &e);
            out->code = k->code;
            out->proven = k->proven != 0;
            found = out->reply.p != NULL;
        }
        lock_drop(&k->lock);
        if (found)
            return true;
    }
    return false;
}

bool kdc_kept_find(struct kdc_shared *s, int64_t mono_us, struct kdc_hash request, struct sp_arena *mem,
                   struct kdc_kept *out)
{
    return find_on(usual(s), mono_us, request, mem, out) ||
           (atomic_load_explicit(&s->any_long, memory_order_relaxed) &&
            find_on(longer(s), mono_us, request, mem, out));
}

static void put_on(struct shelf at, int64_t mono_us, struct kdc_hash request, const struct kdc_kept *v)
{
    struct kept *k = kept_at(at, request.a);

    for (uint32_t i = 0; i < WAYS; i++) {
        struct kept *o = kept_at(at, request.a + i);

        if (o->a == request.a && o->b == request.b && o->until_us > mono_us)
            return; /* another worker was first: its answer stays the answer */
        if (o->until_us < k->until_us)
            k = o;
    }
    lock_take(&k->lock);
    k->a = request.a;
    k->b = request.b;
    k->until_us = mono_us + KDC_RETRANSMIT_S * INT64_C(1000000);
    k->code = v->code;
    k->proven = v->proven;
    k->n = (uint32_t)v->reply.n;
    memcpy(bytes_of(at, k), v->reply.p, v->reply.n);
    lock_drop(&k->lock);
}

void kdc_kept_put(struct kdc_shared *s, int64_t mono_us, struct kdc_hash request, const struct kdc_kept *v)
{
    if (v->reply.n <= USUAL_N) {
        put_on(usual(s), mono_us, request, v);
    } else if (v->reply.n <= KDC_RETRANSMIT_MAX) {
        atomic_store_explicit(&s->any_long, 1, memory_order_relaxed);
        put_on(longer(s), mono_us, request, v);
    }
}

/* ---- familiar sources over a restart: magic, key, then (tag, time) pairs, all little-endian ---- */

#define SOURCES_MAGIC 0x53504b4443303101u

static void put64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

size_t kdc_shared_save(const struct kdc_shared *s, uint8_t *out, size_t cap)
{
    struct kdc_table t = kdc_familiar_table(s);
    size_t n = 24;

    if (cap < n)
        return 0;
    put64(out, SOURCES_MAGIC);
    memcpy(out + 8, s->familiar, 16);
    for (uint32_t i = 0; i <= t.mask; i++)
        for (int j = 0; j < KDC_BUCKET_SLOTS && cap - n >= 16 && is_used(t, i); j++) {
            const struct kdc_slot *slot = &t.b[i].slot[j];

            if (slot->key == 0)
                continue;
            put64(out + n, slot->key);
            put64(out + n + 8, slot->v[2]);
            n += 16;
        }
    return n;
}

static struct kdc_slot *oldest(struct kdc_bucket *b)
{
    struct kdc_slot *best = &b->slot[0];

    for (int i = 1; i < KDC_BUCKET_SLOTS; i++)
        if (b->slot[i].v[2] < best->v[2])
            best = &b->slot[i];
    return best;
}

void kdc_shared_load(struct kdc_shared *s, struct sp_span saved)
{
    struct kdc_table t = kdc_familiar_table(s);

    if (saved.n < 24 || (saved.n - 24) % 16 != 0 || le64(saved.p, 8) != SOURCES_MAGIC)
        return;
    memcpy(s->familiar, saved.p + 8, 16);
    for (size_t i = 24; i < saved.n; i += 16) {
        uint64_t key = le64(saved.p + i, 8);
        struct kdc_bucket *b = kdc_bucket_lock(t, key);
        struct kdc_slot *slot = oldest(b);

        if (key != 0)
            *slot = (struct kdc_slot){
                key, {0, 0, le64(saved.p + i + 8, 8)}
            };
        kdc_bucket_unlock(b);
    }
}

/* ---- replay windows over a restart: magic, secret, then (bucket << 32, proof, request, end by the wall
 * clock)
 * ---- */

#define REPLAYS_MAGIC 0x53504b4443523101u
#define REPLAYS_HEAD 24
#define REPLAY_BYTES 32
#define REPLAY_LIFE_MAX_US (INT64_C(86400) * 1000000) /* whatever a clock that was set says */

static size_t put_replays(const struct replay_bucket *b, uint64_t number, struct sp_env env, uint8_t *out,
                          size_t cap)
{
    size_t n = 0;

    for (int j = 0; j < REPLAY_BUCKET_SLOTS && cap - n >= REPLAY_BYTES; j++) {
        const struct replay_slot *slot = &b->slot[j];
        int64_t until_us = (int64_t)slot->until_s * 1000000;

        if (until_us <= env.mono_us)
            continue;
        put64(out + n, number << 32);
        put64(out + n + 8, slot->proof);
        put64(out + n + 16, slot->request);
        put64(out + n + 24, (uint64_t)(until_us - env.mono_us + env.wall_us));
        n += REPLAY_BYTES;
    }
    return n;
}

size_t kdc_shared_save_replays(const struct kdc_shared *s, struct sp_env env, uint8_t *out, size_t cap)
{
    struct kdc_table t = replay_table(s);
    size_t n = REPLAYS_HEAD;

    if (cap < n)
        return 0;
    put64(out, REPLAYS_MAGIC);
    memcpy(out + 8, s->secret, sizeof s->secret);
    for (uint64_t i = 0; i <= t.mask; i++) {
        struct kdc_bucket *b = kdc_bucket_walk(t, i);

        if (!b)
            continue;
        n += put_replays(replays_of(b), i, env, out + n, cap - n);
        kdc_bucket_unlock(b);
    }
    return n;
}

static void load_replay(struct kdc_shared *s, struct sp_env env, const uint8_t *p)
{
    int64_t left_us = (int64_t)(le64(p + 24, 8) - (uint64_t)env.wall_us);
    struct kdc_bucket *b;

    if (left_us <= 0)
        return;
    if (left_us > REPLAY_LIFE_MAX_US)
        left_us = REPLAY_LIFE_MAX_US;
    b = kdc_bucket_lock(replay_table(s), le64(p, 8));
    *soonest(replays_of(b)) =
        (struct replay_slot){le64(p + 8, 8), (uint32_t)le64(p + 16, 8), end_s(env.mono_us + left_us)};
    kdc_bucket_unlock(b);
}

void kdc_shared_load_replays(struct kdc_shared *s, struct sp_env env, struct sp_span saved)
{
    if (saved.n < REPLAYS_HEAD || (saved.n - REPLAYS_HEAD) % REPLAY_BYTES != 0 ||
        le64(saved.p, 8) != REPLAYS_MAGIC)
        return;
    memcpy(s->secret, saved.p + 8, sizeof s->secret);
    for (size_t i = REPLAYS_HEAD; i < saved.n; i += REPLAY_BYTES)
        load_replay(s, env, saved.p + i);
}
