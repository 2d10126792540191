/* SPDX-License-Identifier: MIT */
/* net/http_request: heads that are taken, and those that are refused, by status, text and offset. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "net/http_request.h"

static const struct net_http_request_limits limits = {8192, 131072, false};

#define POST "POST /KdcProxy HTTP/1.1\r\n"
#define HOST "Host: kdc.example:443\r\n"
#define LENGTH "Content-Length: 5\r\n"

static const struct {
    const char *name, *in, *path, *host;
    bool keep, expects;
} goods[] = {
    {"usual",                            POST HOST LENGTH "\r\n",                                       "/KdcProxy", "kdc.example:443", true,  false},
    {"close",                            POST HOST LENGTH "Connection: foo, Close\r\n\r\n",             "/KdcProxy", "kdc.example:443", false,
     false                                                                                                                                          },
    {"old, as MIT's client sends it",
     "POST /KdcProxy HTTP/1.0\r\nHost: a:443\r\nCache-Control: no-cache\r\nPragma: no-cache\r\nUser-Agent: "
     "kerberos/1.0\r\nContent-type: application/kerberos\r\nContent-Length: 5\r\n\r\n",                 "/KdcProxy", "a:443",           false, false},
    {"old without Host",                 "POST / HTTP/1.0\r\n" LENGTH "\r\n",                           "/",         "",                false, false},
    {"old that wants to keep",           "POST / HTTP/1.0\r\n" LENGTH "Connection: keep-alive\r\n\r\n", "/",         "",                false,
     false                                                                                                                                          },
    {"expects",                          POST HOST LENGTH "Expect: 100-Continue\r\n\r\n",               "/KdcProxy", "kdc.example:443", true,  true },
    {"old cannot expect",                "POST / HTTP/1.0\r\n" LENGTH "Expect: 100-continue\r\n\r\n",   "/",         "",                false, false},
    {"absolute form, whose host counts", "POST https://other:8443/p?q HTTP/1.1\r\n" HOST LENGTH "\r\n",
     "/p?q",                                                                                                         "other:8443",      true,  false},
    {"absolute form without a path",     "POST HTTP://other HTTP/1.1\r\n" HOST LENGTH "\r\n",           "/",         "other",           true,
     false                                                                                                                                          },
    {"an address for a host",            "POST / HTTP/1.1\r\nHost: [::1]:443\r\n" LENGTH "\r\n",        "/",         "[::1]:443",       true,
     false                                                                                                                                          },
    {"identity",                         POST HOST LENGTH "Content-Encoding: identity\r\n\r\n",         "/KdcProxy", "kdc.example:443", true,
     false                                                                                                                                          },
    {"no body",                          POST HOST "Content-Length: 0\r\n\r\n",                         "/KdcProxy", "kdc.example:443", true,  false},
};

static void test_taken(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof goods / sizeof goods[0]; i++) {
        struct net_http_request r = {0};
        struct sp_err e = {0};
        size_t n = strlen(goods[i].in);

        print_message("%s\n", goods[i].name);
        for (size_t cut = 0; cut < n; cut++)
            assert_int_equal(net_get_http_request(sp_span(goods[i].in, cut), &limits, &r, &e), NET_HTTP_MORE);
        assert_int_equal(net_get_http_request(sp_str(goods[i].in), &limits, &r, &e), NET_HTTP_WHOLE);
        assert_int_equal(r.used, n);
        assert_true(sp_same(r.path, sp_str(goods[i].path)));
        assert_true(sp_same(r.host, sp_str(goods[i].host)));
        assert_int_equal(r.keep, goods[i].keep);
        assert_int_equal(r.expects, goods[i].expects);
    }
}

static const struct {
    const char *name, *in;
    int status;
    uint32_t at;
    const char *text;
} bads[] = {
    {"HTTP/0.9",                      "GET /\r\n",                                              400, 0,  "the first line"                       },
    {"TLS to a plain door",           "\x16\x03\x01\x02\r\n",                                   400, 0,  "the first line"                       },
    {"an empty first line",           "\r\n",                                                   400, 0,  "the first line"                       },
    {"LF alone",                      "\n",                                                     400, 0,  "a line that ends without CR"          },
    {"bare LF",                       "POST / HTTP/1.1\n",                                      400, 15, "a line that ends without CR"          },
    {"HTTP/2's preface",              "PRI * HTTP/2.0\r\n",                                     505, 6,  "HTTP/1.1 and 1.0 are spoken here"     },
    {"HTTP/1.2",                      "POST / HTTP/1.2\r\n",                                    505, 7,  "HTTP/1.1 and 1.0 are spoken here"     },
    {"small letters",                 "POST / http/1.1\r\n",                                    400, 7,  "the version"                          },
    {"two blanks",                    "POST  / HTTP/1.1\r\n",                                   400, 5,  "the target"                           },
    {"a blank in the target",         "POST /a b HTTP/1.1\r\n",                                 400, 5,  "the target"                           },
    {"a fragment",                    "POST /a#b HTTP/1.1\r\n",                                 400, 5,  "the target"                           },
    {"a byte above ASCII",            "POST /\xc3\xa9 HTTP/1.1\r\n",                            400, 5,  "the target"                           },
    {"no slash",                      "POST KdcProxy HTTP/1.1\r\n",                             400, 5,  "the target"                           },
    {"another scheme",                "POST ftp://a/ HTTP/1.1\r\n",                             400, 5,  "the target"                           },
    {"a user in the target",          "POST http://u@a/ HTTP/1.1\r\n",                          400, 0,  "the host in the target"               },
    {"no host in the target",         "POST http:///a HTTP/1.1\r\n",                            400, 0,  "the host in the target"               },
    {"a port too high in the target", "POST http://a:65536/ HTTP/1.1\r\n",                      400, 0,  "the host in the target"               },
    {"a method that is none",         "PO(T / HTTP/1.1\r\n",                                    400, 0,  "the method"                           },
    {"no colon",                      POST "Host\r\n",                                          400, 25, "a line without a colon"               },
    {"a blank before the colon",      POST "Host : a\r\n",                                      400, 25, "the name of a field"                  },
    {"folded",                        POST HOST "X: y\r\n z: a\r\n",                            400, 54, "the name of a field"                  },
    {"a folded first field",          POST " X: y\r\n",                                         400, 25, "the name of a field"                  },
    {"CR inside",                     POST "X: a\rb\r\n",                                       400, 29, "a control character"                  },
    {"no Host",                       POST LENGTH "\r\n",                                       400, 0,  "no Host"                              },
    {"an empty Host",                 POST "Host:\r\n",                                         400, 25, "its Host"                             },
    {"a Host with a path",            POST "Host: a/b\r\n",                                     400, 25, "its Host"                             },
    {"two Hosts",                     POST HOST HOST,                                           400, 48, "a field that may come once came twice"},
    {"two types",                     POST "Content-Type: a/b\r\nContent-Type: a/b\r\n",        400, 44,
     "a field that may come once came twice"                                                                                                    },
    {"two authorizations",            POST "Authorization: a\r\nauthorization: b\r\n",          400, 43,
     "a field that may come once came twice"                                                                                                    },
    {"two lengths",                   POST LENGTH LENGTH,                                       400, 44, "two Content-Length"                   },
    {"a list of lengths",             POST "Content-Length: 5, 5\r\n",                          400, 25, "its Content-Length"                   },
    {"a signed length",               POST "Content-Length: +5\r\n",                            400, 25, "its Content-Length"                   },
    {"a length of nothing",           POST "Content-Length:\r\n",                               400, 25, "its Content-Length"                   },
    {"a length in hex",               POST "Content-Length: 0x5\r\n",                           400, 25, "its Content-Length"                   },
    {"length and chunks",             POST LENGTH "Transfer-Encoding: chunked\r\n",             400, 44, "a Transfer-Encoding"                  },
    {"chunks",                        POST "Transfer-Encoding: chunked\r\n",                    400, 25, "a Transfer-Encoding"                  },
    {"chunks, misspelt",              POST "Transfer-Encoding: xchunked\r\n",                   400, 25, "a Transfer-Encoding"                  },
    {"gzip",                          POST "Content-Encoding: gzip\r\n",                        400, 25, "a Content-Encoding"                   },
    {"another expectation",           POST "Expect: 200-maybe\r\n",                             417, 25, "its Expect"                           },
    {"GET",                           "GET /KdcProxy HTTP/1.1\r\n" HOST "\r\n",                 405, 0,  "another method than POST"             },
    {"small letters in the method",   "post / HTTP/1.1\r\n" HOST LENGTH "\r\n",                 405, 0,
     "another method than POST"                                                                                                                 },
    {"OPTIONS",                       "OPTIONS * HTTP/1.1\r\n" HOST "\r\n",                     405, 0,  "another method than POST"             },
    {"CONNECT",                       "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",          405, 0,  "another method than POST"             },
    {"no length",                     POST HOST "\r\n",                                         411, 0,  "no Content-Length"                    },
    {"a length too long",             POST HOST "Content-Length: 131073\r\n\r\n",               413, 0,  "a body that is too long"              },
    {"an endless length",             POST HOST "Content-Length: 99999999999999999999\r\n\r\n", 413, 0,
     "a body that is too long"                                                                                                                  },
};

static void refuse(struct sp_span in, int status, uint32_t at, const char *text)
{
    struct net_http_request r = {.length = 42};
    struct sp_err e = {0};

    assert_int_equal(net_get_http_request(in, &limits, &r, &e), NET_HTTP_WRONG);
    assert_int_equal(e.kind, SP_EINPUT);
    assert_string_equal(e.text, text);
    assert_int_equal(e.proto, status);
    assert_int_equal(e.at, at);
    assert_int_equal(r.length, 42);
}

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++) {
        print_message("%s\n", bads[i].name);
        refuse(sp_str(bads[i].in), bads[i].status, bads[i].at, bads[i].text);
    }
    static const char nul[] = POST "X: a\0b\r\n", nul_in_target[] = "POST /\0 HTTP/1.1\r\n";
    refuse(sp_span(nul, sizeof nul - 1), 400, 29, "a control character");
    refuse(sp_span(nul_in_target, sizeof nul_in_target - 1), 400, 5, "the target");
}

/* Both sides of each limit. */
static void test_limits(void **state)
{
    static char head[16384];
    struct net_http_request r;
    struct sp_err e;

    (void)state;
    for (int over = 0; over < 2; over++) {
        struct sp_text t = sp_text(head, sizeof head);

        sp_text_str(&t, POST HOST LENGTH);
        for (int i = 2; i < NET_HTTP_FIELDS_MAX + over; i++)
            sp_text_str(&t, "X: y\r\n");
        sp_text_str(&t, "\r\n");
        e = (struct sp_err){0};
        assert_int_equal(net_get_http_request(sp_span(t.p, t.n), &limits, &r, &e),
                         over ? NET_HTTP_WRONG : NET_HTTP_WHOLE);
        assert_int_equal(e.proto, over ? 431 : 0);

        t = sp_text(head, sizeof head);
        sp_text_str(&t, POST HOST LENGTH "X: ");
        while (t.n + 4 < limits.head_max + (size_t)over)
            sp_text_str(&t, "y");
        sp_text_str(&t, "\r\n\r\n");
        e = (struct sp_err){0};
        assert_int_equal(net_get_http_request(sp_span(t.p, t.n), &limits, &r, &e),
                         over ? NET_HTTP_WRONG : NET_HTTP_WHOLE);
        assert_int_equal(e.proto, over ? 431 : 0);
    }
    memset(head, 'a', sizeof head);
    e = (struct sp_err){0};
    assert_int_equal(net_get_http_request(sp_span(head, limits.head_max), &limits, &r, &e), NET_HTTP_MORE);
    refuse(sp_span(head, limits.head_max + 1), 431, 0, "a head that is too long");
    assert_int_equal(
        net_get_http_request(sp_str(POST HOST "Content-Length: 131072\r\n\r\n"), &limits, &r, &e),
        NET_HTTP_WHOLE);
    assert_int_equal(r.length, 131072);
}

