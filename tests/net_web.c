/* SPDX-License-Identifier: MIT */
/* The HTTPS door of net/, before raw peers and OpenSSL on loopback. Its other half: net_exchange.c. */
#include "web_world.h"

/* ---- the door ---- */

static void test_kept_connection(void **state)
{
    struct world w;

    (void)state;
    open_world(&w, NULL, NULL, NULL, NULL);
    int fd = raw_open(&w);
    for (int i = 0; i < 3; i++) {
        raw_send(fd, SP_LIT(HELLO));
        const char *reply = raw_read(&w, fd, "hello");
        assert_ok(reply, "Content-Type: " TYPE "\r\nContent-Length: 5\r\n\r\nhello");
        assert_null(strstr(reply, "Connection:"));
    }
    assert_int_equal(w.requests, 3);
    assert_string_equal(w.path, "/KdcProxy");
    assert_string_equal(w.host, "a");
    assert_string_equal(w.peer, "127.0.0.1");
    assert_int_equal(w.exporter_n + w.end_point_n, 0);
    assert_false(net_web_is_idle(w.web));
    close(fd);
    turn(&w, 100);
    assert_int_equal(w.gone, 1);
    assert_true(net_web_is_idle(w.web));
    close_world(&w);
}

/* Byte by byte, and the body in its own time. */
static void test_pieces(void **state)
{
    struct world w;

    (void)state;
    open_world(&w, NULL, NULL, NULL, NULL);
    int fd = raw_open(&w);
    for (size_t i = 0; i < sizeof HELLO - 1; i++) {
        raw_send(fd, sp_span(&HELLO[i], 1));
        assert_int_equal(w.requests, 0);
        turn(&w, 20);
    }
    assert_ok(raw_read(&w, fd, "hello"), "hello");
    close(fd);
    close_world(&w);
}

static void test_http_1_0_closes(void **state)
{
    struct world w;

    (void)state;
    open_world(&w, NULL, NULL, NULL, NULL);
    int fd = raw_open(&w);
    raw_send(fd, SP_LIT("POST /KdcProxy HTTP/1.0\r\nHost: 127.0.0.1:443\r\nCache-Control: "
                        "no-cache\r\nPragma: no-cache\r\n"
                        "User-Agent: kerberos/1.0\r\nContent-type: application/kerberos\r\nContent-Length: "
                        "5\r\n\r\nhello"));
    const char *reply = raw_read(&w, fd, NULL);
    assert_ok(reply, "Connection: close\r\nContent-Length: 5\r\n\r\nhello<end>");
    assert_int_equal(w.gone, 1);
    close(fd);
    close_world(&w);
}

