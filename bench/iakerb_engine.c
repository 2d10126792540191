/* SPDX-License-Identifier: MIT */
/* bench-iakerb-engine: CPU time of one handshake, of each side apart: our initiator, our acceptor, and as
 * carrier our KDC engine, in one process without sockets. The initiator has keys, so no string-to-key is in
 * it. Ways to log in take turns, one handshake each; medians, as a JSON list. */
#include "arguments.h"
#include "setup.h"

#include "gss/sec.h"
#include "host/rcache.h"
#include "kdc/kdc.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { COUNT_MAX = 100000, ACCOUNTS = 3, ARENA = 1 << 20, LEGS_MAX = 16 };

enum proof { PROOF_SPAKE, PROOF_TIMESTAMP, PROOF_KNOWN, PROOF_TGT, PROOF_TICKET };
struct way {
    const char *name;
    enum proof proof;
    enum token_mech mech;
    bool by_as, replays;
};
static const struct way ways[] = {
    {"spake",                   PROOF_SPAKE,     TOKEN_IAKERB, false, false},
    {"spake, by AS",            PROOF_SPAKE,     TOKEN_IAKERB, true,  false},
    {"timestamp",               PROOF_TIMESTAMP, TOKEN_IAKERB, false, false},
    {"timestamp, by AS",        PROOF_TIMESTAMP, TOKEN_IAKERB, true,  false},
    {"timestamp, known",        PROOF_KNOWN,     TOKEN_IAKERB, false, false},
    {"timestamp, known, by AS", PROOF_KNOWN,     TOKEN_IAKERB, true,  false},
    {"TGT",                     PROOF_TGT,       TOKEN_IAKERB, false, false},
    {"ticket",                  PROOF_TICKET,    TOKEN_IAKERB, false, false},
    {"ticket, replay cache",    PROOF_TICKET,    TOKEN_IAKERB, false, true },
    {"ticket, krb5",            PROOF_TICKET,    TOKEN_KRB5,   false, false},
};
#define WAYS (sizeof ways / sizeof ways[0])

enum who { INITIATOR, ACCEPTOR, CARRIER, WHOS };
struct series {
    double us[WHOS][COUNT_MAX], both[COUNT_MAX];
    uint32_t count, trips, carried; /* trips: the most that one took */
};

/* One realm in memory: krbtgt, a user, a service; and what an earlier login left. */
static struct world {
    struct crypto *crypto;
    struct kdc_config config;
    struct kdc kdc;
    struct kdc_actions out;
    struct store_lookup port;
    struct store_account account[ACCOUNTS];
    struct store_key key[ACCOUNTS];
    struct sp_arena keep, kdc_mem, side_mem[2];
    struct kctx_keys keytab;
    struct kctx_replays replays;
    const char *rcache;
    struct krb_credential tgt, ticket;
    struct client_known known;
} w;

static struct sp_span user_parts[] = {SP_LIT("alice")}, service_parts[] = {SP_LIT("host"), SP_LIT("fs1")};

static struct sp_env now(void)
{
    return (struct sp_env){bench_wall_us(), (int64_t)bench_mono_ns() / 1000, bench_system_rng()};
}

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- the realm ---- */

static bool find(struct store_lookup *s, struct sp_span lookup, struct sp_arena *to,
                 struct store_account *out, struct sp_err *e)
{
    (void)s;
    (void)to;
    for (uint32_t i = 0; i < ACCOUNTS; i++)
        if (sp_same(w.account[i].lookup, lookup)) {
            *out = w.account[i];
            return true;
        }
    return sp_fail(e, SP_ENOTFOUND, 0, "no such account");
}

static bool find_id(struct store_lookup *s, uint64_t id, struct sp_arena *to, struct store_account *out,
                    struct sp_err *e)
{
    (void)s;
    (void)to;
    if (id < 1 || id > ACCOUNTS)
        return sp_fail(e, SP_ENOTFOUND, 0, "no such account");
    *out = w.account[id - 1];
    return true;
}

static uint64_t version(struct store_lookup *s)
{
    (void)s;
    return 1;
}

static void add(uint32_t i, const char *text, enum store_kind kind)
{
    struct store_account *a = &w.account[i];
    struct sp_err e = {0};
    struct krb_name n;
    struct sp_span realm;

    *a = (struct store_account){
        .id = i + 1, .generation = 1, .kind = kind, .name = sp_str(text), .keys = &w.key[i], .key_count = 1};
    w.key[i].kvno = 1;
    if (!krb_parse_name(sp_str(text), &w.keep, &n, &realm, &e) ||
        !krb_name_key(&n, &w.config.realm, &w.keep, &a->lookup, &e) ||
        !bench_key(w.crypto, kind == STORE_USER ? BENCH_USER : BENCH_SERVER, i, 18, &w.key[i].key, &e))
        bench_die(text, &e);
}

static bool find_key(struct kctx_keys *keys, const struct krb_name *service, struct sp_span realm,
                     int32_t etype, uint32_t kvno, struct sp_key *out, struct sp_err *e)
{
    (void)keys;
    (void)service;
    (void)realm;
    (void)kvno;
    *out = w.key[2].key;
    return etype == out->etype || sp_fail(e, SP_ENOTFOUND, KRB_AP_ERR_NOKEY, "no such key");
}

