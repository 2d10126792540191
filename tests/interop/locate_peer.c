/* SPDX-License-Identifier: MIT */
/* Stock libkrb5 with the locator in its plugin directory:
 *
 *   locate_peer threads COUNT ROUNDS USER PASSWORD    logs in so often in so many threads
 *   locate_peer measure PLUGIN REALM CALLS            what one look-up costs, as libkrb5 calls it */
#include <krb5/krb5.h>

#include <sys/socket.h>

#include <krb5/locate_plugin.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct job {
    const char *user, *password;
    int rounds, done;
};

static int log_in(const struct job *j)
{
    krb5_context context;
    krb5_principal who = NULL;
    krb5_creds creds;

    if (krb5_init_context(&context))
        return 0;
    int bad = krb5_parse_name(context, j->user, &who);
    if (!bad)
        bad = krb5_get_init_creds_password(context, &creds, who, j->password, NULL, NULL, 0, NULL, NULL);
    if (!bad)
        krb5_free_cred_contents(context, &creds);
    krb5_free_principal(context, who);
    krb5_free_context(context);
    return !bad;
}

static void *work(void *job)
{
    struct job *j = job;

    for (int i = 0; i < j->rounds; i++)
        j->done += log_in(j);
    return NULL;
}

static int run_threads(int count, const struct job *like)
{
    pthread_t threads[64];
    struct job jobs[64];
    int done = 0;

    for (int i = 0; i < count && i < 64; i++) {
        jobs[i] = *like;
        if (pthread_create(&threads[i], NULL, work, &jobs[i]))
            return 1;
    }
    for (int i = 0; i < count && i < 64; i++) {
        pthread_join(threads[i], NULL);
        done += jobs[i].done;
    }
    printf("%d logins\n", done);
    return 0;
}

static int count_door(void *count, int socktype, struct sockaddr *sa)
{
    (void)socktype;
    (void)sa;
    ++*(int *)count;
    return 0;
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* begin, UDP, TCP, end: libkrb5's module_locate_server. */
static int measure(const char *plugin, const char *realm, int calls)
{
    void *so = dlopen(plugin, RTLD_NOW | RTLD_LOCAL);
    krb5plugin_service_locate_ftable *t = so ? dlsym(so, "service_locator") : NULL;
    int64_t *took = calloc((size_t)calls, sizeof *took);
    int doors = 0;

    if (!t || !took)
        return printf("%s\n", dlerror()), 1;
    for (int i = 0; i < calls; i++) {
        void *it;
        int64_t began = now_ns();

        t->init(NULL, &it);
        t->lookup(it, locate_service_kdc, realm, SOCK_DGRAM, AF_UNSPEC, count_door, &doors);
        t->lookup(it, locate_service_kdc, realm, SOCK_STREAM, AF_UNSPEC, count_door, &doors);
        t->fini(it);
        took[i] = now_ns() - began;
    }
    qsort(took, (size_t)calls, sizeof *took, by_size);
    printf("doors=%d median_ns=%lld p99_ns=%lld\n", doors / calls, (long long)took[calls / 2],
           (long long)took[(int64_t)calls * 99 / 100]);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "threads") == 0) {
        struct job j = {argv[4], argv[5], atoi(argv[3]), 0};

        return run_threads(atoi(argv[2]), &j);
    }
    return argc == 5 && strcmp(argv[1], "measure") == 0 ? measure(argv[2], argv[3], atoi(argv[4])) : 2;
}
