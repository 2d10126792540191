/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admin/private.h"

enum { MEM = 2 << 20, EACH = 256 << 10 };

bool admin_file_failed(const char *path, struct sp_err *e)
{
    if (errno == EACCES || errno == EPERM)
        return sp_fail(e, SP_EREFUSED, ADMIN_NOT_PERMITTED,
                       "%s: %m; run this as root or as the daemon's user", path);
    return sp_fail(e, errno == ENOSPC ? SP_EFULL : SP_EBACKEND, 0, "%s: %m", path);
}

/* ---- the lock: one writer (decision 4) ---- */

/* Only for the text that the next one gets: without it the lock holds as well. */
static void note_holder(int fd)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());

    if (pwrite(fd, text, (size_t)n, 0) == n)
        (void)!ftruncate(fd, n);
}

static void name_holder(int fd, const char *path, struct sp_err *e)
{
    char text[32] = "", name[32] = "", comm[64];
    long pid = pread(fd, text, sizeof text - 1, 0) > 0 ? strtol(text, NULL, 10) : 0;
    FILE *f;

    snprintf(comm, sizeof comm, "/proc/%ld/comm", pid);
    f = pid > 0 ? fopen(comm, "re") : NULL;
    if (f && fgets(name, sizeof name, f))
        name[strcspn(name, "\n")] = 0;
    if (f)
        fclose(f);
    if (name[0])
        sp_fail(e, SP_EREFUSED, strcmp(name, "sallyportd") == 0 ? ADMIN_SERVED : ADMIN_BUSY,
                "%s: held by another process: %s, pid %ld; end that one first, or use another --root", path,
                name, pid);
    else
        sp_fail(e, SP_EREFUSED, ADMIN_BUSY, "%s: held by another process; try again in a moment", path);
}

void admin_announce_end(const struct admin *a)
{
    if (a->lock_fd > 0)
        (void)!ftruncate(a->lock_fd, 0);
}

bool admin_lock(const struct admin_paths *p, int *fd, struct sp_err *e)
{
    char path[4300];

    snprintf(path, sizeof path, "%s/lock", p->state);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*fd < 0 && errno == ENOENT)
        return sp_fail(e, SP_ENOTFOUND, 0, "%s: no instance here; run %s", p->state,
                       admin_command(p, "init").text);
    if (*fd < 0)
        return admin_file_failed(path, e);
    if (*fd < 3) { /* started with closed standard streams */
        int low = *fd;

        *fd = fcntl(low, F_DUPFD_CLOEXEC, 3);
        close(low);
        if (*fd < 0)
            return admin_file_failed(path, e);
    }
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0) {
        note_holder(*fd);
        return true;
    }
    if (errno == EWOULDBLOCK)
        name_holder(*fd, path, e);
    else
        admin_file_failed(path, e);
    close(*fd);
    *fd = -1;
    return false;
}

/* ---- the master key (decision 8) ---- */

static bool read_key(int fd, const char *path, uint8_t key[32], struct sp_err *e)
{
    uint8_t more[66];
    ssize_t n = read(fd, more, sizeof more);
    size_t hex_n = 0;
    bool ok = n == 32;

    if (ok) {
        memcpy(key, more, 32);
    } else if (n == 64 || (n == 65 && more[64] == '\n')) { /* hex, as people type it into a credential */
        ok = sp_unhex(sp_span(more, 64), key, 32, &hex_n) && hex_n == 32;
    }
    sp_wipe(more, sizeof more);
    return ok || sp_fail(e, SP_EBACKEND, 0, "%s: a master key is 32 bytes, or 64 hexadecimal digits", path);
}

static bool check_key_file(int fd, const char *path, struct sp_err *e)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return admin_file_failed(path, e);
    if (!S_ISREG(st.st_mode) || st.st_mode & 077)
        return sp_fail(e, SP_EREFUSED, 0, "%s: others may read it (mode %04o); chmod 600 it", path,
                       (unsigned)st.st_mode & 07777);
    if (st.st_uid != geteuid() && geteuid() != 0)
        return sp_fail(e, SP_EREFUSED, ADMIN_NOT_PERMITTED, "%s: belongs to uid %u", path, st.st_uid);
    return true;
}

