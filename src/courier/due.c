/* SPDX-License-Identifier: MIT */
/* What is due when: a binary heap of requests and tries, each of which knows its place in it. */
#include "courier/engine.h"

static void put(struct ladder *l, uint32_t at, uint32_t node)
{
    l->heap[at] = node;
    l->heap_at[node] = at;
}

static void rise(struct ladder *l, uint32_t at, uint32_t node)
{
    for (; at > 0 && l->due[l->heap[(at - 1) / 2]] > l->due[node]; at = (at - 1) / 2)
        put(l, at, l->heap[(at - 1) / 2]);
    put(l, at, node);
}

static void sink(struct ladder *l, uint32_t at, uint32_t node)
{
    uint32_t child;

    for (; (child = 2 * at + 1) < l->heap_n; at = child) {
        if (child + 1 < l->heap_n && l->due[l->heap[child + 1]] < l->due[l->heap[child]])
            child++;
        if (l->due[l->heap[child]] >= l->due[node])
            break;
        put(l, at, l->heap[child]);
    }
    put(l, at, node);
}

static void leave(struct ladder *l, uint32_t node)
{
    uint32_t at = l->heap_at[node], last = l->heap[--l->heap_n];

    l->heap_at[node] = NIL;
    if (last == node)
        return;
    if (at > 0 && l->due[l->heap[(at - 1) / 2]] > l->due[last])
        rise(l, at, last);
    else
        sink(l, at, last);
}

void due_set(struct ladder *l, uint32_t node, int64_t at_us)
{
    bool in = l->heap_at[node] != NIL;
    int64_t was = in ? l->due[node] : NEVER;

    if (at_us == NEVER) {
        if (in)
            leave(l, node);
        return;
    }
    l->due[node] = at_us;
    if (!in)
        rise(l, l->heap_n++, node);
    else if (at_us < was)
        rise(l, l->heap_at[node], node);
    else
        sink(l, l->heap_at[node], node);
}

uint32_t due_next(struct ladder *l, int64_t now_us)
{
    return l->heap_n > 0 && l->due[l->heap[0]] <= now_us ? l->heap[0] : NIL;
}
