/* SPDX-License-Identifier: MIT */
/* One message for a KDC as the first token of an IAKERB context, and the KDC's word out of the acceptor's
 * first token: a way to a KDC behind somebody else's service (docs/PROTOCOL.md), without a context of our
 * own, which would have nothing to prove. */
#ifndef SP_GSS_RIDE_H
#define SP_GSS_RIDE_H

#include "base/arena.h"

enum ride_dialect { RIDE_DRAFT, RIDE_OLD }; /* draft-ietf-kitten-iakerb-03; MIT krb5 1.9 to 1.21 */
struct ride {
    enum ride_dialect dialect;
    struct sp_span realm, message; /* one AS-REQ or TGS-REQ, without a length before it */
};
SP_MUST bool ride_make(const struct ride *r, struct sp_arena *mem, struct sp_span *token, struct sp_err *e);
/* *message lies in the token. SP_EINPUT: this is no token of that dialect with a message in it. SP_EREFUSED:
 * the acceptor itself speaks, with a KRB-ERROR's code in e->proto; 85 and 86 are its words for a KDC that it
 * does not know or that does not answer, wherever they stand. */
SP_MUST bool ride_get(enum ride_dialect d, struct sp_span token, struct sp_arena *mem,
                      struct sp_span *message, struct sp_err *e);

#endif
