/* SPDX-License-Identifier: MIT */
/* Connections: TCP and UNIX, four-byte lengths. A connection that has not sent a whole request for tcp-idle
 * seconds goes; when there are too many, the one that has been idle longest goes first: an honest client
 * sends as soon as it is connected, so it is never that one. An idle connection costs this struct and no
 * buffer. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/worker.h"
#include "net/pass.h"

#define SOURCE_SLOTS 1024
#define SCRATCH_MAX (KDC_MESSAGE_MAX + 4)

struct stream_source { /* this worker's connections of one source */
    struct stream_source *next;
    uint8_t id[24];
    uint64_t name; /* in the tally */
    uint32_t count;
};

struct stream {
    struct net_watch watch;
    struct stream *older, *newer; /* by deadline; all waits are equally long, so new ones go to the end */
    struct worker *worker;
    struct stream_source *counted; /* NULL: loopback, which is one source for everybody */
    struct pending_change *pending;
    int64_t deadline_us;
    struct net_stash in, out;
    struct kdc_source source;
    enum kdc_door door;
    enum door_service service;
    uint8_t local_address[16];
    uint8_t local_address_n;
    bool identified; /* a loopback source was looked at more closely */
    bool ended;      /* the peer sends no more */
    bool closing;    /* nothing more is served; ends when all is written */
    bool draining;   /* our side is shut; closing with bytes unread would reset the connection and lose our
                        answer */
};

struct streams {
    struct stream *oldest, *newest;
    uint32_t count;
    uint32_t epoch; /* of the tally, when our sources were counted into it */
    size_t stashed; /* bytes of half-read requests */
    uint64_t key;
    struct stream_source *sources[SOURCE_SLOTS];
    uint8_t scratch[SCRATCH_MAX];
};

static const struct net_frame_limits limits = {2, KDC_MESSAGE_MAX}; /* less than two bytes is no DER value */

struct streams *streams_new(struct sp_rng *rng)
{
    struct streams *s = calloc(1, sizeof *s);

    if (s)
        sp_rng_fill(rng, &s->key, sizeof s->key);
    return s;
}

/* ---- order and counts ---- */

static void unlink_stream(struct streams *all, struct stream *s)
{
    *(s->older ? &s->older->newer : &all->oldest) = s->newer;
    *(s->newer ? &s->newer->older : &all->newest) = s->older;
    s->older = s->newer = NULL;
}

static void append_stream(struct streams *all, struct stream *s)
{
    s->older = all->newest;
    *(all->newest ? &all->newest->newer : &all->oldest) = s;
    all->newest = s;
}

/* What the other workers may know. */
static void publish(const struct worker *w)
{
    const struct streams *all = w->streams;

    tally_set_streams(w->tally, w->setup->worker, all->count, all->oldest ? all->oldest->deadline_us : 0);
}

static void restart_clock(struct stream *s, int64_t mono_us)
{
    s->deadline_us = mono_us + (int64_t)s->worker->config->config.tcp_idle_s * 1000000;
    unlink_stream(s->worker->streams, s);
    append_stream(s->worker->streams, s);
    publish(s->worker);
}

static struct stream_source **slot_of(struct streams *all, const uint8_t id[24])
{
    uint64_t h = all->key;

    for (int i = 0; i < 24; i++)
        h = (h ^ id[i]) * 0x100000001b3u;
    return &all->sources[(h >> 32) % SOURCE_SLOTS];
}

/* A worker ended, and all sources are counted anew. */
static void count_again(struct worker *w)
{
    struct streams *all = w->streams;
    uint32_t epoch = tally_epoch(w->tally);

    if (epoch == all->epoch)
        return;
    all->epoch = epoch;
    for (uint32_t i = 0; i < SOURCE_SLOTS; i++)
        for (struct stream_source *s = all->sources[i]; s; s = s->next)
            (void)tally_join(w->tally, s->name, s->count);
}

static struct stream_source *find_source(struct worker *w, const struct kdc_source *from)
{
    struct streams *all = w->streams;
    struct stream_source **at = slot_of(all, from->id), *s;

    for (s = *at; s && memcmp(s->id, from->id, sizeof s->id) != 0;)
        s = s->next;
    if (!s) {
        s = calloc(1, sizeof *s);
        if (!s)
            return NULL;
        memcpy(s->id, from->id, sizeof s->id);
        s->name = tally_source(w->tally, s->id);
        s->next = *at;
        *at = s;
    }
    return s;
}

