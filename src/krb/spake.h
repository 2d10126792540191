/* SPDX-License-Identifier: MIT */
/* SPAKE pre-authentication (RFC 9588), the parts that KDC and client share: transcript hash, multiplier w,
 * K'[n]. Group arithmetic is the crypto port's. One party uses M, the other N: the KDC sends T = x*P + w*M,
 * the client S = y*P + w*N. */
#ifndef SP_KRB_SPAKE_H
#define SP_KRB_SPAKE_H

#include "crypto/crypto.h"
#include "krb/messages.h"

#define KRB_SPAKE_SF_NONE 1 /* the only second factor we know, RFC 9588 12.2 */
#define KU_SPAKE 65         /* key usage of the response's factor, RFC 9588 */

/* Transcript hash (RFC 9588 6), twice in a login: over the client's PA-SPAKE with the support (empty when
 * there was none) and the KDC's with the challenge, both as sent; then over the response's public value (and
 * nothing). Starts as zeros. */
struct krb_spake_hash {
    uint8_t b[CRYPTO_GROUP_HASH_MAX];
    size_t n;
};
SP_MUST bool krb_spake_update(struct crypto *c, int32_t group, struct krb_spake_hash *h, struct sp_span first,
                              struct sp_span second, struct sp_err *e);

/* w of the initial reply key: PRF+(ikey, "SPAKEsecret" | group), multiplier bytes of the group. */
SP_MUST bool krb_spake_w(struct crypto *c, int32_t group, const struct sp_key *ikey,
                         uint8_t w[CRYPTO_GROUP_SCALAR_MAX], struct sp_err *e);

/* K'[n] of RFC 9588 7: n 0 is the reply key, 1 the key of the response's factor. */
struct krb_spake_derivation {
    int32_t group;
    const struct sp_key *ikey; /* initial reply key: the account's */
    const uint8_t *w;
    struct sp_span shared; /* K */
    const struct krb_spake_hash *hash;
    struct sp_span body; /* KDC-REQ-BODY as sent */
};
SP_MUST bool krb_spake_key(struct crypto *c, const struct krb_spake_derivation *from, uint32_t n,
                           struct sp_key *out, struct sp_err *e);
#endif
