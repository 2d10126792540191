/* SPDX-License-Identifier: MIT */
/* Numbers of RFC 4120 section 7.5, RFC 6806, RFC 6113, RFC 3244 that the engines use. */
#ifndef SP_KRB_CODES_H
#define SP_KRB_CODES_H

#include <stdint.h>

enum krb_code { /* RFC 4120 7.5.9 */
                KDC_ERR_NONE = 0,
                KDC_ERR_NAME_EXP = 1,
                KDC_ERR_BAD_PVNO = 3,
                KDC_ERR_C_OLD_MAST_KVNO = 4,
                KDC_ERR_S_OLD_MAST_KVNO = 5,
                KDC_ERR_C_PRINCIPAL_UNKNOWN = 6,
                KDC_ERR_S_PRINCIPAL_UNKNOWN = 7,
                KDC_ERR_NULL_KEY = 9,
                KDC_ERR_CANNOT_POSTDATE = 10,
                KDC_ERR_NEVER_VALID = 11,
                KDC_ERR_POLICY = 12,
                KDC_ERR_BADOPTION = 13,
                KDC_ERR_ETYPE_NOSUPP = 14,
                KDC_ERR_SUMTYPE_NOSUPP = 15,
                KDC_ERR_PADATA_TYPE_NOSUPP = 16,
                KDC_ERR_CLIENT_REVOKED = 18,
                KDC_ERR_SERVICE_REVOKED = 19,
                KDC_ERR_TGT_REVOKED = 20,
                KDC_ERR_CLIENT_NOTYET = 21,
                KDC_ERR_KEY_EXPIRED = 23,
                KDC_ERR_PREAUTH_FAILED = 24,
                KDC_ERR_PREAUTH_REQUIRED = 25,
                KDC_ERR_SERVER_NOMATCH = 26,
                KDC_ERR_SVC_UNAVAILABLE = 29,
                KRB_AP_ERR_BAD_INTEGRITY = 31,
                KRB_AP_ERR_TKT_EXPIRED = 32,
                KRB_AP_ERR_TKT_NYV = 33,
                KRB_AP_ERR_REPEAT = 34,
                KRB_AP_ERR_NOT_US = 35,
                KRB_AP_ERR_BADMATCH = 36,
                KRB_AP_ERR_SKEW = 37,
                KRB_AP_ERR_BADVERSION = 39,
                KRB_AP_ERR_MSG_TYPE = 40,
                KRB_AP_ERR_MODIFIED = 41,
                KRB_AP_ERR_BADKEYVER = 44,
                KRB_AP_ERR_NOKEY = 45,
                KRB_AP_ERR_INAPP_CKSUM = 50,
                KRB_ERR_RESPONSE_TOO_BIG = 52,
                KRB_ERR_GENERIC = 60,
                KRB_ERR_FIELD_TOOLONG = 61,
                KDC_ERR_WRONG_REALM = 68,
                KRB_AP_ERR_IAKERB_KDC_NOT_FOUND = 85,
                KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE = 86,
                KDC_ERR_PREAUTH_EXPIRED = 90,
                KDC_ERR_MORE_PREAUTH_DATA_REQUIRED = 91,
};
/* "KDC_ERR_PREAUTH_FAILED", or "code 77" for what is not listed; "code out of range" beyond 0 to 129. */
const char *krb_code_name(int32_t code);

enum krb_usage { /* RFC 4120 7.5.1 */
                 KU_PA_ENC_TS = 1,
                 KU_TICKET = 2,
                 KU_AS_REP = 3,
                 KU_TGS_REQ_AD_SESSION = 4,
                 KU_TGS_REQ_AD_SUBKEY = 5,
                 KU_TGS_REQ_CKSUM = 6,
                 KU_TGS_REQ_AUTH = 7,
                 KU_TGS_REP_SESSION = 8,
                 KU_TGS_REP_SUBKEY = 9,
                 KU_AP_REQ_CKSUM = 10,
                 KU_AP_REQ_AUTH = 11,
                 KU_AP_REP = 12,
                 KU_PRIV = 13,
                 KU_CRED = 14,
                 KU_SAFE = 15,
                 KU_AS_REQ = 56, /* RFC 6806 11 */
};

enum krb_pa_type {
    PA_TGS_REQ = 1,
    PA_ENC_TIMESTAMP = 2,
    PA_ETYPE_INFO = 11,
    PA_ETYPE_INFO2 = 19,
    PA_PAC_REQUEST = 128,
    PA_FOR_USER = 129,
    PA_S4U_X509_USER = 130,
    PA_FX_COOKIE = 133,
    PA_FX_FAST = 136,
    PA_FX_ERROR = 137,
    PA_ENCRYPTED_CHALLENGE = 138,
    PA_REQ_ENC_PA_REP = 149,
    PA_SPAKE = 151,
};

enum krb_nt { /* RFC 4120 6.2, RFC 6806 5 */
              NT_UNKNOWN = 0,
              NT_PRINCIPAL = 1,
              NT_SRV_INST = 2,
              NT_SRV_HST = 3,
              NT_ENTERPRISE = 10,
              NT_WELLKNOWN = 11,
};

#define KRB_FLAG(n) (0x80000000u >> (n))
enum krb_option { /* KDCOptions, RFC 4120 5.4.1; bit numbers */
                  OPT_FORWARDABLE = 1,
                  OPT_FORWARDED = 2,
                  OPT_PROXIABLE = 3,
                  OPT_PROXY = 4,
                  OPT_ALLOW_POSTDATE = 5,
                  OPT_POSTDATED = 6,
                  OPT_RENEWABLE = 8,
                  OPT_CNAME_IN_ADDL_TKT = 14,
                  OPT_CANONICALIZE = 15,
                  OPT_REQUEST_ANONYMOUS = 16,
                  OPT_DISABLE_TRANSITED_CHECK = 26,
                  OPT_RENEWABLE_OK = 27,
                  OPT_ENC_TKT_IN_SKEY = 28,
                  OPT_RENEW = 30,
                  OPT_VALIDATE = 31,
};
enum krb_ticket_flag { /* TicketFlags, RFC 4120 5.3, RFC 6806 11; bit numbers */
                       TKT_FORWARDABLE = 1,
                       TKT_FORWARDED = 2,
                       TKT_PROXIABLE = 3,
                       TKT_PROXY = 4,
                       TKT_MAY_POSTDATE = 5,
                       TKT_POSTDATED = 6,
                       TKT_INVALID = 7,
                       TKT_RENEWABLE = 8,
                       TKT_INITIAL = 9,
                       TKT_PRE_AUTHENT = 10,
                       TKT_HW_AUTHENT = 11,
                       TKT_TRANSITED_POLICY_CHECKED = 12,
                       TKT_OK_AS_DELEGATE = 13,
                       TKT_ENC_PA_REP = 15,
};

enum krb_ad_type {
    AD_IF_RELEVANT = 1,
    AD_KDC_ISSUED = 4,
    AD_AND_OR = 5,
    AD_MANDATORY_FOR_KDC = 8,
    AD_WIN2K_PAC = 128,
    AD_SIGNTICKET = 512,
    AD_SALLYPORT_ACCOUNT = -17401, /* id and generation of the account, in TGTs of ours only (decision 15) */
};

#endif
