/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "bytes/emitter.h"
#include "gss/kctx.h"
#include "gss/token.h"

#define REALM "SALLY.TEST"
#define NOW INT64_C(1795223875)
#define TEXT "hello sallyport"

static struct crypto *crypto;
static _Alignas(16) uint8_t block[1 << 18];
static struct sp_rng_fixed rng;

static struct sp_env env_at(int64_t s)
{
    return (struct sp_env){.wall_us = s * 1000000, .rng = &rng.rng};
}

#define good(ok, e) good_at(ok, e, __LINE__)
static void good_at(bool ok, const struct sp_err *e, int line)
{
    if (!ok)
        fail_msg("line %d: %s: %s (%d)", line, sp_kind_name(e->kind), e->text, e->proto);
}

static void refused(bool ok, const struct sp_err *e, int32_t proto)
{
    if (ok)
        fail_msg("accepted, %d was expected", proto);
    if (e->proto != proto)
        fail_msg("%s: %s (%d), %d was expected", sp_kind_name(e->kind), e->text, e->proto, proto);
}

static void same_bytes(struct sp_span got, struct sp_span want)
{
    if (!sp_same(got, want)) {
        char a[4096], b[4096];
        struct sp_text ta = sp_text(a, sizeof a), tb = sp_text(b, sizeof b);

        sp_text_hex(&ta, got);
        sp_text_hex(&tb, want);
        fail_msg("got  %s\nwant %s", a, b);
    }
}

static void same_key(const struct sp_key *a, const struct sp_key *b)
{
    assert_int_equal(a->etype, b->etype);
    same_bytes(sp_span(a->b, a->n), sp_span(b->b, b->n));
}

/* ---- a keytab and a replay cache of one entry ---- */

struct one_key {
    struct kctx_keys port;
    struct sp_key key;
    char name[128];
};

static bool find_key(struct kctx_keys *keys, const struct krb_name *service, struct sp_span realm,
                     int32_t etype, uint32_t kvno, struct sp_key *out, struct sp_err *e)
{
    struct one_key *k = (struct one_key *)(void *)keys;
    struct sp_text t = sp_text(k->name, sizeof k->name);

    (void)kvno;
    krb_text_principal(&t, service, realm);
    if (etype != k->key.etype)
        return sp_fail(e, SP_ENOTFOUND, KRB_AP_ERR_NOKEY, "no key of type %d", etype);
    *out = k->key;
    return true;
}

struct one_replay {
    struct kctx_replays port;
    uint8_t seen[4096];
    size_t n;
};

static bool note_replay(struct kctx_replays *r, struct sp_span cipher, int64_t now_s, int32_t skew_s,
                        struct sp_err *e)
{
    struct one_replay *o = (struct one_replay *)(void *)r;

    (void)now_s;
    (void)skew_s;
    if (sp_same(cipher, sp_span(o->seen, o->n)))
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_REPEAT, "seen before");
    memcpy(o->seen, cipher.p, cipher.n);
    o->n = cipher.n;
    return true;
}

/* ---- recorded exchanges ---- */

#define TOKENS_MAX 16
struct recording {
    char text[40000];
    struct sp_key service, session, initiator, acceptor, exported;
    int64_t iseq, aseq, ctime;
    uint32_t cusec;
    struct sp_span tokens[TOKENS_MAX];
    uint32_t count;
    struct sp_span message[6]; /* initiator Wrap sealed, Wrap, MIC; the same of the acceptor */
    uint8_t bytes[40000];
    size_t n;
};

static struct sp_span unhex_line(struct recording *r, const char *hex)
{
    size_t n = 0, len = strcspn(hex, "\n");
    uint8_t *to = r->bytes + r->n;

    assert_true(sp_unhex(sp_span(hex, len), to, sizeof r->bytes - r->n, &n));
    r->n += n;
    return sp_span(to, n);
}

static void read_key(const char *line, const char *what, struct sp_key *out)
{
    const char *p = strstr(line, what), *hex;
    size_t n = 0;

    if (!p || p > line + strcspn(line, "\n"))
        return;
    p = strstr(p, "etype ");
    out->etype = (int32_t)strtol(p + 6, NULL, 10);
    hex = strchr(p + 6, ' ') + 1;
    assert_true(sp_unhex(sp_span(hex, strspn(hex, "0123456789abcdef")), out->b, sizeof out->b, &n));
    out->n = (uint8_t)n;
}

static int64_t number_after(const char *line, const char *what, int64_t old)
{
    const char *p = strstr(line, what);

    return p && p < line + strcspn(line, "\n") ? strtoll(p + strlen(what), NULL, 10) : old;
}

static void read_comment(struct recording *r, const char *line)
{
    const char *t = strstr(line, "ctime/cusec: ");

    read_key(line, "sally.test key:", &r->service);
    read_key(line, "service ticket session key:", &r->session);
    read_key(line, "initiator subkey (AP-REQ authenticator):", &r->initiator);
    read_key(line, "acceptor subkey (AP-REP):", &r->acceptor);
    r->iseq = number_after(line, "initiator initial sequence number: ", r->iseq);
    r->aseq = number_after(line, "acceptor initial sequence number: ", r->aseq);
    if (t && t < line + strcspn(line, "\n")) {
        struct sp_date d = {2026, 11, 21, 1, 17, 0};

        d.second = (uint8_t)strtol(t + 13 + 12, NULL, 10);
        r->ctime = sp_date_unix(d);
        r->cusec = (uint32_t)strtol(strchr(t + 13, ' '), NULL, 10);
    }
}

static int message_index(const char *line)
{
    static const char *const names[] = {
        "initiator Wrap, confidential", "initiator Wrap, integrity only", "initiator MIC",
        "acceptor Wrap, confidential",  "acceptor Wrap, integrity only",  "acceptor MIC"};

    for (int i = 0; i < 6; i++)
        if (strncmp(line, names[i], strlen(names[i])) == 0)
            return i;
    return -1;
}

static void read_recording(const char *name, struct recording *r)
{
    char path[512];
    FILE *f;
    size_t n;

    memset(r, 0, sizeof *r);
    snprintf(path, sizeof path, "%s/%s", SP_VECTORS, name);
    f = fopen(path, "rb");
    assert_non_null(f);
    n = fread(r->text, 1, sizeof r->text - 1, f);
    fclose(f);
    r->text[n] = 0;
    for (const char *line = r->text, *next; *line; line = next) {
        next = line + strcspn(line, "\n");
        next += *next == '\n';
        if (strncmp(line, "# run at", 8) == 0)
            r->count = 0; /* of several exchanges in one file, the last counts */
        if (*line == '#')
            read_comment(r, line);
        else if (strncmp(line, "INITIATOR-TO", 12) == 0 || strncmp(line, "ACCEPTOR-TO", 11) == 0)
            r->tokens[r->count++] = unhex_line(r, next);
        else if (message_index(line) >= 0)
            r->message[message_index(line)] = unhex_line(r, next);
    }
    assert_true(r->count >= 2);
}

/* SPNEGO's covering is taken off: the inner token runs to the end of the message. */
static void uncover(struct recording *r)
{
    static const uint8_t oid[] = {0x06, 0x06, 0x2b, 0x06, 0x01, 0x05, 0x02, 0x05};

    for (uint32_t i = 0; i < r->count; i++) {
        struct sp_span *t = &r->tokens[i], rest = *t;
        struct token framed;
        bool found = false;

        for (; rest.n > 12 && !found; rest.p++, rest.n--) {
            struct sp_err e = {0};

            if (rest.p[0] == 0x60 && rest.p != t->p && memmem(rest.p, 12, oid, sizeof oid) &&
                token_get(rest, &framed, &e)) {
                found = true;
                *t = rest;
            }
        }
        assert_true(found);
    }
}

/* Everything before the AP-REQ, and the two messages of the AP exchange without their framing. */
static struct sp_span transcript(const struct recording *r, uint32_t ap_at, uint8_t *to)
{
    size_t n = 0;

    for (uint32_t i = 0; i < ap_at; i++) {
        memcpy(to + n, r->tokens[i].p, r->tokens[i].n);
        n += r->tokens[i].n;
    }
    return sp_span(to, n);
}

static struct sp_span inner(struct sp_span framed, uint16_t id)
{
    struct sp_err e = {0};
    struct token t = {0};

    good(token_get(framed, &t, &e), &e);
    assert_int_equal(t.mech, TOKEN_IAKERB);
    assert_int_equal(t.id, id);
    return t.body;
}

/* One side's three tokens: made byte by byte where nothing is random, and read by the other side. */
static void replay_messages(const struct kctx *from, const struct kctx *to, const struct sp_span *m)
{
    struct kctx s = *from, v = *to;
    struct sp_span text = SP_LIT(TEXT);
    uint8_t out[256];
    size_t n = sizeof out;
    enum kctx_wrap how;
    struct sp_err e = {0};
    bool ok = false;

    good(kctx_wrap(&s, crypto, &rng.rng, KCTX_CONFIDENTIAL, text, out, &n, &e), &e);
    assert_int_equal(n, m[0].n);
    assert_memory_equal(out, m[0].p, 16);
    n = sizeof out;
    good(kctx_wrap(&s, crypto, &rng.rng, KCTX_INTEGRITY, text, out, &n, &e), &e);
    same_bytes(sp_span(out, n), m[1]);
    n = sizeof out;
    good(kctx_get_mic(&s, crypto, &text, 1, out, &n, &e), &e);
    same_bytes(sp_span(out, n), m[2]);
    for (int i = 0; i < 2; i++) {
        n = sizeof out;
        good(kctx_unwrap(&v, crypto, m[i], out, &n, &how, &ok, &e), &e);
        assert_int_equal(how, i == 0 ? KCTX_CONFIDENTIAL : KCTX_INTEGRITY);
        same_bytes(sp_span(out, n), text);
    }
    good(kctx_verify_mic(&v, crypto, &text, 1, m[2], &ok, &e), &e);
}

static void accept_recorded(const struct recording *r, enum kctx_finished kind, uint32_t ap_at,
                            struct kctx *a)
{
    static uint8_t tokens[40000];
    struct one_key keys = {{find_key}, r->service, ""};
    struct kctx_accepting how = {
        .keys = &keys.port, .skew_s = 300, .transcript = {kind, transcript(r, ap_at, tokens)}
    };
    struct sp_arena mem;
    struct sp_span reply;
    struct sp_err e = {0};

