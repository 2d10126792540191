/* SPDX-License-Identifier: MIT */
/* One request for a user who does not exist, by every way there is. An answer, whatever it says, shows that a
 * KDC is there; its error carries the KDC's clock, and where unknown users are hidden, what keys it has. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/diagnose.h"
#include "cli/login.h"
#include "courier/kkdcp.h"
#include "gss/ride.h"
#include "host/env.h"
#include "krb/codes.h"
#include "net/negotiate.h"

#define NOBODY "sallyport-doctor"
#define LIFE_S 36000

bool diag_make_request(struct diag *d, struct sp_err *e)
{
    static int32_t etypes[] = {18, 17, 20, 19, 23};
    struct sp_span user[] = {SP_LIT(NOBODY)}, tgs[] = {SP_LIT("krbtgt"), sp_str(d->name)};
    struct sp_env env = host_env();
    struct krb_kdc_req q = {.pvno = 5, .msg_type = 10};
    uint32_t nonce;

    sp_rng_fill(env.rng, &nonce, sizeof nonce);
    q.body = (struct krb_req_body){
        .has = KRB_BIT(1) | KRB_BIT(3),
        .cname = krb_name_of(NT_PRINCIPAL, user, 1),
        .realm = sp_str(d->name),
        .sname = krb_name_of(NT_SRV_INST, tgs, 2),
        .till = env.wall_us / 1000000 + LIFE_S,
        .nonce = nonce >> 1,
        .etypes = {etypes, sizeof etypes / sizeof etypes[0]}
    };
    return krb_make(KRB_AS_REQ, &q, &d->mem, &d->request, e);
}

/* ---- what came ---- */

static void take_etypes(struct diag_try *t, struct sp_span data)
{
    struct krb_padata pa;
    struct krb_infos2 infos;
    struct sp_err e = {0};

    if (!krb_get(KRB_PADATA, data, KRB_STRICT, &t->d->scratch, &pa, &e))
        return;
    for (uint32_t i = 0; i < pa.count; i++)
        if (pa.v[i].type == PA_ETYPE_INFO2 &&
            krb_get(KRB_INFOS2, pa.v[i].value, KRB_STRICT, &t->d->scratch, &infos, &e))
            for (uint32_t k = 0; k < infos.count && t->etype_count < DIAG_ETYPES_MAX; k++)
                t->etypes[t->etype_count++] = infos.v[k].etype;
}

static void keep_realm(struct diag_try *t, struct sp_span realm)
{
    struct sp_text to = sp_text(t->realm, sizeof t->realm);

    sp_text_safe(&to, realm);
}

static void take_error(struct diag_try *t, const struct krb_error *k)
{
    int64_t now = host_env().wall_us - t->took_us / 2;

    t->code = k->code;
    t->timed = true;
    t->ahead_s = k->stime - now / 1000000;
    keep_realm(t, KRB_HAS(k, 7) && k->code == KDC_ERR_WRONG_REALM ? k->crealm : k->realm);
    if (KRB_HAS(k, 12))
        take_etypes(t, k->data);
}

void diag_take_message(struct diag_try *t, struct sp_span message)
{
    struct krb_error error;
    struct krb_kdc_rep rep;
    struct sp_err e = {0};

    t->d->said = sp_dup(&t->d->mem, message, &(struct sp_err){0});
    if (krb_sniff(message) == KRB_ERROR &&
        krb_get(KRB_ERROR, message, KRB_STRICT, &t->d->scratch, &error, &e)) {
        t->spoke = true;
        take_error(t, &error);
    } else if (krb_sniff(message) == KRB_AS_REP &&
               krb_get(KRB_AS_REP, message, KRB_STRICT, &t->d->scratch, &rep, &e)) {
        t->spoke = true;
        t->etypes[t->etype_count++] = rep.enc.etype;
        keep_realm(t, rep.crealm);
    } else {
        (void)snprintf(t->text, sizeof t->text, "what answers is no KDC");
    }
    sp_arena_reset(&t->d->scratch);
}

