/* SPDX-License-Identifier: MIT */
/* Puts the locator's file (courier/locate.h) into run/sallyport and stands behind it: it counts as long as
 * this process holds the lock that comes with it, however the process ends. */
#ifndef SP_DAEMON_LOCATE_FILE_H
#define SP_DAEMON_LOCATE_FILE_H

#include "courier/locate.h"
#include "net/address.h"

struct locate_file {
    int fd; /* of the file that is there, locked; -1: none. Close-on-exec; a child that does not exec must
               close it, or the file lives as long as the child */
    uint64_t generation;
};
#define LOCATE_FILE_NONE ((struct locate_file){.fd = -1})

/* A door of that realm where the daemon listens: every address of this host is its loopback here. What cannot
 * be reached on loopback, is there already, or is one too many, is left out. */
void locate_file_add_door(struct locate_realm *r, enum locate_service service,
                          enum locate_transport transport, const struct net_address *listener);

/* A whole file in the place of the one that is there; on failure that one stays. no_way_until_us: when the
 * next try of a dead target is due, by locate_file_now_us. Programs that are told so ask nobody, so without a
 * try there is nothing that could renew it. */
SP_MUST bool locate_file_write(struct locate_file *f, const char *directory,
                               const struct locate_realm *realms, uint32_t count, struct sp_err *e);
/* From here on the locator says nothing. */
void locate_file_remove(struct locate_file *f, const char *directory);
int64_t locate_file_now_us(void); /* the clock of the file's times */

#endif
