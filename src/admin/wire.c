/* SPDX-License-Identifier: MIT */
/* How a command reaches the instance: itself when nobody holds the lock, else through the keeper's
 * admin.sock. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "admin/private.h"

enum { ANSWER_WAIT_S = 120, RETRY_MS = 20 };

/* ---- answers ---- */

cJSON *admin_answer(bool ok, cJSON *result, const struct sp_err *e)
{
    cJSON *answer = cJSON_CreateObject();

    cJSON_AddBoolToObject(answer, "ok", ok);
    if (ok) {
        cJSON_AddItemToObject(answer, "result", result);
        return answer;
    }
    cJSON_Delete(result);
    cJSON_AddStringToObject(answer, "kind", sp_kind_name(e->kind));
    cJSON_AddNumberToObject(answer, "code", e->proto);
    cJSON_AddStringToObject(answer, "text", e->text);
    return answer;
}

static enum sp_kind kind_named(const char *name)
{
    for (int k = SP_EINPUT; k <= SP_EBUG; k++)
        if (strcmp(sp_kind_name((enum sp_kind)k), name) == 0)
            return (enum sp_kind)k;
    return SP_EBACKEND;
}

/* Takes the answer; gives its result, or its refusal as if it had happened here. */
static bool take_answer(cJSON *answer, cJSON **out, struct sp_err *e)
{
    const cJSON *code = cJSON_GetObjectItemCaseSensitive(answer, "code");

    if (admin_arg_is(answer, "ok")) {
        *out = cJSON_DetachItemFromObjectCaseSensitive(answer, "result");
        cJSON_Delete(answer);
        return *out || sp_fail(e, SP_EBACKEND, 0, "the daemon's answer has no result");
    }
    sp_fail(e, kind_named(admin_arg_or(answer, "kind", "")), cJSON_IsNumber(code) ? code->valueint : 0, "%s",
            admin_arg_or(answer, "text", "the daemon's answer cannot be understood"));
    cJSON_Delete(answer);
    return false;
}

/* ---- the socket ---- */

/* A UNIX path holds 107 bytes; /proc/self/fd/N stands for a directory of any length (decision 10). */
static int dial(const struct admin_paths *p)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct timeval wait = {.tv_sec = ANSWER_WAIT_S};
    int dir = open(p->run, O_PATH | O_DIRECTORY | O_CLOEXEC), fd;

    if (dir < 0)
        return -1;
    snprintf(to.sun_path, sizeof to.sun_path, "/proc/self/fd/%d/admin.sock", dir);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof to) != 0) {
        int why = errno;

        close(fd);
        fd = -1;
        errno = why;
    }
    if (fd >= 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    }
    close(dir);
    return fd;
}

static bool send_all(int fd, const void *p, size_t n)
{
    const uint8_t *at = p;

    while (n > 0) {
        ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        at += sent;
        n -= (size_t)sent;
    }
    return true;
}

static bool recv_all(int fd, void *p, size_t n)
{
    uint8_t *at = p;

    while (n > 0) {
        ssize_t got = recv(fd, at, n, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        at += got;
        n -= (size_t)got;
    }
    return true;
}

static bool send_request(int fd, const cJSON *request, struct sp_err *e)
{
    char *text = cJSON_PrintUnformatted(request);
    size_t n = text ? strlen(text) : 0;
    uint32_t be = htonl((uint32_t)n);
    bool ok;

    if (!text || n > ADMIN_WIRE_MAX) {
        cJSON_free(text);
        return sp_fail(e, SP_EINPUT, 0, "a request of more than %u bytes", ADMIN_WIRE_MAX);
    }
    ok = send_all(fd, &be, sizeof be) && send_all(fd, text, n);
    cJSON_free(text);
    return ok || sp_fail(e, SP_EBACKEND, ADMIN_NO_DAEMON, "the daemon hung up: %m");
}

static bool receive_answer(int fd, cJSON **out, struct sp_err *e)
{
    uint32_t be;
    size_t n;
    char *text;
    cJSON *answer = NULL;

    if (!recv_all(fd, &be, sizeof be) || (n = ntohl(be)) > ADMIN_WIRE_MAX)
        return sp_fail(e, SP_EBACKEND, ADMIN_NO_DAEMON, "the daemon gave no answer");
    text = malloc(n + 1);
    if (text && recv_all(fd, text, n))
        answer = cJSON_ParseWithLength(text, n);
    if (text)
        sp_wipe(text, n + 1);
    free(text);
    if (!answer)
        return sp_fail(e, SP_EBACKEND, ADMIN_NO_DAEMON, "the daemon's answer cannot be read");
    return take_answer(answer, out, e);
}

static bool ask(int fd, const cJSON *request, cJSON **out, struct sp_err *e)
{
    bool ok = send_request(fd, request, e) && receive_answer(fd, out, e);

    close(fd);
    return ok;
}

/* ---- here or there ---- */

static bool run_here(const struct admin_paths *p, const cJSON *request, cJSON **out, struct sp_err *e)
{
    struct admin *a;
    bool ok;

    if (strcmp(admin_arg_or(request, "op", ""), "init") == 0)
        return admin_init(p, request, out, e);
    a = calloc(1, sizeof *a);
    if (!a)
        return sp_fail(e, SP_ENOMEM, 0, "no memory");
    ok = admin_open(p, ADMIN_WRITE, a, e) && admin_execute(a, request, out, e);
    admin_close(a);
    free(a);
    return ok;
}

static int64_t now_ms(void)
{
    return admin_env().mono_us / 1000;
}

bool admin_call(const struct admin_paths *p, const cJSON *request, cJSON **out, struct sp_err *e)
{
    int64_t until = now_ms() + ADMIN_LOCK_WAIT_MS;

    *out = NULL;
    for (;;) {
        struct sp_err why = {0};
        int fd;

        if (run_here(p, request, out, &why))
            return true;
        if (why.kind != SP_EREFUSED || (why.proto != ADMIN_BUSY && why.proto != ADMIN_SERVED)) {
            *e = why;
            return false;
        }
        fd = dial(p);
        if (fd >= 0)
            return ask(fd, request, out, e);
        if (errno == EACCES)
            return sp_fail(e, SP_EREFUSED, ADMIN_NOT_PERMITTED, "%.100s/admin.sock: not permitted", p->run);
        if (now_ms() >= until) /* another command holds the lock for milliseconds only */
            return sp_fail(e, SP_EBACKEND, ADMIN_NO_DAEMON,
                           "%.60s/lock is held, but nobody answers at admin.sock", p->state);
        nanosleep(&(struct timespec){.tv_nsec = RETRY_MS * 1000000}, NULL);
    }
}
