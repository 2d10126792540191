/* SPDX-License-Identifier: MIT */
/* Credential caches of type FILE and DIR, and the way to the one that is meant. */
#include "host/ccache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/secret.h"
#include "host/ccache_internal.h"
#include "krb/name.h"

static bool failed(struct sp_err *e, const char *what, const char *path)
{
    int why = errno;

    return sp_fail(e, why == ENOSPC || why == EDQUOT || why == EFBIG ? SP_EFULL : SP_EBACKEND, 0,
                   "%.80s cannot be %s: %s; nothing was changed", path, what, strerror(why));
}

/* ---- which one ---- */

static const struct {
    const char *prefix;
    enum host_ccache_kind kind;
} kinds[] = {
    {"FILE",    HOST_CCACHE_FILE   },
    {"DIR",     HOST_CCACHE_DIR    },
    {"KEYRING", HOST_CCACHE_KEYRING},
    {"KCM",     HOST_CCACHE_KCM    },
};

/* A path may hold a colon; a type may not hold a slash. */
static size_t type_length(const char *name)
{
    size_t n = strcspn(name, ":/");

    return name[n] == ':' ? n : 0;
}

static bool take_name(const char *name, struct host_ccache *out, struct sp_err *e)
{
    size_t n = type_length(name);
    const char *rest = name + (n ? n + 1 : 0);

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (n ? strlen(kinds[i].prefix) != n || strncmp(name, kinds[i].prefix, n) != 0 : i > 0)
            continue;
        if ((!*rest && kinds[i].kind != HOST_CCACHE_KCM) || strlen(rest) >= sizeof out->rest)
            return sp_fail(e, SP_EINPUT, 0, "the credential cache's name is empty or too long; see --cache");
        out->kind = kinds[i].kind;
        snprintf(out->rest, sizeof out->rest, "%s", rest);
        snprintf(out->name, sizeof out->name, "%s:%s", kinds[i].prefix, rest);
        return true;
    }
    return sp_fail(e, SP_EREFUSED, 0,
                   "credential caches of type %.*s are not written; "
                   "name a FILE:, DIR:, KEYRING: or KCM: cache with --cache",
                   (int)(n < 20 ? n : 20), name);
}

static bool expand_one(struct sp_text *t, struct sp_span var, struct sp_err *e)
{
    const struct passwd *pw;

    if (sp_same(var, SP_LIT("uid")) || sp_same(var, SP_LIT("USERID"))) {
        sp_text_uint(t, getuid());
    } else if (sp_same(var, SP_LIT("euid"))) {
        sp_text_uint(t, geteuid());
    } else if (sp_same(var, SP_LIT("TEMP"))) {
        const char *dir = secure_getenv("TMPDIR");

        sp_text_str(t, dir ? dir : "/tmp");
    } else if (sp_same(var, SP_LIT("username"))) {
        pw = getpwuid(geteuid());
        if (!pw)
            return sp_fail(e, SP_ENOTFOUND, 0,
                           "uid %u has no name, and default_ccache_name asks for it; use --cache",
                           (unsigned)geteuid());
        sp_text_str(t, pw->pw_name);
    } else if (!sp_same(var, SP_LIT("null"))) {
        return sp_fail(e, SP_EREFUSED, 0,
                       "default_ccache_name in krb5.conf holds %%{%.*s}, unknown here; use --cache",
                       (int)(var.n < 40 ? var.n : 40), (const char *)var.p);
    }
    return true;
}

/* %{uid} and its like, as krb5.conf(5) lists them. */
static bool expand(const char *in, char *out, size_t max, struct sp_err *e)
{
    struct sp_text t = sp_text(out, max);

    while (*in) {
        const char *close = strncmp(in, "%{", 2) == 0 ? strchr(in, '}') : NULL;

        if (!close) {
            sp_text_add(&t, sp_span(in++, 1));
            continue;
        }
        if (!expand_one(&t, sp_span(in + 2, (size_t)(close - in - 2)), e))
            return false;
        in = close + 1;
    }
    return !t.cut || sp_fail(e, SP_EINPUT, 0, "default_ccache_name in krb5.conf is too long; use --cache");
}

