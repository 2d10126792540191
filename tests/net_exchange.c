/* SPDX-License-Identifier: MIT */
/* Exchanges by UDP, TCP and HTTPS, names and changes: the client's side of net/, against the door of net/ and
 * peers written by hand. */
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "net/exchange.h"
#include "net/resolver.h"
#include "web_world.h"

/* ---- exchanges ---- */

struct heard {
    int count;
    enum net_exchange_end end;
    char text[160], bytes[200];
    size_t n;
    int32_t status;
    int64_t took_us;
};

static void on_done(void *owner, const struct net_exchange_result *r)
{
    struct heard *h = owner;

    h->count++;
    h->end = r->end;
    h->n = r->bytes.n;
    h->status = r->status;
    h->took_us = r->took_us;
    KEEP(h->bytes, r->bytes);
    snprintf(h->text, sizeof h->text, "%s", r->text);
}

static struct net_plan plan_for(const struct net_address *to, const char *bytes, int64_t in_us,
                                struct heard *h)
{
    *h = (struct heard){0};
    return (struct net_plan){
        .to = *to,
        .bytes = sp_str(bytes),
        .until_us = net_base_now_us() + in_us,
        .reply_max = 100,
        .done = on_done,
        .owner = h,
    };
}

static void wait_for(struct net_base *b, struct heard *h)
{
    int64_t until = net_base_now_us() + 6 * S;

    while (h->count == 0 && net_base_now_us() < until)
        net_base_turn(b, 10);
    assert_int_equal(h->count, 1);
}

static int bound_socket(int type, struct net_address *a)
{
    struct sp_err e = {0};
    int fd;

    assert_true(net_parse_address(SP_LIT("127.0.0.1:0"), a, &e));
    fd = type == SOCK_DGRAM ? net_listen_udp(a, &e) : net_listen_tcp(a, &e);
    assert_true(fd >= 0);
    return fd;
}

static void assert_heard(const struct heard *h, enum net_exchange_end end, const char *text,
                         const char *bytes)
{
    assert_string_equal(h->text, text);
    assert_int_equal(h->end, end);
    assert_string_equal(h->bytes, bytes);
    assert_int_equal(h->count, 1);
}

static size_t receive_from(int fd, struct net_address *from, char in[100])
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    from->n = sizeof from->sa;
    assert_int_equal(poll(&p, 1, 0), 1);
    ssize_t n = recvfrom(fd, in, 99, 0, (struct sockaddr *)&from->sa, &from->n);
    assert_true(n >= 0);
    in[n] = 0;
    return (size_t)n;
}

static void test_udp(void **state)
{
    struct sp_err e = {0};
    struct net_base *b = net_base_new(NULL, &e);
    struct net_address at, from, again;
    int fd = bound_socket(SOCK_DGRAM, &at);
    char in[100], large[101];
    struct net_plan p;
    struct heard h;

    (void)state;
    p = plan_for(&at, "question", 5 * S, &h); /* the first datagram is lost, and so is the second */
    assert_non_null(net_exchange_udp(b, &p));
    assert_int_equal(h.count, 0);
    int64_t at_us[3] = {0}, until = net_base_now_us() + 5 * S;
    for (int i = 0; i < 3 && net_base_now_us() < until;) {
        struct pollfd waits = {.fd = fd, .events = POLLIN};

        net_base_turn(b, 10);
        if (poll(&waits, 1, 0) != 1)
            continue;
        assert_int_equal(receive_from(fd, i ? &again : &from, in), 8);
        assert_string_equal(in, "question");
        assert_true(i == 0 || net_same_address(&from, &again));
        at_us[i++] = net_base_now_us();
    }
    assert_in_range(at_us[1] - at_us[0], S * 9 / 10, S * 19 / 10);
    assert_in_range(at_us[2] - at_us[1], S * 19 / 10, S * 29 / 10);
    assert_int_equal(sendto(fd, "answer", 6, 0, (struct sockaddr *)&from.sa, from.n), 6);
    wait_for(b, &h);
    assert_heard(&h, NET_EXCHANGE_DONE, "", "answer");
    assert_in_range(h.took_us, S * 29 / 10, 5 * S);

    p = plan_for(&at, "q", 5 * S, &h);
    assert_non_null(net_exchange_udp(b, &p));
    net_base_turn(b, 10);
    (void)receive_from(fd, &again, in);
    assert_false(net_same_address(&from, &again)); /* another port: it is the other half of a nonce */
    memset(large, 'x', sizeof large);
    assert_int_equal(sendto(fd, large, sizeof large, 0, (struct sockaddr *)&again.sa, again.n), 101);
    wait_for(b, &h);
    assert_heard(&h, NET_EXCHANGE_GARBLED, "a reply that is too long", "");

    p = plan_for(&at, "q", S / 5, &h);
    assert_non_null(net_exchange_udp(b, &p));
    wait_for(b, &h);
    assert_heard(&h, NET_EXCHANGE_LATE, "no reply in time", "");
    assert_in_range(h.took_us, S / 6, S);

    p = plan_for(&at, "q", S / 5, &h);
    net_exchange_cancel(net_exchange_udp(b, &p));
    turn_for(&(struct world){.base = b}, S / 3);
    assert_int_equal(h.count, 0);

    close(fd);
    p = plan_for(&at, "q", 5 * S, &h);
    assert_non_null(net_exchange_udp(b, &p));
    assert_int_equal(h.count, 0);
    wait_for(b, &h);
    assert_heard(&h, NET_EXCHANGE_REFUSED, "Connection refused", "");
    net_base_free(b);
}

