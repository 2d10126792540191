/* SPDX-License-Identifier: MIT */
/* The DER (X.690) that Kerberos uses, strictly: one-byte tags, definite and shortest lengths of at most four
 * bytes, shortest integers. Where a refusal points: a wrong tag at the tag; a bad or too large length at its
 * first byte; a bad value at its first byte; bytes too many at the first of them. */
#ifndef SP_BYTES_DER_H
#define SP_BYTES_DER_H

#include "bytes/cursor.h"
#include "bytes/emitter.h"

enum {
    DER_INTEGER = 0x02,
    DER_BIT_STRING = 0x03,
    DER_OCTET_STRING = 0x04,
    DER_OID = 0x06,
    DER_ENUMERATED = 0x0a,
    DER_UTF8 = 0x0c,
    DER_TIME = 0x18,   /* GeneralizedTime */
    DER_STRING = 0x1b, /* GeneralString */
    DER_SEQUENCE = 0x30,
    DER_APPLICATION = 0x60, /* constructed; | number up to 30 */
    DER_CONTEXT = 0xa0,     /* constructed; | number up to 30 */
};
#define DER_RANGE 60 /* KRB_ERR_GENERIC: the proto of a number or a time outside its range */

/* Behind sp_der_head when the header is not the short one that nearly all are. */
SP_MUST bool sp_der_head_slow(struct sp_cur *c, uint8_t tag, const char *what, size_t *n);

/* Reads the header of an element with this tag; its n bytes of content follow and are there. */
SP_MUST static inline bool sp_der_head(struct sp_cur *c, uint8_t tag, const char *what, size_t *n)
{
    if (sp_left(c) >= 2 && c->p[0] == tag && c->p[1] < 0x80 && c->p[1] <= sp_left(c) - 2) {
        *n = c->p[1];
        c->p += 2;
        return true;
    }
    return sp_der_head_slow(c, tag, what, n);
}

/* Steps into an element: the cursor ends where the element ends. *outer is for sp_der_leave. */
SP_MUST static inline bool sp_der_enter(struct sp_cur *c, uint8_t tag, const char *what,
                                        const uint8_t **outer)
{
    size_t n;

    if (!sp_der_head(c, tag, what, &n))
        return false;
    *outer = c->end;
    c->end = c->p + n;
    return true;
}

/* Steps out; what is left inside is refused. */
SP_MUST static inline bool sp_der_leave(struct sp_cur *c, const char *what, const uint8_t *outer)
{
    if (c->p != c->end)
        return sp_cur_fail(c, c->p, 0, what, "more than expected");
    c->end = outer;
    return true;
}

/* The content of an element with this tag. */
SP_MUST static inline bool sp_der_get(struct sp_cur *c, uint8_t tag, const char *what, struct sp_span *out)
{
    size_t n = 0;

    if (!sp_der_head(c, tag, what, &n))
        return false;
    *out = sp_span(c->p, n);
    c->p += n;
    return true;
}
/* Any element, tag and all. */
SP_MUST bool sp_der_any(struct sp_cur *c, const char *what, struct sp_span *out);
/* INTEGER; out of [lo, hi] is refused with DER_RANGE. */
SP_MUST bool sp_der_int(struct sp_cur *c, const char *what, int64_t lo, int64_t hi, int64_t *out);
/* UInt32, also when a peer wrote it as four bytes with the sign set (decision 16). */
SP_MUST bool sp_der_u32(struct sp_cur *c, const char *what, uint32_t *out);
/* KerberosFlags (RFC 4120 5.2.8): the first 32 bits; longer is read, shorter refused. */
SP_MUST bool sp_der_flags(struct sp_cur *c, const char *what, uint32_t *out);
/* KerberosTime (RFC 4120 5.2.3): exactly YYYYMMDDHHMMSSZ, years 1 to 9999. */
SP_MUST bool sp_der_time(struct sp_cur *c, const char *what, int64_t *unix_s);

/* Behind sp_put_der_head when the length is not short, or there is no room. */
void sp_put_der_head_slow(struct sp_emit *o, uint8_t tag, size_t mark);

/* Written back to front: `mark` is o->n as it was before the content was put. */
static inline void sp_put_der_head(struct sp_emit *o, uint8_t tag, size_t mark)
{
    size_t n = o->n - mark;

    if (n >= 0x80 || o->n + 2 > o->cap) {
        sp_put_der_head_slow(o, tag, mark);
        return;
    }
    o->n += 2;
    (o->end - o->n)[0] = tag;
    (o->end - o->n)[1] = (uint8_t)n;
}
void sp_put_der(struct sp_emit *o, uint8_t tag, struct sp_span content);
void sp_put_der_int(struct sp_emit *o, int64_t v);
void sp_put_der_flags(struct sp_emit *o, uint32_t v);
/* Fails the emitter (SP_EINPUT, DER_RANGE) for a time that four digits of a year cannot say. */
void sp_put_der_time(struct sp_emit *o, const char *what, int64_t unix_s);

#endif
