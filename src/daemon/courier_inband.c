/* SPDX-License-Identifier: MIT */
/* Tries by a server that takes IAKERB at its own port: each is the first token of a fresh context in a GET
 * (net/negotiate.h, gss/ride.h). Whoever runs that server sees the request; what may be shown to it was
 * decided before (decision 60). */
#include <stdio.h>
#include <stdlib.h>

#include "daemon/courier.h"
#include "gss/ride.h"
#include "net/negotiate.h"

struct courier_inband {
    struct courier_inband *next;
    struct courier *courier;
    struct net_exchange *exchange;
    uint32_t id;
    enum ride_dialect dialect;
    bool may_change; /* [client] old-mit names the host: the draft's dialect is left to try */
    bool was_old;
    struct net_negotiate ask;
    int64_t began_us;
    char host[ADMIN_HOST_MAX], path[ADMIN_PATH_MAX], realm[256];
    size_t n;
    uint8_t message[];
};

bool courier_names_host(const char *list, struct sp_span host)
{
    while (*(list += strspn(list, " \t,"))) {
        size_t n = strcspn(list, " \t,");

        if (sp_same_nocase(sp_span(list, n), host) || sp_same(sp_span(list, n), SP_LIT("*")))
            return true;
        list += n;
    }
    return false;
}

/* ---- how it ends ---- */

static struct courier_inband **find(struct courier *c, uint32_t id)
{
    struct courier_inband **at = &c->inband;

    while (*at && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

static void drop(struct courier_inband *t)
{
    *find(t->courier, t->id) = t->next;
    free(t);
}

static void tell(struct courier_inband *t, enum ladder_end end, struct sp_span bytes, const char *text)
{
    courier_told(t->courier, t->id, end, bytes, text, admin_mono_us() - t->began_us);
    drop(t);
}

/* What the acceptor itself says of its KDCs is no KDC's answer, and means nothing to who asked. */
static void tell_refusal(struct courier_inband *t, const struct sp_err *e)
{
    if (e->proto == KRB_AP_ERR_IAKERB_KDC_NOT_FOUND)
        tell(t, LADDER_UNSUPPORTED, sp_span(NULL, 0), "it knows no KDC of this realm");
    else if (e->proto == KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE)
        tell(t, LADDER_REFUSED, sp_span(NULL, 0), "the KDC behind it does not answer");
    else
        tell(t, e->kind == SP_EREFUSED ? LADDER_REFUSED : LADDER_GARBLED, sp_span(NULL, 0), e->text);
}

static void tell_token(struct courier_inband *t, struct sp_span token)
{
    struct sp_span message;
    struct sp_err e = {0};

    if (ride_get(t->dialect, token, &t->courier->mem, &message, &e))
        tell(t, LADDER_ANSWERED, message, NULL);
    else
        tell_refusal(t, &e);
}

/* A status that will be the same for every request: no server of this kind, and not dead either. */
static bool is_no_way(int32_t status)
{
    return status && status < 500 && status != 400 && status != 408 && status != 413 && status != 414 &&
           status != 429 && status != 431;
}

static bool begin(struct courier_inband *t);

/* Negotiate, but not a word to our token: MIT's old acceptors say no more to the draft's dialect, nor the
 * draft's to the old one. A fresh context may try the other where the configuration says so (spec of both).
 */
static void tell_silence(struct courier_inband *t)
{
    if (!t->may_change) {
        tell(t, LADDER_UNSUPPORTED, sp_span(NULL, 0),
             t->was_old ? "it offers Negotiate, but not with IAKERB"
                        : "it offers Negotiate, but not with IAKERB (MIT krb5 before 1.22: see old-mit)");
        return;
    }
    t->dialect = RIDE_DRAFT;
    t->may_change = false;
    t->was_old = true;
    if (!begin(t))
        tell(t, LADDER_REFUSED, sp_span(NULL, 0), "it could not be begun");
}

static void exchanged(void *owner, const struct net_exchange_result *r)
{
    struct courier_inband *t = owner;
    struct courier *c = t->courier;

    t->exchange = NULL;
    if (r->end == NET_EXCHANGE_DONE && r->bytes.n)
        tell_token(t, r->bytes);
    else if (r->end == NET_EXCHANGE_DONE)
        tell_silence(t);
    else if (r->end == NET_EXCHANGE_GARBLED && r->status == 0)
        tell(t, LADDER_GARBLED, sp_span(NULL, 0), r->text);
    else
        tell(t, is_no_way(r->status) ? LADDER_UNSUPPORTED : LADDER_REFUSED, sp_span(NULL, 0), r->text);
    sp_arena_reset(&c->mem);
}

/* ---- how it begins ---- */

static bool begin(struct courier_inband *t)
{
    const struct ride r = {t->dialect, sp_str(t->realm), sp_span(t->message, t->n)};
    struct sp_err e = {0};

    if (t->courier->client && ride_make(&r, &t->courier->mem, &t->ask.plan.bytes, &e))
        t->exchange = net_exchange_negotiate(t->courier->client, &t->ask);
    t->ask.plan.bytes = sp_span(NULL, 0);
    return t->exchange != NULL;
}

static struct courier_inband *make(struct courier *c, const struct ladder_action *a)
{
    struct courier_inband *t = calloc(1, sizeof *t + a->bytes.n);

    if (!t)
        return NULL;
    t->courier = c;
    t->id = a->id;
    t->began_us = admin_mono_us();
    t->may_change = courier_names_host(c->config.old_mit_hosts, a->target->host);
    t->dialect = t->may_change ? RIDE_OLD : RIDE_DRAFT;
    (void)snprintf(t->host, sizeof t->host, "%.*s", SP_FMT(a->target->host));
    (void)snprintf(t->path, sizeof t->path, "%.*s", SP_FMT(a->target->path));
    (void)snprintf(t->realm, sizeof t->realm, "%.*s", SP_FMT(a->realm));
    t->n = a->bytes.n;
    memcpy(t->message, a->bytes.p, a->bytes.n);
    t->ask = (struct net_negotiate){
        .plan = {.until_us = a->until_us, .reply_max = LADDER_MESSAGE_MAX, .done = exchanged, .owner = t},
        .host = t->host,
        .port = a->port,
        .path = t->path,
        .tls = a->target->tls
    };
    return t;
}

void courier_try_inband(struct courier *c, const struct ladder_action *a)
{
    struct courier_inband *t = make(c, a);

    if (t) {
        t->next = c->inband;
        c->inband = t;
        courier_put_address(&a->address, a->port, &t->ask.plan.to);
        if (c->config.proxy[0])
            t->ask.plan.to = c->proxy;
        if (t->ask.plan.to.n && begin(t))
            return;
        drop(t);
    }
    courier_told(c, a->id, LADDER_REFUSED, sp_span(NULL, 0),
                 c->config.proxy[0] && !c->proxy.n ? "the HTTP proxy's name is not known"
                                                   : "it could not be begun",
                 0);
}

bool courier_cancel_inband(struct courier *c, uint32_t try_id)
{
    struct courier_inband *t = *find(c, try_id);

    if (!t)
        return false;
    net_exchange_cancel(t->exchange);
    drop(t);
    return true;
}
