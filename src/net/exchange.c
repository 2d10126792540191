/* SPDX-License-Identifier: MIT */
#include "net/exchange_own.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/framing.h"

#define DATAGRAM_MAX 65536
#define PIECE 16384

/* ---- what all have ---- */

static struct timeval timeval_of(int64_t us)
{
    if (us < 0)
        us = 0;
    return (struct timeval){us / 1000000, us % 1000000};
}

static void on_timer(evutil_socket_t fd, short what, void *owner)
{
    struct net_exchange *x = owner;

    (void)fd;
    (void)what;
    net_exchange_end(x, x->soon, (struct sp_span){0}, x->text);
}

static void set_timer(struct net_exchange *x, int64_t in_us)
{
    struct timeval tv = timeval_of(in_us);

    (void)evtimer_add(&x->timer, &tv);
}

void net_exchange_begin(struct net_exchange *x, struct net_base *b, const struct net_plan *p,
                        void (*drop)(struct net_exchange *x))
{
    x->base = b;
    x->plan = *p;
    x->plan.bytes = (struct sp_span){0};
    x->began_us = net_base_now_us();
    x->soon = NET_EXCHANGE_LATE;
    snprintf(x->text, sizeof x->text, "no reply in time");
    x->drop = drop;
    evtimer_assign(&x->timer, net_base_events(b), on_timer, x);
    set_timer(x, p->until_us - x->began_us);
}

void net_exchange_end(struct net_exchange *x, enum net_exchange_end end, struct sp_span bytes,
                      const char *text)
{
    struct net_exchange_result r = {
        .end = end,
        .bytes = bytes,
        .text = text,
        .status = x->status,
        .took_us = net_base_now_us() - x->began_us,
    };

    (void)evtimer_del(&x->timer);
    x->plan.done(x->plan.owner, &r);
    x->drop(x);
    free(x);
}

void net_exchange_end_soon(struct net_exchange *x, enum net_exchange_end end, const char *text)
{
    x->soon = end;
    snprintf(x->text, sizeof x->text, "%s", text);
    set_timer(x, 0);
}

void net_exchange_cancel(struct net_exchange *x)
{
    (void)evtimer_del(&x->timer);
    x->drop(x);
    free(x);
}

int net_exchange_connect(const struct net_address *a, int type)
{
    int fd = socket(a->sa.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1, why;

    if (fd < 0)
        return -1;
    if (type == SOCK_STREAM) /* head and body are one write; nothing is gained by waiting */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (const struct sockaddr *)&a->sa, a->n) == 0 || errno == EINPROGRESS)
        return fd;
    why = errno;
    (void)close(fd);
    errno = why;
    return -1;
}

int net_exchange_connect_error(int fd)
{
    int why = 0;
    socklen_t n = sizeof why;

    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &n) != 0)
        why = errno;
    return why;
}

/* ---- a datagram, or one message on a stream ---- */

struct message {
    struct net_exchange x;
    int fd;
    struct event io, again;
    int sent; /* datagrams */
    struct net_stash in;
    size_t at, n; /* of out */
    uint8_t out[];
};

static void drop_message(struct net_exchange *x)
{
    struct message *m = (struct message *)x;

    if (m->fd >= 0) {
        (void)event_del(&m->io);
        (void)evtimer_del(&m->again);
        (void)close(m->fd);
    }
    net_stash_free(&m->in);
}

static void refused(struct message *m, int why)
{
    net_exchange_end(&m->x, NET_EXCHANGE_REFUSED, (struct sp_span){0}, strerror(why));
}

static void garbled(struct message *m, const char *why)
{
    net_exchange_end(&m->x, NET_EXCHANGE_GARBLED, (struct sp_span){0}, why);
}

/* The bytes lie behind the struct, for a stream with their length before them. */
static struct message *make_message(struct net_base *b, const struct net_plan *p, int type)
{
    size_t head = type == SOCK_STREAM ? 4 : 0;
    struct message *m = calloc(1, sizeof *m + head + p->bytes.n);

    if (!m)
        return NULL;
    net_exchange_begin(&m->x, b, p, drop_message);
    m->n = head + p->bytes.n;
    if (head)
        net_put_frame_length(m->out, p->bytes.n);
    if (p->bytes.n)
        memcpy(m->out + head, p->bytes.p, p->bytes.n);
    m->fd = net_exchange_connect(&p->to, type);
    if (m->fd < 0)
        net_exchange_end_soon(&m->x, NET_EXCHANGE_REFUSED, strerror(errno));
    return m;
}

/* ---- UDP ---- */

