/* SPDX-License-Identifier: MIT */
/* The HTTPS door: HTTP/1.1 and 1.0 requests with Content-Length bodies, TLS 1.2 and 1.3 by libevent and
 * OpenSSL, plain HTTP where a proxy stands in front. Strict reading (decision 30, limits of P45). Who asks is
 * told by whole requests; the answer may come later. The process ignores SIGPIPE. */
#ifndef SP_NET_WEB_H
#define SP_NET_WEB_H

#include "net/address.h"
#include "net/base.h"

struct net_web_limits {     /* 0: the default, in brackets */
    uint32_t connections;   /* in all [4096]; beyond, the one idle for longest goes */
    uint32_t per_source;    /* [64] */
    uint32_t requests_kept; /* on one connection [1000] */
    size_t head_max;        /* [8 KiB] */
    size_t body_max;        /* [128 KiB] */
    uint32_t handshake_s;   /* [5] */
    uint32_t head_s;        /* from the first byte of a request to the end of its body [10] */
    uint32_t idle_s;        /* between requests [30] */
    uint32_t all_s;         /* for a request with its answer [15] */
    bool gets;              /* GET, too, without a body [no] */
    size_t buffered_max;    /* bytes of requests that are being read or answered, of all [32 MiB] */
};

struct net_web_tls;
/* PEM text: a certificate chain, and its key (in the same text or in another file's). client_ca: NULL, or
 * whose certificates clients may show (asked for, not demanded). Session tickets on, early data off,
 * compression off, TLS 1.2 at least. SP_EINPUT says what is wrong with which. */
struct net_web_tls *net_web_tls_new(struct sp_span certificate, struct sp_span key, struct sp_span client_ca,
                                    struct sp_err *e);
/* Whether the certificate is for that name or address (RFC 6125, as clients look at it). */
bool net_web_tls_is_for(const struct net_web_tls *t, const char *host);
void net_web_tls_free(struct net_web_tls *t); /* when the last connection that began with it has ended */

struct net_web_connection;
struct net_web_request {
    struct net_web_connection *from;
    struct sp_span method, path, host, type, authorization; /* authorization: the header's value */
    struct sp_span body;
    struct net_address peer; /* or what a trusted proxy forwarded */
    bool tls;
    struct sp_span client_certificate; /* the subject as RFC 4514 text; empty: none was shown and verified */
    struct sp_span exporter;           /* 32 bytes of RFC 9266 tls-exporter; empty without TLS */
    struct sp_span end_point;          /* hash of our certificate, RFC 5929 tls-server-end-point */
    void **state;                      /* the caller's, of this connection, NULL at first */
};

struct net_web;
struct net_web_handler {
    /* A whole request. It is answered by net_web_answer, now or later; one at a time on a connection. Spans
     * are good until then. */
    void (*request)(void *owner, const struct net_web_request *r);
    /* The connection is gone: a request of it that waits must not be answered any more; frees *state. */
    void (*gone)(void *owner, struct net_web_connection *c, void *state);
    /* What was refused without a request: status (0: nothing was answered), why, from where. For the records.
     */
    void (*refused)(void *owner, const struct net_address *peer, int status, const char *why);
    void *owner;
};
struct net_web *net_web_new(struct net_base *b, const struct net_web_limits *l,
                            const struct net_web_handler *h, struct sp_err *e);
/* Listening descriptors are the caller's; several, with TLS (t) or plain (NULL). trusted_proxies: addresses
 * whose Forwarded (RFC 7239) or X-Forwarded-For is believed, one hop. */
SP_MUST bool net_web_add(struct net_web *w, int fd, struct net_web_tls *t,
                         const struct net_address *trusted_proxies, uint32_t trusted_count, struct sp_err *e);
/* For new connections of all TLS doors: a certificate that was renewed. */
void net_web_use_tls(struct net_web *w, struct net_web_tls *t);
void net_web_remove(struct net_web *w, int fd);
struct net_web_reply {
    int status;
    const char *type; /* NULL: no body */
    struct sp_span body;
    const char *authenticate; /* value of WWW-Authenticate, or NULL */
    const char *allow;        /* of Allow, with 405 */
    bool close;
};
void net_web_answer(struct net_web_connection *c, const struct net_web_reply *r);
/* Nothing new; ends when what is under way is answered, or at once. */
void net_web_stop(struct net_web *w);
bool net_web_is_idle(const struct net_web *w);
void net_web_free(struct net_web *w);

#endif
