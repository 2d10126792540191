/* SPDX-License-Identifier: MIT */
/* Per-message calls: GSS-API's shapes around kctx's. */
#include "plugin/mech/engine.h"

#include <stdlib.h>

#define IOV_OVERHEAD                                                                                         \
    4096 /* arena of a scatter/gather call besides the data, which it may hold three times                   \
          */

/* Supplementary bits that go with a message whose content is good. */
static OM_uint32 supplementary(const struct sp_err *e)
{
    switch (e->proto) {
    case KCTX_DUPLICATE:
        return GSS_S_DUPLICATE_TOKEN;
    case KCTX_OLD:
        return GSS_S_OLD_TOKEN;
    case KCTX_UNSEQUENCED:
        return GSS_S_UNSEQ_TOKEN;
    case KCTX_GAP:
        return GSS_S_GAP_TOKEN;
    default:
        return GSS_S_COMPLETE;
    }
}

static OM_uint32 received(OM_uint32 *minor, bool ok, bool good, const struct sp_err *e)
{
    if (ok)
        return GSS_S_COMPLETE;
    return good ? mech_fail_as(minor, supplementary(e), e) : mech_fail(minor, e);
}

static bool check_qop(gss_qop_t qop, OM_uint32 *minor)
{
    *minor = 0;
    return qop == GSS_C_QOP_DEFAULT;
}

static enum kctx_wrap wanted(int conf)
{
    return conf ? KCTX_CONFIDENTIAL : KCTX_INTEGRITY;
}

/* ---- MIC ---- */

OM_uint32 mech_get_mic(OM_uint32 *minor, gss_ctx_id_t ctx, gss_qop_t qop, gss_buffer_t message,
                       gss_buffer_t token)
{
    struct sp_err e = {0};
    struct kctx *k = mech_established(ctx, &e);
    struct sp_span in = mech_span(message);
    uint8_t room[KCTX_MIC_MAX];
    size_t n = sizeof room;

    if (!check_qop(qop, minor))
        return GSS_S_BAD_QOP;
    if (!k || !kctx_get_mic(k, ((struct mech_ctx *)ctx)->crypto, &in, 1, room, &n, &e) ||
        !mech_give(token, sp_span(room, n), &e))
        return mech_fail(minor, &e);
    return GSS_S_COMPLETE;
}

OM_uint32 mech_verify_mic(OM_uint32 *minor, gss_ctx_id_t ctx, gss_buffer_t message, gss_buffer_t token,
                          gss_qop_t *qop)
{
    struct sp_err e = {0};
    struct kctx *k = mech_established(ctx, &e);
    struct sp_span in = mech_span(message);
    bool good = false, ok;

    *minor = 0;
    if (qop)
        *qop = GSS_C_QOP_DEFAULT;
    ok = k && kctx_verify_mic(k, ((struct mech_ctx *)ctx)->crypto, &in, 1, mech_span(token), &good, &e);
    return received(minor, ok, good, &e);
}

/* ---- wrap ---- */

OM_uint32 mech_wrap(OM_uint32 *minor, gss_ctx_id_t ctx, int conf, gss_qop_t qop, gss_buffer_t in,
                    int *got_conf, gss_buffer_t out)
{
    struct sp_err e = {0};
    struct kctx *k = mech_established(ctx, &e);
    size_t n = in->length + KCTX_WRAP_OVERHEAD_MAX;
    uint8_t *room;

    *out = (gss_buffer_desc)GSS_C_EMPTY_BUFFER;
    if (!check_qop(qop, minor))
        return GSS_S_BAD_QOP;
    if (!k)
        return mech_fail(minor, &e);
    room = malloc(n);
    if (!room)
        (void)sp_fail(&e, SP_ENOMEM, 0, "out of memory");
    else if (kctx_wrap(k, ((struct mech_ctx *)ctx)->crypto, host_env().rng, wanted(conf), mech_span(in), room,
                       &n, &e))
        *out = (gss_buffer_desc){n, room};
    if (got_conf)
        *got_conf = conf != 0;
    if (sp_ok(&e))
        return GSS_S_COMPLETE;
    free(room);
    return mech_fail(minor, &e);
}

