/* SPDX-License-Identifier: MIT */
/* Records and the LMDB driver. The disk-full test mounts a small tmpfs and says so when it may not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/lmdb/lmdb.h"
#include "store_rows.h"

static struct crypto *crypto;
static struct sp_rng_fixed fixed;
static const uint8_t master[32] = "0123456789abcdef0123456789abcde";
static uint8_t block[1 << 20], block2[1 << 20];
static struct sp_arena mem, mem2;

static int begin(void **state)
{
    struct sp_err e = {0};

    (void)state;
    sp_rng_fixed_init(&fixed, 7);
    sp_arena_init(&mem, block, sizeof block);
    sp_arena_init(&mem2, block2, sizeof block2);
    crypto = crypto_new(&e);
    return crypto ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    crypto_free(crypto);
    return 0;
}

/* ---- accounts to test with ---- */

static uint32_t below(uint32_t n)
{
    uint32_t v;

    sp_rng_fill(&fixed.rng, &v, sizeof v);
    return v % n;
}

static struct sp_span random_bytes(size_t n)
{
    struct sp_err e = {0};
    uint8_t *p = sp_alloc(&mem, n, &e);

    assert_non_null(p);
    sp_rng_fill(&fixed.rng, p, n);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)('a' + p[i] % 26);
    return sp_span(p, n);
}

static struct sp_spans random_list(uint32_t count)
{
    struct sp_err e = {0};
    struct sp_spans s = {sp_new_array(&mem, struct sp_span, count, &e), count};

    for (uint32_t i = 0; i < count; i++)
        s.v[i] = random_bytes(1 + below(40));
    return s;
}

static void random_keys(struct store_account *a)
{
    struct sp_err e = {0};

    a->key_count = below(STORE_KEYS_MAX + 1);
    a->keys = sp_new_array(&mem, struct store_key, a->key_count, &e);
    for (uint32_t i = 0; i < a->key_count; i++) {
        struct store_key *k = &a->keys[i];

        k->key =
            (struct sp_key){.n = (uint8_t)(1 + below(64)), .keep = true, .etype = (int32_t)below(40) - 20};
        sp_rng_fill(&fixed.rng, k->key.b, k->key.n);
        k->kvno = 100 - i;
        k->iterations = below(100000);
        k->salt = below(2) ? random_bytes(below(60)) : sp_span(NULL, 0);
    }
}

static struct store_account random_account(void)
{
    struct store_account a = {.id = 1 + below(1000000), .generation = below(1000000)};
    uint32_t aliases = below(6);

    a.kind = (enum store_kind)(1 + below(4));
    a.flags = below(1u << 30);
    a.name = random_bytes(1 + below(STORE_NAME_MAX));
    a.lookup = random_bytes(1 + below(STORE_NAME_MAX));
    a.aliases = random_list(aliases);
    a.alias_lookups = random_list(aliases);
    random_keys(&a);
    a.created_s = (int64_t)below(2000000000) - 5;
    a.changed_s = below(2000000000);
    a.expires_s = below(2) ? -1 : 0;
    a.password_expires_s = INT64_MAX;
    a.life_s = (int32_t)below(1000) - 500;
    a.renew_s = INT32_MIN;
    a.creator = random_bytes(below(20));
    a.comment = random_bytes(below(20));
    if (below(2))
        a.unknown = SP_LIT("\x7f\x01\x00\x03xyz\xff\xff\x00\x00");
    return a;
}

static bool same_list(struct sp_spans a, struct sp_spans b)
{
    bool same = a.count == b.count;

    for (uint32_t i = 0; same && i < a.count; i++)
        same = sp_same(a.v[i], b.v[i]);
    return same;
}

static void assert_same(const struct store_account *a, const struct store_account *b)
{
    assert_true(a->id == b->id && a->generation == b->generation && a->kind == b->kind &&
                a->flags == b->flags);
    assert_true(sp_same(a->name, b->name) && sp_same(a->lookup, b->lookup));
    assert_true(same_list(a->aliases, b->aliases) && same_list(a->alias_lookups, b->alias_lookups));
    assert_int_equal(a->key_count, b->key_count);
    for (uint32_t i = 0; i < a->key_count; i++) {
        const struct store_key *k = &a->keys[i], *l = &b->keys[i];

        assert_true(k->key.etype == l->key.etype && k->key.n == l->key.n && l->key.keep &&
                    k->kvno == l->kvno);
        assert_memory_equal(k->key.b, l->key.b, k->key.n);
        assert_true(k->iterations == l->iterations && !k->salt.p == !l->salt.p && sp_same(k->salt, l->salt));
    }
    assert_true(a->created_s == b->created_s && a->changed_s == b->changed_s && a->expires_s == b->expires_s);
    assert_true(a->password_expires_s == b->password_expires_s && a->life_s == b->life_s &&
                a->renew_s == b->renew_s);
    assert_true(sp_same(a->creator, b->creator) && sp_same(a->comment, b->comment) &&
                sp_same(a->unknown, b->unknown));
}

