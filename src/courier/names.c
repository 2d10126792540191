/* SPDX-License-Identifier: MIT */
/* Look-ups: of addresses, and for realms that are configured so, of places (RFC 4120 7.2.3; URI records as
 * MIT and Heimdal read them). What was found stays for pin_s, and longer while the resolver is silent. What
 * DNS says is believed only so far (P41): never an address of this machine or of no machine, no port but
 * Kerberos' own. */
#include "courier/engine.h"

enum { PORT_KDC = 88, PORT_KPASSWD = 464, PORT_HTTPS = 443, FAILED_AGAIN_S = 2, NOTHING_AGAIN_S = 20 };

/* ---- addresses ---- */

static bool get_decimal_byte(struct sp_span *s, uint8_t *out)
{
    unsigned v = 0;
    size_t n = 0;

    for (; n < s->n && n < 4 && s->p[n] >= '0' && s->p[n] <= '9'; n++)
        v = v * 10 + (unsigned)(s->p[n] - '0');
    if (n == 0 || n > 3 || v > 255 || (n > 1 && s->p[0] == '0'))
        return false;
    *out = (uint8_t)v;
    *s = sp_span(s->p + n, s->n - n);
    return true;
}

static bool get_v4(struct sp_span s, uint8_t out[4])
{
    for (int i = 0; i < 4; i++) {
        if (i > 0) {
            if (s.n == 0 || s.p[0] != '.')
                return false;
            s = sp_span(s.p + 1, s.n - 1);
        }
        if (!get_decimal_byte(&s, &out[i]))
            return false;
    }
    return s.n == 0;
}

static int hex_of(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool get_group(struct sp_span *s, uint8_t out[2])
{
    unsigned v = 0;
    size_t n = 0;

    for (; n < s->n && n < 5 && hex_of(s->p[n]) >= 0; n++)
        v = v << 4 | (unsigned)hex_of(s->p[n]);
    if (n == 0 || n > 4)
        return false;
    out[0] = (uint8_t)(v >> 8);
    out[1] = (uint8_t)v;
    *s = sp_span(s->p + n, s->n - n);
    return true;
}

static bool take_colon(struct sp_span *s)
{
    if (s->n == 0 || s->p[0] != ':')
        return false;
    *s = sp_span(s->p + 1, s->n - 1);
    return true;
}

/* RFC 4291 2.2, without a zone; the form that ends like IPv4 is not taken. */
static bool get_v6(struct sp_span s, uint8_t out[16])
{
    uint32_t n = 0, gap = NIL;

    memset(out, 0, 16);
    if (s.n >= 2 && s.p[0] == ':' && s.p[1] != ':')
        return false;
    if (s.n >= 2 && s.p[0] == ':')
        (void)take_colon(&s);
    while (s.n > 0) {
        if (s.p[0] == ':') {
            if (gap != NIL)
                return false;
            gap = n;
            (void)take_colon(&s);
            continue;
        }
        if (n == 16 || !get_group(&s, out + n))
            return false;
        n += 2;
        if (s.n > 0 && (!take_colon(&s) || s.n == 0))
            return false;
    }
    if (gap == NIL)
        return n == 16;
    if (n == 16)
        return false;
    memmove(out + 16 - (n - gap), out + gap, n - gap);
    memset(out + gap, 0, 16 - n);
    return true;
}

bool names_parse_address(struct sp_span text, struct ladder_address *out)
{
    struct ladder_address a = {0};

    if (text.n > 2 && text.p[0] == '[' && text.p[text.n - 1] == ']')
        text = sp_span(text.p + 1, text.n - 2);
    if (get_v4(text, a.ip))
        a.n = 4;
    else if (get_v6(text, a.ip))
        a.n = 16;
    else
        return false;
    *out = a;
    return true;
}

/* Networks that no name may lead to: this machine, this link, nobody, everybody, clouds' metadata. */
static bool is_special(const struct ladder_address *a)
{
    static const struct {
        uint8_t n, bits, ip[16];
    } never[] = {
        {4,  8,   {0}                                                         },
        {4,  8,   {127}                                                       },
        {4,  16,  {169, 254}                                                  },
        {4,  3,   {224}                                                       }, /* multicast and what is behind it */
        {16, 127, {0}                                                         }, /* :: and ::1 */
        {16, 96,  {0}                                                         }, /* ::a.b.c.d */
        {16, 96,  {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}                  }, /* ::ffff:a.b.c.d */
        {16, 96,  {0, 0x64, 0xff, 0x9b}                                       }, /* 64:ff9b::a.b.c.d */
        {16, 10,  {0xfe, 0x80}                                                },
        {16, 10,  {0xfe, 0xc0}                                                },
        {16, 8,   {0xff}                                                      },
        {16, 128, {0xfd, 0, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x54}},
    };

    if (a->n != 4 && a->n != 16)
        return true;
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++) {
        size_t whole = never[i].bits / 8;
        uint8_t mask = (uint8_t)(0xff00 >> never[i].bits % 8);
        if (never[i].n == a->n && memcmp(never[i].ip, a->ip, whole) == 0 &&
            (mask == 0 || ((never[i].ip[whole] ^ a->ip[whole]) & mask) == 0))
            return true;
    }
    return false;
}

