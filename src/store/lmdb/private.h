/* SPDX-License-Identifier: MIT */
/* What the files of this driver share. Nobody else includes it. */
#ifndef SP_STORE_LMDB_PRIVATE_H
#define SP_STORE_LMDB_PRIVATE_H

#include <lmdb.h>

#include "store/lmdb/lmdb.h"

#define LMDB_KEY_MAX 511 /* what the library takes */
#define LMDB_SCRATCH (512 * 1024)

/* Values of the database `names`: the id, big-endian, then one of these. */
enum { NAME_ROW = 9, NAME_OWN = 0, NAME_ALIAS = 1 };

struct lmdb_store {
    struct store_lookup lookup; /* first: the port's functions cast back */
    MDB_env *accounts, *activity;
    MDB_dbi meta, names, records, counters;
    MDB_txn *batch; /* the kept read transaction; reset while `reading` is false */
    bool reading;
    enum lmdb_mode mode;
    struct crypto *crypto;
    struct sp_rng *rng;
    struct sp_arena scratch; /* old records while a new one is written */
    uint8_t master[32];
    char dir[4096];
};

/* A look-up key as the library takes it. UTF-8 has no byte 0xff, so a hashed long name never meets a short
 * one. */
struct lmdb_key {
    uint8_t b[1 + 32];
    MDB_val val;
};
SP_MUST bool lmdb_make_key(struct lmdb_store *s, struct sp_span lookup, struct lmdb_key *out,
                           struct sp_err *e);

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

/* Fills in the port. */
void lmdb_init_lookup(struct lmdb_store *s);

/* Reads one record in any transaction, and says whose it is when it cannot be trusted. */
SP_MUST bool lmdb_read_record(struct lmdb_store *s, MDB_txn *txn, uint64_t id, struct sp_arena *mem,
                              struct store_account *out, struct sp_err *e);

#endif
