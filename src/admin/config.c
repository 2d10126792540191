/* SPDX-License-Identifier: MIT */
/* sallyport.conf and conf.d: one table says every key there is. A key of a later file replaces the earlier
 * one; in one file a list may be given in several lines, anything else only once. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <pwd.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/private.h"

enum type {
    SECONDS32, /* int32_t: 90, 15m, 10h, 1d, 1h30m */
    SECONDS64,
    SECONDS_U32,
    COUNT,  /* uint32_t */
    SWITCH, /* bool: yes or no */
    CHOICE, /* an enum, by place in `words` */
    WORD,   /* char[16], one of `words` */
    TEXT,   /* char[max] */
    LISTEN, /* char[ADMIN_LISTEN_MAX][64], the count behind it; max: the default port */
    ALIASES,
    ENCTYPES,
    ITERATIONS, /* at: the encryption type */
    UIDS,       /* [courier] attest */
    REALMS,     /* [iakerb] realms */
    LOOPBACK,   /* like LISTEN, and nowhere but on loopback */
    PLACES,     /* char[max]: addresses and absolute paths of UNIX sockets */
    PROXIES,    /* char[max]: addresses without ports, or unix */
    NAMES,      /* char[max]: realms */
    AUTHS,      /* uint32_t: ADMIN_AUTH_* */
    RESERVED,   /* words: why it cannot be set */
};

struct row {
    const char *section, *key;
    enum type type;
    size_t at;
    int64_t min, max;
    const char *words;
};

#define C(m) offsetof(struct admin_config, m)
#define YEAR (366 * 86400)

