/* SPDX-License-Identifier: MIT */
/* The workers and the courier: processes of this same program, told what they need, started again when they
 * die. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/keeper.h"
#include "daemon/worker.h"
#include "net/pass.h"

#define PROGRAM_FD (CHANNEL_FD + 1) /* the courier's, while it is executed */
#define PROGRAM_PATH "/proc/self/fd/4"
_Static_assert(PROGRAM_FD == 4, "as in the path");
#define LONG_LIVED_US 10000000 /* a worker that lived so long is started again at once */
#define BACKOFF_MAX_US 10000000

static int64_t now_us(void)
{
    return admin_env().mono_us;
}

static bool is_courier(const struct crew_member *m)
{
    return m->index == CREW_COURIER;
}

/* As people are told. */
static const char *role_of(const struct crew_member *m, char room[32])
{
    (void)snprintf(room, 32, "worker %u", m->index);
    return is_courier(m) ? "the courier" : room;
}

static bool is_there(const struct crew_member *m)
{
    return m->state == CREW_STARTING || m->state == CREW_READY;
}

static bool is_door_of(const struct crew_member *m, const struct channel_door *d)
{
    return is_courier(m) == (d->kind >= DOOR_COURIER);
}

static bool tell(struct crew_member *m, const void *p, size_t n, int fd)
{
    return m->channel.fd >= 0 && net_send(m->channel.fd, sp_span(p, n), fd);
}

/* A pair between the courier and a worker that is ready to be asked. Where it fails, that worker is not
 * asked. */
static void link_courier(struct keeper *k, struct crew_member *m)
{
    struct channel_link link = {.type = CHANNEL_LINK, .worker = m->index};
    struct crew_member *courier = &k->crew[CREW_COURIER];
    struct sp_err e = {0};
    int pair[2] = {-1, -1};

    if (is_courier(m) || !is_there(courier))
        return;
    if (net_make_pair(pair, &e) && tell(m, &link, sizeof link, pair[1]))
        (void)tell(courier, &link, sizeof link, pair[0]);
    for (int i = 0; i < 2; i++)
        if (pair[i] >= 0)
            (void)close(pair[i]);
}

/* ---- what workers say ---- */

/* To those whom another worker asks. What a full channel does not take is asked for again soon. */
static void pass_on(const struct crew_member *from, const struct channel_give_up *what)
{
    struct crew_member *crew = from->keeper->crew;

    for (uint32_t i = 0; i < WORKERS_MAX; i++)
        if (&crew[i] != from && crew[i].state == CREW_READY &&
            (what->worker == i || what->worker == TALLY_NOBODY))
            (void)net_send_now(crew[i].channel.fd, sp_span(what, sizeof *what));
}

static void heard(struct crew_member *m, const void *buf, size_t n)
{
    const struct channel_plain *plain = buf;
    char room[32];

    if (n >= sizeof *plain && plain->type == CHANNEL_READY) {
        if (m->state == CREW_STARTING) /* it may have been told to stop in the meantime */
            m->state = CREW_READY;
        link_courier(m->keeper, m);
        keeper_worker_ready(m->keeper);
    } else if (n == sizeof(struct channel_failed) && plain->type == CHANNEL_FAILED) {
        const struct channel_failed *f = buf;
        keeper_say(m->keeper, "worker-failed", "%s: %s", role_of(m, room), f->text);
        (void)sp_fail(&m->keeper->fatal, SP_EBACKEND, 0, "%s: %.120s", role_of(m, room), f->text);
    } else if (n == sizeof(struct channel_change) && plain->type == CHANNEL_CHANGE) {
        keeper_change(m->keeper, m->index, buf);
    } else if (n == sizeof(struct channel_activity) && plain->type == CHANNEL_ACTIVITY) {
        keeper_count(m->keeper, buf);
    } else if (n == sizeof(struct channel_give_up) && plain->type == CHANNEL_GIVE_UP) {
        pass_on(m, buf);
    } else if (n == sizeof(struct channel_health) && plain->type == CHANNEL_HEALTH && is_courier(m)) {
        keeper_health(m->keeper, buf);
    }
}

