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

/* A name of 64 KiB is not worth more than its first 300 bytes. */
static void add_text(struct sp_text *t, struct sp_span lead, struct sp_span value)
{
    if (value.n == 0)
        return;
    sp_text_put(t, (const char *)lead.p, lead.n);
    sp_text_json(t, sp_span(value.p, value.n < 300 ? value.n : 300));
    SP_TEXT_LIT(t, "\"");
}

/* A word of this program: nothing in it to escape. */
static void add_word(struct sp_text *t, struct sp_span lead, const char *word)
{
    size_t n = word ? strlen(word) : 0;

    if (n == 0)
        return;
    sp_text_put(t, (const char *)lead.p, lead.n);
    sp_text_put(t, word, n);
    SP_TEXT_LIT(t, "\"");
}

static void add_etypes(struct sp_text *t, const struct kdc_record *r)
{
    if (!r->requested_count && !r->ticket_etype && !r->session_etype && !r->reply_etype)
        return;
    SP_TEXT_LIT(t, ",\"etypes\":{\"requested\":[");
    for (uint32_t i = 0; i < r->requested_count && i < 8; i++) {
        if (i > 0)
            SP_TEXT_LIT(t, ",");
        sp_text_int(t, r->requested_etypes[i]);
    }
    SP_TEXT_LIT(t, "]");
    if (r->ticket_etype) {
        SP_TEXT_LIT(t, ",\"ticket\":");
        sp_text_int(t, r->ticket_etype);
        SP_TEXT_LIT(t, ",\"session\":");
        sp_text_int(t, r->session_etype);
        SP_TEXT_LIT(t, ",\"reply\":");
        sp_text_int(t, r->reply_etype);
    }
    SP_TEXT_LIT(t, "}");
}

static bool is_zero(const uint8_t *p, size_t n)
{
    while (n && !*p)
        p++, n--;
    return n == 0;
}

static void add_codes(struct sp_text *t, const struct record_facts *f, const struct kdc_record *r)
{
    SP_TEXT_LIT(t, ",\"code\":");
    sp_text_int(t, r->code);
    add_word(t, SP_LIT(",\"name\":\""), f->name ? f->name : krb_code_name(r->code));
    if (r->inner_code != r->code && r->inner_code != 0) {
        SP_TEXT_LIT(t, ",\"inner_code\":");
        sp_text_int(t, r->inner_code);
        add_word(t, SP_LIT(",\"inner_name\":\""), krb_code_name(r->inner_code));
    }
}

static void add_facts(struct sp_text *t, const struct record_facts *f, const struct kdc_record *r)
{
    add_word(t, SP_LIT(",\"door\":\""), f->door);
    add_word(t, SP_LIT(",\"transport\":\""), f->transport);
    add_text(t, SP_LIT(",\"source\":\""), sp_str(f->source));
    add_text(t, SP_LIT(",\"acceptor\":\""), f->acceptor);
    add_text(t, SP_LIT(",\"client\":\""), r->client);
    add_text(t, SP_LIT(",\"service\":\""), r->service);
    add_etypes(t, r);
    add_word(t, SP_LIT(",\"preauth\":\""), r->preauth);
    add_codes(t, f, r);
    add_text(t, SP_LIT(",\"text\":\""), sp_str(r->text));
    if (!is_zero(r->ticket_id, sizeof r->ticket_id)) {
        SP_TEXT_LIT(t, ",\"ticket\":\"");
        sp_text_hex(t, sp_span(r->ticket_id, sizeof r->ticket_id));
        SP_TEXT_LIT(t, "\"");
    }
    if (r->retransmission)
        SP_TEXT_LIT(t, ",\"retransmission\":true");
}

/* The text of a second is made once; within it only the microseconds change. */
static void add_stamp(struct record_writer *w, struct sp_text *t, int64_t wall_us)
{
    int64_t s = wall_us / 1000000 - (wall_us % 1000000 < 0);
    unsigned us = (unsigned)(wall_us - s * 1000000);

    if (s != w->stamp_s || w->stamp[0] == 0) {
        struct sp_text stamp = sp_text(w->stamp, sizeof w->stamp);

        sp_text_iso_us(&stamp, wall_us);
        w->stamp_s = s;
    }
    for (int i = 25; i > 19; i--, us /= 10)
        w->stamp[i] = (char)('0' + us % 10);
    sp_text_put(t, w->stamp, sizeof w->stamp - 1);
}

static void begin(struct record_writer *w, struct sp_text *t, struct sp_env now, const char *event)
{
    SP_TEXT_LIT(t, "{\"ts\":\"");
    add_stamp(w, t, now.wall_us);
    add_word(t, SP_LIT("\",\"event\":\""), event);
}

static void finish(struct record_writer *w, struct sp_text *t, int64_t mono_us)
{
    SP_TEXT_LIT(t, ",\"worker\":");
    sp_text_uint(t, w->worker);
    SP_TEXT_LIT(t, "}\n");
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
    w->kinds[i].name = tally_kind(event, code);
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
    begin(w, &t, now, "summary");
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
    if (k->seen++ < w->flood && tally_see_kind(w->tally, k->name, w->second) < w->flood)
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
    begin(w, &t, now, r->event ? r->event : "malformed");
    add_facts(&t, f, r);
    SP_TEXT_LIT(&t, ",\"us\":");
    sp_text_int(&t, f->took_us);
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
