/* SPDX-License-Identifier: MIT */
#include "host/rcache.h"

#include "krb/codes.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEED_N 16
#define TAG_N 12
#define RECORD_N (TAG_N + 4)
#define FIRST_SLOTS 1023
#define FILE_MAX INT32_MAX
#define IDLE_MAX 4
#define IDLE_PATH_ROOM 512 /* files with longer names are opened every time */

/* ---- SipHash-2-4 (Aumasson, Bernstein 2012) of one tag ---- */

struct sip {
    uint64_t a, b, c, d;
};

static uint64_t left(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static void rounds(struct sip *s, int count)
{
    while (count-- > 0) {
        s->a += s->b;
        s->c += s->d;
        s->b = left(s->b, 13) ^ s->a;
        s->d = left(s->d, 16) ^ s->c;
        s->a = left(s->a, 32);
        s->c += s->b;
        s->a += s->d;
        s->b = left(s->b, 17) ^ s->c;
        s->d = left(s->d, 21) ^ s->a;
        s->c = left(s->c, 32);
    }
}

static uint64_t le64(const uint8_t *p, size_t n)
{
    uint64_t v = 0;

    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static uint64_t siphash(const uint8_t seed[SEED_N], const uint8_t tag[TAG_N])
{
    uint64_t k0 = le64(seed, 8), k1 = le64(seed + 8, 8);
    uint64_t m[2] = {le64(tag, 8), le64(tag + 8, TAG_N - 8) | (uint64_t)TAG_N << 56};
    struct sip s = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du, k0 ^ 0x6c7967656e657261u,
                    k1 ^ 0x7465646279746573u};

    for (int i = 0; i < 2; i++) {
        s.d ^= m[i];
        rounds(&s, 2);
        s.a ^= m[i];
    }
    s.c ^= 0xff;
    rounds(&s, 4);
    return s.a ^ s.b ^ s.c ^ s.d;
}

/* ---- the file ---- */

static bool failed(const char *what, struct sp_err *e)
{
    return sp_fail(e, SP_EBACKEND, 0, "replay cache: %s: %s", what, strerror(errno));
}

static bool read_seed(int fd, uint8_t seed[SEED_N], struct sp_err *e)
{
    ssize_t n = pread(fd, seed, SEED_N, 0);

    if (n == SEED_N)
        return true;
    if (n < 0)
        return failed("reading", e);
    return (getrandom(seed, SEED_N, 0) == SEED_N && pwrite(fd, seed, SEED_N, 0) == SEED_N) ||
           failed("starting", e);
}

struct slot {
    uint8_t tag[TAG_N];
    uint32_t time; /* 0: never used */
};

/* What lies beyond the end of the file was never used. */
static bool read_slots(int fd, off_t at, struct slot out[2], struct sp_err *e)
{
    uint8_t raw[2 * RECORD_N] = {0};

    if (pread(fd, raw, sizeof raw, at) < 0)
        return failed("reading", e);
    for (size_t i = 0; i < 2; i++) {
        const uint8_t *p = raw + i * RECORD_N;

        memcpy(out[i].tag, p, TAG_N);
        p += TAG_N;
        out[i].time = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    }
    return true;
}

static bool write_slot(int fd, off_t at, const uint8_t tag[TAG_N], uint32_t now, struct sp_err *e)
{
    uint8_t raw[RECORD_N];

    memcpy(raw, tag, TAG_N);
    for (int i = 0; i < 4; i++)
        raw[TAG_N + i] = (uint8_t)(now >> (24 - 8 * i));
    return pwrite(fd, raw, sizeof raw, at) == (ssize_t)sizeof raw || failed("writing", e);
}

/* Tables of 1023, 2048, 4096... slots follow each other; the tag may be in one of two slots of each, and is
 * looked for until a slot was never used. Written into the first that is free or whose time is over. The
 * index is taken modulo the number of slots: MIT's page says one less, its library since 1.18 does not. */
static bool note(int fd, uint8_t seed[SEED_N], const uint8_t tag[TAG_N], uint32_t now, uint32_t skew,
                 struct sp_err *e)
{
    off_t table = SEED_N, slots = FIRST_SLOTS, room = -1;

    for (; table + slots * RECORD_N <= FILE_MAX; seed[0]++) {
        off_t at = table + (off_t)(siphash(seed, tag) % (uint64_t)slots) * RECORD_N;
        struct slot v[2];

        if (!read_slots(fd, at, v, e))
            return false;
        for (int i = 0; i < 2; i++, at += RECORD_N) {
            if (v[i].time && memcmp(v[i].tag, tag, TAG_N) == 0)
                return sp_fail(e, SP_EREFUSED, KRB_AP_ERR_REPEAT, "this authenticator was seen before");
            if (room < 0 && (!v[i].time || (int32_t)(now - (v[i].time + skew)) > 0))
                room = at;
            if (!v[i].time)
                return write_slot(fd, room, tag, now, e);
        }
        table += slots * RECORD_N;
        slots = slots == FIRST_SLOTS ? 2 * (FIRST_SLOTS + 1) : 2 * slots;
    }
    return sp_fail(e, SP_EFULL, 0, "replay cache: too large");
}

/* ---- descriptors that stay open ----
 *
 * One that is in use belongs to its thread alone, as its lock does: the lock is that of the open file, so two
 * threads with two descriptors exclude each other, and a process and its child must not share one. */

struct opened {
    int fd;
    dev_t dev;
    ino_t inode;
};
static struct {
    bool used;
    char path[IDLE_PATH_ROOM];
    struct opened file;
} * idle; /* IDLE_MAX of them, in pages that are empty in a child */
static pthread_mutex_t lock =
    PTHREAD_MUTEX_INITIALIZER; /* never waited for: it may be held for good in a child */
static pthread_once_t prepared = PTHREAD_ONCE_INIT;

static void close_idle(void)
{
    if (!idle || pthread_mutex_trylock(&lock) != 0)
        return;
    for (size_t i = 0; i < IDLE_MAX; i++) {
        if (idle[i].used)
            (void)close(idle[i].file.fd);
        idle[i].used = false;
    }
    (void)pthread_mutex_unlock(&lock);
}

static void prepare(void)
{
    size_t n = IDLE_MAX * sizeof *idle;
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return;
    if (madvise(p, n, MADV_WIPEONFORK) != 0 || pthread_atfork(close_idle, NULL, NULL) != 0)
        (void)munmap(p, n);
    else
        idle = p;
}

static bool take_idle(const char *path, struct opened *out)
{
    bool found = false;

    (void)pthread_once(&prepared, prepare);
    if (!idle || pthread_mutex_trylock(&lock) != 0)
        return false;
    for (size_t i = 0; i < IDLE_MAX && !found; i++) {
        found = idle[i].used && strcmp(idle[i].path, path) == 0;
        if (found) {
            *out = idle[i].file;
            idle[i].used = false;
        }
    }
    (void)pthread_mutex_unlock(&lock);
    return found;
}

/* One of another file makes room: the last place is that of who comes last. */
static void give_idle(const char *path, const struct opened *file)
{
    int over = file->fd;
    size_t at = 0;

    if (idle && strlen(path) < IDLE_PATH_ROOM && pthread_mutex_trylock(&lock) == 0) {
        while (at < IDLE_MAX - 1 && idle[at].used)
            at++;
        over = idle[at].used ? idle[at].file.fd : -1;
        idle[at].used = true;
        idle[at].file = *file;
        memcpy(idle[at].path, path, strlen(path) + 1);
        (void)pthread_mutex_unlock(&lock);
    }
    if (over >= 0)
        (void)close(over);
}

/* Nobody else's file, and no link to one. */
static bool open_file(const char *path, uid_t user, struct opened *out, struct sp_err *e)
{
    struct stat st;

    out->fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (out->fd < 0)
        return failed(path, e);
    if (fstat(out->fd, &st) == 0 && st.st_uid == user && S_ISREG(st.st_mode)) {
        out->dev = st.st_dev;
        out->inode = st.st_ino;
        return true;
    }
    (void)close(out->fd);
    return sp_fail(e, SP_EBACKEND, 0, "replay cache: %s is not ours", path);
}

static bool is_it(const struct opened *f, const struct stat *st)
{
    return st->st_dev == f->dev && st->st_ino == f->inode;
}

/* The program may have closed our descriptor and got its number for something else: then it is not ours to
 * close. The path may lead to another file by now. */
static bool is_still(const char *path, uid_t user, const struct opened *f)
{
    struct stat there, held;

    if (fstat(f->fd, &held) != 0 || !is_it(f, &held))
        return false;
    if (lstat(path, &there) == 0 && is_it(f, &there) && there.st_uid == user)
        return true;
    (void)close(f->fd);
    return false;
}

static bool get_file(const char *path, uid_t user, struct opened *out, struct sp_err *e)
{
    return (take_idle(path, out) && is_still(path, user, out)) || open_file(path, user, out, e);
}

static bool lock_as(int fd, short type, struct sp_err *e)
{
    struct flock whole = {.l_type = type, .l_whence = SEEK_SET};
    int got;

    do
        got = fcntl(fd, F_OFD_SETLKW, &whole);
    while (got != 0 && errno == EINTR);
    return got == 0 || failed("locking", e);
}

struct replay {
    uint8_t tag[TAG_N];
    uint32_t now, skew;
    uid_t user;
};

static bool note_in(const char *path, const struct replay *r, struct sp_err *e)
{
    struct sp_err unlocking = {0};
    uint8_t seed[SEED_N];
    struct opened f;
    bool ok;

    if (!get_file(path, r->user, &f, e))
        return false;
    ok =
        lock_as(f.fd, F_WRLCK, e) && read_seed(f.fd, seed, e) && note(f.fd, seed, r->tag, r->now, r->skew, e);
    if (lock_as(f.fd, F_UNLCK, &unlocking))
        give_idle(path, &f);
    else
        (void)close(f.fd);
    return ok;
}

/* As libkrb5 chooses it: KRB5RCACHEDIR, then TMPDIR, then /var/tmp; named by the effective uid. */
static bool default_path(uid_t user, char *out, size_t max, struct sp_err *e)
{
    const char *dir = secure_getenv("KRB5RCACHEDIR");

    if (!dir)
        dir = secure_getenv("TMPDIR");
    return snprintf(out, max, "%s/krb5_%lu.rcache2", dir ? dir : "/var/tmp", (unsigned long)user) <
               (int)max ||
           sp_fail(e, SP_EBACKEND, 0, "replay cache: a long path");
}

bool host_note_replay(const char *name, struct sp_span tag, int64_t now_s, int32_t skew_s, struct sp_err *e)
{
    struct replay r = {.now = (uint32_t)now_s, .skew = (uint32_t)skew_s};
    char path[PATH_MAX];

    memcpy(r.tag, tag.p, tag.n < TAG_N ? tag.n : TAG_N);
    if (!name)
        name = secure_getenv("KRB5RCACHENAME");
    if (name && strncmp(name, "none:", 5) == 0)
        return true;
    r.user = geteuid();
    if (name && strncmp(name, "file2:", 6) == 0)
        return note_in(name + 6, &r, e);
    if (name && strcmp(name, "dfl:") != 0 && strcmp(name, "dfl") != 0)
        return sp_fail(e, SP_EBACKEND, 0, "replay cache: unknown type in %s", name);
    return default_path(r.user, path, sizeof path, e) && note_in(path, &r, e);
}
