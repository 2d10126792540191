/* SPDX-License-Identifier: MIT */
/* Words of a command line into a verb and its request. */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

#define WORD_MAX 32 /* longer words get no suggestion */

/* ---- the nearest known word ---- */

static size_t least(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;

    return m < c ? m : c;
}

/* Letters to insert, remove or change between two words (Levenshtein). */
static size_t distance(const char *a, size_t an, const char *b, size_t bn)
{
    size_t row[WORD_MAX + 1];

    if (an > WORD_MAX || bn > WORD_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= bn; j++)
        row[j] = j;
    for (size_t i = 1; i <= an; i++) {
        size_t corner = row[0];

        row[0] = i;
        for (size_t j = 1; j <= bn; j++) {
            size_t above = row[j];

            row[j] = least(above + 1, row[j - 1] + 1, corner + (a[i - 1] != b[j - 1]));
            corner = above;
        }
    }
    return row[bn];
}

struct nearest {
    const char *word; /* what was typed */
    char found[WORD_MAX + 1];
    size_t best;
};

static void consider(struct nearest *s, const char *candidate, size_t n)
{
    size_t typed = strlen(s->word);
    size_t d = distance(s->word, typed, candidate, n);

    if (n > WORD_MAX || d >= s->best || d > 1 + typed / 3)
        return;
    s->best = d;
    memcpy(s->found, candidate, n);
    s->found[n] = 0;
}

static bool unknown_word(const struct cli *c, const char *word, struct sp_err *e)
{
    struct nearest s = {.word = word, .best = SIZE_MAX};
    const char *gap = c->path[0] ? " " : "";
    char safe[128];
    struct sp_text t = sp_text(safe, sizeof safe);
    size_t n;

    for (const struct cli_verb *v = cli_verbs; v->path; v++) {
        const char *next = cli_word_below(v, c->path, &n);

        if (next)
            consider(&s, next, n);
    }
    sp_text_safe(&t, sp_str(word));
    if (s.found[0])
        return sp_fail(e, SP_EINPUT, 0, "unknown command '%s%s%.40s'; did you mean '%s%s%s'?", c->path, gap,
                       safe, c->path, gap, s.found);
    return sp_fail(e, SP_EINPUT, 0, "unknown command '%s%s%.40s'; see 'sallyport%s%s --help'", c->path, gap,
                   safe, c->path[0] ? " " : "", c->path);
}

static void consider_options(struct nearest *s, const struct cli_option *o)
{
    for (; o->name; o++)
        consider(s, o->name, strlen(o->name));
}

static bool unknown_option(const struct cli *c, const char *name, struct sp_err *e)
{
    struct nearest s = {.word = name, .best = SIZE_MAX};
    char safe[128];
    struct sp_text t = sp_text(safe, sizeof safe);

    if (strcmp(name, "password") == 0 || strcmp(name, "passphrase") == 0)
        return sp_fail(e, SP_EINPUT, 0,
                       "a secret is never an argument, every user here could read it; use --%s-stdin", name);
    consider_options(&s, cli_global_options);
    if (c->verb)
        consider_options(&s, c->verb->options);
    sp_text_safe(&t, sp_str(name));
    if (s.found[0])
        return sp_fail(e, SP_EINPUT, 0, "unknown option --%.40s; did you mean --%s?", safe, s.found);
    if (!c->verb)
        return sp_fail(e, SP_EINPUT, 0, "unknown option --%.40s; options of a command go behind it", safe);
    return sp_fail(e, SP_EINPUT, 0, "unknown option --%.40s; see 'sallyport %s --help'", safe, c->path);
}

/* ---- values ---- */

static bool digits(const char **p, int count, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < count; i++, (*p)++) {
        if (**p < '0' || **p > '9')
            return false;
        *out = *out * 10 + (uint32_t)(**p - '0');
    }
    return true;
}

static bool accept(const char **p, char want)
{
    return **p == want && (*p)++;
}

static bool get_day(const char **p, struct sp_date *d)
{
    uint32_t year, month, day;

    if (!digits(p, 4, &year) || !accept(p, '-') || !digits(p, 2, &month) || !accept(p, '-') ||
        !digits(p, 2, &day))
        return false;
    d->year = (int32_t)year;
    d->month = (uint8_t)month;
    d->day = (uint8_t)day;
    return true;
}

static bool get_moment(const char **p, struct sp_date *d)
{
    uint32_t hour, minute, second;

    if (!digits(p, 2, &hour) || !accept(p, ':') || !digits(p, 2, &minute) || !accept(p, ':') ||
        !digits(p, 2, &second) || !accept(p, 'Z'))
        return false;
    d->hour = (uint8_t)hour;
    d->minute = (uint8_t)minute;
    d->second = (uint8_t)second;
    return true;
}

