/* SPDX-License-Identifier: MIT */
/* Keys have a type, one way to be compared and one way to be forgotten. */
#ifndef SP_BASE_SECRET_H
#define SP_BASE_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sp_key {
    uint8_t b[64];
    uint8_t n;     /* bytes in use */
    bool keep;     /* a long-term key: the crypto backend may keep what it derives from it */
    int32_t etype; /* RFC 3961 encryption type */
};

/* Not optimised away. */
void sp_wipe(void *p, size_t n);

/* Time depends on n alone. */
bool sp_equal_ct(const void *a, const void *b, size_t n);

#endif
