/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>

#include "bytes/der.h"
#include "bytes/walk.h"
#include "krb/codes.h"
#include "krb/keytab.h"
#include "krb/name.h"

#define LIT(s)                                                                                               \
    {                                                                                                        \
        (const uint8_t *)("" s), sizeof(s) - 1                                                               \
    }

union any {
    _Alignas(16) uint8_t room[SP_TYPE_SIZE_MAX];
    struct krb_kdc_req req;
    struct krb_error error;
    struct krb_ticket ticket;
};

static _Alignas(16) uint8_t block[1 << 20];
static uint8_t wire[1 << 18];

struct sample {
    struct sp_arena mem;
    struct sp_span der;
};

/* A message of type t, canonical, made from a random value; small ones only, where every byte will be tried.
 */
static void make_sample(enum krb_type t, uint64_t seed, size_t max, struct sample *s)
{
    struct sp_rng_fixed r;

    sp_rng_fixed_init(&r, seed * 1000 + (uint64_t)t);
    do {
        struct sp_err e = {0};
        union any v;

        sp_arena_init(&s->mem, block, sizeof block);
        if (!sp_type_generate(krb_type_table(t), &r.rng, &s->mem, &v, &e) ||
            !krb_put(t, &v, wire, sizeof wire, &s->der, &e))
            fail_msg("%s: %s", krb_type_name(t), e.text);
    } while (s->der.n > max);
}

static void put_gives_back(enum krb_type t, const union any *v, struct sp_span want)
{
    static uint8_t again[sizeof wire];
    struct sp_err e = {0};
    struct sp_span out = {0};

    if (!krb_put(t, v, again, sizeof again, &out, &e))
        fail_msg("%s: %s", krb_type_name(t), e.text);
    if (!sp_same(out, want))
        fail_msg("%s: written again, %zu bytes are not the %zu that were read", krb_type_name(t), out.n,
                 want.n);
}

static void round_trips(void **state)
{
    (void)state;
    for (int t = 0; t < KRB_TYPE_COUNT; t++) {
        for (uint64_t seed = 0; seed < 300; seed++) {
            struct sample s;
            struct sp_err e = {0};
            union any v;

            make_sample((enum krb_type)t, seed, SIZE_MAX, &s);
            memset(&v, 0xaa, sizeof v);
            if (!krb_get((enum krb_type)t, s.der, KRB_STRICT, &s.mem, &v, &e))
                fail_msg("%s at %u: %s", krb_type_name((enum krb_type)t), e.at, e.text);
            put_gives_back((enum krb_type)t, &v, s.der);
        }
    }
}

/* get(put(v)) == v: every member that is in the table comes back, seen through the printer that shows them
 * all. */
static void values_come_back(void **state)
{
    static char before[1 << 18], after[1 << 18];

    (void)state;
    for (int t = 0; t < KRB_TYPE_COUNT; t++) {
        for (uint64_t seed = 0; seed < 100; seed++) {
            struct sp_rng_fixed r;
            struct sp_arena mem;
            struct sp_err e = {0};
            struct sp_span out = {0};
            struct sp_text a = sp_text(before, sizeof before), b = sp_text(after, sizeof after);
            union any v, w;

            sp_rng_fixed_init(&r, seed + 77);
            sp_arena_init(&mem, block, sizeof block);
            assert_true(sp_type_generate(krb_type_table((enum krb_type)t), &r.rng, &mem, &v, &e));
            assert_true(krb_make((enum krb_type)t, &v, &mem, &out, &e));
            assert_true(krb_get((enum krb_type)t, out, KRB_STRICT, &mem, &w, &e));
            krb_print((enum krb_type)t, &v, &a);
            krb_print((enum krb_type)t, &w, &b);
            assert_false(a.cut);
            assert_string_equal(before, after);
        }
    }
}

/* Refuses, leaves *out and the arena alone, points into the input. */
static bool refused(enum krb_type t, struct sp_span in, struct sp_arena *mem, union any *v)
{
    struct sp_err e = {0};
    size_t used = mem->used;

    memset(v, 0xaa, sizeof *v);
    if (krb_get(t, in, KRB_STRICT, mem, v, &e))
        return false;
    assert_int_equal(e.kind, SP_EINPUT);
    assert_true(e.at <= in.n);
    assert_int_equal(mem->used, used);
    for (size_t i = 0; i < sizeof *v; i++)
        assert_int_equal(v->room[i], 0xaa);
    return true;
}

static void every_cut_is_refused(void **state) /* T001 */
{
    (void)state;
    for (int t = 0; t < KRB_TYPE_COUNT; t++) {
        for (uint64_t seed = 0; seed < 4; seed++) {
            struct sample s;
            union any v;

            make_sample((enum krb_type)t, seed, 1500, &s);
            for (size_t n = 0; n < s.der.n; n++) {
                uint8_t *cut = malloc(n + 1); /* of its own size, so that the sanitizer sees a step too far */

                assert_non_null(cut);
                memcpy(cut, s.der.p, n);
                assert_true(refused((enum krb_type)t, sp_span(cut, n), &s.mem, &v));
                free(cut);
            }
        }
    }
}

static void trailing_bytes_are_refused(void **state) /* T005 */
{
    (void)state;
    for (int t = 0; t < KRB_TYPE_COUNT; t++) {
        struct sample s;
        struct sp_err e = {0};
        union any v;
        static uint8_t longer[2048];

        make_sample((enum krb_type)t, 5, 1500, &s);
        memcpy(longer, s.der.p, s.der.n);
        assert_false(
            krb_get((enum krb_type)t, sp_span(longer, s.der.n + 1), KRB_UNKNOWN_TAIL, &s.mem, &v, &e));
        assert_int_equal(e.kind, SP_EINPUT);
        assert_int_equal(e.at, s.der.n);
    }
}

/* The offsets of all length octets of constructed and simple elements, by walking what we know to be
 * canonical. */
