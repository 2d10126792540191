/* SPDX-License-Identifier: MIT */
/* One connection: handshake, a request at a time, its answer, and how it ends. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "net/web_own.h"

#define REPLY_HEAD 1024 /* beside what the handler gives */

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *text;
    } known[] = {
        {200, "OK"                             },
        {400, "Bad Request"                    },
        {401, "Unauthorized"                   },
        {403, "Forbidden"                      },
        {404, "Not Found"                      },
        {405, "Method Not Allowed"             },
        {408, "Request Timeout"                },
        {411, "Length Required"                },
        {413, "Content Too Large"              },
        {415, "Unsupported Media Type"         },
        {417, "Expectation Failed"             },
        {421, "Misdirected Request"            },
        {429, "Too Many Requests"              },
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"          },
        {502, "Bad Gateway"                    },
        {503, "Service Unavailable"            },
        {504, "Gateway Timeout"                },
        {505, "HTTP Version Not Supported"     },
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].status == status)
            return known[i].text;
    return "";
}

/* ---- ends ---- */

/* To close with bytes unread would reset the connection, and the reply that says why would be lost on the
 * way. So the end is announced, and for a while what still comes is thrown away. */
static void linger(struct net_web_connection *c)
{
    int fd = c->stream.fd;

    web_say_gone(c);
    if (c->stream.ssl) {
        (void)SSL_shutdown(c->stream.ssl);
        SSL_free(c->stream.ssl);
        c->stream.ssl = NULL;
    }
    web_give_back(c);
    web_leave(&c->all);
    (void)shutdown(fd, SHUT_WR);
    c->state = WEB_LINGERS;
    web_enter(c, WEB_LINGER);
    web_watch(c, EV_READ);
}

static void throw_away(struct net_web_connection *c)
{
    uint8_t waste[16384];
    ssize_t n = recv(c->stream.fd, waste, sizeof waste, 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    c->lingered += n > 0 ? (size_t)n : 0;
    if (n <= 0 || c->lingered > WEB_LINGER_MAX)
        web_close(c);
}

/* ---- replies ---- */

/* RFC 9110 6.6.1: whoever has a clock says what it shows. Not strftime: that opens the time zone's file, in a
 * sandbox. */
static const char *date_of(struct net_web *w)
{
    static const char days[] = "ThuFriSatSunMonTueWed", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec != w->date_s) {
        struct sp_date d = sp_date_of(now.tv_sec);

        w->date_s = now.tv_sec;
        (void)snprintf(w->date, sizeof w->date, "%.3s, %02u %.3s %04d %02u:%02u:%02u GMT",
                       &days[now.tv_sec / 86400 % 7 * 3], d.day, &months[(d.month - 1) * 3], d.year, d.hour,
                       d.minute, d.second);
    }
    return w->date;
}

static void put_field(struct sp_text *t, const char *name, const char *value)
{
    if (!value)
        return;
    sp_text_str(t, name);
    sp_text_str(t, value);
    SP_TEXT_LIT(t, "\r\n");
}

static void put_reply(struct sp_text *t, struct net_web *w, const struct net_web_reply *r, bool close)
{
    SP_TEXT_LIT(t, "HTTP/1.1 ");
    sp_text_uint(t, (uint64_t)r->status);
    SP_TEXT_LIT(t, " ");
    sp_text_str(t, reason_of(r->status));
    SP_TEXT_LIT(t, "\r\n");
    put_field(t, "Date: ", date_of(w));
    put_field(t, "Content-Type: ", r->type);
    put_field(t, "WWW-Authenticate: ", r->authenticate);
    put_field(t, "Allow: ", r->allow);
    put_field(t, "Connection: ", close ? "close" : NULL);
    SP_TEXT_LIT(t, "Content-Length: ");
    sp_text_uint(t, r->type ? r->body.n : 0);
    SP_TEXT_LIT(t, "\r\n\r\n");
    if (r->type)
        sp_text_add(t, r->body);
}

/* One buffer for all: a reply is written from it at once, as a rule. */
static bool make_scratch(struct net_web *w, const struct net_web_reply *r)
{
    size_t max = REPLY_HEAD + r->body.n + (r->authenticate ? strlen(r->authenticate) : 0) +
                 (r->type ? strlen(r->type) : 0);

    if (max > w->scratch_max) {
        uint8_t *p = realloc(w->scratch, max);

        if (!p)
            return false;
        w->scratch = p;
        w->scratch_max = max;
    }
    return true;
}

/* WANT_...: the rest lies in c->out. */
static enum net_io write_some(struct net_web_connection *c, struct sp_span data)
{
    while (data.n > 0) {
        size_t n;
        enum net_io r = net_stream_write(&c->stream, data, &n);

        if (r == NET_IO_LOST || r == NET_IO_END)
            return NET_IO_LOST;
        if (r != NET_IO_DONE) {
            if (!c->out) {
                c->out = malloc(data.n);
                if (!c->out)
                    return NET_IO_LOST;
                memcpy(c->out, data.p, data.n);
                c->out_at = 0;
                c->out_n = data.n;
            }
            return r;
        }
        data = sp_span(data.p + n, data.n - n);
        c->out_at += n;
    }
    return NET_IO_DONE;
}