static bool read_key_file(const struct admin_paths *p, const char *path, uint8_t key[32], struct sp_err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool ok;

    if (fd < 0 && errno == ENOENT)
        return sp_fail(e, SP_ENOTFOUND, 0, "%s: no master key; run %s, or restore it", path,
                       admin_command(p, "init").text);
    if (fd < 0)
        return admin_file_failed(path, e);
    ok = check_key_file(fd, path, e) && read_key(fd, path, key, e);
    close(fd);
    return ok;
}

static bool write_all(int fd, const void *p, size_t n)
{
    return write(fd, p, n) == (ssize_t)n && fsync(fd) == 0;
}

void admin_sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return;
    (void)fsync(fd);
    close(fd);
}

/* Whole or not there at all, before anything is sealed with it. The caller holds the lock. */
static bool make_key_file(const struct admin_paths *p, const char *path, uint8_t key[32], struct sp_err *e)
{
    char temp[4400];
    int fd;
    bool ok;

    snprintf(temp, sizeof temp, "%s.new", path);
    unlink(temp);
    fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return admin_file_failed(temp, e);
    sp_rng_fill(admin_system_rng(), key, 32);
    ok = write_all(fd, key, 32);
    close(fd);
    if (!ok || rename(temp, path) != 0)
        return admin_file_failed(path, e);
    admin_sync_dir(p->state);
    return true;
}

static bool has_accounts(const struct admin_paths *p)
{
    char path[4300];

    snprintf(path, sizeof path, "%s/accounts/data.mdb", p->state);
    return access(path, F_OK) == 0;
}

static bool read_credential(uint8_t key[32], bool *found, struct sp_err *e)
{
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    char path[4300];
    int fd;
    bool ok;

    *found = false;
    if (!dir || strlen(dir) > 4200)
        return true;
    snprintf(path, sizeof path, "%s/master-key", dir);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || admin_file_failed(path, e);
    *found = true;
    ok = read_key(fd, path, key, e);
    close(fd);
    return ok;
}

bool admin_get_master(const struct admin_paths *p, enum admin_key_mode mode, uint8_t key[32], char source[64],
                      struct sp_err *e)
{
    struct sp_err why = {0};
    char path[4300];
    bool found;

    if (!read_credential(key, &found, e))
        return false;
    snprintf(source, 64, found ? "credential" : "file");
    if (found)
        return true;
    snprintf(path, sizeof path, "%s/master.key", p->state);
    if (read_key_file(p, path, key, &why))
        return true;
    if (why.kind == SP_ENOTFOUND && mode == ADMIN_KEY_CREATE && !has_accounts(p))
        return make_key_file(p, path, key, e);
    if (why.kind == SP_ENOTFOUND &&
        has_accounts(p)) /* a new key would make every record unreadable for good */
        return sp_fail(e, SP_EBACKEND, 0,
                       "%s: the master key is gone; restore it, accounts are sealed with it", path);
    *e = why;
    return false;
}

/* ---- opening ---- */

static bool alloc_arena(struct sp_arena *a, size_t n, struct sp_err *e)
{
    void *p = malloc(n);

    if (!p)
        return sp_fail(e, SP_ENOMEM, 0, "no memory");
    sp_arena_init(a, p, n);
    return true;
}

bool admin_open_store(struct admin *a, enum lmdb_mode mode, struct sp_err *e)
{
    a->rng = admin_system_rng();
    if (!a->crypto)
        a->crypto = crypto_new(e);
    if (!a->crypto || !alloc_arena(&a->mem, MEM, e) || !alloc_arena(&a->each, EACH, e))
        return false;
    a->store = lmdb_open(a->paths.state, mode, a->master, a->crypto, a->rng, e);
    return a->store != NULL;
}

