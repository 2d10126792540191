/* SPDX-License-Identifier: MIT */
/* The locator: its file, who is believed to have written it, and what libkrb5 is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <krb5/locate_plugin.h>

#include "courier/locate.h"
#include "daemon/locate_file.h"
#include "plugin/locate/view.h"

#define DIRECTORY LOCATE_DIRECTORY /* of the test's own copy of the plugin */
#define FILE_PATH DIRECTORY "/locate"

extern krb5plugin_service_locate_ftable service_locator;

static uint8_t block[LOCATE_FILE_MAX];

#define V4(...) .n = 4, .ip = {__VA_ARGS__}
#define V6_LOOPBACK .n = 16, .ip = {[15] = 1}

static struct locate_realm carried(const char *name)
{
    struct locate_realm r = {
        .name = sp_str(name),
        .door = {{LOCATE_KDC, LOCATE_UDP, V4(127, 0, 0, 1), .port = 1088},
                 {LOCATE_KDC, LOCATE_TCP, V4(127, 0, 0, 1), .port = 1088},
                 {LOCATE_KDC, LOCATE_TCP, V6_LOOPBACK, .port = 1089}},
        .door_count = 3,
    };

    return r;
}

static struct locate_realm with_kpasswd(const char *name)
{
    struct locate_realm r = carried(name);

    r.door[r.door_count++] = (struct locate_door){LOCATE_KPASSWD, LOCATE_UDP, V4(127, 0, 0, 1), .port = 1464};
    return r;
}

static struct sp_span make(const struct locate_head *head, const struct locate_realm *realms)
{
    struct sp_span out = {0};
    struct sp_err e = {0};

    assert_true(locate_make(head, realms, block, sizeof block, &out, &e));
    return out;
}

/* ---- the codec ---- */

static void a_file_comes_back(void **state)
{
    struct locate_realm realms[2] = {carried("EXAMPLE.COM"), with_kpasswd("NAS1")};
    struct locate_head head = {7, 5000000, 2}, got;
    struct locate_realm r;
    struct sp_err e = {0};

    (void)state;
    realms[0].alias[realms[0].alias_count++] = SP_LIT("EXAMPLE");
    realms[0].alias[realms[0].alias_count++] = SP_LIT("corp.example");
    realms[1].no_way_until_us = 6000000;
    struct sp_span file = make(&head, realms);
    assert_true(locate_find(file, SP_LIT("EXAMPLE.COM"), &got, &r, &e));
    assert_true(got.generation == 7 && got.written_us == 5000000 && got.realm_count == 2);
    assert_true(sp_same(r.name, realms[0].name) && r.alias_count == 2 &&
                sp_same(r.alias[1], realms[0].alias[1]));
    assert_int_equal(r.door_count, 3);
    assert_memory_equal(r.door, realms[0].door, 3 * sizeof r.door[0]);
    assert_true(r.no_way_until_us == 0);
    assert_true(locate_find(file, SP_LIT("NAS1"), &got, &r, &e));
    assert_true(r.no_way_until_us == 6000000 && r.door_count == 4 && r.door[3].service == LOCATE_KPASSWD);
}

static void a_realm_has_many_names(void **state)
{
    static const struct {
        const char *wanted, *name; /* NULL: not carried */
    } rows[] = {
        {"EXAMPLE.COM",  "EXAMPLE.COM"},
        {"example.com",  "EXAMPLE.COM"},
        {"Example",      "EXAMPLE.COM"},
        {"nas1",         "nas1"       },
        {"NAS1",         "NAS1"       },
        {"Nas1",         "NAS1"       },
        {"EXAMPLE.CO",   NULL         },
        {"EXAMPLE.COM.", NULL         },
        {"",             NULL         }
    };
    struct locate_realm realms[3] = {carried("EXAMPLE.COM"), carried("NAS1"), carried("nas1")}, r;
    struct locate_head head = {1, 0, 3}, got;

    (void)state;
    realms[0].alias[realms[0].alias_count++] = SP_LIT("EXAMPLE");
    struct sp_span file = make(&head, realms);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sp_err e = {0};
        bool found = locate_find(file, sp_str(rows[i].wanted), &got, &r, &e);

        assert_int_equal(found, rows[i].name != NULL);
        if (found)
            assert_true(sp_same(r.name, sp_str(rows[i].name)));
        else
            assert_int_equal(e.kind, SP_ENOTFOUND);
    }
}

