/* SPDX-License-Identifier: MIT */
/* The KDC for embedders: the engine over records that the caller keeps, or that lie in memory here. */
#include "kdc/kdc.h"
#include "krb/messages.h"
#include "lib/internal.h"

#define ALIGN 64
#define SCRAP (64 * 1024) /* for one account */

struct kept { /* a record in memory */
    struct kept *next;
    struct lib_block own;
    uint64_t id;
    size_t lookup_n, record_n;
    uint8_t bytes[]; /* look-up key, then record */
};

struct sallyport_kdc {
    struct store_lookup port; /* first */
    struct sallyport *lib;
    struct lib_block own, room, block;
    struct kdc_config cf;
    struct kdc k;
    struct kdc_actions out;
    struct sp_arena mem;
    uint8_t master[32];
    char realm[KRB_NAME_TEXT_MAX];
    int (*find)(void *user, const char *name, uint64_t id, struct sallyport_record *record);
    void *user;
    struct kept *kept, *decoy;
    uint64_t next_id;
};

/* ---- look-ups ---- */

static struct kept *find_kept(const struct sallyport_kdc *k, struct sp_span lookup, uint64_t id)
{
    for (struct kept *v = k->kept; v; v = v->next)
        if (lookup.p ? sp_same(sp_span(v->bytes, v->lookup_n), lookup) : v->id == id)
            return v;
    return NULL;
}

static int ask_caller(struct sallyport_kdc *k, struct sp_span lookup, uint64_t id,
                      struct sallyport_record *out)
{
    char name[KRB_NAME_TEXT_MAX + 1];

    if (!lookup.p)
        return k->find(k->user, NULL, id, out);
    if (lookup.n >= sizeof name)
        return 0;
    memcpy(name, lookup.p, lookup.n);
    name[lookup.n] = 0;
    return k->find(k->user, name, 0, out);
}

/* A name that is not there costs the reading of a record, too: nobody learns names with a stop-watch. */
static bool open_decoy(struct sallyport_kdc *k, struct sp_arena *mem, struct sp_err *e)
{
    struct kept *d = k->decoy;
    struct store_account a;

    if (d && !store_open_record(k->lib->crypto, k->master, d->id,
                                sp_span(d->bytes + d->lookup_n, d->record_n), mem, &a, e))
        return false;
    return sp_fail(e, SP_ENOTFOUND, 0, "no such account");
}

static bool look(struct sallyport_kdc *k, struct sp_span lookup, uint64_t id, struct sp_arena *mem,
                 struct store_account *out, struct sp_err *e)
{
    struct kept *v = k->find ? NULL : find_kept(k, lookup, id);
    struct sallyport_record r = {0};
    int found = v ? 1 : 0;

    if (v)
        r = (struct sallyport_record){
            v->id, {v->bytes + v->lookup_n, v->record_n}
        };
    else if (k->find)
        found = ask_caller(k, lookup, id, &r);
    if (found < 0)
        return sp_fail(e, SP_EBACKEND, 0, "the caller's look-up failed");
    if (found == 0)
        return open_decoy(k, mem, e);
    if (!store_open_record(k->lib->crypto, k->master, r.id, lib_span(r.bytes), mem, out, e))
        return false;
    for (uint32_t i = 0; i < out->key_count; i++)
        out->keys[i].key.keep = true;
    return (lookup.p ? sp_same(out->lookup, lookup) : out->id == id) ||
           sp_fail(e, SP_EBACKEND, 0, "the caller's record is another account's");
}

static bool find_name(struct store_lookup *s, struct sp_span lookup, struct sp_arena *mem,
                      struct store_account *out, struct sp_err *e)
{
    return look((struct sallyport_kdc *)s, lookup, 0, mem, out, e);
}

static bool find_id(struct store_lookup *s, uint64_t id, struct sp_arena *mem, struct store_account *out,
                    struct sp_err *e)
{
    return look((struct sallyport_kdc *)s, sp_span(NULL, 0), id, mem, out, e);
}

static uint64_t version(struct store_lookup *s)
{
    (void)s;
    return 0; /* nothing tells when the caller's records change */
}

/* ---- accounts ---- */

static enum store_kind kind_of(const struct sallyport_kdc *k, const struct krb_name *name, bool password)
{
    if (krb_is_tgs_name(name, k->cf.realm.name))
        return STORE_KRBTGT;
    return password ? STORE_USER : STORE_SERVICE;
}