bool names_may_send(const struct ladder *l, const struct ladder_address *a)
{
    for (uint32_t i = 0; i < l->own_count; i++)
        if (l->own[i].n == a->n && memcmp(l->own[i].ip, a->ip, a->n) == 0)
            return false;
    return !is_special(a);
}

void ladder_own_addresses(struct ladder *l, const struct ladder_address *own, uint32_t count)
{
    l->own_count = 0;
    for (uint32_t i = 0; i < count && l->own_count < LADDER_OWN_MAX; i++) {
        struct ladder_address *to = &l->own[l->own_count];
        if (own[i].n != 4 && own[i].n != 16)
            continue;
        *to = (struct ladder_address){.n = own[i].n};
        memcpy(to->ip, own[i].ip, own[i].n);
        l->own_count++;
    }
}

/* ---- asking ---- */

static uint32_t number_of(uint32_t realm, uint32_t lookup)
{
    return realm * LOOKUPS + lookup;
}

void names_forget(struct ladder *l, uint32_t realm, uint32_t lookup)
{
    uint32_t i = number_of(realm, lookup);

    if (l->lookups[i].id && !l->lookups[i].asked)
        REMOVE(&l->asking, l->lookups, link, i);
    l->lookups[i] = (struct lookup){0};
}

static bool under_way(const struct lookup *k, int64_t now_us)
{
    return k->id && now_us < k->until_us;
}

/* Its id says where it is, and a round that comes again after a long while. */
static void ask(struct ladder *l, int64_t now_us, uint32_t realm, uint32_t lookup, uint32_t serial)
{
    uint32_t i = number_of(realm, lookup), all = l->realm_max * LOOKUPS;
    struct lookup *k = &l->lookups[i];

    if (under_way(k, now_us))
        return;
    if (k->id && !k->asked)
        REMOVE(&l->asking, l->lookups, link, i);
    l->lookup_round = l->lookup_round % (UINT32_MAX / all - 2) + 1;
    k->id = l->lookup_round * all + i;
    k->serial = serial;
    k->asked = false;
    k->until_us = now_us + l->limit.all_ms * US_PER_MS;
    APPEND(&l->asking, l->lookups, link, i);
}

static bool want_address(struct ladder *l, int64_t now_us, uint32_t realm, uint32_t i)
{
    struct slot *s = slot_at(l, realm, i);

    if (s->literal)
        return false;
    if (now_us >= s->pinned_until_us)
        ask(l, now_us, realm, i, s->serial);
    return s->address_count == 0 && s->life != LADDER_DEAD &&
           under_way(&l->lookups[number_of(realm, i)], now_us);
}