static const struct {
    struct sp_span reply;
    bool ends;
    enum net_exchange_end end;
    const char *text, *bytes;
} frames[] = {
    {{(const uint8_t *)"\0\0\0\6answer", 10},   false, NET_EXCHANGE_DONE,    "",                         "answer"},
    {{(const uint8_t *)"\0\0\0\6answer", 10},   true,  NET_EXCHANGE_DONE,    "",                         "answer"},
    {{(const uint8_t *)"\0\0\0\0", 4},          false, NET_EXCHANGE_GARBLED, "a length that cannot be",  ""      },
    {{(const uint8_t *)"\0\0\0\145", 4},        false, NET_EXCHANGE_GARBLED, "a length that cannot be",  ""      },
    {{(const uint8_t *)"\200\0\0\6answer", 10}, false, NET_EXCHANGE_GARBLED, "a length that cannot be",  ""      },
    {{(const uint8_t *)"\377\377\377\377", 4},  false, NET_EXCHANGE_GARBLED, "a length that cannot be",  ""      },
    {{(const uint8_t *)"\0\0\0\6answers", 11},  false, NET_EXCHANGE_GARBLED, "bytes behind the reply",   ""      },
    {{(const uint8_t *)"\0\0\0\6answe", 9},     true,  NET_EXCHANGE_GARBLED, "half a reply",             ""      },
    {{(const uint8_t *)"\0\0", 2},              true,  NET_EXCHANGE_GARBLED, "half a reply",             ""      },
    {{(const uint8_t *)"", 0},                  true,  NET_EXCHANGE_REFUSED, "Connection reset by peer", ""      },
    {{(const uint8_t *)"\0\0\0\6answe", 9},     false, NET_EXCHANGE_LATE,    "no reply in time",         ""      },
};

static void test_tcp(void **state)
{
    struct sp_err e = {0};
    struct net_base *b = net_base_new(NULL, &e);
    struct net_address at;
    int fd = bound_socket(SOCK_STREAM, &at);
    struct net_plan p;
    struct heard h;

    (void)state;
    for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
        struct pollfd waits = {.fd = fd, .events = POLLIN};
        char in[100];
        int got;

        p = plan_for(&at, "question", frames[i].end == NET_EXCHANGE_LATE ? S / 4 : 5 * S, &h);
        assert_non_null(net_exchange_tcp(b, &p));
        net_base_turn(b, 20);
        assert_int_equal(poll(&waits, 1, 1000), 1);
        got = accept(fd, NULL, NULL);
        assert_int_equal(recv(got, in, sizeof in, 0), 12);
        assert_memory_equal(in, "\0\0\0\10question", 12);
        for (size_t at_byte = 0; at_byte < frames[i].reply.n && h.count == 0; at_byte++) { /* one at a time */
            raw_send(got, sp_span(frames[i].reply.p + at_byte, 1));
            net_base_turn(b, 2);
        }
        if (frames[i].ends)
            shutdown(got, SHUT_WR);
        wait_for(b, &h);
        close(got);
        if (frames[i].reply.n != 11) /* its last byte comes behind the end, when it comes by itself */
            assert_heard(&h, frames[i].end, frames[i].text, frames[i].bytes);
    }
    close(fd);
    p = plan_for(&at, "q", 5 * S, &h);
    assert_non_null(net_exchange_tcp(b, &p));
    assert_int_equal(h.count, 0);
    wait_for(b, &h);
    assert_heard(&h, NET_EXCHANGE_REFUSED, "Connection refused", "");
    net_base_free(b);
}

