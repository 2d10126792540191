/* SPDX-License-Identifier: MIT */
/* HTTP Negotiate (RFC 4559) at the relay's door: a client that can reach nothing else proves itself with its
 * own Kerberos, IAKERB as a rule, whose requests go up the ladder like any others. The courier has no key: it
 * leads the conversation to the point where one is needed, and from there a worker judges it as a whole
 * (daemon/verify.c). What is proven is good for that TLS connection and for nothing else. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "daemon/courier.h"
#include "gss/sec.h"
#include "net/http.h"

#define NEGOTIATIONS_MAX 256 /* each has memory for a conversation */
#define GOOD_S 600           /* and no longer than the ticket */
#define SAID_MAX (COURIER_FRAME_MAX - sizeof(struct courier_verify))
static const char scheme[] = "Negotiate";

struct courier_negotiation {
    struct kctx_keys keys; /* first; there are none */
    bool key_wanted;
    struct courier *courier;
    struct sec *sec; /* NULL: what is said from here on, a worker judges */
    struct sp_arena room;
    uint8_t *block;                  /* of room */
    uint8_t *question;               /* COURIER_FRAME_MAX bytes: courier_verify and what was said */
    size_t n;                        /* 0: nobody said anything */
    struct net_web_request asked;    /* the HTTP request at hand */
    struct courier_request *carried; /* a request on its way, NULL: none */
    struct courier_waiting *judging;
    courier_proven *go_on;
    struct kdc_source source;
    int64_t good_until_us; /* 0: nothing is proven */
    char client[COURIER_NAME_MAX];
};

/* ---- life ----
 * An answer may end the connection, and with it this object: nothing is done behind one. */

/* Forgets the conversation, not what it proved. */
static void drop_conversation(struct courier_negotiation *n)
{
    sec_wipe(n->sec);
    free(n->block);
    free(n->question);
    n->courier->negotiations -= n->n > 0;
    n->sec = NULL;
    n->block = n->question = NULL;
    n->n = 0;
    n->key_wanted = false;
}

void courier_end_negotiation(struct courier_negotiation *n)
{
    if (!n)
        return;
    if (n->carried)
        courier_leave(n->carried);
    if (n->judging)
        courier_cancel_verdict(n->courier, n->judging);
    drop_conversation(n);
    free(n);
}

const char *courier_proven_client(const struct courier_negotiation *n)
{
    return n && n->good_until_us > admin_mono_us() ? n->client : NULL;
}

bool courier_shows_token(const struct net_web_request *w)
{
    size_t k = sizeof scheme - 1;

    return w->tls && w->authorization.n > k + 1 && w->authorization.p[k] == ' ' &&
           strncasecmp((const char *)w->authorization.p, scheme, k) == 0;
}

/* ---- words ---- */

static void note(struct courier_negotiation *n, int32_t code, const char *text)
{
    struct record_facts facts = {.door = "relay", .transport = "https", .source = n->source.text};
    struct kdc_record k = {.event = "negotiate", .code = code, .client = sp_str(n->client)};

    (void)snprintf(k.text, sizeof k.text, "%s", text);
    record_write(&n->courier->records, admin_env(), &facts, &k);
}

/* "Negotiate" and the token behind it; in the courier's arena. */
static const char *word_of(struct courier *c, struct sp_span token)
{
    size_t max = sizeof scheme + 1 + (token.n + 2) / 3 * 4 + 1;
    struct sp_err e = {0};
    char *p = token.n ? sp_alloc(&c->mem, max, &e) : NULL;
    struct sp_text t = sp_text(p, p ? max : 0);

    if (!p)
        return scheme;
    sp_text_fmt(&t, "%s ", scheme);
    net_put_base64(&t, token);
    return p;
}

static void answer(struct courier_negotiation *n, int status, struct sp_span token)
{
    const bool silent = status == 200 && token.n == 0; /* without mutual authentication */
    const struct net_web_reply r = {.status = status,
                                    .authenticate = silent ? NULL : word_of(n->courier, token)};

    net_web_answer(n->asked.from, &r);
}

static int32_t outward(int32_t code)
{
    return code > 0 ? code : KRB_ERR_GENERIC;
}

/* A conversation that failed is over; the client may begin another. */
static void refuse(struct courier_negotiation *n, const struct sp_err *e, struct sp_span token)
{
    const struct net_web_reply r = {.status = 401, .authenticate = word_of(n->courier, token)};

    note(n, outward(e->proto), e->text);
    drop_conversation(n); /* the token may lie in there */
    net_web_answer(n->asked.from, &r);
}

static void unavailable(struct courier_negotiation *n, const char *why)
{
    const struct net_web_reply r = {.status = 503};

    note(n, KDC_ERR_SVC_UNAVAILABLE, why);
    drop_conversation(n);
    net_web_answer(n->asked.from, &r);
}