static bool want_query(struct ladder *l, int64_t now_us, uint32_t realm, enum query q)
{
    struct lookup *k = &l->lookups[number_of(realm, LADDER_TARGETS_MAX + (uint32_t)q)];

    if (now_us >= k->fresh_until_us)
        ask(l, now_us, realm, LADDER_TARGETS_MAX + (uint32_t)q, l->realms[realm].serial);
    return k->fresh_until_us == 0 && under_way(k, now_us);
}

static bool want_places(struct ladder *l, int64_t now_us, uint32_t realm, enum ladder_kind kind)
{
    const struct realm *x = &l->realms[realm];
    enum query uri = kind == LADDER_KPASSWD ? QUERY_URI_KPASSWD : QUERY_URI;
    const struct lookup *k = &l->lookups[number_of(realm, LADDER_TARGETS_MAX + (uint32_t)uri)];
    bool wait = false;

    if (x->discover == LADDER_URI || x->discover == LADDER_URI_THEN_SRV)
        wait = want_query(l, now_us, realm, uri);
    if (x->discover == LADDER_SRV || (x->discover == LADDER_URI_THEN_SRV && k->fresh_until_us && k->empty)) {
        if (kind == LADDER_KPASSWD)
            return want_query(l, now_us, realm, QUERY_KPASSWD) || wait;
        wait |= want_query(l, now_us, realm, QUERY_KDC_UDP);
        wait |= want_query(l, now_us, realm, QUERY_KDC_TCP);
    }
    return wait;
}

bool names_want(struct ladder *l, struct sp_env env, uint32_t realm, enum ladder_rung rung,
                enum ladder_kind kind)
{
    const struct realm *x = &l->realms[realm];
    bool wait = false;

    if (!x->gone && x->discover != LADDER_STATIC && (rung == LADDER_NATIVE || rung == LADDER_RELAY))
        wait = want_places(l, env.mono_us, realm, kind);
    for (uint32_t i = 0; i < x->slot_count; i++)
        if (x->order[i] != SLOT_LOCAL && slot_at(l, realm, x->order[i])->t.rung == rung)
            wait |= want_address(l, env.mono_us, realm, x->order[i]);
    return wait;
}

void names_give_up(struct ladder *l, struct sp_env env, uint32_t realm, enum ladder_rung rung)
{
    const struct realm *x = &l->realms[realm];

    for (uint32_t q = 0; q < QUERIES; q++) {
        struct lookup *k = &l->lookups[number_of(realm, LADDER_TARGETS_MAX + q)];
        if (k->id && k->fresh_until_us == 0)
            k->fresh_until_us = 1; /* to be asked again, and not to be waited for */
    }
    for (uint32_t i = 0; i < x->slot_count; i++) {
        struct slot *s = slot_at(l, realm, x->order[i]);
        if (x->order[i] != SLOT_LOCAL && s->t.rung == rung && s->address_count == 0 &&
            s->life != LADDER_DEAD && l->lookups[number_of(realm, x->order[i])].id)
            health_failed(l, s, env.mono_us, LADDER_DEAD,
                          SP_LIT("the resolver does not answer for its name"));
    }
}

void names_expire(struct ladder *l, uint32_t realm)
{
    for (uint32_t i = 0; i < LADDER_TARGETS_MAX; i++)
        if (l->realms[realm].occupied & 1u << i)
            slot_at(l, realm, i)->pinned_until_us = 0;
    for (uint32_t q = 0; q < QUERIES; q++) {
        struct lookup *k = &l->lookups[number_of(realm, LADDER_TARGETS_MAX + q)];
        k->fresh_until_us = k->fresh_until_us ? 1 : 0; /* known, and to be asked again */
    }
}

