/* SPDX-License-Identifier: MIT */
/* The first round of HTTP Negotiate (RFC 4559): a token out with a GET, the server's token back with the 401.
 * An exchange like those of net/exchange.h, on a connection of its own, since servers keep a context with
 * the connection. Redirects are not followed, and the body is not read. */
#ifndef SP_NET_NEGOTIATE_H
#define SP_NET_NEGOTIATE_H

#include "net/exchange.h"

struct net_negotiate {
    struct net_plan plan; /* to: the server's, or the proxy's; bytes: the token */
    const char *host;     /* SNI, certificate, Host */
    uint16_t port;
    const char *path;
    bool tls;
};
/* DONE: bytes is the server's token, or empty when it offers Negotiate and says nothing to ours, and then the
 * text says so. GARBLED with a status: it answers something else, and the text says what; without one: no
 * HTTP, or no token, that can be read. */
struct net_exchange *net_exchange_negotiate(struct net_web_client *c, const struct net_negotiate *n);

#endif
