/* SPDX-License-Identifier: MIT */
/* Counters and last times per account, added up until somebody takes them: in a worker for the keeper, in the
 * keeper for the store. What does not fit is lost, as decision 3 allows. */
#ifndef SP_DAEMON_ACTIVITY_H
#define SP_DAEMON_ACTIVITY_H

#include "store/lmdb/lmdb.h"

struct activity {
    struct lmdb_activity_row *rows;
    uint32_t *slots; /* hash: index + 1 */
    uint32_t count, max, slot_count;
    uint64_t lost;
};

/* false: no memory */
bool activity_init(struct activity *a, uint32_t max);
void activity_free(struct activity *a);
/* false: full; the row was not added */
bool activity_add(struct activity *a, const struct lmdb_activity_row *row);
void activity_clear(struct activity *a);

#endif