/* ---- records ---- */

static void test_round_trip(void **state)
{
    (void)state;
    for (int i = 0; i < 500; i++) {
        struct store_account a, b;
        struct sp_err e = {0};
        uint8_t record[STORE_RECORD_MAX];
        size_t n;

        sp_arena_reset(&mem);
        sp_arena_reset(&mem2);
        a = random_account();
        assert_true(store_seal(crypto, master, &fixed.rng, &a, record, sizeof record, &n, &e));
        assert_true(store_open_record(crypto, master, a.id, sp_span(record, n), &mem2, &b, &e));
        assert_same(&a, &b);
    }
}

static struct store_account simple(const char *name)
{
    static struct store_key keys[2] = {
        {.key = {.b = "k2", .n = 32, .etype = 18}, .kvno = 2},
        {.key = {.b = "k1", .n = 32, .etype = 18}, .kvno = 1}
    };

    return (struct store_account){.generation = 1,
                                  .kind = STORE_USER,
                                  .name = sp_str(name),
                                  .lookup = sp_str(name),
                                  .keys = keys,
                                  .key_count = 2};
}

static void test_every_bit_flip_is_refused(void **state)
{
    struct store_account a = simple("alice"), b;
    uint8_t record[STORE_RECORD_MAX];
    struct sp_err e = {0};
    size_t n;

    (void)state;
    a.id = 17;
    assert_true(store_seal(crypto, master, &fixed.rng, &a, record, sizeof record, &n, &e));
    for (size_t bit = 0; bit < n * 8; bit++) {
        struct sp_err why = {0};

        record[bit / 8] ^= (uint8_t)(1u << bit % 8);
        sp_arena_reset(&mem);
        assert_false(store_open_record(crypto, master, 17, sp_span(record, n), &mem, &b, &why));
        assert_int_equal(why.kind, SP_EBACKEND);
        assert_non_null(strstr(why.text, "record 17"));
        record[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut < n; cut++) {
        struct sp_err why = {0};

        sp_arena_reset(&mem);
        assert_false(store_open_record(crypto, master, 17, sp_span(record, cut), &mem, &b, &why));
        assert_int_equal(why.kind, SP_EBACKEND);
    }
    assert_true(store_open_record(crypto, master, 17, sp_span(record, n), &mem, &b, &e));
}

static void test_refusals(void **state)
{
    struct store_account a = simple("alice"), b;
    uint8_t record[STORE_RECORD_MAX], other[32] = "another";
    struct sp_err e = {0};
    size_t n;

    (void)state;
    a.id = 17;
    assert_true(store_seal(crypto, master, &fixed.rng, &a, record, sizeof record, &n, &e));
    assert_false(store_open_record(crypto, master, 18, sp_span(record, n), &mem, &b, &e));
    assert_string_equal(e.text, "record 18: what lies there is record 17");
    e = (struct sp_err){0};
    assert_false(store_open_record(crypto, other, 17, sp_span(record, n), &mem, &b, &e));
    assert_string_equal(e.text, "record 17: altered, or sealed under another master key");
    e = (struct sp_err){0};
    record[3] = 2;
    assert_false(store_open_record(crypto, master, 17, sp_span(record, n), &mem, &b, &e));
    assert_string_equal(e.text, "record 17: format 2, this program reads 1");
    e = (struct sp_err){0};
    assert_false(store_seal(crypto, master, &fixed.rng, &a, record, 100, &n, &e));
    assert_int_equal(e.kind, SP_EFULL);
    assert_true(n > 100 && n < 400);
}

static void test_arena_too_small(void **state)
{
    struct store_account a, b;
    uint8_t record[STORE_RECORD_MAX];
    struct sp_err e = {0};
    size_t n;

    (void)state;
    sp_arena_reset(&mem);
    a = random_account();
    assert_true(store_seal(crypto, master, &fixed.rng, &a, record, sizeof record, &n, &e));
    for (size_t room = 0; room < 40000; room += 64) {
        struct sp_arena small;
        struct sp_err why = {0};

        sp_arena_init(&small, block2, room);
        b = (struct store_account){.id = 99};
        if (store_open_record(crypto, master, a.id, sp_span(record, n), &small, &b, &why))
            return;
        assert_int_equal(why.kind, SP_ENOMEM);
        assert_int_equal(b.id, 99);
    }
    fail_msg("never enough room");
}

static void test_find_key(void **state)
{
    struct store_account a = simple("alice"), none = {0};

    (void)state;
    assert_ptr_equal(store_find_key(&a, 18, 0), &a.keys[0]);
    assert_ptr_equal(store_find_key(&a, 18, 1), &a.keys[1]);
    assert_null(store_find_key(&a, 18, 3));
    assert_null(store_find_key(&a, 17, 0));
    assert_int_equal(store_kvno(&a), 2);
    assert_int_equal(store_kvno(&none), 0);
}

/* ---- the driver ---- */

static char dir[64];

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/sp-store-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state)
{
    (void)state;
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct lmdb_store *open_store(enum lmdb_mode mode)
{
    struct sp_err e = {0};
    struct lmdb_store *s = lmdb_open(dir, mode, master, crypto, &fixed.rng, &e);

    if (!s)
        fail_msg("%s", e.text);
    return s;
}

static bool find(struct lmdb_store *s, const char *name, struct store_account *out, struct sp_err *e)
{
    struct store_lookup *l = lmdb_lookup(s);
    bool ok = l->find(l, sp_str(name), &mem2, out, e);

    lmdb_settle(s);
    return ok;
}

static void assert_found(struct lmdb_store *s, const char *name, uint64_t id)
{
    struct store_account a;
    struct sp_err e = {0};

    if (!find(s, name, &a, &e))
        fail_msg("%s", e.text);
    assert_int_equal(a.id, id);
}

static void assert_absent(struct lmdb_store *s, const char *name)
{
    struct store_account a = {.id = UINT64_MAX};
    struct sp_err e = {0};

    assert_false(find(s, name, &a, &e));
    assert_int_equal(e.kind, SP_ENOTFOUND);
    assert_string_equal(e.text, "no such account");
    assert_true(a.id != UINT64_MAX && !sp_same(a.lookup, sp_str(name))); /* a stand-in, or zeros */
}

static void test_open_without_store(void **state)
{
    struct sp_err e = {0};

    (void)state;
    assert_null(lmdb_open(dir, LMDB_WRITE, master, crypto, &fixed.rng, &e));
    assert_int_equal(e.kind, SP_ENOTFOUND);
    assert_non_null(strstr(e.text, dir));
}

static void test_put_find_delete(void **state)
{
    struct lmdb_store *s = open_store(LMDB_CREATE), *reader = open_store(LMDB_READ);
    struct store_account a = simple("alice"), b = simple("bob"), c = simple("carol");
    struct sp_span alias[] = {SP_LIT("al"), SP_LIT("liz")};
    struct sp_err e = {0};

    (void)state;
    a.aliases = a.alias_lookups = (struct sp_spans){alias, 2};
    assert_true(lmdb_put(s, &a, &e) && lmdb_put(s, &b, &e));
    assert_true(a.id == 1 && b.id == 2);
    assert_found(reader, "alice", 1);
    assert_found(reader, "al", 1);
    assert_found(reader, "bob", 2);
    assert_absent(reader, "carol");
    assert_int_equal(lmdb_count(s), 2);

    b.aliases = b.alias_lookups = (struct sp_spans){alias, 1}; /* taken by alice: nothing changes */
    assert_false(lmdb_put(s, &b, &e));
    assert_int_equal(e.kind, SP_EEXIST);
    assert_string_equal(e.text, "the name al is taken");
    assert_found(s, "bob", 2);
    e = (struct sp_err){0};
    c.lookup = c.name = SP_LIT("liz");
    assert_false(lmdb_put(s, &c, &e));
    assert_int_equal(e.kind, SP_EEXIST);
    assert_int_equal(c.id, 0);

    e = (struct sp_err){0};
    a.aliases = a.alias_lookups = (struct sp_spans){alias + 1, 1}; /* gives al up */
    assert_true(lmdb_put(s, &a, &e));
    assert_absent(reader, "al");
    assert_found(reader, "liz", 1);

    assert_true(lmdb_delete(s, 2, &e));
    assert_absent(reader, "bob");
    assert_false(lmdb_delete(s, 2, &e));
    assert_int_equal(e.kind, SP_ENOTFOUND);
    lmdb_close(reader);
    lmdb_close(s);

    s = open_store(LMDB_WRITE); /* an id is never used again, not even the last one */
    e = (struct sp_err){0};
    c = simple("carol");
    assert_true(lmdb_put(s, &c, &e));
    assert_int_equal(c.id, 3);
    lmdb_close(s);
}

/* ---- the rows of aliases ---- */

static void assert_rows(size_t own, size_t aliases)
{
    struct store_rows rows = rows_check(dir);

    if (rows.wrong)
        fail_msg("%s", rows.wrong);
    assert_int_equal(rows.own, own);
    assert_int_equal(rows.aliases, aliases);
}

/* By each of its names the account is found as it was last written. */
static void assert_written(struct lmdb_store *s, const struct store_account *a)
{
    for (uint32_t i = 0; i <= a->aliases.count; i++) {
        struct store_lookup *l = lmdb_lookup(s);
        struct store_account by;
        struct sp_err e = {0};

        sp_arena_reset(&mem2);
        if (!l->find(l, i == 0 ? a->lookup : a->alias_lookups.v[i - 1], &mem2, &by, &e))
            fail_msg("%s", e.text);
        lmdb_settle(s);
        assert_int_equal(by.id, a->id);
        assert_int_equal(by.generation, a->generation);
        assert_int_equal(by.flags, a->flags);
        assert_int_equal(by.key_count, a->key_count);
        assert_true(sp_same(by.name, a->name) && same_list(by.aliases, a->aliases));
        assert_memory_equal(by.keys[0].key.b, a->keys[0].key.b, a->keys[0].key.n);
    }
}

static void put_again(struct lmdb_store *s, struct store_account *a, size_t accounts, size_t aliases)
{
    struct sp_err e = {0};

    a->generation++;
    if (!lmdb_put(s, a, &e))
        fail_msg("%s", e.text);
    assert_written(s, a);
    assert_rows(accounts, aliases);
}

static void set_aliases(struct store_account *a, struct sp_span *v, uint32_t count)
{
    a->aliases = a->alias_lookups = (struct sp_spans){v, count};
}

static void test_every_change_reaches_all_rows(void **state)
{
    struct lmdb_store *s = open_store(LMDB_CREATE);
    struct store_account a = simple("alice"), b = simple("bob"), both[2];
    struct sp_span alias[] = {SP_LIT("al"), SP_LIT("liz"), SP_LIT("alice")}, bobs[] = {SP_LIT("rob")};
    struct store_key other = {
        .key = {.b = "k3", .n = 32, .etype = 18},
          .kvno = 3
    };
    struct sp_err e = {0};

    (void)state;
    set_aliases(&a, alias, 2);
    set_aliases(&b, bobs, 1);
    put_again(s, &a, 1, 2);
    put_again(s, &b, 2, 3);
    a.keys = &other; /* another password */
    a.key_count = 1;
    put_again(s, &a, 2, 3);
    a.flags = STORE_DISABLED;
    put_again(s, &a, 2, 3);
    a.name = a.lookup = SP_LIT("alicia");
    put_again(s, &a, 2, 3);
    assert_absent(s, "alice");
    set_aliases(&a, alias, 3); /* the name that it had */
    put_again(s, &a, 2, 4);
    set_aliases(&a, alias + 1, 2);
    put_again(s, &a, 2, 3);
    assert_absent(s, "al");
    set_aliases(&b, alias + 1, 1); /* liz is taken */
    assert_false(lmdb_put(s, &b, &e));
    assert_int_equal(e.kind, SP_EEXIST);
    set_aliases(&b, bobs, 1);
    assert_written(s, &a);
    assert_written(s, &b);
    assert_rows(2, 3);
    a.name = a.lookup = SP_LIT("liz"); /* one of its own aliases */
    put_again(s, &a, 2, 2);

    e = (struct sp_err){0};
    both[0] = a;
    both[1] = b;
    both[0].flags = both[1].flags = STORE_MUST_CHANGE;
    assert_true(lmdb_put_many(s, both, 2, &e));
    assert_written(s, &both[0]);
    assert_written(s, &both[1]);
    assert_rows(2, 2);
    assert_true(lmdb_delete(s, a.id, &e));
    assert_absent(s, "liz");
    assert_absent(s, "alice");
    assert_rows(1, 1);
    assert_true(lmdb_delete(s, b.id, &e));
    assert_absent(s, "rob");
    assert_rows(0, 0);
    lmdb_close(s);
}

static void test_most_aliases(void **state)
{
    struct lmdb_store *s = open_store(LMDB_CREATE);
    struct store_account a = simple("alice");
    char text[STORE_ALIASES_MAX + 1][100];
    struct sp_span alias[STORE_ALIASES_MAX + 1];
    struct sp_err e = {0};

    (void)state;
    for (int i = 0; i <= STORE_ALIASES_MAX; i++) {
        snprintf(text[i], sizeof text[i], "%090d", i);
        alias[i] = sp_str(text[i]);
    }
    set_aliases(&a, alias, STORE_ALIASES_MAX);
    put_again(s, &a, 1, STORE_ALIASES_MAX);
    put_again(s, &a, 1, STORE_ALIASES_MAX);
    set_aliases(&a, alias, STORE_ALIASES_MAX + 1);
    assert_false(lmdb_put(s, &a, &e));
    assert_int_equal(e.kind, SP_EINPUT);
    assert_rows(1, STORE_ALIASES_MAX);
    lmdb_close(s);
}

/* Writes past the store: what row `from` holds becomes row `to`, with another kind. */
static void forge_row(const char *from, const char *to, uint8_t kind)
{
    uint8_t key[2][32] = {{1}, {1}}, row[STORE_RECORD_MAX];
    struct store_rows r = {0};
    MDB_val k[2], v;

    for (int i = 0; i < 2; i++) {
        const char *name = i == 0 ? from : to;

        memcpy(key[i] + 1, name, strlen(name));
        k[i] = (MDB_val){1 + strlen(name), key[i]};
    }
    assert_int_equal(rows_begin(&r, dir, 0), 0);
    assert_int_equal(mdb_get(r.txn, r.rows, &k[0], &v), 0);
    memcpy(row, v.mv_data, v.mv_size);
    row[ROWS_KIND_AT] = kind;
    v.mv_data = row;
    assert_int_equal(mdb_put(r.txn, r.rows, &k[1], &v, 0), 0);
    assert_int_equal(rows_end(&r), 0);
}

static bool list_names(void *ctx, const struct store_account *a, struct sp_err *e)
{
    char *names = ctx;

    (void)e;
    snprintf(names + strlen(names), 64 - strlen(names), "%.*s ", SP_FMT(a->name));
    return true;
}

static void assert_listing_fails(struct lmdb_store *s, const char *names, const char *text)
{
    char found[64] = "";
    struct sp_err e = {0};

    assert_false(lmdb_each(s, &mem, list_names, found, &e));
    assert_string_equal(found, names);
    assert_int_equal(e.kind, SP_EBACKEND);
    assert_non_null(strstr(e.text, text));
}

/* The byte that says which row is the own one, and the key of a row, are not sealed: whoever changes them on
 * the disk gets no other account, and no account twice. */
static void test_forged_rows(void **state)
{
    struct lmdb_store *s = open_store(LMDB_CREATE);
    struct store_account v[] = {simple("alice"), simple("bob")}, out;
    struct sp_span alias[] = {SP_LIT("liz"), SP_LIT("mallory")};
    struct sp_err e = {0};

    (void)state;
    set_aliases(&v[0], alias, 1);
    assert_true(lmdb_put_many(s, v, 2, &e));
    lmdb_close(s);
    forge_row("liz", "liz", 0);
    s = open_store(LMDB_WRITE);
    assert_found(s, "liz", v[0].id);
    assert_listing_fails(s, "alice bob ", "record 1: it lies under another name than its own");
    lmdb_close(s);

    forge_row("liz", "liz", 1);
    forge_row("alice", "alice", 1);
    s = open_store(LMDB_WRITE);
    assert_found(s, "alice", v[0].id);
    assert_listing_fails(s, "bob ", "2 accounts, and 1 rows that are one's own");
    lmdb_close(s);

    forge_row("alice", "alice", 0);
    forge_row("alice", "mallory", 1);
    s = open_store(LMDB_WRITE);
    assert_false(find(s, "mallory", &out, &e));
    assert_int_equal(e.kind, SP_EBACKEND);
    assert_non_null(strstr(e.text, "record 1, which has another name"));
    set_aliases(&v[0], alias, 2); /* what was forged does not stay behind when the name is given */
    put_again(s, &v[0], 2, 2);
    lmdb_close(s);
}

static void test_long_names(void **state)
{
    struct lmdb_store *s = open_store(LMDB_CREATE);
    char a[STORE_NAME_MAX + 2], b[STORE_NAME_MAX + 2];
    struct store_account x, y;
    struct sp_err e = {0};

    (void)state;
    memset(a, 'a', sizeof a);
    a[STORE_NAME_MAX] = 0;
    memcpy(b, a, sizeof b);
    b[STORE_NAME_MAX - 1] = 'b'; /* differs behind what fits into a key */
    x = simple(a);
    y = simple(b);
    assert_true(lmdb_put(s, &x, &e) && lmdb_put(s, &y, &e));
    assert_found(s, a, x.id);
    assert_found(s, b, y.id);
    assert_true(lmdb_delete(s, x.id, &e));
    assert_absent(s, a);
    a[STORE_NAME_MAX] = 'a';
    a[STORE_NAME_MAX + 1] = 0;
    x = simple(a);
    assert_false(lmdb_put(s, &x, &e));
    assert_int_equal(e.kind, SP_EINPUT);
    lmdb_close(s);
}

static bool count_visits(void *ctx, const struct store_account *a, struct sp_err *e)
{
    char *last = ctx, now[64];

    (void)e;
    snprintf(now, sizeof now, "%.*s", SP_FMT(a->name));
    assert_true(strcmp(last, now) < 0); /* in order, each once */
    snprintf(last, 64, "%s", now);
    return strcmp(now, "user0900") != 0;
}

static void test_many(void **state)
{
    enum { MANY = 1000 };
    static char names[MANY][16];
    static struct store_account v[MANY];
    struct lmdb_store *s = open_store(LMDB_CREATE);
    struct store_account clash[2];
    struct sp_err e = {0};
    char last[64] = "";

    (void)state;
    for (int i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof names[i], "user%04d", i);
        v[i] = simple(names[i]);
    }
    assert_true(lmdb_put_many(s, v, MANY, &e));
    assert_int_equal(lmdb_count(s), MANY);
    assert_found(s, "user0777", v[777].id);
    assert_false(lmdb_each(s, &mem, count_visits, last, &e)); /* the visitor stops, without an error */
    assert_string_equal(last, "user0900");
    assert_true(sp_ok(&e));

    clash[0] = simple("new");
    clash[1] = simple("user0001");
    assert_false(lmdb_put_many(s, clash, 2, &e)); /* all or none */
    assert_int_equal(e.kind, SP_EEXIST);
    assert_int_equal(clash[0].id, 0);
    assert_absent(s, "new");
    lmdb_close(s);
}

