/* SPDX-License-Identifier: MIT */
/* Inside the room: one request on its way through the engine, and what the files of the room lend one
 * another. */
#ifndef SP_KDC_INTERNAL_H
#define SP_KDC_INTERNAL_H

#include "kdc/kdc.h"
#include "kdc/shared.h"

#define KDC_UDP_REPLY_MAX 4096
#define KDC_NONE_S INT64_MAX /* "as long as allowed" */

struct kdc_work { /* lives on the stack of one step */
    struct kdc *k;
    const struct kdc_config *cf;
    struct sp_env env;
    int64_t now_s;
    const struct kdc_request *req;
    struct sp_arena *mem;
    struct kdc_actions *out;
    struct sp_err e;
    enum kdc_exchange exchange;
    struct kdc_hash hash; /* of the request's bytes */
    struct krb_kdc_req m;
    bool proven;    /* the peer showed that it holds a key: bigger replies may go out, states may be told */
    bool keep;      /* something was verified: the answer goes into the retransmission table */
    bool canonical; /* the real realm and, with the option, the canonical client name are wanted */
    const struct krb_name *err_sname;
    bool err_crealm;         /* error 68: names the real realm */
    struct sp_span err_data; /* METHOD-DATA, or a kpasswd result */
    struct store_account client, service;
    struct krb_name sname; /* of the ticket and the reply */
};

bool kdc_has_i32(const struct krb_i32s *list, int32_t v);
const struct krb_pa *kdc_find_pa(const struct krb_padata *pa, int32_t type);
static inline bool kdc_option(const struct kdc_work *w, int bit)
{
    return (w->m.body.options & KRB_FLAG(bit)) != 0;
}
static inline bool kdc_within_skew(int64_t wall_us, int64_t peer_us, int32_t skew_s)
{
    int64_t d = wall_us > peer_us ? wall_us - peer_us : peer_us - wall_us;

    return d <= (int64_t)skew_s * 1000000;
}
/* Time of a peer in microseconds; far-away years do not wrap. */
static inline int64_t kdc_peer_us(int64_t s, uint32_t usec)
{
    return s > INT64_MAX / 2000000 || s < INT64_MIN / 2000000 ? INT64_MIN / 4 : s * 1000000 + usec;
}

/* step.c */
/* A request at its start; *out is emptied. */
struct kdc_work kdc_begin(struct kdc *k, struct sp_env env, const struct kdc_request *req,
                          struct sp_arena *mem, struct kdc_actions *out);
bool kdc_is_near(const struct kdc_source *s); /* loopback or a UNIX socket */
struct sp_span kdc_make_error(struct kdc_work *w, int32_t code, bool terse);
struct sp_span kdc_text_of(struct kdc_work *w, const struct krb_name *name, struct sp_span realm);

/* own.c */
/* The service of that name; krbtgt and kadmin/changepw from memory while the store is unchanged. */
SP_MUST bool kdc_find_named(struct kdc_work *w, const struct krb_name *name, struct store_account *a,
                            struct sp_err *e);

/* rules.c: what both exchanges ask of a request body */
SP_MUST bool kdc_check_padata(struct kdc_work *w);
SP_MUST bool kdc_check_realm(struct kdc_work *w);
SP_MUST bool kdc_find_service(struct kdc_work *w);
SP_MUST bool kdc_check_service(struct kdc_work *w);
SP_MUST bool kdc_check_times(struct kdc_work *w);
int32_t kdc_service_life(const struct kdc_config *cf, const struct store_account *service,
                         const struct krb_name *name);
int32_t kdc_session_etype(const struct kdc_config *cf, const struct krb_i32s *asked,
                          const struct store_account *service);
int64_t kdc_wanted(int64_t t); /* 0 (Java) becomes KDC_NONE_S */

/* ticket.c: making tickets and replies */
struct kdc_grant {
    struct krb_name cname;
    uint32_t flags;
    int64_t authtime, start, end, renew_till; /* renew_till 0: not renewable */
    struct krb_authdata ad;
    struct sp_key session;
};
struct kdc_sealing { /* how the encrypted part of the reply is sealed */
    const struct sp_key *key;
    uint32_t usage;
    uint32_t kvno; /* 0: not told */
    int64_t key_expiration;
    struct krb_padata padata, enc_padata;
};
SP_MUST bool kdc_make_reply(struct kdc_work *w, struct kdc_grant *g, const struct kdc_sealing *how);
/* Account id and generation for tickets that only this KDC reads (decision 15). */
SP_MUST bool kdc_put_account(struct kdc_work *w, const struct store_account *a, struct krb_ad *out);
bool kdc_get_account(struct kdc_work *w, const struct krb_authdata *ad, uint64_t *id, uint64_t *generation);

