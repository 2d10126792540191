/* SPDX-License-Identifier: MIT */
/* libsallyport: Kerberos in-band authentication as a library without I/O. IAKERB, SPNEGO and krb5 security
 * contexts (initiator and acceptor), the client's side of the AS and TGS exchanges, and a small KDC.
 *
 *     give an event to sallyport_step, do what the action says, come back with the next event
 *
 * The library opens no socket and no file, reads no clock, starts no thread and keeps no global state. The
 * caller passes the time with every event, randomness by a callback, and carries bytes any way it likes.
 * libsallyport(3) tells more; dist/examples/embed.c is a whole login in one process.
 *
 * Rules that hold for everything here
 *
 * Threads. A `struct sallyport` and all that was made from it belong to one thread at a time. Two of them
 * know nothing of each other.
 *
 * Structs. Each begins with `size`: set it to sizeof the struct and everything else to zero before filling it
 * in. Later versions append fields; zero always means "as before". A struct that is larger than the library
 * knows, with anything but zeros behind, is refused (SALLYPORT_INPUT).
 *
 * Bytes and texts. What is passed in is copied where it is needed longer than the call, unless its
 * description says otherwise. What comes out in a struct belongs to the object and lives until the next call
 * on that object. Texts are UTF-8 with a NUL, names are principals: "alice@NAS1", "HTTP/nas1.example@NAS1".
 *
 * Buffers. `void *out, size_t *n`: *n is the room in, the bytes written out. Too little room is
 * SALLYPORT_FULL; *n then says how many are needed, and nothing has changed. out may be NULL when *n is 0.
 *
 * Failure. A function that can fail returns false or NULL and fills *error, which may be NULL. Every one of
 * them can fail with SALLYPORT_INPUT (arguments or bytes are wrong), SALLYPORT_NO_MEMORY (the allocator gave
 * none; nothing has changed) and SALLYPORT_BACKEND (libcrypto or the random callback failed); other kinds are
 * named at the function. A pointer to an object may not be NULL, but for the functions whose names end with
 * _free. */
#ifndef SALLYPORT_SALLYPORT_H
#define SALLYPORT_SALLYPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SALLYPORT_API __attribute__((visibility("default")))
#define SALLYPORT_MUST __attribute__((visibility("default"), warn_unused_result))
#else
#define SALLYPORT_API
#define SALLYPORT_MUST
#endif

#define SALLYPORT_VERSION "0.1.0"

/* The version of the library that is running, "0.1.0". Never fails. */
SALLYPORT_API const char *sallyport_version(void);

/* ---- bytes, errors, numbers ---- */

struct sallyport_bytes { /* never grows */
    const void *p;
    size_t n;
};

enum sallyport_kind {
    SALLYPORT_OK,
    SALLYPORT_INPUT,     /* bytes or arguments are not what they should be */
    SALLYPORT_REFUSED,   /* understood, and refused: by us, the peer or a KDC; `code` says why */
    SALLYPORT_NOT_FOUND, /* no such name or key */
    SALLYPORT_EXISTS,    /* the name is taken */
    SALLYPORT_NO_MEMORY,
    SALLYPORT_FULL,    /* the caller's buffer is too small */
    SALLYPORT_BACKEND, /* libcrypto, or a callback, failed */
    SALLYPORT_BUG,
};

/* Codes of a refusal: positive ones are Kerberos error codes (RFC 4120 7.5.9; 85 and 86 of IAKERB), negative
 * ones are what GSS-API calls them (RFC 2743 1.2.1.1). */
enum sallyport_code {
    SALLYPORT_NO_CONTEXT = -1, /* too early, too late, or the context has failed */
    SALLYPORT_DEFECTIVE_TOKEN = -2,
    SALLYPORT_BAD_SIG = -3,
    SALLYPORT_BAD_BINDINGS = -4,
    SALLYPORT_DUPLICATE = -5,
    SALLYPORT_OLD = -6,
    SALLYPORT_UNSEQUENCED = -7,
    SALLYPORT_GAP = -8,
    SALLYPORT_EXPIRED = -9,
    SALLYPORT_NO_CRED = -10,
    SALLYPORT_BAD_MECH = -11,
    SALLYPORT_UNAUTHORIZED = -12,      /* policy, or a limit */
    SALLYPORT_ERR_PREAUTH_FAILED = 24, /* a wrong password */
    SALLYPORT_ERR_REPEAT = 34,         /* a replay */
    SALLYPORT_ERR_KDC_NOT_FOUND = 85,
    SALLYPORT_ERR_KDC_NO_RESPONSE = 86,
};

