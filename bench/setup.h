/* SPDX-License-Identifier: MIT */
/* What the measuring programs do before their clock starts, all in one way: memory, clocks, the maker of
 * requests, the tickets that TGS requests are made with. Whatever fails here ends the program with its name
 * and the reason. */
#ifndef SP_BENCH_SETUP_H
#define SP_BENCH_SETUP_H

#include "requests.h"

#define BENCH_REQUEST_ROOM 2048 /* bytes of one request in an arena, none is longer */

/* e may be NULL. */
_Noreturn void bench_die(const char *what, const struct sp_err *e);

/* Zeroed pages, which cost nothing until they are touched. */
void *bench_map(size_t n);
void bench_map_arena(struct sp_arena *a, size_t n);

int64_t bench_wall_us(void);
uint64_t bench_mono_ns(void);

/* crypto may be NULL: then one is made. */
void bench_init_maker(struct bench_maker *m, struct crypto *crypto, int32_t etype, struct sp_env env);

/* Sends a request and waits for its reply, which stays valid until the next call. */
typedef struct sp_span bench_ask_fn(void *asker, struct sp_span request);

/* Fills m->tgt for the first BENCH_TGTS of `users` users. big keeps the requests; reading is reset for each
 * reply. */
void bench_fetch_tgts(struct bench_maker *m, uint32_t users, struct sp_arena *big, struct sp_arena *reading,
                      bench_ask_fn *ask, void *asker);

/* What to ask for: users and services are drawn at random below these numbers. */
struct bench_wish {
    enum bench_kind kind;
    uint32_t count, users, services;
};
/* `count` requests into out, their bytes into big. */
void bench_make_many(struct bench_maker *m, const struct bench_wish *w, struct sp_arena *big,
                     struct bench_request *out);

#endif
