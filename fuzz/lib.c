/* SPDX-License-Identifier: MIT */
/* The public library, as a program that is out of its mind would use it: its calls in any order, on contexts
 * in any state, with tokens of its own, with memory and chance that run out. Input: operations, each a letter
 * (of which five bits count, enum operation) and what it takes. Whatever comes: a failure has a reason, and
 * it is never ours; what failed stays failed; a buffer that was said to be large enough is; two that nobody
 * disturbed have one key and understand each other; nothing is left when all is freed. */
#include "world.h"

#include "bytes/cursor.h"
#include "sallyport/sallyport.h"

#include <stdlib.h>
#include <string.h>

enum operation {
    OP_INITIATOR = 'i' & 31, /* slot, options, flags, mechanisms, secret, client, target */
    OP_ACCEPTOR = 'a' & 31,  /* slot, options, service */
    OP_LOGIN = 'l' & 31,     /* slot, goal, options, ticket options, secret, client, service */
    OP_PASSWORD = 'd' & 31,  /* slot, options, secret, client, target, length: a change of a password */
    OP_EVENT = 'e' & 31,     /* slot, kind, which bytes, code */
    OP_RUN = 'r' & 31,       /* initiator, acceptor: until both are done */
    OP_GET = 'g' & 31,       /* slot: a login, until it is done */
    OP_KDC = 'k' & 31,       /* flags: what was last to be carried is answered */
    OP_CHANGE = 'c' & 31,    /* which bytes, offset (2), bits */
    OP_PUT = 'p' & 31,       /* which bytes, length (2), bytes */
    OP_EXPORT = 'x' & 31,    /* slot */
    OP_IMPORT = 'm' & 31,    /* slot */
    OP_FREE = 'f' & 31,      /* slot */
    OP_TALK = 't' & 31,      /* slot, slot, signed or sealed */
    OP_PIECES = 'v' & 31,    /* slot, slot, signed or sealed, shape */
    OP_WRAP = 'w' & 31,      /* slot, signed or sealed, length */
    OP_UNWRAP = 'u' & 31,    /* slot */
    OP_ASK = 'q' & 31,       /* slot */
    OP_STARVE = 's' & 31,    /* allocations until one fails */
    OP_DRY = 'y' & 31,       /* draws until one fails */
    OP_ACCOUNT = 'n' & 31,   /* name, options, password, which bytes are its keytab afterwards */
    OP_RECIPE = 'h' & 31,    /* type, iterations (2) */
    OP_KEYTAB = 'j' & 31,    /* which bytes */
    OP_LATER = 'z' & 31,     /* seconds */
};
enum { SLOTS = 4, NOBODY = SLOTS, TURNS_MAX = 24, OPERATIONS_MAX = 60, ROOM = 1 << 16, TEXT_MAX = 255 };
enum kept_bytes { TOKEN, MESSAGE, ANSWER, CCACHE, LEARNT, EXPORTED, KEYTAB, GIVEN, KEPT };

static uint8_t room[KEPT][ROOM];

static struct run {
    struct sallyport *lib;
    struct sallyport_kdc *kdc;
    struct sallyport_keytab *keytab;
    struct sallyport_context *slot[SLOTS];
    unsigned mate[SLOTS]; /* who has the same key, NOBODY: unknown */
    bool failed[SLOTS];
    unsigned exported_mate;
    size_t n[KEPT];
    int64_t now_us;
    unsigned live, starve_in, dry_in; /* 0: never */
    bool short_of;                    /* something ran out since the last call */
    uint64_t chance;
    struct sallyport_error e;
} R;

static const char text[TEXT_MAX] = "what one says to the other";

/* ---- the caller's side ---- */

static void *allocate(void *user, size_t n)
{
    (void)user;
    if (R.starve_in && --R.starve_in == 0) {
        R.short_of = true;
        return NULL;
    }
    R.live++;
    return malloc(n);
}

static void release(void *user, void *p)
{
    (void)user;
    R.live--;
    free(p);
}

static bool draw(void *user, void *p, size_t n)
{
    (void)user;
    if (R.dry_in && --R.dry_in == 0) {
        R.short_of = true;
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        R.chance = R.chance * UINT64_C(6364136223846793005) + 1442695040888963407u;
        ((uint8_t *)p)[i] = (uint8_t)(R.chance >> 56);
    }
    return true;
}

