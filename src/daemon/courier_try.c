/* SPDX-License-Identifier: MIT */
/* Tries that leave this machine, and look-ups: what the ladder says becomes exchanges of net/exchange.h, and
 * how they end is told back. Those of LADDER_BY_NEGOTIATE are in courier_inband.c. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "courier/kkdcp.h"
#include "daemon/courier.h"
#include "net/http.h"

#define BUCKETS 256

struct courier_try {
    struct courier_try *next;
    struct courier *courier;
    struct net_exchange *exchange;
    uint32_t id;
    enum ladder_carry carry;
};

struct courier_lookup {
    struct courier_lookup *next;
    struct courier *courier;
    uint32_t id;
    enum ladder_lookup what;
};

void courier_told(struct courier *c, uint32_t try_id, enum ladder_end end, struct sp_span bytes,
                  const char *text, int64_t took_us)
{
    const struct ladder_outcome o = {
        .try_id = try_id, .end = end, .bytes = bytes, .text = sp_str(text ? text : ""), .took_us = took_us};

    ladder_tell(c->ladder, admin_env(), &o);
}

/* ---- tries ---- */

static struct courier_try **find(struct courier *c, uint32_t id)
{
    struct courier_try **at = &c->tries[id % BUCKETS];

    while (*at && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

static void end_try(struct courier_try *t)
{
    struct courier_try **at = find(t->courier, t->id);

    *at = t->next;
    free(t);
}

/* A server that is there and is no relay is not dead, and no way either. */
static enum ladder_end end_of_status(int32_t status)
{
    return status == 401 || status == 403 || status == 404 || status == 405 ? LADDER_UNSUPPORTED
                                                                            : LADDER_REFUSED;
}

static enum ladder_end end_of(const struct net_exchange_result *r)
{
    switch (r->end) {
    case NET_EXCHANGE_DONE:
        return LADDER_ANSWERED;
    case NET_EXCHANGE_GARBLED:
        return r->status && r->status != 200 ? end_of_status(r->status) : LADDER_GARBLED;
    case NET_EXCHANGE_REFUSED:
    case NET_EXCHANGE_LATE:
        break;
    }
    return LADDER_REFUSED;
}

/* The relay lives and has no answer to this one: too many, nobody behind it, or not what it carries. As a KDC
 * would say it, so that the next way is taken and this one stays alive for others. */
static bool is_busy(int32_t status)
{
    return status == 400 || status == 413 || status == 429 || status == 502 || status == 503;
}

static void exchanged(void *owner, const struct net_exchange_result *r)
{
    struct courier_try *t = owner;
    struct courier *c = t->courier;
    enum ladder_end end = end_of(r);
    struct sp_span bytes = r->bytes;
    const char *text = r->text;
    struct sp_err e = {0};
    struct kkdcp m;

    if (t->carry == LADDER_BY_HTTPS && is_busy(r->status)) {
        end = LADDER_ANSWERED;
        bytes = courier_make_error(c, NULL, KDC_ERR_SVC_UNAVAILABLE, NULL);
    } else if (end == LADDER_ANSWERED && t->carry == LADDER_BY_HTTPS) {
        if (kkdcp_get_reply(bytes, &c->mem, &m, &e)) {
            bytes = m.message;
        } else {
            end = LADDER_GARBLED;
            text = e.text;
        }
    }
    courier_told(c, t->id, end, end == LADDER_ANSWERED ? bytes : sp_span(NULL, 0), text, r->took_us);
    end_try(t);
    sp_arena_reset(&c->mem);
}

void courier_put_address(const struct ladder_address *from, uint16_t port, struct net_address *out)
{
    *out = (struct net_address){0};
    if (from->n == 4) {
        struct sockaddr_in *in = (struct sockaddr_in *)&out->sa;
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        memcpy(&in->sin_addr, from->ip, 4);
        out->n = sizeof *in;
    } else {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&out->sa;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        memcpy(&in6->sin6_addr, from->ip, 16);
        out->n = sizeof *in6;
    }
}

static void keep(char *to, size_t max, struct sp_span s)
{
    (void)snprintf(to, max, "%.*s", SP_FMT(s));
}

static struct net_exchange *post(struct courier *c, const struct ladder_action *a,
                                 const struct net_plan *plan)
{
    const struct kkdcp m = {.message = a->bytes, .realm = a->realm};
    char host[ADMIN_HOST_MAX], path[ADMIN_PATH_MAX];
    struct net_post p = {.plan = *plan,
                         .host = host,
                         .port = a->port,
                         .path = path,
                         .type = KKDCP_TYPE,
                         .tls = a->target->tls};
    struct net_exchange *x = NULL;
    struct sp_err e = {0};

    keep(host, sizeof host, a->target->host);
    keep(path, sizeof path, a->target->path);
    if (c->config.proxy[0])
        p.plan.to = c->proxy;
    if (c->client && p.plan.to.n && kkdcp_make(&m, &c->mem, &p.plan.bytes, &e))
        x = net_exchange_post(c->client, &p);
    return x;
}

static struct net_exchange *begin(struct courier *c, const struct ladder_action *a, struct courier_try *t)
{
    struct net_plan plan = {.bytes = a->bytes,
                            .until_us = a->until_us,
                            .reply_max = LADDER_MESSAGE_MAX,
                            .done = exchanged,
                            .owner = t};

    courier_put_address(&a->address, a->port, &plan.to);
    if (a->carry == LADDER_BY_UDP)
        return net_exchange_udp(c->base, &plan);
    if (a->carry == LADDER_BY_TCP)
        return net_exchange_tcp(c->base, &plan);
    return post(c, a, &plan);
}

static void begin_try(struct courier *c, const struct ladder_action *a)
{
    struct courier_try *t = calloc(1, sizeof *t);

    if (t)
        *t = (struct courier_try){
            .next = c->tries[a->id % BUCKETS], .courier = c, .id = a->id, .carry = a->carry};
    if (!t || !(t->exchange = begin(c, a, t))) {
        free(t);
        courier_told(c, a->id, LADDER_REFUSED, sp_span(NULL, 0),
                     a->carry == LADDER_BY_HTTPS && c->config.proxy[0] && !c->proxy.n
                         ? "the HTTP proxy's name is not known"
                         : "it could not be begun",
                     0);
        return;
    }
    c->tries[a->id % BUCKETS] = t;
}

void courier_try(struct courier *c, const struct ladder_action *a)
{
    switch (a->carry) {
    case LADDER_BY_WORKER:
        courier_ask_worker(c, a);
        return;
    case LADDER_BY_UDP:
    case LADDER_BY_TCP:
    case LADDER_BY_HTTPS:
        begin_try(c, a);
        return;
    case LADDER_BY_NEGOTIATE:
        courier_try_inband(c, a);
        return;
    }
}

void courier_cancel(struct courier *c, uint32_t try_id)
{
    struct courier_try *t = *find(c, try_id);

    if (t) {
        net_exchange_cancel(t->exchange);
        end_try(t);
        return;
    }
    if (!courier_cancel_inband(c, try_id))
        (void)courier_cancel_worker(c, try_id);
}

/* ---- look-ups ---- */

static void end_lookup(struct courier_lookup *l)
{
    struct courier_lookup **at = &l->courier->lookups;

    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    free(l);
}

static void put_found_address(const struct net_found_record *from, struct ladder_record *to)
{
    struct sp_span ip = net_address_bytes(&from->address);

    to->address.n = (uint8_t)ip.n;
    if (ip.n)
        memcpy(to->address.ip, ip.p, ip.n);
}

/* krb5srv:FLAGS:TRANSPORT:RESIDUAL, as MIT and Heimdal read it: "m" marks the primary; udp and tcp have a
 * host with a port, kkdcp a URL. False: another scheme. */
static bool read_uri(struct sp_span uri, struct ladder_record *out)
{
    char text[512], *flags, *transport, *rest;
    struct net_http_url url;
    struct sp_err e = {0};
    uint64_t port = 88;
    char *colon;

    keep(text, sizeof text, uri);
    if (strncasecmp(text, "krb5srv:", 8) != 0)
        return false;
    flags = text + 8;
    if (!(transport = strchr(flags, ':')) || !(rest = strchr(transport + 1, ':')))
        return false;
    *transport++ = *rest++ = 0;
    out->primary = strpbrk(flags, "mM") != NULL;
    out->kkdcp = strcasecmp(transport, "kkdcp") == 0;
    out->tcp = strcasecmp(transport, "tcp") == 0;
    if (out->kkdcp) {
        if (!net_parse_url(rest, &url, &e) || !url.tls || !sp_decimal(sp_str(url.port), 65535, &port))
            return false;
        out->host = sp_span(memmem(uri.p, uri.n, url.host, strlen(url.host)), strlen(url.host));
        out->path = strcmp(url.path, "/") == 0
                        ? SP_LIT(KKDCP_PATH)
                        : sp_span(memmem(uri.p, uri.n, url.path, strlen(url.path)), strlen(url.path));
    } else {
        if (!out->tcp && strcasecmp(transport, "udp") != 0)
            return false;
        colon = strchr(rest, ':');
        if (colon && !sp_decimal(sp_str(colon + 1), 65535, &port))
            return false;
        out->host = sp_span(uri.p + (rest - text), colon ? (size_t)(colon - rest) : strlen(rest));
    }
    out->port = (uint16_t)port;
    return out->host.p && out->host.n > 0;
}

static void put_found(const struct courier_lookup *l, const struct net_found *f, struct ladder_found *out)
{
    for (uint32_t i = 0; i < f->count && i < LADDER_FOUND_MAX; i++) {
        const struct net_found_record *from = &f->record[i];
        struct ladder_record *to = &out->record[out->count];

        *to = (struct ladder_record){.port = from->port, .priority = from->priority, .weight = from->weight};
        if (l->what == LADDER_LOOKUP_ADDRESS)
            put_found_address(from, to);
        else if (l->what == LADDER_LOOKUP_SRV)
            to->host = sp_str(from->host);
        else if (!read_uri(sp_str(from->target), to))
            continue;
        out->count++;
    }
}

static void found(void *owner, const struct net_found *f)
{
    struct courier_lookup *l = owner;
    struct courier *c = l->courier;
    struct ladder_found out = {.lookup_id = l->id, .failed = f->failed};

    put_found(l, f, &out);
    ladder_tell_found(c->ladder, admin_env(), &out);
    end_lookup(l);
}

void courier_look_up(struct courier *c, const struct ladder_action *a)
{
    static const enum net_lookup kinds[] = {[LADDER_LOOKUP_ADDRESS] = NET_LOOKUP_ADDRESS,
                                            [LADDER_LOOKUP_SRV] = NET_LOOKUP_SRV,
                                            [LADDER_LOOKUP_URI] = NET_LOOKUP_URI};
    struct ladder_found nothing = {.lookup_id = a->id, .failed = true};
    struct courier_lookup *l = calloc(1, sizeof *l);
    char name[ADMIN_HOST_MAX + 32];

    keep(name, sizeof name, a->name);
    if (l) {
        *l = (struct courier_lookup){.next = c->lookups, .courier = c, .id = a->id, .what = a->lookup};
        c->lookups = l;
    }
    if (l && c->resolver && net_resolve(c->resolver, kinds[a->lookup], name, found, l))
        return;
    if (l)
        end_lookup(l);
    ladder_tell_found(c->ladder, admin_env(), &nothing);
}

/* ---- beginning ---- */

static void proxy_found(void *owner, const struct net_found *f)
{
    struct courier *c = owner;
    uint16_t port = net_port(&c->proxy_as);

    if (f->failed || f->count == 0)
        return;
    c->proxy = f->record[0].address;
    net_set_port(&c->proxy, port);
}

static void find_proxy(struct courier *c)
{
    struct net_http_url url;
    struct sp_err e = {0};
    char text[300];
    uint64_t port;

    if (!c->config.proxy[0] || !net_parse_url(c->config.proxy, &url, &e) ||
        !sp_decimal(sp_str(url.port), 65535, &port))
        return;
    (void)snprintf(text, sizeof text, strchr(url.host, ':') ? "[%s]:%u" : "%s:%u", url.host, (unsigned)port);
    if (net_parse_address(sp_str(text), &c->proxy, &e))
        return;
    c->proxy_as.sa.ss_family = AF_INET;
    c->proxy_as.n = sizeof(struct sockaddr_in);
    net_set_port(&c->proxy_as, (uint16_t)port);
    (void)net_resolve(c->resolver, NET_LOOKUP_ADDRESS, url.host, proxy_found, c);
}

static void network_changed(void *owner)
{
    struct courier *c = owner;

    ladder_network_changed(c->ladder, admin_env());
    find_proxy(c);
}

static const char *or_null(const char *text)
{
    return text[0] ? text : NULL;
}

/* Without a name server, or without netlink, what is listed by its address still works. */
bool courier_start_routes(struct courier *c, struct sp_err *e)
{
    const struct net_web_settings s = {.ca_file = or_null(c->config.ca),
                                       .certificate_file = or_null(c->config.certificate),
                                       .proxy = or_null(c->config.proxy)};
    struct sp_err why = {0};

    if (!c->config.needs_names)
        return true;
    c->resolver = net_resolver_new(c->base, or_null(c->config.resolver), &why);
    c->changes = net_changes_new(c->base, network_changed, c, &why);
    if (c->config.needs_client && !(c->client = net_web_client_new(c->base, &s, e)))
        return false;
    if (c->resolver)
        find_proxy(c);
    return true;
}
