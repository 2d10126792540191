/* SPDX-License-Identifier: MIT */
/* What krb5.conf says about names, asked of libkrb5 once and remembered while its files are the same. Answers
 * that depend on more than those files, the environment and the user are not: see is_plain. */
#include "plugin/mech/kept.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FILES_MAX 4
#define FACTS_MAX 32
#define TEXT_ROOM 256 /* of a question, and of an answer; longer ones are asked every time */
#define NAMES_ROOM 1024
#define LINE_ROOM 512

/* Exported by libkrb5, and in no header of it. */
krb5_error_code krb5_get_default_config_files(char ***out);
void krb5_free_config_files(char **files);

/* One state of the configuration. Others may hold it while it is replaced; facts are read and written under
 * the lock, the rest never changes. */
struct config {
    atomic_uint users;
    char named[NAMES_ROOM]; /* KRB5_CONFIG */
    uint32_t count;
    struct {
        char path[TEXT_ROOM];
        struct kept_stamp stamp;
    } file[FILES_MAX];
    struct {
        char question[TEXT_ROOM], answer[TEXT_ROOM];
    } fact[FACTS_MAX];
    uint32_t facts;
};

static struct config *known;

static void drop(struct config *c)
{
    if (c && atomic_fetch_sub(&c->users, 1) == 1)
        free(c);
}

/* ---- which files ---- */

static const char *named_now(void)
{
    const char *named = secure_getenv("KRB5_CONFIG");

    return named ? named : "";
}

static bool add_file(struct config *c, const char *path)
{
    for (uint32_t i = 0; i < c->count; i++)
        if (strcmp(c->file[i].path, path) == 0)
            return true;
    if (c->count == FILES_MAX || strlen(path) >= TEXT_ROOM)
        return false;
    memcpy(c->file[c->count].path, path, strlen(path) + 1);
    kept_stamp_file(path, 0, &c->file[c->count++].stamp);
    return true;
}

static bool list_files(struct config *c)
{
    char **files = NULL;
    bool ok = krb5_get_default_config_files(&files) == 0;

    for (size_t i = 0; ok && files[i]; i++)
        ok = add_file(c, files[i]);
    krb5_free_config_files(files);
    return ok;
}

/* Without further files and modules, whose changes no stamp of ours would show. */
static bool is_plain(const char *path)
{
    static const char *const further[] = {"include", "module", "[plugins]"};
    char line[LINE_ROOM];
    bool plain = true;
    FILE *f = fopen(path, "re");

    while (f && plain && fgets(line, sizeof line, f))
        for (size_t i = 0; i < sizeof further / sizeof *further; i++)
            plain = plain && strncmp(line + strspn(line, " \t"), further[i], strlen(further[i])) != 0;
    if (f)
        (void)fclose(f);
    return f && plain;
}

/* libkrb5 looks at a file at most once a second while somebody in this process has it open, so a second must
 * have begun since the last change. */
static bool may_keep(const struct config *c)
{
    int64_t now_s = host_env().wall_us / 1000000;

    for (uint32_t i = 0; i < c->count; i++) {
        const struct kept_stamp *s = &c->file[i].stamp;

        if (s->there &&
            (now_s <= s->changed.tv_sec || !kept_may_keep(c->file[i].path, s) || !is_plain(c->file[i].path)))
            return false;
    }
    return true;
}

static struct config *read_config(void)
{
    const char *named = named_now();
    struct config *c = strlen(named) < NAMES_ROOM ? calloc(1, sizeof *c) : NULL;

    if (!c)
        return NULL;
    atomic_init(&c->users, 1);
    memcpy(c->named, named, strlen(named) + 1);
    if (list_files(c) && may_keep(c))
        return c;
    free(c);
    return NULL;
}

static bool is_current(const struct config *c)
{
    if (strcmp(c->named, named_now()) != 0)
        return false;
    for (uint32_t i = 0; i < c->count; i++)
        if (!kept_is_unchanged(c->file[i].path, &c->file[i].stamp))
            return false;
    return true;
}

/* The state of now, shared; NULL when nothing of it can be remembered. */
static struct config *get_config(void)
{
    struct config *c;

    kept_lock();
    c = known;
    if (c)
        atomic_fetch_add(&c->users, 1);
    kept_unlock();
    if (c && is_current(c))
        return c;
    drop(c);
    return read_config();
}

