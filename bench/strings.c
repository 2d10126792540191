/* SPDX-License-Identifier: MIT */
/* bench-strings: milliseconds of one string-to-key at the default iteration counts, ours beside libkrb5's, in
 * alternation; the two keys are compared. Prints a JSON list. */
#include "arguments.h"
#include "setup.h"

#include <krb5.h>
#include <stdio.h>
#include <stdlib.h>

#define TIMES_MAX 1000

static const char password[] = "correct horse battery", salt[] = BENCH_REALM "user000001";

struct series {
    double ms[TIMES_MAX];
    uint32_t count;
};

static void note(struct series *s, uint64_t began_ns)
{
    s->ms[s->count++] = (double)(bench_mono_ns() - began_ns) / 1e6;
}

static struct sp_key run_ours(struct crypto *c, int32_t etype, struct series *s)
{
    struct sp_err e = {0};
    struct sp_key key;
    uint64_t began = bench_mono_ns();

    if (!crypto_string_to_key(c, etype, sp_str(password), sp_str(salt), sp_span("", 0), &key, &e))
        bench_die("string-to-key", &e);
    note(s, began);
    return key;
}

/* True when libkrb5 comes to the same key. */
static bool run_libkrb5(krb5_context k, int32_t etype, const struct sp_key *same_as, struct series *s)
{
    krb5_data p = {.data = (char *)(uintptr_t)password, .length = sizeof password - 1};
    krb5_data with = {.data = (char *)(uintptr_t)salt, .length = sizeof salt - 1};
    krb5_keyblock key;
    uint64_t began = bench_mono_ns();
    bool same;

    if (krb5_c_string_to_key(k, etype, &p, &with, &key) != 0)
        bench_die("libkrb5's string-to-key fails", NULL);
    note(s, began);
    same = key.length == same_as->n && memcmp(key.contents, same_as->b, key.length) == 0;
    krb5_free_keyblock_contents(k, &key);
    return same;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void show(const char *who, struct series *s)
{
    qsort(s->ms, s->count, sizeof *s->ms, by_size);
    printf("\"%s_ms\":%.3f,\"%s_best_ms\":%.3f", who, s->ms[s->count / 2], who, s->ms[0]);
}

static void measure(struct crypto *c, krb5_context k, int32_t etype, uint32_t times)
{
    static struct series ours, libkrb5;

    ours.count = libkrb5.count = 0;
    while (ours.count < times) {
        struct sp_key key = run_ours(c, etype, &ours);

        if (!run_libkrb5(k, etype, &key, &libkrb5))
            bench_die("libkrb5 comes to another key", NULL);
    }
    printf("{\"etype\":%d,\"times\":%u,", (int)etype, times);
    show("ours", &ours);
    printf(",");
    show("libkrb5", &libkrb5);
    printf("}");
}

int main(int argc, char **argv)
{
    struct sp_err e = {0};
    struct crypto *c = crypto_new(&e);
    krb5_context k;
    uint32_t times = 50;

    if (argc > 2 || (argc == 2 && !bench_read_number(argv[1], TIMES_MAX, &times))) {
        fputs("usage: bench-strings [TIMES]\n", stderr);
        return 2;
    }
    if (!c || krb5_init_context(&k) != 0)
        bench_die("crypto", &e);
    printf("[");
    measure(c, k, ENCTYPE_AES256_CTS_HMAC_SHA1_96, times);
    printf(",\n ");
    measure(c, k, ENCTYPE_AES256_CTS_HMAC_SHA384_192, times);
    printf("]\n");
    krb5_free_context(k);
    crypto_free(c);
    return 0;
}