static void test_expect(void **state)
{
    struct world w;

    (void)state;
    open_world(&w, NULL, NULL, NULL, NULL);
    int fd = raw_open(&w);
    raw_send(fd, SP_LIT(HEAD "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"));
    assert_string_equal(raw_read(&w, fd, "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_int_equal(w.requests, 0);
    raw_send(fd, SP_LIT("hello"));
    assert_ok(raw_read(&w, fd, "hello"), "hello");
    close(fd);
    close_world(&w);
}

static void send_hundred(int fd)
{
    for (int i = 0; i < 100; i++) {
        char text[200];
        int n = snprintf(text, sizeof text, HEAD "Content-Length: 7\r\n\r\nbody%03d", i);
        raw_send(fd, sp_span(text, (size_t)n));
    }
}

/* One after the other, in order; none is handed over while another waits. */
static void test_pipelining(void **state)
{
    struct world w;

    (void)state;
    for (int later = 0; later < 2; later++) {
        open_world(&w, NULL, NULL, NULL, NULL);
        w.later = later;
        int fd = raw_open(&w);
        send_hundred(fd);
        for (int turns = 0; w.requests < 100 && turns < 2000; turns++) {
            turn(&w, 5);
            assert_in_range(w.waiting, 0, 1);
            if (w.waiting && w.last)
                answer_last(&w);
        }
        if (w.waiting)
            answer_last(&w);
        const char *reply = raw_read(&w, fd, "body099");
        assert_int_equal(count_in(reply, "HTTP/1.1 200 OK\r\n"), 100);
        for (int i = 0; i < 100; i++) {
            char text[16];
            snprintf(text, sizeof text, "body%03d", i);
            reply = strstr(reply, text);
            assert_non_null(reply);
        }
        close(fd);
        close_world(&w);
    }
}

/* Which nobody reads before they are answered. */
static void test_half_a_request_behind_one(void **state)
{
    struct world w;

    (void)state;
    open_world(&w, NULL, NULL, NULL, NULL);
    int fd = raw_open(&w);
    raw_send(fd, SP_LIT(HELLO HEAD "Content-"));
    assert_ok(raw_read(&w, fd, "hello"), "hello");
    assert_int_equal(w.requests, 1);
    raw_send(fd, SP_LIT("Length: 3\r\n\r\nabc"));
    assert_ok(raw_read(&w, fd, "abc"), "abc");
    close(fd);
    close_world(&w);
}

static const struct {
    const char *in;
    int status;
    const char *reply, *why;
} refusals[] = {
    {"GET /\r\n",                                                             400, "HTTP/1.1 400 Bad Request\r\n",                "the first line"        },
    {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",                      400, "HTTP/1.1 400 Bad Request\r\n",
     "the first line"                                                                                                                                     },
    {"GET / HTTP/1.1\r\nHost: a\r\n\r\n",                                     405, "HTTP/1.1 405 Method Not Allowed\r\n",
     "another method than POST"                                                                                                                           },
    {HEAD "\r\n",                                                             411, "HTTP/1.1 411 Length Required\r\n",            "no Content-Length"     },
    {HEAD "Content-Length: 131073\r\n\r\n",                                   413, "HTTP/1.1 413 Content Too Large\r\n",
     "a body that is too long"                                                                                                                            },
    {HEAD "Content-Length: 131073\r\nExpect: 100-continue\r\n\r\n",           413, "HTTP/1.1 413 Content Too Large\r\n",
     "a body that is too long"                                                                                                                            },
    {HEAD "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
     "HTTP/1.1 400 Bad Request\r\n",                                                                                              "a Transfer-Encoding"   },
    {HEAD "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",              400, "HTTP/1.1 400 Bad Request\r\n",
     "two Content-Length"                                                                                                                                 },
    {HEAD "Content-Length: 5\nX: y\r\n\r\nhello",                             400, "HTTP/1.1 400 Bad Request\r\n",
     "a line that ends without CR"                                                                                                                        },
    {HEAD "X: y\r\n z\r\n\r\n",                                               400, "HTTP/1.1 400 Bad Request\r\n",                "a line without a colon"},
    {HEAD "Expect: miracles\r\n",                                             417, "HTTP/1.1 417 Expectation Failed\r\n",         "its Expect"            },
    {"POST / HTTP/3.0\r\n",                                                   505, "HTTP/1.1 505 HTTP Version Not Supported\r\n",
     "HTTP/1.1 and 1.0 are spoken here"                                                                                                                   },
    {"POST / HTTP/1.1\r\n\r\n",                                               400, "HTTP/1.1 400 Bad Request\r\n",                "no Host"               },
};

static void test_refusals(void **state)
{
    struct world w;

    (void)state;
    open_world(&w, NULL, NULL, NULL, NULL);
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        int fd = raw_open(&w), honest;
        size_t n = i == 1 ? 13 : strlen(refusals[i].in); /* that one holds NUL */

        raw_send(fd, sp_span(refusals[i].in, n));
        const char *reply = raw_read(&w, fd, NULL);
        print_message("%s", reply);
        assert_int_equal(strncmp(reply, refusals[i].reply, strlen(refusals[i].reply)), 0);
        assert_non_null(strstr(reply, "Connection: close\r\n"));
        assert_non_null(strstr(reply, "<end>"));
        assert_int_equal(strstr(reply, "Allow: POST\r\n") != NULL, refusals[i].status == 405);
        assert_int_equal(w.status, refusals[i].status);
        assert_string_equal(w.why, refusals[i].why);
        assert_int_equal(w.refusals, (int)i + 1);
        close(fd);
        honest = raw_open(&w); /* the next one is none the worse for it */
        raw_send(honest, SP_LIT(HELLO));
        assert_ok(raw_read(&w, honest, "hello"), "hello");
        close(honest);
    }
    assert_int_equal(w.requests, (int)(sizeof refusals / sizeof refusals[0]));
    close_world(&w);
}

/* What comes behind a refusal is thrown away, for the reply must arrive: a megabyte of head, a body of one.
 */
static void test_floods(void **state)
{
    static char flood[900000];
    struct world w;

    (void)state;
    memset(flood, 'x', sizeof flood);
    for (int kind = 0; kind < 2; kind++) {
        open_world(&w, NULL, NULL, NULL, NULL);
        int fd = raw_open(&w);
        size_t sent = 0;

        raw_send(fd, sp_str(kind ? HEAD "Content-Length: 900000\r\n\r\n" : HEAD "X: "));
        for (int i = 0; sent < sizeof flood && i < 1000; i++) {
            ssize_t n = send(fd, flood + sent, sizeof flood - sent, MSG_NOSIGNAL);
            sent += n > 0 ? (size_t)n : 0;
            turn(&w, 2);
        }
        assert_int_equal(sent, sizeof flood);
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        const char *reply = raw_read(&w, fd, NULL);
        assert_non_null(strstr(reply, kind ? " 413 " : " 431 "));
        assert_non_null(strstr(reply, "<end>"));
        assert_int_equal(w.status, kind ? 413 : 431);
        close(fd);
        turn_for(&w, S / 5);
        assert_true(net_web_is_idle(w.web));
        close_world(&w);
    }
}

static const struct net_web_limits hasty = {.handshake_s = 1, .head_s = 1, .idle_s = 2, .all_s = 2};

static void test_slow_requests(void **state)
{
    static const char *const begins[] = {"P", HEAD "X", HEAD "Content-Length: 5\r\n\r\nhel"};
    struct world w;

    (void)state;
    open_world(&w, &hasty, NULL, NULL, NULL);
    for (size_t i = 0; i < 3; i++) {
        int64_t began = net_base_now_us();
        int fd = raw_open(&w);

        raw_send(fd, sp_str(begins[i]));
        const char *reply = raw_read(&w, fd, NULL);
        assert_int_equal(strncmp(reply, "HTTP/1.1 408 Request Timeout\r\n", 30), 0);
        assert_string_equal(w.why, "a request that took too long");
        assert_in_range(net_base_now_us() - began, S * 9 / 10, 4 * S);
        close(fd);
    }
    assert_int_equal(w.requests, 0);
    close_world(&w);
}

static void test_idle_ends(void **state)
{
    struct world w;

    (void)state;
    open_world(&w, &hasty, NULL, NULL, NULL);
    int fd = raw_open(&w);
    int64_t began = net_base_now_us();
    assert_string_equal(raw_read(&w, fd, NULL), "<end>");
    assert_in_range(net_base_now_us() - began, S * 19 / 10, 5 * S);
    assert_int_equal(w.refusals, 0);
    close(fd);
    close_world(&w);
}

static void test_late_answer(void **state)
{
    struct world w;

    (void)state;
    open_world(&w, &hasty, NULL, NULL, NULL);
    w.later = true;
    int fd = raw_open(&w);
    raw_send(fd, SP_LIT(HELLO));
    const char *reply = raw_read(&w, fd, NULL);
    assert_int_equal(strncmp(reply, "HTTP/1.1 503 Service Unavailable\r\n", 34), 0);
    assert_int_equal(w.gone, 1); /* so that it is not answered any more */
    assert_string_equal(w.why, "no answer in time");
    close(fd);

    fd = raw_open(&w); /* who asked has gone before the answer */
    raw_send(fd, SP_LIT(HELLO));
    turn_for(&w, S / 10);
    assert_non_null(w.last);
    close(fd);
    turn_for(&w, S / 10);
    assert_null(w.last);
    assert_int_equal(w.gone, 2);
    close_world(&w);
}

static void test_slow_reader(void **state)
{
    struct world w;
    int small = 4096;

    (void)state;
    open_world(&w, &hasty, NULL, NULL, NULL);
    w.reply_n = LARGEST;
    int fd = raw_open(&w);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    raw_send(fd, SP_LIT(HELLO));
    turn_for(&w, 3 * S);
    assert_string_equal(w.why, "a reply that was not read in time");
    assert_int_equal(w.status, 0);
    assert_int_equal(w.gone, 1);
    close(fd);

    fd = raw_open(&w); /* a large reply is not a slow one */
    raw_send(fd, SP_LIT(HELLO));
    size_t n = 0;
    for (int i = 0; i < 4000 && n < LARGEST; i++) {
        static char in[1 << 20];
        ssize_t got = recv(fd, in, sizeof in, 0);
        n += got > 0 ? (size_t)got : 0;
        turn(&w, 1);
    }
    assert_true(n > LARGEST);
    w.reply_n = 0;
    raw_send(fd, SP_LIT(HELLO));
    assert_ok(raw_read(&w, fd, "hello"), "hello");
    close(fd);
    close_world(&w);
}

static void test_limits_of_connections(void **state)
{
    static const struct net_web_limits few = {.connections = 3, .per_source = 2, .requests_kept = 2};
    struct world w;
    int fd[4], over;

    (void)state;
    open_world(&w, &few, NULL, NULL, NULL);
    fd[0] = raw_open(&w);
    fd[1] = raw_open(&w);
    over = raw_open(&w);
    assert_string_equal(raw_read(&w, over, NULL), "<end>");
    assert_string_equal(w.why, "too many connections from one source");
    close(over);
    fd[2] = raw_open_from(&w, "127.0.0.2:0");
    raw_send(fd[0], SP_LIT(HELLO)); /* so that fd[1] waits for longest */
    assert_ok(raw_read(&w, fd[0], "hello"), "hello");
    fd[3] = raw_open_from(&w, "127.0.0.2:0");
    assert_string_equal(raw_read(&w, fd[1], NULL), "<end>");
    raw_send(fd[0], SP_LIT(HELLO));
    const char *reply = raw_read(&w, fd[0], NULL); /* its second, and the last it may have */
    assert_ok(reply, "Connection: close\r\nContent-Length: 5\r\n\r\nhello<end>");
    for (int i = 0; i < 4; i++)
        close(fd[i]);
    turn_for(&w, S / 20);
    for (int i = 0; i < 5; i++) { /* who has gone is not counted */
        fd[0] = raw_open(&w);
        raw_send(fd[0], SP_LIT(HELLO));
        assert_ok(raw_read(&w, fd[0], "hello"), "hello");
        close(fd[0]);
        turn_for(&w, S / 50);
    }
    close_world(&w);
}

static void test_nobody_to_make_room(void **state)
{
    static const struct net_web_limits few = {.connections = 1};
    struct world w;

    (void)state;
    open_world(&w, &few, NULL, NULL, NULL);
    int busy = raw_open(&w), late;
    raw_send(busy, SP_LIT("POST"));
    turn(&w, 50);
    late = raw_open(&w);
    assert_string_equal(raw_read(&w, late, NULL), "<end>");
    assert_string_equal(w.why, "too many connections");
    raw_send(busy, sp_span(&HELLO[4], sizeof HELLO - 5));
    assert_ok(raw_read(&w, busy, "hello"), "hello");
    close(busy);
    close(late);
    close_world(&w);
}

/* Of 4 + 128 KiB, one that waits for its body has 128; it is let finish, and then there is room for the
 * other. */
static void test_limit_of_bytes(void **state)
{
    static const struct net_web_limits few = {.buffered_max = 132 * 1024};
    static char part[70000];
    struct world w;

    (void)state;
    memset(part, 'x', sizeof part);
    open_world(&w, &few, NULL, NULL, NULL);
    int first = raw_open(&w), second = raw_open(&w);
    raw_send(first, SP_LIT(HEAD "Content-Length: 70001\r\n\r\n"));
    raw_send(first, sp_span(part, sizeof part));
    turn_for(&w, S / 10);
    raw_send(second, SP_LIT(HEAD "Content-Length: 70001\r\n\r\n"));
    raw_send(second, sp_span(part, sizeof part));
    const char *reply = raw_read(&w, second, "at once\n");
    assert_int_equal(strncmp(reply, "HTTP/1.1 503 ", 13), 0);
    assert_string_equal(w.why, "too many requests at once");
    close(second);
    raw_send(first, SP_LIT("x"));
    assert_ok(raw_read(&w, first, "xxx"), "xxx");
    second = raw_open(&w);
    raw_send(second, SP_LIT(HEAD "Content-Length: 70000\r\n\r\n"));
    raw_send(second, sp_span(part, sizeof part));
    assert_ok(raw_read(&w, second, "xxx"), "xxx");
    close(first);
    close(second);
    close_world(&w);
}

static void test_forwarded(void **state)
{
    struct world w;

    (void)state;
    for (int trusted = 0; trusted < 2; trusted++) {
        open_world(&w, NULL, NULL, NULL, trusted ? "127.0.0.1:0" : NULL);
        int fd = raw_open(&w);
        raw_send(fd, SP_LIT(HEAD "X-Forwarded-For: 10.1.1.1, 192.0.2.7\r\nContent-Length: 5\r\n\r\nhello"));
        assert_ok(raw_read(&w, fd, "hello"), "hello");
        assert_string_equal(w.peer, trusted ? "192.0.2.7" : "127.0.0.1");
        raw_send(fd, SP_LIT(HEAD "Forwarded: for=unknown\r\nContent-Length: 5\r\n\r\nhello"));
        const char *reply = raw_read(&w, fd, "\r\n\r\n");
        assert_int_equal(strncmp(reply, trusted ? "HTTP/1.1 400" : "HTTP/1.1 200", 12), 0);
        close(fd);
        close_world(&w);
    }
}

static void test_stop(void **state)
{
    struct world w;

    (void)state;
    open_world(&w, NULL, NULL, NULL, NULL);
    w.later = true;
    int busy = raw_open(&w), idle = raw_open(&w);
    raw_send(busy, SP_LIT(HELLO));
    turn_for(&w, S / 20);
    net_web_stop(w.web);
    assert_string_equal(raw_read(&w, idle, NULL), "<end>");
    assert_false(net_web_is_idle(w.web));
    answer_last(&w);
    assert_ok(raw_read(&w, busy, NULL), "Connection: close\r\nContent-Length: 5\r\n\r\nhello<end>");
    assert_true(net_web_is_idle(w.web));
    close(busy);
    close(idle);
    close_world(&w);
}

/* ---- the door's TLS, seen by OpenSSL ---- */

struct raw_tls {
    SSL_CTX *ctx;
    SSL *ssl;
    int fd;
};

static SSL_SESSION *got_session;

static int on_session(SSL *ssl, SSL_SESSION *s)
{
    (void)ssl;
    SSL_SESSION_free(got_session);
    got_session = s;
    return 1;
}

static bool tls_open(struct world *w, struct raw_tls *t, int version, SSL_SESSION *session,
                     struct identity *own)
{
    int done = 0;

    t->ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(t->ctx, 0);
    SSL_CTX_set_max_proto_version(t->ctx, version);
    SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(t->ctx, on_session);
    SSL_CTX_set_security_level(t->ctx, 0);
    if (own) {
        assert_int_equal(SSL_CTX_use_certificate(t->ctx, own->x), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey(t->ctx, own->key), 1);
    }
    t->ssl = SSL_new(t->ctx);
    t->fd = raw_open(w);
    SSL_set_fd(t->ssl, t->fd);
    if (session)
        assert_int_equal(SSL_set_session(t->ssl, session), 1);
    for (int i = 0; i < 200 && (done = SSL_connect(t->ssl)) != 1; i++) {
        if (SSL_get_error(t->ssl, done) != SSL_ERROR_WANT_READ)
            return false;
        turn(w, 10);
    }
    return done == 1;
}

static bool tls_ask(struct world *w, struct raw_tls *t)
{
    char in[1024];
    int n = 0;

    if (SSL_write(t->ssl, HELLO, sizeof HELLO - 1) != sizeof HELLO - 1)
        return false;
    for (int i = 0; i < 200 && (n = SSL_read(t->ssl, in, sizeof in - 1)) <= 0; i++) {
        if (SSL_get_error(t->ssl, n) != SSL_ERROR_WANT_READ)
            return false;
        turn(w, 10);
    }
    in[n > 0 ? n : 0] = 0;
    return n > 0 && strstr(in, "200 OK") && strstr(in, "hello");
}

static void tls_close(struct raw_tls *t)
{
    SSL_shutdown(t->ssl);
    SSL_free(t->ssl);
    SSL_CTX_free(t->ctx);
    close(t->fd);
}

static void test_tls_versions(void **state)
{
    static const struct {
        int version;
        bool taken;
    } rows[] = {
        {TLS1_VERSION,   false},
        {TLS1_1_VERSION, false},
        {TLS1_2_VERSION, true },
        {TLS1_3_VERSION, true }
    };
    struct world w;

    (void)state;
    open_world(&w, NULL, &good, NULL, NULL);
    for (size_t i = 0; i < 4; i++) {
        struct raw_tls t;
        uint8_t ours[32], hash[32];
        unsigned n;

        assert_int_equal(tls_open(&w, &t, rows[i].version, NULL, NULL), rows[i].taken);
        if (rows[i].taken) {
            assert_true(tls_ask(&w, &t));
            assert_int_equal(SSL_export_keying_material(t.ssl, ours, 32, "EXPORTER-Channel-Binding", 24,
                                                        (const unsigned char *)"", 0, 1),
                             1);
            assert_int_equal(w.exporter_n, 32);
            assert_memory_equal(w.exporter, ours, 32);
            assert_int_equal(X509_digest(good.x, EVP_sha256(), hash, &n), 1);
            assert_int_equal(w.end_point_n, 32);
            assert_memory_equal(w.end_point, hash, 32);
            assert_string_equal(w.subject, "");
            assert_int_equal(SSL_SESSION_get_max_early_data(SSL_get0_session(t.ssl)), 0);
        } else {
            turn_for(&w, S / 20);
            assert_int_equal(w.status, 0);
            assert_string_equal(w.why, "no TLS: unsupported protocol");
        }
        tls_close(&t);
    }
    close_world(&w);
}

/* Renegotiation is TLS 1.2's; whoever tries is refused by an alert. */
static void test_no_renegotiation(void **state)
{
    struct raw_tls t;
    struct world w;
    int done = 1, why = 0;

    (void)state;
    open_world(&w, NULL, &good, NULL, NULL);
    assert_true(tls_open(&w, &t, TLS1_2_VERSION, NULL, NULL));
    assert_true(tls_ask(&w, &t));
    assert_int_equal(SSL_renegotiate(t.ssl), 1);
    for (int i = 0; i < 50 && (done = SSL_do_handshake(t.ssl)) != 1; i++) {
        why = SSL_get_error(t.ssl, done);
        if (why != SSL_ERROR_WANT_READ)
            break;
        turn(&w, 10);
    }
    assert_int_not_equal(done, 1);
    assert_int_equal(w.requests, 1);
    tls_close(&t);
    close_world(&w);
}

static bool resumes(struct world *w, int version, struct identity *own)
{
    struct raw_tls t;
    SSL_SESSION *s = got_session;
    bool reused;

    SSL_SESSION_up_ref(s);
    assert_true(tls_open(w, &t, version, s, own));
    assert_true(tls_ask(w, &t));
    reused = SSL_session_reused(t.ssl) == 1;
    tls_close(&t);
    SSL_SESSION_free(s);
    return reused;
}

/* Also past a renewed certificate; not past other authorities for clients. */
static void test_resumption(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct raw_tls t;
        struct world w;

        open_world(&w, NULL, &good, &ca, NULL);
        assert_true(tls_open(&w, &t, versions[i], NULL, &client));
        assert_true(tls_ask(&w, &t));
        assert_int_equal(SSL_session_reused(t.ssl), 0);
        tls_close(&t);
        assert_true(resumes(&w, versions[i], &client));
        assert_string_equal(w.subject, "CN=alice,O=Test\\, Inc.");
        struct net_web_tls *second = tls_of(&renewed, &ca), *third = tls_of(&renewed, &other_ca);
        net_web_use_tls(w.web, second);
        net_web_tls_free(w.tls);
        w.tls = NULL;
        assert_true(resumes(&w, versions[i], &client));
        assert_string_equal(w.subject, "CN=alice,O=Test\\, Inc.");
        assert_true(resumes(&w, versions[i], &client)); /* by a ticket of the second's */
        net_web_use_tls(w.web, third);
        net_web_tls_free(second);
        assert_false(resumes(&w, versions[i], NULL));
        assert_string_equal(w.subject, "");
        net_web_tls_free(third); /* its door goes later */
        close_world(&w);
        SSL_SESSION_free(got_session);
        got_session = NULL;
    }
}

