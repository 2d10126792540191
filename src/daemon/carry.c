/* SPDX-License-Identifier: MIT */
/* What of the shared block outlives the keeper: familiar sources and replay windows. Written every minute and
 * at the end, so a crash loses at most the last minute of both. Hashes and the secrets they are made with; no
 * key and no reply. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/keeper.h"

#define CARRIED_MAX (4u << 20)

enum carried { SOURCES, REPLAYS, CARRIED_COUNT };
static const char *const names[CARRIED_COUNT] = {"sources", "replays"};

static void path_of(const struct admin_paths *p, enum carried what, const char *suffix, char out[4300])
{
    (void)snprintf(out, 4300, "%s/%s%s", p->state, names[what], suffix);
}

static size_t gather(const struct admin *a, enum carried what, uint8_t *buf)
{
    return what == SOURCES ? kdc_shared_save(a->shared, buf, CARRIED_MAX)
                           : kdc_shared_save_replays(a->shared, admin_env(), buf, CARRIED_MAX);
}

static bool write_whole(const char *path, struct sp_span bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0;

    while (ok && bytes.n) {
        ssize_t n = write(fd, bytes.p, bytes.n);
        ok = n > 0 || (n < 0 && errno == EINTR);
        if (n > 0)
            bytes = sp_span(bytes.p + n, bytes.n - (size_t)n);
    }
    if (fd >= 0)
        ok = close(fd) == 0 && ok;
    return ok;
}

static void save_one(const struct admin *a, enum carried what, uint8_t *buf)
{
    char path[4300], fresh[4300];

    path_of(&a->paths, what, "", path);
    path_of(&a->paths, what, ".new", fresh);
    if (!write_whole(fresh, sp_span(buf, gather(a, what, buf))) || rename(fresh, path) != 0)
        (void)unlink(fresh); /* a full disk: the old file is better than half a new one */
}

static void run_save(struct operator_job *job, struct admin *a)
{
    uint8_t *buf = malloc(CARRIED_MAX);

    (void)job;
    if (!buf)
        return;
    for (enum carried what = SOURCES; what < CARRIED_COUNT; what++)
        save_one(a, what, buf);
    free(buf);
}

static void free_job(struct operator_job *job)
{
    free(job);
}

void carry_save(struct keeper *k)
{
    struct operator_job *j = calloc(1, sizeof *j);

    if (!j)
        return;
    *j = (struct operator_job){.run = run_save, .done = free_job};
    if (!operator_submit(&k->operator, j))
        free(j);
}

static size_t read_whole(const char *path, uint8_t *buf)
{
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(buf, 1, CARRIED_MAX, f) : 0;

    if (f)
        (void)fclose(f);
    return n;
}

void carry_load(struct keeper *k)
{
    uint8_t *buf = malloc(CARRIED_MAX);
    char path[4300];

    if (!buf)
        return;
    path_of(&k->paths, SOURCES, "", path);
    kdc_shared_load(k->admin.shared, sp_span(buf, read_whole(path, buf)));
    path_of(&k->paths, REPLAYS, "", path);
    kdc_shared_load_replays(k->admin.shared, admin_env(), sp_span(buf, read_whole(path, buf)));
    free(buf);
}
