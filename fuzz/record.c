/* SPDX-License-Identifier: MIT */
/* Records of the store, account 1: a record as it lies on the disk. The null backend takes a seal of zeros,
 * so the TLVs behind it are the fuzzer's. What opens can be sealed again and is then the same account. */
#include "world.h"

#include "store/store.h"

#include <stdlib.h>

enum { ROOM = 1 << 18 };

static uint8_t block[ROOM], first[STORE_RECORD_MAX], second[STORE_RECORD_MAX];
static const uint8_t master[32] = {1};

/* The nonce is drawn anew, and the seal covers it: everything else has to be equal. */
enum { NONCE_AT = 20, NONCE_END = 32, SEAL = 16 };

static bool same_record(struct sp_span a, struct sp_span b)
{
    return a.n == b.n && memcmp(a.p, b.p, NONCE_AT) == 0 &&
           memcmp(a.p + NONCE_END, b.p + NONCE_END, a.n - NONCE_END - SEAL) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz_world *w = fuzz_world();
    uint8_t *copy = fuzz_copy(data, n);
    struct store_account a, b;
    struct sp_err e = {0};
    struct sp_arena mem;
    size_t one = 0, two = 0;

    sp_arena_init(&mem, block, sizeof block);
    if (store_open_record(w->kdc.crypto, master, 1, sp_span(copy, n), &mem, &a, &e) &&
        store_seal(w->kdc.crypto, master, w->env.rng, &a, first, sizeof first, &one, &e)) {
        fuzz_must(store_open_record(w->kdc.crypto, master, 1, sp_span(first, one), &mem, &b, &e),
                  "what was sealed can be opened");
        fuzz_must(a.key_count == b.key_count && a.aliases.count == b.aliases.count && sp_same(a.name, b.name),
                  "as the same account");
        fuzz_must(store_seal(w->kdc.crypto, master, w->env.rng, &b, second, sizeof second, &two, &e) &&
                      same_record(sp_span(first, one), sp_span(second, two)),
                  "in the same bytes");
    }
    free(copy);
    return 0;
}
