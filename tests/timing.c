/* SPDX-License-Identifier: MIT */
/* T034: can somebody with a stop-watch tell which names exist? Every kind of account is asked about side by
 * side with a name of the same shape that nobody has; the engine runs over a real LMDB store with the OpenSSL
 * backend, the clock is read outside of it. Replies must be the same bytes (but for the salt, which is of the
 * same length), and no kind may be told from its counterpart by the time a step took.
 *
 * What is tested is the best threshold on that time, cut in either direction: the AUC, which is the chance
 * that a random sample of one kind is slower than a random sample of the other. It looks at ranks only, so an
 * interrupt in the middle of a sample weighs no more than any other slow sample and nothing has to be
 * trimmed. Kinds take turns in shuffled order, so what the machine does meanwhile hits all alike; and ranks
 * are compared only within a round of a few milliseconds, so that a machine that becomes slower half-way
 * hides nothing. The verdict is the mean over rounds of the signed value: chance cancels out, a leak does
 * not. Its standard error is sqrt(1 / 6n), 0.003 for the 20,000 samples of the slow suite; the limit is three
 * of them wider. What is above is measured again with other names before it counts.
 *
 * The goal is 0.55, without a network, a socket or another process in between. The unit suite's 200 samples
 * (standard error 0.03) ask for each name once or twice, so that one page of the store that is far away
 * counts as much as a leak: there the limit only finds a leak as large as the one of the control.
 *
 * Some care is about the test, not the engine: names and records are scattered, most accounts are ordinary
 * ones, and half of all questions are for unknown names. Otherwise the cache and the branch predictor would
 * know one kind better than the other.
 *
 * Controls: two halves of the same kind (must not be told apart), and a store whose misses cost nothing (must
 * be told apart, or the measurement is blind). */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kdc/internal.h"
#include "store/lmdb/lmdb.h"

#define REALM "NAS1.TEST"
#define NOW INT64_C(1700000000)
#define LIMIT 0.55
#define ROUGH 0.68   /* the limit for fewer samples than a tenth of ALL */
#define SEEN 0.80    /* what the control must reach, whatever the machine does beside it */
#define ALL 20000    /* samples of each kind in the slow suite */
#define ROUND 50     /* samples of each kind that are ranked together */
#define NAMES 1024   /* of each kind: more keys than the crypto backend keeps */
#define FEW 400      /* names of a kind when all keys of two kinds are meant to be kept */
#define BYSTANDERS 8 /* times NAMES: ordinary users and services, as most are in any store */
#define TRIES 5      /* of a stranger until he waits */
#define ATTEMPTS 3

#if defined(__SANITIZE_ADDRESS__)
#define SLOWED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
#define SLOWED 1
#endif
#endif
#ifndef SLOWED
#define SLOWED                                                                                               \
    0 /* sanitizers move time to where memory is touched: replies are compared there, times are not */
#endif

enum kind {
    UNKNOWN,
    UNKNOWN_MACHINE,
    UNKNOWN_SERVICE,
    KNOWN,
    KNOWN_TOO,
    DISABLED,
    EXPIRED,
    OLD_PASSWORD,
    MUST_CHANGE,
    ALIAS,
    MACHINE, /* asked for in other letters than its own */
    SERVICE,
    KINDS
};

