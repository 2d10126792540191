/* SPDX-License-Identifier: MIT */
/* A program that uses libgssapi as any application does; which mechanism library answers is up to
 * GSS_MECH_CONFIG.
 *
 *   gss_api pair SERVICE@HOST [options]         initiator and acceptor in this process: contexts, messages
 *   gss_api follow SERVICE@HOST [options]       commands on stdin: pair, fork, user NUMBER,
 *                                               keytab FILE, env NAME=VALUE;
 *   gss_api follow-held SERVICE@HOST [options]  the same, with a credential that is acquired once
 *   gss_api serve PORT [options]                one context over TCP, then one wrapped message back
 *   gss_api connect PORT SERVICE@HOST [options]
 *   gss_api mechs                               what a program would find
 *
 * Options: mech=OID, user=NAME, password=PW, threads=N, rounds=N, bindings=TEXT, acceptor_bindings=TEXT,
 * calls=every, acceptor=KEYTAB, client_keytab=FILE, store=CCACHE, flags=NUMBER. Output is KEY=VALUE lines;
 * the first failure ends it with status 1. */
#include <arpa/inet.h>
#include <gssapi/gssapi.h>
#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static gss_OID_desc iakerb = {6, (void *)"\x2b\x06\x01\x05\x02\x05"};
static gss_OID_desc spnego = {6, (void *)"\x2b\x06\x01\x05\x05\x02"};
static gss_OID_desc krb5 = {9, (void *)"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02"};

static struct options {
    gss_OID mech;
    const char *user, *password, *bindings, *acceptor_bindings, *acceptor, *client_keytab, *store;
    int threads, rounds, every;
    OM_uint32 flags;
} opt = {.mech = &iakerb,
         .threads = 1,
         .rounds = 1,
         .flags = GSS_C_MUTUAL_FLAG | GSS_C_REPLAY_FLAG | GSS_C_SEQUENCE_FLAG | GSS_C_CONF_FLAG |
                  GSS_C_INTEG_FLAG};

static void say_status(OM_uint32 status, int type, gss_OID mech)
{
    OM_uint32 minor, more = 0;
    gss_buffer_desc text;

    do {
        if (GSS_ERROR(gss_display_status(&minor, status, type, mech, &more, &text)))
            return;
        fprintf(stderr, " %.*s;", (int)text.length, (char *)text.value);
        (void)gss_release_buffer(&minor, &text);
    } while (more);
}

static void must_be(OM_uint32 major, OM_uint32 minor, const char *what)
{
    if (major == GSS_S_COMPLETE || major == GSS_S_CONTINUE_NEEDED)
        return;
    fprintf(stderr, "%s: major %08x minor %08x:", what, major, minor);
    say_status(major, GSS_C_GSS_CODE, GSS_C_NO_OID);
    if (minor)
        say_status(minor, GSS_C_MECH_CODE, opt.mech);
    fprintf(stderr, "\n");
    exit(1);
}

/* The call first, then the minor code that it left. */
#define must(call, minor, what)                                                                              \
    do {                                                                                                     \
        OM_uint32 major_ = (call);                                                                           \
        must_be(major_, minor, what);                                                                        \
    } while (0)

#define check(condition, what) check_that((condition) != 0, what)
static void check_that(int good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "not so: %s\n", what);
    exit(1);
}

static gss_name_t import(const char *text, gss_OID type)
{
    gss_buffer_desc b = {strlen(text), (void *)(size_t)text};
    gss_name_t n;
    OM_uint32 minor;

    must(gss_import_name(&minor, &b, type, &n), minor, "import_name");
    return n;
}

static void say_name(const char *key, gss_name_t n)
{
    gss_buffer_desc text = GSS_C_EMPTY_BUFFER;
    OM_uint32 minor;

    if (n)
        must(gss_display_name(&minor, n, &text, NULL), minor, "display_name");
    printf("%s=%.*s\n", key, (int)text.length, (char *)text.value);
    (void)gss_release_buffer(&minor, &text);
}

static gss_cred_id_t acquire_initiator(void)
{
    gss_OID_set_desc only = {1, opt.mech};
    gss_cred_id_t c = GSS_C_NO_CREDENTIAL;
    OM_uint32 minor;
    gss_name_t n;

    if (opt.client_keytab) {
        gss_key_value_element_desc e = {"client_keytab", opt.client_keytab};
        gss_key_value_set_desc store = {1, &e};

        must(gss_acquire_cred_from(&minor, GSS_C_NO_NAME, 0, &only, GSS_C_INITIATE, &store, &c, NULL, NULL),
             minor, "acquire_cred_from");
    }
    if (opt.user && opt.password) {
        gss_buffer_desc pw = {strlen(opt.password), (void *)(size_t)opt.password};

        n = import(opt.user, GSS_C_NT_USER_NAME);
        must(gss_acquire_cred_with_password(&minor, n, &pw, 0, &only, GSS_C_INITIATE, &c, NULL, NULL), minor,
             "acquire_cred_with_password");
        (void)gss_release_name(&minor, &n);
    }
    return c;
}

