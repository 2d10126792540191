/* SPDX-License-Identifier: MIT */
#include "net/pass.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

bool net_make_pair(int fds[2], struct sp_err *e)
{
    int room = 1 << 20;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
        return sp_fail(e, SP_EBACKEND, errno, "socketpair: %s", strerror(errno));
    for (int i = 0; i < 2; i++)
        (void)setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    return true;
}

static bool send_once(int fd, struct sp_span message, int pass_fd)
{
    struct iovec part = {(void *)(uintptr_t)message.p, message.n};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};

    if (pass_fd >= 0) {
        m.msg_control = control;
        m.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &pass_fd, sizeof pass_fd);
    }
    return sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)message.n;
}

bool net_send(int fd, struct sp_span message, int pass_fd)
{
    for (int i = 0; i < 20; i++) {
        if (send_once(fd, message, pass_fd))
            return true;
        if (errno != EAGAIN && errno != EINTR)
            return false;
        (void)poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 100);
    }
    return false;
}

bool net_send_now(int fd, struct sp_span message)
{
    return send_once(fd, message, -1);
}

long net_receive(int fd, void *buf, size_t cap, int *pass_fd)
{
    struct iovec part = {buf, cap};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    struct msghdr m = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    *pass_fd = -1;
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? -1 : 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len >= CMSG_LEN(sizeof(int)))
            memcpy(pass_fd, CMSG_DATA(c), sizeof *pass_fd);
    return n;
}
