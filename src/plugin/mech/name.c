/* SPDX-License-Identifier: MIT */
/* Names: principals, read and written without any look-up. */
#include "plugin/mech/engine.h"

#include <ctype.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define KRB5_OID "\x2a\x86\x48\x86\xf7\x12\x01\x02\x02" /* 1.2.840.113554.1.2.2 */
#define TEXT_ROOM (2 * MECH_NAME_MAX + 16)

static gss_OID_desc enterprise = {10, (void *)"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x06"};

/* Parts, their bytes and the realm behind the struct, one piece. */
struct mech_name *mech_make_name(const struct krb_name *name, struct sp_span realm, struct sp_err *e)
{
    size_t n = realm.n, count = name->parts.count;
    struct mech_name *out;
    struct sp_arena mem;

    for (uint32_t i = 0; i < count; i++)
        n += name->parts.v[i].n + 16; /* what the arena rounds up by */
    n += (count + 4) * sizeof(struct sp_span) + 64;
    out = calloc(1, sizeof *out + n);
    if (!out) {
        (void)sp_fail(e, SP_ENOMEM, 0, "out of memory");
        return NULL;
    }
    sp_arena_init(&mem, out + 1, n);
    out->name = (struct krb_name){
        name->type, {sp_new_array(&mem, struct sp_span, count, e), (uint32_t)count}
    };
    for (uint32_t i = 0; i < count && out->name.parts.v; i++)
        out->name.parts.v[i] = sp_dup(&mem, name->parts.v[i], e);
    out->realm = sp_dup(&mem, realm, e);
    if (sp_ok(e))
        return out;
    free(out);
    return NULL;
}

struct mech_name *mech_parse_name(struct sp_span text, struct sp_err *e)
{
    struct mech_name *out = NULL;
    struct krb_name name;
    struct sp_span realm;
    struct sp_arena mem;
    void *room;

    if (text.n == 0 || text.n > MECH_NAME_MAX) {
        (void)sp_fail(e, SP_EINPUT, 0, "a name of %zu bytes", text.n);
        return NULL;
    }
    room = malloc(TEXT_ROOM);
    if (!room) {
        (void)sp_fail(e, SP_ENOMEM, 0, "out of memory");
        return NULL;
    }
    sp_arena_init(&mem, room, TEXT_ROOM);
    if (krb_parse_name(text, &mem, &name, &realm, e))
        out = mech_make_name(&name, realm, e);
    free(room);
    return out;
}

/* service@host; the host in lower case, as everybody asks the KDC for it (RFC 4121 and MIT's practice), never
 * looked up. Without a host: this one's. */
static struct mech_name *import_service(struct sp_span text, struct sp_err *e)
{
    const uint8_t *at = text.n ? memchr(text.p, '@', text.n) : NULL;
    size_t service_n = at ? (size_t)(at - text.p) : text.n;
    char host[256] = "";
    struct sp_span parts[2] = {sp_span(text.p, service_n), {0}};
    struct krb_name name = krb_name_of(NT_SRV_HST, parts, 2);
    struct mech_name *out;

    if (at && text.n - service_n - 1 < sizeof host)
        memcpy(host, at + 1, text.n - service_n - 1);
    else if (!at && gethostname(host, sizeof host - 1) != 0)
        host[0] = 0;
    for (char *p = host; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    parts[1] = sp_str(host);
    if (parts[0].n == 0 || parts[1].n == 0 || text.n > MECH_NAME_MAX) {
        (void)sp_fail(e, SP_EINPUT, 0, "a host-based name is SERVICE@HOST");
        return NULL;
    }
    out = mech_make_name(&name, sp_span(NULL, 0), e);
    if (out)
        out->host_based = true;
    return out;
}

/* RFC 2743 3.2: 04 01, length and DER of an OID, length and bytes of the name; MIT's and ours. */
static struct mech_name *import_exported(struct sp_span in, struct sp_err *e)
{
    const uint8_t *p = in.p;
    size_t oid_n, n;

    if (in.n < 8 || p[0] != 4 || p[1] != 1 || (oid_n = (size_t)p[2] << 8 | p[3]) + 8 > in.n)
        goto bad;
    p += 4 + oid_n;
    n = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    if (n != in.n - 8 - oid_n)
        goto bad;
    return mech_parse_name(sp_span(p + 4, n), e);
bad:
    (void)sp_fail(e, SP_EINPUT, 0, "not an exported name");
    return NULL;
}

static struct mech_name *import_uid(uid_t uid, struct sp_err *e)
{
    char room[4096];
    struct passwd pw, *found = NULL;

    if (getpwuid_r(uid, &pw, room, sizeof room, &found) != 0 || !found) {
        (void)sp_fail(e, SP_EINPUT, 0, "no user has the number %u", uid);
        return NULL;
    }
    return mech_parse_name(sp_str(pw.pw_name), e);
}

static struct mech_name *import_uid_text(struct sp_span text, struct sp_err *e)
{
    uint64_t uid;

