/* SPDX-License-Identifier: MIT */
/* Sections [realm NAME]. Each line is tried where it stands; the realms are made when all files are read,
 * because a later file replaces what an earlier one said. */
#include <arpa/inet.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "admin/private.h"

enum type {
    PLACES_KDC,
    PLACES_RELAY,
    PLACES_INBAND,
    PRIMARY,
    LADDER,
    DISCOVER,
    NAMES,
    SWITCH,
    UNLESS,
    NUMBER,
    PORT,
    AUTH,
    STAGE
};

struct row {
    const char *key;
    size_t at;
    enum type type;
    uint32_t max;
};

#define R(m) offsetof(struct admin_realm, m)
static const struct row rows[] = {
    {"aliases",                0,                   NAMES,         0      },
    {"kdc",                    0,                   PLACES_KDC,    0      },
    {"primary-kdc",            0,                   PRIMARY,       0      },
    {"relay",                  0,                   PLACES_RELAY,  0      },
    {"ProxyServers",           0,                   PLACES_RELAY,  0      }, /* as Windows' policy calls and writes them */
    {"KdcProxyServer_Enabled", R(relay_off),        UNLESS,        0      },
    {"in-band",                0,                   PLACES_INBAND, 0      },
    {"in-band-timestamp",      R(inband_timestamp), SWITCH,        0      },
    {"ladder",                 0,                   LADDER,        0      },
    {"discover",               0,                   DISCOVER,      0      },
    {"kpasswd",                R(kpasswd),          SWITCH,        0      },
    {"kpasswd-port",           R(kpasswd_port),     PORT,          65535  },
    {"max-in-flight",          R(max_in_flight),    NUMBER,        65536  },
    {"per-source",             R(per_second),       NUMBER,        1000000},
    {"relay-auth",             R(relay_auth),       AUTH,          0      },
    {"via-relay",              R(via_relay),        STAGE,         0      },
};
enum { ROWS = sizeof rows / sizeof rows[0] };

struct setting {
    struct setting *next; /* in the order of first appearance */
    uint32_t realm;
    const struct row *row;
    unsigned file, line;
    char source[128];
    char value[ADMIN_VALUE_MAX];
};

struct admin_realms_reading {
    char name[ADMIN_REALMS_MAX][256];
    uint32_t count;
    struct setting *first, **end;
    struct admin_realm trial;
};

const char *admin_rung_name(enum admin_rung r)
{
    static const char *const names[] = {[ADMIN_LOCAL] = "local",
                                        [ADMIN_NATIVE] = "native",
                                        [ADMIN_RELAY] = "relay",
                                        [ADMIN_INBAND] = "in-band"};

    return r < ADMIN_RUNGS ? names[r] : "unknown";
}

/* ---- values ---- */

static bool is_realm_name(const char *s)
{
    return s[0] && strlen(s) < 256 && !strpbrk(s, "/@: \t");
}

static bool get_names(struct admin_realm *r, char *at, struct admin_why w)
{
    char *word;

    for (r->alias_count = 0; (word = admin_next_word(&at)); r->alias_count++) {
        if (r->alias_count == ADMIN_REALM_ALIASES_MAX)
            return admin_wrong(w, "more than %d aliases", ADMIN_REALM_ALIASES_MAX);
        if (!is_realm_name(word))
            return admin_wrong(w, "\"%.40s\" cannot be the name of a realm", word);
        (void)snprintf(r->alias[r->alias_count], sizeof r->alias[0], "%s", word);
    }
    return true;
}

static bool is_host_name(const char *s)
{
    size_t n = strlen(s);

    return n > 0 && n < ADMIN_HOST_MAX && s[0] != '-' && s[0] != '.' &&
           strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == n;
}

/* Digits and dots that are no address would be taken for one by some resolvers. */
static bool looks_numeric(const char *s)
{
    return s[strspn(s, "0123456789.xXabcdefABCDEF")] == 0 && s[strspn(s, "0123456789.")] == 0;
}