static struct sallyport_error *error(void)
{
    R.e = (struct sallyport_error)SALLYPORT_ERROR_INIT;
    R.short_of = false;
    return &R.e;
}

static void check_reason(const struct sallyport_error *e)
{
    fuzz_must(e->kind > SALLYPORT_OK && e->kind < SALLYPORT_BUG,
              "a failure has a reason, and it is not ours");
    fuzz_must(memchr(e->text, 0, sizeof e->text) != NULL, "its text ends");
    fuzz_must((e->kind != SALLYPORT_BACKEND && e->kind != SALLYPORT_NO_MEMORY) || R.short_of,
              "nothing runs out that is there");
}

static bool told(bool ok)
{
    if (!ok)
        check_reason(&R.e);
    return ok;
}

static struct sallyport_bytes kept(enum kept_bytes which)
{
    return (struct sallyport_bytes){R.n[which] ? room[which] : NULL, R.n[which]};
}

static void keep(enum kept_bytes which, struct sallyport_bytes b)
{
    fuzz_must(b.n <= ROOM, "messages are as small as promised");
    if (b.n > 0)
        memmove(room[which], b.p, b.n);
    R.n[which] = b.n;
}

static const char *const names[] = {
    NULL,       "alice@NAS1",  "alice", "host/nas1", "host/nas1@NAS1",  "backup/nas1",
    "bob@NAS1", "krbtgt/NAS1", "a\\",   "",          "alice@ELSEWHERE", "kadmin/changepw"};

static const char *name(struct sp_cur *c)
{
    return names[sp_get_u8(c, "name") % (sizeof names / sizeof *names)];
}

/* ---- a realm ---- */

static void add(const char *account, const char *password)
{
    struct sallyport_account a = {.size = sizeof a, .name = account};

    if (password)
        a.password = (struct sallyport_bytes){password, strlen(password)};
    fuzz_must(sallyport_kdc_add(R.kdc, &a, error()), "there are accounts");
}

static void make_realm(void)
{
    struct sallyport_options o = {.size = sizeof o, .random = draw, .allocate = allocate, .release = release};
    struct sallyport_kdc_options k = {.size = sizeof k,
                                      .realm = "NAS1",
                                      .options = SALLYPORT_KDC_FORWARDABLE | SALLYPORT_KDC_NO_GUESS_LIMITS,
                                      .renew_life_s = 100000};
    struct sallyport_keytab_options t = {.size = sizeof t, .replay_slots = 64};

    R.n[KEYTAB] = ROOM;
    R.lib = sallyport_new(&o, error());
    R.kdc = R.lib ? sallyport_kdc_new(R.lib, &k, error()) : NULL;
    fuzz_must(R.kdc != NULL, "there is a realm");
    add("alice", "secret");
    add("host/nas1", NULL);
    add("backup/nas1", NULL);
    fuzz_must(sallyport_kdc_keytab(R.kdc, "host/nas1", room[KEYTAB], &R.n[KEYTAB], error()),
              "there is a keytab");
    t.keytab = kept(KEYTAB);
    R.keytab = sallyport_keytab_new(R.lib, &t, error());
    fuzz_must(R.keytab != NULL, "and it can be read");
}

/* ---- slots ---- */

static unsigned slot(struct sp_cur *c)
{
    return sp_get_u8(c, "slot") % SLOTS;
}

static void part(unsigned i)
{
    if (R.mate[i] != NOBODY)
        R.mate[R.mate[i]] = NOBODY;
    R.mate[i] = NOBODY;
    if (R.exported_mate == i)
        R.exported_mate = NOBODY;
}

static void empty(unsigned i)
{
    part(i);
    sallyport_context_free(R.slot[i]);
    R.slot[i] = NULL;
    R.failed[i] = false;
}

static void fill(unsigned i, struct sallyport_context *x)
{
    (void)told(x != NULL);
    R.slot[i] = x;
}

static void take_secret(struct sp_cur *c, struct sallyport_bytes *password, struct sallyport_bytes *keytab,
                        struct sallyport_bytes *ccache, struct sallyport_bytes *learnt)
{
    uint8_t which = sp_get_u8(c, "secret");

