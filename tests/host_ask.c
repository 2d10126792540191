/* SPDX-License-Identifier: MIT */
/* The courier's client, driven by tests/interop/test_courier.py: says the realm; with a request in hex it
 * asks `count` times over one connection and prints each answer, then again in a forked child. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/text.h"
#include "host/ask.h"
#include "host/env.h"

static _Alignas(16) uint8_t block[1 << 20];
static uint8_t request[70000];
static char hex[300000];

static int failed(const struct sp_err *e)
{
    printf("%s %d %s\n", sp_kind_name(e->kind), e->proto, e->text);
    (void)fflush(stdout);
    return 1;
}

static int hello(struct host_courier *h)
{
    struct host_realm r;
    struct sp_err e = {0};
    struct sp_arena mem;

    sp_arena_init(&mem, block, sizeof block);
    if (!host_hello(h, 5000, &mem, &r, &e))
        return failed(&e);
    printf("realm %.*s", SP_FMT(r.name));
    for (uint32_t i = 0; i < r.aliases.count; i++)
        printf(" %.*s", SP_FMT(r.aliases.v[i]));
    for (uint32_t i = 0; i < r.others.count; i++)
        printf(" other:%.*s", SP_FMT(r.others.v[i]));
    printf(" old-mit:%d finished-required:%d\n", r.old_mit, r.finished_required);
    return 0;
}

static int ask(struct host_courier *h, const char *realm, struct sp_span message)
{
    int64_t began_us = host_env().mono_us;
    struct sp_span reply;
    struct sp_err e = {0};
    struct sp_arena mem;
    struct sp_text t = sp_text(hex, sizeof hex);

    sp_arena_init(&mem, block, sizeof block);
    if (!host_ask(h, sp_str(realm), message, SP_LIT("HTTP/nas1.test"), 5000, &mem, &reply, &e)) {
        printf("after %lld ms: ", (long long)(host_env().mono_us - began_us) / 1000);
        return failed(&e);
    }
    sp_text_hex(&t, reply);
    printf("answer %s\n", hex);
    (void)fflush(stdout);
    return 0;
}

int main(int argc, char **argv)
{
    struct host_courier h;
    size_t n = 0;
    int bad = 0;

    host_courier_init(&h);
    if (argc < 4)
        return hello(&h);
    if (!sp_unhex(sp_str(argv[2]), request, sizeof request, &n))
        return 2;
    for (int i = atoi(argv[3]); i > 0; i--) {
        bad |= ask(&h, argv[1], sp_span(request, n));
        if (i > 1 && argc > 4)
            (void)getchar(); /* the test does something to the daemon in between */
    }
    (void)fflush(stdout);
    if (argc == 4 && !bad) {
        int before = h.fd, status = 1;
        pid_t child = fork();
        if (child == 0) {
            bad = ask(&h, argv[1], sp_span(request, n));
            (void)fflush(stdout);
            _exit(bad);
        }
        (void)waitpid(child, &status, 0);
        bad |= status | (h.fd != before) | ask(&h, argv[1], sp_span(request, n));
    }
    host_courier_close(&h);
    return bad ? 1 : 0;
}
