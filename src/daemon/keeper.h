/* SPDX-License-Identifier: MIT */
/* The keeper: owns the store, the master key, the configuration, the sockets and the workers; touches no
 * network input. This header is what its parts share. */
#ifndef SP_DAEMON_KEEPER_H
#define SP_DAEMON_KEEPER_H

#include <sys/types.h>

#include "daemon/activity.h"
#include "daemon/channel.h"
#include "daemon/locate_file.h"
#include "daemon/operator.h"
#include "daemon/sink.h"
#include "daemon/tally.h"
#include "net/framing.h"
#include "net/listen.h"

struct keeper_options {
    const char *root;
    char (*listen)[64]; /* as in admin_config; NULL: the configuration's */
    uint32_t listen_count;
    char (*listen_kpasswd)[64];
    uint32_t listen_kpasswd_count;
    uint32_t workers; /* 0: the configuration's */
};

/* Exit status of decision 21. */
int keeper_main(const struct keeper_options *options);

struct keeper;

/* ---- doors.c: the sockets ---- */
#define KEEPER_DOORS_MAX (9 * ADMIN_LISTEN_MAX + 2 + 2 * 8)
struct keeper_door {
    bool open;
    bool listed; /* in the configuration that is being applied */
    bool fresh;  /* opened for it */
    struct channel_door info;
    struct net_address asked, bound;
    char path[128]; /* of a UNIX socket; without a slash it lies in run/sallyport; empty: an address */
    int fd;
};
/* Opens what the configuration lists and is not open; on failure nothing has changed. */
SP_MUST bool doors_prepare(struct keeper *k, const struct admin_config *c, struct sp_err *e);
/* Tells the workers, closes what is no longer listed. */
void doors_commit(struct keeper *k);
void doors_close(struct keeper *k);
bool doors_has_courier(const struct keeper *k); /* one of the courier's */
void doors_describe(const struct keeper *k, cJSON *list);
/* "127.0.0.1:88, [::1]:88, ..." */
void doors_text(const struct keeper *k, struct sp_text *to);

/* ---- crew.c: the workers and the courier ---- */
#define CREW_COURIER WORKERS_MAX /* its place behind the workers */
#define CREW_MAX (WORKERS_MAX + 1)
enum crew_state { CREW_NONE, CREW_LAUNCHED, CREW_WAITING, CREW_STARTING, CREW_READY, CREW_STOPPING };
struct crew_member {
    struct keeper *keeper;
    uint32_t index;
    enum crew_state state;
    pid_t pid;
    struct net_watch channel, records;
    int records_end; /* the worker's, until it is told */
    int64_t started_us, restart_us;
    uint32_t failures; /* one after the other */
};
/* Starts workers that wait to be told, as copies of this process: before it has read anything secret. */
void crew_launch(struct keeper *k, uint32_t wanted);
/* Finds the courier's program. */
SP_MUST bool crew_open_courier(struct keeper *k, struct sp_err *e);
/* As many as wanted; more are started, fewer are told to stop. */
void crew_resize(struct keeper *k, uint32_t wanted);
enum crew_courier { CREW_WITHOUT_COURIER, CREW_WITH_COURIER };
void crew_want_courier(struct keeper *k, enum crew_courier wanted);
void crew_tell(struct keeper *k, struct sp_span message); /* the workers */
void crew_tell_courier(struct keeper *k);                 /* the configuration in force */
void crew_tell_door(struct keeper *k, const struct channel_door *info, int fd);
void crew_reap(struct keeper *k);                                   /* after SIGCHLD */
void crew_tick(struct keeper *k, int64_t mono_us);                  /* restarts what waited long enough */
uint32_t crew_count(const struct keeper *k, enum crew_state state); /* workers */
bool crew_has(const struct keeper *k, enum crew_state state);       /* anybody, the courier too */

void crew_ask_status(struct keeper *k); /* keeper_health hears the answer */

/* ---- supply.c: what the courier is given in files that live in memory ---- */
struct supply {
    int realms_fd, certificate_fd; /* -1: none */
    struct admin_realms realms;    /* the same as in that file */
    uint32_t chain_n, key_n, client_ca_n;
    bool needs_client; /* a way to a realm is HTTPS */
    uint64_t stamp;    /* of the files that are read before the courier's sandbox closes */
};
/* Reads the configuration and the files that it names: by the operator's thread, or before there is one. */
SP_MUST bool supply_make(const struct admin_paths *p, struct supply *out, struct sp_err *e);
void supply_close(struct supply *s);

/* ---- control.c: admin.sock ---- */
#define CONTROL_MAX 32
struct control *control_new(struct keeper *k, struct sp_err *e);
void control_tick(struct control *c, int64_t mono_us);
void control_health(struct control *c); /* the courier's answer is there: `status` waits for it */
void control_free(struct control *c);

/* ---- announce.c: what the locator is told ---- */
void keeper_announce(struct keeper *k);

/* ---- carry.c: what outlives a restart, beside the store ---- */
void carry_load(struct keeper *k); /* before there is a worker */
void carry_save(struct keeper *k); /* by the operator */

/* ---- keeper.c ---- */
struct keeper {
    struct keeper_options options;
    struct net_loop loop;
    struct net_watch signals;
    struct crypto *crypto; /* until the instance is opened with it */
    struct admin admin;    /* the operator's, once it runs */
    struct admin_paths paths;
    struct channel_config config; /* the loop's own copy of what is in force */
    struct supply supply;
    struct locate_file locate;
    struct health_row *health; /* what the courier said last */
    uint32_t health_count, in_flight;
    int courier_program;
    struct operator operator;
    struct sink sink;
    int shared_fd;
    void *shared;
    size_t shared_n, tally_at;
    struct tally *tally; /* behind the engine's part of the shared block */
    uint8_t master[32];
    struct keeper_door doors[KEEPER_DOORS_MAX];
    struct crew_member crew[CREW_MAX];
    struct activity activity;
    struct control *control;
    bool activity_running, saving, rotating, reloading, reload_again;
    int64_t resolver_stamp; /* of /etc/resolv.conf; 0: not looked at yet */
    int64_t next_second_us, next_minute_us, watchdog_us, next_watchdog_us, started_s;
    bool announced, stopping;
    struct sp_err fatal; /* before the first "ready": why we cannot start */
};

/* A record of the keeper's own, and a line on standard error. */
__attribute__((format(printf, 3, 4))) void keeper_say(struct keeper *k, const char *event, const char *fmt,
                                                      ...);
/* What a worker asked for or counted. */
void keeper_change(struct keeper *k, uint32_t worker, const struct channel_change *m);
void keeper_count(struct keeper *k, const struct channel_activity *m);
void keeper_worker_ready(struct keeper *k);
void keeper_health(struct keeper *k, const struct channel_health *m);
/* "daemon":{...} for `status` */
void keeper_describe(struct keeper *k, cJSON *status);

#endif
