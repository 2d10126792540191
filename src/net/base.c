/* SPDX-License-Identifier: MIT */
#include "net/base.h"

#include <event2/event.h>
#include <stdlib.h>
#include <time.h>

struct net_base {
    struct event_base *events;
    struct net_loop *inner;
    struct event *watch; /* of the inner loop's epoll descriptor */
    struct event *wake;  /* ends a turn */
};

static void turn_inner(evutil_socket_t fd, short what, void *owner)
{
    struct net_base *b = owner;

    (void)fd;
    (void)what;
    (void)net_loop_turn(b->inner, 0);
}

static void wake_up(evutil_socket_t fd, short what, void *owner)
{
    (void)fd;
    (void)what;
    (void)owner;
}

static struct event_base *make_events(void)
{
    struct event_config *c = event_config_new();
    struct event_base *made = NULL;

    /* Timers of a quarter of a second want no clock finer than the kernel's tick; the environment has no say.
     */
    if (c && event_config_set_flag(c, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV) == 0)
        made = event_base_new_with_config(c);
    if (c)
        event_config_free(c);
    return made;
}

static bool watch_inner(struct net_base *b)
{
    if (!b->inner)
        return true;
    b->watch = event_new(b->events, b->inner->epoll_fd, EV_READ | EV_PERSIST, turn_inner, b);
    return b->watch && event_add(b->watch, NULL) == 0;
}

struct net_base *net_base_new(struct net_loop *inner, struct sp_err *e)
{
    struct net_base *b = calloc(1, sizeof *b);

    if (b) {
        b->inner = inner;
        b->events = make_events();
    }
    if (b && b->events)
        b->wake = evtimer_new(b->events, wake_up, NULL);
    if (b && b->wake && watch_inner(b))
        return b;
    net_base_free(b);
    (void)sp_fail(e, SP_EBACKEND, 0, "libevent could not begin (memory, or descriptors)");
    return NULL;
}

void net_base_free(struct net_base *b)
{
    if (!b)
        return;
    if (b->watch)
        event_free(b->watch);
    if (b->wake)
        event_free(b->wake);
    if (b->events)
        event_base_free(b->events);
    free(b);
}

void net_base_turn(struct net_base *b, int timeout_ms)
{
    struct timeval tv = {timeout_ms / 1000, timeout_ms % 1000 * 1000};

    if (timeout_ms == 0) {
        (void)event_base_loop(b->events, EVLOOP_NONBLOCK);
        return;
    }
    if (timeout_ms > 0)
        (void)evtimer_add(b->wake, &tv);
    else
        (void)evtimer_del(b->wake);
    (void)event_base_loop(b->events, EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY);
}

struct event_base *net_base_events(struct net_base *b)
{
    return b->events;
}

int64_t net_base_now_us(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}
