/* SPDX-License-Identifier: MIT */
/* Paths, configuration, every operation with its refusals, transfer, policy and the lock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "admin/realms.h"
#include "krb/keytab.h"

static char root[64];
static struct admin_paths paths;

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static int make_root(void **state)
{
    struct sp_err e = {0};

    (void)state;
    snprintf(root, sizeof root, "/tmp/sp-admin-XXXXXX");
    return mkdtemp(root) && admin_find_paths(root, &paths, &e) ? 0 : -1;
}

static int drop_root(void **state)
{
    (void)state;
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- calls ---- */

static cJSON *try_call(const char *text, struct sp_err *e)
{
    cJSON *request = cJSON_Parse(text), *out = NULL;

    if (!request)
        fail_msg("no JSON: %s", text);
    *e = (struct sp_err){0};
    if (!admin_call(&paths, request, &out, e))
        assert_null(out);
    cJSON_Delete(request);
    return out;
}

static cJSON *call(const char *text)
{
    struct sp_err e;
    cJSON *out = try_call(text, &e);

    if (!out)
        fail_msg("%s: %s", text, e.text);
    return out;
}

static void run(const char *text)
{
    cJSON_Delete(call(text));
}

static void refuse(const char *text, enum sp_kind kind, const char *why)
{
    struct sp_err e;
    cJSON *out = try_call(text, &e);

    if (out)
        fail_msg("%s: done", text);
    if (e.kind != kind || strcmp(e.text, why) != 0)
        fail_msg("%s: %s: %s", text, sp_kind_name(e.kind), e.text);
}

static const cJSON *at(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

    if (!v)
        fail_msg("no %s", key);
    return v;
}

static void assert_text(const cJSON *o, const char *key, const char *want)
{
    assert_string_equal(at(o, key)->valuestring, want);
}

static void assert_list(const cJSON *o, const char *key, const char *want)
{
    char *got = cJSON_PrintUnformatted(at(o, key));

    assert_string_equal(got, want);
    cJSON_free(got);
}

static int make_realm(void **state)
{
    int bad = make_root(state);

    if (!bad)
        run("{\"op\":\"init\",\"realm\":\"EXAMPLE\"}");
    return bad;
}

/* ---- exit status (decision 21): of the command and of the daemon ---- */

