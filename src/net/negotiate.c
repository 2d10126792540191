/* SPDX-License-Identifier: MIT */
#include "net/negotiate.h"

#include <stdio.h>
#include <stdlib.h>

#include "net/exchange_own.h"

#define HEADER_ROOM 1024 /* of the request, beside host, path and token */

static void garbled(struct net_exchange *x, const char *text)
{
    net_exchange_end(x, NET_EXCHANGE_GARBLED, (struct sp_span){0}, text);
}

static void end_with_token(struct net_exchange *x, const struct net_http_head *h)
{
    size_t n = 0, max = h->token.n / 4 * 3;
    uint8_t *token = malloc(max + 1);

    x->status = 0;
    if (!token)
        net_exchange_end(x, NET_EXCHANGE_REFUSED, (struct sp_span){0}, "no memory");
    else if (!net_get_base64(h->token, token, max, &n))
        garbled(x, "a Negotiate token that is no base64");
    else if (n > x->plan.reply_max)
        garbled(x, "a reply that is too long");
    else
        net_exchange_end(x, NET_EXCHANGE_DONE, sp_span(token, n), "");
    free(token);
}

/* What a server that is not asked in its language says. */
static void end_without(struct net_exchange *x, const struct net_http_head *h)
{
    char text[NET_EXCHANGE_TEXT];

    if (h->status >= 200 && h->status <= 299)
        (void)snprintf(text, sizeof text, "the server asks nobody for Negotiate (HTTP status %u)", h->status);
    else if (h->status >= 300 && h->status <= 399)
        (void)snprintf(text, sizeof text,
                       "the server sends elsewhere, which is not followed (HTTP status %u)", h->status);
    else if (h->status == 400 || h->status == 413 || h->status == 414 || h->status == 431)
        (void)snprintf(text, sizeof text, "the server took no header of that size (HTTP status %u)",
                       h->status);
    else
        (void)snprintf(text, sizeof text, "HTTP status %u", h->status);
    garbled(x, text);
}

static void headed(struct net_exchange *x, const struct net_http_head *h)
{
    if (h->status != 401)
        end_without(x, h);
    else if (h->token.n > 0)
        end_with_token(x, h);
    else if (h->negotiates)
        net_exchange_end(x, NET_EXCHANGE_DONE, (struct sp_span){0},
                         "it offers Negotiate, but not with this mechanism");
    else
        garbled(x, "the server does not offer Negotiate");
}

static bool put_url(const struct net_negotiate *n, struct net_http_url *out)
{
    *out = (struct net_http_url){.tls = n->tls};
    (void)snprintf(out->port, sizeof out->port, "%u", n->port);
    return snprintf(out->host, sizeof out->host, "%s", n->host) < (int)sizeof out->host &&
           snprintf(out->path, sizeof out->path, "%s", n->path) < (int)sizeof out->path;
}

struct net_exchange *net_exchange_negotiate(struct net_web_client *c, const struct net_negotiate *n)
{
    size_t max = HEADER_ROOM + strlen(n->host) + strlen(n->path) + (n->plan.bytes.n + 2) / 3 * 4;
    struct net_post w = {
        .plan = n->plan, .host = n->host, .port = n->port, .path = n->path, .type = "", .tls = n->tls};
    struct net_exchange *x = NULL;
    struct net_http_url url;
    char *p = malloc(max);
    struct sp_text t = sp_text(p, p ? max : 0);

    if (p && put_url(n, &url)) {
        net_put_http_get(&t, &url, n->plan.bytes);
        sp_assert(!t.cut);
        x = net_exchange_head(c, &w, sp_span(t.p, t.n), headed);
    }
    free(p);
    return x;
}
