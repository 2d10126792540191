/* SPDX-License-Identifier: MIT */
#include "daemon/operator.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct operator_job *next_job(struct operator* o)
{
    struct operator_job *j;

    (void)pthread_mutex_lock(&o->lock);
    while (!o->first && !o->ending)
        (void)pthread_cond_wait(&o->work, &o->lock);
    j = o->first;
    if (j) {
        o->first = j->next;
        if (!o->first)
            o->last = &o->first;
    }
    (void)pthread_mutex_unlock(&o->lock);
    return j;
}

static void report(struct operator* o, struct operator_job *j)
{
    uint64_t one = 1;

    (void)pthread_mutex_lock(&o->lock);
    j->next = NULL;
    *o->finished_last = j;
    o->finished_last = &j->next;
    (void)pthread_mutex_unlock(&o->lock);
    (void)!write(o->watch.fd, &one, sizeof one);
}

static void *work(void *arg)
{
    struct operator* o = arg;
    struct operator_job *j;

    while ((j = next_job(o))) {
        j->run(j, o->admin);
        report(o, j);
    }
    return NULL;
}

static void finish_jobs(struct net_watch *w, uint32_t events)
{
    struct operator* o = w->owner;
    struct operator_job *j, *next;
    uint64_t count;

    (void)events;
    (void)!read(w->fd, &count, sizeof count);
    (void)pthread_mutex_lock(&o->lock);
    j = o->finished;
    o->finished = NULL;
    o->finished_last = &o->finished;
    (void)pthread_mutex_unlock(&o->lock);
    for (; j; j = next) {
        next = j->next;
        o->queued--;
        j->done(j);
    }
}

bool operator_start(struct operator* o, struct admin *a, struct net_loop *loop, struct sp_err *e)
{
    int why;

    *o = (struct operator){.admin = a};
    o->last = &o->first;
    o->finished_last = &o->finished;
    o->watch =
        (struct net_watch){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .ready = finish_jobs, .owner = o};
    if (o->watch.fd < 0 || !net_loop_add(loop, &o->watch, EPOLLIN, e))
        return sp_fail(e, SP_EBACKEND, errno, "eventfd: %s", strerror(errno));
    (void)pthread_mutex_init(&o->lock, NULL);
    (void)pthread_cond_init(&o->work, NULL);
    why = pthread_create(&o->thread, NULL, work, o);
    return why == 0 || sp_fail(e, SP_EBACKEND, why, "no thread for operations: %s", strerror(why));
}

bool operator_submit(struct operator* o, struct operator_job *j)
{
    if (o->queued >= OPERATOR_QUEUE_MAX)
        return false;
    o->queued++;
    j->next = NULL;
    (void)pthread_mutex_lock(&o->lock);
    *o->last = j;
    o->last = &j->next;
    (void)pthread_cond_signal(&o->work);
    (void)pthread_mutex_unlock(&o->lock);
    return true;
}

void operator_stop(struct operator* o, struct net_loop *loop)
{
    (void)pthread_mutex_lock(&o->lock);
    o->ending = true;
    (void)pthread_cond_signal(&o->work);
    (void)pthread_mutex_unlock(&o->lock);
    (void)pthread_join(o->thread, NULL);
    finish_jobs(&o->watch, 0);
    net_loop_remove(loop, &o->watch);
    (void)close(o->watch.fd);
}