static void test_exit_status(void **state)
{
    static const struct {
        enum sp_kind kind;
        int32_t proto;
        int want;
    } rows[] = {
        {SP_OK,        0,                   0},
        {SP_EINPUT,    0,                   2},
        {SP_ENOTFOUND, 0,                   3},
        {SP_EEXIST,    0,                   4},
        {SP_EREFUSED,  0,                   1},
        {SP_EREFUSED,  ADMIN_BUSY,          1},
        {SP_EREFUSED,  ADMIN_NOT_PERMITTED, 5},
        {SP_EREFUSED,  EACCES,              1}, /* whoever meets an errno says what it means */
        {SP_EBACKEND,  0,                   1},
        {SP_EBACKEND,  ADMIN_NO_DAEMON,     6},
        {SP_EFULL,     0,                   1},
        {SP_ENOMEM,    0,                   1},
        {SP_EBUG,      0,                   1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(admin_exit_status(&(struct sp_err){.kind = rows[i].kind, .proto = rows[i].proto}),
                         rows[i].want);
}

/* ---- paths, init ---- */

static void test_paths(void **state)
{
    struct admin_paths p;
    struct sp_err e = {0};
    char cwd[1000], want[2000];

    (void)state;
    assert_true(admin_find_paths("/x/y//", &p, &e));
    assert_string_equal(p.config, "/x/y/etc/sallyport/sallyport.conf");
    assert_string_equal(p.state, "/x/y/var/lib/sallyport");
    assert_true(admin_find_paths("/", &p, &e));
    assert_string_equal(p.run, "/run/sallyport");
    assert_true(admin_find_paths("here", &p, &e));
    snprintf(want, sizeof want, "%s/here/var/log/sallyport", getcwd(cwd, sizeof cwd));
    assert_string_equal(p.log, want);
    setenv("SALLYPORT_ROOT", "/from/env", 1);
    assert_true(admin_find_paths(NULL, &p, &e));
    assert_string_equal(p.root, "/from/env");
    unsetenv("SALLYPORT_ROOT");
    assert_true(admin_find_paths(NULL, &p, &e));
    assert_string_equal(p.root, "");
}

static void test_init(void **state)
{
    char why[5000];
    struct stat st;
    cJSON *out;

    (void)state;
    umask(0);
    snprintf(why, sizeof why, "%s: no instance here; run `sallyport --root %s init`", paths.state, root);
    refuse("{\"op\":\"status\"}", SP_ENOTFOUND, why);
    refuse("{\"op\":\"init\",\"realm\":\"A/B\"}", SP_EINPUT,
           "\"A/B\" cannot be a realm: letters, digits, dot, hyphen and underscore");
    out = call("{\"op\":\"init\",\"realm\":\"EXAMPLE\"}");
    assert_true(cJSON_IsTrue(at(out, "created")));
    assert_non_null(strstr(at(at(out, "client_hint"), "krb5_conf")->valuestring, "default_realm = EXAMPLE"));
    cJSON_Delete(out);
    out = call("{\"op\":\"init\"}");
    assert_false(cJSON_IsTrue(at(out, "created")));
    assert_text(out, "realm", "EXAMPLE");
    cJSON_Delete(out);
    snprintf(why, sizeof why, "%s: the realm EXAMPLE is already here; it cannot become OTHER", paths.state);
    refuse("{\"op\":\"init\",\"realm\":\"OTHER\"}", SP_EEXIST, why);
    refuse("{\"op\":\"init\",\"salt\":\"random\"}", SP_EEXIST,
           "the realm EXAMPLE was made with salt = default");
    assert_true(stat(paths.state, &st) == 0 && (st.st_mode & 07777) == 0700);
    assert_true(stat(paths.log, &st) == 0 && (st.st_mode & 07777) == 0750);
    snprintf(why, sizeof why, "%s/master.key", paths.state);
    assert_true(stat(why, &st) == 0 && (st.st_mode & 07777) == 0600 && st.st_size == 32);
    umask(022);
}

static void test_master_key(void **state)
{
    char path[5000], why[6000], cred[80];
    FILE *f;
    cJSON *out;

    (void)state;
    snprintf(path, sizeof path, "%s/master.key", paths.state);
    assert_int_equal(chmod(path, 0640), 0);
    snprintf(why, sizeof why, "%s: others may read it (mode 0640); chmod 600 it", path);
    refuse("{\"op\":\"status\"}", SP_EREFUSED, why);
    assert_int_equal(unlink(path), 0);
    snprintf(why, sizeof why, "%s: the master key is gone; restore it, accounts are sealed with it", path);
    refuse("{\"op\":\"status\"}", SP_EBACKEND, why);
    refuse("{\"op\":\"init\"}", SP_EBACKEND, why); /* and a new one is not made over it */
    f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite("0123456789abcdef0123456789abcdef", 1, 32, f), 32);
    fchmod(fileno(f), 0600);
    fclose(f);
    snprintf(why, sizeof why, "%s: value \"realm\" is altered, or sealed under another master key",
             paths.state);
    refuse("{\"op\":\"status\"}", SP_EBACKEND, why);

    snprintf(cred, sizeof cred, "%.40s/cred", root); /* a second instance, its key a credential in hex */
    assert_int_equal(mkdir(cred, 0700), 0);
    snprintf(path, sizeof path, "%s/master-key", cred);
    f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "%064d\n", 7);
    fclose(f);
    setenv("CREDENTIALS_DIRECTORY", cred, 1);
    assert_true(nftw(paths.state, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
    run("{\"op\":\"init\",\"realm\":\"SECOND\"}");
    out = call("{\"op\":\"status\"}");
    assert_text(out, "master_key", "credential");
    cJSON_Delete(out);
    unsetenv("CREDENTIALS_DIRECTORY");
}

/* ---- accounts that are lost, or cut off ---- */

static void test_lost_accounts(void **state)
{
    char data[5000], why[6000], marker[5000];
    struct stat st;

    (void)state;
    snprintf(data, sizeof data, "%s/accounts/data.mdb", paths.state);
    snprintf(marker, sizeof marker, "%s/unfinished", paths.state);
    assert_int_equal(access(marker, F_OK), -1);
    assert_int_equal(truncate(data, 0), 0);
    snprintf(why, sizeof why, "%s: is empty; copy it back from a backup", data);
    refuse("{\"op\":\"status\"}", SP_EBACKEND, why);
    snprintf(
        why, sizeof why,
        "%s: the accounts are gone; copy accounts/ and activity/ back from a backup, or move this directory "
        "away",
        paths.state);
    refuse("{\"op\":\"init\"}", SP_EREFUSED, why);
    assert_true(stat(data, &st) == 0 && st.st_size == 0);
    assert_int_equal(unlink(data), 0);
    refuse("{\"op\":\"init\",\"realm\":\"EXAMPLE\"}", SP_EREFUSED, why);
    snprintf(why, sizeof why, "%s/accounts: there is no account store", paths.state);
    refuse("{\"op\":\"status\"}", SP_ENOTFOUND, why);
    assert_int_equal(access(data, F_OK), -1); /* and none was made by looking */
    assert_int_equal(access(marker, F_OK), -1);

    close(open(marker, O_WRONLY | O_CREAT, 0600)); /* an init that was cut off goes on where it was */
    run("{\"op\":\"init\",\"realm\":\"EXAMPLE\"}");
    assert_int_equal(access(marker, F_OK), -1);
    run("{\"op\":\"status\"}");
}

/* Whatever is cut off: a refusal that names the file, or, where no page in use was lost, all as before. */
static void test_cut_off(void **state)
{
    char data[5000], copy[5100], command[11000], whole[6000], why[6000];
    struct stat st;
    int refused = 0;

    (void)state;
    snprintf(data, sizeof data, "%s/accounts/data.mdb", paths.state);
    snprintf(copy, sizeof copy, "%s.whole", data);
    for (int i = 0; i < 6; i++) {
        snprintf(command, sizeof command, "{\"op\":\"service.add\",\"name\":\"host/nas%d\"}", i);
        run(command);
    }
    snprintf(command, sizeof command, "cp %s %s", data, copy);
    assert_int_equal(system(command), 0);
    assert_int_equal(stat(data, &st), 0);
    snprintf(whole, sizeof whole, "cp %s %s", copy, data);
    snprintf(why, sizeof why, "%s: its end is missing; copy it back from a backup", data);
    for (off_t n = st.st_size - 4096; n >= 8192; n -= 4096) {
        struct sp_err e;
        cJSON *out;

        assert_int_equal(system(whole), 0);
        assert_int_equal(truncate(data, n), 0);
        out = try_call("{\"op\":\"service.list\"}", &e);
        if (out) {
            assert_int_equal(cJSON_GetArraySize(at(out, "services")), 6);
            cJSON_Delete(out);
            continue;
        }
        if (strcmp(e.text, why) != 0)
            fail_msg("cut to %lld bytes: %s", (long long)n, e.text);
        refused++;
    }
    assert_true(refused > 2);
    assert_int_equal(system(whole), 0);
    run("{\"op\":\"service.list\"}");
}

/* ---- configuration ---- */

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* Each row: a file, and what is said about it behind the file's name. */
static void test_wrong_configuration(void **state)
{
    static const struct {
        const char *file, *why;
    } rows[] = {
        {"[kdc]\n\nskew = 5 minutes\n",                    ":3: \"5 minutes\" is no duration; write 90s, 15m, 10h or 1d"       },
        {"[kdc]\nskew = 2h\n",                             ":2: 2h is out of range; 1s to 1h is possible"                      },
        {"[kdc]\nskw = 5m\n",                              ":2: [kdc] has no key skw; did you mean skew?"                      },
        {"[kdc]\nmin-length = 8\n",                        ":2: min-length belongs into the section [policy]"                  },
        {"[kdc]\nnonsense-of-all-sorts = 8\n",             ":2: [kdc] has no key nonsense-of-all-sorts"                        },
        {"[kcd]\nskew = 5m\n",                             ":2: there is no section [kcd]; did you mean [kdc]?"                },
        {"[somewhere]\nskew = 5m\n",
         ":2: there is no section [somewhere]; sallyport.conf(5) has all there are"                                            },
        {"skew = 5m\n",                                    ":1: skew stands before the first [section]"                        },
        {"[kdc]\nwhat is this\n",                          ":2: neither [section] nor key = value"                             },
        {"[kdc]\nskew = 5m\nskew = 6m\n",                  ":3: skew is already set in line 2"                                 },
        {"[kdc]\nlifetimes = windows\n",                   ":2: \"windows\" is not one of standard|windows-like"               },
        {"[kdc]\nsalt = pepper\n",                         ":2: \"pepper\" is not one of default|random"                       },
        {"[kdc]\nguess-limits = maybe\n",                  ":2: \"maybe\" is neither yes nor no"                               },
        {"[kdc]\nenctypes = 18 rc4-hmac\n",                ":2: \"rc4-hmac\" is no encryption type; 17, 18, 19 and 20 are"     },
        {"[kdc]\nenctypes = 18 17 18\n",                   ":2: 18 is there twice"                                             },
        {"[kdc]\nlisten = nas1\n",                         ":2: \"nas1\" is no address; write 192.0.2.1:88 or [2001:db8::1]:88"},
        {"[kdc]\nlisten = 127.0.0.1:99999\n",
         ":2: \"127.0.0.1:99999\" has no port that is a number from 0 to 65535"                                                },
        {"[kdc]\nlisten = [::1\n",                         ":2: \"[::1\" is no address; write 192.0.2.1:88 or [2001:db8::1]:88"},
        {"[kdc]\nudp-reply-max = 1\n",                     ":2: \"1\" is no number from 512 to 65507"                          },
        {"[policy]\nmin-length = 0\n",                     ":2: \"0\" is no number from 1 to 255"                              },
        {"[keys]\niterations-18 = 2000000\n",              ":2: \"2000000\" is no number from 1 to 1000000"                    },
        {"[log]\ntarget = syslog\n",                       ":2: \"syslog\" is not one of file|journal|stderr"                  },
        {"[realm]\nname = X\n",                            ":2: the realm is fixed by `sallyport init --realm`"                },
        {"[realm]\naliases = a/b\n",                       ":2: \"a/b\" cannot be the name of a realm"                         },
        {"[iakerb]\nold-mit = yes\n",                      ":2: \"yes\" is not one of off|accept"                              },
        {"[iakerb]\nrealms = A B/C\n",                     ":2: \"B/C\" cannot be the name of a realm"                         },
        {"[courier]\nattest = 33 no-such-one\n",
         ":2: there is no user \"no-such-one\" on this host; write a name of one, or a uid"                                    },
        {"[courier]\nmax-connections = 0\n",               ":2: \"0\" is no number from 1 to 65536"                            },
        {"[courier]\nlisten-kdc = 192.0.2.1\n",
         ":2: 192.0.2.1:88 is not an address of loopback, which alone is possible here"                                        },
        {"[courier]\nhedge-ms = 0\n",                      ":2: \"0\" is no number from 1 to 4500"                             },
        {"[relay]\nplain-listen = nginx\n",
         ":2: \"nginx\" is neither ADDRESS:PORT nor the path of a UNIX socket"                                                 },
        {"[relay]\ntrusted-proxies = 192.0.2.1 nginx\n",   ":2: \"nginx\" is neither an address nor unix"                      },
        {"[relay]\nauth = password\n",
         ":2: \"password\" is not one of none, negotiate, certificate, armoured"                                               },
        {"[relay]\nrealms = A.EXAMPLE B/C\n",              ":2: \"B/C\" cannot be the name of a realm"                         },
        {"[realm A]\nkdx = kdc1\n",                        ":2: [realm A] has no key kdx; did you mean kdc?"                   },
        {"[realm A/B]\nkdc = kdc1\n",                      ":2: \"A/B\" cannot be the name of a realm"                         },
        {"[realm A]\nkdc = kdc1 2130706433\n",
         ":2: \"2130706433\" is neither the name of a host nor an address"                                                     },
        {"[realm A]\nkdc = kdc1:0\n",                      ":2: \"kdc1:0\" has no port that is a number from 1 to 65535"       },
        {"[realm A]\nkdc = [::1\n",                        ":2: \"[::1\" is neither the name of a host nor an address"         },
        {"[realm A]\nkdc = user@host\n",                   ":2: \"user@host\" is neither the name of a host nor an address"    },
        {"[realm A]\nrelay = http://relay1/\n",
         ":2: \"http://relay1/\" is no relay; write https://host/KdcProxy"                                                     },
        {"[realm A]\nProxyServers = <https relay1\n",      ":2: \"<https relay1\" does not end with />"                        },
        {"[realm A]\nin-band = server\n",
         ":2: \"server\" is no server for the in-band rung; write http://host/ or https://host/"                               },
        {"[realm A]\nladder = native ntlm\n",
         ":2: \"ntlm\" is no rung; native, relay, in-band and local are"                                                       },
        {"[realm A]\nladder = native native\n",            ":2: native is there twice"                                         },
        {"[realm A]\nkdc = kdc1\nladder = native relay\n",
         ":3: [realm A] has the rung relay in its ladder and nowhere to go by it"                                              },
        {"[realm A]\ndiscover = dns\n",                    ":2: \"dns\" is not one of static, srv, uri, uri-srv"               },
        {"[realm A]\nvia-relay = maybe\n",                 ":2: \"maybe\" is not one of off, audit, on"                        },
        {"[realm A]\nkpasswd = yes\nkpasswd = no\n",       ":3: kpasswd is already set in line 2"                              },
        {"[realm A]\nmax-in-flight = 0\n",                 ":2: \"0\" is no number from 1 to 65536"                            },
    };
    struct admin_config *c = malloc(sizeof *c);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sp_err e = {0};
        char want[5000];

        write_file(paths.config, rows[i].file);
        snprintf(want, sizeof want, "%s%s", paths.config, rows[i].why);
        assert_false(admin_read_config(&paths, c, &e));
        assert_string_equal(e.text, want);
        assert_int_equal(e.kind, SP_EINPUT);
    }
    free(c);
}

static void assert_target(const struct admin_target *t, enum admin_rung rung, const char *host, uint16_t port)
{
    assert_int_equal(t->rung, rung);
    assert_string_equal(t->host, host);
    assert_int_equal(t->port, port);
}

static void test_realms(void **state)
{
    struct admin_realms r;
    struct sp_err e = {0};
    char path[5000];

    (void)state;
    write_file(
        paths.config,
        "[realm A.RATHER.LONG.NAME.THAT.GOES.ON.FOR.MORE.THAN.FIFTY.BYTES.EXAMPLE]\nkdc = x\n"
        "[realm CORP.EXAMPLE]\naliases = CORP corp.example\nkdc = tcp/kdc1.corp.example 192.0.2.1:750\n"
        "  [2001:db8::1]:88 2001:db8::2 https://edge.corp.example/KdcProxy\nprimary-kdc = 192.0.2.1:750\n"
        "ProxyServers = <https relay1:8443:other relay2 />\nin-band = http://nas1/ https://nas2:444/x\n"
        "ladder = relay native in-band\ndiscover = uri-srv\nrelay-auth = certificate armoured\n"
        "via-relay = audit\nkpasswd = no\n[realm OFF]\nkdc = a\nvia-relay = yes\nKdcProxyServer_Enabled = "
        "0\n");
    snprintf(path, sizeof path, "%s/20-later.conf", paths.config_dir);
    write_file(path, "[realm OFF]\nkdc = b c\n");
    if (!admin_read_realms(&paths, &r, &e))
        fail_msg("%s", e.text);
    assert_int_equal(r.count, 3);
    assert_string_equal(r.v[0].name, "A.RATHER.LONG.NAME.THAT.GOES.ON.FOR.MORE.THAN.FIFTY.BYTES.EXAMPLE");
    assert_int_equal(r.v[1].target_count, 9);
    assert_target(&r.v[1].target[0], ADMIN_NATIVE, "kdc1.corp.example", 88);
    assert_true(r.v[1].target[0].tcp_only && !r.v[1].target[0].listed_ip && !r.v[1].target[0].primary);
    assert_target(&r.v[1].target[1], ADMIN_NATIVE, "192.0.2.1", 750);
    assert_true(r.v[1].target[1].primary && r.v[1].target[1].listed_ip);
    assert_target(&r.v[1].target[2], ADMIN_NATIVE, "2001:db8::1", 88);
    assert_target(&r.v[1].target[3], ADMIN_NATIVE, "2001:db8::2", 88);
    assert_target(&r.v[1].target[4], ADMIN_RELAY, "edge.corp.example", 443);
    assert_target(&r.v[1].target[5], ADMIN_RELAY, "relay1", 8443);
    assert_string_equal(r.v[1].target[5].path, "/other");
    assert_target(&r.v[1].target[6], ADMIN_RELAY, "relay2", 443);
    assert_string_equal(r.v[1].target[6].path, "/KdcProxy");
    assert_target(&r.v[1].target[7], ADMIN_INBAND, "nas1", 80);
    assert_target(&r.v[1].target[8], ADMIN_INBAND, "nas2", 444);
    assert_true(r.v[1].target[8].tls && !r.v[1].target[7].tls);
    assert_string_equal(r.v[1].target[8].path, "/x");
    assert_true(r.v[1].rung_count == 3 && r.v[1].ladder[0] == ADMIN_RELAY &&
                r.v[1].ladder[2] == ADMIN_INBAND);
    assert_true(r.v[1].discover == ADMIN_URI_SRV && !r.v[1].kpasswd && r.v[1].via_relay == ADMIN_AUDIT);
    assert_int_equal(r.v[1].relay_auth, ADMIN_AUTH_CERTIFICATE | ADMIN_AUTH_ARMOURED);
    assert_true(r.v[2].target_count == 2 && strcmp(r.v[2].target[0].host, "b") == 0); /* the later file */
    assert_true(r.v[2].relay_off && r.v[2].via_relay == ADMIN_ON && r.v[2].kpasswd);
    admin_free_realms(&r);
    unlink(path);
}

/* What is wrong with no line alone. */
static void test_realms_as_a_whole(void **state)
{
    static const struct {
        const char *file, *why;
    } rows[] = {
        {"[realm A]\nkdc = x\n[realm B]\nkdc = y\naliases = a\n",
         "\"a\" is a name of [realm A] and of [realm B]"                                                                         },
        {"[realm A]\nkdc = x\n[realm a]\nkdc = y\n",                     "[realm a] is there twice, as [realm A] too"            },
        {"[relay]\nlisten = 0.0.0.0:443\n",                              "[relay] listen wants a certificate and a key beside it"},
        {"[relay]\nauth = certificate\nplain-listen = 127.0.0.1:8080\n",
         "[relay] auth = certificate is not possible behind a proxy that ends TLS (plain-listen)"                                },
        {"[relay]\nauth = certificate\n",                                "[relay] auth = certificate wants client-ca beside it"  },
    };
    struct admin_config *c = malloc(sizeof *c);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sp_err e = {0};

        write_file(paths.config, rows[i].file);
        assert_false(admin_read_config(&paths, c, &e));
        assert_string_equal(e.text, rows[i].why);
        assert_int_equal(e.kind, SP_EINPUT);
    }
    write_file(paths.config, "");
    free(c);
}

