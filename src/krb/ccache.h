/* SPDX-License-Identifier: MIT */
/* Credentials, and the FILE credential cache that MIT and Heimdal share (format 4; format 3 is read). Pure
 * codec: who opens, locks and renames files is the host's driver. */
#ifndef SP_KRB_CCACHE_H
#define SP_KRB_CCACHE_H

#include "krb/messages.h"

#define KRB_CCACHE_MAX (1u << 20) /* bytes of a cache that is read */
#define KRB_CCACHE_CREDS_MAX 1024

/* One ticket with what is needed to use it. Spans are borrowed: from the bytes that were read, or from the
 * caller. */
struct krb_credential {
    struct krb_name client, server;
    struct sp_span crealm, srealm;
    struct sp_key key;                                /* session key */
    uint32_t flags;                                   /* TicketFlags */
    int64_t authtime, starttime, endtime, renew_till; /* seconds since 1970; 0: absent */
    struct sp_span ticket;                            /* DER of the Ticket */
};

struct krb_ccache {
    struct krb_name principal; /* the default principal */
    struct sp_span realm;
    int32_t offset_s, offset_us; /* KDC clock minus ours (header tag 1); 0 when absent */
    struct krb_credential *v;    /* tickets; X-CACHECONF: entries are kept in `config` */
    uint32_t count;
    struct krb_credential *config;
    uint32_t config_count;
};

/* Reads a whole file. SP_EINPUT with the offset. Other formats (1, 2) are SP_EREFUSED. */
SP_MUST bool krb_get_ccache(struct sp_span file, struct sp_arena *mem, struct krb_ccache *out,
                            struct sp_err *e);
/* The bytes of a format 4 file. */
SP_MUST bool krb_put_ccache(const struct krb_ccache *c, struct sp_arena *mem, struct sp_span *out,
                            struct sp_err *e);
/* The bytes of one credential as they are appended to a format 4 file. */
SP_MUST bool krb_put_credential(const struct krb_credential *c, struct sp_arena *mem, struct sp_span *out,
                                struct sp_err *e);
/* The ticket for that service which lives longest past now_s; NULL when there is none. */
const struct krb_credential *krb_find_credential(const struct krb_ccache *c, const struct krb_name *server,
                                                 struct sp_span srealm, int64_t now_s);
#endif
