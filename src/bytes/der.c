/* SPDX-License-Identifier: MIT */
#include "bytes/der.h"

#include "base/text.h"

/* The length at c->p; c->p is behind it afterwards. */
static bool get_length(struct sp_cur *c, const char *what, size_t *n)
{
    const uint8_t *at = c->p;
    size_t count, v = 0;

    if (sp_left(c) == 0)
        return sp_cur_fail(c, at, 0, what, "cut short");
    count = *c->p++;
    if (count < 0x80) {
        v = count;
    } else {
        count &= 0x7f;
        if (count == 0)
            return sp_cur_fail(c, at, 0, what, "indefinite length");
        if (count > 4)
            return sp_cur_fail(c, at, 0, what, "length of more than four bytes");
        if (count > sp_left(c))
            return sp_cur_fail(c, at, 0, what, "cut short");
        for (size_t i = 0; i < count; i++)
            v = v << 8 | *c->p++;
        if (v < 0x80 || v >> 8 * (count - 1) == 0)
            return sp_cur_fail(c, at, 0, what, "length not in its shortest form");
    }
    if (v > sp_left(c))
        return sp_cur_fail(c, at, 0, what, "longer than what holds it");
    *n = v;
    return true;
}

bool sp_der_head_slow(struct sp_cur *c, uint8_t tag, const char *what, size_t *n)
{
    if (sp_left(c) == 0)
        return sp_cur_fail(c, c->p, 0, what, "missing");
    if (*c->p != tag)
        return sp_cur_fail(c, c->p, 0, what, "another tag");
    c->p++;
    return get_length(c, what, n);
}

bool sp_der_any(struct sp_cur *c, const char *what, struct sp_span *out)
{
    const uint8_t *start = c->p;
    size_t n = 0;

    if (sp_left(c) == 0)
        return sp_cur_fail(c, c->p, 0, what, "missing");
    if ((*c->p & 0x1f) == 0x1f)
        return sp_cur_fail(c, c->p, 0, what, "tag of more than one byte");
    c->p++;
    if (!get_length(c, what, &n))
        return false;
    c->p += n;
    *out = sp_span(start, (size_t)(c->p - start));
    return true;
}

/* X.690 8.3.2: neither nine zero bits nor nine one bits in front. */
static bool is_shortest(struct sp_span s)
{
    return s.n == 1 || (s.n > 1 && !(s.p[0] == 0 && s.p[1] < 0x80) && !(s.p[0] == 0xff && s.p[1] >= 0x80));
}

static bool get_integer(struct sp_cur *c, const char *what, struct sp_span *s)
{
    if (!sp_der_get(c, DER_INTEGER, what, s))
        return false;
    if (!is_shortest(*s))
        return sp_cur_fail(c, s->p, 0, what, "integer not in its shortest form");
    return true;
}

static int64_t signed_value(struct sp_span s)
{
    uint64_t v = s.p[0] < 0x80 ? 0 : ~(uint64_t)0;

    for (size_t i = 0; i < s.n; i++)
        v = v << 8 | s.p[i];
    return (int64_t)v;
}

bool sp_der_int(struct sp_cur *c, const char *what, int64_t lo, int64_t hi, int64_t *out)
{
    struct sp_span s;
    int64_t v;

    if (sp_left(c) >= 3 && c->p[0] == DER_INTEGER && c->p[1] == 1 && lo <= INT8_MIN && hi >= INT8_MAX) {
        *out = (c->p[2] ^ 0x80) - 0x80; /* nearly all are that short */
        c->p += 3;
        return true;
    }
    if (!get_integer(c, what, &s))
        return false;
    v = s.n > 8 ? 0 : signed_value(s);
    if (s.n > 8 || v < lo || v > hi)
        return sp_cur_fail(c, s.p, DER_RANGE, what, "number out of range");
    *out = v;
    return true;
}

bool sp_der_u32(struct sp_cur *c, const char *what, uint32_t *out)
{
    struct sp_span s;
    int64_t v;

    if (!get_integer(c, what, &s))
        return false;
    v = s.n > 5 ? -1 : signed_value(s);
    if ((v < 0 && s.n != 4) || v > UINT32_MAX)
        return sp_cur_fail(c, s.p, DER_RANGE, what, "number out of range");
    *out = (uint32_t)v;
    return true;
}