static void a_file_cut_anywhere_is_refused(void **state)
{
    struct locate_realm realms[2] = {carried("EXAMPLE.COM"), with_kpasswd("NAS1")}, r = {.door_count = 42};
    struct locate_head head = {1, 0, 2}, got = {.realm_count = 42};
    struct sp_span file = make(&head, realms);

    (void)state;
    for (size_t n = 0; n <= file.n + 1; n++) {
        uint8_t *copy = calloc(1, file.n + 1); /* so that a sanitizer sees its end */
        struct sp_err e = {0};

        assert_non_null(copy);
        memcpy(copy, file.p, n < file.n ? n : file.n);
        bool ok = locate_find(sp_span(copy, n), SP_LIT("EXAMPLE.COM"), &got, &r, &e);
        assert_int_equal(ok, n == file.n);
        if (n < file.n) {
            assert_int_equal(e.kind, SP_EINPUT);
            assert_true(r.door_count == 42 && got.realm_count == 42);
        }
        free(copy);
    }
}

/* Whatever one byte is changed to, what comes out is a file that could have been written. */
static void a_changed_byte_makes_no_foreign_door(void **state)
{
    struct locate_realm realms[2] = {carried("EXAMPLE.COM"), with_kpasswd("NAS1")}, r;
    struct locate_head head = {1, 0, 2}, got;
    struct sp_span file = make(&head, realms), again;
    static uint8_t copy[4096], other[4096];
    uint32_t refused = 0;

    (void)state;
    for (size_t i = 0; i < file.n * 256; i++) {
        struct sp_err e = {0};

        memcpy(copy, file.p, file.n);
        copy[i / 256] = (uint8_t)i;
        if (!locate_find(sp_span(copy, file.n), SP_LIT("NAS1"), &got, &r, &e)) {
            refused += e.kind == SP_EINPUT;
            continue;
        }
        for (uint32_t d = 0; d < r.door_count; d++)
            assert_true(r.door[d].n == 16 || r.door[d].ip[0] == 127);
        got.realm_count = 1;
        assert_true(locate_make(&got, &r, other, sizeof other, &again, &e));
    }
    assert_true(refused > file.n * 100);
}

static void what_cannot_be_is_not_written(void **state)
{
    static const uint8_t with_nul[] = {'A', 0, 'B'};
    static char long_name[LOCATE_NAME_MAX + 2];
    struct locate_realm rows[10];
    struct locate_head head = {1, 100, 1};

    (void)state;
    memset(long_name, 'A', sizeof long_name - 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        rows[i] = carried("A");
    rows[0].name = SP_LIT("");
    rows[1].name = sp_span(with_nul, sizeof with_nul);
    rows[2].name = sp_str(long_name);
    rows[3].alias_count = LOCATE_ALIASES_MAX + 1;
    rows[4].door_count = LOCATE_DOORS_MAX + 1;
    rows[5].door[0].ip[0] = 10;
    rows[6].door[2].ip[14] = 1;
    rows[7].door[0].port = 0;
    rows[8].no_way_until_us = 99;
    rows[9].no_way_until_us = 101 + LOCATE_NO_WAY_MAX_US;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sp_err e = {0};
        struct sp_span out;

        assert_false(locate_make(&head, &rows[i], block, sizeof block, &out, &e));
        assert_int_equal(e.kind, SP_EINPUT);
    }
}

static void the_largest_file_fits(void **state)
{
    static struct locate_realm realms[LOCATE_REALMS_MAX + 1];
    static char names[LOCATE_REALMS_MAX][160];
    struct locate_head head = {1, 0, LOCATE_REALMS_MAX}, got;
    struct locate_realm r;
    struct sp_span out;
    struct sp_err e = {0};

    (void)state;
    for (uint32_t i = 0; i < LOCATE_REALMS_MAX; i++) {
        snprintf(names[i], sizeof names[i], "R%u.%0120d", i, 0);
        realms[i] = carried(names[i]);
    }
    struct sp_span file = make(&head, realms);
    assert_true(locate_find(file, sp_str(names[LOCATE_REALMS_MAX - 1]), &got, &r, &e));
    assert_false(locate_make(&head, realms, block, file.n - 1, &out, &e));
    assert_int_equal(e.kind, SP_EFULL);
    e = (struct sp_err){0};
    head.realm_count++;
    assert_false(locate_make(&head, realms, block, sizeof block, &out, &e));
    assert_int_equal(e.kind, SP_EINPUT);
}

