/* SPDX-License-Identifier: MIT */
#include "host/pins.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_FILE "/etc/sallyport/sallyport.conf"
#define CONFIG_DIR "/etc/sallyport/conf.d"
#define USER_FILE "/sallyport/pins"
#define LINE_MAX_N 1024
#define BLANK " \t\r\n"
#define SHOWN_MAX 60

struct looking {
    char path[SHOWN_MAX +
              1]; /* for people: a long one loses its beginning, the end is what tells files apart */
    FILE *f;
    uint32_t line;
    struct sp_span host;
    bool fresh_timestamp, fresh_old_mit; /* not yet set in this file */
    struct host_pin *pin;
    struct sp_err *e;
};

static void show(struct looking *l, const char *path)
{
    size_t n = strlen(path);

    snprintf(l->path, sizeof l->path, "%s", n > SHOWN_MAX ? path + n - SHOWN_MAX : path);
}

static bool is_meant(struct sp_span word, struct sp_span host)
{
    return host.n > 0 && (sp_same_nocase(word, host) || sp_same(word, SP_LIT("*")));
}

static struct sp_span next_word(const char **p, const char *apart)
{
    const char *from = *p + strspn(*p, apart);
    size_t n = strcspn(from, apart);

    *p = from + n;
    return sp_span(from, n);
}

/* ---- files ---- */

static bool failed(struct looking *l)
{
    return sp_fail(l->e, SP_EBACKEND, 0, "%s cannot be read: %s; nothing was changed", l->path,
                   strerror(errno));
}

/* Who can write here decides which hosts may see something to guess a password on. */
static bool is_ours(struct looking *l, const struct stat *st)
{
    if (!S_ISREG(st->st_mode))
        return sp_fail(l->e, SP_EREFUSED, 0, "%s is no regular file, so its pins are not believed; remove it",
                       l->path);
    if (st->st_uid != geteuid() && st->st_uid != 0)
        return sp_fail(l->e, SP_EREFUSED, 0,
                       "%s belongs to uid %u, so its pins are not believed; it must be yours or root's",
                       l->path, st->st_uid);
    return (st->st_mode & (S_IWGRP | S_IWOTH)) == 0 ||
           sp_fail(l->e, SP_EREFUSED, 0,
                   "others can write to %s, so its pins are not believed; run 'chmod go-w' on it", l->path);
}

static char *read_line(char *buf, int max, void *arg)
{
    struct looking *l = arg;
    char *got = fgets(buf, max, l->f);

    if (!got)
        return NULL;
    l->line++;
    if (!strchr(got, '\n') && !feof(l->f))
        (void)sp_fail(l->e, SP_EINPUT, 0, "%s:%u: a line longer than %d bytes; write several", l->path,
                      l->line, max - 2);
    return got;
}

typedef bool read_fn(struct looking *l);

/* excused: the reason for which a file that cannot be opened says nothing, besides that it is not there. */
static bool read_file(struct looking *l, const char *path, int excused, read_fn *read)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a pipe would wait for its writer */
    struct stat st;

    show(l, path);
    l->line = 0;
    l->fresh_timestamp = l->fresh_old_mit = true;
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == excused || failed(l);
    if (fstat(fd, &st) != 0 || !is_ours(l, &st) || !(l->f = fdopen(fd, "r"))) {
        close(fd);
        return sp_ok(l->e) ? failed(l) : false;
    }
    bool ok = read(l) && (!ferror(l->f) || failed(l));
    fclose(l->f);
    return ok && sp_ok(l->e);
}

/* ---- the administrator's ---- */

static void take_list(const char *value, struct sp_span host, bool *fresh, bool *named)
{
    if (*fresh)
        *named = false;
    *fresh = false;
    for (const char *p = value; *p;) {
        struct sp_span word = next_word(&p, " \t,");

        if (word.n > 0 && word.p[0] == '#') /* what follows is a comment */
            return;
        *named = *named || is_meant(word, host);
    }
}

static int take_key(void *arg, const char *section, const char *key, const char *value)
{
    struct looking *l = arg;

    if (strcmp(section, "client") != 0 || !value)
        return 1;
    if (strcmp(key, "allow-timestamp") == 0)
        take_list(value, l->host, &l->fresh_timestamp, &l->pin->timestamp);
    else if (strcmp(key, "old-mit") == 0)
        take_list(value, l->host, &l->fresh_old_mit, &l->pin->old_mit);
    return 1;
}

