/* SPDX-License-Identifier: MIT */
/* MIT's keytab file format, version 0x0502: reading and writing, bytes in and out. */
#ifndef SP_KRB_KEYTAB_H
#define SP_KRB_KEYTAB_H

#include "base/secret.h"
#include "krb/messages.h"

struct krb_keytab_entry {
    struct krb_name name;
    struct sp_span realm;
    int64_t timestamp;
    uint32_t kvno; /* the 32-bit one wins over the 8-bit one where present and not 0 */
    int32_t etype;
    struct sp_span key;
};
struct krb_keytab {
    struct krb_keytab_entry *v;
    uint32_t count;
};
#define KRB_KEYTAB_ENTRIES_MAX 4096

/* Holes (negative lengths) are skipped. SP_EINPUT with the offset on anything cut, over-long or of another
 * version. */
SP_MUST bool krb_get_keytab(struct sp_span in, struct sp_arena *mem, struct krb_keytab *out,
                            struct sp_err *e);
/* Writes into out[0..cap); *n is the size, also on SP_EFULL. */
SP_MUST bool krb_put_keytab(const struct krb_keytab *kt, uint8_t *out, size_t cap, size_t *n,
                            struct sp_err *e);

#endif