/* The newest data is seen after a settle, and one batch sees one state. */
static void test_batches(void **state)
{
    struct lmdb_store *s = open_store(LMDB_CREATE), *reader = open_store(LMDB_READ);
    struct store_lookup *l = lmdb_lookup(reader);
    struct store_account a = simple("alice"), b = simple("bob"), out;
    struct sp_err e = {0};

    (void)state;
    assert_true(lmdb_put(s, &a, &e));
    assert_true(l->find(l, SP_LIT("alice"), &mem2, &out, &e));
    assert_true(lmdb_put(s, &b, &e));
    assert_false(l->find(l, SP_LIT("bob"), &mem2, &out, &e));
    e = (struct sp_err){0};
    lmdb_settle(reader);
    assert_true(l->find_id(l, b.id, &mem2, &out, &e));
    assert_true(sp_same(out.name, SP_LIT("bob")));
    lmdb_close(reader);
    lmdb_close(s);
}

static void test_meta(void **state)
{
    struct lmdb_store *s = open_store(LMDB_CREATE);
    uint8_t other[32] = "another";
    struct sp_span v;
    struct sp_err e = {0};

    (void)state;
    assert_false(lmdb_get_meta(s, "realm", &mem, &v, &e));
    assert_int_equal(e.kind, SP_ENOTFOUND);
    e = (struct sp_err){0};
    assert_true(lmdb_put_meta(s, "realm", SP_LIT("EXAMPLE"), &e) &&
                lmdb_put_meta(s, "realm", SP_LIT("NEW"), &e));
    assert_true(lmdb_get_meta(s, "realm", &mem, &v, &e) && sp_same(v, SP_LIT("NEW")));
    lmdb_close(s);
    s = lmdb_open(dir, LMDB_WRITE, other, crypto, &fixed.rng, &e);
    assert_non_null(s);
    assert_false(lmdb_get_meta(s, "realm", &mem, &v, &e));
    assert_int_equal(e.kind, SP_EBACKEND);
    assert_non_null(strstr(e.text, "another master key"));
    lmdb_close(s);
}