static OM_uint32 acquire_from_keytab(OM_uint32 *minor, gss_cred_id_t *c)
{
    gss_key_value_element_desc e = {"keytab", opt.acceptor};
    gss_key_value_set_desc store = {1, &e};
    gss_OID_set_desc only = {1, opt.mech};

    return gss_acquire_cred_from(minor, GSS_C_NO_NAME, 0, &only, GSS_C_ACCEPT, &store, c, NULL, NULL);
}

static gss_cred_id_t acquire_acceptor(void)
{
    gss_cred_id_t c = GSS_C_NO_CREDENTIAL;
    OM_uint32 minor;

    if (opt.acceptor)
        must(acquire_from_keytab(&minor, &c), minor, "acquire_cred_from (acceptor)");
    return c;
}

static gss_channel_bindings_t bindings_of(struct gss_channel_bindings_struct *b, const char *text)
{
    memset(b, 0, sizeof *b);
    if (!text)
        return GSS_C_NO_CHANNEL_BINDINGS;
    b->application_data = (gss_buffer_desc){strlen(text), (void *)(size_t)text};
    return b;
}

/* ---- one side of a context ---- */

struct side {
    gss_ctx_id_t ctx;
    gss_cred_id_t cred, delegated;
    gss_name_t peer; /* the target, or who it turned out to be */
    OM_uint32 major, minor, flags, life;
    gss_OID mech;
    gss_buffer_desc out;
    int tokens;
};

static void step_initiator(struct side *s, gss_buffer_t in)
{
    struct gss_channel_bindings_struct b;

    s->major =
        gss_init_sec_context(&s->minor, s->cred, &s->ctx, s->peer, opt.mech, opt.flags, 0,
                             bindings_of(&b, opt.bindings), in, &s->mech, &s->out, &s->flags, &s->life);
}

static void step_acceptor(struct side *s, gss_buffer_t in)
{
    struct gss_channel_bindings_struct b;

    s->major =
        gss_accept_sec_context(&s->minor, &s->ctx, s->cred, in,
                               bindings_of(&b, opt.acceptor_bindings ? opt.acceptor_bindings : opt.bindings),
                               &s->peer, &s->mech, &s->out, &s->flags, &s->life, &s->delegated);
}

/* Every call on a context that is not there yet is answered and changes nothing. */
static void call_everything(struct side *s)
{
    gss_buffer_desc m = {5, (void *)"hello"}, out = GSS_C_EMPTY_BUFFER;
    gss_buffer_set_t set = GSS_C_NO_BUFFER_SET;
    gss_iov_buffer_desc v[2] = {
        {GSS_IOV_BUFFER_TYPE_HEADER | GSS_IOV_BUFFER_FLAG_ALLOCATE, GSS_C_EMPTY_BUFFER},
        {GSS_IOV_BUFFER_TYPE_DATA,                                  {5, m.value}      }
    };
    OM_uint32 minor, n;
    int conf;

    if (!s->ctx)
        return;
    check(GSS_ERROR(gss_get_mic(&minor, s->ctx, 0, &m, &out)), "no MIC yet");
    check(GSS_ERROR(gss_verify_mic(&minor, s->ctx, &m, &m, NULL)), "no MIC is verified yet");
    check(GSS_ERROR(gss_wrap(&minor, s->ctx, 1, 0, &m, &conf, &out)), "nothing is wrapped yet");
    check(GSS_ERROR(gss_unwrap(&minor, s->ctx, &m, &out, &conf, NULL)), "nothing is unwrapped yet");
    check(GSS_ERROR(gss_wrap_iov(&minor, s->ctx, 1, 0, &conf, v, 2)), "no pieces are wrapped yet");
    check(GSS_ERROR(gss_unwrap_iov(&minor, s->ctx, &conf, NULL, v, 2)), "no pieces are unwrapped yet");
    check(GSS_ERROR(gss_wrap_size_limit(&minor, s->ctx, 1, 0, 100, &n)), "no limit yet");
    check(GSS_ERROR(gss_context_time(&minor, s->ctx, &n)), "no time yet");
    check(GSS_ERROR(gss_pseudo_random(&minor, s->ctx, GSS_C_PRF_KEY_FULL, &m, 16, &out)), "no PRF yet");
    check(GSS_ERROR(gss_inquire_sec_context_by_oid(&minor, s->ctx, GSS_C_INQ_SSPI_SESSION_KEY, &set)),
          "no key yet");
    check(GSS_ERROR(gss_process_context_token(&minor, s->ctx, &m)), "no context token");
    check(!GSS_ERROR(gss_inquire_context(&minor, s->ctx, NULL, NULL, &n, NULL, NULL, NULL, &conf)),
          "can be inquired");
    check(!conf, "not open yet");
    check(GSS_ERROR(gss_export_sec_context(&minor, &s->ctx, &out)), "not exported yet");
    check(s->ctx != GSS_C_NO_CONTEXT, "still there");
}

