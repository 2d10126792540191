/* SPDX-License-Identifier: MIT */
/* Who may have how many requests under way. Three walls, so that nobody's trouble is another's:
 *
 *   - a source has a number at once, a share of the bytes, and at each realm a rate;
 *   - a realm has a number at once, and never more than what is left for all others together: a few busy
 *     realms share most of the room, and there is always some for one more;
 *   - realms of which nothing is alive have a small number each, and half of all together. However many of
 *     them are black holes, the other half is for those that answer. */
#include "courier/engine.h"

enum { SICK_PART = 64, UNKNOWN_PART = 16, SICK_LEAST = 4 };

/* SipHash-1-3 (Aumasson and Bernstein), keyed by chance: whoever chooses addresses cannot choose buckets. */
static uint64_t turn(uint64_t v, int by)
{
    return v << by | v >> (64 - by);
}

static void mix(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = turn(v[1], 13) ^ v[0];
    v[3] = turn(v[3], 16) ^ v[2];
    v[0] = turn(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = turn(v[1], 17) ^ v[2];
    v[3] = turn(v[3], 21) ^ v[0];
    v[2] = turn(v[2], 32);
}

static uint32_t bucket_of(const struct ladder *l, const uint8_t source[24], uint32_t realm)
{
    uint64_t v[4] = {l->seed[0] ^ 0x736f6d6570736575u, l->seed[1] ^ 0x646f72616e646f6du,
                     l->seed[0] ^ 0x6c7967656e657261u, l->seed[1] ^ 0x7465646279746573u};
    uint64_t word[4] = {0, 0, 0, (uint64_t)28 << 56 | realm};

    memcpy(word, source, 24);
    for (int i = 0; i < 4; i++) {
        v[3] ^= word[i];
        mix(v);
        v[0] ^= word[i];
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        mix(v);
    return (uint32_t)(v[0] ^ v[1] ^ v[2] ^ v[3]) & l->source_mask;
}

static uint32_t find(const struct ladder *l, uint32_t bucket, const uint8_t source[24], uint32_t realm)
{
    uint32_t i = l->by_source[bucket];

    while (i != NIL && (l->accounts[i].realm != realm || memcmp(l->accounts[i].source, source, 24) != 0))
        i = l->accounts[i].in_hash;
    return i;
}

static void unhash(struct ladder *l, uint32_t i)
{
    struct account *a = &l->accounts[i];
    uint32_t *at = &l->by_source[bucket_of(l, a->source, a->realm)];

    while (*at != i)
        at = &l->accounts[*at].in_hash;
    *at = a->in_hash;
}

/* One that was never used, or the least lately used of those with nothing under way (no others are in the
 * list). */
static uint32_t place(struct ladder *l)
{
    uint32_t i = POOL_TAKE(&l->free_accounts, l->accounts, in_hash);

    if (i != NIL)
        return i;
    i = l->idle.first;
    if (i == NIL)
        return NIL;
    unhash(l, i);
    REMOVE(&l->idle, l->accounts, age, i);
    return i;
}

static uint32_t account_of(struct ladder *l, const uint8_t source[24], uint32_t realm)
{
    uint32_t bucket = bucket_of(l, source, realm), i = find(l, bucket, source, realm);

    if (i != NIL && l->accounts[i].in_flight > 0)
        return i;
    if (i != NIL) {
        REMOVE(&l->idle, l->accounts, age, i);
    } else {
        i = place(l);
        if (i == NIL)
            return NIL;
        l->accounts[i] = (struct account){.realm = realm, .in_hash = l->by_source[bucket]};
        memcpy(l->accounts[i].source, source, 24);
        l->by_source[bucket] = i;
    }
    APPEND(&l->idle, l->accounts, age, i);
    return i;
}

static void count_in(struct ladder *l, uint32_t i, size_t bytes)
{
    if (l->accounts[i].in_flight++ == 0)
        REMOVE(&l->idle, l->accounts, age, i);
    l->accounts[i].bytes += (uint32_t)bytes;
}

static void count_out(struct ladder *l, uint32_t i, size_t bytes)
{
    l->accounts[i].bytes -= (uint32_t)bytes;
    if (--l->accounts[i].in_flight == 0)
        APPEND(&l->idle, l->accounts, age, i);
}

static bool full(struct sp_err *e, const char *what, uint64_t n)
{
    return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE, "limit: %s (%llu)", what,
                   (unsigned long long)n);
}

/* An allowance of one second's worth, which fills again evenly. */
static bool has_rate(struct account *a, int64_t now_us, uint32_t per_second)
{
    int64_t each = US_PER_S / per_second, full_us = a->full_us > now_us ? a->full_us : now_us;

    if (full_us - now_us > US_PER_S - each)
        return false;
    a->full_us = full_us + (each > 0 ? each : 1);
    return true;
}

enum wellness { WELL, UNHEARD, SICK };

/* SICK: something is known to be dead and nothing alive. */
static enum wellness wellness_of(const struct ladder *l, uint32_t realm)
{
    const struct realm *x = &l->realms[realm];
    enum wellness w = UNHEARD;

    for (uint32_t i = 0; i < x->slot_count; i++) {
        const struct slot *s = slot_at(l, realm, x->order[i]);
        if (s->life == LADDER_ALIVE || x->order[i] == SLOT_LOCAL)
            return WELL;
        if (s->life == LADDER_DEAD || s->suspect)
            w = SICK;
    }
    return w;
}

static uint32_t most(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static bool realm_has_room(const struct ladder *l, uint32_t realm, size_t n, bool *sick, struct sp_err *e)
{
    const struct realm *x = &l->realms[realm];
    enum wellness w = wellness_of(l, realm);
    uint32_t all = l->limit.requests, left = all - l->in_flight, part = w == SICK ? SICK_PART : UNKNOWN_PART;

    if (l->in_flight >= all)
        return full(e, "requests at once", all);
    if (x->in_flight >= x->in_flight_max)
        return full(e, "requests of this realm at once", x->in_flight_max);
    if (x->in_flight >= left)
        return full(e, "requests of this realm, beside those of others", left);
    if (l->hold.used + hold_size(n) > l->limit.bytes || x->bytes >= l->limit.bytes - l->hold.used)
        return full(e, "bytes held", l->limit.bytes);
    *sick = w != WELL;
    if (w != WELL && (x->in_flight >= most(all / part, SICK_LEAST) || l->sick >= most(all / 2, 1)))
        return full(e, "requests of realms that do not answer", x->in_flight);
    return true;
}

bool limits_enter(struct ladder *l, int64_t now_us, uint32_t realm, const uint8_t source[24],
                  struct request *r, struct sp_err *e)
{
    uint32_t own = account_of(l, source, NIL), pair;
    size_t bytes = hold_size(r->n);
    bool sick = false;

    if (own == NIL || l->accounts[own].in_flight >= l->limit.per_source)
        return full(e, "requests of one source at once", l->limit.per_source);
    if (l->accounts[own].bytes + bytes > most(l->limit.bytes / 8, LADDER_MESSAGE_MAX))
        return full(e, "bytes of one source", l->accounts[own].bytes);
    if (!realm_has_room(l, realm, r->n, &sick, e))
        return false;
    count_in(l, own, bytes); /* so that looking for the other one does not take its place */
    pair = account_of(l, source, realm);
    if (pair == NIL || !has_rate(&l->accounts[pair], now_us, l->realms[realm].per_second_max)) {
        count_out(l, own, bytes);
        return full(e, "requests of one source at this realm in a second", l->realms[realm].per_second_max);
    }
    count_in(l, pair, bytes);
    l->realms[realm].in_flight++;
    l->realms[realm].bytes += (uint32_t)bytes;
    l->in_flight++;
    l->sick += sick;
    r->source = own;
    r->pair = pair;
    r->sick = sick;
    return true;
}

void limits_leave(struct ladder *l, struct request *r)
{
    size_t bytes = hold_size(r->n);

    count_out(l, r->source, bytes);
    count_out(l, r->pair, bytes);
    l->realms[r->realm].in_flight--;
    l->realms[r->realm].bytes -= (uint32_t)bytes;
    l->in_flight--;
    l->sick -= r->sick;
}
