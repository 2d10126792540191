/* SPDX-License-Identifier: MIT */
/* Type (1 byte), then a message, read by our tables and by Debian's libkrb5, which then writes it again.
 * Whatever it writes, we read, and write as the same bytes; and where it wrote what it had read, it is what
 * we read in the first place. libkrb5 exports these functions, but its headers declare neither them nor their
 * structs; none is needed, since a message that was read is only written again.
 *
 * It loses what its structs cannot hold: a version number 0 that was written out, times after 2106, empty
 * lists. So where times may be in a message, only what it wrote as it had read it is compared; elsewhere also
 * what both wrote with the same number of bytes. */
#include "world.h"

#include "krb/messages.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROOM = 1 << 20, STRUCT_MAX = 1024 };

struct their_data { /* krb5_data */
    int32_t magic;
    unsigned int length;
    char *data;
};
typedef int32_t decode_fn(const struct their_data *, void **);
typedef int32_t encode_fn(const void *, struct their_data **);
typedef void free_fn(void *, void *);

#define ROWS(X)                                                                                              \
    X(TICKET, ticket, ticket, false)                                                                         \
    X(ENC_TICKET, enc_tkt_part, enc_tkt_part, true)                                                          \
    X(AS_REQ, as_req, kdc_req, true)                                                                         \
    X(TGS_REQ, tgs_req, kdc_req, true)                                                                       \
    X(REQ_BODY, kdc_req_body, kdc_req, true)                                                                 \
    X(AP_REQ, ap_req, ap_req, false)                                                                         \
    X(AP_REP, ap_rep, ap_rep, false)                                                                         \
    X(ENC_AP_REP, ap_rep_enc_part, ap_rep_enc_part, true)                                                    \
    X(AUTHENTICATOR, authenticator, authenticator, true)                                                     \
    X(ERROR, error, error, true)                                                                             \
    X(ENC, enc_data, enc_data, false)                                                                        \
    X(KEYBLOCK, encryption_key, keyblock, false)                                                             \
    X(PADATA, padata_sequence, pa_data, false)                                                               \
    X(AUTHDATA, authdata, authdata, false)                                                                   \
    X(INFOS2, etype_info2, etype_info, false)                                                                \
    X(PA_ENC_TS, pa_enc_ts, pa_enc_ts, true)                                                                 \
    X(PRIV, priv, priv, false)                                                                               \
    X(SAFE, safe, safe, true)

#define DECLARE(type, name, what, timed)                                                                     \
    decode_fn decode_krb5_##name;                                                                            \
    encode_fn encode_krb5_##name;
ROWS(DECLARE)
free_fn krb5_free_ticket, krb5_free_enc_tkt_part, krb5_free_kdc_req, krb5_free_ap_req, krb5_free_ap_rep,
    krb5_free_ap_rep_enc_part, krb5_free_authenticator, krb5_free_error, krb5_free_enc_data,
    krb5_free_keyblock, krb5_free_pa_data, krb5_free_authdata, krb5_free_etype_info, krb5_free_pa_enc_ts,
    krb5_free_priv, krb5_free_safe, krb5_free_data;

static const struct theirs {
    decode_fn *decode;
    encode_fn *encode;
    free_fn *release;
    bool timed;
} theirs[KRB_TYPE_COUNT] = {
#define ROW(type, name, what, timed)                                                                         \
    [KRB_##type] = {decode_krb5_##name, encode_krb5_##name, krb5_free_##what, timed},
    ROWS(ROW)};

static uint8_t block[ROOM], written[ROOM];
static _Alignas(16) uint8_t value[STRUCT_MAX];

static void show(const char *what, struct sp_span s)
{
    fprintf(stderr, "%s:", what);
    for (size_t i = 0; i < s.n; i++)
        fprintf(stderr, " %02x", s.p[i]);
    fputc('\n', stderr);
}

static void differ(enum krb_type t, const char *how, struct sp_span in, struct sp_span ours,
                   struct sp_span others)
{
    fprintf(stderr, "%s: %s\n", krb_type_name(t), how);
    show("read", in);
    show("ours", ours);
    show("theirs", others);
    abort();
}

/* Ours only: what they have no limit for. */
static bool is_our_limit(const struct sp_err *e)
{
    static const char *const why[] = {"number out of range", "too many of them"};
    bool known = e->kind == SP_ENOMEM;

    for (size_t i = 0; i < sizeof why / sizeof *why; i++)
        known = known || strstr(e->text, why[i]);
    return known;
}

/* What they wrote, read by us. */
static void check_theirs(enum krb_type t, struct sp_span in, struct sp_span others)
{
    struct sp_span ours = {0};
    struct sp_err e = {0};
    struct sp_arena mem;

    sp_arena_init(&mem, block, sizeof block);
    if (!krb_get(t, others, KRB_STRICT, &mem, value, &e)) {
        if (is_our_limit(&e))
            return;
        fprintf(stderr, "at %u: %s\n", e.at, e.text);
        differ(t, "we cannot read what they wrote", in, ours, others);
    }
    fuzz_must(krb_put(t, value, written, sizeof written, &ours, &e), "what was read can be written");
    /* UInt32 that came as a negative number is written as what it is, a byte longer. */
    if (ours.n <= others.n && !sp_same(ours, others))
        differ(t, "we do not write what they wrote", in, ours, others);
}

static bool read_ours(enum krb_type t, struct sp_span in, struct sp_span *ours)
{
    struct sp_err e = {0};
    struct sp_arena mem;

    sp_arena_init(&mem, block, sizeof block);
    if (!krb_get(t, in, KRB_STRICT, &mem, value, &e))
        return false;
    fuzz_must(krb_put(t, value, written, sizeof written, ours, &e), "what was read can be written");
    return true;
}

static void compare(enum krb_type t, struct sp_span in)
{
    struct their_data d = {0, (unsigned)in.n, (char *)(uintptr_t)in.p}, *again = NULL;
    struct sp_span ours = {0}, others = {0};
    void *v = NULL;
    bool we;

    if (theirs[t].decode(&d, &v) != 0)
        return;
    if (theirs[t].encode(v, &again) == 0) {
        others = sp_span(again->data, again->length);
        we = read_ours(t, in, &ours);
        if (we && !theirs[t].timed && ours.n == others.n && !sp_same(ours, others))
            differ(t, "we read different things", in, ours, others);
        if (sp_same(others, in))
            check_theirs(t, in, others);
        krb5_free_data(NULL, again);
    }
    theirs[t].release(NULL, v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t *copy;

    if (n == 0 || data[0] >= KRB_TYPE_COUNT || !theirs[data[0]].decode)
        return 0;
    copy = fuzz_copy(data + 1, n - 1);
    compare((enum krb_type)data[0], sp_span(copy, n - 1));
    free(copy);
    return 0;
}