static void send_on(struct side *from, struct side *to, void step(struct side *, gss_buffer_t),
                    const char *what)
{
    OM_uint32 minor;

    to->out = (gss_buffer_desc)GSS_C_EMPTY_BUFFER;
    if (opt.every)
        call_everything(to);
    step(to, &from->out);
    from->tokens += from->out.length > 0;
    must(to->major, to->minor, what);
    (void)gss_release_buffer(&minor, &from->out);
    from->out = (gss_buffer_desc)GSS_C_EMPTY_BUFFER;
}

static void establish(struct side *i, struct side *a)
{
    step_initiator(i, GSS_C_NO_BUFFER);
    must(i->major, i->minor, "init_sec_context");
    while (i->out.length > 0) {
        send_on(i, a, step_acceptor, "accept_sec_context");
        if (a->out.length > 0)
            send_on(a, i, step_initiator, "init_sec_context");
    }
    check(i->major == GSS_S_COMPLETE && a->major == GSS_S_COMPLETE, "both sides are done");
}

/* ---- messages ---- */

static void try_mic(struct side *from, struct side *to)
{
    gss_buffer_desc m = {11, (void *)"hello there"}, mic, bad;
    char copy[64];
    OM_uint32 minor;

    must(gss_get_mic(&minor, from->ctx, GSS_C_QOP_DEFAULT, &m, &mic), minor, "get_mic");
    must(gss_verify_mic(&minor, to->ctx, &m, &mic, NULL), minor, "verify_mic");
    memcpy(copy, mic.value, mic.length);
    copy[mic.length - 1] ^= 1;
    bad = (gss_buffer_desc){mic.length, copy};
    check(gss_verify_mic(&minor, to->ctx, &m, &bad, NULL) == GSS_S_BAD_SIG, "an altered MIC is refused");
    if (opt.flags & GSS_C_REPLAY_FLAG)
        check(gss_verify_mic(&minor, to->ctx, &m, &mic, NULL) == GSS_S_DUPLICATE_TOKEN,
              "a repeated MIC is told");
    (void)gss_release_buffer(&minor, &mic);
}

static void try_wrap(struct side *from, struct side *to, int conf)
{
    char text[3000];
    gss_buffer_desc m = {sizeof text, text}, token, back;
    OM_uint32 minor, limit;
    int got = -1, got2 = -1;

    memset(text, 'x', sizeof text);
    must(gss_wrap(&minor, from->ctx, conf, GSS_C_QOP_DEFAULT, &m, &got, &token), minor, "wrap");
    must(gss_unwrap(&minor, to->ctx, &token, &back, &got2, NULL), minor, "unwrap");
    check(got == conf && got2 == conf, "confidentiality as asked");
    check(back.length == m.length && memcmp(back.value, text, m.length) == 0, "the text is back");
    check(conf == (memmem(token.value, token.length, text, 64) == NULL), "hidden or not");
    must(gss_wrap_size_limit(&minor, from->ctx, conf, 0, (OM_uint32)token.length, &limit), minor,
         "wrap_size_limit");
    check(limit == m.length, "the limit is exact");
    (void)gss_release_buffer(&minor, &token);
    (void)gss_release_buffer(&minor, &back);
}

static void try_iov(struct side *from, struct side *to)
{
    char text[500], beside[20], whole[1000];
    gss_iov_buffer_desc v[] = {
        {GSS_IOV_BUFFER_TYPE_HEADER | GSS_IOV_BUFFER_FLAG_ALLOCATE,  GSS_C_EMPTY_BUFFER     },
        {GSS_IOV_BUFFER_TYPE_SIGN_ONLY,                              {sizeof beside, beside}},
        {GSS_IOV_BUFFER_TYPE_DATA,                                   {sizeof text, text}    },
        {GSS_IOV_BUFFER_TYPE_PADDING | GSS_IOV_BUFFER_FLAG_ALLOCATE, GSS_C_EMPTY_BUFFER     },
        {GSS_IOV_BUFFER_TYPE_TRAILER | GSS_IOV_BUFFER_FLAG_ALLOCATE, GSS_C_EMPTY_BUFFER     },
    };
    gss_buffer_desc b = {sizeof beside, beside}, m, token, back;
    OM_uint32 minor;
    int conf = 0;

    memset(text, 'y', sizeof text);
    memset(beside, 'z', sizeof beside);
    must(gss_wrap_iov(&minor, from->ctx, 1, 0, &conf, v, 5), minor, "wrap_iov");
    check(conf && memcmp(text, "yyyy", 4) != 0, "encrypted in place");
    must(gss_unwrap_iov(&minor, to->ctx, &conf, NULL, v, 5), minor, "unwrap_iov");
    check(conf && v[2].buffer.length == sizeof text && memcmp(v[2].buffer.value, "yyyy", 4) == 0,
          "decrypted in place");
    (void)gss_release_iov_buffer(&minor, v, 5);
    memset(whole, 'q', sizeof whole);
    m = (gss_buffer_desc){sizeof whole, whole};
    must(gss_wrap_aead(&minor, from->ctx, 1, 0, &b, &m, &conf, &token), minor, "wrap_aead");
    must(gss_unwrap_aead(&minor, to->ctx, &token, &b, &back, &conf, NULL), minor, "unwrap_aead");
    check(back.length == sizeof whole && memcmp(back.value, whole, sizeof whole) == 0, "the payload is back");
    (void)gss_release_buffer(&minor, &back);
    (void)gss_release_buffer(&minor, &token);
}

