/* SPDX-License-Identifier: MIT */
/* Prints "TYPE hex" of random messages, for decoders that are not ours: dump_messages COUNT [SEED]. */
#include <stdio.h>
#include <stdlib.h>

#include "bytes/walk.h"
#include "krb/messages.h"

static _Alignas(16) uint8_t block[1 << 20];
static char line[1 << 18];

static void dump(enum krb_type t, struct sp_rng *rng)
{
    _Alignas(16) uint8_t v[SP_TYPE_SIZE_MAX];
    struct sp_arena mem;
    struct sp_err e = {0};
    struct sp_span out = {0};
    struct sp_text text = sp_text(line, sizeof line);

    sp_arena_init(&mem, block, sizeof block);
    if (!sp_type_generate(krb_type_table(t), rng, &mem, v, &e) || !krb_make(t, v, &mem, &out, &e)) {
        fprintf(stderr, "%s: %s\n", krb_type_name(t), e.text);
        exit(1);
    }
    sp_text_hex(&text, out);
    sp_assert(!text.cut);
    printf("%s %s\n", krb_type_name(t), line);
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? strtol(argv[1], NULL, 10) : 10;
    struct sp_rng_fixed r;

    sp_rng_fixed_init(&r, argc > 2 ? strtoull(argv[2], NULL, 10) : 1);
    for (long i = 0; i < count; i++) {
        for (int t = 0; t < KRB_TYPE_COUNT; t++)
            dump((enum krb_type)t, &r.rng);
    }
    return 0;
}
