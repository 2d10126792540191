/* SPDX-License-Identifier: MIT */
/* sallyport gss serve and connect: a pair that establishes a security context over TCP, in frames with four
 * bytes of length, and echoes one message under its protection; to try mechanisms, names and flags by hand.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/secret.h"
#include "cli/login.h"
#include "host/dial.h"
#include "host/rcache.h"
#include "krb/keytab.h"
#include "net/address.h"
#include "net/framing.h"

#define PATIENCE_US (30 * INT64_C(1000000))
#define FRAME_MAX SEC_TOKEN_MAX
#define CONNECTIONS_MAX 64

struct pair {
    struct login *l;
    int fd;
    struct sec *sec;
    bool spnego;
    int64_t until_us;
    uint8_t frame[FRAME_MAX], out[FRAME_MAX + KCTX_WRAP_OVERHEAD_MAX];
    uint8_t bindings[16];
    bool bound;
};

/* ---- words of the command line ---- */

static const struct {
    const char *name;
    uint32_t flag;
} flags[] = {
    {"deleg",         KCTX_DELEG        },
    {"deleg-policy",  KCTX_DELEG_POLICY },
    {"mutual",        KCTX_MUTUAL       },
    {"replay",        KCTX_REPLAY       },
    {"sequence",      KCTX_SEQUENCE     },
    {"conf",          KCTX_CONF         },
    {"integ",         KCTX_INTEG        },
    {"channel-bound", KCTX_CHANNEL_BOUND},
    {"dce",           KCTX_DCE          },
    {"identify",      KCTX_IDENTIFY     },
};
#define FLAGS (sizeof flags / sizeof flags[0])

static bool take_flags(const char *text, uint32_t *out, struct sp_err *e)
{
    *out = 0;
    for (size_t n; *text; text += n + (text[n] == ',')) {
        size_t i = 0;

        n = strcspn(text, ",");
        while (i < FLAGS && !sp_same(sp_str(flags[i].name), sp_span(text, n)))
            i++;
        if (i == FLAGS)
            return sp_fail(e, SP_EINPUT, 0,
                           "unknown flag '%.*s'; mutual, replay, sequence, conf, integ, deleg, deleg-policy, "
                           "dce and identify are",
                           (int)(n < 20 ? n : 20), text);
        *out |= flags[i].flag;
    }
    return true;
}

static cJSON *flags_json(uint32_t v)
{
    cJSON *list = cJSON_CreateArray();

    for (size_t i = 0; i < FLAGS; i++)
        if (v & flags[i].flag)
            cJSON_AddItemToArray(list, cJSON_CreateString(flags[i].name));
    return list;
}

/* The text of --bindings is the application data; both sides need the same. */
static bool take_bindings(struct pair *p, struct sp_err *e)
{
    const char *text = cli_local(p->l->c, "bindings");
    struct kctx_bindings b = {.application = sp_str(text)};

    p->bound = text != NULL;
    return !text || kctx_hash_bindings(p->l->crypto, &b, &p->l->mem, p->bindings, e);
}

/* ---- frames ---- */

static bool lost(const char *what, struct sp_err *e)
{
    return sp_fail(e, SP_EBACKEND, 0, "the other side %s: %s; see what it says", what, strerror(errno));
}

static bool put_frame(struct pair *p, const char *what, struct sp_span data, struct sp_err *e)
{
    uint8_t head[4];

    net_put_frame_length(head, data.n);
    if (what)
        login_trace(p->l, what, data);
    return (host_send_all(p->fd, sp_span(head, sizeof head), p->until_us) &&
            host_send_all(p->fd, data, p->until_us)) ||
           lost("takes nothing", e);
}

static bool get_frame(struct pair *p, const char *what, struct sp_span *out, struct sp_err *e)
{
    uint8_t head[4];

    if (!host_receive_all(p->fd, head, sizeof head, p->until_us))
        return lost("sends nothing", e);
    uint32_t n = (uint32_t)head[0] << 24 | (uint32_t)head[1] << 16 | (uint32_t)head[2] << 8 | head[3];
    if (n > sizeof p->frame)
        return sp_fail(e, SP_EREFUSED, 0,
                       "a frame of %u bytes, and at most %zu are taken; is the other side 'sallyport gss'?",
                       n, sizeof p->frame);
    if (!host_receive_all(p->fd, p->frame, n, p->until_us))
        return lost("sends half a frame", e);
    *out = sp_span(p->frame, n);
    if (what)
        login_trace(p->l, what, *out);
    return true;
}

