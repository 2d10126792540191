/* SPDX-License-Identifier: MIT */
/* POST over HTTP/1.1, plain or TLS, on a connection of line.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/exchange_own.h"
#include "net/framing.h"
#include "net/http_text.h"
#include "net/line.h"

#define HEAD_MAX 16384
#define PIECE 16384
#define HEADER_ROOM 1024 /* our own request's head, beside path, host, type and authorization */

enum stage { STAGE_CONNECT, STAGE_PROXY, STAGE_SHAKE, STAGE_WRITE, STAGE_READ };

struct post {
    struct net_exchange x;
    struct net_web_client *client;
    struct place *place;
    struct line *line;
    enum stage stage;
    char type[64];
    net_exchange_headed *headed; /* NULL: a POST */
    struct net_stash in;
    struct net_http_head head; /* good once head.used > 0 */
    char ask[600];             /* CONNECT */
    size_t at, n;              /* of what is being written */
    size_t request_n;
    uint8_t request[];
};

static void run(void *post);

/* ---- ends ---- */

static void drop_post(struct net_exchange *x)
{
    struct post *p = (struct post *)x;

    if (p->line)
        net_close_line(p->line);
    if (p->place)
        p->place->users--;
    net_stash_free(&p->in);
}

static void fail(struct post *p, enum net_exchange_end end, const char *text)
{
    net_exchange_end(&p->x, end, (struct sp_span){0}, text);
}

static void fail_shake(struct post *p)
{
    long why = SSL_get_verify_result(p->line->stream.ssl);
    char text[NET_EXCHANGE_TEXT];

    SSL_SESSION_free(p->place->session); /* should that be what the server does not like */
    p->place->session = NULL;
    if (why != X509_V_OK)
        snprintf(text, sizeof text, "%s", net_text_certificate(why));
    else
        snprintf(text, sizeof text, "no TLS: %s", net_stream_why());
    fail(p, NET_EXCHANGE_REFUSED, text);
}

/* ---- a connection of its own ---- */

static int dial(struct post *p)
{
    int why = net_open_line(p->client, p->place, &p->line);

    if (why)
        return why;
    p->line->run = run;
    p->line->post = p;
    p->stage = STAGE_CONNECT;
    return 0;
}

/* RFC 9112 9.3.1: a kept connection may have been closed while the request was on its way. Kerberos requests
 * may arrive twice, as on UDP. */
static bool dial_again(struct post *p)
{
    if (!p->line->used || p->in.n > 0)
        return false;
    net_close_line(p->line);
    p->line = NULL;
    p->at = 0;
    int why = dial(p);
    if (why)
        fail(p, NET_EXCHANGE_REFUSED, strerror(why));
    return true;
}

static void lost(struct post *p)
{
    const char *why = net_stream_why();

    if (p->stage == STAGE_SHAKE)
        fail_shake(p);
    else if (!dial_again(p))
        fail(p, p->in.n > 0 ? NET_EXCHANGE_GARBLED : NET_EXCHANGE_REFUSED,
             p->in.n > 0 ? "half a reply" : why);
}

/* ---- stages: each returns true when the next one may go on at once ---- */

static bool want(struct post *p, enum net_io r)
{
    if (r == NET_IO_WANT_READ || r == NET_IO_WANT_WRITE)
        net_watch_line(p->line, r == NET_IO_WANT_READ ? EV_READ : EV_WRITE);
    else
        lost(p);
    return false;
}

static bool begin_stage(struct post *p, enum stage next)
{
    p->stage = next;
    p->at = 0;
    p->n = next == STAGE_PROXY ? strlen(p->ask) : p->request_n;
    return true;
}

static bool begin_tls(struct post *p)
{
    if (!p->place->tls)
        return begin_stage(p, STAGE_WRITE);
    if (net_begin_line_tls(p->line))
        return begin_stage(p, STAGE_SHAKE);
    fail(p, NET_EXCHANGE_REFUSED, "no TLS: no memory, or no name for a certificate");
    return false;
}

static bool connected(struct post *p)
{
    int why = net_exchange_connect_error(p->line->stream.fd);

    if (why) {
        fail(p, NET_EXCHANGE_REFUSED, strerror(why));
        return false;
    }
    return p->client->proxy ? begin_stage(p, STAGE_PROXY) : begin_tls(p);
}

static bool shake(struct post *p)
{
    enum net_io r = net_stream_shake(&p->line->stream);

    return r == NET_IO_DONE ? begin_stage(p, STAGE_WRITE) : want(p, r);
}

