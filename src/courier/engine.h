/* SPDX-License-Identifier: MIT */
/* What the files of the ladder share; nobody else includes it.
 *
 *   check.c   what a message is: which ones are carried, which ones are answers
 *   hold.c    the memory that messages are kept in
 *   limits.c  who may have how many requests under way
 *   realms.c  names, targets, and a configuration taking the place of another
 *   names.c   look-ups: what they find, for how long it stays, where nothing may be sent
 *   health.c  what is known of a target
 *   tries.c   one message on its way to one place
 *   climb.c   which way a request takes, and when the next one
 *   ladder.c  the doors of the engine, its memory, its actions
 *
 * Everything is numbered from 0 in an array of a fixed size; NIL is no number. Nothing is written to before
 * it is used, so that memory that no load ever needed stays untouched. */
#ifndef SP_COURIER_ENGINE_H
#define SP_COURIER_ENGINE_H

#include "base/text.h"
#include "courier/ladder.h"
#include "krb/codes.h"

#define NIL UINT32_MAX
#define US_PER_MS INT64_C(1000)
#define US_PER_S INT64_C(1000000)
#define NEVER INT64_MAX

enum {
    SLOTS = LADDER_TARGETS_MAX + 1, /* of one realm; the last one is the local engine */
    SLOT_LOCAL = LADDER_TARGETS_MAX,
    HOST_MAX = 255,
    PATH_MAX_N = 127,
    REALM_MAX = 255,
    NAMES_PER_REALM = 8, /* on average: names and aliases */
    GONE_REALMS = 16,    /* realms that left the configuration and still have requests under way */
    TRIES_MAX = 6,       /* of one request at once */
    PROBES_PER_REALM = 2,
    REQUEST_TEXT = 384,
    UDP_MAX = 1400, /* longer requests go by TCP at once */
    SCRATCH = 96 * 1024,
    LADDER_PER_SECOND = 1000, /* of one source at one realm */
};

/* What realms look up beside the addresses of hosts. */
enum query { QUERY_KDC_UDP, QUERY_KDC_TCP, QUERY_KPASSWD, QUERY_URI, QUERY_URI_KPASSWD, QUERIES };
enum { LOOKUPS = LADDER_TARGETS_MAX + QUERIES }; /* of one realm */

/* ---- lists through arrays: one struct link in each element ---- */

struct link {
    uint32_t next, prev;
};
_Static_assert(sizeof(struct link) == 8, "two numbers");
struct list {
    uint32_t first, last, count;
};

/* ---- targets, realms ---- */

struct slot {               /* a target, and what is known of it */
    struct ladder_target t; /* its spans lie in host and path */
    uint32_t serial;        /* another one for every target that ever was here; 0: empty */
    bool found, for_kdc, for_kpasswd;
    uint8_t found_by;  /* one bit for each query */
    uint16_t priority; /* of SRV and URI */
    uint32_t draw;     /* among those of one priority: by weight and chance */

    uint8_t address_count, address_now; /* the one that worked last */
    bool literal;                       /* the host is an address: nothing to look up */
    int64_t pinned_until_us;
    struct ladder_address address[LADDER_ADDRESSES_MAX];

    enum ladder_life life;
    bool suspect; /* others answered while it did not */
    bool probing;
    uint8_t back_off;
    uint8_t udp_silent; /* UDP was silent where TCP answered, so many times */
    int64_t udp_shut_until_us;
    int64_t since_us, latency_us, retry_us, failed_us, heard_us;
    uint64_t answers, failures;
    char reason[96];
    char host[HOST_MAX + 1], path[PATH_MAX_N + 1];
};

struct lookup {
    uint32_t id; /* 0: none under way */
    uint32_t serial;
    int64_t until_us;       /* then it may be asked again, whatever became of it */
    int64_t fresh_until_us; /* 0: never answered */
    bool asked;             /* the driver has it */
    bool empty;             /* it found nothing */
    struct link link;       /* in l->asking while it has not */
};

