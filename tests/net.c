/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/address.h"
#include "net/framing.h"
#include "net/listen.h"
#include "net/loop.h"
#include "net/notify.h"
#include "net/owner.h"
#include "net/pass.h"
#include "net/sandbox.h"

/* ---- addresses ---- */

static void addresses_read_and_write(void **state)
{
    static const struct {
        const char *text;
        bool loopback;
        size_t n;
    } rows[] = {
        {"127.0.0.1:88",    true,  4 },
        {"127.9.9.9:0",     true,  4 },
        {"0.0.0.0:65535",   false, 4 },
        {"192.0.2.7:464",   false, 4 },
        {"[::1]:88",        true,  16},
        {"[::]:88",         false, 16},
        {"[::2]:88",        false, 16},
        {"[2001:db8::1]:1", false, 16},
        {"[fe80::1%lo]:88", false, 16},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct net_address a;
        struct sp_err e = {0};
        char text[NET_ADDRESS_TEXT];
        assert_true(net_parse_address(sp_str(rows[i].text), &a, &e));
        net_text_address(&a, text);
        assert_string_equal(text, rows[i].text);
        assert_int_equal(net_is_loopback(&a), rows[i].loopback);
        assert_int_equal(net_address_bytes(&a).n, rows[i].n);
    }
}

static void addresses_refused(void **state)
{
    static const char *const rows[] = {
        "",
        "127.0.0.1",
        "127.0.0.1:",
        ":88",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:8 8",
        "localhost:88",
        "127.0.0:88",
        "::1:88",
        "[::1]88",
        "[::1:88",
        "[]:88",
        "[127.0.0.1]:88",
        "[::1]:",
        "[::1%nosuch0]:88",
        "1.2.3.4:88:88",
        "[:",
        "127.0.0.1:000088",
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct net_address a = {.n = 42};
        struct sp_err e = {0};
        if (net_parse_address(sp_str(rows[i]), &a, &e))
            fail_msg("\"%s\" was taken for an address", rows[i]);
        assert_int_equal(e.kind, SP_EINPUT);
        assert_int_equal(a.n, 42); /* untouched */
        assert_non_null(strstr(e.text, "write 127.0.0.1:88"));
    }
}

static void addresses_compare(void **state)
{
    struct net_address a, b, c, d;
    struct sp_err e = {0};

    (void)state;
    assert_true(net_parse_address(SP_LIT("127.0.0.1:88"), &a, &e) &&
                net_parse_address(SP_LIT("127.0.0.1:88"), &b, &e));
    assert_true(net_parse_address(SP_LIT("127.0.0.1:89"), &c, &e) &&
                net_parse_address(SP_LIT("[::1]:88"), &d, &e));
    assert_true(net_same_address(&a, &b));
    assert_false(net_same_address(&a, &c));
    assert_false(net_same_address(&a, &d));
    net_set_bytes(&b, sp_span("\177\0\0\2", 4));
    assert_false(net_same_address(&a, &b));
    net_set_bytes(&d, net_address_bytes(&a)); /* another family: nothing happens */
    assert_int_equal(net_address_bytes(&d).n, 16);
}

/* ---- owners ---- */

#define OTHER_UID 64077

static int loopback_socket(int type, struct net_address *a)
{
    int fd = socket(a->sa.ss_family, type, 0);

    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&a->sa, a->n) == 0);
    a->n = sizeof a->sa;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a->sa, &a->n), 0);
    return fd;
}

/* A socket belongs to whom its maker was; root can be somebody else for a moment. */
static int socket_of(uid_t uid, int family, int type)
{
    int fd;

    assert_int_equal(seteuid(uid), 0);
    fd = socket(family, type, 0);
    assert_int_equal(seteuid(0), 0);
    assert_true(fd >= 0);
    return fd;
}

