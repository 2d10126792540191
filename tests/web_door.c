/* SPDX-License-Identifier: MIT */
/* The HTTPS door alone, for peers of other make: answers every POST with a body of one size, or with what it
 * saw. Usage: web_door ADDR:PORT SECONDS [CERTIFICATE-AND-KEY [CLIENT-CA]]; prints its address, and a line
 * for each refusal. Environment: WEB_REPLY (bytes; 0: what it saw), WEB_CONNECTIONS, WEB_PER_SOURCE,
 * WEB_IDLE, WEB_REQUESTS. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/listen.h"
#include "net/sandbox.h"
#include "net/web.h"

static char reply[1 << 20];
static size_t reply_n;

static void on_request(void *owner, const struct net_web_request *r)
{
    char seen[1200];
    struct net_web_reply a = {.status = 200, .type = "application/kerberos", .body = sp_span(reply, reply_n)};

    (void)owner;
    if (reply_n == 0) {
        snprintf(seen, sizeof seen, "path=%.*s host=%.*s body=%zu subject=%.*s exporter=%zu\n",
                 SP_FMT(r->path), SP_FMT(r->host), r->body.n, SP_FMT(r->client_certificate), r->exporter.n);
        a.body = sp_str(seen);
    }
    net_web_answer(r->from, &a);
}

static void on_gone(void *owner, struct net_web_connection *c, void *state)
{
    (void)owner;
    (void)c;
    (void)state;
}

static void on_refused(void *owner, const struct net_address *peer, int status, const char *why)
{
    (void)owner;
    (void)peer;
    printf("refused %d %s\n", status, why);
    fflush(stdout);
}

static struct sp_span read_file(const char *name, char *out, size_t max)
{
    FILE *f = name ? fopen(name, "re") : NULL;
    size_t n = f ? fread(out, 1, max, f) : 0;

    if (f)
        fclose(f);
    return sp_span(out, n);
}

static uint32_t number(const char *name)
{
    const char *text = getenv(name);

    return text ? (uint32_t)strtoul(text, NULL, 10) : 0;
}

static int failed(const struct sp_err *e)
{
    fprintf(stderr, "%s\n", e->text);
    return 1;
}

int main(int argc, char **argv)
{
    static char pem[65536], authorities[65536];
    struct net_web_limits limits = {.connections = number("WEB_CONNECTIONS"),
                                    .per_source = number("WEB_PER_SOURCE"),
                                    .idle_s = number("WEB_IDLE"),
                                    .requests_kept = number("WEB_REQUESTS")};
    struct net_web_handler handler = {on_request, on_gone, on_refused, NULL};
    struct sp_err e = {0};
    struct net_address at;
    struct net_web_tls *tls = NULL;
    char text[NET_ADDRESS_TEXT];
    int fd;

    if (argc < 3 || !net_parse_address(sp_str(argv[1]), &at, &e))
        return failed(&e);
    signal(SIGPIPE, SIG_IGN);
    reply_n = number("WEB_REPLY");
    memset(reply, 'x', sizeof reply);
    (void)net_raise_descriptors(limits.connections + 100);
    struct net_base *b = net_base_new(NULL, &e);
    struct net_web *w = b ? net_web_new(b, &limits, &handler, &e) : NULL;
    if (!w || (fd = net_listen_tcp(&at, &e)) < 0)
        return failed(&e);
    if (argc > 3 &&
        !(tls = net_web_tls_new(read_file(argv[3], pem, sizeof pem), (struct sp_span){0},
                                read_file(argc > 4 ? argv[4] : NULL, authorities, sizeof authorities), &e)))
        return failed(&e);
    if (!net_web_add(w, fd, tls, NULL, 0, &e))
        return failed(&e);
    net_text_address(&at, text);
    printf("%s\n", text);
    fflush(stdout);
    for (int64_t until = net_base_now_us() + atoll(argv[2]) * 1000000; net_base_now_us() < until;)
        net_base_turn(b, 100);
    net_web_free(w);
    net_web_tls_free(tls);
    net_base_free(b);
    return 0;
}