bool host_find_ccache(const char *given, struct host_ccache *out, struct sp_err *e)
{
    char raw[HOST_CCACHE_MAX], name[HOST_CCACHE_MAX];

    *out = (struct host_ccache){0};
    if (!given || !*given)
        given = secure_getenv("KRB5CCNAME");
    if (given && *given)
        return take_name(given, out, e);
    if (!host_find_setting("default_ccache_name", raw, sizeof raw))
        snprintf(raw, sizeof raw, "FILE:/tmp/krb5cc_%%{uid}");
    return expand(raw, name, sizeof name, e) && take_name(name, out, e);
}

/* ---- files ---- */

/* Whoever can put a link or a file of his own there would choose what is overwritten, or read what is
 * written. */
static bool check_file(const char *path, const struct stat *st, struct sp_err *e)
{
    if (S_ISLNK(st->st_mode))
        return sp_fail(e, SP_EREFUSED, 0,
                       "%.70s is a symbolic link; nothing was changed, name another --cache", path);
    if (!S_ISREG(st->st_mode))
        return sp_fail(e, SP_EREFUSED, 0,
                       "%.70s is no regular file; nothing was changed, name another --cache", path);
    if (st->st_uid != geteuid())
        return sp_fail(e, SP_EREFUSED, 0,
                       "%.60s belongs to uid %u; nothing was changed, name another --cache", path,
                       (unsigned)st->st_uid);
    return true;
}

static bool read_rest(int fd, const char *path, struct sp_arena *mem, struct sp_span *out, struct sp_err *e)
{
    struct stat st = {0};

    if (fstat(fd, &st) != 0)
        return failed(e, "looked at", path);
    if (!check_file(path, &st, e))
        return false;
    if (st.st_size > (off_t)KRB_CCACHE_MAX)
        return sp_fail(e, SP_EREFUSED, 0, "%.80s is too large for a credential cache; nothing was changed",
                       path);
    uint8_t *p = sp_alloc(mem, (size_t)st.st_size, e);
    if (!p)
        return false;
    ssize_t got = read(fd, p, (size_t)st.st_size);
    if (got < 0)
        return failed(e, "read", path);
    *out = sp_span(p, (size_t)got);
    return true;
}

static bool read_file(const char *path, struct sp_arena *mem, struct sp_span *out, struct sp_err *e)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0 && errno == ELOOP)
        return sp_fail(e, SP_EREFUSED, 0,
                       "%.70s is a symbolic link; nothing was changed, name another --cache", path);
    if (fd < 0 && errno == ENOENT)
        return sp_fail(e, SP_ENOTFOUND, 0, "there is no credential cache %.80s; run 'sallyport login'", path);
    if (fd < 0)
        return failed(e, "opened", path);
    bool ok = read_rest(fd, path, mem, out, e);
    close(fd);
    return ok;
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

static bool random_tail(char out[9], struct sp_err *e)
{
    struct sp_text t = sp_text(out, 9);
    uint8_t tag[4];

    if (getrandom(tag, sizeof tag, 0) != (ssize_t)sizeof tag)
        return sp_fail(e, SP_EBACKEND, 0, "the system gives no random bytes; nothing was changed");
    sp_text_hex(&t, sp_span(tag, sizeof tag));
    return true;
}

/* A temporary file beside path, then a rename: nobody ever sees half a cache, and a full disk leaves the old
 * one. */
static bool replace_file(const char *path, struct sp_span data, struct sp_err *e)
{
    char temporary[PATH_MAX + 16], tail[9];
    struct stat st;

    if (lstat(path, &st) == 0 ? !check_file(path, &st, e) : errno != ENOENT && !failed(e, "looked at", path))
        return false;
    if (!random_tail(tail, e))
        return false;
    snprintf(temporary, sizeof temporary, "%s.%s", path, tail);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed(e, "made", path);
    bool ok = (fchmod(fd, 0600) == 0 && write_all(fd, data) && fsync(fd) == 0) || failed(e, "written", path);
    ok = (close(fd) == 0 || failed(e, "written", path)) && ok;
    ok = ok && (rename(temporary, path) == 0 || failed(e, "replaced", path));
    if (!ok)
        (void)unlink(temporary);
    return ok;
}

