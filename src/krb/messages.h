/* SPDX-License-Identifier: MIT */
/* The messages of RFC 4120 (5.2 to 5.9), RFC 6806 and RFC 3244 as plain structs. Their wire form is one table
 * each, in messages.c; one walker reads, writes, prints and generates from it.
 *
 * Conventions:
 *   - Spans point into the input that was read (or into the caller's memory when writing); arrays live in the
 * arena.
 *   - OPTIONAL fields: bit n of `has` is set when the field with context tag [n] is present. Fields that are
 * not OPTIONAL need no bit (reading sets theirs as well).
 *   - A field kept as span "raw" is the complete DER of that element, for checksums and for bytes that must
 * not be re-encoded.
 *   - KerberosTime is seconds since 1970. Flags are 32 bits, bit 0 of RFC 4120 being 0x80000000. */
#ifndef SP_KRB_MESSAGES_H
#define SP_KRB_MESSAGES_H

#include "base/arena.h"
#include "base/secret.h"

#define KRB_BIT(n) (1u << (n))
#define KRB_HAS(m, n) (((m)->has & KRB_BIT(n)) != 0)

/* Bounds on what can be repeated; one more is SP_EINPUT at the offset of the first element too many. */
#define KRB_NAME_PARTS_MAX 16
#define KRB_ETYPES_MAX 64
#define KRB_PADATA_MAX 64
#define KRB_ADDRESSES_MAX 64
#define KRB_AUTHDATA_MAX 64
#define KRB_TICKETS_MAX 16
#define KRB_LASTREQ_MAX 16
#define KRB_INFO_MAX 32
#define KRB_SPAKE_GROUPS_MAX 16
#define KRB_SPAKE_FACTORS_MAX 16

struct krb_i32s {
    int32_t *v;
    uint32_t count;
};

struct krb_name { /* PrincipalName, 5.2.2 */
    int32_t type;
    struct sp_spans parts;
};

struct krb_address { /* HostAddress, 5.2.5 */
    int32_t type;
    struct sp_span address;
};
struct krb_addresses {
    struct krb_address *v;
    uint32_t count;
};

struct krb_ad { /* one element of AuthorizationData, 5.2.6 */
    int32_t type;
    struct sp_span data;
};
struct krb_authdata { /* AuthorizationData; also AD-IF-RELEVANT and AD-MANDATORY-FOR-KDC */
    struct krb_ad *v;
    uint32_t count;
};

struct krb_pa { /* PA-DATA, 5.2.7 */
    int32_t type;
    struct sp_span value;
};
struct krb_padata { /* SEQUENCE OF PA-DATA = METHOD-DATA */
    struct krb_pa *v;
    uint32_t count;
};

struct krb_enc { /* EncryptedData, 5.2.9 */
    uint32_t has;
    int32_t etype;
    int64_t kvno; /* [1] OPTIONAL */
    struct sp_span cipher;
};

struct krb_keyblock { /* EncryptionKey, 5.2.9: on the wire; sp_key is the one to hold */
    int32_t type;
    struct sp_span value;
};

struct krb_checksum { /* 5.2.9 */
    int32_t type;
    struct sp_span sum;
};

struct krb_transited {
    int32_t type;
    struct sp_span contents;
};

struct krb_ticket { /* 5.3, [APPLICATION 1] */
    struct sp_span realm;
    struct krb_name sname;
    struct krb_enc enc;
    struct sp_span raw; /* set on reading: the whole element */
};
struct krb_tickets {
    struct krb_ticket *v;
    uint32_t count;
};

struct krb_enc_ticket { /* EncTicketPart, 5.3, [APPLICATION 3] */
    uint32_t has;
    uint32_t flags;
    struct krb_keyblock key;
    struct sp_span crealm;
    struct krb_name cname;
    struct krb_transited transited;
    int64_t authtime;
    int64_t starttime; /* [6] OPTIONAL */
    int64_t endtime;
    int64_t renew_till;           /* [8] OPTIONAL */
    struct krb_addresses caddr;   /* [9] OPTIONAL */
    struct krb_authdata authdata; /* [10] OPTIONAL */
};

struct krb_req_body { /* KDC-REQ-BODY, 5.4.1 */
    uint32_t has;
    uint32_t options;
    struct krb_name cname; /* [1] OPTIONAL */
    struct sp_span realm;
    struct krb_name sname; /* [3] OPTIONAL */
    int64_t from;          /* [4] OPTIONAL */
    int64_t till;
    int64_t rtime; /* [6] OPTIONAL */
    int64_t nonce; /* UInt32, but many peers send it signed: kept, and echoed, as it was sent (decision 16) */
    struct krb_i32s etypes;
    struct krb_addresses addresses; /* [9] OPTIONAL */
    struct krb_enc enc_authdata;    /* [10] OPTIONAL */
    struct krb_tickets tickets;     /* [11] OPTIONAL */
    struct sp_span raw;             /* set on reading: the whole element, for the TGS checksum */
};

