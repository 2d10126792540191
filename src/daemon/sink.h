/* SPDX-License-Identifier: MIT */
/* Where record lines end: a file, the journal, standard error. A full disk loses lines, never logins; when it
 * has room again, one line says how many are missing. */
#ifndef SP_DAEMON_SINK_H
#define SP_DAEMON_SINK_H

#include "base/err.h"
#include "base/span.h"

enum sink_target { SINK_FILE, SINK_JOURNAL, SINK_STDERR };

struct sink {
    enum sink_target target;
    int fd; /* of the file; -1: not open now, tried again with each batch */
    char path[4300];
    bool torn; /* the file ends inside a line that could not be taken back */
    uint64_t lost;
};

/* target: "file", "journal", "stderr". Opens dir/records.jsonl (0640, appending). */
SP_MUST bool sink_open(struct sink *s, const char *target, const char *dir, struct sp_err *e);
/* The file may have been moved away (log rotation). */
void sink_reopen(struct sink *s);
void sink_close(struct sink *s);
/* Whole lines, each with its newline. */
void sink_write(struct sink *s, struct sp_span lines);

#endif