static const struct row rows[] = {
    {"realm",   "aliases",            ALIASES,     0,                          0,   0,                   NULL                                            },
    {"realm",   "name",               RESERVED,    0,                          0,   0,                   "the realm is fixed by `sallyport init --realm`"},
    {"kdc",     "lifetimes",          CHOICE,      0,                          0,   0,                   "standard|windows-like"                         }, /* applied before all others: see apply */
    {"kdc",     "listen",             LISTEN,      C(listen),                  0,   88,                  NULL                                            },
    {"kdc",     "listen-kpasswd",     LISTEN,      C(listen_kpasswd),          0,   464,                 NULL                                            },
    {"kdc",     "enctypes",           ENCTYPES,    0,                          0,   0,                   NULL                                            },
    {"kdc",     "tgt-life",           SECONDS32,   C(kdc.tgt_life_s),          60,  YEAR,                NULL                                            },
    {"kdc",     "service-life",       SECONDS32,   C(kdc.service_life_s),      60,  YEAR,                NULL                                            },
    {"kdc",     "file-service-life",  SECONDS32,   C(kdc.file_service_life_s), 60,  YEAR,                NULL                                            },
    {"kdc",     "renew-life",         SECONDS32,   C(kdc.renew_life_s),        0,   YEAR,                NULL                                            },
    {"kdc",     "forwardable",        SWITCH,      C(kdc.forwardable),         0,   0,                   NULL                                            },
    {"kdc",     "skew",               SECONDS32,   C(kdc.skew_s),              1,   3600,                NULL                                            },
    {"kdc",     "salt",               CHOICE,      C(kdc.salt),                0,   0,                   "default|random"                                },
    {"kdc",     "spake",              SWITCH,      C(kdc.spake),               0,   0,                   NULL                                            },
    {"kdc",     "spake-challenge",    CHOICE,      C(kdc.challenge),           0,   0,                   "always|on-support"                             },
    {"kdc",     "timestamp",          SWITCH,      C(kdc.timestamp),           0,   0,                   NULL                                            },
    {"kdc",     "guess-limits",       SWITCH,      C(kdc.guess_limits),        0,   0,                   NULL                                            },
    {"kdc",     "reveal-unknown",     SWITCH,      C(kdc.reveal_unknown),      0,   0,                   NULL                                            },
    {"kdc",     "reveal-disabled",    SWITCH,      C(kdc.reveal_disabled),     0,   0,                   NULL                                            },
    {"kdc",     "udp-reply-max",      COUNT,       C(udp_reply_max),           512, 65507,               NULL                                            },
    {"kdc",     "tcp-idle",           SECONDS_U32, C(tcp_idle_s),              1,   3600,                NULL                                            },
    {"kdc",     "tcp-max",            COUNT,       C(tcp_max),                 1,   1000000,             NULL                                            },
    {"kdc",     "tcp-per-source",     COUNT,       C(tcp_per_source),          1,   1000000,             NULL                                            },
    {"policy",  "min-length",         COUNT,       C(password_min),            1,   255,                 NULL                                            },
    {"policy",  "max-age",            SECONDS64,   C(password_max_age_s),      0,   (int64_t)100 * YEAR, NULL                                            },
    {"policy",  "common-passwords",   TEXT,        C(common_passwords),        0,   4096,                NULL                                            },
    {"keys",    "krbtgt-rotate",      SECONDS64,   C(krbtgt_rotate_s),         0,   (int64_t)10 * YEAR,  NULL                                            },
    {"keys",    "iterations-17",      ITERATIONS,  17,                         1,   CRYPTO_S2K_ITER_MAX, NULL                                            },
    {"keys",    "iterations-18",      ITERATIONS,  18,                         1,   CRYPTO_S2K_ITER_MAX, NULL                                            },
    {"keys",    "iterations-19",      ITERATIONS,  19,                         1,   CRYPTO_S2K_ITER_MAX, NULL                                            },
    {"keys",    "iterations-20",      ITERATIONS,  20,                         1,   CRYPTO_S2K_ITER_MAX, NULL                                            },
    {"daemon",  "workers",            COUNT,       C(workers),                 0,   256,                 NULL                                            },
    {"daemon",  "user",               TEXT,        C(user),                    0,   64,                  NULL                                            },
    {"log",     "target",             WORD,        C(log_target),              0,   0,                   "file|journal|stderr"                           },
    {"log",     "flood",              COUNT,       C(log_flood),               1,   1000000,             NULL                                            },
    {"relay",   "listen",             LISTEN,      C(relay_listen),            0,   443,                 NULL                                            },
    {"relay",   "plain-listen",       PLACES,      C(relay_plain),             0,   256,                 NULL                                            },
    {"relay",   "certificate",        TEXT,        C(relay_certificate),       0,   512,                 NULL                                            },
    {"relay",   "key",                TEXT,        C(relay_key),               0,   512,                 NULL                                            },
    {"relay",   "client-ca",          TEXT,        C(relay_client_ca),         0,   512,                 NULL                                            },
    {"relay",   "trusted-proxies",    PROXIES,     C(relay_proxies),           0,   512,                 NULL                                            },
    {"relay",   "realms",             NAMES,       C(relay_realms),            0,   2048,                NULL                                            },
    {"relay",   "auth",               AUTHS,       C(relay_auth),              0,   0,                   NULL                                            },
    {"relay",   "kpasswd",            SWITCH,      C(relay_kpasswd),           0,   0,                   NULL                                            },
    {"relay",   "open-per-second",    COUNT,       C(relay_open),              1,   1000000,             NULL                                            },
    {"relay",   "max-connections",    COUNT,       C(relay_max),               1,   65536,               NULL                                            },
    {"relay",   "per-source",         COUNT,       C(relay_per_source),        1,   65536,               NULL                                            },
    {"metrics", "listen",             PLACES,      C(metrics_listen),          0,   256,                 NULL                                            },
    {"courier", "listen",             SWITCH,      C(courier_listen),          0,   0,                   NULL                                            },
    {"courier", "attest",             UIDS,        0,                          0,   0,                   NULL                                            },
    {"courier", "max-connections",    COUNT,       C(courier_max),             1,   65536,               NULL                                            },
    {"courier", "listen-kdc",         LOOPBACK,    C(courier_kdc),             0,   88,                  NULL                                            },
    {"courier", "listen-kpasswd",     LOOPBACK,    C(courier_kpasswd),         0,   464,                 NULL                                            },
    {"courier", "deadline-ms",        COUNT,       C(courier_all_ms),          100, 4800,                NULL                                            },
    {"courier", "rung-deadline-ms",   COUNT,       C(courier_rung_ms),         50,  4500,                NULL                                            },
    {"courier", "hedge-ms",           COUNT,       C(courier_hedge_ms),        1,   4500,                NULL                                            },
    {"courier", "pin",                SECONDS_U32, C(courier_pin_s),           1,   86400,               NULL                                            },
    {"courier", "max-in-flight",      COUNT,       C(courier_in_flight),       1,   4096,                NULL                                            },
    {"courier", "per-source",         COUNT,       C(courier_per_source),      1,   65536,               NULL                                            },
    {"courier", "resolver",           TEXT,        C(courier_resolver),        0,   256,                 NULL                                            },
    {"courier", "ca-file",            TEXT,        C(courier_ca),              0,   512,                 NULL                                            },
    {"courier", "client-certificate", TEXT,        C(courier_certificate),     0,   512,                 NULL                                            },
    {"courier", "http-proxy",         TEXT,        C(courier_proxy),           0,   256,                 NULL                                            },
    {"iakerb",  "old-mit",            WORD,        C(iakerb_old_mit),          0,   0,                   "off|accept"                                    },
    {"iakerb",  "finished",           WORD,        C(iakerb_finished),         0,   0,                   "required|optional"                             },
    {"iakerb",  "realms",             REALMS,      0,                          0,   0,                   NULL                                            },
    {"client",  "allow-timestamp",    TEXT,        C(client_timestamp),        0,   1024,                NULL                                            },
    {"client",  "old-mit",            TEXT,        C(client_old_mit),          0,   1024,                NULL                                            },
};
enum { ROWS = sizeof rows / sizeof rows[0], PROFILE_ROW = 2, VALUE_MAX = ADMIN_VALUE_MAX };

struct setting {
    char value[VALUE_MAX];
    char source[128]; /* file:line; empty: not set */
    unsigned file, line;
};

struct reading {
    struct setting v[ROWS];
    struct admin_config trial; /* values are tried here, so that a wrong one is found at its line */
    const char *path;
    unsigned file, line;
    FILE *f;
    char why[256];     /* the first trouble of the file being read */
    char section[300]; /* as the line says it: inih cuts it at 49 bytes */
    struct admin_realms_reading *realms;
};

/* ---- values ---- */

bool admin_wrong(struct admin_why w, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(w.text, w.n, fmt, ap);
    va_end(ap);
    return false;
}

