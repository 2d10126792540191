/* SPDX-License-Identifier: MIT */
/* Writing, back to front: the last byte first, so that a length is known when its header is written. What
 * does not fit is counted and dropped; sp_put_done tells. */
#ifndef SP_BYTES_EMITTER_H
#define SP_BYTES_EMITTER_H

#include "base/err.h"
#include "base/span.h"

struct sp_emit {
    uint8_t *end; /* one past the last byte of the buffer */
    size_t cap;
    size_t n; /* bytes so far, also those that did not fit */
    struct sp_err *e;
};

static inline struct sp_emit sp_emit_to(uint8_t *buf, size_t cap, struct sp_err *e)
{
    return (struct sp_emit){buf ? buf + cap : buf, buf ? cap : 0, 0, e};
}

static inline void sp_put_u8(struct sp_emit *o, uint8_t b)
{
    if (++o->n <= o->cap)
        *(o->end - o->n) = b;
}

static inline void sp_put_bytes(struct sp_emit *o, struct sp_span s)
{
    o->n += s.n;
    if (o->n <= o->cap && s.n > 0)
        memcpy(o->end - o->n, s.p, s.n);
}

/* Values in the byte order of their name; what is put first stands last. */
void sp_put_be16(struct sp_emit *o, uint16_t v);
void sp_put_be32(struct sp_emit *o, uint32_t v);
void sp_put_be64(struct sp_emit *o, uint64_t v);
void sp_put_le16(struct sp_emit *o, uint16_t v);
void sp_put_le32(struct sp_emit *o, uint32_t v);
void sp_put_le64(struct sp_emit *o, uint64_t v);

/* What was written. SP_EFULL when the buffer was too small (o->n is what it takes); any earlier failure
 * stays. */
SP_MUST bool sp_put_done(struct sp_emit *o, struct sp_span *out);

#endif
