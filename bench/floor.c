/* SPDX-License-Identifier: MIT */
/* The floor: a UDP server that does only what no KDC can avoid: one recvfrom, the look-ups, every key
 * derivation, decryption, checksum and encryption of the exchange, one sendto. No parsing, no encoding, no
 * policy, no records; the bytes mean nothing, their sizes are those of real exchanges without a PAC. OpenSSL
 * is used directly, algorithms fetched once and contexts used again; only krbtgt's derived keys are kept. The
 * realm's encryption type is 18 (RFC 3962) or 20 (RFC 8009). */
#include "arguments.h"

#include <arpa/inet.h>
#include <lmdb.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum { KEY_N = 32, BLOCK = 16, MAC_MAX = 48, RECORD = 300 };
/* Ciphertext without confounder and tag, or the bytes under a checksum, in an exchange of one-component names
 * in a realm of ten letters, one encryption type throughout. */
enum {
    N_TIMESTAMP = 26,
    N_AS_REQ = 250,
    N_TICKET_PART = 180,
    N_REPLY_PART = 215,
    N_AUTHENTICATOR = 140,
    N_TGS_BODY = 100,
    N_ERROR = 155,
    N_AS_REP = 640,
    N_TGS_REP = 569,
};

/* What differs between the two types. */
struct profile {
    int32_t etype;
    const char *digest;
    size_t mac_key_n; /* of Ki and Kc */
    size_t mac_n;
};

struct floor {
    const struct profile *profile;
    EVP_CIPHER *cts, *cbc;
    EVP_MAC *hmac;
    EVP_CIPHER_CTX *derive, *cipher, *kept_cipher, *kept_decipher;
    EVP_MAC_CTX *mac, *kept_mac, *derive_mac;
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *txn;
    uint32_t users;
    uint64_t chance;
    uint8_t pool[4096];
    size_t pool_left;
    uint8_t text[4096], sealed[4096];
};

_Noreturn static void die(const char *what)
{
    fprintf(stderr, "bench-floor: %s\n", what);
    exit(1);
}

static void must(bool ok, const char *what)
{
    if (!ok)
        die(what);
}

static void draw(struct floor *f, uint8_t *p, size_t n)
{
    if (f->pool_left < n) {
        must(getrandom(f->pool, sizeof f->pool, 0) == (ssize_t)sizeof f->pool, "getrandom");
        f->pool_left = sizeof f->pool;
    }
    f->pool_left -= n;
    memcpy(p, f->pool + f->pool_left, n);
}

/* ---- RFC 3962's and RFC 8009's operations ---- */

static bool sha2(const struct floor *f)
{
    return f->profile->etype == 20;
}

static void load_base(struct floor *f, const uint8_t key[KEY_N])
{
    must(sha2(f) ? EVP_MAC_init(f->derive_mac, key, KEY_N, NULL)
                 : EVP_EncryptInit_ex2(f->derive, f->cbc, key, NULL, NULL) &&
                       EVP_CIPHER_CTX_set_padding(f->derive, 0),
         "base key");
}

static void finish_mac(struct floor *f, EVP_MAC_CTX *m, uint8_t *out)
{
    size_t done;

    must(EVP_MAC_final(m, out, &done, f->profile->mac_n), "mac");
}

/* Type 18, DK: two blocks, the second encrypts the first one's result, which is CBC over a constant and a
 * zero block. Type 20, KDF-HMAC-SHA2: one HMAC over counter, label, zero and the length in bits. */
static void derive(struct floor *f, uint8_t usage, uint8_t which, uint8_t out[MAC_MAX])
{
    static const uint8_t zero[BLOCK];
    uint8_t in[KEY_N] = {usage, which};
    uint8_t label[14] = {0, 0, 0, 1, 0, 0, 0, usage, which, 0, 0, 0, which == 0xaa, which == 0xaa ? 0 : 192};
    int n;

    if (sha2(f)) {
        must(EVP_MAC_init(f->derive_mac, NULL, 0, NULL) && EVP_MAC_update(f->derive_mac, label, sizeof label),
             "derive");
        finish_mac(f, f->derive_mac, out);
        return;
    }
    must(EVP_EncryptInit_ex2(f->derive, NULL, NULL, zero, NULL) &&
             EVP_EncryptUpdate(f->derive, out, &n, in, KEY_N),
         "derive");
}

static void run_cipher(EVP_CIPHER_CTX *c, const EVP_CIPHER *with, const uint8_t *key, int encrypt,
                       const uint8_t *in, uint8_t *out, size_t n)
{
    static const uint8_t zero[BLOCK];
    int done;

    must(EVP_CipherInit_ex2(c, with, key, zero, encrypt, NULL) && EVP_CipherUpdate(c, out, &done, in, (int)n),
         "cipher");
}

static void begin_mac(struct floor *f, EVP_MAC_CTX *m, const uint8_t *key)
{
    must(EVP_MAC_init(m, key, key ? f->profile->mac_key_n : 0, NULL), "mac");
}

