/* SPDX-License-Identifier: MIT */
#include "net/http.h"

#include <stdio.h>

#include "net/http_text.h"

/* ---- base64 ---- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void net_put_base64(struct sp_text *t, struct sp_span in)
{
    for (size_t i = 0; i < in.n; i += 3) {
        size_t left = in.n - i;
        uint32_t v = (uint32_t)in.p[i] << 16 | (left > 1 ? (uint32_t)in.p[i + 1] << 8 : 0) |
                     (left > 2 ? in.p[i + 2] : 0);
        const char *four[4] = {digits + (v >> 18), digits + (v >> 12 & 63),
                               left > 1 ? digits + (v >> 6 & 63) : "=", left > 2 ? digits + (v & 63) : "="};

        for (int j = 0; j < 4; j++)
            sp_text_add(t, sp_span(four[j], 1));
    }
}

static int digit_of(uint8_t c)
{
    const char *at = c ? strchr(digits, c) : NULL;

    return at ? (int)(at - digits) : -1;
}

bool net_get_base64(struct sp_span text, uint8_t *out, size_t max, size_t *n)
{
    size_t pad = 0;

    *n = 0;
    while (pad < 2 && pad < text.n && text.p[text.n - 1 - pad] == '=')
        pad++;
    if (text.n % 4 != 0)
        return false;
    for (size_t i = 0; i < text.n; i += 4) {
        size_t last = i + 4 == text.n ? pad : 0;
        uint32_t v = 0;

        for (size_t j = 0; j < 4; j++) {
            int d = j < 4 - last ? digit_of(text.p[i + j]) : 0;

            if (d < 0)
                return false;
            v = v << 6 | (uint32_t)d;
        }
        /* Bits behind the last byte could say anything: RFC 4648 3.5 wants zeros. */
        if ((v & ((1u << (8 * last)) - 1)) != 0 || *n + 3 - last > max)
            return false;
        for (size_t j = 0; j < 3 - last; j++)
            out[(*n)++] = (uint8_t)(v >> (16 - 8 * j));
    }
    return true;
}

/* ---- what is asked ---- */

static bool is_host(const char *s)
{
    return *s && s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:")] == 0;
}

static bool take_host(const char **at, struct net_http_url *u)
{
    bool six = **at == '[';
    size_t n = six ? strcspn(++*at, "]") : strcspn(*at, ":/?#");

    if (n == 0 || n >= sizeof u->host || (six && (*at)[n] != ']'))
        return false;
    memcpy(u->host, *at, n);
    u->host[n] = 0;
    *at += n + six;
    return is_host(u->host) && (strchr(u->host, ':') != NULL) == six;
}

static bool take_port(const char **at, struct net_http_url *u)
{
    uint64_t port = u->tls ? 443 : 80;

    if (**at == ':') {
        size_t n = strspn(++*at, "0123456789");

        if (!sp_decimal(sp_span(*at, n), 65535, &port) || port == 0)
            return false;
        *at += n;
    }
    snprintf(u->port, sizeof u->port, "%u", (unsigned)port);
    return true;
}

bool net_parse_url(const char *text, struct net_http_url *out, struct sp_err *e)
{
    *out = (struct net_http_url){.tls = strncmp(text, "https://", 8) == 0};
    const char *at = text + (out->tls ? 8 : 7);

    if (!out->tls && strncmp(text, "http://", 7) != 0)
        return sp_fail(e, SP_EINPUT, 0, "a URL begins with http:// or https://");
    if (!take_host(&at, out) || !take_port(&at, out) || (*at && *at != '/'))
        return sp_fail(e, SP_EINPUT, 0,
                       "a URL is http://HOST[:PORT]/PATH; an IPv6 address stands in brackets");
    for (const char *p = at; *p; p++)
        if (*p <= ' ' || *p > '~' || *p == '#')
            return sp_fail(e, SP_EINPUT, 0,
                           "the URL's path holds something else than printable ASCII; write it as %%XX");
    if (strlen(at) >= sizeof out->path)
        return sp_fail(e, SP_EINPUT, 0, "the URL's path is too long");
    snprintf(out->path, sizeof out->path, "%s", *at ? at : "/");
    return true;
}

void net_put_http_get(struct sp_text *t, const struct net_http_url *u, struct sp_span token)
{
    bool six = strchr(u->host, ':') != NULL, usual = strcmp(u->port, u->tls ? "443" : "80") == 0;

    sp_text_fmt(t, "GET %s HTTP/1.1\r\nHost: %s%s%s%s%s\r\n", u->path, six ? "[" : "", u->host,
                six ? "]" : "", usual ? "" : ":", usual ? "" : u->port);
    sp_text_str(t, "User-Agent: sallyport\r\nAccept: */*\r\n");
    if (token.n) {
        sp_text_str(t, "Authorization: Negotiate ");
        net_put_base64(t, token);
        sp_text_str(t, "\r\n");
    }
    sp_text_str(t, "\r\n");
}