static void try_mic_iov(struct side *from, struct side *to)
{
    gss_iov_buffer_desc v[] = {
        {GSS_IOV_BUFFER_TYPE_DATA,                                     {5, (void *)"hello"}},
        {GSS_IOV_BUFFER_TYPE_MIC_TOKEN | GSS_IOV_BUFFER_FLAG_ALLOCATE, GSS_C_EMPTY_BUFFER  },
    };
    OM_uint32 minor;

    must(gss_get_mic_iov(&minor, from->ctx, 0, v, 2), minor, "get_mic_iov");
    must(gss_verify_mic_iov(&minor, to->ctx, NULL, v, 2), minor, "verify_mic_iov");
    (void)gss_release_iov_buffer(&minor, v, 2);
}

static void same_bytes(gss_buffer_t a, gss_buffer_t b, const char *what)
{
    check(a->length == b->length && a->length > 0 && memcmp(a->value, b->value, a->length) == 0, what);
}

static void try_keys(struct side *i, struct side *a)
{
    gss_buffer_desc in = {4, (void *)"seed"}, x, y;
    gss_buffer_set_t kx = NULL, ky = NULL;
    OM_uint32 minor;

    must(gss_pseudo_random(&minor, i->ctx, GSS_C_PRF_KEY_FULL, &in, 50, &x), minor, "pseudo_random");
    must(gss_pseudo_random(&minor, a->ctx, GSS_C_PRF_KEY_FULL, &in, 50, &y), minor, "pseudo_random");
    same_bytes(&x, &y, "one PRF on both sides");
    (void)gss_release_buffer(&minor, &x);
    (void)gss_release_buffer(&minor, &y);
    must(gss_inquire_sec_context_by_oid(&minor, i->ctx, GSS_C_INQ_SSPI_SESSION_KEY, &kx), minor,
         "session key");
    must(gss_inquire_sec_context_by_oid(&minor, a->ctx, GSS_C_INQ_SSPI_SESSION_KEY, &ky), minor,
         "session key");
    check(kx->count == 2 && ky->count == 2, "key and type");
    same_bytes(&kx->elements[0], &ky->elements[0], "one session key");
    (void)gss_release_buffer_set(&minor, &kx);
    (void)gss_release_buffer_set(&minor, &ky);
    must(gss_inquire_sec_context_by_oid(&minor, i->ctx, GSS_C_SEC_CONTEXT_SASL_SSF, &kx), minor, "SSF");
    check(kx->count == 1 && kx->elements[0].length == 4, "an SSF");
    check(memcmp(kx->elements[0].value, "\0\0\1\0", 4) == 0 ||
              memcmp(kx->elements[0].value, "\0\0\0\x80", 4) == 0,
          "256 or 128 bits");
    (void)gss_release_buffer_set(&minor, &kx);
    check(gss_inquire_sec_context_by_oid(&minor, i->ctx, &krb5, &kx) == GSS_S_UNAVAILABLE, "unknown objects");
}

/* A credential through the bytes that another process would get; passwords stay. */
static void move_cred(gss_cred_id_t *c, int secret)
{
    gss_buffer_desc token;
    OM_uint32 minor, major;

    if (!*c)
        return;
    major = gss_export_cred(&minor, *c, &token);
    check(!secret || major == GSS_S_UNAVAILABLE, "a password is not exported");
    if (secret)
        return;
    must(major, minor, "export_cred");
    must(gss_release_cred(&minor, c), minor, "release_cred");
    must(gss_import_cred(&minor, &token, c), minor, "import_cred");
    (void)gss_release_buffer(&minor, &token);
}

/* libgssapi would import it into the built-in mechanism. */
static void try_export(struct side *s)
{
    gss_buffer_desc token;
    OM_uint32 minor;

    if (opt.mech != &iakerb)
        return;
    check(gss_export_sec_context(&minor, &s->ctx, &token) == GSS_S_UNAVAILABLE, "contexts are not exported");
    check(!(s->flags & GSS_C_TRANS_FLAG), "and do not say so");
}

static void try_messages(struct side *i, struct side *a)
{
    try_mic(i, a);
    try_mic(a, i);
    for (int conf = 0; conf < 2; conf++) {
        try_wrap(i, a, conf);
        try_wrap(a, i, conf);
    }
    try_iov(i, a);
    try_iov(a, i);
    try_mic_iov(i, a);
    try_keys(i, a);
}

