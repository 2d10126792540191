/* SPDX-License-Identifier: MIT */
/* One login from its wish to its credentials. */
#include "base/secret.h"
#include "client/internal.h"

#define PART_MIN 2048 /* of the arena, for requests and for a step's scratch; less cannot hold a request */

void client_policy_direct(struct client_policy *p)
{
    *p = (struct client_policy){.timestamp = true, .spake = true, .canonicalize = true};
}

void client_policy_in_band(struct client_policy *p)
{
    *p = (struct client_policy){.spake = true, .canonicalize = true};
}

static bool contradiction(struct sp_err *e, const char *text)
{
    return sp_fail(e, SP_EINPUT, 0, "%s", text);
}

static bool check_wish(const struct client_policy *p, const struct client_wish *w, struct sp_err *e)
{
    bool from_tgt = w->goal == CLIENT_FORWARDED || w->goal == CLIENT_RENEWED;
    bool secret = w->password.p || w->key_count > 0;
    bool service = w->goal == CLIENT_SERVICE || w->goal == CLIENT_SERVICE_BY_AS;
    uint32_t may = KRB_FLAG(OPT_FORWARDABLE) | KRB_FLAG(OPT_RENEWABLE) | KRB_FLAG(OPT_PROXIABLE);

    if ((w->password.p != NULL) + (w->key_count > 0) + (w->tgt != NULL) != 1)
        return contradiction(e, "exactly one of password, keys and ticket is needed");
    if (from_tgt != (w->tgt != NULL) && w->goal != CLIENT_SERVICE)
        return contradiction(e, from_tgt ? "forwarding and renewing need a ticket"
                                         : "a login needs a password or keys");
    if (secret && w->client.parts.count == 0)
        return contradiction(e, "no user named");
    if (secret && (w->realm.n == 0 || (sp_same(w->realm, SP_LIT(".")) && !p->adopt_realm)))
        return contradiction(e, "no realm named");
    if (service != (w->service.parts.count > 0))
        return contradiction(e, service ? "no service named" : "a service named, and none wanted");
    if (w->goal == CLIENT_SERVICE_BY_AS && w->service_realm.n > 0 && !sp_same(w->service_realm, w->realm))
        return contradiction(e, "a service of another realm cannot be had from the first exchange");
    if ((w->options & ~may) != 0 || w->life_s < 0 || w->renew_s < 0)
        return contradiction(e, "options or lifetimes that cannot be asked for");
    return true;
}

static bool set_policy(struct client *cl, const struct client_policy *p, struct sp_err *e)
{
    static const int32_t usual[4] = {ENCTYPE_AES256_CTS_HMAC_SHA1_96, ENCTYPE_AES128_CTS_HMAC_SHA1_96,
                                     ENCTYPE_AES256_CTS_HMAC_SHA384_192, ENCTYPE_AES128_CTS_HMAC_SHA256_128};

    cl->policy = *p;
    if (p->etype_count > 4)
        return contradiction(e, "more than four encryption types");
    for (uint32_t i = 0; i < p->etype_count; i++)
        if (!crypto_find_type(p->etypes[i]))
            return sp_fail(e, SP_EINPUT, 0, "encryption type %d is never used", p->etypes[i]);
    if (p->etype_count == 0) {
        memcpy(cl->policy.etypes, usual, sizeof usual);
        cl->policy.etype_count = 4;
    }
    if (p->s2k_iter_min == 0)
        cl->policy.s2k_iter_min = 4096;
    if (p->s2k_iter_max == 0 || p->s2k_iter_max > CRYPTO_S2K_ITER_MAX)
        cl->policy.s2k_iter_max = CRYPTO_S2K_ITER_MAX;
    return true;
}

static bool dup_span(struct client *cl, struct sp_span in, struct sp_span *out, struct sp_err *e)
{
    return (*out = sp_dup(cl->mem, in, e)).p != NULL;
}

static bool keep_secret(struct client *cl, const struct client_wish *w, struct sp_err *e)
{
    cl->password = w->password;
    cl->has_secret = !w->tgt;
    if (w->key_count > CLIENT_KEYS_MAX)
        return sp_fail(e, SP_EINPUT, 0, "%u keys; at most %d are taken", w->key_count, CLIENT_KEYS_MAX);
    cl->keys = sp_new_array(cl->mem, struct sp_key, w->key_count, e);
    if (!cl->keys)
        return false;
    if (w->key_count > 0)
        memcpy(cl->keys, w->keys, w->key_count * sizeof *w->keys);
    cl->key_count = w->key_count;
    if (!w->known)
        return true;
    cl->has_known = true;
    cl->known = *w->known;
    return dup_span(cl, w->known->salt, &cl->known.salt, e) &&
           dup_span(cl, w->known->params, &cl->known.params, e);
}

static bool keep_tgt(struct client *cl, const struct krb_credential *in, struct sp_err *e)
{
    struct krb_credential *t = &cl->tgt;

    *t = *in;
    cl->has_tgt = true;
    return client_dup_name(cl->mem, &in->client, &t->client, e) &&
           client_dup_name(cl->mem, &in->server, &t->server, e) && dup_span(cl, in->crealm, &t->crealm, e) &&
           dup_span(cl, in->srealm, &t->srealm, e) && dup_span(cl, in->ticket, &t->ticket, e);
}

