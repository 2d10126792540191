/* SPDX-License-Identifier: MIT */
#include "net/notify.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

static bool send_to(const char *path, const struct iovec *parts, size_t count)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t n = strlen(path), want = 0;
    struct msghdr m = {.msg_name = &to, .msg_iov = (struct iovec *)(uintptr_t)parts, .msg_iovlen = count};
    int fd = -1;
    bool ok = false;

    if (n == 0 || n >= sizeof to.sun_path || (path[0] != '/' && path[0] != '@'))
        return false;
    memcpy(to.sun_path, path, n);
    if (path[0] == '@')
        to.sun_path[0] = 0;
    m.msg_namelen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    for (size_t i = 0; i < count; i++)
        want += parts[i].iov_len;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        ok = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)want;
    if (fd >= 0)
        (void)close(fd);
    return ok;
}

static struct iovec part(const void *p, size_t n)
{
    return (struct iovec){(void *)(uintptr_t)p, n};
}

bool net_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");

    return path && send_to(path, &(struct iovec){(void *)(uintptr_t)state, strlen(state)}, 1);
}

/* The journal's native protocol: FIELD=value lines. Our lines hold no newline, so the binary form is not
 * needed. */
bool net_journal(int priority, struct sp_span line)
{
    char head[64];
    int n = snprintf(head, sizeof head, "SYSLOG_IDENTIFIER=sallyportd\nPRIORITY=%d\nMESSAGE=", priority);
    struct iovec parts[3] = {part(head, (size_t)n), part(line.p, line.n), part("\n", 1)};

    return send_to("/run/systemd/journal/socket", parts, 3);
}

long net_watchdog_us(void)
{
    const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

    if (!us || (pid && strtol(pid, NULL, 10) != (long)getpid()))
        return 0;
    return strtol(us, NULL, 10);
}
