/* SPDX-License-Identifier: MIT */
/* Looks at the rows of an account store from outside, by the library's own calls: each account has one row
 * that is its own, to which "ids" leads, and the rows of its aliases are the same but for the byte that says
 * so. */
#ifndef SP_TESTS_STORE_ROWS_H
#define SP_TESTS_STORE_ROWS_H

#include <lmdb.h>
#include <stdio.h>
#include <string.h>

enum { ROWS_ID = 8, ROWS_KIND_AT = 8, ROWS_HEAD = 9 }; /* id, kind (0: own, 1: alias), sealed record */

struct store_rows {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi rows, ids;
    size_t own, aliases;
    const char *wrong; /* NULL: nothing */
};

/* Without the lock file: nobody writes meanwhile, and the store may be open in this process. */
static inline int rows_begin(struct store_rows *r, const char *dir, unsigned flags)
{
    char path[4096];
    int rc = mdb_env_create(&r->env);

    snprintf(path, sizeof path, "%s/accounts", dir);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(r->env, 4);
    if (rc == 0)
        rc = mdb_env_open(r->env, path, flags | MDB_NOTLS | MDB_NOLOCK, 0600);
    if (rc == 0)
        rc = mdb_txn_begin(r->env, NULL, flags & MDB_RDONLY, &r->txn);
    if (rc == 0)
        rc = mdb_dbi_open(r->txn, NULL, 0, &r->rows);
    if (rc == 0)
        rc = mdb_dbi_open(r->txn, "ids", 0, &r->ids);
    return rc;
}

static inline int rows_end(struct store_rows *r)
{
    int rc = r->txn ? mdb_txn_commit(r->txn) : 0;

    mdb_env_close(r->env);
    return rc;
}

static inline bool rows_same_bytes(MDB_val a, MDB_val b)
{
    return a.mv_size == b.mv_size && memcmp(a.mv_data, b.mv_data, a.mv_size) == 0;
}

static inline const char *rows_check_one(struct store_rows *r, MDB_val key, MDB_val row)
{
    const uint8_t *p = row.mv_data, *q;
    MDB_val id = {ROWS_ID, row.mv_data}, own_key, own;

    if (row.mv_size <= ROWS_HEAD || p[ROWS_KIND_AT] > 1)
        return "what lies there cannot be a row";
    if (mdb_get(r->txn, r->ids, &id, &own_key) != 0 || mdb_get(r->txn, r->rows, &own_key, &own) != 0)
        return "a row without an account";
    if (p[ROWS_KIND_AT] == 0) {
        r->own++;
        return rows_same_bytes(key, own_key) ? NULL : "two rows that are one account's own";
    }
    r->aliases++;
    q = own.mv_data;
    if (own.mv_size != row.mv_size || q[ROWS_KIND_AT] != 0 || memcmp(p, q, ROWS_ID) != 0)
        return "an alias's row is of another size or account than the own one";
    return memcmp(p + ROWS_HEAD, q + ROWS_HEAD, row.mv_size - ROWS_HEAD) == 0
               ? NULL
               : "an alias's row holds another record than the own one";
}

static inline void rows_walk(struct store_rows *r)
{
    MDB_cursor *c;
    MDB_val key, row;
    MDB_stat ids;

    if (mdb_cursor_open(r->txn, r->rows, &c) != 0) {
        r->wrong = "no cursor";
        return;
    }
    while (!r->wrong && mdb_cursor_get(c, &key, &row, MDB_NEXT) == 0)
        if (key.mv_size > 1 && *(const uint8_t *)key.mv_data == 1)
            r->wrong = rows_check_one(r, key, row);
    mdb_cursor_close(c);
    if (!r->wrong && (mdb_stat(r->txn, r->ids, &ids) != 0 || ids.ms_entries != r->own))
        r->wrong = "not as many accounts as rows of their own";
}

static inline struct store_rows rows_check(const char *dir)
{
    struct store_rows r = {0};
    int rc = rows_begin(&r, dir, MDB_RDONLY);

    if (rc == 0)
        rows_walk(&r);
    else
        r.wrong = mdb_strerror(rc);
    rows_end(&r);
    return r;
}

#endif
