/* SPDX-License-Identifier: MIT */
/* Accounts on their way to another machine (decision 22), and backups.
 *
 * The text:
 *   sallyport-accounts 1 scrypt n=32768 r=8 p=1 salt=HEX32 nonce=HEX24
 *   base64 lines of at most 76 characters
 *
 * The bytes behind base64 are AES-256-GCM with the 32-byte key scrypt(passphrase, salt), the nonce, and the
 * header line without its line end as associated data. Inside: one JSON object per line, each an account:
 *   {"name","kind","generation","flags","aliases":[],"keys":[{"etype","kvno","iterations","salt","key"}],"created","changed",
 *    "expires","password_expires","life","renew","creator","comment","unknown"}
 * kind and flags are the numbers of store.h, times are Unix seconds; key, salt (null with random keys) and
 * unknown are hex. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admin/private.h"

enum { WRAP = 76, PASSPHRASE_MIN = 8 };

struct seal {
    struct crypto_scrypt cost;
    uint8_t salt[16], nonce[CRYPTO_SEAL_NONCE];
};

/* ---- one account as JSON ---- */

static void add_hex(cJSON *to, const char *key, struct sp_span s)
{
    size_t max = 2 * s.n + 1;
    char *buf = malloc(max);
    struct sp_text t;

    if (!buf)
        return;
    t = sp_text(buf, max);
    sp_text_hex(&t, s);
    cJSON_AddStringToObject(to, key, buf);
    sp_wipe(buf, max);
    free(buf);
}

static void export_keys(cJSON *to, const struct store_account *acc)
{
    cJSON *list = cJSON_AddArrayToObject(to, "keys");

    for (uint32_t i = 0; i < acc->key_count; i++) {
        const struct store_key *k = &acc->keys[i];
        cJSON *o = cJSON_CreateObject();

        cJSON_AddNumberToObject(o, "etype", k->key.etype);
        cJSON_AddNumberToObject(o, "kvno", k->kvno);
        cJSON_AddNumberToObject(o, "iterations", k->iterations);
        if (k->salt.p)
            add_hex(o, "salt", k->salt);
        else
            cJSON_AddNullToObject(o, "salt");
        add_hex(o, "key", sp_span(k->key.b, k->key.n));
        cJSON_AddItemToArray(list, o);
    }
}

static cJSON *export_account(const struct store_account *acc)
{
    cJSON *o = cJSON_CreateObject(), *aliases;
    char buf[STORE_NAME_MAX + 1];

    admin_add_text(o, "name", acc->name);
    cJSON_AddNumberToObject(o, "kind", acc->kind);
    cJSON_AddNumberToObject(o, "generation", (double)acc->generation);
    cJSON_AddNumberToObject(o, "flags", acc->flags);
    aliases = cJSON_AddArrayToObject(o, "aliases");
    for (uint32_t i = 0; i < acc->aliases.count; i++) {
        snprintf(buf, sizeof buf, "%.*s", SP_FMT(acc->aliases.v[i]));
        cJSON_AddItemToArray(aliases, cJSON_CreateString(buf));
    }
    export_keys(o, acc);
    cJSON_AddNumberToObject(o, "created", (double)acc->created_s);
    cJSON_AddNumberToObject(o, "changed", (double)acc->changed_s);
    cJSON_AddNumberToObject(o, "expires", (double)acc->expires_s);
    cJSON_AddNumberToObject(o, "password_expires", (double)acc->password_expires_s);
    cJSON_AddNumberToObject(o, "life", acc->life_s);
    cJSON_AddNumberToObject(o, "renew", acc->renew_s);
    admin_add_text(o, "creator", acc->creator);
    admin_add_text(o, "comment", acc->comment);
    add_hex(o, "unknown", acc->unknown);
    return o;
}

/* ---- sealing ---- */

static int write_header(const struct seal *s, char *out, size_t max)
{
    char hex[80];
    struct sp_text t = sp_text(hex, sizeof hex);

    sp_text_hex(&t, sp_span(s->salt, sizeof s->salt));
    sp_text_str(&t, " nonce=");
    sp_text_hex(&t, sp_span(s->nonce, sizeof s->nonce));
    return snprintf(out, max, "sallyport-accounts 1 scrypt n=%llu r=%u p=%u salt=%s",
                    (unsigned long long)s->cost.n, s->cost.r, s->cost.p, hex);
}