static bool read_config(struct looking *l)
{
    int line = ini_parse_stream(read_line, l, take_key, l);

    return line <= 0 ||
           sp_fail(l->e, SP_EINPUT, 0,
                   "%s:%d: neither [section] nor key = value; see 'sallyport config check'", l->path, line);
}

static int is_conf(const struct dirent *d)
{
    size_t n = strlen(d->d_name);

    return d->d_name[0] != '.' && n > 5 && strcmp(d->d_name + n - 5, ".conf") == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); /* whatever the locale */
}

static bool read_snippets(struct looking *l, const char *dir)
{
    struct dirent **v;
    int n = scandir(dir, &v, is_conf, by_name);
    bool ok = true;

    show(l, dir);
    if (n < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES || failed(l);
    for (int i = 0; i < n; i++) {
        char path[4600];

        snprintf(path, sizeof path, "%s/%s", dir, v[i]->d_name);
        ok = ok && read_file(l, path, EACCES, read_config);
        free(v[i]);
    }
    free(v);
    return ok;
}

static bool read_system(struct looking *l)
{
    const char *root = secure_getenv("SALLYPORT_ROOT");
    char file[4200], dir[4200];

    if (strlen(root ? root : "") > 4096)
        return true; /* no such path */
    snprintf(file, sizeof file, "%s" CONFIG_FILE, root ? root : "");
    snprintf(dir, sizeof dir, "%s" CONFIG_DIR, root ? root : "");
    return read_file(l, file, EACCES, read_config) && read_snippets(l, dir);
}

/* ---- the user's ---- */

static bool bad_line(struct looking *l, struct sp_span word, const char *why)
{
    return sp_fail(l->e, SP_EINPUT, 0, "%s:%u: %.*s%s; a line is HOST [allow-timestamp] [old-mit]", l->path,
                   l->line, (int)(word.n < 24 ? word.n : 24), (const char *)word.p, why);
}

static bool take_line(struct looking *l, const char *p)
{
    struct sp_span host = next_word(&p, BLANK), word;
    struct host_pin pin = {false, false};

    if (host.n == 0 || host.p[0] == '#')
        return true;
    while ((word = next_word(&p, BLANK)).n > 0 && word.p[0] != '#')
        if (sp_same(word, SP_LIT("allow-timestamp")))
            pin.timestamp = true;
        else if (sp_same(word, SP_LIT("old-mit")))
            pin.old_mit = true;
        else
            return bad_line(l, word, " is unknown");
    if (!pin.timestamp && !pin.old_mit)
        return bad_line(l, host, " is pinned to nothing");
    if (is_meant(host, l->host)) {
        l->pin->timestamp = l->pin->timestamp || pin.timestamp;
        l->pin->old_mit = l->pin->old_mit || pin.old_mit;
    }
    return true;
}

static bool read_lines(struct looking *l)
{
    char buf[LINE_MAX_N];

    while (sp_ok(l->e) && read_line(buf, sizeof buf, l))
        if (!sp_ok(l->e) || !take_line(l, buf))
            return false;
    return sp_ok(l->e);
}

/* In a program that has more rights than its caller the environment names nothing. */
static bool read_users(struct looking *l)
{
    const char *config = secure_getenv("XDG_CONFIG_HOME"), *home = secure_getenv("HOME");
    bool set = config && config[0] == '/';
    char path[4400];

    if (!set && (!home || home[0] != '/'))
        return true;
    if (snprintf(path, sizeof path, "%s%s" USER_FILE, set ? config : home, set ? "" : "/.config") >=
        (int)sizeof path)
        return true; /* no such path */
    return read_file(l, path, 0, read_lines);
}

bool host_find_pin(struct sp_span host, struct host_pin *out, struct sp_err *e)
{
    struct looking l = {.host = host, .pin = out, .e = e};

    *out = (struct host_pin){false, false};
    if (read_system(&l) && read_users(&l))
        return true;
    *out = (struct host_pin){false, false};
    return false;
}