struct realm {
    bool used, gone;
    uint32_t serial;   /* another one for every realm that ever was here */
    uint32_t occupied; /* one bit for each slot with a target */
    uint32_t config;   /* its number in the configuration */
    char name[REALM_MAX + 1];
    size_t name_n;
    enum ladder_rung ladder[LADDER_RUNGS];
    uint32_t rung_count;
    uint32_t order[SLOTS], slot_count; /* in the order of the ladder, listed before found */
    enum ladder_discover discover;
    bool kpasswd, refused_found; /* a look-up named places that nothing is sent to */
    uint32_t in_flight_max, per_second_max;
    uint32_t in_flight, probes;
    uint32_t bytes;                      /* of messages held */
    struct list requests;                /* through request.in_realm */
    char query[QUERIES][REALM_MAX + 17]; /* names that were asked for */
};

struct name { /* of a realm, sorted without case */
    struct sp_span text;
    uint32_t realm;
};

/* ---- requests, tries ---- */

struct facts { /* of a request's message */
    enum ladder_kind kind;
    struct sp_span realm; /* that it names */
    bool proof;           /* an AS-REQ that may count as an attempt at a password */
    bool guessable;       /* an AS-REQ with a timestamp that a listener can try passwords on */
    bool armoured;        /* FAST or PKINIT */
};

enum request_state { REQUEST_FREE, REQUEST_UNDER_WAY, REQUEST_ENDED, REQUEST_TAKEN };

struct request {
    enum request_state state;
    uint64_t tag;
    enum ladder_kind kind;
    bool prefer_primary, proof, guessable, garbled, withheld, last_chance, sick;
    bool more, again; /* more: another target may be asked at next_us; again: the network changed once */
    uint32_t realm, source, pair;
    uint32_t held; /* its message */
    size_t n;
    uint32_t rung; /* number in the realm's ladder; rung_count: all were tried */
    int64_t began_us, until_us, rung_until_us, next_us; /* next_us: when another target may be asked */
    uint8_t asked[LADDER_TARGETS_MAX];                  /* addresses of each that were asked */
    uint8_t first[LADDER_TARGETS_MAX];                  /* the one that it began with */
    struct list tries;
    struct link in_realm, link; /* link: in l->ended or l->taken */
    uint32_t by_tag;            /* next in the bucket */
    int32_t busy;               /* the code of a KDC that could not serve */

    enum ladder_what end;
    enum ladder_rung answered_by;
    int32_t code;
    uint32_t reply_held;
    size_t reply_n;
    int64_t took_us;
    bool limited;
    uint16_t text_n;
    char text[REQUEST_TEXT];
};

enum try_state { TRY_FREE, TRY_QUEUED, TRY_SENT, TRY_CANCELLED };

struct try_ { /* one message on its way to one target */
    enum try_state state;
    uint32_t round;   /* how often this place in the array was used: part of the id */
    uint32_t request; /* NIL: nobody waits; it is only about the target */
    uint32_t realm, slot, serial, realm_serial;
    uint64_t tag;
    enum ladder_kind kind;
    enum ladder_carry carry;
    uint8_t address;
    bool probe, judged;  /* judged: its silence was noted */
    bool beside, second; /* the other transport was begun next to it; it is that one */
    uint32_t held;
    size_t n;
    int64_t began_us, judge_us, beside_us, until_us;
    struct link in_request, link; /* link: in l->trying or l->cancelling */
};

struct account { /* of a source, or of a source at one realm */
    uint8_t source[24];
    uint32_t realm; /* NIL: at all */
    uint32_t in_flight, bytes;
    int64_t full_us;  /* when its allowance will be whole again */
    uint32_t in_hash; /* next in the bucket */
    struct link age;
};

/* ---- messages held ---- */

#define LEAF_N 1024
struct leaf {         /* where a block begins */
    struct link link; /* of a free one */
    uint16_t users;   /* of a taken one */
    uint8_t taken;    /* its order */
    uint8_t order;    /* of a free one; ORDERS: no free block begins here */
};
enum { ORDERS = 8 }; /* 1 KiB to 128 KiB */
struct hold {
    uint8_t *bytes;
    struct leaf *leaves;
    struct list free[ORDERS];
    uint32_t tops, top_max; /* blocks of 128 KiB in use, and there are */
    size_t used;
};

/* ---- the engine ---- */

struct pool { /* of numbers: a list of free ones, and those never used */
    uint32_t free, top, max;
};

struct ladder {
    struct ladder_limits limit;
    struct sp_rng *rng;
    struct hold hold;
    uint8_t *scratch;

