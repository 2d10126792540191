/* SPDX-License-Identifier: MIT */
/* One message out, one back: what the courier's routes are made of. Each exchange ends by exactly one call of
 * `done`, also when it could not begin (never from within the function that began it), unless it is
 * cancelled; NULL instead of an exchange means that there was no memory, and `done` is not called. Nothing
 * here knows Kerberos but the length that stands before a message on TCP. */
#ifndef SP_NET_EXCHANGE_H
#define SP_NET_EXCHANGE_H

#include "net/address.h"
#include "net/base.h"

enum net_exchange_end {
    NET_EXCHANGE_DONE,
    NET_EXCHANGE_REFUSED, /* connection refused, no route, reset, TLS: text says what */
    NET_EXCHANGE_GARBLED, /* a length, a head or a body that cannot be; an HTTP status: text says which */
    NET_EXCHANGE_LATE,    /* the time was up */
};
struct net_exchange_result {
    enum net_exchange_end end;
    struct sp_span bytes; /* the message, without its length; HTTPS: the body. Good during the call */
    const char *text;     /* for people: "connection refused", "certificate has expired" */
    int32_t status;       /* HTTP status; 0: none came */
    int64_t took_us;
};
typedef void net_exchange_done(void *owner, const struct net_exchange_result *r);

struct net_exchange;
struct net_plan {
    struct net_address to;
    struct sp_span bytes; /* copied */
    int64_t until_us;     /* monotonic */
    size_t reply_max;     /* beyond: GARBLED */
    net_exchange_done *done;
    void *owner;
};
/* A datagram from a socket of its own (random port, connected), sent again after 1 s and 2 s. */
struct net_exchange *net_exchange_udp(struct net_base *b, const struct net_plan *p);
/* A connection of its own; 4 bytes of length before the message, both ways (RFC 4120 7.2.2). */
struct net_exchange *net_exchange_tcp(struct net_base *b, const struct net_plan *p);

/* ---- HTTPS: POST, Content-Length both ways, connections kept and TLS sessions resumed per client object
 * ---- */

struct net_web_client;
struct net_web_settings {
    const char *ca_file;          /* NULL: the system's */
    const char *certificate_file; /* of ours, with its key behind it; NULL: none */
    const char *proxy;            /* "http://host:port": CONNECT through it; NULL: none */
    uint32_t kept;                /* idle connections kept to one place; 0: 4 */
    uint32_t idle_s;              /* for how long; 0: 30 */
};
/* Reads the files now: before a sandbox. */
struct net_web_client *net_web_client_new(struct net_base *b, const struct net_web_settings *s,
                                          struct sp_err *e);
void net_web_client_free(struct net_web_client *c); /* its exchanges have ended or were cancelled */
struct net_post {
    struct net_plan plan; /* to: the server's, or the proxy's */
    const char *host;     /* SNI, certificate, Host */
    uint16_t port;
    const char *path;
    const char *type;          /* Content-Type both ways; another type in the reply is GARBLED */
    const char *authorization; /* value of that header, or NULL */
    bool tls;                  /* false: plain HTTP, for tests and for a proxy in front */
};
struct net_exchange *net_exchange_post(struct net_web_client *c, const struct net_post *p);

/* `done` will not be called any more. */
void net_exchange_cancel(struct net_exchange *x);

#endif
