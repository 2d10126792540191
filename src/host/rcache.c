/* SPDX-License-Identifier: MIT */
#include "host/rcache.h"

#include "krb/codes.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEED_N 16
#define TAG_N 12
#define RECORD_N (TAG_N + 4)
#define FIRST_SLOTS 1023
#define FILE_MAX INT32_MAX

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

/* Nobody else's file, and no link to one. */
static int open_file(const char *path, struct sp_err *e)
{
    int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct stat st;

    if (fd < 0) {
        (void)failed(path, e);
        return -1;
    }
    if (fstat(fd, &st) == 0 && st.st_uid == geteuid() && S_ISREG(st.st_mode))
        return fd;
    (void)close(fd);
    (void)sp_fail(e, SP_EBACKEND, 0, "replay cache: %s is not ours", path);
    return -1;
}

/* The lock belongs to the open file, so threads exclude each other too; closing lets it go. */
static bool note_in(const char *path, const uint8_t tag[TAG_N], uint32_t now, uint32_t skew, struct sp_err *e)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    uint8_t seed[SEED_N];
    int fd = open_file(path, e), got;
    bool ok;

    if (fd < 0)
        return false;
    do
        got = fcntl(fd, F_OFD_SETLKW, &whole);
    while (got != 0 && errno == EINTR);
    ok = (got == 0 || failed("locking", e)) && read_seed(fd, seed, e) && note(fd, seed, tag, now, skew, e);
    (void)close(fd);
    return ok;
}

/* As libkrb5 chooses it: KRB5RCACHEDIR, then TMPDIR, then /var/tmp; named by the effective uid. */
static bool default_path(char *out, size_t max, struct sp_err *e)
{
    const char *dir = secure_getenv("KRB5RCACHEDIR");

    if (!dir)
        dir = secure_getenv("TMPDIR");
    return snprintf(out, max, "%s/krb5_%lu.rcache2", dir ? dir : "/var/tmp", (unsigned long)geteuid()) <
               (int)max ||
           sp_fail(e, SP_EBACKEND, 0, "replay cache: a long path");
}

bool host_note_replay(const char *name, struct sp_span tag, int64_t now_s, int32_t skew_s, struct sp_err *e)
{
    char path[PATH_MAX];
    uint8_t fixed[TAG_N] = {0};

    memcpy(fixed, tag.p, tag.n < TAG_N ? tag.n : TAG_N);
    if (!name)
        name = secure_getenv("KRB5RCACHENAME");
    if (name && strncmp(name, "none:", 5) == 0)
        return true;
    if (name && strncmp(name, "file2:", 6) == 0)
        return note_in(name + 6, fixed, (uint32_t)now_s, (uint32_t)skew_s, e);
    if (name && strcmp(name, "dfl:") != 0 && strcmp(name, "dfl") != 0)
        return sp_fail(e, SP_EBACKEND, 0, "replay cache: unknown type in %s", name);
    return default_path(path, sizeof path, e) && note_in(path, fixed, (uint32_t)now_s, (uint32_t)skew_s, e);
}
