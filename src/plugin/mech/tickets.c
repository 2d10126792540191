/* SPDX-License-Identifier: MIT */
/* Tickets of credential caches, read once and shared while the file is the same. */
#include "plugin/mech/kept.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define CACHES_MAX 8
#define ROOM_N (KRB_CCACHE_MAX + LIB_TICKETS_MAX * sizeof(struct krb_credential))

/* Nothing of it changes once others can see it, but for `users` and, under the lock, `used_us`. */
struct mech_tickets {
    atomic_uint users;
    struct krb_ccache cache;
    struct sp_arena mem;
    struct kept_stamp stamp;
    char *path;
    int64_t used_us;
};

static struct mech_tickets *kept[CACHES_MAX];

const struct krb_ccache *mech_cache_of(const struct mech_tickets *t)
{
    return &t->cache;
}

static struct mech_tickets *new_tickets(struct sp_err *e)
{
    struct mech_tickets *t = calloc(1, sizeof *t);
    void *room = kept_map(ROOM_N);

    if (!t || !room) {
        if (room)
            (void)munmap(room, ROOM_N);
        free(t);
        (void)sp_fail(e, SP_ENOMEM, 0, "out of memory");
        return NULL;
    }
    sp_arena_init(&t->mem, room, ROOM_N);
    atomic_init(&t->users, 1);
    return t;
}

void mech_drop_tickets(struct mech_tickets *t)
{
    if (!t || atomic_fetch_sub(&t->users, 1) != 1)
        return;
    sp_arena_reset(&t->mem);
    (void)munmap(t->mem.p, ROOM_N);
    free(t->path);
    free(t);
}

/* ---- what is kept ---- */

/* The one that is asked for, unless its file changed; what nobody needs any more goes to `over`. */
static struct mech_tickets *find(const char *path, const struct kept_stamp *stamp, int64_t now_us,
                                 struct mech_tickets *over[CACHES_MAX])
{
    struct mech_tickets *found = NULL;

    for (size_t i = 0; i < CACHES_MAX; i++) {
        struct mech_tickets *t = kept[i];
        bool asked = t && strcmp(t->path, path) == 0;

        if (asked && kept_same_stamp(&t->stamp, stamp)) {
            t->used_us = now_us;
            atomic_fetch_add(&t->users, 1);
            found = t;
        } else if (t && (asked || now_us - t->used_us > KEPT_IDLE_US)) {
            over[i] = t;
            kept[i] = NULL;
        }
    }
    return found;
}

static void drop_all(struct mech_tickets *over[CACHES_MAX])
{
    for (size_t i = 0; i < CACHES_MAX; i++)
        mech_drop_tickets(over[i]);
}

static struct mech_tickets *recall(const char *path, const struct kept_stamp *stamp)
{
    struct mech_tickets *over[CACHES_MAX] = {NULL}, *found;
    int64_t now_us = host_env().mono_us;

    kept_lock();
    found = find(path, stamp, now_us, over);
    kept_unlock();
    drop_all(over);
    return found;
}

/* A place that is free, else that of the one which was used longest ago. */
static size_t choose_place(void)
{
    size_t best = 0;

    for (size_t i = 0; i < CACHES_MAX; i++) {
        if (!kept[i])
            return i;
        if (kept[i]->used_us < kept[best]->used_us)
            best = i;
    }
    return best;
}

static void keep(struct mech_tickets *t)
{
    struct mech_tickets *over[CACHES_MAX] = {NULL}, *same;
    size_t at;

    t->used_us = host_env().mono_us;
    kept_lock();
    same = find(t->path, &t->stamp, t->used_us, over); /* another thread was first */
    if (!same) {
        at = choose_place();
        over[at] = over[at] ? over[at] : kept[at];
        atomic_fetch_add(&t->users, 1);
        kept[at] = t;
    }
    kept_unlock();
    drop_all(over);
    mech_drop_tickets(same);
}

/* ---- reading ---- */

static struct mech_tickets *read_anew(struct lib *l, const char *ccache, struct sp_err *e)
{
    struct mech_tickets *t = lib_open(l, e) ? new_tickets(e) : NULL;

    if (t && lib_read_ccache(l, ccache, &t->mem, &t->cache, e))
        return t;
    mech_drop_tickets(t);
    return NULL;
}

bool mech_get_tickets(struct lib *l, const char *ccache, struct mech_tickets **out, struct sp_err *e)
{
    const char *path = kept_path_of(ccache);
    struct kept_stamp stamp = {0};
    bool keepable;

    if (path)
        kept_stamp_file(path, geteuid(), &stamp);
    *out = path ? recall(path, &stamp) : NULL; /* what was of a file that is gone goes */
    if (*out)
        return true;
    keepable = path && kept_may_keep(path, &stamp);
    *out = read_anew(l, ccache, e);
    if (!*out || !keepable || !kept_is_unchanged(path, &stamp))
        return *out != NULL;
    (*out)->stamp = stamp;
    (*out)->path = strdup(path);
    if ((*out)->path)
        keep(*out);
    return true;
}
