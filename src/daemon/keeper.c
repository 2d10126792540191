/* SPDX-License-Identifier: MIT */
#include "daemon/keeper.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/notify.h"
#include "net/pass.h"
#include "net/sandbox.h"

#define HEALTH_MAX 8192    /* rows of what the courier says */
#define ACTIVITY_MAX 32768 /* accounts that were active within a second */
#define STOP_PATIENCE_US 5000000
#define LOCK_PATIENCE_MS 3000 /* a command may hold the instance for a moment */

_Static_assert(sizeof(struct channel_setup) <= NET_PASS_MAX &&
                   sizeof(struct channel_courier) <= NET_PASS_MAX &&
                   sizeof(struct channel_health) <= NET_PASS_MAX &&
                   sizeof(struct channel_activity) <= NET_PASS_MAX,
               "a message fits");

/* ---- saying ---- */

void keeper_say(struct keeper *k, const char *event, const char *fmt, ...)
{
    char said[600], line[4096];
    struct sp_text t = sp_text(line, sizeof line);
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(said, sizeof said, fmt, args);
    va_end(args);
    sp_text_str(&t, "{\"ts\":\"");
    sp_text_iso_us(&t, admin_env().wall_us);
    sp_text_fmt(&t, "\",\"event\":\"%s\",\"text\":\"", event);
    sp_text_json(&t, sp_str(said));
    sp_text_str(&t, "\"}\n");
    if (!t.cut)
        sink_write(&k->sink, sp_span(line, t.n));
    (void)fprintf(stderr, "sallyportd: %s\n", said);
}

void keeper_worker_ready(struct keeper *k)
{
    char doors[4096];
    struct sp_text t = sp_text(doors, sizeof doors);

    if (k->announced || crew_has(k, CREW_STARTING) || crew_has(k, CREW_WAITING))
        return;
    k->announced = true;
    keeper_announce(k);
    doors_text(k, &t);
    keeper_say(k, "start", "ready, realm %s, listening on %s", k->config.realm, doors);
    if (!k->config.config.kdc.guess_limits)
        keeper_say(k, "start",
                   "GUESS LIMITS ARE OFF ([kdc] guess-limits): anybody may try passwords without end");
    (void)net_notify("READY=1\nSTATUS=serving");
}

static const char *life_name(enum ladder_life life)
{
    switch (life) {
    case LADDER_ALIVE:
        return "alive";
    case LADDER_DEAD:
        return "dead";
    case LADDER_NO_WAY:
        return "no way";
    case LADDER_UNKNOWN:
        break;
    }
    return "not tried";
}

static cJSON *describe_route(const struct health_row *r)
{
    char since[40];
    struct sp_text t = sp_text(since, sizeof since);
    cJSON *one = cJSON_CreateObject();

    sp_text_iso_us(&t, admin_env().wall_us - r->for_us);
    (void)cJSON_AddStringToObject(one, "rung", ladder_rung_name(r->rung));
    (void)cJSON_AddStringToObject(one, "target", r->target);
    (void)cJSON_AddStringToObject(one, "state", life_name(r->life));
    if (r->life != LADDER_UNKNOWN)
        (void)cJSON_AddStringToObject(one, "since", since);
    if (r->latency_us)
        (void)cJSON_AddNumberToObject(one, "latency_ms", (double)r->latency_us / 1000);
    (void)cJSON_AddNumberToObject(one, "answers", (double)r->answers);
    (void)cJSON_AddNumberToObject(one, "failures", (double)r->failures);
    (void)cJSON_AddStringToObject(one, "reason", r->reason);
    (void)cJSON_AddBoolToObject(one, "found", r->found);
    return one;
}

/* The courier's rows come realm by realm. */
static void describe_realms(const struct keeper *k, cJSON *courier)
{
    cJSON *realms = cJSON_AddArrayToObject(courier, "realms"), *routes = NULL;
    const char *last = "";

    for (uint32_t i = 0; i < k->health_count; i++) {
        const struct health_row *r = &k->health[i];
        if (strcmp(last, r->realm) != 0) {
            cJSON *realm = cJSON_CreateObject();
            (void)cJSON_AddStringToObject(realm, "realm", r->realm);
            routes = cJSON_AddArrayToObject(realm, "routes");
            cJSON_AddItemToArray(realms, realm);
            last = r->realm;
        }
        cJSON_AddItemToArray(routes, describe_route(r));
    }
    (void)cJSON_AddNumberToObject(courier, "in_flight", k->in_flight);
}

