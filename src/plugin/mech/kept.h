/* SPDX-License-Identifier: MIT */
/* What outlives a call: idle blocks and crypto backends, random bytes, and what was read from files, by their
 * stamps (docs/decisions/0010). */
#ifndef SP_PLUGIN_MECH_KEPT_H
#define SP_PLUGIN_MECH_KEPT_H

#include "plugin/mech/engine.h"

#include <sys/stat.h>

#define KEPT_IDLE_US (300 * INT64_C(1000000)) /* what nobody used for so long is dropped */

/* ---- kept.c ---- */
/* One lock for all of it. Held for copying alone, never across a call that might wait; a fork waits for it,
 * so that a child finds everything whole. */
void kept_lock(void);
void kept_unlock(void);
/* Pages for secrets: not in core files. NULL when memory ran out; munmap ends it. */
void *kept_map(size_t n);

/* ---- stamp.c ---- */
/* Says whether a file is still the one that was read, and whether the same user asks. */
struct kept_stamp {
    bool there;
    uid_t asker; /* effective uid */
    dev_t dev;
    ino_t inode;
    off_t size;
    struct timespec written, changed;
};
void kept_stamp_file(const char *path, uid_t asker, struct kept_stamp *out);
bool kept_same_stamp(const struct kept_stamp *a, const struct kept_stamp *b);
bool kept_is_unchanged(const char *path, const struct kept_stamp *s);
/* Another change of this file would show in its stamp: false when the last one is too recent for that, and
 * for files that other machines may write. */
bool kept_may_keep(const char *path, const struct kept_stamp *s);
/* "FILE:/path" and "/path" as a path; NULL for every other type. */
const char *kept_path_of(const char *name);

#endif
