/* SPDX-License-Identifier: MIT */
/* One instance of Sallyport on a disk: paths, configuration, the store with its master key, and every
 * operation an administrator has. The keeper executes them while it runs; otherwise the command does
 * (decision 4). Both through admin_execute, so that there is one meaning of each. This room exists so that
 * sallyportd and sallyport share it without knowing each other. */
#ifndef SP_ADMIN_ADMIN_H
#define SP_ADMIN_ADMIN_H

#include <cjson/cJSON.h>

#include "kdc/kdc.h"
#include "store/lmdb/lmdb.h"

/* ---- where things are ---- */
struct admin_paths { /* absolute; root is "" for the host itself. SALLYPORT_ROOT stands in for --root */
    char root[4096];
    char config[4200];     /* etc/sallyport/sallyport.conf */
    char config_dir[4200]; /* etc/sallyport/conf.d */
    char state[4200];      /* var/lib/sallyport */
    char run[4200];        /* run/sallyport */
    char log[4200];        /* var/log/sallyport */
};
SP_MUST bool admin_find_paths(const char *root, struct admin_paths *out, struct sp_err *e);
/* "`sallyport --root DIR init`" for advice: a command for this instance as it can be typed. */
struct admin_command {
    char text[128];
};
struct admin_command admin_command(const struct admin_paths *p, const char *verb);

/* ---- configuration: INI; sallyport.conf, then conf.d in alphabetical order ----
 * Sections and keys: see admin/config.c's table, sallyport.conf(5) is its prose. SP_EINPUT with "file:line:
 * what is wrong, what would be right". An unknown section or key is an error too, with the nearest known
 * name. */
#define ADMIN_LISTEN_MAX 32
struct admin_config {
    struct kdc_config kdc; /* realm, name_secret are filled from the store's meta by admin_open */
    char aliases[18][256]; /* [realm] aliases, and after admin_open this host's short name and FQDN */
    uint32_t alias_count;
    struct sp_span
        alias_spans[18]; /* what kdc.realm.aliases points to: so this struct is never copied as it is */
    bool salt_set;       /* [kdc] salt is in a file; else the store's own rule holds */
    char listen[ADMIN_LISTEN_MAX]
               [64]; /* [kdc] listen = ADDR:PORT ..., default 127.0.0.1:88 [::1]:88; "none" */
    uint32_t listen_count;
    char listen_kpasswd[ADMIN_LISTEN_MAX][64]; /* default port 464 */
    uint32_t listen_kpasswd_count;
    uint32_t workers;    /* [daemon] workers, 0: one per core */
    char user[64];       /* [daemon] user = sallyport */
    char log_target[16]; /* [log] target = file | journal | stderr */
    uint32_t log_flood;  /* records a second and kind before they are counted only */
    uint32_t udp_reply_max;
    uint32_t tcp_idle_s, tcp_max, tcp_per_source;
    int64_t krbtgt_rotate_s;     /* [keys] krbtgt-rotate = 24h; 0: never */
    uint32_t password_min;       /* [policy] min-length */
    char common_passwords[4096]; /* [policy] common-passwords = FILE, besides the built-in list */
    int64_t password_max_age_s;  /* [policy] max-age, 0: never */
    bool courier_listen;         /* [courier] listen */
    uint32_t courier_attest[32]; /* [courier] attest: uids whose word on a client's address counts */
    uint32_t courier_attest_count;
    uint32_t courier_max;                   /* [courier] max-connections */
    char courier_kdc[ADMIN_LISTEN_MAX][64]; /* [courier] listen-kdc: loopback doors for unmodified programs */
    uint32_t courier_kdc_count;
    char courier_kpasswd[ADMIN_LISTEN_MAX][64]; /* [courier] listen-kpasswd */
    uint32_t courier_kpasswd_count;
    uint32_t courier_all_ms, courier_rung_ms, courier_hedge_ms, courier_pin_s;
    uint32_t courier_in_flight, courier_per_source;
    char courier_resolver[256];              /* [courier] resolver: name servers instead of the system's */
    char courier_ca[512];                    /* [courier] ca-file; empty: the system's */
    char courier_certificate[512];           /* [courier] client-certificate, with its key behind it */
    char courier_proxy[256];                 /* [courier] http-proxy */
    char relay_listen[ADMIN_LISTEN_MAX][64]; /* [relay] listen, default none */
    uint32_t relay_listen_count;
    char relay_plain[256]; /* [relay] plain-listen: for a proxy in front */
    char relay_certificate[512], relay_key[512], relay_client_ca[512];
    char relay_proxies[512]; /* [relay] trusted-proxies */
    char relay_realms[2048]; /* [relay] realms */
    uint32_t relay_auth;     /* [relay] auth: ADMIN_AUTH_* of admin/realms.h */
    bool relay_kpasswd;
    uint32_t relay_open;                  /* [relay] open-per-second: of one source that showed nothing */
    uint32_t relay_max, relay_per_source; /* connections */
    char metrics_listen[256];
    char iakerb_old_mit[16];     /* [iakerb] old-mit = off | accept */
    char iakerb_finished[16];    /* [iakerb] finished = required | optional */
    char iakerb_realms[16][256]; /* [iakerb] realms: beside the local one */
    uint32_t iakerb_realm_count;
    char client_timestamp[1024]; /* [client] allow-timestamp; host/pins.c reads it in commands and plugins */
    char client_old_mit[1024];   /* [client] old-mit; the same */
};
SP_MUST bool admin_read_config(const struct admin_paths *p, struct admin_config *out, struct sp_err *e);
/* Every key with its value and where it comes from (file:line or "default"), as
 * {"settings":[{"section","key","value","source"}]}. */