static void take_token(struct diag_try *t, struct sp_span token)
{
    struct sp_span message;
    struct sp_err e = {0};

    if (ride_get(RIDE_DRAFT, token, &t->d->scratch, &message, &e)) {
        diag_take_message(t, message);
        return;
    }
    t->code = e.kind == SP_EREFUSED ? e.proto : 0;
    (void)snprintf(
        t->text, sizeof t->text, "%s",
        e.proto == KRB_AP_ERR_IAKERB_KDC_NOT_FOUND     ? "it takes IAKERB and knows no KDC of this realm"
        : e.proto == KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE ? "it takes IAKERB and its KDC does not answer"
                                                       : e.text);
    sp_arena_reset(&t->d->scratch);
}

/* The acceptor's word is good when the next thing to send would be a request to a KDC of that realm. */
static void take_discovery(struct diag_try *t, struct sp_span token)
{
    struct sec_event ev = {.kind = SEC_TOKEN, .bytes = token};
    struct sec_action act;
    struct sec_facts facts;
    struct sp_err e = {0};

    if (sec_step(t->sec, host_env(), &ev, &act, &e)) {
        sec_tell(t->sec, &facts);
        keep_realm(t, facts.realm);
    } else {
        (void)snprintf(t->text, sizeof t->text, "%s", e.text);
    }
}

static void take_body(struct diag_try *t, struct sp_span body)
{
    struct kkdcp m;
    struct sp_err e = {0};

    if (kkdcp_get_reply(body, &t->d->mem, &m, &e))
        diag_take_message(t, m.message);
    else
        (void)snprintf(t->text, sizeof t->text, "no relay answers there: %s", e.text);
}

static void take(struct diag_try *t, struct sp_span bytes)
{
    switch (t->how) {
    case DIAG_POST:
        take_body(t, bytes);
        return;
    case DIAG_RIDE:
        take_token(t, bytes);
        return;
    case DIAG_DISCOVER:
        take_discovery(t, bytes);
        return;
    case DIAG_UDP:
    case DIAG_TCP:
    case DIAG_DOOR:
    case DIAG_SOCKET:
        diag_take_message(t, bytes);
        return;
    }
}

static void exchanged(void *owner, const struct net_exchange_result *r)
{
    struct diag_try *t = owner;

    t->exchange = NULL;
    t->done = true;
    t->end = r->end;
    t->status = r->status;
    t->took_us = r->took_us;
    (void)snprintf(t->text, sizeof t->text, "%s", r->text ? r->text : "");
    if (r->end == NET_EXCHANGE_DONE && r->bytes.n)
        take(t, r->bytes);
    t->d->waiting--;
}

/* ---- how it goes out ---- */

static struct net_exchange *post(struct diag_try *t, const struct net_plan *plan)
{
    const struct kkdcp m = {.message = t->d->request, .realm = sp_str(t->d->name)};
    const struct admin_target *at = &t->place->t;
    struct net_post p = {.plan = *plan,
                         .host = at->host,
                         .port = at->port,
                         .path = at->path,
                         .type = KKDCP_TYPE,
                         .tls = at->tls};
    struct sp_err e = {0};

    return kkdcp_make(&m, &t->d->mem, &p.plan.bytes, &e) ? net_exchange_post(t->d->web, &p) : NULL;
}

static struct net_exchange *negotiate(struct diag_try *t, const struct net_plan *plan)
{
    const struct admin_target *at = &t->place->t;
    struct net_negotiate n = {
        .plan = *plan, .host = at->host, .port = at->port, .path = at->path, .tls = at->tls};

    return net_exchange_negotiate(t->d->web, &n);
}

static struct net_exchange *ride(struct diag_try *t, struct net_plan *plan)
{
    const struct ride r = {RIDE_DRAFT, sp_str(t->d->name), t->d->request};
    struct sp_err e = {0};

    return ride_make(&r, &t->d->mem, &plan->bytes, &e) ? negotiate(t, plan) : NULL;
}