/* ---- directories: MIT's layout, a file `primary` that names one of the caches tkt* beside it ---- */

static bool is_cache_name(const char *name)
{
    return strncmp(name, "tkt", 3) == 0 && !strchr(name, '/') && strlen(name) < 64;
}

static void read_primary(const char *dir, char out[64])
{
    char path[PATH_MAX + 16], line[80] = "";

    snprintf(out, 64, "tkt");
    snprintf(path, sizeof path, "%s/primary", dir);
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return;
    if (read(fd, line, sizeof line - 1) > 0) {
        line[strcspn(line, "\n")] = 0;
        if (is_cache_name(line))
            snprintf(out, 64, "%s", line);
    }
    close(fd);
}

/* The path of the cache that the name stands for: DIR:dir is the primary one of a collection, DIR::path one
 * of them. */
static bool file_of(const struct host_ccache *cc, char path[PATH_MAX], struct sp_err *e)
{
    char primary[64];
    int n;

    if (cc->kind == HOST_CCACHE_FILE) {
        n = snprintf(path, PATH_MAX, "%s", cc->rest);
    } else if (cc->rest[0] == ':') {
        n = snprintf(path, PATH_MAX, "%s", cc->rest + 1);
    } else {
        read_primary(cc->rest, primary);
        n = snprintf(path, PATH_MAX, "%s/%s", cc->rest, primary);
    }
    return n < PATH_MAX - 16 ||
           sp_fail(e, SP_EINPUT, 0, "the credential cache's name is too long; see --cache");
}

static bool check_directory(const char *dir, struct sp_err *e)
{
    struct stat st;

    if (lstat(dir, &st) != 0)
        return (errno == ENOENT && mkdir(dir, 0700) == 0) || failed(e, "made", dir);
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022) != 0)
        return sp_fail(e, SP_EREFUSED, 0,
                       "%.60s is no directory that only you can write to; nothing was changed", dir);
    return true;
}

static bool is_collection(const struct host_ccache *cc)
{
    return cc->kind == HOST_CCACHE_DIR && cc->rest[0] != ':';
}

/* ---- whose it is ---- */

static bool is_of(const struct krb_ccache *c, const struct krb_name *who, struct sp_span realm)
{
    return krb_same_name(&c->principal, who) && sp_same(c->realm, realm);
}

enum found { FOUND_NONE, FOUND_SAME, FOUND_OTHER, FOUND_BROKEN, FOUND_FAILED };

static enum found look(const struct host_ccache *cc, const struct krb_name *who, struct sp_span realm,
                       struct sp_arena *mem, struct krb_ccache *had, struct sp_err *e)
{
    struct sp_err why = {0};

    if (host_read_ccache(cc, mem, had, &why))
        return is_of(had, who, realm) ? FOUND_SAME : FOUND_OTHER;
    if (why.kind == SP_ENOTFOUND)
        return FOUND_NONE;
    if (why.kind == SP_EINPUT)
        return FOUND_BROKEN;
    *e = why;
    return FOUND_FAILED;
}

static bool may_write(const struct host_ccache *cc, enum found f, const struct krb_ccache *had,
                      enum host_ccache_others others, struct sp_err *e)
{
    char who[100];
    struct sp_text t = sp_text(who, sizeof who);

    if (f == FOUND_FAILED)
        return false;
    if (f == FOUND_NONE || f == FOUND_SAME || others == HOST_CCACHE_OVERWRITE)
        return true;
    if (f == FOUND_BROKEN)
        return sp_fail(e, SP_EREFUSED, 0,
                       "%.60s holds something else than tickets; use --force or another --cache", cc->name);
    krb_text_principal(&t, &had->principal, had->realm);
    return sp_fail(e, SP_EEXIST, 0, "%.50s holds tickets of %.40s; use --force or another --cache", cc->name,
                   who);
}

bool host_check_ccache(const struct host_ccache *cc, const struct krb_name *who, struct sp_span realm,
                       enum host_ccache_others others, struct sp_arena *mem, struct sp_err *e)
{
    struct krb_ccache had = {0};

    if (is_collection(cc))
        return check_directory(cc->rest, e);
    return may_write(cc, look(cc, who, realm, mem, &had, e), &had, others, e);
}

