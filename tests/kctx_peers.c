/* SPDX-License-Identifier: MIT */
/* What single peers put on the wire: Apple's checksum of the channel (RFC 6542), and messages as Windows
 * rotates them in DCE style. */
#include "bytes/emitter.h"
#include "gss/kctx_internal.h"
#include "realm.h"

static struct store_account *host;
static struct krb_credential ticket;
static struct kctx initiator, acceptor;

/* A ticket for host/nas1, made with its key. */
static void make_ticket(void)
{
    struct krb_enc_ticket in = {.crealm = SP_LIT(REALM), .authtime = NOW, .endtime = NOW + 3600};
    struct krb_ticket t = {.realm = SP_LIT(REALM), .sname = name_of("host/nas1", NT_SRV_HST)};
    const struct sp_key *key = &host->keys[0].key;
    struct sp_err e = {0};

    ticket = (struct krb_credential){.client = name_of("alice", NT_PRINCIPAL),
                                     .server = t.sname,
                                     .crealm = SP_LIT(REALM),
                                     .srealm = SP_LIT(REALM),
                                     .authtime = NOW,
                                     .endtime = NOW + 3600};
    assert_true(crypto_random_key(18, &rng.rng, &ticket.key, &e));
    in.cname = ticket.client;
    in.key = (struct krb_keyblock){ticket.key.etype, sp_span(ticket.key.b, ticket.key.n)};
    t.enc = seal(KRB_ENC_TICKET, &in, key, KU_TICKET);
    t.enc.kvno = 1;
    t.enc.has = KRB_BIT(1);
    ticket.ticket = put(KRB_TICKET, &t);
}

static int set_up(void **state)
{
    (void)state;
    if (!realm_open())
        return 1;
    host = account("host/nas1");
    memset(&initiator, 0, sizeof initiator);
    memset(&acceptor, 0, sizeof acceptor);
    make_ticket();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    kctx_wipe(&initiator);
    kctx_wipe(&acceptor);
    realm_close();
    return 0;
}

static bool find_key(struct kctx_keys *keys, const struct krb_name *service, struct sp_span realm,
                     int32_t etype, uint32_t kvno, struct sp_key *out, struct sp_err *e)
{
    (void)keys;
    (void)service;
    (void)realm;
    (void)etype;
    (void)kvno;
    (void)e;
    *out = host->keys[0].key;
    return true;
}

static struct sp_span ask(uint32_t flags, const uint8_t *hash)
{
    struct kctx_ask how = {.ticket = &ticket, .flags = flags, .bindings = hash};
    struct sp_err e = {0};
    struct sp_span out;

    if (!kctx_request(&initiator, crypto, env, &how, &scrap, &out, &e))
        fail_msg("%s", e.text);
    return out;
}

/* ---- a channel that is hashed better ---- */

enum bnd { BND_NONE, BND_ONES, BND_MD5, BND_WRONG };
enum flaw {
    FLAWLESS,
    ABSENT,
    EMPTY,
    TWICE,
    RUBBISH,
    OTHER_CHANNEL,
    OTHER_KEY,
    OTHER_USAGE,
    UNKEYED,
    NO_SUBKEY
};

static struct sp_span checksum_of(struct sp_span channel, const struct sp_key *key, enum flaw flaw)
{
    static uint8_t sum[CRYPTO_CKSUM_MAX];
    size_t n = sizeof sum;
    struct krb_checksum m = {.type = crypto_find_type(key->etype)->cksumtype};
    struct sp_err e = {0};

    assert_true(crypto_checksum(crypto, flaw == OTHER_KEY ? &ticket.key : key, flaw == OTHER_USAGE ? 42 : 43,
                                flaw == OTHER_CHANNEL ? SP_LIT("another") : channel, sum, &n, &e));
    m.sum = sp_span(sum, n);
    if (flaw == UNKEYED)
        m = (struct krb_checksum){14, sp_span(sum, 20)};
    return flaw == RUBBISH ? SP_LIT("what is this") : flaw == EMPTY ? sp_span("", 0) : put(KRB_CHECKSUM, &m);
}

/* The value of 0x8003 with the extension behind it (RFC 6542 3.1). */
static struct sp_span value_of(enum bnd bnd, const uint8_t *hash, struct sp_span extension, enum flaw flaw)
{
    uint8_t field[16] = {0}, *p;
    struct sp_err e = {0};
    struct sp_emit o;
    struct sp_span out;

    p = sp_alloc(&scrap, 512, &e);
    o = sp_emit_to(p, 512, &e);
    if (bnd == BND_MD5 || bnd == BND_WRONG)
        memcpy(field, hash, sizeof field);
    else
        memset(field, bnd == BND_ONES ? 0xff : 0, sizeof field);
    field[3] ^= bnd == BND_WRONG;
    for (int i = 0; flaw != ABSENT && i <= (flaw == TWICE); i++) {
        sp_put_bytes(&o, extension);
        sp_put_be32(&o, (uint32_t)extension.n);
        sp_put_be32(&o, 0);
    }
    sp_put_le32(&o, KCTX_INTEG);
    sp_put_bytes(&o, sp_span(field, sizeof field));
    sp_put_le32(&o, sizeof field);
    assert_true(sp_put_done(&o, &out));
    return copy(out);
}

