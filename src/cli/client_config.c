/* SPDX-License-Identifier: MIT */
/* client-config: the krb5.conf of a client, for the three readers of that file that people have (decision
 * 58). */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum client_kind { CLIENT_MIT, CLIENT_HEIMDAL, CLIENT_JAVA };

struct client {
    enum client_kind kind;
    char realm[256];
    cJSON *kdc, *kpasswd; /* ADDR or ADDR:PORT */
    cJSON *hosts;         /* names and addresses of services */
    char listening[4096]; /* where the daemon that runs said it listens; empty: none runs */
};

/* A name from the store goes into a file with a syntax of its own: only what cannot be anything else there.
 */
#define PLAIN "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:"

static bool is_plain(const char *s)
{
    return *s && s[strspn(s, PLAIN)] == 0;
}

static bool holds(const cJSON *list, const char *text)
{
    const cJSON *one;

    cJSON_ArrayForEach(one, list)
    {
        if (strcmp(one->valuestring, text) == 0)
            return true;
    }
    return false;
}

static void add_once(cJSON *list, const char *text)
{
    if (!holds(list, text))
        cJSON_AddItemToArray(list, cJSON_CreateString(text));
}

/* "cifs/nas1@REALM" names the host nas1; an alias may be a bare host. */
static void add_host(cJSON *hosts, const char *name)
{
    const char *slash = strchr(name, '/');
    char host[256];
    const char *from = slash ? slash + 1 : name;
    size_t n = strcspn(from, "@/");

    if (n >= sizeof host)
        return;
    memcpy(host, from, n);
    host[n] = 0;
    if (is_plain(host))
        add_once(hosts, host);
}

static void add_hosts_of(cJSON *hosts, const cJSON *service)
{
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(service, "name");
    const cJSON *alias;

    if (cJSON_IsString(name))
        add_host(hosts, name->valuestring);
    cJSON_ArrayForEach(alias, cJSON_GetObjectItemCaseSensitive(service, "aliases"))
    {
        if (cJSON_IsString(alias))
            add_host(hosts, alias->valuestring);
    }
}

static bool call(struct cli *c, const char *op, cJSON **out, struct sp_err *e)
{
    cJSON *request = cJSON_CreateObject();

    cJSON_AddStringToObject(request, "op", op);
    bool ok = admin_call(&c->paths, request, out, e);
    cJSON_Delete(request);
    return ok;
}

static bool find_realm(struct cli *c, struct client *k, struct sp_err *e)
{
    cJSON *status = NULL;

    if (!call(c, "status", &status, e))
        return false;
    (void)cli_text(status, "realm", k->realm, sizeof k->realm);
    const cJSON *daemon = cJSON_GetObjectItemCaseSensitive(status, "daemon");
    if (cJSON_HasObjectItem(daemon, "listening"))
        (void)cli_text(daemon, "listening", k->listening, sizeof k->listening);
    cJSON_Delete(status);
    return is_plain(k->realm) ||
           sp_fail(e, SP_EREFUSED, 0,
                   "this realm's name cannot be written into a krb5.conf; nothing was changed");
}

static bool find_hosts(struct cli *c, struct client *k, struct sp_err *e)
{
    cJSON *result = NULL;
    const cJSON *service;

    if (!call(c, "service.list", &result, e))
        return false;
    cJSON_ArrayForEach(service, cJSON_GetObjectItemCaseSensitive(result, "services"))
        add_hosts_of(k->hosts, service);
    cJSON_Delete(result);
    return true;
}

/* "[::]:88" and "0.0.0.0:88" are every address of this machine; a client needs one that it can reach: the
 * machine's name. */
static void add_listener(cJSON *list, const char *listener)
{
    static const char *const any[] = {"0.0.0.0:", "[::]:", "*:"};
    char text[400], host[256] = "";

    for (size_t i = 0; i < sizeof any / sizeof any[0]; i++)
        if (strncmp(listener, any[i], strlen(any[i])) == 0 && gethostname(host, sizeof host - 1) == 0) {
            struct sp_text t = sp_text(text, sizeof text);

            sp_text_fmt(&t, "%s:%s", host, listener + strlen(any[i]));
            add_once(list, text);
            return;
        }
    add_once(list, listener);
}

