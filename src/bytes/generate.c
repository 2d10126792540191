/* SPDX-License-Identifier: MIT */
#include <stdalign.h>

#include "bytes/walk.h"

struct maker {
    struct sp_rng *rng;
    struct sp_arena *mem;
    struct sp_err *e;
};

static bool make_type(struct maker *g, const struct sp_type *t, uint8_t *to);

static uint32_t any(struct maker *g)
{
    uint32_t v;

    sp_rng_fill(g->rng, &v, sizeof v);
    return v;
}

/* Numbers of every length, edges included: random bits under a random mask. */
static uint32_t any_size(struct maker *g)
{
    uint32_t v = any(g), width = any(g) % 33;

    return width == 32 ? v : v & ((1u << width) - 1);
}

static bool make_bytes(struct maker *g, bool text, struct sp_span *to)
{
    static const char letter[] = "abcXYZ019/@\\.$-_ \xc3\xa9";
    uint32_t how = any(g) % 16;
    size_t n = how == 0            ? 0
               : how == 1          ? 120 + any(g) % 16
               : how == 2 && !text ? 250 + any(g) % 12
                                   : any(g) % 24;
    uint8_t *p = sp_alloc(g->mem, n, g->e);

    if (!p)
        return false;
    sp_rng_fill(g->rng, p, n);
    for (size_t i = 0; text && i < n; i++)
        p[i] = (uint8_t)letter[p[i] % (sizeof letter - 1)];
    *to = sp_span(p, n);
    return true;
}

/* The letters of make_bytes' alphabet that are one byte long. */
static bool make_utf8(struct maker *g, struct sp_span *to)
{
    uint8_t *p;

    if (!make_bytes(g, true, to))
        return false;
    p = (uint8_t *)(uintptr_t)to->p; /* the maker's own bytes, from a moment ago */
    for (size_t i = 0; i < to->n; i++)
        p[i] &= 0x7f;
    return true;
}

static int64_t any_time(struct maker *g)
{
    uint64_t span = (uint64_t)(SP_TIME_MAX - SP_TIME_MIN) + 1;

    if (any(g) % 4 != 0)
        return any(g);
    return SP_TIME_MIN + (int64_t)(((uint64_t)any(g) << 32 | any(g)) % span);
}

static bool make_list(struct maker *g, const struct sp_field *f, struct sp_list *to)
{
    size_t size = f->kind == SP_ROW_LIST   ? f->sub->size
                  : f->kind == SP_ROW_STRS ? sizeof(struct sp_span)
                                           : sizeof(int32_t);
    struct sp_list l = {NULL, any(g) % 4};

    if (any(g) % 64 == 0 && f->kind != SP_ROW_LIST)
        l.count = f->max;
    l.v = sp_alloc_array(g->mem, l.count, size, g->e);
    if (!l.v)
        return false;
    for (uint32_t i = 0; i < l.count; i++) {
        uint8_t *one = (uint8_t *)l.v + i * size;

        if (f->kind == SP_ROW_LIST && !make_type(g, f->sub, one))
            return false;
        if (f->kind == SP_ROW_STRS && !make_bytes(g, true, (struct sp_span *)(void *)one))
            return false;
        if (f->kind == SP_ROW_I32S)
            *(int32_t *)(void *)one = (int32_t)(any(g) % 2 ? any_size(g) : ~any_size(g));
    }
    *to = l;
    return true;
}

static bool make_value(struct maker *g, const struct sp_type *t, const struct sp_field *f, uint8_t *base)
{
    void *to = base + (f->off == SP_NOWHERE ? 0 : f->off);

    switch ((enum sp_row_kind)f->kind) {
    case SP_ROW_I32:
        *(int32_t *)to = (int32_t)(any(g) % 2 ? any_size(g) : ~any_size(g));
        return true;
    case SP_ROW_U32:
        *(uint32_t *)to = any_size(g);
        return true;
    case SP_ROW_NONCE:
        *(int64_t *)to = any(g) % 2 ? (int64_t)any_size(g) : (int32_t)any_size(g);
        return true;
    case SP_ROW_USEC:
        *(uint32_t *)to = any(g) % 8 == 0 ? 999999 : any_size(g) % 1000000;
        return true;
    case SP_ROW_FIXED:
    case SP_ROW_NUMBER:
        if (f->off != SP_NOWHERE)
            *(int32_t *)to = f->kind == SP_ROW_FIXED ? f->fixed : t->app;
        return true;
    case SP_ROW_FLAGS:
        *(uint32_t *)to = any(g);
        return true;
    case SP_ROW_OCTETS:
    case SP_ROW_STR:
        return make_bytes(g, f->kind == SP_ROW_STR, to);
    case SP_ROW_UTF8:
        return make_utf8(g, to);
    case SP_ROW_TIME:
        *(int64_t *)to = any_time(g);
        return true;
    case SP_ROW_SUB:
        return make_type(g, f->sub, to);
    case SP_ROW_LIST:
    case SP_ROW_I32S:
    case SP_ROW_STRS:
        return make_list(g, f, to);
    }
    return false;
}

static bool make_type(struct maker *g, const struct sp_type *t, uint8_t *to)
{
    uint32_t has = 0, chosen = t->choice ? any(g) % t->count : 0;

    for (const struct sp_field *f = t->field, *end = f + t->count; f < end; f++) {
        if (t->choice && f != t->field + chosen)
            continue;
        if (!t->choice && (f->flags & SP_OPTIONAL) && any(g) % 2)
            continue;
        if (!make_value(g, t, f, to))
            return false;
        has |= 1u << f->tag;
    }
    if (t->has != SP_NOWHERE)
        *(uint32_t *)(void *)(to + t->has) = has;
    return true;
}

bool sp_type_generate(const struct sp_type *t, struct sp_rng *rng, struct sp_arena *mem, void *out,
                      struct sp_err *e)
{
    alignas(max_align_t) uint8_t local[SP_TYPE_SIZE_MAX];
    struct maker g = {rng, mem, e};

    sp_assert(t->size <= sizeof local);
    memset(local, 0, t->size);
    if (!make_type(&g, t, local))
        return false;
    memcpy(out, local, t->size);
    return true;
}