struct sallyport_error {
    size_t size;
    int32_t kind;    /* enum sallyport_kind */
    int32_t code;    /* 0: none */
    uint32_t offset; /* bytes into what was being read */
    char text[160];  /* for the administrator: never a key or a password, and not for the peer */
};
#define SALLYPORT_ERROR_INIT                                                                                 \
    {                                                                                                        \
        sizeof(struct sallyport_error), 0, 0, 0,                                                             \
        {                                                                                                    \
            0                                                                                                \
        }                                                                                                    \
    }

/* "refused", for logs; "?" for a number that is no kind. Never fails. */
SALLYPORT_API const char *sallyport_kind_name(int32_t kind);

/* ---- the library ---- */

struct sallyport;

struct sallyport_options {
    size_t size;
    void *user; /* handed to the callbacks */
    /* Fills p with n unpredictable bytes, for keys and nonces; false when it cannot, and then what needed
     * them fails (SALLYPORT_BACKEND) and nothing made from them leaves the library. Needed. */
    bool (*random)(void *user, void *p, size_t n);
    /* Memory of all objects, aligned for any type; NULL when there is none. Both or neither; neither: malloc,
     * free. libcrypto takes its own memory by its own ways (CRYPTO_set_mem_functions). */
    void *(*allocate)(void *user, size_t n);
    void (*release)(void *user, void *p);
};

/* NULL on failure. Everything made from it has to be freed first. */
SALLYPORT_MUST struct sallyport *sallyport_new(const struct sallyport_options *options,
                                               struct sallyport_error *error);
SALLYPORT_API void sallyport_free(struct sallyport *lib); /* NULL allowed */

/* ---- the loop ---- */

/* An initiator, an acceptor or a login, from its first event to its end. Takes 1.1 MiB (a login 0.3), of
 * which a handshake touches about 200 KiB as initiator and 10 KiB as acceptor; one that came from
 * sallyport_import takes 5 KiB. Keys and passwords are wiped as soon as they are not needed any more, the
 * rest when it is freed. */
struct sallyport_context;

enum sallyport_event_kind {
    SALLYPORT_START,   /* the first event of an initiator and of a login. For an acceptor: speak first, as SMB
                          servers   do (NegTokenInit2, MS-SPNG 2.2.1) */
    SALLYPORT_TOKEN,   /* `bytes` came from the peer */
    SALLYPORT_CARRIED, /* `bytes` are what the KDC answered */
    SALLYPORT_NOT_CARRIED, /* nothing came; `code` 85 (no KDC of that realm is known) or 86 (none answered in
                              time: wait no longer than 5 s) */
};
struct sallyport_event {
    size_t size;
    int32_t kind; /* enum sallyport_event_kind */
    int32_t code;
    struct sallyport_bytes bytes; /* borrowed for the call */
    int64_t wall_us;              /* microseconds since 1970, UTC */
    int64_t mono_us;              /* microseconds of a clock that is never set */
};

enum sallyport_do {
    SALLYPORT_SEND,  /* send `token` to the peer, then wait for its token */
    SALLYPORT_CARRY, /* carry `message` to a KDC of `realm`, whole and unchanged (RFC 4120 7.2.2 says how on
                        TCP), then step with SALLYPORT_CARRIED or SALLYPORT_NOT_CARRIED */
    SALLYPORT_DONE,  /* established: `token`, when not empty, is still to be sent; peer, key and flags are
                        valid */
    SALLYPORT_STOP,  /* refused: `why`; `token`, when not empty, tells the peer */
    SALLYPORT_CARRY_CHANGE, /* only of a sallyport_change: as SALLYPORT_CARRY, but to the password server of
                               `realm` (port 464) */
};
struct sallyport_action {
    size_t size;
    int32_t what; /* enum sallyport_do */
    struct sallyport_bytes token;
    struct sallyport_bytes realm, message;
    const char *peer;           /* DONE: the authenticated principal of the other side; a login: its own */
    struct sallyport_bytes key; /* DONE: as sallyport_session_key; a login has none */
    int32_t key_type;
    uint32_t flags;                    /* DONE: enum sallyport_flag, as negotiated */
    const struct sallyport_error *why; /* STOP */
};

