/* SPDX-License-Identifier: MIT */
/* T127: an older store is upgraded whole, a newer one is refused with a way out, and whoever is killed while
 * upgrading leaves the old store or the new one. The older layout is written here by the library's own calls.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/lmdb/lmdb.h"
#include "store_rows.h"

enum { MANY = 3000, LONG = 3 };

static const uint8_t master[32] = "0123456789abcdef0123456789abcde";
static struct crypto *crypto;
static struct sp_rng_fixed fixed;
static uint8_t block[1 << 20];
static struct sp_arena mem;
static char dir[64];

static int begin(void **state)
{
    struct sp_err e = {0};

    (void)state;
    sp_rng_fixed_init(&fixed, 9);
    sp_arena_init(&mem, block, sizeof block);
    crypto = crypto_new(&e);
    snprintf(dir, sizeof dir, "/tmp/sp-upgrade-XXXXXX");
    return crypto && mkdtemp(dir) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static int end(void **state)
{
    (void)state;
    crypto_free(crypto);
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- what is in the store: account i is "user%05d" with the alias "also%05d"; the last ones have names on
 * both sides of what fits into a key ---- */

static size_t long_name(int i, char out[STORE_NAME_MAX + 1])
{
    static const size_t n[LONG] = {510, 511, 512};

    memset(out, 'l', n[i]);
    out[n[i]] = 0;
    return n[i];
}

static struct sp_span name_of(int i, char out[STORE_NAME_MAX + 1])
{
    if (i >= MANY)
        return sp_span(out, long_name(i - MANY, out));
    return sp_span(out, (size_t)snprintf(out, STORE_NAME_MAX + 1, "user%05d", i));
}

static struct sp_span alias_of(int i, char out[16])
{
    return sp_span(out, (size_t)snprintf(out, 16, "also%05d", i));
}

/* ---- the layout of format 1 ---- */

struct old_store {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi meta, names, records;
};

static void open_old(struct old_store *o)
{
    char path[96];

    snprintf(path, sizeof path, "%s/accounts", dir);
    assert_int_equal(mdb_env_create(&o->env), 0);
    assert_int_equal(mdb_env_set_mapsize(o->env, 64 << 20), 0);
    assert_int_equal(mdb_env_set_maxdbs(o->env, 4), 0);
    assert_int_equal(mdb_env_open(o->env, path, MDB_NOTLS, 0600), 0);
    assert_int_equal(mdb_txn_begin(o->env, NULL, 0, &o->txn), 0);
    assert_int_equal(mdb_dbi_open(o->txn, "meta", MDB_CREATE, &o->meta), 0);
    assert_int_equal(mdb_dbi_open(o->txn, "names", MDB_CREATE, &o->names), 0);
    assert_int_equal(mdb_dbi_open(o->txn, "records", MDB_CREATE, &o->records), 0);
}

static void close_old(struct old_store *o)
{
    assert_int_equal(mdb_txn_commit(o->txn), 0);
    mdb_env_close(o->env);
}

static void put_row(struct old_store *o, MDB_dbi dbi, struct sp_span key, struct sp_span value)
{
    MDB_val k = {key.n, (void *)(uintptr_t)key.p}, v = {value.n, (void *)(uintptr_t)value.p};

    assert_int_equal(mdb_put(o->txn, dbi, &k, &v, MDB_NOOVERWRITE), 0);
}

static void put_id(uint8_t be[8], uint64_t id)
{
    for (int i = 7; i >= 0; i--, id >>= 8)
        be[i] = (uint8_t)id;
}

static void put_old_name(struct old_store *o, uint64_t id, struct sp_span name, uint8_t kind)
{
    uint8_t row[9], hashed[33] = {0xff};
    struct sp_err e = {0};

    put_id(row, id);
    row[8] = kind;
    if (name.n > 511) {
        assert_true(crypto_sha256(crypto, name, hashed + 1, &e));
        name = sp_span(hashed, sizeof hashed);
    }
    put_row(o, o->names, name, sp_span(row, sizeof row));
}

static void put_old_account(struct old_store *o, int i)
{
    char name[STORE_NAME_MAX + 1], also[16];
    struct sp_span alias = alias_of(i, also);
    struct store_key key = {
        .key = {.n = 32, .etype = 18, .keep = true},
          .kvno = 1
    };
    struct store_account a = {.id = (uint64_t)i + 1, .generation = (uint64_t)i + 7, .kind = STORE_USER};
    uint8_t record[STORE_RECORD_MAX], be[8];
    struct sp_err e = {0};
    size_t n;

    a.name = a.lookup = name_of(i, name);
    a.aliases = a.alias_lookups = (struct sp_spans){&alias, 1};
    a.keys = &key;
    a.key_count = 1;
    memset(key.key.b, i & 0xff, key.key.n);
    assert_true(store_seal(crypto, master, &fixed.rng, &a, record, sizeof record, &n, &e));
    put_id(be, a.id);
    put_row(o, o->records, sp_span(be, 8), sp_span(record, n));
    put_old_name(o, a.id, a.name, 0);
    put_old_name(o, a.id, alias, 1);
}