static bool get_host(struct admin_target *t, const char *host, bool bracketed, struct admin_why w)
{
    uint8_t ip[16];

    t->listed_ip = inet_pton(bracketed || strchr(host, ':') ? AF_INET6 : AF_INET, host, ip) == 1;
    if (!t->listed_ip && (bracketed || !is_host_name(host) || looks_numeric(host)))
        return admin_wrong(w, "\"%.60s\" is neither the name of a host nor an address", host);
    (void)snprintf(t->host, sizeof t->host, "%s", host);
    return true;
}

/* host, host:port, 192.0.2.1:88, [2001:db8::1]:88, 2001:db8::1; in place. */
static bool get_place(struct admin_target *t, char *word, uint16_t port, struct admin_why w)
{
    bool bracketed = word[0] == '[';
    char *end = strchr(word, ']'), *colon = bracketed && end ? end + 1 : strchr(word, ':');
    uint64_t n = port;

    if (bracketed != (end != NULL))
        return admin_wrong(w, "\"%.60s\" is neither the name of a host nor an address", word);
    if (!bracketed && colon && strchr(colon + 1, ':'))
        colon = NULL; /* a bare IPv6 address */
    if (colon && *colon) {
        if (*colon != ':' || !sp_decimal(sp_str(colon + 1), 65535, &n) || n == 0)
            return admin_wrong(w, "\"%.60s\" has no port that is a number from 1 to 65535", word);
        *colon = 0;
    }
    if (bracketed)
        *end = 0;
    t->port = (uint16_t)n;
    return get_host(t, word + bracketed, bracketed, w);
}

static bool get_path(struct admin_target *t, const char *path, struct admin_why w)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/-._~!$&'()*+;=:@%";

    if (strlen(path) >= sizeof t->path || path[strspn(path, allowed)])
        return admin_wrong(w, "\"%.60s\" is no path of a URL", path);
    (void)snprintf(t->path, sizeof t->path, "%s", path);
    return true;
}

/* https://host[:port][/path]; http:// only where it is allowed. */
static bool get_url(struct admin_target *t, char *word, const char *path, struct admin_why w)
{
    char *place, *slash, rest[ADMIN_PATH_MAX + 2];

    t->tls = strncasecmp(word, "https://", 8) == 0;
    place = word + (t->tls ? 8 : 7);
    slash = strchr(place, '/');
    if (slash && strlen(slash) >= sizeof rest)
        return admin_wrong(w, "longer than %d bytes: the path of \"%.40s\"", ADMIN_PATH_MAX - 1, word);
    (void)snprintf(rest, sizeof rest, "%s", slash && slash[1] ? slash : path);
    if (slash)
        *slash = 0;
    return get_place(t, place, t->tls ? 443 : 80, w) && get_path(t, rest, w);
}

static bool is_url(const char *word, const char *scheme)
{
    return strncasecmp(word, scheme, strlen(scheme)) == 0;
}

static bool get_kdc(struct admin_target *t, char *word, struct admin_why w)
{
    if (is_url(word, "https://")) { /* as MIT writes a relay */
        t->rung = ADMIN_RELAY;
        return get_url(t, word, "/KdcProxy", w);
    }
    t->rung = ADMIN_NATIVE;
    t->tcp_only = is_url(word, "tcp/");
    return get_place(t, word + (t->tcp_only || is_url(word, "udp/") ? 4 : 0), 88, w);
}

/* host[:port[:path]], as in <https ... /> of Windows' policy. */
static bool get_windows_relay(struct admin_target *t, char *word, struct admin_why w)
{
    char *colon = strchr(word, ':'), *second = colon ? strchr(colon + 1, ':') : NULL;
    char path[ADMIN_PATH_MAX + 2];

    t->rung = ADMIN_RELAY;
    t->tls = true;
    if (second)
        *second = 0;
    if (second && strlen(second + 1) >= ADMIN_PATH_MAX)
        return admin_wrong(w, "longer than %d bytes: the path of \"%.40s\"", ADMIN_PATH_MAX - 1, word);
    (void)snprintf(path, sizeof path, "%s%s", second && second[1] == '/' ? "" : "/",
                   second && second[1] ? second + 1 : "KdcProxy");
    return get_place(t, word, 443, w) && get_path(t, path, w);
}

