/* SPDX-License-Identifier: MIT */
/* A closed loop over UDP: each slot's socket has one request under way, and they are waited for in turn. A
 * window of several stands for many clients: it is polled, so that a server does not pay for waking one
 * generator that sleeps between any two of its replies, which costs the slower server more. */
#include "load.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define TIMEOUT_S 2

int load_dial_udp(const struct sockaddr_in *to)
{
    struct timeval wait = {.tv_sec = TIMEOUT_S};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (const struct sockaddr *)to, sizeof *to) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) != 0)
        bench_die("cannot reach the server's address", NULL);
    return fd;
}

void load_open_udp(struct load_run *r)
{
    for (uint32_t i = 0; i < r->o->window; i++)
        r->slots[i].fd = load_dial_udp(&r->o->server);
}

static void send_next(struct load_run *r, struct load_slot *s, uint32_t i)
{
    const struct sp_span b = r->requests[i].bytes;

    s->request = i;
    s->sent_ns = bench_mono_ns();
    if (send(s->fd, b.p, b.n, 0) != (ssize_t)b.n)
        bench_die("send failed: is the server there?", NULL);
}

static ssize_t wait_for(struct load_run *r, const struct load_slot *s)
{
    uint64_t until = bench_mono_ns() + (uint64_t)TIMEOUT_S * 1000000000;
    ssize_t n;

    if (r->o->window == 1)
        return recv(s->fd, r->reply, sizeof r->reply, 0);
    do
        n = recv(s->fd, r->reply, sizeof r->reply, MSG_DONTWAIT);
    while (n < 0 && errno == EAGAIN && bench_mono_ns() < until);
    return n;
}

static void receive(struct load_run *r, struct load_slot *s)
{
    ssize_t n = wait_for(r, s);

    if (n >= 0) {
        load_note_reply(r, s, sp_span(r->reply, (size_t)n));
        return;
    }
    r->lost++;
    close(s->fd); /* an answer that comes late must not be taken for the next one's */
    s->fd = load_dial_udp(&r->o->server);
}

uint64_t load_exchange_udp(struct load_run *r, uint32_t from, uint32_t to)
{
    uint64_t began = bench_mono_ns();
    uint32_t sent = from, done = from, window = r->o->window;

    sp_assert(window > 0);
    while (sent < to && sent - from < window) {
        send_next(r, &r->slots[sent - from], sent);
        sent++;
    }
    for (; done < to; done++) {
        struct load_slot *s = &r->slots[(done - from) % window];

        receive(r, s);
        if (sent < to)
            send_next(r, s, sent++);
    }
    return bench_mono_ns() - began;
}
