/* SPDX-License-Identifier: MIT */
/* libkrb5, for what belongs to the user's and the host's configuration: caches of any type, keytabs,
 * krb5.conf. No call here reaches a network. */
#include "plugin/mech/engine.h"

#include <stdlib.h>
#include <sys/auxv.h>

#include "base/secret.h"

bool lib_fail(struct lib *l, krb5_error_code code, const char *what, struct sp_err *e)
{
    const char *text = krb5_get_error_message(l->k, code);

    (void)sp_fail(e, SP_EBACKEND, 0, "%s: %s", what, text ? text : "unknown error");
    krb5_free_error_message(l->k, text);
    return false;
}

bool lib_open(struct lib *l, struct sp_err *e)
{
    krb5_error_code bad;

    if (l->k)
        return true;
    bad = getauxval(AT_SECURE) ? krb5_init_secure_context(&l->k) : krb5_init_context(&l->k);
    if (!bad)
        return true;
    l->k = NULL;
    return sp_fail(e, SP_EBACKEND, 0, "krb5.conf cannot be read (%ld)", (long)bad);
}

void lib_close(struct lib *l)
{
    if (l->k)
        krb5_free_context(l->k);
    l->k = NULL;
}

static krb5_data data_of(struct sp_span s)
{
    return (krb5_data){.length = (unsigned)s.n, .data = (char *)(uintptr_t)s.p};
}

static struct sp_span span_of(const krb5_data *d)
{
    return sp_span(d->data, d->length);
}

bool lib_principal(struct lib *l, const struct krb_name *name, struct sp_span realm, krb5_principal *out,
                   struct sp_err *e)
{
    char room[2 * KRB_NAME_TEXT_MAX];
    struct sp_text t = sp_text(room, sizeof room);
    krb5_error_code bad;

    if (realm.n > 0)
        krb_text_principal(&t, name, realm);
    else
        krb_text_name(&t, name);
    if (t.cut)
        return sp_fail(e, SP_EINPUT, 0, "a name of more than %zu bytes", sizeof room);
    bad = krb5_parse_name_flags(l->k, room, 0, out);
    if (bad == KRB5_CONFIG_NODEFREALM)
        bad = krb5_parse_name_flags(l->k, room, KRB5_PRINCIPAL_PARSE_IGNORE_REALM, out);
    if (bad)
        return lib_fail(l, bad, "name", e);
    (*out)->type = name->type;
    return true;
}

/* A principal's parts, copied into mem. */
static bool name_of(krb5_const_principal p, struct sp_arena *mem, struct krb_name *name,
                    struct sp_span *realm, struct sp_err *e)
{
    uint32_t count = (uint32_t)p->length;

    *name = (struct krb_name){
        p->type, {sp_new_array(mem, struct sp_span, count, e), count}
    };
    for (uint32_t i = 0; i < count && name->parts.v; i++)
        name->parts.v[i] = sp_dup(mem, span_of(&p->data[i]), e);
    *realm = sp_dup(mem, span_of(&p->realm), e);
    return sp_ok(e);
}

static bool is_usable(struct lib *l, const krb5_creds *c)
{
    return !krb5_is_config_principal(l->k, c->server) && crypto_find_type(c->keyblock.enctype) &&
           c->keyblock.length <= sizeof((struct sp_key *)NULL)->b && c->ticket.length > 0 && !c->is_skey;
}

static bool copy_ticket(const krb5_creds *c, struct sp_arena *mem, struct krb_credential *out,
                        struct sp_err *e)
{
    *out = (struct krb_credential){
        .key = {.n = (uint8_t)c->keyblock.length, .etype = c->keyblock.enctype},
        .flags = (uint32_t)c->ticket_flags,
        .authtime = c->times.authtime,
        .starttime = c->times.starttime,
        .endtime = (uint32_t)c->times.endtime, /* past 2038 unsigned, as MIT reads them */
        .renew_till = (uint32_t)c->times.renew_till,
        .ticket = sp_dup(mem, span_of(&c->ticket), e),
    };
    memcpy(out->key.b, c->keyblock.contents, c->keyblock.length);
    return name_of(c->client, mem, &out->client, &out->crealm, e) &&
           name_of(c->server, mem, &out->server, &out->srealm, e);
}

