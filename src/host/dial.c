/* SPDX-License-Identifier: MIT */
#include "host/dial.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int64_t host_mono_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

bool host_wait(int fd, short events, int64_t until_us)
{
    for (;;) {
        int64_t left = (until_us - host_mono_us() + 999) / 1000;
        struct pollfd p = {.fd = fd, .events = events};
        int n = left > 0 ? poll(&p, 1, (int)left) : 0;

        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = ETIMEDOUT;
        return n > 0;
    }
}

void host_send_at_once(int fd)
{
    int on = 1;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* slower without, and no worse */
}

bool host_send_all(int fd, struct sp_span data, int64_t until_us)
{
    while (data.n > 0) {
        ssize_t n = send(fd, data.p, data.n, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (n < 0 && !host_wait(fd, POLLOUT, until_us))
            return false;
        if (n > 0)
            data = sp_span(data.p + n, data.n - (size_t)n);
    }
    return true;
}

bool host_receive_all(int fd, uint8_t *p, size_t want, int64_t until_us)
{
    while (want > 0) {
        if (!host_wait(fd, POLLIN, until_us))
            return false;
        ssize_t n = recv(fd, p, want, 0);
        if (n == 0)
            errno = ECONNRESET;
        if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
            return false;
        if (n > 0) {
            p += n;
            want -= (size_t)n;
        }
    }
    return true;
}

static int try_one(const struct addrinfo *a, int64_t until_us)
{
    int err = 0, fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t n = sizeof err;

    if (fd < 0)
        return -1;
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
        return fd;
    if (errno == EINPROGRESS && host_wait(fd, POLLOUT, until_us) &&
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n) == 0 && err == 0)
        return fd;
    int why = err ? err : errno;
    close(fd);
    errno = why;
    return -1;
}

int host_dial(const char *host, const char *port, struct sp_err *e)
{
    struct addrinfo hint = {.ai_socktype = SOCK_STREAM}, *all = NULL;
    int64_t until = host_mono_us() + HOST_CONNECT_US;
    int fd = -1, why = getaddrinfo(host, port, &hint, &all);

    if (why != 0) {
        (void)sp_fail(e, why == EAI_NONAME ? SP_ENOTFOUND : SP_EBACKEND, 0,
                      "there is no way to %.60s: %s; look at the host's name", host, gai_strerror(why));
        return -1;
    }
    for (const struct addrinfo *a = all; a && fd < 0; a = a->ai_next)
        fd = try_one(a, until);
    if (fd < 0)
        (void)sp_fail(e, SP_EBACKEND, 0, "%.60s port %.8s cannot be reached: %s; look at host and port", host,
                      port, strerror(errno));
    else
        host_send_at_once(fd);
    freeaddrinfo(all);
    return fd;
}
