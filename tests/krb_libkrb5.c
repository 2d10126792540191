/* SPDX-License-Identifier: MIT */
/* The same messages as Debian's libkrb5, where its public interface reaches them: what it writes we read and
 * write again to the byte; what we write it reads. libkrb5's own crypto seals and opens the encrypted parts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <krb5/krb5.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bytes/walk.h"
#include "krb/codes.h"
#include "krb/keytab.h"
#include "krb/name.h"

#define REALM "NAS1"
static const int64_t now_s = 1795269901;

static krb5_context ctx;
static _Alignas(16) uint8_t block[1 << 20];
static uint8_t key_bytes[32] = "thirty-two bytes make one key..";

static int set_up(void **state)
{
    (void)state;
    setenv("KRB5_CONFIG", "/dev/null", 1);
    setenv("KRB5RCACHENAME", "none:", 1);
    return krb5_init_context(&ctx) || krb5_set_default_realm(ctx, REALM);
}

static int tear_down(void **state)
{
    (void)state;
    krb5_free_context(ctx);
    return 0;
}

static struct sp_span of(const krb5_data *d)
{
    return sp_span(d->data, d->length);
}

static krb5_data to(struct sp_span s)
{
    return (krb5_data){0, (unsigned)s.n, (char *)(uintptr_t)s.p};
}

static krb5_keyblock key(void)
{
    return (krb5_keyblock){0, ENCTYPE_AES256_CTS_HMAC_SHA1_96, sizeof key_bytes, key_bytes};
}

static bool same_principal(krb5_const_principal p, const struct krb_name *n, struct sp_span realm)
{
    bool same = (uint32_t)p->length == n->parts.count && sp_same(of(&p->realm), realm);

    for (uint32_t i = 0; same && i < n->parts.count; i++)
        same = sp_same(of(&p->data[i]), n->parts.v[i]);
    return same;
}

/* Reads what libkrb5 wrote and writes it again: the same bytes, so nothing was lost. */
static void read_theirs(enum krb_type t, struct sp_span theirs, struct sp_arena *mem, void *out)
{
    struct sp_err e = {0};
    struct sp_span again = {0};

    if (!krb_get(t, theirs, KRB_STRICT, mem, out, &e))
        fail_msg("%s at %u: %s", krb_type_name(t), e.at, e.text);
    assert_true(krb_make(t, out, mem, &again, &e));
    assert_true(sp_same(again, theirs));
}

static struct sp_span make_ours(enum krb_type t, const void *v, struct sp_arena *mem)
{
    struct sp_err e = {0};
    struct sp_span out = {0};

    if (!krb_make(t, v, mem, &out, &e))
        fail_msg("%s: %s", krb_type_name(t), e.text);
    return out;
}

static struct krb_enc seal(struct sp_span plain, krb5_keyusage usage, struct sp_arena *mem)
{
    krb5_keyblock k = key();
    krb5_data in = to(plain);
    krb5_enc_data out = {0};
    struct sp_err e = {0};
    size_t n;
    uint8_t *p;

    assert_int_equal(krb5_c_encrypt_length(ctx, k.enctype, plain.n, &n), 0);
    p = sp_alloc(mem, n, &e);
    assert_non_null(p);
    out.ciphertext = to(sp_span(p, n));
    assert_int_equal(krb5_c_encrypt(ctx, &k, usage, NULL, &in, &out), 0);
    return (struct krb_enc){.etype = k.enctype, .cipher = of(&out.ciphertext)};
}

static struct sp_span open_sealed(const struct krb_enc *enc, const krb5_keyblock *k, krb5_keyusage usage,
                                  struct sp_arena *mem)
{
    struct sp_err e = {0};
    uint8_t *p = sp_alloc(mem, enc->cipher.n, &e);
    krb5_enc_data in = {0, enc->etype, (krb5_kvno)enc->kvno, to(enc->cipher)};
    krb5_data out = to(sp_span(p, enc->cipher.n));

    assert_non_null(p);
    assert_int_equal(krb5_c_decrypt(ctx, k, usage, NULL, &in, &out), 0);
    return of(&out);
}

/* ---- names and keytabs ---- */