static void try_names(struct side *a)
{
    gss_buffer_desc token, local;
    gss_name_t back, canonical, copy;
    OM_uint32 minor;
    int equal = 0;

    must(gss_export_name(&minor, a->peer, &token), minor, "export_name");
    check(token.length > 15 && memcmp((char *)token.value + 6, krb5.elements, krb5.length) == 0,
          "names are exported as the krb5 mechanism's");
    back = GSS_C_NO_NAME;
    must(gss_import_name(&minor, &token, GSS_C_NT_EXPORT_NAME, &back), minor, "import of an exported name");
    (void)gss_release_buffer(&minor, &token);
    must(gss_canonicalize_name(&minor, back, &iakerb, &canonical), minor, "canonicalize_name");
    must(gss_duplicate_name(&minor, a->peer, &copy), minor, "duplicate_name");
    must(gss_compare_name(&minor, a->peer, copy, &equal), minor, "compare_name");
    check(equal, "a copy is equal");
    say_name("exported", back);
    if (gss_localname(&minor, a->peer, GSS_C_NO_OID, &local) == GSS_S_COMPLETE) {
        printf("local=%.*s\n", (int)local.length, (char *)local.value);
        (void)gss_release_buffer(&minor, &local);
    }
    (void)gss_release_name(&minor, &back);
    (void)gss_release_name(&minor, &canonical);
    (void)gss_release_name(&minor, &copy);
}

static void say_context(struct side *i, struct side *a)
{
    gss_name_t source, target;
    OM_uint32 minor, life, flags;
    gss_OID mech;
    int local, open;

    must(gss_inquire_context(&minor, i->ctx, &source, &target, &life, &mech, &flags, &local, &open), minor,
         "inquire_context");
    check(local && open && life > 0, "an open context of our own");
    say_name("source", source);
    say_name("target", target);
    say_name("peer", a->peer);
    printf("flags=%x/%x\n", i->flags, a->flags);
    printf("tokens=%d+%d\n", i->tokens, a->tokens);
    printf("mech=%s\n", gss_oid_equal(mech, &iakerb) ? "iakerb"
                        : gss_oid_equal(mech, &krb5) ? "krb5"
                                                     : "other");
    (void)gss_release_name(&minor, &source);
    (void)gss_release_name(&minor, &target);
}

/* The AP-REQ of an IAKERB token under the krb5 mechanism's OID: nothing else differs. */
static gss_buffer_desc as_krb5(const gss_buffer_desc *token, unsigned char *room, size_t max)
{
    const unsigned char *in = token->value;
    size_t n = token->length + 3;

    check(n <= max && in[1] == 0x82 && memcmp(in + 6, iakerb.elements, 6) == 0 && in[12] == 1 && in[13] == 0,
          "an AP-REQ in one token");
    memcpy(room, "\x60\x82\0\0\x06\x09", 6);
    memcpy(room + 6, krb5.elements, 9);
    memcpy(room + 15, in + 12, token->length - 12);
    room[2] = (unsigned char)((n - 4) >> 8);
    room[3] = (unsigned char)(n - 4);
    return (gss_buffer_desc){n, room};
}

static OM_uint32 accept_once(gss_OID mech, gss_buffer_t token)
{
    struct side a = {0};

    opt.mech = mech;
    a.cred = acquire_acceptor();
    step_acceptor(&a, token);
    if (GSS_ERROR(a.major))
        say_status(a.minor, GSS_C_MECH_CODE, mech);
    return a.major;
}

/* The krb5 mechanism and ours share one replay cache: what one has seen neither accepts. */
static void replay(const char *target)
{
    unsigned char room[70000];

    for (int ours_first = 0; ours_first < 2; ours_first++) {
        struct side i = {.peer = import(target, GSS_C_NT_HOSTBASED_SERVICE)};
        gss_buffer_desc other;

        opt.mech = &iakerb;
        step_initiator(&i, GSS_C_NO_BUFFER);
        must(i.major, i.minor, "init_sec_context");
        other = as_krb5(&i.out, room, sizeof room);
        if (ours_first)
            check(!GSS_ERROR(accept_once(&iakerb, &i.out)), "ours accepts it");
        else
            check(!GSS_ERROR(accept_once(&krb5, &other)), "krb5 accepts it");
        check(GSS_ERROR(accept_once(&iakerb, &i.out)), "ours refuses it again");
        check(GSS_ERROR(accept_once(&krb5, &other)), "krb5 refuses it again");
    }
}

/* Goes on until a side fails; every call on what is left is answered. */
static void fail(struct side *i, struct side *a)
{
    step_initiator(i, GSS_C_NO_BUFFER);
    must(i->major, i->minor, "the first token is made");
    while (!GSS_ERROR(i->major)) {
        OM_uint32 minor;

        check(i->out.length > 0, "it fails before the end");
        step_acceptor(a, &i->out);
        (void)gss_release_buffer(&minor, &i->out);
        if (GSS_ERROR(a->major) && a->out.length == 0)
            break;
        step_initiator(i, &a->out);
        (void)gss_release_buffer(&minor, &a->out);
    }
    call_everything(i);
    call_everything(a);
    if (i->ctx)
        step_initiator(i, &(gss_buffer_desc){3, (void *)(size_t) "abc"});
    check(GSS_ERROR(i->major), "a failed context stays failed");
}

