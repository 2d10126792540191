/* SPDX-License-Identifier: MIT */
/* Messages kept while they are under way: blocks of 1 KiB to 128 KiB, each power of two cut out of one twice
 * as large, and joined again with its other half when both are free. */
#include "courier/engine.h"

#define TOP_LEAVES (1u << (ORDERS - 1))

size_t hold_room(uint32_t order)
{
    return (size_t)LEAF_N << order;
}

static uint32_t order_of(size_t n)
{
    uint32_t order = 0;

    while (order < ORDERS && hold_room(order) < n)
        order++;
    return order;
}

size_t hold_size(size_t n)
{
    return hold_room(order_of(n));
}

void hold_init(struct hold *h)
{
    for (uint32_t i = 0; i < ORDERS; i++)
        h->free[i] = (struct list){NIL, NIL, 0};
    h->tops = 0;
    h->used = 0;
}

static void put_free(struct hold *h, uint32_t block, uint32_t order)
{
    h->leaves[block].order = (uint8_t)order;
    APPEND(&h->free[order], h->leaves, link, block);
}

static void take_free(struct hold *h, uint32_t block, uint32_t order)
{
    REMOVE(&h->free[order], h->leaves, link, block);
    h->leaves[block].order = ORDERS;
}

/* A free block of at least this order, or one of 128 KiB that was never used. */
static uint32_t find_block(struct hold *h, uint32_t want, uint32_t *order)
{
    uint32_t block;

    for (*order = want; *order < ORDERS; ++*order) {
        block = h->free[*order].last;
        if (block == NIL)
            continue;
        take_free(h, block, *order);
        return block;
    }
    if (h->tops == h->top_max)
        return NIL;
    *order = ORDERS - 1;
    block = h->tops++ * TOP_LEAVES;
    for (uint32_t i = 0; i < TOP_LEAVES; i++)
        h->leaves[block + i].order = ORDERS;
    return block;
}

uint32_t hold_copy(struct hold *h, struct sp_span s)
{
    uint32_t want = order_of(s.n), order, block;

    if (want == ORDERS)
        return NIL;
    block = find_block(h, want, &order);
    if (block == NIL)
        return NIL;
    while (order > want) {
        order--;
        put_free(h, block + (1u << order), order);
    }
    h->leaves[block].taken = (uint8_t)want;
    h->leaves[block].users = 1;
    h->used += hold_room(want);
    if (s.n)
        memcpy(h->bytes + (size_t)block * LEAF_N, s.p, s.n);
    return block;
}

void hold_share(struct hold *h, uint32_t block)
{
    sp_assert(h->leaves[block].users > 0 && h->leaves[block].users < UINT16_MAX);
    h->leaves[block].users++;
}

void hold_drop(struct hold *h, uint32_t block)
{
    uint32_t order = h->leaves[block].taken;

    sp_assert(h->leaves[block].users > 0);
    if (--h->leaves[block].users > 0)
        return;
    h->used -= hold_room(order);
    for (; order < ORDERS - 1; order++) {
        uint32_t other = block ^ (1u << order);
        if (h->leaves[other].order != order)
            break;
        take_free(h, other, order);
        block &= ~(1u << order);
    }
    put_free(h, block, order);
}
