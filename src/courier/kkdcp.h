/* SPDX-License-Identifier: MIT */
/* MS-KKDCP: a Kerberos message inside the body of an HTTPS POST, both ways. Pure codec. */
#ifndef SP_COURIER_KKDCP_H
#define SP_COURIER_KKDCP_H

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"

#define KKDCP_BODY_MAX (128 * 1024)
#define KKDCP_TYPE "application/kerberos" /* Content-Type, both ways */
#define KKDCP_PATH "/KdcProxy"

struct kkdcp {
    struct sp_span message; /* one message, without the length before it */
    struct sp_span realm;   /* target-domain: requests have it, compared without case */
    bool hinted;
    uint32_t hint; /* dclocator-hint: flags of MS-NRPC DsrGetDcNameEx2, as they came */
    bool more;     /* fields that are not known were skipped behind the known ones (to be logged once) */
};

/* Spans point into the body. SP_EINPUT with KRB_ERR_GENERIC: not this message, no target-domain, or a length
 * before the message that is not that of the message (T104), `at` being its offset in the body. */
SP_MUST bool kkdcp_get_request(struct sp_span body, struct sp_arena *mem, struct kkdcp *out,
                               struct sp_err *e);
/* The same for a reply, where a target-domain says nothing. */
SP_MUST bool kkdcp_get_reply(struct sp_span body, struct sp_arena *mem, struct kkdcp *out, struct sp_err *e);

/* A body. Without a realm it is a reply. SP_EINPUT: longer than KKDCP_BODY_MAX. */
SP_MUST bool kkdcp_make(const struct kkdcp *m, struct sp_arena *mem, struct sp_span *body, struct sp_err *e);

/* Whether the hint asks for a domain controller that can be written to, or the primary one. */
bool kkdcp_wants_primary(const struct kkdcp *m);

#endif
