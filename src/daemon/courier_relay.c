/* SPDX-License-Identifier: MIT */
/* The HTTPS door: MS-KKDCP for realms that the configuration names and no others. What is asked of who asks
 * ([relay] auth) are the modes of docs/PROTOCOL.md: nothing, and then little at a time; a client certificate;
 * an armoured request; and what courier_negotiate.c proved of the connection. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "courier/kkdcp.h"
#include "crypto/crypto.h"
#include "daemon/courier.h"
#include "krb/messages.h"

#define OPEN_SLOTS 4096
#define OPEN_BURST_S 2
#define ALL_S 15 /* P45 */

struct courier_open { /* GCRA: when a slot's allowance is whole again; sources may share one */
    uint64_t seed;
    int64_t whole_us[OPEN_SLOTS];
};

struct guest { /* of a connection */
    struct courier_request *request;
    struct courier_negotiation *negotiation;
    char *word; /* that ends it, and goes with the next answer */
};

static void answer(struct net_web_connection *to, int status)
{
    struct net_web_reply reply = {.status = status,
                                  .allow = status == 405 ? "POST" : NULL,
                                  .authenticate = status == 401 ? "Negotiate" : NULL};

    net_web_answer(to, &reply);
}

/* ---- the modes ---- */

/* One place for a source, by a hash nobody outside can aim at. */
static int64_t *open_slot(struct courier_open *o, const uint8_t id[24])
{
    uint64_t h = o->seed;

    for (int i = 0; i < 24; i++)
        h = (h ^ id[i]) * 0x9e3779b97f4a7c15;
    return &o->whole_us[(h >> 40) % OPEN_SLOTS];
}

static bool open_allows(struct courier *c, const uint8_t id[24])
{
    int64_t *whole = open_slot(c->open, id), now = admin_mono_us();
    int64_t each = 1000000 / (c->config.relay_open ? c->config.relay_open : 1);

    if (*whole < now)
        *whole = now;
    if (*whole - now > OPEN_BURST_S * 1000000LL)
        return false;
    *whole += each;
    return true;
}

void courier_forgive(struct courier *c)
{
    if (c->open)
        memset(c->open->whole_us, 0, sizeof c->open->whole_us);
}

struct leave { /* what the configuration says to one request */
    bool go, armoured;
    int status; /* of a refusal */
    const char *why;
};

static struct leave authorize(struct courier *c, uint32_t auth, const struct net_web_request *r,
                              struct courier_request *q)
{
    const char *client = courier_proven_client(((struct guest *)q->guest)->negotiation);
    struct leave yes = {.go = true};

    if ((auth & ADMIN_AUTH_NEGOTIATE) && client) {
        (void)snprintf(q->note, sizeof q->note, "for %.58s", client);
        return yes;
    }
    if ((auth & ADMIN_AUTH_CERTIFICATE) && r->client_certificate.n)
        return yes;
    if (auth & ADMIN_AUTH_NONE)
        return open_allows(c, q->source.id)
                   ? yes
                   : (struct leave){.status = 429, .why = "too many requests of a source that shows nothing"};
    if (auth & ADMIN_AUTH_ARMOURED)
        return (struct leave){.go = true, .armoured = true};
    return (struct leave){.status = (auth & ADMIN_AUTH_NEGOTIATE) && r->tls ? 401 : 403,
                          .why = "who asks has shown nothing of what [relay] auth wants"};
}

/* ---- which realms ---- */

static bool is_listed(const struct courier *c, uint32_t realm)
{
    const char *at = c->config.relay_realms;
    uint32_t other;

    while (*(at += strspn(at, " \t,"))) {
        size_t n = strcspn(at, " \t,");
        if (ladder_find_realm(c->ladder, sp_span(at, n), &other) && other == realm)
            return true;
        at += n;
    }
    return false;
}

struct terms { /* of one realm at this door */
    enum admin_stage stage;
    uint32_t auth;
};