/* The courier is believed in what it says of itself, not in how long its texts are. */
void keeper_health(struct keeper *k, const struct channel_health *m)
{
    uint32_t fresh = m->count < CHANNEL_HEALTH_ROWS ? m->count : CHANNEL_HEALTH_ROWS;
    struct health_row *all;

    if (m->first)
        k->health_count = 0;
    if (k->health_count + fresh > HEALTH_MAX ||
        !(all = realloc(k->health, (k->health_count + fresh + 1) * sizeof *all)))
        return;
    k->health = all;
    memcpy(all + k->health_count, m->row, fresh * sizeof *all);
    for (uint32_t i = k->health_count; i < k->health_count + fresh; i++)
        all[i].realm[sizeof all->realm - 1] = all[i].target[sizeof all->target - 1] =
            all[i].reason[sizeof all->reason - 1] = 0;
    k->health_count += fresh;
    k->in_flight = m->in_flight;
    if (m->last)
        control_health(k->control);
}

static void describe_courier(const struct keeper *k, cJSON *daemon)
{
    const struct crew_member *m = &k->crew[CREW_COURIER];
    cJSON *c = cJSON_AddObjectToObject(daemon, "courier");
    char path[4300];

    (void)snprintf(path, sizeof path, "%s/courier.sock", k->paths.run);
    (void)cJSON_AddStringToObject(c, "state",
                                  m->state == CREW_READY  ? "ready"
                                  : m->state == CREW_NONE ? "off"
                                                          : "starting");
    if (m->state == CREW_NONE)
        return;
    (void)cJSON_AddStringToObject(c, "listening", path);
    (void)cJSON_AddNumberToObject(c, "pid", m->pid);
    (void)cJSON_AddNumberToObject(c, "attesters", k->config.config.courier_attest_count);
    doors_describe(k, cJSON_AddArrayToObject(c, "doors"));
    describe_realms(k, c);
}

void keeper_describe(struct keeper *k, cJSON *status)
{
    char doors[4096];
    struct sp_text t = sp_text(doors, sizeof doors);
    cJSON *d = cJSON_CreateObject();
    int64_t uptime_s = admin_env().wall_us / 1000000 - k->started_s;

    doors_text(k, &t);
    (void)cJSON_AddNumberToObject(d, "pid", getpid());
    (void)cJSON_AddNumberToObject(d, "workers", crew_count(k, CREW_READY));
    (void)cJSON_AddNumberToObject(d, "workers_down",
                                  crew_count(k, CREW_WAITING) + crew_count(k, CREW_STARTING));
    (void)cJSON_AddStringToObject(d, "listening", doors);
    (void)cJSON_AddNumberToObject(d, "uptime_s", (double)uptime_s);
    (void)cJSON_AddNumberToObject(d, "records_lost", (double)k->sink.lost);
    describe_courier(k, d);
    if (!cJSON_ReplaceItemInObjectCaseSensitive(status, "daemon", d))
        cJSON_Delete(d);
}

/* ---- password changes (decision 7) ---- */

struct change_job {
    struct operator_job job;
    struct keeper *keeper;
    uint32_t worker;
    pid_t pid;
    struct admin_change change;
    struct channel_verdict verdict;
};

static void run_change(struct operator_job *job, struct admin *a)
{
    struct change_job *j = (struct change_job *)job;

    admin_change_password(a, &j->change, &j->verdict.result, j->verdict.text);
    sp_wipe(&j->change, sizeof j->change);
}

/* A worker that was started in the meantime knows nothing of it. */
static void change_done(struct operator_job *job)
{
    struct change_job *j = (struct change_job *)job;
    struct crew_member *m = &j->keeper->crew[j->worker];

    if (m->pid == j->pid && m->channel.fd >= 0)
        (void)net_send(m->channel.fd, sp_span(&j->verdict, sizeof j->verdict), -1);
    free(j);
}