/* Limits keep a hostile file from using up the machine. */
static bool read_header(struct sp_span line, struct seal *s, struct sp_err *e)
{
    char copy[256], salt[33], nonce[25], again[256];
    unsigned long long n;
    size_t salt_n = 0, nonce_n = 0;

    if (line.n >= sizeof copy)
        return sp_fail(e, SP_EINPUT, 0, "the first line is no header of an account export");
    snprintf(copy, sizeof copy, "%.*s", SP_FMT(line));
    if (strncmp(copy, "sallyport-accounts ", 19) == 0 && strncmp(copy + 19, "1 ", 2) != 0)
        return sp_fail(e, SP_EINPUT, 0, "the export has a format that this version does not know");
    /* NOLINTNEXTLINE(cert-err34-c): what was understood is written again below and has to be the same */
    if (sscanf(copy, "sallyport-accounts 1 scrypt n=%llu r=%u p=%u salt=%32[0-9a-f] nonce=%24[0-9a-f]", &n,
               &s->cost.r, &s->cost.p, salt, nonce) != 5)
        return sp_fail(e, SP_EINPUT, 0, "the first line is no header of an account export");
    s->cost.n = n;
    if (!sp_unhex(sp_str(salt), s->salt, sizeof s->salt, &salt_n) || salt_n != sizeof s->salt ||
        !sp_unhex(sp_str(nonce), s->nonce, sizeof s->nonce, &nonce_n) || nonce_n != sizeof s->nonce ||
        write_header(s, again, sizeof again) < 0 || strcmp(copy, again) != 0)
        return sp_fail(e, SP_EINPUT, 0, "the first line is no header of an account export");
    if (n < 2 || (n & (n - 1)) || n > 1 << 18 || s->cost.r == 0 || s->cost.r > 16 || s->cost.p == 0 ||
        s->cost.p > 4)
        return sp_fail(e, SP_EINPUT, 0, "the export asks for more work than is allowed");
    return true;
}

static bool get_passphrase(const cJSON *req, struct sp_span *out, struct sp_err *e)
{
    const char *text;

    if (!admin_arg(req, "passphrase", &text, e))
        return false;
    *out = sp_str(text);
    return out->n >= PASSPHRASE_MIN ||
           sp_fail(e, SP_EREFUSED, 0, "The passphrase must have at least %d bytes.", PASSPHRASE_MIN);
}

/* ---- account.export ---- */

struct growing {
    char *p;
    size_t n, cap;
    bool failed;
};

static void append(struct growing *g, const char *text, size_t n)
{
    if (n + 1 > g->cap - g->n) { /* not realloc: keys would stay behind in the freed block */
        size_t cap = (g->cap + n + 1) * 2;
        char *p = malloc(cap);

        if (!p) {
            g->failed = true;
            return;
        }
        if (g->n > 0)
            memcpy(p, g->p, g->n);
        if (g->p)
            sp_wipe(g->p, g->cap);
        free(g->p);
        g->p = p;
        g->cap = cap;
    }
    memcpy(g->p + g->n, text, n);
    g->n += n;
    g->p[g->n] = 0;
}

static void drop(struct growing *g)
{
    if (g->p)
        sp_wipe(g->p, g->cap);
    free(g->p);
    *g = (struct growing){0};
}

/* The realm's own keys stay where they are. */
static bool export_one(void *ctx, const struct store_account *acc, struct sp_err *e)
{
    struct growing *g = ctx;
    cJSON *o;
    char *line;

    if (acc->kind != STORE_USER && acc->kind != STORE_SERVICE)
        return true;
    o = export_account(acc);
    line = cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    if (line) {
        append(g, line, strlen(line));
        append(g, "\n", 1);
    }
    cJSON_free(line);
    return (line && !g->failed) || sp_fail(e, SP_ENOMEM, 0, "no memory for the export");
}