    sp_arena_init(&mem, block, sizeof block);
    good(kctx_accept(a, crypto, env_at(r->ctime), &how, inner(r->tokens[ap_at], TOKEN_AP_REQ), &mem, &reply,
                     &e),
         &e);
    assert_false(a->no_finished);
    same_key(&a->session, &r->session);
    same_key(&a->subkey, &r->initiator);
    assert_int_equal(a->recv_seq, r->iseq);
    assert_true(strstr(a->client, "@" REALM) && strstr(a->service, "/fs1.sally.test@" REALM));
    assert_int_equal(reply.n > 0, r->acceptor.n > 0);
}

static void take_recorded(const struct recording *r, uint32_t ap_at, struct kctx *i)
{
    struct sp_arena mem;
    struct sp_span third;
    struct sp_err e = {0};

    sp_arena_init(&mem, block, sizeof block);
    *i = (struct kctx){.state = r->acceptor.n ? KCTX_WAIT_REP : KCTX_READY,
                       .role = KCTX_INITIATOR,
                       .session = r->session,
                       .subkey = r->initiator,
                       .send_seq = (uint64_t)r->iseq,
                       .recv_seq = (uint64_t)r->iseq,
                       .flags = 0x13e,
                       .ctime = r->ctime,
                       .cusec = r->cusec};
    if (r->acceptor.n == 0)
        return;
    good(kctx_take_reply(i, crypto, env_at(r->ctime), inner(r->tokens[ap_at + 1], TOKEN_AP_REP), &mem, &third,
                         &e),
         &e);
    same_key(&i->acceptor_subkey, &r->acceptor);
    assert_int_equal(i->recv_seq, r->aseq);
    assert_int_equal(third.n, 0);
}

static void replay(const char *name, enum kctx_finished kind, uint32_t flags, bool spnego)
{
    static struct recording r;
    struct kctx i, a = {0};
    uint32_t ap_at;

    read_recording(name, &r);
    if (spnego)
        uncover(&r);
    ap_at = r.count - (r.acceptor.n ? 2 : 1);
    accept_recorded(&r, kind, ap_at, &a);
    assert_int_equal(a.flags, flags | KCTX_PROT_READY);
    take_recorded(&r, ap_at, &i);
    if (r.acceptor.n) { /* ours were drawn anew */
        a.acceptor_subkey = r.acceptor;
        a.send_seq = (uint64_t)r.aseq;
    }
    replay_messages(&i, &a, r.message);
    replay_messages(&a, &i, r.message + 3);
}

static void recordings(void **state)
{
    (void)state;
    replay("iakerb-new-aes256sha1.txt", KCTX_FINISHED_DRAFT, 0x13e, false);
    replay("iakerb-new-aes256sha2.txt", KCTX_FINISHED_DRAFT, 0x13e, false);
    replay("iakerb-new-discovery.txt", KCTX_FINISHED_DRAFT, 0x13e, false);
    replay("iakerb-new-nomutual.txt", KCTX_FINISHED_DRAFT, 0x130, false);
    replay("iakerb-old-1.20.1.txt", KCTX_FINISHED_OLD, 0x13e, false);
    replay("spnego-iakerb-first.txt", KCTX_FINISHED_DRAFT, 0x13e, true);
}

/* MIT's acceptor saw another channel than its initiator; ours refuses the same AP-REQ, and reads its error.
 */
static void recorded_refusal(void **state)
{
    static struct recording r, other;
    static uint8_t tokens[40000];
    uint8_t ours[16] = {1};
    struct one_key keys = {
        {find_key},
        { {0}, 0, false, 0},
        ""
    };
    struct kctx_accepting how = {.keys = &keys.port, .skew_s = 300};
    struct kctx waiting = {.state = KCTX_WAIT_REP}, a;
    struct sp_arena mem;
    struct sp_span out;

    (void)state;
    read_recording("iakerb-new-aes256sha1.txt", &other);
    read_recording("iakerb-new-errors.txt", &r);
    assert_int_equal(r.count, 8);
    keys.key = other.service;
    how.transcript = (struct kctx_transcript){KCTX_FINISHED_DRAFT, transcript(&r, 6, tokens)};
    for (int i = 0; i < 2; i++) {
        struct sp_err e = {0};
        bool ok;

        memset(&a, 0, sizeof a);
        sp_arena_init(&mem, block, sizeof block);
        how.bindings = i ? ours : NULL;
        ok = kctx_accept(&a, crypto, env_at(other.ctime), &how, inner(r.tokens[6], TOKEN_AP_REQ), &mem, &out,
                         &e);
        if (i)
            refused(ok, &e, KCTX_BAD_BINDINGS);
        else
            good(ok, &e);
    }
    {
        struct sp_err e = {0};

        refused(kctx_take_reply(&waiting, crypto, env_at(NOW), inner(r.tokens[7], TOKEN_KRB_ERROR), &mem,
                                &out, &e),
                &e, KRB_ERR_GENERIC);
    }
}

/* Recorded from a Windows acceptor: what its AP-REP holds, and its MIC over the list with number 0. */
static void windows(void **state)
{
    static const char part[] =
        "7b3f303da011180f32303236303732343133343033355aa103020100a21b3019a003020111a1120410"
        "14676ef1c24688db236f01593546d512a306020431e5ad3d";
    static const char session[] = "9ffcf9250ccc71390c1b056e5bc3c10cfdcce992aafeea71e1eb8ad51dfdcdbe";
    static const char mic_hex[] = "040405ffffffffff000000000000000008c2ce19f88bc1ee9fbbb871";
    static const char list_hex[] = "301406062b0601050205060a2b06010401823702020a";
    uint8_t plain[128], cipher[256], mic[64], list[64];
    size_t plain_n, cipher_n = sizeof cipher, mic_n, list_n, n;
    struct kctx k = {.state = KCTX_WAIT_REP, .flags = KCTX_MUTUAL | KCTX_SEQUENCE | KCTX_REPLAY};
    struct krb_ap_rep m = {.enc = {.etype = 18}};
    struct sp_arena mem;
    struct sp_span reply, third, text;
    struct sp_err e = {0};
    bool ok;

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    k.session.etype = 18;
    assert_true(sp_unhex(sp_str(session), k.session.b, 64, &n));
    k.session.n = (uint8_t)n;
    k.ctime = sp_date_unix((struct sp_date){2026, 7, 24, 13, 40, 35});
    assert_true(sp_unhex(sp_str(part), plain, sizeof plain, &plain_n));
    good(crypto_encrypt(crypto, &k.session, KU_AP_REP, &rng.rng, sp_span(plain, plain_n), cipher, &cipher_n,
                        &e),
         &e);
    m.enc.cipher = sp_span(cipher, cipher_n);
    good(krb_make(KRB_AP_REP, &m, &mem, &reply, &e), &e);
    good(kctx_take_reply(&k, crypto, env_at(NOW), reply, &mem, &third, &e), &e);
    assert_int_equal(k.recv_seq, 0x31e5ad3d);
    assert_int_equal(k.acceptor_subkey.etype, 17);
    assert_true(sp_unhex(sp_str(mic_hex), mic, sizeof mic, &mic_n));
    assert_true(sp_unhex(sp_str(list_hex), list, sizeof list, &list_n));
    text = sp_span(list, list_n);
    good(kctx_verify_list_mic(&k, crypto, text, sp_span(mic, mic_n), &e), &e);
    assert_int_equal(k.recv_seq, 0x31e5ad3d); /* not used up */
    refused(kctx_verify_mic(&k, crypto, &text, 1, sp_span(mic, mic_n), &ok, &e), &e, KCTX_OLD);
    assert_true(ok);
    list[list_n - 1] ^= 1;
    e = (struct sp_err){0};
    refused(kctx_verify_list_mic(&k, crypto, text, sp_span(mic, mic_n), &e), &e, KCTX_BAD_SIG);
}

/* ---- our own initiator and acceptor ---- */

struct scene {
    struct one_key keys;
    struct krb_credential cred;
    struct sp_arena mem;
    struct kctx i, a;
    struct kctx_ask ask;
    struct kctx_accepting how;
    struct sp_span ap_req, reply;
    uint32_t ticket_flags;
    int64_t endtime;
};

static _Alignas(16) uint8_t ticket_block[8192], scene_block[1 << 17];
static struct sp_span client_parts[] = {SP_LIT("alice")}, service_parts[] = {SP_LIT("host"), SP_LIT("fs1")};

static void make_ticket(struct scene *s, struct sp_arena *mem)
{
    struct sp_err e = {0};
    struct krb_enc_ticket part = {
        .flags = s->ticket_flags,
        .key = {s->cred.key.etype, sp_span(s->cred.key.b, s->cred.key.n)},
        .crealm = SP_LIT(REALM),
        .cname = s->cred.client,
        .transited = {.type = 1  },
        .authtime = NOW - 10,
        .endtime = s->endtime
    };
    struct krb_ticket t = {
        .realm = SP_LIT(REALM), .sname = s->cred.server, .enc = {.etype = s->keys.key.etype}};
    struct sp_span plain;
    uint8_t cipher[1024];
    size_t n = sizeof cipher;

    good(krb_make(KRB_ENC_TICKET, &part, mem, &plain, &e), &e);
    good(crypto_encrypt(crypto, &s->keys.key, KU_TICKET, &rng.rng, plain, cipher, &n, &e), &e);
    t.enc.cipher = sp_span(cipher, n);
    good(krb_make(KRB_TICKET, &t, mem, &s->cred.ticket, &e), &e);
}