struct krb_kdc_req { /* AS-REQ [APPLICATION 10], TGS-REQ [APPLICATION 12] */
    uint32_t has;
    int32_t pvno;             /* [1] */
    int32_t msg_type;         /* [2] */
    struct krb_padata padata; /* [3] OPTIONAL */
    struct krb_req_body body; /* [4] */
};

struct krb_kdc_rep { /* AS-REP [APPLICATION 11], TGS-REP [APPLICATION 13], 5.4.2 */
    uint32_t has;
    int32_t pvno;
    int32_t msg_type;
    struct krb_padata padata; /* [2] OPTIONAL */
    struct sp_span crealm;
    struct krb_name cname;
    struct krb_ticket ticket;
    struct krb_enc enc;
};

struct krb_lastreq_entry {
    int32_t type;
    int64_t value;
};
struct krb_lastreq {
    struct krb_lastreq_entry *v;
    uint32_t count;
};

struct krb_enc_kdc_rep { /* EncASRepPart [APPLICATION 25], EncTGSRepPart [APPLICATION 26], 5.4.2; [12] RFC
                            6806 11 */
    uint32_t has;
    struct krb_keyblock key;
    struct krb_lastreq last_req;
    int64_t nonce;
    int64_t key_expiration; /* [3] OPTIONAL */
    uint32_t flags;
    int64_t authtime;
    int64_t starttime; /* [6] OPTIONAL */
    int64_t endtime;
    int64_t renew_till; /* [8] OPTIONAL */
    struct sp_span srealm;
    struct krb_name sname;
    struct krb_addresses caddr;   /* [11] OPTIONAL */
    struct krb_padata enc_padata; /* [12] OPTIONAL */
};

struct krb_ap_req { /* 5.5.1, [APPLICATION 14] */
    int32_t pvno, msg_type;
    uint32_t options;
    struct krb_ticket ticket;
    struct krb_enc authenticator;
};

struct krb_authenticator { /* 5.5.1, [APPLICATION 2] */
    uint32_t has;
    int32_t vno;
    struct sp_span crealm;
    struct krb_name cname;
    struct krb_checksum cksum; /* [3] OPTIONAL */
    uint32_t cusec;
    int64_t ctime;
    struct krb_keyblock subkey;   /* [6] OPTIONAL */
    uint32_t seq;                 /* [7] OPTIONAL; negative four-byte values are taken as unsigned */
    struct krb_authdata authdata; /* [8] OPTIONAL */
};

struct krb_ap_rep { /* 5.5.2, [APPLICATION 15] */
    int32_t pvno, msg_type;
    struct krb_enc enc;
};

struct krb_enc_ap_rep { /* EncAPRepPart, [APPLICATION 27] */
    uint32_t has;
    int64_t ctime;
    uint32_t cusec;
    struct krb_keyblock subkey; /* [2] OPTIONAL */
    uint32_t seq;               /* [3] OPTIONAL */
};

struct krb_safe_body { /* KRB-SAFE-BODY, 5.6.1 */
    uint32_t has;
    struct sp_span user_data;
    int64_t timestamp; /* [1] OPTIONAL */
    uint32_t usec;     /* [2] OPTIONAL */
    uint32_t seq;      /* [3] OPTIONAL */
    struct krb_address saddr;
    struct krb_address raddr; /* [5] OPTIONAL */
    struct sp_span raw;
};
struct krb_safe { /* [APPLICATION 20] */
    int32_t pvno, msg_type;
    struct krb_safe_body body;
    struct krb_checksum cksum;
};

struct krb_priv { /* 5.7.1, [APPLICATION 21] */
    int32_t pvno, msg_type;
    struct krb_enc enc; /* [3] */
};
struct krb_enc_priv { /* EncKrbPrivPart, [APPLICATION 28] */
    uint32_t has;
    struct sp_span user_data;
    int64_t timestamp; /* [1] OPTIONAL */
    uint32_t usec;     /* [2] OPTIONAL */
    uint32_t seq;      /* [3] OPTIONAL */
    struct krb_address saddr;
    struct krb_address raddr; /* [5] OPTIONAL */
};

