/* SPDX-License-Identifier: MIT */
#include "net/http_request.h"

#include "net/http_text.h"

struct fields {
    struct net_http_request *out;
    const struct net_http_request_limits *limits;
    bool old, host, length, closes; /* old: HTTP/1.0 */
    bool absolute, type, authorization, forwarded, x_forwarded;
};

static bool wrong(struct sp_err *e, int status, size_t at, const char *what)
{
    return sp_fail_at(e, SP_EINPUT, status, (uint32_t)at, "%s", what);
}

/* ---- the first line ---- */

/* RFC 3986: what may stand in a path and a query. */
static bool is_target(struct sp_span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f || strchr("\"#<>\\^`{|}", s.p[i]))
            return false;
    return s.n > 0;
}

static size_t count_of(struct sp_span s, const char *set)
{
    size_t n = 0;

    while (n < s.n && s.p[n] && strchr(set, s.p[n]))
        n++;
    return n;
}

#define DIGITS "0123456789"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* host[:port]; no user, no percent signs: nobody's certificate names such a host. */
static bool is_authority(struct sp_span s)
{
    bool six = s.n > 0 && s.p[0] == '[';
    size_t n = six ? 1 + count_of(sp_span(s.p + 1, s.n - 1), DIGITS "abcdefABCDEF:.")
                   : count_of(s, DIGITS LETTERS ".-_");
    struct sp_span port;
    uint64_t v;

    if (six && (n < 3 || n == s.n || s.p[n++] != ']'))
        return false;
    if (n == 0 || n == s.n)
        return n > 0;
    port = sp_span(s.p + n + 1, s.n - n - 1);
    return s.p[n] == ':' && port.n <= 5 && sp_decimal(port, 65535, &v);
}

/* RFC 9112 3.2.2: its authority counts, whatever Host says. */
static bool take_absolute(struct fields *f, struct sp_span target, size_t scheme, struct sp_err *e)
{
    struct sp_span rest = sp_span(target.p + scheme, target.n - scheme);
    const uint8_t *slash = memchr(rest.p, '/', rest.n);
    size_t n = slash ? (size_t)(slash - rest.p) : rest.n;

    f->absolute = true;
    f->out->host = sp_span(rest.p, n);
    f->out->path = slash ? sp_span(slash, rest.n - n) : SP_LIT("/");
    return is_authority(f->out->host) || wrong(e, 400, 0, "the host in the target");
}

static bool begins(struct sp_span s, struct sp_span with)
{
    return s.n >= with.n && sp_same_nocase(sp_span(s.p, with.n), with);
}

static bool is_get(const struct fields *f)
{
    return f->limits->gets && sp_same(f->out->method, SP_LIT("GET"));
}

static bool is_served(const struct fields *f)
{
    return is_get(f) || sp_same(f->out->method, SP_LIT("POST"));
}

static bool take_target(struct fields *f, struct sp_span target, struct sp_err *e)
{
    if (!is_target(target))
        return wrong(e, 400, f->out->method.n + 1, "the target");
    f->out->path = target;
    /* The asterisk and the authority alone go with methods that are refused as such. */
    if (!is_served(f) || target.p[0] == '/')
        return true;
    if (begins(target, SP_LIT("http://")))
        return take_absolute(f, target, 7, e);
    if (begins(target, SP_LIT("https://")))
        return take_absolute(f, target, 8, e);
    return wrong(e, 400, f->out->method.n + 1, "the target");
}

static bool take_version(struct fields *f, struct sp_span v, size_t at, struct sp_err *e)
{
    if (v.n != 8 || memcmp(v.p, "HTTP/", 5) != 0 || v.p[5] < '0' || v.p[5] > '9' || v.p[6] != '.' ||
        v.p[7] < '0' || v.p[7] > '9')
        return wrong(e, 400, at, "the version");
    if (v.p[5] != '1' || v.p[7] > '1')
        return wrong(e, 505, at, "HTTP/1.1 and 1.0 are spoken here");
    f->old = v.p[7] == '0';
    return true;
}

static bool take_first(struct fields *f, struct sp_span line, struct sp_err *e)
{
    const uint8_t *one = line.n ? memchr(line.p, ' ', line.n) : NULL,
                  *two = line.n ? memrchr(line.p, ' ', line.n) : NULL;

    if (!one || one == two)
        return wrong(e, 400, 0, "the first line");
    f->out->method = sp_span(line.p, (size_t)(one - line.p));
    if (!net_is_http_token(f->out->method))
        return wrong(e, 400, 0, "the method");
    size_t at = (size_t)(two + 1 - line.p);
    return take_version(f, sp_span(two + 1, line.n - at), at, e) &&
           take_target(f, sp_span(one + 1, (size_t)(two - one - 1)), e);
}