/* A ticket of alice's for host/fs1, a keytab that opens it, contexts that have done nothing yet. */
static void set_scene(struct scene *s, int32_t etype, uint32_t flags)
{
    static struct sp_arena ticket_mem;
    struct sp_err e = {0};

    memset(s, 0, sizeof *s);
    sp_arena_init(&ticket_mem, ticket_block, sizeof ticket_block);
    sp_arena_init(&s->mem, scene_block, sizeof scene_block);
    s->endtime = NOW + 3600;
    s->keys.port.find = find_key;
    good(crypto_random_key(etype, &rng.rng, &s->keys.key, &e), &e);
    s->cred = (struct krb_credential){.client = krb_name_of(NT_PRINCIPAL, client_parts, 1),
                                      .server = krb_name_of(NT_SRV_HST, service_parts, 2),
                                      .crealm = SP_LIT(REALM),
                                      .srealm = SP_LIT(REALM),
                                      .authtime = NOW - 10,
                                      .endtime = NOW + 3600};
    good(crypto_random_key(etype, &rng.rng, &s->cred.key, &e), &e);
    make_ticket(s, &ticket_mem);
    s->ask = (struct kctx_ask){.ticket = &s->cred, .flags = flags};
    s->how = (struct kctx_accepting){.keys = &s->keys.port, .skew_s = 300};
}

static void request(struct scene *s)
{
    struct sp_err e = {0};

    good(kctx_request(&s->i, crypto, env_at(NOW), &s->ask, &s->mem, &s->ap_req, &e), &e);
}

static bool try_accept(struct scene *s, struct sp_err *e)
{
    return kctx_accept(&s->a, crypto, env_at(NOW), &s->how, s->ap_req, &s->mem, &s->reply, e);
}

static void finish(struct scene *s)
{
    struct sp_span third = {0};
    struct sp_err e = {0};

    request(s);
    good(try_accept(s, &e), &e);
    assert_int_equal(s->reply.n > 0, (s->ask.flags & (KCTX_MUTUAL | KCTX_DCE)) != 0);
    if (s->reply.n)
        good(kctx_take_reply(&s->i, crypto, env_at(NOW), s->reply, &s->mem, &third, &e), &e);
    if (s->ask.flags & KCTX_DCE) {
        assert_int_equal(s->a.state, KCTX_WAIT_THIRD);
        good(kctx_accept_third(&s->a, crypto, env_at(NOW), third, &e), &e);
    } else {
        assert_int_equal(third.n, 0);
    }
    assert_int_equal(s->i.state, KCTX_READY);
    assert_int_equal(s->a.state, KCTX_READY);
    assert_int_equal(s->i.flags & ~(uint32_t)(KCTX_CHANNEL_BOUND | KCTX_DELEG_POLICY),
                     s->a.flags & ~(uint32_t)KCTX_CHANNEL_BOUND);
}

static void carry(struct kctx *from, struct kctx *to, enum kctx_wrap how, size_t n)
{
    static uint8_t text[70000], token[sizeof text + KCTX_WRAP_OVERHEAD_MAX], got[sizeof token];
    size_t token_n = sizeof token, got_n;
    enum kctx_wrap seen;
    struct sp_err e = {0};
    bool ok;

    memset(text, 0x5a, n);
    good(kctx_wrap(from, crypto, &rng.rng, how, sp_span(text, n), token, &token_n, &e), &e);
    assert_int_equal(kctx_wrap_limit(from, how, token_n), n);
    got_n = token_n;
    good(kctx_unwrap(to, crypto, sp_span(token, token_n), got, &got_n, &seen, &ok, &e), &e);
    assert_true(ok && seen == how);
    same_bytes(sp_span(got, got_n), sp_span(text, n));
}

static void both_ways(struct scene *s)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 1000, 65536};
    uint8_t a[100], b[100], mic[KCTX_MIC_MAX];
    struct sp_key x, y;
    struct sp_err e = {0};
    struct sp_span text[2] = {SP_LIT("one "), SP_LIT("message")}, whole = SP_LIT("one message");
    size_t n = sizeof mic;
    bool ok;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int how = 0; how < 2; how++) {
            carry(&s->i, &s->a, (enum kctx_wrap)how, sizes[i]);
            carry(&s->a, &s->i, (enum kctx_wrap)how, sizes[i]);
        }
    good(kctx_get_mic(&s->a, crypto, text, 2, mic, &n, &e), &e);
    good(kctx_verify_mic(&s->i, crypto, &whole, 1, sp_span(mic, n), &ok, &e), &e);
    good(kctx_session_key(&s->i, &x, &e) && kctx_session_key(&s->a, &y, &e), &e);
    same_key(&x, &y);
    for (int w = 0; w < 2; w++) {
        good(kctx_prf(&s->i, crypto, (enum kctx_prf)w, whole, a, sizeof a, &e), &e);
        good(kctx_prf(&s->a, crypto, (enum kctx_prf)w, whole, b, sizeof b, &e), &e);
        assert_memory_equal(a, b, sizeof a);
    }
}

static void round_trips(void **state)
{
    static const uint32_t flags[] = {0, KCTX_MUTUAL, KCTX_MUTUAL | KCTX_REPLAY | KCTX_SEQUENCE,
                                     KCTX_DCE | KCTX_SEQUENCE | KCTX_IDENTIFY, KCTX_REPLAY};

    (void)state;
    for (int32_t etype = 17; etype <= 20; etype++)
        for (size_t f = 0; f < sizeof flags / sizeof flags[0]; f++) {
            static struct scene s;

            set_scene(&s, etype, flags[f]);
            finish(&s);
            assert_string_equal(s.a.client, "alice@" REALM);
            assert_string_equal(s.i.service, "host/fs1@" REALM);
            assert_string_equal(s.keys.name, s.i.service);
            assert_int_equal(s.a.endtime, NOW + 3600);
            assert_int_equal(s.i.acceptor_subkey.n > 0, (flags[f] & (KCTX_MUTUAL | KCTX_DCE)) != 0);
            both_ways(&s);
        }
}