static int64_t unit_of(char c)
{
    return c == 's' ? 1 : c == 'm' ? 60 : c == 'h' ? 3600 : c == 'd' ? 86400 : c == 'w' ? 7 * 86400 : 0;
}

static bool parse_seconds(const char *s, int64_t *out)
{
    int64_t all = 0;

    do {
        size_t n = strspn(s, "0123456789");
        uint64_t v;

        if (!sp_decimal(sp_span(s, n), 1000000000, &v))
            return false;
        s += n;
        if (*s && unit_of(*s) == 0)
            return false;
        all += (int64_t)v * (*s ? unit_of(*s) : 1);
        s += *s != 0;
    } while (*s);
    *out = all;
    return true;
}

static void format_seconds(char *out, size_t max, int64_t s)
{
    static const struct {
        int64_t unit;
        char c;
    } u[] = {
        {86400, 'd'},
        {3600,  'h'},
        {60,    'm'},
        {1,     's'}
    };

    for (size_t i = 0; i < 4; i++)
        if (s % u[i].unit == 0 && (s >= u[i].unit || u[i].unit == 1)) {
            snprintf(out, max, "%lld%c", (long long)(s / u[i].unit), u[i].c);
            return;
        }
}

static bool get_seconds(const struct row *r, const char *s, int64_t *out, struct admin_why w)
{
    char low[24], high[24];

    format_seconds(low, sizeof low, r->min);
    format_seconds(high, sizeof high, r->max);
    if (!parse_seconds(s, out))
        return admin_wrong(w, "\"%.40s\" is no duration; write 90s, 15m, 10h or 1d", s);
    if (*out < r->min || *out > r->max)
        return admin_wrong(w, "%.40s is out of range; %s to %s is possible", s, low, high);
    return true;
}

static bool get_count(const struct row *r, const char *s, uint32_t *out, struct admin_why w)
{
    uint64_t v;

    if (!sp_decimal(sp_str(s), UINT32_MAX, &v) || (int64_t)v < r->min || (int64_t)v > r->max)
        return admin_wrong(w, "\"%.40s\" is no number from %lld to %lld", s, (long long)r->min,
                           (long long)r->max);
    *out = (uint32_t)v;
    return true;
}

bool admin_get_switch(const char *s, bool *out, struct admin_why w)
{
    static const char *const yes[] = {"yes", "on", "true", "1"}, *const no[] = {"no", "off", "false", "0"};

    for (size_t i = 0; i < 4; i++) {
        if (strcasecmp(s, yes[i]) == 0 || strcasecmp(s, no[i]) == 0) {
            *out = strcasecmp(s, yes[i]) == 0;
            return true;
        }
    }
    return admin_wrong(w, "\"%.40s\" is neither yes nor no", s);
}

static bool get_choice(const char *words, const char *s, int32_t *out, struct admin_why w)
{
    const char *at = words;

    for (int32_t i = 0; at; i++) {
        size_t n = strcspn(at, "|");

        if (strlen(s) == n && strncmp(at, s, n) == 0) {
            *out = i;
            return true;
        }
        at = at[n] ? at + n + 1 : NULL;
    }
    return admin_wrong(w, "\"%.40s\" is not one of %s", s, words);
}

static bool get_text(char *to, size_t max, const char *s, struct admin_why w)
{
    if (strlen(s) >= max)
        return admin_wrong(w, "longer than %zu bytes", max - 1);
    snprintf(to, max, "%s", s);
    return true;
}

char *admin_next_word(char **at)
{
    char *word = *at + strspn(*at, " \t,");
    size_t n = strcspn(word, " \t,");

    if (n == 0)
        return NULL;
    *at = word + n + (word[n] != 0);
    word[n] = 0;
    return word;
}

static bool get_aliases(struct admin_config *c, const char *s, struct admin_why w)
{
    char copy[VALUE_MAX], *at = copy, *word;

    snprintf(copy, sizeof copy, "%s", s);
    for (c->alias_count = 0; (word = admin_next_word(&at)); c->alias_count++) {
        if (c->alias_count == 16)
            return admin_wrong(w, "more than 16 aliases");
        if (strpbrk(word, "/@:") || !get_text(c->aliases[c->alias_count], 256, word, w))
            return admin_wrong(w, "\"%.40s\" cannot be the name of a realm", word);
    }
    return true;
}

static bool get_realms(struct admin_config *c, const char *s, struct admin_why w)
{
    char copy[VALUE_MAX], *at = copy, *word;

    snprintf(copy, sizeof copy, "%s", s);
    for (c->iakerb_realm_count = 0; (word = admin_next_word(&at)); c->iakerb_realm_count++) {
        if (c->iakerb_realm_count == sizeof c->iakerb_realms / sizeof c->iakerb_realms[0])
            return admin_wrong(w, "more than %zu realms",
                               sizeof c->iakerb_realms / sizeof c->iakerb_realms[0]);
        if (strpbrk(word, "/@:") || !get_text(c->iakerb_realms[c->iakerb_realm_count], 256, word, w))
            return admin_wrong(w, "\"%.40s\" cannot be the name of a realm", word);
    }
    return true;
}

