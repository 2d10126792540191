/* SPDX-License-Identifier: MIT */
/* net/http: heads and bodies that are taken, and those that are refused, byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "net/http.h"

#define OK "HTTP/1.1 401 Unauthorized\r\n"
#define SPAN(s) sp_span("" s, sizeof(s) - 1)

struct good {
    const char *name, *in;
    uint16_t status;
    bool keep, negotiates;
    const char *token;
    enum net_http_body_kind body;
    uint64_t left;
};

static const struct good goods[] = {
    {"length",              OK "Content-Length: 5\r\n\r\n",                                                   401, true,  false, "",     NET_HTTP_LENGTH,      5},
    {"no reason",           "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",                                      200, true,  false, "",     NET_HTTP_LENGTH,      0},
    {"close",               OK "Connection: close\r\nContent-Length: 0\r\n\r\n",                              401, false, false, "",     NET_HTTP_LENGTH,      0},
    {"old",                 "HTTP/1.0 401 x\r\nContent-Length: 0\r\n\r\n",                                    401, false, false, "",     NET_HTTP_LENGTH,      0},
    {"old that keeps",      "HTTP/1.0 401 x\r\nconnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n",          401, true,
     false,                                                                                                                      "",     NET_HTTP_LENGTH,      0},
    {"until close",         OK "\r\n",                                                                        401, false, false, "",     NET_HTTP_UNTIL_CLOSE, 0},
    {"chunked",             OK "Transfer-Encoding: Chunked\r\n\r\n",                                          401, true,  false, "",     NET_HTTP_CHUNKED,     0},
    {"no content",          "HTTP/1.1 204 No Content\r\n\r\n",                                                204, true,  false, "",     NET_HTTP_NO_BODY,     0},
    {"continue",            "HTTP/1.1 100 Continue\r\n\r\n",                                                  100, true,  false, "",     NET_HTTP_NO_BODY,     0},
    {"challenge",           OK "WWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n",                    401, true,  true,  "",
     NET_HTTP_LENGTH,                                                                                                                                          0},
    {"challenge and token", OK "www-authenticate: negotiate  YII=\r\nContent-Length: 0\r\n\r\n",              401, true,
     true,                                                                                                                       "YII=", NET_HTTP_LENGTH,      0},
    {"two schemes",         OK "WWW-Authenticate: Negotiate, Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n", 401,
     true,                                                                                                                true,  "",     NET_HTTP_LENGTH,      0},
    {"two fields",
     OK "WWW-Authenticate: Basic realm=\"Negotiate AAAA\"\r\nWWW-Authenticate: Negotiate YQ==\r\n"
        "Content-Length: 0\r\n\r\n",                                                                          401, true,  true,  "YQ==", NET_HTTP_LENGTH,      0},
    {"another scheme",      OK "WWW-Authenticate: NegotiateX YQ==\r\nContent-Length: 0\r\n\r\n",              401, true,  false,
     "",                                                                                                                                 NET_HTTP_LENGTH,      0},
};

static void test_heads(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof goods / sizeof goods[0]; i++) {
        const struct good *g = &goods[i];
        struct net_http_head h = {0};
        struct sp_err e = {0};
        size_t n = strlen(g->in);

        print_message("%s\n", g->name);
        for (size_t cut = 0; cut < n; cut++)
            assert_int_equal(net_get_http_head(sp_span(g->in, cut), &h, &e), NET_HTTP_MORE);
        assert_int_equal(net_get_http_head(sp_str(g->in), &h, &e), NET_HTTP_WHOLE);
        assert_int_equal(h.status, g->status);
        assert_int_equal(h.used, n);
        assert_int_equal(h.keep, g->keep);
        assert_int_equal(h.negotiates, g->negotiates);
        assert_true(sp_same(h.token, sp_str(g->token)));
        assert_int_equal(h.body.kind, g->body);
        assert_int_equal(h.body.left, g->left);
    }
}

static const struct {
    const char *name, *in;
    uint32_t at;
} bads[] = {
    {"no HTTP",                "SSH-2.0-OpenSSH\r\n",                                                         0 },
    {"HTTP/2",                 "HTTP/2.0 200 OK\r\n",                                                         0 },
    {"short",                  "HTTP/1.1 20\r\n",                                                             0 },
    {"status of letters",      "HTTP/1.1 2x0 OK\r\n",                                                         9 },
    {"status too low",         "HTTP/1.1 099 OK\r\n",                                                         9 },
    {"status too high",        "HTTP/1.1 600 OK\r\n",                                                         9 },
    {"bare LF",                "HTTP/1.1 200 OK\n",                                                           15},
    {"LF alone",               "\n",                                                                          0 },
    {"no colon",               OK "hello\r\n",                                                                27},
    {"space before the colon", OK "Content-Length : 5\r\n",                                                   27},
    {"folded",                 OK "X: y\r\n z\r\n",                                                           33},
    {"empty name",             OK ": y\r\n",                                                                  27},
    {"control character",      OK "X: \001\r\n",                                                              30},
    {"CR inside",              OK "X: a\rb\r\n",                                                              31},
    {"two lengths",            OK "Content-Length: 5\r\nContent-Length: 5\r\n",                               46},
    {"a list of lengths",      OK "Content-Length: 5, 5\r\n",                                                 27},
    {"a signed length",        OK "Content-Length: +5\r\n",                                                   27},
    {"an endless length",      OK "Content-Length: 99999999999999999999\r\n",                                 27},
    {"length and chunks",      OK "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",                  0 },
    {"another encoding",       OK "Transfer-Encoding: gzip, chunked\r\n",                                     27},
    {"chunks twice",           OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",             55},
    {"chunks in HTTP/1.0",     "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n",                           17},
    {"two tokens",             OK "WWW-Authenticate: Negotiate YQ==\r\nWWW-Authenticate: Negotiate Yg==\r\n", 61},
    {"a token with a quote",   OK "WWW-Authenticate: Negotiate \"YQ==\"\r\n",                                 27},
};

static void test_refused_heads(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++) {
        struct net_http_head h = {.status = 42};
        struct sp_err e = {0};

        print_message("%s\n", bads[i].name);
        assert_int_equal(net_get_http_head(sp_str(bads[i].in), &h, &e), NET_HTTP_WRONG);
        assert_int_equal(e.kind, SP_EINPUT);
        assert_int_equal(e.at, bads[i].at);
        assert_int_equal(h.status, 42);
    }
}

static void test_limits(void **state)
{
    static char head[NET_HTTP_HEAD_MAX + 1];
    struct net_http_head h;
    struct sp_err e = {0};

    (void)state;
    for (int over = 0; over < 2; over++) {
        struct sp_text t = sp_text(head, sizeof head);

        sp_text_str(&t, OK "Content-Length: 0\r\n");
        for (int i = 1; i < NET_HTTP_FIELDS_MAX + over; i++)
            sp_text_str(&t, "X: y\r\n");
        sp_text_str(&t, "\r\n");
        e = (struct sp_err){0};
        assert_int_equal(net_get_http_head(sp_span(t.p, t.n), &h, &e),
                         over ? NET_HTTP_WRONG : NET_HTTP_WHOLE);
    }
    memset(head, 'a', sizeof head);
    memcpy(head, OK "X: ", sizeof(OK "X: ") - 1);
    e = (struct sp_err){0};
    assert_int_equal(net_get_http_head(sp_span(head, NET_HTTP_HEAD_MAX - 1), &h, &e), NET_HTTP_MORE);
    assert_int_equal(net_get_http_head(sp_span(head, NET_HTTP_HEAD_MAX), &h, &e), NET_HTTP_WRONG);
}

/* However the bytes are cut, the body ends at the same place. */
static void pass_over(struct net_http_body from, struct sp_span in, size_t want, size_t step)
{
    struct net_http_body b = from;
    enum net_http_result r = NET_HTTP_MORE;
    size_t at = 0, have = 0;
    struct sp_err e = {0};

    while (r == NET_HTTP_MORE && have < in.n) {
        size_t used;

        have = have + step > in.n ? in.n : have + step;
        r = net_skip_http_body(&b, sp_span(in.p + at, have - at), &used, &e);
        at += used;
    }
    assert_int_equal(r, NET_HTTP_WHOLE);
    assert_int_equal(at, want);
}

