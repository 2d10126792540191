/* SPDX-License-Identifier: MIT */
/* A conversation between our initiator and our acceptor with our KDC behind it, and everything that a driver,
 * a peer or somebody between them can do to it. Input: a byte that says what the two are (struct choice),
 * then operations: one byte, and what it takes. Whatever comes in: a failed context stays failed, nothing can
 * be asked of one that is not established, limits hold, no mechanism but ours is chosen; and two that nobody
 * disturbed have the same keys. */
#include "world.h"

#include "bytes/cursor.h"
#include "gss/sec.h"
#include "krb/messages.h"
#include "requests.h"

#include <stdlib.h>

enum operation {
    OP_START,
    OP_TO_ACCEPTOR,
    OP_TO_INITIATOR,
    OP_CARRY,
    OP_NOT_CARRIED, /* code */
    OP_CHANGE,      /* offset (2), bits: of the token on its way */
    OP_GIVE_ACCEPTOR,
    OP_GIVE_INITIATOR,
    OP_GIVE_CARRIED, /* each: length (2), bytes */
    OP_ASK,
    OP_LATER, /* seconds */
    OP_TALK,
    OP_WIPE,  /* which */
    OP_AGAIN, /* choice: new contexts, with the ticket that the initiator got */
    OP_GREET, /* the acceptor speaks first */
    OPS
};
enum choice {
    IS_SPNEGO = 1,
    IS_DISCOVERY = 2,
    IS_DCE = 4,
    IS_OLD = 8,
    IS_ONE_WAY = 16,
    IS_KRB5_FIRST = 32,
    IS_LAX = 64,
    IS_LITTLE = 128
};
enum {
    STEPS_MAX = 80,
    TOKEN_ROOM = 1 << 16,
    LITTLE = 24 * 1024,
    FLAGS = KCTX_REPLAY | KCTX_SEQUENCE | KCTX_INTEG
};

static _Alignas(16) uint8_t block[2][SEC_ARENA_MIN], side_block[1 << 17];
static uint8_t token[TOKEN_ROOM], request[TOKEN_ROOM];

static struct run {
    struct fuzz_world *w;
    struct sec *s[2]; /* by enum sec_role; NULL: could not be made */
    struct sp_arena mem[2], side;
    size_t token_n, request_n;
    bool carrying, disturbed;
    struct krb_credential ticket;
    bool has_ticket;
} R;

static struct sp_key user_key;
static char service_instance[BENCH_NAME_MAX];

static bool find_key(struct kctx_keys *keys, const struct krb_name *service, struct sp_span realm,
                     int32_t etype, uint32_t kvno, struct sp_key *out, struct sp_err *e)
{
    (void)keys;
    (void)service;
    (void)realm;
    (void)kvno;
    return bench_key(R.w->kdc.crypto, BENCH_SERVER, 1, etype, out, e);
}

static void make_initiator(uint8_t choice)
{
    static struct sp_span user_part[1], service_part[2];
    static char user[BENCH_NAME_MAX];
    struct sec_initiator how = {
        .spnego = choice & IS_SPNEGO,
        .mechs = {TOKEN_IAKERB, TOKEN_MS_KRB5, TOKEN_KRB5},
        .mech_count = choice & IS_SPNEGO ? 3 : 1,
        .discover = choice & IS_DISCOVERY,
        .old_mit = choice & IS_OLD ? SEC_OLD_MIT_ACCEPT : SEC_OLD_MIT_OFF,
        .ticket = R.has_ticket ? &R.ticket : NULL,
        .target_host = SP_LIT("nas1"),
        .flags = FLAGS
    };
    struct sp_err e = {0};

    user_part[0] = bench_user_name(FUZZ_PLAIN, user);
    service_part[0] = SP_LIT(BENCH_SERVICE);
    service_part[1] = bench_service_instance(1, service_instance);
    fuzz_must(bench_key(R.w->kdc.crypto, BENCH_USER, FUZZ_PLAIN, 18, &user_key, &e), "there is a user");
    if (choice & IS_KRB5_FIRST) {
        how.mechs[0] = TOKEN_KRB5;
        how.mechs[2] = TOKEN_IAKERB;
    }
    how.flags |= choice & IS_DCE ? KCTX_DCE : 0;
    how.flags |= choice & IS_ONE_WAY ? 0 : KCTX_MUTUAL;
    how.wish.client = krb_name_of(NT_PRINCIPAL, user_part, 1);
    how.wish.realm = choice & IS_DISCOVERY ? sp_span(NULL, 0) : SP_LIT(BENCH_REALM);
    how.wish.keys = &user_key;
    how.wish.key_count = 1;
    how.wish.service = krb_name_of(NT_SRV_HST, service_part, 2);
    client_policy_direct(&how.policy);
    how.policy.spake = false;
    if (!sec_new_initiator(&R.s[SEC_INITIATOR], R.w->kdc.crypto, &how, &R.mem[SEC_INITIATOR], &e))
        R.s[SEC_INITIATOR] = NULL;
}