OM_uint32 mech_unwrap(OM_uint32 *minor, gss_ctx_id_t ctx, gss_buffer_t in, gss_buffer_t out, int *conf,
                      gss_qop_t *qop)
{
    struct sp_err e = {0};
    struct kctx *k = mech_established(ctx, &e);
    enum kctx_wrap how = KCTX_INTEGRITY;
    size_t n = in->length;
    bool good = false, ok;
    uint8_t *room;

    *minor = 0;
    *out = (gss_buffer_desc)GSS_C_EMPTY_BUFFER;
    if (!k)
        return mech_fail(minor, &e);
    room = malloc(n + 1);
    if (!room)
        return GSS_S_FAILURE;
    ok = kctx_unwrap(k, ((struct mech_ctx *)ctx)->crypto, mech_span(in), room, &n, &how, &good, &e);
    if ((ok || good) && n > 0)
        *out = (gss_buffer_desc){n, room};
    else
        free(room);
    if (conf)
        *conf = how == KCTX_CONFIDENTIAL;
    if (qop)
        *qop = GSS_C_QOP_DEFAULT;
    return received(minor, ok, good, &e);
}

OM_uint32 mech_wrap_size_limit(OM_uint32 *minor, gss_ctx_id_t ctx, int conf, gss_qop_t qop,
                               OM_uint32 out_size, OM_uint32 *in_size)
{
    struct sp_err e = {0};
    struct kctx *k = mech_established(ctx, &e);

    if (!check_qop(qop, minor))
        return GSS_S_BAD_QOP;
    if (!k)
        return mech_fail(minor, &e);
    *in_size = (OM_uint32)kctx_wrap_limit(k, wanted(conf), out_size);
    return GSS_S_COMPLETE;
}

/* ---- scatter and gather ---- */

static bool part_of(OM_uint32 type, enum kctx_part *out)
{
    static const struct {
        OM_uint32 type;
        enum kctx_part part;
    } rows[] = {
        {GSS_IOV_BUFFER_TYPE_HEADER,      KCTX_PART_HEADER   },
        {GSS_IOV_BUFFER_TYPE_DATA,        KCTX_PART_DATA     },
        {GSS_IOV_BUFFER_TYPE_SIGN_ONLY,   KCTX_PART_SIGN_ONLY},
        {GSS_IOV_BUFFER_TYPE_PADDING,     KCTX_PART_PADDING  },
        {GSS_IOV_BUFFER_TYPE_TRAILER,     KCTX_PART_TRAILER  },
        {GSS_IOV_BUFFER_TYPE_STREAM,      KCTX_PART_STREAM   },
        {GSS_IOV_BUFFER_TYPE_EMPTY,       KCTX_PART_EMPTY    },
        {GSS_IOV_BUFFER_TYPE_MECH_PARAMS, KCTX_PART_EMPTY    },
        {GSS_IOV_BUFFER_TYPE_MIC_TOKEN,   KCTX_PART_MIC      },
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].type == GSS_IOV_BUFFER_TYPE(type)) {
            *out = rows[i].part;
            return true;
        }
    return false;
}

/* One call on pieces: v is theirs, p ours, mem lives as long as the call. */
struct pieces {
    gss_iov_buffer_desc *v;
    uint32_t count;
    struct kctx_iov p[KCTX_PARTS_MAX];
    struct sp_arena mem;
};

static bool take_pieces(struct pieces *q, gss_iov_buffer_desc *v, int count, struct sp_err *e)
{
    if (count < 0 || count > KCTX_PARTS_MAX)
        return sp_fail(e, SP_EINPUT, 0, "%d pieces", count);
    *q = (struct pieces){.v = v, .count = (uint32_t)count};
    for (uint32_t i = 0; i < q->count; i++) {
        q->p[i].p = v[i].buffer.value;
        q->p[i].n = v[i].buffer.length;
        if (!part_of(v[i].type, &q->p[i].part))
            return sp_fail(e, SP_EINPUT, 0, "a piece of unknown kind (%u)", v[i].type);
    }
    return true;
}