static void bindings(void **state)
{
    static const struct {
        char ours, theirs; /* 0: none */
        bool required;
        int32_t code;
        bool bound;
    } rows[] = {
        {0,   0,   false, 0,                 false},
        {'a', 0,   false, 0,                 false},
        {0,   'a', false, 0,                 false},
        {'a', 'a', false, 0,                 true },
        {'a', 'a', true,  0,                 true },
        {'a', 'b', false, KCTX_BAD_BINDINGS, false},
        {0,   'a', true,  KCTX_BAD_BINDINGS, false},
        {0,   0,   true,  KCTX_BAD_BINDINGS, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static struct scene s;
        uint8_t ours[16], theirs[16];
        struct sp_err e = {0};

        memset(ours, rows[i].ours, 16);
        memset(theirs, rows[i].theirs, 16);
        set_scene(&s, 18, KCTX_MUTUAL);
        s.ask.bindings = rows[i].ours ? ours : NULL;
        s.how.bindings = rows[i].theirs ? theirs : NULL;
        s.how.require_bindings = rows[i].required;
        request(&s);
        if (rows[i].code) {
            refused(try_accept(&s, &e), &e, rows[i].code);
            continue;
        }
        good(try_accept(&s, &e), &e);
        assert_int_equal((s.a.flags & KCTX_CHANNEL_BOUND) != 0, rows[i].bound);
    }
}

/* RFC 4121 4.1.1.2 ; the value is that of md5sum over the same bytes. */
static void binding_hash(void **state)
{
    struct kctx_bindings b = {0, 0, {0}, {0}, SP_LIT("tls-server-end-point:0123")};
    struct sp_arena mem;
    struct sp_err e = {0};
    uint8_t out[16];
    static const uint8_t want[16] = {0xc9, 0x17, 0x85, 0x4c, 0xec, 0x38, 0x1e, 0x13,
                                     0x39, 0x49, 0xcc, 0x17, 0x66, 0xcc, 0x20, 0xa8};

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    good(kctx_hash_bindings(crypto, &b, &mem, out, &e), &e);
    assert_memory_equal(out, want, 16);
    assert_int_equal(mem.used, 0);
}

/* As the checksum 0x8003 of the AP-REQ has them. */
static uint32_t flags_sent(struct scene *s)
{
    struct krb_authenticator a = {0};
    struct krb_ap_req m = {0};
    uint8_t buf[4096];
    size_t n = sizeof buf;
    struct sp_err e = {0};

    good(krb_get(KRB_AP_REQ, s->ap_req, KRB_STRICT, &s->mem, &m, &e), &e);
    good(crypto_decrypt(crypto, &s->cred.key, KU_AP_REQ_AUTH, m.authenticator.cipher, buf, &n, &e), &e);
    good(krb_get(KRB_AUTHENTICATOR, sp_span(buf, n), KRB_STRICT, &s->mem, &a, &e), &e);
    return a.cksum.sum.p[20] | (uint32_t)a.cksum.sum.p[21] << 8;
}

static void delegation(void **state)
{
    (void)state;
    for (int32_t etype = 17; etype <= 20; etype++) {
        static struct scene s;
        struct krb_credential got;
        struct sp_err e = {0};

        set_scene(&s, etype, KCTX_MUTUAL | KCTX_DELEG);
        good(kctx_make_cred(crypto, env_at(NOW), &s.cred, &s.cred.key, &s.mem, &s.ask.cred, &e), &e);
        s.ask.flags |= KCTX_DELEG_POLICY;
        finish(&s);
        assert_true(s.a.flags & KCTX_DELEG);
        assert_true(s.i.flags & KCTX_DELEG_POLICY);
        assert_int_equal(flags_sent(&s) & (KCTX_DELEG | KCTX_DELEG_POLICY), KCTX_DELEG); /* RFC 5896 */
        good(kctx_read_cred(s.a.delegated, &s.mem, &got, &e), &e);
        same_bytes(got.ticket, s.cred.ticket);
        same_key(&got.key, &s.cred.key);
        assert_true(krb_same_name(&got.client, &s.cred.client) && krb_same_name(&got.server, &s.cred.server));
        assert_int_equal(got.endtime, s.cred.endtime);
        set_scene(&s, etype, KCTX_MUTUAL | KCTX_DELEG | KCTX_DELEG_POLICY); /* dropped without a credential */
        finish(&s);
        assert_false((s.a.flags | s.i.flags) & (KCTX_DELEG | KCTX_DELEG_POLICY));
        assert_int_equal(s.a.delegated.n, 0);
    }
}

/* ---- AP-REQs that are not as they should be (spec'd rows of what MIT does, and what we do) ---- */

enum { CK_NONE = -1, CK_PLAIN = -2 }; /* no checksum; one of the session key's type */

struct craft {
    const char *what;
    uint32_t flags;
    int32_t cksum;        /* CK_ or a checksum type */
    uint32_t usage, type; /* of FINISHED; type 0: none */
    bool no_subkey, unkeyed, narrow, extra_field, wrong_mac, unframed, other_etype, may_lack, twice;
    bool by_session_key;   /* FINISHED is made with the ticket's session key, not with the subkey */
    size_t flip;           /* this bit of FINISHED, from 1 */
    uint8_t before, after; /* an unknown extension */
    uint8_t trailing;
    enum kctx_finished kind;
    int32_t code; /* 0: accepted */
};

static const uint8_t TOKENS[] = "every earlier token of both sides, exactly as sent";

static struct sp_span craft_finished(const struct craft *r, const struct sp_key *key, struct sp_arena *mem)
{
    struct krb_iakerb_finished f = {0};
    struct sp_err e = {0};
    static uint8_t sum[32];
    size_t n = sizeof sum;
    struct sp_span der = {0},
                   data = {TOKENS + (r->unframed ? 10 : 0), sizeof TOKENS - (r->unframed ? 10 : 0)};
    uint8_t *longer;

    good(crypto_checksum(crypto, key, r->usage, data, sum, &n, &e), &e);
    f.mic = (struct krb_checksum){crypto_find_type(key->etype)->cksumtype, sp_span(sum, n)};
    sum[0] ^= r->wrong_mac;
    if (r->unkeyed)
        f.mic = (struct krb_checksum){14, sp_span(sum, 20)};
    good(krb_make(KRB_IAKERB_FINISHED, &f, mem, &der, &e), &e);
    if (r->flip && r->flip <= 8 * der.n)
        ((uint8_t *)(uintptr_t)der.p)[(r->flip - 1) / 8] ^= (uint8_t)(1u << (r->flip - 1) % 8);
    if (!r->extra_field)
        return der;
    longer = sp_alloc(mem, der.n + 4, &e);
    memcpy(longer, der.p, der.n);
    memcpy(longer + der.n, "\xa2\x02\x05", 3);
    longer[der.n + 3] = 0;
    longer[1] = (uint8_t)(longer[1] + 4);
    return sp_span(longer, der.n + 4);
}

static void put_extension(struct sp_emit *o, bool narrow, uint32_t type, struct sp_span data)
{
    sp_put_bytes(o, data);
    if (narrow) {
        sp_put_le16(o, (uint16_t)data.n);
        sp_put_le16(o, (uint16_t)type);
    } else {
        sp_put_be32(o, (uint32_t)data.n);
        sp_put_be32(o, type);
    }
}

static struct sp_span craft_checksum(const struct craft *r, struct sp_span finished, struct sp_arena *mem)
{
    struct sp_err e = {0};
    uint8_t *p = sp_alloc(mem, 512, &e);
    struct sp_emit o = sp_emit_to(p, 512, &e);
    static const uint8_t zero[16];
    struct sp_span out;

    sp_put_bytes(&o, sp_span(zero, r->trailing));
    if (r->after)
        put_extension(&o, r->narrow, r->after, SP_LIT("what is this"));
    for (int i = 0; r->type && i <= r->twice; i++)
        put_extension(&o, r->narrow, r->type, finished);
    if (r->before)
        put_extension(&o, r->narrow, r->before, SP_LIT("what is this"));
    sp_put_le32(&o, r->flags);
    sp_put_bytes(&o, sp_span(zero, 16));
    sp_put_le32(&o, 16);
    good(sp_put_done(&o, &out), &e);
    return out;
}

static void craft_ap_req(struct scene *s, const struct craft *r)
{
    struct sp_err e = {0};
    struct sp_key subkey = {0};
    struct krb_authenticator a = {
        .has = KRB_BIT(7), .crealm = SP_LIT(REALM), .cname = s->cred.client, .ctime = NOW, .seq = 7};
    struct krb_ap_req m = {.options = KRB_FLAG(2)};
    struct sp_span plain;
    uint8_t *cipher, sum[32];
    size_t n = sizeof sum;

    good(crypto_random_key(r->other_etype ? 17 : s->cred.key.etype, &rng.rng, &subkey, &e), &e);
    a.subkey = (struct krb_keyblock){subkey.etype, sp_span(subkey.b, subkey.n)};
    a.has |= (r->no_subkey ? 0 : KRB_BIT(6)) | (r->cksum == CK_NONE ? 0 : KRB_BIT(3));
    a.cksum.type = r->cksum;
    if (r->cksum == CK_PLAIN) {
        good(crypto_checksum(crypto, &s->cred.key, 10, SP_LIT(""), sum, &n, &e), &e);
        a.cksum = (struct krb_checksum){crypto_find_type(s->cred.key.etype)->cksumtype, sp_span(sum, n)};
    } else {
        a.cksum.sum = craft_checksum(
            r, craft_finished(r, r->no_subkey || r->by_session_key ? &s->cred.key : &subkey, &s->mem),
            &s->mem);
    }
    good(krb_make(KRB_AUTHENTICATOR, &a, &s->mem, &plain, &e), &e);
    n = crypto_cipher_n(s->cred.key.etype, plain.n);
    cipher = sp_alloc(&s->mem, n, &e);
    good(crypto_encrypt(crypto, &s->cred.key, KU_AP_REQ_AUTH, &rng.rng, plain, cipher, &n, &e), &e);
    m.authenticator = (struct krb_enc){.etype = s->cred.key.etype, .cipher = sp_span(cipher, n)};
    good(krb_get(KRB_TICKET, s->cred.ticket, KRB_STRICT, &s->mem, &m.ticket, &e), &e);
    good(krb_make(KRB_AP_REQ, &m, &s->mem, &s->ap_req, &e), &e);
}

#define GSS .flags = 0x3e, .cksum = 0x8003
#define FIN GSS, .usage = 41, .type = 2
#define D .kind = KCTX_FINISHED_DRAFT
#define ROW(...)                                                                                             \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    } /* for clang-format 14, which crashes on such rows in braces */
static const struct craft crafts[] = {
    ROW("FINISHED right", FIN, D),
    ROW("no FINISHED", GSS, .usage = 41, D, .code = KCTX_BAD_SIG),
    ROW("no FINISHED, by configuration", GSS, .usage = 41, .may_lack = true, D),
    ROW("old type 1", GSS, .usage = 42, .type = 1, D, .code = KCTX_BAD_SIG),
    ROW("old type 1 where it may lack", GSS, .usage = 42, .type = 1, .may_lack = true, D,
        .code = KCTX_BAD_SIG),
    ROW("no checksum", .cksum = CK_NONE, .usage = 41, D, .code = KCTX_BAD_SIG),
    ROW("no checksum where FINISHED may lack", .cksum = CK_NONE, .usage = 41, .may_lack = true, D,
        .code = KCTX_BAD_SIG),
    ROW("plain checksum", .cksum = CK_PLAIN, .usage = 41, D, .code = KCTX_BAD_SIG),
    ROW("wrong MAC", FIN, .wrong_mac = true, D, .code = KRB_AP_ERR_BAD_INTEGRITY),
    ROW("wrong MAC where it may lack", FIN, .wrong_mac = true, .may_lack = true, D,
        .code = KRB_AP_ERR_BAD_INTEGRITY),
    ROW("usage 42", GSS, .usage = 42, .type = 2, D, .code = KRB_AP_ERR_BAD_INTEGRITY),
    ROW("with the ticket's session key", FIN, .by_session_key = true, D, .code = KRB_AP_ERR_BAD_INTEGRITY),
    ROW("over unframed bodies", FIN, .unframed = true, D, .code = KRB_AP_ERR_BAD_INTEGRITY),
    ROW("no subkey", FIN, .no_subkey = true, D, .code = KDC_ERR_NULL_KEY),
    ROW("Apple's layout", FIN, .narrow = true, D),
    ROW("Apple's layout, wrong MAC", FIN, .narrow = true, .wrong_mac = true, D,
        .code = KRB_AP_ERR_BAD_INTEGRITY),
    ROW("Apple's layout without FINISHED", GSS, .usage = 41, .narrow = true, .before = 99, D,
        .code = KCTX_DEFECTIVE),
    ROW("three trailing bytes", FIN, .trailing = 3, D, .code = KCTX_DEFECTIVE),
    ROW("DELEG flag without credential", .flags = 0x3f, .cksum = 0x8003, .usage = 41, .type = 2, D,
        .code = KCTX_DEFECTIVE),
    ROW("unknown extension before", FIN, .before = 99, D),
    ROW("unknown extension after", FIN, .after = 99, D),
    ROW("extra field in the sequence", FIN, .extra_field = true, D),
    ROW("FINISHED twice", FIN, .twice = true, D, .code = KCTX_DEFECTIVE),
    ROW("subkey of another etype", FIN, .other_etype = true, D),
    ROW("unkeyed checksum type", FIN, .unkeyed = true, D, .code = KRB_AP_ERR_INAPP_CKSUM),
    ROW("old dialect right", GSS, .usage = 42, .type = 1, .kind = KCTX_FINISHED_OLD),
    ROW("old dialect, FINISHED of the draft", FIN, .kind = KCTX_FINISHED_OLD, .code = KCTX_BAD_SIG),
    ROW("old dialect, usage 41", GSS, .usage = 41, .type = 1, .kind = KCTX_FINISHED_OLD,
        .code = KRB_AP_ERR_BAD_INTEGRITY),
    ROW("old dialect in Apple's layout", GSS, .usage = 42, .type = 1, .narrow = true,
        .kind = KCTX_FINISHED_OLD, .code = KCTX_DEFECTIVE),
    ROW("nothing proxied", GSS, .usage = 41),
    ROW("nothing proxied, FINISHED", FIN, .code = KRB_AP_ERR_MSG_TYPE),
    ROW("nothing proxied, old FINISHED", GSS, .usage = 42, .type = 1, .code = KRB_AP_ERR_MSG_TYPE),
    ROW("nothing proxied, Apple's FINISHED", FIN, .narrow = true, .code = KRB_AP_ERR_MSG_TYPE),
    ROW("nothing proxied, no checksum", .cksum = CK_NONE, .usage = 41, .code = KRB_AP_ERR_INAPP_CKSUM),
    ROW("nothing proxied, plain checksum", .cksum = CK_PLAIN, .usage = 41, .code = KRB_AP_ERR_INAPP_CKSUM),
    ROW("nothing proxied, no subkey", GSS, .usage = 41, .no_subkey = true),
    ROW("DCE style", .flags = 0x103e, .cksum = 0x8003, .usage = 41, .type = 2, D),
};

/* T067 */
static void deviations(void **state)
{
    (void)state;
    for (int32_t etype = 18; etype <= 20; etype += 2)
        for (size_t i = 0; i < sizeof crafts / sizeof crafts[0]; i++) {
            const struct craft *r = &crafts[i];
            static struct scene s;
            struct sp_err e = {0};
            bool ok;

            set_scene(&s, etype, 0);
            craft_ap_req(&s, r);
            s.how.transcript = (struct kctx_transcript){r->kind, sp_span(TOKENS, sizeof TOKENS)};
            s.how.finished_may_lack = r->may_lack;
            ok = try_accept(&s, &e);
            if (ok != (r->code == 0) || e.proto != r->code)
                fail_msg("%s: %d (%s), %d was expected", r->what, e.proto, e.text, r->code);
            assert_int_equal(s.a.state, !ok ? KCTX_DEAD : r->flags & KCTX_DCE ? KCTX_WAIT_THIRD : KCTX_READY);
            if (ok) {
                assert_int_equal(s.a.no_finished, r->may_lack && !r->type);
                assert_int_equal(s.a.acceptor_subkey.etype, r->other_etype ? 17 : etype);
            }
        }
}

/* T067: and nothing of the client shows. */
static void every_bit_of_finished(void **state)
{
    struct craft c = {.what = "a bit", FIN, D};
    static struct scene s;
    size_t n;

    (void)state;
    set_scene(&s, 18, 0);
    n = 8 * craft_finished(&c, &s.cred.key, &s.mem).n;
    assert_true(n > 8 * 12);
    for (c.flip = 0; c.flip <= n; c.flip++) {
        struct sp_err e = {0};
        bool ok;

        set_scene(&s, 18, 0);
        craft_ap_req(&s, &c);
        s.how.transcript = (struct kctx_transcript){c.kind, sp_span(TOKENS, sizeof TOKENS)};
        ok = try_accept(&s, &e);
        if (ok != (c.flip == 0))
            fail_msg("bit %zu of %zu: %d %s", c.flip, n, e.proto, e.text);
        assert_int_equal(s.a.state, ok ? KCTX_READY : KCTX_DEAD);
        assert_true(ok == (s.a.client[0] != 0) && ok == (s.a.flags != 0) && ok == (s.a.session.n != 0));
    }
}

/* ---- what an acceptor checks besides ---- */

static void acceptor_refuses(void **state)
{
    static struct scene s;
    struct sp_err e = {0};
    struct one_replay replays = {.port = {note_replay}};
    struct sp_arena mem;

    (void)state;
    set_scene(&s, 18, KCTX_MUTUAL);
    request(&s);
    s.how.replays = &replays.port;
    good(try_accept(&s, &e), &e);
    memset(&s.a, 0, sizeof s.a);
    refused(try_accept(&s, &e), &e, KRB_AP_ERR_REPEAT);

    for (int i = 0; i < 6; i++) {
        static const int32_t codes[] = {KRB_AP_ERR_SKEW,  KRB_AP_ERR_TKT_EXPIRED,   KRB_AP_ERR_TKT_NYV,
                                        KRB_AP_ERR_NOKEY, KRB_AP_ERR_BAD_INTEGRITY, KRB_AP_ERR_BADMATCH};

        set_scene(&s, 18, KCTX_MUTUAL);
        e = (struct sp_err){0};
        sp_arena_init(&mem, block, sizeof block);
        s.ask.offset_s = i == 0 ? 301 : i == 4 ? 299 : 0;
        s.endtime = i == 1 ? NOW - 301 : NOW + 3600;
        s.ticket_flags = i == 2 ? KRB_FLAG(TKT_INVALID) : 0;
        make_ticket(&s, &mem);
        if (i == 5)
            s.cred.crealm = SP_LIT("ELSEWHERE.TEST");
        request(&s);
        if (i == 3)
            s.keys.key.etype = 17;
        s.keys.key.b[0] ^= i == 4;
        refused(try_accept(&s, &e), &e, codes[i]);
    }
}

/* AD-AP-OPTIONS says that a client which sends no bindings could have (MS-KILE). */
static void aware_client(void **state)
{
    static const uint8_t options[4] = {0, 0x40, 0, 0};
    uint8_t ours[16] = {1};

    (void)state;
    for (int i = 0; i < 3; i++) {
        static struct scene s;
        struct krb_ad one = {143, sp_span(options, 4)}, wrapped = {AD_IF_RELEVANT, {0}};
        struct krb_authdata list = {&one, 1};
        struct krb_authenticator a;
        struct krb_ap_req m;
        struct sp_span plain;
        uint8_t buf[2048];
        size_t n = sizeof buf;
        struct sp_err e = {0};

        set_scene(&s, 18, KCTX_MUTUAL);
        request(&s);
        good(krb_get(KRB_AP_REQ, s.ap_req, KRB_STRICT, &s.mem, &m, &e), &e);
        good(crypto_decrypt(crypto, &s.cred.key, KU_AP_REQ_AUTH, m.authenticator.cipher, buf, &n, &e), &e);
        good(krb_get(KRB_AUTHENTICATOR, sp_span(buf, n), KRB_STRICT, &s.mem, &a, &e), &e);
        good(krb_make(KRB_AUTHDATA, &list, &s.mem, &wrapped.data, &e), &e);
        a.has |= KRB_BIT(8);
        a.authdata = (struct krb_authdata){i == 0 ? &wrapped : &one, 1};
        if (i == 2)
            one.data.p = (const uint8_t *)"\0\0\0\0";
        good(krb_make(KRB_AUTHENTICATOR, &a, &s.mem, &plain, &e), &e);
        n = sizeof buf;
        good(crypto_encrypt(crypto, &s.cred.key, KU_AP_REQ_AUTH, &rng.rng, plain, buf, &n, &e), &e);
        m.authenticator.cipher = sp_span(buf, n);
        good(krb_make(KRB_AP_REQ, &m, &s.mem, &s.ap_req, &e), &e);
        s.how.bindings = ours;
        if (i == 2)
            good(try_accept(&s, &e), &e);
        else
            refused(try_accept(&s, &e), &e, KCTX_BAD_BINDINGS);
    }
}

static void errors(void **state)
{
    static const int32_t rows[][2] = {
        {37,           37},
        {KCTX_BAD_SIG, 60},
        {0,            60},
        {1000,         60},
        {31,           31}
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static struct scene s;
        struct sp_err why = {.kind = SP_EREFUSED, .proto = rows[i][0]}, e = {0};
        struct sp_span made = {0}, third;

        set_scene(&s, 18, KCTX_MUTUAL);
        request(&s);
        good(kctx_make_error(env_at(NOW), &why, SP_LIT(REALM), i % 2 ? NULL : &s.cred.server, &s.mem, &made,
                             &e),
             &e);
        refused(kctx_take_reply(&s.i, crypto, env_at(NOW), made, &s.mem, &third, &e), &e, rows[i][1]);
        assert_int_equal(s.i.state, KCTX_DEAD);
    }
}

/* ---- every function in every state ---- */

static void state_table(void **state)
{
    (void)state;
    for (int st = KCTX_NEW; st <= KCTX_DEAD; st++)
        for (int role = KCTX_INITIATOR; role <= KCTX_ACCEPTOR; role++) {
            static struct scene s;
            struct kctx k, before;
            uint8_t out[KCTX_EXPORT_MAX];
            size_t n;
            struct sp_span span, text = SP_LIT("text");
            struct kctx_iov v = {KCTX_PART_HEADER, out, sizeof out};
            struct sp_key key;
            enum kctx_wrap how;
            bool ok;

            set_scene(&s, 18, KCTX_MUTUAL);
            memset(&before, 0, sizeof before);
            before.state = (enum kctx_state)st;
            before.role = (enum kctx_role)role;
            before.flags = KCTX_MUTUAL;
#define EARLY(call)                                                                                          \
    do {                                                                                                     \
        struct sp_err e = {0};                                                                               \
        k = before;                                                                                          \
        n = sizeof out;                                                                                      \
        refused(call, &e, KCTX_NO_CONTEXT);                                                                  \
        assert_memory_equal(&k, &before, sizeof k);                                                          \
    } while (0)
            if (st != KCTX_NEW) {
                EARLY(kctx_request(&k, crypto, env_at(NOW), &s.ask, &s.mem, &span, &e));
                EARLY(kctx_accept(&k, crypto, env_at(NOW), &s.how, text, &s.mem, &span, &e));
                EARLY(kctx_import(&k, text, &e));
            }
            if (st != KCTX_WAIT_REP || role != KCTX_INITIATOR)
                EARLY(kctx_take_reply(&k, crypto, env_at(NOW), text, &s.mem, &span, &e));
            if (st != KCTX_WAIT_THIRD || role != KCTX_ACCEPTOR)
                EARLY(kctx_accept_third(&k, crypto, env_at(NOW), text, &e));
            if (st == KCTX_READY)
                continue;
            EARLY(kctx_get_mic(&k, crypto, &text, 1, out, &n, &e));
            EARLY(kctx_verify_mic(&k, crypto, &text, 1, text, &ok, &e));
            EARLY(kctx_verify_list_mic(&k, crypto, text, text, &e));
            EARLY(kctx_wrap(&k, crypto, &rng.rng, KCTX_CONFIDENTIAL, text, out, &n, &e));
            EARLY(kctx_unwrap(&k, crypto, text, out, &n, &how, &ok, &e));
            EARLY(kctx_iov_lengths(&k, KCTX_INTEGRITY, &v, 1, &e));
            EARLY(kctx_wrap_iov(&k, crypto, &rng.rng, KCTX_INTEGRITY, &v, 1, &s.mem, &e));
            EARLY(kctx_unwrap_iov(&k, crypto, &how, &v, 1, &s.mem, &ok, &e));
            EARLY(kctx_prf(&k, crypto, KCTX_PRF_FULL, text, out, 8, &e));
            EARLY(kctx_session_key(&k, &key, &e));
            EARLY(kctx_export(&k, out, &n, &e));
            assert_int_equal(kctx_wrap_limit(&before, KCTX_CONFIDENTIAL, 1000), 0);
            kctx_wipe(&k);
        }
}

/* A failure for want of memory leaves everything as it was; with enough it works. */
static void small_arenas(void **state)
{
    static struct scene s;
    struct kctx before;
    struct sp_span third;
    size_t mark, cap;
    uint8_t *p;
    bool ok;

    (void)state;
#define GROW(k, call)                                                                                        \
    mark = s.mem.used;                                                                                       \
    p = s.mem.p;                                                                                             \
    before = k;                                                                                              \
    ok = false;                                                                                              \
    for (cap = 0; !ok; cap += 16) {                                                                          \
        struct sp_err e = {0};                                                                               \
        s.mem = (struct sp_arena){p, mark + cap, mark, mark};                                                \
        ok = call;                                                                                           \
        if (!ok) {                                                                                           \
            assert_int_equal(e.kind, SP_ENOMEM);                                                             \
            assert_memory_equal(&k, &before, sizeof k);                                                      \
            assert_int_equal(s.mem.used, mark);                                                              \
        }                                                                                                    \
        assert_true(cap < 100000);                                                                           \
    }                                                                                                        \
    assert_true(cap > 16);                                                                                   \
    s.mem.max = sizeof scene_block
    for (int32_t etype = 17; etype <= 20; etype++) {
        static const uint8_t ours[16] = {9};
        struct sp_err none = {0};

        set_scene(&s, etype, KCTX_DCE | KCTX_DELEG);
        s.how.bindings = ours;
        s.ask.transcript = s.how.transcript =
            (struct kctx_transcript){KCTX_FINISHED_DRAFT, sp_span(TOKENS, sizeof TOKENS)};
        good(kctx_make_cred(crypto, env_at(NOW), &s.cred, &s.cred.key, &s.mem, &s.ask.cred, &none), &none);
        GROW(s.i, kctx_request(&s.i, crypto, env_at(NOW), &s.ask, &s.mem, &s.ap_req, &e));
        GROW(s.a, try_accept(&s, &e));
        GROW(s.i, kctx_take_reply(&s.i, crypto, env_at(NOW), s.reply, &s.mem, &third, &e));
        good(kctx_accept_third(&s.a, crypto, env_at(NOW), third, &none), &none);
        both_ways(&s);
    }
}

/* ---- one byte changed ---- */

static void flipped_handshake(void **state)
{
    static struct scene s;
    static uint8_t copy[4096];
    struct sp_span third = {0};
    struct sp_err e = {0};
    size_t mark;

    (void)state;
    set_scene(&s, 18, KCTX_MUTUAL | KCTX_DCE);
    request(&s);
    mark = s.mem.used;
    for (size_t i = 0; i < s.ap_req.n; i++) {
        struct kctx k = {0};
        struct sp_span reply;

        e = (struct sp_err){0};
        memcpy(copy, s.ap_req.p, s.ap_req.n);
        copy[i] ^= 0x41;
        s.mem.used = mark;
        /* The name in the clear is the key's name only; this keytab has one key for all names, so a changed
         * one opens: it must then be reported as it stands in the ticket. The options are in the clear, too.
         */
        if (kctx_accept(&k, crypto, env_at(NOW), &s.how, sp_span(copy, s.ap_req.n), &s.mem, &reply, &e)) {
            struct krb_ap_req m;

            good(krb_get(KRB_AP_REQ, sp_span(copy, s.ap_req.n), KRB_STRICT, &s.mem, &m, &e), &e);
            assert_true(strcmp(k.service, "host/fs1@" REALM) != 0 || m.options != KRB_FLAG(2) ||
                        m.ticket.sname.type != NT_SRV_HST);
            assert_string_equal(k.client, "alice@" REALM);
        } else {
            assert_int_equal(k.state, KCTX_DEAD);
        }
    }
    s.mem.used = mark;
    e = (struct sp_err){0};
    good(try_accept(&s, &e), &e);
    mark = s.mem.used;
    for (size_t i = 0; i < s.reply.n; i++) {
        struct kctx k = s.i;

        e = (struct sp_err){0};
        memcpy(copy, s.reply.p, s.reply.n);
        copy[i] ^= 0x41;
        s.mem.used = mark;
        assert_false(kctx_take_reply(&k, crypto, env_at(NOW), sp_span(copy, s.reply.n), &s.mem, &third, &e));
        assert_int_equal(k.state, KCTX_DEAD);
        assert_int_equal(third.n, 0);
    }
    e = (struct sp_err){0};
    good(kctx_take_reply(&s.i, crypto, env_at(NOW), s.reply, &s.mem, &third, &e), &e);
    for (size_t i = 0; i < third.n; i++) {
        struct kctx k = s.a;

        e = (struct sp_err){0};
        memcpy(copy, third.p, third.n);
        copy[i] ^= 0x41;
        assert_false(kctx_accept_third(&k, crypto, env_at(NOW), sp_span(copy, third.n), &e));
        assert_int_equal(k.state, KCTX_DEAD);
    }
    { /* our own AP-REP sent back is no third leg */
        struct kctx k = s.a;

        e = (struct sp_err){0};
        refused(kctx_accept_third(&k, crypto, env_at(NOW), s.reply, &e), &e, KRB_AP_ERR_MODIFIED);
    }
}

/* T078 */
static void flipped_messages(void **state)
{
    (void)state;
    for (int32_t etype = 17; etype <= 20; etype++)
        for (int kind = 0; kind < 3; kind++) {
            static struct scene s;
            uint8_t token[128], copy[128], out[128];
            size_t n = sizeof token, out_n;
            struct sp_span text = SP_LIT(TEXT);
            struct sp_err e = {0};
            enum kctx_wrap how;
            bool ok = true;

            set_scene(&s, etype, KCTX_MUTUAL | KCTX_REPLAY | KCTX_SEQUENCE);
            finish(&s);
            good(kind == 2 ? kctx_get_mic(&s.i, crypto, &text, 1, token, &n, &e)
                           : kctx_wrap(&s.i, crypto, &rng.rng, (enum kctx_wrap)kind, text, token, &n, &e),
                 &e);
            for (size_t i = 0; i <= n; i++)
                for (int bit = 0; bit < 8; bit++) {
                    struct kctx k = s.a;
                    struct sp_span in = sp_span(copy, i < n ? n : n - 1); /* the last round is cut instead */

                    memcpy(copy, token, n);
                    if (i < n)
                        copy[i] ^= (uint8_t)(1 << bit);
                    /* RRC of a sealed token is not protected: a multiple of the length is no rotation. */
                    e = (struct sp_err){0};
                    out_n = sizeof out;
                    if (kind == 2 ? kctx_verify_mic(&k, crypto, &text, 1, in, &ok, &e)
                                  : kctx_unwrap(&k, crypto, in, out, &out_n, &how, &ok, &e))
                        fail_msg("etype %d, kind %d, byte %zu, bit %d is accepted", etype, kind, i, bit);
                    assert_false(ok);
                    assert_true(e.proto == KCTX_BAD_SIG || e.proto == KCTX_DEFECTIVE);
                    assert_memory_equal(&k, &s.a, sizeof k);
                }
            { /* a token of one's own, reflected */
                struct kctx k = s.i;

                e = (struct sp_err){0};
                out_n = sizeof out;
                refused(kind == 2 ? kctx_verify_mic(&k, crypto, &text, 1, sp_span(token, n), &ok, &e)
                                  : kctx_unwrap(&k, crypto, sp_span(token, n), out, &out_n, &how, &ok, &e),
                        &e, KCTX_BAD_SIG);
            }
        }
}

/* T078: whatever rotation a sender chose is undone. */
static void rotations(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++)
        for (uint16_t rrc = 0; rrc < 200; rrc++) {
            static struct scene s;
            uint8_t token[128], turned[128], out[128];
            size_t n = sizeof token, body, out_n = sizeof out;
            struct sp_err e = {0};
            enum kctx_wrap how;
            bool ok;

            if (rrc == 0) {
                set_scene(&s, 18, KCTX_MUTUAL);
                finish(&s);
            }
            good(kctx_wrap(&s.i, crypto, &rng.rng, (enum kctx_wrap)kind, SP_LIT(TEXT), token, &n, &e), &e);
            body = n - 16;
            memcpy(turned, token, 16);
            turned[6] = (uint8_t)(rrc >> 8);
            turned[7] = (uint8_t)rrc;
            for (size_t i = 0; i < body; i++)
                turned[16 + (i + rrc) % body] = token[16 + i];
            good(kctx_unwrap(&s.a, crypto, sp_span(turned, n), out, &out_n, &how, &ok, &e), &e);
            same_bytes(sp_span(out, out_n), SP_LIT(TEXT));
        }
}