static void make_acceptor(uint8_t choice)
{
    static struct kctx_keys keys = {find_key};
    struct sec_acceptor how = {.realm = {.name = SP_LIT(BENCH_REALM)},
                               .keys = &keys,
                               .skew_s = 300,
                               .old_mit = SEC_OLD_MIT_ACCEPT,
                               .finished = choice & IS_LAX ? SEC_FINISHED_OPTIONAL : SEC_FINISHED_REQUIRED,
                               .list_mic = choice & IS_LAX ? SEC_MIC_WHEN_SENT : SEC_MIC_STRICT};
    struct sp_err e = {0};

    if (!sec_new_acceptor(&R.s[SEC_ACCEPTOR], R.w->kdc.crypto, &how, &R.mem[SEC_ACCEPTOR], &e))
        R.s[SEC_ACCEPTOR] = NULL;
}

static void make_both(uint8_t choice)
{
    for (int i = 0; i < 2; i++)
        sp_arena_init(&R.mem[i], block[i], choice & IS_LITTLE ? LITTLE : sizeof block[i]);
    R.token_n = R.request_n = 0;
    R.carrying = R.disturbed = false;
    make_initiator(choice);
    make_acceptor(choice);
}

/* ---- what always holds ---- */

static void ask(struct sec *s)
{
    struct sec_facts f;
    struct client_known known;
    bool done = sec_is_established(s);
    enum token_mech m = sec_mech(s);

    sec_tell(s, &f);
    fuzz_must((sec_kctx(s) != NULL) == done, "there is a context when it is established, and not before");
    fuzz_must(done ? m == TOKEN_IAKERB || m == TOKEN_KRB5 || m == TOKEN_MS_KRB5 : m == TOKEN_UNKNOWN,
              "no mechanism but ours is chosen");
    fuzz_must(!done || (f.from_client <= SEC_MESSAGES_MAX && f.bytes <= SEC_TRANSCRIPT_MAX), "limits hold");
    fuzz_must(!done || sec_kctx(s)->state == KCTX_READY, "what is established is ready");
    (void)sec_learnt(s, &known);
    (void)sec_got_tgt(s);
    (void)sec_got_service(s);
}

static void check_failed(struct sec *s)
{
    struct sec_action act;
    struct sp_err e = {0};

    ask(s);
    fuzz_must(!sec_is_established(s), "a failed context is not established");
    fuzz_must(!sec_step(s, R.w->env, &(struct sec_event){.kind = SEC_TOKEN}, &act, &e) && act.token.n == 0,
              "a failed context stays failed");
}

static void check_same_keys(void)
{
    struct sp_key a = {0}, b = {0};
    struct sp_err e = {0};

    for (int i = 0; i < 2; i++)
        if (!R.s[i] || !sec_is_established(R.s[i]))
            return;
    fuzz_must(kctx_session_key(sec_kctx(R.s[0]), &a, &e) && kctx_session_key(sec_kctx(R.s[1]), &b, &e),
              "what is established has a key");
    fuzz_must(R.disturbed || (a.n == b.n && memcmp(a.b, b.b, a.n) == 0), "both have the same key");
}

