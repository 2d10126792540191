/* SPDX-License-Identifier: MIT */
#include "host/http.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/secret.h"
#include "host/dial.h"

#define REQUEST_MAX (HOST_HTTP_TOKEN_MAX / 3 * 4 + 4096)

struct host_http {
    struct net_http_url url;
    int fd;
    SSL_CTX *ctx;
    SSL *ssl; /* NULL: plain */
    int64_t until_us;
    bool eof;
    size_t n; /* bytes of `in` that wait */
    uint8_t in[NET_HTTP_HEAD_MAX];
    uint8_t token[HOST_HTTP_TOKEN_MAX];
    char out[REQUEST_MAX];
};

static bool lost(const struct host_http *h, const char *what, struct sp_err *e)
{
    return sp_fail(e, SP_EBACKEND, 0, "%.60s %s: %s; look at the URL", h->url.host, what, strerror(errno));
}

/* ---- TLS ---- */

static bool tls_failed(const struct host_http *h, struct sp_err *e)
{
    long why = h->ssl ? SSL_get_verify_result(h->ssl) : X509_V_OK;
    const char *text =
        why != X509_V_OK ? X509_verify_cert_error_string(why) : ERR_reason_error_string(ERR_get_error());

    if (why == X509_V_OK && text && strcmp(text, "wrong version number") == 0)
        return sp_fail(e, SP_EREFUSED, 0,
                       "%.50s port %.8s does not speak TLS; nothing was sent (try http://)", h->url.host,
                       h->url.port);
    return sp_fail(e, SP_EREFUSED, 0, "no TLS with %.50s: %.60s; nothing was sent (see --ca)", h->url.host,
                   text ? text : strerror(errno));
}

/* What a TLS call waits for; false when it failed. */
static bool tls_wait(struct host_http *h, int result)
{
    int why = SSL_get_error(h->ssl, result);

    if (why == SSL_ERROR_WANT_READ)
        return host_wait(h->fd, POLLIN, h->until_us);
    if (why == SSL_ERROR_WANT_WRITE)
        return host_wait(h->fd, POLLOUT, h->until_us);
    if (errno == 0)
        errno = ECONNRESET;
    return false;
}

static bool set_name(struct host_http *h)
{
    X509_VERIFY_PARAM *p = SSL_get0_param(h->ssl);

    if (X509_VERIFY_PARAM_set1_ip_asc(p, h->url.host) == 1)
        return true;
    ERR_clear_error();
    return SSL_set1_host(h->ssl, h->url.host) == 1 && SSL_set_tlsext_host_name(h->ssl, h->url.host) == 1;
}

/* Signatures of certificates are judged by digests that OpenSSL finds by name, and a process whose crypto
 * backend came first has none of these names. */
static void name_digests(void)
{
    (void)EVP_add_digest(EVP_sha256());
    (void)EVP_add_digest(EVP_sha384());
    (void)EVP_add_digest(EVP_sha512());
}

static bool start_tls(struct host_http *h, const char *ca, struct sp_err *e)
{
    int done;

    name_digests();
    h->ctx = SSL_CTX_new(TLS_client_method());
    if (!h->ctx || SSL_CTX_set_min_proto_version(h->ctx, TLS1_2_VERSION) != 1)
        return tls_failed(h, e);
    if (ca ? SSL_CTX_load_verify_locations(h->ctx, ca, NULL) != 1
           : SSL_CTX_set_default_verify_paths(h->ctx) != 1)
        return sp_fail(e, SP_EINPUT, 0, "%.80s holds no certificates to trust; see --ca",
                       ca ? ca : "the system");
    SSL_CTX_set_verify(h->ctx, SSL_VERIFY_PEER, NULL);
    h->ssl = SSL_new(h->ctx);
    if (!h->ssl || !set_name(h) || SSL_set_fd(h->ssl, h->fd) != 1)
        return tls_failed(h, e);
    for (errno = 0; (done = SSL_connect(h->ssl)) != 1; errno = 0)
        if (!tls_wait(h, done))
            return tls_failed(h, e);
    return true;
}

/* ---- bytes ---- */

static bool send_tls(struct host_http *h, struct sp_span data)
{
    while (data.n > 0) {
        size_t n = 0;
        int done = SSL_write_ex(h->ssl, data.p, data.n, &n);

        if (done != 1 && !tls_wait(h, done))
            return false;
        data = sp_span(data.p + n, data.n - n);
    }
    return true;
}

static bool send_all(struct host_http *h, struct sp_span data)
{
    return h->ssl ? send_tls(h, data) : host_send_all(h->fd, data, h->until_us);
}

static bool receive_tls(struct host_http *h, uint8_t *p, size_t max, size_t *n)
{
    int done;

    while ((done = SSL_read_ex(h->ssl, p, max, n)) != 1) {
        if (SSL_get_error(h->ssl, done) == SSL_ERROR_ZERO_RETURN) {
            h->eof = true;
            return true;
        }
        errno = 0;
        if (!tls_wait(h, done))
            return false;
    }
    return true;
}

static bool receive_plain(struct host_http *h, uint8_t *p, size_t max, size_t *n)
{
    ssize_t got;

    do {
        if (!host_wait(h->fd, POLLIN, h->until_us))
            return false;
        got = recv(h->fd, p, max, 0);
    } while (got < 0 && (errno == EAGAIN || errno == EINTR));
    h->eof = got == 0;
    *n = got > 0 ? (size_t)got : 0;
    return got >= 0;
}

