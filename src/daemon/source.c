/* SPDX-License-Identifier: MIT */
/* Who asks (decision 6): an IPv4 address, an IPv6 /64, a uid. Loopback is one source. */
#include <stdio.h>

#include "daemon/worker.h"

enum { TAG_LOOPBACK = 1, TAG_V4 = 4, TAG_V6 = 6, TAG_UID = 'u' };

void source_of_address(const struct net_address *a, struct kdc_source *out)
{
    struct sp_span ip = net_address_bytes(a);
    char text[NET_ADDRESS_TEXT];

    memset(out, 0, sizeof *out);
    net_text_host(a, text);
    (void)snprintf(out->text, sizeof out->text, "%.*s", (int)sizeof out->text - 1, text);
    out->loopback = net_is_loopback(a);
    out->id[0] = out->loopback ? TAG_LOOPBACK : ip.n == 4 ? TAG_V4 : TAG_V6;
    if (!out->loopback && ip.n)
        memcpy(out->id + 1, ip.p, ip.n == 4 ? 4 : 8);
}

void source_of_uid(uint32_t uid, struct kdc_source *out)
{
    memset(out, 0, sizeof *out);
    (void)snprintf(out->text, sizeof out->text, "uid %u", uid);
    out->id[0] = TAG_UID;
    memcpy(out->id + 1, &uid, sizeof uid);
    out->loopback = true;
    out->console = uid == 0;
}