/* ---- the context ---- */

static bool carry(struct pair *p, const struct sec_action *act, struct sec_event *ev)
{
    struct sp_err why = {0};
    int64_t began = host_env().mono_us;
    struct sp_span reply;

    if (host_ask(&p->l->route.courier, act->realm, act->message, SP_LIT("gss"), HOST_ASK_MS_MAX, &p->l->mem,
                 &reply, &why)) {
        login_note(p->l, act->message, reply, began);
        *ev = (struct sec_event){.kind = SEC_CARRIED, .bytes = reply};
        return true;
    }
    *ev = (struct sec_event){
        .kind = SEC_NOT_CARRIED,
        .code = why.proto == KRB_AP_ERR_IAKERB_KDC_NOT_FOUND ? why.proto : KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE};
    return false;
}

/* One event and all that follows from it without the peer; a refusal is sent when there are words for it. */
static bool step(struct pair *p, struct sec_event ev, struct sec_action *act, struct sp_err *e)
{
    struct sp_err ignored = {0};

    for (;;) {
        bool ok = sec_step(p->sec, host_env(), &ev, act, e);

        if (!ok && act->token.n > 0)
            (void)!put_frame(p, "to the peer, an error", act->token, &ignored);
        if (!ok || act->what != SEC_CARRY)
            return ok && (act->token.n == 0 || put_frame(p, "to the peer", act->token, e));
        (void)carry(p, act, &ev);
    }
}

static bool is_spnego(struct sp_span first)
{
    struct sp_err none = {0};
    struct token t;

    return token_get(first, &t, &none) && t.mech == TOKEN_SPNEGO;
}

static bool establish(struct pair *p, bool speaks_first, struct sp_err *e)
{
    struct sec_action act = {.what = SEC_SEND};
    struct sp_span token;

    p->until_us = host_mono_us() + PATIENCE_US;
    if (speaks_first && !step(p, (struct sec_event){.kind = SEC_START}, &act, e))
        return false;
    while (act.what != SEC_DONE) {
        int64_t began = host_env().mono_us;
        struct sp_span sent = act.token;

        if (!get_frame(p, "from the peer", &token, e))
            return false;
        p->spnego = p->spnego || is_spnego(token);
        login_note(p->l, sent, token, began);
        if (!login_blame_peer(step(p, (struct sec_event){.kind = SEC_TOKEN, .bytes = token}, &act, e), e))
            return false;
    }
    return true;
}

static bool put_message(struct pair *p, struct sp_span message, struct sp_err *e)
{
    struct kctx *k = sec_kctx(p->sec);
    size_t n = sizeof p->out;

    return kctx_wrap(k, p->l->crypto, host_env().rng,
                     k->flags & KCTX_CONF ? KCTX_CONFIDENTIAL : KCTX_INTEGRITY, message, p->out, &n, e) &&
           put_frame(p, NULL, sp_span(p->out, n), e);
}

/* What comes instead may be SPNEGO's last word to an initiator that was done before. */
static bool get_message(struct pair *p, struct sp_span *out, struct sp_err *e)
{
    enum kctx_wrap how;
    struct sec_action act;
    struct sp_span frame;
    size_t n = sizeof p->out;
    bool good;

    if (!get_frame(p, NULL, &frame, e))
        return false;
    if (p->spnego && frame.n > 0 && frame.p[0] == 0xa1) {
        login_trace(p->l, "from the peer", frame);
        if (!step(p, (struct sec_event){.kind = SEC_TOKEN, .bytes = frame}, &act, e) ||
            !get_frame(p, NULL, &frame, e))
            return false;
    }
    *out = sp_span(p->out, 0);
    if (!kctx_unwrap(sec_kctx(p->sec), p->l->crypto, frame, p->out, &n, &how, &good, e))
        return false;
    out->n = n;
    return true;
}

