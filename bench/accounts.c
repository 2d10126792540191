/* SPDX-License-Identifier: MIT */
/* The bench realm's accounts, the same names and keys for every server: into our store through its port, for
 * MIT as lines of a kdb5_util dump, for Heimdal as lines of a kadmin dump. Keys are ready made, so a million
 * take seconds. */
#include "arguments.h"
#include "setup.h"

#include "admin/admin.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CHUNK 5000 /* accounts in one transaction */
#define KEYS 2

/* By the realm's type: its 256-bit key and the 128-bit one of the same RFC. */
static int32_t etypes[KEYS] = {ENCTYPE_AES256_CTS_HMAC_SHA1_96, ENCTYPE_AES128_CTS_HMAC_SHA1_96};

/* ---- ours ---- */

struct chunk {
    struct store_account accounts[CHUNK];
    struct store_key keys[CHUNK][KEYS];
    char names[CHUNK][2 * BENCH_NAME_MAX];
    size_t count;
};

static void text_name(enum bench_owner owner, uint32_t i, char out[2 * BENCH_NAME_MAX])
{
    char part[BENCH_NAME_MAX];
    struct sp_span s = owner == BENCH_USER ? bench_user_name(i, part) : bench_service_instance(i, part);

    snprintf(out, 2 * BENCH_NAME_MAX, "%s%.*s", owner == BENCH_USER ? "" : BENCH_SERVICE "/", SP_FMT(s));
}

static void add(struct chunk *k, struct crypto *c, enum bench_owner owner, uint32_t i, int64_t now_s)
{
    struct sp_err e = {0};
    size_t at = k->count++;
    struct store_key *keys = k->keys[at];
    struct sp_span name;

    text_name(owner, i, k->names[at]);
    name = sp_str(k->names[at]);
    for (unsigned j = 0; j < KEYS; j++) {
        keys[j] = (struct store_key){.kvno = 1};
        if (!bench_key(c, owner, i, etypes[j], &keys[j].key, &e))
            bench_die("no key", &e);
    }
    k->accounts[at] = (struct store_account){
        .generation = 1,
        .kind = owner == BENCH_USER ? STORE_USER : STORE_SERVICE,
        .name = name,
        .lookup = name,
        .keys = keys,
        .key_count = KEYS,
        .created_s = now_s,
        .changed_s = now_s,
        .creator = SP_LIT("bench"),
    };
}

static void flush(struct chunk *k, struct lmdb_store *s)
{
    struct sp_err e = {0};

    if (k->count > 0 && !lmdb_put_many(s, k->accounts, k->count, &e))
        bench_die("cannot write accounts", &e);
    k->count = 0;
}

static void write_ours(const char *root, uint32_t users, uint32_t services)
{
    static struct admin_paths paths;
    static struct admin a;
    struct chunk *k = calloc(1, sizeof *k);
    struct sp_err e = {0};
    uint32_t count[] = {users, services};

    if (!k || !admin_find_paths(root, &paths, &e) || !admin_open(&paths, ADMIN_WRITE, &a, &e))
        bench_die("cannot open the instance", &e);
    for (unsigned o = 0; o < 2; o++)
        for (uint32_t i = 1; i <= count[o]; i++) {
            add(k, a.crypto, o == 0 ? BENCH_USER : BENCH_SERVER, i, (int64_t)time(NULL));
            if (k->count == CHUNK)
                flush(k, a.store);
        }
    flush(k, a.store);
    admin_close(&a);
    free(k);
}

/* ---- peers ---- */

static void print_hex(struct sp_span s)
{
    for (size_t i = 0; i < s.n; i++)
        printf("%02x", s.p[i]);
}

struct peer {
    struct crypto *c;
    struct sp_key master; /* MIT's */
    struct sp_rng *rng;
};

/* MIT's key data: the key's length in two little-endian bytes, then the key under the master key, usage 0. */
static void print_mit_key(struct peer *p, const struct sp_key *key)
{
    uint8_t sealed[2 + 64 + CRYPTO_OVERHEAD_MAX] = {key->n, 0};
    size_t n = sizeof sealed - 2;
    struct sp_err e = {0};

    if (!crypto_encrypt(p->c, &p->master, 0, p->rng, sp_span(key->b, key->n), sealed + 2, &n, &e))
        bench_die("cannot seal a key", &e);
    printf("1\t1\t%d\t%zu\t", (int)key->etype, n + 2);
    print_hex(sp_span(sealed, n + 2));
    printf("\t");
}

enum {
    MIT_REQUIRES_PRE_AUTH = 128,
    MIT_BASE_LENGTH = 38,
    MIT_TL_LAST_PWD_CHANGE = 1,
    MIT_MAX_LIFE_S = 36000
};

