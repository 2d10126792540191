/* SPDX-License-Identifier: MIT */
/* The framing of initial tokens (RFC 2743 3.1), the OIDs, and a decoder for people. */
#include "gss/token.h"

#include "base/text.h"
#include "bytes/der.h"
#include "krb/codes.h"
#include "krb/messages.h"

#define PRINT_DEPTH_MAX 3       /* SPNEGO around IAKERB around nothing */
#define PRINT_ARENA (32 * 1024) /* of the Kerberos message inside */
#define DER_UTF8 0x0c

struct mech {
    const char *name;
    struct sp_span oid;
    bool has_id;
};
#define OID(s)                                                                                               \
    {                                                                                                        \
        (const uint8_t *)("" s), sizeof(s) - 1                                                               \
    }

static const struct mech mechs[TOKEN_MECH_COUNT] = {
    [TOKEN_SPNEGO] = {"spnego",        OID("\x2b\x06\x01\x05\x05\x02"),                 false},
    [TOKEN_IAKERB] = {"iakerb",        OID("\x2b\x06\x01\x05\x02\x05"),                 true },
    [TOKEN_KRB5] = {"krb5",          OID("\x2a\x86\x48\x86\xf7\x12\x01\x02\x02"),     true },
    [TOKEN_MS_KRB5] = {"ms-krb5",       OID("\x2a\x86\x48\x82\xf7\x12\x01\x02\x02"),     true },
    [TOKEN_KRB5_U2U] = {"krb5-u2u",      OID("\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x03"), true },
    [TOKEN_NEGOEX] = {"negoex",        OID("\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x1e"), false},
    [TOKEN_NTLMSSP] = {"ntlmssp",       OID("\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a"), false},
    [TOKEN_LATE_FALLBACK] = {"late-fallback", OID("\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x28"), false},
};

struct sp_span token_oid(enum token_mech m)
{
    return (unsigned)m < TOKEN_MECH_COUNT ? mechs[m].oid : sp_span(NULL, 0);
}

enum token_mech token_mech_of(struct sp_span oid)
{
    for (int m = 0; m < TOKEN_MECH_COUNT; m++)
        if (sp_same(oid, mechs[m].oid))
            return (enum token_mech)m;
    return TOKEN_UNKNOWN;
}

const char *token_mech_name(enum token_mech m)
{
    return (unsigned)m < TOKEN_MECH_COUNT ? mechs[m].name : "unknown";
}

bool token_get(struct sp_span in, struct token *out, struct sp_err *e)
{
    struct sp_cur c = sp_cur_of(in, e);
    struct token t = {.mech = TOKEN_UNKNOWN};
    const uint8_t *outer;

    if (!sp_der_enter(&c, DER_APPLICATION, "token", &outer) || !sp_der_get(&c, DER_OID, "mechanism", &t.oid))
        return false;
    t.mech = token_mech_of(t.oid);
    if (t.mech != TOKEN_UNKNOWN && mechs[t.mech].has_id)
        t.id = sp_get_be16(&c, "token id");
    t.body = sp_take(&c, sp_left(&c), "token");
    if (!sp_ok(e) || !sp_der_leave(&c, "token", outer) || !sp_cur_done(&c, "token"))
        return false;
    *out = t;
    return true;
}

bool token_make(enum token_mech m, uint16_t id, struct sp_span body, struct sp_arena *mem,
                struct sp_span *out, struct sp_err *e)
{
    struct sp_span oid = token_oid(m);
    size_t n = 6 + 2 + oid.n + 2 + body.n;
    uint8_t *p;
    struct sp_emit o;

    if (!oid.p)
        return sp_fail(e, SP_EINPUT, 0, "no such mechanism: %d", m);
    p = sp_alloc(mem, n, e);
    if (!p)
        return false;
    o = sp_emit_to(p, n, e);
    sp_put_bytes(&o, body);
    if (mechs[m].has_id)
        sp_put_be16(&o, id);
    sp_put_der(&o, DER_OID, oid);
    sp_put_der_head(&o, DER_APPLICATION, 0);
    return sp_put_done(&o, out);
}

