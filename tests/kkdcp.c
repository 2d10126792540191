/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/env.h"
#include "courier/kkdcp.h"
#include "krb/messages.h"

#define LIT(s)                                                                                               \
    {                                                                                                        \
        (const uint8_t *)("" s), sizeof(s) - 1                                                               \
    }

static _Alignas(16) uint8_t block[1 << 20];
static uint8_t large[KKDCP_BODY_MAX + 1];

/* The bytes of MS-KKDCP 2.2.2, written by hand: a message "abc" behind its length, a realm, a hint. */
static void one_body_to_the_byte(void **state)
{
    static const uint8_t want[] = "\x30\x1a\xa0\x09\x04\x07\x00\x00\x00\x03"
                                  "abc\xa1\x06\x1b\x04NAS1\xa2\x05\x02\x03\x40\x06\x00";
    const struct kkdcp m = {
        .message = SP_LIT("abc"), .realm = SP_LIT("NAS1"), .hinted = true, .hint = 0x400600};
    struct kkdcp back = {0};
    struct sp_span body = {0};
    struct sp_err e = {0};
    struct sp_arena mem;

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    assert_true(kkdcp_make(&m, &mem, &body, &e));
    assert_int_equal(body.n, sizeof want - 1);
    assert_memory_equal(body.p, want, body.n);
    assert_true(kkdcp_get_request(body, &mem, &back, &e));
    assert_true(sp_same(back.message, m.message) && sp_same(back.realm, m.realm));
    assert_true(back.hinted && back.hint == m.hint && !back.more && !kkdcp_wants_primary(&back));
}

static void bodies_come_back(void **state)
{
    struct sp_rng_fixed rng;

    (void)state;
    sp_rng_fixed_init(&rng, 8);
    for (int i = 0; i < 500; i++) {
        uint8_t dice[8];
        struct kkdcp m = {0}, back = {0};
        struct sp_span body = {0};
        struct sp_err e = {0};
        struct sp_arena mem;

        sp_arena_init(&mem, block, sizeof block);
        sp_rng_fill(&rng.rng, dice, sizeof dice);
        m.message = sp_span(large, (size_t)dice[0] * dice[1]);
        m.realm = dice[2] % 3 ? sp_span("REALM.EXAMPLE", 1 + dice[2] % 13) : (struct sp_span){0};
        m.hinted = dice[3] % 2;
        memcpy(&m.hint, dice + 4, m.hinted ? 4 : 0);
        assert_true(kkdcp_make(&m, &mem, &body, &e));
        assert_true(m.realm.n ? kkdcp_get_request(body, &mem, &back, &e)
                              : kkdcp_get_reply(body, &mem, &back, &e));
        assert_true(sp_same(back.message, m.message) && sp_same(back.realm, m.realm));
        assert_true(back.hinted == m.hinted && back.hint == m.hint);
    }
}

/* Kind, code and offset of every refusal; T104 among them. */
static void bad_bodies_are_refused(void **state)
{
    static const struct {
        const char *why;
        struct sp_span in;
        uint32_t at;
    } rows[] = {
        {"empty",                       LIT(""),                                                       0},
        {"no sequence",                 LIT("\x04\x00"),                                               0},
        {"empty sequence",              LIT("\x30\x00"),                                               2},
        {"cut",                         LIT("\x30\x0f\xa0\x05\x04\x03\x00\x00\x00"),                   1},
        {"message of 3 bytes",          LIT("\x30\x0d\xa0\x05\x04\x03\x00\x00\x00\xa1\x04\x1b\x02XY"), 6},
        {"inner length 1 too large",
         LIT("\x30\x10\xa0\x08\x04\x06\x00\x00\x00\x03"
             "ab\xa1\x04\x1b\x02XY"),
         6                                                                                              },
        {"inner length 1 too small",
         LIT("\x30\x10\xa0\x08\x04\x06\x00\x00\x00\x01"
             "ab\xa1\x04\x1b\x02XY"),
         6                                                                                              },
        {"inner length with a top bit",
         LIT("\x30\x10\xa0\x08\x04\x06\x80\x00\x00\x02"
             "ab\xa1\x04\x1b\x02XY"),
         6                                                                                              },
        {"byte behind",
         LIT("\x30\x10\xa0\x08\x04\x06\x00\x00\x00\x02"
             "ab\xa1\x04\x1b\x02XY\x00"),
         18                                                                                             },
        {"target-domain a UTF8String",
         LIT("\x30\x10\xa0\x08\x04\x06\x00\x00\x00\x02"
             "ab\xa1\x04\x0c\x02XY"),
         14                                                                                             },
        {"message a GeneralString",
         LIT("\x30\x10\xa0\x08\x1b\x06\x00\x00\x00\x02"
             "ab\xa1\x04\x1b\x02XY"),
         4                                                                                              },
        {"hint of 5 bytes",
         LIT("\x30\x19\xa0\x08\x04\x06\x00\x00\x00\x02"
             "ab\xa1\x04\x1b\x02XY\xa2\x07\x02\x05\x01\x00\x00\x00\x00"),
         22                                                                                             },
        {"hint a bit string",
         LIT("\x30\x15\xa0\x08\x04\x06\x00\x00\x00\x02"
             "ab\xa1\x04\x1b\x02XY\xa2\x03\x03\x01\x00"),
         20                                                                                             },
        {"no target-domain",
         LIT("\x30\x0a\xa0\x08\x04\x06\x00\x00\x00\x02"
             "ab"),
         0                                                                                              },
        {"empty target-domain",
         LIT("\x30\x0e\xa0\x08\x04\x06\x00\x00\x00\x02"
             "ab\xa1\x02\x1b\x00"),
         0                                                                                              },
        {"domain before message",
         LIT("\x30\x10\xa1\x04\x1b\x02XY\xa0\x08\x04\x06\x00\x00\x00\x02"
             "ab"),
         2                                                                                              },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t *copy = malloc(rows[i].in.n + 1); /* of its own size, for the sanitizer */
        struct kkdcp got = {.hint = 42};
        struct sp_err e = {0};
        struct sp_arena mem;

        assert_non_null(copy);
        memcpy(copy, rows[i].in.p, rows[i].in.n);
        sp_arena_init(&mem, block, sizeof block);
        if (kkdcp_get_request(sp_span(copy, rows[i].in.n), &mem, &got, &e) || e.kind != SP_EINPUT ||
            e.proto != 60 || e.at != rows[i].at || got.hint != 42)
            fail_msg("%s: %s, code %d at %u (%s)", rows[i].why, sp_kind_name(e.kind), e.proto, e.at, e.text);
        free(copy);
    }
}

