/* SPDX-License-Identifier: MIT */
/* Services by name. The KDC's own accounts are remembered: reading one costs as much as the rest of an error
 * 25. */
#include "kdc/internal.h"

void kdc_forget_own(struct kdc *k)
{
    struct kdc_own *own = &k->own;

    sp_wipe(own->room, own->mem.peak);
    sp_arena_init(&own->mem, own->room, sizeof own->room);
    memset(own->known, 0, sizeof own->known);
    own->version = 0;
}

/* Under the exact names alone: no other spelling is worth a place. */
static bool is_own(const struct kdc_work *w, const struct krb_name *name, enum kdc_own_name *which)
{
    bool tgs = krb_is_tgs_name(name, w->cf->realm.name);

    *which = tgs ? KDC_OWN_TGS : KDC_OWN_CHANGEPW;
    return tgs || krb_is_changepw_name(name);
}

static bool recall(struct kdc *k, enum kdc_own_name which, struct store_account *a)
{
    struct kdc_own *own = &k->own;
    uint64_t version = k->accounts->version(k->accounts);

    if (own->version != version) {
        kdc_forget_own(k);
        own->version = version;
    }
    if (own->known[which])
        *a = own->account[which];
    return own->known[which];
}

/* Read once more, into memory that stays. What does not fit is read every time. */
static void remember(struct kdc *k, enum kdc_own_name which, struct sp_span lookup)
{
    struct kdc_own *own = &k->own;
    size_t mark = own->mem.used;
    struct sp_err e = {0};

    if (own->version == 0)
        return;
    own->known[which] = k->accounts->find(k->accounts, lookup, &own->mem, &own->account[which], &e);
    if (!own->known[which])
        own->mem.used = mark;
}

bool kdc_find_named(struct kdc_work *w, const struct krb_name *name, struct store_account *a,
                    struct sp_err *e)
{
    enum kdc_own_name which;
    bool own = is_own(w, name, &which);
    struct sp_span lookup;

    if (own && recall(w->k, which, a))
        return true;
    if (!krb_name_key(name, &w->cf->realm, w->mem, &lookup, e) ||
        !w->k->accounts->find(w->k->accounts, lookup, w->mem, a, e))
        return false;
    if (own)
        remember(w->k, which, lookup);
    return true;
}