static bool keep_wish(struct client *cl, const struct client_wish *w, struct sp_err *e)
{
    cl->goal = w->goal;
    cl->options = w->options;
    cl->life_s = w->life_s;
    cl->offset_us = w->offset_s * 1000000;
    cl->renew_s = w->renew_s;
    return (!w->tgt || keep_tgt(cl, w->tgt, e)) && keep_secret(cl, w, e) &&
           client_dup_name(cl->mem, w->tgt ? &w->tgt->client : &w->client, &cl->name, e) &&
           dup_span(cl, w->tgt ? w->tgt->crealm : w->realm, &cl->realm, e) &&
           client_dup_name(cl->mem, &w->service, &cl->service, e) &&
           dup_span(cl, w->service_realm, &cl->service_realm, e);
}

static bool take_room(struct client *cl, struct sp_err *e)
{
    size_t n = (cl->mem->max - cl->mem->used) / 4;
    uint8_t *p;

    if (n < PART_MIN)
        return sp_fail(e, SP_ENOMEM, 0, "a login needs %d bytes of memory", CLIENT_ARENA_MIN);
    cl->out = sp_alloc(cl->mem, n, e);
    p = sp_alloc(cl->mem, n, e);
    if (!cl->out || !p)
        return false;
    cl->out_max = n;
    sp_arena_init(&cl->scratch, p, n);
    return true;
}

void client_forget_secret(struct client *cl)
{
    cl->password = sp_span(NULL, 0);
    sp_wipe(cl->keys, cl->key_count * sizeof *cl->keys);
    cl->key_count = 0;
    sp_wipe(&cl->as.ikey, sizeof cl->as.ikey);
    sp_wipe(&cl->as.reply_key, sizeof cl->as.reply_key);
    cl->as.has_ikey = false;
}

/* A failed login holds nothing. */
static bool settle(struct client *cl, bool ok, struct sp_err *e)
{
    if (ok)
        return true;
    if (e->kind == SP_EFULL) /* a request larger than the room for it */
        e->kind = SP_ENOMEM;
    client_wipe(cl);
    cl->state = CLIENT_FAILED;
    return false;
}

bool client_start(struct client **out_cl, struct crypto *c, const struct client_policy *policy,
                  const struct client_wish *wish, struct sp_env env, struct sp_arena *mem,
                  struct client_action *out, struct sp_err *e)
{
    struct client_action act = {0};
    struct client *cl;
    bool ok;

    *out_cl = NULL;
    if (!check_wish(policy, wish, e) || !(cl = sp_new(mem, struct client, e)))
        return false;
    cl->crypto = c;
    cl->mem = mem;
    cl->preauth = "none";
    ok = take_room(cl, e) && set_policy(cl, policy, e) && keep_wish(cl, wish, e) &&
         (cl->has_secret ? client_begin_as(cl, env, &act, e) : client_begin_tgs(cl, env, &act, e));
    if (!settle(cl, ok, e))
        return false;
    *out = act;
    *out_cl = cl;
    return true;
}

static bool take(struct client *cl, struct sp_env env, struct sp_span reply, struct client_action *out,
                 struct sp_err *e)
{
    bool as = cl->state == CLIENT_AS;
    enum krb_type t = krb_sniff(reply);
    struct krb_error err = {0};

    if (t == KRB_ERROR) {
        if (!krb_get(KRB_ERROR, reply, KRB_STRICT, &cl->scratch, &err, e))
            return false;
        return as ? client_as_error(cl, env, &err, out, e) : client_tgs_error(cl, env, &err, out, e);
    }
    if (t != (as ? KRB_AS_REP : KRB_TGS_REP))
        return sp_fail(e, SP_EINPUT, 0, "this is no answer of a KDC to such a request");
    return as ? client_as_reply(cl, env, reply, out, e) : client_tgs_reply(cl, env, reply, out, e);
}

bool client_reply(struct client *cl, struct sp_env env, struct sp_span reply, struct client_action *out,
                  struct sp_err *e)
{
    struct client_action act = {0};

    if (cl->state != CLIENT_AS && cl->state != CLIENT_TGS)
        return sp_fail(e, SP_EINPUT, 0, "a reply, and none is due");
    sp_arena_reset(&cl->scratch);
    if (!settle(cl, take(cl, env, reply, &act, e), e))
        return false;
    *out = act;
    return true;
}

const struct krb_credential *client_tgt(const struct client *cl)
{
    return cl->state != CLIENT_IDLE && cl->state != CLIENT_FAILED && cl->has_tgt ? &cl->tgt : NULL;
}

const struct krb_credential *client_service(const struct client *cl)
{
    return cl->state == CLIENT_DONE && cl->has_result ? &cl->result : NULL;
}

bool client_learnt(const struct client *cl, struct client_known *out)
{
    if (cl->state != CLIENT_DONE || !cl->learnt)
        return false;
    *out = cl->lesson;
    return true;
}

const char *client_preauth(const struct client *cl)
{
    return cl->preauth;
}

uint32_t client_rounds(const struct client *cl)
{
    return cl->rounds;
}

int64_t client_offset_s(const struct client *cl)
{
    return cl->offset_us / 1000000;
}

enum client_state client_state(const struct client *cl)
{
    return cl->state;
}

void client_wipe(struct client *cl)
{
    if (!cl)
        return;
    client_forget_secret(cl);
    sp_wipe(&cl->tgt, sizeof cl->tgt);
    sp_wipe(&cl->hop, sizeof cl->hop);
    sp_wipe(&cl->result, sizeof cl->result);
    sp_wipe(&cl->subkey, sizeof cl->subkey);
    if (cl->scratch.p)
        sp_arena_reset(&cl->scratch);
    cl->has_tgt = cl->has_result = cl->learnt = false;
    cl->state = CLIENT_IDLE;
}