/* One step; returns action->what. RFC 4178 (SPNEGO), RFC 4121 4.1 (krb5), draft-ietf-kitten-iakerb-03
 * (IAKERB), RFC 4120 3.1, 3.3 and RFC 9588 (login). After SALLYPORT_STOP the context has failed for good,
 * with one exception: an event that is not due is refused with code SALLYPORT_NO_CONTEXT and changes nothing.
 * At most 20 messages from the client, 256 KiB of tokens and 30 s from the first to the last. An `action` or
 * `event` of a wrong size: SALLYPORT_STOP, nothing is written, nothing changes. */
SALLYPORT_MUST enum sallyport_do sallyport_step(struct sallyport_context *context,
                                                const struct sallyport_event *event,
                                                struct sallyport_action *action);
SALLYPORT_API void sallyport_context_free(struct sallyport_context *context); /* wipes; NULL allowed */

/* ---- what both sides may want ---- */

enum sallyport_mech {                        /* 0: none */
                      SALLYPORT_IAKERB = 1,  /* 1.3.6.1.5.2.5 */
                      SALLYPORT_KRB5 = 2,    /* 1.2.840.113554.1.2.2 */
                      SALLYPORT_MS_KRB5 = 3, /* 1.2.840.48018.1.2.2, as Windows offers it */
};
enum sallyport_flag {                        /* RFC 2743 1.2.1, RFC 4121 4.1.1.1 */
                      SALLYPORT_DELEG = 0x1, /* hand over a forwarded TGT, if one can be had */
                      SALLYPORT_MUTUAL = 0x2,
                      SALLYPORT_REPLAY = 0x4,
                      SALLYPORT_SEQUENCE = 0x8,
                      SALLYPORT_CONF = 0x10,
                      SALLYPORT_INTEG = 0x20,
                      SALLYPORT_CHANNEL_BOUND = 0x800,
                      SALLYPORT_DCE = 0x1000, /* RFC 4757 7.1 */
                      SALLYPORT_IDENTIFY = 0x2000,
                      SALLYPORT_DELEG_POLICY =
                          0x8000, /* RFC 5896: only where the KDC says so of the target */
};

/* RFC 2743 1.1.6, RFC 4121 4.1.1.2. TLS: `application` is "tls-server-end-point:" and the hash (RFC 5929),
 * all else 0. */
struct sallyport_bindings {
    size_t size;
    uint32_t initiator_type, acceptor_type;
    struct sallyport_bytes initiator, acceptor, application;
};

/* ---- initiator ---- */

enum sallyport_initiator_option {
    SALLYPORT_SPNEGO = 1, /* wrap the mechanisms in SPNEGO; without it there is exactly one mechanism */
    SALLYPORT_TIMESTAMP =
        2, /* an encrypted timestamp may be shown: who sees it can guess the password offline. Never
              for servers that nobody vouches for; without it only SPAKE is used */
    SALLYPORT_DISCOVER = 4,      /* the client's name has no realm: ask the acceptor for its own first */
    SALLYPORT_SERVICE_BY_AS = 8, /* the service's ticket straight from the AS exchange: a round trip less, and
                                    no TGT; for KDCs of this library */
    SALLYPORT_OLD_MIT = 16,      /* IAKERB as MIT krb5 1.9 to 1.21 speaks it */
};
struct sallyport_initiator {
    size_t size;
    uint32_t options;   /* enum sallyport_initiator_option */
    uint32_t flags;     /* enum sallyport_flag: what is wanted */
    int32_t mechs[4];   /* enum sallyport_mech in order of preference; all 0: SALLYPORT_IAKERB */
    const char *client; /* who; NULL with a ccache or a keytab: its principal. Without a realm the acceptor's
                           is taken */
    const char *target; /* the service: "host/nas1", "HTTP/nas1.example@REALM" */
    const char *target_host; /* as the user named the server; NULL: the target's second component */
    /* With what: a ticket for the target or a TGT in the ccache, else the keytab, else the password. p NULL:
     * none. */
    struct sallyport_bytes password;
    struct sallyport_bytes keytab; /* the client's long-term keys, as MIT's file format 0x0502 */
    struct sallyport_bytes ccache; /* as MIT's file format 4 */
    struct sallyport_bytes
        forwarded; /* with SALLYPORT_DELEG or SALLYPORT_DELEG_POLICY: a ccache whose first ticket is the
                      forwarded TGT. p NULL: with SALLYPORT_IAKERB one is fetched through the acceptor, which
                      costs a round trip; the facts' flags tell whether one was handed over */
    struct sallyport_bytes learnt; /* from sallyport_learnt of an earlier login of this account; n 0: none */
    const struct sallyport_bindings *bindings; /* NULL: none */
};
/* SALLYPORT_INPUT: a name, keytab or ccache cannot be read, or the wishes contradict each other. NULL on
 * failure. */