static const struct {
    const char *field, *is; /* NULL: refused */
} hops[] = {
    {"X-Forwarded-For: 192.0.2.7\r\n",                                               "192.0.2.7:0"    },
    {"X-Forwarded-For: 10.9.9.9, 192.0.2.7\r\n",                                     "192.0.2.7:0"    },
    {"X-Forwarded-For: 192.0.2.7:4711\r\n",                                          "192.0.2.7:0"    },
    {"X-Forwarded-For: 2001:db8::7\r\n",                                             "[2001:db8::7]:0"},
    {"X-Forwarded-For: [2001:db8::7]:99\r\n",                                        "[2001:db8::7]:0"},
    {"Forwarded: for=192.0.2.7\r\n",                                                 "192.0.2.7:0"    },
    {"Forwarded: for=10.9.9.9;proto=http, proto=https;For=\"[2001:db8::7]:99\"\r\n", "[2001:db8::7]:0"},
    {"X: y\r\n",                                                                     "127.0.0.1:88"   },
    {"X-Forwarded-For: unknown\r\n",                                                 NULL             },
    {"X-Forwarded-For:\r\n",                                                         NULL             },
    {"X-Forwarded-For: 192.0.2.7,\r\n",                                              NULL             },
    {"X-Forwarded-For: fe80::1%1\r\n",                                               NULL             },
    {"X-Forwarded-For: 192.0.2.7:\r\n",                                              NULL             },
    {"X-Forwarded-For: [2001:db8::7\r\n",                                            NULL             },
    {"Forwarded: fe\r\n",                                                            NULL             },
    {"Forwarded: for=_hidden\r\n",                                                   NULL             },
    {"Forwarded: by=192.0.2.7\r\n",                                                  NULL             },
    {"Forwarded: for=192.0.2.7;for=192.0.2.8\r\n",                                   NULL             },
    {"Forwarded: for=\"192.0.2.7\r\n",                                               NULL             },
    {"Forwarded: for=192.0.2.7\r\nX-Forwarded-For: 192.0.2.7\r\n",                   NULL             },
};