/* ---- the head of a response ---- */

struct fields {
    struct net_http_head *out;
    bool length, chunked, closes, keeps, old; /* old: HTTP/1.0 */
};

static bool wrong(struct sp_err *e, size_t at, const char *what)
{
    return sp_fail_at(e, SP_EINPUT, 0, (uint32_t)at, "this is no HTTP response to trust: %s", what);
}

static bool take_status(struct fields *f, struct sp_span line, struct sp_err *e)
{
    uint64_t status;

    if (line.n < 12 || memcmp(line.p, "HTTP/1.", 7) != 0 || (line.p[7] != '0' && line.p[7] != '1') ||
        line.p[8] != ' ' || (line.n > 12 && line.p[12] != ' '))
        return wrong(e, 0, "its first line");
    if (!sp_decimal(sp_span(line.p + 9, 3), 599, &status) || status < 100)
        return wrong(e, 9, "its status");
    f->old = line.p[7] == '0';
    f->out->status = (uint16_t)status;
    return true;
}

static bool is_token68(uint8_t c)
{
    return digit_of(c) >= 0 || c == '=' || c == '-' || c == '.' || c == '_' || c == '~';
}

/* RFC 4559 4.1: the scheme alone, or the scheme and one token; other schemes may follow behind a comma. */
static bool take_challenge(struct fields *f, struct sp_span v, size_t at, struct sp_err *e)
{
    static const struct sp_span scheme = {(const uint8_t *)"Negotiate", 9};
    size_t n = 0;

    if (v.n < scheme.n || !sp_same_nocase(sp_span(v.p, scheme.n), scheme) ||
        (v.n > scheme.n && v.p[scheme.n] != ' ' && v.p[scheme.n] != ','))
        return true;
    v = v.n > scheme.n && v.p[scheme.n] == ' ' ? net_trim_http(sp_span(v.p + scheme.n, v.n - scheme.n))
                                               : sp_span(v.p, 0);
    f->out->negotiates = true;
    while (n < v.n && is_token68(v.p[n]))
        n++;
    if (n < v.n && v.p[n] != ',' && v.p[n] != ' ')
        return wrong(e, at, "the Negotiate token");
    if (n > 0 && f->out->token.n > 0)
        return wrong(e, at, "two Negotiate tokens");
    if (n > 0)
        f->out->token = sp_span(v.p, n);
    return true;
}

static bool take_length(struct fields *f, struct sp_span v, size_t at, struct sp_err *e)
{
    uint64_t n;

    if (f->length || !sp_decimal(v, NET_HTTP_BODY_MAX, &n))
        return wrong(e, at, "its Content-Length");
    f->length = true;
    f->out->body.left = n;
    return true;
}

static bool take_field(struct fields *f, struct sp_span name, struct sp_span v, size_t at, struct sp_err *e)
{
    if (sp_same_nocase(name, SP_LIT("WWW-Authenticate")))
        return take_challenge(f, v, at, e);
    if (sp_same_nocase(name, SP_LIT("Content-Length")))
        return take_length(f, v, at, e);
    if (sp_same_nocase(name, SP_LIT("Transfer-Encoding"))) {
        if (f->chunked || f->old || !sp_same_nocase(v, SP_LIT("chunked")))
            return wrong(e, at, "its Transfer-Encoding");
        f->chunked = true;
    } else if (sp_same_nocase(name, SP_LIT("Connection"))) {
        f->closes |= net_http_list_has(v, SP_LIT("close"));
        f->keeps |= net_http_list_has(v, SP_LIT("keep-alive"));
    } else if (sp_same_nocase(name, SP_LIT("Content-Type"))) {
        if (f->out->type.n > 0)
            return wrong(e, at, "its Content-Type");
        f->out->type = v;
    }
    return true;
}

static bool take_line(struct fields *f, struct sp_span line, size_t at, struct sp_err *e)
{
    struct sp_span name, value;
    const char *why = net_split_http_field(line, &name, &value, &at);

    return why ? wrong(e, at, why) : take_field(f, name, value, at, e);
}

/* RFC 9112 6.3, without what it only tolerates: two lengths are one too many. */
static bool settle_body(struct fields *f, struct sp_err *e)
{
    struct net_http_head *h = f->out;

    if (f->length && f->chunked)
        return wrong(e, 0, "two ways to end its body");
    if (h->status < 200 || h->status == 204 || h->status == 304)
        h->body = (struct net_http_body){.kind = NET_HTTP_NO_BODY};
    else if (f->chunked)
        h->body.kind = NET_HTTP_CHUNKED;
    else
        h->body.kind = f->length ? NET_HTTP_LENGTH : NET_HTTP_UNTIL_CLOSE;
    h->keep = !f->closes && (f->keeps || !f->old) && h->body.kind != NET_HTTP_UNTIL_CLOSE;
    return true;
}