static void refuse_change(struct keeper *k, uint32_t worker, struct channel_verdict *v)
{
    v->result = 2; /* RFC 3244: hard error */
    (void)snprintf(v->text, sizeof v->text, "The server is busy; try again in a moment.");
    (void)net_send(k->crew[worker].channel.fd, sp_span(v, sizeof *v), -1);
}

void keeper_change(struct keeper *k, uint32_t worker, const struct channel_change *m)
{
    struct channel_verdict v = {.type = CHANNEL_VERDICT, .slot = m->slot, .serial = m->serial};
    struct change_job *j = calloc(1, sizeof *j);

    if (j) {
        *j = (struct change_job){
            .job = {.run = run_change, .done = change_done},
            .keeper = k,
            .worker = worker,
            .pid = k->crew[worker].pid,
            .change = m->change,
            .verdict = v
        };
        if (m->change.password_n <= sizeof m->change.password && operator_submit(&k->operator, & j->job))
            return;
        sp_wipe(j, sizeof *j);
        free(j);
    }
    refuse_change(k, worker, &v);
}

/* ---- activity: once a second at most ---- */

struct activity_job {
    struct operator_job job;
    struct keeper *keeper;
    struct sp_err e;
    uint32_t count;
    struct lmdb_activity_row rows[];
};

static int by_id(const void *a, const void *b)
{
    uint64_t x = ((const struct lmdb_activity_row *)a)->id, y = ((const struct lmdb_activity_row *)b)->id;

    return (x > y) - (x < y);
}

/* In the order of the store's pages: at random each row would be looked for on a page that is not at hand. */
static void run_activity(struct operator_job *job, struct admin *a)
{
    struct activity_job *j = (struct activity_job *)job;

    qsort(j->rows, j->count, sizeof j->rows[0], by_id);
    if (!lmdb_add_activity(a->store, j->rows, j->count, &j->e))
        return; /* counters may be lost (decision 3); logins go on */
}

static void activity_done(struct operator_job *job)
{
    struct activity_job *j = (struct activity_job *)job;

    j->keeper->activity_running = false;
    if (!sp_ok(&j->e))
        keeper_say(j->keeper, "activity-lost", "activity of %u accounts could not be stored: %s", j->count,
                   j->e.text);
    free(j);
}

static void store_activity(struct keeper *k)
{
    size_t n = k->activity.count * sizeof(struct lmdb_activity_row);
    struct activity_job *j;

    if (k->activity_running || k->activity.count == 0)
        return;
    j = calloc(1, sizeof *j + n);
    if (!j)
        return;
    j->job = (struct operator_job){.run = run_activity, .done = activity_done};
    j->keeper = k;
    j->count = k->activity.count;
    memcpy(j->rows, k->activity.rows, n);
    k->activity_running = operator_submit(&k->operator, & j->job);
    if (k->activity_running)
        activity_clear(&k->activity);
    else
        free(j);
}

void keeper_count(struct keeper *k, const struct channel_activity *m)
{
    for (uint32_t i = 0; i < m->count && i < CHANNEL_ROWS_MAX; i++)
        (void)activity_add(&k->activity, &m->rows[i]);
}

/* ---- keys of krbtgt ---- */

struct rotate_job {
    struct operator_job job;
    struct keeper *keeper;
    bool rotated;
    struct sp_err e;
};

static bool krbtgt_changed(struct admin *a, int64_t *changed_s, struct sp_err *e)
{
    struct sp_span parts[2] = {SP_LIT("krbtgt"), sp_str(a->realm)}, key;
    struct krb_name name = krb_name_of(2, parts, 2);
    struct store_lookup *s = lmdb_lookup(a->store);
    struct store_account account;
    bool ok =
        krb_name_key(&name, &a->config.kdc.realm, &a->mem, &key, e) && s->find(s, key, &a->mem, &account, e);

    if (ok)
        *changed_s = account.changed_s;
    lmdb_settle(a->store);
    sp_arena_reset(&a->mem);
    return ok;
}

