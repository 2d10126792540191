/* SPDX-License-Identifier: MIT */
/* Credentials. MIT's SPNEGO offers us exactly when acquiring one succeeds, so there must be something to
 * offer. */
#include "plugin/mech/engine.h"

#include <stdlib.h>

struct mech_cred *mech_share_cred(struct mech_cred *c)
{
    if (c)
        atomic_fetch_add(&c->users, 1);
    return c;
}

static void destroy_ccache(const char *name)
{
    struct sp_err ignored = {0};
    struct lib l = {0};
    krb5_ccache cc;

    if (lib_open(&l, &ignored) && krb5_cc_resolve(l.k, name, &cc) == 0)
        (void)krb5_cc_destroy(l.k, cc);
    lib_close(&l);
}

void mech_drop_cred(struct mech_cred *c)
{
    if (!c || atomic_fetch_sub(&c->users, 1) != 1)
        return;
    if (c->ccache_is_ours)
        destroy_ccache(c->ccache);
    if (c->password)
        sp_wipe(c->password, c->password_n);
    free(c->password);
    free(c->name);
    free(c->ccache);
    free(c->client_keytab);
    free(c->keytab);
    free(c->rcache);
    free(c);
}

static struct mech_cred *new_cred(gss_cred_usage_t usage, struct sp_err *e)
{
    struct mech_cred *c = calloc(1, sizeof *c);

    if (!c) {
        (void)sp_fail(e, SP_ENOMEM, 0, "out of memory");
        return NULL;
    }
    atomic_init(&c->users, 1);
    c->usage = usage;
    return c;
}

static bool keep(char **to, const char *text, struct sp_err *e)
{
    *to = text ? strdup(text) : NULL;
    return !text || *to || sp_fail(e, SP_ENOMEM, 0, "out of memory");
}

static const char *from_store(gss_const_key_value_set_t store, const char *key)
{
    for (OM_uint32 i = 0; store && i < store->count; i++)
        if (strcmp(store->elements[i].key, key) == 0)
            return store->elements[i].value;
    return NULL;
}

/* ---- initiators ---- */

static bool is_tgt(const struct krb_credential *c)
{
    return c->server.parts.count == 2 && sp_same(c->server.parts.v[0], SP_LIT("krbtgt"));
}

/* The end of what lives longest; 0 when nothing does. A ticket for any service will do: it may be for this
 * one. */
static int64_t last_end(const struct krb_ccache *cc, int64_t now_s)
{
    int64_t tgt = 0, other = 0;

    for (uint32_t i = 0; i < cc->count; i++) {
        int64_t *best = is_tgt(&cc->v[i]) ? &tgt : &other;

        if (cc->v[i].endtime > now_s && cc->v[i].endtime > *best)
            *best = cc->v[i].endtime;
    }
    return tgt ? tgt : other;
}

static bool look_into_ccache(struct lib *l, struct mech_cred *c, struct sp_err *e)
{
    struct mech_tickets *t = NULL;

    if (!mech_get_tickets(l, c->ccache, &t, e))
        return false;
    const struct krb_ccache *cc = mech_cache_of(t);
    c->endtime_s = last_end(cc, host_env().wall_us / 1000000);
    if (c->endtime_s == 0)
        (void)sp_fail(e, SP_EREFUSED, KCTX_NO_CRED,
                      "the credential cache holds no ticket that is still good");
    else if (!c->name)
        c->name = mech_make_name(&cc->principal, cc->realm, e);
    mech_drop_tickets(t);
    return sp_ok(e);
}

