/* SPDX-License-Identifier: MIT */
/* A try: one message on its way to one address of one target. Most belong to a request and end with it; a
 * probe goes on until it is known what became of the target. */
#include "courier/engine.h"

enum { UDP_SILENCES = 2 };

static struct slot *target_of(const struct ladder *l, const struct try_ *t)
{
    struct slot *s = slot_at(l, t->realm, t->slot);

    return l->realms[t->realm].serial == t->realm_serial && s->serial == t->serial ? s : NULL;
}

uint32_t tries_id(const struct ladder *l, uint32_t i)
{
    return l->tries[i].round << l->try_bits | (i + 1);
}

uint32_t tries_find(const struct ladder *l, uint32_t id)
{
    uint32_t i = (id & ((1u << l->try_bits) - 1)) - 1;

    if (i >= l->free_tries.top || l->tries[i].state == TRY_FREE || l->tries[i].state == TRY_CANCELLED)
        return NIL;
    return tries_id(l, i) == id ? i : NIL;
}

/* ---- beginning ---- */

static void set_due(struct ladder *l, uint32_t i)
{
    const struct try_ *t = &l->tries[i];
    int64_t at = t->until_us;

    if (!t->judged && t->judge_us < at)
        at = t->judge_us;
    if (!t->beside && t->beside_us < at)
        at = t->beside_us;
    due_set(l, node_of_try(l, i), at);
}

static bool probe_allowed(const struct ladder *l, uint32_t realm)
{
    return l->realms[realm].probes < PROBES_PER_REALM && l->probes < PROBES_PER_REALM * l->realm_max;
}

static void become_probe(struct ladder *l, struct try_ *t, struct slot *s)
{
    t->probe = true;
    s->probing = true;
    l->realms[t->realm].probes++;
    l->probes++;
}

bool tries_begin(struct ladder *l, struct sp_env env, uint32_t request, struct way w)
{
    struct request *r = &l->requests[request];
    struct slot *s = slot_at(l, r->realm, w.slot);
    bool fresh = l->free_tries.free == NIL; /* its place was never used */
    int64_t now = env.mono_us, all_us = l->limit.all_ms * US_PER_MS;
    uint32_t i, round;
    struct try_ *t;

    if (w.probe && !probe_allowed(l, r->realm))
        return false;
    i = POOL_TAKE(&l->free_tries, l->tries, link.next);
    if (i == NIL)
        return false;
    t = &l->tries[i];
    round = fresh ? 0 : (t->round + 1) & (UINT32_MAX >> l->try_bits);
    *t = (struct try_){.state = TRY_QUEUED,
                       .round = round,
                       .request = request,
                       .realm = r->realm,
                       .slot = w.slot,
                       .serial = s->serial,
                       .realm_serial = l->realms[r->realm].serial,
                       .tag = r->tag,
                       .kind = r->kind,
                       .carry = w.carry,
                       .address = w.address,
                       .beside = w.carry != LADDER_BY_UDP,
                       .held = r->held,
                       .n = r->n,
                       .began_us = now,
                       .judge_us = w.slot == SLOT_LOCAL ? NEVER : now + health_silence_us(l, s),
                       .beside_us = now + health_beside_us(l, s),
                       .until_us = w.probe ? now + all_us : r->until_us};
    hold_share(&l->hold, t->held);
    if (w.probe)
        become_probe(l, t, s);
    APPEND(&r->tries, l->tries, in_request, i);
    APPEND(&l->trying, l->tries, link, i);
    set_due(l, i);
    return true;
}

/* ---- end ---- */

static void detach(struct ladder *l, uint32_t i)
{
    struct try_ *t = &l->tries[i];
    struct slot *s = target_of(l, t);

    if (t->request != NIL)
        REMOVE(&l->requests[t->request].tries, l->tries, in_request, i);
    t->request = NIL;
    due_set(l, node_of_try(l, i), NEVER);
    if (t->probe) {
        l->probes--;
        if (l->realms[t->realm].serial == t->realm_serial)
            l->realms[t->realm].probes--;
        if (s)
            s->probing = false;
    }
    t->probe = false;
}

/* With its outcome, or once the driver knows that nobody waits. */
void tries_free(struct ladder *l, uint32_t i)
{
    struct try_ *t = &l->tries[i];

    if (t->state == TRY_QUEUED)
        REMOVE(&l->trying, l->tries, link, i);
    if (t->state != TRY_CANCELLED)
        detach(l, i);
    hold_drop(&l->hold, t->held);
    t->state = TRY_FREE;
    POOL_GIVE(&l->free_tries, l->tries, link.next, i);
}

void tries_cancel(struct ladder *l, uint32_t i)
{
    struct try_ *t = &l->tries[i];

    if (t->state == TRY_QUEUED) {
        tries_free(l, i);
        return;
    }
    detach(l, i);
    t->state = TRY_CANCELLED;
    APPEND(&l->cancelling, l->tries, link, i);
}