/* ---- for people ---- */

struct printer {
    struct sp_text *to;
    int depth;
};

static void print_token(struct printer p, struct sp_span in);

static void line(struct printer p, const char *name)
{
    sp_text_fmt(p.to, "%*s%s", 2 * p.depth, "", name);
}

static void hex_line(struct printer p, const char *name, struct sp_span bytes)
{
    line(p, name);
    sp_text_str(p.to, ": ");
    sp_text_hex(p.to, bytes);
    sp_text_str(p.to, "\n");
}

static void print_kerberos(struct printer p, struct sp_span in)
{
    enum krb_type t = krb_sniff(in);
    _Alignas(16) uint8_t block[PRINT_ARENA];
    _Alignas(16) uint8_t msg[1024];
    struct sp_arena mem;
    struct sp_err e = {0};

    sp_arena_init(&mem, block, sizeof block);
    if (t == KRB_TYPE_COUNT || !krb_get(t, in, KRB_STRICT, &mem, msg, &e)) {
        hex_line(p, t == KRB_TYPE_COUNT ? "bytes" : e.text, in);
        return;
    }
    krb_print(t, msg, p.to);
}

static const char *field_name(const char *const *names, size_t count, uint8_t tag)
{
    size_t n = tag - DER_CONTEXT;

    return tag >= DER_CONTEXT && n < count && names[n] ? names[n] : "unknown field";
}

/* One context-tagged field of a SEQUENCE: its tag, and the element inside. */
static bool next_field(struct sp_cur *c, uint8_t *tag, struct sp_span *value)
{
    struct sp_err none = {0};
    struct sp_span whole;
    struct sp_cur inside;
    size_t n;

    if (sp_left(c) == 0 || !sp_der_any(c, "field", &whole))
        return false;
    *tag = whole.p[0];
    inside = sp_cur_of(whole, &none);
    if (!sp_der_head(&inside, *tag, "field", &n))
        return false;
    *value = sp_take(&inside, n, "field");
    return true;
}

/* The content of a primitive element, whatever its tag. */
static struct sp_span content(struct sp_span element)
{
    struct sp_err none = {0};
    struct sp_cur c = sp_cur_of(element, &none);
    size_t n;

    if (element.n == 0 || !sp_der_head(&c, element.p[0], "value", &n))
        return sp_span(NULL, 0);
    return sp_take(&c, n, "value");
}

static void print_header_field(struct printer p, uint8_t tag, struct sp_span value)
{
    static const char *const names[] = {NULL, "target-realm", "cookie", "header-flags"};
    const char *name = field_name(names, sizeof names / sizeof names[0], tag);

    if (value.n == 0 || tag != (DER_CONTEXT | 1)) {
        hex_line(p, name, content(value));
        return;
    }
    line(p, name);
    sp_text_str(p.to, value.p[0] == DER_UTF8 ? ": \"" : " (octets, before MIT 1.22): \"");
    sp_text_safe(p.to, content(value));
    sp_text_str(p.to, "\"\n");
}

static void print_proxy(struct printer p, struct sp_span in)
{
    struct sp_err e = {0};
    struct sp_cur c = sp_cur_of(in, &e);
    const uint8_t *outer;
    struct sp_span value;
    uint8_t tag;

    line(p, "IAKERB-HEADER\n");
    p.depth++;
    if (!sp_der_enter(&c, DER_SEQUENCE, "IAKERB-HEADER", &outer)) {
        hex_line(p, "unreadable", in);
        return;
    }
    while (next_field(&c, &tag, &value))
        print_header_field(p, tag, value);
    p.depth--;
    if (sp_ok(&e) && sp_der_leave(&c, "IAKERB-HEADER", outer) && sp_left(&c) > 0)
        print_kerberos(p, sp_span(c.p, sp_left(&c)));
}