bool host_read_ccache(const struct host_ccache *cc, struct sp_arena *mem, struct krb_ccache *out,
                      struct sp_err *e)
{
    char path[PATH_MAX];
    struct sp_span file = {0};

    if (cc->kind == HOST_CCACHE_KEYRING)
        return host_read_keyring(cc, mem, out, e);
    if (cc->kind == HOST_CCACHE_KCM)
        return host_read_kcm(cc, mem, out, e);
    if (!file_of(cc, path, e) || !read_file(path, mem, &file, e))
        return false;
    if (file.n == 0) /* made by somebody, and never filled */
        return sp_fail(e, SP_ENOTFOUND, 0, "%.80s is empty; run 'sallyport login'", path);
    struct sp_err why = {0};
    return krb_get_ccache(file, mem, out, &why) ||
           sp_fail_at(e, SP_EINPUT, 0, why.at, "%.60s: %.80s", path, why.text);
}

static bool name_one(struct host_ccache *out, const char *dir, const char *file, struct sp_err *e)
{
    int n = snprintf(out->rest, sizeof out->rest, ":%s/%s", dir, file);

    out->kind = HOST_CCACHE_DIR;
    snprintf(out->name, sizeof out->name, "DIR:%s", out->rest);
    return (n > 0 && (size_t)n < sizeof out->rest) ||
           sp_fail(e, SP_EINPUT, 0, "the cache's name is too long");
}

static bool open_place(const char *dir, struct host_ccache *out, struct sp_err *e)
{
    char name[64] = "tkt", tail[9];

    if (!random_tail(tail, e))
        return false;
    snprintf(name, sizeof name, "tkt%s", tail);
    return name_one(out, dir, name, e);
}

/* The primary cache, when it is free or of the same principal; else that principal's; else another place. */
static bool choose(const char *dir, const struct krb_ccache *what, struct sp_arena *mem,
                   struct host_ccache *out, struct sp_err *e)
{
    struct krb_ccache had = {0};
    struct dirent *d;
    char primary[64];
    bool found = false;

    read_primary(dir, primary);
    if (!name_one(out, dir, primary, e))
        return false;
    enum found f = look(out, &what->principal, what->realm, mem, &had, e);
    if (f == FOUND_NONE || f == FOUND_SAME || f == FOUND_FAILED)
        return f != FOUND_FAILED;
    DIR *all = opendir(dir);
    while (all && !found && (d = readdir(all)))
        found = is_cache_name(d->d_name) && name_one(out, dir, d->d_name, e) &&
                look(out, &what->principal, what->realm, mem, &had, e) == FOUND_SAME;
    if (all)
        closedir(all);
    return found || (sp_ok(e) && open_place(dir, out, e));
}

static bool write_collection(const struct host_ccache *cc, const struct krb_ccache *what,
                             struct sp_span bytes, struct sp_arena *mem, struct host_ccache *written,
                             struct sp_err *e)
{
    char path[PATH_MAX + 16], line[80];

    if (!check_directory(cc->rest, e) || !choose(cc->rest, what, mem, written, e) ||
        !replace_file(written->rest + 1, bytes, e))
        return false;
    snprintf(path, sizeof path, "%s/primary", cc->rest);
    snprintf(line, sizeof line, "%s\n", strrchr(written->rest, '/') + 1);
    return replace_file(path, sp_str(line), e);
}

bool host_write_ccache(const struct host_ccache *cc, const struct krb_ccache *what,
                       enum host_ccache_others others, struct sp_arena *mem, struct host_ccache *written,
                       struct sp_err *e)
{
    char path[PATH_MAX];
    struct sp_span bytes;

    *written = *cc;
    if (!host_check_ccache(cc, &what->principal, what->realm, others, mem, e))
        return false;
    if (cc->kind == HOST_CCACHE_KEYRING)
        return host_write_keyring(cc, what, mem, e);
    if (cc->kind == HOST_CCACHE_KCM)
        return host_write_kcm(cc, what, mem, e);
    if (!krb_put_ccache(what, mem, &bytes, e))
        return false;
    if (is_collection(cc))
        return write_collection(cc, what, bytes, mem, written, e);
    return file_of(cc, path, e) && replace_file(path, bytes, e);
}
