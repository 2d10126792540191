/* SPDX-License-Identifier: MIT */
/* What sallyport.conf says about realms: a section [realm NAME] for each, with its KDCs, relays, servers that
 * take IAKERB, and the order in which they are tried. Plain structs without pointers: they travel to the
 * courier as they are. */
#ifndef SP_ADMIN_REALMS_H
#define SP_ADMIN_REALMS_H

#include "admin/admin.h"

#define ADMIN_REALMS_MAX 255
#define ADMIN_TARGETS_MAX 16
#define ADMIN_REALM_ALIASES_MAX 8
#define ADMIN_HOST_MAX 256
#define ADMIN_PATH_MAX 128

enum admin_rung { ADMIN_LOCAL, ADMIN_NATIVE, ADMIN_RELAY, ADMIN_INBAND, ADMIN_RUNGS };
enum admin_discover { ADMIN_STATIC, ADMIN_SRV, ADMIN_URI, ADMIN_URI_SRV };

/* What the relay's door wants to see of who asks; one that is there is enough. */
enum {
    ADMIN_AUTH_NONE = 1,        /* nothing; limited hard */
    ADMIN_AUTH_NEGOTIATE = 2,   /* HTTP Negotiate with IAKERB */
    ADMIN_AUTH_CERTIFICATE = 4, /* a TLS client certificate */
    ADMIN_AUTH_ARMOURED = 8,    /* the request itself is armoured, or PKINIT */
};
/* Of the relay's door for one realm. AUDIT: carried whatever ON would have refused, and the record says so.
 */
enum admin_stage { ADMIN_UNSET, ADMIN_OFF, ADMIN_AUDIT, ADMIN_ON };

struct admin_target {
    uint8_t rung; /* enum admin_rung */
    bool tls, tcp_only, primary, listed_ip;
    uint16_t port;
    char host[ADMIN_HOST_MAX];
    char path[ADMIN_PATH_MAX];
};

struct admin_realm {
    char name[256];
    char alias[ADMIN_REALM_ALIASES_MAX][256];
    uint32_t alias_count;
    struct admin_target target[ADMIN_TARGETS_MAX]; /* each rung's in the order of preference */
    uint32_t target_count;
    uint8_t ladder[ADMIN_RUNGS]; /* enum admin_rung */
    uint32_t rung_count;         /* 0: the courier's default for what there is */
    uint8_t discover;            /* enum admin_discover */
    bool kpasswd;
    bool relay_off;         /* KdcProxyServer_Enabled = 0 */
    bool inband_timestamp;  /* servers of the in-band rung may be shown an encrypted timestamp */
    uint16_t kpasswd_port;  /* 0: 464 */
    uint32_t max_in_flight; /* 0: the default */
    uint32_t per_second;    /* of one source; 0: the default */
    uint32_t relay_auth;    /* ADMIN_AUTH_*; 0: [relay] auth */
    uint8_t via_relay;      /* enum admin_stage; UNSET: ON when [relay] realms names it */
};

struct admin_realms {
    uint32_t count;
    struct admin_realm *v; /* malloc'd */
};
SP_MUST bool admin_read_realms(const struct admin_paths *p, struct admin_realms *out, struct sp_err *e);
void admin_free_realms(struct admin_realms *r);
const char *admin_rung_name(enum admin_rung r);

#endif
