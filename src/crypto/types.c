/* SPDX-License-Identifier: MIT */
/* What is fixed about the encryption types; no backend is involved. */
#include "base/text.h"
#include "crypto/crypto.h"

#define CONFOUNDER_N 16

struct row {
    struct crypto_type type;
    const char *alias[3]; /* what MIT's and Heimdal's files call it */
};

/* RFC 3962 section 7 and RFC 8009 section 5, in numerical order. */
static const struct row rows[] = {
    {{ENCTYPE_AES128_CTS_HMAC_SHA1_96, CKSUMTYPE_HMAC_SHA1_96_AES128, 16, 12, 16, 4096,
      "aes128-cts-hmac-sha1-96"},
     {"aes128-cts", "aes128-sha1"}},
    {{ENCTYPE_AES256_CTS_HMAC_SHA1_96, CKSUMTYPE_HMAC_SHA1_96_AES256, 32, 12, 16, 4096,
      "aes256-cts-hmac-sha1-96"},
     {"aes256-cts", "aes256-sha1"}},
    {{ENCTYPE_AES128_CTS_HMAC_SHA256_128, CKSUMTYPE_HMAC_SHA256_128_AES128, 16, 16, 32, 32768,
      "aes128-cts-hmac-sha256-128"},
     {"aes128-sha2"}              },
    {{ENCTYPE_AES256_CTS_HMAC_SHA384_192, CKSUMTYPE_HMAC_SHA384_192_AES256, 32, 24, 48, 32768,
      "aes256-cts-hmac-sha384-192"},
     {"aes256-sha2"}              },
};
#define ROW_COUNT (sizeof rows / sizeof rows[0])

const struct crypto_type *crypto_find_type(int32_t etype)
{
    for (size_t i = 0; i < ROW_COUNT; i++)
        if (rows[i].type.etype == etype)
            return &rows[i].type;
    return NULL;
}

static bool row_is_named(const struct row *r, struct sp_span name)
{
    if (sp_same_nocase(sp_str(r->type.name), name))
        return true;
    for (size_t i = 0; i < sizeof r->alias / sizeof r->alias[0] && r->alias[i]; i++)
        if (sp_same_nocase(sp_str(r->alias[i]), name))
            return true;
    return false;
}

const struct crypto_type *crypto_check_key(const struct sp_key *key, struct sp_err *e)
{
    const struct crypto_type *t = crypto_find_type(key->etype);

    if (!t)
        (void)sp_fail(e, SP_EREFUSED, 14, "encryption type %d is not supported", key->etype);
    else if (key->n != t->key_n)
        (void)sp_fail(e, SP_EINPUT, 0, "a key of %u bytes for %s, which has %u", key->n, t->name, t->key_n);
    else
        return t;
    return NULL;
}

const struct crypto_type *crypto_find_type_named(struct sp_span name)
{
    uint64_t number;

    for (size_t i = 0; i < ROW_COUNT; i++)
        if (row_is_named(&rows[i], name))
            return &rows[i].type;
    return sp_decimal(name, INT32_MAX, &number) ? crypto_find_type((int32_t)number) : NULL;
}

size_t crypto_cipher_n(int32_t etype, size_t plain_n)
{
    const struct crypto_type *t = crypto_find_type(etype);

    sp_assert(t);
    return CONFOUNDER_N + plain_n + t->tag_n;
}

bool crypto_random_key(int32_t etype, struct sp_rng *rng, struct sp_key *out, struct sp_err *e)
{
    const struct crypto_type *t = crypto_find_type(etype);

    if (!t)
        return sp_fail(e, SP_EREFUSED, 14, "encryption type %d is not supported", etype);
    *out = (struct sp_key){.n = t->key_n, .etype = etype};
    sp_rng_fill(rng, out->b, out->n);
    return true;
}

bool crypto_check_beside(const struct crypto_beside *b, size_t text_n, struct sp_err *e)
{
    size_t at = 0;

    if (b && b->count > CRYPTO_BESIDE_MAX)
        return sp_fail(e, SP_EINPUT, 0, "%u pieces beside a text, at most %d", b->count, CRYPTO_BESIDE_MAX);
    for (uint32_t i = 0; b && i < b->count; at = b->v[i++].at)
        if (b->v[i].at < at || b->v[i].at > text_n)
            return sp_fail(e, SP_EINPUT, 0, "a piece beside a text at %zu", b->v[i].at);
    return true;
}

/* RFC 9588 12.1. */
static const struct crypto_group_info groups[] = {
    {CRYPTO_EDWARDS25519, 32, 32, 32, "edwards25519"},
    {CRYPTO_P256,         32, 33, 32, "P-256"       },
};

const struct crypto_group_info *crypto_find_group(int32_t group)
{
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
        if (groups[i].group == group)
            return &groups[i];
    return NULL;
}
