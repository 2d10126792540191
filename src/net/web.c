/* SPDX-License-Identifier: MIT */
/* Doors, connections and their limits. What is read and written: web_serve.c. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/secret.h"
#include "net/web_own.h"

#define ACCEPTS 64 /* of one turn */

/* ---- deadlines ---- */

static int64_t coarse_us(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void web_leave(struct web_link *l)
{
    if (!l->next)
        return;
    l->prev->next = l->next;
    l->next->prev = l->prev;
    l->prev = l->next = NULL;
}

static struct web_link *link_of(struct net_web_connection *c, enum web_queue q)
{
    return q == WEB_ALL ? &c->all : &c->phase;
}

void web_enter(struct net_web_connection *c, enum web_queue q)
{
    struct web_link *l = link_of(c, q), *head = &c->web->queue[q];

    web_leave(l);
    l->at_us = coarse_us() + c->web->after_us[q];
    l->prev = head->prev;
    l->next = head;
    l->prev->next = l;
    head->prev = l;
}

static struct net_web_connection *first_of(struct net_web *w, enum web_queue q)
{
    struct web_link *l = w->queue[q].next;

    if (l == &w->queue[q])
        return NULL;
    if (q == WEB_ALL)
        return (struct net_web_connection *)(void *)((char *)l - offsetof(struct net_web_connection, all));
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): what web_close freed is in no queue */
    return (struct net_web_connection *)(void *)((char *)l - offsetof(struct net_web_connection, phase));
}

static void run_out(struct net_web_connection *c, enum web_queue q)
{
    switch (q) {
    case WEB_HANDSHAKE:
        web_report(c->web, &c->peer, 0, "a TLS handshake that took too long");
        web_close(c);
        break;
    case WEB_READ:
        web_refuse(c, 408, "a request that took too long");
        break;
    case WEB_ALL:
        if (c->state == WEB_WRITES) {
            web_report(c->web, &c->peer, 0, "a reply that was not read in time");
            web_close(c);
        } else
            web_refuse(c, c->state == WEB_ASKS ? 503 : 408,
                       c->state == WEB_ASKS ? "no answer in time" : "a request that took too long");
        break;
    case WEB_IDLE:
    case WEB_LINGER:
    case WEB_QUEUES:
        web_close(c);
        break;
    }
}

/* ---- buffers: a connection that waits has none ---- */

static bool take_spare(struct net_web_connection *c)
{
    struct net_web *w = c->web;

    if (c->in || !w->spare)
        return false;
    c->in = (uint8_t *)w->spare;
    w->spare = w->spare->next;
    w->spare_count--;
    return true;
}

bool web_make_room(struct net_web_connection *c)
{
    struct net_web *w = c->web;
    size_t max = c->in_max ? c->in_max * 2 : WEB_BUFFER;
    uint8_t *p;

    if (c->in_n < c->in_max)
        return true;
    if (w->buffered + (max - c->in_max) > w->limits.buffered_max)
        return false;
    if (!take_spare(c)) {
        p = realloc(c->in, max);
        if (!p)
            return false;
        c->in = p;
    }
    w->buffered += max - c->in_max;
    c->in_max = max;
    return true;
}

void web_give_back(struct net_web_connection *c)
{
    struct net_web *w = c->web;
    struct web_buffer *b = (struct web_buffer *)(void *)c->in;

    if (b && c->in_max == WEB_BUFFER && w->spare_count < WEB_BUFFERS_KEPT) {
        b->next = w->spare;
        w->spare = b;
        w->spare_count++;
    } else
        free(b);
    w->buffered -= c->in_max;
    c->in = NULL;
    c->in_n = c->in_max = 0;
}

/* ---- sources ---- */

/* Of IPv6 the /64: who has one address there has them all. */
static void key_of(const struct net_address *a, uint8_t key[17])
{
    struct sp_span ip = net_address_bytes(a);

    memset(key, 0, 17);
    key[0] = (uint8_t)ip.n;
    if (ip.n)
        memcpy(key + 1, ip.p, ip.n == 16 && !net_is_loopback(a) ? 8 : ip.n);
}