static void test_bytes_behind_a_frame(void **state)
{
    struct sp_err e = {0};
    struct net_base *b = net_base_new(NULL, &e);
    struct net_address at;
    int fd = bound_socket(SOCK_STREAM, &at), got;
    struct heard h;
    struct net_plan p = plan_for(&at, "q", 5 * S, &h);
    struct pollfd waits = {.fd = fd, .events = POLLIN};

    (void)state;
    assert_non_null(net_exchange_tcp(b, &p));
    assert_int_equal(poll(&waits, 1, 1000), 1);
    got = accept(fd, NULL, NULL);
    raw_send(got, sp_span("\0\0\0\6answers", 11));
    wait_for(b, &h);
    assert_heard(&h, NET_EXCHANGE_GARBLED, "bytes behind the reply", "");
    close(got);
    close(fd);
    net_base_free(b);
}

/* ---- HTTPS from the client's side ---- */

static struct net_web_client *client_of(struct world *w, struct net_web_settings s)
{
    struct sp_err e = {0};
    struct net_web_client *c;

    s.ca_file = s.ca_file ? s.ca_file : ca_file;
    c = net_web_client_new(w->base, &s, &e);
    assert_string_equal(e.text, "");
    assert_non_null(c);
    return c;
}

static struct net_post post_to(struct world *w, bool tls, struct heard *h)
{
    return (struct net_post){
        .plan = plan_for(&w->at, "hello", 5 * S, h),
        .host = "relay.test",
        .port = 443,
        .path = "/KdcProxy",
        .type = TYPE,
        .tls = tls,
    };
}

static void post(struct world *w, struct net_web_client *c, const struct net_post *p, struct heard *h)
{
    assert_non_null(net_exchange_post(c, p));
    assert_int_equal(h->count, 0); /* never from within */
    wait_for(w->base, h);
}

static void test_post(void **state)
{
    struct world w;
    struct heard h;

    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        open_world(&w, NULL, tls ? &good : NULL, NULL, NULL);
        struct net_web_client *c = client_of(&w, (struct net_web_settings){0});
        for (int i = 0; i < 5; i++) {
            struct net_post p = post_to(&w, tls, &h);
            p.authorization = i == 2 ? "Negotiate YQ==" : NULL;
            p.port = 8443;
            post(&w, c, &p, &h);
            assert_heard(&h, NET_EXCHANGE_DONE, "", "hello");
            assert_int_equal(h.status, 200);
            assert_string_equal(w.host, "relay.test:8443");
            assert_string_equal(w.authorization, i == 2 ? "Negotiate YQ==" : "");
        }
        assert_int_equal(w.requests, 5);
        assert_int_equal(w.gone, 0); /* one connection for all */
        net_web_client_free(c);
        turn_for(&w, S / 10);
        assert_int_equal(w.gone, 1);
        close_world(&w);
    }
}

/* Several at once need several connections; `kept` of them stay. */
static void test_kept_by_client(void **state)
{
    struct heard h[3];
    struct world w;

    (void)state;
    open_world(&w, NULL, &good, NULL, NULL);
    struct net_web_client *c = client_of(&w, (struct net_web_settings){.kept = 2, .idle_s = 1});
    for (int i = 0; i < 3; i++) {
        struct net_post p = post_to(&w, true, &h[i]);
        assert_non_null(net_exchange_post(c, &p));
    }
    for (int i = 0; i < 3; i++) {
        wait_for(w.base, &h[i]);
        assert_heard(&h[i], NET_EXCHANGE_DONE, "", "hello");
    }
    turn_for(&w, S / 5);
    assert_int_equal(w.gone, 1);
    turn_for(&w, S * 3 / 2);
    assert_int_equal(w.gone, 3);
    net_web_client_free(c);
    close_world(&w);
}

/* The server closes what was kept: the request goes again on a connection of its own, with the same session.
 */
static void test_closed_meanwhile(void **state)
{
    struct world w;
    struct heard h;

    (void)state;
    open_world(&w, NULL, &good, NULL, NULL);
    struct net_web_client *c = client_of(&w, (struct net_web_settings){0});
    for (int i = 0; i < 3; i++) {
        struct net_post p = post_to(&w, true, &h);
        w.later = true;
        struct net_exchange *x = net_exchange_post(c, &p);
        assert_non_null(x);
        for (int turns = 0; !w.last && turns < 200; turns++)
            turn(&w, 10);
        assert_non_null(w.last);
        w.close = i == 1; /* announced */
        answer_last(&w);
        wait_for(w.base, &h);
        assert_heard(&h, NET_EXCHANGE_DONE, "", "hello");
        if (i == 0) { /* not announced: the door falls shut while the connection waits */
            net_web_remove(w.web, w.fd);
            net_web_free(w.web);
            struct net_web_handler handler = {on_request, on_gone, on_refused, &w};
            struct sp_err e = {0};
            w.web = net_web_new(w.base, NULL, &handler, &e);
            assert_true(net_web_add(w.web, w.fd, w.tls, NULL, 0, &e));
        }
        w.last = NULL;
    }
    assert_int_equal(w.gone, 2);
    net_web_client_free(c);
    close_world(&w);
}

