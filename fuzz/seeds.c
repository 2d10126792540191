/* SPDX-License-Identifier: MIT */
/* Writes first corpora: real messages, made by the message tables and the null backend. fuzz/run --grow adds
 * what the fuzzer finds from there. */
#include "world.h"

#include "bytes/walk.h"
#include "krb/keytab.h"
#include "krb/spake.h"
#include "requests.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { VALUES = 4, ROOM = 1 << 20, STRUCT_MAX = 1024 };

static const char *root;
static uint8_t scratch[BENCH_SCRATCH], block[ROOM], out_block[ROOM];

_Noreturn static void die(const char *what, const struct sp_err *e)
{
    fprintf(stderr, "fuzz-seeds: %s%s%s\n", what, e ? ": " : "", e ? e->text : "");
    exit(1);
}

static void save(const char *target, const char *name, struct sp_span a, struct sp_span b)
{
    char path[4096];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", root, target);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/%s", root, target, name);
    f = fopen(path, "wb");
    if (!f || fwrite(a.p, 1, a.n, f) != a.n || fwrite(b.p, 1, b.n, f) != b.n || fclose(f) != 0)
        die(path, NULL);
}

static void seed_messages(void)
{
    static _Alignas(16) uint8_t value[STRUCT_MAX];
    struct sp_rng_fixed rng;
    char name[64];

    sp_rng_fixed_init(&rng, 3);
    for (unsigned t = 0; t < KRB_TYPE_COUNT; t++)
        for (unsigned i = 0; i < VALUES; i++) {
            uint8_t first = (uint8_t)(t | (i % 2 ? 0x80 : 0));
            struct sp_err e = {0};
            struct sp_arena mem;
            struct sp_span der;

            sp_arena_init(&mem, block, sizeof block);
            if (!sp_type_generate(krb_type_table((enum krb_type)t), &rng.rng, &mem, value, &e) ||
                !krb_put((enum krb_type)t, value, out_block, sizeof out_block, &der, &e))
                die(krb_type_name((enum krb_type)t), &e);
            if (der.n > 1500)
                continue;
            snprintf(name, sizeof name, "%s-%u", krb_type_name((enum krb_type)t), i);
            save("messages", name, sp_span(&first, 1), der);
            first &= 0x7f;
            save("libkrb5", name, sp_span(&first, 1), der);
        }
}

static void seed_names(void)
{
    static const char *const names[] = {
        "alice",
        "alice@BENCH.TEST",
        "svc/0001",
        "cifs/nas1.example",
        "alice\\@corp.example@BENCH.TEST",
        "NAS1$",
        "a\\/b/c\\\\",
        "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p",
        "J\xc3\xbcrgen",
        "x\\ty\\nz\\bw\\0",
        "",
        "@",
        "/",
        "aes256-cts-hmac-sha1-96",
        "18",
        "\xff\xfe",
        "alice@bench.test@BENCH.TEST",
    };
    char name[16];

    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(name, sizeof name, "%u", i);
        save("names", name, sp_str(names[i]), sp_span("", 0));
    }
}

static void seed_keytab(void)
{
    static const uint8_t key[32] = {1, 2, 3};
    struct sp_span parts[2] = {SP_LIT("svc"), SP_LIT("0001")};
    struct krb_keytab_entry v[2] = {
        {{NT_SRV_INST, {parts, 2}},  SP_LIT("BENCH.TEST"), FUZZ_NOW_S, 2,   18, {key, 32}},
        {{NT_PRINCIPAL, {parts, 1}}, SP_LIT("BENCH.TEST"), FUZZ_NOW_S, 300, 17, {key, 16}},
    };
    struct krb_keytab kt = {v, 2};
    struct sp_err e = {0};
    size_t n = 0;

    if (!krb_put_keytab(&kt, out_block, sizeof out_block, &n, &e))
        die("keytab", &e);
    save("keytab", "two", sp_span(out_block, n), sp_span("", 0));
    save("keytab", "cut", sp_span(out_block, n - 3), sp_span("", 0));
}

