/* SPDX-License-Identifier: MIT */
/* Making an instance. Every step may have been done by an earlier run that was cut off; the realm's name is
 * written last, so what has one is complete. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admin/private.h"

static bool check_realm(const char *realm, struct sp_err *e)
{
    size_t n = strlen(realm);

    if (n == 0 || n > 255)
        return sp_fail(e, SP_EINPUT, 0, "a realm has 1 to 255 characters");
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)realm[i]) && !strchr("._-", realm[i]))
            return sp_fail(e, SP_EINPUT, 0,
                           "\"%.60s\" cannot be a realm: letters, digits, dot, hyphen and underscore", realm);
    return true;
}

static void default_realm(char out[256])
{
    struct admin_host h;

    admin_find_host(&h);
    snprintf(out, 256, "%s", h.name);
    for (char *c = out; *c; c++)
        *c = (char)toupper((unsigned char)*c);
}

static bool make_dirs(const struct admin_paths *p, struct sp_err *e)
{
    return admin_make_dir(p->config_dir, 0755, e) && admin_make_dir(p->state, 0700, e) &&
           admin_make_dir(p->run, 0755, e) && admin_make_dir(p->log, 0750, e);
}

/* ---- begun, finished ---- */

static void marker_path(const struct admin_paths *p, char path[4300])
{
    snprintf(path, 4300, "%s/unfinished", p->state);
}

/* A master key without accounts: either an earlier run was cut off, and then its marker is here, or the
 * accounts got lost, and a realm made in their place would hide that. */
static bool check_nothing_lost(const struct admin_paths *p, struct sp_err *e)
{
    char accounts[4300], key[4300];

    snprintf(accounts, sizeof accounts, "%s/accounts", p->state);
    snprintf(key, sizeof key, "%s/master.key", p->state);
    if (access(key, F_OK) != 0 && access(accounts, F_OK) != 0)
        return true;
    return sp_fail(e, SP_EREFUSED, 0,
                   "%s: the accounts are gone; copy accounts/ and activity/ back from a backup, or move this "
                   "directory away",
                   p->state);
}

static bool has_accounts(const struct admin_paths *p)
{
    char data[4300];
    struct stat st;

    snprintf(data, sizeof data, "%s/accounts/data.mdb", p->state);
    return stat(data, &st) == 0 && st.st_size > 0;
}

static bool mark_begun(const struct admin_paths *p, struct sp_err *e)
{
    char path[4300];
    int fd;

    marker_path(p, path);
    if (has_accounts(p) || access(path, F_OK) == 0)
        return true;
    if (!check_nothing_lost(p, e))
        return false;
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return admin_file_failed(path, e);
    (void)fsync(fd);
    close(fd);
    admin_sync_dir(p->state);
    return true;
}

static void mark_finished(const struct admin_paths *p)
{
    char path[4300];

    marker_path(p, path);
    (void)unlink(path);
}

/* ---- the realm's own accounts ---- */

static bool add_own(struct admin *a, const char *text, enum store_kind kind, struct sp_err *e)
{
    struct store_key keys[4];
    struct store_account acc = {.generation = 1, .kind = kind, .keys = keys, .created_s = admin_now_s()};
    struct admin_name n;
    struct sp_err why = {0};
    bool ok;

    acc.changed_s = acc.created_s;
    acc.creator = SP_LIT("init");
    if (!admin_parse_name(a, text, &n, e) ||
        !kdc_make_random_keys(&a->config.kdc, a->rng, 1, NULL, 0, keys, &acc.key_count, e))
        return false;
    acc.name = n.text;
    acc.lookup = n.lookup;
    ok = lmdb_put(a->store, &acc, &why);
    sp_wipe(keys, sizeof keys);
    if (ok || why.kind == SP_EEXIST)
        return true;
    *e = why;
    return false;
}

