/* SPDX-License-Identifier: MIT */
/* Requests under way: what may be carried, to which worker, and what comes back. A worker that dies or is
 * silent gives its requests to another one, once: identical bytes are a retransmission to the engine, never a
 * second try. What nobody answered in time is answered here, with the code that says so. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/courier.h"
#include "krb/messages.h"
#include "net/pass.h"

enum { TAG_SERVICE_UID = 'c', TRIES_MAX = 2 };

/* ---- who asks ---- */

static bool attests(const struct courier_config *g, uint32_t uid)
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

    if (address.n && attests(&c->config, uid) && put_address(address, &at)) {
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

void courier_record(struct courier *c, const struct kdc_source *source, const struct courier_refusal *r)
{
    struct record_facts facts = {
        .door = "courier", .transport = "in-band", .source = source->text, .acceptor = r->acceptor};
    struct kdc_record k = {.event = r->event, .code = r->code, .client = r->client, .service = r->service};

    (void)snprintf(k.text, sizeof k.text, "%s", r->text);
    record_write(&c->records, admin_env(), &facts, &k);
}

/* ---- lists ---- */

static void unlink_ask(struct courier_list *l, struct courier_waiting *a)
{
    *(a->older ? &a->older->newer : &l->oldest) = a->newer;
    *(a->newer ? &a->newer->older : &l->newest) = a->older;
    a->older = a->newer = NULL;
}

/* Lists are in the order in which requests came. */
static void insert_ask(struct courier_list *l, struct courier_waiting *a)
{
    struct courier_waiting *p = l->newest;

    while (p && p->began_us > a->began_us)
        p = p->older;
    a->older = p;
    a->newer = p ? p->newer : l->oldest;
    *(a->newer ? &a->newer->older : &l->newest) = a;
    *(p ? &p->newer : &l->oldest) = a;
}

static struct courier_list *list_of(struct courier *c, const struct courier_waiting *a)
{
    return a->worker == COURIER_NOBODY ? &c->unsent : &c->sent;
}

/* ---- beginning and end of a request ---- */

static void end_ask(struct courier *c, struct courier_waiting *a)
{
    unlink_ask(list_of(c, a), a);
    if (a->worker != COURIER_NOBODY)
        c->links[a->worker].asks--;
    c->asks[a->slot] = NULL;
    c->ask_count--;
    c->asked -= a->n;
    a->peer->asks--;
    courier_drop_peer(c, a->peer);
    free(a);
}

/* The connection that asked, which has one request less now. */
static struct courier_stream *leave_stream(struct courier_waiting *a)
{
    struct courier_stream *s = a->stream;

    if (!s)
        return NULL;
    if (s->asks-- == COURIER_PENDING_MAX)
        s->moved_us = admin_env().mono_us; /* until now it was us who did not listen */
    a->stream = NULL;
    return s;
}

/* The answer; nothing of the connection may be used afterwards. */
static void answer(struct courier *c, struct courier_waiting *a, struct courier_frame *f)
{
    struct courier_stream *s = leave_stream(a);
    uint32_t before = c->stream_count;

    f->id = a->id;
    end_ask(c, a);
    if (!s)
        return;
    courier_send(s, f);
    sp_arena_reset(&c->mem);
    if (c->stream_count == before)
        courier_resume(s);
}

static void give_up_ask(struct courier *c, struct courier_waiting *a, const char *text)
{
    struct courier_frame f = {
        .type = COURIER_REFUSED, .code = KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE, .text = sp_str(text)};
    const struct courier_ask *head = (const struct courier_ask *)a->wire;
    struct courier_refusal r = {
        .event = "carry", .code = f.code, .text = text, .acceptor = sp_str(head->acceptor)};

    courier_record(c, &head->source, &r);
    answer(c, a, &f);
}

void courier_forget(struct courier_stream *s)
{
    struct courier *c = s->courier;

    for (struct courier_waiting *a = c->sent.oldest; a && s->asks; a = a->newer)
        if (a->stream == s)
            (void)leave_stream(a);
    for (struct courier_waiting *a = c->unsent.oldest, *next; a && s->asks; a = next) {
        next = a->newer;
        if (a->stream != s)
            continue;
        (void)leave_stream(a);
        end_ask(c, a);
    }
}

/* ---- workers ---- */

/* One that answers, if there is one. */
static bool is_better(const struct courier_link *l, const struct courier_link *than)
{
    return l->silent != than->silent ? !l->silent : l->asks < than->asks;
}

static struct courier_link *best_link(struct courier *c)
{
    struct courier_link *best = NULL;

    for (uint32_t i = 0; i < c->link_end; i++) {
        struct courier_link *l = &c->links[i];
        if (l->open && !l->leaving && l->asks < COURIER_LINK_ASKS_MAX && (!best || is_better(l, best)))
            best = l;
    }
    return best;
}

static void send_asks(struct courier *c)
{
    struct courier_waiting *a;
    struct courier_link *l;

    while ((a = c->unsent.oldest) && (l = best_link(c))) {
        if (!net_send_now(l->watch.fd, sp_span(a->wire, a->n)))
            return; /* its end is heard soon, or it takes more when it has answered */
        unlink_ask(&c->unsent, a);
        a->worker = l->worker;
        a->sent_us = admin_env().mono_us;
        a->tries++;
        l->asks++;
        insert_ask(&c->sent, a);
    }
}

static void take_back(struct courier *c, struct courier_waiting *a)
{
    unlink_ask(&c->sent, a);
    a->worker = COURIER_NOBODY;
    insert_ask(&c->unsent, a);
}

static void close_link(struct courier_link *l)
{
    struct courier *c = l->courier;

    net_loop_remove(&c->loop, &l->watch);
    (void)close(l->watch.fd);
    l->open = false;
    for (struct courier_waiting *a = c->sent.newest, *older; a; a = older) {
        older = a->older;
        if (a->worker != l->worker)
            continue;
        take_back(c, a);
    }
    l->asks = 0;
}

/* A worker that is stopped, or stuck, holds up what it has, and nothing else. */
static void try_elsewhere(struct courier *c, int64_t now)
{
    struct courier_waiting *a = c->sent.oldest, *newer;

    for (; a && now - a->began_us >= COURIER_RETRY_US; a = newer) {
        struct courier_link *l = &c->links[a->worker], *other;
        newer = a->newer;
        if (now - a->sent_us < COURIER_RETRY_US)
            continue;
        l->silent = true;
        other = best_link(c);
        if (a->tries >= TRIES_MAX || !other || other->silent)
            continue;
        l->asks--;
        take_back(c, a);
        send_asks(c);
    }
}

/* Twice given to workers that died over it, or beside it: once more would be once too often. */
static void give_up_tried(struct courier *c)
{
    struct courier_waiting *a = c->unsent.oldest;

    while (a && a->tries < TRIES_MAX)
        a = a->newer;
    while (a) {
        give_up_ask(c, a, "the KDC ended while it was asked");
        for (a = c->unsent.oldest; a && a->tries < TRIES_MAX;) /* answering may have changed the list */
            a = a->newer;
    }
}

/* What the client gets (P44): the KDC's words for people stay here. */
static bool without_text(struct courier *c, struct sp_span *message)
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

static void told(struct courier *c, const struct courier_told *t, struct sp_span message)
{
    struct courier_waiting *a = c->asks[t->serial % COURIER_ASKS_MAX];
    struct courier_frame f = {.type = COURIER_CARRIED, .message = message};

    if (!a || c->serials[a->slot] != t->serial)
        return; /* it was given up */
    if (message.n == 0 || message.n > COURIER_FRAME_MAX - 64 || !without_text(c, &f.message))
        give_up_ask(c, a, "the KDC had no answer");
    else
        answer(c, a, &f);
    sp_arena_reset(&c->mem);
}

static void link_ready(struct net_watch *watch, uint32_t events)
{
    struct courier_link *l = watch->owner;
    struct courier *c = l->courier;
    static _Alignas(16) uint8_t buf[COURIER_LINK_MAX];
    struct courier_told t;
    int fd;

    (void)events;
    for (int i = 0; i < 16; i++) {
        long n = net_receive(watch->fd, buf, sizeof buf, &fd);
        if (n == 0) {
            close_link(l);
            give_up_tried(c);
        }
        if (n <= 0)
            break;
        l->silent = false;
        memcpy(&t, buf, sizeof t);
        if ((size_t)n >= sizeof t && t.message_n == (size_t)n - sizeof t)
            told(c, &t, sp_span(buf + sizeof t, t.message_n));
    }
    send_asks(c);
}

void courier_open_link(struct courier *c, uint32_t worker, int fd)
{
    struct courier_link *l = worker < WORKERS_MAX ? &c->links[worker] : NULL;
    struct sp_err e = {0};

    if (!l || fd < 0)
        return;
    if (l->open)
        close_link(l);
    *l = (struct courier_link){.courier = c, .worker = worker, .open = true};
    l->watch = (struct net_watch){.fd = fd, .ready = link_ready, .owner = l};
    if (!net_loop_add(&c->loop, &l->watch, EPOLLIN, &e)) {
        (void)close(fd);
        l->open = false;
        return;
    }
    if (worker >= c->link_end)
        c->link_end = worker + 1;
    send_asks(c);
}

void courier_leave_link(struct courier *c, uint32_t worker)
{
    if (worker < WORKERS_MAX)
        c->links[worker].leaving = true;
}

/* ---- what may be carried ---- */

static bool read_request(struct courier *c, struct sp_span message, struct krb_kdc_req *out, struct sp_err *e)
{
    enum krb_type t = krb_sniff(message);

    if (message.n > KDC_MESSAGE_MAX)
        return sp_fail(e, SP_EREFUSED, KRB_ERR_FIELD_TOOLONG, "a message of %zu bytes", message.n);
    if (t != KRB_AS_REQ && t != KRB_TGS_REQ)
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_MSG_TYPE, "neither an AS-REQ nor a TGS-REQ");
    if (krb_get(t, message, KRB_STRICT, &c->mem, out, e))
        return true;
    e->proto = KRB_AP_ERR_MSG_TYPE; /* the engine never sees it; for the acceptor it is no Kerberos message */
    return false;
}

