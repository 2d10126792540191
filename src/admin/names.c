/* SPDX-License-Identifier: MIT */
/* From what people type to what the store holds (decision 20). */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>

#include "admin/private.h"

/* alice@corp.example, where corp.example is not this realm, is a name of one component. */
static bool fold_realm(struct admin *a, struct krb_name *n, struct sp_span realm, struct sp_err *e)
{
    struct sp_span whole;

    if (!realm.p || krb_is_realm_alias(&a->config.kdc.realm, realm))
        return true;
    if (n->parts.count != 1)
        return sp_fail(e, SP_EINPUT, 0, "the realm here is %s, not %.*s", a->realm,
                       (int)(realm.n < 64 ? realm.n : 64), (const char *)realm.p);
    whole = sp_format(&a->mem, e, "%.*s@%.*s", SP_FMT(n->parts.v[0]), SP_FMT(realm));
    n->parts.v[0] = whole;
    return whole.p != NULL;
}

static bool text_of(struct admin *a, const struct krb_name *n, struct sp_span *out, struct sp_err *e)
{
    char buf[2 * KRB_NAME_TEXT_MAX + 8];
    struct sp_text t = sp_text(buf, sizeof buf);

    krb_text_name(&t, n);
    if (t.cut || t.n > KRB_NAME_TEXT_MAX)
        return sp_fail(e, SP_EINPUT, 0, "a name has at most %d bytes", KRB_NAME_TEXT_MAX);
    *out = sp_dup(&a->mem, sp_span(buf, t.n), e);
    return out->p != NULL;
}

bool admin_parse_name(struct admin *a, const char *text, struct admin_name *out, struct sp_err *e)
{
    struct admin_name n = {0};
    struct sp_span realm = {0};
    struct sp_span copy = sp_dup(&a->mem, sp_str(text), e);

    if (!copy.p || !krb_parse_name(copy, &a->mem, &n.name, &realm, e) || !fold_realm(a, &n.name, realm, e) ||
        !text_of(a, &n.name, &n.text, e) ||
        !krb_name_key(&n.name, &a->config.kdc.realm, &a->mem, &n.lookup, e))
        return false;
    *out = n;
    return true;
}

bool admin_name_of(struct admin *a, const struct store_account *acc, struct krb_name *out, struct sp_err *e)
{
    struct sp_span realm;

    return krb_parse_name(acc->name, &a->mem, out, &realm, e);
}

static bool is_address(const char *text)
{
    uint8_t bin[16];

    return inet_pton(AF_INET, text, bin) == 1 || inet_pton(AF_INET6, text, bin) == 1;
}

static bool only(struct sp_span s, const char *more)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] >= 0x80 || (!isalnum(s.p[i]) && (s.p[i] == 0 || !strchr(more, s.p[i]))))
            return false;
    return s.n > 0;
}

/* A host name, with a port or the name of an instance as database servers have it; or an address. Nothing
 * else is ever asked for, and look-alikes in other alphabets stay out. */
static bool is_host(struct sp_span s)
{
    char text[256];
    const uint8_t *colon = memchr(s.p, ':', s.n);
    size_t n = colon ? (size_t)(colon - s.p) : s.n;

    if (s.n >= sizeof text)
        return false;
    snprintf(text, sizeof text, "%.*s", SP_FMT(s));
    if (strlen(text) == s.n && is_address(text))
        return true;
    return only(sp_span(s.p, n), ".-_") && s.p[0] != '.' && s.p[0] != '-' && s.p[n - 1] != '.' &&
           (!colon || only(sp_span(colon + 1, s.n - n - 1), "-_"));
}

bool admin_check_service(const struct krb_name *n, const char *text, struct sp_err *e)
{
    if (n->parts.count == 2 && only(n->parts.v[0], ".-_") && is_host(n->parts.v[1]))
        return true;
    return sp_fail(e, SP_EINPUT, 0, "\"%.60s\" is no service; write TYPE/HOST, as in host/nas1", text);
}

static bool check_alias(const struct krb_name *n, const char *text, struct sp_err *e)
{
    struct sp_err why = {0};

    return admin_check_service(n, text, &why) ||
           sp_fail(e, SP_EINPUT, 0,
                   "\"%.60s\" cannot name a service; write a host name, an address, or TYPE/HOST", text);
}