static void test_activity(void **state)
{
    struct lmdb_store *s = open_store(LMDB_CREATE);
    struct lmdb_activity_row rows[] = {
        {5, {100, 50, 2, 1}},
        {5, {90, 60, 1, 1} },
        {6, {0, 7, 0, 1}   }
    };
    struct lmdb_activity a;
    struct sp_err e = {0};

    (void)state;
    assert_true(lmdb_add_activity(s, rows, 3, &e) && lmdb_get_activity(s, 5, &a, &e));
    assert_true(a.last_success_s == 100 && a.last_failure_s == 60 && a.successes == 3 && a.failures == 2);
    assert_true(lmdb_get_activity(s, 99, &a, &e) && a.successes == 0 && a.last_failure_s == 0);
    lmdb_close(s);
    s = open_store(LMDB_WRITE);
    assert_true(lmdb_get_activity(s, 6, &a, &e) && a.last_failure_s == 7);
    lmdb_close(s);
}

/* Two records change places on the disk: each is refused, by name. */
static void swap_records(void)
{
    char path[128];
    struct stat st;
    uint8_t *p, *first, *second;
    FILE *f;

    snprintf(path, sizeof path, "%s/accounts/data.mdb", dir);
    f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fstat(fileno(f), &st), 0);
    p = malloc((size_t)st.st_size);
    assert_int_equal(fread(p, 1, (size_t)st.st_size, f), st.st_size);
    first = memmem(p, (size_t)st.st_size, "\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1", 20);
    second = memmem(p, (size_t)st.st_size, "\0\0\0\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\1", 20);
    assert_true(first && second);
    for (size_t i = 0; i < 150; i++) { /* both have the same length */
        uint8_t b = first[i];

        first[i] = second[i];
        second[i] = b;
    }
    rewind(f);
    assert_int_equal(fwrite(p, 1, (size_t)st.st_size, f), st.st_size);
    fclose(f);
    free(p);
}

