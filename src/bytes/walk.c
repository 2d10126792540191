/* SPDX-License-Identifier: MIT */
#include "bytes/walk.h"

#include <stdalign.h>

#include "bytes/der.h"

struct reader {
    struct sp_cur c;
    struct sp_arena *mem;
    bool unknown_tail;
};

static bool get_type(struct reader *r, const struct sp_type *t, uint8_t *to);

/* How many elements are inside; the cursor stays where it is. The bound comes before the allocation. */
static bool count_elements(struct reader *r, const struct sp_field *f, uint32_t *count)
{
    struct sp_cur c = r->c;
    struct sp_span one;
    uint32_t n = 0;

    for (; sp_left(&c) > 0; n++) {
        const uint8_t *at = c.p;

        if (!sp_der_any(&c, f->name, &one))
            return false;
        if (n == f->max)
            return sp_cur_fail(&r->c, at, 0, f->name, "too many of them");
    }
    *count = n;
    return true;
}

static size_t element_size(const struct sp_field *f)
{
    return f->kind == SP_ROW_LIST   ? f->sub->size
           : f->kind == SP_ROW_STRS ? sizeof(struct sp_span)
                                    : sizeof(int32_t);
}

static bool get_element(struct reader *r, const struct sp_field *f, uint8_t *to)
{
    int64_t v = 0;

    if (f->kind == SP_ROW_LIST)
        return get_type(r, f->sub, to);
    if (f->kind == SP_ROW_STRS)
        return sp_der_get(&r->c, DER_STRING, f->name, (struct sp_span *)(void *)to);
    if (!sp_der_int(&r->c, f->name, INT32_MIN, INT32_MAX, &v))
        return false;
    *(int32_t *)(void *)to = (int32_t)v;
    return true;
}

static bool get_list(struct reader *r, const struct sp_field *f, struct sp_list *to)
{
    struct sp_list l = {NULL, 0};
    const uint8_t *outer;
    size_t size = element_size(f);

    if (!sp_der_enter(&r->c, DER_SEQUENCE, f->name, &outer) || !count_elements(r, f, &l.count))
        return false;
    l.v = sp_alloc_array(r->mem, l.count, size, r->c.e);
    if (!l.v)
        return false;
    for (uint32_t i = 0; i < l.count; i++) {
        if (!get_element(r, f, (uint8_t *)l.v + i * size))
            return false;
    }
    *to = l;
    return sp_der_leave(&r->c, f->name, outer);
}

static bool get_fixed(struct reader *r, const struct sp_field *f, int32_t want, uint8_t *base)
{
    const uint8_t *at = r->c.p + 2;
    int64_t v;

    if (!sp_der_int(&r->c, f->name, INT64_MIN, INT64_MAX, &v))
        return false;
    if (v != want)
        return sp_cur_fail(&r->c, at, f->proto, f->name, "not the number it has to be");
    if (f->off != SP_NOWHERE)
        *(int32_t *)(void *)(base + f->off) = want;
    return true;
}

static bool get_number(struct reader *r, const struct sp_field *f, void *to)
{
    int64_t v = 0;
    bool ok = f->kind == SP_ROW_USEC ? sp_der_int(&r->c, f->name, 0, 999999, &v)
                                     : sp_der_int(&r->c, f->name, INT32_MIN, INT32_MAX, &v);

    *(uint32_t *)to = (uint32_t)v;
    return ok;
}

static bool get_utf8(struct reader *r, const struct sp_field *f, struct sp_span *to)
{
    if (!sp_der_get(&r->c, DER_UTF8, f->name, to))
        return false;
    return sp_is_utf8(*to) || sp_cur_fail(&r->c, to->p, 0, f->name, "not UTF-8");
}

static bool get_value(struct reader *r, const struct sp_type *t, const struct sp_field *f, uint8_t *base)
{
    void *to = base + (f->off == SP_NOWHERE ? 0 : f->off);

    switch ((enum sp_row_kind)f->kind) {
    case SP_ROW_I32:
    case SP_ROW_USEC:
        return get_number(r, f, to);
    case SP_ROW_U32:
        return sp_der_u32(&r->c, f->name, to);
    case SP_ROW_NONCE:
        return sp_der_int(&r->c, f->name, INT32_MIN, UINT32_MAX, to);
    case SP_ROW_FIXED:
        return get_fixed(r, f, f->fixed, base);
    case SP_ROW_NUMBER:
        return get_fixed(r, f, t->app, base);
    case SP_ROW_FLAGS:
        return sp_der_flags(&r->c, f->name, to);
    case SP_ROW_OCTETS:
        return sp_der_get(&r->c, DER_OCTET_STRING, f->name, to);
    case SP_ROW_STR:
        return sp_der_get(&r->c, DER_STRING, f->name, to);
    case SP_ROW_UTF8:
        return get_utf8(r, f, to);
    case SP_ROW_TIME:
        return sp_der_time(&r->c, f->name, to);
    case SP_ROW_SUB:
        return get_type(r, f->sub, to);
    case SP_ROW_LIST:
    case SP_ROW_I32S:
    case SP_ROW_STRS:
        return get_list(r, f, to);
    }
    return false;
}

