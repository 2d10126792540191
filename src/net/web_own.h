/* SPDX-License-Identifier: MIT */
/* What the files of the HTTPS door know of one another. */
#ifndef SP_NET_WEB_OWN_H
#define SP_NET_WEB_OWN_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "net/http_request.h"
#include "net/stream.h"
#include "net/web.h"

#define WEB_BUFFER 4096          /* a request of the usual size; what is longer grows from there */
#define WEB_BUFFERS_KEPT 64      /* unused ones */
#define WEB_LINGER_S 2           /* for a refused peer to read why */
#define WEB_LINGER_MAX (1 << 20) /* bytes of it that are thrown away meanwhile */
#define WEB_SUBJECT_MAX 1024
#define WEB_TICK_US 250000 /* how exact a deadline is */

/* ---- TLS ---- */

/* Keys of session tickets: they belong to the door, so that a session outlives a renewed certificate. */
struct web_ticket_key {
    uint8_t name[16], cipher[32], mac[32];
    int64_t born_us; /* 0: none */
};
struct web_tickets {
    struct web_ticket_key key[2]; /* this one, and the one before */
};

struct net_web_tls {
    SSL_CTX *ctx;
    struct web_tickets *tickets; /* of the door that uses it; NULL: no tickets yet */
    uint32_t users;              /* doors and connections */
    bool unowned;                /* freed by its owner: goes with its last user */
    uint8_t end_point[EVP_MAX_MD_SIZE];
    unsigned end_point_n;
};
void web_tls_use(struct net_web_tls *t);
void web_tls_drop(struct net_web_tls *t);
/* A server's side of a connection; NULL without memory. */
SSL *web_tls_begin(struct net_web_tls *t, int fd);
/* RFC 9266: 32 bytes; false where the connection has none (TLS 1.2 without extended master secret). */
bool web_tls_exporter(SSL *ssl, uint8_t out[32]);
/* RFC 4514 text on the heap; NULL: no certificate was shown, or its name is too long. */
char *web_tls_subject(SSL *ssl);

/* ---- connections ---- */

/* Every deadline of a kind is equally far away when it is set, so a queue in order of time is an append. */
struct web_link {
    struct web_link *prev, *next; /* NULL: in no queue */
    int64_t at_us;
};
enum web_queue { WEB_HANDSHAKE, WEB_IDLE, WEB_READ, WEB_ALL, WEB_LINGER, WEB_QUEUES };

enum web_state {
    WEB_SHAKES,
    WEB_WAITS,   /* for the first byte of a request */
    WEB_READS,   /* the rest of it */
    WEB_ASKS,    /* the handler has it */
    WEB_WRITES,  /* the peer does not read as fast as the reply is written */
    WEB_LINGERS, /* nothing is understood any more */
};

struct web_source {
    struct web_source *next;
    uint8_t ip[17];
    uint32_t count;
};

struct net_web_connection {
    struct web_link phase; /* handshake, idle, read or linger */
    struct web_link all;
    struct net_web *web;
    struct net_web_tls *tls;
    struct net_stream stream;
    struct event io;
    short what; /* it is watched for */
    uint8_t state;
    bool trusted;    /* what it forwards is believed */
    bool in_handler; /* an answer given now goes on in the caller's loop */
    bool *gone;      /* told when the connection ends within the handler; NULL otherwise */
    bool told;       /* the handler knows of this connection */
    bool close;      /* after the reply */
    bool have_exporter;
    uint32_t served;
    struct web_source *source; /* NULL: trusted, not counted */
    struct net_address peer;
    uint8_t *in;
    size_t in_n, in_max;
    struct net_http_request head; /* good once head.used > 0 */
    uint8_t *out;                 /* what of a reply could not be written */
    size_t out_at, out_n;
    size_t lingered;
    void *users; /* the caller's state */
    char *subject;
    uint8_t exporter[32];
};

struct web_door {
    struct web_door *next;
    struct net_web *web;
    int fd;
    struct event io;
    struct net_web_tls *tls;
    uint32_t trusted_count;
    struct net_address trusted[];
};

#define WEB_SOURCES 1024 /* chains */

struct web_buffer {
    struct web_buffer *next;
};

struct net_web {
    struct net_base *base;
    struct net_web_limits limits;
    struct net_http_request_limits request_limits;
    struct net_web_handler handler;
    struct web_door *doors;
    struct web_link queue[WEB_QUEUES]; /* rings */
    int64_t after_us[WEB_QUEUES];
    size_t buffered;       /* of all connections' in_max */
    uint32_t count;        /* connections */
    bool stopping, paused; /* paused: no descriptors left; doors open again with the next tick */
    struct event tick;
    struct web_tickets tickets;
    uint32_t seed;
    struct web_source *source[WEB_SOURCES];
    struct web_buffer *spare;
    uint32_t spare_count;
    uint8_t *scratch; /* one reply */
    size_t scratch_max;
    int64_t date_s;
    char date[40];
};

/* web.c */
void web_enter(struct net_web_connection *c, enum web_queue q);
void web_leave(struct web_link *l);
void web_watch(struct net_web_connection *c, short what);
/* Tells the handler, closes, frees. */
void web_close(struct net_web_connection *c);
void web_say_gone(struct net_web_connection *c);
/* status 0: nothing was answered. */
void web_report(struct net_web *w, const struct net_address *peer, int status, const char *why);
bool web_make_room(struct net_web_connection *c);
void web_give_back(struct net_web_connection *c);

/* web_serve.c: what an event of a connection leads to. May free it. */
void web_serve(struct net_web_connection *c);
/* Answers in one's own name, and closes. */
void web_refuse(struct net_web_connection *c, int status, const char *why);

#endif
