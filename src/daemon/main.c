/* SPDX-License-Identifier: MIT */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/keeper.h"
#include "daemon/worker.h"

static const char help[] =
    "usage: sallyportd [--root DIR] [--foreground] [options]\n"
    "\n"
    "The Local KDC of this machine. Reads etc/sallyport/sallyport.conf and conf.d/*.conf.\n"
    "\n"
    "  --root DIR                   the whole instance lives under DIR (default: $SALLYPORT_ROOT, else /);\n"
    "                               needs no root, and the daemon stays the user that started it\n"
    "  --foreground                 stay in the foreground (always so; for service managers and people)\n"
    "  --listen ADDR:PORT           KDC address instead of the configured ones; may be repeated;\n"
    "                               IPv6 in brackets; \"none\" for none\n"
    "  --listen-kpasswd ADDR:PORT   password change address, likewise\n"
    "  --workers N                  worker processes (default: [daemon] workers, else one per core)\n"
    "  --help, --version\n"
    "\n"
    "SIGHUP reads the configuration again, SIGTERM ends. Exit status: 0 ended as told, 1 refused, 2 usage "
    "or\n"
    "configuration, 3 no instance there, 5 not permitted.\n";

static char listen_list[ADMIN_LISTEN_MAX][64], kpasswd_list[ADMIN_LISTEN_MAX][64];

static _Noreturn void wrong_usage(const char *what, const char *why)
{
    (void)fprintf(stderr, "sallyportd: %s: %s; see sallyportd --help\n", what, why);
    exit(2);
}

static void add_address(char (*list)[64], uint32_t *count, const char *option, const char *text)
{
    struct net_address a;
    struct sp_err e = {0};

    if (strcmp(text, "none") == 0)
        return;
    if (*count == ADMIN_LISTEN_MAX || strlen(text) >= 64)
        wrong_usage(option, "too many, or too long");
    if (!net_parse_address(sp_str(text), &a, &e))
        wrong_usage(option, e.text);
    (void)snprintf(list[(*count)++], 64, "%s", text);
}

static uint32_t worker_count(const char *text)
{
    uint64_t n;

    if (!sp_decimal(sp_str(text), WORKERS_MAX, &n) || n == 0)
        wrong_usage("--workers", "a number from 1 to 256 is wanted");
    return (uint32_t)n;
}

static const struct option options[] = {
    {"root",           required_argument, NULL, 'r'},
    {"foreground",     no_argument,       NULL, 'f'},
    {"listen",         required_argument, NULL, 'l'},
    {"listen-kpasswd", required_argument, NULL, 'k'},
    {"workers",        required_argument, NULL, 'w'},
    {"help",           no_argument,       NULL, 'h'},
    {"version",        no_argument,       NULL, 'v'},
    {NULL,             0,                 NULL, 0  },
};

static _Noreturn void unknown_option(const char *given)
{
    const struct option *best = options;
    char word[32], meant[48];

    (void)snprintf(word, sizeof word, "%.*s", (int)strcspn(given + strspn(given, "-"), "="),
                   given + strspn(given, "-"));
    for (const struct option *o = options; o->name; o++)
        if (admin_word_distance(word, o->name) < admin_word_distance(word, best->name))
            best = o;
    (void)snprintf(meant, sizeof meant, "no such option; did you mean --%s?", best->name);
    wrong_usage(given,
                admin_word_distance(word, best->name) <= 1 + strlen(word) / 3 ? meant : "no such option");
}

static void read_option(int c, struct keeper_options *o)
{
    switch (c) {
    case 'r':
        o->root = optarg;
        break;
    case 'l':
        o->listen = listen_list;
        add_address(listen_list, &o->listen_count, "--listen", optarg);
        break;
    case 'k':
        o->listen_kpasswd = kpasswd_list;
        add_address(kpasswd_list, &o->listen_kpasswd_count, "--listen-kpasswd", optarg);
        break;
    case 'w':
        o->workers = worker_count(optarg);
        break;
    case 'h':
        (void)fputs(help, stdout);
        exit(0);
    case 'v':
        (void)puts("sallyportd " SP_VERSION);
        exit(0);
    case 'f':
    default:
        break;
    }
}

int main(int argc, char **argv)
{
    struct keeper_options o = {0};
    int c;

    if (argc == 2 && strcmp(argv[1], "--kdc-worker") == 0) /* the keeper started us: not for people */
        worker_main(NULL);
    opterr = 0; /* one line for each mistake, and it is ours */
    while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (c == ':')
            wrong_usage(argv[optind - 1], "wants a value");
        if (c == '?')
            unknown_option(strncmp(argv[optind - 1], "--", 2) == 0 ? argv[optind - 1]
                                                                   : (char[]){'-', (char)optopt, 0});
        read_option(c, &o);
    }
    if (optind < argc)
        wrong_usage(argv[optind], "not an option");
    return keeper_main(&o);
}
