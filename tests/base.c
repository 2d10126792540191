/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/env.h"
#include "base/secret.h"
#include "base/text.h"

static void spans(void **state)
{
    (void)state;
    assert_true(sp_same(SP_LIT("ab"), sp_str("ab")));
    assert_false(sp_same(SP_LIT("ab"), SP_LIT("aB")));
    assert_true(sp_same(sp_span(NULL, 0), SP_LIT("")));
    assert_true(sp_same_nocase(SP_LIT("CORP.example"), SP_LIT("corp.EXAMPLE")));
    assert_false(sp_same_nocase(SP_LIT("@"), SP_LIT("`"))); /* 32 apart, not letters */
    assert_false(sp_same_nocase(SP_LIT("[x"), SP_LIT("{x")));
    assert_int_equal(sp_str(NULL).n, 0);
}

static void errors_keep_the_first(void **state)
{
    struct sp_err e = {0};

    (void)state;
    assert_false(sp_fail_at(&e, SP_EINPUT, 60, 7, "first %d", 1));
    assert_false(sp_fail(&e, SP_ENOMEM, 1, "second"));
    assert_int_equal(e.kind, SP_EINPUT);
    assert_int_equal(e.proto, 60);
    assert_int_equal(e.at, 7);
    assert_string_equal(e.text, "first 1");
    assert_string_equal(sp_kind_name(SP_EFULL), "full");
    assert_string_equal(sp_kind_name((enum sp_kind)99), "?");
}

/* The beginning names the file, the end says why and what to do: a text that is too long keeps both. */
static void errors_keep_both_ends(void **state)
{
    struct sp_err e = {0}, whole = {0};
    char path[4096];

    (void)state;
    memset(path, 'x', sizeof path);
    memcpy(path, "/first", 6);
    memcpy(path + sizeof path - 6, "/last", 6);
    assert_false(sp_fail(&e, SP_EBACKEND, 0, "%s: Permission denied; run this as root", path));
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    assert_memory_equal(e.text, "/firstxxx", 9);
    assert_non_null(strstr(e.text, "xxx...xxx"));
    assert_non_null(strstr(e.text, "xx/last: Permission denied; run this as root"));
    path[sizeof e.text - 1] = 0; /* just fits */
    assert_false(sp_fail(&whole, SP_EBACKEND, 0, "%s", path));
    assert_string_equal(whole.text, path);
    e = (struct sp_err){0};
    path[sizeof e.text - 1] = 'z'; /* one too many */
    path[sizeof e.text] = 0;
    assert_false(sp_fail(&e, SP_EBACKEND, 0, "%s", path));
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    assert_non_null(strstr(e.text, "...x"));
    assert_int_equal(e.text[sizeof e.text - 2], 'z');
}

/* What a request does with its arena. */
static bool use(struct sp_arena *a, struct sp_err *e)
{
    uint64_t *v = sp_new_array(a, uint64_t, 5, e);
    struct sp_span d = sp_dup(a, SP_LIT("hello"), e);
    struct sp_span f = sp_format(a, e, "%s-%d", "x", 42);

    if (!v || !d.p || !f.p)
        return false;
    return (uintptr_t)v % sizeof *v == 0 && v[0] == 0 && v[4] == 0 && sp_same(d, SP_LIT("hello")) &&
           sp_same(f, SP_LIT("x-42")) && f.p[f.n] == 0;
}

static void arena_of_every_size(void **state)
{
    _Alignas(16) uint8_t block[256];
    size_t least = 0;

    (void)state;
    for (size_t cap = 0; cap <= sizeof block; cap++) {
        struct sp_arena a;
        struct sp_err e = {0};
        bool ok;

        memset(block, 0xee, sizeof block);
        sp_arena_init(&a, block, cap);
        ok = use(&a, &e);
        assert_int_equal(e.kind, ok ? SP_OK : SP_ENOMEM);
        assert_true(a.used <= cap && a.peak == a.used);
        for (size_t i = cap; i < sizeof block; i++)
            assert_int_equal(block[i], 0xee);
        least = ok && least == 0 ? cap : least;
        assert_true(ok == (least > 0));
        sp_arena_reset(&a);
        for (size_t i = 0; ok && i < least; i++)
            assert_int_equal(block[i], 0);
    }
    assert_int_equal(least, 40 + 8 + 5 + 11 + 5);
}