/* A number, or the name of a user of this host. */
static bool get_uid(const char *word, uint32_t *out, struct admin_why w)
{
    char room[4096];
    struct passwd who, *found = NULL;
    uint64_t v;

    if (sp_decimal(sp_str(word), UINT32_MAX - 1, &v)) {
        *out = (uint32_t)v;
        return true;
    }
    if (getpwnam_r(word, &who, room, sizeof room, &found) != 0 || !found)
        return admin_wrong(w, "there is no user \"%.40s\" on this host; write a name of one, or a uid", word);
    *out = who.pw_uid;
    return true;
}

static bool get_uids(struct admin_config *c, const char *s, struct admin_why w)
{
    char copy[VALUE_MAX], *at = copy, *word;

    snprintf(copy, sizeof copy, "%s", s);
    for (c->courier_attest_count = 0; (word = admin_next_word(&at)); c->courier_attest_count++) {
        if (c->courier_attest_count == sizeof c->courier_attest / sizeof c->courier_attest[0])
            return admin_wrong(w, "more than %zu users",
                               sizeof c->courier_attest / sizeof c->courier_attest[0]);
        if (!get_uid(word, &c->courier_attest[c->courier_attest_count], w))
            return false;
    }
    return true;
}

static bool get_enctypes(struct admin_config *c, const char *s, struct admin_why w)
{
    char copy[VALUE_MAX], *at = copy, *word;
    int32_t v[4];
    uint32_t n = 0;

    snprintf(copy, sizeof copy, "%s", s);
    while ((word = admin_next_word(&at))) {
        const struct crypto_type *t = crypto_find_type_named(sp_str(word));

        if (!t)
            return admin_wrong(w, "\"%.40s\" is no encryption type; 17, 18, 19 and 20 are", word);
        for (uint32_t i = 0; i < n; i++)
            if (v[i] == t->etype)
                return admin_wrong(w, "%.40s is there twice", word);
        v[n++] = t->etype;
    }
    if (n == 0)
        return admin_wrong(w, "at least one encryption type is needed");
    memcpy(c->kdc.enctypes, v, sizeof c->kdc.enctypes[0] * n);
    c->kdc.enctype_count = n;
    return true;
}

static bool get_iterations(const struct row *r, struct admin_config *c, const char *s, struct admin_why w)
{
    uint32_t v = 0;

    if (!get_count(r, s, &v, w))
        return false;
    for (uint32_t i = 0; i < c->kdc.enctype_count; i++)
        if (c->kdc.enctypes[i] == (int32_t)r->at)
            c->kdc.iterations[i] = v;
    return true;
}

/* 192.0.2.1, 192.0.2.1:88, 2001:db8::1, [2001:db8::1]:88 as ADDR:PORT */
static bool get_address(char *word, int64_t port, char out[64], struct admin_why w)
{
    char *end = strchr(word, ']'), *colon = end ? end + 1 : strchr(word, ':');
    uint8_t bin[16];
    uint64_t n = (uint64_t)port;
    bool v6 = word[0] == '[', bare6 = !v6 && colon && strchr(colon + 1, ':');

    if ((v6 && !end) || (!v6 && end))
        return admin_wrong(w, "\"%.60s\" is no address; write 192.0.2.1:88 or [2001:db8::1]:88", word);
    if (!bare6 && colon && *colon) {
        if (*colon != ':' || !sp_decimal(sp_str(colon + 1), 65535, &n))
            return admin_wrong(w, "\"%.60s\" has no port that is a number from 0 to 65535", word);
        *colon = 0;
    }
    if (v6)
        *end = 0;
    if (inet_pton(v6 || bare6 ? AF_INET6 : AF_INET, word + v6, bin) != 1)
        return admin_wrong(w, "\"%.60s\" is no address; write 192.0.2.1:88 or [2001:db8::1]:88", word + v6);
    snprintf(out, 64, v6 || bare6 ? "[%.45s]:%u" : "%.45s:%u", word + v6, (unsigned)n);
    return true;
}

static uint32_t *listen_count(const struct row *r, struct admin_config *c)
{
    return r->at == C(listen)           ? &c->listen_count
           : r->at == C(listen_kpasswd) ? &c->listen_kpasswd_count
           : r->at == C(relay_listen)   ? &c->relay_listen_count
           : r->at == C(courier_kdc)    ? &c->courier_kdc_count
                                        : &c->courier_kpasswd_count;
}

static bool get_listen(const struct row *r, struct admin_config *c, const char *s, struct admin_why w)
{
    char copy[VALUE_MAX], *at = copy, *word;
    char(*v)[64] = (char(*)[64])((char *)c + r->at);
    uint32_t *n = listen_count(r, c);

    snprintf(copy, sizeof copy, "%s", s);
    *n = 0;
    if (strcmp(s, "none") == 0)
        return true;
    while ((word = admin_next_word(&at))) {
        if (*n == ADMIN_LISTEN_MAX)
            return admin_wrong(w, "more than %d addresses", ADMIN_LISTEN_MAX);
        if (!get_address(word, r->max, v[*n], w))
            return false;
        ++*n;
    }
    return *n > 0 || admin_wrong(w, "no address; write none to listen nowhere");
}

