/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "bytes/der.h"
#include "bytes/walk.h"

#define LIT(s)                                                                                               \
    {                                                                                                        \
        (const uint8_t *)("" s), sizeof(s) - 1                                                               \
    }

/* ---- cursor and emitter ---- */

static void cursor_reads(void **state)
{
    struct sp_err e = {0};
    struct sp_cur c = sp_cur_of(SP_LIT("\1\2\3\4\5\6\7\x8\1\2\3\4\5\6\7\x8\1\2\3\4\1\2\3\4\1\2\1\2\7"), &e);

    (void)state;
    assert_true(sp_get_be64(&c, "a") == 0x0102030405060708);
    assert_true(sp_get_le64(&c, "b") == 0x0807060504030201);
    assert_int_equal(sp_get_be32(&c, "c"), 0x01020304);
    assert_int_equal(sp_get_le32(&c, "d"), 0x04030201);
    assert_int_equal(sp_get_be16(&c, "e"), 0x0102);
    assert_int_equal(sp_get_le16(&c, "f"), 0x0201);
    assert_int_equal(sp_cur_at(&c), 28);
    assert_true(sp_same(sp_at(&c, 6, 2, "g"), SP_LIT("\7\x8")));
    assert_int_equal(sp_get_u8(&c, "h"), 7);
    assert_true(sp_cur_done(&c, "all"));
    assert_int_equal(e.kind, SP_OK);
}

static void cursor_failure_sticks(void **state)
{
    struct sp_err e = {0};
    struct sp_cur c = sp_cur_of(SP_LIT("\1\2\3"), &e);

    (void)state;
    sp_skip(&c, 1, "one");
    assert_int_equal(sp_get_be32(&c, "wide"), 0);
    assert_int_equal(e.kind, SP_EINPUT);
    assert_int_equal(e.at, 1);
    assert_string_equal(e.text, "wide: cut short");
    assert_int_equal(sp_get_u8(&c, "later"), 0); /* a byte is left, but no longer for us */
    assert_int_equal(sp_at(&c, 0, 1, "later").n, 0);
    assert_false(sp_cur_done(&c, "all"));
    assert_int_equal(e.at, 1);
}

static void cursor_refuses(void **state)
{
    struct sp_err e = {0};
    struct sp_cur c = sp_cur_of(SP_LIT("\1\2\3"), &e);

    (void)state;
    sp_skip(&c, 2, "two");
    assert_false(sp_cur_done(&c, "all"));
    assert_int_equal(e.at, 2);
    e = (struct sp_err){0};
    c = sp_cur_of(SP_LIT("\1\2\3"), &e);
    assert_int_equal(sp_at(&c, 2, SIZE_MAX, "far").n, 0);
    assert_int_equal(e.kind, SP_EINPUT);
    e = (struct sp_err){0};
    c = sp_cur_of(SP_LIT("\1\2\3"), &e);
    assert_int_equal(sp_at(&c, SIZE_MAX, 2, "far").n, 0);
    assert_int_equal(e.kind, SP_EINPUT);
    e = (struct sp_err){0};
    c = sp_cur_of(sp_span(NULL, 0), &e);
    assert_true(sp_cur_done(&c, "nothing"));
}

static void emitter_of_every_size(void **state)
{
    static const char want[] = "\1\2\3\4\5\6\7\x8\x8\7\6\5\4\3\2\1\1\2\3\4\4\3\2\1\1\2\2\1xyz";

    (void)state;
    for (size_t cap = 0; cap < 40; cap++) {
        uint8_t b[40];
        struct sp_err e = {0};
        struct sp_emit o = sp_emit_to(b, cap, &e);
        struct sp_span out = {0};

        memset(b, '#', sizeof b);
        sp_put_bytes(&o, SP_LIT("xyz"));
        sp_put_le16(&o, 0x0102);
        sp_put_be16(&o, 0x0102);
        sp_put_le32(&o, 0x01020304);
        sp_put_be32(&o, 0x01020304);
        sp_put_le64(&o, 0x0102030405060708);
        sp_put_be64(&o, 0x0102030405060708);
        assert_int_equal(o.n, sizeof want - 1);
        assert_int_equal(sp_put_done(&o, &out), cap >= sizeof want - 1);
        assert_int_equal(e.kind, cap >= sizeof want - 1 ? SP_OK : SP_EFULL);
        if (sp_ok(&e))
            assert_memory_equal(out.p, want, sizeof want - 1);
        for (size_t i = cap; i < sizeof b; i++)
            assert_int_equal(b[i], '#');
    }
}

