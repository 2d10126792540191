/* SPDX-License-Identifier: MIT */
/* Realms, their names and targets, and how one configuration takes the place of another: a realm keeps its
 * number as long as its name stays, a target keeps its place and what is known of it as long as it is the
 * same place. */
#include "courier/engine.h"

/* ---- names ---- */

static int lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? c + 'a' - 'A' : c;
}

static int compare_nocase(struct sp_span a, struct sp_span b)
{
    for (size_t i = 0; i < a.n && i < b.n; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return lower(a.p[i]) - lower(b.p[i]);
    return a.n == b.n ? 0 : a.n < b.n ? -1 : 1;
}

static uint32_t lower_bound(const struct name *v, uint32_t count, struct sp_span text)
{
    uint32_t lo = 0, hi = count;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (compare_nocase(v[mid].text, text) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

uint32_t realms_find(const struct ladder *l, struct sp_span name, bool any_case)
{
    uint32_t i = lower_bound(l->names, l->name_count, name);

    for (; i < l->name_count && sp_same_nocase(l->names[i].text, name); i++)
        if (any_case || sp_same(l->names[i].text, name))
            return l->by_config[l->names[i].realm];
    return NIL;
}

static bool add_name(struct ladder *l, uint32_t *count, struct sp_span text, uint32_t realm, struct sp_err *e)
{
    struct name *v = l->names_next;
    uint32_t at = lower_bound(v, *count, text);

    if (text.n == 0 || text.n > REALM_MAX)
        return sp_fail(e, SP_EINPUT, 0, "a realm's name of %zu bytes", text.n);
    if (*count == l->name_max)
        return sp_fail(e, SP_EINPUT, 0, "more than %u names of realms", l->name_max);
    if (at < *count && sp_same_nocase(v[at].text, text) && v[at].realm != realm)
        return sp_fail(e, SP_EINPUT, 0, "two realms have the name \"%.*s\"", SP_FMT(text));
    memmove(v + at + 1, v + at, (*count - at) * sizeof *v);
    v[at] = (struct name){text, realm};
    ++*count;
    return true;
}

/* ---- is it a configuration? ---- */

static bool check_target(const struct ladder_target *t, struct sp_err *e)
{
    if (t->rung != LADDER_NATIVE && t->rung != LADDER_RELAY && t->rung != LADDER_INBAND)
        return sp_fail(e, SP_EINPUT, 0, "a target on rung %d", (int)t->rung);
    if (t->host.n == 0 || t->host.n > HOST_MAX || t->path.n > PATH_MAX_N || t->port == 0)
        return sp_fail(e, SP_EINPUT, 0, "host of %zu bytes, path of %zu, port %u", t->host.n, t->path.n,
                       t->port);
    return true;
}

static bool check_realm(const struct ladder_realm *r, struct sp_err *e)
{
    unsigned seen = 0;

    if (r->rung_count == 0 || r->rung_count > LADDER_RUNGS || r->target_count > LADDER_TARGETS_MAX)
        return sp_fail(e, SP_EINPUT, 0, "\"%.*s\": %u rungs, %u targets", SP_FMT(r->name), r->rung_count,
                       r->target_count);
    for (uint32_t i = 0; i < r->rung_count; i++) {
        if ((unsigned)r->ladder[i] >= LADDER_RUNGS || (seen & 1u << r->ladder[i]))
            return sp_fail(e, SP_EINPUT, 0, "\"%.*s\": rung %u of its ladder", SP_FMT(r->name), i + 1);
        seen |= 1u << r->ladder[i];
    }
    for (uint32_t i = 0; i < r->target_count; i++)
        if (!check_target(&r->targets[i], e))
            return false;
    return true;
}

static bool check_all(struct ladder *l, const struct ladder_realm *v, uint32_t count, uint32_t *names,
                      struct sp_err *e)
{
    *names = 0;
    if (count > l->limit.realms)
        return sp_fail(e, SP_EINPUT, 0, "%u realms, at most %u", count, l->limit.realms);
    for (uint32_t i = 0; i < count; i++) {
        if (!check_realm(&v[i], e) || !add_name(l, names, v[i].name, i, e))
            return false;
        for (uint32_t k = 0; k < v[i].aliases.count; k++)
            if (!add_name(l, names, v[i].aliases.v[k], i, e))
                return false;
    }
    return true;
}

/* ---- targets ---- */

bool realms_same_place(const struct ladder_target *a, const struct ladder_target *b)
{
    return a->rung == b->rung && sp_same_nocase(a->host, b->host) && a->port == b->port &&
           a->kpasswd_port == b->kpasswd_port && a->tls == b->tls && a->listed_ip == b->listed_ip &&
           sp_same(a->path, b->path);
}

static void describe(const struct ladder *l, struct slot *s, const struct ladder_target *t)
{
    size_t host_n = t->host.n, path_n = t->path.n;
    struct ladder_address a;

    memmove(s->host, t->host.p, host_n);
    if (path_n)
        memmove(s->path, t->path.p, path_n);
    s->t = *t;
    s->t.host = sp_span(s->host, host_n);
    s->t.path = sp_span(s->path, path_n);
    s->literal = names_parse_address(s->t.host, &a);
    if (!s->literal)
        return;
    s->address[0] = a;
    s->address_count = t->listed_ip || names_may_send(l, &a);
    s->address_now = 0;
}

struct slot *realms_place(struct ladder *l, uint32_t realm, const struct ladder_target *t)
{
    struct realm *x = &l->realms[realm];

    for (uint32_t i = 0; i < LADDER_TARGETS_MAX; i++) {
        struct slot *s = slot_at(l, realm, i);
        if (x->occupied & 1u << i)
            continue;
        memset(s, 0, sizeof *s);
        s->serial = ++l->serial;
        describe(l, s, t);
        x->occupied |= 1u << i;
        return s;
    }
    return NULL;
}

static void vacate(struct ladder *l, uint32_t realm, uint32_t i)
{
    l->realms[realm].occupied &= ~(1u << i);
    slot_at(l, realm, i)->serial = 0;
    names_forget(l, realm, i);
}

static struct slot *find_target(struct ladder *l, uint32_t realm, const struct ladder_target *t)
{
    for (uint32_t i = 0; i < LADDER_TARGETS_MAX; i++)
        if (l->realms[realm].occupied & 1u << i && realms_same_place(&slot_at(l, realm, i)->t, t))
            return slot_at(l, realm, i);
    return NULL;
}

/* What was found makes room for what is listed. */
static struct slot *place_listed(struct ladder *l, uint32_t realm, const struct ladder_target *t)
{
    struct slot *s = realms_place(l, realm, t);

    for (uint32_t i = 0; !s && i < LADDER_TARGETS_MAX; i++) {
        if (!slot_at(l, realm, i)->found)
            continue;
        vacate(l, realm, i);
        s = realms_place(l, realm, t);
    }
    return s;
}

static void list_target(struct ladder *l, uint32_t realm, const struct ladder_target *t, uint16_t number)
{
    struct slot *s = find_target(l, realm, t);

    if (s)
        describe(l, s, t);
    else
        s = place_listed(l, realm, t);
    sp_assert(s != NULL); /* no more are listed than there are places */
    s->found = false;
    s->for_kdc = true;
    s->for_kpasswd = t->rung != LADDER_INBAND; /* IAKERB carries what a KDC is asked, and nothing else */
    s->priority = number;
    s->draw = 0;
}

static bool is_listed(const struct ladder_realm *r, const struct ladder_target *t)
{
    for (uint32_t i = 0; i < r->target_count; i++)
        if (realms_same_place(&r->targets[i], t))
            return true;
    return false;
}

static void list_targets(struct ladder *l, uint32_t realm, const struct ladder_realm *r)
{
    for (uint32_t i = 0; i < LADDER_TARGETS_MAX; i++) {
        struct slot *s = slot_at(l, realm, i);
        bool found_stays = l->realms[realm].discover == r->discover;
        if (l->realms[realm].occupied & 1u << i && !is_listed(r, &s->t) && !(s->found && found_stays))
            vacate(l, realm, i);
    }
    for (uint32_t i = 0; i < r->target_count; i++)
        list_target(l, realm, &r->targets[i], (uint16_t)i);
}

/* ---- order ---- */

static bool comes_before(const struct slot *a, const struct slot *b)
{
    if (a->found != b->found)
        return b->found;
    return a->priority != b->priority ? a->priority < b->priority : a->draw < b->draw;
}

static void order_rung(struct ladder *l, uint32_t realm, enum ladder_rung rung)
{
    struct realm *x = &l->realms[realm];
    uint32_t first = x->slot_count;

    for (uint32_t i = 0; i < LADDER_TARGETS_MAX; i++) {
        uint32_t at = x->slot_count;
        const struct slot *s = slot_at(l, realm, i);
        if (!(x->occupied & 1u << i) || s->t.rung != rung)
            continue;
        for (; at > first && comes_before(s, slot_at(l, realm, x->order[at - 1])); at--)
            x->order[at] = x->order[at - 1];
        x->order[at] = i;
        x->slot_count++;
    }
}

void realms_sort(struct ladder *l, uint32_t realm)
{
    struct realm *x = &l->realms[realm];

    x->slot_count = 0;
    for (uint32_t i = 0; i < x->rung_count; i++) {
        if (x->ladder[i] == LADDER_LOCAL)
            x->order[x->slot_count++] = SLOT_LOCAL;
        else
            order_rung(l, realm, x->ladder[i]);
    }
}

/* ---- one configuration after another ---- */

static uint32_t find_by_name(const struct ladder *l, struct sp_span name)
{
    for (uint32_t i = 0; i < l->realm_top; i++)
        if (l->realms[i].used && sp_same(realm_name(l, i), name))
            return i;
    return NIL;
}

static uint32_t free_place(const struct ladder *l)
{
    for (uint32_t i = 0; i < l->realm_top; i++)
        if (!l->realms[i].used)
            return i;
    return l->realm_top;
}

static uint32_t begin_realm(struct ladder *l, struct sp_span name)
{
    uint32_t i = free_place(l);
    struct realm *x = &l->realms[i];

    sp_assert(i < l->realm_max);
    if (i == l->realm_top)
        l->realm_top++;
    memset(x, 0, sizeof *x);
    memset(&l->lookups[(size_t)i * LOOKUPS], 0, LOOKUPS * sizeof *l->lookups);
    memset(slot_at(l, i, SLOT_LOCAL), 0, sizeof(struct slot));
    slot_at(l, i, SLOT_LOCAL)->serial = ++l->serial;
    x->used = true;
    x->serial = ++l->serial;
    x->requests = (struct list){NIL, NIL, 0};
    memcpy(x->name, name.p, name.n);
    x->name_n = name.n;
    return i;
}

static void fill_realm(struct ladder *l, uint32_t realm, const struct ladder_realm *r, uint32_t config)
{
    struct realm *x = &l->realms[realm];

    x->gone = false;
    x->config = config;
    list_targets(l, realm, r);
    memcpy(x->ladder, r->ladder, sizeof x->ladder);
    x->rung_count = r->rung_count;
    x->discover = r->discover;
    x->kpasswd = r->kpasswd;
    x->in_flight_max = r->in_flight_max ? r->in_flight_max : (l->limit.requests + 3) / 4;
    x->per_second_max = r->per_second_max ? r->per_second_max : LADDER_PER_SECOND;
    realms_sort(l, realm);
}

void realms_drop(struct ladder *l, uint32_t realm)
{
    struct realm *x = &l->realms[realm];

    if (!x->gone || x->requests.count > 0)
        return;
    for (uint32_t i = 0; i < LOOKUPS; i++)
        names_forget(l, realm, i);
    for (uint32_t i = 0; i < SLOTS; i++)
        if (x->occupied & 1u << i || i == SLOT_LOCAL)
            slot_at(l, realm, i)->serial = 0;
    x->used = false;
}

static bool has_places(struct ladder *l, const struct ladder_realm *v, uint32_t count, struct sp_err *e)
{
    uint32_t needed = 0, used = 0;

    for (uint32_t i = 0; i < count; i++)
        needed += find_by_name(l, v[i].name) == NIL;
    for (uint32_t i = 0; i < l->realm_top; i++) /* those without requests make room below */
        used += l->realms[i].used && (l->realms[i].requests.count > 0);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t same = find_by_name(l, v[i].name);
        used += same != NIL && l->realms[same].requests.count == 0;
    }
    return used + needed <= l->realm_max ||
           sp_fail(e, SP_EFULL, 0, "requests of realms that left the configuration are still under way");
}

static void take_over(struct ladder *l, const struct ladder_realm *v, uint32_t count)
{
    for (uint32_t i = 0; i < l->realm_top; i++)
        l->realms[i].gone = l->realms[i].used;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t realm = find_by_name(l, v[i].name);
        if (realm != NIL)
            l->realms[realm].gone = false;
    }
    for (uint32_t i = 0; i < l->realm_top; i++)
        if (l->realms[i].used)
            realms_drop(l, i);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t realm = find_by_name(l, v[i].name);
        if (realm == NIL)
            realm = begin_realm(l, v[i].name);
        fill_realm(l, realm, &v[i], i);
        l->by_config[i] = realm;
    }
    l->config_count = count;
}