static const struct shape {
    const char *label, *format;
    char letter; /* in an account's own name; 0: there is no account */
    enum store_kind kind;
    uint32_t flags;
    int64_t expires_s, password_expires_s;
    const char *asked; /* the name that is asked for, where it is another one */
} shapes[KINDS] = {
    [UNKNOWN] = {"unknown",         "%08x%c",     0,   STORE_USER,    0,                 0,           0,           NULL    },
    [UNKNOWN_MACHINE] = {"unknown machine", "%06x%c$",    0,   STORE_USER,    0,                 0,           0,           "%06XU$"},
    [UNKNOWN_SERVICE] = {"unknown service", "svc/%08x%c", 0,   STORE_SERVICE, 0,                 0,           0,           NULL    },
    [KNOWN] = {"known",           "%08x%c",     'k', STORE_USER,    0,                 0,           0,           NULL    },
    [KNOWN_TOO] = {"known, others",   "%08x%c",     'l', STORE_USER,    0,                 0,           0,           NULL    },
    [DISABLED] = {"disabled",        "%08x%c",     'm', STORE_USER,    STORE_DISABLED,    0,           0,           NULL    },
    [EXPIRED] = {"expired",         "%08x%c",     'n', STORE_USER,    0,                 NOW - 86400, 0,           NULL    },
    [OLD_PASSWORD] = {"old password",    "%08x%c",     'o', STORE_USER,    0,                 0,           NOW - 86400, NULL    },
    [MUST_CHANGE] = {"must change",     "%08x%c",     'p', STORE_USER,    STORE_MUST_CHANGE, 0,           0,           NULL    },
    [ALIAS] = {"alias",           "%08x%c",     'q', STORE_USER,    0,                 0,           0,           "%08xr" },
    [MACHINE] = {"machine",         "%06x%c$",    's', STORE_USER,    0,                 0,           0,           "%06XS$"},
    [SERVICE] = {"service",         "svc/%08x%c", 't', STORE_SERVICE, 0,                 0,           0,           NULL    },
};

/* ---- the world ---- */

struct leaky { /* a store that need not look to tell that there is nobody */
    struct store_lookup port;
    bool nobody;
};

static struct {
    char dir[64];
    struct kdc_config cf;
    struct kdc k;
    struct sp_env env;
    struct sp_rng_fixed rng;
    struct lmdb_store *store;
    struct leaky leaky;
    struct sp_arena keep, mem, client;
    uint64_t next_source;
    uint32_t nonce;
    struct kdc_actions out;
} W;
static uint8_t keep_block[16 << 20], mem_block[1 << 20], client_block[1 << 16];
static const uint8_t master[32] = "0123456789abcdef0123456789abcde";

_Noreturn static void die(const char *what, const struct sp_err *e)
{
    fprintf(stderr, "timing: %s%s%s\n", what, e ? ": " : "", e ? e->text : "");
    exit(2);
}

static uint32_t below(uint32_t n)
{
    uint64_t v;

    sp_rng_fill(&W.rng.rng, &v, sizeof v);
    return (uint32_t)(v % n);
}

/* One to one (the finalizer of MurmurHash3). */
static uint32_t scattered(uint32_t x)
{
    x = (x ^ x >> 16) * UINT32_C(0x85ebca6b);
    x = (x ^ x >> 13) * UINT32_C(0xc2b2ae35);
    return x ^ x >> 16;
}

/* Number i of a kind. Names are scattered: neither neighbours in number nor kinds lie side by side in the
 * store, or asking for one would bring the other nearer. */
static struct sp_span text_of(enum kind kind, const char *format, char letter, uint32_t i,
                              struct sp_arena *mem)
{
    uint32_t number = scattered((uint32_t)kind << 16 | i) >> (strchr(format, '$') ? 8 : 0);
    struct sp_err e = {0};
    char text[32];
    int n = snprintf(text, sizeof text, format, number, letter);

    return sp_dup(mem, sp_span(text, (size_t)n), &e);
}

static struct krb_name name_of(struct sp_span text, struct sp_arena *mem)
{
    struct krb_name name;
    struct sp_span realm;
    struct sp_err e = {0};

    if (!krb_parse_name(text, mem, &name, &realm, &e))
        die("name", &e);
    return name;
}

static struct sp_span lookup_of(struct sp_span text)
{
    struct krb_name name = name_of(text, &W.keep);
    struct sp_span lookup;
    struct sp_err e = {0};

    if (!krb_name_key(&name, &W.cf.realm, &W.keep, &lookup, &e))
        die("look-up key", &e);
    return lookup;
}

/* Keys as if a password had been given, without the half second that string-to-key takes. */
static void add_keys(struct store_account *a, uint32_t versions)
{
    struct krb_name name = name_of(a->name, &W.keep);
    struct sp_err e = {0};
    struct sp_span salt = {0};

    a->keys = sp_new_array(&W.keep, struct store_key, 4u * versions, &e);
    if (!a->keys || (a->kind == STORE_USER && !kdc_salt_of(&W.cf, W.k.crypto, &name, &W.keep, &salt, &e)))
        die("salt", &e);
    for (uint32_t v = versions; v > 0; v--) {
        uint32_t count;

        if (!kdc_make_random_keys(&W.cf, &W.rng.rng, v, NULL, 0, a->keys + a->key_count, &count, &e))
            die("keys", &e);
        for (uint32_t i = 0; i < count; i++)
            a->keys[a->key_count + i].salt = salt;
        a->key_count += count;
    }
}