/* FINISHED covers the messages that were carried; without any there is none. */
static void tell_proof(struct pair *p, const struct sec_facts *f, cJSON *out)
{
    const struct kctx *k = sec_kctx(p->sec);
    bool proxied = f->realm.n > 0 || f->discovered;
    const char *how = k->role == KCTX_INITIATOR ? "sent" : f->no_finished ? "lacking" : "checked";

    const char *proof = sec_preauth(p->sec) ? sec_preauth(p->sec) : p->l->proof;

    if (k->role == KCTX_INITIATOR)
        cJSON_AddStringToObject(out, "proof", proof ? proof : "ticket");
    cJSON_AddStringToObject(out, "finished", proxied ? how : "none");
    cJSON_AddBoolToObject(out, "mutual", (k->flags & KCTX_MUTUAL) != 0);
}

static cJSON *tell(struct pair *p)
{
    cJSON *out = cJSON_CreateObject();
    const struct kctx *k = sec_kctx(p->sec);
    struct sec_facts f;

    sec_tell(p->sec, &f);
    cJSON_AddStringToObject(out, "client", k->client);
    cJSON_AddStringToObject(out, "service", k->service);
    cJSON_AddStringToObject(out, "mech", token_mech_name(sec_mech(p->sec)));
    cJSON_AddBoolToObject(out, "spnego", p->spnego);
    cJSON_AddItemToObject(out, "flags", flags_json(k->flags));
    cJSON_AddNumberToObject(out, "tokens", f.from_client);
    cJSON_AddNumberToObject(out, "bytes", (double)f.bytes);
    cJSON_AddBoolToObject(out, "discovered", f.discovered);
    cJSON_AddBoolToObject(out, "old_mit", f.old_mit);
    tell_proof(p, &f, out);
    cJSON_AddItemToObject(out, "steps", p->l->steps);
    p->l->steps = cJSON_CreateArray();
    return out;
}

/* ---- serve ---- */

struct keys {
    struct kctx_keys port;
    struct krb_keytab kt;
};

static bool find_key(struct kctx_keys *port, const struct krb_name *service, struct sp_span realm,
                     int32_t etype, uint32_t kvno, struct sp_key *out, struct sp_err *e)
{
    const struct keys *k = (const struct keys *)port;
    const struct krb_keytab_entry *best = NULL;
    bool named = false;

    for (uint32_t i = 0; i < k->kt.count; i++) {
        const struct krb_keytab_entry *one = &k->kt.v[i];

        if (!krb_same_name(&one->name, service) || (realm.n > 0 && !sp_same(one->realm, realm)))
            continue;
        named = true;
        if (one->etype == etype && (kvno == 0 || one->kvno == kvno) && (!best || one->kvno > best->kvno))
            best = one;
    }
    if (!best || best->key.n > sizeof out->b)
        return sp_fail(e, SP_ENOTFOUND, named ? KRB_AP_ERR_BADKEYVER : KRB_AP_ERR_NOT_US,
                       "the keytab has no such key (type %d, version %u)", etype, kvno);
    *out = (struct sp_key){.n = (uint8_t)best->key.n, .keep = true, .etype = etype};
    memcpy(out->b, best->key.p, best->key.n);
    return true;
}

/* The checksum at the end of the ciphertext: what libkrb5's file holds, too, for types 17 and 18. */
static bool note_replay(struct kctx_replays *r, struct sp_span cipher, int64_t now_s, int32_t skew_s,
                        struct sp_err *e)
{
    size_t n = cipher.n < 12 ? cipher.n : 12;

    (void)r;
    return host_note_replay(NULL, sp_span(cipher.p + cipher.n - n, n), now_s, skew_s, e);
}

struct server {
    struct login *l;
    struct keys keys;
    struct kctx_replays replays;
    struct sec_acceptor how;
};

static bool read_keys(struct server *s, struct sp_err *e)
{
    const char *path = cli_local(s->l->c, "keytab");
    struct sp_err why = {0};
    struct sp_span bytes;
    size_t n = 0;

    if (!path)
        return sp_fail(e, SP_EINPUT, 0, "a service needs its keys; name them with --keytab FILE");
    uint8_t *file = cli_read_bytes(path, 1u << 20, &n, e);
    if (!file)
        return false;
    bytes = sp_dup(&s->l->mem, sp_span(file, n), e);
    sp_wipe(file, n);
    free(file);
    s->keys.port.find = find_key;
    if (!bytes.p || !krb_get_keytab(bytes, &s->l->mem, &s->keys.kt, &why))
        return bytes.p ? cli_no_keytab(path, &why, e) : false;
    return s->keys.kt.count > 0 ||
           sp_fail(e, SP_EINPUT, 0, "the keytab is empty; see 'sallyport service keytab'");
}

