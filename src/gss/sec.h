/* SPDX-License-Identifier: MIT */
/* A security context as its driver sees it, whatever the mechanism: events in, actions out. The same loop
 * serves initiator and acceptor, krb5, IAKERB and SPNEGO:
 *
 *     sec_new(...)  then  sec_step(ctx, env, event, action) until action.what is SEC_DONE or the call fails
 *
 * One object for its whole life. A context that failed stays failed; every other call on it is refused, none
 * crashes. An event that is not due is refused too and changes nothing.
 *
 * Memory: what is left of the arena given to sec_new (SEC_ARENA_MIN bytes or more; pages that are not used
 * cost nothing) is the context's alone until sec_wipe. The structs that say how are copied, and nothing of
 * what they point to: spans, names, keys, tickets, bindings and ports must live as long as the context. An
 * action's spans live until the next sec_step. */
#ifndef SP_GSS_SEC_H
#define SP_GSS_SEC_H

#include "client/client.h"
#include "gss/kctx.h"
#include "gss/token.h"

#define SEC_MESSAGES_MAX 20                 /* from the client, in one context (decision 25) */
#define SEC_FAILURES_MAX 3                  /* of pre-authentication, in one acceptor's context */
#define SEC_TRANSCRIPT_MAX (256 * 1024)     /* bytes of all tokens */
#define SEC_LIFE_US (30 * INT64_C(1000000)) /* from first token to established */
#define SEC_TOKEN_MAX 65000
#define SEC_ARENA_MIN (1024 * 1024)
#define SEC_COOKIE_MAX 1024

enum sec_event_kind {
    SEC_START,       /* initiator's first step; no token. Acceptor: speak first (NegTokenInit2, for SMB) */
    SEC_TOKEN,       /* the peer's token */
    SEC_CARRIED,     /* the KDC's answer to SEC_CARRY: bytes */
    SEC_NOT_CARRIED, /* code: KRB_AP_ERR_IAKERB_KDC_NOT_FOUND (85) or KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE (86)
                      */
};
struct sec_event {
    enum sec_event_kind kind;
    struct sp_span bytes;
    int32_t code;
};

enum sec_do {
    SEC_SEND,  /* send `token`, then wait for the peer's */
    SEC_CARRY, /* carry `message` to a KDC of `realm`, then step with SEC_CARRIED or SEC_NOT_CARRIED */
    SEC_DONE,  /* established; `token` (when not empty) is still to be sent */
};
/* After a failed sec_step, action->token may hold an error token for the peer. */
struct sec_action {
    enum sec_do what;
    struct sp_span token;
    struct sp_span realm, message;
};

enum sec_role { SEC_INITIATOR, SEC_ACCEPTOR };
enum sec_finished { SEC_FINISHED_REQUIRED, SEC_FINISHED_OPTIONAL };
enum sec_own { SEC_OWN_TAKEN, SEC_OWN_REFUSED };
enum sec_old_mit { SEC_OLD_MIT_OFF, SEC_OLD_MIT_ACCEPT };
enum sec_e_text { SEC_E_TEXT_DROP, SEC_E_TEXT_KEEP };    /* of a KDC's KRB-ERROR: it may tell about the KDC */
enum sec_list_mic { SEC_MIC_STRICT, SEC_MIC_WHEN_SENT }; /* spec/iakerb.md 4.3 */

struct sec_initiator {
    enum token_mech mechs[4]; /* what may be used, in order: TOKEN_IAKERB, TOKEN_KRB5, TOKEN_MS_KRB5 */
    uint32_t mech_count;
    bool spnego;             /* wrapped in SPNEGO; else the only mechanism, raw */
    struct client_wish wish; /* who, with what; goal is set by the engine. `service` is the target */
    const struct krb_credential *ticket; /* a service ticket that is there already; or NULL */
    struct client_policy policy;
    struct sp_span target_host; /* for messages, and for the realm of local accounts */
    /* kctx flags wanted. With KCTX_DELEG, or with KCTX_DELEG_POLICY where the service's ticket says
     * ok-as-delegate (RFC 5896), a forwarded TGT is handed over: `forwarded`, or with IAKERB one that is
     * fetched through the acceptor, which costs a round trip. That it cannot be had ends nothing: the flags
     * tell. */
    uint32_t flags;
    const struct krb_credential *forwarded; /* a forwarded TGT that is there already; or NULL */
    const uint8_t *bindings;                /* 16 bytes or NULL */
    bool discover;                          /* ask the acceptor for its realm first (the name has none) */
    bool service_by_as;                     /* decision 14 */
    enum sec_old_mit old_mit;               /* speak MIT's dialect of 1.9 to 1.21 */
    bool
        krb5_framed_ap_req; /* frame the AP-REQ with the krb5 OID even when replies carried no header-flags */
};

struct sec_acceptor {
    bool spnego_only;       /* refuse raw mechanism tokens */
    struct krb_realm realm; /* the local realm; its aliases, "" and "." mean it too */
    struct sp_spans realms; /* further realms that may be asked for (allow-list) */
    struct kctx_keys *keys;
    struct kctx_replays *replays;
    const uint8_t *bindings;
    struct sp_span channel; /* as of kctx_accepting */
    bool require_bindings;
    int32_t skew_s;
    /* A client whose keys this acceptor has is its own host. For drivers that know that the peer is
     * elsewhere: then somebody made this host authenticate, and sends back what it said. */
    enum sec_own own;
    enum sec_finished finished;
    enum sec_old_mit old_mit;
    enum sec_list_mic list_mic;
    enum sec_e_text e_text;
};

struct sec; /* gss/internal.h */

SP_MUST bool sec_new_initiator(struct sec **s, struct crypto *c, const struct sec_initiator *how,
                               struct sp_arena *mem, struct sp_err *e);
SP_MUST bool sec_new_acceptor(struct sec **s, struct crypto *c, const struct sec_acceptor *how,
                              struct sp_arena *mem, struct sp_err *e);
/* proto of a failure: a KRB-ERROR code (positive) or enum kctx_reason. */
SP_MUST bool sec_step(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
                      struct sp_err *e);

/* ---- what can be asked at any time ---- */
bool sec_is_established(const struct sec *s);
/* NULL until established (then per-message calls work on it); PROT_READY is not before. */
struct kctx *sec_kctx(struct sec *s);
enum token_mech sec_mech(const struct sec *s); /* TOKEN_UNKNOWN while open */
struct sec_facts {                             /* for records and --trace */
    uint32_t from_client; /* tokens; of a pair the second may be lacking, so this counts round trips */
    size_t bytes;
    bool discovered, old_mit, no_finished, windows; /* windows: header-flags were seen */
    struct sp_span realm;                           /* of the proxied messages */
};
void sec_tell(const struct sec *s, struct sec_facts *out);
/* Tickets that the initiator got on the way, for the user's cache; NULL when none. */
const struct krb_credential *sec_got_tgt(const struct sec *s);
const struct krb_credential *sec_got_service(const struct sec *s);
bool sec_learnt(const struct sec *s, struct client_known *out);
/* How the initiator proved itself to the KDC: "none", "timestamp", "spake"; NULL when it has not. */
const char *sec_preauth(const struct sec *s);
void sec_wipe(struct sec *s);

#endif