static size_t length_offsets(struct sp_span der, size_t base, size_t *at, size_t max)
{
    size_t count = 0, i = 0;

    while (i + 2 <= der.n) {
        size_t n = der.p[i + 1], head = 2;

        if (n >= 0x80) {
            head += n & 0x7f;
            n = 0;
            for (size_t k = 2; k < head; k++)
                n = n << 8 | der.p[i + k];
        }
        if (count < max)
            at[count++] = base + i + 1;
        if (der.p[i] & 0x20)
            count += length_offsets(sp_span(der.p + i + head, n), base + i + head, at + count, max - count);
        i += head + n;
    }
    return count;
}

/* Refused, unless the bytes happen to say another canonical message (a string that grew over an empty one
 * behind it). */
static void length_changed(enum krb_type t, struct sp_span in, size_t at, struct sp_arena *mem)
{
    static uint8_t again[4096];
    struct sp_err e = {0};
    struct sp_span out = {0};
    union any v;

    if (refused(t, in, mem, &v))
        return;
    assert_true(krb_put(t, &v, again, sizeof again, &out, &e));
    if (!sp_same(out, in))
        fail_msg("%s: length at %zu as %u is taken", krb_type_name(t), at, in.p[at]);
}

static void every_length_is_checked(void **state) /* T002 */
{
    static const int step[] = {1, -1, 2, -2};
    static const uint8_t set[] = {0, 0x7f, 0x80, 0x84, 0xff};

    (void)state;
    for (int t = 0; t < KRB_TYPE_COUNT; t++) {
        size_t at[400], count;
        static uint8_t b[2048];
        struct sample s;

        make_sample((enum krb_type)t, 9, 1500, &s);
        count = length_offsets(s.der, 0, at, sizeof at / sizeof at[0]);
        assert_true(count > 0);
        for (size_t i = 0; i < count; i++) {
            for (size_t k = 0; k < 4 + sizeof set; k++) {
                uint8_t old = s.der.p[at[i]], now = k < 4 ? (uint8_t)(old + step[k]) : set[k - 4];

                memcpy(b, s.der.p, s.der.n);
                b[at[i]] = now;
                if (now != old)
                    length_changed((enum krb_type)t, sp_span(b, s.der.n), at[i], &s.mem);
            }
        }
    }
}

/* What the one tolerance of integers looks like: four bytes with the sign set where an unsigned number
 * belongs. */
static bool is_signed_u32(struct sp_span b, size_t at)
{
    return at >= 2 && b.p[at - 2] == 0x02 && b.p[at - 1] == 0x04 && b.p[at] >= 0x80;
}

static void every_byte_changed(void **state)
{
    (void)state;
    for (int t = 0; t < KRB_TYPE_COUNT; t++) {
        static uint8_t b[2048], again[4096];
        struct sample s;

        make_sample((enum krb_type)t, 11, 700, &s);
        for (size_t i = 0; i < s.der.n * 255; i++) {
            struct sp_span in = {b, s.der.n}, out = {0};
            struct sp_err e = {0};
            size_t used = s.mem.used, at = i / 255;
            union any v;

            memcpy(b, s.der.p, s.der.n);
            b[at] = (uint8_t)(b[at] + 1 + i % 255);
            if (krb_get((enum krb_type)t, in, KRB_STRICT, &s.mem, &v, &e)) {
                assert_true(krb_put((enum krb_type)t, &v, again, sizeof again, &out, &e));
                if (!sp_same(out, in) && !is_signed_u32(in, at))
                    fail_msg("%s: byte %zu as %02x comes back differently", krb_type_name((enum krb_type)t),
                             at, b[at]);
            }
            s.mem.used = used;
        }
    }
}

static void arena_of_every_size(void **state) /* T027 */
{
    (void)state;
    for (int t = 0; t < KRB_TYPE_COUNT; t++) {
        struct sample s;
        bool ok = false;

        make_sample((enum krb_type)t, 13, 1500, &s);
        for (size_t cap = 0; !ok; cap += 16) {
            uint8_t *p = aligned_alloc(16, cap + 16);
            struct sp_arena mem;
            struct sp_err e = {0};
            struct sp_span out = {0};
            union any v;

            assert_non_null(p);
            assert_true(cap < 100000);
            memset(&v, 0xaa, sizeof v);
            sp_arena_init(&mem, p, cap);
            ok = krb_get((enum krb_type)t, s.der, KRB_STRICT, &mem, &v, &e);
            assert_int_equal(e.kind, ok ? SP_OK : SP_ENOMEM);
            assert_true(ok || mem.used == 0);
            for (size_t i = 0; !ok && i < sizeof v; i++)
                assert_int_equal(v.room[i], 0xaa);
            if (ok) {
                size_t used = mem.used, room = mem.max - mem.used;
                bool made = krb_make((enum krb_type)t, &v, &mem, &out, &e);

                assert_true(made == (room >= s.der.n) || (!made && room < s.der.n + 16));
                assert_int_equal(e.kind, made ? SP_OK : SP_ENOMEM);
                assert_true(made || mem.used == used);
            }
            free(p);
        }
    }
}

static void buffer_of_every_size(void **state)
{
    (void)state;
    for (int t = 0; t < KRB_TYPE_COUNT; t++) {
        struct sample s;
        struct sp_err e = {0};
        union any v;

        make_sample((enum krb_type)t, 17, 700, &s);
        assert_true(krb_get((enum krb_type)t, s.der, KRB_STRICT, &s.mem, &v, &e));
        for (size_t cap = 0; cap <= s.der.n; cap++) {
            uint8_t *p = malloc(cap + 1);
            struct sp_span out = {0};

            assert_non_null(p);
            e = (struct sp_err){0};
            assert_int_equal(krb_put((enum krb_type)t, &v, p, cap, &out, &e), cap == s.der.n);
            assert_int_equal(e.kind, cap == s.der.n ? SP_OK : SP_EFULL);
            free(p);
        }
    }
}

/* ---- T004: depth ---- */

static void *read_nested(void *arg)
{
    const struct sp_span *in = arg;
    static const uint8_t first[] = {0x30, 0x61, 0x6a, 0xa0, 0x7e, 0x24};

    for (int t = 0; t < KRB_TYPE_COUNT; t++) {
        struct sp_arena mem;
        union any v;

        sp_arena_init(&mem, block, sizeof block);
        for (size_t i = 0; i < sizeof first; i++) {
            struct sp_err e = {0};

            memset((void *)(uintptr_t)in->p, first[i], in->n);
            if (krb_get((enum krb_type)t, *in, KRB_UNKNOWN_TAIL, &mem, &v, &e) || e.kind != SP_EINPUT)
                return arg;
        }
    }
    return NULL;
}

