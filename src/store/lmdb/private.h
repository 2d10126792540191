/* SPDX-License-Identifier: MIT */
/* What the files of this driver share. Nobody else includes it. */
#ifndef SP_STORE_LMDB_PRIVATE_H
#define SP_STORE_LMDB_PRIVATE_H

#include <lmdb.h>

#include "store/lmdb/lmdb.h"

/* Layout, LMDB_FORMAT 2 (format.c upgrades what is older):
 *
 *   unnamed    01, index key    -> id 8, ROW_OWN or ROW_ALIAS, sealed record
 *   "ids"      id 8             -> the whole key of the account's own row
 *   "meta"     name             -> sealed value; those whose name begins with # are not sealed
 *
 * The library keeps its own rows for "ids" and "meta" in the unnamed tree: the byte 01 keeps them apart from
 * accounts of these names. Numbers are big-endian.
 *
 * Every name of an account has a row of its own with the same sealed bytes, written and removed together: a
 * look-up by any of them reads one row, so that its time does not tell an alias from other names. What stands
 * before the sealed bytes is not authenticated. Look-ups go by the record's names alone; ROW_ALIAS only keeps
 * an account from being listed by each of its names, and listing notices when it is wrong. */
#define LMDB_FORMAT 2
#define LMDB_FORMAT_NAME "#format"
#define LMDB_KEY_MAX 511 /* what the library takes */
#define LMDB_KEY_LEAD 1
#define LMDB_SCRATCH (512 * 1024)

enum { ROW_KIND_AT = 8, ROW_HEAD = 9, ROW_OWN = 0, ROW_ALIAS = 1 };
#define LMDB_ROW_MAX (ROW_HEAD + STORE_RECORD_MAX)

struct lmdb_store {
    struct store_lookup lookup; /* first: the port's functions cast back */
    MDB_env *accounts, *activity;
    MDB_dbi rows, ids, meta, counters;
    MDB_txn *batch; /* the kept read transaction; reset while `reading` is false */
    MDB_cursor *at; /* in the batch's rows */
    bool reading;
    enum lmdb_mode mode;
    struct crypto *crypto;
    struct sp_rng *rng;
    struct sp_arena scratch; /* old records while a new one is written */
    uint8_t master[32];
    char dir[4096];
};

/* A look-up key as the library takes it: 01, then the look-up key, or 0xff and a hash of one that is too
 * long. UTF-8 has no byte 0xff, so a hashed name never meets a short one. */
struct lmdb_key {
    uint8_t b[LMDB_KEY_MAX];
    MDB_val val;
};
SP_MUST bool lmdb_make_key(struct lmdb_store *s, struct sp_span lookup, struct lmdb_key *out,
                           struct sp_err *e);

struct lmdb_row {
    uint64_t id;
    uint8_t kind; /* ROW_OWN, ROW_ALIAS */
    struct sp_span record;
};
/* False for what cannot be a row. */
SP_MUST bool lmdb_get_row(MDB_val v, struct lmdb_row *out);

static inline bool lmdb_is_row_key(MDB_val key)
{
    return key.mv_size > 1 && *(const uint8_t *)key.mv_data == LMDB_KEY_LEAD;
}

void lmdb_put_id(uint8_t out[8], uint64_t id);
uint64_t lmdb_get_id(const void *p);

static inline MDB_val lmdb_val(const void *p, size_t n)
{
    return (MDB_val){n, (void *)(uintptr_t)p};
}

static inline struct sp_span lmdb_span(MDB_val v)
{
    return sp_span(v.mv_data, v.mv_size);
}

/* The library's code as one of ours: a full map, disk or quota is SP_EFULL. Always false. */
bool lmdb_fail(struct lmdb_store *s, int rc, const char *doing, struct sp_err *e);

/* Checks the format of the accounts, makes a store that is not there (LMDB_CREATE), upgrades an older one
 * (not LMDB_READ): in one transaction, so that a crash leaves the old one. */
SP_MUST bool lmdb_settle_format(struct lmdb_store *s, struct sp_err *e);

/* A reader opens the activity when it is first asked for: workers never ask. */
SP_MUST bool lmdb_open_activity(struct lmdb_store *s, struct sp_err *e);

/* The directory of one environment holds a file that is not empty. */
SP_MUST bool lmdb_check_there(const char *dir, struct sp_err *e);
/* The file has all the pages that are in use. May fork. */
SP_MUST bool lmdb_check_whole(MDB_env *env, const char *path, enum lmdb_mode mode, struct sp_err *e);

/* Fills in the port. */
void lmdb_init_lookup(struct lmdb_store *s);

/* Reads one record in any transaction, and says whose it is when it cannot be trusted. */
SP_MUST bool lmdb_read_record(struct lmdb_store *s, MDB_txn *txn, uint64_t id, struct sp_arena *mem,
                              struct store_account *out, struct sp_err *e);

#endif
