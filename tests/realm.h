/* SPDX-License-Identifier: MIT */
/* A realm in memory: our own KDC engine with a few accounts, and what tests make messages with. Included once
 * per test program. */
#ifndef SP_TESTS_REALM_H
#define SP_TESTS_REALM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "kdc/kdc.h"

#define REALM "NAS1"
#define NOW INT64_C(1700000000)
#define WORD "correct horse" /* every user's */

static struct crypto *crypto;
static struct sp_rng_fixed rng;
static struct sp_env env;     /* the client's */
static struct sp_arena scrap; /* whatever a test makes */
static _Alignas(16) uint8_t scrap_block[16 << 20];

static inline struct krb_name name_of(const char *text, int32_t type)
{
    struct sp_err e = {0};
    struct krb_name n = {
        type, {sp_new_array(&scrap, struct sp_span, 4, &e), 0}
    };

    for (const char *p = text; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL)
        n.parts.v[n.parts.count++] = sp_span(p, strcspn(p, "/"));
    return n;
}

static inline struct sp_span copy(struct sp_span s)
{
    struct sp_err e = {0};
    struct sp_span c = sp_dup(&scrap, s, &e);

    assert_non_null(c.p);
    return c;
}

static inline struct sp_span put(enum krb_type t, const void *m)
{
    struct sp_err e = {0};
    struct sp_span s;

    if (!krb_make(t, m, &scrap, &s, &e))
        fail_msg("%s: %s", krb_type_name(t), e.text);
    return s;
}

static inline void get(enum krb_type t, struct sp_span in, void *m)
{
    struct sp_err e = {0};

    if (!krb_get(t, in, KRB_STRICT, &scrap, m, &e))
        fail_msg("%s: %s", krb_type_name(t), e.text);
}

static inline struct krb_enc seal(enum krb_type t, const void *m, const struct sp_key *k, uint32_t usage)
{
    struct sp_err e = {0};
    struct sp_span plain = put(t, m);
    size_t n = crypto_cipher_n(k->etype, plain.n);
    uint8_t *p = sp_alloc(&scrap, n, &e);

    assert_true(crypto_encrypt(crypto, k, usage, &rng.rng, plain, p, &n, &e));
    return (struct krb_enc){.etype = k->etype, .cipher = sp_span(p, n)};
}

static inline bool open_sealed(enum krb_type t, const struct krb_enc *enc, const struct sp_key *k,
                               uint32_t usage, void *out)
{
    struct sp_err e = {0};
    uint8_t *p = sp_alloc(&scrap, enc->cipher.n, &e);
    size_t n = enc->cipher.n;

    return crypto_decrypt(crypto, k, usage, enc->cipher, p, &n, &e) &&
           krb_get(t, sp_span(p, n), KRB_STRICT, &scrap, out, &e);
}

static inline const struct krb_pa *find_pa(const struct krb_padata *list, int32_t type)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (list->v[i].type == type)
            return &list->v[i];
    return NULL;
}

/* ---- our own KDC ---- */

#define ACCOUNTS_MAX 16
static struct world {
    struct kdc_config cf;
    struct kdc k;
    struct store_lookup port;
    struct store_account account[ACCOUNTS_MAX];
    struct store_key keys[ACCOUNTS_MAX][16];
    uint32_t count;
    int64_t ahead_us;
    struct kdc_actions out;
} W;
static uint8_t keep_block[1 << 18], kdc_block[1 << 20];
static struct sp_arena keep;

static bool find(struct store_lookup *s, struct sp_span lookup, struct sp_arena *to,
                 struct store_account *out, struct sp_err *e)
{
    (void)s;
    (void)to;
    for (uint32_t i = 0; i < W.count; i++)
        if (sp_same(W.account[i].lookup, lookup)) {
            *out = W.account[i];
            return true;
        }
    return sp_fail(e, SP_ENOTFOUND, 0, "no such account");
}