/* ---- DER: every refusal with its code and place ---- */

enum how { INT, U32_, BITS, WHEN, BYTES, ENTER, ANY };

static const struct refusal {
    const char *why;
    enum how how;
    struct sp_span in;
    int32_t proto;
    uint32_t at;
} refusals[] = {
    {"nothing",                   INT,   LIT(""),                                             0,  0},
    {"another tag",               INT,   LIT("\x04\x01\x05"),                                 0,  0},
    {"no length",                 INT,   LIT("\x02"),                                         0,  1},
    {"length past the end",       INT,   LIT("\x02\x02\x05"),                                 0,  1},
    {"indefinite",                INT,   LIT("\x02\x80\x05\x00\x00"),                         0,  1},
    {"reserved length",           INT,   LIT("\x02\xff\x05"),                                 0,  1},
    {"five length bytes",         BYTES, LIT("\x04\x85\x00\x00\x00\x00\x01\x05"),             0,  1},
    {"length bytes cut",          BYTES, LIT("\x04\x82\x01"),                                 0,  1},
    {"long form of 5",            BYTES, LIT("\x04\x81\x05hello"),                            0,  1},
    {"long form of 127",          BYTES, LIT("\x04\x81\x7f"),                                 0,  1},
    {"zero in front of a length", BYTES, LIT("\x04\x82\x00\x85"),                             0,  1},
    {"huge length",               BYTES, LIT("\x04\x84\xff\xff\xff\xff"),                     0,  1},
    {"empty integer",             INT,   LIT("\x02\x00"),                                     0,  2},
    {"padded 5",                  INT,   LIT("\x02\x02\x00\x05"),                             0,  2},
    {"padded -1",                 INT,   LIT("\x02\x02\xff\xff"),                             0,  2},
    {"above the range",           INT,   LIT("\x02\x01\x65"),                                 60, 2},
    {"below the range",           INT,   LIT("\x02\x01\xff"),                                 60, 2},
    {"nine bytes",                INT,   LIT("\x02\x09\x01\x02\x03\x04\x05\x06\x07\x08\x09"), 60, 2},
    {"2^32",                      U32_,  LIT("\x02\x05\x01\x00\x00\x00\x00"),                 60, 2},
    {"six bytes",                 U32_,  LIT("\x02\x06\x01\x00\x00\x00\x00\x00"),             60, 2},
    {"-1 in one byte",            U32_,  LIT("\x02\x01\xff"),                                 60, 2},
    {"-2^31-1",                   U32_,  LIT("\x02\x05\xff\x7f\xff\xff\xff"),                 60, 2},
    {"padded unsigned",           U32_,  LIT("\x02\x05\x00\x7f\xff\xff\xff"),                 0,  2},
    {"no bits at all",            BITS,  LIT("\x03\x00"),                                     0,  2},
    {"31 bits",                   BITS,  LIT("\x03\x05\x01\x00\x00\x00\x00"),                 0,  2},
    {"24 bits",                   BITS,  LIT("\x03\x04\x00\x00\x00\x00"),                     0,  2},
    {"eight unused",              BITS,  LIT("\x03\x06\x08\x00\x00\x00\x00\x00"),             0,  2},
    {"unused bit set",            BITS,  LIT("\x03\x06\x01\x00\x00\x00\x00\x01"),             0,  2},
    {"a constructed bit string",  BITS,  LIT("\x23\x05\x00\x00\x00\x00\x00"),                 0,  0},
    {"fraction",                  WHEN,
     LIT("\x18\x11"
         "20261121140501.5Z"),
     0,                                                                                           2},
    {"no seconds",                WHEN,
     LIT("\x18\x0d"
         "202611211405Z"),
     0,                                                                                           2},
    {"no Z",                      WHEN,
     LIT("\x18\x0f"
         "202611211405011"),
     0,                                                                                           2},
    {"zone",                      WHEN,
     LIT("\x18\x0f"
         "2026112114+0100"),
     0,                                                                                           2},
    {"a letter",                  WHEN,
     LIT("\x18\x0f"
         "2026112114o501Z"),
     0,                                                                                           2},
    {"UTCTime",                   WHEN,
     LIT("\x17\x0d"
         "261121140501Z"),
     0,                                                                                           0},
    {"month 13",                  WHEN,
     LIT("\x18\x0f"
         "20261321140501Z"),
     60,                                                                                          2},
    {"29 February",               WHEN,
     LIT("\x18\x0f"
         "20260229140501Z"),
     60,                                                                                          2},
    {"second 60",                 WHEN,
     LIT("\x18\x0f"
         "20261121140560Z"),
     60,                                                                                          2},
    {"hour 24",                   WHEN,
     LIT("\x18\x0f"
         "20261121240000Z"),
     60,                                                                                          2},
    {"year 0",                    WHEN,
     LIT("\x18\x0f"
         "00001121140501Z"),
     60,                                                                                          2},
    {"more inside",               ENTER, LIT("\x30\x04\x02\x01\x05\x00"),                     0,  5},
    {"behind the end",            ENTER, LIT("\x30\x03\x02\x01\x05\x00"),                     0,  5},
    {"inner longer than outer",   ENTER, LIT("\x30\x03\x02\x02\x05\x00"),                     0,  3},
    {"long tag",                  ANY,   LIT("\x1f\x81\x01\x00"),                             0,  0},
};

