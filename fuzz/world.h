/* SPDX-License-Identifier: MIT */
/* A realm for fuzz targets: accounts in every state, known keys, a clock that stands still, the null crypto
 * backend. Names and keys are those of the bench realm, so that bench/requests.c makes the seeds. */
#ifndef SP_FUZZ_WORLD_H
#define SP_FUZZ_WORLD_H

#include "kdc/kdc.h"

#define FUZZ_NOW_S INT64_C(1700000000)

/* In the order in which they are made: user000001 and so on. */
enum fuzz_user {
    FUZZ_PLAIN = 1,
    FUZZ_DISABLED,
    FUZZ_MUST_CHANGE,
    FUZZ_EXPIRED,
    FUZZ_PASSWORD_EXPIRED,
    FUZZ_ADMIN,
    FUZZ_RENEWING, /* may renew and forward */
    FUZZ_SHA2,     /* keys of types 20 and 19 only */
    FUZZ_TWO_KVNOS,
    FUZZ_USERS = FUZZ_TWO_KVNOS,
};
#define FUZZ_SERVICES 3 /* the second has a key of type 17 only, the third is disabled */

struct fuzz_world {
    struct kdc kdc;
    struct sp_env env;
    struct sp_arena mem; /* the step's; FUZZ_ARENA bytes */
};
#define FUZZ_ARENA (512 * 1024)

/* The same world every time: nothing is left of the last input. */
struct fuzz_world *fuzz_world(void);

struct kdc_request fuzz_request(struct sp_span bytes, uint8_t flags);
/* Bits of a request's first byte. */
#define FUZZ_DOOR 3 /* enum kdc_door */
#define FUZZ_NEAR 4 /* loopback */
#define FUZZ_CONSOLE 8
#define FUZZ_LATER 16  /* 400 s pass before it */
#define FUZZ_LITTLE 32 /* an arena of 8 KiB */

/* A copy on the heap of exactly n bytes, so that reading one byte past them is seen. The caller frees it. */
uint8_t *fuzz_copy(const uint8_t *p, size_t n);

/* Ends the process with a message when false: a property does not hold. */
void fuzz_must(bool ok, const char *property);

#endif
