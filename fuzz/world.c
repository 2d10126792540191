/* SPDX-License-Identifier: MIT */
#include "world.h"

#include "requests.h"

#include <stdio.h>
#include <stdlib.h>

enum { ACCOUNTS = FUZZ_USERS + FUZZ_SERVICES + 2, KEYS = 8, SHARED = 8 << 20 };

static struct {
    struct fuzz_world w;
    struct kdc_config config;
    struct store_lookup port;
    struct store_account account[ACCOUNTS];
    struct store_key key[ACCOUNTS][KEYS];
    char name[ACCOUNTS][2 * BENCH_NAME_MAX];
    uint32_t count;
    struct sp_rng_fixed rng;
    struct sp_span alias;
} W;
static uint8_t arena[FUZZ_ARENA];
static _Alignas(64) uint8_t shared[SHARED];

void fuzz_must(bool ok, const char *property)
{
    if (ok)
        return;
    fprintf(stderr, "property does not hold: %s\n", property);
    abort();
}

uint8_t *fuzz_copy(const uint8_t *p, size_t n)
{
    uint8_t *copy = malloc(n);

    fuzz_must(copy || n == 0, "there is memory");
    if (n > 0)
        memcpy(copy, p, n);
    return copy;
}

static bool is_named(const struct store_account *a, struct sp_span lookup)
{
    for (uint32_t i = 0; i < a->alias_lookups.count; i++)
        if (sp_same(a->alias_lookups.v[i], lookup))
            return true;
    return sp_same(a->lookup, lookup);
}

static bool find(struct store_lookup *s, struct sp_span lookup, struct sp_arena *mem,
                 struct store_account *out, struct sp_err *e)
{
    (void)s;
    (void)mem;
    for (uint32_t i = 0; i < W.count; i++)
        if (is_named(&W.account[i], lookup)) {
            *out = W.account[i];
            return true;
        }
    return sp_fail(e, SP_ENOTFOUND, 0, "no such account");
}

static bool find_id(struct store_lookup *s, uint64_t id, struct sp_arena *mem, struct store_account *out,
                    struct sp_err *e)
{
    (void)s;
    (void)mem;
    if (id == 0 || id > W.count)
        return sp_fail(e, SP_ENOTFOUND, 0, "no such account");
    *out = W.account[id - 1];
    return true;
}

static uint64_t version(struct store_lookup *s)
{
    (void)s;
    return 1;
}

static void add_key(struct store_account *a, enum bench_owner owner, uint32_t i, int32_t etype, uint32_t kvno)
{
    struct store_key *k = &a->keys[a->key_count++];
    struct sp_err e = {0};

    *k = (struct store_key){.kvno = kvno};
    fuzz_must(bench_key(W.w.kdc.crypto, owner, i, etype, &k->key, &e), "there is a key for every type");
    if (owner == BENCH_USER)
        k->salt = SP_LIT("salt");
}

static struct store_account *add(enum store_kind kind, const char *name)
{
    uint32_t at = W.count++;
    struct store_account *a = &W.account[at];

    snprintf(W.name[at], sizeof W.name[at], "%s", name);
    *a = (struct store_account){
        .id = at + 1, .generation = 1, .kind = kind, .keys = W.key[at], .created_s = 1, .changed_s = 1};
    a->name = a->lookup = sp_str(W.name[at]);
    return a;
}

static void shape_user(struct store_account *a, uint32_t i)
{
    switch ((enum fuzz_user)i) {
    case FUZZ_PLAIN:
        W.alias = SP_LIT("alias");
        a->aliases = a->alias_lookups = (struct sp_spans){&W.alias, 1};
        break;
    case FUZZ_DISABLED:
        a->flags = STORE_DISABLED;
        break;
    case FUZZ_MUST_CHANGE:
        a->flags = STORE_MUST_CHANGE;
        break;
    case FUZZ_EXPIRED:
        a->expires_s = FUZZ_NOW_S - 1;
        break;
    case FUZZ_PASSWORD_EXPIRED:
        a->password_expires_s = FUZZ_NOW_S - 1;
        break;
    case FUZZ_ADMIN:
        a->flags = STORE_ADMIN;
        break;
    case FUZZ_RENEWING:
        a->flags = STORE_ALLOW_RENEW | STORE_ALLOW_FORWARD;
        break;
    case FUZZ_SHA2:
    case FUZZ_TWO_KVNOS:
        break;
    }
}