/* ---- the fields ---- */

static bool take_once(struct sp_span v, bool *seen, struct sp_span *out, size_t at, struct sp_err *e)
{
    if (*seen)
        return wrong(e, 400, at, "a field that may come once came twice");
    *seen = true;
    *out = v;
    return true;
}

static bool take_host(struct fields *f, struct sp_span v, size_t at, struct sp_err *e)
{
    struct sp_span host;

    if (!take_once(v, &f->host, &host, at, e))
        return false;
    if (!is_authority(v))
        return wrong(e, 400, at, "its Host");
    if (!f->absolute)
        f->out->host = host;
    return true;
}

static bool take_length(struct fields *f, struct sp_span v, size_t at, struct sp_err *e)
{
    if (f->length)
        return wrong(e, 400, at, "two Content-Length");
    f->length = true;
    if (v.n == 0 || count_of(v, DIGITS) != v.n)
        return wrong(e, 400, at, "its Content-Length");
    if (!sp_decimal(v, UINT32_MAX, &f->out->length)) /* whatever the limit is, this is beyond */
        f->out->length = UINT64_MAX;
    return true;
}

static bool take_expect(struct fields *f, struct sp_span v, size_t at, struct sp_err *e)
{
    if (!sp_same_nocase(v, SP_LIT("100-continue")))
        return wrong(e, 417, at, "its Expect");
    f->out->expects = !f->old; /* RFC 9110 10.1.1: a 1.0 client does not know 100 */
    return true;
}

static bool take_framing(struct fields *f, struct sp_span name, struct sp_span v, size_t at, struct sp_err *e)
{
    if (sp_same_nocase(name, SP_LIT("Content-Length")))
        return take_length(f, v, at, e);
    if (sp_same_nocase(name, SP_LIT("Transfer-Encoding")))
        return wrong(e, 400, at, "a Transfer-Encoding");
    if (sp_same_nocase(name, SP_LIT("Content-Encoding")) && !sp_same_nocase(v, SP_LIT("identity")))
        return wrong(e, 400, at, "a Content-Encoding");
    if (sp_same_nocase(name, SP_LIT("Connection")))
        f->closes |= net_http_list_has(v, SP_LIT("close"));
    if (sp_same_nocase(name, SP_LIT("Expect")))
        return take_expect(f, v, at, e);
    return true;
}

static bool take_field(struct fields *f, struct sp_span line, size_t at, struct sp_err *e)
{
    struct net_http_request *r = f->out;
    struct sp_span name, v;
    const char *why = net_split_http_field(line, &name, &v, &at);

    if (why)
        return wrong(e, 400, at, why);
    if (sp_same_nocase(name, SP_LIT("Host")))
        return take_host(f, v, at, e);
    if (sp_same_nocase(name, SP_LIT("Content-Type")))
        return take_once(v, &f->type, &r->type, at, e);
    if (sp_same_nocase(name, SP_LIT("Authorization")))
        return take_once(v, &f->authorization, &r->authorization, at, e);
    if (sp_same_nocase(name, SP_LIT("Forwarded")))
        return take_once(v, &f->forwarded, &r->forwarded, at, e);
    if (sp_same_nocase(name, SP_LIT("X-Forwarded-For")))
        return take_once(v, &f->x_forwarded, &r->x_forwarded, at, e);
    return take_framing(f, name, v, at, e);
}

/* What is malformed was refused before: these are well-formed and not served. */
static bool settle(struct fields *f, struct sp_err *e)
{
    struct net_http_request *r = f->out;

    if (!f->host && !f->old)
        return wrong(e, 400, 0, "no Host");
    if (!is_served(f))
        return wrong(e, 405, 0, "another method than POST");
    if (is_get(f) && r->length > 0)
        return wrong(e, 400, 0, "a GET with a body");
    if (!is_get(f) && !f->length)
        return wrong(e, 411, 0, "no Content-Length");
    if (r->length > f->limits->body_max)
        return wrong(e, 413, 0, "a body that is too long");
    r->keep = !f->old && !f->closes;
    return true;
}

/* MORE: nothing was refused so far. */
static enum net_http_result read_lines(struct fields *f, struct sp_span in, struct sp_err *e)
{
    struct sp_span line = {0};
    size_t at = 0, used = 0;

