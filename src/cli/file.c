/* SPDX-License-Identifier: MIT */
/* Files that hold secrets, and the little encoding around them. */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool failed(struct sp_err *e, const char *what, const char *path)
{
    int why = errno;
    char safe[256];
    struct sp_text t = sp_text(safe, sizeof safe);

    sp_text_safe(&t, sp_str(path));
    if (why == EACCES || why == EPERM)
        return sp_fail(e, SP_EREFUSED, ADMIN_NOT_PERMITTED, "%.90s cannot be %s: %s", safe, what,
                       strerror(why));
    if (why == ENOENT || why == ENOTDIR)
        return sp_fail(e, SP_EBACKEND, 0, "%.60s cannot be %s: %s; make its directory first", safe, what,
                       strerror(why));
    return sp_fail(e, why == ENOSPC || why == EDQUOT ? SP_EFULL : SP_EBACKEND, 0, "%.90s cannot be %s: %s",
                   safe, what, strerror(why));
}

static bool write_all(int fd, struct sp_span data)
{
    while (data.n > 0) {
        ssize_t n = write(fd, data.p, data.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data = sp_span(data.p + n, data.n - (size_t)n);
    }
    return true;
}

bool cli_write_out(struct sp_span data, struct sp_err *e)
{
    return write_all(STDOUT_FILENO, data) || failed(e, "written", "standard output");
}

static bool find_owner(const char *owner, uid_t *uid, gid_t *gid, struct sp_err *e)
{
    const struct passwd *pw;

    *uid = geteuid();
    *gid = getegid();
    if (!owner)
        return true;
    pw = getpwnam(owner);
    if (!pw)
        return sp_fail(e, SP_ENOTFOUND, 0, "there is no user '%.40s' on this machine; see 'getent passwd'",
                       owner);
    *uid = pw->pw_uid;
    *gid = pw->pw_gid;
    return true;
}

/* Who owns the file that is there may have read the key in it already; a second reader makes two (decision
 * 62). */
static bool may_replace(const char *path, uid_t uid, struct sp_err *e)
{
    struct stat st;

    if (lstat(path, &st) != 0)
        return errno == ENOENT || failed(e, "looked at", path);
    if (!S_ISREG(st.st_mode))
        return sp_fail(e, SP_EREFUSED, 0, "%.90s is no regular file; name another one", path);
    if (st.st_uid != uid)
        return sp_fail(
            e, SP_EREFUSED, 0,
            "%.60s belongs to uid %u: one key would have two readers; rotate the key and remove it", path,
            (unsigned)st.st_uid);
    return true;
}

static bool fill(int fd, const char *path, uid_t uid, gid_t gid, struct sp_span data, struct sp_err *e)
{
    /* fchmod also empties the mask of an access list that the directory may hand down. */
    if (fchmod(fd, 0600) != 0 || (uid != geteuid() && fchown(fd, uid, gid) != 0))
        return failed(e, "given to its owner", path);
    if (!write_all(fd, data) || fsync(fd) != 0)
        return failed(e, "written", path);
    return true;
}

static void sync_directory(const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;

    if (n >= sizeof dir)
        return;
    memcpy(dir, path, n);
    dir[n] = 0;
    int fd = open(slash ? (n ? dir : "/") : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
}

bool cli_write_private(const char *path, const char *owner, struct sp_span data, struct sp_err *e)
{
    char temporary[PATH_MAX];
    uid_t uid;
    gid_t gid;
    uint8_t tag[8];

    if (!find_owner(owner, &uid, &gid, e) || !may_replace(path, uid, e))
        return false;
    struct sp_text t = sp_text(temporary, sizeof temporary);
    sp_rng_fill(admin_system_rng(), tag, sizeof tag);
    sp_text_fmt(&t, "%s.", path);
    sp_text_hex(&t, sp_span(tag, sizeof tag));
    if (t.cut)
        return sp_fail(e, SP_EINPUT, 0, "the file's name is too long; choose a shorter one");
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed(e, "made", path);
    bool ok = fill(fd, path, uid, gid, data, e);
    ok = (close(fd) == 0 || failed(e, "written", path)) && ok;
    ok = ok && (rename(temporary, path) == 0 || failed(e, "replaced", path));
    if (ok)
        sync_directory(path);
    else
        (void)unlink(temporary);
    return ok;
}

static char *read_descriptor(int fd, const char *path, size_t max, size_t *count, struct sp_err *e)
{
    size_t n = 0, cap = 0;
    char *b = NULL;

    for (;;) {
        if (n + 1 >= cap) {
            cap = cap ? cap * 2 : 65536;
            char *more = cap <= max * 2 ? realloc(b, cap) : NULL;
            if (!more) {
                free(b);
                (void)sp_fail(e, SP_EFULL, 0, "%.90s is larger than %zu bytes; it is not what is wanted here",
                              path, max);
                return NULL;
            }
            b = more;
        }
        ssize_t got = read(fd, b + n, cap - n - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            free(b);
            (void)failed(e, "read", path);
            return NULL;
        }
        if (got == 0)
            break;
        n += (size_t)got;
    }
    b[n] = 0;
    *count = n;
    return b;
}

static char *read_path(const char *path, size_t max, size_t *n, struct sp_err *e)
{
    if (strcmp(path, "-") == 0)
        return read_descriptor(STDIN_FILENO, "standard input", max, n, e);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ENOENT)
            (void)sp_fail(e, SP_ENOTFOUND, 0, "there is no file %.100s; look where it went", path);
        else
            (void)failed(e, "opened", path);
        return NULL;
    }
    char *text = read_descriptor(fd, path, max, n, e);
    close(fd);
    return text;
}

bool cli_no_keytab(const char *path, const struct sp_err *why, struct sp_err *e)
{
    if (why->kind != SP_EINPUT)
        return sp_fail(e, why->kind, why->proto, "%s", why->text);
    return sp_fail(e, SP_EINPUT, 0, "%.60s is no keytab (%.60s); name another with --keytab", path,
                   why->text);
}

char *cli_read_all(const char *path, size_t max, struct sp_err *e)
{
    size_t n;

    return read_path(path, max, &n, e);
}

uint8_t *cli_read_bytes(const char *path, size_t max, size_t *n, struct sp_err *e)
{
    return (uint8_t *)read_path(path, max, n, e);
}

bool cli_absolute_path(const char *path, char *out, size_t max, struct sp_err *e)
{
    char here[PATH_MAX] = "";
    struct sp_text t = sp_text(out, max);

    if (path[0] != '/' && !getcwd(here, sizeof here))
        return failed(e, "found", "the current directory");
    sp_text_fmt(&t, "%s%s%s", here, here[0] ? "/" : "", path);
    return !t.cut || sp_fail(e, SP_EINPUT, 0, "the path is too long; choose a shorter one");
}