/* Seals of zeros, so that whatever the fuzzer does to the TLVs still opens. */
static void seed_records(struct fuzz_world *w)
{
    static const uint8_t master[32] = {1};

    for (uint64_t id = 1; id <= FUZZ_USERS + FUZZ_SERVICES + 2; id++) {
        struct store_account a;
        struct sp_err e = {0};
        char name[16];
        size_t n = 0;

        if (!w->kdc.accounts->find_id(w->kdc.accounts, id, &w->mem, &a, &e))
            die("account", &e);
        a.id = 1;
        a.comment = id % 2 ? SP_LIT("comment") : (struct sp_span){0};
        a.life_s = (int32_t)id;
        if (!store_seal(w->kdc.crypto, master, w->env.rng, &a, out_block, STORE_RECORD_MAX, &n, &e))
            die("record", &e);
        memset(out_block + n - 16, 0, 16);
        snprintf(name, sizeof name, "account-%u", (unsigned)id);
        save("record", name, sp_span(out_block, n), sp_span("", 0));
    }
}

static void seed_framing(void)
{
    static const uint8_t two[] = {3, 0, 0, 0, 2, 'a', 'b', 0, 0, 0, 1, 'c'}, high[] = {1, 0x80, 0, 0, 1, 'x'},
                         empty[] = {0, 0, 0, 0, 0}, cut[] = {2, 0, 0, 0, 9, 'x'};

    save("framing", "two", sp_span(two, sizeof two), sp_span("", 0));
    save("framing", "high-bit", sp_span(high, sizeof high), sp_span("", 0));
    save("framing", "empty", sp_span(empty, sizeof empty), sp_span("", 0));
    save("framing", "cut", sp_span(cut, sizeof cut), sp_span("", 0));
}

/* In the operations of fuzz/ladder.c: a realm with every rung, requests of each kind, and what became of
 * them; then what was looked up, and time. */
static void seed_ladder(void)
{
    static const uint8_t realm[] = {8,    1,    0xff, 0xc6, 0x84, 0x20, 0x86, 0xc4,
                                    0x25, 0x06, 0x04, 0x61, 0x84, 0x24, 0x05, 0x20};
    static const uint8_t way[] = {2,  0,  1, 2, 0,  1, 2, 0,  3, 3, 0,  2, 0x0a, 1, 4,
                                  30, 30, 2, 0, 24, 2, 0, 36, 2, 0, 40, 4, 99,   99};

    for (uint8_t which = 0; which < 12; which++)
        for (uint8_t how = 0; how < 3; how++) {
            const uint8_t ask[] = {0, which, (uint8_t)(how * 16), 1, 0, which, 0, 2, 0, 0, 0, 3};
            uint8_t ops[sizeof realm + sizeof ask + sizeof way];
            char name[32];

            memcpy(ops, realm, sizeof realm);
            ops[2] = (uint8_t)(0x0f | how << 4);
            memcpy(ops + sizeof realm, ask, sizeof ask);
            memcpy(ops + sizeof realm + sizeof ask, way, sizeof way);
            snprintf(name, sizeof name, "way-%u-%u", which, how);
            save("ladder", name, sp_span(ops, sizeof ops), sp_span(ops, sizeof ops));
        }
}

