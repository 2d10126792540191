/* SPDX-License-Identifier: MIT */
/* MIT's description of the format (keytab_file_format): a signed length before each record, negative for a
 * hole, 0 for the end; numbers big-endian; behind the key an optional 32-bit kvno, and then whatever later
 * versions add (Heimdal: flags). */
#include "krb/keytab.h"

#include "bytes/cursor.h"
#include "bytes/emitter.h"

#define VERSION 0x0502

static struct sp_span get_data(struct sp_cur *c, const char *what)
{
    return sp_take(c, sp_get_be16(c, what), what);
}

/* The record is what is left of c. */
static bool get_entry(struct sp_cur *c, struct sp_arena *mem, struct krb_keytab_entry *out)
{
    struct krb_keytab_entry v = {0};
    const uint8_t *at = c->p;
    uint16_t count = sp_get_be16(c, "number of components");
    uint32_t kvno32 = 0;

    if (count > KRB_NAME_PARTS_MAX)
        return sp_cur_fail(c, at, 0, "number of components", "too many of them");
    v.realm = get_data(c, "realm");
    v.name.parts.v = sp_new_array(mem, struct sp_span, count, c->e);
    if (!v.name.parts.v)
        return false;
    for (uint32_t i = 0; i < count; i++)
        v.name.parts.v[v.name.parts.count++] = get_data(c, "component");
    v.name.type = (int32_t)sp_get_be32(c, "name type");
    v.timestamp = sp_get_be32(c, "timestamp");
    v.kvno = sp_get_u8(c, "kvno");
    v.etype = (int16_t)sp_get_be16(c, "encryption type");
    v.key = get_data(c, "key");
    if (sp_left(c) >= 4)
        kvno32 = sp_get_be32(c, "32-bit kvno");
    v.kvno = kvno32 ? kvno32 : v.kvno;
    *out = v;
    return sp_ok(c->e);
}

/* The next record that is not a hole, as a cursor of its own; false at the end of the file and on failure. */
static bool next_record(struct sp_cur *c, struct sp_cur *record)
{
    while (sp_left(c) > 0) {
        const uint8_t *at = c->p;
        int32_t n = (int32_t)sp_get_be32(c, "length of a record");
        uint32_t size = n < 0 ? 0 - (uint32_t)n : (uint32_t)n;

        if (n == 0)
            return false;
        if (size > sp_left(c))
            return sp_cur_fail(c, at, 0, "record", "longer than the file");
        *record = *c;
        record->end = c->p + size;
        c->p += size;
        if (n > 0)
            return true;
    }
    return false;
}

static bool count_records(struct sp_cur c, uint32_t *count)
{
    struct sp_cur record = {0};

    for (*count = 0; next_record(&c, &record); ++*count) {
        if (*count == KRB_KEYTAB_ENTRIES_MAX)
            return sp_cur_fail(&c, record.p - 4, 0, "keytab", "too many records");
    }
    return sp_ok(c.e);
}

bool krb_get_keytab(struct sp_span in, struct sp_arena *mem, struct krb_keytab *out, struct sp_err *e)
{
    struct sp_cur c = sp_cur_of(in, e), record = {0};
    struct krb_keytab v = {0};
    size_t mark = mem->used;

    if (sp_get_be16(&c, "version") != VERSION)
        return sp_cur_fail(&c, c.base, 0, "version", "not a keytab of version 0x0502");
    if (!count_records(c, &v.count))
        return false;
    v.v = sp_new_array(mem, struct krb_keytab_entry, v.count, e);
    if (!v.v)
        return false;
    for (uint32_t i = 0; i < v.count && next_record(&c, &record); i++) {
        if (!get_entry(&record, mem, &v.v[i])) {
            mem->used = mark;
            return false;
        }
    }
    *out = v;
    return true;
}

static bool put_data(struct sp_emit *o, struct sp_span s, const char *what)
{
    if (s.n > UINT16_MAX)
        return sp_fail(o->e, SP_EINPUT, 0, "%s of %zu bytes in a keytab", what, s.n);
    sp_put_bytes(o, s);
    sp_put_be16(o, (uint16_t)s.n);
    return true;
}

static bool put_entry(struct sp_emit *o, const struct krb_keytab_entry *v)
{
    size_t mark = o->n;

    if (v->name.parts.count > KRB_NAME_PARTS_MAX || v->etype != (int16_t)v->etype || v->timestamp < 0 ||
        v->timestamp > UINT32_MAX)
        return sp_fail(o->e, SP_EINPUT, 0, "a keytab cannot hold this name, encryption type or time");
    sp_put_be32(o, v->kvno);
    if (!put_data(o, v->key, "key"))
        return false;
    sp_put_be16(o, (uint16_t)v->etype);
    sp_put_u8(o, (uint8_t)v->kvno);
    sp_put_be32(o, (uint32_t)v->timestamp);
    sp_put_be32(o, (uint32_t)v->name.type);
    for (uint32_t i = v->name.parts.count; i > 0; i--) {
        if (!put_data(o, v->name.parts.v[i - 1], "component"))
            return false;
    }
    if (!put_data(o, v->realm, "realm"))
        return false;
    sp_put_be16(o, (uint16_t)v->name.parts.count);
    sp_put_be32(o, (uint32_t)(o->n - mark));
    return true;
}

bool krb_put_keytab(const struct krb_keytab *kt, uint8_t *out, size_t cap, size_t *n, struct sp_err *e)
{
    struct sp_emit o = sp_emit_to(out, cap, e);
    struct sp_span made;

    if (kt->count > KRB_KEYTAB_ENTRIES_MAX)
        return sp_fail(e, SP_EINPUT, 0, "%u records in a keytab, at most %d", kt->count,
                       KRB_KEYTAB_ENTRIES_MAX);
    for (uint32_t i = kt->count; i > 0; i--) {
        if (!put_entry(&o, &kt->v[i - 1]))
            return false;
    }
    sp_put_be16(&o, VERSION);
    *n = o.n;
    if (!sp_put_done(&o, &made))
        return false;
    memmove(out, made.p, made.n);
    return true;
}