/* Fields that a later version of an open type added: whole elements with rising context tags (X.690 and the
 * marker's sense). */
static bool skip_tail(struct reader *r, const struct sp_type *t)
{
    unsigned last = t->count > 0 ? DER_CONTEXT | t->field[t->count - 1].tag : 0;

    while (sp_left(&r->c) > 0) {
        const uint8_t *at = r->c.p;
        struct sp_span one;

        if (*at <= last || *at > (DER_CONTEXT | 30))
            return sp_cur_fail(&r->c, at, 0, t->name, "unexpected field");
        last = *at;
        if (!sp_der_any(&r->c, t->name, &one))
            return false;
    }
    return true;
}

/* One row's element, context tag and all. */
static bool get_field(struct reader *r, const struct sp_type *t, const struct sp_field *f, uint8_t *to)
{
    const uint8_t *outer;

    return sp_der_enter(&r->c, (uint8_t)(DER_CONTEXT | f->tag), f->name, &outer) && get_value(r, t, f, to) &&
           sp_der_leave(&r->c, f->name, outer);
}

static bool get_choice(struct reader *r, const struct sp_type *t, uint8_t *to)
{
    for (const struct sp_field *f = t->field, *end = f + t->count; f < end; f++) {
        if (sp_left(&r->c) == 0 || *r->c.p != (DER_CONTEXT | f->tag))
            continue;
        *(uint32_t *)(void *)(to + t->has) = 1u << f->tag;
        return get_field(r, t, f, to);
    }
    return sp_cur_fail(&r->c, r->c.p, 0, t->name, "none of its choices");
}

static bool get_fields(struct reader *r, const struct sp_type *t, uint8_t *to)
{
    uint32_t has = 0;

    for (const struct sp_field *f = t->field, *end = f + t->count; f < end; f++) {
        if ((f->flags & SP_OPTIONAL) && (sp_left(&r->c) == 0 || *r->c.p != (DER_CONTEXT | f->tag)))
            continue;
        if (!get_field(r, t, f, to))
            return false;
        has |= 1u << f->tag;
    }
    if (t->has != SP_NOWHERE)
        *(uint32_t *)(void *)(to + t->has) = has;
    if (t->open && r->unknown_tail)
        return skip_tail(r, t);
    return true;
}

static bool get_type(struct reader *r, const struct sp_type *t, uint8_t *to)
{
    const uint8_t *start = r->c.p, *app = NULL, *outer;

    if (t->list)
        return get_value(r, t, t->field, to);
    if (t->choice)
        return get_choice(r, t, to);
    if (t->app && !sp_der_enter(&r->c, (uint8_t)(DER_APPLICATION | t->app), t->name, &app))
        return false;
    if (!sp_der_enter(&r->c, DER_SEQUENCE, t->name, &outer) || !get_fields(r, t, to) ||
        !sp_der_leave(&r->c, t->name, outer))
        return false;
    if (t->app && !sp_der_leave(&r->c, t->name, app))
        return false;
    if (t->raw != SP_NOWHERE)
        *(struct sp_span *)(void *)(to + t->raw) = sp_span(start, (size_t)(r->c.p - start));
    return true;
}

bool sp_type_get(const struct sp_type *t, struct sp_span in, bool unknown_tail, struct sp_arena *mem,
                 void *out, struct sp_err *e)
{
    alignas(max_align_t) uint8_t local[SP_TYPE_SIZE_MAX];
    struct reader r = {sp_cur_of(in, e), mem, unknown_tail};
    size_t mark = mem->used;

    sp_assert(t->size <= sizeof local);
    memset(local, 0, t->size);
    if (!get_type(&r, t, local) || !sp_cur_done(&r.c, t->name)) {
        mem->used = mark;
        return false;
    }
    memcpy(out, local, t->size);
    return true;
}