static void seed_config(void)
{
    static const char *const files[] = {
        ("[kdc]\nlifetimes = windows-like\nlisten = 127.0.0.1:88 [::1]:88\nlisten = "
         "192.0.2.1:1088\nlisten-kpasswd = none\n"
         "enctypes = aes256-sha2 aes256-cts\ntgt-life = 10h\nservice-life = 15m\nfile-service-life = 1h30m\n"
         "renew-life = 7d\nforwardable = yes\nskew = 300\nsalt = random\nguess-limits = off\nreveal-unknown "
         "= "
         "no\n"),
        ("# words\n[realm]\naliases = NAS1.EXAMPLE OTHER\naliases = THIRD\n[log]\ntarget = stderr\nflood = "
         "7\n[keys]\n"
         "krbtgt-rotate = 0\n[policy]\nmin-length = 20\nmax-age = 90d\ncommon-passwords = /etc/words\n"),
        ("[daemon]\nworkers = 3\nuser = sallyport\n[kdc]\nudp-reply-max = 1400\ntcp-idle = 60\ntcp-max = 99\n"
         "tcp-per-source = 9\niterations = 100000\n"),
        "[realm]\nname = X\n",
        "[kdc]\nlistn = 1\n",
        "[kcd]\nlisten = 1\n",
        "[kdc]\nskew = 1\nskew = 2\n",
        "[kdc]\nskew = 99999999999999999999\n",
        "key without a section = 1\n",
        "[kdc\n",
        "\xef\xbb\xbf[kdc]\r\nskew = 5m ; a remark\r\n",
    };
    char name[16];

    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(name, sizeof name, "%u", i);
        save("config", name, sp_str(files[i]), sp_span("", 0));
    }
}

/* Operations of fuzz/lib.c. */
static void seed_lib(void)
{
#define I "i\x00\x02\x3e\x01\x01\x01\x03" /* alice to host/nas1, IAKERB, with a time stamp */
#define A "a\x01\x00\x00"
#define L "l\x02\x00\x02\x07\x01\x01\x00" /* a TGT that may do everything */
#define S(s)                                                                                                 \
    {                                                                                                        \
        (const uint8_t *)(s), sizeof(s) - 1                                                                  \
    }
    static const struct sp_span runs[] = {
        S("n\x0b\x00\x00\x07"
          "d\x00\x02\x01\x01\x00\x20g\x00"
          "e\x00\x02\x01\x00"),
        S("n\x0b\x00\x00\x07"
          "d\x00\x02\x01\x01\x03\x20g\x00"
          "p\x02\x00\x08\x00\x08\x00\x01\x00\x00\x7e\x00"
          "e\x00\x02\x02\x00"),
        S(I A "r\x00\x01t\x00\x01\x01t\x01\x00\x00v\x00\x01\x01\x0bv\x01\x00\x00\x0cq\x00q\x01"),
        S("i\x00\x03\x3e\x39\x01\x01\x03" A "r\x00\x01v\x01\x00\x01\x0at\x00\x01\x00"), /* SPNEGO */
        S("i\x00\x00\x3e\x01\x01\x01\x03" A "r\x00\x01t\x00\x01\x01"),                  /* SPAKE */
        S("i\x00\x06\x3e\x01\x01\x02\x03" A "r\x00\x01"),                               /* discovery */
        S("i\x00\x0a\x3e\x01\x01\x01\x03" A "r\x00\x01"),                               /* by AS */
        S("i\x00\x12\x3e\x01\x01\x01\x03"
          "a\x01\x08\x00"
          "r\x00\x01"), /* old MIT */
        S("i\x00\x02\x7e\x41\x01\x01\x03"
          "a\x01\x40\x00"
          "r\x00\x01v\x00\x01\x01\x0d"), /* DCE, bindings */
        S(I A "r\x00\x01x\x00m\x02t\x02\x01\x01t\x01\x02\x00x\x01x\x02m\x03v\x03\x02\x01\x0b"),
        S(L "g\x02"
            "i\x00\x02\x3f\x01\x04\x01\x03" A "r\x00\x01q\x01"), /* delegated */
        S(L "g\x02"
            "l\x03\x01\x00\x00\x04\x01\x05"
            "g\x03"
            "l\x03\x02\x00\x00\x04\x01\x00"
            "g\x03"), /* tickets */
        S(L "g\x02"
            "l\x03\x03\x00\x00\x04\x01\x00"
            "g\x03" L "g\x02"),
        S(I "e\x00\x00\x07\x00" A "e\x01\x01\x00\x00"
            "k\x02"
            "e\x01\x02\x02\x00"
            "e\x00\x01\x00\x00f\x00"
            "e\x01\x03\x00\x55"),
        S(I A "e\x01\x00\x07\x00"
              "c\x00\x00\x04\x01"
              "e\x01\x01\x00\x00"),
        S(I A "r\x00\x01w\x00\x01\x20"
              "c\x00\x00\x20\x80u\x01w\x00\x00\x20u\x01u\x01"),
        S(I A "r\x00\x01x\x00c\x05\x00\x08\xffm\x02p\x05\x00\x04"
              "abcdm\x02"),
        S("p\x07\x00\x06secreth\x12\x10\x00h\x14\x00\x00h\x07\x00\x00"),
        S("n\x06\x08\x00\x06n\x06\x00\x05\x06n\x07\x0f\x00\x06n\x08\x00\x00\x06j\x06"
          "c\x06\x00\x03\x01j\x06"),
        S("s\x03" I "s\x05" A "y\x02"
          "r\x00\x01s\x01v\x00\x01\x01\x0by\x01t\x00\x01\x01"),
        S(I A "z\xff"
              "r\x00\x01z\xffz\xff"
              "t\x00\x01\x01"),
    };
    char name[16];

    for (unsigned i = 0; i < sizeof runs / sizeof *runs; i++) {
        snprintf(name, sizeof name, "%u", i);
        save("lib", name, runs[i], sp_span("", 0));
    }
#undef I
#undef A
#undef L
#undef S
}

