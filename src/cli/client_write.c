/* SPDX-License-Identifier: MIT */
/* client-config's texts: krb5.conf in its dialects, and what Windows wants instead. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/client_config.h"

static const char *name_of(const cJSON *realm)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(realm, "name"));
}

/* The domain that goes with a realm of more than one label; false: none does. */
static bool domain_of(const cJSON *realm, char *out, size_t max)
{
    struct sp_text t = sp_text(out, max);

    sp_text_str(&t, name_of(realm));
    for (char *p = out; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return strchr(out, '.') != NULL;
}

/* ---- DNS ---- */

__attribute__((format(printf, 2, 3))) static void add_line(cJSON *lines, const char *fmt, ...)
{
    char text[1600];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    cJSON_AddItemToArray(lines, cJSON_CreateString(text));
}

/* SRV points to names; an address has none. */
static void add_srv(cJSON *lines, const char *domain, const char *service, const char *server,
                    const char *usual)
{
    char host[300];
    const char *port;

    if (client_is_local(server))
        return;
    client_split_server(server, host, sizeof host, &port);
    if (!strchr(host, '.') || strchr(host, ':') || host[strspn(host, "0123456789.")] == 0)
        return;
    for (size_t i = 0; i < 2; i++)
        add_line(lines, "%s._%s.%s. IN SRV 0 0 %s %s.", service, i == 0 ? "udp" : "tcp", domain,
                 port ? port : usual, host);
}

/* draft-mccallum-kitten-krb-service-discovery, as libkrb5 reads it; never the flag m (decision 58). */
static void add_uri(cJSON *lines, const char *domain, const char *service, const char *url)
{
    add_line(lines, "%s.%s. IN URI 10 1 \"krb5srv::kkdcp:%s\"", service, domain, url);
}

static void add_service(const struct client *k, cJSON *lines, const char *domain, const cJSON *servers,
                        bool kpasswd)
{
    const char *service = kpasswd ? "_kpasswd" : "_kerberos";
    const cJSON *one;

    cJSON_ArrayForEach(one, servers)
    {
        if (k->relay.url[0])
            add_uri(lines, domain, service, k->relay.url);
        else
            add_srv(lines, domain, service, one->valuestring, kpasswd ? "464" : "88");
    }
}

void client_add_dns(const struct client *k, cJSON *lines)
{
    const cJSON *realm;
    char domain[256];

    cJSON_ArrayForEach(realm, k->realms)
    {
        if (!domain_of(realm, domain, sizeof domain))
            continue;
        add_service(k, lines, domain, client_realm_list(realm, "kdc"), false);
        add_service(k, lines, domain, client_realm_list(realm, "kpasswd"), true);
    }
}

/* ---- krb5.conf ---- */

static void write_mit_head(FILE *f, const struct client *k)
{
    fprintf(f, "# MIT Kerberos: into /etc/krb5.conf, or a file that KRB5_CONFIG names.\n");
    if (k->relay.url[0]) {
        fprintf(f, "# On Debian its HTTPS transport is a package of its own: krb5-k5tls.\n");
        return;
    }
    fprintf(f, "# MIT 1.22 and later, on the same machine, also without the network: kdc = %s/kdc.sock\n",
            k->run);
    if (strcmp(k->run, "/run/sallyport") == 0) /* where the locator looks */
        fprintf(
            f,
            "# With sallyport_locate.so in libkrb5's plugin directory this host needs no [realms] at all.\n");
}

static void write_head(FILE *f, const struct client *k)
{
    switch (k->kind) {
    case CLIENT_MIT:
        write_mit_head(f, k);
        break;
    case CLIENT_HEIMDAL:
        fprintf(f, "# Heimdal: into /etc/krb5.conf, or a file that KRB5_CONFIG names.\n");
        break;
    case CLIENT_JAVA:
        fprintf(
            f,
            "# Java: java -Djava.security.krb5.conf=FILE ...\n"
            "# Not beside java.security.krb5.realm and java.security.krb5.kdc: they hide FILE, and know no "
            "ports.\n"
            "# Leave out renewable = true unless this realm grants it: Java fails when it is not granted.\n");
        break;
    case CLIENT_MACOS:
        fprintf(f, "# macOS: into /etc/krb5.conf. For the Kerberos SSO extension the values of kdc go into "
                   "preferredKDCs, as they are.\n");
        break;
    case CLIENT_WINDOWS:
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

static void write_realms(FILE *f, const struct client *k)
{
    const cJSON *realm;

    fprintf(f, "\n[realms]\n");
    cJSON_ArrayForEach(realm, k->realms)
    {
        fprintf(f, "    %s = {\n", name_of(realm));
        write_servers(f, "kdc", client_realm_list(realm, "kdc"));
        write_servers(f, "kpasswd_server", client_realm_list(realm, "kpasswd"));
        if (k->kind == CLIENT_MIT && k->relay.url[0] && k->relay.ca)
            fprintf(f, "        http_anchors = FILE:%s\n", k->relay.ca);
        fprintf(f, "    }\n");
    }
    cJSON_ArrayForEach(realm, k->doorless)
        fprintf(f, "    # %s: set [courier] listen-kdc in sallyport.conf, and print this again\n",
                realm->valuestring);
}

static void write_domains(FILE *f, const struct client *k)
{
    const cJSON *one, *realm;
    char domain[256];
    bool begun = false;

    cJSON_ArrayForEach(one, k->hosts)
    {
        fprintf(f, "%s    %s = %s\n", begun ? "" : "\n[domain_realm]\n", one->valuestring, k->realm);
        begun = true;
    }
    cJSON_ArrayForEach(realm, k->realms)
    {
        if (strcmp(name_of(realm), k->realm) == 0 || !domain_of(realm, domain, sizeof domain))
            continue;
        fprintf(f, "%s    .%s = %s\n    %s = %s\n", begun ? "" : "\n[domain_realm]\n", domain, name_of(realm),
                domain, name_of(realm));
        begun = true;
    }
}

/* Apple's Heimdal and MIT's libkrb5 look for these; with decision 58's settings neither does. */
static void write_dns(FILE *f, const cJSON *dns)
{
    const cJSON *one;

    if (dns->child)
        fprintf(f, "\n# For clients that find their KDC in the DNS (dns_lookup_kdc = true), in the zone:\n");
    cJSON_ArrayForEach(one, dns) fprintf(f, "#   %s\n", one->valuestring);
}

static void write_krb5_conf(FILE *f, const struct client *k, const cJSON *dns)
{
    write_head(f, k);
    if (k->kind == CLIENT_MACOS && k->relay.url[0] && k->relay.ca)
        fprintf(f,
                "# The relay's CA into the system keychain: security add-trusted-cert -d -k "
                "/Library/Keychains/System.keychain %s\n",
                k->relay.ca);
    write_libdefaults(f, k);
    write_realms(f, k);
    write_domains(f, k);
    if (k->kind != CLIENT_JAVA)
        write_dns(f, dns);
}

/* ---- Windows ---- */

#define POLICIES                                                                                             \
    "[HKEY_LOCAL_MACHINE\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Policies\\System\\Kerberos"

/* The usual port and path are left out, as in Microsoft's examples: host[:port[:path]]. */
static void write_proxy(FILE *f, const struct client_relay *r)
{
    bool path = strcasecmp(r->path, "/KdcProxy") != 0, port = path || strcmp(r->port, "443") != 0;

    fprintf(f, "<https %s%s%s%s%s />", r->host, port ? ":" : "", port ? r->port : "", path ? ":" : "",
            path ? r->path + 1 : "");
}

static void write_proxies(FILE *f, const struct client *k)
{
    const cJSON *realm;
    char domain[256];

    fprintf(f, POLICIES "]\r\n\"KdcProxyServer_Enabled\"=dword:00000001\r\n");
    if (k->hosts->child)
        fprintf(f, "\"domain_realm_Enabled\"=dword:00000001\r\n");
    fprintf(f, "\r\n" POLICIES "\\KdcProxy\\ProxyServers]\r\n");
    cJSON_ArrayForEach(realm, k->realms)
    {
        bool suffix = domain_of(realm, domain, sizeof domain);

        for (int i = 0; i < (suffix ? 2 : 1); i++) {
            fprintf(f, "\"%s%s\"=\"", i == 0 ? "" : ".", domain);
            write_proxy(f, &k->relay);
            fprintf(f, "\"\r\n");
        }
    }
}

static void write_host_map(FILE *f, const struct client *k)
{
    const cJSON *one;

    if (!k->hosts->child)
        return;
    fprintf(f, "\r\n" POLICIES "\\domain_realm]\r\n\"%s\"=\"", k->realm);
    cJSON_ArrayForEach(one, k->hosts) fprintf(f, "%s%s", one == k->hosts->child ? "" : ";", one->valuestring);
    fprintf(f, "\"\r\n");
}

/* regedit wants its own line ends and nothing before its first line. */
static void write_registry(FILE *f, const struct client *k)
{
    fprintf(
        f,
        "Windows Registry Editor Version 5.00\r\n\r\n"
        "; reg import FILE, as administrator, and restart. Windows asks the relay when it finds no domain "
        "controller.\r\n"
        "; A realm that is not the client's domain must be known, too: ksetup /addkdc %s\r\n",
        k->realm);
    if (k->relay.ca)
        fprintf(f, "; The relay's CA: certutil -addstore Root %s\r\n", k->relay.ca);
    fprintf(f, "\r\n");
    write_proxies(f, k);
    write_host_map(f, k);
}

static void write_ksetup_servers(FILE *f, const struct client *k, const char *verb, const cJSON *servers)
{
    const cJSON *one;
    char host[300];
    const char *port;

    cJSON_ArrayForEach(one, servers)
    {
        client_split_server(one->valuestring, host, sizeof host, &port);
        fprintf(f, "ksetup /%s %s %s\r\n", verb, k->realm, host);
    }
}

static void write_ksetup(FILE *f, const struct client *k)
{
    const cJSON *one;

    fprintf(f, "rem As administrator; then restart.\r\n");
    write_ksetup_servers(f, k, "addkdc", client_realm_list(k->realms->child, "kdc"));
    write_ksetup_servers(f, k, "addkpasswd", client_realm_list(k->realms->child, "kpasswd"));
    fprintf(f, "ksetup /setrealmflags %s tcpsupported ncsupported\r\n", k->realm);
    cJSON_ArrayForEach(one, k->hosts)
        fprintf(f, "ksetup /addhosttorealmmap %s %s\r\n", one->valuestring, k->realm);
}

char *client_write(const struct client *k, const cJSON *dns)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);

    if (!f)
        return NULL;
    if (k->kind != CLIENT_WINDOWS)
        write_krb5_conf(f, k, dns);
    else if (k->relay.url[0])
        write_registry(f, k);
    else
        write_ksetup(f, k);
    fclose(f);
    return text;
}
