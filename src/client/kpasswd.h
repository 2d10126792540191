/* SPDX-License-Identifier: MIT */
/* Changing a password (RFC 3244): one request, one reply, with a ticket for kadmin/changepw that came
 * straight from a password (CLIENT_SERVICE_BY_AS). Bytes travel to port 464 as they do to a KDC: by UDP as
 * they are, by TCP behind four bytes of length. */
#ifndef SP_CLIENT_KPASSWD_H
#define SP_CLIENT_KPASSWD_H

#include "base/arena.h"
#include "base/env.h"
#include "crypto/crypto.h"
#include "krb/ccache.h"
#include "krb/name.h"

#define CLIENT_PASSWORD_MAX 1024

struct client_change_wish {
    const struct krb_credential *ticket;
    struct sp_span password; /* UTF-8 */
    struct krb_name target;  /* whose; no parts: the ticket's own client */
    struct sp_span target_realm;
    int64_t offset_us; /* server's clock minus ours, as the login showed it */
};

/* Between the request and its reply; holds keys. */
struct client_change {
    struct sp_key session, subkey;
    int64_t ctime;
    uint32_t cusec, seq;
};

enum client_changed { /* RFC 3244 2, KRB5_KPASSWD_... */
                      CLIENT_CHANGED = 0,
                      CLIENT_CHANGE_MALFORMED = 1,
                      CLIENT_CHANGE_HARDERROR = 2,
                      CLIENT_CHANGE_AUTHERROR = 3,
                      CLIENT_CHANGE_SOFTERROR = 4,
                      CLIENT_CHANGE_ACCESSDENIED = 5,
                      CLIENT_CHANGE_BAD_VERSION = 6,
                      CLIENT_CHANGE_INITIAL_NEEDED = 7,
};
struct client_verdict {
    uint16_t result;     /* enum client_changed, or what the server made up */
    struct sp_span text; /* for the user, as the server sent it: not to be trusted further than the server;
                            Active Directory sends 30 bytes of policy instead */
};

/* The request, in mem. SP_EINPUT: the password is empty or too long, or the ticket's key is of no use;
 * SP_EREFUSED, proto KDC_ERR_POLICY: the ticket did not come from a password. */
SP_MUST bool client_change_request(struct client_change *ch, struct crypto *c, struct sp_env env,
                                   const struct client_change_wish *w, struct sp_arena *mem,
                                   struct sp_span *out, struct sp_err *e);

/* True when the server's verdict is proven, whatever it is; it borrows from mem. False with SP_EREFUSED: the
 * server could not or would not prove itself; proto and text are from its KRB-ERROR, which anybody could have
 * sent, or KRB_AP_ERR_MODIFIED. */
SP_MUST bool client_change_reply(const struct client_change *ch, struct crypto *c, struct sp_span reply,
                                 struct sp_arena *mem, struct client_verdict *out, struct sp_err *e);

#endif
