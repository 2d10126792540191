/* SPDX-License-Identifier: MIT */
/* One keep-alive connection to a service that speaks HTTP Negotiate (RFC 4559): a token out, a token in. */
#ifndef SP_HOST_HTTP_H
#define SP_HOST_HTTP_H

#include "net/http.h"

#define HOST_HTTP_LIFE_US (30 * INT64_C(1000000)) /* of the whole connection */
#define HOST_HTTP_TOKEN_MAX 65536

struct host_http;
struct host_http_answer {
    uint16_t status;
    struct sp_span token; /* lives until the next question; empty: none */
    bool negotiates;      /* WWW-Authenticate: Negotiate was there */
    bool closed;          /* the server ended the connection behind this answer */
};

/* Connects; with https the certificate must be good for the host, by the system's authorities or those in the
 * file ca. */
SP_MUST bool host_http_open(struct host_http **out, const struct net_http_url *url, const char *ca,
                            struct sp_err *e);
SP_MUST bool host_http_ask(struct host_http *h, struct sp_span token, struct host_http_answer *out,
                           struct sp_err *e);
void host_http_close(struct host_http *h); /* NULL allowed */

#endif
