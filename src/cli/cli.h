/* SPDX-License-Identifier: MIT */
/* The command `sallyport`: a table of verbs, each an operation of the admin room with a way to ask for its
 * arguments and a way to show its result. Nothing here knows what an operation means. */
#ifndef SP_CLI_CLI_H
#define SP_CLI_CLI_H

#include "admin/admin.h"
#include "base/text.h"

enum cli_value {
    CLI_FLAG,  /* no value: true */
    CLI_TEXT,  /* as given */
    CLI_LIST,  /* may be repeated: an array of texts */
    CLI_TIME,  /* a day or a moment (ISO 8601, UTC), "never": seconds since 1970, 0 */
    CLI_SPAN,  /* 15m, 10h, 2d: seconds */
    CLI_TYPES, /* "18,17": an array of numbers */
};

struct cli_option {
    const char *name; /* without its dashes; NULL ends a list */
    enum cli_value value;
    const char *holder; /* what stands for the value in help; NULL for a flag */
    const char *key;    /* member of the request; NULL: stays here, under the option's name */
    const char *help;
};

struct cli;
struct cli_verb {
    const char *path;        /* "account add"; NULL ends the table */
    const char *operand;     /* what stands for the operand in help: "NAME"; NULL: there is none */
    const char *operand_key; /* member of the request; NULL: stays here, under "operand" */
    bool may_lack;           /* it works without its operand, too */
    const char *op;          /* operation of the admin room; NULL: `run` does it all */
    const char *help;        /* one line */
    const char *more;        /* what else --help says; may be NULL */
    const struct cli_option *options;
    bool (*before)(struct cli *c, struct sp_err *e);               /* asks, confirms, checks; NULL: nothing */
    bool (*run)(struct cli *c, cJSON **out, struct sp_err *e);     /* NULL: the operation, with the request */
    bool (*after)(struct cli *c, cJSON *result, struct sp_err *e); /* does what the result is for; NULL */
    void (*print)(struct cli *c, const cJSON *result);             /* for a person; NULL: every member */
};

struct cli {
    const char *root;
    bool json, help, version;
    char path[64]; /* the words of the verb, as far as they were understood */
    const struct cli_verb *verb;
    cJSON *request; /* what the operation gets */
    cJSON *local;   /* what stays here */
    struct admin_paths paths;
    bool verdict; /* what was asked for was done, and what it found ends in status 1 */
};

/* ---- the table (verbs.c) ---- */
extern const struct cli_verb cli_verbs[];
extern const struct cli_option cli_global_options[];
const struct cli_verb *cli_find_verb(const char *path);
bool cli_is_group(const char *path); /* "" and "account" are, "account add" is not */
/* The next word of a verb below group; NULL when this verb is not below it. n is its length. */
const char *cli_word_below(const struct cli_verb *v, const char *group, size_t *n);

/* ---- arguments (arguments.c) ---- */
SP_MUST bool cli_parse(struct cli *c, int argc, char **argv, struct sp_err *e);
const char *cli_local(const struct cli *c,
                      const char *name); /* text of a local option, NULL when not given */
bool cli_flag(const struct cli *c, const char *name);

/* ---- help (help.c) ---- */
void cli_print_help(const struct cli *c);

/* ---- output (print.c) ---- */
struct cli_column {
    const char *head, *key; /* head NULL ends a list */
};
void cli_print_table(const cJSON *rows, const struct cli_column *columns);
void cli_print_object(const cJSON *object, int indent);
void cli_print_json(const cJSON *v);
/* A member as text, made safe for a terminal; "-" when it is absent or empty. */
const char *cli_text(const cJSON *object, const char *key, char *buf, size_t n);
void cli_print_error(const struct cli *c, const struct sp_err *e);
/* Wipes every text in v, then frees it. */
void cli_forget(cJSON *v);

/* ---- what is asked for (ask.c) ---- */
enum cli_ask { CLI_ASK_ONCE, CLI_ASK_TWICE };
/* One line of standard input when --<what>-stdin was given, else from the terminal without echo; into the
 * request under `what`. */
