/* SPDX-License-Identifier: MIT */
/* Keys of accounts, real and pretended. */
#include "kdc/internal.h"

static bool keyed_name(const struct kdc_config *config, struct crypto *c, const char *what, int32_t etype,
                       struct sp_span lookup, uint8_t out[32], struct sp_err *e)
{
    uint8_t b[16 + KRB_NAME_TEXT_MAX];
    size_t n = strlen(what);

    if (lookup.n > KRB_NAME_TEXT_MAX)
        return sp_fail(e, SP_EINPUT, 0, "a name of %zu bytes", lookup.n);
    memcpy(b, what, n);
    b[n++] = 0;
    b[n++] = (uint8_t)etype;
    memcpy(b + n, lookup.p, lookup.n);
    return crypto_hmac_sha256(c, sp_span(config->name_secret, sizeof config->name_secret),
                              sp_span(b, n + lookup.n), out, e);
}

static bool random_salt(const struct kdc_config *config, struct crypto *c, struct sp_span lookup,
                        struct sp_arena *mem, struct sp_span *salt, struct sp_err *e)
{
    uint8_t h[32];
    char *p;
    struct sp_text t;

    if (!keyed_name(config, c, "salt", 0, lookup, h, e) || !(p = sp_alloc(mem, 33, e)))
        return false;
    t = sp_text(p, 33);
    sp_text_hex(&t, sp_span(h, 16));
    *salt = sp_span(p, t.n);
    return true;
}

bool kdc_salt_for(const struct kdc_config *config, struct crypto *c, const struct krb_name *name,
                  struct sp_span lookup, struct sp_arena *mem, struct sp_span *salt, struct sp_err *e)
{
    struct sp_span one;
    struct krb_name plain = krb_without_realm(name, &config->realm, &one);

    if (config->salt == KDC_SALT_RANDOM)
        return random_salt(config, c, lookup, mem, salt, e);
    return krb_default_salt(config->realm.name, &plain, mem, salt, e);
}

bool kdc_salt_of(const struct kdc_config *config, struct crypto *c, const struct krb_name *name,
                 struct sp_arena *mem, struct sp_span *salt, struct sp_err *e)
{
    struct sp_span lookup;

    return krb_name_key(name, &config->realm, mem, &lookup, e) &&
           kdc_salt_for(config, c, name, lookup, mem, salt, e);
}

bool kdc_dummy_key(const struct kdc_config *config, struct crypto *c, int32_t etype, struct sp_span lookup,
                   struct sp_key *out, struct sp_err *e)
{
    const struct crypto_type *t = crypto_find_type(etype);
    uint8_t h[32];
    bool ok;

    if (!t || t->key_n > sizeof h)
        return sp_fail(e, SP_EREFUSED, KDC_ERR_ETYPE_NOSUPP, "encryption type %d", etype);
    ok = keyed_name(config, c, "key", etype, lookup, h, e);
    *out = (struct sp_key){.n = t->key_n, .etype = etype};
    if (ok)
        memcpy(out->b, h, t->key_n);
    sp_wipe(h, sizeof h);
    return ok;
}

bool kdc_make_keys(const struct kdc_config *config, struct crypto *c, const struct krb_name *name,
                   struct sp_span salt, struct sp_span password, uint32_t kvno, struct sp_arena *mem,
                   struct store_key *keys, uint32_t *count, struct sp_err *e)
{
    *count = 0;
    if (!salt.p && !kdc_salt_of(config, c, name, mem, &salt, e))
        return false;
    for (uint32_t i = 0; i < config->enctype_count; i++) {
        uint32_t it = config->iterations[i];
        uint8_t be[4] = {(uint8_t)(it >> 24), (uint8_t)(it >> 16), (uint8_t)(it >> 8), (uint8_t)it};
        struct store_key *k = &keys[i];

        *k = (struct store_key){.kvno = kvno, .iterations = it, .salt = salt};
        if (!crypto_string_to_key(c, config->enctypes[i], password, salt, sp_span(be, it ? 4 : 0), &k->key,
                                  e))
            return false;
        k->key.keep = true;
    }
    *count = config->enctype_count;
    return true;
}

bool kdc_make_random_keys(const struct kdc_config *config, struct sp_rng *rng, uint32_t kvno,
                          const int32_t *etypes, uint32_t etype_count, struct store_key *keys,
                          uint32_t *count, struct sp_err *e)
{
    *count = 0;
    if (etype_count == 0) {
        etypes = config->enctypes;
        etype_count = config->enctype_count;
    }
    for (uint32_t i = 0; i < etype_count; i++) {
        keys[i] = (struct store_key){.kvno = kvno};
        if (!crypto_random_key(etypes[i], rng, &keys[i].key, e))
            return false;
        keys[i].key.keep = true;
    }
    *count = etype_count;
    return true;
}