static struct store_account account_of(enum store_kind kind, struct sp_span name, uint32_t versions)
{
    struct store_account a = {.generation = 1, .kind = kind, .name = name, .created_s = 1, .changed_s = 1};

    a.lookup = lookup_of(name);
    add_keys(&a, versions);
    return a;
}

static struct store_account of_shape(enum kind kind, uint32_t i)
{
    const struct shape *s = &shapes[kind];
    struct store_account a = account_of(s->kind, text_of(kind, s->format, s->letter, i, &W.keep), 1);
    struct sp_err e = {0};

    a.flags = s->flags;
    a.expires_s = s->expires_s;
    a.password_expires_s = s->password_expires_s;
    if (kind == ALIAS) {
        a.aliases = (struct sp_spans){sp_new(&W.keep, struct sp_span, &e), 1};
        a.alias_lookups = (struct sp_spans){sp_new(&W.keep, struct sp_span, &e), 1};
        a.aliases.v[0] = text_of(kind, s->asked, 0, i, &W.keep);
        a.alias_lookups.v[0] = lookup_of(a.aliases.v[0]);
    }
    return a;
}

/* Accounts of that kind, in times NAMES. */
static uint32_t crowd(int kind)
{
    return !shapes[kind].letter ? 0 : kind == KNOWN || kind == SERVICE ? 1 + BYSTANDERS : 1;
}

/* Made in an order of chance, so that no kind lies closer together in the store than another. */
static void fill(void)
{
    enum { CHUNK = 256 };
    static struct {
        enum kind kind;
        uint32_t i;
    } plan[(KINDS + 2 * BYSTANDERS) * NAMES], swap;
    static struct store_account all[CHUNK];
    struct store_account krbtgt = account_of(STORE_KRBTGT, SP_LIT("krbtgt/" REALM), 2);
    struct sp_err e = {0};
    bool ok = lmdb_put(W.store, &krbtgt, &e);
    uint32_t n = 0;

    for (int kind = 0; kind < KINDS; kind++)
        for (uint32_t i = 0; i < NAMES * crowd(kind); i++) {
            uint32_t j = below(n + 1);

            plan[n].kind = (enum kind)kind;
            plan[n].i = i;
            swap = plan[j];
            plan[j] = plan[n];
            plan[n++] = swap;
        }
    for (uint32_t at = 0; at < n && ok; at += CHUNK) {
        uint32_t count = n - at < CHUNK ? n - at : CHUNK;

        sp_arena_reset(&W.keep);
        for (uint32_t k = 0; k < count; k++)
            all[k] = of_shape(plan[at + k].kind, plan[at + k].i);
        ok = lmdb_put_many(W.store, all, count, &e);
    }
    if (!ok)
        die("accounts", &e);
}

static void remove_dir(const char *top)
{
    static const char *const sub[] = {"accounts", "activity"};
    char path[512];

    for (int i = 0; i < 2; i++) {
        struct dirent *d;
        DIR *dir;

        snprintf(path, sizeof path, "%s/%s", top, sub[i]);
        dir = opendir(path);
        while (dir && (d = readdir(dir)) != NULL)
            if (d->d_name[0] != '.')
                (void)unlinkat(dirfd(dir), d->d_name, 0);
        if (dir)
            closedir(dir);
        (void)rmdir(path);
    }
    (void)rmdir(top);
}

static bool leaky_find(struct store_lookup *p, struct sp_span lookup, struct sp_arena *mem,
                       struct store_account *out, struct sp_err *e)
{
    struct leaky *l = (struct leaky *)(void *)p;
    struct store_lookup *real = lmdb_lookup(W.store);

    if (l->nobody && !sp_same(lookup, SP_LIT("krbtgt/" REALM)))
        return sp_fail(e, SP_ENOTFOUND, 0, "nobody");
    return real->find(real, lookup, mem, out, e);
}

static uint64_t leaky_version(struct store_lookup *p)
{
    struct store_lookup *real = lmdb_lookup(W.store);

    (void)p;
    return real->version(real);
}

