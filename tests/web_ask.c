/* SPDX-License-Identifier: MIT */
/* POSTs "hello" some times, one after the other, as the courier does; a line for each: how it ended, HTTP
 * status, body. Usage: web_ask ADDR:PORT HOST PATH COUNT CA-FILE [CERTIFICATE-AND-KEY [PROXY-URL]]; "" and
 * "-" stand for none. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/exchange.h"

static bool ended;

static void on_done(void *owner, const struct net_exchange_result *r)
{
    static const char *const ends[] = {"done", "refused", "garbled", "late"};

    (void)owner;
    ended = true;
    printf("%s %d %s %.*s\n", ends[r->end], r->status, *r->text ? r->text : "-", SP_FMT(r->bytes));
}

static const char *given(int argc, char **argv, int at)
{
    return at < argc && *argv[at] && strcmp(argv[at], "-") != 0 ? argv[at] : NULL;
}

int main(int argc, char **argv)
{
    struct net_web_settings s = {given(argc, argv, 5), given(argc, argv, 6), given(argc, argv, 7), 0, 0};
    struct sp_err e = {0};
    struct net_address to;

    if (argc < 6 || !net_parse_address(sp_str(argv[1]), &to, &e))
        return 2;
    signal(SIGPIPE, SIG_IGN);
    struct net_base *b = net_base_new(NULL, &e);
    struct net_web_client *c = b ? net_web_client_new(b, &s, &e) : NULL;
    if (!c) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    for (int i = 0; i < atoi(argv[4]); i++) {
        struct net_post p = {
            .plan = {to, SP_LIT("hello"), net_base_now_us() + 5000000, 65536, on_done, NULL},
            .host = argv[2],
            .port = net_port(&to),
            .path = argv[3],
            .type = "application/kerberos",
            .tls = true,
        };

        ended = false;
        if (!net_exchange_post(c, &p))
            return 1;
        while (!ended)
            net_base_turn(b, -1);
    }
    net_web_client_free(c);
    net_base_free(b);
    return 0;
}
