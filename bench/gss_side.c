/* SPDX-License-Identifier: MIT */
#include "setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "gss_side.h" /* behind our enums, whose names libgssapi has as macros */

gss_OID_desc bench_iakerb = {6, (void *)(uintptr_t) "\x2b\x06\x01\x05\x02\x05"};

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void bench_gss_must(const struct bench_how *how, OM_uint32 major, OM_uint32 minor, const char *what)
{
    gss_buffer_desc text = GSS_C_EMPTY_BUFFER;
    OM_uint32 ignored, more = 0;

    if (!GSS_ERROR(major))
        return;
    (void)gss_display_status(&ignored, minor, GSS_C_MECH_CODE, how->mech, &more, &text);
    fprintf(stderr, "%s: %x: %.*s\n", what, major, (int)text.length, (char *)text.value);
    exit(1);
}

gss_name_t bench_gss_name(const struct bench_how *how, const char *text, gss_const_OID type)
{
    gss_buffer_desc b = {strlen(text), (void *)(uintptr_t)text};
    OM_uint32 minor, major;
    gss_name_t name;

    major = gss_import_name(&minor, &b, (gss_OID)(uintptr_t)type, &name);
    bench_gss_must(how, major, minor, "gss_import_name");
    return name;
}

gss_cred_id_t bench_gss_acquire(const struct bench_how *how, gss_cred_usage_t usage)
{
    gss_OID_set_desc only = {1, how->mech};
    OM_uint32 minor, major;
    gss_cred_id_t c;

    major = gss_acquire_cred(&minor, GSS_C_NO_NAME, 0, &only, usage, &c, NULL, NULL);
    bench_gss_must(how, major, minor, "gss_acquire_cred");
    return c;
}

void bench_gss_initiate(const struct bench_how *how, struct bench_side *i, gss_buffer_t in)
{
    OM_uint32 minor, flags = GSS_C_MUTUAL_FLAG | GSS_C_REPLAY_FLAG | GSS_C_SEQUENCE_FLAG | GSS_C_CONF_FLAG |
                             GSS_C_INTEG_FLAG;
    uint64_t began = cpu_ns();

    i->major = gss_init_sec_context(&minor, how->initiator, &i->ctx, how->target, how->mech, flags, 0,
                                    GSS_C_NO_CHANNEL_BINDINGS, in, NULL, &i->out, NULL, NULL);
    i->ns += cpu_ns() - began;
    bench_gss_must(how, i->major, minor, "gss_init_sec_context");
}

void bench_gss_accept(const struct bench_how *how, struct bench_side *a, gss_buffer_t in)
{
    OM_uint32 minor;
    uint64_t began = cpu_ns();

    a->major = gss_accept_sec_context(&minor, &a->ctx, how->acceptor, in, GSS_C_NO_CHANNEL_BINDINGS, NULL,
                                      NULL, &a->out, NULL, NULL, NULL);
    a->ns += cpu_ns() - began;
    bench_gss_must(how, a->major, minor, "gss_accept_sec_context");
}

void bench_gss_close(struct bench_side *s)
{
    OM_uint32 minor;
    uint64_t began = cpu_ns();

    (void)gss_release_buffer(&minor, &s->out);
    (void)gss_delete_sec_context(&minor, &s->ctx, GSS_C_NO_BUFFER);
    s->ns += cpu_ns() - began;
}

/* Tokens are handed over as they are; freeing those that were taken is nobody's time. */
uint32_t bench_gss_shake_hands(const struct bench_how *how, struct bench_side *i, struct bench_side *a)
{
    uint32_t round_trips = 0;
    OM_uint32 minor;

    *i = *a = (struct bench_side){0};
    bench_gss_initiate(how, i, GSS_C_NO_BUFFER);
    for (; i->out.length > 0; round_trips++) {
        gss_buffer_desc token = i->out;

        i->out = (gss_buffer_desc){0, NULL};
        bench_gss_accept(how, a, &token);
        (void)gss_release_buffer(&minor, &token);
        if (a->out.length == 0)
            continue;
        token = a->out;
        a->out = (gss_buffer_desc){0, NULL};
        bench_gss_initiate(how, i, &token);
        (void)gss_release_buffer(&minor, &token);
    }
    if (i->major != GSS_S_COMPLETE || a->major != GSS_S_COMPLETE)
        bench_die("a handshake that does not end", NULL);
    return round_trips;
}

/* ---- figures ---- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_median(double *v, uint32_t n)
{
    qsort(v, n, sizeof *v, by_size);
    return v[n / 2];
}
