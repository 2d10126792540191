/* SPDX-License-Identifier: MIT */
/* sallyport doctor: which GSS mechanisms programs of this machine get, whether ours is among them, what
 * stands in its way, and which program needs which setting. Reads and asks; changes nothing. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "host/ask.h"
#include "host/pins.h"

#define IAKERB "1.3.6.1.5.2.5"
#define LIBRARY "mech_sallyport.so"
#define PROBE_MS 5000
#define ADVICE "take the line of the package's own 10-sallyport.conf"

/* ---- the configuration of libgssapi: GSS_MECH_CONFIG alone, or /etc/gss/mech and then mech.d in order ----
 */

struct mech_line {
    char name[128], oid[128], library[PATH_MAX];
    bool interposer;
};

static void add_finding(cJSON *all, const char *what, const char *todo)
{
    cJSON *one = cJSON_CreateObject();

    cJSON_AddStringToObject(one, "what", what);
    cJSON_AddStringToObject(one, "do", todo);
    cJSON_AddItemToArray(all, one);
}

__attribute__((format(printf, 3, 4))) static void find(cJSON *report, const char *todo, const char *fmt, ...)
{
    char text[PATH_MAX + 256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    add_finding(cJSON_GetObjectItemCaseSensitive(report, "findings"), text, todo);
}

/* "name oid library [kernel-module] [options] <interposer>" */
static bool read_line(char *line, struct mech_line *out)
{
    char *keep = NULL, *name, *oid, *library;

    *out = (struct mech_line){0};
    out->interposer = strstr(line, "<interposer>") != NULL;
    name = strtok_r(line, " \t\r\n", &keep);
    if (!name || name[0] == '#')
        return false;
    oid = strtok_r(NULL, " \t\r\n", &keep);
    library = oid ? strtok_r(NULL, " \t\r\n", &keep) : NULL;
    if (!library)
        return false;
    snprintf(out->name, sizeof out->name, "%s", name);
    snprintf(out->oid, sizeof out->oid, "%s", oid);
    snprintf(out->library, sizeof out->library, "%s", library);
    return true;
}

/* Beside libgssapi itself is the directory in which it looks for what has no path. */
static void find_plugin_directory(char *out, size_t max)
{
    void *lib = dlopen("libgssapi_krb5.so.2", RTLD_LAZY | RTLD_LOCAL);
    void *at = lib ? dlsym(lib, "gss_init_sec_context") : NULL;
    Dl_info where;

    out[0] = 0;
    if (at && dladdr(at, &where) && where.dli_fname) {
        snprintf(out, max, "%s", where.dli_fname);
        char *slash = strrchr(out, '/');
        if (slash)
            snprintf(slash, max - (size_t)(slash - out), "/gss/");
    }
    if (lib)
        dlclose(lib);
}

/* ---- what a library does when it is loaded: asked in a process of its own, which may die of it ---- */

/* As in <gssapi/gssapi.h>, which this room does not include: the interposers' entry point is all that is
 * called. */
struct gss_oid {
    uint32_t length;
    const void *elements;
};
struct gss_oids {
    size_t count;
    const struct gss_oid *elements;
};

struct probe {
    bool loads, entry, claims;
    char why[256];
};

static struct sp_span make_oid(const char *dotted, uint8_t out[32])
{
    size_t n = 0;
    uint64_t first = 0;

    for (int part = 0; *dotted && n < 22; part++) {
        size_t len = strcspn(dotted, ".");
        uint64_t v;

        if (!sp_decimal(sp_span(dotted, len), UINT32_MAX, &v))
            return sp_span(out, 0);
        dotted += len + (dotted[len] == '.');
        if (part == 0) {
            first = v * 40;
            continue;
        }
        v += part == 1 ? first : 0;
        int bits = 0;
        while (bits < 35 && v >> (bits + 7))
            bits += 7;
        for (; bits >= 0; bits -= 7)
            out[n++] = (uint8_t)((v >> bits & 0x7f) | (bits ? 0x80 : 0));
    }
    return sp_span(out, n);
}

static bool claims(void *entry, const char *oid)
{
    const struct gss_oids *(*ask)(const struct gss_oid *) = NULL;
    uint8_t own[32], wanted[32];
    struct sp_span mine = make_oid(oid, own), iakerb = make_oid(IAKERB, wanted);
    const struct gss_oid name = {(uint32_t)mine.n, mine.p};

    memcpy(&ask, &entry, sizeof ask);
    const struct gss_oids *set = ask(&name);
    for (size_t i = 0; set && i < set->count; i++)
        if (sp_same(sp_span(set->elements[i].elements, set->elements[i].length), iakerb))
            return true;
    return false;
}

static void try_library(const char *path, const struct mech_line *m, struct probe *out)
{
    void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const char *why = lib ? NULL : dlerror();
    void *entry = lib ? dlsym(lib, m->interposer ? "gss_mech_interposer" : "gss_init_sec_context") : NULL;

    *out = (struct probe){.loads = lib != NULL, .entry = entry != NULL};
    if (why)
        snprintf(out->why, sizeof out->why, "%s", why);
    out->claims = entry && m->interposer && claims(entry, m->oid);
}

static bool collect(int fd, struct probe *out)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, PROBE_MS) > 0 && read(fd, out, sizeof *out) == (ssize_t)sizeof *out;
}

