/* SPDX-License-Identifier: MIT */
/* Results and errors, for people and for scripts. Names come from strangers: to a terminal they go through
 * sp_text_safe only. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#include "base/secret.h"

#define CELL_MAX 8192

static void add_value(struct sp_text *t, const cJSON *v)
{
    const cJSON *item;

    if (cJSON_IsString(v))
        sp_text_safe(t, sp_str(v->valuestring));
    else if (cJSON_IsBool(v))
        sp_text_str(t, cJSON_IsTrue(v) ? "yes" : "no");
    else if (cJSON_IsNumber(v))
        sp_text_fmt(t, v->valuedouble > -1e15 && v->valuedouble < 1e15 ? "%.0f" : "%.17g", v->valuedouble);
    else if (cJSON_IsArray(v))
        cJSON_ArrayForEach(item, v)
        {
            sp_text_str(t, item == v->child ? "" : " ");
            add_value(t, item);
        }
}

const char *cli_text(const cJSON *object, const char *key, char *buf, size_t n)
{
    struct sp_text t = sp_text(buf, n);

    add_value(&t, cJSON_GetObjectItemCaseSensitive(object, key));
    if (t.n == 0)
        sp_text_str(&t, "-");
    return buf;
}

/* Columns on a terminal: one for each code point, which is right for the names that people have here. */
static int width_of(const char *s)
{
    int n = 0;

    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static int column_width(const cJSON *rows, const struct cli_column *column)
{
    int width = width_of(column->head);
    char cell[CELL_MAX];
    const cJSON *row;

    cJSON_ArrayForEach(row, rows)
    {
        int w = width_of(cli_text(row, column->key, cell, sizeof cell));

        width = w > width ? w : width;
    }
    return width;
}

static void print_cell(const char *text, int width, bool last)
{
    fputs(text, stdout);
    if (last)
        putchar('\n');
    else
        printf("%*s", width - width_of(text) + 2, "");
}

#define COLUMNS_MAX 12

void cli_print_table(const cJSON *rows, const struct cli_column *columns)
{
    int width[COLUMNS_MAX], count = 0;
    char cell[CELL_MAX];
    const cJSON *row;

    for (; columns[count].head && count < COLUMNS_MAX; count++)
        width[count] = column_width(rows, &columns[count]);
    for (int i = 0; i < count; i++)
        print_cell(columns[i].head, width[i], i + 1 == count);
    cJSON_ArrayForEach(row, rows)
    {
        for (int i = 0; i < count; i++)
            print_cell(cli_text(row, columns[i].key, cell, sizeof cell), width[i], i + 1 == count);
    }
}

static bool is_table(const cJSON *v)
{
    return cJSON_IsArray(v) && cJSON_IsObject(v->child);
}

static int label_width(const cJSON *object)
{
    const cJSON *item;
    int width = 0;

    cJSON_ArrayForEach(item, object)
    {
        int w = width_of(item->string);

        width = w > width ? w : width;
    }
    return width;
}

static void print_label(const char *key, int indent)
{
    printf("%*s", indent, "");
    for (const char *p = key; *p; p++)
        putchar(*p == '_' ? ' ' : *p);
}

static void print_nested(const cJSON *item, int indent)
{
    const cJSON *one;

    putchar('\n');
    if (cJSON_IsObject(item)) {
        cli_print_object(item, indent);
        return;
    }
    cJSON_ArrayForEach(one, item) cli_print_object(one, indent);
}

void cli_print_object(const cJSON *object, int indent)
{
    int width = label_width(object);
    char cell[CELL_MAX];
    const cJSON *item;

    cJSON_ArrayForEach(item, object)
    {
        print_label(item->string, indent);
        if (cJSON_IsObject(item) || is_table(item))
            print_nested(item, indent + 2);
        else
            printf("%*s%s\n", width - width_of(item->string) + 2, "",
                   cli_text(object, item->string, cell, sizeof cell));
    }
}

void cli_print_json(const cJSON *v)
{
    char *text = cJSON_PrintUnformatted(v);

    if (!text)
        return;
    puts(text);
    sp_wipe(text, strlen(text)); /* keys may have been in it */
    cJSON_free(text);
}

/* What to do, where the text does not say it. */
static const char *advice(const struct cli *c, const struct sp_err *e, char buf[192])
{
    switch (admin_exit_status(e)) {
    case 2:
        return strncmp(c->path, "config", 6) == 0 ? "see sallyport.conf(5)" : "see --help";
    case 3:
        if (!c->verb || !c->verb->operand)
            return snprintf(buf, 192, "run %s, or restore a backup", admin_command(&c->paths, "init").text),
                   buf;
        return strncmp(c->path, "service", 7) == 0 ? "see 'sallyport service list'"
                                                   : "see 'sallyport account list'";
    case 4:
        return "choose another name, or delete that one first";
    case 5:
        return "run this as root, or as the owner of that directory";
    case 6:
        return "start sallyportd";
    default:
        return e->kind == SP_EFULL ? "make room; nothing was changed" : "nothing was changed";
    }
}

static bool has_advice(const struct sp_err *e)
{
    return strchr(e->text, ';') != NULL;
}

static void print_error_json(const struct cli *c, const struct sp_err *e)
{
    cJSON *all = cJSON_CreateObject();
    cJSON *error = cJSON_AddObjectToObject(all, "error");
    char buf[192];

    cJSON_AddStringToObject(error, "kind", sp_kind_name(e->kind));
    cJSON_AddStringToObject(error, "text", e->text);
    if (!has_advice(e))
        cJSON_AddStringToObject(error, "advice", advice(c, e, buf));
    cJSON_AddNumberToObject(error, "status", admin_exit_status(e));
    cli_print_json(all);
    cJSON_Delete(all);
}

void cli_print_error(const struct cli *c, const struct sp_err *e)
{
    char safe[sizeof e->text * 4 + 1], buf[192];
    struct sp_text t = sp_text(safe, sizeof safe);

    if (c->json) {
        print_error_json(c, e);
        return;
    }
    bool advised = has_advice(e);
    sp_text_safe(&t, sp_str(e->text));
    if (advised)
        fprintf(stderr, "sallyport: %s\n", safe);
    else
        fprintf(stderr, "sallyport: %s; %s\n", safe, advice(c, e, buf));
}

static void wipe_texts(cJSON *v)
{
    for (; v; v = v->next) {
        if (cJSON_IsString(v))
            sp_wipe(v->valuestring, strlen(v->valuestring));
        wipe_texts(v->child);
    }
}

void cli_forget(cJSON *v)
{
    wipe_texts(v);
    cJSON_Delete(v);
}