    for (int count = 0; count <= NET_HTTP_FIELDS_MAX + 1; count++, at += used) {
        enum net_http_result r = net_get_http_line(in, at, &line, &used);

        if (r == NET_HTTP_MORE)
            return in.n > f->limits->head_max && !wrong(e, 431, at, "a head that is too long")
                       ? NET_HTTP_WRONG
                       : NET_HTTP_MORE;
        if (at + used > f->limits->head_max)
            (void)wrong(e, 431, at, "a head that is too long");
        else if (r == NET_HTTP_WRONG)
            (void)wrong(e, 400, at + used - 1, "a line that ends without CR");
        else if (count > 0 && line.n == 0) {
            f->out->used = at + used;
            return settle(f, e) ? NET_HTTP_WHOLE : NET_HTTP_WRONG;
        } else if (count == 0 ? take_first(f, line, e) : take_field(f, line, at, e))
            continue;
        return NET_HTTP_WRONG;
    }
    (void)wrong(e, 431, at, "too many fields");
    return NET_HTTP_WRONG;
}

enum net_http_result net_get_http_request(struct sp_span in, const struct net_http_request_limits *limits,
                                          struct net_http_request *out, struct sp_err *e)
{
    struct net_http_request head = {0};
    struct fields f = {.out = &head, .limits = limits};
    enum net_http_result r = read_lines(&f, in, e);

    if (r == NET_HTTP_WHOLE)
        *out = head;
    return r;
}

/* ---- who asked ---- */

static struct sp_span last_of(struct sp_span list)
{
    const uint8_t *comma = list.n ? memrchr(list.p, ',', list.n) : NULL;

    return net_trim_http(comma ? sp_span(comma + 1, list.n - (size_t)(comma + 1 - list.p)) : list);
}

static struct sp_span unquoted(struct sp_span v)
{
    return v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"' ? sp_span(v.p + 1, v.n - 2) : v;
}

/* RFC 7239 4: pairs between semicolons; `for` once. A comma within quotes makes last_of() cut a pair in two,
 * and what is left of it is no address: refused, not guessed. */
static struct sp_span for_of(struct sp_span element)
{
    struct sp_span found = {0};

    while (element.n > 0) {
        const uint8_t *end = memchr(element.p, ';', element.n);
        size_t n = end ? (size_t)(end - element.p) : element.n;
        struct sp_span pair = net_trim_http(sp_span(element.p, n));

        if (begins(pair, SP_LIT("for="))) {
            if (found.n > 0)
                return (struct sp_span){0};
            found = unquoted(sp_span(pair.p + 4, pair.n - 4));
        }
        element = end ? sp_span(end + 1, element.n - n - 1) : sp_span(element.p, 0);
    }
    return found;
}

/* ADDRESS, [ADDRESS], or either with a port, which says nothing here. */
static bool parse_node(struct sp_span v, struct net_address *out)
{
    char text[64];
    struct sp_text t = sp_text(text, sizeof text);
    struct sp_err ignored = {0};

    if (v.n == 0 || memchr(v.p, '%', v.n))
        return false;
    bool bracket = v.p[0] == '[';
    bool bare_six = !bracket && memchr(v.p, ':', v.n) != memrchr(v.p, ':', v.n);
    const uint8_t *end = bracket ? memchr(v.p, ']', v.n) : memchr(v.p, ':', v.n);
    if (bracket && !end)
        return false;
    size_t n = bare_six || !end ? v.n : (size_t)(end - v.p) + bracket;
    sp_text_str(&t, bare_six ? "[" : "");
    sp_text_add(&t, sp_span(v.p, n));
    sp_text_str(&t, bare_six ? "]" : "");
    if (n == v.n)
        sp_text_str(&t, ":0");
    else
        sp_text_add(&t, sp_span(v.p + n, v.n - n));
    return !t.cut && net_parse_address(sp_str(text), out, &ignored);
}

bool net_get_forwarded(const struct net_http_request *r, struct net_address *to, struct sp_err *e)
{
    struct net_address found;
    struct sp_span node;

    if (!r->forwarded.p && !r->x_forwarded.p)
        return true;
    if (r->forwarded.p && r->x_forwarded.p)
        return wrong(e, 400, 0, "Forwarded and X-Forwarded-For at once");
    node = r->forwarded.p ? for_of(last_of(r->forwarded)) : last_of(r->x_forwarded);
    if (!parse_node(node, &found))
        return wrong(e, 400, 0, "what the proxy forwarded names no address");
    net_set_port(&found, 0);
    *to = found;
    return true;
}
