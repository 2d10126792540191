/* SPDX-License-Identifier: MIT */
#include "krb/codes.h"

#include <stddef.h>

#define ROW(c)                                                                                               \
    {                                                                                                        \
        c, #c                                                                                                \
    }
static const struct {
    int32_t code;
    const char *name;
} rows[] = {
    ROW(KDC_ERR_NONE),
    ROW(KDC_ERR_NAME_EXP),
    ROW(KDC_ERR_BAD_PVNO),
    ROW(KDC_ERR_C_OLD_MAST_KVNO),
    ROW(KDC_ERR_S_OLD_MAST_KVNO),
    ROW(KDC_ERR_C_PRINCIPAL_UNKNOWN),
    ROW(KDC_ERR_S_PRINCIPAL_UNKNOWN),
    ROW(KDC_ERR_NULL_KEY),
    ROW(KDC_ERR_CANNOT_POSTDATE),
    ROW(KDC_ERR_NEVER_VALID),
    ROW(KDC_ERR_POLICY),
    ROW(KDC_ERR_BADOPTION),
    ROW(KDC_ERR_ETYPE_NOSUPP),
    ROW(KDC_ERR_SUMTYPE_NOSUPP),
    ROW(KDC_ERR_PADATA_TYPE_NOSUPP),
    ROW(KDC_ERR_CLIENT_REVOKED),
    ROW(KDC_ERR_SERVICE_REVOKED),
    ROW(KDC_ERR_TGT_REVOKED),
    ROW(KDC_ERR_CLIENT_NOTYET),
    ROW(KDC_ERR_KEY_EXPIRED),
    ROW(KDC_ERR_PREAUTH_FAILED),
    ROW(KDC_ERR_PREAUTH_REQUIRED),
    ROW(KDC_ERR_SERVER_NOMATCH),
    ROW(KDC_ERR_SVC_UNAVAILABLE),
    ROW(KRB_AP_ERR_BAD_INTEGRITY),
    ROW(KRB_AP_ERR_TKT_EXPIRED),
    ROW(KRB_AP_ERR_TKT_NYV),
    ROW(KRB_AP_ERR_REPEAT),
    ROW(KRB_AP_ERR_NOT_US),
    ROW(KRB_AP_ERR_BADMATCH),
    ROW(KRB_AP_ERR_SKEW),
    ROW(KRB_AP_ERR_BADVERSION),
    ROW(KRB_AP_ERR_MSG_TYPE),
    ROW(KRB_AP_ERR_MODIFIED),
    ROW(KRB_AP_ERR_BADKEYVER),
    ROW(KRB_AP_ERR_NOKEY),
    ROW(KRB_AP_ERR_INAPP_CKSUM),
    ROW(KRB_ERR_RESPONSE_TOO_BIG),
    ROW(KRB_ERR_GENERIC),
    ROW(KRB_ERR_FIELD_TOOLONG),
    ROW(KDC_ERR_WRONG_REALM),
    ROW(KRB_AP_ERR_IAKERB_KDC_NOT_FOUND),
    ROW(KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE),
    ROW(KDC_ERR_PREAUTH_EXPIRED),
    ROW(KDC_ERR_MORE_PREAUTH_DATA_REQUIRED),
};

/* What is not listed keeps its number; the texts are constants, so that a name never needs memory. */
#define TEN(d)                                                                                               \
    "code " d "0", "code " d "1", "code " d "2", "code " d "3", "code " d "4", "code " d "5", "code " d "6", \
        "code " d "7", "code " d "8", "code " d "9"
static const char *const number[] = {
    TEN(""),  TEN("1"), TEN("2"), TEN("3"),  TEN("4"),  TEN("5"),  TEN("6"),
    TEN("7"), TEN("8"), TEN("9"), TEN("10"), TEN("11"), TEN("12"),
};

const char *krb_code_name(int32_t code)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].code == code)
            return rows[i].name;
    }
    if (code < 0 || (size_t)code >= sizeof number / sizeof number[0])
        return "code out of range";
    return number[code];
}