static void put_old_meta(struct old_store *o)
{
    uint8_t sealed[CRYPTO_SEAL_NONCE + 5 + CRYPTO_SEAL_OVERHEAD], next[8];
    struct sp_err e = {0};

    sp_rng_fill(&fixed.rng, sealed, CRYPTO_SEAL_NONCE);
    assert_true(crypto_seal(crypto, master, sealed, SP_LIT("realm"), SP_LIT("REALM"),
                            sealed + CRYPTO_SEAL_NONCE, &e));
    put_row(o, o->meta, SP_LIT("realm"), sp_span(sealed, sizeof sealed));
    put_id(next, 9000);
    put_row(o, o->meta, SP_LIT("#next-id"), sp_span(next, sizeof next));
}

/* The activity environment did not change: it is made by the driver. */
static void make_old(void)
{
    struct sp_err e = {0};
    struct old_store o;
    char path[96];

    lmdb_close(lmdb_open(dir, LMDB_CREATE, master, crypto, &fixed.rng, &e));
    assert_true(sp_ok(&e));
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/accounts/%s.mdb", dir, i ? "lock" : "data");
        assert_int_equal(remove(path), 0);
    }
    open_old(&o);
    for (int i = 0; i < MANY + LONG; i++)
        put_old_account(&o, i);
    put_old_meta(&o);
    close_old(&o);
}

/* ---- what must be there afterwards ---- */

static struct lmdb_store *open_store(enum lmdb_mode mode)
{
    struct sp_err e = {0};
    struct lmdb_store *s = lmdb_open(dir, mode, master, crypto, &fixed.rng, &e);

    if (!s)
        fail_msg("%s", e.text);
    return s;
}

static void check_account(struct lmdb_store *s, int i)
{
    struct store_lookup *l = lmdb_lookup(s);
    char name[STORE_NAME_MAX + 1], also[16];
    struct sp_span want = name_of(i, name);
    struct store_account by[3];
    struct sp_err e = {0};

    sp_arena_reset(&mem);
    if (!l->find(l, want, &mem, &by[0], &e) || !l->find(l, alias_of(i, also), &mem, &by[1], &e) ||
        !l->find_id(l, (uint64_t)i + 1, &mem, &by[2], &e))
        fail_msg("%d: %s", i, e.text);
    for (int j = 0; j < 3; j++) {
        assert_int_equal(by[j].id, i + 1);
        assert_int_equal(by[j].generation, i + 7);
        assert_true(sp_same(by[j].name, want));
        assert_int_equal(by[j].keys[0].key.b[31], i & 0xff);
    }
}

static void check_rows(void)
{
    struct store_rows rows = rows_check(dir);

    assert_null(rows.wrong);
    assert_int_equal(rows.own, MANY + LONG);
    assert_int_equal(rows.aliases, MANY + LONG);
}

static bool count_one(void *ctx, const struct store_account *a, struct sp_err *e)
{
    (void)a;
    (void)e;
    ++*(int *)ctx;
    return true;
}

static void check_all(struct lmdb_store *s)
{
    struct sp_err e = {0};
    struct sp_span realm;
    int listed = 0;

    check_rows();
    if (!lmdb_each(s, &mem, count_one, &listed, &e))
        fail_msg("%s", e.text);
    assert_int_equal(listed, MANY + LONG);

    assert_int_equal(lmdb_count(s), MANY + LONG);
    for (int i = 0; i < MANY + LONG; i++)
        check_account(s, i);
    lmdb_settle(s);
    sp_arena_reset(&mem);
    assert_true(lmdb_get_meta(s, "realm", &mem, &realm, &e) && sp_same(realm, SP_LIT("REALM")));
    lmdb_settle(s);
}

static void check_id_goes_on(struct lmdb_store *s)
{
    struct store_account a = {.kind = STORE_USER, .name = SP_LIT("fresh"), .lookup = SP_LIT("fresh")};
    struct sp_err e = {0};

    assert_true(lmdb_put(s, &a, &e));
    assert_int_equal(a.id, 9000);
}