static void arena_edges(void **state)
{
    uint8_t block[64];
    struct sp_arena a;
    struct sp_err e = {0};

    (void)state;
    sp_arena_init(&a, block, sizeof block);
    assert_non_null(sp_alloc(&a, 0, &e));
    assert_non_null(sp_dup(&a, sp_span(NULL, 0), &e).p);
    assert_null(sp_alloc_array(&a, SIZE_MAX / 2, 3, &e));
    assert_int_equal(e.kind, SP_ENOMEM);
    e = (struct sp_err){0};
    assert_null(sp_alloc(&a, SIZE_MAX, &e));
    assert_int_equal(e.kind, SP_ENOMEM);
}

static void text_is_bounded(void **state)
{
    char b[9];

    (void)state;
    for (size_t max = 0; max <= sizeof b; max++) {
        struct sp_text t;

        memset(b, '#', sizeof b);
        t = sp_text(b, max);
        sp_text_str(&t, "abc");
        sp_text_fmt(&t, "%d", 45);
        sp_text_hex(&t, SP_LIT("\xfe"));
        sp_text_add(&t, SP_LIT("z"));
        assert_int_equal(t.cut, max < 9);
        if (max > 0)
            assert_memory_equal(b, "abc45fez", t.n);
        for (size_t i = max; i < sizeof b; i++)
            assert_int_equal(b[i], '#');
        assert_true(max == 0 || (t.n < max && b[t.n] == 0));
    }
}

/* As many whole parts as there is room for, the same as the slow ways give. */
static void parts_are_whole(void **state)
{
    static const int64_t numbers[] = {INT64_MIN, -133, -1, 0, 7, 10, INT64_MAX};

    (void)state;
    for (size_t max = 1; max <= 24; max++) {
        char b[25], want[25];
        struct sp_text t = sp_text(b, max);

        SP_TEXT_LIT(&t, "abc");
        sp_text_put(&t, "defgh", 5);
        sp_text_hex(&t, SP_LIT("\x01\x23\xef"));
        sp_text_json(&t, SP_LIT("plain\1"));
        snprintf(want, sizeof want, "abcdefgh0123efplain\\u0001");
        assert_int_equal(t.cut, true);
        assert_int_equal(t.n, max < 9 ? max - 1 : max < 15 ? 8 + (max - 9) / 2 * 2 : max < 20 ? max - 1 : 19);
        assert_memory_equal(b, want, t.n);
        assert_int_equal(b[t.n], 0);
    }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        char b[64], want[64];
        struct sp_text t = sp_text(b, sizeof b), small = sp_text(b + 50, 2);

        sp_text_int(&t, numbers[i]);
        sp_text_str(&t, " ");
        sp_text_uint(&t, (uint64_t)numbers[i]);
        snprintf(want, sizeof want, "%lld %llu", (long long)numbers[i], (unsigned long long)numbers[i]);
        assert_string_equal(b, want);
        sp_text_int(&small, numbers[i]);
        assert_int_equal(small.cut, numbers[i] < 0 || numbers[i] > 9);
        assert_int_equal(small.n, !small.cut);
    }
}

/* SP_LIT for a static table, where a compound literal is no constant. */
#define LIT(s)                                                                                               \
    {                                                                                                        \
        (const uint8_t *)("" s), sizeof(s) - 1                                                               \
    }

