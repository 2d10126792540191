/* SPDX-License-Identifier: MIT */
/* What load generator, engine driver and account writer agree on: names and keys of the bench realm, requests
 * made by the message tables, replies read by them. Every request differs from every other: nonce, time
 * stamp, authenticator, subkey. */
#ifndef SP_BENCH_REQUESTS_H
#define SP_BENCH_REQUESTS_H

#include "base/arena.h"
#include "base/env.h"
#include "crypto/crypto.h"
#include "krb/codes.h"
#include "krb/messages.h"

#define BENCH_REALM "BENCH.TEST"
#define BENCH_NAME_MAX 24
#define BENCH_TGTS 16 /* TGS requests are spread over the tickets of so many users */

/* "user000001", "svc/0001": counted from 1. */
struct sp_span bench_user_name(uint32_t i, char buf[BENCH_NAME_MAX]);
struct sp_span bench_service_instance(uint32_t i, char buf[BENCH_NAME_MAX]);
#define BENCH_SERVICE "svc"

enum bench_owner { BENCH_USER = 'u', BENCH_SERVER = 's' };
/* The key of account i: not secret, not shared by two accounts, the same in every server's database. */
SP_MUST bool bench_key(struct crypto *c, enum bench_owner owner, uint32_t i, int32_t etype,
                       struct sp_key *out, struct sp_err *e);

enum bench_kind { BENCH_AS_PLAIN, BENCH_AS_TS, BENCH_TGS };

struct bench_tgt {
    uint32_t user;
    struct sp_key session;
    uint8_t ticket[2048];
    size_t ticket_n;
};

/* One request and what its reply must be read with. */
struct bench_request {
    enum bench_kind kind;
    uint32_t user, service, nonce;
    int32_t etype; /* of ticket, session key and reply, as in the whole realm */
    struct sp_key reply_key;
    uint32_t reply_usage;
    struct sp_span bytes; /* in the arena of its maker */
};

struct bench_maker {
    struct crypto *crypto;
    int32_t etype; /* the realm's: 18 or 20 */
    struct sp_env env;
    uint32_t serial;  /* makes the microseconds of stamps distinct */
    uint8_t *scratch; /* one request at a time; BENCH_SCRATCH bytes */
    struct bench_tgt tgt[BENCH_TGTS];
};
#define BENCH_SCRATCH (64 * 1024)

/* user, service: numbers; for BENCH_TGS `user` picks a ticket (user % BENCH_TGTS). bytes are made in mem. */
SP_MUST bool bench_make(struct bench_maker *m, enum bench_kind kind, uint32_t user, uint32_t service,
                        struct sp_arena *mem, struct bench_request *out, struct sp_err *e);

/* Decrypts the reply, compares the nonce, wants ticket and session key of the realm's type; tgt (may be NULL)
 * takes ticket and session key. A KRB-ERROR where none is expected is SP_EREFUSED with its code in proto. mem
 * is used for the reading. */
SP_MUST bool bench_check(struct crypto *c, const struct bench_request *r, struct sp_span reply,
                         struct sp_arena *mem, struct bench_tgt *tgt, struct sp_err *e);

/* A cheap look that every reply gets: is it the message that is due? */
bool bench_looks_right(enum bench_kind kind, struct sp_span reply);

/* The operating system's, 4 KiB at a time; ends the program when there is none. */
struct sp_rng *bench_system_rng(void);

const char *bench_kind_name(enum bench_kind kind);
bool bench_find_kind(const char *name, enum bench_kind *out);

#endif