static void run_rotate(struct operator_job *job, struct admin *a)
{
    struct rotate_job *j = (struct rotate_job *)job;
    cJSON *request, *result = NULL;
    int64_t changed_s;

    if (!krbtgt_changed(a, &changed_s, &j->e))
        return;
    if (admin_env().wall_us / 1000000 - changed_s < a->config.krbtgt_rotate_s)
        return;
    request = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(request, "op", "krbtgt.rotate");
    j->rotated = admin_execute(a, request, &result, &j->e);
    cJSON_Delete(request);
    cJSON_Delete(result);
}

static void rotate_done(struct operator_job *job)
{
    struct rotate_job *j = (struct rotate_job *)job;

    j->keeper->rotating = false;
    if (j->rotated)
        keeper_say(j->keeper, "krbtgt-rotate", "krbtgt has a new key; the one before still opens tickets");
    else if (!sp_ok(&j->e))
        keeper_say(j->keeper, "krbtgt-rotate", "krbtgt keeps its key: %s", j->e.text);
    free(j);
}

static void rotate(struct keeper *k)
{
    struct rotate_job *j;

    if (k->rotating || k->config.config.krbtgt_rotate_s == 0 || !(j = calloc(1, sizeof *j)))
        return;
    j->job = (struct operator_job){.run = run_rotate, .done = rotate_done};
    j->keeper = k;
    k->rotating = operator_submit(&k->operator, & j->job);
    if (!k->rotating)
        free(j);
}

/* ---- reload ---- */

struct reload_job {
    struct operator_job job;
    struct keeper *keeper;
    struct sp_err e;
    struct channel_config config;
    struct supply supply;
};

static uint32_t wanted_workers(const struct keeper *k)
{
    uint32_t n = k->options.workers ? k->options.workers : k->config.config.workers;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (n == 0)
        n = cores > 0 ? (uint32_t)cores : 1;
    return n < WORKERS_MAX ? n : WORKERS_MAX;
}

static enum crew_courier wanted_courier(const struct keeper *k)
{
    return doors_has_courier(k) ? CREW_WITH_COURIER : CREW_WITHOUT_COURIER;
}

static void run_reload(struct operator_job *job, struct admin *a)
{
    struct reload_job *j = (struct reload_job *)job;

    if (supply_make(&a->paths, &j->supply, &j->e) && admin_reload(a, &j->e))
        channel_copy_config(&j->config, &a->config);
}

static void change_sink(struct keeper *k)
{
    struct sp_err e = {0};
    struct sink fresh;

    if (!sink_open(&fresh, k->config.config.log_target, k->paths.log, &e)) {
        keeper_say(k, "reload", "records go where they went: %s", e.text);
        return;
    }
    sink_close(&k->sink);
    fresh.lost = k->sink.lost;
    k->sink = fresh;
}

/* Sockets that are in both configurations stay as they are, and so do connections. */
static void apply(struct keeper *k, const struct channel_config *config, struct supply *supply)
{
    static struct channel_new_config m;
    struct sp_err e = {0};
    bool doors = doors_prepare(k, &config->config, &e), other = supply->stamp != k->supply.stamp;

    k->config = *config;
    channel_link_config(&k->config);
    supply_close(&k->supply);
    k->supply = *supply;
    *supply = (struct supply){.realms_fd = -1, .certificate_fd = -1};
    change_sink(k);
    m = (struct channel_new_config){CHANNEL_CONFIG, k->config};
    crew_tell(k, sp_span(&m, sizeof m));
    if (other) /* another one, told by tick: this one cannot open files any more, and ends when it is done */
        crew_want_courier(k, CREW_WITHOUT_COURIER);
    crew_tell_courier(k);
    if (doors)
        doors_commit(k);
    crew_resize(k, wanted_workers(k));
    crew_want_courier(k, wanted_courier(k));
    keeper_announce(k);
    if (doors)
        keeper_say(k, "reload", "the configuration was read again");
    else
        keeper_say(k, "reload", "%s; the doors stay as they were, everything else is as configured now",
                   e.text);
}

static void reload(struct keeper *k);

static void reload_done(struct operator_job *job)
{
    struct reload_job *j = (struct reload_job *)job;
    struct keeper *k = j->keeper;

    k->reloading = false;
    if (sp_ok(&j->e) && !k->stopping)
        apply(k, &j->config, &j->supply);
    else if (!sp_ok(&j->e))
        keeper_say(k, "reload", "%s; the configuration of before stays in force", j->e.text);
    (void)net_notify("READY=1");
    supply_close(&j->supply);
    free(j);
    if (k->reload_again)
        reload(k);
}

