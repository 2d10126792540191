/* SPDX-License-Identifier: MIT */
/* Credential caches in the kernel's keyrings, in the layout that MIT uses (ccache type KEYRING): an anchor
 * keyring holds a collection keyring, which holds a keyring for each cache and a key that names the primary
 * one; a cache holds a key for its principal and one for each ticket. Names: persistent:UID[:CACHE],
 * user:NAME[:CACHE], session:NAME[:CACHE]. */
#include <errno.h>
#include <limits.h>
#include <linux/keyctl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/secret.h"
#include "host/ccache_internal.h"
#include "krb/name.h"

#define PRIMARY "krb_ccache:primary"
#define PRINCIPAL "__krb5_princ__"
#define OFFSETS "__krb5_time_offsets__"
#define NAME_LENGTH 256
#define KEYS_MAX (KRB_CCACHE_CREDS_MAX + 2)

struct place {
    char anchor[16], collection[NAME_LENGTH], cache[NAME_LENGTH]; /* cache empty: the primary one */
};

static int32_t add(const char *type, const char *name, struct sp_span payload, int32_t to)
{
    return (int32_t)syscall(SYS_add_key, type, name, payload.n ? payload.p : NULL, payload.n, to);
}

static int32_t find(int32_t in, const char *type, const char *name)
{
    return (int32_t)syscall(SYS_keyctl, KEYCTL_SEARCH, in, type, name, 0);
}

static long read_key(int32_t key, void *p, size_t n)
{
    return syscall(SYS_keyctl, KEYCTL_READ, key, p, n);
}

static bool failed(struct sp_err *e, const char *what, const struct host_ccache *cc)
{
    return sp_fail(e, errno == EDQUOT ? SP_EFULL : SP_EBACKEND, 0,
                   "%.60s cannot be %s: %s; name another --cache", cc->name, what, strerror(errno));
}

static bool take_part(const char **at, char *out, size_t max)
{
    size_t n = strcspn(*at, ":");

    if (n >= max)
        return false;
    memcpy(out, *at, n);
    out[n] = 0;
    *at += n + ((*at)[n] == ':');
    return true;
}

static bool take_place(const struct host_ccache *cc, struct place *p, struct sp_err *e)
{
    static const char *const anchors[] = {"persistent", "user", "session"};
    const char *at = cc->rest;

    if (strchr(at, ':') && take_part(&at, p->anchor, sizeof p->anchor) &&
        take_part(&at, p->collection, sizeof p->collection) && strlen(at) < sizeof p->cache)
        for (size_t i = 0; i < sizeof anchors / sizeof anchors[0]; i++)
            if (strcmp(p->anchor, anchors[i]) == 0) {
                snprintf(p->cache, sizeof p->cache, "%s", at);
                return true;
            }
    return sp_fail(e, SP_EREFUSED, 0,
                   "%.60s: keyrings are persistent:UID, user:NAME and session:NAME; name one with --cache",
                   cc->name);
}

/* A session without a keyring of its own has the user's session keyring, which may not be written under that
 * name. */
static int32_t session_anchor(void)
{
    long s = syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);
    long u = syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_SESSION_KEYRING, 0);

    return s == u ? KEY_SPEC_USER_SESSION_KEYRING : KEY_SPEC_SESSION_KEYRING;
}

static int32_t anchor_of(const struct place *p)
{
    uint64_t uid = geteuid();

    if (p->anchor[0] == 'u')
        return KEY_SPEC_USER_KEYRING;
    if (p->anchor[0] == 's')
        return session_anchor();
    if (p->collection[0] && !sp_decimal(sp_str(p->collection), UINT32_MAX, &uid)) {
        errno = EINVAL;
        return -1;
    }
    return (int32_t)syscall(SYS_keyctl, KEYCTL_GET_PERSISTENT, (uid_t)uid, KEY_SPEC_PROCESS_KEYRING);
}

