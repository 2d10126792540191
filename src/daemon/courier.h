/* SPDX-License-Identifier: MIT */
/* The courier: takes Kerberos requests from acceptors on this host (run/sallyport/courier.sock), looks
 * whether they are what they should be, and asks a KDC worker. It holds no key. One thread; this header is
 * what its parts share. */
#ifndef SP_DAEMON_COURIER_H
#define SP_DAEMON_COURIER_H

#include "daemon/channel.h"
#include "daemon/record.h"
#include "daemon/source.h"
#include "net/framing.h"
#include "net/loop.h"

#define COURIER_PER_UID 64       /* connections of one user: one for each context that is being made */
#define COURIER_PER_SOURCE 16    /* connections for one client, where its service names it and is believed */
#define COURIER_PENDING_MAX 32   /* requests of one connection that wait for their answers */
#define COURIER_UID_ASKS_MAX 256 /* and of one user */
#define COURIER_ASKS_MAX 4096    /* and in all */
#define COURIER_HELD_MAX (8u << 20)  /* bytes of half-read frames, and again of requests under way */
#define COURIER_OUT_MAX (256u << 10) /* answers that a reader has not taken: beyond, it goes */
#define COURIER_ASK_US 4500000       /* an acceptor waits 5 s and hears of the silence before */
#define COURIER_RETRY_US 1000000     /* a worker that is silent for so long is stuck: another is asked */
#define COURIER_STALL_US 5000000     /* for the rest of a frame, for taking an answer */
#define COURIER_IDLE_US 60000000
#define COURIER_LINK_ASKS_MAX 64 /* requests that one worker has at once: its channel takes them all */
#define COURIER_ARENA (512u << 10)

struct courier;

struct courier_peer { /* one user */
    struct courier_peer *next;
    uint32_t uid;
    uint32_t connections, asks;
};

struct courier_stream { /* one acceptor's connection */
    struct net_watch watch;
    struct courier_stream *older, *newer; /* by when it was last heard */
    struct courier *courier;
    struct courier_peer *peer;
    struct net_stash in, out;
    uint32_t asks;
    uint8_t address[16];        /* of the client */
    uint8_t address_n;          /* 0: it is not named */
    int64_t heard_us, moved_us; /* last whole frame; last progress of a frame or of an answer */
    bool ended;                 /* the acceptor sends no more; what it asked is answered */
};

struct courier_waiting { /* a request under way */
    struct courier_waiting *older, *newer;
    struct courier_stream *stream; /* NULL: gone */
    struct courier_peer *peer;
    uint32_t id; /* the acceptor's */
    uint32_t slot;
    uint32_t tries;
    uint32_t worker; /* that has it; COURIER_NOBODY: not sent yet */
    int64_t began_us, sent_us;
    size_t n;
    _Alignas(16) uint8_t wire[]; /* struct courier_ask and the message */
};
#define COURIER_NOBODY UINT32_MAX

struct courier_list {
    struct courier_waiting *oldest, *newest;
};

struct courier_link { /* to one worker */
    struct net_watch watch;
    struct courier *courier;
    uint32_t worker, asks;
    bool open, leaving;
    bool silent; /* it left a request unanswered, and has said nothing since */
};

struct courier {
    struct net_loop loop;
    struct net_watch channel, door;
    bool door_open, ready, stopping;
    uint32_t door_id;
    struct courier_config config;
    struct sp_span alias_spans[CHANNEL_ALIASES_MAX];
    struct krb_realm realm;
    struct sp_arena mem;
    struct record_writer records;
    struct courier_stream *oldest, *newest;
    uint32_t stream_count;
    size_t stashed, asked; /* bytes */
    struct courier_peer *peers;
    struct courier_list unsent, sent;
    struct courier_waiting *asks[COURIER_ASKS_MAX];
    uint64_t serials[COURIER_ASKS_MAX]; /* of what has the slot now */
    uint32_t ask_count;
    uint64_t serial;
    struct courier_link links[WORKERS_MAX];
    uint32_t link_end; /* no link at or behind it */
    uint8_t scratch[COURIER_LINK_MAX];
};

/* The process; never returns. */
_Noreturn void courier_main(void);

/* ---- courier_door.c: connections of acceptors ---- */
void courier_accept(struct net_watch *door, uint32_t events);
/* A frame to an acceptor; the connection may be gone afterwards. */
void courier_send(struct courier_stream *s, const struct courier_frame *f);
void courier_refuse(struct courier_stream *s, uint32_t id, int32_t code, const char *text);
/* Goes on with what waited until there was room for another request. */
void courier_resume(struct courier_stream *s);
/* Whose context the connection is for. False: that client has its share, and all of it waits for answers. */
SP_MUST bool courier_name_client(struct courier_stream *s, struct sp_span address);
void courier_expire_streams(struct courier *c, int64_t mono_us);
void courier_close(struct courier_stream *s);
/* Nothing waits to be written. */
bool courier_is_flushed(const struct courier *c);
void courier_drop_peer(struct courier *c, struct courier_peer *p); /* if nothing of it is left */

/* ---- courier_ask.c: requests under way ---- */
void courier_carry(struct courier_stream *s, const struct courier_frame *f);
/* The connection is gone, and nobody waits for its answers. */
void courier_forget(struct courier_stream *s);
void courier_expire_asks(struct courier *c, int64_t mono_us);
int64_t courier_asks_due_us(const struct courier *c); /* on the monotonic clock; -1: nothing waits */
void courier_open_link(struct courier *c, uint32_t worker, int fd);
void courier_leave_link(struct courier *c, uint32_t worker);
/* A refusal of ours, as a record. */
struct courier_refusal {
    const char *event;
    int32_t code;
    const char *text;
    struct sp_span acceptor, client, service;
};
void courier_record(struct courier *c, const struct kdc_source *source, const struct courier_refusal *r);
/* Who asks, for the engine: decision 59. */
void courier_source(const struct courier *c, uint32_t uid, struct sp_span address, struct kdc_source *out);

#endif