static bool is_port(const char *s)
{
    uint64_t port;

    return sp_decimal(sp_str(s), 65535, &port) && port > 0;
}

/* nas1, 192.0.2.1:88, [2001:db8::1]:88, or the path of a socket. */
static bool is_server(const char *s)
{
    size_t n = *s == '[' ? strcspn(s, "]") + 1 : strcspn(s, ":");
    char host[256];

    if (*s == '/')
        return s[strspn(s, PLAIN "/")] == 0;
    if (n >= sizeof host || n > strlen(s))
        return false;
    struct sp_text t = sp_text(host, sizeof host);
    sp_text_fmt(&t, "%.*s", *s == '[' ? (int)n - 2 : (int)n, *s == '[' ? s + 1 : s);
    return is_plain(host) && (s[n] == 0 || (s[n] == ':' && is_port(s + n + 1)));
}

static bool copy_given(cJSON *to, const cJSON *given, const char *option, struct sp_err *e)
{
    const cJSON *one;

    cJSON_ArrayForEach(one, given)
    {
        if (!is_server(one->valuestring))
            return sp_fail(e, SP_EINPUT, 0,
                           "--%s does not read so; write ADDR or ADDR:PORT, an IPv6 address in brackets",
                           option);
        add_once(to, one->valuestring);
    }
    return true;
}

/* "/run/sallyport/kdc.sock, 127.0.0.1:88, 127.0.0.1:464 (kpasswd)": what options of the daemon changed is in
 * it. */
static void add_running(struct client *k)
{
    static const char tail[] = " (kpasswd)";
    char one[300];

    for (const char *p = k->listening; *p;) {
        struct sp_text t = sp_text(one, sizeof one);
        size_t n = strcspn(p, ","), bare = n;
        bool kpasswd = n > strlen(tail) && strncmp(p + n - strlen(tail), tail, strlen(tail)) == 0;

        if (kpasswd)
            bare -= strlen(tail);
        sp_text_fmt(&t, "%.*s", (int)bare, p);
        if (!strchr(one, '/') && !t.cut)
            add_listener(kpasswd ? k->kpasswd : k->kdc, one);
        p += n + strspn(p + n, ", ");
    }
}

static void add_configured(struct client *k, const struct admin_config *config)
{
    for (uint32_t i = 0; i < config->listen_count; i++)
        add_listener(k->kdc, config->listen[i]);
    for (uint32_t i = 0; i < config->listen_kpasswd_count; i++)
        add_listener(k->kpasswd, config->listen_kpasswd[i]);
}

static bool take_given(cJSON *to, const struct cli *c, const char *option, struct sp_err *e)
{
    const cJSON *given = cJSON_GetObjectItemCaseSensitive(c->local, option);

    while (given && to->child)
        cJSON_DeleteItemFromArray(to, 0);
    return copy_given(to, given, option, e);
}

/* What was given, else where the daemon listens, else where it would by its configuration. */
static bool find_servers(struct cli *c, struct client *k, struct sp_err *e)
{
    static struct admin_config config; /* large */

    if (!admin_read_config(&c->paths, &config, e))
        return false;
    if (k->listening[0])
        add_running(k);
    else
        add_configured(k, &config);
    return take_given(k->kdc, c, "kdc", e) && take_given(k->kpasswd, c, "kpasswd", e);
}

static bool find_kind(const struct cli *c, struct client *k, struct sp_err *e)
{
    static const char *const kinds[] = {
        [CLIENT_MIT] = "mit", [CLIENT_HEIMDAL] = "heimdal", [CLIENT_JAVA] = "java"};
    const char *given = cli_local(c, "for");

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(given ? given : "mit", kinds[i]) == 0) {
            k->kind = (enum client_kind)i;
            return true;
        }
    return sp_fail(e, SP_EINPUT, 0, "--for knows mit, heimdal and java; other programs read one of these");
}