static bool match_ccache(struct lib *l, const struct mech_name *name, struct mech_cred *c, struct sp_err *e)
{
    krb5_ccache cc = NULL;
    krb5_principal p = NULL;
    char *full = NULL;

    if (!lib_open(l, e) || !lib_principal(l, &name->name, name->realm, &p, e))
        return false;
    if (krb5_cc_cache_match(l->k, p, &cc) == 0 && krb5_cc_get_full_name(l->k, cc, &full) == 0)
        (void)keep(&c->ccache, full, e);
    else
        (void)sp_fail(e, SP_EREFUSED, KCTX_NO_CRED, "no credential cache for this name");
    krb5_free_string(l->k, full);
    krb5_free_principal(l->k, p);
    if (cc)
        (void)krb5_cc_close(l->k, cc);
    return sp_ok(e);
}

/* The cache that holds this client's tickets; without a name the default one. */
static bool choose_ccache(struct lib *l, const struct mech_name *name, struct mech_cred *c, struct sp_err *e)
{
    if (name)
        return match_ccache(l, name, c, e);
    c->ccache = mech_default_ccache(l);
    return c->ccache || sp_fail(e, SP_EREFUSED, KCTX_NO_CRED, "no credential cache");
}

static bool same_client(const struct mech_name *want, const struct mech_name *have, struct sp_err *e)
{
    return (krb_same_name(&want->name, &have->name) &&
            (want->realm.n == 0 || sp_same(want->realm, have->realm))) ||
           sp_fail(e, SP_EREFUSED, KCTX_NO_CRED, "the credential cache is somebody else's");
}

static bool from_ccache(struct lib *l, const struct mech_name *name, const char *ccache, struct mech_cred *c,
                        struct sp_err *e)
{
    if (!(ccache ? keep(&c->ccache, ccache, e) : choose_ccache(l, name, c, e)) || !look_into_ccache(l, c, e))
        return false;
    c->source = MECH_CCACHE;
    return !name || same_client(name, c->name, e);
}

static bool from_client_keytab(struct lib *l, const struct mech_name *name, const char *keytab,
                               struct mech_cred *c, struct sp_err *e)
{
    uint8_t room[16384];
    char path[1024];
    struct sp_arena mem;
    struct krb_name first;
    struct sp_span realm;
    struct sp_key *keys;
    uint32_t count;
    krb5_keytab kt;
    bool ok;

    sp_arena_init(&mem, room, sizeof room);
    if (!lib_open(l, e))
        return false;
    if (!keytab && krb5_kt_client_default(l->k, &kt) == 0) {
        if (krb5_kt_get_name(l->k, kt, path, sizeof path) == 0)
            keytab = path;
        (void)krb5_kt_close(l->k, kt);
    }
    if (!keytab || !keep(&c->client_keytab, keytab, e) ||
        !lib_first_principal(l, keytab, &mem, &first, &realm, e))
        return false;
    c->source = MECH_KEYTAB;
    c->name = name ? mech_make_name(&name->name, name->realm.n ? name->realm : realm, e)
                   : mech_make_name(&first, realm, e);
    ok = c->name && lib_read_keys(l, keytab, &c->name->name, c->name->realm, &mem, &keys, &count, e);
    sp_arena_reset(&mem);
    return ok;
}

static bool acquire_initiator(struct lib *l, const struct mech_name *name, gss_const_key_value_set_t store,
                              struct mech_cred *c, struct sp_err *e)
{
    const char *ccache = from_store(store, "ccache"), *keytab = from_store(store, "client_keytab");
    struct sp_err first = {0}, second = {0};

    if ((ccache || !keytab) && from_ccache(l, name, ccache, c, &first))
        return true;
    free(c->name);
    c->name = NULL;
    if ((keytab || !ccache) && from_client_keytab(l, name, keytab, c, &second))
        return true;
    return sp_fail(e, SP_EREFUSED, KCTX_NO_CRED, "%s", first.text[0] ? first.text : second.text);
}

/* ---- acceptors ---- */

static bool acquire_acceptor(struct lib *l, gss_const_key_value_set_t store, struct mech_cred *c,
                             struct sp_err *e)
{
    const char *keytab = from_store(store, "keytab");

