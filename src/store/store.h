/* SPDX-License-Identifier: MIT */
/* Accounts as records, and the port through which engines look them up. The driver is store/lmdb/. */
#ifndef SP_STORE_STORE_H
#define SP_STORE_STORE_H

#include "base/arena.h"
#include "base/secret.h"
#include "crypto/crypto.h"

#define STORE_KEYS_MAX 24 /* keys of one account: 4 types, a few versions */
#define STORE_ALIASES_MAX 64
#define STORE_NAME_MAX 1024 /* bytes of a look-up key */
#define STORE_RECORD_MAX 16384

enum store_kind {
    STORE_USER = 1,
    STORE_SERVICE = 2, /* random keys; tickets are issued for it, and it may log in as a client */
    STORE_KRBTGT = 3,
    STORE_CHANGEPW = 4, /* kadmin/changepw */
};

enum store_flag {
    STORE_DISABLED = 1,
    STORE_MUST_CHANGE = 2,
    STORE_ADMIN = 4,     /* may set others' passwords through kpasswd (0xff80) */
    STORE_NO_EXPIRY = 8, /* [policy] max-age does not apply */
    STORE_ALLOW_RENEW = 16,
    STORE_ALLOW_FORWARD = 32,
};

struct store_key {
    struct sp_key key;
    uint32_t kvno;
    uint32_t iterations; /* PBKDF2 count; 0 is the type's default, and for random keys */
    struct sp_span salt; /* p is NULL for random keys */
};

struct store_account {
    uint64_t id;         /* never used again */
    uint64_t generation; /* bumped by password change, disable, enable, rename */
    enum store_kind kind;
    uint32_t flags; /* enum store_flag */
    struct sp_span
        name; /* as created: the text form of the principal name without realm; returned by canonicalize */
    struct sp_span lookup;         /* the look-up key of name */
    struct sp_spans aliases;       /* names as given; */
    struct sp_spans alias_lookups; /* and their look-up keys, one each */
    struct store_key *keys;        /* newest kvno first; within a kvno any order */
    uint32_t key_count;
    int64_t created_s, changed_s;          /* changed: the password or keys */
    int64_t expires_s, password_expires_s; /* 0: never */
    int32_t life_s, renew_s;               /* 0: the realm's; services: the most a ticket for it may live */
    struct sp_span creator, comment;
    struct sp_span unknown; /* TLVs of a newer version, kept through a rewrite */
};

/* The newest key of that type, or the one of kvno when kvno is not 0; NULL when there is none. */
const struct store_key *store_find_key(const struct store_account *a, int32_t etype, uint32_t kvno);
uint32_t store_kvno(const struct store_account *a); /* newest; 0 without keys */

/* The port: look-ups that never wait. SP_ENOTFOUND when there is none; SP_EBACKEND when the record cannot be
 * trusted (the text names it). `find` takes no less time to find nobody than to find somebody, so that nobody
 * learns names with a stop-watch, and then leaves a stand-in in *out for a caller who has to go on as if:
 * some other account, or zeros. Everything in *out lives in mem. Keys come with keep set. */
struct store_lookup {
    bool (*find)(struct store_lookup *s, struct sp_span lookup, struct sp_arena *mem,
                 struct store_account *out, struct sp_err *e);
    bool (*find_id)(struct store_lookup *s, uint64_t id, struct sp_arena *mem, struct store_account *out,
                    struct sp_err *e);
    /* Costs next to nothing. While the number stays the same and is not 0, look-ups give what they gave
     * before. */
    uint64_t (*version)(struct store_lookup *s);
};

/* Record codec: a fixed header (format version, id, generation, nonce), then AES-256-GCM over TLVs with the
 * header as associated data. crypto seals with the master key. */
#define STORE_FORMAT 1
SP_MUST bool store_seal(struct crypto *c, const uint8_t master[32], struct sp_rng *rng,
                        const struct store_account *a, uint8_t *out, size_t cap, size_t *n, struct sp_err *e);
/* id: the key under which the record was found; a record moved to another id is refused. */
SP_MUST bool store_open_record(struct crypto *c, const uint8_t master[32], uint64_t id, struct sp_span record,
                               struct sp_arena *mem, struct store_account *out, struct sp_err *e);

#endif
