/* SPDX-License-Identifier: MIT */
/* How sec.c, iakerb.c and spnego.c share one context. */
#ifndef SP_GSS_INTERNAL_H
#define SP_GSS_INTERNAL_H

#include "gss/sec.h"

#define SPNEGO_LIST_MAX 1024 /* bytes of a mechanism list: it is kept for the MIC over it */
#define SPNEGO_MECHS_MAX 32

/* All earlier tokens of a mechanism's context, both directions, as sent. */
struct transcript {
    uint8_t *p; /* at the arena's end */
    size_t n, max;
};

enum iakerb_dialect { IAKERB_OPEN, IAKERB_DRAFT, IAKERB_OLD }; /* decided once, by the first token */
enum iakerb_state {                                            /* who is waited for, and what may come */
                    IAKERB_START,                              /* initiator: nothing was sent */
                    IAKERB_ASKED_REALM,                        /* initiator: discovery */
                    IAKERB_ASKED_KDC,                          /* initiator: a KDC's message is due */
                    IAKERB_ASKED_PEER,                         /* initiator: the AP-REP is due */
                    IAKERB_LISTEN,                             /* acceptor: a request or the AP-REQ is due */
                    IAKERB_CARRYING,                           /* acceptor: the driver carries a request */
                    IAKERB_THIRD, /* acceptor: the third leg of DCE style is due */
                    IAKERB_END,
                    IAKERB_STATES,
};

/* One mechanism context, krb5 or IAKERB: the AP exchange with or without proxied messages before it. */
struct iakerb {
    struct kctx k;
    struct client *client;     /* initiator: the login */
    struct client *forwarding; /* initiator: then the forwarded TGT to delegate; NULL: none is fetched */
    struct transcript tokens;
    enum iakerb_dialect dialect;
    enum iakerb_state state;
    enum krb_type asked;   /* acceptor: what is carried, KRB_AS_REQ or KRB_TGS_REQ */
    struct sp_span asking; /* acceptor: target-realm as the client wrote it; in tokens */
    struct sp_span as_req; /* acceptor: the first that was carried; in tokens */
    uint32_t failures;     /* acceptor: of pre-authentication */
    struct sp_span realm;  /* of the proxied messages */
    struct sp_span cookie; /* initiator: to be echoed once; in tokens */
    bool flags_now;        /* acceptor: header-flags are in the request that is being answered */
    bool flags_seen, discovered;
};

/* RFC 4178, one negotiation. */
struct spnego {
    uint8_t list[SPNEGO_LIST_MAX]; /* MechTypeList as the initiator sent it */
    size_t list_n;
    enum token_mech offered[4]; /* initiator: in that list */
    uint32_t offered_count;
    bool answered;   /* the acceptor's first reply went by: supportedMech is in no other */
    bool inner_done; /* the mechanism is established on our side */
    bool want_mic, sent_mic, got_mic;
};

struct sec {
    enum sec_role role;
    struct crypto *crypto;
    struct sp_arena scratch;    /* one step's; from the AP exchange on it only grows */
    struct sp_arena client_mem; /* initiator: the login's */
    union {
        struct sec_initiator initiator;
        struct sec_acceptor acceptor;
    } how;
    struct iakerb inner;
    struct spnego negotiation;
    enum token_mech mech;
    bool spnego, begun, done, failed;
    int64_t began_us;
    uint32_t from_client;
    size_t bytes;
};

/* "These bytes are not what they should be." Always false. */
bool sec_defective(struct sp_err *e, const char *what);

/* gss/iakerb.c: the mechanism `s->mech` (TOKEN_KRB5, TOKEN_MS_KRB5 or TOKEN_IAKERB) on s->inner. Tokens are
 * the mechanism's own. */
bool iakerb_is_due(const struct sec *s, enum sec_event_kind kind);
SP_MUST bool iakerb_step(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
                         struct sp_err *e);
/* Forgets everything and starts over: SPNEGO chose another mechanism than the optimistic one. */
void iakerb_restart(struct sec *s);

/* gss/spnego.c: RFC 4178 around iakerb_step. */
SP_MUST bool spnego_step(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
                         struct sp_err *e);
/* A finished initiator may get one more token, which says no more than that the acceptor is done, too. */
bool spnego_is_farewell(struct sp_span token);

/* Everything on which the negotiation depends, and what is done about it: the one table of spnego.c. */
enum spnego_cause {
    SPNEGO_CANNOT_START,    /* initiator: no credential for this mechanism of ours */
    SPNEGO_NOTHING_STARTS,  /* initiator: nor for any other */
    SPNEGO_START_FAILED,    /* initiator: any other reason */
    SPNEGO_TOOK_FIRST,      /* acceptor's first reply: our first choice */
    SPNEGO_TOOK_FIRST_ASKS, /* ... with request-mic */
    SPNEGO_TOOK_FIRST_MUTE, /* ... without a word of the mechanism, which still waits for one */
    SPNEGO_TOOK_ALIAS,      /* ... our first choice under the other OID that we offered for it */
    SPNEGO_TOOK_OTHER_ASKS, /* ... another one of our list, with request-mic */
    SPNEGO_TOOK_OTHER,      /* ... another one of our list, without request-mic or with a token */
    SPNEGO_TOOK_UNOFFERED,  /* ... one that we did not offer */
    SPNEGO_TOOK_NTLM,       /* ... NTLM, which we never offer */
    SPNEGO_TOOK_NOTHING,    /* ... no supportedMech */
    SPNEGO_REJECTED,        /* negState reject, at any time */
    SPNEGO_LISTS_FIRST,     /* acceptor: the initiator's first choice is one of ours */
    SPNEGO_LISTS_LATER,     /* acceptor: a later one is */
    SPNEGO_LISTS_NONE,      /* acceptor: none is */
    SPNEGO_UNREADABLE,      /* a token that is no token of this negotiation */
    SPNEGO_MECH_FAILED,     /* the mechanism failed, for whatever reason */
    SPNEGO_MIC_WRONG,
    SPNEGO_MIC_MISSING,
    SPNEGO_CAUSES,
};
enum spnego_move {
    SPNEGO_GO_ON,
    SPNEGO_GO_ON_WITH_MIC, /* and the lists have to be confirmed */
    SPNEGO_RESTART,        /* the chosen mechanism from its beginning; the lists have to be confirmed */
    SPNEGO_NEXT,           /* the next of our own list */
    SPNEGO_STOP,           /* the context fails */
};
struct spnego_row {
    const char *name;
    enum spnego_move move;
    int32_t proto; /* of SPNEGO_STOP; 0: the mechanism's own */
    const char *text;
};
const struct spnego_row *spnego_row(enum spnego_cause cause);

#endif