static bool receive(struct host_http *h, struct sp_err *e)
{
    size_t n = 0;

    if (h->n == sizeof h->in)
        return sp_fail(e, SP_EINPUT, 0, "%.60s sends a head without end; nothing was changed", h->url.host);
    if (!(h->ssl ? receive_tls(h, h->in + h->n, sizeof h->in - h->n, &n)
                 : receive_plain(h, h->in + h->n, sizeof h->in - h->n, &n)))
        return lost(h, "does not answer", e);
    h->n += n;
    return true;
}

static void drop(struct host_http *h, size_t n)
{
    memmove(h->in, h->in + n, h->n - n);
    h->n -= n;
}

/* ---- one answer ---- */

/* A TLS alert is how a server that speaks TLS refuses what does not. */
static bool is_alert(const struct host_http *h)
{
    return h->n > 1 && h->in[0] == 0x15 && h->in[1] == 3 && !h->ssl;
}

static bool no_http(const struct host_http *h, const struct sp_err *why, struct sp_err *e)
{
    if (h->n > 5 && memcmp(h->in, "HTTP/", 5) == 0)
        return sp_fail(e, SP_EREFUSED, 0, "%.50s: %s", h->url.host, why->text);
    if (is_alert(h))
        return sp_fail(e, SP_EREFUSED, 0, "%.50s port %.8s speaks TLS; write https://", h->url.host,
                       h->url.port);
    return sp_fail(e, SP_EREFUSED, 0, "what answers at %.50s port %.8s is no web server; look at the URL",
                   h->url.host, h->url.port);
}

static bool receive_head(struct host_http *h, struct net_http_head *head, struct sp_err *e)
{
    struct sp_err why = {0};

    for (;;) {
        enum net_http_result r = net_get_http_head(sp_span(h->in, h->n), head, &why);

        if (r == NET_HTTP_WRONG)
            return no_http(h, &why, e);
        if (r == NET_HTTP_WHOLE && head->status >= 200)
            return true;
        if (r == NET_HTTP_WHOLE) { /* 100 Continue and its like announce the answer */
            drop(h, head->used);
            continue;
        }
        if (h->eof && is_alert(h))
            return no_http(h, &why, e);
        if (h->eof)
            return sp_fail(e, SP_EBACKEND, 0, "%.60s ended the connection; nothing was changed", h->url.host);
        if (!receive(h, e))
            return false;
    }
}

static bool skip_body(struct host_http *h, struct net_http_body *b, struct sp_err *e)
{
    for (;;) {
        size_t used;
        enum net_http_result r = net_skip_http_body(b, sp_span(h->in, h->n), &used, e);

        if (r == NET_HTTP_WRONG)
            return false;
        drop(h, used);
        if (r == NET_HTTP_WHOLE || (h->eof && b->kind == NET_HTTP_UNTIL_CLOSE))
            return true;
        if (h->eof)
            return sp_fail(e, SP_EBACKEND, 0, "%.60s sent half an answer; nothing was changed", h->url.host);
        if (!receive(h, e))
            return false;
    }
}

static bool take_token(struct host_http *h, const struct net_http_head *head, struct host_http_answer *out,
                       struct sp_err *e)
{
    size_t n;

    if (!net_get_base64(head->token, h->token, sizeof h->token, &n))
        return sp_fail(e, SP_EINPUT, 0, "%.60s sends a Negotiate token that is no base64", h->url.host);
    out->token = sp_span(h->token, n);
    return true;
}

bool host_http_ask(struct host_http *h, struct sp_span token, struct host_http_answer *out, struct sp_err *e)
{
    struct sp_text t = sp_text(h->out, sizeof h->out);
    struct net_http_head head;

    net_put_http_get(&t, &h->url, token);
    if (t.cut)
        return sp_fail(e, SP_EFULL, 0, "a token of %zu bytes is too large for HTTP", token.n);
    if (!send_all(h, sp_span(t.p, t.n)))
        return lost(h, "takes no request", e);
    if (!receive_head(h, &head, e))
        return false;
    *out =
        (struct host_http_answer){.status = head.status, .negotiates = head.negotiates, .closed = !head.keep};
    if (!take_token(h, &head, out, e))
        return false;
    drop(h, head.used);
    return skip_body(h, &head.body, e);
}

bool host_http_open(struct host_http **out, const struct net_http_url *url, const char *ca, struct sp_err *e)
{
    struct host_http *h = calloc(1, sizeof *h);

    *out = h;
    if (!h)
        return sp_fail(e, SP_ENOMEM, 0, "out of memory; nothing was changed");
    h->url = *url;
    h->until_us = host_mono_us() + HOST_HTTP_LIFE_US;
    h->fd = host_dial(url->host, url->port, e);
    return h->fd >= 0 && (!url->tls || start_tls(h, ca, e));
}

void host_http_close(struct host_http *h)
{
    if (!h)
        return;
    SSL_free(h->ssl);
    SSL_CTX_free(h->ctx);
    if (h->fd >= 0)
        close(h->fd);
    free(h);
}