static void open_world(enum kdc_salt salt)
{
    static _Alignas(64) uint8_t shared[4 << 20];
    const struct kdc_shared_size size = {1024, 1024, 64};
    struct sp_err e = {0};

    sp_arena_init(&W.keep, keep_block, sizeof keep_block);
    sp_arena_init(&W.mem, mem_block, sizeof mem_block);
    sp_arena_init(&W.client, client_block, sizeof client_block);
    sp_rng_fixed_init(&W.rng, 34);
    kdc_config_defaults(&W.cf, KDC_STANDARD);
    W.cf.realm.name = SP_LIT(REALM);
    W.cf.salt = salt;
    memset(W.cf.name_secret, 7, sizeof W.cf.name_secret);
    W.env = (struct sp_env){NOW * 1000000, 1000000, &W.rng.rng};
    if (kdc_shared_bytes(size) > sizeof shared)
        die("the shared block is too large", NULL);
    memset(shared, 0, sizeof shared);
    W.k = (struct kdc){
        .config = &W.cf, .crypto = crypto_new(&e), .shared = kdc_shared_init(shared, size, master)};
    snprintf(W.dir, sizeof W.dir, "/tmp/sp-timing-XXXXXX");
    if (!W.k.crypto || !mkdtemp(W.dir))
        die("no crypto, or no directory", &e);
    W.store = lmdb_open(W.dir, LMDB_CREATE, master, W.k.crypto, &W.rng.rng, &e);
    if (!W.store)
        die("store", &e);
    fill();
    W.leaky.port = (struct store_lookup){.find = leaky_find, .version = leaky_version};
}

static void close_world(void)
{
    kdc_forget_own(&W.k);
    lmdb_close(W.store);
    crypto_free(W.k.crypto);
    remove_dir(W.dir);
}

/* ---- one sample ---- */

/* Without a proof, and with one that is wrong: by timestamp, and by SPAKE, where the first answer is a
 * challenge.
 */
enum leg { FIRST, SECOND, CHALLENGE, RESPONSE, LEGS };

struct arm {
    enum kind kind;
    bool throttled;
};

struct trial { /* what is compared with what, and how */
    const char *label;
    enum leg leg;
    int32_t etype;
    uint32_t names;
    uint32_t first; /* number of the first name */
    bool limits, leaks;
    uint32_t block; /* of the kinds with many names */
};

static struct sp_span wrong_proof(int32_t etype)
{
    uint8_t junk[128];
    struct krb_enc enc = {.etype = etype, .cipher = sp_span(junk, crypto_cipher_n(etype, 26))};
    struct sp_err e = {0};
    struct sp_span out;

    sp_rng_fill(&W.rng.rng, junk, enc.cipher.n);
    if (!krb_make(KRB_ENC, &enc, &W.client, &out, &e))
        die("proof", &e);
    return out;
}

/* A response to the challenge that came last: its value is a point, but nobody has the key. */
static void wrong_response(int32_t etype, struct krb_pa pa[2])
{
    struct krb_error m;
    struct krb_padata list;
    struct krb_pa_spake challenge, s = {.has = KRB_BIT(2)};
    const struct krb_pa *spake, *cookie;
    struct sp_err e = {0};
    uint8_t junk[128];

    if (!krb_get(KRB_ERROR, sp_dup(&W.client, W.out.reply, &e), KRB_STRICT, &W.client, &m, &e) ||
        !krb_get(KRB_PADATA, m.data, KRB_STRICT, &W.client, &list, &e) ||
        !(spake = kdc_find_pa(&list, PA_SPAKE)) || !(cookie = kdc_find_pa(&list, PA_FX_COOKIE)) ||
        !krb_get(KRB_PA_SPAKE, spake->value, KRB_STRICT, &W.client, &challenge, &e))
        die("no challenge", &e);
    s.response.pubkey = challenge.challenge.pubkey;
    s.response.factor = (struct krb_enc){.etype = etype, .cipher = sp_span(junk, crypto_cipher_n(etype, 7))};
    sp_rng_fill(&W.rng.rng, junk, sizeof junk);
    pa[0].type = PA_SPAKE;
    pa[1] = *cookie;
    if (!krb_make(KRB_PA_SPAKE, &s, &W.client, &pa[0].value, &e))
        die("response", &e);
}