static void one_name(struct sp_rng *rng)
{
    static const char letter[] = "aB/@\\nt0b$. \xc3\xa9";
    char text[24] = {0}, ours[128];
    uint8_t pick[sizeof text];
    struct sp_arena mem;
    struct sp_err e = {0};
    struct krb_name name = {0};
    struct sp_span realm = {0};
    struct sp_text t = sp_text(ours, sizeof ours);
    krb5_principal p = NULL;
    char *theirs = NULL;
    bool ok, good;

    sp_arena_init(&mem, block, sizeof block);
    sp_rng_fill(rng, pick, sizeof pick);
    for (size_t i = 0; i < pick[0] % (sizeof text - 1); i++)
        text[i] = letter[pick[i + 1] % (sizeof letter - 1)];
    ok = krb_parse_name(sp_str(text), &mem, &name, &realm, &e);
    good = krb5_parse_name(ctx, text, &p) == 0;
    if (ok) { /* what we refuse beyond libkrb5 is an empty component, and that is all */
        if (!good)
            fail_msg("%s is refused by libkrb5", text);
        realm = realm.p ? realm : SP_LIT(REALM);
        assert_true(same_principal(p, &name, realm));
        krb_text_principal(&t, &name, realm);
        assert_int_equal(krb5_unparse_name(ctx, p, &theirs), 0);
        assert_string_equal(ours, theirs);
        krb5_free_unparsed_name(ctx, theirs);
    } else if (good && !strstr(e.text, "empty component")) {
        fail_msg("%s is refused: %s", text, e.text);
    }
    krb5_free_principal(ctx, p);
}

static void names(void **state)
{
    struct sp_rng_fixed r;

    (void)state;
    sp_rng_fixed_init(&r, 4);
    for (int i = 0; i < 20000; i++)
        one_name(&r.rng);
}

static krb5_principal principal(const char *text)
{
    krb5_principal p = NULL;

    assert_int_equal(krb5_parse_name(ctx, text, &p), 0);
    return p;
}

static struct sp_span slurp(const char *path, uint8_t *buf, size_t max)
{
    FILE *f = fopen(path, "rb");
    size_t n;

    assert_non_null(f);
    n = fread(buf, 1, max, f);
    fclose(f);
    return sp_span(buf, n);
}

/* libkrb5 writes, and makes a hole by removing; we read. */
static void their_keytab(void **state)
{
    char path[] = "/tmp/sp-keytab-XXXXXX", name[64];
    static uint8_t file[4096];
    int fd = mkstemp(path);
    krb5_keytab kt;
    krb5_keytab_entry entry = {.timestamp = 0, .vno = 1, .key = key()};
    struct sp_arena mem;
    struct sp_err e = {0};
    struct krb_keytab v = {0};

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    snprintf(name, sizeof name, "FILE:%s", path);
    assert_int_equal(krb5_kt_resolve(ctx, name, &kt), 0);
    entry.principal = principal("host/nas1.example@" REALM);
    for (entry.vno = 1; entry.vno <= 300; entry.vno += 100)
        assert_int_equal(krb5_kt_add_entry(ctx, kt, &entry), 0);
    entry.vno = 101;
    assert_int_equal(krb5_kt_remove_entry(ctx, kt, &entry), 0);
    sp_arena_init(&mem, block, sizeof block);
    if (!krb_get_keytab(slurp(path, file, sizeof file), &mem, &v, &e))
        fail_msg("at %u: %s", e.at, e.text);
    assert_int_equal(v.count, 2);
    assert_int_equal(v.v[0].kvno, 1);
    assert_int_equal(v.v[1].kvno, 201);
    assert_true(same_principal(entry.principal, &v.v[1].name, v.v[1].realm));
    assert_int_equal(v.v[1].etype, ENCTYPE_AES256_CTS_HMAC_SHA1_96);
    assert_true(sp_same(v.v[1].key, sp_span(key_bytes, sizeof key_bytes)));
    krb5_free_principal(ctx, entry.principal);
    krb5_kt_close(ctx, kt);
    unlink(path);
}