/* A KDC for everybody is [kdc] listen or [relay]: these doors know nobody but this host's programs. */
static bool get_loopback(const struct row *r, struct admin_config *c, const char *s, struct admin_why w)
{
    char(*v)[64] = (char(*)[64])((char *)c + r->at);

    if (!get_listen(r, c, s, w))
        return false;
    for (uint32_t i = 0; i < *listen_count(r, c); i++)
        if (strncmp(v[i], "127.", 4) != 0 && strncmp(v[i], "[::1]:", 6) != 0)
            return admin_wrong(w, "%.60s is not an address of loopback, which alone is possible here", v[i]);
    return true;
}

/* Every word of the list is looked at by one of these. */
static bool is_place(char *word, struct admin_why w)
{
    char out[64], *colon = strrchr(word, ':');

    if (word[0] == '/')
        return strlen(word) < 100 || admin_wrong(w, "\"%.40s\" is too long for a UNIX socket", word);
    if (!colon || colon[strspn(colon, ":0123456789")])
        return admin_wrong(w, "\"%.60s\" is neither ADDRESS:PORT nor the path of a UNIX socket", word);
    return get_address(word, 0, out, w);
}

static bool is_proxy(char *word, struct admin_why w)
{
    uint8_t bin[16];

    return strcmp(word, "unix") == 0 || inet_pton(AF_INET, word, bin) == 1 ||
           inet_pton(AF_INET6, word, bin) == 1 ||
           admin_wrong(w, "\"%.60s\" is neither an address nor unix", word);
}

static bool is_realm(char *word, struct admin_why w)
{
    return !strpbrk(word, "/@:") || admin_wrong(w, "\"%.40s\" cannot be the name of a realm", word);
}

static bool get_words(const struct row *r, struct admin_config *c, const char *s, struct admin_why w)
{
    char copy[VALUE_MAX], *at = copy, *word;
    bool (*is)(char *, struct admin_why) = r->type == PLACES    ? is_place
                                           : r->type == PROXIES ? is_proxy
                                                                : is_realm;

    snprintf(copy, sizeof copy, "%s", s);
    while ((word = admin_next_word(&at)))
        if (!is(word, w))
            return false;
    return get_text((char *)c + r->at, (size_t)r->max, s, w);
}

static bool get_value(const struct row *r, struct admin_config *c, const char *s, struct admin_why w)
{
    char *at = (char *)c + r->at;
    int64_t seconds = 0;
    int32_t place = 0;

    switch (r->type) {
    case SECONDS32:
        if (!get_seconds(r, s, &seconds, w))
            return false;
        *(int32_t *)(void *)at = (int32_t)seconds;
        return true;
    case SECONDS_U32:
        if (!get_seconds(r, s, &seconds, w))
            return false;
        *(uint32_t *)(void *)at = (uint32_t)seconds;
        return true;
    case SECONDS64:
        return get_seconds(r, s, (int64_t *)(void *)at, w);
    case COUNT:
        return get_count(r, s, (uint32_t *)(void *)at, w);
    case SWITCH:
        return admin_get_switch(s, (bool *)(void *)at, w);
    case CHOICE:
        if (!get_choice(r->words, s, &place, w))
            return false;
        if (r->at == C(kdc.salt))
            c->kdc.salt = place ? KDC_SALT_RANDOM : KDC_SALT_DEFAULT;
        if (r->at == C(kdc.challenge))
            c->kdc.challenge = place ? KDC_CHALLENGE_ON_SUPPORT : KDC_CHALLENGE_ALWAYS;
        return true;
    case WORD:
        return get_choice(r->words, s, &place, w) && get_text(at, 16, s, w);
    case TEXT:
        return get_text(at, (size_t)r->max, s, w);
    case LISTEN:
        return get_listen(r, c, s, w);
    case ALIASES:
        return get_aliases(c, s, w);
    case ENCTYPES:
        return get_enctypes(c, s, w);
    case ITERATIONS:
        return get_iterations(r, c, s, w);
    case UIDS:
        return get_uids(c, s, w);
    case REALMS:
        return get_realms(c, s, w);
    case LOOPBACK:
        return get_loopback(r, c, s, w);
    case PLACES:
        if (strcmp(s, "none") == 0) {
            *at = 0;
            return true;
        }
        return get_words(r, c, s, w);
    case PROXIES:
    case NAMES:
        return get_words(r, c, s, w);
    case AUTHS:
        return admin_get_auth(s, (uint32_t *)(void *)at, w);
    case RESERVED:
        return admin_wrong(w, "%s", r->words);
    }
    return false;
}

/* ---- names, and what was probably meant ---- */

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

unsigned admin_word_distance(const char *a, const char *b)
{
    unsigned row[64], n = (unsigned)strlen(b);

    if (n >= 63)
        return 99;
    for (unsigned j = 0; j <= n; j++)
        row[j] = j;
    for (unsigned i = 1; a[i - 1]; i++) {
        unsigned corner = row[0];

        row[0] = i;
        for (unsigned j = 1; j <= n; j++) {
            unsigned up = row[j];

            row[j] = least(least(up, row[j - 1]) + 1, corner + (a[i - 1] != b[j - 1]));
            corner = up;
        }
    }
    return row[n];
}

static bool unknown_section(const char *section, struct admin_why w)
{
    const char *best = NULL;

    for (size_t i = 0; i < ROWS; i++)
        if (!best || admin_word_distance(section, rows[i].section) < admin_word_distance(section, best))
            best = rows[i].section;
    if (admin_word_distance(section, best) <= 2)
        return admin_wrong(w, "there is no section [%.40s]; did you mean [%s]?", section, best);
    return admin_wrong(w, "there is no section [%.40s]; sallyport.conf(5) has all there are", section);
}

