/* SPDX-License-Identifier: MIT */
/* Per-message tokens of RFC 4121 4.2: MIC and Wrap, the order of their numbers, and what else is made from
 * the context's keys. */
#include "bytes/cursor.h"
#include "bytes/emitter.h"
#include "gss/kctx_internal.h"

bool kctx_check_ready(const struct kctx *k, struct sp_err *e)
{
    if (k->state != KCTX_READY)
        return sp_fail(e, SP_EREFUSED, KCTX_NO_CONTEXT, "the context is not established");
    return true;
}

const struct sp_key *kctx_message_key(const struct kctx *k)
{
    return k->acceptor_subkey.n ? &k->acceptor_subkey : k->subkey.n ? &k->subkey : &k->session;
}

enum kctx_role kctx_peer(const struct kctx *k)
{
    return k->role == KCTX_ACCEPTOR ? KCTX_INITIATOR : KCTX_ACCEPTOR;
}

uint32_t kctx_seal_usage(enum kctx_role sender)
{
    return sender == KCTX_ACCEPTOR ? KU_ACCEPTOR_SEAL : KU_INITIATOR_SEAL;
}

uint32_t kctx_sign_usage(enum kctx_role sender)
{
    return sender == KCTX_ACCEPTOR ? KU_ACCEPTOR_SIGN : KU_INITIATOR_SIGN;
}

static size_t tag_n(const struct kctx *k)
{
    return crypto_find_type(kctx_message_key(k)->etype)->tag_n;
}

bool kctx_bad_sig(const struct sp_err *why, struct sp_err *e)
{
    if (why->kind == SP_EREFUSED)
        return sp_fail(e, SP_EREFUSED, KCTX_BAD_SIG, "per-message token: %s", why->text);
    return sp_fail(e, why->kind, why->proto, "%s", why->text);
}

/* ---- headers ---- */

static uint8_t flags_of(const struct kctx *k, enum kctx_role sender, enum kctx_wrap how)
{
    return (uint8_t)((sender == KCTX_ACCEPTOR ? KCTX_BY_ACCEPTOR : 0) |
                     (how == KCTX_CONFIDENTIAL ? KCTX_SEALED : 0) |
                     (k->acceptor_subkey.n ? KCTX_ACCEPTOR_SUBKEY : 0));
}

struct kctx_header kctx_next_header(const struct kctx *k, enum kctx_wrap how)
{
    return (struct kctx_header){.flags = flags_of(k, k->role, how), .seq = k->send_seq};
}

void kctx_put_header(enum kctx_token id, const struct kctx_header *h, uint8_t out[KCTX_HEADER_N])
{
    struct sp_err e = {0};
    struct sp_emit o = sp_emit_to(out, KCTX_HEADER_N, &e);

    sp_put_be64(&o, h->seq);
    if (id == KCTX_TOKEN_MIC) {
        sp_put_be32(&o, UINT32_MAX);
    } else {
        sp_put_be16(&o, h->rrc);
        sp_put_be16(&o, h->ec);
    }
    sp_put_u8(&o, 0xff);
    sp_put_u8(&o, h->flags);
    sp_put_be16(&o, (uint16_t)id);
}

bool kctx_get_header(const struct kctx *k, enum kctx_token id, struct sp_span in, struct kctx_header *out,
                     struct sp_err *e)
{
    struct sp_err cut = {0};
    struct sp_cur c = sp_cur_of(in, &cut);
    uint16_t got = sp_get_be16(&c, "token id");
    struct kctx_header h = {.flags = sp_get_u8(&c, "flags")};
    uint8_t filler = sp_get_u8(&c, "filler");