static bool each_ticket(struct lib *l, krb5_ccache cc, struct sp_arena *mem, struct krb_credential *v,
                        uint32_t *count, struct sp_err *e)
{
    krb5_cc_cursor at;
    krb5_creds c;
    krb5_error_code bad = krb5_cc_start_seq_get(l->k, cc, &at);

    if (bad)
        return lib_fail(l, bad, "credential cache", e);
    while (sp_ok(e) && krb5_cc_next_cred(l->k, cc, &at, &c) == 0) {
        if (is_usable(l, &c) && *count < LIB_TICKETS_MAX && copy_ticket(&c, mem, &v[*count], e))
            ++*count;
        krb5_free_cred_contents(l->k, &c);
    }
    (void)krb5_cc_end_seq_get(l->k, cc, &at);
    return sp_ok(e);
}

/* How many there are shows at the end; the arena gets no longer a list than that. */
static bool read_tickets(struct lib *l, krb5_ccache cc, struct sp_arena *mem, struct krb_ccache *out,
                         struct sp_err *e)
{
    struct krb_credential *v = calloc(LIB_TICKETS_MAX, sizeof *v);
    uint32_t count = 0;

    if (!v)
        return sp_fail(e, SP_ENOMEM, 0, "out of memory");
    if (each_ticket(l, cc, mem, v, &count, e))
        out->v = sp_new_array(mem, struct krb_credential, count, e);
    if (out->v) {
        memcpy(out->v, v, count * sizeof *v);
        out->count = count;
    }
    sp_wipe(v, count * sizeof *v);
    free(v);
    return sp_ok(e);
}

bool lib_read_ccache(struct lib *l, const char *ccache, struct sp_arena *mem, struct krb_ccache *out,
                     struct sp_err *e)
{
    krb5_ccache cc = NULL;
    krb5_principal who = NULL;
    krb5_error_code bad = krb5_cc_resolve(l->k, ccache, &cc);

    *out = (struct krb_ccache){0};
    if (!bad)
        bad = krb5_cc_get_principal(l->k, cc, &who);
    if (bad)
        (void)lib_fail(l, bad, "credential cache", e);
    else if (name_of(who, mem, &out->principal, &out->realm, e))
        (void)read_tickets(l, cc, mem, out, e);
    krb5_free_principal(l->k, who);
    if (cc)
        (void)krb5_cc_close(l->k, cc);
    return sp_ok(e);
}

bool lib_store_ticket(struct lib *l, const char *ccache, const struct krb_credential *c, struct sp_err *e)
{
    krb5_creds k = {
        .keyblock = {.magic = KV5M_KEYBLOCK,
                     .enctype = c->key.etype,
                     .length = c->key.n,
                     .contents = (krb5_octet *)(uintptr_t)c->key.b                                },
        .times = {(krb5_timestamp)c->authtime, (krb5_timestamp)c->starttime,
                     (krb5_timestamp)(uint32_t)c->endtime, (krb5_timestamp)(uint32_t)c->renew_till},
        .ticket_flags = (krb5_flags)c->flags,
        .ticket = data_of(c->ticket)
    };
    krb5_ccache cc = NULL;
    krb5_error_code bad = krb5_cc_resolve(l->k, ccache, &cc);

    if (!bad && lib_principal(l, &c->client, c->crealm, &k.client, e) &&
        lib_principal(l, &c->server, c->srealm, &k.server, e))
        bad = krb5_cc_store_cred(l->k, cc, &k);
    if (bad)
        (void)lib_fail(l, bad, "credential cache", e);
    krb5_free_principal(l->k, k.client);
    krb5_free_principal(l->k, k.server);
    if (cc)
        (void)krb5_cc_close(l->k, cc);
    return sp_ok(e);
}

/* ---- keytabs ---- */

typedef bool entry_fn(struct lib *l, const krb5_keytab_entry *entry, void *arg,
                      struct sp_err *e); /* false: enough */

static bool each_entry(struct lib *l, const char *keytab, entry_fn *f, void *arg, struct sp_err *e)
{
    krb5_keytab kt = NULL;
    krb5_kt_cursor at;
    krb5_keytab_entry entry;
    krb5_error_code bad = krb5_kt_resolve(l->k, keytab, &kt);
    bool more = true;

    if (!bad)
        bad = krb5_kt_start_seq_get(l->k, kt, &at);
    if (bad) {
        (void)lib_fail(l, bad, "keytab", e);
    } else {
        while (more && krb5_kt_next_entry(l->k, kt, &entry, &at) == 0) {
            more = f(l, &entry, arg, e);
            (void)krb5_free_keytab_entry_contents(l->k, &entry);
        }
        (void)krb5_kt_end_seq_get(l->k, kt, &at);
    }
    if (kt)
        (void)krb5_kt_close(l->k, kt);
    return sp_ok(e);
}