static void our_keytab(void **state)
{
    char path[] = "/tmp/sp-keytab-XXXXXX", name[64];
    struct sp_span parts[] = {SP_LIT("cifs"), SP_LIT("nas1")};
    struct krb_keytab_entry v[] = {
        {krb_name_of(NT_SRV_HST,   parts, 2), SP_LIT(REALM), now_s, 70000, 20, sp_span(key_bytes, 32)},
        {krb_name_of(NT_PRINCIPAL, parts, 1), SP_LIT(REALM), 0,     3,     17, sp_span(key_bytes, 16)},
    };
    uint8_t file[512];
    size_t n = 0;
    int fd = mkstemp(path);
    krb5_keytab kt;
    krb5_kt_cursor cur;
    krb5_keytab_entry entry;
    struct sp_err e = {0};

    (void)state;
    assert_true(fd >= 0);
    assert_true(krb_put_keytab(&(struct krb_keytab){v, 2}, file, sizeof file, &n, &e));
    assert_int_equal(write(fd, file, n), n);
    close(fd);
    snprintf(name, sizeof name, "FILE:%s", path);
    assert_int_equal(krb5_kt_resolve(ctx, name, &kt), 0);
    assert_int_equal(krb5_kt_start_seq_get(ctx, kt, &cur), 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(krb5_kt_next_entry(ctx, kt, &entry, &cur), 0);
        assert_true(same_principal(entry.principal, &v[i].name, v[i].realm));
        assert_int_equal(entry.vno, v[i].kvno);
        assert_int_equal((uint32_t)entry.timestamp, v[i].timestamp);
        assert_int_equal(entry.key.enctype, v[i].etype);
        assert_true(sp_same(sp_span(entry.key.contents, entry.key.length), v[i].key));
        krb5_free_keytab_entry_contents(ctx, &entry);
    }
    assert_int_equal(krb5_kt_next_entry(ctx, kt, &entry, &cur), KRB5_KT_END);
    krb5_kt_end_seq_get(ctx, kt, &cur);
    krb5_kt_close(ctx, kt);
    unlink(path);
}

/* ---- KRB-ERROR ---- */

static void their_error(void **state)
{
    krb5_error in = {.stime = (krb5_timestamp)now_s, .susec = 999999, .error = 25};
    krb5_data out;

    (void)state;
    in.server = principal("krbtgt/" REALM);
    in.text = to(SP_LIT("NEEDED_PREAUTH"));
    for (int with = 0; with < 2; with++) {
        struct sp_arena mem;
        struct krb_error v = {0};

        sp_arena_init(&mem, block, sizeof block);
        in.client = with ? principal("alice@" REALM) : NULL;
        in.ctime = with ? (krb5_timestamp)now_s - 5 : 0;
        in.cusec = with ? 7 : 0;
        in.e_data = with ? to(SP_LIT("0\0")) : (krb5_data){0};
        assert_int_equal(krb5_mk_error(ctx, &in, &out), 0);
        read_theirs(KRB_ERROR, of(&out), &mem, &v);
        assert_int_equal(v.code, 25);
        assert_true(v.stime == now_s && v.susec == 999999);
        assert_true(same_principal(in.server, &v.sname, v.realm));
        assert_int_equal(KRB_HAS(&v, 8) && same_principal(in.client, &v.cname, v.crealm), with);
        assert_true(sp_same(v.text, SP_LIT("NEEDED_PREAUTH")));
        assert_int_equal(KRB_HAS(&v, 12) && sp_same(v.data, of(&in.e_data)), with);
        krb5_free_data_contents(ctx, &out);
        krb5_free_principal(ctx, in.client);
    }
    krb5_free_principal(ctx, in.server);
}

static void our_errors(void **state)
{
    struct sp_rng_fixed r;

    (void)state;
    sp_rng_fixed_init(&r, 6);
    for (int i = 0; i < 500; i++) {
        struct sp_arena mem;
        struct sp_err e = {0};
        struct krb_error v;
        krb5_data in;
        krb5_error *out = NULL;

        sp_arena_init(&mem, block, sizeof block);
        assert_true(sp_type_generate(krb_type_table(KRB_ERROR), &r.rng, &mem, &v, &e));
        v.stime = now_s + i; /* libkrb5's clock has 32 bits */
        v.ctime = now_s - i;
        v.code = i % 128; /* and its error codes no sign */
        v.has = (v.has & ~KRB_BIT(8)) | (v.has & KRB_BIT(7))
                                            << 1; /* a client's realm without a name it cannot hold */
        in = to(make_ours(KRB_ERROR, &v, &mem));
        assert_int_equal(krb5_rd_error(ctx, &in, &out), 0);
        assert_true((uint32_t)out->stime == v.stime && out->susec == (krb5_int32)v.susec);
        assert_true(!KRB_HAS(&v, 2) || (uint32_t)out->ctime == v.ctime);
        assert_int_equal(out->error, v.code);
        assert_true(same_principal(out->server, &v.sname, v.realm));
        assert_true(!KRB_HAS(&v, 8) || same_principal(out->client, &v.cname, v.crealm));
        assert_true(!KRB_HAS(&v, 11) || sp_same(of(&out->text), v.text));
        assert_true(!KRB_HAS(&v, 12) || sp_same(of(&out->e_data), v.data));
        krb5_free_error(ctx, out);
    }
}

