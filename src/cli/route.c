/* SPDX-License-Identifier: MIT */
/* From a command to a KDC: over TCP to the one that was named, or through the local daemon's courier socket.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/login.h"
#include "courier/wire.h"
#include "host/dial.h"
#include "net/framing.h"

#define PATIENCE_MS 10000

/* ---- one frame out, one frame in ---- */

static bool receive_frame(struct login_route *r, int fd, int64_t until_us)
{
    uint8_t head[4];

    if (!host_receive_all(fd, head, sizeof head, until_us))
        return false;
    uint32_t n = (uint32_t)head[0] << 24 | (uint32_t)head[1] << 16 | (uint32_t)head[2] << 8 | head[3];
    if (n == 0 || n > COURIER_FRAME_MAX) {
        errno = EMSGSIZE;
        return false;
    }
    r->reply_n = n;
    return host_receive_all(fd, r->reply, n, until_us);
}

static bool talk(struct login_route *r, int fd, struct sp_span request, int64_t until_us)
{
    uint8_t head[4];

    net_put_frame_length(head, request.n);
    return host_send_all(fd, sp_span(head, sizeof head), until_us) && host_send_all(fd, request, until_us) &&
           receive_frame(r, fd, until_us);
}

/* ---- TCP ---- */

bool login_split(const char *text, const char *usual, char host[256], char port[8], struct sp_err *e)
{
    const char *colon = strrchr(text, ':'), *end = text[0] == '[' ? strchr(text, ']') : NULL;
    bool bare = !end && (!colon || strchr(text, ':') != colon); /* no port, or an IPv6 address */
    const char *after = end ? (end[1] == ':' ? end + 2 : usual) : bare ? usual : colon + 1;
    size_t n = end ? (size_t)(end - text - 1) : bare ? strlen(text) : (size_t)(colon - text);

    uint64_t number;

    if (n == 0 || n >= 256 || (text[0] == '[' && !end) || !sp_decimal(sp_str(after), 65535, &number) ||
        number == 0)
        return sp_fail(e, SP_EINPUT, 0, "'%.40s' names no host and port; write HOST:PORT or [ADDRESS]:PORT",
                       text);
    memcpy(host, text + (end != NULL), n);
    host[n] = 0;
    snprintf(port, 8, "%s", after);
    return true;
}

static bool carry_tcp(struct login *l, struct sp_span request, struct sp_span *reply, struct sp_err *e)
{
    int64_t until = host_mono_us() + PATIENCE_MS * INT64_C(1000);
    char host[256], port[8];

    if (!login_split(l->route.kdc, "88", host, port, e))
        return false;
    int fd = host_dial(host, port, e);
    if (fd < 0)
        return false;
    bool ok = talk(&l->route, fd, request, until) ||
              (errno == EMSGSIZE
                   ? sp_fail(e, SP_EREFUSED, 0, "what answers at %.60s is no KDC; look at host and port",
                             l->route.kdc)
                   : sp_fail(e, SP_EBACKEND, 0, "the KDC at %.60s does not answer: %s; look at host and port",
                             l->route.kdc, strerror(errno)));
    close(fd);
    *reply = sp_span(l->route.reply, l->route.reply_n);
    return ok;
}

/* ---- the local daemon ---- */

static bool no_way(struct sp_span realm, const struct sp_err *why, struct sp_err *e)
{
    if (why->kind == SP_EREFUSED && why->proto == KRB_AP_ERR_IAKERB_KDC_NOT_FOUND)
        return sp_fail(e, SP_EREFUSED, why->proto,
                       "sallyportd knows no KDC of %.*s; name a way with --via URL or --kdc HOST",
                       (int)(realm.n < 60 ? realm.n : 60), (const char *)realm.p);
    if (why->kind == SP_EBACKEND)
        return sp_fail(e, SP_EBACKEND, ADMIN_NO_DAEMON,
                       "no sallyportd answers here; start it, or name a way with --via URL or --kdc HOST");
    return sp_fail(e, why->kind, why->proto, "%s", why->text);
}

bool login_local_realm(struct login *l, struct sp_span *realm, struct sp_err *e)
{
    struct host_realm r;
    struct sp_err why = {0};

    if (!host_hello(&l->route.courier, HOST_ASK_MS_MAX, &l->mem, &r, &why))
        return no_way(sp_span(NULL, 0), &why, e);
    *realm = r.name;
    return true;
}

bool login_carry(struct login *l, struct sp_span realm, struct sp_span request, struct sp_span *reply,
                 struct sp_err *e)
{
    struct sp_err why = {0};

    if (l->route.kdc)
        return carry_tcp(l, request, reply, e);
    return host_ask(&l->route.courier, realm, request, sp_span(NULL, 0), HOST_ASK_MS_MAX, &l->mem, reply,
                    &why) ||
           no_way(realm, &why, e);
}
