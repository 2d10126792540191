/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admin/private.h"

static bool absolute_root(const char *root, char *out, size_t max, struct sp_err *e)
{
    char cwd[2048];
    size_t n;
    int len;

    if (root[0] == '/' || root[0] == 0)
        len = snprintf(out, max, "%s", root);
    else if (getcwd(cwd, sizeof cwd))
        len = snprintf(out, max, "%s/%s", cwd, root);
    else
        return sp_fail(e, SP_EBACKEND, 0, "the working directory: %m");
    if (len < 0 || (size_t)len >= max)
        return sp_fail(e, SP_EINPUT, 0, "--root: the path is longer than %zu bytes", max - 1);
    for (n = strlen(out); n > 0 && out[n - 1] == '/'; n--)
        out[n - 1] = 0;
    return true;
}

bool admin_find_paths(const char *root, struct admin_paths *out, struct sp_err *e)
{
    struct admin_paths p = {0};

    if (!root)
        root = getenv("SALLYPORT_ROOT");
    if (!absolute_root(root ? root : "", p.root, sizeof p.root, e))
        return false;
    snprintf(p.config, sizeof p.config, "%s/etc/sallyport/sallyport.conf", p.root);
    snprintf(p.config_dir, sizeof p.config_dir, "%s/etc/sallyport/conf.d", p.root);
    snprintf(p.state, sizeof p.state, "%s/var/lib/sallyport", p.root);
    snprintf(p.run, sizeof p.run, "%s/run/sallyport", p.root);
    snprintf(p.log, sizeof p.log, "%s/var/log/sallyport", p.root);
    *out = p;
    return true;
}

/* A root that would fill the whole text is left for the reader to repeat. */
struct admin_command admin_command(const struct admin_paths *p, const char *verb)
{
    struct admin_command c;
    bool named = p->root[0] && strlen(p->root) <= 64;

    snprintf(c.text, sizeof c.text, "`sallyport%s%.64s %.30s`%s", named ? " --root " : "",
             named ? p->root : "", verb, p->root[0] && !named ? " with the same --root" : "");
    return c;
}

static bool make_one(const char *path, unsigned mode, struct sp_err *e)
{
    struct stat st;

    if (mkdir(path, mode) == 0)
        return chmod(path, mode) == 0 ||
               sp_fail(e, SP_EBACKEND, 0, "%s: %m", path); /* whatever the umask is */
    if (errno == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return true;
    return sp_fail(e,
                   errno == ENOSPC                     ? SP_EFULL
                   : errno == EACCES || errno == EPERM ? SP_EREFUSED
                                                       : SP_EBACKEND,
                   errno == EACCES || errno == EPERM ? ADMIN_NOT_PERMITTED : 0, "%s: %m", path);
}

bool admin_make_dir(const char *path, unsigned mode, struct sp_err *e)
{
    char part[4400];
    int n = snprintf(part, sizeof part, "%s", path);

    if (n < 0 || (size_t)n >= sizeof part)
        return sp_fail(e, SP_EINPUT, 0, "a path longer than %zu bytes", sizeof part - 1);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (access(part, F_OK) != 0 && !make_one(part, 0755, e))
            return false;
        *slash = '/';
    }
    return make_one(part, mode, e);
}

/* ---- this host's names ---- */

static void lower(char *s)
{
    for (; *s; s++)
        *s = (char)tolower((unsigned char)*s);
}

/* The first name with a dot on a line of /etc/hosts that also has the short one. DNS is not asked: it may not
 * be there, and would make every command wait. */
static void fqdn_of_line(char *line, struct admin_host *h)
{
    char *keep, *word, *dotted = NULL;
    bool ours = false;

    line[strcspn(line, "#\n")] = 0;
    word = strtok_r(line, " \t", &keep); /* the address */
    while (word && (word = strtok_r(NULL, " \t", &keep))) {
        if (strcasecmp(word, h->name) == 0)
            ours = true;
        if (!dotted && strncasecmp(word, h->name, strlen(h->name)) == 0 && word[strlen(h->name)] == '.')
            dotted = word;
    }
    if (ours && dotted)
        snprintf(h->fqdn, sizeof h->fqdn, "%s", dotted);
}

void admin_find_host(struct admin_host *h)
{
    char line[1024];
    FILE *f;

    *h = (struct admin_host){0};
    if (gethostname(h->name, sizeof h->name - 1) != 0 || h->name[0] == 0)
        snprintf(h->name, sizeof h->name, "localhost");
    lower(h->name);
    if (strchr(h->name, '.')) {
        memcpy(h->fqdn, h->name, sizeof h->fqdn);
        *strchr(h->name, '.') = 0;
        return;
    }
    f = fopen("/etc/hosts", "re");
    while (f && !h->fqdn[0] && fgets(line, sizeof line, f))
        fqdn_of_line(line, h);
    if (f)
        fclose(f);
    lower(h->fqdn);
}

int admin_exit_status(const struct sp_err *e)
{
    switch (e->kind) {
    case SP_OK:
        return 0;
    case SP_EINPUT:
        return 2;
    case SP_ENOTFOUND:
        return 3;
    case SP_EEXIST:
        return 4;
    case SP_EREFUSED:
        return e->proto == ADMIN_NOT_PERMITTED ? 5 : 1;
    case SP_EBACKEND:
        return e->proto == ADMIN_NO_DAEMON ? 6 : 1;
    case SP_ENOMEM:
    case SP_EFULL:
    case SP_EBUG:
        return 1;
    }
    return 1;
}