static bool get_relay(struct admin_target *t, char *word, struct admin_why w)
{
    t->rung = ADMIN_RELAY;
    if (!is_url(word, "https://"))
        return admin_wrong(w, "\"%.60s\" is no relay; write https://host/KdcProxy", word);
    return get_url(t, word, "/KdcProxy", w);
}

static bool get_inband(struct admin_target *t, char *word, struct admin_why w)
{
    t->rung = ADMIN_INBAND;
    if (!is_url(word, "https://") && !is_url(word, "http://"))
        return admin_wrong(
            w, "\"%.60s\" is no server for the in-band rung; write http://host/ or https://host/", word);
    return get_url(t, word, "/", w);
}

typedef bool getter(struct admin_target *t, char *word, struct admin_why w);

static bool get_places(struct admin_realm *r, char *at, getter *get, struct admin_why w)
{
    char *word;

    while ((word = admin_next_word(&at))) {
        struct admin_target *t = &r->target[r->target_count];

        if (r->target_count == ADMIN_TARGETS_MAX)
            return admin_wrong(w, "more than %d places that a realm's requests can go to", ADMIN_TARGETS_MAX);
        *t = (struct admin_target){0};
        if (!get(t, word, w))
            return false;
        r->target_count++;
    }
    return true;
}

/* <https relay1:443:KdcProxy relay2 /> or a list of URLs */
static bool get_relays(struct admin_realm *r, char *s, struct admin_why w)
{
    size_t n;

    if (strncasecmp(s, "<https", 6) != 0)
        return get_places(r, s, get_relay, w);
    n = strlen(s);
    if (n < 8 || strcmp(s + n - 2, "/>") != 0)
        return admin_wrong(w, "\"%.60s\" does not end with />", s);
    s[n - 2] = 0;
    return get_places(r, s + 6, get_windows_relay, w);
}

/* Marks the one that is listed already, or is one more. */
static bool get_primary(struct admin_realm *r, char *s, struct admin_why w)
{
    struct admin_target t = {0};

    if (!get_kdc(&t, s, w))
        return false;
    if (t.rung != ADMIN_NATIVE)
        return admin_wrong(w, "a KDC is wanted: host or host:port");
    t.primary = true;
    for (uint32_t i = 0; i < r->target_count; i++) {
        struct admin_target *have = &r->target[i];
        if (have->rung == ADMIN_NATIVE && have->port == t.port && strcasecmp(have->host, t.host) == 0)
            return have->primary = true;
    }
    if (r->target_count == ADMIN_TARGETS_MAX)
        return admin_wrong(w, "more than %d places that a realm's requests can go to", ADMIN_TARGETS_MAX);
    r->target[r->target_count++] = t;
    return true;
}

static bool get_ladder(struct admin_realm *r, char *at, struct admin_why w)
{
    char *word;

    for (r->rung_count = 0; (word = admin_next_word(&at)); r->rung_count++) {
        uint8_t rung = 0;

        while (rung < ADMIN_RUNGS && strcmp(word, admin_rung_name((enum admin_rung)rung)) != 0)
            rung++;
        if (rung == ADMIN_RUNGS)
            return admin_wrong(w, "\"%.40s\" is no rung; native, relay, in-band and local are", word);
        for (uint32_t i = 0; i < r->rung_count; i++)
            if (r->ladder[i] == rung)
                return admin_wrong(w, "%.40s is there twice", word);
        r->ladder[r->rung_count] = rung;
    }
    return r->rung_count > 0 || admin_wrong(w, "a ladder needs a rung");
}

