/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "store/lmdb/private.h"

/* The row that holds the account's record. SP_EBACKEND when what lies under the key is another. */
static bool read_own(struct lmdb_store *s, MDB_txn *txn, uint64_t id, struct sp_span own,
                     struct lmdb_row *out, struct sp_err *e)
{
    MDB_val key = lmdb_val(own.p, own.n), value;
    int rc = mdb_get(txn, s->rows, &key, &value);

    if (rc != 0 && rc != MDB_NOTFOUND)
        return lmdb_fail(s, rc, "read", e);
    if (rc == 0 && lmdb_get_row(value, out) && out->kind == ROW_OWN && out->id == id)
        return true;
    return sp_fail(e, SP_EBACKEND, 0, "record %llu: the index leads elsewhere", (unsigned long long)id);
}

bool lmdb_read_record(struct lmdb_store *s, MDB_txn *txn, uint64_t id, struct sp_arena *mem,
                      struct store_account *out, struct sp_err *e)
{
    uint8_t be[8];
    MDB_val key = {sizeof be, be}, own;
    struct lmdb_row row = {0};
    int rc;

    lmdb_put_id(be, id);
    rc = mdb_get(txn, s->ids, &key, &own);
    if (rc == MDB_NOTFOUND)
        return sp_fail(e, SP_ENOTFOUND, 0, "no account with id %llu", (unsigned long long)id);
    if (rc != 0)
        return lmdb_fail(s, rc, "read", e);
    return read_own(s, txn, id, lmdb_span(own), &row, e) &&
           store_open_record(s->crypto, s->master, id, row.record, mem, out, e);
}

/* ---- the port ---- */

void lmdb_settle(struct lmdb_store *s)
{
    if (s->reading)
        mdb_txn_reset(s->batch);
    s->reading = false;
}

static bool begin_batch(struct lmdb_store *s, struct sp_err *e)
{
    int rc;

    if (s->reading)
        return true;
    rc = mdb_txn_renew(s->batch);
    if (rc == 0) {
        s->reading = true;
        rc = mdb_cursor_renew(s->batch, s->at);
    }
    if (rc == 0)
        return true;
    lmdb_settle(s);
    return lmdb_fail(s, rc, "begin", e);
}

/* From here on no branch depends on whether the name is there: each would be guessed right for one kind of
 * name and wrong for the other, and that shows. */
static bool is_same(struct sp_span a, struct sp_span b)
{
    return (a.n == b.n) & sp_equal_ct(a.p, b.p, a.n < b.n ? a.n : b.n);
}

static bool has_lookup(const struct store_account *a, struct sp_span lookup)
{
    uint32_t i = 0, n = a->alias_lookups.count;
    bool has = is_same(a->lookup, lookup);

    do /* once even without an alias: who has one must not take longer */
        has |= is_same(*(i < n ? &a->alias_lookups.v[i] : &a->lookup), lookup);
    while (++i < n);
    return has;
}

/* Formatting a text would take time too. */
static bool tell(bool there, struct sp_err *e)
{
    static const char text[2][16] = {"no such account", ""};

    if (sp_ok(e)) {
        e->kind = there ? SP_OK : SP_ENOTFOUND;
        memcpy(e->text, text[there], sizeof text[0]);
    }
    return there;
}

/* The record of a row. */
static bool open_row(struct lmdb_store *s, MDB_val value, struct sp_arena *mem, struct store_account *out,
                     struct sp_err *e)
{
    struct lmdb_row row;

    if (!lmdb_get_row(value, &row))
        return sp_fail(e, SP_EBACKEND, 0, "its index entry is damaged");
    return store_open_record(s->crypto, s->master, row.id, row.record, mem, out, e);
}

/* Why the row that lies under that name cannot be trusted. */
static bool blame_row(struct sp_span lookup, const struct store_account *a, struct sp_err *why,
                      struct sp_err *e)
{
    sp_fail(why, SP_EBACKEND, 0, "the index leads to record %llu, which has another name",
            (unsigned long long)a->id);
    return sp_fail(e, why->kind, 0, "%.*s: %s", (int)(lookup.n < 64 ? lookup.n : 64), (const char *)lookup.p,
                   why->text);
}

/* The library ends its search early where it meets the very key. So what is looked for lies immediately
 * before it, where no row can be: 0xff is not in UTF-8. A key without room for that is looked for itself. */
static int search(struct lmdb_store *s, struct lmdb_key *k, MDB_val *key, MDB_val *value)
{
    size_t last = k->val.mv_size - 1;
    int rc;

    *key = k->val;
    if (last + 1 == sizeof k->b || k->b[last] == 0)
        return mdb_cursor_get(s->at, key, value, MDB_SET_RANGE);
    k->b[last]--;
    k->b[++key->mv_size - 1] = 0xff;
    rc = mdb_cursor_get(s->at, key, value, MDB_SET_RANGE);
    k->b[last]++;
    return rc;
}