static bool visit_none(void *ctx, const struct store_account *a, struct sp_err *e)
{
    (void)a;
    (void)e;
    ++*(int *)ctx;
    return true;
}

static void test_swapped_records(void **state)
{
    struct lmdb_store *s = open_store(LMDB_CREATE);
    struct store_account v[] = {simple("alice"), simple("bobby"), simple("carol")}, out;
    struct sp_err e = {0};
    int visited = 0;

    (void)state;
    assert_true(lmdb_put_many(s, v, 3, &e)); /* in one transaction: no older copies on other pages */
    lmdb_close(s);
    swap_records();
    s = open_store(LMDB_WRITE);
    assert_false(find(s, "alice", &out, &e));
    assert_int_equal(e.kind, SP_EBACKEND);
    assert_string_equal(e.text, "alice: record 1: what lies there is record 2");
    assert_found(s, "carol", 3);
    e = (struct sp_err){0};
    assert_false(lmdb_each(s, &mem, visit_none, &visited, &e)); /* the others are still listed */
    assert_int_equal(visited, 1);
    assert_int_equal(e.kind, SP_EBACKEND);
    e = (struct sp_err){0};
    assert_true(lmdb_delete(s, 1, &e)); /* and the damaged ones can be thrown away */
    assert_absent(s, "alice");
    lmdb_close(s);
}