static bool fill_store(struct admin *a, const char *realm, const char *salt, struct sp_err *e)
{
    uint8_t secret[32];
    char krbtgt[300];

    snprintf(krbtgt, sizeof krbtgt, "krbtgt/%s", realm);
    snprintf(a->realm, sizeof a->realm, "%s", realm);
    admin_bind_config(&a->config, a->realm);
    sp_rng_fill(a->rng, secret, sizeof secret);
    return add_own(a, krbtgt, STORE_KRBTGT, e) && add_own(a, "kadmin/changepw", STORE_CHANGEPW, e) &&
           lmdb_put_meta(a->store, "salt", sp_str(salt), e) &&
           lmdb_put_meta(a->store, "name-secret", sp_span(secret, sizeof secret), e) &&
           lmdb_put_meta(a->store, "realm", sp_str(realm), e);
}

/* ---- what a client needs to know (decision 58) ---- */

static void add_kdcs(struct sp_text *t, const struct admin *a)
{
    struct admin_host h;

    admin_find_host(&h);
    for (uint32_t i = 0; i < a->config.listen_count; i++) {
        const char *at = a->config.listen[i], *port = strrchr(at, ':');

        if (strncmp(at, "0.0.0.0:", 8) == 0 || strncmp(at, "[::]:", 5) == 0)
            sp_text_fmt(t, "        kdc = %s%s\n", h.fqdn[0] ? h.fqdn : h.name, port);
        else
            sp_text_fmt(t, "        kdc = %s\n", at);
    }
    for (uint32_t i = 0; i < a->config.listen_kpasswd_count; i++)
        sp_text_fmt(t, "        kpasswd_server = %s\n", a->config.listen_kpasswd[i]);
}

static void add_domains(struct sp_text *t, const struct admin *a)
{
    for (uint32_t i = 0; i < a->config.alias_count; i++)
        sp_text_fmt(t, "    %s = %s\n", a->config.aliases[i], a->realm);
    for (uint32_t i = 0; i < a->config.listen_count; i++) {
        char host[64];

        snprintf(host, sizeof host, "%s", a->config.listen[i]);
        *strrchr(host, ':') = 0;
        if (host[0] != '[' &&
            strcmp(host, "0.0.0.0") != 0) /* krb5.conf has no way to write an IPv6 address there */
            sp_text_fmt(t, "    %s = %s\n", host, a->realm);
    }
}

cJSON *admin_client_hint(const struct admin *a)
{
    cJSON *hint = cJSON_CreateObject();
    char buf[16384];
    struct sp_text t = sp_text(buf, sizeof buf);

    sp_text_fmt(
        &t,
        "[libdefaults]\n    default_realm = %s\n    rdns = false\n    dns_canonicalize_hostname = false\n"
        "    dns_lookup_kdc = false\n\n[realms]\n    %s = {\n",
        a->realm, a->realm);
    add_kdcs(&t, a);
    sp_text_str(&t, "    }\n\n[domain_realm]\n");
    add_domains(&t, a);
    cJSON_AddStringToObject(hint, "krb5_conf", buf);
    return hint;
}

/* ---- owner ---- */

static uid_t give_uid;
static gid_t give_gid;

/* A file with a second name may be somebody else's: the directory may belong to the daemon's user already. */
static int give(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)at;
    return kind == FTW_F && st->st_nlink > 1 ? 0 : lchown(path, give_uid, give_gid);
}

/* On the host itself root makes what the daemon's user will own; under --root, and without that user, the
 * files stay as they are. */
static bool give_away(const struct admin *a, struct sp_err *e)
{
    const struct passwd *pw;

    if (a->paths.root[0] || geteuid() != 0)
        return true;
    pw = getpwnam(a->config.user);
    if (!pw)
        return true;
    give_uid = pw->pw_uid;
    give_gid = pw->pw_gid;
    if (nftw(a->paths.state, give, 16, FTW_PHYS) == 0 && lchown(a->paths.log, give_uid, give_gid) == 0 &&
        lchown(a->paths.run, give_uid, give_gid) == 0)
        return true;
    return sp_fail(e, SP_EBACKEND, 0, "%s: giving it to %s: %m", a->paths.state, a->config.user);
}

/* ---- the operation ---- */

