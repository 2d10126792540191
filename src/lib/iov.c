/* SPDX-License-Identifier: MIT */
/* Messages in pieces. */
#include "lib/internal.h"

#define ROOM_MORE 1024 /* what wrapping adds, several times over */

static const enum kctx_part parts[] = {
    [SALLYPORT_PIECE_HEADER] = KCTX_PART_HEADER,       [SALLYPORT_PIECE_DATA] = KCTX_PART_DATA,
    [SALLYPORT_PIECE_SIGN_ONLY] = KCTX_PART_SIGN_ONLY, [SALLYPORT_PIECE_PADDING] = KCTX_PART_PADDING,
    [SALLYPORT_PIECE_TRAILER] = KCTX_PART_TRAILER,     [SALLYPORT_PIECE_STREAM] = KCTX_PART_STREAM,
};

/* One call: the caller's pieces, the engine's view of them, and memory for the call. */
struct call {
    struct sallyport_context *x;
    struct sallyport_piece *theirs;
    uint32_t count;
    struct kctx_iov v[KCTX_PARTS_MAX];
    struct lib_block room;
    struct sp_arena mem;
};

enum bytes { BYTES_NONE, BYTES_THERE };

static bool take_piece(const struct sallyport_piece *in, enum bytes bytes, struct kctx_iov *out,
                       struct sp_err *e)
{
    if (in->kind < 0 || (size_t)in->kind >= sizeof parts / sizeof *parts)
        return sp_fail(e, SP_EINPUT, 0, "a piece of unknown kind: %d", in->kind);
    if (bytes == BYTES_THERE && !in->p && in->n > 0)
        return sp_fail(e, SP_EINPUT, 0, "a piece of %zu bytes at NULL", in->n);
    *out = (struct kctx_iov){parts[in->kind], in->p, in->n};
    return true;
}

static bool take(struct call *q, struct sallyport_context *x, struct sallyport_piece *pieces, size_t count,
                 enum bytes bytes, struct sp_err *e)
{
    if (count > KCTX_PARTS_MAX || (!pieces && count > 0))
        return sp_fail(e, SP_EINPUT, 0, "%zu pieces, at most %d", count, KCTX_PARTS_MAX);
    *q = (struct call){.x = x, .theirs = pieces, .count = (uint32_t)count};
    for (uint32_t i = 0; i < q->count; i++)
        if (!take_piece(&pieces[i], bytes, &q->v[i], e))
            return false;
    return true;
}

/* The engine works on a copy in one piece, unwrapping on two. */
static bool take_room(struct call *q, struct sp_err *e)
{
    size_t n = 0;

    for (uint32_t i = 0; i < q->count; i++) {
        if (q->v[i].n > SIZE_MAX / 4 - ROOM_MORE - n)
            return sp_fail(e, SP_EINPUT, 0, "pieces that no memory holds");
        n += q->v[i].n;
    }
    if (!lib_take(q->x->lib, 2 * n + ROOM_MORE, &q->room, e))
        return false;
    sp_arena_init(&q->mem, q->room.p, q->room.n);
    return true;
}

static void give_back(const struct call *q)
{
    for (uint32_t i = 0; i < q->count; i++) {
        q->theirs[i].p = q->v[i].p;
        q->theirs[i].n = q->v[i].n;
    }
}

bool sallyport_piece_lengths(struct sallyport_context *x, int32_t how, struct sallyport_piece *pieces,
                             size_t count, struct sallyport_error *error)
{
    enum kctx_wrap w;
    struct call q;
    struct sp_err e = {0};
    bool ok = lib_check_how(how, &w, &e) && take(&q, x, pieces, count, BYTES_NONE, &e) &&
              kctx_iov_lengths(lib_kctx(x), w, q.v, q.count, &e);

    if (ok)
        give_back(&q);
    return lib_end(x->lib, ok, &e, error);
}

/* Sealed behind a confounder of zeros: not one byte of it may leave. */
static void wipe_data(const struct call *q)
{
    for (uint32_t i = 0; i < q->count; i++)
        if (q->v[i].part != KCTX_PART_SIGN_ONLY)
            sp_wipe(q->v[i].p, q->v[i].n);
}

bool sallyport_wrap_pieces(struct sallyport_context *x, int32_t how, struct sallyport_piece *pieces,
                           size_t count, struct sallyport_error *error)
{
    enum kctx_wrap w;
    struct call q = {0};
    struct sp_err e = {0};
    bool ok = lib_check_how(how, &w, &e) && take(&q, x, pieces, count, BYTES_THERE, &e) &&
              take_room(&q, &e) &&
              kctx_wrap_iov(lib_kctx(x), x->lib->crypto, &x->lib->rng, w, q.v, q.count, &q.mem, &e);

    if (ok && x->lib->starved)
        wipe_data(&q);
    else if (ok)
        give_back(&q);
    lib_drop_wiped(x->lib, &q.room);
    return lib_end(x->lib, ok, &e, error);
}

bool sallyport_unwrap_pieces(struct sallyport_context *x, struct sallyport_piece *pieces, size_t count,
                             int32_t *how, struct sallyport_error *error)
{
    enum kctx_wrap w = KCTX_INTEGRITY;
    struct call q = {0};
    struct sp_err e = {0};
    bool good = false;
    bool ok = take(&q, x, pieces, count, BYTES_THERE, &e) && take_room(&q, &e) &&
              kctx_unwrap_iov(lib_kctx(x), x->lib->crypto, &w, q.v, q.count, &q.mem, &good, &e);

    if (good)
        give_back(&q);
    if (how)
        *how = w == KCTX_CONFIDENTIAL ? SALLYPORT_SEALED : SALLYPORT_SIGNED;
    lib_drop_wiped(x->lib, &q.room);
    return lib_end(x->lib, ok, &e, error);
}
