/* SPDX-License-Identifier: MIT */
/* bench-iakerb-gss: CPU time of one warm handshake as an application has it, through libgssapi, a cache file
 * and a keytab; MIT's krb5 mechanism, or with GSS_MECH_CONFIG ours. Tickets are made here, no KDC takes part.
 * The acceptor's credential is acquired once. Writes both files where KRB5CCNAME and KRB5_KTNAME point to.
 * Medians, as a JSON object. */
#include "setup.h"

#include "krb/ccache.h"
#include "krb/keytab.h"
#include "krb/name.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Behind our enums, whose names it has as macros. */
#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>

enum { COUNT_MAX = 100000 };
#define HOST "fs1.bench.test"
#define TARGET "host/" HOST "@" BENCH_REALM

static struct sp_span user_parts[] = {SP_LIT("alice")}, service_parts[] = {SP_LIT("host"), SP_LIT(HOST)};
static gss_OID_desc iakerb = {6, (void *)(uintptr_t) "\x2b\x06\x01\x05\x02\x05"};
static struct sp_arena mem;

/* ---- files ---- */

static void write_file(const char *variable, struct sp_span bytes)
{
    const char *path = getenv(variable);
    FILE *f = path && strncmp(path, "FILE:", 5) == 0 ? fopen(path + 5, "wb") : NULL;

    if (!f || fwrite(bytes.p, 1, bytes.n, f) != bytes.n || fclose(f) != 0)
        bench_die(variable, NULL);
}

static void make_ticket(struct crypto *c, const struct sp_key *key, struct krb_credential *cred)
{
    struct krb_enc_ticket part = {
        .key = {cred->key.etype, sp_span(cred->key.b, cred->key.n)},
        .crealm = cred->crealm,
        .cname = cred->client,
        .transited = {.type = 1  },
        .authtime = cred->authtime,
        .endtime = cred->endtime
    };
    struct krb_ticket t = {
        .realm = cred->srealm, .sname = cred->server, .enc = {KRB_BIT(1), key->etype, 1, {0}}
    };
    struct sp_err e = {0};
    struct sp_span plain;
    uint8_t cipher[1024];
    size_t n = sizeof cipher;

    if (!krb_make(KRB_ENC_TICKET, &part, &mem, &plain, &e) ||
        !crypto_encrypt(c, key, KU_TICKET, bench_system_rng(), plain, cipher, &n, &e))
        bench_die("ticket", &e);
    t.enc.cipher = sp_span(cipher, n);
    if (!krb_make(KRB_TICKET, &t, &mem, &cred->ticket, &e))
        bench_die("ticket", &e);
}

static void write_files(const struct sp_key *key, const struct krb_credential *cred)
{
    struct krb_keytab_entry entry = {cred->server, cred->srealm, 0, 1, key->etype, sp_span(key->b, key->n)};
    struct krb_keytab kt = {&entry, 1};
    struct krb_credential one = *cred;
    struct krb_ccache cc = {.principal = cred->client, .realm = cred->crealm, .v = &one, .count = 1};
    struct sp_span bytes;
    struct sp_err e = {0};
    uint8_t room[512];
    size_t n;

    if (!krb_put_keytab(&kt, room, sizeof room, &n, &e) || !krb_put_ccache(&cc, &mem, &bytes, &e))
        bench_die("files", &e);
    write_file("KRB5_KTNAME", sp_span(room, n));
    write_file("KRB5CCNAME", bytes);
}

static void set_up(void)
{
    int64_t now_s = bench_wall_us() / 1000000;
    struct krb_credential cred = {.client = krb_name_of(NT_PRINCIPAL, user_parts, 1),
                                  .server = krb_name_of(NT_SRV_HST, service_parts, 2),
                                  .crealm = sp_str(BENCH_REALM),
                                  .srealm = sp_str(BENCH_REALM),
                                  .authtime = now_s,
                                  .endtime = now_s + 36000};
    struct sp_err e = {0};
    struct crypto *c = crypto_new(&e);
    struct sp_key key;

    bench_map_arena(&mem, 1 << 20);
    if (!c || !bench_key(c, BENCH_SERVER, 1, 18, &key, &e) ||
        !bench_key(c, BENCH_SERVER, 2, 18, &cred.key, &e))
        bench_die("keys", &e);
    make_ticket(c, &key, &cred);
    write_files(&key, &cred);
    crypto_free(c);
}

/* ---- handshakes ---- */

struct side {
    gss_ctx_id_t ctx;
    gss_buffer_desc out;
    OM_uint32 major;
    uint64_t ns;
};

static struct {
    gss_OID mech;
    gss_name_t target;
    gss_cred_id_t initiator, acceptor; /* the initiator's: held, or looked for by every handshake */
} how;

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void must(OM_uint32 major, OM_uint32 minor, const char *what)
{
    gss_buffer_desc text = GSS_C_EMPTY_BUFFER;
    OM_uint32 ignored, more = 0;

    if (!GSS_ERROR(major))
        return;
    (void)gss_display_status(&ignored, minor, GSS_C_MECH_CODE, how.mech, &more, &text);
    fprintf(stderr, "%s: %x: %.*s\n", what, major, (int)text.length, (char *)text.value);
    exit(1);
}

