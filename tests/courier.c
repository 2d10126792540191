/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "courier/wire.h"

static _Alignas(16) uint8_t block[1 << 20];
static uint8_t large[70000];

static void frames_come_back(void **state)
{
    const struct sp_span all = {large, sizeof large};
    struct courier_frame rows[6] = {0};

    (void)state;
    rows[0].type = COURIER_CARRY;
    rows[0].id = 1;
    rows[0].realm = sp_str("NAS1");
    rows[0].message = sp_str("j...");
    rows[0].service = sp_str("HTTP/nas1");
    rows[1].type = COURIER_CARRIED;
    rows[1].id = 0xffffffff;
    rows[1].message = all;
    rows[2].type = COURIER_REFUSED;
    rows[2].id = 3;
    rows[2].code = 85;
    rows[2].text = sp_str("no such realm");
    rows[3].type = COURIER_REALM;
    rows[3].realm = sp_str("NAS1");
    rows[3].alias[0] = sp_str("nas1");
    rows[3].alias[1] = sp_str("nas1.example");
    rows[3].alias_count = 2;
    rows[4].type = COURIER_REALM;
    rows[4].realm = sp_str("NAS1");
    rows[4].other[0] = sp_str("NAS2");
    rows[4].other[1] = sp_str("EXAMPLE.COM");
    rows[4].other_count = 2;
    rows[4].old_mit = COURIER_OLD_MIT_ACCEPT;
    rows[4].finished = COURIER_FINISHED_REQUIRED;
    rows[5].type = COURIER_NOTE;
    rows[5].client = sp_str("alice@NAS1");
    rows[5].service = sp_str("HTTP/nas1");
    rows[5].text = sp_str("accepted");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct courier_frame got = {0};
        struct sp_span made = {0};
        struct sp_err e = {0};
        struct sp_arena mem;

        sp_arena_init(&mem, block, sizeof block);
        assert_true(courier_make(&rows[i], &mem, &made, &e));
        assert_int_equal((size_t)made.p[0] << 24 | (size_t)made.p[1] << 16 | (size_t)made.p[2] << 8 |
                             made.p[3],
                         made.n - 4);
        assert_true(courier_get(sp_span(made.p + 4, made.n - 4), &got, &e));
        assert_int_equal(got.type, rows[i].type);
        assert_int_equal(got.id, rows[i].id);
        assert_int_equal(got.code, rows[i].code);
        assert_true(sp_same(got.realm, rows[i].realm) && sp_same(got.message, rows[i].message));
        assert_true(sp_same(got.text, rows[i].text) && sp_same(got.service, rows[i].service));
        assert_true(sp_same(got.client, rows[i].client));
        assert_int_equal(got.alias_count, rows[i].alias_count);
        for (uint32_t k = 0; k < got.alias_count; k++)
            assert_true(sp_same(got.alias[k], rows[i].alias[k]));
        assert_int_equal(got.old_mit, rows[i].old_mit);
        assert_int_equal(got.finished, rows[i].finished);
        assert_int_equal(got.other_count, rows[i].other_count);
        for (uint32_t k = 0; k < got.other_count; k++)
            assert_true(sp_same(got.other[k], rows[i].other[k]));
    }
}

static void bad_frames_are_refused(void **state)
{
    static const struct {
        const char *why;
        struct sp_span in;
        uint32_t at;
    } rows[] = {
        {"empty",            {(const uint8_t *)"", 0},                          0 },
        {"version 2",        {(const uint8_t *)"\2\1\0\0\0\1", 6},              0 },
        {"no id",            {(const uint8_t *)"\1\1\0\0\0", 5},                2 },
        {"cut length",       {(const uint8_t *)"\1\1\0\0\0\1\1\0", 8},          7 },
        {"value too short",  {(const uint8_t *)"\1\1\0\0\0\1\1\0\5NAS1", 13},   9 },
        {"code of 3 bytes",  {(const uint8_t *)"\1\3\0\0\0\1\6\0\3\0\0\1", 12}, 0 },
        {"setting of 2",     {(const uint8_t *)"\1\5\0\0\0\1\x9\0\2\1\1", 11},  1 },
        {"setting of none",  {(const uint8_t *)"\1\5\0\0\0\1\xa\0\0", 9},       0 },
        {"long form, short", {(const uint8_t *)"\1\1\0\0\0\1\x82\1\0\0x", 11},  10},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct courier_frame got = {.id = 42};
        struct sp_err e = {0};

        if (courier_get(rows[i].in, &got, &e) || e.kind != SP_EINPUT || e.at != rows[i].at || got.id != 42)
            fail_msg("%s: kind %s at %u (%s)", rows[i].why, sp_kind_name(e.kind), e.at, e.text);
    }
}

static void unknown_fields_are_skipped(void **state)
{
    struct courier_frame got = {0};
    struct sp_err e = {0};

    (void)state;
    assert_true(courier_get(sp_span("\1\1\0\0\0\7\x50\0\2ab\1\0\4NAS1", 18), &got, &e));
    assert_true(sp_same(got.realm, SP_LIT("NAS1")));
}

static void too_long_is_not_made(void **state)
{
    const struct sp_span all = {large, sizeof large};
    struct courier_frame f = {.type = COURIER_CARRY, .message = all, .text = all};
    struct sp_span made = {0};
    struct sp_err e = {0};
    struct sp_arena mem;

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    assert_false(courier_make(&f, &mem, &made, &e));
    assert_int_equal(e.kind, SP_EINPUT);
    assert_int_equal(mem.used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_back),
        cmocka_unit_test(bad_frames_are_refused),
        cmocka_unit_test(unknown_fields_are_skipped),
        cmocka_unit_test(too_long_is_not_made),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
