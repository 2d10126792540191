/* SPDX-License-Identifier: MIT */
/* Who asks (decisions 6 and 59): an IPv4 address, an IPv6 /64, a uid. What of loopback has no known owner is
 * one source. */
#include <stdio.h>

#include "daemon/worker.h"

enum { TAG_LOOPBACK = 1, TAG_V4 = 4, TAG_V6 = 6, TAG_UID = 'u' };

void source_of_address(const struct net_address *a, struct kdc_source *out)
{
    struct sp_span ip = net_address_bytes(a);

    _Static_assert(sizeof out->text >= NET_HOST_TEXT, "an address fits");
    memset(out, 0, sizeof *out);
    net_text_host(a, out->text);
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

static void find_ends(struct source_finder *f)
{
    f->peer.n = f->own.n = sizeof f->own.sa;
    if (getpeername(f->stream_fd, (struct sockaddr *)&f->peer.sa, &f->peer.n) != 0 ||
        getsockname(f->stream_fd, (struct sockaddr *)&f->own.sa, &f->own.n) != 0)
        f->peer.sa.ss_family = AF_UNSPEC; /* the connection is gone */
}

static const struct kdc_source *look_closer(void *data)
{
    struct source_finder *f = data;
    const struct net_flow flow = {f->stream_fd >= 0 ? SOCK_STREAM : SOCK_DGRAM, &f->peer, &f->own};
    uint32_t uid;

    if (f->asked)
        return &f->found;
    f->asked = true;
    f->found = f->source;
    if (f->stream_fd >= 0)
        find_ends(f);
    if (net_owner_find(&f->worker->owner, &flow, &uid)) {
        source_of_uid(uid, &f->found);
        f->found.console = false; /* that is a UNIX socket's alone */
        f->known = true;
        f->found_us = admin_mono_us();
    }
    return &f->found;
}

void source_look_closer(struct kdc_request *req, struct source_finder *f)
{
    f->source = req->source;
    req->look_closer = look_closer;
    req->door_data = f;
}

const char *source_text(const struct kdc_request *req)
{
    const struct source_finder *f = req->door_data;

    return f && f->asked ? f->found.text : req->source.text;
}
