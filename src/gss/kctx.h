/* SPDX-License-Identifier: MIT */
/* The krb5 security context of RFC 4121: AP exchange, and per-message protection after it. Knows nothing of
 * IAKERB's rounds or of SPNEGO: they stand on it. Messages here are raw (no 60-framing; see gss/token.h).
 *
 * One object for its whole life: zero bytes are a context that does nothing yet, every function is defined in
 * every state (SP_EREFUSED, proto KCTX_NO_CONTEXT when it is too early), kctx_wipe ends it. No pointer into
 * an arena survives a call but `delegated`, which lives in the arena of kctx_accept. */
#ifndef SP_GSS_KCTX_H
#define SP_GSS_KCTX_H

#include "base/arena.h"
#include "base/env.h"
#include "crypto/crypto.h"
#include "krb/ccache.h"
#include "krb/codes.h"
#include "krb/name.h"

enum kctx_flag { /* RFC 2744, RFC 4757, RFC 4121 4.1.1.1 */
                 KCTX_DELEG = 0x1,
                 KCTX_MUTUAL = 0x2,
                 KCTX_REPLAY = 0x4,
                 KCTX_SEQUENCE = 0x8,
                 KCTX_CONF = 0x10,
                 KCTX_INTEG = 0x20,
                 KCTX_ANON = 0x40,
                 KCTX_PROT_READY = 0x80,
                 KCTX_TRANS = 0x100,
                 KCTX_CHANNEL_BOUND = 0x800,
                 KCTX_DCE = 0x1000,
                 KCTX_IDENTIFY = 0x2000,
                 KCTX_EXTENDED_ERROR = 0x4000,
                 KCTX_DELEG_POLICY = 0x8000, /* RFC 5896: never on the wire */
};

/* Negative values of sp_err.proto in this room: what GSS-API calls them. Positive ones are KRB-ERROR codes.
 */
enum kctx_reason {
    KCTX_NO_CONTEXT = -1,    /* GSS_S_NO_CONTEXT: not established */
    KCTX_DEFECTIVE = -2,     /* GSS_S_DEFECTIVE_TOKEN */
    KCTX_BAD_SIG = -3,       /* GSS_S_BAD_SIG */
    KCTX_BAD_BINDINGS = -4,  /* GSS_S_BAD_BINDINGS */
    KCTX_DUPLICATE = -5,     /* GSS_S_DUPLICATE_TOKEN */
    KCTX_OLD = -6,           /* GSS_S_OLD_TOKEN */
    KCTX_UNSEQUENCED = -7,   /* GSS_S_UNSEQ_TOKEN */
    KCTX_GAP = -8,           /* GSS_S_GAP_TOKEN */
    KCTX_EXPIRED = -9,       /* GSS_S_CONTEXT_EXPIRED */
    KCTX_NO_CRED = -10,      /* GSS_S_NO_CRED */
    KCTX_BAD_MECH = -11,     /* GSS_S_BAD_MECH */
    KCTX_UNAUTHORIZED = -12, /* GSS_S_UNAUTHORIZED: policy */
};

enum kctx_state { KCTX_NEW, KCTX_WAIT_REP, KCTX_WAIT_THIRD, KCTX_READY, KCTX_DEAD };
enum kctx_role { KCTX_INITIATOR, KCTX_ACCEPTOR };
enum kctx_finished {                      /* spec/iakerb.md 1.6 and 2; the IAKERB engine says which */
                     KCTX_FINISHED_NONE,  /* no proxied messages: must not be there */
                     KCTX_FINISHED_DRAFT, /* extension type 2, key usage 41 */
                     KCTX_FINISHED_OLD,   /* MIT 1.9 to 1.21: type 1, usage 42 */
};

#define KCTX_NAME_MAX 1024
#define KCTX_WINDOW 64 /* sequence numbers that may arrive late */

struct kctx {
    enum kctx_state state;
    enum kctx_role role;
    uint32_t flags;                                 /* as negotiated */
    struct sp_key session, subkey, acceptor_subkey; /* n 0: none */
    uint64_t send_seq, recv_seq, recv_seen;         /* next to send; next expected; bitmap of those before */
    int64_t authtime, endtime;
    int64_t ctime; /* of the authenticator, for the AP-REP */
    uint32_t cusec;
    bool no_finished; /* accepted without FINISHED although messages were proxied: by configuration, to be
                         recorded */
    char client[KCTX_NAME_MAX], service[KCTX_NAME_MAX]; /* principals as text with realm, NUL-terminated */
    struct sp_span delegated; /* the KRB-CRED that came along, its part in the clear (etype 0), or empty */
};

/* RFC 4121 4.1.1.2: what both sides know about the channel. */
struct kctx_bindings {
    uint32_t initiator_type, acceptor_type;
    struct sp_span initiator, acceptor, application;
};
SP_MUST bool kctx_hash_bindings(struct crypto *c, const struct kctx_bindings *b, struct sp_arena *mem,
                                uint8_t out[16], struct sp_err *e);