    if (which & 1)
        *password = (struct sallyport_bytes){which & 16 ? "wrong" : "secret", which & 16 ? 5 : 6};
    if (which & 2)
        *keytab = kept(KEYTAB);
    if (which & 4)
        *ccache = kept(CCACHE);
    if (which & 8)
        *learnt = kept(LEARNT);
}

static void new_initiator(struct sp_cur *c)
{
    unsigned i = slot(c);
    struct sallyport_bindings b = {
        .size = sizeof b, .application = {"tls", 3}
    };
    struct sallyport_initiator o = {.size = sizeof o};
    uint8_t flags, mechs;

    empty(i);
    o.options = sp_get_u8(c, "options") & 63;
    flags = sp_get_u8(c, "flags");
    mechs = sp_get_u8(c, "mechs");
    o.flags = (flags & 63u) | (flags & 64 ? SALLYPORT_DCE : 0) | (flags & 128 ? SALLYPORT_IDENTIFY : 0);
    for (unsigned k = 0; k < 3; k++)
        o.mechs[k] = mechs >> (2 * k) & 3;
    o.bindings = mechs & 64 ? &b : NULL;
    take_secret(c, &o.password, &o.keytab, &o.ccache, &o.learnt);
    if (flags & SALLYPORT_DELEG)
        o.forwarded = kept(CCACHE);
    o.client = name(c);
    o.target = name(c);
    fill(i, sallyport_initiator_new(R.lib, &o, error()));
}

static void new_acceptor(struct sp_cur *c)
{
    static const char *const realms[] = {"OTHER", "THIRD"};
    unsigned i = slot(c);
    struct sallyport_bindings b = {
        .size = sizeof b, .application = {"tls", 3}
    };
    struct sallyport_acceptor o = {.size = sizeof o, .keytab = R.keytab};
    uint8_t options;

    empty(i);
    options = sp_get_u8(c, "options");
    o.options = options & 63;
    o.bindings = options & 64 ? &b : NULL;
    if (!(options & 128)) {
        o.realm = "NAS1";
        o.realms = realms;
        o.realms_count = 2;
    }
    o.service = name(c);
    fill(i, sallyport_acceptor_new(R.lib, &o, error()));
}

static void new_login(struct sp_cur *c)
{
    unsigned i = slot(c);
    struct sallyport_login o = {.size = sizeof o};

    empty(i);
    o.goal = (int8_t)sp_get_u8(c, "goal");
    o.options = sp_get_u8(c, "options") & 15;
    o.ticket_options = sp_get_u8(c, "ticket options") & 15;
    take_secret(c, &o.password, &o.keytab, &o.ccache, &o.learnt);
    o.client = name(c);
    o.service = name(c);
    fill(i, sallyport_login_new(R.lib, &o, error()));
}

static void new_change(struct sp_cur *c)
{
    unsigned i = slot(c);
    struct sallyport_bytes none;
    struct sallyport_change o = {.size = sizeof o};

    empty(i);
    o.options = sp_get_u8(c, "options") & 15;
    take_secret(c, &o.password, &o.keytab, &none, &o.learnt);
    o.client = name(c);
    o.target = name(c);
    o.next = (struct sallyport_bytes){text, sp_get_u8(c, "length")};
    fill(i, sallyport_change_new(R.lib, &o, error()));
}

/* ---- steps ---- */

static bool is_established(unsigned i)
{
    struct sallyport_facts f = {.size = sizeof f};

    fuzz_must(sallyport_tell(R.slot[i], &f), "facts can be told");
    return f.established;
}

static void check_stop(unsigned i, const struct sallyport_action *a)
{
    fuzz_must(a->why != NULL, "who stops says why");
    check_reason(a->why);
    if (a->why->code == SALLYPORT_NO_CONTEXT || R.short_of)
        return;
    R.failed[i] = true;
    part(i);
    fuzz_must(!is_established(i), "what failed is not established");
}

static void check_done(unsigned i, const struct sallyport_action *a)
{
    fuzz_must(a->peer != NULL && a->peer[0] != 0, "who is done knows with whom");
    fuzz_must(is_established(i), "what is done is established");
}

static enum sallyport_do step(unsigned i, int32_t kind, struct sallyport_bytes bytes, int32_t code)
{
    uint8_t *copy = fuzz_copy(bytes.p, bytes.n);
    struct sallyport_event ev = {
        .size = sizeof ev,
        .kind = kind,
        .code = code,
        .bytes = {copy, bytes.n},
        .wall_us = R.now_us,
        .mono_us = R.now_us
    };
    struct sallyport_action a = {.size = sizeof a};
    bool was_failed = R.failed[i];
    enum sallyport_do what;