SALLYPORT_MUST struct sallyport_context *sallyport_initiator_new(struct sallyport *lib,
                                                                 const struct sallyport_initiator *options,
                                                                 struct sallyport_error *error);

/* ---- acceptor ---- */

/* The keys of services, and the memory of what they have seen: the same authenticator is not taken twice (RFC
 * 4120 3.2.3). Make one and use it for all acceptors that have these keys. */
struct sallyport_keytab;

struct sallyport_keytab_options {
    size_t size;
    struct sallyport_bytes keytab; /* MIT's file format 0x0502 */
    uint32_t replay_slots; /* authenticators remembered at a time, 24 bytes each; rounded up to a power of
                              two; 0: 16384. When there is no room for another, it is refused: nothing is
                              forgotten early */
    /* Instead of that memory, for services of several processes: true when these bytes are here for the first
     * time in keep_s seconds. Called at most once a context. */
    bool (*first_seen)(void *user, struct sallyport_bytes authenticator, int64_t now_s, int32_t keep_s);
    void *user;
};
/* SALLYPORT_INPUT: not a keytab of that format; `offset` says where. Takes 400 KiB besides the keys, unless
 * replay_slots or first_seen say otherwise. What is derived from the keys stays with
 * `lib` until that is freed. NULL on failure. */
SALLYPORT_MUST struct sallyport_keytab *sallyport_keytab_new(struct sallyport *lib,
                                                             const struct sallyport_keytab_options *options,
                                                             struct sallyport_error *error);
/* Not before the acceptors that use it. NULL allowed. */
SALLYPORT_API void sallyport_keytab_free(struct sallyport_keytab *keytab);

enum sallyport_acceptor_option {
    SALLYPORT_SPNEGO_ONLY = 1,      /* refuse bare mechanism tokens */
    SALLYPORT_REQUIRE_BINDINGS = 2, /* refuse initiators that saw no channel */
    SALLYPORT_FINISHED_OPTIONAL =
        4,                        /* take IAKERB without the proof over its messages; sallyport_facts tells */
    SALLYPORT_ACCEPT_OLD_MIT = 8, /* take IAKERB as MIT krb5 1.9 to 1.21 speaks it */
    SALLYPORT_MIC_WHEN_SENT = 16, /* SPNEGO: a missing mechListMIC is no failure (RFC 4178 5 wants it) */
    SALLYPORT_KEEP_E_TEXT = 32,   /* pass on what a KDC's errors say in words */
    SALLYPORT_REFUSE_OWN =
        64, /* refuse clients whose keys are in the keytab, as whom this host itself logs in:
               for peers that are elsewhere, who send back what they made this host say */
};
struct sallyport_acceptor {
    size_t size;
    uint32_t options;                /* enum sallyport_acceptor_option */
    struct sallyport_keytab *keytab; /* must live as long as the context */
    const char *service;             /* only tickets for this principal; NULL: for any in the keytab */
    const char *realm;               /* told to initiators that ask for it; NULL: none */
    const char *const *realms;       /* whose KDCs may be asked besides; realms_count of them */
    size_t realms_count;
    const struct sallyport_bindings *bindings; /* NULL: the initiator's are not looked at */
    int32_t skew_s;                            /* how far clocks may be apart; 0: 300 */
};
/* One context for one client. Its first event is the client's token. SALLYPORT_INPUT: no keytab, or bindings
 * are required and none are given. NULL on failure. */
SALLYPORT_MUST struct sallyport_context *sallyport_acceptor_new(struct sallyport *lib,
                                                                const struct sallyport_acceptor *options,
                                                                struct sallyport_error *error);

/* ---- login: the AS and TGS exchanges alone, for who reaches a KDC ---- */