struct first {
    struct sp_arena *mem;
    struct krb_name *name;
    struct sp_span *realm;
    bool found;
};

static bool take_first(struct lib *l, const krb5_keytab_entry *entry, void *arg, struct sp_err *e)
{
    struct first *f = arg;

    (void)l;
    f->found = name_of(entry->principal, f->mem, f->name, f->realm, e);
    return false;
}

bool lib_first_principal(struct lib *l, const char *keytab, struct sp_arena *mem, struct krb_name *name,
                         struct sp_span *realm, struct sp_err *e)
{
    struct first f = {mem, name, realm, false};

    return each_entry(l, keytab, take_first, &f, e) &&
           (f.found || sp_fail(e, SP_ENOTFOUND, KCTX_NO_CRED, "the keytab is empty"));
}

struct gathered {
    krb5_principal who;
    struct sp_key *v;
    uint32_t count;
    krb5_kvno kvno;
};

static bool gather_key(struct lib *l, const krb5_keytab_entry *entry, void *arg, struct sp_err *e)
{
    struct gathered *g = arg;

    (void)e;
    if (!krb5_principal_compare(l->k, g->who, entry->principal) || !crypto_find_type(entry->key.enctype) ||
        entry->key.length > sizeof g->v->b || entry->vno < g->kvno)
        return true;
    if (entry->vno > g->kvno)
        g->count = 0;
    g->kvno = entry->vno;
    if (g->count < CLIENT_KEYS_MAX) {
        struct sp_key *k = &g->v[g->count++];

        *k = (struct sp_key){.n = (uint8_t)entry->key.length, .etype = entry->key.enctype};
        memcpy(k->b, entry->key.contents, entry->key.length);
    }
    return true;
}

bool lib_read_keys(struct lib *l, const char *keytab, const struct krb_name *name, struct sp_span realm,
                   struct sp_arena *mem, struct sp_key **keys, uint32_t *count, struct sp_err *e)
{
    struct gathered g = {.v = sp_new_array(mem, struct sp_key, CLIENT_KEYS_MAX, e)};

    if (g.v && lib_principal(l, name, realm, &g.who, e))
        (void)each_entry(l, keytab, gather_key, &g, e);
    krb5_free_principal(l->k, g.who);
    *keys = g.v;
    *count = g.count;
    return sp_ok(e) &&
           (g.count > 0 || sp_fail(e, SP_ENOTFOUND, KCTX_NO_CRED, "the keytab has no key of this client"));
}

/* ---- krb5.conf ---- */

char *lib_default_ccache(struct lib *l)
{
    krb5_ccache cc = NULL;
    char *full = NULL, *out = NULL;

    if (krb5_cc_default(l->k, &cc) == 0 && krb5_cc_get_full_name(l->k, cc, &full) == 0)
        out = strdup(full);
    krb5_free_string(l->k, full);
    if (cc)
        (void)krb5_cc_close(l->k, cc);
    return out;
}

char *lib_default_keytab(struct lib *l)
{
    char name[1024];
    krb5_keytab kt = NULL;
    char *out = NULL;

    if (krb5_kt_default(l->k, &kt) == 0 && krb5_kt_get_name(l->k, kt, name, sizeof name) == 0)
        out = strdup(name);
    if (kt)
        (void)krb5_kt_close(l->k, kt);
    return out;
}

char *lib_host_realm(struct lib *l, const char *host)
{
    char **realms = NULL, *out;
    bool found = krb5_get_host_realm(l->k, host, &realms) == 0 && realms && realms[0];

    out = strdup(found ? realms[0] : "");
    if (realms)
        (void)krb5_free_host_realm(l->k, realms);
    return out;
}

struct sp_span lib_default_realm(struct lib *l, struct sp_arena *mem)
{
    struct sp_err ignored = {0};
    struct sp_span out = sp_span(NULL, 0);
    char *realm = NULL;

    if (krb5_get_default_realm(l->k, &realm) == 0)
        out = sp_dup(mem, sp_str(realm), &ignored);
    krb5_free_default_realm(l->k, realm);
    return out;
}