/* T109: what later versions may add is skipped and told of; a reply needs no domain. */
static void tolerances(void **state)
{
    static const struct {
        const char *why;
        struct sp_span in;
        bool reply, more, primary;
        uint32_t hint;
    } rows[] = {
        {"unknown field",
         LIT("\x30\x15\xa0\x08\x04\x06\x00\x00\x00\x02"
             "ab\xa1\x04\x1b\x02XY\xa3\x03\x02\x01\x05"),
         false, true,  false, 0         },
        {"reply",
         LIT("\x30\x0a\xa0\x08\x04\x06\x00\x00\x00\x02"
             "ab"),
         true,  false, false, 0         },
        {"negative hint",
         LIT("\x30\x15\xa0\x08\x04\x06\x00\x00\x00\x02"
             "ab\xa1\x04\x1b\x02XY\xa2\x03\x02\x01\xff"),
         false, false, true,  0xffffffff},
        {"top bit",
         LIT("\x30\x19\xa0\x08\x04\x06\x00\x00\x00\x02"
             "ab\xa1\x04\x1b\x02XY\xa2\x07\x02\x05\x00\x80\x00\x00\x00"),
         false, false, false, 0x80000000},
        {"PDC",
         LIT("\x30\x16\xa0\x08\x04\x06\x00\x00\x00\x02"
             "ab\xa1\x04\x1b\x02XY\xa2\x04\x02\x02\x00\x80"),
         false, false, true,  0x80      },
        {"writable",
         LIT("\x30\x16\xa0\x08\x04\x06\x00\x00\x00\x02"
             "ab\xa1\x04\x1b\x02XY\xa2\x04\x02\x02\x10\x00"),
         false, false, true,  0x1000    },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kkdcp got = {0};
        struct sp_err e = {0};
        struct sp_arena mem;

        sp_arena_init(&mem, block, sizeof block);
        if (!(rows[i].reply ? kkdcp_get_reply : kkdcp_get_request)(rows[i].in, &mem, &got, &e) ||
            got.more != rows[i].more || got.hint != rows[i].hint || !sp_same(got.message, SP_LIT("ab")) ||
            kkdcp_wants_primary(&got) != rows[i].primary)
            fail_msg("%s: %s at %u, hint %x", rows[i].why, e.text, e.at, got.hint);
    }
}

static void sizes(void **state)
{
    struct kkdcp m =
                     {
                         .message = {large, KKDCP_BODY_MAX - 64},
                           .realm = SP_LIT("NAS1")
    },
                 back = {0};
    struct sp_span body = {0};
    struct sp_err e = {0};
    struct sp_arena mem;

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    assert_true(kkdcp_make(&m, &mem, &body, &e));
    assert_true(kkdcp_get_request(body, &mem, &back, &e));
    m.message.n = KKDCP_BODY_MAX;
    assert_false(kkdcp_make(&m, &mem, &body, &e));
    assert_int_equal(e.kind, SP_EINPUT);
    e = (struct sp_err){0};
    assert_false(kkdcp_get_request(sp_span(large, sizeof large), &mem, &back, &e));
    assert_int_equal(e.kind, SP_EINPUT);
    assert_int_equal(e.proto, 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_body_to_the_byte),
        cmocka_unit_test(bodies_come_back),
        cmocka_unit_test(bad_bodies_are_refused),
        cmocka_unit_test(tolerances),
        cmocka_unit_test(sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