/* The bytes that this is the MD5 of. */
SP_MUST bool kctx_put_bindings(const struct kctx_bindings *b, struct sp_arena *mem, struct sp_span *out,
                               struct sp_err *e);

/* What covers the rounds before (IAKERB); tokens are every earlier token of both sides, exactly as sent. */
struct kctx_transcript {
    enum kctx_finished kind;
    struct sp_span tokens;
};

/* ---- initiator ---- */
struct kctx_ask {
    const struct krb_credential *ticket; /* for the service */
    uint32_t flags;                      /* wanted: without `cred` DELEG and DELEG_POLICY are dropped */
    const uint8_t *bindings;             /* 16 bytes, or NULL */
    struct sp_span cred;                 /* KRB-CRED to delegate, from kctx_make_cred; empty: none */
    struct kctx_transcript transcript;
    int64_t offset_s; /* KDC clock minus ours */
};
/* Makes the AP-REQ (in mem). State WAIT_REP with MUTUAL or DCE, else READY. */
SP_MUST bool kctx_request(struct kctx *k, struct crypto *c, struct sp_env env, const struct kctx_ask *ask,
                          struct sp_arena *mem, struct sp_span *ap_req, struct sp_err *e);
/* Takes the AP-REP; a KRB-ERROR is refused with its code. *third is what DCE style sends as its third leg,
 * else empty. */
SP_MUST bool kctx_take_reply(struct kctx *k, struct crypto *c, struct sp_env env, struct sp_span reply,
                             struct sp_arena *mem, struct sp_span *third, struct sp_err *e);
/* KRB-CRED over a forwarded TGT, encrypted in the service ticket's session key (usage 14), as 0x8003 carries
 * it. */
SP_MUST bool kctx_make_cred(struct crypto *c, struct sp_env env, const struct krb_credential *forwarded,
                            const struct sp_key *session, struct sp_arena *mem, struct sp_span *out,
                            struct sp_err *e);

/* The first ticket of kctx.delegated, ready for use; borrows from it and from mem. */
SP_MUST bool kctx_read_cred(struct sp_span delegated, struct sp_arena *mem, struct krb_credential *out,
                            struct sp_err *e);

/* ---- acceptor ---- */
struct kctx_keys { /* the keytab, as a port; synchronous, never waits for a network */
    /* SP_ENOTFOUND, proto KRB_AP_ERR_NOKEY (45), KRB_AP_ERR_BADKEYVER (44) or KRB_AP_ERR_NOT_US (35). kvno 0:
     * any. */
    bool (*find)(struct kctx_keys *keys, const struct krb_name *service, struct sp_span realm, int32_t etype,
                 uint32_t kvno, struct sp_key *out, struct sp_err *e);
};
struct kctx_replays { /* the replay cache, as a port (decision 28) */
    /* Records the authenticator's checksum (the end of its ciphertext, tag_n bytes); SP_EREFUSED, proto
     * KRB_AP_ERR_REPEAT (34), when it was there. */
    bool (*note)(struct kctx_replays *r, struct sp_span tag, int64_t now_s, int32_t skew_s, struct sp_err *e);
};
struct kctx_accepting {
    struct kctx_keys *keys;
    struct kctx_replays *replays; /* NULL: none is kept (DCE style, tests) */
    int32_t skew_s;
    const uint8_t
        *bindings; /* 16 bytes, or NULL: the caller has none, and the initiator's are not looked at */
    struct sp_span channel; /* what `bindings` is the MD5 of, for initiators that hash it better (RFC 6542); n
                               0: they are judged by MD5 alone */
    bool require_bindings;  /* refuse zero bindings of the initiator */
    bool refuse_own;        /* refuse clients whose keys are in `keys`: see sec_acceptor.own */
    struct kctx_transcript transcript;
    bool finished_may_lack; /* [iakerb] finished = optional; k->no_finished then tells */
};
/* Verifies the AP-REQ. *reply is the AP-REP, or empty without MUTUAL. State READY, or WAIT_THIRD in DCE
 * style. Nothing of the context can be asked before that. */
SP_MUST bool kctx_accept(struct kctx *k, struct crypto *c, struct sp_env env,
                         const struct kctx_accepting *how, struct sp_span ap_req, struct sp_arena *mem,
                         struct sp_span *reply, struct sp_err *e);
SP_MUST bool kctx_accept_third(struct kctx *k, struct crypto *c, struct sp_env env, struct sp_span third,
                               struct sp_err *e);
/* What the peer is told about a refusal: KRB-ERROR with a code that fits why->proto (60 for negative ones).
 * realm and service name the acceptor; service NULL: it does not want to be named. */
SP_MUST bool kctx_make_error(struct sp_env env, const struct sp_err *why, struct sp_span realm,
                             const struct krb_name *service, struct sp_arena *mem, struct sp_span *out,
                             struct sp_err *e);