enum sallyport_goal {
    SALLYPORT_GET_TGT,       /* with a password or keys */
    SALLYPORT_GET_SERVICE,   /* a ticket for `service`, by whatever exchanges it takes, referrals included */
    SALLYPORT_GET_FORWARDED, /* a forwarded TGT, from the ccache's */
    SALLYPORT_GET_RENEWED,   /* the ccache's TGT, renewed */
};
enum sallyport_ticket_option { /* RFC 4120 5.4.1 */
                               SALLYPORT_FORWARDABLE = 1,
                               SALLYPORT_PROXIABLE = 2,
                               SALLYPORT_RENEWABLE = 4,
};
struct sallyport_login {
    size_t size;
    int32_t goal;     /* enum sallyport_goal */
    uint32_t options; /* SALLYPORT_TIMESTAMP, SALLYPORT_SERVICE_BY_AS */
    uint32_t ticket_options;
    const char *client, *service;
    struct sallyport_bytes password, keytab, ccache; /* exactly one; see sallyport_initiator */
    struct sallyport_bytes learnt;
    int64_t life_s, renew_s; /* 0: as long as the KDC gives */
};
/* Its events are SALLYPORT_START, _CARRIED and _NOT_CARRIED, its actions SALLYPORT_CARRY, _DONE and _STOP. */
SALLYPORT_MUST struct sallyport_context *sallyport_login_new(struct sallyport *lib,
                                                             const struct sallyport_login *options,
                                                             struct sallyport_error *error);

/* ---- results: at any time; SALLYPORT_REFUSED, code SALLYPORT_NO_CONTEXT, when it is too early ---- */

/* Principals as texts; "" before SALLYPORT_DONE. They live as long as the context. */
SALLYPORT_API const char *sallyport_client_name(const struct sallyport_context *context);
SALLYPORT_API const char *sallyport_service_name(const struct sallyport_context *context);

struct sallyport_facts {
    size_t size;
    int32_t mech;         /* enum sallyport_mech; 0 while open */
    uint32_t flags;       /* enum sallyport_flag; 0 while open */
    int64_t end_s;        /* the ticket's end, seconds since 1970; 0 while open */
    uint32_t round_trips; /* so far */
    bool established, old_mit, no_finished,
        windows;                  /* which IAKERB the peer speaks; windows: header-flags were seen */
    struct sallyport_bytes realm; /* whose KDC was asked through the peer */
};
/* False only for a struct of a wrong size. */
SALLYPORT_API bool sallyport_tell(struct sallyport_context *context, struct sallyport_facts *facts);

/* The context's key, as SMB and SASL take it: acceptor's subkey, else initiator's, else the ticket's. At most
 * 32 bytes. *type: RFC 3961's number. */
SALLYPORT_MUST bool sallyport_session_key(struct sallyport_context *context, void *out, size_t *n,
                                          int32_t *type, struct sallyport_error *error);
/* The tickets that an initiator or a login got, as a ccache of format 4. SALLYPORT_NOT_FOUND: none. */
SALLYPORT_MUST bool sallyport_credentials(struct sallyport_context *context, void *out, size_t *n,
                                          struct sallyport_error *error);
/* What the initiator delegated to this acceptor (RFC 4121 4.1.1), likewise. SALLYPORT_NOT_FOUND: nothing. */
SALLYPORT_MUST bool sallyport_delegated(struct sallyport_context *context, void *out, size_t *n,
                                        struct sallyport_error *error);
/* How the account's key is made, for `learnt` of the next login: opaque, not secret. SALLYPORT_NOT_FOUND:
 * nothing was learnt. */
SALLYPORT_MUST bool sallyport_learnt(struct sallyport_context *context, void *out, size_t *n,
                                     struct sallyport_error *error);

/* ---- per-message protection, RFC 4121 4.2; needs an established context ---- */

#define SALLYPORT_MIC_MAX 40   /* bytes of a MIC at most */
#define SALLYPORT_WRAP_MORE 72 /* bytes of a wrapped message beyond its text at most */

enum sallyport_wrap { SALLYPORT_SIGNED, SALLYPORT_SEALED };

/* A message of the text, signed or sealed (enum sallyport_wrap), with its place in the sequence: RFC
 * 4121 4.2.6.2. text.n
 * + SALLYPORT_WRAP_MORE bytes are room enough. out may not overlap the text. SALLYPORT_REFUSED,
 * SALLYPORT_NO_CONTEXT: not established. */
SALLYPORT_MUST bool sallyport_wrap(struct sallyport_context *context, int32_t how,
                                   struct sallyport_bytes text, void *out, size_t *n,
                                   struct sallyport_error *error);
