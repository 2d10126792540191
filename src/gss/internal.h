/* SPDX-License-Identifier: MIT */
/* How sec.c, iakerb.c and spnego.c share one context. */
#ifndef SP_GSS_INTERNAL_H
#define SP_GSS_INTERNAL_H

#include "gss/sec.h"

/* All earlier tokens of a context, both directions, as sent. */
struct transcript {
    uint8_t *p; /* in the arena, SEC_TRANSCRIPT_MAX */
    size_t n;
};
SP_MUST bool transcript_add(struct transcript *t, struct sp_span token, struct sp_err *e);

enum iakerb_dialect { IAKERB_OPEN, IAKERB_DRAFT, IAKERB_OLD }; /* decided once, by the first token */

/* One mechanism context, krb5 or IAKERB: the AP exchange with or without proxied messages before it. */
struct iakerb {
    struct kctx k;
    struct client *client; /* initiator */
    struct transcript tokens;
    enum iakerb_dialect dialect;
    enum token_mech ap_oid; /* with which the AP-REQ was framed: mirrored */
    uint8_t state;          /* iakerb.c */
    uint32_t from_client;
    int64_t began_us;
    struct sp_span realm, cookie;
    bool peer_flags; /* header-flags seen: Windows */
    bool proxied, discovered;
};

struct sec {
    enum sec_role role;
    struct crypto *crypto;
    struct sp_arena *mem;
    union {
        struct sec_initiator initiator;
        struct sec_acceptor acceptor;
    } how;
    struct iakerb inner;
    struct spnego *negotiation; /* NULL: raw */
    enum token_mech mech;
    bool done, failed;
    uint32_t round_trips;
    size_t bytes;
};

/* gss/iakerb.c: the mechanism `s->mech` (TOKEN_KRB5, TOKEN_MS_KRB5 or TOKEN_IAKERB) on s->inner. Tokens are
 * the mechanism's own. */
SP_MUST bool iakerb_step(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
                         struct sp_err *e);
/* Forgets everything and starts over: SPNEGO chose another mechanism than the optimistic one. */
void iakerb_restart(struct sec *s);

/* gss/spnego.c: RFC 4178 around iakerb_step. */
SP_MUST bool spnego_start(struct sec *s, struct sp_err *e);
SP_MUST bool spnego_step(struct sec *s, struct sp_env env, const struct sec_event *ev, struct sec_action *out,
                         struct sp_err *e);

#endif