    h.ec = sp_get_be16(&c, "EC");
    h.rrc = sp_get_be16(&c, "RRC");
    h.seq = sp_get_be64(&c, "sequence number");
    if (!sp_ok(&cut) || !in.p || got != id || filler != 0xff)
        return sp_fail(e, SP_EINPUT, KCTX_DEFECTIVE, "not a %s token: %zu bytes, id %04x",
                       id == KCTX_TOKEN_MIC ? "MIC" : "Wrap", in.n, got);
    if (id == KCTX_TOKEN_MIC && (h.ec != 0xffff || h.rrc != 0xffff || (h.flags & KCTX_SEALED)))
        return sp_fail(e, SP_EINPUT, KCTX_DEFECTIVE, "not a MIC token: filler");
    /* The reserved five bits are ignored (4.2.2): the checksum covers them. */
    if ((h.flags & (KCTX_BY_ACCEPTOR | KCTX_ACCEPTOR_SUBKEY)) != flags_of(k, kctx_peer(k), KCTX_INTEGRITY))
        return sp_fail(e, SP_EREFUSED, KCTX_BAD_SIG, "a token of our own side, or under another key");
    *out = h;
    return true;
}

/* ---- the order of numbers (RFC 2743 1.2.3) ---- */

/* Bit i of recv_seen: the number recv_seq - 1 - i was seen. */
static void advance(struct kctx *k, uint64_t by)
{
    k->recv_seen = by >= KCTX_WINDOW ? 0 : k->recv_seen << by;
    k->recv_seen |= 1;
    k->recv_seq += by;
}

bool kctx_take_seq(struct kctx *k, uint64_t seq, struct sp_err *e)
{
    uint64_t ahead = seq - k->recv_seq, back = k->recv_seq - seq, bit;

    if (!(k->flags & (KCTX_REPLAY | KCTX_SEQUENCE)))
        return true;
    if (ahead <= INT64_MAX) { /* numbers go round, so nearer is what decides */
        advance(k, ahead + 1);
        if (ahead > 0 && (k->flags & KCTX_SEQUENCE))
            return sp_fail(e, SP_EREFUSED, KCTX_GAP, "a message was left out before this one");
        return true;
    }
    if (back > KCTX_WINDOW)
        return sp_fail(e, SP_EREFUSED, KCTX_OLD, "too old to tell whether it is a repetition");
    bit = UINT64_C(1) << (back - 1);
    if (k->recv_seen & bit)
        return sp_fail(e, SP_EREFUSED, KCTX_DUPLICATE, "this message was received before");
    k->recv_seen |= bit;
    if (k->flags & KCTX_SEQUENCE)
        return sp_fail(e, SP_EREFUSED, KCTX_UNSEQUENCED, "a later message was received before this one");
    return true;
}

static bool check_room(size_t need, size_t *out_n, struct sp_err *e)
{
    size_t have = *out_n;

    *out_n = need;
    return have >= need || sp_fail(e, SP_EFULL, 0, "room for %zu bytes, %zu are needed", have, need);
}

/* ---- MIC ---- */

/* The message and the header behind it, which is what a MIC covers (4.2.4). */
static bool with_header(const struct sp_span *parts, uint32_t count, const uint8_t header[KCTX_HEADER_N],
                        struct sp_span pieces[KCTX_PARTS_MAX + 1], struct sp_err *e)
{
    if (count > KCTX_PARTS_MAX)
        return sp_fail(e, SP_EINPUT, 0, "a message in %u pieces, at most %d", count, KCTX_PARTS_MAX);
    for (uint32_t i = 0; i < count; i++)
        pieces[i] = parts[i];
    pieces[count] = sp_span(header, KCTX_HEADER_N);
    return true;
}

bool kctx_get_mic(struct kctx *k, struct crypto *c, const struct sp_span *parts, uint32_t count, uint8_t *out,
                  size_t *out_n, struct sp_err *e)
{
    struct sp_span pieces[KCTX_PARTS_MAX + 1];
    uint8_t header[KCTX_HEADER_N];
    struct kctx_header h;
    size_t n = CRYPTO_CKSUM_MAX;

    if (!kctx_check_ready(k, e) || !check_room(KCTX_HEADER_N + tag_n(k), out_n, e))
        return false;
    h = kctx_next_header(k, KCTX_INTEGRITY);
    kctx_put_header(KCTX_TOKEN_MIC, &h, header);
    n = tag_n(k);
    if (!with_header(parts, count, header, pieces, e) ||
        !crypto_checksum_pieces(c, kctx_message_key(k), kctx_sign_usage(k->role), pieces, count + 1u,
                                out + KCTX_HEADER_N, &n, e))
        return false;
    memcpy(out, header, sizeof header);
    k->send_seq++;
    return true;
}

