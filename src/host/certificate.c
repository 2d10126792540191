/* SPDX-License-Identifier: MIT */
#include "host/certificate.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"

struct host_look {
    struct net_loop *loop;
    struct net_watch watch; /* fd -1: not there */
    struct host_look_at at;
    SSL_CTX *ctx;
    SSL *ssl;
    int refused; /* errno of a connect that failed at once */
    struct host_certificate found;
};

/* ---- what is in it ---- */

static int64_t unix_of(const ASN1_TIME *t)
{
    struct tm tm;

    return t && ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

static void put_name(const X509_NAME *name, char *out, size_t max)
{
    BIO *b = BIO_new(BIO_s_mem());
    int n = 0;

    if (b && X509_NAME_print_ex(b, name, 0, XN_FLAG_RFC2253) >= 0)
        n = BIO_read(b, out, (int)max - 1);
    out[n > 0 ? n : 0] = 0;
    BIO_free(b);
}

static void put_one(struct sp_text *t, const GENERAL_NAME *n)
{
    int type;
    const ASN1_STRING *s = GENERAL_NAME_get0_value(n, &type);
    const uint8_t *p = type == GEN_DNS || type == GEN_IPADD ? ASN1_STRING_get0_data(s) : NULL;

    if (!p)
        return;
    sp_text_str(t, t->n ? " " : "");
    if (type == GEN_DNS)
        sp_text_safe(t, sp_span(p, (size_t)ASN1_STRING_length(s)));
    else if (ASN1_STRING_length(s) == 4)
        sp_text_fmt(t, "%u.%u.%u.%u", p[0], p[1], p[2], p[3]);
    else
        sp_text_hex(t, sp_span(p, (size_t)ASN1_STRING_length(s)));
}

static void put_names(const X509 *x, char *out, size_t max)
{
    GENERAL_NAMES *all = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    struct sp_text t = sp_text(out, max);

    for (int i = 0; i < sk_GENERAL_NAME_num(all); i++)
        put_one(&t, sk_GENERAL_NAME_value(all, i));
    GENERAL_NAMES_free(all);
    if (t.n == 0)
        put_name(X509_get_subject_name(x), out, max);
}

static bool is_for(X509 *x, const char *host)
{
    return X509_check_host(x, host, 0, 0, NULL) == 1 || X509_check_ip_asc(x, host, 0) == 1;
}

/* The chain breaks with the first of its certificates that ends. */
static void put_end(SSL *ssl, X509 *own, struct host_certificate *out)
{
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);

    out->begins_s = unix_of(X509_get0_notBefore(own));
    out->ends_s = unix_of(X509_get0_notAfter(own));
    put_name(X509_get_subject_name(own), out->ends_first, sizeof out->ends_first);
    for (int i = 1; i < sk_X509_num(chain); i++) {
        X509 *x = sk_X509_value(chain, i);
        int64_t ends = unix_of(X509_get0_notAfter(x));

        if (ends >= out->ends_s)
            continue;
        out->ends_s = ends;
        put_name(X509_get_subject_name(x), out->ends_first, sizeof out->ends_first);
    }
}

static void read_certificate(struct host_look *k)
{
    X509 *x = SSL_get1_peer_certificate(k->ssl);
    long why = SSL_get_verify_result(k->ssl);

    if (!x)
        return;
    k->found.seen = true;
    k->found.named = is_for(x, k->at.host);
    put_names(x, k->found.names, sizeof k->found.names);
    put_name(X509_get_issuer_name(x), k->found.issuer, sizeof k->found.issuer);
    put_end(k->ssl, x, &k->found);
    struct sp_text t = sp_text(k->found.untrusted, sizeof k->found.untrusted);
    if (why != X509_V_OK)
        sp_text_str(&t, X509_verify_cert_error_string(why));
    t = sp_text(k->found.protocol, sizeof k->found.protocol);
    sp_text_str(&t, SSL_get_version(k->ssl));
    X509_free(x);
}