static struct sp_span text_of(struct courier *c, const struct krb_name *name, struct sp_span realm)
{
    struct sp_err e = {0};
    char *room = sp_alloc(&c->mem, KRB_NAME_TEXT_MAX, &e);
    struct sp_text t;

    if (!room || name->parts.count == 0)
        return (struct sp_span){0};
    t = sp_text(room, KRB_NAME_TEXT_MAX);
    krb_text_principal(&t, name, realm);
    return sp_span(t.p, t.n);
}

/* One whole request for our realm, or a text and a code why not. */
static bool may_carry(struct courier *c, const struct courier_frame *f, struct courier_refusal *r,
                      struct sp_err *e)
{
    struct krb_kdc_req m = {0};

    if (!krb_is_realm_alias(&c->realm, f->realm))
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_IAKERB_KDC_NOT_FOUND, "no way to the realm \"%.*s\"",
                       (int)(f->realm.n < 60 ? f->realm.n : 60), (const char *)f->realm.p);
    if (!read_request(c, f->message, &m, e))
        return false;
    r->client = text_of(c, &m.body.cname, m.body.realm);
    r->service = text_of(c, &m.body.sname, m.body.realm);
    return krb_is_realm_alias(&c->realm, m.body.realm) ||
           sp_fail(e, SP_EREFUSED, KRB_AP_ERR_IAKERB_KDC_NOT_FOUND,
                   "the request names a realm to which there is no way: \"%.*s\"",
                   (int)(m.body.realm.n < 60 ? m.body.realm.n : 60), (const char *)m.body.realm.p);
}