static void test_bodies(void **state)
{
    static const char chunks[] = "5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nX: y\r\n\r\nHTTP/1.1";

    (void)state;
    for (size_t step = 1; step < sizeof chunks; step++) {
        pass_over((struct net_http_body){.kind = NET_HTTP_CHUNKED}, sp_str(chunks), sizeof chunks - 9, step);
        pass_over((struct net_http_body){.kind = NET_HTTP_LENGTH, .left = 5}, SPAN("helloHTTP"), 5, step);
    }
}

static void test_refused_bodies(void **state)
{
    static const char *const in[] = {"x\r\n",        "\r\n",   "5\n",         "-5\r\n",
                                     "12345678\r\n", "5 \r\n", "2\r\nabc\r\n"};

    (void)state;
    for (size_t i = 0; i < sizeof in / sizeof in[0]; i++) {
        struct net_http_body b = {.kind = NET_HTTP_CHUNKED};
        struct sp_err e = {0};
        size_t used;

        print_message("%s\n", in[i]);
        assert_int_equal(net_skip_http_body(&b, sp_str(in[i]), &used, &e), NET_HTTP_WRONG);
        assert_int_equal(e.kind, SP_EINPUT);
    }
    struct net_http_body b = {.kind = NET_HTTP_UNTIL_CLOSE, .seen = NET_HTTP_BODY_MAX};
    struct sp_err e = {0};
    size_t used;
    assert_int_equal(net_skip_http_body(&b, SPAN(""), &used, &e), NET_HTTP_MORE);
    assert_int_equal(net_skip_http_body(&b, SPAN("x"), &used, &e), NET_HTTP_WRONG);
}