static void probe(const char *path, const struct mech_line *m, struct probe *out)
{
    int ends[2];

    *out = (struct probe){0};
    if (pipe(ends) != 0)
        return;
    pid_t child = fork();
    if (child == 0) {
        struct probe found;

        try_library(path, m, &found);
        _exit(write(ends[1], &found, sizeof found) == (ssize_t)sizeof found ? 0 : 1);
    }
    close(ends[1]);
    if (child > 0 && !collect(ends[0], out))
        snprintf(out->why, sizeof out->why, "it ends the program that loads it");
    out->why[sizeof out->why - 1] = 0;
    close(ends[0]);
    if (child > 0) {
        (void)kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
    }
}

/* ---- one line after the other ---- */

struct reading {
    cJSON *report, *list;
    char directory[PATH_MAX];
    char owner[PATH_MAX]; /* the library that has IAKERB; empty: none so far */
    bool ours;            /* a line names ours */
};

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static void judge_ours(struct reading *r, const struct mech_line *m, const struct probe *p, const char *path)
{
    r->ours = true;
    if (!p->loads)
        find(r->report, "install the package again, or correct the line", "%s does not load: %s", path,
             p->why);
    else if (!m->interposer)
        find(r->report, ADVICE, "the line of %s does not end in <interposer>: programs keep MIT's own IAKERB",
             LIBRARY);
    else if (strcmp(m->oid, IAKERB) == 0)
        find(r->report, ADVICE, "the line of %s names a built-in mechanism: it needs an OID of its own",
             LIBRARY);
    else if (r->owner[0] && strcmp(r->owner, path) != 0)
        find(r->report, "let our file sort first: /etc/gss/mech.d/10-sallyport.conf",
             "%s has IAKERB before ours does", r->owner);
}

static void take_line(struct reading *r, const char *file, int number, const struct mech_line *m)
{
    char path[2 * PATH_MAX];
    struct probe p;
    bool ours = strcmp(base_name(m->library), LIBRARY) == 0;

    snprintf(path, sizeof path, "%s%s", m->library[0] == '/' ? "" : r->directory, m->library);
    probe(path, m, &p);
    cJSON *one = cJSON_CreateObject();
    cJSON_AddStringToObject(one, "name", m->name);
    cJSON_AddStringToObject(one, "oid", m->oid);
    cJSON_AddStringToObject(one, "library", path);
    cJSON_AddBoolToObject(one, "interposer", m->interposer);
    cJSON_AddBoolToObject(one, "loads", p.loads && p.entry);
    cJSON_AddBoolToObject(one, "iakerb", p.claims);
    cJSON_AddStringToObject(one, "file", file);
    cJSON_AddNumberToObject(one, "line", number);
    cJSON_AddItemToArray(r->list, one);
    if (p.claims && !r->owner[0] && strcmp(m->oid, IAKERB) != 0)
        snprintf(r->owner, sizeof r->owner, "%.*s", PATH_MAX - 1, path);
    if (ours)
        judge_ours(r, m, &p, path);
    else if (!m->interposer && strcmp(m->oid, IAKERB) == 0)
        find(r->report, "remove the line", "%s:%d is ignored by libgssapi: the mechanism is a built-in one",
             file, number);
    else if (!p.loads || !p.entry)
        find(r->report, "remove the line, or install what it names",
             "%s:%d: %s is skipped without a word: %s", file, number, path,
             p.why[0] ? p.why : "it has no entry point");
}