/* Counted at the door: what it has to sign is no resumption. */
static void test_client_resumes(void **state)
{
    struct world w;
    struct heard h;

    (void)state;
    open_world(&w, NULL, &good, NULL, NULL);
    w.close = true;
    struct net_web_client *c = client_of(&w, (struct net_web_settings){0});
    struct net_post p = post_to(&w, true, &h);
    post(&w, c, &p, &h);
    assert_heard(&h, NET_EXCHANGE_DONE, "", "hello");
    /* From here on only who resumes gets in: this certificate is for another name, and a resumed handshake
     * shows none. */
    struct net_web_tls *wrong = tls_of(&elsewhere, NULL);
    net_web_use_tls(w.web, wrong);
    for (int i = 0; i < 3; i++) {
        p = post_to(&w, true, &h);
        post(&w, c, &p, &h);
        assert_heard(&h, NET_EXCHANGE_DONE, "", "hello");
    }
    p = post_to(&w, true, &h); /* another place, another session */
    p.port = 444;
    post(&w, c, &p, &h);
    assert_heard(&h, NET_EXCHANGE_REFUSED, "the server's certificate is for another name", "");
    net_web_tls_free(wrong);
    net_web_client_free(c);
    close_world(&w);
}

static void test_server_certificates(void **state)
{
    static const char other[] = "the server's certificate is for another name";
    const struct {
        struct identity *i;
        const char *host, *text; /* NULL: believed */
        bool strange;            /* whom nobody trusts */
    } rows[] = {
        {&good,      "relay.test", NULL,                                                          false},
        {&good,      "127.0.0.1",  NULL,                                                          false},
        {&good,      "127.0.0.2",  other,                                                         false},
        {&good,      "other.test", other,                                                         false},
        {&elsewhere, "relay.test", other,                                                         false},
        {&nameless,  "relay.test", other,                                                         false}, /* its subject does not count */
        {&expired,   "relay.test", "the server's certificate has expired",                        false},
        {&good,      "relay.test", "the server's certificate is from nobody who is trusted here", true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world w;
        struct heard h;

        open_world(&w, NULL, rows[i].i, NULL, NULL);
        char strange_file[] = "/tmp/net_web_other_XXXXXX";
        write_file(strange_file, other_ca.pem);
        struct net_web_client *c =
            client_of(&w, (struct net_web_settings){.ca_file = rows[i].strange ? strange_file : NULL});
        struct net_post p = post_to(&w, true, &h);
        p.host = rows[i].host;
        post(&w, c, &p, &h);
        assert_heard(&h, rows[i].text ? NET_EXCHANGE_REFUSED : NET_EXCHANGE_DONE,
                     rows[i].text ? rows[i].text : "", rows[i].text ? "" : "hello");
        assert_int_equal(w.requests, !rows[i].text);
        net_web_client_free(c);
        close_world(&w);
        unlink(strange_file);
    }
}

static void test_own_certificate(void **state)
{
    struct world w;
    struct heard h;

    (void)state;
    open_world(&w, NULL, &good, &ca, NULL);
    struct net_web_client *c = client_of(&w, (struct net_web_settings){.certificate_file = client_file});
    struct net_post p = post_to(&w, true, &h);
    post(&w, c, &p, &h);
    assert_heard(&h, NET_EXCHANGE_DONE, "", "hello");
    assert_string_equal(w.subject, "CN=alice,O=Test\\, Inc.");
    net_web_client_free(c);
    close_world(&w);
}

static void test_bad_settings(void **state)
{
    static const struct {
        struct net_web_settings s;
        const char *text;
    } rows[] = {
        {{.ca_file = "/nonexistent"},          "/nonexistent holds no certificates to trust"},
        {{.certificate_file = "/nonexistent"}, "/nonexistent holds no certificate"          },
        {{.certificate_file = ca_file},        NULL                                         },
        {{.proxy = "socks://a:1"},             "a URL begins with http:// or https://"      },
        {{.proxy = "https://a:1"},             "a proxy is http://HOST:PORT"                },
    };
    struct sp_err e = {0};
    struct net_base *b = net_base_new(NULL, &e);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[160];

        e = (struct sp_err){0};
        assert_null(net_web_client_new(b, &rows[i].s, &e));
        assert_int_equal(e.kind, SP_EINPUT);
        snprintf(text, sizeof text, "%s does not hold the key of its certificate", ca_file);
        assert_string_equal(e.text, rows[i].text ? rows[i].text : text);
    }
    net_base_free(b);
}