#define STACK_MAX ((size_t)64 * 1024)
#define STACK_GIVEN ((size_t)256 * 1024)
#define PAINT 0xa5
static _Alignas(4096) uint8_t painted[STACK_GIVEN];

/* How much of the painted stack was ever written to; it grows downwards. Sanitizers add room of their own. */
static void assert_little_stack(void)
{
    size_t untouched = 0;

    while (untouched < sizeof painted && painted[untouched] == PAINT)
        untouched++;
    assert_true(untouched > 0 && untouched < sizeof painted);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__has_feature)
    assert_true(sizeof painted - untouched <= STACK_MAX);
#endif
}

/* Properly nested sequences, 10^5 deep, and the same tag over and over, read with little stack. */
static void deep_nesting(void **state)
{
    static uint8_t deep[800000];
    struct sp_err e = {0};
    struct sp_emit o = sp_emit_to(deep, sizeof deep, &e);
    struct sp_span in = {0};
    struct sp_arena mem;
    pthread_attr_t a;
    pthread_t id;
    void *bad = NULL;
    union any v;

    (void)state;
    for (int i = 0; i < 100000; i++)
        sp_put_der_head(&o, i % 2 ? DER_SEQUENCE : DER_CONTEXT, 0);
    assert_true(sp_put_done(&o, &in));
    sp_arena_init(&mem, block, sizeof block);
    for (int t = 0; t < KRB_TYPE_COUNT; t++) {
        e = (struct sp_err){0};
        assert_false(krb_get((enum krb_type)t, in, KRB_UNKNOWN_TAIL, &mem, &v, &e));
        assert_int_equal(e.kind, SP_EINPUT);
    }
    assert_int_equal(pthread_attr_init(&a), 0);
    memset(painted, PAINT, sizeof painted);
    assert_int_equal(pthread_attr_setstack(&a, painted, sizeof painted), 0);
    assert_int_equal(pthread_create(&id, &a, read_nested, &in), 0);
    assert_int_equal(pthread_join(id, &bad), 0);
    assert_null(bad);
    assert_little_stack();
    pthread_attr_destroy(&a);
}

/* ---- limits, both sides ---- */

static struct sp_span list_of(enum krb_type t, uint32_t count, uint8_t tag)
{
    static uint8_t b[1 << 16];
    static uint8_t one[] = {0x30, 0x0b, 0xa0, 0x03, 0x02, 0x01, 0x02, 0xa1, 0x04, 0x04, 0x02, 'x', 'y'};
    static struct sp_err e;
    struct sp_emit o = sp_emit_to(b, sizeof b, &e);
    struct sp_span out = {0};

    one[2] = tag;
    one[7] = (uint8_t)(tag + 1);
    one[9] = t == KRB_INFOS2 ? DER_STRING : DER_OCTET_STRING;
    for (uint32_t i = 0; i < count; i++)
        sp_put_bytes(&o, sp_span(one, sizeof one));
    sp_put_der_head(&o, DER_SEQUENCE, 0);
    assert_true(sp_put_done(&o, &out));
    return out;
}