static struct sp_span request(const struct trial *t, enum kind kind, uint32_t i)
{
    const struct shape *s = &shapes[kind];
    struct sp_span tgs[2] = {SP_LIT("krbtgt"), SP_LIT(REALM)}, out;
    int32_t etypes[1] = {t->etype};
    struct krb_pa pa[2] = {
        {PA_ENC_TIMESTAMP, {0}}
    };
    struct krb_kdc_req m = {0};
    struct sp_err e = {0};

    sp_arena_reset(&W.client);
    m.body = (struct krb_req_body){.has = KRB_BIT(1) | KRB_BIT(3), .realm = SP_LIT(REALM)};
    m.body.cname = name_of(
        text_of(kind, s->asked ? s->asked : s->format, s->letter ? s->letter : 'u', i, &W.client), &W.client);
    m.body.sname = krb_name_of(NT_SRV_INST, tgs, 2);
    m.body.till = NOW + 86400;
    m.body.nonce = ++W.nonce;
    m.body.etypes = (struct krb_i32s){etypes, 1};
    if (t->leg == SECOND)
        pa[0].value = wrong_proof(t->etype);
    else if (t->leg == RESPONSE)
        wrong_response(t->etype, pa);
    if (t->leg == SECOND || t->leg == RESPONSE) {
        m.padata = (struct krb_padata){pa, t->leg == SECOND ? 1 : 2};
        m.has = KRB_BIT(3);
    }
    if (!krb_make(KRB_AS_REQ, &m, &W.client, &out, &e))
        die("request", &e);
    return out;
}

static struct kdc_source source_of(uint64_t number)
{
    struct kdc_source s = {.id = {4}, .loopback = false, .text = "192.0.2.7"};

    memcpy(s.id + 1, &number, sizeof number);
    return s;
}

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* What a worker does for one request; clearing the arena is part of it, the next one waits for that. */
static double ask(struct sp_span bytes, uint64_t source)
{
    struct kdc_request q = {.bytes = bytes, .door = KDC_TCP, .source = source_of(source)};
    double began;

    began = now_ns();
    kdc_step(&W.k, W.env, &q, &W.mem, &W.out);
    return now_ns() - began;
}

/* A response needs a challenge before. */
static struct sp_span request_after(const struct trial *t, struct arm a, uint32_t i, uint64_t source)
{
    struct trial before = *t;
    struct sp_span out;

    before.leg = CHALLENGE;
    if (t->leg == RESPONSE)
        (void)ask(request(&before, a.kind, i), source);
    out = request(t, a.kind, i);
    sp_arena_reset(&W.mem);
    return out;
}

/* Both arms of a throttling trial see the same failures before, and both sources have tried; but only one of
 * them so often that it has to wait. */
static void fail_before(const struct trial *t, struct arm a, uint32_t i, uint64_t source)
{
    W.env.mono_us += INT64_C(1000000) * (KDC_GUESS_WAIT_MAX_S + KDC_GUESS_WINDOW_S + 1);
    for (int n = TRIES; n > 0; n--) {
        uint64_t from = a.throttled || n == 1 ? source : source + 1;

        (void)ask(request_after(t, a, i, from), from);
        sp_arena_reset(&W.mem);
        lmdb_settle(W.store);
    }
}

static void blank(struct sp_span s)
{
    memset((uint8_t *)(uintptr_t)s.p, 's', s.n);
}

/* What is random: the challenge's value and the cookie. */
static void blank_challenge(const struct krb_padata *list)
{
    const struct krb_pa *spake = kdc_find_pa(list, PA_SPAKE), *cookie = kdc_find_pa(list, PA_FX_COOKIE);
    struct krb_pa_spake m;
    struct sp_err e = {0};

    if (!spake || !cookie || !krb_get(KRB_PA_SPAKE, spake->value, KRB_STRICT, &W.client, &m, &e))
        die("no challenge", &e);
    blank(m.challenge.pubkey);
    blank(cookie->value);
}

static struct sp_span *salt_of(struct sp_span reply, int32_t *code)
{
    static struct krb_error m;
    static struct krb_padata list;
    static struct krb_infos2 infos;
    const struct krb_pa *pa;
    struct sp_err e = {0};

