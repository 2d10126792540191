/* SPDX-License-Identifier: MIT */
/* Names to addresses, SRV (RFC 2782) and URI (RFC 7553) records, without blocking, by c-ares. */
#ifndef SP_NET_RESOLVER_H
#define SP_NET_RESOLVER_H

#include "net/address.h"
#include "net/base.h"

struct net_resolver;
/* Reads resolv.conf and hosts now: before a sandbox. Names are looked up as they are, without the search
 * list. servers: "1.2.3.4:53,..." instead, for tests; NULL: the system's. */
struct net_resolver *net_resolver_new(struct net_base *b, const char *servers, struct sp_err *e);
void net_resolver_free(struct net_resolver *r); /* what is under way is not told any more */

#define NET_FOUND_MAX 16
struct net_found {
    bool failed; /* no answer, or a broken one; a name that is not there: count 0 */
    const char *text;
    uint32_t count;
    struct net_found_record {
        char host[256];   /* SRV */
        char target[512]; /* URI */
        uint16_t port, priority, weight;
        struct net_address address; /* of an address look-up, without a port */
    } record[NET_FOUND_MAX];
};
typedef void net_found_done(void *owner, const struct net_found *f);
enum net_lookup { NET_LOOKUP_ADDRESS, NET_LOOKUP_SRV, NET_LOOKUP_URI };
struct net_query;
/* done is called once, never from within; NULL when there is no memory. */
struct net_query *net_resolve(struct net_resolver *r, enum net_lookup what, const char *name,
                              net_found_done *done, void *owner);
void net_query_cancel(struct net_query *q);

/* Tells when an address, a route or a link changed (rtnetlink), at most once in 250 ms. */
struct net_changes;
struct net_changes *net_changes_new(struct net_base *b, void (*changed)(void *owner), void *owner,
                                    struct sp_err *e);
void net_changes_free(struct net_changes *c);

#endif
