/* SPDX-License-Identifier: MIT */
/* Reading: the only code that touches input pointers. A cursor cannot overrun. After the first failure it is
 * at its end, yields zeros and empty spans, and `e` says what was being read and at which offset of the
 * outermost input. */
#ifndef SP_BYTES_CURSOR_H
#define SP_BYTES_CURSOR_H

#include "base/err.h"
#include "base/span.h"

struct sp_cur {
    const uint8_t *p, *end;
    const uint8_t *base; /* start of the outermost input: offsets count from here */
    struct sp_err *e;
};

static inline struct sp_cur sp_cur_of(struct sp_span in, struct sp_err *e)
{
    static const uint8_t none[1];
    const uint8_t *p = in.p ? in.p : none;

    return (struct sp_cur){p, p + (in.p ? in.n : 0), p, e};
}

static inline size_t sp_left(const struct sp_cur *c)
{
    return (size_t)(c->end - c->p);
}

static inline uint32_t sp_cur_at(const struct sp_cur *c)
{
    return (uint32_t)(c->p - c->base);
}

/* Records SP_EINPUT at the byte `at` and moves the cursor to its end. Always false. */
bool sp_cur_fail(struct sp_cur *c, const uint8_t *at, int32_t proto, const char *what, const char *why);

struct sp_span sp_take_short(struct sp_cur *c, const char *what); /* behind sp_take */

/* The next n bytes; empty (p not NULL) when there are not that many. */
static inline struct sp_span sp_take(struct sp_cur *c, size_t n, const char *what)
{
    const uint8_t *p = c->p;

    if (n > sp_left(c))
        return sp_take_short(c, what);
    c->p += n;
    return sp_span(p, n);
}
void sp_skip(struct sp_cur *c, size_t n, const char *what);

/* n bytes at an offset from the start of the outermost input (NTLM, SMB); the cursor stays where it is. */
struct sp_span sp_at(struct sp_cur *c, size_t offset, size_t n, const char *what);

static inline uint64_t sp_get_be(struct sp_cur *c, size_t n, const char *what)
{
    struct sp_span s = sp_take(c, n, what);
    uint64_t v = 0;

    for (size_t i = 0; s.n == n && i < n; i++) /* a constant count, so no loop is left */
        v = v << 8 | s.p[i];
    return v;
}

static inline uint8_t sp_get_u8(struct sp_cur *c, const char *what)
{
    return (uint8_t)sp_get_be(c, 1, what);
}

static inline uint16_t sp_get_be16(struct sp_cur *c, const char *what)
{
    return (uint16_t)sp_get_be(c, 2, what);
}

static inline uint32_t sp_get_be32(struct sp_cur *c, const char *what)
{
    return (uint32_t)sp_get_be(c, 4, what);
}

static inline uint64_t sp_get_be64(struct sp_cur *c, const char *what)
{
    return sp_get_be(c, 8, what);
}

uint16_t sp_get_le16(struct sp_cur *c, const char *what);
uint32_t sp_get_le32(struct sp_cur *c, const char *what);
uint64_t sp_get_le64(struct sp_cur *c, const char *what);

/* True when all was read and nothing failed; left-over bytes are a failure at their offset. */
SP_MUST bool sp_cur_done(struct sp_cur *c, const char *what);

#endif
