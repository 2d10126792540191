/* SPDX-License-Identifier: MIT */
#include "daemon/courier.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "net/pass.h"
#include "net/sandbox.h"

#define FINISH_US 1000000
#define SWEEP_US 250000 /* how exactly connections end that are idle or stall */

union message { /* anything the keeper says */
    enum channel_type type;
    struct channel_courier setup;
    struct channel_door door;
    struct channel_link link;
    struct channel_realms realms;
    struct channel_certificate certificate;
};

static void *zeroed(size_t n)
{
    void *p = calloc(1, n ? n : 1);

    if (!p)
        channel_die("no memory");
    return p;
}

void courier_complain(const struct courier *c, const char *what, const struct sp_err *e)
{
    struct channel_failed m = {.type = CHANNEL_FAILED};

    (void)snprintf(m.text, sizeof m.text, "%s: %s%s", what, e->text,
                   c->ready ? "; what was there before stays" : "");
    if (!c->ready)
        channel_die(m.text);
    (void)net_send(CHANNEL_FD, sp_span(&m, sizeof m), -1);
}

/* ---- realms ---- */

static enum ladder_rung rung_of(uint8_t rung)
{
    static const enum ladder_rung rungs[] = {[ADMIN_LOCAL] = LADDER_LOCAL,
                                             [ADMIN_NATIVE] = LADDER_NATIVE,
                                             [ADMIN_RELAY] = LADDER_RELAY,
                                             [ADMIN_INBAND] = LADDER_INBAND};

    return rung < ADMIN_RUNGS ? rungs[rung] : LADDER_LOCAL;
}

static bool leads_somewhere(const struct admin_realm *r, uint8_t rung)
{
    for (uint32_t i = 0; i < r->target_count; i++)
        if (r->target[i].rung == rung)
            return true;
    return (rung == ADMIN_NATIVE && r->discover != ADMIN_STATIC) ||
           (rung == ADMIN_RELAY && r->discover >= ADMIN_URI);
}

static void put_rung(const struct admin_realm *r, uint8_t rung, struct ladder_realm *to)
{
    if (rung != ADMIN_RELAY || !r->relay_off)
        to->ladder[to->rung_count++] = rung_of(rung);
}

/* What is configured, or the design's order of what there is. A realm without a way has a rung that leads
 * nowhere, and says so. */
static void put_ladder(const struct admin_realm *r, bool own, struct ladder_realm *to)
{
    static const uint8_t usual[] = {ADMIN_NATIVE, ADMIN_RELAY, ADMIN_INBAND};

    for (uint32_t i = 0; i < r->rung_count; i++)
        put_rung(r, r->ladder[i], to);
    if (r->rung_count == 0 && own)
        put_rung(r, ADMIN_LOCAL, to);
    for (size_t i = 0; i < sizeof usual; i++)
        if (r->rung_count == 0 && leads_somewhere(r, usual[i]))
            put_rung(r, usual[i], to);
    if (to->rung_count == 0)
        put_rung(r, ADMIN_NATIVE, to);
}

static void put_target(const struct courier *c, const struct admin_realm *r, const struct admin_target *from,
                       struct ladder_target *to)
{
    bool pinned = courier_names_host(c->config.timestamp_hosts, sp_str(from->host));

    *to = (struct ladder_target){.rung = rung_of(from->rung),
                                 .host = sp_str(from->host),
                                 .port = from->port,
                                 .kpasswd_port = r->kpasswd_port,
                                 .path = sp_str(from->path),
                                 .tls = from->tls,
                                 .tcp_only = from->tcp_only,
                                 .primary = from->primary,
                                 .listed_ip = from->listed_ip,
                                 .timestamp_allowed = r->inband_timestamp || pinned};
}

static bool is_own(const struct courier *c, const struct admin_realm *r)
{
    return strcmp(c->config.realm, r->name) == 0;
}

/* The workers have their own; a service hands on what all its clients ask. */
static void free_from_limits(const struct courier *c, struct ladder_realm *own)
{
    if (!own->in_flight_max)
        own->in_flight_max = c->config.limits.requests;
    if (!own->per_second_max)
        own->per_second_max = 1000000;
}

