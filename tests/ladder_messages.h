/* SPDX-License-Identifier: MIT */
/* Kerberos messages for tests of the courier's engine: right in shape, empty of meaning. */
#ifndef SP_TESTS_LADDER_MESSAGES_H
#define SP_TESTS_LADDER_MESSAGES_H

#include "krb/codes.h"
#include "krb/messages.h"

static inline struct sp_span message_of(enum krb_type t, const void *m, struct sp_arena *mem)
{
    struct sp_span out = {0};
    struct sp_err e = {0};
    bool made = krb_make(t, m, mem, &out, &e);

    sp_assert(made);
    return out;
}

static inline struct krb_name message_name(const char *one, struct sp_span two, struct sp_arena *mem)
{
    struct sp_err e = {0};
    struct sp_span *v = sp_new_array(mem, struct sp_span, 2, &e);

    sp_assert(v != NULL);
    v[0] = sp_str(one);
    v[1] = two;
    return (struct krb_name){
        NT_SRV_INST, {v, two.n ? 2u : 1u}
    };
}

/* padata of the types given, the first with `more` bytes in it; ends with 0. */
static inline struct sp_span message_request(enum krb_type t, struct sp_span realm, const int32_t *padata,
                                             size_t more, struct sp_arena *mem)
{
    static const uint8_t zeros[128 * 1024];
    static int32_t etypes[] = {18};
    struct krb_pa pa[8];
    struct krb_kdc_req m = {
        .body = {.has = KRB_BIT(1) | KRB_BIT(3),
                 .realm = realm,
                 .till = 2000000000,
                 .nonce = 7,
                 .etypes = {etypes, 1}}
    };

    m.padata.v = pa;
    for (uint32_t i = 0; padata && padata[i]; i++)
        pa[m.padata.count++] = (struct krb_pa){padata[i], sp_span(zeros, i == 0 ? more : 4)};
    m.has = m.padata.count ? KRB_BIT(3) : 0;
    m.body.cname = message_name("alice", (struct sp_span){0}, mem);
    m.body.sname = message_name("krbtgt", realm, mem);
    return message_of(t, &m, mem);
}

static inline struct krb_ticket message_ticket(struct sp_span realm, const char *one, const char *two,
                                               struct sp_arena *mem)
{
    return (struct krb_ticket){
        .realm = realm,
        .sname = message_name(one, sp_str(two), mem),
        .enc = {.etype = 18, .cipher = SP_LIT("ticket")}
    };
}

/* AS-REP or TGS-REP. */
static inline struct sp_span message_reply(enum krb_type t, struct sp_span realm, size_t n,
                                           struct sp_arena *mem)
{
    static const uint8_t zeros[160 * 1024];
    struct krb_kdc_rep m = {
        .crealm = realm,
        .cname = message_name("alice", (struct sp_span){0                    },
            mem),
        .ticket = message_ticket(realm, "krbtgt", "X", mem),
        .enc = { .etype = 18, .cipher = {zeros, n}}
    };

    return message_of(t, &m, mem);
}

static inline struct sp_span message_error(struct sp_span realm, int32_t code, struct sp_arena *mem)
{
    struct krb_error m = {
        .stime = 1900000000, .code = code, .realm = realm, .sname = message_name("krbtgt", realm, mem)};

    return message_of(KRB_ERROR, &m, mem);
}

static inline struct sp_span message_kpasswd_of(unsigned version, struct sp_span ap, struct sp_span rest,
                                                struct sp_arena *mem)
{
    size_t n = 6 + ap.n + rest.n;
    struct sp_err e = {0};
    uint8_t *p = sp_alloc(mem, n, &e);

    sp_assert(p != NULL);
    p[0] = (uint8_t)(n >> 8);
    p[1] = (uint8_t)n;
    p[2] = (uint8_t)(version >> 8);
    p[3] = (uint8_t)version;
    p[4] = (uint8_t)(ap.n >> 8);
    p[5] = (uint8_t)ap.n;
    if (ap.n)
        memcpy(p + 6, ap.p, ap.n);
    memcpy(p + 6 + ap.n, rest.p, rest.n);
    return sp_span(p, n);
}

static inline struct sp_span message_priv(struct sp_arena *mem)
{
    struct krb_priv m = {
        .enc = {.etype = 18, .cipher = SP_LIT("new password")}
    };

    return message_of(KRB_PRIV, &m, mem);
}

static inline struct sp_span message_kpasswd(struct sp_span realm, const char *service, struct sp_arena *mem)
{
    struct krb_ap_req m = {
        .ticket = message_ticket(realm, "kadmin", service, mem),
        .authenticator = {.etype = 18, .cipher = SP_LIT("authenticator")}
    };

    return message_kpasswd_of(1, message_of(KRB_AP_REQ, &m, mem), message_priv(mem), mem);
}

static inline struct sp_span message_kpasswd_reply(struct sp_arena *mem)
{
    struct krb_ap_rep m = {
        .enc = {.etype = 18, .cipher = SP_LIT("reply")}
    };

    return message_kpasswd_of(1, message_of(KRB_AP_REP, &m, mem), message_priv(mem), mem);
}

#endif