/* Our own AP-REQ with another checksum in its authenticator. */
static struct sp_span with_extension(enum bnd bnd, const uint8_t *hash, struct sp_span channel,
                                     enum flaw flaw)
{
    struct sp_span bytes = ask(KCTX_INTEG, hash);
    struct krb_authenticator a = {0};
    struct krb_ap_req m = {0};
    struct sp_key subkey;

    get(KRB_AP_REQ, bytes, &m);
    assert_true(open_sealed(KRB_AUTHENTICATOR, &m.authenticator, &ticket.key, KU_AP_REQ_AUTH, &a));
    subkey = (struct sp_key){.etype = a.subkey.type, .n = (uint8_t)a.subkey.value.n};
    memcpy(subkey.b, a.subkey.value.p, subkey.n);
    a.cksum.sum = value_of(bnd, hash, checksum_of(channel, &subkey, flaw), flaw);
    if (flaw == NO_SUBKEY)
        a.has &= ~KRB_BIT(6);
    m.authenticator = seal(KRB_AUTHENTICATOR, &a, &ticket.key, KU_AP_REQ_AUTH);
    return put(KRB_AP_REQ, &m);
}

static const struct row {
    enum bnd bnd;
    enum flaw flaw;
    bool md5_only, required; /* the acceptor has no channel but its hash; it wants bindings */
    int32_t code;
    bool bound;
} rows[] = {
    {BND_MD5,   FLAWLESS,      false, true,  0,                 true },
    {BND_ONES,  FLAWLESS,      false, true,  0,                 true },
    {BND_NONE,  FLAWLESS,      false, true,  0,                 true },
    {BND_WRONG, FLAWLESS,      false, false, KCTX_BAD_BINDINGS, false},
    {BND_MD5,   OTHER_CHANNEL, false, false, KCTX_BAD_BINDINGS, false},
    {BND_ONES,  OTHER_CHANNEL, false, false, KCTX_BAD_BINDINGS, false},
    {BND_ONES,  OTHER_KEY,     false, false, KCTX_BAD_BINDINGS, false},
    {BND_ONES,  OTHER_USAGE,   false, false, KCTX_BAD_BINDINGS, false},
    {BND_ONES,  ABSENT,        false, false, KCTX_BAD_BINDINGS, false},
    {BND_NONE,  ABSENT,        false, true,  KCTX_BAD_BINDINGS, false},
    {BND_NONE,  ABSENT,        false, false, 0,                 false},
    {BND_MD5,   EMPTY,         false, true,  0,                 true }, /* eight zeros behind the flags are nothing */
    {BND_NONE,  EMPTY,         false, true,  KCTX_BAD_BINDINGS, false},
    {BND_MD5,   TWICE,         false, false, KCTX_DEFECTIVE,    false},
    {BND_MD5,   RUBBISH,       false, false, KCTX_DEFECTIVE,    false},
    {BND_MD5,   NO_SUBKEY,     false, false, KDC_ERR_NULL_KEY,  false},
    {BND_MD5,   FLAWLESS,      true,  true,  0,                 true },
    {BND_MD5,   OTHER_CHANNEL, true,  true,  0,                 true }, /* nothing to compare it with */
    {BND_ONES,  FLAWLESS,      true,  false, KCTX_BAD_BINDINGS, false},
};

static bool try(const struct row *r, const uint8_t *hash, struct sp_span channel, struct sp_err *e)
{
    struct kctx_keys keys = {find_key};
    struct kctx_accepting how = {.keys = &keys,
                                 .skew_s = 300,
                                 .bindings = hash,
                                 .channel = r->md5_only ? sp_span(NULL, 0) : channel,
                                 .require_bindings = r->required};
    struct sp_span reply;

    memset(&initiator, 0, sizeof initiator);
    memset(&acceptor, 0, sizeof acceptor);
    return kctx_accept(&acceptor, crypto, env, &how, with_extension(r->bnd, hash, channel, r->flaw), &scrap,
                       &reply, e);
}

static void a_channel_that_is_hashed_better(void **state)
{
    struct kctx_bindings b = {.application = SP_LIT("tls-server-end-point:0123")};
    struct sp_span channel;
    struct sp_err e = {0};
    uint8_t hash[16];

    (void)state;
    assert_true(kctx_hash_bindings(crypto, &b, &scrap, hash, &e) &&
                kctx_put_bindings(&b, &scrap, &channel, &e));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool ok;

        e = (struct sp_err){0};
        ok = try(&rows[i], hash, channel, &e);
        if (ok != (rows[i].code == 0) || (!ok && e.proto != rows[i].code))
            fail_msg("row %zu: %d %s", i, e.proto, e.text);
        if (ok)
            assert_int_equal((acceptor.flags & KCTX_CHANNEL_BOUND) != 0, rows[i].bound);
    }
    e = (struct sp_err){0};
    assert_false(try(&(struct row){BND_ONES, UNKEYED, false, false, 0, false}, hash, channel, &e));
    assert_int_equal(e.kind, SP_EREFUSED);
}

