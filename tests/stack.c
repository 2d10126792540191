/* SPDX-License-Identifier: MIT */
/* T004: a request needs at most 64 KiB of stack, whatever is in it: every exchange over a real store and the
 * OpenSSL backend, and nesting 10^5 deep in every reader. Each case runs in a thread on a painted stack; what
 * is no longer painted was used, the thread's own needs included. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bytes/der.h"
#include "krb/keytab.h"
#include "requests.h"
#include "store/lmdb/lmdb.h"
#include "world.h"

enum { LIMIT = 64 * 1024, STACK = 1 << 20, PAINT = 0xa5, DEEP = 100000 };

#if defined(__SANITIZE_ADDRESS__)
#define WIDENED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
#define WIDENED 1
#endif
#endif
#ifndef WIDENED
#define WIDENED                                                                                              \
    0 /* sanitizers put space between variables: the cases run there, their stack is not judged              \
       */
#endif

static struct {
    struct fuzz_world *w;
    struct bench_maker m;
    struct lmdb_store *store;
    char dir[64];
    struct sp_arena keep;
    struct bench_tgt changepw;
} S;
static uint8_t keep_block[4 << 20], scratch[BENCH_SCRATCH], read_block[1 << 20], deep[8 * DEEP];
static const uint8_t master[32] = {1};

/* ---- the measurement ---- */

static size_t stack_of(void *(*f)(void *), void *arg)
{
    uint8_t *p = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_attr_t a;
    pthread_t id;
    size_t free_n = 0;

    assert_true(p != MAP_FAILED);
    memset(p, PAINT, STACK);
    assert_int_equal(pthread_attr_init(&a), 0);
    assert_int_equal(pthread_attr_setstack(&a, p, STACK), 0);
    assert_int_equal(pthread_create(&id, &a, f, arg), 0);
    assert_int_equal(pthread_join(id, NULL), 0);
    while (free_n < STACK && p[free_n] == PAINT)
        free_n++;
    pthread_attr_destroy(&a);
    munmap(p, STACK);
    return STACK - free_n;
}

static void judge(const char *what, size_t n)
{
    print_message("%-40s %6zu bytes of stack\n", what, n);
    if (!WIDENED)
        assert_in_range(n, 1, LIMIT);
}

/* ---- a realm in a store ---- */

static int begin(void **state)
{
    struct sp_err e = {0};
    struct store_account a;

    (void)state;
    S.w = fuzz_world();
    sp_arena_init(&S.keep, keep_block, sizeof keep_block);
    S.m = (struct bench_maker){.crypto = S.w->kdc.crypto,
                               .env = S.w->env,
                               .scratch = scratch,
                               .etype = ENCTYPE_AES256_CTS_HMAC_SHA1_96};
    snprintf(S.dir, sizeof S.dir, "/tmp/sp-stack-XXXXXX");
    assert_non_null(mkdtemp(S.dir));
    S.store = lmdb_open(S.dir, LMDB_CREATE, master, S.w->kdc.crypto, S.w->env.rng, &e);
    assert_non_null(S.store);
    for (uint64_t id = 1; S.w->kdc.accounts->find_id(S.w->kdc.accounts, id, &S.w->mem, &a, &e); id++) {
        a.id = 0;
        assert_true(lmdb_put(S.store, &a, &e));
    }
    S.w->kdc.accounts = lmdb_lookup(S.store);
    return 0;
}

static int end(void **state)
{
    char command[128];

    (void)state;
    lmdb_close(S.store);
    snprintf(command, sizeof command, "rm -rf %s", S.dir);
    return system(command); /* NOLINT: a path of our own making */
}

struct asking {
    struct sp_span bytes;
    bool kpasswd;
    struct kdc_actions out;
};

static void *ask(void *arg)
{
    struct asking *x = arg;
    struct kdc_request q = fuzz_request(x->bytes, FUZZ_NEAR | KDC_TCP);
    struct sp_span reply;

    sp_arena_reset(&S.w->mem);
    if (!x->kpasswd) {
        kdc_step(&S.w->kdc, S.w->env, &q, &S.w->mem, &x->out);
        return NULL;
    }
    kdc_kpasswd_step(&S.w->kdc, S.w->env, &q, &S.w->mem, &x->out);
    if (x->out.has_change)
        kdc_finish_change(&S.w->kdc, S.w->env, x->out.change, 0, SP_LIT("done"), &S.w->mem, &reply);
    return NULL;
}

