/* SPDX-License-Identifier: MIT */
/* MS-KKDCP over HTTPS: each slot has a connection, which it keeps or makes anew for each request. Nothing
 * here waits for one connection while another could go on. A window of several is polled, as by UDP: no
 * server pays for waking one generator that sleeps between any two of its replies. The server's certificate
 * is not checked: what a client spends is not what is measured. */
#include "load.h"

#include "courier/kkdcp.h"
#include "net/http.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define TIMEOUT_MS 15000
#define IN_MAX (LOAD_REPLY_MAX + 4096) /* a reply with its head */
#define POST_ROOM (2 * BENCH_REQUEST_ROOM)
#define HEAD_MAX 256

struct line { /* what a slot has beside load_slot */
    SSL *ssl;
    SSL_SESSION *session;  /* the last ticket that came */
    bool busy, sent, used; /* used: it carried a request before this one */
    bool greeted;          /* handshake over, and counted */
};

static struct line lines[LOAD_WINDOW_MAX];
static struct sp_span *posts; /* each request as it is sent, head and body */
static SSL_CTX *tls;
static int waiting = -1; /* epoll */

/* ---- before the clock starts ---- */

static void make_post(struct load_run *r, uint32_t i, struct sp_arena *mem)
{
    const struct kkdcp m = {.message = r->requests[i].bytes, .realm = SP_LIT(BENCH_REALM)};
    struct sp_err e = {0};
    struct sp_span body;
    char head[HEAD_MAX];
    uint8_t *p;
    int n;

    sp_arena_reset(&r->reading);
    if (!kkdcp_make(&m, &r->reading, &body, &e))
        bench_die("cannot wrap a request", &e);
    n = snprintf(head, sizeof head,
                 "POST " KKDCP_PATH " HTTP/1.1\r\nHost: relay.bench.test\r\nContent-Type: " KKDCP_TYPE
                 "\r\nContent-Length: %zu\r\n%s\r\n",
                 body.n, r->o->way == LOAD_WEB_EACH ? "Connection: close\r\n" : "");
    p = sp_alloc(mem, (size_t)n + body.n, &e);
    if (!p)
        bench_die("no room for requests", &e);
    memcpy(p, head, (size_t)n);
    memcpy(p + n, body.p, body.n);
    posts[i] = sp_span(p, (size_t)n + body.n);
}

static int keep_ticket(SSL *ssl, SSL_SESSION *session)
{
    struct line *l = SSL_get_app_data(ssl);

    SSL_SESSION_free(l->session);
    l->session = session;
    return 1;
}

void load_open_web(struct load_run *r)
{
    size_t total = (size_t)r->o->warmup + r->o->wish.count;
    struct sp_arena mem;

    (void)signal(SIGPIPE, SIG_IGN);
    posts = bench_map(total * sizeof *posts);
    bench_map_arena(&mem, total * POST_ROOM);
    for (uint32_t i = 0; i < total; i++)
        make_post(r, i, &mem);
    waiting = epoll_create1(EPOLL_CLOEXEC);
    tls = SSL_CTX_new(TLS_client_method());
    if (waiting < 0 || !tls || SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) != 1)
        bench_die("TLS", NULL);
    (void)SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(tls, keep_ticket);
    for (uint32_t i = 0; i < r->o->window; i++)
        r->slots[i] = (struct load_slot){.fd = -1, .in = bench_map(IN_MAX)};
}

/* ---- connections ---- */

static struct line *line_of(const struct load_run *r, const struct load_slot *s)
{
    return &lines[s - r->slots];
}

static void begin_tls(struct load_run *r, struct load_slot *s, struct line *l)
{
    l->ssl = SSL_new(tls);
    if (!l->ssl || SSL_set_fd(l->ssl, s->fd) != 1 || SSL_set_app_data(l->ssl, l) != 1 ||
        SSL_set_tlsext_host_name(l->ssl, "relay.bench.test") != 1)
        bench_die("TLS", NULL);
    if (r->o->resume && l->session)
        (void)SSL_set_session(l->ssl, l->session);
    SSL_set_connect_state(l->ssl);
}

static void dial(struct load_run *r, struct load_slot *s)
{
    struct line *l = line_of(r, s);
    struct epoll_event x = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = (uint32_t)(s - r->slots)};
    int on = 1;

    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        (connect(s->fd, (const struct sockaddr *)&r->o->server, sizeof r->o->server) != 0 &&
         errno != EINPROGRESS) ||
        epoll_ctl(waiting, EPOLL_CTL_ADD, s->fd, &x) != 0)
        bench_die("cannot connect", NULL);
    l->used = l->greeted = false;
    begin_tls(r, s, l);
}

/* With close_notify: OpenSSL takes the session of a connection that was cut off for broken. */
static void hang_up(struct load_run *r, struct load_slot *s)
{
    struct line *l = line_of(r, s);

    (void)SSL_shutdown(l->ssl);
    ERR_clear_error();
    SSL_free(l->ssl);
    l->ssl = NULL;
    close(s->fd);
    s->fd = -1;
}

/* ---- requests ---- */

static bool end_lost(struct load_run *r, struct load_slot *s)
{
    r->lost++;
    line_of(r, s)->busy = false;
    hang_up(r, s);
    return true;
}

