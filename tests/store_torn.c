/* SPDX-License-Identifier: MIT */
/* T114: power cuts. What the library writes while scripts of changes run is recorded, by standing in front of
 * its system calls; then the file is put together as every sort of power cut may leave it: since the last
 * completed sync any of the writes may be there or not, in any order, whole or by sectors of 512 bytes. Each
 * such file must open to the state before or after the change that was under way, and to the state after it
 * once its last sync had returned. SALLYPORT_TORN_SAMPLES: random cuts at each sync, default 12. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/text.h"
#include "store/lmdb/lmdb.h"
#include "store_rows.h"

enum { SCRIPTS = 20, CHANGES = 8, NAMES = 60, ENTRIES_MAX = 20000, CONTENT_MAX = 64000, SECTOR = 512 };

_Noreturn static void stop(const char *what, const char *why)
{
    fprintf(stderr, "FAILED: %s: %s\n", what, why);
    exit(1);
}

/* ---- recording ---- */

enum entry_kind { WRITTEN, WRITTEN_THROUGH, SYNCED, ACKNOWLEDGED };

struct entry {
    enum entry_kind kind;
    size_t at, n;
    uint8_t *data;
};

static struct entry entries[ENTRIES_MAX];
static size_t entry_count;
static ino_t recorded; /* the file of interest; 0: none */
static char trouble[100];

static bool is_recorded(int fd)
{
    struct stat st;

    return recorded && fstat(fd, &st) == 0 && st.st_ino == recorded;
}

static void note(enum entry_kind kind, size_t at, const void *p, size_t n)
{
    struct entry *x = &entries[entry_count++];

    if (entry_count == ENTRIES_MAX)
        stop("record", "too many writes");
    *x = (struct entry){kind, at, n, n ? malloc(n) : NULL};
    if (n && x->data)
        memcpy(x->data, p, n);
}

static void note_write(int fd, const void *p, size_t n, off_t at)
{
    if (is_recorded(fd))
        note(fcntl(fd, F_GETFL) & O_DSYNC ? WRITTEN_THROUGH : WRITTEN, (size_t)at, p, n);
}

/* The library's calls end here: a program's own symbols come before those of the C library. */
#define IN_FRONT_OF(name) __asm__(name) __attribute__((visibility("default"), used))
ssize_t torn_pwrite(int fd, const void *p, size_t n, off_t at) IN_FRONT_OF("pwrite");
ssize_t torn_writev(int fd, const struct iovec *v, int count) IN_FRONT_OF("writev");
int torn_fdatasync(int fd) IN_FRONT_OF("fdatasync");
int torn_fsync(int fd) IN_FRONT_OF("fsync");
int torn_ftruncate(int fd, off_t n) IN_FRONT_OF("ftruncate");
int torn_msync(void *p, size_t n, int flags) IN_FRONT_OF("msync");

ssize_t torn_pwrite(int fd, const void *p, size_t n, off_t at)
{
    note_write(fd, p, n, at);
    return syscall(SYS_pwrite64, fd, p, n, at);
}

ssize_t torn_writev(int fd, const struct iovec *v, int count)
{
    off_t at = lseek(fd, 0, SEEK_CUR);

    for (int i = 0; i < count; i++) { /* the kernel may write one and not the other */
        note_write(fd, v[i].iov_base, v[i].iov_len, at);
        at += (off_t)v[i].iov_len;
    }
    return syscall(SYS_writev, fd, v, count);
}

int torn_fdatasync(int fd)
{
    if (is_recorded(fd))
        note(SYNCED, 0, NULL, 0);
    return (int)syscall(SYS_fdatasync, fd);
}

int torn_fsync(int fd)
{
    if (is_recorded(fd))
        note(SYNCED, 0, NULL, 0);
    return (int)syscall(SYS_fsync, fd);
}

int torn_ftruncate(int fd, off_t n)
{
    if (is_recorded(fd))
        snprintf(trouble, sizeof trouble, "the file's size was set, which is not replayed");
    return (int)syscall(SYS_ftruncate, fd, n);
}

