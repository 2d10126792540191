/* SPDX-License-Identifier: MIT */
/* What client-config found out, and the text that is made of it. */
#ifndef SP_CLI_CLIENT_CONFIG_H
#define SP_CLI_CLIENT_CONFIG_H

#include "cli/cli.h"

enum client_kind { CLIENT_MIT, CLIENT_HEIMDAL, CLIENT_JAVA, CLIENT_WINDOWS, CLIENT_MACOS };

struct client_relay { /* https://host[:port]/path */
    char url[700];    /* empty: none */
    char host[260];   /* an IPv6 address in its brackets */
    char port[8], path[256];
    const char *ca; /* the file on the client, NULL: its system's */
};

struct client {
    enum client_kind kind;
    char realm[256];
    struct client_relay relay;
    cJSON *realms;        /* {"name", "kdc": [], "kpasswd": []}; the local one is the first */
    cJSON *hosts;         /* names and addresses of the local realm's services */
    cJSON *doorless;      /* realms that the courier knows and has no loopback door for */
    char listening[4096]; /* where the daemon that runs said it listens; empty: none runs */
    const char *run;
};

/* The host of ADDR[:PORT], without brackets; *port is NULL where there is none. */
void client_split_server(const char *server, char *host, size_t max, const char **port);
/* Whether only this very host reaches it. */
bool client_is_local(const char *server);
cJSON *client_realm_list(const cJSON *realm, const char *key);

/* Lines for the zone, in master file syntax; where clients look there at all. */
void client_add_dns(const struct client *k, cJSON *lines);
/* The caller frees; NULL: no memory. */
char *client_write(const struct client *k, const cJSON *dns);

#endif