    R.now_us += 1000;
    R.short_of = false;
    what = sallyport_step(R.slot[i], &ev, &a);
    fuzz_must((int32_t)what == a.what, "both say the same");
    fuzz_must(!was_failed || what == SALLYPORT_STOP, "what failed stays failed");
    if (what == SALLYPORT_STOP)
        check_stop(i, &a);
    if (what == SALLYPORT_DONE)
        check_done(i, &a);
    if (what == SALLYPORT_CARRY || what == SALLYPORT_CARRY_CHANGE) {
        fuzz_must(a.realm.n > 0 && a.message.n > 0, "something is to be carried somewhere");
        keep(MESSAGE, a.message);
    } else {
        keep(TOKEN, a.token);
    }
    free(copy);
    return what;
}

static void ask_kdc(uint8_t flags)
{
    uint8_t *copy = fuzz_copy(room[MESSAGE], R.n[MESSAGE]);
    struct sallyport_request q = {
        .size = sizeof q,
        .bytes = {copy,   R.n[MESSAGE]},
        .source = {"here", 4           },
        .datagram = flags & 1,
        .local = flags & 2,
        .wall_us = R.now_us,
        .mono_us = R.now_us
    };
    struct sallyport_answer a = {.size = sizeof a};

    R.n[ANSWER] = 0;
    if (told(sallyport_kdc_step(R.kdc, &q, &a, error()))) {
        fuzz_must(a.event && a.preauth && a.text, "an answer has its words");
        keep(ANSWER, a.reply);
    }
    free(copy);
}

/* With all that is to be carried in between. */
static enum sallyport_do step_on(unsigned i, int32_t kind, struct sallyport_bytes bytes)
{
    enum sallyport_do what = step(i, kind, bytes, 0);

    for (int turn = 0; what == SALLYPORT_CARRY && turn < TURNS_MAX; turn++) {
        ask_kdc(0);
        what = step(i, SALLYPORT_CARRIED, kept(ANSWER), 0);
    }
    return what;
}

static void check_same_key(unsigned a, unsigned b)
{
    uint8_t key[2][32];
    size_t n[2] = {32, 32};
    int32_t type[2];

    if (!told(sallyport_session_key(R.slot[a], key[0], &n[0], &type[0], error())) ||
        !told(sallyport_session_key(R.slot[b], key[1], &n[1], &type[1], error())))
        fuzz_must(false, "what is done has a key");
    fuzz_must(n[0] == n[1] && type[0] == type[1] && memcmp(key[0], key[1], n[0]) == 0,
              "both have the same key");
}

static void run(struct sp_cur *c)
{
    unsigned side[2], done = 0;
    enum sallyport_do what = SALLYPORT_SEND;
    int32_t kind = SALLYPORT_START;

    side[0] = slot(c);
    side[1] = slot(c);
    if (!R.slot[side[0]] || !R.slot[side[1]] || side[0] == side[1])
        return;
    R.n[TOKEN] = 0;
    for (unsigned turn = 0; turn < TURNS_MAX && done < 2 && what != SALLYPORT_STOP; turn++) {
        what = step_on(side[turn & 1], kind, kept(TOKEN));
        kind = SALLYPORT_TOKEN;
        done += what == SALLYPORT_DONE;
        if (R.n[TOKEN] == 0)
            break;
    }
    if (done < 2 || what == SALLYPORT_STOP)
        return;
    check_same_key(side[0], side[1]);
    R.mate[side[0]] = side[1];
    R.mate[side[1]] = side[0];
}

static void step_by_hand(struct sp_cur *c)
{
    unsigned i = slot(c);
    int32_t kind = sp_get_u8(c, "kind") % 5;
    enum kept_bytes which = (enum kept_bytes)(sp_get_u8(c, "bytes") % KEPT);
    uint8_t code = sp_get_u8(c, "code");

    if (R.slot[i])
        (void)step(i, kind, kept(which), code);
}

/* ---- results ---- */

typedef bool result_fn(struct sallyport_context *x, void *out, size_t *n, struct sallyport_error *e);

