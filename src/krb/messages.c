/* SPDX-License-Identifier: MIT */
#include "krb/messages.h"

#include "bytes/walk.h"
#include "krb/codes.h"

/* Tables. DEFINE names the table after the struct, and SUB and LIST take that name: a row that points at the
 * wrong table does not compile. Row order is the order on the wire. */
#define DEFINE_AS(ident, nm, number, has_off, raw_off, is_list)                                              \
    static const struct sp_type t_##ident = {                                                                \
        .name = nm,                                                                                          \
        .field = f_##ident,                                                                                  \
        .count = sizeof f_##ident / sizeof f_##ident[0],                                                     \
        .app = number,                                                                                       \
        .list = is_list,                                                                                     \
        .size = sizeof(M),                                                                                   \
        .has = has_off,                                                                                      \
        .raw = raw_off,                                                                                      \
    };                                                                                                       \
    _Static_assert(sizeof(M) <= SP_TYPE_SIZE_MAX, "raise SP_TYPE_SIZE_MAX")
#define DEFINE(ident, nm, number) DEFINE_AS(ident, nm, number, SP_NOWHERE, SP_NOWHERE, false)
#define DEFINE_HAS(ident, nm, number) DEFINE_AS(ident, nm, number, offsetof(M, has), SP_NOWHERE, false)
#define DEFINE_LIST(ident, nm) DEFINE_AS(ident, nm, 0, SP_NOWHERE, SP_NOWHERE, true)
/* A type with an extension marker. */
#define DEFINE_OPEN(ident, nm, has_off)                                                                      \
    static const struct sp_type t_##ident = {                                                                \
        .name = nm,                                                                                          \
        .field = f_##ident,                                                                                  \
        .count = sizeof f_##ident / sizeof f_##ident[0],                                                     \
        .open = true,                                                                                        \
        .size = sizeof(M),                                                                                   \
        .has = has_off,                                                                                      \
        .raw = SP_NOWHERE,                                                                                   \
    }
#define SUB_(t, m, T, fl, nm)                                                                                \
    {                                                                                                        \
        .name = nm, .sub = &t_##T, .off = SP_OFF(m, struct krb_##T), .tag = t, .kind = SP_ROW_SUB,           \
        .flags = fl                                                                                          \
    }