/* ---- the worker's verdict ---- */

static void prove(struct courier_negotiation *n, const struct courier_verdict *v, struct sp_span token)
{
    struct courier *c = n->courier;
    struct sp_env env = admin_env();
    int64_t left_s = v->end_s - env.wall_us / 1000000;
    struct sp_err e = {0};

    (void)snprintf(n->client, sizeof n->client, "%s", v->client);
    if (!c->tls || !net_web_tls_is_for(c->tls, v->host)) {
        (void)sp_fail(&e, SP_EREFUSED, KRB_AP_ERR_NOT_US,
                      "a ticket for HTTP/%.60s, which the certificate here is not for", v->host);
        refuse(n, &e, sp_span(NULL, 0));
        return;
    }
    n->good_until_us = env.mono_us + (left_s < GOOD_S ? left_s : GOOD_S) * 1000000;
    note(n, 0, "proven, for requests on this connection");
    drop_conversation(n);
    if (sp_same(n->asked.method, SP_LIT("POST")))
        n->go_on(c, &n->asked, token.n ? word_of(c, token) : NULL);
    else
        answer(n, 200, token);
}

static void judged(void *owner, struct sp_span verdict)
{
    struct courier_negotiation *n = owner;
    struct courier *c = n->courier;
    struct courier_verdict v;
    struct sp_span token;
    struct sp_err e = {0};

    n->judging = NULL;
    if (verdict.n < sizeof v) {
        unavailable(n, "no worker had a verdict");
        return;
    }
    memcpy(&v, verdict.p, sizeof v);
    token = sp_span(verdict.p + sizeof v, verdict.n - sizeof v);
    v.client[sizeof v.client - 1] = v.host[sizeof v.host - 1] = v.text[sizeof v.text - 1] = 0;
    if (!v.ok) {
        (void)sp_fail(&e, SP_EREFUSED, v.code, "%s", v.text);
        refuse(n, &e, token);
    } else if (v.done) {
        prove(n, &v, token);
    } else {
        answer(n, 401, token);
    }
    sp_arena_reset(&c->mem);
}

static void ask_worker(struct courier_negotiation *n)
{
    sec_wipe(n->sec);
    free(n->block);
    n->sec = NULL;
    n->block = NULL;
    n->judging = courier_ask_verdict(n->courier, sp_span(n->question, n->n), judged, n);
    if (!n->judging)
        unavailable(n, "too many requests at once");
}

/* ---- the conversation ---- */

static bool find_no_key(struct kctx_keys *port, const struct krb_name *service, struct sp_span realm,
                        int32_t etype, uint32_t kvno, struct sp_key *out, struct sp_err *e)
{
    (void)service;
    (void)realm;
    (void)etype;
    (void)kvno;
    (void)out;
    ((struct courier_negotiation *)port)->key_wanted = true;
    return sp_fail(e, SP_ENOTFOUND, KRB_AP_ERR_NOKEY, "a worker has the key");
}

static bool begin(struct courier_negotiation *n, struct sp_err *e)
{
    struct courier *c = n->courier;
    struct courier_verify head;
    const struct sec_acceptor how = {
        .realm = c->realm,
        .keys = &n->keys,
        .finished =
            c->config.finished == COURIER_FINISHED_OPTIONAL ? SEC_FINISHED_OPTIONAL : SEC_FINISHED_REQUIRED,
        .old_mit = c->config.old_mit == COURIER_OLD_MIT_ACCEPT ? SEC_OLD_MIT_ACCEPT : SEC_OLD_MIT_OFF};

    if (c->negotiations >= NEGOTIATIONS_MAX)
        return sp_fail(e, SP_EREFUSED, 0, "limit: %d conversations at once", NEGOTIATIONS_MAX);
    n->block = malloc(SEC_ARENA_MIN);
    n->question = malloc(COURIER_FRAME_MAX);
    if (!n->block || !n->question)
        return sp_fail(e, SP_ENOMEM, 0, "no memory");
    sp_arena_init(&n->room, n->block, SEC_ARENA_MIN);
    memset(&head, 0, sizeof head); /* with what lies between its members */
    head.old_mit = c->config.old_mit;
    head.finished = c->config.finished;
    head.end_point_n = (uint8_t)n->asked.end_point.n;
    head.exporter_n = (uint8_t)n->asked.exporter.n;
    if (head.end_point_n)
        memcpy(head.end_point, n->asked.end_point.p, head.end_point_n);
    if (head.exporter_n)
        memcpy(head.exporter, n->asked.exporter.p, head.exporter_n);
    memcpy(n->question, &head, sizeof head);
    n->n = sizeof head;
    n->client[0] = 0;
    c->negotiations++;
    return sec_new_acceptor(&n->sec, c->crypto, &how, &n->room, e);
}

