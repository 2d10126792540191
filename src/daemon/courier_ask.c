/* SPDX-License-Identifier: MIT */
/* Requests under way. Each door makes them, the ladder says what is done about them, and each ends by one
 * call of its door and one record: what a worker of ours answered, the worker has written down; all the rest
 * is written here. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/courier.h"
#include "krb/messages.h"

enum { TAG_SERVICE_UID = 'c' };

/* ---- who asks ---- */

bool courier_attests(const struct courier_config *g, uint32_t uid)
{
    for (uint32_t i = 0; i < g->attest_count; i++)
        if (g->attest[i] == uid)
            return true;
    return false;
}

static bool put_address(struct sp_span ip, struct net_address *out)
{
    *out = (struct net_address){.n = ip.n == 4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)};
    out->sa.ss_family = ip.n == 4 ? AF_INET : AF_INET6;
    net_set_bytes(out, ip);
    return ip.n == 4 || ip.n == 16;
}

void courier_source(const struct courier *c, uint32_t uid, struct sp_span address, struct kdc_source *out)
{
    struct net_address at;
    char text[NET_ADDRESS_TEXT];

    if (address.n && courier_attests(&c->config, uid) && put_address(address, &at)) {
        source_of_address(&at, out);
        net_text_host(&at, text);
        (void)snprintf(out->text, sizeof out->text, "%.45s by uid %u", text, uid);
        out->attester = uid + 1;
        return;
    }
    source_of_uid(uid, out);
    out->id[0] = TAG_SERVICE_UID; /* not the budget of that user's own logins */
    out->console = false;         /* root's service speaks for whoever is at its other end */
    out->whole_service = true;
}

/* ---- records ---- */

const char *courier_door_name(enum ladder_door d)
{
    switch (d) {
    case LADDER_DOOR_LOOPBACK_UDP:
    case LADDER_DOOR_LOOPBACK_TCP:
        return "loopback";
    case LADDER_DOOR_SOCKET:
        return "courier";
    case LADDER_DOOR_RELAY:
        break;
    }
    return "relay";
}

void courier_note(struct courier *c, const struct kdc_source *source, const char *event, int32_t code,
                  const char *text)
{
    struct record_facts facts = {.door = "courier", .transport = "in-band", .source = source->text};
    struct kdc_record k = {.event = event, .code = code};

    (void)snprintf(k.text, sizeof k.text, "%s", text);
    record_write(&c->records, admin_env(), &facts, &k);
}

void courier_note_door(struct courier *c, enum ladder_door door, const struct kdc_source *source,
                       const char *text)
{
    struct record_facts facts = {.door = courier_door_name(door), .source = source ? source->text : ""};
    struct kdc_record k = {.event = "malformed", .code = KRB_ERR_GENERIC};

    (void)snprintf(k.text, sizeof k.text, "%s", text);
    record_write(&c->records, admin_env(), &facts, &k);
    courier_count(
        c, &(struct courier_counted){
               .door = courier_door_name(door), .route = "none", .realm = "none", .result = "malformed"});
}

struct outcome {
    const char *event, *transport;
    int32_t code;
    struct sp_span text;
};

static void write_record(struct courier_request *r, const struct outcome *o)
{
    struct sp_env env = admin_env();
    struct record_facts facts = {.door = courier_door_name(r->door),
                                 .transport = o->transport,
                                 .source = r->source.text,
                                 .acceptor = sp_str(r->acceptor),
                                 .took_us = env.mono_us - r->began_us};
    struct kdc_record k = {
        .event = o->event, .code = o->code, .client = sp_str(r->client), .service = sp_str(r->service)};

    (void)snprintf(k.text, sizeof k.text, "%s%s%.*s", r->note, r->note[0] && o->text.n ? "; " : "",
                   SP_FMT(o->text));
    record_write(&r->courier->records, env, &facts, &k);
}

static void count(struct courier_request *r, const char *route, const char *result)
{
    courier_count(r->courier, &(struct courier_counted){.door = courier_door_name(r->door),
                                                        .route = route,
                                                        .realm = r->realm[0] ? r->realm : "none",
                                                        .result = result,
                                                        .took_us = admin_mono_us() - r->began_us});
}

void courier_refused(struct courier_request *r, const struct sp_err *e)
{
    /* To an acceptor the client's own way is in-band, whatever was to follow. */
    const struct outcome o = {.event = "carry",
                              .transport = r->door == LADDER_DOOR_SOCKET ? "in-band" : NULL,
                              .code = e->proto ? e->proto : KRB_ERR_GENERIC,
                              .text = sp_str(e->text)};

    write_record(r, &o);
    count(r, "none", "refused");
}

