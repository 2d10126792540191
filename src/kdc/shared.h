/* SPDX-License-Identifier: MIT */
/* Inside the room: the shared block. Every worker maps it; any of them may be killed at any instruction. */
#ifndef SP_KDC_SHARED_H
#define SP_KDC_SHARED_H

#include "kdc/kdc.h"

struct kdc_hash {
    uint64_t a, b;
};
/* SipHash-2-4 with 128 bits of output: keyed, so that outsiders cannot choose slots or make collisions. */
struct kdc_hash kdc_hash128(const uint8_t key[16], struct sp_span data);
const uint8_t *kdc_shared_secret(const struct kdc_shared *s);
struct kdc_hash kdc_shared_hash(const struct kdc_shared *s, struct sp_span data);

/* ---- replay windows ---- */
enum kdc_replay { KDC_NEW, KDC_SAME_REQUEST, KDC_REPLAYED };
/* Remembers `proof` (a timestamp's or authenticator's ciphertext) for life_s. The same proof inside the same
 * request is a retransmission, inside another it is a replay (decision 48). */
enum kdc_replay kdc_replay_note(struct kdc_shared *s, int64_t mono_us, int32_t life_s, struct sp_span proof,
                                struct kdc_hash request);

/* ---- retransmission table ---- */
#define KDC_RETRANSMIT_S 16
#define KDC_RETRANSMIT_MAX 4032 /* bytes of the longest reply that is kept */
struct kdc_kept {
    struct sp_span reply;
    int32_t code;
    bool proven;
};
bool kdc_kept_find(struct kdc_shared *s, int64_t mono_us, struct kdc_hash request, struct sp_arena *mem,
                   struct kdc_kept *out);
void kdc_kept_put(struct kdc_shared *s, int64_t mono_us, struct kdc_hash request, const struct kdc_kept *v);

/* ---- guess budgets (guess.c) ---- */
#define KDC_GUESS_FREE 4 /* failures of one source that cost no wait */
#define KDC_GUESS_WAIT_MAX_S 900
#define KDC_GUESS_WINDOW_S 600
#define KDC_GUESS_UNFAMILIAR 10    /* of all unfamiliar sources together, per account and window */
#define KDC_GUESS_ATTESTER 30      /* of one attester, per account and window */
#define KDC_GUESS_ATTESTER_ALL 300 /* of one attester, over all accounts */
#define KDC_GUESS_NEAR 10          /* loopback has so many times the budget */
#define KDC_FAMILIAR_S (30 * 86400)

#define KDC_GUESS_HELD_MAX 5
struct kdc_guess { /* a reserved try */
    uint32_t count;
    bool familiar, off;
    uint64_t account;
    uint64_t pair; /* tag of (account, source) in the table of familiar ones */
    struct {
        uint64_t key, before, after;
    } held[KDC_GUESS_HELD_MAX];
};
/* False: throttled, nothing may be verified. account: an id, or kdc_guess_unknown of a name. */
bool kdc_guess_reserve(struct kdc_shared *s, const struct kdc_config *cf, struct sp_env env,
                       const struct kdc_source *src, uint64_t account, struct kdc_guess *g);
void kdc_guess_give_back(struct kdc_shared *s, struct kdc_guess *g);
/* Gives back, and the source is familiar from now on. */
void kdc_guess_success(struct kdc_shared *s, struct sp_env env, const struct kdc_source *src,
                       struct kdc_guess *g);
/* T056: how many SPAKE challenges one source gets (far ones; near ones KDC_GUESS_NEAR times as many) in how
 * many seconds. A challenge takes some 110 us, so that is a hundredth of a core, a tenth for near ones. */
#define KDC_CHALLENGES 1000
#define KDC_CHALLENGES_S 10
bool kdc_spend_challenge(struct kdc_shared *s, struct sp_env env, const struct kdc_source *src);
uint64_t kdc_guess_unknown(const struct kdc_shared *s, struct sp_span lookup);

/* ---- tables: buckets of seven slots behind one lock ---- */
struct kdc_slot {
    uint64_t key; /* 0: free */
    uint64_t v[3];
};
#define KDC_BUCKET_SLOTS 7
struct kdc_bucket {
    _Atomic uint32_t lock;
    uint32_t pad[7];
    struct kdc_slot slot[KDC_BUCKET_SLOTS];
};
struct kdc_table {
    struct kdc_bucket *b;
    uint32_t mask; /* buckets - 1 */
    const struct kdc_shared *of;
};
struct kdc_table kdc_guess_table(const struct kdc_shared *s);
struct kdc_table kdc_familiar_table(const struct kdc_shared *s);
const uint8_t *kdc_familiar_key(const struct kdc_shared *s);
/* Asks for the bucket of a key ahead of its use. */
void kdc_bucket_fetch(struct kdc_table t, uint64_t key);
/* Locks the bucket of a key. Always comes back: a lock whose holder seems dead is taken over. */
struct kdc_bucket *kdc_bucket_lock(struct kdc_table t, uint64_t key);
/* Number i of a table, locked, or NULL when nobody ever used it: for going through all of them. */
struct kdc_bucket *kdc_bucket_walk(struct kdc_table t, uint64_t i);
void kdc_bucket_unlock(struct kdc_bucket *b);
/* The slot of key in a locked bucket, or NULL. */
struct kdc_slot *kdc_bucket_find(struct kdc_bucket *b, uint64_t key);

#endif
