/* SPDX-License-Identifier: MIT */
/* RFC 9588 appendix: every value on the way, for both groups; and two fresh parties who agree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "crypto/openssl/groups.h"
#include "krb/spake.h"

enum { FIELD_MAX = 512, FIELDS = 16 };
struct field {
    char name[16];
    uint8_t b[FIELD_MAX];
    size_t n;
};
struct section {
    int32_t etype, group;
    struct field v[FIELDS];
    size_t count;
};

static struct crypto *crypto;
static struct p256 *p256;
static _Alignas(16) uint8_t block[1 << 16];

static int set_up(void **state)
{
    struct sp_err e = {0};

    (void)state;
    crypto = crypto_new(&e);
    p256 = p256_new();
    return !crypto || !p256;
}

static int tear_down(void **state)
{
    (void)state;
    p256_free(p256);
    crypto_free(crypto);
    return 0;
}

static struct sp_span at(const struct section *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->v[i].name, name) == 0)
            return sp_span(s->v[i].b, s->v[i].n);
    fail_msg("no field %s", name);
    return sp_span(NULL, 0);
}

static void open_section(struct section *s, const char *line)
{
    *s = (struct section){.etype = strstr(line, "aes128") ? 17 : 18,
                          .group = strstr(line, "edwards25519") ? CRYPTO_EDWARDS25519
                                   : strstr(line, "p256")       ? CRYPTO_P256
                                                                : 0};
    if (strncmp(line, "[aes", 4) != 0)
        s->group = 0;
}

static void add_field(struct section *s, const char *line)
{
    struct field *f = &s->v[s->count];
    char hex[2 * FIELD_MAX] = "";

    if (s->count < FIELDS && sscanf(line, "%15s = %1023s", f->name, hex) >= 1) {
        assert_true(sp_unhex(sp_str(hex), f->b, sizeof f->b, &f->n));
        s->count++;
    }
}

static void same(const char *what, const void *got, struct sp_span want)
{
    if (memcmp(got, want.p, want.n) != 0)
        fail_msg("%s differs", what);
}

static void check_publics(const struct section *s)
{
    struct sp_span w = at(s, "w");
    uint8_t got[CRYPTO_GROUP_POINT_MAX];

    if (s->group == CRYPTO_EDWARDS25519) {
        assert_true(edwards25519_public(CRYPTO_BLIND_M, w.p, at(s, "x").p, got));
        same("T", got, at(s, "T"));
        assert_true(edwards25519_public(CRYPTO_BLIND_N, w.p, at(s, "y").p, got));
    } else {
        assert_true(p256_public(p256, CRYPTO_BLIND_M, w.p, at(s, "x").p, got));
        same("T", got, at(s, "T"));
        assert_true(p256_public(p256, CRYPTO_BLIND_N, w.p, at(s, "y").p, got));
    }
    same("S", got, at(s, "S"));
}

static void check_shared(const struct section *s)
{
    uint8_t got[CRYPTO_GROUP_POINT_MAX];
    struct sp_err e = {0};

    assert_true(crypto_group_result(crypto, s->group, CRYPTO_BLIND_N, at(s, "w").p, at(s, "x").p, at(s, "S"),
                                    got, &e));
    same("K of the KDC", got, at(s, "K"));
    assert_true(crypto_group_result(crypto, s->group, CRYPTO_BLIND_M, at(s, "w").p, at(s, "y").p, at(s, "T"),
                                    got, &e));
    same("K of the client", got, at(s, "K"));
}

static void check_keys(const struct section *s, const struct sp_key *ikey)
{
    const char *name[] = {"K0", "K1", "K2", "K3"};
    struct krb_spake_hash h = {0};
    struct sp_err e = {0};
    uint8_t w[CRYPTO_GROUP_SCALAR_MAX];
    struct sp_key k = {0};

    assert_true(krb_spake_w(crypto, s->group, ikey, w, &e));
    same("w", w, at(s, "w"));
    assert_true(krb_spake_update(crypto, s->group, &h, at(s, "support"), at(s, "challenge"), &e));
    assert_true(krb_spake_update(crypto, s->group, &h, at(s, "S"), sp_span(NULL, 0), &e));
    same("thash", h.b, at(s, "thash"));
    for (uint32_t n = 0; n < 4; n++) {
        struct krb_spake_derivation from = {s->group, ikey, w, at(s, "K"), &h, at(s, "body")};

        assert_true(krb_spake_key(crypto, &from, n, &k, &e));
        same(name[n], k.b, at(s, name[n]));
        assert_int_equal(k.n, at(s, name[n]).n);
    }
}

static void check_section(const struct section *s)
{
    struct sp_key ikey = {.etype = s->etype, .n = (uint8_t)at(s, "ikey").n};

    memcpy(ikey.b, at(s, "ikey").p, ikey.n);
    check_publics(s);
    check_shared(s);
    check_keys(s, &ikey);
}

static void rfc9588_vectors(void **state)
{
    static struct section s;
    char line[4096];
    FILE *f = fopen(TEST_VECTORS "/spake-rfc9588.txt", "r");
    int checked = 0;

    (void)state;
    assert_non_null(f);
    while (fgets(line, sizeof line, f) || s.count) {
        bool end = feof(f) || line[0] == '[';

        if (end && s.count && s.group) {
            check_section(&s);
            checked++;
        }
        if (feof(f))
            break;
        if (line[0] == '[')
            open_section(&s, line);
        else if (s.group)
            add_field(&s, line);
    }
    fclose(f);
    assert_int_equal(checked, 4); /* P-384 and P-521 are not ours */
}