static void add_alias(struct admin_config *c, const char *name)
{
    if (name[0] && c->alias_count < sizeof c->aliases / sizeof c->aliases[0])
        snprintf(c->aliases[c->alias_count++], sizeof c->aliases[0], "%s", name);
}

bool admin_load_realm(struct admin *a, struct sp_err *e)
{
    struct sp_span realm, salt, secret;
    struct admin_host h;

    if (!lmdb_get_meta(a->store, "realm", &a->mem, &realm, e) ||
        !lmdb_get_meta(a->store, "salt", &a->mem, &salt, e) ||
        !lmdb_get_meta(a->store, "name-secret", &a->mem, &secret, e))
        return false;
    if (realm.n >= sizeof a->realm || secret.n != sizeof a->config.kdc.name_secret)
        return sp_fail(e, SP_EBACKEND, 0, "%s: the realm's own values are damaged", a->paths.state);
    snprintf(a->realm, sizeof a->realm, "%.*s", SP_FMT(realm));
    memcpy(a->config.kdc.name_secret, secret.p, secret.n);
    if (!a->config.salt_set)
        a->config.kdc.salt = sp_same(salt, SP_LIT("random")) ? KDC_SALT_RANDOM : KDC_SALT_DEFAULT;
    admin_find_host(&h);
    add_alias(&a->config, h.name);
    add_alias(&a->config, h.fqdn);
    admin_bind_config(&a->config, a->realm);
    sp_arena_reset(&a->mem);
    lmdb_settle(a->store);
    return true;
}

static bool open_all(struct admin *a, enum admin_mode mode, struct sp_err *e)
{
    struct sp_err why = {0};

    if (mode == ADMIN_WRITE && !admin_lock(&a->paths, &a->lock_fd, e))
        return false;
    if (!admin_read_config(&a->paths, &a->config, e) ||
        !admin_get_master(&a->paths, ADMIN_KEY_READ, a->master, a->master_key_source, e) ||
        !admin_open_store(a, mode == ADMIN_WRITE ? LMDB_WRITE : LMDB_READ, e))
        return false;
    if (admin_load_realm(a, &why))
        return true;
    if (why.kind == SP_ENOTFOUND)
        return sp_fail(e, SP_ENOTFOUND, 0, "%s: no realm yet; run %s", a->paths.state,
                       admin_command(&a->paths, "init").text);
    *e = why;
    return false;
}

bool admin_open_with(const struct admin_paths *p, enum admin_mode mode, struct crypto *c, struct admin *a,
                     struct sp_err *e)
{
    admin_wipe_json();
    *a = (struct admin){.paths = *p, .lock_fd = -1, .crypto = c};
    if (open_all(a, mode, e))
        return true;
    admin_close(a);
    return false;
}

bool admin_open(const struct admin_paths *p, enum admin_mode mode, struct admin *a, struct sp_err *e)
{
    return admin_open_with(p, mode, NULL, a, e);
}

static void free_arena(struct sp_arena *a)
{
    if (!a->p)
        return;
    sp_arena_reset(a);
    free(a->p);
}

void admin_close(struct admin *a)
{
    lmdb_close(a->store);
    crypto_free(a->crypto);
    free_arena(&a->mem);
    free_arena(&a->each);
    if (a->lock_fd > 0) /* 0 stands in a zeroed one; admin_lock never gives it */
        close(a->lock_fd);
    sp_wipe(a, sizeof *a);
    a->lock_fd = -1;
}

bool admin_reload(struct admin *a, struct sp_err *e)
{
    struct admin_config *old = malloc(sizeof *old);
    bool ok;

    if (!old)
        return sp_fail(e, SP_ENOMEM, 0, "no memory for the configuration");
    *old = a->config;
    ok = admin_read_config(&a->paths, &a->config, e) && admin_load_realm(a, e);
    if (!ok) {
        a->config = *old;
        admin_bind_config(&a->config, a->realm);
    }
    sp_wipe(old, sizeof *old);
    free(old);
    return ok;
}
