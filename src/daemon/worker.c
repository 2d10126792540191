/* SPDX-License-Identifier: MIT */
#include "daemon/worker.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "net/pass.h"
#include "net/sandbox.h"

#define FINISH_US 250000
#define FINISH_PENDING_US 700000

union message { /* anything the keeper says */
    enum channel_type type;
    struct channel_setup setup;
    struct channel_door door;
    struct channel_new_config config;
    struct channel_verdict verdict;
    struct channel_give_up give_up;
    struct channel_link link;
};

/* ---- doors ---- */

static void open_door(struct worker *w, const struct channel_door *info, int fd)
{
    struct sp_err e = {0};
    struct door *d = info->id < DOORS_MAX ? &w->doors[info->id] : NULL;

    if (!d || d->open || fd < 0)
        channel_die("a door that cannot be opened");
    *d = (struct door){.open = true, .info = *info, .worker = w, .bound.n = sizeof d->bound.sa};
    (void)getsockname(fd, (struct sockaddr *)&d->bound.sa, &d->bound.n);
    d->watch = (struct net_watch){.fd = fd, .owner = d};
    d->watch.ready = info->kind == DOOR_UDP ? udp_ready : streams_accept;
    if (!net_loop_add(&w->loop, &d->watch, EPOLLIN | EPOLLEXCLUSIVE, &e))
        channel_die(e.text);
}

static void close_door(struct worker *w, uint32_t id)
{
    struct door *d = id < DOORS_MAX ? &w->doors[id] : NULL;

    if (!d || !d->open)
        return;
    for (uint32_t i = 0; i < PENDING_MAX; i++)
        if (w->pending[i].used && w->pending[i].udp_fd == d->watch.fd)
            w->pending[i].gone = true;
    net_loop_remove(&w->loop, &d->watch);
    (void)close(d->watch.fd);
    d->open = false;
}

/* ---- what the keeper says ---- */

static void use_config(struct worker *w, const struct channel_config *c)
{
    struct channel_config *fresh = w->config == &w->setup->config ? malloc(sizeof *fresh) : w->config;

    if (!fresh)
        return; /* the old one stays in force */
    *fresh = *c;
    channel_link_config(fresh);
    w->config = fresh;
    w->kdc.config = &fresh->config.kdc;
    w->records.flood = fresh->config.log_flood;
}

