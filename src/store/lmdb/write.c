/* SPDX-License-Identifier: MIT */
/* Every public call is one transaction: it commits whole or leaves everything as it was. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/lmdb/private.h"

/* Not sealed: it holds nothing secret, and the highest id in use is looked at as well. */
static const char next_id_name[] = "#next-id";

static bool begin_write(struct lmdb_store *s, MDB_txn **txn, struct sp_err *e)
{
    int rc;

    if (s->mode == LMDB_READ)
        return sp_fail(e, SP_EBUG, 0, "%s: opened for reading", s->dir);
    lmdb_settle(s); /* so that the next look-up sees this change */
    rc = mdb_txn_begin(s->accounts, NULL, 0, txn);
    return rc == 0 || lmdb_fail(s, rc, "begin", e);
}

/* Takes the transaction, whatever happens. */
static bool end_write(struct lmdb_store *s, MDB_txn *txn, bool ok, struct sp_err *e)
{
    int rc;

    sp_arena_reset(&s->scratch);
    if (!ok) {
        mdb_txn_abort(txn);
        return false;
    }
    rc = mdb_txn_commit(txn);
    return rc == 0 || lmdb_fail(s, rc, "commit", e);
}

/* ---- ids: never used again, also after the newest account was deleted ---- */

static bool last_id(struct lmdb_store *s, MDB_txn *txn, uint64_t *id, struct sp_err *e)
{
    MDB_cursor *c;
    MDB_val key, value;
    int rc = mdb_cursor_open(txn, s->ids, &c);

    if (rc != 0)
        return lmdb_fail(s, rc, "read", e);
    rc = mdb_cursor_get(c, &key, &value, MDB_LAST);
    *id = rc == 0 && key.mv_size == 8 ? lmdb_get_id(key.mv_data) : 0;
    mdb_cursor_close(c);
    return rc == 0 || rc == MDB_NOTFOUND || lmdb_fail(s, rc, "read", e);
}

static bool new_id(struct lmdb_store *s, MDB_txn *txn, uint64_t *id, struct sp_err *e)
{
    uint8_t be[8];
    MDB_val key = lmdb_val(next_id_name, sizeof next_id_name - 1), value;
    uint64_t highest = 0;
    int rc = mdb_get(txn, s->meta, &key, &value);

    if ((rc != 0 && rc != MDB_NOTFOUND) || !last_id(s, txn, &highest, e))
        return lmdb_fail(s, rc, "read", e);
    *id = rc == 0 && value.mv_size == 8 ? lmdb_get_id(value.mv_data) : 1;
    if (*id <= highest)
        *id = highest + 1;
    lmdb_put_id(be, *id + 1);
    value = lmdb_val(be, sizeof be);
    rc = mdb_put(txn, s->meta, &key, &value, 0);
    return rc == 0 || lmdb_fail(s, rc, "write", e);
}

/* ---- names ---- */

static bool drop_name(struct lmdb_store *s, MDB_txn *txn, uint64_t id, struct sp_span lookup,
                      struct sp_err *e)
{
    struct lmdb_key key;
    struct lmdb_row row;
    MDB_val value;
    int rc;

    if (!lmdb_make_key(s, lookup, &key, e))
        return false;
    rc = mdb_get(txn, s->rows, &key.val, &value);
    if (rc == MDB_NOTFOUND || (rc == 0 && (!lmdb_get_row(value, &row) || row.id != id)))
        return true;
    if (rc == 0)
        rc = mdb_del(txn, s->rows, &key.val, NULL);
    return rc == 0 || lmdb_fail(s, rc, "delete", e);
}

/* When the record cannot say what its names were: the whole index is read. */
static bool drop_names_slowly(struct lmdb_store *s, MDB_txn *txn, uint64_t id, struct sp_err *e)
{
    MDB_cursor *c;
    MDB_val key, value;
    struct lmdb_row row;
    int rc = mdb_cursor_open(txn, s->rows, &c);

    if (rc != 0)
        return lmdb_fail(s, rc, "read", e);
    while ((rc = mdb_cursor_get(c, &key, &value, MDB_NEXT)) == 0 && lmdb_is_row_key(key))
        if (lmdb_get_row(value, &row) && row.id == id && (rc = mdb_cursor_del(c, 0)) != 0)
            break;
    mdb_cursor_close(c);
    return rc == 0 || rc == MDB_NOTFOUND || lmdb_fail(s, rc, "delete", e);
}

