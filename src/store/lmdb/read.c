/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "store/lmdb/private.h"

bool lmdb_read_record(struct lmdb_store *s, MDB_txn *txn, uint64_t id, struct sp_arena *mem,
                      struct store_account *out, struct sp_err *e)
{
    uint8_t be[8];
    MDB_val key = {sizeof be, be}, value;
    int rc;

    lmdb_put_id(be, id);
    rc = mdb_get(txn, s->records, &key, &value);
    if (rc == MDB_NOTFOUND)
        return sp_fail(e, SP_ENOTFOUND, 0, "no account with id %llu", (unsigned long long)id);
    if (rc != 0)
        return lmdb_fail(s, rc, "read", e);
    return store_open_record(s->crypto, s->master, id, lmdb_span(value), mem, out, e);
}

/* ---- the port ---- */

static bool begin_batch(struct lmdb_store *s, struct sp_err *e)
{
    int rc;

    if (s->reading)
        return true;
    rc = mdb_txn_renew(s->batch);
    if (rc != 0)
        return lmdb_fail(s, rc, "begin", e);
    s->reading = true;
    return true;
}

void lmdb_settle(struct lmdb_store *s)
{
    if (s->reading)
        mdb_txn_reset(s->batch);
    s->reading = false;
}

static bool has_lookup(const struct store_account *a, struct sp_span lookup)
{
    if (sp_same(a->lookup, lookup))
        return true;
    for (uint32_t i = 0; i < a->alias_lookups.count; i++)
        if (sp_same(a->alias_lookups.v[i], lookup))
            return true;
    return false;
}

/* The record of an indexed name. The index is not sealed, so the record has the last word on whose name it
 * is. */
static bool read_named(struct lmdb_store *s, struct sp_span lookup, MDB_val row, struct sp_arena *mem,
                       struct store_account *out, struct sp_err *e)
{
    struct store_account a = {0};
    struct sp_err why = {0};

    if (row.mv_size != NAME_ROW)
        return sp_fail(e, SP_EBACKEND, 0, "%.*s: its index entry is damaged",
                       (int)(lookup.n < 64 ? lookup.n : 64), (const char *)lookup.p);
    if (lmdb_read_record(s, s->batch, lmdb_get_id(row.mv_data), mem, &a, &why)) {
        if (has_lookup(&a, lookup)) {
            *out = a;
            return true;
        }
        sp_fail(&why, SP_EBACKEND, 0, "the index leads to record %llu, which has another name",
                (unsigned long long)a.id);
    }
    return sp_fail(e, why.kind == SP_ENOTFOUND ? SP_EBACKEND : why.kind, 0, "%.*s: %s",
                   (int)(lookup.n < 64 ? lookup.n : 64), (const char *)lookup.p, why.text);
}

static bool find(struct store_lookup *l, struct sp_span lookup, struct sp_arena *mem,
                 struct store_account *out, struct sp_err *e)
{
    struct lmdb_store *s = (struct lmdb_store *)l;
    struct lmdb_key key;
    MDB_val row;
    int rc;

    if (!lmdb_make_key(s, lookup, &key, e) || !begin_batch(s, e))
        return false;
    rc = mdb_get(s->batch, s->names, &key.val, &row);
    if (rc == MDB_NOTFOUND)
        return sp_fail(e, SP_ENOTFOUND, 0, "no account %.*s", (int)(lookup.n < 64 ? lookup.n : 64),
                       (const char *)lookup.p);
    if (rc != 0)
        return lmdb_fail(s, rc, "read", e);
    return read_named(s, lookup, row, mem, out, e);
}

static bool find_id(struct store_lookup *l, uint64_t id, struct sp_arena *mem, struct store_account *out,
                    struct sp_err *e)
{
    struct lmdb_store *s = (struct lmdb_store *)l;

    return begin_batch(s, e) && lmdb_read_record(s, s->batch, id, mem, out, e);
}

void lmdb_init_lookup(struct lmdb_store *s)
{
    s->lookup = (struct store_lookup){find, find_id};
}

struct store_lookup *lmdb_lookup(struct lmdb_store *s)
{
    return &s->lookup;
}

/* ---- all of them ---- */

