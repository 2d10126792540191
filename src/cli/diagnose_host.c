/* SPDX-License-Identifier: MIT */
/* A host: what it is called, which realm programs take it for, which of its services there are tickets for,
 * and whether its own keytab could open them. */
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "cli/diagnose.h"
#include "cli/login.h"
#include "host/krb5conf.h"
#include "krb/codes.h"
#include "krb/keytab.h"

#define KEYTAB "/etc/krb5.keytab"
#define KEYTAB_MAX (1u << 20)
#define FORMS_MAX 3

static const cJSON *member(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

/* ---- names ---- */

static bool is_address(const char *host)
{
    struct addrinfo hint = {.ai_flags = AI_NUMERICHOST}, *all = NULL;
    bool is = getaddrinfo(host, NULL, &hint, &all) == 0;

    if (is)
        freeaddrinfo(all);
    return is;
}

static void add_addresses(cJSON *to, const struct addrinfo *all)
{
    cJSON *list = cJSON_AddArrayToObject(to, "addresses");
    char text[NET_HOST_TEXT];

    for (const struct addrinfo *a = all; a; a = a->ai_next) {
        struct net_address n = {.n = a->ai_addrlen};

        memcpy(&n.sa, a->ai_addr, a->ai_addrlen);
        net_text_host(&n, text);
        cJSON_AddItemToArray(list, cJSON_CreateString(text));
    }
}

static void add_forms(cJSON *to, const char *host, const struct addrinfo *all, bool address)
{
    const char *full = all && all->ai_canonname && !address ? all->ai_canonname : host;
    char name[NI_MAXHOST] = "", small[256];

    if (address) {
        if (all && getnameinfo(all->ai_addr, all->ai_addrlen, name, sizeof name, NULL, 0, NI_NAMEREQD) == 0)
            full = name;
        else
            return;
    }
    (void)snprintf(small, sizeof small, "%s", full);
    cJSON_AddStringToObject(to, "full", small);
    small[strcspn(small, ".")] = 0;
    cJSON_AddStringToObject(to, "short", small);
}

static void judge_forms(struct diag *d, const cJSON *forms, const char *host, bool address)
{
    const char *full = cJSON_GetStringValue(member(forms, "full"));

    if (address)
        diag_find(
            d, DIAG_SERVED,
            "use its name, or give the service an alias: sallyport account alias HOST --add ADDRESS",
            "%s is an address: programs ask for a ticket for the address itself, which few services have",
            host);
    else if (full && !strchr(full, '.'))
        diag_find(d, DIAG_SERVED,
                  "put HOST.DOMAIN first in its line of /etc/hosts, or set search in resolv.conf",
                  "%s has no full name: services are usually named by HOST.DOMAIN", host);
}

/* ---- the realm that programs take it for ---- */

static void map(struct diag *d, cJSON *to, const char *name)
{
    char realm[256], line[256];

    if (host_find_mapped(name, realm, sizeof realm, line, sizeof line)) {
        cJSON_AddStringToObject(to, "realm", realm);
        cJSON_AddStringToObject(to, "mapped_by", line);
    } else if (host_find_krb5("libdefaults", "default_realm", realm, sizeof realm)) {
        cJSON_AddStringToObject(to, "realm", realm);
        cJSON_AddStringToObject(to, "mapped_by", "default_realm");
    } else if (d->own[0]) {
        (void)snprintf(realm, sizeof realm, "%s", d->own);
        cJSON_AddStringToObject(to, "realm", realm);
        cJSON_AddStringToObject(to, "mapped_by", "nothing: the local realm is taken");
    } else {
        diag_find(d, DIAG_CONFIGURED, "add a line to [domain_realm] of krb5.conf, or default_realm",
                  "nothing says which realm %s is in", name);
        realm[0] = 0;
    }
    (void)snprintf(d->name, sizeof d->name, "%s", realm);
}

bool diag_host(struct diag *d, const char *host, struct sp_err *e)
{
    struct addrinfo hint = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_CANONNAME}, *all = NULL;
    cJSON *to = cJSON_AddObjectToObject(d->report, "host");
    bool address = is_address(host);
    int why = getaddrinfo(host, NULL, &hint, &all);

    (void)e;
    d->resolved = why == 0;
    cJSON_AddStringToObject(to, "name", host);
    if (why != 0)
        diag_find(d, DIAG_NAMED, "correct the name, or add it to DNS or /etc/hosts", "%s has no address: %s",
                  host, gai_strerror(why));
    add_addresses(to, why == 0 ? all : NULL);
    add_forms(to, host, why == 0 ? all : NULL, address);
    if (why == 0) {
        judge_forms(d, to, host, address);
        freeaddrinfo(all);
    }
    const char *full = cJSON_GetStringValue(member(to, "full"));
    map(d, to, full ? full : host);
    return true;
}

