/* SPDX-License-Identifier: MIT */
/* Looking at the certificate that a server shows, good or bad: what is wrong with it is wanted, not a
 * refusal. Nothing but the handshake is sent. Does not block; lives on a loop. */
#ifndef SP_HOST_CERTIFICATE_H
#define SP_HOST_CERTIFICATE_H

#include "net/address.h"
#include "net/loop.h"

struct host_certificate {
    bool seen;                /* there was a handshake, and a certificate in it */
    char trouble[160];        /* why not; empty when seen */
    char untrusted[120];      /* why nobody vouches for it, apart from its times; empty: it is trusted */
    bool named;               /* it is for the host that was asked for */
    char names[512];          /* whom it is for, with blanks between */
    char issuer[256];         /* RFC 4514 text */
    int64_t begins_s, ends_s; /* of the one in the chain that ends first; seconds since 1970 */
    char ends_first[256];     /* whose that is */
    char protocol[16];
};

struct host_look;
typedef void host_looked(void *owner, const struct host_certificate *c);
struct host_look_at {
    struct net_address to;
    const char *host;  /* a name or an address; borrowed until the end */
    const char *ca;    /* file of authorities; NULL: the system's */
    host_looked *done; /* called once, never from within host_look_begin */
    void *owner;
};
/* NULL: no memory, or no loop. */
struct host_look *host_look_begin(struct net_loop *l, const struct host_look_at *at);
void host_look_end(struct host_look *k); /* done is not called any more; NULL allowed */

#endif