SP_MUST bool admin_show_config(const struct admin_paths *p, cJSON **out, struct sp_err *e);

/* Letters to insert, remove or change between two short words (Levenshtein): what was probably meant. */
unsigned admin_word_distance(const char *a, const char *b);

/* ---- an open instance ---- */
struct admin {
    struct admin_paths paths;
    struct admin_config config;
    char realm[256];
    uint8_t master[32]; /* the keeper hands it to workers */
    struct crypto *crypto;
    struct sp_rng *rng;
    struct lmdb_store *store;
    int lock_fd;                /* var/lib/sallyport/lock, held exclusively; -1 for readers */
    char master_key_source[64]; /* "file", "credential": for status */
    struct sp_arena mem;        /* of operations */
    struct sp_arena each;       /* of walks over all accounts */
    struct kdc_shared *shared;  /* the keeper's block; NULL in commands */
};
enum admin_mode { ADMIN_READ, ADMIN_WRITE };

/* ADMIN_WRITE takes the lock; held by somebody else: SP_EREFUSED with proto ADMIN_BUSY (then there is a
 * keeper: use admin.sock). No instance there: SP_ENOTFOUND with what to do ("run sallyport init"). */
#define ADMIN_BUSY 1
#define ADMIN_NOT_PERMITTED                                                                                  \
    2 /* proto of SP_EREFUSED: file permissions, or admin.sock says no (exit status 5) */
#define ADMIN_NO_DAEMON                                                                                      \
    3 /* proto of SP_EBACKEND: the lock is held, but nobody answers at admin.sock (exit status 6) */
#define ADMIN_SERVED                                                                                         \
    4 /* like ADMIN_BUSY, and the holder is a sallyportd that has not begun to end: waiting is no use */
int admin_exit_status(const struct sp_err *e); /* of both programs (decision 21) */
SP_MUST bool admin_open(const struct admin_paths *p, enum admin_mode mode, struct admin *a, struct sp_err *e);
/* The same with a backend that is there already, taken over also on failure; NULL: makes one. */
SP_MUST bool admin_open_with(const struct admin_paths *p, enum admin_mode mode, struct crypto *c,
                             struct admin *a, struct sp_err *e);
/* Reads the configuration again; on failure the old one stays. Pointers into a->config stay good. */
SP_MUST bool admin_reload(struct admin *a, struct sp_err *e);
/* From here on whoever asks sees a lock that will be free soon. */
void admin_announce_end(const struct admin *a);
void admin_close(struct admin *a); /* wipes, unlocks; safe on a zeroed one */

