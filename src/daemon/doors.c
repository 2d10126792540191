/* SPDX-License-Identifier: MIT */
/* The keeper's sockets. Opened here, used by workers; a reload opens what is new before it closes what is
 * old, and leaves the rest alone. */
#include <errno.h>
#include <unistd.h>

#include "daemon/keeper.h"

#define KDC_SOCKET "kdc.sock"
#define COURIER_SOCKET "courier.sock"

static bool is_unix(enum door_kind kind)
{
    return kind == DOOR_UNIX || kind == DOOR_COURIER;
}

static const char *socket_of(enum door_kind kind)
{
    return kind == DOOR_COURIER ? COURIER_SOCKET : KDC_SOCKET;
}

static struct keeper_door *find(struct keeper *k, enum door_kind kind, enum door_service service,
                                const struct net_address *asked)
{
    for (uint32_t i = 0; i < KEEPER_DOORS_MAX; i++) {
        struct keeper_door *d = &k->doors[i];
        if (d->open && d->info.kind == kind && d->info.service == service &&
            (is_unix(kind) || net_same_address(&d->asked, asked)))
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

static bool open_door(struct keeper *k, const struct keeper_door *want, struct sp_err *e)
{
    struct keeper_door *d = find(k, want->info.kind, want->info.service, &want->asked);

    if (d) {
        d->listed = true;
        return true;
    }
    d = unused(k);
    if (!d)
        return sp_fail(e, SP_EFULL, 0, "more than %d doors", KEEPER_DOORS_MAX);
    *d = *want;
    d->bound = d->asked;
    d->fd = want->info.kind == DOOR_UDP ? net_listen_udp(&d->bound, e)
            : want->info.kind == DOOR_TCP
                ? net_listen_tcp(&d->bound, e)
                : net_listen_unix(k->paths.run, socket_of(want->info.kind), 0666, e);
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
static bool open_both(struct keeper *k, const char *text, enum door_service service, struct sp_err *e)
{
    struct keeper_door udp =
                           {
                               .info = {.kind = DOOR_UDP, .service = service}
    },
                       tcp;

    if (!net_parse_address(sp_str(text), &udp.asked, e) || !open_door(k, &udp, e))
        return false;
    tcp = udp;
    tcp.info.kind = DOOR_TCP;
    tcp.asked = find(k, DOOR_UDP, service, &udp.asked)->bound;
    return open_door(k, &tcp, e);
}

/* A host without IPv6 has no [::1]; the default list names it, and the rest is served all the same. */
static bool may_be_absent(const char *text, const struct sp_err *e)
{
    return strncmp(text, "[::1]:", 6) == 0 && (e->proto == EADDRNOTAVAIL || e->proto == EAFNOSUPPORT);
}

static bool open_list(struct keeper *k, char (*list)[64], uint32_t count, enum door_service service,
                      struct sp_err *e)
{
    for (uint32_t i = 0; i < count; i++) {
        struct sp_err why = {0};
        if (open_both(k, list[i], service, &why))
            continue;
        if (!may_be_absent(list[i], &why)) {
            *e = why;
            return false;
        }
        keeper_say(k, "start", "%s; left out", why.text);
    }
    return true;
}

static void close_door(const struct keeper *k, struct keeper_door *d)
{
    if (is_unix(d->info.kind))
        net_unlink_unix(k->paths.run, socket_of(d->info.kind));
    (void)close(d->fd);
    *d = (struct keeper_door){0};
}

static bool open_listed(struct keeper *k, const struct admin_config *c, struct sp_err *e)
{
    const struct keeper_options *o = &k->options;
    struct keeper_door local = {
        .info = {.kind = DOOR_UNIX, .service = DOOR_EITHER}
    };
    struct keeper_door courier = {
        .info = {.kind = DOOR_COURIER, .service = DOOR_KDC}
    };
    char(*kdc)[64] = o->listen ? o->listen : (char(*)[64])(uintptr_t)c->listen;
    char(*kpasswd)[64] = o->listen_kpasswd ? o->listen_kpasswd : (char(*)[64])(uintptr_t)c->listen_kpasswd;

    return open_door(k, &local, e) && (!c->courier_listen || open_door(k, &courier, e)) &&
           open_list(k, kdc, o->listen ? o->listen_count : c->listen_count, DOOR_KDC, e) &&
           open_list(k, kpasswd, o->listen_kpasswd ? o->listen_kpasswd_count : c->listen_kpasswd_count,
                     DOOR_KPASSWD, e);
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

bool doors_has(const struct keeper *k, enum door_kind kind)
{
    for (uint32_t i = 0; i < KEEPER_DOORS_MAX; i++)
        if (k->doors[i].open && k->doors[i].info.kind == kind)
            return true;
    return false;
}

void doors_text(const struct keeper *k, struct sp_text *to)
{
    char text[NET_ADDRESS_TEXT];

    for (uint32_t i = 0; i < KEEPER_DOORS_MAX; i++) {
        const struct keeper_door *d = &k->doors[i];
        if (!d->open || d->info.kind == DOOR_TCP || d->info.kind == DOOR_COURIER)
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
