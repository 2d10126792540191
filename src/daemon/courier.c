/* SPDX-License-Identifier: MIT */
#include "daemon/courier.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "net/pass.h"
#include "net/sandbox.h"

#define FINISH_US 1000000

union message { /* anything the keeper says */
    enum channel_type type;
    struct channel_courier setup;
    struct channel_door door;
    struct channel_link link;
};

static void *zeroed(size_t n)
{
    void *p = calloc(1, n);

    if (!p)
        channel_die("no memory");
    return p;
}

/* ---- what the keeper says ---- */

static void use_config(struct courier *c, const struct courier_config *fresh)
{
    c->config = *fresh;
    for (uint32_t i = 0; i < c->config.alias_count; i++)
        c->alias_spans[i] = sp_str(c->config.alias[i]);
    c->realm.name = sp_str(c->config.realm);
    c->realm.aliases = (struct sp_spans){c->alias_spans, c->config.alias_count};
    c->records.flood = c->config.log_flood;
}

static void open_door(struct courier *c, const struct channel_door *info, int fd)
{
    struct sp_err e = {0};

    if (c->door_open || fd < 0)
        channel_die("a door that cannot be opened");
    c->door = (struct net_watch){.fd = fd, .ready = courier_accept, .owner = c};
    c->door_id = info->id;
    c->door_open = true;
    if (!net_loop_add(&c->loop, &c->door, EPOLLIN, &e))
        channel_die(e.text);
}

static void close_door(struct courier *c)
{
    if (!c->door_open)
        return;
    net_loop_remove(&c->loop, &c->door);
    (void)close(c->door.fd);
    c->door_open = false;
}

static void hear(struct courier *c, const union message *m, int fd)
{
    switch (m->type) {
    case CHANNEL_COURIER:
        use_config(c, &m->setup.config);
        return;
    case CHANNEL_RECORDS:
        c->records.fd = fd;
        return;
    case CHANNEL_DOOR_OPEN:
        open_door(c, &m->door, fd);
        return;
    case CHANNEL_DOOR_CLOSE:
        if (m->door.id == c->door_id)
            close_door(c);
        return;
    case CHANNEL_LINK:
        courier_open_link(c, m->link.worker, fd);
        return;
    case CHANNEL_UNLINK:
        courier_leave_link(c, m->link.worker);
        return;
    case CHANNEL_STOP:
        c->stopping = true;
        return;
    case CHANNEL_START:
        c->ready = true;
        return;
    case CHANNEL_SETUP:
    case CHANNEL_CONFIG:
    case CHANNEL_VERDICT:
    case CHANNEL_READY:
    case CHANNEL_FAILED:
    case CHANNEL_CHANGE:
    case CHANNEL_ACTIVITY:
    case CHANNEL_GIVE_UP:
        channel_die("the keeper said something out of turn");
    }
}

static void channel_ready(struct net_watch *watch, uint32_t events)
{
    static union message m;
    int fd;
    long n = net_receive(watch->fd, &m, sizeof m, &fd);

    (void)events;
    if (n == 0)
        _exit(0);
    if (n > 0)
        hear(watch->owner, &m, fd);
}

/* ---- starting ---- */

static void hear_beginning(struct courier *c, bool *sandbox)
{
    union message *m = zeroed(sizeof *m);

    while (!c->ready) {
        int fd = -1;
        long n = -1;

        while (n < 0) {
            (void)poll(&(struct pollfd){.fd = CHANNEL_FD, .events = POLLIN}, 1, -1);
            n = net_receive(CHANNEL_FD, m, sizeof *m, &fd);
        }
        if (n == 0)
            _exit(0);
        if (m->type == CHANNEL_COURIER)
            *sandbox = m->setup.sandbox;
        hear(c, m, fd);
    }
    free(m);
}

/* Flood limits of its own: the workers' are in memory that the courier does not see. */
static void start_records(struct courier *c)
{
    struct sp_rng *rng = admin_system_rng();
    size_t n = (tally_bytes() + 63) & ~(size_t)63;
    void *block = aligned_alloc(64, n);
    uint64_t key;

    if (!block)
        channel_die("no memory");
    memset(block, 0, n);
    sp_rng_fill(rng, &key, sizeof key);
    record_init(&c->records, -1, WORKERS_MAX, 0);
    c->records.tally = tally_init(block, key);
}

static void quiet_signals(void)
{
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    (void)prctl(PR_SET_NAME, "sallyport-cour", 0, 0, 0);
}

static void lock_down(bool sandbox)
{
    struct sp_err e = {0};

    if (!net_drop_capabilities(&e))
        channel_die(e.text);
    if (sandbox && !net_enter_sandbox(&e))
        channel_die(e.text);
}

/* ---- running ---- */

static int time_out_ms(const struct courier *c, int64_t now)
{
    int64_t due = record_due_us(&c->records, now), asks = courier_asks_due_us(c);

    if (c->stream_count && (due < 0 || due > 1000000))
        due = 1000000;
    if (asks >= 0 && (due < 0 || asks - now < due))
        due = asks > now ? asks - now : 0;
    return due < 0 ? -1 : (int)((due + 999) / 1000);
}

static void tick(struct courier *c)
{
    struct sp_env env = admin_env();

    courier_expire_asks(c, env.mono_us);
    courier_expire_streams(c, env.mono_us);
    record_tick(&c->records, env);
}

/* What was asked is answered; what is still being said is not heard any more. */
static void finish(struct courier *c)
{
    int64_t now = admin_env().mono_us, until = now + FINISH_US;
    int got = 1;

    close_door(c);
    while ((got > 0 || c->ask_count > 0 || !courier_is_flushed(c)) && now < until) {
        got = net_loop_turn(&c->loop, c->ask_count > 0 || !courier_is_flushed(c) ? 10 : 0);
        tick(c);
        now = admin_env().mono_us;
    }
    record_flush(&c->records);
}

void courier_main(void)
{
    struct courier *c = zeroed(sizeof *c);
    struct channel_plain ready = {CHANNEL_READY};
    struct sp_err e = {0};
    bool sandbox = true;

    quiet_signals();
    if (!net_hide(&e))
        channel_die(e.text);
    (void)fcntl(CHANNEL_FD, F_SETFD, FD_CLOEXEC);
    sp_arena_init(&c->mem, zeroed(COURIER_ARENA), COURIER_ARENA);
    if (!net_loop_init(&c->loop, &e))
        channel_die(e.text);
    start_records(c);
    hear_beginning(c, &sandbox);
    c->channel = (struct net_watch){.fd = CHANNEL_FD, .ready = channel_ready, .owner = c};
    if (!net_loop_add(&c->loop, &c->channel, EPOLLIN, &e))
        channel_die(e.text);
    lock_down(sandbox);
    if (!net_send(CHANNEL_FD, sp_span(&ready, sizeof ready), -1))
        _exit(1);
    while (!c->stopping) {
        (void)net_loop_turn(&c->loop, time_out_ms(c, admin_env().mono_us));
        tick(c);
    }
    finish(c);
    _exit(0);
}