static bool seal_text(struct admin *a, struct sp_span passphrase, struct sp_span plain, cJSON *out,
                      struct sp_err *e)
{
    struct seal s = {
        .cost = {32768, 8, 1}
    };
    uint8_t key[32], *sealed = malloc(plain.n + CRYPTO_SEAL_OVERHEAD);
    char header[256], *body = NULL, *text = NULL;
    int n;
    bool ok = sealed != NULL;

    sp_rng_fill(a->rng, s.salt, sizeof s.salt);
    sp_rng_fill(a->rng, s.nonce, sizeof s.nonce);
    n = write_header(&s, header, sizeof header);
    ok = ok && crypto_scrypt(a->crypto, passphrase, sp_span(s.salt, sizeof s.salt), s.cost, key, e) &&
         crypto_seal(a->crypto, key, s.nonce, sp_span(header, (size_t)n), plain, sealed, e);
    sp_wipe(key, sizeof key);
    if (ok)
        body = admin_base64(sp_span(sealed, plain.n + CRYPTO_SEAL_OVERHEAD), WRAP);
    if (body && asprintf(&text, "%s\n%s", header, body) < 0)
        text = NULL;
    if (text)
        cJSON_AddStringToObject(out, "text", text);
    free(sealed);
    free(body);
    free(text);
    return ok ? text != NULL || sp_fail(e, SP_ENOMEM, 0, "no memory for the export") : false;
}

bool admin_export(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    struct growing g = {0};
    struct sp_span passphrase;
    bool ok;

    if (!get_passphrase(req, &passphrase, e))
        return false;
    ok = lmdb_each(a->store, &a->each, export_one, &g, e) &&
         seal_text(a, passphrase, sp_span(g.p ? g.p : "", g.n), out, e);
    drop(&g);
    return ok;
}

/* ---- account.import ---- */

struct import {
    struct admin *a;
    struct store_account *v;
    size_t count, cap;
    bool replace;
    cJSON *skipped;
};

static int64_t number_of(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    double d = cJSON_IsNumber(v) ? v->valuedouble : 0;

    return d >= -9e15 && d <= 9e15 ? (int64_t)d : 0;
}

static bool hex_of(struct admin *a, const cJSON *o, const char *key, struct sp_span *out, struct sp_err *e)
{
    const char *hex = admin_arg_or(o, key, NULL);
    size_t max, n = 0;
    uint8_t *p;

    *out = sp_span(NULL, 0);
    if (!hex)
        return true;
    max = strlen(hex) / 2;
    p = sp_alloc(&a->mem, max, e);
    if (!p)
        return false;
    if (!sp_unhex(sp_str(hex), p, max, &n))
        return sp_fail(e, SP_EINPUT, 0, "\"%s\" is not hexadecimal", key);
    *out = sp_span(p, n);
    return true;
}

static bool import_key(struct admin *a, const cJSON *o, struct store_key *k, struct sp_err *e)
{
    const struct crypto_type *type = crypto_find_type((int32_t)number_of(o, "etype"));
    struct sp_span key = {0};

    if (!type || !hex_of(a, o, "key", &key, e) || !key.p || key.n != type->key_n ||
        !hex_of(a, o, "salt", &k->salt, e))
        return sp_fail(e, SP_EINPUT, 0, "a key that is none of type 17, 18, 19 or 20");
    k->key.etype = type->etype;
    k->key.n = (uint8_t)key.n;
    k->key.keep = true;
    memcpy(k->key.b, key.p, key.n);
    k->kvno = (uint32_t)number_of(o, "kvno");
    k->iterations = (uint32_t)number_of(o, "iterations");
    return true;
}

static bool import_keys(struct admin *a, const cJSON *list, struct store_account *acc, struct sp_err *e)
{
    const cJSON *one;

    acc->keys = sp_new_array(&a->mem, struct store_key, STORE_KEYS_MAX, e);
    if (!acc->keys)
        return false;
    cJSON_ArrayForEach(one, list)
    {
        if (acc->key_count == STORE_KEYS_MAX)
            return sp_fail(e, SP_EINPUT, 0, "more than %d keys", STORE_KEYS_MAX);
        if (!import_key(a, one, &acc->keys[acc->key_count++], e))
            return false;
    }
    return acc->key_count > 0 || sp_fail(e, SP_EINPUT, 0, "an account without keys");
}