/* ---- order ---- */

#define MICS 200
static void order(void **state)
{
    static const struct {
        uint32_t flags;
        int at;
        int32_t code;
    } rows[] = {
        {KCTX_REPLAY | KCTX_SEQUENCE, 0,   0               },
        {KCTX_REPLAY | KCTX_SEQUENCE, 0,   KCTX_DUPLICATE  },
        {KCTX_REPLAY | KCTX_SEQUENCE, 2,   KCTX_GAP        },
        {KCTX_REPLAY | KCTX_SEQUENCE, 1,   KCTX_UNSEQUENCED},
        {KCTX_REPLAY | KCTX_SEQUENCE, 1,   KCTX_DUPLICATE  },
        {KCTX_REPLAY | KCTX_SEQUENCE, 3,   0               },
        {KCTX_REPLAY | KCTX_SEQUENCE, 100, KCTX_GAP        },
        {KCTX_REPLAY | KCTX_SEQUENCE, 37,
         KCTX_UNSEQUENCED                                  }, /* 64 before the next: the oldest in the window */
        {KCTX_REPLAY | KCTX_SEQUENCE, 37,  KCTX_DUPLICATE  },
        {KCTX_REPLAY | KCTX_SEQUENCE, 36,  KCTX_OLD        },
        {KCTX_REPLAY | KCTX_SEQUENCE, 3,   KCTX_OLD        },
        {KCTX_REPLAY,                 5,   0               },
        {KCTX_REPLAY,                 3,   0               },
        {KCTX_REPLAY,                 3,   KCTX_DUPLICATE  },
        {KCTX_REPLAY,                 199, 0               },
        {KCTX_REPLAY,                 6,   KCTX_OLD        },
        {KCTX_SEQUENCE,               1,   KCTX_GAP        },
        {KCTX_SEQUENCE,               0,   KCTX_UNSEQUENCED},
        {0,                           9,   0               },
        {0,                           9,   0               },
        {0,                           1,   0               },
    };
    static struct scene s;
    static uint8_t mic[MICS][KCTX_MIC_MAX];
    static size_t n[MICS];
    uint32_t flags = UINT32_MAX;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sp_span text = SP_LIT("x");
        struct sp_err e = {0};
        bool ok = false, passed;

        if (rows[i].flags != flags) {
            flags = rows[i].flags;
            set_scene(&s, 18, KCTX_MUTUAL | flags);
            finish(&s);
            for (int m = 0; m < MICS; m++) {
                n[m] = KCTX_MIC_MAX;
                good(kctx_get_mic(&s.i, crypto, &text, 1, mic[m], &n[m], &e), &e);
            }
        }
        passed = kctx_verify_mic(&s.a, crypto, &text, 1, sp_span(mic[rows[i].at], n[rows[i].at]), &ok, &e);
        if (passed != (rows[i].code == 0) || e.proto != rows[i].code)
            fail_msg("row %zu: %d (%s)", i, e.proto, e.text);
        assert_true(ok);
    }
}

