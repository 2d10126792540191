/* SPDX-License-Identifier: MIT */
/* The courier: takes Kerberos requests from acceptors on this host (run/sallyport/courier.sock), from
 * unmodified programs (loopback doors) and from elsewhere (the relay's HTTPS door), and gets each through by
 * the way that courier/ladder.h says: a KDC, a relay, or a worker of this machine's own KDC. It holds no
 * Kerberos key. One thread; this header is what its parts share. */
#ifndef SP_DAEMON_COURIER_H
#define SP_DAEMON_COURIER_H

#include "courier/ladder.h"
#include "daemon/channel.h"
#include "daemon/record.h"
#include "daemon/source.h"
#include "net/exchange.h"
#include "net/framing.h"
#include "net/owner.h"
#include "net/resolver.h"
#include "net/web.h"

#define COURIER_PER_UID 64       /* connections of one user: one for each context that is being made */
#define COURIER_PER_SOURCE 16    /* connections for one client, where its service names it and is believed */
#define COURIER_PENDING_MAX 32   /* requests of one connection that wait for their answers */
#define COURIER_UID_ASKS_MAX 256 /* and of one user */
#define COURIER_ASKS_MAX 4096    /* and in all */
#define COURIER_HELD_MAX (8u << 20)  /* bytes of half-read frames, and again of requests with workers */
#define COURIER_OUT_MAX (256u << 10) /* answers that a reader has not taken: beyond, it goes */
#define COURIER_RETRY_US 400000      /* a worker that is silent for so long is stuck: another is asked */
#define COURIER_STALL_US 5000000     /* for the rest of a frame, for taking an answer */
#define COURIER_IDLE_US 60000000
#define COURIER_LINK_ASKS_MAX 64 /* requests that one worker has at once: its channel takes them all */
#define COURIER_ARENA (768u << 10)
#define COURIER_GATES_MAX 512
#define COURIER_NAME_MAX 160 /* of a principal, in records */

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

struct courier_gate { /* a listening socket that the keeper gave */
    struct courier *courier;
    struct net_watch watch;
    struct net_address bound;
    uint32_t id;
    enum door_kind kind;
    bool open;
};

/* ---- courier_ask.c: requests, whichever door they came through ---- */

struct courier_end { /* of a request */
    bool answered;
    struct sp_span reply;
    int32_t code; /* of the refusal */
    bool garbled, limited;
    const char *text; /* for people; one reason for every rung */
};

struct courier_request {
    struct courier *courier;
    uint64_t tag;
    enum ladder_door door;
    struct kdc_source source;
    int64_t began_us;
    const char *event; /* of the record: "as", "tgs", "kpasswd" */
    char realm[64];    /* configured name, for counting; empty: none */
    char client[COURIER_NAME_MAX], service[COURIER_NAME_MAX];
    char acceptor[128], transport[8]; /* as an acceptor says */
    char note[64];                    /* before the reasons in the record */
    bool kpasswd;
    /* Tells the door; the request is gone when it returns. Nothing of the door may be used by the caller. */
    void (*done)(struct courier_request *r, const struct courier_end *end);
    /* the door's */
    void *owner;
    void *guest; /* relay: of the connection */
    uint32_t id;
    struct courier_peer *peer;
    struct net_address from;    /* UDP */
    char error_realm_text[256]; /* that the request names, for a KRB-ERROR */
};

/* Zeroed, with a tag; NULL: there are too many. */
struct courier_request *courier_new_request(struct courier *c, enum ladder_door door);
struct courier_question {
    struct sp_span realm, message;
    bool prefer_primary, armoured_only;
};
/* Takes the request over when it says true: `done` is called later, never from within. False: it is still the
 * caller's, who refuses (courier_refused) and drops it. */
