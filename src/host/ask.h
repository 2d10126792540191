/* SPDX-License-Identifier: MIT */
/* Asking the courier, from plugins and commands: one connection to run/sallyport/courier.sock, made when it
 * is first needed. Waits, but never longer than it is told; no lock, no signal, no thread. */
#ifndef SP_HOST_ASK_H
#define SP_HOST_ASK_H

#include <sys/types.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"

#define HOST_ASK_MS_MAX 5000 /* decision 27; longer is cut to this */

/* One for each context, used by one thread at a time. The descriptor is close-on-exec; after a fork the child
 * drops it and connects anew. */
struct host_courier {
    int fd;        /* -1: not connected */
    pid_t owner;   /* who connected */
    uint32_t last; /* id */
    /* Where the client is, if the service knows: 4 or 16 bytes. Counts only where [courier] attest names the
     * uid of this process. */
    uint8_t address[16];
    uint8_t address_n; /* 0: not known */
};
void host_courier_init(struct host_courier *h);
void host_courier_close(struct host_courier *h);

/* Has one whole AS-REQ or TGS-REQ answered by a KDC of that realm (empty, ".": the local one). `service` is
 * the acceptor's name for the record, "HTTP/nas1"; may be empty. *reply lies in mem, a KRB-ERROR without
 * e-text among what it can be. SP_EREFUSED: the courier says no, proto is its code (85: no way to that realm;
 * 86: the KDC is silent; 40, 61: no such request is carried). SP_EBACKEND with proto 86: no courier there, or
 * no answer in time. SP_ENOMEM. */
SP_MUST bool host_ask(struct host_courier *h, struct sp_span realm, struct sp_span message,
                      struct sp_span service, int timeout_ms, struct sp_arena *mem, struct sp_span *reply,
                      struct sp_err *e);

/* How a context ended, for the daemon's records. Where no connection is open, as in contexts that carried
 * nothing, nothing is said; it never waits. */
struct host_note {
    const struct sp_err *why; /* NULL: accepted */
    bool no_finished;         /* accepted, though nothing covers the messages that were carried */
    struct sp_span client, service;
};
void host_note(struct host_courier *h, const struct host_note *n, struct sp_arena *mem);

/* The local realm, and what its administrator wants acceptors to do ([iakerb]). Spans lie in mem. */
struct host_realm {
    struct sp_span name;
    struct sp_spans aliases;
    struct sp_spans others; /* realms that clients may ask for besides */
    bool old_mit;           /* take the dialect of MIT 1.9 to 1.21 */
    bool finished_required;
};
SP_MUST bool host_hello(struct host_courier *h, int timeout_ms, struct sp_arena *mem, struct host_realm *out,
                        struct sp_err *e);

#endif
