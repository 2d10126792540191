/* SPDX-License-Identifier: MIT */
/* The replay cache's file beside libkrb5's own code for it: what one wrote the other one finds, over several
 * tables. */
#include "host/rcache.h"

#include "base/env.h"
#include "krb/codes.h"

#include <krb5.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_expiry, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_files, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
