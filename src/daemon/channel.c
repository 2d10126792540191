/* SPDX-License-Identifier: MIT */
#include "daemon/channel.h"

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