static void list_limits(void **state) /* T010 */
{
    static const struct {
        enum krb_type t;
        uint32_t max;
        uint8_t tag;
    } row[] = {
        {KRB_PADATA,     KRB_PADATA_MAX,   0xa1},
        {KRB_AUTHDATA,   KRB_AUTHDATA_MAX, 0xa0},
        {KRB_INFOS,      KRB_INFO_MAX,     0xa0},
        {KRB_INFOS2,     KRB_INFO_MAX,     0xa0},
        {KRB_TYPED_DATA, KRB_INFO_MAX,     0xa0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct sp_arena mem;
        struct sp_err e = {0};
        struct sp_span in = list_of(row[i].t, row[i].max, row[i].tag);
        union any v;

        sp_arena_init(&mem, block, sizeof block);
        if (!krb_get(row[i].t, in, KRB_STRICT, &mem, &v, &e))
            fail_msg("%s at %u: %s", krb_type_name(row[i].t), e.at, e.text);
        in = list_of(row[i].t, row[i].max + 1, row[i].tag);
        assert_false(krb_get(row[i].t, in, KRB_STRICT, &mem, &v, &e));
        assert_int_equal(e.kind, SP_EINPUT);
        assert_int_equal(e.at, in.n - 13); /* the one too many is the last */
        e = (struct sp_err){0};
        in = list_of(row[i].t, 4000, row[i].tag);
        assert_false(krb_get(row[i].t, in, KRB_STRICT, &mem, &v, &e));
        assert_int_equal(e.at, in.n - 13 * (4000 - row[i].max));
    }
}

static struct krb_kdc_req request(struct sp_span *parts, int32_t *etypes)
{
    struct krb_kdc_req r = {.body = {.has = KRB_BIT(1) | KRB_BIT(3)}};

    parts[0] = SP_LIT("alice");
    parts[1] = SP_LIT("krbtgt");
    parts[2] = SP_LIT("NAS1");
    etypes[0] = 18;
    etypes[1] = -128;
    r.body.options = 0x50000010;
    r.body.cname = krb_name_of(NT_PRINCIPAL, parts, 1);
    r.body.realm = SP_LIT("NAS1");
    r.body.sname = krb_name_of(NT_SRV_INST, parts + 1, 2);
    r.body.till = 1795269901;
    r.body.nonce = 0x01020304;
    r.body.etypes = (struct krb_i32s){etypes, 2};
    return r;
}

static void body_limits(void **state)
{
    static struct sp_span many[KRB_NAME_PARTS_MAX + 1];
    static int32_t types[KRB_ETYPES_MAX + 1];
    static struct krb_address addresses[KRB_ADDRESSES_MAX + 1];
    static struct krb_ticket tickets[KRB_TICKETS_MAX + 1];
    struct sp_span parts[3];
    int32_t etypes[2];

    (void)state;
    for (int which = 0; which < 8; which++) {
        struct krb_kdc_req r = request(parts, etypes), back;
        uint32_t over = which & 1;
        struct sp_err e = {0};
        struct sp_arena mem;
        struct sp_span out = {0};
        bool ok;

        sp_arena_init(&mem, block, sizeof block);
        r.body.has |= which / 2 == 2 ? KRB_BIT(9) : which / 2 == 3 ? KRB_BIT(11) : 0;
        if (which / 2 == 0)
            r.body.cname.parts = (struct sp_spans){many, KRB_NAME_PARTS_MAX + over};
        if (which / 2 == 1)
            r.body.etypes = (struct krb_i32s){types, KRB_ETYPES_MAX + over};
        r.body.addresses = (struct krb_addresses){addresses, KRB_ADDRESSES_MAX + over};
        r.body.tickets = (struct krb_tickets){tickets, KRB_TICKETS_MAX + over};
        ok = krb_make(KRB_AS_REQ, &r, &mem, &out, &e);
        assert_int_equal(ok, !over);
        assert_int_equal(e.kind, over ? SP_EINPUT : SP_OK);
        assert_true(!ok || krb_get(KRB_AS_REQ, out, KRB_STRICT, &mem, &back, &e));
    }
}

/* ---- refusals of whole messages: kind, code, place ---- */

static void as_request_in_full(void **state)
{
    struct sp_span parts[3], out = {0};
    int32_t etypes[2];
    struct krb_kdc_req r = request(parts, etypes), back = {0};
    struct sp_arena mem;
    struct sp_err e = {0};
    struct sp_text t;
    char text[1024];

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    r.pvno = 77; /* what the struct holds does not count */
    assert_true(krb_make(KRB_AS_REQ, &r, &mem, &out, &e));
    assert_true(krb_get(KRB_AS_REQ, out, KRB_STRICT, &mem, &back, &e));
    assert_int_equal(back.pvno, 5);
    assert_int_equal(back.msg_type, 10);
    assert_false(KRB_HAS(&back, 3));
    assert_true(KRB_HAS(&back.body, 1) && KRB_HAS(&back.body, 3) && !KRB_HAS(&back.body, 4));
    assert_true(krb_same_name(&back.body.sname, &r.body.sname));
    assert_int_equal(back.body.etypes.v[1], -128);
    assert_true(back.body.raw.p > out.p && back.body.raw.p + back.body.raw.n == out.p + out.n);
    assert_int_equal(back.body.raw.p[0], 0x30);
    assert_int_equal(krb_sniff(out), KRB_AS_REQ);
    t = sp_text(text, sizeof text);
    krb_print(KRB_AS_REQ, &back, &t);
    assert_string_equal(text,
                        "AS-REQ\n  pvno: 5\n  msg-type: 10\n  req-body: \n    kdc-options: 0x50000010\n"
                        "    cname: \n      name-type: 1\n      name-string: \"alice\"\n    realm: \"NAS1\"\n"
                        "    sname: \n      name-type: 2\n      name-string: \"krbtgt\" \"NAS1\"\n"
                        "    till: 20261121140501Z\n    nonce: 16909060\n    etype: 18 -128\n");
}

/* The request with one byte sequence replaced by another of the same length. */
static void message_refusals(void **state)
{
    static const struct {
        const char *why;
        struct sp_span from, to;
        enum krb_type t;
        int32_t proto;
        uint32_t at; /* from the start of the sequence */
    } row[] = {
        {"pvno 4",                LIT("\xa1\x03\x02\x01\x05"),     LIT("\xa1\x03\x02\x01\x04"),     KRB_AS_REQ,  KDC_ERR_BAD_PVNO, 4},
        {"msg-type 12",           LIT("\xa2\x03\x02\x01\x0a"),     LIT("\xa2\x03\x02\x01\x0c"),     KRB_AS_REQ,
         KRB_AP_ERR_MSG_TYPE,                                                                                                      4},
        {"as a TGS-REQ",          LIT("\x6a"),                     LIT("\x6a"),                     KRB_TGS_REQ, 0,                0},
        {"padded nonce",          LIT("\x02\x04\x01\x02\x03\x04"), LIT("\x02\x04\x00\x02\x03\x04"), KRB_AS_REQ,  0,                2},
        {"etype not an integer",  LIT("\x02\x01\x12"),             LIT("\x04\x01\x12"),             KRB_AS_REQ,  0,                0},
        {"realm an octet string", LIT("\x1b\x04NAS1\xa3"),         LIT("\x04\x04NAS1\xa3"),         KRB_AS_REQ,  0,                0},
        {"month 99",              LIT("20261121"),                 LIT("20269921"),                 KRB_AS_REQ,  KRB_ERR_GENERIC,  0},
        {"options primitive",     LIT("\xa0\x07\x03\x05"),         LIT("\x80\x07\x03\x05"),         KRB_AS_REQ,  0,                0},
    };
    struct sp_span parts[3], out = {0};
    int32_t etypes[2];
    struct krb_kdc_req r = request(parts, etypes);
    struct sp_arena mem;
    struct sp_err e = {0};

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    assert_true(krb_make(KRB_AS_REQ, &r, &mem, &out, &e));
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct sp_span copy = sp_dup(&mem, out, &e);
        uint8_t *hit = memmem(copy.p, copy.n, row[i].from.p, row[i].from.n);
        union any v;

        assert_non_null(hit);
        memcpy(hit, row[i].to.p, row[i].to.n);
        e = (struct sp_err){0};
        if (krb_get(row[i].t, copy, KRB_UNKNOWN_TAIL, &mem, &v, &e) || e.kind != SP_EINPUT ||
            e.proto != row[i].proto || e.at != (size_t)(hit - copy.p) + row[i].at)
            fail_msg("%s: %s, code %d at %u: %s", row[i].why, sp_kind_name(e.kind), e.proto, e.at, e.text);
        e = (struct sp_err){0};
    }
}

