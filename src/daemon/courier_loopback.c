/* SPDX-License-Identifier: MIT */
/* Doors on loopback for programs that know nothing of the courier: they see a KDC. UDP and TCP as RFC 4120
 * 7.2 has them; what nobody answered is said by error 86, at once. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/courier.h"

#define CALLERS_MAX 1024
#define BATCH 16

struct courier_caller { /* a TCP connection */
    struct courier_caller *next;
    struct courier *courier;
    struct net_watch watch;
    struct net_stash in, out;
    struct courier_request *request; /* one at a time */
    struct net_address peer, own;
    int64_t moved_us;
    bool ended; /* sends no more */
};

static const struct net_frame_limits limits = {1, LADDER_MESSAGE_MAX};

/* ---- who asks ---- */

static void find_source(struct courier *c, int type, const struct net_address *peer,
                        const struct net_address *own, struct kdc_source *out)
{
    const struct net_flow flow = {type, peer, own};
    uint32_t uid;

    source_of_address(peer, out);
    if (net_owner_find(&c->owner, &flow, &uid)) {
        source_of_uid(uid, out);
        out->console = false; /* that is a UNIX socket's alone */
    }
}

/* ---- what is answered ---- */

/* A final word: after error 29, which would say it best, MIT's library waits 22 s for its other KDCs. */
static int32_t outward_code(int32_t code)
{
    if (code == KRB_AP_ERR_IAKERB_KDC_NOT_FOUND)
        return KDC_ERR_WRONG_REALM;
    if (code == KDC_ERR_SVC_UNAVAILABLE)
        return KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE;
    return code ? code : KRB_ERR_GENERIC;
}

static struct sp_span answer_of(struct courier_request *r, const struct courier_end *end)
{
    return end->answered ? end->reply : courier_make_error(r->courier, r, outward_code(end->code), end->text);
}

static void refuse(struct courier_request *r, const struct sp_err *e)
{
    const struct courier_end end = {.code = e->proto, .text = e->text};

    courier_refused(r, e);
    r->done(r, &end);
}

/* ---- UDP ---- */

static void send_datagram(struct courier_request *r, const struct courier_end *end)
{
    struct courier *c = r->courier;
    const struct courier_gate *g = r->owner;
    struct sp_span reply = answer_of(r, end);

    if (reply.n > c->config.udp_reply_max) /* decision 17: come back by TCP */
        reply = courier_make_error(c, r, KRB_ERR_RESPONSE_TOO_BIG, NULL);
    if (g->open && reply.n)
        (void)sendto(g->watch.fd, reply.p, reply.n, MSG_DONTWAIT | MSG_NOSIGNAL,
                     (const struct sockaddr *)&r->from.sa, r->from.n);
    courier_drop_request(r);
}

static void take_datagram(struct courier_gate *g, const struct net_address *from, struct sp_span message)
{
    struct courier_request *r = courier_new_request(g->courier, LADDER_DOOR_LOOPBACK_UDP);
    const struct courier_question q = {.message = message};
    struct sp_err e = {0};

    if (!r)
        return; /* it comes again */
    r->owner = g;
    r->from = *from;
    r->done = send_datagram;
    find_source(g->courier, SOCK_DGRAM, from, &g->bound, &r->source);
    if (!courier_put(r, &q, &e))
        refuse(r, &e);
    sp_arena_reset(&g->courier->mem);
}

void courier_loopback_udp(struct net_watch *door, uint32_t events)
{
    struct courier_gate *g = door->owner;
    struct courier *c = g->courier;

    (void)events;
    for (int i = 0; i < BATCH; i++) {
        struct net_address from = {.n = sizeof from.sa};
        ssize_t n = recvfrom(door->fd, c->scratch, sizeof c->scratch, MSG_DONTWAIT,
                             (struct sockaddr *)&from.sa, &from.n);
        if (n < 0)
            return;
        if (n > 0 && net_is_loopback(&from))
            take_datagram(g, &from, sp_span(c->scratch, (size_t)n));
    }
}

/* ---- TCP ---- */

static void close_caller(struct courier_caller *t)
{
    struct courier *c = t->courier;
    struct courier_caller **at = &c->callers;

    if (t->request)
        courier_leave(t->request);
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    c->caller_count--;
    c->stashed -= t->in.max;
    net_loop_remove(&c->loop, &t->watch);
    (void)close(t->watch.fd);
    net_stash_free(&t->in);
    net_stash_free(&t->out);
    free(t);
}

/* False: the connection is gone. */
static bool write_out(struct courier_caller *t)
{
    ssize_t n = t->out.n ? send(t->watch.fd, t->out.p, t->out.n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        close_caller(t);
        return false;
    }
    if (n > 0) {
        net_stash_drop(&t->out, (size_t)n);
        t->moved_us = admin_mono_us();
    }
    if (t->ended && !t->out.n && !t->request) {
        close_caller(t);
        return false;
    }
    net_loop_change(&t->courier->loop, &t->watch,
                    (t->out.n ? EPOLLOUT : 0u) | (t->request || t->out.n || t->ended ? 0u : EPOLLIN));
    return true;
}

