/* SPDX-License-Identifier: MIT */
/* What the tries say about each way, in words a person can act on. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/diagnose.h"
#include "host/env.h"
#include "krb/codes.h"

#define SOON_S (14 * INT64_C(86400)) /* a certificate that ends within this time is told of */
#define DAY_S 86400
#define SLOW_US 1000000

void diag_find(struct diag *d, enum diag_stage stage, const char *todo, const char *fmt, ...)
{
    static const char *const names[] = {"configuration", "daemon",        "DNS",
                                        "ports",         "clock",         "TLS",
                                        "answer",        "service names", "encryption types"};
    cJSON *one = cJSON_CreateObject();
    char text[1024];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    cJSON_AddStringToObject(one, "about", names[stage]);
    cJSON_AddStringToObject(one, "what", text);
    cJSON_AddStringToObject(one, "do", todo);
    cJSON_AddItemToArray(d->findings[stage], one);
}

bool diag_serves(const struct diag_try *t)
{
    return t->spoke && t->code != KDC_ERR_WRONG_REALM && t->code != KDC_ERR_S_PRINCIPAL_UNKNOWN &&
           t->code != KDC_ERR_SVC_UNAVAILABLE && t->code != KRB_AP_ERR_IAKERB_KDC_NOT_FOUND &&
           t->code != KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE && t->code != KRB_ERR_GENERIC;
}

static bool is_on_time(const struct diag_try *t)
{
    return !t->timed || (t->ahead_s <= DIAG_SKEW_S && t->ahead_s >= -DIAG_SKEW_S);
}

bool diag_works(const struct diag_try *t)
{
    return diag_serves(t) && is_on_time(t) && t->code != KDC_ERR_ETYPE_NOSUPP &&
           t->code != KRB_ERR_RESPONSE_TOO_BIG;
}

const char *diag_rung(const struct diag_try *t)
{
    if (!t->place)
        return t->how == DIAG_DOOR ? "daemon" : "local";
    return admin_rung_name((enum admin_rung)t->place->t.rung);
}

/* ---- reaching it ---- */

static void put_where(const struct diag_try *t, char out[400])
{
    const struct admin_target *at = t->place ? &t->place->t : NULL;
    char address[NET_ADDRESS_TEXT];

    net_text_address(&t->to, address);
    if (!at)
        (void)snprintf(out, 400, "the daemon's own door%s%s", t->how == DIAG_DOOR ? " " : "",
                       t->how == DIAG_DOOR ? address : "");
    else if (at->rung != ADMIN_NATIVE)
        (void)snprintf(out, 400, "%s://%s:%u%s", at->tls ? "https" : "http", at->host, at->port, at->path);
    else if (at->listed_ip)
        (void)snprintf(out, 400, "%s", address);
    else
        (void)snprintf(out, 400, "%s (%s)", at->host, address);
}

static bool is_silent(const struct diag_try *t)
{
    return t && !t->spoke && t->end == NET_EXCHANGE_LATE;
}

static bool is_refused(const struct diag_try *t)
{
    return t && !t->spoke && t->end == NET_EXCHANGE_REFUSED;
}

static bool is_garbled(const struct diag_try *t)
{
    return t && !t->spoke && (t->end == NET_EXCHANGE_GARBLED || t->end == NET_EXCHANGE_DONE);
}

static void judge_neither(struct diag *d, const char *where, const struct diag_try *udp,
                          const struct diag_try *tcp)
{
    const char *by = udp && tcp ? "over UDP and TCP" : udp ? "over UDP" : "over TCP";

    if (is_garbled(udp) || is_garbled(tcp))
        diag_find(d, DIAG_ANSWERED, "correct the port: something else listens there", "%s is no KDC: %s",
                  where, is_garbled(tcp) ? tcp->text : udp->text);
    else if (is_refused(tcp))
        diag_find(
            d, DIAG_REACHED,
            "start the KDC there, or correct kdc =; where the host itself is not reached, look at its route",
            "%s cannot be reached %s: %s", where, by, tcp->text);
    else
        diag_find(
            d, DIAG_REACHED,
            "a firewall drops it or the host is down: open UDP and TCP to that port, or add a relay = for "
            "networks that only let 443 through",
            "%s is silent %s: nothing came back in 3 s", where, by);
}