/* Asked with no room first: what is said to be needed is enough, and asking has changed nothing. */
static void get(result_fn *f, unsigned i, enum kept_bytes to)
{
    size_t need = 0, n = ROOM;
    bool ok = told(f(R.slot[i], NULL, &need, error())), full = !ok && R.e.kind == SALLYPORT_FULL;

    fuzz_must(!ok || need == 0, "nothing fits into no room");
    fuzz_must(!full || need > 0, "who has too little room is told how much");
    ok = told(f(R.slot[i], room[to], &n, error()));
    fuzz_must(!full || need > ROOM || R.short_of || (ok && n == need), "the room that was said is enough");
    R.n[to] = ok ? n : 0;
}

static void ask(unsigned i)
{
    if (!R.slot[i])
        return;
    (void)is_established(i);
    fuzz_must(sallyport_client_name(R.slot[i]) && sallyport_service_name(R.slot[i]),
              "there are names, or empty ones");
    get(sallyport_credentials, i, CCACHE);
    get(sallyport_learnt, i, LEARNT);
    get(sallyport_delegated, i, GIVEN);
}

static void export(unsigned i)
{
    unsigned mate = R.slot[i] ? R.mate[i] : NOBODY;

    if (!R.slot[i])
        return;
    get(sallyport_export, i, EXPORTED);
    if (R.n[EXPORTED] > 0) {
        part(i);
        R.exported_mate = mate;
    }
}

static void import(unsigned i)
{
    uint8_t *copy = fuzz_copy(room[EXPORTED], R.n[EXPORTED]);
    unsigned mate = R.exported_mate;

    empty(i);
    fill(i, sallyport_import(R.lib, (struct sallyport_bytes){copy, R.n[EXPORTED]}, error()));
    free(copy);
    if (!R.slot[i] || mate == NOBODY || mate == i || !R.slot[mate])
        return;
    part(mate);
    R.mate[i] = mate;
    R.mate[mate] = i;
}

/* ---- messages ---- */

static bool is_out_of_order(void)
{
    int32_t code = R.e.code;

    return code == SALLYPORT_DUPLICATE || code == SALLYPORT_OLD || code == SALLYPORT_UNSEQUENCED ||
           code == SALLYPORT_GAP;
}

static void check_text(unsigned from, unsigned to, bool ok, const void *got, size_t n, size_t want)
{
    if (R.mate[from] != to || R.mate[to] != from || R.short_of)
        return;
    fuzz_must(ok || is_out_of_order(), "two that nobody disturbed understand each other");
    fuzz_must(n == want && memcmp(got, text, n) == 0, "what was said is what is heard");
}

static void talk(struct sp_cur *c)
{
    unsigned a = slot(c), b = slot(c);
    int32_t how = sp_get_u8(c, "how") % 3;
    uint8_t sealed[TEXT_MAX + SALLYPORT_WRAP_MORE], open[TEXT_MAX + SALLYPORT_WRAP_MORE],
        mic[SALLYPORT_MIC_MAX], prf[40];
    size_t n = sizeof sealed, m = sizeof open, mic_n = sizeof mic;
    struct sallyport_bytes said = {text, sizeof text};
    bool ok;

    if (!R.slot[a] || !R.slot[b])
        return;
    if (told(sallyport_wrap(R.slot[a], how, said, sealed, &n, error()))) {
        fuzz_must(sallyport_wrap_limit(R.slot[a], how, n) == sizeof text, "the limit is exact");
        ok = told(sallyport_unwrap(R.slot[b], (struct sallyport_bytes){sealed, n}, open, &m, NULL, error()));
        check_text(a, b, ok, open, m, sizeof text);
    }
    if (told(sallyport_sign(R.slot[a], said, mic, &mic_n, error()))) {
        ok = told(sallyport_verify(R.slot[b], said, (struct sallyport_bytes){mic, mic_n}, error()));
        check_text(a, b, ok, text, sizeof text, sizeof text);
    }
    (void)told(sallyport_prf(R.slot[a], how, said, prf, sizeof prf, error()));
}