static void on_datagram(evutil_socket_t fd, short what, void *owner)
{
    struct message *m = owner;
    uint8_t in[DATAGRAM_MAX];
    ssize_t n = recv(fd, in, sizeof in, 0);

    (void)what;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0)
        refused(m, errno);
    else if ((size_t)n > m->x.plan.reply_max)
        garbled(m, "a reply that is too long");
    else
        net_exchange_end(&m->x, NET_EXCHANGE_DONE, sp_span(in, (size_t)n), "");
}

static int send_datagram(struct message *m)
{
    static const int64_t wait_us[] = {1000000, 2000000};
    struct timeval tv;

    if (send(m->fd, m->out, m->n, MSG_NOSIGNAL) < 0 && errno != EAGAIN && errno != ENOBUFS)
        return errno;
    if (m->sent < 2) {
        tv = timeval_of(wait_us[m->sent++]);
        (void)evtimer_add(&m->again, &tv);
    }
    return 0;
}

static void on_again(evutil_socket_t fd, short what, void *owner)
{
    struct message *m = owner;
    int why = send_datagram(m);

    (void)fd;
    (void)what;
    if (why)
        refused(m, why);
}

struct net_exchange *net_exchange_udp(struct net_base *b, const struct net_plan *p)
{
    struct message *m = make_message(b, p, SOCK_DGRAM);
    int why;

    if (!m || m->fd < 0)
        return m ? &m->x : NULL;
    event_assign(&m->io, net_base_events(b), m->fd, EV_READ | EV_PERSIST, on_datagram, m);
    evtimer_assign(&m->again, net_base_events(b), on_again, m);
    why = event_add(&m->io, NULL) == 0 ? send_datagram(m) : ENOMEM;
    if (why)
        net_exchange_end_soon(&m->x, NET_EXCHANGE_REFUSED, strerror(why));
    return &m->x;
}

/* ---- TCP ---- */

static void look_for_frame(struct message *m)
{
    struct net_frame_limits limits = {1, m->x.plan.reply_max < UINT32_MAX ? (uint32_t)m->x.plan.reply_max
                                                                          : UINT32_MAX};
    struct sp_span whole;
    size_t used;

    switch (net_get_frame(sp_span(m->in.p, m->in.n), limits, &whole, &used)) {
    case NET_FRAME_MORE:
        break;
    case NET_FRAME_WRONG:
        garbled(m, "a length that cannot be");
        break;
    case NET_FRAME_WHOLE:
        if (used == m->in.n)
            net_exchange_end(&m->x, NET_EXCHANGE_DONE, whole, "");
        else
            garbled(m, "bytes behind the reply");
        break;
    }
}

static void on_frame(evutil_socket_t fd, short what, void *owner)
{
    struct message *m = owner;
    uint8_t piece[PIECE];
    ssize_t n = recv(fd, piece, sizeof piece, 0);

    (void)what;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0)
        refused(m, errno);
    else if (n == 0 && m->in.n > 0)
        garbled(m, "half a reply");
    else if (n == 0)
        refused(m, ECONNRESET);
    else if (!net_stash_add(&m->in, sp_span(piece, (size_t)n)))
        refused(m, ENOMEM);
    else
        look_for_frame(m);
}

static void watch_stream(struct message *m, short what, event_callback_fn f)
{
    (void)event_del(&m->io);
    event_assign(&m->io, net_base_events(m->x.base), m->fd, (short)(what | EV_PERSIST), f, m);
    if (event_add(&m->io, NULL) != 0)
        net_exchange_end_soon(&m->x, NET_EXCHANGE_REFUSED, strerror(ENOMEM));
}

static void on_writable(evutil_socket_t fd, short what, void *owner)
{
    struct message *m = owner;
    int why = m->at == 0 ? net_exchange_connect_error(fd) : 0;
    ssize_t n = why ? 0 : send(fd, m->out + m->at, m->n - m->at, MSG_NOSIGNAL);

    (void)what;
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        why = errno;
    if (why) {
        refused(m, why);
        return;
    }
    m->at += n > 0 ? (size_t)n : 0;
    if (m->at == m->n)
        watch_stream(m, EV_READ, on_frame);
}

struct net_exchange *net_exchange_tcp(struct net_base *b, const struct net_plan *p)
{
    struct message *m = make_message(b, p, SOCK_STREAM);

    if (!m || m->fd < 0)
        return m ? &m->x : NULL;
    event_assign(&m->io, net_base_events(b), m->fd, EV_WRITE | EV_PERSIST, on_writable, m);
    evtimer_assign(&m->again, net_base_events(b), on_again, m);
    if (event_add(&m->io, NULL) != 0)
        net_exchange_end_soon(&m->x, NET_EXCHANGE_REFUSED, strerror(ENOMEM));
    return &m->x;
}
