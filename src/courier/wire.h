/* SPDX-License-Identifier: MIT */
/* What acceptors and the courier say to each other over courier.sock (decision 29): a stream of frames, each
 * a 4-byte big-endian length and then
 *
 *     version u8 = 1 | type u8 | id u32 | TLVs: type u8, length u16, value (big-endian; type | 0x80: the
 *     length is a u24)
 *
 * Replies carry the id of the request and may come in any order. Unknown TLVs are skipped, unknown types
 * answered with COURIER_REFUSED. Pure codec. */
#ifndef SP_COURIER_WIRE_H
#define SP_COURIER_WIRE_H

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"

#define COURIER_VERSION 1
#define COURIER_FRAME_MAX (128 * 1024)

enum courier_type {
    COURIER_CARRY = 1,   /* realm, message [, address, service, transport] */
    COURIER_CARRIED = 2, /* message */
    COURIER_REFUSED = 3, /* code (85, 86 or another KRB-ERROR code), text */
    COURIER_HELLO = 4,   /* asks for the local realm: answered by COURIER_REALM */
    COURIER_REALM = 5,   /* realm, aliases and other realms (one TLV each), what acceptors are to do */
    COURIER_NOTE = 6, /* how a context ended: code (0: accepted), text, client, service, address; a record is
                         made of it, and nothing is answered */
};
enum courier_tlv {
    COURIER_TLV_REALM = 1,     /* UTF-8 */
    COURIER_TLV_MESSAGE = 2,   /* one whole Kerberos message */
    COURIER_TLV_ADDRESS = 3,   /* of the client: 4 or 16 bytes; counts only from attesting uids */
    COURIER_TLV_SERVICE = 4,   /* "HTTP/nas1", for the record */
    COURIER_TLV_TRANSPORT = 5, /* "in-band", "relay" */
    COURIER_TLV_CODE = 6,      /* u32 */
    COURIER_TLV_TEXT = 7,
    COURIER_TLV_ALIAS = 8,
    COURIER_TLV_OLD_MIT = 9,   /* u8, enum courier_old_mit */
    COURIER_TLV_FINISHED = 10, /* u8, enum courier_finished */
    COURIER_TLV_OTHER = 11,    /* a realm beside the local one that clients may ask for */
    COURIER_TLV_CLIENT = 12,   /* a principal, as text */
};
#define COURIER_ALIASES_MAX 64
#define COURIER_OTHERS_MAX 16

/* Settings of acceptors, which they learn here so that one configuration rules all ([iakerb]). 0: not said.
 */
enum courier_old_mit { COURIER_OLD_MIT_OFF = 1, COURIER_OLD_MIT_ACCEPT = 2 };
enum courier_finished { COURIER_FINISHED_REQUIRED = 1, COURIER_FINISHED_OPTIONAL = 2 };

struct courier_frame {
    uint8_t type;
    uint32_t id;
    struct sp_span realm, message, address, service, transport, text, client;
    int32_t code;
    struct sp_span alias[COURIER_ALIASES_MAX];
    uint32_t alias_count;
    struct sp_span other[COURIER_OTHERS_MAX];
    uint32_t other_count;
    uint8_t old_mit, finished;
};
/* The bytes behind the 4-byte length. */
SP_MUST bool courier_get(struct sp_span in, struct courier_frame *out, struct sp_err *e);
/* A whole frame, length and all, in mem. SP_EINPUT: longer than COURIER_FRAME_MAX. */
SP_MUST bool courier_make(const struct courier_frame *f, struct sp_arena *mem, struct sp_span *out,
                          struct sp_err *e);

#endif
