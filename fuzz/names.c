/* SPDX-License-Identifier: MIT */
/* Texts from outside: names parse and print as the same name, look-up keys are stable, what goes to records
 * and terminals is escaped. */
#include "world.h"

#include "krb/name.h"

#include <stdlib.h>

enum { ROOM = 1 << 18, TEXT = 8192 };

static uint8_t block[ROOM];
static char text[TEXT];

static bool is_printable(const char *p)
{
    for (; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    return true;
}

static void check_key(const struct krb_name *name, struct sp_arena *mem)
{
    struct krb_realm realm = {.name = SP_LIT("BENCH.TEST")};
    struct sp_span key, again;
    struct sp_err e = {0};

    if (!krb_name_key(name, &realm, mem, &key, &e))
        return;
    fuzz_must(key.n > 0 && sp_is_utf8(key), "a look-up key is text");
    e = (struct sp_err){0};
    fuzz_must(krb_name_key(name, &realm, mem, &again, &e) && sp_same(key, again),
              "a name has one look-up key");
}

static void check_name(struct sp_span in, struct sp_arena *mem)
{
    struct krb_name name, again;
    struct sp_span realm, realm_again;
    struct sp_text to = sp_text(text, sizeof text);
    struct sp_err e = {0};

    if (!krb_parse_name(in, mem, &name, &realm, &e))
        return;
    if (realm.p)
        krb_text_principal(&to, &name, realm);
    else
        krb_text_name(&to, &name);
    check_key(&name, mem);
    if (to.cut || to.n > KRB_NAME_TEXT_MAX)
        return;
    fuzz_must(krb_parse_name(sp_span(text, to.n), mem, &again, &realm_again, &e),
              "a printed name can be read");
    fuzz_must(krb_same_name(&name, &again), "as the same name");
    fuzz_must((realm.p == NULL) == (realm_again.p == NULL), "with its realm");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t *copy = fuzz_copy(data, n);
    struct sp_span in = {copy, n}, parts[1] = {in};
    struct krb_name single = krb_name_of(NT_ENTERPRISE, parts, 1);
    struct sp_text to = sp_text(text, sizeof text);
    struct sp_arena mem;
    uint64_t number;

    sp_arena_init(&mem, block, sizeof block);
    check_name(in, &mem);
    check_key(&single, &mem);
    sp_text_json(&to, in);
    fuzz_must(is_printable(text), "JSON has no raw control bytes");
    to = sp_text(text, sizeof text);
    sp_text_safe(&to, in);
    fuzz_must(is_printable(text), "a terminal gets no control bytes");
    (void)crypto_find_type_named(in);
    (void)sp_decimal(in, UINT64_MAX, &number);
    free(copy);
    return 0;
}