static bool unknown_key(const char *section, const char *key, struct admin_why w)
{
    const struct row *best = NULL;

    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].key && strcmp(rows[i].key, key) == 0)
            return admin_wrong(w, "%s belongs into the section [%s]", key, rows[i].section);
        if (rows[i].key && strcmp(rows[i].section, section) == 0 &&
            (!best || admin_word_distance(key, rows[i].key) < admin_word_distance(key, best->key)))
            best = &rows[i];
    }
    if (best && admin_word_distance(key, best->key) <= 3)
        return admin_wrong(w, "[%s] has no key %.40s; did you mean %s?", section, key, best->key);
    return admin_wrong(w, "[%s] has no key %.40s", section, key);
}

/* The row's number, or -1 with the reason. */
static int find_row(const char *section, const char *key, struct admin_why w)
{
    bool section_known = false;

    if (section[0] == 0)
        return admin_wrong(w, "%.40s stands before the first [section]", key), -1;
    for (int i = 0; i < ROWS; i++) {
        if (strcmp(rows[i].section, section) != 0)
            continue;
        section_known = true;
        if (!rows[i].key || strcmp(rows[i].key, key) == 0)
            return i;
    }
    return section_known ? unknown_key(section, key, w) : unknown_section(section, w), -1;
}

/* ---- files ---- */

/* A long path loses its beginning: the end is what tells files apart. */
static const char *shown_path(const char *path)
{
    size_t n = strlen(path);

    return n > 80 ? path + n - 80 : path;
}

static bool is_list(const struct row *r)
{
    return r->type == LISTEN || r->type == ALIASES || r->type == ENCTYPES || r->type == UIDS ||
           r->type == REALMS || r->type == LOOPBACK || r->type == PLACES || r->type == PROXIES ||
           r->type == NAMES || r->type == AUTHS;
}

static bool set_value(struct reading *r, int i, const char *value, struct admin_why w)
{
    struct setting *s = &r->v[i];
    bool again = s->source[0] && s->file == r->file;
    size_t n = again ? strlen(s->value) : 0;

    if (again && !is_list(&rows[i]))
        return admin_wrong(w, "%s is already set in line %u", rows[i].key, s->line);
    if (n + strlen(value) + 2 > sizeof s->value)
        return admin_wrong(w, "longer than %d bytes", VALUE_MAX - 2);
    snprintf(s->value + n, sizeof s->value - n, "%s%s", again ? " " : "", value);
    if (!again) {
        s->file = r->file;
        s->line = r->line;
        snprintf(s->source, sizeof s->source, "%s:%u", shown_path(r->path), r->line);
    }
    return get_value(&rows[i], &r->trial, s->value, w);
}

static int on_value(void *user, const char *section, const char *key, const char *value)
{
    struct reading *r = user;
    char text[160] = "";
    struct admin_why w = {text, sizeof text};
    int i;

    if (r->why[0])
        return 0;
    if (section[0] && strncmp(section, r->section, strlen(section)) == 0)
        section = r->section;
    if (strncmp(section, "realm ", 6) == 0) {
        const struct admin_place at = {shown_path(r->path), r->file, r->line};
        if (admin_realms_set(r->realms, section + 6 + strspn(section + 6, " "), key, value, &at, w))
            return 1;
        i = -1;
    } else {
        i = find_row(section, key, w);
    }
    if (i >= 0 && set_value(r, i, value, w))
        return 1;
    snprintf(r->why, sizeof r->why, "%s:%u: %s", shown_path(r->path), r->line, text);
    return 0;
}

static void note_section(struct reading *r, const char *line)
{
    const char *at = line, *end = strchr(at, ']');

    if (*at != '[' || !end) /* an indented one may be a value that goes on */
        return;
    if ((size_t)(end - at) > sizeof r->section && !r->why[0])
        snprintf(r->why, sizeof r->why, "%s:%u: the name of a section is longer than %zu bytes",
                 shown_path(r->path), r->line, sizeof r->section - 1);
    snprintf(r->section, sizeof r->section, "%.*s", (int)(end - at - 1), at + 1);
}

/* inih tells the handler no line numbers, and cuts long lines in two: so lines are counted and measured where
 * they are read. */
static char *read_line(char *buf, int max, void *stream)
{
    struct reading *r = stream;
    char *got = fgets(buf, max, r->f);
    size_t n = got ? strlen(got) : 0;

    if (!got)
        return NULL;
    r->line++;
    if (n > 0 && got[n - 1] != '\n' && !feof(r->f) && !r->why[0])
        snprintf(r->why, sizeof r->why,
                 "%s:%u: a line longer than %d bytes; lists may go on in further lines", shown_path(r->path),
                 r->line, max - 2);
    note_section(r, got);
    return got;
}