static void hostile_text(void **state)
{
    static const struct {
        struct sp_span in;
        const char *json, *safe;
    } row[] = {
        {LIT("alice"),                                     "alice",                                     "alice"               },
        {LIT("a\"b\\c"),                                   "a\\\"b\\\\c",                               "a\"b\\c"             },
        {LIT("\0\1\n\r\t\b\f\x1b[2J"),                     "\\u0000\\u0001\\n\\r\\t\\b\\f\\u001b[2J",
         "\\x00\\x01\\x0a\\x0d\\x09\\x08\\x0c\\x1b[2J"                                                                        },
        {LIT("\x7f"),                                      "\\u007f",                                   "\\x7f"               },
        {LIT("J\xc3\xb6rg \xe2\x82\xac \xf0\x9f\x94\x91"), "J\xc3\xb6rg \xe2\x82\xac \xf0\x9f\x94\x91",
         "J\xc3\xb6rg \xe2\x82\xac \xf0\x9f\x94\x91"                                                                          },
        {LIT("\xff"),                                      "\\\\xff",                                   "\\xff"               },
        {LIT("\xc3"),                                      "\\\\xc3",                                   "\\xc3"               }, /* cut */
        {LIT("\xc0\xaf"),                                  "\\\\xc0\\\\xaf",                            "\\xc0\\xaf"          }, /* over-long */
        {LIT("\xe0\x80\xaf"),                              "\\\\xe0\\\\x80\\\\xaf",                     "\\xe0\\x80\\xaf"     }, /* over-long */
        {LIT("\xed\xa0\x80"),                              "\\\\xed\\\\xa0\\\\x80",                     "\\xed\\xa0\\x80"     }, /* surrogate */
        {LIT("\xf4\x90\x80\x80"),                          "\\\\xf4\\\\x90\\\\x80\\\\x80",              "\\xf4\\x90\\x80\\x80"},
        {LIT("\xc2\x9b"),                                  "\\u009b",                                   "\\xc2\\x9b"          }, /* a terminal's CSI */
        {LIT("\xe2\x80\xae"),                              "\\u202e",                                   "\\xe2\\x80\\xae"     }, /* right to left */
        {LIT("\xf3\xa0\x80\x81"),                          "\\udb40\\udc01",                            "\\xf3\\xa0\\x80\\x81"}, /* a tag character */
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        char b[128];
        struct sp_text t = sp_text(b, sizeof b);

        sp_text_json(&t, row[i].in);
        assert_string_equal(b, row[i].json);
        t = sp_text(b, sizeof b);
        sp_text_safe(&t, row[i].in);
        assert_string_equal(b, row[i].safe);
    }
}

/* No escape is left half-written. */
static void escapes_are_whole(void **state)
{
    char b[16];

    (void)state;
    for (size_t max = 1; max <= sizeof b; max++) {
        struct sp_text t = sp_text(b, max);

        sp_text_json(&t, SP_LIT("\1\1\1"));
        assert_int_equal(t.n % 6, 0);
        assert_true(t.cut);
    }
}

static void utf8(void **state)
{
    (void)state;
    assert_true(sp_is_utf8(SP_LIT("")));
    assert_true(
        sp_is_utf8(SP_LIT("plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x94\x91 \xf4\x8f\xbf\xbf \xed\x9f\xbf")));
    assert_false(sp_is_utf8(SP_LIT("\x80")));
    assert_false(sp_is_utf8(SP_LIT("\xe2\x82")));
    assert_false(sp_is_utf8(SP_LIT("\xc1\x81")));
    assert_false(sp_is_utf8(SP_LIT("\xed\xbf\xbf")));
    assert_false(sp_is_utf8(SP_LIT("\xf5\x80\x80\x80")));
}

static void check_time(int64_t t)
{
    struct sp_date d = sp_date_of(t);
    time_t c = (time_t)t;
    struct tm tm;

    assert_non_null(gmtime_r(&c, &tm));
    assert_int_equal(d.year, tm.tm_year + 1900);
    assert_int_equal(d.month, tm.tm_mon + 1);
    assert_int_equal(d.day, tm.tm_mday);
    assert_int_equal(d.hour, tm.tm_hour);
    assert_int_equal(d.minute, tm.tm_min);
    assert_int_equal(d.second, tm.tm_sec);
    assert_true(sp_date_valid(d));
    assert_int_equal(sp_date_unix(d), t);
}

