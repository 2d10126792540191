/* SPDX-License-Identifier: MIT */
/* The acceptor's keytab and replay cache behind the ports of kctx.h. */
#include "plugin/mech/engine.h"

/* "HTTP@" fits every host, "HTTP@nas1" one; a credential without a name fits all of its keytab. */
static bool is_wanted(const struct mech_name *want, const struct krb_name *service, struct sp_span realm)
{
    const struct sp_spans *w = &want->name.parts, *s = &service->parts;

    if (w->count > s->count || (want->realm.n > 0 && !sp_same(want->realm, realm)))
        return false;
    for (uint32_t i = 0; i < w->count; i++)
        if (!sp_same_nocase(w->v[i], s->v[i]))
            return false;
    return w->count == s->count || want->host_based;
}

static int32_t code_of(krb5_error_code bad)
{
    switch (bad) {
    case KRB5_KT_KVNONOTFOUND:
        return KRB_AP_ERR_BADKEYVER;
    case KRB5_KT_NOTFOUND:
        return KRB_AP_ERR_NOT_US;
    default:
        return KRB_AP_ERR_NOKEY;
    }
}

static bool read_key(struct lib *l, const char *keytab, krb5_principal p, krb5_kvno kvno, int32_t etype,
                     struct sp_key *out, struct sp_err *e)
{
    krb5_keytab kt = NULL;
    krb5_keytab_entry entry;
    krb5_error_code bad = krb5_kt_resolve(l->k, keytab, &kt);

    if (!bad)
        bad = krb5_kt_get_entry(l->k, kt, p, kvno, etype, &entry);
    if (kt)
        (void)krb5_kt_close(l->k, kt);
    if (bad)
        return sp_fail(e, SP_ENOTFOUND, code_of(bad),
                       "the keytab has no key for this ticket (type %d, kvno %u)", etype, kvno);
    if (entry.key.length <= sizeof out->b) {
        *out = (struct sp_key){.n = (uint8_t)entry.key.length, .etype = entry.key.enctype, .keep = true};
        memcpy(out->b, entry.key.contents, entry.key.length);
    }
    (void)krb5_free_keytab_entry_contents(l->k, &entry);
    return out->n > 0 || sp_fail(e, SP_ENOTFOUND, KRB_AP_ERR_NOKEY, "a key that is too long");
}

static bool find_key(struct kctx_keys *keys, const struct krb_name *service, struct sp_span realm,
                     int32_t etype, uint32_t kvno, struct sp_key *out, struct sp_err *e)
{
    struct mech_ports *p = (struct mech_ports *)(void *)keys; /* its first member */
    krb5_principal who = NULL;
    bool ok;

    if (p->cred->name && !is_wanted(p->cred->name, service, realm))
        return sp_fail(e, SP_ENOTFOUND, KRB_AP_ERR_NOT_US,
                       "a ticket for another service than this credential's");
    if (!lib_open(&p->lib, e) || !lib_principal(&p->lib, service, realm, &who, e))
        return false;
    ok = read_key(&p->lib, p->cred->keytab, who, kvno, etype, out, e);
    krb5_free_principal(p->lib.k, who);
    return ok;
}

static bool note_replay(struct kctx_replays *r, struct sp_span tag, int64_t now_s, int32_t skew_s,
                        struct sp_err *e)
{
    struct mech_ports *p =
        (struct mech_ports *)(void *)((char *)r - offsetof(struct mech_ports, replays)); /* a member of it */

    return host_note_replay(p->cred->rcache, tag, now_s, skew_s, e);
}

void mech_open_ports(struct mech_ports *p, const struct mech_cred *cred)
{
    *p = (struct mech_ports){.keys = {find_key}, .replays = {note_replay}, .cred = cred};
}

void mech_close_ports(struct mech_ports *p)
{
    lib_close(&p->lib);
}
