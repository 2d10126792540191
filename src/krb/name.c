/* SPDX-License-Identifier: MIT */
#include "krb/name.h"

#include "krb/codes.h"

/* ---- text to name ---- */

struct parser {
    struct sp_span text;
    size_t at;
    uint8_t *to; /* where unescaped bytes go */
    size_t used;
    struct sp_err *e;
};

static uint8_t unescaped(uint8_t c)
{
    return c == 'n' ? '\n' : c == 't' ? '\t' : c == 'b' ? '\b' : c == '0' ? 0 : c;
}

/* One component or the realm, up to an unescaped '/' or '@', which stays to be read. */
static bool parse_part(struct parser *p, struct sp_span *part)
{
    size_t start = p->used;

    for (; p->at < p->text.n; p->at++) {
        uint8_t c = p->text.p[p->at];

        if (c == '@' || c == '/')
            break;
        if (c == 0)
            return sp_fail_at(p->e, SP_EINPUT, 0, (uint32_t)p->at, "a name with a NUL byte");
        if (c == '\\') {
            if (++p->at == p->text.n)
                return sp_fail_at(p->e, SP_EINPUT, 0, (uint32_t)p->at, "a name that ends with a backslash");
            c = unescaped(p->text.p[p->at]);
        }
        p->to[p->used++] = c;
    }
    *part = sp_span(p->to + start, p->used - start);
    return true;
}

static bool parse_parts(struct parser *p, struct sp_spans *parts)
{
    for (;; p->at++) {
        size_t start = p->at;
        struct sp_span part = {0};

        if (parts->count == KRB_NAME_PARTS_MAX)
            return sp_fail_at(p->e, SP_EINPUT, 0, (uint32_t)start, "a name of more than %d components",
                              KRB_NAME_PARTS_MAX);
        if (!parse_part(p, &part))
            return false;
        if (part.n == 0)
            return sp_fail_at(p->e, SP_EINPUT, 0, (uint32_t)start, "a name with an empty component");
        parts->v[parts->count++] = part;
        if (p->at == p->text.n || p->text.p[p->at] == '@')
            return true;
    }
}

bool krb_parse_name(struct sp_span text, struct sp_arena *mem, struct krb_name *name, struct sp_span *realm,
                    struct sp_err *e)
{
    struct parser p = {.text = text, .e = e};
    struct sp_spans parts = {0};
    struct sp_span r = {0};
    size_t mark = mem->used;

    if (text.n > KRB_NAME_TEXT_MAX)
        return sp_fail_at(e, SP_EINPUT, 0, KRB_NAME_TEXT_MAX, "a name of more than %d bytes",
                          KRB_NAME_TEXT_MAX);
    p.to = sp_alloc(mem, text.n, e);
    parts.v = p.to ? sp_new_array(mem, struct sp_span, KRB_NAME_PARTS_MAX, e) : NULL;
    if (!parts.v || !parse_parts(&p, &parts))
        goto fail;
    if (p.at < text.n) {
        p.at++;
        if (!parse_part(&p, &r))
            goto fail;
        if (p.at < text.n) {
            (void)sp_fail_at(e, SP_EINPUT, 0, (uint32_t)p.at, "a realm with an unescaped '@' or '/' in it");
            goto fail;
        }
    }
    *name = (struct krb_name){parts.count > 1 ? NT_SRV_INST : NT_PRINCIPAL, parts};
    *realm = r;
    return true;
fail:
    mem->used = mark;
    return false;
}

/* ---- name to text ---- */

/* The letter behind the backslash, for what cannot stand for itself; 0 for everything else. */
static const char escapes[256] = {
    ['/'] = '/', ['@'] = '@', ['\\'] = '\\', ['\n'] = 'n', ['\t'] = 't', ['\b'] = 'b', [0] = '0'};

/* In runs: nearly every name is one, and this is on the path of every request. */
static void text_part(struct sp_text *to, struct sp_span part)
{
    size_t from = 0;

    /* The analyzer loses the count of krb_name_key's copy. */
    /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
    for (size_t i = 0; i < part.n; i++) {
        if (!escapes[part.p[i]])
            continue;
        sp_text_add(to, sp_span(part.p + from, i - from));
        sp_text_add(to, sp_span((const char[]){'\\', escapes[part.p[i]]}, 2));
        from = i + 1;
    }
    if (from < part.n)
        sp_text_add(to, sp_span(part.p + from, part.n - from));
}

void krb_text_name(struct sp_text *to, const struct krb_name *name)
{
    for (uint32_t i = 0; i < name->parts.count; i++) {
        if (i > 0)
            sp_text_str(to, "/");
        text_part(to, name->parts.v[i]);
    }
}

void krb_text_principal(struct sp_text *to, const struct krb_name *name, struct sp_span realm)
{
    krb_text_name(to, name);
    sp_text_str(to, "@");
    text_part(to, realm);
}

/* ---- comparison ---- */

