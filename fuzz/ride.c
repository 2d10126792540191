/* SPDX-License-Identifier: MIT */
/* What a server answers to the first token of a context that is none: read, and ridden on once more. The
 * first byte says in which dialect. */
#include "gss/ride.h"
#include "krb/messages.h"
#include "world.h"

static uint8_t block[1 << 20];

static void ride_on(enum ride_dialect d, struct sp_span message, struct sp_arena *mem)
{
    const struct ride r = {.dialect = d, .realm = SP_LIT("SALLY.TEST"), .message = message};
    struct sp_span token, again;
    struct sp_err e = {0};

    fuzz_must(ride_make(&r, mem, &token, &e), "what came fits into a token");
    fuzz_must(ride_get(d, token, mem, &again, &e) && sp_same(again, message),
              "and comes out of it as it was");
    fuzz_must(!ride_get(d == RIDE_OLD ? RIDE_DRAFT : RIDE_OLD, token, mem, &again, &e),
              "and not in the other dialect");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    enum ride_dialect d = n && data[0] & 1 ? RIDE_OLD : RIDE_DRAFT;
    struct sp_span in = sp_span(data + (n > 0), n - (n > 0)), message = {0};
    struct sp_arena mem;
    struct sp_err e = {0};

    sp_arena_init(&mem, block, sizeof block);
    if (ride_get(d, in, &mem, &message, &e)) {
        fuzz_must(message.n > 0 && message.p >= in.p && message.p + message.n == in.p + in.n,
                  "the message is the token's end");
        ride_on(d, message, &mem);
    } else {
        fuzz_must(e.kind == SP_EINPUT || e.kind == SP_EREFUSED || e.kind == SP_ENOMEM,
                  "a failure has a kind");
    }
    sp_arena_reset(&mem);
    return 0;
}
