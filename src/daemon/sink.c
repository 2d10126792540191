/* SPDX-License-Identifier: MIT */
#include "daemon/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "admin/admin.h"
#include "net/notify.h"

static void open_file(struct sink *s)
{
    s->fd = open(s->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
}

bool sink_open(struct sink *s, const char *target, const char *dir, struct sp_err *e)
{
    *s = (struct sink){.fd = -1};
    s->target = strcmp(target, "journal") == 0  ? SINK_JOURNAL
                : strcmp(target, "stderr") == 0 ? SINK_STDERR
                                                : SINK_FILE;
    (void)snprintf(s->path, sizeof s->path, "%s/records.jsonl", dir);
    if (s->target != SINK_FILE)
        return true;
    open_file(s);
    if (s->fd < 0 && errno == EACCES)
        return sp_fail(e, SP_EREFUSED, ADMIN_NOT_PERMITTED, "%.100s: %s", s->path, strerror(errno));
    return s->fd >= 0 || sp_fail(e, SP_EBACKEND, 0, "%.100s: %s", s->path, strerror(errno));
}

void sink_close(struct sink *s)
{
    if (s->fd >= 0)
        (void)close(s->fd);
    s->fd = -1;
}

void sink_reopen(struct sink *s)
{
    sink_close(s);
    if (s->target == SINK_FILE)
        open_file(s);
}

static uint64_t count_lines(struct sp_span lines)
{
    uint64_t count = 0;

    for (size_t i = 0; i < lines.n; i++)
        count += lines.p[i] == '\n';
    return count;
}

/* A disk that fills up in the middle of a line: what is there of it is taken back. */
static void cut_torn_line(struct sink *s, struct sp_span written)
{
    const uint8_t *end = memrchr(written.p, '\n', written.n);
    size_t torn = end ? written.n - (size_t)(end - written.p) - 1 : written.n;
    off_t size = lseek(s->fd, 0, SEEK_END);

    s->torn = torn && (size < (off_t)torn || ftruncate(s->fd, size - (off_t)torn) != 0);
}

/* Whether all of it is in the file. */
static bool append(struct sink *s, struct sp_span lines)
{
    ssize_t n;

    if (s->torn && write(s->fd, "\n", 1) != 1) {
        s->lost += count_lines(lines);
        return false;
    }
    s->torn = false;
    n = write(s->fd, lines.p, lines.n);
    if (n == (ssize_t)lines.n)
        return true;
    if (n > 0)
        cut_torn_line(s, sp_span(lines.p, (size_t)n));
    n = n > 0 ? n : 0;
    s->lost += count_lines(sp_span(lines.p + n, lines.n - (size_t)n));
    return false;
}

static bool confess(struct sink *s)
{
    uint64_t lost = s->lost;
    char buf[256];
    struct sp_text t = sp_text(buf, sizeof buf);

    sp_text_str(&t, "{\"ts\":\"");
    sp_text_iso_us(&t, admin_env().wall_us);
    sp_text_fmt(&t,
                "\",\"event\":\"records-lost\",\"count\":%llu,\"text\":\"records could not be written\"}\n",
                (unsigned long long)lost);
    if (!append(s, sp_span(buf, t.n))) {
        s->lost = lost;
        return false;
    }
    s->lost = 0;
    return true;
}

static void write_file(struct sink *s, struct sp_span lines)
{
    if (s->fd < 0)
        open_file(s);
    if (s->fd < 0 || (s->lost && !confess(s)))
        s->lost += count_lines(lines);
    else
        (void)append(s, lines);
}

static void write_journal(struct sp_span lines)
{
    const uint8_t *end;

    while (lines.n && (end = memchr(lines.p, '\n', lines.n))) {
        size_t n = (size_t)(end - lines.p);
        if (!net_journal(6, sp_span(lines.p, n)))
            (void)!write(STDERR_FILENO, lines.p, n + 1);
        lines = sp_span(end + 1, lines.n - n - 1);
    }
}

void sink_write(struct sink *s, struct sp_span lines)
{
    if (s->target == SINK_FILE)
        write_file(s, lines);
    else if (s->target == SINK_JOURNAL)
        write_journal(lines);
    else
        (void)!write(STDERR_FILENO, lines.p, lines.n);
}