static void number_refusals(void **state)
{
    static const struct {
        const char *why;
        enum krb_type t;
        struct sp_span in;
        bool good;
        int32_t proto;
        uint32_t at;
    } row[] = {
        {"usec 999999",            KRB_PA_ENC_TS,
         LIT("\x30\x1a\xa0\x11\x18\x0f"
             "20261121140501Z"
             "\xa1\x05\x02\x03\x0f\x42\x3f"),
         true,                                                                                                                        0,                   0 },
        {"usec 10^6",              KRB_PA_ENC_TS,
         LIT("\x30\x1a\xa0\x11\x18\x0f"
             "20261121140501Z"
             "\xa1\x05\x02\x03\x0f\x42\x40"),
         false,                                                                                                                       60,                  25},
        {"usec -1",                KRB_PA_ENC_TS,
         LIT("\x30\x18\xa0\x11\x18\x0f"
             "20261121140501Z"
             "\xa1\x03\x02\x01\xff"),
         false,                                                                                                                       60,                  25},
        {"kvno with the sign set", KRB_ENC,
         LIT("\x30\x12\xa0\x03\x02\x01\x12\xa1\x06\x02\x04\x80\x00\x00\x01\xa2\x03\x04\x01x"),                                 true,  0,                   0 },
        {"kvno -1",                KRB_ENC,       LIT("\x30\x0f\xa0\x03\x02\x01\x12\xa1\x03\x02\x01\xff\xa2\x03\x04\x01x"),    true,
         0,                                                                                                                                                0 },
        {"kvno 2^32",              KRB_ENC,
         LIT("\x30\x13\xa0\x03\x02\x01\x12\xa1\x07\x02\x05\x01\x00\x00\x00\x00\xa2\x03\x04\x01x"),                             false, 60,
         11                                                                                                                                                  },
        {"etype 2^31",             KRB_ENC,       LIT("\x30\x0e\xa0\x07\x02\x05\x00\x80\x00\x00\x00\xa2\x03\x04\x01x"),        false,
         60,                                                                                                                                               6 },
        {"etype -2^31",            KRB_ENC,       LIT("\x30\x0d\xa0\x06\x02\x04\x80\x00\x00\x00\xa2\x03\x04\x01x"),            true,  0,
         0                                                                                                                                                   },
        {"ticket version 4",       KRB_TICKET,    LIT("\x61\x07\x30\x05\xa0\x03\x02\x01\x04"),                                 false,
         KRB_AP_ERR_BADVERSION,                                                                                                                            8 },
        {"AP-REQ pvno 4",          KRB_AP_REQ,    LIT("\x6e\x07\x30\x05\xa0\x03\x02\x01\x04"),                                 false,
         KRB_AP_ERR_BADVERSION,                                                                                                                            8 },
        {"AP-REQ msg-type 15",     KRB_AP_REQ,    LIT("\x6e\x0c\x30\x0a\xa0\x03\x02\x01\x05\xa1\x03\x02\x01\x0f"),
         false,                                                                                                                       KRB_AP_ERR_MSG_TYPE, 13},
        {"pvno 2^70",              KRB_AP_REQ,    LIT("\x6e\x0f\x30\x0d\xa0\x0b\x02\x09\x40\x00\x00\x00\x00\x00\x00\x00\x00"),
         false,                                                                                                                       60,                  8 },
        {"no sname",               KRB_TICKET,    LIT("\x61\x0d\x30\x0b\xa0\x03\x02\x01\x05\xa1\x04\x1b\x02NA"),               false, 0,                   15},
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct sp_arena mem;
        struct sp_err e = {0};
        union any v;

        sp_arena_init(&mem, block, sizeof block);
        if (krb_get(row[i].t, row[i].in, KRB_STRICT, &mem, &v, &e) != row[i].good ||
            e.proto != row[i].proto || e.at != row[i].at || (!row[i].good && e.kind != SP_EINPUT))
            fail_msg("%s: %s, code %d at %u: %s", row[i].why, sp_kind_name(e.kind), e.proto, e.at, e.text);
        if (row[i].t == KRB_ENC && row[i].good) { /* signs are kept as sent */
            struct sp_span again;

            assert_true(krb_make(KRB_ENC, &v, &mem, &again, &e));
            if (!sp_same(again, row[i].in))
                fail_msg("%s: written in another way", row[i].why);
        }
    }
}

static void sniffing(void **state)
{
    (void)state;
    assert_int_equal(krb_sniff(SP_LIT("\x6c\x00")), KRB_TGS_REQ);
    assert_int_equal(krb_sniff(SP_LIT("\x7e")), KRB_ERROR);
    assert_int_equal(krb_sniff(SP_LIT("\x6e")), KRB_AP_REQ);
    assert_int_equal(krb_sniff(SP_LIT("\x75")), KRB_PRIV);
    assert_int_equal(krb_sniff(SP_LIT("\x61")), KRB_TYPE_COUNT);
    assert_int_equal(krb_sniff(SP_LIT("")), KRB_TYPE_COUNT);
    assert_string_equal(krb_code_name(24), "KDC_ERR_PREAUTH_FAILED");
    assert_string_equal(krb_code_name(77), "code 77");
    assert_string_equal(krb_code_name(8), "code 8");
    assert_string_equal(krb_code_name(129), "code 129");
    assert_string_equal(krb_code_name(-1), "code out of range");
    assert_string_equal(krb_code_name(130), "code out of range");
}

static void secrets_stay_unprinted(void **state)
{
    struct krb_keyblock k = {18, SP_LIT("hunter2hunter2!!")};
    struct krb_change_passwd p = {.newpasswd = SP_LIT("hunter2")};
    char b[256];
    struct sp_text t = sp_text(b, sizeof b);

    (void)state;
    krb_print(KRB_KEYBLOCK, &k, &t);
    assert_string_equal(b, "EncryptionKey\n  keytype: 18\n  keyvalue: (16 bytes)\n");
    t = sp_text(b, sizeof b);
    krb_print(KRB_CHANGE_PASSWD, &p, &t);
    assert_string_equal(b, "ChangePasswdData\n  newpasswd: (7 bytes)\n");
}

/* ---- names ---- */

