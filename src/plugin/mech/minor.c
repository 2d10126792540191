/* SPDX-License-Identifier: MIT */
/* Statuses. Minor codes are ours alone and say where a failure came from; the exact text of the last failure
 * stays with its thread, as GSS-API callers ask for it right afterwards. */
#include "plugin/mech/engine.h"

#include "krb/codes.h"

#include <stdio.h>
#include <stdlib.h>

#define BY_KIND (MECH_MINOR_BASE + 0x10)   /* + enum sp_kind */
#define BY_REASON (MECH_MINOR_BASE + 0x40) /* + -enum kctx_reason */
#define BY_CODE (MECH_MINOR_BASE + 0x100)  /* + KRB-ERROR code */
#define CODES 0x100

static _Thread_local struct {
    OM_uint32 minor;
    char text[sizeof((struct sp_err *)NULL)->text];
} last;

static OM_uint32 minor_of(const struct sp_err *e)
{
    if (e->proto > 0 && e->proto < CODES)
        return BY_CODE + (OM_uint32)e->proto;
    if (e->proto < 0 && e->proto > -0x40)
        return BY_REASON + (OM_uint32)-e->proto;
    return BY_KIND + (OM_uint32)e->kind;
}

static OM_uint32 major_of(const struct sp_err *e)
{
    static const OM_uint32 reasons[] = {
        [-KCTX_NO_CONTEXT] = GSS_S_NO_CONTEXT,   [-KCTX_DEFECTIVE] = GSS_S_DEFECTIVE_TOKEN,
        [-KCTX_BAD_SIG] = GSS_S_BAD_SIG,         [-KCTX_BAD_BINDINGS] = GSS_S_BAD_BINDINGS,
        [-KCTX_EXPIRED] = GSS_S_CONTEXT_EXPIRED, [-KCTX_NO_CRED] = GSS_S_NO_CRED,
        [-KCTX_BAD_MECH] = GSS_S_BAD_MECH,       [-KCTX_UNAUTHORIZED] = GSS_S_UNAUTHORIZED,
    };
    size_t reason = e->proto < 0 ? (size_t)-e->proto : 0;

    if (reason > 0 && reason < sizeof reasons / sizeof *reasons && reasons[reason])
        return reasons[reason];
    if (e->proto == KRB_AP_ERR_TKT_EXPIRED)
        return GSS_S_CREDENTIALS_EXPIRED;
    if (e->proto == 0 && e->kind == SP_EINPUT)
        return GSS_S_DEFECTIVE_TOKEN;
    return GSS_S_FAILURE;
}

OM_uint32 mech_fail_as(OM_uint32 *minor, OM_uint32 major, const struct sp_err *e)
{
    *minor = minor_of(e);
    last.minor = *minor;
    memcpy(last.text, e->text, sizeof last.text);
    return major;
}

OM_uint32 mech_fail(OM_uint32 *minor, const struct sp_err *e)
{
    return mech_fail_as(minor, major_of(e), e);
}

OM_uint32 mech_fail_text(OM_uint32 *minor, OM_uint32 major, const char *text)
{
    struct sp_err e = {0};

    (void)sp_fail(&e, SP_EREFUSED, 0, "%s", text);
    return mech_fail_as(minor, major, &e);
}

static void describe(OM_uint32 minor, struct sp_text *to)
{
    if (minor == last.minor && last.text[0])
        sp_text_str(to, last.text);
    else if (minor == MECH_MINOR_NO_ENGINE)
        sp_text_str(to, "the Sallyport mechanism's engine could not be loaded");
    else if (minor >= BY_CODE && minor < BY_CODE + CODES)
        sp_text_fmt(to, "Kerberos error %u", minor - BY_CODE);
    else if (minor >= BY_REASON && minor < BY_CODE)
        sp_text_str(to, "the context or its peer's message was refused");
    else if (minor >= BY_KIND && minor < BY_REASON)
        sp_text_str(to, sp_kind_name((enum sp_kind)(minor - BY_KIND)));
    else
        sp_text_str(to, minor ? "not a code of this mechanism" : "no error");
}

/* Never asks libgssapi in turn: it would ask us again. The mechanism may be NULL. */
OM_uint32 mech_display_status(OM_uint32 *minor, OM_uint32 status, int type, gss_OID mech, OM_uint32 *more,
                              gss_buffer_t text)
{
    char room[256];
    struct sp_text t = sp_text(room, sizeof room);
    struct sp_err e = {0};

    (void)mech;
    *minor = 0;
    if (more)
        *more = 0;
    if (type != GSS_C_MECH_CODE)
        return GSS_S_BAD_STATUS;
    describe(status, &t);
    return mech_give(text, sp_span(t.p, t.n), &e) ? GSS_S_COMPLETE : GSS_S_FAILURE;
}
