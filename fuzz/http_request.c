/* SPDX-License-Identifier: MIT */
/* The head of a request at the HTTPS door (RFC 9112), cut at places that the first byte chooses: it ends at
 * the same place however it arrives, what is said of it lies inside what came, and whoever is refused is told
 * a status. */
#include "world.h"

#include "net/http_request.h"

static struct net_http_request_limits limits = {2048, 131072, false};

struct seen {
    enum net_http_result result;
    struct net_http_request r;
    struct sp_err e;
};

static bool lies_in(struct sp_span part, struct sp_span in)
{
    return part.n == 0 || (part.p >= in.p && part.p + part.n <= in.p + in.n);
}

static void check(struct sp_span in, const struct seen *s)
{
    const struct net_http_request *r = &s->r;
    struct sp_span head = sp_span(in.p, r->used);
    struct net_address a = {0};
    struct sp_err e = {0};

    fuzz_must(r->used <= in.n && r->used <= limits.head_max, "a head lies inside what came");
    fuzz_must(memcmp(in.p + r->used - 4, "\r\n\r\n", 4) == 0, "it ends with an empty line");
    fuzz_must(memchr(in.p, 0, r->used) == NULL, "nothing in it is NUL");
    fuzz_must(r->length <= limits.body_max, "so long a body is refused");
    fuzz_must(lies_in(r->path, head) || sp_same(r->path, SP_LIT("/")), "the path lies inside");
    fuzz_must(lies_in(r->host, head) && lies_in(r->type, head) && lies_in(r->authorization, head) &&
                  lies_in(r->forwarded, head) && lies_in(r->x_forwarded, head),
              "so do the fields");
    fuzz_must(r->path.n > 0 && r->path.p[0] == '/', "a path begins with a slash");
    if (net_get_forwarded(r, &a, &e) && (r->forwarded.p || r->x_forwarded.p))
        fuzz_must(net_address_bytes(&a).n > 0 && net_port(&a) == 0, "a proxy names an address");
}

static struct seen feed(struct sp_span in, size_t piece)
{
    struct seen s = {.result = NET_HTTP_MORE};

    for (size_t have = 0; s.result == NET_HTTP_MORE && have < in.n;) {
        have = in.n - have < piece ? in.n : have + piece;
        s.result = net_get_http_request(sp_span(in.p, have), &limits, &s.r, &s.e);
    }
    if (s.result == NET_HTTP_WRONG)
        fuzz_must(s.e.kind == SP_EINPUT && s.e.proto >= 400 && s.e.proto <= 505, "a refusal has a status");
    if (s.result == NET_HTTP_WHOLE)
        check(in, &s);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2)
        return 0;
    struct sp_span in = sp_span(data + 1, n - 1);
    limits.gets = data[0] >> 7;
    struct seen whole = feed(in, in.n), pieces = feed(in, 1 + data[0] % 16);

    fuzz_must(whole.result == pieces.result, "cutting changes no head");
    fuzz_must(whole.e.proto == pieces.e.proto && whole.e.at == pieces.e.at, "nor why it is refused");
    if (whole.result == NET_HTTP_WHOLE)
        fuzz_must(whole.r.used == pieces.r.used && whole.r.length == pieces.r.length &&
                      whole.r.keep == pieces.r.keep && sp_same(whole.r.path, pieces.r.path),
                  "nor what it says");
    return 0;
}
