/* SPDX-License-Identifier: MIT */
/* The library's handle, and the manners that all of its functions have in common. */
#include "lib/internal.h"

#include <stdlib.h>

#define ROOM_MAX ((size_t)64 << 20) /* bytes that reading a caller's files may need */

const char *sallyport_version(void)
{
    return SALLYPORT_VERSION;
}

const char *sallyport_kind_name(int32_t kind)
{
    return kind >= SP_OK && kind <= SP_EBUG ? sp_kind_name((enum sp_kind)kind) : "?";
}

/* ---- memory ---- */

bool lib_take(struct sallyport *lib, size_t n, struct lib_block *out, struct sp_err *e)
{
    void *p = lib->how.allocate ? lib->how.allocate(lib->how.user, n) : malloc(n);

    *out = (struct lib_block){p, p ? n : 0};
    return p || sp_fail(e, SP_ENOMEM, 0, "no memory for %zu bytes", n);
}

static void release(const struct sallyport_options *how, void *p)
{
    if (how->release)
        how->release(how->user, p);
    else
        free(p);
}

void lib_drop(struct sallyport *lib, struct lib_block *b)
{
    if (b->p)
        release(&lib->how, b->p);
    *b = (struct lib_block){0};
}

void lib_drop_wiped(struct sallyport *lib, struct lib_block *b)
{
    sp_wipe(b->p, b->n);
    lib_drop(lib, b);
}

bool lib_build(struct sallyport *lib, size_t first, lib_fill *fill, void *arg, struct lib_block *b,
               struct sp_err *e)
{
    for (size_t n = first;; n *= 2) {
        struct sp_err why = {0};
        struct sp_arena mem;

        if (!lib_take(lib, n, b, e))
            return false;
        sp_arena_init(&mem, b->p, n);
        if (fill(&mem, arg, &why))
            return true;
        lib_drop_wiped(lib, b);
        if (why.kind != SP_ENOMEM || n > ROOM_MAX / 2) {
            *e = why;
            return false;
        }
    }
}

/* ---- structs, bytes, errors ---- */

static bool is_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0)
            return false;
    return true;
}

bool lib_read(void *to, size_t n, const void *from, struct sp_err *e)
{
    size_t size;

    if (!from)
        return sp_fail(e, SP_EINPUT, 0, "a struct is needed, and NULL was passed");
    memcpy(&size, from, sizeof size);
    if (size < sizeof size)
        return sp_fail(e, SP_EINPUT, 0, "a struct whose size is not set");
    if (size > n && !is_zero((const uint8_t *)from + n, size - n))
        return sp_fail(e, SP_EINPUT, 0, "a struct with members that came after this version");
    memset(to, 0, n);
    memcpy(to, from, size < n ? size : n);
    return true;
}

bool lib_write(void *to, const void *from, size_t n)
{
    size_t size = 0;

    if (to)
        memcpy(&size, to, sizeof size);
    if (size <= sizeof size)
        return false;
    n = size < n ? size : n;
    memcpy((uint8_t *)to + sizeof size, (const uint8_t *)from + sizeof size, n - sizeof size);
    return true;
}

bool lib_end(struct sallyport *lib, bool ok, struct sp_err *e, struct sallyport_error *to)
{
    struct sallyport_error out;

    if (lib && lib->starved) {
        lib->starved = false;
        *e = (struct sp_err){0};
        ok = sp_fail(e, SP_EBACKEND, 0, "the random callback failed");
    }
    if (ok || !to)
        return ok;
    out = (struct sallyport_error){.kind = (int32_t)e->kind, .code = e->proto, .offset = e->at};
    memcpy(out.text, e->text, sizeof out.text);
    (void)LIB_WRITE(to, &out);
    return false;
}

bool lib_give(struct sp_span s, void *out, size_t *n, struct sp_err *e)
{
    size_t room = *n;

    *n = s.n;
    if (room < s.n)
        return sp_fail(e, SP_EFULL, 0, "room for %zu bytes, %zu are needed", room, s.n);
    if (s.n > 0)
        memcpy(out, s.p, s.n);
    return true;
}