static void reload(struct keeper *k)
{
    struct reload_job *j;
    char text[64];

    k->reload_again = k->reloading;
    if (k->reloading || !(j = calloc(1, sizeof *j)))
        return;
    sink_reopen(&k->sink); /* the file may have been rotated away */
    (void)snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)admin_env().mono_us);
    (void)net_notify(text);
    j->job = (struct operator_job){.run = run_reload, .done = reload_done};
    j->keeper = k;
    j->supply = (struct supply){.realms_fd = -1, .certificate_fd = -1};
    k->reloading = operator_submit(&k->operator, & j->job);
    if (!k->reloading)
        free(j);
}

/* ---- signals and time ---- */

static void signals_ready(struct net_watch *w, uint32_t events)
{
    struct keeper *k = w->owner;
    struct signalfd_siginfo s;

    (void)events;
    while (read(w->fd, &s, sizeof s) == (ssize_t)sizeof s) {
        if (s.ssi_signo == SIGCHLD) {
            crew_reap(k);
            if (k->announced && !k->stopping) /* a courier that another one takes over from */
                crew_want_courier(k, wanted_courier(k));
        } else if (s.ssi_signo == SIGHUP)
            reload(k);
        else
            k->stopping = true;
    }
}

/* On a laptop name servers change with the network. */
static bool resolver_changed(struct keeper *k)
{
    struct stat st = {0};
    int64_t before = k->resolver_stamp;

    if (k->config.config.courier_resolver[0] || k->supply.realms.count == 0)
        return false;
    (void)stat("/etc/resolv.conf", &st);
    k->resolver_stamp = (int64_t)st.st_ino ^ st.st_mtim.tv_sec ^ ((int64_t)st.st_mtim.tv_nsec << 20);
    return before != 0 && before != k->resolver_stamp;
}

static void tick(struct keeper *k)
{
    int64_t now = admin_env().mono_us;

    crew_tick(k, now);
    if (now < k->next_second_us)
        return;
    k->next_second_us = now + 1000000;
    store_activity(k);
    control_tick(k->control, now);
    if (resolver_changed(k)) /* the courier cannot read it again: another one does */
        crew_want_courier(k, CREW_WITHOUT_COURIER);
    crew_want_courier(k, wanted_courier(k)); /* one that was still ending when it was wanted again */
    if (k->announced && k->watchdog_us && now >= k->next_watchdog_us) {
        k->next_watchdog_us = now + k->watchdog_us / 2;
        (void)net_notify("WATCHDOG=1");
    }
    if (now < k->next_minute_us)
        return;
    k->next_minute_us = now + 60000000;
    rotate(k);
    carry_save(k);
}

static int time_out_ms(const struct keeper *k)
{
    int64_t left = k->next_second_us - admin_env().mono_us;

    if (crew_has(k, CREW_WAITING))
        return 50;
    return left > 0 ? (int)(left / 1000) + 1 : 0;
}

/* ---- beginning ---- */

static bool is_root_of_host(const struct keeper *k)
{
    return geteuid() == 0 && k->paths.root[0] == 0 && k->config.config.user[0];
}

/* Only for a start without a service manager: systemd makes both. Ours alone change hands, not what they lie
 * in. */
static bool make_dir(const struct keeper *k, const char *path, mode_t mode, struct sp_err *e)
{
    const struct passwd *pw = is_root_of_host(k) ? getpwnam(k->config.config.user) : NULL;

    if (mkdir(path, mode) != 0 && errno != EEXIST)
        return errno == EACCES
                   ? sp_fail(e, SP_EREFUSED, ADMIN_NOT_PERMITTED, "%.120s: %s", path, strerror(errno))
                   : sp_fail(e, SP_EBACKEND, 0, "%.120s: %s", path, strerror(errno));
    if (pw && chown(path, pw->pw_uid, pw->pw_gid) != 0)
        return sp_fail(e, SP_EBACKEND, errno, "%.120s: %s", path, strerror(errno));
    return true;
}

