/* SPDX-License-Identifier: MIT */
/* Principal names: text form, comparison, and the one form under which the store looks them up. */
#ifndef SP_KRB_NAME_H
#define SP_KRB_NAME_H

#include "base/text.h"
#include "krb/messages.h"

#define KRB_NAME_TEXT_MAX 1024 /* bytes of a name's text form; longer is SP_EINPUT */

/* Text to name: components at '/', backslash escapes as MIT's (\/ \@ \\ \n \t \b \0); an unescaped '@' ends
 * the name and starts the realm (*realm.p is NULL without one). Type: NT_SRV_INST with more than one
 * component, else NT_PRINCIPAL. Empty components, more than KRB_NAME_PARTS_MAX and NUL bytes are SP_EINPUT.
 */
SP_MUST bool krb_parse_name(struct sp_span text, struct sp_arena *mem, struct krb_name *name,
                            struct sp_span *realm, struct sp_err *e);

/* Appends the text form, escaped so that krb_parse_name gives the same name back. */
void krb_text_name(struct sp_text *to, const struct krb_name *name);
/* name@REALM */
void krb_text_principal(struct sp_text *to, const struct krb_name *name, struct sp_span realm);

/* Same components, byte by byte; the type does not count (RFC 4120 6.2). */
bool krb_same_name(const struct krb_name *a, const struct krb_name *b);

/* Service-like: more than one component, or one that ends with '$' (decision 20: compared without case). */
bool krb_is_service_name(const struct krb_name *name);

/* The look-up key of a name (decision 20), in the arena: the escaped text form, ASCII-lower-case for
 * service-like names. A one-component name (type 10, or type 1 with an '@' in it) whose suffix behind the
 * last '@' is the realm or one of its aliases loses the suffix (a suffix that contains '@' never matches).
 * Suffixes and realm compare without case. SP_EINPUT: no component, an empty one, NUL or control bytes, not
 * UTF-8, or longer than KRB_NAME_TEXT_MAX. */
struct krb_realm {
    struct sp_span name;
    struct sp_spans aliases; /* extra names; "" and "." are always aliases at the doors */
};
SP_MUST bool krb_name_key(const struct krb_name *name, const struct krb_realm *realm, struct sp_arena *mem,
                          struct sp_span *key, struct sp_err *e);

/* The name without such a suffix, in its own spelling; *room holds the one component of what is returned. */
struct krb_name krb_without_realm(const struct krb_name *name, const struct krb_realm *realm,
                                  struct sp_span *room);

/* Exactly the realm's name; and: any name under which the realm may be asked for (the name without case, an
 * alias, "", "."). */
bool krb_is_realm(const struct krb_realm *r, struct sp_span asked);
bool krb_is_realm_alias(const struct krb_realm *r, struct sp_span asked);

/* RFC 4120 4: realm followed by the components, nothing between. In the arena. */
SP_MUST bool krb_default_salt(struct sp_span realm, const struct krb_name *name, struct sp_arena *mem,
                              struct sp_span *salt, struct sp_err *e);

bool krb_is_tgs_name(const struct krb_name *name, struct sp_span realm); /* krbtgt/REALM */
bool krb_is_changepw_name(const struct krb_name *name);                  /* kadmin/changepw */

/* A name with literal components, in static memory of the caller: struct sp_span parts[] must live as long.
 */
static inline struct krb_name krb_name_of(int32_t type, struct sp_span *parts, uint32_t count)
{
    return (struct krb_name){
        type, {parts, count}
    };
}

#endif
