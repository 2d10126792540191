/* SPDX-License-Identifier: MIT */
/* A non-blocking stream, plain or TLS: what both ends of HTTPS read and write. Not libevent's bufferevents:
 * they copy every byte into buffers of their own, set timers for every read and write, and send head and body
 * as they come; here a reply is one write. */
#ifndef SP_NET_STREAM_H
#define SP_NET_STREAM_H

#include <openssl/ssl.h>

#include "base/err.h"
#include "base/span.h"

struct net_stream {
    int fd;
    SSL *ssl; /* NULL: plain */
};

enum net_io {
    NET_IO_DONE,
    NET_IO_WANT_READ,
    NET_IO_WANT_WRITE,
    NET_IO_END,  /* the peer said that nothing follows */
    NET_IO_LOST, /* reset, or TLS broke: see net_stream_why */
};

/* Before a context of TLS: signatures of certificates are judged by digests that OpenSSL finds by name, and a
 * process whose crypto backend came first has none of these names. */
void net_name_digests(void);
/* TLS handshake of either side, as the SSL object was set up. */
enum net_io net_stream_shake(struct net_stream *s);
/* DONE: *n > 0. */
enum net_io net_stream_read(struct net_stream *s, uint8_t *p, size_t max, size_t *n);
/* DONE: *n > 0, perhaps fewer than asked. After a WANT the same bytes come again, perhaps elsewhere. */
enum net_io net_stream_write(struct net_stream *s, struct sp_span data, size_t *n);
/* Bytes that no event of the descriptor will tell of. */
bool net_stream_has_pending(const struct net_stream *s);
/* Says goodbye without waiting, closes, frees. */
void net_stream_close(struct net_stream *s);
/* After LOST: errno or OpenSSL's reason, for people. Static, or thread-local until the next call. */
const char *net_stream_why(void);

#endif