static bool make_room(struct pieces *q, struct sp_err *e)
{
    size_t n = IOV_OVERHEAD;
    void *room;

    for (uint32_t i = 0; i < q->count; i++)
        n += 3 * (q->p[i].n + 16);
    room = malloc(n);
    if (!room)
        return sp_fail(e, SP_ENOMEM, 0, "out of memory");
    sp_arena_init(&q->mem, room, n);
    return true;
}

static void end_pieces(struct pieces *q)
{
    if (q->mem.p) {
        sp_arena_reset(&q->mem);
        free(q->mem.p);
    }
}

static void give_back(struct pieces *q)
{
    for (uint32_t i = 0; i < q->count; i++) {
        q->v[i].buffer.value = q->p[i].p;
        q->v[i].buffer.length = q->p[i].n;
    }
}

static bool wants_memory(const gss_iov_buffer_desc *v)
{
    return (v->type & GSS_IOV_BUFFER_FLAG_ALLOCATE) != 0;
}

/* The flag in our view: the caller frees with gss_release_iov_buffer. */
static void unallocate(struct pieces *q)
{
    for (uint32_t i = 0; i < q->count; i++)
        if (wants_memory(&q->v[i]) && (q->v[i].type & GSS_IOV_BUFFER_FLAG_ALLOCATED)) {
            free(q->v[i].buffer.value);
            q->v[i].buffer = (gss_buffer_desc)GSS_C_EMPTY_BUFFER;
            q->v[i].type &= ~(OM_uint32)GSS_IOV_BUFFER_FLAG_ALLOCATED;
        }
}

/* Pieces that the caller wants allocated get their room, as long as `lengths` says. */
static bool allocate(struct pieces *q, const struct kctx_iov *lengths, struct sp_err *e)
{
    for (uint32_t i = 0; i < q->count; i++) {
        if (!wants_memory(&q->v[i]))
            continue;
        q->p[i] = (struct kctx_iov){q->p[i].part, NULL, lengths[i].n};
        if (lengths[i].n == 0) /* libgssapi frees nothing that is empty */
            continue;
        q->p[i].p = malloc(lengths[i].n);
        if (!q->p[i].p)
            return sp_fail(e, SP_ENOMEM, 0, "out of memory");
        q->v[i].buffer = (gss_buffer_desc){lengths[i].n, q->p[i].p};
        q->v[i].type |= GSS_IOV_BUFFER_FLAG_ALLOCATED;
    }
    return true;
}

OM_uint32 mech_wrap_iov(OM_uint32 *minor, gss_ctx_id_t ctx, int conf, gss_qop_t qop, int *got_conf,
                        gss_iov_buffer_desc *v, int count)
{
    struct sp_err e = {0};
    struct kctx *k = mech_established(ctx, &e), *c = k;
    struct kctx_iov lengths[KCTX_PARTS_MAX];
    struct pieces q = {0};
    bool ok;

    if (!check_qop(qop, minor))
        return GSS_S_BAD_QOP;
    ok = k && take_pieces(&q, v, count, &e);
    if (ok) {
        memcpy(lengths, q.p, sizeof lengths);
        ok = kctx_iov_lengths(c, wanted(conf), lengths, q.count, &e) && allocate(&q, lengths, &e) &&
             make_room(&q, &e) &&
             kctx_wrap_iov(k, ((struct mech_ctx *)ctx)->crypto, host_env().rng, wanted(conf), q.p, q.count,
                           &q.mem, &e);
        if (ok)
            give_back(&q);
        else
            unallocate(&q);
    }
    end_pieces(&q);
    if (got_conf)
        *got_conf = conf != 0;
    return ok ? GSS_S_COMPLETE : mech_fail(minor, &e);
}

