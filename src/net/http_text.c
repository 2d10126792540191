/* SPDX-License-Identifier: MIT */
#include "net/http_text.h"

struct sp_span net_trim_http(struct sp_span s)
{
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = sp_span(s.p + 1, s.n - 1);
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

bool net_is_http_token(struct sp_span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", s.p[i]))
            return false;
    return s.n > 0;
}

enum net_http_result net_get_http_line(struct sp_span in, size_t at, struct sp_span *line, size_t *used)
{
    const uint8_t *end = at < in.n ? memchr(in.p + at, '\n', in.n - at) : NULL;

    *used = 0;
    if (!end)
        return NET_HTTP_MORE;
    size_t n = (size_t)(end - (in.p + at));
    *used = n + 1;
    if (n == 0 || in.p[at + n - 1] != '\r')
        return NET_HTTP_WRONG;
    *line = sp_span(in.p + at, n - 1);
    return NET_HTTP_WHOLE;
}

const char *net_split_http_field(struct sp_span line, struct sp_span *name, struct sp_span *value, size_t *at)
{
    const uint8_t *colon = memchr(line.p, ':', line.n);

    for (size_t i = 0; i < line.n; i++)
        if ((line.p[i] < ' ' && line.p[i] != '\t') || line.p[i] == 0x7f) {
            *at += i;
            return "a control character";
        }
    if (!colon)
        return "a line without a colon";
    *name = sp_span(line.p, (size_t)(colon - line.p));
    *value = net_trim_http(sp_span(colon + 1, line.n - name->n - 1));
    return net_is_http_token(*name) ? NULL : "the name of a field";
}

struct sp_span net_http_list_next(struct sp_span *rest)
{
    const uint8_t *comma = rest->n ? memchr(rest->p, ',', rest->n) : NULL;
    size_t n = comma ? (size_t)(comma - rest->p) : rest->n;
    struct sp_span word = net_trim_http(sp_span(rest->p, n));

    *rest = comma ? sp_span(comma + 1, rest->n - n - 1) : sp_span(rest->p, 0);
    return word;
}

bool net_http_list_has(struct sp_span list, struct sp_span word)
{
    while (list.n > 0)
        if (sp_same_nocase(net_http_list_next(&list), word))
            return true;
    return false;
}
