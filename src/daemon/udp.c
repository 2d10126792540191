/* SPDX-License-Identifier: MIT */
/* The UDP doors: up to sixteen datagrams by one system call, their replies by another. The sockets are shared
 * by all workers (EPOLLEXCLUSIVE), so that a worker that dies leaves its share to the others at once. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "daemon/worker.h"

#define FINDERS 64u
#define FINDER_WAYS 4u /* clients whose ports meet in one place do not push each other out */

struct udp_batch {
    struct mmsghdr in[UDP_BATCH], out[UDP_BATCH];
    struct iovec in_part[UDP_BATCH], out_part[UDP_BATCH];
    struct net_address from[UDP_BATCH];
    struct source_finder finders[FINDERS]; /* by port, for what came from loopback */
    _Alignas(struct cmsghdr) uint8_t control[UDP_BATCH][64];
    uint8_t in_buf[UDP_BATCH][UDP_MESSAGE_MAX]; /* touched as far as datagrams reach */
    uint8_t out_buf[UDP_BATCH][UDP_MESSAGE_MAX];
};

struct udp_batch *udp_new(void)
{
    return calloc(1, sizeof(struct udp_batch));
}

static void prepare(struct udp_batch *b)
{
    for (unsigned i = 0; i < UDP_BATCH; i++) {
        b->in_part[i] = (struct iovec){b->in_buf[i], UDP_MESSAGE_MAX};
        b->in[i].msg_hdr = (struct msghdr){.msg_name = &b->from[i].sa,
                                           .msg_namelen = sizeof b->from[i].sa,
                                           .msg_iov = &b->in_part[i],
                                           .msg_iovlen = 1,
                                           .msg_control = b->control[i],
                                           .msg_controllen = sizeof b->control[i]};
    }
}

/* Where the datagram arrived: for KRB-PRIV, and so that the reply leaves from there (a socket on 0.0.0.0 has
 * many addresses). The control data is kept for the reply, without the interface: the route decides. */
static void note_local(const struct door *d, struct msghdr *m, struct kdc_request *req)
{
    struct sp_span bound = net_address_bytes(&d->bound);

    req->local_address_n = (uint8_t)bound.n;
    memcpy(req->local_address, bound.p, bound.n);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo *at = (struct in_pktinfo *)CMSG_DATA(c);
            memcpy(req->local_address, &at->ipi_spec_dst, 4);
            req->local_address_n = 4;
            at->ipi_ifindex = 0;
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo *at = (struct in6_pktinfo *)CMSG_DATA(c);
            memcpy(req->local_address, &at->ipi6_addr, 16);
            req->local_address_n = 16;
            if (!IN6_IS_ADDR_LINKLOCAL(&at->ipi6_addr))
                at->ipi6_ifindex = 0;
        }
    }
}

/* Answers are never answered: two KDCs whose addresses somebody swaps in forged datagrams would talk for
 * ever. */
static bool is_answer(enum door_service service, struct sp_span m)
{
    if (m.n == 0)
        return true;
    if (service == DOOR_KPASSWD) /* RFC 3244: an error is answered with an AP-REP length of zero */
        return m.n < 6 || (m.p[4] == 0 && m.p[5] == 0);
    return m.p[0] == 0x6b || m.p[0] == 0x6d || m.p[0] == 0x7e; /* AS-REP, TGS-REP, KRB-ERROR */
}

static void keep_route(struct pending_change *p, int fd, const struct net_address *from,
                       const struct msghdr *m)
{
    p->udp_fd = fd;
    p->from = *from;
    p->control_n = m->msg_controllen <= sizeof p->control ? m->msg_controllen : 0;
    memcpy(p->control, m->msg_control, p->control_n);
}

static void queue_reply(struct udp_batch *b, unsigned i, unsigned out, struct sp_span reply)
{
    memcpy(b->out_buf[out], reply.p, reply.n);
    b->out_part[out] = (struct iovec){b->out_buf[out], reply.n};
    b->out[out].msg_hdr = b->in[i].msg_hdr;
    b->out[out].msg_hdr.msg_iov = &b->out_part[out];
    b->out[out].msg_hdr.msg_flags = 0;
}

