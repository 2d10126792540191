/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/lmdb/private.h"

/* Address space, not memory or disk: the map is sparse and grows by writing. A million accounts take about
 * one GiB, and an alias as much as an account. */
#define ACCOUNTS_MAP (sizeof(void *) > 4 ? (size_t)16 << 30 : (size_t)512 << 20)
#define ACTIVITY_MAP (sizeof(void *) > 4 ? (size_t)2 << 30 : (size_t)128 << 20)
#define READERS_MAX 256

/* The library says EIO when a write came back short, which is how most file systems run full. */
static bool disk_is_full(const char *dir)
{
    struct statvfs v;

    return statvfs(dir, &v) == 0 && (uint64_t)v.f_bavail * v.f_frsize < 1u << 20;
}

bool lmdb_fail(struct lmdb_store *s, int rc, const char *doing, struct sp_err *e)
{
    if (rc == MDB_MAP_FULL || rc == ENOSPC || rc == EDQUOT || rc == EFBIG ||
        (rc == EIO && disk_is_full(s->dir)))
        return sp_fail(e, SP_EFULL, 0, "%s: no room left on the disk; nothing was changed", s->dir);
    return sp_fail(e, SP_EBACKEND, 0, "%s: %s: %s", s->dir, doing, mdb_strerror(rc));
}

void lmdb_put_id(uint8_t out[8], uint64_t id)
{
    for (int i = 7; i >= 0; i--, id >>= 8)
        out[i] = (uint8_t)id;
}

uint64_t lmdb_get_id(const void *p)
{
    const uint8_t *b = p;
    uint64_t id = 0;

    for (int i = 0; i < 8; i++)
        id = id << 8 | b[i];
    return id;
}

bool lmdb_make_key(struct lmdb_store *s, struct sp_span lookup, struct lmdb_key *out, struct sp_err *e)
{
    if (lookup.n == 0 || lookup.n > STORE_NAME_MAX)
        return sp_fail(e, SP_EINPUT, 0, "a name has 1 to %d bytes", STORE_NAME_MAX);
    out->b[0] = LMDB_KEY_LEAD;
    if (lookup.n <= LMDB_KEY_MAX - 1) {
        memcpy(out->b + 1, lookup.p, lookup.n);
        out->val = lmdb_val(out->b, 1 + lookup.n);
        return true;
    }
    out->b[1] = 0xff;
    out->val = lmdb_val(out->b, 2 + 32);
    return crypto_sha256(s->crypto, lookup, out->b + 2, e);
}

bool lmdb_get_row(MDB_val v, struct lmdb_row *out)
{
    const uint8_t *p = v.mv_data;

    if (v.mv_size <= ROW_HEAD)
        return false;
    *out = (struct lmdb_row){lmdb_get_id(p), p[ROW_KIND_AT], sp_span(p + ROW_HEAD, v.mv_size - ROW_HEAD)};
    return out->kind == ROW_OWN || out->kind == ROW_ALIAS;
}

/* ---- opening ---- */

static bool make_dir(const char *path, enum lmdb_mode mode, struct sp_err *e)
{
    if (mode != LMDB_CREATE || mkdir(path, 0700) == 0 || errno == EEXIST)
        return true;
    return sp_fail(e, SP_EBACKEND, 0, "%s: %m", path);
}

struct env_plan {
    const char *name;
    size_t map;
    unsigned flags;
};

static MDB_env *open_env(struct lmdb_store *s, struct env_plan plan, struct sp_err *e)
{
    char path[sizeof s->dir + 16];
    MDB_env *env = NULL;
    int dead = 0, rc;

    snprintf(path, sizeof path, "%s/%s", s->dir, plan.name);
    if (!make_dir(path, s->mode, e) || (s->mode != LMDB_CREATE && !lmdb_check_there(path, e)))
        return NULL;
    rc = mdb_env_create(&env);
    if (rc == 0)
        rc = mdb_env_set_mapsize(env, plan.map);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(env, 4);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(env, READERS_MAX);
    if (rc == 0) /* no thread-local readers: a worker's one slot belongs to its transaction (decision 1) */
        rc = mdb_env_open(env, path, plan.flags | MDB_NOTLS | (s->mode == LMDB_READ ? MDB_RDONLY : 0u), 0600);
    if (rc == 0)
        rc = mdb_reader_check(env, &dead); /* what a killed process left would keep old pages alive */
    if (rc == 0 && lmdb_check_whole(env, path, s->mode, e))
        return env;
    mdb_env_close(env);
    if (rc == 0)
        return NULL;
    if (rc == ENOENT)
        sp_fail(e, SP_ENOTFOUND, 0, "%s: there is no account store", path);
    else
        sp_fail(e, SP_EBACKEND, 0, "%s: %s", path, mdb_strerror(rc));
    return NULL;
}