    if (sp_decimal(text, UINT32_MAX, &uid))
        return import_uid((uid_t)uid, e);
    (void)sp_fail(e, SP_EINPUT, 0, "not the number of a user");
    return NULL;
}

static struct mech_name *import_uid_bytes(struct sp_span bytes, struct sp_err *e)
{
    uid_t uid;

    if (bytes.n != sizeof uid) {
        (void)sp_fail(e, SP_EINPUT, 0, "not the number of a user");
        return NULL;
    }
    memcpy(&uid, bytes.p, sizeof uid);
    return import_uid(uid, e);
}

/* user@example.org as one component, for the KDC to make sense of (RFC 6806 5). */
static struct mech_name *import_enterprise(struct sp_span text, struct sp_err *e)
{
    struct krb_name name = krb_name_of(NT_ENTERPRISE, &text, 1);

    if (text.n > 0 && text.n <= MECH_NAME_MAX)
        return mech_make_name(&name, sp_span(NULL, 0), e);
    (void)sp_fail(e, SP_EINPUT, 0, "an enterprise name of %zu bytes", text.n);
    return NULL;
}

typedef struct mech_name *import_fn(struct sp_span, struct sp_err *);
static import_fn *importer(gss_const_OID type)
{
    if (type == GSS_C_NO_OID || mech_same_oid(type, GSS_C_NT_USER_NAME) ||
        mech_same_oid(type, GSS_KRB5_NT_PRINCIPAL_NAME))
        return mech_parse_name;
    if (mech_same_oid(type, GSS_C_NT_HOSTBASED_SERVICE) || mech_same_oid(type, GSS_C_NT_HOSTBASED_SERVICE_X))
        return import_service;
    if (mech_same_oid(type, GSS_C_NT_EXPORT_NAME))
        return import_exported;
    if (mech_same_oid(type, GSS_C_NT_STRING_UID_NAME))
        return import_uid_text;
    if (mech_same_oid(type, GSS_C_NT_MACHINE_UID_NAME))
        return import_uid_bytes;
    if (mech_same_oid(type, &enterprise))
        return import_enterprise;
    return NULL;
}

OM_uint32 mech_import_name(OM_uint32 *minor, gss_buffer_t text, gss_OID type, gss_name_t *name)
{
    import_fn *f = importer(type);
    struct sp_err e = {0};
    struct mech_name *n;

    *minor = 0;
    *name = GSS_C_NO_NAME;
    if (!f)
        return GSS_S_BAD_NAMETYPE;
    n = f(mech_span(text), &e);
    if (!n)
        return mech_fail_as(minor, e.kind == SP_EINPUT ? GSS_S_BAD_NAME : GSS_S_FAILURE, &e);
    *name = (gss_name_t)n;
    return GSS_S_COMPLETE;
}

OM_uint32 mech_import_name_by_mech(OM_uint32 *minor, gss_OID mech, gss_buffer_t text, gss_OID type,
                                   gss_name_t *name)
{
    (void)mech;
    return mech_import_name(minor, text, type, name);
}

void mech_text_name(struct sp_text *to, const struct mech_name *n)
{
    if (n->realm.n > 0)
        krb_text_principal(to, &n->name, n->realm);
    else
        krb_text_name(to, &n->name);
}

OM_uint32 mech_display_name(OM_uint32 *minor, gss_name_t name, gss_buffer_t text, gss_OID *type)
{
    char room[TEXT_ROOM];
    struct sp_text t = sp_text(room, sizeof room);
    struct sp_err e = {0};

    *minor = 0;
    if (!name)
        return GSS_S_BAD_NAME;
    mech_text_name(&t, (struct mech_name *)name);
    if (!mech_give(text, sp_span(t.p, t.n), &e))
        return mech_fail(minor, &e);
    if (type)
        *type = (gss_OID)(uintptr_t)GSS_KRB5_NT_PRINCIPAL_NAME;
    return GSS_S_COMPLETE;
}

OM_uint32 mech_release_name(OM_uint32 *minor, gss_name_t *name)
{
    *minor = 0;
    if (name) {
        free(*name);
        *name = GSS_C_NO_NAME;
    }
    return GSS_S_COMPLETE;
}

OM_uint32 mech_duplicate_name(OM_uint32 *minor, const gss_name_t name, gss_name_t *copy)
{
    const struct mech_name *n = (const struct mech_name *)name;
    struct sp_err e = {0};
    struct mech_name *made;

    *minor = 0;
    *copy = GSS_C_NO_NAME;
    if (!n)
        return GSS_S_BAD_NAME;
    made = mech_make_name(&n->name, n->realm, &e);
    if (!made)
        return mech_fail(minor, &e);
    made->host_based = n->host_based;
    *copy = (gss_name_t)made;
    return GSS_S_COMPLETE;
}

OM_uint32 mech_compare_name(OM_uint32 *minor, gss_name_t a, gss_name_t b, int *equal)
{
    const struct mech_name *x = (struct mech_name *)a, *y = (struct mech_name *)b;

    *minor = 0;
    *equal = 0;
    if (!x || !y)
        return GSS_S_BAD_NAME;
    *equal = krb_same_name(&x->name, &y->name) && sp_same(x->realm, y->realm);
    return GSS_S_COMPLETE;
}

/* With the krb5 mechanism's OID: the principal is the same whichever way its proof travelled, and access
 * lists made with the one shall fit the other. */
OM_uint32 mech_export_name(OM_uint32 *minor, const gss_name_t name, gss_buffer_t token)
{
    static const uint8_t head[] = "\x04\x01\x00\x0b\x06\x09" KRB5_OID;
    const struct mech_name *n = (const struct mech_name *)name;
    uint8_t room[sizeof head + 4 + TEXT_ROOM];
    struct sp_text t = sp_text((char *)room + sizeof head - 1 + 4, TEXT_ROOM);
    struct sp_err e = {0};

    *minor = 0;
    if (!n)
        return GSS_S_BAD_NAME;
    if (n->realm.n == 0)
        return mech_fail_text(minor, GSS_S_NAME_NOT_MN, "a name without realm cannot be exported");
    mech_text_name(&t, n);
    memcpy(room, head, sizeof head - 1);
    for (int i = 0; i < 4; i++)
        room[sizeof head - 1 + (size_t)i] = (uint8_t)(t.n >> (24 - 8 * i));
    return mech_give(token, sp_span(room, sizeof head - 1 + 4 + t.n), &e) ? GSS_S_COMPLETE
                                                                          : mech_fail(minor, &e);
}

OM_uint32 mech_inquire_name(OM_uint32 *minor, gss_name_t name, int *is_mn, gss_OID *mech,
                            gss_buffer_set_t *attributes)
{
    *minor = 0;
    if (!name)
        return GSS_S_BAD_NAME;
    if (is_mn)
        *is_mn = 1;
    if (mech)
        *mech = &mech_oid_iakerb;
    if (attributes)
        *attributes = GSS_C_NO_BUFFER_SET;
    return GSS_S_COMPLETE;
}

OM_uint32 mech_get_name_attribute(OM_uint32 *minor, gss_name_t name, gss_buffer_t attribute,
                                  int *authenticated, int *complete, gss_buffer_t value, gss_buffer_t display,
                                  int *more)
{
    (void)name;
    (void)attribute;
    (void)value;
    (void)display;
    *minor = 0;
    if (authenticated)
        *authenticated = 0;
    if (complete)
        *complete = 0;
    if (more)
        *more = 0;
    return GSS_S_UNAVAILABLE;
}

static bool to_principal(struct lib *l, const struct mech_name *n, krb5_principal *p, struct sp_err *e)
{
    return lib_open(l, e) && lib_principal(l, &n->name, n->realm, p, e);
}

OM_uint32 mech_localname(OM_uint32 *minor, const gss_name_t name, gss_const_OID mech, gss_buffer_t local)
{
    char room[1024];
    struct lib l = {0};
    struct sp_err e = {0};
    krb5_principal p = NULL;
    krb5_error_code bad;
    OM_uint32 major = GSS_S_FAILURE;

    (void)mech; /* may be NULL */
    *minor = 0;
    if (!name)
        return GSS_S_BAD_NAME;
    if (to_principal(&l, (const struct mech_name *)name, &p, &e)) {
        bad = krb5_aname_to_localname(l.k, p, sizeof room, room);
        if (bad)
            (void)lib_fail(&l, bad, "no local name", &e);
        else if (mech_give(local, sp_str(room), &e))
            major = GSS_S_COMPLETE;
    }
    if (!sp_ok(&e))
        major = mech_fail_as(minor, GSS_S_FAILURE, &e);
    krb5_free_principal(l.k, p);
    lib_close(&l);
    return major;
}

OM_uint32 mech_authorize_localname(OM_uint32 *minor, const gss_name_t name, gss_const_buffer_t local,
                                   gss_const_OID type)
{
    char user[256];
    struct lib l = {0};
    struct sp_err e = {0};
    krb5_principal p = NULL;
    bool allowed = false;

    *minor = 0;
    if (!name)
        return GSS_S_BAD_NAME;
    if (type && !mech_same_oid(type, GSS_C_NT_USER_NAME))
        return GSS_S_BAD_NAMETYPE;
    if (local->length == 0 || local->length >= sizeof user || memchr(local->value, 0, local->length))
        return GSS_S_UNAUTHORIZED;
    memcpy(user, local->value, local->length);
    user[local->length] = 0;
    if (to_principal(&l, (const struct mech_name *)name, &p, &e))
        allowed = krb5_kuserok(l.k, p, user);
    krb5_free_principal(l.k, p);
    lib_close(&l);
    return allowed ? GSS_S_COMPLETE : GSS_S_UNAUTHORIZED;
}