static void check_owner(int server, struct net_flow flow, int client, uid_t uid)
{
    struct net_address peer = {.n = sizeof peer.sa};
    struct net_owner o;
    uint32_t found = 77;

    assert_int_equal(getsockname(client, (struct sockaddr *)&peer.sa, &peer.n), 0);
    net_set_bytes(&peer, net_address_bytes(flow.own)); /* a UDP client that never called bind is on 0.0.0.0 */
    flow.peer = &peer;
    net_owner_open(&o);
    assert_true(o.fd >= 0);
    for (int i = 0; i < 3; i++) {
        assert_true(net_owner_find(&o, &flow, &found));
        assert_int_equal(found, uid);
    }
    (void)close(client); /* closed: nobody's, and above all not root's */
    assert_false(net_owner_find(&o, &flow, &found));
    net_owner_close(&o);
    assert_false(net_owner_find(&o, &flow, &found));
    (void)close(server);
}

static void owners_at(const char *where, uid_t uid)
{
    struct net_address udp, tcp;
    struct sp_err e = {0};
    int u, t, cu, ct, accepted;

    assert_true(net_parse_address(sp_str(where), &udp, &e));
    tcp = udp;
    u = loopback_socket(SOCK_DGRAM, &udp);
    t = loopback_socket(SOCK_STREAM, &tcp);
    cu = socket_of(uid, udp.sa.ss_family, SOCK_DGRAM);
    assert_int_equal(sendto(cu, "x", 1, 0, (struct sockaddr *)&udp.sa, udp.n), 1);
    check_owner(u, (struct net_flow){SOCK_DGRAM, NULL, &udp}, cu, uid);
    ct = socket_of(uid, tcp.sa.ss_family, SOCK_STREAM);
    assert_int_equal(listen(t, 5), 0);
    assert_int_equal(connect(ct, (struct sockaddr *)&tcp.sa, tcp.n), 0);
    accepted = accept(t, NULL, NULL);
    assert_true(accepted >= 0);
    check_owner(t, (struct net_flow){SOCK_STREAM, NULL, &tcp}, ct, uid);
    (void)close(accepted);
}

static void owners_of_loopback_sockets(void **state)
{
    (void)state;
    owners_at("127.0.0.1:0", geteuid());
    if (geteuid() != 0)
        return;
    owners_at("127.0.0.1:0", OTHER_UID);
    owners_at("127.0.0.1:0", 0);
    owners_at("[::1]:0", OTHER_UID);
}

/* Both ends on one port of two addresses: the kernel's answer could be about either. */
static void owners_of_equal_ports_are_not_told(void **state)
{
    struct net_address a, b;
    struct sp_err e = {0};
    struct net_owner o;
    uint32_t uid;
    int fa, fb;

    (void)state;
    assert_true(net_parse_address(SP_LIT("127.0.0.1:0"), &a, &e));
    fa = loopback_socket(SOCK_DGRAM, &a);
    b = a;
    net_set_bytes(&b, sp_span("\177\0\0\2", 4));
    fb = loopback_socket(SOCK_DGRAM, &b);
    net_owner_open(&o);
    assert_false(net_owner_find(&o, &(struct net_flow){SOCK_DGRAM, &b, &a}, &uid));
    net_owner_close(&o);
    (void)close(fa);
    (void)close(fb);
}

/* ---- framing ---- */