static void print_mit(struct peer *p, enum bench_owner owner, uint32_t i)
{
    char name[2 * BENCH_NAME_MAX], principal[4 * BENCH_NAME_MAX];
    struct sp_err e = {0};
    struct sp_key key;

    text_name(owner, i, name);
    snprintf(principal, sizeof principal, "%s@%s", name, BENCH_REALM);
    printf("princ\t%d\t%zu\t1\t%d\t0\t%s\t%d\t%d\t0\t0\t0\t0\t0\t0\t%d\t4\t00000001\t", MIT_BASE_LENGTH,
           strlen(principal), KEYS, principal, owner == BENCH_USER ? MIT_REQUIRES_PRE_AUTH : 0,
           MIT_MAX_LIFE_S, MIT_TL_LAST_PWD_CHANGE);
    for (unsigned j = 0; j < KEYS; j++) {
        if (!bench_key(p->c, owner, i, etypes[j], &key, &e))
            bench_die("no key", &e);
        print_mit_key(p, &key);
    }
    printf("-1;\n");
}

/* Flags: everything allowed that is by default, as a client and as a server; for users pre-authentication
 * besides. Heimdal's keys lie in the dump as they are when there is no master key. */
static void print_heimdal(struct peer *p, enum bench_owner owner, uint32_t i)
{
    char name[2 * BENCH_NAME_MAX];
    struct sp_err e = {0};
    struct sp_key key;

    text_name(owner, i, name);
    printf("%s@%s 1", name, BENCH_REALM);
    for (unsigned j = 0; j < KEYS; j++) {
        if (!bench_key(p->c, owner, i, etypes[j], &key, &e))
            bench_die("no key", &e);
        printf("::%d:", (int)key.etype);
        print_hex(sp_span(key.b, key.n));
        printf(":-");
    }
    printf(" 20260101000000:bench@%s - - - - 36000 604800 %s - -\n", BENCH_REALM,
           owner == BENCH_USER ? "382" : "126");
}

typedef void print_fn(struct peer *p, enum bench_owner owner, uint32_t i);

static void write_peer(print_fn *print, const char *password, uint32_t users, uint32_t services)
{
    struct sp_err e = {0};
    struct peer p = {.c = crypto_new(&e), .rng = bench_system_rng()};

    /* the principal of MIT's master key is K/M, and this its default salt */
    if (!p.c || !crypto_string_to_key(p.c, ENCTYPE_AES256_CTS_HMAC_SHA1_96, sp_str(password),
                                      SP_LIT(BENCH_REALM "KM"), sp_span("", 0), &p.master, &e))
        bench_die("crypto", &e);
    p.master.keep = true;
    for (uint32_t i = 1; i <= users; i++)
        print(&p, BENCH_USER, i);
    for (uint32_t i = 1; i <= services; i++)
        print(&p, BENCH_SERVER, i);
    crypto_free(p.c);
    if (fflush(stdout) != 0)
        bench_die("cannot write", NULL);
}

static void usage(void)
{
    fputs(
        "usage: bench-accounts ours ROOT USERS SERVICES [TYPE]            into the instance under ROOT\n"
        "       bench-accounts mit MASTER-PASSWORD USERS SERVICES [TYPE]  lines for kdb5_util load -update\n"
        "       bench-accounts heimdal - USERS SERVICES [TYPE]            lines for kadmin -l load\n"
        "TYPE: 18 (default; accounts have keys 18 and 17) or 20 (20 and 19).\n",
        stderr);
    exit(2);
}

static uint32_t number(const char *text)
{
    uint64_t n = 0;

    if (!sp_decimal(sp_str(text), 100000000, &n))
        usage();
    return (uint32_t)n;
}

int main(int argc, char **argv)
{
    int32_t etype = ENCTYPE_AES256_CTS_HMAC_SHA1_96;

    if (argc < 5 || argc > 6 || (argc == 6 && !bench_read_etype(argv[5], &etype)))
        usage();
    if (etype == ENCTYPE_AES256_CTS_HMAC_SHA384_192)
        etypes[0] = etype, etypes[1] = ENCTYPE_AES128_CTS_HMAC_SHA256_128;
    if (strcmp(argv[1], "ours") == 0)
        write_ours(argv[2], number(argv[3]), number(argv[4]));
    else if (strcmp(argv[1], "mit") == 0)
        write_peer(print_mit, argv[2], number(argv[3]), number(argv[4]));
    else if (strcmp(argv[1], "heimdal") == 0)
        write_peer(print_heimdal, "-", number(argv[3]), number(argv[4]));
    else
        usage();
    return 0;
}