static bool read_time(const char *text, double *out)
{
    struct sp_date d = {0};
    const char *p = text;

    if (strcmp(text, "never") == 0) {
        *out = 0;
        return true;
    }
    if (!get_day(&p, &d) || (accept(&p, 'T') && !get_moment(&p, &d)) || *p || !sp_date_valid(d))
        return false;
    *out = (double)sp_date_unix(d);
    return *out > 0; /* 0 is never, and nothing was before 1970 */
}

static bool read_span(const char *text, double *out)
{
    static const struct {
        char unit;
        uint32_t s;
    } units[] = {
        {'s', 1    },
        {'m', 60   },
        {'h', 3600 },
        {'d', 86400}
    };
    size_t n = strspn(text, "0123456789");
    uint64_t v;

    if (!sp_decimal(sp_span(text, n), 1000000, &v) || (text[n] && text[n + 1]))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (text[n] == units[i].unit || (text[n] == 0 && units[i].unit == 's')) {
            *out = (double)(v * units[i].s);
            return true;
        }
    return false;
}

static cJSON *read_types(const char *text)
{
    cJSON *list = cJSON_CreateArray();

    for (const char *p = text; *p;) {
        size_t n = strcspn(p, ", ");
        uint64_t v;

        if (!sp_decimal(sp_span(p, n), 1000, &v)) {
            cJSON_Delete(list);
            return NULL;
        }
        cJSON_AddItemToArray(list, cJSON_CreateNumber((double)v));
        p += n + (p[n] != 0);
    }
    return list;
}

static const char *const expected[] = {
    [CLI_TIME] = "a day such as 2027-01-31, a moment such as 2027-01-31T12:00:00Z, or never",
    [CLI_SPAN] = "a number with s, m, h or d behind it, such as 15m",
    [CLI_TYPES] = "numbers with commas between them, such as 18,17",
};

static cJSON *make_value(const struct cli_option *o, const char *text, struct sp_err *e)
{
    cJSON *v = NULL;
    double number;

    switch (o->value) {
    case CLI_FLAG:
        return cJSON_CreateTrue();
    case CLI_TEXT:
    case CLI_LIST:
        return cJSON_CreateString(text);
    case CLI_TIME:
        v = read_time(text, &number) ? cJSON_CreateNumber(number) : NULL;
        break;
    case CLI_SPAN:
        v = read_span(text, &number) ? cJSON_CreateNumber(number) : NULL;
        break;
    case CLI_TYPES:
        v = read_types(text);
        break;
    }
    if (!v)
        (void)sp_fail(e, SP_EINPUT, 0, "--%s does not read so; write %s", o->name, expected[o->value]);
    return v;
}

static bool keep_value(struct cli *c, const struct cli_option *o, const char *text, struct sp_err *e)
{
    cJSON *to = o->key ? c->request : c->local;
    const char *key = o->key ? o->key : o->name;
    cJSON *had = cJSON_GetObjectItemCaseSensitive(to, key);
    cJSON *v;

    if (o->holder && !*text)
        return sp_fail(e, SP_EINPUT, 0, "--%s is empty; name %s, or leave it out", o->name, o->holder);
    if (!sp_is_utf8(sp_str(text)))
        return sp_fail(e, SP_EINPUT, 0, "--%s is not UTF-8; write it in UTF-8", o->name);
    if (had && o->value != CLI_LIST && o->value != CLI_FLAG)
        return sp_fail(e, SP_EINPUT, 0, "--%s is given twice; once is enough", o->name);
    if (had && o->value == CLI_FLAG)
        return true;
    v = make_value(o, text, e);
    if (!v)
        return false;
    if (o->value != CLI_LIST) {
        cJSON_AddItemToObject(to, key, v);
        return true;
    }
    if (!had)
        had = cJSON_AddArrayToObject(to, key);
    cJSON_AddItemToArray(had, v);
    return true;
}

/* ---- the walk over the words ---- */

struct words {
    int argc, at;
    char **argv;
};

static const struct cli_option *find_option(const struct cli_option *o, const char *name, size_t n)
{
    for (; o && o->name; o++)
        if (strlen(o->name) == n && memcmp(o->name, name, n) == 0)
            return o;
    return NULL;
}

/* A value that begins with two dashes is a forgotten value; --name=VALUE is there for those that are not. */
static const char *option_value(struct words *w, const struct cli_option *o, const char *word,
                                struct sp_err *e)
{
    const char *equals = strchr(word, '=');

    if (!o->holder) {
        if (equals)
            (void)sp_fail(e, SP_EINPUT, 0, "--%s takes no value; leave out the '='", o->name);
        return "";
    }
    if (equals)
        return equals + 1;
    if (w->at + 1 >= w->argc || strncmp(w->argv[w->at + 1], "--", 2) == 0) {
        (void)sp_fail(e, SP_EINPUT, 0, "--%s needs %s behind it", o->name, o->holder);
        return "";
    }
    return w->argv[++w->at];
}