static void stop_watching(struct crew_member *m, struct net_watch *w)
{
    if (w->fd < 0)
        return;
    net_loop_remove(&m->keeper->loop, w);
    (void)close(w->fd);
    w->fd = -1;
}

static void channel_ready(struct net_watch *w, uint32_t events)
{
    static _Alignas(16) uint8_t buf[NET_PASS_MAX];
    struct crew_member *m = w->owner;
    int fd;
    long n = net_receive(w->fd, buf, sizeof buf, &fd);

    (void)events;
    if (fd >= 0)
        (void)close(fd); /* workers have nothing to give */
    if (n == 0)
        stop_watching(m, w);
    if (n <= 0)
        return;
    heard(m, buf, (size_t)n);
    if (((struct channel_plain *)buf)->type == CHANNEL_CHANGE)
        sp_wipe(buf, (size_t)n);
}

static void records_ready(struct net_watch *w, uint32_t events)
{
    static uint8_t buf[NET_PASS_MAX];
    struct crew_member *m = w->owner;
    int fd;
    long n = net_receive(w->fd, buf, sizeof buf, &fd);

    (void)events;
    if (fd >= 0)
        (void)close(fd);
    if (n == 0)
        stop_watching(m, w);
    else if (n > 0)
        sink_write(&m->keeper->sink, sp_span(buf, (size_t)n));
}

/* ---- telling ---- */

static bool is_sandboxed(void)
{
#ifdef SP_TESTING
    return !getenv("SALLYPORT_NO_SANDBOX");
#else
    return true;
#endif
}

static bool tell_setup(struct crew_member *m)
{
    static struct channel_setup s;
    struct keeper *k = m->keeper;
    bool ok;

    s = (struct channel_setup){.type = CHANNEL_SETUP,
                               .worker = m->index,
                               .shared_n = k->shared_n,
                               .tally_at = k->tally_at,
                               .sandbox = is_sandboxed()};
    memcpy(s.master, k->master, sizeof s.master);
    (void)snprintf(s.state, sizeof s.state, "%s", k->paths.state);
    s.config = k->config;
    ok = tell(m, &s, sizeof s, k->shared_fd);
    sp_wipe(&s, sizeof s);
    return ok;
}

static bool tell_supply(struct crew_member *m)
{
    const struct supply *s = &m->keeper->supply;
    struct channel_realms realms = {.type = CHANNEL_REALMS, .count = s->realms.count};
    struct channel_certificate certificate = {
        .type = CHANNEL_CERTIFICATE, .chain_n = s->chain_n, .key_n = s->key_n, .client_ca_n = s->client_ca_n};

    return tell(m, &realms, sizeof realms, s->realms_fd) &&
           tell(m, &certificate, sizeof certificate, s->certificate_fd);
}

static bool tell_courier(struct crew_member *m)
{
    static struct channel_courier s;

    s = (struct channel_courier){.type = CHANNEL_COURIER, .sandbox = is_sandboxed()};
    channel_describe_courier(&s.config, &m->keeper->config);
    s.config.needs_names = m->keeper->supply.realms.count > 0;
    s.config.needs_client = m->keeper->supply.needs_client;
    return tell(m, &s, sizeof s, -1) && tell_supply(m);
}

static bool tell_beginning(struct crew_member *m, int records_fd)
{
    struct channel_plain records = {CHANNEL_RECORDS}, start = {CHANNEL_START};
    struct keeper *k = m->keeper;

    if (!(is_courier(m) ? tell_courier(m) : tell_setup(m)) || !tell(m, &records, sizeof records, records_fd))
        return false;
    for (uint32_t i = 0; i < KEEPER_DOORS_MAX; i++)
        if (k->doors[i].open && is_door_of(m, &k->doors[i].info) &&
            !tell(m, &k->doors[i].info, sizeof k->doors[i].info, k->doors[i].fd))
            return false;
    return tell(m, &start, sizeof start, -1);
}

