/* SPDX-License-Identifier: MIT */
/* admin.sock: an administrator's request, handed to the operator, answered when it is done. Open to root and
 * to the daemon's own user. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/keeper.h"

#define ADMIN_SOCKET "admin.sock"
#define IDLE_US 10000000
#define COURIER_PATIENCE_US 500000

struct talk { /* one connection */
    struct net_watch watch;
    struct control *control;
    struct net_stash in, out;
    uint32_t uid;
    uint64_t serial; /* 0: unused */
    int64_t deadline_us;
    bool working; /* the operator has the request */
    bool closing; /* after the answer: what follows a wrong length has no meaning */
};

struct control {
    struct keeper *keeper;
    struct net_watch door;
    uint64_t serial;
    struct talk talks[CONTROL_MAX];
    struct control_job *parked[CONTROL_MAX]; /* `status` that waits for the courier */
    int64_t parked_until_us;
    uint8_t scratch[65536];
};

struct control_job {
    struct operator_job job;
    struct control *control;
    uint32_t slot, uid;
    uint64_t serial;
    uint8_t *request; /* owned */
    size_t request_n;
    cJSON *answer;
    char *text; /* owned; of the answer */
    char op[32], name[256];
    char why[160]; /* of a refusal; empty: done */
    bool status;
};

static const struct net_frame_limits limits = {2, ADMIN_WIRE_MAX};

static void end_talk(struct talk *t)
{
    net_loop_remove(&t->control->keeper->loop, &t->watch);
    (void)close(t->watch.fd);
    net_stash_free(&t->in);
    net_stash_free(&t->out);
    t->serial = 0;
    t->working = false;
}

/* ---- in the operator's thread ---- */

static void note(char *to, size_t max, const cJSON *request, const char *key)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request, key));

    (void)snprintf(to, max, "%s", s ? s : "");
}

static void run_job(struct operator_job *job, struct admin *a)
{
    struct control_job *j = (struct control_job *)job;
    cJSON *request = cJSON_ParseWithLength((const char *)j->request, j->request_n), *result = NULL;
    struct sp_err e = {0};
    bool ok;

    if (!cJSON_IsObject(request)) {
        ok = sp_fail(&e, SP_EINPUT, 0, "not a JSON object");
    } else {
        note(j->op, sizeof j->op, request, "op");
        note(j->name, sizeof j->name, request, "name");
        ok = admin_execute(a, request, &result, &e);
    }
    (void)snprintf(j->why, sizeof j->why, "%s", ok ? "" : e.text);
    j->status = ok && strcmp(j->op, "status") == 0;
    j->answer = admin_answer(ok, result, &e);
    if (!j->status) /* status is completed on the loop, which knows the workers */
        j->text = cJSON_PrintUnformatted(j->answer);
    cJSON_Delete(request);
    sp_wipe(j->request, j->request_n);
}

/* ---- on the loop ---- */

static void take(struct talk *t);

static void write_out(struct talk *t)
{
    ssize_t n = send(t->watch.fd, t->out.p, t->out.n, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        end_talk(t);
        return;
    }
    if (n > 0)
        net_stash_drop(&t->out, (size_t)n);
    net_loop_change(&t->control->keeper->loop, &t->watch, t->out.n ? EPOLLOUT : EPOLLIN);
    if (t->out.n == 0 && t->closing)
        end_talk(t);
    else if (t->out.n == 0 && t->in.n) /* the next request was there already */
        take(t);
}

static void answer(struct talk *t, const char *text)
{
    uint8_t head[4];

    t->working = false;
    t->deadline_us = admin_env().mono_us + IDLE_US;
    net_put_frame_length(head, text ? strlen(text) : 0);
    if (!text || !net_stash_add(&t->out, sp_span(head, 4)) || !net_stash_add(&t->out, sp_str(text)))
        end_talk(t);
    else
        write_out(t);
}

static void free_job(struct control_job *j)
{
    if (j->text)
        sp_wipe(j->text, strlen(j->text));
    cJSON_free(j->text);
    cJSON_Delete(j->answer);
    free(j->request);
    free(j);
}

/* What an administrator did is a record too; what was only looked at is not. */
static void record(struct control_job *j)
{
    static const char *const looks[] = {"status", "account.show", "account.list", "service.list"};
    char name[512];
    struct sp_text t = sp_text(name, sizeof name);

    for (size_t i = 0; i < sizeof looks / sizeof *looks; i++)
        if (strcmp(j->op, looks[i]) == 0)
            return;
    sp_text_safe(&t, sp_str(j->name));
    keeper_say(j->control->keeper, "admin", "%s %s by uid %u: %s", j->op, name, j->uid,
               j->why[0] ? j->why : "done");
}

static void finish_status(struct control_job *j)
{
    struct talk *t = &j->control->talks[j->slot];

    if (t->serial == j->serial) {
        keeper_describe(j->control->keeper, cJSON_GetObjectItemCaseSensitive(j->answer, "result"));
        j->text = cJSON_PrintUnformatted(j->answer);
        answer(t, j->text);
    }
    free_job(j);
}

/* A connection has one request at a time, so that each has its place. */
static void park(struct control_job *j)
{
    struct control *c = j->control;

    if (c->parked[j->slot]) /* of a connection that went */
        free_job(c->parked[j->slot]);
    c->parked[j->slot] = j;
    c->parked_until_us = admin_env().mono_us + COURIER_PATIENCE_US;
    crew_ask_status(c->keeper);
}

void control_health(struct control *c)
{
    for (uint32_t i = 0; c && i < CONTROL_MAX; i++) {
        struct control_job *j = c->parked[i];
        c->parked[i] = NULL;
        if (j)
            finish_status(j);
    }
}