static bool check_same(struct admin *a, const char *realm, const char *salt, struct sp_err *e)
{
    struct sp_span stored;

    if (realm && strcmp(realm, a->realm) != 0)
        return sp_fail(e, SP_EEXIST, 0, "%.60s: the realm %.40s is already here; it cannot become %.40s",
                       a->paths.state, a->realm, realm);
    if (!salt)
        return true;
    if (!lmdb_get_meta(a->store, "salt", &a->mem, &stored, e))
        return false;
    if (!sp_same(stored, sp_str(salt)))
        return sp_fail(e, SP_EEXIST, 0, "the realm %.40s was made with salt = %.*s", a->realm,
                       SP_FMT(stored));
    return true;
}

static void warn_of_owner(cJSON *out, const struct admin *a)
{
    char text[300];

    if (a->paths.root[0] || geteuid() != 0 || getpwnam(a->config.user))
        return;
    snprintf(
        text, sizeof text,
        "there is no user \"%.60s\" ([daemon] user), so these files belong to root and the daemon cannot "
        "use them; make the user (systemd-sysusers), then run `sallyport init` again",
        a->config.user);
    cJSON_AddStringToObject(out, "warning", text);
}

static cJSON *view_init(const struct admin *a, bool created)
{
    cJSON *out = cJSON_CreateObject(), *paths = cJSON_CreateObject();

    cJSON_AddStringToObject(out, "realm", a->realm);
    cJSON_AddBoolToObject(out, "created", created);
    cJSON_AddStringToObject(out, "master_key", a->master_key_source);
    cJSON_AddStringToObject(paths, "config", a->paths.config);
    cJSON_AddStringToObject(paths, "state", a->paths.state);
    cJSON_AddStringToObject(paths, "run", a->paths.run);
    cJSON_AddStringToObject(paths, "log", a->paths.log);
    cJSON_AddItemToObject(out, "paths", paths);
    cJSON_AddItemToObject(out, "client_hint", admin_client_hint(a));
    warn_of_owner(out, a);
    return out;
}

static bool make(struct admin *a, const char *realm, const char *salt, cJSON **out, struct sp_err *e)
{
    struct sp_err why = {0};
    char name[256];
    bool created = false;

    if (!admin_read_config(&a->paths, &a->config, e) ||
        !admin_get_master(&a->paths, ADMIN_KEY_CREATE, a->master, a->master_key_source, e) ||
        !admin_open_store(a, LMDB_CREATE, e))
        return false;
    if (!admin_load_realm(a, &why)) {
        if (why.kind != SP_ENOTFOUND) {
            *e = why;
            return false;
        }
        default_realm(name);
        if (realm)
            snprintf(name, sizeof name, "%s", realm);
        if (!check_realm(name, e) || !fill_store(a, name, salt ? salt : "default", e) ||
            !admin_load_realm(a, e))
            return false;
        created = true;
    }
    if (!check_same(a, realm, salt, e) || !give_away(a, e))
        return false;
    *out = view_init(a, created);
    return true;
}

bool admin_init(const struct admin_paths *p, const cJSON *args, cJSON **out, struct sp_err *e)
{
    const char *realm = admin_arg_or(args, "realm", NULL), *salt = admin_arg_or(args, "salt", NULL);
    struct admin *a = calloc(1, sizeof *a);
    bool ok;

    if (!a)
        return sp_fail(e, SP_ENOMEM, 0, "no memory");
    admin_wipe_json();
    a->paths = *p;
    a->lock_fd = -1;
    if (salt && strcmp(salt, "default") != 0 && strcmp(salt, "random") != 0)
        ok = sp_fail(e, SP_EINPUT, 0, "--salt: \"%.40s\" is neither default nor random", salt);
    else
        ok = (!realm || check_realm(realm, e)) && make_dirs(p, e) && admin_lock(p, &a->lock_fd, e) &&
             mark_begun(p, e) && make(a, realm, salt, out, e);
    if (ok)
        mark_finished(p);
    admin_close(a);
    free(a);
    return ok;
}