void crew_tell_courier(struct keeper *k)
{
    if (is_there(&k->crew[CREW_COURIER]))
        (void)tell_courier(&k->crew[CREW_COURIER]);
}

void crew_ask_status(struct keeper *k)
{
    struct channel_plain ask = {CHANNEL_STATUS};
    struct crew_member *m = &k->crew[CREW_COURIER];

    if (m->state == CREW_READY)
        (void)net_send_now(m->channel.fd, sp_span(&ask, sizeof ask));
}

void crew_tell(struct keeper *k, struct sp_span message)
{
    for (uint32_t i = 0; i < WORKERS_MAX; i++)
        if (is_there(&k->crew[i]))
            (void)tell(&k->crew[i], message.p, message.n, -1);
}

void crew_tell_door(struct keeper *k, const struct channel_door *info, int fd)
{
    for (uint32_t i = 0; i < CREW_MAX; i++)
        if (is_there(&k->crew[i]) && is_door_of(&k->crew[i], info))
            (void)tell(&k->crew[i], info, sizeof *info, fd);
}

/* ---- starting ---- */

static int open_beside(const char *name)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 64);

    while (n > 0 && path[n - 1] != '/')
        n--;
    if (n <= 0)
        return -1;
    (void)snprintf(path + n, sizeof path - (size_t)n, "%s", name);
    return open(path, O_PATH | O_CLOEXEC);
}

/* The courier is a program of its own: what it links for TLS and DNS would cost every KDC worker's start. It
 * is opened when the keeper starts, so that an upgrade meanwhile does not bring one that speaks otherwise. */