static int32_t find_or_make(int32_t in, const char *name)
{
    int32_t k = find(in, "keyring", name);

    return k != -1 ? k : add("keyring", name, sp_span(NULL, 0), in);
}

static int32_t collection_of(const struct place *p)
{
    char name[NAME_LENGTH + 8];
    int32_t anchor = anchor_of(p);

    if (anchor == -1)
        return -1;
    snprintf(name, sizeof name, p->anchor[0] == 'p' ? "_krb" : "_krb_%s", p->collection);
    return find_or_make(anchor, name);
}

/* Version 1 and a counted name, both numbers of four bytes, big-endian. */
static void find_primary(int32_t collection, struct place *p)
{
    uint8_t b[8 + NAME_LENGTH] = {0};
    int32_t key = find(collection, "user", PRIMARY);
    long n = key == -1 ? -1 : read_key(key, b, sizeof b);

    snprintf(p->cache, sizeof p->cache, "%s", p->collection); /* MIT's name for the first one */
    if (!p->collection[0])
        snprintf(p->cache, sizeof p->cache, "%u", (unsigned)geteuid());
    if (n > 8 && n <= (long)sizeof b && b[3] == 1 && b[7] == n - 8 && b[7] < NAME_LENGTH - 1)
        snprintf(p->cache, sizeof p->cache, "%.*s", (int)b[7], (const char *)b + 8);
}

static bool set_primary(int32_t collection, const struct place *p)
{
    uint8_t b[8 + NAME_LENGTH] = {0, 0, 0, 1, 0, 0, 0, (uint8_t)strlen(p->cache)};
    size_t n = strlen(p->cache);

    memcpy(b + 8, p->cache, n);
    return n < 256 && add("user", PRIMARY, sp_span(b, 8 + n), collection) != -1;
}

static bool open_place(const struct host_ccache *cc, struct place *p, int32_t *collection, struct sp_err *e)
{
    *p = (struct place){0};
    if (!take_place(cc, p, e))
        return false;
    *collection = collection_of(p);
    if (*collection == -1)
        return failed(e, "reached", cc);
    if (!p->cache[0])
        find_primary(*collection, p);
    return true;
}

/* ---- reading: the same bytes as in a file, with its header before them ---- */

static bool append_key(int32_t key, uint8_t *all, size_t *n, struct sp_err *e)
{
    long got = read_key(key, all + *n, KRB_CCACHE_MAX - *n);

    if (got < 0 || (size_t)got > KRB_CCACHE_MAX - *n)
        return sp_fail(e, SP_EBACKEND, 0,
                       "a key of the credential cache cannot be read; run 'sallyport login'");
    *n += (size_t)got;
    return true;
}

static bool append_tickets(int32_t cache, int32_t principal, struct sp_arena *mem, uint8_t *all, size_t *n,
                           struct sp_err *e)
{
    int32_t offsets = find(cache, "user", OFFSETS);
    int32_t *keys = sp_new_array(mem, int32_t, KEYS_MAX, e);
    long bytes = keys ? read_key(cache, keys, KEYS_MAX * sizeof *keys) : 0;
    bool ok = keys != NULL;

    for (long i = 0; ok && i < bytes / (long)sizeof *keys && i < KEYS_MAX; i++)
        ok = keys[i] == principal || keys[i] == offsets || append_key(keys[i], all, n, e);
    return ok;
}

bool host_read_keyring(const struct host_ccache *cc, struct sp_arena *mem, struct krb_ccache *out,
                       struct sp_err *e)
{
    static const uint8_t header[4] = {5, 4, 0, 0};
    size_t n = sizeof header;
    int32_t collection;
    struct place p;