static bool drop_names(struct lmdb_store *s, MDB_txn *txn, uint64_t id, struct sp_err *e)
{
    struct sp_err why = {0};
    struct store_account old;
    bool ok;

    sp_arena_reset(&s->scratch);
    if (!lmdb_read_record(s, txn, id, &s->scratch, &old, &why))
        return why.kind == SP_ENOTFOUND ? sp_fail(e, why.kind, 0, "%s", why.text)
                                        : drop_names_slowly(s, txn, id, e);
    ok = drop_name(s, txn, id, old.lookup, e);
    for (uint32_t i = 0; ok && i < old.alias_lookups.count; i++)
        ok = drop_name(s, txn, id, old.alias_lookups.v[i], e);
    return ok;
}

struct named_row {
    struct sp_span shown; /* the name, for an error's text */
    MDB_val key, value;
};

/* An alias may say the name again: the row that came first stays. A row that is the account's but not of this
 * record was left by some damage, as nobody knew of its name. */
static int put_row(struct lmdb_store *s, MDB_txn *txn, uint64_t id, struct named_row *n)
{
    struct lmdb_row row, there;
    MDB_val value = n->value;
    int rc = mdb_put(txn, s->rows, &n->key, &value, MDB_NOOVERWRITE);

    if (rc != MDB_KEYEXIST || !lmdb_get_row(value, &there) || there.id != id)
        return rc;
    if (lmdb_get_row(n->value, &row) && sp_same(row.record, there.record))
        return 0;
    return mdb_put(txn, s->rows, &n->key, &n->value, 0);
}

static bool add_row(struct lmdb_store *s, MDB_txn *txn, uint64_t id, struct named_row n, struct sp_err *e)
{
    int rc = put_row(s, txn, id, &n);

    if (rc == MDB_KEYEXIST)
        return sp_fail(e, SP_EEXIST, 0, "the name %.*s is taken", (int)(n.shown.n < 100 ? n.shown.n : 100),
                       (const char *)n.shown.p);
    return rc == 0 || lmdb_fail(s, rc, "write", e);
}

static bool add_id(struct lmdb_store *s, MDB_txn *txn, uint64_t id, MDB_val own, struct sp_err *e)
{
    uint8_t be[8];
    MDB_val key = {sizeof be, be};
    int rc;

    lmdb_put_id(be, id);
    rc = mdb_put(txn, s->ids, &key, &own, 0);
    return rc == 0 || lmdb_fail(s, rc, "write", e);
}

static bool seal_row(struct lmdb_store *s, const struct store_account *a, uint8_t row[LMDB_ROW_MAX],
                     MDB_val *out, struct sp_err *e)
{
    size_t n;

    if (!store_seal(s->crypto, s->master, s->rng, a, row + ROW_HEAD, STORE_RECORD_MAX, &n, e)) {
        if (e->kind == SP_EFULL)
            e->kind = SP_EINPUT; /* not the disk: this account holds too much */
        return false;
    }
    lmdb_put_id(row, a->id);
    *out = lmdb_val(row, ROW_HEAD + n);
    return true;
}

static bool add_rows(struct lmdb_store *s, MDB_txn *txn, const struct store_account *a, struct sp_err *e)
{
    uint8_t bytes[LMDB_ROW_MAX];
    struct lmdb_key key;
    MDB_val row;
    bool ok;

    if (!seal_row(s, a, bytes, &row, e) || !lmdb_make_key(s, a->lookup, &key, e))
        return false;
    bytes[ROW_KIND_AT] = ROW_OWN;
    ok = add_row(s, txn, a->id, (struct named_row){a->name, key.val, row}, e) &&
         add_id(s, txn, a->id, key.val, e);
    bytes[ROW_KIND_AT] = ROW_ALIAS;
    for (uint32_t i = 0; ok && i < a->aliases.count; i++)
        ok = lmdb_make_key(s, a->alias_lookups.v[i], &key, e) &&
             add_row(s, txn, a->id, (struct named_row){a->aliases.v[i], key.val, row}, e);
    return ok;
}

static bool put_one(struct lmdb_store *s, MDB_txn *txn, struct store_account *a, struct sp_err *e)
{
    if (a->alias_lookups.count != a->aliases.count)
        return sp_fail(e, SP_EBUG, 0, "an alias without a look-up key");
    if (a->id == 0 ? !new_id(s, txn, &a->id, e) : !drop_names(s, txn, a->id, e))
        return false;
    return add_rows(s, txn, a, e);
}