static bool make_keys(struct sallyport_kdc *k, const struct sallyport_account *in,
                      const struct krb_name *name, struct sp_arena *mem, struct store_account *a,
                      struct sp_err *e)
{
    uint32_t kvno = in->kvno ? in->kvno : 1;

    a->keys = sp_new_array(mem, struct store_key, STORE_KEYS_MAX, e);
    if (!a->keys)
        return false;
    if (in->password.p)
        return kdc_make_keys(&k->cf, k->lib->crypto, name, sp_span(NULL, 0), lib_span(in->password), kvno,
                             mem, a->keys, &a->key_count, e);
    return kdc_make_random_keys(&k->cf, &k->lib->rng, kvno, NULL, 0, a->keys, &a->key_count, e);
}

static bool parse_local(struct sallyport_kdc *k, const char *text, struct sp_arena *mem,
                        struct krb_name *name, struct sp_span *lookup, struct sp_err *e)
{
    struct sp_span realm;

    if (!text)
        return sp_fail(e, SP_EINPUT, 0, "no name");
    if (!lib_dup_name(mem, text, name, &realm, e))
        return false;
    if (realm.p && !krb_is_realm(&k->cf.realm, realm))
        return sp_fail(e, SP_EINPUT, 0, "a name of another realm");
    return krb_name_key(name, &k->cf.realm, mem, lookup, e);
}

static uint32_t account_flags(uint32_t options)
{
    return (options & SALLYPORT_ACCOUNT_DISABLED ? STORE_DISABLED : 0) |
           (options & SALLYPORT_ACCOUNT_RENEWABLE ? STORE_ALLOW_RENEW : 0) |
           (options & SALLYPORT_ACCOUNT_FORWARDABLE ? STORE_ALLOW_FORWARD : 0);
}

struct sealed { /* in an arena */
    struct sp_span lookup, record;
};

static bool seal(struct sallyport_kdc *k, const struct sallyport_account *in, struct sp_arena *mem,
                 struct sealed *out, struct sp_err *e)
{
    uint8_t *p = sp_alloc(mem, STORE_RECORD_MAX, e);
    struct store_account a = {.id = in->id,
                              .generation = in->generation ? in->generation : 1,
                              .flags = account_flags(in->options),
                              .expires_s = in->expires_s};
    struct krb_name name;
    char text[KRB_NAME_TEXT_MAX + 1];
    struct sp_text t = sp_text(text, sizeof text);
    size_t n;

    if (in->options > 7 || a.id == 0)
        return sp_fail(e, SP_EINPUT, 0, "an account needs an id, and options that this version knows");
    if (!p || !lib_check(in->password, "a password", e) ||
        !parse_local(k, in->name, mem, &name, &a.lookup, e))
        return false;
    krb_text_name(&t, &name);
    a.name = sp_span(text, t.n);
    a.kind = kind_of(k, &name, in->password.p != NULL);
    if (!make_keys(k, in, &name, mem, &a, e) ||
        !store_seal(k->lib->crypto, k->master, &k->lib->rng, &a, p, STORE_RECORD_MAX, &n, e))
        return false;
    *out = (struct sealed){a.lookup, sp_span(p, n)};
    return !k->lib->starved;
}

static bool keep(struct sallyport_kdc *k, uint64_t id, const struct sealed *s, struct kept **list,
                 struct sp_err *e)
{
    struct lib_block own;
    struct kept *v;

    if (!lib_take(k->lib, sizeof *v + s->lookup.n + s->record.n, &own, e))
        return false;
    v = own.p;
    *v = (struct kept){.next = *list, .own = own, .id = id, .lookup_n = s->lookup.n, .record_n = s->record.n};
    memcpy(v->bytes, s->lookup.p, s->lookup.n);
    memcpy(v->bytes + s->lookup.n, s->record.p, s->record.n);
    *list = v;
    return true;
}

/* Works in an arena of its own, which held keys. */
struct scrap {
    struct lib_block b;
    struct sp_arena mem;
};

static bool open_scrap(struct sallyport_kdc *k, struct scrap *s, struct sp_err *e)
{
    if (!lib_take(k->lib, SCRAP, &s->b, e))
        return false;
    sp_arena_init(&s->mem, s->b.p, s->b.n);
    return true;
}

