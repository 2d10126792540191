/* SPDX-License-Identifier: MIT */
/* The head of an HTTP request as the courier's door takes it (RFC 9112, decision 30): POST with one
 * Content-Length. Pure logic. Strict: what two readers could understand differently is refused, so that no
 * proxy in front sees other requests than the door. */
#ifndef SP_NET_HTTP_REQUEST_H
#define SP_NET_HTTP_REQUEST_H

#include "net/address.h"
#include "net/http.h"

struct net_http_request {
    struct sp_span method, path;        /* path with its query, of the absolute form too */
    struct sp_span host;                /* with its port; RFC 9112 3.2.2: of the absolute form before Host */
    struct sp_span type, authorization; /* as they came; empty when they did not */
    struct sp_span forwarded, x_forwarded; /* Forwarded, X-Forwarded-For */
    bool keep;                             /* HTTP/1.1 without Connection: close; 1.0 never */
    bool expects;                          /* waits for 100 before it sends the body */
    uint64_t length;                       /* of the body */
    size_t used;                           /* bytes of the head */
};
struct net_http_request_limits {
    size_t head_max, body_max;
    bool gets; /* GET, too, without a body: for clients of Negotiate */
};
/* WRONG comes with what the peer is told: the status in e->proto (400, 405, 411, 413, 417, 431, 505); where
 * in e->at. */
enum net_http_result net_get_http_request(struct sp_span in, const struct net_http_request_limits *limits,
                                          struct net_http_request *out, struct sp_err *e);

/* Who asked, as a trusted proxy says: the last hop of Forwarded (RFC 7239) or of X-Forwarded-For, which is
 * the one that the proxy itself added. Only *to is changed, and its port becomes 0; not when there is
 * neither. Both at once, or no IP address there, is SP_EINPUT. */
SP_MUST bool net_get_forwarded(const struct net_http_request *r, struct net_address *to, struct sp_err *e);

#endif