/* ---- tickets: ours to libkrb5, also with a byte changed: what we take it takes, and means the same ---- */

static bool takes_ticket(struct sp_span der, const struct krb_ticket *want)
{
    krb5_data in = to(der);
    krb5_ticket *out = NULL;
    bool ok = krb5_decode_ticket(&in, &out) == 0;

    ok = ok && same_principal(out->server, &want->sname, want->realm) &&
         out->enc_part.enctype == want->enc.etype &&
         sp_same(of(&out->enc_part.ciphertext), want->enc.cipher) &&
         (!KRB_HAS(&want->enc, 1) || out->enc_part.kvno == (krb5_kvno)want->enc.kvno);
    krb5_free_ticket(ctx, out);
    return ok;
}

static void tickets(void **state)
{
    struct sp_rng_fixed r;

    (void)state;
    sp_rng_fixed_init(&r, 8);
    for (int i = 0; i < 300; i++) {
        struct sp_arena mem;
        struct sp_err e = {0};
        struct krb_ticket v;
        struct sp_span der;

        sp_arena_init(&mem, block, sizeof block);
        assert_true(sp_type_generate(krb_type_table(KRB_TICKET), &r.rng, &mem, &v, &e));
        v.enc.kvno &=
            0x7fffffff; /* libkrb5 takes larger ones only with the sign set, RFC 4120's UInt32 not */
        der = make_ours(KRB_TICKET, &v, &mem);
        assert_true(takes_ticket(der, &v));
        for (size_t at = 0; at < der.n; at++) {
            struct sp_span copy = sp_dup(&mem, der, &e);
            uint8_t change;

            sp_rng_fill(&r.rng, &change, 1);
            ((uint8_t *)(uintptr_t)copy.p)[at] ^= change;
            e = (struct sp_err){0};
            if (krb_get(KRB_TICKET, copy, KRB_STRICT, &mem, &v, &e) && !takes_ticket(copy, &v))
                fail_msg("a ticket that libkrb5 reads otherwise, byte %zu", at);
            if (mem.used > sizeof block / 2)
                break;
        }
    }
}

/* ---- AP exchange, KRB-SAFE, KRB-PRIV, KRB-CRED ---- */

static struct krb_ticket ticket_for(krb5_keytab kt, struct sp_arena *mem)
{
    static struct sp_span sname[] = {
        {(const uint8_t *)"host", 4},
        {(const uint8_t *)"nas1", 4}
    };
    static struct sp_span cname[] = {
        {(const uint8_t *)"alice", 5}
    };
    static struct krb_ad ad[] = {
        {-17401, {(const uint8_t *)"\x30\x00", 2}}
    };
    krb5_timestamp now;
    krb5_keytab_entry entry = {.vno = 2, .key = key()};
    struct krb_enc_ticket part = {
        .has = KRB_BIT(6) | KRB_BIT(8) | KRB_BIT(10),
        .flags = KRB_FLAG(TKT_INITIAL) | KRB_FLAG(TKT_RENEWABLE),
        .key = {18, sp_span(key_bytes, 32)},
        .crealm = SP_LIT(REALM),
        .cname = krb_name_of(NT_PRINCIPAL, cname, 1),
        .transited = {1,  SP_LIT("")                  },
        .authdata = {ad,  1},
    };
    struct krb_ticket t = {.realm = SP_LIT(REALM), .sname = krb_name_of(NT_SRV_HST, sname, 2)};

    assert_int_equal(krb5_timeofday(ctx, &now), 0);
    part.authtime = part.starttime = (uint32_t)now;
    part.endtime = part.authtime + 3600;
    part.renew_till = part.authtime + 7200;
    entry.principal = principal("host/nas1@" REALM);
    assert_int_equal(krb5_kt_add_entry(ctx, kt, &entry), 0);
    krb5_free_principal(ctx, entry.principal);
    t.enc = seal(make_ours(KRB_ENC_TICKET, &part, mem), KU_TICKET, mem);
    t.enc.has = KRB_BIT(1);
    t.enc.kvno = 2;
    return t;
}