/* A connection outlives the certificate that it began with. */
static void test_reload_under_a_connection(void **state)
{
    struct raw_tls t;
    struct world w;

    (void)state;
    open_world(&w, NULL, &good, NULL, NULL);
    assert_true(tls_open(&w, &t, TLS1_3_VERSION, NULL, NULL));
    struct net_web_tls *second = tls_of(&renewed, NULL);
    net_web_use_tls(w.web, second);
    net_web_tls_free(w.tls);
    w.tls = second;
    assert_true(tls_ask(&w, &t));
    tls_close(&t);
    assert_true(tls_open(&w, &t, TLS1_3_VERSION, NULL, NULL));
    X509 *seen = SSL_get1_peer_certificate(t.ssl);
    assert_int_equal(X509_cmp(seen, renewed.x), 0);
    X509_free(seen);
    tls_close(&t);
    SSL_SESSION_free(got_session);
    got_session = NULL;
    close_world(&w);
}

static void test_client_certificates(void **state)
{
    struct raw_tls t;
    struct world w;

    (void)state;
    open_world(&w, NULL, &good, &ca, NULL);
    assert_true(tls_open(&w, &t, TLS1_3_VERSION, NULL, &client));
    assert_true(tls_ask(&w, &t));
    assert_string_equal(w.subject, "CN=alice,O=Test\\, Inc.");
    tls_close(&t);
    assert_true(tls_open(&w, &t, TLS1_3_VERSION, NULL, NULL));
    assert_true(tls_ask(&w, &t));
    assert_string_equal(w.subject, "");
    tls_close(&t);
    (void)tls_open(&w, &t, TLS1_3_VERSION, NULL, &stranger); /* TLS 1.3 tells afterwards */
    assert_false(tls_ask(&w, &t));
    assert_string_equal(w.why, "no TLS: certificate verify failed");
    tls_close(&t);
    close_world(&w);
}