bool krb_same_name(const struct krb_name *a, const struct krb_name *b)
{
    bool same = a->parts.count == b->parts.count;

    for (uint32_t i = 0; same && i < a->parts.count; i++)
        same = sp_same(a->parts.v[i], b->parts.v[i]);
    return same;
}

static bool ends_with_dollar(struct sp_span s)
{
    return s.n > 0 && s.p[s.n - 1] == '$';
}

bool krb_is_service_name(const struct krb_name *name)
{
    return name->parts.count > 1 || (name->parts.count == 1 && ends_with_dollar(name->parts.v[0]));
}

bool krb_is_realm(const struct krb_realm *r, struct sp_span asked)
{
    return sp_same(r->name, asked);
}

static bool is_named(const struct krb_realm *r, struct sp_span asked)
{
    bool found = sp_same_nocase(r->name, asked);

    for (uint32_t i = 0; !found && i < r->aliases.count; i++)
        found = sp_same_nocase(r->aliases.v[i], asked);
    return found;
}

bool krb_is_realm_alias(const struct krb_realm *r, struct sp_span asked)
{
    return asked.n == 0 || (asked.n == 1 && asked.p[0] == '.') || is_named(r, asked);
}

static bool is_two(const struct krb_name *name, struct sp_span a, struct sp_span b)
{
    return name->parts.count == 2 && sp_same(name->parts.v[0], a) && sp_same(name->parts.v[1], b);
}

bool krb_is_tgs_name(const struct krb_name *name, struct sp_span realm)
{
    return is_two(name, SP_LIT("krbtgt"), realm);
}

bool krb_is_changepw_name(const struct krb_name *name)
{
    return is_two(name, SP_LIT("kadmin"), SP_LIT("changepw"));
}

/* ---- the look-up key ---- */

static bool check_part(struct sp_span part, struct sp_err *e)
{
    if (part.n == 0)
        return sp_fail(e, SP_EINPUT, 0, "a name with an empty component");
    for (size_t i = 0; i < part.n; i++)
        if (part.p[i] < 0x20 || part.p[i] == 0x7f)
            return sp_fail(e, SP_EINPUT, 0, "a name with a control byte");
    return sp_is_utf8(part) || sp_fail(e, SP_EINPUT, 0, "a name that is not UTF-8");
}

/* alice@REALM in one component is alice (decision 20); what stands behind the last '@' decides, and an empty
 * suffix or "." names no realm here. */
static struct sp_span without_realm(struct sp_span part, const struct krb_realm *realm)
{
    size_t n = part.n;

    while (n > 0 && part.p[n - 1] != '@')
        n--;
    if (n == 0 || n == part.n || !is_named(realm, sp_span(part.p + n, part.n - n)))
        return part;
    return sp_span(part.p, n - 1);
}

struct krb_name krb_without_realm(const struct krb_name *name, const struct krb_realm *realm,
                                  struct sp_span *room)
{
    struct krb_name n = *name;

    if (n.parts.count == 1) {
        *room = without_realm(n.parts.v[0], realm);
        n.parts.v = room;
    }
    return n;
}

/* The buffer holds what is allowed; the text being cut means that it was longer. */
bool krb_name_key(const struct krb_name *name, const struct krb_realm *realm, struct sp_arena *mem,
                  struct sp_span *key, struct sp_err *e)
{
    char buf[KRB_NAME_TEXT_MAX + 1];
    struct sp_text t = sp_text(buf, sizeof buf);
    struct sp_span one, k;
    struct krb_name n = krb_without_realm(name, realm, &one);

    if (n.parts.count == 0)
        return sp_fail(e, SP_EINPUT, 0, "a name without components");
    for (uint32_t i = 0; i < n.parts.count; i++) {
        if (!check_part(n.parts.v[i], e))
            return false;
    }
    krb_text_name(&t, &n);
    if (t.cut)
        return sp_fail(e, SP_EINPUT, 0, "a name of more than %d bytes", KRB_NAME_TEXT_MAX);
    for (size_t i = 0, lower_n = krb_is_service_name(&n) ? t.n : 0; i < lower_n; i++)
        buf[i] = (char)(buf[i] >= 'A' && buf[i] <= 'Z' ? buf[i] | 0x20 : buf[i]);
    k = sp_dup(mem, sp_span(buf, t.n), e);
    if (!k.p)
        return false;
    *key = k;
    return true;
}

bool krb_default_salt(struct sp_span realm, const struct krb_name *name, struct sp_arena *mem,
                      struct sp_span *salt, struct sp_err *e)
{
    size_t n = realm.n, at = realm.n;
    uint8_t *p;

    for (uint32_t i = 0; i < name->parts.count; i++)
        n += name->parts.v[i].n;
    p = sp_alloc(mem, n, e);
    if (!p)
        return false;
    if (realm.n > 0)
        memcpy(p, realm.p, realm.n);
    for (uint32_t i = 0; i < name->parts.count; i++) {
        if (name->parts.v[i].n > 0)
            memcpy(p + at, name->parts.v[i].p, name->parts.v[i].n);
        at += name->parts.v[i].n;
    }
    *salt = sp_span(p, n);
    return true;
}
