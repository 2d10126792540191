/* SPDX-License-Identifier: MIT */
/* What a process gives up. Each step is one way. */
#ifndef SP_NET_SANDBOX_H
#define SP_NET_SANDBOX_H

#include "base/err.h"

/* No core file, no ptrace and no /proc/PID/mem for others of the same uid. For every process that holds keys.
 */
SP_MUST bool net_hide(struct sp_err *e);
/* Raises the soft limit of descriptors to want, the hard one too where that is allowed; returns what it is
 * now. */
unsigned long net_raise_descriptors(unsigned long want);
/* From root to a user, keeping only CAP_NET_BIND_SERVICE (a reload may open doors). SP_ENOTFOUND: no such
 * user. */
SP_MUST bool net_become(const char *user, struct sp_err *e);
/* No capability at all, none to be had by exec. */
SP_MUST bool net_drop_capabilities(struct sp_err *e);
/* Allow-list of system calls for a process that serves sockets it already holds. Whatever else it tries -
 * open, connect, socket, exec, ptrace, executable memory - ends it with SIGSYS. */
enum net_sandbox {
    NET_SANDBOX_SERVES,
    NET_SANDBOX_CONNECTS, /* and may make Internet sockets and connect them: the courier */
};
SP_MUST bool net_enter_sandbox(enum net_sandbox which, struct sp_err *e);

#endif
