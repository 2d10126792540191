/* SPDX-License-Identifier: MIT */
/* Connections of acceptors. Everybody on this host may connect; what one user can take is bounded:
 * connections, requests under way, bytes. Too many connections cost the one that was heard longest ago and
 * waits for nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/courier.h"
#include "net/listen.h"

static const struct net_frame_limits limits = {6, COURIER_FRAME_MAX}; /* version, type, id */

/* ---- users ---- */

static struct courier_peer *known_peer(const struct courier *c, uint32_t uid)
{
    struct courier_peer *p = c->peers;

    while (p && p->uid != uid)
        p = p->next;
    return p;
}

static struct courier_peer *find_peer(struct courier *c, uint32_t uid)
{
    struct courier_peer *p = known_peer(c, uid);

    if (!p && (p = calloc(1, sizeof *p))) {
        *p = (struct courier_peer){.next = c->peers, .uid = uid};
        c->peers = p;
    }
    return p;
}

void courier_drop_peer(struct courier *c, struct courier_peer *p)
{
    struct courier_peer **at = &c->peers;

    if (p->connections > 0 || p->asks > 0)
        return;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    free(p);
}

/* ---- order ---- */

static void unlink_stream(struct courier *c, struct courier_stream *s)
{
    *(s->older ? &s->older->newer : &c->oldest) = s->newer;
    *(s->newer ? &s->newer->older : &c->newest) = s->older;
    s->older = s->newer = NULL;
}

static void append_stream(struct courier *c, struct courier_stream *s)
{
    s->older = c->newest;
    *(c->newest ? &c->newest->newer : &c->oldest) = s;
    c->newest = s;
}

static void note_heard(struct courier_stream *s)
{
    s->heard_us = s->moved_us = admin_env().mono_us;
    unlink_stream(s->courier, s);
    append_stream(s->courier, s);
}

/* Nobody waits any more for what it asked. */
static void forget(struct courier_stream *s)
{
    struct courier *c = s->courier;

    for (uint32_t i = 0; i < COURIER_ASKS_MAX && s->asks; i++) {
        struct courier_request *r = c->requests[i];
        if (!r || r->owner != s)
            continue;
        s->asks--;
        s->peer->asks--;
        courier_leave(r);
    }
}

void courier_close(struct courier_stream *s)
{
    struct courier *c = s->courier;

    forget(s);
    net_loop_remove(&c->loop, &s->watch);
    (void)close(s->watch.fd);
    unlink_stream(c, s);
    c->stream_count--;
    c->stashed -= s->in.max;
    net_stash_free(&s->in);
    net_stash_free(&s->out);
    s->peer->connections--;
    courier_drop_peer(c, s->peer);
    free(s);
}

/* The one that was heard longest ago, of that user (NULL: of all), if it waits for nothing. */
static bool evict(struct courier *c, const struct courier_peer *of)
{
    struct courier_stream *s = c->oldest;

    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): what courier_close freed is off the list */
    while (s && (s->asks > 0 || s->out.n > 0 || (of && s->peer != of)))
        s = s->newer;
    if (s)
        courier_close(s);
    return s != NULL;
}

static bool is_for(const struct courier_stream *s, const struct courier_peer *peer, struct sp_span address)
{
    return s->peer == peer && sp_same(sp_span(s->address, s->address_n), address);
}

/* As in evict, but what goes is only hung up: its end is heard like any other, after this one was served. */
bool courier_name_client(struct courier_stream *s, struct sp_span address)
{
    struct courier_stream *idle = NULL;
    uint32_t count = 0;

    if (address.n == 0 || address.n > sizeof s->address || is_for(s, s->peer, address))
        return true;
    for (struct courier_stream *t = s->courier->oldest; t; t = t->newer)
        if (is_for(t, s->peer, address)) {
            count++;
            if (!idle && t->asks == 0 && t->out.n == 0)
                idle = t;
        }
    if (count >= COURIER_PER_SOURCE) {
        if (!idle)
            return false;
        (void)shutdown(idle->watch.fd, SHUT_RDWR);
        idle->address_n = 0;
    }
    memcpy(s->address, address.p, address.n);
    s->address_n = (uint8_t)address.n;
    return true;
}

/* ---- writing ---- */

static bool may_ask(const struct courier_stream *s)
{
    return s->asks < COURIER_PENDING_MAX && s->out.n == 0;
}

