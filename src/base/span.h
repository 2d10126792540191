/* SPDX-License-Identifier: MIT */
/* Counted bytes. A span borrows: it never owns, and a text in it has no terminating NUL. */
#ifndef SP_BASE_SPAN_H
#define SP_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct sp_span {
    const uint8_t *p;
    size_t n;
};

struct sp_spans {
    struct sp_span *v;
    uint32_t count;
};

/* A string literal as a span, without its NUL. */
#define SP_LIT(s) ((struct sp_span){(const uint8_t *)("" s), sizeof(s) - 1})

static inline struct sp_span sp_span(const void *p, size_t n)
{
    return (struct sp_span){p, n};
}

static inline struct sp_span sp_str(const char *s)
{
    return (struct sp_span){(const uint8_t *)s, s ? strlen(s) : 0};
}

/* Plain compare, for public bytes only. What an attacker could guess byte by byte goes to sp_equal_ct. */
static inline bool sp_same(struct sp_span a, struct sp_span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* The same, ASCII letters without case. Other bytes compare as they are. */
bool sp_same_nocase(struct sp_span a, struct sp_span b);

/* For printf's "%.*s". */
#define SP_FMT(s) (int)(s).n, (const char *)(s).p

#endif
