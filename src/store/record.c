/* SPDX-License-Identifier: MIT */
/* One account as bytes. All numbers are big-endian.
 *
 *   format   4   STORE_FORMAT
 *   id       8 \
 *   gen      8  > the whole header is associated data of the seal
 *   nonce   12 /
 *   sealed      AES-256-GCM over TLVs (type 2, length 2, value), then its tag of 16 bytes
 *
 * A TLV of unknown type belongs to a newer version: it is kept as it came and written behind the known ones.
 * A record whose format number is higher is refused: that number changes only when an old program must not
 * touch the record. */
#include "store/store.h"

#include "bytes/cursor.h"

enum { HEADER = 32, NONCE_AT = 20, TLV_HEAD = 4, KEY_FIXED = 14 };

enum tlv {
    TLV_KIND = 1,
    TLV_FLAGS = 2,
    TLV_NAME = 3,
    TLV_LOOKUP = 4,
    TLV_ALIAS = 5, /* repeated: 2 bytes length of the look-up key, the look-up key, the name */
    TLV_KEY = 6,   /* repeated: etype 4, kvno 4, iterations 4, has salt 1, key length 1, key, salt */
    TLV_CREATED = 7,
    TLV_CHANGED = 8,
    TLV_EXPIRES = 9,
    TLV_PASSWORD_EXPIRES = 10,
    TLV_LIFE = 11,
    TLV_RENEW = 12,
    TLV_CREATOR = 13,
    TLV_COMMENT = 14,
    TLV_FILL = 15,  /* zeros */
    TLV_KNOWN = 16, /* the first type that this version does not know */
};

/* ---- writing ---- */

struct out {
    uint8_t *p;
    size_t n, cap; /* n may pass cap: then it is the size needed, and nothing was written behind cap */
};

static void put(struct out *o, const void *p, size_t n)
{
    if (n > 0 && o->n <= o->cap && n <= o->cap - o->n)
        memcpy(o->p + o->n, p, n);
    o->n += n;
}

static void put_number(struct out *o, uint64_t v, unsigned bytes)
{
    uint8_t b[8];

    for (unsigned i = 0; i < bytes; i++)
        b[i] = (uint8_t)(v >> (8 * (bytes - 1 - i)));
    put(o, b, bytes);
}

static void put_head(struct out *o, enum tlv type, size_t n)
{
    put_number(o, type, 2);
    put_number(o, n, 2);
}

static void put_bytes(struct out *o, enum tlv type, struct sp_span s)
{
    if (s.n == 0)
        return;
    put_head(o, type, s.n);
    put(o, s.p, s.n);
}

/* Zero is the value of an absent number, and written all the same: an account that is disabled or expires
 * must not take longer to read than others. */
static void put_value(struct out *o, enum tlv type, uint64_t v, unsigned bytes)
{
    put_head(o, type, bytes);
    put_number(o, v, bytes);
}

static void put_alias(struct out *o, struct sp_span name, struct sp_span lookup)
{
    put_head(o, TLV_ALIAS, 2 + lookup.n + name.n);
    put_number(o, lookup.n, 2);
    put(o, lookup.p, lookup.n);
    put(o, name.p, name.n);
}

static void put_key(struct out *o, const struct store_key *k)
{
    size_t salt_n = k->salt.p ? k->salt.n : 0;

    put_head(o, TLV_KEY, KEY_FIXED + (size_t)k->key.n + salt_n);
    put_number(o, (uint32_t)k->key.etype, 4);
    put_number(o, k->kvno, 4);
    put_number(o, k->iterations, 4);
    put_number(o, k->salt.p != NULL, 1);
    put_number(o, k->key.n, 1);
    put(o, k->key.b, k->key.n);
    put(o, k->salt.p, salt_n);
}

static void put_account(struct out *o, const struct store_account *a)
{
    put_value(o, TLV_KIND, (uint64_t)a->kind, 4);
    put_value(o, TLV_FLAGS, a->flags, 4);
    put_bytes(o, TLV_NAME, a->name);
    put_bytes(o, TLV_LOOKUP, a->lookup);
    for (uint32_t i = 0; i < a->aliases.count; i++)
        put_alias(o, a->aliases.v[i], a->alias_lookups.v[i]);
    for (uint32_t i = 0; i < a->key_count; i++)
        put_key(o, &a->keys[i]);
    put_value(o, TLV_CREATED, (uint64_t)a->created_s, 8);
    put_value(o, TLV_CHANGED, (uint64_t)a->changed_s, 8);
    put_value(o, TLV_EXPIRES, (uint64_t)a->expires_s, 8);
    put_value(o, TLV_PASSWORD_EXPIRES, (uint64_t)a->password_expires_s, 8);
    put_value(o, TLV_LIFE, (uint32_t)a->life_s, 4);
    put_value(o, TLV_RENEW, (uint32_t)a->renew_s, 4);
    put_bytes(o, TLV_CREATOR, a->creator);
    put_bytes(o, TLV_COMMENT, a->comment);
    put(o, a->unknown.p, a->unknown.n);
}