/* The courier knows the realm and what its administrator wants; without one the keytab names a realm, and
 * nothing is carried. */
static bool prepare_server(struct server *s, struct pair *p, struct sp_err *e)
{
    struct host_realm r = {.finished_required = true};
    struct sp_err none = {0};

    if (!read_keys(s, e) || !take_bindings(p, e))
        return false;
    if (!host_hello(&s->l->route.courier, HOST_ASK_MS_MAX, &s->l->mem, &r, &none))
        r.name = s->keys.kt.v[0].realm;
    s->replays.note = note_replay;
    s->how = (struct sec_acceptor){
        .realm = {r.name, r.aliases},
        .realms = r.others,
        .keys = &s->keys.port,
        .replays = &s->replays,
        .bindings = p->bound ? p->bindings : NULL,
        .require_bindings = p->bound,
        .skew_s = CLIENT_SKEW_S,
        .finished = r.finished_required ? SEC_FINISHED_REQUIRED : SEC_FINISHED_OPTIONAL,
        .old_mit = r.old_mit || cli_flag(s->l->c, "old-mit") ? SEC_OLD_MIT_ACCEPT : SEC_OLD_MIT_OFF,
    };
    return true;
}

static void print_facts(struct cli *c, cJSON *facts)
{
    cJSON_DeleteItemFromObjectCaseSensitive(facts,
                                            "steps"); /* of the other side's choosing, and on its clock */
    if (c->json)
        cli_print_json(facts);
    else
        cli_print_object(facts, 0);
    (void)fflush(stdout);
    cJSON_Delete(facts);
}

/* For the daemon's records. */
static void note(struct server *s, const struct kctx *k, const struct sp_err *why)
{
    struct host_note n = {
        .why = why, .service = k ? sp_str(k->service) : SP_LIT("gss"), .client = sp_str(k ? k->client : "")};

    n.no_finished = k && k->no_finished;
    host_note(&s->l->route.courier, &n, &s->l->mem);
}

static bool serve_one(struct server *s, struct pair *p, struct sp_err *e)
{
    struct sp_span message;

    if (!sec_new_acceptor(&p->sec, s->l->crypto, &s->how, &s->l->engine, e))
        return false;
    if (!establish(p, false, e)) {
        note(s, NULL, e);
        return false;
    }
    note(s, sec_kctx(p->sec), NULL);
    print_facts(s->l->c, tell(p));
    for (size_t used = s->l->mem.used; get_message(p, &message, e); s->l->mem.used = used) {
        struct sp_span copy = sp_dup(&s->l->mem, message, e);

        if (!copy.p || !put_message(p, copy, e))
            return false;
    }
    return false; /* the client went */
}

static void serve_connection(struct server *s, struct pair *p)
{
    struct sp_err e = {0};

    host_send_at_once(p->fd);
    p->sec = NULL;
    (void)serve_one(s, p, &e);
    if (p->sec && !sec_is_established(p->sec))
        cli_print_error(s->l->c, &e);
    (void)fflush(stdout);
    sec_wipe(p->sec);
    login_end(s->l);
}

/* Each in a process of its own, so that one that is slow stops nobody. */
static void serve_apart(struct server *s, struct pair *p, int *children)
{
    pid_t child;

    while (*children > 0 && waitpid(-1, NULL, *children < CONNECTIONS_MAX ? WNOHANG : 0) > 0)
        --*children;
    (void)fflush(NULL);
    child = fork();
    if (child == 0) {
        serve_connection(s, p);
        _exit(0);
    }
    *children += child > 0;
    close(p->fd);
}