/* ---- writing ---- */

static void write_head(FILE *f, const struct client *k, const char *run)
{
    switch (k->kind) {
    case CLIENT_MIT:
        fprintf(f,
                "# MIT Kerberos: into /etc/krb5.conf, or a file that KRB5_CONFIG names.\n"
                "# MIT 1.22 and later, on the same machine, also without the network: kdc = %s/kdc.sock\n",
                run);
        break;
    case CLIENT_HEIMDAL:
        fprintf(f, "# Heimdal: into /etc/krb5.conf, or a file that KRB5_CONFIG names.\n");
        break;
    case CLIENT_JAVA:
        fprintf(
            f,
            "# Java: java -Djava.security.krb5.conf=FILE ...\n"
            "# Leave out renewable = true unless this realm grants it: Java fails when it is not granted.\n");
        break;
    }
}

static void write_libdefaults(FILE *f, const struct client *k)
{
    fprintf(f,
            "[libdefaults]\n"
            "    default_realm = %s\n"
            "    rdns = false\n"
            "    dns_canonicalize_hostname = false\n"
            "    dns_lookup_kdc = false\n",
            k->realm);
    if (k->kind != CLIENT_JAVA)
        fprintf(f, "    dns_lookup_realm = false\n");
    else
        fprintf(f, "    udp_preference_limit = 1\n");
}

static void write_servers(FILE *f, const char *key, const cJSON *list)
{
    const cJSON *one;

    cJSON_ArrayForEach(one, list) fprintf(f, "        %s = %s\n", key, one->valuestring);
}

static void write_domains(FILE *f, const struct client *k)
{
    const cJSON *one;

    if (k->hosts->child)
        fprintf(f, "\n[domain_realm]\n");
    cJSON_ArrayForEach(one, k->hosts) fprintf(f, "    %s = %s\n", one->valuestring, k->realm);
}

static char *write_config(const struct client *k, const char *run)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);

    if (!f)
        return NULL;
    write_head(f, k, run);
    write_libdefaults(f, k);
    fprintf(f, "\n[realms]\n    %s = {\n", k->realm);
    write_servers(f, "kdc", k->kdc);
    write_servers(f, "kpasswd_server", k->kpasswd);
    fprintf(f, "    }\n");
    write_domains(f, k);
    fclose(f);
    return text;
}

static bool make_result(const struct cli *c, const struct client *k, cJSON **out, struct sp_err *e)
{
    char *text = write_config(k, c->paths.run);

    if (!text)
        return sp_fail(e, SP_ENOMEM, 0, "no memory for the configuration");
    *out = cJSON_CreateObject();
    cJSON_AddStringToObject(*out, "realm", k->realm);
    cJSON_AddItemToObject(*out, "kdc", cJSON_Duplicate(k->kdc, true));
    cJSON_AddItemToObject(*out, "kpasswd", cJSON_Duplicate(k->kpasswd, true));
    cJSON_AddItemToObject(*out, "hosts", cJSON_Duplicate(k->hosts, true));
    cJSON_AddStringToObject(*out, "text", text);
    free(text);
    return true;
}

bool cli_run_client_config(struct cli *c, cJSON **out, struct sp_err *e)
{
    struct client k = {
        .kdc = cJSON_CreateArray(), .kpasswd = cJSON_CreateArray(), .hosts = cJSON_CreateArray()};
    bool ok = find_kind(c, &k, e) && find_realm(c, &k, e) && find_hosts(c, &k, e) && find_servers(c, &k, e) &&
              make_result(c, &k, out, e);

    cJSON_Delete(k.kdc);
    cJSON_Delete(k.kpasswd);
    cJSON_Delete(k.hosts);
    return ok;
}

void cli_print_client_config(struct cli *c, const cJSON *result)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(result, "text"));

    (void)c;
    fputs(text, stdout);
}