struct visitor {
    struct sp_arena *mem;
    bool (*visit)(void *ctx, const struct store_account *a, struct sp_err *e);
    void *ctx;
    struct sp_err broken; /* the first record that could not be trusted; the others are still visited */
};

static bool visit_row(struct lmdb_store *s, MDB_txn *txn, MDB_val row, struct visitor *v, struct sp_err *e)
{
    struct store_account a;
    struct sp_err why = {0};

    if (row.mv_size != NAME_ROW || ((const uint8_t *)row.mv_data)[8] != NAME_OWN)
        return true;
    sp_arena_reset(v->mem);
    if (!lmdb_read_record(s, txn, lmdb_get_id(row.mv_data), v->mem, &a, &why)) {
        sp_fail(&v->broken, why.kind, 0, "%s", why.text);
        return true;
    }
    return v->visit(v->ctx, &a, e);
}

static bool visit_rows(struct lmdb_store *s, MDB_txn *txn, struct visitor *v, struct sp_err *e)
{
    MDB_cursor *c;
    MDB_val key, row;
    bool more = true;
    int rc = mdb_cursor_open(txn, s->names, &c);

    if (rc != 0)
        return lmdb_fail(s, rc, "read", e);
    for (rc = mdb_cursor_get(c, &key, &row, MDB_FIRST); rc == 0 && more;
         rc = mdb_cursor_get(c, &key, &row, MDB_NEXT))
        more = visit_row(s, txn, row, v, e);
    mdb_cursor_close(c);
    if (!more)
        return false;
    return rc == 0 || rc == MDB_NOTFOUND || lmdb_fail(s, rc, "read", e);
}

bool lmdb_each(struct lmdb_store *s, struct sp_arena *mem,
               bool (*visit)(void *ctx, const struct store_account *a, struct sp_err *e), void *ctx,
               struct sp_err *e)
{
    struct visitor v = {mem, visit, ctx, {0}};
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->accounts, NULL, MDB_RDONLY, &txn);
    bool ok;

    if (rc != 0)
        return lmdb_fail(s, rc, "begin", e);
    ok = visit_rows(s, txn, &v, e);
    mdb_txn_abort(txn);
    sp_arena_reset(mem);
    if (ok && !sp_ok(&v.broken))
        return sp_fail(e, SP_EBACKEND, 0, "%s", v.broken.text);
    return ok;
}

uint64_t lmdb_count(struct lmdb_store *s)
{
    struct sp_err e = {0};
    MDB_stat st = {0};

    if (begin_batch(s, &e))
        mdb_stat(s->batch, s->records, &st);
    lmdb_settle(s);
    return st.ms_entries;
}

/* ---- meta: nonce, then the value sealed with its name as associated data ---- */

bool lmdb_get_meta(struct lmdb_store *s, const char *name, struct sp_arena *mem, struct sp_span *value,
                   struct sp_err *e)
{
    MDB_val key = lmdb_val(name, strlen(name)), v;
    struct sp_err why = {0};
    struct sp_span sealed;
    uint8_t *plain;
    int rc;

    if (!begin_batch(s, e))
        return false;
    rc = mdb_get(s->batch, s->meta, &key, &v);
    if (rc == MDB_NOTFOUND)
        return sp_fail(e, SP_ENOTFOUND, 0, "%s: no value \"%s\"", s->dir, name);
    if (rc != 0)
        return lmdb_fail(s, rc, "read", e);
    if (v.mv_size < CRYPTO_SEAL_NONCE + CRYPTO_SEAL_OVERHEAD)
        return sp_fail(e, SP_EBACKEND, 0, "%s: value \"%s\" is damaged", s->dir, name);
    sealed = sp_span((const uint8_t *)v.mv_data + CRYPTO_SEAL_NONCE, v.mv_size - CRYPTO_SEAL_NONCE);
    plain = sp_alloc(mem, sealed.n, e);
    if (!plain)
        return false;
    if (!crypto_open(s->crypto, s->master, v.mv_data, sp_str(name), sealed, plain, &why))
        return sp_fail(e, SP_EBACKEND, 0, "%s: value \"%s\" is altered, or sealed under another master key",
                       s->dir, name);
    *value = sp_span(plain, sealed.n - CRYPTO_SEAL_OVERHEAD);
    return true;
}