static bool verify_mic(const struct kctx *k, struct crypto *c, const struct sp_span *parts, uint32_t count,
                       struct sp_span mic, struct kctx_header *h, struct sp_err *e)
{
    struct sp_span pieces[KCTX_PARTS_MAX + 1], sum;
    const struct sp_key *key = kctx_message_key(k);
    struct sp_err why = {0};

    if (!kctx_check_ready(k, e) || !kctx_get_header(k, KCTX_TOKEN_MIC, mic, h, e) ||
        !with_header(parts, count, mic.p, pieces, e))
        return false;
    sum = sp_span(mic.p + KCTX_HEADER_N, mic.n - KCTX_HEADER_N);
    return crypto_verify_pieces(c, key, kctx_sign_usage(kctx_peer(k)),
                                crypto_find_type(key->etype)->cksumtype, pieces, count + 1u, sum, &why) ||
           kctx_bad_sig(&why, e);
}

bool kctx_verify_mic(struct kctx *k, struct crypto *c, const struct sp_span *parts, uint32_t count,
                     struct sp_span mic, bool *good, struct sp_err *e)
{
    struct kctx_header h;

    *good = verify_mic(k, c, parts, count, mic, &h, e);
    return *good && kctx_take_seq(k, h.seq, e);
}

bool kctx_verify_list_mic(struct kctx *k, struct crypto *c, struct sp_span list, struct sp_span mic,
                          struct sp_err *e)
{
    struct kctx_header h;

    return verify_mic(k, c, &list, 1, mic, &h, e);
}

/* ---- Wrap ---- */

/* Windows rotates what is sealed in DCE style by EC and RRC (MS-KILE 3.4.5.4.1), and says RRC. */
size_t kctx_rotation(const struct kctx *k, const struct kctx_header *h)
{
    bool by_both = h->rrc > 0 && (k->flags & KCTX_DCE) && (h->flags & KCTX_SEALED);

    return (size_t)h->rrc + (by_both ? h->ec : 0);
}

void kctx_unrotate(struct sp_span in, size_t by, uint8_t *out)
{
    size_t n = in.n ? by % in.n : 0;

    if (in.n == 0)
        return;
    memcpy(out, in.p + n, in.n - n);
    memcpy(out + in.n - n, in.p, n);
}

static size_t overhead(const struct kctx *k, enum kctx_wrap how)
{
    return how == KCTX_CONFIDENTIAL ? KCTX_HEADER_N + CRYPTO_CONFOUNDER_N + KCTX_HEADER_N + tag_n(k)
                                    : KCTX_HEADER_N + tag_n(k);
}

size_t kctx_wrap_limit(const struct kctx *k, enum kctx_wrap how, size_t max)
{
    size_t over;

    if (k->state != KCTX_READY)
        return 0;
    over = overhead(k, how);
    return max > over ? max - over : 0;
}

/* header | E(data | header), 4.2.4; EC and RRC are 0. The text is put where it is encrypted. */
static bool seal(const struct kctx *k, struct crypto *c, struct sp_rng *rng, struct sp_span in, uint8_t *out,
                 size_t n, struct sp_err *e)
{
    uint8_t *text = out + KCTX_HEADER_N + CRYPTO_CONFOUNDER_N;
    struct kctx_header h = kctx_next_header(k, KCTX_CONFIDENTIAL);
    size_t body_n = n - KCTX_HEADER_N;

    kctx_put_header(KCTX_TOKEN_WRAP, &h, out);
    if (in.n > 0)
        memcpy(text, in.p, in.n);
    memcpy(text + in.n, out, KCTX_HEADER_N);
    if (crypto_encrypt(c, kctx_message_key(k), kctx_seal_usage(k->role), rng,
                       sp_span(text, in.n + KCTX_HEADER_N), out + KCTX_HEADER_N, &body_n, e))
        return true;
    sp_wipe(out, n);
    return false;
}

