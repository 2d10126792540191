/* SPDX-License-Identifier: MIT */
/* sallyport doctor REALM|HOST: which ways lead to a realm, which do not, and what to do about it. */
#include <arpa/inet.h>
#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "cli/diagnose.h"
#include "cli/login.h"
#include "krb/codes.h"

#define SCRATCH (256 * 1024)
#define TURN_MS 100
#define SAY_US 1000000

static const cJSON *member(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

/* ---- waiting ---- */

static void say(struct diag *d)
{
    int64_t now = net_base_now_us();
    const struct diag_place *last = NULL;
    char names[300] = "";
    struct sp_text t = sp_text(names, sizeof names);

    if (now - d->said_us < SAY_US)
        return;
    d->said_us = now;
    for (uint32_t i = 0; i < d->try_count; i++) {
        const struct diag_place *p = d->tries[i].place;

        if (d->tries[i].done || !p || p == last)
            continue;
        last = p;
        sp_text_fmt(&t, "%s%.60s", t.n ? ", " : "", p->t.host);
    }
    (void)fprintf(stderr, "sallyport: %u of %u answers are here%s%s\n", d->begun - d->waiting, d->begun,
                  names[0] ? "; waiting for " : "", names);
}

void diag_wait(struct diag *d)
{
    while (d->waiting && net_base_now_us() < d->until_us) {
        net_base_turn(d->base, TURN_MS);
        diag_end_looks(d, net_base_now_us());
        say(d);
    }
}

/* ---- what is known before anything is asked ---- */

static bool is_called(const struct admin_realm *r, const char *name)
{
    for (uint32_t i = 0; i < r->alias_count; i++)
        if (strcasecmp(r->alias[i], name) == 0)
            return true;
    return strcasecmp(r->name, name) == 0;
}

static bool find_realm(struct diag *d, const char *name)
{
    d->realm = NULL;
    for (uint32_t i = 0; i < d->realms.count && !d->realm; i++)
        if (is_called(&d->realms.v[i], name))
            d->realm = &d->realms.v[i];
    d->is_own = d->own[0] && strcasecmp(d->realm ? d->realm->name : name, d->own) == 0;
    (void)snprintf(d->name, sizeof d->name, "%s", d->realm ? d->realm->name : d->is_own ? d->own : name);
    return d->realm || d->is_own;
}

/* The daemon's word where it can be had, the store's otherwise; neither is needed. */
static void ask_daemon(struct diag *d)
{
    cJSON *request = cJSON_CreateObject(), *status = NULL;
    struct host_courier h;
    struct host_realm own;
    struct sp_err e = {0};

    host_courier_init(&h);
    if (host_hello(&h, DIAG_TRY_US / 1000, &d->scratch, &own, &e)) {
        d->runs = true;
        (void)snprintf(d->own, sizeof d->own, "%.*s", SP_FMT(own.name));
    }
    host_courier_close(&h);
    sp_arena_reset(&d->scratch);
    e = (struct sp_err){0};
    cJSON_AddStringToObject(request, "op", "status");
    if (admin_call(&d->c->paths, request, &status, &e)) {
        const char *realm = cJSON_GetStringValue(member(status, "realm"));
        if (!d->own[0] && realm)
            (void)snprintf(d->own, sizeof d->own, "%s", realm);
        d->courier = cJSON_DetachItemFromObjectCaseSensitive(
            cJSON_GetObjectItemCaseSensitive(status, "daemon"), "courier");
        d->runs = d->runs || d->courier;
    }
    cJSON_Delete(status);
    cJSON_Delete(request);
}

/* ---- the network ---- */

static void proxy_found(void *owner, const struct net_found *f)
{
    struct diag *d = owner;
    uint16_t port = net_port(&d->proxy);

    d->waiting--;
    if (f->count == 0)
        return;
    d->proxy = f->record[0].address;
    net_set_port(&d->proxy, port);
}

static void find_proxy(struct diag *d)
{
    struct net_http_url u;
    struct sp_err e = {0};
    char text[300];

    d->proxied = d->config.courier_proxy[0] != 0;
    if (!d->proxied || !net_parse_url(d->config.courier_proxy, &u, &e))
        return;
    (void)snprintf(text, sizeof text, strchr(u.host, ':') ? "[%s]:%s" : "%s:%s", u.host, u.port);
    if (net_parse_address(sp_str(text), &d->proxy, &e))
        return;
    (void)snprintf(text, sizeof text, "127.0.0.1:%s", u.port);
    if (net_parse_address(sp_str(text), &d->proxy, &(struct sp_err){0}) &&
        net_resolve(d->resolver, NET_LOOKUP_ADDRESS, u.host, proxy_found, d))
        d->waiting++;
    diag_wait(d);
    if (net_is_loopback(&d->proxy) && strcmp(u.host, "localhost") != 0) {
        d->proxy = (struct net_address){0};
        diag_find(d, DIAG_NAMED, "correct [courier] http-proxy", "the HTTP proxy %s has no address", u.host);
    }
}

static bool begin_network(struct diag *d, struct sp_err *e)
{
    const struct admin_config *c = &d->config;
    const struct net_web_settings web = {.ca_file = c->courier_ca[0] ? c->courier_ca : NULL,
                                         .certificate_file =
                                             c->courier_certificate[0] ? c->courier_certificate : NULL,
                                         .proxy = c->courier_proxy[0] ? c->courier_proxy : NULL};

    if (!net_loop_init(&d->loop, e))
        return false;
    d->base = net_base_new(&d->loop, e);
    if (d->base)
        d->resolver = net_resolver_new(d->base, c->courier_resolver[0] ? c->courier_resolver : NULL, e);
    if (d->resolver)
        d->web = net_web_client_new(d->base, &web, e);
    return d->web != NULL;
}

static void end_network(struct diag *d)
{
    diag_end_tries(d);
    if (d->web)
        net_web_client_free(d->web);
    if (d->resolver)
        net_resolver_free(d->resolver);
    net_base_free(d->base);
    net_loop_close(&d->loop);
}

/* ---- the report ---- */

static void add_courier(struct diag *d)
{
    cJSON *out = cJSON_AddObjectToObject(d->report, "courier");
    const cJSON *one, *realms = member(d->courier, "realms");

    cJSON_AddBoolToObject(out, "runs", d->runs);
    cJSON_ArrayForEach(one, realms)
    {
        const char *name = cJSON_GetStringValue(member(one, "realm"));
        if (name && strcmp(name, d->name) == 0)
            cJSON_AddItemToObject(out, "routes", cJSON_Duplicate(member(one, "routes"), true));
    }
}

static void add_configured(struct diag *d)
{
    char section[270];
    cJSON *list;

    cJSON_AddStringToObject(d->report, "realm", d->name);
    cJSON_AddBoolToObject(d->report, "configured", d->realm || d->is_own);
    cJSON_AddBoolToObject(d->report, "local", d->is_own);
    if (!d->realm)
        return;
    (void)snprintf(section, sizeof section, "[realm %s]", d->realm->name);
    cJSON_AddStringToObject(d->report, "section", section);
    list = cJSON_AddArrayToObject(d->report, "aliases");
    for (uint32_t i = 0; i < d->realm->alias_count; i++)
        cJSON_AddItemToArray(list, cJSON_CreateString(d->realm->alias[i]));
}

static bool has_way(const struct diag *d, uint8_t rung)
{
    if (rung == ADMIN_RELAY && d->realm->relay_off)
        return false;
    for (uint32_t i = 0; i < d->place_count; i++)
        if (d->place[i].t.rung == rung)
            return true;
    return false;
}

/* The configured order, else the design's, of what there is. */
static void add_ladder(struct diag *d)
{
    static const uint8_t usual[] = {ADMIN_NATIVE, ADMIN_RELAY, ADMIN_INBAND};
    cJSON *list = cJSON_AddArrayToObject(d->report, "ladder");
    uint32_t count = d->realm ? d->realm->rung_count : 0;

    for (uint32_t i = 0; i < count; i++)
        if (d->realm->ladder[i] != ADMIN_RELAY || !d->realm->relay_off)
            cJSON_AddItemToArray(list,
                                 cJSON_CreateString(admin_rung_name((enum admin_rung)d->realm->ladder[i])));
    if (count == 0 && d->is_own)
        cJSON_AddItemToArray(list, cJSON_CreateString("local"));
    for (size_t i = 0; count == 0 && d->realm && i < sizeof usual; i++)
        if (has_way(d, usual[i]))
            cJSON_AddItemToArray(list, cJSON_CreateString(admin_rung_name((enum admin_rung)usual[i])));
}

static void add_records(struct diag *d)
{
    cJSON *list = cJSON_AddArrayToObject(d->report, "records");

    for (uint32_t i = 0; i < d->record_count; i++) {
        cJSON *one = cJSON_CreateObject();

        cJSON_AddStringToObject(one, "kind", d->record[i].kind);
        cJSON_AddStringToObject(one, "name", d->record[i].name);
        cJSON_AddNumberToObject(one, "priority", d->record[i].priority);
        cJSON_AddStringToObject(one, "says", d->record[i].text);
        cJSON_AddItemToArray(list, one);
    }
}

static void add_certificate(cJSON *to, const struct host_certificate *c)
{
    cJSON *one = cJSON_AddObjectToObject(to, "certificate");
    int64_t left = c->ends_s - host_env().wall_us / 1000000, days = left / 86400 - (left < 0);

    cJSON_AddBoolToObject(one, "trusted", !c->untrusted[0]);
    cJSON_AddBoolToObject(one, "named", c->named);
    cJSON_AddStringToObject(one, "names", c->names);
    cJSON_AddStringToObject(one, "issuer", c->issuer);
    cJSON_AddNumberToObject(one, "days_left", (double)days);
    cJSON_AddStringToObject(one, "protocol", c->protocol);
}

static const char *transport(enum diag_how how)
{
    static const char *const names[] = {
        [DIAG_UDP] = "UDP",         [DIAG_TCP] = "TCP",  [DIAG_POST] = "KKDCP",   [DIAG_RIDE] = "IAKERB",
        [DIAG_DISCOVER] = "IAKERB", [DIAG_DOOR] = "TCP", [DIAG_SOCKET] = "socket"};

    return names[how];
}

static void put_outcome(const struct diag_try *t, char *out, size_t max)
{
    if (t->how == DIAG_DISCOVER)
        (void)snprintf(out, max, "%s%s",
                       t->realm[0]  ? "its realm is "
                       : t->text[0] ? t->text
                                    : "says nothing",
                       t->realm);
    else if (!t->spoke)
        (void)snprintf(out, max, "%s", t->text[0] ? t->text : "no answer");
    else if (t->code == KRB_ERR_RESPONSE_TOO_BIG)
        (void)snprintf(out, max, "answers: over TCP, it says");
    else if (!diag_serves(t))
        (void)snprintf(out, max, "error %d: not for this realm", (int)t->code);
    else
        (void)snprintf(out, max, "%s", diag_works(t) ? "works" : "answers, but a login would fail");
}

static void add_try(cJSON *list, const struct diag_try *t)
{
    cJSON *one = cJSON_CreateObject(), *etypes;
    char text[400];

    cJSON_AddStringToObject(one, "way", diag_rung(t));
    cJSON_AddStringToObject(one, "to", t->place ? t->place->t.host : "here");
    if (t->to.n) {
        net_text_address(&t->to, text);
        cJSON_AddStringToObject(one, "address", text);
    }
    cJSON_AddStringToObject(one, "by", transport(t->how));
    cJSON_AddBoolToObject(one, "works", diag_works(t));
    put_outcome(t, text, sizeof text);
    cJSON_AddStringToObject(one, "outcome", text);
    cJSON_AddNumberToObject(one, "ms", (double)t->took_us / 1000);
    if (t->status)
        cJSON_AddNumberToObject(one, "status", t->status);
    if (t->spoke)
        cJSON_AddNumberToObject(one, "error", t->code);
    if (t->timed)
        cJSON_AddNumberToObject(one, "clock_ahead_s", (double)t->ahead_s);
    if (t->how == DIAG_DISCOVER && t->realm[0])
        cJSON_AddStringToObject(one, "says_realm", t->realm);
    etypes = t->etype_count ? cJSON_AddArrayToObject(one, "etypes") : NULL;
    for (uint32_t i = 0; i < t->etype_count; i++)
        cJSON_AddItemToArray(etypes, cJSON_CreateNumber(t->etypes[i]));
    if (t->place && t->place->looked && t->place->certificate.seen && t->how != DIAG_DISCOVER)
        add_certificate(one, &t->place->certificate);
    cJSON_AddItemToArray(list, one);
}

static void add_tries(struct diag *d)
{
    cJSON *list = cJSON_AddArrayToObject(d->report, "tries");

    for (uint32_t i = 0; i < d->try_count; i++)
        add_try(list, &d->tries[i]);
}

static void add_findings(struct diag *d)
{
    cJSON *list = cJSON_AddArrayToObject(d->report, "findings"), *one;

    for (size_t i = 0; i < DIAG_STAGES; i++)
        while ((one = cJSON_DetachItemFromArray(d->findings[i], 0)) != NULL)
            cJSON_AddItemToArray(list, one);
    cJSON_AddBoolToObject(d->report, "works", d->works);
}

/* ---- a realm ---- */

bool diag_realm(struct diag *d, struct sp_err *e)
{
    if (!diag_make_request(d, e))
        return false;
    find_proxy(d);
    diag_begin_doors(d);
    diag_begin_places(d);
    diag_wait(d);
    diag_end_tries(d);
    diag_judge(d);
    add_configured(d);
    add_courier(d);
    add_records(d);
    add_ladder(d);
    return true;
}

static bool is_realm_like(const char *name)
{
    bool letter = false;

    for (const char *p = name; *p; p++) {
        if (islower((unsigned char)*p) || *p == ':' || (unsigned char)*p > 126)
            return false;
        letter = letter || isupper((unsigned char)*p);
    }
    return letter;
}

/* The nearest name, where it is near enough to be meant. */
static void suggest(struct diag *d, const char *name)
{
    const char *best = d->own;
    char todo[700], upper[256];
    struct sp_text t = sp_text(todo, sizeof todo);
    size_t n = strlen(name);

    for (size_t i = 0; i <= n; i++)
        upper[i] = (char)toupper((unsigned char)name[i]);
    for (uint32_t i = 0; i < d->realms.count; i++)
        if (!best[0] || admin_word_distance(upper, d->realms.v[i].name) < admin_word_distance(upper, best))
            best = d->realms.v[i].name;
    if (best[0] && admin_word_distance(upper, best) <= 2 + n / 4)
        sp_text_fmt(&t, "did you mean %s? Else add [realm %s] to sallyport.conf", best, name);
    else
        sp_text_fmt(&t, "add [realm %s] to sallyport.conf", name);
    if (best[0] && admin_word_distance(upper, best) > 2 + n / 4) {
        sp_text_fmt(&t, "; configured are %s", d->own);
        for (uint32_t i = 0; i < d->realms.count && i < 8; i++)
            if (strcasecmp(d->realms.v[i].name, d->own) != 0)
                sp_text_fmt(&t, " %s", d->realms.v[i].name);
    }
    diag_find(d, DIAG_CONFIGURED, todo, "no realm %s is configured here, so nothing is asked for it", name);
}

/* ---- the whole ---- */

static bool examine(struct diag *d, const char *what, struct sp_err *e)
{
    char mapped[256];
    bool host;

    if (strlen(what) >= sizeof d->name)
        return sp_fail(e, SP_EINPUT, 0, "%.40s... is too long for a realm or a host", what);
    ask_daemon(d);
    host = !find_realm(d, what) && !is_realm_like(what);
    cJSON_AddStringToObject(d->report, "asked", what);
    if (host) {
        if (!diag_host(d, what, e))
            return false;
        (void)snprintf(mapped, sizeof mapped, "%s", d->name);
        (void)find_realm(d, mapped);
    }
    if (d->realm || d->is_own) {
        if (!diag_realm(d, e))
            return false;
        if (host)
            diag_services(d, what);
        d->works = d->works && (!host || d->resolved);
    } else if (!host || mapped[0]) {
        suggest(d, host ? mapped : what);
    }
    add_tries(d);
    add_findings(d);
    return true;
}

static bool begin(struct diag *d, struct login *l, struct sp_err *e)
{
    d->report = cJSON_CreateObject();
    for (size_t i = 0; i < DIAG_STAGES; i++)
        d->findings[i] = cJSON_CreateArray();
    d->began_us = d->said_us = net_base_now_us();
    d->until_us = d->began_us + DIAG_ALL_US;
    d->loop.epoll_fd = -1;
    /* TLS comes first: src/crypto leaves OpenSSL without the digests that certificates name. */
    if (!admin_read_config(&d->c->paths, &d->config, e) || !admin_read_realms(&d->c->paths, &d->realms, e) ||
        !begin_network(d, e) || !login_begin(l, d->c, e))
        return false;
    d->login = l;
    d->mem = l->mem;
    d->scratch_block = malloc(SCRATCH);
    if (!d->scratch_block)
        return sp_fail(e, SP_ENOMEM, 0, "out of memory");
    sp_arena_init(&d->scratch, d->scratch_block, SCRATCH);
    return true;
}

bool cli_run_diagnose(struct cli *c, const char *what, cJSON **out, struct sp_err *e)
{
    struct diag *d = calloc(1, sizeof *d);
    struct login l = {0};
    void (*was)(int) = signal(SIGPIPE, SIG_IGN); /* a server that ends a handshake */

    if (!d)
        return sp_fail(e, SP_ENOMEM, 0, "out of memory");
    d->c = c;
    bool ok = begin(d, &l, e) && examine(d, what, e);
    end_network(d);
    if (d->login)
        l.mem = d->mem; /* what is in it is wiped */
    login_end(&l);      /* of one that never began, too */
    admin_free_realms(&d->realms);
    cJSON_Delete(d->courier);
    free(d->scratch_block);
    for (size_t i = 0; i < DIAG_STAGES; i++)
        cJSON_Delete(d->findings[i]);
    if (ok)
        *out = d->report;
    else
        cJSON_Delete(d->report);
    c->verdict = ok && !d->works;
    free(d);
    (void)signal(SIGPIPE, was);
    return ok;
}

/* ---- for people ---- */

static void print_list(const cJSON *result, const char *key, const char *label)
{
    char cell[2048];

    if (cJSON_GetArraySize(member(result, key)))
        printf("%s: %s\n", label, cli_text(result, key, cell, sizeof cell));
}

static void print_table(const cJSON *rows, const struct cli_column *columns)
{
    if (!cJSON_GetArraySize(rows))
        return;
    putchar('\n');
    cli_print_table(rows, columns);
}

static void print_head(const cJSON *result)
{
    char a[1024], b[1024];

    if (member(result, "host"))
        cli_print_object(member(result, "host"), 0);
    if (!member(result, "realm"))
        return;
    printf("realm %s: %s%s\n", cli_text(result, "realm", a, sizeof a),
           member(result, "section") ? cli_text(result, "section", b, sizeof b) : "the local realm",
           member(result, "section") && cJSON_IsTrue(member(result, "local")) ? ", the local realm" : "");
    print_list(result, "aliases", "also called");
    print_list(result, "ladder", "ladder");
}

static void print_certificates(const cJSON *tries)
{
    const cJSON *one, *c;
    char to[300], names[600], issuer[300], days[32];

    cJSON_ArrayForEach(one, tries)
    {
        if ((c = member(one, "certificate")) != NULL)
            printf("\ncertificate at %s: for %s, from %s, %s days left\n", cli_text(one, "to", to, sizeof to),
                   cli_text(c, "names", names, sizeof names), cli_text(c, "issuer", issuer, sizeof issuer),
                   cli_text(c, "days_left", days, sizeof days));
    }
}

void cli_print_diagnosis(const cJSON *result)
{
    static const struct cli_column routes[] = {
        {"RUNG",   "rung"  },
        {"TARGET", "target"},
        {"STATE",  "state" },
        {"REASON", "reason"},
        {NULL,     NULL    }
    };
    static const struct cli_column records[] = {
        {"RECORD", "kind"},
        {"NAME",   "name"},
        {"SAYS",   "says"},
        {NULL,     NULL  }
    };
    static const struct cli_column tries[] = {
        {"WAY",     "way"    },
        {"TO",      "to"     },
        {"ADDRESS", "address"},
        {"BY",      "by"     },
        {"OUTCOME", "outcome"},
        {"MS",      "ms"     },
        {"TYPES",   "etypes" },
        {NULL,      NULL     }
    };
    static const struct cli_column services[] = {
        {"SERVICE", "service"},
        {"TICKET",  "ticket" },
        {"TYPE",    "etype"  },
        {"KEYTAB",  "keytab" },
        {NULL,      NULL     }
    };
    const cJSON *one;
    char a[2048], b[1024];
    bool any = false;

    print_head(result);
    if (member(member(result, "courier"), "routes")) {
        printf("\nwhat the daemon saw last:\n");
        cli_print_table(member(member(result, "courier"), "routes"), routes);
    }
    print_table(member(result, "records"), records);
    print_table(member(result, "tries"), tries);
    print_certificates(member(result, "tries"));
    print_table(member(result, "services"), services);
    cJSON_ArrayForEach(one, member(result, "findings"))
    {
        printf("\n%s\n  -> %s\n", cli_text(one, "what", a, sizeof a), cli_text(one, "do", b, sizeof b));
        any = true;
    }
    printf("\n%s\n", !cJSON_IsTrue(member(result, "works")) ? "no way works"
                     : any                                  ? "a way works"
                                                            : "nothing is wrong");
}
