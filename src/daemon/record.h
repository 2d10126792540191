/* SPDX-License-Identifier: MIT */
/* Record lines as a worker makes them (decision 21): one JSON object per decision, many lines to a message
 * for the keeper. Nothing here ever waits: what the keeper does not take is dropped and counted, and a flood
 * of one kind becomes one counted line a second. */
#ifndef SP_DAEMON_RECORD_H
#define SP_DAEMON_RECORD_H

#include "daemon/tally.h"
#include "kdc/kdc.h"

#define RECORD_KINDS 64 /* (event, code) pairs that are counted apart; the rest counts together */
#define RECORD_LINE_MAX 6144
#define RECORD_DELAY_US 50000 /* a line leaves the worker at most this much later */

struct record_kind {
    char event[16];
    int32_t code;
    uint32_t name;            /* the same in all workers */
    uint32_t seen, kept_back; /* in this second; seen by this worker */
};

struct record_writer {
    int fd; /* to the keeper */
    uint32_t worker;
    uint32_t flood; /* lines a second and kind, of all workers; 0: no limit */
    struct tally *tally;
    uint64_t lost;            /* lines the keeper did not take */
    int64_t second, first_us; /* when the oldest waiting line was written */
    int64_t stamp_s;          /* the second that `stamp` says */
    char stamp[28];           /* "2026-11-21T14:05:01.123456Z" */
    struct record_kind kinds[RECORD_KINDS + 1];
    uint32_t kind_count;
    size_t n;
    char buf[60000];
};

struct record_facts {      /* what the door knows */
    const char *door;      /* "kdc", "kpasswd" */
    const char *transport; /* "udp", "tcp", "unix" */
    const char *source;
    const char *name;        /* of the code; NULL: krb_code_name */
    struct sp_span acceptor; /* the service that handed the request on, in its own words; empty: none did */
    int64_t took_us;
};

void record_init(struct record_writer *w, int fd, uint32_t worker, uint32_t flood);
void record_write(struct record_writer *w, struct sp_env now, const struct record_facts *f,
                  const struct kdc_record *r);
/* Once a turn of the loop: sends what has waited long enough, counts the second. */
void record_tick(struct record_writer *w, struct sp_env now);
void record_flush(struct record_writer *w);
/* Microseconds until record_tick has something to do; -1: nothing waits. */
int64_t record_due_us(const struct record_writer *w, int64_t mono_us);

#endif