static void make_parent(const struct keeper *k, const char *name)
{
    char path[4300];

    (void)snprintf(path, sizeof path, "%s/%s", k->paths.root, name);
    (void)mkdir(path, 0755);
}

static bool make_dirs(const struct keeper *k, struct sp_err *e)
{
    make_parent(k, "run");
    make_parent(k, "var/log");
    return make_dir(k, k->paths.run, 0755, e) && make_dir(k, k->paths.log, 0750, e);
}

static bool open_instance(struct keeper *k, struct sp_err *e)
{
    for (int waited_ms = 0;; waited_ms += 50) {
        struct sp_err why = {0};
        struct crypto *c = k->crypto;

        k->crypto = NULL;
        if (admin_open_with(&k->paths, ADMIN_WRITE, c, &k->admin, &why))
            return true;
        if (why.kind != SP_EREFUSED || why.proto != ADMIN_BUSY || waited_ms >= LOCK_PATIENCE_MS) {
            *e = why;
            return false;
        }
        (void)usleep(50000);
    }
}

static bool make_shared(struct keeper *k, struct sp_err *e)
{
    struct kdc_shared_size size = {0};
    uint8_t secret[16];
    uint64_t key;

    k->tally_at = (kdc_shared_bytes(size) + 4095) & ~(size_t)4095;
    k->shared_n = k->tally_at + tally_bytes();
    k->shared_fd = memfd_create("sallyport-shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (k->shared_fd < 0 || ftruncate(k->shared_fd, (off_t)k->shared_n) != 0)
        return sp_fail(e, SP_EBACKEND, errno, "shared memory: %s", strerror(errno));
    k->shared = mmap(NULL, k->shared_n, PROT_READ | PROT_WRITE, MAP_SHARED, k->shared_fd, 0);
    if (k->shared == MAP_FAILED)
        return sp_fail(e, SP_EBACKEND, errno, "shared memory: %s", strerror(errno));
    sp_rng_fill(k->admin.rng, secret, sizeof secret);
    sp_rng_fill(k->admin.rng, (uint8_t *)&key, sizeof key);
    k->admin.shared = kdc_shared_init(k->shared, size, secret);
    k->tally = tally_init((uint8_t *)k->shared + k->tally_at, key);
    carry_load(k);
    return true;
}

static bool watch_signals(struct keeper *k, struct sp_err *e)
{
    sigset_t set;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, NULL); /* before there is a thread, which inherits it */
    k->signals = (struct net_watch){.ready = signals_ready, .owner = k};
    k->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return net_loop_add(&k->loop, &k->signals, EPOLLIN, e);
}

/* An instance that was made before the user was. */
static bool check_owner(const struct keeper *k, struct sp_err *e)
{
    const char *user = k->config.config.user;
    const struct passwd *pw = is_root_of_host(k) ? getpwnam(user) : NULL;
    struct stat st;

    if (!pw || stat(k->paths.state, &st) != 0 || st.st_uid == pw->pw_uid)
        return true; /* without the user, net_become says what is wrong */
    return sp_fail(
        e, SP_EREFUSED, ADMIN_NOT_PERMITTED,
        "%.100s: belongs to uid %u, but [daemon] user is \"%.40s\"; run `sallyport init` again, which gives "
        "it to that user",
        k->paths.state, st.st_uid, user);
}

/* What root does before it becomes somebody else. */
static bool prepare(struct keeper *k, struct sp_err *e)
{
    if (!net_hide(e) || !admin_find_paths(k->options.root, &k->paths, e) ||
        !admin_read_config(&k->paths, &k->config.config, e))
        return false;
    (void)net_raise_descriptors(k->config.config.tcp_max + k->config.config.courier_max +
                                k->config.config.relay_max + 4ul * k->config.config.courier_in_flight +
                                512ul);
    if (access(k->paths.state, F_OK) != 0)
        return sp_fail(e, SP_ENOTFOUND, 0, "%s: no instance here; run %s", k->paths.state,
                       admin_command(&k->paths, "init").text);
    if (!make_dirs(k, e) || !check_owner(k, e))
        return false;
    /* PR_SET_DUMPABLE falls back when the uid changes. */
    return !is_root_of_host(k) || (net_become(k->config.config.user, e) && net_hide(e));
}

