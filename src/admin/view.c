/* SPDX-License-Identifier: MIT */
/* Accounts and the instance as JSON. */
#include <stdio.h>

#include "admin/private.h"

void admin_add_text(cJSON *to, const char *key, struct sp_span s)
{
    char buf[2 * STORE_NAME_MAX + 1];

    snprintf(buf, sizeof buf, "%.*s", SP_FMT(s));
    cJSON_AddStringToObject(to, key, buf);
}

void admin_add_time(cJSON *to, const char *key, int64_t unix_s)
{
    char buf[40];
    struct sp_text t = sp_text(buf, sizeof buf);

    if (unix_s <= 0 || unix_s > SP_TIME_MAX) {
        cJSON_AddNullToObject(to, key);
        return;
    }
    sp_text_iso_us(&t, unix_s * 1000000);
    if (t.n == 27) /* whole seconds: 2026-11-21T14:05:01Z */
        memcpy(buf + 19, "Z", 2);
    cJSON_AddStringToObject(to, key, buf);
}

static const char *kind_name(enum store_kind k)
{
    switch (k) {
    case STORE_USER:
        return "user";
    case STORE_SERVICE:
        return "service";
    case STORE_KRBTGT:
        return "krbtgt";
    case STORE_CHANGEPW:
        return "changepw";
    }
    return "unknown";
}

static void add_flags(cJSON *to, uint32_t flags)
{
    static const char *const names[] = {"disabled",  "must-change", "admin",
                                        "no-expiry", "allow-renew", "allow-forward"};
    cJSON *list = cJSON_AddArrayToObject(to, "flags");

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (flags & 1u << i)
            cJSON_AddItemToArray(list, cJSON_CreateString(names[i]));
}

static void add_aliases(cJSON *to, const struct store_account *acc)
{
    cJSON *list = cJSON_AddArrayToObject(to, "aliases");
    char buf[STORE_NAME_MAX + 1];

    for (uint32_t i = 0; i < acc->aliases.count; i++) {
        snprintf(buf, sizeof buf, "%.*s", SP_FMT(acc->aliases.v[i]));
        cJSON_AddItemToArray(list, cJSON_CreateString(buf));
    }
}

static void add_etypes(cJSON *to, const struct store_account *acc)
{
    cJSON *list = cJSON_AddArrayToObject(to, "etypes");

    for (uint32_t i = 0; i < acc->key_count && acc->keys[i].kvno == acc->keys[0].kvno; i++)
        cJSON_AddItemToArray(list, cJSON_CreateNumber(acc->keys[i].key.etype));
}

/* Which rule gave the salt: decision 61 wants those that can be told from unknown names to be found. */
static const char *salt_rule(struct admin *a, const struct store_account *acc)
{
    struct kdc_config random = a->config.kdc;
    struct sp_err why = {0};
    struct sp_span salt;
    struct krb_name name;

    if (acc->key_count == 0 || !acc->keys[0].salt.p)
        return "none"; /* random keys */
    random.salt = KDC_SALT_RANDOM;
    if (!admin_name_of(a, acc, &name, &why))
        return "custom";
    if (krb_default_salt(sp_str(a->realm), &name, &a->mem, &salt, &why) && sp_same(salt, acc->keys[0].salt))
        return "default";
    if (kdc_salt_of(&random, a->crypto, &name, &a->mem, &salt, &why) && sp_same(salt, acc->keys[0].salt))
        return "random";
    return "custom";
}

static void add_activity(struct admin *a, cJSON *to, uint64_t id)
{
    struct lmdb_activity act = {0};
    struct sp_err why = {0};

    if (!lmdb_get_activity(a->store, id, &act, &why))
        act = (struct lmdb_activity){0}; /* counters may be lost; the account is not worse for it */
    admin_add_time(to, "last_success", act.last_success_s);
    admin_add_time(to, "last_failure", act.last_failure_s);
    cJSON_AddNumberToObject(to, "successes", (double)act.successes);
    cJSON_AddNumberToObject(to, "failures", (double)act.failures);
}

cJSON *admin_view_account(struct admin *a, const struct store_account *acc)
{
    cJSON *o = cJSON_CreateObject();

    cJSON_AddNumberToObject(o, "id", (double)acc->id);
    cJSON_AddNumberToObject(o, "generation", (double)acc->generation);
    admin_add_text(o, "name", acc->name);
    cJSON_AddStringToObject(o, "kind", kind_name(acc->kind));
    add_flags(o, acc->flags);
    add_aliases(o, acc);
    cJSON_AddNumberToObject(o, "kvno", store_kvno(acc));
    add_etypes(o, acc);
    cJSON_AddStringToObject(o, "salt_rule", salt_rule(a, acc));
    admin_add_time(o, "created", acc->created_s);
    admin_add_time(o, "changed", acc->changed_s);
    admin_add_time(o, "expires", acc->expires_s);
    admin_add_time(o, "password_expires", acc->password_expires_s);
    cJSON_AddNumberToObject(o, "life", acc->life_s);
    add_activity(a, o, acc->id);
    admin_add_text(o, "creator", acc->creator);
    admin_add_text(o, "comment", acc->comment);
    return o;
}