/* ---- beginning and end of a request ---- */

struct courier_request *courier_new_request(struct courier *c, enum ladder_door door)
{
    struct courier_request *r;

    if (c->request_count == COURIER_ASKS_MAX || !(r = calloc(1, sizeof *r)))
        return NULL;
    do /* tags grow; their lower part is a slot that is free */
        r->tag = ++c->request_serial;
    while (c->requests[r->tag % COURIER_ASKS_MAX]);
    c->requests[r->tag % COURIER_ASKS_MAX] = r;
    c->request_count++;
    r->courier = c;
    r->door = door;
    r->began_us = admin_mono_us();
    return r;
}

void courier_drop_request(struct courier_request *r)
{
    struct courier *c = r->courier;

    c->requests[r->tag % COURIER_ASKS_MAX] = NULL;
    c->request_count--;
    free(r);
}

struct courier_request *courier_find_request(const struct courier *c, uint64_t tag)
{
    struct courier_request *r = c->requests[tag % COURIER_ASKS_MAX];

    return r && r->tag == tag ? r : NULL;
}

void courier_leave(struct courier_request *r)
{
    struct courier *c = r->courier;

    ladder_forget(c->ladder, admin_env(), r->tag);
    courier_drop_request(r);
}

/* ---- what is asked ---- */

static void keep_name(struct courier *c, char out[COURIER_NAME_MAX], const struct krb_name *name,
                      struct sp_span realm)
{
    struct sp_err e = {0};
    char *room = sp_alloc(&c->mem, KRB_NAME_TEXT_MAX, &e);
    struct sp_text t;

    if (!room || name->parts.count == 0)
        return;
    t = sp_text(room, KRB_NAME_TEXT_MAX);
    krb_text_principal(&t, name, realm);
    (void)snprintf(out, COURIER_NAME_MAX, "%.*s", (int)(t.n < COURIER_NAME_MAX ? t.n : COURIER_NAME_MAX - 1),
                   t.p);
}

/* For the record and for refusals; what cannot be read stays empty, and the ladder refuses it. */
static void describe(struct courier_request *r, const struct courier_question *q, struct krb_kdc_req *m)
{
    struct courier *c = r->courier;
    enum krb_type t = krb_sniff(q->message);
    struct sp_err e = {0};

    r->event = t == KRB_AS_REQ ? "as" : t == KRB_TGS_REQ ? "tgs" : "kpasswd";
    r->kpasswd = t != KRB_AS_REQ && t != KRB_TGS_REQ;
    if (r->kpasswd || !krb_get(t, q->message, KRB_STRICT, &c->mem, m, &e))
        return;
    keep_name(c, r->client, &m->body.cname, m->body.realm);
    keep_name(c, r->service, &m->body.sname, m->body.realm);
    (void)snprintf(r->error_realm_text, sizeof r->error_realm_text, "%.*s",
                   (int)(m->body.realm.n < 255 ? m->body.realm.n : 255), (const char *)m->body.realm.p);
}

/* "" and "." mean the realm of this machine, to acceptors. */
static struct sp_span meant_realm(const struct courier_request *r, const struct courier_question *q)
{
    const struct krb_realm *own = &r->courier->realm;

    return r->door == LADDER_DOOR_SOCKET && krb_is_realm_alias(own, q->realm) ? own->name : q->realm;
}

static bool check_own(const struct courier_request *r, const struct krb_kdc_req *m, struct sp_span realm,
                      struct sp_err *e)
{
    const struct krb_realm *own = &r->courier->realm;

    if (r->kpasswd || !sp_same(realm, own->name) || krb_is_realm_alias(own, m->body.realm))
        return true;
    return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_IAKERB_KDC_NOT_FOUND,
                   "the request names a realm to which there is no way: \"%.*s\"",
                   (int)(m->body.realm.n < 60 ? m->body.realm.n : 60), (const char *)m->body.realm.p);
}

/* The workers take no more than KDC_MESSAGE_MAX, and acceptors carry no more. */
static bool check_size(const struct courier_request *r, const struct courier_question *q, struct sp_err *e)
{
    struct sp_span named = q->realm.n ? q->realm : sp_str(r->error_realm_text);

    if (q->message.n <= KDC_MESSAGE_MAX ||
        (r->door != LADDER_DOOR_SOCKET && !krb_is_realm_alias(&r->courier->realm, named)))
        return true;
    return sp_fail(e, SP_EREFUSED, KRB_ERR_FIELD_TOOLONG, "a message of %zu bytes", q->message.n);
}

