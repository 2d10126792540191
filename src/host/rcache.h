/* SPDX-License-Identifier: MIT */
/* The replay cache of acceptors: the file that libkrb5 keeps for this uid (type file2, as MIT's documentation
 * "Replay cache file format" has it), so that the krb5 mechanism and ours refuse what the other one saw
 * (decision 28). Safe between threads and processes: every look-up holds the file's lock. */
#ifndef SP_HOST_RCACHE_H
#define SP_HOST_RCACHE_H

#include "base/err.h"
#include "base/span.h"

/* Where: name as KRB5RCACHENAME writes it ("dfl:", "file2:PATH", "none:"), NULL for that variable or the
 * default. tag: the end of the authenticator's ciphertext, its checksum. SP_EREFUSED and proto
 * KRB_AP_ERR_REPEAT when it is there already; SP_EBACKEND when the file cannot be used: then nothing may be
 * accepted. */
SP_MUST bool host_note_replay(const char *name, struct sp_span tag, int64_t now_s, int32_t skew_s,
                              struct sp_err *e);

#endif