static void want(struct courier_stream *s)
{
    uint32_t events = (s->out.n ? EPOLLOUT : 0u) | (may_ask(s) && !s->ended ? EPOLLIN : 0u);

    net_loop_change(&s->courier->loop, &s->watch, events);
}

/* False: the connection is gone. */
static bool write_out(struct courier_stream *s)
{
    ssize_t n = s->out.n ? send(s->watch.fd, s->out.p, s->out.n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        courier_close(s);
        return false;
    }
    if (n > 0) {
        net_stash_drop(&s->out, (size_t)n);
        s->moved_us = admin_env().mono_us;
    }
    if (s->ended && s->out.n == 0 && s->asks == 0) {
        courier_close(s);
        return false;
    }
    want(s);
    return true;
}

/* False: the connection is gone. */
static bool send_frame(struct courier_stream *s, const struct courier_frame *f)
{
    struct sp_span made = {0};
    struct sp_err e = {0};

    if (s->out.n == 0)
        s->moved_us = admin_env().mono_us;
    if (!courier_make(f, &s->courier->mem, &made, &e) || !net_stash_add(&s->out, made) ||
        s->out.n > COURIER_OUT_MAX) {
        courier_close(s);
        return false;
    }
    return write_out(s);
}

void courier_send(struct courier_stream *s, const struct courier_frame *f)
{
    (void)send_frame(s, f);
}

void courier_refuse(struct courier_stream *s, uint32_t id, int32_t code, const char *text)
{
    const struct courier_frame f = {.type = COURIER_REFUSED, .id = id, .code = code, .text = sp_str(text)};

    (void)send_frame(s, &f);
}

/* ---- reading ---- */

static void say_realm(struct courier_stream *s, uint32_t id)
{
    const struct courier_config *g = &s->courier->config;
    struct courier_frame f = {.type = COURIER_REALM,
                              .id = id,
                              .realm = sp_str(g->realm),
                              .old_mit = g->old_mit,
                              .finished = g->finished};

    for (; f.alias_count < g->alias_count; f.alias_count++)
        f.alias[f.alias_count] = sp_str(g->alias[f.alias_count]);
    for (; f.other_count < g->other_count; f.other_count++)
        f.other[f.other_count] = sp_str(g->other[f.other_count]);
    courier_send(s, &f);
}

/* ---- requests ---- */

/* The connection may be gone afterwards. */
static void done(struct courier_request *r, const struct courier_end *end)
{
    struct courier_stream *s = r->owner;
    struct courier *c = s->courier;
    struct courier_frame f = {.type = COURIER_CARRIED, .id = r->id, .message = end->reply};
    uint32_t before = c->stream_count;

    if (s->asks-- == COURIER_PENDING_MAX)
        s->moved_us = admin_env().mono_us; /* until now it was us who did not listen */
    s->peer->asks--;
    courier_drop_request(r);
    if (!end->answered) {
        f = (struct courier_frame){
            .type = COURIER_REFUSED, .id = f.id, .code = end->code, .text = sp_str(end->text)};
    } else if (end->reply.n > COURIER_FRAME_MAX - 64 || !courier_without_text(c, &f.message)) {
        f = (struct courier_frame){.type = COURIER_REFUSED,
                                   .id = f.id,
                                   .code = KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE,
                                   .text = SP_LIT("the KDC had no answer")};
    }
    courier_send(s, &f);
    sp_arena_reset(&c->mem);
    if (c->stream_count == before)
        courier_resume(s); /* NOLINT(clang-analyzer-unix.Malloc): as many as before, so it is there */
}

static void keep_word(char *to, size_t max, struct sp_span s)
{
    size_t n = s.n < max - 1 ? s.n : max - 1;

    if (n)
        memcpy(to, s.p, n);
    to[n] = 0;
}

/* Acceptors are told which realms they may ask for; those and this machine's own are carried for them. */
static bool may_ask_for(const struct courier *c, struct sp_span realm, struct sp_err *e)
{
    if (krb_is_realm_alias(&c->realm, realm))
        return true;
    for (uint32_t i = 0; i < c->config.other_count; i++)
        if (sp_same(sp_str(c->config.other[i]), realm))
            return true;
    return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_IAKERB_KDC_NOT_FOUND, "no way to the realm \"%.*s\"",
                   (int)(realm.n < 60 ? realm.n : 60), (const char *)realm.p);
}

