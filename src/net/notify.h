/* SPDX-License-Identifier: MIT */
/* What a service manager and its journal are told, by datagrams of our own: no libsystemd. */
#ifndef SP_NET_NOTIFY_H
#define SP_NET_NOTIFY_H

#include <stdbool.h>

#include "base/span.h"

/* sd_notify(3): "READY=1" and so on to $NOTIFY_SOCKET (a path, or abstract with '@'). False when there is
 * none or nobody reads. */
bool net_notify(const char *state);
/* One line to the journal under the identifier sallyportd, priority as syslog's. False when there is no
 * journal. */
bool net_journal(int priority, struct sp_span line);
/* Microseconds of $WATCHDOG_USEC, 0 when no watchdog waits for this process. */
long net_watchdog_us(void);

#endif