/* Servers that are none: what they say is written by hand. */
#define OK "HTTP/1.1 200 OK\r\n"
#define KRB "Content-Type: application/kerberos\r\n"
#define ABC "Content-Length: 3\r\n\r\nabc"
#define NO_LENGTH "a reply without Content-Length"
#define NO_HTTP "this is no HTTP response to trust: its first line"
#define GARBLED NET_EXCHANGE_GARBLED

/* clang-format off */
static const struct {
    int status;
    enum net_exchange_end end;
    bool ends;
    const char *reply, *text, *bytes;
} replies[] = {
    {200, NET_EXCHANGE_DONE, false, OK KRB ABC, "", "abc"},
    {200, NET_EXCHANGE_DONE, true, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\nContent-Type: Application/Kerberos; x=y\r\n" ABC, "", "abc"},
    {200, GARBLED, false, OK "Content-Type: text/html\r\n" ABC, "a reply of another type", ""},
    {200, GARBLED, false, OK ABC, "a reply of another type", ""},
    {200, GARBLED, false, OK KRB "Content-Length: 101\r\n\r\n", "a reply that is too long", ""},
    {200, GARBLED, false, OK KRB "Transfer-Encoding: chunked\r\n\r\n", NO_LENGTH, ""},
    {200, GARBLED, true, OK KRB "\r\nabc", NO_LENGTH, ""},
    {200, GARBLED, false, OK KRB ABC "d", "bytes behind the reply", ""},
    {200, GARBLED, true, OK KRB "Content-Length: 3\r\n\r\nab", "half a reply", ""},
    {0, GARBLED, true, OK KRB "Content-Len", "half a reply", ""},
    {503, GARBLED, false, "HTTP/1.1 503 Busy\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nbusy\n", "HTTP status 503", "busy\n"},
    {404, GARBLED, true, "HTTP/1.1 404 Not Found\r\n\r\n<html>", "HTTP status 404", ""},
    {404, GARBLED, false, "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP status 404", ""},
    {0, GARBLED, false, "SSH-2.0-OpenSSH\r\n", NO_HTTP, ""},
    {0, NET_EXCHANGE_REFUSED, true, "", "the connection ended", ""},
};
/* clang-format on */

static void test_replies(void **state)
{
    struct world w = {0};
    struct sp_err e = {0};
    int fd = bound_socket(SOCK_STREAM, &w.at);

    (void)state;
    w.base = net_base_new(NULL, &e);
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
        struct net_web_client *c = client_of(&w, (struct net_web_settings){0});
        struct pollfd waits = {.fd = fd, .events = POLLIN};
        struct heard h;
        struct net_post p = post_to(&w, false, &h);
        char in[1000];

        assert_non_null(net_exchange_post(c, &p));
        turn(&w, 20);
        assert_int_equal(poll(&waits, 1, 1000), 1);
        int got = accept(fd, NULL, NULL);
        ssize_t n = recv(got, in, sizeof in - 1, 0);
        assert_true(n > 0);
        in[n] = 0;
        assert_string_equal(in, "POST /KdcProxy HTTP/1.1\r\nHost: relay.test:443\r\nUser-Agent: sallyport\r\n"
                                "Content-Type: application/kerberos\r\nContent-Length: 5\r\n\r\nhello");
        raw_send(got, sp_str(replies[i].reply));
        if (replies[i].ends)
            shutdown(got, SHUT_WR);
        wait_for(w.base, &h);
        assert_heard(&h, replies[i].end, replies[i].text, replies[i].bytes);
        assert_int_equal(h.status, replies[i].status);
        close(got);
        net_web_client_free(c);
    }
    close(fd);
    net_base_free(w.base);
}

static void test_posts_that_cannot_be(void **state)
{
    static const char *const bad[][2] = {
        {"a b",   "/x"        },
        {"",      "/x"        },
        {"a",     "x"         },
        {"a",     "/x\r\nX: y"},
        {"a\r\n", "/"         }
    };
    struct world w;
    struct heard h;

    (void)state;
    open_world(&w, NULL, NULL, NULL, NULL);
    struct net_web_client *c = client_of(&w, (struct net_web_settings){0});
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct net_post p = post_to(&w, false, &h);
        p.host = bad[i][0];
        p.path = bad[i][1];
        post(&w, c, &p, &h);
        assert_heard(&h, NET_EXCHANGE_REFUSED, "no host, path or type to send", "");
    }
    assert_int_equal(w.requests, 0);
    w.later = true; /* cancelled while it waits, and freed with its connection */
    struct net_post p = post_to(&w, false, &h);
    struct net_exchange *x = net_exchange_post(c, &p);
    turn_for(&w, S / 10);
    assert_int_equal(w.requests, 1);
    net_exchange_cancel(x);
    turn_for(&w, S / 10);
    assert_int_equal(w.gone, 1);
    assert_int_equal(h.count, 0);
    net_web_client_free(c);
    close_world(&w);
}

