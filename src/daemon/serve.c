/* SPDX-License-Identifier: MIT */
/* From a request to a reply, a record and a counter; or to a password change that the keeper decides. */
#include <stdio.h>

#include "admin/admin.h"
#include "daemon/worker.h"
#include "krb/messages.h"
#include "net/pass.h"

static const char *const transport[] = {
    [KDC_UDP] = "udp", [KDC_TCP] = "tcp", [KDC_UNIX] = "unix", [KDC_COURIER] = "courier"};

/* RFC 3244: length of the whole, then version 1 or 0xff80. No DER of a KDC request looks like that: its first
 * two bytes as a length would say 27 KiB, and then byte 2 and 3 would have to be a length too small for it.
 * So one UNIX socket serves both. */
static bool is_kpasswd(struct sp_span m)
{
    return m.n >= 6 && ((size_t)m.p[0] << 8 | m.p[1]) == m.n &&
           ((m.p[2] == 0 && m.p[3] == 1) || (m.p[2] == 0xff && m.p[3] == 0x80));
}

static void count_activity(struct worker *w, const struct kdc_record *r, struct sp_env now)
{
    struct lmdb_activity_row row = {.id = r->account_id};

    if (r->account_id == 0 || (!r->proven && !r->failed))
        return;
    if (r->proven)
        row.add = (struct lmdb_activity){.last_success_s = now.wall_us / 1000000, .successes = 1};
    else
        row.add = (struct lmdb_activity){.last_failure_s = now.wall_us / 1000000, .failures = 1};
    if (w->activity.count == 0)
        w->activity_due_us = now.mono_us + 500000;
    (void)activity_add(&w->activity, &row);
}

static struct pending_change *free_pending(struct worker *w)
{
    for (uint32_t i = 0; i < PENDING_MAX; i++)
        if (!w->pending[i].used)
            return &w->pending[i];
    return NULL;
}

/* A client that heard nothing sends again; its first request is still being worked on. */
static bool already_pending(const struct worker *w, const struct kdc_change *c)
{
    for (uint32_t i = 0; i < PENDING_MAX; i++)
        if (w->pending[i].used &&
            memcmp(w->pending[i].change.request_hash, c->request_hash, sizeof c->request_hash) == 0)
            return true;
    return false;
}

static struct sp_span keep_text(char to[300], struct sp_span s)
{
    size_t n = s.n < 300 ? s.n : 300;

    if (n)
        memcpy(to, s.p, n);
    return sp_span(to, n);
}

static void remember(struct worker *w, struct pending_change *p, const struct kdc_actions *did,
                     const struct record_facts *facts, int64_t began_us)
{
    *p = (struct pending_change){.used = true, .serial = ++w->pending_serial, .began_us = began_us};
    p->change = *did->change;
    p->facts = *facts;
    p->record = did->record;
    p->record.client = keep_text(p->client, did->record.client);
    p->record.service = keep_text(p->service, did->record.service);
    (void)snprintf(p->source, sizeof p->source, "%s", facts->source);
    p->facts.source = p->source;
}

static bool ask_keeper(struct worker *w, const struct pending_change *p)
{
    struct channel_change m = {
        .type = CHANNEL_CHANGE, .slot = (uint32_t)(p - w->pending), .serial = p->serial};
    bool sent;

    m.change.account_id = p->change.account_id;
    m.change.generation = p->change.generation;
    m.change.password_n = p->change.password_n;
    memcpy(m.change.password, p->change.password, sizeof m.change.password);
    sent = net_send_now(w->channel.fd, sp_span(&m, sizeof m));
    sp_wipe(&m, sizeof m);
    return sent;
}

static void forget(struct pending_change *p)
{
    sp_wipe(p, sizeof *p);
}

/* Refused politely, now: RFC 3244's hard error. */
static void refuse_change(struct worker *w, struct sp_env env, struct kdc_actions *did, struct sp_span *reply)
{
    (void)snprintf(did->record.text, sizeof did->record.text, "too many password changes at once");
    kdc_finish_change(&w->kdc, env, did->change, 2, SP_LIT("The server is busy; try again in a moment."),
                      &w->mem, reply);
}

static void start_change(struct worker *w, struct sp_env env, struct kdc_actions *did,
                         const struct record_facts *facts, struct serve_answer *out)
{
    struct pending_change *p = free_pending(w);

    if (already_pending(w, did->change))
        return;
    if (p) {
        remember(w, p, did, facts, env.mono_us);
        if (ask_keeper(w, p)) {
            out->pending = p;
            return;
        }
        forget(p);
    }
    refuse_change(w, env, did, &out->reply);
    record_write(&w->records, env, facts, &did->record);
}

