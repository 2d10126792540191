/* SPDX-License-Identifier: MIT */
/* The operations on accounts, and the table of all of them. */
#include <stdio.h>
#include <unistd.h>

#include "admin/private.h"

/* ---- arguments ---- */

const char *admin_arg_or(const cJSON *req, const char *key, const char *otherwise)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(req, key);

    return cJSON_IsString(v) ? v->valuestring : otherwise;
}

bool admin_arg(const cJSON *req, const char *key, const char **out, struct sp_err *e)
{
    *out = admin_arg_or(req, key, NULL);
    return *out || sp_fail(e, SP_EINPUT, 0, "\"%s\" is missing, or no text", key);
}

bool admin_arg_is(const cJSON *req, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(req, key));
}

bool admin_find_account(struct admin *a, const cJSON *req, struct store_account *acc, struct sp_err *e)
{
    struct store_lookup *l = lmdb_lookup(a->store);
    struct admin_name n;
    struct sp_err why = {0};
    const char *text;

    if (!admin_arg(req, "name", &text, e) || !admin_parse_name(a, text, &n, e))
        return false;
    if (l->find(l, n.lookup, &a->mem, acc, &why))
        return true;
    if (why.kind == SP_ENOTFOUND)
        return sp_fail(e, SP_ENOTFOUND, 0, "there is no account %.100s", text);
    *e = why;
    return false;
}

bool admin_parse_etypes(const cJSON *list, int32_t out[4], uint32_t *count, struct sp_err *e)
{
    const cJSON *one;

    *count = 0;
    cJSON_ArrayForEach(one, list)
    {
        char number[16];
        const struct crypto_type *t;

        snprintf(number, sizeof number, "%d", cJSON_IsNumber(one) ? one->valueint : 0);
        t = crypto_find_type_named(sp_str(cJSON_IsString(one) ? one->valuestring : number));
        if (!t)
            return sp_fail(e, SP_EINPUT, 0, "%.40s is no encryption type; 17, 18, 19 and 20 are",
                           cJSON_IsString(one) ? one->valuestring : number);
        for (uint32_t i = 0; i < *count; i++)
            if (out[i] == t->etype)
                return sp_fail(e, SP_EINPUT, 0, "%s is there twice", t->name);
        out[(*count)++] = t->etype;
    }
    return true;
}

bool admin_add_aliases(struct admin *a, struct store_account *acc, const cJSON *list, struct sp_err *e)
{
    const cJSON *one;
    struct admin_name n;

    cJSON_ArrayForEach(one, list)
    {
        if (!cJSON_IsString(one))
            return sp_fail(e, SP_EINPUT, 0, "an alias is no text");
        if (!admin_parse_alias(a, acc, one->valuestring, &n, e) || !admin_add_alias(a, acc, &n, e))
            return false;
    }
    return true;
}

struct sp_span admin_creator(struct admin *a, const cJSON *req)
{
    const char *by = admin_arg_or(req, "by", NULL);
    struct sp_err why = {0};

    return by ? sp_dup(&a->mem, sp_span(by, strnlen(by, 200)), &why)
              : sp_format(&a->mem, &why, "uid %u", (unsigned)getuid());
}

bool admin_commit(struct admin *a, struct store_account *acc, cJSON *out, struct sp_err *e)
{
    if (!lmdb_put(a->store, acc, e))
        return false;
    cJSON_AddItemToObject(out, "account", admin_view_account(a, acc));
    return true;
}

/* ---- passwords ---- */

static bool choose_salt(struct admin *a, const char *rule, const struct krb_name *name, struct sp_span *salt,
                        struct sp_err *e)
{
    struct kdc_config random = a->config.kdc;

    *salt = sp_span(NULL, 0); /* the realm's rule */
    if (!rule)
        return true;
    if (strcmp(rule, "default") == 0)
        return krb_default_salt(sp_str(a->realm), name, &a->mem, salt, e);
    random.salt = KDC_SALT_RANDOM;
    if (strcmp(rule, "random") == 0)
        return kdc_salt_of(&random, a->crypto, name, &a->mem, salt, e);
    if (strlen(rule) > 255)
        return sp_fail(e, SP_EINPUT, 0, "a salt has at most 255 bytes");
    *salt = sp_dup(&a->mem, sp_str(rule), e);
    return salt->p != NULL;
}

static bool set_keys(struct admin *a, struct store_account *acc, const struct krb_name *name,
                     struct sp_span salt, struct sp_span password, struct sp_err *e)
{
    struct store_key *keys = sp_new_array(&a->mem, struct store_key, STORE_KEYS_MAX, e);
    uint32_t count = 0, kvno = store_kvno(acc) + 1;

    if (!keys || !admin_check_password(&a->config, acc->name, password, e) ||
        !kdc_make_keys(&a->config.kdc, a->crypto, name, salt, password, kvno, &a->mem, keys, &count, e))
        return false;
    acc->keys = keys;
    acc->key_count = count;
    acc->changed_s = admin_now_s();
    acc->password_expires_s = a->config.password_max_age_s > 0 && !(acc->flags & STORE_NO_EXPIRY)
                                  ? acc->changed_s + a->config.password_max_age_s
                                  : 0;
    acc->flags &= ~(uint32_t)STORE_MUST_CHANGE;
    acc->generation++;
    return true;
}