/* What was found out holds for the next datagrams from the same address for a moment. Else: the place that
 * was filled the longest time ago. */
static struct source_finder *choose_finder(struct udp_batch *b, const struct net_address *from,
                                           const struct net_address *own)
{
    struct source_finder *set = &b->finders[net_port(from) * FINDER_WAYS % FINDERS], *oldest = set;
    int64_t now = admin_mono_us();

    for (struct source_finder *f = set; f < set + FINDER_WAYS; f++) {
        if (f->known && now - f->found_us < SOURCE_KEPT_US && net_same_address(&f->peer, from) &&
            net_same_address(&f->own, own))
            return f;
        if (f->found_us < oldest->found_us)
            oldest = f;
    }
    oldest->known = false;
    return oldest;
}

static void prepare_finder(struct worker *w, const struct door *d, const struct net_address *from,
                           struct kdc_request *req)
{
    struct net_address own = d->bound;
    struct source_finder *f;

    net_set_bytes(&own, sp_span(req->local_address, req->local_address_n));
    f = choose_finder(w->udp, from, &own);
    if (!f->known)
        *f = (struct source_finder){.worker = w, .stream_fd = -1, .peer = *from, .own = own};
    source_look_closer(req, f);
}

/* True when out_buf[out] was filled. */
static bool serve_one(struct worker *w, struct door *d, unsigned i, unsigned out)
{
    struct udp_batch *b = w->udp;
    struct msghdr *m = &b->in[i].msg_hdr;
    struct kdc_request req = {.door = KDC_UDP, .udp_reply_max = w->config->config.udp_reply_max};
    struct serve_answer a;
    bool fits;

    req.bytes = sp_span(b->in_buf[i], b->in[i].msg_len);
    b->from[i].n = m->msg_namelen;
    if (is_answer(d->info.service, req.bytes) || (m->msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        return false;
    source_of_address(&b->from[i], &req.source);
    note_local(d, m, &req);
    if (req.source.loopback)
        prepare_finder(w, d, &b->from[i], &req);
    serve_request(w, d->info.service, &req, &a);
    if (a.pending)
        keep_route(a.pending, d->watch.fd, &b->from[i], m);
    fits = a.reply.n > 0 && a.reply.n <= UDP_MESSAGE_MAX;
    if (fits)
        queue_reply(b, i, out, a.reply);
    serve_done(w);
    return fits;
}

/* A peer that cannot be reached is skipped; a full send buffer drops the rest, as a full network would. */
static void send_all(int fd, struct udp_batch *b, unsigned count)
{
    unsigned at = 0;

    while (at < count) {
        int n = sendmmsg(fd, b->out + at, count - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == ENOBUFS))
            return;
        at += n > 0 ? (unsigned)n : 1;
    }
}

void udp_ready(struct net_watch *door, uint32_t events)
{
    struct door *d = door->owner;
    struct worker *w = d->worker;
    struct udp_batch *b = w->udp;
    unsigned out = 0;
    int n;

    (void)events;
    prepare(b);
    n = recvmmsg(door->fd, b->in, UDP_BATCH, MSG_DONTWAIT, NULL);
    lmdb_settle(w->store); /* one state for these datagrams, and none from before they came */
    for (int i = 0; i < n; i++)
        if (serve_one(w, d, (unsigned)i, out))
            out++;
    send_all(door->fd, b, out);
}

void udp_answer_later(const struct pending_change *p, struct sp_span reply)
{
    struct iovec part = {(void *)(uintptr_t)reply.p, reply.n};
    _Alignas(struct cmsghdr) uint8_t control[sizeof p->control];
    struct net_address to = p->from;
    struct msghdr m = {.msg_name = &to.sa, .msg_namelen = to.n, .msg_iov = &part, .msg_iovlen = 1};

    memcpy(control, p->control, sizeof control);
    m.msg_control = p->control_n ? control : NULL;
    m.msg_controllen = p->control_n;
    if (reply.n)
        (void)sendmsg(p->udp_fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}