/* Numbers are 64 bits on the wire and go round. */
static void order_goes_round(void **state)
{
    static struct scene s;

    (void)state;
    set_scene(&s, 18, KCTX_MUTUAL | KCTX_SEQUENCE | KCTX_REPLAY);
    finish(&s);
    s.i.send_seq = s.a.recv_seq = UINT64_MAX - 1;
    for (int i = 0; i < 4; i++)
        carry(&s.i, &s.a, KCTX_CONFIDENTIAL, 3);
    assert_int_equal(s.a.recv_seq, 2);
}

/* ---- pieces ---- */

static void iov_pieces(void **state)
{
    (void)state;
    for (int32_t etype = 17; etype <= 20; etype++)
        for (int mode = 0; mode < 16; mode++) {
            static struct scene s;
            bool dce = mode & 1, trailer = mode & 2, stream = mode & 8;
            enum kctx_wrap how = mode & 4 ? KCTX_CONFIDENTIAL : KCTX_INTEGRITY, seen;
            uint8_t head[128], tail[64], one[20] = "the first piece", two[40] = "and the second one",
                                         all[256];
            struct kctx_iov v[6] = {
                {KCTX_PART_HEADER,    head,                0 },
                {KCTX_PART_DATA,      one,                 15},
                {KCTX_PART_SIGN_ONLY, (uint8_t *)"beside", 6 },
                {KCTX_PART_DATA,      two,                 18},
                {KCTX_PART_PADDING,   tail,                5 },
                {KCTX_PART_TRAILER,   tail,                0 },
            };
            struct kctx_iov beside = v[2];
            uint32_t count = trailer ? 6 : 5;
            size_t n = 0;
            struct sp_err e = {0};
            bool ok;

            if (stream) { /* whose pieces beside stand before or behind all data */
                v[2] = v[3];
                v[3] = beside;
            }
            set_scene(&s, etype, (dce ? KCTX_DCE : KCTX_MUTUAL) | KCTX_SEQUENCE);
            finish(&s);
            good(kctx_iov_lengths(&s.i, how, v, count, &e), &e);
            assert_true(v[0].n <= sizeof head && (!trailer || v[5].n <= sizeof tail) && v[4].n == 0);
            v[0].n--;
            assert_false(kctx_wrap_iov(&s.i, crypto, &rng.rng, how, v, count, &s.mem, &e));
            assert_int_equal(e.kind, SP_EFULL);
            e = (struct sp_err){0};
            v[0].n++;
            good(kctx_wrap_iov(&s.i, crypto, &rng.rng, how, v, count, &s.mem, &e), &e);
            assert_int_equal(memcmp(one, "the first piece", 15) == 0, how == KCTX_INTEGRITY);
            if (stream) { /* the same as one token */
                struct kctx_iov st[3] = {
                    {KCTX_PART_STREAM,    all,                 0},
                    {KCTX_PART_DATA,      NULL,                0},
                    {KCTX_PART_SIGN_ONLY, (uint8_t *)"beside", 6},
                };

                if (dce && !trailer && how == KCTX_CONFIDENTIAL)
                    continue; /* Windows' rotation is known in pieces only */
                for (uint32_t i = 0; i < count; i++)
                    if (v[i].part != KCTX_PART_SIGN_ONLY) {
                        memcpy(all + n, v[i].p, v[i].n);
                        n += v[i].n;
                    }
                st[0].n = n;
                good(kctx_unwrap_iov(&s.a, crypto, &seen, st, 3, &s.mem, &ok, &e), &e);
                same_bytes(sp_span(st[1].p, st[1].n), SP_LIT("the first pieceand the second one"));
            } else {
                good(kctx_unwrap_iov(&s.a, crypto, &seen, v, count, &s.mem, &ok, &e), &e);
                assert_memory_equal(one, "the first piece", 15);
                assert_memory_equal(two, "and the second one", 18);
                one[3] ^= 1;
                e = (struct sp_err){0};
                assert_false(kctx_unwrap_iov(&s.a, crypto, &seen, v, count, &s.mem, &ok, &e));
                assert_false(ok);
            }
            assert_true(ok == !(!stream) && seen == how);
        }
}