static bool has_room(struct courier *c, const struct courier_stream *s, size_t n, struct sp_err *e)
{
    if (s->peer->asks >= COURIER_UID_ASKS_MAX)
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE,
                       "more than %d requests of one user at once", COURIER_UID_ASKS_MAX);
    if (c->ask_count == COURIER_ASKS_MAX || c->asked + n > COURIER_HELD_MAX)
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE, "too many requests at once");
    return true;
}

static bool may_speak_for(struct courier_stream *s, struct sp_span client, struct sp_err *e)
{
    return !attests(&s->courier->config, s->peer->uid) || courier_name_client(s, client) ||
           sp_fail(e, SP_EREFUSED, KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE,
                   "more than %d contexts of one client at once", COURIER_PER_SOURCE);
}

/* Serials grow; their lower part is a slot that is free. */
static void take_slot(struct courier *c, struct courier_waiting *a)
{
    do
        a->slot = (uint32_t)(++c->serial % COURIER_ASKS_MAX);
    while (c->asks[a->slot]);
    c->asks[a->slot] = a;
    c->serials[a->slot] = c->serial;
}

static void keep_word(char *to, size_t max, struct sp_span s)
{
    size_t n = s.n < max - 1 ? s.n : max - 1;

    if (n)
        memcpy(to, s.p, n);
    to[n] = 0;
}

