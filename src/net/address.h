/* SPDX-License-Identifier: MIT */
/* Socket addresses as people write them: "127.0.0.1:88", "[::1]:88", "[fe80::1%eth0]:88". Never a host name:
 * a KDC that waits for DNS before it starts is one that does not start. */
#ifndef SP_NET_ADDRESS_H
#define SP_NET_ADDRESS_H

#include <sys/socket.h>

#include "base/err.h"
#include "base/span.h"

#define NET_ADDRESS_TEXT 80
#define NET_HOST_TEXT 46 /* without a port */

struct net_address {
    struct sockaddr_storage sa;
    socklen_t n;
};

/* SP_EINPUT with what would be right. Port 0 is allowed: the kernel picks one. */
SP_MUST bool net_parse_address(struct sp_span text, struct net_address *out, struct sp_err *e);
/* The form that net_parse_address reads. */
void net_text_address(const struct net_address *a, char out[NET_ADDRESS_TEXT]);
/* Without the port and brackets. */
void net_text_host(const struct net_address *a, char out[NET_HOST_TEXT]);
/* Same family, address, port and scope. */
bool net_same_address(const struct net_address *a, const struct net_address *b);
bool net_is_loopback(const struct net_address *a);
/* The bytes of the IP address: 4 or 16; empty for other families. Points into a. */
struct sp_span net_address_bytes(const struct net_address *a);
/* In the host's order; of IP addresses only. */
uint16_t net_port(const struct net_address *a);
void net_set_port(struct net_address *a, uint16_t port);
/* The same port at another IP address; does nothing when the family is another one. */
void net_set_bytes(struct net_address *a, struct sp_span ip);

#endif
