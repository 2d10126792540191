/* SPDX-License-Identifier: MIT */
/* What the three kinds of exchange have in common; for the files of this room. */
#ifndef SP_NET_EXCHANGE_OWN_H
#define SP_NET_EXCHANGE_OWN_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "net/exchange.h"
#include "net/http.h"

#define NET_EXCHANGE_TEXT 160

/* First member of each kind's own struct, on the heap. */
struct net_exchange {
    struct net_base *base;
    struct net_plan plan; /* without its bytes: each kind keeps them as it sends them */
    int64_t began_us;
    int32_t status;
    struct event timer; /* the time is up; or an end that must not be told from within */
    enum net_exchange_end soon;
    char text[NET_EXCHANGE_TEXT];
    void (*drop)(struct net_exchange *x); /* lets go of what the kind holds; x itself is freed behind it */
};

/* Sets the timer for plan->until_us. */
void net_exchange_begin(struct net_exchange *x, struct net_base *b, const struct net_plan *p,
                        void (*drop)(struct net_exchange *x));
/* Calls done and frees x. Only from an event; bytes may lie in what x holds. */
void net_exchange_end(struct net_exchange *x, enum net_exchange_end end, struct sp_span bytes,
                      const char *text);
/* The same from the next turn on. */
void net_exchange_end_soon(struct net_exchange *x, enum net_exchange_end end, const char *text);
/* A socket that connects to a; -1 with errno. */
int net_exchange_connect(const struct net_address *a, int type);
/* Why a connection that became writable is none; 0: it is one. */
int net_exchange_connect_error(int fd);

/* net/post.c, for what is no POST: the request as it is, on a connection that nothing else uses. `headed`
 * gets the final head and ends the exchange; a body is not read. w says where to. */
typedef void net_exchange_headed(struct net_exchange *x, const struct net_http_head *h);
struct net_exchange *net_exchange_head(struct net_web_client *c, const struct net_post *w,
                                       struct sp_span request, net_exchange_headed *headed);

#endif