/* Private scalars are drawn, the shared value agrees; with another w it does not. */
static void fresh_parties_agree(void **state)
{
    static const int32_t group[] = {CRYPTO_EDWARDS25519, CRYPTO_P256};
    struct sp_rng_fixed r;

    (void)state;
    sp_rng_fixed_init(&r, 9588);
    for (int i = 0; i < 64; i++) {
        const struct crypto_group_info *g = crypto_find_group(group[i % 2]);
        uint8_t w[32], x[32], y[32], t[33], s[33], a[33], b[33];
        struct sp_err e = {0};

        sp_rng_fill(&r.rng, w, sizeof w);
        assert_true(crypto_group_keygen(crypto, g->group, CRYPTO_BLIND_M, w, &r.rng, x, t, &e));
        assert_true(crypto_group_keygen(crypto, g->group, CRYPTO_BLIND_N, w, &r.rng, y, s, &e));
        assert_true(
            crypto_group_result(crypto, g->group, CRYPTO_BLIND_N, w, x, sp_span(s, g->point_n), a, &e));
        assert_true(
            crypto_group_result(crypto, g->group, CRYPTO_BLIND_M, w, y, sp_span(t, g->point_n), b, &e));
        assert_memory_equal(a, b, g->point_n);
        w[5] ^= 1;
        assert_true(
            crypto_group_result(crypto, g->group, CRYPTO_BLIND_M, w, y, sp_span(t, g->point_n), b, &e));
        assert_memory_not_equal(a, b, g->point_n);
    }
}

static void points_that_are_none(void **state)
{
    static const struct {
        const char *why;
        int32_t group;
        size_t n;
        uint8_t first, rest;
    } rows[] = {
        {"edwards25519, order 4",       CRYPTO_EDWARDS25519, 32, 0,    0   },
        {"edwards25519, not canonical", CRYPTO_EDWARDS25519, 32, 0xff, 0xff},
        {"edwards25519, too short",     CRYPTO_EDWARDS25519, 31, 1,    2   },
        {"edwards25519, too long",      CRYPTO_EDWARDS25519, 33, 1,    2   },
        {"P-256, not on the curve",     CRYPTO_P256,         33, 2,    0xff},
        {"P-256, uncompressed",         CRYPTO_P256,         33, 4,    7   },
        {"P-256, infinity",             CRYPTO_P256,         33, 0,    0   },
        {"P-256, one byte of infinity", CRYPTO_P256,         1,  0,    0   },
        {"a group that is not ours",    3,                   49, 2,    1   },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t p[64], w[32] = {3}, x[32] = {8}, out[33];
        struct sp_err e = {0};

        memset(p, rows[i].rest, sizeof p);
        p[0] = rows[i].first;
        if (crypto_group_result(crypto, rows[i].group, CRYPTO_BLIND_M, w, x, sp_span(p, rows[i].n), out, &e))
            fail_msg("%s: taken", rows[i].why);
        if (e.kind != SP_EREFUSED || e.proto != 24)
            fail_msg("%s: %s %d", rows[i].why, sp_kind_name(e.kind), e.proto);
    }
}

/* PA-SPAKE is a CHOICE: exactly one. */
static void choices(void **state)
{
    static const struct {
        const char *hex;
        uint32_t at; /* of the refusal; 0: read */
    } rows[] = {
        {"a0093007a0053003020101",     0 },
        {"a409300730053003020101",     99},
        {"a0093007a0053003020101a000", 11},
        {"3009a0073005300302",         99},
        {"",                           99},
    };
    struct krb_pa_spake none = {0}, two = {.has = 3};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct krb_pa_spake v = {.has = 77};
        struct sp_err e = {0};
        struct sp_arena mem;
        uint8_t in[64];
        size_t n;
        bool ok;

        sp_arena_init(&mem, block, sizeof block);
        assert_true(sp_unhex(sp_str(rows[i].hex), in, sizeof in, &n));
        ok = krb_get(KRB_PA_SPAKE, sp_span(in, n), KRB_STRICT, &mem, &v, &e);
        if (ok != (rows[i].at == 0) ||
            (!ok && (e.kind != SP_EINPUT || e.at != (rows[i].at == 99 ? 0 : rows[i].at))))
            fail_msg("row %zu: %s at %u", i, e.text, e.at);
        assert_int_equal(v.has, ok ? 1 : 77);
    }
    for (int i = 0; i < 2; i++) {
        struct sp_span out;
        struct sp_err e = {0};
        uint8_t buf[64];

        assert_false(krb_put(KRB_PA_SPAKE, i ? &two : &none, buf, sizeof buf, &out, &e));
        assert_int_equal(e.kind, SP_EINPUT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc9588_vectors),
        cmocka_unit_test(fresh_parties_agree),
        cmocka_unit_test(points_that_are_none),
        cmocka_unit_test(choices),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