static bool text_of(struct admin *a, const cJSON *o, const char *key, struct sp_span *out, struct sp_err *e)
{
    *out = sp_dup(&a->mem, sp_str(admin_arg_or(o, key, "")), e);
    return out->p != NULL;
}

static bool import_fields(struct admin *a, const cJSON *o, struct store_account *acc, struct sp_err *e)
{
    struct admin_name n;
    const char *name;
    int64_t kind = number_of(o, "kind");

    if (kind != STORE_USER && kind != STORE_SERVICE)
        return sp_fail(e, SP_EINPUT, 0, "an account of kind %lld", (long long)kind);
    if (!admin_arg(o, "name", &name, e) || !admin_parse_name(a, name, &n, e))
        return false;
    *acc = (struct store_account){
        .kind = kind == STORE_USER ? STORE_USER : STORE_SERVICE, .name = n.text, .lookup = n.lookup};
    acc->generation = (uint64_t)number_of(o, "generation");
    acc->flags = (uint32_t)number_of(o, "flags");
    acc->created_s = number_of(o, "created");
    acc->changed_s = number_of(o, "changed");
    acc->expires_s = number_of(o, "expires");
    acc->password_expires_s = number_of(o, "password_expires");
    acc->life_s = (int32_t)number_of(o, "life");
    acc->renew_s = (int32_t)number_of(o, "renew");
    return import_keys(a, cJSON_GetObjectItemCaseSensitive(o, "keys"), acc, e) &&
           text_of(a, o, "creator", &acc->creator, e) && text_of(a, o, "comment", &acc->comment, e) &&
           hex_of(a, o, "unknown", &acc->unknown, e) &&
           admin_add_aliases(a, acc, cJSON_GetObjectItemCaseSensitive(o, "aliases"), e);
}

/* What happens to an account whose name is already here. False: leave it out. */
static bool place(struct import *im, struct store_account *acc)
{
    struct store_lookup *l = lmdb_lookup(im->a->store);
    struct store_account here;
    struct sp_err why = {0};
    char name[STORE_NAME_MAX + 1];

    if (!l->find(l, acc->lookup, &im->a->mem, &here, &why)) {
        acc->generation++;
        return true; /* free; or damaged, and then the commit says so */
    }
    if (im->replace && here.kind == acc->kind && sp_same(here.lookup, acc->lookup)) {
        acc->id = here.id;
        acc->generation = here.generation + 1; /* tickets of the replaced account end */
        return true;
    }
    snprintf(name, sizeof name, "%.*s", SP_FMT(acc->name));
    cJSON_AddItemToArray(im->skipped, cJSON_CreateString(name));
    return false;
}

static bool import_line(struct import *im, struct sp_span line, size_t number, struct sp_err *e)
{
    cJSON *o = cJSON_ParseWithLength((const char *)line.p, line.n);
    struct store_account *acc = &im->v[im->count];
    struct sp_err why = {0};
    bool ok = o && import_fields(im->a, o, acc, &why);

    cJSON_Delete(o);
    if (!ok)
        return sp_fail(e, why.kind ? why.kind : SP_EINPUT, 0, "account %zu of the export: %s", number,
                       why.text[0] ? why.text : "no JSON object");
    im->count += place(im, acc);
    return true;
}

static bool import_lines(struct import *im, struct sp_span plain, struct sp_err *e)
{
    size_t number = 0;

    while (plain.n > 0) {
        const uint8_t *end = memchr(plain.p, '\n', plain.n);
        size_t n = end ? (size_t)(end - plain.p) : plain.n;

        if (n > 0 && !import_line(im, sp_span(plain.p, n), ++number, e))
            return false;
        n += end != NULL;
        plain = sp_span(plain.p + n, plain.n - n);
    }
    return true;
}

static size_t count_lines(struct sp_span s)
{
    size_t n = 1;

    for (size_t i = 0; i < s.n; i++)
        n += s.p[i] == '\n';
    return n;
}

