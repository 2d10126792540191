/* SPDX-License-Identifier: MIT */
/* The layout's number, and the way from an older layout to this one. Everything happens in one transaction:
 * whoever is killed in it leaves the store as it was.
 *
 *   format 1 (no number in it):  "names"    index key -> id 8, kind 1 (0: the own name, 1: an alias)
 *                                "records"  id 8      -> sealed record
 *                                "meta"     as now
 *   format 2: private.h. Records themselves are the same: none is unsealed here. */
#include "store/lmdb/private.h"

enum { FORMAT_NONE = 0, FORMAT_UNNUMBERED = 1, OLD_ROW = 9 };

/* FORMAT_NONE: nothing was ever set up. */
static bool read_format(struct lmdb_store *s, MDB_txn *txn, uint64_t *format, struct sp_err *e)
{
    MDB_val key = lmdb_val(LMDB_FORMAT_NAME, sizeof LMDB_FORMAT_NAME - 1), value;
    MDB_dbi meta;
    int rc = mdb_dbi_open(txn, "meta", 0, &meta);

    *format = FORMAT_NONE;
    if (rc == MDB_NOTFOUND)
        return true;
    if (rc == 0)
        rc = mdb_get(txn, meta, &key, &value);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return lmdb_fail(s, rc, "read", e);
    *format = rc == MDB_NOTFOUND ? FORMAT_UNNUMBERED : value.mv_size == 8 ? lmdb_get_id(value.mv_data) : 0;
    if (*format == FORMAT_NONE)
        return sp_fail(e, SP_EBACKEND, 0, "%s: the format number is damaged; restore a backup", s->dir);
    if (*format > LMDB_FORMAT)
        return sp_fail(e, SP_EREFUSED, 0,
                       "%s: format %llu of a newer version, this one reads up to %d; install the newer "
                       "version again, or restore a backup made before the upgrade",
                       s->dir, (unsigned long long)*format, LMDB_FORMAT);
    return true;
}

static int put_format(MDB_txn *txn)
{
    MDB_val key = lmdb_val(LMDB_FORMAT_NAME, sizeof LMDB_FORMAT_NAME - 1), value;
    uint8_t be[8];
    MDB_dbi meta;
    int rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &meta);

    lmdb_put_id(be, LMDB_FORMAT);
    value = lmdb_val(be, sizeof be);
    return rc == 0 ? mdb_put(txn, meta, &key, &value, 0) : rc;
}

/* ---- from format 1 ---- */

struct upgrade {
    struct lmdb_store *s;
    MDB_txn *txn;
    MDB_dbi names, records, rows, ids;
};

static bool damaged(const struct upgrade *u, uint64_t id, struct sp_err *e)
{
    return sp_fail(e, SP_EBACKEND, 0,
                   "%s: upgrade: record %llu or its index entry is damaged; nothing was changed", u->s->dir,
                   (unsigned long long)id);
}

/* The new key of an index key of format 1, which had one byte more to use before names were hashed. */
static bool convert_key(struct upgrade *u, MDB_val old, struct lmdb_key *out, struct sp_err *e)
{
    const uint8_t *p = old.mv_data;

    if (p[0] != 0xff)
        return lmdb_make_key(u->s, lmdb_span(old), out, e);
    if (old.mv_size != 1 + 32)
        return damaged(u, 0, e);
    out->b[0] = LMDB_KEY_LEAD;
    memcpy(out->b + 1, p, old.mv_size);
    out->val = lmdb_val(out->b, 1 + old.mv_size);
    return true;
}

static bool make_row(struct upgrade *u, uint64_t id, uint8_t kind, uint8_t row[LMDB_ROW_MAX], MDB_val *out,
                     struct sp_err *e)
{
    uint8_t be[8];
    MDB_val id_key = {sizeof be, be}, record;
    int rc;

    lmdb_put_id(be, id);
    rc = mdb_get(u->txn, u->records, &id_key, &record);
    if (rc == MDB_NOTFOUND || (rc == 0 && (record.mv_size == 0 || record.mv_size > STORE_RECORD_MAX)))
        return damaged(u, id, e);
    if (rc != 0)
        return lmdb_fail(u->s, rc, "read", e);
    lmdb_put_id(row, id);
    row[ROW_KIND_AT] = kind;
    memcpy(row + ROW_HEAD, record.mv_data, record.mv_size);
    *out = lmdb_val(row, ROW_HEAD + record.mv_size);
    return true;
}

static bool move_row(struct upgrade *u, uint64_t id, uint8_t kind, struct lmdb_key *key, struct sp_err *e)
{
    uint8_t bytes[LMDB_ROW_MAX], be[8];
    MDB_val id_key = {sizeof be, be}, row;
    int rc;

    if (!make_row(u, id, kind, bytes, &row, e))
        return false;
    rc = mdb_put(u->txn, u->rows, &key->val, &row, 0);
    lmdb_put_id(be, id);
    if (rc == 0 && kind == ROW_OWN)
        rc = mdb_put(u->txn, u->ids, &id_key, &key->val, MDB_NOOVERWRITE);
    if (rc == MDB_KEYEXIST) /* two names that both claim to be the record's own */
        return damaged(u, id, e);
    return rc == 0 || lmdb_fail(u->s, rc, "write", e);
}

