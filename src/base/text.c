/* SPDX-License-Identifier: MIT */
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>

static const char hex_digit[] = "0123456789abcdef";

/* All of it or nothing: half an escape would be worse than none. After a cut nothing more is taken, so there
 * are no gaps. */
static void add_whole(struct sp_text *t, const char *s, size_t n)
{
    if (t->cut || t->max == 0 || n > t->max - 1 - t->n) {
        t->cut = true;
        return;
    }
    if (n > 0)
        memcpy(t->p + t->n, s, n);
    t->n += n;
    t->p[t->n] = 0;
}

void sp_text_add(struct sp_text *t, struct sp_span s)
{
    size_t room = t->cut || t->max == 0 ? 0 : t->max - 1 - t->n;

    if (s.n <= room) {
        add_whole(t, (const char *)s.p, s.n);
        return;
    }
    if (room > 0)
        add_whole(t, (const char *)s.p, room);
    t->cut = true;
}

void sp_text_str(struct sp_text *t, const char *s)
{
    sp_text_add(t, sp_str(s));
}

void sp_text_fmt(struct sp_text *t, const char *fmt, ...)
{
    size_t room = t->cut || t->max == 0 ? 0 : t->max - t->n;
    va_list ap;
    int n;

    if (room == 0) {
        t->cut = true;
        return;
    }
    va_start(ap, fmt);
    n = vsnprintf(t->p + t->n, room, fmt, ap);
    va_end(ap);
    sp_assert(n >= 0);
    if ((size_t)n >= room) {
        t->cut = true;
        t->n += room - 1;
    } else {
        t->n += (size_t)n;
    }
}

static void add_number(struct sp_text *t, uint64_t v, bool minus)
{
    char b[21], *p = b + sizeof b; /* 2^64 has 20 digits */

    do
        *--p = (char)('0' + v % 10);
    while ((v /= 10) > 0);
    if (minus)
        *--p = '-';
    add_whole(t, p, (size_t)(b + sizeof b - p));
}

void sp_text_uint(struct sp_text *t, uint64_t v)
{
    add_number(t, v, false);
}

void sp_text_int(struct sp_text *t, int64_t v)
{
    add_number(t, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, v < 0);
}

void sp_text_hex(struct sp_text *t, struct sp_span s)
{
    size_t room = t->cut || t->max == 0 ? 0 : (t->max - 1 - t->n) / 2;
    size_t n = s.n < room ? s.n : room;
    char *p = t->p + t->n;

    t->cut = t->cut || n < s.n;
    if (n == 0)
        return;
    for (size_t i = 0; i < n; i++) {
        *p++ = hex_digit[s.p[i] >> 4];
        *p++ = hex_digit[s.p[i] & 15];
    }
    *p = 0;
    t->n += 2 * n;
}

/* Bytes of the UTF-8 character at p (RFC 3629: shortest form, no surrogates, at most U+10FFFF), 0 when it is
 * none. */
static size_t utf8_char(const uint8_t *p, size_t n, uint32_t *code)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t want = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    uint32_t c = want < 2 ? p[0] : p[0] & (0x7fu >> want);

    if (want == 0 || want > n)
        return 0;
    for (size_t i = 1; i < want; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3fu);
    }
    if (c < least[want] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    *code = c;
    return want;
}

