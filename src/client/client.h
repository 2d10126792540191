/* SPDX-License-Identifier: MIT */
/* The client's side of the AS and TGS exchanges (RFC 4120 3.1, 3.3; RFC 6806; RFC 9588): says what to send to
 * the KDC of which realm, takes what came back, and ends with credentials or a refusal. It does not know how
 * bytes travel: directly, by a relay or inside IAKERB. What it checks of every reply is spec'd in
 * docs/PROTOCOL.md ("client-side checks").
 *
 * One object per login. Memory: everything lives in the arena given to client_start until the caller resets
 * it; half of what is left in it at the start is taken at once, for requests and for what a step decrypts. */
#ifndef SP_CLIENT_CLIENT_H
#define SP_CLIENT_CLIENT_H

#include "base/arena.h"
#include "base/env.h"
#include "crypto/crypto.h"
#include "krb/ccache.h"
#include "krb/codes.h"
#include "krb/name.h"

#define CLIENT_ROUNDS_MAX 16   /* requests of one login */
#define CLIENT_REFERRALS_MAX 5 /* realms passed on the way to a service */
#define CLIENT_ARENA_MIN (128 * 1024)
#define CLIENT_KEYS_MAX 32              /* long-term keys of a wish */
#define CLIENT_SKEW_S 300               /* between a KDC and its tickets' times, as we see them */
#define CLIENT_OFFSET_MAX_S (24 * 3600) /* how far a KDC may move our idea of its clock */

/* Where the KDC is reached decides what may be shown to it (decision 24). */
struct client_policy {
    int32_t etypes[4]; /* order of preference; count 0: 18 17 20 19 */
    uint32_t etype_count;
    bool timestamp;    /* PA-ENC-TIMESTAMP may be sent: an eavesdropper or a rogue acceptor can guess on it
                          offline */
    bool spake;        /* SPAKE may be used */
    bool canonicalize; /* ask for canonical names and follow client referrals to the same host's realm only */
    bool adopt_realm;  /* the realm was guessed from the host's name or is ".": take the real one from error
                          25, 68 or the reply  (spec/iakerb.md 3.4); otherwise another realm is refused */
    uint32_t s2k_iter_min,
        s2k_iter_max; /* PBKDF2 counts that are believed; 0: 4096 and CRYPTO_S2K_ITER_MAX */
};
void client_policy_direct(struct client_policy *p);  /* a KDC of our own configuration: timestamp allowed */
void client_policy_in_band(struct client_policy *p); /* through a server nobody vouches for: SPAKE only */

/* How the key of an account is made, as an earlier login learnt it: pre-authentication without the error leg.
 */
struct client_known {
    int32_t etype;
    struct sp_span salt, params;
    bool spake; /* the KDC has SPAKE: no timestamp is sent at once where SPAKE may be used */
};

enum client_goal {
    CLIENT_TGT,           /* a TGT of the client's realm */
    CLIENT_SERVICE,       /* a ticket for `service`: AS if there is no TGT yet, then TGS with referrals */
    CLIENT_SERVICE_BY_AS, /* a ticket for `service` straight from the AS exchange (decision 14): no TGT,
                             unless the KDC gives none in that name; then as CLIENT_SERVICE */
    CLIENT_FORWARDED,     /* a forwarded TGT, from `tgt` */
    CLIENT_RENEWED,       /* `tgt`, renewed */
};

struct client_wish {
    enum client_goal goal;
    struct krb_name client;    /* with password or keys */
    struct sp_span realm;      /* the client's realm; may be "." with adopt_realm */
    struct sp_span password;   /* borrowed until the AS exchange is over; then forgotten */
    const struct sp_key *keys; /* instead of a password: long-term keys, any of which may be used */
    uint32_t key_count;
    const struct krb_credential *tgt; /* instead of both */
    struct krb_name service;
    struct sp_span service_realm; /* empty: the client's realm */
    uint32_t options;        /* KDCOptions to set besides canonicalize: forwardable, renewable, proxiable */
    int64_t life_s, renew_s; /* 0: as long as the KDC gives */
    int64_t offset_s;        /* KDC clock minus ours, as an earlier exchange showed it */
    const struct client_known *known; /* NULL: nothing is known */
};

enum client_state { CLIENT_IDLE, CLIENT_AS, CLIENT_TGS, CLIENT_DONE, CLIENT_FAILED };

/* Exactly one of: a request to carry, or done. */
struct client_action {
    bool done;
    struct sp_span realm;   /* whose KDC */
    struct sp_span request; /* an AS-REQ or TGS-REQ */
};

struct client; /* in client/internal.h; lives in the arena */

/* Starts; out is the first action. SP_EINPUT: the wish is contradictory (its text says how). */
SP_MUST bool client_start(struct client **cl, struct crypto *c, const struct client_policy *policy,
                          const struct client_wish *wish, struct sp_env env, struct sp_arena *mem,
                          struct client_action *out, struct sp_err *e);

/* Takes the KDC's reply to the last request. On failure the login is over: SP_EREFUSED with the KDC's code as
 * proto, or, for a reply that cannot be trusted, KRB_AP_ERR_MODIFIED; SP_EINPUT for bytes that are no reply.
 * Texts say what to do. */
SP_MUST bool client_reply(struct client *cl, struct sp_env env, struct sp_span reply,
                          struct client_action *out, struct sp_err *e);

/* Results; NULL when there is none. The TGT is there from the AS exchange on, the rest when done. */
const struct krb_credential *client_tgt(const struct client *cl);
const struct krb_credential *client_service(const struct client *cl);
/* What was learnt about the account's key, for next time; false when nothing was. */
bool client_learnt(const struct client *cl, struct client_known *out);
const char *client_preauth(const struct client *cl); /* "none", "timestamp", "spake" */
uint32_t client_rounds(const struct client *cl);
/* KDC clock minus ours, in seconds, as the exchange showed it. */
int64_t client_offset_s(const struct client *cl);
enum client_state client_state(const struct client *cl);
/* Wipes what is secret; the object may not be used afterwards. NULL allowed. */
void client_wipe(struct client *cl);

#endif
