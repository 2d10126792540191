/* SPDX-License-Identifier: MIT */
/* First tokens of IAKERB without a context, against recorded ones of MIT krb5 and of Windows. */
#include "gss/ride.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"
#include "bytes/der.h"
#include "gss/token.h"
#include "krb/messages.h"

#define TOKENS_MAX 64
static uint8_t block[1 << 20];
static struct sp_arena mem;
static struct {
    uint8_t bytes[1 << 18];
    size_t used;
    struct sp_span token[TOKENS_MAX];
    char about[TOKENS_MAX][160]; /* the line before it */
    unsigned count;
} F;

static void load(const char *name)
{
    static char line[1 << 17];
    char path[512];
    bool due = false;
    FILE *f;

    F.used = F.count = 0;
    snprintf(path, sizeof path, "%s/%s", TEST_VECTORS, name);
    f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (due) {
            size_t n = 0;
            assert_true(F.count < TOKENS_MAX);
            assert_true(sp_unhex(sp_span(line, strspn(line, "0123456789abcdef")), F.bytes + F.used,
                                 sizeof F.bytes - F.used, &n));
            F.token[F.count++] = sp_span(F.bytes + F.used, n);
            F.used += n;
        } else if (strstr(line, "-TO-")) {
            snprintf(F.about[F.count], sizeof F.about[0], "%.150s", line);
        }
        due = !due && strstr(line, "-TO-");
    }
    fclose(f);
    assert_true(F.count > 0);
}

static int start(void **state)
{
    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    return 0;
}

static bool says(unsigned i, const char *what)
{
    return strstr(F.about[i], what) != NULL;
}

/* Where its header ends: the test's own reading of a token. */
static struct sp_span message_of(struct sp_span token, struct sp_span *realm)
{
    struct token t = {.body = sp_span(token.p + 2, token.n - 2)};
    struct sp_err e = {0};
    struct sp_span der = {0};
    struct sp_cur c;

    if (token.p[0] == 0x60)
        assert_true(token_get(token, &t, &e));
    c = sp_cur_of(t.body, &e);
    assert_true(sp_der_any(&c, "header", &der));
    *realm = sp_span(der.p + 6, der.p[5]); /* 30 n a1 n 0c n */
    return sp_span(c.p, sp_left(&c));
}

static void assert_same(struct sp_span a, struct sp_span b)
{
    assert_true(sp_same(a, b));
}

/* ---- tokens ---- */

static void recorded_first_tokens(void **state)
{
    static const struct {
        const char *file;
        enum ride_dialect dialect;
    } files[] = {
        {"iakerb-new-aes256sha1.txt", RIDE_DRAFT},
        {"iakerb-new-aes256sha2.txt", RIDE_DRAFT},
        {"iakerb-old-1.20.1.txt",     RIDE_OLD  },
    };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct ride r = {.dialect = files[i].dialect};
        struct sp_span made;
        struct sp_err e = {0};

        load(files[i].file);
        r.message = message_of(F.token[0], &r.realm);
        assert_true(krb_sniff(r.message) == KRB_AS_REQ);
        assert_true(ride_make(&r, &mem, &made, &e));
        assert_same(made, F.token[0]);
    }
}

/* Every message that a recorded acceptor carried back, framed or not, and no other token. */
static unsigned take_all(enum ride_dialect d)
{
    unsigned taken = 0;

    for (unsigned i = 0; i < F.count; i++) {
        bool carried =
            says(i, "ACCEPTOR-TO") && says(i, "IAKERB_PROXY") && !says(i, "code 8") && !says(i, "no message");
        struct sp_span got, realm;
        struct sp_err e = {0};

        if (!says(i, "ACCEPTOR-TO"))
            continue;
        if (ride_get(d, F.token[i], &mem, &got, &e) != carried)
            fail_msg("%s: %s", F.about[i], e.text);
        if (!carried)
            continue;
        taken++;
        assert_same(got, message_of(F.token[i], &realm));
    }
    return taken;
}

static void recorded_answers(void **state)
{
    (void)state;
    load("iakerb-new-aes256sha1.txt");
    assert_int_equal(take_all(RIDE_DRAFT), 3);
    load("iakerb-new-errors.txt");
    assert_true(take_all(RIDE_DRAFT) >= 8);
    load("iakerb-new-discovery.txt");
    assert_int_equal(take_all(RIDE_DRAFT), 3);
    load("iakerb-old-1.20.1.txt");
    assert_int_equal(take_all(RIDE_OLD), 3);
}

static void dialects_do_not_mix(void **state)
{
    struct sp_span got;

    (void)state;
    load("iakerb-old-1.20.1.txt");
    for (unsigned i = 1; i < 6; i += 2) {
        struct sp_err e = {0};
        assert_false(ride_get(RIDE_DRAFT, F.token[i], &mem, &got, &e));
        assert_int_equal(e.kind, SP_EINPUT);
    }
    load("iakerb-new-aes256sha1.txt");
    for (unsigned i = 1; i < 6; i += 2) {
        struct sp_err e = {0};
        assert_false(ride_get(RIDE_OLD, F.token[i], &mem, &got, &e));
        assert_int_equal(e.kind, SP_EINPUT);
    }
}