static bool add(struct sallyport_kdc *k, const struct sallyport_account *in, struct scrap *s,
                struct sp_err *e)
{
    struct sallyport_account a = *in;
    struct sealed made;

    if (k->find)
        return sp_fail(e, SP_EREFUSED, 0, "this KDC's accounts are the caller's");
    a.id = a.id ? a.id : k->next_id;
    if (!open_scrap(k, s, e) || !seal(k, &a, &s->mem, &made, e))
        return false;
    if (find_kept(k, made.lookup, 0) || find_kept(k, sp_span(NULL, 0), a.id))
        return sp_fail(e, SP_EEXIST, 0, "the name or the id is taken");
    if (!keep(k, a.id, &made, &k->kept, e))
        return false;
    k->next_id = a.id >= k->next_id ? a.id + 1 : k->next_id;
    return true;
}

bool sallyport_kdc_add(struct sallyport_kdc *k, const struct sallyport_account *account,
                       struct sallyport_error *error)
{
    struct sallyport_account in;
    struct scrap s = {0};
    struct sp_err e = {0};
    bool ok = LIB_READ(&in, account, &e) && add(k, &in, &s, &e);

    lib_drop_wiped(k->lib, &s.b);
    return lib_end(k->lib, ok, &e, error);
}

bool sallyport_kdc_make_record(struct sallyport_kdc *k, const struct sallyport_account *account, void *out,
                               size_t *n, struct sallyport_error *error)
{
    struct sallyport_account in;
    struct scrap s = {0};
    struct sealed made;
    struct sp_err e = {0};
    bool ok = LIB_READ(&in, account, &e) && open_scrap(k, &s, &e) && seal(k, &in, &s.mem, &made, &e) &&
              lib_give(made.record, out, n, &e);

    lib_drop_wiped(k->lib, &s.b);
    return lib_end(k->lib, ok, &e, error);
}

bool sallyport_kdc_lookup_name(struct sallyport_kdc *k, const char *name, char *out, size_t *n,
                               struct sallyport_error *error)
{
    struct krb_name parsed;
    struct sp_span lookup;
    struct scrap s = {0};
    struct sp_err e = {0};
    bool ok = open_scrap(k, &s, &e) && parse_local(k, name, &s.mem, &parsed, &lookup, &e);

    if (ok) {
        lookup = sp_format(&s.mem, &e, "%.*s", SP_FMT(lookup));
        ok = lookup.p && lib_give(sp_span(lookup.p, lookup.n + 1), out, n, &e);
    }
    lib_drop_wiped(k->lib, &s.b);
    return lib_end(k->lib, ok, &e, error);
}

/* ---- keytabs ---- */

static bool make_keytab(struct sallyport_kdc *k, const char *service, struct sp_arena *mem,
                        struct sp_span *out, struct sp_err *e)
{
    struct krb_keytab kt = {0};
    struct store_account a;
    struct krb_name name;
    struct sp_span lookup;
    size_t n, max = 16384;
    uint8_t *p = sp_alloc(mem, max, e);

    if (!p || !parse_local(k, service, mem, &name, &lookup, e) || !look(k, lookup, 0, mem, &a, e))
        return false;
    kt.v = sp_new_array(mem, struct krb_keytab_entry, a.key_count, e);
    if (!kt.v)
        return false;
    for (; kt.count < a.key_count; kt.count++) {
        const struct store_key *key = &a.keys[kt.count];

        kt.v[kt.count] = (struct krb_keytab_entry){.name = name,
                                                   .realm = k->cf.realm.name,
                                                   .kvno = key->kvno,
                                                   .etype = key->key.etype,
                                                   .key = sp_span(key->key.b, key->key.n)};
    }
    if (!krb_put_keytab(&kt, p, max, &n, e))
        return false;
    *out = sp_span(p, n);
    return true;
}

bool sallyport_kdc_keytab(struct sallyport_kdc *k, const char *service, void *out, size_t *n,
                          struct sallyport_error *error)
{
    struct sp_span made;
    struct scrap s = {0};
    struct sp_err e = {0};
    bool ok =
        open_scrap(k, &s, &e) && make_keytab(k, service, &s.mem, &made, &e) && lib_give(made, out, n, &e);

    lib_drop_wiped(k->lib, &s.b);
    return lib_end(k->lib, ok, &e, error);
}

/* ---- its life ---- */

