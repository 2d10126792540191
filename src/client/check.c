/* SPDX-License-Identifier: MIT */
/* Requests and replies, as far as both exchanges are alike (RFC 4120 3.1.5, 3.3.4). */
#include "base/secret.h"
#include "client/internal.h"

int64_t client_now_us(const struct client *cl, struct sp_env env)
{
    return env.wall_us + cl->offset_us;
}

bool client_distrust(struct sp_err *e, const char *why)
{
    return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_MODIFIED, "the KDC's reply cannot be trusted: %s", why);
}

bool client_offers(const struct client *cl, int32_t etype)
{
    for (uint32_t i = 0; i < cl->policy.etype_count; i++)
        if (cl->policy.etypes[i] == etype)
            return true;
    return false;
}

bool client_dup_name(struct sp_arena *mem, const struct krb_name *in, struct krb_name *out, struct sp_err *e)
{
    struct sp_span *parts = sp_new_array(mem, struct sp_span, in->parts.count, e);

    if (!parts)
        return false;
    for (uint32_t i = 0; i < in->parts.count; i++)
        if (!(parts[i] = sp_dup(mem, in->parts.v[i], e)).p)
            return false;
    *out = krb_name_of(in->type, parts, in->parts.count);
    return true;
}

void client_fill_body(const struct client *cl, struct sp_env env, struct krb_req_body *b)
{
    int64_t now_s = client_now_us(cl, env) / 1000000;
    uint32_t nonce;

    sp_rng_fill(env.rng, &nonce, sizeof nonce);
    b->nonce = nonce & 0x7fffffff; /* peers that read a signed number see the same */
    b->has |= KRB_BIT(3);
    b->till = cl->life_s > 0 ? now_s + cl->life_s : 0; /* 1970: as long as the KDC gives (decision 51) */
    if (b->options & KRB_FLAG(OPT_RENEWABLE)) {
        b->has |= KRB_BIT(6);
        b->rtime = cl->renew_s > 0 ? now_s + cl->renew_s : 0;
    }
    if (cl->policy.canonicalize)
        b->options |= KRB_FLAG(OPT_CANONICALIZE);
}

bool client_send(struct client *cl, enum krb_type t, const struct krb_kdc_req *m, struct client_action *out,
                 struct sp_err *e)
{
    struct client_asked asked = {.nonce = m->body.nonce, .till = m->body.till, .rtime = m->body.rtime};

    if (cl->rounds >= CLIENT_ROUNDS_MAX)
        return sp_fail(e, SP_EREFUSED, KRB_ERR_GENERIC, "the KDC found no end in %d requests",
                       CLIENT_ROUNDS_MAX);
    if (!krb_put(t, m, cl->out, cl->out_max, &asked.bytes, e))
        return false;
    asked.sname = m->body.sname;
    asked.realm = m->body.realm;
    cl->asked = asked;
    cl->rounds++;
    *out = (struct client_action){.realm = asked.realm, .request = asked.bytes};
    return true;
}

bool client_seal(struct client *cl, struct sp_env env, enum krb_type t, const void *m,
                 const struct sp_key *key, uint32_t usage, struct krb_enc *out, struct sp_err *e)
{
    struct sp_span plain;
    uint8_t *p;
    size_t n;

    if (!krb_make(t, m, &cl->scratch, &plain, e))
        return false;
    n = crypto_cipher_n(key->etype, plain.n);
    p = sp_alloc(&cl->scratch, n, e);
    if (!p || !crypto_encrypt(cl->crypto, key, usage, env.rng, plain, p, &n, e))
        return false;
    *out = (struct krb_enc){.etype = key->etype, .cipher = sp_span(p, n)};
    return true;
}

