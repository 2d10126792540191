/* SPDX-License-Identifier: MIT */
/* Who asks (decisions 6 and 59), for doors of workers and for the courier's. */
#ifndef SP_DAEMON_SOURCE_H
#define SP_DAEMON_SOURCE_H

#include "kdc/kdc.h"
#include "net/address.h"

void source_of_address(const struct net_address *a, struct kdc_source *out);
void source_of_uid(uint32_t uid, struct kdc_source *out);

#endif
