/* SPDX-License-Identifier: MIT */
/* A server's answer to HTTP Negotiate (RFC 9112), cut at places that the first byte chooses: head and body
 * end at the same place however it arrives, and what is said of it lies inside what came. */
#include "world.h"

#include <stdlib.h>

#include "net/http.h"

struct seen {
    enum net_http_result head, body;
    struct net_http_head h;
    size_t end;
    struct sp_err e;
};

static void read_head(struct sp_span in, struct seen *s)
{
    s->head = net_get_http_head(in, &s->h, &s->e);
    if (s->head != NET_HTTP_WHOLE)
        return;
    fuzz_must(s->h.used <= in.n && s->h.status >= 100 && s->h.status <= 599, "a head lies inside what came");
    fuzz_must(s->h.token.n == 0 || (s->h.token.p > in.p && s->h.token.p + s->h.token.n <= in.p + s->h.used),
              "so does a token");
    fuzz_must(s->h.token.n == 0 || s->h.negotiates, "a token comes with its scheme");
    s->end = s->h.used;
}

/* What is not taken yet stays, as in a driver's buffer. */
static void read_body(struct sp_span in, size_t piece, struct seen *s)
{
    size_t have = s->end, used;

    s->body = NET_HTTP_MORE;
    do {
        have = in.n - have < piece ? in.n : have + piece;
        s->body = net_skip_http_body(&s->h.body, sp_span(in.p + s->end, have - s->end), &used, &s->e);
        fuzz_must(used <= have - s->end, "no more is taken than came");
        if (s->body != NET_HTTP_WRONG)
            s->end += used;
    } while (s->body == NET_HTTP_MORE && have < in.n);
}

static struct seen feed(struct sp_span in, size_t piece)
{
    struct seen s = {.head = NET_HTTP_MORE};

    for (size_t have = 0; s.head == NET_HTTP_MORE && have < in.n;) {
        have = in.n - have < piece ? in.n : have + piece;
        read_head(sp_span(in.p, have), &s);
    }
    if (s.head == NET_HTTP_WHOLE)
        read_body(in, piece, &s);
    return s;
}

static void decode(struct sp_span token)
{
    uint8_t *out = malloc(token.n + 1);
    size_t n;

    fuzz_must(out != NULL, "there is memory");
    if (net_get_base64(token, out, token.n + 1, &n))
        fuzz_must(n <= token.n / 4 * 3 && n + 2 >= token.n / 4 * 3, "base64 is as long as it is");
    free(out);
}

static void parse_url(struct sp_span in)
{
    struct net_http_url u;
    struct sp_err e = {0};
    char *text = malloc(in.n + 1);

    fuzz_must(text != NULL, "there is memory");
    memcpy(text, in.p, in.n);
    text[in.n] = 0;
    if (net_parse_url(text, &u, &e))
        fuzz_must(u.host[0] && u.port[0] && u.path[0] == '/' && !strpbrk(u.path, " \r\n") &&
                      !strpbrk(u.host, " \r\n/@"),
                  "nothing of a URL ends a line of the request");
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2)
        return 0;
    struct sp_span in = sp_span(data + 1, n - 1);
    struct seen whole = feed(in, in.n), pieces = feed(in, 1 + data[0] % 16);

    fuzz_must(whole.head == pieces.head, "cutting changes no head");
    if (whole.head == NET_HTTP_WHOLE) {
        fuzz_must(whole.h.used == pieces.h.used && whole.h.status == pieces.h.status, "nor where it ends");
        fuzz_must(whole.body == pieces.body && (whole.body == NET_HTTP_WRONG || whole.end == pieces.end),
                  "nor where the body does");
        decode(whole.h.token);
    }
    parse_url(in);
    return 0;
}
