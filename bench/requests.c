/* SPDX-License-Identifier: MIT */
#include "requests.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define BODY_TILL_S 36000

struct sp_span bench_user_name(uint32_t i, char buf[BENCH_NAME_MAX])
{
    return sp_span(buf, (size_t)snprintf(buf, BENCH_NAME_MAX, "user%06u", i));
}

struct sp_span bench_service_instance(uint32_t i, char buf[BENCH_NAME_MAX])
{
    return sp_span(buf, (size_t)snprintf(buf, BENCH_NAME_MAX, "%04u", i));
}

static const char *const kinds[] = {"as-plain", "as-ts", "tgs"};

const char *bench_kind_name(enum bench_kind kind)
{
    return kinds[kind];
}

bool bench_find_kind(const char *name, enum bench_kind *out)
{
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i], name) == 0) {
            *out = (enum bench_kind)i;
            return true;
        }
    return false;
}

static void fill_system(struct sp_rng *rng, void *p, size_t n)
{
    static uint8_t pool[4096];
    static size_t left;
    uint8_t *out = p;

    (void)rng;
    for (; n > 0; n--, out++) {
        if (left == 0) {
            if (getrandom(pool, sizeof pool, 0) != (ssize_t)sizeof pool)
                abort();
            left = sizeof pool;
        }
        *out = pool[--left];
    }
}

struct sp_rng *bench_system_rng(void)
{
    static struct sp_rng rng = {fill_system};

    return &rng;
}

bool bench_key(struct crypto *c, enum bench_owner owner, uint32_t i, int32_t etype, struct sp_key *out,
               struct sp_err *e)
{
    const struct crypto_type *t = crypto_find_type(etype);
    char text[48];
    uint8_t hash[32];
    int n = snprintf(text, sizeof text, "bench %c %u %d", (int)owner, i, (int)etype);

    if (!t || t->key_n > sizeof hash)
        return sp_fail(e, SP_EINPUT, 0, "no key for type %d", (int)etype);
    if (!crypto_sha256(c, sp_span(text, (size_t)n), hash, e))
        return false;
    *out = (struct sp_key){.n = t->key_n, .etype = etype};
    memcpy(out->b, hash, t->key_n);
    return true;
}

/* EncryptedData of one encoded message, in mem. */
static bool seal(struct bench_maker *m, const struct sp_key *key, uint32_t usage, struct sp_span plain,
                 struct sp_arena *mem, struct krb_enc *out, struct sp_err *e)
{
    size_t n = crypto_cipher_n(key->etype, plain.n);
    uint8_t *p = sp_alloc(mem, n, e);

    if (!p || !crypto_encrypt(m->crypto, key, usage, m->env.rng, plain, p, &n, e))
        return false;
    *out = (struct krb_enc){.etype = key->etype, .cipher = sp_span(p, n)};
    return true;
}

/* Time stamps run ahead of the clock by one microsecond a request, far less than the skew allowed. */
static int64_t next_stamp(struct bench_maker *m)
{
    return m->env.wall_us + m->serial++;
}

static bool timestamp(struct bench_maker *m, const struct sp_key *key, struct sp_arena *mem,
                      struct krb_pa *pa, struct sp_err *e)
{
    int64_t now = next_stamp(m);
    struct krb_pa_enc_ts ts = {.has = KRB_BIT(1), .time = now / 1000000, .usec = (uint32_t)(now % 1000000)};
    struct sp_span plain;
    struct krb_enc enc;

    if (!krb_make(KRB_PA_ENC_TS, &ts, mem, &plain, e) || !seal(m, key, KU_PA_ENC_TS, plain, mem, &enc, e))
        return false;
    pa->type = PA_ENC_TIMESTAMP;
    return krb_make(KRB_ENC, &enc, mem, &pa->value, e);
}

static int32_t wanted_sha1_first[] = {18, 17, 20, 19}, wanted_sha2_first[] = {20, 19, 18, 17};

static struct krb_req_body body(struct bench_maker *m, const struct bench_request *r, struct sp_span *sname,
                                uint32_t options)
{
    return (struct krb_req_body){
        .has = KRB_BIT(3),
        .options = options,
        .realm = sp_str(BENCH_REALM),
        .sname = {NT_SRV_INST,                                            {sname, 2}},
        .till = m->env.wall_us / 1000000 + BODY_TILL_S,
        .nonce = r->nonce,
        .etypes = {m->etype == 20 ? wanted_sha2_first : wanted_sha1_first, 4         },
    };
}