/* out: room for token.n bytes. Failure with code SALLYPORT_DUPLICATE, _OLD, _UNSEQUENCED or _GAP: the text is
 * genuine and is there, but not the one that is due; every other failure leaves *n 0. *how may be NULL. */
SALLYPORT_MUST bool sallyport_unwrap(struct sallyport_context *context, struct sallyport_bytes token,
                                     void *out, size_t *n, int32_t *how, struct sallyport_error *error);
/* The longest text whose wrapped form fits in `room` bytes; 0 when none does, or there is no context. */
SALLYPORT_API size_t sallyport_wrap_limit(struct sallyport_context *context, int32_t how, size_t room);
/* A MIC, which travels beside its text: RFC 4121 4.2.6.1. SALLYPORT_MIC_MAX bytes are room enough. */
SALLYPORT_MUST bool sallyport_sign(struct sallyport_context *context, struct sallyport_bytes text, void *mic,
                                   size_t *n, struct sallyport_error *error);
/* Codes as sallyport_unwrap's; SALLYPORT_BAD_SIG or 31: not genuine. */
SALLYPORT_MUST bool sallyport_verify(struct sallyport_context *context, struct sallyport_bytes text,
                                     struct sallyport_bytes mic, struct sallyport_error *error);

enum sallyport_prf { SALLYPORT_PRF_FULL, SALLYPORT_PRF_PARTIAL };
/* RFC 4401, RFC 4402: `want` bytes that both sides can make and nobody else; in: at most 16384 bytes. */
SALLYPORT_MUST bool sallyport_prf(struct sallyport_context *context, int32_t which, struct sallyport_bytes in,
                                  void *out, size_t want, struct sallyport_error *error);

#define SALLYPORT_EXPORT_MAX 4096
/* An established context as bytes, for another process or to be kept small: they hold keys in the clear. The
 * exported one can do nothing more but be freed. */
SALLYPORT_MUST bool sallyport_export(struct sallyport_context *context, void *out, size_t *n,
                                     struct sallyport_error *error);
/* The context of exported bytes, without the handshake's: messages, keys and names go on, steps are refused.
 * SALLYPORT_INPUT: not such bytes. The bytes are believed: take them from nobody else. NULL on failure. */
SALLYPORT_MUST struct sallyport_context *sallyport_import(struct sallyport *lib, struct sallyport_bytes bytes,
                                                          struct sallyport_error *error);

/* ---- keys ---- */

enum sallyport_enctype { /* RFC 3962, RFC 8009 */
                         SALLYPORT_AES128_SHA1 = 17,
                         SALLYPORT_AES256_SHA1 = 18,
                         SALLYPORT_AES128_SHA256 = 19,
                         SALLYPORT_AES256_SHA384 = 20,
};
/* A password's key (RFC 3962 4, RFC 8009 4): 16 bytes of types 17 and 19, 32 of 18 and 20. iterations 0: the
 * type's own. At most 1,000,000; slow on purpose. SALLYPORT_REFUSED, code 14: another type. */
struct sallyport_recipe {
    size_t size;
    int32_t type; /* enum sallyport_enctype */
    uint32_t iterations;
    struct sallyport_bytes password, salt; /* the usual salt is the realm and the name's components in one */
};
SALLYPORT_MUST bool sallyport_string_to_key(struct sallyport *lib, const struct sallyport_recipe *recipe,
                                            void *out, size_t *n, struct sallyport_error *error);

/* ---- a KDC of one realm: AS and TGS exchanges (RFC 4120 3.1, 3.3), SPAKE (RFC 9588) ---- */

struct sallyport_kdc;

