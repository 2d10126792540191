/* SPDX-License-Identifier: MIT */
#include "host/krb5conf.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/ccache_internal.h"

#define INCLUDES_MAX 4 /* deep */
#define LINE_LENGTH 4096

struct search {
    const char *section, *key;
    char *out;
    size_t max;
    bool found;
};

static void search_file(struct search *s, const char *path, int depth);

static char *trim(char *s)
{
    size_t n;

    s += strspn(s, " \t");
    n = strlen(s);
    while (n > 0 && isspace((unsigned char)s[n - 1]))
        s[--n] = 0;
    return s;
}

/* What krb5.conf(5) takes from a directory: plain names, and those that end in .conf. */
static bool is_included(const char *name)
{
    size_t n = strlen(name);

    if (name[0] == '.')
        return false;
    if (n > 5 && strcmp(name + n - 5, ".conf") == 0)
        return true;
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && *name != '-' && *name != '_')
            return false;
    return true;
}

static int is_wanted(const struct dirent *d)
{
    return is_included(d->d_name);
}

static void search_directory(struct search *s, const char *dir, int depth)
{
    struct dirent **list;
    char path[PATH_MAX];
    int count = scandir(dir, &list, is_wanted, alphasort);

    for (int i = 0; i < count; i++) {
        if (snprintf(path, sizeof path, "%s/%s", dir, list[i]->d_name) < (int)sizeof path)
            search_file(s, path, depth);
        free(list[i]);
    }
    if (count >= 0)
        free(list);
}

static void take_setting(struct search *s, char *line)
{
    char *equals = strchr(line, '=');

    if (!equals || s->found)
        return;
    *equals = 0;
    char *value = trim(equals + 1);
    size_t n = strlen(value);
    if (n > 1 && value[0] == '"' && value[n - 1] == '"') {
        value[n - 1] = 0;
        value++;
    }
    if (strcmp(trim(line), s->key) == 0 && strlen(value) < s->max) {
        memcpy(s->out, value, strlen(value) + 1);
        s->found = true;
    }
}

static bool is_section(const char *line, const char *name)
{
    size_t n = strlen(name);

    return strncmp(line + 1, name, n) == 0 && strcmp(line + 1 + n, "]") == 0;
}

static void search_line(struct search *s, char *line, bool *inside, int depth)
{
    if (strncmp(line, "includedir", 10) == 0 && isspace((unsigned char)line[10]))
        search_directory(s, trim(line + 10), depth + 1);
    else if (strncmp(line, "include", 7) == 0 && isspace((unsigned char)line[7]))
        search_file(s, trim(line + 7), depth + 1);
    line = trim(line);
    if (*line == '[')
        *inside = is_section(line, s->section);
    else if (*inside && *line != '#' && *line != ';')
        take_setting(s, line);
}

static void search_file(struct search *s, const char *path, int depth)
{
    char line[LINE_LENGTH];
    bool inside = false;
    FILE *f = depth <= INCLUDES_MAX ? fopen(path, "re") : NULL;

    while (f && !s->found && fgets(line, sizeof line, f))
        search_line(s, line, &inside, depth);
    if (f)
        fclose(f);
}

/* The first file that sets it wins, as everywhere in krb5.conf. */
bool host_find_krb5(const char *section, const char *key, char *out, size_t max)
{
    struct search s = {section, key, out, max, false};
    const char *files = secure_getenv("KRB5_CONFIG");
    char path[PATH_MAX];

    if (!files || !*files)
        files = "/etc/krb5.conf";
    while (*files && !s.found) {
        size_t n = strcspn(files, ":");

        if (n > 0 && n < sizeof path) {
            memcpy(path, files, n);
            path[n] = 0;
            search_file(&s, path, 0);
        }
        files += n + (files[n] == ':');
    }
    return s.found;
}

bool host_find_setting(const char *key, char *out, size_t max)
{
    return host_find_krb5("libdefaults", key, out, max);
}

static void lower(char *s)
{
    for (; *s; s++)
        *s = (char)tolower((unsigned char)*s);
}

bool host_find_mapped(const char *host, char *realm, size_t max, char *line, size_t line_max)
{
    char name[256];

    if (snprintf(name, sizeof name, "%s", host) >= (int)sizeof name)
        return false;
    lower(name);
    for (const char *at = name; at && *at; at = *at == '.' ? at + 1 : strchr(at, '.'))
        if (host_find_krb5("domain_realm", at, realm, max)) {
            (void)snprintf(line, line_max, "%s", at);
            return true;
        }
    return false;
}
