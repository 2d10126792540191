/* SPDX-License-Identifier: MIT */
/* The locator's file (courier/locate.h), as other people's programs read it: realm names of the input are
 * looked up in the rest. What comes out can be written again, reads the same, and names no door off this
 * host. */
#include "world.h"

#include "courier/locate.h"

static uint8_t block[LOCATE_FILE_MAX];

static void check_doors(const struct locate_realm *r)
{
    for (uint32_t i = 0; i < r->door_count; i++)
        fuzz_must(r->door[i].port != 0 && (r->door[i].n == 16 || r->door[i].ip[0] == 127),
                  "a door is on loopback");
}

static void check_again(const struct locate_head *head, const struct locate_realm *r)
{
    struct locate_head one = *head, again;
    struct locate_realm same;
    struct sp_span out = {0};
    struct sp_err e = {0};

    one.realm_count = 1;
    fuzz_must(locate_make(&one, r, block, sizeof block, &out, &e), "what was read can be written");
    fuzz_must(locate_find(out, r->name, &again, &same, &e), "what was written can be read");
    fuzz_must(sp_same(same.name, r->name) && same.alias_count == r->alias_count &&
                  same.door_count == r->door_count && same.no_way_until_us == r->no_way_until_us,
              "it reads the same");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct locate_head head;
    struct locate_realm r;
    struct sp_err e = {0};
    size_t name = n > 0 ? data[0] : 0;

    if (n < 1 + name)
        return 0;
    if (!locate_find(sp_span(data + 1 + name, n - 1 - name), sp_span(data + 1, name), &head, &r, &e)) {
        fuzz_must(e.kind == SP_EINPUT || e.kind == SP_ENOTFOUND, "a refusal says which");
        return 0;
    }
    check_doors(&r);
    check_again(&head, &r);
    return 0;
}
