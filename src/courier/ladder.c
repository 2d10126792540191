/* SPDX-License-Identifier: MIT */
/* The doors of the engine, the block that all of it lives in, and the queues of actions. */
#include "courier/engine.h"

enum { ALIGN = 16 };

const char *ladder_rung_name(enum ladder_rung r)
{
    static const char *const names[LADDER_RUNGS] = {"local", "native", "relay", "in-band"};

    return (unsigned)r < LADDER_RUNGS ? names[r] : "none";
}

/* ---- lists, pools, chance ---- */

static struct link *link_at(void *links, size_t step, uint32_t i)
{
    return (struct link *)(void *)((uint8_t *)links + step * i);
}

void list_append(struct list *l, void *links, size_t step, uint32_t i)
{
    *link_at(links, step, i) = (struct link){NIL, l->last};
    *(l->last == NIL ? &l->first : &link_at(links, step, l->last)->next) = i;
    l->last = i;
    l->count++;
}

void list_remove(struct list *l, void *links, size_t step, uint32_t i)
{
    struct link k = *link_at(links, step, i);

    *(k.prev == NIL ? &l->first : &link_at(links, step, k.prev)->next) = k.next;
    *(k.next == NIL ? &l->last : &link_at(links, step, k.next)->prev) = k.prev;
    l->count--;
}

static uint32_t *next_at(void *nexts, size_t step, uint32_t i)
{
    return (uint32_t *)(void *)((uint8_t *)nexts + step * i);
}

uint32_t pool_take(struct pool *p, void *nexts, size_t step)
{
    uint32_t i = p->free;

    if (i != NIL) {
        p->free = *next_at(nexts, step, i);
        return i;
    }
    return p->top < p->max ? p->top++ : NIL;
}

void pool_give(struct pool *p, void *nexts, size_t step, uint32_t i)
{
    *next_at(nexts, step, i) = p->free;
    p->free = i;
}

uint32_t random_below(struct ladder *l, uint32_t n)
{
    uint64_t v;

    sp_rng_fill(l->rng, &v, sizeof v);
    return (uint32_t)(v % n);
}

/* ---- the block ---- */

static uint32_t or_default(uint32_t v, uint32_t otherwise)
{
    return v ? v : otherwise;
}

/* Bounds on the bounds: numbers of tries and look-ups have to fit into ids. */
static uint32_t at_most(uint32_t v, uint32_t most)
{
    return v < most ? v : most;
}

static struct ladder_limits whole_limits(const struct ladder_limits *given)
{
    struct ladder_limits m = given ? *given : (struct ladder_limits){0};

    m.requests = at_most(or_default(m.requests, 1024), 65536);
    m.per_source = or_default(m.per_source, 64);
    m.sources = at_most(or_default(m.sources, 4096), 1 << 20);
    m.realms = at_most(or_default(m.realms, 256), 16384);
    m.bytes = at_most(or_default(m.bytes, 16 << 20), 1 << 30);
    m.rung_ms = at_most(or_default(m.rung_ms, 900), 60000);
    m.all_ms = at_most(or_default(m.all_ms, 4500), 300000);
    m.hedge_ms = at_most(or_default(m.hedge_ms, 50), 10000);
    m.pin_s = at_most(or_default(m.pin_s, 300), 86400);
    m.dead_retry_ms = at_most(or_default(m.dead_retry_ms, 1000), 600000);
    if (m.rung_ms > m.all_ms)
        m.rung_ms = m.all_ms;
    return m;
}

static uint32_t power_of_two(uint32_t n)
{
    uint32_t p = 1;

    while (p < n)
        p *= 2;
    return p;
}

struct layout {
    uint8_t *base; /* NULL: only counting */
    size_t n;
};

static void *lay(struct layout *y, size_t count, size_t size)
{
    size_t at = y->n;

    y->n += (count * size + ALIGN - 1) / ALIGN * ALIGN;
    return y->base ? y->base + at : NULL;
}
#define LAY(y, p, count) ((p) = lay((y), (count), sizeof *(p)))