static int listen_at(const char *text, char where[NET_ADDRESS_TEXT], struct sp_err *e)
{
    struct net_address a;
    int on = 1, fd;

    if (!net_parse_address(sp_str(text), &a, e))
        return -1;
    fd = socket(a.sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&a.sa, a.n) != 0 || listen(fd, 64) != 0) {
        (void)sp_fail(e, SP_EBACKEND, 0, "%.60s cannot be listened on: %s", text, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    a.n = sizeof a.sa;
    (void)getsockname(fd, (struct sockaddr *)&a.sa, &a.n);
    net_text_address(&a, where);
    return fd;
}

static bool serve(struct server *s, struct pair *p, struct sp_err *e)
{
    const char *at = cli_local(s->l->c, "listen");
    char where[NET_ADDRESS_TEXT];
    int listener, children = 0;

    p->spnego = false;
    if (!prepare_server(s, p, e))
        return false;
    listener = listen_at(at ? at : "127.0.0.1:0", where, e);
    if (listener < 0)
        return false;
    fprintf(stderr, "listening on %s\n", where);
    for (;;) {
        p->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (p->fd >= 0)
            serve_apart(s, p, &children);
        else if (errno != EINTR && errno != ECONNABORTED)
            return sp_fail(e, SP_EBACKEND, 0, "no more connections: %s", strerror(errno));
    }
}

static struct pair *new_pair(struct login *l, struct sp_err *e)
{
    struct pair *p = calloc(1, sizeof *p);

    if (!p)
        (void)sp_fail(e, SP_ENOMEM, 0, "out of memory");
    else
        *p = (struct pair){.l = l, .fd = -1};
    return p;
}

bool cli_run_gss_serve(struct cli *c, cJSON **out, struct sp_err *e)
{
    struct login l;
    struct server s = {.l = &l};
    struct pair *p = NULL;
    bool ok = login_begin(&l, c, e) && (p = new_pair(&l, e)) && serve(&s, p, e);

    free(p);
    login_end(&l);
    *out = NULL;
    return ok;
}

/* ---- connect ---- */

struct caller {
    struct login *l;
    struct sec_initiator how;
    struct krb_ccache cache;
    const char *mech;
};

static const struct krb_credential *find_tgt(const struct krb_ccache *cc, int64_t now_s)
{
    for (uint32_t i = 0; i < cc->count; i++)
        if (krb_is_tgs_name(&cc->v[i].server, cc->realm) && cc->v[i].endtime > now_s)
            return &cc->v[i];
    return NULL;
}

static bool from_cache(struct caller *k, struct sp_err *e)
{
    int64_t now_s = host_env().wall_us / 1000000;
    struct client_wish *w = &k->l->wish;
    struct host_ccache cc;

    if (!host_find_ccache(cli_local(k->l->c, "cache"), &cc, e) ||
        !host_read_ccache(&cc, &k->l->mem, &k->cache, e))
        return false;
    w->client = k->cache.principal;
    w->realm = k->cache.realm;
    w->tgt = find_tgt(&k->cache, now_s);
    k->how.ticket =
        krb_find_credential(&k->cache, &w->service, w->service_realm.n ? w->service_realm : w->realm, now_s);
    return w->tgt || k->how.ticket ||
           sp_fail(e, SP_ENOTFOUND, 0, "%.60s holds no ticket to use; run 'sallyport login'", cc.name);
}

/* The krb5 mechanism fetches nothing itself: its ticket comes straight from a KDC. */
static bool fetch(struct caller *k, struct sp_err *e)
{
    struct krb_credential *v = sp_new(&k->l->mem, struct krb_credential, e);
    struct sp_arena room;
    void *block = sp_alloc(&k->l->mem, CLIENT_ARENA_MIN * 2, e);
    struct client_action act;
    struct client_policy direct;
    struct client_wish wish = k->l->wish;
    struct client *cl = NULL;

    if (!v || !block)
        return false;
    sp_arena_init(&room, block, CLIENT_ARENA_MIN * 2);
    client_policy_direct(&direct);
    wish.goal = CLIENT_SERVICE;
    if (!client_start(&cl, k->l->crypto, &direct, &wish, host_env(), &room, &act, e) ||
        !login_exchange(k->l, cl, &act, e))
        return false;
    *v = *client_service(cl);
    k->how.ticket = v;
    k->l->proof = client_preauth(cl);
    return true;
}

static bool take_mech(struct caller *k, struct pair *p, struct sp_err *e)
{
    const char *m = cli_local(k->l->c, "mech");

    k->mech = m ? m : "spnego";
    p->spnego = k->how.spnego = strcmp(k->mech, "spnego") == 0;
    k->how.mech_count = 1;
    k->how.mechs[0] = TOKEN_IAKERB;
    if (strcmp(k->mech, "krb5") == 0)
        k->how.mechs[0] = TOKEN_KRB5;
    else if (!p->spnego && strcmp(k->mech, "iakerb") != 0)
        return sp_fail(e, SP_EINPUT, 0, "unknown mechanism '%.20s'; krb5, iakerb and spnego are", k->mech);
    return true;
}

/* With a ticket in hand SPNEGO offers krb5 before IAKERB. */
static bool take_credential(struct caller *k, struct sp_err *e)
{
    const char *user = cli_local(k->l->c, "user");

    if (user ? !login_take_user(k->l, user, e) || !login_take_secret(k->l, e) : !from_cache(k, e))
        return false;
    if (k->how.mechs[0] == TOKEN_KRB5 && !k->how.ticket && !fetch(k, e))
        return false;
    if (k->how.spnego && k->how.ticket) {
        k->how.mechs[0] = TOKEN_KRB5;
        k->how.mechs[1] = TOKEN_IAKERB;
        k->how.mech_count = 2;
    }
    return true;
}

static struct sp_span host_part(const struct krb_name *service)
{
    return service->parts.count > 1 ? service->parts.v[1] : sp_span(NULL, 0);
}

static bool prepare_caller(struct caller *k, struct pair *p, struct sp_err *e)
{
    const char *service = cli_local(k->l->c, "service"), *wanted = cli_local(k->l->c, "flags");
    struct cli *c = k->l->c;

    if (!service)
        return sp_fail(e, SP_EINPUT, 0, "which service? Name it with --service TYPE/HOST");
    if (!take_flags(wanted ? wanted : "mutual,replay,sequence,conf,integ", &k->how.flags, e) ||
        !take_mech(k, p, e) || !login_take_service(k->l, service, e) || !take_bindings(p, e) ||
        !take_credential(k, e))
        return false;
    k->how.wish = k->l->wish;
    k->how.target_host = host_part(&k->l->wish.service);
    k->how.bindings = p->bound ? p->bindings : NULL;
    k->how.discover = k->l->wish.realm.n == 0;
    k->how.service_by_as = cli_flag(c, "by-as");
    return login_policy(k->l, k->how.target_host, &k->how.policy, &k->how.old_mit, e) &&
           sec_new_initiator(&p->sec, k->l->crypto, &k->how, &k->l->engine, e);
}

static bool echo(struct pair *p, cJSON *out, struct sp_err *e)
{
    const char *message = cli_local(p->l->c, "message");
    struct sp_span sent = sp_str(message ? message : "hello"), came = {NULL, 0};
    char text[256];
    struct sp_text t = sp_text(text, sizeof text);

    if (!put_message(p, sent, e) || !login_blame_peer(get_message(p, &came, e), e))
        return false;
    sp_text_safe(&t, came);
    cJSON_AddStringToObject(out, "echo", text);
    return sp_same(sent, came) || sp_fail(e, SP_EREFUSED, 0, "the echo differs from what was sent");
}

static bool call(struct caller *k, struct pair *p, cJSON **out, struct sp_err *e)
{
    char host[256], port[8];

    if (!login_split(cli_local(k->l->c, "operand"), "", host, port, e) || !prepare_caller(k, p, e))
        return false;
    p->fd = host_dial(host, port, e);
    if (p->fd < 0 || !establish(p, true, e))
        return false;
    *out = tell(p);
    return echo(p, *out, e);
}

bool cli_run_gss_connect(struct cli *c, cJSON **out, struct sp_err *e)
{
    struct login l;
    struct caller k = {.l = &l};
    struct pair *p = NULL;
    bool ok = login_begin(&l, c, e) && (p = new_pair(&l, e)) && call(&k, p, out, e);

    if (p) {
        sec_wipe(p->sec);
        if (p->fd >= 0)
            close(p->fd);
    }
    free(p);
    login_end(&l);
    return ok;
}

void cli_print_gss(struct cli *c, const cJSON *result)
{
    const cJSON *step;
    int number = 0;

    (void)c;
    cJSON_ArrayForEach(step, cJSON_GetObjectItemCaseSensitive(result, "steps"))
        login_print_step(step, ++number);
    cJSON *facts = cJSON_Duplicate(result, true);
    cJSON_DeleteItemFromObjectCaseSensitive(facts, "steps");
    cli_print_object(facts, 0);
    cJSON_Delete(facts);
}