static void check_carried(const struct sec_action *act)
{
    enum krb_type t = krb_sniff(act->message);

    fuzz_must(t == KRB_AS_REQ || t == KRB_TGS_REQ, "only requests to a KDC are carried");
    fuzz_must(sp_same(act->realm, SP_LIT(BENCH_REALM)), "only to the KDC of a realm that is served");
}

/* ---- one event ---- */

static void keep(uint8_t *to, size_t *n, struct sp_span from)
{
    fuzz_must(from.n <= TOKEN_ROOM, "tokens are as small as promised");
    if (from.n > 0)
        memcpy(to, from.p, from.n);
    *n = from.n;
}

static void step(enum sec_role role, enum sec_event_kind kind, struct sp_span bytes, int32_t code)
{
    uint8_t *copy = fuzz_copy(bytes.p, bytes.n);
    struct sec_event ev = {.kind = kind, .bytes = sp_span(copy, bytes.n), .code = code};
    struct sec *s = R.s[role];
    struct sec_action act = {0};
    struct sp_err e = {0};
    bool before, ok;

    if (!s) {
        free(copy);
        return;
    }
    before = sec_is_established(s);
    R.w->env.mono_us += 1000;
    R.w->env.wall_us += 1000;
    ok = sec_step(s, R.w->env, &ev, &act, &e);
    fuzz_must(ok || e.kind != SP_OK, "a refusal has a reason");
    fuzz_must(ok || e.kind != SP_EBUG, "input is nobody's bug");
    fuzz_must(!before || sec_is_established(s), "an established context stays so");
    if (ok && act.what == SEC_CARRY) {
        check_carried(&act);
        keep(request, &R.request_n, act.message);
        R.carrying = true;
    } else if (act.token.n > 0) {
        keep(token, &R.token_n, act.token);
    }
    ask(s);
    free(copy);
}

static void carry(void)
{
    struct kdc_request q = fuzz_request(sp_span(request, R.request_n), KDC_TCP);
    struct kdc_actions out = {0};

    if (!R.carrying)
        return;
    R.carrying = false;
    sp_arena_reset(&R.w->mem);
    kdc_step(&R.w->kdc, R.w->env, &q, &R.w->mem, &out);
    step(SEC_ACCEPTOR, SEC_CARRIED, out.reply, 0);
}

static void talk(void)
{
    uint8_t sealed[256], open[256];

    for (int from = 0; from < 2; from++) {
        struct sec *a = R.s[from], *b = R.s[1 - from];
        size_t n = sizeof sealed, m = sizeof open;
        enum kctx_wrap how;
        struct sp_err e = {0};
        bool good = false;

        if (!a || !b || !sec_is_established(a) || !sec_is_established(b))
            continue;
        fuzz_must(kctx_wrap(sec_kctx(a), R.w->kdc.crypto, R.w->env.rng, KCTX_CONFIDENTIAL, SP_LIT("text"),
                            sealed, &n, &e),
                  "what is established can seal");
        fuzz_must(kctx_unwrap(sec_kctx(b), R.w->kdc.crypto, sp_span(sealed, n), open, &m, &how, &good, &e) ||
                      R.disturbed,
                  "and its peer can open");
    }
}

