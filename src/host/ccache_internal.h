/* SPDX-License-Identifier: MIT */
/* What the files about credential caches share. */
#ifndef SP_HOST_CCACHE_INTERNAL_H
#define SP_HOST_CCACHE_INTERNAL_H

#include "host/ccache.h"

/* host/krb5conf.c: a value of [libdefaults] */
bool host_find_setting(const char *key, char *out, size_t max);

/* host/keyring.c: the kernel's keyrings in MIT's layout. */
SP_MUST bool host_read_keyring(const struct host_ccache *cc, struct sp_arena *mem, struct krb_ccache *out,
                               struct sp_err *e);
SP_MUST bool host_write_keyring(const struct host_ccache *cc, const struct krb_ccache *what,
                                struct sp_arena *mem, struct sp_err *e);
/* What a file of this principal holds behind its header: how keyrings and KCM write it, too. */
SP_MUST bool host_principal_bytes(const struct krb_ccache *what, struct sp_arena *mem, struct sp_span *out,
                                  struct sp_err *e);

/* host/kcm.c: a daemon that keeps caches. */
SP_MUST bool host_read_kcm(const struct host_ccache *cc, struct sp_arena *mem, struct krb_ccache *out,
                           struct sp_err *e);
SP_MUST bool host_write_kcm(const struct host_ccache *cc, const struct krb_ccache *what, struct sp_arena *mem,
                            struct sp_err *e);

#endif
