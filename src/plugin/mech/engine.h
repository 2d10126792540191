/* SPDX-License-Identifier: MIT */
/* What the engine object's files share. Behind libgssapi's handles stand mech_name, mech_cred and mech_ctx.
 */
#ifndef SP_PLUGIN_MECH_ENGINE_H
#define SP_PLUGIN_MECH_ENGINE_H

#include "gss/sec.h"
#include "host/ask.h"
#include "host/env.h"
#include "host/rcache.h"
#include "krb/name.h"
#include "plugin/mech/entries.h"

#include <gssapi/gssapi_krb5.h>
#include <krb5.h>
#include <stdatomic.h>

#define MECH_PROTOTYPE(name, parameters, arguments) OM_uint32 mech_##name parameters;
MECH_ENTRIES(MECH_PROTOTYPE)

extern gss_OID_desc mech_oid_iakerb;

/* ---- failures: a major status, a minor code of our own, and a text that this thread can ask for ---- */
OM_uint32 mech_fail(OM_uint32 *minor, const struct sp_err *e); /* a major status that fits e */
OM_uint32 mech_fail_as(OM_uint32 *minor, OM_uint32 major, const struct sp_err *e); /* this one */
OM_uint32 mech_fail_text(OM_uint32 *minor, OM_uint32 major, const char *text);

/* ---- bytes that the caller frees ---- */
SP_MUST bool mech_give(gss_buffer_t out, struct sp_span bytes, struct sp_err *e);
static inline struct sp_span mech_span(const gss_buffer_desc *b)
{
    return b ? sp_span(b->value, b->length) : sp_span(NULL, 0);
}
bool mech_same_oid(gss_const_OID a, gss_const_OID b);
/* One member, or all of them; NULL mechs means the default, which we belong to. */
bool mech_among(gss_OID_set mechs);
SP_MUST bool mech_give_set(gss_OID_set *out, const gss_const_OID *v, size_t count, struct sp_err *e);

/* ---- the world ---- */
/* host_env, with random bytes drawn by the page. */
struct sp_env mech_env(void);
/* Crypto backends are kept for the next context: making one costs more than an AP exchange. */
struct crypto *mech_take_crypto(struct sp_err *e);
void mech_give_crypto(struct crypto *c);
/* So is the memory of contexts. touched: how many bytes of it were used; they have been wiped. */
#define MECH_BLOCK_N (512 * 1024 + SEC_ARENA_MIN + 320 * 1024)
void *mech_take_block(struct sp_err *e);
void mech_give_block(void *block, size_t touched);

/* ---- names ---- */
#define MECH_NAME_MAX 4096 /* bytes of a name that is imported */
struct mech_name {
    struct krb_name name;
    struct sp_span realm; /* empty: none was given */
    bool host_based;      /* service@host: not canonicalised, no look-up */
};
/* A copy in one piece of memory; free() ends it. NULL when memory ran out. */
struct mech_name *mech_make_name(const struct krb_name *name, struct sp_span realm, struct sp_err *e);
struct mech_name *mech_parse_name(struct sp_span text, struct sp_err *e);
void mech_text_name(struct sp_text *to, const struct mech_name *n);

/* ---- libkrb5: configuration, caches, keytabs, local names (lib.c) ---- */
#define LIB_TICKETS_MAX 256 /* of one cache; more are not looked at */
struct lib {
    krb5_context k;
};
SP_MUST bool lib_open(struct lib *l, struct sp_err *e);
void lib_close(struct lib *l);
bool lib_fail(struct lib *l, krb5_error_code code, const char *what, struct sp_err *e);
/* Free with krb5_free_principal. A name without realm gets the default realm when there is one, else the
 * referral realm. */
SP_MUST bool lib_principal(struct lib *l, const struct krb_name *name, struct sp_span realm,
                           krb5_principal *out, struct sp_err *e);
/* All usable tickets of a cache, in mem. */
SP_MUST bool lib_read_ccache(struct lib *l, const char *ccache, struct sp_arena *mem, struct krb_ccache *out,
                             struct sp_err *e);
SP_MUST bool lib_store_ticket(struct lib *l, const char *ccache, const struct krb_credential *c,
                              struct sp_err *e);
/* The default cache and keytab: full names, to be freed. NULL: none. */
char *lib_default_ccache(struct lib *l);
char *lib_default_keytab(struct lib *l);
/* Keys of a principal in a keytab, newest kvno alone. */
SP_MUST bool lib_read_keys(struct lib *l, const char *keytab, const struct krb_name *name,
                           struct sp_span realm, struct sp_arena *mem, struct sp_key **keys, uint32_t *count,
                           struct sp_err *e);
/* The first principal of a keytab, in mem. */
SP_MUST bool lib_first_principal(struct lib *l, const char *keytab, struct sp_arena *mem,
                                 struct krb_name *name, struct sp_span *realm, struct sp_err *e);
/* The realm that [domain_realm] gives a host, empty when it says nothing; to be freed. NULL: memory ran out.
 */
char *lib_host_realm(struct lib *l, const char *host);
struct sp_span lib_default_realm(struct lib *l, struct sp_arena *mem);

