/* SPDX-License-Identifier: MIT */
/* What the files of the public library share. Its functions check and copy what a stranger passed in, call an
 * engine, and tell what came of it; they decide nothing about protocols. */
#ifndef SP_LIB_INTERNAL_H
#define SP_LIB_INTERNAL_H

#include "gss/sec.h"
#include "krb/keytab.h"
#include "sallyport/sallyport.h"

struct sallyport {
    struct sp_rng rng; /* first: the engines' door to the callback */
    bool starved;      /* the callback failed since this was last looked at */
    struct sallyport_options how;
    struct crypto *crypto;
};

/* Memory from the caller's allocator. */
struct lib_block {
    void *p;
    size_t n;
};
SP_MUST bool lib_take(struct sallyport *lib, size_t n, struct lib_block *out, struct sp_err *e);
void lib_drop(struct sallyport *lib, struct lib_block *b);       /* as it is */
void lib_drop_wiped(struct sallyport *lib, struct lib_block *b); /* every byte of it */

/* Runs fill in an arena that is made larger until it is enough; b holds it then. fill may run more than once.
 */
typedef bool lib_fill(struct sp_arena *mem, void *arg, struct sp_err *e);
SP_MUST bool lib_build(struct sallyport *lib, size_t first, lib_fill *fill, void *arg, struct lib_block *b,
                       struct sp_err *e);

/* A caller's struct as this version knows it: shorter ones end with zeros, longer ones have to. */
SP_MUST bool lib_read(void *to, size_t n, const void *from, struct sp_err *e);
#define LIB_READ(to, from, e) lib_read((to), sizeof *(to), (from), (e))
/* The other way: no more than the caller knows. `first` is the size that the first version had. */
bool lib_write(void *to, const void *from, size_t n);
#define LIB_WRITE(to, from) lib_write((to), (from), sizeof *(from))
/* Returns ok; tells the caller when it is false. Failed randomness makes a failure of everything. */
bool lib_end(struct sallyport *lib, bool ok, struct sp_err *e, struct sallyport_error *to);
/* A result into a caller's buffer. */
SP_MUST bool lib_give(struct sp_span s, void *out, size_t *n, struct sp_err *e);

static inline struct sp_span lib_span(struct sallyport_bytes b)
{
    return sp_span(b.p, b.n);
}
static inline struct sallyport_bytes lib_bytes(struct sp_span s)
{
    return (struct sallyport_bytes){s.p, s.n};
}
/* p and n fit together. */
SP_MUST bool lib_check(struct sallyport_bytes b, const char *what, struct sp_err *e);
/* message.c: signed or sealed. */
SP_MUST bool lib_check_how(int32_t how, enum kctx_wrap *out, struct sp_err *e);
SP_MUST bool lib_dup(struct sp_arena *mem, struct sallyport_bytes in, struct sp_span *out, struct sp_err *e);
SP_MUST bool lib_dup_name(struct sp_arena *mem, const char *text, struct krb_name *name,
                          struct sp_span *realm, struct sp_err *e);
/* channel: the bytes of the hash, which stay in mem; NULL: they are not wanted. */
SP_MUST bool lib_hash_bindings(struct sallyport *lib, const struct sallyport_bindings *in,
                               struct sp_arena *mem, uint8_t out[16], struct sp_span *channel,
                               struct sp_err *e);

/* ---- secrets.c: with what somebody logs in ---- */
struct lib_secrets {
    struct krb_name client;
    struct sp_span realm; /* of the client; n 0: unknown */
    struct sp_span password;
    struct sp_key *keys;
    uint32_t key_count;
    struct krb_ccache ccache;
    bool has_ccache, has_known;
    struct client_known known;
};
struct lib_secrets_in {
    const char *client;
    struct sallyport_bytes password, keytab, ccache, learnt;
};
SP_MUST bool lib_get_secrets(struct sp_arena *mem, const struct lib_secrets_in *in, struct lib_secrets *out,
                             struct sp_err *e);
/* The TGT of the client's own realm; NULL when there is none that lives. */
const struct krb_credential *lib_find_tgt(const struct lib_secrets *s, int64_t now_s);
SP_MUST bool lib_put_learnt(const struct client_known *k, void *out, size_t *n, struct sp_err *e);

/* ---- contexts ---- */
enum lib_role { LIB_INITIATOR, LIB_ACCEPTOR, LIB_LOGIN, LIB_IMPORTED };

struct sallyport_context {
    struct sallyport *lib;
    enum lib_role role;
    struct lib_block own, setup, room; /* this struct; what it was made of; the engine's */
    struct sec *sec;
    struct client *client; /* a login */
    struct sp_arena mem;   /* a login's, in room */
    struct kctx message;   /* imported, or does nothing */
    struct lib_secrets secrets;
    struct sec_initiator initiator; /* until the first event */
    struct sec_acceptor acceptor;
    struct client_wish wish; /* a login */
    struct client_policy policy;
    struct lib_block change; /* change.c; p NULL: no change of a password */
    struct krb_ccache forwarded;
    bool begun, failed, changed;
    uint8_t bindings[16];
    struct sp_key key;
    char name[KCTX_NAME_MAX]; /* a login's */
    struct sallyport_error why;
};
/* An empty one; NULL on failure. */
struct sallyport_context *lib_context(struct sallyport *lib, enum lib_role role, struct sp_err *e);
/* What a constructor gives back. */
struct sallyport_context *lib_finish(struct sallyport_context *x, struct sallyport *lib, bool ok,
                                     struct sp_err *e, struct sallyport_error *to);
/* The context that messages go through; one that refuses everything while there is none. */
struct kctx *lib_kctx(struct sallyport_context *x);
static inline struct sp_env lib_env(struct sallyport *lib, int64_t wall_us, int64_t mono_us)
{
    return (struct sp_env){wall_us, mono_us, &lib->rng};
}
/* initiator.c: the first event, which brings the time. */
SP_MUST bool lib_begin_initiator(struct sallyport_context *x, int64_t now_s, struct sp_err *e);
/* login.c */
SP_MUST bool lib_step_login(struct sallyport_context *x, const struct sallyport_event *ev,
                            struct sallyport_action *out, struct sp_err *e);
/* change.c: a login that goes on. */
SP_MUST bool lib_step_change(struct sallyport_context *x, const struct sallyport_event *ev,
                             struct sallyport_action *out, struct sp_err *e);
/* acceptor.c: ports that a keytab fulfils. */
struct kctx_keys *lib_keys(struct sallyport_keytab *kt);
struct kctx_replays *lib_replays(struct sallyport_keytab *kt);

#endif