static struct terms terms_of(const struct courier *c, uint32_t realm)
{
    const struct admin_realm *r = courier_realm_at(c, realm);
    struct terms t = {ADMIN_UNSET, r && r->relay_auth ? r->relay_auth : c->config.relay_auth};

    if (r)
        t.stage = (enum admin_stage)r->via_relay;
    if (t.stage == ADMIN_UNSET)
        t.stage = is_listed(c, realm) ? ADMIN_ON : ADMIN_OFF;
    return t;
}

/* ---- answers ---- */

static int status_of(const struct courier_end *end)
{
    return end->garbled ? 502 : 503;
}

static void done(struct courier_request *r, const struct courier_end *end)
{
    struct courier *c = r->courier;
    struct net_web_connection *to = r->owner;
    struct guest *g = r->guest;
    char *word = g->word;
    struct net_web_reply reply = {.status = 200, .type = KKDCP_TYPE, .authenticate = word};
    struct kkdcp m = {.message = end->reply};
    struct sp_err e = {0};

    g->request = NULL;
    g->word = NULL;
    courier_drop_request(r);
    if (!end->answered)
        answer(to, status_of(end));
    else if (!courier_without_text(c, &m.message) || !kkdcp_make(&m, &c->mem, &reply.body, &e))
        answer(to, 502);
    else
        net_web_answer(to, &reply);
    free(word);
}

/* Codes of courier_put as an HTTP client reads them. */
static int status_of_refusal(const struct sp_err *e)
{
    switch (e->proto) {
    case KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE:
        return 429;
    case KRB_AP_ERR_IAKERB_KDC_NOT_FOUND:
    case KDC_ERR_POLICY:
        return 403;
    default:
        return 400;
    }
}

/* ---- requests ---- */

static void refuse(struct courier_request *r, struct net_web_connection *to, int status, struct sp_err *e)
{
    courier_refused(r, e);
    courier_drop_request(r);
    answer(to, status);
}

/* AUDIT carries what ON would refuse, and says so in the record. */
static bool put(struct courier_request *r, const struct terms *t, struct courier_question *q,
                struct sp_err *e)
{
    struct sp_err why = {0};

    if (courier_put(r, q, &why))
        return true;
    if (why.proto == KDC_ERR_POLICY && q->armoured_only && t->stage == ADMIN_AUDIT) {
        q->armoured_only = false;
        (void)snprintf(r->note, sizeof r->note, "via-relay = audit: %.44s", why.text);
        return courier_put(r, q, e);
    }
    *e = why;
    return false;
}

static bool is_request(struct sp_span message)
{
    enum krb_type t = krb_sniff(message);

    return t == KRB_AS_REQ || t == KRB_TGS_REQ;
}

static void carry(struct courier_request *r, const struct net_web_request *w, const struct kkdcp *m)
{
    struct courier *c = r->courier;
    struct courier_question q = {
        .realm = m->realm, .message = m->message, .prefer_primary = kkdcp_wants_primary(m)};
    struct sp_err e = {0};
    struct leave leave;
    struct terms t;
    uint32_t realm;

    if (!ladder_find_realm(c->ladder, m->realm, &realm) || (t = terms_of(c, realm)).stage == ADMIN_OFF) {
        (void)sp_fail(&e, SP_EREFUSED, KRB_AP_ERR_IAKERB_KDC_NOT_FOUND,
                      "the realm \"%.*s\" is not carried here", (int)(m->realm.n < 60 ? m->realm.n : 60),
                      (const char *)m->realm.p);
        refuse(r, w->from, 403, &e);
        return;
    }
    if (!c->config.relay_kpasswd && !is_request(m->message)) {
        (void)sp_fail(&e, SP_EREFUSED, KRB_AP_ERR_MSG_TYPE, "neither an AS-REQ nor a TGS-REQ");
        refuse(r, w->from, 400, &e);
        return;
    }
    leave = authorize(c, t.auth, w, r);
    if (!leave.go && t.stage != ADMIN_AUDIT) {
        (void)sp_fail(&e, SP_EREFUSED, KDC_ERR_POLICY, "%s", leave.why);
        refuse(r, w->from, leave.status, &e);
        return;
    }
    if (!leave.go)
        (void)snprintf(r->note, sizeof r->note, "via-relay = audit: %.44s", leave.why);
    q.armoured_only = leave.armoured;
    if (!put(r, &t, &q, &e))
        refuse(r, w->from, status_of_refusal(&e), &e);
    else
        ((struct guest *)*w->state)->request = r;
}