/* Begins the request again where the server had closed a kept connection before it came (RFC 9112 9.3.1). */
static bool broke_off(struct load_run *r, struct load_slot *s)
{
    struct line *l = line_of(r, s);

    if (!l->used || s->in_n > 0)
        return end_lost(r, s);
    hang_up(r, s);
    l->sent = false;
    dial(r, s);
    return false;
}

static bool wants_more(const struct line *l, int result)
{
    int why = SSL_get_error(l->ssl, result);

    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE;
}

static void note_greeting(struct load_run *r, struct line *l)
{
    l->greeted = true;
    r->connections++;
    r->resumed += SSL_session_reused(l->ssl) == 1;
}

static void take_body(struct load_run *r, const struct load_slot *s, struct sp_span body)
{
    struct sp_err e = {0};
    struct kkdcp m = {0};

    sp_arena_reset(&r->reading);
    if (r->o->raw)
        r->odd += body.n != r->o->raw_n;
    else if (!kkdcp_get_reply(body, &r->reading, &m, &e))
        m.message = body; /* counted as odd */
    load_note_reply(r, s, m.message);
}

/* True when the request is done with. */
static bool read_reply(struct load_run *r, struct load_slot *s)
{
    struct net_http_head h;
    struct sp_err e = {0};
    enum net_http_result got = net_get_http_head(sp_span(s->in, s->in_n), &h, &e);

    if (got == NET_HTTP_MORE)
        return false;
    if (got == NET_HTTP_WRONG || h.body.kind != NET_HTTP_LENGTH || h.status != 200) {
        if (r->lost == 0)
            fprintf(stderr, "bench-load: status %u %s\n", h.status, e.text);
        return end_lost(r, s);
    }
    if (s->in_n - h.used < h.body.left)
        return false;
    take_body(r, s, sp_span(s->in + h.used, h.body.left));
    line_of(r, s)->busy = false;
    line_of(r, s)->used = true;
    if (!h.keep || r->o->way == LOAD_WEB_EACH)
        hang_up(r, s);
    return true;
}

static bool receive(struct load_run *r, struct load_slot *s)
{
    struct line *l = line_of(r, s);

    for (;;) {
        int n = s->in_n < IN_MAX ? SSL_read(l->ssl, s->in + s->in_n, (int)(IN_MAX - s->in_n)) : 0;

        if (n <= 0)
            return wants_more(l, n) ? false : broke_off(r, s);
        s->in_n += (size_t)n;
        if (read_reply(r, s))
            return true;
    }
}

/* As far as it goes without waiting; SSL_write shakes hands first. True when the request is done with. */
static bool go_on(struct load_run *r, struct load_slot *s)
{
    struct line *l = line_of(r, s);

    if (!l->sent) {
        const struct sp_span b = posts[s->request];
        int n = SSL_write(l->ssl, b.p, (int)b.n);

        if (n <= 0)
            return wants_more(l, n) ? false : broke_off(r, s);
        l->sent = true;
        if (!l->greeted)
            note_greeting(r, l);
    }
    return receive(r, s);
}

static uint32_t begin(struct load_run *r, struct load_slot *s, uint32_t i)
{
    struct line *l = line_of(r, s);

    s->request = i;
    s->in_n = 0;
    s->sent_ns = bench_mono_ns();
    l->busy = true;
    l->sent = false;
    if (s->fd < 0)
        dial(r, s);
    return go_on(r, s);
}

static uint32_t give_up_all(struct load_run *r)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < r->o->window; i++)
        if (lines[i].busy)
            count += end_lost(r, &r->slots[i]);
    fprintf(stderr, "bench-load: %u requests were not answered in %d ms\n", count, TIMEOUT_MS);
    return count;
}

struct progress {
    uint32_t next, to, done;
};

static void fill(struct load_run *r, struct progress *p)
{
    for (uint32_t i = 0; i < r->o->window && p->next < p->to; i++)
        if (!lines[i].busy)
            p->done += begin(r, &r->slots[i], p->next++);
}

/* An idle connection that its server closes goes when it is wanted next. */
static void serve(struct load_run *r, struct progress *p)
{
    struct epoll_event ready[LOAD_WINDOW_MAX];
    uint64_t until = bench_mono_ns() + (uint64_t)TIMEOUT_MS * 1000000;
    int n;

    do
        n = epoll_wait(waiting, ready, LOAD_WINDOW_MAX, r->o->window > 1 ? 0 : TIMEOUT_MS);
    while (n == 0 && r->o->window > 1 && bench_mono_ns() < until);
    if (n == 0)
        p->done += give_up_all(r);
    for (int i = 0; i < n; i++)
        if (lines[ready[i].data.u32].busy)
            p->done += go_on(r, &r->slots[ready[i].data.u32]);
}

uint64_t load_exchange_web(struct load_run *r, uint32_t from, uint32_t to)
{
    uint64_t began = bench_mono_ns();
    struct progress p = {.next = from, .to = to, .done = from};

    r->connections = r->resumed = 0;
    while (p.done < to) {
        fill(r, &p);
        if (p.done < to)
            serve(r, &p);
    }
    return bench_mono_ns() - began;
}
