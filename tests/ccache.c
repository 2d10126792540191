/* SPDX-License-Identifier: MIT */
/* FILE credential caches: ours read by libkrb5, libkrb5's read by us, and what is no cache refused at the
 * byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <krb5/krb5.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "krb/ccache.h"
#include "krb/name.h"

static krb5_context ctx;
static _Alignas(16) uint8_t block[1 << 20];
static uint8_t file[1 << 16];
static char path[] = "/tmp/sallyport-ccache-XXXXXX";

static int set_up(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    close(fd);
    setenv("KRB5_CONFIG", "/dev/null", 1);
    return fd < 0 || krb5_init_context(&ctx);
}

static int tear_down(void **state)
{
    (void)state;
    krb5_free_context(ctx);
    return unlink(path);
}

static struct krb_name name_of(struct sp_arena *mem, const char *text, struct sp_span *realm)
{
    struct sp_err e = {0};
    struct krb_name n = {0};

    assert_true(krb_parse_name(sp_str(text), mem, &n, realm, &e));
    return n;
}

static struct krb_credential sample(struct sp_arena *mem, const char *server)
{
    struct krb_credential v = {
        .key = {.n = 32, .etype = 18},
        .flags = 0x40610000,
        .authtime = 1795269901,
        .starttime = 1795269902,
        .endtime = 1795305901,
        .ticket = SP_LIT("a ticket is only bytes here")
    };

    memset(v.key.b, 7, 32);
    v.client = name_of(mem, "alice@NAS1", &v.crealm);
    v.server = name_of(mem, server, &v.srealm);
    return v;
}

static struct sp_span make_file(struct sp_arena *mem, struct krb_credential *two)
{
    struct krb_ccache c = {.offset_s = -3, .offset_us = 5, .v = two, .count = 2};
    struct sp_span out = {0};
    struct sp_err e = {0};

    c.principal = name_of(mem, "alice@NAS1", &c.realm);
    two[0] = sample(mem, "krbtgt/NAS1@NAS1");
    two[1] = sample(mem, "HTTP/nas1@NAS1");
    assert_true(krb_put_ccache(&c, mem, &out, &e));
    return out;
}

static void write_file(struct sp_span s)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(s.p, 1, s.n, f), s.n);
    fclose(f);
}

static struct sp_span read_file(void)
{
    FILE *f = fopen(path, "rb");
    size_t n = fread(file, 1, sizeof file, f);

    fclose(f);
    return sp_span(file, n);
}

static krb5_ccache open_theirs(void)
{
    char full[80];
    krb5_ccache cc;

    snprintf(full, sizeof full, "FILE:%s", path);
    assert_int_equal(krb5_cc_resolve(ctx, full, &cc), 0);
    return cc;
}

static void libkrb5_reads_ours(void **state)
{
    struct krb_credential two[2];
    struct sp_arena mem;
    krb5_creds got;
    krb5_cc_cursor cursor;
    krb5_ccache cc;
    char *name;
    int count = 0;

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    write_file(make_file(&mem, two));
    cc = open_theirs();
    assert_int_equal(krb5_cc_start_seq_get(ctx, cc, &cursor), 0);
    while (krb5_cc_next_cred(ctx, cc, &cursor, &got) == 0) {
        assert_int_equal(krb5_unparse_name(ctx, got.server, &name), 0);
        assert_string_equal(name, count == 0 ? "krbtgt/NAS1@NAS1" : "HTTP/nas1@NAS1");
        assert_int_equal(got.times.endtime, 1795305901);
        assert_int_equal((uint32_t)got.ticket_flags, 0x40610000u);
        assert_memory_equal(got.keyblock.contents, two[0].key.b, 32);
        assert_memory_equal(got.ticket.data, two[0].ticket.p, two[0].ticket.n);
        krb5_free_unparsed_name(ctx, name);
        krb5_free_cred_contents(ctx, &got);
        count++;
    }
    krb5_cc_end_seq_get(ctx, cc, &cursor);
    krb5_cc_close(ctx, cc);
    assert_int_equal(count, 2);
}

static void store_theirs(krb5_ccache cc, const char *server)
{
    krb5_creds v = {0};
    uint8_t key[32] = {9};

    assert_int_equal(krb5_parse_name(ctx, "bob/admin@NAS1", &v.client), 0);
    assert_int_equal(krb5_parse_name(ctx, server, &v.server), 0);
    v.keyblock = (krb5_keyblock){0, 18, 32, key};
    v.times.endtime = 1795305901;
    v.ticket = (krb5_data){0, 6, (char[]){"ticket"}};
    assert_int_equal(krb5_cc_store_cred(ctx, cc, &v), 0);
    krb5_free_principal(ctx, v.client);
    krb5_free_principal(ctx, v.server);
}

static void we_read_libkrb5s(void **state)
{
    krb5_ccache cc = open_theirs();
    krb5_data value = {0, 3, (char[]){"yes"}};
    struct krb_ccache c = {0};
    struct sp_err e = {0};
    struct sp_span realm;
    struct sp_arena mem;
    krb5_principal who;
    struct krb_name server;

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    assert_int_equal(krb5_parse_name(ctx, "bob/admin@NAS1", &who), 0);
    assert_int_equal(krb5_cc_initialize(ctx, cc, who), 0);
    assert_int_equal(krb5_cc_set_config(ctx, cc, NULL, "fast_avail", &value), 0);
    store_theirs(cc, "krbtgt/NAS1@NAS1");
    store_theirs(cc, "cifs/nas1@NAS1");
    krb5_free_principal(ctx, who);
    krb5_cc_close(ctx, cc);
    assert_true(krb_get_ccache(read_file(), &mem, &c, &e));
    assert_int_equal(c.count, 2);
    assert_int_equal(c.config_count, 1);
    server = name_of(&mem, "cifs/nas1@NAS1", &realm);
    assert_ptr_equal(krb_find_credential(&c, &server, realm, 1795305900), &c.v[1]);
    assert_null(krb_find_credential(&c, &server, realm, 1795305901));
    assert_int_equal(c.v[1].key.b[0], 9);
    assert_int_equal(c.principal.parts.count, 2);
}

static void ours_comes_back(void **state)
{
    struct krb_credential two[2];
    struct krb_ccache c = {0};
    struct sp_span made, again = {0};
    struct sp_err e = {0};
    struct sp_arena mem;

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    made = make_file(&mem, two);
    assert_true(krb_get_ccache(made, &mem, &c, &e));
    assert_int_equal(c.offset_s, -3);
    assert_true(krb_put_ccache(&c, &mem, &again, &e));
    assert_true(sp_same(made, again));
}

/* What is cut anywhere is refused, but for the cuts between two credentials. */
static void cuts_are_refused(void **state)
{
    struct krb_credential two[2];
    struct sp_span made, one = {0};
    struct sp_err e = {0};
    struct sp_arena mem;
    size_t mark, whole = 0;

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    made = make_file(&mem, two);
    assert_true(krb_put_credential(&two[1], &mem, &one, &e));
    mark = mem.used;
    for (size_t n = 0; n < made.n; n++) {
        struct krb_ccache c = {.count = 77};

        e = (struct sp_err){0};
        if (krb_get_ccache(sp_span(made.p, n), &mem, &c, &e)) {
            whole++;
            mem.used = mark;
            continue;
        }
        assert_int_equal(e.kind, SP_EINPUT);
        assert_int_equal(c.count, 77);
        assert_int_equal(mem.used, mark);
    }
    assert_int_equal(whole, 2);
    e = (struct sp_err){0};
    assert_false(krb_get_ccache(SP_LIT("\x05\x02rest"), &mem, &(struct krb_ccache){0}, &e));
    assert_int_equal(e.kind, SP_EREFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(libkrb5_reads_ours),
        cmocka_unit_test(we_read_libkrb5s),
        cmocka_unit_test(ours_comes_back),
        cmocka_unit_test(cuts_are_refused),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