/* Trailing slashes and case are nothing that two clients write alike. */
static bool is_our_path(struct sp_span path)
{
    static const char ours[] = KKDCP_PATH;
    size_t n = sizeof ours - 1;

    return (path.n == n || (path.n == n + 1 && path.p[n] == '/')) &&
           strncasecmp((const char *)path.p, ours, n) == 0;
}

static bool is_our_type(struct sp_span type)
{
    static const char ours[] = KKDCP_TYPE;
    size_t n = sizeof ours - 1;

    return type.n == 0 || (type.n >= n && strncasecmp((const char *)type.p, ours, n) == 0 &&
                           (type.n == n || type.p[n] == ';' || type.p[n] == ' '));
}

static int wrong_head(const struct net_web_request *w)
{
    if (!is_our_path(w->path))
        return 404;
    if (!sp_same(w->method, SP_LIT("POST")))
        return 405;
    return is_our_type(w->type) ? 0 : 415;
}

static void note_refusal(struct courier *c, const struct net_address *peer, int status, const char *why)
{
    struct kdc_source source;
    char text[160];

    source_of_address(peer, &source);
    (void)snprintf(text, sizeof text, "HTTP %d: %s", status, why);
    courier_note_door(c, LADDER_DOOR_RELAY, &source, text);
}

/* To users of this machine's own realm, whose key a worker has, and where that realm is carried at all. */
static bool offers_negotiate(const struct courier *c)
{
    uint32_t own;
    struct terms t;

    if (!ladder_find_realm(c->ladder, c->realm.name, &own))
        return false;
    t = terms_of(c, own);
    return t.stage != ADMIN_OFF && (t.auth & ADMIN_AUTH_NEGOTIATE);
}

/* T109: what a later version adds is ignored, and that is said once. */
static void note_more(struct courier *c, const struct kdc_source *source, const struct kkdcp *m)
{
    if (!m->more || c->more_said)
        return;
    c->more_said = true;
    courier_note_door(c, LADDER_DOOR_RELAY, source,
                      "fields of a KDC-PROXY-MESSAGE that are not known are ignored");
}

/* A request of MS-KKDCP; word: what ends the negotiation that came with it, or NULL. */
static void take_post(struct courier *c, const struct net_web_request *w, const char *word)
{
    struct guest *g = *w->state;
    struct courier_request *r;
    struct sp_err e = {0};
    struct kkdcp m;

    r = g ? courier_new_request(c, LADDER_DOOR_RELAY) : NULL;
    if (!r) {
        answer(w->from, 503);
        return;
    }
    r->owner = w->from;
    r->guest = g;
    r->done = done;
    free(g->word);
    g->word = word ? strdup(word) : NULL;
    source_of_address(&w->peer, &r->source);
    if (kkdcp_get_request(w->body, &c->mem, &m, &e))
        note_more(c, &r->source, &m);
    if (sp_ok(&e))
        carry(r, w, &m);
    else
        refuse(r, w->from, 400, &e);
}

static void request(void *owner, const struct net_web_request *w)
{
    struct courier *c = owner;
    int status = wrong_head(w);

    if (!*w->state)
        *w->state = calloc(1, sizeof(struct guest));
    if (*w->state && is_our_path(w->path) && courier_shows_token(w) && offers_negotiate(c)) {
        courier_negotiate(c, &((struct guest *)*w->state)->negotiation, w, take_post);
    } else if (status == 405 && w->tls && sp_same(w->method, SP_LIT("GET")) && offers_negotiate(c)) {
        answer(w->from, 401); /* a client that waits to be asked */
    } else if (status) {
        note_refusal(c, &w->peer, status, "not a request of MS-KKDCP");
        answer(w->from, status);
    } else {
        take_post(c, w, NULL);
    }
    sp_arena_reset(&c->mem);
}