/* ---- questions ---- */

static char *recall(struct config *c, const char *question)
{
    char *out = NULL;

    kept_lock();
    for (uint32_t i = 0; i < c->facts && i < FACTS_MAX && !out; i++)
        if (strcmp(c->fact[i].question, question) == 0)
            out = strdup(c->fact[i].answer);
    kept_unlock();
    return out;
}

/* The state comes with its first fact, and takes the place of the one before. */
static void remember(struct config *c, const char *question, const char *answer)
{
    struct config *before = NULL;
    uint32_t at;

    kept_lock();
    at = c->facts++ % FACTS_MAX;
    memcpy(c->fact[at].question, question, strlen(question) + 1);
    memcpy(c->fact[at].answer, answer, strlen(answer) + 1);
    if (known != c) {
        before = known;
        known = c;
        atomic_fetch_add(&c->users, 1);
    }
    kept_unlock();
    drop(before);
}

struct fact {
    char question[TEXT_ROOM];
    const char *prefix; /* of answers that can be remembered */
    char *(*ask)(struct lib *l, const char *what);
    const char *what;
    bool of_user; /* the answer may hold the user's number or name */
};

/* Only what a libkrb5 context of our own says is of this state; one that was open before may be of another.
 */
static char *find(struct lib *l, const struct fact *f)
{
    struct config *c = l->k ? NULL : get_config();
    char *out = c ? recall(c, f->question) : NULL;
    struct sp_err ignored = {0};

    if (!out) {
        out = lib_open(l, &ignored) ? f->ask(l, f->what) : NULL;
        if (c && out && strlen(out) < TEXT_ROOM && strncmp(out, f->prefix, strlen(f->prefix)) == 0 &&
            is_current(c))
            remember(c, f->question, out);
    }
    drop(c);
    return out;
}

static bool make_question(struct fact *f, const char *kind)
{
    struct sp_text t = sp_text(f->question, sizeof f->question);

    sp_text_fmt(&t, "%s %s", kind, f->what);
    if (f->of_user)
        sp_text_fmt(&t, " %lu %lu", (unsigned long)getuid(), (unsigned long)geteuid());
    return !t.cut;
}

static char *find_asked(struct lib *l, struct fact *f, const char *kind)
{
    struct sp_err ignored = {0};

    if (make_question(f, kind))
        return find(l, f);
    return lib_open(l, &ignored) ? f->ask(l, f->what) : NULL;
}

struct sp_span mech_host_realm(struct lib *l, struct sp_span host, struct sp_arena *mem)
{
    struct sp_err e = {0};
    struct sp_span text = sp_format(mem, &e, "%.*s", SP_FMT(host)), out = sp_span(NULL, 0);
    struct fact f = {.prefix = "", .ask = lib_host_realm, .what = (const char *)text.p};
    char *realm = text.p ? find_asked(l, &f, "realm") : NULL;

    if (realm)
        out = sp_dup(mem, sp_str(realm), &e);
    free(realm);
    return out;
}

static char *ask_ccache(struct lib *l, const char *what)
{
    (void)what;
    return lib_default_ccache(l);
}

static char *ask_keytab(struct lib *l, const char *what)
{
    (void)what;
    return lib_default_keytab(l);
}

/* What the environment names as a file needs no krb5.conf. */
static char *from_environment(const char *variable)
{
    const char *name = secure_getenv(variable), *path = name && *name ? kept_path_of(name) : NULL;
    char *out = NULL;

    return path && asprintf(&out, "FILE:%s", path) >= 0 ? out : NULL;
}

static char *find_default(struct lib *l, const char *variable, struct fact *f)
{
    char *out = from_environment(variable);

    return out ? out : find_asked(l, f, variable);
}

char *mech_default_ccache(struct lib *l)
{
    const char *name = secure_getenv("KRB5CCNAME");
    struct fact f = {.prefix = "FILE:", .ask = ask_ccache, .what = name ? name : "", .of_user = true};

    return find_default(l, "KRB5CCNAME", &f);
}

char *mech_default_keytab(struct lib *l)
{
    const char *name = secure_getenv("KRB5_KTNAME");
    struct fact f = {.prefix = "FILE:", .ask = ask_keytab, .what = name ? name : "", .of_user = true};

    return find_default(l, "KRB5_KTNAME", &f);
}