static bool get_word(const char *const *words, const char *s, uint8_t *out, struct admin_why w)
{
    for (uint8_t i = 0; words[i]; i++)
        if (strcmp(words[i], s) == 0) {
            *out = i;
            return true;
        }
    return admin_wrong(w, "\"%.40s\" is not one of %s, %s, %s%s%s", s, words[0], words[1], words[2],
                       words[3] ? ", " : "", words[3] ? words[3] : "");
}

static bool get_stage(const char *s, uint8_t *out, struct admin_why w)
{
    static const char *const words[] = {"off", "audit", "on", NULL};
    char said[40];
    struct admin_why unsaid = {said, sizeof said};
    bool on;

    if (strcmp(s, "audit") != 0 && admin_get_switch(s, &on, unsaid)) {
        *out = on ? ADMIN_ON : ADMIN_OFF;
        return true;
    }
    if (!get_word(words, s, out, w))
        return false;
    *out = (uint8_t)(*out + ADMIN_OFF);
    return true;
}

bool admin_get_auth(const char *s, uint32_t *out, struct admin_why w)
{
    static const char *const words[] = {"none", "negotiate", "certificate", "armoured", NULL};
    char copy[ADMIN_VALUE_MAX], *at = copy, *word;
    uint8_t place;

    (void)snprintf(copy, sizeof copy, "%s", s);
    for (*out = 0; (word = admin_next_word(&at)); *out |= 1u << place)
        if (!get_word(words, strcmp(word, "armored") == 0 ? "armoured" : word, &place, w))
            return false;
    return *out != 0 || admin_wrong(w, "write none when nothing is wanted");
}

static bool get_number(const char *s, uint32_t max, uint32_t *out, struct admin_why w)
{
    uint64_t v;

    if (!sp_decimal(sp_str(s), max, &v) || v == 0)
        return admin_wrong(w, "\"%.40s\" is no number from 1 to %u", s, max);
    *out = (uint32_t)v;
    return true;
}

static bool get_value(const struct row *row, struct admin_realm *r, const char *value, struct admin_why w)
{
    static const char *const discover[] = {"static", "srv", "uri", "uri-srv", NULL};
    char copy[ADMIN_VALUE_MAX];
    uint8_t *at = (uint8_t *)r + row->at;
    uint32_t n = 0;

    (void)snprintf(copy, sizeof copy, "%s", value);
    switch (row->type) {
    case PLACES_KDC:
        return get_places(r, copy, get_kdc, w);
    case PLACES_RELAY:
        return get_relays(r, copy, w);
    case PLACES_INBAND:
        return get_places(r, copy, get_inband, w);
    case PRIMARY:
        return get_primary(r, copy, w);
    case LADDER:
        return get_ladder(r, copy, w);
    case DISCOVER:
        return get_word(discover, value, &r->discover, w);
    case NAMES:
        return get_names(r, copy, w);
    case SWITCH:
        return admin_get_switch(value, (bool *)at, w);
    case UNLESS:
        if (!admin_get_switch(value, (bool *)at, w))
            return false;
        *(bool *)at = !*(bool *)at;
        return true;
    case NUMBER:
        return get_number(value, row->max, (uint32_t *)(void *)at, w);
    case PORT:
        if (!get_number(value, row->max, &n, w))
            return false;
        *(uint16_t *)(void *)at = (uint16_t)n;
        return true;
    case AUTH:
        return admin_get_auth(value, (uint32_t *)(void *)at, w);
    case STAGE:
        return get_stage(value, at, w);
    }
    return false;
}

/* ---- lines ---- */

struct admin_realms_reading *admin_realms_begin(void)
{
    struct admin_realms_reading *r = calloc(1, sizeof *r);

    if (r)
        r->end = &r->first;
    return r;
}

void admin_realms_end(struct admin_realms_reading *r)
{
    struct setting *next;

    for (struct setting *s = r ? r->first : NULL; s; s = next) {
        next = s->next;
        free(s);
    }
    free(r);
}