/* True when all of it is out. */
static bool write_all(struct post *p, const uint8_t *from)
{
    while (p->at < p->n) {
        size_t n;
        enum net_io r = net_stream_write(&p->line->stream, sp_span(from + p->at, p->n - p->at), &n);

        if (r != NET_IO_DONE)
            return want(p, r);
        p->at += n;
    }
    return true;
}

static bool read_more(struct post *p)
{
    uint8_t piece[PIECE];
    size_t n;
    enum net_io r = net_stream_read(&p->line->stream, piece, sizeof piece, &n);

    if (r != NET_IO_DONE)
        return want(p, r);
    if (net_stash_add(&p->in, sp_span(piece, n)))
        return true;
    fail(p, NET_EXCHANGE_REFUSED, strerror(ENOMEM));
    return false;
}

static bool garbled(struct post *p, const char *why)
{
    fail(p, NET_EXCHANGE_GARBLED, why);
    return false;
}

/* The final head, once it is there; 1xx is announced and forgotten. False when the exchange ended. */
static bool look_for_head(struct post *p)
{
    struct sp_err e = {0};

    while (p->head.used == 0) {
        switch (net_get_http_head(sp_span(p->in.p, p->in.n), &p->head, &e)) {
        case NET_HTTP_WRONG:
            return garbled(p, e.text);
        case NET_HTTP_MORE:
            return p->in.n <= (p->headed ? NET_HTTP_HEAD_MAX : HEAD_MAX) || garbled(p, "a head without end");
        case NET_HTTP_WHOLE:
            break;
        }
        if (p->head.status >= 200 || p->head.status == 101) {
            p->x.status = p->head.status;
            break;
        }
        net_stash_drop(&p->in, p->head.used);
        p->head = (struct net_http_head){0};
    }
    return true;
}

/* True: go on, which may be reading. */
static bool take_proxy_answer(struct post *p)
{
    char text[80];

    if (!look_for_head(p))
        return false;
    if (p->head.used == 0)
        return true;
    if (p->head.status < 200 || p->head.status > 299) {
        snprintf(text, sizeof text, "the proxy answers %u", p->head.status);
        fail(p, NET_EXCHANGE_REFUSED, text);
        return false;
    }
    if (p->in.n != p->head.used)
        return garbled(p, "bytes behind the proxy's answer");
    net_stash_drop(&p->in, p->in.n);
    p->head = (struct net_http_head){0};
    p->x.status = 0;
    return begin_tls(p);
}

static bool speak_to_proxy(struct post *p)
{
    if (p->at < p->n)
        return write_all(p, (const uint8_t *)p->ask);
    return read_more(p) && take_proxy_answer(p);
}

/* "application/kerberos; charset=x" is that type too. */
static bool is_type(struct sp_span v, const char *type)
{
    const uint8_t *end = v.n ? memchr(v.p, ';', v.n) : NULL;

    return sp_same_nocase(net_trim_http(end ? sp_span(v.p, (size_t)(end - v.p)) : v), sp_str(type));
}

static bool check_head(struct post *p)
{
    struct net_http_head *h = &p->head;

    if (h->status != 200 && h->body.kind != NET_HTTP_LENGTH) {
        h->body = (struct net_http_body){.kind = NET_HTTP_LENGTH, .left = 0}; /* its status says it all */
        h->keep = false;
        p->in.n = h->used;
    }
    if (h->body.kind != NET_HTTP_LENGTH)
        return garbled(p, "a reply without Content-Length");
    if (h->body.left > p->x.plan.reply_max)
        return garbled(p, "a reply that is too long");
    if (h->status == 200 && !is_type(h->type, p->type))
        return garbled(p, "a reply of another type");
    return true;
}

static void finish(struct post *p)
{
    struct sp_span body = sp_span(p->in.p + p->head.used, (size_t)p->head.body.left);
    struct line *l = p->line;
    char text[40];

    p->line = NULL;
    if (p->head.keep)
        net_keep_line(l);
    else
        net_close_line(l);
    snprintf(text, sizeof text, "HTTP status %u", p->head.status);
    if (p->head.status == 200)
        net_exchange_end(&p->x, NET_EXCHANGE_DONE, body, "");
    else
        net_exchange_end(&p->x, NET_EXCHANGE_GARBLED, body, text);
}

static bool take_reply(struct post *p)
{
    bool is_first = p->head.used == 0;

    if (is_first && !look_for_head(p))
        return false;
    if (p->head.used == 0)
        return true;
    if (p->headed) {
        p->headed(&p->x, &p->head);
        return false;
    }
    if (is_first && !check_head(p))
        return false;
    uint64_t whole = p->head.used + p->head.body.left;
    if (p->in.n < whole)
        return true;
    if (p->in.n > whole)
        return garbled(p, "bytes behind the reply");
    finish(p);
    return false;
}

