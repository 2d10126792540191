/* SPDX-License-Identifier: MIT */
/* A door on loopback that answers what it was asked and keeps what it saw, certificates made for the
 * occasion, and a peer that sends what it is told to. */
#ifndef SP_TESTS_WEB_WORLD_H
#define SP_TESTS_WEB_WORLD_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "net/listen.h"
#include "net/web.h"

#define TYPE "application/kerberos"
#define S INT64_C(1000000)

/* ---- certificates ---- */

struct identity {
    EVP_PKEY *key;
    X509 *x;
    char pem[8192]; /* certificate, then key */
    size_t certificate_n;
};

static inline void add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX c;
    X509V3_set_ctx(&c, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &c, nid, value);

    assert_non_null(ext);
    assert_int_equal(X509_add_ext(x, ext, -1), 1);
    X509_EXTENSION_free(ext);
}

static inline void write_pem(struct identity *i)
{
    BIO *b = BIO_new(BIO_s_mem());
    char *p;

    assert_int_equal(PEM_write_bio_X509(b, i->x), 1);
    i->certificate_n = (size_t)BIO_get_mem_data(b, &p);
    assert_int_equal(PEM_write_bio_PrivateKey(b, i->key, NULL, NULL, 0, NULL, NULL), 1);
    size_t n = (size_t)BIO_get_mem_data(b, &p);
    assert_true(n < sizeof i->pem);
    memcpy(i->pem, p, n);
    i->pem[n] = 0;
    BIO_free(b);
}

/* Issued by ca, or by itself. */
static inline void make_identity(struct identity *i, const char *name, const char *alt, long from_s,
                                 long till_s, struct identity *ca)
{
    X509_NAME *n;

    i->key = EVP_EC_gen("P-256");
    i->x = X509_new();
    X509_set_version(i->x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(i->x), rand() + 1);
    X509_gmtime_adj(X509_getm_notBefore(i->x), from_s);
    X509_gmtime_adj(X509_getm_notAfter(i->x), till_s);
    n = X509_get_subject_name(i->x);
    X509_NAME_add_entry_by_txt(n, "O", MBSTRING_UTF8, (const unsigned char *)"Test, Inc.", -1, -1, 0);
    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(i->x, ca ? X509_get_subject_name(ca->x) : n);
    X509_set_pubkey(i->x, i->key);
    add_extension(i->x, ca ? ca->x : i->x, NID_basic_constraints,
                  alt ? "critical,CA:FALSE" : "critical,CA:TRUE");
    if (alt)
        add_extension(i->x, ca ? ca->x : i->x, NID_subject_alt_name, alt);
    assert_true(X509_sign(i->x, ca ? ca->key : i->key, EVP_sha256()) > 0);
    write_pem(i);
}

static inline void free_identity(struct identity *i)
{
    EVP_PKEY_free(i->key);
    X509_free(i->x);
}

static struct identity ca, other_ca, good, renewed, expired, elsewhere, nameless, client, stranger;
static char ca_file[] = "/tmp/net_web_ca_XXXXXX", client_file[] = "/tmp/net_web_client_XXXXXX";