/* ---- exchanges ---- */

static struct sp_span framed(uint8_t flags, struct sp_span request, uint8_t head[3])
{
    head[0] = flags;
    head[1] = (uint8_t)(request.n >> 8);
    head[2] = (uint8_t)request.n;
    return sp_span(head, 3);
}

static void save_request(const char *name, uint8_t flags, struct sp_span request)
{
    uint8_t head[3];

    save("kdc", name, framed(flags, request, head), request);
}

static struct bench_request make(struct bench_maker *m, enum bench_kind kind, uint32_t user, uint32_t service,
                                 struct sp_arena *mem)
{
    struct bench_request r;
    struct sp_err e = {0};

    if (!bench_make(m, kind, user, service, mem, &r, &e))
        die("request", &e);
    return r;
}

/* The KDC's answer to it; the ticket goes into tgt. */
static void exchange(struct fuzz_world *w, const struct bench_request *r, struct sp_arena *mem,
                     struct bench_tgt *tgt)
{
    struct kdc_request q = fuzz_request(r->bytes, FUZZ_NEAR | KDC_TCP);
    struct kdc_actions out = {0};
    struct sp_err e = {0};

    sp_arena_reset(&w->mem);
    kdc_step(&w->kdc, w->env, &q, &w->mem, &out);
    if (!bench_check(w->kdc.crypto, r, out.reply, mem, tgt, &e))
        die("no ticket for a seed", &e);
}

static void seed_as(struct bench_maker *m, struct sp_arena *mem)
{
    char name[64];

    for (uint32_t user = 1; user <= FUZZ_USERS + 1; user++) {
        snprintf(name, sizeof name, "as-plain-%u", user);
        save_request(name, FUZZ_NEAR | (uint8_t)(user % 4), make(m, BENCH_AS_PLAIN, user, 1, mem).bytes);
        snprintf(name, sizeof name, "as-ts-%u", user);
        save_request(name, FUZZ_NEAR | (uint8_t)(user % 4), make(m, BENCH_AS_TS, user, 1, mem).bytes);
    }
    save_request("as-far", KDC_UDP, make(m, BENCH_AS_TS, 1, 1, mem).bytes);
    save_request("as-late", FUZZ_NEAR | FUZZ_LATER, make(m, BENCH_AS_TS, 1, 1, mem).bytes);
    save_request("as-little", FUZZ_NEAR | FUZZ_LITTLE, make(m, BENCH_AS_TS, 1, 1, mem).bytes);
}