/* ---- backup while another process writes ---- */

_Noreturn static void write_on(void)
{
    struct sp_err e = {0};
    struct crypto *c = crypto_new(&e);
    struct lmdb_store *s = c ? lmdb_open(dir, LMDB_WRITE, master, c, &fixed.rng, &e) : NULL;

    if (!s)
        _exit(1);
    for (int i = 0;; i++) {
        char x[32], y[32];
        struct store_account pair[2];

        snprintf(x, sizeof x, "left%d", i);
        snprintf(y, sizeof y, "right%d", i);
        pair[0] = simple(x);
        pair[1] = simple(y);
        if (!lmdb_put_many(s, pair, 2, &e))
            _exit(1);
    }
}

static bool visit_pair(void *ctx, const struct store_account *a, struct sp_err *e)
{
    int *n = ctx;

    (void)e;
    n[a->name.p[0] == 'r']++;
    return true;
}

static void test_backup_while_writing(void **state) /* T128 */
{
    struct lmdb_store *s = open_store(LMDB_CREATE), *copy;
    struct sp_err e = {0};
    pid_t child;

    (void)state;
    lmdb_close(s);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        write_on();
    s = open_store(LMDB_WRITE);
    for (int i = 0; i < 5; i++) {
        char to[96];
        int n[2] = {0};
        struct stat st;

        usleep(30000);
        snprintf(to, sizeof to, "%s/backup%d", dir, i);
        assert_int_equal(mkdir(to, 0700), 0);
        if (!lmdb_backup(s, to, &e))
            fail_msg("%s", e.text);
        copy = lmdb_open(to, LMDB_WRITE, master, crypto, &fixed.rng, &e);
        assert_non_null(copy);
        assert_true(lmdb_each(copy, &mem, visit_pair, n, &e));
        assert_int_equal(n[0], n[1]); /* each transaction whole or not at all */
        lmdb_close(copy);
        strcat(to, "/accounts/data.mdb");
        assert_int_equal(stat(to, &st), 0);
        assert_int_equal(st.st_mode & 077, 0);
    }
    assert_int_equal(waitpid(child, NULL, WNOHANG), 0); /* it was writing all the time */
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_true(lmdb_count(s) > 0);
    lmdb_close(s);
}

