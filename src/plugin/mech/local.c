/* SPDX-License-Identifier: MIT */
/* The daemon of this host, as acceptors meet it: which realm is ours, and messages carried to it. */
#include "plugin/mech/engine.h"

#include "plugin/mech/kept.h"

#define REMEMBER_US (10 * INT64_C(1000000))
#define HELLO_MS 1000
#define ROOM (32 * 1024)

/* The last answer; its spans lie in `room`. */
static struct {
    int64_t until_us;
    struct host_realm realm;
    struct sp_arena mem;
    uint8_t room[ROOM];
} known;

static bool copy_spans(const struct sp_spans *from, struct sp_arena *mem, struct sp_spans *to,
                       struct sp_err *e)
{
    to->count = from->count;
    to->v = sp_new_array(mem, struct sp_span, from->count, e);
    for (uint32_t i = 0; i < from->count && to->v; i++)
        to->v[i] = sp_dup(mem, from->v[i], e);
    return sp_ok(e);
}

static bool copy(const struct host_realm *from, struct sp_arena *mem, struct host_realm *to, struct sp_err *e)
{
    *to = *from;
    to->name = sp_dup(mem, from->name, e);
    return copy_spans(&from->aliases, mem, &to->aliases, e) && copy_spans(&from->others, mem, &to->others, e);
}

static bool recall(struct sp_arena *mem, struct host_realm *out, struct sp_err *e)
{
    int64_t now = host_env().mono_us;
    bool found;

    kept_lock();
    found = now < known.until_us;
    if (found)
        (void)copy(&known.realm, mem, out, e);
    kept_unlock();
    return found;
}

static void remember(const struct host_realm *r)
{
    struct sp_err e = {0};

    kept_lock();
    sp_arena_init(&known.mem, known.room, sizeof known.room);
    known.until_us = copy(r, &known.mem, &known.realm, &e) ? host_env().mono_us + REMEMBER_US : 0;
    kept_unlock();
}

/* Without a daemon tickets that clients have already are accepted all the same, and nothing is carried. */
static bool default_local(struct sp_arena *mem, struct host_realm *out, struct sp_err *e)
{
    struct lib l = {0};

    *out = (struct host_realm){.finished_required = true};
    if (lib_open(&l, e))
        out->name = lib_default_realm(&l, mem);
    lib_close(&l);
    return sp_ok(e);
}

bool mech_find_local(struct host_courier *h, struct sp_arena *mem, struct host_realm *out, struct sp_err *e)
{
    struct sp_err no_daemon = {0};

    if (recall(mem, out, e))
        return sp_ok(e);
    if (!host_hello(h, HELLO_MS, mem, out, &no_daemon))
        return default_local(mem, out, e);
    remember(out);
    return true;
}

/* As people write it, for records. */
static struct sp_span service_text(const struct mech_ctx *x, char room[KRB_NAME_TEXT_MAX])
{
    struct sp_text t = sp_text(room, KRB_NAME_TEXT_MAX);

    if (x->cred->name)
        krb_text_name(&t, &x->cred->name->name);
    return sp_span(t.p, t.n);
}

void mech_note(struct mech_ctx *x, const struct sp_err *why)
{
    char service[KRB_NAME_TEXT_MAX];
    struct host_note n = {.why = why, .service = service_text(x, service)};

    if (x->k) {
        n.client = sp_str(x->k->client);
        n.service = sp_str(x->k->service);
        n.no_finished = x->k->no_finished;
    }
    sp_arena_reset(&x->carry_mem);
    host_note(&x->courier, &n, &x->carry_mem);
}

void mech_carry(struct mech_ctx *x, const struct sec_action *a, struct sec_event *ev)
{
    char service[KRB_NAME_TEXT_MAX];
    struct sp_err e = {0};
    struct sp_span reply;

    sp_arena_reset(&x->carry_mem);
    if (host_ask(&x->courier, a->realm, a->message, service_text(x, service), HOST_ASK_MS_MAX, &x->carry_mem,
                 &reply, &e))
        *ev = (struct sec_event){.kind = SEC_CARRIED, .bytes = reply};
    else
        *ev = (struct sec_event){.kind = SEC_NOT_CARRIED,
                                 .code = e.proto == KRB_AP_ERR_IAKERB_KDC_NOT_FOUND
                                             ? KRB_AP_ERR_IAKERB_KDC_NOT_FOUND
                                             : KRB_AP_ERR_IAKERB_KDC_NO_RESPONSE};
}
