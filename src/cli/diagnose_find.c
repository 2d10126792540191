/* SPDX-License-Identifier: MIT */
/* Where the requests of a realm can go: what is configured, and what DNS says where it is asked. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "cli/diagnose.h"
#include "cli/login.h"

/* ---- addresses ---- */

static void no_address(struct diag_place *p, const char *why)
{
    (void)snprintf(p->trouble, sizeof p->trouble, "%s", why);
}

static void addressed(void *owner, const struct net_found *f)
{
    struct diag_place *p = owner;

    p->asking = false;
    p->d->waiting--;
    for (uint32_t i = 0; i < f->count && p->address_count < DIAG_ADDRESSES_MAX; i++) {
        struct net_address *a = &p->address[p->address_count++];

        *a = f->record[i].address;
        net_set_port(a, p->t.port);
    }
    if (f->failed)
        no_address(p, f->text ? f->text : "no answer");
    else if (f->count == 0)
        no_address(p, "there is no such name");
    diag_begin_tries(p);
}

static bool is_literal(struct diag_place *p)
{
    char text[ADMIN_HOST_MAX + 10];
    struct sp_err e = {0};

    (void)snprintf(text, sizeof text, strchr(p->t.host, ':') ? "[%s]:%u" : "%s:%u", p->t.host, p->t.port);
    return net_parse_address(sp_str(text), &p->address[0], &e);
}

static void begin_place(struct diag_place *p)
{
    struct diag *d = p->d;
    bool relayed = d->proxied && p->t.rung != ADMIN_NATIVE;

    if (relayed)
        p->address[0] = d->proxy; /* whose business the name is */
    if (relayed || is_literal(p)) {
        p->address_count = 1;
        diag_begin_tries(p);
    } else if (net_resolve(d->resolver, NET_LOOKUP_ADDRESS, p->t.host, addressed, p)) {
        p->asking = true;
        d->waiting++;
        d->begun++;
    } else {
        no_address(p, "out of memory");
    }
}

static void add_place(struct diag *d, const struct admin_target *t, bool found)
{
    struct diag_place *p = &d->place[d->place_count];

    for (uint32_t i = 0; i < d->place_count; i++) {
        const struct admin_target *have = &d->place[i].t;
        if (have->rung == t->rung && have->port == t->port && strcasecmp(have->host, t->host) == 0 &&
            strcmp(have->path, t->path) == 0)
            return;
    }
    if (d->place_count == DIAG_PLACES_MAX)
        return;
    d->place_count++;
    *p = (struct diag_place){.d = d, .t = *t, .found = found};
    begin_place(p);
}

/* ---- SRV and URI records ---- */

struct lookup {
    struct diag *d;
    const char *kind;
    enum net_lookup what;
    char name[300];
};

static void note_record(struct diag *d, const struct lookup *l, uint32_t priority, const char *text)
{
    struct diag_record *r = &d->record[d->record_count];

    if (d->record_count == DIAG_RECORDS_MAX)
        return;
    d->record_count++;
    *r = (struct diag_record){.kind = l->kind, .priority = priority};
    (void)snprintf(r->name, sizeof r->name, "%s", l->name);
    (void)snprintf(r->text, sizeof r->text, "%s", text);
}

static void take_srv(struct diag *d, const struct lookup *l, const struct net_found_record *r)
{
    struct admin_target t = {.rung = ADMIN_NATIVE, .port = r->port};
    char text[300];

    (void)snprintf(t.host, sizeof t.host, "%s", r->host);
    (void)snprintf(text, sizeof text, "%s:%u", r->host, r->port);
    note_record(d, l, r->priority, text);
    if (r->host[0] && strcmp(r->host, ".") != 0) /* RFC 2782: a dot says that there is no such service */
        add_place(d, &t, true);
}

static bool read_relay(const char *url, struct admin_target *t)
{
    struct net_http_url u;
    struct sp_err e = {0};
    uint64_t port;

    if (!net_parse_url(url, &u, &e) || !u.tls || !sp_decimal(sp_str(u.port), 65535, &port))
        return false;
    t->rung = ADMIN_RELAY;
    t->tls = true;
    t->port = (uint16_t)port;
    (void)snprintf(t->host, sizeof t->host, "%s", u.host);
    return snprintf(t->path, sizeof t->path, "%s", strcmp(u.path, "/") == 0 ? "/KdcProxy" : u.path) <
           (int)sizeof t->path;
}

static bool read_kdc(const char *place, bool tcp, struct admin_target *t)
{
    char host[256], port[8];
    struct sp_err e = {0};
    uint64_t n;

    if (!login_split(place, "88", host, port, &e) || !sp_decimal(sp_str(port), 65535, &n))
        return false;
    t->rung = ADMIN_NATIVE;
    t->tcp_only = tcp;
    t->port = (uint16_t)n;
    (void)snprintf(t->host, sizeof t->host, "%s", host);
    return true;
}

/* krb5srv:FLAGS:TRANSPORT:PLACE */
static void take_uri(struct diag *d, const struct lookup *l, const struct net_found_record *r)
{
    struct admin_target t = {0};
    const char *transport, *rest = NULL;

    note_record(d, l, r->priority, r->target);
    if (strncasecmp(r->target, "krb5srv:", 8) != 0)
        return;
    transport = strchr(r->target + 8, ':');
    if (transport)
        rest = strchr(++transport, ':');
    if (!rest)
        return;
    rest++;
    if (strncasecmp(transport, "kkdcp:", 6) == 0 ? read_relay(rest, &t)
                                                 : read_kdc(rest, strncasecmp(transport, "tcp:", 4) == 0, &t))
        add_place(d, &t, true);
}

static void found(void *owner, const struct net_found *f)
{
    struct lookup *l = owner;
    struct diag *d = l->d;

    d->waiting--;
    d->asking--;
    if (f->failed)
        diag_find(
            d, DIAG_NAMED, "see that the name servers of resolv.conf answer, or list the KDCs with kdc =",
            "DNS does not answer for the %s records of %s: %s", l->kind, l->name, f->text ? f->text : "");
    for (uint32_t i = 0; i < f->count; i++) {
        if (l->what == NET_LOOKUP_SRV)
            take_srv(d, l, &f->record[i]);
        else
            take_uri(d, l, &f->record[i]);
    }
}

static void look_up(struct diag *d, enum net_lookup what, const char *kind, const char *prefix)
{
    struct lookup *l = sp_new(&d->mem, struct lookup, &(struct sp_err){0});

    if (!l)
        return;
    *l = (struct lookup){.d = d, .kind = kind, .what = what};
    (void)snprintf(l->name, sizeof l->name, "%s%s", prefix, d->name);
    if (net_resolve(d->resolver, what, l->name, found, l)) {
        d->asking++;
        d->waiting++;
        d->begun++;
    }
}

void diag_begin_places(struct diag *d)
{
    if (!d->realm)
        return;
    for (uint32_t i = 0; i < d->realm->target_count; i++)
        if (d->realm->target[i].rung != ADMIN_RELAY || !d->realm->relay_off)
            add_place(d, &d->realm->target[i], false);
    if (d->realm->discover == ADMIN_SRV || d->realm->discover == ADMIN_URI_SRV) {
        look_up(d, NET_LOOKUP_SRV, "SRV", "_kerberos._udp.");
        look_up(d, NET_LOOKUP_SRV, "SRV", "_kerberos._tcp.");
    }
    if (d->realm->discover == ADMIN_URI || d->realm->discover == ADMIN_URI_SRV)
        look_up(d, NET_LOOKUP_URI, "URI", "_kerberos.");
}