static void names(void **state)
{
    static const struct {
        const char *text;
        int32_t type;
        uint32_t count;
        const char *last, *realm; /* realm NULL: none */
        const char *back;         /* NULL: as it came */
    } row[] = {
        {"alice",                     NT_PRINCIPAL, 1, "alice",              NULL,   NULL},
        {"alice@NAS1",                NT_PRINCIPAL, 1, "alice",              "NAS1", NULL},
        {"alice@",                    NT_PRINCIPAL, 1, "alice",              "",     NULL},
        {"host/nas1.example@NAS1",    NT_SRV_INST,  2, "nas1.example",       "NAS1", NULL},
        {"alice\\@corp.example@NAS1", NT_PRINCIPAL, 1, "alice@corp.example", "NAS1", NULL},
        {"a\\/b",                     NT_PRINCIPAL, 1, "a/b",                NULL,   NULL},
        {"a\\\\b",                    NT_PRINCIPAL, 1, "a\\b",               NULL,   NULL},
        {"a\\n\\t\\b",                NT_PRINCIPAL, 1, "a\n\t\b",            NULL,   NULL},
        {"\\a\\$",                    NT_PRINCIPAL, 1, "a$",                 NULL,   "a$"},
        {"x@A\\/B",                   NT_PRINCIPAL, 1, "x",                  "A/B",  NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct sp_arena mem;
        struct sp_err e = {0};
        struct krb_name n = {0};
        struct sp_span realm = {0};
        char b[128];
        struct sp_text t = sp_text(b, sizeof b);

        sp_arena_init(&mem, block, sizeof block);
        if (!krb_parse_name(sp_str(row[i].text), &mem, &n, &realm, &e))
            fail_msg("%s: %s", row[i].text, e.text);
        assert_int_equal(n.type, row[i].type);
        assert_int_equal(n.parts.count, row[i].count);
        assert_true(sp_same(n.parts.v[n.parts.count - 1], sp_str(row[i].last)));
        assert_true((realm.p == NULL) == (row[i].realm == NULL));
        assert_true(sp_same(realm, sp_str(row[i].realm)));
        if (realm.p)
            krb_text_principal(&t, &n, realm);
        else
            krb_text_name(&t, &n);
        assert_string_equal(b, row[i].back ? row[i].back : row[i].text);
    }
}

static void bad_names(void **state)
{
    static char longest[KRB_NAME_TEXT_MAX + 2];
    static const struct {
        struct sp_span text;
        uint32_t at;
    } row[] = {
        {LIT(""),                                  0 },
        {LIT("@R"),                                0 },
        {LIT("a//b"),                              2 },
        {LIT("/a"),                                0 },
        {LIT("a/"),                                2 },
        {LIT("a\0b"),                              1 },
        {LIT("a\\"),                               2 },
        {LIT("a@R@S"),                             3 },
        {LIT("a/@R"),                              2 },
        {LIT("1/2/3/4/5/6/7/8/9/a/b/c/d/e/f/g/h"), 32},
    };
    struct sp_arena mem;
    struct krb_name n = {.type = 42};
    struct sp_span realm;
    struct sp_err e;

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        e = (struct sp_err){0};
        if (krb_parse_name(row[i].text, &mem, &n, &realm, &e) || e.kind != SP_EINPUT || e.at != row[i].at)
            fail_msg("%.*s: %s at %u: %s", SP_FMT(row[i].text), sp_kind_name(e.kind), e.at, e.text);
        assert_int_equal(mem.used, 0);
        assert_int_equal(n.type, 42);
    }
    memset(longest, 'a', sizeof longest);
    e = (struct sp_err){0};
    assert_true(krb_parse_name(sp_span(longest, KRB_NAME_TEXT_MAX), &mem, &n, &realm, &e));
    assert_false(krb_parse_name(sp_span(longest, KRB_NAME_TEXT_MAX + 1), &mem, &n, &realm, &e));
    assert_int_equal(e.kind, SP_EINPUT);
}

/* text(parse(text(n))) == text(n), for names of any bytes. */
static void name_round_trip(void **state)
{
    static const char letter[] = "ab/@\\\n\t\b\0$.\xc3";
    struct sp_rng_fixed r;

    (void)state;
    sp_rng_fixed_init(&r, 3);
    for (int i = 0; i < 5000; i++) {
        uint8_t bytes[3][6], n[4];
        struct sp_span parts[3], realm = {0};
        struct krb_name name = krb_name_of(1, parts, 0), back = {0};
        char b[256];
        struct sp_text t = sp_text(b, sizeof b);
        struct sp_arena mem;
        struct sp_err e = {0};

        sp_arena_init(&mem, block, sizeof block);
        sp_rng_fill(&r.rng, bytes, sizeof bytes);
        sp_rng_fill(&r.rng, n, sizeof n);
        name.parts.count = 1 + n[3] % 3;
        for (size_t k = 0; k < 3; k++) {
            parts[k] = sp_span(bytes[k], 1 + n[k] % 6u);
            for (size_t j = 0; j < 6; j++)
                bytes[k][j] = (uint8_t)letter[bytes[k][j] % (sizeof letter - 1)];
        }
        krb_text_principal(&t, &name, parts[0]);
        assert_true(krb_parse_name(sp_span(b, t.n), &mem, &back, &realm, &e));
        assert_true(krb_same_name(&name, &back));
        assert_true(sp_same(realm, parts[0]));
    }
}