/* How many there are of that source, over all workers. */
static uint32_t count_source(struct worker *w, struct stream_source *s)
{
    count_again(w);
    s->count++;
    return tally_join(w->tally, s->name, 1);
}

static void drop_source(struct streams *all, struct stream_source *s)
{
    struct stream_source **at;

    if (--s->count > 0)
        return;
    for (at = slot_of(all, s->id); *at != s;)
        at = &(*at)->next;
    *at = s->next;
    free(s);
}

static void uncount_source(struct worker *w, struct stream_source *s)
{
    count_again(w);
    (void)tally_leave(w->tally, s->name, 0);
    drop_source(w->streams, s);
}

static void close_stream(struct stream *s)
{
    struct streams *all = s->worker->streams;
    int fd = s->watch.fd;

    net_loop_remove(&s->worker->loop, &s->watch);
    unlink_stream(all, s);
    all->count--;
    all->stashed -= s->in.max;
    if (s->counted)
        uncount_source(s->worker, s->counted);
    net_stash_free(&s->in);
    net_stash_free(&s->out);
    if (s->pending) {
        s->pending->stream = NULL;
        s->pending->gone = true;
    }
    publish(s->worker);
    (void)close(fd); /* last: a peer that sees its end and comes again must not be counted twice */
    free(s);
}

/* The oldest of that source (NULL: of all) that no answer is being made for. `spare` stays. */
static struct stream *find_oldest(const struct streams *all, const struct stream_source *of,
                                  const struct stream *spare)
{
    struct stream *s = all->oldest;

    while (s && (s->pending || s == spare || (of && s->counted != of)))
        s = s->newer;
    return s;
}

static bool evict(struct streams *all, const struct stream_source *of, const struct stream *spare)
{
    struct stream *s = find_oldest(all, of, spare);

    if (!s)
        return false;
    close_stream(s);
    return true;
}

/* ---- writing ---- */

static void want(struct stream *s)
{
    uint32_t events = s->out.n ? EPOLLOUT : s->pending ? 0 : EPOLLIN;

    net_loop_change(&s->worker->loop, &s->watch, events);
}

/* false: the connection is gone */
static bool write_out(struct stream *s)
{
    ssize_t n = send(s->watch.fd, s->out.p, s->out.n, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        close_stream(s);
        return false;
    }
    if (n > 0)
        net_stash_drop(&s->out, (size_t)n);
    if (s->out.n == 0 && s->closing) {
        (void)shutdown(s->watch.fd, SHUT_WR);
        s->draining = true;
    }
    if (s->draining && s->ended) {
        close_stream(s);
        return false;
    }
    want(s);
    return true;
}

/* Straight to the socket; only what it does not take is kept. */
static bool send_reply(struct stream *s, struct sp_span reply)
{
    uint8_t head[4];
    struct iovec part[2] = {
        {head,                       4      },
        {(void *)(uintptr_t)reply.p, reply.n}
    };
    struct msghdr m = {.msg_iov = part, .msg_iovlen = 2};
    size_t sent = 0;
    ssize_t n = 0;

    net_put_frame_length(head, reply.n);
    if (s->out.n == 0)
        n = sendmsg(s->watch.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0)
        sent = (size_t)n;
    if (sent == reply.n + 4)
        return true;
    if (sent < 4 && !net_stash_add(&s->out, sp_span(head + sent, 4 - sent)))
        return false;
    sent = sent < 4 ? 0 : sent - 4;
    return net_stash_add(&s->out, sp_span(reply.p + sent, reply.n - sent));
}

/* ---- reading ---- */

static bool serve_message(struct stream *s, struct sp_span message)
{
    struct worker *w = s->worker;
    struct kdc_request req = {.bytes = message, .door = s->door, .source = s->source};
    struct source_finder finder = {.worker = w, .stream_fd = s->watch.fd};
    struct serve_answer a;
    bool ok = true;

    if (s->source.loopback && s->door == KDC_TCP && !s->identified)
        source_look_closer(&req, &finder);
    memcpy(req.local_address, s->local_address, sizeof req.local_address);
    req.local_address_n = s->local_address_n;
    serve_request(w, s->service, &req, &a);
    if (finder.asked) {
        s->source = finder.found;
        s->identified = true;
    }
    if (a.pending) {
        a.pending->stream = s;
        s->pending = a.pending;
    } else if (a.reply.n) {
        ok = send_reply(s, a.reply);
    }
    serve_done(w);
    return ok;
}

