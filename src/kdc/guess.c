/* SPDX-License-Identifier: MIT */
/* Guess budgets (decisions 5, 6, 52, 59). A try is counted as a failure before anything is verified and given
 * back when it was none, so that no number of workers asked at once verifies more than the budget. */
#include "kdc/internal.h"

/* A counter's state in one word: failures in the upper 16 bits, below them a second of the monotonic clock:
 * of the last failure (waiting counters) or of the window's start (capped ones). */
#define COUNT(st) ((uint32_t)((st) >> 48))
#define WHEN(st) ((int64_t)((st)&0xffffffffffffu))

static uint64_t state_of(uint32_t count, int64_t when)
{
    return (uint64_t)(count > 0xffff ? 0xffff : count) << 48 | ((uint64_t)when & 0xffffffffffffu);
}

enum rule { WAITS, CAPPED };
struct counter {
    uint64_t key, account;
    enum rule rule;
    uint32_t limit; /* failures without a wait; or per window */
};

static uint64_t tag_of(const uint8_t key[16], char what, uint64_t account, struct sp_span who)
{
    uint8_t b[64] = {(uint8_t)what};
    uint64_t t;

    memcpy(b + 1, &account, 8);
    memcpy(b + 9, who.p, who.n);
    t = kdc_hash128(key, sp_span(b, 9 + who.n)).a;
    return t ? t : 1;
}

static uint64_t counter_key(const struct kdc_shared *s, char what, uint64_t account, struct sp_span who)
{
    return tag_of(kdc_shared_secret(s), what, account, who);
}

static int64_t wait_s(uint32_t count, uint32_t free_count)
{
    uint32_t over = (count + 1 - free_count) & (0u - (count >= free_count)); /* 0 below free_count */

    return over >= 10 ? KDC_GUESS_WAIT_MAX_S : ((int64_t)1 << over) & ~INT64_C(1);
}

/* The state after one more failure, or false when none is allowed now. Here and in count_one nothing branches
 * on that: the processor guesses that there will be budget, and who has none would see what it costs. */
static bool one_more(const struct counter *c, uint64_t st, int64_t now, uint64_t *next)
{
    uint32_t count = COUNT(st);
    int64_t wait, since;

    if (c->rule == CAPPED) {
        if (now - WHEN(st) >= KDC_GUESS_WINDOW_S)
            st = state_of(count = 0, now);
        *next = state_of(count + 1, WHEN(st));
        return count < c->limit;
    }
    wait = wait_s(count, c->limit);
    since = now - WHEN(st);
    *next = state_of(since >= wait + KDC_GUESS_WINDOW_S ? 1 : count + 1, now);
    return since >= wait;
}

/* A place for a new counter: free, or the one whose loss hurts least. */
static struct kdc_slot *place_for(struct kdc_bucket *b, int64_t now)
{
    struct kdc_slot *best = NULL;
    uint64_t least = UINT64_MAX;

    for (int i = 0; i < KDC_BUCKET_SLOTS; i++) {
        struct kdc_slot *s = &b->slot[i];
        bool stale = s->key == 0 || now - WHEN(s->v[0]) >= KDC_GUESS_WAIT_MAX_S + KDC_GUESS_WINDOW_S;
        uint64_t worth = stale ? 0 : s->v[0];

        if (worth < least) {
            least = worth;
            best = s;
        }
    }
    return best ? best : &b->slot[0];
}

/* Counts one more where that is allowed, and everything so far was. */
static bool count_one(struct kdc_shared *s, const struct counter *c, int64_t now, bool ok,
                      struct kdc_guess *g)
{
    struct kdc_bucket *b = kdc_bucket_lock(kdc_guess_table(s), c->key);
    struct kdc_slot *slot = kdc_bucket_find(b, c->key), next = {
                                                            c->key, {0, c->account, 0}
    };
    uint64_t before = slot ? slot->v[0] : state_of(0, now);