bool courier_put(struct courier_request *r, const struct courier_question *q, struct sp_err *e)
{
    struct courier *c = r->courier;
    struct krb_kdc_req m = {0};
    struct ladder_request ask = {.door = r->door,
                                 .message = q->message,
                                 .prefer_primary = q->prefer_primary,
                                 .armoured_only = q->armoured_only,
                                 .tag = r->tag};
    uint32_t realm;
    bool ok;

    memcpy(ask.source, r->source.id, sizeof ask.source);
    describe(r, q, &m);
    ask.realm = meant_realm(r, q);
    ok = check_size(r, q, e) && check_own(r, &m, ask.realm, e) && ladder_ask(c->ladder, admin_env(), &ask, e);
    if (ladder_find_realm(c->ladder, ask.realm.n ? ask.realm : sp_str(r->error_realm_text), &realm))
        (void)snprintf(r->realm, sizeof r->realm, "%.*s", SP_FMT(c->realms.ladder[realm].name));
    return ok;
}

/* ---- what comes of it ---- */

bool courier_without_text(struct courier *c, struct sp_span *message)
{
    struct krb_error m;
    struct sp_err e = {0};

    if (krb_sniff(*message) != KRB_ERROR)
        return true;
    if (!krb_get(KRB_ERROR, *message, KRB_STRICT, &c->mem, &m, &e))
        return false;
    if (!KRB_HAS(&m, 11))
        return true;
    m.has &= ~KRB_BIT(11);
    return krb_make(KRB_ERROR, &m, &c->mem, message, &e);
}

struct sp_span courier_make_error(struct courier *c, const struct courier_request *r, int32_t code,
                                  const char *text)
{
    struct sp_env env = admin_env();
    struct sp_span realm = r && r->error_realm_text[0] ? sp_str(r->error_realm_text) : c->realm.name,
                   out = {0};
    struct sp_span parts[2] = {SP_LIT("krbtgt"), realm};
    struct krb_error m = {.stime = env.wall_us / 1000000,
                          .susec = (uint32_t)(env.wall_us % 1000000),
                          .code = code,
                          .realm = realm,
                          .sname = krb_name_of(2, parts, 2)};
    struct sp_err e = {0};

    if (text && text[0]) {
        m.has |= KRB_BIT(11);
        m.text = sp_str(text);
    }
    return krb_make(KRB_ERROR, &m, &c->mem, &out, &e) ? out : (struct sp_span){0};
}

static const char *keep_text(struct courier *c, struct sp_span s)
{
    struct sp_err e = {0};
    char *text = sp_alloc(&c->mem, s.n + 1, &e);

    if (!text)
        return "";
    if (s.n)
        memcpy(text, s.p, s.n);
    text[s.n] = 0;
    return text;
}

static void answered(struct courier_request *r, const struct ladder_action *a)
{
    const char *route = ladder_rung_name(a->rung);
    const struct outcome o = {.event = r->event, .transport = route, .code = a->code, .text = a->text};
    struct courier_end end = {.answered = true, .reply = a->bytes};

    if (a->rung != LADDER_LOCAL || r->note[0])
        write_record(r, &o);
    count(r, route, a->code ? "error" : "ok");
    r->done(r, &end);
}

static void refused(struct courier_request *r, const struct ladder_action *a)
{
    bool silent = a->code == 0 || a->code == KDC_ERR_SVC_UNAVAILABLE;
    struct courier_end end = {.code = silent ? KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE : a->code,
                              .garbled = a->garbled,
                              .limited = a->limited,
                              .text = keep_text(r->courier, a->text)};
    const struct outcome o = {.event = "carry",
                              .transport = r->door == LADDER_DOOR_SOCKET ? "in-band" : NULL,
                              .code = end.code,
                              .text = a->text};

    write_record(r, &o);
    count(r, "none", a->limited ? "limited" : "failed");
    r->done(r, &end);
}

static void act(struct courier *c, const struct ladder_action *a)
{
    struct courier_request *r = courier_find_request(c, a->tag);

    switch (a->what) {
    case LADDER_TRY:
        courier_try(c, a);
        return;
    case LADDER_CANCEL:
        courier_cancel(c, a->id);
        return;
    case LADDER_LOOK_UP:
        courier_look_up(c, a);
        return;
    case LADDER_ANSWER:
        if (r)
            answered(r, a);
        return;
    case LADDER_REFUSE:
        if (r)
            refused(r, a);
        return;
    }
}

/* An action's spans are good until something is put in, and doors put in what waited while they are answered:
 * nobody looks at an action after that. */
void courier_climb(struct courier *c)
{
    struct ladder_action a;

    while (ladder_next(c->ladder, admin_env(), &a)) {
        act(c, &a);
        sp_arena_reset(&c->mem);
    }
}