static bool set_config(struct sallyport_kdc *k, const struct sallyport_kdc_options *how, struct sp_err *e)
{
    size_t n = how->realm ? strlen(how->realm) : 0;
    struct kdc_config *c = &k->cf;

    if (n == 0 || n >= sizeof k->realm || how->options > 15 || how->ticket_life_s < 0 ||
        how->service_life_s < 0 || how->renew_life_s < 0 || how->iterations > CRYPTO_S2K_ITER_MAX)
        return sp_fail(e, SP_EINPUT, 0,
                       "a KDC needs a realm, and options and numbers that this version knows");
    memcpy(k->realm, how->realm, n + 1);
    kdc_config_defaults(c, KDC_STANDARD);
    c->realm.name = sp_str(k->realm);
    c->timestamp = !(how->options & SALLYPORT_KDC_NO_TIMESTAMP);
    c->forwardable = how->options & SALLYPORT_KDC_FORWARDABLE;
    c->reveal_unknown = how->options & SALLYPORT_KDC_REVEAL_UNKNOWN;
    c->guess_limits = !(how->options & SALLYPORT_KDC_NO_GUESS_LIMITS);
    c->tgt_life_s = how->ticket_life_s ? how->ticket_life_s : c->tgt_life_s;
    c->service_life_s = how->service_life_s ? how->service_life_s : c->service_life_s;
    c->renew_life_s = how->renew_life_s;
    for (int i = 0; i < 4; i++)
        c->iterations[i] = how->iterations;
    return true;
}

/* One secret of the caller, two that have nothing to do with one another. */
static bool set_secrets(struct sallyport_kdc *k, const void *given, struct sp_err *e)
{
    uint8_t secret[32];
    bool ok;

    if (given)
        memcpy(secret, given, sizeof secret);
    else
        sp_rng_fill(&k->lib->rng, secret, sizeof secret);
    ok = crypto_hmac_sha256(k->lib->crypto, sp_span(secret, sizeof secret), SP_LIT("sallyport records"),
                            k->master, e) &&
         crypto_hmac_sha256(k->lib->crypto, sp_span(secret, sizeof secret), SP_LIT("sallyport names"),
                            k->cf.name_secret, e);
    sp_wipe(secret, sizeof secret);
    if (ok)
        crypto_keep_seal(k->lib->crypto, k->master);
    return ok;
}

static bool take_shared(struct sallyport_kdc *k, struct sp_err *e)
{
    struct kdc_shared_size size = {4096, 4096, 64};
    size_t n = kdc_shared_bytes(size);
    uint8_t secret[16], *p;

    if (!lib_take(k->lib, KDC_ARENA_MIN, &k->room, e) || !lib_take(k->lib, n + ALIGN, &k->block, e))
        return false;
    sp_arena_init(&k->mem, k->room.p, k->room.n);
    p = k->block.p;
    p += (ALIGN - (uintptr_t)p % ALIGN) % ALIGN;
    memset(p, 0, n);
    sp_rng_fill(&k->lib->rng, secret, sizeof secret);
    k->k.shared = kdc_shared_init(p, size, secret);
    sp_wipe(secret, sizeof secret);
    return true;
}

/* The decoy is of the form that accounts have; without a caller's records there is krbtgt to be made. */
static bool make_own(struct sallyport_kdc *k, struct sp_err *e)
{
    char name[sizeof k->realm + 8];
    struct sp_text t = sp_text(name, sizeof name);
    struct sallyport_account decoy = {.id = 1, .name = "decoy"}, tgs = {.name = name};
    struct scrap s = {0};
    struct sealed made;
    bool ok;

    sp_text_fmt(&t, "krbtgt/%s", k->realm);
    ok = open_scrap(k, &s, e) && seal(k, &decoy, &s.mem, &made, e) && keep(k, decoy.id, &made, &k->decoy, e);
    lib_drop_wiped(k->lib, &s.b);
    ok = ok && (k->find || add(k, &tgs, &s, e));
    lib_drop_wiped(k->lib, &s.b);
    return ok;
}

static struct sallyport_kdc *make(struct sallyport *lib, const struct sallyport_kdc_options *how,
                                  struct sp_err *e)
{
    struct sallyport_kdc *k;
    struct lib_block own;