static void lay_out(struct ladder *l, struct layout *y)
{
    uint32_t tops = l->limit.bytes / (LEAF_N << (ORDERS - 1));

    l->hold.top_max = tops ? tops : 1;
    l->realm_max = l->limit.realms + GONE_REALMS;
    l->name_max = l->limit.realms * NAMES_PER_REALM;
    l->free_requests.max = l->limit.requests;
    l->free_tries.max = l->limit.requests * TRIES_MAX + l->realm_max * PROBES_PER_REALM;
    l->free_accounts.max =
        2 * (l->limit.sources > l->limit.requests ? l->limit.sources : l->limit.requests) + 2;
    l->tag_mask = power_of_two(l->limit.requests) - 1;
    l->source_mask = power_of_two(l->free_accounts.max) - 1;
    for (l->try_bits = 1; (1u << l->try_bits) <= l->free_tries.max + 1; l->try_bits++)
        continue;
    LAY(y, l->scratch, SCRATCH);
    LAY(y, l->realms, l->realm_max);
    LAY(y, l->slots, (size_t)l->realm_max * SLOTS);
    LAY(y, l->lookups, (size_t)l->realm_max * LOOKUPS);
    LAY(y, l->names, l->name_max);
    LAY(y, l->names_next, l->name_max);
    LAY(y, l->by_config, l->limit.realms);
    LAY(y, l->requests, l->free_requests.max);
    LAY(y, l->by_tag, (size_t)l->tag_mask + 1);
    LAY(y, l->tries, l->free_tries.max);
    LAY(y, l->accounts, l->free_accounts.max);
    LAY(y, l->by_source, (size_t)l->source_mask + 1);
    LAY(y, l->heap, (size_t)l->limit.requests + l->free_tries.max);
    LAY(y, l->heap_at, (size_t)l->limit.requests + l->free_tries.max);
    LAY(y, l->due, (size_t)l->limit.requests + l->free_tries.max);
    LAY(y, l->hold.leaves, (size_t)l->hold.top_max << (ORDERS - 1));
    LAY(y, l->hold.bytes, ((size_t)l->hold.top_max << (ORDERS - 1)) * LEAF_N);
}

size_t ladder_bytes(const struct ladder_limits *limits)
{
    struct ladder l = {.limit = whole_limits(limits)};
    struct layout y = {NULL, (sizeof l + ALIGN - 1) / ALIGN * ALIGN};

    lay_out(&l, &y);
    return y.n;
}

static void fill_nil(uint32_t *v, size_t n)
{
    memset(v, 0xff, n * sizeof *v); /* NIL is all ones */
}

struct ladder *ladder_init(void *block, const struct ladder_limits *limits, struct sp_rng *rng)
{
    static const struct list none = {NIL, NIL, 0};
    struct ladder *l = block;
    struct layout y = {block, (sizeof *l + ALIGN - 1) / ALIGN * ALIGN};

    *l = (struct ladder){.limit = whole_limits(limits), .rng = rng};
    lay_out(l, &y);
    l->free_requests.free = l->free_tries.free = l->free_accounts.free = NIL;
    l->ended = l->trying = l->asking = l->cancelling = l->taken = l->idle = none;
    fill_nil(l->by_tag, (size_t)l->tag_mask + 1);
    fill_nil(l->by_source, (size_t)l->source_mask + 1);
    fill_nil(l->heap_at, (size_t)l->limit.requests + l->free_tries.max);
    sp_rng_fill(rng, l->seed, sizeof l->seed);
    hold_init(&l->hold);
    return l;
}

/* ---- requests ---- */

static uint32_t *bucket_of(struct ladder *l, uint64_t tag)
{
    return &l->by_tag[(uint32_t)((tag * 0x9e3779b97f4a7c15u) >> 32) & l->tag_mask];
}

static void free_request(struct ladder *l, uint32_t i)
{
    struct request *r = &l->requests[i];
    uint32_t realm = r->realm, *at = bucket_of(l, r->tag);

    while (*at != i)
        at = &l->requests[*at].by_tag;
    *at = r->by_tag;
    if (r->reply_held != NIL)
        hold_drop(&l->hold, r->reply_held);
    REMOVE(&l->realms[realm].requests, l->requests, in_realm, i);
    r->state = REQUEST_FREE;
    POOL_GIVE(&l->free_requests, l->requests, by_tag, i);
    realms_drop(l, realm);
}

void ladder_release(struct ladder *l)
{
    while (l->taken.first != NIL) {
        uint32_t i = l->taken.first;
        REMOVE(&l->taken, l->requests, link, i);
        free_request(l, i);
    }
}

/* Windows, Scapy and sspi-rs leave the realm to the KDC, each in its way. */
static struct sp_span said(struct sp_span realm, struct sp_span otherwise)
{
    return realm.n == 0 || sp_same(realm, SP_LIT(".")) ? otherwise : realm;
}

static bool find_realm(const struct ladder *l, const struct ladder_request *q, const struct facts *f,
                       uint32_t *realm, struct sp_err *e)
{
    bool any_case = q->door == LADDER_DOOR_RELAY; /* MS-KKDCP 2.2.2 */
    struct sp_span asked = said(q->realm, said(f->realm, SP_LIT(".")));
    uint32_t body = realms_find(l, said(f->realm, asked), any_case);

    *realm = realms_find(l, asked, any_case);
    if (*realm == NIL || body != *realm)
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_IAKERB_KDC_NOT_FOUND, "no way to the realm \"%.*s\"",
                       (int)(asked.n < 60 ? asked.n : 60), (const char *)asked.p);
    return true;
}