static bool read_file(struct reading *r, const char *path, bool *missing, struct sp_err *e)
{
    int line;

    r->f = fopen(path, "re");
    *missing = !r->f && errno == ENOENT;
    if (!r->f)
        return *missing || admin_file_failed(path, e);
    r->path = path;
    r->file++;
    r->line = 0;
    errno = 0;
    line = ini_parse_stream(read_line, r, on_value, r);
    if (ferror(r->f)) { /* a directory opens, and cannot be read */
        (void)admin_file_failed(path, e);
        fclose(r->f);
        return false;
    }
    fclose(r->f);
    if (r->why[0])
        return sp_fail(e, SP_EINPUT, 0, "%s", r->why);
    if (line != 0)
        return sp_fail(e, SP_EINPUT, 0, "%s:%d: neither [section] nor key = value", shown_path(path), line);
    return true;
}

static int is_conf(const struct dirent *d)
{
    size_t n = strlen(d->d_name);

    return d->d_name[0] != '.' && n > 5 && strcmp(d->d_name + n - 5, ".conf") == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); /* whatever the locale */
}

static bool read_dir(struct reading *r, const char *dir, struct sp_err *e)
{
    struct dirent **v;
    int n = scandir(dir, &v, is_conf, by_name);
    bool ok = true, missing;

    if (n < 0)
        return errno == ENOENT || admin_file_failed(dir, e);
    for (int i = 0; i < n; i++) {
        char path[4600];

        snprintf(path, sizeof path, "%s/%s", dir, v[i]->d_name);
        ok = ok && read_file(r, path, &missing, e);
        free(v[i]);
    }
    free(v);
    return ok;
}

/* ---- the whole ---- */

static void set_defaults(struct admin_config *c, enum kdc_lifetimes profile)
{
    *c = (struct admin_config){0};
    kdc_config_defaults(&c->kdc, profile);
    snprintf(c->listen[0], sizeof c->listen[0], "127.0.0.1:88");
    snprintf(c->listen[1], sizeof c->listen[1], "[::1]:88");
    snprintf(c->listen_kpasswd[0], sizeof c->listen_kpasswd[0], "127.0.0.1:464");
    snprintf(c->listen_kpasswd[1], sizeof c->listen_kpasswd[1], "[::1]:464");
    c->listen_count = c->listen_kpasswd_count = 2;
    snprintf(c->user, sizeof c->user, "sallyport");
    snprintf(c->log_target, sizeof c->log_target, "file");
    c->log_flood = 100;
    c->udp_reply_max = 4096;
    c->tcp_idle_s = 5;
    c->tcp_max = 16384;
    c->tcp_per_source = 1024;
    c->krbtgt_rotate_s = 86400;
    c->password_min = 12;
    c->courier_listen = true;
    c->courier_max = 1024;
    c->courier_all_ms = 4500;
    c->courier_rung_ms = 900;
    c->courier_hedge_ms = 50;
    c->courier_pin_s = 300;
    c->courier_in_flight = 1024;
    c->courier_per_source = 256;
    c->relay_auth = ADMIN_AUTH_NONE;
    c->relay_open = 20;
    c->relay_max = 4096;
    c->relay_per_source = 64;
    snprintf(c->iakerb_old_mit, sizeof c->iakerb_old_mit, "off");
    snprintf(c->iakerb_finished, sizeof c->iakerb_finished, "required");
}

void admin_bind_config(struct admin_config *c, const char *realm)
{
    c->kdc.realm.name = sp_str(realm);
    for (uint32_t i = 0; i < c->alias_count; i++)
        c->alias_spans[i] = sp_str(c->aliases[i]);
    c->kdc.realm.aliases = (struct sp_spans){c->alias_spans, c->alias_count};
}

/* Every value was tried when it was read, so nothing can fail here. */
static void apply(const struct reading *r, struct admin_config *out)
{
    char text[110];
    struct admin_why w = {text, sizeof text};
    int32_t profile = KDC_STANDARD;

    if (r->v[PROFILE_ROW].source[0])
        sp_assert(get_choice(rows[PROFILE_ROW].words, r->v[PROFILE_ROW].value, &profile, w));
    set_defaults(out, profile ? KDC_WINDOWS_LIKE : KDC_STANDARD);
    for (size_t i = 0; i < ROWS; i++) {
        if (!r->v[i].source[0])
            continue;
        sp_assert(get_value(&rows[i], out, r->v[i].value, w));
        if (rows[i].at == C(kdc.salt))
            out->salt_set = true;
    }
    admin_bind_config(out, "");
}

static void free_reading(struct reading *r)
{
    admin_realms_end(r->realms);
    free(r);
}

static struct reading *read_all(const struct admin_paths *p, struct sp_err *e)
{
    struct reading *r = calloc(1, sizeof *r);
    bool missing;

    if (!r) {
        sp_fail(e, SP_ENOMEM, 0, "no memory for the configuration");
        return NULL;
    }
    r->realms = admin_realms_begin();
    if (!r->realms)
        sp_fail(e, SP_ENOMEM, 0, "no memory for the configuration");
    set_defaults(&r->trial, KDC_STANDARD);
    if (r->realms && read_file(r, p->config, &missing, e) && read_dir(r, p->config_dir, e))
        return r;
    free_reading(r);
    return NULL;
}