/* Judges one exchange; its code must be the one that shows how far it went. */
static struct sp_span exchange(const char *what, struct asking *x, int32_t code)
{
    size_t n = stack_of(ask, x);

    if (x->out.record.code != code)
        print_error("%s: code %d, %s\n", what, x->out.record.code, x->out.record.text);
    assert_int_equal(x->out.record.code, code);
    judge(what, n);
    return x->out.reply;
}

static struct bench_request made(enum bench_kind kind, uint32_t user)
{
    struct bench_request r;
    struct sp_err e = {0};

    assert_true(bench_make(&S.m, kind, user, 1, &S.keep, &r, &e));
    return r;
}

/* The same AS-REQ for another service. */
static struct sp_span for_service(struct sp_span request, struct sp_span sname[2])
{
    struct krb_kdc_req req;
    struct sp_err e = {0};
    struct sp_span out;

    assert_true(krb_get(KRB_AS_REQ, request, KRB_STRICT, &S.keep, &req, &e));
    req.body.sname.parts = (struct sp_spans){sname, 2};
    assert_true(krb_make(KRB_AS_REQ, &req, &S.keep, &out, &e));
    return out;
}

static void as_and_tgs(void **state)
{
    struct sp_span service[2] = {SP_LIT("kadmin"), SP_LIT("changepw")}, reply;
    struct bench_request r = made(BENCH_AS_PLAIN, FUZZ_PLAIN);
    static struct asking x;
    struct sp_err e = {0};

    (void)state;
    x.bytes = r.bytes;
    (void)exchange("AS-REQ without a proof", &x, KDC_ERR_PREAUTH_REQUIRED);
    r = made(BENCH_AS_TS, FUZZ_PLAIN);
    x.bytes = r.bytes;
    reply = exchange("AS-REQ with a proof", &x, 0);
    assert_true(bench_check(S.m.crypto, &r, reply, &S.keep, &S.m.tgt[0], &e));
    x.bytes = made(BENCH_AS_TS, FUZZ_USERS + 1).bytes;
    (void)exchange("AS-REQ of nobody", &x, KDC_ERR_PREAUTH_FAILED);
    x.bytes = made(BENCH_TGS, 0).bytes;
    (void)exchange("TGS-REQ", &x, 0);
    r = made(BENCH_AS_TS, FUZZ_PLAIN);
    x.bytes = for_service(r.bytes, service);
    reply = exchange("AS-REQ for kadmin/changepw", &x, 0);
    assert_true(bench_check(S.m.crypto, &r, reply, &S.keep, &S.changepw, &e));
}

/* ---- password change (RFC 3244) ---- */

static struct sp_span put(enum krb_type t, const void *m)
{
    struct sp_err e = {0};
    struct sp_span out;

    assert_true(krb_make(t, m, &S.keep, &out, &e));
    return out;
}

static struct krb_enc sealed(const struct sp_key *key, uint32_t usage, enum krb_type t, const void *m)
{
    struct sp_span plain = put(t, m);
    size_t n = crypto_cipher_n(key->etype, plain.n);
    struct sp_err e = {0};
    uint8_t *p = sp_alloc(&S.keep, n, &e);

    assert_true(p && crypto_encrypt(S.m.crypto, key, usage, S.w->env.rng, plain, p, &n, &e));
    return (struct krb_enc){.etype = key->etype, .cipher = sp_span(p, n)};
}

static struct sp_span ap_req(const struct bench_tgt *t, const struct sp_key *subkey)
{
    char name[BENCH_NAME_MAX];
    struct sp_span cname[1] = {bench_user_name(t->user, name)};
    struct krb_authenticator a = {.has = KRB_BIT(6) | KRB_BIT(7),
                                  .vno = 5,
                                  .crealm = SP_LIT(BENCH_REALM),
                                  .cname = krb_name_of(NT_PRINCIPAL, cname, 1),
                                  .ctime = FUZZ_NOW_S,
                                  .seq = 5};
    struct krb_ap_req ap = {.pvno = 5, .msg_type = 14};
    struct sp_err e = {0};

    a.subkey = (struct krb_keyblock){subkey->etype, sp_span(subkey->b, subkey->n)};
    ap.authenticator = sealed(&t->session, KU_AP_REQ_AUTH, KRB_AUTHENTICATOR, &a);
    assert_true(krb_get(KRB_TICKET, sp_span(t->ticket, t->ticket_n), KRB_STRICT, &S.keep, &ap.ticket, &e));
    return put(KRB_AP_REQ, &ap);
}

