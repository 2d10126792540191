/* SPDX-License-Identifier: MIT */
#include "cputime.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first line of a file of /proc, in buf; "" when it is gone. */
static const char *first_line(const char *path, char *buf, int n)
{
    FILE *f = fopen(path, "re");

    buf[0] = 0;
    if (!f)
        return buf;
    if (!fgets(buf, n, f))
        buf[0] = 0;
    fclose(f);
    return buf;
}

static uint64_t thread_ns(pid_t pid, const char *tid)
{
    char path[320], line[512];

    snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", (int)pid, tid);
    return strtoull(first_line(path, line, sizeof line), NULL, 10);
}

/* Adds up over the numeric names in a directory. */
static uint64_t each_number(const char *path, uint64_t (*of)(pid_t ctx, const char *name), pid_t ctx)
{
    DIR *d = opendir(path);
    struct dirent *x;
    uint64_t sum = 0;

    if (!d)
        return 0;
    while ((x = readdir(d)))
        if (x->d_name[0] >= '0' && x->d_name[0] <= '9')
            sum += of(ctx, x->d_name);
    closedir(d);
    return sum;
}

static pid_t parent_of(const char *pid)
{
    char path[320], line[512];
    const char *after;

    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    /* The command's name is in parentheses and may hold anything; after it come a state's letter and the
     * parent. */
    after = strrchr(first_line(path, line, sizeof line), ')');
    return after && strlen(after) > 4 ? (pid_t)strtol(after + 4, NULL, 10) : 0;
}

static uint64_t child_ns(pid_t parent, const char *name)
{
    return parent_of(name) == parent ? bench_cpu_ns((pid_t)strtol(name, NULL, 10)) : 0;
}

uint64_t bench_cpu_ns(pid_t pid)
{
    char path[320];

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    return each_number(path, thread_ns, pid) + each_number("/proc", child_ns, pid);
}
