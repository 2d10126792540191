/* SPDX-License-Identifier: MIT */
/* The load generator: its run, and the ways of carrying requests. All requests are made before the clock
 * starts, each different from all others. One thread. */
#ifndef SP_BENCH_LOAD_H
#define SP_BENCH_LOAD_H

#include "setup.h"

#include <netinet/in.h>
#include <sys/types.h>

#define LOAD_WINDOW_MAX 256
#define LOAD_REPLY_MAX 65536
#define LOAD_VERIFY_MAX 200
#define LOAD_PIDS_MAX 8

enum load_way {
    LOAD_UDP,
    LOAD_TCP,   /* a connection for each request, always a window of them open */
    LOAD_BURST, /* the same, but a window of connections is begun at once, and the next when all are answered
                 */
    LOAD_WEB,   /* MS-KKDCP over HTTPS, a window of connections that are kept */
    LOAD_WEB_EACH, /* the same with a connection for each request */
};

struct load_options {
    struct sockaddr_in server;
    struct sockaddr_in kdc; /* by UDP, for tickets; the server unless HTTPS is in front */
    struct bench_wish wish; /* kind, requests that count, users, services */
    enum load_way way;
    int32_t etype;
    bool raw; /* datagrams without a meaning, for the floor; HTTPS: replies without one, raw_n bytes each */
    bool resume; /* TLS sessions */
    uint32_t raw_n, warmup, window;
    struct load_pids {
        pid_t v[LOAD_PIDS_MAX];
        uint32_t count;
    } pids, beside; /* beside: what the server asks in its turn */
};

struct load_slot {
    int fd;
    uint32_t request;
    uint64_t sent_ns;
    uint8_t *in; /* TCP: what came so far */
    size_t in_n;
};

struct load_kept {
    uint32_t request;
    struct sp_span reply;
};

struct load_run {
    const struct load_options *o;
    struct bench_maker maker;
    struct bench_request *requests;
    struct sp_arena big;     /* requests and kept replies */
    struct sp_arena reading; /* reset for every reply read */
    struct load_slot slots[LOAD_WINDOW_MAX];
    uint64_t *latency_ns;
    uint32_t lost, odd, latencies;
    uint32_t connections, resumed; /* HTTPS: made during the run */
    struct load_kept kept[LOAD_VERIFY_MAX];
    uint32_t kept_count;
    uint8_t reply[LOAD_REPLY_MAX];
};

/* A connected datagram socket with a time limit for receiving. */
int load_dial_udp(const struct sockaddr_in *to);
/* Opens what the slots need. */
void load_open_udp(struct load_run *r);
void load_open_tcp(struct load_run *r);
void load_open_web(struct load_run *r);

/* Sends requests from..to and waits for all of them; wall nanoseconds. */
uint64_t load_exchange_udp(struct load_run *r, uint32_t from, uint32_t to);
uint64_t load_exchange_tcp(struct load_run *r, uint32_t from, uint32_t to);
uint64_t load_exchange_web(struct load_run *r, uint32_t from, uint32_t to);

/* Takes down the reply to a slot's request: latency, a look at its type, and some are kept for verification.
 */
void load_note_reply(struct load_run *r, const struct load_slot *s, struct sp_span reply);

#endif