static bool has_room(const struct courier_stream *s, struct sp_err *e)
{
    return s->peer->asks < COURIER_UID_ASKS_MAX ||
           sp_fail(e, SP_EREFUSED, KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE,
                   "more than %d requests of one user at once", COURIER_UID_ASKS_MAX);
}

static bool may_speak_for(struct courier_stream *s, struct sp_span client, struct sp_err *e)
{
    return !courier_attests(&s->courier->config, s->peer->uid) || courier_name_client(s, client) ||
           sp_fail(e, SP_EREFUSED, KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE,
                   "more than %d contexts of one client at once", COURIER_PER_SOURCE);
}

/* Acceptors know one code for whatever is no request. */
static void tell_refusal(struct courier_stream *s, struct courier_request *r, struct sp_err *e)
{
    uint32_t id = r->id;

    if (e->proto == KRB_ERR_GENERIC)
        e->proto = KRB_AP_ERR_MSG_TYPE;
    courier_refused(r, e);
    courier_drop_request(r); /* first: refusing may end the connection, and what it waits for */
    courier_refuse(s, id, e->proto ? e->proto : KRB_ERR_GENERIC, e->text);
}

static void carry(struct courier_stream *s, const struct courier_frame *f)
{
    struct courier_request *r = courier_new_request(s->courier, LADDER_DOOR_SOCKET);
    const struct courier_question q = {.realm = f->realm, .message = f->message};
    struct sp_err e = {0};

    if (!r) {
        courier_refuse(s, f->id, KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE, "too many requests at once");
        return;
    }
    r->owner = s;
    r->id = f->id;
    r->peer = s->peer;
    r->done = done;
    courier_source(s->courier, s->peer->uid, f->address, &r->source);
    keep_word(r->transport, sizeof r->transport,
              sp_same(f->transport, SP_LIT("relay")) ? f->transport : SP_LIT("in-band"));
    keep_word(r->acceptor, sizeof r->acceptor, f->service);
    if (!may_ask_for(s->courier, f->realm, &e) || !has_room(s, &e) || !may_speak_for(s, f->address, &e) ||
        !courier_put(r, &q, &e)) {
        tell_refusal(s, r, &e);
        return;
    }
    s->asks++;
    s->peer->asks++;
}

/* One record for each context beside those of its requests: whom the acceptor took the client for, or why it
 * did not. It is the acceptor's word. */
static void record_context(struct courier_stream *s, const struct courier_frame *f)
{
    struct kdc_source source;
    struct record_facts facts = {
        .door = "courier", .transport = "in-band", .source = source.text, .acceptor = f->service};
    struct kdc_record k = {.event = "context", .code = f->code, .client = f->client};

    (void)snprintf(k.text, sizeof k.text, "%.*s", (int)(f->text.n < 150 ? f->text.n : 150),
                   (const char *)f->text.p);
    courier_source(s->courier, s->peer->uid, f->address, &source);
    record_write(&s->courier->records, admin_env(), &facts, &k);
}

static void serve_frame(struct courier_stream *s, const struct courier_frame *f)
{
    if (f->type == COURIER_HELLO)
        say_realm(s, f->id);
    else if (f->type == COURIER_NOTE)
        record_context(s, f);
    else if (f->type == COURIER_CARRY)
        carry(s, f);
    else
        courier_refuse(s, f->id, KRB_ERR_GENERIC, "a frame of a type that is not known here");
}

static void note_wrong(const struct courier_stream *s, const char *text)
{
    struct kdc_source source;

    courier_source(s->courier, s->peer->uid, (struct sp_span){0}, &source);
    courier_note(s->courier, &source, "malformed", KRB_ERR_GENERIC, text);
}

/* One whole frame out of what came. A frame that cannot be read has no id to answer to: that ends the
 * connection. False: nothing more to do now. *gone: the connection is. */
static bool serve_one(struct courier_stream *s, bool *gone)
{
    struct courier *c = s->courier;
    struct courier_frame f;
    struct sp_span frame;
    struct sp_err e = {0};
    size_t used;
    uint8_t *p;
    enum net_frame_result got = net_get_frame(sp_span(s->in.p, s->in.n), limits, &frame, &used);

    if (got == NET_FRAME_MORE)
        return false;
    if (got == NET_FRAME_WRONG || !(p = malloc(used))) {
        note_wrong(s, "a length that no frame has");
        courier_close(s);
        *gone = true;
        return false;
    }
    memcpy(p, frame.p, frame.n); /* answering may end the connection and what it holds */
    c->stashed -= s->in.max;
    net_stash_drop(&s->in, used);
    c->stashed += s->in.max;
    note_heard(s);
    if (courier_get(sp_span(p, frame.n), &f, &e)) {
        uint32_t before = c->stream_count;
        serve_frame(s, &f);
        *gone = c->stream_count < before;
    } else {
        note_wrong(s, e.text);
        courier_close(s);
        *gone = true;
    }
    sp_arena_reset(&c->mem);
    free(p);
    return !*gone;
}

