/* SPDX-License-Identifier: MIT */
#include "net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static void set(int fd, int level, int option)
{
    int one = 1;

    (void)setsockopt(fd, level, option, &one, sizeof one);
}

static const char *advice(int why)
{
    switch (why) {
    case EACCES:
    case EPERM:
        return "; ports below 1024 need the unit, or root (CAP_NET_BIND_SERVICE): or listen above";
    case EADDRINUSE:
        return "; another program has it (`ss -lntup` shows which): end that one, or listen elsewhere";
    case EADDRNOTAVAIL:
        return "; this host does not have that address (`ip address` lists its own): listen elsewhere";
    default:
        return "";
    }
}

static int failed(int fd, const char *what, const char *where, struct sp_err *e)
{
    int why = errno;

    if (fd >= 0)
        (void)close(fd);
    (void)sp_fail(e, why == EACCES || why == EPERM ? SP_EREFUSED : SP_EBACKEND, why == EPERM ? EACCES : why,
                  "%s %s: %s%s", what, where, strerror(why), advice(why));
    return -1;
}

/* A keeper that was killed leaves workers that hold the port for some milliseconds more. */
static bool bind_patiently(int fd, const struct net_address *a)
{
    for (int i = 0; i < 20; i++) {
        if (bind(fd, (const struct sockaddr *)&a->sa, a->n) == 0)
            return true;
        if (errno != EADDRINUSE)
            return false;
        (void)nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    errno = EADDRINUSE;
    return false;
}

static int bound(struct net_address *a, int type, struct sp_err *e)
{
    char text[NET_ADDRESS_TEXT];
    int fd = socket(a->sa.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    net_text_address(a, text);
    if (fd < 0)
        return failed(fd, "no socket for", text, e);
    if (a->sa.ss_family == AF_INET6)
        set(fd, IPPROTO_IPV6, IPV6_V6ONLY); /* [::] and 0.0.0.0 are two doors: no IPv4 source in IPv6 dress */
    if (type == SOCK_STREAM)
        set(fd, SOL_SOCKET, SO_REUSEADDR);
    if (!bind_patiently(fd, a))
        return failed(fd, "cannot listen on", text, e);
    a->n = sizeof a->sa;
    (void)getsockname(fd, (struct sockaddr *)&a->sa, &a->n);
    return fd;
}

static bool is_wildcard(const struct net_address *a)
{
    static const uint8_t zero[16];
    struct sp_span ip = net_address_bytes(a);

    return memcmp(ip.p, zero, ip.n) == 0;
}

int net_listen_udp(struct net_address *a, struct sp_err *e)
{
    int fd = bound(a, SOCK_DGRAM, e), room = 4 << 20;

    if (fd < 0)
        return -1;
    if (is_wildcard(a) && a->sa.ss_family == AF_INET6)
        set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO);
    else if (is_wildcard(a))
        set(fd, IPPROTO_IP, IP_PKTINFO);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room,
                     sizeof room); /* the kernel cuts it to what is allowed */
    return fd;
}

int net_listen_tcp(struct net_address *a, struct sp_err *e)
{
    char text[NET_ADDRESS_TEXT];
    int fd = bound(a, SOCK_STREAM, e);

    if (fd < 0)
        return -1;
    set(fd, IPPROTO_TCP, TCP_NODELAY); /* inherited by accepted connections */
    if (listen(fd, NET_BACKLOG) == 0)
        return fd;
    net_text_address(a, text);
    return failed(fd, "cannot listen on", text, e);
}

/* "/proc/self/fd/N/name": a UNIX path holds 107 bytes, a root directory as many as it likes. */
static int short_path(const char *dir, const char *name, struct sockaddr_un *sun)
{
    int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -1;
    sun->sun_family = AF_UNIX;
    (void)snprintf(sun->sun_path, sizeof sun->sun_path, "/proc/self/fd/%d/%.60s", fd, name);
    return fd;
}

int net_listen_unix(const char *dir, const char *name, unsigned mode, struct sp_err *e)
{
    struct sockaddr_un sun = {0};
    int at = short_path(dir, name, &sun), fd;

    if (at < 0)
        return failed(-1, "cannot open", dir, e);
    (void)unlinkat(at, name, 0);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* Closed to everybody before it is opened to some: fchmod on an unbound socket sets the mode that bind
     * will use. */
    if (fd < 0 || fchmod(fd, mode) != 0 || bind(fd, (struct sockaddr *)&sun, sizeof sun) != 0 ||
        fchmodat(at, name, mode, 0) != 0 || listen(fd, NET_BACKLOG) != 0)
        fd = failed(fd, "cannot listen on", name, e);
    (void)close(at);
    return fd;
}

void net_unlink_unix(const char *dir, const char *name)
{
    int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (at < 0)
        return;
    (void)unlinkat(at, name, 0);
    (void)close(at);
}

bool net_peer_uid(int fd, uint32_t *uid)
{
    struct ucred who;
    socklen_t n = sizeof who;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) != 0 || who.uid == (uid_t)-1)
        return false;
    *uid = who.uid;
    return true;
}