/* True: another address of the target is next, so that this one's failure is not the target's. */
static bool other_address(struct ladder *l, const struct try_ *t, struct slot *s)
{
    bool left = t->request != NIL && t->slot != SLOT_LOCAL && !t->probe &&
                l->requests[t->request].asked[t->slot] < s->address_count;

    if (s->address_count > 1 && s->address_now == t->address)
        s->address_now = (uint8_t)((t->address + 1) % s->address_count);
    return left;
}

static void note_silence(struct ladder *l, struct try_ *t, int64_t now_us)
{
    struct slot *s = target_of(l, t);
    char room[64];
    struct sp_text why = sp_text(room, sizeof room);

    if (!s || (s->life == LADDER_DEAD && s->failed_us == now_us)) /* its other transport said so just now */
        return;
    sp_text_fmt(&why, "no answer in %lld ms", (long long)((now_us - t->began_us) / US_PER_MS));
    if (now_us - t->began_us < l->limit.rung_ms * US_PER_MS / 2 ||
        (s->life == LADDER_ALIVE && s->heard_us > t->began_us))
        health_suspect(l, s, now_us);
    else if (!other_address(l, t, s))
        health_failed(l, s, now_us, LADDER_DEAD, sp_span(why.p, why.n));
}

/* Its request ends. Where others answered in good time a silent target is suspected; where nobody did, one
 * try to each goes on as a probe: a KDC slower than we wait is found alive by it. */
static void let_go(struct ladder *l, uint32_t i, enum let_go how, int64_t now_us)
{
    struct try_ *t = &l->tries[i];
    struct slot *s = target_of(l, t);

    if (!t->probe && s && t->slot != SLOT_LOCAL && t->state == TRY_SENT) {
        if (how == LET_GO_ANSWERED && now_us - t->began_us >= health_hedge_us(l, s, false))
            health_suspect(l, s, now_us);
        if (how == LET_GO_SILENT && !s->probing && probe_allowed(l, t->realm))
            become_probe(l, t, s);
        else if (how == LET_GO_SILENT && !t->judged)
            note_silence(l, t, now_us);
    }
    if (!t->probe) {
        tries_cancel(l, i);
        return;
    }
    REMOVE(&l->requests[t->request].tries, l->tries, in_request, i);
    t->request = NIL;
    t->beside = true;
    t->until_us = t->began_us + l->limit.all_ms * US_PER_MS;
    set_due(l, i);
}

void tries_let_go(struct ladder *l, uint32_t request, enum let_go how, int64_t now_us)
{
    for (uint32_t i = l->requests[request].tries.first, next; i != NIL; i = next) {
        next = l->tries[i].in_request.next;
        let_go(l, i, how, now_us);
    }
}

void tries_give_place(struct ladder *l, uint32_t request, int64_t now_us)
{
    uint32_t i = l->requests[request].tries.first;
    struct slot *s = target_of(l, &l->tries[i]);

    if (s && !l->tries[i].probe)
        health_suspect(l, s, now_us);
    tries_cancel(l, i);
}

/* ---- silence ---- */

static uint32_t sibling_of(const struct ladder *l, uint32_t i)
{
    const struct try_ *t = &l->tries[i];
    uint32_t k = t->request == NIL ? NIL : l->requests[t->request].tries.first;

    while (k != NIL && (k == i || l->tries[k].slot != t->slot || l->tries[k].probe))
        k = l->tries[k].in_request.next;
    return k;
}

static bool begin_other_carry(struct ladder *l, struct sp_env env, uint32_t i, enum ladder_carry carry)
{
    struct try_ *t = &l->tries[i];
    struct way w = {t->slot, t->address, carry, false};
    uint32_t request = t->request, last;

    t->beside = true;
    if (request == NIL || l->requests[request].tries.count >= TRIES_MAX || !target_of(l, t) ||
        !tries_begin(l, env, request, w))
        return false;
    last = l->requests[request].tries.last;
    l->tries[last].beside = true;
    l->tries[last].second = true;
    if (carry == LADDER_BY_TCP && l->tries[last].judge_us > t->judge_us && t->state == TRY_SENT)
        l->tries[last].judge_us = t->judge_us; /* the target's silence began then */
    set_due(l, last);
    return true;
}

void tries_due(struct ladder *l, struct sp_env env, uint32_t i)
{
    struct try_ *t = &l->tries[i];
    uint32_t request = t->request;

    if (!t->beside && env.mono_us >= t->beside_us)
        (void)begin_other_carry(l, env, i, LADDER_BY_TCP);
    if (!t->judged && env.mono_us >= t->judge_us) {
        t->judged = true;
        note_silence(l, t, env.mono_us);
    }
    if (env.mono_us >= t->until_us) {
        if (!t->judged)
            note_silence(l, t, env.mono_us);
        tries_cancel(l, i);
    } else {
        set_due(l, i);
    }
    if (request != NIL)
        climb(l, env, request);
}

/* ---- outcomes ---- */