/* ---- what is read from files, and kept while they are the same (tickets.c, keys.c, facts.c) ---- */
struct mech_tickets;
SP_MUST bool mech_get_tickets(struct lib *l, const char *ccache, struct mech_tickets **out, struct sp_err *e);
const struct krb_ccache *mech_cache_of(const struct mech_tickets *t); /* lives as long as t */
void mech_drop_tickets(struct mech_tickets *t);

struct mech_key_wish {
    const struct krb_name *service;
    struct sp_span realm;
    int32_t etype;
    uint32_t kvno;
};
/* An acceptor's key; proto says what is lacking. */
SP_MUST bool mech_get_key(struct lib *l, const char *keytab, const struct mech_key_wish *w,
                          struct sp_key *out, struct sp_err *e);
/* KCTX_NO_CRED for a keytab without any. */
SP_MUST bool mech_has_keys(struct lib *l, const char *keytab, struct sp_err *e);

/* The realm that [domain_realm] gives a host, in mem; empty when it says nothing. */
struct sp_span mech_host_realm(struct lib *l, struct sp_span host, struct sp_arena *mem);
/* Full names, to be freed; NULL: none. */
char *mech_default_ccache(struct lib *l);
char *mech_default_keytab(struct lib *l);

/* ---- credentials; immutable once acquired, counted, so that a context may keep the one it began with ----
 */
enum mech_source { MECH_NOTHING, MECH_CCACHE, MECH_PASSWORD, MECH_KEYTAB };
struct mech_cred {
    atomic_uint users;
    gss_cred_usage_t usage;
    enum mech_source source; /* of an initiator */
    struct mech_name *name;  /* the client, or the acceptor's service; NULL: any service of the keytab */
    char *ccache;            /* full name; also where tickets go */
    char *client_keytab;
    uint8_t *password; /* wiped */
    size_t password_n;
    char *keytab;        /* of an acceptor */
    char *rcache;        /* NULL: the default */
    int64_t endtime_s;   /* of the tickets that were there; 0: unknown */
    bool ccache_is_ours; /* a delegated one, in memory: destroyed with the credential */
};
SP_MUST bool mech_acquire(struct mech_cred **out, const struct mech_name *name, gss_cred_usage_t usage,
                          gss_const_key_value_set_t store, struct sp_err *e);
struct mech_cred *mech_share_cred(struct mech_cred *c);
void mech_drop_cred(struct mech_cred *c);
/* A credential around a ticket that was delegated to us. */
SP_MUST bool mech_wrap_delegated(struct mech_cred **out, const struct krb_credential *ticket,
                                 struct sp_err *e);

/* ---- what an acceptor needs: keys and replay cache as ports (acceptor.c) ---- */
struct mech_ports {
    struct kctx_keys keys;
    struct kctx_replays replays;
    struct lib lib;
    const struct mech_cred *cred;
};
void mech_open_ports(struct mech_ports *p, const struct mech_cred *cred);
void mech_close_ports(struct mech_ports *p);

/* ---- contexts; the glue sees to it that only one thread is in one ---- */
struct mech_ctx {
    enum sec_role role;
    void *block;                             /* of the three arenas; pages that are not used cost nothing */
    struct sp_arena mem, sec_mem, carry_mem; /* what `sec` borrows; its own; one answer of the courier */
    struct crypto *crypto;
    struct sec *sec;
    struct kctx *k; /* NULL until established */
    struct mech_cred *cred;
    struct mech_tickets *tickets; /* of an initiator's cache; `sec` borrows them */
    struct mech_name *target;
    uint32_t flags; /* wanted */
    struct mech_ports ports;
    struct host_courier courier;
    uint8_t bindings[16];
};
/* The established context behind a handle; else NULL and SP_EREFUSED with KCTX_NO_CONTEXT. */
struct kctx *mech_established(gss_ctx_id_t handle, struct sp_err *e);
struct mech_ctx *mech_new_ctx(enum sec_role role, struct sp_err *e);
void mech_free_ctx(struct mech_ctx *x);
/* out: 16 bytes in the context, or NULL when there are none to bind. */
/* channel NULL: only the hash is wanted. */
SP_MUST bool mech_bind(struct mech_ctx *x, gss_channel_bindings_t b, const uint8_t **out,
                       struct sp_span *channel, struct sp_err *e);
OM_uint32 mech_life(const struct mech_ctx *x);
uint32_t mech_flags(const struct mech_ctx *x);
SP_MUST bool mech_give_principal(const char *text, gss_name_t *out, struct sp_err *e);

/* ---- what an acceptor knows of its own host (local.c): from the daemon, remembered for a few seconds; where
 * none answers the strict defaults. In mem. ---- */
SP_MUST bool mech_find_local(struct host_courier *h, struct sp_arena *mem, struct host_realm *out,
                             struct sp_err *e);
/* SEC_CARRY's answer; waits at most 5 s and holds no lock. */
void mech_carry(struct mech_ctx *x, const struct sec_action *a, struct sec_event *ev);
/* The acceptor's end, for the daemon's records; why: NULL when it is established. */
void mech_note(struct mech_ctx *x, const struct sp_err *why);

/* ---- memory of failures that another try would only repeat (failures.c) ---- */
bool mech_failed_lately(const struct mech_cred *cred, const struct mech_name *target, struct sp_err *e);
void mech_note_failure(const struct mech_cred *cred, const struct mech_name *target,
                       const struct sp_err *why);
void mech_note_success(const struct mech_cred *cred, const struct mech_name *target);

#endif
