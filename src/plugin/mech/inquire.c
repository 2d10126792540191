/* SPDX-License-Identifier: MIT */
/* What the mechanism says about itself, and what can be asked of an established context. */
#include "plugin/mech/engine.h"

#define KRB5_ARC "\x2a\x86\x48\x86\xf7\x12\x01\x02\x02" /* 1.2.840.113554.1.2.2 */
#define SASL_NAME "GS2-IAKERB"

static const gss_OID_desc session_key = {11, (void *)KRB5_ARC "\x05\x05"};
static const gss_OID_desc sasl_ssf = {11, (void *)KRB5_ARC "\x05\x0f"};

OM_uint32 mech_inquire_names_for_mech(OM_uint32 *minor, gss_OID mech, gss_OID_set *types)
{
    const gss_const_OID v[] = {GSS_C_NT_USER_NAME,          GSS_C_NT_HOSTBASED_SERVICE,
                               GSS_KRB5_NT_PRINCIPAL_NAME,  GSS_C_NT_EXPORT_NAME,
                               GSS_C_NT_STRING_UID_NAME,    GSS_C_NT_MACHINE_UID_NAME,
                               GSS_C_NT_HOSTBASED_SERVICE_X};
    struct sp_err e = {0};

    (void)mech;
    *minor = 0;
    return mech_give_set(types, v, sizeof v / sizeof(gss_const_OID), &e) ? GSS_S_COMPLETE
                                                                         : mech_fail(minor, &e);
}

OM_uint32 mech_indicate_mechs(OM_uint32 *minor, gss_OID_set *mechs)
{
    const gss_const_OID only[] = {&mech_oid_iakerb};
    struct sp_err e = {0};

    *minor = 0;
    return mech_give_set(mechs, only, 1, &e) ? GSS_S_COMPLETE : mech_fail(minor, &e);
}

static bool give_text(gss_buffer_t out, struct sp_span text, struct sp_err *e)
{
    return !out || mech_give(out, text, e);
}

OM_uint32 mech_inquire_saslname_for_mech(OM_uint32 *minor, const gss_OID mech, gss_buffer_t sasl,
                                         gss_buffer_t name, gss_buffer_t description)
{
    struct sp_err e = {0};

    *minor = 0;
    if (mech && !mech_same_oid(mech, &mech_oid_iakerb))
        return GSS_S_BAD_MECH;
    if (!give_text(sasl, SP_LIT(SASL_NAME), &e) || !give_text(name, SP_LIT("iakerb"), &e) ||
        !give_text(description, SP_LIT("Kerberos through the service itself (Sallyport)"), &e))
        return mech_fail(minor, &e);
    return GSS_S_COMPLETE;
}

OM_uint32 mech_inquire_mech_for_saslname(OM_uint32 *minor, const gss_buffer_t sasl, gss_OID *mech)
{
    *minor = 0;
    if (!sp_same(mech_span(sasl), SP_LIT(SASL_NAME)))
        return GSS_S_BAD_MECH;
    if (mech)
        *mech = &mech_oid_iakerb;
    return GSS_S_COMPLETE;
}

OM_uint32 mech_mech_invoke(OM_uint32 *minor, const gss_OID mech, const gss_OID object, gss_buffer_t value)
{
    (void)mech;
    (void)object;
    (void)value;
    *minor = 0;
    return GSS_S_UNAVAILABLE;
}

/* Our OIDs are static: whoever wants to free one is told that it is done. */
OM_uint32 mech_internal_release_oid(OM_uint32 *minor, gss_OID *oid)
{
    *minor = 0;
    if (*oid != &mech_oid_iakerb)
        return GSS_S_CONTINUE_NEEDED;
    *oid = GSS_C_NO_OID;
    return GSS_S_COMPLETE;
}

/* ---- inquire_sec_context_by_oid ---- */

static bool add(gss_buffer_set_t *data, struct sp_span bytes, struct sp_err *e)
{
    gss_buffer_desc b = {bytes.n, (void *)(uintptr_t)bytes.p};
    OM_uint32 minor;

    return !GSS_ERROR(gss_add_buffer_set_member(&minor, &b, data)) ||
           sp_fail(e, SP_ENOMEM, 0, "out of memory");
}

/* The key, and its type as an OID (1.2.840.113554.1.2.2.4.ETYPE), as SMB servers read it. */
static bool give_key(const struct kctx *k, gss_buffer_set_t *data, struct sp_err *e)
{
    uint8_t type[] = KRB5_ARC "\x04\x00";
    struct sp_key key = {0};
    bool ok = kctx_session_key(k, &key, e);

    type[10] = (uint8_t)key.etype; /* ours are below 128: one byte of an arc */
    ok = ok && add(data, sp_span(key.b, key.n), e) && add(data, sp_span(type, sizeof type - 1), e);
    sp_wipe(&key, sizeof key);
    return ok;
}

/* Bits, as Cyrus SASL counts them; MIT says the key's length too. */
static bool give_ssf(const struct kctx *k, gss_buffer_set_t *data, struct sp_err *e)
{
    struct sp_key key = {0};
    uint8_t bits[4] = {0};
    bool ok = kctx_session_key(k, &key, e);
    unsigned n = key.n * 8u;

    bits[2] = (uint8_t)(n >> 8);
    bits[3] = (uint8_t)n;
    sp_wipe(&key, sizeof key);
    return ok && add(data, sp_span(bits, sizeof bits), e);
}

OM_uint32 mech_inquire_sec_context_by_oid(OM_uint32 *minor, gss_ctx_id_t ctx, gss_OID object,
                                          gss_buffer_set_t *data)
{
    bool wants_key = mech_same_oid(object, &session_key), wants_ssf = mech_same_oid(object, &sasl_ssf);
    struct sp_err e = {0};
    struct kctx *k;
    OM_uint32 ignored;

    *minor = 0;
    *data = GSS_C_NO_BUFFER_SET;
    if (!wants_key && !wants_ssf) /* SPNEGO asks for this and that: none of it is an error */
        return GSS_S_UNAVAILABLE;
    k = mech_established(ctx, &e);
    if (k && (wants_key ? give_key(k, data, &e) : give_ssf(k, data, &e)))
        return GSS_S_COMPLETE;
    (void)gss_release_buffer_set(&ignored, data);
    return mech_fail(minor, &e);
}