/* One address of a KDC: its two ports together. */
static void judge_ports(struct diag *d, const struct diag_try *udp, const struct diag_try *tcp)
{
    char where[400];

    put_where(tcp, where);
    if ((!udp || !udp->spoke) && !tcp->spoke)
        judge_neither(d, where, udp, tcp);
    else if (udp && !udp->spoke)
        diag_find(d, DIAG_REACHED,
                  "open that port for UDP, or write kdc = tcp/HOST so that nobody waits for it",
                  "%s answers over TCP, not over UDP: %s", where, udp->text);
    else if (!tcp->spoke)
        diag_find(d, DIAG_REACHED, "open that port for TCP: tickets that do not fit a datagram need it",
                  "%s answers over UDP, not over TCP: %s", where, tcp->text);
}

/* ---- what it says ---- */

static void judge_clock(struct diag *d, const struct diag_try *t, const char *where)
{
    long long off = (long long)llabs(t->ahead_s);

    if (!t->timed || off <= 5)
        return;
    if (!is_on_time(t))
        diag_find(d, DIAG_TIMED,
                  "set the clock that is wrong (timedatectl set-ntp true): Kerberos allows 300 s between two "
                  "clocks",
                  "the clock here is %lld s %s that of %s", off, t->ahead_s > 0 ? "behind" : "ahead of",
                  where);
    else if (off > 60)
        diag_find(d, DIAG_TIMED, "let both clocks follow a time server before 300 s are reached",
                  "the clock here is %lld s %s that of %s", off, t->ahead_s > 0 ? "behind" : "ahead of",
                  where);
}

static bool is_modern(int32_t etype)
{
    return etype >= 17 && etype <= 20;
}

static void judge_etypes(struct diag *d, const struct diag_try *t, const char *where)
{
    bool modern = t->etype_count == 0;

    if (t->code == KDC_ERR_ETYPE_NOSUPP) {
        diag_find(d, DIAG_KEYED, "allow AES on that KDC (types 17 to 20) and set the passwords anew",
                  "%s has no encryption type in common with us (error 14)", where);
        return;
    }
    for (uint32_t i = 0; i < t->etype_count; i++)
        modern = modern || is_modern(t->etypes[i]);
    if (!modern)
        diag_find(d, DIAG_KEYED, "allow AES there (types 17 to 20) and set the passwords anew",
                  "%s offers no AES, only type %d", where, (int)t->etypes[0]);
}

static void judge_realm(struct diag *d, const struct diag_try *t, const char *where)
{
    if (t->code == KDC_ERR_WRONG_REALM || t->code == KDC_ERR_S_PRINCIPAL_UNKNOWN)
        diag_find(d, DIAG_ANSWERED, "correct kdc = or the realm's name: that KDC serves another realm",
                  "%s does not serve %s (error %d%s%s)", where, d->name, (int)t->code,
                  t->code == KDC_ERR_WRONG_REALM ? "; it says " : "",
                  t->code == KDC_ERR_WRONG_REALM ? t->realm : "");
    else
        diag_find(d, DIAG_ANSWERED, "see the log of that KDC", "%s answers with error %d %s", where,
                  (int)t->code, krb_code_name(t->code));
}

static void judge_answer(struct diag *d, const struct diag_try *t)
{
    char where[400];

    put_where(t, where);
    if (!diag_serves(t)) {
        judge_realm(d, t, where);
        return;
    }
    judge_clock(d, t, where);
    judge_etypes(d, t, where);
    if (t->took_us > SLOW_US)
        diag_find(
            d, DIAG_REACHED,
            "look at what the way there loses: one second is what libkrb5 waits before it asks another KDC",
            "%s took %.1f s to answer", where, (double)t->took_us / 1e6);
}

static void judge_native(struct diag *d, const struct diag_place *p)
{
    for (uint32_t i = 0; i < d->try_count; i++) {
        const struct diag_try *t = &d->tries[i], *udp = i && d->tries[i - 1].how == DIAG_UDP ? t - 1 : NULL;

        if (t->place != p || t->how != DIAG_TCP)
            continue;
        if (udp && (udp->place != p || !net_same_address(&udp->to, &t->to)))
            udp = NULL;
        judge_ports(d, udp, t);
        if (t->spoke || (udp && udp->spoke))
            judge_answer(d, t->spoke ? t : udp);
    }
}

