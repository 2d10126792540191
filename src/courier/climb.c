/* SPDX-License-Identifier: MIT */
/* The way of a request up the ladder of its realm. On each rung the best target is asked, and another one
 * beside it when that has been silent for too long; what failed is followed by the next at once. A rung whose
 * targets are all known to be dead costs no time: it leaves its reason, and a probe beside the request. */
#include "courier/engine.h"

enum { LAST_CHANCE_MS = 250, TEXT_PER_TARGET = 120 };

/* ---- reasons ---- */

struct sp_text climb_text(struct request *r)
{
    struct sp_text t = {r->text, r->text_n, sizeof r->text, false};

    if (r->text_n > 0)
        SP_TEXT_LIT(&t, "; ");
    return t;
}

void climb_text_end(struct request *r, const struct sp_text *t)
{
    r->text_n = (uint16_t)t->n;
}

static bool serves(const struct slot *s, const struct request *r)
{
    return r->kind == LADDER_KPASSWD ? s->for_kpasswd : s->for_kdc;
}

static bool is_withheld(const struct slot *s, const struct request *r)
{
    return s->t.rung == LADDER_INBAND && r->guessable && !s->t.timestamp_allowed;
}

static const char *reason_of(const struct slot *s, const struct request *r)
{
    if (is_withheld(s, r))
        return "nobody vouches for it, so it gets no timestamp that passwords can be tried on";
    if (s->reason[0])
        return s->reason;
    if (s->address_count == 0)
        return s->literal ? "an address that nothing is sent to" : "its address is not known";
    return r->busy ? "not available" : "no answer in time";
}

static void note_rung(const struct ladder *l, struct request *r, enum ladder_rung rung)
{
    const struct realm *x = &l->realms[r->realm];
    struct sp_text t = climb_text(r);
    const char *between = ": ";

    sp_text_str(&t, ladder_rung_name(rung));
    for (uint32_t i = 0; i < x->slot_count; i++) {
        const struct slot *s = slot_at(l, r->realm, x->order[i]);
        if (s->t.rung != rung || (x->order[i] != SLOT_LOCAL && !serves(s, r)))
            continue;
        sp_text_str(&t, between);
        if (x->order[i] != SLOT_LOCAL) {
            sp_text_safe(&t, s->t.host);
            SP_TEXT_LIT(&t, ": ");
        }
        sp_text_str(&t, reason_of(s, r));
        between = ", ";
    }
    if (between[0] == ':')
        sp_text_str(&t, x->refused_found ? ": nothing but places that nothing is sent to"
                                         : ": no place is known");
    climb_text_end(r, &t);
}

/* ---- end ---- */

static void end(struct ladder *l, struct sp_env env, uint32_t request, enum ladder_what what)
{
    struct request *r = &l->requests[request];

    r->state = REQUEST_ENDED;
    r->end = what;
    r->took_us = env.mono_us - r->began_us;
    tries_let_go(l, request, what == LADDER_ANSWER ? LET_GO_ANSWERED : LET_GO_SILENT, env.mono_us);
    hold_drop(&l->hold, r->held);
    r->held = NIL;
    limits_leave(l, r);
    due_set(l, node_of_request(l, request), NEVER);
    APPEND(&l->ended, l->requests, link, request);
}

void climb_refuse(struct ladder *l, struct sp_env env, uint32_t request, int32_t code)
{
    l->requests[request].code = code;
    end(l, env, request, LADDER_REFUSE);
}

void climb_answer(struct ladder *l, struct sp_env env, uint32_t request, enum ladder_rung by,
                  struct sp_span reply, int32_t code)
{
    struct request *r = &l->requests[request];

    r->answered_by = by;
    r->code = code;
    end(l, env, request, LADDER_ANSWER);
    r->reply_held = hold_copy(&l->hold, reply);
    r->reply_n = reply.n;
    if (r->reply_held != NIL)
        return;
    r->end = LADDER_REFUSE;
    r->code = KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE;
    r->limited = true;
}

