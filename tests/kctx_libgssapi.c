/* SPDX-License-Identifier: MIT */
/* MIT's krb5 mechanism at one end, ours at the other, in one process and without a KDC: tickets are made
 * here, and handed to libgssapi in a cache file, the service's key in a keytab. Linked with libgssapi here
 * and nowhere else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "gss/kctx.h"
#include "gss/token.h"
#include "krb/keytab.h"

/* Behind our enums, whose names it has as macros. */
#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>
#include <krb5.h>

#define REALM "SALLY.TEST"
#define HOST "fs1.sally.test"
#define TEXT "a message that both sides have to understand"

static struct crypto *crypto;
static struct sp_rng_fixed rng;
static char dir[] = "/tmp/sp-gss-XXXXXX";
static _Alignas(16) uint8_t block[1 << 18];
static struct sp_span client_parts[] = {SP_LIT("alice")}, service_parts[] = {SP_LIT("host"), SP_LIT(HOST)};

struct scene {
    struct sp_arena mem;
    struct sp_key key; /* of the service */
    struct krb_credential cred;
    struct kctx k;
    gss_ctx_id_t g;
    uint32_t flags; /* of GSS-API */
    bool mit_accepts;
};

static struct sp_env now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (struct sp_env){.wall_us = t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000, .rng = &rng.rng};
}

#define good(ok, e) good_at(ok, e, __LINE__)
static void good_at(bool ok, const struct sp_err *e, int line)
{
    if (!ok)
        fail_msg("line %d: %s: %s (%d)", line, sp_kind_name(e->kind), e->text, e->proto);
}

#define mit(call, minor) /* the call sets minor, so it goes first */                                         \
    do {                                                                                                     \
        OM_uint32 major_ = (call);                                                                           \
        mit_at(major_, minor, __LINE__);                                                                     \
    } while (0)
static void mit_at(OM_uint32 major, OM_uint32 minor, int line)
{
    OM_uint32 ignored, more = 0;
    gss_buffer_desc a = {0, NULL}, b = {0, NULL};

    if (!GSS_ERROR(major))
        return;
    gss_display_status(&ignored, major, GSS_C_GSS_CODE, GSS_C_NO_OID, &more, &a);
    more = 0;
    gss_display_status(&ignored, minor, GSS_C_MECH_CODE, (gss_OID)gss_mech_krb5, &more, &b);
    fail_msg("line %d: libgssapi: %.*s: %.*s", line, (int)a.length, (char *)a.value, (int)b.length,
             (char *)b.value);
}

static struct sp_span of(gss_buffer_t b)
{
    return sp_span(b->value, b->length);
}

static gss_buffer_desc to(struct sp_span s)
{
    return (gss_buffer_desc){s.n, (void *)(uintptr_t)s.p};
}

static void same_bytes(struct sp_span a, struct sp_span b)
{
    assert_int_equal(a.n, b.n);
    if (a.n)
        assert_memory_equal(a.p, b.p, a.n);
}

/* ---- ticket, cache, keytab ---- */

