/* SPDX-License-Identifier: MIT */
/* CPU time of processes, from the scheduler's own account in nanoseconds. */
#ifndef SP_BENCH_CPUTIME_H
#define SP_BENCH_CPUTIME_H

#include <stdint.h>
#include <sys/types.h>

/* Run time of all threads of pid and of its descendants, in nanoseconds; 0 when it is gone. Exact only while
 * they sleep. */
uint64_t bench_cpu_ns(pid_t pid);

#endif