static void gone(void *owner, struct net_web_connection *from, void *state)
{
    struct guest *g = state;

    (void)owner;
    (void)from;
    if (g && g->request)
        courier_leave(g->request);
    if (g) {
        courier_end_negotiation(g->negotiation);
        free(g->word);
    }
    free(g);
}

static void refused(void *owner, const struct net_address *peer, int status, const char *why)
{
    note_refusal(owner, peer, status, why);
}

/* ---- opening ---- */

bool courier_start_relay(struct courier *c, struct sp_err *e)
{
    const struct net_web_limits l = {.connections = c->config.relay_max,
                                     .per_source = c->config.relay_per_source,
                                     .body_max = KKDCP_BODY_MAX,
                                     .all_s = ALL_S,
                                     .gets = true};
    const struct net_web_handler h = {.request = request, .gone = gone, .refused = refused, .owner = c};

    c->open = calloc(1, sizeof *c->open);
    if (!c->open)
        return sp_fail(e, SP_ENOMEM, 0, "no memory");
    sp_rng_fill(c->rng, &c->open->seed, sizeof c->open->seed);
    c->web = net_web_new(c->base, &l, &h, e); /* before crypto_new: see there */
    c->crypto = c->web ? crypto_new(e) : NULL;
    return c->crypto != NULL;
}

void courier_use_certificate(struct courier *c, struct sp_span chain, struct sp_span key,
                             struct sp_span client_ca)
{
    struct sp_err e = {0};
    struct net_web_tls *fresh = net_web_tls_new(chain, key, client_ca, &e), *old = c->tls;

    if (!fresh) {
        courier_complain(c, "[relay] certificate", &e);
        return;
    }
    c->tls = fresh;
    net_web_use_tls(c->web, fresh);
    if (old)
        net_web_tls_free(old);
}

static uint32_t read_proxies(const struct courier *c, struct net_address *out, uint32_t max)
{
    const char *at = c->config.relay_proxies;
    uint32_t n = 0;
    char text[NET_ADDRESS_TEXT];
    struct sp_err e = {0};

    while (n < max && *(at += strspn(at, " \t,"))) {
        int len = (int)strcspn(at, " \t,");
        (void)snprintf(text, sizeof text, memchr(at, ':', (size_t)len) ? "[%.*s]:0" : "%.*s:0", len, at);
        out[n] = (struct net_address){0};
        if (len == 4 && strncmp(at, "unix", 4) == 0) {
            out[n].sa.ss_family = AF_UNIX;
            out[n++].n = sizeof(sa_family_t);
        } else {
            n += net_parse_address(sp_str(text), &out[n], &e);
        }
        at += len;
    }
    return n;
}

bool courier_open_relay(struct courier_gate *g, struct sp_err *e)
{
    struct courier *c = g->courier;
    struct net_address proxies[32];
    uint32_t n = read_proxies(c, proxies, 32);

    if (!c->web)
        return sp_fail(e, SP_EBUG, 0, "a relay that was not said to be needed");
    if (g->kind == DOOR_RELAY && !c->tls)
        return sp_fail(e, SP_EINPUT, 0, "the relay has no certificate");
    return net_web_add(c->web, g->watch.fd, g->kind == DOOR_RELAY ? c->tls : NULL,
                       g->kind == DOOR_RELAY_PLAIN ? proxies : NULL, g->kind == DOOR_RELAY_PLAIN ? n : 0, e);
}

void courier_close_relay(struct courier_gate *g)
{
    net_web_remove(g->courier->web, g->watch.fd); /* open: so there is one */
}
