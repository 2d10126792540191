/* SPDX-License-Identifier: MIT */
#include "cputime.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t thread_ns(pid_t pid, const char *tid)
{
    char path[320];
    unsigned long long ns = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", (int)pid, tid);
    f = fopen(path, "re");
    if (!f)
        return 0;
    if (fscanf(f, "%llu", &ns) != 1)
        ns = 0;
    fclose(f);
    return ns;
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
    char path[320];
    int parent = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    f = fopen(path, "re");
    if (!f)
        return 0;
    /* the command's name is in parentheses and may hold anything but is cut at 15 bytes */
    if (fscanf(f, "%*d (%*[^)]) %*c %d", &parent) != 1)
        parent = 0;
    fclose(f);
    return parent;
}

static uint64_t child_ns(pid_t parent, const char *name)
{
    return parent_of(name) == parent ? bench_cpu_ns((pid_t)atoi(name)) : 0;
}

uint64_t bench_cpu_ns(pid_t pid)
{
    char path[320];

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    return each_number(path, thread_ns, pid) + each_number("/proc", child_ns, pid);
}