struct krb_cred { /* 5.8.1, [APPLICATION 22] */
    int32_t pvno, msg_type;
    struct krb_tickets tickets;
    struct krb_enc enc;
};
struct krb_cred_info { /* KrbCredInfo */
    uint32_t has;
    struct krb_keyblock key;
    struct sp_span prealm;      /* [1] OPTIONAL, as all that follow */
    struct krb_name pname;      /* [2] */
    uint32_t flags;             /* [3] */
    int64_t authtime;           /* [4] */
    int64_t starttime;          /* [5] */
    int64_t endtime;            /* [6] */
    int64_t renew_till;         /* [7] */
    struct sp_span srealm;      /* [8] */
    struct krb_name sname;      /* [9] */
    struct krb_addresses caddr; /* [10] */
};
struct krb_cred_infos {
    struct krb_cred_info *v;
    uint32_t count;
};
struct krb_enc_cred { /* EncKrbCredPart, [APPLICATION 29] */
    uint32_t has;
    struct krb_cred_infos info;
    uint32_t nonce;           /* [1] OPTIONAL */
    int64_t timestamp;        /* [2] OPTIONAL */
    uint32_t usec;            /* [3] OPTIONAL */
    struct krb_address saddr; /* [4] OPTIONAL */
    struct krb_address raddr; /* [5] OPTIONAL */
};

struct krb_error { /* 5.9.1, [APPLICATION 30] */
    uint32_t has;
    int32_t pvno, msg_type;
    int64_t ctime;  /* [2] OPTIONAL */
    uint32_t cusec; /* [3] OPTIONAL */
    int64_t stime;
    uint32_t susec;
    int32_t code;          /* [6] */
    struct sp_span crealm; /* [7] OPTIONAL */
    struct krb_name cname; /* [8] OPTIONAL */
    struct sp_span realm;
    struct krb_name sname;
    struct sp_span text; /* [11] OPTIONAL */
    struct sp_span data; /* [12] OPTIONAL */
};

struct krb_pa_enc_ts { /* PA-ENC-TS-ENC, 5.2.7.2 */
    uint32_t has;
    int64_t time;
    uint32_t usec; /* [1] OPTIONAL */
};

struct krb_info { /* ETYPE-INFO-ENTRY, 5.2.7.4 */
    uint32_t has;
    int32_t etype;
    struct sp_span salt; /* [1] OPTIONAL */
};
struct krb_infos {
    struct krb_info *v;
    uint32_t count;
};

struct krb_info2 { /* ETYPE-INFO2-ENTRY, 5.2.7.5 */
    uint32_t has;
    int32_t etype;
    struct sp_span salt;   /* [1] OPTIONAL */
    struct sp_span params; /* [2] OPTIONAL */
};
struct krb_infos2 {
    struct krb_info2 *v;
    uint32_t count;
};

struct krb_kdc_issued { /* AD-KDCIssued, 5.2.6.2 */
    uint32_t has;
    struct krb_checksum cksum;
    struct sp_span realm;  /* [1] OPTIONAL */
    struct krb_name sname; /* [2] OPTIONAL */
    struct krb_authdata elements;
};
struct krb_and_or { /* AD-AND-OR, 5.2.6.3 */
    int32_t condition_count;
    struct krb_authdata elements;
};

struct krb_typed { /* one element of TYPED-DATA, 5.9.1 */
    uint32_t has;
    int32_t type;
    struct sp_span value; /* [1] OPTIONAL */
};
struct krb_typed_data {
    struct krb_typed *v;
    uint32_t count;
};

struct krb_client_canonicalized { /* PA-ClientCanonicalized, of the drafts that became RFC 6806 */
    struct krb_name requested, mapped;
    struct sp_span names_raw; /* set on reading: PA-ClientCanonicalizedNames, for the checksum */
    struct krb_checksum cksum;
};

struct krb_change_passwd { /* ChangePasswdData, RFC 3244 2 */
    uint32_t has;
    struct sp_span newpasswd;
    struct krb_name targname; /* [1] OPTIONAL */
    struct sp_span targrealm; /* [2] OPTIONAL */
};

struct krb_spake_factor { /* SPAKESecondFactor, RFC 9588 4 */
    uint32_t has;
    int32_t type;
    struct sp_span data; /* [1] OPTIONAL */
};
struct krb_spake_factors {
    struct krb_spake_factor *v;
    uint32_t count;
};
struct krb_spake_support { /* SPAKESupport */
    struct krb_i32s groups;
};
struct krb_spake_challenge { /* SPAKEChallenge */
    int32_t group;
    struct sp_span pubkey;
    struct krb_spake_factors factors;
};
struct krb_spake_response { /* SPAKEResponse */
    struct sp_span pubkey;
    struct krb_enc factor;
};
struct krb_pa_spake { /* PA-SPAKE, a CHOICE: one bit of `has` */
    uint32_t has;
    struct krb_spake_support support;     /* [0] */
    struct krb_spake_challenge challenge; /* [1] */
    struct krb_spake_response response;   /* [2] */
    struct krb_enc encdata;               /* [3] */
};

