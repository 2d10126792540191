/* SPDX-License-Identifier: MIT */
/* Stamps of files. */
#include "plugin/mech/kept.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#define ZFS_MAGIC 0x2fc12fc1
#define XFS_MAGIC 0x58465342
#define TICK_US INT64_C(50000)     /* several times what separates a kernel's times of files */
#define COARSE_US INT64_C(2100000) /* where times have no fraction */

void kept_stamp_file(const char *path, uid_t asker, struct kept_stamp *out)
{
    struct stat st;

    *out = (struct kept_stamp){.asker = asker};
    if (stat(path, &st) != 0)
        return;
    out->there = true;
    out->dev = st.st_dev;
    out->inode = st.st_ino;
    out->size = st.st_size;
    out->written = st.st_mtim;
    out->changed = st.st_ctim;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool kept_same_stamp(const struct kept_stamp *a, const struct kept_stamp *b)
{
    return a->there == b->there && a->asker == b->asker && a->dev == b->dev && a->inode == b->inode &&
           a->size == b->size && same_time(&a->written, &b->written) && same_time(&a->changed, &b->changed);
}

/* stat(2) on a network's file system may answer from memory; those that are named here do not. */
static bool is_local(const char *path)
{
    struct statfs fs;

    if (statfs(path, &fs) != 0)
        return false;
    switch ((uint32_t)fs.f_type) {
    case EXT4_SUPER_MAGIC:
    case XFS_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case ZFS_MAGIC:
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
    case OVERLAYFS_SUPER_MAGIC:
        return true;
    default:
        return false;
    }
}

static int64_t age_us(const struct timespec *t)
{
    return host_env().wall_us - ((int64_t)t->tv_sec * 1000000 + t->tv_nsec / 1000);
}

bool kept_may_keep(const char *path, const struct kept_stamp *s)
{
    bool coarse = s->written.tv_nsec == 0 && s->changed.tv_nsec == 0;

    return s->there && age_us(&s->changed) > (coarse ? COARSE_US : TICK_US) && is_local(path);
}

bool kept_is_unchanged(const char *path, const struct kept_stamp *s)
{
    struct kept_stamp now;

    kept_stamp_file(path, s->asker, &now);
    return kept_same_stamp(s, &now);
}

const char *kept_path_of(const char *name)
{
    if (strncmp(name, "FILE:", 5) == 0)
        return name + 5;
    return name[0] == '/' ? name : NULL;
}
