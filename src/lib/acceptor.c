/* SPDX-License-Identifier: MIT */
/* Making acceptors; the keys they use, and the memory of authenticators that goes with them. */
#include "lib/internal.h"

#define REPLAY_SLOTS 16384
#define REPLAY_SLOTS_MAX (1u << 24)
#define BUCKET 16 /* slots that are looked through for one authenticator */
#define SKEW_S 300
#define OPTIONS_ALL                                                                                          \
    (SALLYPORT_SPNEGO_ONLY | SALLYPORT_REQUIRE_BINDINGS | SALLYPORT_FINISHED_OPTIONAL |                      \
     SALLYPORT_ACCEPT_OLD_MIT | SALLYPORT_MIC_WHEN_SENT | SALLYPORT_KEEP_E_TEXT | SALLYPORT_REFUSE_OWN)

struct slot {
    uint8_t tag[16];
    int64_t until_s; /* 0: free */
};

/* ---- the keytab ---- */

struct sallyport_keytab {
    struct kctx_keys keys; /* first */
    struct replays {
        struct kctx_replays port; /* first */
        struct sallyport_keytab *kt;
    } replays;
    struct sallyport *lib;
    struct lib_block own, setup, memory;
    struct krb_keytab file;
    struct slot *slot;
    uint32_t slots;
    bool (*first_seen)(void *user, struct sallyport_bytes authenticator, int64_t now_s, int32_t keep_s);
    void *user;
};

struct kctx_keys *lib_keys(struct sallyport_keytab *kt)
{
    return &kt->keys;
}

struct kctx_replays *lib_replays(struct sallyport_keytab *kt)
{
    return &kt->replays.port;
}

/* How near an entry comes to what is asked for; the last is the key itself. */
enum near { NEAR_NOT, NEAR_NAME, NEAR_TYPE, NEAR_KEY };

static enum near how_near(const struct krb_keytab_entry *k, const struct krb_name *service,
                          struct sp_span realm, int32_t etype, uint32_t kvno)
{
    const struct crypto_type *t = crypto_find_type(k->etype);

    if (!krb_same_name(&k->name, service) || !sp_same(k->realm, realm))
        return NEAR_NOT;
    if (!t || k->etype != etype || k->key.n != t->key_n)
        return NEAR_NAME;
    /* Files without the 32-bit number have its last byte alone. */
    return kvno == 0 || k->kvno == kvno || (k->kvno < 256 && k->kvno == (kvno & 0xff)) ? NEAR_KEY : NEAR_TYPE;
}

static bool find(struct kctx_keys *keys, const struct krb_name *service, struct sp_span realm, int32_t etype,
                 uint32_t kvno, struct sp_key *out, struct sp_err *e)
{
    static const int32_t code[] = {
        [NEAR_NOT] = KRB_AP_ERR_NOT_US, [NEAR_NAME] = KRB_AP_ERR_NOKEY, [NEAR_TYPE] = KRB_AP_ERR_BADKEYVER};
    const struct sallyport_keytab *kt = (const struct sallyport_keytab *)keys;
    const struct krb_keytab_entry *best = NULL;
    enum near nearest = NEAR_NOT;

    for (uint32_t i = 0; i < kt->file.count; i++) {
        enum near n = how_near(&kt->file.v[i], service, realm, etype, kvno);

        if (n == NEAR_KEY && (!best || kt->file.v[i].kvno > best->kvno))
            best = &kt->file.v[i];
        nearest = n > nearest ? n : nearest;
    }
    if (!best)
        return sp_fail(e, SP_ENOTFOUND, code[nearest],
                       "the keytab has no key of type %d, version %u, for this service", etype, kvno);
    *out = (struct sp_key){.n = (uint8_t)best->key.n, .etype = etype, .keep = true};
    memcpy(out->b, best->key.p, best->key.n);
    return true;
}

/* ---- replays ---- */

/* Nothing is forgotten before its time: who can log in could otherwise push out what he wants to replay. */
static bool remember(struct sallyport_keytab *kt, const uint8_t tag[32], int64_t now_s, int64_t until_s,
                     struct sp_err *e)
{
    uint32_t at, mask = kt->slots - 1;
    struct slot *room = NULL;

    memcpy(&at, tag + 16, sizeof at);
    for (uint32_t i = 0; i < BUCKET; i++) {
        struct slot *s = &kt->slot[(at + i) & mask];

        if (s->until_s >= now_s && s->until_s != 0 && memcmp(s->tag, tag, sizeof s->tag) == 0)
            return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_REPEAT, "this authenticator was here before");
        if (!room && (s->until_s == 0 || s->until_s < now_s))
            room = s;
    }
    if (!room)
        return sp_fail(e, SP_EREFUSED, KCTX_UNAUTHORIZED, "the memory of authenticators is full");
    memcpy(room->tag, tag, sizeof room->tag);
    room->until_s = until_s;
    return true;
}

