/* SPDX-License-Identifier: MIT */
/* One connection for each request over TCP (RFC 4120 7.2.2), a window of them at once. Nothing here waits for
 * one connection while another could go on: a SYN that the server's full backlog dropped shows as that one
 * request's latency of a second, and as a listen overflow in the kernel's counters. */
#include "load.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define TIMEOUT_MS 10000 /* SYNs are sent again after 1, 3 and 7 seconds */
#define LENGTH_N 4

static int waiting = -1; /* epoll */

void load_open_tcp(struct load_run *r)
{
    waiting = epoll_create1(EPOLL_CLOEXEC);
    if (waiting < 0)
        bench_die("epoll", NULL);
    for (uint32_t i = 0; i < r->o->window; i++)
        r->slots[i] = (struct load_slot){.fd = -1, .in = bench_map(LENGTH_N + LOAD_REPLY_MAX)};
}

static void watch(struct load_run *r, struct load_slot *s, int how, uint32_t events)
{
    struct epoll_event x = {.events = events, .data.u32 = (uint32_t)(s - r->slots)};

    if (epoll_ctl(waiting, how, s->fd, &x) != 0)
        bench_die("epoll_ctl", NULL);
}

static void begin(struct load_run *r, struct load_slot *s, uint32_t i)
{
    s->request = i;
    s->in_n = 0;
    s->sent_ns = bench_mono_ns();
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || (connect(s->fd, (const struct sockaddr *)&r->o->server, sizeof r->o->server) != 0 &&
                      errno != EINPROGRESS))
        bench_die("cannot connect", NULL);
    watch(r, s, EPOLL_CTL_ADD, EPOLLOUT);
}

static void finish(struct load_slot *s)
{
    close(s->fd);
    s->fd = -1;
}

static void give_up(struct load_run *r, struct load_slot *s)
{
    r->lost++;
    finish(s);
}

/* Connected: the whole request fits the empty send buffer. False: refused. */
static bool send_request(struct load_run *r, struct load_slot *s)
{
    const struct sp_span b = r->requests[s->request].bytes;
    uint8_t length[LENGTH_N] = {0, 0, (uint8_t)(b.n >> 8), (uint8_t)b.n};
    struct iovec parts[] = {
        {length,      sizeof length},
        {(void *)b.p, b.n          }
    };

    if (writev(s->fd, parts, 2) != (ssize_t)(sizeof length + b.n))
        return false;
    watch(r, s, EPOLL_CTL_MOD, EPOLLIN);
    return true;
}

static size_t announced(const struct load_slot *s)
{
    if (s->in_n < LENGTH_N)
        return SIZE_MAX;
    return (size_t)s->in[0] << 24 | (size_t)s->in[1] << 16 | (size_t)s->in[2] << 8 | s->in[3];
}

/* True when the request is done with, answered or lost. */
static bool receive(struct load_run *r, struct load_slot *s)
{
    ssize_t n = recv(s->fd, s->in + s->in_n, LENGTH_N + LOAD_REPLY_MAX - s->in_n, 0);

    if (n <= 0) {
        if (n < 0 && errno == EAGAIN)
            return false;
        give_up(r, s);
        return true;
    }
    s->in_n += (size_t)n;
    if (s->in_n < LENGTH_N || s->in_n - LENGTH_N < announced(s))
        return false;
    load_note_reply(r, s, sp_span(s->in + LENGTH_N, s->in_n - LENGTH_N));
    finish(s);
    return true;
}

static bool serve(struct load_run *r, struct load_slot *s, uint32_t events)
{
    if (!(events & EPOLLOUT))
        return receive(r, s);
    if ((events & EPOLLERR) || !send_request(r, s)) {
        give_up(r, s);
        return true;
    }
    return false;
}

/* All that are under way have had their time. */
static uint32_t give_up_all(struct load_run *r)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < r->o->window; i++)
        if (r->slots[i].fd >= 0) {
            give_up(r, &r->slots[i]);
            count++;
        }
    return count;
}

/* Begins as many as may be: all free slots, for bursts only when every slot is free. */
static uint32_t fill(struct load_run *r, uint32_t next, uint32_t to, uint32_t under_way)
{
    if (r->o->way == LOAD_BURST && under_way > 0)
        return next;
    for (uint32_t i = 0; i < r->o->window && next < to; i++)
        if (r->slots[i].fd < 0)
            begin(r, &r->slots[i], next++);
    return next;
}

uint64_t load_exchange_tcp(struct load_run *r, uint32_t from, uint32_t to)
{
    uint64_t began = bench_mono_ns();
    uint32_t next = from, done = from;

    while (done < to) {
        struct epoll_event ready[LOAD_WINDOW_MAX];
        int n;

        next = fill(r, next, to, next - done);
        n = epoll_wait(waiting, ready, LOAD_WINDOW_MAX, TIMEOUT_MS);
        if (n == 0)
            done += give_up_all(r);
        for (int i = 0; i < n; i++)
            done += serve(r, &r->slots[ready[i].data.u32], ready[i].events);
    }
    return bench_mono_ns() - began;
}