static void print_mech(struct printer p, const char *name, struct sp_span oid)
{
    line(p, name);
    sp_text_fmt(p.to, ": %s ", token_mech_name(token_mech_of(oid)));
    sp_text_hex(p.to, oid);
    sp_text_str(p.to, "\n");
}

static void print_mech_list(struct printer p, struct sp_span list)
{
    struct sp_err none = {0};
    struct sp_span inside = content(list), oid;
    struct sp_cur c = sp_cur_of(inside, &none);

    while (sp_left(&c) > 0 && sp_der_get(&c, DER_OID, "mechType", &oid))
        print_mech(p, "mechType", oid);
}

static void print_state(struct printer p, struct sp_span value)
{
    static const char *const names[] = {"accept-completed", "accept-incomplete", "reject", "request-mic"};
    struct sp_span v = content(value);

    line(p, "negState: ");
    sp_text_fmt(p.to, "%s\n", v.n == 1 && v.p[0] < 4 ? names[v.p[0]] : "unknown");
}

/* NegTokenInit (and Microsoft's second form of it) and NegTokenResp, RFC 4178 4.2. */
static void print_negotiation(struct printer p, struct sp_span in)
{
    static const char *const init[] = {"mechTypes", "reqFlags", "mechToken", "mechListMIC or negHints",
                                       "mechListMIC"};
    static const char *const resp[] = {"negState", "supportedMech", "responseToken", "mechListMIC"};
    bool first = in.n > 0 && in.p[0] == DER_CONTEXT;
    struct sp_err none = {0};
    struct sp_span seq = content(in), value;
    struct sp_cur c;
    uint8_t tag;

    seq = content(seq);
    c = sp_cur_of(seq, &none);
    line(p, first ? "NegTokenInit\n" : "NegTokenResp\n");
    p.depth++;
    while (next_field(&c, &tag, &value)) {
        if (tag == (DER_CONTEXT | 0) && first)
            print_mech_list(p, value);
        else if (tag == (DER_CONTEXT | 0))
            print_state(p, value);
        else if (tag == (DER_CONTEXT | 1) && !first)
            print_mech(p, "supportedMech", content(value));
        else if (tag == (DER_CONTEXT | 2))
            print_token(p, content(value));
        else
            hex_line(p, first ? field_name(init, 5, tag) : field_name(resp, 4, tag), content(value));
    }
}

static void print_framed(struct printer p, const struct token *t)
{
    line(p, "token: ");
    sp_text_fmt(p.to, "%s", token_mech_name(t->mech));
    if (t->id)
        sp_text_fmt(p.to, " %02x %02x", t->id >> 8, t->id & 0xff);
    sp_text_str(p.to, "\n");
    p.depth++;
    if (t->mech == TOKEN_SPNEGO)
        print_negotiation(p, t->body);
    else if (t->id == TOKEN_IAKERB_PROXY)
        print_proxy(p, t->body);
    else if (t->id)
        print_kerberos(p, t->body);
    else
        hex_line(p, "bytes", t->body);
}

static void print_token(struct printer p, struct sp_span in)
{
    struct sp_err e = {0};
    struct token t;

    if (p.depth > 2 * PRINT_DEPTH_MAX)
        return;
    if (in.n > 0 && in.p[0] == DER_APPLICATION && token_get(in, &t, &e))
        print_framed(p, &t);
    else if (in.n > 0 && (in.p[0] == (DER_CONTEXT | 0) || in.p[0] == (DER_CONTEXT | 1)))
        print_negotiation(p, in);
    else if (in.n > 2 && in.p[0] == 5 && in.p[1] == 1) /* old MIT's later tokens have no framing */
        print_proxy(p, sp_span(in.p + 2, in.n - 2));
    else
        print_kerberos(p, in);
}

void token_print(struct sp_span in, struct sp_text *to)
{
    print_token((struct printer){to, 0}, in);
}