/* What another try would only repeat is not tried again for a while. */
static void twice(const char *target)
{
    struct side i = {.peer = import(target, GSS_C_NT_HOSTBASED_SERVICE), .cred = acquire_initiator()};
    struct side a = {.cred = acquire_acceptor()}, next = {.peer = i.peer, .cred = i.cred};
    OM_uint32 minor;

    fail(&i, &a);
    step_initiator(&next, GSS_C_NO_BUFFER);
    check(GSS_ERROR(next.major) && next.ctx == GSS_C_NO_CONTEXT && next.out.length == 0, "it is remembered");
    say_status(next.minor, GSS_C_MECH_CODE, opt.mech);
    (void)gss_delete_sec_context(&minor, &i.ctx, GSS_C_NO_BUFFER);
    (void)gss_delete_sec_context(&minor, &a.ctx, GSS_C_NO_BUFFER);
    (void)gss_release_cred(&minor, &i.cred);
    (void)gss_release_cred(&minor, &a.cred);
    (void)gss_release_name(&minor, &i.peer);
}

static pthread_mutex_t speaking = PTHREAD_MUTEX_INITIALIZER;

static void *pair(void *target)
{
    for (int n = 0; n < opt.rounds; n++) {
        struct side i = {0}, a = {0};
        OM_uint32 minor;

        i.peer = import(target, GSS_C_NT_HOSTBASED_SERVICE);
        i.cred = acquire_initiator();
        a.cred = acquire_acceptor();
        move_cred(&i.cred, opt.password != NULL);
        move_cred(&a.cred, 0);
        establish(&i, &a);
        try_messages(&i, &a);
        pthread_mutex_lock(&speaking);
        say_context(&i, &a);
        if (opt.mech == &iakerb) /* SPNEGO's names are exported as SPNEGO's */
            try_names(&a);
        pthread_mutex_unlock(&speaking);
        try_export(&i);
        try_export(&a);
        try_messages(&i, &a);
        (void)gss_delete_sec_context(&minor, &i.ctx, GSS_C_NO_BUFFER);
        (void)gss_delete_sec_context(&minor, &a.ctx, GSS_C_NO_BUFFER);
        (void)gss_release_cred(&minor, &i.cred);
        (void)gss_release_cred(&minor, &a.cred);
        (void)gss_release_name(&minor, &i.peer);
        (void)gss_release_name(&minor, &a.peer);
    }
    return NULL;
}

static void pairs(char *target)
{
    pthread_t t[64];

    check(opt.threads <= 64, "at most 64 threads");
    for (int n = 0; n < opt.threads; n++)
        check(pthread_create(&t[n], NULL, pair, target) == 0, "a thread");
    for (int n = 0; n < opt.threads; n++)
        (void)pthread_join(t[n], NULL);
}

/* ---- one process, while its files change: a command a line, an answer a line ---- */

static int try_acquire_acceptor(struct side *a)
{
    a->major = acquire_from_keytab(&a->minor, &a->cred);
    return !GSS_ERROR(a->major);
}

/* As far as it goes: the side that failed, or NULL. */
static const struct side *try_to_establish(struct side *i, struct side *a)
{
    OM_uint32 minor;

    step_initiator(i, GSS_C_NO_BUFFER);
    while (!GSS_ERROR(i->major) && i->out.length > 0) {
        step_acceptor(a, &i->out);
        (void)gss_release_buffer(&minor, &i->out);
        if (GSS_ERROR(a->major))
            return a;
        if (a->out.length > 0)
            step_initiator(i, &a->out);
        (void)gss_release_buffer(&minor, &a->out);
    }
    return GSS_ERROR(i->major) ? i : NULL;
}

/* The number that a context's first message has, drawn by its initiator (RFC 4121 4.2.6.1). */
static unsigned long first_number(struct side *i)
{
    gss_buffer_desc m = {5, (void *)"hello"}, mic;
    unsigned long n = 0;
    OM_uint32 minor;

    must(gss_get_mic(&minor, i->ctx, GSS_C_QOP_DEFAULT, &m, &mic), minor, "get_mic");
    for (int at = 8; at < 16; at++)
        n = n << 8 | ((unsigned char *)mic.value)[at];
    (void)gss_release_buffer(&minor, &mic);
    return n;
}

static void answer_pair(const char *target, gss_cred_id_t held)
{
    struct side i = {.peer = import(target, GSS_C_NT_HOSTBASED_SERVICE), .cred = held}, a = {0};
    const struct side *failed = &a;
    OM_uint32 minor;

    if (try_acquire_acceptor(&a))
        failed = try_to_establish(&i, &a);
    if (failed) {
        printf("refused");
        fflush(stdout);
        say_status(failed->minor, GSS_C_MECH_CODE, opt.mech);
    } else {
        printf("number=%lx ", first_number(&i));
        say_name("peer", a.peer);
    }
    if (failed)
        printf("\n");
    fflush(stdout);
    (void)gss_delete_sec_context(&minor, &i.ctx, GSS_C_NO_BUFFER);
    (void)gss_delete_sec_context(&minor, &a.ctx, GSS_C_NO_BUFFER);
    (void)gss_release_cred(&minor, &a.cred);
    (void)gss_release_name(&minor, &i.peer);
    (void)gss_release_name(&minor, &a.peer);
}

static void answer_fork(const char *target, gss_cred_id_t held)
{
    pid_t child = fork();
    int status;

    check(child >= 0, "a child");
    if (child == 0) {
        answer_pair(target, held);
        _exit(0);
    }
    check(waitpid(child, &status, 0) == child && status == 0, "the child ends well");
    answer_pair(target, held);
}