static void checksum(struct floor *f, uint8_t usage, size_t n)
{
    uint8_t kc[MAC_MAX], tag[MAC_MAX];

    derive(f, usage, 0x99, kc);
    begin_mac(f, f->mac, kc);
    must(EVP_MAC_update(f->mac, f->text, n), "checksum");
    finish_mac(f, f->mac, tag);
}

/* The tag of an encryption: over the plain text with type 18, over the zero initial vector and the ciphertext
 * with type 20; so that one is made before encrypting and after decrypting, the other the other way round. */
static void tag(struct floor *f, EVP_MAC_CTX *m, const uint8_t *ki, size_t n, uint8_t *out)
{
    static const uint8_t iv[BLOCK];

    begin_mac(f, m, ki);
    must(sha2(f) ? EVP_MAC_update(m, iv, BLOCK) && EVP_MAC_update(m, f->sealed, BLOCK + n)
                 : EVP_MAC_update(m, f->text, BLOCK + n),
         "tag");
    finish_mac(f, m, out);
}

/* With keys derived from the base key that was loaded last. */
static void encrypt_new(struct floor *f, uint8_t usage, size_t n)
{
    uint8_t ke[MAC_MAX], ki[MAC_MAX];

    derive(f, usage, 0xaa, ke);
    derive(f, usage, 0x55, ki);
    draw(f, f->text, BLOCK);
    run_cipher(f->cipher, f->cts, ke, 1, f->text, f->sealed, BLOCK + n);
    tag(f, f->mac, ki, n, f->sealed + BLOCK + n);
}

static void decrypt_new(struct floor *f, uint8_t usage, size_t n)
{
    uint8_t ke[MAC_MAX], ki[MAC_MAX], computed[MAC_MAX];

    derive(f, usage, 0xaa, ke);
    derive(f, usage, 0x55, ki);
    run_cipher(f->cipher, f->cts, ke, 0, f->sealed, f->text, BLOCK + n);
    tag(f, f->mac, ki, n, computed);
}

static void encrypt_kept(struct floor *f, size_t n)
{
    draw(f, f->text, BLOCK);
    run_cipher(f->kept_cipher, NULL, NULL, 1, f->text, f->sealed, BLOCK + n);
    tag(f, f->kept_mac, NULL, n, f->sealed + BLOCK + n);
}

static void decrypt_kept(struct floor *f, size_t n)
{
    uint8_t computed[MAC_MAX];

    run_cipher(f->kept_decipher, NULL, NULL, 0, f->sealed, f->text, BLOCK + n);
    tag(f, f->kept_mac, NULL, n, computed);
}

/* ---- look-ups ---- */

static uint32_t next_user(struct floor *f)
{
    f->chance ^= f->chance << 13;
    f->chance ^= f->chance >> 7;
    f->chance ^= f->chance << 17;
    return (uint32_t)(f->chance % f->users);
}

static void look_up(struct floor *f, uint8_t key[KEY_N])
{
    uint32_t i = next_user(f);
    MDB_val k = {sizeof i, &i}, v;

    must(mdb_get(f->txn, f->dbi, &k, &v) == 0, "a record is missing");
    memcpy(key, v.mv_data, KEY_N);
}

static void fill_database(struct floor *f, const char *dir)
{
    MDB_txn *t;
    uint8_t record[RECORD];

    must(mdb_env_create(&f->env) == 0 && mdb_env_set_mapsize(f->env, (size_t)4 << 30) == 0 &&
             mdb_env_open(f->env, dir, MDB_NOSYNC, 0600) == 0 && mdb_txn_begin(f->env, NULL, 0, &t) == 0 &&
             mdb_dbi_open(t, NULL, MDB_INTEGERKEY, &f->dbi) == 0,
         "database");
    for (uint32_t i = 0; i < f->users; i++) {
        MDB_val k = {sizeof i, &i}, v = {sizeof record, record};

        draw(f, record, sizeof record);
        must(mdb_put(t, f->dbi, &k, &v, 0) == 0, "database is full");
    }
    must(mdb_txn_commit(t) == 0 && mdb_txn_begin(f->env, NULL, MDB_RDONLY, &f->txn) == 0, "database");
}

/* ---- the exchanges ---- */

static size_t do_echo(struct floor *f)
{
    (void)f;
    return N_ERROR;
}

/* Client: timestamp (usage 1), checksum over the request (56), reply (3). krbtgt: ticket (2). */
static size_t do_as(struct floor *f)
{
    uint8_t client[KEY_N], session[KEY_N];

    look_up(f, client);
    load_base(f, client);
    decrypt_new(f, 1, N_TIMESTAMP);
    draw(f, session, sizeof session);
    encrypt_kept(f, N_TICKET_PART);
    checksum(f, 56, N_AS_REQ);
    encrypt_new(f, 3, N_REPLY_PART);
    return N_AS_REP;
}

/* krbtgt: the TGT (2). Session key: authenticator (7), checksum over the body (6). Service: its ticket (2).
 * Subkey: reply (9). */