    if (keytab)
        (void)keep(&c->keytab, keytab, e);
    else
        c->keytab = mech_default_keytab(l);
    if (sp_ok(e) && !c->keytab)
        return sp_fail(e, SP_EREFUSED, KCTX_NO_CRED, "no keytab to accept with");
    return sp_ok(e) && mech_has_keys(l, c->keytab, e) && keep(&c->rcache, from_store(store, "rcache"), e);
}

bool mech_acquire(struct mech_cred **out, const struct mech_name *name, gss_cred_usage_t usage,
                  gss_const_key_value_set_t store, struct sp_err *e)
{
    struct mech_cred *c = new_cred(usage, e);
    struct lib l = {0};

    if (c) {
        if (usage != GSS_C_ACCEPT)
            (void)acquire_initiator(&l, name, store, c, e);
        if (usage != GSS_C_INITIATE && sp_ok(e) && acquire_acceptor(&l, store, c, e) && name && !c->name)
            c->name = mech_make_name(&name->name, name->realm, e);
    }
    lib_close(&l);
    if (sp_ok(e))
        *out = c;
    else
        mech_drop_cred(c);
    return sp_ok(e);
}

bool mech_wrap_delegated(struct mech_cred **out, const struct krb_credential *ticket, struct sp_err *e)
{
    struct mech_cred *c = new_cred(GSS_C_INITIATE, e);
    struct lib l = {0};
    krb5_ccache cc = NULL;
    krb5_principal p = NULL;
    krb5_error_code bad = 0;
    char *full = NULL;

    if (c && lib_open(&l, e) && lib_principal(&l, &ticket->client, ticket->crealm, &p, e)) {
        if ((bad = krb5_cc_new_unique(l.k, "MEMORY", NULL, &cc)) == 0 &&
            (bad = krb5_cc_initialize(l.k, cc, p)) == 0)
            bad = krb5_cc_get_full_name(l.k, cc, &full);
        if (bad)
            (void)lib_fail(&l, bad, "delegated ticket", e);
        c->name = mech_make_name(&ticket->client, ticket->crealm, e);
        c->source = MECH_CCACHE;
        c->ccache_is_ours = full && keep(&c->ccache, full, e);
        c->endtime_s = ticket->endtime;
    }
    if (sp_ok(e) && lib_store_ticket(&l, c->ccache, ticket, e))
        *out = c;
    krb5_free_string(l.k, full);
    krb5_free_principal(l.k, p);
    if (cc)
        (void)krb5_cc_close(l.k, cc);
    lib_close(&l);
    if (!sp_ok(e))
        mech_drop_cred(c);
    return sp_ok(e);
}

/* ---- entry points ---- */

static OM_uint32 life_of(const struct mech_cred *c)
{
    int64_t now = host_env().wall_us / 1000000;

    if (!c || c->source != MECH_CCACHE)
        return GSS_C_INDEFINITE;
    return c->endtime_s > now ? (OM_uint32)(c->endtime_s - now) : 0;
}

/* What every acquiring call ends with. */
static OM_uint32 finish(OM_uint32 *minor, struct mech_cred *c, gss_cred_id_t *cred, gss_OID_set *actual,
                        OM_uint32 *life, struct sp_err *e)
{
    const gss_const_OID only[] = {&mech_oid_iakerb};

    if (!sp_ok(e))
        return mech_fail(minor, e);
    if (!mech_give_set(actual, only, 1, e)) {
        mech_drop_cred(c);
        return mech_fail(minor, e);
    }
    if (life)
        *life = life_of(c);
    *cred = (gss_cred_id_t)c;
    return GSS_S_COMPLETE;
}

static bool fits(gss_OID_set mechs, gss_cred_usage_t usage, struct sp_err *e)
{
    if (!mech_among(mechs))
        return sp_fail(e, SP_EREFUSED, KCTX_BAD_MECH, "not a mechanism of this library");
    return (usage == GSS_C_BOTH || usage == GSS_C_INITIATE || usage == GSS_C_ACCEPT) ||
           sp_fail(e, SP_EREFUSED, 0, "unknown use of a credential (%d)", usage);
}