    ok &= one_more(c, before, now, &next.v[0]);
    if (!slot)
        slot = place_for(b, now);
    g->held[g->count].key = c->key;
    g->held[g->count].before = before;
    g->held[g->count].after = next.v[0];
    g->count += ok;
    *slot = *(ok ? &next : slot);
    kdc_bucket_unlock(b);
    return ok;
}

static void give_back(struct kdc_shared *s, struct kdc_guess *g, uint32_t n)
{
    for (; n > 0; n--) {
        uint64_t key = g->held[--g->count].key;
        struct kdc_bucket *b = kdc_bucket_lock(kdc_guess_table(s), key);
        struct kdc_slot *slot = kdc_bucket_find(b, key);

        if (slot && slot->v[0] == g->held[g->count].after)
            slot->v[0] = g->held[g->count].before; /* nobody came between: as if never asked */
        else if (slot && COUNT(slot->v[0]) > 0)
            slot->v[0] = state_of(COUNT(slot->v[0]) - 1, WHEN(slot->v[0]));
        kdc_bucket_unlock(b);
    }
}

void kdc_guess_give_back(struct kdc_shared *s, struct kdc_guess *g)
{
    give_back(s, g, g->count);
}

static struct sp_span source_span(const struct kdc_source *src, uint8_t buf[32])
{
    memcpy(buf, src->id, sizeof src->id);
    memcpy(buf + sizeof src->id, &src->attester, 4);
    return sp_span(buf, sizeof src->id + 4);
}

/* The two counters of an account and a source lie in one bucket of the guess table, and their familiarity in
 * the bucket of the same number in the other: three places that one look fetches. */
enum pair_counter { PAIR_FAMILIAR = 1, PAIR_STRANGE = 2 };

static uint64_t pair_key(uint64_t pair, enum pair_counter which)
{
    return (pair ^ which) | 4; /* neither 0, nor the same for both */
}

static void fetch_pair(const struct kdc_shared *s, uint64_t pair)
{
    kdc_bucket_fetch(kdc_familiar_table(s), pair);
    kdc_bucket_fetch(kdc_guess_table(s), pair);
}

static bool is_familiar(struct kdc_shared *s, struct sp_env env, uint64_t pair)
{
    struct kdc_bucket *b = kdc_bucket_lock(kdc_familiar_table(s), pair);
    const struct kdc_slot *slot = kdc_bucket_find(b, pair);
    int64_t since = slot ? env.wall_us / 1000000 - (int64_t)slot->v[2] : INT64_MAX;

    kdc_bucket_unlock(b);
    return since < KDC_FAMILIAR_S;
}

uint64_t kdc_guess_unknown(const struct kdc_shared *s, struct sp_span lookup)
{
    return kdc_shared_hash(s, lookup).b | UINT64_C(1) << 63;
}

/* The counters that a try of this source for this account must pass, most general first, so that a refused
 * source leaves the account's alone. */
static uint32_t counters_for(const struct kdc_shared *s, const struct kdc_source *src,
                             const struct kdc_guess *g, struct counter c[KDC_GUESS_HELD_MAX])
{
    uint8_t buf[32];
    struct sp_span who = source_span(src, buf), by = sp_span(&src->attester, 4);
    uint32_t free_count = KDC_GUESS_FREE * (src->loopback ? KDC_GUESS_NEAR : 1), n = 0;
    uint64_t account = g->account;

    if (g->familiar) {
        c[n++] = (struct counter){pair_key(g->pair, PAIR_FAMILIAR), account, WAITS, free_count};
        return n;
    }
    if (src->attester) {
        c[n++] = (struct counter){counter_key(s, 'a', 0, by), account, CAPPED, KDC_GUESS_ATTESTER_ALL};
        c[n++] = (struct counter){counter_key(s, 'b', account, by), account, CAPPED, KDC_GUESS_ATTESTER};
    }
    c[n++] = (struct counter){counter_key(s, 's', 0, who), account, WAITS, free_count};
    if (!src->loopback)
        c[n++] =
            (struct counter){counter_key(s, 'u', account, SP_LIT("")), account, CAPPED, KDC_GUESS_UNFAMILIAR};
    c[n++] = (struct counter){pair_key(g->pair, PAIR_STRANGE), account, WAITS, free_count};
    return n;
}

