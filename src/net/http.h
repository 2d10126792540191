/* SPDX-License-Identifier: MIT */
/* The little of HTTP/1.1 (RFC 9112) that a client of Negotiate (RFC 4559) needs: a request without a body,
 * the head of a response, and an end to its body. Pure logic: no descriptor in here. Strict: what two readers
 * could understand differently is refused. */
#ifndef SP_NET_HTTP_H
#define SP_NET_HTTP_H

#include "base/err.h"
#include "base/span.h"
#include "base/text.h"

#define NET_HTTP_HEAD_MAX (128 * 1024) /* a token of 64 KiB is 86 KiB of base64 */
#define NET_HTTP_BODY_MAX (4 * 1024 * 1024)
#define NET_HTTP_FIELDS_MAX 100

enum net_http_body_kind { NET_HTTP_NO_BODY, NET_HTTP_LENGTH, NET_HTTP_CHUNKED, NET_HTTP_UNTIL_CLOSE };
struct net_http_body {
    enum net_http_body_kind kind;
    uint64_t left; /* of the length, or of the chunk that is being read */
    uint64_t seen;
    uint8_t state; /* of chunks */
};

struct net_http_head {
    uint16_t status;
    bool keep;            /* the connection stays open behind this response */
    bool negotiates;      /* WWW-Authenticate: Negotiate, with or without a token */
    struct sp_span token; /* its base64; empty when there is none */
    struct sp_span type;  /* Content-Type, as it came */
    struct net_http_body body;
    size_t used; /* bytes of the head */
};

enum net_http_result { NET_HTTP_MORE, NET_HTTP_WHOLE, NET_HTTP_WRONG };

/* Looks at the head of a response in `in`. WRONG comes with the offset in e. */
enum net_http_result net_get_http_head(struct sp_span in, struct net_http_head *out, struct sp_err *e);
/* Takes what belongs to the body off `in`; WHOLE when it ended. NET_HTTP_UNTIL_CLOSE never ends by itself. */
enum net_http_result net_skip_http_body(struct net_http_body *b, struct sp_span in, size_t *used,
                                        struct sp_err *e);

struct net_http_url {
    bool tls;
    char host[256]; /* without brackets */
    char port[8];
    char path[1024]; /* begins with '/' */
};
/* http://HOST[:PORT][/PATH] or https://; SP_EINPUT with what would be right. */
SP_MUST bool net_parse_url(const char *text, struct net_http_url *out, struct sp_err *e);
/* A GET whose Authorization carries the token (none when it is empty). t->cut tells that it did not fit. */
void net_put_http_get(struct sp_text *t, const struct net_http_url *url, struct sp_span token);
void net_put_base64(struct sp_text *t, struct sp_span in);
/* Base64 with padding and nothing else (RFC 4648 4) into out; *n is the size. */
SP_MUST bool net_get_base64(struct sp_span text, uint8_t *out, size_t max, size_t *n);

#endif