static void test_bad_pem(void **state)
{
    static const struct {
        int certificate, key, ca; /* 0: nothing, 1: good, 2: another's, 3: broken */
        const char *text;
    } rows[] = {
        {0, 1, 0, "the certificate: no PEM text of a certificate and its chain"},
        {3, 1, 0, "the certificate: no PEM text of a certificate and its chain"},
        {1, 3, 0, "the key: no PEM text of a private key without a password"   },
        {1, 2, 0, "the key is not the certificate's"                           },
        {1, 1, 3, "the clients' authorities: no PEM text of certificates"      },
    };
    static const char broken[] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct sp_span texts[] = {{0}, pem_of(&good), pem_of(&renewed), sp_str(broken)};
        struct sp_err e = {0};

        assert_null(net_web_tls_new(texts[rows[i].certificate], texts[rows[i].key], texts[rows[i].ca], &e));
        assert_int_equal(e.kind, SP_EINPUT);
        assert_string_equal(e.text, rows[i].text);
    }
}

static void test_slow_handshake(void **state)
{
    struct world w;

    (void)state;
    open_world(&w, &hasty, &good, NULL, NULL);
    int fd = raw_open(&w);
    raw_send(fd, SP_LIT("\x16\x03\x01"));
    int64_t began = net_base_now_us();
    assert_string_equal(raw_read(&w, fd, NULL), "<end>");
    assert_in_range(net_base_now_us() - began, S * 9 / 10, 4 * S);
    assert_string_equal(w.why, "a TLS handshake that took too long");
    close(fd);
    fd = raw_open(&w);
    raw_send(fd, SP_LIT(HELLO));
    (void)raw_read(&w, fd, NULL);
    assert_string_equal(w.why, "no TLS: http request");
    close(fd);
    close_world(&w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kept_connection),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_http_1_0_closes),
        cmocka_unit_test(test_expect),
        cmocka_unit_test(test_pipelining),
        cmocka_unit_test(test_half_a_request_behind_one),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_floods),
        cmocka_unit_test(test_slow_requests),
        cmocka_unit_test(test_idle_ends),
        cmocka_unit_test(test_late_answer),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_limits_of_connections),
        cmocka_unit_test(test_nobody_to_make_room),
        cmocka_unit_test(test_limit_of_bytes),
        cmocka_unit_test(test_forwarded),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_tls_versions),
        cmocka_unit_test(test_no_renegotiation),
        cmocka_unit_test(test_resumption),
        cmocka_unit_test(test_reload_under_a_connection),
        cmocka_unit_test(test_client_certificates),
        cmocka_unit_test(test_bad_pem),
        cmocka_unit_test(test_slow_handshake),
    };

    if (argc > 1) /* one of them */
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
