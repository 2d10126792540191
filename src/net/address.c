/* SPDX-License-Identifier: MIT */
#include "net/address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>

#include "base/text.h"

static bool parse_v4(const char *host, uint16_t port, struct net_address *out)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&out->sa;

    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    out->n = sizeof *in;
    return inet_pton(AF_INET, host, &in->sin_addr) == 1;
}

/* Link-local addresses mean nothing without their interface, so "%eth0" behind them is kept. */
static bool parse_v6(char *host, uint16_t port, struct net_address *out)
{
    struct sockaddr_in6 *in = (struct sockaddr_in6 *)&out->sa;
    char *scope = strchr(host, '%');

    if (scope) {
        *scope++ = 0;
        in->sin6_scope_id = if_nametoindex(scope);
        if (in->sin6_scope_id == 0)
            return false;
    }
    in->sin6_family = AF_INET6;
    in->sin6_port = htons(port);
    out->n = sizeof *in;
    return inet_pton(AF_INET6, host, &in->sin6_addr) == 1;
}

static bool wrong(struct sp_span text, const char *why, struct sp_err *e)
{
    return sp_fail(e, SP_EINPUT, 0, "\"%.*s\" is not an address (%s): write 127.0.0.1:88 or [::1]:88",
                   (int)(text.n < 60 ? text.n : 60), (const char *)text.p, why);
}

/* Splits at the last colon; an IPv6 address stands in brackets, so that the colon is the port's. */
static bool split(struct sp_span text, char host[64], bool *v6, struct sp_span *port)
{
    const uint8_t *colon = text.n ? memrchr(text.p, ':', text.n) : NULL;
    size_t n = colon ? (size_t)(colon - text.p) : 0;
    const uint8_t *p = text.p;

    if (!colon || n == 0)
        return false;
    *v6 = p[0] == '[';
    if (*v6 && (n < 3 || p[n - 1] != ']'))
        return false;
    *port = sp_span(colon + 1, text.n - n - 1);
    p += *v6 ? 1 : 0;
    n -= *v6 ? 2 : 0;
    if (n >= 64 || memchr(p, 0, n) || (!*v6 && memchr(p, ':', n)))
        return false;
    memcpy(host, p, n);
    host[n] = 0;
    return true;
}

bool net_parse_address(struct sp_span text, struct net_address *out, struct sp_err *e)
{
    struct net_address v = {0};
    struct sp_span port_text;
    uint64_t port;
    char host[64];
    bool v6;

    if (!split(text, host, &v6, &port_text))
        return wrong(text, "ADDR:PORT is wanted", e);
    if (port_text.n > 5 || !sp_decimal(port_text, 65535, &port))
        return wrong(text, "the port is not 0..65535", e);
    if (v6 ? !parse_v6(host, (uint16_t)port, &v) : !parse_v4(host, (uint16_t)port, &v))
        return wrong(text, v6 ? "no IPv6 address" : "no IPv4 address; names are not looked up", e);
    *out = v;
    return true;
}

/* inet_ntop goes through printf, and every request has an address. */
static void text_v4(const uint8_t ip[4], char out[NET_HOST_TEXT])
{
    struct sp_text t = sp_text(out, NET_HOST_TEXT);

    for (int i = 0; i < 4; i++) {
        sp_text_put(&t, ".", i > 0);
        sp_text_uint(&t, ip[i]);
    }
}

void net_text_host(const struct net_address *a, char out[NET_HOST_TEXT])
{
    struct sp_span ip = net_address_bytes(a);

    if (ip.n == 4)
        text_v4(ip.p, out);
    else if (ip.n == 0 || !inet_ntop(a->sa.ss_family, ip.p, out, NET_HOST_TEXT))
        (void)snprintf(out, NET_HOST_TEXT, "?");
}

void net_text_address(const struct net_address *a, char out[NET_ADDRESS_TEXT])
{
    char host[NET_ADDRESS_TEXT], scope[IF_NAMESIZE + 1] = "";

    net_text_host(a, host);
    if (a->sa.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)&a->sa;
        if (in->sin6_scope_id && if_indextoname(in->sin6_scope_id, scope + 1))
            scope[0] = '%';
        (void)snprintf(out, NET_ADDRESS_TEXT, "[%.46s%s]:%u", host, scope, ntohs(in->sin6_port));
    } else {
        (void)snprintf(out, NET_ADDRESS_TEXT, "%.46s:%u", host,
                       ntohs(((const struct sockaddr_in *)&a->sa)->sin_port));
    }
}

bool net_same_address(const struct net_address *a, const struct net_address *b)
{
    const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)&a->sa,
                              *b6 = (const struct sockaddr_in6 *)&b->sa;
    const struct sockaddr_in *a4 = (const struct sockaddr_in *)&a->sa,
                             *b4 = (const struct sockaddr_in *)&b->sa;

    if (a->sa.ss_family != b->sa.ss_family || !sp_same(net_address_bytes(a), net_address_bytes(b)))
        return false;
    if (a->sa.ss_family == AF_INET6)
        return a6->sin6_port == b6->sin6_port && a6->sin6_scope_id == b6->sin6_scope_id;
    return a->sa.ss_family == AF_INET && a4->sin_port == b4->sin_port;
}

bool net_is_loopback(const struct net_address *a)
{
    if (a->sa.ss_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)&a->sa)->sin_addr.s_addr) >> 24) == 127;
    return a->sa.ss_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)&a->sa)->sin6_addr);
}

struct sp_span net_address_bytes(const struct net_address *a)
{
    if (a->sa.ss_family == AF_INET)
        return sp_span(&((const struct sockaddr_in *)&a->sa)->sin_addr, 4);
    if (a->sa.ss_family == AF_INET6)
        return sp_span(&((const struct sockaddr_in6 *)&a->sa)->sin6_addr, 16);
    return (struct sp_span){0};
}

void net_set_bytes(struct net_address *a, struct sp_span ip)
{
    if (a->sa.ss_family == AF_INET && ip.n == 4)
        memcpy(&((struct sockaddr_in *)&a->sa)->sin_addr, ip.p, 4);
    else if (a->sa.ss_family == AF_INET6 && ip.n == 16)
        memcpy(&((struct sockaddr_in6 *)&a->sa)->sin6_addr, ip.p, 16);
}

uint16_t net_port(const struct net_address *a)
{
    return ntohs(a->sa.ss_family == AF_INET ? ((const struct sockaddr_in *)&a->sa)->sin_port
                                            : ((const struct sockaddr_in6 *)&a->sa)->sin6_port);
}

void net_set_port(struct net_address *a, uint16_t port)
{
    if (a->sa.ss_family == AF_INET)
        ((struct sockaddr_in *)&a->sa)->sin_port = htons(port);
    else if (a->sa.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&a->sa)->sin6_port = htons(port);
}