/* Where a piece stands beside a text matters, and it has to stand in it, in order. */
static void pieces_beside(void **state)
{
    static struct crypto_beside b;
    struct sp_key key = {0};
    uint8_t out[128], back[128];
    size_t n, back_n;
    struct sp_err e = {0};

    (void)state;
    for (int32_t etype = 17; etype <= 20; etype++)
        for (size_t at = 0; at <= 6; at++) {
            e = (struct sp_err){0};
            good(crypto_random_key(etype, &rng.rng, &key, &e), &e);
            b.count = 2;
            b.v[0].at = 0;
            b.v[0].bytes = SP_LIT("in front");
            b.v[1].at = at;
            b.v[1].bytes = SP_LIT("beside");
            n = sizeof out;
            if (at == 6) { /* the text has five bytes */
                refused(crypto_encrypt_beside(crypto, &key, 22, &rng.rng, SP_LIT("12345"), &b, out, &n, &e),
                        &e, 0);
                continue;
            }
            good(crypto_encrypt_beside(crypto, &key, 22, &rng.rng, SP_LIT("12345"), &b, out, &n, &e), &e);
            back_n = sizeof back;
            good(crypto_decrypt_beside(crypto, &key, 22, sp_span(out, n), &b, back, &back_n, &e), &e);
            same_bytes(sp_span(back, back_n), SP_LIT("12345"));
            b.v[1].at = (at + 1) % 6;
            back_n = sizeof back;
            refused(crypto_decrypt_beside(crypto, &key, 22, sp_span(out, n), &b, back, &back_n, &e), &e,
                    KRB_AP_ERR_BAD_INTEGRITY);
            e = (struct sp_err){0};
            back_n = sizeof back;
            refused(crypto_decrypt(crypto, &key, 22, sp_span(out, n), back, &back_n, &e), &e,
                    KRB_AP_ERR_BAD_INTEGRITY);
        }
    e = (struct sp_err){0};
    b.v[0].at = 3;
    b.v[1].at = 2;
    n = sizeof out;
    refused(crypto_encrypt_beside(crypto, &key, 22, &rng.rng, SP_LIT("12345"), &b, out, &n, &e), &e, 0);
    e = (struct sp_err){0};
    b.count = CRYPTO_BESIDE_MAX + 1;
    refused(crypto_encrypt_beside(crypto, &key, 22, &rng.rng, SP_LIT("12345"), &b, out, &n, &e), &e, 0);
}