SP_MUST bool courier_put(struct courier_request *r, const struct courier_question *q, struct sp_err *e);
void courier_refused(struct courier_request *r, const struct sp_err *e); /* the record of it */
void courier_drop_request(struct courier_request *r);
/* Nobody waits for its answer any more. */
void courier_leave(struct courier_request *r);
struct courier_request *courier_find_request(const struct courier *c, uint64_t tag);
/* Does what the ladder says until it says nothing more: at the end of every turn of the loop. */
void courier_climb(struct courier *c);
/* Who asks, for the engine: decision 59. */
void courier_source(const struct courier *c, uint32_t uid, struct sp_span address, struct kdc_source *out);
/* Whether that user's word counts about where a client is. */
bool courier_attests(const struct courier_config *g, uint32_t uid);
/* A refusal that is about no request, as a record. */
void courier_note(struct courier *c, const struct kdc_source *source, const char *event, int32_t code,
                  const char *text);
/* The same of a door, where nothing of Kerberos was seen; source: NULL where there is none. */
void courier_note_door(struct courier *c, enum ladder_door door, const struct kdc_source *source,
                       const char *text);
/* The KDC's words for people stay here (P44). False: it is no KRB-ERROR that can be read. */
bool courier_without_text(struct courier *c, struct sp_span *message);
/* KRB-ERROR in c->mem; empty when there is no memory. */
struct sp_span courier_make_error(struct courier *c, const struct courier_request *r, int32_t code,
                                  const char *text);
const char *courier_door_name(enum ladder_door d);

/* ---- courier_try.c: tries by the network, look-ups ---- */
bool courier_start_routes(struct courier *c, struct sp_err *e); /* before the sandbox closes */
void courier_try(struct courier *c, const struct ladder_action *a);
void courier_cancel(struct courier *c, uint32_t try_id);
void courier_look_up(struct courier *c, const struct ladder_action *a);
void courier_told(struct courier *c, uint32_t try_id, enum ladder_end end, struct sp_span bytes,
                  const char *text, int64_t took_us);

/* ---- courier_worker.c: tries by a worker of this machine's own KDC ---- */
void courier_ask_worker(struct courier *c, const struct ladder_action *a);
bool courier_cancel_worker(struct courier *c, uint32_t try_id);
/* The worker's answer; empty: none came. */
typedef void courier_judged(void *owner, struct sp_span verdict);
/* question: a courier_verify and what was said. `judged` is called once, later, unless it is cancelled; NULL:
 * there are too many. */
struct courier_waiting *courier_ask_verdict(struct courier *c, struct sp_span question,
                                            courier_judged *judged, void *owner);
void courier_cancel_verdict(struct courier *c, struct courier_waiting *a);
void courier_open_link(struct courier *c, uint32_t worker, int fd);
void courier_leave_link(struct courier *c, uint32_t worker);
/* Gives what a silent worker has to another; due: when to look again, -1: nothing waits. */
void courier_expire_workers(struct courier *c, int64_t mono_us);
int64_t courier_workers_due_us(const struct courier *c);

