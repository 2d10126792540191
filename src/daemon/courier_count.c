/* SPDX-License-Identifier: MIT */
/* What the courier counts, and who may read it: metrics in Prometheus' text format over HTTP (GET /metrics),
 * and for the keeper the health of every route. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/courier.h"
#include "net/pass.h"

#define SERIES_MAX 2048 /* door, route, realm, result; what is beyond counts as "other" */
#define READERS_MAX 16
#define READER_US 5000000
#define HEAD_MAX 4096
#define TEXT_MAX (4u << 20)

static const int64_t bounds_us[] = {500,    1000,   2500,   5000,    10000,   25000,  50000,
                                    100000, 250000, 500000, 1000000, 2500000, 5000000};
enum { BOUNDS = sizeof bounds_us / sizeof *bounds_us };

struct series {
    const char *door, *route, *result;
    char realm[64];
    uint64_t count, below[BOUNDS];
    int64_t took_us;
};

struct courier_counts {
    uint32_t count;
    struct series *v; /* grows to SERIES_MAX */
    uint32_t room;
};

struct courier_reader {
    struct courier_reader *next;
    struct courier *courier;
    struct net_watch watch;
    struct net_stash in, out;
    int64_t until_us;
};

/* ---- counting ---- */

bool courier_start_counts(struct courier *c, struct sp_err *e)
{
    c->counts = calloc(1, sizeof *c->counts);
    return c->counts || sp_fail(e, SP_ENOMEM, 0, "no memory");
}

static struct series *find_series(const struct courier_counts *k, const struct courier_counted *w)
{
    for (uint32_t i = 0; i < k->count; i++) {
        struct series *s = &k->v[i];
        if (s->door == w->door && s->route == w->route && s->result == w->result &&
            strncmp(s->realm, w->realm, sizeof s->realm - 1) == 0)
            return s;
    }
    return NULL;
}

static bool grow(struct courier_counts *k)
{
    uint32_t room = k->room ? 2 * k->room : 16;
    struct series *v;

    if (k->count < k->room)
        return true;
    if (k->room == SERIES_MAX || !(v = realloc(k->v, room * sizeof *v)))
        return false;
    k->v = v;
    k->room = room;
    return true;
}

static struct series *new_series(struct courier_counts *k, const struct courier_counted *w)
{
    struct series *s;

    if (!grow(k))
        return NULL;
    s = &k->v[k->count++];
    *s = (struct series){.door = w->door, .route = w->route, .result = w->result};
    (void)snprintf(s->realm, sizeof s->realm, "%s", w->realm);
    return s;
}

/* Words come from this program, so that they can be told apart by where they lie; realms are configured. */
void courier_count(struct courier *c, const struct courier_counted *what)
{
    struct series *s = find_series(c->counts, what);

    if (!s && !(s = new_series(c->counts, what)))
        return;
    s->count++;
    s->took_us += what->took_us;
    for (uint32_t i = 0; i < BOUNDS; i++)
        s->below[i] += what->took_us <= bounds_us[i];
}

/* ---- text ---- */

static void put_labels(struct sp_text *t, const struct series *s)
{
    sp_text_fmt(t, "door=\"%s\",route=\"%s\",realm=\"", s->door, s->route);
    sp_text_json(t, sp_str(s->realm)); /* the same escapes for what a realm may hold */
    sp_text_fmt(t, "\",result=\"%s\"", s->result);
}

static void put_histogram(struct sp_text *t, const struct series *s)
{
    for (uint32_t i = 0; i <= BOUNDS; i++) {
        sp_text_str(t, "sallyport_courier_seconds_bucket{");
        put_labels(t, s);
        if (i < BOUNDS)
            sp_text_fmt(t, ",le=\"%g\"} %llu\n", (double)bounds_us[i] / 1e6, (unsigned long long)s->below[i]);
        else
            sp_text_fmt(t, ",le=\"+Inf\"} %llu\n", (unsigned long long)s->count);
    }
    sp_text_str(t, "sallyport_courier_seconds_sum{");
    put_labels(t, s);
    sp_text_fmt(t, "} %.6f\nsallyport_courier_seconds_count{", (double)s->took_us / 1e6);
    put_labels(t, s);
    sp_text_fmt(t, "} %llu\n", (unsigned long long)s->count);
}