static void seed_tgs(struct fuzz_world *w, struct bench_maker *m, struct sp_arena *mem)
{
    static const uint32_t users[] = {FUZZ_PLAIN, FUZZ_ADMIN, FUZZ_RENEWING};
    char name[64];

    for (uint32_t i = 0; i < sizeof users / sizeof *users; i++) {
        struct bench_request as = make(m, BENCH_AS_TS, users[i], 1, mem);

        exchange(w, &as, mem, &m->tgt[i]);
    }
    for (uint32_t i = 0; i < 3; i++)
        for (uint32_t service = 1; service <= FUZZ_SERVICES + 1; service++) {
            snprintf(name, sizeof name, "tgs-%u-%u", i, service);
            save_request(name, FUZZ_NEAR | (uint8_t)(service % 4), make(m, BENCH_TGS, i, service, mem).bytes);
        }
}

/* The same AS-REQ with another service name. */
static struct sp_span renamed(struct sp_span request, struct sp_span sname[2], struct sp_arena *mem)
{
    struct krb_kdc_req req;
    struct sp_err e = {0};
    struct sp_span out;

    if (!krb_get(KRB_AS_REQ, request, KRB_STRICT, mem, &req, &e))
        die("AS-REQ", &e);
    req.body.sname.parts = (struct sp_spans){sname, 2};
    if (!krb_make(KRB_AS_REQ, &req, mem, &out, &e))
        die("AS-REQ", &e);
    return out;
}

static struct sp_span sealed(struct fuzz_world *w, const struct sp_key *key, uint32_t usage,
                             struct sp_span plain, struct sp_arena *mem, struct krb_enc *enc)
{
    struct sp_err e = {0};
    size_t n = crypto_cipher_n(key->etype, plain.n);
    uint8_t *p = sp_alloc(mem, n, &e);

    if (!p || !crypto_encrypt(w->kdc.crypto, key, usage, w->env.rng, plain, p, &n, &e))
        die("encrypt", &e);
    *enc = (struct krb_enc){.etype = key->etype, .cipher = sp_span(p, n)};
    return enc->cipher;
}

static struct sp_span made(enum krb_type t, const void *m, struct sp_arena *mem)
{
    struct sp_err e = {0};
    struct sp_span out;

    if (!krb_make(t, m, mem, &out, &e))
        die(krb_type_name(t), &e);
    return out;
}

/* ---- SPAKE ---- */

static struct sp_span with_padata(struct sp_span request, struct krb_pa *pa, uint32_t count,
                                  struct sp_arena *mem)
{
    struct krb_kdc_req req;
    struct sp_err e = {0};

    if (!krb_get(KRB_AS_REQ, request, KRB_STRICT, mem, &req, &e))
        die("AS-REQ", &e);
    req.has |= KRB_BIT(3);
    req.padata = (struct krb_padata){pa, count};
    return made(KRB_AS_REQ, &req, mem);
}

/* The challenge in the answer to that request, and the cookie beside it. */
static void challenge(struct fuzz_world *w, struct sp_span request, struct sp_arena *mem,
                      struct krb_pa_spake *spake, struct krb_pa *message, struct krb_pa *cookie)
{
    struct kdc_request q = fuzz_request(request, FUZZ_NEAR | KDC_TCP);
    struct kdc_actions out = {0};
    struct krb_padata list = {0};
    struct krb_error x = {0};
    struct sp_err e = {0};

    sp_arena_reset(&w->mem);
    kdc_step(&w->kdc, w->env, &q, &w->mem, &out);
    if (!krb_get(KRB_ERROR, sp_dup(mem, out.reply, &e), KRB_STRICT, mem, &x, &e) ||
        !krb_get(KRB_PADATA, x.data, KRB_STRICT, mem, &list, &e))
        die("challenge", &e);
    for (uint32_t i = 0; i < list.count; i++)
        if (list.v[i].type == PA_SPAKE)
            *message = list.v[i];
        else if (list.v[i].type == PA_FX_COOKIE)
            *cookie = list.v[i];
    if (!krb_get(KRB_PA_SPAKE, message->value, KRB_STRICT, mem, spake, &e))
        die("challenge", &e);
}

