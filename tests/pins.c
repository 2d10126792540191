/* SPDX-License-Identifier: MIT */
/* Which hosts are pinned to what: sallyport.conf, conf.d and the user's own lines, and what is not believed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/pins.h"

#define MAIN "etc/sallyport/sallyport.conf"
#define FIRST "etc/sallyport/conf.d/10-a.conf"
#define SECOND "etc/sallyport/conf.d/20-b.conf"
#define OTHER "etc/sallyport/conf.d/30-c.txt"
#define OWN ".config/sallyport/pins"

static char top[] = "/tmp/sp-pins-XXXXXX";
static const char *const files[] = {MAIN, FIRST, SECOND, OTHER, OWN};

static const char *path_of(const char *name)
{
    static char path[256];

    snprintf(path, sizeof path, "%s/%s", top, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(path_of(name), "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
    assert_int_equal(chmod(path_of(name), 0644), 0);
}

static int clear(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        (void)remove(path_of(files[i]));
    return 0;
}

static int set_up(void **state)
{
    static const char *const dirs[] = {"etc", "etc/sallyport", "etc/sallyport/conf.d", ".config",
                                       ".config/sallyport"};

    (void)state;
    if (!mkdtemp(top))
        return -1;
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++)
        if (mkdir(path_of(dirs[i]), 0755) != 0)
            return -1;
    return setenv("SALLYPORT_ROOT", top, 1) | setenv("HOME", top, 1) | unsetenv("XDG_CONFIG_HOME");
}

static int tear_down(void **state)
{
    static const char *const dirs[] = {".config/sallyport", ".config", "etc/sallyport/conf.d",
                                       "etc/sallyport", "etc"};

    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++)
        if (rmdir(path_of(dirs[i])) != 0)
            return -1;
    (void)state;
    return rmdir(top);
}

static void expect(const char *host, bool timestamp, bool old_mit)
{
    struct host_pin pin;
    struct sp_err e = {0};

    if (!host_find_pin(sp_str(host), &pin, &e))
        fail_msg("%s: %s", host, e.text);
    if (pin.timestamp != timestamp || pin.old_mit != old_mit)
        fail_msg("%s: timestamp %d, old-mit %d", host, pin.timestamp, pin.old_mit);
}

static void refused(const char *host, enum sp_kind kind, const char *says)
{
    struct host_pin pin = {true, true};
    struct sp_err e = {0};

    assert_false(host_find_pin(sp_str(host), &pin, &e));
    assert_false(pin.timestamp || pin.old_mit);
    if (e.kind != kind || !strstr(e.text, says))
        fail_msg("%s: %s", sp_kind_name(e.kind), e.text);
    assert_true(strlen(e.text) < sizeof e.text - 1);
}

static void nothing_said(void **state)
{
    (void)state;
    expect("nas1", false, false);
    expect("", false, false);
}

static void said_by_the_administrator(void **state)
{
    (void)state;
    put(MAIN,
        "[realm]\naliases = nas1\n[client]\nallow-timestamp = nas1.test, NAS2  # nas3\nold-mit = old\n");
    expect("nas1.test", true, false);
    expect("nas2", true, false);
    expect("OLD", false, true);
    expect("nas3", false, false);
    expect("nas1", false, false);
    put(FIRST, "[client]\nallow-timestamp = nas4\n  nas5\n"); /* in the place of the earlier file's, over two
                                                                 lines */
    expect("nas1.test", false, false);
    expect("nas4", true, false);
    expect("nas5", true, false);
    expect("old", false, true);
    put(SECOND, "[client]\nallow-timestamp =\nold-mit = *\n");
    put(OTHER, "[client]\nallow-timestamp = nas6\n"); /* no .conf */
    expect("nas4", false, true);
    expect("nas6", false, true);
    expect("", false, false);
}

