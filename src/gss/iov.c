/* SPDX-License-Identifier: MIT */
/* Wrap tokens in pieces that lie where the caller wants them, in the layout of MS-KILE 3.4.5.4 and of MIT:
 *
 *   with TRAILER      header, confounder | DATA | E(EC, header), tag
 *   without           header, E(EC, header), tag, confounder | DATA          RRC = what came in front
 *   integrity only    header | DATA | checksum, or header, checksum | DATA
 *
 * SIGN_ONLY pieces are covered and stay with the caller. */
#include "gss/kctx_internal.h"

#define BLOCK_N 16

/* What a set of buffers is made of. */
struct layout {
    struct kctx_iov *header, *trailer, *stream, *data;
    size_t data_n, data_count, signed_count;
};

static bool once(struct kctx_iov **slot, struct kctx_iov *v, struct sp_err *e)
{
    if (*slot)
        return sp_fail(e, SP_EINPUT, 0, "a buffer of kind %d is there twice", v->part);
    *slot = v;
    return true;
}

static bool note(struct layout *l, struct kctx_iov *v, struct sp_err *e)
{
    switch (v->part) {
    case KCTX_PART_HEADER:
        return once(&l->header, v, e);
    case KCTX_PART_TRAILER:
        return once(&l->trailer, v, e);
    case KCTX_PART_STREAM:
        return once(&l->stream, v, e);
    case KCTX_PART_DATA:
        l->data = v;
        l->data_n += v->n;
        l->data_count++;
        return true;
    case KCTX_PART_SIGN_ONLY:
        l->signed_count += v->n > 0;
        return true;
    case KCTX_PART_PADDING:
        v->n = 0; /* AES with ciphertext stealing pads nothing */
        return true;
    case KCTX_PART_EMPTY:
        return true;
    case KCTX_PART_MIC:
        break;
    }
    return sp_fail(e, SP_EINPUT, 0, "a buffer of kind %d in a wrapped message", v->part);
}

static bool look(struct kctx_iov *v, uint32_t count, struct layout *l, struct sp_err *e)
{
    *l = (struct layout){0};
    if (count > KCTX_PARTS_MAX)
        return sp_fail(e, SP_EINPUT, 0, "%u buffers, at most %d", count, KCTX_PARTS_MAX);
    for (uint32_t i = 0; i < count; i++)
        if (!note(l, &v[i], e))
            return false;
    return true;
}

static bool is_piece(const struct kctx_iov *v)
{
    return v->part == KCTX_PART_DATA || v->part == KCTX_PART_SIGN_ONLY;
}

/* DATA and SIGN_ONLY in their order, and a header behind them: what a checksum covers. */
static size_t covered(const struct kctx_iov *v, uint32_t count, const uint8_t *header,
                      struct sp_span pieces[KCTX_PARTS_MAX + 1])
{
    size_t n = 0;

    for (uint32_t i = 0; i < count; i++)
        if (is_piece(&v[i]))
            pieces[n++] = sp_span(v[i].p, v[i].n);
    pieces[n++] = sp_span(header, KCTX_HEADER_N);
    return n;
}

/* ---- how long the pieces are ---- */

struct lengths {
    size_t ec, front,
        back; /* extra count; what stands before the data, and behind it when nothing is rotated */
};

/* DCE style fills up to a block although nothing needs it: Windows expects that (MS-KILE 3.4.5.4.1). */
static struct lengths lengths_of(const struct kctx *k, enum kctx_wrap how)
{
    size_t tag_n = crypto_find_type(kctx_message_key(k)->etype)->tag_n;
    size_t ec = k->flags & KCTX_DCE ? BLOCK_N : 0;

    if (how == KCTX_INTEGRITY)
        return (struct lengths){0, KCTX_HEADER_N, tag_n};
    return (struct lengths){ec, KCTX_HEADER_N + CRYPTO_CONFOUNDER_N, ec + KCTX_HEADER_N + tag_n};
}

bool kctx_iov_lengths(const struct kctx *k, enum kctx_wrap how, struct kctx_iov *v, uint32_t count,
                      struct sp_err *e)
{
    struct layout l;
    struct lengths n;

    if (!kctx_check_ready(k, e) || !look(v, count, &l, e))
        return false;
    if (!l.header)
        return sp_fail(e, SP_EINPUT, 0, "no buffer for the header");
    n = lengths_of(k, how);
    l.header->n = l.trailer ? n.front : n.front + n.back;
    if (l.trailer)
        l.trailer->n = n.back;
    return true;
}

