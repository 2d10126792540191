/* SPDX-License-Identifier: MIT */
/* What the files of `sallyport doctor REALM|HOST` share: every way to a realm is tried at once, each with a
 * request for a user who does not exist, and what came of it is judged afterwards. Changes nothing. */
#ifndef SP_CLI_DIAGNOSE_H
#define SP_CLI_DIAGNOSE_H

#include "admin/realms.h"
#include "cli/cli.h"
#include "host/certificate.h"
#include "krb/messages.h"
#include "net/exchange.h"
#include "net/http.h"
#include "net/resolver.h"

#define DIAG_PLACES_MAX 48
#define DIAG_ADDRESSES_MAX 4 /* of one name */
#define DIAG_TRIES_MAX (DIAG_PLACES_MAX * DIAG_ADDRESSES_MAX * 2)
#define DIAG_RECORDS_MAX 32
#define DIAG_ETYPES_MAX 16
#define DIAG_TRY_US (3 * INT64_C(1000000))
#define DIAG_ALL_US (10 * INT64_C(1000000))
#define DIAG_SKEW_S 300 /* what KDCs and services allow (RFC 4120 8.2) */

/* How it is tried. DISCOVER asks a server that takes IAKERB for its realm. */
enum diag_how { DIAG_UDP, DIAG_TCP, DIAG_POST, DIAG_RIDE, DIAG_DISCOVER, DIAG_DOOR, DIAG_SOCKET };

struct diag;
struct login;

struct diag_place { /* somewhere that requests can go */
    struct diag *d;
    struct admin_target t;
    bool found;  /* by a look-up */
    bool asking; /* the resolver has not answered */
    struct net_address address[DIAG_ADDRESSES_MAX];
    uint32_t address_count;
    char trouble[120]; /* why it has no address */
    struct host_look *look;
    struct host_certificate certificate;
    int64_t look_until_us;
    bool looked;
};

struct diag_try {
    struct diag *d;
    enum diag_how how;
    struct diag_place *place; /* NULL: the daemon's own doors */
    struct net_address to;
    struct net_exchange *exchange;
    struct sec *sec;         /* of DISCOVER */
    void *block;             /* its memory */
    struct sp_span names[3]; /* that it points to */
    bool done, spoke;        /* spoke: a KDC's message came back */
    enum net_exchange_end end;
    int32_t status; /* of HTTP; 0: none came */
    char text[160];
    int64_t took_us;
    int32_t code; /* of the KRB-ERROR; 0: an AS-REP */
    bool timed;
    int64_t ahead_s; /* the KDC's clock minus ours */
    int32_t etypes[DIAG_ETYPES_MAX];
    uint32_t etype_count;
    char realm[128]; /* that the answer names */
};

struct diag_record { /* of DNS */
    const char *kind;
    char name[300], text[600];
    uint32_t priority;
};

/* In this order they stand in somebody's way. */
enum diag_stage {
    DIAG_CONFIGURED,
    DIAG_RUNNING,
    DIAG_NAMED,
    DIAG_REACHED,
    DIAG_TIMED,
    DIAG_TRUSTED,
    DIAG_ANSWERED,
    DIAG_SERVED,
    DIAG_KEYED,
    DIAG_STAGES
};

struct diag {
    struct cli *c;
    struct admin_config config;
    struct admin_realms realms;
    const struct admin_realm *realm; /* NULL: no section */
    char name[256];                  /* of the realm */
    char own[256];                   /* the local realm; empty: none here */
    bool is_own, runs;               /* the daemon answers */
    cJSON *courier;                  /* its part of the status; NULL: not known */
    struct net_loop loop;
    struct net_base *base;
    struct net_resolver *resolver;
    struct net_web_client *web;
    struct net_address proxy;
    bool proxied;
    struct diag_place place[DIAG_PLACES_MAX];
    uint32_t place_count;
    struct diag_try tries[DIAG_TRIES_MAX];
    uint32_t try_count;
    struct diag_record record[DIAG_RECORDS_MAX];
    uint32_t record_count;
    uint32_t waiting, begun; /* look-ups, tries, looks */
    uint32_t asking;         /* of these, look-ups of records */
    int64_t began_us, until_us, said_us;
    struct login *login; /* arenas and crypto; only its engine's arena is also used by the client engine */
    struct sp_arena mem, scratch;
    void *scratch_block;
    struct sp_span said; /* the last message of a KDC, in mem */
    struct sp_span request;
    cJSON *report, *findings[DIAG_STAGES];
    bool works, resolved; /* resolved: the host has an address */
};

/* ---- diagnose_try.c ---- */
SP_MUST bool diag_make_request(struct diag *d, struct sp_err *e);
/* Whether these bytes are a KDC's word, into t. */
void diag_take_message(struct diag_try *t, struct sp_span message);
void diag_begin_tries(struct diag_place *p);
void diag_begin_doors(struct diag *d);
void diag_end_tries(struct diag *d);
void diag_end_looks(struct diag *d, int64_t now_us); /* at certificates, whose time is up */
/* A message by the first way that works; *reply lies in d->mem. */
SP_MUST bool diag_carry(struct diag *d, struct sp_span message, struct sp_span *reply, struct sp_err *e);

/* ---- diagnose_find.c: places ---- */
void diag_begin_places(struct diag *d);

/* ---- diagnose_judge.c ---- */
__attribute__((format(printf, 4, 5))) void diag_find(struct diag *d, enum diag_stage stage, const char *todo,
                                                     const char *fmt, ...);
bool diag_serves(const struct diag_try *t); /* the KDC knows the realm */
bool diag_works(const struct diag_try *t);
void diag_judge(struct diag *d);
const char *diag_rung(const struct diag_try *t);

/* ---- diagnose_host.c ---- */
SP_MUST bool diag_host(struct diag *d, const char *host, struct sp_err *e);
void diag_services(struct diag *d, const char *host);

/* ---- diagnose.c ---- */
void diag_wait(struct diag *d); /* until everything is answered or the time is up; says so now and then */
SP_MUST bool diag_realm(struct diag *d, struct sp_err *e); /* d->name is the realm that is meant */

#endif
