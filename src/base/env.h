/* SPDX-License-Identifier: MIT */
/* The only doors through which an engine learns of the world: the time and chance. */
#ifndef SP_BASE_ENV_H
#define SP_BASE_ENV_H

#include <stddef.h>
#include <stdint.h>

struct sp_rng {
    void (*fill)(struct sp_rng *rng, void *p, size_t n); /* never fails: a driver without randomness ends */
};

static inline void sp_rng_fill(struct sp_rng *rng, void *p, size_t n)
{
    rng->fill(rng, p, n);
}

struct sp_env {
    int64_t wall_us; /* microseconds since 1970, UTC */
    int64_t mono_us; /* microseconds of a clock that never steps back */
    struct sp_rng *rng;
};

/* A generator for tests and replays: the same seed gives the same bytes, and they are not secret. */
struct sp_rng_fixed {
    struct sp_rng rng;
    uint64_t state;
};
void sp_rng_fixed_init(struct sp_rng_fixed *r, uint64_t seed);

#endif