static bool find_row(const char *realm, const char *key, const struct row **out, struct admin_why w)
{
    const struct row *best = rows;

    for (size_t i = 0; i < ROWS; i++) {
        if (strcmp(rows[i].key, key) == 0) {
            *out = &rows[i];
            return true;
        }
        if (admin_word_distance(key, rows[i].key) < admin_word_distance(key, best->key))
            best = &rows[i];
    }
    if (admin_word_distance(key, best->key) <= 3)
        return admin_wrong(w, "[realm %.30s] has no key %.30s; did you mean %s?", realm, key, best->key);
    return admin_wrong(w, "[realm %.30s] has no key %.40s", realm, key);
}

static bool find_realm(struct admin_realms_reading *r, const char *name, uint32_t *out, struct admin_why w)
{
    for (*out = 0; *out < r->count; ++*out)
        if (strcmp(r->name[*out], name) == 0)
            return true;
    if (!is_realm_name(name))
        return admin_wrong(w, "\"%.40s\" cannot be the name of a realm", name);
    if (r->count == ADMIN_REALMS_MAX)
        return admin_wrong(w, "more than %d realms", ADMIN_REALMS_MAX);
    (void)snprintf(r->name[r->count++], sizeof r->name[0], "%s", name);
    return true;
}

static bool is_list(enum type t)
{
    return t == PLACES_KDC || t == PLACES_RELAY || t == PLACES_INBAND || t == NAMES || t == AUTH;
}

static struct setting *find_setting(const struct admin_realms_reading *r, uint32_t realm,
                                    const struct row *row)
{
    struct setting *s = r->first;

    while (s && (s->realm != realm || s->row != row))
        s = s->next;
    return s;
}

static struct setting *add_setting(struct admin_realms_reading *r, uint32_t realm, const struct row *row)
{
    struct setting *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->realm = realm;
    s->row = row;
    *r->end = s;
    r->end = &s->next;
    return s;
}

static bool keep_value(struct setting *s, const char *value, const struct admin_place *at, struct admin_why w)
{
    bool again = s->source[0] && s->file == at->file;
    size_t n = again ? strlen(s->value) : 0;

    if (again && !is_list(s->row->type))
        return admin_wrong(w, "%s is already set in line %u", s->row->key, s->line);
    if (n + strlen(value) + 2 > sizeof s->value)
        return admin_wrong(w, "longer than %d bytes", ADMIN_VALUE_MAX - 2);
    (void)snprintf(s->value + n, sizeof s->value - n, "%s%s", again ? " " : "", value);
    if (again)
        return true;
    s->file = at->file;
    s->line = at->line;
    (void)snprintf(s->source, sizeof s->source, "%s:%u", at->path, at->line);
    return true;
}

bool admin_realms_set(struct admin_realms_reading *r, const char *realm, const char *key, const char *value,
                      const struct admin_place *at, struct admin_why w)
{
    const struct row *row = NULL;
    struct setting *s;
    uint32_t i;

    if (!find_realm(r, realm, &i, w) || !find_row(realm, key, &row, w))
        return false;
    if (!(s = find_setting(r, i, row)) && !(s = add_setting(r, i, row)))
        return admin_wrong(w, "no memory");
    if (!keep_value(s, value, at, w))
        return false;
    memset(&r->trial, 0, sizeof r->trial);
    return get_value(row, &r->trial, s->value, w);
}

/* ---- the whole ---- */

static bool has_rung(const struct admin_realm *r, enum admin_rung rung)
{
    for (uint32_t i = 0; i < r->target_count; i++)
        if (r->target[i].rung == rung)
            return true;
    return rung == ADMIN_LOCAL || (rung != ADMIN_INBAND && r->discover != ADMIN_STATIC);
}

