/* SPDX-License-Identifier: MIT */
/* bench-iakerb-gss: CPU time of one warm handshake as an application has it, through libgssapi, a cache file
 * and a keytab; MIT's krb5 mechanism, or with GSS_MECH_CONFIG ours. Tickets are made here, no KDC takes part.
 * The acceptor's credential is acquired once. Writes both files where KRB5CCNAME and KRB5_KTNAME point to.
 * Medians, as a JSON object. */
#include "arguments.h"
#include "setup.h"

#include "krb/ccache.h"
#include "krb/keytab.h"
#include "krb/name.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "gss_side.h" /* behind our enums, whose names libgssapi has as macros */

enum { COUNT_MAX = 100000, SETTLED_US = 100000 /* files as they are found: not written just now */ };
#define HOST "fs1.bench.test"
#define TARGET "host/" HOST "@" BENCH_REALM

static struct sp_span user_parts[] = {SP_LIT("alice")}, service_parts[] = {SP_LIT("host"), SP_LIT(HOST)};
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
    (void)usleep(SETTLED_US);
}

/* ---- handshakes ---- */

static struct bench_how how;

static void shake_hands(struct bench_side *i, struct bench_side *a)
{
    if (bench_gss_shake_hands(&how, i, a) != 1)
        bench_die("a handshake takes more than one round trip", NULL);
    bench_gss_close(i);
    bench_gss_close(a);
}

static void prepare(bool held)
{
    how.target = bench_gss_name(&how, TARGET, GSS_KRB5_NT_PRINCIPAL_NAME);
    how.acceptor = bench_gss_acquire(&how, GSS_C_ACCEPT);
    if (held)
        how.initiator = bench_gss_acquire(&how, GSS_C_INITIATE);
}

/* ---- figures ---- */

static void run(uint32_t count)
{
    static double initiator[COUNT_MAX], acceptor[COUNT_MAX], both[COUNT_MAX];

    for (uint32_t n = 0; n < count; n++) {
        struct bench_side i, a;

        shake_hands(&i, &a);
        initiator[n] = (double)i.ns / 1e3;
        acceptor[n] = (double)a.ns / 1e3;
        both[n] = (double)(i.ns + a.ns) / 1e3;
    }
    printf("{\"initiator_us\":%.2f,\"acceptor_us\":%.2f,\"both_us\":%.2f}\n", bench_median(initiator, count),
           bench_median(acceptor, count), bench_median(both, count));
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
    how.mech = strcmp(argv[1], "krb5") == 0 ? (gss_OID)(uintptr_t)gss_mech_krb5 : &bench_iakerb;
    set_up();
    prepare(strcmp(argv[2], "held") == 0);
    run(count);
    return 0;
}