OM_uint32 mech_wrap_iov_length(OM_uint32 *minor, gss_ctx_id_t ctx, int conf, gss_qop_t qop, int *got_conf,
                               gss_iov_buffer_desc *v, int count)
{
    struct sp_err e = {0};
    struct kctx *k = mech_established(ctx, &e);
    struct pieces q = {0};

    if (!check_qop(qop, minor))
        return GSS_S_BAD_QOP;
    if (!k || !take_pieces(&q, v, count, &e) || !kctx_iov_lengths(k, wanted(conf), q.p, q.count, &e))
        return mech_fail(minor, &e);
    for (uint32_t i = 0; i < q.count; i++)
        v[i].buffer.length = q.p[i].n;
    if (got_conf)
        *got_conf = conf != 0;
    return GSS_S_COMPLETE;
}

/* In a STREAM the data lies in place behind the header; who wants memory for it gets a copy. There is one. */
static bool copy_stream_data(struct pieces *q, struct sp_err *e)
{
    uint32_t i = 0;
    uint8_t *copy;

    while (i < q->count && !(q->p[i].part == KCTX_PART_DATA && wants_memory(&q->v[i])))
        i++;
    if (i == q->count)
        return true;
    copy = q->p[i].n > 0 ? malloc(q->p[i].n) : NULL;
    if (q->p[i].n > 0 && !copy)
        return sp_fail(e, SP_ENOMEM, 0, "out of memory");
    if (copy) {
        memcpy(copy, q->p[i].p, q->p[i].n);
        q->v[i].type |= GSS_IOV_BUFFER_FLAG_ALLOCATED;
    }
    q->p[i].p = copy;
    return true;
}

static bool unwrap_pieces(struct kctx *k, struct crypto *crypto, struct pieces *q, enum kctx_wrap *how,
                          bool *good, struct sp_err *e)
{
    struct sp_err copying = {0};
    bool ok = make_room(q, e) && kctx_unwrap_iov(k, crypto, how, q->p, q->count, &q->mem, good, e);

    if (!ok && !*good)
        return false;
    if (!copy_stream_data(q, &copying)) {
        *e = copying;
        *good = false;
        return false;
    }
    give_back(q);
    return ok;
}

OM_uint32 mech_unwrap_iov(OM_uint32 *minor, gss_ctx_id_t ctx, int *conf, gss_qop_t *qop,
                          gss_iov_buffer_desc *v, int count)
{
    struct sp_err e = {0};
    struct kctx *k = mech_established(ctx, &e);
    enum kctx_wrap how = KCTX_INTEGRITY;
    struct pieces q = {0};
    bool good = false, ok;

    *minor = 0;
    ok = k && take_pieces(&q, v, count, &e) &&
         unwrap_pieces(k, ((struct mech_ctx *)ctx)->crypto, &q, &how, &good, &e);
    end_pieces(&q);
    if (conf)
        *conf = how == KCTX_CONFIDENTIAL;
    if (qop)
        *qop = GSS_C_QOP_DEFAULT;
    return received(minor, ok, good, &e);
}

/* ---- a token beside data that is signed with it ---- */

OM_uint32 mech_wrap_aead(OM_uint32 *minor, gss_ctx_id_t ctx, int conf, gss_qop_t qop, gss_buffer_t beside,
                         gss_buffer_t payload, int *got_conf, gss_buffer_t out)
{
    gss_iov_buffer_desc v[] = {
        {GSS_IOV_BUFFER_TYPE_HEADER,    GSS_C_EMPTY_BUFFER                                    },
        {GSS_IOV_BUFFER_TYPE_SIGN_ONLY, beside ? *beside : (gss_buffer_desc)GSS_C_EMPTY_BUFFER},
        {GSS_IOV_BUFFER_TYPE_DATA,      *payload                                              },
        {GSS_IOV_BUFFER_TYPE_PADDING,   GSS_C_EMPTY_BUFFER                                    },
        {GSS_IOV_BUFFER_TYPE_TRAILER,   GSS_C_EMPTY_BUFFER                                    },
    };
    OM_uint32 major = mech_wrap_iov_length(minor, ctx, conf, qop, NULL, v, 5);
    uint8_t *room, *at;

    *out = (gss_buffer_desc)GSS_C_EMPTY_BUFFER;
    if (GSS_ERROR(major))
        return major;
    room = malloc(v[0].buffer.length + payload->length + v[3].buffer.length + v[4].buffer.length + 1);
    if (!room)
        return GSS_S_FAILURE;
    at = room;
    for (int i = 0; i < 5; i++) {
        if (i == 1)
            continue;
        if (i == 2 && payload->length > 0)
            memcpy(at, payload->value, payload->length);
        v[i].buffer.value = at;
        at += v[i].buffer.length;
    }
    major = mech_wrap_iov(minor, ctx, conf, qop, got_conf, v, 5);
    if (GSS_ERROR(major))
        free(room);
    else
        *out = (gss_buffer_desc){(size_t)(at - room), room};
    return major;
}

