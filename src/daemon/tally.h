/* SPDX-License-Identifier: MIT */
/* Counts over all workers, in memory that they share: connections, connections of one source, records of one
 * kind. Single words that are changed whole, so that a worker may be killed at any instruction. */
#ifndef SP_DAEMON_TALLY_H
#define SP_DAEMON_TALLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tally;
size_t tally_bytes(void);
/* block: zeroed, 64-aligned; key: random, keeps outsiders from choosing slots. By the keeper. */
struct tally *tally_init(void *block, uint64_t key);
/* The keeper: a worker ended. What it held is gone; the others count theirs again. */
void tally_forget_worker(struct tally *t, uint32_t worker);

/* ---- records ---- */
uint32_t tally_kind(const char *event, int32_t code);
/* How many of that kind there were before in this second of the monotonic clock; 0 too where there are more
 * kinds than places. */
uint32_t tally_see_kind(struct tally *t, uint32_t kind, int64_t second);

/* ---- connections ---- */
#define TALLY_NOBODY UINT32_MAX
/* What a worker has now; oldest_us is the deadline of the one it would give up first. */
void tally_set_streams(struct tally *t, uint32_t worker, uint32_t count, int64_t oldest_us);
uint32_t tally_streams(const struct tally *t);
/* The worker that has the oldest of all; TALLY_NOBODY when nobody has any. */
uint32_t tally_oldest(const struct tally *t);

uint64_t tally_source(const struct tally *t, const uint8_t id[24]);
/* Adds count connections of a source; how many it has then. Where there is no place, only those are known. */
uint32_t tally_join(struct tally *t, uint64_t source, uint32_t count);
/* One less, if there are more than limit. */
bool tally_leave(struct tally *t, uint64_t source, uint32_t limit);
/* Changes when sources have to be counted again. */
uint32_t tally_epoch(const struct tally *t);

#endif
