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
}

_Noreturn void channel_die(const char *text)
{
    struct channel_failed m = {.type = CHANNEL_FAILED};

    (void)snprintf(m.text, sizeof m.text, "%s", text);
    (void)net_send(CHANNEL_FD, sp_span(&m, sizeof m), -1);
    _exit(1);
}