bool ladder_configure(struct ladder *l, struct sp_env env, const struct ladder_realm *realms, uint32_t count,
                      struct sp_err *e)
{
    struct name *before = l->names;
    uint32_t names;

    ladder_release(l);
    if (!check_all(l, realms, count, &names, e) || !has_places(l, realms, count, e))
        return false;
    take_over(l, realms, count);
    l->names = l->names_next;
    l->names_next = before;
    l->name_count = names;
    for (uint32_t i = 0; i < l->realm_top; i++)
        if (l->realms[i].used)
            climb_wake(l, env, i);
    return true;
}

bool ladder_find_realm(const struct ladder *l, struct sp_span name, uint32_t *realm)
{
    uint32_t i = realms_find(l, name, true);

    if (i != NIL)
        *realm = l->realms[i].config;
    return i != NIL;
}

bool ladder_health_at(const struct ladder *l, uint32_t realm, uint32_t i, struct ladder_health *out)
{
    const struct realm *x;
    const struct slot *s;

    if (realm >= l->config_count)
        return false;
    x = &l->realms[l->by_config[realm]];
    if (i >= x->slot_count)
        return false;
    s = slot_at(l, l->by_config[realm], x->order[i]);
    *out = (struct ladder_health){
        .rung = x->order[i] == SLOT_LOCAL ? LADDER_LOCAL : s->t.rung,
        .target = x->order[i] == SLOT_LOCAL ? NULL : &s->t,
        .life = s->life,
        .since_us = s->since_us,
        .latency_us = s->latency_us,
        .answers = s->answers,
        .failures = s->failures,
        .found = s->found,
    };
    memcpy(out->reason, s->reason, sizeof out->reason);
    return true;
}