int torn_msync(void *p, size_t n, int flags)
{
    if (recorded)
        snprintf(trouble, sizeof trouble, "the map was synced, which is not replayed");
    return (int)syscall(SYS_msync, p, n, flags);
}

/* ---- stores ---- */

static const uint8_t master[32] = "0123456789abcdef0123456789abcde";
static char live_dir[64], cut_dir[64]; /* where scripts run; where cut files are opened */
static struct crypto *crypto;
static struct sp_rng_fixed fixed;
static uint8_t block[1 << 18], block2[1 << 18];

static uint32_t below(uint32_t n)
{
    uint32_t v;

    sp_rng_fill(&fixed.rng, &v, sizeof v);
    return v % n;
}

static struct lmdb_store *open_store(const char *dir, enum lmdb_mode mode, const char *what)
{
    struct sp_err e = {0};
    struct lmdb_store *s = lmdb_open(dir, mode, master, crypto, &fixed.rng, &e);

    if (!s)
        stop(what, e.text);
    return s;
}

/* One of the names with everything that follows from its generation: aliases come and go, and some records
 * need pages of their own. */
struct made {
    struct store_account a;
    struct store_key key;
    char name[16], aliases[STORE_ALIASES_MAX][80];
    struct sp_span spans[STORE_ALIASES_MAX];
};

static void make_account(struct made *m, uint32_t i, uint64_t generation, uint64_t id)
{
    uint32_t count = i % 17 == 5 ? 50 : (uint32_t)(i + generation) % 4;

    *m = (struct made){
        .key = {.key = {.n = 32, .etype = 18, .keep = true}, .kvno = (uint32_t)generation}
    };
    memset(m->key.key.b, (int)(generation & 0xff), m->key.key.n);
    snprintf(m->name, sizeof m->name, "n%u", i);
    for (uint32_t j = 0; j < count; j++) {
        snprintf(m->aliases[j], sizeof m->aliases[j], "alias-%u-%u-%llu-of-some-length-so-that-pages-fill-up",
                 i, j, (unsigned long long)generation);
        m->spans[j] = sp_str(m->aliases[j]);
    }
    m->a = (struct store_account){.id = id, .generation = generation, .kind = STORE_USER, .key_count = 1};
    m->a.name = m->a.lookup = sp_str(m->name);
    m->a.keys = &m->key;
    m->a.aliases = m->a.alias_lookups = (struct sp_spans){m->spans, count};
}

static struct {
    uint64_t id, generation;
} there[NAMES]; /* in the store where the script runs */

static void put_one(struct lmdb_store *s, uint32_t i)
{
    static struct made m;
    struct sp_err e = {0};

    make_account(&m, i, ++there[i].generation, there[i].id);
    if (!lmdb_put(s, &m.a, &e))
        stop("put", e.text);
    there[i].id = m.a.id;
}

static void put_several(struct lmdb_store *s)
{
    static struct made m[NAMES];
    static struct store_account v[NAMES];
    struct sp_err e = {0};
    uint32_t first = below(NAMES / 2), count = 1 + below(NAMES / 2);

    for (uint32_t i = 0; i < count; i++) {
        make_account(&m[i], first + i, ++there[first + i].generation, there[first + i].id);
        v[i] = m[i].a;
    }
    if (!lmdb_put_many(s, v, count, &e))
        stop("put several", e.text);
    for (uint32_t i = 0; i < count; i++)
        there[first + i].id = v[i].id;
}

static void delete_one(struct lmdb_store *s, uint32_t i)
{
    struct sp_err e = {0};

    if (!lmdb_delete(s, there[i].id, &e))
        stop("delete", e.text);
    there[i].id = 0;
}

static void change(struct lmdb_store *s)
{
    uint32_t i = below(NAMES), dice = below(8);
    struct sp_err e = {0};
    char value[16];

    if (dice == 0) {
        put_several(s);
    } else if (dice == 1) {
        snprintf(value, sizeof value, "value%u", below(1000));
        if (!lmdb_put_meta(s, "setting", sp_str(value), &e))
            stop("put a value", e.text);
    } else if (dice < 4 && there[i].id) {
        delete_one(s, i);
    } else {
        put_one(s, i);
    }
}

