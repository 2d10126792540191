/* SPDX-License-Identifier: MIT */
/* service ...: the keytab goes into a file here, so that it belongs to whoever asked. */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/secret.h"

static bool to_stdout(const struct cli *c)
{
    return strcmp(cli_local(c, "out"), "-") == 0;
}

bool cli_before_keytab(struct cli *c, struct sp_err *e)
{
    if (!cli_local(c, "out"))
        return sp_fail(e, SP_EINPUT, 0,
                       "where shall the keytab go? say --out FILE, or --out - for standard output");
    if (!to_stdout(c))
        return true;
    if (cli_local(c, "owner"))
        return sp_fail(e, SP_EINPUT, 0, "standard output has no owner; leave out --owner, or name a file");
    if (!c->json && isatty(STDOUT_FILENO))
        return sp_fail(e, SP_EREFUSED, 0, "a keytab is no text for a terminal; say --out FILE");
    return true;
}

/* With --json on standard output the keytab stays in the result, in base64. */
bool cli_after_keytab(struct cli *c, cJSON *result, struct sp_err *e)
{
    cJSON *keytab = cJSON_GetObjectItemCaseSensitive(result, "keytab");
    size_t n = 0;

    if (!cJSON_IsString(keytab))
        return sp_fail(e, SP_EBUG, 0, "the answer holds no keytab; please report this");
    if (to_stdout(c) && c->json)
        return true;
    uint8_t *bytes = admin_unbase64(keytab->valuestring, &n);
    if (!bytes)
        return sp_fail(e, SP_EBUG, 0, "the keytab came back damaged; please report this");
    bool ok = to_stdout(c)
                  ? cli_write_out(sp_span(bytes, n), e)
                  : cli_write_private(cli_local(c, "out"), cli_local(c, "owner"), sp_span(bytes, n), e);
    sp_wipe(bytes, n);
    free(bytes);
    sp_wipe(keytab->valuestring, strlen(keytab->valuestring));
    cJSON_DeleteItemFromObjectCaseSensitive(result, "keytab");
    cJSON_AddStringToObject(result, "file", cli_local(c, "out"));
    return ok;
}

void cli_print_keytab(struct cli *c, const cJSON *result)
{
    char entries[64], file[4096];

    if (!to_stdout(c))
        printf("%s entries written to %s\n", cli_text(result, "entries", entries, sizeof entries),
               cli_text(result, "file", file, sizeof file));
}