/* A request has come and gone: on to the next, whose beginning may be here. */
static void next_request(struct net_web_connection *c)
{
    size_t used = c->head.used + (size_t)c->head.length;
    size_t left = c->in_n > used ? c->in_n - used : 0;

    web_leave(&c->all);
    c->head = (struct net_http_request){0};
    if (left == 0) {
        web_give_back(c);
        c->state = WEB_WAITS;
        web_enter(c, WEB_IDLE);
        return;
    }
    memmove(c->in, c->in + used, left);
    c->in_n = left;
    c->state = WEB_READS;
    web_enter(c, WEB_READ);
    web_enter(c, WEB_ALL);
}

/* False: the connection is gone, or lingers. */
static bool reply_is_out(struct net_web_connection *c)
{
    bool whole = c->head.used > 0 && c->in_n == c->head.used + c->head.length;

    free(c->out);
    c->out = NULL;
    if (!c->close) {
        next_request(c);
        return true;
    }
    if (whole && !net_stream_has_pending(&c->stream))
        web_close(c);
    else
        linger(c);
    return false;
}

static bool go_on_writing(struct net_web_connection *c, enum net_io r)
{
    if (r == NET_IO_DONE)
        return reply_is_out(c);
    if (r == NET_IO_LOST) {
        web_close(c);
        return false;
    }
    c->state = WEB_WRITES;
    web_watch(c, r == NET_IO_WANT_READ ? EV_READ : EV_WRITE);
    return false;
}

/* True: the next request may be looked for. */
static bool send_reply(struct net_web_connection *c, const struct net_web_reply *r)
{
    struct net_web *w = c->web;
    struct sp_text t;

    c->close = c->close || r->close || w->stopping;
    if (!make_scratch(w, r)) {
        web_close(c);
        return false;
    }
    t = sp_text((char *)w->scratch, w->scratch_max);
    put_reply(&t, w, r, c->close);
    sp_assert(!t.cut);
    return go_on_writing(c, write_some(c, sp_span(t.p, t.n)));
}

void web_refuse(struct net_web_connection *c, int status, const char *why)
{
    char text[180];
    struct net_web_reply r = {.status = status, .type = "text/plain", .close = true};

    snprintf(text, sizeof text, "%s\n", why);
    r.body = sp_str(text);
    r.allow = status != 405 ? NULL : c->web->limits.gets ? "GET, POST" : "POST";
    web_report(c->web, &c->peer, status, why);
    web_say_gone(c);
    web_leave(&c->phase);
    c->head = (struct net_http_request){0}; /* its bytes were not all read: linger */
    if (!c->all.next)
        web_enter(c, WEB_ALL);
    (void)send_reply(c, &r);
}

static bool refused(struct net_web_connection *c, const struct sp_err *e)
{
    web_refuse(c, e->proto, e->text);
    return false;
}

/* Behind an answer that came late there may be a request already; it is looked at in a turn of its own, so
 * that the handler is not called from within its own call. */
void net_web_answer(struct net_web_connection *c, const struct net_web_reply *r)
{
    bool in_handler = c->in_handler;

    sp_assert(c->state == WEB_ASKS);
    c->in_handler = false;
    if (!send_reply(c, r) || in_handler)
        return;
    web_watch(c, EV_READ);
    if (c->in_n > 0 || net_stream_has_pending(&c->stream))
        event_active(&c->io, EV_READ, 0);
}

/* ---- requests ---- */

static struct sp_span exporter_of(struct net_web_connection *c)
{
    if (c->stream.ssl && !c->have_exporter)
        c->have_exporter = web_tls_exporter(c->stream.ssl, c->exporter);
    return c->have_exporter ? sp_span(c->exporter, sizeof c->exporter) : (struct sp_span){0};
}

/* True: it was answered within the call, and the next one may be looked for. */
static bool ask(struct net_web_connection *c, const struct net_address *peer)
{
    const struct net_http_request *h = &c->head;
    struct net_web *w = c->web;
    struct net_web_request r = {
        .from = c,
        .method = h->method,
        .path = h->path,
        .host = h->host,
        .type = h->type,
        .authorization = h->authorization,
        .body = sp_span(c->in + h->used, (size_t)h->length),
        .peer = *peer,
        .tls = c->stream.ssl != NULL,
        .client_certificate = sp_str(c->subject),
        .exporter = exporter_of(c),
        .end_point = c->tls ? sp_span(c->tls->end_point, c->tls->end_point_n) : (struct sp_span){0},
        .state = &c->users,
    };
    bool gone = false;

    web_leave(&c->phase);
    c->state = WEB_ASKS;
    c->told = true;
    c->close = !h->keep || ++c->served >= w->limits.requests_kept;
    c->in_handler = true;
    c->gone = &gone;
    w->handler.request(w->handler.owner, &r);
    if (gone)
        return false;
    c->gone = NULL;
    if (c->in_handler) { /* later, then */
        c->in_handler = false;
        return false;
    }
    return c->state == WEB_WAITS || c->state == WEB_READS;
}

