/* SPDX-License-Identifier: MIT */
#include "bytes/cursor.h"

bool sp_cur_fail(struct sp_cur *c, const uint8_t *at, int32_t proto, const char *what, const char *why)
{
    c->p = c->end;
    return sp_fail_at(c->e, SP_EINPUT, proto, (uint32_t)(at - c->base), "%s: %s", what, why);
}

struct sp_span sp_take_short(struct sp_cur *c, const char *what)
{
    sp_cur_fail(c, c->p, 0, what, "cut short");
    return sp_span(c->end, 0);
}

void sp_skip(struct sp_cur *c, size_t n, const char *what)
{
    (void)sp_take(c, n, what);
}

struct sp_span sp_at(struct sp_cur *c, size_t offset, size_t n, const char *what)
{
    size_t all = (size_t)(c->end - c->base);

    if (!sp_ok(c->e) || offset > all || n > all - offset) {
        sp_cur_fail(c, c->p, 0, what, "outside the message");
        return sp_span(c->end, 0);
    }
    return sp_span(c->base + offset, n);
}

static uint64_t get_le(struct sp_cur *c, size_t n, const char *what)
{
    struct sp_span s = sp_take(c, n, what);
    uint64_t v = 0;

    for (size_t i = s.n; i > 0; i--)
        v = v << 8 | s.p[i - 1];
    return v;
}

uint16_t sp_get_le16(struct sp_cur *c, const char *what)
{
    return (uint16_t)get_le(c, 2, what);
}

uint32_t sp_get_le32(struct sp_cur *c, const char *what)
{
    return (uint32_t)get_le(c, 4, what);
}

uint64_t sp_get_le64(struct sp_cur *c, const char *what)
{
    return get_le(c, 8, what);
}

bool sp_cur_done(struct sp_cur *c, const char *what)
{
    if (sp_ok(c->e) && c->p != c->end)
        return sp_cur_fail(c, c->p, 0, what, "bytes behind the end");
    return sp_ok(c->e);
}