struct dbi_plan {
    const char *name;
    MDB_dbi *out;
};

/* Handles live as long as the environment once the transaction that opened them is committed. */
static bool open_dbs(struct lmdb_store *s, MDB_env *env, const struct dbi_plan *v, size_t count,
                     struct sp_err *e)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(env, NULL, s->mode == LMDB_CREATE ? 0 : MDB_RDONLY, &txn);

    if (rc != 0)
        return lmdb_fail(s, rc, "begin", e);
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = mdb_dbi_open(txn, v[i].name, s->mode == LMDB_CREATE ? MDB_CREATE : 0, v[i].out);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc == MDB_NOTFOUND ? sp_fail(e, SP_ENOTFOUND, 0, "%s: the account store is not set up", s->dir)
                                  : lmdb_fail(s, rc, "open", e);
    }
    rc = mdb_txn_commit(txn);
    return rc == 0 || lmdb_fail(s, rc, "open", e);
}

static bool open_accounts(struct lmdb_store *s, struct sp_err *e)
{
    const struct dbi_plan v[] = {
        {NULL,   &s->rows},
        {"ids",  &s->ids },
        {"meta", &s->meta}
    };
    int rc;

    s->accounts = open_env(s, (struct env_plan){"accounts", ACCOUNTS_MAP, MDB_NORDAHEAD}, e);
    if (!s->accounts || !lmdb_settle_format(s, e) || !open_dbs(s, s->accounts, v, 3, e))
        return false;
    rc = mdb_txn_begin(s->accounts, NULL, MDB_RDONLY,
                       &s->batch); /* takes the reader slot before any sandbox */
    if (rc == 0)
        rc = mdb_cursor_open(s->batch, s->rows, &s->at);
    if (rc != 0)
        return lmdb_fail(s, rc, "begin", e);
    mdb_txn_reset(s->batch);
    return true;
}

/* No fsync of the root page: a power cut may lose the last second, but never the order of writes, so the file
 * still opens. (MDB_NOSYNC would not promise that.) */
bool lmdb_open_activity(struct lmdb_store *s, struct sp_err *e)
{
    const struct dbi_plan v[] = {
        {"activity", &s->counters}
    };

    if (s->activity)
        return true;
    s->activity = open_env(s, (struct env_plan){"activity", ACTIVITY_MAP, MDB_NOMETASYNC}, e);
    if (s->activity && open_dbs(s, s->activity, v, 1, e))
        return true;
    if (s->activity)
        mdb_env_close(s->activity);
    s->activity = NULL;
    return false;
}

struct lmdb_store *lmdb_open(const char *dir, enum lmdb_mode mode, const uint8_t master[32], struct crypto *c,
                             struct sp_rng *rng, struct sp_err *e)
{
    struct lmdb_store *s = calloc(1, sizeof *s);
    void *scratch = malloc(LMDB_SCRATCH);

    if (!s || !scratch || strlen(dir) >= sizeof s->dir) {
        free(scratch);
        free(s);
        sp_fail(e, SP_EBACKEND, 0, "%s: no memory, or the path is too long", dir);
        return NULL;
    }
    snprintf(s->dir, sizeof s->dir, "%s", dir);
    memcpy(s->master, master, sizeof s->master);
    sp_arena_init(&s->scratch, scratch, LMDB_SCRATCH);
    s->mode = mode;
    s->crypto = c;
    s->rng = rng;
    crypto_keep_seal(c, s->master);
    lmdb_init_lookup(s);
    if (open_accounts(s, e) && (mode == LMDB_READ || lmdb_open_activity(s, e)))
        return s;
    lmdb_close(s);
    return NULL;
}

void lmdb_close(struct lmdb_store *s)
{
    if (!s)
        return;
    if (s->at)
        mdb_cursor_close(s->at);
    if (s->batch)
        mdb_txn_abort(s->batch);
    if (s->accounts)
        mdb_env_close(s->accounts);
    if (s->activity)
        mdb_env_close(s->activity);
    crypto_keep_seal(s->crypto, NULL);
    sp_arena_reset(&s->scratch);
    free(s->scratch.p);
    sp_wipe(s, sizeof *s);
    free(s);
}
