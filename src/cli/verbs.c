/* SPDX-License-Identifier: MIT */
/* Every verb in one table; help, completion and the manual page are checked against it. */
#include "cli/cli.h"

#include <string.h>

const struct cli_option cli_global_options[] = {
    {"root",                                                    CLI_TEXT, "DIR", NULL, "a whole instance in one directory; also SALLYPORT_ROOT"},
    {"json",                                                    CLI_FLAG, NULL, NULL, "the result, or the error, as one line of JSON on standard output"},
    {"help", CLI_FLAG, NULL, NULL, "what this command does"},
    {0                                                   },
};

#define PASSWORD_STDIN                                                                                       \
    {                                                                                                        \
        "password-stdin", CLI_FLAG, NULL, NULL, "the password is one line of standard input"                 \
    }
#define PASSPHRASE_STDIN                                                                                     \
    {                                                                                                        \
        "passphrase-stdin", CLI_FLAG, NULL, NULL, "the passphrase is one line of standard input"             \
    }
#define ENCTYPES                                                                                             \
    {                                                                                                        \
        "enctypes", CLI_TYPES, "LIST", "enctypes", "encryption types of its keys, such as 18,17"             \
    }

static const struct cli_option no_options[] = {{0}};

static const struct cli_option init_options[] = {
    {"realm",                                                          CLI_TEXT, "REALM", "realm", "the realm's name; default: this host's short name in capitals"},
    {"salt",                                                         CLI_TEXT, "RULE", "salt", "default (realm and name) or random, for accounts made later"},
    {0},
};

static const struct cli_option add_options[] = {
    PASSWORD_STDIN,
    {"salt",                                                                      CLI_TEXT, "RULE", "salt",
      "default, random or a text of your own; a stranger can see that it differs"},
    {"alias",                                                                     CLI_LIST, "NAME", "aliases", "another name of the account; may be repeated"},
    {"must-change", CLI_FLAG, NULL, "must_change", "the password only serves to set another one"},
    {"no-expiry",                                                                     CLI_FLAG, NULL, "no_expiry", "the password never becomes too old"},
    {"admin",                                                                     CLI_FLAG, NULL, "admin", "may set the passwords of others through kpasswd"},
    {"expires",                             CLI_TIME, "WHEN", "expires", "2027-01-31 or 2027-01-31T12:00:00Z (UTC); never"},
    {"comment",                                                               CLI_TEXT, "TEXT", "comment", "a note for administrators"},
    ENCTYPES,
    {0                                                                      },
};

static const struct cli_option passwd_options[] = {
    PASSWORD_STDIN,
    {"must-change", CLI_FLAG, NULL, "must_change", "the password only serves to set another one"},
    {0        },
};

static const struct cli_option rotate_options[] = {
    {"revoke", CLI_FLAG, NULL, "revoke", "the previous keys go too: every ticket of before ends"},
    {0   },
};

static const struct cli_option delete_options[] = {
    {"yes", CLI_FLAG, NULL, NULL, "do not ask"},
    {0},
};

static const struct cli_option keys_options[] = {
    {"show-secret", CLI_FLAG, NULL, NULL, "print the keys; whoever reads them is that account"},
    {0        },
};

static const struct cli_option alias_options[] = {
    {"add",                             CLI_LIST, "NAME", "add", "a name to add; may be repeated"},
    {"remove",                           CLI_LIST, "NAME", "remove", "a name to take away; may be repeated"},
    {0},
};

static const struct cli_option export_options[] = {
    PASSPHRASE_STDIN,
    {"out",   CLI_TEXT, "FILE", NULL, "where to (mode 0600); default: standard output"},
    {0},
};

static const struct cli_option import_options[] = {
    PASSPHRASE_STDIN,
    {"replace", CLI_FLAG, NULL, "replace", "accounts that exist are replaced instead of left alone"},
    {0    },
};

static const struct cli_option service_add_options[] = {
    {"alias",                                             CLI_LIST, "NAME", "aliases", "a host, an address or TYPE/HOST; may be repeated"},
    {"life",                                             CLI_SPAN, "TIME", "life", "the most a ticket for it may live: 15m, 10h"},
    ENCTYPES,
    {0},
};

static const struct cli_option keytab_options[] = {
    {"out",                                                               CLI_TEXT, "FILE", NULL, "where to (mode 0600, replaced as a whole); - for standard output"},
    {"owner",                                                             CLI_TEXT, "USER", NULL, "who shall read it; default: who runs this"},
    {0},
};