static void answer_user(const char *number)
{
    check(seteuid((uid_t)strtoul(number, NULL, 10)) == 0, "another user");
    puts("so");
    fflush(stdout);
}

static void answer_env(char *setting)
{
    char *value = strchr(setting, '=');

    check(value, "NAME=VALUE");
    *value++ = 0;
    check(setenv(setting, value, 1) == 0, "the environment");
    puts("so");
    fflush(stdout);
}

static void answer_keytab(const char *path)
{
    static char name[4096];

    (void)snprintf(name, sizeof name, "%s", path);
    opt.acceptor = name;
    puts("so");
    fflush(stdout);
}

static void follow(const char *target, gss_cred_id_t held)
{
    char line[4096];

    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (strcmp(line, "pair") == 0)
            answer_pair(target, held);
        else if (strcmp(line, "fork") == 0)
            answer_fork(target, held);
        else if (strncmp(line, "user ", 5) == 0)
            answer_user(line + 5);
        else if (strncmp(line, "env ", 4) == 0)
            answer_env(line + 4);
        else if (strncmp(line, "keytab ", 7) == 0)
            answer_keytab(line + 7);
        else
            check(0, "a command");
    }
}

static gss_cred_id_t hold(void)
{
    gss_OID_set_desc only = {1, opt.mech};
    gss_cred_id_t c = GSS_C_NO_CREDENTIAL;
    OM_uint32 minor;

    must(gss_acquire_cred(&minor, GSS_C_NO_NAME, 0, &only, GSS_C_INITIATE, &c, NULL, NULL), minor,
         "acquire_cred");
    return c;
}

/* ---- over TCP ---- */

static void transfer(int fd, void *p, size_t n, int writing)
{
    char *at = p;

    while (n > 0) {
        ssize_t got = writing ? write(fd, at, n) : read(fd, at, n);

        if (got <= 0) {
            fprintf(stderr, "the peer is gone\n");
            exit(1);
        }
        at += got;
        n -= (size_t)got;
    }
}

static void put(int fd, gss_buffer_t b)
{
    uint32_t n = htonl((uint32_t)b->length);
    OM_uint32 minor;

    transfer(fd, &n, 4, 1);
    transfer(fd, b->value, b->length, 1);
    (void)gss_release_buffer(&minor, b);
}

static void get(int fd, gss_buffer_t b)
{
    uint32_t n;

    transfer(fd, &n, 4, 0);
    b->length = ntohl(n);
    check(b->length < 1 << 20, "a token of sensible length");
    b->value = malloc(b->length + 1);
    check(b->value != NULL, "memory");
    transfer(fd, b->value, b->length, 0);
}

static void converse(int fd, struct side *s, void step(struct side *, gss_buffer_t), const char *what)
{
    while (s->major != GSS_S_COMPLETE || s->out.length > 0) {
        gss_buffer_desc in = GSS_C_EMPTY_BUFFER;

        if (s->out.length > 0) {
            put(fd, &s->out);
            s->tokens++;
        }
        if (s->major == GSS_S_COMPLETE && s->tokens > 0)
            break;
        get(fd, &in);
        step(s, &in);
        free(in.value);
        if (GSS_ERROR(s->major) && s->out.length > 0)
            put(fd, &s->out);
        must(s->major, s->minor, what);
    }
    printf("tokens=%d\n", s->tokens);
}

static struct sockaddr_in loopback(const char *port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)atoi(port)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void store(gss_cred_id_t cred)
{
    gss_key_value_element_desc e = {"ccache", opt.store};
    gss_key_value_set_desc into = {1, &e};
    OM_uint32 minor;

    must(gss_store_cred_into(&minor, cred, GSS_C_INITIATE, opt.mech, 1, 0, &into, NULL, NULL), minor,
         "store_cred_into");
}

static void serve(const char *port)
{
    struct sockaddr_in at = loopback(port);
    int on = 1, s = socket(AF_INET, SOCK_STREAM, 0), fd;
    gss_buffer_desc in, out, text;
    struct side a = {.cred = acquire_acceptor(), .major = GSS_S_CONTINUE_NEEDED};
    OM_uint32 minor;

    (void)setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    check(bind(s, (struct sockaddr *)&at, sizeof at) == 0 && listen(s, 5) == 0, "a port to listen on");
    printf("ready\n");
    fflush(stdout);
    fd = accept(s, NULL, NULL);
    converse(fd, &a, step_acceptor, "accept_sec_context");
    get(fd, &in);
    must(gss_unwrap(&minor, a.ctx, &in, &text, NULL, NULL), minor, "unwrap");
    must(gss_wrap(&minor, a.ctx, 1, 0, &text, NULL, &out), minor, "wrap");
    put(fd, &out);
    say_name("peer", a.peer);
    if (a.delegated) {
        gss_name_t who;

        must(gss_inquire_cred(&minor, a.delegated, &who, NULL, NULL, NULL), minor, "inquire_cred");
        say_name("delegated", who);
        if (opt.store)
            store(a.delegated);
    }
}