/* Up to a multiple of 256: neither a few letters more in a name nor an alias must show in the time that a
 * look-up takes, or move what lies behind the record in memory. With four keys most records have 512. */
static void put_fill(struct out *o)
{
    static const uint8_t zeros[256];
    size_t n = -(o->n + TLV_HEAD) % sizeof zeros;

    if (o->n + TLV_HEAD + n > o->cap)
        return;
    put_head(o, TLV_FILL, n);
    put(o, zeros, n);
}

static bool name_fits(struct sp_span s)
{
    return s.n > 0 && s.n <= STORE_NAME_MAX;
}

/* What store_open_record would refuse is never written. */
static bool check_account(const struct store_account *a, struct sp_err *e)
{
    if (a->id == 0)
        return sp_fail(e, SP_EBUG, 0, "a record without an id");
    if (!name_fits(a->name) || !name_fits(a->lookup))
        return sp_fail(e, SP_EINPUT, 0, "an account's name has 1 to %d bytes", STORE_NAME_MAX);
    if (a->aliases.count > STORE_ALIASES_MAX || a->aliases.count != a->alias_lookups.count)
        return sp_fail(e, SP_EINPUT, 0, "more than %d aliases", STORE_ALIASES_MAX);
    for (uint32_t i = 0; i < a->aliases.count; i++)
        if (!name_fits(a->aliases.v[i]) || !name_fits(a->alias_lookups.v[i]))
            return sp_fail(e, SP_EINPUT, 0, "an alias has 1 to %d bytes", STORE_NAME_MAX);
    if (a->key_count > STORE_KEYS_MAX)
        return sp_fail(e, SP_EINPUT, 0, "more than %d keys", STORE_KEYS_MAX);
    for (uint32_t i = 0; i < a->key_count; i++) {
        const struct store_key *k = &a->keys[i];

        if (k->key.n == 0 || k->key.n > sizeof k->key.b || (k->salt.p && k->salt.n > STORE_NAME_MAX + 256))
            return sp_fail(e, SP_EINPUT, 0, "a key or salt of an impossible length");
        if (i > 0 && k->kvno > a->keys[i - 1].kvno)
            return sp_fail(e, SP_EBUG, 0, "keys are not in order, newest first");
    }
    if (a->creator.n > STORE_NAME_MAX || a->comment.n > STORE_NAME_MAX)
        return sp_fail(e, SP_EINPUT, 0, "a comment has at most %d bytes", STORE_NAME_MAX);
    return true;
}

bool store_seal(struct crypto *c, const uint8_t master[32], struct sp_rng *rng, const struct store_account *a,
                uint8_t *out, size_t cap, size_t *n, struct sp_err *e)
{
    uint8_t plain[STORE_RECORD_MAX];
    struct out body = {plain, 0, sizeof plain - HEADER - CRYPTO_SEAL_OVERHEAD}, head = {out, 0, HEADER};
    bool ok;

    if (!check_account(a, e))
        return false;
    put_account(&body, a);
    put_fill(&body);
    *n = HEADER + body.n + CRYPTO_SEAL_OVERHEAD;
    if (body.n > body.cap || *n > cap) {
        sp_wipe(plain, sizeof plain);
        return sp_fail(e, SP_EFULL, 0, "a record of %zu bytes; at most %d fit", *n, STORE_RECORD_MAX);
    }
    put_number(&head, STORE_FORMAT, 4);
    put_number(&head, a->id, 8);
    put_number(&head, a->generation, 8);
    sp_rng_fill(rng, out + NONCE_AT, CRYPTO_SEAL_NONCE);
    ok =
        crypto_seal(c, master, out + NONCE_AT, sp_span(out, HEADER), sp_span(plain, body.n), out + HEADER, e);
    sp_wipe(plain, body.n);
    return ok;
}

/* ---- reading ---- */

struct tlv_item {
    uint16_t type;
    struct sp_span value, whole;
};