static krb5_creds creds_with(struct sp_span ticket)
{
    krb5_creds c = {.keyblock = key(), .ticket = to(ticket)};
    krb5_timestamp now;

    assert_int_equal(krb5_timeofday(ctx, &now), 0);
    c.client = principal("alice@" REALM);
    c.server = principal("host/nas1@" REALM);
    c.times = (krb5_ticket_times){now, now, now + 3600, 0};
    return c;
}

static void free_creds(krb5_creds *c)
{
    krb5_free_principal(ctx, c->client);
    krb5_free_principal(ctx, c->server);
}

/* libkrb5 as the client: we read its AP-REQ and Authenticator. libkrb5 as the server: it reads our ticket and
 * answers. */
static void their_ap_exchange(void **state)
{
    krb5_auth_context client = NULL, server = NULL;
    krb5_keytab kt;
    krb5_data req, rep;
    krb5_creds creds;
    krb5_keyblock k = key();
    krb5_ticket *seen = NULL;
    krb5_flags options;
    struct sp_arena mem;
    struct krb_ap_req v = {0};
    struct krb_authenticator a = {0};
    struct krb_ap_rep r = {0};
    struct krb_enc_ap_rep p = {0};
    struct krb_ticket t;

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    assert_int_equal(krb5_kt_resolve(ctx, "MEMORY:ap", &kt), 0);
    t = ticket_for(kt, &mem);
    creds = creds_with(make_ours(KRB_TICKET, &t, &mem));
    assert_int_equal(krb5_auth_con_init(ctx, &client), 0);
    assert_int_equal(krb5_auth_con_setflags(ctx, client, KRB5_AUTH_CONTEXT_DO_SEQUENCE), 0);
    assert_int_equal(
        krb5_mk_req_extended(ctx, &client, AP_OPTS_MUTUAL_REQUIRED | AP_OPTS_USE_SUBKEY, NULL, &creds, &req),
        0);
    read_theirs(KRB_AP_REQ, of(&req), &mem, &v);
    assert_int_equal(v.options, 0x20000000);
    assert_true(sp_same(v.ticket.raw, of(&creds.ticket)));
    read_theirs(KRB_AUTHENTICATOR, open_sealed(&v.authenticator, &k, KU_AP_REQ_AUTH, &mem), &mem, &a);
    assert_true(same_principal(creds.client, &a.cname, a.crealm));
    assert_true(KRB_HAS(&a, 6) && a.subkey.type == 18 && a.subkey.value.n == 32 && KRB_HAS(&a, 7));

    assert_int_equal(krb5_auth_con_init(ctx, &server), 0);
    assert_int_equal(krb5_auth_con_setflags(ctx, server, KRB5_AUTH_CONTEXT_DO_SEQUENCE), 0);
    assert_int_equal(krb5_rd_req(ctx, &server, &req, NULL, kt, &options, &seen), 0);
    assert_true(same_principal(seen->enc_part2->client, &a.cname, SP_LIT(REALM)));
    assert_int_equal(seen->enc_part2->flags, (krb5_flags)(KRB_FLAG(TKT_INITIAL) | KRB_FLAG(TKT_RENEWABLE)));
    assert_int_equal(seen->enc_part2->authorization_data[0]->ad_type, -17401);
    assert_int_equal(krb5_mk_rep(ctx, server, &rep), 0);
    read_theirs(KRB_AP_REP, of(&rep), &mem, &r);
    read_theirs(KRB_ENC_AP_REP, open_sealed(&r.enc, &k, KU_AP_REP, &mem), &mem, &p);
    assert_true(p.ctime == a.ctime && p.cusec == a.cusec && KRB_HAS(&p, 3));
    krb5_free_ticket(ctx, seen);
    krb5_free_data_contents(ctx, &req);
    krb5_free_data_contents(ctx, &rep);
    krb5_auth_con_free(ctx, client);
    krb5_auth_con_free(ctx, server);
    krb5_kt_close(ctx, kt);
    free_creds(&creds);
}