/* ---- tickets ---- */

struct forms {
    const char *v[FORMS_MAX];
    uint32_t count;
};

static void add_form(struct forms *f, const char *name)
{
    for (uint32_t i = 0; name && i < f->count; i++)
        if (strcasecmp(f->v[i], name) == 0)
            return;
    if (name && *name && f->count < FORMS_MAX)
        f->v[f->count++] = name;
}

static const struct krb_credential *find_tgt(struct diag *d, cJSON *to)
{
    struct host_ccache cc;
    struct krb_ccache *cache = sp_new(&d->mem, struct krb_ccache, &(struct sp_err){0});
    struct sp_span parts[] = {SP_LIT("krbtgt"), sp_str(d->name)};
    struct krb_name tgs = krb_name_of(NT_SRV_INST, parts, 2);
    struct sp_err e = {0};

    if (!cache || !host_find_ccache(NULL, &cc, &e) || !host_read_ccache(&cc, &d->mem, cache, &e))
        return NULL;
    cJSON_AddStringToObject(to, "cache", cc.name);
    return krb_find_credential(cache, &tgs, sp_str(d->name), host_env().wall_us / 1000000);
}

static bool fetch(struct diag *d, const struct krb_credential *tgt, const char *type, const char *host,
                  int32_t *etype, uint32_t *kvno, struct sp_err *e)
{
    struct sp_span parts[] = {sp_str(type), sp_str(host)}, reply;
    struct client_wish wish = {
        .goal = CLIENT_SERVICE, .client = tgt->client, .realm = tgt->crealm, .tgt = tgt};
    struct client_policy policy;
    struct client_action act;
    struct krb_ticket ticket;
    struct client *cl = NULL;

    wish.service = krb_name_of(NT_SRV_HST, parts, 2);
    client_policy_direct(&policy);
    bool ok = client_start(&cl, d->login->crypto, &policy, &wish, host_env(), &d->login->engine, &act, e);
    while (ok && !act.done)
        ok = diag_carry(d, act.request, &reply, e) && client_reply(cl, host_env(), reply, &act, e);
    ok = ok && client_service(cl) &&
         krb_get(KRB_TICKET, client_service(cl)->ticket, KRB_STRICT, &d->mem, &ticket, e);
    if (ok) {
        *etype = ticket.enc.etype;
        *kvno = KRB_HAS(&ticket.enc, 1) ? (uint32_t)ticket.enc.kvno : 0;
    }
    client_wipe(cl);
    sp_arena_reset(&d->login->engine);
    return ok;
}

/* ---- this host's keytab ---- */

static bool is_here(const cJSON *forms)
{
    const char *name = cJSON_GetStringValue(member(forms, "short"));
    char own[256] = "";

    if (gethostname(own, sizeof own - 1) != 0 || !name)
        return false;
    own[strcspn(own, ".")] = 0;
    return strcasecmp(own, name) == 0;
}

static bool read_keytab(struct diag *d, struct krb_keytab *out, char path[1024])
{
    const char *given = secure_getenv("KRB5_KTNAME");
    struct sp_err e = {0};
    uint8_t *bytes;
    size_t n;
    bool ok;

    if (given)
        (void)snprintf(path, 1024, "%s", given);
    else if (!host_find_krb5("libdefaults", "default_keytab_name", path, 1024))
        (void)snprintf(path, 1024, "%s", KEYTAB);
    if (strncmp(path, "FILE:", 5) == 0)
        memmove(path, path + 5, strlen(path + 5) + 1);
    bytes = cli_read_bytes(path, KEYTAB_MAX, &n, &e);
    if (!bytes)
        return false;
    struct sp_span kept = sp_dup(&d->mem, sp_span(bytes, n), &e);
    sp_wipe(bytes, n);
    free(bytes);
    ok = kept.p && krb_get_keytab(kept, &d->mem, out, &e);
    return ok;
}

