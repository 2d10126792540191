/* SPDX-License-Identifier: MIT */
/* The local rung: which worker gets a request, and what comes back. A worker that dies or is silent gives its
 * requests to another one, once: identical bytes are a retransmission to the engine, never a second try. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/courier.h"
#include "net/pass.h"

enum { TRIES_MAX = 2 };

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

/* ---- beginning and end ---- */

static void end_ask(struct courier *c, struct courier_waiting *a)
{
    unlink_ask(list_of(c, a), a);
    if (a->worker != COURIER_NOBODY)
        c->links[a->worker].asks--;
    c->asks[a->slot] = NULL;
    c->ask_count--;
    c->asked -= a->n;
    free(a);
}

/* What became of one request says nothing about the next: workers that end are there again at once, so that
 * the local rung is never dead. As a KDC would say that it cannot serve. */
static void cannot(struct courier *c, uint32_t try_id, const char *text)
{
    struct sp_span error = courier_make_error(c, NULL, KDC_ERR_SVC_UNAVAILABLE, text);

    courier_told(c, try_id, error.n ? LADDER_ANSWERED : LADDER_REFUSED, error, text, 0);
}

static void tell(struct courier *c, struct courier_waiting *a, struct sp_span reply, const char *text)
{
    uint32_t try_id = a->try_id;
    int64_t took_us = admin_mono_us() - a->began_us;
    courier_judged *judged = a->judged;
    void *owner = a->owner;

    end_ask(c, a);
    if (judged)
        judged(owner, reply);
    else if (reply.n)
        courier_told(c, try_id, LADDER_ANSWERED, reply, text, took_us);
    else
        cannot(c, try_id, text);
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
        a->sent_us = admin_mono_us();
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
void courier_expire_workers(struct courier *c, int64_t mono_us)
{
    struct courier_waiting *a = c->sent.oldest, *newer;

    for (; a && mono_us - a->began_us >= COURIER_RETRY_US; a = newer) {
        struct courier_link *l = &c->links[a->worker], *other;
        newer = a->newer;
        if (mono_us - a->sent_us < COURIER_RETRY_US)
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

int64_t courier_workers_due_us(const struct courier *c)
{
    return c->sent.oldest ? admin_mono_us() + COURIER_RETRY_US / 4 : -1;
}

/* Twice given to workers that died over it, or beside it: once more would be once too often. */
static void give_up_tried(struct courier *c)
{
    for (struct courier_waiting *a = c->unsent.oldest, *next; a; a = next) {
        next = a->newer;
        if (a->tries >= TRIES_MAX)
            tell(c, a, sp_span(NULL, 0), "the KDC ended while it was asked");
    }
}

static void told(struct courier *c, const struct courier_told *t, struct sp_span message)
{
    struct courier_waiting *a = c->asks[t->serial % COURIER_ASKS_MAX];

    if (a && c->serials[a->slot] == t->serial) /* else it was given up */
        tell(c, a, message, "the KDC had no answer");
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

/* ---- tries ---- */

/* Serials grow; their lower part is a slot that is free. */
static void take_slot(struct courier *c, struct courier_waiting *a)
{
    do
        a->slot = (uint32_t)(++c->serial % COURIER_ASKS_MAX);
    while (c->asks[a->slot]);
    c->asks[a->slot] = a;
    c->serials[a->slot] = c->serial;
}

/* How it came, for the worker's record: an acceptor says it itself. */
static void put_words(struct courier_ask *head, const struct courier_request *r)
{
    _Static_assert(sizeof head->acceptor == sizeof r->acceptor &&
                       sizeof head->transport == sizeof r->transport,
                   "the same words");
    memcpy(head->acceptor, r->acceptor, sizeof head->acceptor);
    memcpy(head->transport, r->transport, sizeof head->transport);
    if (!head->transport[0])
        (void)snprintf(head->transport, sizeof head->transport, "%s", ladder_rung_name(LADDER_LOCAL));
}

static struct courier_waiting *make_waiting(struct courier *c, struct sp_span message)
{
    size_t n = sizeof(struct courier_ask) + message.n;
    struct courier_waiting *a = calloc(1, sizeof *a + n);
    struct courier_ask *head;

    if (!a)
        return NULL;
    a->worker = COURIER_NOBODY;
    a->began_us = admin_mono_us();
    a->n = n;
    take_slot(c, a);
    head = (struct courier_ask *)a->wire;
    head->serial = c->serials[a->slot];
    head->door = KDC_COURIER;
    head->message_n = (uint32_t)message.n;
    memcpy(a->wire + sizeof *head, message.p, message.n);
    return a;
}

static struct courier_waiting *make_ask(struct courier *c, const struct courier_request *r,
                                        const struct ladder_action *act)
{
    struct courier_waiting *a = make_waiting(c, act->bytes);
    struct courier_ask *head;

    if (!a)
        return NULL;
    a->try_id = act->id;
    head = (struct courier_ask *)a->wire;
    head->source = r->source;
    put_words(head, r);
    return a;
}

static void queue(struct courier *c, struct courier_waiting *a)
{
    c->ask_count++;
    c->asked += a->n;
    insert_ask(&c->unsent, a);
    send_asks(c);
}

static const char *refusal_of(const struct courier *c, const struct courier_request *r,
                              const struct ladder_action *act)
{
    if (!r)
        return "nobody waits for it";
    if (act->kind == LADDER_KPASSWD)
        return "password changes of this realm go to its own port";
    if (act->bytes.n > KDC_MESSAGE_MAX)
        return "the message is too long";
    if (c->ask_count == COURIER_ASKS_MAX || c->asked + act->bytes.n > COURIER_HELD_MAX)
        return "too many requests at once";
    return NULL;
}

void courier_ask_worker(struct courier *c, const struct ladder_action *act)
{
    const struct courier_request *r = courier_find_request(c, act->tag);
    const char *why = refusal_of(c, r, act);
    struct courier_waiting *a = why ? NULL : make_ask(c, r, act);

    if (!a) {
        cannot(c, act->id, why ? why : "no memory");
        return;
    }
    queue(c, a);
}

struct courier_waiting *courier_ask_verdict(struct courier *c, struct sp_span question,
                                            courier_judged *judged, void *owner)
{
    bool room = c->ask_count < COURIER_ASKS_MAX && c->asked + question.n <= COURIER_HELD_MAX &&
                question.n <= COURIER_FRAME_MAX;
    struct courier_waiting *a = room ? make_waiting(c, question) : NULL;

    if (!a)
        return NULL;
    a->judged = judged;
    a->owner = owner;
    ((struct courier_ask *)a->wire)->verify = true;
    queue(c, a);
    return a;
}

void courier_cancel_verdict(struct courier *c, struct courier_waiting *a)
{
    end_ask(c, a);
}

static struct courier_waiting *find_try(const struct courier_list *l, uint32_t try_id)
{
    struct courier_waiting *a = l->newest;

    while (a && (a->judged || a->try_id != try_id))
        a = a->older;
    return a;
}

bool courier_cancel_worker(struct courier *c, uint32_t try_id)
{
    struct courier_waiting *a = find_try(&c->sent, try_id);

    if (!a)
        a = find_try(&c->unsent, try_id);
    if (a)
        end_ask(c, a);
    return a != NULL;
}
