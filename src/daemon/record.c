/* SPDX-License-Identifier: MIT */
#include "daemon/record.h"

#include "base/text.h"
#include "net/pass.h"

void record_init(struct record_writer *w, int fd, uint32_t worker, uint32_t flood)
{
    memset(w, 0, sizeof *w);
    w->fd = fd;
    w->worker = worker;
    w->flood = flood;
}

static void add_text(struct sp_text *t, const char *key, struct sp_span value)
{
    if (value.n == 0)
        return;
    sp_text_fmt(t, ",\"%s\":\"", key);
    sp_text_json(t, sp_span(value.p, value.n < 300 ? value.n : 300)); /* a name of 64 KiB is not worth more */
    sp_text_str(t, "\"");
}

static void add_etypes(struct sp_text *t, const struct kdc_record *r)
{
    if (!r->requested_count && !r->ticket_etype && !r->session_etype && !r->reply_etype)
        return;
    sp_text_str(t, ",\"etypes\":{\"requested\":[");
    for (uint32_t i = 0; i < r->requested_count && i < 8; i++)
        sp_text_fmt(t, "%s%d", i ? "," : "", r->requested_etypes[i]);
    sp_text_str(t, "]");
    if (r->ticket_etype)
        sp_text_fmt(t, ",\"ticket\":%d,\"session\":%d,\"reply\":%d", r->ticket_etype, r->session_etype,
                    r->reply_etype);
    sp_text_str(t, "}");
}

static bool is_zero(const uint8_t *p, size_t n)
{
    while (n && !*p)
        p++, n--;
    return n == 0;
}

static void add_facts(struct sp_text *t, const struct record_facts *f, const struct kdc_record *r)
{
    add_text(t, "door", sp_str(f->door));
    add_text(t, "transport", sp_str(f->transport));
    add_text(t, "source", sp_str(f->source));
    add_text(t, "client", r->client);
    add_text(t, "service", r->service);
    add_etypes(t, r);
    add_text(t, "preauth", sp_str(r->preauth));
    sp_text_fmt(t, ",\"code\":%d", r->code);
    add_text(t, "name", sp_str(f->name ? f->name : krb_code_name(r->code)));
    if (r->inner_code != r->code && r->inner_code != 0)
        sp_text_fmt(t, ",\"inner_code\":%d,\"inner_name\":\"%s\"", r->inner_code,
                    krb_code_name(r->inner_code));
    add_text(t, "text", sp_str(r->text));
    if (!is_zero(r->ticket_id, sizeof r->ticket_id)) {
        sp_text_str(t, ",\"ticket\":\"");
        sp_text_hex(t, sp_span(r->ticket_id, sizeof r->ticket_id));
        sp_text_str(t, "\"");
    }
    if (r->retransmission)
        sp_text_str(t, ",\"retransmission\":true");
}

static void begin(struct sp_text *t, struct sp_env now, const char *event)
{
    sp_text_str(t, "{\"ts\":\"");
    sp_text_iso_us(t, now.wall_us);
    sp_text_fmt(t, "\",\"event\":\"%s\"", event);
}

static void finish(struct record_writer *w, struct sp_text *t, int64_t mono_us)
{
    sp_text_fmt(t, ",\"worker\":%u}\n", w->worker);
    if (t->cut) {
        w->lost++;
        return;
    }
    if (w->n == 0)
        w->first_us = mono_us;
    w->n += t->n;
}

/* Room for one line, at the end of the buffer; NULL when the keeper does not take what is there. */
static char *room(struct record_writer *w)
{
    if (sizeof w->buf - w->n < RECORD_LINE_MAX)
        record_flush(w);
    if (sizeof w->buf - w->n < RECORD_LINE_MAX) {
        w->lost++;
        return NULL;
    }
    return w->buf + w->n;
}

/* The last of RECORD_KINDS is for all kinds beyond. */
static struct record_kind *kind_of(struct record_writer *w, const char *event, int32_t code)
{
    uint32_t i;

