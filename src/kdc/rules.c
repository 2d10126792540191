/* SPDX-License-Identifier: MIT */
/* What AS and TGS ask alike of a request: realm, service, times, encryption types. */
#include "kdc/internal.h"

bool kdc_has_i32(const struct krb_i32s *list, int32_t v)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (list->v[i] == v)
            return true;
    return false;
}

const struct krb_pa *kdc_find_pa(const struct krb_padata *pa, int32_t type)
{
    for (uint32_t i = 0; i < pa->count; i++)
        if (pa->v[i].type == type)
            return &pa->v[i];
    return NULL;
}

/* Decision 56: what is unknown is ignored, but a ticket for another user must not look granted. */
bool kdc_check_padata(struct kdc_work *w)
{
    if (kdc_find_pa(&w->m.padata, PA_FOR_USER) || kdc_find_pa(&w->m.padata, PA_S4U_X509_USER))
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_BADOPTION, "a ticket for another user (S4U)");
    return true;
}

/* Decision 50: an alias of the realm is answered under the real name to those who can take it. */
bool kdc_check_realm(struct kdc_work *w)
{
    const struct krb_req_body *b = &w->m.body;

    w->canonical = kdc_option(w, OPT_CANONICALIZE) || (KRB_HAS(b, 1) && b->cname.type == NT_ENTERPRISE);
    if (krb_is_realm(&w->cf->realm, b->realm))
        return true;
    w->err_crealm = krb_is_realm_alias(&w->cf->realm, b->realm);
    if (w->err_crealm && w->canonical)
        return true;
    return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_WRONG_REALM, "%s",
                   w->err_crealm ? "an alias of the realm" : "not our realm");
}

/* krbtgt/REALM goes by its exact name, or by an alias where the real realm may be named in return. */
static bool name_of_tgs(struct kdc_work *w)
{
    struct krb_name *n = &w->sname;
    struct sp_span *parts;

    if (n->parts.count != 2 || !sp_same(n->parts.v[0], SP_LIT("krbtgt")) ||
        krb_is_realm(&w->cf->realm, n->parts.v[1]))
        return true;
    if (!w->canonical || !krb_is_realm_alias(&w->cf->realm, n->parts.v[1]))
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_S_PRINCIPAL_UNKNOWN,
                       "ticket-granting service of another realm");
    parts = sp_new_array(w->mem, struct sp_span, 2, &w->e);
    if (!parts)
        return false;
    parts[0] = n->parts.v[0];
    parts[1] = w->cf->realm.name;
    n->parts.v = parts;
    return true;
}

/* Decision 55: tickets only for krbtgt, kadmin/changepw and services; anything else looks as if it were not
 * there. */
bool kdc_find_service(struct kdc_work *w)
{
    struct krb_req_body *b = &w->m.body;
    struct sp_err e = {0};

    if (!KRB_HAS(b, 3) || b->sname.parts.count == 0)
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_S_PRINCIPAL_UNKNOWN, "no service named");
    w->sname = b->sname;
    w->err_sname = &b->sname;
    if (!name_of_tgs(w))
        return false;
    if (kdc_find_named(w, &w->sname, &w->service, &e)) {
        if (w->service.kind != STORE_USER)
            return true;
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_S_PRINCIPAL_UNKNOWN, "the service named is a user");
    }
    if (e.kind == SP_ENOTFOUND || e.kind == SP_EINPUT)
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_S_PRINCIPAL_UNKNOWN, "no such service");
    w->e = e;
    return false;
}

bool kdc_check_service(struct kdc_work *w)
{
    const struct store_account *s = &w->service;

    if ((s->flags & STORE_DISABLED) || (s->expires_s && s->expires_s <= w->now_s))
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_SERVICE_REVOKED, "the service is disabled or expired");
    return true;
}

int64_t kdc_wanted(int64_t t)
{
    return t == 0 ? KDC_NONE_S : t;
}

bool kdc_check_times(struct kdc_work *w) /* decision 51 */
{
    const struct krb_req_body *b = &w->m.body;

    if (KRB_HAS(b, 4) && b->from > w->now_s + w->cf->skew_s)
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_CANNOT_POSTDATE, "ticket wanted for later");
    if (kdc_wanted(b->till) <= w->now_s)
        return sp_fail(&w->e, SP_EREFUSED, KDC_ERR_NEVER_VALID, "ticket wanted for the past");
    return true;
}

int32_t kdc_service_life(const struct kdc_config *cf, const struct store_account *service,
                         const struct krb_name *name)
{
    if (service->kind == STORE_CHANGEPW)
        return cf->changepw_life_s;
    if (service->life_s > 0)
        return service->life_s;
    if (service->kind == STORE_KRBTGT)
        return cf->tgt_life_s;
    if (sp_same_nocase(name->parts.v[0], SP_LIT("cifs")) || sp_same_nocase(name->parts.v[0], SP_LIT("nfs")))
        return cf->file_service_life_s;
    return cf->service_life_s;
}

int32_t kdc_session_etype(const struct kdc_config *cf, const struct krb_i32s *asked,
                          const struct store_account *service)
{
    for (uint32_t i = 0; i < cf->enctype_count; i++)
        if (kdc_has_i32(asked, cf->enctypes[i]) && store_find_key(service, cf->enctypes[i], 0))
            return cf->enctypes[i];
    return 0;
}