    struct realm *realms;
    uint32_t realm_max, realm_top, config_count; /* realm_top: those behind it were never used */
    struct slot *slots;                          /* realm_max times SLOTS */
    struct lookup *lookups;                      /* realm_max times LOOKUPS */
    struct name *names, *names_next;             /* the next configuration's, while it is looked at */
    uint32_t name_max, name_count;
    uint32_t *by_config;
    uint32_t serial, lookup_round;

    struct request *requests;
    struct pool free_requests;
    uint32_t *by_tag, tag_mask;
    uint32_t in_flight, sick;

    struct try_ *tries;
    struct pool free_tries;
    uint32_t try_bits, probes;

    struct account *accounts;
    struct pool free_accounts;
    uint32_t *by_source, source_mask;
    struct list idle; /* those with nothing under way, least lately used first */
    uint64_t seed[2];

    uint32_t *heap, *heap_at; /* requests, then tries, by when they are due */
    int64_t *due;
    uint32_t heap_n;

    struct ladder_address own[LADDER_OWN_MAX];
    uint32_t own_count;

    struct list ended, trying, asking, cancelling, taken;
};

/* ---- ladder.c ---- */
void list_append(struct list *l, void *links, size_t step, uint32_t i);
void list_remove(struct list *l, void *links, size_t step, uint32_t i);
/* Where the links of element 0 are, and how far apart those of the others. */
#define LINKS(array, member) (&(array)->member), sizeof *(array)
#define APPEND(list, array, member, i) list_append((list), LINKS(array, member), (i))
#define REMOVE(list, array, member, i) list_remove((list), LINKS(array, member), (i))
#define POOL_TAKE(pool, array, member) pool_take((pool), LINKS(array, member))
#define POOL_GIVE(pool, array, member, i) pool_give((pool), LINKS(array, member), (i))
uint32_t pool_take(struct pool *p, void *nexts, size_t step); /* NIL: none is left */
void pool_give(struct pool *p, void *nexts, size_t step, uint32_t i);
uint32_t random_below(struct ladder *l, uint32_t n);
void ladder_release(struct ladder *l); /* what actions pointed at; something is put in */

/* ---- due.c: a heap of what is due when ---- */
void due_set(struct ladder *l, uint32_t node, int64_t at_us); /* NEVER: not at all */
uint32_t due_next(struct ladder *l, int64_t now_us);          /* NIL: nothing is due */
static inline uint32_t node_of_request(const struct ladder *l, uint32_t i)
{
    (void)l;
    return i;
}
static inline uint32_t node_of_try(const struct ladder *l, uint32_t i)
{
    return l->limit.requests + i;
}

/* ---- check.c ---- */
SP_MUST bool check_request(struct sp_span message, struct sp_arena *mem, struct facts *out, struct sp_err *e);
/* An answer to such a request; the code of a KRB-ERROR, else 0. */
SP_MUST bool check_answer(enum ladder_kind kind, struct sp_span answer, struct sp_arena *mem, int32_t *code,
                          struct sp_err *e);
/* KRB-ERROR 12 of this realm. */
SP_MUST bool check_make_policy(struct sp_env env, struct sp_span realm, struct sp_arena *mem,
                               struct sp_span *out, struct sp_err *e);

/* ---- hold.c ---- */
void hold_init(struct hold *h);
uint32_t hold_copy(struct hold *h, struct sp_span s); /* a block with one user; NIL: no room */
void hold_share(struct hold *h, uint32_t block);
void hold_drop(struct hold *h, uint32_t block);
size_t hold_room(uint32_t order);
size_t hold_size(size_t n); /* what n bytes take */
static inline struct sp_span hold_span(const struct hold *h, uint32_t block, size_t n)
{
    return sp_span(h->bytes + (size_t)block * LEAF_N, n);
}

/* ---- limits.c ---- */
/* Room for one more request of this source at this realm: counts it in. */
SP_MUST bool limits_enter(struct ladder *l, int64_t now_us, uint32_t realm, const uint8_t source[24],
                          struct request *r, struct sp_err *e);
void limits_leave(struct ladder *l, struct request *r);

