/* SPDX-License-Identifier: MIT */
/* A KDC worker: sockets and keys, no files (design section 4). One thread; this header is what its parts
 * share. */
#ifndef SP_DAEMON_WORKER_H
#define SP_DAEMON_WORKER_H

#include "daemon/activity.h"
#include "daemon/channel.h"
#include "daemon/record.h"
#include "daemon/source.h"
#include "net/framing.h"
#include "net/listen.h"
#include "net/loop.h"
#include "net/owner.h"

#define DOORS_MAX (4 * ADMIN_LISTEN_MAX + 1)
#define PENDING_MAX 64 /* password changes under way, per worker */
#define UDP_BATCH 16
#define UDP_MESSAGE_MAX 65536
#define STASH_TOTAL_MAX (24u << 20) /* half-read requests of all connections together */

struct worker;

struct door {
    bool open;
    struct channel_door info;
    struct net_address bound;
    struct net_watch watch;
    struct worker *worker;
};

struct stream;
struct pending_change { /* a password change that the keeper works on (decision 7) */
    bool used;
    uint64_t serial;
    struct kdc_change change;
    struct record_facts facts;
    struct kdc_record record;
    char client[300], service[300], source[64];
    int64_t began_us;
    struct stream *stream; /* NULL: UDP, or the connection is gone */
    bool gone;             /* nobody waits any more */
    int udp_fd;
    struct net_address from;
    uint8_t control[64];
    size_t control_n;
};

struct worker {
    struct net_loop loop;
    struct net_watch channel;
    struct net_watch courier; /* the pair to it; ready NULL: there is none */
    struct channel_setup *setup;
    struct channel_config *config; /* in force; replaced as a whole between steps */
    struct kdc kdc;
    struct sp_rng *rng;
    struct net_owner owner;
    struct lmdb_store *store;
    struct sp_arena mem;
    struct kdc_actions
        did; /* of the request at hand: an error reply lies inside, so it outlives serve_request */
    struct tally *tally; /* of all workers together */
    struct record_writer records;
    struct activity activity;
    int64_t activity_due_us;
    struct door doors[DOORS_MAX];
    struct pending_change pending[PENDING_MAX];
    uint64_t pending_serial;
    struct udp_batch *udp;
    struct streams *streams;
    bool started, stopping;
};

/* The process; never returns. c: a backend that is ready; NULL: makes one. */
_Noreturn void worker_main(struct crypto *c);

/* ---- serve.c: one request, whatever door it came through ---- */
struct serve_answer {
    struct sp_span reply;           /* in the arena, until serve_done */
    struct pending_change *pending; /* not NULL: the reply comes later; fill in where it goes */
};
void serve_request(struct worker *w, enum door_service service, const struct kdc_request *req,
                   struct serve_answer *out);
/* The same, from the courier. */
void serve_carried(struct worker *w, const struct kdc_request *req, const struct courier_ask *ask,
                   struct serve_answer *out);
void serve_done(struct worker *w); /* forgets the request */
/* The answer to a length that cannot be right (T017): KRB_ERR_FIELD_TOOLONG, recorded. In the arena. */
struct sp_span serve_too_long(struct worker *w, const struct kdc_source *from, enum kdc_door door);
/* The keeper's verdict on a pending change arrived. */
void serve_verdict(struct worker *w, const struct channel_verdict *v);

/* ---- udp.c ---- */
struct udp_batch *udp_new(void);
void udp_ready(struct net_watch *door, uint32_t events);
void udp_answer_later(const struct pending_change *p, struct sp_span reply);

/* ---- stream.c: TCP and UNIX ---- */
struct streams *streams_new(struct sp_rng *rng);
void streams_accept(struct net_watch *door, uint32_t events);
void streams_expire(struct worker *w, int64_t mono_us);
/* Another worker asks: the oldest of a source (0: of all), if there still are too many. */
void streams_give_up(struct worker *w, uint64_t source);
int64_t streams_due_us(const struct worker *w, int64_t mono_us); /* -1: nothing waits */
void stream_answer_later(struct stream *s, struct sp_span reply);

/* ---- courier_link.c: what the courier hands on ---- */
void courier_link_open(struct worker *w, int fd);
void courier_link_close(struct worker *w);

/* ---- verify.c: whether a client of the relay is who it says ---- */
/* The answer, a courier_verdict and a token, in w->mem; empty: no memory. */
struct sp_span verify_conversation(struct worker *w, struct sp_span question);

/* ---- source.c ---- */
/* On loopback the source is the uid that owns the client's socket (decision 59). The kernel is asked when a
 * try is about to be counted: once for a connection, once in SOURCE_KEPT_US for datagrams from one address,
 * so that a client with many requests costs a few questions a second, not one a request.
 *
 * Meanwhile the port may pass to another uid, whose tries are counted as the first one's: for a tenth of a
 * second, and at no more than the few ports that are remembered, of some 28,000 among which the kernel
 * chooses at random. Nobody gets a second budget that way but by taking over a port at once after its owner
 * tried a password; and who is refused because of it, sends again a second later, as every client does. */
#define SOURCE_KEPT_US 100000
struct source_finder {
    struct worker *worker;
    int stream_fd;                /* -1: a datagram, and both addresses are there */
    struct net_address peer, own; /* of a stream: filled when they are needed */
    struct kdc_source source;     /* what the door saw */
    bool asked, known;            /* known: found is a uid */
    int64_t found_us;
    struct kdc_source found;
};
/* For a request of a loopback source. */
void source_look_closer(struct kdc_request *req, struct source_finder *f);
/* For records: as exact as it is known by now. */
const char *source_text(const struct kdc_request *req);

#endif