static void dial(const char *port, const char *target)
{
    struct sockaddr_in at = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    gss_buffer_desc text = {5, (void *)"hello"}, out, in, back;
    struct side i = {.peer = import(target, GSS_C_NT_HOSTBASED_SERVICE), .cred = acquire_initiator()};
    OM_uint32 minor;

    check(connect(fd, (struct sockaddr *)&at, sizeof at) == 0, "a server");
    step_initiator(&i, GSS_C_NO_BUFFER);
    must(i.major, i.minor, "init_sec_context");
    converse(fd, &i, step_initiator, "init_sec_context");
    must(gss_wrap(&minor, i.ctx, 1, 0, &text, NULL, &out), minor, "wrap");
    put(fd, &out);
    get(fd, &in);
    must(gss_unwrap(&minor, i.ctx, &in, &back, NULL, NULL), minor, "unwrap");
    check(back.length == 5 && memcmp(back.value, "hello", 5) == 0, "the echo");
    printf("echo=good\n");
}

/* Tokens alone, for a test that speaks some protocol itself. */
static void initiate(int fd, const char *target)
{
    struct side i = {.peer = import(target, GSS_C_NT_HOSTBASED_SERVICE), .cred = acquire_initiator()};

    step_initiator(&i, GSS_C_NO_BUFFER);
    must(i.major, i.minor, "init_sec_context");
    converse(fd, &i, step_initiator, "init_sec_context");
}

static void indicate(void)
{
    gss_OID_set all;
    OM_uint32 minor;

    must(gss_indicate_mechs(&minor, &all), minor, "indicate_mechs");
    (void)gss_release_oid_set(&minor, &all);
}

static void mechs(void)
{
    gss_OID_set all, attributes;
    OM_uint32 minor;
    int present = 0, plain = 0;

    must(gss_indicate_mechs(&minor, &all), minor, "indicate_mechs");
    must(gss_test_oid_set_member(&minor, &iakerb, all, &present), minor, "test_oid_set_member");
    must(gss_inquire_attrs_for_mech(&minor, &iakerb, &attributes, NULL), minor, "inquire_attrs_for_mech");
    must(gss_test_oid_set_member(&minor, (gss_OID)(size_t)GSS_C_MA_NOT_DFLT_MECH, attributes, &plain), minor,
         "test_oid_set_member");
    printf("iakerb=%d\nnot-default=%d\n", present, plain);
    (void)gss_release_oid_set(&minor, &all);
    (void)gss_release_oid_set(&minor, &attributes);
}

static int take_option(char *word)
{
    char *value = strchr(word, '=');

    if (!value)
        return 0;
    *value++ = 0;
    if (strcmp(word, "mech") == 0)
        opt.mech = strcmp(value, "spnego") == 0 ? &spnego : strcmp(value, "krb5") == 0 ? &krb5 : &iakerb;
    else if (strcmp(word, "user") == 0)
        opt.user = value;
    else if (strcmp(word, "password") == 0)
        opt.password = value;
    else if (strcmp(word, "bindings") == 0)
        opt.bindings = value;
    else if (strcmp(word, "acceptor_bindings") == 0)
        opt.acceptor_bindings = value;
    else if (strcmp(word, "acceptor") == 0)
        opt.acceptor = value;
    else if (strcmp(word, "client_keytab") == 0)
        opt.client_keytab = value;
    else if (strcmp(word, "store") == 0)
        opt.store = value;
    else if (strcmp(word, "threads") == 0)
        opt.threads = atoi(value);
    else if (strcmp(word, "rounds") == 0)
        opt.rounds = atoi(value);
    else if (strcmp(word, "calls") == 0)
        opt.every = 1;
    else if (strcmp(word, "flags") == 0)
        opt.flags = (OM_uint32)strtoul(value, NULL, 0);
    else
        return 0;
    return 1;
}

int main(int argc, char **argv)
{
    char *word[3] = {NULL, NULL, NULL};
    int n = 0;

    for (int i = 1; i < argc; i++) {
        if (!take_option(argv[i]) && n < 3)
            word[n++] = argv[i];
    }
    if (n == 1 && strcmp(word[0], "indicate") == 0)
        indicate();
    else if (n == 2 && strcmp(word[0], "twice") == 0)
        twice(word[1]);
    else if (n == 1 && strcmp(word[0], "mechs") == 0)
        mechs();
    else if (n == 2 && strcmp(word[0], "pair") == 0)
        pairs(word[1]);
    else if (n == 2 && strcmp(word[0], "replay") == 0)
        replay(word[1]);
    else if (n == 2 && strcmp(word[0], "follow") == 0)
        follow(word[1], GSS_C_NO_CREDENTIAL);
    else if (n == 2 && strcmp(word[0], "follow-held") == 0)
        follow(word[1], hold());
    else if (n == 2 && strcmp(word[0], "serve") == 0)
        serve(word[1]);
    else if (n == 3 && strcmp(word[0], "initiate") == 0)
        initiate(atoi(word[1]), word[2]);
    else if (n == 3 && strcmp(word[0], "connect") == 0)
        dial(word[1], word[2]);
    else
        return 2;
    return 0;
}