bool client_open(struct client *cl, const struct krb_enc *enc, const struct sp_key *key, uint32_t usage,
                 struct krb_enc_kdc_rep *out, struct sp_err *e)
{
    uint8_t *p = sp_alloc(&cl->scratch, enc->cipher.n, e);
    size_t n = enc->cipher.n;
    struct sp_err bad = {0};
    enum krb_type t;

    if (!p)
        return false;
    if (enc->etype != key->etype)
        return client_distrust(e, "it is sealed with another type of key");
    if (!crypto_decrypt(cl->crypto, key, usage, enc->cipher, p, &n, &bad)) {
        if (bad.kind == SP_EREFUSED || bad.kind == SP_EINPUT)
            return client_distrust(e, "it does not open");
        *e = bad;
        return false;
    }
    /* RFC 4120 5.4.2: some KDCs tag both kinds as EncTGSRepPart; usage and key tell them apart. */
    t = n > 0 && p[0] == 0x79 && usage == KU_AS_REP ? KRB_ENC_AS_REP : KRB_ENC_TGS_REP;
    return krb_get(t, sp_span(p, n), KRB_STRICT, &cl->scratch, out, e);
}

static bool check_times(const struct client *cl, int64_t now_s, const struct krb_enc_kdc_rep *p,
                        struct sp_err *e)
{
    int64_t start = KRB_HAS(p, 6) ? p->starttime : p->authtime;

    if (p->endtime <= now_s)
        return client_distrust(e, "the ticket has already ended");
    if (start > now_s + CLIENT_SKEW_S || p->authtime > now_s + CLIENT_SKEW_S)
        return client_distrust(e, "the ticket begins in the future");
    if (p->endtime <= start)
        return client_distrust(e, "the ticket ends before it begins");
    if (cl->asked.till && p->endtime > cl->asked.till)
        return client_distrust(e, "the ticket lives longer than was asked");
    if (KRB_HAS(p, 8) && (p->renew_till < start || (cl->asked.rtime && p->renew_till > cl->asked.rtime)))
        return client_distrust(e, "the end of renewal is not what was asked");
    return true;
}

bool client_check_part(const struct client *cl, struct sp_env env, const struct krb_kdc_rep *rep,
                       const struct krb_enc_kdc_rep *part, struct sp_err *e)
{
    const struct crypto_type *t = crypto_find_type(part->key.type);

    if (part->nonce != cl->asked.nonce)
        return client_distrust(e, "it answers another request (nonce)");
    if (!krb_same_name(&rep->ticket.sname, &part->sname) || !sp_same(rep->ticket.realm, part->srealm))
        return client_distrust(e, "ticket and sealed part name different services");
    if (!t || part->key.value.n != t->key_n || !client_offers(cl, part->key.type))
        return client_distrust(e, "a session key of a type that was not asked for");
    if (part->flags & KRB_FLAG(TKT_INVALID))
        return client_distrust(e, "the ticket is marked invalid");
    return check_times(cl, client_now_us(cl, env) / 1000000, part, e);
}

bool client_keep(struct client *cl, const struct krb_kdc_rep *rep, const struct krb_enc_kdc_rep *part,
                 struct krb_credential *out, struct sp_err *e)
{
    struct krb_credential c = {
        .key = {.n = (uint8_t)part->key.value.n, .etype = part->key.type},
        .flags = part->flags,
        .authtime = part->authtime,
        .starttime = KRB_HAS(part, 6) ? part->starttime : 0,
        .endtime = part->endtime,
        .renew_till = KRB_HAS(part, 8) ? part->renew_till : 0,
    };
    bool ok = client_dup_name(cl->mem, &rep->cname, &c.client, e) &&
              client_dup_name(cl->mem, &part->sname, &c.server, e) &&
              (c.crealm = sp_dup(cl->mem, rep->crealm, e)).p &&
              (c.srealm = sp_dup(cl->mem, part->srealm, e)).p &&
              (c.ticket = sp_dup(cl->mem, rep->ticket.raw, e)).p;