static void name_keys(void **state)
{
    static struct sp_span alias[] = {LIT("nas1.example")};
    static const struct krb_realm realm = {
        LIT("NAS1"), {alias, 1}
    };
    static const struct {
        int32_t type;
        uint32_t count;
        struct sp_span part[2];
        const char *key; /* NULL: refused */
    } row[] = {
        {1,  1, {LIT("alice")},                     "alice"               },
        {1,  1, {LIT("Alice")},                     "Alice"               },
        {10, 1, {LIT("alice@NAS1")},                "alice"               },
        {10, 1, {LIT("alice@nas1")},                "alice"               },
        {1,  1, {LIT("alice@Nas1.Example")},        "alice"               },
        {10, 1, {LIT("alice@corp.example")},        "alice\\@corp.example"},
        {10, 1, {LIT("alice@x@NAS1")},              "alice\\@x"           },
        {10, 1, {LIT("alice@NAS1@x")},              "alice\\@NAS1\\@x"    },
        {10, 1, {LIT("alice@")},                    "alice\\@"            },
        {10, 1, {LIT("alice@.")},                   "alice\\@."           },
        {10, 1, {LIT("@NAS1")},                     NULL                  },
        {1,  1, {LIT("NAS2$")},                     "nas2$"               },
        {10, 1, {LIT("NAS2$@nas1")},                "nas2$"               },
        {2,  2, {LIT("HTTP"), LIT("NAS1.Example")}, "http/nas1.example"   },
        {1,  2, {LIT("alice@NAS1"), LIT("Admin")},  "alice\\@nas1/admin"  },
        {1,  1, {LIT("a/b\\c")},                    "a\\/b\\\\c"          },
        {1,  1, {LIT("J\xc3\x96RG")},               "J\xc3\x96RG"         },
        {2,  2, {LIT("host"), LIT("\xc3\x96X")},    "host/\xc3\x96x"      },
        {1,  0, {LIT("")},                          NULL                  },
        {1,  1, {LIT("")},                          NULL                  },
        {2,  2, {LIT("host"), LIT("")},             NULL                  },
        {1,  1, {LIT("a\0b")},                      NULL                  },
        {1,  1, {LIT("a\nb")},                      NULL                  },
        {1,  1, {LIT("a\x7f")},                     NULL                  },
        {1,  1, {LIT("a\xff")},                     NULL                  },
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct sp_span parts[2] = {row[i].part[0], row[i].part[1]}, key = {0};
        struct krb_name n = krb_name_of(row[i].type, parts, row[i].count);
        struct sp_arena mem;
        struct sp_err e = {0};
        bool ok;

        sp_arena_init(&mem, block, sizeof block);
        ok = krb_name_key(&n, &realm, &mem, &key, &e);
        if (ok != (row[i].key != NULL) || (ok && !sp_same(key, sp_str(row[i].key))))
            fail_msg("row %zu: %.*s %s", i, SP_FMT(key), e.text);
        assert_int_equal(e.kind, ok ? SP_OK : SP_EINPUT);
        assert_true(parts[0].p == row[i].part[0].p && parts[0].n == row[i].part[0].n);
    }
    assert_true(krb_is_realm(&realm, SP_LIT("NAS1")));
    assert_false(krb_is_realm(&realm, SP_LIT("nas1")));
    assert_true(krb_is_realm_alias(&realm, SP_LIT("nas1")) &&
                krb_is_realm_alias(&realm, SP_LIT("NAS1.EXAMPLE")));
    assert_true(krb_is_realm_alias(&realm, SP_LIT("")) && krb_is_realm_alias(&realm, SP_LIT(".")));
    assert_false(krb_is_realm_alias(&realm, SP_LIT("..")));
    assert_false(krb_is_realm_alias(&realm, SP_LIT("nas2")));
}

static void name_key_limits(void **state)
{
    static char text[KRB_NAME_TEXT_MAX + 1];
    struct sp_span part = {(const uint8_t *)text, KRB_NAME_TEXT_MAX}, key;
    struct krb_name n = krb_name_of(1, &part, 1);
    struct krb_realm realm = {
        LIT("R"), {NULL, 0}
    };
    struct sp_arena mem;
    struct sp_err e = {0};

    (void)state;
    memset(text, 'a', sizeof text);
    sp_arena_init(&mem, block, sizeof block);
    assert_true(krb_name_key(&n, &realm, &mem, &key, &e));
    assert_int_equal(key.n, KRB_NAME_TEXT_MAX);
    part.n++;
    assert_false(krb_name_key(&n, &realm, &mem, &key, &e));
    assert_int_equal(e.kind, SP_EINPUT);
    part.n -= 2;
    text[5] = '/';
    text[6] = '/'; /* escaped, one too long */
    e = (struct sp_err){0};
    assert_false(krb_name_key(&n, &realm, &mem, &key, &e));
    sp_arena_init(&mem, block, 8);
    part = SP_LIT("a longer name");
    e = (struct sp_err){0};
    assert_false(krb_name_key(&n, &realm, &mem, &key, &e));
    assert_int_equal(e.kind, SP_ENOMEM);
}

static void salts_and_well_known(void **state)
{
    struct sp_span parts[] = {LIT("host"), LIT("nas1")}, salt = {0};
    struct sp_span tgs[] = {LIT("krbtgt"), LIT("NAS1")}, pw[] = {LIT("kadmin"), LIT("changepw")};
    struct krb_name n = krb_name_of(NT_SRV_HST, parts, 2), t = krb_name_of(2, tgs, 2),
                    p = krb_name_of(2, pw, 2);
    struct sp_arena mem;
    struct sp_err e = {0};

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    assert_true(krb_default_salt(SP_LIT("ATHENA"), &n, &mem, &salt, &e));
    assert_true(sp_same(salt, SP_LIT("ATHENAhostnas1")));
    assert_true(krb_is_tgs_name(&t, SP_LIT("NAS1")));
    assert_false(krb_is_tgs_name(&t, SP_LIT("nas1")));
    assert_true(krb_is_changepw_name(&p));
    assert_false(krb_is_changepw_name(&t));
    assert_true(krb_is_service_name(&n));
    t.parts.count = 1;
    assert_false(krb_is_tgs_name(&t, SP_LIT("NAS1")));
    assert_false(krb_is_service_name(&t));
}

/* ---- keytab ---- */

#define KT_ENTRY "\0\1\0\4NAS1\0\5alice\0\0\0\1\x6a\0\0\0\x03\0\x12\0\2kk" /* 30 bytes */