/* ---- realms.c ---- */
static inline struct slot *slot_at(const struct ladder *l, uint32_t realm, uint32_t slot)
{
    return &l->slots[(size_t)realm * SLOTS + slot];
}
static inline struct sp_span realm_name(const struct ladder *l, uint32_t realm)
{
    return sp_span(l->realms[realm].name, l->realms[realm].name_n);
}
uint32_t realms_find(const struct ladder *l, struct sp_span name, bool any_case); /* NIL: none */
/* An empty place for a target of this realm; NULL: none is left. */
struct slot *realms_place(struct ladder *l, uint32_t realm, const struct ladder_target *t);
void realms_sort(struct ladder *l, uint32_t realm);
void realms_drop(struct ladder *l, uint32_t realm); /* one that is gone, when nothing of it is under way */
bool realms_same_place(const struct ladder_target *a, const struct ladder_target *b);

/* ---- names.c ---- */
bool names_parse_address(struct sp_span text, struct ladder_address *out);
bool names_may_send(const struct ladder *l, const struct ladder_address *a); /* P41 */
/* Asks what has to be asked for this rung. True: something that it needs is not there yet. */
bool names_want(struct ladder *l, struct sp_env env, uint32_t realm, enum ladder_rung rung,
                enum ladder_kind kind);
void names_forget(struct ladder *l, uint32_t realm, uint32_t lookup);
/* Nobody waits any longer for what the resolver does not say. */
void names_give_up(struct ladder *l, struct sp_env env, uint32_t realm, enum ladder_rung rung);
void names_expire(struct ladder *l, uint32_t realm);
void names_fill(const struct ladder *l, uint32_t lookup, struct ladder_action *out);

/* ---- health.c ---- */
void health_answered(struct ladder *l, struct slot *s, int64_t now_us, int64_t took_us);
void health_failed(struct ladder *l, struct slot *s, int64_t now_us, enum ladder_life life,
                   struct sp_span why);
void health_suspect(struct ladder *l, struct slot *s, int64_t now_us);
void health_forget(struct slot *s);
int64_t health_hedge_us(const struct ladder *l, const struct slot *s, bool proof);
int64_t health_silence_us(const struct ladder *l, const struct slot *s);
int64_t health_beside_us(const struct ladder *l, const struct slot *s);
/* 0 first; above HEALTH_LAST not at all. */
enum { HEALTH_LAST = 3 };
unsigned health_rank(const struct slot *s);
bool health_retry_due(const struct slot *s, int64_t now_us);

/* ---- tries.c ---- */
struct way {
    uint32_t slot;
    uint8_t address;
    enum ladder_carry carry;
    bool probe;
};
bool tries_begin(struct ladder *l, struct sp_env env, uint32_t request, struct way w);
enum let_go { LET_GO_ANSWERED, LET_GO_SILENT, LET_GO_FORGOTTEN }; /* how its request ended */
void tries_let_go(struct ladder *l, uint32_t request, enum let_go how, int64_t now_us);
void tries_give_place(struct ladder *l, uint32_t request, int64_t now_us); /* the oldest to another one */
void tries_cancel(struct ladder *l, uint32_t try_index);
void tries_due(struct ladder *l, struct sp_env env, uint32_t try_index);
uint32_t tries_id(const struct ladder *l, uint32_t try_index);
uint32_t tries_find(const struct ladder *l, uint32_t id);
void tries_tell(struct ladder *l, struct sp_env env, uint32_t try_index, const struct ladder_outcome *o);
void tries_free(struct ladder *l, uint32_t try_index);

/* ---- climb.c ---- */
void climb_begin(struct ladder *l, struct sp_env env, uint32_t request);
void climb(struct ladder *l, struct sp_env env, uint32_t request);
void climb_again(struct ladder *l, struct sp_env env, uint32_t request); /* from the lowest rung */
void climb_due(struct ladder *l, uint32_t request);
void climb_answer(struct ladder *l, struct sp_env env, uint32_t request, enum ladder_rung by,
                  struct sp_span reply, int32_t code);
void climb_refuse(struct ladder *l, struct sp_env env, uint32_t request, int32_t code);
/* Appends to the reasons of a request. */
struct sp_text climb_text(struct request *r);
void climb_text_end(struct request *r, const struct sp_text *t);
void climb_wake(struct ladder *l, struct sp_env env, uint32_t realm);

#endif