    if (!krb_get(KRB_ERROR, reply, KRB_STRICT, &W.client, &m, &e))
        die("the reply is no error", &e);
    *code = m.code;
    if (m.data.n == 0)
        return NULL;
    if (!krb_get(KRB_PADATA, m.data, KRB_STRICT, &W.client, &list, &e) ||
        !(pa = kdc_find_pa(&list, PA_ETYPE_INFO2)) ||
        !krb_get(KRB_INFOS2, pa->value, KRB_STRICT, &W.client, &infos, &e) || infos.count != 1)
        die("the reply tells no salt", &e);
    if (W.cf.spake)
        blank_challenge(&list);
    return &infos.v[0].salt;
}

/* The bytes of the reply, but for the salt and what is random. */
static size_t reply_of(const struct trial *t, uint8_t *out, size_t cap)
{
    struct sp_span r = W.out.reply, *salt;
    int32_t code;

    if (r.n == 0 || r.n > cap)
        die("no reply, or a long one", NULL);
    memcpy(out, r.p, r.n);
    sp_arena_reset(&W.client);
    salt = salt_of(sp_span(out, r.n), &code);
    if (code !=
        (t->leg == FIRST || t->leg == CHALLENGE ? KDC_ERR_PREAUTH_REQUIRED : KDC_ERR_PREAUTH_FAILED)) {
        fprintf(stderr, "timing: code %d: %s\n", code, W.out.record.text);
        exit(2);
    }
    if (salt)
        memset(out + (salt->p - out), 's', salt->n);
    return r.n;
}

static double sample(const struct trial *t, struct arm a, uint32_t i, uint8_t *reply, size_t *n)
{
    uint64_t source = W.next_source += 2;
    struct sp_span bytes;
    double took;

    W.k.accounts = t->leaks ? &W.leaky.port : lmdb_lookup(W.store);
    W.cf.guess_limits = t->limits;
    W.cf.spake = t->leg >= CHALLENGE;
    W.leaky.nobody = !shapes[a.kind].letter;
    if (t->limits)
        fail_before(t, a, i, source);
    bytes = request_after(t, a, i, source);
    took = ask(bytes, source);
    if (t->limits && (W.out.record.failed == a.throttled))
        die("the budget is not as the trial wants it", NULL);
    *n = reply_of(t, reply, 1024);
    sp_arena_reset(&W.mem);
    lmdb_settle(W.store);
    return took;
}

/* ---- statistics ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The chance that one of a is above one of b, a tie counting half. */
static double auc_of(double *a, double *b, size_t n)
{
    size_t under = 0, same_from = 0;
    double sum = 0;

    qsort(a, n, sizeof *a, by_value);
    qsort(b, n, sizeof *b, by_value);
    for (size_t i = 0; i < n; i++) {
        while (under < n && b[under] < a[i])
            under++;
        for (same_from = under; same_from < n && b[same_from] <= a[i];)
            same_from++;
        sum += (double)under + 0.5 * (double)(same_from - under);
    }
    return sum / ((double)n * (double)n);
}

struct pair {
    struct arm one, other; /* other: what it must look like */
    double limit;          /* where it is not LIMIT */
};

static double limit_for(const struct pair *p, uint32_t samples)
{
    double limit = samples < ALL / 10 ? ROUGH : p->limit > 0 ? p->limit : LIMIT;

    return limit + 3 * sqrt(1 / (6.0 * samples));
}

/* ---- trials ---- */

#define PAIRS_MAX KINDS
#define ARMS_MAX (2 * PAIRS_MAX)
struct run {
    const struct trial *t;
    const struct pair *pairs;
    uint32_t pair_count, rounds;
    double took[ARMS_MAX][ROUND];
    uint8_t reply[ARMS_MAX][1024];
    size_t reply_n[ARMS_MAX];
    double auc[PAIRS_MAX], middle[ARMS_MAX]; /* sums over rounds */
};

/* Which name of its kind an arm asks for: no two arms for the same. */
static uint32_t number_of(const struct trial *t, enum kind kind, uint32_t a, uint32_t i)
{
    bool many = kind == KNOWN || kind == SERVICE || !shapes[kind].letter;

    return (t->first + i % t->names) % NAMES + (many ? (t->block + a / 2) * NAMES : 0);
}