static bool may_ask(const struct ladder *l, const struct ladder_request *q, const struct facts *f,
                    uint32_t realm, struct sp_err *e)
{
    if (f->kind == LADDER_KPASSWD && !l->realms[realm].kpasswd)
        return sp_fail(e, SP_EREFUSED, KDC_ERR_POLICY, "password changes of this realm are not carried");
    if (f->kind == LADDER_AS && q->armoured_only && !f->armoured)
        return sp_fail(e, SP_EREFUSED, KDC_ERR_POLICY, "an AS-REQ with neither armour nor PKINIT");
    return true;
}

static void fill_request(struct ladder *l, struct sp_env env, const struct ladder_request *q,
                         const struct facts *f, struct request *r)
{
    int64_t all_us = l->limit.all_ms * US_PER_MS;

    r->state = REQUEST_UNDER_WAY;
    r->tag = q->tag;
    r->kind = f->kind;
    r->prefer_primary = q->prefer_primary;
    r->proof = f->proof;
    r->guessable = f->guessable;
    r->began_us = env.mono_us;
    r->until_us = env.mono_us + all_us;
    r->tries = (struct list){NIL, NIL, 0};
    r->reply_held = NIL;
}

static void count_request(struct ladder *l, uint32_t i)
{
    struct request *r = &l->requests[i];
    uint32_t *bucket = bucket_of(l, r->tag);

    r->by_tag = *bucket;
    *bucket = i;
    APPEND(&l->realms[r->realm].requests, l->requests, in_realm, i);
}

static bool enter(struct ladder *l, struct sp_env env, const struct ladder_request *q, uint32_t realm,
                  struct request *r, struct sp_err *e)
{
    if (!limits_enter(l, env.mono_us, realm, q->source, r, e))
        return false;
    r->held = hold_copy(&l->hold, q->message);
    if (r->held != NIL)
        return true;
    limits_leave(l, r);
    return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE, "limit: no room for %zu bytes",
                   q->message.n);
}

bool ladder_ask(struct ladder *l, struct sp_env env, const struct ladder_request *q, struct sp_err *e)
{
    struct facts f = {0};
    struct sp_arena mem;
    uint32_t realm, i;
    struct request *r;

    ladder_release(l);
    sp_arena_init(&mem, l->scratch, SCRATCH);
    if (!check_request(q->message, &mem, &f, e) || !find_realm(l, q, &f, &realm, e) ||
        !may_ask(l, q, &f, realm, e))
        return false;
    i = POOL_TAKE(&l->free_requests, l->requests, by_tag);
    if (i == NIL)
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE, "limit: %u requests at once",
                       l->limit.requests);
    r = &l->requests[i];
    *r = (struct request){.realm = realm, .n = q->message.n};
    if (!enter(l, env, q, realm, r, e)) {
        POOL_GIVE(&l->free_requests, l->requests, by_tag, i);
        return false;
    }
    fill_request(l, env, q, &f, r);
    count_request(l, i);
    climb_begin(l, env, i);
    return true;
}

static void forget(struct ladder *l, struct sp_env env, uint32_t i)
{
    struct request *r = &l->requests[i];

    if (r->state == REQUEST_UNDER_WAY) {
        tries_let_go(l, i, LET_GO_FORGOTTEN, env.mono_us);
        hold_drop(&l->hold, r->held);
        limits_leave(l, r);
        due_set(l, node_of_request(l, i), NEVER);
    } else {
        REMOVE(&l->ended, l->requests, link, i);
    }
    free_request(l, i);
}

void ladder_forget(struct ladder *l, struct sp_env env, uint64_t tag)
{
    uint32_t i, next;

    ladder_release(l);
    for (i = *bucket_of(l, tag); i != NIL; i = next) {
        next = l->requests[i].by_tag;
        if (l->requests[i].tag == tag)
            forget(l, env, i);
    }
}

/* ---- what comes in ---- */

void ladder_tell(struct ladder *l, struct sp_env env, const struct ladder_outcome *o)
{
    uint32_t i;

    ladder_release(l);
    i = tries_find(l, o->try_id);
    if (i != NIL)
        tries_tell(l, env, i, o);
}

void ladder_network_changed(struct ladder *l, struct sp_env env)
{
    ladder_release(l);
    for (uint32_t i = 0; i < l->realm_top; i++) {
        if (!l->realms[i].used)
            continue;
        for (uint32_t k = 0; k < LADDER_TARGETS_MAX; k++)
            if (l->realms[i].occupied & 1u << k && health_rank(slot_at(l, i, k)) > 1)
                health_forget(slot_at(l, i, k));
        names_expire(l, i);
        for (uint32_t r = l->realms[i].requests.first, next; r != NIL; r = next) {
            next = l->requests[r].in_realm.next;
            climb_again(l, env, r);
        }
    }
}