static void put_realm(const struct courier *c, const struct admin_realm *r, struct ladder_target *targets,
                      struct sp_span *aliases, struct ladder_realm *to)
{
    static const enum ladder_discover discover[] = {[ADMIN_STATIC] = LADDER_STATIC,
                                                    [ADMIN_SRV] = LADDER_SRV,
                                                    [ADMIN_URI] = LADDER_URI,
                                                    [ADMIN_URI_SRV] = LADDER_URI_THEN_SRV};

    *to = (struct ladder_realm){
        .name = sp_str(r->name),
        .aliases = {aliases, r->alias_count},
        .targets = targets,
        .discover = discover[r->discover % 4],
        .kpasswd = r->kpasswd,
        .in_flight_max = r->max_in_flight,
        .per_second_max = r->per_second
    };
    for (uint32_t i = 0; i < r->alias_count; i++)
        aliases[i] = sp_str(r->alias[i]);
    for (uint32_t i = 0; i < r->target_count; i++)
        if (r->target[i].rung != ADMIN_RELAY || !r->relay_off)
            put_target(c, r, &r->target[i], &targets[to->target_count++]);
    put_ladder(r, is_own(c, r), to);
    if (!is_own(c, r))
        return;
    if (r->alias_count == 0)
        to->aliases = c->realm.aliases;
    to->kpasswd = r->kpasswd && to->target_count > 0; /* workers take them at their own port alone */
    free_from_limits(c, to);
}

static void free_realms(struct courier_realms *r)
{
    free(r->v);
    free(r->ladder);
    free(r->targets);
    free(r->aliases);
    *r = (struct courier_realms){0};
}

/* The sections in their order, and this machine's own realm behind them when it has none. */
static void make_realms(struct courier *c, struct courier_realms *to)
{
    bool own = false;

    to->ladder = zeroed((to->count + 1) * sizeof *to->ladder);
    to->targets = zeroed((size_t)to->count * ADMIN_TARGETS_MAX * sizeof *to->targets);
    to->aliases = zeroed((size_t)to->count * ADMIN_REALM_ALIASES_MAX * sizeof *to->aliases);
    for (uint32_t i = 0; i < to->count; i++) {
        put_realm(c, &to->v[i], to->targets + (size_t)i * ADMIN_TARGETS_MAX,
                  to->aliases + (size_t)i * ADMIN_REALM_ALIASES_MAX, &to->ladder[to->ladder_count++]);
        own = own || is_own(c, &to->v[i]);
    }
    if (own)
        return;
    to->ladder[to->ladder_count++] = (struct ladder_realm){
        .name = c->realm.name, .aliases = c->realm.aliases, .ladder = {LADDER_LOCAL}, .rung_count = 1};
    free_from_limits(c, &to->ladder[to->ladder_count - 1]);
}

const struct admin_realm *courier_realm_at(const struct courier *c, uint32_t realm)
{
    return realm < c->realms.count ? &c->realms.v[realm] : NULL;
}

static void map_realms(struct courier_realms *to, uint32_t count, int fd)
{
    size_t n = count * sizeof *to->v;
    void *p;

    to->v = zeroed(n);
    to->count = count;
    if (count == 0)
        return;
    p = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        channel_die("realms that cannot be read");
    memcpy(to->v, p, n);
    (void)munmap(p, n);
}

static void use_realms(struct courier *c, const struct channel_realms *m, int fd)
{
    struct courier_realms fresh = {0};
    struct sp_err e = {0};

    map_realms(&fresh, m->count, fd);
    if (fd >= 0)
        (void)close(fd);
    make_realms(c, &fresh);
    if (!ladder_configure(c->ladder, admin_env(), fresh.ladder, fresh.ladder_count, &e)) {
        free_realms(&fresh);
        courier_complain(c, "realms", &e);
        return;
    }
    free_realms(&c->realms);
    c->realms = fresh;
}

static void use_certificate(struct courier *c, const struct channel_certificate *m, int fd)
{
    size_t n = (size_t)m->chain_n + m->key_n + m->client_ca_n;
    uint8_t *p;

    if (n == 0 || fd < 0 || !c->web) {
        if (fd >= 0)
            (void)close(fd);
        return;
    }
    p = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    (void)close(fd);
    if (p == MAP_FAILED)
        channel_die("a certificate that cannot be read");
    courier_use_certificate(c, sp_span(p, m->chain_n), sp_span(p + m->chain_n, m->key_n),
                            sp_span(p + m->chain_n + m->key_n, m->client_ca_n));
    (void)munmap(p, n);
}