static void said_by_the_user(void **state)
{
    (void)state;
    put(OWN, "# mine\n\nnas1 allow-timestamp\n  Old\told-mit allow-timestamp # both\r\nnas1 old-mit");
    expect("nas1", true, true);
    expect("old", true, true);
    expect("nas2", false, false);
    put(MAIN, "[client]\nallow-timestamp = nas2\n"); /* one adds to the other */
    expect("nas2", true, false);
    put(OWN, "* old-mit\n");
    expect("nas2", true, true);
    assert_int_equal(setenv("XDG_CONFIG_HOME", "/nonexistent", 1), 0);
    expect("nas2", true, false);
    assert_int_equal(setenv("XDG_CONFIG_HOME", path_of(".config"), 1), 0);
    expect("nas2", true, true);
    assert_int_equal(setenv("XDG_CONFIG_HOME", "relative", 1), 0);
    expect("nas2", true, true);
    assert_int_equal(unsetenv("XDG_CONFIG_HOME") | unsetenv("HOME"), 0);
    expect("nas2", true, false);
    assert_int_equal(setenv("HOME", top, 1), 0);
}

static void lines_that_do_not_read(void **state)
{
    static const struct {
        const char *file, *text, *says;
    } rows[] = {
        {OWN,    "nas1 allow-timestamp\nnas2 allow-timestamps\n",
         "pins:2: allow-timestamps is unknown; a line is HOST"                                                       },
        {OWN,    "nas2\n",                                        "pins:1: nas2 is pinned to nothing; a line is HOST"},
        {OWN,    "\n\n[client]\n",                                "pins:3: [client] is pinned to nothing"            },
        {MAIN,   "[client]\nallow-timestamp\n",                   "sallyport.conf:2: neither [section] nor key"      },
        {SECOND, "[client\n",                                     "20-b.conf:1: neither [section] nor key = value"   },
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        put(rows[i].file, rows[i].text);
        refused("nas9", SP_EINPUT, rows[i].says);
        (void)clear(state);
    }
    for (size_t n = 1023; n <= 1024; n++) { /* with its newline: both sides of the longest line */
        char line[1100];

        memset(line, 'x', n);
        memcpy(line, "nas1 old-mit #", 14);
        line[n - 1] = '\n';
        line[n] = 0;
        put(OWN, line);
        if (n == 1023)
            expect("nas1", false, true);
        else
            refused("nas1", SP_EINPUT, "pins:1: a line longer than 1022 bytes");
    }
    char line[1200];
    memset(line, 'x', sizeof line);
    snprintf(line + sizeof line - 6, 6, "\nnas1");
    put(OWN, "");
    put(MAIN, line);
    refused("nas1", SP_EINPUT, "sallyport.conf:1: a line longer than");
}

static void files_that_are_not_believed(void **state)
{
    static const char *const names[] = {MAIN, FIRST, OWN};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        put(names[i], i == 2 ? "nas1 old-mit\n" : "[client]\nold-mit = nas1\n");
        expect("nas1", false, true);
        for (int others = 0; others < 2; others++) {
            assert_int_equal(chmod(path_of(names[i]), others ? 0602 : 0620), 0);
            refused("nas1", SP_EREFUSED, "others can write to ");
        }
        assert_int_equal(chmod(path_of(names[i]), 0600), 0);
        if (geteuid() == 0) {
            assert_int_equal(chown(path_of(names[i]), 12345, 12345), 0);
            refused("nas1", SP_EREFUSED, "belongs to uid 12345, so its pins are not believed");
        }
        assert_int_equal(remove(path_of(names[i])), 0);
        assert_int_equal(mkfifo(path_of(names[i]), 0600), 0);
        refused("nas1", SP_EREFUSED, "is no regular file");
        assert_int_equal(remove(path_of(names[i])), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(nothing_said, clear),
        cmocka_unit_test_teardown(said_by_the_administrator, clear),
        cmocka_unit_test_teardown(said_by_the_user, clear),
        cmocka_unit_test_teardown(lines_that_do_not_read, clear),
        cmocka_unit_test_teardown(files_that_are_not_believed, clear),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