/* ---- rotated by more than it says ---- */

static void establish(uint32_t flags)
{
    struct kctx_keys keys = {find_key};
    struct kctx_accepting how = {.keys = &keys, .skew_s = 300};
    struct sp_span reply, third;
    struct sp_err e = {0};

    if (!kctx_accept(&acceptor, crypto, env, &how, ask(flags, NULL), &scrap, &reply, &e) ||
        !kctx_take_reply(&initiator, crypto, env, reply, &scrap, &third, &e) ||
        ((flags & KCTX_DCE) && !kctx_accept_third(&acceptor, crypto, env, third, &e)))
        fail_msg("%s", e.text);
}

/* A message as Windows sends it in two buffers, header and data (EC 16, RRC 28), one behind the other. */
static struct sp_span sealed(uint8_t *room)
{
    uint8_t header[128], data[] = "what one says to the other";
    struct kctx_iov v[2] = {
        {KCTX_PART_HEADER, header, sizeof header},
        {KCTX_PART_DATA,   data,   sizeof data  },
    };
    struct sp_err e = {0};

    assert_true(kctx_iov_lengths(&acceptor, KCTX_CONFIDENTIAL, v, 2, &e));
    assert_true(kctx_wrap_iov(&acceptor, crypto, &rng.rng, KCTX_CONFIDENTIAL, v, 2, &scrap, &e));
    memcpy(room, header, v[0].n);
    memcpy(room + v[0].n, data, v[1].n);
    return sp_span(room, v[0].n + v[1].n);
}

static void rotated_by_both(void **state)
{
    static const uint8_t ec_rrc[] = {0, 16, 0, 28};
    uint8_t room[512], out[512];
    struct sp_span token;
    struct kctx_iov v[2];
    enum kctx_wrap how;
    struct sp_err e = {0};
    size_t n = sizeof out;
    bool good;

    (void)state;
    establish(KCTX_MUTUAL | KCTX_DCE);
    token = sealed(room);
    assert_memory_equal(token.p + 4, ec_rrc, sizeof ec_rrc);
    if (!kctx_unwrap(&initiator, crypto, token, out, &n, &how, &good, &e))
        fail_msg("%s", e.text);
    assert_int_equal(how, KCTX_CONFIDENTIAL);
    assert_string_equal((char *)out, "what one says to the other");
    token = sealed(room);
    v[0] = (struct kctx_iov){KCTX_PART_STREAM, room, token.n};
    v[1] = (struct kctx_iov){KCTX_PART_DATA, NULL, 0};
    if (!kctx_unwrap_iov(&initiator, crypto, &how, v, 2, &scrap, &good, &e))
        fail_msg("%s", e.text);
    assert_string_equal((char *)v[1].p, "what one says to the other");
}

/* EC and RRC lie outside of what is encrypted: whoever changes them gets nothing but a refusal. */
static void rotation_that_was_changed(void **state)
{
    uint8_t room[512], out[512];
    struct sp_span token;
    enum kctx_wrap how;
    bool good;

    (void)state;
    establish(KCTX_MUTUAL | KCTX_DCE);
    token = sealed(room);
    for (unsigned at = 4; at < 8; at++)
        for (unsigned bits = 1; bits < 256; bits++) {
            struct sp_err e = {0};
            size_t n = sizeof out;
            bool same;

            room[at] ^= (uint8_t)bits;
            same = (((size_t)room[4] << 8 | room[5]) == 16) &&
                   (((size_t)room[6] << 8 | room[7]) + 16) % (token.n - 16) == 44; /* once or more around */
            if (!same) {
                assert_false(kctx_unwrap(&initiator, crypto, token, out, &n, &how, &good, &e));
                assert_false(good);
                assert_int_equal(n, 0);
            }
            room[at] ^= (uint8_t)bits;
        }
}

/* Without DCE style RRC says it all, whatever EC is (RFC 4121 4.2.5). */
static void rotated_by_one(void **state)
{
    static const uint8_t ec_rrc[] = {0, 0, 0, 28};
    uint8_t room[512], out[512];
    struct sp_span token;
    enum kctx_wrap how;
    struct sp_err e = {0};
    size_t n = sizeof out;
    bool good;

    (void)state;
    establish(KCTX_MUTUAL);
    token = sealed(room);
    assert_memory_equal(token.p + 4, ec_rrc, sizeof ec_rrc);
    assert_true(kctx_unwrap(&initiator, crypto, token, out, &n, &how, &good, &e));
    assert_string_equal((char *)out, "what one says to the other");
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_channel_that_is_hashed_better),
        T(rotated_by_both),
        T(rotation_that_was_changed),
        T(rotated_by_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