/* ---- what the keeper says ---- */

/* The size of the ladder's memory, and what reads files, is settled by the first. */
static void begin_parts(struct courier *c)
{
    struct sp_err e = {0};

    c->ladder = ladder_init(zeroed(ladder_bytes(&c->config.limits)), &c->config.limits, c->rng);
    net_owner_open(&c->owner);
    if (!courier_start_counts(c, &e) || !courier_start_routes(c, &e) ||
        (c->config.needs_relay && !courier_start_relay(c, &e)))
        channel_die(e.text);
}

/* Whom the doors believe is settled when they are opened. */
static void trust_again(struct courier *c)
{
    struct sp_err e = {0};

    for (uint32_t i = 0; i < COURIER_GATES_MAX; i++) {
        struct courier_gate *g = &c->gates[i];
        if (!g->open || g->kind != DOOR_RELAY_PLAIN)
            continue;
        courier_close_relay(g);
        if (!courier_open_relay(g, &e))
            channel_die(e.text);
    }
}

static void use_config(struct courier *c, const struct courier_config *fresh)
{
    bool other = strcmp(c->config.relay_proxies, fresh->relay_proxies) != 0;

    if (c->config.relay_open != fresh->relay_open)
        courier_forgive(c);
    c->config = *fresh;
    if (other)
        trust_again(c);
    for (uint32_t i = 0; i < c->config.alias_count; i++)
        c->alias_spans[i] = sp_str(c->config.alias[i]);
    c->realm.name = sp_str(c->config.realm);
    c->realm.aliases = (struct sp_spans){c->alias_spans, c->config.alias_count};
    c->records.flood = c->config.log_flood;
    if (!c->ladder)
        begin_parts(c);
}

static bool watch_gate(struct courier_gate *g, struct sp_err *e)
{
    switch (g->kind) {
    case DOOR_COURIER:
        g->watch.ready = courier_accept;
        break;
    case DOOR_LOOPBACK_UDP:
        g->watch.ready = courier_loopback_udp;
        break;
    case DOOR_LOOPBACK_TCP:
        g->watch.ready = courier_loopback_tcp;
        break;
    case DOOR_METRICS:
        g->watch.ready = courier_metrics;
        break;
    case DOOR_RELAY:
    case DOOR_RELAY_PLAIN:
        return courier_open_relay(g, e);
    case DOOR_UDP:
    case DOOR_TCP:
    case DOOR_UNIX:
        return sp_fail(e, SP_EBUG, 0, "a door of the KDC's");
    }
    return net_loop_add(&g->courier->loop, &g->watch, EPOLLIN, e);
}

static void open_gate(struct courier *c, const struct channel_door *info, int fd)
{
    struct courier_gate *g = info->id < COURIER_GATES_MAX ? &c->gates[info->id] : NULL;
    struct sp_err e = {0};

    if (!g || g->open || fd < 0)
        channel_die("a door that cannot be opened");
    *g = (struct courier_gate){.courier = c, .id = info->id, .kind = info->kind, .open = true};
    g->watch = (struct net_watch){.fd = fd, .owner = g};
    g->bound.n = sizeof g->bound.sa;
    (void)getsockname(fd, (struct sockaddr *)&g->bound.sa, &g->bound.n);
    if (!watch_gate(g, &e))
        channel_die(e.text);
}

static void close_gate(struct courier_gate *g)
{
    if (!g->open)
        return;
    if (g->kind == DOOR_RELAY || g->kind == DOOR_RELAY_PLAIN)
        courier_close_relay(g);
    else
        net_loop_remove(&g->courier->loop, &g->watch);
    (void)close(g->watch.fd);
    g->open = false;
}