static bool refuse_one(const struct refusal *r, struct sp_err *e)
{
    struct sp_cur c = sp_cur_of(r->in, e);
    const uint8_t *outer;
    struct sp_span s;
    int64_t v;
    uint32_t u;

    switch (r->how) {
    case INT:
        return sp_der_int(&c, "x", 0, 100, &v);
    case U32_:
        return sp_der_u32(&c, "x", &u);
    case BITS:
        return sp_der_flags(&c, "x", &u);
    case WHEN:
        return sp_der_time(&c, "x", &v);
    case BYTES:
        return sp_der_get(&c, DER_OCTET_STRING, "x", &s);
    case ANY:
        return sp_der_any(&c, "x", &s);
    case ENTER:
        return sp_der_enter(&c, DER_SEQUENCE, "x", &outer) && sp_der_int(&c, "x", 0, 100, &v) &&
               sp_der_leave(&c, "x", outer) && sp_cur_done(&c, "x");
    }
    return false;
}

static void der_refuses(void **state)
{
    int bad = 0;

    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const struct refusal *r = &refusals[i];
        struct sp_err e = {0};

        if (refuse_one(r, &e) || e.kind != SP_EINPUT || e.proto != r->proto || e.at != r->at) {
            print_error("%s: %s, code %d at %u: %s\n", r->why, sp_kind_name(e.kind), e.proto, e.at, e.text);
            bad++;
        }
    }
    assert_int_equal(bad, 0);
}

static void der_integers(void **state)
{
    static const struct {
        int64_t v;
        struct sp_span der;
    } row[] = {
        {0,               LIT("\x02\x01\x00")                            },
        {127,             LIT("\x02\x01\x7f")                            },
        {128,             LIT("\x02\x02\x00\x80")                        },
        {-1,              LIT("\x02\x01\xff")                            },
        {-128,            LIT("\x02\x01\x80")                            },
        {-129,            LIT("\x02\x02\xff\x7f")                        },
        {0x7fffffff,      LIT("\x02\x04\x7f\xff\xff\xff")                },
        {0xffffffff,      LIT("\x02\x05\x00\xff\xff\xff\xff")            },
        {-0x7fffffff - 1, LIT("\x02\x04\x80\x00\x00\x00")                },
        {INT64_MAX,       LIT("\x02\x08\x7f\xff\xff\xff\xff\xff\xff\xff")},
        {INT64_MIN,       LIT("\x02\x08\x80\x00\x00\x00\x00\x00\x00\x00")},
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        uint8_t b[16];
        struct sp_err e = {0};
        struct sp_emit o = sp_emit_to(b, sizeof b, &e);
        struct sp_span out = {0};
        struct sp_cur c = sp_cur_of(row[i].der, &e);
        int64_t v = 0;

        sp_put_der_int(&o, row[i].v);
        assert_true(sp_put_done(&o, &out));
        assert_true(sp_same(out, row[i].der));
        assert_true(sp_der_int(&c, "x", INT64_MIN, INT64_MAX, &v));
        assert_true(v == row[i].v);
    }
}