static void no_way_is_no_way_while_it_is_fresh(void **state)
{
    const struct locate_head head = {1, 1000, 1};
    struct locate_realm r = carried("A");

    (void)state;
    assert_false(locate_is_no_way(&head, &r, 1000));
    r.no_way_until_us = 2000;
    assert_true(locate_is_no_way(&head, &r, 1000));
    assert_true(locate_is_no_way(&head, &r, 1999));
    assert_false(locate_is_no_way(&head, &r, 2000));
    assert_false(locate_is_no_way(&head, &r, 999)); /* written in a time to come: another boot */
}

/* ---- whose file it is ---- */

static bool is_seen(void)
{
    struct locate_view *v = locate_view_read(DIRECTORY);
    bool seen = v != NULL;

    free(v);
    return seen;
}

static struct locate_file put_file(const struct locate_realm *realms, uint32_t count)
{
    struct locate_file f = LOCATE_FILE_NONE;
    struct sp_err e = {0};

    if (!locate_file_write(&f, DIRECTORY, realms, count, &e))
        fail_msg("%s", e.text);
    return f;
}

static int make_directory(void **state)
{
    (void)state;
    (void)unlink(FILE_PATH);
    (void)rmdir(DIRECTORY);
    return mkdir(DIRECTORY, 0755) == 0 && chmod(DIRECTORY, 0755) == 0 ? 0 : -1;
}

static void a_file_counts_while_its_writer_lives(void **state)
{
    struct locate_realm a = carried("A");
    struct locate_file f = {.fd = -1};
    struct sp_err e = {0};
    struct stat st;
    int pipes[2], status;

    (void)state;
    assert_false(is_seen());
    f = put_file(&a, 1);
    assert_true(is_seen());
    assert_true(stat(FILE_PATH, &st) == 0 && (st.st_mode & 07777) == 0644);
    ino_t before = st.st_ino;
    assert_true(locate_file_write(&f, DIRECTORY, &a, 1, &e));
    assert_true(stat(FILE_PATH, &st) == 0 && st.st_ino != before && f.generation == 2);
    assert_true(is_seen());
    locate_file_remove(&f, DIRECTORY);
    assert_false(is_seen());
    assert_int_equal(access(FILE_PATH, F_OK), -1);

    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) { /* a daemon that is killed: its file stays */
        f = put_file(&a, 1);
        if (write(pipes[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    char c;
    assert_int_equal(read(pipes[0], &c, 1), 1);
    assert_true(is_seen());
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(access(FILE_PATH, F_OK), 0);
    assert_false(is_seen());
    close(pipes[0]);
    close(pipes[1]);
}

/* What a reader can do, it cannot make a dead daemon's file alive with. */
static void a_reader_cannot_hold_the_lock(void **state)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    struct locate_realm a = carried("A");
    struct locate_file f = put_file(&a, 1);

    (void)state;
    close(f.fd);
    int fd = open(FILE_PATH, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && fcntl(fd, F_OFD_SETLK, &lock) == 0);
    assert_false(is_seen());
    lock.l_type = F_WRLCK;
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), -1);
    close(fd);
}

static void spoil_mode(void)
{
    assert_int_equal(chmod(FILE_PATH, 0664), 0);
}
static void spoil_mode_others(void)
{
    assert_int_equal(chmod(FILE_PATH, 0646), 0);
}
static void spoil_owner(void)
{
    assert_int_equal(chown(FILE_PATH, 12345, (gid_t)-1), 0);
}
static void spoil_directory(void)
{
    assert_int_equal(chmod(DIRECTORY, 0777), 0);
}
static void spoil_kind(void)
{
    assert_int_equal(unlink(FILE_PATH), 0);
    assert_int_equal(mkfifo(FILE_PATH, 0644), 0);
}
static void spoil_link(void)
{
    assert_int_equal(rename(FILE_PATH, DIRECTORY "/elsewhere"), 0);
    assert_int_equal(symlink("elsewhere", FILE_PATH), 0);
}
static void spoil_size(void)
{
    assert_int_equal(truncate(FILE_PATH, 0), 0);
}
static void spoil_size_up(void)
{
    assert_int_equal(truncate(FILE_PATH, LOCATE_FILE_MAX + 1), 0);
}

