/* SPDX-License-Identifier: MIT */
/* Credential caches that a daemon keeps (type KCM: Heimdal's kcm, sssd). Over its UNIX socket goes a length
 * of four bytes, then protocol 2.0, an operation and its arguments; back come a length, the transport's code,
 * the operation's code and a result. Tickets and principals are the bytes of a cache file. Cache names are
 * KCM:NAME; KCM: alone is what the daemon calls the default. */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "host/ccache_internal.h"
#include "host/dial.h"

#define SOCKET "/var/run/.heim_org.h5l.kcm-socket"
#define PATIENCE_US (5 * INT64_C(1000000))
#define NAME_LENGTH 256
#define UUID 16
#define NOT_FOUND (-1765328243) /* KRB5_CC_NOTFOUND */
#define NO_FILE (-1765328189)   /* KRB5_FCC_NOFILE */

enum operation {
    INITIALIZE = 4,
    DESTROY = 5,
    STORE = 6,
    GET_PRINCIPAL = 8,
    GET_CRED_UUID_LIST = 9,
    GET_CRED_BY_UUID = 10,
    GET_DEFAULT_CACHE = 20,
};

struct kcm {
    int fd;
    struct sp_arena *mem;
    const char *name; /* of the cache, for people */
    int32_t code;     /* of the last answer */
    int64_t until_us;
};

static bool lost(const struct kcm *k, struct sp_err *e)
{
    return sp_fail(e, SP_EBACKEND, 0, "the daemon that keeps %.40s does not answer: %s; name another --cache",
                   k->name, strerror(errno));
}

static bool open_daemon(struct kcm *k, struct sp_err *e)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    char path[4096];

    k->until_us = host_mono_us() + PATIENCE_US;
    if (!host_find_setting("kcm_socket", path, sizeof path))
        snprintf(path, sizeof path, "%s", SOCKET);
    if (snprintf(to.sun_path, sizeof to.sun_path, "%s", path) >= (int)sizeof to.sun_path)
        return sp_fail(e, SP_EBACKEND, 0,
                       "kcm_socket in krb5.conf is longer than %zu bytes; name another --cache",
                       sizeof to.sun_path - 1);
    k->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return (k->fd >= 0 && connect(k->fd, (const struct sockaddr *)&to, sizeof to) == 0) || lost(k, e);
}

static uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put_be32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static bool receive(struct kcm *k, struct sp_span *out, struct sp_err *e)
{
    uint8_t head[8], *p;

    if (!host_receive_all(k->fd, head, sizeof head, k->until_us))
        return lost(k, e);
    uint32_t n = get_be32(head);
    if (n > KRB_CCACHE_MAX || n < 4)
        return sp_fail(e, SP_EINPUT, 0, "the daemon that keeps %.40s answers %u bytes; name another --cache",
                       k->name, n);
    p = sp_alloc(k->mem, n, e);
    if (!p)
        return false;
    if (!host_receive_all(k->fd, p, n, k->until_us))
        return lost(k, e);
    uint32_t transport = get_be32(head + 4);
    k->code = (int32_t)(transport ? transport : get_be32(p));
    *out = sp_span(p + 4, n - 4);
    return true;
}

/* What the daemon says to it; k->code is for the caller to judge. cache NULL: the operation is about none. */
static bool ask(struct kcm *k, enum operation what, const char *cache, struct sp_span more,
                struct sp_span *out, struct sp_err *e)
{
    size_t name_n = cache ? strlen(cache) + 1 : 0, n = 8 + name_n + more.n;
    uint8_t *p = sp_alloc(k->mem, n, e);

    if (!p)
        return false;
    put_be32(p, (uint32_t)n - 4);
    put_be32(p + 4, 2u << 24 | (uint32_t)what);
    if (name_n)
        memcpy(p + 8, cache, name_n);
    if (more.n)
        memcpy(p + 8 + name_n, more.p, more.n);
    return (host_send_all(k->fd, sp_span(p, n), k->until_us) || lost(k, e)) && receive(k, out, e);
}

static bool refused(const struct kcm *k, struct sp_err *e)
{
    return sp_fail(e, SP_EREFUSED, 0,
                   "the daemon that keeps %.40s refuses with code %d; name another --cache", k->name,
                   k->code);
}

