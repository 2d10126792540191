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

static bool find_key(struct kctx_keys *keys, const struct krb_name *service, struct sp_span realm,
                     int32_t etype, uint32_t kvno, struct sp_key *out, struct sp_err *e)
{
    struct mech_ports *p = (struct mech_ports *)(void *)keys; /* its first member */
    struct mech_key_wish wish = {service, realm, etype, kvno};

    if (p->cred->name && !is_wanted(p->cred->name, service, realm))
        return sp_fail(e, SP_ENOTFOUND, KRB_AP_ERR_NOT_US,
                       "a ticket for another service than this credential's");
    return mech_get_key(&p->lib, p->cred->keytab, &wish, out, e);
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