static void frames(void **state)
{
    static const struct {
        struct sp_span in;
        enum net_frame_result want;
        size_t used, n;
    } rows[] = {
        {SP_LIT(""),                 NET_FRAME_MORE,  0, 0},
        {SP_LIT("\0\0\0"),           NET_FRAME_MORE,  0, 0},
        {SP_LIT("\0\0\0\2"),         NET_FRAME_MORE,  0, 0},
        {SP_LIT("\0\0\0\2a"),        NET_FRAME_MORE,  0, 0},
        {SP_LIT("\0\0\0\2ab"),       NET_FRAME_WHOLE, 6, 2},
        {SP_LIT("\0\0\0\2abcd"),     NET_FRAME_WHOLE, 6, 2},
        {SP_LIT("\0\0\0\0"),         NET_FRAME_WRONG, 0, 0}, /* T017: 0, 1, too long, the reserved bit */
        {SP_LIT("\0\0\0\1a"),        NET_FRAME_WRONG, 0, 0},
        {SP_LIT("\0\1\0\0"),         NET_FRAME_MORE,  0, 0},
        {SP_LIT("\0\1\0\1"),         NET_FRAME_WRONG, 0, 0},
        {SP_LIT("\x80\0\0\0"),       NET_FRAME_WRONG, 0, 0},
        {SP_LIT("\xff\xff\xff\xff"), NET_FRAME_WRONG, 0, 0},
        {SP_LIT("\x80\0\0\2ab"),     NET_FRAME_WRONG, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sp_span message = {0};
        size_t used = 0;
        assert_int_equal(net_get_frame(rows[i].in, (struct net_frame_limits){2, 65536}, &message, &used),
                         rows[i].want);
        assert_int_equal(used, rows[i].used);
        assert_int_equal(message.n, rows[i].n);
        if (message.n)
            assert_ptr_equal(message.p, rows[i].in.p + 4);
    }
}

static void frame_lengths_round_trip(void **state)
{
    static const size_t rows[] = {2, 255, 256, 65535, 65536, 1u << 24};
    uint8_t head[4];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        net_put_frame_length(head, rows[i]);
        assert_int_equal((size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3],
                         rows[i]);
    }
}

static void stash_holds_what_came(void **state)
{
    struct net_stash s = {0};
    uint8_t byte;

    (void)state;
    for (unsigned i = 0; i < 5000; i++) {
        byte = (uint8_t)i;
        assert_true(net_stash_add(&s, sp_span(&byte, 1)));
        assert_true(s.max <= 2 * s.n || s.max == 256); /* T017: never more than twice what came */
    }
    net_stash_drop(&s, 4990);
    assert_int_equal(s.n, 10);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(s.p[i], (uint8_t)(4990 + i));
    net_stash_drop(&s, 10);
    assert_null(s.p);
    assert_int_equal(s.max, 0);
    assert_true(net_stash_add(&s, (struct sp_span){0}));
    assert_null(s.p);
}

/* ---- loop, pairs, listeners ---- */

struct counter {
    struct net_watch watch, *remove;
    struct net_loop *loop;
    int calls;
};

static void count_call(struct net_watch *w, uint32_t events)
{
    struct counter *c = w->owner;

    (void)events;
    c->calls++;
    if (c->remove)
        net_loop_remove(c->loop, c->remove);
}

/* Two are ready at once; whichever comes first removes the other, which must not be called any more. */
static void removed_watches_are_not_called(void **state)
{
    struct net_loop loop;
    struct counter a = {.loop = &loop}, b = {.loop = &loop};
    struct sp_err e = {0};
    int pair[2][2];

    (void)state;
    assert_true(net_loop_init(&loop, &e));
    for (int i = 0; i < 2; i++) {
        struct counter *c = i ? &b : &a;
        assert_true(net_make_pair(pair[i], &e));
        c->watch = (struct net_watch){.fd = pair[i][0], .ready = count_call, .owner = c};
        c->remove = i ? &a.watch : &b.watch;
        assert_true(net_loop_add(&loop, &c->watch, EPOLLIN, &e));
        assert_true(net_send_now(pair[i][1], SP_LIT("x")));
    }
    assert_int_equal(net_loop_turn(&loop, 1000), 2);
    assert_int_equal(a.calls + b.calls, 1);
    net_loop_close(&loop);
    for (int i = 0; i < 4; i++)
        close(pair[i / 2][i % 2]);
}