    for (i = 0; i < w->kind_count; i++)
        if (w->kinds[i].code == code && strcmp(w->kinds[i].event, event) == 0)
            return &w->kinds[i];
    if (i == RECORD_KINDS)
        return &w->kinds[RECORD_KINDS];
    w->kinds[i] = (struct record_kind){.code = code};
    strncpy(w->kinds[i].event, event, sizeof w->kinds[i].event - 1);
    w->kind_count++;
    return &w->kinds[i];
}

static void write_summary(struct record_writer *w, struct sp_env now, const struct record_kind *k)
{
    char *p = room(w);
    struct sp_text t;

    if (!p)
        return;
    t = sp_text(p, RECORD_LINE_MAX);
    begin(&t, now, "summary");
    if (k == &w->kinds[RECORD_KINDS])
        sp_text_str(&t, ",\"of\":\"other\"");
    else
        sp_text_fmt(&t, ",\"of\":\"%s\",\"code\":%d,\"name\":\"%s\"", k->event, k->code,
                    krb_code_name(k->code));
    sp_text_fmt(&t, ",\"count\":%u,\"text\":\"%u more of this kind within a second\"", k->kept_back,
                k->kept_back);
    finish(w, &t, now.mono_us);
}

static void count_second(struct record_writer *w, struct sp_env now)
{
    if (now.mono_us / 1000000 == w->second)
        return;
    w->second = now.mono_us / 1000000;
    for (uint32_t i = 0; i <= RECORD_KINDS; i++) {
        if (w->kinds[i].kept_back)
            write_summary(w, now, &w->kinds[i]);
        w->kinds[i].seen = w->kinds[i].kept_back = 0;
    }
    w->kind_count = 0;
}

static bool is_flood(struct record_writer *w, const struct kdc_record *r)
{
    struct record_kind *k;

    if (w->flood == 0)
        return false;
    k = kind_of(w, r->event ? r->event : "malformed", r->code);
    if (k->seen++ < w->flood)
        return false;
    k->kept_back++;
    return true;
}

void record_write(struct record_writer *w, struct sp_env now, const struct record_facts *f,
                  const struct kdc_record *r)
{
    struct sp_text t;
    char *p;

    count_second(w, now);
    if (is_flood(w, r) || !(p = room(w)))
        return;
    t = sp_text(p, RECORD_LINE_MAX);
    begin(&t, now, r->event ? r->event : "malformed");
    add_facts(&t, f, r);
    sp_text_fmt(&t, ",\"us\":%lld", (long long)f->took_us);
    finish(w, &t, now.mono_us);
}

static void confess(struct record_writer *w)
{
    struct sp_text t = sp_text(w->buf, RECORD_LINE_MAX);

    sp_text_fmt(&t,
                "{\"event\":\"records-lost\",\"count\":%llu,\"worker\":%u,\"text\":\"the keeper did not take "
                "them in time\"}\n",
                (unsigned long long)w->lost, w->worker);
    w->n = t.n;
}

void record_flush(struct record_writer *w)
{
    if (w->n == 0 || !net_send_now(w->fd, sp_span(w->buf, w->n)))
        return;
    w->n = 0;
    if (!w->lost)
        return;
    confess(w);
    if (net_send_now(w->fd, sp_span(w->buf, w->n)))
        w->lost = 0;
    w->n = 0;
}

static bool summary_waits(const struct record_writer *w)
{
    for (uint32_t i = 0; i <= RECORD_KINDS; i++)
        if (w->kinds[i].kept_back)
            return true;
    return false;
}

void record_tick(struct record_writer *w, struct sp_env now)
{
    count_second(w, now);
    if (w->n && now.mono_us - w->first_us >= RECORD_DELAY_US)
        record_flush(w);
}

int64_t record_due_us(const struct record_writer *w, int64_t mono_us)
{
    int64_t left;

    if (w->n) {
        left = w->first_us + RECORD_DELAY_US - mono_us;
        return left > 1000 ? left : 1000; /* when the keeper is slow: not a spinning loop */
    }
    return summary_waits(w) ? (w->second + 1) * 1000000 - mono_us : -1;
}
