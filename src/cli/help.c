/* SPDX-License-Identifier: MIT */
/* --help at every level, from the table. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static void print_options(const struct cli_option *o)
{
    char left[64];

    for (; o->name; o++) {
        struct sp_text t = sp_text(left, sizeof left);

        sp_text_fmt(&t, "--%s%s%s", o->name, o->holder ? " " : "", o->holder ? o->holder : "");
        printf("  %-23s %s\n", left, o->help);
    }
}

static void print_verb(const struct cli_verb *v)
{
    printf("usage: sallyport %s%s%s%s\n\n%s\n", v->path, v->operand ? " " : "", v->operand ? v->operand : "",
           " [options]", v->help);
    if (v->more)
        printf("\n%s\n", v->more);
    printf("\noptions:\n");
    print_options(v->options);
    print_options(cli_global_options);
}

static void print_group(const char *group)
{
    char left[64];
    size_t n;

    printf("usage: sallyport %s%sCOMMAND [options]\n\ncommands:\n", group, group[0] ? " " : "");
    for (const struct cli_verb *v = cli_verbs; v->path; v++) {
        struct sp_text t = sp_text(left, sizeof left);

        if (!cli_word_below(v, group, &n))
            continue;
        sp_text_fmt(&t, "%s%s%s", v->path, v->operand ? " " : "", v->operand ? v->operand : "");
        printf("  %-26s %s\n", left, v->help);
    }
    printf("\noptions everywhere:\n");
    print_options(cli_global_options);
    printf("\nexit status: 0 done, 1 refused or failed, 2 usage, 3 not found, 4 exists, 5 not permitted, 6 "
           "no daemon\n");
}

static cJSON *options_json(const struct cli_option *o)
{
    cJSON *list = cJSON_CreateArray();

    for (; o->name; o++) {
        cJSON *one = cJSON_CreateObject();

        cJSON_AddStringToObject(one, "name", o->name);
        if (o->holder)
            cJSON_AddStringToObject(one, "value", o->holder);
        cJSON_AddStringToObject(one, "help", o->help);
        cJSON_AddItemToArray(list, one);
    }
    return list;
}

static cJSON *verb_json(const struct cli_verb *v)
{
    cJSON *one = cJSON_CreateObject();

    cJSON_AddStringToObject(one, "path", v->path);
    if (v->operand)
        cJSON_AddStringToObject(one, "operand", v->operand);
    cJSON_AddStringToObject(one, "help", v->help);
    cJSON_AddItemToObject(one, "options", options_json(v->options));
    return one;
}

static bool belongs(const struct cli *c, const struct cli_verb *v)
{
    size_t n;

    return c->verb ? c->verb == v : cli_word_below(v, c->path, &n) != NULL;
}

static void print_help_json(const struct cli *c)
{
    cJSON *all = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(all, "commands");

    for (const struct cli_verb *v = cli_verbs; v->path; v++)
        if (belongs(c, v))
            cJSON_AddItemToArray(list, verb_json(v));
    cJSON_AddItemToObject(all, "options", options_json(cli_global_options));
    cli_print_json(all);
    cJSON_Delete(all);
}

void cli_print_help(const struct cli *c)
{
    if (c->json)
        print_help_json(c);
    else if (c->verb)
        print_verb(c->verb);
    else
        print_group(c->path);
}