void names_fill(const struct ladder *l, uint32_t lookup, struct ladder_action *out)
{
    static const struct {
        enum ladder_lookup what;
        const char *prefix;
    } rows[QUERIES] = {
        [QUERY_KDC_UDP] = {LADDER_LOOKUP_SRV, "_kerberos._udp."},
        [QUERY_KDC_TCP] = {LADDER_LOOKUP_SRV, "_kerberos._tcp."},
        [QUERY_KPASSWD] = {LADDER_LOOKUP_SRV, "_kpasswd._udp." },
        [QUERY_URI] = {LADDER_LOOKUP_URI, "_kerberos."     },
        [QUERY_URI_KPASSWD] = {LADDER_LOOKUP_URI, "_kpasswd."      },
    };
    uint32_t realm = lookup / LOOKUPS, k = lookup % LOOKUPS;
    struct sp_text t;

    out->realm = realm_name(l, realm);
    if (k < LADDER_TARGETS_MAX) {
        out->lookup = LADDER_LOOKUP_ADDRESS;
        out->name = slot_at(l, realm, k)->t.host;
        return;
    }
    k -= LADDER_TARGETS_MAX;
    t = sp_text(l->realms[realm].query[k], sizeof l->realms[realm].query[k]);
    out->lookup = rows[k].what;
    sp_text_str(&t, rows[k].prefix);
    sp_text_add(&t, out->realm);
    out->name = sp_span(t.p, t.n);
}

/* ---- being told ---- */

static void told_addresses(struct ladder *l, int64_t now_us, struct slot *s, const struct ladder_found *f)
{
    uint8_t n = 0;
    int64_t again_s = l->limit.pin_s;

    for (uint32_t i = 0; !f->failed && i < f->count && i < LADDER_FOUND_MAX && n < LADDER_ADDRESSES_MAX; i++)
        if (s->t.listed_ip || names_may_send(l, &f->record[i].address))
            s->address[n++] = f->record[i].address;
    if (n > 0) {
        if (s->address_count == 0 && s->life == LADDER_DEAD)
            health_forget(s);
        s->address_now = s->address_now < n ? s->address_now : 0;
    } else {
        again_s = f->failed ? FAILED_AGAIN_S : NOTHING_AGAIN_S;
        if (f->failed && s->address_count > 0) /* what it was found to be last */
            n = s->address_count;
        else
            health_failed(l, s, now_us, LADDER_DEAD,
                          f->failed      ? SP_LIT("the resolver does not answer for its name")
                          : f->count > 0 ? SP_LIT("its name leads to addresses that nothing is sent to")
                                         : SP_LIT("its name is not known"));
    }
    s->address_count = n;
    s->pinned_until_us = now_us + again_s * US_PER_S;
}