static void test_long_line(void **state)
{
    struct admin_config *c = malloc(sizeof *c);
    struct sp_err e = {0};
    char text[1200] = "[policy]\ncommon-passwords = /";

    (void)state;
    memset(text + strlen(text), 'x', 1000);
    write_file(paths.config, text);
    assert_false(admin_read_config(&paths, c, &e));
    assert_non_null(strstr(e.text, "sallyport.conf:2: a line longer than "));
    free(c);
}

static void test_configuration(void **state)
{
    struct admin_config *c = malloc(sizeof *c);
    struct sp_err e = {0};
    char path[5000];

    (void)state;
    write_file(
        paths.config,
        "# comment\n[kdc]\nlisten = 192.0.2.1\n  [2001:db8::1]:750\nskew = 1m30s\nservice-life = 20m\n"
        "reveal-unknown = yes\n[keys]\niterations-20 = 50000\n[realm]\naliases = HOME, home.example\n");
    snprintf(path, sizeof path, "%s/20-later.conf", paths.config_dir);
    write_file(path,
               "[kdc]\nskew = 2m\nlifetimes = windows-like\nenctypes = 20 18\n[policy]\nmax-age = 1w\n");
    snprintf(path, sizeof path, "%s/10-first.conf", paths.config_dir);
    write_file(path, "[kdc]\nskew = 3m\nlisten-kpasswd = none\n");
    snprintf(path, sizeof path, "%s/ignored.txt", paths.config_dir);
    write_file(path, "rubbish\n");
    if (!admin_read_config(&paths, c, &e))
        fail_msg("%s", e.text);
    assert_int_equal(c->listen_count, 2);
    assert_string_equal(c->listen[0], "192.0.2.1:88");
    assert_string_equal(c->listen[1], "[2001:db8::1]:750");
    assert_int_equal(c->listen_kpasswd_count, 0);
    assert_int_equal(c->kdc.skew_s, 120);          /* the last file */
    assert_int_equal(c->kdc.service_life_s, 1200); /* set earlier than the profile, and still wins over it */
    assert_int_equal(c->kdc.tgt_life_s, 36000);
    assert_true(c->kdc.reveal_unknown && c->kdc.guess_limits);
    assert_true(c->kdc.enctype_count == 2 && c->kdc.enctypes[0] == 20 && c->kdc.iterations[0] == 50000 &&
                c->kdc.iterations[1] == 0);
    assert_true(c->password_max_age_s == 7 * 86400 && c->password_min == 12 && c->krbtgt_rotate_s == 86400);
    assert_true(c->alias_count == 2 && krb_is_realm_alias(&c->kdc.realm, SP_LIT("Home.Example")));
    free(c);
}