static inline void write_file(char *name, const char *text)
{
    int fd = mkstemp(name);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static inline int set_up_all(void **state)
{
    static const char names[] = "DNS:relay.test,IP:127.0.0.1";

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    make_identity(&ca, "authority", NULL, -3600, 86400, NULL);
    make_identity(&other_ca, "another authority", NULL, -3600, 86400, NULL);
    make_identity(&good, "relay", names, -3600, 86400, &ca);
    make_identity(&renewed, "relay", names, -3600, 86400, &ca);
    make_identity(&expired, "relay", names, -7200, -3600, &ca);
    make_identity(&elsewhere, "relay.test", "DNS:elsewhere.test", -3600, 86400, &ca);
    make_identity(&nameless, "relay.test", "URI:urn:test", -3600, 86400, &ca);
    make_identity(&client, "alice", "DNS:alice", -3600, 86400, &ca);
    make_identity(&stranger, "mallory", "DNS:mallory", -3600, 86400, &other_ca);
    char text[sizeof ca.pem];
    snprintf(text, sizeof text, "%.*s", (int)ca.certificate_n, ca.pem);
    write_file(ca_file, text);
    write_file(client_file, client.pem);
    return 0;
}

static inline int tear_down_all(void **state)
{
    struct identity *all[] = {&ca,        &other_ca, &good,   &renewed, &expired,
                              &elsewhere, &nameless, &client, &stranger};

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free_identity(all[i]);
    unlink(ca_file);
    unlink(client_file);
    return 0;
}

static inline struct sp_span pem_of(const struct identity *i)
{
    return sp_span(i->pem, strlen(i->pem));
}

static inline struct sp_span certificate_of(const struct identity *i)
{
    return i ? sp_span(i->pem, i->certificate_n) : (struct sp_span){0};
}

/* ---- a door that answers what it was asked, and what it saw ---- */

#define LARGEST (4 << 20)

struct world {
    struct net_base *base;
    struct net_web *web;
    struct net_web_tls *tls;
    struct net_address at;
    int fd;
    bool later, close; /* answers on demand; closes behind */
    size_t reply_n;    /* 0: an echo */
    int requests, gone, refusals;
    int waiting; /* asked and not answered: one at a time on a connection */
    struct net_web_connection *last;
    int status;
    char why[160];
    char peer[NET_ADDRESS_TEXT], path[128], host[128], authorization[128], subject[256], body[65536];
    uint8_t exporter[64], end_point[64];
    size_t body_n, exporter_n, end_point_n;
    uint8_t *large;
};

static inline void answer_last(struct world *w)
{
    struct net_web_reply r = {
        .status = 200,
        .type = TYPE,
        .body = w->reply_n ? sp_span(w->large, w->reply_n) : sp_span(w->body, w->body_n),
        .close = w->close,
    };

    w->waiting--;
    net_web_answer(w->last, &r);
}

#define KEEP(to, span) snprintf(to, sizeof(to), "%.*s", SP_FMT(span))

static inline void on_request(void *owner, const struct net_web_request *r)
{
    struct world *w = owner;

    w->requests++;
    w->waiting++;
    w->last = r->from;
    assert_true(sp_same(r->method, SP_LIT("POST")));
    KEEP(w->path, r->path);
    KEEP(w->host, r->host);
    KEEP(w->authorization, r->authorization);
    KEEP(w->subject, r->client_certificate);
    assert_true(r->exporter.n <= sizeof w->exporter && r->end_point.n <= sizeof w->end_point);
    if ((w->exporter_n = r->exporter.n) > 0)
        memcpy(w->exporter, r->exporter.p, r->exporter.n);
    if ((w->end_point_n = r->end_point.n) > 0)
        memcpy(w->end_point, r->end_point.p, r->end_point.n);
    w->body_n = r->body.n < sizeof w->body ? r->body.n : sizeof w->body;
    memcpy(w->body, r->body.p, w->body_n);
    net_text_host(&r->peer, w->peer);
    if (!*r->state)
        *r->state = malloc(1); /* gone frees it, or the sanitizer tells */
    if (!w->later)
        answer_last(w);
}

static inline void on_gone(void *owner, struct net_web_connection *c, void *state)
{
    struct world *w = owner;

    w->gone++;
    if (w->last == c)
        w->last = NULL;
    free(state);
}

static inline void on_refused(void *owner, const struct net_address *peer, int status, const char *why)
{
    struct world *w = owner;

    assert_true(net_is_loopback(peer));
    w->refusals++;
    w->status = status;
    snprintf(w->why, sizeof w->why, "%s", why);
}

static inline struct net_web_tls *tls_of(struct identity *i, struct identity *authority)
{
    struct sp_err e = {0};
    struct net_web_tls *t = net_web_tls_new(pem_of(i), (struct sp_span){0}, certificate_of(authority), &e);

    assert_string_equal(e.text, "");
    assert_non_null(t);
    return t;
}

static inline void open_world(struct world *w, const struct net_web_limits *l, struct identity *i,
                              struct identity *authority, const char *proxy)
{
    struct net_web_handler h = {on_request, on_gone, on_refused, w};
    struct net_address trusted;
    struct sp_err e = {0};

    memset(w, 0, sizeof *w);
    w->base = net_base_new(NULL, &e);
    w->web = net_web_new(w->base, l, &h, &e);
    assert_true(net_parse_address(SP_LIT("127.0.0.1:0"), &w->at, &e));
    assert_true(net_parse_address(sp_str(proxy ? proxy : "127.0.0.9:0"), &trusted, &e));
    w->fd = net_listen_tcp(&w->at, &e);
    assert_true(w->fd >= 0);
    w->tls = i ? tls_of(i, authority) : NULL;
    assert_true(net_web_add(w->web, w->fd, w->tls, &trusted, 1, &e));
    w->large = calloc(1, LARGEST);
    assert_non_null(w->large);
}

static inline void turn(struct world *w, int ms)
{
    net_base_turn(w->base, ms);
}

static inline void turn_for(struct world *w, int64_t us)
{
    int64_t until = net_base_now_us() + us;

    while (net_base_now_us() < until)
        turn(w, 10);
}

static inline void close_world(struct world *w)
{
    net_web_free(w->web);
    net_web_tls_free(w->tls);
    net_base_free(w->base);
    close(w->fd);
    free(w->large);
}

/* ---- a raw peer ---- */

static inline int raw_open_from(struct world *w, const char *from)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct net_address a;
    struct sp_err e = {0};

    assert_true(fd >= 0);
    if (from) {
        assert_true(net_parse_address(sp_str(from), &a, &e));
        assert_int_equal(bind(fd, (struct sockaddr *)&a.sa, a.n), 0);
    }
    assert_int_equal(connect(fd, (struct sockaddr *)&w->at.sa, w->at.n), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    turn(w, 50);
    return fd;
}

static inline int raw_open(struct world *w)
{
    return raw_open_from(w, NULL);
}

static inline void raw_send(int fd, struct sp_span s)
{
    assert_int_equal(send(fd, s.p, s.n, MSG_NOSIGNAL), (ssize_t)s.n);
}

/* Until `end` stands there, the connection ended (appends "<end>", or "<reset>"), or 5 s passed. */
static inline const char *raw_read(struct world *w, int fd, const char *end)
{
    static char in[1 << 20];
    size_t n = 0;
    int64_t until = net_base_now_us() + 5 * S;

    in[0] = 0;
    while (net_base_now_us() < until) {
        ssize_t got = recv(fd, in + n, sizeof in - n - 16, 0);

        if (got == 0 || (got < 0 && errno != EAGAIN)) {
            snprintf(in + n, 16, "%s", got == 0 ? "<end>" : "<reset>");
            return in;
        }
        if (got > 0) {
            n += (size_t)got;
            in[n] = 0;
        }
        if (end && strstr(in, end))
            return in;
        turn(w, 5);
    }
    return in;
}

static inline int count_in(const char *text, const char *what)
{
    int n = 0;

    while ((text = strstr(text, what)) != NULL) {
        n++;
        text += strlen(what);
    }
    return n;
}

#define HEAD "POST /KdcProxy HTTP/1.1\r\nHost: a\r\n"
#define HELLO HEAD "Content-Type: " TYPE "\r\nContent-Length: 5\r\n\r\nhello"

static inline void assert_ok(const char *reply, const char *body)
{
    if (strncmp(reply, "HTTP/1.1 200 OK\r\nDate: ", 23) != 0 || !strstr(reply, body))
        fail_msg("not 200 with %s: %s", body, reply);
}

#endif