static bool check_room(const struct kctx_iov *v, size_t need, struct sp_err *e)
{
    return v->n >= need || sp_fail(e, SP_EFULL, 0, "a buffer of %zu bytes, %zu are needed", v->n, need);
}

static bool check_rooms(const struct layout *l, const struct lengths *n, struct sp_err *e)
{
    if (!l->header || l->stream)
        return sp_fail(e, SP_EINPUT, 0, "wrapping takes a HEADER and no STREAM");
    return check_room(l->header, l->trailer ? n->front : n->front + n->back, e) &&
           (!l->trailer || check_room(l->trailer, n->back, e));
}

/* SIGN_ONLY pieces with their places in the data; of a STREAM, whose DATA has no length yet, stream_n is. */
static const struct crypto_beside *beside(const struct kctx_iov *v, uint32_t count, const struct layout *l,
                                          size_t stream_n, struct crypto_beside *b)
{
    size_t at = 0;

    b->count = 0;
    for (uint32_t i = 0; l->signed_count && i < count; i++) {
        if (v[i].part == KCTX_PART_DATA)
            at += l->stream ? stream_n : v[i].n;
        if (v[i].part != KCTX_PART_SIGN_ONLY || v[i].n == 0)
            continue;
        b->v[b->count].at = at;
        b->v[b->count++].bytes = sp_span(v[i].p, v[i].n);
    }
    return b->count ? b : NULL;
}

/* ---- wrapping ---- */

static void put_data(struct kctx_iov *v, uint32_t count, const uint8_t *from)
{
    for (uint32_t i = 0; i < count; i++) {
        if (v[i].part != KCTX_PART_DATA || v[i].n == 0)
            continue;
        memcpy(v[i].p, from, v[i].n);
        from += v[i].n;
    }
}

static uint8_t *get_data(const struct kctx_iov *v, uint32_t count, uint8_t *to)
{
    for (uint32_t i = 0; i < count; i++) {
        if (v[i].part != KCTX_PART_DATA || v[i].n == 0)
            continue;
        memcpy(to, v[i].p, v[i].n);
        to += v[i].n;
    }
    return to;
}

/* What follows the data goes to the trailer, or between the header and what precedes the data. */
static void put_ends(const struct layout *l, const struct lengths *n, const struct kctx_header *h,
                     struct sp_span front, struct sp_span back)
{
    uint8_t *p = l->header->p;

    kctx_put_header(KCTX_TOKEN_WRAP, h, p);
    p += KCTX_HEADER_N;
    if (l->trailer) {
        memcpy(l->trailer->p, back.p, back.n);
        l->trailer->n = back.n;
    } else {
        memcpy(p, back.p, back.n);
        p += back.n;
    }
    if (front.n > 0)
        memcpy(p, front.p, front.n);
    l->header->n = l->trailer ? n->front : n->front + n->back;
}

static bool seal(const struct kctx *k, struct crypto *c, struct sp_rng *rng, const struct layout *l,
                 const struct lengths *n, struct kctx_iov *v, uint32_t count, struct sp_arena *mem,
                 struct sp_err *e)
{
    struct kctx_header h = kctx_next_header(k, KCTX_CONFIDENTIAL);
    size_t body_n = CRYPTO_CONFOUNDER_N + l->data_n + n->back;
    uint8_t *body = sp_alloc(mem, body_n, e), *at;
    struct crypto_beside b;
    struct sp_span plain;

    if (!body)
        return false;
    h.ec = (uint16_t)n->ec;
    at = get_data(v, count, body + CRYPTO_CONFOUNDER_N);
    memset(at, 0xff, n->ec);
    kctx_put_header(KCTX_TOKEN_WRAP, &h, at + n->ec);
    plain = sp_span(body + CRYPTO_CONFOUNDER_N, l->data_n + n->ec + KCTX_HEADER_N);
    if (!crypto_encrypt_beside(c, kctx_message_key(k), kctx_seal_usage(k->role), rng, plain,
                               beside(v, count, l, 0, &b), body, &body_n, e))
        return false;
    if (!l->trailer) /* Windows rotates by EC and RRC in DCE style, so EC is left out of RRC there */
        h.rrc = (uint16_t)(n->back - n->ec);
    put_data(v, count, body + CRYPTO_CONFOUNDER_N);
    put_ends(l, n, &h, sp_span(body, CRYPTO_CONFOUNDER_N), sp_span(at, n->back));
    return true;
}