static struct courier_waiting *make_ask(struct courier_stream *s, const struct courier_frame *f)
{
    struct courier *c = s->courier;
    size_t n = sizeof(struct courier_ask) + f->message.n;
    struct courier_waiting *a = calloc(1, sizeof *a + n);
    struct courier_ask *head;

    if (!a)
        return NULL;
    a->stream = s;
    a->peer = s->peer;
    a->id = f->id;
    a->worker = COURIER_NOBODY;
    a->began_us = admin_env().mono_us;
    a->n = n;
    take_slot(c, a);
    head = (struct courier_ask *)a->wire;
    head->serial = c->serial;
    head->door = KDC_COURIER;
    courier_source(c, s->peer->uid, f->address, &head->source);
    keep_word(head->transport, sizeof head->transport,
              sp_same(f->transport, SP_LIT("relay")) ? f->transport : SP_LIT("in-band"));
    keep_word(head->acceptor, sizeof head->acceptor, f->service);
    head->message_n = (uint32_t)f->message.n;
    memcpy(a->wire + sizeof *head, f->message.p, f->message.n);
    return a;
}

static void refuse(struct courier_stream *s, const struct courier_frame *f, struct courier_refusal *r,
                   const struct sp_err *e)
{
    struct kdc_source source;

    r->event = "carry";
    r->code = e->proto ? e->proto : KRB_ERR_GENERIC;
    r->text = e->text;
    r->acceptor = f->service;
    courier_source(s->courier, s->peer->uid, f->address, &source);
    courier_record(s->courier, &source, r);
    courier_refuse(s, f->id, r->code, e->text);
}

void courier_carry(struct courier_stream *s, const struct courier_frame *f)
{
    struct courier *c = s->courier;
    struct courier_refusal r = {0};
    struct courier_waiting *a = NULL;
    struct sp_err e = {0};

    if (may_carry(c, f, &r, &e) && has_room(c, s, f->message.n, &e) && may_speak_for(s, f->address, &e) &&
        !(a = make_ask(s, f)))
        (void)sp_fail(&e, SP_ENOMEM, KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE, "no memory");
    if (!a) {
        refuse(s, f, &r, &e);
        return;
    }
    c->ask_count++;
    c->asked += a->n;
    a->peer->asks++;
    s->asks++;
    insert_ask(&c->unsent, a);
    send_asks(c);
}

/* ---- time ---- */

static void expire(struct courier *c, struct courier_list *l, int64_t now)
{
    while (l->oldest && now - l->oldest->began_us >= COURIER_ASK_US)
        give_up_ask(c, l->oldest, "the KDC did not answer in time");
}

void courier_expire_asks(struct courier *c, int64_t mono_us)
{
    expire(c, &c->unsent, mono_us);
    expire(c, &c->sent, mono_us);
    try_elsewhere(c, mono_us);
}

int64_t courier_asks_due_us(const struct courier *c)
{
    const struct courier_waiting *a = c->unsent.oldest, *b = c->sent.oldest;

    if (!a || (b && b->began_us < a->began_us))
        a = b;
    return a ? a->began_us + COURIER_ASK_US : -1;
}
