/* SPDX-License-Identifier: MIT */
/* What is said on this machine about hosts that logins go through: by its administrator in [client] of
 * etc/sallyport/sallyport.conf and conf.d (lists of hosts; a later file replaces a key of an earlier one),
 * and by the user in ~/.config/sallyport/pins, line by line a host and what goes for it. "*" is every host.
 * Without either: nothing. A file counts only when nobody but its reader and root can write to it. */
#ifndef SP_HOST_PINS_H
#define SP_HOST_PINS_H

#include "base/err.h"
#include "base/span.h"

struct host_pin {
    bool timestamp; /* allow-timestamp: an encrypted timestamp may go in-band (decision 24) */
    bool old_mit;   /* old-mit: it speaks the dialect of MIT 1.9 to 1.21 alone (decision 25) */
};

/* An empty host: the files are read and nothing is found. False where one of them cannot be believed; the
 * text names file and line. Configuration that this user may not read says nothing. */
SP_MUST bool host_find_pin(struct sp_span host, struct host_pin *out, struct sp_err *e);

#endif