static void der_tolerances(void **state)
{
    struct sp_err e = {0};
    struct sp_cur c = sp_cur_of(SP_LIT("\x02\x04\x80\xff\xff\xfe\x02\x05\x00\x80\xff\xff\xfe"), &e);
    uint32_t a = 0, b = 0;

    (void)state;
    assert_true(sp_der_u32(&c, "x", &a) && sp_der_u32(&c, "x", &b) && sp_cur_done(&c, "x"));
    assert_int_equal(a, 0x80fffffe);
    assert_int_equal(b, 0x80fffffe);
    c = sp_cur_of(SP_LIT("\x03\x06\x04\x50\x80\x00\x10\xf0\x03\x05\x00\x50\x80\x00\x10"), &e);
    assert_true(sp_der_flags(&c, "x", &a) && sp_der_flags(&c, "x", &b) && sp_cur_done(&c, "x"));
    assert_int_equal(a, 0x50800010);
    assert_int_equal(b, 0x50800010);
}

static void der_lengths(void **state)
{
    static uint8_t b[70000], content[66000];
    static const size_t n[] = {0, 1, 127, 128, 255, 256, 65535, 65536};
    static const size_t head[] = {2, 2, 2, 3, 3, 4, 4, 5};

    (void)state;
    for (size_t i = 0; i < sizeof n / sizeof n[0]; i++) {
        struct sp_err e = {0};
        struct sp_emit o = sp_emit_to(b, sizeof b, &e);
        struct sp_span out = {0}, back = {0};
        struct sp_cur c;

        sp_put_der(&o, DER_OCTET_STRING, sp_span(content, n[i]));
        assert_true(sp_put_done(&o, &out));
        assert_int_equal(out.n, head[i] + n[i]);
        c = sp_cur_of(out, &e);
        assert_true(sp_der_get(&c, DER_OCTET_STRING, "x", &back) && sp_cur_done(&c, "x"));
        assert_int_equal(back.n, n[i]);
    }
}

/* ---- the walker, on a type of its own ---- */

struct leaf {
    uint32_t has;
    int32_t id;
    struct sp_span secret;
};
struct leaves {
    struct leaf *v;
    uint32_t count;
};
struct numbers {
    int32_t *v;
    uint32_t count;
};
struct tree {
    uint32_t has;
    int32_t vno;
    struct leaves leaves;
    struct numbers numbers;
    struct sp_span name, raw;
};
#define M struct leaf
static const struct sp_field f_leaf[] = {
    I32(0, id, "id"),
    {.name = "secret",
                   .off = SP_OFF(secret, struct sp_span),
                   .tag = 1,
                   .kind = SP_ROW_OCTETS,
                   .flags = SP_OPTIONAL | SP_SECRET},
};
static const struct sp_type t_leaf = {.name = "Leaf",
                                      .field = f_leaf,
                                      .count = 2,
                                      .size = sizeof(M),
                                      .has = offsetof(M, has),
                                      .raw = SP_NOWHERE};
#undef M
#define M struct tree
static const struct sp_field f_tree[] = {
    FIXED(0, vno, 5, 39, "vno"),
    {.name = "leaves",
                            .sub = &t_leaf,
                            .off = SP_OFF(leaves, struct leaves),
                            .tag = 1,
                            .kind = SP_ROW_LIST,
                            .max = 2},
    I32S(2, numbers, struct numbers, 3, "numbers"),
    OSTR(4, name, "name"),
};
static const struct sp_type t_tree = {.name = "Tree",
                                      .field = f_tree,
                                      .count = 4,
                                      .app = 7,
                                      .size = sizeof(M),
                                      .has = offsetof(M, has),
                                      .raw = offsetof(M, raw),
                                      .open = true};