static struct sp_span respond(struct fuzz_world *w, const struct bench_request *as, struct sp_span support,
                              struct sp_arena *mem)
{
    struct krb_pa pa[2] =
        {
            {PA_SPAKE, support},
            {0       }
    },
                  message = {0};
    struct sp_span plain = with_padata(as->bytes, pa, support.n ? 1 : 0, mem);
    uint8_t wb[CRYPTO_GROUP_SCALAR_MAX], y[CRYPTO_GROUP_SCALAR_MAX], s[CRYPTO_GROUP_POINT_MAX],
        k[CRYPTO_GROUP_POINT_MAX];
    struct krb_pa_spake theirs = {0}, ours = {.has = KRB_BIT(2)};
    struct krb_spake_factor factor = {.type = KRB_SPAKE_SF_NONE};
    struct krb_spake_derivation from = {.ikey = &as->reply_key, .w = wb};
    struct krb_spake_hash h = {0};
    struct crypto *c = w->kdc.crypto;
    struct krb_kdc_req req;
    struct sp_err e = {0};
    struct sp_key k1;
    size_t n;

    challenge(w, plain, mem, &theirs, &message, &pa[1]);
    from.group = theirs.challenge.group;
    n = crypto_find_group(from.group)->point_n;
    if (!krb_get(KRB_AS_REQ, plain, KRB_STRICT, mem, &req, &e) ||
        !krb_spake_w(c, from.group, from.ikey, wb, &e) ||
        !crypto_group_keygen(c, from.group, CRYPTO_BLIND_N, wb, w->env.rng, y, s, &e) ||
        !crypto_group_result(c, from.group, CRYPTO_BLIND_M, wb, y, theirs.challenge.pubkey, k, &e) ||
        !krb_spake_update(c, from.group, &h, support, message.value, &e) ||
        !krb_spake_update(c, from.group, &h, sp_span(s, n), SP_LIT(""), &e))
        die("SPAKE", &e);
    from.shared = sp_span(k, n);
    from.hash = &h;
    from.body = req.body.raw;
    if (!krb_spake_key(c, &from, 1, &k1, &e))
        die("SPAKE", &e);
    ours.response.pubkey = sp_span(s, n);
    sealed(w, &k1, KU_SPAKE, made(KRB_SPAKE_FACTOR, &factor, mem), mem, &ours.response.factor);
    pa[0].value = made(KRB_PA_SPAKE, &ours, mem);
    return with_padata(plain, pa, 2, mem);
}

static void must_be_granted(struct fuzz_world *w, struct sp_span request)
{
    struct kdc_request q = fuzz_request(request, FUZZ_NEAR | KDC_TCP);
    struct kdc_actions out = {0};

    sp_arena_reset(&w->mem);
    kdc_step(&w->kdc, w->env, &q, &w->mem, &out);
    if (out.record.code != 0)
        die("a SPAKE seed is refused", &(struct sp_err){.text = "see the record"});
}

static void seed_spake(struct fuzz_world *w, struct bench_maker *m, struct sp_arena *mem)
{
    static const uint32_t users[] = {FUZZ_PLAIN, FUZZ_PASSWORD_EXPIRED, FUZZ_USERS + 1};
    char name[64];

    for (int32_t group = 0; group <= CRYPTO_P256; group++) {
        struct krb_pa_spake support = {
            .has = KRB_BIT(0), .support.groups = {&group, 1}
        };
        struct krb_pa pa = {PA_SPAKE, {0}};

        pa.value = group ? made(KRB_PA_SPAKE, &support, mem) : sp_span("", 0);
        for (uint32_t i = 0; i < sizeof users / sizeof *users; i++) {
            struct bench_request as = make(m, BENCH_AS_TS, users[i], 1, mem);
            struct sp_span request = respond(w, &as, pa.value, mem);

            if (users[i] == FUZZ_PLAIN)
                must_be_granted(w, request);
            snprintf(name, sizeof name, "spake-response-%d-%u", group, users[i]);
            save_request(name, FUZZ_NEAR | KDC_TCP, request);
            snprintf(name, sizeof name, "spake-late-%d-%u", group, users[i]);
            save_request(name, FUZZ_NEAR | FUZZ_LATER, request);
        }
        if (group) {
            snprintf(name, sizeof name, "spake-support-%d", group);
            save_request(name, FUZZ_NEAR | KDC_TCP,
                         with_padata(make(m, BENCH_AS_TS, FUZZ_PLAIN, 1, mem).bytes, &pa, 1, mem));
        }
    }
}