/* ---- per-message tokens, RFC 4121 4.2; all need READY (or PROT_READY) ---- */
#define KCTX_MIC_MAX (16 + CRYPTO_CKSUM_MAX)
#define KCTX_WRAP_OVERHEAD_MAX                                                                               \
    (16 + 16 + CRYPTO_OVERHEAD_MAX) /* header, encrypted header, confounder and tag */
#define KCTX_PARTS_MAX 64           /* pieces of one message; GSS-API callers have under ten */
#define KCTX_PRF_IN_MAX 16384       /* bytes of one PRF input */
enum kctx_wrap { KCTX_INTEGRITY, KCTX_CONFIDENTIAL };

SP_MUST bool kctx_get_mic(struct kctx *k, struct crypto *c, const struct sp_span *parts, uint32_t count,
                          uint8_t *out, size_t *out_n, struct sp_err *e);
/* KCTX_DUPLICATE, KCTX_OLD, KCTX_UNSEQUENCED, KCTX_GAP are reported with the content verified (e->kind
 * SP_EREFUSED, and *good true); anything else leaves *good false. */
SP_MUST bool kctx_verify_mic(struct kctx *k, struct crypto *c, const struct sp_span *parts, uint32_t count,
                             struct sp_span mic, bool *good, struct sp_err *e);
/* SPNEGO's MIC over the mechanism list: the same, but the sequence number is neither checked nor used up on
 * reading (Windows sends 0, spec/iakerb.md 3.1). */
SP_MUST bool kctx_verify_list_mic(struct kctx *k, struct crypto *c, struct sp_span list, struct sp_span mic,
                                  struct sp_err *e);
SP_MUST bool kctx_wrap(struct kctx *k, struct crypto *c, struct sp_rng *rng, enum kctx_wrap how,
                       struct sp_span in, uint8_t *out, size_t *out_n, struct sp_err *e);
/* out: room for in.n bytes. Any rotation and EC is undone. */
SP_MUST bool kctx_unwrap(struct kctx *k, struct crypto *c, struct sp_span in, uint8_t *out, size_t *out_n,
                         enum kctx_wrap *how, bool *good, struct sp_err *e);
/* The most plaintext whose token fits in max bytes. */
size_t kctx_wrap_limit(const struct kctx *k, enum kctx_wrap how, size_t max);

/* Scatter/gather forms (RFC 6680's cousins, as MS and MIT define them): HEADER, DATA and SIGN_ONLY in order,
 * PADDING, TRAILER. */
enum kctx_part {
    KCTX_PART_HEADER,
    KCTX_PART_DATA,
    KCTX_PART_SIGN_ONLY,
    KCTX_PART_PADDING,
    KCTX_PART_TRAILER,
    KCTX_PART_STREAM,
    KCTX_PART_EMPTY,
    KCTX_PART_MIC
};
struct kctx_iov {
    enum kctx_part part;
    uint8_t *p;
    size_t n; /* in: room or length; out: bytes used */
};
/* Lengths that HEADER, PADDING and TRAILER need are put into their n. */
SP_MUST bool kctx_iov_lengths(const struct kctx *k, enum kctx_wrap how, struct kctx_iov *v, uint32_t count,
                              struct sp_err *e);
SP_MUST bool kctx_wrap_iov(struct kctx *k, struct crypto *c, struct sp_rng *rng, enum kctx_wrap how,
                           struct kctx_iov *v, uint32_t count, struct sp_arena *mem, struct sp_err *e);
SP_MUST bool kctx_unwrap_iov(struct kctx *k, struct crypto *c, enum kctx_wrap *how, struct kctx_iov *v,
                             uint32_t count, struct sp_arena *mem, bool *good, struct sp_err *e);

/* RFC 4402: PRF of the context; `full` uses the acceptor's subkey key (GSS_C_PRF_KEY_FULL), otherwise the
 * initiator's. */
enum kctx_prf { KCTX_PRF_FULL, KCTX_PRF_PARTIAL };
SP_MUST bool kctx_prf(const struct kctx *k, struct crypto *c, enum kctx_prf which, struct sp_span in,
                      uint8_t *out, size_t want_n, struct sp_err *e);
/* The key that SMB and SASL take: acceptor subkey, else initiator subkey, else the ticket's session key. */
SP_MUST bool kctx_session_key(const struct kctx *k, struct sp_key *out, struct sp_err *e);

/* Opaque bytes of an established context, for another process; refused before READY. The exporting object is
 * wiped. */
#define KCTX_EXPORT_MAX 4096
SP_MUST bool kctx_export(struct kctx *k, uint8_t *out, size_t *out_n, struct sp_err *e);
SP_MUST bool kctx_import(struct kctx *k, struct sp_span bytes, struct sp_err *e);

void kctx_wipe(struct kctx *k);

#endif