/* ---- the handshake ---- */

static void finish(struct host_look *k)
{
    net_loop_remove(k->loop, &k->watch);
    k->at.done(k->at.owner, &k->found);
}

static void fail(struct host_look *k, const char *why)
{
    struct sp_text t = sp_text(k->found.trouble, sizeof k->found.trouble);

    sp_text_str(&t, why ? why : "the connection ended");
    finish(k);
}

static void shake(struct host_look *k)
{
    int done, why;

    ERR_clear_error();
    errno = 0;
    done = SSL_connect(k->ssl);
    why = done == 1 ? SSL_ERROR_NONE : SSL_get_error(k->ssl, done);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        net_loop_change(k->loop, &k->watch, why == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT);
        return;
    }
    /* A server that wants a certificate of ours may end the handshake behind its own. */
    read_certificate(k);
    if (k->found.seen)
        finish(k);
    else
        fail(k, why == SSL_ERROR_SSL ? ERR_reason_error_string(ERR_peek_error()) : NULL);
}

static void ready(struct net_watch *w, uint32_t events)
{
    struct host_look *k = w->owner;
    socklen_t n = sizeof(int);
    int err = k->refused;

    (void)events;
    if (err == 0 && getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &err, &n) != 0)
        err = errno;
    if (err == 0)
        shake(k);
    else
        fail(k, strerror(err));
}

/* What is not in the chain's times or name is what nobody vouches for. */
static int judge(int good, X509_STORE_CTX *store)
{
    int why = X509_STORE_CTX_get_error(store);

    if (!good && (why == X509_V_ERR_CERT_HAS_EXPIRED || why == X509_V_ERR_CERT_NOT_YET_VALID))
        X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
}

static bool make_tls(struct host_look *k)
{
    k->ctx = SSL_CTX_new(TLS_client_method());
    if (!k->ctx || SSL_CTX_set_min_proto_version(k->ctx, TLS1_2_VERSION) != 1)
        return false;
    if (k->at.ca)
        (void)SSL_CTX_load_verify_locations(k->ctx, k->at.ca, NULL);
    else
        (void)SSL_CTX_set_default_verify_paths(k->ctx);
    SSL_CTX_set_verify(k->ctx, SSL_VERIFY_PEER, judge);
    k->ssl = SSL_new(k->ctx);
    if (!k->ssl)
        return false;
    if (strspn(k->at.host, "0123456789.:abcdefABCDEF") != strlen(k->at.host)) /* SNI is for names */
        (void)SSL_set_tlsext_host_name(k->ssl, k->at.host);
    return true;
}

static bool dial(struct host_look *k)
{
    const struct sockaddr *sa = (const struct sockaddr *)&k->at.to.sa;
    int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sp_err e = {0};

    k->watch = (struct net_watch){.fd = fd, .ready = ready, .owner = k};
    if (fd < 0)
        return false;
    if (connect(fd, sa, k->at.to.n) != 0 && errno != EINPROGRESS)
        k->refused = errno; /* said when the loop turns, as what fails later is */
    return SSL_set_fd(k->ssl, fd) == 1 && net_loop_add(k->loop, &k->watch, EPOLLOUT, &e);
}

struct host_look *host_look_begin(struct net_loop *l, const struct host_look_at *at)
{
    struct host_look *k = calloc(1, sizeof *k);

    if (!k)
        return NULL;
    k->loop = l;
    k->at = *at;
    k->watch.fd = -1;
    if (make_tls(k) && dial(k))
        return k;
    host_look_end(k);
    return NULL;
}

void host_look_end(struct host_look *k)
{
    if (!k)
        return;
    SSL_free(k->ssl);
    SSL_CTX_free(k->ctx);
    if (k->watch.fd >= 0) {
        net_loop_remove(k->loop, &k->watch);
        close(k->watch.fd);
    }
    free(k);
}