#undef M

#define TREE                                                                                                 \
    "\x67\x26\x30\x24"                                                                                       \
    "\xa0\x03\x02\x01\x05"                                                                                   \
    "\xa1\x0e\x30\x0c\x30\x0a\xa0\x03\x02\x01\x2a\xa1\x03\x04\x01k"                                          \
    "\xa2\x08\x30\x06\x02\x01\x01\x02\x01\xff"                                                               \
    "\xa4\x03\x1b\x01n"

static void walker_reads_and_writes(void **state)
{
    _Alignas(16) uint8_t block[512];
    uint8_t b[64];
    char text[256];
    struct sp_arena mem;
    struct sp_err e = {0};
    struct tree v = {0};
    struct sp_span out = {0};
    struct sp_text t = sp_text(text, sizeof text);
    size_t n = 0;

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    if (!sp_type_get(&t_tree, SP_LIT(TREE), false, &mem, &v, &e))
        fail_msg("at %u: %s", e.at, e.text);
    assert_int_equal(v.has, 1 << 0 | 1 << 1 | 1 << 2 | 1 << 4);
    assert_int_equal(v.leaves.count, 1);
    assert_int_equal(v.leaves.v[0].id, 42);
    assert_true(sp_same(v.leaves.v[0].secret, SP_LIT("k")));
    assert_int_equal(v.numbers.count, 2);
    assert_int_equal(v.numbers.v[1], -1);
    assert_true(sp_same(v.raw, SP_LIT(TREE)));
    assert_true(sp_type_put(&t_tree, &v, b, sizeof b, &n, &out, &e));
    assert_true(sp_same(out, SP_LIT(TREE)));
    assert_int_equal(n, out.n);
    sp_type_print(&t_tree, &v, &t);
    assert_string_equal(text,
                        "Tree\n  vno: 5\n  leaves: 1\n    [0] Leaf\n      id: 42\n      secret: (1 bytes)\n"
                        "  numbers: 1 -1\n  name: \"n\"\n");
}