/* ---- through a proxy ---- */

static void move_bytes(int from, int to)
{
    char in[4096];
    ssize_t n = recv(from, in, sizeof in, MSG_DONTWAIT);

    if (n > 0)
        assert_int_equal(send(to, in, (size_t)n, MSG_NOSIGNAL), n);
}

static void test_proxy(void **state)
{
    struct net_address at;
    struct world w;

    (void)state;
    for (int refuse = 0; refuse < 2; refuse++) {
        int fd = bound_socket(SOCK_STREAM, &at), near = -1, far = -1;
        struct heard h;
        char in[1000];

        open_world(&w, NULL, &good, NULL, NULL);
        struct net_web_client *c =
            client_of(&w, (struct net_web_settings){.proxy = "http://proxy.test:3128"});
        for (int i = 0; i < 2; i++) {
            struct net_post p = post_to(&w, true, &h);
            p.plan.to = at;
            assert_non_null(net_exchange_post(c, &p));
            turn_for(&w, S / 20);
            if (i == 0) {
                near = accept(fd, NULL, NULL);
                assert_true(near >= 0);
                ssize_t n = recv(near, in, sizeof in - 1, 0);
                assert_true(n > 0);
                in[n] = 0;
                assert_string_equal(in, "CONNECT relay.test:443 HTTP/1.1\r\nHost: relay.test:443\r\n\r\n");
                far = raw_open(&w);
                raw_send(near, sp_str(refuse ? "HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n"
                                             : "HTTP/1.1 200 Connection established\r\n\r\n"));
            }
            for (int turns = 0; h.count == 0 && turns < 500; turns++) {
                move_bytes(near, far);
                turn(&w, 2);
                move_bytes(far, near);
                turn(&w, 2);
            }
            if (refuse) {
                assert_heard(&h, NET_EXCHANGE_REFUSED, "the proxy answers 407", "");
                break;
            }
            assert_heard(&h, NET_EXCHANGE_DONE, "", "hello"); /* the second one by the same tunnel */
        }
        net_web_client_free(c);
        close(near);
        close(far);
        close(fd);
        close_world(&w);
    }
}

/* ---- the loop within the loop ---- */

static void on_inner(struct net_watch *w, uint32_t events)
{
    char byte;

    (void)events;
    assert_int_equal(read(w->fd, &byte, 1), 1);
    ++*(int *)w->owner;
}

static void test_inner_loop(void **state)
{
    struct sp_err e = {0};
    struct net_loop inner;
    struct net_base *b;
    int ends[2], seen = 0;
    struct net_watch watch = {.ready = on_inner, .owner = &seen};

    (void)state;
    assert_true(net_loop_init(&inner, &e));
    assert_int_equal(pipe(ends), 0);
    b = net_base_new(&inner, &e);
    assert_non_null(b);
    watch.fd = ends[0];
    assert_true(net_loop_add(&inner, &watch, EPOLLIN, &e));
    for (int i = 1; i <= 3; i++) {
        net_base_turn(b, 0);
        assert_int_equal(seen, i - 1);
        assert_int_equal(write(ends[1], "x", 1), 1);
        net_base_turn(b, -1);
        assert_int_equal(seen, i);
    }
    int64_t began = net_base_now_us();
    net_base_turn(b, 100);
    assert_in_range(net_base_now_us() - began, 90000, 2 * S);
    net_base_free(b);
    net_loop_close(&inner);
    close(ends[0]);
    close(ends[1]);
}

/* ---- names ---- */

struct found {
    int count;
    struct net_found f;
};

static void on_found(void *owner, const struct net_found *f)
{
    struct found *seen = owner;

    seen->count++;
    seen->f = *f;
}

/* One record of RDATA for whatever was asked: name compressed, TTL 60. Type 0 answers that there is no such
 * name. */