void courier_resume(struct courier_stream *s)
{
    bool gone = false;

    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): once s is gone serve_one says no */
    while (!s->courier->stopping && may_ask(s) && serve_one(s, &gone))
        continue;
    if (gone)
        return;
    if (s->ended && s->asks == 0)
        (void)write_out(s);
    else
        want(s);
}

static bool take_bytes(struct courier_stream *s, struct sp_span fresh)
{
    struct courier *c = s->courier;
    size_t had = s->in.max;
    bool ok;

    if (s->in.n == 0)
        s->moved_us = admin_env().mono_us;
    ok = net_stash_add(&s->in, fresh);
    c->stashed = c->stashed - had + s->in.max;
    return ok && c->stashed <= COURIER_HELD_MAX;
}

static void stream_ready(struct net_watch *watch, uint32_t events)
{
    struct courier_stream *s = watch->owner;
    struct courier *c = s->courier;
    ssize_t n;

    if ((events & EPOLLOUT) && !write_out(s))
        return;
    if (events & EPOLLIN) {
        n = recv(s->watch.fd, c->scratch, sizeof c->scratch, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0 || (n > 0 && !take_bytes(s, sp_span(c->scratch, (size_t)n)))) {
            courier_close(s);
            return;
        }
        s->ended = n == 0;
    } else if (events & (EPOLLERR | EPOLLHUP)) {
        courier_close(s);
        return;
    }
    courier_resume(s);
}

/* ---- accepting ---- */

static bool make_room(struct courier *c, uint32_t uid)
{
    const struct courier_peer *p = known_peer(c, uid);

    if (p && p->connections >= COURIER_PER_UID && !evict(c, p))
        return false;
    return c->stream_count < c->config.max_connections || evict(c, NULL);
}

static struct courier_stream *new_stream(struct courier *c, uint32_t uid, int fd)
{
    struct courier_stream *s = calloc(1, sizeof *s);
    struct sp_err e = {0};

    if (!s)
        return NULL;
    *s = (struct courier_stream){.courier = c, .peer = find_peer(c, uid)};
    s->watch = (struct net_watch){.fd = fd, .ready = stream_ready, .owner = s};
    if (s->peer && net_loop_add(&c->loop, &s->watch, EPOLLIN, &e))
        return s;
    if (s->peer)
        courier_drop_peer(c, s->peer);
    free(s);
    return NULL;
}

static void admit(struct courier *c, int fd)
{
    struct courier_stream *s = NULL;
    uint32_t uid;

    if (net_peer_uid(fd, &uid) && make_room(c, uid))
        s = new_stream(c, uid, fd);
    if (!s) {
        (void)close(fd);
        return;
    }
    s->peer->connections++;
    append_stream(c, s);
    c->stream_count++;
    note_heard(s);
}

void courier_accept(struct net_watch *door, uint32_t events)
{
    struct courier_gate *g = door->owner;
    struct courier *c = g->courier;

    (void)events;
    for (int i = 0; i < 16; i++) {
        int fd = accept4(door->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            admit(c, fd);
        else if ((errno != EMFILE && errno != ENFILE) || !evict(c, NULL))
            return;
    }
}

/* ---- time ---- */

static bool is_over(const struct courier_stream *s, int64_t now)
{
    bool stalls = s->out.n > 0 || (s->in.n > 0 && may_ask(s));

    return (stalls && now - s->moved_us >= COURIER_STALL_US) ||
           (s->asks == 0 && now - s->heard_us >= COURIER_IDLE_US);
}

void courier_expire_streams(struct courier *c, int64_t mono_us)
{
    struct courier_stream *s = c->oldest;

    while (s) {
        struct courier_stream *next = s->newer;
        if (is_over(s, mono_us))
            courier_close(s);
        s = next;
    }
}

bool courier_is_flushed(const struct courier *c)
{
    const struct courier_stream *s = c->oldest;

    while (s && s->out.n == 0)
        s = s->newer;
    return !s;
}
