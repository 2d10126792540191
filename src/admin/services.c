/* SPDX-License-Identifier: MIT */
/* Accounts with random keys: services, and the key of the realm itself. */
#include <stdio.h>
#include <stdlib.h>

#include "admin/private.h"
#include "krb/keytab.h"

static bool find_service(struct admin *a, const cJSON *req, struct store_account *acc, struct sp_err *e)
{
    if (!admin_find_account(a, req, acc, e))
        return false;
    return acc->kind == STORE_SERVICE ||
           sp_fail(e, SP_EREFUSED, 0, "%.*s is no service", (int)(acc->name.n < 100 ? acc->name.n : 100),
                   (const char *)acc->name.p);
}

static bool get_life(const cJSON *req, int32_t *out, struct sp_err *e)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(req, "life");

    if (!v || cJSON_IsNull(v))
        return true;
    if (!cJSON_IsNumber(v) || v->valueint < 0 || v->valueint > 366 * 86400)
        return sp_fail(e, SP_EINPUT, 0, "\"life\" is no number of seconds up to a year");
    *out = v->valueint;
    return true;
}

/* ---- service.add ---- */

static bool name_service(struct admin *a, const cJSON *req, struct admin_name *n, struct sp_err *e)
{
    struct store_lookup *l = lmdb_lookup(a->store);
    struct store_account other;
    struct sp_err why = {0};
    const char *text;

    if (!admin_arg(req, "name", &text, e) || !admin_parse_name(a, text, n, e))
        return false;
    if (!admin_check_service(&n->name, text, e))
        return false;
    if (l->find(l, n->lookup, &a->mem, &other, &why))
        return sp_fail(e, SP_EEXIST, 0, "the name %.100s is taken", text);
    if (why.kind == SP_ENOTFOUND)
        return true;
    *e = why;
    return false;
}

bool admin_service_add(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    struct store_account acc = {.generation = 1, .kind = STORE_SERVICE, .created_s = admin_now_s()};
    struct admin_name n;
    int32_t etypes[4];
    uint32_t count;

    acc.changed_s = acc.created_s;
    acc.creator = admin_creator(a, req);
    acc.keys = sp_new_array(&a->mem, struct store_key, STORE_KEYS_MAX, e);
    if (!acc.keys || !name_service(a, req, &n, e) || !get_life(req, &acc.life_s, e) ||
        !admin_parse_etypes(cJSON_GetObjectItemCaseSensitive(req, "enctypes"), etypes, &count, e) ||
        !kdc_make_random_keys(&a->config.kdc, a->rng, 1, etypes, count, acc.keys, &acc.key_count, e))
        return false;
    acc.name = n.text;
    acc.lookup = n.lookup;
    return admin_add_aliases(a, &acc, cJSON_GetObjectItemCaseSensitive(req, "aliases"), e) &&
           admin_add_host_aliases(a, &acc, &n.name, e) && admin_commit(a, &acc, out, e);
}

/* ---- new keys; those of the version before stay, for tickets that are out ---- */

enum earlier { KEEP_EARLIER, DROP_EARLIER };

static bool add_version(struct admin *a, struct store_account *acc, const int32_t *etypes,
                        uint32_t etype_count, enum earlier earlier, struct sp_err *e)
{
    struct store_key *keys = sp_new_array(&a->mem, struct store_key, STORE_KEYS_MAX, e);
    uint32_t count = 0, last = store_kvno(acc);

    if (!keys ||
        !kdc_make_random_keys(&a->config.kdc, a->rng, last + 1, etypes, etype_count, keys, &count, e))
        return false;
    for (uint32_t i = 0; earlier == KEEP_EARLIER && i < acc->key_count && count < STORE_KEYS_MAX; i++)
        if (acc->keys[i].kvno == last)
            keys[count++] = acc->keys[i];
    acc->keys = keys;
    acc->key_count = count;
    acc->changed_s = admin_now_s();
    return true;
}