#define SALLYPORT_RECORD_MAX 16384
struct sallyport_record { /* made by the library, filled in by the caller; grows without `size` */
    uint64_t id;
    struct sallyport_bytes
        bytes; /* from sallyport_kdc_make_record; must stay until sallyport_kdc_step is back */
};
enum sallyport_kdc_option {
    SALLYPORT_KDC_NO_TIMESTAMP = 1,    /* SPAKE only */
    SALLYPORT_KDC_FORWARDABLE = 2,     /* tickets may be forwarded */
    SALLYPORT_KDC_REVEAL_UNKNOWN = 4,  /* tell that a user is unknown */
    SALLYPORT_KDC_NO_GUESS_LIMITS = 8, /* wrong passwords cost no waiting: for tests */
};
struct sallyport_kdc_options {
    size_t size;
    uint32_t options;  /* enum sallyport_kdc_option */
    const char *realm; /* needed; "NAS1" */
    /* 32 bytes that seal the records and hide which names exist: keep them secret, and the same for the same
     * records. NULL: random, for accounts that live no longer than this object. */
    const void *secret;
    /* Where the accounts are. name: in the form that sallyport_kdc_lookup_name gives; NULL: by id. 1: found;
     * 0: none; negative: it cannot be said. NULL: in memory, as sallyport_kdc_add puts them there; krbtgt's
     * key is then made anew. With a callback the account krbtgt/REALM has to be among the records. */
    int (*find)(void *user, const char *name, uint64_t id, struct sallyport_record *record);
    void *user;
    int32_t ticket_life_s, service_life_s; /* 0: 36000, 900 */
    int32_t renew_life_s;                  /* 0: nothing is renewable */
    uint32_t iterations;                   /* PBKDF2 count of new passwords; 0: each type's own */
};
/* Takes 950 KiB, and some 350 bytes for each account in memory. NULL on failure. */
SALLYPORT_MUST struct sallyport_kdc *sallyport_kdc_new(struct sallyport *lib,
                                                       const struct sallyport_kdc_options *options,
                                                       struct sallyport_error *error);
SALLYPORT_API void sallyport_kdc_free(struct sallyport_kdc *kdc); /* wipes; NULL allowed */

enum sallyport_account_option {
    SALLYPORT_ACCOUNT_DISABLED = 1,
    SALLYPORT_ACCOUNT_RENEWABLE = 2,
    SALLYPORT_ACCOUNT_FORWARDABLE = 4,
};
struct sallyport_account {
    size_t size;
    uint64_t id; /* never used for another account; 0: the next, which only sallyport_kdc_add can know */
    uint64_t generation;             /* raise it with each change of password: older tickets end; 0: 1 */
    uint32_t options;                /* enum sallyport_account_option */
    uint32_t kvno;                   /* 0: 1 */
    const char *name;                /* a user, or a service as "host/nas1", or "krbtgt/REALM" */
    struct sallyport_bytes password; /* p NULL: random keys, for services and krbtgt */
    int64_t expires_s;               /* seconds since 1970; 0: never */
};
/* Into the memory of a KDC that was made without `find`. SALLYPORT_EXISTS: the name or the id is taken. */
SALLYPORT_MUST bool sallyport_kdc_add(struct sallyport_kdc *kdc, const struct sallyport_account *account,
                                      struct sallyport_error *error);
/* The sealed record of an account, to be stored by the caller and given back by `find`. At most
 * SALLYPORT_RECORD_MAX bytes. */
SALLYPORT_MUST bool sallyport_kdc_make_record(struct sallyport_kdc *kdc,
                                              const struct sallyport_account *account, void *out, size_t *n,
                                              struct sallyport_error *error);
/* The one form under which a name is looked up, as a text with its NUL, which *n counts: at most 1025 bytes.
 */
SALLYPORT_MUST bool sallyport_kdc_lookup_name(struct sallyport_kdc *kdc, const char *name, char *out,
                                              size_t *n, struct sallyport_error *error);
/* A service's keys as a keytab. SALLYPORT_NOT_FOUND: no such account. */
SALLYPORT_MUST bool sallyport_kdc_keytab(struct sallyport_kdc *kdc, const char *service, void *out, size_t *n,
                                         struct sallyport_error *error);

struct sallyport_request {
    size_t size;
    struct sallyport_bytes bytes; /* an AS-REQ or TGS-REQ, at most 65536; borrowed for the call */
    struct sallyport_bytes
        source;    /* who asks, as far as wrong passwords are counted: an address, at most 23 bytes */
    bool datagram; /* long replies become KRB_ERR_RESPONSE_TOO_BIG (52) */
    bool local;    /* a source of this machine: ten times the tries */
    int64_t wall_us, mono_us; /* as in sallyport_event */
};
struct sallyport_answer {
    size_t size;
    struct sallyport_bytes reply; /* n 0: the bytes were no Kerberos message, and nothing is to be sent */
    int32_t code;                 /* what the client was told; 0: a ticket */
    int32_t inner_code;           /* what really happened */
    struct sallyport_bytes client, service; /* texts without NUL; n 0: unknown */
    const char *event;                      /* "as", "tgs", "malformed" */
    const char *preauth;                    /* "none", "timestamp", "spake" */
    const char *text;                       /* the reason, for the administrator */
    uint64_t account_id;                    /* 0: none */
};
/* One request. True whenever there is an answer to be read, which may be a refusal; false: SALLYPORT_INPUT
 * for structs of a wrong size or a source that is too long, SALLYPORT_BACKEND when randomness failed. */