struct krb_iakerb_header { /* IAKERB-HEADER, draft-ietf-kitten-iakerb-03; with an extension marker */
    uint32_t has;
    struct sp_span target_realm; /* [1]; UTF8String, or OCTET STRING in the old dialect of MIT 1.9 to 1.21 */
    struct sp_span cookie;       /* [2] OPTIONAL */
    uint32_t header_flags;       /* [3] OPTIONAL; Windows */
};

struct krb_iakerb_finished { /* IAKERB-FINISHED, draft-ietf-kitten-iakerb-03; with an extension marker */
    struct krb_checksum mic; /* [1] over every earlier token of the context */
};

struct krb_kdc_proxy { /* KDC-PROXY-MESSAGE, MS-KKDCP 2.2.2; later versions may have more fields */
    uint32_t has;
    struct sp_span message;       /* a Kerberos message behind its length of four bytes, both ways */
    struct sp_span target_domain; /* [1] OPTIONAL; in requests it has to be there */
    int64_t dclocator_hint;       /* [2] OPTIONAL; flags of DsrGetDcNameEx2 */
};

/* Every type that can be read, written and printed by itself. */
enum krb_type {
    KRB_NAME,
    KRB_ENC,
    KRB_TICKET,
    KRB_ENC_TICKET,
    KRB_REQ_BODY,
    KRB_AS_REQ,
    KRB_TGS_REQ,
    KRB_AS_REP,
    KRB_TGS_REP,
    KRB_ENC_AS_REP,
    KRB_ENC_TGS_REP,
    KRB_AP_REQ,
    KRB_AUTHENTICATOR,
    KRB_AP_REP,
    KRB_ENC_AP_REP,
    KRB_SAFE,
    KRB_PRIV,
    KRB_ENC_PRIV,
    KRB_CRED,
    KRB_ENC_CRED,
    KRB_ERROR,
    KRB_PADATA, /* METHOD-DATA */
    KRB_AUTHDATA,
    KRB_PA_ENC_TS,
    KRB_INFOS,
    KRB_INFOS2,
    KRB_KDC_ISSUED,
    KRB_AND_OR,
    KRB_TYPED_DATA,
    KRB_CLIENT_CANONICALIZED,
    KRB_CHANGE_PASSWD,
    KRB_CHECKSUM,
    KRB_KEYBLOCK,
    KRB_IAKERB_FINISHED,
    KRB_IAKERB_HEADER,
    KRB_IAKERB_HEADER_OLD, /* the same struct, the dialect of MIT 1.9 to 1.21 */
    KRB_PA_SPAKE,
    KRB_SPAKE_FACTOR,
    KRB_KDC_PROXY,
    KRB_TYPE_COUNT,
};

/* How strictly to read. Strict DER always; each tolerance is a flag, a vector and a line in docs/PROTOCOL.md
 * (decision 18). */
enum krb_mode {
    KRB_STRICT = 0,
    KRB_UNKNOWN_TAIL = 1, /* unknown trailing fields in a SEQUENCE with an extension marker are skipped */
};

/* Reads one whole message into *out (the struct that goes with t), which is untouched on failure. Trailing
 * bytes are an error. SP_EINPUT with the offset and the field's name in the text; proto is
 * KRB_AP_ERR_BADVERSION (3... see codes.h), KRB_AP_ERR_MSG_TYPE for a wrong pvno/msg-type, KRB_ERR_GENERIC
 * (60) for a value out of range, ASN.1 trouble 0. SP_ENOMEM: the arena. */
SP_MUST bool krb_get(enum krb_type t, struct sp_span in, unsigned mode, struct sp_arena *mem, void *out,
                     struct sp_err *e);

/* Writes canonical DER at the END of buf[0..cap) (it is made back to front); *out points at it.
 * SP_EFULL: cap is too small. pvno and msg_type are written as the type demands, whatever the struct holds.
 */
SP_MUST bool krb_put(enum krb_type t, const void *msg, uint8_t *buf, size_t cap, struct sp_span *out,
                     struct sp_err *e);

/* krb_put into fresh bytes of the arena. */
SP_MUST bool krb_make(enum krb_type t, const void *msg, struct sp_arena *mem, struct sp_span *out,
                      struct sp_err *e);

/* One field a line, indented, names as in the RFC; secrets (key values, new passwords) as their length only.
 */
struct sp_text;
struct sp_type; /* bytes/walk.h */
void krb_print(enum krb_type t, const void *msg, struct sp_text *to);

/* Which KDC message this is, by its first byte: KRB_AS_REQ, KRB_TGS_REQ, KRB_AS_REP, KRB_TGS_REP, KRB_ERROR,
 * KRB_AP_REQ, KRB_PRIV...; KRB_TYPE_COUNT when none. */
enum krb_type krb_sniff(struct sp_span in);

const char *krb_type_name(enum krb_type t);

/* The rows themselves, for sp_type_generate and whatever else walks a table. */
const struct sp_type *krb_type_table(enum krb_type t);

#endif
