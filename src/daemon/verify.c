/* SPDX-License-Identifier: MIT */
/* Whether a client of the relay is who it says. The courier led the conversation and has no key; here is one.
 * What was said is said again to a context of our own, which sends the same tokens as the courier's did,
 * since it is told the same at the same times; only what the last one shows is new. With SPNEGO a
 * conversation is judged twice, with the AP-REQ and with the MIC behind it, perhaps by two workers: so
 * chance, too, comes from what was said, under a secret that all workers have. */
#include <stdio.h>
#include <stdlib.h>

#include "base/secret.h"
#include "daemon/worker.h"
#include "gss/sec.h"
#include "kdc/shared.h"

struct chance { /* bytes that follow from a seed: HMAC-SHA-256 over a counter */
    struct sp_rng rng;
    struct crypto *crypto;
    uint8_t seed[32];
    uint64_t at;
};

struct keys {
    struct kctx_keys port;
    struct worker *worker;
};

struct replays {
    struct kctx_replays port;
    struct worker *worker;
    struct sp_span said; /* up to the event at hand */
};

struct judging {
    struct worker *worker;
    const struct courier_verify *how;
    struct sp_span said;
    struct keys keys;
    struct replays replays;
    struct chance chance;
    struct sp_arena room;
    struct sec *sec;
};

/* ---- ports ---- */

static void fill(struct sp_rng *rng, void *out, size_t n)
{
    struct chance *r = (struct chance *)rng;
    uint8_t block[32], *p = out;
    struct sp_err e = {0};

    while (n > 0) {
        size_t some = n < sizeof block ? n : sizeof block;

        r->at++;
        bool ok = crypto_hmac_sha256(r->crypto, sp_span(r->seed, sizeof r->seed),
                                     sp_span(&r->at, sizeof r->at), block, &e);
        sp_assert(ok); /* without chance nobody goes on */
        memcpy(p, block, some);
        p += some;
        n -= some;
    }
    sp_wipe(block, sizeof block);
}

static bool seed(struct judging *j, struct sp_span said, struct sp_err *e)
{
    const struct kdc_config *cf = &j->worker->config->config.kdc;
    uint8_t key[32];
    bool ok;

    j->chance = (struct chance){.rng = {fill}, .crypto = j->worker->kdc.crypto};
    ok = crypto_hmac_sha256(j->chance.crypto, sp_span(cf->name_secret, sizeof cf->name_secret),
                            SP_LIT("conversations of the relay"), key, e) &&
         crypto_hmac_sha256(j->chance.crypto, sp_span(key, sizeof key), said, j->chance.seed, e);
    sp_wipe(key, sizeof key);
    return ok;
}

static bool is_http(const struct krb_name *service, struct sp_span realm, const struct kdc_config *cf)
{
    return service->parts.count == 2 && sp_same_nocase(service->parts.v[0], SP_LIT("HTTP")) &&
           sp_same(realm, cf->realm.name);
}

static bool find_key(struct kctx_keys *port, const struct krb_name *service, struct sp_span realm,
                     int32_t etype, uint32_t kvno, struct sp_key *out, struct sp_err *e)
{
    struct worker *w = ((struct keys *)port)->worker;
    const struct kdc_config *cf = &w->config->config.kdc;
    struct store_lookup *accounts = w->kdc.accounts;
    struct store_account a = {0};
    const struct store_key *k;
    struct sp_span lookup;

    if (!is_http(service, realm, cf))
        return sp_fail(e, SP_ENOTFOUND, KRB_AP_ERR_NOT_US, "a ticket for something else than HTTP/ here");
    if (!krb_name_key(service, &cf->realm, &w->mem, &lookup, e) ||
        !accounts->find(accounts, lookup, &w->mem, &a, e))
        return false;
    if (a.kind != STORE_SERVICE || (a.flags & STORE_DISABLED))
        return sp_fail(e, SP_ENOTFOUND, KRB_AP_ERR_NOT_US, "that service is disabled, or none");
    k = store_find_key(&a, etype, kvno);
    if (!k)
        return sp_fail(e, SP_ENOTFOUND, KRB_AP_ERR_BADKEYVER, "no such key (type %d, version %u)", etype,
                       kvno);
    *out = k->key;
    return true;
}