typedef void step(struct kdc *k, struct sp_env env, const struct kdc_request *req, struct sp_arena *mem,
                  struct kdc_actions *out);

static void serve(struct worker *w, step *go, struct record_facts facts, const struct kdc_request *req,
                  struct serve_answer *out)
{
    struct sp_env env = admin_env();
    struct kdc_actions *did = &w->did;

    *out = (struct serve_answer){0};
    if (req->door != KDC_UDP) /* there a batch settles; a change acknowledged before this came is seen */
        lmdb_settle(w->store);
    go(&w->kdc, env, req, &w->mem, did);
    facts.source = source_text(req);
    facts.took_us = admin_mono_us() - env.mono_us;
    count_activity(w, &did->record, env);
    if (did->has_change) {
        start_change(w, env, did, &facts, out);
        return;
    }
    out->reply = did->reply;
    record_write(&w->records, env, &facts, &did->record);
}

void serve_request(struct worker *w, enum door_service service, const struct kdc_request *req,
                   struct serve_answer *out)
{
    bool kpasswd = service == DOOR_KPASSWD || (service == DOOR_EITHER && is_kpasswd(req->bytes));
    struct record_facts facts = {.door = kpasswd ? "kpasswd" : "kdc", .transport = transport[req->door]};

    serve(w, kpasswd ? kdc_kpasswd_step : kdc_step, facts, req, out);
}

void serve_carried(struct worker *w, const struct kdc_request *req, const struct courier_ask *ask,
                   struct serve_answer *out)
{
    struct record_facts facts = {
        .door = "courier", .transport = ask->transport, .acceptor = sp_str(ask->acceptor)};

    serve(w, kdc_step, facts, req, out);
}

void serve_done(struct worker *w)
{
    sp_arena_reset(&w->mem);
}

struct sp_span serve_too_long(struct worker *w, const struct kdc_source *from, enum kdc_door door)
{
    struct sp_env env = admin_env();
    struct record_facts facts = {.door = "kdc", .transport = transport[door], .source = from->text};
    struct kdc_record r = {.event = "malformed", .code = KRB_ERR_FIELD_TOOLONG};
    struct sp_span realm = w->config->config.kdc.realm.name, reply = {0};
    struct sp_span parts[2] = {SP_LIT("krbtgt"), realm};
    struct krb_error m = {.pvno = 5, .msg_type = 30, .code = KRB_ERR_FIELD_TOOLONG, .realm = realm};
    struct sp_err e = {0};

    (void)snprintf(r.text, sizeof r.text, "a length that no request has");
    record_write(&w->records, env, &facts, &r);
    m.stime = env.wall_us / 1000000;
    m.susec = (uint32_t)(env.wall_us % 1000000);
    m.sname.type = 2; /* NT-SRV-INST */
    m.sname.parts = (struct sp_spans){parts, 2};
    return krb_make(KRB_ERROR, &m, &w->mem, &reply, &e) ? reply : (struct sp_span){0};
}

static const char *verdict_name(uint16_t result)
{
    static const char *const names[] = {
        "KPASSWD_SUCCESS",   "KPASSWD_MALFORMED",    "KPASSWD_HARDERROR",   "KPASSWD_AUTHERROR",
        "KPASSWD_SOFTERROR", "KPASSWD_ACCESSDENIED", "KPASSWD_BAD_VERSION", "KPASSWD_INITIAL_FLAG_NEEDED"};

    return result < sizeof names / sizeof *names ? names[result] : "KPASSWD_HARDERROR";
}

static void record_verdict(struct worker *w, struct pending_change *p, const struct channel_verdict *v,
                           struct sp_env env)
{
    p->record.code = v->result;
    p->facts.name = verdict_name(v->result);
    p->facts.took_us = env.mono_us - p->began_us;
    (void)snprintf(p->record.text, sizeof p->record.text, "%.*s", (int)sizeof p->record.text - 1, v->text);
    record_write(&w->records, env, &p->facts, &p->record);
}

void serve_verdict(struct worker *w, const struct channel_verdict *v)
{
    struct pending_change *p = v->slot < PENDING_MAX ? &w->pending[v->slot] : NULL;
    struct sp_env env = admin_env();
    struct sp_span reply = {0};

    if (!p || !p->used || p->serial != v->serial)
        return;
    record_verdict(w, p, v, env);
    kdc_finish_change(&w->kdc, env, &p->change, v->result, sp_str(v->text), &w->mem, &reply);
    if (p->stream)
        stream_answer_later(p->stream, reply);
    else if (!p->gone)
        udp_answer_later(p, reply);
    forget(p);
    serve_done(w);
}
