/* SPDX-License-Identifier: MIT */
/* What kctx.c, permsg.c, iov.c and export.c share. */
#ifndef SP_GSS_KCTX_INTERNAL_H
#define SP_GSS_KCTX_INTERNAL_H

#include "gss/kctx.h"

enum kctx_usage { /* RFC 4121 2; the draft's and MIT's of FINISHED */
                  KU_ACCEPTOR_SEAL = 22,
                  KU_ACCEPTOR_SIGN = 23,
                  KU_INITIATOR_SEAL = 24,
                  KU_INITIATOR_SIGN = 25,
                  KU_FINISHED_DRAFT = 41,
                  KU_FINISHED_OLD = 42,
                  KU_CHANNEL = 43, /* RFC 6542 */
};

#define KCTX_HEADER_N 16 /* of a MIC or Wrap token, RFC 4121 4.2.6 */
enum kctx_token { KCTX_TOKEN_MIC = 0x0404, KCTX_TOKEN_WRAP = 0x0504 };
enum kctx_header_flag { KCTX_BY_ACCEPTOR = 1, KCTX_SEALED = 2, KCTX_ACCEPTOR_SUBKEY = 4 };

struct kctx_header {
    uint8_t flags;
    uint16_t ec, rrc; /* Wrap only */
    uint64_t seq;
};

/* False with KCTX_NO_CONTEXT unless the context is established. */
SP_MUST bool kctx_check_ready(const struct kctx *k, struct sp_err *e);

/* The key of per-message tokens (RFC 4121 2): the acceptor's subkey, else the initiator's, else the ticket's.
 */
const struct sp_key *kctx_message_key(const struct kctx *k);

/* What this side sends next; ec and rrc as given. */
struct kctx_header kctx_next_header(const struct kctx *k, enum kctx_wrap how);
void kctx_put_header(enum kctx_token id, const struct kctx_header *h, uint8_t out[KCTX_HEADER_N]);
/* The peer's header, or KCTX_DEFECTIVE; from the wrong side or under the wrong key, KCTX_BAD_SIG. */
SP_MUST bool kctx_get_header(const struct kctx *k, enum kctx_token id, struct sp_span in,
                             struct kctx_header *out, struct sp_err *e);

/* Usages of what this side sends, and of what it receives. */
uint32_t kctx_seal_usage(enum kctx_role sender);
uint32_t kctx_sign_usage(enum kctx_role sender);
enum kctx_role kctx_peer(const struct kctx *k);

/* By how much the body of a received Wrap token is rotated. */
size_t kctx_rotation(const struct kctx *k, const struct kctx_header *h);
/* Undoes a rotation to the right (RFC 4121 4.2.5); in and out do not overlap. */
void kctx_unrotate(struct sp_span in, size_t by, uint8_t *out);

/* Takes seq into the window. False with KCTX_DUPLICATE, KCTX_OLD, KCTX_UNSEQUENCED or KCTX_GAP. */
SP_MUST bool kctx_take_seq(struct kctx *k, uint64_t seq, struct sp_err *e);

/* A refusal of the crypto port becomes KCTX_BAD_SIG; anything else stays what it is. */
SP_MUST bool kctx_bad_sig(const struct sp_err *why, struct sp_err *e);

#endif