static bool find_name(struct kcm *k, const struct host_ccache *cc, char name[NAME_LENGTH], struct sp_err *e)
{
    struct sp_span told;

    if (cc->rest[0]) {
        snprintf(name, NAME_LENGTH, "%s", cc->rest);
        return strlen(cc->rest) < NAME_LENGTH ||
               sp_fail(e, SP_EINPUT, 0, "the cache's name is too long; see --cache");
    }
    if (!ask(k, GET_DEFAULT_CACHE, NULL, sp_span(NULL, 0), &told, e))
        return false;
    if (k->code != 0 || told.n < 2 || told.n > NAME_LENGTH || told.p[told.n - 1] != 0)
        return refused(k, e);
    snprintf(name, NAME_LENGTH, "%s", (const char *)told.p);
    return true;
}

static bool append(uint8_t *all, size_t *n, struct sp_span more, struct sp_err *e)
{
    if (more.n > KRB_CCACHE_MAX - *n)
        return sp_fail(e, SP_EFULL, 0, "the credential cache is too large; run 'sallyport login'");
    memcpy(all + *n, more.p, more.n);
    *n += more.n;
    return true;
}

static bool read_tickets(struct kcm *k, const char *name, uint8_t *all, size_t *n, struct sp_err *e)
{
    struct sp_span list, one;

    if (!ask(k, GET_CRED_UUID_LIST, name, sp_span(NULL, 0), &list, e))
        return false;
    for (size_t at = 0; k->code == 0 && at + UUID <= list.n && at < UUID * KRB_CCACHE_CREDS_MAX; at += UUID) {
        if (!ask(k, GET_CRED_BY_UUID, name, sp_span(list.p + at, UUID), &one, e))
            return false;
        if (k->code != 0 && k->code != NOT_FOUND) /* it may have ended in between */
            return refused(k, e);
        if (k->code == 0 && !append(all, n, one, e))
            return false;
        k->code = 0;
    }
    return k->code == 0 || refused(k, e);
}

static bool read_all(struct kcm *k, const struct host_ccache *cc, struct krb_ccache *out, struct sp_err *e)
{
    static const uint8_t header[4] = {5, 4, 0, 0};
    char name[NAME_LENGTH];
    struct sp_span principal;
    size_t n = sizeof header;

    if (!open_daemon(k, e) || !find_name(k, cc, name, e) ||
        !ask(k, GET_PRINCIPAL, name, sp_span(NULL, 0), &principal, e))
        return false;
    if (k->code == NO_FILE || k->code == NOT_FOUND || (k->code == 0 && principal.n == 0))
        return sp_fail(e, SP_ENOTFOUND, 0, "there is no credential cache %.80s; run 'sallyport login'",
                       cc->name);
    if (k->code != 0)
        return refused(k, e);
    uint8_t *all = sp_alloc(k->mem, KRB_CCACHE_MAX, e);
    if (!all)
        return false;
    memcpy(all, header, n);
    return append(all, &n, principal, e) && read_tickets(k, name, all, &n, e) &&
           krb_get_ccache(sp_span(all, n), k->mem, out, e);
}

bool host_read_kcm(const struct host_ccache *cc, struct sp_arena *mem, struct krb_ccache *out,
                   struct sp_err *e)
{
    struct kcm k = {.fd = -1, .mem = mem, .name = cc->name};
    bool ok = read_all(&k, cc, out, e);

    if (k.fd >= 0)
        close(k.fd);
    return ok;
}

static bool store(struct kcm *k, const char *name, const struct krb_ccache *what, struct sp_err *e)
{
    struct sp_span bytes, none;

    for (uint32_t i = 0; i < what->count; i++) {
        if (!krb_put_credential(&what->v[i], k->mem, &bytes, e) || !ask(k, STORE, name, bytes, &none, e))
            return false;
        if (k->code != 0)
            return refused(k, e);
    }
    return true;
}

static bool write_all(struct kcm *k, const struct host_ccache *cc, const struct krb_ccache *what,
                      struct sp_err *e)
{
    char name[NAME_LENGTH];
    struct sp_span principal, none;
    struct sp_err ignored = {0};

    if (!open_daemon(k, e) || !find_name(k, cc, name, e) ||
        !host_principal_bytes(what, k->mem, &principal, e) || !ask(k, INITIALIZE, name, principal, &none, e))
        return false;
    if (k->code != 0)
        return refused(k, e);
    if (store(k, name, what, e))
        return true;
    (void)!ask(k, DESTROY, name, sp_span(NULL, 0), &none, &ignored); /* no half of a cache */
    return false;
}

bool host_write_kcm(const struct host_ccache *cc, const struct krb_ccache *what, struct sp_arena *mem,
                    struct sp_err *e)
{
    struct kcm k = {.fd = -1, .mem = mem, .name = cc->name};
    bool ok = write_all(&k, cc, what, e);

    if (k.fd >= 0)
        close(k.fd);
    return ok;
}