/* As MIT's client: PA-REQ-ENC-PA-REP, so that the server owes a checksum over the request (RFC 6806 11); with
 * canonicalize, so that servers that demand it for that (decision 44) do the same work as those that do not.
 */
static bool make_as(struct bench_maker *m, struct bench_request *r, struct sp_arena *mem, struct sp_err *e)
{
    char name[BENCH_NAME_MAX];
    struct sp_span cname[1] = {bench_user_name(r->user, name)};
    struct sp_span sname[2] = {SP_LIT("krbtgt"), SP_LIT(BENCH_REALM)};
    struct krb_pa pa[2] = {{.type = PA_REQ_ENC_PA_REP}};
    struct krb_kdc_req req = {
        .has = KRB_BIT(3), .padata = {pa, r->kind == BENCH_AS_TS ? 2 : 1}
    };

    r->reply_usage = KU_AS_REP;
    if (!bench_key(m->crypto, BENCH_USER, r->user, m->etype, &r->reply_key, e))
        return false;
    if (r->kind == BENCH_AS_TS && !timestamp(m, &r->reply_key, mem, &pa[1], e))
        return false;
    req.body = body(m, r, sname, KRB_FLAG(OPT_CANONICALIZE));
    req.body.has |= KRB_BIT(1);
    req.body.cname = (struct krb_name){
        NT_PRINCIPAL, {cname, 1}
    };
    return krb_make(KRB_AS_REQ, &req, mem, &r->bytes, e);
}

static bool body_checksum(struct bench_maker *m, const struct bench_tgt *t, const struct krb_req_body *b,
                          struct sp_arena *mem, struct krb_checksum *out, struct sp_err *e)
{
    size_t n = CRYPTO_CKSUM_MAX;
    uint8_t *sum = sp_alloc(mem, n, e);
    struct sp_span raw;

    if (!sum || !krb_make(KRB_REQ_BODY, b, mem, &raw, e) ||
        !crypto_checksum(m->crypto, &t->session, KU_TGS_REQ_CKSUM, raw, sum, &n, e))
        return false;
    *out = (struct krb_checksum){crypto_find_type(t->session.etype)->cksumtype, sp_span(sum, n)};
    return true;
}

static bool authenticator(struct bench_maker *m, const struct bench_request *r, const struct bench_tgt *t,
                          const struct krb_req_body *b, struct sp_arena *mem, struct krb_enc *out,
                          struct sp_err *e)
{
    char name[BENCH_NAME_MAX];
    struct sp_span cname[1] = {bench_user_name(t->user, name)};
    int64_t now = next_stamp(m);
    struct krb_authenticator a = {
        .has = KRB_BIT(3) | KRB_BIT(6),
        .vno = 5,
        .crealm = sp_str(BENCH_REALM),
        .cname = {NT_PRINCIPAL,            {cname, 1}     },
        .cusec = (uint32_t)(now % 1000000),
        .ctime = now / 1000000,
        .subkey = { r->reply_key.etype, sp_span(r->reply_key.b, r->reply_key.n)},
    };
    struct sp_span plain;

    return body_checksum(m, t, b, mem, &a.cksum, e) && krb_make(KRB_AUTHENTICATOR, &a, mem, &plain, e) &&
           seal(m, &t->session, KU_TGS_REQ_AUTH, plain, mem, out, e);
}

static bool make_tgs(struct bench_maker *m, struct bench_request *r, struct sp_arena *mem, struct sp_err *e)
{
    const struct bench_tgt *t = &m->tgt[r->user % BENCH_TGTS];
    char instance[BENCH_NAME_MAX];
    struct sp_span sname[2] = {SP_LIT(BENCH_SERVICE), bench_service_instance(r->service, instance)};
    struct krb_ap_req ap = {.pvno = 5, .msg_type = 14};
    struct krb_pa pa = {.type = PA_TGS_REQ};
    struct krb_kdc_req req = {
        .has = KRB_BIT(3), .padata = {&pa, 1}
    };

    r->reply_usage = KU_TGS_REP_SUBKEY;
    req.body = body(m, r, sname, 0);
    return crypto_random_key(m->etype, m->env.rng, &r->reply_key, e) &&
           krb_get(KRB_TICKET, sp_span(t->ticket, t->ticket_n), KRB_STRICT, mem, &ap.ticket, e) &&
           authenticator(m, r, t, &req.body, mem, &ap.authenticator, e) &&
           krb_make(KRB_AP_REQ, &ap, mem, &pa.value, e) && krb_make(KRB_TGS_REQ, &req, mem, &r->bytes, e);
}