static void keytabs(void **state)
{
    static const struct {
        const char *why;
        struct sp_span in;
        int32_t count; /* -1: refused */
        uint32_t at, kvno;
    } row[] = {
        {"empty file",                 LIT(""),                                              -1, 0,  0      },
        {"version 1",                  LIT("\5\1"),                                          -1, 0,  0      },
        {"nothing in it",              LIT("\5\2"),                                          0,  0,  0      },
        {"8-bit kvno",                 LIT("\5\2\0\0\0\x1e" KT_ENTRY),                       1,  0,  3      },
        {"32-bit kvno",                LIT("\5\2\0\0\0\x22" KT_ENTRY "\0\1\0\3"),            1,  0,  0x10003},
        {"32-bit kvno of 0",           LIT("\5\2\0\0\0\x22" KT_ENTRY "\0\0\0\0"),            1,  0,  3      },
        {"flags behind it",            LIT("\5\2\0\0\0\x26" KT_ENTRY "\0\0\0\7\0\0\0\0"),    1,  0,  7      },
        {"hole in front",
         LIT("\5\2\xff\xff\xff\xfc"
             "junk"
             "\0\0\0\x1e" KT_ENTRY),
         1,                                                                                      0,  3      },
        {"hole at the end",
         LIT("\5\2\0\0\0\x1e" KT_ENTRY "\xff\xff\xff\xfc"
             "junk"),
         1,                                                                                      0,  3      },
        {"two",                        LIT("\5\2\0\0\0\x1e" KT_ENTRY "\0\0\0\x1e" KT_ENTRY), 2,  0,  3      },
        {"end mark",                   LIT("\5\2\0\0\0\x1e" KT_ENTRY "\0\0\0\0junk"),        1,  0,  3      },
        {"hole past the end",
         LIT("\5\2\xff\xff\xff\xfb"
             "junk"),
         -1,                                                                                     2,  0      },
        {"hole of 2^31",               LIT("\5\2\x80\0\0\0junk"),                            -1, 2,  0      },
        {"record past the end",        LIT("\5\2\0\0\0\x1f" KT_ENTRY),                       -1, 2,  0      },
        {"length cut",                 LIT("\5\2\0\0\0"),                                    -1, 2,  0      },
        {"key longer than its record",
         LIT("\5\2\0\0\0\x1d"
             "\0\1\0\4NAS1\0\5alice\0\0\0\1\x6a\0\0\0\x03\0\x12\0\2k"),
         -1,                                                                                     34, 0      },
        {"17 components",              LIT("\5\2\0\0\0\2\0\x11"),                            -1, 6,  0      },
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct sp_arena mem;
        struct sp_err e = {0};
        struct krb_keytab kt = {.count = 99};
        bool ok;

        sp_arena_init(&mem, block, sizeof block);
        ok = krb_get_keytab(row[i].in, &mem, &kt, &e);
        if (ok != (row[i].count >= 0) || e.at != row[i].at || kt.count != (ok ? (uint32_t)row[i].count : 99))
            fail_msg("%s: %s at %u: %s", row[i].why, sp_kind_name(e.kind), e.at, e.text);
        assert_int_equal(e.kind, ok ? SP_OK : SP_EINPUT);
        if (ok && kt.count > 0) {
            assert_int_equal(kt.v[0].kvno, row[i].kvno);
            assert_int_equal(kt.v[0].etype, 18);
            assert_int_equal(kt.v[0].timestamp, 0x6a000000);
            assert_int_equal(kt.v[0].name.type, 1);
            assert_true(sp_same(kt.v[0].realm, SP_LIT("NAS1")) && sp_same(kt.v[0].key, SP_LIT("kk")));
            assert_true(sp_same(kt.v[0].name.parts.v[0], SP_LIT("alice")));
        }
    }
}

static void keytab_round_trip(void **state)
{
    struct sp_span parts[] = {LIT("host"), LIT("nas1")};
    struct krb_keytab_entry v[2] = {
        {krb_name_of(3, parts, 2), LIT("R"), 0xffffffff, 0x12345, 18,
         LIT("0123456789abcdef0123456789abcdef")                              },
        {krb_name_of(1, parts, 1), LIT("R"), 0,          255,     -17, LIT("")},
    };
    struct krb_keytab kt = {v, 2}, back = {0};
    uint8_t b[256];
    size_t need = 0, n = 0;

    (void)state;
    for (size_t cap = 0; cap <= 160; cap++) {
        struct sp_arena mem;
        struct sp_err e = {0};
        bool ok = krb_put_keytab(&kt, b, cap, &n, &e);

        assert_int_equal(e.kind, ok ? SP_OK : SP_EFULL);
        assert_true(need == 0 || need == n);
        need = n;
        assert_true(ok == (cap >= need));
        if (!ok)
            continue;
        sp_arena_init(&mem, block, sizeof block);
        assert_true(krb_get_keytab(sp_span(b, n), &mem, &back, &e));
        assert_int_equal(back.count, 2);
        for (size_t i = 0; i < 2; i++) {
            assert_true(krb_same_name(&back.v[i].name, &v[i].name));
            assert_true(back.v[i].kvno == v[i].kvno && back.v[i].etype == v[i].etype);
            assert_true(back.v[i].timestamp == v[i].timestamp && sp_same(back.v[i].key, v[i].key));
        }
        for (size_t cut = 0; cut < n; cut++) {
            struct sp_err c = {0};

            if (krb_get_keytab(sp_span(b, cut), &mem, &back, &c)) /* only between records */
                assert_true(back.count < 2 && (cut == 2 || back.count == 1));
            else
                assert_true(c.kind == SP_EINPUT && c.at <= cut);
        }
    }
    assert_true(need > 0 && need <= 160);
    v[0].etype = 40000;
    assert_false(krb_put_keytab(&kt, b, sizeof b, &n, &(struct sp_err){0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(values_come_back),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(trailing_bytes_are_refused),
        cmocka_unit_test(every_length_is_checked),
        cmocka_unit_test(every_byte_changed),
        cmocka_unit_test(arena_of_every_size),
        cmocka_unit_test(buffer_of_every_size),
        cmocka_unit_test(deep_nesting),
        cmocka_unit_test(list_limits),
        cmocka_unit_test(body_limits),
        cmocka_unit_test(as_request_in_full),
        cmocka_unit_test(message_refusals),
        cmocka_unit_test(number_refusals),
        cmocka_unit_test(sniffing),
        cmocka_unit_test(secrets_stay_unprinted),
        cmocka_unit_test(names),
        cmocka_unit_test(bad_names),
        cmocka_unit_test(name_round_trip),
        cmocka_unit_test(name_keys),
        cmocka_unit_test(name_key_limits),
        cmocka_unit_test(salts_and_well_known),
        cmocka_unit_test(keytabs),
        cmocka_unit_test(keytab_round_trip),
    };

    return cmocka_run_group_tests_name("krb", tests, NULL, NULL);
}
