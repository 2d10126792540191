/* SPDX-License-Identifier: MIT */
/* One side of a context as applications have it, through libgssapi, with the CPU time that its calls took.
 * What fails ends the program. */
#ifndef SP_BENCH_GSS_SIDE_H
#define SP_BENCH_GSS_SIDE_H

#include <stdint.h>

#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>

extern gss_OID_desc bench_iakerb;

struct bench_how {
    gss_OID mech;
    gss_name_t target;
    gss_cred_id_t initiator, acceptor; /* the initiator's: held, or looked for by every handshake */
};

struct bench_side {
    gss_ctx_id_t ctx;
    gss_buffer_desc out;
    OM_uint32 major;
    uint64_t ns;
};

void bench_gss_must(const struct bench_how *how, OM_uint32 major, OM_uint32 minor, const char *what);
gss_name_t bench_gss_name(const struct bench_how *how, const char *text, gss_const_OID type);
gss_cred_id_t bench_gss_acquire(const struct bench_how *how, gss_cred_usage_t usage);
void bench_gss_initiate(const struct bench_how *how, struct bench_side *i, gss_buffer_t in);
void bench_gss_accept(const struct bench_how *how, struct bench_side *a, gss_buffer_t in);
/* A whole handshake; the number of its round trips. Both sides are to be closed. */
uint32_t bench_gss_shake_hands(const struct bench_how *how, struct bench_side *i, struct bench_side *a);
void bench_gss_close(struct bench_side *s);

/* Sorts. */
double bench_median(double *v, uint32_t n);

#endif