static struct sp_span ap_req(struct fuzz_world *w, const struct bench_tgt *t, const struct sp_key *subkey,
                             struct sp_arena *mem)
{
    char name[BENCH_NAME_MAX];
    struct sp_span cname[1] = {bench_user_name(t->user, name)};
    struct krb_authenticator a = {
        .has = KRB_BIT(6) | KRB_BIT(7),
        .vno = 5,
        .crealm = SP_LIT(BENCH_REALM),
        .cname = {NT_PRINCIPAL,  {cname, 1}            },
        .ctime = FUZZ_NOW_S,
        .subkey = {subkey->etype, {subkey->b, subkey->n}},
        .seq = 5,
    };
    struct krb_ap_req ap = {.pvno = 5, .msg_type = 14};
    struct sp_err e = {0};

    sealed(w, &t->session, KU_AP_REQ_AUTH, made(KRB_AUTHENTICATOR, &a, mem), mem, &ap.authenticator);
    if (!krb_get(KRB_TICKET, sp_span(t->ticket, t->ticket_n), KRB_STRICT, mem, &ap.ticket, &e))
        die("ticket", &e);
    return made(KRB_AP_REQ, &ap, mem);
}

static struct sp_span priv(struct fuzz_world *w, const struct sp_key *key, struct sp_span data,
                           struct sp_arena *mem)
{
    static const uint8_t address[4] = {192, 0, 2, 7};
    struct krb_enc_priv part = {
        .has = KRB_BIT(3), .user_data = data, .seq = 5, .saddr = {2, {address, 4}}
    };
    struct krb_priv p = {.pvno = 5, .msg_type = 21};

    sealed(w, key, KU_PRIV, made(KRB_ENC_PRIV, &part, mem), mem, &p.enc);
    return made(KRB_PRIV, &p, mem);
}

static void put16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void save_kpasswd(const char *name, unsigned version, struct sp_span ap, struct sp_span p)
{
    uint8_t head[2 + 6] = {FUZZ_NEAR | KDC_TCP, 0};

    put16(head + 2, 6 + ap.n + p.n);
    put16(head + 4, version);
    put16(head + 6, ap.n);
    memcpy(out_block, head, sizeof head);
    memcpy(out_block + sizeof head, ap.p, ap.n);
    save("kpasswd", name, sp_span(out_block, sizeof head + ap.n), p);
}

static void seed_kpasswd_of(struct fuzz_world *w, struct bench_maker *m, uint32_t user, struct sp_arena *mem)
{
    struct sp_span service[2] = {SP_LIT("kadmin"), SP_LIT("changepw")}, target[1] = {SP_LIT("user000001")};
    struct krb_change_passwd set = {
        .has = KRB_BIT(1) | KRB_BIT(2),
        .newpasswd = SP_LIT("a new password"),
        .targname = {NT_PRINCIPAL, {target, 1}},
        .targrealm = SP_LIT(BENCH_REALM)
    };
    struct bench_request as = make(m, BENCH_AS_TS, user, 1, mem);
    struct sp_key subkey = {.n = 32, .etype = 18, .b = {9}};
    struct bench_tgt t;
    char name[32];

    as.bytes = renamed(as.bytes, service, mem);
    exchange(w, &as, mem, &t);
    snprintf(name, sizeof name, "change-%u", user);
    save_kpasswd(name, 1, ap_req(w, &t, &subkey, mem), priv(w, &subkey, SP_LIT("a new password"), mem));
    snprintf(name, sizeof name, "set-%u", user);
    save_kpasswd(name, 0xff80, ap_req(w, &t, &subkey, mem),
                 priv(w, &subkey, made(KRB_CHANGE_PASSWD, &set, mem), mem));
}

