/* SPDX-License-Identifier: MIT */
/* Memory of one request: bump allocation out of a block that the driver owns. Nothing is freed one by one. */
#ifndef SP_BASE_ARENA_H
#define SP_BASE_ARENA_H

#include "base/err.h"
#include "base/span.h"

struct sp_arena {
    uint8_t *p;
    size_t max;
    size_t used;
    size_t peak; /* the most that was ever used; what a wiping reset has to clear */
};

void sp_arena_init(struct sp_arena *a, void *block, size_t n);

/* Zeroed bytes, aligned for any type. NULL and SP_ENOMEM in e when the block is used up. n may be 0. */
void *sp_alloc(struct sp_arena *a, size_t n, struct sp_err *e);

/* count objects of n bytes each; the product is checked. */
void *sp_alloc_array(struct sp_arena *a, size_t count, size_t n, struct sp_err *e);

#define sp_new(a, T, e) ((T *)sp_alloc((a), sizeof(T), (e)))
#define sp_new_array(a, T, count, e) ((T *)sp_alloc_array((a), (count), sizeof(T), (e)))

/* A copy in the arena. p is NULL on failure (and only then, also for an empty span). */
struct sp_span sp_dup(struct sp_arena *a, struct sp_span s, struct sp_err *e);

/* printf into the arena; p is NULL on failure. The result has a NUL behind its last byte. */
__attribute__((format(printf, 3, 4))) struct sp_span sp_format(struct sp_arena *a, struct sp_err *e,
                                                               const char *fmt, ...);

/* Ends the request: wipes every byte that was handed out and starts again. */
void sp_arena_reset(struct sp_arena *a);

#endif
