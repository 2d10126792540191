/* SPDX-License-Identifier: MIT */
/* The courier's engine: every Kerberos exchange, whichever door it came through, is a request for a realm;
 * the ladder decides which way it takes, what is tried beside it and when, and what is known of every way. It
 * decides, it never waits and never carries: requests, what became of tries, and time go in; actions come
 * out. One thread, one block of memory, no clock.
 *
 *   ladder_ask      a request                      -> actions
 *   ladder_tell     what became of a try or a look-up
 *   ladder_tick     time; call it when ladder_due_us says so
 *   ladder_next     takes the actions out, one at a time
 *
 * Spans in actions are good until the next call that puts something in. What is asked is copied. */
#ifndef SP_COURIER_LADDER_H
#define SP_COURIER_LADDER_H

#include "base/arena.h"
#include "base/env.h"
#include "base/err.h"
#include "base/span.h"

/* ---- what is configured ---- */

enum ladder_rung { LADDER_LOCAL, LADDER_NATIVE, LADDER_RELAY, LADDER_INBAND, LADDER_RUNGS };
const char *ladder_rung_name(enum ladder_rung r); /* "local", "native", "relay", "in-band": as in records */

#define LADDER_MESSAGE_MAX (128 * 1024)
#define LADDER_ADDRESSES_MAX 8 /* of one name */
#define LADDER_TARGETS_MAX 16  /* of one realm, listed and found together */

struct ladder_address {
    uint8_t n; /* 4 or 16 */
    uint8_t ip[16];
};

/* One place that requests can be sent to: a KDC, a relay, a server that takes IAKERB. */
struct ladder_target {
    enum ladder_rung rung; /* NATIVE, RELAY, INBAND */
    struct sp_span host; /* a name or an address, as configured: for people, SNI, Host, the service's name */
    uint16_t port;       /* of the KDC; of RELAY and INBAND too */
    uint16_t kpasswd_port; /* NATIVE: 0 is 464 */
    struct sp_span path;   /* RELAY "/KdcProxy", INBAND "/" */
    bool tls;              /* RELAY always, INBAND for https:// */
    bool tcp_only,
        primary;    /* NATIVE: "tcp/host" as MIT and Heimdal write it; the one that knows new passwords */
    bool listed_ip; /* the host is an address (or "localhost") that somebody wrote down: loopback and the like
                       are meant */
    bool timestamp_allowed; /* INBAND: a pin or a policy allows guessable pre-authentication (decision 60) */
};

enum ladder_discover { LADDER_STATIC, LADDER_SRV, LADDER_URI, LADDER_URI_THEN_SRV };

struct ladder_realm {
    struct sp_span name;
    struct sp_spans aliases; /* NetBIOS and lower-case forms; matched without case on the relay's door */
    enum ladder_rung ladder[LADDER_RUNGS];
    uint32_t rung_count;
    const struct ladder_target *targets; /* in the order of the configuration, which is that of preference */
    uint32_t target_count;
    enum ladder_discover
        discover;            /* beside the listed ones; nothing is looked up for a realm not listed here */
    bool kpasswd;            /* password changes are carried, too */
    uint32_t in_flight_max;  /* the realm's bulkhead; 0: a quarter of all requests */
    uint32_t per_second_max; /* of one source for this realm; 0: 1000 */
};

struct ladder_limits {   /* 0: the default, in brackets */
    uint32_t requests;   /* in flight in all [1024] */
    uint32_t per_source; /* in flight of one source [64] */
    uint32_t sources;    /* remembered [4096] */
    uint32_t realms;     /* [256] */
    uint32_t bytes;      /* of messages held [16 MiB] */
    uint32_t rung_ms;    /* for a rung not known dead [900] */
    uint32_t all_ms;     /* for a request [4500] */
    uint32_t hedge_ms;   /* before a second KDC is asked when nothing is known of the first [50] */
    uint32_t pin_s;      /* names stay what they were found to be [300] */
    uint32_t
        dead_retry_ms; /* first pause before a dead target is tried again [1000], doubling to 64 times that */
};

/* ---- what comes in ---- */

enum ladder_door {
    LADDER_DOOR_LOOPBACK_UDP,
    LADDER_DOOR_LOOPBACK_TCP,
    LADDER_DOOR_SOCKET,
    LADDER_DOOR_RELAY
};
enum ladder_kind { LADDER_AS, LADDER_TGS, LADDER_KPASSWD };

struct ladder_request {
    enum ladder_door door;
    struct sp_span realm; /* as the peer named it; empty or ".": the one in the message's body, and the realm
                             with the alias "." where that says nothing either */
    struct sp_span message; /* one whole message, without a length before it */
    uint8_t source[24];     /* who pays, as the KDC's sources are made (decision 6) */
    bool prefer_primary;    /* dclocator-hint of MS-KKDCP that wants a writable DC */
    bool armoured_only;     /* relay mode E: an AS-REQ needs PA-FX-FAST or PKINIT's padata */
    uint64_t tag;           /* the caller's, handed back */
};

enum ladder_end {                  /* of a try */
                  LADDER_ANSWERED, /* bytes: one whole message */
                  LADDER_REFUSED,  /* connection refused, unreachable, TLS or HTTP failure: text says what */
                  LADDER_GARBLED,  /* something came that is no answer */
                  LADDER_UNSUPPORTED, /* the server does not take IAKERB, has no /KdcProxy: not dead, but no
                                         way */
};
struct ladder_outcome {
    uint32_t try_id; /* unknown ones, as after a CANCEL, are ignored */
    enum ladder_end end;
    struct sp_span bytes;
    struct sp_span text; /* for people: "connection refused", "certificate has expired" */
    int64_t took_us;
};

