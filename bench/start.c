/* SPDX-License-Identifier: MIT */
/* bench-start: how long a server takes from exec to its first good reply. Starts the command, asks as a login
 * with a time stamp would until an answer comes, decrypts it, ends the server again. Prints one JSON object.
 */
#include "arguments.h"
#include "setup.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    AGAIN_MS = 1,   /* after which an unanswered request is sent again */
    PAUSE_US = 20,  /* when nobody has the port yet */
    LIMIT_S = 20,   /* for the whole start */
    END_MS = 10000, /* for the end, after which the server is killed */
    REPLY_MAX = 65536,
};

struct start {
    struct sockaddr_in server;
    uint32_t users;
    int32_t etype;
    uint32_t core;
    char **argv;
};

_Noreturn static void usage(void)
{
    fputs("usage: bench-start --server ADDRESS:PORT --core CORE [--users N] [--type 18|20] -- COMMAND...\n",
          stderr);
    exit(2);
}

static pid_t launch(const struct start *s)
{
    pid_t pid = fork();
    cpu_set_t set;

    if (pid < 0)
        bench_die("cannot fork", NULL);
    if (pid > 0)
        return pid;
    CPU_ZERO(&set);
    CPU_SET(s->core, &set);
    setsid();
    if (sched_setaffinity(0, sizeof set, &set) != 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        _exit(126);
    execvp(s->argv[0], s->argv);
    _exit(127);
}

/* Answer or end of patience; a port that nobody has yet is told by the kernel at once. */
static size_t ask(int fd, struct sp_span request, uint8_t reply[REPLY_MAX], uint64_t until_ns, uint32_t *sent)
{
    while (bench_mono_ns() < until_ns) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n;

        *sent += send(fd, request.p, request.n, 0) >= 0;
        if (poll(&p, 1, AGAIN_MS) == 0)
            continue;
        n = recv(fd, reply, REPLY_MAX, MSG_DONTWAIT);
        if (n > 0)
            return (size_t)n;
        usleep(PAUSE_US);
    }
    return 0;
}

static void end(pid_t pid)
{
    for (unsigned ms = 0; ms < END_MS; ms++) {
        kill(-pid, SIGTERM);
        if (waitpid(pid, NULL, WNOHANG) != 0)
            return;
        usleep(1000);
    }
    kill(-pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static int measure(const struct start *s)
{
    static uint8_t reply[REPLY_MAX];
    struct bench_maker maker;
    struct bench_request request;
    struct sp_arena arena;
    struct sp_err e = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    uint64_t began, took;
    uint32_t sent = 0;
    size_t n;
    pid_t pid;

    bench_init_maker(&maker, NULL, s->etype,
                     (struct sp_env){.wall_us = bench_wall_us(), .rng = bench_system_rng()});
    bench_map_arena(&arena, 1u << 20);
    if (!bench_make(&maker, BENCH_AS_TS, s->users, 1, &arena, &request, &e))
        bench_die("cannot make a request", &e);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&s->server, sizeof s->server) != 0)
        bench_die("cannot reach the server's address", NULL);
    began = bench_mono_ns();
    pid = launch(s);
    n = ask(fd, request.bytes, reply, began + LIMIT_S * (uint64_t)1000000000, &sent);
    took = bench_mono_ns() - began;
    end(pid);
    if (n == 0)
        bench_die("the server does not answer", NULL);
    if (!bench_check(maker.crypto, &request, sp_span(reply, n), &arena, NULL, &e))
        bench_die("a bad reply", &e);
    printf("{\"start_ms\":%.3f,\"sent\":%u}\n", (double)took / 1e6, sent);
    crypto_free(maker.crypto);
    return 0;
}

static bool set(void *into, int letter, const char *value)
{
    struct start *s = into;

    switch (letter) {
    case 's':
        return bench_read_address(value, &s->server);
    case 'c':
        s->core = (uint32_t)strtoul(value, NULL, 10);
        return s->core < CPU_SETSIZE;
    case 'u':
        return bench_read_number(value, 100000000, &s->users);
    default:
        return bench_read_etype(value, &s->etype);
    }
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"server", 1, NULL, 's'},
        {"core",   1, NULL, 'c'},
        {"users",  1, NULL, 'u'},
        {"type",   1, NULL, 't'},
        {NULL,     0, NULL, 0  },
    };
    struct start s = {.users = 1, .etype = ENCTYPE_AES256_CTS_HMAC_SHA1_96};
    int command = bench_read_options(argc, argv, names, set, &s);

    if (command < 0 || command >= argc || s.server.sin_port == 0)
        usage();
    s.argv = argv + command;
    return measure(&s);
}