OM_uint32 mech_unwrap_aead(OM_uint32 *minor, gss_ctx_id_t ctx, gss_buffer_t in, gss_buffer_t beside,
                           gss_buffer_t payload, int *conf, gss_qop_t *qop)
{
    gss_buffer_desc copy;
    gss_iov_buffer_desc v[] = {
        {GSS_IOV_BUFFER_TYPE_STREAM,                              GSS_C_EMPTY_BUFFER                                    },
        {GSS_IOV_BUFFER_TYPE_SIGN_ONLY,                           beside ? *beside : (gss_buffer_desc)GSS_C_EMPTY_BUFFER},
        {GSS_IOV_BUFFER_TYPE_DATA | GSS_IOV_BUFFER_FLAG_ALLOCATE, GSS_C_EMPTY_BUFFER                                    },
    };
    struct sp_err e = {0};
    OM_uint32 major;

    *payload = (gss_buffer_desc)GSS_C_EMPTY_BUFFER;
    if (!mech_give(&copy, mech_span(in), &e)) /* it is decrypted in place */
        return mech_fail(minor, &e);
    v[0].buffer = copy;
    major = mech_unwrap_iov(minor, ctx, conf, qop, v, 3);
    if (!GSS_ERROR(major))
        *payload = v[2].buffer;
    sp_wipe(copy.value, copy.length);
    free(copy.value);
    return major;
}

/* ---- MIC over pieces ---- */

/* DATA and SIGN_ONLY are signed, in order; the token is the MIC piece. */
static bool split_mic(const struct pieces *q, struct sp_span *parts, uint32_t *count, uint32_t *mic,
                      struct sp_err *e)
{
    bool found = false;

    *count = 0;
    for (uint32_t i = 0; i < q->count; i++) {
        if (q->p[i].part == KCTX_PART_DATA || q->p[i].part == KCTX_PART_SIGN_ONLY)
            parts[(*count)++] = sp_span(q->p[i].p, q->p[i].n);
        if (q->p[i].part == KCTX_PART_MIC) {
            *mic = i;
            found = true;
        }
    }
    return found || sp_fail(e, SP_EINPUT, 0, "no piece for the MIC");
}

static bool mic_into(struct pieces *q, uint32_t at, struct sp_span mic, struct sp_err *e)
{
    struct kctx_iov lengths[KCTX_PARTS_MAX] = {0};

    lengths[at].n = mic.n;
    if (wants_memory(&q->v[at]) ? !allocate(q, lengths, e) : q->p[at].n < mic.n)
        return sp_fail(e, SP_EFULL, 0, "a MIC takes %zu bytes", mic.n);
    memcpy(q->p[at].p, mic.p, mic.n);
    q->v[at].buffer.length = mic.n;
    return true;
}