/* The same authenticator in the same conversation is what was judged a moment before. */
static bool note_replay(struct kctx_replays *port, struct sp_span tag, int64_t now_s, int32_t skew_s,
                        struct sp_err *e)
{
    const struct replays *r = (const struct replays *)port;
    struct kdc_shared *shared = r->worker->kdc.shared;

    (void)now_s;
    return kdc_replay_note(shared, admin_mono_us(), 2 * skew_s + 1, tag, kdc_shared_hash(shared, r->said)) !=
               KDC_REPLAYED ||
           sp_fail(e, SP_EREFUSED, KRB_AP_ERR_REPEAT, "the authenticator was seen before");
}

/* ---- saying it again ---- */

static bool hash_binding(struct judging *j, const char *prefix, struct sp_span value, uint8_t out[16],
                         struct sp_err *e)
{
    char text[96];
    struct sp_text t = sp_text(text, sizeof text);
    struct kctx_bindings b = {0};

    sp_text_str(&t, prefix);
    sp_text_add(&t, value);
    sp_assert(!t.cut);
    b.application = sp_span(t.p, t.n);
    return kctx_hash_bindings(j->worker->kdc.crypto, &b, &j->worker->mem, out, e);
}

static bool begin(struct judging *j, const uint8_t *bindings, struct sp_err *e)
{
    const struct sec_acceptor how = {
        .realm = j->worker->config->config.kdc.realm,
        .keys = &j->keys.port,
        .replays = &j->replays.port,
        .bindings = bindings,
        .skew_s = j->worker->config->config.kdc.skew_s,
        .finished =
            j->how->finished == COURIER_FINISHED_OPTIONAL ? SEC_FINISHED_OPTIONAL : SEC_FINISHED_REQUIRED,
        .old_mit = j->how->old_mit == COURIER_OLD_MIT_ACCEPT ? SEC_OLD_MIT_ACCEPT : SEC_OLD_MIT_OFF,
    };

    sec_wipe(j->sec);
    sp_arena_reset(&j->room);
    return sec_new_acceptor(&j->sec, j->worker->kdc.crypto, &how, &j->room, e);
}

/* Takes the next event off the rest of what was said. */
static bool next(struct sp_span *left, struct courier_said *s, struct sec_event *ev, struct sp_err *e)
{
    if (left->n < sizeof *s)
        return sp_fail(e, SP_EINPUT, 0, "half an event");
    memcpy(s, left->p, sizeof *s);
    *left = sp_span(left->p + sizeof *s, left->n - sizeof *s);
    if (s->n > left->n || s->kind > SEC_NOT_CARRIED || s->kind == SEC_START)
        return sp_fail(e, SP_EINPUT, 0, "an event that cannot be");
    *ev = (struct sec_event){
        .kind = (enum sec_event_kind)s->kind, .code = s->code, .bytes = {left->p, s->n}
    };
    *left = sp_span(left->p + s->n, left->n - s->n);
    return true;
}

static bool say_all(struct judging *j, struct sec_action *act, struct sp_err *e)
{
    struct sp_span left = j->said;
    struct courier_said s;
    struct sec_event ev;

    while (left.n > 0) {
        if (!next(&left, &s, &ev, e))
            return false;
        j->replays.said = sp_span(j->said.p, j->said.n - left.n);
        if (!seed(j, j->replays.said, e) ||
            !sec_step(j->sec, (struct sp_env){s.wall_us, s.mono_us, &j->chance.rng}, &ev, act, e))
            return false;
    }
    return act->what != SEC_CARRY || sp_fail(e, SP_EINPUT, 0, "a conversation without its end");
}