/* A service keeps the types it was made with. */
bool admin_service_rotate(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    struct store_account acc;
    int32_t etypes[STORE_KEYS_MAX];
    uint32_t n = 0;

    if (!find_service(a, req, &acc, e))
        return false;
    for (uint32_t i = 0; i < acc.key_count && acc.keys[i].kvno == acc.keys[0].kvno; i++)
        etypes[n++] = acc.keys[i].key.etype;
    if (!add_version(a, &acc, etypes, n, KEEP_EARLIER, e))
        return false;
    acc.generation++; /* its own tickets as a client end, as after a password change */
    return admin_commit(a, &acc, out, e);
}

/* revoke: no earlier version stays, so every TGT that is out ends, those that the KDC of a restored backup
 * never saw as well (T128). */
bool admin_krbtgt_rotate(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    struct store_lookup *l = lmdb_lookup(a->store);
    struct store_account acc;
    struct admin_name n;
    struct sp_span text = sp_format(&a->mem, e, "krbtgt/%s", a->realm);
    enum earlier earlier = admin_arg_is(req, "revoke") ? DROP_EARLIER : KEEP_EARLIER;

    if (!text.p || !admin_parse_name(a, (const char *)text.p, &n, e) ||
        !l->find(l, n.lookup, &a->mem, &acc, e) || !add_version(a, &acc, NULL, 0, earlier, e) ||
        !lmdb_put(a->store, &acc, e))
        return false;
    cJSON_AddNumberToObject(out, "kvno", store_kvno(&acc));
    return true;
}

/* ---- service.keytab: every name of the service with every key ---- */

static bool add_entries(struct admin *a, const struct store_account *acc, struct sp_span text,
                        struct krb_keytab *kt, struct sp_err *e)
{
    struct krb_name name;
    struct sp_span realm;

    if (!krb_parse_name(text, &a->mem, &name, &realm, e))
        return false;
    for (uint32_t i = 0; i < acc->key_count; i++) {
        const struct store_key *k = &acc->keys[i];

        kt->v[kt->count++] = (struct krb_keytab_entry){
            name, sp_str(a->realm), acc->changed_s, k->kvno, k->key.etype, sp_span(k->key.b, k->key.n)};
    }
    return true;
}

static bool make_keytab(struct admin *a, const struct store_account *acc, struct krb_keytab *kt,
                        struct sp_err *e)
{
    kt->v =
        sp_new_array(&a->mem, struct krb_keytab_entry, (size_t)(acc->aliases.count + 1) * acc->key_count, e);
    if (!kt->v || !add_entries(a, acc, acc->name, kt, e))
        return false;
    for (uint32_t i = 0; i < acc->aliases.count; i++)
        if (!add_entries(a, acc, acc->aliases.v[i], kt, e))
            return false;
    return true;
}

bool admin_service_keytab(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    struct store_account acc;
    struct krb_keytab kt = {0};
    size_t cap = 1 << 20, n = 0;
    uint8_t *buf = malloc(cap);
    char *text = NULL;
    bool ok;

    ok = buf ? find_service(a, req, &acc, e) && make_keytab(a, &acc, &kt, e) &&
                   krb_put_keytab(&kt, buf, cap, &n, e)
             : sp_fail(e, SP_ENOMEM, 0, "no memory for a keytab");
    if (ok)
        text = admin_base64(sp_span(buf, n), 0);
    if (buf)
        sp_wipe(buf, n < cap ? n : cap);
    free(buf);
    if (!ok || !text)
        return ok ? sp_fail(e, SP_ENOMEM, 0, "no memory for a keytab") : false;
    cJSON_AddStringToObject(out, "keytab", text);
    cJSON_AddNumberToObject(out, "entries", kt.count);
    sp_wipe(text, strlen(text));
    free(text);
    return true;
}

/* ---- list, delete ---- */

bool admin_service_list(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    (void)req;
    (void)e;
    admin_list_kind(a, STORE_SERVICE, cJSON_AddArrayToObject(out, "services"), out);
    return true;
}

bool admin_service_delete(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    struct store_account acc;

    if (!find_service(a, req, &acc, e) || !lmdb_delete(a->store, acc.id, e))
        return false;
    admin_add_text(out, "deleted", acc.name);
    return true;
}