static const struct cli_option status_options[] = {
    {"require-daemon", CLI_FLAG, NULL, NULL, "exit status 6 when no sallyportd runs"},
    {0           },
};

static const struct cli_option client_config_options[] = {
    {"for",                                                                     CLI_TEXT, "KIND", NULL, "mit (default), heimdal, java, windows or macos"},
    {"kdc",                                                                   CLI_LIST, "ADDR[:PORT]", NULL,
     "where clients reach the KDC; default: where it listens; may be repeated"},
    {"kpasswd",                         CLI_LIST, "ADDR[:PORT]", NULL,
     "where clients change passwords; default: where it listens; may be repeated"},
    {"relay",                                                                     CLI_TEXT, "URL", NULL,
     "for clients elsewhere, which reach a relay: https://HOST[:PORT][/PATH]"},
    {"ca",                                                            CLI_TEXT, "FILE", NULL,
     "where clients have the CA of the relay's certificate; default: their system's"},
    {0},
};

static const struct cli_option serve_options[] = {
    {"keytab",                                                              CLI_TEXT, "FILE", NULL, "the keys of the service"},
    {"listen",                                                               CLI_TEXT, "ADDR:PORT", NULL,
     "default: 127.0.0.1 and a free port, which is told on standard error"},
    {"bindings",                                            CLI_TEXT, "TEXT", NULL, "channel bindings that clients must have, too"},
    {"old-mit",                                                              CLI_FLAG, NULL, NULL, "take the dialect of MIT 1.9 to 1.21"},
    {"trace",                                                          CLI_FLAG, NULL, NULL, "every token, decoded, on standard error"},
    {0},
};

static const struct cli_option connect_options[] = {
    PASSWORD_STDIN,
    {"service",                                                           CLI_TEXT, "TYPE/HOST", NULL, "the service's name"},
    {"mech",                                                        CLI_TEXT, "MECH", NULL, "krb5, iakerb or spnego (default)"},
    {"user",                                               CLI_TEXT, "USER[@REALM]", NULL,
      "with a password or keys; default: what the credential cache holds"},
    {"keytab",                                                              CLI_TEXT, "FILE", NULL, "keys of the user instead of a password"},
    {"cache",                                                             CLI_TEXT, "NAME", NULL, "the credential cache; default: KRB5CCNAME, then krb5.conf"},
    {"kdc",                                 CLI_TEXT, "HOST[:PORT]", NULL, "with krb5: where tickets come from; default: the local daemon"},
    {"flags",                                                              CLI_TEXT, "LIST", NULL,
      "mutual,replay,sequence,conf,integ (default), deleg, deleg-policy, dce, identify"},
    {"bindings",                                                     CLI_TEXT, "TEXT", NULL, "channel bindings"},
    {"by-as", CLI_FLAG, NULL, NULL, "ask for the service's ticket in the first exchange"},
    {"allow-timestamp",                                                            CLI_FLAG, NULL, NULL, "that server may be shown what a password can be guessed on"},
    {"old-mit",                                                             CLI_FLAG, NULL, NULL, "speak the dialect of MIT 1.9 to 1.21"},
    {"message",                           CLI_TEXT, "TEXT", NULL, "what is to be echoed; default: hello"},
    {"trace",                                                             CLI_FLAG, NULL, NULL, "every token, decoded, on standard error"},
    {0                                                            },
};

static const struct cli_option login_options[] = {
    PASSWORD_STDIN,
    {"keytab",                                                  CLI_TEXT, "FILE", NULL, "keys of the account instead of its password"},
    {"via",                                                   CLI_TEXT, "URL", NULL, "through a service: http://host[:port]/path or https://"},
    {"kdc",            CLI_TEXT, "HOST[:PORT]", NULL, "straight to this KDC, over TCP"},
    {"service",                                                     CLI_TEXT, "TYPE/HOST", NULL, "a ticket for this service instead of a TGT"},
    {"allow-timestamp",                                                    CLI_FLAG, NULL, NULL,
      "with --via: that server may be shown what a password can be guessed on"},
    {"old-mit", CLI_FLAG, NULL, NULL, "with --via: speak the dialect of MIT 1.9 to 1.21"},
    {"ca",                                                     CLI_TEXT, "FILE", NULL, "certificates to trust with https, instead of the system's"},
    {"cache",                                            CLI_TEXT, "NAME", NULL, "the credential cache; default: KRB5CCNAME, then krb5.conf"},
    {"force",                         CLI_FLAG, NULL, NULL, "overwrite the cache of another principal"},
    {"lifetime",                                                 CLI_SPAN, "TIME", NULL, "how long the ticket shall live: 15m, 10h"},
    {"trace",                                              CLI_FLAG, NULL, NULL, "every token, decoded, on standard error"},
    {0            },
};