/* We as the client. */
static void our_ap_request(void **state)
{
    static struct sp_span cname[] = {
        {(const uint8_t *)"alice", 5}
    };
    krb5_auth_context server = NULL;
    krb5_keytab kt;
    krb5_timestamp now;
    krb5_flags options;
    krb5_data in;
    krb5_int32 seq = 0;
    struct sp_arena mem;
    struct krb_authenticator a = {.has = KRB_BIT(3) | KRB_BIT(6) | KRB_BIT(7), .cusec = 5, .seq = 0x7fffffff};
    struct krb_ap_req v = {.options = 0x20000000};

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    assert_int_equal(krb5_kt_resolve(ctx, "MEMORY:ours", &kt), 0);
    assert_int_equal(krb5_timeofday(ctx, &now), 0);
    v.ticket = ticket_for(kt, &mem);
    a.crealm = SP_LIT(REALM);
    a.cname = krb_name_of(NT_PRINCIPAL, cname, 1);
    a.cksum = (struct krb_checksum){0x8003, SP_LIT("0123456789abcdef01234567")};
    a.ctime = (uint32_t)now;
    a.subkey = (struct krb_keyblock){18, sp_span(key_bytes, 32)};
    v.authenticator = seal(make_ours(KRB_AUTHENTICATOR, &a, &mem), KU_AP_REQ_AUTH, &mem);
    in = to(make_ours(KRB_AP_REQ, &v, &mem));
    assert_int_equal(krb5_auth_con_init(ctx, &server), 0);
    assert_int_equal(krb5_rd_req(ctx, &server, &in, NULL, kt, &options, NULL), 0);
    assert_int_equal(options & AP_OPTS_MUTUAL_REQUIRED, AP_OPTS_MUTUAL_REQUIRED);
    assert_int_equal(krb5_auth_con_getremoteseqnumber(ctx, server, &seq), 0);
    assert_int_equal(seq, 0x7fffffff);
    krb5_auth_con_free(ctx, server);
    krb5_kt_close(ctx, kt);
}

static krb5_auth_context keyed(int flags)
{
    static uint8_t ip[4] = {127, 0, 0, 1};
    krb5_address addr = {0, ADDRTYPE_INET, 4, ip};
    krb5_keyblock k = key();
    krb5_auth_context a = NULL;

    assert_int_equal(krb5_auth_con_init(ctx, &a), 0);
    assert_int_equal(krb5_auth_con_setflags(ctx, a, flags), 0);
    assert_int_equal(krb5_auth_con_setaddrs(ctx, a, &addr, &addr), 0);
    assert_int_equal(krb5_auth_con_setuseruserkey(ctx, a, &k), 0);
    return a;
}

static void safe_and_priv(void **state)
{
    krb5_auth_context a = keyed(KRB5_AUTH_CONTEXT_DO_SEQUENCE), b = keyed(0);
    krb5_data in = to(SP_LIT("hello")), out, back, theirs;
    krb5_replay_data none = {0};
    krb5_keyblock k = key();
    struct sp_arena mem;
    struct krb_safe s = {0};
    struct krb_priv p = {0};
    struct krb_enc_priv part = {0};

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    assert_int_equal(krb5_mk_safe(ctx, a, &in, &out, &none),
                     0); /* its first sequence number, 0, is left off the wire */
    krb5_free_data_contents(ctx, &out);
    assert_int_equal(krb5_mk_safe(ctx, a, &in, &out, &none), 0);
    read_theirs(KRB_SAFE, of(&out), &mem, &s);
    assert_true(sp_same(s.body.user_data, SP_LIT("hello")) && KRB_HAS(&s.body, 3) && s.cksum.sum.n == 12);
    assert_int_equal(s.body.saddr.type, ADDRTYPE_INET);
    krb5_free_data_contents(ctx, &out);

    assert_int_equal(krb5_mk_priv(ctx, a, &in, &out, &none), 0);
    read_theirs(KRB_PRIV, of(&out), &mem, &p);
    read_theirs(KRB_ENC_PRIV, open_sealed(&p.enc, &k, KU_PRIV, &mem), &mem, &part);
    assert_true(sp_same(part.user_data, SP_LIT("hello")) && KRB_HAS(&part, 3));
    theirs = out;

    part.user_data = SP_LIT("and back");
    p.enc = seal(make_ours(KRB_ENC_PRIV, &part, &mem), KU_PRIV, &mem);
    out = to(make_ours(KRB_PRIV, &p, &mem));
    assert_int_equal(krb5_rd_priv(ctx, b, &out, &back, &none), 0);
    assert_true(sp_same(of(&back), SP_LIT("and back")));
    krb5_free_data_contents(ctx, &back);
    krb5_free_data_contents(ctx, &theirs);
    krb5_auth_con_free(ctx, a);
    krb5_auth_con_free(ctx, b);
}

