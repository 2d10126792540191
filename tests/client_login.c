/* SPDX-License-Identifier: MIT */
/* The client engine over TCP, for the interop tests: prints the tickets that a KDC gives.
 * client_login [-b] [-i] [-a] [-e ETYPE] [-r] HOST PORT USER@REALM PASSWORD [SERVICE]
 *   -b: the service's ticket straight from the AS exchange; -i: as through a relay nobody vouches for;
 *   -a: the realm is a guess; -e: only this encryption type; -r: the TGT is then forwarded and renewed.
 * client_login -k PORT -n PASSWORD [-t TARGET@REALM] HOST PORT USER@REALM PASSWORD
 *   -k: changes the password at that port, to that of -n; -t: another's. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client/client.h"
#include "client/kpasswd.h"

static const char *host, *port;
static uint8_t reply_block[1 << 17];

static void fill(struct sp_rng *r, void *p, size_t n)
{
    (void)r;
    if (getrandom(p, n, 0) != (ssize_t)n)
        abort();
}
static struct sp_rng rng = {fill};

static struct sp_env now(void)
{
    struct timespec w, m;

    clock_gettime(CLOCK_REALTIME, &w);
    clock_gettime(CLOCK_MONOTONIC, &m);
    return (struct sp_env){w.tv_sec * INT64_C(1000000) + w.tv_nsec / 1000,
                           m.tv_sec * INT64_C(1000000) + m.tv_nsec / 1000, &rng};
}

static int dial(void)
{
    struct addrinfo hint = {.ai_socktype = SOCK_STREAM}, *ai = NULL;
    int fd = -1;

    if (getaddrinfo(host, port, &hint, &ai) != 0)
        return -1;
    for (struct addrinfo *a = ai; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(ai);
    return fd;
}

static bool read_all(int fd, uint8_t *p, size_t n)
{
    while (n > 0) {
        ssize_t got = read(fd, p, n);

        if (got <= 0)
            return false;
        p += got;
        n -= (size_t)got;
    }
    return true;
}

/* One request, one connection. */
static bool carry(struct sp_span q, struct sp_span *reply)
{
    uint8_t head[4] = {(uint8_t)(q.n >> 24), (uint8_t)(q.n >> 16), (uint8_t)(q.n >> 8), (uint8_t)q.n};
    int fd = dial();
    bool ok =
        fd >= 0 && write(fd, head, 4) == 4 && write(fd, q.p, q.n) == (ssize_t)q.n && read_all(fd, head, 4);
    size_t n = ok ? (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3] : 0;

    ok = ok && n <= sizeof reply_block && read_all(fd, reply_block, n);
    if (fd >= 0)
        close(fd);
    *reply = sp_span(reply_block, n);
    return ok;
}

static void show(const char *what, const struct krb_credential *c)
{
    char line[512];
    struct sp_text t = sp_text(line, sizeof line);

    if (!c)
        return;
    krb_text_principal(&t, &c->client, c->crealm);
    sp_text_str(&t, " ");
    krb_text_principal(&t, &c->server, c->srealm);
    sp_text_fmt(&t, " etype %d flags %08x lives %lld renews %lld", c->key.etype, c->flags,
                (long long)(c->endtime - c->authtime), (long long)c->renew_till);
    printf("%s: %s\n", what, line);
}

static struct client *run(struct crypto *c, const struct client_policy *p, const struct client_wish *w,
                          struct sp_arena *mem)
{
    struct client_action act;
    struct sp_err e = {0};
    struct sp_span reply;
    struct client *cl;
    bool ok = client_start(&cl, c, p, w, now(), mem, &act, &e);

    while (ok && !act.done) {
        if (!carry(act.request, &reply)) {
            printf("no answer: %s\n", strerror(errno));
            exit(2);
        }
        ok = client_reply(cl, now(), reply, &act, &e);
    }
    if (ok)
        return cl;
    printf("%s %d: %s\n", sp_kind_name(e.kind), e.proto, e.text);
    exit(1);
}