/* Every arm once, in an order of chance. As many ask for unknown names as for others, or the processor would
 * learn which way a branch usually goes, and be slower with the rare kind. */
static void take_turns(struct run *r, uint32_t turn, uint32_t i)
{
    uint32_t order[ARMS_MAX], count = 2 * r->pair_count;

    for (uint32_t k = 0; k < count; k++) {
        uint32_t j = below(k + 1);

        order[k] = order[j];
        order[j] = k;
    }
    for (uint32_t k = 0; k < count; k++) {
        uint32_t a = order[k];
        struct arm arm = a % 2 ? r->pairs[a / 2].other : r->pairs[a / 2].one;

        r->took[a][turn] = sample(r->t, arm, number_of(r->t, arm.kind, a, i), r->reply[a], &r->reply_n[a]);
    }
}

static bool same_replies(struct run *r)
{
    bool ok = true;

    for (uint32_t p = 0; p < r->pair_count; p++) {
        uint32_t a = 2 * p, b = a + 1;

        if (!sp_same(sp_span(r->reply[a], r->reply_n[a]), sp_span(r->reply[b], r->reply_n[b]))) {
            printf("FAILED %s: \"%s\" and \"%s\" get different replies\n", r->t->label,
                   shapes[r->pairs[p].one.kind].label, shapes[r->pairs[p].other.kind].label);
            ok = false;
        }
    }
    return ok;
}

static void rank_round(struct run *r)
{
    double a[ROUND], b[ROUND];

    for (uint32_t p = 0; p < r->pair_count; p++) {
        memcpy(a, r->took[2 * p], sizeof a);
        memcpy(b, r->took[2 * p + 1], sizeof b);
        r->auc[p] += auc_of(a, b, ROUND);
    }
    for (uint32_t k = 0; k < 2 * r->pair_count; k++) {
        qsort(r->took[k], ROUND, sizeof(double), by_value);
        r->middle[k] += r->took[k][ROUND / 2];
    }
}

static bool verdict(struct run *r)
{
    bool ok = true;

    for (uint32_t p = 0; p < r->pair_count; p++) {
        const struct pair *x = &r->pairs[p];
        double limit = limit_for(x, r->rounds * ROUND), mean = r->auc[p] / r->rounds,
               best = mean < 0.5 ? 1 - mean : mean;
        bool good = SLOWED || (r->t->leaks ? best >= SEEN : best <= limit);

        printf("%s %2d %-24s %-15s %-11s %8.0f ns  %-15s %-11s %8.0f ns  AUC %.3f (%s %.3f)\n",
               good ? "ok   " : "above", r->t->etype, r->t->label, shapes[x->one.kind].label,
               x->one.throttled ? "throttled" : "", r->middle[2 * p] / r->rounds, shapes[x->other.kind].label,
               x->other.throttled ? "throttled" : "", r->middle[2 * p + 1] / r->rounds, best,
               r->t->leaks ? "at least" : "at most", r->t->leaks ? SEEN : limit);
        ok = ok && good;
    }
    return ok;
}

static bool measure(const struct trial *t, const struct pair *pairs, uint32_t count, uint32_t samples)
{
    static struct run r;
    bool ok = true;

    memset(&r, 0, sizeof r);
    r.t = t;
    r.pairs = pairs;
    r.pair_count = count;
    r.rounds = samples / ROUND;
    for (uint32_t i = 0; i < 2 * FEW && !SLOWED; i++) /* keys are kept from their second use on */
        take_turns(&r, 0, i);
    for (uint32_t i = 0; i < r.rounds * ROUND && ok; i++) {
        take_turns(&r, i % ROUND, FEW + i);
        ok = same_replies(&r);
        if (i % ROUND == ROUND - 1)
            rank_round(&r);
    }
    return ok && verdict(&r);
}

/* What fails is measured again with other names: a leak is there every time, an unlucky place in memory or a
 * noisy neighbour is not. */
static bool compare(const struct trial *t, const struct pair *pairs, uint32_t count, uint32_t samples)
{
    struct trial again = *t;

    for (int i = 0; i < ATTEMPTS; i++) {
        if (measure(&again, pairs, count, samples))
            return true;
        again.first += FEW;
    }
    printf("FAILED every time: %s\n", t->label);
    return false;
}