SP_MUST bool cli_ask_secret(struct cli *c, const char *what, enum cli_ask how, struct sp_err *e);
SP_MUST bool cli_ask_password(struct cli *c, struct sp_err *e);
/* Ends by the signal that ended a question, if one did, so that a script around this stops too. */
void cli_end_as_told(void);
SP_MUST bool cli_confirm_delete(struct cli *c, struct sp_err *e); /* --yes, or a person who says so */

/* ---- files (file.c) ---- */
/* Decision 62: an exclusive temporary file beside path, mode 0600, then a rename. owner NULL: whoever runs
 * this. */
SP_MUST bool cli_write_private(const char *path, const char *owner, struct sp_span data, struct sp_err *e);
SP_MUST bool cli_write_out(struct sp_span data, struct sp_err *e); /* standard output */
/* The whole file ("-": standard input), NUL-terminated; the caller frees. NULL on failure. */
char *cli_read_all(const char *path, size_t max, struct sp_err *e);
/* The same for what is no text; *n is its size. */
uint8_t *cli_read_bytes(const char *path, size_t max, size_t *n, struct sp_err *e);
/* Says of what krb_get_keytab refused which file it is. Always false. */
bool cli_no_keytab(const char *path, const struct sp_err *why, struct sp_err *e);
/* Absolute, because the keeper, which may do the work, stands elsewhere. */
SP_MUST bool cli_absolute_path(const char *path, char *out, size_t max, struct sp_err *e);

/* ---- verbs ---- */
bool cli_before_add(struct cli *c, struct sp_err *e); /* account.c */
bool cli_before_keys(struct cli *c, struct sp_err *e);
bool cli_before_alias(struct cli *c, struct sp_err *e);
bool cli_before_export(struct cli *c, struct sp_err *e);
bool cli_before_import(struct cli *c, struct sp_err *e);
bool cli_after_export(struct cli *c, cJSON *result, struct sp_err *e);
void cli_print_account(struct cli *c, const cJSON *result);
void cli_print_changed(struct cli *c, const cJSON *result);
void cli_print_list(struct cli *c, const cJSON *result);
void cli_print_deleted(struct cli *c, const cJSON *result);
void cli_print_keys(struct cli *c, const cJSON *result);
void cli_print_exported(struct cli *c, const cJSON *result);
void cli_print_imported(struct cli *c, const cJSON *result);
bool cli_before_keytab(struct cli *c, struct sp_err *e); /* service.c */
bool cli_after_keytab(struct cli *c, cJSON *result, struct sp_err *e);
void cli_print_keytab(struct cli *c, const cJSON *result);
void cli_print_init(struct cli *c, const cJSON *result); /* instance.c */
bool cli_run_status(struct cli *c, cJSON **out, struct sp_err *e);
void cli_print_status(struct cli *c, const cJSON *result);
bool cli_run_config_check(struct cli *c, cJSON **out, struct sp_err *e);
void cli_print_config_check(struct cli *c, const cJSON *result);
bool cli_run_config_show(struct cli *c, cJSON **out, struct sp_err *e);
void cli_print_config_show(struct cli *c, const cJSON *result);
bool cli_before_backup(struct cli *c, struct sp_err *e);
bool cli_run_version(struct cli *c, cJSON **out, struct sp_err *e);
void cli_print_version(struct cli *c, const cJSON *result);
bool cli_run_client_config(struct cli *c, cJSON **out, struct sp_err *e); /* client_config.c */
void cli_print_client_config(struct cli *c, const cJSON *result);
bool cli_run_login(struct cli *c, cJSON **out, struct sp_err *e); /* login.c */
void cli_print_login(struct cli *c, const cJSON *result);
bool cli_run_gss_serve(struct cli *c, cJSON **out, struct sp_err *e); /* gss.c */
bool cli_run_gss_connect(struct cli *c, cJSON **out, struct sp_err *e);
void cli_print_gss(struct cli *c, const cJSON *result);
bool cli_run_doctor(struct cli *c, cJSON **out, struct sp_err *e); /* doctor.c */
void cli_print_doctor(struct cli *c, const cJSON *result);
bool cli_run_diagnose(struct cli *c, const char *what, cJSON **out, struct sp_err *e); /* diagnose.c */
void cli_print_diagnosis(const cJSON *result);

#endif