    if (!open_place(cc, &p, &collection, e))
        return false;
    int32_t cache = find(collection, "keyring", p.cache);
    int32_t principal = cache == -1 ? -1 : find(cache, "user", PRINCIPAL);
    if (principal == -1)
        return sp_fail(e, SP_ENOTFOUND, 0, "there is no credential cache %.80s; run 'sallyport login'",
                       cc->name);
    uint8_t *all = sp_alloc(mem, KRB_CCACHE_MAX, e);
    if (!all)
        return false;
    memcpy(all, header, n);
    return append_key(principal, all, &n, e) && append_tickets(cache, principal, mem, all, &n, e) &&
           krb_get_ccache(sp_span(all, n), mem, out, e);
}

/* ---- writing ---- */

/* What a file of this principal holds behind its header. */
bool host_principal_bytes(const struct krb_ccache *what, struct sp_arena *mem, struct sp_span *out,
                          struct sp_err *e)
{
    struct krb_ccache empty = {.principal = what->principal, .realm = what->realm};
    struct sp_span file;

    if (!krb_put_ccache(&empty, mem, &file, e))
        return false;
    size_t head = 4u + (size_t)(file.p[2] << 8 | file.p[3]);
    *out = sp_span(file.p + head, file.n - head);
    return true;
}

/* A ticket may be larger than what a plain key takes; kernels without the larger kind have the plain one. */
static bool put_ticket(int32_t cache, const struct krb_credential *c, struct sp_arena *mem, struct sp_err *e)
{
    char name[KRB_NAME_TEXT_MAX];
    struct sp_text t = sp_text(name, sizeof name);
    int64_t left = c->endtime - time(NULL);
    struct sp_span bytes;

    if (!krb_put_credential(c, mem, &bytes, e))
        return false;
    krb_text_principal(&t, &c->server, c->srealm);
    int32_t key = add("big_key", name, bytes, cache);
    if (key == -1)
        key = add("user", name, bytes, cache);
    if (key == -1)
        return sp_fail(e, errno == EDQUOT ? SP_EFULL : SP_EBACKEND, 0,
                       "the keyring does not take the ticket: %s", strerror(errno));
    if (left > 0 && left < UINT32_MAX)
        (void)syscall(SYS_keyctl, KEYCTL_SET_TIMEOUT, key, (uint32_t)left);
    return true;
}

static bool put_offsets(int32_t cache, const struct krb_ccache *what)
{
    uint32_t v[2] = {(uint32_t)what->offset_s, (uint32_t)what->offset_us};
    uint8_t b[8];

    for (int i = 0; i < 8; i++)
        b[i] = (uint8_t)(v[i / 4] >> (24 - 8 * (i % 4)));
    return (what->offset_s == 0 && what->offset_us == 0) || add("user", OFFSETS, sp_span(b, 8), cache) != -1;
}

static bool fill(int32_t cache, const struct host_ccache *cc, const struct krb_ccache *what,
                 struct sp_arena *mem, struct sp_err *e)
{
    struct sp_span principal;

    if (!host_principal_bytes(what, mem, &principal, e))
        return false;
    if (syscall(SYS_keyctl, KEYCTL_CLEAR, cache) != 0 || add("user", PRINCIPAL, principal, cache) == -1 ||
        !put_offsets(cache, what))
        return failed(e, "written", cc);
    for (uint32_t i = 0; i < what->count; i++)
        if (!put_ticket(cache, &what->v[i], mem, e))
            return false;
    return true;
}

bool host_write_keyring(const struct host_ccache *cc, const struct krb_ccache *what, struct sp_arena *mem,
                        struct sp_err *e)
{
    int32_t collection;
    struct place p;

    if (!open_place(cc, &p, &collection, e))
        return false;
    int32_t cache = find_or_make(collection, p.cache);
    if (cache == -1)
        return failed(e, "made", cc);
    if (!fill(cache, cc, what, mem, e)) {
        (void)syscall(SYS_keyctl, KEYCTL_CLEAR, cache); /* no half of a cache */
        return false;
    }
    return set_primary(collection, &p) || failed(e, "made the primary one", cc);
}
