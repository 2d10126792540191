/* SPDX-License-Identifier: MIT */
/* sallyport.conf: sections and keys by the table of src/admin/config.c. What was read keeps to its bounds, is
 * shown as it was meant, and what is shown reads again as the same. */
#include "world.h"

#include "admin/admin.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TEXT = 1 << 20 };

static char text[TEXT];

/* The reader takes paths, so the bytes lie in a file without a name. There is no conf.d. */
static void put_file(struct admin_paths *p, int fd, const void *bytes, size_t n)
{
    fuzz_must(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, bytes, n, 0) == (ssize_t)n, "there is a file");
    snprintf(p->config, sizeof p->config, "/proc/self/fd/%d", fd);
    snprintf(p->config_dir, sizeof p->config_dir, "/nonexistent");
}

static void check_bounds(const struct admin_config *c)
{
    fuzz_must(c->alias_count <= 18 && c->kdc.realm.aliases.count == c->alias_count, "aliases fit");
    fuzz_must(c->listen_count <= ADMIN_LISTEN_MAX && c->listen_kpasswd_count <= ADMIN_LISTEN_MAX,
              "doors fit");
    fuzz_must(c->kdc.enctype_count >= 1 && c->kdc.enctype_count <= 4, "there is an encryption type");
    fuzz_must(c->kdc.skew_s > 0 && c->kdc.tgt_life_s > 0 && c->kdc.service_life_s > 0, "times are positive");
    fuzz_must(c->udp_reply_max >= 512 && c->udp_reply_max <= 65507, "a reply fits a datagram");
    for (uint32_t i = 0; i < c->kdc.enctype_count; i++)
        fuzz_must(crypto_find_type(c->kdc.enctypes[i]) != NULL, "encryption types are ours");
    for (uint32_t i = 0; i < c->listen_count; i++)
        fuzz_must(memchr(c->listen[i], 0, sizeof c->listen[i]) != NULL, "texts end");
}

static const char *member(const cJSON *o, const char *key)
{
    const char *v = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));

    fuzz_must(v != NULL, "a setting has section, key, value and source");
    return v;
}

/* In the shortest form: what came in a line goes into a line again. */
static size_t put_line(size_t n, const char *key, const char *value, size_t value_n)
{
    n += (size_t)snprintf(text + n, sizeof text - n, "%s=%.*s\n", key, (int)value_n, value);
    fuzz_must(n < sizeof text, "settings are bounded");
    return n;
}

static bool is_list(const char *key)
{
    return strncmp(key, "listen", 6) == 0 || strcmp(key, "aliases") == 0 || strcmp(key, "enctypes") == 0;
}

/* Every setting that did not come by default, as a file. Lists came in several lines, perhaps: a word a line.
 */
static size_t write_shown(const cJSON *shown)
{
    const cJSON *s;
    size_t n = 0;

    cJSON_ArrayForEach(s, cJSON_GetObjectItemCaseSensitive(shown, "settings"))
    {
        const char *key = member(s, "key"), *v = member(s, "value");

        if (strcmp(member(s, "source"), "default") == 0)
            continue;
        n += (size_t)snprintf(text + n, sizeof text - n, "[%s]\n", member(s, "section"));
        for (size_t word = strcspn(v, " "); is_list(key) && v[word]; word = strcspn(v, " ")) {
            n = put_line(n, key, v, word);
            v += word + 1;
        }
        n = put_line(n, key, v, strlen(v));
    }
    return n;
}

/* The same but for what lies between words. */
static bool same_words(const char *a, const char *b)
{
    static const char between[] = " \t\r\n\v\f,";

    for (;;) {
        size_t n, m;

        a += strspn(a, between);
        b += strspn(b, between);
        n = strcspn(a, between);
        m = strcspn(b, between);
        if (n != m || memcmp(a, b, n) != 0)
            return false;
        if (n == 0)
            return true;
        a += n;
        b += n;
    }
}

static void check_same(const cJSON *a, const cJSON *b)
{
    const cJSON *x = cJSON_GetObjectItemCaseSensitive(a, "settings"),
                *y = cJSON_GetObjectItemCaseSensitive(b, "settings");

    fuzz_must(cJSON_GetArraySize(x) == cJSON_GetArraySize(y), "the same keys");
    for (x = x->child, y = y->child; x && y; x = x->next, y = y->next)
        fuzz_must(same_words(member(x, "value"), member(y, "value")), "the same values");
}

static void check(struct admin_paths *p, int fd)
{
    static struct admin_config c;
    struct sp_err e = {0};
    cJSON *shown = NULL, *again = NULL;

    if (!admin_read_config(p, &c, &e)) {
        fuzz_must(e.kind == SP_EINPUT && e.text[0] != 0, "a refusal says why");
        return;
    }
    check_bounds(&c);
    fuzz_must(admin_show_config(p, &shown, &e), "what can be read can be shown");
    put_file(p, fd, text, write_shown(shown));
    fuzz_must(admin_show_config(p, &again, &e), "what is shown can be read");
    check_same(shown, again);
    cJSON_Delete(shown);
    cJSON_Delete(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct admin_paths p;
    static int fd = -1;

    if (fd < 0)
        fd = memfd_create("config", 0);
    put_file(&p, fd, data, n);
    check(&p, fd);
    return 0;
}