bool crew_open_courier(struct keeper *k, struct sp_err *e)
{
    int fd = open_beside("sallyport-courier"); /* in a build directory */

    if (fd < 0)
        fd = open_beside("../libexec/sallyport/sallyport-courier"); /* where everything was moved together */
    if (fd < 0)
        fd = open(SP_COURIER, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return sp_fail(e, SP_EBACKEND, 0, SP_COURIER ": %s; install it again", strerror(errno));
    k->courier_program = fcntl(fd, F_DUPFD_CLOEXEC, PROGRAM_FD + 1);
    (void)close(fd);
    return k->courier_program >= 0 || sp_fail(e, SP_EBACKEND, errno, "%s", strerror(errno));
}

/* Everything of ours is close-on-exec; the process gets its end of the pair as CHANNEL_FD and asks for the
 * rest through it. */
static int spawn(const struct crew_member *m, int channel_fd, pid_t *pid)
{
    char *worker[] = {(char[]){"sallyportd"}, (char[]){"--kdc-worker"}, NULL};
    char *courier[] = {(char[]){"sallyport-courier"}, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none;
    int why;

    (void)sigemptyset(&none);
    (void)posix_spawn_file_actions_init(&files);
    (void)posix_spawn_file_actions_adddup2(&files, channel_fd, CHANNEL_FD);
    if (is_courier(m))
        (void)posix_spawn_file_actions_adddup2(&files, m->keeper->courier_program, PROGRAM_FD);
    /* Not all of a library's are close-on-exec: LMDB keeps one for its meta pages that is not. */
    (void)posix_spawn_file_actions_addclosefrom_np(&files, is_courier(m) ? PROGRAM_FD + 1 : CHANNEL_FD + 1);
    (void)posix_spawnattr_init(&attr);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    why = is_courier(m) ? posix_spawn(pid, PROGRAM_PATH, &files, &attr, courier, environ)
                        : posix_spawn(pid, "/proc/self/exe", &files, &attr, worker, environ);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&files);
    return why;
}

/* Without an exec, which takes 2 ms and more where the loader's cpuid instructions trap
 * (docs/decisions/0009). Only while nothing secret was read: the child has all of this process's memory. */
static int split(const struct crew_member *m, int channel_fd, pid_t *pid)
{
    sigset_t none;

    *pid = fork();
    if (*pid != 0)
        return *pid < 0 ? errno : 0;
    (void)sigemptyset(&none);
    if (dup2(channel_fd, CHANNEL_FD) < 0 || close_range(CHANNEL_FD + 1, ~0u, 0) != 0 ||
        sigprocmask(SIG_SETMASK, &none, NULL) != 0)
        _exit(1);
    worker_main(m->keeper->crypto);
}

static bool watch_both(struct crew_member *m, int channel_fd, int records_fd, struct sp_err *e)
{
    m->channel = (struct net_watch){.fd = channel_fd, .ready = channel_ready, .owner = m};
    m->records = (struct net_watch){.fd = records_fd, .ready = records_ready, .owner = m};
    return net_loop_add(&m->keeper->loop, &m->channel, EPOLLIN, e) &&
           net_loop_add(&m->keeper->loop, &m->records, EPOLLIN, e);
}

static void wait_and_retry(struct crew_member *m, int64_t now)
{
    int64_t wait = m->failures == 0 ? 0 : 100000LL << (m->failures < 8 ? m->failures - 1 : 7);

    m->state = CREW_WAITING;
    m->pid = 0;
    m->restart_us = now + (wait < BACKOFF_MAX_US ? wait : BACKOFF_MAX_US);
}

static void could_not_start(struct crew_member *m, const struct sp_err *e)
{
    char room[32];

    keeper_say(m->keeper, "worker-failed", "%s cannot be started: %s", role_of(m, room), e->text);
    if (m->keeper->fatal.kind == SP_OK)
        m->keeper->fatal = *e;
    stop_watching(m, &m->channel);
    stop_watching(m, &m->records);
    m->failures++;
    wait_and_retry(m, now_us());
}

/* The process, by spawn or split; what it needs it is told later. */
static bool launch(struct crew_member *m, int (*how)(const struct crew_member *, int, pid_t *),
                   struct sp_err *e)
{
    int channel[2] = {-1, -1}, records[2] = {-1, -1}, why = 0;
    bool ok;

    m->channel.fd = m->records.fd = m->records_end = -1;
    m->started_us = now_us();
    ok = net_make_pair(channel, e) && net_make_pair(records, e) && watch_both(m, channel[0], records[0], e);
    if (ok)
        why = how(m, channel[1], &m->pid);
    if (why != 0)
        ok = sp_fail(e, SP_EBACKEND, why, "%s", strerror(why));
    if (channel[1] >= 0)
        (void)close(channel[1]);
    m->records_end = records[1];
    return ok;
}

static void close_records_end(struct crew_member *m)
{
    if (m->records_end >= 0)
        (void)close(m->records_end);
    m->records_end = -1;
}

static void start(struct crew_member *m)
{
    struct sp_err e = {0};
    bool ok = m->state == CREW_LAUNCHED || launch(m, spawn, &e);

    m->state = CREW_STARTING;
    if (ok && !tell_beginning(m, m->records_end))
        (void)kill(m->pid, SIGKILL); /* crew_reap starts another */
    close_records_end(m);
    if (!ok)
        could_not_start(m, &e);
    for (uint32_t i = 0; ok && is_courier(m) && i < WORKERS_MAX; i++)
        if (m->keeper->crew[i].state == CREW_READY)
            link_courier(m->keeper, &m->keeper->crew[i]);
}

void crew_launch(struct keeper *k, uint32_t wanted)
{
    for (uint32_t i = 0; i < wanted && i < WORKERS_MAX; i++) {
        struct crew_member *m = &k->crew[i];
        struct sp_err e = {0};

        *m = (struct crew_member){.keeper = k, .index = i};
        if (launch(m, split, &e)) {
            m->state = CREW_LAUNCHED;
            continue;
        }
        close_records_end(m); /* crew_resize tries again, and says why it cannot */
        stop_watching(m, &m->channel);
        stop_watching(m, &m->records);
    }
}

static void stop(struct crew_member *m)
{
    struct channel_plain bye = {CHANNEL_STOP};

    (void)tell(m, &bye, sizeof bye, -1);
    m->state = CREW_STOPPING;
}

void crew_want_courier(struct keeper *k, enum crew_courier wanted)
{
    struct crew_member *m = &k->crew[CREW_COURIER];

    if (wanted == CREW_WITH_COURIER && m->state == CREW_NONE) {
        *m = (struct crew_member){.keeper = k, .index = CREW_COURIER};
        start(m);
    } else if (wanted == CREW_WITHOUT_COURIER && m->state == CREW_WAITING) {
        m->state = CREW_NONE;
    } else if (wanted == CREW_WITHOUT_COURIER && is_there(m)) {
        stop(m);
    }
}

/* It finishes what it has; the courier gives it nothing more. */
static void stop_worker(struct keeper *k, struct crew_member *m)
{
    struct channel_link gone = {.type = CHANNEL_UNLINK, .worker = m->index};

    if (is_there(&k->crew[CREW_COURIER]))
        (void)tell(&k->crew[CREW_COURIER], &gone, sizeof gone, -1);
    stop(m);
}

void crew_resize(struct keeper *k, uint32_t wanted)
{
    for (uint32_t i = 0; i < WORKERS_MAX; i++) {
        struct crew_member *m = &k->crew[i];
        if (i < wanted && m->state == CREW_NONE) {
            *m = (struct crew_member){.keeper = k, .index = i};
            start(m);
        } else if (i < wanted && m->state == CREW_LAUNCHED) {
            start(m);
        } else if (i >= wanted && m->state == CREW_WAITING) {
            m->state = CREW_NONE;
        } else if (i >= wanted && (m->state == CREW_READY || m->state == CREW_STARTING)) {
            stop_worker(k, m);
        }
    }
}

/* ---- ending ---- */

/* What it still wrote: everything up to the end of the pair. */
static void drain(struct crew_member *m)
{
    for (int i = 0; i < 64 && m->records.fd >= 0; i++)
        records_ready(&m->records, 0);
}

static void describe_end(struct crew_member *m, int status)
{
    char room[32];

    if (WIFSIGNALED(status))
        keeper_say(m->keeper, "worker-restart", "%s (pid %d) was ended by signal %d (%s)", role_of(m, room),
                   (int)m->pid, WTERMSIG(status),
                   WTERMSIG(status) == SIGSYS ? "the sandbox" : strsignal(WTERMSIG(status)));
    else
        keeper_say(m->keeper, "worker-restart", "%s (pid %d) ended with status %d", role_of(m, room),
                   (int)m->pid, WEXITSTATUS(status));
}

static void ended(struct crew_member *m, int status)
{
    int64_t now = now_us();
    bool expected = m->state == CREW_STOPPING;
    char room[32];

    drain(m);
    if (!is_courier(m))
        tally_forget_worker(m->keeper->tally, m->index);
    stop_watching(m, &m->channel);
    stop_watching(m, &m->records);
    if (expected) {
        m->state = CREW_NONE;
        m->pid = 0;
        return;
    }
    describe_end(m, status);
    if (!m->keeper->announced)
        (void)sp_fail(&m->keeper->fatal, SP_EBACKEND, 0, "%s ended before it was ready", role_of(m, room));
    m->failures = now - m->started_us > LONG_LIVED_US ? 0 : m->failures + 1;
    wait_and_retry(m, now);
}

void crew_reap(struct keeper *k)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (uint32_t i = 0; i < CREW_MAX; i++)
            if (k->crew[i].pid == pid)
                ended(&k->crew[i], status);
}

void crew_tick(struct keeper *k, int64_t mono_us)
{
    for (uint32_t i = 0; i < CREW_MAX; i++)
        if (k->crew[i].state == CREW_WAITING && k->crew[i].restart_us <= mono_us)
            start(&k->crew[i]);
}

uint32_t crew_count(const struct keeper *k, enum crew_state state)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < WORKERS_MAX; i++)
        count += k->crew[i].state == state;
    return count;
}

bool crew_has(const struct keeper *k, enum crew_state state)
{
    return crew_count(k, state) > 0 || k->crew[CREW_COURIER].state == state;
}