/* Only a context without a realm may ask for one; its password is nobody's and is never used. */
static struct net_exchange *discover(struct diag_try *t, struct net_plan *plan)
{
    const struct sp_span names[] = {SP_LIT("HTTP"), sp_str(t->place->t.host), SP_LIT(NOBODY)};
    struct sec_initiator how = {
        .mechs = {TOKEN_IAKERB},
        .mech_count = 1,
        .spnego = true,
        .wish = { .client = krb_name_of(NT_PRINCIPAL, t->names + 2, 1),
                  .password = SP_LIT("-"),
                  .service = krb_name_of(NT_SRV_HST, t->names, 2)},
        .target_host = sp_str(t->place->t.host),
        .flags = KCTX_MUTUAL,
        .discover = true
    };
    struct sec_event ev = {.kind = SEC_START};
    struct sp_arena mem;
    struct sec_action act;
    struct sp_err e = {0};

    memcpy(t->names, names, sizeof names);
    client_policy_in_band(&how.policy);
    t->block = malloc(SEC_ARENA_MIN);
    if (!t->block)
        return NULL;
    sp_arena_init(&mem, t->block, SEC_ARENA_MIN);
    if (!sec_new_initiator(&t->sec, t->d->login->crypto, &how, &mem, &e) ||
        !sec_step(t->sec, host_env(), &ev, &act, &e))
        return NULL;
    plan->bytes = act.token;
    return negotiate(t, plan);
}

static struct net_exchange *set_off(struct diag_try *t)
{
    struct net_plan plan = {.to = t->to,
                            .bytes = t->d->request,
                            .until_us = net_base_now_us() + DIAG_TRY_US,
                            .reply_max = 65536,
                            .done = exchanged,
                            .owner = t};

    switch (t->how) {
    case DIAG_UDP:
        return net_exchange_udp(t->d->base, &plan);
    case DIAG_TCP:
    case DIAG_DOOR:
        return net_exchange_tcp(t->d->base, &plan);
    case DIAG_POST:
        return post(t, &plan);
    case DIAG_RIDE:
        return ride(t, &plan);
    case DIAG_DISCOVER:
        return discover(t, &plan);
    case DIAG_SOCKET:
        break;
    }
    return NULL;
}

static struct diag_try *add(struct diag *d, enum diag_how how, struct diag_place *p,
                            const struct net_address *to)
{
    struct diag_try *t = &d->tries[d->try_count];

    if (d->try_count == DIAG_TRIES_MAX)
        return NULL;
    d->try_count++;
    *t = (struct diag_try){.d = d, .how = how, .place = p};
    if (to)
        t->to = *to;
    return t;
}

static void begin(struct diag *d, enum diag_how how, struct diag_place *p, const struct net_address *to)
{
    struct diag_try *t = add(d, how, p, to);

    if (!t)
        return;
    t->exchange = set_off(t);
    if (t->exchange) {
        d->waiting++;
        d->begun++;
        return;
    }
    t->done = true;
    t->end = NET_EXCHANGE_REFUSED;
    (void)snprintf(t->text, sizeof t->text, "it could not be begun");
}

/* ---- certificates ---- */

static void looked(void *owner, const struct host_certificate *c)
{
    struct diag_place *p = owner;

    p->certificate = *c;
    p->looked = true;
    p->d->waiting--;
}

static void look(struct diag_place *p)
{
    const char *ca = p->d->config.courier_ca[0] ? p->d->config.courier_ca : NULL;
    struct host_look_at at = {p->address[0], p->t.host, ca, looked, p};

    p->look = p->d->proxied ? NULL : host_look_begin(&p->d->loop, &at);
    if (!p->look)
        return;
    p->look_until_us = net_base_now_us() + DIAG_TRY_US;
    p->d->waiting++;
    p->d->begun++;
}

void diag_end_looks(struct diag *d, int64_t now_us)
{
    for (uint32_t i = 0; i < d->place_count; i++) {
        struct diag_place *p = &d->place[i];

        if (!p->look || p->look_until_us > now_us)
            continue;
        d->waiting -= !p->looked;
        host_look_end(p->look);
        p->look = NULL;
    }
}

