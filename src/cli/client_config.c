/* SPDX-License-Identifier: MIT */
/* client-config: what the clients of this realm, and of those that the courier carries, need to be told
 * (decision 58): who is asked, which realms, which servers. The text is client_write.c's. */
#include "cli/client_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/realms.h"

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
static void add_running(const struct client *k, cJSON *kdc, cJSON *kpasswd_list)
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
            add_listener(kpasswd ? kpasswd_list : kdc, one);
        p += n + strspn(p + n, ", ");
    }
}

static void add_list(cJSON *to, const char (*list)[64], uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        add_listener(to, list[i]);
}

static bool take_given(cJSON *to, const struct cli *c, const char *option, struct sp_err *e)
{
    const cJSON *given = cJSON_GetObjectItemCaseSensitive(c->local, option);

    while (given && to->child)
        cJSON_DeleteItemFromArray(to, 0);
    return copy_given(to, given, option, e);
}

static cJSON *add_realm(struct client *k, const char *name)
{
    cJSON *realm = cJSON_CreateObject();

    cJSON_AddStringToObject(realm, "name", name);
    cJSON_AddItemToObject(realm, "kdc", cJSON_CreateArray());
    cJSON_AddItemToObject(realm, "kpasswd", cJSON_CreateArray());
    cJSON_AddItemToArray(k->realms, realm);
    return realm;
}

cJSON *client_realm_list(const cJSON *realm, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(realm, key);
}

/* What was given, else where the daemon listens, else where it would by its configuration. */
static bool find_servers(const struct cli *c, struct client *k, const struct admin_config *config,
                         struct sp_err *e)
{
    cJSON *realm = add_realm(k, k->realm);
    cJSON *kdc = client_realm_list(realm, "kdc"), *kpasswd = client_realm_list(realm, "kpasswd");

    if (k->listening[0])
        add_running(k, kdc, kpasswd);
    else {
        add_list(kdc, config->listen, config->listen_count);
        add_list(kpasswd, config->listen_kpasswd, config->listen_kpasswd_count);
    }
    return take_given(kdc, c, "kdc", e) && take_given(kpasswd, c, "kpasswd", e);
}

/* The courier may think for seconds, and Heimdal would ask again and again by UDP meanwhile. */
static void add_doors(const struct client *k, cJSON *to, const char (*list)[64], uint32_t count)
{
    char text[80];

    for (uint32_t i = 0; i < count; i++) {
        struct sp_text t = sp_text(text, sizeof text);

        sp_text_fmt(&t, "%s%s", k->kind == CLIENT_HEIMDAL ? "tcp/" : "", list[i]);
        add_once(to, text);
    }
}

/* Programs of this host reach the courier's realms through its doors on loopback. */
static void add_carried(struct client *k, const struct admin_config *config, const struct admin_realms *all)
{
    for (uint32_t i = 0; i < all->count; i++) {
        const struct admin_realm *r = &all->v[i];

        if (!is_plain(r->name) || strcmp(r->name, k->realm) == 0)
            continue;
        if (config->courier_kdc_count == 0) {
            add_once(k->doorless, r->name);
            continue;
        }
        cJSON *realm = add_realm(k, r->name);
        add_doors(k, client_realm_list(realm, "kdc"), config->courier_kdc, config->courier_kdc_count);
        if (r->kpasswd)
            add_doors(k, client_realm_list(realm, "kpasswd"), config->courier_kpasswd,
                      config->courier_kpasswd_count);
    }
}

static bool is_named(const char *list, const char *name)
{
    for (const char *p = list; *p;) {
        size_t n = strcspn(p, " \t,");

        if (n == strlen(name) && strncasecmp(p, name, n) == 0)
            return true;
        p += n + strspn(p + n, " \t,");
    }
    return false;
}

static void add_relayed_realm(struct client *k, const struct admin_config *config, const char *name)
{
    cJSON *realm = add_realm(k, name), *url;
    char kkdcp[720];
    struct sp_text t = sp_text(kkdcp, sizeof kkdcp);

    sp_text_fmt(&t, "kkdcp://%s", k->relay.url + strlen("https://"));
    url = cJSON_CreateString(k->kind == CLIENT_MACOS ? kkdcp : k->relay.url);
    if (config->relay_kpasswd)
        cJSON_AddItemToArray(client_realm_list(realm, "kpasswd"), cJSON_Duplicate(url, true));
    cJSON_AddItemToArray(client_realm_list(realm, "kdc"), url);
}