struct courier_waiting { /* a request with a worker, or waiting for one */
    struct courier_waiting *older, *newer;
    courier_judged *judged; /* a question about a conversation; NULL: a try */
    void *owner;
    uint32_t try_id;
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

/* ---- courier_loopback.c: doors for unmodified programs ---- */
void courier_loopback_udp(struct net_watch *door, uint32_t events);
void courier_loopback_tcp(struct net_watch *door, uint32_t events);
void courier_expire_loopback(struct courier *c, int64_t mono_us);

/* ---- courier_relay.c: the HTTPS door ---- */
bool courier_start_relay(struct courier *c, struct sp_err *e);
void courier_use_certificate(struct courier *c, struct sp_span chain, struct sp_span key,
                             struct sp_span client_ca);
void courier_forgive(struct courier *c); /* how many were asked counted by another rate */
bool courier_open_relay(struct courier_gate *g, struct sp_err *e);
void courier_close_relay(struct courier_gate *g);

/* ---- courier_negotiate.c: clients of the relay that show who they are by HTTP Negotiate ---- */
struct courier_negotiation; /* of one connection */
/* Whether this request carries a token of Negotiate, over TLS. */
bool courier_shows_token(const struct net_web_request *w);
/* Takes the token, and answers the request, now or later; but where the client has proven itself with it and
 * asked something beside, `go_on` does, with the word that ends the negotiation. */
typedef void courier_proven(struct courier *c, const struct net_web_request *w, const char *authenticate);
void courier_negotiate(struct courier *c, struct courier_negotiation **n, const struct net_web_request *w,
                       courier_proven *go_on);
/* Who it is, as long as that is good; NULL: nobody yet, or no more. */
const char *courier_proven_client(const struct courier_negotiation *n);
void courier_end_negotiation(struct courier_negotiation *n); /* NULL allowed */

/* ---- courier_count.c: metrics and health ---- */
struct courier_counts;
bool courier_start_counts(struct courier *c, struct sp_err *e);
struct courier_counted {
    const char *door, *route, *realm, *result;
    int64_t took_us;
};
void courier_count(struct courier *c, const struct courier_counted *what);
void courier_metrics(struct net_watch *door, uint32_t events);
void courier_expire_metrics(struct courier *c, int64_t mono_us);
void courier_tell_health(struct courier *c);

/* A ladder's address for an exchange. */
void courier_put_address(const struct ladder_address *from, uint16_t port, struct net_address *out);

/* ---- courier_inband.c: tries by IAKERB through a server's own port ---- */
void courier_try_inband(struct courier *c, const struct ladder_action *a);
bool courier_cancel_inband(struct courier *c, uint32_t try_id); /* false: none of its own */
/* In a list of [client]: hosts, "*" for all. */
bool courier_names_host(const char *list, struct sp_span host);

struct courier_realms { /* of one configuration */
    struct admin_realm *v;
    uint32_t count;
    struct ladder_realm *ladder;
    uint32_t ladder_count;
    struct ladder_target *targets;
    struct sp_span *aliases;
};

struct courier {
    struct net_loop loop;
    struct net_base *base;
    struct net_watch channel;
    bool ready, stopping;
    int64_t swept_us; /* when connections were looked through last */
    bool more_said;   /* that fields of MS-KKDCP are ignored */
    struct courier_config config;
    struct sp_span alias_spans[CHANNEL_ALIASES_MAX];
    struct krb_realm realm;
    struct courier_realms realms;
    struct sp_arena mem;
    struct record_writer records;
    struct courier_gate gates[COURIER_GATES_MAX]; /* by the keeper's number */

    struct ladder *ladder;
    struct sp_rng *rng;
    struct courier_request *requests[COURIER_ASKS_MAX];
    uint32_t request_count;
    uint64_t request_serial;
    struct courier_try *tries[256]; /* by id */
    struct courier_inband *inband;  /* tries */
    struct courier_lookup *lookups;
    struct net_resolver *resolver;
    struct net_changes *changes;
    struct net_web_client *client;
    struct net_address proxy;    /* n 0: none, or its name is not known yet */
    struct net_address proxy_as; /* its port, while it is looked up */
    struct net_owner owner;

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

    struct courier_caller *callers; /* TCP connections on loopback */
    uint32_t caller_count;
    struct net_web *web;
    struct net_web_tls *tls;
    struct crypto *crypto;     /* for contexts that it has no key of */
    uint32_t negotiations;     /* under way */
    struct courier_open *open; /* what sources that showed nothing asked lately */
    struct courier_counts *counts;
    struct courier_reader *readers; /* of metrics */
    uint32_t reader_count;
    uint8_t scratch[COURIER_LINK_MAX];
};

/* The process; never returns. */
_Noreturn void courier_main(void);
/* The configuration holds something that cannot be used: at the start that is the end, later the keeper says
 * so, and what was there before stays. */
void courier_complain(const struct courier *c, const char *what, const struct sp_err *e);
/* The realm of the configuration that the ladder's number means; NULL: this machine's own, which has no
 * section. */
const struct admin_realm *courier_realm_at(const struct courier *c, uint32_t realm);

#endif