OM_uint32 mech_get_mic_iov(OM_uint32 *minor, gss_ctx_id_t ctx, gss_qop_t qop, gss_iov_buffer_desc *v,
                           int count)
{
    struct sp_err e = {0};
    struct kctx *k = mech_established(ctx, &e);
    struct sp_span parts[KCTX_PARTS_MAX];
    uint8_t room[KCTX_MIC_MAX];
    size_t n = sizeof room;
    struct pieces q = {0};
    uint32_t parts_n, mic = 0;

    if (!check_qop(qop, minor))
        return GSS_S_BAD_QOP;
    if (!k || !take_pieces(&q, v, count, &e) || !split_mic(&q, parts, &parts_n, &mic, &e) ||
        !kctx_get_mic(k, ((struct mech_ctx *)ctx)->crypto, parts, parts_n, room, &n, &e) ||
        !mic_into(&q, mic, sp_span(room, n), &e))
        return mech_fail(minor, &e);
    return GSS_S_COMPLETE;
}

OM_uint32 mech_verify_mic_iov(OM_uint32 *minor, gss_ctx_id_t ctx, gss_qop_t *qop, gss_iov_buffer_desc *v,
                              int count)
{
    struct sp_err e = {0};
    struct kctx *k = mech_established(ctx, &e);
    struct sp_span parts[KCTX_PARTS_MAX];
    struct pieces q = {0};
    uint32_t parts_n, mic = 0;
    bool good = false, ok;

    *minor = 0;
    if (qop)
        *qop = GSS_C_QOP_DEFAULT;
    ok = k && take_pieces(&q, v, count, &e) && split_mic(&q, parts, &parts_n, &mic, &e) &&
         kctx_verify_mic(k, ((struct mech_ctx *)ctx)->crypto, parts, parts_n, sp_span(q.p[mic].p, q.p[mic].n),
                         &good, &e);
    return received(minor, ok, good, &e);
}

OM_uint32 mech_get_mic_iov_length(OM_uint32 *minor, gss_ctx_id_t ctx, gss_qop_t qop, gss_iov_buffer_desc *v,
                                  int count)
{
    struct sp_err e = {0};
    struct kctx *k = mech_established(ctx, &e);
    struct sp_span parts[KCTX_PARTS_MAX];
    struct pieces q = {0};
    struct sp_key key = {0};
    uint32_t parts_n, mic = 0;

    if (!check_qop(qop, minor))
        return GSS_S_BAD_QOP;
    if (!k || !take_pieces(&q, v, count, &e) || !split_mic(&q, parts, &parts_n, &mic, &e) ||
        !kctx_session_key(k, &key, &e))
        return mech_fail(minor, &e);
    v[mic].buffer.length = 16 + crypto_find_type(key.etype)->tag_n; /* RFC 4121 4.2.6.1 */
    sp_wipe(&key, sizeof key);
    return GSS_S_COMPLETE;
}

/* ---- RFC 4401 ---- */

OM_uint32 mech_pseudo_random(OM_uint32 *minor, gss_ctx_id_t ctx, int key, const gss_buffer_t in, ssize_t want,
                             gss_buffer_t out)
{
    struct sp_err e = {0};
    struct kctx *k = mech_established(ctx, &e);
    uint8_t *room;

    *minor = 0;
    *out = (gss_buffer_desc)GSS_C_EMPTY_BUFFER;
    if (!k)
        return mech_fail(minor, &e);
    if ((key != GSS_C_PRF_KEY_FULL && key != GSS_C_PRF_KEY_PARTIAL) || want < 0)
        return mech_fail_text(minor, GSS_S_FAILURE, "unknown key or length of the pseudo-random function");
    room = malloc((size_t)want + 1);
    if (!room)
        return GSS_S_FAILURE;
    if (!kctx_prf(k, ((struct mech_ctx *)ctx)->crypto,
                  key == GSS_C_PRF_KEY_FULL ? KCTX_PRF_FULL : KCTX_PRF_PARTIAL, mech_span(in), room,
                  (size_t)want, &e)) {
        free(room);
        return mech_fail_as(minor, GSS_S_FAILURE, &e);
    }
    if (want == 0)
        free(room);
    else
        *out = (gss_buffer_desc){(size_t)want, room};
    return GSS_S_COMPLETE;
}
