/* SPDX-License-Identifier: MIT */
/* MIT's description of the format (ccache_file_format): numbers big-endian; a header of tags in format 4, of
 * which tag 1 is the KDC's clock; the default principal; then credentials to the end of the file. */
#include "krb/ccache.h"

#include "bytes/cursor.h"
#include "bytes/emitter.h"
#include "krb/name.h"

enum { VERSION_3 = 0x0503, VERSION_4 = 0x0504, TAG_OFFSET = 1, LISTED_MAX = 64 };

static const struct sp_span config_realm = {(const uint8_t *)"X-CACHECONF:", 12};

/* ---- reading ---- */

static struct sp_span get_data(struct sp_cur *c, const char *what)
{
    return sp_take(c, sp_get_be32(c, what), what);
}

static bool get_principal(struct sp_cur *c, struct sp_arena *mem, struct krb_name *name,
                          struct sp_span *realm)
{
    const uint8_t *at;
    uint32_t count;

    name->type = (int32_t)sp_get_be32(c, "name type");
    at = c->p;
    count = sp_get_be32(c, "number of components");
    if (count > KRB_NAME_PARTS_MAX)
        return sp_cur_fail(c, at, 0, "number of components", "too many of them");
    *realm = get_data(c, "realm");
    name->parts = (struct sp_spans){sp_new_array(mem, struct sp_span, count, c->e), 0};
    if (!name->parts.v)
        return false;
    while (name->parts.count < count)
        name->parts.v[name->parts.count++] = get_data(c, "component");
    return sp_ok(c->e);
}

static bool get_key(struct sp_cur *c, uint16_t version, struct sp_key *out)
{
    const uint8_t *at = c->p;
    struct sp_span key;

    out->etype = (int16_t)sp_get_be16(c, "encryption type");
    if (version == VERSION_3)
        sp_skip(c, 2, "encryption type");
    key = get_data(c, "key");
    if (key.n > sizeof out->b)
        return sp_cur_fail(c, at, 0, "key", "longer than any key");
    out->n = (uint8_t)key.n;
    memcpy(out->b, key.p, key.n);
    return sp_ok(c->e);
}

/* Addresses and authorization data: read over, for nobody asks a cache for them. */
static bool skip_list(struct sp_cur *c, const char *what)
{
    const uint8_t *at = c->p;
    uint32_t count = sp_get_be32(c, what);

    if (count > LISTED_MAX)
        return sp_cur_fail(c, at, 0, what, "too many of them");
    while (count-- > 0) {
        sp_skip(c, 2, what);
        (void)get_data(c, what);
    }
    return sp_ok(c->e);
}

static bool get_credential(struct sp_cur *c, uint16_t version, struct sp_arena *mem,
                           struct krb_credential *out)
{
    struct krb_credential v = {0};

    if (!get_principal(c, mem, &v.client, &v.crealm) || !get_principal(c, mem, &v.server, &v.srealm) ||
        !get_key(c, version, &v.key))
        return false;
    v.authtime = sp_get_be32(c, "authtime");
    v.starttime = sp_get_be32(c, "starttime");
    v.endtime = sp_get_be32(c, "endtime");
    v.renew_till = sp_get_be32(c, "renew-till");
    sp_skip(c, 1, "is_skey");
    v.flags = sp_get_be32(c, "flags");
    if (!skip_list(c, "addresses") || !skip_list(c, "authorization data"))
        return false;
    v.ticket = get_data(c, "ticket");
    (void)get_data(c, "second ticket");
    if (!sp_ok(c->e))
        return false;
    *out = v;
    return true;
}

static bool get_header(struct sp_cur *c, struct krb_ccache *out)
{
    const uint8_t *end = c->end, *at = c->p;
    uint16_t n = sp_get_be16(c, "length of the header"), tag, size;

    if (n > sp_left(c))
        return sp_cur_fail(c, at, 0, "header", "longer than the file");
    c->end = c->p + n;
    while (sp_left(c) > 0) {
        tag = sp_get_be16(c, "header tag");
        size = sp_get_be16(c, "header field");
        if (tag == TAG_OFFSET && size == 8) {
            out->offset_s = (int32_t)sp_get_be32(c, "clock offset");
            out->offset_us = (int32_t)sp_get_be32(c, "clock offset");
        } else {
            sp_skip(c, size, "header field");
        }
    }
    c->end = end;
    return sp_ok(c->e);
}

/* Entries of MIT's cache configuration look like credentials of a realm that cannot exist; an entry whose end
 * is 0 and whose ticket is gone was removed. */
static bool keep(struct krb_ccache *out, const struct krb_credential *v)
{
    bool config = sp_same(v->srealm, config_realm);

    if (!config && v->ticket.n == 0)
        return true;
    if (out->count + out->config_count == KRB_CCACHE_CREDS_MAX)
        return false;
    if (config)
        out->config[out->config_count++] = *v;
    else
        out->v[out->count++] = *v;
    return true;
}

/* How many credentials there are, without keeping any; the arena is given back. */
static bool count_credentials(struct sp_cur c, uint16_t version, struct sp_arena *mem, uint32_t *count)
{
    size_t mark = mem->used;
    struct krb_credential v;

    for (*count = 0; sp_left(&c) > 0 && *count <= KRB_CCACHE_CREDS_MAX; ++*count) {
        bool ok = get_credential(&c, version, mem, &v);

        mem->used = mark;
        sp_wipe(&v.key, sizeof v.key);
        if (!ok)
            return false;
    }
    if (*count > KRB_CCACHE_CREDS_MAX)
        return sp_cur_fail(&c, c.p, 0, "credential cache", "too many credentials");
    return true;
}

