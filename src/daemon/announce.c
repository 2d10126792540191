/* SPDX-License-Identifier: MIT */
/* What the locator (courier/locate.h) is told: this machine's realm at the KDC's own doors, and every realm
 * of the configuration at the courier's on loopback. */
#include <stdlib.h>

#include "daemon/keeper.h"

static void add_door(struct locate_realm *r, const struct keeper_door *d)
{
    enum locate_transport transport =
        d->info.kind == DOOR_UDP || d->info.kind == DOOR_LOOPBACK_UDP ? LOCATE_UDP : LOCATE_TCP;

    if (d->info.service != DOOR_KPASSWD)
        locate_file_add_door(r, LOCATE_KDC, transport, &d->bound);
    /* The courier's doors take whatever comes. */
    if (d->info.service == DOOR_KPASSWD)
        locate_file_add_door(r, LOCATE_KPASSWD, transport, &d->bound);
}

static bool is_of(const struct keeper_door *d, bool own)
{
    switch (d->info.kind) {
    case DOOR_LOOPBACK_UDP:
    case DOOR_LOOPBACK_TCP:
        return !own;
    case DOOR_UDP:
    case DOOR_TCP:
        return own;
    case DOOR_UNIX:
    case DOOR_COURIER:
    case DOOR_RELAY:
    case DOOR_RELAY_PLAIN:
    case DOOR_METRICS:
        break;
    }
    return false;
}

static void add_doors(const struct keeper *k, struct locate_realm *r, bool own)
{
    for (uint32_t i = 0; i < KEEPER_DOORS_MAX; i++)
        if (k->doors[i].open && is_of(&k->doors[i], own))
            add_door(r, &k->doors[i]);
}

static void put_own(const struct keeper *k, struct locate_realm *r)
{
    const struct channel_config *c = &k->config;

    r->name = sp_str(c->realm);
    for (uint32_t i = 0; i < c->alias_count && i < LOCATE_ALIASES_MAX; i++)
        r->alias[r->alias_count++] = sp_str(c->alias[i]);
    add_doors(k, r, true);
}

static void put_other(const struct keeper *k, const struct admin_realm *from, struct locate_realm *r)
{
    r->name = sp_str(from->name);
    for (uint32_t i = 0; i < from->alias_count; i++)
        r->alias[r->alias_count++] = sp_str(from->alias[i]);
    add_doors(k, r, false);
}

void keeper_announce(struct keeper *k)
{
    const struct admin_realms *realms = &k->supply.realms;
    struct locate_realm *v = calloc(realms->count + 1, sizeof *v);
    uint32_t count = 0;
    struct sp_err e = {0};

    if (!v)
        return;
    put_own(k, &v[count]);
    count += v[count].door_count > 0;
    for (uint32_t i = 0; i < realms->count; i++) {
        v[count] = (struct locate_realm){0};
        if (strcmp(realms->v[i].name, k->config.realm) == 0)
            continue;
        put_other(k, &realms->v[i], &v[count]);
        count += v[count].door_count > 0;
    }
    if (!locate_file_write(&k->locate, k->paths.run, v, count, &e))
        keeper_say(k, "reload", "programs are not told where the KDC is: %s", e.text);
    free(v);
}
