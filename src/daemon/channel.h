/* SPDX-License-Identifier: MIT */
/* What keeper and workers say to each other. They are of one build (the keeper holds the programs open), so
 * plain structs are the wire. Keeper to worker: SETUP (descriptor: the shared mapping), RECORDS (descriptor:
 * where record lines go), DOOR_OPEN (descriptor: the socket) for each, START; then DOOR_OPEN, DOOR_CLOSE,
 * CONFIG, VERDICT, GIVE_UP as they come; STOP. Worker to keeper: READY or FAILED; then CHANGE, ACTIVITY, and
 * GIVE_UP to be passed on.
 *
 * The courier hears COURIER instead of SETUP and CONFIG, then REALMS (descriptor: a file in memory with every
 * admin_realm) and CERTIFICATE (descriptor: one with PEM text): no message to it holds a Kerberos key or a
 * secret. It is asked by STATUS and answers by HEALTH, as often as it takes. A worker and the courier hear
 * LINK (descriptor: an end of the pair between them) when both are there; UNLINK tells the courier that a
 * worker takes no more. */
#ifndef SP_DAEMON_CHANNEL_H
#define SP_DAEMON_CHANNEL_H

#include "admin/realms.h"
#include "courier/ladder.h"
#include "courier/wire.h"

#define CHANNEL_FD 3 /* a worker's end of the pair, after exec */
#define CHANNEL_ALIASES_MAX 64
#define CHANNEL_ROWS_MAX 512 /* activity rows in one message */
#define WORKERS_MAX 256

enum channel_type {
    CHANNEL_SETUP = 1,
    CHANNEL_RECORDS,
    CHANNEL_DOOR_OPEN,
    CHANNEL_DOOR_CLOSE,
    CHANNEL_START,
    CHANNEL_CONFIG,
    CHANNEL_VERDICT,
    CHANNEL_STOP,
    CHANNEL_READY,
    CHANNEL_FAILED,
    CHANNEL_CHANGE,
    CHANNEL_ACTIVITY,
    CHANNEL_GIVE_UP,
    CHANNEL_COURIER,
    CHANNEL_LINK,
    CHANNEL_UNLINK,
    CHANNEL_REALMS,
    CHANNEL_CERTIFICATE,
    CHANNEL_STATUS,
    CHANNEL_HEALTH,
};

/* A configuration that can travel: admin_config's realm spans point into the text beside them. */
struct channel_config {
    struct admin_config config;
    char realm[256];
    char alias[CHANNEL_ALIASES_MAX][256];
    struct sp_span spans[CHANNEL_ALIASES_MAX];
    uint32_t alias_count;
};
void channel_copy_config(struct channel_config *to, const struct admin_config *from);
/* After it arrived, or was copied as bytes. */
void channel_link_config(struct channel_config *c);

struct channel_setup {
    enum channel_type type;
    uint32_t worker;
    uint64_t shared_n; /* bytes of the mapping */
    uint64_t tally_at; /* where in it the tally lies */
    uint8_t master[32];
    char state[4200];
    bool sandbox;
    struct channel_config config;
};

/* From DOOR_COURIER on they are the courier's: acceptors, unmodified programs on loopback, the relay with TLS
 * and behind a proxy, and who counts. */
enum door_kind {
    DOOR_UDP,
    DOOR_TCP,
    DOOR_UNIX,
    DOOR_COURIER,
    DOOR_LOOPBACK_UDP,
    DOOR_LOOPBACK_TCP,
    DOOR_RELAY,
    DOOR_RELAY_PLAIN,
    DOOR_METRICS
};
enum door_service { DOOR_KDC, DOOR_KPASSWD, DOOR_EITHER };
struct channel_door { /* OPEN and CLOSE */
    enum channel_type type;
    uint32_t id;
    enum door_kind kind;
    enum door_service service;
};

struct channel_new_config {
    enum channel_type type;
    struct channel_config config;
};

struct channel_change {
    enum channel_type type;
    uint32_t slot;
    uint64_t serial; /* of the pending entry: slots are used again */
    struct admin_change change;
};

struct channel_verdict {
    enum channel_type type;
    uint32_t slot;
    uint64_t serial;
    uint16_t result;
    char text[256];
};

struct channel_activity {
    enum channel_type type;
    uint32_t count;
    struct lmdb_activity_row rows[CHANNEL_ROWS_MAX];
};