static void read_file(struct reading *r, const char *file)
{
    char line[2 * PATH_MAX];
    struct mech_line m;
    FILE *f = fopen(file, "re");

    for (int number = 1; f && fgets(line, sizeof line, f); number++)
        if (read_line(line, &m))
            take_line(r, file, number, &m);
    if (f)
        fclose(f);
}

static void read_mechanisms(struct reading *r)
{
    const char *only = secure_getenv("GSS_MECH_CONFIG");
    glob_t g;

    find_plugin_directory(r->directory, sizeof r->directory);
    if (!r->directory[0])
        find(r->report, "install libgssapi-krb5-2",
             "there is no libgssapi here: no program of MIT's GSS-API runs");
    if (only) {
        find(r->report, "unset it, unless it is for a test", "GSS_MECH_CONFIG is set: only %s is read", only);
        read_file(r, only);
    } else {
        read_file(r, "/etc/gss/mech");
        if (glob("/etc/gss/mech.d/*.conf", 0, NULL, &g) == 0) {
            for (size_t i = 0; i < g.gl_pathc; i++)
                read_file(r, g.gl_pathv[i]);
            globfree(&g);
        }
    }
    if (!r->ours)
        find(r->report, "install the package with /etc/gss/mech.d/10-sallyport.conf",
             "no line names %s: programs keep MIT's own IAKERB", LIBRARY);
    if (secure_getenv("GSS_USE_PROXY"))
        find(r->report, "unset it for programs that shall use ours",
             "GSS_USE_PROXY is set: gssproxy stands before krb5 and, where its file sorts first, before "
             "IAKERB");
}

/* ---- pins ---- */

static void read_pins(cJSON *report)
{
    struct host_pin none;
    struct sp_err e = {0};

    if (!host_find_pin(sp_str(""), &none, &e))
        find(report, "correct it; until then every login through a service is refused", "%s", e.text);
}

/* ---- the courier ---- */

static void ask_courier(struct cli *c, cJSON *report)
{
    static uint8_t block[32768];
    struct sp_arena mem;
    struct host_courier h;
    struct host_realm realm;
    struct sp_err e = {0};

    sp_arena_init(&mem, block, sizeof block);
    if (c->paths.root[0])
        (void)setenv("SALLYPORT_ROOT", c->paths.root, 1);
    host_courier_init(&h);
    bool ok = host_hello(&h, HOST_ASK_MS_MAX, &mem, &realm, &e);
    host_courier_close(&h);
    cJSON *courier = cJSON_AddObjectToObject(report, "courier");
    cJSON_AddBoolToObject(courier, "answers", ok);
    if (!ok) {
        find(report, "start sallyportd, and see [courier] listen", "courier.sock does not answer: %s",
             e.text);
        return;
    }
    char text[256];
    struct sp_text t = sp_text(text, sizeof text);
    sp_text_add(&t, realm.name);
    cJSON_AddStringToObject(courier, "realm", text);
    cJSON_AddBoolToObject(courier, "old_mit", realm.old_mit);
}

/* ---- programs ---- */

struct need {
    const char *program, *files; /* a pattern; NULL: nothing to look into */
    const char *uses, *setting;  /* a line that shows it matters; the line that must be there */
    const char *why;
};

static const struct need needs[] = {
    {"Apache with mod_auth_gssapi",  "/etc/apache2/*-enabled/*", "AuthType GSSAPI",          "GssapiConnectionBound On",
     "several rounds need one context for the connection"                                                                                                             },
    {"OpenSSH server",               "/etc/ssh/sshd_config",     "GSSAPIAuthentication yes", "GSSAPIStrictAcceptorCheck no",
     "its credential is restricted to krb5 otherwise"                                                                                                                 },
    {"Java",                         NULL,                       NULL,                       "-Dsun.security.jgss.native=true",
     "Java's own Kerberos ignores mechanisms of the system"                                                                                                           },
    {"psql and other libpq clients", NULL,                       NULL,                       "none: they ask for krb5 alone",
     "log in with 'sallyport login --via' before"                                                                                                                     },
    {"curl",                         NULL,                       NULL,                       "--negotiate -u :",                "HTTP authentication is off otherwise"},
};