static void answer_dns(int fd, int type, struct sp_span rdata)
{
    uint8_t in[512];
    struct net_address from = {.n = sizeof from.sa};
    ssize_t n = recvfrom(fd, in, 300, MSG_DONTWAIT, (struct sockaddr *)&from.sa, &from.n);
    size_t end = 12;

    if (n < 17)
        return;
    while (end < (size_t)n && in[end])
        end += in[end] + 1u;
    end += 5;
    bool is_it = in[end - 3] == (type & 255) && in[end - 4] == type >> 8;
    in[2] = 0x81;
    in[3] = type ? 0x80 : 0x83;
    in[7] = is_it && type;
    memset(in + 8, 0, 4);
    if (is_it && type) {
        const uint8_t head[12] = {0xc0, 12, (uint8_t)(type >> 8), (uint8_t)type, 0, 1, 0, 0, 0,
                                  60,   0,  (uint8_t)rdata.n};
        memcpy(in + end, head, 12);
        memcpy(in + end + 12, rdata.p, rdata.n);
        end += 12 + rdata.n;
    }
    assert_int_equal(sendto(fd, in, end, 0, (struct sockaddr *)&from.sa, from.n), (ssize_t)end);
}

static const struct {
    enum net_lookup what;
    int type; /* of the record that is there; 0: none */
    struct sp_span rdata;
    uint32_t count;
} lookups[] = {
    {NET_LOOKUP_SRV,     33,  {(const uint8_t *)"\0\1\0\2\0\130\3kdc\7example\0", 19},        1},
    {NET_LOOKUP_URI,     256, {(const uint8_t *)"\0\3\0\4krb5srv:m:kkdcp:https://a/p", 31},   1},
    {NET_LOOKUP_ADDRESS, 1,   {(const uint8_t *)"\300\0\2\7", 4},                             1},
    {NET_LOOKUP_ADDRESS, 28,  {(const uint8_t *)"\x20\1\15\270\0\0\0\0\0\0\0\0\0\0\0\7", 16}, 1},
    {NET_LOOKUP_SRV,     0,   {(const uint8_t *)"", 0},                                       0},
    {NET_LOOKUP_ADDRESS, 0,   {(const uint8_t *)"", 0},                                       0},
    {NET_LOOKUP_SRV,
     1,                       {(const uint8_t *)"\300\0\2\7", 4},
     0                                                                                         }, /* the name is there, a record of this type not */
};

static void check_record(size_t i, const struct net_found_record *r)
{
    char text[NET_ADDRESS_TEXT] = "";

    if (lookups[i].what == NET_LOOKUP_ADDRESS) {
        net_text_address(&r->address, text);
        assert_string_equal(text, lookups[i].type == 1 ? "192.0.2.7:0" : "[2001:db8::7]:0");
        return;
    }
    assert_int_equal(r->priority, lookups[i].type == 33 ? 1 : 3);
    assert_int_equal(r->weight, lookups[i].type == 33 ? 2 : 4);
    assert_int_equal(r->port, lookups[i].type == 33 ? 88 : 0);
    assert_string_equal(r->host, lookups[i].type == 33 ? "kdc.example" : "");
    assert_string_equal(r->target, lookups[i].type == 33 ? "" : "krb5srv:m:kkdcp:https://a/p");
}

static void test_resolver(void **state)
{
    struct sp_err e = {0};
    struct net_base *b = net_base_new(NULL, &e);
    struct net_address at;
    int fd = bound_socket(SOCK_DGRAM, &at);
    char text[NET_ADDRESS_TEXT];
    struct found seen;

    (void)state;
    net_text_address(&at, text);
    struct net_resolver *r = net_resolver_new(b, text, &e);
    assert_non_null(r);
    for (size_t i = 0; i < sizeof lookups / sizeof lookups[0]; i++) {
        seen.count = 0;
        assert_non_null(net_resolve(r, lookups[i].what, "_x._udp.example", on_found, &seen));
        assert_int_equal(seen.count, 0);
        for (int turns = 0; seen.count == 0 && turns < 200; turns++) {
            net_base_turn(b, 5);
            answer_dns(fd, lookups[i].type, lookups[i].rdata);
        }
        assert_int_equal(seen.count, 1);
        assert_false(seen.f.failed);
        assert_int_equal(seen.f.count, lookups[i].count);
        if (lookups[i].count)
            check_record(i, &seen.f.record[0]);
    }
    seen.count = 0; /* no packet leaves for an address, nor for what the hosts file knows */
    assert_non_null(net_resolve(r, NET_LOOKUP_ADDRESS, "192.0.2.9", on_found, &seen));
    assert_int_equal(seen.count, 0);
    net_base_turn(b, 100);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.f.count, 1);
    struct net_query *q = net_resolve(r, NET_LOOKUP_ADDRESS, "localhost", on_found, &seen);
    net_query_cancel(q);
    net_base_turn(b, 20);
    assert_int_equal(seen.count, 1);
    assert_non_null(net_resolve(r, NET_LOOKUP_ADDRESS, "localhost", on_found, &seen));
    net_base_turn(b, 100);
    assert_int_equal(seen.count, 2);
    assert_true(net_is_loopback(&seen.f.record[0].address));
    char in[16];
    assert_int_equal(recv(fd, in, sizeof in, MSG_DONTWAIT), -1);
    q = net_resolve(r, NET_LOOKUP_SRV, "nobody.example", on_found, &seen); /* cancelled under way */
    net_base_turn(b, 5);
    net_query_cancel(q);
    answer_dns(fd, 0, (struct sp_span){0});
    turn_for(&(struct world){.base = b}, S / 20);
    assert_int_equal(seen.count, 2);
    q = net_resolve(r, NET_LOOKUP_SRV, "nobody.example", on_found, &seen); /* and the resolver gone */
    assert_non_null(q);
    net_resolver_free(r);
    turn_for(&(struct world){.base = b}, S / 20);
    assert_int_equal(seen.count, 2);
    close(fd);
    net_base_free(b);
}

