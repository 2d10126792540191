/* SPDX-License-Identifier: MIT */
/* The HTTPS client's connections: kept with the place they lead to while they are open and nobody uses them,
 * and so is the last TLS session of a place. For the files of this room. */
#ifndef SP_NET_LINE_H
#define SP_NET_LINE_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "net/exchange.h"
#include "net/stream.h"

struct line; /* a connection */

struct place {
    struct place *next;
    struct net_address to;
    char host[256];
    uint16_t port;
    bool tls;
    uint32_t users, idle_count; /* lines in use, lines that wait */
    struct line *idle;          /* the last used first */
    SSL_SESSION *session;
};

struct net_web_client {
    struct net_base *base;
    SSL_CTX *ctx;
    bool proxy;
    uint32_t kept, idle_s;
    uint32_t place_count;
    struct place *places; /* the last used first */
};

struct line {
    struct line *next;
    struct net_web_client *client;
    struct place *place;
    struct net_stream stream;
    struct event io;
    short what; /* it is watched for; events change seldom, and each change is a system call */
    void (*run)(void *post);
    void *post; /* whose turn it is; NULL: it waits */
    bool used;  /* it carried an exchange before */
};

/* The place that w leads to, and one user more of it (users-- gives it back); NULL without memory. */
struct place *net_find_place(struct net_web_client *c, const struct net_post *w);
/* A connection that is about to be: tells when it can be written. 0, or errno. run and post are the caller's
 * to set. */
int net_open_line(struct net_web_client *c, struct place *p, struct line **out);
/* One that waits; NULL: there is none. */
struct line *net_take_line(struct place *p, void (*run)(void *post), void *post);
/* To wait for the next user, or to end if there are enough. */
void net_keep_line(struct line *l);
void net_close_line(struct line *l);
void net_watch_line(struct line *l, short what);
/* The handshake may begin, with the place's name to be checked and its last session. */
SP_MUST bool net_begin_line_tls(struct line *l);
/* X509_V_ERR_... for people. */
const char *net_text_certificate(long why);

#endif