static void test_show_config(void **state)
{
    struct sp_err e = {0};
    cJSON *out, *one;
    char source[5000];
    int seen = 0;

    (void)state;
    write_file(paths.config, "[kdc]\nskew = 90s\n");
    snprintf(source, sizeof source, "%s:2", paths.config);
    assert_true(admin_show_config(&paths, &out, &e));
    cJSON_ArrayForEach(one, at(out, "settings"))
    {
        if (strcmp(at(one, "key")->valuestring, "skew") == 0) {
            assert_text(one, "value", "90s");
            assert_text(one, "source", source);
            seen++;
        }
        if (strcmp(at(one, "key")->valuestring, "listen") == 0 &&
            strcmp(at(one, "section")->valuestring, "kdc") == 0) {
            assert_text(one, "value", "127.0.0.1:88 [::1]:88");
            assert_text(one, "source", "default");
            seen++;
        }
        if (strcmp(at(one, "key")->valuestring, "krbtgt-rotate") == 0) {
            assert_text(one, "value", "1d");
            seen++;
        }
    }
    assert_int_equal(seen, 3);
    cJSON_Delete(out);
}

static void test_reload(void **state)
{
    struct admin *a = calloc(1, sizeof *a);
    struct sp_err e = {0};

    (void)state;
    assert_true(admin_open(&paths, ADMIN_WRITE, a, &e));
    write_file(paths.config, "[kdc]\nskew = 7s\n[realm]\naliases = HOME\n");
    assert_true(admin_reload(a, &e));
    assert_int_equal(a->config.kdc.skew_s, 7);
    write_file(paths.config, "[kdc]\nskew = x\n");
    assert_false(admin_reload(a, &e));
    assert_int_equal(a->config.kdc.skew_s, 7);
    assert_true(krb_is_realm(&a->config.kdc.realm, SP_LIT("EXAMPLE")));
    assert_true(krb_is_realm_alias(&a->config.kdc.realm, SP_LIT("home")));
    admin_close(a);
    free(a);
}

/* ---- accounts ---- */

#define ADD(name) "{\"op\":\"account.add\",\"name\":\"" name "\",\"password\":\"correct horse battery\""
#define OP(op, name) "{\"op\":\"" op "\",\"name\":\"" name "\"}"

static void test_names(void **state)
{
    static const struct {
        const char *typed, *found_by, *stored;
    } rows[] = {
        {"alice",              "alice@EXAMPLE",      "alice"                 },
        {"bob@example",        "bob",                "bob"                   },
        {"carol@corp.example", "carol@corp.example", "carol\\\\@corp.example"},
        {"nas1$",              "NAS1$",              "nas1$"                 },
        {"host/nas1",          "HOST/Nas1@EXAMPLE",  "host/nas1"             },
    };
    char text[300], want[5000];
    cJSON *out;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(text, sizeof text, ADD("%s") "}", rows[i].typed);
        run(text);
        snprintf(text, sizeof text, OP("account.show", "%s"), rows[i].found_by);
        out = call(text);
        snprintf(want, sizeof want, "\"%s\"", rows[i].stored);
        assert_list(at(out, "account"), "name", want);
        assert_text(at(out, "account"), "kind", "user");
        cJSON_Delete(out);
    }
    refuse(OP("account.show", "Alice"), SP_ENOTFOUND,
           "there is no account Alice"); /* user names compare with case */
    refuse(ADD("alice@EXAMPLE") "}", SP_EEXIST, "the name alice is taken");
    refuse(ADD("HOST/NAS1") "}", SP_EEXIST, "the name HOST/NAS1 is taken");
    refuse(ADD("x/y@OTHER") "}", SP_EINPUT, "the realm here is EXAMPLE, not OTHER");
}

