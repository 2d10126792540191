/* SPDX-License-Identifier: MIT */
#include "net/stream.h"

#include <errno.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static enum net_io plain_result(void)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return NET_IO_WANT_READ;
    return NET_IO_LOST;
}

/* RFC 8446 6.1: an end without close_notify is a truncation, so LOST. */
static enum net_io tls_result(SSL *ssl, int result)
{
    switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return NET_IO_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return NET_IO_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return NET_IO_END;
    default:
        return NET_IO_LOST;
    }
}

/* The error queue belongs to the thread: what another connection left there must not be taken for ours. */
static void begin(void)
{
    ERR_clear_error();
    errno = 0;
}

void net_name_digests(void)
{
    (void)EVP_add_digest(EVP_sha256());
    (void)EVP_add_digest(EVP_sha384());
    (void)EVP_add_digest(EVP_sha512());
}

enum net_io net_stream_shake(struct net_stream *s)
{
    begin();
    int done = SSL_do_handshake(s->ssl);
    return done == 1 ? NET_IO_DONE : tls_result(s->ssl, done);
}

enum net_io net_stream_read(struct net_stream *s, uint8_t *p, size_t max, size_t *n)
{
    *n = 0;
    begin();
    if (s->ssl) {
        int done = SSL_read_ex(s->ssl, p, max, n);
        return done == 1 ? NET_IO_DONE : tls_result(s->ssl, done);
    }
    ssize_t got = recv(s->fd, p, max, 0);
    if (got < 0)
        return plain_result();
    *n = (size_t)got;
    return got ? NET_IO_DONE : NET_IO_END;
}

enum net_io net_stream_write(struct net_stream *s, struct sp_span data, size_t *n)
{
    *n = 0;
    begin();
    if (s->ssl) {
        int done = SSL_write_ex(s->ssl, data.p, data.n, n);
        return done == 1 ? NET_IO_DONE : tls_result(s->ssl, done);
    }
    ssize_t put = send(s->fd, data.p, data.n, MSG_NOSIGNAL);
    if (put < 0)
        return plain_result() == NET_IO_LOST ? NET_IO_LOST : NET_IO_WANT_WRITE;
    *n = (size_t)put;
    return NET_IO_DONE;
}

bool net_stream_has_pending(const struct net_stream *s)
{
    return s->ssl && SSL_has_pending(s->ssl) == 1;
}

void net_stream_close(struct net_stream *s)
{
    if (s->ssl) {
        begin();
        if (SSL_is_init_finished(s->ssl))
            (void)SSL_shutdown(s->ssl);
        SSL_free(s->ssl);
        ERR_clear_error();
    }
    if (s->fd >= 0)
        (void)close(s->fd);
    *s = (struct net_stream){.fd = -1};
}

const char *net_stream_why(void)
{
    unsigned long code = ERR_peek_error();
    const char *text = code ? ERR_reason_error_string(code) : NULL;

    if (text)
        return text;
    return errno ? strerror(errno) : "the connection ended";
}