struct channel_give_up { /* too many connections, and those to go are another worker's */
    enum channel_type type;
    uint32_t worker; /* whom to ask; TALLY_NOBODY: everybody who has one of that source */
    uint64_t source; /* 0: the oldest of all */
};

struct channel_failed {
    enum channel_type type;
    char text[200];
};

/* What the courier is told of the configuration: names and numbers only. */
struct courier_config {
    char realm[256];
    char alias[CHANNEL_ALIASES_MAX][256];
    uint32_t alias_count;
    char other[16][256]; /* [iakerb] realms */
    uint32_t other_count;
    uint8_t old_mit, finished; /* as courier/wire.h has them */
    uint32_t attest[32];
    uint32_t attest_count;
    uint32_t max_connections, log_flood;
    struct ladder_limits limits;
    uint32_t udp_reply_max, tcp_idle_s;
    /* Read before the sandbox closes; another value, or another file there, is another courier. */
    char resolver[256], ca[512], certificate[512], proxy[256];
    char relay_proxies[512], relay_realms[2048];
    char old_mit_hosts[1024], timestamp_hosts[1024]; /* [client] old-mit, allow-timestamp */
    uint32_t relay_auth, relay_open, relay_max, relay_per_source;
    bool relay_kpasswd;
    /* What has to be there before the sandbox closes, and costs memory: names are looked up, HTTPS is spoken,
     * the relay's door is served. */
    bool needs_names, needs_client, needs_relay;
};
void channel_describe_courier(struct courier_config *to, const struct channel_config *from);

struct channel_courier { /* the first message to the courier, and again after a reload */
    enum channel_type type;
    bool sandbox; /* of the first */
    struct courier_config config;
};

struct channel_realms {
    enum channel_type type;
    uint32_t count;
};
struct channel_certificate { /* sizes of the three texts, one behind the other; 0: none */
    enum channel_type type;
    uint32_t chain_n, key_n, client_ca_n;
};

#define CHANNEL_HEALTH_ROWS 128
struct channel_health { /* a target of a realm; courier to keeper */
    enum channel_type type;
    bool first, last; /* of the messages that are one answer */
    uint32_t count, in_flight;
    struct health_row {
        char realm[64], target[96], reason[96];
        enum ladder_rung rung;
        enum ladder_life life;
        int64_t for_us, latency_us; /* how long it has been so */
        uint64_t answers, failures;
        bool found;
    } row[CHANNEL_HEALTH_ROWS];
};

struct channel_link { /* LINK, UNLINK */
    enum channel_type type;
    uint32_t worker;
};

/* Over that pair: one whole message each way, a struct with the bytes right behind it. */
struct courier_ask {
    uint64_t serial;
    enum kdc_door door;       /* KDC_COURIER: what came through another door does not come here */
    struct kdc_source source; /* as far as the courier may believe it (decision 59) */
    char transport[8];        /* "in-band", "relay" */
    char acceptor[128];       /* the service that hands the request on, in its own words */
    bool verify; /* no request: a courier_verify, and what an acceptor was told; the answer a courier_verdict
                  */
    uint32_t message_n;
};
struct courier_told {
    uint64_t serial;
    uint32_t message_n; /* 0: no answer is due */
};
/* A context of GSS-API as it went so far, for somebody who has the key (the courier has none): behind this
 * one courier_said after the other, each with its bytes. */
struct courier_verify {
    uint8_t old_mit, finished; /* as courier/wire.h has them */
    uint8_t end_point_n, exporter_n;
    uint8_t end_point[64], exporter[32]; /* what the client may have bound it to */
};
struct courier_said {
    int64_t wall_us, mono_us;
    uint32_t kind; /* enum sec_event_kind */
    int32_t code;
    uint32_t n, zero;
};
struct courier_verdict { /* the acceptor's token behind it */
    bool ok, done;       /* done: the client is who it says */
    int32_t code;
    int64_t end_s;               /* of its ticket */
    char client[160], host[256]; /* host: for which the ticket is */
    char text[120];
};
#define COURIER_LINK_MAX (sizeof(struct courier_ask) + COURIER_FRAME_MAX) /* of one message */

struct channel_plain { /* READY, START, STOP, RECORDS, STATUS */
    enum channel_type type;
};

/* For what the keeper started: it cannot go on. The keeper, if it is there, hears why and starts another. */
_Noreturn void channel_die(const char *text);

#endif
