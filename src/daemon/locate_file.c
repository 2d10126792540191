/* SPDX-License-Identifier: MIT */
#include "daemon/locate_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PATH_SIZE 4352

int64_t locate_file_now_us(void)
{
    struct timespec t;

    return clock_gettime(CLOCK_BOOTTIME, &t) == 0 ? (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000 : 0;
}

/* ::ffff:0.0.0.0 and the like are not what anybody writes. */
static bool to_loopback(const struct net_address *a, struct locate_door *d)
{
    static const uint8_t any[16], v4[4] = {127, 0, 0, 1}, v6[16] = {[15] = 1};
    struct sp_span ip = net_address_bytes(a);

    if (ip.n != sizeof v4 && ip.n != sizeof v6)
        return false;
    if (sp_same(ip, sp_span(any, ip.n)))
        ip = ip.n == sizeof v4 ? sp_span(v4, sizeof v4) : sp_span(v6, sizeof v6);
    else if (!net_is_loopback(a))
        return false;
    d->n = (uint8_t)ip.n;
    memcpy(d->ip, ip.p, ip.n);
    d->port = net_port(a);
    return d->port != 0;
}

static bool is_same_door(const struct locate_door *a, const struct locate_door *b)
{
    return a->service == b->service && a->transport == b->transport && a->port == b->port && a->n == b->n &&
           memcmp(a->ip, b->ip, a->n) == 0;
}

void locate_file_add_door(struct locate_realm *r, enum locate_service service,
                          enum locate_transport transport, const struct net_address *listener)
{
    struct locate_door d = {.service = service, .transport = transport};

    if (r->door_count == LOCATE_DOORS_MAX || !to_loopback(listener, &d))
        return;
    for (uint32_t i = 0; i < r->door_count; i++)
        if (is_same_door(&r->door[i], &d))
            return;
    r->door[r->door_count++] = d;
}

static bool make_path(char *out, const char *directory, const char *name, struct sp_err *e)
{
    int n = snprintf(out, PATH_SIZE, "%s/%s", directory, name);

    return (n > 0 && n < PATH_SIZE) || sp_fail(e, SP_EINPUT, 0, "%s: the path is too long", directory);
}

static bool fail_at_file(struct sp_err *e, const char *path)
{
    return sp_fail(e, errno == ENOSPC ? SP_EFULL : SP_EBACKEND, 0, "%s: %m", path);
}

static bool write_all(int fd, struct sp_span bytes, const char *path, struct sp_err *e)
{
    while (bytes.n > 0) {
        ssize_t n = write(fd, bytes.p, bytes.n);

        if (n < 0 && errno != EINTR)
            return fail_at_file(e, path);
        if (n > 0)
            bytes = sp_span(bytes.p + n, bytes.n - (size_t)n);
    }
    return true;
}

/* Locked before it has its name and before anybody may open it: whoever sees it sees the lock. The mode is
 * set last and by hand, whatever the umask says. */
static bool fill(int fd, struct sp_span bytes, const char *path, struct sp_err *e)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_OFD_SETLK, &lock) != 0)
        return fail_at_file(e, path);
    if (!write_all(fd, bytes, path, e))
        return false;
    return fchmod(fd, 0644) == 0 || fail_at_file(e, path);
}

static bool put_in_place(struct locate_file *f, const char *directory, struct sp_span bytes, struct sp_err *e)
{
    char path[PATH_SIZE], made[PATH_SIZE];

    if (!make_path(path, directory, LOCATE_FILE_NAME, e) ||
        !make_path(made, directory, LOCATE_FILE_NAME ".part", e))
        return false;
    (void)unlink(made); /* of a daemon that was killed in between */
    int fd = open(made, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_at_file(e, made);
    if (!fill(fd, bytes, made, e) || (rename(made, path) != 0 && !fail_at_file(e, path))) {
        close(fd);
        (void)unlink(made);
        return false;
    }
    if (f->fd >= 0)
        close(f->fd);
    f->fd = fd;
    return true;
}

bool locate_file_write(struct locate_file *f, const char *directory, const struct locate_realm *realms,
                       uint32_t count, struct sp_err *e)
{
    const struct locate_head head = {f->generation + 1, locate_file_now_us(), count};
    uint8_t *block = malloc(LOCATE_FILE_MAX);
    struct sp_span bytes;

    if (!block)
        return sp_fail(e, SP_ENOMEM, 0, "no memory for the locator's file");
    bool ok =
        locate_make(&head, realms, block, LOCATE_FILE_MAX, &bytes, e) && put_in_place(f, directory, bytes, e);
    free(block);
    if (ok)
        f->generation++;
    return ok;
}

void locate_file_remove(struct locate_file *f, const char *directory)
{
    char path[PATH_SIZE];
    struct sp_err e = {0};

    if (f->fd < 0)
        return;
    if (make_path(path, directory, LOCATE_FILE_NAME, &e))
        (void)unlink(path);
    close(f->fd);
    f->fd = -1;
}