static void write_keytab(const struct scene *s)
{
    struct krb_keytab_entry entry = {.name = s->cred.server,
                                     .realm = SP_LIT(REALM),
                                     .kvno = 1,
                                     .etype = s->key.etype,
                                     .key = sp_span(s->key.b, s->key.n)};
    struct krb_keytab kt = {&entry, 1};
    struct sp_err e = {0};
    uint8_t bytes[512];
    char path[128];
    size_t n;
    FILE *f;

    good(krb_put_keytab(&kt, bytes, sizeof bytes, &n, &e), &e);
    snprintf(path, sizeof path, "%s/keytab", dir);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static void write_cache(const struct scene *s)
{
    krb5_context ctx;
    krb5_ccache cache;
    krb5_creds c = {0};

    assert_int_equal(krb5_init_context(&ctx), 0);
    assert_int_equal(krb5_parse_name(ctx, "alice@" REALM, &c.client), 0);
    assert_int_equal(krb5_parse_name(ctx, "host/" HOST "@" REALM, &c.server), 0);
    c.keyblock = (krb5_keyblock){KV5M_KEYBLOCK, s->cred.key.etype, s->cred.key.n,
                                 (krb5_octet *)(uintptr_t)s->cred.key.b};
    c.times.authtime = (krb5_timestamp)s->cred.authtime;
    c.times.endtime = (krb5_timestamp)s->cred.endtime;
    c.ticket = (krb5_data){KV5M_DATA, (unsigned)s->cred.ticket.n, (char *)(uintptr_t)s->cred.ticket.p};
    assert_int_equal(krb5_cc_default(ctx, &cache), 0);
    assert_int_equal(krb5_cc_initialize(ctx, cache, c.client), 0);
    assert_int_equal(krb5_cc_store_cred(ctx, cache, &c), 0);
    krb5_cc_close(ctx, cache);
    krb5_free_principal(ctx, c.client);
    krb5_free_principal(ctx, c.server);
    krb5_free_context(ctx);
}

static void make_ticket(struct scene *s)
{
    struct sp_err e = {0};
    struct krb_enc_ticket part = {
        .key = {s->cred.key.etype, sp_span(s->cred.key.b, s->cred.key.n)},
        .crealm = SP_LIT(REALM),
        .cname = s->cred.client,
        .transited = {.type = 1  },
        .authtime = s->cred.authtime,
        .endtime = s->cred.endtime
    };
    struct krb_ticket t = {
        .realm = SP_LIT(REALM), .sname = s->cred.server, .enc = {KRB_BIT(1), s->key.etype, 1, {0}}
    };
    struct sp_span plain;
    uint8_t cipher[1024];
    size_t n = sizeof cipher;

    good(krb_make(KRB_ENC_TICKET, &part, &s->mem, &plain, &e), &e);
    good(crypto_encrypt(crypto, &s->key, KU_TICKET, &rng.rng, plain, cipher, &n, &e), &e);
    t.enc.cipher = sp_span(cipher, n);
    good(krb_make(KRB_TICKET, &t, &s->mem, &s->cred.ticket, &e), &e);
}

static void set_scene(struct scene *s, int32_t etype, uint32_t flags)
{
    struct sp_err e = {0};
    int64_t now_s = now().wall_us / 1000000;

    memset(s, 0, sizeof *s);
    sp_arena_init(&s->mem, block, sizeof block);
    s->flags = flags;
    s->cred = (struct krb_credential){.client = krb_name_of(NT_PRINCIPAL, client_parts, 1),
                                      .server = krb_name_of(NT_SRV_HST, service_parts, 2),
                                      .crealm = SP_LIT(REALM),
                                      .srealm = SP_LIT(REALM),
                                      .authtime = now_s,
                                      .endtime = now_s + 3600};
    good(crypto_random_key(etype, &rng.rng, &s->key, &e) &&
             crypto_random_key(etype, &rng.rng, &s->cred.key, &e),
         &e);
    make_ticket(s);
    write_keytab(s);
    write_cache(s);
}

struct one_key {
    struct kctx_keys port;
    const struct sp_key *key;
};

static bool find_key(struct kctx_keys *keys, const struct krb_name *service, struct sp_span realm,
                     int32_t etype, uint32_t kvno, struct sp_key *out, struct sp_err *e)
{
    (void)service;
    (void)realm;
    (void)kvno;
    *out = *((struct one_key *)(void *)keys)->key;
    return etype == out->etype || sp_fail(e, SP_ENOTFOUND, KRB_AP_ERR_NOKEY, "no such key");
}

/* ---- the exchange ---- */

static struct gss_channel_bindings_struct channel = {
    .application_data = {21, "tls-unique:0123456789"}
};

static void hash_channel(uint8_t out[16], struct sp_arena *mem)
{
    struct kctx_bindings b = {.application = sp_span(channel.application_data.value, 21)};
    struct sp_err e = {0};

    good(kctx_hash_bindings(crypto, &b, mem, out, &e), &e);
}

/* DCE style has no framing. */
static struct sp_span bare(const struct scene *s, struct sp_span in, uint16_t id)
{
    struct sp_err e = {0};
    struct token t = {0};

    if (s->flags & GSS_C_DCE_STYLE)
        return in;
    good(token_get(in, &t, &e), &e);
    assert_int_equal(t.mech, TOKEN_KRB5);
    assert_int_equal(t.id, id);
    return t.body;
}

static gss_buffer_desc framed(struct scene *s, struct sp_span in, uint16_t id)
{
    struct sp_err e = {0};
    struct sp_span out = in;

    if (!(s->flags & GSS_C_DCE_STYLE) && in.n > 0)
        good(token_make(TOKEN_KRB5, id, in, &s->mem, &out, &e), &e);
    return to(out);
}

static OM_uint32 mit_init(struct scene *s, gss_buffer_t in, gss_buffer_t out, gss_channel_bindings_t b)
{
    OM_uint32 major, minor, ignored, got = 0;
    gss_buffer_desc text = {sizeof "host/" HOST "@" REALM - 1, "host/" HOST "@" REALM};
    gss_name_t name;

    major = gss_import_name(&minor, &text, (gss_OID)GSS_KRB5_NT_PRINCIPAL_NAME, &name);
    mit(major, minor);
    major = gss_init_sec_context(&minor, GSS_C_NO_CREDENTIAL, &s->g, name, (gss_OID)gss_mech_krb5, s->flags,
                                 0, b, in, NULL, out, &got, NULL);
    gss_release_name(&ignored, &name);
    mit(major, minor);
    return major;
}

static void mit_initiates(struct scene *s, bool bound)
{
    struct one_key keys = {{find_key}, &s->key};
    uint8_t hash[16];
    struct kctx_accepting how = {.keys = &keys.port, .skew_s = 300, .bindings = bound ? hash : NULL};
    gss_buffer_desc out = {0, NULL}, in;
    OM_uint32 ignored, major;
    struct sp_span reply;
    struct sp_err e = {0};

    hash_channel(hash, &s->mem);
    major = mit_init(s, GSS_C_NO_BUFFER, &out, bound ? &channel : GSS_C_NO_CHANNEL_BINDINGS);
    good(kctx_accept(&s->k, crypto, now(), &how, bare(s, of(&out), TOKEN_AP_REQ), &s->mem, &reply, &e), &e);
    gss_release_buffer(&ignored, &out);
    assert_int_equal(reply.n > 0, major == GSS_S_CONTINUE_NEEDED);
    assert_int_equal((s->k.flags & KCTX_CHANNEL_BOUND) != 0, bound);
    if (reply.n == 0)
        return;
    in = framed(s, reply, TOKEN_AP_REP);
    assert_int_equal(mit_init(s, &in, &out, bound ? &channel : GSS_C_NO_CHANNEL_BINDINGS), GSS_S_COMPLETE);
    assert_int_equal(out.length > 0, (s->flags & GSS_C_DCE_STYLE) != 0);
    if (out.length > 0)
        good(kctx_accept_third(&s->k, crypto, now(), of(&out), &e), &e);
    gss_release_buffer(&ignored, &out);
}

static OM_uint32 mit_accept(struct scene *s, gss_buffer_t in, gss_buffer_t out, gss_channel_bindings_t b,
                            gss_cred_id_t *deleg)
{
    OM_uint32 major, minor, got = 0;

    major =
        gss_accept_sec_context(&minor, &s->g, GSS_C_NO_CREDENTIAL, in, b, NULL, NULL, out, &got, NULL, deleg);
    mit(major, minor);
    if (major == GSS_S_COMPLETE) {
        assert_int_equal(got & s->flags, s->flags);
        assert_int_equal((got & GSS_C_CHANNEL_BOUND_FLAG) != 0, b != GSS_C_NO_CHANNEL_BINDINGS);
    }
    return major;
}

static void mit_accepts(struct scene *s, bool bound, gss_cred_id_t *deleg)
{
    uint8_t hash[16];
    struct kctx_ask ask = {.ticket = &s->cred, .flags = s->flags, .bindings = bound ? hash : NULL};
    gss_channel_bindings_t b = bound ? &channel : GSS_C_NO_CHANNEL_BINDINGS;
    gss_buffer_desc in, out = {0, NULL}, none = {0, NULL};
    struct sp_span ap_req, third = {0};
    OM_uint32 ignored, major;
    struct sp_err e = {0};

    s->mit_accepts = true;
    hash_channel(hash, &s->mem);
    if (deleg)
        good(kctx_make_cred(crypto, now(), &s->cred, &s->cred.key, &s->mem, &ask.cred, &e), &e);
    good(kctx_request(&s->k, crypto, now(), &ask, &s->mem, &ap_req, &e), &e);
    in = framed(s, ap_req, TOKEN_AP_REQ);
    major = mit_accept(s, &in, &out, b, deleg);
    if (out.length > 0)
        good(kctx_take_reply(&s->k, crypto, now(), bare(s, of(&out), TOKEN_AP_REP), &s->mem, &third, &e), &e);
    gss_release_buffer(&ignored, &out);
    assert_int_equal(third.n > 0, major == GSS_S_CONTINUE_NEEDED);
    if (third.n == 0)
        return;
    in = to(third);
    assert_int_equal(mit_accept(s, &in, &none, b, deleg), GSS_S_COMPLETE);
}

/* ---- afterwards ---- */

static void ours_to_theirs(struct scene *s, enum kctx_wrap how, size_t n)
{
    static uint8_t text[20000], token[sizeof text + KCTX_WRAP_OVERHEAD_MAX];
    size_t token_n = sizeof token;
    gss_buffer_desc in, out = {0, NULL};
    OM_uint32 major, minor;
    struct sp_err e = {0};
    int sealed = -1;

    memset(text, 0xa5, n);
    good(kctx_wrap(&s->k, crypto, &rng.rng, how, sp_span(text, n), token, &token_n, &e), &e);
    in = to(sp_span(token, token_n));
    major = gss_unwrap(&minor, s->g, &in, &out, &sealed, NULL);
    mit(major, minor);
    assert_int_equal(major, GSS_S_COMPLETE);
    assert_int_equal(sealed, how == KCTX_CONFIDENTIAL);
    same_bytes(of(&out), sp_span(text, n));
    if (n == 0)
        free(out.value); /* 1.20.1 has a byte there, which gss_release_buffer leaves alone */
    gss_release_buffer(&minor, &out);
}

static void theirs_to_ours(struct scene *s, enum kctx_wrap how, size_t n)
{
    static uint8_t text[20000], got[sizeof text + KCTX_WRAP_OVERHEAD_MAX];
    size_t got_n = sizeof got;
    gss_buffer_desc in = {n, text}, out = {0, NULL};
    OM_uint32 major, minor;
    struct sp_err e = {0};
    enum kctx_wrap seen;
    int sealed;
    bool ok;

    memset(text, 0xa5, n);
    major = gss_wrap(&minor, s->g, how == KCTX_CONFIDENTIAL, GSS_C_QOP_DEFAULT, &in, &sealed, &out);
    mit(major, minor);
    good(kctx_unwrap(&s->k, crypto, of(&out), got, &got_n, &seen, &ok, &e), &e);
    assert_true(ok && seen == how);
    same_bytes(sp_span(got, got_n), sp_span(text, n));
    gss_release_buffer(&minor, &out);
}

static void mics(struct scene *s)
{
    uint8_t mic[KCTX_MIC_MAX];
    size_t n = sizeof mic;
    struct sp_span text = SP_LIT(TEXT);
    gss_buffer_desc msg = to(text), theirs = {0, NULL}, ours;
    OM_uint32 major, minor;
    struct sp_err e = {0};
    bool ok;

    good(kctx_get_mic(&s->k, crypto, &text, 1, mic, &n, &e), &e);
    ours = to(sp_span(mic, n));
    major = gss_verify_mic(&minor, s->g, &msg, &ours, NULL);
    mit(major, minor);
    assert_int_equal(major, GSS_S_COMPLETE);
    if (s->flags & GSS_C_REPLAY_FLAG)
        assert_int_equal(gss_verify_mic(&minor, s->g, &msg, &ours, NULL) & GSS_S_DUPLICATE_TOKEN,
                         GSS_S_DUPLICATE_TOKEN);
    mit(gss_get_mic(&minor, s->g, GSS_C_QOP_DEFAULT, &msg, &theirs), minor);
    good(kctx_verify_mic(&s->k, crypto, &text, 1, of(&theirs), &ok, &e), &e);
    gss_release_buffer(&minor, &theirs);
}

static void keys(struct scene *s)
{
    struct sp_key ours;
    gss_buffer_set_t set = GSS_C_NO_BUFFER_SET;
    gss_buffer_desc seed = {9, "some seed"}, theirs = {0, NULL};
    uint8_t prf[100];
    OM_uint32 minor;
    struct sp_err e = {0};

    good(kctx_session_key(&s->k, &ours, &e), &e);
    mit(gss_inquire_sec_context_by_oid(&minor, s->g, GSS_C_INQ_SSPI_SESSION_KEY, &set), minor);
    same_bytes(of(&set->elements[0]), sp_span(ours.b, ours.n));
    gss_release_buffer_set(&minor, &set);
    for (int which = 0; which < 2; which++) {
        int theirs_is = which == KCTX_PRF_FULL ? GSS_C_PRF_KEY_FULL : GSS_C_PRF_KEY_PARTIAL;

        mit(gss_pseudo_random(&minor, s->g, theirs_is, &seed, sizeof prf, &theirs), minor);
        good(kctx_prf(&s->k, crypto, (enum kctx_prf)which, SP_LIT("some seed"), prf, sizeof prf, &e), &e);
        same_bytes(of(&theirs), sp_span(prf, sizeof prf));
        gss_release_buffer(&minor, &theirs);
    }
}

/* ---- pieces ---- */

#define PIECES 5
struct pieces {
    uint8_t head[128], tail[64], one[20], two[20], beside[8];
    uint32_t count; /* 5 with a trailer */
    bool sign_only;
};

static void lay_out(struct pieces *p, bool trailer, bool sign_only)
{
    memset(p, 0, sizeof *p);
    memcpy(p->one, "the first piece", 15);
    memcpy(p->two, "and the second", 14);
    memcpy(p->beside, "beside", 6);
    p->count = trailer ? 5 : 4;
    p->sign_only = sign_only;
}

static void for_us(struct pieces *p, struct kctx_iov v[PIECES])
{
    v[0] = (struct kctx_iov){KCTX_PART_HEADER, p->head, sizeof p->head};
    v[1] = (struct kctx_iov){KCTX_PART_DATA, p->one, 15};
    v[2] = (struct kctx_iov){p->sign_only ? KCTX_PART_SIGN_ONLY : KCTX_PART_EMPTY, p->beside, 6};
    v[3] = (struct kctx_iov){KCTX_PART_DATA, p->two, 14};
    v[4] = (struct kctx_iov){KCTX_PART_TRAILER, p->tail, sizeof p->tail};
}

static void for_them(struct pieces *p, gss_iov_buffer_desc v[PIECES])
{
    v[0] = (gss_iov_buffer_desc){
        GSS_IOV_BUFFER_TYPE_HEADER, {sizeof p->head, p->head}
    };
    v[1] = (gss_iov_buffer_desc){
        GSS_IOV_BUFFER_TYPE_DATA, {15, p->one}
    };
    v[2] = (gss_iov_buffer_desc){
        p->sign_only ? GSS_IOV_BUFFER_TYPE_SIGN_ONLY : GSS_IOV_BUFFER_TYPE_EMPTY, {6, p->beside}
    };
    v[3] = (gss_iov_buffer_desc){
        GSS_IOV_BUFFER_TYPE_DATA, {14, p->two}
    };
    v[4] = (gss_iov_buffer_desc){
        GSS_IOV_BUFFER_TYPE_TRAILER, {sizeof p->tail, p->tail}
    };
}

static void check_pieces(const struct pieces *p)
{
    assert_memory_equal(p->one, "the first piece", 15);
    assert_memory_equal(p->two, "and the second", 14);
}

static void pieces_to_them(struct scene *s, enum kctx_wrap how, bool trailer, bool sign_only)
{
    struct pieces p;
    struct kctx_iov ours[PIECES];
    gss_iov_buffer_desc theirs[PIECES];
    OM_uint32 minor;
    struct sp_err e = {0};
    int sealed = -1;

    lay_out(&p, trailer, sign_only);
    for_us(&p, ours);
    for_them(&p, theirs);
    good(kctx_iov_lengths(&s->k, how, ours, p.count, &e), &e);
    good(kctx_wrap_iov(&s->k, crypto, &rng.rng, how, ours, p.count, &s->mem, &e), &e);
    theirs[0].buffer.length = ours[0].n;
    theirs[4].buffer.length = ours[4].n;
    mit(gss_unwrap_iov(&minor, s->g, &sealed, NULL, theirs, (int)p.count), minor);
    assert_int_equal(sealed, how == KCTX_CONFIDENTIAL);
    check_pieces(&p);
}

static void pieces_to_us(struct scene *s, enum kctx_wrap how, bool trailer, bool sign_only)
{
    struct pieces p;
    struct kctx_iov ours[PIECES];
    gss_iov_buffer_desc theirs[PIECES];
    OM_uint32 minor;
    struct sp_err e = {0};
    enum kctx_wrap seen;
    int sealed = -1;
    bool ok;

    lay_out(&p, trailer, sign_only);
    for_us(&p, ours);
    for_them(&p, theirs);
    mit(gss_wrap_iov_length(&minor, s->g, how == KCTX_CONFIDENTIAL, GSS_C_QOP_DEFAULT, &sealed, theirs,
                            (int)p.count),
        minor);
    theirs[0].buffer.value = p.head; /* asking for lengths takes the pointers away */
    theirs[4].buffer.value = p.tail;
    good(kctx_iov_lengths(&s->k, how, ours, p.count, &e), &e);
    assert_int_equal(ours[0].n, theirs[0].buffer.length); /* ours are as long as theirs */
    if (trailer)
        assert_int_equal(ours[4].n, theirs[4].buffer.length);
    mit(gss_wrap_iov(&minor, s->g, how == KCTX_CONFIDENTIAL, GSS_C_QOP_DEFAULT, &sealed, theirs,
                     (int)p.count),
        minor);
    good(kctx_unwrap_iov(&s->k, crypto, &seen, ours, p.count, &s->mem, &ok, &e), &e);
    assert_true(ok && seen == how);
    check_pieces(&p);
}

static void pieces(struct scene *s)
{
    for (int i = 0; i < 8; i++) {
        enum kctx_wrap how = i & 1 ? KCTX_CONFIDENTIAL : KCTX_INTEGRITY;
        pieces_to_them(s, how, i & 2, i & 4);
        pieces_to_us(s, how, i & 2, i & 4);
    }
}

/* Both sides leave the process and come back. */
static void move(struct scene *s)
{
    uint8_t bytes[KCTX_EXPORT_MAX];
    size_t n = sizeof bytes;
    gss_buffer_desc theirs = {0, NULL};
    OM_uint32 minor;
    struct sp_err e = {0};

    good(kctx_export(&s->k, bytes, &n, &e) && kctx_import(&s->k, sp_span(bytes, n), &e), &e);
    mit(gss_export_sec_context(&minor, &s->g, &theirs), minor);
    mit(gss_import_sec_context(&minor, &theirs, &s->g), minor);
    gss_release_buffer(&minor, &theirs);
}

static void use(struct scene *s)
{
    static const size_t sizes[] = {0, 1, 16, 100, 20000};

    for (int again = 0; again < 2; again++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            for (int how = 0; how < 2; how++) {
                ours_to_theirs(s, (enum kctx_wrap)how, sizes[i]);
                theirs_to_ours(s, (enum kctx_wrap)how, sizes[i]);
            }
        mics(s);
        keys(s);
        pieces(s);
        if (!again)
            move(s);
    }
}

static void leave(struct scene *s)
{
    OM_uint32 minor;

    gss_delete_sec_context(&minor, &s->g, GSS_C_NO_BUFFER);
    kctx_wipe(&s->k);
}

static const uint32_t flag_sets[] = {
    GSS_C_MUTUAL_FLAG | GSS_C_REPLAY_FLAG | GSS_C_SEQUENCE_FLAG,
    GSS_C_REPLAY_FLAG,
    GSS_C_MUTUAL_FLAG | GSS_C_DCE_STYLE | GSS_C_SEQUENCE_FLAG,
};

static void their_initiator(void **state)
{
    static struct scene s;

    (void)state;
    for (int32_t etype = 17; etype <= 20; etype++)
        for (size_t f = 0; f < 3; f++) {
            set_scene(&s, etype, flag_sets[f]);
            mit_initiates(&s, f != 1);
            assert_string_equal(s.k.client, "alice@" REALM);
            use(&s);
            leave(&s);
        }
}

static void their_acceptor(void **state)
{
    static struct scene s;

    (void)state;
    for (int32_t etype = 17; etype <= 20; etype++)
        for (size_t f = 0; f < 3; f++) {
            set_scene(&s, etype, flag_sets[f]);
            mit_accepts(&s, f != 1, NULL);
            use(&s);
            leave(&s);
        }
}

/* The forwarded ticket arrives as a credential of alice's. */
static void delegation(void **state)
{
    static struct scene s;
    gss_cred_id_t cred = GSS_C_NO_CREDENTIAL;
    gss_name_t name;
    gss_buffer_desc text = {0, NULL};
    OM_uint32 minor;

    (void)state;
    for (int32_t etype = 17; etype <= 20; etype++) {
        set_scene(&s, etype, GSS_C_MUTUAL_FLAG | GSS_C_DELEG_FLAG);
        mit_accepts(&s, false, &cred);
        assert_non_null(cred);
        mit(gss_inquire_cred(&minor, cred, &name, NULL, NULL, NULL), minor);
        mit(gss_display_name(&minor, name, &text, NULL), minor);
        same_bytes(of(&text), SP_LIT("alice@" REALM));
        gss_release_buffer(&minor, &text);
        gss_release_name(&minor, &name);
        gss_release_cred(&minor, &cred);
        leave(&s);
    }
}

/* Different channels: each refuses the other, with the status that GSS-API has for it. */
static void other_channel(void **state)
{
    static struct scene s;
    struct one_key one = {{find_key}, &s.key};
    uint8_t hash[16] = {1};
    struct kctx_accepting how = {.keys = &one.port, .skew_s = 300, .bindings = hash};
    struct kctx_ask ask = {.ticket = &s.cred, .bindings = hash};
    gss_buffer_desc out = {0, NULL}, in;
    struct sp_span span;
    OM_uint32 minor;
    struct sp_err e = {0};

    (void)state;
    set_scene(&s, 18, GSS_C_MUTUAL_FLAG);
    mit_init(&s, GSS_C_NO_BUFFER, &out, &channel);
    assert_false(kctx_accept(&s.k, crypto, now(), &how, bare(&s, of(&out), TOKEN_AP_REQ), &s.mem, &span, &e));
    assert_int_equal(e.proto, KCTX_BAD_BINDINGS);
    gss_release_buffer(&minor, &out);
    leave(&s);
    e = (struct sp_err){0};
    good(kctx_request(&s.k, crypto, now(), &ask, &s.mem, &span, &e), &e);
    in = framed(&s, span, TOKEN_AP_REQ);
    assert_int_equal(gss_accept_sec_context(&minor, &s.g, GSS_C_NO_CREDENTIAL, &in, &channel, NULL, NULL,
                                            &out, NULL, NULL, NULL),
                     GSS_S_BAD_BINDINGS);
    gss_release_buffer(&minor, &out);
    leave(&s);
}

static void in_dir(const char *variable, const char *prefix, const char *name)
{
    char path[160];

    snprintf(path, sizeof path, "%s%s/%s", prefix, dir, name);
    setenv(variable, path, 1);
}

static int begin(void **state)
{
    struct sp_err e = {0};
    char path[128];
    FILE *f;

    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/krb5.conf", dir);
    f = fopen(path, "w");
    if (!f)
        return -1;
    fputs("[libdefaults]\n default_realm = " REALM "\n rdns = false\n dns_lookup_kdc = false\n"
          " dns_canonicalize_hostname = false\n[realms]\n " REALM " = {\n }\n",
          f);
    fclose(f);
    in_dir("KRB5_CONFIG", "", "krb5.conf");
    in_dir("KRB5_KTNAME", "FILE:", "keytab");
    in_dir("KRB5CCNAME", "FILE:", "cache");
    setenv("KRB5RCACHENAME", "none:", 1);
    sp_rng_fixed_init(&rng, (uint64_t)now().wall_us);
    crypto = crypto_new(&e);
    return crypto ? 0 : -1;
}

static int end(void **state)
{
    static const char *const names[] = {"krb5.conf", "keytab", "cache"};
    char path[128];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
    crypto_free(crypto);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(their_initiator),
        cmocka_unit_test(their_acceptor),
        cmocka_unit_test(delegation),
        cmocka_unit_test(other_channel),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
