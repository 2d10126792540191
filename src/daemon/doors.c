/* SPDX-License-Identifier: MIT */
/* The keeper's sockets. Opened here, used by workers; a reload opens what is new before it closes what is
 * old, and leaves the rest alone. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "daemon/keeper.h"

#define KDC_SOCKET "kdc.sock"
#define PLACES_MAX 4 /* of plain-listen, and of metrics */
#define COURIER_SOCKET "courier.sock"

static bool is_datagram(enum door_kind kind)
{
    return kind == DOOR_UDP || kind == DOOR_LOOPBACK_UDP;
}

/* The directory and the name of a socket that has a path. */
static const char *socket_of(const struct keeper *k, const struct keeper_door *d, char dir[4200])
{
    const char *slash = strrchr(d->path, '/');

    if (!slash) {
        (void)snprintf(dir, 4200, "%s", k->paths.run);
        return d->path;
    }
    (void)snprintf(dir, 4200, "%.*s", slash == d->path ? 1 : (int)(slash - d->path), d->path);
    return slash + 1;
}

/* Acceptors are everybody; who stands before the relay, or counts, is of the daemon's group. */
static unsigned mode_of(enum door_kind kind)
{
    return kind == DOOR_UNIX || kind == DOOR_COURIER ? 0666 : 0660;
}

static struct keeper_door *find(struct keeper *k, const struct keeper_door *want)
{
    for (uint32_t i = 0; i < KEEPER_DOORS_MAX; i++) {
        struct keeper_door *d = &k->doors[i];
        if (d->open && d->info.kind == want->info.kind && d->info.service == want->info.service &&
            strcmp(d->path, want->path) == 0 && (want->path[0] || net_same_address(&d->asked, &want->asked)))
            return d;
    }
    return NULL;
}

static struct keeper_door *unused(struct keeper *k)
{
    for (uint32_t i = 0; i < KEEPER_DOORS_MAX; i++)
        if (!k->doors[i].open)
            return &k->doors[i];
    return NULL;
}

static int listen_at(const struct keeper *k, struct keeper_door *d, struct sp_err *e)
{
    char dir[4200];
    const char *name;

    if (is_datagram(d->info.kind))
        return net_listen_udp(&d->bound, e);
    if (!d->path[0])
        return net_listen_tcp(&d->bound, e);
    name = socket_of(k, d, dir);
    return net_listen_unix(dir, name, mode_of(d->info.kind), e);
}

static bool open_door(struct keeper *k, const struct keeper_door *want, struct sp_err *e)
{
    struct keeper_door *d = find(k, want);

    if (d) {
        d->listed = true;
        return true;
    }
    d = unused(k);
    if (!d)
        return sp_fail(e, SP_EFULL, 0, "more than %d doors", KEEPER_DOORS_MAX);
    *d = *want;
    d->bound = d->asked;
    d->fd = listen_at(k, d, e);
    if (d->fd < 0) {
        if (e->kind == SP_EREFUSED)
            e->proto = ADMIN_NOT_PERMITTED;
        return false;
    }
    d->info.type = CHANNEL_DOOR_OPEN;
    d->info.id = (uint32_t)(d - k->doors);
    d->open = d->listed = d->fresh = true;
    return true;
}

/* UDP and TCP on the same address; port 0 (tests) gives TCP the port that UDP got. */
static bool open_both(struct keeper *k, const char *text, struct channel_door as, struct sp_err *e)
{
    struct keeper_door udp = {.info = as}, tcp;

    if (!net_parse_address(sp_str(text), &udp.asked, e) || !open_door(k, &udp, e))
        return false;
    tcp = udp;
    tcp.info.kind = as.kind == DOOR_UDP ? DOOR_TCP : DOOR_LOOPBACK_TCP;
    tcp.asked = find(k, &udp)->bound;
    return open_door(k, &tcp, e);
}

