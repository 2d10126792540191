/* SPDX-License-Identifier: MIT */
#include "bytes/emitter.h"

static void put_be(struct sp_emit *o, uint64_t v, size_t n)
{
    for (; n > 0; n--, v >>= 8)
        sp_put_u8(o, (uint8_t)v);
}

static void put_le(struct sp_emit *o, uint64_t v, size_t n)
{
    for (; n > 0; n--)
        sp_put_u8(o, (uint8_t)(v >> 8 * (n - 1)));
}

void sp_put_be16(struct sp_emit *o, uint16_t v)
{
    put_be(o, v, 2);
}

void sp_put_be32(struct sp_emit *o, uint32_t v)
{
    put_be(o, v, 4);
}

void sp_put_be64(struct sp_emit *o, uint64_t v)
{
    put_be(o, v, 8);
}

void sp_put_le16(struct sp_emit *o, uint16_t v)
{
    put_le(o, v, 2);
}

void sp_put_le32(struct sp_emit *o, uint32_t v)
{
    put_le(o, v, 4);
}

void sp_put_le64(struct sp_emit *o, uint64_t v)
{
    put_le(o, v, 8);
}

bool sp_put_done(struct sp_emit *o, struct sp_span *out)
{
    if (!sp_ok(o->e))
        return false;
    if (o->n > o->cap || o->n > INT32_MAX)
        return sp_fail(o->e, SP_EFULL, 0, "%zu bytes do not fit into %zu", o->n, o->cap);
    *out = o->n > 0 ? sp_span(o->end - o->n, o->n) : sp_span(o->end, 0);
    return true;
}