static void acceptors_own_words(void **state)
{
    unsigned not_found = 0, silent = 0, refused = 0;

    (void)state;
    load("iakerb-new-errors.txt");
    for (unsigned i = 0; i < F.count; i++) {
        struct sp_span got;
        struct sp_err e = {0};
        int32_t code = says(i, "code 85")           ? 85
                       : says(i, "code 86")         ? 86
                       : says(i, "KRB-ERROR token") ? 60
                                                    : 0;

        if (code == 0)
            continue;
        assert_false(ride_get(RIDE_DRAFT, F.token[i], &mem, &got, &e));
        assert_int_equal(e.kind, SP_EREFUSED);
        assert_int_equal(e.proto, code);
        not_found += code == 85;
        silent += code == 86;
        refused += code == 60;
        if (code == 60) { /* as others send it: without a frame, and without the token id */
            struct token t;
            struct sp_err none = {0};
            assert_true(token_get(F.token[i], &t, &none));
            for (unsigned bare = 0; bare < 2; bare++) {
                struct sp_err again = {0};
                assert_false(ride_get(RIDE_DRAFT, sp_span(t.body.p - 2 + 2 * bare, t.body.n + 2 - 2 * bare),
                                      &mem, &got, &again));
                assert_int_equal(again.proto, 60);
            }
        }
    }
    assert_true(not_found >= 2 && silent == 1 && refused == 1);
}

/* ---- what is no token ---- */

static void cut_and_longer_tokens(void **state)
{
    static uint8_t copy[8192];
    struct sp_span got, token;

    (void)state;
    load("iakerb-new-aes256sha1.txt");
    token = F.token[1];
    assert_true(token.n < sizeof copy);
    memcpy(copy, token.p, token.n);
    for (size_t n = 0; n < token.n; n++) {
        struct sp_err e = {0};
        sp_arena_reset(&mem);
        assert_false(ride_get(RIDE_DRAFT, sp_span(copy, n), &mem, &got, &e));
        assert_int_equal(e.kind, SP_EINPUT);
    }
    copy[token.n] = 0;
    struct sp_err e = {0};
    assert_false(ride_get(RIDE_DRAFT, sp_span(copy, token.n + 1), &mem, &got, &e));
}

static void other_tokens(void **state)
{
    struct sp_span header, token, got;
    struct krb_iakerb_header h = {.target_realm = SP_LIT("SALLY.TEST")};
    struct sp_err e = {0};

    (void)state;
    assert_true(krb_make(KRB_IAKERB_HEADER, &h, &mem, &header, &e));
    assert_true(token_make(TOKEN_IAKERB, TOKEN_IAKERB_PROXY, header, &mem, &token, &e));
    assert_false(ride_get(RIDE_DRAFT, token, &mem, &got, &e)); /* an answer to discovery */
    assert_string_equal(e.text, "a header without a message");
    e = (struct sp_err){0};
    assert_true(token_make(TOKEN_KRB5, TOKEN_IAKERB_PROXY, header, &mem, &token, &e));
    assert_false(ride_get(RIDE_DRAFT, token, &mem, &got, &e));
    assert_string_equal(e.text, "a token of krb5");
    e = (struct sp_err){0};
    assert_true(token_make(TOKEN_IAKERB, TOKEN_AP_REP, header, &mem, &token, &e));
    assert_false(ride_get(RIDE_DRAFT, token, &mem, &got, &e));
    assert_string_equal(e.text, "a token that carries no message");
    e = (struct sp_err){0};
    assert_false(ride_get(RIDE_DRAFT, SP_LIT("\x05\x01\x30\x00"), &mem, &got, &e));
    assert_string_equal(e.text, "no token of IAKERB");
}

/* Windows: header-flags in the header, "." for the realm. */
static void other_headers(void **state)
{
    struct krb_iakerb_header h = {.has = KRB_BIT(2) | KRB_BIT(3),
                                  .target_realm = SP_LIT("."),
                                  .cookie = SP_LIT("crumb"),
                                  .header_flags = 1};
    struct sp_span header, token, got, realm, message;
    uint8_t body[4096];
    struct sp_err e = {0};

    (void)state;
    load("iakerb-new-aes256sha1.txt");
    message = message_of(F.token[1], &realm);
    assert_true(krb_make(KRB_IAKERB_HEADER, &h, &mem, &header, &e));
    memcpy(body, header.p, header.n);
    memcpy(body + header.n, message.p, message.n);
    assert_true(
        token_make(TOKEN_IAKERB, TOKEN_IAKERB_PROXY, sp_span(body, header.n + message.n), &mem, &token, &e));
    assert_true(ride_get(RIDE_DRAFT, token, &mem, &got, &e));
    assert_same(got, message);
}

/* An arena of any size: it fails cleanly or succeeds. */
static void little_memory(void **state)
{
    struct ride r = {.dialect = RIDE_DRAFT};
    unsigned failed = 0;
    bool done = false;

    (void)state;
    load("iakerb-new-aes256sha1.txt");
    r.message = message_of(F.token[0], &r.realm);
    for (size_t n = 0; !done && n < 8192; n += 16) {
        struct sp_span token;
        struct sp_err e = {0};

        sp_arena_init(&mem, block, n);
        done = ride_make(&r, &mem, &token, &e);
        failed += !done;
        assert_true(done || e.kind == SP_ENOMEM || e.kind == SP_EFULL);
    }
    assert_true(done && failed > 4);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, start)
    const struct CMUnitTest tests[] = {
        T(recorded_first_tokens), T(recorded_answers), T(dialects_do_not_mix), T(acceptors_own_words),
        T(cut_and_longer_tokens), T(other_tokens),     T(other_headers),       T(little_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