OM_uint32 mech_acquire_cred_from(OM_uint32 *minor, gss_name_t name, OM_uint32 life, gss_OID_set mechs,
                                 gss_cred_usage_t usage, gss_const_key_value_set_t store, gss_cred_id_t *cred,
                                 gss_OID_set *actual, OM_uint32 *got)
{
    struct sp_err e = {0};
    struct mech_cred *c = NULL;

    (void)life;
    *minor = 0;
    *cred = GSS_C_NO_CREDENTIAL;
    if (!fits(mechs, usage, &e) || !mech_acquire(&c, (struct mech_name *)name, usage, store, &e))
        return mech_fail(minor, &e);
    return finish(minor, c, cred, actual, got, &e);
}

OM_uint32 mech_acquire_cred(OM_uint32 *minor, gss_name_t name, OM_uint32 life, gss_OID_set mechs,
                            gss_cred_usage_t usage, gss_cred_id_t *cred, gss_OID_set *actual, OM_uint32 *got)
{
    return mech_acquire_cred_from(minor, name, life, mechs, usage, GSS_C_NO_CRED_STORE, cred, actual, got);
}

static bool with_password(struct mech_cred **out, const struct mech_name *name, struct sp_span password,
                          struct sp_err *e)
{
    struct mech_cred *c;

    if (!name || password.n == 0)
        return sp_fail(e, SP_EREFUSED, KCTX_NO_CRED, "a password needs a name, and a name a password");
    c = new_cred(GSS_C_INITIATE, e);
    if (!c)
        return false;
    c->source = MECH_PASSWORD;
    c->password_n = password.n;
    c->password = malloc(password.n);
    c->name = mech_make_name(&name->name, name->realm, e);
    if (!c->password || !c->name) {
        c->password_n = c->password ? password.n : 0;
        mech_drop_cred(c);
        return sp_fail(e, SP_ENOMEM, 0, "out of memory");
    }
    memcpy(c->password, password.p, password.n);
    *out = c;
    return true;
}

static bool set_usage(struct mech_cred *c, gss_cred_usage_t usage, struct sp_err *e)
{
    struct lib l = {0};
    bool ok;

    c->usage = usage;
    if (usage == GSS_C_INITIATE)
        return true;
    if (usage == GSS_C_ACCEPT)
        return sp_fail(e, SP_EREFUSED, KCTX_NO_CRED, "nobody is accepted with a password");
    ok = acquire_acceptor(&l, GSS_C_NO_CRED_STORE, c, e);
    lib_close(&l);
    return ok;
}

/* Nothing is asked of anybody here: which server will carry the login is not known before the first token. */
OM_uint32 mech_acquire_cred_with_password(OM_uint32 *minor, gss_name_t name, gss_buffer_t password,
                                          OM_uint32 life, gss_OID_set mechs, gss_cred_usage_t usage,
                                          gss_cred_id_t *cred, gss_OID_set *actual, OM_uint32 *got)
{
    struct sp_err e = {0};
    struct mech_cred *c = NULL;

    (void)life;
    *minor = 0;
    *cred = GSS_C_NO_CREDENTIAL;
    if (!fits(mechs, usage, &e) || !with_password(&c, (struct mech_name *)name, mech_span(password), &e))
        return mech_fail(minor, &e);
    if (!set_usage(c, usage, &e)) {
        mech_drop_cred(c);
        return mech_fail(minor, &e);
    }
    return finish(minor, c, cred, actual, got, &e);
}

OM_uint32 mech_release_cred(OM_uint32 *minor, gss_cred_id_t *cred)
{
    *minor = 0;
    if (cred) {
        mech_drop_cred((struct mech_cred *)*cred);
        *cred = GSS_C_NO_CREDENTIAL;
    }
    return GSS_S_COMPLETE;
}