static bool import_plain(struct admin *a, struct sp_span plain, bool replace, cJSON *out, struct sp_err *e)
{
    size_t cap = count_lines(plain),
           room = 8 * plain.n + cap * (STORE_KEYS_MAX * sizeof(struct store_key) + 8192) + (1 << 20);
    struct import im = {
        .a = a, .cap = cap, .replace = replace, .skipped = cJSON_AddArrayToObject(out, "skipped")};
    struct sp_arena before = a->mem;
    void *block = malloc(room);
    bool ok;

    im.v = calloc(cap, sizeof *im.v);
    if (!im.v || !block) {
        free(im.v);
        free(block);
        return sp_fail(e, SP_ENOMEM, 0, "no memory for the import");
    }
    sp_arena_init(&a->mem, block, room);
    ok = import_lines(&im, plain, e) && lmdb_put_many(a->store, im.v, im.count, e);
    sp_arena_reset(&a->mem);
    a->mem = before;
    free(block);
    free(im.v);
    if (ok)
        cJSON_AddNumberToObject(out, "imported", (double)im.count);
    return ok;
}

static bool unseal_text(struct admin *a, struct sp_span passphrase, const char *text, uint8_t **plain,
                        size_t *n, struct sp_err *e)
{
    size_t line_n = strcspn(text, "\n"), sealed_n;
    struct sp_span header = sp_span(text, line_n > 0 && text[line_n - 1] == '\r' ? line_n - 1 : line_n);
    struct sp_err why = {0};
    struct seal s;
    uint8_t key[32], *sealed;
    bool ok;

    if (!read_header(header, &s, e))
        return false;
    sealed = admin_unbase64(text + line_n, &sealed_n);
    if (!sealed || sealed_n < CRYPTO_SEAL_OVERHEAD) {
        free(sealed);
        return sp_fail(e, SP_EINPUT, 0, "what follows the header is no base64, or cut off");
    }
    *n = sealed_n - CRYPTO_SEAL_OVERHEAD;
    *plain = malloc(*n + 1);
    ok = *plain && crypto_scrypt(a->crypto, passphrase, sp_span(s.salt, sizeof s.salt), s.cost, key, e) &&
         crypto_open(a->crypto, key, s.nonce, header, sp_span(sealed, sealed_n), *plain, &why);
    sp_wipe(key, sizeof key);
    free(sealed);
    return ok || sp_fail(e, SP_EREFUSED, 0, "the passphrase is wrong, or the export was altered");
}

bool admin_import(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    struct sp_span passphrase;
    const char *text;
    uint8_t *plain = NULL;
    size_t n = 0;
    bool ok;

    if (!admin_arg(req, "passphrase", &text, e))
        return false;
    passphrase = sp_str(text);
    if (!admin_arg(req, "text", &text, e))
        return false;
    ok = unseal_text(a, passphrase, text, &plain, &n, e) &&
         import_plain(a, sp_span(plain, n), admin_arg_is(req, "replace"), out, e);
    if (plain)
        sp_wipe(plain, n);
    free(plain);
    return ok;
}

/* ---- backup: sealed records only; the master key is not in it ---- */

/* Made when it is not there; false with errno. */
static bool can_write_into(const char *dir)
{
    struct stat st;

    if (mkdir(dir, 0700) == 0)
        return true;
    if (errno != EEXIST || stat(dir, &st) != 0)
        return false;
    errno = ENOTDIR;
    return S_ISDIR(st.st_mode) && access(dir, W_OK | X_OK) == 0;
}

/* With a keeper, the directory has to suit the keeper. */
static bool backup_refused(const struct admin *a, const char *dir, struct sp_err *e)
{
    if (a->shared && (errno == EACCES || errno == EPERM))
        return sp_fail(e, SP_EREFUSED, ADMIN_NOT_PERMITTED,
                       "%s: %m; sallyportd writes the copy, as uid %u: name a directory that is its own", dir,
                       (unsigned)geteuid());
    return admin_file_failed(dir, e);
}

bool admin_backup(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e)
{
    const char *dir;

    if (!admin_arg(req, "dir", &dir, e))
        return false;
    if (dir[0] != '/')
        return sp_fail(e, SP_EINPUT, 0, "\"%.80s\" is no absolute path", dir);
    if (!can_write_into(dir))
        return backup_refused(a, dir, e);
    if (!lmdb_backup(a->store, dir, e))
        return false;
    cJSON_AddStringToObject(out, "path", dir);
    return true;
}
