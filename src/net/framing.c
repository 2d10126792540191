/* SPDX-License-Identifier: MIT */
#include "net/framing.h"

#include <stdlib.h>

#include "base/secret.h"

enum net_frame_result net_get_frame(struct sp_span in, struct net_frame_limits limits,
                                    struct sp_span *message, size_t *used)
{
    uint32_t n;

    if (in.n < 4)
        return NET_FRAME_MORE;
    n = (uint32_t)in.p[0] << 24 | (uint32_t)in.p[1] << 16 | (uint32_t)in.p[2] << 8 | in.p[3];
    if (n < limits.min || n > limits.max)
        return NET_FRAME_WRONG;
    if (in.n - 4 < n)
        return NET_FRAME_MORE;
    *message = sp_span(in.p + 4, n);
    *used = 4 + (size_t)n;
    return NET_FRAME_WHOLE;
}

void net_put_frame_length(uint8_t out[4], size_t n)
{
    out[0] = (uint8_t)(n >> 24);
    out[1] = (uint8_t)(n >> 16);
    out[2] = (uint8_t)(n >> 8);
    out[3] = (uint8_t)n;
}

/* Not realloc: that would leave unwiped copies behind. */
static bool grow(struct net_stash *s, size_t want)
{
    size_t max = s->max ? s->max : 256;
    uint8_t *p;

    while (max < want)
        max *= 2;
    p = malloc(max);
    if (!p)
        return false;
    if (s->n)
        memcpy(p, s->p, s->n);
    if (s->p) {
        sp_wipe(s->p, s->n);
        free(s->p);
    }
    s->p = p;
    s->max = max;
    return true;
}

bool net_stash_add(struct net_stash *s, struct sp_span bytes)
{
    if (bytes.n == 0)
        return true;
    if (bytes.n > s->max - s->n && !grow(s, s->n + bytes.n))
        return false;
    memcpy(s->p + s->n, bytes.p, bytes.n);
    s->n += bytes.n;
    return true;
}

void net_stash_drop(struct net_stash *s, size_t n)
{
    if (n >= s->n) {
        net_stash_free(s);
        return;
    }
    memmove(s->p, s->p + n, s->n - n);
    s->n -= n;
}

void net_stash_free(struct net_stash *s)
{
    if (s->p)
        sp_wipe(s->p, s->n);
    free(s->p);
    *s = (struct net_stash){0};
}