static bool give_name(const struct mech_cred *c, gss_name_t *name, struct sp_err *e)
{
    if (name)
        *name = c->name ? (gss_name_t)mech_make_name(&c->name->name, c->name->realm, e) : GSS_C_NO_NAME;
    return sp_ok(e);
}

OM_uint32 mech_inquire_cred(OM_uint32 *minor, gss_cred_id_t cred, gss_name_t *name, OM_uint32 *life,
                            int *usage, gss_OID_set *mechs)
{
    const gss_const_OID only[] = {&mech_oid_iakerb};
    struct mech_cred *c = mech_share_cred((struct mech_cred *)cred);
    struct sp_err e = {0};
    OM_uint32 major = GSS_S_COMPLETE;

    *minor = 0;
    if ((!c && !mech_acquire(&c, NULL, GSS_C_INITIATE, GSS_C_NO_CRED_STORE, &e)) || !give_name(c, name, &e) ||
        !mech_give_set(mechs, only, 1, &e))
        major = mech_fail(minor, &e);
    if (life)
        *life = life_of(c);
    if (usage)
        *usage = c ? c->usage : GSS_C_INITIATE;
    mech_drop_cred(c);
    return major;
}

OM_uint32 mech_inquire_cred_by_mech(OM_uint32 *minor, gss_cred_id_t cred, gss_OID mech, gss_name_t *name,
                                    OM_uint32 *initiator_life, OM_uint32 *acceptor_life, int *usage)
{
    int use = GSS_C_INITIATE;
    OM_uint32 life = 0, major = mech_inquire_cred(minor, cred, name, &life, &use, NULL);

    (void)mech;
    if (initiator_life)
        *initiator_life = use == GSS_C_ACCEPT ? 0 : life;
    if (acceptor_life)
        *acceptor_life = use == GSS_C_INITIATE ? 0 : GSS_C_INDEFINITE;
    if (usage)
        *usage = use;
    return major;
}

OM_uint32 mech_inquire_cred_by_oid(OM_uint32 *minor, gss_cred_id_t cred, gss_OID object,
                                   gss_buffer_set_t *data)
{
    (void)cred;
    (void)object;
    *minor = 0;
    *data = GSS_C_NO_BUFFER_SET;
    return GSS_S_UNAVAILABLE;
}

OM_uint32 mech_set_cred_option(OM_uint32 *minor, gss_cred_id_t *cred, gss_OID object, gss_buffer_t value)
{
    (void)cred;
    (void)object;
    (void)value;
    *minor = 0;
    return GSS_S_UNAVAILABLE;
}

/* A delegated ticket may be written to a cache of the caller's choice; a password holds no ticket to store.
 */
OM_uint32 mech_store_cred_into(OM_uint32 *minor, gss_cred_id_t cred, gss_cred_usage_t usage, gss_OID mech,
                               OM_uint32 overwrite, OM_uint32 as_default, gss_const_key_value_set_t store,
                               gss_OID_set *stored, gss_cred_usage_t *stored_usage)
{
    const gss_const_OID only[] = {&mech_oid_iakerb};
    const struct mech_cred *c = (struct mech_cred *)cred;
    const char *to = from_store(store, "ccache");
    struct sp_err e = {0};
    struct lib l = {0};
    krb5_ccache from = NULL, into = NULL;
    krb5_principal p = NULL;
    krb5_error_code bad;

    (void)mech;
    (void)overwrite;
    (void)as_default;
    *minor = 0;
    if (!c || c->source != MECH_CCACHE || usage == GSS_C_ACCEPT)
        return GSS_S_UNAVAILABLE;
    if (lib_open(&l, &e)) {
        if ((bad = krb5_cc_resolve(l.k, c->ccache, &from)) == 0 &&
            (bad = to ? krb5_cc_resolve(l.k, to, &into) : krb5_cc_default(l.k, &into)) == 0 &&
            (bad = krb5_cc_get_principal(l.k, from, &p)) == 0 &&
            (bad = krb5_cc_initialize(l.k, into, p)) == 0)
            bad = krb5_cc_copy_creds(l.k, from, into);
        if (bad)
            (void)lib_fail(&l, bad, "storing credentials", &e);
    }
    krb5_free_principal(l.k, p);
    if (from)
        (void)krb5_cc_close(l.k, from);
    if (into)
        (void)krb5_cc_close(l.k, into);
    lib_close(&l);
    if (!sp_ok(&e) || !mech_give_set(stored, only, 1, &e))
        return mech_fail_as(minor, GSS_S_FAILURE, &e);
    if (stored_usage)
        *stored_usage = GSS_C_INITIATE;
    return GSS_S_COMPLETE;
}

