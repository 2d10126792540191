/* SPDX-License-Identifier: MIT */
/* Last success, last failure and their counts: four big-endian numbers of 8 bytes, by id. Not sealed: they
 * grant nothing. */
#include "store/lmdb/private.h"

enum { ROW = 32 };

static struct lmdb_activity get_row(MDB_val v)
{
    const uint8_t *p = v.mv_data;

    if (v.mv_size != ROW)
        return (struct lmdb_activity){0};
    return (struct lmdb_activity){(int64_t)lmdb_get_id(p), (int64_t)lmdb_get_id(p + 8), lmdb_get_id(p + 16),
                                  lmdb_get_id(p + 24)};
}

static int read_row(struct lmdb_store *s, MDB_txn *txn, uint64_t id, struct lmdb_activity *out)
{
    uint8_t be[8];
    MDB_val key = {sizeof be, be}, value;
    int rc;

    *out = (struct lmdb_activity){0};
    lmdb_put_id(be, id);
    rc = mdb_get(txn, s->counters, &key, &value);
    if (rc == 0)
        *out = get_row(value);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

bool lmdb_get_activity(struct lmdb_store *s, uint64_t id, struct lmdb_activity *out, struct sp_err *e)
{
    MDB_txn *txn;
    int rc;

    if (!lmdb_open_activity(s, e))
        return false;
    rc = mdb_txn_begin(s->activity, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return lmdb_fail(s, rc, "begin", e);
    rc = read_row(s, txn, id, out);
    mdb_txn_abort(txn);
    return rc == 0 || lmdb_fail(s, rc, "read", e);
}

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int add_row(struct lmdb_store *s, MDB_txn *txn, const struct lmdb_activity_row *r)
{
    struct lmdb_activity now;
    uint8_t be[8], row[ROW];
    MDB_val key = {sizeof be, be}, value = {sizeof row, row};
    int rc = read_row(s, txn, r->id, &now);

    if (rc != 0)
        return rc;
    lmdb_put_id(be, r->id);
    lmdb_put_id(row, (uint64_t)later(now.last_success_s, r->add.last_success_s));
    lmdb_put_id(row + 8, (uint64_t)later(now.last_failure_s, r->add.last_failure_s));
    lmdb_put_id(row + 16, now.successes + r->add.successes);
    lmdb_put_id(row + 24, now.failures + r->add.failures);
    return mdb_put(txn, s->counters, &key, &value, 0);
}

bool lmdb_add_activity(struct lmdb_store *s, const struct lmdb_activity_row *v, size_t count,
                       struct sp_err *e)
{
    MDB_txn *txn;
    int rc;

    if (s->mode == LMDB_READ)
        return sp_fail(e, SP_EBUG, 0, "%s: opened for reading", s->dir);
    rc = mdb_txn_begin(s->activity, NULL, 0, &txn);
    if (rc != 0)
        return lmdb_fail(s, rc, "begin", e);
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = add_row(s, txn, &v[i]);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return lmdb_fail(s, rc, "write", e);
    }
    rc = mdb_txn_commit(txn);
    return rc == 0 || lmdb_fail(s, rc, "commit", e);
}