static bool sign(const struct kctx *k, struct crypto *c, const struct layout *l, const struct lengths *n,
                 const struct kctx_iov *v, uint32_t count, struct sp_err *e)
{
    struct kctx_header h = kctx_next_header(k, KCTX_INTEGRITY);
    struct sp_span pieces[KCTX_PARTS_MAX + 1];
    uint8_t header[KCTX_HEADER_N], sum[CRYPTO_CKSUM_MAX];
    size_t sum_n = sizeof sum;

    kctx_put_header(KCTX_TOKEN_WRAP, &h, header);
    if (!crypto_checksum_pieces(c, kctx_message_key(k), kctx_seal_usage(k->role), pieces,
                                covered(v, count, header, pieces), sum, &sum_n, e))
        return false;
    h.ec = (uint16_t)sum_n;
    h.rrc = l->trailer ? 0 : (uint16_t)sum_n;
    put_ends(l, n, &h, sp_span(NULL, 0), sp_span(sum, sum_n));
    return true;
}

bool kctx_wrap_iov(struct kctx *k, struct crypto *c, struct sp_rng *rng, enum kctx_wrap how,
                   struct kctx_iov *v, uint32_t count, struct sp_arena *mem, struct sp_err *e)
{
    struct layout l;
    struct lengths n;
    size_t mark = mem->used;
    bool ok;

    if (!kctx_check_ready(k, e) || !look(v, count, &l, e))
        return false;
    n = lengths_of(k, how);
    if (!check_rooms(&l, &n, e))
        return false;
    ok = how == KCTX_CONFIDENTIAL ? seal(k, c, rng, &l, &n, v, count, mem, e)
                                  : sign(k, c, &l, &n, v, count, e);
    mem->used = mark;
    k->send_seq += ok;
    return ok;
}

/* ---- unwrapping ---- */

/* The whole token in one piece and put right, behind its header: confounder, data, end; or data, checksum. */
struct body {
    struct kctx_header h;
    uint8_t *p;
    size_t n;
};

static bool gather(const struct kctx *k, const struct layout *l, const struct kctx_iov *v, uint32_t count,
                   struct sp_arena *mem, struct body *b, struct sp_err *e)
{
    size_t max = l->stream ? l->stream->n : l->header->n + l->data_n + (l->trailer ? l->trailer->n : 0);
    uint8_t *raw = sp_alloc(mem, max, e), *to = raw;

    b->p = sp_alloc(mem, max, e);
    if (!raw || !b->p)
        return false;
    if (l->stream) {
        memcpy(raw, l->stream->p, max);
    } else {
        memcpy(to, l->header->p, l->header->n);
        to = get_data(v, count, to + l->header->n);
        if (l->trailer)
            memcpy(to, l->trailer->p, l->trailer->n);
    }
    if (!kctx_get_header(k, KCTX_TOKEN_WRAP, sp_span(raw, max), &b->h, e))
        return false;
    b->n = max - KCTX_HEADER_N;
    kctx_unrotate(sp_span(raw + KCTX_HEADER_N, b->n), kctx_rotation(k, &b->h), b->p);
    return true;
}

static bool open_sealed(const struct kctx *k, struct crypto *c, const struct kctx_iov *v, uint32_t count,
                        const struct layout *l, struct body *b, struct sp_err *e)
{
    size_t over = crypto_cipher_n(kctx_message_key(k)->etype, KCTX_HEADER_N + (size_t)b->h.ec);
    struct crypto_beside x;
    struct kctx_header plain = {.flags = b->h.flags, .ec = b->h.ec, .seq = b->h.seq};
    uint8_t want[KCTX_HEADER_N];
    struct sp_err why = {0};
    size_t n = b->n;

    kctx_put_header(KCTX_TOKEN_WRAP, &plain, want);
    if (!crypto_decrypt_beside(c, kctx_message_key(k), kctx_seal_usage(kctx_peer(k)), sp_span(b->p, b->n),
                               beside(v, count, l, b->n > over ? b->n - over : 0, &x), b->p, &n, &why))
        return kctx_bad_sig(&why, e);
    if (n < (size_t)KCTX_HEADER_N + b->h.ec || !sp_equal_ct(b->p + n - KCTX_HEADER_N, want, sizeof want))
        return sp_fail(e, SP_EREFUSED, KCTX_BAD_SIG, "per-message token: its header was changed");
    b->n = n - KCTX_HEADER_N - b->h.ec;
    return true;
}

