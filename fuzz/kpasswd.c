/* SPDX-License-Identifier: MIT */
/* Flags (1 byte, fuzz/world.h), the keeper's verdict (1), a kpasswd request. The reply's frame (RFC 3244 2)
 * adds up. */
#include "world.h"

#include "krb/messages.h"

#include <stdlib.h>

enum { HEAD = 2, FRAME = 6, READING = 1 << 18 };

static uint8_t reading_block[READING];

static unsigned be16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

/* Length, version, length of the AP-REP; 0 there means that a KRB-ERROR follows. */
static void check(struct sp_span reply)
{
    struct sp_arena mem;
    struct krb_ap_rep ap;
    struct krb_priv priv;
    struct krb_error x;
    struct sp_err e = {0};
    struct sp_span rest;
    unsigned ap_n;

    if (reply.n == 0)
        return;
    sp_arena_init(&mem, reading_block, sizeof reading_block);
    fuzz_must(reply.n > FRAME && be16(reply.p) == reply.n && be16(reply.p + 2) == 1,
              "the reply has its frame");
    ap_n = be16(reply.p + 4);
    rest = sp_span(reply.p + FRAME, reply.n - FRAME);
    if (ap_n == 0) {
        fuzz_must(krb_get(KRB_ERROR, rest, KRB_STRICT, &mem, &x, &e), "an error can be read");
        return;
    }
    fuzz_must(ap_n < rest.n, "the AP-REP lies inside");
    fuzz_must(krb_get(KRB_AP_REP, sp_span(rest.p, ap_n), KRB_STRICT, &mem, &ap, &e),
              "the AP-REP can be read");
    fuzz_must(krb_get(KRB_PRIV, sp_span(rest.p + ap_n, rest.n - ap_n), KRB_STRICT, &mem, &priv, &e),
              "the KRB-PRIV can be read");
}

static void finish(struct fuzz_world *w, const struct kdc_change *asked, uint16_t result)
{
    struct kdc_change kept = *asked; /* as the keeper does: the arena is reset in between */
    struct sp_span reply = {0};

    fuzz_must(kept.password_n <= sizeof kept.password, "the password fits");
    sp_arena_reset(&w->mem);
    kdc_finish_change(&w->kdc, w->env, &kept, result, SP_LIT("text"), &w->mem, &reply);
    fuzz_must(reply.n > 0, "a proven change is answered");
    check(reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz_world *w = fuzz_world();
    struct kdc_actions out = {0};
    struct kdc_request q;
    uint8_t *copy;

    if (n < HEAD)
        return 0;
    copy = fuzz_copy(data + HEAD, n - HEAD);
    q = fuzz_request(sp_span(copy, n - HEAD), data[0]);
    w->mem.max = data[0] & FUZZ_LITTLE ? 8192 : FUZZ_ARENA;
    kdc_kpasswd_step(&w->kdc, w->env, &q, &w->mem, &out);
    check(out.reply);
    if (out.has_change) {
        fuzz_must(out.reply.n == 0 && out.change, "a change waits for its verdict");
        w->mem.max = FUZZ_ARENA;
        finish(w, out.change, data[1] % 8);
    }
    free(copy);
    return 0;
}