/* ---- a full disk ---- */

static void test_disk_full(void **state) /* T112 */
{
    struct lmdb_store *s;
    struct store_account a = simple("alice");
    struct sp_err e = {0};
    static char names[100000][12];
    uint64_t count;
    int i, refused = 0;

    (void)state;
    if (mount("none", dir, "tmpfs", 0, "size=600k,mode=700") != 0) {
        print_message("disk-full: no right to mount a tmpfs, skipped\n");
        skip();
    }
    s = open_store(LMDB_CREATE);
    assert_true(lmdb_put(s, &a, &e));
    for (i = 0; i < 100000 && refused < 20; i++) { /* again and again: a refusal leaves nothing half done */
        struct store_account b;

        snprintf(names[i], sizeof names[i], "u%d", i);
        b = simple(names[i]);
        count = lmdb_count(s);
        e = (struct sp_err){0};
        if (lmdb_put(s, &b, &e))
            continue;
        refused++;
        assert_int_equal(e.kind, SP_EFULL);
        assert_non_null(strstr(e.text, "no room left"));
        assert_int_equal(b.id, 0);
        assert_absent(s, names[i]);
        assert_int_equal(lmdb_count(s), count);
        assert_found(s, "alice", a.id); /* logins go on */
    }
    assert_int_equal(refused, 20);
    lmdb_close(s);
    s = open_store(LMDB_WRITE);
    assert_found(s, "alice", a.id);
    assert_found(s, "u0", 2);
    e = (struct sp_err){0};
    assert_true(lmdb_delete(s, 2, &e) ||
                e.kind == SP_EFULL); /* copy on write: also a delete may need a page */
    lmdb_close(s);
    assert_int_equal(umount2(dir, MNT_DETACH), 0);
}

#define ROW(f) cmocka_unit_test_setup_teardown(f, make_dir, drop_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_bit_flip_is_refused),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_arena_too_small),
        cmocka_unit_test(test_find_key),
        ROW(test_open_without_store),
        ROW(test_put_find_delete),
        ROW(test_every_change_reaches_all_rows),
        ROW(test_most_aliases),
        ROW(test_forged_rows),
        ROW(test_long_names),
        ROW(test_many),
        ROW(test_batches),
        ROW(test_meta),
        ROW(test_activity),
        ROW(test_swapped_records),
        ROW(test_backup_while_writing),
        ROW(test_disk_full),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