static void keep_ticket(void)
{
    const struct krb_credential *c =
        R.s[SEC_INITIATOR] && !R.has_ticket ? sec_got_service(R.s[SEC_INITIATOR]) : NULL;
    static struct sp_span client[1], server[2];
    static char user[BENCH_NAME_MAX];
    struct sp_err e = {0};

    if (!c)
        return;
    R.ticket = *c;
    client[0] = bench_user_name(FUZZ_PLAIN, user);
    server[0] = SP_LIT(BENCH_SERVICE);
    server[1] = bench_service_instance(1, service_instance);
    R.ticket.client = krb_name_of(NT_PRINCIPAL, client, 1);
    R.ticket.server = krb_name_of(NT_SRV_HST, server, 2);
    R.ticket.crealm = R.ticket.srealm = SP_LIT(BENCH_REALM);
    R.ticket.ticket = sp_dup(&R.side, c->ticket, &e);
    R.has_ticket = R.ticket.ticket.p != NULL;
}

static struct sp_span given(struct sp_cur *c)
{
    size_t n = sp_get_be16(c, "length");

    R.disturbed = true;
    return sp_take(c, n < sp_left(c) ? n : sp_left(c), "bytes");
}

static void change(struct sp_cur *c)
{
    size_t at = sp_get_be16(c, "offset");
    uint8_t bits = sp_get_u8(c, "bits");

    R.disturbed = true;
    if (at < R.token_n)
        token[at] ^= bits;
}

static void pass(enum sec_role to)
{
    if (R.token_n > 0)
        step(to, SEC_TOKEN, sp_span(token, R.token_n), 0);
}

static void later(struct sp_cur *c)
{
    int64_t us = (int64_t)sp_get_u8(c, "seconds") * 1000000;

    R.w->env.mono_us += us;
    R.w->env.wall_us += us;
}

static void again(struct sp_cur *c)
{
    keep_ticket();
    for (int i = 0; i < 2; i++)
        sec_wipe(R.s[i]);
    make_both(sp_get_u8(c, "choice"));
}

static void wipe(struct sp_cur *c)
{
    struct sec *s = R.s[sp_get_u8(c, "which") & 1];

    if (s) {
        sec_wipe(s);
        check_failed(s);
    }
}

static void operate(enum operation op, struct sp_cur *c)
{
    switch (op) {
    case OP_START:
        step(SEC_INITIATOR, SEC_START, sp_span(NULL, 0), 0);
        break;
    case OP_GREET:
        step(SEC_ACCEPTOR, SEC_START, sp_span(NULL, 0), 0);
        break;
    case OP_TO_ACCEPTOR:
        pass(SEC_ACCEPTOR);
        break;
    case OP_TO_INITIATOR:
        pass(SEC_INITIATOR);
        break;
    case OP_CARRY:
        carry();
        break;
    case OP_NOT_CARRIED:
        R.carrying = false;
        step(SEC_ACCEPTOR, SEC_NOT_CARRIED, sp_span(NULL, 0), sp_get_u8(c, "code"));
        break;
    case OP_CHANGE:
        change(c);
        break;
    case OP_GIVE_ACCEPTOR:
        step(SEC_ACCEPTOR, SEC_TOKEN, given(c), 0);
        break;
    case OP_GIVE_INITIATOR:
        step(SEC_INITIATOR, SEC_TOKEN, given(c), 0);
        break;
    case OP_GIVE_CARRIED:
        step(SEC_ACCEPTOR, SEC_CARRIED, given(c), 0);
        break;
    case OP_LATER:
        later(c);
        break;
    case OP_TALK:
        talk();
        break;
    case OP_WIPE:
        wipe(c);
        break;
    case OP_AGAIN:
        again(c);
        break;
    case OP_ASK:
    case OPS:
        check_same_keys();
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct sp_err e = {0};
    struct sp_cur c = sp_cur_of(sp_span(data, n), &e);

    memset(&R, 0, sizeof R);
    R.w = fuzz_world();
    sp_arena_init(&R.side, side_block, sizeof side_block);
    make_both(sp_get_u8(&c, "choice"));
    for (unsigned i = 0; i < STEPS_MAX && sp_left(&c) > 0; i++)
        operate((enum operation)(sp_get_u8(&c, "operation") % OPS), &c);
    check_same_keys();
    for (int i = 0; i < 2; i++)
        sec_wipe(R.s[i]);
    return 0;
}