/* The pieces as the sender had them: DATA is in b->p, wherever the caller's lies. */
static size_t covered_here(const struct kctx_iov *v, uint32_t count, const struct layout *l,
                           const struct body *b, const uint8_t *header,
                           struct sp_span pieces[KCTX_PARTS_MAX + 1])
{
    size_t n = covered(v, count, header, pieces), at = 0, piece = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (!is_piece(&v[i]))
            continue;
        if (v[i].part == KCTX_PART_DATA) {
            pieces[piece].p = b->p + at;
            pieces[piece].n = l->stream ? b->n : v[i].n;
            at += pieces[piece].n;
        }
        piece++;
    }
    return n;
}

static bool open_signed(const struct kctx *k, struct crypto *c, const struct kctx_iov *v, uint32_t count,
                        const struct layout *l, struct body *b, struct sp_err *e)
{
    struct kctx_header plain = {.flags = b->h.flags, .seq = b->h.seq};
    const struct crypto_type *t = crypto_find_type(kctx_message_key(k)->etype);
    struct sp_span pieces[KCTX_PARTS_MAX + 1];
    uint8_t header[KCTX_HEADER_N];
    struct sp_err why = {0};

    if (b->h.ec != t->tag_n || b->n < b->h.ec)
        return sp_fail(e, SP_EINPUT, KCTX_DEFECTIVE, "Wrap token: a checksum of %u bytes", b->h.ec);
    b->n -= b->h.ec;
    if (!l->stream && b->n != l->data_n)
        return sp_fail(e, SP_EINPUT, KCTX_DEFECTIVE, "%zu bytes of data, room for %zu", b->n, l->data_n);
    kctx_put_header(KCTX_TOKEN_WRAP, &plain, header);
    return crypto_verify_pieces(c, kctx_message_key(k), kctx_seal_usage(kctx_peer(k)), t->cksumtype, pieces,
                                covered_here(v, count, l, b, header, pieces), sp_span(b->p + b->n, t->tag_n),
                                &why) ||
           kctx_bad_sig(&why, e);
}

/* In a STREAM the data ends up in place, behind the token's header; else in the buffers that it came in. */
static bool scatter(const struct layout *l, struct kctx_iov *v, uint32_t count, const struct body *b,
                    struct sp_err *e)
{
    if (!l->stream) {
        if (b->n != l->data_n)
            return sp_fail(e, SP_EREFUSED, KCTX_DEFECTIVE, "%zu bytes of data, room for %zu", b->n,
                           l->data_n);
        put_data(v, count, b->p);
        return true;
    }
    l->data->p = l->stream->p + KCTX_HEADER_N;
    l->data->n = b->n;
    if (b->n > 0)
        memcpy(l->data->p, b->p, b->n);
    return true;
}

static bool check_shape(const struct layout *l, struct sp_err *e)
{
    if (l->stream ? l->header || l->trailer || l->data_count != 1 : !l->header)
        return sp_fail(e, SP_EINPUT, 0, "unwrapping takes a HEADER, or a STREAM and one DATA");
    return true;
}

static bool open_pieces(const struct kctx *k, struct crypto *c, struct kctx_iov *v, uint32_t count,
                        const struct layout *l, struct sp_arena *mem, struct body *b, struct sp_err *e)
{
    enum kctx_wrap how;

    if (!gather(k, l, v, count, mem, b, e))
        return false;
    how = b->h.flags & KCTX_SEALED ? KCTX_CONFIDENTIAL : KCTX_INTEGRITY;
    return (how == KCTX_CONFIDENTIAL ? open_sealed(k, c, v, count, l, b, e)
                                     : open_signed(k, c, v, count, l, b, e)) &&
           scatter(l, v, count, b, e);
}

bool kctx_unwrap_iov(struct kctx *k, struct crypto *c, enum kctx_wrap *how, struct kctx_iov *v,
                     uint32_t count, struct sp_arena *mem, bool *good, struct sp_err *e)
{
    struct layout l;
    struct body b = {0};
    size_t mark = mem->used;

    *good = false;
    if (!kctx_check_ready(k, e) || !look(v, count, &l, e) || !check_shape(&l, e))
        return false;
    *good = open_pieces(k, c, v, count, &l, mem, &b, e);
    mem->used = mark;
    if (!*good)
        return false;
    *how = b.h.flags & KCTX_SEALED ? KCTX_CONFIDENTIAL : KCTX_INTEGRITY;
    return kctx_take_seq(k, b.h.seq, e);
}