/* ---- TLS ---- */

/* true: the handshake cannot succeed, and nothing behind it needs to be told. */
static bool judge_certificate(struct diag *d, const struct diag_place *p)
{
    const struct host_certificate *c = &p->certificate;
    int64_t now = host_env().wall_us / 1000000, left = c->ends_s - now;
    size_t before = (size_t)cJSON_GetArraySize(d->findings[DIAG_TRUSTED]);

    if (!p->looked || !c->seen)
        return false;
    if (left <= 0)
        diag_find(d, DIAG_TRUSTED, "renew it there; the daemon takes a renewed file up on SIGHUP",
                  "the certificate of %s has expired %lld days ago (%s)", p->t.host, (long long)-left / DAY_S,
                  c->ends_first);
    else if (c->begins_s > now)
        diag_find(d, DIAG_TRUSTED, "set the clock here, or have the certificate issued again",
                  "the certificate of %s is not good before %lld days from now", p->t.host,
                  (long long)(c->begins_s - now) / DAY_S + 1);
    if (c->untrusted[0])
        diag_find(d, DIAG_TRUSTED,
                  "name the authority's file in [courier] ca-file, or have the server send its whole chain",
                  "nobody we trust vouches for the certificate of %s: %s (issuer: %s)", p->t.host,
                  c->untrusted, c->issuer);
    if (!c->named)
        diag_find(d, DIAG_TRUSTED,
                  "write one of its names into the URL, or have a certificate issued for this one",
                  "the certificate of %s is for another name: %s", p->t.host, c->names);
    if ((size_t)cJSON_GetArraySize(d->findings[DIAG_TRUSTED]) > before)
        return true;
    if (left < SOON_S)
        diag_find(d, DIAG_TRUSTED, "renew it in time", "the certificate of %s ends in %lld days (%s)",
                  p->t.host, (long long)left / DAY_S, c->ends_first);
    return false;
}

/* ---- relays and servers ---- */

static const char *relay_advice(int32_t status)
{
    switch (status) {
    case 401:
        return "the relay wants to see who asks: [courier] client-certificate, or another auth there";
    case 403:
        return "have the realm listed in the relay's configuration, or show it a certificate";
    case 404:
    case 405:
        return "correct the path of relay =; usual is /KdcProxy";
    case 429:
        return "wait, or raise the relay's limits";
    case 502:
    case 503:
    case 504:
        return "the relay is there and its KDC is not: look at the way from the relay to the KDC";
    default:
        return "see the log of the relay";
    }
}

static void judge_web(struct diag *d, const struct diag_try *t, const char *todo)
{
    char where[400];

    put_where(t, where);
    if (t->status && t->status != 200)
        diag_find(d, DIAG_ANSWERED, todo, "%s: %s", where, t->text[0] ? t->text : "no answer of a KDC");
    else if (is_silent(t))
        diag_find(d, DIAG_REACHED, "a firewall drops it, or the host is down: open TCP to that port",
                  "%s is silent: nothing came back in 3 s", where);
    else if (is_refused(t))
        diag_find(d, DIAG_REACHED, "start the server there, or correct the URL", "%s cannot be reached: %s",
                  where, t->text);
    else
        diag_find(d, DIAG_ANSWERED, todo, "%s: %s", where, t->text);
}

static void judge_relay(struct diag *d, const struct diag_try *t)
{
    if (t->spoke)
        judge_answer(d, t);
    else
        judge_web(d, t, relay_advice(t->status));
}

static void judge_ride(struct diag *d, const struct diag_try *t)
{
    if (t->spoke)
        judge_answer(d, t);
    else if (t->code == KRB_AP_ERR_IAKERB_KDC_NOT_FOUND)
        judge_web(d, t, "name the realm in [iakerb] realms on that server");
    else if (t->code == KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE)
        judge_web(d, t, "look at the way from that server to its KDC");
    else if (t->end == NET_EXCHANGE_DONE)
        judge_web(d, t,
                  "that server does not speak IAKERB: install mech_sallyport there (sallyport doctor on it), "
                  "or name another");
    else if (t->status)
        judge_web(d, t, "name a path of in-band = that asks for Negotiate");
    else
        judge_web(d, t, "name a server of in-band = that speaks HTTP");
}