static void test_account_add(void **state)
{
    cJSON *out =
        call(ADD("alice") ",\"aliases\":[\"al\",\"liz@corp.example\"],\"must_change\":true,\"admin\":true,"
                          "\"expires\":2000000000,\"comment\":\"x\",\"by\":\"uid 7\"}");
    const cJSON *acc = at(out, "account");

    (void)state;
    assert_list(acc, "flags", "[\"must-change\",\"admin\"]");
    assert_list(acc, "aliases", "[\"al\",\"liz\\\\@corp.example\"]");
    assert_list(acc, "etypes", "[18,17,20,19]");
    assert_text(acc, "salt_rule", "default");
    assert_text(acc, "expires", "2033-05-18T03:33:20Z");
    assert_text(acc, "creator", "uid 7");
    assert_true(at(acc, "kvno")->valueint == 1 && at(acc, "generation")->valueint == 1);
    assert_true(cJSON_IsNull(at(acc, "password_expires")));
    cJSON_Delete(out);
    cJSON_Delete(call(OP("account.show", "liz@corp.example")));
    refuse(ADD("bob") ",\"aliases\":[\"al\"]}", SP_EEXIST, "the name al is taken");
    refuse(OP("account.show", "bob"), SP_ENOTFOUND, "there is no account bob");
    refuse("{\"op\":\"account.add\",\"name\":\"bob\"}", SP_EINPUT, "\"password\" is missing, or no text");
    refuse("{\"op\":\"account.add\",\"name\":\"bob\",\"password\":\"short\"}", SP_EREFUSED,
           "The password must have at least 12 characters.");
    refuse(ADD("bob") ",\"enctypes\":[23]}", SP_EINPUT, "23 is no encryption type; 17, 18, 19 and 20 are");
    refuse(ADD("bob") ",\"expires\":\"soon\"}", SP_EINPUT, "\"expires\" is no time in seconds since 1970");
    refuse("{\"op\":\"account.fly\"}", SP_EINPUT, "there is no operation \"account.fly\"");
    refuse("{}", SP_EINPUT, "\"op\" is missing, or no text");
}

/* RFC 3962 4: the default salt is realm and name; the key is checked against a value from libkrb5's
 * string-to-key. */
static void test_salts(void **state)
{
    cJSON *out;
    const cJSON *first;

    (void)state;
    run(ADD("one") "}");
    run(ADD("two") ",\"salt\":\"random\"}");
    run(ADD("three") ",\"salt\":\"pinch\",\"enctypes\":[17]}");
    out = call(OP("account.keys", "one"));
    first = cJSON_GetArrayItem(at(out, "keys"), 0);
    assert_text(first, "salt", "EXAMPLEone");
    assert_true(at(first, "etype")->valueint == 18 && at(first, "kvno")->valueint == 1);
    assert_int_equal(strlen(at(first, "key")->valuestring), 64);
    cJSON_Delete(out);
    out = call(OP("account.show", "two"));
    assert_text(at(out, "account"), "salt_rule", "random");
    cJSON_Delete(out);
    out = call(OP("account.keys", "three"));
    assert_int_equal(cJSON_GetArraySize(at(out, "keys")), 1);
    assert_text(cJSON_GetArrayItem(at(out, "keys"), 0), "salt", "pinch");
    cJSON_Delete(out);
    run("{\"op\":\"account.passwd\",\"name\":\"three\",\"password\":\"another good one\"}");
    out = call(OP("account.keys", "three"));
    assert_text(cJSON_GetArrayItem(at(out, "keys"), 0), "salt", "pinch"); /* kept */
    cJSON_Delete(out);
    out = call(OP("account.keys", "krbtgt/EXAMPLE"));
    assert_true(cJSON_IsNull(at(cJSON_GetArrayItem(at(out, "keys"), 0), "salt")));
    cJSON_Delete(out);
}

static uint64_t generation(const char *op)
{
    cJSON *out = call(op);
    uint64_t g = (uint64_t)at(at(out, "account"), "generation")->valueint;

    cJSON_Delete(out);
    return g;
}

static void test_account_changes(void **state)
{
    cJSON *out;

    (void)state;
    run(ADD("alice") ",\"must_change\":true}");
    out = call("{\"op\":\"account.passwd\",\"name\":\"alice\",\"password\":\"a different horse\"}");
    assert_list(at(out, "account"), "flags", "[]");
    assert_true(at(at(out, "account"), "kvno")->valueint == 2);
    cJSON_Delete(out);
    assert_int_equal(generation(OP("account.disable", "alice")), 3);
    assert_int_equal(generation(OP("account.disable", "alice")), 3); /* nothing new */
    assert_int_equal(generation(OP("account.enable", "alice")), 4);
    assert_int_equal(generation(OP("account.unlock", "alice")), 4);
    out = call("{\"op\":\"account.alias\",\"name\":\"alice\",\"add\":[\"al\",\"al\"]}");
    assert_list(at(out, "account"), "aliases", "[\"al\"]");
    cJSON_Delete(out);
    run("{\"op\":\"account.alias\",\"name\":\"al\",\"add\":[\"liz\"],\"remove\":[\"al\"]}");
    refuse(OP("account.show", "al"), SP_ENOTFOUND, "there is no account al");
    refuse("{\"op\":\"account.alias\",\"name\":\"alice\",\"remove\":[\"al\"]}", SP_ENOTFOUND,
           "alice has no alias al");
    out = call("{\"op\":\"account.list\"}");
    assert_int_equal(cJSON_GetArraySize(at(out, "accounts")), 1);
    cJSON_Delete(out);
    run(OP("account.delete", "alice"));
    refuse(OP("account.delete", "alice"), SP_ENOTFOUND, "there is no account alice");
    refuse(OP("account.show", "liz"), SP_ENOTFOUND, "there is no account liz");
    refuse(OP("account.delete", "krbtgt/EXAMPLE"), SP_EREFUSED, "krbtgt/EXAMPLE belongs to the realm itself");
    refuse(OP("account.disable", "kadmin/changepw"), SP_EREFUSED,
           "kadmin/changepw belongs to the realm itself");
    refuse("{\"op\":\"account.passwd\",\"name\":\"krbtgt/EXAMPLE\",\"password\":\"a different horse\"}",
           SP_EREFUSED, "krbtgt/EXAMPLE has random keys, not a password");
}

/* ---- services ---- */

