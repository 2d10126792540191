/* SPDX-License-Identifier: MIT */
/* sallyport: understand, ask, do, show. */
#include "cli/cli.h"

#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static bool operate(struct cli *c, cJSON **out, struct sp_err *e)
{
    if (c->verb->run)
        return c->verb->run(c, out, e);
    cJSON_AddStringToObject(c->request, "op", c->verb->op);
    return admin_call(&c->paths, c->request, out, e);
}

static void show(struct cli *c, const cJSON *result)
{
    if (c->json)
        cli_print_json(result);
    else if (c->verb->print)
        c->verb->print(c, result);
    else
        cli_print_object(result, 0);
}

static bool find_root(struct cli *c, struct sp_err *e)
{
    struct stat st;

    if (!admin_find_paths(c->root, &c->paths, e))
        return false;
    return !c->paths.root[0] || stat(c->paths.root, &st) != 0 || S_ISDIR(st.st_mode) ||
           sp_fail(e, SP_EINPUT, 0, "%.70s is no directory; name one with --root", c->paths.root);
}

static bool perform(struct cli *c, struct sp_err *e)
{
    cJSON *result = NULL;
    bool ok = find_root(c, e) && (!c->verb->before || c->verb->before(c, e)) && operate(c, &result, e) &&
              (!c->verb->after || c->verb->after(c, result, e));

    if (ok)
        show(c, result);
    cli_forget(result);
    return ok;
}

static bool run(struct cli *c, int argc, char **argv, struct sp_err *e)
{
    if (!cli_parse(c, argc, argv, e))
        return false;
    if (c->help) {
        cli_print_help(c);
        return true;
    }
    return perform(c, e);
}

/* Where one of the three is closed the next file or socket would take its place, and get what is said to
 * people: what stands there instead can be neither read nor written. */
static bool take_standard_places(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            return false;
    return true;
}

/* A full disk or a closed pipe is a failure of the command, not a detail. */
static bool flush(struct sp_err *e)
{
    return (fflush(stdout) == 0 && !ferror(stdout)) ||
           sp_fail(e, SP_EBACKEND, 0, "standard output cannot be written; what was asked for was done");
}

int main(int argc, char **argv)
{
    const struct rlimit none = {0, 0};
    struct cli c = {.request = cJSON_CreateObject(), .local = cJSON_CreateObject()};
    struct sp_err e = {0};

    if (!take_standard_places())
        return 1;
    (void)setrlimit(RLIMIT_CORE, &none); /* passwords and keys pass through here */
    umask(077);
    bool ok = run(&c, argc, argv, &e) && flush(&e);
    if (!ok) {
        cli_print_error(&c, &e);
        (void)fflush(stdout);
    }
    cli_forget(c.request);
    cli_forget(c.local);
    cli_end_as_told();
    return ok && c.verdict ? 1 : admin_exit_status(&e);
}
