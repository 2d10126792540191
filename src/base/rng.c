/* SPDX-License-Identifier: MIT */
#include "base/env.h"

#include <string.h>

/* SplitMix64: short, and every seed is a good one. */
static uint64_t next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void fill(struct sp_rng *rng, void *p, size_t n)
{
    struct sp_rng_fixed *r = (struct sp_rng_fixed *)(void *)rng; /* rng is its first member */
    uint8_t *b = p;

    for (size_t left = n; left > 0;) {
        uint64_t v = next(&r->state);
        size_t some = left < sizeof v ? left : sizeof v;

        memcpy(b + n - left, &v, some);
        left -= some;
    }
}

void sp_rng_fixed_init(struct sp_rng_fixed *r, uint64_t seed)
{
    *r = (struct sp_rng_fixed){{fill}, seed};
}