static void test_services(void **state)
{
    uint8_t block[65536];
    struct sp_arena mem;
    struct krb_keytab kt;
    struct sp_err e = {0};
    uint8_t *bytes;
    size_t n;
    cJSON *out;

    (void)state;
    out = call("{\"op\":\"service.add\",\"name\":\"cifs/"
               "files.corp.example\",\"aliases\":[\"192.0.2.7\",\"HOST/other\"],"
               "\"life\":60}");
    assert_list(at(out, "account"), "aliases", "[\"cifs/192.0.2.7\",\"HOST/other\",\"cifs/files\"]");
    assert_text(at(out, "account"), "kind", "service");
    assert_int_equal(at(at(out, "account"), "life")->valueint, 60);
    cJSON_Delete(out);
    refuse(OP("service.add", "CIFS/Files"), SP_EEXIST, "the name CIFS/Files is taken");
    refuse(OP("service.add", "files"), SP_EINPUT,
           "\"files\" is no service; write TYPE/HOST, as in host/nas1");
    refuse(OP("service.add", "host/a b"), SP_EINPUT,
           "\"host/a b\" is no service; write TYPE/HOST, as in host/nas1");
    refuse(OP("service.add", "host/.nas"), SP_EINPUT,
           "\"host/.nas\" is no service; write TYPE/HOST, as in host/nas1");
    refuse(OP("service.add", "host/nas1:"), SP_EINPUT,
           "\"host/nas1:\" is no service; write TYPE/HOST, as in host/nas1");
    refuse(OP("service.add", "ho*st/nas1"), SP_EINPUT,
           "\"ho*st/nas1\" is no service; write TYPE/HOST, as in host/nas1");
    refuse(OP("service.add", "host/n\xc3\xa4s"), SP_EINPUT,
           "\"host/n\xc3\xa4s\" is no service; write TYPE/HOST, as in host/nas1");
    refuse("{\"op\":\"account.alias\",\"name\":\"cifs/files\",\"add\":[\"a b\"]}", SP_EINPUT,
           "\"a b\" cannot name a service; write a host name, an address, or TYPE/HOST");
    refuse("{\"op\":\"account.alias\",\"name\":\"cifs/files\",\"add\":[\"x/y/z\"]}", SP_EINPUT,
           "\"x/y/z\" cannot name a service; write a host name, an address, or TYPE/HOST");
    refuse("{\"op\":\"account.alias\",\"name\":\"cifs/files\",\"add\":[\"al@corp\"]}", SP_EINPUT,
           "\"al@corp\" cannot name a service; write a host name, an address, or TYPE/HOST");
    run("{\"op\":\"service.add\",\"name\":\"MSSQLSvc/db_1.corp.example:1433\","
        "\"aliases\":[\"2001:db8::7\",\"MSSQLSvc/db.corp.example:MAIN\"]}");
    run(OP("service.delete", "MSSQLSvc/2001:db8::7"));
    run(OP("service.add", "cifs/files.other.example")); /* its short name is taken, and left out */

    run(OP("service.rotate", "cifs/files"));
    out = call(OP("service.keytab", "cifs/files"));
    assert_int_equal(at(out, "entries")->valueint, 4 * 2 * 4); /* names, versions, types */
    bytes = admin_unbase64(at(out, "keytab")->valuestring, &n);
    assert_non_null(bytes);
    sp_arena_init(&mem, block, sizeof block);
    assert_true(krb_get_keytab(sp_span(bytes, n), &mem, &kt, &e));
    assert_int_equal(kt.count, 32);
    assert_true(kt.v[0].kvno == 2 && kt.v[7].kvno == 1 && sp_same(kt.v[0].realm, SP_LIT("EXAMPLE")));
    free(bytes);
    cJSON_Delete(out);

    run(ADD("alice") "}");
    refuse(OP("service.keytab", "alice"), SP_EREFUSED, "alice is no service");
    refuse(OP("service.delete", "alice"), SP_EREFUSED, "alice is no service");
    refuse(OP("service.rotate", "krbtgt/EXAMPLE"), SP_EREFUSED, "krbtgt/EXAMPLE is no service");
    out = call("{\"op\":\"service.list\"}");
    assert_int_equal(cJSON_GetArraySize(at(out, "services")), 2);
    cJSON_Delete(out);
    run(OP("service.delete", "cifs/192.0.2.7"));
    refuse(OP("service.keytab", "cifs/files"), SP_ENOTFOUND, "there is no account cifs/files");
}

static void test_krbtgt_rotate(void **state)
{
    cJSON *out, *keys;

    (void)state;
    for (int kvno = 2; kvno < 6; kvno++) {
        out = call("{\"op\":\"krbtgt.rotate\"}");
        assert_int_equal(at(out, "kvno")->valueint, kvno);
        cJSON_Delete(out);
    }
    out = call(OP("account.keys", "krbtgt/EXAMPLE"));
    keys = cJSON_GetObjectItem(out, "keys");
    assert_int_equal(cJSON_GetArraySize(keys), 8); /* the newest and one before */
    assert_int_equal(at(cJSON_GetArrayItem(keys, 0), "kvno")->valueint, 5);
    assert_int_equal(at(cJSON_GetArrayItem(keys, 7), "kvno")->valueint, 4);
    cJSON_Delete(out);
    run("{\"op\":\"krbtgt.rotate\",\"revoke\":true}");
    out = call(OP("account.keys", "krbtgt/EXAMPLE"));
    keys = cJSON_GetObjectItem(out, "keys");
    assert_int_equal(cJSON_GetArraySize(keys), 4); /* nothing opens a ticket of before */
    assert_int_equal(at(cJSON_GetArrayItem(keys, 3), "kvno")->valueint, 6);
    cJSON_Delete(out);
}

static void test_status(void **state)
{
    cJSON *out;

    (void)state;
    write_file(paths.config, "[kdc]\nguess-limits = off\n");
    out = call("{\"op\":\"status\"}");
    assert_text(out, "realm", "EXAMPLE");
    assert_text(out, "master_key", "file");
    assert_false(cJSON_IsTrue(at(out, "guess_limits")));
    assert_non_null(strstr(cJSON_GetArrayItem(at(out, "warnings"), 0)->valuestring, "GUESS LIMITS ARE OFF"));
    cJSON_Delete(out);
}

/* ---- policy ---- */

static void test_policy(void **state)
{
    static const char *const name_text = "The password must not contain the account's name.",
                             *const common =
                                 "This password is on the list of common passwords; choose another.",
                             *const length = "The password must have at least 12 characters.";
    const struct {
        const char *name, *password, *why; /* NULL: good */
    } rows[] = {
        {"alice",           "correct horse battery",                            NULL                                                    },
        {"alice",           "elevenchars",                                      length                                                  },
        {"alice",           "twelve chars",                                     NULL                                                    },
        {"alice",           "\xc3\xa4\xc3\xb6\xc3\xbc\xc3\xa4\xc3\xb6\xc3\xbc",
         length                                                                                                                         }, /* six letters in twelve bytes */
        {"alice",           "in wonderALICEland",                               name_text                                               },
        {"al",              "talented and tall",                                NULL                                                    }, /* two letters are in everything */
        {"host/files.corp", "my files are mine",                                name_text                                               },
        {"nas1$",           "the nas1 password",                                name_text                                               },
        {"bob",             "correcthorsebatterystaple",                        common                                                  },
        {"bob",             "PasswordPassword",                                 common                                                  },
        {"bob",             "iloveyouforever2024!",                             common                                                  },
        {"bob",             "Password1234",                                     common                                                  },
        {"bob",             "in my own file",                                   common                                                  },
        {"bob",             "\xff\xfe not text at all",                         "The password must be UTF-8 text of at most 1023 bytes."},
    };
    struct admin_config *c = calloc(1, sizeof *c);

    (void)state;
    c->password_min = 12;
    snprintf(c->common_passwords, sizeof c->common_passwords, "%s/list", root);
    write_file(c->common_passwords, "first\nIn My Own File\r\n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sp_err e = {0};
        bool ok = admin_check_password(c, sp_str(rows[i].name), sp_str(rows[i].password), &e);

        if (ok != !rows[i].why || strcmp(e.text, rows[i].why ? rows[i].why : "") != 0)
            fail_msg("%s: %s", rows[i].password, e.text);
        assert_int_equal(e.kind, ok ? SP_OK : SP_EREFUSED);
    }
    free(c);
}

static void change(struct admin *a, const char *password, uint64_t generation_now, uint16_t want,
                   const char *text)
{
    struct admin_change c = {.account_id = 3, .generation = generation_now, .password_n = strlen(password)};
    uint16_t result = 99;
    char got[256];

    memcpy(c.password, password, c.password_n);
    admin_change_password(a, &c, &result, got);
    assert_int_equal(result, want);
    assert_string_equal(got, text);
}

static void test_change_password(void **state)
{
    struct admin *a = calloc(1, sizeof *a);
    struct sp_err e = {0};
    cJSON *out;

    (void)state;
    write_file(paths.config, "[policy]\nmax-age = 90d\n");
    run(ADD("alice") ",\"must_change\":true}");
    assert_true(admin_open(&paths, ADMIN_WRITE, a, &e));
    change(a, "short", 1, 4, "The password must have at least 12 characters.");
    change(a, "a different horse", 1, 0, "Password changed.");
    change(a, "a different horse", 1, 3,
           "The account has changed meanwhile; log in again."); /* generation is 2 now */
    admin_close(a);
    free(a);
    out = call(OP("account.show", "alice"));
    assert_list(at(out, "account"), "flags", "[]");
    assert_true(at(at(out, "account"), "kvno")->valueint == 2 &&
                at(at(out, "account"), "generation")->valueint == 2);
    assert_true(cJSON_IsString(at(at(out, "account"), "password_expires")));
    cJSON_Delete(out);
}

