/* SPDX-License-Identifier: MIT */
#include "net/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool failed(const char *what, struct sp_err *e)
{
    return sp_fail(e, SP_EBACKEND, errno, "%s: %s", what, strerror(errno));
}

bool net_hide(struct sp_err *e)
{
    if (setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}) != 0)
        return failed("no limit for core files", e);
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 || failed("PR_SET_DUMPABLE", e);
}

unsigned long net_raise_descriptors(unsigned long want)
{
    struct rlimit now = {0, 0}, more;

    (void)getrlimit(RLIMIT_NOFILE, &now);
    if (now.rlim_cur >= want)
        return now.rlim_cur;
    more = (struct rlimit){want, now.rlim_max > want ? now.rlim_max : want};
    if (setrlimit(RLIMIT_NOFILE, &more) == 0)
        return want;
    more = (struct rlimit){now.rlim_max, now.rlim_max};
    return setrlimit(RLIMIT_NOFILE, &more) == 0 ? now.rlim_max : now.rlim_cur;
}

/* By system call: libcap would be a dependency for two calls. */
static bool set_capabilities(uint32_t keep, struct sp_err *e)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2] = {
        {.effective = keep, .permitted = keep}
    };

    return syscall(SYS_capset, &head, sets) == 0 || failed("capset", e);
}

bool net_drop_capabilities(struct sp_err *e)
{
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return failed("PR_SET_NO_NEW_PRIVS", e);
    return set_capabilities(0, e);
}

bool net_become(const char *user, struct sp_err *e)
{
    const struct passwd *pw = getpwnam(user);

    if (!pw)
        return sp_fail(e, SP_ENOTFOUND, 0, "there is no user \"%s\" ([daemon] user): run systemd-sysusers",
                       user);
    (void)prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
    if (initgroups(user, pw->pw_gid) != 0 || setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) != 0 ||
        setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) != 0)
        return failed(user, e);
    return set_capabilities(1u << CAP_NET_BIND_SERVICE, e);
}

/* Nothing here takes a path or makes a new socket. fcntl is LMDB's reader lock; futex, gettid and
 * set_robust_list the C library's. */
static const int allowed[] = {
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendto),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendmsg),
    SCMP_SYS(recvmmsg),
    SCMP_SYS(sendmmsg),
    SCMP_SYS(accept4),
    SCMP_SYS(shutdown),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(close),
    SCMP_SYS(fcntl),
    SCMP_SYS(futex),
    SCMP_SYS(gettid),
    SCMP_SYS(getpid),
    SCMP_SYS(getrandom),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(sched_yield),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

/* Memory may be mapped and protected, never made executable; a signal only to ourselves (abort). */
static int add_conditional(scmp_filter_ctx c)
{
    const struct scmp_arg_cmp no_exec = {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0};
    const struct scmp_arg_cmp ourselves = {0, SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0};
    int bad = 0;

    bad |= seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, no_exec);
    bad |= seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, no_exec);
    bad |= seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, ourselves);
    return bad;
}

/* What goes out: Internet sockets and nothing else; how much can be read without blocking (libevent asks). */
static int add_connecting(scmp_filter_ctx c)
{
    static const int families[] = {AF_INET, AF_INET6};
    static const unsigned long questions[] = {FIONREAD, FIONBIO};
    int bad = 0;

    for (size_t i = 0; i < 2; i++) {
        const struct scmp_arg_cmp family = {0, SCMP_CMP_EQ, (scmp_datum_t)families[i], 0};
        const struct scmp_arg_cmp question = {1, SCMP_CMP_EQ, questions[i], 0};
        bad |= seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, family);
        bad |= seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, question);
    }
    bad |= seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(connect), 0);
    return bad;
}

bool net_enter_sandbox(enum net_sandbox which, struct sp_err *e)
{
    scmp_filter_ctx c = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int bad = c ? 0 : -ENOMEM;

    if (c)
        bad |= seccomp_attr_set(c, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    for (size_t i = 0; c && i < sizeof allowed / sizeof *allowed; i++)
        bad |= seccomp_rule_add(c, SCMP_ACT_ALLOW, allowed[i], 0);
    if (!bad)
        bad = add_conditional(c);
    if (!bad && which == NET_SANDBOX_CONNECTS)
        bad = add_connecting(c);
    if (!bad)
        bad = seccomp_load(c);
    if (c)
        seccomp_release(c);
    return bad == 0 || sp_fail(e, SP_EBACKEND, -bad, "seccomp: %s", strerror(-bad));
}