static void add_users(void)
{
    for (uint32_t i = 1; i <= FUZZ_USERS; i++) {
        char name[BENCH_NAME_MAX];
        struct store_account *a;

        bench_user_name(i, name);
        a = add(STORE_USER, name);
        shape_user(a, i);
        add_key(a, BENCH_USER, i, i == FUZZ_SHA2 ? 20 : 18, i == FUZZ_TWO_KVNOS ? 2 : 1);
        add_key(a, BENCH_USER, i, i == FUZZ_SHA2 ? 19 : 17, i == FUZZ_TWO_KVNOS ? 2 : 1);
        if (i == FUZZ_TWO_KVNOS)
            add_key(a, BENCH_USER, i, 18, 1);
    }
}

static void add_services(void)
{
    char name[2 * BENCH_NAME_MAX], part[BENCH_NAME_MAX];

    for (uint32_t i = 1; i <= FUZZ_SERVICES; i++) {
        struct store_account *a;

        bench_service_instance(i, part);
        snprintf(name, sizeof name, BENCH_SERVICE "/%s", part);
        a = add(STORE_SERVICE, name);
        a->flags = i == 3 ? STORE_DISABLED : 0;
        if (i != 2)
            add_key(a, BENCH_SERVER, i, 18, 1);
        add_key(a, BENCH_SERVER, i, 17, 1);
    }
}

static void add_realm_accounts(void)
{
    struct store_account *krbtgt = add(STORE_KRBTGT, "krbtgt/bench.test");
    struct store_account *changepw = add(STORE_CHANGEPW, "kadmin/changepw");

    add_key(krbtgt, BENCH_SERVER, 900, 18, 2);
    add_key(krbtgt, BENCH_SERVER, 900, 17, 2);
    add_key(krbtgt, BENCH_SERVER, 901, 18, 1);
    add_key(changepw, BENCH_SERVER, 902, 18, 1);
    add_key(changepw, BENCH_SERVER, 902, 17, 1);
}

static void fill(void)
{
    struct sp_err e = {0};

    W.w.kdc.crypto = crypto_new(&e);
    kdc_config_defaults(&W.config, KDC_STANDARD);
    W.config.realm.name = SP_LIT(BENCH_REALM);
    W.config.renew_life_s = 7 * 86400;
    W.config.forwardable = true;
    W.port = (struct store_lookup){find, find_id, version};
    W.w.kdc.config = &W.config;
    W.w.kdc.accounts = &W.port;
    add_users();
    add_services();
    add_realm_accounts();
}

struct fuzz_world *fuzz_world(void)
{
    static const uint8_t secret[16] = {7};
    const struct kdc_shared_size size = {64, 64, 16};
    size_t n = kdc_shared_bytes(size);

    if (W.count == 0)
        fill();
    fuzz_must(n <= sizeof shared, "the shared block is as small as asked for");
    memset(shared, 0, n);
    W.w.kdc.shared = kdc_shared_init(shared, size, secret);
    sp_rng_fixed_init(&W.rng, 1);
    W.w.env = (struct sp_env){FUZZ_NOW_S * 1000000, 1000000, &W.rng.rng};
    sp_arena_init(&W.w.mem, arena, sizeof arena);
    return &W.w;
}

struct kdc_request fuzz_request(struct sp_span bytes, uint8_t flags)
{
    struct kdc_request q = {
        .bytes = bytes,
        .door = (enum kdc_door)(flags & FUZZ_DOOR),
        .local_address = {192, 0, 2, 1},
        .local_address_n = 4,
    };

    q.source.id[0] = 4;
    q.source.loopback = (flags & FUZZ_NEAR) != 0;
    q.source.console = (flags & FUZZ_CONSOLE) != 0;
    memcpy(q.source.text, "192.0.2.7", 10);
    return q;
}
