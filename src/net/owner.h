/* SPDX-License-Identifier: MIT */
/* Which uid owns the other end of a connection or datagram on loopback: asked of the kernel (sock_diag(7)),
 * which knows both ends. The socket for it is opened before the sandbox closes and needs no privilege. */
#ifndef SP_NET_OWNER_H
#define SP_NET_OWNER_H

#include "net/address.h"

struct net_owner {
    int fd; /* -1: this kernel, or a service manager, does not let us ask */
    uint32_t serial;
    bool plain; /* this kernel reads a question about UDP as it reads one about TCP */
};

void net_owner_open(struct net_owner *o);
void net_owner_close(struct net_owner *o);

struct net_flow { /* as the peer's socket has it */
    int type;     /* SOCK_STREAM, SOCK_DGRAM */
    const struct net_address *peer, *own;
};
/* False: nobody, or nobody any more: a socket that was closed has no owner, even while its last bytes are on
 * their way. */
bool net_owner_find(struct net_owner *o, const struct net_flow *flow, uint32_t *uid);

#endif