    if (ok) {
        memcpy(c.key.b, part->key.value.p, c.key.n);
        *out = c;
    }
    sp_wipe(&c.key, sizeof c.key);
    return ok;
}

bool client_take_clock(struct client *cl, struct sp_env env, const struct krb_error *err, struct sp_err *e)
{
    int64_t off_s = err->stime - env.wall_us / 1000000;

    if (cl->skew_tried)
        return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_SKEW,
                       "the KDC refuses even its own time; look at the clocks of both hosts");
    if (off_s > CLIENT_OFFSET_MAX_S || off_s < -CLIENT_OFFSET_MAX_S)
        return sp_fail(
            e, SP_EREFUSED, KRB_AP_ERR_SKEW,
            "the KDC's clock is said to be off by %lld s, too far to be followed; set this host's clock",
            (long long)off_s);
    cl->skew_tried = true;
    cl->offset_us = off_s * 1000000;
    return true;
}

static const struct {
    int32_t code;
    const char *text;
} advice[] = {
    {KDC_ERR_NAME_EXP,                   "the account has expired; its administrator can extend it"                     },
    {KDC_ERR_C_PRINCIPAL_UNKNOWN,        "the KDC does not know this user; look at the name and the realm"              },
    {KDC_ERR_S_PRINCIPAL_UNKNOWN,
     "the KDC does not know this service; look at the host's name and the realm"                                        },
    {KDC_ERR_NEVER_VALID,                "the ticket would never be valid; look at the lifetime asked for and the clock"},
    {KDC_ERR_POLICY,                     "the KDC's policy forbids this"                                                },
    {KDC_ERR_BADOPTION,                  "the KDC does not allow this for the ticket (forwarding, renewal)"             },
    {KDC_ERR_ETYPE_NOSUPP,
     "no encryption type in common; the account may need a new password to get AES keys"                                },
    {KDC_ERR_CLIENT_REVOKED,             "the account is disabled or locked; its administrator can enable it"           },
    {KDC_ERR_SERVICE_REVOKED,            "the service is disabled"                                                      },
    {KDC_ERR_TGT_REVOKED,                "the login is no longer valid; log in again"                                   },
    {KDC_ERR_KEY_EXPIRED,                "the password has expired; change it first"                                    },
    {KDC_ERR_PREAUTH_FAILED,             "wrong password or key"                                                        },
    {KDC_ERR_PREAUTH_REQUIRED,           "the KDC asks for pre-authentication again; log in again"                      },
    {KRB_AP_ERR_BAD_INTEGRITY,           "the KDC could not read what it was sent; log in again"                        },
    {KRB_AP_ERR_TKT_EXPIRED,             "the ticket has expired; log in again"                                         },
    {KRB_AP_ERR_SKEW,                    "the clocks of this host and the KDC differ; set them"                         },
    {KRB_ERR_RESPONSE_TOO_BIG,           "the answer is too big for UDP; ask the KDC over TCP"                          },
    {KDC_ERR_WRONG_REALM,                "the KDC is not of this realm; give the right realm with the user's name"      },
    {KRB_AP_ERR_IAKERB_KDC_NOT_FOUND,    "the server knows no KDC of this realm"                                        },
    {KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE,  "the server's KDC does not answer; try again later"                            },
    {KDC_ERR_PREAUTH_EXPIRED,            "the login took too long; log in again"                                        },
    {KDC_ERR_MORE_PREAUTH_DATA_REQUIRED, "the KDC asks for a second factor, which is not supported"                     },
};

bool client_refuse(const struct krb_error *err, struct sp_err *e)
{
    for (size_t i = 0; i < sizeof advice / sizeof advice[0]; i++)
        if (advice[i].code == err->code)
            return sp_fail(e, SP_EREFUSED, err->code, "%s", advice[i].text);
    return sp_fail(e, SP_EREFUSED, err->code, "the KDC refused: %s", krb_code_name(err->code));
}