/* Spans of the head point into a buffer that may have moved since. */
static bool read_head_again(struct net_web_connection *c, struct sp_err *e)
{
    return net_get_http_request(sp_span(c->in, c->in_n), &c->web->request_limits, &c->head, e) ==
           NET_HTTP_WHOLE;
}

static bool say_continue(struct net_web_connection *c)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    size_t n;

    if (net_stream_write(&c->stream, sp_span(text, sizeof text - 1), &n) == NET_IO_DONE &&
        n == sizeof text - 1)
        return true;
    web_close(c); /* 25 bytes that do not fit: nobody reads there */
    return false;
}

static bool look_for_head(struct net_web_connection *c)
{
    struct sp_err e = {0};

    switch (net_get_http_request(sp_span(c->in, c->in_n), &c->web->request_limits, &c->head, &e)) {
    case NET_HTTP_WRONG:
        return refused(c, &e);
    case NET_HTTP_MORE:
        return true;
    case NET_HTTP_WHOLE:
        break;
    }
    return !c->head.expects || c->in_n > c->head.used || c->head.length == 0 || say_continue(c);
}

static bool hand_over(struct net_web_connection *c, bool moved)
{
    struct net_address peer = c->peer;
    struct sp_err e = {0};

    if ((moved && !read_head_again(c, &e)) || (c->trusted && !net_get_forwarded(&c->head, &peer, &e)))
        return refused(c, &e);
    return ask(c, &peer);
}

/* What lies in the buffer. True: more has to be read. */
static bool take_input(struct net_web_connection *c)
{
    while (c->in_n > 0) {
        bool known = c->head.used > 0;

        if (!known && !look_for_head(c))
            return false;
        if (c->head.used == 0 || c->in_n - c->head.used < c->head.length)
            return true;
        if (!hand_over(c, known))
            return false;
    }
    return true;
}

/* True when bytes came. */
static bool read_more(struct net_web_connection *c)
{
    enum net_io r;
    size_t n;

    if (!web_make_room(c)) {
        web_refuse(c, 503, "too many requests at once");
        return false;
    }
    r = net_stream_read(&c->stream, c->in + c->in_n, c->in_max - c->in_n, &n);
    if (r == NET_IO_DONE) {
        c->in_n += n;
        return true;
    }
    if (c->in_n == 0)
        web_give_back(c);
    if (r == NET_IO_WANT_READ || r == NET_IO_WANT_WRITE)
        web_watch(c, r == NET_IO_WANT_READ ? EV_READ : EV_WRITE);
    else
        web_close(c);
    return false;
}

/* Bytes of one read may hold several requests; another read follows only when TLS holds more already, for the
 * descriptor will tell of the rest. */
static void read_requests(struct net_web_connection *c)
{
    do {
        if (!read_more(c))
            return;
        if (c->state == WEB_WAITS) {
            c->state = WEB_READS;
            web_enter(c, WEB_READ);
            web_enter(c, WEB_ALL);
        }
        if (!take_input(c))
            return;
    } while (net_stream_has_pending(&c->stream) || c->in_n == c->in_max);
    web_watch(c, EV_READ);
}

/* While the handler has a request: is somebody still there? What came is not read. */
static void look_for_end(struct net_web_connection *c)
{
    uint8_t byte;
    ssize_t n = recv(c->stream.fd, &byte, 1, MSG_PEEK);

    if (n > 0)
        web_watch(c, 0);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        web_close(c);
}

static void shake(struct net_web_connection *c)
{
    enum net_io r = net_stream_shake(&c->stream);
    char why[120];

    if (r == NET_IO_WANT_READ || r == NET_IO_WANT_WRITE) {
        web_watch(c, r == NET_IO_WANT_READ ? EV_READ : EV_WRITE);
        return;
    }
    if (r != NET_IO_DONE) {
        snprintf(why, sizeof why, "no TLS: %s", net_stream_why());
        web_report(c->web, &c->peer, 0, why);
        web_close(c);
        return;
    }
    c->subject = web_tls_subject(c->stream.ssl);
    c->state = WEB_WAITS;
    web_enter(c, WEB_IDLE);
    web_watch(c, EV_READ);
    if (net_stream_has_pending(&c->stream))
        read_requests(c);
}

static void go_on(struct net_web_connection *c)
{
    if (!go_on_writing(c, write_some(c, sp_span(c->out + c->out_at, c->out_n - c->out_at))))
        return;
    web_watch(c, EV_READ);
    if (take_input(c) && net_stream_has_pending(&c->stream))
        read_requests(c);
}

void web_serve(struct net_web_connection *c)
{
    switch ((enum web_state)c->state) {
    case WEB_SHAKES:
        shake(c);
        break;
    case WEB_WAITS:
    case WEB_READS:
        if (take_input(c))
            read_requests(c);
        break;
    case WEB_ASKS:
        look_for_end(c);
        break;
    case WEB_WRITES:
        go_on(c);
        break;
    case WEB_LINGERS:
        throw_away(c);
        break;
    }
}