static void hear(struct courier *c, const union message *m, int fd)
{
    switch (m->type) {
    case CHANNEL_COURIER:
        use_config(c, &m->setup.config);
        return;
    case CHANNEL_REALMS:
        use_realms(c, &m->realms, fd);
        return;
    case CHANNEL_CERTIFICATE:
        use_certificate(c, &m->certificate, fd);
        return;
    case CHANNEL_RECORDS:
        c->records.fd = fd;
        return;
    case CHANNEL_DOOR_OPEN:
        open_gate(c, &m->door, fd);
        return;
    case CHANNEL_DOOR_CLOSE:
        if (m->door.id < COURIER_GATES_MAX)
            close_gate(&c->gates[m->door.id]);
        return;
    case CHANNEL_LINK:
        courier_open_link(c, m->link.worker, fd);
        return;
    case CHANNEL_UNLINK:
        courier_leave_link(c, m->link.worker);
        return;
    case CHANNEL_STATUS:
        courier_tell_health(c);
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
    size_t n = (tally_bytes() + 63) & ~(size_t)63;
    void *block = aligned_alloc(64, n);
    uint64_t key;

    if (!block)
        channel_die("no memory");
    memset(block, 0, n);
    sp_rng_fill(c->rng, &key, sizeof key);
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

    tzset(); /* OpenSSL has the dates of certificates converted, and the C library its zone read for that */
    if (!net_drop_capabilities(&e))
        channel_die(e.text);
    if (sandbox && !net_enter_sandbox(NET_SANDBOX_CONNECTS, &e))
        channel_die(e.text);
}

/* ---- running ---- */

static int time_out_ms(const struct courier *c, int64_t now)
{
    int64_t due = record_due_us(&c->records, now), climb = ladder_due_us(c->ladder),
            workers = courier_workers_due_us(c);

    if ((c->stream_count || c->callers || c->readers) && (due < 0 || due > 1000000))
        due = 1000000;
    if (climb >= 0 && (due < 0 || climb - now < due))
        due = climb > now ? climb - now : 0;
    if (workers >= 0 && (due < 0 || workers - now < due))
        due = workers - now;
    return due < 0 ? -1 : (int)((due + 999) / 1000);
}

static void tick(struct courier *c)
{
    struct sp_env env = admin_env();

    courier_expire_workers(c, env.mono_us);
    if (env.mono_us - c->swept_us >= SWEEP_US) {
        c->swept_us = env.mono_us;
        courier_expire_streams(c, env.mono_us);
        courier_expire_loopback(c, env.mono_us);
        courier_expire_metrics(c, env.mono_us);
    }
    if (ladder_due_us(c->ladder) >= 0 && ladder_due_us(c->ladder) <= env.mono_us)
        ladder_tick(c->ladder, env);
    courier_climb(c);
    record_tick(&c->records, env);
}

static bool is_busy(const struct courier *c)
{
    return c->request_count > 0 || !courier_is_flushed(c) || (c->web && !net_web_is_idle(c->web));
}

/* What was asked is answered; what is still being said is not heard any more. */
static void finish(struct courier *c)
{
    int64_t now = admin_env().mono_us, until = now + FINISH_US;

    for (uint32_t i = 0; i < COURIER_GATES_MAX; i++)
        close_gate(&c->gates[i]);
    net_base_turn(c->base, 0); /* frames that are there already */
    tick(c);
    if (c->web)
        net_web_stop(c->web);
    while (is_busy(c) && now < until) {
        net_base_turn(c->base, 10);
        tick(c);
        now = admin_env().mono_us;
    }
    record_flush(&c->records);
}

static void start(struct courier *c)
{
    struct sp_err e = {0};

    c->rng = admin_system_rng();
    sp_arena_init(&c->mem, zeroed(COURIER_ARENA), COURIER_ARENA);
    if (!net_loop_init(&c->loop, &e) || !(c->base = net_base_new(&c->loop, &e)))
        channel_die(e.text);
    start_records(c);
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
    start(c);
    hear_beginning(c, &sandbox);
    c->channel = (struct net_watch){.fd = CHANNEL_FD, .ready = channel_ready, .owner = c};
    if (!net_loop_add(&c->loop, &c->channel, EPOLLIN, &e))
        channel_die(e.text);
    lock_down(sandbox);
    if (!net_send(CHANNEL_FD, sp_span(&ready, sizeof ready), -1))
        _exit(1);
    while (!c->stopping) {
        net_base_turn(c->base, time_out_ms(c, admin_env().mono_us));
        tick(c);
    }
    finish(c);
    _exit(0);
}