bool admin_set_password(struct admin *a, struct store_account *acc, struct sp_span password, struct sp_err *e)
{
    struct sp_span salt = acc->key_count > 0 ? acc->keys[0].salt : sp_span(NULL, 0);
    struct krb_name name;

    if (acc->kind != STORE_USER)
        return sp_fail(e, SP_EREFUSED, 0, "%.*s has random keys, not a password",
                       (int)(acc->name.n < 100 ? acc->name.n : 100), (const char *)acc->name.p);
    return admin_name_of(a, acc, &name, e) && set_keys(a, acc, &name, salt, password, e);
}

/* ---- account.add ---- */

static uint32_t flags_of(const cJSON *req)
{
    uint32_t flags = 0;

    if (admin_arg_is(req, "must_change"))
        flags |= STORE_MUST_CHANGE;
    if (admin_arg_is(req, "no_expiry"))
        flags |= STORE_NO_EXPIRY;
    if (admin_arg_is(req, "admin"))
        flags |= STORE_ADMIN;
    return flags;
}

static bool get_expiry(const cJSON *req, int64_t *out, struct sp_err *e)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(req, "expires");

    if (!v || cJSON_IsNull(v))
        return true;
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= (double)SP_TIME_MAX))
        return sp_fail(e, SP_EINPUT, 0, "\"expires\" is no time in seconds since 1970");
    *out = (int64_t)v->valuedouble;
    return true;
}

/* Before the slow string-to-key: the commit decides, but a taken name should say so at once. */
static bool check_free(struct admin *a, const struct admin_name *n, struct sp_err *e)
{
    struct store_lookup *l = lmdb_lookup(a->store);
    struct store_account other;
    struct sp_err why = {0};

    if (l->find(l, n->lookup, &a->mem, &other, &why) || why.kind != SP_ENOTFOUND)
        return sp_fail(e, SP_EEXIST, 0, "the name %.*s is taken", (int)(n->text.n < 100 ? n->text.n : 100),
                       (const char *)n->text.p);
    return true;
}

static bool make_user_keys(struct admin *a, const cJSON *req, struct store_account *acc,
                           const struct krb_name *name, struct sp_err *e)
{
    struct kdc_config whole = a->config.kdc;
    struct sp_span salt;
    const char *password;
    int32_t etypes[4];
    uint32_t count;
    bool ok;

    if (!admin_arg(req, "password", &password, e) ||
        !choose_salt(a, admin_arg_or(req, "salt", NULL), name, &salt, e) ||
        !admin_parse_etypes(cJSON_GetObjectItemCaseSensitive(req, "enctypes"), etypes, &count, e))
        return false;
    if (count > 0) { /* for this one account; counts go by place, so they move along */
        for (uint32_t i = 0; i < count; i++) {
            a->config.kdc.iterations[i] = 0;
            for (uint32_t j = 0; j < whole.enctype_count; j++)
                if (whole.enctypes[j] == etypes[i])
                    a->config.kdc.iterations[i] = whole.iterations[j];
            a->config.kdc.enctypes[i] = etypes[i];
        }
        a->config.kdc.enctype_count = count;
    }
    ok = set_keys(a, acc, name, salt, sp_str(password), e);
    a->config.kdc = whole;
    return ok;
}

static bool account_add(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    struct store_account acc = {.kind = STORE_USER, .flags = flags_of(req), .created_s = admin_now_s()};
    struct admin_name n;
    const char *text;

    if (!admin_arg(req, "name", &text, e) || !admin_parse_name(a, text, &n, e) || !check_free(a, &n, e) ||
        !get_expiry(req, &acc.expires_s, e))
        return false;
    acc.name = n.text;
    acc.lookup = n.lookup;
    acc.creator = admin_creator(a, req);
    acc.comment = sp_str(admin_arg_or(req, "comment", ""));
    if (!admin_add_aliases(a, &acc, cJSON_GetObjectItemCaseSensitive(req, "aliases"), e) ||
        !make_user_keys(a, req, &acc, &n.name, e))
        return false;
    acc.flags = flags_of(req); /* a new password cleared must-change */
    return admin_commit(a, &acc, out, e);
}

/* ---- the others ---- */

static bool account_passwd(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    struct store_account acc;
    const char *password;

    if (!admin_find_account(a, req, &acc, e) || !admin_arg(req, "password", &password, e) ||
        !admin_set_password(a, &acc, sp_str(password), e))
        return false;
    if (admin_arg_is(req, "must_change"))
        acc.flags |= STORE_MUST_CHANGE;
    return admin_commit(a, &acc, out, e);
}

static bool account_show(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    struct store_account acc;

    if (!admin_find_account(a, req, &acc, e))
        return false;
    cJSON_AddItemToObject(out, "account", admin_view_account(a, &acc));
    return true;
}

