/* SPDX-License-Identifier: MIT */
#include "host/ask.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "courier/wire.h"
#include "host/env.h"
#include "krb/codes.h"

#define SOCKET_NAME "courier.sock"
#define BUSY_MS 5 /* between tries when more connect than the daemon has taken */

void host_courier_init(struct host_courier *h)
{
    *h = (struct host_courier){.fd = -1};
}

void host_courier_close(struct host_courier *h)
{
    if (h->fd >= 0)
        (void)close(h->fd);
    h->fd = -1;
}

static bool silent(struct sp_err *e, const char *what)
{
    return sp_fail(e, SP_EBACKEND, KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE, "%s: %s", SOCKET_NAME, what);
}

static int left_ms(int64_t until_us)
{
    int64_t left = (until_us - host_env().mono_us + 999) / 1000;

    return left > 0 ? (int)left : 0;
}

/* ---- connecting ---- */

/* A UNIX path holds 107 bytes; what is longer is reached through its directory's descriptor, which stays open
 * in *at until the socket is connected. */
static bool find_socket(struct sockaddr_un *to, int *at, struct sp_err *e)
{
    const char *root = secure_getenv("SALLYPORT_ROOT");
    char dir[4200];
    int n;

    *to = (struct sockaddr_un){.sun_family = AF_UNIX};
    n = root && *root ? snprintf(dir, sizeof dir, "%s/run/sallyport", root)
                      : snprintf(dir, sizeof dir, "%s", HOST_RUN_DIR);
    if (n < 0 || (size_t)n >= sizeof dir)
        return silent(e, "SALLYPORT_ROOT is too long");
    if ((size_t)n + sizeof SOCKET_NAME + 1 <= sizeof to->sun_path) {
        (void)snprintf(to->sun_path, sizeof to->sun_path, "%.*s/%s", n, dir, SOCKET_NAME);
        return true;
    }
    *at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*at < 0)
        return silent(e, strerror(errno));
    (void)snprintf(to->sun_path, sizeof to->sun_path, "/proc/self/fd/%d/%s", *at, SOCKET_NAME);
    return true;
}

/* A UNIX socket connects at once, or its queue is full. */
static bool reach(int fd, const struct sockaddr_un *to, int64_t until_us, struct sp_err *e)
{
    while (connect(fd, (const struct sockaddr *)to, sizeof *to) != 0) {
        if (errno != EAGAIN && errno != EINTR)
            return silent(e, errno == ENOENT || errno == ECONNREFUSED ? "no daemon there" : strerror(errno));
        if (left_ms(until_us) == 0)
            return silent(e, "the daemon takes no connection");
        (void)poll(NULL, 0, BUSY_MS);
    }
    return true;
}

static bool connect_now(struct host_courier *h, int64_t until_us, struct sp_err *e)
{
    struct sockaddr_un to;
    int at = -1;
    bool ok = find_socket(&to, &at, e);

    if (ok) {
        h->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        h->owner = getpid();
        ok = h->fd >= 0 ? reach(h->fd, &to, until_us, e) : silent(e, strerror(errno));
    }
    if (at >= 0)
        (void)close(at);
    if (!ok)
        host_courier_close(h);
    return ok;
}

/* ---- bytes ---- */

static bool wait_for(int fd, short what, int64_t until_us, struct sp_err *e)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = what};
        int ms = left_ms(until_us);
        int got = ms > 0 ? poll(&p, 1, ms) : 0;

        if (got > 0)
            return true;
        if (got == 0)
            return silent(e, "no answer in time");
        if (errno != EINTR)
            return silent(e, strerror(errno));
    }
}

static bool may_go_on(int fd, short what, int64_t until_us, struct sp_err *e)
{
    if (errno == EINTR)
        return true;
    return errno == EAGAIN ? wait_for(fd, what, until_us, e) : silent(e, strerror(errno));
}

static bool send_all(int fd, struct sp_span s, int64_t until_us, struct sp_err *e)
{
    while (s.n > 0) {
        ssize_t n = send(fd, s.p, s.n, MSG_NOSIGNAL);
        if (n < 0 && !may_go_on(fd, POLLOUT, until_us, e))
            return false;
        if (n > 0)
            s = sp_span(s.p + n, s.n - (size_t)n);
    }
    return true;
}

static bool receive_all(int fd, uint8_t *to, size_t n, int64_t until_us, struct sp_err *e)
{
    while (n > 0) {
        ssize_t got = recv(fd, to, n, 0);
        if (got == 0)
            return silent(e, "the daemon ended the connection");
        if (got < 0 && !may_go_on(fd, POLLIN, until_us, e))
            return false;
        if (got > 0) {
            to += got;
            n -= (size_t)got;
        }
    }
    return true;
}

static bool receive_frame(int fd, int64_t until_us, struct sp_arena *mem, struct courier_frame *out,
                          struct sp_err *e)
{
    uint8_t head[4], *body;
    uint32_t n;

    if (!receive_all(fd, head, sizeof head, until_us, e))
        return false;
    n = (uint32_t)head[0] << 24 | (uint32_t)head[1] << 16 | (uint32_t)head[2] << 8 | head[3];
    if (n > COURIER_FRAME_MAX)
        return silent(e, "an answer that is too long");
    body = sp_alloc(mem, n, e);
    return body && receive_all(fd, body, n, until_us, e) && courier_get(sp_span(body, n), out, e);
}

