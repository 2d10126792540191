/* SPDX-License-Identifier: MIT */
#include "crypto/openssl/nfold.h"

#include "base/err.h"

static size_t common_multiple(size_t a, size_t b)
{
    size_t x = a, y = b;

    while (y != 0) {
        size_t rest = x % y;
        x = y;
        y = rest;
    }
    return a / x * b;
}

/* Byte i of endless copies of in, each turned right by 13 bits more than the one before. */
static uint8_t turned_byte(struct sp_span in, size_t i)
{
    size_t bits = 8 * in.n;
    size_t back = 13 * (i / in.n) % bits;
    size_t from = (8 * (i % in.n) + bits - back) % bits;
    unsigned two = (unsigned)in.p[from / 8] << 8 | in.p[(from / 8 + 1) % in.n];

    return (uint8_t)(two >> (8 - from % 8));
}

/* The copies are cut into pieces of out_n bytes, and those are added in ones' complement: by column first,
 * carries after. */
void crypto_nfold(struct sp_span in, uint8_t *out, size_t out_n)
{
    uint32_t column[NFOLD_MAX] = {0};
    size_t all = common_multiple(in.n, out_n);
    uint32_t carry = 0;

    sp_assert(in.n > 0 && out_n > 0 && out_n <= NFOLD_MAX);
    for (size_t i = 0; i < all; i++)
        column[i % out_n] += turned_byte(in, i);
    do {
        for (size_t i = out_n; i-- > 0;) {
            column[i] += carry;
            carry = column[i] >> 8;
            column[i] &= 0xff;
        }
    } while (carry != 0);
    for (size_t i = 0; i < out_n; i++)
        out[i] = (uint8_t)column[i];
}

void crypto_nfold_usage(uint32_t usage, uint8_t out[FOLD_COUNT][16])
{
    static const uint8_t last[FOLD_COUNT] = {[FOLD_KC] = 0x99, [FOLD_KE] = 0xaa, [FOLD_KI] = 0x55};
    uint8_t constant[5] = {(uint8_t)(usage >> 24), (uint8_t)(usage >> 16), (uint8_t)(usage >> 8),
                           (uint8_t)usage};

    for (size_t i = 0; i < FOLD_COUNT; i++) {
        constant[4] = last[i];
        crypto_nfold(sp_span(constant, sizeof constant), out[i], 16);
    }
}
