/* SPDX-License-Identifier: MIT */
/* The keeper's part of a kpasswd change (decision 7). Results are RFC 3244's. */
#include <stdio.h>

#include "admin/private.h"

enum { SUCCESS = 0, HARD_ERROR = 2, AUTH_ERROR = 3, SOFT_ERROR = 4 };

static uint16_t result_of(const struct sp_err *e)
{
    return e->kind == SP_EREFUSED ? SOFT_ERROR : HARD_ERROR;
}

static bool change(struct admin *a, const struct admin_change *c, struct sp_err *e)
{
    struct store_lookup *l = lmdb_lookup(a->store);
    struct store_account acc;

    if (!l->find_id(l, c->account_id, &a->mem, &acc, e))
        return false;
    if (acc.generation != c->generation) /* changed or disabled since the worker proved the request */
        return sp_fail(e, SP_ENOTFOUND, 0, "the account has changed meanwhile");
    return admin_set_password(a, &acc, sp_span(c->password, c->password_n), e) && lmdb_put(a->store, &acc, e);
}

void admin_change_password(struct admin *a, const struct admin_change *c, uint16_t *result, char text[256])
{
    struct sp_err e = {0};

    if (c->password_n > sizeof c->password || change(a, c, &e)) {
        *result = c->password_n > sizeof c->password ? HARD_ERROR : SUCCESS;
        snprintf(text, 256, *result ? "The password is too long." : "Password changed.");
    } else if (e.kind == SP_ENOTFOUND) {
        *result = AUTH_ERROR;
        snprintf(text, 256, "The account has changed meanwhile; log in again.");
    } else {
        *result = result_of(&e);
        snprintf(text, 256, "%s",
                 *result == SOFT_ERROR ? e.text : "The password could not be stored; nothing was changed.");
    }
    lmdb_settle(a->store);
    sp_arena_reset(&a->mem);
}
