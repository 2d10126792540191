/* SPDX-License-Identifier: MIT */
#include "base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/secret.h"

void sp_arena_init(struct sp_arena *a, void *block, size_t n)
{
    *a = (struct sp_arena){.p = block, .max = n};
}

void *sp_alloc(struct sp_arena *a, size_t n, struct sp_err *e)
{
    size_t align = alignof(max_align_t);
    size_t skip = (align - ((uintptr_t)a->p + a->used) % align) % align;
    void *p;

    if (skip > a->max - a->used || n > a->max - a->used - skip) {
        sp_fail(e, SP_ENOMEM, 0, "request needs more than %zu bytes of memory", a->max);
        return NULL;
    }
    p = a->p + a->used + skip;
    a->used += skip + n;
    if (a->used > a->peak)
        a->peak = a->used;
    memset(p, 0, n);
    return p;
}

void *sp_alloc_array(struct sp_arena *a, size_t count, size_t n, struct sp_err *e)
{
    size_t all;

    if (__builtin_mul_overflow(count, n, &all)) {
        sp_fail(e, SP_ENOMEM, 0, "an array of %zu things does not fit", count);
        return NULL;
    }
    return sp_alloc(a, all, e);
}

struct sp_span sp_dup(struct sp_arena *a, struct sp_span s, struct sp_err *e)
{
    uint8_t *p = sp_alloc(a, s.n, e);

    if (p && s.n > 0)
        memcpy(p, s.p, s.n);
    return sp_span(p, p ? s.n : 0);
}

struct sp_span sp_format(struct sp_arena *a, struct sp_err *e, const char *fmt, ...)
{
    va_list ap;
    char *p;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    sp_assert(n >= 0);
    p = sp_alloc(a, (size_t)n + 1, e);
    if (!p)
        return sp_span(NULL, 0);
    va_start(ap, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return sp_span(p, (size_t)n);
}

void sp_arena_reset(struct sp_arena *a)
{
    sp_wipe(a->p, a->peak);
    a->used = 0;
    a->peak = 0;
}