const struct cli_verb cli_verbs[] = {
    {.path = "init",
     .op = "init",
     .help = "make the realm, its keys and the store",
     .more = "Harmless when it was done before. The realm's name stays for good.",
     .options = init_options,
     .print = cli_print_init},
    {.path = "account add",
     .operand = "NAME",
     .operand_key = "name",
     .op = "account.add",
     .help = "add an account",
     .more = "NAME may be a user (alice), a machine (nas1$) or a name with '@' (alice@corp.example). The "
             "password is asked for\n"
             "on the terminal, or read from standard input; it is never an argument, which every user of "
             "this machine could read.", .options = add_options,
     .before = cli_before_add,
     .print = cli_print_changed},
    {.path = "account passwd",
     .operand = "NAME",
     .operand_key = "name",
     .op = "account.passwd",
     .help = "set a password",
     .more = "Tickets of the account stop working with this KDC at once.",
     .options = passwd_options,
     .before = cli_ask_password,
     .print = cli_print_changed},
    {.path = "account show",
     .operand = "NAME",
     .operand_key = "name",
     .op = "account.show",
     .help = "everything about an account but its keys",
     .options = no_options,
     .print = cli_print_account},
    {.path = "account list",
     .op = "account.list",
     .help = "all accounts",
     .options = no_options,
     .print = cli_print_list},
    {.path = "account disable",
     .operand = "NAME",
     .operand_key = "name",
     .op = "account.disable",
     .help = "no more tickets for an account",
     .options = no_options,
     .print = cli_print_changed},
    {.path = "account enable",
     .operand = "NAME",
     .operand_key = "name",
     .op = "account.enable",
     .help = "undo disable",
     .options = no_options,
     .print = cli_print_changed},
    {.path = "account unlock",
     .operand = "NAME",
     .operand_key = "name",
     .op = "account.unlock",
     .help = "forget wrong passwords, so that the next try is looked at",
     .options = no_options,
     .print = cli_print_changed},
    {.path = "account delete",
     .operand = "NAME",
     .operand_key = "name",
     .op = "account.delete",
     .help = "remove an account for good",
     .options = delete_options,
     .before = cli_confirm_delete,
     .print = cli_print_deleted},
    {.path = "account keys",
     .operand = "NAME",
     .operand_key = "name",
     .op = "account.keys",
     .help = "print the keys of an account, a service or krbtgt/REALM",
     .options = keys_options,
     .before = cli_before_keys,
     .print = cli_print_keys},
    {.path = "account alias",
     .operand = "NAME",
     .operand_key = "name",
     .op = "account.alias",
     .help = "add and remove other names of an account or a service",
     .options = alias_options,
     .before = cli_before_alias,
     .print = cli_print_changed},
    {.path = "account export",
     .op = "account.export",
     .help = "all accounts, sealed with a passphrase, as text",
     .options = export_options,
     .before = cli_before_export,
     .after = cli_after_export,
     .print = cli_print_exported},
    {.path = "account import",
     .operand = "FILE",
     .op = "account.import",
     .help = "take accounts from an export; - for standard input",
     .options = import_options,
     .before = cli_before_import,
     .print = cli_print_imported},
    {.path = "service add",
     .operand = "TYPE/HOST",
     .operand_key = "name",
     .op = "service.add",
     .help = "add a service, with random keys",
     .more = "Short name and full name of HOST become aliases by themselves; add addresses with --alias, and "
             "clients may use them.", .options = service_add_options,
     .print = cli_print_changed},
    {.path = "service keytab",
     .operand = "TYPE/HOST",
     .operand_key = "name",
     .op = "service.keytab",
     .help = "write the keytab of a service",
     .more = "Keys and their numbers stay as they are. A file that belongs to somebody else is not replaced: "
             "one key, one reader.", .options = keytab_options,
     .before = cli_before_keytab,
     .after = cli_after_keytab,
     .print = cli_print_keytab},
    {.path = "service rotate",
     .operand = "TYPE/HOST",
     .operand_key = "name",
     .op = "service.rotate",
     .help = "new keys for a service; then write its keytab again",
     .options = no_options,
     .print = cli_print_changed},
    {.path = "service list",
     .op = "service.list",
     .help = "all services",
     .options = no_options,
     .print = cli_print_list},
    {.path = "service delete",
     .operand = "TYPE/HOST",
     .operand_key = "name",
     .op = "service.delete",
     .help = "remove a service for good",
     .options = delete_options,
     .before = cli_confirm_delete,
     .print = cli_print_deleted},
    {.path = "status",
     .help = "what is here and whether the daemon runs",
     .options = status_options,
     .run = cli_run_status,
     .print = cli_print_status},
    {.path = "config check",
     .help = "read the configuration; names file and line of a mistake",
     .options = no_options,
     .run = cli_run_config_check,
     .print = cli_print_config_check},
    {.path = "config show",
     .help = "every setting, and where it comes from",
     .options = no_options,
     .run = cli_run_config_show,
     .print = cli_print_config_show},
    {.path = "client-config",
     .help = "what clients need to be told",
     .more =
         "Writes a krb5.conf for MIT Kerberos, Heimdal, Java or macOS, or what Windows wants instead. Names "
         "and addresses\nof all services are in it, because clients would otherwise ask the DNS for "
         "their realm. Realms that the courier\ncarries are in it with the courier's door on loopback, for "
         "programs of this host; with --relay for clients elsewhere.", .options = client_config_options,
     .run = cli_run_client_config,
     .print = cli_print_client_config},
    {.path = "backup",
     .operand = "DIR",
     .operand_key = "dir",
     .op = "backup",
     .help = "a consistent copy of the store",
     .more = "The copy is sealed with the master key, which is not in it: keep that one elsewhere.",
     .options = no_options,
     .before = cli_before_backup},
    {.path = "krbtgt rotate",
     .op = "krbtgt.rotate",
     .help = "new keys for the realm's tickets; the previous ones still open tickets",
     .options = rotate_options},
    {.path = "login",
     .operand = "USER[@REALM]",
     .help = "get a ticket into your credential cache",
     .more = "Without --via and --kdc the KDC is reached through the sallyportd of this machine.\n"
             "Encrypted timestamps are shown to a server (--via) only with --allow-timestamp, or when it is "
             "pinned.", .options = login_options,
     .run = cli_run_login,
     .print = cli_print_login},
    {.path = "gss serve",
     .help = "accept security contexts over TCP, and echo what comes through them",
     .more = "For trying things by hand. Tokens travel in frames: four bytes of length, big-endian, before "
             "each.\n"
             "Messages of clients to their KDC are carried by the sallyportd of this machine.", .options = serve_options,
     .run = cli_run_gss_serve},
    {.path = "gss connect",
     .operand = "HOST:PORT",
     .help = "establish a security context with 'gss serve' and have one message echoed",
     .options = connect_options,
     .run = cli_run_gss_connect,
     .print = cli_print_gss},
    {.path = "doctor",
     .operand = "[REALM|HOST]",
     .may_lack = true,
     .help = "what is wrong on the way to a realm or a host; without one, with GSS mechanisms here",
     .more =
         "With a realm or a host every way there is tried at once, with a request for a user who does not\n"
         "exist. The status is 0 when one works, 1 when none does.", .options = no_options,
     .run = cli_run_doctor,
     .print = cli_print_doctor},
    {.path = "version",
     .help = "which version this is",
     .options = no_options,
     .run = cli_run_version,
     .print = cli_print_version},
    {0                                                   },
};

const struct cli_verb *cli_find_verb(const char *path)
{
    for (const struct cli_verb *v = cli_verbs; v->path; v++)
        if (strcmp(v->path, path) == 0)
            return v;
    return NULL;
}

const char *cli_word_below(const struct cli_verb *v, const char *group, size_t *n)
{
    size_t skip = strlen(group);

    if (strncmp(v->path, group, skip) != 0 || (skip > 0 && v->path[skip] != ' '))
        return NULL;
    const char *word = v->path + skip + (skip > 0);
    *n = strcspn(word, " ");
    return word;
}

bool cli_is_group(const char *path)
{
    size_t n;

    for (const struct cli_verb *v = cli_verbs; v->path; v++)
        if (cli_word_below(v, path, &n))
            return true;
    return false;
}