bool sp_is_utf8(struct sp_span s)
{
    uint32_t code;

    for (size_t i = 0; i < s.n;) {
        size_t n = s.p[i] < 0x80 ? 1 : utf8_char(s.p + i, s.n - i, &code);

        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

/* Characters that move, hide or reorder what stands around them. */
static bool is_unseen(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c || c == 0x180e ||
           (c >= 0x2000 && c <= 0x200f) || (c >= 0x2028 && c <= 0x202f) || (c >= 0x205f && c <= 0x206f) ||
           (c >= 0xe000 && c <= 0xf8ff) || c == 0xfeff || (c >= 0xfff0 && c <= 0xffff && c != 0xfffd) ||
           c >= 0xe0000;
}

static void add_x(struct sp_text *t, uint8_t b, const char *lead)
{
    char x[8];
    int n = snprintf(x, sizeof x, "%sx%02x", lead, b);

    add_whole(t, x, (size_t)n);
}

static void json_char(struct sp_text *t, const uint8_t *p, size_t n, uint32_t code)
{
    static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    const char *at = code != 0 && code < 0x80 ? strchr(plain, (int)code) : NULL;
    char x[16];

    if (at) {
        char two[2] = {'\\', letter[at - plain]};

        add_whole(t, two, 2);
    } else if (!is_unseen(code)) {
        add_whole(t, (const char *)p, n);
    } else if (code < 0x10000) {
        add_whole(t, x, (size_t)snprintf(x, sizeof x, "\\u%04x", code));
    } else {
        uint32_t c = code - 0x10000;

        add_whole(t, x,
                  (size_t)snprintf(x, sizeof x, "\\u%04x\\u%04x", 0xd800 + (c >> 10), 0xdc00 + (c & 0x3ff)));
    }
}

static bool is_plain(uint8_t b)
{
    return b >= 0x20 && b < 0x7f && b != '"' && b != '\\';
}

static size_t plain_run(struct sp_span s)
{
    size_t n = 0;

    while (n < s.n && is_plain(s.p[n]))
        n++;
    return n;
}

/* A byte that is not UTF-8 becomes the text \xNN: JSON has no way to say it, and a reader of records sees
 * what came. */
void sp_text_json(struct sp_text *t, struct sp_span s)
{
    for (size_t i = 0; i < s.n && !t->cut;) {
        size_t n = plain_run(sp_span(s.p + i, s.n - i));
        uint32_t code;

        if (n > 0) {
            sp_text_add(t, sp_span(s.p + i, n)); /* one letter each: cut anywhere */
        } else if ((n = utf8_char(s.p + i, s.n - i, &code)) > 0) {
            json_char(t, s.p + i, n, code);
        } else {
            add_x(t, s.p[i], "\\\\");
            n = 1;
        }
        i += n;
    }
}

void sp_text_safe(struct sp_text *t, struct sp_span s)
{
    for (size_t i = 0; i < s.n && !t->cut;) {
        uint32_t code = 0;
        size_t n = utf8_char(s.p + i, s.n - i, &code);

        if (n > 0 && !is_unseen(code)) {
            add_whole(t, (const char *)s.p + i, n);
            i += n;
        } else {
            add_x(t, s.p[i++], "\\");
        }
    }
}

/* Days since 1970-01-01 of a day in the proleptic Gregorian calendar; years start in March so that a leap day
 * is the last. */
static int64_t days_of(int32_t year, unsigned month, unsigned day)
{
    int64_t y = month <= 2 ? (int64_t)year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * ((int64_t)month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

struct sp_date sp_date_of(int64_t unix_s)
{
    int64_t day = unix_s / 86400 - (unix_s % 86400 < 0);
    uint32_t left = (uint32_t)(unix_s - day * 86400);
    int64_t z = day + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    uint32_t doe = (uint32_t)(z - era * 146097); /* from here on everything is small and not negative */
    uint32_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint32_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    uint32_t mp = (5 * doy + 2) / 153;
    uint32_t month = mp < 10 ? mp + 3 : mp - 9;

    return (struct sp_date){
        .year = (int32_t)(yoe + era * 400 + (month <= 2)),
        .month = (uint8_t)month,
        .day = (uint8_t)(doy - (153 * mp + 2) / 5 + 1),
        .hour = (uint8_t)(left / 3600),
        .minute = (uint8_t)(left / 60 % 60),
        .second = (uint8_t)(left % 60),
    };
}

bool sp_date_valid(struct sp_date d)
{
    static const uint8_t days[13] = {0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = d.year % 4 == 0 && (d.year % 100 != 0 || d.year % 400 == 0);

    if (d.year < 1 || d.year > 9999 || d.month < 1 || d.month > 12)
        return false;
    return d.day >= 1 && d.day <= days[d.month] + (d.month == 2 && leap) && d.hour < 24 && d.minute < 60 &&
           d.second < 60;
}

int64_t sp_date_unix(struct sp_date d)
{
    return days_of(d.year, d.month, d.day) * 86400 + d.hour * 3600 + d.minute * 60 + d.second;
}

static int64_t clamp(int64_t unix_s)
{
    return unix_s < SP_TIME_MIN ? SP_TIME_MIN : unix_s > SP_TIME_MAX ? SP_TIME_MAX : unix_s;
}

/* v under 100. A tenth by multiplication: the compiler cannot know how small v is. */
static char *pair(char *p, uint32_t v)
{
    uint32_t tens = v * 103 >> 10;

    p[0] = (char)('0' + tens);
    p[1] = (char)('0' + v - 10 * tens);
    return p + 2;
}

static char *digits(char *p, unsigned v, int n)
{
    for (int i = n - 1; i >= 0; i--, v /= 10)
        p[i] = (char)('0' + v % 10);
    return p + n;
}

void sp_text_time(struct sp_text *t, int64_t unix_s)
{
    struct sp_date d = sp_date_of(clamp(unix_s));
    char b[15], *p = pair(pair(b, (unsigned)d.year / 100), (unsigned)d.year % 100);

    p = pair(pair(pair(pair(pair(p, d.month), d.day), d.hour), d.minute), d.second);
    *p = 'Z';
    add_whole(t, b, sizeof b);
}

void sp_text_iso_us(struct sp_text *t, int64_t unix_us)
{
    int64_t s = unix_us / 1000000 - (unix_us % 1000000 < 0);
    struct sp_date d = sp_date_of(clamp(s));
    char b[27], *p = digits(b, (unsigned)d.year, 4);

    *p++ = '-';
    p = digits(p, d.month, 2);
    *p++ = '-';
    p = digits(p, d.day, 2);
    *p++ = 'T';
    p = digits(p, d.hour, 2);
    *p++ = ':';
    p = digits(p, d.minute, 2);
    *p++ = ':';
    p = digits(p, d.second, 2);
    *p++ = '.';
    p = digits(p, (unsigned)(unix_us - s * 1000000), 6);
    *p = 'Z';
    add_whole(t, b, sizeof b);
}

static int nibble(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool sp_unhex(struct sp_span hex, uint8_t *out, size_t max, size_t *n)
{
    *n = 0;
    if (hex.n % 2 != 0 || hex.n / 2 > max)
        return false;
    for (size_t i = 0; i < hex.n; i += 2) {
        int hi = nibble(hex.p[i]), lo = nibble(hex.p[i + 1]);

        if (hi < 0 || lo < 0)
            return false;
        out[i / 2] = (uint8_t)(hi << 4 | lo);
    }
    *n = hex.n / 2;
    return true;
}

bool sp_decimal(struct sp_span s, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;

    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned d = (unsigned)s.p[i] - '0';

        if (d > 9 || __builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, d, &v) || v > max)
            return false;
    }
    *out = v;
    return true;
}