static void put_type(struct sp_emit *o, const struct sp_type *t, const uint8_t *from);

static void put_list(struct sp_emit *o, const struct sp_field *f, const struct sp_list *l)
{
    size_t mark = o->n, size = element_size(f);

    if (l->count > f->max) {
        (void)sp_fail(o->e, SP_EINPUT, 0, "%s: %u of them, at most %u", f->name, l->count, f->max);
        return;
    }
    for (uint32_t i = l->count; i > 0; i--) {
        const void *one = (const uint8_t *)l->v + (i - 1) * size;

        if (f->kind == SP_ROW_LIST)
            put_type(o, f->sub, one);
        else if (f->kind == SP_ROW_STRS)
            sp_put_der(o, DER_STRING, *(const struct sp_span *)one);
        else
            sp_put_der_int(o, *(const int32_t *)one);
    }
    sp_put_der_head(o, DER_SEQUENCE, mark);
}

static void put_usec(struct sp_emit *o, const struct sp_field *f, uint32_t v)
{
    if (v > 999999)
        (void)sp_fail(o->e, SP_EINPUT, DER_RANGE, "%s: %u is no number of microseconds", f->name, v);
    sp_put_der_int(o, v);
}

static void put_value(struct sp_emit *o, const struct sp_type *t, const struct sp_field *f,
                      const uint8_t *base)
{
    const void *from = base + (f->off == SP_NOWHERE ? 0 : f->off);

    switch ((enum sp_row_kind)f->kind) {
    case SP_ROW_I32:
        sp_put_der_int(o, *(const int32_t *)from);
        return;
    case SP_ROW_U32:
        sp_put_der_int(o, *(const uint32_t *)from);
        return;
    case SP_ROW_NONCE:
        sp_put_der_int(o, *(const int64_t *)from);
        return;
    case SP_ROW_USEC:
        put_usec(o, f, *(const uint32_t *)from);
        return;
    case SP_ROW_FIXED:
        sp_put_der_int(o, f->fixed);
        return;
    case SP_ROW_NUMBER:
        sp_put_der_int(o, t->app);
        return;
    case SP_ROW_FLAGS:
        sp_put_der_flags(o, *(const uint32_t *)from);
        return;
    case SP_ROW_OCTETS:
        sp_put_der(o, DER_OCTET_STRING, *(const struct sp_span *)from);
        return;
    case SP_ROW_STR:
        sp_put_der(o, DER_STRING, *(const struct sp_span *)from);
        return;
    case SP_ROW_UTF8:
        sp_put_der(o, DER_UTF8, *(const struct sp_span *)from);
        return;
    case SP_ROW_TIME:
        sp_put_der_time(o, f->name, *(const int64_t *)from);
        return;
    case SP_ROW_SUB:
        put_type(o, f->sub, from);
        return;
    case SP_ROW_LIST:
    case SP_ROW_I32S:
    case SP_ROW_STRS:
        put_list(o, f, from);
        return;
    }
}

static void put_type(struct sp_emit *o, const struct sp_type *t, const uint8_t *from)
{
    uint32_t has = t->has == SP_NOWHERE ? 0 : *(const uint32_t *)(const void *)(from + t->has);
    size_t mark = o->n;

    if (t->choice && (has == 0 || (has & (has - 1)) != 0))
        (void)sp_fail(o->e, SP_EINPUT, 0, "%s: not exactly one of its choices", t->name);
    if (t->list) {
        put_value(o, t, t->field, from);
        return;
    }
    for (const struct sp_field *f = t->field + t->count; f-- > t->field;) {
        size_t inner = o->n;

        if ((f->flags & SP_OPTIONAL) && !(has & (1u << f->tag)))
            continue;
        put_value(o, t, f, from);
        sp_put_der_head(o, (uint8_t)(DER_CONTEXT | f->tag), inner);
    }
    if (!t->choice)
        sp_put_der_head(o, DER_SEQUENCE, mark);
    if (t->app)
        sp_put_der_head(o, (uint8_t)(DER_APPLICATION | t->app), mark);
}

bool sp_type_put(const struct sp_type *t, const void *msg, uint8_t *buf, size_t cap, size_t *n,
                 struct sp_span *out, struct sp_err *e)
{
    struct sp_emit o = sp_emit_to(buf, cap, e);

    put_type(&o, t, msg);
    *n = o.n;
    return sp_put_done(&o, out);
}
