/* SPDX-License-Identifier: MIT */
#include "base/secret.h"

#include <string.h>

void sp_wipe(void *p, size_t n)
{
    if (n == 0)
        return;
    memset(p, 0, n);
    __asm__ volatile("" : : "r"(p) : "memory");
}

bool sp_equal_ct(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;
    volatile uint8_t diff = 0;

    for (size_t i = 0; i < n; i++)
        diff = (uint8_t)(diff | (x[i] ^ y[i]));
    return diff == 0;
}