bool bench_make(struct bench_maker *m, enum bench_kind kind, uint32_t user, uint32_t service,
                struct sp_arena *mem, struct bench_request *out, struct sp_err *e)
{
    struct bench_request r = {.kind = kind, .user = user, .service = service, .etype = m->etype};
    struct sp_arena scratch;

    sp_arena_init(&scratch, m->scratch, BENCH_SCRATCH);
    sp_rng_fill(m->env.rng, &r.nonce, sizeof r.nonce);
    r.nonce &= 0x7fffffff; /* older peers read it as a signed number */
    if (!(kind == BENCH_TGS ? make_tgs(m, &r, &scratch, e) : make_as(m, &r, &scratch, e)))
        return false;
    r.bytes = sp_dup(mem, r.bytes, e);
    if (!r.bytes.p)
        return false;
    *out = r;
    return true;
}

bool bench_looks_right(enum bench_kind kind, struct sp_span reply)
{
    static const enum krb_type due[] = {KRB_ERROR, KRB_AS_REP, KRB_TGS_REP};

    return krb_sniff(reply) == due[kind];
}

static bool check_error(struct sp_span reply, int32_t want, struct sp_arena *mem, struct sp_err *e)
{
    struct krb_error x;

    if (!krb_get(KRB_ERROR, reply, KRB_UNKNOWN_TAIL, mem, &x, e))
        return false;
    return x.code == want ||
           sp_fail(e, SP_EREFUSED, x.code, "the server says %s %.*s", krb_code_name(x.code), SP_FMT(x.text));
}

static bool keep_ticket(const struct krb_kdc_rep *rep, const struct krb_enc_kdc_rep *part,
                        const struct bench_request *r, struct bench_tgt *tgt, struct sp_err *e)
{
    if (rep->ticket.raw.n > sizeof tgt->ticket || part->key.value.n > sizeof tgt->session.b)
        return sp_fail(e, SP_EFULL, 0, "a ticket of %zu bytes", rep->ticket.raw.n);
    tgt->user = r->user;
    tgt->session = (struct sp_key){.n = (uint8_t)part->key.value.n, .etype = part->key.type};
    memcpy(tgt->session.b, part->key.value.p, part->key.value.n);
    memcpy(tgt->ticket, rep->ticket.raw.p, rep->ticket.raw.n);
    tgt->ticket_n = rep->ticket.raw.n;
    return true;
}

bool bench_check(struct crypto *c, const struct bench_request *r, struct sp_span reply, struct sp_arena *mem,
                 struct bench_tgt *tgt, struct sp_err *e)
{
    enum krb_type type = krb_sniff(reply);
    struct krb_kdc_rep rep;
    struct krb_enc_kdc_rep part;
    uint8_t *plain = sp_alloc(mem, reply.n, e);
    size_t n = reply.n;

    if (!plain)
        return false;
    if (type == KRB_ERROR || r->kind == BENCH_AS_PLAIN)
        return check_error(reply, r->kind == BENCH_AS_PLAIN ? KDC_ERR_PREAUTH_REQUIRED : -1, mem, e);
    if (!krb_get(r->kind == BENCH_TGS ? KRB_TGS_REP : KRB_AS_REP, reply, KRB_UNKNOWN_TAIL, mem, &rep, e) ||
        !crypto_decrypt(c, &r->reply_key, r->reply_usage, rep.enc.cipher, plain, &n, e))
        return false;
    /* MIT writes EncTGSRepPart's tag in both replies. */
    type = n > 0 && plain[0] == 0x7a ? KRB_ENC_TGS_REP : KRB_ENC_AS_REP;
    if (!krb_get(type, sp_span(plain, n), KRB_UNKNOWN_TAIL, mem, &part, e))
        return false;
    if (part.nonce != r->nonce)
        return sp_fail(e, SP_EREFUSED, 0, "nonce %lld instead of %u", (long long)part.nonce, r->nonce);
    if (rep.ticket.enc.etype != r->etype || part.key.type != r->etype)
        return sp_fail(e, SP_EREFUSED, 0, "a ticket of type %d with a session key of type %d instead of %d",
                       (int)rep.ticket.enc.etype, (int)part.key.type, (int)r->etype);
    return !tgt || keep_ticket(&rep, &part, r, tgt, e);
}