static void add_key(cJSON *list, const struct store_key *k)
{
    cJSON *o = cJSON_CreateObject();
    char buf[2 * STORE_NAME_MAX + 600];
    struct sp_text t = sp_text(buf, sizeof buf);

    cJSON_AddNumberToObject(o, "etype", k->key.etype);
    cJSON_AddNumberToObject(o, "kvno", k->kvno);
    if (!k->salt.p) {
        cJSON_AddNullToObject(o, "salt");
    } else if (sp_is_utf8(k->salt) && !memchr(k->salt.p, 0, k->salt.n)) {
        admin_add_text(o, "salt", k->salt);
    } else {
        sp_text_hex(&t, k->salt);
        cJSON_AddStringToObject(o, "salt_hex", buf);
    }
    if (k->iterations)
        cJSON_AddNumberToObject(o, "iterations", k->iterations);
    t = sp_text(buf, sizeof buf);
    sp_text_hex(&t, sp_span(k->key.b, k->key.n));
    cJSON_AddStringToObject(o, "key", buf);
    sp_wipe(buf, sizeof buf);
    cJSON_AddItemToArray(list, o);
}

bool admin_keys(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    struct store_account acc;
    cJSON *list;

    if (!admin_find_account(a, req, &acc, e))
        return false;
    list = cJSON_AddArrayToObject(out, "keys");
    for (uint32_t i = 0; i < acc.key_count; i++)
        add_key(list, &acc.keys[i]);
    return true;
}

/* ---- status ---- */

struct tally {
    uint64_t users, services, disabled;
    uint32_t krbtgt_kvno;
};

static bool count_one(void *ctx, const struct store_account *acc, struct sp_err *e)
{
    struct tally *t = ctx;

    (void)e;
    t->users += acc->kind == STORE_USER;
    t->services += acc->kind == STORE_SERVICE;
    t->disabled += (acc->flags & STORE_DISABLED) != 0;
    if (acc->kind == STORE_KRBTGT)
        t->krbtgt_kvno = store_kvno(acc);
    return true;
}

static void warn(cJSON *list, const char *text)
{
    cJSON_AddItemToArray(list, cJSON_CreateString(text));
}

bool admin_status(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    struct sp_err broken = {0};
    struct tally t = {0};
    cJSON *warnings;

    (void)req;
    (void)e;
    cJSON_AddStringToObject(out, "realm", a->realm);
    warnings = cJSON_AddArrayToObject(out, "warnings");
    if (!lmdb_each(a->store, &a->each, count_one, &t, &broken))
        warn(warnings, broken.text);
    if (!a->config.kdc.guess_limits)
        warn(warnings, "GUESS LIMITS ARE OFF ([kdc] guess-limits): anybody may try passwords without end");
    if (a->config.kdc.reveal_unknown)
        warn(warnings, "[kdc] reveal-unknown is on: anybody can find out which names exist");
    if (!a->config.kdc.spake && !a->config.kdc.timestamp)
        warn(warnings, "[kdc] spake and timestamp are both off: nobody can log in");
    cJSON_AddNumberToObject(out, "accounts", (double)t.users);
    cJSON_AddNumberToObject(out, "services", (double)t.services);
    cJSON_AddNumberToObject(out, "disabled", (double)t.disabled);
    cJSON_AddNumberToObject(out, "krbtgt_kvno", t.krbtgt_kvno);
    cJSON_AddStringToObject(out, "master_key", a->master_key_source);
    cJSON_AddStringToObject(out, "config", a->paths.config);
    cJSON_AddStringToObject(out, "state", a->paths.state);
    cJSON_AddBoolToObject(out, "guess_limits", a->config.kdc.guess_limits);
    cJSON_AddBoolToObject(out, "spake", a->config.kdc.spake);
    cJSON_AddBoolToObject(out, "timestamp", a->config.kdc.timestamp);
    cJSON_AddStringToObject(out, "salt", a->config.kdc.salt == KDC_SALT_RANDOM ? "random" : "default");
    cJSON_AddFalseToObject(out, "daemon"); /* the keeper puts its description in this place */
    cJSON_AddItemToObject(out, "client_hint", admin_client_hint(a));
    return true;
}

/* ---- lists ---- */

struct lister {
    struct admin *a;
    enum store_kind kind;
    cJSON *list;
};

static bool list_one(void *ctx, const struct store_account *acc, struct sp_err *e)
{
    struct lister *l = ctx;

    (void)e;
    if (acc->kind == l->kind)
        cJSON_AddItemToArray(l->list, admin_view_account(l->a, acc));
    sp_arena_reset(&l->a->mem);
    return true;
}

void admin_list_kind(struct admin *a, enum store_kind kind, cJSON *list, cJSON *out)
{
    struct lister l = {a, kind, list};
    struct sp_err broken = {0};

    if (!lmdb_each(a->store, &a->each, list_one, &l, &broken))
        cJSON_AddStringToObject(out, "broken", broken.text);
}