/* The row of that key, or the one behind it, or the last one: MDB_NOTFOUND only when there are no rows. */
static int seek(struct lmdb_store *s, struct lmdb_key *k, MDB_val *key, MDB_val *value)
{
    int rc = search(s, k, key, value);

    if (rc == MDB_NOTFOUND)
        rc = mdb_cursor_get(s->at, key, value, MDB_LAST);
    while (rc == 0 && !lmdb_is_row_key(*key)) /* the library's own, behind all of ours */
        rc = mdb_cursor_get(s->at, key, value, MDB_PREV);
    return rc;
}

/* A name that is not there costs the reading of the account that lies where it would lie, which is handed out
 * as a stand-in. */
static bool find(struct store_lookup *l, struct sp_span lookup, struct sp_arena *mem,
                 struct store_account *out, struct sp_err *e)
{
    struct lmdb_store *s = (struct lmdb_store *)l;
    struct sp_err why = {0};
    struct store_account a = {0};
    struct lmdb_key key;
    MDB_val at, value;
    bool there, good;
    int rc;

    if (!lmdb_make_key(s, lookup, &key, e) || !begin_batch(s, e))
        return false;
    rc = seek(s, &key, &at, &value);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return lmdb_fail(s, rc, "read", e);
    there = rc == 0 && is_same(lmdb_span(at), lmdb_span(key.val));
    good = rc == 0 && open_row(s, value, mem, &a, &why);
    good &= has_lookup(&a, lookup); /* rows are not sealed, so the record has the last word on whose it is */
    if (there & !good)
        return blame_row(lookup, &a, &why, e);
    *out = a;
    return tell(there, e);
}

static bool find_id(struct store_lookup *l, uint64_t id, struct sp_arena *mem, struct store_account *out,
                    struct sp_err *e)
{
    struct lmdb_store *s = (struct lmdb_store *)l;

    return begin_batch(s, e) && lmdb_read_record(s, s->batch, id, mem, out, e);
}

/* The number of the transaction whose state the batch reads: every commit has its own. */
static uint64_t version(struct store_lookup *l)
{
    struct lmdb_store *s = (struct lmdb_store *)l;
    struct sp_err e = {0};

    return begin_batch(s, &e) ? mdb_txn_id(s->batch) : 0;
}

void lmdb_init_lookup(struct lmdb_store *s)
{
    s->lookup = (struct store_lookup){find, find_id, version};
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
    size_t own_rows;
};

/* Which row is the own one is not sealed: the record has the last word. */
static bool open_own(struct lmdb_store *s, MDB_val key, const struct lmdb_row *row, struct sp_arena *mem,
                     struct store_account *out, struct sp_err *e)
{
    struct lmdb_key own;

    if (!store_open_record(s->crypto, s->master, row->id, row->record, mem, out, e) ||
        !lmdb_make_key(s, out->lookup, &own, e))
        return false;
    return sp_same(lmdb_span(own.val), lmdb_span(key)) ||
           sp_fail(e, SP_EBACKEND, 0, "record %llu: it lies under another name than its own",
                   (unsigned long long)row->id);
}

static bool visit_row(struct lmdb_store *s, MDB_val key, MDB_val value, struct visitor *v, struct sp_err *e)
{
    struct store_account a;
    struct sp_err why = {0};
    struct lmdb_row row;

    if (!lmdb_get_row(value, &row) || row.kind != ROW_OWN)
        return true;
    v->own_rows++;
    sp_arena_reset(v->mem);
    if (!open_own(s, key, &row, v->mem, &a, &why)) {
        sp_fail(&v->broken, why.kind, 0, "%s", why.text);
        return true;
    }
    return v->visit(v->ctx, &a, e);
}

/* An account none of whose rows says that it is the own one would be passed over in silence. */
static bool check_visited(struct lmdb_store *s, MDB_txn *txn, struct visitor *v, struct sp_err *e)
{
    MDB_stat st;
    int rc = mdb_stat(txn, s->ids, &st);

    if (rc == 0 && st.ms_entries != v->own_rows)
        sp_fail(&v->broken, SP_EBACKEND, 0, "%s: %zu accounts, and %zu rows that are one's own", s->dir,
                (size_t)st.ms_entries, v->own_rows);
    return rc == 0 || lmdb_fail(s, rc, "read", e);
}

static bool visit_rows(struct lmdb_store *s, MDB_txn *txn, struct visitor *v, struct sp_err *e)
{
    MDB_cursor *c;
    MDB_val key, value;
    bool more = true;
    int rc = mdb_cursor_open(txn, s->rows, &c);

    if (rc != 0)
        return lmdb_fail(s, rc, "read", e);
    for (rc = mdb_cursor_get(c, &key, &value, MDB_FIRST); rc == 0 && more && lmdb_is_row_key(key);
         rc = mdb_cursor_get(c, &key, &value, MDB_NEXT))
        more = visit_row(s, key, value, v, e);
    mdb_cursor_close(c);
    if (!more)
        return false;
    return rc == 0 || rc == MDB_NOTFOUND ? check_visited(s, txn, v, e) : lmdb_fail(s, rc, "read", e);
}

bool lmdb_each(struct lmdb_store *s, struct sp_arena *mem,
               bool (*visit)(void *ctx, const struct store_account *a, struct sp_err *e), void *ctx,
               struct sp_err *e)
{
    struct visitor v = {mem, visit, ctx, {0}, 0};
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
        mdb_stat(s->batch, s->ids, &st);
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
