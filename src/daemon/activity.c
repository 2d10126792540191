/* SPDX-License-Identifier: MIT */
#include "daemon/activity.h"

#include <stdlib.h>

bool activity_init(struct activity *a, uint32_t max)
{
    *a = (struct activity){.max = max, .slot_count = max * 2};
    a->rows = calloc(max, sizeof *a->rows);
    a->slots = calloc(a->slot_count, sizeof *a->slots);
    return a->rows && a->slots;
}

void activity_free(struct activity *a)
{
    free(a->rows);
    free(a->slots);
    *a = (struct activity){0};
}

static uint32_t slot_of(const struct activity *a, uint64_t id)
{
    uint32_t at = (uint32_t)((id * 0x9e3779b97f4a7c15u) >> 32) % a->slot_count;

    while (a->slots[at] && a->rows[a->slots[at] - 1].id != id)
        at = (at + 1) % a->slot_count;
    return at;
}

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

bool activity_add(struct activity *a, const struct lmdb_activity_row *row)
{
    uint32_t at = slot_of(a, row->id);
    struct lmdb_activity *sum;

    if (!a->slots[at]) {
        if (a->count == a->max) {
            a->lost++;
            return false;
        }
        a->rows[a->count] = (struct lmdb_activity_row){.id = row->id};
        a->slots[at] = ++a->count;
    }
    sum = &a->rows[a->slots[at] - 1].add;
    sum->last_success_s = later(sum->last_success_s, row->add.last_success_s);
    sum->last_failure_s = later(sum->last_failure_s, row->add.last_failure_s);
    sum->successes += row->add.successes;
    sum->failures += row->add.failures;
    return true;
}

void activity_clear(struct activity *a)
{
    memset(a->slots, 0, a->slot_count * sizeof *a->slots);
    a->count = 0;
}
