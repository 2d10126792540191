/* SPDX-License-Identifier: MIT */
#include "courier/locate.h"

#include "bytes/cursor.h"
#include "bytes/emitter.h"

#define VERSION 1
static const uint8_t magic[8] = {'S', 'P', 'L', 'O', 'C', 'A', 'T', 'E'};

/* Whoever could forge a file could still send nobody's password exchange off this host. */
static bool is_loopback(const struct locate_door *d)
{
    static const uint8_t v6[16] = {[15] = 1};

    return (d->n == 4 && d->ip[0] == 127) || (d->n == 16 && memcmp(d->ip, v6, sizeof v6) == 0);
}

static bool is_door(const struct locate_door *d)
{
    return (d->service == LOCATE_KDC || d->service == LOCATE_KPASSWD) &&
           (d->transport == LOCATE_UDP || d->transport == LOCATE_TCP) && d->port != 0 && is_loopback(d);
}

/* A NUL in a name would end it early for programs that keep names as C strings. */
static bool is_name(struct sp_span s)
{
    return s.n > 0 && s.n <= LOCATE_NAME_MAX && !memchr(s.p, 0, s.n);
}

/* A file of another boot, kept by mistake, would speak of a time to come. */
static bool is_span_of_time(int64_t written_us, int64_t until_us)
{
    return until_us == 0 || (until_us >= written_us && until_us - written_us <= LOCATE_NO_WAY_MAX_US);
}

/* ---- writing ---- */

static bool check_realm(const struct locate_head *head, const struct locate_realm *r, struct sp_err *e)
{
    bool ok = is_name(r->name) && r->alias_count <= LOCATE_ALIASES_MAX && r->door_count <= LOCATE_DOORS_MAX &&
              is_span_of_time(head->written_us, r->no_way_until_us);

    for (uint32_t i = 0; ok && i < r->alias_count; i++)
        ok = is_name(r->alias[i]);
    for (uint32_t i = 0; ok && i < r->door_count; i++)
        ok = is_door(&r->door[i]);
    return ok || sp_fail(e, SP_EINPUT, 0, "realm %.*s cannot be written for the locator", SP_FMT(r->name));
}

static void put_name(struct sp_emit *o, struct sp_span s)
{
    sp_put_bytes(o, s);
    sp_put_u8(o, (uint8_t)s.n);
}

static void put_door(struct sp_emit *o, const struct locate_door *d)
{
    sp_put_be16(o, d->port);
    sp_put_bytes(o, sp_span(d->ip, d->n));
    sp_put_u8(o, d->n);
    sp_put_u8(o, (uint8_t)d->transport);
    sp_put_u8(o, (uint8_t)d->service);
}

static void put_realm(struct sp_emit *o, const struct locate_realm *r)
{
    size_t before = o->n;

    for (uint32_t i = r->door_count; i-- > 0;)
        put_door(o, &r->door[i]);
    for (uint32_t i = r->alias_count; i-- > 0;)
        put_name(o, r->alias[i]);
    put_name(o, r->name);
    sp_put_be64(o, (uint64_t)r->no_way_until_us);
    sp_put_u8(o, (uint8_t)r->door_count);
    sp_put_u8(o, (uint8_t)r->alias_count);
    sp_put_be16(o, (uint16_t)(o->n - before));
}

static void put_head(struct sp_emit *o, const struct locate_head *head)
{
    sp_put_be64(o, (uint64_t)head->written_us);
    sp_put_be64(o, head->generation);
    sp_put_be32(o, (uint32_t)(o->n + sizeof(uint32_t) + 2 * sizeof(uint16_t) + sizeof magic));
    sp_put_be16(o, (uint16_t)head->realm_count);
    sp_put_be16(o, VERSION);
    sp_put_bytes(o, sp_span(magic, sizeof magic));
}

bool locate_make(const struct locate_head *head, const struct locate_realm *realms, uint8_t *buf, size_t max,
                 struct sp_span *out, struct sp_err *e)
{
    struct sp_emit o = sp_emit_to(buf, max < LOCATE_FILE_MAX ? max : LOCATE_FILE_MAX, e);

    if (head->realm_count > LOCATE_REALMS_MAX || head->written_us < 0)
        return sp_fail(e, SP_EINPUT, 0, "%u realms, written at %lld: not a file for the locator",
                       head->realm_count, (long long)head->written_us);
    o.end = buf + max;
    for (uint32_t i = head->realm_count; i-- > 0;) {
        if (!check_realm(head, &realms[i], e))
            return false;
        put_realm(&o, &realms[i]);
    }
    put_head(&o, head);
    return sp_put_done(&o, out);
}

/* ---- reading ---- */

static struct sp_span get_name(struct sp_cur *c)
{
    const uint8_t *at = c->p;
    struct sp_span s = sp_take(c, sp_get_u8(c, "length of a name"), "name");

