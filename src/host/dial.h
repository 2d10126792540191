/* SPDX-License-Identifier: MIT */
/* Blocking sockets with a deadline, for commands. Times are microseconds of the monotonic clock. */
#ifndef SP_HOST_DIAL_H
#define SP_HOST_DIAL_H

#include "base/err.h"
#include "base/span.h"

#define HOST_CONNECT_US (5 * INT64_C(1000000))

int64_t host_mono_us(void);
/* Tries every address of the name; -1 with the reason in e. The descriptor does not block. */
int host_dial(const char *host, const char *port, struct sp_err *e);
/* poll(2) for events until then; false with errno ETIMEDOUT when nothing came. */
bool host_wait(int fd, short events, int64_t until_us);
/* errno tells why not. */
/* Small messages do not wait for the acknowledgement of earlier ones. */
void host_send_at_once(int fd);
bool host_send_all(int fd, struct sp_span data, int64_t until_us);
bool host_receive_all(int fd, uint8_t *p, size_t n, int64_t until_us);

#endif