static bool refuse_length(struct stream *s)
{
    bool ok = send_reply(s, serve_too_long(s->worker, &s->source, s->door));

    serve_done(s->worker);
    s->closing = true;
    return ok;
}

/* Whole messages in `in`, one after the other; *used bytes are done with. false: close. */
static bool serve_messages(struct stream *s, struct sp_span in, size_t *used, bool *whole)
{
    struct sp_span message;
    size_t n;

    while (!s->pending && !s->closing && s->out.n == 0) {
        struct sp_span rest = sp_span(in.p + *used, in.n - *used);
        enum net_frame_result got = net_get_frame(rest, limits, &message, &n);
        if (got == NET_FRAME_WRONG)
            return refuse_length(s);
        if (got == NET_FRAME_MORE)
            return true;
        *used += n;
        *whole = true;
        if (!serve_message(s, message))
            return false;
    }
    return true;
}

/* What came now, behind what waited. */
static bool take_bytes(struct stream *s, struct sp_span fresh)
{
    struct streams *all = s->worker->streams;
    size_t had = s->in.max, used = 0;
    bool waited = s->in.n > 0, whole = false, ok = true;

    if (waited)
        ok = net_stash_add(&s->in, fresh);
    ok = ok && serve_messages(s, waited ? sp_span(s->in.p, s->in.n) : fresh, &used, &whole);
    if (waited)
        net_stash_drop(&s->in, used);
    else if (ok && !s->closing)
        ok = net_stash_add(&s->in, sp_span(fresh.p + used, fresh.n - used));
    all->stashed = all->stashed - had + s->in.max;
    if (whole)
        restart_clock(s, admin_env().mono_us);
    while (ok && all->stashed > STASH_TOTAL_MAX && evict(all, NULL, s))
        continue;
    return ok;
}

/* After the peer ended its side: what was answered is written, what is pending is waited for. */
static void end_of_input(struct stream *s)
{
    s->ended = true;
    s->closing = true;
    if (s->pending)
        want(s);
    else
        (void)write_out(s);
}

static void read_in(struct stream *s)
{
    struct streams *all = s->worker->streams;
    ssize_t n = recv(s->watch.fd, all->scratch, sizeof all->scratch, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0 && s->draining)
        return;
    if (n == 0) {
        end_of_input(s);
        return;
    }
    if (n < 0 || !take_bytes(s, sp_span(all->scratch, (size_t)n))) {
        close_stream(s);
        return;
    }
    if (s->closing && s->out.n == 0)
        (void)write_out(s);
    else
        want(s);
}

static void stream_ready(struct net_watch *watch, uint32_t events)
{
    struct stream *s = watch->owner;

    if (events & EPOLLIN) {
        read_in(s);
    } else if (events & (EPOLLERR | EPOLLHUP)) {
        close_stream(s);
    } else if (events & EPOLLOUT) {
        /* Requests that came in the meantime wait in the stash. */
        if (write_out(s) && s->out.n == 0 && !take_bytes(s, (struct sp_span){0}))
            close_stream(s);
    }
}

void stream_answer_later(struct stream *s, struct sp_span reply)
{
    s->pending = NULL;
    if (!send_reply(s, reply)) {
        close_stream(s);
        return;
    }
    restart_clock(s, admin_env().mono_us);
    if (s->out.n || s->closing) {
        (void)write_out(s);
        return;
    }
    if (!take_bytes(s, (struct sp_span){0})) {
        close_stream(s);
        return;
    }
    want(s);
}

/* ---- accepting ---- */

static void note_local(struct stream *s)
{
    struct net_address at = {.n = sizeof at.sa};
    struct sp_span ip;

    if (getsockname(s->watch.fd, (struct sockaddr *)&at.sa, &at.n) != 0)
        return;
    ip = net_address_bytes(&at);
    if (ip.n)
        memcpy(s->local_address, ip.p, ip.n);
    s->local_address_n = (uint8_t)ip.n;
}