/* ---- what a store holds, as text ---- */

struct content {
    size_t n;
    char text[CONTENT_MAX];
};

struct reading {
    struct sp_text t;
    struct lmdb_store *s;
};

static bool add_account(void *ctx, const struct store_account *a, struct sp_err *e)
{
    struct reading *r = ctx;
    struct store_lookup *l = lmdb_lookup(r->s);

    sp_text_fmt(&r->t, "%.*s %llu %llu %u %u", SP_FMT(a->name), (unsigned long long)a->id,
                (unsigned long long)a->generation, a->keys[0].kvno, a->keys[0].key.b[31]);
    for (uint32_t i = 0; i < a->aliases.count; i++) {
        struct store_account by;
        struct sp_arena mem;

        sp_arena_init(&mem, block2, sizeof block2);
        if (!l->find(l, a->alias_lookups.v[i], &mem, &by, e))
            return false;
        sp_text_fmt(&r->t, " %.*s>%llu,%llu,%u", SP_FMT(a->aliases.v[i]), (unsigned long long)by.id,
                    (unsigned long long)by.generation, by.keys[0].key.b[31]);
    }
    sp_text_str(&r->t, "\n");
    return true;
}

static void read_content(struct lmdb_store *s, const char *what, struct content *out)
{
    struct reading r = {sp_text(out->text, sizeof out->text), s};
    struct sp_span value;
    struct sp_arena mem;
    struct sp_err e = {0};

    sp_arena_init(&mem, block, sizeof block);
    if (!lmdb_each(s, &mem, add_account, &r, &e))
        stop(what, e.text);
    lmdb_settle(s);
    if (lmdb_get_meta(s, "setting", &mem, &value, &e))
        sp_text_fmt(&r.t, "setting %.*s\n", SP_FMT(value));
    else if (e.kind != SP_ENOTFOUND)
        stop(what, e.text);
    sp_text_fmt(&r.t, "%llu accounts\n", (unsigned long long)lmdb_count(s));
    if (r.t.cut)
        stop(what, "more than the test can hold");
    out->n = r.t.n;
}

static bool same(const struct content *a, const struct content *b)
{
    return a->n == b->n && memcmp(a->text, b->text, a->n) == 0;
}

/* ---- cut files ---- */

struct image {
    uint8_t *p;
    size_t n, room;
};

static void image_write(struct image *m, size_t at, const uint8_t *p, size_t n)
{
    if (at + n > m->room) {
        m->room = 2 * (at + n);
        m->p = realloc(m->p, m->room);
        if (!m->p)
            stop("image", "no memory");
    }
    if (at > m->n)
        memset(m->p + m->n, 0, at - m->n); /* a hole */
    memcpy(m->p + at, p, n);
    m->n = at + n > m->n ? at + n : m->n;
}

static void image_copy(struct image *to, const struct image *from)
{
    to->n = 0;
    image_write(to, 0, from->p, from->n);
}

static void file_path(char out[128], const char *dir, const char *name)
{
    snprintf(out, 128, "%s/accounts/%s.mdb", dir, name);
}

static void image_load(struct image *m, const char *dir)
{
    char path[128];
    uint8_t b[65536];
    size_t n;
    FILE *f;

    file_path(path, dir, "data");
    f = fopen(path, "rb");
    if (!f)
        stop(path, "cannot be read");
    m->n = 0;
    while ((n = fread(b, 1, sizeof b, f)) > 0)
        image_write(m, m->n, b, n);
    fclose(f);
}

static void image_store(const struct image *m)
{
    char path[128];
    int fd;

    file_path(path, cut_dir, "lock");
    (void)unlink(path);
    file_path(path, cut_dir, "data");
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, m->p, m->n) != (ssize_t)m->n)
        stop(path, "cannot be written");
    close(fd);
}

/* By sectors of the file: the first ones, the last ones, or any. */
static void write_torn(struct image *m, const struct entry *x)
{
    uint32_t how = below(3), parts = (uint32_t)(x->n / SECTOR) + 1, limit = below(parts + 1), i = 0;

    for (size_t done = 0; done < x->n; i++) {
        size_t n = SECTOR - (x->at + done) % SECTOR;

        n = n < x->n - done ? n : x->n - done;
        if (how == 0 ? i < limit : how == 1 ? i >= limit : below(2))
            image_write(m, x->at + done, x->data + done, n);
        done += n;
    }
}