bool kdc_guess_reserve(struct kdc_shared *s, const struct kdc_config *cf, struct sp_env env,
                       const struct kdc_source *src, uint64_t account, struct kdc_guess *g)
{
    struct counter c[KDC_GUESS_HELD_MAX];
    int64_t now = env.mono_us / 1000000;
    uint8_t buf[32];
    uint32_t count;
    bool ok = true;

    *g = (struct kdc_guess){.account = account, .off = !cf->guess_limits || src->console};
    if (g->off)
        return true;
    g->pair = tag_of(kdc_familiar_key(s), 'p', account, source_span(src, buf));
    fetch_pair(s, g->pair);
    g->familiar = is_familiar(s, env, g->pair);
    count = counters_for(s, src, g, c);
    for (uint32_t i = 0; i < count; i++) /* all are looked at, or who is throttled could tell by the time */
        ok = count_one(s, &c[i], now, ok, g);
    give_back(s, g, g->count & ((uint32_t)ok - 1)); /* none when ok */
    return ok;
}

/* Counted in v[2], with no failures in v[0]: where room is short these go before any counter of guesses. */
bool kdc_spend_challenge(struct kdc_shared *s, struct sp_env env, const struct kdc_source *src)
{
    uint64_t limit = KDC_CHALLENGES * (kdc_is_near(src) ? KDC_GUESS_NEAR : 1);
    int64_t now = env.mono_us / 1000000;
    uint8_t buf[32];
    uint64_t key = counter_key(s, 'c', 0, source_span(src, buf));
    struct kdc_bucket *b = kdc_bucket_lock(kdc_guess_table(s), key);
    struct kdc_slot *slot = kdc_bucket_find(b, key);
    bool ok;

    if (!slot)
        slot = place_for(b, now);
    if (slot->key != key || now - WHEN(slot->v[0]) >= KDC_CHALLENGES_S)
        *slot = (struct kdc_slot){
            key, {state_of(0, now), 0, 0}
        };
    ok = slot->v[2] < limit;
    slot->v[2] += ok;
    kdc_bucket_unlock(b);
    return ok;
}

void kdc_guess_success(struct kdc_shared *s, struct sp_env env, const struct kdc_source *src,
                       struct kdc_guess *g)
{
    struct kdc_bucket *b;
    struct kdc_slot *slot;

    kdc_guess_give_back(s, g);
    if (g->off || src->whole_service)
        return;
    b = kdc_bucket_lock(kdc_familiar_table(s), g->pair);
    slot = kdc_bucket_find(b, g->pair);
    for (int i = 0; !slot && i < KDC_BUCKET_SLOTS; i++)
        if (b->slot[i].key == 0)
            slot = &b->slot[i];
    for (int i = 0; !slot && i < KDC_BUCKET_SLOTS; i++) { /* full: the one seen longest ago makes room */
        bool first = true;

        for (int j = 0; j < KDC_BUCKET_SLOTS; j++)
            first = first && b->slot[i].v[2] <= b->slot[j].v[2];
        slot = first ? &b->slot[i] : NULL;
    }
    if (slot)
        *slot = (struct kdc_slot){
            g->pair, {0, g->account, (uint64_t)(env.wall_us / 1000000)}
        };
    kdc_bucket_unlock(b);
}

void kdc_shared_unlock(struct kdc_shared *s, uint64_t account_id)
{
    struct kdc_table t = kdc_guess_table(s);

    for (uint64_t i = 0; i <= t.mask; i++) {
        struct kdc_bucket *b = kdc_bucket_walk(t, i);

        if (!b)
            continue;
        for (int j = 0; j < KDC_BUCKET_SLOTS; j++)
            if (b->slot[j].key != 0 && b->slot[j].v[1] == account_id)
                b->slot[j] = (struct kdc_slot){0};
        kdc_bucket_unlock(b);
    }
}