static void times(void **state)
{
    struct sp_rng_fixed r;
    char b[32];
    struct sp_text t;

    (void)state;
    for (int64_t day = -719162; day <= 2932896; day++) /* every day of the years 1 to 9999 */
        assert_int_equal(sp_date_unix(sp_date_of(day * 86400)), day * 86400);
    sp_rng_fixed_init(&r, 1);
    for (int i = 0; i < 20000; i++) {
        uint64_t v;

        sp_rng_fill(&r.rng, &v, sizeof v);
        check_time(SP_TIME_MIN + (int64_t)(v % (uint64_t)(SP_TIME_MAX - SP_TIME_MIN + 1)));
    }
    check_time(SP_TIME_MIN);
    check_time(SP_TIME_MAX);
    check_time(-1);
    check_time(951782400); /* 2000-02-29 */
    t = sp_text(b, sizeof b);
    sp_text_time(&t, 1795269901);
    assert_string_equal(b, "20261121140501Z");
    t = sp_text(b, sizeof b);
    sp_text_iso_us(&t, 1795269901123456);
    assert_string_equal(b, "2026-11-21T14:05:01.123456Z");
    t = sp_text(b, sizeof b);
    sp_text_iso_us(&t, -1);
    assert_string_equal(b, "1969-12-31T23:59:59.999999Z");
    t = sp_text(b, sizeof b);
    sp_text_time(&t, INT64_MAX);
    assert_string_equal(b, "99991231235959Z");
}

static void no_such_dates(void **state)
{
    static const struct sp_date bad[] = {
        {0,     1,  1,  0,  0,  0 },
        {10000, 1,  1,  0,  0,  0 },
        {2026,  0,  1,  0,  0,  0 },
        {2026,  13, 1,  0,  0,  0 },
        {2026,  1,  0,  0,  0,  0 },
        {2026,  4,  31, 0,  0,  0 },
        {2026,  2,  29, 0,  0,  0 },
        {1900,  2,  29, 0,  0,  0 },
        {2026,  1,  1,  24, 0,  0 },
        {2026,  1,  1,  0,  60, 0 },
        {2026,  1,  1,  0,  0,  60},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(sp_date_valid(bad[i]));
    assert_true(sp_date_valid((struct sp_date){2000, 2, 29, 23, 59, 59}));
}

static void numbers(void **state)
{
    uint8_t b[4];
    size_t n = 9;
    uint64_t v = 0;

    (void)state;
    assert_true(sp_unhex(SP_LIT("00fFA7"), b, sizeof b, &n));
    assert_int_equal(n, 3);
    assert_memory_equal(b, "\x00\xff\xa7", 3);
    assert_true(sp_unhex(SP_LIT(""), b, 0, &n));
    assert_false(sp_unhex(SP_LIT("0"), b, sizeof b, &n));
    assert_false(sp_unhex(SP_LIT("0g"), b, sizeof b, &n));
    assert_false(sp_unhex(SP_LIT("`0"), b, sizeof b, &n));
    assert_false(sp_unhex(SP_LIT("0011223344"), b, sizeof b, &n));
    assert_true(sp_decimal(SP_LIT("18446744073709551615"), UINT64_MAX, &v) && v == UINT64_MAX);
    assert_false(sp_decimal(SP_LIT("18446744073709551616"), UINT64_MAX, &v));
    assert_true(sp_decimal(SP_LIT("65535"), 65535, &v) && v == 65535);
    v = 1;
    assert_false(sp_decimal(SP_LIT("65536"), 65535, &v));
    assert_false(sp_decimal(SP_LIT(""), 9, &v));
    assert_false(sp_decimal(SP_LIT("-1"), 9, &v));
    assert_false(sp_decimal(SP_LIT("1 "), 9, &v));
    assert_int_equal(v, 1);
}

static void secrets(void **state)
{
    uint8_t b[3] = {1, 2, 3};

    (void)state;
    assert_true(sp_equal_ct("abc", "abc", 3));
    assert_false(sp_equal_ct("abc", "abd", 3));
    assert_false(sp_equal_ct("bbc", "abc", 3));
    assert_true(sp_equal_ct("a", "b", 0));
    sp_wipe(b, 2);
    assert_memory_equal(b, "\0\0\3", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans),
        cmocka_unit_test(errors_keep_the_first),
        cmocka_unit_test(errors_keep_both_ends),
        cmocka_unit_test(arena_of_every_size),
        cmocka_unit_test(arena_edges),
        cmocka_unit_test(text_is_bounded),
        cmocka_unit_test(parts_are_whole),
        cmocka_unit_test(hostile_text),
        cmocka_unit_test(escapes_are_whole),
        cmocka_unit_test(utf8),
        cmocka_unit_test(times),
        cmocka_unit_test(no_such_dates),
        cmocka_unit_test(numbers),
        cmocka_unit_test(secrets),
    };

    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