static bool identify(struct stream *s, const struct door *d, const struct net_address *from)
{
    uint32_t uid;

    s->service = d->info.service;
    s->door = d->info.kind == DOOR_UNIX ? KDC_UNIX : KDC_TCP;
    if (s->door == KDC_UNIX) {
        if (!net_peer_uid(s->watch.fd, &uid))
            return false;
        source_of_uid(uid, &s->source);
        return true;
    }
    source_of_address(from, &s->source);
    if (s->service == DOOR_KPASSWD)
        note_local(s);
    return true;
}

static bool ask_others(struct worker *w, uint32_t whom, uint64_t source)
{
    struct channel_give_up m = {.type = CHANNEL_GIVE_UP, .worker = whom, .source = source};

    return net_send_now(w->channel.fd, sp_span(&m, sizeof m));
}

/* Too many of one source: its oldest here goes, or the oldest of a worker that has one. */
static void thin_source(struct worker *w, struct stream *s)
{
    uint32_t limit = w->config->config.tcp_per_source, count;

    s->counted = find_source(w, &s->source);
    if (!s->counted)
        return;
    count = count_source(w, s->counted);
    if (limit && !s->source.console && count > limit && !evict(w->streams, s->counted, s))
        (void)ask_others(w, TALLY_NOBODY, s->counted->name); /* or when the next one comes */
}

static void make_room(struct worker *w, struct stream *s)
{
    uint32_t limit = w->config->config.tcp_max, whose;

    if (!s->source.loopback || s->door == KDC_UNIX)
        thin_source(w, s);
    if (limit == 0 || tally_streams(w->tally) <= limit)
        return;
    whose = tally_oldest(w->tally);
    if (whose == w->setup->worker || whose == TALLY_NOBODY || !ask_others(w, whose, 0))
        (void)evict(w->streams, NULL, s);
}

static void give_up_source(struct worker *w, uint64_t source)
{
    struct streams *all = w->streams;
    struct stream *s = all->oldest;

    count_again(w);
    while (s && (s->pending || !s->counted || s->counted->name != source))
        s = s->newer;
    if (!s || !tally_leave(w->tally, source, w->config->config.tcp_per_source))
        return; /* or another worker was first */
    drop_source(all, s->counted);
    s->counted = NULL;
    close_stream(s);
}

void streams_give_up(struct worker *w, uint64_t source)
{
    if (source)
        give_up_source(w, source);
    else if (tally_streams(w->tally) > w->config->config.tcp_max)
        (void)evict(w->streams, NULL, NULL);
}

static void admit(struct door *d, int fd, const struct net_address *from)
{
    struct worker *w = d->worker;
    struct stream *s = calloc(1, sizeof *s);
    struct sp_err e = {0};

    if (!s) {
        (void)close(fd);
        return;
    }
    s->worker = w;
    s->watch = (struct net_watch){.fd = fd, .ready = stream_ready, .owner = s};
    if (!identify(s, d, from) || !net_loop_add(&w->loop, &s->watch, EPOLLIN, &e)) {
        (void)close(fd);
        free(s);
        return;
    }
    append_stream(w->streams, s);
    w->streams->count++;
    restart_clock(s, admin_env().mono_us);
    make_room(w, s);
}

void streams_accept(struct net_watch *door, uint32_t events)
{
    struct door *d = door->owner;

    (void)events;
    for (int i = 0; i < 16; i++) {
        struct net_address from = {.n = sizeof from.sa};
        int fd = accept4(door->fd, (struct sockaddr *)&from.sa, &from.n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            admit(d, fd, &from);
        else if ((errno != EMFILE && errno != ENFILE) || !evict(d->worker->streams, NULL, NULL))
            return; /* nobody there, or gone again; out of descriptors the oldest makes room */
    }
}

void streams_expire(struct worker *w, int64_t mono_us)
{
    struct stream *s = w->streams->oldest;

    while (s && s->deadline_us <= mono_us) {
        struct stream *next = s->newer;
        if (!s->pending)
            close_stream(s);
        s = next;
    }
}

int64_t streams_due_us(const struct worker *w, int64_t mono_us)
{
    const struct stream *s = w->streams->oldest;

    while (s && s->pending) /* few: PENDING_MAX */
        s = s->newer;
    if (!s)
        return -1;
    return s->deadline_us > mono_us ? s->deadline_us - mono_us : 0;
}