static void put_routes(struct sp_text *t, const struct courier *c)
{
    struct ladder_health h;

    sp_text_str(t,
                "# HELP sallyport_courier_route_up 1: it answered last; 0: it did not; absent: never tried.\n"
                "# TYPE sallyport_courier_route_up gauge\n");
    for (uint32_t realm = 0; realm < c->realms.ladder_count; realm++)
        for (uint32_t i = 0; ladder_health_at(c->ladder, realm, i, &h); i++) {
            if (h.life == LADDER_UNKNOWN)
                continue;
            sp_text_str(t, "sallyport_courier_route_up{realm=\"");
            sp_text_json(t, c->realms.ladder[realm].name);
            sp_text_fmt(t, "\",route=\"%s\",target=\"", ladder_rung_name(h.rung));
            if (h.target) {
                sp_text_json(t, h.target->host);
                sp_text_fmt(t, ":%u", h.target->port);
            }
            sp_text_fmt(t, "\"} %d\n", h.life == LADDER_ALIVE);
        }
}

static void put_metrics(struct sp_text *t, const struct courier *c)
{
    sp_text_fmt(t,
                "# HELP sallyport_courier_in_flight Requests under way.\n"
                "# TYPE sallyport_courier_in_flight gauge\n"
                "sallyport_courier_in_flight %u\n",
                ladder_in_flight(c->ladder));
    sp_text_str(t, "# HELP sallyport_courier_seconds Exchanges by door, route, realm and result, and how "
                   "long they took.\n"
                   "# TYPE sallyport_courier_seconds histogram\n");
    for (uint32_t i = 0; i < c->counts->count; i++)
        put_histogram(t, &c->counts->v[i]);
    put_routes(t, c);
}

/* ---- HTTP ---- */

static void close_reader(struct courier_reader *r)
{
    struct courier *c = r->courier;
    struct courier_reader **at = &c->readers;

    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    c->reader_count--;
    net_loop_remove(&c->loop, &r->watch);
    (void)close(r->watch.fd);
    net_stash_free(&r->in);
    net_stash_free(&r->out);
    free(r);
}

static void write_out(struct courier_reader *r)
{
    ssize_t n = send(r->watch.fd, r->out.p, r->out.n, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n > 0)
        net_stash_drop(&r->out, (size_t)n);
    if ((n < 0 && errno != EAGAIN && errno != EINTR) || r->out.n == 0)
        close_reader(r);
    else
        net_loop_change(&r->courier->loop, &r->watch, EPOLLOUT);
}

static bool asks_for_metrics(const struct courier_reader *r)
{
    static const char line[] = "GET /metrics";
    size_t n = sizeof line - 1;

    return r->in.n > n && memcmp(r->in.p, line, n) == 0 && (r->in.p[n] == ' ' || r->in.p[n] == '?');
}

static void serve_reader(struct courier_reader *r)
{
    bool good = asks_for_metrics(r);
    char *body = malloc(TEXT_MAX), head[200];
    struct sp_text t = sp_text(body, body ? TEXT_MAX : 0);

    if (body && good)
        put_metrics(&t, r->courier);
    (void)snprintf(
        head, sizeof head,
        "HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: %zu\r\n"
        "Connection: close\r\n\r\n",
        good ? "200 OK" : "404 Not Found", t.n);
    if (body && net_stash_add(&r->out, sp_str(head)) &&
        (t.n == 0 || net_stash_add(&r->out, sp_span(t.p, t.n))))
        write_out(r);
    else
        close_reader(r);
    free(body);
}

