/* SPDX-License-Identifier: MIT */
/* What this machine's administrator says about hosts that logins go through: [client] in
 * etc/sallyport/sallyport.conf, lists of hosts, "*" for all. Without that file: no. */
#ifndef SP_HOST_PINS_H
#define SP_HOST_PINS_H

#include "base/span.h"

/* allow-timestamp: an encrypted timestamp may go in-band (decision 24). */
bool host_allows_timestamp(struct sp_span host);
/* old-mit: the host speaks the dialect of MIT 1.9 to 1.21 alone (decision 25). */
bool host_speaks_old_mit(struct sp_span host);

#endif