/* header | data | checksum over data and the header with EC and RRC 0; the usage is that of sealing (4.2.4).
 */
static bool sign(const struct kctx *k, struct crypto *c, struct sp_span in, uint8_t *out, struct sp_err *e)
{
    struct kctx_header h = kctx_next_header(k, KCTX_INTEGRITY);
    struct sp_span pieces[2] = {in, sp_span(out, KCTX_HEADER_N)};
    size_t n = tag_n(k);

    kctx_put_header(KCTX_TOKEN_WRAP, &h, out);
    if (!crypto_checksum_pieces(c, kctx_message_key(k), kctx_seal_usage(k->role), pieces, 2,
                                out + KCTX_HEADER_N + in.n, &n, e))
        return false;
    h.ec = (uint16_t)n;
    kctx_put_header(KCTX_TOKEN_WRAP, &h, out);
    if (in.n > 0)
        memcpy(out + KCTX_HEADER_N, in.p, in.n);
    return true;
}

bool kctx_wrap(struct kctx *k, struct crypto *c, struct sp_rng *rng, enum kctx_wrap how, struct sp_span in,
               uint8_t *out, size_t *out_n, struct sp_err *e)
{
    size_t n;

    if (!kctx_check_ready(k, e))
        return false;
    n = overhead(k, how);
    if (in.n > SIZE_MAX - n)
        return sp_fail(e, SP_EINPUT, 0, "a message of %zu bytes is too long", in.n);
    if (!check_room(n + in.n, out_n, e) ||
        !(how == KCTX_CONFIDENTIAL ? seal(k, c, rng, in, out, n + in.n, e) : sign(k, c, in, out, e)))
        return false;
    k->send_seq++;
    return true;
}

/* body: what follows the header, put right already; decrypted in place. The copy of the header behind the
 * data must be the one that came in the clear, which is what protects it. */
static bool open_sealed(const struct kctx *k, struct crypto *c, const struct kctx_header *h, uint8_t *body,
                        size_t body_n, size_t *n, struct sp_err *e)
{
    struct kctx_header plain = {.flags = h->flags, .ec = h->ec, .seq = h->seq};
    struct sp_err why = {0};
    uint8_t want[KCTX_HEADER_N];
    size_t got = body_n;

    kctx_put_header(KCTX_TOKEN_WRAP, &plain, want);
    if (!crypto_decrypt(c, kctx_message_key(k), kctx_seal_usage(kctx_peer(k)), sp_span(body, body_n), body,
                        &got, &why))
        return kctx_bad_sig(&why, e);
    if (got < (size_t)KCTX_HEADER_N + h->ec || !sp_equal_ct(body + got - KCTX_HEADER_N, want, KCTX_HEADER_N))
        return sp_fail(e, SP_EREFUSED, KCTX_BAD_SIG, "per-message token: its header was changed");
    *n = got - KCTX_HEADER_N - h->ec;
    return true;
}

