/* SPDX-License-Identifier: MIT */
/* The Local KDC's engine: AS and TGS exchanges (RFC 4120 3.1, 3.3) and password change (RFC 3244). Bytes,
 * time and randomness in; a reply, a record and perhaps a password change out. One request, one step; nothing
 * is remembered between steps but what lies in the shared block (guess budgets, replay windows,
 * retransmission table), which all workers use at once. */
#ifndef SP_KDC_KDC_H
#define SP_KDC_KDC_H

#include "base/arena.h"
#include "base/env.h"
#include "crypto/crypto.h"
#include "krb/codes.h"
#include "krb/name.h"
#include "store/store.h"

#define KDC_MESSAGE_MAX 65536 /* bytes of one request; longer is KRB_ERR_FIELD_TOOLONG at the door */
#define KDC_ARENA_MIN (256 * 1024)

enum kdc_lifetimes { KDC_STANDARD, KDC_WINDOWS_LIKE };
enum kdc_salt { KDC_SALT_DEFAULT, KDC_SALT_RANDOM };
/* When SPAKE's challenge is sent: with every error 25 on TCP, UNIX and loopback doors (decision 46), or only
 * to clients that said which groups they have. */
enum kdc_challenge { KDC_CHALLENGE_ALWAYS, KDC_CHALLENGE_ON_SUPPORT };

struct kdc_config {
    struct krb_realm realm;
    int32_t enctypes[4]; /* order of preference (decision 11) */
    uint32_t enctype_count;
    int32_t skew_s;
    int32_t tgt_life_s, service_life_s,
        file_service_life_s; /* the last for cifs/ and nfs/; an account's own wins */
    int32_t renew_life_s;    /* 0: nothing is renewable */
    bool forwardable;
    int32_t changepw_life_s;
    enum kdc_salt salt;
    bool spake, timestamp; /* which proofs are offered and taken */
    enum kdc_challenge challenge;
    uint8_t name_secret[32]; /* keyed hash of names: random salts, dummy keys of unknown users; cookies */
    uint32_t iterations[4];  /* PBKDF2 counts of new keys, by the order of enctypes; 0: the type's own */
    bool reveal_unknown;     /* error 6 for unknown users */
    bool reveal_disabled;
    bool guess_limits;
    bool udp_replies_freely; /* tests */
};
void kdc_config_defaults(struct kdc_config *c, enum kdc_lifetimes profile);

enum kdc_door { KDC_UDP, KDC_TCP, KDC_UNIX, KDC_COURIER };

/* Who asks, as far as the door or an attester knows (decisions 6 and 59). */
struct kdc_source {
    uint8_t id[24];     /* IPv4 or IPv6 /64 or uid, with a leading tag byte; compared as bytes */
    bool loopback;      /* loopback and UNIX sockets: ten times the budget, never counts as unfamiliar */
    bool console;       /* uid 0 on a UNIX socket: a budget of its own */
    char text[64];      /* for records: "192.0.2.7", "uid 1000" */
    uint32_t attester;  /* decision 59: who vouches for the address (uid + 1); 0: the door itself saw it */
    bool whole_service; /* stands for all users of one service: never becomes familiar */
};

/* ---- the shared block: one fixed-size mapping, made by the keeper, used by all workers ---- */
struct kdc_shared;
struct kdc_shared_size {
    uint32_t guess_slots, replay_slots, retransmit_slots; /* rounded up to powers of two; 0: the defaults */
};
size_t kdc_shared_bytes(struct kdc_shared_size size);
/* block: kdc_shared_bytes(size) zeroed bytes, 64-aligned. secret: random, keeps outsiders from choosing
 * slots. */
struct kdc_shared *kdc_shared_init(void *block, struct kdc_shared_size size, const uint8_t secret[16]);
/* A worker attaching to a block that the keeper initialised; NULL when it is not one. */
struct kdc_shared *kdc_shared_attach(void *block, size_t n);
/* Forget failures of one account (`account unlock`). */
void kdc_shared_unlock(struct kdc_shared *s, uint64_t account_id);
/* Sources with a success in the last 30 days, to be carried over a restart: opaque bytes. */
size_t kdc_shared_save(const struct kdc_shared *s, uint8_t *out, size_t cap);
void kdc_shared_load(struct kdc_shared *s, struct sp_span saved);
/* The replay windows, likewise: hashes, and the secret they are made with. Loaded before the first request;
 * what has expired by the wall clock in between is left out. */
size_t kdc_shared_save_replays(const struct kdc_shared *s, struct sp_env env, uint8_t *out, size_t cap);
void kdc_shared_load_replays(struct kdc_shared *s, struct sp_env env, struct sp_span saved);

/* krbtgt and kadmin/changepw, which nearly every request asks for, as they are at one version of the store:
 * whatever is written there ends it. */
enum kdc_own_name { KDC_OWN_TGS, KDC_OWN_CHANGEPW, KDC_OWN_NAMES };
#define KDC_OWN_ROOM 16384
struct kdc_own {
    uint64_t version; /* 0: nothing is remembered */
    struct sp_arena mem;
    bool known[KDC_OWN_NAMES];
    struct store_account account[KDC_OWN_NAMES];
    _Alignas(16) uint8_t room[KDC_OWN_ROOM];
};

struct kdc {                         /* stays where it is once it was used */
    const struct kdc_config *config; /* may be exchanged between steps (reload); the realm's name stays */
    struct store_lookup *accounts;
    struct crypto *crypto;
    struct kdc_shared *shared;
    struct kdc_own own; /* zero at first; holds keys */
};
/* Wipes what is remembered of the store; before `accounts` is exchanged or the struct goes. */
void kdc_forget_own(struct kdc *k);