static bool get_all(struct sp_cur *c, struct sp_arena *mem, struct krb_ccache *out)
{
    uint16_t version = sp_get_be16(c, "version");
    struct krb_credential v = {0};
    uint32_t count;
    bool ok = true;

    if (version != VERSION_3 && version != VERSION_4)
        return sp_fail_at(c->e, SP_EREFUSED, 0, 0, "a credential cache of format 0x%04x; 3 and 4 are read",
                          version);
    if (version == VERSION_4 && !get_header(c, out))
        return false;
    if (!get_principal(c, mem, &out->principal, &out->realm) || !count_credentials(*c, version, mem, &count))
        return false;
    out->v = sp_new_array(mem, struct krb_credential, count, c->e);
    out->config = sp_new_array(mem, struct krb_credential, count, c->e);
    while (ok && out->config && count-- > 0)
        ok = get_credential(c, version, mem, &v) && keep(out, &v);
    sp_wipe(&v, sizeof v);
    return ok && sp_ok(c->e);
}

bool krb_get_ccache(struct sp_span file, struct sp_arena *mem, struct krb_ccache *out, struct sp_err *e)
{
    struct sp_cur c = sp_cur_of(file, e);
    struct krb_ccache v = {0};
    size_t mark = mem->used;

    if (!get_all(&c, mem, &v)) {
        mem->used = mark;
        return false;
    }
    *out = v;
    return true;
}

/* ---- writing, back to front ---- */

static void put_data(struct sp_emit *o, struct sp_span s)
{
    sp_put_bytes(o, s);
    sp_put_be32(o, (uint32_t)s.n);
}

static void put_principal(struct sp_emit *o, const struct krb_name *name, struct sp_span realm)
{
    for (uint32_t i = name->parts.count; i > 0; i--)
        put_data(o, name->parts.v[i - 1]);
    put_data(o, realm);
    sp_put_be32(o, name->parts.count);
    sp_put_be32(o, (uint32_t)name->type);
}

static void put_credential(struct sp_emit *o, const struct krb_credential *v)
{
    sp_put_be32(o, 0); /* no second ticket */
    put_data(o, v->ticket);
    sp_put_be32(o, 0); /* no authorization data */
    sp_put_be32(o, 0); /* no addresses */
    sp_put_be32(o, v->flags);
    sp_put_u8(o, 0);
    sp_put_be32(o, (uint32_t)v->renew_till);
    sp_put_be32(o, (uint32_t)v->endtime);
    sp_put_be32(o, (uint32_t)(v->starttime ? v->starttime : v->authtime));
    sp_put_be32(o, (uint32_t)v->authtime);
    put_data(o, sp_span(v->key.b, v->key.n));
    sp_put_be16(o, (uint16_t)v->key.etype);
    put_principal(o, &v->server, v->srealm);
    put_principal(o, &v->client, v->crealm);
}

static void put_all(struct sp_emit *o, const struct krb_ccache *c)
{
    for (uint32_t i = c->count; i > 0; i--)
        put_credential(o, &c->v[i - 1]);
    for (uint32_t i = c->config_count; i > 0; i--)
        put_credential(o, &c->config[i - 1]);
    put_principal(o, &c->principal, c->realm);
    sp_put_be32(o, (uint32_t)c->offset_us);
    sp_put_be32(o, (uint32_t)c->offset_s);
    sp_put_be16(o, 8);
    sp_put_be16(o, TAG_OFFSET);
    sp_put_be16(o, 12);
    sp_put_be16(o, VERSION_4);
}

/* Once to learn the size, once into the arena: both are the same few lines. */
static bool put_into(struct sp_arena *mem, const struct krb_ccache *all, const struct krb_credential *one,
                     struct sp_span *out, struct sp_err *e)
{
    struct sp_emit o = sp_emit_to(NULL, 0, e);
    uint8_t *p;

    for (int turn = 0; turn < 2; turn++) {
        if (all)
            put_all(&o, all);
        else if (one)
            put_credential(&o, one);
        if (turn == 1)
            break;
        if (o.n > KRB_CCACHE_MAX)
            return sp_fail(e, SP_EINPUT, 0, "a credential cache of %zu bytes", o.n);
        p = sp_alloc(mem, o.n, e);
        if (!p)
            return false;
        o = sp_emit_to(p, o.n, e);
    }
    return sp_put_done(&o, out);
}

bool krb_put_ccache(const struct krb_ccache *c, struct sp_arena *mem, struct sp_span *out, struct sp_err *e)
{
    return put_into(mem, c, NULL, out, e);
}

bool krb_put_credential(const struct krb_credential *c, struct sp_arena *mem, struct sp_span *out,
                        struct sp_err *e)
{
    return put_into(mem, NULL, c, out, e);
}

const struct krb_credential *krb_find_credential(const struct krb_ccache *c, const struct krb_name *server,
                                                 struct sp_span srealm, int64_t now_s)
{
    const struct krb_credential *best = NULL;

    for (uint32_t i = 0; i < c->count; i++) {
        const struct krb_credential *v = &c->v[i];

        if (v->endtime > now_s && krb_same_name(&v->server, server) && sp_same(v->srealm, srealm) &&
            (!best || v->endtime > best->endtime))
            best = v;
    }
    return best;
}
