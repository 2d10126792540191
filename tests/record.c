/* SPDX-License-Identifier: MIT */
/* Record lines as the worker writes them, byte for byte: other programs read them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/record.h"

static struct record_writer w;
static int keeper;
static char got[sizeof w.buf + 1];

static int begin(void **state)
{
    int fd[2];

    (void)state;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd) != 0)
        return -1;
    keeper = fd[0];
    record_init(&w, fd[1], 3, 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    return close(keeper) | close(w.fd);
}

static const char *flushed(void)
{
    ssize_t n;

    record_flush(&w);
    n = recv(keeper, got, sizeof got - 1, MSG_DONTWAIT);
    got[n > 0 ? n : 0] = 0;
    return got;
}

static struct sp_env at(int64_t wall_us)
{
    return (struct sp_env){.wall_us = wall_us, .mono_us = 5000000};
}

static const struct record_facts facts = {
    .door = "kdc", .transport = "udp", .source = "10.0.0.7", .took_us = 1234};

static void a_success(void **state)
{
    struct kdc_record r = {
        .event = "as",
        .client = SP_LIT("alice@EXAMPLE.TEST"),
        .service = SP_LIT("krbtgt/EXAMPLE.TEST@EXAMPLE.TEST"),
        .requested_etypes = {18, -133, 17},
        .requested_count = 3,
        .ticket_etype = 18,
        .session_etype = 17,
        .reply_etype = 20,
        .preauth = "timestamp"
    };

    (void)state;
    memcpy(r.ticket_id, "\x00\xff\x10\xa5zzzzzzzzzzzz", 16);
    record_write(&w, at(1795269901000000), &facts, &r);
    assert_string_equal(
        flushed(),
        "{\"ts\":\"2026-11-21T14:05:01.000000Z\",\"event\":\"as\",\"door\":\"kdc\",\"transport\":\"udp\","
        "\"source\":\"10.0.0.7\",\"client\":\"alice@EXAMPLE.TEST\",\"service\":\"krbtgt/"
        "EXAMPLE.TEST@EXAMPLE.TEST\",\"etypes\":{\"requested\":[18,-133,17],\"ticket\":18,\"session\":17,"
        "\"reply\":20},\"preauth\":\"timestamp\",\"code\":0,\"name\":\"KDC_ERR_NONE\",\"ticket\":\"00ff10a5"
        "7a7a7a7a7a7a7a7a7a7a7a7a\",\"us\":1234,\"worker\":3}\n");
}

static void a_refusal(void **state)
{
    struct kdc_record r = {.event = "as",
                           .client = SP_LIT("a\"b\\c\1\xff\xc3\xa9@X"),
                           .requested_count = 1,
                           .requested_etypes = {23},
                           .code = 24,
                           .inner_code = 6,
                           .text = "no \"such\" client",
                           .retransmission = true};
    struct record_facts f = facts;

    (void)state;
    f.name = "KPASSWD_SUCCESS";
    record_write(&w, at(1795269901999999), &f, &r);
    assert_string_equal(
        flushed(),
        "{\"ts\":\"2026-11-21T14:05:01.999999Z\",\"event\":\"as\",\"door\":\"kdc\",\"transport\":\"udp\","
        "\"source\":\"10.0.0.7\",\"client\":\"a\\\"b\\\\c\\u0001\\\\xff\xc3\xa9@X\",\"etypes\":{"
        "\"requested\":"
        "[23]},\"code\":24,\"name\":\"KPASSWD_SUCCESS\",\"inner_code\":6,\"inner_name\":"
        "\"KDC_ERR_C_PRINCIPAL_UNKNOWN\",\"text\":\"no \\\"such\\\" client\",\"retransmission\":true,"
        "\"us\":1234,\"worker\":3}\n");
}

/* The text of a second is kept: it changes with the second, also backwards and across a day. */
static void every_time(void **state)
{
    static const int64_t us[] = {1795269901000000,
                                 1795269901000001,
                                 1795269901999999,
                                 1795269902000000,
                                 1795269901500000,
                                 1795305599999999,
                                 1795305600000000,
                                 0,
                                 -1,
                                 -1000000,
                                 -1000001,
                                 999999,
                                 INT64_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof us / sizeof us[0]; i++) {
        char want[32];
        struct sp_text t = sp_text(want, sizeof want);

        sp_text_iso_us(&t, us[i]);
        record_write(&w, at(us[i]), &facts, &(struct kdc_record){0});
        flushed();
        assert_memory_equal(got, "{\"ts\":\"", 7);
        assert_memory_equal(got + 7, want, 27);
        assert_memory_equal(got + 34, "\",\"event\":\"malformed\",", 22);
    }
}

/* Names of the greatest length in the dearest spelling fit: no line is ever lost for its length. */
static void longest(void **state)
{
    static uint8_t hostile[70000];
    struct kdc_record r = {
        .event = "as", .client = {hostile, sizeof hostile},
             .service = {hostile, 300           }
    };

    (void)state;
    memset(hostile, 1, sizeof hostile);
    memset(r.text, 1, sizeof r.text - 1);
    record_write(&w, at(1), &facts, &r);
    assert_int_equal(w.lost, 0);
    flushed();
    assert_true(strlen(got) > 300 * 6 * 2 && strlen(got) < RECORD_LINE_MAX);
    assert_string_equal(got + strlen(got) - 13, ",\"worker\":3}\n");
}

static void a_flood(void **state)
{
    struct kdc_record r = {.event = "as", .code = 25};
    struct sp_env later = {.wall_us = 1795269902000000, .mono_us = 6000000};
    void *block;

    (void)state;
    block = aligned_alloc(64, (tally_bytes() + 63) / 64 * 64);
    assert_non_null(block);
    memset(block, 0, tally_bytes());
    w.tally = tally_init(block, 1);
    w.flood = 2;
    for (int i = 0; i < 10; i++)
        record_write(&w, at(1795269901000000), &facts, &r);
    flushed();
    record_tick(&w, later);
    assert_string_equal(flushed(),
                        "{\"ts\":\"2026-11-21T14:05:02.000000Z\",\"event\":\"summary\",\"of\":\"as\","
                        "\"code\":25,\"name\":\"KDC_ERR_PREAUTH_REQUIRED\",\"count\":8,\"text\":\"8 "
                        "more of this kind within a second\",\"worker\":3}\n");
    free(block);
}

#define ROW(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {ROW(a_success), ROW(a_refusal), ROW(every_time), ROW(longest),
                                       ROW(a_flood)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