static bool put_frame(struct courier_caller *t, struct sp_span message)
{
    uint8_t head[4];

    net_put_frame_length(head, message.n);
    if (message.n && net_stash_add(&t->out, sp_span(head, 4)) && net_stash_add(&t->out, message))
        return write_out(t);
    close_caller(t);
    return false;
}

static void serve_caller(struct courier_caller *t);

static void send_frame(struct courier_request *r, const struct courier_end *end)
{
    struct courier_caller *t = r->owner;
    struct courier *c = r->courier;
    struct sp_span reply = answer_of(r, end);

    t->request = NULL;
    t->moved_us = admin_mono_us();
    courier_drop_request(r);
    if (put_frame(t, reply))
        serve_caller(t);
    sp_arena_reset(&c->mem);
}

static bool ask(struct courier_caller *t, struct sp_span message)
{
    struct courier_request *r = courier_new_request(t->courier, LADDER_DOOR_LOOPBACK_TCP);
    const struct courier_question q = {.message = message};
    struct sp_err e = {0};
    struct courier_end end;

    if (!r) {
        close_caller(t);
        return false;
    }
    r->owner = t;
    r->done = send_frame;
    find_source(t->courier, SOCK_STREAM, &t->peer, &t->own, &r->source);
    if (courier_put(r, &q, &e)) {
        t->request = r;
        return true;
    }
    end = (struct courier_end){.code = e.proto, .text = e.text};
    courier_refused(r, &e);
    message = answer_of(r, &end);
    courier_drop_request(r);
    return put_frame(t, message);
}

/* Whole messages, one after the other. False: the connection is gone. */
static bool serve_one(struct courier_caller *t, enum net_frame_result *got)
{
    struct courier *c = t->courier;
    struct sp_span message;
    size_t used;
    uint8_t *p;
    bool there;

    *got = net_get_frame(sp_span(t->in.p, t->in.n), limits, &message, &used);
    if (*got == NET_FRAME_MORE)
        return true;
    if (*got == NET_FRAME_WRONG || !(p = malloc(message.n))) {
        close_caller(t);
        return false;
    }
    memcpy(p, message.p, message.n);
    c->stashed -= t->in.max;
    net_stash_drop(&t->in, used);
    c->stashed += t->in.max;
    there = ask(t, sp_span(p, message.n));
    free(p);
    sp_arena_reset(&c->mem);
    return there;
}

static void serve_caller(struct courier_caller *t)
{
    enum net_frame_result got = NET_FRAME_WHOLE;

    while (got == NET_FRAME_WHOLE && !t->request && !t->out.n)
        if (!serve_one(t, &got))
            return;
    (void)write_out(t);
}

static void caller_ready(struct net_watch *watch, uint32_t events)
{
    struct courier_caller *t = watch->owner;
    struct courier *c = t->courier;
    size_t had = t->in.max;
    ssize_t n;
    bool ok;

    if ((events & EPOLLOUT) && !write_out(t))
        return;
    if (!(events & EPOLLIN)) {
        if (events & (EPOLLERR | EPOLLHUP))
            close_caller(t);
        return;
    }
    n = recv(watch->fd, c->scratch, sizeof c->scratch, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    ok = n >= 0 && (n == 0 || net_stash_add(&t->in, sp_span(c->scratch, (size_t)n)));
    c->stashed = c->stashed - had + t->in.max;
    if (!ok || c->stashed > COURIER_HELD_MAX) {
        close_caller(t);
        return;
    }
    t->ended = n == 0;
    t->moved_us = admin_mono_us();
    serve_caller(t);
}

static bool admit(struct courier *c, int fd, const struct net_address *peer)
{
    struct courier_caller *t = c->caller_count < CALLERS_MAX ? calloc(1, sizeof *t) : NULL;
    struct sp_err e = {0};

    if (!t)
        return false;
    *t = (struct courier_caller){.courier = c, .peer = *peer, .moved_us = admin_mono_us()};
    t->own.n = sizeof t->own.sa;
    (void)getsockname(fd, (struct sockaddr *)&t->own.sa, &t->own.n);
    t->watch = (struct net_watch){.fd = fd, .ready = caller_ready, .owner = t};
    if (!net_loop_add(&c->loop, &t->watch, EPOLLIN, &e)) {
        free(t);
        return false;
    }
    t->next = c->callers;
    c->callers = t;
    c->caller_count++;
    return true;
}

void courier_loopback_tcp(struct net_watch *door, uint32_t events)
{
    struct courier_gate *g = door->owner;

    (void)events;
    for (int i = 0; i < BATCH; i++) {
        struct net_address peer = {.n = sizeof peer.sa};
        int fd = accept4(door->fd, (struct sockaddr *)&peer.sa, &peer.n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        if (!net_is_loopback(&peer) || !admit(g->courier, fd, &peer))
            (void)close(fd);
    }
}

void courier_expire_loopback(struct courier *c, int64_t mono_us)
{
    for (struct courier_caller *t = c->callers, *next; t; t = next) {
        next = t->next;
        if (!t->request && mono_us - t->moved_us >= (int64_t)c->config.tcp_idle_s * 1000000)
            close_caller(t);
    }
}