static void test_forwarded(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hops / sizeof hops[0]; i++) {
        struct net_address a, before;
        struct net_http_request r;
        struct sp_err e = {0};
        char in[512], text[NET_ADDRESS_TEXT];

        print_message("%s", hops[i].field);
        snprintf(in, sizeof in, POST HOST LENGTH "%s\r\n", hops[i].field);
        assert_true(net_parse_address(sp_str("127.0.0.1:88"), &a, &e));
        before = a;
        assert_int_equal(net_get_http_request(sp_str(in), &limits, &r, &e), NET_HTTP_WHOLE);
        assert_int_equal(net_get_forwarded(&r, &a, &e), hops[i].is != NULL);
        if (!hops[i].is) {
            assert_int_equal(e.proto, 400);
            assert_true(net_same_address(&a, &before));
            continue;
        }
        net_text_address(&a, text);
        assert_string_equal(text, hops[i].is);
    }
}

/* Where GET is taken, too: without a body, and other methods still are not. */
static void test_gets(void **state)
{
    const struct net_http_request_limits also = {8192, 131072, true};
    static const struct {
        const char *in;
        int status;
    } rows[] = {
        {"GET /KdcProxy HTTP/1.1\r\n" HOST "\r\n",                      0  },
        {"GET /KdcProxy HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 0  },
        {"GET /KdcProxy HTTP/1.1\r\n" HOST LENGTH "\r\n",               400},
        {"HEAD /KdcProxy HTTP/1.1\r\n" HOST "\r\n",                     405},
        {POST HOST "\r\n",                                              411},
        {"GET * HTTP/1.1\r\n" HOST "\r\n",                              400},
        {"GET http://a/KdcProxy HTTP/1.1\r\n" HOST "\r\n",              0  },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct net_http_request r = {.length = 42};
        struct sp_err e = {0};

        assert_int_equal(net_get_http_request(sp_str(rows[i].in), &also, &r, &e),
                         rows[i].status ? NET_HTTP_WRONG : NET_HTTP_WHOLE);
        assert_int_equal(e.proto, rows[i].status);
        if (rows[i].status == 0)
            assert_true(r.length == 0 && sp_same(r.method, SP_LIT("GET")) &&
                        sp_same(r.path, SP_LIT("/KdcProxy")));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gets),   cmocka_unit_test(test_taken),     cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_forwarded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