/* Every limit on both sides; what does not fit says how much it takes and changes nothing. */
static void limits(void **state)
{
    static struct scene s;
    static uint8_t big[KCTX_PRF_IN_MAX + 1];
    struct sp_span many[KCTX_PARTS_MAX + 1] = {0}, text = SP_LIT(TEXT);
    struct kctx_iov pieces[KCTX_PARTS_MAX + 1];
    struct kctx before;
    uint8_t out[256], token[256];
    size_t n, token_n = sizeof token;
    struct sp_err e = {0};
    enum kctx_wrap how;
    bool ok;

    (void)state;
    set_scene(&s, 20, KCTX_MUTUAL | KCTX_REPLAY);
    finish(&s);
    good(kctx_wrap(&s.a, crypto, &rng.rng, KCTX_CONFIDENTIAL, text, token, &token_n, &e), &e);
    before = s.i;
#define FULL(call, takes)                                                                                    \
    do {                                                                                                     \
        e = (struct sp_err){0};                                                                              \
        n = (takes)-1;                                                                                       \
        assert_false(call);                                                                                  \
        assert_int_equal(e.kind, SP_EFULL);                                                                  \
        assert_int_equal(n, takes);                                                                          \
        assert_memory_equal(&before, &s.i, sizeof before);                                                   \
    } while (0)
    FULL(kctx_get_mic(&s.i, crypto, &text, 1, out, &n, &e), 16 + 24u);
    FULL(kctx_wrap(&s.i, crypto, &rng.rng, KCTX_CONFIDENTIAL, text, out, &n, &e), 16 + 16 + 15 + 16 + 24u);
    FULL(kctx_wrap(&s.i, crypto, &rng.rng, KCTX_INTEGRITY, text, out, &n, &e), 16 + 15 + 24u);
    FULL(kctx_unwrap(&s.i, crypto, sp_span(token, token_n), out, &n, &how, &ok, &e), token_n);
    e = (struct sp_err){0};
    n = sizeof out;
    good(kctx_get_mic(&s.i, crypto, many, KCTX_PARTS_MAX, out, &n, &e), &e);
    n = sizeof out;
    refused(kctx_get_mic(&s.i, crypto, many, KCTX_PARTS_MAX + 1, out, &n, &e), &e, 0);
    e = (struct sp_err){0};
    good(kctx_prf(&s.i, crypto, KCTX_PRF_FULL, sp_span(big, KCTX_PRF_IN_MAX), out, 20, &e), &e);
    refused(kctx_prf(&s.i, crypto, KCTX_PRF_FULL, sp_span(big, KCTX_PRF_IN_MAX + 1), out, 20, &e), &e, 0);
    for (int i = 0; i <= KCTX_PARTS_MAX; i++)
        pieces[i] =
            (struct kctx_iov){i ? KCTX_PART_SIGN_ONLY : KCTX_PART_HEADER, i ? big : token, i ? 1 : 200};
    e = (struct sp_err){0};
    good(kctx_wrap_iov(&s.i, crypto, &rng.rng, KCTX_CONFIDENTIAL, pieces, KCTX_PARTS_MAX, &s.mem, &e), &e);
    good(kctx_unwrap_iov(&s.a, crypto, &how, pieces, KCTX_PARTS_MAX, &s.mem, &ok, &e), &e);
    refused(kctx_wrap_iov(&s.i, crypto, &rng.rng, how, pieces, KCTX_PARTS_MAX + 1, &s.mem, &e), &e, 0);
    e = (struct sp_err){0};
    pieces[1].part = KCTX_PART_HEADER;
    refused(kctx_wrap_iov(&s.i, crypto, &rng.rng, how, pieces, 2, &s.mem, &e), &e, 0);
    e = (struct sp_err){0};
    pieces[1].part = KCTX_PART_MIC;
    refused(kctx_wrap_iov(&s.i, crypto, &rng.rng, how, pieces, 2, &s.mem, &e), &e, 0);
}

/* A credential as long as its 16-bit length allows is sent; one byte more is not. */
static void long_credential(void **state)
{
    static uint8_t cred[UINT16_MAX + 1];
    static _Alignas(16) uint8_t room[1 << 19];

    (void)state;
    for (int more = 0; more < 2; more++) {
        static struct scene s;
        struct sp_err e = {0};

        set_scene(&s, 18, KCTX_DELEG);
        sp_arena_init(&s.mem, room, sizeof room);
        s.ask.cred = sp_span(cred, UINT16_MAX + (size_t)more);
        if (more) {
            refused(kctx_request(&s.i, crypto, env_at(NOW), &s.ask, &s.mem, &s.ap_req, &e), &e,
                    KRB_ERR_FIELD_TOOLONG);
            continue;
        }
        request(&s);
        assert_true(s.ap_req.n > UINT16_MAX);
        assert_false(try_accept(&s, &e)); /* zeros are no KRB-CRED */
        assert_int_equal(e.kind, SP_EINPUT);
    }
}

/* ---- another process ---- */

static void exported(void **state)
{
    static struct scene s;
    uint8_t bytes[KCTX_EXPORT_MAX], again[KCTX_EXPORT_MAX];
    size_t n, again_n;
    struct sp_err e = {0};
    static const struct kctx zero;

    (void)state;
    for (int32_t etype = 17; etype <= 20; etype++) {
        struct kctx k = {0};

        e = (struct sp_err){0};
        set_scene(&s, etype, KCTX_MUTUAL | KCTX_SEQUENCE | KCTX_REPLAY);
        finish(&s);
        both_ways(&s);
        n = 10;
        assert_false(kctx_export(&s.a, bytes, &n, &e));
        assert_int_equal(e.kind, SP_EFULL);
        e = (struct sp_err){0};
        good(kctx_export(&s.a, bytes, &n, &e), &e);
        assert_memory_equal(&s.a, &zero, sizeof zero);
        for (size_t cut = 0; cut < n; cut++) {
            e = (struct sp_err){0};
            refused(kctx_import(&k, sp_span(bytes, cut), &e), &e, KCTX_DEFECTIVE);
            assert_memory_equal(&k, &zero, sizeof zero);
        }
        e = (struct sp_err){0};
        bytes[n] = 0;
        refused(kctx_import(&k, sp_span(bytes, n + 1), &e), &e, KCTX_DEFECTIVE);
        e = (struct sp_err){0};
        good(kctx_import(&s.a, sp_span(bytes, n), &e), &e);
        assert_string_equal(s.a.client, "alice@" REALM);
        both_ways(&s);
        for (size_t i = 0; i < n;
             i++) { /* nothing in it crashes; what is taken comes out again as it went in */
            memset(&k, 0, sizeof k);
            bytes[i] ^= 0xff;
            e = (struct sp_err){0};
            again_n = sizeof again;
            if (kctx_import(&k, sp_span(bytes, n), &e)) {
                good(kctx_export(&k, again, &again_n, &e), &e);
                same_bytes(sp_span(again, again_n), sp_span(bytes, n));
            }
            bytes[i] ^= 0xff;
        }
    }
}

/* ---- framing ---- */

static void framing(void **state)
{
    static struct recording r;
    struct sp_arena mem;
    struct sp_span made;
    struct token t;
    struct sp_err e = {0};
    uint8_t copy[64];

    (void)state;
    read_recording("iakerb-new-discovery.txt", &r);
    for (uint32_t i = 0; i < r.count; i++) {
        sp_arena_init(&mem, block, sizeof block);
        good(token_get(r.tokens[i], &t, &e), &e);
        good(token_make(t.mech, t.id, t.body, &mem, &made, &e), &e);
        same_bytes(made, r.tokens[i]);
        for (size_t cut = 0; cut < r.tokens[i].n; cut++) {
            struct sp_err why = {0};

            assert_false(token_get(sp_span(r.tokens[i].p, cut), &t, &why));
        }
    }
    for (int m = 0; m < TOKEN_MECH_COUNT; m++) {
        assert_int_equal(token_mech_of(token_oid((enum token_mech)m)), m);
        good(token_make((enum token_mech)m, 0x0100, SP_LIT("body"), &mem, &made, &e), &e);
        good(token_get(made, &t, &e), &e);
        assert_int_equal(t.mech, m);
        same_bytes(t.body, SP_LIT("body"));
        assert_true(t.id == 0 || t.id == 0x0100);
        memcpy(copy, made.p, made.n);
        copy[made.n] = 0;
        assert_false(token_get(sp_span(copy, made.n + 1), &t, &e));
        e = (struct sp_err){0};
    }
    assert_int_equal(token_mech_of(SP_LIT("\x2b")), TOKEN_UNKNOWN);
    assert_string_equal(token_mech_name(TOKEN_IAKERB), "iakerb");
}

static void printed(void **state)
{
    static const struct {
        const char *file;
        uint32_t at;
        const char *holds; /* lines */
    } rows[] = {
        {"iakerb-new-discovery.txt",  0, "token: iakerb 05 01"           },
        {"iakerb-new-discovery.txt",  0, "target-realm: \"\""            },
        {"iakerb-new-discovery.txt",  1, "target-realm: \"SALLY.TEST\""  },
        {"iakerb-new-aes256sha1.txt", 1, "error-code: 25"                },
        {"iakerb-new-aes256sha1.txt", 6, "token: iakerb 01 00"           },
        {"iakerb-new-aes256sha1.txt", 6, "sname"                         },
        {"iakerb-old-1.20.1.txt",     1, "before MIT 1.22): \"SALLY.TEST"},
        {"spnego-iakerb-first.txt",   0, "NegTokenInit"                  },
        {"spnego-iakerb-first.txt",   0, "mechType: iakerb"              },
        {"spnego-iakerb-first.txt",   0, "token: iakerb 05 01"           },
        {"spnego-iakerb-first.txt",   1, "NegTokenResp"                  },
        {"spnego-iakerb-first.txt",   1, "accept-incomplete"             },
        {"spnego-iakerb-first.txt",   1, "supportedMech: iakerb"         },
    };
    static struct recording r;
    static char out[65536];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sp_text t = sp_text(out, sizeof out);

        read_recording(rows[i].file, &r);
        token_print(r.tokens[rows[i].at], &t);
        if (!strstr(out, rows[i].holds))
            fail_msg("%s, token %u: no \"%s\" in\n%s", rows[i].file, rows[i].at, rows[i].holds, out);
        for (size_t cut = 0; cut < r.tokens[rows[i].at].n; cut += 7) { /* anything can be printed */
            t = sp_text(out, sizeof out);
            token_print(sp_span(r.tokens[rows[i].at].p, cut), &t);
        }
    }
}

static int make_backend(void **state)
{
    struct sp_err e = {0};

    (void)state;
    sp_rng_fixed_init(&rng, 4121);
    crypto = crypto_new(&e);
    return crypto ? 0 : -1;
}

static int free_backend(void **state)
{
    (void)state;
    crypto_free(crypto);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recordings),
        cmocka_unit_test(windows),
        cmocka_unit_test(recorded_refusal),
        cmocka_unit_test(pieces_beside),
        cmocka_unit_test(round_trips),
        cmocka_unit_test(bindings),
        cmocka_unit_test(binding_hash),
        cmocka_unit_test(delegation),
        cmocka_unit_test(deviations),
        cmocka_unit_test(every_bit_of_finished),
        cmocka_unit_test(acceptor_refuses),
        cmocka_unit_test(aware_client),
        cmocka_unit_test(errors),
        cmocka_unit_test(state_table),
        cmocka_unit_test(small_arenas),
        cmocka_unit_test(flipped_handshake),
        cmocka_unit_test(flipped_messages),
        cmocka_unit_test(rotations),
        cmocka_unit_test(order),
        cmocka_unit_test(order_goes_round),
        cmocka_unit_test(iov_pieces),
        cmocka_unit_test(exported),
        cmocka_unit_test(framing),
        cmocka_unit_test(printed),
        cmocka_unit_test(limits),
        cmocka_unit_test(long_credential),
    };

    return cmocka_run_group_tests(tests, make_backend, free_backend);
}