/* Which of the ids were given by this transaction, to be taken back when it fails. */
static void forget_ids(struct store_account *a, const uint64_t *before, size_t count)
{
    for (size_t i = 0; i < count; i++)
        a[i].id = before[i];
}

bool lmdb_put_many(struct lmdb_store *s, struct store_account *a, size_t count, struct sp_err *e)
{
    uint64_t *before = calloc(count ? count : 1, sizeof *before);
    MDB_txn *txn = NULL;
    bool ok;

    if (!before)
        return sp_fail(e, SP_ENOMEM, 0, "no memory for %zu accounts", count);
    for (size_t i = 0; i < count; i++)
        before[i] = a[i].id;
    ok = begin_write(s, &txn, e);
    if (ok) {
        for (size_t i = 0; ok && i < count; i++)
            ok = put_one(s, txn, &a[i], e);
        ok = end_write(s, txn, ok, e);
    }
    if (!ok)
        forget_ids(a, before, count);
    free(before);
    return ok;
}

bool lmdb_put(struct lmdb_store *s, struct store_account *a, struct sp_err *e)
{
    return lmdb_put_many(s, a, 1, e);
}

static bool delete_one(struct lmdb_store *s, MDB_txn *txn, uint64_t id, struct sp_err *e)
{
    uint8_t be[8];
    MDB_val key = {sizeof be, be};
    int rc;

    if (!drop_names(s, txn, id, e))
        return false;
    lmdb_put_id(be, id);
    rc = mdb_del(txn, s->ids, &key, NULL);
    return rc == 0 || lmdb_fail(s, rc, "delete", e);
}

bool lmdb_delete(struct lmdb_store *s, uint64_t id, struct sp_err *e)
{
    MDB_txn *txn = NULL;

    return begin_write(s, &txn, e) && end_write(s, txn, delete_one(s, txn, id, e), e);
}

/* ---- meta ---- */

static bool put_meta(struct lmdb_store *s, MDB_txn *txn, const char *name, struct sp_span value,
                     struct sp_err *e)
{
    uint8_t sealed[CRYPTO_SEAL_NONCE + STORE_RECORD_MAX + CRYPTO_SEAL_OVERHEAD];
    MDB_val key = lmdb_val(name, strlen(name));
    MDB_val v = lmdb_val(sealed, CRYPTO_SEAL_NONCE + value.n + CRYPTO_SEAL_OVERHEAD);
    int rc;

    if (value.n > STORE_RECORD_MAX || name[0] == '#')
        return sp_fail(e, SP_EBUG, 0, "value \"%s\" cannot be stored", name);
    sp_rng_fill(s->rng, sealed, CRYPTO_SEAL_NONCE);
    if (!crypto_seal(s->crypto, s->master, sealed, sp_str(name), value, sealed + CRYPTO_SEAL_NONCE, e))
        return false;
    rc = mdb_put(txn, s->meta, &key, &v, 0);
    return rc == 0 || lmdb_fail(s, rc, "write", e);
}

bool lmdb_put_meta(struct lmdb_store *s, const char *name, struct sp_span value, struct sp_err *e)
{
    MDB_txn *txn = NULL;

    return begin_write(s, &txn, e) && end_write(s, txn, put_meta(s, txn, name, value, e), e);
}

/* ---- backup ---- */

/* Own file descriptor: the library's own copy would make the file readable by others. */
static bool copy_env(MDB_env *env, const char *dir, const char *name, struct sp_err *e)
{
    char path[4096 + 32];
    int fd, rc;

    snprintf(path, sizeof path, "%.4000s/%s", dir, name);
    if (mkdir(path, 0700) != 0)
        return sp_fail(e, errno == EEXIST ? SP_EEXIST : SP_EBACKEND, 0, "%s: %m", path);
    snprintf(path, sizeof path, "%.4000s/%s/data.mdb", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return sp_fail(e, SP_EBACKEND, 0, "%s: %m", path);
    rc = mdb_env_copyfd2(env, fd, 0);
    if (rc == 0 && fsync(fd) != 0)
        rc = errno;
    close(fd);
    if (rc == 0)
        return true;
    unlink(path);
    return sp_fail(e, rc == ENOSPC ? SP_EFULL : SP_EBACKEND, 0, "%s: %s", path, mdb_strerror(rc));
}

bool lmdb_backup(struct lmdb_store *s, const char *dir, struct sp_err *e)
{
    return lmdb_open_activity(s, e) && copy_env(s->accounts, dir, "accounts", e) &&
           copy_env(s->activity, dir, "activity", e);
}