bool admin_parse_alias(struct admin *a, const struct store_account *acc, const char *text,
                       struct admin_name *out, struct sp_err *e)
{
    struct krb_name own;
    struct sp_span full;
    bool bare = is_address(text) || !strpbrk(text, "/@\\$");

    if (acc->kind != STORE_SERVICE)
        return admin_parse_name(a, text, out, e);
    if (!bare)
        return admin_parse_name(a, text, out, e) && check_alias(&out->name, text, e);
    if (!admin_name_of(a, acc, &own, e))
        return false;
    full = sp_format(&a->mem, e, "%.*s/%s", SP_FMT(own.parts.v[0]), text);
    return full.p && admin_parse_name(a, (const char *)full.p, out, e) && check_alias(&out->name, text, e);
}

/* ---- lists in the arena: grown by copying, they are short ---- */

static bool grow(struct sp_arena *mem, struct sp_spans *s, struct sp_span one, struct sp_err *e)
{
    struct sp_span *v = sp_new_array(mem, struct sp_span, s->count + 1, e);

    if (!v)
        return false;
    for (uint32_t i = 0; i < s->count; i++)
        v[i] = s->v[i];
    v[s->count] = one;
    *s = (struct sp_spans){v, s->count + 1};
    return true;
}

static int find_alias(const struct store_account *acc, struct sp_span lookup)
{
    for (uint32_t i = 0; i < acc->alias_lookups.count; i++)
        if (sp_same(acc->alias_lookups.v[i], lookup))
            return (int)i;
    return -1;
}

bool admin_add_alias(struct admin *a, struct store_account *acc, const struct admin_name *alias,
                     struct sp_err *e)
{
    if (sp_same(acc->lookup, alias->lookup) || find_alias(acc, alias->lookup) >= 0)
        return true;
    if (acc->aliases.count == STORE_ALIASES_MAX)
        return sp_fail(e, SP_EREFUSED, 0, "an account has at most %d aliases", STORE_ALIASES_MAX);
    return grow(&a->mem, &acc->aliases, alias->text, e) &&
           grow(&a->mem, &acc->alias_lookups, alias->lookup, e);
}

bool admin_remove_alias(struct store_account *acc, const struct admin_name *alias, struct sp_err *e)
{
    int at = find_alias(acc, alias->lookup);

    if (at < 0)
        return sp_fail(e, SP_ENOTFOUND, 0, "%.*s has no alias %.*s",
                       (int)(acc->name.n < 60 ? acc->name.n : 60), (const char *)acc->name.p,
                       (int)(alias->text.n < 60 ? alias->text.n : 60), (const char *)alias->text.p);
    acc->aliases.count--;
    acc->alias_lookups.count--;
    for (uint32_t i = (uint32_t)at; i < acc->aliases.count; i++) {
        acc->aliases.v[i] = acc->aliases.v[i + 1];
        acc->alias_lookups.v[i] = acc->alias_lookups.v[i + 1];
    }
    return true;
}

/* An alias that nobody asked for by name: left out when another account has it. */
static bool add_if_free(struct admin *a, struct store_account *acc, const char *host, struct sp_err *e)
{
    struct store_account other;
    struct admin_name alias;
    struct sp_err why = {0};

    if (!host[0])
        return true;
    if (!admin_parse_alias(a, acc, host, &alias, e))
        return false;
    if (lmdb_lookup(a->store)->find(lmdb_lookup(a->store), alias.lookup, &a->mem, &other, &why) ||
        why.kind != SP_ENOTFOUND)
        return true;
    return admin_add_alias(a, acc, &alias, e);
}

bool admin_add_host_aliases(struct admin *a, struct store_account *acc, const struct krb_name *name,
                            struct sp_err *e)
{
    struct sp_span full = name->parts.v[name->parts.count - 1];
    struct admin_host here;
    char host[256];

    if (full.n >= sizeof host)
        return true;
    snprintf(host, sizeof host, "%.*s", SP_FMT(full));
    if (is_address(host))
        return true;
    admin_find_host(&here);
    if (strcasecmp(host, here.name) == 0 ||
        strcasecmp(host, here.fqdn) == 0) /* this machine: both of its names */
        return add_if_free(a, acc, here.name, e) && add_if_free(a, acc, here.fqdn, e);
    if (!strchr(host, '.'))
        return true;
    *strchr(host, '.') = 0;
    return add_if_free(a, acc, host, e);
}
