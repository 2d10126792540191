/* SPDX-License-Identifier: MIT */
/* Which passwords are good enough. The texts are read by the person who chose the password. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>

#include "admin/private.h"

enum { PASSWORD_MAX = 1023 }; /* what struct admin_change holds */

static size_t count_letters(struct sp_span s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++)
        n += (s.p[i] & 0xc0) != 0x80;
    return n;
}

static struct sp_span fold(struct sp_span s, uint8_t *out)
{
    for (size_t i = 0; i < s.n; i++)
        out[i] = (uint8_t)(s.p[i] < 0x80 ? tolower(s.p[i]) : s.p[i]);
    return sp_span(out, s.n);
}

/* Each run of letters and digits of the name that has three bytes or more. */
static bool has_name(struct sp_span password, struct sp_span name)
{
    for (size_t i = 0; i < name.n; i++) {
        size_t n = 0;

        while (i + n < name.n && (isalnum(name.p[i + n]) || name.p[i + n] >= 0x80))
            n++;
        if (n >= 3 && n <= password.n && memmem(password.p, password.n, name.p + i, n))
            return true;
        i += n;
    }
    return false;
}

/* "Password2024!" is "password" with a tail that every guesser tries. */
static struct sp_span without_tail(struct sp_span s)
{
    while (s.n > 0 && !isalpha(s.p[s.n - 1]) && s.p[s.n - 1] < 0x80)
        s.n--;
    return s;
}

static bool in_file(const char *path, struct sp_span folded, bool *found, struct sp_err *e)
{
    char line[PASSWORD_MAX + 3];
    FILE *f = fopen(path, "re");

    *found = false;
    if (!f)
        return sp_fail(e, SP_EBACKEND, 0, "[policy] common-passwords: %.80s: %m", path);
    while (!*found && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\r\n")] = 0;
        *found = line[0] && sp_same_nocase(sp_str(line), folded);
    }
    fclose(f);
    return true;
}

static bool check_common(const struct admin_config *c, struct sp_span folded, struct sp_err *e)
{
    struct sp_span stem = without_tail(folded);
    bool found = admin_is_common(folded) || (stem.n >= 3 && admin_is_common(stem));

    if (!found && c->common_passwords[0] && !in_file(c->common_passwords, folded, &found, e))
        return false;
    return !found ||
           sp_fail(e, SP_EREFUSED, 0, "This password is on the list of common passwords; choose another.");
}

bool admin_check_password(const struct admin_config *c, struct sp_span name, struct sp_span password,
                          struct sp_err *e)
{
    uint8_t a[PASSWORD_MAX], b[KRB_NAME_TEXT_MAX];
    struct sp_span folded;
    bool ok;

    if (password.n > PASSWORD_MAX || !sp_is_utf8(password))
        return sp_fail(e, SP_EREFUSED, 0, "The password must be UTF-8 text of at most %d bytes.",
                       PASSWORD_MAX);
    if (count_letters(password) < c->password_min)
        return sp_fail(e, SP_EREFUSED, 0, "The password must have at least %u characters.", c->password_min);
    folded = fold(password, a);
    name.n = name.n < sizeof b ? name.n : sizeof b;
    if (has_name(folded, fold(name, b)))
        ok = sp_fail(e, SP_EREFUSED, 0, "The password must not contain the account's name.");
    else
        ok = check_common(c, folded, e);
    sp_wipe(a, sizeof a);
    return ok;
}