static bool next_line(struct sp_span in, size_t at, struct sp_span *line, size_t *used, struct sp_err *e)
{
    return net_get_http_line(in, at, line, used) != NET_HTTP_WRONG ||
           wrong(e, at + *used - 1, "a line that ends without CR");
}

enum net_http_result net_get_http_head(struct sp_span in, struct net_http_head *out, struct sp_err *e)
{
    struct net_http_head head = {0};
    struct fields f = {.out = &head};
    struct sp_span line = {0};
    size_t at = 0, used = 0;

    for (int count = 0; count <= NET_HTTP_FIELDS_MAX + 1; count++, at += used) {
        if (!next_line(in, at, &line, &used, e))
            return NET_HTTP_WRONG;
        if (used == 0 && in.n < NET_HTTP_HEAD_MAX)
            return NET_HTTP_MORE;
        if (used == 0 || at + used > NET_HTTP_HEAD_MAX) {
            (void)wrong(e, at, "a head without end");
            return NET_HTTP_WRONG;
        }
        if (count > 0 && line.n == 0) {
            head.used = at + used;
            if (!settle_body(&f, e))
                return NET_HTTP_WRONG;
            *out = head;
            return NET_HTTP_WHOLE;
        }
        if (!(count == 0 ? take_status(&f, line, e) : take_line(&f, line, at, e)))
            return NET_HTTP_WRONG;
    }
    (void)wrong(e, at, "too many fields");
    return NET_HTTP_WRONG;
}

/* ---- its body ---- */

#define CHUNK_LINE_MAX 4096

enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_END, CHUNK_TRAILER };

static bool chunk_size(struct sp_span line, uint64_t *out)
{
    size_t n = 0;

    for (*out = 0; n < line.n && n < 7; n++) {
        uint8_t c = line.p[n];
        int d = c >= '0' && c <= '9'                 ? c - '0'
                : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                     : -1;

        if (d < 0)
            break;
        *out = *out * 16 + (uint64_t)d;
    }
    return n > 0 && (n == line.n || line.p[n] == ';');
}

static bool take_chunk_line(struct net_http_body *b, struct sp_span line, bool *done, struct sp_err *e)
{
    if (b->state == CHUNK_END && line.n != 0)
        return wrong(e, 0, "a chunk that is longer than it says");
    if (b->state == CHUNK_SIZE && !chunk_size(line, &b->left))
        return wrong(e, 0, "the size of a chunk");
    *done = b->state == CHUNK_TRAILER && line.n == 0;
    if (b->state == CHUNK_SIZE)
        b->state = b->left ? CHUNK_DATA : CHUNK_TRAILER;
    else if (b->state == CHUNK_END)
        b->state = CHUNK_SIZE;
    return true;
}

static void take_data(struct net_http_body *b, struct sp_span in, size_t *used)
{
    size_t left = in.n - *used, n = b->left < left ? (size_t)b->left : left;

    b->left -= n;
    *used += n;
    if (b->left == 0)
        b->state = CHUNK_END;
}

static enum net_http_result skip_chunks(struct net_http_body *b, struct sp_span in, size_t *used,
                                        struct sp_err *e)
{
    bool done = false;

    while (!done && *used < in.n) {
        struct sp_span line = {0};
        size_t n = 0;

        if (b->state == CHUNK_DATA) {
            take_data(b, in, used);
            continue;
        }
        if (!next_line(in, *used, &line, &n, e))
            return NET_HTTP_WRONG;
        if ((n ? n : in.n - *used) > CHUNK_LINE_MAX) { /* the same however it is cut */
            (void)wrong(e, *used, "a chunk's line without end");
            return NET_HTTP_WRONG;
        }
        if (n == 0)
            break;
        *used += n;
        if (!take_chunk_line(b, line, &done, e))
            return NET_HTTP_WRONG;
    }
    return done ? NET_HTTP_WHOLE : NET_HTTP_MORE;
}

enum net_http_result net_skip_http_body(struct net_http_body *b, struct sp_span in, size_t *used,
                                        struct sp_err *e)
{
    enum net_http_result r = NET_HTTP_MORE;

    *used = 0;
    if (b->kind == NET_HTTP_NO_BODY)
        return NET_HTTP_WHOLE;
    if (b->kind == NET_HTTP_CHUNKED)
        r = skip_chunks(b, in, used, e);
    else if (b->kind == NET_HTTP_UNTIL_CLOSE)
        *used = in.n;
    else
        take_data(b, in, used);
    b->seen += *used;
    if (r != NET_HTTP_WRONG && b->seen > NET_HTTP_BODY_MAX) {
        (void)wrong(e, 0, "a body without end");
        return NET_HTTP_WRONG;
    }
    return b->kind == NET_HTTP_LENGTH && b->left == 0 ? NET_HTTP_WHOLE : r;
}