static struct web_source **chain_of(struct net_web *w, const uint8_t key[17])
{
    uint32_t h = w->seed;

    for (int i = 0; i < 17; i++)
        h = (h ^ key[i]) * 16777619u;
    return &w->source[(h >> 16 ^ h) % WEB_SOURCES];
}

static struct web_source *find_source(struct net_web *w, const struct net_address *a)
{
    struct web_source **chain, *s;
    uint8_t key[17];

    key_of(a, key);
    chain = chain_of(w, key);
    for (s = *chain; s; s = s->next)
        if (memcmp(s->ip, key, sizeof key) == 0)
            return s;
    s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    memcpy(s->ip, key, sizeof key);
    s->next = *chain;
    *chain = s;
    return s;
}

static void drop_source(struct net_web *w, struct web_source *s)
{
    struct web_source **at;

    if (!s || --s->count > 0)
        return;
    for (at = chain_of(w, s->ip); *at != s; at = &(*at)->next)
        ;
    *at = s->next;
    free(s);
}

/* ---- connections ---- */

void web_report(struct net_web *w, const struct net_address *peer, int status, const char *why)
{
    if (w->handler.refused)
        w->handler.refused(w->handler.owner, peer, status, why);
}

void web_say_gone(struct net_web_connection *c)
{
    if (c->told)
        c->web->handler.gone(c->web->handler.owner, c, c->users);
    c->told = false;
    c->users = NULL;
}

void web_close(struct net_web_connection *c)
{
    struct net_web *w = c->web;

    if (c->gone)
        *c->gone = true;
    web_say_gone(c);
    web_leave(&c->phase);
    web_leave(&c->all);
    if (c->what)
        (void)event_del(&c->io);
    net_stream_close(&c->stream);
    web_tls_drop(c->tls);
    web_give_back(c);
    drop_source(w, c->source);
    free(c->out);
    free(c->subject);
    free(c);
    if (--w->count == 0 && !w->paused)
        (void)event_del(&w->tick);
}

static void on_event(evutil_socket_t fd, short what, void *owner)
{
    (void)fd;
    (void)what;
    web_serve(owner);
}

void web_watch(struct net_web_connection *c, short what)
{
    if (c->what == what)
        return;
    if (c->what)
        (void)event_del(&c->io);
    c->what = what;
    event_assign(&c->io, net_base_events(c->web->base), c->stream.fd, (short)(what | EV_PERSIST), on_event,
                 c);
    if (what)
        (void)event_add(&c->io, NULL); /* no memory: its time runs out */
}

static void start_tick(struct net_web *w)
{
    struct timeval tv = {0, WEB_TICK_US};

    if (!event_pending(&w->tick, EV_TIMEOUT, NULL))
        (void)event_add(&w->tick, &tv);
}

/* ---- doors ---- */

static bool same_host(const struct net_address *a, const struct net_address *b)
{
    return sp_same(net_address_bytes(a), net_address_bytes(b));
}

static bool is_trusted(const struct web_door *d, const struct net_address *peer)
{
    for (uint32_t i = 0; i < d->trusted_count; i++)
        if (same_host(&d->trusted[i], peer))
            return true;
    return false;
}

/* Why this one cannot come in; NULL: it can. Whoever waited longest makes room. */
static const char *full(struct net_web *w, const struct web_source *s)
{
    if (s && s->count > w->limits.per_source)
        return "too many connections from one source";
    if (w->count < w->limits.connections)
        return NULL;
    struct net_web_connection *idle = first_of(w, WEB_IDLE);
    if (!idle)
        return "too many connections";
    web_close(idle);
    return NULL;
}

static bool set_up(struct web_door *d, struct net_web_connection *c)
{
    if (!d->tls)
        return true;
    c->stream.ssl = web_tls_begin(d->tls, c->stream.fd);
    if (!c->stream.ssl)
        return false;
    c->tls = d->tls;
    web_tls_use(c->tls);
    return true;
}

static void turn_away(struct net_web *w, int fd, const struct net_address *peer, struct web_source *s,
                      const char *why)
{
    (void)close(fd);
    drop_source(w, s);
    web_report(w, peer, 0, why);
}