void ladder_tick(struct ladder *l, struct sp_env env)
{
    uint32_t node;

    ladder_release(l);
    while ((node = due_next(l, env.mono_us)) != NIL) {
        if (node < l->limit.requests)
            climb(l, env, node);
        else
            tries_due(l, env, node - l->limit.requests);
    }
}

int64_t ladder_due_us(const struct ladder *l)
{
    return l->heap_n > 0 ? l->due[l->heap[0]] : -1;
}

uint32_t ladder_in_flight(const struct ladder *l)
{
    return l->in_flight;
}

/* ---- what goes out ---- */

static void take_end(struct ladder *l, uint32_t i, struct ladder_action *out)
{
    struct request *r = &l->requests[i];

    REMOVE(&l->ended, l->requests, link, i);
    APPEND(&l->taken, l->requests, link, i);
    r->state = REQUEST_TAKEN;
    out->what = r->end;
    out->tag = r->tag;
    out->kind = r->kind;
    out->realm = realm_name(l, r->realm);
    out->rung = r->answered_by;
    out->code = r->code;
    out->garbled = r->end == LADDER_REFUSE && r->garbled;
    out->limited = r->limited;
    out->text = sp_span(r->text, r->text_n);
    out->took_us = r->took_us;
    if (r->end == LADDER_ANSWER)
        out->bytes = hold_span(&l->hold, r->reply_held, r->reply_n);
}

static uint16_t port_of(const struct ladder_target *t, enum ladder_kind kind)
{
    if (t->rung != LADDER_NATIVE || kind != LADDER_KPASSWD)
        return t->port;
    return t->kpasswd_port ? t->kpasswd_port : 464; /* RFC 3244 */
}

/* False: the target is not what it was when this was decided. */
static bool take_try(struct ladder *l, uint32_t i, struct ladder_action *out)
{
    struct try_ *t = &l->tries[i];
    struct slot *s = slot_at(l, t->realm, t->slot);

    REMOVE(&l->trying, l->tries, link, i);
    t->state = TRY_SENT;
    if (l->realms[t->realm].serial != t->realm_serial || s->serial != t->serial)
        return false;
    *out = (struct ladder_action){.what = LADDER_TRY,
                                  .id = tries_id(l, i),
                                  .tag = t->tag,
                                  .kind = t->kind,
                                  .realm = realm_name(l, t->realm),
                                  .carry = t->carry,
                                  .rung = s->t.rung,
                                  .until_us = t->until_us,
                                  .bytes = hold_span(&l->hold, t->held, t->n)};
    if (t->slot == SLOT_LOCAL)
        return true;
    if (t->address >= s->address_count)
        return false;
    out->target = &s->t;
    out->address = s->address[t->address];
    out->port = port_of(&s->t, t->kind);
    return true;
}

static void take_lookup(struct ladder *l, uint32_t i, struct ladder_action *out)
{
    REMOVE(&l->asking, l->lookups, link, i);
    l->lookups[i].asked = true;
    *out = (struct ladder_action){
        .what = LADDER_LOOK_UP, .id = l->lookups[i].id, .until_us = l->lookups[i].until_us};
    names_fill(l, i, out);
}

static void take_cancel(struct ladder *l, uint32_t i, struct ladder_action *out)
{
    struct try_ *t = &l->tries[i];

    *out = (struct ladder_action){
        .what = LADDER_CANCEL, .id = tries_id(l, i), .tag = t->tag, .kind = t->kind, .carry = t->carry};
    REMOVE(&l->cancelling, l->tries, link, i);
    tries_free(l, i);
}

bool ladder_next(struct ladder *l, struct sp_env env, struct ladder_action *out)
{
    static const struct ladder_outcome gone = {
        .end = LADDER_REFUSED, .text = {(const uint8_t *)"it is another one now", 21}
    };

    *out = (struct ladder_action){0};
    if (l->ended.first != NIL) {
        take_end(l, l->ended.first, out);
        return true;
    }
    while (l->trying.first != NIL) {
        uint32_t i = l->trying.first;
        if (take_try(l, i, out))
            return true;
        tries_tell(l, env, i, &gone);
    }
    if (l->ended.first != NIL)
        take_end(l, l->ended.first, out);
    else if (l->asking.first != NIL)
        take_lookup(l, l->asking.first, out);
    else if (l->cancelling.first != NIL)
        take_cancel(l, l->cancelling.first, out);
    else
        return false;
    return true;
}
