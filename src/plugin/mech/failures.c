/* SPDX-License-Identifier: MIT */
/* What this process learnt the hard way: a target that cannot carry our messages is not asked again for a
 * while, so that a negotiation goes on to its next mechanism at once. Only failures that another try would
 * repeat are kept: never those that depend on a password. */
#include "plugin/mech/engine.h"

#include "plugin/mech/kept.h"

#define KEPT 64
#define KEPT_US (30 * INT64_C(1000000))
#define NAME_ROOM 256

struct failure {
    char pair[2 * NAME_ROOM]; /* client and target */
    int64_t until_us;
    struct sp_err why;
};
static struct {
    struct failure v[KEPT];
    unsigned next;
    atomic_uint ever; /* 0: nothing was ever kept, and no lock is needed to see that */
} memory;

static bool name_pair(const struct mech_cred *cred, const struct mech_name *target, char *room, size_t max)
{
    struct sp_text t = sp_text(room, max);

    if (cred->name)
        mech_text_name(&t, cred->name);
    sp_text_str(&t, " to ");
    mech_text_name(&t, target);
    return !t.cut;
}

static bool repeats(const struct sp_err *why)
{
    return why->proto == KRB_AP_ERR_IAKERB_KDC_NOT_FOUND || why->proto == KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE ||
           why->proto == KCTX_BAD_MECH;
}

static struct failure *find(const char *pair)
{
    for (unsigned i = 0; i < KEPT; i++)
        if (memory.v[i].until_us && strcmp(memory.v[i].pair, pair) == 0)
            return &memory.v[i];
    return NULL;
}

bool mech_failed_lately(const struct mech_cred *cred, const struct mech_name *target, struct sp_err *e)
{
    char pair[2 * NAME_ROOM];
    int64_t now = host_env().mono_us;
    bool failed = false;

    if (atomic_load(&memory.ever) == 0 || !name_pair(cred, target, pair, sizeof pair))
        return false;
    kept_lock();
    const struct failure *f = find(pair);
    if (f && f->until_us > now) {
        *e = f->why;
        failed = true;
    }
    kept_unlock();
    return failed;
}

static void keep(const char *pair, const struct sp_err *why)
{
    struct failure *f = find(pair);

    if (!f && why)
        f = &memory.v[memory.next++ % KEPT];
    if (!f)
        return;
    *f = (struct failure){0};
    if (!why)
        return;
    atomic_store(&memory.ever, 1);
    memcpy(f->pair, pair, strlen(pair) + 1);
    f->why = *why;
    f->until_us = host_env().mono_us + KEPT_US;
}

static void note(const struct mech_cred *cred, const struct mech_name *target, const struct sp_err *why)
{
    char pair[2 * NAME_ROOM];

    if (!name_pair(cred, target, pair, sizeof pair))
        return;
    kept_lock();
    keep(pair, why);
    kept_unlock();
}

void mech_note_failure(const struct mech_cred *cred, const struct mech_name *target, const struct sp_err *why)
{
    if (repeats(why))
        note(cred, target, why);
}

void mech_note_success(const struct mech_cred *cred, const struct mech_name *target)
{
    if (atomic_load(&memory.ever) != 0)
        note(cred, target, NULL);
}