static void judge_discovery(struct diag *d, const struct diag_try *t)
{
    char where[400];

    put_where(t, where);
    if (t->realm[0] && strcmp(t->realm, d->name) != 0)
        diag_find(d, DIAG_SERVED, "write that realm, or have this one named in [iakerb] realms there",
                  "%s says that its realm is %s", where, t->realm);
}

static void judge_place(struct diag *d, const struct diag_place *p)
{
    bool untrusted;

    if (p->trouble[0] || p->asking)
        diag_find(d, DIAG_NAMED,
                  p->found ? "correct the record in DNS"
                           : "correct the name in sallyport.conf, or in DNS or /etc/hosts",
                  "%s has no address: %s", p->t.host, p->trouble[0] ? p->trouble : "DNS does not answer");
    if (p->t.rung == ADMIN_NATIVE) {
        judge_native(d, p);
        return;
    }
    untrusted = judge_certificate(d, p);
    for (uint32_t i = 0; i < d->try_count; i++) {
        const struct diag_try *t = &d->tries[i];

        if (t->place != p || (untrusted && !t->spoke))
            continue;
        if (t->how == DIAG_POST)
            judge_relay(d, t);
        else if (t->how == DIAG_RIDE)
            judge_ride(d, t);
        else
            judge_discovery(d, t);
    }
}

static void judge_door(struct diag *d, const struct diag_try *t)
{
    char where[400];

    put_where(t, where);
    if (!t->spoke)
        diag_find(d, DIAG_RUNNING, "see 'sallyport status' and the records of the daemon",
                  "%s has no answer for %s: %s", where, d->name, t->text);
    else if (t->code == KRB_AP_ERR_IAKERB_KDC_NOT_FOUND || t->code == KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE)
        diag_find(d, DIAG_RUNNING,
                  "see what is said of each way below; 'sallyport status' has what the daemon saw last",
                  "the daemon gets through to no KDC of %s (error %d)", d->name, (int)t->code);
    else
        judge_answer(d, t);
}

static void judge_start(struct diag *d)
{
    if (!d->realm && !d->is_own)
        return;
    if (!d->runs)
        diag_find(d, DIAG_RUNNING, "start sallyportd",
                  "no sallyportd answers here: programs on this host are not helped by it");
    else if (d->realm && !d->is_own && d->config.courier_kdc_count == 0)
        diag_find(d, DIAG_RUNNING,
                  "set [courier] listen-kdc = 127.0.0.1:88, then see 'sallyport client-config'",
                  "the daemon has no loopback door: programs on this host do not use the ladder");
    if (d->asking)
        diag_find(d, DIAG_NAMED,
                  "see that the name servers of resolv.conf answer, or list the KDCs with kdc =",
                  "DNS does not answer for the records of %s", d->name);
    else if (d->realm && d->realm->discover != ADMIN_STATIC && d->record_count == 0 &&
             !cJSON_GetArraySize(d->findings[DIAG_NAMED]))
        diag_find(d, DIAG_NAMED, "add the records to DNS, or write discover = static and list the KDCs",
                  "DNS has no %s records of %s", d->realm->discover == ADMIN_URI ? "URI" : "SRV", d->name);
    if (d->realm && d->place_count == 0 && !d->is_own)
        diag_find(d, DIAG_CONFIGURED, "add kdc =, relay =, in-band = or discover = to the section",
                  "there is nowhere to go: [realm %s] names no KDC, and DNS names none", d->realm->name);
}

void diag_judge(struct diag *d)
{
    judge_start(d);
    for (uint32_t i = 0; i < d->place_count; i++)
        judge_place(d, &d->place[i]);
    for (uint32_t i = 0; i < d->try_count; i++) {
        if (!d->tries[i].place)
            judge_door(d, &d->tries[i]);
        d->works = d->works || diag_works(&d->tries[i]);
    }
}
