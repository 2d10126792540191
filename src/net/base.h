/* SPDX-License-Identifier: MIT */
/* The courier's loop: libevent, whose base also waits for a net_loop (an epoll descriptor can be waited for),
 * so that what lives on that one goes on living there. */
#ifndef SP_NET_BASE_H
#define SP_NET_BASE_H

#include "net/loop.h"

struct net_base;
struct event_base;
/* inner: NULL, or a loop that outlives the base. */
struct net_base *net_base_new(struct net_loop *inner, struct sp_err *e);
void net_base_free(struct net_base *b);
/* Waits once (timeout_ms -1: for ever) and calls everything that is ready, of both. A signal does not end it.
 */
void net_base_turn(struct net_base *b, int timeout_ms);
struct event_base *net_base_events(struct net_base *b); /* for the files of this room */
int64_t net_base_now_us(void);                          /* monotonic, as net_plan's until_us */

#endif