static bool move_name(struct upgrade *u, MDB_val name, MDB_val row, struct sp_err *e)
{
    const uint8_t *p = row.mv_data;
    struct lmdb_key key;

    if (row.mv_size != OLD_ROW || p[8] > ROW_ALIAS)
        return damaged(u, row.mv_size >= 8 ? lmdb_get_id(p) : 0, e);
    return convert_key(u, name, &key, e) && move_row(u, lmdb_get_id(p), p[8], &key, e);
}

static bool move_names(struct upgrade *u, struct sp_err *e)
{
    MDB_cursor *c;
    MDB_val name, row;
    bool ok = true;
    int rc = mdb_cursor_open(u->txn, u->names, &c);

    if (rc != 0)
        return lmdb_fail(u->s, rc, "read", e);
    while (ok && (rc = mdb_cursor_get(c, &name, &row, MDB_NEXT)) == 0)
        ok = move_name(u, name, row, e);
    mdb_cursor_close(c);
    return ok && (rc == MDB_NOTFOUND || lmdb_fail(u->s, rc, "read", e));
}

/* Both counts are the same, or some record had no name. */
static bool drop_old(struct upgrade *u, struct sp_err *e)
{
    MDB_stat old, ids;
    int rc = mdb_stat(u->txn, u->records, &old);

    if (rc == 0)
        rc = mdb_stat(u->txn, u->ids, &ids);
    if (rc == 0 && old.ms_entries != ids.ms_entries)
        return damaged(u, 0, e);
    if (rc == 0)
        rc = mdb_drop(u->txn, u->names, 1);
    if (rc == 0)
        rc = mdb_drop(u->txn, u->records, 1);
    if (rc == 0)
        rc = put_format(u->txn);
    return rc == 0 || lmdb_fail(u->s, rc, "upgrade", e);
}

static bool upgrade_unnumbered(struct lmdb_store *s, MDB_txn *txn, struct sp_err *e)
{
    struct upgrade u = {.s = s, .txn = txn};
    int rc = mdb_dbi_open(txn, "names", 0, &u.names);

    if (rc == 0)
        rc = mdb_dbi_open(txn, "records", 0, &u.records);
    if (rc == 0)
        rc = mdb_dbi_open(txn, NULL, 0, &u.rows);
    if (rc == 0)
        rc = mdb_dbi_open(txn, "ids", MDB_CREATE, &u.ids);
    if (rc != 0)
        return lmdb_fail(s, rc, "upgrade", e);
    return move_names(&u, e) && drop_old(&u, e);
}

/* ---- opening ---- */

static bool set_up(struct lmdb_store *s, MDB_txn *txn, struct sp_err *e)
{
    MDB_dbi ids;
    int rc = mdb_dbi_open(txn, "ids", MDB_CREATE, &ids);

    if (rc == 0)
        rc = put_format(txn);
    return rc == 0 || lmdb_fail(s, rc, "create", e);
}

/* The number is read again: another process may have been first. */
static bool write_format(struct lmdb_store *s, struct sp_err *e)
{
    uint64_t format;
    MDB_txn *txn;
    bool ok;
    int rc = mdb_txn_begin(s->accounts, NULL, 0, &txn);

    if (rc != 0)
        return lmdb_fail(s, rc, "begin", e);
    ok = read_format(s, txn, &format, e);
    if (ok && format == FORMAT_NONE)
        ok = set_up(s, txn, e);
    else if (ok && format == FORMAT_UNNUMBERED)
        ok = upgrade_unnumbered(s, txn, e);
    if (!ok) {
        mdb_txn_abort(txn);
        return false;
    }
    rc = mdb_txn_commit(txn);
    return rc == 0 || lmdb_fail(s, rc, "commit", e);
}

bool lmdb_settle_format(struct lmdb_store *s, struct sp_err *e)
{
    uint64_t format;
    MDB_txn *txn;
    bool ok;
    int rc = mdb_txn_begin(s->accounts, NULL, MDB_RDONLY, &txn);

    if (rc != 0)
        return lmdb_fail(s, rc, "begin", e);
    ok = read_format(s, txn, &format, e);
    mdb_txn_abort(txn);
    if (!ok || format == LMDB_FORMAT)
        return ok;
    if (format == FORMAT_NONE && s->mode != LMDB_CREATE)
        return sp_fail(e, SP_ENOTFOUND, 0, "%s: the account store is not set up", s->dir);
    if (s->mode == LMDB_READ)
        return sp_fail(e, SP_EBACKEND, 0,
                       "%s: format %llu, this version reads %d; starting sallyportd upgrades it", s->dir,
                       (unsigned long long)format, LMDB_FORMAT);
    return write_format(s, e);
}