static bool find_id(struct store_lookup *s, uint64_t id, struct sp_arena *to, struct store_account *out,
                    struct sp_err *e)
{
    (void)s;
    (void)to;
    for (uint32_t i = 0; i < W.count; i++)
        if (W.account[i].id == id) {
            *out = W.account[i];
            return true;
        }
    return sp_fail(e, SP_ENOTFOUND, 0, "no such account");
}

static uint64_t version(struct store_lookup *s)
{
    (void)s;
    return 0; /* nothing is remembered */
}

static inline struct store_account *add(const char *text, enum store_kind kind)
{
    struct store_account *a = &W.account[W.count];
    struct sp_err e = {0};
    struct krb_name n;
    struct sp_span none;

    assert_true(krb_parse_name(sp_str(text), &keep, &n, &none, &e));
    *a = (struct store_account){
        .id = 100 + W.count, .generation = 7, .kind = kind, .name = sp_str(text), .keys = W.keys[W.count]};
    W.count++;
    assert_true(krb_name_key(&n, &W.cf.realm, &keep, &a->lookup, &e));
    if (kind == STORE_USER)
        assert_true(kdc_make_keys(&W.cf, crypto, &n, sp_span(NULL, 0), SP_LIT(WORD), 1, &keep, a->keys,
                                  &a->key_count, &e));
    else
        assert_true(kdc_make_random_keys(&W.cf, &rng.rng, 1, NULL, 0, a->keys, &a->key_count, &e));
    return a;
}

static inline struct store_account *account(const char *text)
{
    for (uint32_t i = 0; i < W.count; i++)
        if (sp_same(W.account[i].name, sp_str(text)))
            return &W.account[i];
    fail_msg("no account %s", text);
    return NULL;
}

/* krbtgt, alice, host/nas1 and backup/nas1. */
static inline bool realm_open(void)
{
    static void *block;
    static struct sp_span alias[1] = {
        {(const uint8_t *)"NAS1.EXAMPLE", 12}
    };
    struct kdc_shared_size size = {512, 1024, 64};
    struct sp_err e = {0};

    crypto_free(crypto);
    crypto = crypto_new(&e);
    sp_rng_fixed_init(&rng, 4120);
    env = (struct sp_env){NOW * 1000000 + 123456, INT64_C(5000) * 1000000, &rng.rng};
    sp_arena_init(&scrap, scrap_block, sizeof scrap_block);
    sp_arena_init(&keep, keep_block, sizeof keep_block);
    memset(&W, 0, sizeof W);
    kdc_config_defaults(&W.cf, KDC_STANDARD);
    W.cf.realm = (struct krb_realm){
        SP_LIT(REALM), {alias, 1}
    };
    W.cf.forwardable = true;
    W.cf.renew_life_s = 7 * 86400;
    for (int i = 0; i < 4; i++)
        W.cf.iterations[i] = 4097; /* fast, and not the default */
    if (block)
        munmap(block, kdc_shared_bytes(size));
    block = mmap(NULL, kdc_shared_bytes(size), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    W.port = (struct store_lookup){.find = find, .find_id = find_id, .version = version};
    W.k.config = &W.cf;
    W.k.accounts = &W.port;
    W.k.crypto = crypto;
    W.k.shared = kdc_shared_init(block, size, (const uint8_t *)"0123456789abcdef");
    add("krbtgt/" REALM, STORE_KRBTGT);
    add("alice", STORE_USER);
    add("host/nas1", STORE_SERVICE);
    add("backup/nas1", STORE_SERVICE);
    return crypto != NULL;
}

static inline void realm_close(void)
{
    crypto_free(crypto);
    crypto = NULL;
}

static inline struct sp_span our_kdc(struct sp_span request)
{
    struct kdc_request q = {
        .bytes = request, .door = KDC_TCP, .source = {.id = {4, 192, 0, 2, 1}, .text = "192.0.2.1"}
    };
    struct sp_env there = env;
    struct sp_arena kmem;
    struct sp_err e = {0};

    there.wall_us += W.ahead_us;
    sp_arena_init(&kmem, kdc_block, sizeof kdc_block);
    kdc_step(&W.k, there, &q, &kmem, &W.out);
    return sp_dup(&scrap, W.out.reply, &e);
}

#endif