static void a_file_that_is_not_the_daemons_is_ignored(void **state)
{
    static void (*const rows[])(void) = {spoil_mode, spoil_mode_others, spoil_directory, spoil_kind,
                                         spoil_link, spoil_size,        spoil_size_up,   spoil_owner};
    struct locate_realm a = carried("A");

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] - (geteuid() != 0); i++) { /* only root gives away */
        struct locate_file f = put_file(&a, 1);

        assert_true(is_seen());
        rows[i]();
        assert_false(is_seen());
        (void)unlink(DIRECTORY "/elsewhere");
        assert_int_equal(chmod(DIRECTORY, 0755), 0);
        locate_file_remove(&f, DIRECTORY);
    }
}

/* ---- what libkrb5 is told ---- */

struct heard {
    int count, enough; /* stops after so many; 0: never */
    int socktype[8], family[8], port[8];
};

static int hear(void *data, int socktype, struct sockaddr *sa)
{
    struct heard *h = data;

    h->socktype[h->count] = socktype;
    h->family[h->count] = sa->sa_family;
    h->port[h->count] = ntohs(sa->sa_family == AF_INET ? ((struct sockaddr_in *)(void *)sa)->sin_port
                                                       : ((struct sockaddr_in6 *)(void *)sa)->sin6_port);
    return ++h->count == h->enough;
}

static krb5_error_code ask(const char *realm, enum locate_service_type svc, int socktype, struct heard *h)
{
    void *it = NULL;

    assert_int_equal(service_locator.init(NULL, &it), 0);
    krb5_error_code ret = service_locator.lookup(it, svc, realm, socktype, AF_UNSPEC, hear, h);
    service_locator.fini(it);
    return ret;
}

static void libkrb5_hears_of_doors(void **state)
{
    static const krb5_error_code no = KRB5_PLUGIN_NO_HANDLE;
    static const struct {
        const char *realm;
        enum locate_service_type svc;
        int socktype;
        krb5_error_code ret;
        int count, port; /* of the last one heard */
    } rows[] = {
        {"A",      locate_service_kdc,         SOCK_DGRAM,  0,                1, 1088},
        {"A",      locate_service_kdc,         SOCK_STREAM, 0,                2, 1089},
        {"a",      locate_service_kdc,         SOCK_STREAM, 0,                2, 1089},
        {"A",      locate_service_primary_kdc, SOCK_STREAM, 0,                0, 0   },
        {"A",      locate_service_kpasswd,     SOCK_DGRAM,  no,               0, 0   },
        {"A",      locate_service_kadmin,      SOCK_STREAM, no,               0, 0   },
        {"A",      locate_service_krb524,      SOCK_DGRAM,  no,               0, 0   },
        {"B",      locate_service_kpasswd,     SOCK_DGRAM,  0,                1, 1464},
        {"B",      locate_service_kpasswd,     SOCK_STREAM, 0,                0, 0   },
        {"C",      locate_service_kdc,         SOCK_DGRAM,  no,               0, 0   },
        {"NOWAY",  locate_service_kdc,         SOCK_DGRAM,  KRB5_KDC_UNREACH, 0, 0   },
        {"NOWAY",  locate_service_kpasswd,     SOCK_STREAM, KRB5_KDC_UNREACH, 0, 0   },
        {"NOWAY",  locate_service_kadmin,      SOCK_STREAM, KRB5_KDC_UNREACH, 0, 0   },
        {"NODOOR", locate_service_kdc,         SOCK_DGRAM,  no,               0, 0   },
        {"NODOOR", locate_service_primary_kdc, SOCK_DGRAM,  no,               0, 0   },
    };
    struct locate_realm realms[4] = {
        carried("A"), with_kpasswd("B"), carried("NOWAY"), {.name = SP_LIT("NODOOR")}};

    (void)state;
    realms[2].no_way_until_us = locate_file_now_us() + LOCATE_NO_WAY_MAX_US - 1000000;
    struct locate_file f = put_file(realms, 4);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct heard h = {0};

        if (ask(rows[i].realm, rows[i].svc, rows[i].socktype, &h) != rows[i].ret ||
            h.count != rows[i].count || (h.count > 0 && h.port[h.count - 1] != rows[i].port))
            fail_msg("row %zu: %d heard, last port %d", i, h.count, h.count > 0 ? h.port[h.count - 1] : 0);
        for (int k = 0; k < h.count; k++)
            assert_int_equal(h.socktype[k], rows[i].socktype);
    }
    struct heard one = {.enough = 1};
    assert_int_equal(ask("A", locate_service_kdc, SOCK_STREAM, &one), 0);
    assert_int_equal(one.count, 1);
    locate_file_remove(&f, DIRECTORY);
    struct heard none = {0};
    assert_int_equal(ask("A", locate_service_kdc, SOCK_DGRAM, &none), no);
    assert_int_equal(ask("NOWAY", locate_service_kdc, SOCK_DGRAM, &none), no);
    assert_int_equal(none.count, 0);
}