static bool step(struct post *p)
{
    switch (p->stage) {
    case STAGE_CONNECT:
        return connected(p);
    case STAGE_PROXY:
        return speak_to_proxy(p);
    case STAGE_SHAKE:
        return shake(p);
    case STAGE_WRITE:
        return write_all(p, p->request) && begin_stage(p, STAGE_READ);
    case STAGE_READ:
        return read_more(p) && take_reply(p);
    }
    return false;
}

static void run(void *post)
{
    struct post *p = post;

    while (step(p))
        ;
}

/* ---- beginning ---- */

/* Nothing of these may end a line of the request. */
static bool is_printable(const char *s, char from)
{
    for (; s && *s; s++)
        if (*s < from || *s > '~')
            return false;
    return true;
}

static bool is_sendable(const struct net_post *w)
{
    return *w->host && strlen(w->host) < 256 && is_printable(w->host, '!') && w->path[0] == '/' &&
           is_printable(w->path, '!') && strlen(w->type) < 64 && is_printable(w->type, ' ') &&
           is_printable(w->authorization, ' ');
}

static void put_host(struct sp_text *t, const char *host, uint16_t port, uint16_t usual)
{
    bool six = strchr(host, ':') != NULL;

    sp_text_fmt(t, "%s%s%s", six ? "[" : "", host, six ? "]" : "");
    if (port != usual)
        sp_text_fmt(t, ":%u", port);
}

static void put_request(struct post *p, const struct net_post *w, size_t max)
{
    struct sp_text t = sp_text((char *)p->request, max);

    sp_text_fmt(&t, "POST %s HTTP/1.1\r\nHost: ", w->path);
    put_host(&t, w->host, w->port, w->tls ? 443 : 80);
    sp_text_fmt(&t, "\r\nUser-Agent: sallyport\r\nContent-Type: %s\r\nContent-Length: %zu\r\n", w->type,
                w->plan.bytes.n);
    if (w->authorization) {
        sp_text_str(&t, "Authorization: ");
        sp_text_str(&t, w->authorization);
        sp_text_str(&t, "\r\n");
    }
    sp_text_str(&t, "\r\n");
    sp_text_add(&t, w->plan.bytes);
    sp_assert(!t.cut);
    p->request_n = t.n;
}

static void put_connect(struct post *p, const struct net_post *w)
{
    struct sp_text t = sp_text(p->ask, sizeof p->ask);

    sp_text_str(&t, "CONNECT ");
    put_host(&t, w->host, w->port, 0);
    sp_text_str(&t, " HTTP/1.1\r\nHost: ");
    put_host(&t, w->host, w->port, 0);
    sp_text_str(&t, "\r\n\r\n");
}

static void begin(struct post *p)
{
    int why;

    if (!p->headed && (p->line = net_take_line(p->place, run, p)) != NULL) {
        (void)begin_stage(p, STAGE_WRITE);
        event_active(&p->line->io, EV_WRITE, 0);
        return;
    }
    why = dial(p);
    if (why)
        net_exchange_end_soon(&p->x, NET_EXCHANGE_REFUSED, strerror(why));
}

/* Without a place: what it is for was not to be sent, and that is told soon. */
static struct post *make_post(struct net_web_client *c, const struct net_post *w, size_t max)
{
    bool ok = is_sendable(w);
    struct post *p = calloc(1, sizeof *p + max);

    if (!p)
        return NULL;
    net_exchange_begin(&p->x, c->base, &w->plan, drop_post);
    p->client = c;
    p->place = ok ? net_find_place(c, w) : NULL;
    if (!p->place) {
        net_exchange_end_soon(&p->x, NET_EXCHANGE_REFUSED,
                              ok ? "no memory" : "no host, path or type to send");
        return p;
    }
    snprintf(p->type, sizeof p->type, "%s", w->type);
    put_connect(p, w);
    return p;
}

struct net_exchange *net_exchange_post(struct net_web_client *c, const struct net_post *w)
{
    size_t max = HEADER_ROOM + strlen(w->path) + strlen(w->host) + strlen(w->type) +
                 (w->authorization ? strlen(w->authorization) : 0) + w->plan.bytes.n;
    struct post *p = make_post(c, w, max);

    if (p && p->place) {
        put_request(p, w, max);
        begin(p);
    }
    return p ? &p->x : NULL;
}

struct net_exchange *net_exchange_head(struct net_web_client *c, const struct net_post *w,
                                       struct sp_span request, net_exchange_headed *headed)
{
    struct post *p = make_post(c, w, request.n);

    if (p && p->place) {
        p->headed = headed;
        p->request_n = request.n;
        memcpy(p->request, request.p, request.n);
        begin(p);
    }
    return p ? &p->x : NULL;
}