/* Those that the relay here carries. A relay on another host is taken to carry the local realm. */
static void add_relayed(struct client *k, const struct admin_config *config, const struct admin_realms *all)
{
    if (!config->relay_realms[0] || is_named(config->relay_realms, k->realm))
        add_relayed_realm(k, config, k->realm);
    for (uint32_t i = 0; i < all->count; i++) {
        const struct admin_realm *r = &all->v[i];
        bool carried =
            r->via_relay == ADMIN_UNSET ? is_named(config->relay_realms, r->name) : r->via_relay != ADMIN_OFF;

        if (carried && is_plain(r->name) && strcmp(r->name, k->realm) != 0)
            add_relayed_realm(k, config, r->name);
    }
}

static bool check_relayed(const struct client *k, struct sp_err *e)
{
    return k->realms->child ||
           sp_fail(e, SP_EREFUSED, 0,
                   "[relay] realms names none that this host knows; name %s there, or write [realm NAME] "
                   "for the others",
                   k->realm);
}

static bool find_realms(struct cli *c, struct client *k, struct sp_err *e)
{
    static struct admin_config config; /* large */
    struct admin_realms all = {0};

    if (!admin_read_config(&c->paths, &config, e) || !admin_read_realms(&c->paths, &all, e))
        return false;
    bool ok = true;
    if (k->relay.url[0]) {
        add_relayed(k, &config, &all);
        ok = check_relayed(k, e);
    } else {
        ok = find_servers(c, k, &config, e);
        if (!cJSON_HasObjectItem(c->local, "kdc"))
            add_carried(k, &config, &all);
    }
    admin_free_realms(&all);
    return ok;
}

static const char *const kinds[] = {[CLIENT_MIT] = "mit",
                                    [CLIENT_HEIMDAL] = "heimdal",
                                    [CLIENT_JAVA] = "java",
                                    [CLIENT_WINDOWS] = "windows",
                                    [CLIENT_MACOS] = "macos"};

static bool find_kind(const struct cli *c, struct client *k, struct sp_err *e)
{
    const char *given = cli_local(c, "for");

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(given ? given : "mit", kinds[i]) == 0) {
            k->kind = (enum client_kind)i;
            return true;
        }
    return sp_fail(e, SP_EINPUT, 0,
                   "--for knows mit, heimdal, java, windows and macos; other programs read one of these");
}

/* ---- the relay ---- */

void client_split_server(const char *server, char *host, size_t max, const char **port)
{
    const char *at = strncmp(server, "tcp/", 4) == 0 ? server + 4 : server;
    bool bracket = *at == '[';
    size_t n = bracket ? strcspn(at, "]") : strcspn(at, ":");
    struct sp_text t = sp_text(host, max);

    sp_text_add(&t, sp_span(at + bracket, n - bracket));
    at += n + (bracket && at[n] == ']');
    *port = *at == ':' ? at + 1 : NULL;
}

static bool split_url(struct client_relay *r, const char *url)
{
    static const char scheme[] = "https://";
    char server[300];
    const char *port;

    if (strncasecmp(url, scheme, strlen(scheme)) != 0)
        return false;
    const char *at = url + strlen(scheme), *path = at + strcspn(at, "/");
    struct sp_text t = sp_text(server, sizeof server);
    sp_text_add(&t, sp_span(at, (size_t)(path - at)));
    if (t.cut || !is_server(server) || path[strspn(path, PLAIN "/%~+")] || strlen(path) >= sizeof r->path)
        return false;
    client_split_server(server, r->host, sizeof r->host, &port);
    if (server[0] == '[') {
        t = sp_text(r->host, sizeof r->host);
        sp_text_add(&t, sp_span(server, strcspn(server, "]") + 1));
    }
    t = sp_text(r->port, sizeof r->port);
    sp_text_str(&t, port ? port : "443");
    t = sp_text(r->path, sizeof r->path);
    sp_text_str(&t, path[0] && path[1] ? path : "/KdcProxy");
    t = sp_text(r->url, sizeof r->url);
    sp_text_fmt(&t, "https://%s%s%s%s", r->host, port ? ":" : "", port ? port : "", r->path);
    return true;
}

static bool is_file_name(const char *s)
{
    return s[0] && s[strspn(s, PLAIN "/\\+~")] == 0;
}

static bool find_relay(const struct cli *c, struct client *k, struct sp_err *e)
{
    const char *url = cli_local(c, "relay");

    k->relay.ca = cli_local(c, "ca");
    if (!url && k->relay.ca)
        return sp_fail(e, SP_EINPUT, 0, "--ca is for the relay's certificate; say --relay URL too");
    if (!url)
        return true;
    if (cJSON_HasObjectItem(c->local, "kdc") || cJSON_HasObjectItem(c->local, "kpasswd"))
        return sp_fail(e, SP_EINPUT, 0,
                       "--relay and --kdc are two ways for a client; print one file for each");
    if (k->relay.ca && !is_file_name(k->relay.ca))
        return sp_fail(e, SP_EINPUT, 0,
                       "--ca is the path of a file on the client, of letters, digits and . - _ / alone");
    return split_url(&k->relay, url) ||
           sp_fail(e, SP_EINPUT, 0,
                   "--relay does not read so; write https://HOST[:PORT][/PATH], as clients reach it");
}