/* A daemon that stopped telling: what it knew of no way ends, what it carries stays. */
static void old_knowledge_of_no_way_is_none(void **state)
{
    struct locate_realm r = carried("A");
    struct heard h = {0};

    (void)state;
    r.no_way_until_us = locate_file_now_us() + 30000;
    struct locate_file f = put_file(&r, 1);
    assert_int_equal(ask("A", locate_service_kdc, SOCK_DGRAM, &h), KRB5_KDC_UNREACH);
    usleep(60000);
    assert_int_equal(ask("A", locate_service_kdc, SOCK_DGRAM, &h), 0);
    assert_int_equal(h.count, 1);
    locate_file_remove(&f, DIRECTORY);
}

static void listeners_become_doors(void **state)
{
    static const struct {
        const char *listener;
        uint32_t count; /* doors afterwards */
    } rows[] = {
        {"127.0.0.1:1088",   1},
        {"0.0.0.0:1088",     1},
        {"0.0.0.0:88",       2},
        {"[::]:1088",        3},
        {"[::1]:1088",       3},
        {"192.0.2.1:88",     3},
        {"127.0.0.1:0",      3},
        {"[2001:db8::1]:88", 3},
        {"127.0.0.5:88",     4}
    };
    struct locate_realm r = {.name = SP_LIT("A")};
    struct net_address a;
    struct sp_err e = {0};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_true(net_parse_address(sp_str(rows[i].listener), &a, &e));
        locate_file_add_door(&r, LOCATE_KDC, LOCATE_TCP, &a);
        assert_int_equal(r.door_count, rows[i].count);
    }
    for (uint16_t i = 0; i < 2 * LOCATE_DOORS_MAX; i++) {
        net_set_port(&a, (uint16_t)(2000 + i));
        locate_file_add_door(&r, LOCATE_KPASSWD, LOCATE_UDP, &a);
    }
    assert_int_equal(r.door_count, LOCATE_DOORS_MAX);
    struct locate_file f = put_file(&r, 1);
    struct heard h = {0};
    assert_int_equal(ask("A", locate_service_kdc, SOCK_STREAM, &h), 0);
    assert_true(h.count == 4 && h.port[1] == 88 && h.family[2] == AF_INET6);
    locate_file_remove(&f, DIRECTORY);
}

/* Readers beside a writer that puts a file in place as fast as it can always see one. */
static void *read_often(void *unused)
{
    (void)unused;
    for (int i = 0; i < 2000; i++) {
        struct heard h = {0};

        if (ask("A", locate_service_kdc, SOCK_STREAM, &h) != 0 || h.count != 2)
            return "a reader saw no file, or another one";
    }
    return NULL;
}

static void readers_never_miss_a_file(void **state)
{
    struct locate_realm a = carried("A");
    struct locate_file f = put_file(&a, 1);
    pthread_t threads[4];
    struct sp_err e = {0};

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_often, NULL), 0);
    for (int i = 0; i < 500; i++) {
        assert_true(locate_file_write(&f, DIRECTORY, &a, 1, &e));
        usleep(200);
    }
    for (int i = 0; i < 4; i++) {
        void *said;

        assert_int_equal(pthread_join(threads[i], &said), 0);
        if (said)
            fail_msg("%s", (char *)said);
    }
    locate_file_remove(&f, DIRECTORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_comes_back),
        cmocka_unit_test(a_realm_has_many_names),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(a_changed_byte_makes_no_foreign_door),
        cmocka_unit_test(what_cannot_be_is_not_written),
        cmocka_unit_test(the_largest_file_fits),
        cmocka_unit_test(no_way_is_no_way_while_it_is_fresh),
        cmocka_unit_test_setup(a_file_counts_while_its_writer_lives, make_directory),
        cmocka_unit_test_setup(a_reader_cannot_hold_the_lock, make_directory),
        cmocka_unit_test_setup(a_file_that_is_not_the_daemons_is_ignored, make_directory),
        cmocka_unit_test_setup(libkrb5_hears_of_doors, make_directory),
        cmocka_unit_test_setup(old_knowledge_of_no_way_is_none, make_directory),
        cmocka_unit_test_setup(listeners_become_doors, make_directory),
        cmocka_unit_test_setup(readers_never_miss_a_file, make_directory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
