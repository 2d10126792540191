/* SPDX-License-Identifier: MIT */
/* The acceptor's keys: what libkrb5 found in a keytab, remembered while the file is the same. Only what was
 * found; that there is none is looked up every time. */
#include "plugin/mech/kept.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/secret.h"

#define KEYS_MAX 32
#define FULL_MAX 4
#define PATH_ROOM 512 /* keytabs with longer names are read every time */

static struct kept_key {
    struct mech_name *service; /* NULL: a free place */
    char path[PATH_ROOM];
    struct kept_stamp stamp;
    uint32_t kvno;
    int32_t etype; /* asked for */
    int64_t used_us;
} kept[KEYS_MAX];
static struct sp_key *secret; /* theirs, in pages of their own; made when the first is kept */

static void forget(struct kept_key *k)
{
    free(k->service);
    sp_wipe(&secret[k - kept], sizeof *secret);
    *k = (struct kept_key){0};
}

static bool is_for(const struct kept_key *k, const struct mech_key_wish *w)
{
    return k->kvno == w->kvno && k->etype == w->etype && krb_same_name(&k->service->name, w->service) &&
           sp_same(k->service->realm, w->realm);
}

/* Keys of a keytab that changed go at once. */
static bool find(const char *path, const struct kept_stamp *stamp, const struct mech_key_wish *w,
                 struct sp_key *out)
{
    int64_t now_us = host_env().mono_us;
    bool found = false;

    kept_lock();
    for (struct kept_key *k = kept; k < kept + KEYS_MAX; k++) {
        bool same_file = k->service && strcmp(k->path, path) == 0;

        if (!k->service)
            continue;
        if ((same_file && !kept_same_stamp(&k->stamp, stamp)) || now_us - k->used_us > KEPT_IDLE_US) {
            forget(k);
        } else if (same_file && is_for(k, w)) {
            *out = secret[k - kept];
            k->used_us = now_us;
            found = true;
        }
    }
    kept_unlock();
    return found;
}

/* A free one, else that which was used longest ago. */
static struct kept_key *choose_place(void)
{
    struct kept_key *at = kept;

    for (struct kept_key *k = kept; at->service && k < kept + KEYS_MAX; k++)
        if (!k->service || k->used_us < at->used_us)
            at = k;
    return at;
}

static void keep(const char *path, const struct kept_stamp *stamp, const struct mech_key_wish *w,
                 const struct sp_key *key)
{
    struct sp_err ignored = {0};
    struct mech_name *service = mech_make_name(w->service, w->realm, &ignored);
    struct kept_key *at;

    kept_lock();
    if (!secret)
        secret = kept_map(KEYS_MAX * sizeof *secret);
    if (service && secret) {
        at = choose_place();
        forget(at);
        *at = (struct kept_key){.service = service, .stamp = *stamp, .kvno = w->kvno, .etype = w->etype};
        at->used_us = host_env().mono_us;
        memcpy(at->path, path, strlen(path) + 1);
        secret[at - kept] = *key;
        service = NULL;
    }
    kept_unlock();
    free(service);
}

/* ---- whether there is any key at all ---- */

static struct {
    char path[PATH_ROOM];
    struct kept_stamp stamp;
} full[FULL_MAX];
static size_t full_count;

static bool is_known_full(const char *path, const struct kept_stamp *stamp)
{
    bool found = false;

    kept_lock();
    for (size_t i = 0; i < FULL_MAX && !found; i++)
        found = strcmp(full[i].path, path) == 0 && kept_same_stamp(&full[i].stamp, stamp);
    kept_unlock();
    return found;
}

static void note_full(const char *path, const struct kept_stamp *stamp)
{
    size_t at;

    kept_lock();
    at = full_count++ % FULL_MAX;
    memcpy(full[at].path, path, strlen(path) + 1);
    full[at].stamp = *stamp;
    kept_unlock();
}

static bool has_content(struct lib *l, const char *keytab, struct sp_err *e)
{
    krb5_keytab kt = NULL;
    krb5_error_code bad;

    if (!lib_open(l, e))
        return false;
    bad = krb5_kt_resolve(l->k, keytab, &kt);
    if (!bad)
        bad = krb5_kt_have_content(l->k, kt);
    if (kt)
        (void)krb5_kt_close(l->k, kt);
    return !bad || sp_fail(e, SP_EREFUSED, KCTX_NO_CRED, "no keytab to accept with");
}

static const char *keepable_path(const char *keytab)
{
    const char *path = kept_path_of(keytab);

    return path && strlen(path) < PATH_ROOM ? path : NULL;
}

bool mech_has_keys(struct lib *l, const char *keytab, struct sp_err *e)
{
    const char *path = keepable_path(keytab);
    struct kept_stamp stamp = {0};

    if (path)
        kept_stamp_file(path, geteuid(), &stamp);
    if (stamp.there && is_known_full(path, &stamp))
        return true;
    if (!has_content(l, keytab, e))
        return false;
    if (path && kept_may_keep(path, &stamp) && kept_is_unchanged(path, &stamp))
        note_full(path, &stamp);
    return true;
}

/* ---- reading ---- */

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

static bool read_key(struct lib *l, const char *keytab, const struct mech_key_wish *w, krb5_principal p,
                     struct sp_key *out, struct sp_err *e)
{
    krb5_keytab kt = NULL;
    krb5_keytab_entry entry;
    krb5_error_code bad = krb5_kt_resolve(l->k, keytab, &kt);

    if (!bad)
        bad = krb5_kt_get_entry(l->k, kt, p, w->kvno, w->etype, &entry);
    if (kt)
        (void)krb5_kt_close(l->k, kt);
    if (bad)
        return sp_fail(e, SP_ENOTFOUND, code_of(bad),
                       "the keytab has no key for this ticket (type %d, kvno %u)", w->etype, w->kvno);
    if (entry.key.length <= sizeof out->b) {
        *out = (struct sp_key){.n = (uint8_t)entry.key.length, .etype = entry.key.enctype, .keep = true};
        memcpy(out->b, entry.key.contents, entry.key.length);
    }
    (void)krb5_free_keytab_entry_contents(l->k, &entry);
    return out->n > 0 || sp_fail(e, SP_ENOTFOUND, KRB_AP_ERR_NOKEY, "a key that is too long");
}

static bool read_anew(struct lib *l, const char *keytab, const struct mech_key_wish *w, struct sp_key *out,
                      struct sp_err *e)
{
    krb5_principal who = NULL;
    bool ok;

    if (!lib_open(l, e) || !lib_principal(l, w->service, w->realm, &who, e))
        return false;
    ok = read_key(l, keytab, w, who, out, e);
    krb5_free_principal(l->k, who);
    return ok;
}

bool mech_get_key(struct lib *l, const char *keytab, const struct mech_key_wish *w, struct sp_key *out,
                  struct sp_err *e)
{
    const char *path = w->realm.n > 0 ? keepable_path(keytab) : NULL; /* krb5.conf completes such a name */
    struct kept_stamp stamp = {0};
    bool keepable;

    if (path)
        kept_stamp_file(path, geteuid(), &stamp);
    if (path && find(path, &stamp, w, out))
        return true;
    keepable = path && kept_may_keep(path, &stamp);
    if (!read_anew(l, keytab, w, out, e))
        return false;
    if (keepable && kept_is_unchanged(path, &stamp))
        keep(path, &stamp, w, out);
    return true;
}
