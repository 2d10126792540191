/* SPDX-License-Identifier: MIT */
/* Keys from passwords: RFC 3962 section 4, RFC 8009 section 4. */
#include "crypto/openssl/backend.h"

static bool read_count(struct sp_span params, const struct crypto_type *t, uint32_t *iter, struct sp_err *e)
{
    const uint8_t *p = params.p;

    *iter = t->s2k_iter;
    if (params.n == 0)
        return true;
    if (params.n != 4)
        return sp_fail(e, SP_EINPUT, 0, "string-to-key parameters of %zu bytes, not 4", params.n);
    *iter = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    if (*iter == 0 || *iter > CRYPTO_S2K_ITER_MAX)
        return sp_fail(e, SP_EINPUT, 0, "string-to-key count %u is outside 1 to %d", *iter,
                       CRYPTO_S2K_ITER_MAX);
    return true;
}

/* RFC 8009 puts the type's name and a NUL before the salt. */
static struct crypto_pbkdf2 recipe(const struct crypto_type *t, struct sp_span password, struct sp_span salt)
{
    if (crypto_profile_of(t) == crypto_rfc3962())
        return (struct crypto_pbkdf2){.hash = HASH_SHA1, .password = password, .salt = {salt}};
    return (struct crypto_pbkdf2){
        .hash = t->key_n == 16 ? HASH_SHA256 : HASH_SHA384,
        .password = password,
        .salt = {sp_str(t->name), SP_LIT("\0"), salt}
    };
}

bool crypto_string_to_key(struct crypto *c, int32_t etype, struct sp_span password, struct sp_span salt,
                          struct sp_span params, struct sp_key *out, struct sp_err *e)
{
    const struct crypto_type *t = crypto_find_type(etype);
    struct sp_key raw = {.etype = etype};
    struct crypto_pbkdf2 how;
    bool ok;

    if (!t)
        return sp_fail(e, SP_EREFUSED, KDC_ERR_ETYPE_NOSUPP, "encryption type %d is not supported", etype);
    how = recipe(t, password, salt);
    if (!read_count(params, t, &how.iter, e))
        return false;
    raw.n = t->key_n;
    crypto_pbkdf2(&how, raw.b, raw.n);
    ok = crypto_derive(c, &raw, SP_LIT("kerberos"), out, e);
    sp_wipe(&raw, sizeof raw);
    return ok;
}