/* apreq.c: an AP-REQ for this KDC itself, as the TGS and kpasswd get it */
struct kdc_presented {
    struct krb_ap_req ap;
    struct krb_enc_ticket ticket;
    struct krb_authenticator auth;
    struct sp_key session, subkey;
    bool has_subkey;
    struct store_account owner; /* filled by kdc_check_owner */
};
SP_MUST bool kdc_read_ticket(struct kdc_work *w, struct sp_span ap_req, enum store_kind kind,
                             uint32_t kvno_back, struct kdc_presented *p);
SP_MUST bool kdc_check_authenticator(struct kdc_work *w, struct kdc_presented *p, uint32_t usage);
SP_MUST bool kdc_check_replay(struct kdc_work *w, const struct kdc_presented *p);
SP_MUST bool kdc_check_owner(struct kdc_work *w, struct kdc_presented *p);
SP_MUST bool kdc_to_key(const struct krb_keyblock *k, struct sp_key *out, struct sp_err *e);

/* as.c, spake.c */
struct kdc_as {                   /* one AS request */
    bool known;                   /* else w->client is a stand-in: touched alike, but nothing of it shows */
    struct sp_span lookup, salt;  /* salt: by the realm's rule, whatever the account's is */
    int32_t etype;                /* first of our order that the request lists */
    const struct krb_pa *said_pa; /* PA-SPAKE, NULL when there is none, and what it says */
    struct krb_pa_spake said;
    struct krb_enc proof;          /* a timestamp */
    const struct store_key *key;   /* what the proof is tried with */
    struct sp_key reply;           /* that key, or what SPAKE made of it */
    const struct kdc_source *from; /* who pays for a wrong guess */
    struct kdc_guess guess;
};
/* Who asks, found out at most once a request. */
const struct kdc_source *kdc_as_source(const struct kdc_work *w, struct kdc_as *a);
/* Counts a try before it is verified; false: it may not be. */
bool kdc_as_reserve(struct kdc_work *w, struct kdc_as *a);
/* The proof, copied to cipher.n bytes of room; altered unless honest. One that must not succeed is tried too:
 * else the owner of the stand-in, and who is throttled, would learn from the time that theirs was right. How
 * it is altered follows from the whole request by a secret, so that nobody can make up for it. */
struct sp_span kdc_as_proof(const struct kdc_work *w, bool honest, struct sp_span cipher, uint8_t *room);
/* The refusal of a try that failed, whatever the reason. Always false. */
bool kdc_as_wrong(struct kdc_work *w, const struct kdc_as *a, bool allowed);

#define KDC_COOKIE_S 600          /* kinit asks its human after the challenge (decision 46) */
struct kdc_spake_offer {          /* for METHOD-DATA */
    struct sp_span spake, cookie; /* both empty: a mere hint */
};
/* own: the account's key or the stand-in's, NULL where that has none. */
SP_MUST bool kdc_spake_offer(struct kdc_work *w, struct kdc_as *a, const struct store_key *own, int32_t etype,
                             struct kdc_spake_offer *o);
SP_MUST bool kdc_spake_verify(struct kdc_work *w, struct kdc_as *a);

/* as.c, tgs.c */
SP_MUST bool kdc_as(struct kdc_work *w);
SP_MUST bool kdc_tgs(struct kdc_work *w);

/* keys.c */
/* kdc_salt_of for a name whose look-up key is at hand. */
SP_MUST bool kdc_salt_for(const struct kdc_config *config, struct crypto *c, const struct krb_name *name,
                          struct sp_span lookup, struct sp_arena *mem, struct sp_span *salt,
                          struct sp_err *e);
/* What an account of that name would have as key: from the keyed hash of its name. */
SP_MUST bool kdc_dummy_key(const struct kdc_config *config, struct crypto *c, int32_t etype,
                           struct sp_span lookup, struct sp_key *out, struct sp_err *e);

#endif
