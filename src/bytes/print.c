/* SPDX-License-Identifier: MIT */
#include "bytes/walk.h"

static void print_type(const struct sp_type *t, const uint8_t *from, unsigned depth, struct sp_text *to);

static void indent(struct sp_text *to, unsigned depth)
{
    for (unsigned i = 0; i < depth; i++)
        sp_text_str(to, "  ");
}

static void print_octets(const struct sp_field *f, const struct sp_span *s, struct sp_text *to)
{
    sp_text_fmt(to, "(%zu bytes)", s->n);
    if (f->flags & SP_SECRET || s->n == 0)
        return;
    sp_text_str(to, " ");
    sp_text_hex(to, *s);
}

static void print_str(const struct sp_span *s, struct sp_text *to)
{
    sp_text_str(to, "\"");
    sp_text_safe(to, *s);
    sp_text_str(to, "\"");
}

static void print_strs(const struct sp_spans *l, struct sp_text *to)
{
    for (uint32_t i = 0; i < l->count; i++) {
        sp_text_str(to, i > 0 ? " " : "");
        print_str(&l->v[i], to);
    }
}

static void print_numbers(const struct sp_list *l, struct sp_text *to)
{
    for (uint32_t i = 0; i < l->count; i++)
        sp_text_fmt(to, "%s%d", i > 0 ? " " : "", ((const int32_t *)l->v)[i]);
}

/* A value that has a line of its own; false for one that has several. */
static bool print_simple(const struct sp_type *t, const struct sp_field *f, const void *from,
                         struct sp_text *to)
{
    switch ((enum sp_row_kind)f->kind) {
    case SP_ROW_I32:
        sp_text_fmt(to, "%d", *(const int32_t *)from);
        return true;
    case SP_ROW_U32:
    case SP_ROW_USEC:
        sp_text_fmt(to, "%u", *(const uint32_t *)from);
        return true;
    case SP_ROW_NONCE:
        sp_text_fmt(to, "%lld", (long long)*(const int64_t *)from);
        return true;
    case SP_ROW_FIXED:
        sp_text_fmt(to, "%u", f->fixed);
        return true;
    case SP_ROW_NUMBER:
        sp_text_fmt(to, "%u", t->app);
        return true;
    case SP_ROW_FLAGS:
        sp_text_fmt(to, "0x%08x", *(const uint32_t *)from);
        return true;
    case SP_ROW_OCTETS:
        print_octets(f, from, to);
        return true;
    case SP_ROW_STR:
    case SP_ROW_UTF8:
        print_str(from, to);
        return true;
    case SP_ROW_TIME:
        sp_text_time(to, *(const int64_t *)from);
        return true;
    case SP_ROW_I32S:
        print_numbers(from, to);
        return true;
    case SP_ROW_STRS:
        print_strs(from, to);
        return true;
    case SP_ROW_SUB:
    case SP_ROW_LIST:
        return false;
    }
    return false;
}

static void print_list(const struct sp_field *f, const struct sp_list *l, unsigned depth, struct sp_text *to)
{
    for (uint32_t i = 0; i < l->count && !to->cut; i++) {
        indent(to, depth);
        sp_text_fmt(to, "[%u] %s\n", i, f->sub->name);
        print_type(f->sub, (const uint8_t *)l->v + (size_t)i * f->sub->size, depth + 1, to);
    }
}

static void print_field(const struct sp_type *t, const struct sp_field *f, const uint8_t *base,
                        unsigned depth, struct sp_text *to)
{
    const void *from = base + (f->off == SP_NOWHERE ? 0 : f->off);

    indent(to, depth);
    sp_text_str(to, f->name);
    sp_text_str(to, ": ");
    if (print_simple(t, f, from, to)) {
        sp_text_str(to, "\n");
        return;
    }
    if (f->kind == SP_ROW_LIST) {
        sp_text_fmt(to, "%u\n", ((const struct sp_list *)from)->count);
        print_list(f, from, depth + 1, to);
    } else {
        sp_text_str(to, "\n");
        print_type(f->sub, from, depth + 1, to);
    }
}

static void print_type(const struct sp_type *t, const uint8_t *from, unsigned depth, struct sp_text *to)
{
    uint32_t has = t->has == SP_NOWHERE ? 0 : *(const uint32_t *)(const void *)(from + t->has);

    if (t->list) {
        print_list(t->field, (const void *)(from + t->field->off), depth, to);
        return;
    }
    for (const struct sp_field *f = t->field, *end = f + t->count; f < end && !to->cut; f++) {
        if (!(f->flags & SP_OPTIONAL) || has & (1u << f->tag))
            print_field(t, f, from, depth, to);
    }
}

void sp_type_print(const struct sp_type *t, const void *msg, struct sp_text *to)
{
    sp_text_str(to, t->name);
    sp_text_str(to, "\n");
    print_type(t, msg, 1, to);
}