/* Decision 60: what may not be sent in-band, and could not be sent any other way, is answered here. */
static void answer_policy(struct ladder *l, struct sp_env env, uint32_t request)
{
    struct sp_span made = {0};
    struct sp_err e = {0};
    struct sp_arena mem;

    sp_arena_init(&mem, l->scratch, SCRATCH);
    if (check_make_policy(env, realm_name(l, l->requests[request].realm), &mem, &made, &e))
        climb_answer(l, env, request, LADDER_INBAND, made, KDC_ERR_POLICY);
    else
        climb_refuse(l, env, request, KDC_ERR_POLICY);
}

static bool any_place(const struct ladder *l, const struct request *r)
{
    const struct realm *x = &l->realms[r->realm];

    for (uint32_t i = 0; i < x->slot_count; i++)
        if (x->order[i] == SLOT_LOCAL || slot_at(l, r->realm, x->order[i])->address_count > 0)
            return true;
    return false;
}

static void finish(struct ladder *l, struct sp_env env, uint32_t request)
{
    struct request *r = &l->requests[request];

    if (r->withheld)
        answer_policy(l, env, request);
    else if (r->busy)
        climb_refuse(l, env, request, r->busy);
    else
        climb_refuse(l, env, request,
                     any_place(l, r) ? KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE : KRB_AP_ERR_IAKERB_KDC_NOT_FOUND);
}

/* ---- who is next ---- */

static enum ladder_carry carry_to(const struct slot *s, const struct request *r, int64_t now_us)
{
    if (s->t.rung == LADDER_RELAY)
        return LADDER_BY_HTTPS;
    if (s->t.rung == LADDER_INBAND)
        return LADDER_BY_NEGOTIATE;
    if (s->t.tcp_only || r->n > UDP_MAX || s->udp_shut_until_us > now_us)
        return LADDER_BY_TCP;
    return LADDER_BY_UDP;
}

static bool eligible(const struct slot *s, uint32_t i, const struct request *r, enum ladder_rung rung)
{
    return i != SLOT_LOCAL && s->t.rung == rung && serves(s, r) && s->address_count > 0 && !is_withheld(s, r);
}

static int64_t best_latency(const struct ladder *l, const struct request *r, enum ladder_rung rung)
{
    const struct realm *x = &l->realms[r->realm];
    int64_t best = 0;

    for (uint32_t i = 0; i < x->slot_count; i++) {
        const struct slot *s = slot_at(l, r->realm, x->order[i]);
        if (eligible(s, x->order[i], r, rung) && s->life == LADDER_ALIVE &&
            (best == 0 || s->latency_us < best))
            best = s->latency_us;
    }
    return best;
}

/* The smaller the sooner; the configuration's order decides among equals. */
static unsigned badness(const struct slot *s, const struct request *r, uint8_t asked, int64_t best_us)
{
    bool secondary = (r->prefer_primary || r->kind == LADDER_KPASSWD) && !s->t.primary;
    bool slow = s->life == LADDER_ALIVE && s->latency_us > 4 * best_us + 20 * US_PER_MS;

    return (unsigned)asked << 4 | (unsigned)secondary << 3 | health_rank(s) << 1 | slow;
}

static uint32_t pick(const struct ladder *l, const struct request *r, enum ladder_rung rung)
{
    const struct realm *x = &l->realms[r->realm];
    int64_t best_us = best_latency(l, r, rung);
    uint32_t found = NIL;
    unsigned least = ~0u;

    for (uint32_t i = 0; i < x->slot_count; i++) {
        uint32_t k = x->order[i];
        const struct slot *s = slot_at(l, r->realm, k);
        unsigned bad;
        if (!eligible(s, k, r, rung) || health_rank(s) > HEALTH_LAST || r->asked[k] >= s->address_count)
            continue;
        bad = badness(s, r, r->asked[k], best_us);
        if (bad < least) {
            least = bad;
            found = k;
        }
    }
    return found;
}