/* ---- places and doors ---- */

void diag_begin_tries(struct diag_place *p)
{
    struct diag *d = p->d;

    for (uint32_t i = 0; i < p->address_count; i++) {
        if (p->t.rung == ADMIN_NATIVE) {
            if (!p->t.tcp_only)
                begin(d, DIAG_UDP, p, &p->address[i]);
            begin(d, DIAG_TCP, p, &p->address[i]);
        } else if (p->t.rung == ADMIN_RELAY) {
            begin(d, DIAG_POST, p, &p->address[i]);
        } else {
            begin(d, DIAG_RIDE, p, &p->address[i]);
            begin(d, DIAG_DISCOVER, p, &p->address[i]);
        }
    }
    if (p->t.tls && p->address_count)
        look(p);
}

/* The way of this host's programs: one of the courier's loopback doors, or, for the local realm, its socket.
 */
static void ask_socket(struct diag *d)
{
    struct diag_try *t = add(d, DIAG_SOCKET, NULL, NULL);
    int64_t began = net_base_now_us();
    struct host_courier h;
    struct sp_span reply;
    struct sp_err e = {0};

    if (!t)
        return;
    host_courier_init(&h);
    bool ok =
        host_ask(&h, sp_str(d->name), d->request, sp_span(NULL, 0), DIAG_TRY_US / 1000, &d->mem, &reply, &e);
    host_courier_close(&h);
    t->done = true;
    t->took_us = net_base_now_us() - began;
    t->end = ok ? NET_EXCHANGE_DONE : NET_EXCHANGE_REFUSED;
    t->code = ok ? 0 : e.proto;
    (void)snprintf(t->text, sizeof t->text, "%s", ok ? "" : e.text);
    if (ok)
        diag_take_message(t, reply);
}

void diag_begin_doors(struct diag *d)
{
    struct net_address to;
    struct sp_err e = {0};

    if (!d->runs)
        return;
    if (d->config.courier_kdc_count && net_parse_address(sp_str(d->config.courier_kdc[0]), &to, &e))
        begin(d, DIAG_DOOR, NULL, &to);
    else if (d->is_own)
        ask_socket(d);
}

void diag_end_tries(struct diag *d)
{
    for (uint32_t i = 0; i < d->try_count; i++) {
        struct diag_try *t = &d->tries[i];

        if (t->exchange) {
            net_exchange_cancel(t->exchange);
            t->exchange = NULL;
            t->end = NET_EXCHANGE_LATE;
            (void)snprintf(t->text, sizeof t->text, "no reply in time");
        }
        t->done = true;
        if (t->sec)
            sec_wipe(t->sec);
        free(t->block);
        t->sec = NULL;
        t->block = NULL;
    }
    diag_end_looks(d, INT64_MAX);
}

static bool ask_again(struct diag *d, const struct diag_try *by)
{
    uint32_t at = d->try_count;

    if (by->how == DIAG_SOCKET)
        ask_socket(d);
    else
        begin(d, by->how, by->place, &by->to);
    diag_wait(d);
    diag_end_tries(d);
    d->try_count = at; /* it is no finding */
    return d->said.n > 0;
}

bool diag_carry(struct diag *d, struct sp_span message, struct sp_span *reply, struct sp_err *e)
{
    struct sp_span first = d->request;
    uint32_t i = 0;
    bool ok;

    while (i < d->try_count && (!diag_works(&d->tries[i]) || d->tries[i].how == DIAG_UDP))
        i++;
    if (i == d->try_count)
        return sp_fail(e, SP_EBACKEND, 0, "no way works");
    d->request = message;
    d->said = sp_span(NULL, 0);
    ok = ask_again(d, &d->tries[i]);
    d->request = first;
    *reply = d->said;
    return ok || sp_fail(e, SP_EBACKEND, 0, "no answer");
}
