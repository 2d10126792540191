/* SPDX-License-Identifier: MIT */
/* account ...: what is asked before and shown after. */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool cli_before_add(struct cli *c, struct sp_err *e)
{
    return cli_ask_password(c, e);
}

bool cli_before_keys(struct cli *c, struct sp_err *e)
{
    return cli_flag(c, "show-secret") ||
           sp_fail(e, SP_EREFUSED, 0,
                   "whoever reads these keys is that account; if you mean it, add --show-secret");
}

bool cli_before_alias(struct cli *c, struct sp_err *e)
{
    return cJSON_HasObjectItem(c->request, "add") || cJSON_HasObjectItem(c->request, "remove") ||
           sp_fail(e, SP_EINPUT, 0, "nothing to do; say --add NAME or --remove NAME");
}

bool cli_before_export(struct cli *c, struct sp_err *e)
{
    return cli_ask_secret(c, "passphrase", CLI_ASK_TWICE, e);
}

bool cli_before_import(struct cli *c, struct sp_err *e)
{
    const char *path = cli_local(c, "operand");

    if (strcmp(path, "-") == 0 && cli_flag(c, "passphrase-stdin"))
        return sp_fail(e, SP_EINPUT, 0, "standard input cannot be both; put the export into a file");
    if (!cli_ask_secret(c, "passphrase", CLI_ASK_ONCE, e))
        return false;
    char *text = cli_read_all(path, ADMIN_WIRE_MAX / 2, e);
    if (!text)
        return false;
    cJSON_AddStringToObject(c->request, "text", text);
    free(text);
    return true;
}

/* Into a file the text goes here; on standard output it is the result itself. */
bool cli_after_export(struct cli *c, cJSON *result, struct sp_err *e)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(result, "text"));
    const char *path = cli_local(c, "out");

    if (!text)
        return sp_fail(e, SP_EBUG, 0, "the export came back without a text; please report this");
    if (!path || strcmp(path, "-") == 0)
        return true;
    if (!cli_write_private(path, NULL, sp_str(text), e))
        return false;
    cJSON_DeleteItemFromObjectCaseSensitive(result, "text");
    cJSON_AddStringToObject(result, "file", path);
    return true;
}

void cli_print_exported(struct cli *c, const cJSON *result)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(result, "text"));
    char cell[4096];

    (void)c;
    if (text)
        fputs(text, stdout);
    else
        printf("exported to %s\n", cli_text(result, "file", cell, sizeof cell));
}

static void print_skipped(const cJSON *skipped)
{
    const cJSON *one;
    char cell[4096];

    cJSON_ArrayForEach(one, skipped)
    {
        struct sp_text t = sp_text(cell, sizeof cell);

        if (!cJSON_IsString(one))
            continue;
        sp_text_safe(&t, sp_str(one->valuestring));
        printf("skipped   %s\n", cell);
    }
}

void cli_print_imported(struct cli *c, const cJSON *result)
{
    const cJSON *skipped = cJSON_GetObjectItemCaseSensitive(result, "skipped");
    char cell[64];

    (void)c;
    printf("imported  %s\n", cli_text(result, "imported", cell, sizeof cell));
    print_skipped(skipped);
    if (cJSON_GetArraySize(skipped) > 0)
        printf("Those exist here already; --replace takes the exported ones.\n");
}

void cli_print_account(struct cli *c, const cJSON *result)
{
    const cJSON *account = cJSON_GetObjectItemCaseSensitive(result, "account");

    (void)c;
    cli_print_object(account ? account : result, 0);
}

static void print_fact(const cJSON *account, const char *key, const char *label)
{
    char cell[8192];

    if (strcmp(cli_text(account, key, cell, sizeof cell), "-") != 0)
        printf(", %s%s", label, cell);
}

/* After a change: one line; `account show` has the rest. */
void cli_print_changed(struct cli *c, const cJSON *result)
{
    const cJSON *account = cJSON_GetObjectItemCaseSensitive(result, "account");
    char cell[8192];

    (void)c;
    printf("%s: ", cli_text(account, "name", cell, sizeof cell));
    printf("%s", cli_text(account, "kind", cell, sizeof cell));
    print_fact(account, "kvno", "key version ");
    print_fact(account, "etypes", "types ");
    print_fact(account, "flags", "flags ");
    print_fact(account, "aliases", "aliases ");
    putchar('\n');
}

/* Accounts or services: one row for each, the same columns for both. */
void cli_print_list(struct cli *c, const cJSON *result)
{
    static const struct cli_column columns[] = {
        {"NAME",    "name"   },
        {"KIND",    "kind"   },
        {"FLAGS",   "flags"  },
        {"KVNO",    "kvno"   },
        {"TYPES",   "etypes" },
        {"CHANGED", "changed"},
        {"ALIASES", "aliases"},
        {NULL,      NULL     },
    };
    const cJSON *accounts = cJSON_GetObjectItemCaseSensitive(result, "accounts");

    (void)c;
    cli_print_table(accounts ? accounts : cJSON_GetObjectItemCaseSensitive(result, "services"), columns);
}

void cli_print_deleted(struct cli *c, const cJSON *result)
{
    char cell[4096];

    (void)result;
    printf("deleted %s\n", cli_text(c->request, "name", cell, sizeof cell));
}

void cli_print_keys(struct cli *c, const cJSON *result)
{
    static const struct cli_column columns[] = {
        {"ETYPE", "etype"},
        {"KVNO",  "kvno" },
        {"SALT",  "salt" },
        {"KEY",   "key"  },
        {NULL,    NULL   },
    };

    (void)c;
    cli_print_table(cJSON_GetObjectItemCaseSensitive(result, "keys"), columns);
}
