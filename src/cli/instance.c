/* SPDX-License-Identifier: MIT */
/* The verbs about an instance as a whole: init, status, config, backup, version. */
#include "cli/cli.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const cJSON *member(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static cJSON *member_of(const cJSON *object, const char *first, const char *second)
{
    return cJSON_GetObjectItemCaseSensitive(member(object, first), second);
}

/* How the next command is written: with --root where this one had it. */
static void print_command(const struct cli *c, const char *program, const char *rest)
{
    char safe[sizeof c->paths.root];
    struct sp_text t = sp_text(safe, sizeof safe);

    sp_text_safe(&t, sp_str(c->paths.root));
    printf("  %s%s%s %s\n", program, safe[0] ? " --root " : "", safe, rest);
}

static void print_lines(const char *text)
{
    char safe[1024];

    for (; text && *text; text += *text == '\n') {
        struct sp_text t = sp_text(safe, sizeof safe);
        size_t n = strcspn(text, "\n");

        sp_text_safe(&t, sp_span(text, n));
        printf("%s%s\n", n ? "    " : "", safe);
        text += n;
    }
}

void cli_print_init(struct cli *c, const cJSON *result)
{
    char cell[4096];

    printf("realm %s %s\n", cli_text(result, "realm", cell, sizeof cell),
           cJSON_IsFalse(member(result, "created")) ? "is here already, nothing was changed" : "is made");
    cli_print_object(member(result, "paths"), 2);
    printf("what a client needs to know (krb5.conf):\n");
    print_lines(cJSON_GetStringValue(member(member(result, "client_hint"), "krb5_conf")));
    if (member(result, "warning"))
        printf("warning: %s\n", cli_text(result, "warning", cell, sizeof cell));
    printf("next:\n");
    print_command(c, "sallyport", "account add NAME");
    print_command(c, "sallyport", "client-config");
    print_command(c, "sallyportd", "--foreground");
}

/* true from the store's side, an object with details from the keeper's. */
static bool daemon_runs(const cJSON *status)
{
    const cJSON *v = member(status, "daemon");

    return cJSON_IsTrue(v) || cJSON_IsObject(v);
}

bool cli_run_status(struct cli *c, cJSON **out, struct sp_err *e)
{
    cJSON_AddStringToObject(c->request, "op", "status");
    if (!admin_call(&c->paths, c->request, out, e))
        return false;
    return daemon_runs(*out) || !cli_flag(c, "require-daemon") ||
           sp_fail(e, SP_EBACKEND, ADMIN_NO_DAEMON, "no sallyportd runs here; start it");
}

/* Lists of what is wrong, and texts of many lines, have their own places. */
static void print_facts(const cJSON *result)
{
    cJSON *facts = cJSON_Duplicate(result, true);

    cJSON_DeleteItemFromObjectCaseSensitive(facts, "warnings");
    cJSON_DeleteItemFromObjectCaseSensitive(facts, "client_hint");
    cJSON_DeleteItemFromObjectCaseSensitive(member_of(facts, "daemon", "courier"), "realms");
    cli_print_object(facts, 0);
    cJSON_Delete(facts);
}

/* One row of a realm's ladder, as people read it. */
static cJSON *route_row(const cJSON *realm, const cJSON *route)
{
    static const char *const same[] = {"rung", "target", "state", "reason"};
    const cJSON *ms = member(route, "latency_ms");
    cJSON *row = cJSON_CreateObject();
    char cell[300];

    cJSON_AddStringToObject(row, "realm", cli_text(realm, "realm", cell, sizeof cell));
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
        cJSON_AddStringToObject(row, same[i], cli_text(route, same[i], cell, sizeof cell));
    snprintf(cell, sizeof cell, "%.19s", member(route, "since") ? member(route, "since")->valuestring : "-");
    cJSON_AddStringToObject(row, "since", cell);
    snprintf(cell, sizeof cell, "%.1f ms", ms ? ms->valuedouble : 0.0);
    cJSON_AddStringToObject(row, "latency", ms ? cell : "-");
    return row;
}

