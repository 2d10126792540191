/* SPDX-License-Identifier: MIT */
/* Memory handed to callers, OID sets. */
#include "plugin/mech/engine.h"

#include <stdlib.h>

gss_OID_desc mech_oid_iakerb = {6, (void *)"\x2b\x06\x01\x05\x02\x05"};

bool mech_give(gss_buffer_t out, struct sp_span bytes, struct sp_err *e)
{
    uint8_t *p;

    *out = (gss_buffer_desc)GSS_C_EMPTY_BUFFER;
    if (bytes.n == 0) /* libgssapi would not free it */
        return true;
    p = malloc(bytes.n + 1);
    if (!p)
        return sp_fail(e, SP_ENOMEM, 0, "out of memory");
    memcpy(p, bytes.p, bytes.n);
    p[bytes.n] = 0;
    *out = (gss_buffer_desc){bytes.n, p};
    return true;
}

bool mech_same_oid(gss_const_OID a, gss_const_OID b)
{
    return a && b && sp_same(sp_span(a->elements, a->length), sp_span(b->elements, b->length));
}

bool mech_among(gss_OID_set mechs)
{
    if (mechs == GSS_C_NO_OID_SET)
        return true;
    for (size_t i = 0; i < mechs->count; i++)
        if (mech_same_oid(&mechs->elements[i], &mech_oid_iakerb))
            return true;
    return false;
}

bool mech_give_set(gss_OID_set *out, const gss_const_OID *v, size_t count, struct sp_err *e)
{
    OM_uint32 minor;

    if (!out)
        return true;
    *out = GSS_C_NO_OID_SET;
    if (GSS_ERROR(gss_create_empty_oid_set(&minor, out)))
        return sp_fail(e, SP_ENOMEM, 0, "out of memory");
    for (size_t i = 0; i < count; i++)
        if (GSS_ERROR(gss_add_oid_set_member(&minor, (gss_OID)(uintptr_t)v[i], out))) {
            (void)gss_release_oid_set(&minor, out);
            return sp_fail(e, SP_ENOMEM, 0, "out of memory");
        }
    return true;
}