    if (!lib_take(lib, sizeof *k, &own, e))
        return NULL;
    k = own.p;
    memset(k, 0, sizeof *k);
    k->lib = lib;
    k->own = own;
    k->port = (struct store_lookup){find_name, find_id, version};
    k->find = how->find;
    k->user = how->user;
    k->next_id = 1;
    k->k.config = &k->cf;
    k->k.accounts = &k->port;
    k->k.crypto = lib->crypto;
    if (set_config(k, how, e) && set_secrets(k, how->secret, e) && take_shared(k, e) && make_own(k, e) &&
        !lib->starved)
        return k;
    sallyport_kdc_free(k);
    return NULL;
}

struct sallyport_kdc *sallyport_kdc_new(struct sallyport *lib, const struct sallyport_kdc_options *options,
                                        struct sallyport_error *error)
{
    struct sallyport_kdc_options how;
    struct sp_err e = {0};
    struct sallyport_kdc *k = LIB_READ(&how, options, &e) ? make(lib, &how, &e) : NULL;

    (void)lib_end(lib, k != NULL, &e, error);
    return k;
}

static void drop_list(struct sallyport *lib, struct kept *v)
{
    while (v) {
        struct kept *next = v->next;
        struct lib_block own = v->own;

        lib_drop(lib, &own); /* sealed */
        v = next;
    }
}

void sallyport_kdc_free(struct sallyport_kdc *k)
{
    struct sallyport *lib;
    struct lib_block own;

    if (!k)
        return;
    lib = k->lib;
    kdc_forget_own(&k->k);
    crypto_keep_seal(lib->crypto, NULL);
    if (k->room.p)
        sp_arena_reset(&k->mem);
    lib_drop(lib, &k->room);
    lib_drop(lib, &k->block);
    drop_list(lib, k->kept);
    drop_list(lib, k->decoy);
    own = k->own;
    lib_drop_wiped(lib, &own);
}

/* ---- requests ---- */

static bool set_request(const struct sallyport_request *in, struct kdc_request *q, struct sp_err *e)
{
    struct sp_text t;

    if (!lib_check(in->bytes, "a request", e) || !lib_check(in->source, "a source", e))
        return false;
    if (in->source.n >= sizeof q->source.id)
        return sp_fail(e, SP_EINPUT, 0, "a source of %zu bytes", in->source.n);
    *q = (struct kdc_request){.bytes = lib_span(in->bytes), .door = in->datagram ? KDC_UDP : KDC_TCP};
    q->source.loopback = in->local;
    q->source.id[0] = (uint8_t)in->source.n;
    if (in->source.n > 0)
        memcpy(q->source.id + 1, in->source.p, in->source.n);
    t = sp_text(q->source.text, sizeof q->source.text);
    sp_text_hex(&t, lib_span(in->source));
    return true;
}

static void set_answer(const struct kdc_actions *a, struct sallyport_answer *out)
{
    const struct kdc_record *r = &a->record;

    *out = (struct sallyport_answer){.reply = lib_bytes(a->reply),
                                     .code = r->code,
                                     .inner_code = r->inner_code,
                                     .client = lib_bytes(r->client),
                                     .service = lib_bytes(r->service),
                                     .event = r->event,
                                     .preauth = r->preauth ? r->preauth : "none",
                                     .text = r->text,
                                     .account_id = r->account_id};
}

static bool step(struct sallyport_kdc *k, const struct sallyport_request *in, struct sallyport_answer *out,
                 struct sp_err *e)
{
    struct kdc_request q;

    if (!set_request(in, &q, e))
        return false;
    sp_arena_reset(&k->mem);
    kdc_step(&k->k, lib_env(k->lib, in->wall_us, in->mono_us), &q, &k->mem, &k->out);
    set_answer(&k->out, out);
    return true;
}

bool sallyport_kdc_step(struct sallyport_kdc *k, const struct sallyport_request *request,
                        struct sallyport_answer *answer, struct sallyport_error *error)
{
    struct sallyport_request in;
    struct sallyport_answer out;
    struct sp_err e = {0};
    bool ok = (answer && answer->size > sizeof answer->size) ||
              sp_fail(&e, SP_EINPUT, 0, "a struct whose size is not set");

    ok = ok && LIB_READ(&in, request, &e) && step(k, &in, &out, &e) && !k->lib->starved;
    if (ok)
        (void)LIB_WRITE(answer, &out);
    return lib_end(k->lib, ok, &e, error);
}
