/* SPDX-License-Identifier: MIT */
#include "net/owner.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <unistd.h>

struct question {
    struct nlmsghdr head;
    struct inet_diag_req_v2 about;
};

void net_owner_open(struct net_owner *o)
{
    *o = (struct net_owner){
        .fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG)};
}

void net_owner_close(struct net_owner *o)
{
    if (o->fd >= 0)
        (void)close(o->fd);
    o->fd = -1;
}

static void set_end(__be16 *port, __be32 ip[4], const struct net_address *a)
{
    struct sp_span bytes = net_address_bytes(a);

    *port = htons(net_port(a));
    memcpy(ip, bytes.p, bytes.n);
}

static bool ask(struct net_owner *o, const struct net_flow *f, bool swapped)
{
    struct question q = {
        .head = {.nlmsg_len = sizeof q,
                 .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                 .nlmsg_flags = NLM_F_REQUEST,
                 .nlmsg_seq = ++o->serial},
        .about = {.sdiag_family = (uint8_t)f->peer->sa.ss_family,
                 .sdiag_protocol = f->type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP,
                 .idiag_states = ~0u}
    };
    struct inet_diag_sockid *id = &q.about.id;

    set_end(&id->idiag_sport, id->idiag_src, swapped ? f->own : f->peer);
    set_end(&id->idiag_dport, id->idiag_dst, swapped ? f->peer : f->own);
    id->idiag_cookie[0] = id->idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    return send(o->fd, &q, sizeof q, MSG_DONTWAIT) == (ssize_t)sizeof q;
}

/* The kernel answers within the question's send, so whatever there will be is there. */
static bool hear(struct net_owner *o, struct inet_diag_msg *out)
{
    _Alignas(struct nlmsghdr) uint8_t buf[2048];
    const struct nlmsghdr *head = (const struct nlmsghdr *)buf;
    ssize_t n;

    do
        n = recv(o->fd, buf, sizeof buf, MSG_DONTWAIT);
    while (n >= (ssize_t)sizeof *head && head->nlmsg_seq != o->serial); /* of a question that was given up */
    if (n < (ssize_t)NLMSG_LENGTH(sizeof *out) || head->nlmsg_type != SOCK_DIAG_BY_FAMILY)
        return false;
    memcpy(out, NLMSG_DATA(head), sizeof *out);
    return true;
}

/* A socket that its process closed, or that waits out its time, is shown with uid 0 and inode 0: that is
 * nobody, not root. */
static bool is_owned(const struct inet_diag_msg *m, const struct net_flow *f)
{
    return m->id.idiag_sport == htons(net_port(f->peer)) && m->idiag_inode != 0;
}

static bool ask_one(struct net_owner *o, const struct net_flow *f, bool swapped, uint32_t *uid)
{
    struct inet_diag_msg m;
    bool found = ask(o, f, swapped) && hear(o, &m) && is_owned(&m, f);

    if (found)
        *uid = m.idiag_uid;
    return found;
}

bool net_owner_find(struct net_owner *o, const struct net_flow *f, uint32_t *uid)
{
    if (o->fd < 0 || f->peer->sa.ss_family != f->own->sa.ss_family || net_address_bytes(f->peer).n == 0)
        return false;
    if (f->type == SOCK_STREAM)
        return ask_one(o, f, false, uid);
    /* Kernels of today read a question about one UDP socket the other way round (source and destination of a
     * datagram to that socket). The port in the answer tells, unless both ends have the same one; the way
     * that worked is tried first. */
    for (int i = 0; i < 2 && net_port(f->peer) != net_port(f->own); i++) {
        if (ask_one(o, f, !o->plain, uid))
            return true;
        o->plain = !o->plain;
    }
    return false;
}
