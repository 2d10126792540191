/* SPDX-License-Identifier: MIT */
/* Up to three requests to one KDC: flags (1 byte, fuzz/world.h), length (2), bytes; again. Whatever comes in,
 * what goes out can be read, fits its door and says what the record says. */
#include "world.h"

#include "krb/messages.h"

#include <stdlib.h>

enum { REQUESTS = 3, HEAD = 3, LITTLE = 8192, READING = 1 << 20 };

static uint8_t reading_block[READING];

/* The null backend does not encrypt: what lies between confounder and tag is EncTicketPart. */
static void check_ticket(const struct krb_ticket *t, struct sp_arena *mem)
{
    const struct crypto_type *type = crypto_find_type(t->enc.etype);
    struct sp_span in = t->enc.cipher;
    struct krb_enc_ticket part;
    struct sp_err e = {0};

    fuzz_must(type && in.n >= crypto_cipher_n(type->etype, 0), "tickets are of a type of ours");
    in = sp_span(in.p + 16, in.n - crypto_cipher_n(type->etype, 0));
    fuzz_must(krb_get(KRB_ENC_TICKET, in, KRB_STRICT, mem, &part, &e), "tickets can be read");
    fuzz_must(part.endtime > part.authtime && part.endtime > FUZZ_NOW_S, "tickets live");
    fuzz_must((part.flags & KRB_FLAG(TKT_PRE_AUTHENT)) != 0, "tickets are for those who proved themselves");
    fuzz_must(sp_same(part.crealm, SP_LIT("BENCH.TEST")), "tickets are for clients of the realm");
}

static void check_error(struct sp_span reply, const struct kdc_record *r, struct sp_arena *mem)
{
    struct krb_error x;
    struct sp_err e = {0};

    fuzz_must(krb_get(KRB_ERROR, reply, KRB_STRICT, mem, &x, &e), "errors can be read");
    fuzz_must(x.code == r->code || x.code == KRB_ERR_RESPONSE_TOO_BIG,
              "the record's code is what the peer is told");
    fuzz_must(x.code != 0, "errors have a code");
}

static void check(const struct kdc_request *q, const struct kdc_actions *out)
{
    enum krb_type type = krb_sniff(out->reply);
    struct sp_arena mem;
    struct krb_kdc_rep rep;
    struct sp_err e = {0};

    if (out->reply.n == 0)
        return;
    sp_arena_init(&mem, reading_block, sizeof reading_block);
    fuzz_must(q->door != KDC_UDP || out->reply.n <= 4096, "UDP replies keep to their limit");
    if (type == KRB_ERROR) {
        check_error(out->reply, &out->record, &mem);
        return;
    }
    fuzz_must(type == KRB_AS_REP || type == KRB_TGS_REP, "a reply is an error, an AS-REP or a TGS-REP");
    fuzz_must(krb_get(type, out->reply, KRB_STRICT, &mem, &rep, &e), "replies can be read");
    fuzz_must(out->record.code == 0, "a ticket is recorded as success");
    check_ticket(&rep.ticket, &mem);
}

static void step(struct fuzz_world *w, uint8_t flags, struct sp_span bytes)
{
    uint8_t *copy = fuzz_copy(bytes.p, bytes.n);
    struct kdc_actions out = {0};
    struct kdc_request q;

    q = fuzz_request(sp_span(copy, bytes.n), flags);
    if (flags & FUZZ_LATER) {
        w->env.wall_us += INT64_C(400000000);
        w->env.mono_us += INT64_C(400000000);
    }
    sp_arena_reset(&w->mem);
    w->mem.max = flags & FUZZ_LITTLE ? LITTLE : FUZZ_ARENA;
    kdc_step(&w->kdc, w->env, &q, &w->mem, &out);
    check(&q, &out);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz_world *w = fuzz_world();

    for (unsigned i = 0; i < REQUESTS && n >= HEAD; i++) {
        size_t want = (size_t)data[1] << 8 | data[2];
        uint8_t flags = data[0];

        data += HEAD;
        n -= HEAD;
        want = want > n ? n : want;
        step(w, flags, sp_span(data, want));
        data += want;
        n -= want;
    }
    return 0;
}