static void note_carry(struct ladder *l, struct sp_env env, uint32_t i, struct slot *s)
{
    const struct try_ *t = &l->tries[i];
    uint32_t other = sibling_of(l, i);

    if (t->carry == LADDER_BY_UDP) {
        s->udp_silent = 0;
        s->udp_shut_until_us = 0;
    } else if (t->carry == LADDER_BY_TCP && other != NIL && l->tries[other].carry == LADDER_BY_UDP &&
               ++s->udp_silent >= UDP_SILENCES) {
        s->udp_shut_until_us = env.mono_us + l->limit.pin_s * US_PER_S;
        s->udp_silent = UDP_SILENCES;
    }
}

static void heard(struct ladder *l, struct sp_env env, uint32_t i, int64_t took_us)
{
    struct try_ *t = &l->tries[i];
    struct slot *s = target_of(l, t);

    if (!s)
        return;
    note_carry(l, env, i, s);
    if (t->address < s->address_count)
        s->address_now = t->address;
    s->heard_us = env.mono_us;
    health_answered(l, s, env.mono_us, took_us > 0 ? took_us : env.mono_us - t->began_us);
}

/* Gone for this target, unless something of it is still on its way or left to be tried. */
static void failed(struct ladder *l, struct sp_env env, uint32_t i, enum ladder_life life, struct sp_span why)
{
    struct try_ *t = &l->tries[i];
    struct slot *s = target_of(l, t);

    if (s && sibling_of(l, i) == NIL && !other_address(l, t, s))
        health_failed(l, s, env.mono_us, life, why);
}

static void garbled(struct ladder *l, struct sp_env env, uint32_t i, struct sp_span why)
{
    if (l->tries[i].request != NIL)
        l->requests[l->tries[i].request].garbled = true;
    failed(l, env, i, LADDER_DEAD, why);
}

static void refused(struct ladder *l, struct sp_env env, uint32_t i, struct sp_span why)
{
    struct try_ *t = &l->tries[i];
    struct slot *s = target_of(l, t);

    if (s && !t->probe && !t->second && t->carry == LADDER_BY_UDP &&
        (t->beside || begin_other_carry(l, env, i, LADDER_BY_TCP)) && sibling_of(l, i) != NIL)
        return;
    if (s && !t->probe && !t->second && t->carry == LADDER_BY_TCP && s->udp_shut_until_us > env.mono_us &&
        !s->t.tcp_only && t->n <= UDP_MAX) {
        s->udp_shut_until_us = 0;
        if (begin_other_carry(l, env, i, LADDER_BY_UDP))
            return;
    }
    failed(l, env, i, LADDER_DEAD, why.n ? why : SP_LIT("refused"));
}

/* An answer ends the request, except these two: one wants TCP, one somebody else. */
static void answered(struct ladder *l, struct sp_env env, uint32_t i, const struct ladder_outcome *o,
                     int32_t code)
{
    struct try_ *t = &l->tries[i];
    enum ladder_rung rung = slot_at(l, t->realm, t->slot)->t.rung; /* of the local engine: 0, LOCAL */
    uint32_t request = t->request;

    heard(l, env, i, o->took_us);
    if (request == NIL)
        return;
    if (code == KRB_ERR_RESPONSE_TOO_BIG && t->carry == LADDER_BY_UDP) {
        if (sibling_of(l, i) == NIL)
            (void)begin_other_carry(l, env, i, LADDER_BY_TCP);
    } else if (code == KDC_ERR_SVC_UNAVAILABLE) {
        l->requests[request].busy = code;
    } else {
        tries_free(l, i);
        climb_answer(l, env, request, rung, o->bytes, code);
    }
}

void tries_tell(struct ladder *l, struct sp_env env, uint32_t i, const struct ladder_outcome *o)
{
    struct try_ *t = &l->tries[i];
    uint32_t request = t->request;
    struct sp_err e = {0};
    struct sp_arena mem;
    bool goes_on = false; /* by the other transport */
    int32_t code = 0;

    sp_arena_init(&mem, l->scratch, SCRATCH);
    switch (o->end) {
    case LADDER_ANSWERED:
        if (check_answer(t->kind, o->bytes, &mem, &code, &e))
            answered(l, env, i, o, code);
        else
            garbled(l, env, i, sp_str(e.text));
        break;
    case LADDER_GARBLED:
        garbled(l, env, i, o->text.n ? o->text : SP_LIT("no Kerberos answer"));
        break;
    case LADDER_REFUSED:
        refused(l, env, i, o->text);
        break;
    case LADDER_UNSUPPORTED:
    default:
        failed(l, env, i, LADDER_NO_WAY, o->text.n ? o->text : SP_LIT("carries no Kerberos"));
        break;
    }
    if (l->tries[i].state != TRY_FREE && l->tries[i].state != TRY_CANCELLED) {
        goes_on = sibling_of(l, i) != NIL;
        tries_free(l, i);
    }
    if (request != NIL) {
        if (!goes_on)
            l->requests[request].next_us = env.mono_us;
        climb(l, env, request);
    }
}