#define SUB(t, m, T, nm) SUB_(t, m, T, 0, nm)
#define OSUB(t, m, T, nm) SUB_(t, m, T, SP_OPTIONAL, nm)
#define LIST_(t, m, L, T, n, fl, nm)                                                                         \
    {                                                                                                        \
        .name = nm, .sub = &t_##T,                                                                           \
        .off = SP_OFF(m, struct L) + 0 * sizeof(char[_Generic(((struct L *)0)->v, struct krb_##T * : 1)]),   \
        .tag = t, .kind = SP_ROW_LIST, .flags = fl, .max = n                                                 \
    }
#define LIST(t, m, L, T, n, nm) LIST_(t, m, L, T, n, 0, nm)
#define OLIST(t, m, L, T, n, nm) LIST_(t, m, L, T, n, SP_OPTIONAL, nm)
/* A type that is itself a SEQUENCE OF: its C struct is the list. */
#define WHOLE(T, n, nm)                                                                                      \
    {                                                                                                        \
        .name = nm, .sub = &t_##T, .off = 0, .kind = SP_ROW_LIST, .max = n                                   \
    }
#define PVNO(t, p) FIXED(t, pvno, 5, p, "pvno")
#define MSG_TYPE(t) NUMBER(t, msg_type, KRB_AP_ERR_MSG_TYPE, "msg-type")

#define M struct krb_name
static const struct sp_field f_name[] = {
    I32(0, type, "name-type"),
    STRS(1, parts, KRB_NAME_PARTS_MAX, "name-string"),
};
DEFINE(name, "PrincipalName", 0);
#undef M

#define M struct krb_address
static const struct sp_field f_address[] = {
    I32(0, type, "addr-type"),
    OCTETS(1, address, "address"),
};
DEFINE(address, "HostAddress", 0);
#undef M

#define M struct krb_ad
static const struct sp_field f_ad[] = {
    I32(0, type, "ad-type"),
    OCTETS(1, data, "ad-data"),
};
DEFINE(ad, "AuthorizationData element", 0);
#undef M

#define M struct krb_pa
static const struct sp_field f_pa[] = {
    I32(1, type, "padata-type"),
    OCTETS(2, value, "padata-value"),
};
DEFINE(pa, "PA-DATA", 0);
#undef M

#define M struct krb_enc
static const struct sp_field f_enc[] = {
    I32(0, etype, "etype"),
    ONONCE(1, kvno, "kvno"), /* read-only domain controllers send it with the sign set: kept as sent */
    OCTETS(2, cipher, "cipher"),
};
DEFINE_HAS(enc, "EncryptedData", 0);
#undef M

#define M struct krb_keyblock
static const struct sp_field f_keyblock[] = {
    I32(0, type, "keytype"),
    SECRET(1, value, "keyvalue"),
};
DEFINE(keyblock, "EncryptionKey", 0);
#undef M

#define M struct krb_checksum
static const struct sp_field f_checksum[] = {
    I32(0, type, "cksumtype"),
    OCTETS(1, sum, "checksum"),
};
DEFINE(checksum, "Checksum", 0);
#undef M

#define M struct krb_transited
static const struct sp_field f_transited[] = {
    I32(0, type, "tr-type"),
    OCTETS(1, contents, "contents"),
};
DEFINE(transited, "TransitedEncoding", 0);
#undef M

#define M struct krb_ticket
static const struct sp_field f_ticket[] = {
    ONLY(0, 5, KRB_AP_ERR_BADVERSION, "tkt-vno"),
    STR(1, realm, "realm"),
    SUB(2, sname, name, "sname"),
    SUB(3, enc, enc, "enc-part"),
};
DEFINE_AS(ticket, "Ticket", 1, SP_NOWHERE, offsetof(M, raw), false);
#undef M

#define M struct krb_enc_ticket
static const struct sp_field f_enc_ticket[] = {
    FLAGS(0, flags, "flags"),
    SUB(1, key, keyblock, "key"),
    STR(2, crealm, "crealm"),
    SUB(3, cname, name, "cname"),
    SUB(4, transited, transited, "transited"),
    TIME(5, authtime, "authtime"),
    OTIME(6, starttime, "starttime"),
    TIME(7, endtime, "endtime"),
    OTIME(8, renew_till, "renew-till"),
    OLIST(9, caddr, krb_addresses, address, KRB_ADDRESSES_MAX, "caddr"),
    OLIST(10, authdata, krb_authdata, ad, KRB_AUTHDATA_MAX, "authorization-data"),
};
DEFINE_HAS(enc_ticket, "EncTicketPart", 3);
#undef M

#define M struct krb_req_body
static const struct sp_field f_req_body[] = {
    FLAGS(0, options, "kdc-options"),
    OSUB(1, cname, name, "cname"),
    STR(2, realm, "realm"),
    OSUB(3, sname, name, "sname"),
    OTIME(4, from, "from"),
    TIME(5, till, "till"),
    OTIME(6, rtime, "rtime"),
    NONCE(7, nonce, "nonce"), /* Samba's client reads only the signed form that it sent (decision 16) */
    I32S(8, etypes, struct krb_i32s, KRB_ETYPES_MAX, "etype"),
    OLIST(9, addresses, krb_addresses, address, KRB_ADDRESSES_MAX, "addresses"),
    OSUB(10, enc_authdata, enc, "enc-authorization-data"),
    OLIST(11, tickets, krb_tickets, ticket, KRB_TICKETS_MAX, "additional-tickets"),
};
DEFINE_AS(req_body, "KDC-REQ-BODY", 0, offsetof(M, has), offsetof(M, raw), false);
#undef M

#define M struct krb_kdc_req
static const struct sp_field f_as_req[] = {
    PVNO(1, KDC_ERR_BAD_PVNO),
    MSG_TYPE(2),
    OLIST(3, padata, krb_padata, pa, KRB_PADATA_MAX, "padata"),
    SUB(4, body, req_body, "req-body"),
};
#define f_tgs_req f_as_req
DEFINE_HAS(as_req, "AS-REQ", 10);
DEFINE_HAS(tgs_req, "TGS-REQ", 12);
#undef M

#define M struct krb_kdc_rep
static const struct sp_field f_as_rep[] = {
    PVNO(0, KRB_AP_ERR_BADVERSION),
    MSG_TYPE(1),
    OLIST(2, padata, krb_padata, pa, KRB_PADATA_MAX, "padata"),
    STR(3, crealm, "crealm"),
    SUB(4, cname, name, "cname"),
    SUB(5, ticket, ticket, "ticket"),
    SUB(6, enc, enc, "enc-part"),
};
#define f_tgs_rep f_as_rep
DEFINE_HAS(as_rep, "AS-REP", 11);
DEFINE_HAS(tgs_rep, "TGS-REP", 13);
#undef M

#define M struct krb_lastreq_entry
static const struct sp_field f_lastreq_entry[] = {
    I32(0, type, "lr-type"),
    TIME(1, value, "lr-value"),
};
DEFINE(lastreq_entry, "LastReq element", 0);
#undef M

#define M struct krb_enc_kdc_rep
static const struct sp_field f_enc_as_rep[] = {
    SUB(0, key, keyblock, "key"),
    LIST(1, last_req, krb_lastreq, lastreq_entry, KRB_LASTREQ_MAX, "last-req"),
    NONCE(2, nonce, "nonce"),
    OTIME(3, key_expiration, "key-expiration"),
    FLAGS(4, flags, "flags"),
    TIME(5, authtime, "authtime"),
    OTIME(6, starttime, "starttime"),
    TIME(7, endtime, "endtime"),
    OTIME(8, renew_till, "renew-till"),
    STR(9, srealm, "srealm"),
    SUB(10, sname, name, "sname"),
    OLIST(11, caddr, krb_addresses, address, KRB_ADDRESSES_MAX, "caddr"),
    OLIST(12, enc_padata, krb_padata, pa, KRB_PADATA_MAX, "encrypted-pa-data"),
};
#define f_enc_tgs_rep f_enc_as_rep
DEFINE_HAS(enc_as_rep, "EncASRepPart", 25);
DEFINE_HAS(enc_tgs_rep, "EncTGSRepPart", 26);
#undef M

#define M struct krb_ap_req
static const struct sp_field f_ap_req[] = {
    PVNO(0, KRB_AP_ERR_BADVERSION),
    MSG_TYPE(1),
    FLAGS(2, options, "ap-options"),
    SUB(3, ticket, ticket, "ticket"),
    SUB(4, authenticator, enc, "authenticator"),
};
DEFINE(ap_req, "AP-REQ", 14);
#undef M

#define M struct krb_authenticator
static const struct sp_field f_authenticator[] = {
    FIXED(0, vno, 5, KRB_AP_ERR_BADVERSION, "authenticator-vno"),
    STR(1, crealm, "crealm"),
    SUB(2, cname, name, "cname"),
    OSUB(3, cksum, checksum, "cksum"),
    USEC(4, cusec, "cusec"),
    TIME(5, ctime, "ctime"),
    OSUB(6, subkey, keyblock, "subkey"),
    OU32(7, seq, "seq-number"),
    OLIST(8, authdata, krb_authdata, ad, KRB_AUTHDATA_MAX, "authorization-data"),
};
DEFINE_HAS(authenticator, "Authenticator", 2);
#undef M

#define M struct krb_ap_rep
static const struct sp_field f_ap_rep[] = {
    PVNO(0, KRB_AP_ERR_BADVERSION),
    MSG_TYPE(1),
    SUB(2, enc, enc, "enc-part"),
};
DEFINE(ap_rep, "AP-REP", 15);
#undef M

#define M struct krb_enc_ap_rep
static const struct sp_field f_enc_ap_rep[] = {
    TIME(0, ctime, "ctime"),
    USEC(1, cusec, "cusec"),
    OSUB(2, subkey, keyblock, "subkey"),
    OU32(3, seq, "seq-number"),
};
DEFINE_HAS(enc_ap_rep, "EncAPRepPart", 27);
#undef M

#define M struct krb_safe_body
static const struct sp_field f_safe_body[] = {
    OCTETS(0, user_data, "user-data"),
    OTIME(1, timestamp, "timestamp"),
    OUSEC(2, usec, "usec"),
    OU32(3, seq, "seq-number"),
    SUB(4, saddr, address, "s-address"),
    OSUB(5, raddr, address, "r-address"),
};
DEFINE_AS(safe_body, "KRB-SAFE-BODY", 0, offsetof(M, has), offsetof(M, raw), false);
#undef M

#define M struct krb_safe
static const struct sp_field f_safe[] = {
    PVNO(0, KRB_AP_ERR_BADVERSION),
    MSG_TYPE(1),
    SUB(2, body, safe_body, "safe-body"),
    SUB(3, cksum, checksum, "cksum"),
};
DEFINE(safe, "KRB-SAFE", 20);
#undef M

#define M struct krb_priv
static const struct sp_field f_priv[] = {
    PVNO(0, KRB_AP_ERR_BADVERSION),
    MSG_TYPE(1),
    SUB(3, enc, enc, "enc-part"),
};
DEFINE(priv, "KRB-PRIV", 21);
#undef M

#define M struct krb_enc_priv
static const struct sp_field f_enc_priv[] = {
    SECRET(0, user_data, "user-data"), /* a new password, in kpasswd */
    OTIME(1, timestamp, "timestamp"),     OUSEC(2, usec, "usec"),
    OU32(3, seq, "seq-number"),           SUB(4, saddr, address, "s-address"),
    OSUB(5, raddr, address, "r-address"),
};
DEFINE_HAS(enc_priv, "EncKrbPrivPart", 28);
#undef M

#define M struct krb_cred
static const struct sp_field f_cred[] = {
    PVNO(0, KRB_AP_ERR_BADVERSION),
    MSG_TYPE(1),
    LIST(2, tickets, krb_tickets, ticket, KRB_TICKETS_MAX, "tickets"),
    SUB(3, enc, enc, "enc-part"),
};
DEFINE(cred, "KRB-CRED", 22);
#undef M

#define M struct krb_cred_info
static const struct sp_field f_cred_info[] = {
    SUB(0, key, keyblock, "key"),
    OSTR(1, prealm, "prealm"),
    OSUB(2, pname, name, "pname"),
    OFLAGS(3, flags, "flags"),
    OTIME(4, authtime, "authtime"),
    OTIME(5, starttime, "starttime"),
    OTIME(6, endtime, "endtime"),
    OTIME(7, renew_till, "renew-till"),
    OSTR(8, srealm, "srealm"),
    OSUB(9, sname, name, "sname"),
    OLIST(10, caddr, krb_addresses, address, KRB_ADDRESSES_MAX, "caddr"),
};
DEFINE_HAS(cred_info, "KrbCredInfo", 0);
#undef M

#define M struct krb_enc_cred
static const struct sp_field f_enc_cred[] = {
    LIST(0, info, krb_cred_infos, cred_info, KRB_TICKETS_MAX, "ticket-info"),
    OU32(1, nonce, "nonce"),
    OTIME(2, timestamp, "timestamp"),
    OUSEC(3, usec, "usec"),
    OSUB(4, saddr, address, "s-address"),
    OSUB(5, raddr, address, "r-address"),
};
DEFINE_HAS(enc_cred, "EncKrbCredPart", 29);
#undef M

#define M struct krb_error
static const struct sp_field f_error[] = {
    PVNO(0, KRB_AP_ERR_BADVERSION), MSG_TYPE(1),
    OTIME(2, ctime, "ctime"),       OUSEC(3, cusec, "cusec"),
    TIME(4, stime, "stime"),        USEC(5, susec, "susec"),
    I32(6, code, "error-code"),     OSTR(7, crealm, "crealm"),
    OSUB(8, cname, name, "cname"),  STR(9, realm, "realm"),
    SUB(10, sname, name, "sname"),  OSTR(11, text, "e-text"),
    OOCTETS(12, data, "e-data"),
};
DEFINE_HAS(error, "KRB-ERROR", 30);
#undef M

#define M struct krb_pa_enc_ts
static const struct sp_field f_pa_enc_ts[] = {
    TIME(0, time, "patimestamp"),
    OUSEC(1, usec, "pausec"),
};
DEFINE_HAS(pa_enc_ts, "PA-ENC-TS-ENC", 0);
#undef M

#define M struct krb_info
static const struct sp_field f_info[] = {
    I32(0, etype, "etype"),
    OOCTETS(1, salt, "salt"),
};
DEFINE_HAS(info, "ETYPE-INFO-ENTRY", 0);
#undef M

#define M struct krb_info2
static const struct sp_field f_info2[] = {
    I32(0, etype, "etype"),
    OSTR(1, salt, "salt"),
    OOCTETS(2, params, "s2kparams"),
};
DEFINE_HAS(info2, "ETYPE-INFO2-ENTRY", 0);
#undef M

#define M struct krb_kdc_issued
static const struct sp_field f_kdc_issued[] = {
    SUB(0, cksum, checksum, "ad-checksum"),
    OSTR(1, realm, "i-realm"),
    OSUB(2, sname, name, "i-sname"),
    LIST(3, elements, krb_authdata, ad, KRB_AUTHDATA_MAX, "elements"),
};
DEFINE_HAS(kdc_issued, "AD-KDCIssued", 0);
#undef M

#define M struct krb_and_or
static const struct sp_field f_and_or[] = {
    I32(0, condition_count, "condition-count"),
    LIST(1, elements, krb_authdata, ad, KRB_AUTHDATA_MAX, "elements"),
};
DEFINE(and_or, "AD-AND-OR", 0);
#undef M

#define M struct krb_typed
static const struct sp_field f_typed[] = {
    I32(0, type, "data-type"),
    OOCTETS(1, value, "data-value"),
};
DEFINE_HAS(typed, "TYPED-DATA element", 0);
#undef M

/* PA-ClientCanonicalizedNames lives in the same struct as the type that holds it, so that its bytes can be
 * kept beside it. */
#define M struct krb_client_canonicalized
static const struct sp_field f_canonicalized_names[] = {
    SUB(0, requested, name, "requested-name"),
    SUB(1, mapped, name, "mapped-name"),
};
DEFINE_AS(canonicalized_names, "PA-ClientCanonicalizedNames", 0, SP_NOWHERE, offsetof(M, names_raw), false);
static const struct sp_field f_client_canonicalized[] = {
    {.name = "names", .sub = &t_canonicalized_names, .kind = SP_ROW_SUB},
    SUB(1, cksum, checksum, "canon-checksum"),
};
DEFINE(client_canonicalized, "PA-ClientCanonicalized", 0);
#undef M

#define M struct krb_change_passwd
static const struct sp_field f_change_passwd[] = {
    SECRET(0, newpasswd, "newpasswd"),
    OSUB(1, targname, name, "targname"),
    OSTR(2, targrealm, "targrealm"),
};
DEFINE_HAS(change_passwd, "ChangePasswdData", 0);
#undef M

#define M struct krb_spake_factor
static const struct sp_field f_spake_factor[] = {
    I32(0, type, "type"),
    OOCTETS(1, data, "data"),
};
DEFINE_HAS(spake_factor, "SPAKESecondFactor", 0);
#undef M

#define M struct krb_spake_support
static const struct sp_field f_spake_support[] = {
    I32S(0, groups, struct krb_i32s, KRB_SPAKE_GROUPS_MAX, "groups"),
};
DEFINE(spake_support, "SPAKESupport", 0);
#undef M

#define M struct krb_spake_challenge
static const struct sp_field f_spake_challenge[] = {
    I32(0, group, "group"),
    OCTETS(1, pubkey, "pubkey"),
    LIST(2, factors, krb_spake_factors, spake_factor, KRB_SPAKE_FACTORS_MAX, "factors"),
};
DEFINE(spake_challenge, "SPAKEChallenge", 0);
#undef M

#define M struct krb_spake_response
static const struct sp_field f_spake_response[] = {
    OCTETS(0, pubkey, "pubkey"),
    SUB(1, factor, enc, "factor"),
};
DEFINE(spake_response, "SPAKEResponse", 0);
#undef M

#define M struct krb_pa_spake
static const struct sp_field f_pa_spake[] = {
    OSUB(0, support, spake_support, "support"),
    OSUB(1, challenge, spake_challenge, "challenge"),
    OSUB(2, response, spake_response, "response"),
    OSUB(3, encdata, enc, "encdata"),
};
static const struct sp_type t_pa_spake = {
    .name = "PA-SPAKE",
    .field = f_pa_spake,
    .count = sizeof f_pa_spake / sizeof f_pa_spake[0],
    .choice = true,
    .size = sizeof(M),
    .has = offsetof(M, has),
    .raw = SP_NOWHERE,
};
#undef M

#define M struct krb_iakerb_header
static const struct sp_field f_iakerb_header[] = {
    UTF8(1, target_realm, "target-realm"),
    OOCTETS(2, cookie, "cookie"),
    OFLAGS(3, header_flags, "header-flags"),
};
DEFINE_OPEN(iakerb_header, "IAKERB-HEADER", offsetof(M, has));
static const struct sp_field f_iakerb_header_old[] = {
    OCTETS(1, target_realm, "target-realm"),
    OOCTETS(2, cookie, "cookie"),
    OFLAGS(3, header_flags, "header-flags"),
};
DEFINE_OPEN(iakerb_header_old, "IAKERB-HEADER", offsetof(M, has));
#undef M

#define M struct krb_iakerb_finished
static const struct sp_field f_iakerb_finished[] = {SUB(1, mic, checksum, "gss-mic")};
DEFINE_OPEN(iakerb_finished, "IAKERB-FINISHED", SP_NOWHERE);
#undef M

/* MS-KKDCP 2.2.2. The hint is an INTEGER of 32 flags, which peers write with or without a sign: kept as sent.
 */
#define M struct krb_kdc_proxy
static const struct sp_field f_kdc_proxy[] = {
    OCTETS(0, message, "kerb-message"),
    OSTR(1, target_domain, "target-domain"),
    ONONCE(2, dclocator_hint, "dclocator-hint"),
};
DEFINE_OPEN(kdc_proxy, "KDC-PROXY-MESSAGE", offsetof(M, has));
#undef M

#define M struct krb_padata
static const struct sp_field f_padata[] = {WHOLE(pa, KRB_PADATA_MAX, "METHOD-DATA")};
DEFINE_LIST(padata, "METHOD-DATA");
#undef M
#define M struct krb_authdata
static const struct sp_field f_authdata[] = {WHOLE(ad, KRB_AUTHDATA_MAX, "AuthorizationData")};
DEFINE_LIST(authdata, "AuthorizationData");
#undef M
#define M struct krb_infos
static const struct sp_field f_infos[] = {WHOLE(info, KRB_INFO_MAX, "ETYPE-INFO")};
DEFINE_LIST(infos, "ETYPE-INFO");
#undef M
#define M struct krb_infos2
static const struct sp_field f_infos2[] = {WHOLE(info2, KRB_INFO_MAX, "ETYPE-INFO2")};
DEFINE_LIST(infos2, "ETYPE-INFO2");
#undef M
#define M struct krb_typed_data
static const struct sp_field f_typed_data[] = {WHOLE(typed, KRB_INFO_MAX, "TYPED-DATA")};
DEFINE_LIST(typed_data, "TYPED-DATA");
#undef M

static const struct sp_type *const types[KRB_TYPE_COUNT] = {
    [KRB_NAME] = &t_name,
    [KRB_ENC] = &t_enc,
    [KRB_TICKET] = &t_ticket,
    [KRB_ENC_TICKET] = &t_enc_ticket,
    [KRB_REQ_BODY] = &t_req_body,
    [KRB_AS_REQ] = &t_as_req,
    [KRB_TGS_REQ] = &t_tgs_req,
    [KRB_AS_REP] = &t_as_rep,
    [KRB_TGS_REP] = &t_tgs_rep,
    [KRB_ENC_AS_REP] = &t_enc_as_rep,
    [KRB_ENC_TGS_REP] = &t_enc_tgs_rep,
    [KRB_AP_REQ] = &t_ap_req,
    [KRB_AUTHENTICATOR] = &t_authenticator,
    [KRB_AP_REP] = &t_ap_rep,
    [KRB_ENC_AP_REP] = &t_enc_ap_rep,
    [KRB_SAFE] = &t_safe,
    [KRB_PRIV] = &t_priv,
    [KRB_ENC_PRIV] = &t_enc_priv,
    [KRB_CRED] = &t_cred,
    [KRB_ENC_CRED] = &t_enc_cred,
    [KRB_ERROR] = &t_error,
    [KRB_PADATA] = &t_padata,
    [KRB_AUTHDATA] = &t_authdata,
    [KRB_PA_ENC_TS] = &t_pa_enc_ts,
    [KRB_INFOS] = &t_infos,
    [KRB_INFOS2] = &t_infos2,
    [KRB_KDC_ISSUED] = &t_kdc_issued,
    [KRB_AND_OR] = &t_and_or,
    [KRB_TYPED_DATA] = &t_typed_data,
    [KRB_CLIENT_CANONICALIZED] = &t_client_canonicalized,
    [KRB_CHANGE_PASSWD] = &t_change_passwd,
    [KRB_CHECKSUM] = &t_checksum,
    [KRB_KEYBLOCK] = &t_keyblock,
    [KRB_IAKERB_FINISHED] = &t_iakerb_finished,
    [KRB_IAKERB_HEADER] = &t_iakerb_header,
    [KRB_IAKERB_HEADER_OLD] = &t_iakerb_header_old,
    [KRB_PA_SPAKE] = &t_pa_spake,
    [KRB_SPAKE_FACTOR] = &t_spake_factor,
    [KRB_KDC_PROXY] = &t_kdc_proxy,
};

static const struct sp_type *table(enum krb_type t)
{
    sp_assert((unsigned)t < KRB_TYPE_COUNT && types[t]);
    return types[t];
}

const struct sp_type *krb_type_table(enum krb_type t)
{
    return table(t);
}

bool krb_get(enum krb_type t, struct sp_span in, unsigned mode, struct sp_arena *mem, void *out,
             struct sp_err *e)
{
    return sp_type_get(table(t), in, (mode & KRB_UNKNOWN_TAIL) != 0, mem, out, e);
}

bool krb_put(enum krb_type t, const void *msg, uint8_t *buf, size_t cap, struct sp_span *out,
             struct sp_err *e)
{
    size_t n;

    return sp_type_put(table(t), msg, buf, cap, &n, out, e);
}

/* Most messages fit the first try; one that does not says how much it takes. The bytes end up at the front of
 * the try. */
bool krb_make(enum krb_type t, const void *msg, struct sp_arena *mem, struct sp_span *out, struct sp_err *e)
{
    size_t left = mem->max - mem->used, cap = left < 1024 ? left : 1024, n = 0;
    struct sp_err first = {0};
    struct sp_span made;
    uint8_t *to;

    if (!sp_type_put(table(t), msg, mem->p + mem->used, cap, &n, &made, &first)) {
        if (first.kind != SP_EFULL) {
            *e = sp_ok(e) ? first : *e;
            return false;
        }
        to = sp_alloc(mem, n, e);
        return to && sp_type_put(table(t), msg, to, n, &n, out, e);
    }
    memmove(mem->p + mem->used, made.p, made.n);
    *out = sp_span(mem->p + mem->used, made.n);
    mem->used += made.n;
    if (mem->peak < mem->used - made.n + cap) /* the try may have left bytes anywhere in it */
        mem->peak = mem->used - made.n + cap;
    return true;
}

void krb_print(enum krb_type t, const void *msg, struct sp_text *to)
{
    sp_type_print(table(t), msg, to);
}

enum krb_type krb_sniff(struct sp_span in)
{
    static const enum krb_type whole[] = {KRB_AS_REQ, KRB_TGS_REQ, KRB_AS_REP, KRB_TGS_REP, KRB_AP_REQ,
                                          KRB_AP_REP, KRB_SAFE,    KRB_PRIV,   KRB_CRED,    KRB_ERROR};

    for (size_t i = 0; in.n > 0 && i < sizeof whole / sizeof whole[0]; i++) {
        if (in.p[0] == (0x60 | types[whole[i]]->app))
            return whole[i];
    }
    return KRB_TYPE_COUNT;
}

const char *krb_type_name(enum krb_type t)
{
    return table(t)->name;
}