static void initiate(struct side *i, gss_buffer_t in)
{
    OM_uint32 minor, flags = GSS_C_MUTUAL_FLAG | GSS_C_REPLAY_FLAG | GSS_C_SEQUENCE_FLAG | GSS_C_CONF_FLAG |
                             GSS_C_INTEG_FLAG;
    uint64_t began = cpu_ns();

    i->major = gss_init_sec_context(&minor, how.initiator, &i->ctx, how.target, how.mech, flags, 0,
                                    GSS_C_NO_CHANNEL_BINDINGS, in, NULL, &i->out, NULL, NULL);
    i->ns += cpu_ns() - began;
    must(i->major, minor, "gss_init_sec_context");
}

static void accept_token(struct side *a, gss_buffer_t in)
{
    OM_uint32 minor;
    uint64_t began = cpu_ns();

    a->major = gss_accept_sec_context(&minor, &a->ctx, how.acceptor, in, GSS_C_NO_CHANNEL_BINDINGS, NULL,
                                      NULL, &a->out, NULL, NULL, NULL);
    a->ns += cpu_ns() - began;
    must(a->major, minor, "gss_accept_sec_context");
}

static void close_side(struct side *s)
{
    OM_uint32 minor;
    uint64_t began = cpu_ns();

    (void)gss_release_buffer(&minor, &s->out);
    (void)gss_delete_sec_context(&minor, &s->ctx, GSS_C_NO_BUFFER);
    s->ns += cpu_ns() - began;
}

/* One round trip, or it is no warm handshake. */
static void shake_hands(struct side *i, struct side *a)
{
    gss_buffer_desc first;
    OM_uint32 minor;

    *i = *a = (struct side){0};
    initiate(i, GSS_C_NO_BUFFER);
    first = i->out;
    i->out = (gss_buffer_desc){0, NULL};
    accept_token(a, &first);
    initiate(i, &a->out);
    if (i->major != GSS_S_COMPLETE || a->major != GSS_S_COMPLETE || i->out.length > 0)
        bench_die("a handshake takes more than one round trip", NULL);
    (void)gss_release_buffer(&minor, &first);
    close_side(i);
    close_side(a);
}

static void acquire(gss_cred_usage_t usage, gss_cred_id_t *out)
{
    gss_OID_set_desc only = {1, how.mech};
    OM_uint32 minor, major;

    major = gss_acquire_cred(&minor, GSS_C_NO_NAME, 0, &only, usage, out, NULL, NULL);
    must(major, minor, "gss_acquire_cred");
}

static void prepare(bool held)
{
    gss_buffer_desc text = {sizeof TARGET - 1, (void *)(uintptr_t)TARGET};
    OM_uint32 major, minor;

    major = gss_import_name(&minor, &text, (gss_OID)(uintptr_t)GSS_KRB5_NT_PRINCIPAL_NAME, &how.target);
    must(major, minor, "gss_import_name");
    acquire(GSS_C_ACCEPT, &how.acceptor);
    if (held)
        acquire(GSS_C_INITIATE, &how.initiator);
}

/* ---- figures ---- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *v, uint32_t n)
{
    qsort(v, n, sizeof *v, by_size);
    return v[n / 2];
}

static void run(uint32_t count)
{
    static double initiator[COUNT_MAX], acceptor[COUNT_MAX], both[COUNT_MAX];

    for (uint32_t n = 0; n < count; n++) {
        struct side i, a;

        shake_hands(&i, &a);
        initiator[n] = (double)i.ns / 1e3;
        acceptor[n] = (double)a.ns / 1e3;
        both[n] = (double)(i.ns + a.ns) / 1e3;
    }
    printf("{\"initiator_us\":%.2f,\"acceptor_us\":%.2f,\"both_us\":%.2f}\n", median(initiator, count),
           median(acceptor, count), median(both, count));
}

int main(int argc, char **argv)
{
    uint32_t count;

    if (argc != 4 || !bench_read_number(argv[3], COUNT_MAX, &count) ||
        (strcmp(argv[1], "krb5") != 0 && strcmp(argv[1], "iakerb") != 0) ||
        (strcmp(argv[2], "held") != 0 && strcmp(argv[2], "looked-for") != 0)) {
        fputs("usage: bench-iakerb-gss krb5|iakerb held|looked-for COUNT\n", stderr);
        return 2;
    }
    how.mech = strcmp(argv[1], "krb5") == 0 ? (gss_OID)(uintptr_t)gss_mech_krb5 : &iakerb;
    set_up();
    prepare(strcmp(argv[2], "held") == 0);
    run(count);
    return 0;
}