static void again(struct crypto *c, const struct client_policy *p, const struct client *from)
{
    static const enum client_goal goal[] = {CLIENT_FORWARDED, CLIENT_RENEWED};
    static uint8_t block[2][1 << 17];
    struct sp_arena mem;

    for (int i = 0; i < 2; i++) {
        struct client_wish w = {.goal = goal[i], .tgt = client_tgt(from)};

        sp_arena_init(&mem, block[i], sizeof block[i]);
        show(i ? "renewed" : "forwarded", client_tgt(run(c, p, &w, &mem)));
    }
}

static int change(struct crypto *c, const struct client *cl, const char *to_port, const char *password,
                  const char *target, struct sp_arena *mem)
{
    struct client_change_wish w = {.ticket = client_service(cl),
                                   .password = sp_str(password),
                                   .offset_us = client_offset_s(cl) * 1000000};
    struct client_change ch;
    struct client_verdict v = {0};
    struct sp_span q, reply;
    struct sp_err e = {0};

    port = to_port;
    if ((!target || krb_parse_name(sp_str(target), mem, &w.target, &w.target_realm, &e)) &&
        client_change_request(&ch, c, now(), &w, mem, &q, &e) && carry(q, &reply) &&
        client_change_reply(&ch, c, reply, mem, &v, &e)) {
        printf("result %u: %.*s\n", v.result, (int)v.text.n, (const char *)v.text.p);
        return v.result != CLIENT_CHANGED;
    }
    printf("%s %d: %s\n", sp_kind_name(e.kind), e.proto, e.kind ? e.text : "no answer");
    return 2;
}

int main(int argc, char **argv)
{
    const char *change_port = NULL, *next = NULL, *target = NULL;
    static uint8_t block[CLIENT_ARENA_MIN], name_block[8192];
    struct client_wish w = {.goal = CLIENT_TGT};
    struct sp_arena mem, names;
    struct sp_err e = {0};
    struct client_policy p;
    struct sp_span none;
    struct client *cl;
    struct crypto *c = crypto_new(&e);
    int32_t only = 0;
    int o, by_as = 0, guess = 0, more = 0;

    client_policy_direct(&p);
    while ((o = getopt(argc, argv, "biae:rk:n:t:")) != -1) {
        by_as |= o == 'b';
        guess |= o == 'a';
        more |= o == 'r';
        if (o == 'i')
            client_policy_in_band(&p);
        if (o == 'k')
            change_port = optarg;
        if (o == 'n')
            next = optarg;
        if (o == 't')
            target = optarg;
        if (o == 'e')
            only = (int32_t)strtol(optarg, NULL, 10);
    }
    p.adopt_realm = guess;
    if (only) {
        p.etypes[0] = only;
        p.etype_count = 1;
    }
    sp_arena_init(&mem, block, sizeof block);
    sp_arena_init(&names, name_block, sizeof name_block);
    if (!c || argc - optind < 4 || !krb_parse_name(sp_str(argv[optind + 2]), &names, &w.client, &w.realm, &e))
        return 2;
    host = argv[optind];
    port = argv[optind + 1];
    w.password = sp_str(argv[optind + 3]);
    if (more)
        w.options = KRB_FLAG(OPT_FORWARDABLE) | KRB_FLAG(OPT_RENEWABLE);
    if (argc - optind > 4) {
        w.goal = by_as ? CLIENT_SERVICE_BY_AS : CLIENT_SERVICE;
        if (!krb_parse_name(sp_str(argv[optind + 4]), &names, &w.service, &none, &e))
            return 2;
    }
    if (change_port && next) {
        w.goal = CLIENT_SERVICE_BY_AS;
        if (!krb_parse_name(SP_LIT("kadmin/changepw"), &names, &w.service, &none, &e))
            return 2;
        return change(c, run(c, &p, &w, &mem), change_port, next, target, &names);
    }
    cl = run(c, &p, &w, &mem);
    show("tgt", client_tgt(cl));
    show("service", client_service(cl));
    printf("proof: %s, rounds: %u, offset: %lld\n", client_preauth(cl), client_rounds(cl),
           (long long)client_offset_s(cl));
    if (more)
        again(c, &p, cl);
    client_wipe(cl);
    crypto_free(c);
    return 0;
}