static size_t do_tgs(struct floor *f)
{
    uint8_t client[KEY_N], service[KEY_N], session[KEY_N];

    decrypt_kept(f, N_TICKET_PART);
    load_base(f, f->text);
    decrypt_new(f, 7, N_AUTHENTICATOR);
    checksum(f, 6, N_TGS_BODY);
    look_up(f, client);
    look_up(f, service);
    draw(f, session, sizeof session);
    load_base(f, service);
    encrypt_new(f, 2, N_TICKET_PART);
    load_base(f, session);
    encrypt_new(f, 9, N_REPLY_PART);
    return N_TGS_REP;
}

typedef size_t exchange_fn(struct floor *f);

static void init(struct floor *f)
{
    static const uint8_t key[KEY_N] = {7}, zero[BLOCK];
    OSSL_PARAM digest[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t)f->profile->digest, 0),
        OSSL_PARAM_construct_end()};

    f->cts = EVP_CIPHER_fetch(NULL, "AES-256-CBC-CTS", NULL);
    f->cbc = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    f->hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    f->derive = EVP_CIPHER_CTX_new();
    f->cipher = EVP_CIPHER_CTX_new();
    f->kept_cipher = EVP_CIPHER_CTX_new();
    f->kept_decipher = EVP_CIPHER_CTX_new();
    f->mac = EVP_MAC_CTX_new(f->hmac);
    f->kept_mac = EVP_MAC_CTX_new(f->hmac);
    f->derive_mac = EVP_MAC_CTX_new(f->hmac);
    must(f->cts && f->cbc && f->mac && f->kept_mac && f->derive_mac, "OpenSSL");
    must(EVP_MAC_init(f->mac, key, f->profile->mac_key_n, digest) &&
             EVP_MAC_init(f->kept_mac, key, f->profile->mac_key_n, digest) &&
             EVP_MAC_init(f->derive_mac, key, KEY_N, digest) &&
             EVP_CipherInit_ex2(f->kept_cipher, f->cts, key, zero, 1, NULL) &&
             EVP_CipherInit_ex2(f->kept_decipher, f->cts, key, zero, 0, NULL),
         "OpenSSL");
    f->chance = 88172645463325252u;
}

static int listen_on(uint16_t port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    must(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0, "cannot bind");
    return fd;
}

_Noreturn static void serve(struct floor *f, int fd, exchange_fn *exchange)
{
    static uint8_t in[65536];

    for (;;) {
        struct sockaddr_in from;
        socklen_t n = sizeof from;

        if (recvfrom(fd, in, sizeof in, 0, (struct sockaddr *)&from, &n) < 0)
            continue;
        sendto(fd, f->sealed, exchange(f), 0, (struct sockaddr *)&from, n);
    }
}

/* Without a socket, for micro-benchmarks and callgrind. */
static void spin(struct floor *f, exchange_fn *exchange, uint32_t count)
{
    while (count--)
        exchange(f);
}

_Noreturn static void usage(void)
{
    fputs("usage: bench-floor --kind echo|as|tgs --dir DIRECTORY [--users N] [--type 18|20]\n"
          "                   (--port PORT | --spin COUNT)\n",
          stderr);
    exit(2);
}

static bool find_exchange(const char *name, exchange_fn **out)
{
    static const struct {
        const char *name;
        exchange_fn *fn;
    } known[] = {
        {"echo", do_echo},
        {"as",   do_as  },
        {"tgs",  do_tgs },
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0) {
            *out = known[i].fn;
            return true;
        }
    return false;
}

static const struct profile *find_profile(int32_t etype)
{
    static const struct profile known[] = {
        {18, "SHA1",   KEY_N, 20},
        {20, "SHA384", 24,    48},
    };

    return &known[etype == 20];
}

struct wish {
    exchange_fn *exchange;
    const char *dir;
    uint32_t users, port, count;
    int32_t etype;
};

static bool set(void *into, int letter, const char *value)
{
    struct wish *w = into;

    switch (letter) {
    case 'k':
        return find_exchange(value, &w->exchange);
    case 'd':
        w->dir = value;
        return true;
    case 'u':
        return bench_read_number(value, UINT32_MAX, &w->users);
    case 't':
        return bench_read_etype(value, &w->etype);
    case 'p':
        return bench_read_number(value, UINT16_MAX, &w->port);
    default:
        return bench_read_number(value, UINT32_MAX, &w->count);
    }
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"kind",  1, NULL, 'k'},
        {"dir",   1, NULL, 'd'},
        {"users", 1, NULL, 'u'},
        {"type",  1, NULL, 't'},
        {"port",  1, NULL, 'p'},
        {"spin",  1, NULL, 's'},
        {NULL,    0, NULL, 0  },
    };
    static struct floor f;
    struct wish w = {.users = 10, .etype = 18};

    if (bench_read_options(argc, argv, names, set, &w) != argc || !w.exchange || !w.dir ||
        (w.port == 0) == (w.count == 0))
        usage();
    f.users = w.users;
    f.profile = find_profile(w.etype);
    init(&f);
    fill_database(&f, w.dir);
    if (w.count == 0)
        serve(&f, listen_on((uint16_t)w.port), w.exchange);
    spin(&f, w.exchange, w.count);
    return 0;
}
