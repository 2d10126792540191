/* SPDX-License-Identifier: MIT */
/* What the courier is given: the realms of the configuration, and the relay's certificate with its key, each
 * in a file in memory, because it may open none itself. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/keeper.h"

#define PEM_MAX (1u << 20)

struct text {
    uint8_t *p;
    size_t n;
};

static bool file_failed(const char *path, struct sp_err *e)
{
    return sp_fail(e, SP_EREFUSED, errno == EACCES ? ADMIN_NOT_PERMITTED : 0, "%.200s: %s", path,
                   strerror(errno));
}

static bool read_all(int fd, struct text *t)
{
    ssize_t n;

    while (t->n < PEM_MAX && (n = read(fd, t->p + t->n, PEM_MAX - t->n)) > 0)
        t->n += (size_t)n;
    return t->n < PEM_MAX;
}

static bool read_text(const char *path, struct text *t, struct sp_err *e)
{
    int fd;
    bool ok;

    if (!path[0])
        return true;
    t->p = malloc(PEM_MAX);
    if (!t->p)
        return sp_fail(e, SP_ENOMEM, 0, "no memory for %.100s", path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return file_failed(path, e);
    ok = read_all(fd, t) || sp_fail(e, SP_EINPUT, 0, "%.200s: longer than 1 MiB", path);
    (void)close(fd);
    return ok;
}

static void forget_text(struct text *t)
{
    if (t->p)
        sp_wipe(t->p, t->n);
    free(t->p);
}

static bool put(int fd, const void *p, size_t n, struct sp_err *e)
{
    const uint8_t *at = p;
    ssize_t done;

    for (; n; at += done, n -= (size_t)done)
        if ((done = write(fd, at, n)) <= 0)
            return sp_fail(e, SP_EBACKEND, errno, "a file in memory: %s", strerror(errno));
    return true;
}

static int new_file(struct sp_err *e)
{
    int fd = memfd_create("sallyport-courier", MFD_CLOEXEC);

    if (fd < 0)
        (void)sp_fail(e, SP_EBACKEND, errno, "a file in memory: %s", strerror(errno));
    return fd;
}

static bool make_realms(const struct admin_paths *p, struct supply *s, struct sp_err *e)
{
    if (!admin_read_realms(p, &s->realms, e))
        return false;
    s->realms_fd = new_file(e);
    return s->realms_fd >= 0 && put(s->realms_fd, s->realms.v, s->realms.count * sizeof *s->realms.v, e);
}

/* Only read here: the keeper's OpenSSL knows no certificates. The courier says what is wrong with them, and
 * goes on with those of before. */
static bool make_certificate(const struct admin_config *c, struct supply *s, struct sp_err *e)
{
    struct text t[3] = {{0}};
    bool ok;

    if (!c->relay_certificate[0])
        return true;
    ok = read_text(c->relay_certificate, &t[0], e) && read_text(c->relay_key, &t[1], e) &&
         read_text(c->relay_client_ca, &t[2], e) && (s->certificate_fd = new_file(e)) >= 0;
    for (int i = 0; i < 3; i++) {
        ok = ok && put(s->certificate_fd, t[i].p, t[i].n, e);
        forget_text(&t[i]);
    }
    s->chain_n = (uint32_t)t[0].n;
    s->key_n = (uint32_t)t[1].n;
    s->client_ca_n = (uint32_t)t[2].n;
    return ok;
}

static bool speaks_https(const struct admin_realms *all)
{
    for (uint32_t i = 0; i < all->count; i++) {
        const struct admin_realm *r = &all->v[i];
        if (r->discover >= ADMIN_URI)
            return true;
        for (uint32_t j = 0; j < r->target_count; j++)
            if (r->target[j].rung != ADMIN_NATIVE)
                return true;
    }
    return false;
}

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
    for (const uint8_t *at = p; n; n--)
        h = (h ^ *at++) * 0x100000001b3;
    return h;
}

/* Names of files, and which file is there. */
static uint64_t stamp_of(const struct admin_config *c, const struct supply *s)
{
    const bool needs[] = {s->realms.count > 0, s->needs_client,
                          c->relay_listen_count > 0 || c->relay_plain[0]};

    const char *const files[] = {c->courier_ca, c->courier_certificate, "/etc/resolv.conf"};
    uint64_t h = 0xcbf29ce484222325;

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct stat st = {0};
        h = mix(h, files[i], strlen(files[i]) + 1);
        if (files[i][0] && stat(files[i], &st) == 0) {
            h = mix(h, &st.st_ino, sizeof st.st_ino);
            h = mix(h, &st.st_mtim, sizeof st.st_mtim);
        }
    }
    h = mix(h, c->courier_resolver, strlen(c->courier_resolver) + 1);
    h = mix(h, &c->courier_in_flight, sizeof c->courier_in_flight);
    h = mix(h, &c->courier_per_source, sizeof c->courier_per_source);
    h = mix(h, &c->courier_all_ms, sizeof c->courier_all_ms);
    h = mix(h, &c->courier_rung_ms, sizeof c->courier_rung_ms);
    h = mix(h, &c->courier_hedge_ms, sizeof c->courier_hedge_ms);
    h = mix(h, &c->courier_pin_s, sizeof c->courier_pin_s);
    h = mix(h, &c->relay_max, sizeof c->relay_max);
    h = mix(h, &c->relay_per_source, sizeof c->relay_per_source);
    h = mix(h, needs, sizeof needs);
    return mix(h, c->courier_proxy, strlen(c->courier_proxy) + 1);
}

bool supply_make(const struct admin_paths *p, struct supply *out, struct sp_err *e)
{
    struct admin_config *c = calloc(1, sizeof *c);
    bool ok;

    *out = (struct supply){.realms_fd = -1, .certificate_fd = -1};
    if (!c)
        return sp_fail(e, SP_ENOMEM, 0, "no memory for the configuration");
    ok = admin_read_config(p, c, e) && make_realms(p, out, e) && make_certificate(c, out, e);
    if (ok) {
        out->needs_client = speaks_https(&out->realms);
        out->stamp = stamp_of(c, out);
    } else {
        supply_close(out);
    }
    free(c);
    return ok;
}

void supply_close(struct supply *s)
{
    if (s->realms_fd >= 0)
        (void)close(s->realms_fd);
    if (s->certificate_fd >= 0)
        (void)close(s->certificate_fd);
    admin_free_realms(&s->realms);
    *s = (struct supply){.realms_fd = -1, .certificate_fd = -1};
}