static bool ask(struct ladder *l, struct sp_env env, uint32_t request, uint32_t k, bool probe)
{
    struct request *r = &l->requests[request];
    const struct slot *s = slot_at(l, r->realm, k);
    uint8_t first = r->asked[k] ? r->first[k] : s->address_now;
    uint8_t address = (uint8_t)((first + r->asked[k]) % s->address_count);
    struct way w = {k, address, carry_to(s, r, env.mono_us), probe};

    if (probe)
        return r->tries.count < TRIES_MAX && tries_begin(l, env, request, w);
    r->next_us = env.mono_us + health_hedge_us(l, s, r->proof);
    if (r->tries.count >= TRIES_MAX)
        tries_give_place(l, request, env.mono_us);
    if (!tries_begin(l, env, request, w))
        return false;
    r->first[k] = first;
    r->asked[k]++;
    return true;
}

/* What is thought dead is tried again beside a request that has other ways: not by one that a second copy
 * could harm. */
static void probe(struct ladder *l, struct sp_env env, uint32_t request, enum ladder_rung rung)
{
    struct request *r = &l->requests[request];
    const struct realm *x = &l->realms[r->realm];

    if (r->kind == LADDER_KPASSWD || r->proof)
        return;
    for (uint32_t i = 0; i < x->slot_count; i++) {
        const struct slot *s = slot_at(l, r->realm, x->order[i]);
        if (eligible(s, x->order[i], r, rung) && health_retry_due(s, env.mono_us) &&
            !ask(l, env, request, x->order[i], true))
            return;
    }
}

/* ---- rungs ---- */

/* Tries of this request whose silence means nothing yet; of one rung, or of all. */
static uint32_t live_tries(const struct ladder *l, const struct request *r, enum ladder_rung rung)
{
    uint32_t n = 0;

    for (uint32_t i = r->tries.first; i != NIL; i = l->tries[i].in_request.next) {
        const struct try_ *t = &l->tries[i];
        n += !t->judged && !t->probe &&
             (rung == LADDER_RUNGS || slot_at(l, r->realm, t->slot)->t.rung == rung);
    }
    return n;
}

static int64_t rung_time_us(const struct ladder *l, const struct request *r, enum ladder_rung rung)
{
    const struct realm *x = &l->realms[r->realm];
    int64_t most = l->limit.rung_ms * US_PER_MS;

    for (uint32_t i = 0; i < x->slot_count; i++) {
        const struct slot *s = slot_at(l, r->realm, x->order[i]);
        if (s->t.rung == rung && s->life == LADDER_ALIVE && health_silence_us(l, s) > most)
            most = health_silence_us(l, s);
    }
    return rung == LADDER_LOCAL ? l->limit.all_ms * US_PER_MS : most;
}

static void note_withheld(const struct ladder *l, struct request *r, enum ladder_rung rung)
{
    const struct realm *x = &l->realms[r->realm];

    for (uint32_t i = 0; i < x->slot_count; i++) {
        const struct slot *s = slot_at(l, r->realm, x->order[i]);
        if (x->order[i] != SLOT_LOCAL && s->t.rung == rung && serves(s, r) && is_withheld(s, r))
            r->withheld = true;
    }
}

static void enter_rung(struct ladder *l, struct sp_env env, uint32_t request)
{
    struct request *r = &l->requests[request];
    const struct realm *x = &l->realms[r->realm];
    enum ladder_rung rung;

    if (r->rung >= x->rung_count)
        return;
    rung = x->ladder[r->rung];
    r->rung_until_us = env.mono_us + rung_time_us(l, r, rung);
    r->next_us = env.mono_us;
    if (rung == LADDER_LOCAL) {
        (void)tries_begin(l, env, request, (struct way){SLOT_LOCAL, 0, LADDER_BY_WORKER, false});
        return;
    }
    note_withheld(l, r, rung);
    (void)names_want(l, env, r->realm, rung, r->kind); /* what is old is asked again beside */
    probe(l, env, request, rung);
}

