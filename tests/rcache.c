/* SPDX-License-Identifier: MIT */
/* The replay cache's file beside libkrb5's own code for it: what one wrote the other one finds, over several
 * tables. */
#include "host/rcache.h"

#include "base/env.h"
#include "krb/codes.h"

#include <fcntl.h>
#include <krb5.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define TAGS 4000 /* more than the first two tables take */
#define CIPHER_N 60
#define TAG_N 12 /* type 18 */

/* Exported by libkrb5, and in no header of it. */
krb5_error_code k5_rc_resolve(krb5_context k, const char *name, void **out);
krb5_error_code k5_rc_store(krb5_context k, void *rc, const krb5_enc_data *authenticator);
void k5_rc_close(krb5_context k, void *rc);

struct world {
    char path[64], name[80];
    krb5_context k;
    void *rc;
    int64_t now_s;
};

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    int fd;

    assert_non_null(w);
    (void)snprintf(w->path, sizeof w->path, "/tmp/sp-rcache-XXXXXX");
    fd = mkstemp(w->path);
    assert_true(fd >= 0);
    (void)close(fd);
    (void)snprintf(w->name, sizeof w->name, "file2:%s", w->path);
    assert_int_equal(krb5_init_context(&w->k), 0);
    assert_int_equal(k5_rc_resolve(w->k, w->name, &w->rc), 0);
    w->now_s = time(NULL);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    k5_rc_close(w->k, w->rc);
    krb5_free_context(w->k);
    (void)unlink(w->path);
    free(w);
    return 0;
}

static bool ours(struct world *w, const uint8_t *cipher, int64_t now_s)
{
    struct sp_err e = {0};

    if (host_note_replay(w->name, sp_span(cipher + CIPHER_N - TAG_N, TAG_N), now_s, 300, &e))
        return true;
    assert_int_equal(e.kind, SP_EREFUSED);
    assert_int_equal(e.proto, KRB_AP_ERR_REPEAT);
    return false;
}

static bool theirs(struct world *w, uint8_t *cipher)
{
    krb5_enc_data a = {
        .enctype = 18, .ciphertext = {.length = CIPHER_N, .data = (char *)cipher}
    };
    krb5_error_code bad = k5_rc_store(w->k, w->rc, &a);

    assert_true(bad == 0 || bad == KRB5KRB_AP_ERR_REPEAT);
    return bad == 0;
}

static void test_one_file(void **state)
{
    static uint8_t cipher[TAGS][CIPHER_N];
    struct world *w = *state;
    struct sp_rng_fixed rng;
    struct stat st;

    sp_rng_fixed_init(&rng, 1);
    for (int i = 0; i < TAGS; i++) {
        sp_rng_fill(&rng.rng, cipher[i], CIPHER_N);
        assert_true(i % 2 ? ours(w, cipher[i], w->now_s) : theirs(w, cipher[i]));
    }
    for (int i = 0; i < TAGS; i++) {
        assert_false(ours(w, cipher[i], w->now_s));
        assert_false(theirs(w, cipher[i]));
    }
    assert_int_equal(stat(w->path, &st), 0);
    assert_true(st.st_size > 16 + 16 * (1023 + 2048)); /* the third table is in use */
}

/* What is older than the skew makes room; what is not stays. */
static void test_expiry(void **state)
{
    uint8_t cipher[CIPHER_N] = {1};
    struct world *w = *state;
    struct stat after;
    struct sp_rng_fixed rng;

    sp_rng_fixed_init(&rng, 2);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 1000; i++) {
            sp_rng_fill(&rng.rng, cipher, CIPHER_N);
            assert_true(ours(w, cipher, w->now_s + round * 1000));
        }
        assert_false(ours(w, cipher, w->now_s + round * 1000 + 300));
    }
    assert_int_equal(stat(w->path, &after), 0);
    assert_true(after.st_size <= 16 + 16 * (1023 + 2048 + 4096));
}

static void test_bad_files(void **state)
{
    struct world *w = *state;
    struct sp_err e = {0};
    uint8_t tag[TAG_N] = {1};

    assert_true(host_note_replay("none:", sp_span(tag, TAG_N), w->now_s, 300, &e));
    assert_true(host_note_replay("none:", sp_span(tag, TAG_N), w->now_s, 300, &e));
    assert_false(host_note_replay("file2:/nonexistent/rcache", sp_span(tag, TAG_N), w->now_s, 300, &e));
    assert_int_equal(e.kind, SP_EBACKEND);
    e = (struct sp_err){0};
    assert_false(host_note_replay("sql:x", sp_span(tag, TAG_N), w->now_s, 300, &e));
    assert_int_equal(e.kind, SP_EBACKEND);
    assert_int_equal(unlink(w->path), 0);
    assert_int_equal(symlink("/tmp/elsewhere", w->path), 0);
    e = (struct sp_err){0};
    assert_false(host_note_replay(w->name, sp_span(tag, TAG_N), w->now_s, 300, &e));
    assert_int_equal(e.kind, SP_EBACKEND);
}

/* ---- the descriptor that stays open ---- */

static void store_ours(struct world *w, uint8_t *cipher, uint8_t mark)
{
    memset(cipher, mark, CIPHER_N);
    assert_true(ours(w, cipher, w->now_s));
}

