/* SPDX-License-Identifier: MIT */
/* With what somebody logs in: a ccache, a keytab or a password, and what an earlier login learnt. */
#include "bytes/cursor.h"
#include "bytes/emitter.h"
#include "lib/internal.h"

#define LEARNT_MAGIC 0x53504c31u /* "SPL1" */
#define LEARNT_MAX 2048

/* Keys of the newest version that the keytab has for this name. */
static uint32_t newest(const struct krb_keytab *kt, const struct krb_name *name, struct sp_span realm)
{
    uint32_t kvno = 0;

    for (uint32_t i = 0; i < kt->count; i++)
        if (krb_same_name(&kt->v[i].name, name) && sp_same(kt->v[i].realm, realm) && kt->v[i].kvno > kvno)
            kvno = kt->v[i].kvno;
    return kvno;
}

static bool is_wanted(const struct krb_keytab_entry *k, const struct lib_secrets *s, uint32_t kvno)
{
    const struct crypto_type *t = crypto_find_type(k->etype);

    return t && k->key.n == t->key_n && k->kvno == kvno && krb_same_name(&k->name, &s->client) &&
           sp_same(k->realm, s->realm);
}

static bool get_keys(struct sp_arena *mem, struct sp_span file, struct lib_secrets *s, struct sp_err *e)
{
    struct krb_keytab kt;
    uint32_t kvno;

    if (!krb_get_keytab(file, mem, &kt, e))
        return false;
    if (kt.count > 0 && s->client.parts.count == 0)
        s->client = kt.v[0].name;
    if (kt.count > 0 && s->realm.n == 0)
        s->realm = kt.v[0].realm;
    kvno = newest(&kt, &s->client, s->realm);
    s->keys = sp_new_array(mem, struct sp_key, CLIENT_KEYS_MAX, e);
    if (!s->keys)
        return false;
    for (uint32_t i = 0; i < kt.count && s->key_count < CLIENT_KEYS_MAX; i++) {
        struct sp_key *k = &s->keys[s->key_count];

        if (!is_wanted(&kt.v[i], s, kvno))
            continue;
        *k = (struct sp_key){.etype = kt.v[i].etype, .n = (uint8_t)kt.v[i].key.n};
        memcpy(k->b, kt.v[i].key.p, k->n);
        s->key_count++;
    }
    return s->key_count > 0 || sp_fail(e, SP_ENOTFOUND, KCTX_NO_CRED, "the keytab has no key of the client");
}

static bool get_ccache(struct sp_arena *mem, struct sp_span file, struct lib_secrets *s, struct sp_err *e)
{
    if (!krb_get_ccache(file, mem, &s->ccache, e))
        return false;
    s->has_ccache = true;
    if (s->client.parts.count == 0)
        s->client = s->ccache.principal;
    if (s->realm.n == 0)
        s->realm = s->ccache.realm;
    return (krb_same_name(&s->client, &s->ccache.principal) && sp_same(s->realm, s->ccache.realm)) ||
           sp_fail(e, SP_EINPUT, KCTX_NO_CRED, "the credential cache is another client's");
}

static bool get_learnt(struct sp_span in, struct lib_secrets *s, struct sp_err *e)
{
    struct sp_cur c = sp_cur_of(in, e);
    struct client_known k = {0};

    if (sp_get_be32(&c, "magic") != LEARNT_MAGIC)
        return sp_cur_fail(&c, c.base, 0, "learnt", "not what a login learnt");
    k.spake = sp_get_u8(&c, "spake") != 0;
    k.etype = (int32_t)sp_get_be32(&c, "type");
    k.salt = sp_take(&c, sp_get_be16(&c, "salt length"), "salt");
    k.params = sp_take(&c, sp_get_be16(&c, "params length"), "params");
    if (!sp_cur_done(&c, "learnt"))
        return false;
    s->known = k;
    s->has_known = true;
    return true;
}

bool lib_put_learnt(const struct client_known *k, void *out, size_t *n, struct sp_err *e)
{
    uint8_t block[LEARNT_MAX];
    struct sp_emit o = sp_emit_to(block, sizeof block, e);
    struct sp_span made;

    sp_put_bytes(&o, k->params); /* back to front */
    sp_put_be16(&o, (uint16_t)k->params.n);
    sp_put_bytes(&o, k->salt);
    sp_put_be16(&o, (uint16_t)k->salt.n);
    sp_put_be32(&o, (uint32_t)k->etype);
    sp_put_u8(&o, k->spake);
    sp_put_be32(&o, LEARNT_MAGIC);
    return sp_put_done(&o, &made) && lib_give(made, out, n, e);
}

static bool get_files(struct sp_arena *mem, const struct lib_secrets_in *in, struct lib_secrets *s,
                      struct sp_err *e)
{
    struct sp_span keytab = {0}, ccache = {0}, learnt = {0};

    return lib_dup(mem, in->password, &s->password, e) && lib_dup(mem, in->keytab, &keytab, e) &&
           lib_dup(mem, in->ccache, &ccache, e) && lib_dup(mem, in->learnt, &learnt, e) &&
           (!ccache.p || get_ccache(mem, ccache, s, e)) && (!keytab.p || get_keys(mem, keytab, s, e)) &&
           (learnt.n == 0 || get_learnt(learnt, s, e));
}

bool lib_get_secrets(struct sp_arena *mem, const struct lib_secrets_in *in, struct lib_secrets *out,
                     struct sp_err *e)
{
    struct lib_secrets s = {0};

    if ((in->client && !lib_dup_name(mem, in->client, &s.client, &s.realm, e)) || !get_files(mem, in, &s, e))
        return false;
    *out = s;
    return true;
}

const struct krb_credential *lib_find_tgt(const struct lib_secrets *s, int64_t now_s)
{
    struct sp_span parts[2] = {SP_LIT("krbtgt"), s->realm};
    struct krb_name tgs = krb_name_of(NT_SRV_INST, parts, 2);

    return s->has_ccache ? krb_find_credential(&s->ccache, &tgs, s->realm, now_s) : NULL;
}