static bool open_signed(const struct kctx *k, struct crypto *c, const struct kctx_header *h,
                        const uint8_t *body, size_t body_n, size_t *n, struct sp_err *e)
{
    struct kctx_header plain = {.flags = h->flags, .seq = h->seq};
    const struct sp_key *key = kctx_message_key(k);
    uint8_t header[KCTX_HEADER_N];
    struct sp_err why = {0};
    struct sp_span pieces[2];

    if (h->ec != tag_n(k) || body_n < h->ec)
        return sp_fail(e, SP_EINPUT, KCTX_DEFECTIVE, "Wrap token: a checksum of %u bytes", h->ec);
    kctx_put_header(KCTX_TOKEN_WRAP, &plain, header);
    *n = body_n - h->ec;
    pieces[0] = sp_span(body, *n);
    pieces[1] = sp_span(header, sizeof header);
    return crypto_verify_pieces(c, key, kctx_seal_usage(kctx_peer(k)),
                                crypto_find_type(key->etype)->cksumtype, pieces, 2, sp_span(body + *n, h->ec),
                                &why) ||
           kctx_bad_sig(&why, e);
}

bool kctx_unwrap(struct kctx *k, struct crypto *c, struct sp_span in, uint8_t *out, size_t *out_n,
                 enum kctx_wrap *how, bool *good, struct sp_err *e)
{
    struct kctx_header h;
    struct sp_span body;
    size_t room = *out_n, n = 0;

    *good = false;
    *out_n = 0;
    if (!kctx_check_ready(k, e) || !kctx_get_header(k, KCTX_TOKEN_WRAP, in, &h, e))
        return false;
    if (room < in.n) {
        *out_n = in.n;
        return sp_fail(e, SP_EFULL, 0, "room for %zu bytes, %zu are needed", room, in.n);
    }
    body = sp_span(in.p + KCTX_HEADER_N, in.n - KCTX_HEADER_N);
    kctx_unrotate(body, kctx_rotation(k, &h), out);
    *good = h.flags & KCTX_SEALED ? open_sealed(k, c, &h, out, body.n, &n, e)
                                  : open_signed(k, c, &h, out, body.n, &n, e);
    sp_wipe(out + n, body.n - n);
    if (!*good) {
        sp_wipe(out, n);
        return false;
    }
    *out_n = n;
    *how = h.flags & KCTX_SEALED ? KCTX_CONFIDENTIAL : KCTX_INTEGRITY;
    return kctx_take_seq(k, h.seq, e);
}

/* ---- what else the keys are good for ---- */

bool kctx_session_key(const struct kctx *k, struct sp_key *out, struct sp_err *e)
{
    if (!kctx_check_ready(k, e))
        return false;
    *out = *kctx_message_key(k);
    return true;
}

static bool fill_prf(struct crypto *c, const struct sp_key *key, struct sp_span numbered, uint8_t *number,
                     uint8_t *out, size_t want_n, struct sp_err *e)
{
    uint8_t block[CRYPTO_PRF_MAX];
    bool ok = true;

    for (uint32_t i = 0; ok && want_n > 0; i++) {
        size_t n = sizeof block;

        for (int at = 0; at < 4; at++)
            number[at] = (uint8_t)(i >> (24 - 8 * at));
        ok = crypto_prf(c, key, numbered, block, &n, e);
        n = n < want_n ? n : want_n;
        if (ok)
            memcpy(out, block, n);
        out += n;
        want_n -= n;
    }
    sp_wipe(block, sizeof block);
    return ok;
}

bool kctx_prf(const struct kctx *k, struct crypto *c, enum kctx_prf which, struct sp_span in, uint8_t *out,
              size_t want_n, struct sp_err *e)
{
    uint8_t numbered[4 + KCTX_PRF_IN_MAX];
    const struct sp_key *key;
    bool ok;

    if (!kctx_check_ready(k, e))
        return false;
    if (in.n > KCTX_PRF_IN_MAX)
        return sp_fail(e, SP_EINPUT, 0, "a PRF input of %zu bytes, at most %d", in.n, KCTX_PRF_IN_MAX);
    key = which == KCTX_PRF_FULL ? kctx_message_key(k) : k->subkey.n ? &k->subkey : &k->session;
    if (in.n > 0)
        memcpy(numbered + 4, in.p, in.n);
    ok = fill_prf(c, key, sp_span(numbered, 4 + in.n), numbered, out, want_n, e);
    sp_wipe(numbered, 4 + in.n);
    return ok;
}