static bool begin(struct keeper *k, struct sp_err *e)
{
    if (!prepare(k, e) || !net_loop_init(&k->loop, e) || !watch_signals(k, e))
        return false;
    if (!crew_open_courier(k, e))
        return false;
    k->crypto = crypto_new(e);
    if (!k->crypto)
        return false;
    crew_launch(k, wanted_workers(k)); /* before the master key is read */
    if (!open_instance(k, e))
        return false;
    channel_copy_config(&k->config, &k->admin.config);
    memcpy(k->master, k->admin.master, sizeof k->master);
    if (!make_shared(k, e) || !sink_open(&k->sink, k->config.config.log_target, k->paths.log, e))
        return false;
    if (!activity_init(&k->activity, ACTIVITY_MAX))
        return sp_fail(e, SP_ENOMEM, 0, "no memory");
    if (!supply_make(&k->paths, &k->supply, e) || !doors_prepare(k, &k->config.config, e))
        return false;
    crew_resize(k, wanted_workers(k)); /* logins first */
    k->control = control_new(k, e);
    if (!k->control)
        return false;
    return operator_start(&k->operator, & k->admin, &k->loop, e);
}

/* ---- ending ---- */

static void stop_crew(struct keeper *k)
{
    int64_t until = admin_env().mono_us + STOP_PATIENCE_US;

    for (uint32_t i = 0; i < CREW_MAX; i++)
        if (k->crew[i].state == CREW_WAITING)
            k->crew[i].state = CREW_NONE;
    crew_want_courier(k, CREW_WITHOUT_COURIER); /* first: what it was asked, the workers have to answer */
    while (k->crew[CREW_COURIER].state == CREW_STOPPING && admin_env().mono_us < until)
        (void)net_loop_turn(&k->loop, 50);
    crew_resize(k, 0);
    while (crew_has(k, CREW_STOPPING) && admin_env().mono_us < until)
        (void)net_loop_turn(&k->loop, 50);
    for (uint32_t i = 0; i < CREW_MAX; i++)
        if (k->crew[i].pid > 0)
            (void)kill(k->crew[i].pid, SIGKILL);
}

static void end(struct keeper *k)
{
    (void)net_notify("STOPPING=1");
    admin_announce_end(&k->admin);
    locate_file_remove(&k->locate, k->paths.run);
    stop_crew(k);
    doors_close(k);
    control_free(k->control);
    k->control = NULL;
    k->activity_running = false; /* one more may queue behind the one that runs */
    store_activity(k);
    carry_save(k);
    operator_stop(&k->operator, & k->loop);
    if (k->announced)
        keeper_say(k, "stop", "stopped");
}

static void forget(struct keeper *k)
{
    doors_close(k);
    control_free(k->control);
    sink_close(&k->sink);
    admin_close(&k->admin);
    activity_free(&k->activity);
    supply_close(&k->supply);
    free(k->health);
    sp_wipe(k->master, sizeof k->master);
}

static void serve(struct keeper *k)
{
    k->started_s = admin_env().wall_us / 1000000;
    k->watchdog_us = net_watchdog_us();
    k->next_minute_us = admin_env().mono_us + 5000000;
    crew_want_courier(k, wanted_courier(k));
    while (!k->stopping) {
        if (!k->announced && !sp_ok(&k->fatal))
            break;
        (void)net_loop_turn(&k->loop, time_out_ms(k));
        tick(k);
    }
    end(k);
}

int keeper_main(const struct keeper_options *options)
{
    struct keeper *k = calloc(1, sizeof *k);
    struct sp_err e = {0};

    if (!k)
        return 1;
    k->options = *options;
    k->locate = LOCATE_FILE_NONE;
    k->admin.lock_fd = k->sink.fd = k->shared_fd = k->supply.realms_fd = k->supply.certificate_fd = -1;
    if (begin(k, &e)) {
        serve(k);
        if (!k->announced && !k->stopping)
            e = k->fatal;
    }
    if (!sp_ok(&e))
        (void)fprintf(stderr, "sallyportd: %s\n", e.text);
    forget(k);
    free(k);
    return admin_exit_status(&e);
}