static bool say(struct courier_negotiation *n, struct sp_env env, const struct sec_event *ev,
                struct sp_err *e)
{
    const struct courier_said s = {.wall_us = env.wall_us,
                                   .mono_us = env.mono_us,
                                   .kind = ev->kind,
                                   .code = ev->code,
                                   .n = (uint32_t)ev->bytes.n};

    if (sizeof s + ev->bytes.n > COURIER_FRAME_MAX - n->n)
        return sp_fail(e, SP_EREFUSED, KRB_ERR_FIELD_TOOLONG, "a conversation of more than %zu bytes",
                       SAID_MAX);
    memcpy(n->question + n->n, &s, sizeof s);
    if (ev->bytes.n)
        memcpy(n->question + n->n + sizeof s, ev->bytes.p, ev->bytes.n);
    n->n += sizeof s + ev->bytes.n;
    return true;
}

static void step(struct courier_negotiation *n, const struct sec_event *ev);

static void carried(struct courier_request *r, const struct courier_end *end)
{
    struct courier_negotiation *n = r->guest;
    struct courier *c = r->courier;
    struct sec_event ev = {.kind = SEC_CARRIED, .bytes = end->reply};

    if (!end->answered)
        ev = (struct sec_event){.kind = SEC_NOT_CARRIED, .code = end->code};
    n->carried = NULL;
    step(n, &ev);
    courier_drop_request(r);
    sp_arena_reset(&c->mem);
}

/* False: it did not set out. */
static bool carry(struct courier_negotiation *n, const struct sec_action *act, struct sp_err *e)
{
    struct courier_request *r = courier_new_request(n->courier, LADDER_DOOR_RELAY);
    const struct courier_question q = {.realm = act->realm, .message = act->message};

    if (!r)
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE, "too many requests");
    r->owner = n->asked.from;
    r->guest = n;
    r->done = carried;
    r->source = n->source;
    (void)snprintf(r->transport, sizeof r->transport, "in-band");
    if (courier_put(r, &q, e)) {
        n->carried = r;
        return true;
    }
    courier_refused(r, e);
    courier_drop_request(r);
    return false;
}

/* What the courier's own context makes of an event. */
static void step(struct courier_negotiation *n, const struct sec_event *ev)
{
    struct sp_env env = admin_env();
    struct sec_action act = {0};
    struct sp_err e = {0}, why = {0};

    if (!say(n, env, ev, &e)) {
        refuse(n, &e, sp_span(NULL, 0));
    } else if (!sec_step(n->sec, env, ev, &act, &e)) {
        if (n->key_wanted)
            ask_worker(n);
        else
            refuse(n, &e, act.token);
    } else if (act.what != SEC_CARRY) {
        answer(n, 401, act.token);
    } else if (!carry(n, &act, &why)) {
        step(n, &(struct sec_event){.kind = SEC_NOT_CARRIED, .code = why.proto});
    }
}

static void take(struct courier_negotiation *n, const struct sec_event *ev)
{
    struct sp_err e = {0};

    if (n->n == 0 && !begin(n, &e))
        unavailable(n, e.text);
    else if (n->sec)
        step(n, ev);
    else if (say(n, admin_env(), ev, &e))
        ask_worker(n);
    else
        refuse(n, &e, sp_span(NULL, 0));
}

static struct courier_negotiation *find(struct courier *c, struct courier_negotiation **n)
{
    if (!*n && (*n = calloc(1, sizeof **n)) != NULL)
        **n = (struct courier_negotiation){.keys = {find_no_key}, .courier = c};
    return *n;
}

void courier_negotiate(struct courier *c, struct courier_negotiation **at, const struct net_web_request *w,
                       courier_proven *go_on)
{
    struct courier_negotiation *n = find(c, at);
    const struct net_web_reply full = {.status = 503};
    struct sec_event ev = {.kind = SEC_TOKEN};
    struct sp_err e = {0};
    struct sp_span text;
    uint8_t *token;

    if (!n) {
        net_web_answer(w->from, &full);
        return;
    }
    n->asked = *w;
    n->go_on = go_on;
    n->good_until_us = 0;
    source_of_address(&w->peer, &n->source);
    text = sp_span(w->authorization.p + sizeof scheme, w->authorization.n - sizeof scheme);
    token = sp_alloc(&c->mem, text.n, &e);
    if (!token || !net_get_base64(text, token, text.n, &ev.bytes.n)) {
        (void)sp_fail(&e, SP_EINPUT, KRB_ERR_GENERIC, "a token of Negotiate that is no base64");
        refuse(n, &e, sp_span(NULL, 0));
        return;
    }
    ev.bytes.p = token;
    take(n, &ev);
}