static bool take_tlv(struct sp_cur *c, struct tlv_item *t)
{
    const uint8_t *start = c->p;
    uint32_t head = sp_get_be32(c, "type and length");

    t->type = (uint16_t)(head >> 16);
    t->value = sp_take(c, head & 0xffff, "value");
    t->whole = sp_span(start, TLV_HEAD + t->value.n);
    return sp_ok(c->e);
}

static bool get_alias(struct sp_span v, struct sp_span *name, struct sp_span *lookup)
{
    struct sp_err e = {0};
    struct sp_cur c = sp_cur_of(v, &e);

    *lookup = sp_take(&c, sp_get_be16(&c, "length"), "look-up key");
    *name = sp_take(&c, sp_left(&c), "name");
    return sp_ok(&e) && name_fits(*name) && name_fits(*lookup);
}

static bool get_key(struct sp_span v, struct store_key *k)
{
    struct sp_err e = {0};
    struct sp_cur c = sp_cur_of(v, &e);
    struct sp_span key, salt;
    uint8_t has_salt;

    k->key.etype = (int32_t)sp_get_be32(&c, "etype");
    k->kvno = sp_get_be32(&c, "kvno");
    k->iterations = sp_get_be32(&c, "iterations");
    has_salt = sp_get_u8(&c, "has salt");
    key = sp_take(&c, sp_get_u8(&c, "length"), "key");
    salt = sp_take(&c, sp_left(&c), "salt");
    if (!sp_ok(&e) || key.n == 0 || key.n > sizeof k->key.b || has_salt > 1 || (has_salt == 0 && salt.n > 0))
        return false;
    k->key.n = (uint8_t)key.n;
    k->key.keep = true;
    memcpy(k->key.b, key.p, key.n);
    k->salt = has_salt ? salt : sp_span(NULL, 0);
    return true;
}

struct counts {
    uint32_t aliases, keys;
    size_t unknown_n;
    uint32_t seen; /* bit per known type that may stand once */
};

/* First pass: the shape of every TLV, and how much room the lists take. */
static bool count_tlvs(struct sp_span body, struct counts *n)
{
    struct sp_err e = {0};
    struct sp_cur c = sp_cur_of(body, &e);
    struct tlv_item t;

    while (sp_left(&c) > 0) {
        if (!take_tlv(&c, &t) || t.type == 0)
            return false;
        if (t.type == TLV_ALIAS) {
            n->aliases++;
        } else if (t.type == TLV_KEY) {
            n->keys++;
        } else if (t.type >= TLV_KNOWN) {
            n->unknown_n += t.whole.n;
        } else {
            if (n->seen & 1u << t.type)
                return false;
            n->seen |= 1u << t.type;
        }
    }
    return n->aliases <= STORE_ALIASES_MAX && n->keys <= STORE_KEYS_MAX;
}

static bool get_u32(struct sp_span v, uint32_t *out)
{
    struct sp_err e = {0};
    struct sp_cur c = sp_cur_of(v, &e);

    *out = sp_get_be32(&c, "number");
    return sp_cur_done(&c, "number");
}

static bool get_i32(struct sp_span v, int32_t *out)
{
    uint32_t u;
    bool ok = get_u32(v, &u);

    *out = (int32_t)u;
    return ok;
}

static bool get_i64(struct sp_span v, int64_t *out)
{
    struct sp_err e = {0};
    struct sp_cur c = sp_cur_of(v, &e);

    *out = (int64_t)sp_get_be64(&c, "number");
    return sp_cur_done(&c, "number");
}

static bool get_kind(struct sp_span v, enum store_kind *out)
{
    uint32_t u;

    if (!get_u32(v, &u) || u < STORE_USER || u > STORE_CHANGEPW)
        return false;
    *out = (enum store_kind)u;
    return true;
}

static bool get_text(struct sp_span v, struct sp_span *out)
{
    *out = v;
    return v.n <= STORE_NAME_MAX;
}

static bool keep_unknown(struct sp_span whole, struct store_account *a)
{
    /* into room that alloc_lists made; the span grows as it fills */
    memcpy((uint8_t *)(uintptr_t)a->unknown.p + a->unknown.n, whole.p, whole.n);
    a->unknown.n += whole.n;
    return true;
}

