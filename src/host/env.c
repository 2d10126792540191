/* SPDX-License-Identifier: MIT */
#include "host/env.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

#include "base/err.h"

static void fill(struct sp_rng *rng, void *p, size_t n)
{
    uint8_t *to = p;

    (void)rng;
    while (n > 0) {
        ssize_t got = getrandom(to, n, 0);
        sp_assert(got > 0 || errno == EINTR);
        if (got > 0) {
            to += got;
            n -= (size_t)got;
        }
    }
}

static int64_t microseconds(clockid_t clock)
{
    struct timespec t;

    (void)clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

struct sp_env host_env(void)
{
    static struct sp_rng rng = {fill};

    return (struct sp_env){microseconds(CLOCK_REALTIME), microseconds(CLOCK_MONOTONIC), &rng};
}