/* ---- what a step says ---- */
struct kdc_record {    /* one decision; the daemon writes it as a JSON line. Spans live in the arena */
    const char *event; /* "as", "tgs", "kpasswd", "malformed" */
    struct sp_span client, service; /* text forms with realm; empty when unknown */
    int32_t requested_etypes[8];
    uint32_t requested_count;
    int32_t ticket_etype, session_etype, reply_etype; /* 0: none */
    const char *preauth;                              /* "none", "timestamp", "spake" */
    int32_t code;                                     /* what the peer was told; 0: success */
    int32_t inner_code;                               /* what really happened, where the two differ */
    char text[160];                                   /* reason, for the administrator */
    uint8_t ticket_id[16];                            /* of the ticket issued; all zero: none */
    uint64_t account_id;                              /* 0: none; for activity */
    bool proven, failed; /* the password was proven in this request; a wrong one was counted */
    bool retransmission; /* answered from the table */
};

struct kdc_change { /* a password change that was proven and waits for the keeper (decision 7) */
    uint64_t account_id, generation; /* the account whose password changes */
    uint64_t by_id;                  /* who asked (the same, or an administrator) */
    uint8_t password[1024];
    uint16_t password_n;
    /* what the answer needs; opaque to the driver */
    struct sp_key session, reply_key;
    uint8_t ap_rep[512];
    uint16_t ap_rep_n;
    struct sp_key subkey;
    uint32_t seq;
    uint8_t request_hash[32];
    uint8_t local_address[16];
    uint8_t local_address_n;
};

struct kdc_request {
    struct sp_span bytes;
    enum kdc_door door;
    struct kdc_source source;
    uint8_t local_address[16]; /* the address it arrived at, for KRB-PRIV; n 0 on UNIX sockets */
    uint8_t local_address_n;
    uint32_t udp_reply_max; /* larger replies become KRB_ERR_RESPONSE_TOO_BIG on UDP; 0: 4096 */
    /* Who asks, more exactly than `source` says (decision 59), where finding out has a price: called once,
     * before a try is counted. NULL: `source` is all there is. The answer lives as long as the request. */
    const struct kdc_source *(*look_closer)(void *door);
    void *door_data;
};

#define KDC_RESERVE 1024 /* an error reply must be possible when the arena is used up */
struct kdc_actions {
    struct sp_span reply; /* in the arena or in `reserve`; empty: no answer is due (only for what is no
                             Kerberos message at all) */
    struct kdc_record record;
    bool has_change;           /* then reply is empty, and kdc_finish_change makes it */
    struct kdc_change *change; /* in the arena; the driver keeps a copy */
    uint8_t reserve[KDC_RESERVE];
};

/* What really happened, where no Kerberos code says it; travels as the `proto` of an error inside the engine.
 */
enum kdc_reason {
    KDC_WHY_UNKNOWN = -1,   /* no such client */
    KDC_WHY_PASSWORD = -2,  /* the proof did not verify */
    KDC_WHY_THROTTLED = -3, /* nothing was verified */
    KDC_WHY_DISABLED = -4,
    KDC_WHY_EXPIRED = -5,      /* the account */
    KDC_WHY_OLD_PASSWORD = -6, /* expired, or to be changed */
};
enum kdc_exchange { KDC_AS, KDC_TGS };
/* What the peer is told. `proven`: the password (AS) or the ticket (TGS) was. Codes outside the protocol
 * become 60. */
int32_t kdc_outward_code(const struct kdc_config *config, enum kdc_exchange x, int32_t reason, bool proven);
/* What the administrator is told. */
int32_t kdc_inner_code(int32_t reason);

/* KDC port (88). Always true: trouble becomes a KRB-ERROR in the reply; with an arena that is too small the
 * reply is KRB_ERR_GENERIC from a reserve inside. mem is reset by the caller between steps. */
void kdc_step(struct kdc *k, struct sp_env env, const struct kdc_request *req, struct sp_arena *mem,
              struct kdc_actions *out);

/* kpasswd port (464). */
void kdc_kpasswd_step(struct kdc *k, struct sp_env env, const struct kdc_request *req, struct sp_arena *mem,
                      struct kdc_actions *out);
/* The keeper's verdict: result is RFC 3244's (0 success, 2 hard error, 3 auth error, 4 soft error: policy, 5
 * access denied, 7 initial flag needed), text is shown to the user. */
void kdc_finish_change(struct kdc *k, struct sp_env env, const struct kdc_change *c, uint16_t result,
                       struct sp_span text, struct sp_arena *mem, struct sp_span *reply);

/* Keys of a password as this realm makes them: one for every configured type, kvno as given. Slow on purpose.
 * Also used for accounts made by commands, so that unknown users look exactly like them (decision 12). salt.p
 * NULL: by the realm's rule. */
SP_MUST bool kdc_make_keys(const struct kdc_config *config, struct crypto *c, const struct krb_name *name,
                           struct sp_span salt, struct sp_span password, uint32_t kvno, struct sp_arena *mem,
                           struct store_key *keys, uint32_t *count, struct sp_err *e);
/* Random keys, one for each type in etypes (or of the realm's order when count is 0). */
SP_MUST bool kdc_make_random_keys(const struct kdc_config *config, struct sp_rng *rng, uint32_t kvno,
                                  const int32_t *etypes, uint32_t etype_count, struct store_key *keys,
                                  uint32_t *count, struct sp_err *e);
/* The salt that an account of that name gets by the realm's rule; also what an unknown name is answered with.
 */
SP_MUST bool kdc_salt_of(const struct kdc_config *config, struct crypto *c, const struct krb_name *name,
                         struct sp_arena *mem, struct sp_span *salt, struct sp_err *e);

#endif