/* Their records are not shaped as those of most neighbours: an entry more, a shorter name. 25 ns of 2,300
 * with everything in the cache, and 80 of 2,800 with nothing: above the goal in some runs. */
#define OTHER_SHAPE 0.60

static const struct pair states[] = {
    {{KNOWN_TOO, false},    {KNOWN, false},           0          },
    {{KNOWN, false},        {UNKNOWN, false},         0          },
    {{DISABLED, false},     {UNKNOWN, false},         0          },
    {{EXPIRED, false},      {UNKNOWN, false},         0          },
    {{OLD_PASSWORD, false}, {UNKNOWN, false},         0          },
    {{MUST_CHANGE, false},  {UNKNOWN, false},         0          },
    {{SERVICE, false},      {UNKNOWN_SERVICE, false}, 0          },
    {{ALIAS, false},        {UNKNOWN, false},         OTHER_SHAPE}, /* decision 61: these two with random salts only */
    {{MACHINE, false},      {UNKNOWN_MACHINE, false}, OTHER_SHAPE},
};
static const struct pair budgets[] = {
    {{KNOWN, true},   {KNOWN, false},   0},
    {{UNKNOWN, true}, {UNKNOWN, false}, 0},
    {{KNOWN, true},   {UNKNOWN, true},  0},
};
static const struct pair control[] = {
    {{KNOWN, false}, {UNKNOWN, false}, 0}
};

/* Few names: two kinds at a time, so that the keys of both stay with the crypto backend. No names of the pair
 * before: the processor would know the way to them. */
static bool compare_each(const struct trial *t, const struct pair *pairs, uint32_t count, uint32_t samples)
{
    struct trial each = *t;
    bool ok = true;

    for (each.block = 0; each.block < count; each.block++)
        ok &= compare(&each, &pairs[each.block], 1, samples);
    return ok;
}

static bool run_all(enum kdc_salt salt, uint32_t samples)
{
    static const int32_t etypes[] = {18, 20};
    uint32_t count = sizeof states / sizeof states[0] - (salt == KDC_SALT_RANDOM ? 0 : 2);
    bool ok = true;

    printf("%s salts, %u samples each\n", salt == KDC_SALT_RANDOM ? "random" : "default", samples);
    open_world(salt);
    for (int i = 0; i < 2; i++)
        for (enum leg leg = FIRST; leg < LEGS; leg++) {
            static const char *const label[LEGS][2] = {
                [FIRST] = {"no proof, kept keys",       "no proof, many names"      },
                [SECOND] = {"wrong proof, kept keys",    "wrong proof, many names"   },
                [CHALLENGE] = {"challenge, kept keys",      "challenge, many names"     },
                [RESPONSE] = {"wrong response, kept keys", "wrong response, many names"},
            };
            struct trial t = {.leg = leg, .etype = etypes[i], .names = FEW};

            t.label = label[leg][0];
            ok &= compare_each(&t, states, count, samples);
            t.label = label[leg][1];
            t.names = NAMES;
            ok &= compare(&t, states, count, samples);
            if (leg >= CHALLENGE) /* the look-up is lost in the group arithmetic */
                continue;
            t = (struct trial){"control: misses are free", leg, etypes[i], FEW, 0, false, true, BYSTANDERS};
            ok &= compare(&t, control, 1, samples);
        }
    ok &= compare_each(&(struct trial){"budget", SECOND, 18, FEW, 0, true, false, 0}, budgets, 3, samples);
    ok &= compare_each(&(struct trial){"budget, SPAKE", RESPONSE, 18, FEW, 0, true, false, 0}, budgets, 3,
                       samples);
    close_world();
    return ok;
}

int main(void)
{
    const char *wish = getenv("SALLYPORT_TIMING_SAMPLES");
    uint32_t samples = wish ? (uint32_t)strtoul(wish, NULL, 10) : ALL / 100;
    bool ok;

    if (samples < ROUND)
        die("SALLYPORT_TIMING_SAMPLES is too small", NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    ok = run_all(KDC_SALT_DEFAULT, samples);
    ok &= run_all(KDC_SALT_RANDOM, samples);
    return ok ? 0 : 1;
}
