/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "net/resolver.h"

#define GATHER_US 250000 /* an interface that comes up says so in a dozen messages */
/* An address that is told anew so long after it was made is the same with more time to live; before, it may
 * have been waiting for duplicate address detection (RFC 4862 section 5.4). In 1/100 s. */
#define RENEWED_CS 300

struct net_changes {
    int fd;
    struct event io, timer;
    void (*changed)(void *owner);
    void *owner;
};

static void on_gathered(evutil_socket_t fd, short what, void *owner)
{
    struct net_changes *c = owner;

    (void)fd;
    (void)what;
    c->changed(c->owner);
}

static const void *attribute(const struct nlmsghdr *h, size_t head, uint16_t type, size_t least)
{
    size_t begin = NLMSG_ALIGN(head);
    const struct rtattr *a = (const struct rtattr *)((const uint8_t *)NLMSG_DATA(h) + begin);
    size_t n = NLMSG_PAYLOAD(h, 0) < begin ? 0 : NLMSG_PAYLOAD(h, 0) - begin;

    for (; RTA_OK(a, n); a = RTA_NEXT(a, n))
        if (a->rta_type == type && RTA_PAYLOAD(a) >= least)
            return RTA_DATA(a);
    return NULL;
}

static bool is_same_address(const struct nlmsghdr *h)
{
    const struct ifaddrmsg *a = NLMSG_DATA(h);
    const struct ifa_cacheinfo *t = attribute(h, sizeof *a, IFA_CACHEINFO, sizeof *t);

    return a->ifa_scope == RT_SCOPE_LINK ||
           (h->nlmsg_type == RTM_NEWADDR && t && t->tstamp - t->cstamp > RENEWED_CS);
}

static bool is_route_to_neighbours(const struct nlmsghdr *h)
{
    const struct rtmsg *r = NLMSG_DATA(h);
    const uint8_t *to = attribute(h, sizeof *r, RTA_DST, 2);

    return r->rtm_table == RT_TABLE_LOCAL || r->rtm_type == RTN_MULTICAST ||
           (r->rtm_family == AF_INET6 && r->rtm_dst_len >= 10 && to && to[0] == 0xfe &&
            (to[1] & 0xc0) == 0x80);
}

/* Neither a link-local address nor a router that renews what it said opens or shuts a way to anybody, and on
 * some networks that is told every few seconds: what is known to be dead stays so. */
static bool is_nothing(const struct nlmsghdr *h)
{
    switch (h->nlmsg_type) {
    case RTM_NEWADDR:
    case RTM_DELADDR:
        return NLMSG_PAYLOAD(h, 0) >= sizeof(struct ifaddrmsg) && is_same_address(h);
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
        return NLMSG_PAYLOAD(h, 0) >= sizeof(struct rtmsg) && is_route_to_neighbours(h);
    default:
        return false;
    }
}

static bool is_change(const struct nlmsghdr *h, size_t n)
{
    for (; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n))
        if (!is_nothing(h))
            return true;
    return false;
}

/* What exactly changed is not asked further: all routes are tried anew whatever it was. ENOBUFS (too many at
 * once to tell) is a change like the others. */
static void on_message(evutil_socket_t fd, short what, void *owner)
{
    struct net_changes *c = owner;
    struct timeval tv = {0, GATHER_US};
    _Alignas(struct nlmsghdr) uint8_t room[8192];
    bool any = false;

    (void)what;
    for (;;) {
        ssize_t n = recv(fd, room, sizeof room, 0);

        if (n < 0 && errno != ENOBUFS)
            break;
        any = any || n < 0 || is_change((const struct nlmsghdr *)room, (size_t)n);
    }
    if (any && !evtimer_pending(&c->timer, NULL))
        (void)evtimer_add(&c->timer, &tv);
}

static int listen_to_kernel(void)
{
    struct sockaddr_nl a = {
        .nl_family = AF_NETLINK,
        .nl_groups =
            RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE,
    };
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);

    if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0)
        return fd;
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

struct net_changes *net_changes_new(struct net_base *b, void (*changed)(void *owner), void *owner,
                                    struct sp_err *e)
{
    struct net_changes *c = calloc(1, sizeof *c);
    int fd = c ? listen_to_kernel() : -1;

    if (fd < 0) {
        free(c);
        (void)sp_fail(e, SP_EBACKEND, errno, "changes of the network cannot be watched: %s", strerror(errno));
        return NULL;
    }
    *c = (struct net_changes){.fd = fd, .changed = changed, .owner = owner};
    event_assign(&c->io, net_base_events(b), fd, EV_READ | EV_PERSIST, on_message, c);
    evtimer_assign(&c->timer, net_base_events(b), on_gathered, c);
    if (event_add(&c->io, NULL) == 0)
        return c;
    (void)sp_fail(e, SP_ENOMEM, 0, "no memory");
    net_changes_free(c);
    return NULL;
}

void net_changes_free(struct net_changes *c)
{
    if (!c)
        return;
    (void)event_del(&c->io);
    (void)evtimer_del(&c->timer);
    (void)close(c->fd);
    free(c);
}