static void test_resolver_fails(void **state)
{
    struct sp_err e = {0};
    struct net_base *b = net_base_new(NULL, &e);
    struct net_address at;
    int fd = bound_socket(SOCK_DGRAM, &at);
    char text[NET_ADDRESS_TEXT];
    struct found seen = {0};

    (void)state;
    net_text_address(&at, text);
    close(fd); /* nobody there: told at once */
    struct net_resolver *r = net_resolver_new(b, text, &e);
    assert_non_null(net_resolve(r, NET_LOOKUP_SRV, "_x._udp.example", on_found, &seen));
    assert_int_equal(seen.count, 0);
    for (int turns = 0; seen.count == 0 && turns < 600; turns++)
        net_base_turn(b, 20);
    assert_int_equal(seen.count, 1);
    assert_true(seen.f.failed);
    assert_string_equal(seen.f.text, "Could not contact DNS servers");
    seen = (struct found){0};
    assert_non_null(
        net_resolve(r, NET_LOOKUP_SRV, "..", on_found, &seen)); /* c-ares says so within the call */
    assert_int_equal(seen.count, 0);
    net_base_turn(b, 50);
    assert_int_equal(seen.count, 1);
    assert_true(seen.f.failed);
    net_resolver_free(r);
    assert_null(net_resolver_new(b, "not a server", &e));
    assert_int_equal(e.kind, SP_EINPUT);
    net_base_free(b);
}

/* ---- changes ---- */

static void on_changed(void *owner)
{
    ++*(int *)owner;
}

/* In a network of its own, where nothing else happens: its loopback comes up, once for all that this brings.
 */
static int watch_changes(void)
{
    struct sp_err e = {0};
    struct net_base *b;
    struct net_changes *c;
    int seen = 0, first;
    int64_t began;

    if (unshare(CLONE_NEWNET) != 0)
        return 77;
    b = net_base_new(NULL, &e);
    c = net_changes_new(b, on_changed, &seen, &e);
    if (!c)
        return 1;
    turn_for(&(struct world){.base = b}, S / 2);
    first = seen;
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (first != 0 || ioctl(fd, SIOCSIFFLAGS, &lo) != 0)
        return 2;
    began = net_base_now_us();
    turn_for(&(struct world){.base = b}, S / 10);
    if (seen != 0 && net_base_now_us() - began < S / 4)
        return 3; /* not gathered */
    turn_for(&(struct world){.base = b}, S / 2);
    first = seen;
    began = net_base_now_us();
    for (int i = 0; i < 10; i++) { /* a second of unrest: told now and then, not at its end alone */
        lo.ifr_flags ^= IFF_UP;
        if (ioctl(fd, SIOCSIFFLAGS, &lo) != 0)
            return 5;
        turn_for(&(struct world){.base = b}, S / 10);
    }
    if (seen < 3 || seen - first > (net_base_now_us() - began) / (S / 4) + 1)
        return 6;
    net_changes_free(c);
    net_base_free(b);
    close(fd);
    return first == 1 ? 0 : 4;
}

static void test_changes(void **state)
{
    int status;
    pid_t pid = fork();

    (void)state;
    if (pid == 0)
        _exit(watch_changes());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip(); /* no right to a network of one's own */
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_udp),
        cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_bytes_behind_a_frame),
        cmocka_unit_test(test_post),
        cmocka_unit_test(test_kept_by_client),
        cmocka_unit_test(test_closed_meanwhile),
        cmocka_unit_test(test_client_resumes),
        cmocka_unit_test(test_server_certificates),
        cmocka_unit_test(test_own_certificate),
        cmocka_unit_test(test_bad_settings),
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_posts_that_cannot_be),
        cmocka_unit_test(test_proxy),
        cmocka_unit_test(test_inner_loop),
        cmocka_unit_test(test_resolver),
        cmocka_unit_test(test_resolver_fails),
        cmocka_unit_test(test_changes),
    };

    if (argc > 1) /* one of them */
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