static void walker_refuses(void **state)
{
    static const struct {
        const char *why;
        struct sp_span in;
        bool tail;
        int32_t proto;
        uint32_t at;
        bool good;
    } row[] = {
        {"empty",                        LIT(""),                                                                                     false, 0,  0,  false},
        {"another application",          LIT("\x68\x02\x30\x00"),                                                                     false, 0,  0,  false},
        {"a required field missing",     LIT("\x67\x02\x30\x00"),                                                                     false, 0,  4,  false},
        {"another version",              LIT("\x67\x07\x30\x05\xa0\x03\x02\x01\x04"),                                                 false, 39, 8,  false},
        {"missing in the middle",        LIT("\x67\x0c\x30\x0a\xa0\x03\x02\x01\x05\xa2\x02\x30\x00\x00"),                             false, 0,
         9,                                                                                                                                          false},
        {"twice",                        LIT("\x67\x13\x30\x11\xa0\x03\x02\x01\x05\xa1\x02\x30\x00\xa1\x02\x30\x00\xa2\x02\x30\x00"),
         false,                                                                                                                              0,  13, false},
        {"wrong order",                  LIT("\x67\x0f\x30\x0d\xa1\x02\x30\x00\xa0\x03\x02\x01\x05\xa2\x02\x30\x00"),                 false, 0,
         4,                                                                                                                                          false},
        {"unknown field",
         LIT("\x67\x13\x30\x11\xa0\x03\x02\x01\x05\xa1\x02\x30\x00\xa2\x02\x30\x00\xa6\x02\x05\x00"),                                 false,
         0,                                                                                                                                      17, false},
        {"unknown field, tolerated",
         LIT("\x67\x13\x30\x11\xa0\x03\x02\x01\x05\xa1\x02\x30\x00\xa2\x02\x30\x00\xa6\x02\x05\x00"),                                 true,  0,
         0,                                                                                                                                          true },
        {"unknown fields falling",
         LIT("\x67\x17\x30\x15\xa0\x03\x02\x01\x05\xa1\x02\x30\x00\xa2\x02\x30\x00\xa6\x02\x05\x00\xa5\x02"
             "\x05\x00"),
         true,                                                                                                                               0,  21, false},
        {"unknown field below the last",
         LIT("\x67\x13\x30\x11\xa0\x03\x02\x01\x05\xa1\x02\x30\x00\xa2\x02\x30\x00\xa3\x02\x05\x00"),                                 true,  0,
         17,                                                                                                                                         false},
        {"unknown field cut",
         LIT("\x67\x13\x30\x11\xa0\x03\x02\x01\x05\xa1\x02\x30\x00\xa2\x02\x30\x00\xa6\x03\x05\x00"),                                 true,  0,
         18,                                                                                                                                         false},
        {"three leaves of two",
         LIT("\x67\x22\x30\x20\xa0\x03\x02\x01\x05\xa1\x17\x30\x15\x30\x05\xa0\x03\x02\x01\x01\x30\x05\xa0"
             "\x03\x02\x01\x01\x30\x05\xa0\x03\x02\x01\x01\xa2\x00"),
         false,                                                                                                                              0,  27, false},
        {"behind",                       LIT("\x67\x0f\x30\x0d\xa0\x03\x02\x01\x05\xa1\x02\x30\x00\xa2\x02\x30\x00\x00"),             false, 0,
         17,                                                                                                                                         false},
        {"behind the sequence",
         LIT("\x67\x10\x30\x0d\xa0\x03\x02\x01\x05\xa1\x02\x30\x00\xa2\x02\x30\x00\x00"),                                             false, 0,  17,
         false                                                                                                                                            },
        {"more in a field",              LIT("\x67\x10\x30\x0e\xa0\x04\x02\x01\x05\x00\xa1\x02\x30\x00\xa2\x02\x30\x00"),
         false,                                                                                                                              0,  9,  false},
    };
    int bad = 0;

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        _Alignas(16) uint8_t block[512];
        struct sp_arena mem;
        struct sp_err e = {0};
        struct tree v = {.vno = 1234};
        bool ok;

        sp_arena_init(&mem, block, sizeof block);
        ok = sp_type_get(&t_tree, row[i].in, row[i].tail, &mem, &v, &e);
        if (ok != row[i].good || e.at != row[i].at || e.proto != row[i].proto ||
            (!ok && (e.kind != SP_EINPUT || v.vno != 1234 || mem.used != 0))) {
            print_error("%s: %s, code %d at %u: %s\n", row[i].why, sp_kind_name(e.kind), e.proto, e.at,
                        e.text);
            bad++;
        }
    }
    assert_int_equal(bad, 0);
}

static void writer_refuses(void **state)
{
    static struct leaf leaf[3];
    struct tree v = {
        .leaves = {leaf, 3}
    };
    uint8_t b[64];
    size_t n;
    struct sp_span out;
    struct sp_err e = {0};
    struct sp_emit o = sp_emit_to(b, sizeof b, &e);

    (void)state;
    assert_false(sp_type_put(&t_tree, &v, b, sizeof b, &n, &out, &e));
    assert_int_equal(e.kind, SP_EINPUT);
    e = (struct sp_err){0};
    sp_put_der_time(&o, "x", SP_TIME_MAX + 1);
    assert_false(sp_put_done(&o, &out));
    assert_int_equal(e.kind, SP_EINPUT);
    assert_int_equal(e.proto, DER_RANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cursor_reads),
        cmocka_unit_test(cursor_failure_sticks),
        cmocka_unit_test(cursor_refuses),
        cmocka_unit_test(emitter_of_every_size),
        cmocka_unit_test(der_refuses),
        cmocka_unit_test(der_integers),
        cmocka_unit_test(der_tolerances),
        cmocka_unit_test(der_lengths),
        cmocka_unit_test(walker_reads_and_writes),
        cmocka_unit_test(walker_refuses),
        cmocka_unit_test(writer_refuses),
    };

    return cmocka_run_group_tests_name("bytes", tests, NULL, NULL);
}