bool lib_check(struct sallyport_bytes b, const char *what, struct sp_err *e)
{
    return b.p || b.n == 0 || sp_fail(e, SP_EINPUT, 0, "%s of %zu bytes at NULL", what, b.n);
}

bool lib_dup(struct sp_arena *mem, struct sallyport_bytes in, struct sp_span *out, struct sp_err *e)
{
    if (!in.p)
        return lib_check(in, "bytes", e);
    return (*out = sp_dup(mem, lib_span(in), e)).p != NULL;
}

bool lib_dup_name(struct sp_arena *mem, const char *text, struct krb_name *name, struct sp_span *realm,
                  struct sp_err *e)
{
    struct sp_span own = sp_dup(mem, sp_str(text), e);

    return own.p && krb_parse_name(own, mem, name, realm, e);
}

bool lib_hash_bindings(struct sallyport *lib, const struct sallyport_bindings *in, struct sp_arena *mem,
                       uint8_t out[16], struct sp_span *channel, struct sp_err *e)
{
    struct sallyport_bindings b;
    struct kctx_bindings k;

    if (!LIB_READ(&b, in, e) || !lib_check(b.initiator, "an address", e) ||
        !lib_check(b.acceptor, "an address", e) || !lib_check(b.application, "channel bindings", e))
        return false;
    k = (struct kctx_bindings){b.initiator_type, b.acceptor_type, lib_span(b.initiator), lib_span(b.acceptor),
                               lib_span(b.application)};
    return kctx_hash_bindings(lib->crypto, &k, mem, out, e) &&
           (!channel || kctx_put_bindings(&k, mem, channel, e));
}

/* ---- the handle ---- */

/* Engines cannot be told that there is no chance to be had; whoever called them looks at `starved`. */
static void fill(struct sp_rng *rng, void *p, size_t n)
{
    struct sallyport *lib = (struct sallyport *)rng;

    if (n == 0 || lib->how.random(lib->how.user, p, n))
        return;
    lib->starved = true;
    memset(p, 0, n);
}

static struct sallyport *make(const struct sallyport_options *how, struct sp_err *e)
{
    struct sallyport bare = {.how = *how}, *lib;
    struct lib_block b;

    if (!how->random || !how->allocate != !how->release) {
        (void)sp_fail(e, SP_EINPUT, 0,
                      "a random callback is needed, and both callbacks for memory or neither");
        return NULL;
    }
    if (!lib_take(&bare, sizeof *lib, &b, e))
        return NULL;
    lib = b.p;
    *lib = bare;
    lib->rng.fill = fill;
    lib->crypto = crypto_new(e);
    if (lib->crypto)
        return lib;
    lib_drop(&bare, &b);
    return NULL;
}

struct sallyport *sallyport_new(const struct sallyport_options *options, struct sallyport_error *error)
{
    struct sallyport_options how;
    struct sp_err e = {0};
    struct sallyport *lib = LIB_READ(&how, options, &e) ? make(&how, &e) : NULL;

    (void)lib_end(NULL, lib != NULL, &e, error);
    return lib;
}

void sallyport_free(struct sallyport *lib)
{
    struct sallyport_options how;

    if (!lib)
        return;
    how = lib->how;
    crypto_free(lib->crypto);
    release(&how, lib);
}

/* ---- keys ---- */

bool sallyport_string_to_key(struct sallyport *lib, const struct sallyport_recipe *recipe, void *out,
                             size_t *n, struct sallyport_error *error)
{
    struct sallyport_recipe r;
    struct sp_err e = {0};
    struct sp_key key = {0};
    bool ok = LIB_READ(&r, recipe, &e) && lib_check(r.password, "a password", &e) &&
              lib_check(r.salt, "a salt", &e);

    if (ok) {
        uint32_t it = r.iterations;
        uint8_t be[4] = {(uint8_t)(it >> 24), (uint8_t)(it >> 16), (uint8_t)(it >> 8), (uint8_t)it};

        ok = crypto_string_to_key(lib->crypto, r.type, lib_span(r.password), lib_span(r.salt),
                                  sp_span(be, it ? 4 : 0), &key, &e) &&
             lib_give(sp_span(key.b, key.n), out, n, &e);
    }
    sp_wipe(&key, sizeof key);
    return lib_end(lib, ok, &e, error);
}