static void credentials(void **state)
{
    krb5_auth_context a = keyed(0), b = keyed(0);
    krb5_data *out = NULL, in;
    krb5_creds creds, **back = NULL;
    krb5_replay_data none = {0};
    krb5_keyblock k = key();
    krb5_keytab kt;
    struct sp_arena mem;
    struct krb_cred v = {0};
    struct krb_enc_cred part = {0};
    struct krb_ticket t;

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    assert_int_equal(krb5_kt_resolve(ctx, "MEMORY:cred", &kt), 0);
    t = ticket_for(kt, &mem);
    creds = creds_with(make_ours(KRB_TICKET, &t, &mem));
    assert_int_equal(krb5_mk_1cred(ctx, a, &creds, &out, &none), 0);
    read_theirs(KRB_CRED, of(out), &mem, &v);
    assert_true(v.tickets.count == 1 && sp_same(v.tickets.v[0].raw, of(&creds.ticket)));
    read_theirs(KRB_ENC_CRED, open_sealed(&v.enc, &k, KU_CRED, &mem), &mem, &part);
    assert_int_equal(part.info.count, 1);
    assert_true(same_principal(creds.client, &part.info.v[0].pname, part.info.v[0].prealm));

    v.enc = seal(make_ours(KRB_ENC_CRED, &part, &mem), KU_CRED, &mem);
    in = to(make_ours(KRB_CRED, &v, &mem));
    assert_int_equal(krb5_rd_cred(ctx, b, &in, &back, &none), 0);
    assert_true(sp_same(of(&back[0]->ticket), of(&creds.ticket)));
    assert_true(krb5_principal_compare(ctx, back[0]->server, creds.server));
    krb5_free_tgt_creds(ctx, back);
    krb5_free_data(ctx, out);
    krb5_auth_con_free(ctx, a);
    krb5_auth_con_free(ctx, b);
    krb5_kt_close(ctx, kt);
    free_creds(&creds);
}

static void authdata(void **state)
{
    krb5_authdata one = {0, 128, 3, (krb5_octet *)(uintptr_t) "pac"}, two = {0, -5, 0, NULL};
    krb5_authdata *list[] = {&one, &two, NULL}, **out = NULL, **back = NULL;
    struct sp_arena mem;
    struct krb_authdata v = {0};
    krb5_authdata wrap = {0, AD_IF_RELEVANT, 0, NULL};
    struct sp_span ours;

    (void)state;
    sp_arena_init(&mem, block, sizeof block);
    assert_int_equal(krb5_encode_authdata_container(ctx, AD_IF_RELEVANT, list, &out), 0);
    read_theirs(KRB_AUTHDATA, sp_span(out[0]->contents, out[0]->length), &mem, &v);
    assert_true(v.count == 2 && v.v[0].type == 128 && v.v[1].type == -5 &&
                sp_same(v.v[0].data, SP_LIT("pac")));
    v.count = 1;
    ours = make_ours(KRB_AUTHDATA, &v, &mem);
    wrap.contents = (krb5_octet *)(uintptr_t)ours.p;
    wrap.length = (unsigned)ours.n;
    assert_int_equal(krb5_decode_authdata_container(ctx, AD_IF_RELEVANT, &wrap, &back), 0);
    assert_true(back[0]->ad_type == 128 && back[1] == NULL);
    krb5_free_authdata(ctx, out);
    krb5_free_authdata(ctx, back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(their_keytab),
        cmocka_unit_test(our_keytab),
        cmocka_unit_test(their_error),
        cmocka_unit_test(our_errors),
        cmocka_unit_test(tickets),
        cmocka_unit_test(their_ap_exchange),
        cmocka_unit_test(our_ap_request),
        cmocka_unit_test(safe_and_priv),
        cmocka_unit_test(credentials),
        cmocka_unit_test(authdata),
    };

    return cmocka_run_group_tests_name("krb_libkrb5", tests, set_up, tear_down);
}
