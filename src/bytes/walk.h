/* SPDX-License-Identifier: MIT */
/* One description per message: a type is a table of rows, and one walker each reads, writes, prints and
 * generates from it. A row's macro checks the C type of its member, so a row cannot lie about its field.
 * Recursion is as deep as the tables are, whatever the input holds. */
#ifndef SP_BYTES_WALK_H
#define SP_BYTES_WALK_H

#include <stddef.h>

#include "base/arena.h"
#include "base/env.h"
#include "base/text.h"

enum sp_row_kind {
    SP_ROW_I32,   /* INTEGER, int32_t */
    SP_ROW_U32,   /* INTEGER, uint32_t; four bytes with the sign set are read as unsigned */
    SP_ROW_NONCE, /* INTEGER, int64_t, -2^31..2^32-1: written again as it was sent */
    SP_ROW_USEC,  /* Microseconds, uint32_t, 0..999999 */
    SP_ROW_FIXED, /* INTEGER of one value; `proto` tells the peer when it is another; the member (int32_t) may
                     be absent */
    SP_ROW_NUMBER, /* the same, the value being the type's application number (msg-type) */
    SP_ROW_FLAGS,  /* KerberosFlags, uint32_t */
    SP_ROW_OCTETS, /* OCTET STRING, struct sp_span */
    SP_ROW_STR,    /* GeneralString, struct sp_span */
    SP_ROW_UTF8,   /* UTF8String, struct sp_span; what is not UTF-8 is refused */
    SP_ROW_TIME,   /* KerberosTime, int64_t */
    SP_ROW_SUB,    /* another table's type, in place */
    SP_ROW_LIST,   /* SEQUENCE OF another table's type, {v, count} */
    SP_ROW_I32S,   /* SEQUENCE OF Int32, {v, count} */
    SP_ROW_STRS,   /* SEQUENCE OF GeneralString, struct sp_spans */
};
enum {
    SP_OPTIONAL = 1,
    SP_SECRET = 2, /* printed as its length only */
};
enum {
    SP_NOWHERE = 0xffff /* an offset of nothing */
};

struct sp_type;
struct sp_field {
    const char *name;          /* as in the RFC */
    const struct sp_type *sub; /* SUB and LIST */
    uint16_t off;              /* of the member */
    uint8_t tag;               /* context tag, 0..30; also its bit in `has` */
    uint8_t kind;
    uint8_t flags;
    uint8_t fixed; /* FIXED */
    uint16_t max;  /* elements of a list */
    int32_t proto; /* FIXED, NUMBER */
};

struct sp_type {
    const char *name;
    const struct sp_field *field;
    uint8_t count; /* rows */
    uint8_t app;   /* application number, 0 for none */
    bool list;     /* the type is the SEQUENCE OF that its only row describes */
    bool choice;   /* CHOICE: exactly one of its rows, all OPTIONAL, and no SEQUENCE around it */
    bool open;     /* has an extension marker: unknown fields at its end may be skipped */
    uint16_t size; /* of the C struct */
    uint16_t has;  /* offset of `uint32_t has`, or SP_NOWHERE */
    uint16_t raw;  /* offset of the span that is set to the whole element on reading, or SP_NOWHERE */
};
#define SP_TYPE_SIZE_MAX 512

/* Rows. M is the struct, defined around each table. */
#define SP_OFF(m, T) (uint16_t)(offsetof(M, m) + 0 * sizeof(char[_Generic(&((M *)0)->m, T * : 1)]))
#define SP_ROW_(t, m, T, k, fl, nm)                                                                          \
    {                                                                                                        \
        .name = nm, .off = SP_OFF(m, T), .tag = t, .kind = k, .flags = fl                                    \
    }
#define SP_LIST_(t, m, L, T, k, n, nm)                                                                       \
    {                                                                                                        \
        .name = nm, .off = SP_OFF(m, L) + 0 * sizeof(char[_Generic(((M *)0)->m.v, T * : 1)]), .tag = t,      \
        .kind = k, .max = n                                                                                  \
    }