/* ---- export, import, backup ---- */

static char *with_text(const char *fmt, const char *text)
{
    cJSON *s = cJSON_CreateString(text);
    char *quoted = cJSON_PrintUnformatted(s), *out = NULL;

    assert_true(asprintf(&out, fmt, quoted) > 0);
    cJSON_free(quoted);
    cJSON_Delete(s);
    return out;
}

#define IMPORT "{\"op\":\"account.import\",\"passphrase\":\"long enough\",\"text\":%s}"

static void refuse_import(const char *fmt, const char *text, enum sp_kind kind, const char *why)
{
    char *req = with_text(fmt, text);

    refuse(req, kind, why);
    free(req);
}

static void test_export_import(void **state)
{
    cJSON *out, *before, *after;
    char *text, *req, *at_key;

    (void)state;
    run(ADD("alice") ",\"aliases\":[\"al\"],\"comment\":\"a \\\"quoted\\\" one\"}");
    run(ADD("bob") "}");
    run("{\"op\":\"service.add\",\"name\":\"host/nas1\"}");
    before = call(OP("account.keys", "alice"));
    refuse("{\"op\":\"account.export\",\"passphrase\":\"short\"}", SP_EREFUSED,
           "The passphrase must have at least 8 bytes.");
    out = call("{\"op\":\"account.export\",\"passphrase\":\"long enough\"}");
    text = strdup(at(out, "text")->valuestring);
    cJSON_Delete(out);
    assert_memory_equal(text, "sallyport-accounts 1 scrypt n=32768 r=8 p=1 salt=", 49);
    assert_null(strstr(text, "alice"));

    refuse_import("{\"op\":\"account.import\",\"passphrase\":\"another one\",\"text\":%s}", text, SP_EREFUSED,
                  "the passphrase is wrong, or the export was altered");
    refuse_import(IMPORT, "hello", SP_EINPUT, "the first line is no header of an account export");
    refuse_import(IMPORT, "sallyport-accounts 2 x\nAAAA\n", SP_EINPUT,
                  "the export has a format that this version does not know");
    at_key = strchr(text, '\n') + 20;
    *at_key = *at_key == 'A' ? 'B' : 'A';
    refuse_import(IMPORT, text, SP_EREFUSED, "the passphrase is wrong, or the export was altered");
    run(OP("account.delete", "alice"));
    out = call("{\"op\":\"account.export\",\"passphrase\":\"long enough\"}"); /* without alice */
    cJSON_Delete(out);

    free(text);
    run(ADD("carol") ",\"aliases\":[\"cc\"]}");
    out = call("{\"op\":\"account.export\",\"passphrase\":\"long enough\"}");
    text = strdup(at(out, "text")->valuestring);
    cJSON_Delete(out);
    cJSON_Delete(before);
    before = call(OP("account.keys", "carol"));
    run(OP("account.delete", "carol"));
    req = with_text(IMPORT, text);
    out = call(req);
    assert_int_equal(at(out, "imported")->valueint, 1); /* carol; bob and host/nas1 are still here */
    assert_list(out, "skipped", "[\"bob\",\"host/nas1\"]");
    cJSON_Delete(out);
    after = call(OP("account.keys", "cc"));
    assert_true(cJSON_Compare(before, after, true));
    cJSON_Delete(before);
    cJSON_Delete(after);
    free(req);

    run("{\"op\":\"account.passwd\",\"name\":\"bob\",\"password\":\"a different horse\"}");
    req = with_text("{\"op\":\"account.import\",\"passphrase\":\"long enough\",\"replace\":true,\"text\":%s}",
                    text);
    out = call(req);
    assert_int_equal(at(out, "imported")->valueint, 3);
    cJSON_Delete(out);
    free(req);
    assert_int_equal(generation(OP("account.show", "bob")), 3); /* tickets of the replaced password end */

    run(OP("account.delete", "carol")); /* one conflict, and nothing of the whole export comes in */
    run(OP("account.delete", "bob"));
    run(ADD("dave") ",\"aliases\":[\"cc\"]}");
    refuse_import(IMPORT, text, SP_EEXIST, "the name cc is taken");
    refuse(OP("account.show", "bob"), SP_ENOTFOUND, "there is no account bob");
    free(text);
}

/* ---- T035: an export that somebody made, with keys that nobody may have ---- */

static char *base64_of(const uint8_t *p, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = calloc(1, (n + 2) / 3 * 4 + 1), *at = out;

    assert_non_null(out);
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v =
            (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);

        *at++ = digit[v >> 18];
        *at++ = digit[v >> 12 & 63];
        *at++ = i + 1 < n ? digit[v >> 6 & 63] : '=';
        *at++ = i + 2 < n ? digit[v & 63] : '=';
    }
    return out;
}

static char *sealed_export(const char *plain)
{
    static const char head[] =
        "sallyport-accounts 1 scrypt n=2 r=1 p=1 salt=00000000000000000000000000000000 "
        "nonce=000000000000000000000000";
    const uint8_t zeros[16] = {0};
    struct sp_err e = {0};
    struct crypto *c = crypto_new(&e);
    uint8_t key[32], sealed[2048];
    size_t n = strlen(plain);
    char *body, *all = NULL;

    assert_non_null(c);
    assert_true(n + CRYPTO_SEAL_OVERHEAD <= sizeof sealed);
    assert_true(crypto_scrypt(c, SP_LIT("long enough"), sp_span(zeros, 16),
                              (struct crypto_scrypt){.n = 2, .r = 1, .p = 1}, key, &e));
    assert_true(crypto_seal(c, key, zeros, sp_str(head), sp_str(plain), sealed, &e));
    body = base64_of(sealed, n + CRYPTO_SEAL_OVERHEAD);
    assert_true(asprintf(&all, "%s\n%s\n", head, body) > 0);
    free(body);
    crypto_free(c);
    return all;
}

static void test_import_of_weak_keys(void **state)
{
    static const struct {
        int etype;
        const char *key;
        bool good;
    } row[] = {
        {23, "00112233445566778899aabbccddeeff",                                 false},
        {24, "00112233445566778899aabbccddeeff",                                 false},
        {16, "00112233445566778899aabbccddeeff0011223344556677",                 false},
        {3,  "0011223344556677",                                                 false},
        {1,  "0011223344556677",                                                 false},
        {25, "00112233445566778899aabbccddeeff",                                 false},
        {26, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", false},
        {18, "00112233445566778899aabbccddeeff",                                 false}, /* RC4's length */
        {17, "00112233445566778899aabbccddeeff",                                 true },
    };
    cJSON *out;

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        char plain[1024], *text, *req;

        snprintf(plain, sizeof plain,
                 "{\"name\":\"old%zu\",\"kind\":1,\"generation\":1,\"keys\":["
                 "{\"etype\":%d,\"kvno\":2,\"salt\":null,\"key\":\"%s\"},"
                 "{\"etype\":18,\"kvno\":1,\"key\":\"%064d\"}]}\n",
                 i, row[i].etype, row[i].key, 7);
        text = sealed_export(plain);
        if (row[i].good) {
            req = with_text(IMPORT, text);
            out = call(req);
            assert_int_equal(at(out, "imported")->valueint, 1);
            cJSON_Delete(out);
            free(req);
        } else {
            refuse_import(IMPORT, text, SP_EINPUT,
                          "account 1 of the export: a key that is none of type 17, 18, 19 or 20");
        }
        free(text);
    }
    out = call("{\"op\":\"account.list\"}");
    assert_int_equal(cJSON_GetArraySize(at(out, "accounts")), 1);
    cJSON_Delete(out);
}

