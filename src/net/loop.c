/* SPDX-License-Identifier: MIT */
#include "net/loop.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

bool net_loop_init(struct net_loop *l, struct sp_err *e)
{
    memset(l, 0, sizeof *l);
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return l->epoll_fd >= 0 || sp_fail(e, SP_EBACKEND, errno, "epoll: %s", strerror(errno));
}

void net_loop_close(struct net_loop *l)
{
    if (l->epoll_fd >= 0)
        (void)close(l->epoll_fd);
    l->epoll_fd = -1;
}

bool net_loop_add(struct net_loop *l, struct net_watch *w, uint32_t events, struct sp_err *e)
{
    struct epoll_event ev = {.events = events, .data.ptr = w};

    w->events = events;
    return epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, w->fd, &ev) == 0 ||
           sp_fail(e, SP_EBACKEND, errno, "epoll: %s", strerror(errno));
}

void net_loop_change(struct net_loop *l, struct net_watch *w, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = w};

    if (w->events == events)
        return;
    w->events = events;
    (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, w->fd, &ev);
}

void net_loop_remove(struct net_loop *l, struct net_watch *w)
{
    (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    for (int i = l->got_at; i < l->got_count; i++)
        if (l->got[i].data.ptr == w)
            l->got[i].data.ptr = NULL;
}

int net_loop_turn(struct net_loop *l, int timeout_ms)
{
    int count;

    l->got_count = epoll_wait(l->epoll_fd, l->got, sizeof l->got / sizeof *l->got, timeout_ms);
    for (l->got_at = 0; l->got_at < l->got_count;) {
        struct epoll_event *ev = &l->got[l->got_at++];
        struct net_watch *w = ev->data.ptr;
        if (w)
            w->ready(w, ev->events);
    }
    count = l->got_count;
    l->got_at = l->got_count = 0;
    return count;
}
