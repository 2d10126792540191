/* SPDX-License-Identifier: MIT */
/* A file that lost its end, by a copy that was cut off or a file system after a crash. The library maps it
 * and believes its own page numbers: reading past the end is SIGBUS, long after the open. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/lmdb/private.h"

bool lmdb_check_there(const char *dir, struct sp_err *e)
{
    char path[4400];
    struct stat st;

    snprintf(path, sizeof path, "%s/data.mdb", dir);
    if (stat(path, &st) != 0)
        return errno == ENOENT || errno == ENOTDIR
                   ? sp_fail(e, SP_ENOTFOUND, 0, "%s: there is no account store", dir)
                   : true; /* the library says what is wrong */
    return st.st_size > 0 || sp_fail(e, SP_EBACKEND, 0, "%s: is empty; copy it back from a backup", path);
}

static void touch(MDB_val v)
{
    const volatile uint8_t *p = v.mv_data;

    for (size_t i = 0; i < v.mv_size; i += 512)
        (void)p[i];
    if (v.mv_size)
        (void)p[v.mv_size - 1];
}

static bool touch_all(MDB_txn *txn, MDB_dbi dbi)
{
    MDB_cursor *at;
    MDB_val key, v;
    int rc = mdb_cursor_open(txn, dbi, &at);

    while (rc == 0 && (rc = mdb_cursor_get(at, &key, &v, MDB_NEXT)) == 0)
        touch(v);
    return rc == MDB_NOTFOUND;
}

/* In a process of its own, which may die of it. */
static bool can_be_read(const char *path, size_t map)
{
    static const char *const names[] = {NULL, "ids", "meta", "activity"};
    const MDB_dbi free_pages = 0; /* the library's own number for them */
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    bool ok;

    if (mdb_env_create(&env) != 0 || mdb_env_set_mapsize(env, map) != 0 || mdb_env_set_maxdbs(env, 4) != 0 ||
        mdb_env_open(env, path, MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS, 0) != 0 ||
        mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) != 0)
        return false;
    ok = touch_all(txn, free_pages);
    for (size_t i = 0; ok && i < sizeof names / sizeof names[0]; i++) {
        int rc = mdb_dbi_open(txn, names[i], 0, &dbi);

        ok = rc == MDB_NOTFOUND || (rc == 0 && touch_all(txn, dbi));
    }
    return ok;
}

static bool survives_reading(const char *path, size_t map)
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        (void)signal(SIGBUS, SIG_DFL);
        (void)signal(SIGSEGV, SIG_DFL);
        (void)signal(SIGABRT, SIG_DFL);
        _exit(can_be_read(path, map) ? 0 : 1);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status == 0;
}

/* Pages that were made and freed in one transaction are numbered and never written, so a good file may be
 * short of them: then, and only then, everything is read once. */
bool lmdb_check_whole(MDB_env *env, const char *path, enum lmdb_mode mode, struct sp_err *e)
{
    MDB_envinfo info;
    MDB_stat pages;
    struct stat st;
    int fd;

    if (mdb_env_info(env, &info) != 0 || mdb_env_stat(env, &pages) != 0 || mdb_env_get_fd(env, &fd) != 0 ||
        fstat(fd, &st) != 0)
        return sp_fail(e, SP_EBACKEND, 0, "%s/data.mdb: cannot be looked at", path);
    off_t whole = (off_t)(info.me_last_pgno + 1) * pages.ms_psize;

    if (st.st_size >= whole)
        return true;
    if (!survives_reading(path, info.me_mapsize))
        return sp_fail(e, SP_EBACKEND, 0, "%s/data.mdb: its end is missing; copy it back from a backup",
                       path);
    if (mode != LMDB_READ) /* the next one need not read it all */
        (void)!ftruncate(fd, whole);
    return true;
}