static bool judge(struct judging *j, const uint8_t *bindings, struct sec_action *act, struct sp_err *e)
{
    bool ok = begin(j, bindings, e) && say_all(j, act, e);

    sp_wipe(&j->chance, sizeof j->chance);
    return ok;
}

/* Which of the two bindings a client has taken, its hash does not say (RFC 5929, RFC 9266). */
static bool judge_bound(struct judging *j, struct sec_action *act, struct sp_err *e)
{
    const struct binding {
        const char *prefix;
        struct sp_span value;
    } known[] = {
        {"tls-server-end-point:", sp_span(j->how->end_point, j->how->end_point_n)},
        {"tls-exporter:",         sp_span(j->how->exporter,  j->how->exporter_n) },
    };
    struct sp_err why = {.proto = KCTX_BAD_BINDINGS};
    uint8_t hash[16];

    for (int i = 0; i < 2 && why.proto == KCTX_BAD_BINDINGS; i++) {
        if (known[i].value.n == 0)
            continue;
        why = (struct sp_err){0};
        if (hash_binding(j, known[i].prefix, known[i].value, hash, &why) && judge(j, hash, act, &why))
            return true;
    }
    return sp_fail(e, why.kind, why.proto, "%s", why.text);
}

/* ---- the verdict ---- */

/* The host of "HTTP/host@REALM". */
static void put_host(const char *service, char *out, size_t max)
{
    const char *host = strchr(service, '/');

    if (host)
        (void)snprintf(out, max, "%.*s", (int)strcspn(host + 1, "@"), host + 1);
}

static void describe(struct judging *j, struct courier_verdict *v)
{
    const struct kctx *k = sec_kctx(j->sec);

    if (!k)
        return;
    v->end_s = k->endtime;
    (void)snprintf(v->client, sizeof v->client, "%s", k->client);
    put_host(k->service, v->host, sizeof v->host);
    v->done = strlen(k->client) < sizeof v->client;
}

static struct sp_span put(struct worker *w, const struct courier_verdict *v, struct sp_span token)
{
    struct sp_err e = {0};
    uint8_t *p = sp_alloc(&w->mem, sizeof *v + token.n, &e);

    if (!p)
        return sp_span(NULL, 0);
    memcpy(p, v, sizeof *v);
    if (token.n)
        memcpy(p + sizeof *v, token.p, token.n);
    return sp_span(p, sizeof *v + token.n);
}

static struct sp_span judge_all(struct judging *j)
{
    struct courier_verdict v;
    struct sec_action act = {0};
    struct sp_err e = {0};
    struct sp_span out;

    memset(&v, 0, sizeof v); /* with what lies between its members: it leaves the process */
    v.ok = judge_bound(j, &act, &e);
    v.code = e.proto;
    (void)snprintf(v.text, sizeof v.text, "%s", e.text);
    if (v.ok)
        describe(j, &v);
    out = put(j->worker, &v, act.token);
    sec_wipe(j->sec);
    return out;
}

struct sp_span verify_conversation(struct worker *w, struct sp_span question)
{
    struct courier_verify how;
    struct judging j = {
        .worker = w, .how = &how, .keys = {{find_key},            w          },
                .replays = {.port = {note_replay}, .worker = w}
    };
    uint8_t *room = question.n > sizeof how ? malloc(SEC_ARENA_MIN) : NULL;
    struct sp_span out;

    if (!room)
        return sp_span(NULL, 0);
    memcpy(&how, question.p, sizeof how);
    if (how.end_point_n > sizeof how.end_point || how.exporter_n > sizeof how.exporter)
        how.end_point_n = how.exporter_n = 0;
    j.said = sp_span(question.p + sizeof how, question.n - sizeof how);
    sp_arena_init(&j.room, room, SEC_ARENA_MIN);
    out = judge_all(&j);
    free(room);
    return out;
}