static void reader_ready(struct net_watch *watch, uint32_t events)
{
    struct courier_reader *r = watch->owner;
    uint8_t buf[1024];
    ssize_t n;

    if (r->out.n) {
        write_out(r);
        return;
    }
    (void)events;
    n = recv(watch->fd, buf, sizeof buf, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || r->in.n + (size_t)n > HEAD_MAX || !net_stash_add(&r->in, sp_span(buf, (size_t)n)))
        close_reader(r);
    else if (memmem(r->in.p, r->in.n, "\r\n\r\n", 4))
        serve_reader(r);
}

static bool admit(struct courier *c, int fd)
{
    struct courier_reader *r = c->reader_count < READERS_MAX ? calloc(1, sizeof *r) : NULL;
    struct sp_err e = {0};

    if (!r)
        return false;
    *r = (struct courier_reader){.next = c->readers, .courier = c, .until_us = admin_mono_us() + READER_US};
    r->watch = (struct net_watch){.fd = fd, .ready = reader_ready, .owner = r};
    if (!net_loop_add(&c->loop, &r->watch, EPOLLIN, &e)) {
        free(r);
        return false;
    }
    c->readers = r;
    c->reader_count++;
    return true;
}

void courier_metrics(struct net_watch *door, uint32_t events)
{
    struct courier_gate *g = door->owner;
    int fd = accept4(door->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    (void)events;
    if (fd >= 0 && !admit(g->courier, fd))
        (void)close(fd);
}

void courier_expire_metrics(struct courier *c, int64_t mono_us)
{
    for (struct courier_reader *r = c->readers, *next; r; r = next) {
        next = r->next;
        if (r->until_us <= mono_us)
            close_reader(r);
    }
}

/* ---- health, for `status` ---- */

static void put_target(const struct ladder_target *t, char *out, size_t max)
{
    struct sp_text s = sp_text(out, max);

    if (!t)
        sp_text_str(&s, "this machine");
    else if (t->rung == LADDER_NATIVE)
        sp_text_fmt(&s, "%s%.*s:%u", t->tcp_only ? "tcp/" : "", SP_FMT(t->host), t->port);
    else
        sp_text_fmt(&s, "http%s://%.*s:%u%.*s", t->tls || t->rung == LADDER_RELAY ? "s" : "", SP_FMT(t->host),
                    t->port, SP_FMT(t->path));
}

static void put_row(struct health_row *row, struct sp_span realm, const struct ladder_health *h, int64_t now)
{
    *row = (struct health_row){.rung = h->rung,
                               .life = h->life,
                               .for_us = now - h->since_us,
                               .latency_us = h->latency_us,
                               .answers = h->answers,
                               .failures = h->failures,
                               .found = h->found};
    (void)snprintf(row->realm, sizeof row->realm, "%.*s", SP_FMT(realm));
    put_target(h->target, row->target, sizeof row->target);
    (void)snprintf(row->reason, sizeof row->reason, "%s", h->reason);
}

static void send_rows(struct channel_health *m)
{
    (void)net_send(CHANNEL_FD, sp_span(m, sizeof *m), -1);
    m->count = 0;
    m->first = false;
}

void courier_tell_health(struct courier *c)
{
    static struct channel_health m;
    int64_t now = admin_mono_us();
    struct ladder_health h;

    m = (struct channel_health){
        .type = CHANNEL_HEALTH, .first = true, .in_flight = ladder_in_flight(c->ladder)};
    for (uint32_t realm = 0; realm < c->realms.ladder_count; realm++)
        for (uint32_t i = 0; ladder_health_at(c->ladder, realm, i, &h); i++) {
            if (m.count == CHANNEL_HEALTH_ROWS)
                send_rows(&m);
            put_row(&m.row[m.count++], c->realms.ladder[realm].name, &h, now);
        }
    m.last = true;
    send_rows(&m);
}
