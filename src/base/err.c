/* SPDX-License-Identifier: MIT */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#undef sp_fail
#undef sp_fail_at

/* A text that is too long loses its middle: it begins with what it is about, a path of any length, and ends
 * with the reason and what to do. */
__attribute__((format(printf, 2, 0), noinline)) static void keep_ends(struct sp_err *e, const char *fmt,
                                                                      va_list ap)
{
    char whole[4608];                                      /* PATH_MAX and a sentence */
    size_t head = 48, tail = sizeof e->text - head - 3, n; /* with the NUL */

    (void)vsnprintf(whole, sizeof whole, fmt, ap);
    n = strlen(whole);
    memcpy(e->text + head, "...", 3);
    memcpy(e->text + head + 3, whole + n + 1 - tail, tail);
}

__attribute__((format(printf, 5, 0))) static void
keep_first(struct sp_err *e, enum sp_kind kind, int32_t proto, uint32_t at, const char *fmt, va_list ap)
{
    va_list again;

    if (e->kind != SP_OK)
        return;
    e->kind = kind;
    e->proto = proto;
    e->at = at;
    va_copy(again, ap);
    if (vsnprintf(e->text, sizeof e->text, fmt, ap) >= (int)sizeof e->text)
        keep_ends(e, fmt, again);
    va_end(again);
}

bool sp_fail(struct sp_err *e, enum sp_kind kind, int32_t proto, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    keep_first(e, kind, proto, 0, fmt, ap);
    va_end(ap);
    return false;
}

bool sp_fail_at(struct sp_err *e, enum sp_kind kind, int32_t proto, uint32_t at, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    keep_first(e, kind, proto, at, fmt, ap);
    va_end(ap);
    return false;
}

const char *sp_kind_name(enum sp_kind kind)
{
    static const char *const name[] = {
        [SP_OK] = "ok",
        [SP_EINPUT] = "input",
        [SP_EREFUSED] = "refused",
        [SP_ENOTFOUND] = "not found",
        [SP_EEXIST] = "exists",
        [SP_ENOMEM] = "no memory",
        [SP_EFULL] = "full",
        [SP_EBACKEND] = "backend",
        [SP_EBUG] = "bug",
    };

    return (unsigned)kind < sizeof name / sizeof name[0] ? name[kind] : "?";
}

_Noreturn void sp_assert_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "sallyport: assertion failed: %s (%s:%d)\n", what, file, line);
    abort();
}