static void test_backup(void **state) /* T128 */
{
    char req[5000], path[5000];
    struct admin_paths copy;

    (void)state;
    run(ADD("alice") "}");
    refuse("{\"op\":\"backup\",\"dir\":\"here\"}", SP_EINPUT, "\"here\" is no absolute path");
    snprintf(req, sizeof req, "{\"op\":\"backup\",\"dir\":\"%s/copy\"}", root);
    run(req);
    snprintf(path, sizeof path, "%s/copy/accounts/data.mdb", root);
    assert_int_equal(access(path, R_OK), 0);
    snprintf(path, sizeof path, "%s/copy/master.key", root);
    assert_int_equal(access(path, F_OK), -1); /* the key travels by itself */
    copy = paths;
    snprintf(copy.state, sizeof copy.state, "%.60s/copy", root);
    snprintf(req, sizeof req, "cp %s/master.key %.60s/copy/", paths.state, root);
    assert_int_equal(system(req), 0);
    paths = copy;
    cJSON_Delete(call(OP("account.show", "alice")));
}

/* ---- the lock and admin.sock ---- */

static void test_lock(void **state)
{
    struct admin *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
    struct sp_err e = {0};
    char why[5000];

    (void)state;
    assert_true(admin_open(&paths, ADMIN_WRITE, a, &e));
    assert_false(admin_open(&paths, ADMIN_WRITE, b, &e));
    assert_true(e.kind == SP_EREFUSED && e.proto == ADMIN_BUSY);
    e = (struct sp_err){0};
    assert_true(admin_open(&paths, ADMIN_READ, b, &e)); /* readers do not mind */
    admin_close(b);
    snprintf(why, sizeof why, "%s/lock is held, but nobody answers at admin.sock", paths.state);
    refuse("{\"op\":\"status\"}", SP_EBACKEND, why);
    admin_close(a);
    cJSON_Delete(call("{\"op\":\"status\"}"));
    free(a);
    free(b);
}

/* Commands that run at the same time wait for one another. */
static void test_parallel_commands(void **state)
{
    pid_t child[4];
    cJSON *out;

    (void)state;
    for (int i = 0; i < 4; i++) {
        child[i] = fork();
        if (child[i] == 0) {
            char req[5000];
            struct sp_err e = {0};
            cJSON *done;

            snprintf(req, sizeof req, ADD("user%d") "}", i);
            done = try_call(req, &e);
            _exit(done == NULL);
        }
    }
    for (int i = 0; i < 4; i++) {
        int status;

        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
    }
    out = call("{\"op\":\"account.list\"}");
    assert_int_equal(cJSON_GetArraySize(at(out, "accounts")), 4);
    cJSON_Delete(out);
}

/* A stand-in for the keeper: answers one request, whatever it is, after having looked at it. */
static void answer_once(int listener, const char *answer)
{
    int fd = accept(listener, NULL, NULL);
    uint32_t be;
    char buf[1000] = "";
    size_t n;

    if (fd < 0 || read(fd, &be, 4) != 4 || (n = ntohl(be)) >= sizeof buf || read(fd, buf, n) != (ssize_t)n)
        _exit(1);
    if (strcmp(buf, "{\"op\":\"status\"}") != 0)
        _exit(2);
    be = htonl((uint32_t)strlen(answer));
    _exit(write(fd, &be, 4) != 4 || write(fd, answer, strlen(answer)) != (ssize_t)strlen(answer));
}

static pid_t stand_in(const char *answer)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    pid_t child;

    snprintf(to.sun_path, sizeof to.sun_path, "%.80s/admin.sock", paths.run);
    unlink(to.sun_path);
    assert_int_equal(bind(fd, (const struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(listen(fd, 1), 0);
    child = fork();
    if (child == 0)
        answer_once(fd, answer);
    close(fd);
    return child;
}

static void test_wire(void **state)
{
    struct admin *a = calloc(1, sizeof *a);
    struct sp_err e = {.kind = SP_EEXIST, .proto = 7, .text = "the name x is taken"};
    cJSON *refusal = admin_answer(false, NULL, &e), *out;
    char *text = cJSON_PrintUnformatted(refusal);
    int status;
    pid_t child;

    (void)state;
    assert_string_equal(text,
                        "{\"ok\":false,\"kind\":\"exists\",\"code\":7,\"text\":\"the name x is taken\"}");
    e = (struct sp_err){0};
    assert_true(admin_open(&paths, ADMIN_WRITE, a, &e));
    child = stand_in("{\"ok\":true,\"result\":{\"realm\":\"FAR\"}}");
    out = call("{\"op\":\"status\"}");
    assert_text(out, "realm", "FAR");
    cJSON_Delete(out);
    assert_true(waitpid(child, &status, 0) == child && status == 0);
    child = stand_in(text);
    refuse("{\"op\":\"status\"}", SP_EEXIST, "the name x is taken");
    assert_true(waitpid(child, &status, 0) == child && status == 0);
    child = stand_in("nonsense");
    refuse("{\"op\":\"status\"}", SP_EBACKEND, "the daemon's answer cannot be read");
    assert_true(waitpid(child, &status, 0) == child && status == 0);
    admin_close(a);
    free(a);
    cJSON_free(text);
    cJSON_Delete(refusal);
}

/* ---- small things ---- */

static void test_base64(void **state)
{
    static const struct {
        const char *text, *bytes;
    } rows[] = {
        {"",           ""      },
        {"Zg==",       "f"     },
        {"Zm8=",       "fo"    },
        {"Zm9v",       "foo"   },
        {"Zm9v\nYmFy", "foobar"}
    }; /* RFC 4648 10 */
    static const char *const bad[] = {"Zg=", "Zh==", "Z", "Zg==Zg==", "Zm9*", "===="};
    size_t n;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t *p = admin_unbase64(rows[i].text, &n);

        assert_non_null(p);
        assert_true(n == strlen(rows[i].bytes) && memcmp(p, rows[i].bytes, n) == 0);
        free(p);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_null(admin_unbase64(bad[i], &n));
}

static void test_rng_after_fork(void **state)
{
    uint8_t a[32], b[32];
    int fd[2];

    (void)state;
    sp_rng_fill(admin_system_rng(), a, sizeof a);
    assert_int_equal(pipe(fd), 0);
    if (fork() == 0) {
        sp_rng_fill(admin_system_rng(), a, sizeof a);
        _exit(write(fd[1], a, sizeof a) != sizeof a);
    }
    sp_rng_fill(admin_system_rng(), a, sizeof a);
    assert_int_equal(read(fd[0], b, sizeof b), sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    close(fd[0]);
    close(fd[1]);
    assert_true(wait(NULL) > 0);
}

#define EMPTY(f) cmocka_unit_test_setup_teardown(f, make_root, drop_root)
#define REALM(f) cmocka_unit_test_setup_teardown(f, make_realm, drop_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_exit_status),
        EMPTY(test_init),
        REALM(test_master_key),
        REALM(test_lost_accounts),
        REALM(test_cut_off),
        REALM(test_wrong_configuration),
        REALM(test_realms),
        REALM(test_realms_as_a_whole),
        REALM(test_long_line),
        REALM(test_configuration),
        REALM(test_show_config),
        REALM(test_reload),
        REALM(test_names),
        REALM(test_account_add),
        REALM(test_salts),
        REALM(test_account_changes),
        REALM(test_services),
        REALM(test_krbtgt_rotate),
        REALM(test_status),
        EMPTY(test_policy),
        REALM(test_change_password),
        REALM(test_export_import),
        REALM(test_import_of_weak_keys),
        REALM(test_backup),
        REALM(test_lock),
        REALM(test_parallel_commands),
        REALM(test_wire),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_rng_after_fork),
    };

    setenv("TZ", "Pacific/Chatham", 1); /* nothing depends on it */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