static bool note(struct kctx_replays *r, struct sp_span authenticator, int64_t now_s, int32_t skew_s,
                 struct sp_err *e)
{
    struct sallyport_keytab *kt = ((struct replays *)r)->kt;
    int32_t keep_s =
        skew_s > INT32_MAX / 2 ? INT32_MAX : 2 * skew_s; /* a fast clock's is good for twice the skew */
    uint8_t tag[32];

    if (kt->first_seen)
        return kt->first_seen(kt->user, lib_bytes(authenticator), now_s, keep_s) ||
               sp_fail(e, SP_EREFUSED, KRB_AP_ERR_REPEAT, "this authenticator was here before");
    return crypto_sha256(kt->lib->crypto, authenticator, tag, e) &&
           remember(kt, tag, now_s, now_s + keep_s, e);
}

/* ---- making it ---- */

struct reading {
    struct sallyport_keytab *kt;
    struct sallyport_bytes file;
};

static bool fill(struct sp_arena *mem, void *arg, struct sp_err *e)
{
    struct reading *r = arg;
    struct sp_span own = {0};

    return lib_dup(mem, r->file, &own, e) && krb_get_keytab(own, mem, &r->kt->file, e);
}

static bool take_memory(struct sallyport_keytab *kt, uint32_t slots, struct sp_err *e)
{
    if (kt->first_seen)
        return true;
    if (slots > REPLAY_SLOTS_MAX)
        return sp_fail(e, SP_EINPUT, 0, "more than %u slots", REPLAY_SLOTS_MAX);
    for (kt->slots = BUCKET; kt->slots < (slots ? slots : REPLAY_SLOTS);)
        kt->slots *= 2;
    if (!lib_take(kt->lib, kt->slots * sizeof *kt->slot, &kt->memory, e))
        return false;
    memset(kt->memory.p, 0, kt->memory.n);
    kt->slot = kt->memory.p;
    return true;
}

static struct sallyport_keytab *make(struct sallyport *lib, const struct sallyport_keytab_options *how,
                                     struct sp_err *e)
{
    struct sallyport_keytab *kt;
    struct reading r = {.file = how->keytab};
    struct lib_block own;

    if (!lib_take(lib, sizeof *kt, &own, e))
        return NULL;
    kt = r.kt = own.p;
    *kt = (struct sallyport_keytab){
        .keys = {find},
        .replays = { {note},  kt},
        .lib = lib,
        .own = own,
        .first_seen = how->first_seen,
        .user = how->user
    };
    if (lib_build(lib, 4096 + 8 * how->keytab.n, fill, &r, &kt->setup, e) &&
        take_memory(kt, how->replay_slots, e))
        return kt;
    sallyport_keytab_free(kt);
    return NULL;
}

struct sallyport_keytab *sallyport_keytab_new(struct sallyport *lib,
                                              const struct sallyport_keytab_options *options,
                                              struct sallyport_error *error)
{
    struct sallyport_keytab_options how;
    struct sp_err e = {0};
    struct sallyport_keytab *kt = LIB_READ(&how, options, &e) ? make(lib, &how, &e) : NULL;

    (void)lib_end(lib, kt != NULL, &e, error);
    return kt;
}

void sallyport_keytab_free(struct sallyport_keytab *kt)
{
    struct lib_block own;

    if (!kt)
        return;
    lib_drop_wiped(kt->lib, &kt->setup);
    lib_drop(kt->lib, &kt->memory);
    own = kt->own;
    lib_drop(kt->lib, &own);
}

/* ---- acceptors ---- */

/* Keys of one service alone. */
struct chosen {
    struct kctx_keys port; /* first */
    struct kctx_keys *all;
    struct krb_name service;
    struct sp_span realm;
};

static bool find_chosen(struct kctx_keys *keys, const struct krb_name *service, struct sp_span realm,
                        int32_t etype, uint32_t kvno, struct sp_key *out, struct sp_err *e)
{
    struct chosen *c = (struct chosen *)keys;

    if (!krb_same_name(service, &c->service) || (c->realm.n > 0 && !sp_same(realm, c->realm)))
        return sp_fail(e, SP_ENOTFOUND, KRB_AP_ERR_NOT_US, "a ticket for another service");
    return c->all->find(c->all, service, realm, etype, kvno, out, e);
}

struct making {
    struct sallyport_context *x;
    const struct sallyport_acceptor *how;
};