static void password_change(void **state)
{
    static const uint8_t address[4] = {192, 0, 2, 7};
    struct sp_key subkey = {.n = 32, .etype = 18, .b = {9}};
    struct krb_enc_priv part = {.has = KRB_BIT(3), .user_data = SP_LIT("Violet-Harbour-42"), .seq = 5};
    struct krb_priv p = {.pvno = 5, .msg_type = 21};
    static uint8_t frame[8192];
    static struct asking x;
    struct sp_span ap, priv;
    size_t n;

    (void)state;
    part.saddr.type = 2;
    part.saddr.address = sp_span(address, sizeof address);
    ap = ap_req(&S.changepw, &subkey);
    p.enc = sealed(&subkey, KU_PRIV, KRB_ENC_PRIV, &part);
    priv = put(KRB_PRIV, &p);
    n = 6 + ap.n + priv.n;
    memcpy(frame, (uint8_t[6]){(uint8_t)(n >> 8), (uint8_t)n, 0, 1, (uint8_t)(ap.n >> 8), (uint8_t)ap.n}, 6);
    memcpy(frame + 6, ap.p, ap.n);
    memcpy(frame + 6 + ap.n, priv.p, priv.n);
    x = (struct asking){.bytes = sp_span(frame, n), .kpasswd = true};
    (void)exchange("password change", &x, 0);
    assert_true(x.out.has_change);
}

/* ---- depth ---- */

static void *read_all(void *arg)
{
    static const uint8_t first[] = {0, 0x30, 0x61, 0x6a, 0x6c, 0xa0, 0x7e, 0x24};
    static union {
        uint8_t b[1024];
        max_align_t align;
    } v;
    struct sp_span nested = *(struct sp_span *)arg, in = nested;

    for (size_t f = 0; f < sizeof first; f++) {
        if (first[f]) {
            memset(deep, first[f], sizeof deep);
            in = sp_span(deep, DEEP);
        }
        for (int t = 0; t < KRB_TYPE_COUNT; t++) {
            struct sp_arena mem;
            struct sp_err e = {0};

            sp_arena_init(&mem, read_block, sizeof read_block);
            if (krb_get((enum krb_type)t, in, KRB_UNKNOWN_TAIL, &mem, &v, &e))
                abort();
        }
    }
    return NULL;
}

/* In a request, as deep as fits: where any value may stand, and from the first byte on. */
static void *ask_nested(void *arg)
{
    static struct asking x;
    static const uint8_t first[] = {0x6a, 0x6c, 0x30, 0xa0};

    (void)arg;
    for (size_t f = 0; f < sizeof first; f++)
        for (int k = 0; k < 2; k++) {
            memset(deep, first[f], KDC_MESSAGE_MAX);
            x = (struct asking){.bytes = sp_span(deep, KDC_MESSAGE_MAX), .kpasswd = k == 1};
            ask(&x);
        }
    return NULL;
}

static void depth(void **state)
{
    struct sp_err e = {0};
    struct sp_emit o = sp_emit_to(deep, sizeof deep, &e);
    struct sp_span in = {0}, copy;

    (void)state;
    for (int i = 0; i < DEEP; i++)
        sp_put_der_head(&o, i % 2 ? DER_SEQUENCE : DER_CONTEXT, 0);
    assert_true(sp_put_done(&o, &in));
    copy = sp_dup(&S.keep, in, &e);
    assert_int_equal(copy.n, in.n);
    judge("10^5 levels, every message type", stack_of(read_all, &copy));
    judge("requests of nothing but levels", stack_of(ask_nested, NULL));
}

/* ---- the measurement sees what it should ---- */

static void *use_much(void *arg)
{
    volatile uint8_t much[LIMIT + 4096];

    for (size_t i = 0; i < sizeof much; i += 64)
        much[i] = 1;
    *(int *)arg = much[64];
    return NULL;
}

static void control(void **state)
{
    int one = 0;

    (void)state;
    assert_in_range(stack_of(use_much, &one), LIMIT + 4096, LIMIT + 65536);
    assert_int_equal(one, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_and_tgs),
        cmocka_unit_test(password_change),
        cmocka_unit_test(depth),
        cmocka_unit_test(control),
    };

    return cmocka_run_group_tests_name("stack", tests, begin, end);
}