static void job_done(struct operator_job *job)
{
    struct control_job *j = (struct control_job *)job;
    struct talk *t = &j->control->talks[j->slot];

    record(j);
    if (t->serial != j->serial) { /* it went */
        free_job(j);
    } else if (!j->status) {
        answer(t, j->text);
        free_job(j);
    } else if (j->control->keeper->crew[CREW_COURIER].state == CREW_READY) {
        park(j);
    } else {
        finish_status(j);
    }
}

static void refuse(struct talk *t, const char *why)
{
    struct sp_err e = {0};
    cJSON *a;
    char *text;

    (void)sp_fail(&e, SP_EREFUSED, 0, "%s", why);
    a = admin_answer(false, NULL, &e);
    text = cJSON_PrintUnformatted(a);
    answer(t, text);
    cJSON_free(text);
    cJSON_Delete(a);
}

static struct control_job *make_job(struct talk *t, struct sp_span request)
{
    struct control_job *j = calloc(1, sizeof *j);

    if (!j || !(j->request = malloc(request.n))) {
        free(j);
        return NULL;
    }
    memcpy(j->request, request.p, request.n);
    j->request_n = request.n;
    j->job = (struct operator_job){.run = run_job, .done = job_done};
    j->control = t->control;
    j->slot = (uint32_t)(t - t->control->talks);
    j->serial = t->serial;
    j->uid = t->uid;
    return j;
}

static void submit(struct talk *t, struct control_job *j)
{
    struct keeper *k = t->control->keeper;

    t->working = true;
    if (operator_submit(&k->operator, & j->job)) {
        net_loop_change(&k->loop, &t->watch, 0);
        return;
    }
    sp_wipe(j->request, j->request_n);
    free_job(j);
    refuse(t, "too many operations are waiting; try again");
}

static void take(struct talk *t)
{
    struct control_job *j;
    struct sp_span request;
    size_t used;

    switch (net_get_frame(sp_span(t->in.p, t->in.n), limits, &request, &used)) {
    case NET_FRAME_MORE:
        return;
    case NET_FRAME_WRONG:
        t->closing = true;
        net_stash_free(&t->in);
        refuse(t, "a request is 2 bytes to 64 MiB long");
        return;
    case NET_FRAME_WHOLE:
        j = make_job(t, request);
        net_stash_drop(&t->in, used);
        if (j)
            submit(t, j);
        else
            end_talk(t);
        return;
    }
}

static void talk_ready(struct net_watch *w, uint32_t events)
{
    struct talk *t = w->owner;
    struct control *c = t->control;
    ssize_t n;

    if (events & EPOLLOUT) {
        write_out(t);
        return;
    }
    if (!(events & EPOLLIN)) {
        end_talk(t);
        return;
    }
    n = recv(w->fd, c->scratch, sizeof c->scratch, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || !net_stash_add(&t->in, sp_span(c->scratch, (size_t)n)))
        end_talk(t);
    else
        take(t);
    if (n > 0)
        sp_wipe(c->scratch, (size_t)n);
}

static bool may(uint32_t uid)
{
    return uid == 0 || uid == geteuid();
}

static struct talk *free_talk(struct control *c)
{
    for (uint32_t i = 0; i < CONTROL_MAX; i++)
        if (c->talks[i].serial == 0)
            return &c->talks[i];
    return NULL;
}

static void accept_talk(struct net_watch *w, uint32_t events)
{
    struct control *c = w->owner;
    int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct talk *t = free_talk(c);
    struct sp_err e = {0};
    uint32_t uid;

    (void)events;
    if (fd < 0)
        return;
    if (!t || !net_peer_uid(fd, &uid) || !may(uid)) {
        (void)close(fd);
        return;
    }
    *t = (struct talk){.control = c, .uid = uid};
    t->watch = (struct net_watch){.fd = fd, .ready = talk_ready, .owner = t};
    t->deadline_us = admin_env().mono_us + IDLE_US;
    if (net_loop_add(&c->keeper->loop, &t->watch, EPOLLIN, &e))
        t->serial = ++c->serial;
    else
        (void)close(fd);
}

struct control *control_new(struct keeper *k, struct sp_err *e)
{
    struct control *c = calloc(1, sizeof *c);

    if (!c) {
        (void)sp_fail(e, SP_ENOMEM, 0, "no memory");
        return NULL;
    }
    c->keeper = k;
    c->door = (struct net_watch){.ready = accept_talk, .owner = c};
    c->door.fd = net_listen_unix(k->paths.run, ADMIN_SOCKET, 0600, e);
    if (c->door.fd >= 0 && net_loop_add(&k->loop, &c->door, EPOLLIN, e))
        return c;
    free(c);
    return NULL;
}

void control_tick(struct control *c, int64_t mono_us)
{
    if (c->parked_until_us <= mono_us) /* a courier that does not answer is not waited for */
        control_health(c);
    for (uint32_t i = 0; i < CONTROL_MAX; i++)
        if (c->talks[i].serial && !c->talks[i].working && c->talks[i].deadline_us <= mono_us)
            end_talk(&c->talks[i]);
}

void control_free(struct control *c)
{
    if (!c)
        return;
    control_health(c);
    for (uint32_t i = 0; i < CONTROL_MAX; i++)
        if (c->talks[i].serial)
            end_talk(&c->talks[i]);
    net_loop_remove(&c->keeper->loop, &c->door);
    (void)close(c->door.fd);
    net_unlink_unix(c->keeper->paths.run, ADMIN_SOCKET);
    sp_wipe(c->scratch, sizeof c->scratch);
    free(c);
}
