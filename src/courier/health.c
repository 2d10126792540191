/* SPDX-License-Identifier: MIT */
/* What is known of a target, and what follows from it: who is asked first, how long it may stay silent, when
 * a dead one is tried again. */
#include "courier/engine.h"

enum {
    BACK_OFF_MOST = 6, /* 64 times the first pause */
    NO_WAY_BACK_OFF = 7,
    HEDGE_LEAST_MS = 20,
    HEDGE_MOST_MS = 400,
    BESIDE_LEAST_MS = 100,
};

static void keep_reason(struct slot *s, struct sp_span why)
{
    struct sp_text t = sp_text(s->reason, sizeof s->reason);

    sp_text_safe(&t, why);
}

static void live(struct slot *s, int64_t now_us, enum ladder_life life)
{
    if (s->life != life)
        s->since_us = now_us;
    s->life = life;
}

void health_answered(struct ladder *l, struct slot *s, int64_t now_us, int64_t took_us)
{
    (void)l;
    if (took_us < 1)
        took_us = 1;
    s->latency_us += s->latency_us ? (took_us - s->latency_us) / 8 : took_us;
    s->latency_us += s->latency_us == 0;
    live(s, now_us, LADDER_ALIVE);
    s->answers++;
    s->suspect = false;
    s->back_off = 0;
    s->reason[0] = 0;
}

/* Three quarters to five quarters of the pause, so that many couriers do not come back together. */
static int64_t pause_us(struct ladder *l, unsigned back_off)
{
    int64_t ms =
        l->limit.dead_retry_ms * (INT64_C(1) << (back_off < BACK_OFF_MOST ? back_off : BACK_OFF_MOST));

    return ms * US_PER_MS / 1000 * (750 + random_below(l, 501));
}

void health_failed(struct ladder *l, struct slot *s, int64_t now_us, enum ladder_life life,
                   struct sp_span why)
{
    live(s, now_us, life);
    s->failures++;
    s->failed_us = now_us;
    s->suspect = false;
    s->retry_us = now_us + pause_us(l, life == LADDER_NO_WAY ? NO_WAY_BACK_OFF : s->back_off);
    if (s->back_off < BACK_OFF_MOST)
        s->back_off++;
    keep_reason(s, why);
}

void health_suspect(struct ladder *l, struct slot *s, int64_t now_us)
{
    if (s->life != LADDER_ALIVE && s->life != LADDER_UNKNOWN)
        return;
    s->suspect = true;
    s->retry_us = now_us + pause_us(l, 0);
    keep_reason(s, SP_LIT("slower than others"));
}

void health_forget(struct slot *s)
{
    s->life = LADDER_UNKNOWN;
    s->suspect = false;
    s->back_off = 0;
    s->udp_silent = 0;
    s->retry_us = s->udp_shut_until_us = s->failed_us = s->latency_us = 0;
    s->reason[0] = 0;
}

unsigned health_rank(const struct slot *s)
{
    if (s->life == LADDER_DEAD || s->life == LADDER_NO_WAY)
        return HEALTH_LAST + 1;
    if (s->suspect)
        return 2;
    return s->life == LADDER_ALIVE ? 0 : 1;
}

bool health_retry_due(const struct slot *s, int64_t now_us)
{
    return !s->probing && now_us >= s->retry_us && health_rank(s) > 1;
}

static int64_t between(int64_t v, int64_t lo, int64_t hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

/* An attempt at a password may count against the account on every KDC that sees it: it waits longer before a
 * second one is asked. */
int64_t health_hedge_us(const struct ladder *l, const struct slot *s, bool proof)
{
    int64_t us = l->limit.hedge_ms * US_PER_MS;

    if (s->t.rung != LADDER_NATIVE)
        us *= 4; /* there is a TLS handshake in between */
    if (s->latency_us)
        us = between(4 * s->latency_us, HEDGE_LEAST_MS * US_PER_MS, HEDGE_MOST_MS * US_PER_MS);
    if (proof)
        us = between(4 * us, us, l->limit.rung_ms * US_PER_MS / 2);
    return us;
}

int64_t health_silence_us(const struct ladder *l, const struct slot *s)
{
    return between(3 * s->latency_us, l->limit.rung_ms * US_PER_MS, l->limit.all_ms * US_PER_MS);
}

int64_t health_beside_us(const struct ladder *l, const struct slot *s)
{
    if (!s->latency_us)
        return 4 * l->limit.hedge_ms * US_PER_MS;
    return between(4 * s->latency_us, BESIDE_LEAST_MS * US_PER_MS, HEDGE_MOST_MS * US_PER_MS);
}