    if (sp_ok(c->e) && !is_name(s))
        (void)sp_cur_fail(c, at, 0, "name", "is empty or has a NUL in it");
    return s;
}

static struct locate_door get_door(struct sp_cur *c)
{
    const uint8_t *at = c->p;
    struct locate_door d = {.service = (enum locate_service)sp_get_u8(c, "service"),
                            .transport = (enum locate_transport)sp_get_u8(c, "transport")};
    struct sp_span ip = sp_take(c, sp_get_u8(c, "length of an address"), "address");

    if (ip.n <= sizeof d.ip) {
        d.n = (uint8_t)ip.n;
        memcpy(d.ip, ip.p, ip.n);
    }
    d.port = sp_get_be16(c, "port");
    if (sp_ok(c->e) && !is_door(&d))
        (void)sp_cur_fail(c, at, 0, "door", "is none on loopback");
    return d;
}

static int64_t get_time(struct sp_cur *c, const char *what)
{
    const uint8_t *at = c->p;
    uint64_t v = sp_get_be64(c, what);

    if (v > INT64_MAX)
        return sp_cur_fail(c, at, 0, what, "is out of range");
    return (int64_t)v;
}

static bool get_realm(struct sp_span in, const struct locate_head *head, struct locate_realm *r,
                      struct sp_err *e)
{
    struct sp_cur c = sp_cur_of(in, e);

    r->alias_count = sp_get_u8(&c, "count of aliases");
    r->door_count = sp_get_u8(&c, "count of doors");
    r->no_way_until_us = get_time(&c, "no way until");
    if (sp_ok(e) && (r->alias_count > LOCATE_ALIASES_MAX || r->door_count > LOCATE_DOORS_MAX ||
                     !is_span_of_time(head->written_us, r->no_way_until_us)))
        return sp_cur_fail(&c, in.p, 0, "realm", "has too much of something");
    r->name = get_name(&c);
    for (uint32_t i = 0; sp_ok(e) && i < r->alias_count; i++)
        r->alias[i] = get_name(&c);
    for (uint32_t i = 0; sp_ok(e) && i < r->door_count; i++)
        r->door[i] = get_door(&c);
    return sp_cur_done(&c, "realm");
}

static bool get_head(struct sp_cur *c, struct locate_head *head)
{
    struct sp_span in = sp_span(c->p, sp_left(c));

    if (!sp_same(sp_take(c, sizeof magic, "magic"), sp_span(magic, sizeof magic)))
        return sp_cur_fail(c, in.p, 0, "magic", "is not a locator's");
    if (sp_get_be16(c, "version") != VERSION)
        return sp_cur_fail(c, in.p, 0, "version", "is not known here");
    head->realm_count = sp_get_be16(c, "count of realms");
    if (sp_get_be32(c, "size") != in.n || in.n > LOCATE_FILE_MAX)
        return sp_cur_fail(c, in.p, 0, "size", "is not the file's");
    head->generation = sp_get_be64(c, "generation");
    head->written_us = get_time(c, "written");
    return head->realm_count <= LOCATE_REALMS_MAX || sp_cur_fail(c, in.p, 0, "realms", "are too many");
}

enum match { NO_MATCH, LIKE, BY_NAME };

static enum match match_realm(const struct locate_realm *r, struct sp_span wanted)
{
    if (sp_same(r->name, wanted))
        return BY_NAME;
    if (sp_same_nocase(r->name, wanted))
        return LIKE;
    for (uint32_t i = 0; i < r->alias_count; i++)
        if (sp_same_nocase(r->alias[i], wanted))
            return LIKE;
    return NO_MATCH;
}

bool locate_find(struct sp_span file, struct sp_span realm, struct locate_head *head,
                 struct locate_realm *out, struct sp_err *e)
{
    struct sp_cur c = sp_cur_of(file, e);
    struct locate_head h = {0};
    struct locate_realm one, found = {0};
    enum match best = NO_MATCH;

    if (!get_head(&c, &h))
        return false;
    for (uint32_t i = 0; i < h.realm_count; i++) {
        if (!get_realm(sp_take(&c, sp_get_be16(&c, "size of a realm"), "realm"), &h, &one, e))
            return false;
        enum match m = match_realm(&one, realm);
        if (m > best) {
            best = m;
            found = one;
        }
    }
    if (!sp_cur_done(&c, "locator's file"))
        return false;
    if (best == NO_MATCH)
        return sp_fail(e, SP_ENOTFOUND, 0, "realm %.*s is not carried", SP_FMT(realm));
    *head = h;
    *out = found;
    return true;
}

bool locate_is_no_way(const struct locate_head *head, const struct locate_realm *r, int64_t boot_us)
{
    return r->no_way_until_us != 0 && boot_us >= head->written_us && boot_us < r->no_way_until_us;
}
