/* SPDX-License-Identifier: MIT */
/* Sockets that listen: UDP, TCP and UNIX; non-blocking, close-on-exec. -1 on failure, with a text that names
 * the address. */
#ifndef SP_NET_LISTEN_H
#define SP_NET_LISTEN_H

#include "net/address.h"

#define NET_BACKLOG 1024 /* MIT's default of 5 loses SYNs from 16 clients at once */

/* Bound to all addresses it reports the local one of each datagram (IP_PKTINFO). *a becomes the address that
 * was bound (port 0). */
int net_listen_udp(struct net_address *a, struct sp_err *e);
int net_listen_tcp(struct net_address *a, struct sp_err *e);
/* dir/name, replacing what lies there (the caller holds the instance's lock). dir may be longer than a UNIX
 * path: it is reached through /proc/self/fd. Connections get SO_PEERCRED. */
int net_listen_unix(const char *dir, const char *name, unsigned mode, struct sp_err *e);
void net_unlink_unix(const char *dir, const char *name);

/* uid of the other end of a UNIX socket; false when the kernel will not tell. */
bool net_peer_uid(int fd, uint32_t *uid);

#endif