/* ---- one question ---- */

static bool exchange_once(struct host_courier *h, struct sp_span question, int64_t until_us,
                          struct sp_arena *mem, struct courier_frame *out, struct sp_err *e)
{
    bool ok = (h->fd >= 0 || connect_now(h, until_us, e)) && send_all(h->fd, question, until_us, e);

    while (ok) {
        size_t mark = mem->used;

        ok = receive_frame(h->fd, until_us, mem, out, e);
        if (ok && out->id == h->last)
            return true;
        mem->used = mark;
        ok = ok && (left_ms(until_us) > 0 || silent(e, "answers to other requests alone"));
    }
    host_courier_close(h); /* what comes late must not be taken for the next answer */
    return false;
}

static bool exchange(struct host_courier *h, struct courier_frame *f, int timeout_ms, struct sp_arena *mem,
                     struct courier_frame *out, struct sp_err *e)
{
    int ms = timeout_ms < 0 || timeout_ms > HOST_ASK_MS_MAX ? HOST_ASK_MS_MAX : timeout_ms;
    int64_t until_us = host_env().mono_us + ms * INT64_C(1000);
    struct sp_span question;
    struct sp_err why = {0};
    bool used;

    if (h->fd >= 0 && h->owner != getpid())
        host_courier_close(h); /* the parent's */
    used = h->fd >= 0;
    f->id = ++h->last;
    if (!courier_make(f, mem, &question, e))
        return false;
    if (exchange_once(h, question, until_us, mem, out, &why))
        return true;
    /* The daemon was restarted, or tired of an idle connection: the same bytes again are a retransmission. */
    if (used && why.kind == SP_EBACKEND && left_ms(until_us) > 0) {
        why = (struct sp_err){0};
        if (exchange_once(h, question, until_us, mem, out, &why))
            return true;
    }
    if (why.kind == SP_EINPUT)
        why.proto = KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE;
    return sp_fail(e, why.kind, why.proto, "%s", why.text);
}

static bool expect(const struct courier_frame *f, enum courier_type type, struct sp_err *e)
{
    if (f->type == type)
        return true;
    if (f->type != COURIER_REFUSED)
        return silent(e, "an answer of another type");
    return sp_fail(e, SP_EREFUSED, f->code ? f->code : KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE, "the courier: %.*s",
                   (int)(f->text.n < 120 ? f->text.n : 120), (const char *)f->text.p);
}

bool host_ask(struct host_courier *h, struct sp_span realm, struct sp_span message, struct sp_span service,
              int timeout_ms, struct sp_arena *mem, struct sp_span *reply, struct sp_err *e)
{
    struct courier_frame f = {.type = COURIER_CARRY,
                              .realm = realm,
                              .message = message,
                              .service = service,
                              .address = sp_span(h->address, h->address_n),
                              .transport = SP_LIT("in-band")};
    struct courier_frame got;

    if (!exchange(h, &f, timeout_ms, mem, &got, e) || !expect(&got, COURIER_CARRIED, e))
        return false;
    *reply = got.message;
    return true;
}

static int32_t code_of(const struct sp_err *why)
{
    return !why ? 0 : why->proto > 0 && why->proto < 128 ? why->proto : KRB_ERR_GENERIC;
}

void host_note(struct host_courier *h, const struct host_note *n, struct sp_arena *mem)
{
    const char *text = n->why           ? n->why->text
                       : n->no_finished ? "accepted without FINISHED, as [iakerb] finished allows"
                                        : "accepted";
    struct courier_frame f = {.type = COURIER_NOTE,
                              .id = ++h->last,
                              .code = code_of(n->why),
                              .text = sp_str(text),
                              .client = n->client,
                              .service = n->service,
                              .address = sp_span(h->address, h->address_n)};
    struct sp_span frame;
    struct sp_err e = {0};

    if (h->fd >= 0 && h->owner == getpid() && courier_make(&f, mem, &frame, &e) &&
        send(h->fd, frame.p, frame.n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)frame.n)
        host_courier_close(h); /* half a frame must not stand before the next */
}

static bool keep_spans(struct sp_arena *mem, const struct sp_span *v, uint32_t count, struct sp_spans *out,
                       struct sp_err *e)
{
    out->v = sp_new_array(mem, struct sp_span, count, e);
    if (!out->v)
        return false;
    for (out->count = 0; out->count < count; out->count++)
        out->v[out->count] = v[out->count];
    return true;
}

bool host_hello(struct host_courier *h, int timeout_ms, struct sp_arena *mem, struct host_realm *out,
                struct sp_err *e)
{
    struct courier_frame f = {.type = COURIER_HELLO}, got;
    struct host_realm r = {0};

    if (!exchange(h, &f, timeout_ms, mem, &got, e) || !expect(&got, COURIER_REALM, e))
        return false;
    r.name = got.realm;
    r.old_mit = got.old_mit == COURIER_OLD_MIT_ACCEPT;
    r.finished_required = got.finished != COURIER_FINISHED_OPTIONAL;
    if (!keep_spans(mem, got.alias, got.alias_count, &r.aliases, e) ||
        !keep_spans(mem, got.other, got.other_count, &r.others, e))
        return false;
    *out = r;
    return true;
}