static int find_descriptor(const char *path)
{
    for (int fd = 3; fd < 100; fd++) {
        char link[40], to[200];
        ssize_t n;

        (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        n = readlink(link, to, sizeof to - 1);
        if (n > 0 && (size_t)n == strlen(path) && memcmp(to, path, (size_t)n) == 0)
            return fd;
    }
    return -1;
}

/* What libkrb5 writes into another file of that name, or into the same one from its beginning on, counts. */
static void test_file_replaced(void **state)
{
    uint8_t first[CIPHER_N], other[CIPHER_N];
    struct world *w = *state;

    store_ours(w, first, 1);
    assert_true(find_descriptor(w->path) >= 0);
    assert_int_equal(unlink(w->path), 0);
    memset(other, 2, CIPHER_N);
    assert_true(theirs(w, other));
    assert_false(ours(w, other, w->now_s));
    assert_true(ours(w, first, w->now_s)); /* this file has not seen it */
    assert_false(theirs(w, first));

    assert_int_equal(truncate(w->path, 0), 0);
    assert_true(theirs(w, other));
    assert_false(ours(w, other, w->now_s));
}

static void test_not_ours_any_more(void **state)
{
    uint8_t cipher[CIPHER_N];
    struct world *w = *state;
    struct sp_err e = {0};
    char away[80];

    store_ours(w, cipher, 1);
    (void)snprintf(away, sizeof away, "%s-away", w->path);
    assert_int_equal(rename(w->path, away), 0);
    assert_int_equal(symlink(away, w->path), 0); /* to the very file that is open */
    assert_false(host_note_replay(w->name, sp_span(cipher, TAG_N), w->now_s, 300, &e));
    assert_int_equal(e.kind, SP_EBACKEND);
    assert_int_equal(unlink(away), 0);
}

/* A program may close what it does not know, and get the number for a file of its own. */
static void test_descriptor_taken(void **state)
{
    uint8_t cipher[CIPHER_N];
    struct world *w = *state;
    char own[80], back[4] = "";
    struct stat st;
    int fd;

    store_ours(w, cipher, 1);
    fd = find_descriptor(w->path);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    (void)snprintf(own, sizeof own, "%s-own", w->path);
    assert_int_equal(open(own, O_RDWR | O_CREAT | O_EXCL, 0600), fd);
    assert_int_equal(write(fd, "own", 3), 3);

    assert_false(ours(w, cipher, w->now_s));
    store_ours(w, cipher, 2);
    assert_false(theirs(w, cipher));
    assert_int_equal(fstat(fd, &st), 0); /* still open, and what it was */
    assert_int_equal(st.st_size, 3);
    assert_int_equal(pread(fd, back, 3, 0), 3);
    assert_string_equal(back, "own");
    (void)close(fd);
    (void)unlink(own);
}

/* ---- at the same time ---- */

#define AT_ONCE 8
#define SHARED_TAGS 5000

struct runner {
    struct world *w;
    int begin; /* a descriptor at whose end it begins */
    int accepted;
};

static void *note_all(void *arg)
{
    struct runner *r = arg;
    uint8_t cipher[CIPHER_N] = {0};

    sp_assert(read(r->begin, cipher, 1) == 0);
    for (int i = 0; i < SHARED_TAGS; i++) {
        memcpy(cipher + CIPHER_N - TAG_N, &i, sizeof i);
        r->accepted += ours(r->w, cipher, r->w->now_s);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct runner r[AT_ONCE];
    pthread_t t[AT_ONCE];
    int accepted = 0, gate[2];

    assert_int_equal(pipe(gate), 0);
    for (int i = 0; i < AT_ONCE; i++) {
        r[i] = (struct runner){.w = *state, .begin = gate[0]};
        assert_int_equal(pthread_create(&t[i], NULL, note_all, &r[i]), 0);
    }
    (void)close(gate[1]);
    for (int i = 0; i < AT_ONCE; i++) {
        (void)pthread_join(t[i], NULL);
        accepted += r[i].accepted;
    }
    assert_int_equal(accepted, SHARED_TAGS);
    (void)close(gate[0]);
}

/* Children of a process that has a descriptor open exclude one another, and have none of it. */
static void test_children(void **state)
{
    struct runner r = {.w = *state};
    uint8_t cipher[CIPHER_N];
    int ends[2], gate[2], accepted = 0, part;

    store_ours(*state, cipher, 1);
    assert_int_equal(pipe(ends) + pipe(gate), 0);
    r.begin = gate[0];
    for (int i = 0; i < AT_ONCE; i++) {
        pid_t child = fork();

        assert_true(child >= 0);
        if (child == 0) {
            (void)close(gate[1]);
            if (find_descriptor(r.w->path) >= 0)
                _exit(1);
            (void)note_all(&r);
            _exit(write(ends[1], &r.accepted, sizeof r.accepted) != sizeof r.accepted);
        }
    }
    (void)close(gate[1]);
    for (int i = 0; i < AT_ONCE; i++) {
        int status;

        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
        assert_int_equal(read(ends[0], &part, sizeof part), sizeof part);
        accepted += part;
    }
    assert_int_equal(accepted, SHARED_TAGS);
    (void)close(gate[0]);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_expiry, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_file_replaced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_not_ours_any_more, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_descriptor_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_threads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_children, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