static bool note(struct kctx_replays *r, struct sp_span tag, int64_t now_s, int32_t skew_s, struct sp_err *e)
{
    (void)r;
    return host_note_replay(w.rcache, tag, now_s, skew_s, e);
}

static void set_up(void)
{
    static const uint8_t secret[16] = {2};
    struct kdc_shared_size size = {0};
    struct sp_err e = {0};

    w.crypto = crypto_new(&e);
    if (!w.crypto)
        bench_die("crypto", &e);
    bench_map_arena(&w.keep, ARENA);
    bench_map_arena(&w.kdc_mem, ARENA);
    bench_map_arena(&w.side_mem[INITIATOR], SEC_ARENA_MIN);
    bench_map_arena(&w.side_mem[ACCEPTOR], SEC_ARENA_MIN);
    kdc_config_defaults(&w.config, KDC_STANDARD);
    w.config.realm.name = sp_str(BENCH_REALM);
    w.port = (struct store_lookup){.find = find, .find_id = find_id, .version = version};
    w.kdc.config = &w.config;
    w.kdc.accounts = &w.port;
    w.kdc.crypto = w.crypto;
    w.kdc.shared = kdc_shared_init(bench_map(kdc_shared_bytes(size)), size, secret);
    add(0, "krbtgt/" BENCH_REALM, STORE_KRBTGT);
    add(1, "alice", STORE_USER);
    add(2, "host/fs1", STORE_SERVICE);
    w.keytab.find = find_key;
    w.replays.note = note;
}

/* ---- one handshake ---- */

struct talk {
    struct sec *side[2];
    uint64_t ns[WHOS];
    uint32_t trips, carried;
};

static struct sp_span carry(struct talk *t, struct sp_span request)
{
    struct kdc_request q = {
        .bytes = request,
        .door = KDC_COURIER,
        .source = {.id = {4, 127, 0, 0, 1}, .loopback = true, .text = "127.0.0.1"}
    };
    uint64_t began = cpu_ns();

    sp_arena_reset(&w.kdc_mem);
    kdc_step(&w.kdc, now(), &q, &w.kdc_mem, &w.out);
    t->ns[CARRIER] += cpu_ns() - began;
    t->carried++;
    return w.out.reply;
}

static struct sec_initiator initiator_of(const struct way *y)
{
    struct sec_initiator how = {
        .mechs = {y->mech},
        .mech_count = 1,
        .target_host = SP_LIT("fs1"),
        .flags = KCTX_MUTUAL | KCTX_REPLAY | KCTX_SEQUENCE | KCTX_CONF | KCTX_INTEG,
        .service_by_as = y->by_as,
        .wish = { .client = krb_name_of(NT_PRINCIPAL, user_parts, 1),
                  .realm = sp_str(BENCH_REALM),
                  .service = krb_name_of(NT_SRV_HST, service_parts, 2)}
    };

    client_policy_in_band(&how.policy);
    how.policy.spake = y->proof == PROOF_SPAKE;
    how.policy.timestamp = !how.policy.spake;
    if (y->proof == PROOF_TICKET)
        how.ticket = &w.ticket;
    else if (y->proof == PROOF_TGT)
        how.wish.tgt = &w.tgt;
    else {
        how.wish.keys = &w.key[1].key;
        how.wish.key_count = 1;
        how.wish.known = y->proof == PROOF_KNOWN ? &w.known : NULL;
    }
    return how;
}

static void open_side(struct talk *t, enum who who, const struct way *y)
{
    struct sec_initiator i = initiator_of(y);
    struct sec_acceptor a = {
        .realm = w.config.realm, .keys = &w.keytab, .replays = y->replays ? &w.replays : NULL, .skew_s = 300};
    struct sp_err e = {0};
    uint64_t began = cpu_ns();
    bool ok;

    sp_arena_reset(&w.side_mem[who]);
    ok = who == INITIATOR ? sec_new_initiator(&t->side[who], w.crypto, &i, &w.side_mem[who], &e)
                          : sec_new_acceptor(&t->side[who], w.crypto, &a, &w.side_mem[who], &e);
    t->ns[who] += cpu_ns() - began;
    if (!ok)
        bench_die(y->name, &e);
}

/* One step of one side, with what it wants carried. */
static struct sp_span step(struct talk *t, enum who who, struct sec_event ev)
{
    struct sec_action act = {0};
    struct sp_err e = {0};

    for (;;) {
        uint64_t began = cpu_ns();
        bool ok = sec_step(t->side[who], now(), &ev, &act, &e);

        t->ns[who] += cpu_ns() - began;
        if (!ok)
            bench_die(who == INITIATOR ? "initiator" : "acceptor", &e);
        if (act.what != SEC_CARRY)
            return act.token;
        ev = (struct sec_event){.kind = SEC_CARRIED, .bytes = carry(t, act.message)};
    }
}