/* What no line alone can be blamed for. */
static bool check_whole(const struct reading *r, const struct admin_config *c, struct sp_err *e)
{
    struct admin_realms realms;

    if (!admin_realms_make(r->realms, &realms, e))
        return false;
    admin_free_realms(&realms);
    if (c->relay_listen_count && (!c->relay_certificate[0] || !c->relay_key[0]))
        return sp_fail(e, SP_EINPUT, 0, "[relay] listen wants a certificate and a key beside it");
    if ((c->relay_auth & ADMIN_AUTH_CERTIFICATE) && c->relay_plain[0])
        return sp_fail(
            e, SP_EINPUT, 0,
            "[relay] auth = certificate is not possible behind a proxy that ends TLS (plain-listen)");
    if ((c->relay_auth & ADMIN_AUTH_CERTIFICATE) && !c->relay_client_ca[0])
        return sp_fail(e, SP_EINPUT, 0, "[relay] auth = certificate wants client-ca beside it");
    return true;
}

bool admin_read_config(const struct admin_paths *p, struct admin_config *out, struct sp_err *e)
{
    struct reading *r = read_all(p, e);
    bool ok;

    if (!r)
        return false;
    apply(r, out);
    ok = check_whole(r, out, e);
    free_reading(r);
    return ok;
}

bool admin_read_realms(const struct admin_paths *p, struct admin_realms *out, struct sp_err *e)
{
    struct reading *r = read_all(p, e);
    bool ok;

    *out = (struct admin_realms){0};
    if (!r)
        return false;
    ok = admin_realms_make(r->realms, out, e);
    free_reading(r);
    return ok;
}

/* ---- showing ---- */

static void show_list(struct sp_text *t, const char *v, size_t stride, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        sp_text_fmt(t, "%s%s", i ? " " : "", v + i * stride);
    if (count == 0)
        sp_text_str(t, "none");
}

static void show_seconds(struct sp_text *t, int64_t s)
{
    char buf[32] = "";

    format_seconds(buf, sizeof buf, s);
    sp_text_str(t, buf);
}

static void show_iterations(struct sp_text *t, const struct row *r, const struct admin_config *c)
{
    const struct crypto_type *type = crypto_find_type((int32_t)r->at);
    uint32_t v = type ? type->s2k_iter : 0;

    for (uint32_t i = 0; i < c->kdc.enctype_count; i++)
        if (c->kdc.enctypes[i] == (int32_t)r->at && c->kdc.iterations[i])
            v = c->kdc.iterations[i];
    sp_text_fmt(t, "%u", v);
}

static void show_enctypes(struct sp_text *t, const struct admin_config *c)
{
    for (uint32_t i = 0; i < c->kdc.enctype_count; i++)
        sp_text_fmt(t, "%s%d", i ? " " : "", c->kdc.enctypes[i]);
}

/* A default, as it would be written into a file. */
static void show_default(struct sp_text *t, const struct row *r, struct admin_config *c)
{
    const char *at = (const char *)c + r->at;

    switch (r->type) {
    case SECONDS32:
        show_seconds(t, *(const int32_t *)(const void *)at);
        break;
    case SECONDS_U32:
        show_seconds(t, *(const uint32_t *)(const void *)at);
        break;
    case SECONDS64:
        show_seconds(t, *(const int64_t *)(const void *)at);
        break;
    case COUNT:
        sp_text_fmt(t, "%u", *(const uint32_t *)(const void *)at);
        break;
    case SWITCH:
        sp_text_str(t, *(const bool *)(const void *)at ? "yes" : "no");
        break;
    case CHOICE: /* all begin with their default */
        sp_text_add(t, sp_span(r->words, strcspn(r->words, "|")));
        break;
    case WORD:
    case TEXT:
        sp_text_str(t, at);
        break;
    case PLACES:
    case PROXIES:
    case NAMES:
        sp_text_str(t, *at ? at : "none");
        break;
    case AUTHS: /* as set_defaults has it */
        sp_text_str(t, "none");
        break;
    case LISTEN:
    case LOOPBACK:
        show_list(t, at, 64, *listen_count(r, c));
        break;
    case ALIASES:
        show_list(t, c->aliases[0], sizeof c->aliases[0], c->alias_count);
        break;
    case ENCTYPES:
        show_enctypes(t, c);
        break;
    case ITERATIONS:
        show_iterations(t, r, c);
        break;
    case UIDS: /* these have no default */
    case REALMS:
    case RESERVED:
        break;
    }
}

static void show_row(cJSON *list, const struct row *r, const struct setting *s, struct admin_config *c)
{
    cJSON *one = cJSON_CreateObject();
    char buf[VALUE_MAX];
    struct sp_text t = sp_text(buf, sizeof buf);

    if (s->source[0])
        sp_text_str(&t, s->value);
    else
        show_default(&t, r, c);
    cJSON_AddStringToObject(one, "section", r->section);
    cJSON_AddStringToObject(one, "key", r->key);
    cJSON_AddStringToObject(one, "value", buf);
    cJSON_AddStringToObject(one, "source", s->source[0] ? s->source : "default");
    cJSON_AddItemToArray(list, one);
}

bool admin_show_config(const struct admin_paths *p, cJSON **out, struct sp_err *e)
{
    struct reading *r = read_all(p, e);
    cJSON *list;

    if (!r)
        return false;
    apply(r, &r->trial);
    *out = cJSON_CreateObject();
    list = cJSON_AddArrayToObject(*out, "settings");
    for (size_t i = 0; i < ROWS; i++)
        if (rows[i].type != RESERVED)
            show_row(list, &rows[i], &r->v[i], &r->trial);
    admin_realms_show(r->realms, list);
    free_reading(r);
    return true;
}
