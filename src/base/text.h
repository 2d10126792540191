/* SPDX-License-Identifier: MIT */
/* Text: a bounded builder, hex, base64, UTF-8 checks, JSON and terminal escaping. Hostile names go out
 * through here. */
#ifndef SP_BASE_TEXT_H
#define SP_BASE_TEXT_H

#include "base/err.h"
#include "base/span.h"

/* Appends; what does not fit is dropped and `cut` remembers it. Always NUL-terminated when max > 0. */
struct sp_text {
    char *p;
    size_t n, max;
    bool cut;
};

static inline struct sp_text sp_text(char *buf, size_t max)
{
    if (max > 0)
        buf[0] = 0;
    return (struct sp_text){buf, 0, max, false};
}

void sp_text_add(struct sp_text *t, struct sp_span s);
void sp_text_str(struct sp_text *t, const char *s);

/* The same for a literal, whose length the compiler knows: where lines are written at the pace of requests.
 */
#define SP_TEXT_LIT(t, s) sp_text_put((t), "" s, sizeof(s) - 1)
static inline void sp_text_put(struct sp_text *t, const char *s, size_t n)
{
    if (t->cut || t->n >= t->max || n > t->max - 1 - t->n) {
        sp_text_add(t, sp_span(s, n));
        return;
    }
    memcpy(t->p + t->n, s, n);
    t->n += n;
    t->p[t->n] = 0;
}

/* Decimal, whole or not at all. */
void sp_text_int(struct sp_text *t, int64_t v);
void sp_text_uint(struct sp_text *t, uint64_t v);
__attribute__((format(printf, 2, 3))) void sp_text_fmt(struct sp_text *t, const char *fmt, ...);
void sp_text_hex(struct sp_text *t, struct sp_span s);

/* The inside of a JSON string (no quotes): control bytes, quote, backslash and what is not UTF-8 escaped. */
void sp_text_json(struct sp_text *t, struct sp_span s);

/* For a terminal: anything but printable ASCII and whole UTF-8 letters becomes \xNN. */
void sp_text_safe(struct sp_text *t, struct sp_span s);

/* The first and the last second that four digits of a year can say; what is outside is written as the nearest
 * of them. */
#define SP_TIME_MIN INT64_C(-62135596800)
#define SP_TIME_MAX INT64_C(253402300799)
/* "20261121140501Z" */
void sp_text_time(struct sp_text *t, int64_t unix_s);
/* "2026-11-21T14:05:01.123456Z" */
void sp_text_iso_us(struct sp_text *t, int64_t unix_us);

/* Days and seconds without the C library's time zone code. month 1..12 */
struct sp_date {
    int32_t year;
    uint8_t month, day, hour, minute, second;
};
struct sp_date sp_date_of(int64_t unix_s);
bool sp_date_valid(struct sp_date d);
int64_t sp_date_unix(struct sp_date d);

bool sp_is_utf8(struct sp_span s);

/* Hex into bytes; false when odd, not hex or longer than max. *n is set. */
bool sp_unhex(struct sp_span hex, uint8_t *out, size_t max, size_t *n);

/* A decimal number of at most `max`; false on anything else, also on an empty span. */
bool sp_decimal(struct sp_span s, uint64_t max, uint64_t *out);

#endif
