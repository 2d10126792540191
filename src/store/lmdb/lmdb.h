/* SPDX-License-Identifier: MIT */
/* The account store on LMDB (decision 3): environment `accounts` with synchronous commits, `activity`
 * without. One writer at a time: whoever holds the instance's lock; this file only opens and transacts. */
#ifndef SP_STORE_LMDB_LMDB_H
#define SP_STORE_LMDB_LMDB_H

#include "store/store.h"

struct lmdb_store;

enum lmdb_mode {
    LMDB_READ, /* a worker's: opened before the sandbox; nothing is written but LMDB's reader table */
    LMDB_WRITE,
    LMDB_CREATE, /* write, and make what is missing */
};

/* dir holds accounts/ and activity/. master is copied and wiped at close. rng: for nonces; must outlive the
 * store. NULL on failure, with a text that names the file. Never carried across fork. */
struct lmdb_store *lmdb_open(const char *dir, enum lmdb_mode mode, const uint8_t master[32], struct crypto *c,
                             struct sp_rng *rng, struct sp_err *e);
void lmdb_close(struct lmdb_store *s); /* NULL allowed */

/* The port for engines. One read transaction is kept and renewed per look-up batch; lmdb_settle ends the
 * batch, so that old pages can be reused (call it when idle). */
struct store_lookup *lmdb_lookup(struct lmdb_store *s);
void lmdb_settle(struct lmdb_store *s);

/* ---- writing: each call is one transaction; when it returned true the change survives kill -9 and power
 * loss ---- */

/* a->id 0: a new account, its id is assigned. Names and aliases that are taken: SP_EEXIST with the name in
 * the text. A full disk or map: SP_EFULL, nothing changed. The generation is written as given. */
SP_MUST bool lmdb_put(struct lmdb_store *s, struct store_account *a, struct sp_err *e);
/* Several at once (import, benchmarks): all or none. */
SP_MUST bool lmdb_put_many(struct lmdb_store *s, struct store_account *a, size_t count, struct sp_err *e);
SP_MUST bool lmdb_delete(struct lmdb_store *s, uint64_t id, struct sp_err *e);

/* Every account in order of look-up key of its own name; visit returns false to stop (then e is as visit left
 * it). mem is reset before each visit. */
SP_MUST bool lmdb_each(struct lmdb_store *s, struct sp_arena *mem,
                       bool (*visit)(void *ctx, const struct store_account *a, struct sp_err *e), void *ctx,
                       struct sp_err *e);
uint64_t lmdb_count(struct lmdb_store *s);

/* Small named values: realm, settings fixed at init, secrets of the realm (sealed). SP_ENOTFOUND. */
SP_MUST bool lmdb_get_meta(struct lmdb_store *s, const char *name, struct sp_arena *mem,
                           struct sp_span *value, struct sp_err *e);
SP_MUST bool lmdb_put_meta(struct lmdb_store *s, const char *name, struct sp_span value, struct sp_err *e);

/* ---- activity: what may be lost with a second of work ---- */
struct lmdb_activity {
    int64_t last_success_s, last_failure_s;
    uint64_t successes, failures;
};
SP_MUST bool lmdb_get_activity(struct lmdb_store *s, uint64_t id, struct lmdb_activity *out,
                               struct sp_err *e); /* zeros when new */
struct lmdb_activity_row {
    uint64_t id;
    struct lmdb_activity add; /* times: the later wins; counts: added */
};
SP_MUST bool lmdb_add_activity(struct lmdb_store *s, const struct lmdb_activity_row *v, size_t count,
                               struct sp_err *e);

/* Copies both environments, consistent while others write, into dir (which must exist). */
SP_MUST bool lmdb_backup(struct lmdb_store *s, const char *dir, struct sp_err *e);

#endif
