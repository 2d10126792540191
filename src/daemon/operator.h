/* SPDX-License-Identifier: MIT */
/* The one thread that touches the open instance: administrators' operations, password changes, counters, key
 * rotation, one after the other. The keeper's loop never waits for a disk or for PBKDF2, and the store has
 * one writer without a lock of ours. */
#ifndef SP_DAEMON_OPERATOR_H
#define SP_DAEMON_OPERATOR_H

#include <pthread.h>

#include "admin/admin.h"
#include "net/loop.h"

#define OPERATOR_QUEUE_MAX 256

struct operator_job {
    struct operator_job *next;
    void (*run)(struct operator_job *j, struct admin *a); /* in the thread */
    void (*done)(struct operator_job *j);                 /* on the loop; frees it */
};

struct operator
{
    struct admin *admin;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct operator_job *first, **last;
    struct operator_job *finished, **finished_last;
    uint32_t queued;
    bool ending;
    struct net_watch watch; /* an eventfd: something finished */
};

/* From here on nobody else touches a. */
SP_MUST bool operator_start(struct operator* o, struct admin *a, struct net_loop *loop, struct sp_err *e);
/* false: too much is queued; the job stays the caller's. */
bool operator_submit(struct operator* o, struct operator_job *j);
/* Finishes what is queued and joins. Afterwards the caller has the instance back. */
void operator_stop(struct operator* o, struct net_loop *loop);

#endif