static void test_base64(void **state)
{
    static const struct {
        const char *text, *bytes;
    } pairs[] = {
        {"",         ""            },
        {"Zg==",     "f"           },
        {"Zm8=",     "fo"          },
        {"Zm9v",     "foo"         },
        {"Zm9vYg==", "foob"        },
        {"+/+/",     "\xfb\xff\xbf"}
    };
    static const char *const wrong[] = {
        "Zg", "Zg=", "Z===", "====", "Zh==", "Zm9=", "Zm 9v", "Zm9v\n", "Zm-_", "Zg==Zg=="};
    uint8_t out[8];
    size_t n;

    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        assert_true(net_get_base64(sp_str(pairs[i].text), out, sizeof out, &n));
        assert_true(sp_same(sp_span(out, n), sp_str(pairs[i].bytes)));
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(net_get_base64(sp_str(wrong[i]), out, sizeof out, &n));
    assert_false(net_get_base64(SPAN("Zm9v"), out, 2, &n));
    assert_true(net_get_base64(SPAN("Zm9v"), out, 3, &n));
}

static void test_urls(void **state)
{
    static const struct {
        const char *text;
        bool tls;
        const char *host, *port, *path;
    } goods_[] = {
        {"http://nas1",        false, "nas1", "80",   "/"     },
        {"https://nas1/a?b=c", true,  "nas1", "443",  "/a?b=c"},
        {"http://[::1]:8080/", false, "::1",  "8080", "/"     },
    };
    static const char *const wrong[] = {
        "nas1",        "ftp://nas1/",     "http://",           "http://:80/",  "http://a@b/",
        "http://a:0/", "http://a:65536/", "http://a:/",        "http://[::1/", "http://[nas1]/",
        "http://::1/", "http://a/b c",    "http://a/\r\nX: y", "http://a/#b",  "http://a?b"};
    struct net_http_url u;

    (void)state;
    for (size_t i = 0; i < sizeof goods_ / sizeof goods_[0]; i++) {
        struct sp_err e = {0};

        assert_true(net_parse_url(goods_[i].text, &u, &e));
        assert_int_equal(u.tls, goods_[i].tls);
        assert_string_equal(u.host, goods_[i].host);
        assert_string_equal(u.port, goods_[i].port);
        assert_string_equal(u.path, goods_[i].path);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct sp_err e = {0};

        print_message("%s\n", wrong[i]);
        assert_false(net_parse_url(wrong[i], &u, &e));
        assert_int_equal(e.kind, SP_EINPUT);
    }
}

static void test_requests(void **state)
{
    struct net_http_url u;
    struct sp_err e = {0};
    char out[512];
    struct sp_text t = sp_text(out, sizeof out);

    (void)state;
    assert_true(net_parse_url("http://[::1]:8080/x", &u, &e));
    net_put_http_get(&t, &u, SPAN("foob"));
    assert_false(t.cut);
    assert_string_equal(out, "GET /x HTTP/1.1\r\nHost: [::1]:8080\r\nUser-Agent: sallyport\r\nAccept: */*\r\n"
                             "Authorization: Negotiate Zm9vYg==\r\n\r\n");
    t = sp_text(out, 40);
    net_put_http_get(&t, &u, SPAN(""));
    assert_true(t.cut);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),  cmocka_unit_test(test_refused_heads),  cmocka_unit_test(test_limits),
        cmocka_unit_test(test_bodies), cmocka_unit_test(test_refused_bodies), cmocka_unit_test(test_base64),
        cmocka_unit_test(test_urls),   cmocka_unit_test(test_requests),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
