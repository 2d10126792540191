/* SPDX-License-Identifier: MIT */
/* Keytab files: what was read can be written, and read again as the same. */
#include "world.h"

#include "krb/keytab.h"

#include <stdlib.h>

enum { ROOM = 4 << 20 };

static uint8_t block[ROOM], first[ROOM], second[ROOM];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t *copy = fuzz_copy(data, n);
    struct krb_keytab one, two;
    struct sp_err e = {0};
    struct sp_arena mem;
    size_t first_n = 0, second_n = 0;

    sp_arena_init(&mem, block, sizeof block);
    if (krb_get_keytab(sp_span(copy, n), &mem, &one, &e)) {
        fuzz_must(krb_put_keytab(&one, first, sizeof first, &first_n, &e), "what was read can be written");
        fuzz_must(krb_get_keytab(sp_span(first, first_n), &mem, &two, &e), "what was written can be read");
        fuzz_must(one.count == two.count, "no entry is lost");
        fuzz_must(krb_put_keytab(&two, second, sizeof second, &second_n, &e), "and written again");
        fuzz_must(sp_same(sp_span(first, first_n), sp_span(second, second_n)), "as the same bytes");
    }
    free(copy);
    return 0;
}