OM_uint32 mech_store_cred(OM_uint32 *minor, gss_cred_id_t cred, gss_cred_usage_t usage, gss_OID mech,
                          OM_uint32 overwrite, OM_uint32 as_default, gss_OID_set *stored,
                          gss_cred_usage_t *stored_usage)
{
    return mech_store_cred_into(minor, cred, usage, mech, overwrite, as_default, GSS_C_NO_CRED_STORE, stored,
                                stored_usage);
}

/* Exported credentials name their cache or keytab; what lives in memory alone, a password most of all, stays.
 */
OM_uint32 mech_export_cred(OM_uint32 *minor, gss_cred_id_t cred, gss_buffer_t token)
{
    const struct mech_cred *c = (struct mech_cred *)cred;
    char room[2048];
    struct sp_text t = sp_text(room, sizeof room);
    struct sp_err e = {0};

    *minor = 0;
    if (!c || c->source == MECH_PASSWORD || c->ccache_is_ours)
        return GSS_S_UNAVAILABLE;
    sp_text_fmt(&t, "1\n%d\n%s\n%s\n%s\n", c->usage, c->source == MECH_CCACHE ? c->ccache : "",
                c->source == MECH_KEYTAB ? c->client_keytab : "", c->keytab ? c->keytab : "");
    if (t.cut || !mech_give(token, sp_span(t.p, t.n), &e))
        return GSS_S_FAILURE;
    return GSS_S_COMPLETE;
}

static char *next_line(char **at)
{
    char *line = *at, *end = line ? strchr(line, '\n') : NULL;

    if (!end)
        return NULL;
    *end = 0;
    *at = end + 1;
    return line;
}

OM_uint32 mech_import_cred(OM_uint32 *minor, gss_buffer_t token, gss_cred_id_t *cred)
{
    static const char *const keys[] = {"ccache", "client_keytab", "keytab"};
    gss_key_value_element_desc v[3];
    gss_key_value_set_desc store = {0, v};
    char room[2048], *at = room, *version, *usage, *value;

    *minor = 0;
    *cred = GSS_C_NO_CREDENTIAL;
    if (token->length >= sizeof room)
        return GSS_S_DEFECTIVE_TOKEN;
    memcpy(room, token->value, token->length);
    room[token->length] = 0;
    version = next_line(&at);
    usage = next_line(&at);
    if (!version || strcmp(version, "1") != 0 || !usage || strlen(usage) != 1 || !strchr("012", *usage))
        return GSS_S_DEFECTIVE_TOKEN;
    for (size_t i = 0; i < 3; i++) {
        value = next_line(&at);
        if (!value)
            return GSS_S_DEFECTIVE_TOKEN;
        if (*value)
            v[store.count++] = (gss_key_value_element_desc){keys[i], value};
    }
    return mech_acquire_cred_from(minor, GSS_C_NO_NAME, 0, GSS_C_NO_OID_SET, *usage - '0', &store, cred, NULL,
                                  NULL);
}

OM_uint32 mech_import_cred_by_mech(OM_uint32 *minor, gss_OID mech, gss_buffer_t token, gss_cred_id_t *cred)
{
    (void)mech;
    return mech_import_cred(minor, token, cred);
}