/* Neither has an HTTPS transport for Kerberos; a courier beside them has. */
static bool check_relay_kind(const struct client *k, struct sp_err *e)
{
    if (!k->relay.url[0] || (k->kind != CLIENT_HEIMDAL && k->kind != CLIENT_JAVA))
        return true;
    return sp_fail(
        e, SP_EREFUSED, 0,
        "%s cannot speak to a relay; run sallyportd on the client, with relay = in its [realm %s], and "
        "print this there",
        k->kind == CLIENT_JAVA ? "Java" : "Heimdal", k->realm);
}

bool client_is_local(const char *server)
{
    char host[300];
    const char *port;

    if (*server == '/')
        return true;
    client_split_server(server, host, sizeof host, &port);
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 || strcasecmp(host, "localhost") == 0;
}

/* sallyportd does not run on Windows or macOS, so its loopback is of no use there. */
static bool check_reach(const struct client *k, struct sp_err *e)
{
    static const char *const keys[] = {"kdc", "kpasswd"}, *const usual[] = {"88", "464"};
    const char *name = k->kind == CLIENT_WINDOWS ? "Windows" : "macOS", *port;
    char host[300];

    if (k->relay.url[0] || (k->kind != CLIENT_WINDOWS && k->kind != CLIENT_MACOS))
        return true;
    for (size_t i = 0; i < 2; i++) {
        const cJSON *one;

        cJSON_ArrayForEach(one, client_realm_list(k->realms->child, keys[i]))
        {
            if (client_is_local(one->valuestring))
                return sp_fail(e, SP_EINPUT, 0,
                               "%s clients do not reach %s; say --%s ADDR (and let [kdc] listen there), or "
                               "--relay URL",
                               name, one->valuestring, keys[i]);
            client_split_server(one->valuestring, host, sizeof host, &port);
            if (k->kind == CLIENT_WINDOWS && port && strcmp(port, usual[i]) != 0)
                return sp_fail(e, SP_EINPUT, 0, "Windows asks on port %s alone, not at %s", usual[i],
                               one->valuestring);
        }
    }
    return true;
}

static bool make_result(const struct client *k, cJSON **out, struct sp_err *e)
{
    const cJSON *first = k->realms->child;
    cJSON *dns = cJSON_CreateArray();

    client_add_dns(k, dns);
    char *text = client_write(k, dns);
    if (!text) {
        cJSON_Delete(dns);
        return sp_fail(e, SP_ENOMEM, 0, "no memory for the configuration");
    }
    *out = cJSON_CreateObject();
    cJSON_AddStringToObject(*out, "for", kinds[k->kind]);
    cJSON_AddStringToObject(*out, "realm", k->realm);
    cJSON_AddItemToObject(*out, "kdc", cJSON_Duplicate(client_realm_list(first, "kdc"), true));
    cJSON_AddItemToObject(*out, "kpasswd", cJSON_Duplicate(client_realm_list(first, "kpasswd"), true));
    cJSON_AddItemToObject(*out, "hosts", cJSON_Duplicate(k->hosts, true));
    cJSON_AddItemToObject(*out, "realms", cJSON_Duplicate(k->realms, true));
    if (k->relay.url[0])
        cJSON_AddStringToObject(*out, "relay", k->relay.url);
    cJSON_AddItemToObject(*out, "dns", dns);
    cJSON_AddStringToObject(*out, "text", text);
    free(text);
    return true;
}

bool cli_run_client_config(struct cli *c, cJSON **out, struct sp_err *e)
{
    struct client k = {.realms = cJSON_CreateArray(),
                       .hosts = cJSON_CreateArray(),
                       .doorless = cJSON_CreateArray(),
                       .run = c->paths.run};
    bool ok = find_kind(c, &k, e) && find_relay(c, &k, e) && find_realm(c, &k, e) &&
              check_relay_kind(&k, e) && find_hosts(c, &k, e) && find_realms(c, &k, e) &&
              check_reach(&k, e) && make_result(&k, out, e);

    cJSON_Delete(k.realms);
    cJSON_Delete(k.hosts);
    cJSON_Delete(k.doorless);
    return ok;
}

void cli_print_client_config(struct cli *c, const cJSON *result)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(result, "text"));

    (void)c;
    fputs(text, stdout);
}