static bool take_global(struct cli *c, const struct cli_option *o, const char *value, struct sp_err *e)
{
    if (strcmp(o->name, "json") == 0)
        c->json = true;
    else if (strcmp(o->name, "help") == 0)
        c->help = true;
    else if (!*value)
        return sp_fail(e, SP_EINPUT, 0, "--root is empty; name a directory");
    else
        c->root = value;
    return true;
}

static bool take_option(struct cli *c, struct words *w, struct sp_err *e)
{
    const char *word = w->argv[w->at] + 2;
    size_t n = strcspn(word, "=");
    const struct cli_option *global = find_option(cli_global_options, word, n);
    const struct cli_option *o = global ? global : find_option(c->verb ? c->verb->options : NULL, word, n);
    char name[64] = "";

    if (!o) {
        memcpy(name, word, n < sizeof name ? n : sizeof name - 1);
        return unknown_option(c, name, e);
    }
    const char *value = option_value(w, o, word, e);
    if (!sp_ok(e))
        return false;
    return global ? take_global(c, o, value, e) : keep_value(c, o, value, e);
}

static bool take_operand(struct cli *c, const char *word, struct sp_err *e)
{
    cJSON *to = c->verb->operand_key ? c->request : c->local;
    const char *key = c->verb->operand_key ? c->verb->operand_key : "operand";

    if (!c->verb->operand)
        return sp_fail(e, SP_EINPUT, 0, "'%s' takes no name; see 'sallyport %s --help'", c->path, c->path);
    if (cJSON_GetObjectItemCaseSensitive(to, key))
        return sp_fail(e, SP_EINPUT, 0,
                       "'%s' takes one %s; a password is never an argument, it is asked for or piped in",
                       c->path, c->verb->operand);
    if (!*word)
        return sp_fail(e, SP_EINPUT, 0, "%s is empty; see 'sallyport %s --help'", c->verb->operand, c->path);
    if (!sp_is_utf8(sp_str(word)))
        return sp_fail(e, SP_EINPUT, 0, "%s is not UTF-8; write it in UTF-8", c->verb->operand);
    cJSON_AddStringToObject(to, key, word);
    return true;
}

static bool take_word(struct cli *c, const char *word, struct sp_err *e)
{
    char path[sizeof c->path];

    if (c->verb)
        return take_operand(c, word, e);
    if (!c->path[0] && strcmp(word, "help") == 0) {
        c->help = true;
        return true;
    }
    if (strlen(c->path) + strlen(word) + 2 > sizeof path)
        return unknown_word(c, word, e);
    struct sp_text t = sp_text(path, sizeof path);
    sp_text_fmt(&t, "%s%s%s", c->path, c->path[0] ? " " : "", word);
    c->verb = cli_find_verb(path);
    if (!*word || strchr(word, ' ') || (!c->verb && !cli_is_group(path)))
        return unknown_word(c, word, e);
    memcpy(c->path, path, sizeof path);
    return true;
}

static bool take_next(struct cli *c, struct words *w, bool *literal, struct sp_err *e)
{
    const char *word = w->argv[w->at];

    if (*literal)
        return take_word(c, word, e);
    if (strcmp(word, "--") == 0) {
        *literal = true;
        return true;
    }
    if (strcmp(word, "-h") == 0) {
        c->help = true;
        return true;
    }
    if (!c->verb && strcmp(word, "--version") == 0) {
        c->version = true;
        return true;
    }
    if (strncmp(word, "--", 2) == 0)
        return take_option(c, w, e);
    if (word[0] == '-' && word[1])
        return sp_fail(e, SP_EINPUT, 0, "unknown option %.10s; options begin with two dashes", word);
    return take_word(c, word, e);
}

static bool complete(const struct cli *c, struct sp_err *e)
{
    const struct cli_verb *v = c->verb;

    if (!v)
        return sp_fail(e, SP_EINPUT, 0, "%s needs a command behind it; see 'sallyport%s%s --help'",
                       c->path[0] ? c->path : "sallyport", c->path[0] ? " " : "", c->path);
    if (v->operand && !v->may_lack &&
        !cJSON_HasObjectItem(v->operand_key ? c->request : c->local,
                             v->operand_key ? v->operand_key : "operand"))
        return sp_fail(e, SP_EINPUT, 0, "'%s' needs %s; see 'sallyport %s --help'", c->path, v->operand,
                       c->path);
    return true;
}

bool cli_parse(struct cli *c, int argc, char **argv, struct sp_err *e)
{
    struct words w = {argc, 1, argv};
    bool literal = false;

    /* How to complain is known before anything to complain about. */
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        c->json |= strcmp(argv[i], "--json") == 0;
    for (; w.at < argc; w.at++)
        if (!take_next(c, &w, &literal, e))
            return false;
    if (c->version)
        c->verb = cli_find_verb("version");
    return c->help || complete(c, e);
}

const char *cli_local(const struct cli *c, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c->local, name));
}

bool cli_flag(const struct cli *c, const char *name)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(c->local, name));
}