#define LADDER_FOUND_MAX 16
struct ladder_found { /* what a look-up found; a name that is not there: count 0, failed false */
    uint32_t lookup_id;
    bool failed;
    uint32_t count;
    struct ladder_record {
        struct sp_span host; /* SRV, URI; for addresses empty */
        uint16_t port, priority, weight;
        bool tcp, kpasswd, primary, kkdcp; /* of URI: krb5srv:m:kkdcp:... */
        struct sp_span path;
        struct ladder_address address; /* of an address look-up */
    } record[LADDER_FOUND_MAX];
};

/* ---- what comes out ---- */

enum ladder_what {
    LADDER_TRY,     /* send bytes to the target; tell the outcome once */
    LADDER_CANCEL,  /* nobody waits for that try any more */
    LADDER_LOOK_UP, /* ask the resolver; tell what it found */
    LADDER_ANSWER,  /* the request ends: its reply */
    LADDER_REFUSE,  /* the request ends: a code and the reasons, rung by rung */
};
enum ladder_carry { LADDER_BY_UDP, LADDER_BY_TCP, LADDER_BY_HTTPS, LADDER_BY_NEGOTIATE, LADDER_BY_WORKER };
enum ladder_lookup { LADDER_LOOKUP_ADDRESS, LADDER_LOOKUP_SRV, LADDER_LOOKUP_URI };

struct ladder_action {
    enum ladder_what what;
    uint32_t id;           /* TRY, CANCEL: the try; LOOK_UP: the look-up */
    uint64_t tag;          /* ANSWER, REFUSE, TRY: the request's */
    enum ladder_kind kind; /* of the request */
    struct sp_span realm;  /* its configured name */
    /* TRY */
    enum ladder_carry carry;
    const struct ladder_target *target; /* NULL for BY_WORKER */
    struct ladder_address address;      /* where; pinned */
    uint16_t port;
    int64_t until_us;     /* the driver may give up then, and has to */
    struct sp_span bytes; /* TRY: the message without a length before it. ANSWER: the reply */
    /* LOOK_UP */
    enum ladder_lookup lookup;
    struct sp_span name;
    /* ANSWER, REFUSE: what for the record */
    enum ladder_rung rung; /* that answered */
    int32_t code;          /* REFUSE: 85, 86, or another KRB-ERROR code; ANSWER: of a KRB-ERROR, else 0 */
    bool garbled;          /* REFUSE: a KDC said something that is no Kerberos (502 on the relay) */
    bool limited;          /* REFUSE: by a limit (429 or 503) */
    struct sp_span text;   /* REFUSE: one reason for every rung; ANSWER: reasons of those that were skipped */
    int64_t took_us;
};

/* ---- the engine ---- */

struct ladder;
/* Bytes for these limits. */
size_t ladder_bytes(const struct ladder_limits *limits);
/* In a block of ladder_bytes, aligned as by malloc. */
struct ladder *ladder_init(void *block, const struct ladder_limits *limits, struct sp_rng *rng);

/* Takes a configuration over, the first or another: requests under way go on, health of targets that stay is
 * kept. The realms' spans must live until the next one. SP_EINPUT: too many, or a ladder that cannot be. */
SP_MUST bool ladder_configure(struct ladder *l, struct sp_env env, const struct ladder_realm *realms,
                              uint32_t count, struct sp_err *e);

/* False: refused at once, with a KRB-ERROR code in e->proto (85 no such realm, 86 a limit, 60 not a message
 * that is carried, KDC_ERR_POLICY); no action follows. What is no well-formed AS-REQ, TGS-REQ or (where the
 * realm allows it) password change, in one piece and nothing behind it, is refused. */
SP_MUST bool ladder_ask(struct ladder *l, struct sp_env env, const struct ladder_request *r,
                        struct sp_err *e);
void ladder_forget(struct ladder *l, struct sp_env env, uint64_t tag); /* its asker is gone */
void ladder_tell(struct ladder *l, struct sp_env env, const struct ladder_outcome *o);
void ladder_tell_found(struct ladder *l, struct sp_env env, const struct ladder_found *f);
/* Addresses of this machine: as loopback, no name leads to them. At first, and when they changed; beyond
 * LADDER_OWN_MAX they are not remembered. */
#define LADDER_OWN_MAX 64
void ladder_own_addresses(struct ladder *l, const struct ladder_address *own, uint32_t count);
/* An address, route or link changed: what was dead may live. */
void ladder_network_changed(struct ladder *l, struct sp_env env);
void ladder_tick(struct ladder *l, struct sp_env env);
int64_t ladder_due_us(const struct ladder *l); /* monotonic; -1: nothing is due */
bool ladder_next(struct ladder *l, struct sp_env env, struct ladder_action *out);

/* ---- for status, doctor, the locator ---- */

enum ladder_life { LADDER_UNKNOWN, LADDER_ALIVE, LADDER_DEAD, LADDER_NO_WAY };
struct ladder_health { /* of one target of a realm, or of the local engine */
    enum ladder_rung rung;
    const struct ladder_target *target; /* NULL: local */
    enum ladder_life life;
    int64_t since_us;   /* monotonic */
    int64_t latency_us; /* smoothed; 0: none yet */
    uint64_t answers, failures;
    char reason[96]; /* why it was passed over last; empty: it was not */
    bool found;      /* by a look-up, not listed */
};
/* Health number i of a realm in the order of its ladder; false behind the last. */
bool ladder_health_at(const struct ladder *l, uint32_t realm, uint32_t i, struct ladder_health *out);
/* The realm that a name means (name or alias); false: none. */
bool ladder_find_realm(const struct ladder *l, struct sp_span name, uint32_t *realm);
uint32_t ladder_in_flight(const struct ladder *l);

#endif