bool sp_der_flags(struct sp_cur *c, const char *what, uint32_t *out)
{
    struct sp_span s;
    unsigned unused;

    if (!sp_der_get(c, DER_BIT_STRING, what, &s))
        return false;
    unused = s.n > 0 ? s.p[0] : 8;
    if (unused > 7)
        return sp_cur_fail(c, s.p, 0, what, "not a bit string");
    if (s.n < 5 || (s.n == 5 && unused > 0))
        return sp_cur_fail(c, s.p, 0, what, "fewer than 32 flags");
    if (s.p[s.n - 1] & ((1u << unused) - 1))
        return sp_cur_fail(c, s.p, 0, what, "bits set behind the last flag");
    *out = (uint32_t)s.p[1] << 24 | (uint32_t)s.p[2] << 16 | (uint32_t)s.p[3] << 8 | s.p[4];
    return true;
}

static unsigned two(const uint8_t *p)
{
    return (p[0] - '0') * 10u + (p[1] - '0');
}

bool sp_der_time(struct sp_cur *c, const char *what, int64_t *unix_s)
{
    struct sp_date d;
    struct sp_span s;
    bool good;

    if (!sp_der_get(c, DER_TIME, what, &s))
        return false;
    good = s.n == 15 && s.p[14] == 'Z';
    for (size_t i = 0; good && i < 14; i++)
        good = s.p[i] >= '0' && s.p[i] <= '9';
    if (!good)
        return sp_cur_fail(c, s.p, 0, what, "not a time of the form YYYYMMDDHHMMSSZ");
    d = (struct sp_date){
        .year = (int32_t)(two(s.p) * 100 + two(s.p + 2)),
        .month = (uint8_t)two(s.p + 4),
        .day = (uint8_t)two(s.p + 6),
        .hour = (uint8_t)two(s.p + 8),
        .minute = (uint8_t)two(s.p + 10),
        .second = (uint8_t)two(s.p + 12),
    };
    if (!sp_date_valid(d))
        return sp_cur_fail(c, s.p, DER_RANGE, what, "no such day or time of day");
    *unix_s = sp_date_unix(d);
    return true;
}

void sp_put_der_head_slow(struct sp_emit *o, uint8_t tag, size_t mark)
{
    size_t n = o->n - mark;

    if (n < 0x80) {
        sp_put_u8(o, (uint8_t)n);
    } else {
        uint8_t count = 0;

        for (; n > 0; n >>= 8, count++)
            sp_put_u8(o, (uint8_t)n);
        sp_put_u8(o, (uint8_t)(0x80 | count));
    }
    sp_put_u8(o, tag);
}

void sp_put_der(struct sp_emit *o, uint8_t tag, struct sp_span content)
{
    size_t mark = o->n;

    sp_put_bytes(o, content);
    sp_put_der_head(o, tag, mark);
}

void sp_put_der_int(struct sp_emit *o, int64_t v)
{
    size_t mark = o->n;
    uint8_t last;

    do {
        last = (uint8_t)v;
        sp_put_u8(o, last);
        v >>= 8;
    } while (!(v == 0 && last < 0x80) && !(v == -1 && last >= 0x80));
    sp_put_der_head(o, DER_INTEGER, mark);
}

void sp_put_der_flags(struct sp_emit *o, uint32_t v)
{
    sp_put_be32(o, v);
    sp_put_u8(o, 0);
    sp_put_u8(o, 5);
    sp_put_u8(o, DER_BIT_STRING);
}

void sp_put_der_time(struct sp_emit *o, const char *what, int64_t unix_s)
{
    char b[16];
    struct sp_text t = sp_text(b, sizeof b);

    if (unix_s < SP_TIME_MIN || unix_s > SP_TIME_MAX)
        (void)sp_fail(o->e, SP_EINPUT, DER_RANGE, "%s: a time outside the years 1 to 9999", what);
    sp_text_time(&t, unix_s);
    sp_put_der(o, DER_TIME, sp_span(b, t.n));
}
