/* SPDX-License-Identifier: MIT */
#include "host/pins.h"

#include <ini.h>
#include <stdio.h>
#include <stdlib.h>

#define CONFIG_FILE "/etc/sallyport/sallyport.conf"

struct looking {
    const char *key;
    struct sp_span host;
    bool found;
};

static bool has_word(const char *words, struct sp_span word)
{
    while (*words) {
        size_t n = strcspn(words, " \t,");

        if (n > 0 && (sp_same_nocase(sp_span(words, n), word) || sp_same(sp_span(words, n), SP_LIT("*"))))
            return true;
        words += n;
        words += strspn(words, " \t,");
    }
    return false;
}

static int look(void *arg, const char *section, const char *key, const char *value)
{
    struct looking *l = arg;

    if (strcmp(section, "client") == 0 && strcmp(key, l->key) == 0 && value)
        l->found = l->found || has_word(value, l->host);
    return 1;
}

static bool is_named(const char *key, struct sp_span host)
{
    const char *root = secure_getenv("SALLYPORT_ROOT");
    struct looking l = {.key = key, .host = host};
    char path[4096];

    if (host.n == 0 || snprintf(path, sizeof path, "%s" CONFIG_FILE, root ? root : "") >= (int)sizeof path)
        return false;
    (void)ini_parse(path, look, &l);
    return l.found;
}

bool host_allows_timestamp(struct sp_span host)
{
    return is_named("allow-timestamp", host);
}

bool host_speaks_old_mit(struct sp_span host)
{
    return is_named("old-mit", host);
}
