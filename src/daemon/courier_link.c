/* SPDX-License-Identifier: MIT */
/* A worker's end of the pair to the courier: requests with door and source, answers by serial. */
#include <unistd.h>

#include "daemon/worker.h"
#include "net/pass.h"

#define BATCH 16

static bool send_answer(int fd, uint64_t serial, struct sp_span reply, uint8_t *room)
{
    struct courier_told t = {.serial = serial, .message_n = (uint32_t)reply.n};

    if (reply.n > COURIER_FRAME_MAX)
        t.message_n = 0; /* longer than a frame */
    memcpy(room, &t, sizeof t);
    if (t.message_n)
        memcpy(room + sizeof t, reply.p, reply.n);
    return net_send_now(fd, sp_span(room, sizeof t + t.message_n));
}

static void serve_verify(struct worker *w, int fd, const struct courier_ask *ask, uint8_t *bytes)
{
    struct sp_span verdict = verify_conversation(w, sp_span(bytes, ask->message_n));

    (void)send_answer(fd, ask->serial, verdict, bytes - sizeof *ask);
    serve_done(w);
}

static void serve_ask(struct worker *w, int fd, const struct courier_ask *ask, uint8_t *bytes)
{
    struct kdc_request req = {
        .bytes = sp_span(bytes, ask->message_n), .door = KDC_COURIER, .source = ask->source};
    struct serve_answer a;

    serve_carried(w, &req, ask, &a);
    (void)send_answer(fd, ask->serial, a.reply, bytes - sizeof *ask); /* not taken: it is given up in time */
    serve_done(w);
}

static void link_ready(struct net_watch *watch, uint32_t events)
{
    static _Alignas(16) uint8_t buf[COURIER_LINK_MAX];
    struct worker *w = watch->owner;
    struct courier_ask ask;
    int fd;

    (void)events;
    for (int i = 0; i < BATCH; i++) {
        long n = net_receive(watch->fd, buf, sizeof buf, &fd);
        if (n == 0)
            courier_link_close(w);
        if (n <= 0)
            return;
        memcpy(&ask, buf, sizeof ask);
        if ((size_t)n < sizeof ask || ask.message_n != (size_t)n - sizeof ask || ask.door != KDC_COURIER)
            continue;
        ask.transport[sizeof ask.transport - 1] = ask.acceptor[sizeof ask.acceptor - 1] = 0;
        ask.source.text[sizeof ask.source.text - 1] = 0;
        (ask.verify ? serve_verify : serve_ask)(w, watch->fd, &ask, buf + sizeof ask);
    }
}

void courier_link_close(struct worker *w)
{
    if (!w->courier.ready)
        return;
    net_loop_remove(&w->loop, &w->courier);
    (void)close(w->courier.fd);
    w->courier = (struct net_watch){.fd = -1};
}

void courier_link_open(struct worker *w, int fd)
{
    struct sp_err e = {0};

    if (fd < 0)
        return;
    courier_link_close(w);
    w->courier = (struct net_watch){.fd = fd, .ready = link_ready, .owner = w};
    if (!net_loop_add(&w->loop, &w->courier, EPOLLIN, &e)) {
        (void)close(fd);
        w->courier = (struct net_watch){.fd = -1};
    }
}
