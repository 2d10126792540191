/* SPDX-License-Identifier: MIT */
#include "base/secret.h"

#include <string.h>

/* In pieces for which the C library uses wide stores: for larger ones it takes an instruction for strings,
 * which is slow to start and no faster after at the sizes of a request. */
#define PIECE 1024

void sp_wipe(void *p, size_t n)
{
    uint8_t *at = p;

    if (n == 0)
        return;
    for (; n > PIECE; n -= PIECE, at += PIECE)
        memset(at, 0, PIECE);
    memset(at, 0, n);
    __asm__ volatile("" : : "r"(p) : "memory");
}

bool sp_equal_ct(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;
    uint64_t diff = 0, u = 0, v = 0;

    for (size_t i = 0; i < n; i += sizeof u) {
        size_t left = n - i;

        if (left >= sizeof u) {
            memcpy(&u, x + i, sizeof u);
            memcpy(&v, y + i, sizeof v);
        } else {
            u = v = 0;
            for (size_t j = 0; j < left; j++) {
                u = u << 8 | x[i + j];
                v = v << 8 | y[i + j];
            }
        }
        diff |= u ^ v;
        __asm__ volatile("" : "+r"(diff)); /* the compiler knows nothing of diff, so it cannot stop early */
    }
    return diff == 0;
}
