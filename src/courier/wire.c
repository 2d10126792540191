/* SPDX-License-Identifier: MIT */
#include "courier/wire.h"

#include "bytes/cursor.h"
#include "bytes/emitter.h"

enum { LONG_FORM = 0x80 }; /* of a TLV's type: the length takes three bytes */

static struct sp_span *field_of(struct courier_frame *f, uint8_t type)
{
    switch (type) {
    case COURIER_TLV_REALM:
        return &f->realm;
    case COURIER_TLV_MESSAGE:
        return &f->message;
    case COURIER_TLV_ADDRESS:
        return &f->address;
    case COURIER_TLV_SERVICE:
        return &f->service;
    case COURIER_TLV_TRANSPORT:
        return &f->transport;
    case COURIER_TLV_TEXT:
        return &f->text;
    case COURIER_TLV_CLIENT:
        return &f->client;
    case COURIER_TLV_ALIAS:
        return f->alias_count < COURIER_ALIASES_MAX ? &f->alias[f->alias_count++] : NULL;
    case COURIER_TLV_OTHER:
        return f->other_count < COURIER_OTHERS_MAX ? &f->other[f->other_count++] : NULL;
    default:
        return NULL;
    }
}

static bool get_code(struct sp_cur *c, struct sp_span value, int32_t *code)
{
    struct sp_cur v = sp_cur_of(value, c->e);

    *code = (int32_t)sp_get_be32(&v, "code");
    return sp_cur_done(&v, "code");
}

static bool get_setting(struct sp_cur *c, struct sp_span value, uint8_t *to)
{
    struct sp_cur v = sp_cur_of(value, c->e);

    *to = sp_get_u8(&v, "setting");
    return sp_cur_done(&v, "setting");
}

static bool get_field(struct sp_cur *c, struct courier_frame *f)
{
    uint8_t type = sp_get_u8(c, "field");
    size_t n = (type & LONG_FORM) ? (size_t)sp_get_u8(c, "length") << 16 : 0;
    struct sp_span value, *to;

    n |= sp_get_be16(c, "length");
    value = sp_take(c, n, "value");
    if (!sp_ok(c->e))
        return false;
    type &= (uint8_t)~LONG_FORM;
    if (type == COURIER_TLV_CODE)
        return get_code(c, value, &f->code);
    if (type == COURIER_TLV_OLD_MIT || type == COURIER_TLV_FINISHED)
        return get_setting(c, value, type == COURIER_TLV_OLD_MIT ? &f->old_mit : &f->finished);
    to = field_of(f, type);
    if (to)
        *to = value;
    return true;
}

bool courier_get(struct sp_span in, struct courier_frame *out, struct sp_err *e)
{
    struct sp_cur c = sp_cur_of(in, e);
    struct courier_frame f = {0};
    uint8_t version = sp_get_u8(&c, "version");

    if (sp_ok(e) && version != COURIER_VERSION)
        return sp_cur_fail(&c, c.base, 0, "version", "not one that is known");
    f.type = sp_get_u8(&c, "type");
    f.id = sp_get_be32(&c, "id");
    while (sp_ok(e) && sp_left(&c) > 0) {
        sp_assert(c.p != NULL); /* with bytes left it never is; the analyzer needs to be told */
        if (!get_field(&c, &f))
            return false;
    }
    if (!sp_ok(e))
        return false;
    *out = f;
    return true;
}

static void put_field(struct sp_emit *o, uint8_t type, struct sp_span value)
{
    if (value.n == 0)
        return;
    sp_put_bytes(o, value);
    sp_put_be16(o, (uint16_t)value.n);
    if (value.n > UINT16_MAX) {
        sp_put_u8(o, (uint8_t)(value.n >> 16));
        type |= LONG_FORM;
    }
    sp_put_u8(o, type);
}

static void put_setting(struct sp_emit *o, uint8_t type, uint8_t value)
{
    if (value)
        put_field(o, type, sp_span(&value, 1));
}

static void put_frame(struct sp_emit *o, const struct courier_frame *f)
{
    put_field(o, COURIER_TLV_CLIENT, f->client);
    for (uint32_t i = f->other_count; i > 0; i--)
        put_field(o, COURIER_TLV_OTHER, f->other[i - 1]);
    put_setting(o, COURIER_TLV_FINISHED, f->finished);
    put_setting(o, COURIER_TLV_OLD_MIT, f->old_mit);
    for (uint32_t i = f->alias_count; i > 0; i--)
        put_field(o, COURIER_TLV_ALIAS, f->alias[i - 1]);
    put_field(o, COURIER_TLV_TEXT, f->text);
    if (f->code) {
        sp_put_be32(o, (uint32_t)f->code);
        sp_put_be16(o, 4);
        sp_put_u8(o, COURIER_TLV_CODE);
    }
    put_field(o, COURIER_TLV_TRANSPORT, f->transport);
    put_field(o, COURIER_TLV_SERVICE, f->service);
    put_field(o, COURIER_TLV_ADDRESS, f->address);
    put_field(o, COURIER_TLV_MESSAGE, f->message);
    put_field(o, COURIER_TLV_REALM, f->realm);
    sp_put_be32(o, f->id);
    sp_put_u8(o, f->type);
    sp_put_u8(o, COURIER_VERSION);
}

bool courier_make(const struct courier_frame *f, struct sp_arena *mem, struct sp_span *out, struct sp_err *e)
{
    struct sp_emit o = sp_emit_to(NULL, 0, e);
    size_t n;
    uint8_t *p;

    put_frame(&o, f);
    n = o.n;
    if (n > COURIER_FRAME_MAX || f->alias_count > COURIER_ALIASES_MAX || f->other_count > COURIER_OTHERS_MAX)
        return sp_fail(e, SP_EINPUT, 0, "a frame of %zu bytes for the courier, at most %d", n,
                       COURIER_FRAME_MAX);
    p = sp_alloc(mem, n + 4, e);
    if (!p)
        return false;
    o = sp_emit_to(p, n + 4, e);
    put_frame(&o, f);
    sp_put_be32(&o, (uint32_t)n);
    return sp_put_done(&o, out);
}
