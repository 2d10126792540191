/* SPDX-License-Identifier: MIT */
/* The user's credential cache: which one it is, and reading and writing it (decision 62). A name is what
 * KRB5CCNAME takes: TYPE:REST, or a path, which means FILE. Nothing is ever written to another place than the
 * one that was named. */
#ifndef SP_HOST_CCACHE_H
#define SP_HOST_CCACHE_H

#include "krb/ccache.h"

#define HOST_CCACHE_MAX 4096

enum host_ccache_kind { HOST_CCACHE_FILE, HOST_CCACHE_DIR, HOST_CCACHE_KEYRING, HOST_CCACHE_KCM };
enum host_ccache_others { HOST_CCACHE_SPARE, HOST_CCACHE_OVERWRITE }; /* caches of other principals */

struct host_ccache {
    enum host_ccache_kind kind;
    char name[HOST_CCACHE_MAX + 16]; /* in full, for people */
    char rest[HOST_CCACHE_MAX];      /* behind the type */
};

/* given, else KRB5CCNAME, else default_ccache_name of krb5.conf (KRB5_CONFIG), else FILE:/tmp/krb5cc_UID.
 * SP_EREFUSED for a type that is not one of these. */
SP_MUST bool host_find_ccache(const char *given, struct host_ccache *out, struct sp_err *e);
/* All of it, in mem. SP_ENOTFOUND when there is none yet. */
SP_MUST bool host_read_ccache(const struct host_ccache *cc, struct sp_arena *mem, struct krb_ccache *out,
                              struct sp_err *e);
/* Says before a password is asked for whether host_write_ccache would refuse. */
SP_MUST bool host_check_ccache(const struct host_ccache *cc, const struct krb_name *who, struct sp_span realm,
                               enum host_ccache_others others, struct sp_arena *mem, struct sp_err *e);
/* Replaces what is there as a whole, or, on failure, nothing. In a directory another principal's cache is
 * left alone: a cache is added and made the primary one. written: the name of the cache itself. */
SP_MUST bool host_write_ccache(const struct host_ccache *cc, const struct krb_ccache *what,
                               enum host_ccache_others others, struct sp_arena *mem,
                               struct host_ccache *written, struct sp_err *e);

#endif