/* A host without IPv6 has no [::1]; the default list names it, and the rest is served all the same. */
static bool may_be_absent(const char *text, const struct sp_err *e)
{
    return strncmp(text, "[::1]:", 6) == 0 && (e->proto == EADDRNOTAVAIL || e->proto == EAFNOSUPPORT);
}

static bool open_one(struct keeper *k, const char *text, struct channel_door as, struct sp_err *e)
{
    struct keeper_door d = {.info = as};

    if (as.kind == DOOR_UDP || as.kind == DOOR_LOOPBACK_UDP)
        return open_both(k, text, as, e);
    if (text[0] == '/')
        (void)snprintf(d.path, sizeof d.path, "%s", text);
    else if (!net_parse_address(sp_str(text), &d.asked, e))
        return false;
    return open_door(k, &d, e);
}

static bool open_list(struct keeper *k, char (*list)[64], uint32_t count, struct channel_door as,
                      struct sp_err *e)
{
    for (uint32_t i = 0; i < count; i++) {
        struct sp_err why = {0};
        if (open_one(k, list[i], as, &why))
            continue;
        if (!may_be_absent(list[i], &why)) {
            *e = why;
            return false;
        }
        keeper_say(k, "start", "%s; left out", why.text);
    }
    return true;
}

/* Words of a list that holds addresses and paths. */
static bool open_places(struct keeper *k, const char *list, enum door_kind kind, struct sp_err *e)
{
    const struct channel_door as = {.kind = kind};
    char word[128];

    for (int n = 0; *(list += strspn(list, " \t,")); list += n) {
        n = (int)strcspn(list, " \t,");
        (void)snprintf(word, sizeof word, "%.*s", n, list);
        if (!open_one(k, word, as, e))
            return false;
    }
    return true;
}

static bool open_courier(struct keeper *k, const struct admin_config *c, struct sp_err *e)
{
    struct keeper_door acceptors = {
        .info = {.kind = DOOR_COURIER, .service = DOOR_KDC},
          .path = COURIER_SOCKET
    };
    const struct channel_door kdc = {.kind = DOOR_LOOPBACK_UDP, .service = DOOR_KDC},
                              kpasswd = {.kind = DOOR_LOOPBACK_UDP, .service = DOOR_KPASSWD},
                              relay = {.kind = DOOR_RELAY};

    return (!c->courier_listen || open_door(k, &acceptors, e)) &&
           open_list(k, (char(*)[64])(uintptr_t)c->courier_kdc, c->courier_kdc_count, kdc, e) &&
           open_list(k, (char(*)[64])(uintptr_t)c->courier_kpasswd, c->courier_kpasswd_count, kpasswd, e) &&
           open_list(k, (char(*)[64])(uintptr_t)c->relay_listen, c->relay_listen_count, relay, e) &&
           open_places(k, c->relay_plain, DOOR_RELAY_PLAIN, e) &&
           open_places(k, c->metrics_listen, DOOR_METRICS, e);
}

static void close_door(const struct keeper *k, struct keeper_door *d)
{
    char dir[4200];
    const char *name = d->path[0] ? socket_of(k, d, dir) : NULL;

    if (name)
        net_unlink_unix(dir, name);
    (void)close(d->fd);
    *d = (struct keeper_door){0};
}

static bool open_listed(struct keeper *k, const struct admin_config *c, struct sp_err *e)
{
    const struct keeper_options *o = &k->options;
    struct keeper_door local = {
        .info = {.kind = DOOR_UNIX, .service = DOOR_EITHER},
          .path = KDC_SOCKET
    };
    const struct channel_door as_kdc = {.kind = DOOR_UDP, .service = DOOR_KDC},
                              as_kpasswd = {.kind = DOOR_UDP, .service = DOOR_KPASSWD};
    char(*kdc)[64] = o->listen ? o->listen : (char(*)[64])(uintptr_t)c->listen;
    char(*kpasswd)[64] = o->listen_kpasswd ? o->listen_kpasswd : (char(*)[64])(uintptr_t)c->listen_kpasswd;

    return open_door(k, &local, e) && open_courier(k, c, e) &&
           open_list(k, kdc, o->listen ? o->listen_count : c->listen_count, as_kdc, e) &&
           open_list(k, kpasswd, o->listen_kpasswd ? o->listen_kpasswd_count : c->listen_kpasswd_count,
                     as_kpasswd, e);
}