static bool good_host(struct sp_span *h)
{
    struct ladder_address a;

    if (h->n > 0 && h->p[h->n - 1] == '.')
        h->n--;
    if (h->n == 0 || h->n > HOST_MAX || names_parse_address(*h, &a))
        return false;
    for (size_t i = 0; i < h->n; i++) {
        uint8_t c = h->p[i];
        if (!(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z') && c != '-' && c != '.' &&
            c != '_')
            return false;
    }
    return true;
}

static bool good_path(struct sp_span p)
{
    for (size_t i = 0; i < p.n; i++)
        if (p.p[i] <= ' ' || p.p[i] >= 0x7f)
            return false;
    return p.n <= PATH_MAX_N;
}

/* A record as a target; false: nothing is sent there. */
static bool target_of(enum query q, const struct ladder_record *r, struct ladder_target *out)
{
    bool for_kpasswd = q == QUERY_KPASSWD || q == QUERY_URI_KPASSWD;
    uint16_t own = r->kkdcp ? PORT_HTTPS : for_kpasswd ? PORT_KPASSWD : PORT_KDC;
    struct ladder_target t = {.rung = LADDER_NATIVE, .host = r->host, .port = PORT_KDC};

    if (!good_host(&t.host) || !good_path(r->path) || (r->port && r->port != own))
        return false;
    t.primary = r->primary;
    if (r->kkdcp) {
        t.rung = LADDER_RELAY;
        t.port = PORT_HTTPS;
        t.path = r->path.n ? r->path : SP_LIT("/KdcProxy");
        t.tls = true;
    }
    *out = t;
    return true;
}

/* By priority, and within one the heavier more often first (RFC 2782). */
static uint32_t draw_for(struct ladder *l, uint16_t weight)
{
    uint32_t most = 0;

    for (uint32_t i = 0; i <= weight % 64u; i++) {
        uint32_t v = random_below(l, UINT32_MAX);
        most = v > most ? v : most;
    }
    return UINT32_MAX - most;
}

static struct slot *find_found(struct ladder *l, uint32_t realm, const struct ladder_target *t)
{
    for (uint32_t i = 0; i < LADDER_TARGETS_MAX; i++) {
        struct slot *s = slot_at(l, realm, i);
        if (l->realms[realm].occupied & 1u << i && s->t.rung == t->rung &&
            sp_same_nocase(s->t.host, t->host) && (s->found || s->t.port == t->port))
            return s;
    }
    return NULL;
}

static void told_place(struct ladder *l, uint32_t realm, enum query q, const struct ladder_record *r)
{
    struct ladder_target t;
    struct slot *s;

    if (!target_of(q, r, &t)) {
        l->realms[realm].refused_found = true;
        return;
    }
    s = find_found(l, realm, &t);
    if (!s) {
        s = realms_place(l, realm, &t);
        if (!s)
            return;
        s->found = true;
    }
    s->for_kdc |= q != QUERY_KPASSWD && q != QUERY_URI_KPASSWD;
    s->for_kpasswd |= q == QUERY_KPASSWD || q == QUERY_URI_KPASSWD;
    s->found_by |= (uint8_t)(1u << q);
    if (!s->found)
        return;
    s->t.primary |= t.primary;
    s->priority = r->priority;
    s->draw = draw_for(l, r->weight);
}

static void told_places(struct ladder *l, int64_t now_us, uint32_t realm, enum query q,
                        const struct ladder_found *f)
{
    struct lookup *k = &l->lookups[number_of(realm, LADDER_TARGETS_MAX + (uint32_t)q)];
    struct realm *x = &l->realms[realm];

    k->fresh_until_us = now_us + (f->failed ? FAILED_AGAIN_S : l->limit.pin_s) * US_PER_S;
    k->empty = f->count == 0 && !f->failed;
    if (f->failed)
        return; /* what was found last stays */
    for (uint32_t i = 0; i < LADDER_TARGETS_MAX; i++)
        if (x->occupied & 1u << i)
            slot_at(l, realm, i)->found_by &= (uint8_t) ~(1u << q);
    for (uint32_t i = 0; i < f->count && i < LADDER_FOUND_MAX; i++)
        told_place(l, realm, q, &f->record[i]);
    for (uint32_t i = 0; i < LADDER_TARGETS_MAX; i++) {
        struct slot *s = slot_at(l, realm, i);
        if (!(x->occupied & 1u << i) || !s->found || s->found_by)
            continue;
        x->occupied &= ~(1u << i);
        s->serial = 0;
        names_forget(l, realm, i);
    }
    realms_sort(l, realm);
}

void ladder_tell_found(struct ladder *l, struct sp_env env, const struct ladder_found *f)
{
    uint32_t all = l->realm_max * LOOKUPS, i = f->lookup_id % all, realm = i / LOOKUPS, k = i % LOOKUPS;
    struct lookup *u;

    ladder_release(l);
    if (f->lookup_id == 0 || realm >= l->realm_top || !l->realms[realm].used)
        return;
    u = &l->lookups[i];
    if (u->id != f->lookup_id || !u->asked)
        return;
    u->id = 0;
    if (k >= LADDER_TARGETS_MAX)
        told_places(l, env.mono_us, realm, (enum query)(k - LADDER_TARGETS_MAX), f);
    else if (l->realms[realm].occupied & 1u << k && slot_at(l, realm, k)->serial == u->serial)
        told_addresses(l, env.mono_us, slot_at(l, realm, k), f);
    climb_wake(l, env, realm);
}
