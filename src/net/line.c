/* SPDX-License-Identifier: MIT */
#include "net/line.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/exchange_own.h"

#define PLACES_MAX 64 /* beyond, what nobody uses goes */

/* ---- the client and its places ---- */

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    struct line *l = SSL_get_app_data(ssl);

    SSL_SESSION_free(l->place->session);
    l->place->session = session;
    return 1; /* ours now */
}

/* The bundles of the usual systems: directories of hashed names would be opened in mid-handshake, and then a
 * sandbox forbids it. */
static bool load_system(SSL_CTX *ctx)
{
    const char *const files[] = {getenv("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt",
                                 "/etc/pki/tls/certs/ca-bundle.crt", X509_get_default_cert_file()};

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (files[i] && access(files[i], R_OK) == 0)
            return SSL_CTX_load_verify_file(ctx, files[i]) == 1;
    return true; /* nobody is trusted then, and each handshake says so */
}

static bool load_files(SSL_CTX *ctx, const struct net_web_settings *s, struct sp_err *e)
{
    if (s->ca_file ? SSL_CTX_load_verify_file(ctx, s->ca_file) != 1 : !load_system(ctx))
        return sp_fail(e, SP_EINPUT, 0, "%.100s holds no certificates to trust",
                       s->ca_file ? s->ca_file : "the system's bundle");
    if (!s->certificate_file)
        return true;
    if (SSL_CTX_use_certificate_chain_file(ctx, s->certificate_file) != 1)
        return sp_fail(e, SP_EINPUT, 0, "%.100s holds no certificate", s->certificate_file);
    if (SSL_CTX_use_PrivateKey_file(ctx, s->certificate_file, SSL_FILETYPE_PEM) != 1)
        return sp_fail(e, SP_EINPUT, 0, "%.100s does not hold the key of its certificate",
                       s->certificate_file);
    return true;
}

static bool make_ctx(struct net_web_client *c, const struct net_web_settings *s, struct sp_err *e)
{
    net_name_digests();
    c->ctx = SSL_CTX_new(TLS_client_method());
    if (!c->ctx || SSL_CTX_set_min_proto_version(c->ctx, TLS1_2_VERSION) != 1)
        return sp_fail(e, SP_EBACKEND, 0, "OpenSSL could not begin");
    SSL_CTX_set_options(c->ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(c->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                 SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(c->ctx, SSL_VERIFY_PEER, NULL);
    (void)SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(c->ctx, keep_session);
    return load_files(c->ctx, s, e);
}

struct net_web_client *net_web_client_new(struct net_base *b, const struct net_web_settings *s,
                                          struct sp_err *e)
{
    struct net_web_client *c = calloc(1, sizeof *c);
    struct net_http_url proxy;
    bool ok = c || sp_fail(e, SP_ENOMEM, 0, "no memory");

    if (ok && s->proxy && !(net_parse_url(s->proxy, &proxy, e) && !proxy.tls))
        ok = sp_fail(e, SP_EINPUT, 0, "a proxy is http://HOST:PORT");
    if (ok) {
        *c = (struct net_web_client){
            .base = b,
            .proxy = s->proxy != NULL,
            .kept = s->kept ? s->kept : 4,
            .idle_s = s->idle_s ? s->idle_s : 30,
        };
        ok = make_ctx(c, s, e);
    }
    if (ok)
        return c;
    ERR_clear_error();
    net_web_client_free(c);
    return NULL;
}

void net_close_line(struct line *l)
{
    if (l->what)
        (void)event_del(&l->io);
    net_stream_close(&l->stream);
    free(l);
}

static void free_place(struct place *p)
{
    while (p->idle) {
        struct line *l = p->idle;
        p->idle = l->next;
        net_close_line(l);
    }
    SSL_SESSION_free(p->session);
    free(p);
}

void net_web_client_free(struct net_web_client *c)
{
    if (!c)
        return;
    while (c->places) {
        struct place *p = c->places;
        c->places = p->next;
        sp_assert(p->users == 0); /* exchanges are cancelled before */
        free_place(p);
    }
    SSL_CTX_free(c->ctx);
    free(c);
}

static bool is_place(const struct place *p, const struct net_post *w)
{
    return p->port == w->port && p->tls == w->tls && strcmp(p->host, w->host) == 0 &&
           net_same_address(&p->to, &w->plan.to);
}

/* Over the limit, the one that was not used for longest and is not in use. */
static void trim_places(struct net_web_client *c)
{
    struct place **last = NULL;

    if (c->place_count <= PLACES_MAX)
        return;
    for (struct place **at = &c->places; *at; at = &(*at)->next)
        if ((*at)->users == 0)
            last = at;
    if (!last)
        return;
    struct place *gone = *last;
    *last = gone->next;
    c->place_count--;
    free_place(gone);
}

struct place *net_find_place(struct net_web_client *c, const struct net_post *w)
{
    struct place **at = &c->places, *p;

    while (*at && !is_place(*at, w))
        at = &(*at)->next;
    p = *at;
    if (p)
        *at = p->next;
    else if ((p = calloc(1, sizeof *p)) != NULL) {
        p->to = w->plan.to;
        snprintf(p->host, sizeof p->host, "%s", w->host);
        p->port = w->port;
        p->tls = w->tls;
        c->place_count++;
    } else
        return NULL;
    p->users++;
    trim_places(c);
    p->next = c->places;
    c->places = p;
    return p;
}

/* ---- connections that wait ---- */

static void unlink_idle(struct line *l)
{
    struct line **at = &l->place->idle;

    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    l->place->idle_count--;
}

/* TLS 1.3 sends tickets when it likes; all else on a connection that waits is its end. */
static void on_idle(struct line *l, short what)
{
    uint8_t byte;
    size_t n;

    if (!(what & EV_TIMEOUT) && net_stream_read(&l->stream, &byte, 1, &n) == NET_IO_WANT_READ)
        return;
    unlink_idle(l);
    net_close_line(l);
}

static void on_event(evutil_socket_t fd, short what, void *owner)
{
    struct line *l = owner;

    (void)fd;
    if (l->post)
        l->run(l->post);
    else
        on_idle(l, what);
}

void net_watch_line(struct line *l, short what)
{
    if (l->what == what)
        return;
    if (l->what)
        (void)event_del(&l->io);
    event_assign(&l->io, net_base_events(l->client->base), l->stream.fd, (short)(what | EV_PERSIST), on_event,
                 l);
    (void)event_add(&l->io, NULL); /* no memory: the time runs out */
    l->what = what;
}

void net_keep_line(struct line *l)
{
    struct timeval tv = {l->client->idle_s, 0};
    struct place *p = l->place;

    if (p->idle_count >= l->client->kept) {
        net_close_line(l);
        return;
    }
    l->used = true;
    l->post = NULL;
    l->next = p->idle;
    p->idle = l;
    p->idle_count++;
    net_watch_line(l, EV_READ);
    (void)event_add(&l->io, &tv);
}

struct line *net_take_line(struct place *p, void (*run)(void *post), void *post)
{
    struct line *l = p->idle;

    if (!l)
        return NULL;
    unlink_idle(l);
    (void)event_remove_timer(&l->io);
    l->run = run;
    l->post = post;
    return l;
}

/* ---- a connection of its own ---- */

/* RFC 6125 6.4: names and addresses of the certificate's subjectAltName, never its subject. */
static bool set_name(SSL *ssl, const char *host)
{
    X509_VERIFY_PARAM *v = SSL_get0_param(ssl);
    uint8_t ip[16];

    X509_VERIFY_PARAM_set_hostflags(v, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                           X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    if (inet_pton(AF_INET, host, ip) == 1 || inet_pton(AF_INET6, host, ip) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(v, host) == 1;
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

bool net_begin_line_tls(struct line *l)
{
    struct place *p = l->place;
    SSL *ssl = SSL_new(l->client->ctx);

    l->stream.ssl = ssl;
    if (!ssl || !set_name(ssl, p->host) || SSL_set_fd(ssl, l->stream.fd) != 1)
        return false;
    SSL_set_app_data(ssl, l);
    SSL_set_connect_state(ssl);
    if (p->session)
        (void)SSL_set_session(ssl, p->session);
    return true;
}

int net_open_line(struct net_web_client *c, struct place *p, struct line **out)
{
    struct line *l = calloc(1, sizeof *l);

    *out = NULL;
    if (!l)
        return ENOMEM;
    *l = (struct line){.client = c, .place = p, .stream = {.fd = -1}};
    l->stream.fd = net_exchange_connect(&p->to, SOCK_STREAM);
    if (l->stream.fd < 0) {
        int why = errno;
        free(l);
        return why;
    }
    net_watch_line(l, EV_WRITE);
    *out = l;
    return 0;
}

const char *net_text_certificate(long why)
{
    switch (why) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return "the server's certificate is for another name";
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return "the server's certificate has expired";
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return "the server's certificate is not valid yet (or this clock is wrong)";
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        return "the server's certificate is from nobody who is trusted here";
    default:
        return X509_verify_cert_error_string(why);
    }
}