/* What the keytab has for that service: nothing, another type, another key, or the key. */
static const char *match(const struct krb_keytab *kt, const char *type, const char *host, int32_t etype,
                         uint32_t kvno)
{
    const char *best = "no entry";

    for (uint32_t i = 0; i < kt->count; i++) {
        const struct krb_keytab_entry *k = &kt->v[i];

        if (k->name.parts.count != 2 || !sp_same(k->name.parts.v[0], sp_str(type)) ||
            !sp_same_nocase(k->name.parts.v[1], sp_str(host)))
            continue;
        if (k->etype == etype && (kvno == 0 || k->kvno == kvno))
            return "has the key";
        best = k->etype == etype ? "another version" : strcmp(best, "no entry") == 0 ? "another type" : best;
    }
    return best;
}

static void judge_keytab(struct diag *d, const char *service, const char *path, const char *has)
{
    if (strcmp(has, "another type") == 0)
        diag_find(d, DIAG_KEYED, "write the keytab again: sallyport service keytab NAME --out FILE",
                  "%s has %s with another encryption type than its tickets", path, service);
    else if (strcmp(has, "another version") == 0)
        diag_find(d, DIAG_KEYED, "write the keytab again: sallyport service keytab NAME --out FILE",
                  "%s has an older or newer key of %s than its tickets", path, service);
}

static void ask_for(struct diag *d, cJSON *list, const struct krb_credential *tgt, const char *type,
                    const char *host, const struct krb_keytab *kt, const char *path)
{
    cJSON *one = cJSON_CreateObject();
    char name[300];
    int32_t etype = 0;
    uint32_t kvno = 0;
    struct sp_err e = {0};

    (void)snprintf(name, sizeof name, "%s/%s", type, host);
    cJSON_AddStringToObject(one, "service", name);
    bool ok = fetch(d, tgt, type, host, &etype, &kvno, &e);
    cJSON_AddStringToObject(one, "ticket",
                            ok                                       ? "yes"
                            : e.proto == KDC_ERR_S_PRINCIPAL_UNKNOWN ? "no such service"
                                                                     : e.text);
    cJSON_AddBoolToObject(one, "had", ok);
    if (ok)
        cJSON_AddNumberToObject(one, "etype", etype);
    if (ok && kt) {
        const char *has = match(kt, type, host, etype, kvno);

        cJSON_AddStringToObject(one, "keytab", has);
        judge_keytab(d, name, path, has);
    }
    cJSON_AddItemToArray(list, one);
}

static bool none_had(const cJSON *list)
{
    const cJSON *one;

    cJSON_ArrayForEach(one, list)
    {
        if (cJSON_IsTrue(member(one, "had")))
            return false;
    }
    return true;
}

void diag_services(struct diag *d, const char *host)
{
    static const char *const types[] = {"HTTP", "cifs", "host"};
    cJSON *to = cJSON_GetObjectItemCaseSensitive(d->report, "host"),
          *list = cJSON_AddArrayToObject(d->report, "services");
    const struct krb_credential *tgt = find_tgt(d, to);
    struct krb_keytab kt;
    struct forms f = {0};
    char path[1024];
    bool keys;

    if (!tgt || !d->works) {
        if (!tgt)
            diag_find(d, DIAG_SERVED, "log in (kinit, or sallyport login) and ask again",
                      "no TGT of %s is in the credential cache: its services were not asked for", d->name);
        return;
    }
    keys = is_here(to) && read_keytab(d, &kt, path);
    add_form(&f, cJSON_GetStringValue(member(to, "full")));
    add_form(&f, cJSON_GetStringValue(member(to, "short")));
    add_form(&f, host);
    for (uint32_t i = 0; i < f.count; i++)
        for (size_t k = 0; k < sizeof types / sizeof types[0] && net_base_now_us() < d->until_us; k++)
            ask_for(d, list, tgt, types[k], f.v[i], keys ? &kt : NULL, path);
    if (none_had(list))
        diag_find(d, DIAG_SERVED,
                  "register one with its KDC (here: sallyport service add HTTP/HOST, then service keytab)",
                  "%s knows no service HTTP, cifs or host of %s under any of its names", d->name, host);
}
