/* SPDX-License-Identifier: MIT */
/* edwards25519 (RFC 9588 12.1, group 1) by libsodium, which works in constant time and refuses points that
 * are not canonical, of small order, or outside the main subgroup. Private scalars are multiples of the
 * cofactor, so that whatever a peer smuggles in falls away; w is taken modulo the group's order. */
#include <sodium.h>

#include "crypto/openssl/groups.h"

static const uint8_t constant[2][32] = {
    [CRYPTO_BLIND_M] = {0xd0, 0x48, 0x03, 0x2c, 0x6e, 0xa0, 0xb6, 0xd6, 0x97, 0xdd, 0xc2,
                        0xe8, 0x6b, 0xda, 0x85, 0xa3, 0x3a, 0xda, 0xc9, 0x20, 0xf1, 0xbf,
                        0x18, 0xe1, 0xb0, 0xc6, 0xd1, 0x66, 0xa5, 0xce, 0xcd, 0xaf},
    [CRYPTO_BLIND_N] = {0xd3, 0xbf, 0xb5, 0x18, 0xf4, 0x4f, 0x34, 0x30, 0xf2, 0x9d, 0x0c,
                        0x92, 0xaf, 0x50, 0x38, 0x65, 0xa1, 0xed, 0x32, 0x81, 0xdc, 0x69,
                        0xb3, 0x5d, 0xd8, 0x68, 0xba, 0x85, 0xf8, 0x86, 0xc4, 0xab},
};

/* w*M or w*N. */
static bool blinding(enum crypto_blind blind, const uint8_t *w, uint8_t point[32])
{
    uint8_t wide[64] = {0}, scalar[32];
    bool ok;

    memcpy(wide, w, 32);
    crypto_core_ed25519_scalar_reduce(scalar, wide);
    ok = crypto_scalarmult_ed25519_noclamp(point, scalar, constant[blind]) == 0;
    sp_wipe(wide, sizeof wide);
    sp_wipe(scalar, sizeof scalar);
    return ok;
}

/* A random scalar of the group times eight. */
static void draw(struct sp_rng *rng, uint8_t scalar[32])
{
    uint8_t wide[64];

    sp_rng_fill(rng, wide, sizeof wide);
    crypto_core_ed25519_scalar_reduce(scalar, wide);
    for (int i = 31; i > 0; i--)
        scalar[i] = (uint8_t)(scalar[i] << 3 | scalar[i - 1] >> 5);
    scalar[0] = (uint8_t)(scalar[0] << 3);
    sp_wipe(wide, sizeof wide);
}

bool edwards25519_public(enum crypto_blind blind, const uint8_t *w, const uint8_t *private_scalar,
                         uint8_t *public_value)
{
    uint8_t own[32], mask[32];
    bool ok = blinding(blind, w, mask) && crypto_scalarmult_ed25519_base_noclamp(own, private_scalar) == 0 &&
              crypto_core_ed25519_add(public_value, own, mask) == 0;

    sp_wipe(own, sizeof own);
    sp_wipe(mask, sizeof mask);
    return ok;
}

bool edwards25519_keygen(enum crypto_blind blind, const uint8_t *w, struct sp_rng *rng,
                         uint8_t *private_scalar, uint8_t *public_value)
{
    draw(rng, private_scalar);
    return edwards25519_public(blind, w, private_scalar, public_value);
}

bool edwards25519_result(enum crypto_blind blind, const uint8_t *w, const uint8_t *private_scalar,
                         const uint8_t *theirs, uint8_t *shared)
{
    uint8_t bare[32], mask[32];
    bool ok = blinding(blind, w, mask) && crypto_core_ed25519_sub(bare, theirs, mask) == 0 &&
              crypto_scalarmult_ed25519_noclamp(shared, private_scalar, bare) == 0;

    sp_wipe(bare, sizeof bare);
    sp_wipe(mask, sizeof mask);
    return ok;
}

void groups_sha256(const struct sp_span *parts, uint32_t count, uint8_t out[32])
{
    crypto_hash_sha256_state h;

    crypto_hash_sha256_init(&h);
    for (uint32_t i = 0; i < count; i++)
        crypto_hash_sha256_update(&h, parts[i].p, parts[i].n);
    crypto_hash_sha256_final(&h, out);
    sp_wipe(&h, sizeof h);
}