bool doors_prepare(struct keeper *k, const struct admin_config *c, struct sp_err *e)
{
    for (uint32_t i = 0; i < KEEPER_DOORS_MAX; i++)
        k->doors[i].listed = k->doors[i].fresh = false;
    if (open_listed(k, c, e))
        return true;
    for (uint32_t i = 0; i < KEEPER_DOORS_MAX; i++)
        if (k->doors[i].open && k->doors[i].fresh)
            close_door(k, &k->doors[i]);
    return false;
}

/* New doors first: a client that finds the old one shut finds the new one open. */
void doors_commit(struct keeper *k)
{
    for (uint32_t i = 0; i < KEEPER_DOORS_MAX; i++)
        if (k->doors[i].open && k->doors[i].fresh)
            crew_tell_door(k, &k->doors[i].info, k->doors[i].fd);
    for (uint32_t i = 0; i < KEEPER_DOORS_MAX; i++) {
        struct channel_door bye = {.type = CHANNEL_DOOR_CLOSE, .id = i};
        if (!k->doors[i].open || k->doors[i].listed)
            continue;
        bye.kind = k->doors[i].info.kind;
        crew_tell_door(k, &bye, -1);
        close_door(k, &k->doors[i]);
    }
}

void doors_close(struct keeper *k)
{
    for (uint32_t i = 0; i < KEEPER_DOORS_MAX; i++)
        if (k->doors[i].open)
            close_door(k, &k->doors[i]);
}

bool doors_has_courier(const struct keeper *k)
{
    for (uint32_t i = 0; i < KEEPER_DOORS_MAX; i++)
        if (k->doors[i].open && k->doors[i].info.kind >= DOOR_COURIER)
            return true;
    return false;
}

void doors_describe(const struct keeper *k, cJSON *list)
{
    static const char *const kinds[] = {[DOOR_COURIER] = "acceptors",
                                        [DOOR_LOOPBACK_UDP] = "loopback",
                                        [DOOR_RELAY] = "relay",
                                        [DOOR_RELAY_PLAIN] = "relay, plain",
                                        [DOOR_METRICS] = "metrics"};
    char address[NET_ADDRESS_TEXT], text[4400];

    for (uint32_t i = 0; i < KEEPER_DOORS_MAX; i++) {
        const struct keeper_door *d = &k->doors[i];
        if (!d->open || d->info.kind < DOOR_COURIER || d->info.kind == DOOR_LOOPBACK_TCP)
            continue;
        if (!d->path[0])
            net_text_address(&d->bound, address);
        (void)snprintf(text, sizeof text, "%s%s%s (%s)", d->path[0] && d->path[0] != '/' ? k->paths.run : "",
                       d->path[0] && d->path[0] != '/' ? "/" : "", d->path[0] ? d->path : address,
                       kinds[d->info.kind]);
        cJSON_AddItemToArray(list, cJSON_CreateString(text));
    }
}

void doors_text(const struct keeper *k, struct sp_text *to)
{
    char text[NET_ADDRESS_TEXT];

    for (uint32_t i = 0; i < KEEPER_DOORS_MAX; i++) {
        const struct keeper_door *d = &k->doors[i];
        if (!d->open || d->info.kind == DOOR_TCP || d->info.kind >= DOOR_COURIER)
            continue; /* TCP is always beside the UDP door of the same address */
        sp_text_str(to, to->n ? ", " : "");
        if (d->info.kind == DOOR_UDP) {
            net_text_address(&d->bound, text);
            sp_text_fmt(to, "%s%s", text, d->info.service == DOOR_KPASSWD ? " (kpasswd)" : "");
        } else {
            sp_text_fmt(to, "%s/%s", k->paths.run, KDC_SOCKET);
        }
    }
}
