/* SPDX-License-Identifier: MIT */
#include "daemon/channel.h"

#include <stdio.h>
#include <unistd.h>

#include "net/pass.h"

static void keep(char *to, size_t max, struct sp_span s)
{
    size_t n = s.n < max - 1 ? s.n : max - 1;

    memset(to, 0, max);
    if (n)
        memcpy(to, s.p, n);
}

void channel_copy_config(struct channel_config *to, const struct admin_config *from)
{
    const struct krb_realm *realm = &from->kdc.realm;

    memset(to, 0, sizeof *to);
    to->config = *from;
    keep(to->realm, sizeof to->realm, realm->name);
    for (uint32_t i = 0; i < realm->aliases.count && i < CHANNEL_ALIASES_MAX; i++)
        keep(to->alias[to->alias_count++], sizeof to->alias[0], realm->aliases.v[i]);
    channel_link_config(to);
}

void channel_link_config(struct channel_config *c)
{
    for (uint32_t i = 0; i < c->alias_count; i++)
        c->spans[i] = sp_str(c->alias[i]);
    c->config.kdc.realm.name = sp_str(c->realm);
    c->config.kdc.realm.aliases = (struct sp_spans){c->spans, c->alias_count};
}

static void describe_routes(struct courier_config *to, const struct admin_config *c)
{
    to->limits = (struct ladder_limits){.requests = c->courier_in_flight,
                                        .per_source = c->courier_per_source,
                                        .rung_ms = c->courier_rung_ms,
                                        .all_ms = c->courier_all_ms,
                                        .hedge_ms = c->courier_hedge_ms,
                                        .pin_s = c->courier_pin_s};
    memcpy(to->resolver, c->courier_resolver, sizeof to->resolver);
    memcpy(to->ca, c->courier_ca, sizeof to->ca);
    memcpy(to->certificate, c->courier_certificate, sizeof to->certificate);
    memcpy(to->proxy, c->courier_proxy, sizeof to->proxy);
    memcpy(to->relay_proxies, c->relay_proxies, sizeof to->relay_proxies);
    memcpy(to->relay_realms, c->relay_realms, sizeof to->relay_realms);
    memcpy(to->old_mit_hosts, c->client_old_mit, sizeof to->old_mit_hosts);
    memcpy(to->timestamp_hosts, c->client_timestamp, sizeof to->timestamp_hosts);
    to->relay_auth = c->relay_auth;
    to->relay_open = c->relay_open;
    to->relay_max = c->relay_max;
    to->relay_per_source = c->relay_per_source;
    to->relay_kpasswd = c->relay_kpasswd;
    to->needs_relay = c->relay_listen_count > 0 || c->relay_plain[0];
}

void channel_describe_courier(struct courier_config *to, const struct channel_config *from)
{
    const struct admin_config *c = &from->config;

    memset(to, 0, sizeof *to);
    memcpy(to->realm, from->realm, sizeof to->realm);
    memcpy(to->alias, from->alias, sizeof to->alias);
    to->alias_count = from->alias_count;
    memcpy(to->other, c->iakerb_realms, sizeof to->other);
    to->other_count = c->iakerb_realm_count;
    to->old_mit = strcmp(c->iakerb_old_mit, "accept") == 0 ? COURIER_OLD_MIT_ACCEPT : COURIER_OLD_MIT_OFF;
    to->finished =
        strcmp(c->iakerb_finished, "optional") == 0 ? COURIER_FINISHED_OPTIONAL : COURIER_FINISHED_REQUIRED;
    memcpy(to->attest, c->courier_attest, sizeof to->attest);
    to->attest_count = c->courier_attest_count;
    to->max_connections = c->courier_max;
    to->log_flood = c->log_flood;
    to->udp_reply_max = c->udp_reply_max;
    to->tcp_idle_s = c->tcp_idle_s;
    describe_routes(to, c);
}

_Noreturn void channel_die(const char *text)
{
    struct channel_failed m = {.type = CHANNEL_FAILED};

    (void)snprintf(m.text, sizeof m.text, "%s", text);
    (void)net_send(CHANNEL_FD, sp_span(&m, sizeof m), -1);
    _exit(1);
}