/* ---- power cuts ---- */

struct replay {
    struct image durable, cut;
    const struct entry *pending[ENTRIES_MAX];
    size_t pending_count;
    struct content content[CHANGES + 1]; /* after so many changes */
    size_t acknowledged;
    bool committed; /* the sync that makes change acknowledged + 1 lasting has returned */
    int samples, script;
    uint64_t cuts, before, after, used_on;
};

/* Every alias's row holds what the account's own row does. */
static void check_rows(const char *dir, const char *what)
{
    struct store_rows rows = rows_check(dir);

    if (rows.wrong)
        stop(what, rows.wrong);
}

/* Goes on working with what was found: free pages are really free. */
static void use_on(struct replay *r, struct lmdb_store *s, const char *what, const struct content *was)
{
    static struct store_account v[10];
    static struct content now;
    static char names[10][16];
    struct store_key key = {
        .key = {.n = 32, .etype = 18, .keep = true},
          .kvno = 1
    };
    struct sp_err e = {0};

    for (int i = 0; i < 10; i++) {
        snprintf(names[i], sizeof names[i], "later%d", i);
        v[i] = (struct store_account){.kind = STORE_USER, .keys = &key, .key_count = 1};
        v[i].name = v[i].lookup = sp_str(names[i]);
    }
    if (!lmdb_put_many(s, v, 10, &e))
        stop(what, e.text);
    for (int i = 0; i < 10; i++)
        if (!lmdb_delete(s, v[i].id, &e))
            stop(what, e.text);
    read_content(s, what, &now);
    if (!same(&now, was))
        stop(what, "going on to write damaged it");
    r->used_on++;
}

static void check_cut(struct replay *r, const char *kind)
{
    static struct content found;
    const struct content *before = &r->content[r->acknowledged];
    const struct content *after = &r->content[r->acknowledged + (r->acknowledged < CHANGES)];
    struct lmdb_store *s;
    char what[100];

    snprintf(what, sizeof what, "script %d, change %zu, %s, cut %llu", r->script, r->acknowledged + 1, kind,
             (unsigned long long)r->cuts);
    image_store(&r->cut);
    s = open_store(cut_dir, LMDB_WRITE, what);
    read_content(s, what, &found);
    if (same(&found, after))
        r->after++;
    else if (r->committed)
        stop(what, "a change whose last sync had returned is lost");
    else if (same(&found, before))
        r->before++;
    else
        stop(what, "neither the state before nor the one after");
    if (r->cuts++ % 64 == 0)
        use_on(r, s, what, &found);
    lmdb_close(s);
    check_rows(cut_dir, what);
}

static void cut_prefixes(struct replay *r)
{
    image_copy(&r->cut, &r->durable);
    check_cut(r, "nothing written");
    for (size_t i = 0; i < r->pending_count; i++) {
        image_write(&r->cut, r->pending[i]->at, r->pending[i]->data, r->pending[i]->n);
        if (i + 1 == r->pending_count || r->samples > 50 || below(4) == 0)
            check_cut(r, "the first writes");
    }
}

static void shuffle(const struct entry **v, size_t count)
{
    for (size_t i = count; i > 1; i--) {
        size_t j = below((uint32_t)i);
        const struct entry *x = v[i - 1];

        v[i - 1] = v[j];
        v[j] = x;
    }
}

/* Each write of a shuffled list is there, is not, or is torn. */
static void cut_at_random(struct replay *r)
{
    static const struct entry *v[ENTRIES_MAX];
    uint32_t often = 2 + below(6);

    memcpy(v, r->pending, r->pending_count * sizeof v[0]);
    shuffle(v, r->pending_count);
    image_copy(&r->cut, &r->durable);
    for (size_t i = 0; i < r->pending_count; i++) {
        uint32_t dice = below(often);

        if (dice == 0)
            write_torn(&r->cut, v[i]);
        else if (dice > 1)
            image_write(&r->cut, v[i]->at, v[i]->data, v[i]->n);
    }
    check_cut(r, "some writes, some torn");
}