static bool get_field(const struct tlv_item *t, struct store_account *a)
{
    switch (t->type) {
    case TLV_KIND:
        return get_kind(t->value, &a->kind);
    case TLV_FLAGS:
        return get_u32(t->value, &a->flags);
    case TLV_NAME:
        return get_text(t->value, &a->name);
    case TLV_LOOKUP:
        return get_text(t->value, &a->lookup);
    case TLV_ALIAS:
        a->alias_lookups.count++;
        a->aliases.count++;
        return get_alias(t->value, &a->aliases.v[a->aliases.count - 1],
                         &a->alias_lookups.v[a->aliases.count - 1]);
    case TLV_KEY:
        return get_key(t->value, &a->keys[a->key_count++]);
    case TLV_CREATED:
        return get_i64(t->value, &a->created_s);
    case TLV_CHANGED:
        return get_i64(t->value, &a->changed_s);
    case TLV_EXPIRES:
        return get_i64(t->value, &a->expires_s);
    case TLV_PASSWORD_EXPIRES:
        return get_i64(t->value, &a->password_expires_s);
    case TLV_LIFE:
        return get_i32(t->value, &a->life_s);
    case TLV_RENEW:
        return get_i32(t->value, &a->renew_s);
    case TLV_CREATOR:
        return get_text(t->value, &a->creator);
    case TLV_COMMENT:
        return get_text(t->value, &a->comment);
    case TLV_FILL:
        return true;
    default:
        return keep_unknown(t->whole, a);
    }
}

static bool alloc_lists(const struct counts *n, struct sp_arena *mem, struct store_account *a,
                        struct sp_err *e)
{
    a->aliases.v = sp_new_array(mem, struct sp_span, n->aliases, e);
    a->alias_lookups.v = sp_new_array(mem, struct sp_span, n->aliases, e);
    a->keys = sp_new_array(mem, struct store_key, n->keys, e);
    a->unknown.p = sp_alloc(mem, n->unknown_n, e);
    return sp_ok(e);
}

static bool get_account(uint64_t id, struct sp_span body, struct sp_arena *mem, struct store_account *a,
                        struct sp_err *e)
{
    struct counts n = {0};
    struct tlv_item t = {0};
    struct sp_err why = {0};
    struct sp_cur c = sp_cur_of(body, &why);

    if (!count_tlvs(body, &n))
        return sp_fail(e, SP_EBACKEND, 0, "record %llu: its fields cannot be read", (unsigned long long)id);
    if (!alloc_lists(&n, mem, a, e))
        return false;
    while (sp_left(&c) > 0)
        if (!take_tlv(&c, &t) || !get_field(&t, a))
            return sp_fail(e, SP_EBACKEND, 0, "record %llu: field %u cannot be read", (unsigned long long)id,
                           (unsigned)t.type);
    if (a->name.n == 0 || a->lookup.n == 0 || a->kind == 0)
        return sp_fail(e, SP_EBACKEND, 0, "record %llu: it has no name or no kind", (unsigned long long)id);
    return true;
}

static bool get_header(uint64_t id, struct sp_span record, uint64_t *generation, struct sp_err *e)
{
    unsigned long long want = id;
    struct sp_cur c = sp_cur_of(record, e);
    uint64_t found;
    uint32_t format;

    if (record.n < HEADER + CRYPTO_SEAL_OVERHEAD || record.n > STORE_RECORD_MAX)
        return sp_fail(e, SP_EBACKEND, 0, "record %llu: %zu bytes cannot be a record", want, record.n);
    format = sp_get_be32(&c, "format");
    if (format != STORE_FORMAT)
        return sp_fail(e, SP_EBACKEND, 0, "record %llu: format %u, this program reads %d", want, format,
                       STORE_FORMAT);
    found = sp_get_be64(&c, "id");
    if (found != id)
        return sp_fail(e, SP_EBACKEND, 0, "record %llu: what lies there is record %llu", want,
                       (unsigned long long)found);
    *generation = sp_get_be64(&c, "generation");
    return true;
}

bool store_open_record(struct crypto *c, const uint8_t master[32], uint64_t id, struct sp_span record,
                       struct sp_arena *mem, struct store_account *out, struct sp_err *e)
{
    struct store_account a = {.id = id};
    struct sp_err why = {0};
    struct sp_span sealed;
    uint8_t *plain;

    if (!get_header(id, record, &a.generation, e))
        return false;
    sealed = sp_span(record.p + HEADER, record.n - HEADER);
    plain = sp_alloc(mem, sealed.n, e);
    if (!plain)
        return false;
    if (!crypto_open(c, master, record.p + NONCE_AT, sp_span(record.p, HEADER), sealed, plain, &why))
        return sp_fail(e, SP_EBACKEND, 0, "record %llu: altered, or sealed under another master key",
                       (unsigned long long)id);
    if (!get_account(id, sp_span(plain, sealed.n - CRYPTO_SEAL_OVERHEAD), mem, &a, e))
        return false;
    *out = a;
    return true;
}
