/* SPDX-License-Identifier: MIT */
/* Messages between our own processes over a SOCK_SEQPACKET pair: whole or not at all, with at most one
 * descriptor each. */
#ifndef SP_NET_PASS_H
#define SP_NET_PASS_H

#include "base/err.h"
#include "base/span.h"

#define NET_PASS_MAX 65536

SP_MUST bool net_make_pair(int fds[2], struct sp_err *e);
/* fd -1: none. Waits for at most two seconds for room; false when there is none or the other side is gone. */
bool net_send(int fd, struct sp_span message, int pass_fd);
/* Never waits: false at once (errno EAGAIN) when there is no room. */
bool net_send_now(int fd, struct sp_span message);
/* Bytes read; 0: the other side is gone; -1: nothing there now. *pass_fd is -1 or a descriptor, the caller's.
 * Never waits. */
long net_receive(int fd, void *buf, size_t cap, int *pass_fd);

#endif
