/* SPDX-License-Identifier: MIT */
/* What the files of this room share. Nobody else includes it. */
#ifndef SP_ADMIN_PRIVATE_H
#define SP_ADMIN_PRIVATE_H

#include "admin/realms.h"

/* ---- paths.c ---- */
/* A directory and its parents; mode holds for the last one when it is new. */
SP_MUST bool admin_make_dir(const char *path, unsigned mode, struct sp_err *e);
/* This host's names, lower case; fqdn is empty when /etc/hosts has none. */
struct admin_host {
    char name[256], fqdn[256];
};
void admin_find_host(struct admin_host *h);

/* ---- system.c ---- */
/* From now on cJSON wipes what it frees: requests hold passwords. */
void admin_wipe_json(void);
int64_t admin_now_s(void);

/* ---- config.c ---- */
struct admin_why { /* why a value is none; the reader puts file and line before it */
    char *text;
    size_t n;
};
__attribute__((format(printf, 2, 3))) bool admin_wrong(struct admin_why w, const char *fmt, ...);
bool admin_get_switch(const char *s, bool *out, struct admin_why w);
/* The next word of a list separated by blanks or commas, in place; NULL at the end. */
char *admin_next_word(char **at);
/* Points kdc.realm at the realm and at the aliases inside c itself. */
void admin_bind_config(struct admin_config *c, const char *realm);

/* ---- realms.c: [realm NAME] ---- */
#define ADMIN_VALUE_MAX 4096
struct admin_realms_reading; /* every setting of every realm, with where it stands */
struct admin_realms_reading *admin_realms_begin(void);
void admin_realms_end(struct admin_realms_reading *r);
struct admin_place {
    const char *path; /* as it is shown */
    unsigned file, line;
};
/* One line of [realm NAME]; the value is tried at once. */
bool admin_realms_set(struct admin_realms_reading *r, const char *realm, const char *key, const char *value,
                      const struct admin_place *at, struct admin_why w);
/* All of it; what is wrong only in the whole is said with the place of the section's last line. */
SP_MUST bool admin_realms_make(const struct admin_realms_reading *r, struct admin_realms *out,
                               struct sp_err *e);
void admin_realms_show(const struct admin_realms_reading *r, cJSON *list);
/* "none negotiate certificate armoured" to ADMIN_AUTH_* */
bool admin_get_auth(const char *s, uint32_t *out, struct admin_why w);

/* ---- instance.c ---- */
/* A failure with errno about a file; false, always. */
bool admin_file_failed(const char *path, struct sp_err *e);
/* New names in it survive a power loss. */
void admin_sync_dir(const char *path);
#define ADMIN_LOCK_WAIT_MS 5000
SP_MUST bool admin_lock(const struct admin_paths *p, int *fd, struct sp_err *e);
/* The master key; ADMIN_KEY_CREATE makes the file when there is neither file nor credential. */
enum admin_key_mode { ADMIN_KEY_READ, ADMIN_KEY_CREATE };
SP_MUST bool admin_get_master(const struct admin_paths *p, enum admin_key_mode mode, uint8_t key[32],
                              char source[64], struct sp_err *e);
/* Everything of an open instance but lock and key: memory, crypto, store. */
SP_MUST bool admin_open_store(struct admin *a, enum lmdb_mode mode, struct sp_err *e);
/* Realm, salt rule and secret out of the store into a->config. SP_ENOTFOUND: init did not finish. */
SP_MUST bool admin_load_realm(struct admin *a, struct sp_err *e);

/* ---- init.c ---- */
cJSON *admin_client_hint(const struct admin *a);

/* ---- names.c ---- */
/* A name in any principal form as this instance stores it; all in a->mem. */
struct admin_name {
    struct krb_name name;
    struct sp_span text; /* without realm */
    struct sp_span lookup;
};
SP_MUST bool admin_parse_name(struct admin *a, const char *text, struct admin_name *out, struct sp_err *e);
/* TYPE/HOST, where HOST is a host name or an address. */
SP_MUST bool admin_check_service(const struct krb_name *n, const char *text, struct sp_err *e);
/* Of a stored account. */
SP_MUST bool admin_name_of(struct admin *a, const struct store_account *acc, struct krb_name *out,
                           struct sp_err *e);
/* An alias of acc: for services a bare host or address means TYPE/that. */
SP_MUST bool admin_parse_alias(struct admin *a, const struct store_account *acc, const char *text,
                               struct admin_name *out, struct sp_err *e);
/* Adds one; saying the same again changes nothing. */
SP_MUST bool admin_add_alias(struct admin *a, struct store_account *acc, const struct admin_name *alias,
                             struct sp_err *e);
SP_MUST bool admin_remove_alias(struct store_account *acc, const struct admin_name *alias, struct sp_err *e);
/* Short name and FQDN of a service's host, where they are free (decision 20). */
SP_MUST bool admin_add_host_aliases(struct admin *a, struct store_account *acc, const struct krb_name *name,
                                    struct sp_err *e);

/* ---- operations.c ---- */
SP_MUST bool admin_arg(const cJSON *req, const char *key, const char **out,
                       struct sp_err *e); /* required text */
const char *admin_arg_or(const cJSON *req, const char *key, const char *otherwise);
bool admin_arg_is(const cJSON *req, const char *key);
SP_MUST bool admin_find_account(struct admin *a, const cJSON *req, struct store_account *acc,
                                struct sp_err *e);
SP_MUST bool admin_add_aliases(struct admin *a, struct store_account *acc, const cJSON *list,
                               struct sp_err *e);
SP_MUST bool admin_parse_etypes(const cJSON *list, int32_t out[4], uint32_t *count, struct sp_err *e);
/* Writes the account and answers with {"account":{...}}. */
SP_MUST bool admin_commit(struct admin *a, struct store_account *acc, cJSON *out, struct sp_err *e);
/* New password keys into acc (in a->mem), the next kvno, generation and dates; policy first. salt.p NULL: as
 * it was. */
SP_MUST bool admin_set_password(struct admin *a, struct store_account *acc, struct sp_span password,
                                struct sp_err *e);
struct sp_span admin_creator(struct admin *a, const cJSON *req);

typedef bool admin_operation(struct admin *a, const cJSON *req, cJSON *out, struct sp_err *e);

/* ---- services.c, transfer.c, view.c: operations ---- */
admin_operation admin_service_add, admin_service_keytab, admin_service_rotate, admin_service_list,
    admin_service_delete, admin_krbtgt_rotate, admin_export, admin_import, admin_backup, admin_status,
    admin_keys;

/* ---- view.c ---- */
cJSON *admin_view_account(struct admin *a, const struct store_account *acc);
/* Every account of that kind into list; a damaged record does not hide the others, it is named in out's
 * "broken". */
void admin_list_kind(struct admin *a, enum store_kind kind, cJSON *list, cJSON *out);
void admin_add_time(cJSON *to, const char *key, int64_t unix_s); /* null for 0 */
void admin_add_text(cJSON *to, const char *key, struct sp_span s);

/* ---- base64.c ---- */
char *admin_base64(struct sp_span s, unsigned wrap); /* malloc'd; wrap 0: one line */

/* ---- common.c ---- */
/* folded: lower-case. */
bool admin_is_common(struct sp_span folded);

#endif