/* A rung that leads nowhere is a mistake; and so is a way that no rung uses. */
static bool check_ladder(const struct admin_realm *r, struct admin_why w)
{
    for (uint32_t i = 0; i < r->rung_count; i++)
        if (!has_rung(r, (enum admin_rung)r->ladder[i]))
            return admin_wrong(w, "[realm %.40s] has the rung %s in its ladder and nowhere to go by it",
                               r->name, admin_rung_name((enum admin_rung)r->ladder[i]));
    return true;
}

/* In the order of the table, so that primary-kdc finds what kdc listed. */
static bool make_realm(const struct admin_realms_reading *r, uint32_t i, struct admin_realm *out,
                       struct sp_err *e)
{
    const struct setting *s = NULL, *last = NULL;
    char text[110] = "";
    struct admin_why w = {text, sizeof text};
    bool ok = true;

    *out = (struct admin_realm){.kpasswd = true};
    (void)snprintf(out->name, sizeof out->name, "%s", r->name[i]);
    for (size_t row = 0; row < ROWS && ok; row++) {
        s = find_setting(r, i, &rows[row]);
        ok = !s || get_value(&rows[row], out, s->value, w);
        last = s ? s : last;
    }
    if (ok && !check_ladder(out, w)) {
        for (size_t row = 0; row < ROWS; row++)
            if (rows[row].type == LADDER)
                last = find_setting(r, i, &rows[row]);
        ok = false;
    }
    return ok || sp_fail(e, SP_EINPUT, 0, "%s: %s", last ? last->source : "", text);
}

static bool is_called(const struct admin_realm *r, const char *name)
{
    for (uint32_t i = 0; i < r->alias_count; i++)
        if (strcasecmp(r->alias[i], name) == 0)
            return true;
    return strcasecmp(r->name, name) == 0;
}

/* Two realms of one name would leave it to chance who sees a request. */
static bool check_names(const struct admin_realms *all, struct sp_err *e)
{
    for (uint32_t i = 0; i < all->count; i++)
        for (uint32_t j = 0; j < all->count; j++) {
            const struct admin_realm *a = &all->v[i], *b = &all->v[j];
            if (i == j)
                continue;
            for (uint32_t k = 0; k < b->alias_count; k++)
                if (is_called(a, b->alias[k]))
                    return sp_fail(e, SP_EINPUT, 0,
                                   "\"%.40s\" is a name of [realm %.30s] and of [realm %.30s]", b->alias[k],
                                   a->name, b->name);
            if (i < j && is_called(a, b->name))
                return sp_fail(e, SP_EINPUT, 0, "[realm %.40s] is there twice, as [realm %.40s] too", b->name,
                               a->name);
        }
    return true;
}

bool admin_realms_make(const struct admin_realms_reading *r, struct admin_realms *out, struct sp_err *e)
{
    *out = (struct admin_realms){0};
    if (r->count == 0)
        return true;
    out->v = calloc(r->count, sizeof *out->v);
    if (!out->v)
        return sp_fail(e, SP_ENOMEM, 0, "no memory for the configuration");
    for (; out->count < r->count; out->count++)
        if (!make_realm(r, out->count, &out->v[out->count], e))
            break;
    if (out->count == r->count && check_names(out, e))
        return true;
    admin_free_realms(out);
    return false;
}

void admin_free_realms(struct admin_realms *r)
{
    free(r->v);
    *r = (struct admin_realms){0};
}

/* Of these, only what somebody wrote: a default would have to be shown for every realm. */
void admin_realms_show(const struct admin_realms_reading *r, cJSON *list)
{
    for (const struct setting *s = r->first; s; s = s->next) {
        cJSON *one = cJSON_CreateObject();
        char section[270];

        (void)snprintf(section, sizeof section, "realm %s", r->name[s->realm]);
        cJSON_AddStringToObject(one, "section", section);
        cJSON_AddStringToObject(one, "key", s->row->key);
        cJSON_AddStringToObject(one, "value", s->value);
        cJSON_AddStringToObject(one, "source", s->source);
        cJSON_AddItemToArray(list, one);
    }
}