/* Randomness of the operating system, drawn 4 KiB at a time; ends the process when there is none. Refills
 * after fork. */
struct sp_rng *admin_system_rng(void);
/* wall and monotonic clock now, with that generator */
struct sp_env admin_env(void);
int64_t admin_mono_us(void); /* the half of it that says how long something took */

/* Makes realm, directories, master key, store, krbtgt and kadmin/changepw; idempotent (a second run with the
 * same realm reports what is there; with another realm: SP_EEXIST). args as the operation "init" below. */
SP_MUST bool admin_init(const struct admin_paths *p, const cJSON *args, cJSON **out, struct sp_err *e);

/* ---- operations: {"op":"account.add", ...args} -> result object ----
 * op               args                                                                    result
 * init             realm?, salt? ("default"|"random")                                      realm, created
 * (bool), paths, client_hint{...} account.add      name, password, salt? (default|random|STRING), aliases[]?,
 * must_change?, no_expiry?, admin?, expires? (unix s), comment?, enctypes[]?   account{} account.passwd name,
 * password, must_change?                                            account{} account.show     name account{}
 * account.list     (none)                                                                  accounts[{}]
 * account.disable / account.enable / account.unlock   name                                 account{}
 * account.alias    name, add[]?, remove[]?                                                  account{}
 * account.delete   name                                                                    deleted
 * account.keys     name keys[{etype,kvno,salt,key}]   (decision 21) account.export   passphrase text
 * (decision 22) account.import   passphrase, text, replace? imported, skipped[] service.add      name
 * ("TYPE/HOST"), aliases[]?, enctypes[]?, life?                      account{} service.keytab   name keytab
 * (base64), entries     (the command writes the file) service.rotate   name account{} service.list
 * services[{}] service.delete   name krbtgt.rotate revoke? kvno backup           dir path status realm,
 * accounts, services, master_key, config, guess_limits, ... account{}: id, generation, name, kind, flags[],
 * aliases[], kvno, etypes[], salt_rule, created, changed, expires, password_expires, last_success, failures,
 * comment; times as ISO 8601 text. Any request may carry "by": who asked, kept as the creator of accounts
 * (the keeper overwrites it with the peer's uid). Refusals: SP_EINPUT (usage), SP_ENOTFOUND, SP_EEXIST,
 * SP_EREFUSED (policy; the text is for the user), SP_EFULL (disk). */
SP_MUST bool admin_execute(struct admin *a, const cJSON *request, cJSON **out, struct sp_err *e);

/* The policy of kdc.md section 5 alone. */
SP_MUST bool admin_check_password(const struct admin_config *c, struct sp_span name, struct sp_span password,
                                  struct sp_err *e);

/* The keeper's part of a kpasswd change (decision 7): policy, keys, commit. result is RFC 3244's. Two halves,
 * so that string-to-key can run off the loop. */
struct admin_change {
    uint64_t account_id, generation;
    uint8_t password[1024];
    size_t password_n;
};
void admin_change_password(struct admin *a, const struct admin_change *c, uint16_t *result, char text[256]);

/* Base64 text (RFC 4648, with padding; white space is skipped) to malloc'd bytes; NULL when it is none. For
 * service.keytab's result. */
uint8_t *admin_unbase64(const char *text, size_t *n);

/* ---- the wire of admin.sock: 4-byte big-endian length, JSON; one request, one answer ----
 * answer: {"ok":true,"result":{...}} or {"ok":false,"kind":"not found","text":"..."} */
#define ADMIN_WIRE_MAX (64u << 20)

/* What commands call: runs the operation here when the lock is free, else through admin.sock. */
SP_MUST bool admin_call(const struct admin_paths *p, const cJSON *request, cJSON **out, struct sp_err *e);
/* {"ok":...} from an outcome; takes result. Used by the keeper. */
cJSON *admin_answer(bool ok, cJSON *result, const struct sp_err *e);

#endif