#define I32(t, m, nm) SP_ROW_(t, m, int32_t, SP_ROW_I32, 0, nm)
#define U32(t, m, nm) SP_ROW_(t, m, uint32_t, SP_ROW_U32, 0, nm)
#define NONCE(t, m, nm) SP_ROW_(t, m, int64_t, SP_ROW_NONCE, 0, nm)
#define ONONCE(t, m, nm) SP_ROW_(t, m, int64_t, SP_ROW_NONCE, SP_OPTIONAL, nm)
#define OU32(t, m, nm) SP_ROW_(t, m, uint32_t, SP_ROW_U32, SP_OPTIONAL, nm)
#define USEC(t, m, nm) SP_ROW_(t, m, uint32_t, SP_ROW_USEC, 0, nm)
#define OUSEC(t, m, nm) SP_ROW_(t, m, uint32_t, SP_ROW_USEC, SP_OPTIONAL, nm)
#define FLAGS(t, m, nm) SP_ROW_(t, m, uint32_t, SP_ROW_FLAGS, 0, nm)
#define OFLAGS(t, m, nm) SP_ROW_(t, m, uint32_t, SP_ROW_FLAGS, SP_OPTIONAL, nm)
#define OCTETS(t, m, nm) SP_ROW_(t, m, struct sp_span, SP_ROW_OCTETS, 0, nm)
#define OOCTETS(t, m, nm) SP_ROW_(t, m, struct sp_span, SP_ROW_OCTETS, SP_OPTIONAL, nm)
#define SECRET(t, m, nm) SP_ROW_(t, m, struct sp_span, SP_ROW_OCTETS, SP_SECRET, nm)
#define STR(t, m, nm) SP_ROW_(t, m, struct sp_span, SP_ROW_STR, 0, nm)
#define UTF8(t, m, nm) SP_ROW_(t, m, struct sp_span, SP_ROW_UTF8, 0, nm)
#define OSTR(t, m, nm) SP_ROW_(t, m, struct sp_span, SP_ROW_STR, SP_OPTIONAL, nm)
#define TIME(t, m, nm) SP_ROW_(t, m, int64_t, SP_ROW_TIME, 0, nm)
#define OTIME(t, m, nm) SP_ROW_(t, m, int64_t, SP_ROW_TIME, SP_OPTIONAL, nm)
#define I32S(t, m, T, n, nm) SP_LIST_(t, m, T, int32_t, SP_ROW_I32S, n, nm)
#define STRS(t, m, n, nm) SP_LIST_(t, m, struct sp_spans, struct sp_span, SP_ROW_STRS, n, nm)
#define FIXED(t, m, v, p, nm)                                                                                \
    {                                                                                                        \
        .name = nm, .off = SP_OFF(m, int32_t), .tag = t, .kind = SP_ROW_FIXED, .fixed = v, .proto = p        \
    }
#define ONLY(t, v, p, nm)                                                                                    \
    {                                                                                                        \
        .name = nm, .off = SP_NOWHERE, .tag = t, .kind = SP_ROW_FIXED, .fixed = v, .proto = p                \
    }
#define NUMBER(t, m, p, nm)                                                                                  \
    {                                                                                                        \
        .name = nm, .off = SP_OFF(m, int32_t), .tag = t, .kind = SP_ROW_NUMBER, .proto = p                   \
    }

/* Reads one whole element; bytes behind it are refused. *out is untouched on failure, and the arena as it
 * was. */
SP_MUST bool sp_type_get(const struct sp_type *t, struct sp_span in, bool unknown_tail, struct sp_arena *mem,
                         void *out, struct sp_err *e);

/* Writes at the end of buf[0..cap); *n is the size, also on SP_EFULL. What a reader would refuse (a list too
 * long, a time or microseconds out of range) is SP_EINPUT. */
SP_MUST bool sp_type_put(const struct sp_type *t, const void *msg, uint8_t *buf, size_t cap, size_t *n,
                         struct sp_span *out, struct sp_err *e);

/* One field a line, indented by two a level. */
void sp_type_print(const struct sp_type *t, const void *msg, struct sp_text *to);

/* A random value that is valid: for tests and fuzzers. Everything it points at is in the arena. */
SP_MUST bool sp_type_generate(const struct sp_type *t, struct sp_rng *rng, struct sp_arena *mem, void *out,
                              struct sp_err *e);

/* What all lists look like. */
struct sp_list {
    void *v;
    uint32_t count;
};

#endif