static void pairs_carry_messages_and_descriptors(void **state)
{
    struct sp_err e = {0};
    int pair[2], got, pipes[2];
    char buf[16];

    (void)state;
    assert_true(net_make_pair(pair, &e));
    assert_int_equal(net_receive(pair[0], buf, sizeof buf, &got), -1); /* nothing yet */
    assert_int_equal(pipe(pipes), 0);
    assert_true(net_send(pair[1], SP_LIT("one"), pipes[1]));
    assert_true(net_send(pair[1], SP_LIT("two"), -1));
    assert_int_equal(net_receive(pair[0], buf, sizeof buf, &got), 3);
    assert_memory_equal(buf, "one", 3);
    assert_true(got >= 0);
    assert_true(fcntl(got, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(write(got, "!", 1), 1);
    assert_int_equal(read(pipes[0], buf, 1), 1);
    assert_int_equal(net_receive(pair[0], buf, sizeof buf, &got), 3);
    assert_int_equal(got, -1);
    close(pair[1]);
    assert_int_equal(net_receive(pair[0], buf, sizeof buf, &got), 0); /* gone */
    assert_false(net_send_now(pair[0], SP_LIT("x")));
    close(pair[0]);
}

static void full_pairs_do_not_wait(void **state)
{
    static uint8_t block[60000];
    struct sp_err e = {0};
    int pair[2], sent = 0;

    (void)state;
    assert_true(net_make_pair(pair, &e));
    while (sent < 1000 && net_send_now(pair[0], sp_span(block, sizeof block)))
        sent++;
    assert_in_range(sent, 1, 999);
    assert_int_equal(errno, EAGAIN);
    close(pair[0]);
    close(pair[1]);
}

static void listeners_bind_what_was_asked(void **state)
{
    struct net_address a, b;
    struct sp_err e = {0};
    int udp = -1, tcp, again;

    (void)state;
    tcp = -1;
    for (int i = 0; i < 20 && tcp < 0; i++) { /* somebody else may hold that TCP port */
        e = (struct sp_err){0};
        assert_true(net_parse_address(SP_LIT("127.0.0.1:0"), &a, &e));
        udp = net_listen_udp(&a, &e);
        assert_true(udp >= 0 && ntohs(((struct sockaddr_in *)&a.sa)->sin_port) > 0);
        b = a;
        tcp = net_listen_tcp(&b, &e); /* the port number that UDP got */
        if (tcp < 0)
            close(udp);
    }
    assert_true(tcp >= 0 && net_same_address(&a, &b));
    again = net_listen_udp(&b, &e); /* after its patience */
    assert_int_equal(again, -1);
    assert_int_equal(e.proto, EADDRINUSE);
    assert_non_null(strstr(e.text, "127.0.0.1"));
    close(udp);
    close(tcp);
}

/* A directory whose path does not fit into a UNIX address (decision 10). */
static void unix_sockets_under_long_paths(void **state)
{
    char dir[400] = "/tmp/sp-net-XXXXXX", part[200];
    struct sp_err e = {0};
    struct stat st;
    int fd;

    (void)state;
    assert_non_null(mkdtemp(dir));
    memset(part, 'x', sizeof part);
    part[0] = '/';
    part[sizeof part - 1] = 0;
    strcat(dir, part);
    assert_int_equal(mkdir(dir, 0700), 0);
    for (int i = 0; i < 2; i++) { /* the second replaces what the first left */
        fd = net_listen_unix(dir, "s", 0600, &e);
        assert_true(fd >= 0);
        close(fd);
    }
    strcat(dir, "/s");
    assert_int_equal(stat(dir, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0600);
    *strrchr(dir, '/') = 0;
    net_unlink_unix(dir, "s");
    assert_int_equal(rmdir(dir), 0);
    *strrchr(dir, '/') = 0;
    assert_int_equal(rmdir(dir), 0);
    assert_int_equal(net_listen_unix("/nonexistent", "s", 0600, &e), -1);
    assert_int_equal(e.kind, SP_EBACKEND);
}

static void notify_needs_a_socket(void **state)
{
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    assert_false(net_notify("READY=1"));
    setenv("NOTIFY_SOCKET", "relative", 1);
    assert_false(net_notify("READY=1"));
    setenv("NOTIFY_SOCKET", "/nonexistent/socket", 1);
    assert_false(net_notify("READY=1"));
    unsetenv("NOTIFY_SOCKET");
}

/* ---- the sandbox (T123): each attempt in a child of its own ---- */

static void try_nothing(void)
{
    (void)!write(STDERR_FILENO, "", 0);
    (void)getpid();
}
static void try_open(void)
{
    (void)open("/etc/passwd", O_RDONLY);
}
static void try_exec(void)
{
    (void)execl("/bin/true", "true", NULL);
}
static void try_socket(void)
{
    (void)socket(AF_INET, SOCK_STREAM, 0);
}
static void try_connect(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};

    (void)connect(0, (struct sockaddr *)&to, sizeof to);
}
static void try_ptrace(void)
{
    (void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}
static void try_fork(void)
{
    (void)fork();
}
static void try_unlink(void)
{
    (void)unlink("/tmp/sp-net-nothing");
}
static void try_kill(void)
{
    (void)kill(getppid(), 0);
}
static void try_executable_map(void)
{
    (void)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
static void try_executable_protect(void)
{
    static _Alignas(4096) uint8_t page[4096];

    (void)mprotect(page, sizeof page, PROT_READ | PROT_WRITE | PROT_EXEC);
}
static void try_undo(void)
{
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static int status_after(void (*attempt)(void))
{
    struct sp_err e = {0};
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        if (!net_hide(&e) || !net_drop_capabilities(&e) || !net_enter_sandbox(NET_SANDBOX_SERVES, &e))
            _exit(99);
        attempt();
        _exit(7);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void sandbox_kills(void **state)
{
    static const struct {
        const char *what;
        void (*attempt)(void);
    } rows[] = {
        {"open",                   try_open              },
        {"exec",                   try_exec              },
        {"socket",                 try_socket            },
        {"connect",                try_connect           },
        {"ptrace",                 try_ptrace            },
        {"fork",                   try_fork              },
        {"unlink",                 try_unlink            },
        {"kill",                   try_kill              },
        {"executable memory",      try_executable_map    },
        {"memory made executable", try_executable_protect},
        {"prctl",                  try_undo              },
    };
    int status;

    (void)state;
    status = status_after(try_nothing);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        status = status_after(rows[i].attempt);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
            fail_msg("%s: status %#x instead of SIGSYS", rows[i].what, (unsigned)status);
    }
}

static void hidden_processes_leave_no_core(void **state)
{
    int status = 0;
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        struct sp_err e = {0};
        struct rlimit core;
        bool ok = net_hide(&e) && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0;
        ok = ok && getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_cur == 0 && core.rlim_max == 0;
        _exit(ok ? 7 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void unknown_users_are_named(void **state)
{
    struct sp_err e = {0};

    (void)state;
    assert_false(net_become("no-such-user-here", &e));
    assert_int_equal(e.kind, SP_ENOTFOUND);
    assert_non_null(strstr(e.text, "no-such-user-here"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_read_and_write),
        cmocka_unit_test(addresses_refused),
        cmocka_unit_test(addresses_compare),
        cmocka_unit_test(owners_of_loopback_sockets),
        cmocka_unit_test(owners_of_equal_ports_are_not_told),
        cmocka_unit_test(frames),
        cmocka_unit_test(frame_lengths_round_trip),
        cmocka_unit_test(stash_holds_what_came),
        cmocka_unit_test(removed_watches_are_not_called),
        cmocka_unit_test(pairs_carry_messages_and_descriptors),
        cmocka_unit_test(full_pairs_do_not_wait),
        cmocka_unit_test(listeners_bind_what_was_asked),
        cmocka_unit_test(unix_sockets_under_long_paths),
        cmocka_unit_test(notify_needs_a_socket),
        cmocka_unit_test(sandbox_kills),
        cmocka_unit_test(hidden_processes_leave_no_core),
        cmocka_unit_test(unknown_users_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