/* Every realm's ladder, from the courier. */
static void print_routes(const cJSON *realms)
{
    static const struct cli_column columns[] = {
        {"REALM",   "realm"  },
        {"RUNG",    "rung"   },
        {"TO",      "target" },
        {"STATE",   "state"  },
        {"SINCE",   "since"  },
        {"LATENCY", "latency"},
        {"REASON",  "reason" },
        {NULL,      NULL     },
    };
    cJSON *rows = cJSON_CreateArray();
    const cJSON *realm, *route;

    cJSON_ArrayForEach(realm, realms) cJSON_ArrayForEach(route, member(realm, "routes"))
        cJSON_AddItemToArray(rows, route_row(realm, route));
    if (cJSON_GetArraySize(rows) > 0) {
        printf("\n");
        cli_print_table(rows, columns);
    }
    cJSON_Delete(rows);
}

static void print_warnings(const cJSON *warnings)
{
    const cJSON *one;
    char safe[1024];

    cJSON_ArrayForEach(one, warnings)
    {
        struct sp_text t = sp_text(safe, sizeof safe);

        sp_text_safe(&t, sp_str(one->valuestring));
        printf("\nWARNING: %s\n", safe);
    }
}

void cli_print_status(struct cli *c, const cJSON *result)
{
    print_facts(result);
    print_routes(member_of(result, "daemon", "courier")
                     ? member(member_of(result, "daemon", "courier"), "realms")
                     : NULL);
    if (!daemon_runs(result)) {
        printf("\nNo sallyportd runs here: nobody can log in. Start it:\n");
        print_command(c, "sallyportd", "--foreground");
    }
    print_warnings(member(result, "warnings"));
}

bool cli_run_config_check(struct cli *c, cJSON **out, struct sp_err *e)
{
    static struct admin_config config; /* large */

    if (!admin_read_config(&c->paths, &config, e))
        return false;
    *out = cJSON_CreateObject();
    cJSON_AddTrueToObject(*out, "ok");
    cJSON_AddStringToObject(*out, "file", c->paths.config);
    cJSON_AddBoolToObject(*out, "present", access(c->paths.config, F_OK) == 0);
    return true;
}

void cli_print_config_check(struct cli *c, const cJSON *result)
{
    char cell[4400];

    (void)c;
    printf("%s%s\n", cli_text(result, "file", cell, sizeof cell),
           cJSON_IsTrue(member(result, "present")) ? ": good" : " is not there: everything has its default");
}

bool cli_run_config_show(struct cli *c, cJSON **out, struct sp_err *e)
{
    return admin_show_config(&c->paths, out, e);
}

void cli_print_config_show(struct cli *c, const cJSON *result)
{
    static const struct cli_column columns[] = {
        {"SECTION", "section"},
        {"KEY",     "key"    },
        {"VALUE",   "value"  },
        {"FROM",    "source" },
        {NULL,      NULL     },
    };

    (void)c;
    cli_print_table(member(result, "settings"), columns);
}

bool cli_before_backup(struct cli *c, struct sp_err *e)
{
    const char *given = cJSON_GetStringValue(member(c->request, "dir"));
    char path[PATH_MAX];

    if (!cli_absolute_path(given, path, sizeof path, e))
        return false;
    cJSON_ReplaceItemInObjectCaseSensitive(c->request, "dir", cJSON_CreateString(path));
    return true;
}

bool cli_run_version(struct cli *c, cJSON **out, struct sp_err *e)
{
    (void)c;
    (void)e;
    *out = cJSON_CreateObject();
    cJSON_AddStringToObject(*out, "version", SP_VERSION);
    return true;
}

void cli_print_version(struct cli *c, const cJSON *result)
{
    char cell[64];

    (void)c;
    printf("sallyport %s\n", cli_text(result, "version", cell, sizeof cell));
}