static bool account_list(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    (void)req;
    (void)e;
    admin_list_kind(a, STORE_USER, cJSON_AddArrayToObject(out, "accounts"), out);
    return true;
}

/* The realm cannot do without its own two accounts. */
static bool check_not_own(const struct store_account *acc, struct sp_err *e)
{
    if (acc->kind == STORE_USER || acc->kind == STORE_SERVICE)
        return true;
    return sp_fail(e, SP_EREFUSED, 0, "%.*s belongs to the realm itself",
                   (int)(acc->name.n < 100 ? acc->name.n : 100), (const char *)acc->name.p);
}

static bool set_disabled(struct admin *a, const cJSON *req, uint32_t disabled, cJSON *out, struct sp_err *e)
{
    struct store_account acc;

    if (!admin_find_account(a, req, &acc, e) || !check_not_own(&acc, e))
        return false;
    if ((acc.flags & STORE_DISABLED) != disabled) {
        acc.flags = (acc.flags & ~(uint32_t)STORE_DISABLED) | disabled;
        acc.generation++;
    }
    return admin_commit(a, &acc, out, e);
}

static bool account_disable(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    return set_disabled(a, req, STORE_DISABLED, out, e);
}

static bool account_enable(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    return set_disabled(a, req, 0, out, e);
}

/* Failures are counted in the keeper's shared block alone; without a daemon there is nothing to forget. */
static bool account_unlock(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    struct store_account acc;

    if (!admin_find_account(a, req, &acc, e))
        return false;
    if (a->shared)
        kdc_shared_unlock(a->shared, acc.id);
    cJSON_AddItemToObject(out, "account", admin_view_account(a, &acc));
    return true;
}

static bool account_alias(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    struct store_account acc;
    struct admin_name n;
    const cJSON *one;

    if (!admin_find_account(a, req, &acc, e) || !check_not_own(&acc, e))
        return false;
    cJSON_ArrayForEach(one, cJSON_GetObjectItemCaseSensitive(req, "remove"))
    {
        if (!cJSON_IsString(one))
            return sp_fail(e, SP_EINPUT, 0, "an alias is no text");
        if (!admin_parse_alias(a, &acc, one->valuestring, &n, e) || !admin_remove_alias(&acc, &n, e))
            return false;
    }
    return admin_add_aliases(a, &acc, cJSON_GetObjectItemCaseSensitive(req, "add"), e) &&
           admin_commit(a, &acc, out, e);
}

static bool account_delete(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    struct store_account acc;

    if (!admin_find_account(a, req, &acc, e) || !check_not_own(&acc, e) || !lmdb_delete(a->store, acc.id, e))
        return false;
    admin_add_text(out, "deleted", acc.name);
    return true;
}

/* ---- the table ---- */

static const struct {
    const char *op;
    admin_operation *run;
} operations[] = {
    {"account.add",     account_add         },
    {"account.passwd",  account_passwd      },
    {"account.show",    account_show        },
    {"account.list",    account_list        },
    {"account.disable", account_disable     },
    {"account.enable",  account_enable      },
    {"account.unlock",  account_unlock      },
    {"account.alias",   account_alias       },
    {"account.delete",  account_delete      },
    {"account.keys",    admin_keys          },
    {"account.export",  admin_export        },
    {"account.import",  admin_import        },
    {"service.add",     admin_service_add   },
    {"service.keytab",  admin_service_keytab},
    {"service.rotate",  admin_service_rotate},
    {"service.list",    admin_service_list  },
    {"service.delete",  admin_service_delete},
    {"krbtgt.rotate",   admin_krbtgt_rotate },
    {"backup",          admin_backup        },
    {"status",          admin_status        },
};

static admin_operation *find_operation(const char *op)
{
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++)
        if (strcmp(operations[i].op, op) == 0)
            return operations[i].run;
    return NULL;
}

static bool run_init(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    const char *realm = admin_arg_or(req, "realm", a->realm);

    if (strcmp(realm, a->realm) != 0)
        return sp_fail(e, SP_EEXIST, 0, "the realm %.60s is already here; it cannot become %.60s", a->realm,
                       realm);
    cJSON_AddStringToObject(out, "realm", a->realm);
    cJSON_AddBoolToObject(out, "created", false);
    cJSON_AddItemToObject(out, "client_hint", admin_client_hint(a));
    return true;
}

bool admin_execute(struct admin *a, const cJSON *request, cJSON **out, struct sp_err *e)
{
    admin_operation *run;
    cJSON *result;
    const char *op;
    bool ok;

    if (!admin_arg(request, "op", &op, e))
        return false;
    run = strcmp(op, "init") == 0 ? run_init : find_operation(op);
    if (!run)
        return sp_fail(e, SP_EINPUT, 0, "there is no operation \"%.60s\"", op);
    result = cJSON_CreateObject();
    ok = run(a, request, result, e);
    lmdb_settle(a->store);
    sp_arena_reset(&a->mem);
    if (!ok) {
        cJSON_Delete(result);
        return false;
    }
    *out = result;
    return true;
}