static void shake_hands(struct talk *t, const struct way *y)
{
    struct sp_span token = {0};

    *t = (struct talk){0};
    open_side(t, INITIATOR, y);
    open_side(t, ACCEPTOR, y);
    for (int leg = 0; leg < LEGS_MAX; leg++) {
        if (leg > 0 && token.n == 0)
            break;
        token = step(t, leg % 2 ? ACCEPTOR : INITIATOR,
                     (struct sec_event){.kind = leg ? SEC_TOKEN : SEC_START, .bytes = token});
    }
}

/* Both established, with the same key; nothing is measured that did not end so. */
static void check(struct talk *t, const struct way *y)
{
    struct sp_key i = {0}, a = {0};
    struct sp_err e = {0};
    struct sec_facts f;

    if (!sec_is_established(t->side[INITIATOR]) || !sec_is_established(t->side[ACCEPTOR]) ||
        !kctx_session_key(sec_kctx(t->side[INITIATOR]), &i, &e) ||
        !kctx_session_key(sec_kctx(t->side[ACCEPTOR]), &a, &e) || i.n != a.n || memcmp(i.b, a.b, i.n) != 0)
        bench_die(y->name, &e);
    sec_tell(t->side[INITIATOR], &f);
    t->trips = f.from_client;
}

static void close_side(struct talk *t, enum who who)
{
    uint64_t began = cpu_ns();

    sec_wipe(t->side[who]);
    t->ns[who] += cpu_ns() - began;
}

static void close_both(struct talk *t)
{
    close_side(t, INITIATOR);
    close_side(t, ACCEPTOR);
}

/* ---- what an earlier login left ---- */

static struct sp_span kept(struct sp_span s)
{
    struct sp_err e = {0};
    struct sp_span c = sp_dup(&w.keep, s, &e);

    if (s.n > 0 && !c.p)
        bench_die("no memory", &e);
    return c;
}

static struct krb_credential kept_credential(const struct krb_credential *from, struct krb_name server)
{
    struct krb_credential c;

    if (!from)
        bench_die("no ticket came of a login", NULL);
    c = *from;
    c.client = krb_name_of(NT_PRINCIPAL, user_parts, 1);
    c.server = server;
    c.crealm = c.srealm = sp_str(BENCH_REALM);
    c.ticket = kept(from->ticket);
    return c;
}

static void log_in_before(void)
{
    static struct sp_span tgs_parts[] = {SP_LIT("krbtgt"), SP_LIT(BENCH_REALM)};
    const struct way *timestamp = &ways[2];
    struct talk t;

    shake_hands(&t, timestamp);
    check(&t, timestamp);
    w.tgt = kept_credential(sec_got_tgt(t.side[INITIATOR]), krb_name_of(NT_SRV_INST, tgs_parts, 2));
    w.ticket = kept_credential(sec_got_service(t.side[INITIATOR]), krb_name_of(NT_SRV_HST, service_parts, 2));
    w.known = (struct client_known){.etype = 18, .salt = SP_LIT(BENCH_REALM "alice")};
    close_both(&t);
}

/* ---- figures ---- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *v, uint32_t n)
{
    qsort(v, n, sizeof *v, by_size);
    return v[n / 2];
}

static void keep_figures(struct series *s, const struct talk *t)
{
    for (int i = 0; i < WHOS; i++)
        s->us[i][s->count] = (double)t->ns[i] / 1e3;
    s->both[s->count++] = (double)(t->ns[INITIATOR] + t->ns[ACCEPTOR]) / 1e3;
    s->trips = t->trips > s->trips ? t->trips : s->trips;
    s->carried = t->carried;
}

static void run(struct series *s, uint32_t count)
{
    for (uint32_t n = 0; n < count + count / 10; n++)
        for (size_t i = 0; i < WAYS; i++) {
            struct talk t;

            shake_hands(&t, &ways[i]);
            check(&t, &ways[i]);
            close_both(&t);
            if (n >= count / 10) /* before that it warms up */
                keep_figures(&s[i], &t);
        }
}

static void show(const struct way *y, struct series *s)
{
    printf("{\"way\":\"%s\",\"round_trips\":%u,\"carried\":%u,\"initiator_us\":%.2f,\"acceptor_us\":%.2f,"
           "\"kdc_us\":%.2f,\"both_us\":%.2f}",
           y->name, s->trips, s->carried, median(s->us[INITIATOR], s->count),
           median(s->us[ACCEPTOR], s->count), median(s->us[CARRIER], s->count), median(s->both, s->count));
}

int main(int argc, char **argv)
{
    struct series *s = bench_map(WAYS * sizeof *s);
    uint32_t count;

    if (argc != 3 || !bench_read_number(argv[1], COUNT_MAX, &count)) {
        fputs("usage: bench-iakerb-engine COUNT file2:REPLAY-CACHE\n", stderr);
        return 2;
    }
    w.rcache = argv[2];
    set_up();
    log_in_before();
    run(s, count);
    for (size_t i = 0; i < WAYS; i++) {
        fputs(i ? ",\n " : "[", stdout);
        show(&ways[i], &s[i]);
    }
    puts("]");
    crypto_free(w.crypto);
    return 0;
}