static void test_upgrade(void **state)
{
    struct lmdb_store *s;
    struct sp_err e = {0};

    (void)state;
    make_old();
    assert_null(lmdb_open(dir, LMDB_READ, master, crypto, &fixed.rng, &e)); /* a reader does not write */
    assert_int_equal(e.kind, SP_EBACKEND);
    assert_non_null(strstr(e.text, "starting sallyportd upgrades it"));
    s = open_store(LMDB_WRITE);
    check_all(s);
    lmdb_close(s);
    s = open_store(LMDB_READ);
    check_all(s);
    lmdb_close(s);
    s = open_store(LMDB_WRITE);
    check_id_goes_on(s);
    lmdb_close(s);
}

/* A damaged old store is not half upgraded. */
static void test_damaged(void **state)
{
    struct old_store o;
    struct sp_err e = {0};
    uint8_t be[8];
    MDB_val key = {sizeof be, be}, value;

    (void)state;
    make_old();
    open_old(&o);
    put_id(be, 1500);
    assert_int_equal(mdb_del(o.txn, o.records, &key, NULL), 0);
    close_old(&o);
    for (int i = 0; i < 2; i++) {
        e = (struct sp_err){0};
        assert_null(lmdb_open(dir, LMDB_WRITE, master, crypto, &fixed.rng, &e));
        assert_int_equal(e.kind, SP_EBACKEND);
        assert_non_null(strstr(e.text, "record 1500"));
        assert_non_null(strstr(e.text, "nothing was changed"));
    }
    open_old(&o);
    put_id(be, 1499);
    assert_int_equal(mdb_get(o.txn, o.records, &key, &value), 0);
    close_old(&o);
}

static void put_format(uint64_t format)
{
    uint8_t be[8];
    struct old_store o;
    MDB_val key = {7, (void *)(uintptr_t) "#format"}, value = {sizeof be, be};

    open_old(&o);
    put_id(be, format);
    assert_int_equal(mdb_put(o.txn, o.meta, &key, &value, 0), 0);
    close_old(&o);
}

static void test_newer(void **state)
{
    static const enum lmdb_mode modes[] = {LMDB_READ, LMDB_WRITE, LMDB_CREATE};
    struct sp_err e = {0};

    (void)state;
    lmdb_close(open_store(LMDB_CREATE));
    put_format(3);
    for (int i = 0; i < 3; i++) {
        e = (struct sp_err){0};
        assert_null(lmdb_open(dir, modes[i], master, crypto, &fixed.rng, &e));
        assert_int_equal(e.kind, SP_EREFUSED);
        assert_non_null(strstr(e.text, "format 3 of a newer version, this one reads up to 2"));
    }
    put_format(2); /* nothing was done to it */
    lmdb_close(open_store(LMDB_WRITE));
    put_format(0);
    e = (struct sp_err){0};
    assert_null(lmdb_open(dir, LMDB_WRITE, master, crypto, &fixed.rng, &e));
    assert_non_null(strstr(e.text, "the format number is damaged"));
}

/* ---- interrupted ---- */

static bool is_old(void)
{
    struct sp_err e = {0};
    struct lmdb_store *s = lmdb_open(dir, LMDB_READ, master, crypto, &fixed.rng, &e);

    lmdb_close(s);
    if (!s && !strstr(e.text, "starting sallyportd upgrades it"))
        fail_msg("neither: %s", e.text);
    return !s;
}

static void upgrade_and_die(useconds_t after)
{
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        struct sp_err e = {0};
        struct crypto *c = crypto_new(&e);

        _exit(c && lmdb_open(dir, LMDB_WRITE, master, c, &fixed.rng, &e) ? 0 : 1);
    }
    usleep(after);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

static void check_old(void)
{
    struct old_store o;
    MDB_stat names, records;

    open_old(&o);
    assert_int_equal(mdb_stat(o.txn, o.names, &names), 0);
    assert_int_equal(mdb_stat(o.txn, o.records, &records), 0);
    assert_int_equal(names.ms_entries, 2 * (MANY + LONG));
    assert_int_equal(records.ms_entries, MANY + LONG);
    close_old(&o);
}

/* Killed later and later, until one upgrade was through. */
static void test_interrupted(void **state)
{
    struct lmdb_store *s;
    int kills = 0;

    (void)state;
    make_old();
    for (useconds_t after = 1000; is_old(); after += 1000, kills++) {
        check_old();
        upgrade_and_die(after);
    }
    print_message("%d kills before the upgrade was through\n", kills);
    assert_true(kills > 1);
    s = open_store(LMDB_WRITE);
    check_all(s);
    check_id_goes_on(s);
    lmdb_close(s);
}

#define ROW(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {ROW(test_upgrade), ROW(test_damaged), ROW(test_newer),
                                       ROW(test_interrupted)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
