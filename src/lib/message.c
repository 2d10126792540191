/* SPDX-License-Identifier: MIT */
/* Per-message protection and the keys of an established context. */
#include "lib/internal.h"

bool lib_check_how(int32_t how, enum kctx_wrap *out, struct sp_err *e)
{
    *out = how == SALLYPORT_SEALED ? KCTX_CONFIDENTIAL : KCTX_INTEGRITY;
    return how == SALLYPORT_SEALED || how == SALLYPORT_SIGNED ||
           sp_fail(e, SP_EINPUT, 0, "neither signed nor sealed: %d", how);
}

bool sallyport_wrap(struct sallyport_context *x, int32_t how, struct sallyport_bytes text, void *out,
                    size_t *n, struct sallyport_error *error)
{
    enum kctx_wrap w;
    struct sp_err e = {0};
    bool ok = lib_check_how(how, &w, &e) && lib_check(text, "a text", &e) &&
              kctx_wrap(lib_kctx(x), x->lib->crypto, &x->lib->rng, w, lib_span(text), out, n, &e);

    if (ok && x->lib->starved) { /* sealed behind a confounder of zeros */
        sp_wipe(out, *n);
        *n = 0;
    }
    return lib_end(x->lib, ok, &e, error);
}

bool sallyport_unwrap(struct sallyport_context *x, struct sallyport_bytes token, void *out, size_t *n,
                      int32_t *how, struct sallyport_error *error)
{
    enum kctx_wrap w = KCTX_INTEGRITY;
    bool good = false, ok;
    struct sp_err e = {0};

    ok = lib_check(token, "a token", &e) &&
         kctx_unwrap(lib_kctx(x), x->lib->crypto, lib_span(token), out, n, &w, &good, &e);
    if (!ok && !good && e.kind != SP_EFULL)
        *n = 0;
    if (how)
        *how = w == KCTX_CONFIDENTIAL ? SALLYPORT_SEALED : SALLYPORT_SIGNED;
    return lib_end(x->lib, ok, &e, error);
}

size_t sallyport_wrap_limit(struct sallyport_context *x, int32_t how, size_t room)
{
    const struct kctx *k = lib_kctx(x);
    struct sp_err e = {0};
    enum kctx_wrap w;

    return lib_check_how(how, &w, &e) && k->state == KCTX_READY ? kctx_wrap_limit(k, w, room) : 0;
}

bool sallyport_sign(struct sallyport_context *x, struct sallyport_bytes text, void *mic, size_t *n,
                    struct sallyport_error *error)
{
    struct sp_span part = lib_span(text);
    struct sp_err e = {0};

    return lib_end(x->lib,
                   lib_check(text, "a text", &e) &&
                       kctx_get_mic(lib_kctx(x), x->lib->crypto, &part, 1, mic, n, &e),
                   &e, error);
}

bool sallyport_verify(struct sallyport_context *x, struct sallyport_bytes text, struct sallyport_bytes mic,
                      struct sallyport_error *error)
{
    struct sp_span part = lib_span(text);
    struct sp_err e = {0};
    bool good = false;

    return lib_end(x->lib,
                   lib_check(text, "a text", &e) && lib_check(mic, "a MIC", &e) &&
                       kctx_verify_mic(lib_kctx(x), x->lib->crypto, &part, 1, lib_span(mic), &good, &e),
                   &e, error);
}

bool sallyport_prf(struct sallyport_context *x, int32_t which, struct sallyport_bytes in, void *out,
                   size_t want, struct sallyport_error *error)
{
    enum kctx_prf p = which == SALLYPORT_PRF_PARTIAL ? KCTX_PRF_PARTIAL : KCTX_PRF_FULL;
    struct sp_err e = {0};
    bool ok = (which == SALLYPORT_PRF_FULL || which == SALLYPORT_PRF_PARTIAL ||
               sp_fail(&e, SP_EINPUT, 0, "neither the full nor the partial key: %d", which)) &&
              lib_check(in, "a PRF's input", &e) &&
              kctx_prf(lib_kctx(x), x->lib->crypto, p, lib_span(in), out, want, &e);

    return lib_end(x->lib, ok, &e, error);
}

bool sallyport_session_key(struct sallyport_context *x, void *out, size_t *n, int32_t *type,
                           struct sallyport_error *error)
{
    struct sp_key key = {0};
    struct sp_err e = {0};
    bool ok = kctx_session_key(lib_kctx(x), &key, &e) && lib_give(sp_span(key.b, key.n), out, n, &e);

    if (ok && type)
        *type = key.etype;
    sp_wipe(&key, sizeof key);
    return lib_end(x->lib, ok, &e, error);
}

bool sallyport_export(struct sallyport_context *x, void *out, size_t *n, struct sallyport_error *error)
{
    struct sp_err e = {0};
    bool ok = kctx_export(lib_kctx(x), out, n, &e);

    if (ok)
        sp_wipe(&x->key, sizeof x->key);
    return lib_end(x->lib, ok, &e, error);
}

struct sallyport_context *sallyport_import(struct sallyport *lib, struct sallyport_bytes bytes,
                                           struct sallyport_error *error)
{
    struct sp_err e = {0};
    bool ok = lib_check(bytes, "a context", &e);
    struct sallyport_context *x = ok ? lib_context(lib, LIB_IMPORTED, &e) : NULL;

    return lib_finish(x, lib, x && kctx_import(&x->message, lib_span(bytes), &e), &e, error);
}