static void hear(struct worker *w, const union message *m, int fd)
{
    switch (m->type) {
    case CHANNEL_DOOR_OPEN:
        open_door(w, &m->door, fd);
        return;
    case CHANNEL_DOOR_CLOSE:
        close_door(w, m->door.id);
        return;
    case CHANNEL_CONFIG:
        use_config(w, &m->config.config);
        return;
    case CHANNEL_VERDICT:
        serve_verdict(w, &m->verdict);
        return;
    case CHANNEL_GIVE_UP:
        streams_give_up(w, m->give_up.source);
        return;
    case CHANNEL_LINK:
        courier_link_open(w, fd);
        return;
    case CHANNEL_STOP:
        w->stopping = true;
        return;
    case CHANNEL_SETUP:
    case CHANNEL_RECORDS:
    case CHANNEL_START:
    case CHANNEL_READY:
    case CHANNEL_FAILED:
    case CHANNEL_CHANGE:
    case CHANNEL_ACTIVITY:
    case CHANNEL_COURIER:
    case CHANNEL_UNLINK:
    case CHANNEL_REALMS:
    case CHANNEL_CERTIFICATE:
    case CHANNEL_STATUS:
    case CHANNEL_HEALTH:
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
        _exit(0); /* the keeper died: without it nobody may change anything, and another one wants the sockets
                   */
    if (n > 0)
        hear(watch->owner, &m, fd);
}

/* ---- starting ---- */

/* Waits for the next message of the beginning. */
static int next_message(union message *m)
{
    int fd;
    long n = -1;

    while (n < 0) {
        (void)poll(&(struct pollfd){.fd = CHANNEL_FD, .events = POLLIN}, 1, -1);
        n = net_receive(CHANNEL_FD, m, sizeof *m, &fd);
    }
    if (n == 0)
        _exit(0);
    return fd;
}

static void attach(struct worker *w, int fd)
{
    size_t n = w->setup->shared_n;
    void *block = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    (void)close(fd);
    if (block == MAP_FAILED)
        channel_die("cannot map the shared block");
    if (w->setup->tally_at > n || n - w->setup->tally_at < tally_bytes())
        channel_die("the shared block is too short");
    w->tally = (struct tally *)(void *)((uint8_t *)block + w->setup->tally_at);
    w->kdc.shared = kdc_shared_attach(block, n);
    if (!w->kdc.shared)
        channel_die("the shared block is not one");
}

static void set_up(struct worker *w, const struct channel_setup *m, int fd)
{
    w->setup = malloc(sizeof *w->setup);
    if (!w->setup)
        channel_die("no memory");
    *w->setup = *m;
    channel_link_config(&w->setup->config);
    w->config = &w->setup->config;
    attach(w, fd);
}

static void start_records(struct worker *w, int fd)
{
    record_init(&w->records, fd, w->setup->worker, w->config->config.log_flood);
    w->records.tally = w->tally;
}

static void hear_beginning(struct worker *w)
{
    union message *m = malloc(sizeof *m);
    enum channel_type type = CHANNEL_SETUP;

    if (!m)
        channel_die("no memory");
    while (type != CHANNEL_START) {
        int fd = next_message(m);
        type = m->type;
        if (type == CHANNEL_SETUP)
            set_up(w, &m->setup, fd);
        else if (!w->setup)
            channel_die("the keeper said something before the beginning");
        else if (type == CHANNEL_RECORDS)
            start_records(w, fd);
        else if (type != CHANNEL_START)
            hear(w, m, fd);
    }
    sp_wipe(m, sizeof *m);
    free(m);
}

static void *zeroed(size_t n)
{
    void *p = calloc(1, n);

    if (!p)
        channel_die("no memory");
    return p;
}

static void allocate(struct worker *w, struct crypto *c)
{
    struct sp_err e = {0};

    sp_arena_init(&w->mem, zeroed(KDC_ARENA_MIN), KDC_ARENA_MIN);
    w->rng = admin_system_rng();
    w->udp = udp_new();
    w->streams = streams_new(w->rng);
    if (!w->udp || !w->streams || !activity_init(&w->activity, CHANNEL_ROWS_MAX))
        channel_die("no memory");
    if (!net_loop_init(&w->loop, &e))
        channel_die(e.text);
    w->kdc.crypto = c ? c : crypto_new(&e);
    if (!w->kdc.crypto)
        channel_die(e.text);
}

/* Everything that opens a file happens here; afterwards nothing can. */
static void open_store(struct worker *w)
{
    struct sp_err e = {0};

    w->store = lmdb_open(w->setup->state, LMDB_READ, w->setup->master, w->kdc.crypto, w->rng, &e);
    sp_wipe(w->setup->master, sizeof w->setup->master);
    if (!w->store)
        channel_die(e.text);
    net_owner_open(&w->owner);
    w->kdc.accounts = lmdb_lookup(w->store);
    w->kdc.config = &w->config->config.kdc;
}

static void lock_down(struct worker *w)
{
    struct sp_err e = {0};

    if (!net_drop_capabilities(&e))
        channel_die(e.text);
    if (w->setup->sandbox && !net_enter_sandbox(NET_SANDBOX_SERVES, &e))
        channel_die(e.text);
}

/* ---- running ---- */

static void send_activity(struct worker *w)
{
    struct channel_activity m = {.type = CHANNEL_ACTIVITY, .count = w->activity.count};

    memcpy(m.rows, w->activity.rows, w->activity.count * sizeof m.rows[0]);
    if (net_send_now(w->channel.fd, sp_span(&m, sizeof m)))
        activity_clear(&w->activity);
    else
        w->activity_due_us += 100000; /* the keeper is slow; a full table drops rows, which is allowed */
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a < 0 ? b : b < 0 ? a : a < b ? a : b;
}

static int time_out_ms(const struct worker *w, int64_t now)
{
    int64_t due = sooner(record_due_us(&w->records, now), streams_due_us(w, now));

    if (w->activity.count)
        due = sooner(due, w->activity_due_us > now ? w->activity_due_us - now : 0);
    return due < 0 ? -1 : (int)((due + 999) / 1000);
}

/* What is due after a turn; the clock is the vDSO's. */
static void tick(struct worker *w)
{
    struct sp_env env = admin_env();

    lmdb_settle(w->store);
    streams_expire(w, env.mono_us);
    record_tick(&w->records, env);
    if (w->activity.count && (env.mono_us >= w->activity_due_us || w->activity.count > CHANNEL_ROWS_MAX / 2))
        send_activity(w);
}

static bool is_pending(const struct worker *w)
{
    for (uint32_t i = 0; i < PENDING_MAX; i++)
        if (w->pending[i].used)
            return true;
    return false;
}

/* What had been received when the end was announced is answered; a password change that the keeper works on
 * is waited for. A peer that goes on asking cannot hold us. */
static void finish(struct worker *w)
{
    int64_t now = admin_env().mono_us, until = now + FINISH_US, last = now + FINISH_PENDING_US;
    int got = 1;

    while ((got > 0 && now < until) || (is_pending(w) && now < last)) {
        got = net_loop_turn(&w->loop, is_pending(w) ? 10 : 0);
        record_tick(&w->records, admin_env());
        now = admin_env().mono_us;
    }
}

static void run(struct worker *w)
{
    while (!w->stopping) {
        (void)net_loop_turn(&w->loop, time_out_ms(w, admin_env().mono_us));
        tick(w);
    }
    finish(w);
    record_flush(&w->records);
    if (w->activity.count)
        send_activity(w);
}

static void quiet_signals(void)
{
    /* Ctrl-C reaches the whole group; the keeper decides when workers end. */
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    (void)prctl(PR_SET_NAME, "sallyport-kdc", 0, 0, 0);
}

void worker_main(struct crypto *c)
{
    struct worker *w = zeroed(sizeof *w);
    struct sp_err e = {0};
    struct channel_plain ready = {CHANNEL_READY};

    quiet_signals();
    if (!net_hide(&e))
        channel_die(e.text);
    (void)fcntl(CHANNEL_FD, F_SETFD, FD_CLOEXEC);
    allocate(w, c);
    hear_beginning(w);
    open_store(w);
    w->channel = (struct net_watch){.fd = CHANNEL_FD, .ready = channel_ready, .owner = w};
    if (!net_loop_add(&w->loop, &w->channel, EPOLLIN, &e))
        channel_die(e.text);
    lock_down(w);
    if (!net_send(CHANNEL_FD, sp_span(&ready, sizeof ready), -1))
        _exit(1);
    run(w);
    _exit(0);
}