SALLYPORT_MUST bool sallyport_kdc_step(struct sallyport_kdc *kdc, const struct sallyport_request *request,
                                       struct sallyport_answer *answer, struct sallyport_error *error);

/* ---- messages in pieces, which stay where the caller has them: MS-KILE 3.4.5.4, gss_wrap_iov of MIT ---- */

enum sallyport_piece_kind {
    SALLYPORT_PIECE_HEADER, /* one; with a TRAILER it holds what precedes the data, else all that is added */
    SALLYPORT_PIECE_DATA,   /* sealed or signed in place */
    SALLYPORT_PIECE_SIGN_ONLY, /* covered, and not sent with the message */
    SALLYPORT_PIECE_PADDING,   /* always becomes empty */
    SALLYPORT_PIECE_TRAILER,   /* one or none */
    SALLYPORT_PIECE_STREAM,    /* unwrapping: a whole message, as sallyport_wrap makes it; with one DATA */
};
struct sallyport_piece { /* never grows */
    int32_t kind;        /* enum sallyport_piece_kind */
    void *p;
    size_t n; /* room, and afterwards what is used of it */
};
#define SALLYPORT_PIECES_MAX 64

/* The n that HEADER and TRAILER need for a message of such pieces; their p is not looked at. Failures as of
 * sallyport_wrap_pieces, but for SALLYPORT_FULL. */
SALLYPORT_MUST bool sallyport_piece_lengths(struct sallyport_context *context, int32_t how,
                                            struct sallyport_piece *pieces, size_t count,
                                            struct sallyport_error *error);
/* Signs or seals DATA where it lies and fills in HEADER and TRAILER. They may lie apart or side by side, and
 * may not overlap. SALLYPORT_INPUT: no HEADER, a kind twice that is there once, or a STREAM. SALLYPORT_FULL:
 * HEADER or TRAILER is too short; nothing has changed. SALLYPORT_BACKEND: DATA is wiped. SALLYPORT_REFUSED,
 * SALLYPORT_NO_CONTEXT: not established. */
SALLYPORT_MUST bool sallyport_wrap_pieces(struct sallyport_context *context, int32_t how,
                                          struct sallyport_piece *pieces, size_t count,
                                          struct sallyport_error *error);
/* The other way: HEADER, DATA and TRAILER as long as the peer's were, or a STREAM and one DATA, whose p is
 * set to the text inside the STREAM. Codes of a failure as of sallyport_unwrap: after SALLYPORT_DUPLICATE,
 * _OLD, _UNSEQUENCED and _GAP the data is genuine and is there; every other failure leaves DATA as it came.
 * *how may be NULL. */
SALLYPORT_MUST bool sallyport_unwrap_pieces(struct sallyport_context *context, struct sallyport_piece *pieces,
                                            size_t count, int32_t *how, struct sallyport_error *error);

/* ---- changing a password, RFC 3244 ---- */

struct sallyport_change {
    size_t size;
    uint32_t options;                        /* SALLYPORT_TIMESTAMP */
    const char *client;                      /* who asks, with the realm */
    struct sallyport_bytes password, keytab; /* exactly one: what proves it now */
    struct sallyport_bytes learnt;           /* as of sallyport_initiator */
    struct sallyport_bytes next;             /* the new password, UTF-8, 1 to 1024 bytes */
    const char *target;                      /* whose password, for administrators; NULL: the client's own */
};
/* A login for that one purpose, and the change. Its events are those of a login; its actions too, and
 * SALLYPORT_CARRY_CHANGE before SALLYPORT_DONE. Of a password that is refused, `why` has the server's words,
 * and code 12 when a policy is the reason. NULL on failure. */
SALLYPORT_MUST struct sallyport_context *sallyport_change_new(struct sallyport *lib,
                                                              const struct sallyport_change *options,
                                                              struct sallyport_error *error);

#ifdef __cplusplus
}
#endif
#endif