/* Whole conversations, in the operations of fuzz/sec.c: start, then a token to the acceptor, a message to the
 * KDC, a token back; what the choices do not need is refused on the way and changes nothing. */
static void seed_sec(void)
{
    static const uint8_t choices[] = {0, 1, 2, 3, 4, 5, 8, 16, 17, 33, 64, 65, 81, 128, 129};
    static const uint8_t round[] = {1, 3, 2}, end[] = {9, 11, 9};
    /* NegTokenInit: NEGOEX, NTLMSSP, IAKERB; then what came back to the initiator */
    static const uint8_t late[] =
        "\x01\x06\x00\x34\x60\x32\x06\x06\x2b\x06\x01\x05\x05\x02\xa0\x28\x30\x26\xa0\x24"
        "\x30\x22\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x1e\x06\x0a\x2b\x06\x01"
        "\x04\x01\x82\x37\x02\x02\x0a\x06\x06\x2b\x06\x01\x05\x02\x05\x00\x02\x09";

    for (size_t i = 0; i < sizeof choices; i++) {
        uint8_t ops[128] = {choices[i], 0};
        size_t n = 2;
        char name[32];

        for (int r = 0; r < 6; r++, n += sizeof round)
            memcpy(ops + n, round, sizeof round);
        memcpy(ops + n, end, sizeof end);
        n += sizeof end;
        snprintf(name, sizeof name, "whole-%u", choices[i]);
        save("sec", name, sp_span(ops, n), sp_span(NULL, 0));
        ops[n++] = 13; /* and once more, with the ticket */
        ops[n++] = choices[i] ^ 32;
        ops[n++] = 0;
        for (int r = 0; r < 2; r++, n += sizeof round)
            memcpy(ops + n, round, sizeof round);
        memcpy(ops + n, end, sizeof end);
        n += sizeof end;
        snprintf(name, sizeof name, "again-%u", choices[i]);
        save("sec", name, sp_span(ops, n), sp_span(NULL, 0));
        ops[1] = 14; /* the acceptor first */
        ops[2] = 2;
        snprintf(name, sizeof name, "greeted-%u", choices[i]);
        save("sec", name, sp_span(ops, n), sp_span(NULL, 0));
    }
    save("sec", "late", sp_span(late, sizeof late - 1), sp_span(NULL, 0));
}

int main(int argc, char **argv)
{
    struct fuzz_world *w = fuzz_world();
    struct bench_maker m = {
        .crypto = w->kdc.crypto, .env = w->env, .scratch = scratch, .etype = ENCTYPE_AES256_CTS_HMAC_SHA1_96};
    static uint8_t keep_block[4 << 20];
    struct sp_arena keep;

    if (argc != 2) {
        fputs("usage: fuzz-seeds DIRECTORY\n", stderr);
        return 2;
    }
    root = argv[1];
    mkdir(root, 0777);
    sp_arena_init(&keep, keep_block, sizeof keep_block);
    seed_messages();
    seed_names();
    seed_keytab();
    seed_records(w);
    seed_framing();
    seed_sec();
    seed_ladder();
    seed_config();
    seed_lib();
    seed_as(&m, &keep);
    seed_spake(w, &m, &keep);
    seed_tgs(w, &m, &keep);
    seed_kpasswd_of(w, &m, FUZZ_PLAIN, &keep);
    seed_kpasswd_of(w, &m, FUZZ_PASSWORD_EXPIRED, &keep);
    seed_kpasswd_of(w, &m, FUZZ_ADMIN, &keep);
    return 0;
}
