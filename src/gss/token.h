/* SPDX-License-Identifier: MIT */
/* The framing of initial context tokens (RFC 2743 3.1: 60 length OID token-id) and the OIDs. */
#ifndef SP_GSS_TOKEN_H
#define SP_GSS_TOKEN_H

#include "base/arena.h"

enum token_mech { /* contents of the OIDs in token.c; spec/iakerb.md 1.1 */
                  TOKEN_SPNEGO,
                  TOKEN_IAKERB,
                  TOKEN_KRB5,
                  TOKEN_MS_KRB5,
                  TOKEN_KRB5_U2U,
                  TOKEN_NEGOEX,
                  TOKEN_NTLMSSP,
                  TOKEN_LATE_FALLBACK,
                  TOKEN_MECH_COUNT,
                  TOKEN_UNKNOWN = TOKEN_MECH_COUNT,
};
enum token_id { /* two bytes behind the OID, big-endian */
                TOKEN_AP_REQ = 0x0100,
                TOKEN_AP_REP = 0x0200,
                TOKEN_KRB_ERROR = 0x0300,
                TOKEN_IAKERB_PROXY = 0x0501,
                TOKEN_NO_ID = 0, /* SPNEGO has none */
};

struct sp_span token_oid(enum token_mech m);       /* the OID's content bytes */
enum token_mech token_mech_of(struct sp_span oid); /* TOKEN_UNKNOWN when not one of these */
const char *token_mech_name(enum token_mech m);    /* "iakerb" */

struct token {
    enum token_mech mech;
    uint16_t id; /* 0 for SPNEGO and unknown mechanisms */
    struct sp_span oid;
    struct sp_span body; /* behind the id (behind the OID when there is none) */
};
/* One framed token and nothing behind it. SP_EINPUT with the offset. */
SP_MUST bool token_get(struct sp_span in, struct token *out, struct sp_err *e);
SP_MUST bool token_make(enum token_mech m, uint16_t id, struct sp_span body, struct sp_arena *mem,
                        struct sp_span *out, struct sp_err *e);
/* Prints any token of this room decoded, for --trace: framing, IAKERB header, Kerberos message, SPNEGO
 * fields. */
struct sp_text;
void token_print(struct sp_span in, struct sp_text *to);

#endif