static void cut_here(struct replay *r)
{
    cut_prefixes(r);
    for (int i = 0; r->pending_count && i < r->samples; i++)
        cut_at_random(r);
}

static void sync_here(struct replay *r)
{
    for (size_t i = 0; i < r->pending_count; i++)
        image_write(&r->durable, r->pending[i]->at, r->pending[i]->data, r->pending[i]->n);
    r->pending_count = 0;
}

static void replay_entry(struct replay *r, const struct entry *x)
{
    switch (x->kind) {
    case WRITTEN:
        r->pending[r->pending_count++] = x;
        break;
    case SYNCED:
        cut_here(r);
        sync_here(r);
        break;
    case WRITTEN_THROUGH: /* lasting by itself once it returns; what else waits goes on waiting */
        r->pending[r->pending_count++] = x;
        cut_here(r);
        r->pending_count--;
        image_write(&r->durable, x->at, x->data, x->n);
        r->committed = true;
        cut_here(r);
        break;
    case ACKNOWLEDGED:
        if (!r->committed)
            stop("replay", "a change was acknowledged without a sync");
        r->acknowledged++;
        break;
    }
    if (x->kind == ACKNOWLEDGED)
        r->committed = false;
}

static void replay_all(struct replay *r)
{
    for (size_t i = 0; i < entry_count; i++)
        replay_entry(r, &entries[i]);
    for (size_t i = 0; i < entry_count; i++)
        free(entries[i].data);
    if (r->acknowledged != CHANGES)
        stop("replay", "changes are missing");
    entry_count = 0;
}

/* ---- scripts ---- */

static void record_file(void)
{
    char path[128];
    struct stat st;

    file_path(path, live_dir, "data");
    if (stat(path, &st) != 0)
        stop(path, "is not there");
    recorded = st.st_ino;
}

static void record_script(struct replay *r)
{
    struct lmdb_store *s = open_store(live_dir, LMDB_CREATE, "live");

    memset(there, 0, sizeof there);
    for (uint32_t i = 0; i < 12; i++)
        put_one(s, i);
    read_content(s, "live", &r->content[0]);
    image_load(&r->durable, live_dir);
    for (int i = 1; i <= CHANGES; i++) {
        record_file();
        change(s);
        recorded = 0;
        note(ACKNOWLEDGED, 0, NULL, 0);
        read_content(s, "live", &r->content[i]);
    }
    lmdb_close(s);
    if (trouble[0])
        stop("record", trouble);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static void make_dir(char dir[64])
{
    /* in memory where possible: only the calls matter, not the disk */
    snprintf(dir, 64, "%s/sp-torn-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(dir))
        stop(dir, "cannot be made");
}

static void run_script(struct replay *r, int script)
{
    make_dir(live_dir);
    sp_rng_fixed_init(&fixed, (uint64_t)script);
    r->script = script;
    r->acknowledged = r->pending_count = 0;
    r->committed = false;
    record_script(r);
    replay_all(r);
    nftw(live_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    static struct replay r;
    const char *env = getenv("SALLYPORT_TORN_SAMPLES");
    struct sp_err e = {0};

    r.samples = env ? (int)strtol(env, NULL, 10) : 12;
    crypto = crypto_new(&e);
    if (!crypto)
        stop("crypto", e.text);
    make_dir(cut_dir);
    lmdb_close(open_store(cut_dir, LMDB_CREATE, "cut")); /* for the activity beside it */
    for (int i = 1; i <= SCRIPTS; i++)
        run_script(&r, i);
    nftw(cut_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(r.durable.p);
    free(r.cut.p);
    crypto_free(crypto);
    printf("%d scripts, %llu power cuts: %llu before, %llu after, none neither; %llu written on\n", SCRIPTS,
           (unsigned long long)r.cuts, (unsigned long long)r.before, (unsigned long long)r.after,
           (unsigned long long)r.used_on);
    return r.before > 0 && r.after > 0 ? 0 : 1;
}
