/* SPDX-License-Identifier: MIT */
/* What the files of this room share. */
#ifndef SP_CLIENT_INTERNAL_H
#define SP_CLIENT_INTERNAL_H

#include "client/client.h"
#include "krb/spake.h"

enum client_proof { CLIENT_PROOF_NONE, CLIENT_PROOF_TIMESTAMP, CLIENT_PROOF_SPAKE };

/* How the account's key is made, as the KDC or an earlier login said. */
struct client_recipe {
    bool set;
    int32_t etype;
    struct sp_span salt, params; /* kept */
};

/* The last request, for comparing the reply with. Spans are kept. */
struct client_asked {
    struct krb_name sname;
    struct sp_span realm;
    int64_t nonce, till, rtime;
    struct sp_span bytes; /* the whole request */
};

/* The AS exchange. */
struct client_as {
    enum client_proof proof; /* in the last request */
    struct client_recipe recipe;
    bool by_known;                 /* the proof rests on what the wish said is known */
    bool probing;                  /* that failed; asking how the key is really made */
    bool adopted;                  /* another realm than the wish's, once */
    bool expired;                  /* error 90, once */
    bool hinted;                   /* the KDC has SPAKE and gave no challenge, once */
    struct sp_span support;        /* PA-SPAKE as it is sent; kept */
    bool support_sent;             /* in the request that the challenge answers */
    struct sp_span cookie;         /* to be echoed; kept */
    struct sp_span challenge;      /* PA-SPAKE as received; kept */
    struct sp_key ikey, reply_key; /* the account's; the one that the AS-REP is to be sealed with */
    bool has_ikey;
};

struct client {
    struct crypto *crypto;
    struct client_policy policy;
    struct sp_arena *mem;    /* what is kept */
    struct sp_arena scratch; /* one step's; wiped before the next */
    uint8_t *out;            /* the request */
    size_t out_max;
    enum client_state state;

    enum client_goal goal;
    struct krb_name name; /* the client */
    struct sp_span realm;
    struct sp_span password;
    struct sp_key *keys;
    uint32_t key_count;
    bool has_secret;
    struct krb_name service;
    struct sp_span service_realm; /* empty: the client's realm */
    uint32_t options;
    int64_t life_s, renew_s;
    struct client_known known;
    bool has_known;

    struct client_as as;
    struct client_asked asked;
    struct krb_credential tgt, hop, result; /* hop: the TGT of the realm that is asked now */
    bool has_tgt, has_result;
    bool crossing; /* the last TGS request was for the TGT of another realm on the way */
    struct sp_key subkey;
    struct sp_span seen[CLIENT_REFERRALS_MAX + 1]; /* realms whose TGS was asked for the service */
    uint32_t seen_count;
    uint32_t rounds;
    bool skew_tried;
    int64_t offset_us;
    bool learnt;
    struct client_known lesson;
    const char *preauth;
};

/* ---- what AS and TGS have in common: check.c ---- */
int64_t client_now_us(const struct client *cl,
                      struct sp_env env); /* the KDC's clock, as far as it is known */
/* "The reply cannot be trusted". Always false. */
bool client_distrust(struct sp_err *e, const char *why);
SP_MUST bool client_dup_name(struct sp_arena *mem, const struct krb_name *in, struct krb_name *out,
                             struct sp_err *e);
/* name, realm and etypes are the caller's; times, options and nonce are set. */
void client_fill_body(const struct client *cl, struct sp_env env, struct krb_req_body *b);
/* Notes what is asked, writes the request, counts the round. */
SP_MUST bool client_send(struct client *cl, enum krb_type t, const struct krb_kdc_req *m,
                         struct client_action *out, struct sp_err *e);
SP_MUST bool client_seal(struct client *cl, struct sp_env env, enum krb_type t, const void *m,
                         const struct sp_key *key, uint32_t usage, struct krb_enc *out, struct sp_err *e);
/* Opens and reads the encrypted part. The plain text stays in scratch. */
SP_MUST bool client_open(struct client *cl, const struct krb_enc *enc, const struct sp_key *key,
                         uint32_t usage, struct krb_enc_kdc_rep *out, struct sp_err *e);
/* Everything about a reply that does not depend on whose exchange it is. */
SP_MUST bool client_check_part(const struct client *cl, struct sp_env env, const struct krb_kdc_rep *rep,
                               const struct krb_enc_kdc_rep *part, struct sp_err *e);
SP_MUST bool client_keep(struct client *cl, const struct krb_kdc_rep *rep, const struct krb_enc_kdc_rep *part,
                         struct krb_credential *out, struct sp_err *e);
bool client_offers(const struct client *cl, int32_t etype);
/* Ends the login with the KDC's code and a text that says what to do. Always false. */
bool client_refuse(const struct krb_error *err, struct sp_err *e);
/* Error 37: the KDC's clock is believed once, within bounds. */
SP_MUST bool client_take_clock(struct client *cl, struct sp_env env, const struct krb_error *err,
                               struct sp_err *e);

/* ---- pre-authentication: preauth.c ---- */
struct client_offer { /* METHOD-DATA of errors 25 and 91 */
    bool timestamp, spake;
    struct sp_span cookie, challenge;
    struct krb_infos2 info;
};
SP_MUST bool client_get_offer(struct client *cl, struct sp_span data, struct client_offer *out,
                              struct sp_err *e);
/* The entry that will be used: offered by us, not weaker than what is known, and with keys one we hold. */
SP_MUST bool client_choose_recipe(struct client *cl, const struct krb_infos2 *info, struct client_recipe *out,
                                  struct sp_err *e);
SP_MUST bool client_keep_recipe(struct client *cl, const struct client_recipe *r, struct sp_err *e);
/* as.ikey of as.recipe. */
SP_MUST bool client_derive(struct client *cl, struct sp_err *e);
SP_MUST bool client_put_support(struct client *cl, struct krb_pa *pa, struct sp_err *e);
SP_MUST bool client_put_timestamp(struct client *cl, struct sp_env env, struct krb_pa *pa, struct sp_err *e);
SP_MUST bool client_put_response(struct client *cl, struct sp_env env, struct sp_span body, struct krb_pa *pa,
                                 struct sp_err *e);

/* ---- the exchanges ---- */
SP_MUST bool client_ask_as(struct client *cl, struct sp_env env, struct client_action *out, struct sp_err *e);
SP_MUST bool client_begin_as(struct client *cl, struct sp_env env, struct client_action *out,
                             struct sp_err *e);
SP_MUST bool client_as_error(struct client *cl, struct sp_env env, const struct krb_error *err,
                             struct client_action *out, struct sp_err *e);
SP_MUST bool client_as_reply(struct client *cl, struct sp_env env, struct sp_span reply,
                             struct client_action *out, struct sp_err *e);
void client_forget_secret(struct client *cl);
SP_MUST bool client_begin_tgs(struct client *cl, struct sp_env env, struct client_action *out,
                              struct sp_err *e);
SP_MUST bool client_tgs_error(struct client *cl, struct sp_env env, const struct krb_error *err,
                              struct client_action *out, struct sp_err *e);
SP_MUST bool client_tgs_reply(struct client *cl, struct sp_env env, struct sp_span reply,
                              struct client_action *out, struct sp_err *e);

#endif