static bool set_realms(struct sp_arena *mem, const struct sallyport_acceptor *how, struct sec_acceptor *a,
                       struct sp_err *e)
{
    if (how->realm && !(a->realm.name = sp_dup(mem, sp_str(how->realm), e)).p)
        return false;
    if (how->realms_count > 1024 || (how->realms_count > 0 && !how->realms))
        return sp_fail(e, SP_EINPUT, 0, "%zu realms", how->realms_count);
    a->realms.v = sp_new_array(mem, struct sp_span, how->realms_count, e);
    for (size_t i = 0; a->realms.v && i < how->realms_count; i++)
        if (!(a->realms.v[a->realms.count++] = sp_dup(mem, sp_str(how->realms[i]), e)).p)
            return false;
    return a->realms.v != NULL;
}

static bool set_service(struct sp_arena *mem, const char *service, struct sec_acceptor *a, struct sp_err *e)
{
    struct chosen *c;

    if (!service)
        return true;
    c = sp_new(mem, struct chosen, e);
    if (!c || !lib_dup_name(mem, service, &c->service, &c->realm, e))
        return false;
    c->port.find = find_chosen;
    c->all = a->keys;
    a->keys = &c->port;
    return true;
}

static bool fill_acceptor(struct sp_arena *mem, void *arg, struct sp_err *e)
{
    struct making *m = arg;
    const struct sallyport_acceptor *how = m->how;
    struct sec_acceptor a = {
        .spnego_only = how->options & SALLYPORT_SPNEGO_ONLY,
        .require_bindings = how->options & SALLYPORT_REQUIRE_BINDINGS,
        .finished =
            how->options & SALLYPORT_FINISHED_OPTIONAL ? SEC_FINISHED_OPTIONAL : SEC_FINISHED_REQUIRED,
        .old_mit = how->options & SALLYPORT_ACCEPT_OLD_MIT ? SEC_OLD_MIT_ACCEPT : SEC_OLD_MIT_OFF,
        .list_mic = how->options & SALLYPORT_MIC_WHEN_SENT ? SEC_MIC_WHEN_SENT : SEC_MIC_STRICT,
        .own = how->options & SALLYPORT_REFUSE_OWN ? SEC_OWN_REFUSED : SEC_OWN_TAKEN,
        .e_text = how->options & SALLYPORT_KEEP_E_TEXT ? SEC_E_TEXT_KEEP : SEC_E_TEXT_DROP,
        .keys = lib_keys(how->keytab),
        .replays = lib_replays(how->keytab),
        .skew_s = how->skew_s ? how->skew_s : SKEW_S,
        .bindings = how->bindings ? m->x->bindings : NULL};

    if (!set_realms(mem, how, &a, e) || !set_service(mem, how->service, &a, e) ||
        (how->bindings && !lib_hash_bindings(m->x->lib, how->bindings, mem, m->x->bindings, &a.channel, e)))
        return false;
    m->x->acceptor = a;
    return true;
}

static bool check(const struct sallyport_acceptor *how, struct sp_err *e)
{
    if ((how->options & ~(uint32_t)OPTIONS_ALL) != 0)
        return sp_fail(e, SP_EINPUT, 0, "an option that this version does not know");
    if (!how->keytab || how->skew_s < 0)
        return sp_fail(e, SP_EINPUT, 0, "an acceptor needs a keytab, and a skew of 0 s or more");
    if ((how->options & SALLYPORT_REQUIRE_BINDINGS) && !how->bindings)
        return sp_fail(e, SP_EINPUT, 0, "bindings are required, and none are given to compare them with");
    return true;
}

static bool start(struct sallyport_context *x, struct sp_err *e)
{
    struct sp_arena mem;

    if (!lib_take(x->lib, SEC_ARENA_MIN, &x->room, e))
        return false;
    sp_arena_init(&mem, x->room.p, x->room.n);
    return sec_new_acceptor(&x->sec, x->lib->crypto, &x->acceptor, &mem, e);
}

struct sallyport_context *sallyport_acceptor_new(struct sallyport *lib,
                                                 const struct sallyport_acceptor *options,
                                                 struct sallyport_error *error)
{
    struct sallyport_acceptor how;
    struct sp_err e = {0};
    bool ok = LIB_READ(&how, options, &e) && check(&how, &e);
    struct sallyport_context *x = ok ? lib_context(lib, LIB_ACCEPTOR, &e) : NULL;
    struct making m = {x, &how};

    return lib_finish(x, lib, x && lib_build(lib, 4096, fill_acceptor, &m, &x->setup, &e) && start(x, &e), &e,
                      error);
}