static void talk_in_pieces(struct sp_cur *c)
{
    unsigned a = slot(c), b = slot(c);
    int32_t how = sp_get_u8(c, "how") % 3, was;
    uint8_t shape = sp_get_u8(c, "shape"), head[128], tail[128], body[TEXT_MAX];
    struct sallyport_piece v[4] = {
        {SALLYPORT_PIECE_HEADER,                                        head,                    sizeof head},
        {SALLYPORT_PIECE_DATA,                                          body,                    shape      },
        {shape & 1 ? SALLYPORT_PIECE_TRAILER : SALLYPORT_PIECE_PADDING, tail,                    sizeof tail},
        {shape & 2 ? SALLYPORT_PIECE_SIGN_ONLY : SALLYPORT_PIECE_DATA,  (void *)(uintptr_t)text,
         shape & 2 ? 7 : 0                                                                                  },
    };
    bool ok;

    if (!R.slot[a] || !R.slot[b])
        return;
    memcpy(body, text, sizeof body);
    if (!told(sallyport_piece_lengths(R.slot[a], how, v, 4, error())))
        return;
    fuzz_must(v[0].n <= sizeof head && v[2].n <= sizeof tail, "headers and trailers are short");
    if (!told(sallyport_wrap_pieces(R.slot[a], how, v, 4, error())))
        return;
    ok = told(sallyport_unwrap_pieces(R.slot[b], v, 4, &was, error()));
    check_text(a, b, ok, body, shape, shape);
}

static void wrap(struct sp_cur *c)
{
    unsigned i = slot(c);
    int32_t how = sp_get_u8(c, "how") % 3;
    struct sallyport_bytes said = {text, sp_get_u8(c, "length")};

    R.n[TOKEN] = 0;
    if (R.slot[i]) {
        size_t n = ROOM;

        if (told(sallyport_wrap(R.slot[i], how, said, room[TOKEN], &n, error())))
            R.n[TOKEN] = n;
    }
}

static void unwrap(unsigned i)
{
    static uint8_t out[ROOM];
    uint8_t *copy = fuzz_copy(room[TOKEN], R.n[TOKEN]);
    struct sallyport_piece v[2] = {
        {SALLYPORT_PIECE_STREAM, copy, R.n[TOKEN]},
        {SALLYPORT_PIECE_DATA,   NULL, 0         },
    };
    size_t n = sizeof out;

    if (R.slot[i]) {
        if (!told(sallyport_unwrap(R.slot[i], kept(TOKEN), out, &n, NULL, error())))
            fuzz_must(n == 0 || is_out_of_order(), "what is not genuine is not shown");
        (void)told(sallyport_verify(R.slot[i], (struct sallyport_bytes){text, 4}, kept(TOKEN), error()));
        if (told(sallyport_unwrap_pieces(R.slot[i], v, 2, NULL, error())))
            fuzz_must((uint8_t *)v[1].p >= copy && (uint8_t *)v[1].p + v[1].n <= copy + R.n[TOKEN],
                      "the text is in the stream");
    }
    free(copy);
}

/* ---- the rest ---- */

static void account(struct sp_cur *c)
{
    struct sallyport_account a = {.size = sizeof a, .name = name(c), .id = 77};
    uint8_t options = sp_get_u8(c, "options"), password = sp_get_u8(c, "password");
    enum kept_bytes to = (enum kept_bytes)(sp_get_u8(c, "keytab") % KEPT);
    char lookup[1025];
    size_t n = ROOM;

    a.options = options & 7;
    a.password = (struct sallyport_bytes){password ? text : NULL, password};
    (void)told(sallyport_kdc_make_record(R.kdc, &a, room[GIVEN], &n, error()));
    a.id = options & 8 ? 77 : 0;
    (void)told(sallyport_kdc_add(R.kdc, &a, error()));
    if (!a.name)
        return;
    n = ROOM;
    R.n[to] = told(sallyport_kdc_keytab(R.kdc, a.name, room[to], &n, error())) ? n : 0;
    n = sizeof lookup;
    if (told(sallyport_kdc_lookup_name(R.kdc, a.name, lookup, &n, error())))
        fuzz_must(n > 0 && lookup[n - 1] == 0, "a name for looking up ends");
}

static void recipe(struct sp_cur *c)
{
    struct sallyport_recipe r = {
        .size = sizeof r, .password = kept(GIVEN), .salt = {"salt", 4}
    };
    uint8_t key[32];
    size_t n = sizeof key;

    r.type = sp_get_u8(c, "type");
    r.iterations = sp_get_be16(c, "iterations");
    if (told(sallyport_string_to_key(R.lib, &r, key, &n, error())))
        fuzz_must(n == 16 || n == 32, "a key has the length of its type");
}