/* Words without regard to case and to the spaces between them, as these configurations are read. */
static bool has_words(const char *line, const char *words)
{
    line += strspn(line, " \t");
    while (*words) {
        size_t n = strcspn(words, " ");

        if (strncasecmp(line, words, n) != 0 || (line[n] && !strchr(" \t\r\n", line[n])))
            return false;
        line += n;
        line += strspn(line, " \t");
        words += n + (words[n] == ' ');
    }
    return true;
}

static bool files_have(const char *pattern, const char *words)
{
    char line[4096];
    bool found = false;
    glob_t g;

    if (glob(pattern, 0, NULL, &g) != 0)
        return false;
    for (size_t i = 0; i < g.gl_pathc && !found; i++) {
        FILE *f = fopen(g.gl_pathv[i], "re");

        while (f && !found && fgets(line, sizeof line, f))
            found = has_words(line, words);
        if (f)
            fclose(f);
    }
    globfree(&g);
    return found;
}

static void tell_programs(cJSON *report)
{
    cJSON *list = cJSON_AddArrayToObject(report, "programs");

    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
        const struct need *n = &needs[i];
        cJSON *one = cJSON_CreateObject();
        bool used = n->files && files_have(n->files, n->uses), set = used && files_have(n->files, n->setting);

        cJSON_AddStringToObject(one, "program", n->program);
        cJSON_AddStringToObject(one, "setting", n->setting);
        cJSON_AddStringToObject(one, "why", n->why);
        cJSON_AddStringToObject(one, "here", !used ? "" : set ? "set" : "lacking");
        cJSON_AddItemToArray(list, one);
        if (used && !set)
            find(report, n->setting, "%s is set up here without it: %s", n->program, n->why);
    }
}

bool cli_run_doctor(struct cli *c, cJSON **out, struct sp_err *e)
{
    const char *what = cli_local(c, "operand");
    struct reading *r;

    if (what)
        return cli_run_diagnose(c, what, out, e);
    r = calloc(1, sizeof *r);
    if (!r)
        return sp_fail(e, SP_ENOMEM, 0, "out of memory");
    r->report = cJSON_CreateObject();
    r->list = cJSON_AddArrayToObject(r->report, "mechanisms");
    cJSON_AddArrayToObject(r->report, "findings");
    read_mechanisms(r);
    cJSON_AddStringToObject(r->report, "iakerb", r->owner[0] ? r->owner : "built into libgssapi");
    ask_courier(c, r->report);
    read_pins(r->report);
    tell_programs(r->report);
    cJSON_AddBoolToObject(r->report, "good",
                          cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(r->report, "findings")) == 0);
    *out = r->report;
    free(r);
    return true;
}

void cli_print_doctor(struct cli *c, const cJSON *result)
{
    static const struct cli_column mechanisms[] = {
        {"NAME",    "name"   },
        {"OID",     "oid"    },
        {"LOADS",   "loads"  },
        {"IAKERB",  "iakerb" },
        {"LIBRARY", "library"},
        {NULL,      NULL     },
    };
    static const struct cli_column programs[] = {
        {"PROGRAM", "program"},
        {"SETTING", "setting"},
        {"HERE",    "here"   },
        {NULL,      NULL     },
    };
    const cJSON *one, *findings = cJSON_GetObjectItemCaseSensitive(result, "findings");
    const cJSON *courier = cJSON_GetObjectItemCaseSensitive(result, "courier");
    char a[8192], b[1024];

    if (cli_local(c, "operand")) {
        cli_print_diagnosis(result);
        return;
    }
    cli_print_table(cJSON_GetObjectItemCaseSensitive(result, "mechanisms"), mechanisms);
    printf("\nIAKERB is %s\n", cli_text(result, "iakerb", a, sizeof a));
    printf("courier.sock answers: %s, realm %s\n\n", cli_text(courier, "answers", a, sizeof a),
           cli_text(courier, "realm", b, sizeof b));
    cli_print_table(cJSON_GetObjectItemCaseSensitive(result, "programs"), programs);
    cJSON_ArrayForEach(one, findings)
        printf("\n%s\n  -> %s\n", cli_text(one, "what", a, sizeof a), cli_text(one, "do", b, sizeof b));
    if (!cJSON_GetArraySize(findings))
        printf("\nnothing is wrong\n");
}
