/* SPDX-License-Identifier: MIT */
/* Type and mode (1 byte), then a message: what was read can be written, and read again as the same. */
#include "world.h"

#include "krb/messages.h"

#include <stdlib.h>

enum { ROOM = 1 << 20, STRUCT_MAX = 1024, TEXT = 1 << 16 };

static uint8_t block[ROOM], first[ROOM], second[ROOM];
static _Alignas(16) uint8_t value[STRUCT_MAX], again[STRUCT_MAX];
static char text[TEXT];

static void check(enum krb_type t, struct sp_span in, unsigned mode)
{
    struct sp_text to = sp_text(text, sizeof text);
    struct sp_span one, two;
    struct sp_err e = {0};
    struct sp_arena mem;

    sp_arena_init(&mem, block, sizeof block);
    if (!krb_get(t, in, mode, &mem, value, &e)) {
        fuzz_must(e.kind != SP_OK && e.at <= in.n, "a refusal says where");
        return;
    }
    krb_print(t, value, &to);
    fuzz_must(krb_put(t, value, first, sizeof first, &one, &e), "what was read can be written");
    fuzz_must(krb_get(t, one, KRB_STRICT, &mem, again, &e), "what was written can be read");
    fuzz_must(krb_put(t, again, second, sizeof second, &two, &e), "and written again");
    fuzz_must(sp_same(one, two), "as the same bytes");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t *copy;

    if (n == 0 || (data[0] & 0x7f) >= KRB_TYPE_COUNT)
        return 0;
    copy = fuzz_copy(data + 1, n - 1);
    (void)krb_sniff(sp_span(copy, n - 1));
    check((enum krb_type)(data[0] & 0x7f), sp_span(copy, n - 1),
          data[0] & 0x80 ? KRB_UNKNOWN_TAIL : KRB_STRICT);
    free(copy);
    return 0;
}