/* False: nothing is left on this rung that is worth waiting for. */
static bool stay(struct ladder *l, struct sp_env env, uint32_t request, enum ladder_rung rung)
{
    struct request *r = &l->requests[request];
    uint32_t k = rung == LADDER_LOCAL ? NIL : pick(l, r, rung);
    bool alone = r->kind == LADDER_KPASSWD && live_tries(l, r, LADDER_RUNGS) > 0;

    if (env.mono_us >= r->rung_until_us) {
        names_give_up(l, env, r->realm, rung);
        return false;
    }
    if (k != NIL && !alone && env.mono_us >= r->next_us && ask(l, env, request, k, false))
        k = pick(l, r, rung);
    r->more = k != NIL && !alone;
    return r->more || live_tries(l, r, rung) > 0 ||
           (rung != LADDER_LOCAL && names_want(l, env, r->realm, rung, r->kind));
}

/* When every way is thought dead, the dead are asked for a moment, unless they just were; the wait stays
 * within that for one rung. */
static bool last_chance(struct ladder *l, struct sp_env env, uint32_t request)
{
    struct request *r = &l->requests[request];
    const struct realm *x = &l->realms[r->realm];
    int64_t until_us = env.mono_us + LAST_CHANCE_MS * US_PER_MS;

    if (r->last_chance || r->busy || until_us > r->began_us + l->limit.rung_ms * US_PER_MS)
        return false;
    r->last_chance = true;
    for (uint32_t i = 0; i < x->slot_count; i++) {
        uint32_t k = x->order[i];
        const struct slot *s = slot_at(l, r->realm, k);
        if (eligible(s, k, r, s->t.rung) && r->asked[k] == 0 && !s->probing &&
            env.mono_us - s->failed_us >= l->limit.dead_retry_ms * US_PER_MS &&
            !ask(l, env, request, k, true))
            break;
    }
    if (until_us < r->until_us)
        r->until_us = until_us;
    return r->tries.count > 0;
}

void climb_due(struct ladder *l, uint32_t request)
{
    const struct request *r = &l->requests[request];
    int64_t at = r->until_us;

    if (r->rung < l->realms[r->realm].rung_count && r->rung_until_us < at)
        at = r->rung_until_us;
    if (r->more && r->next_us < at)
        at = r->next_us;
    due_set(l, node_of_request(l, request), at);
}

void climb(struct ladder *l, struct sp_env env, uint32_t request)
{
    struct request *r = &l->requests[request];
    const struct realm *x = &l->realms[r->realm];

    if (r->state != REQUEST_UNDER_WAY)
        return;
    if (env.mono_us >= r->until_us) {
        if (r->rung < x->rung_count)
            note_rung(l, r, x->ladder[r->rung]);
        finish(l, env, request);
        return;
    }
    r->more = false;
    while (r->rung < x->rung_count && !stay(l, env, request, x->ladder[r->rung])) {
        note_rung(l, r, x->ladder[r->rung++]);
        enter_rung(l, env, request);
    }
    if (r->rung < x->rung_count || (r->last_chance ? r->tries.count > 0 : last_chance(l, env, request)))
        climb_due(l, request);
    else
        finish(l, env, request);
}

void climb_begin(struct ladder *l, struct sp_env env, uint32_t request)
{
    enter_rung(l, env, request);
    climb(l, env, request);
}

/* The network is another one: what was tried on the old one does not count. Once for each request. */
void climb_again(struct ladder *l, struct sp_env env, uint32_t request)
{
    struct request *r = &l->requests[request];

    if (r->state != REQUEST_UNDER_WAY || r->again)
        return;
    r->again = true;
    memset(r->asked, 0, sizeof r->asked);
    r->rung = 0;
    r->text_n = 0;
    climb_begin(l, env, request);
}

void climb_wake(struct ladder *l, struct sp_env env, uint32_t realm)
{
    for (uint32_t i = l->realms[realm].requests.first, next; i != NIL; i = next) {
        next = l->requests[i].in_realm.next;
        climb(l, env, i);
    }
}