static void keytab(struct sp_cur *c)
{
    enum kept_bytes which = (enum kept_bytes)(sp_get_u8(c, "bytes") % KEPT);
    uint8_t *copy = fuzz_copy(room[which], R.n[which]);
    struct sallyport_keytab_options o = {
        .size = sizeof o, .keytab = {copy, R.n[which]},
              .replay_slots = 2
    };
    struct sallyport_keytab *kt = sallyport_keytab_new(R.lib, &o, error());

    (void)told(kt != NULL);
    sallyport_keytab_free(kt);
    free(copy);
}

static void touch(enum kept_bytes which)
{
    if (which == EXPORTED)
        R.exported_mate = NOBODY;
}

static void change(struct sp_cur *c)
{
    enum kept_bytes which = (enum kept_bytes)(sp_get_u8(c, "bytes") % KEPT);
    size_t at = sp_get_be16(c, "offset");
    uint8_t bits = sp_get_u8(c, "bits");

    touch(which);
    if (R.n[which] > 0)
        room[which][at % R.n[which]] ^= bits;
}

static void put(struct sp_cur *c)
{
    enum kept_bytes which = (enum kept_bytes)(sp_get_u8(c, "bytes") % KEPT);
    size_t n = sp_get_be16(c, "length");
    struct sp_span b = sp_take(c, n < sp_left(c) ? n : sp_left(c), "bytes");

    touch(which);
    keep(which, (struct sallyport_bytes){b.p, b.n});
}

static void get_credentials(unsigned i)
{
    if (R.slot[i] && step_on(i, SALLYPORT_START, (struct sallyport_bytes){0}) == SALLYPORT_DONE)
        ask(i);
}

static void operate(uint8_t op, struct sp_cur *c)
{
    switch (op & 31) {
    case OP_INITIATOR:
        new_initiator(c);
        break;
    case OP_ACCEPTOR:
        new_acceptor(c);
        break;
    case OP_LOGIN:
        new_login(c);
        break;
    case OP_PASSWORD:
        new_change(c);
        break;
    case OP_EVENT:
        step_by_hand(c);
        break;
    case OP_RUN:
        run(c);
        break;
    case OP_GET:
        get_credentials(slot(c));
        break;
    case OP_KDC:
        ask_kdc(sp_get_u8(c, "flags"));
        break;
    case OP_CHANGE:
        change(c);
        break;
    case OP_PUT:
        put(c);
        break;
    case OP_EXPORT:
        export(slot(c));
        break;
    case OP_IMPORT:
        import(slot(c));
        break;
    case OP_FREE:
        empty(slot(c));
        break;
    case OP_TALK:
        talk(c);
        break;
    case OP_PIECES:
        talk_in_pieces(c);
        break;
    case OP_WRAP:
        wrap(c);
        break;
    case OP_UNWRAP:
        unwrap(slot(c));
        break;
    case OP_ASK:
        ask(slot(c));
        break;
    case OP_STARVE:
        R.starve_in = sp_get_u8(c, "allocations");
        break;
    case OP_DRY:
        R.dry_in = sp_get_u8(c, "draws");
        break;
    case OP_ACCOUNT:
        account(c);
        break;
    case OP_RECIPE:
        recipe(c);
        break;
    case OP_KEYTAB:
        keytab(c);
        break;
    case OP_LATER:
        R.now_us += (int64_t)sp_get_u8(c, "seconds") * 1000000;
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct sp_err e = {0};
    struct sp_cur c = sp_cur_of(sp_span(data, n), &e);

    memset(&R, 0, sizeof R);
    R.now_us = FUZZ_NOW_S * 1000000;
    R.exported_mate = NOBODY;
    for (unsigned i = 0; i < SLOTS; i++)
        R.mate[i] = NOBODY;
    make_realm();
    for (unsigned i = 0; i < OPERATIONS_MAX && sp_left(&c) > 0; i++)
        operate(sp_get_u8(&c, "operation"), &c);
    for (unsigned i = 0; i < SLOTS; i++)
        empty(i);
    sallyport_keytab_free(R.keytab);
    sallyport_kdc_free(R.kdc);
    sallyport_free(R.lib);
    fuzz_must(R.live == 0, "nothing is left");
    return 0;
}
