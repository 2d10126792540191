/* SPDX-License-Identifier: MIT */
/* What the commands of a user (login, gss) share: an arena, a name, a secret, a transcript of steps, and ways
 * to a KDC. */
#ifndef SP_CLI_LOGIN_H
#define SP_CLI_LOGIN_H

#include "cli/cli.h"
#include "client/client.h"
#include "courier/wire.h"
#include "gss/sec.h"
#include "host/ask.h"
#include "host/ccache.h"
#include "host/env.h"

#define LOGIN_ARENA (SEC_ARENA_MIN * 2 + 4 * KRB_CCACHE_MAX)

struct login_route {
    const char *kdc; /* HOST[:PORT] of --kdc; NULL: the local daemon */
    struct host_courier courier;
    uint8_t *reply; /* COURIER_FRAME_MAX bytes */
    size_t reply_n;
};

struct login {
    struct cli *c;
    struct crypto *crypto;
    void *block;
    struct sp_arena mem, engine; /* names and tickets; what an engine takes for itself */
    struct client_wish wish;
    struct client_policy policy;
    struct sp_key *keys;
    cJSON *steps;
    const char *proof; /* "none", "timestamp", "spake"; NULL: no login yet */
    struct login_route route;
};

SP_MUST bool login_begin(struct login *l, struct cli *c, struct sp_err *e);
void login_end(struct login *l);
/* USER[@REALM] of `text` into wish.client and wish.realm (empty when there is none). */
SP_MUST bool login_take_user(struct login *l, const char *text, struct sp_err *e);
SP_MUST bool login_take_service(struct login *l, const char *text, struct sp_err *e);
/* Of the user's own realm, so that the first exchange may give its ticket. */
bool login_is_service_near(const struct login *l);
/* The keys of --keytab, or a password that is asked for. */
SP_MUST bool login_take_secret(struct login *l, struct sp_err *e);
/* One line of the transcript: what was sent and what came; sizes in bytes, began_us of the clock of host_env.
 */
void login_note(struct login *l, struct sp_span sent, struct sp_span came, int64_t began_us);
/* What a peer sent and does not read was no mistake of who typed the command. Gives ok back. */
bool login_blame_peer(bool ok, struct sp_err *e);
/* With --trace: a token or message, decoded, on standard error (standard output belongs to the result). */
void login_trace(const struct login *l, const char *what, struct sp_span token);
const char *login_kind(struct sp_span message, char *buf, size_t n);

/* Decision 24: nothing that could be guessed on is shown to a server nobody vouches for, whoever it claims to
 * be; options and pins vouch. */
SP_MUST bool login_policy(const struct login *l, struct sp_span host, struct client_policy *out,
                          enum sec_old_mit *old_mit, struct sp_err *e);

void login_print_step(const cJSON *step, int number);
/* Carries requests until the engine is done. */
SP_MUST bool login_exchange(struct login *l, struct client *cl, struct client_action *act, struct sp_err *e);

/* ---- route.c: to a KDC ---- */
/* "host", "host:port", "192.0.2.1:88", "[2001:db8::1]:88", "2001:db8::1"; usual: the port when none is there,
 * "" when one must be. */
SP_MUST bool login_split(const char *text, const char *usual, char host[256], char port[8], struct sp_err *e);
SP_MUST bool login_carry(struct login *l, struct sp_span realm, struct sp_span request, struct sp_span *reply,
                         struct sp_err *e);
/* The realm of the local daemon, in l->mem. */
SP_MUST bool login_local_realm(struct login *l, struct sp_span *realm, struct sp_err *e);

/* ---- via.c: through a service that speaks HTTP ---- */
SP_MUST bool login_via(struct login *l, const char *url, struct krb_ccache *out, struct sp_err *e);

#endif
