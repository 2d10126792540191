/* SPDX-License-Identifier: MIT */
/* One thread waiting for descriptors. Plain epoll and not libevent: the KDC workers' system calls have to be
 * counted (two a request at most, spec of the sandbox: nothing else), sockets are shared between processes
 * (EPOLLEXCLUSIVE, which libevent does not know), and nothing here is allocated. The courier, which needs TLS
 * streams, takes libevent. */
#ifndef SP_NET_LOOP_H
#define SP_NET_LOOP_H

#include <sys/epoll.h>

#include "base/err.h"

/* Embedded in what owns the descriptor; must not move while it is watched. */
struct net_watch {
    int fd;
    uint32_t events;
    void (*ready)(struct net_watch *w, uint32_t events);
    void *owner;
};

struct net_loop {
    int epoll_fd;
    struct epoll_event got[64];
    int got_count, got_at;
};

SP_MUST bool net_loop_init(struct net_loop *l, struct sp_err *e);
void net_loop_close(struct net_loop *l);
/* events as epoll's; EPOLLEXCLUSIVE for sockets that several processes share. */
SP_MUST bool net_loop_add(struct net_loop *l, struct net_watch *w, uint32_t events, struct sp_err *e);
/* Does nothing when they are the same already. Not for exclusive watches. */
void net_loop_change(struct net_loop *l, struct net_watch *w, uint32_t events);
/* Also forgets events of w that were reported and not handled yet, so w's memory may be used again. Before
 * close(w->fd). */
void net_loop_remove(struct net_loop *l, struct net_watch *w);
/* Waits once (timeout_ms -1: for ever) and calls everything that is ready; how many that were, or -1 after a
 * signal. */
int net_loop_turn(struct net_loop *l, int timeout_ms);

#endif