static void take_in(struct web_door *d, int fd, const struct net_address *peer)
{
    struct net_web *w = d->web;
    bool trusted = is_trusted(d, peer);
    struct web_source *s = trusted ? NULL : find_source(w, peer);
    const char *why = NULL;
    struct net_web_connection *c;
    int one = 1;

    if (s) {
        s->count++;
        why = full(w, s);
    } else
        why = trusted ? full(w, NULL) : "no memory";
    c = why ? NULL : calloc(1, sizeof *c);
    if (!c) {
        turn_away(w, fd, peer, s, why ? why : "no memory");
        return;
    }
    c->web = w;
    c->stream.fd = fd;
    c->source = s;
    c->trusted = trusted;
    c->peer = *peer;
    w->count++;
    start_tick(w);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!set_up(d, c)) {
        web_report(w, peer, 0, "no memory");
        web_close(c);
        return;
    }
    c->state = d->tls ? WEB_SHAKES : WEB_WAITS;
    web_enter(c, d->tls ? WEB_HANDSHAKE : WEB_IDLE);
    web_watch(c, EV_READ);
}

/* No descriptors: the doors rest until the next tick, or accept would be called in a circle. */
static void rest(struct net_web *w)
{
    w->paused = true;
    for (struct web_door *d = w->doors; d; d = d->next)
        (void)event_del(&d->io);
    start_tick(w);
}

static void on_accept(evutil_socket_t fd, short what, void *owner)
{
    struct web_door *d = owner;

    (void)what;
    for (int i = 0; i < ACCEPTS; i++) {
        struct net_address peer = {.n = sizeof peer.sa};
        int got = accept4(fd, (struct sockaddr *)&peer.sa, &peer.n, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (got >= 0)
            take_in(d, got, &peer);
        else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            rest(d->web);
            return;
        } else if (errno != ECONNABORTED && errno != EINTR)
            return;
    }
}

static void on_tick(evutil_socket_t fd, short what, void *owner)
{
    struct net_web *w = owner;
    struct net_web_connection *c;
    int64_t now = coarse_us();

    (void)fd;
    (void)what;
    for (int q = 0; q < WEB_QUEUES; q++)
        while ((c = first_of(w, (enum web_queue)q)) != NULL && link_of(c, (enum web_queue)q)->at_us <= now)
            run_out(c, (enum web_queue)q);
    if (w->paused) {
        w->paused = false;
        for (struct web_door *d = w->doors; d && !w->stopping; d = d->next)
            (void)event_add(&d->io, NULL);
        if (w->count == 0)
            (void)event_del(&w->tick);
    }
}

bool net_web_add(struct net_web *w, int fd, struct net_web_tls *t, const struct net_address *trusted_proxies,
                 uint32_t trusted_count, struct sp_err *e)
{
    struct web_door *d = calloc(1, sizeof *d + trusted_count * sizeof *trusted_proxies);

    if (!d)
        return sp_fail(e, SP_ENOMEM, 0, "no memory");
    *d = (struct web_door){.web = w, .fd = fd, .tls = t, .trusted_count = trusted_count};
    if (trusted_count)
        memcpy(d->trusted, trusted_proxies, trusted_count * sizeof *trusted_proxies);
    event_assign(&d->io, net_base_events(w->base), fd, EV_READ | EV_PERSIST, on_accept, d);
    if (event_add(&d->io, NULL) != 0) {
        free(d);
        return sp_fail(e, SP_EBACKEND, errno, "the door cannot be watched");
    }
    if (t)
        t->tickets = &w->tickets;
    web_tls_use(t);
    d->next = w->doors;
    w->doors = d;
    return true;
}

void net_web_use_tls(struct net_web *w, struct net_web_tls *t)
{
    t->tickets = &w->tickets;
    for (struct web_door *d = w->doors; d; d = d->next) {
        if (!d->tls)
            continue;
        web_tls_use(t);
        web_tls_drop(d->tls);
        d->tls = t;
    }
}

void net_web_remove(struct net_web *w, int fd)
{
    for (struct web_door **at = &w->doors; *at; at = &(*at)->next) {
        struct web_door *d = *at;

        if (d->fd != fd)
            continue;
        *at = d->next;
        (void)event_del(&d->io);
        web_tls_drop(d->tls);
        free(d);
        return;
    }
}

/* ---- all of it ---- */

static void set_defaults(struct net_web_limits *l)
{
    static const struct net_web_limits usual = {
        .connections = 4096,
        .per_source = 64,
        .requests_kept = 1000,
        .head_max = 8 * 1024,
        .body_max = 128 * 1024,
        .handshake_s = 5,
        .head_s = 10,
        .idle_s = 30,
        .all_s = 15,
        .buffered_max = 32 << 20,
    };

    l->connections = l->connections ? l->connections : usual.connections;
    l->per_source = l->per_source ? l->per_source : usual.per_source;
    l->requests_kept = l->requests_kept ? l->requests_kept : usual.requests_kept;
    l->head_max = l->head_max ? l->head_max : usual.head_max;
    l->body_max = l->body_max ? l->body_max : usual.body_max;
    l->handshake_s = l->handshake_s ? l->handshake_s : usual.handshake_s;
    l->head_s = l->head_s ? l->head_s : usual.head_s;
    l->idle_s = l->idle_s ? l->idle_s : usual.idle_s;
    l->all_s = l->all_s ? l->all_s : usual.all_s;
    l->buffered_max = l->buffered_max ? l->buffered_max : usual.buffered_max;
}

struct net_web *net_web_new(struct net_base *b, const struct net_web_limits *l,
                            const struct net_web_handler *h, struct sp_err *e)
{
    struct net_web *w = calloc(1, sizeof *w);

    /* Whoever wants less of OpenSSL (src/crypto does) and comes first leaves it without the digests that
     * certificates name. */
    (void)OPENSSL_init_ssl(0, NULL);
    if (!w || RAND_bytes((unsigned char *)&w->seed, sizeof w->seed) != 1) {
        free(w);
        (void)sp_fail(e, SP_ENOMEM, 0, "no memory");
        return NULL;
    }
    w->base = b;
    w->handler = *h;
    if (l)
        w->limits = *l;
    set_defaults(&w->limits);
    w->request_limits =
        (struct net_http_request_limits){w->limits.head_max, w->limits.body_max, w->limits.gets};
    w->after_us[WEB_HANDSHAKE] = (int64_t)w->limits.handshake_s * 1000000;
    w->after_us[WEB_IDLE] = (int64_t)w->limits.idle_s * 1000000;
    w->after_us[WEB_READ] = (int64_t)w->limits.head_s * 1000000;
    w->after_us[WEB_ALL] = (int64_t)w->limits.all_s * 1000000;
    w->after_us[WEB_LINGER] = (int64_t)WEB_LINGER_S * 1000000;
    for (int q = 0; q < WEB_QUEUES; q++)
        w->queue[q].prev = w->queue[q].next = &w->queue[q];
    event_assign(&w->tick, net_base_events(b), -1, EV_PERSIST, on_tick, w);
    return w;
}

void net_web_stop(struct net_web *w)
{
    struct net_web_connection *c;

    w->stopping = true;
    for (struct web_door *d = w->doors; d; d = d->next)
        (void)event_del(&d->io);
    while ((c = first_of(w, WEB_IDLE)) != NULL)
        web_close(c);
}

bool net_web_is_idle(const struct net_web *w)
{
    return w->count == 0;
}

/* A connection that is asked about is in the queue of all alone. */
static void close_all(struct net_web *w)
{
    struct net_web_connection *c;

    for (int q = 0; q < WEB_QUEUES; q++)
        while ((c = first_of(w, (enum web_queue)q)) != NULL)
            web_close(c);
}

void net_web_free(struct net_web *w)
{
    if (!w)
        return;
    close_all(w);
    while (w->doors) {
        if (w->doors->tls)
            w->doors->tls->tickets = NULL;
        net_web_remove(w, w->doors->fd);
    }
    (void)event_del(&w->tick);
    while (w->spare) {
        struct web_buffer *b = w->spare;
        w->spare = b->next;
        free(b);
    }
    free(w->scratch);
    sp_wipe(&w->tickets, sizeof w->tickets);
    free(w);
}
