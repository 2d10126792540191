/* SPDX-License-Identifier: MIT */
#include "net/resolver.h"

#include <ares.h>
#include <arpa/inet.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#define HOSTS_FILE "/etc/hosts"
#define HOSTS_MAX 4096 /* names; beyond, they are asked of DNS */
#define TYPE_IN 1
#define TYPE_SRV 33
#define TYPE_URI 256
#define TRY_MS 1500
#define TRIES 3

struct host_line { /* one name of the hosts file */
    char name[254];
    struct net_address address;
};

struct watch {
    struct watch *next;
    struct net_resolver *resolver;
    int fd;
    struct event io;
};

struct net_resolver {
    struct net_base *base;
    ares_channel channel;
    bool open;
    struct watch *watches;
    struct event timer;
    struct net_query *queries;
    size_t host_count;
    struct host_line *hosts;
};

struct net_query {
    struct net_query *next;
    struct net_resolver *resolver;
    net_found_done *done; /* NULL: cancelled */
    void *owner;
    bool asked; /* c-ares has it and will call */
    struct event told;
    struct net_found found;
};

/* ---- c-ares on this loop ---- */

static void set_timer(struct net_resolver *r)
{
    struct timeval tv, *at = ares_timeout(r->channel, NULL, &tv);

    if (at)
        (void)evtimer_add(&r->timer, at);
    else
        (void)evtimer_del(&r->timer);
}

static void on_socket(evutil_socket_t fd, short what, void *owner)
{
    struct net_resolver *r = ((struct watch *)owner)->resolver;

    ares_process_fd(r->channel, what & EV_READ ? fd : ARES_SOCKET_BAD,
                    what & EV_WRITE ? fd : ARES_SOCKET_BAD);
    set_timer(r);
}

static void on_timer(evutil_socket_t fd, short what, void *owner)
{
    struct net_resolver *r = owner;

    (void)fd;
    (void)what;
    ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    set_timer(r);
}

static void drop_watch(struct net_resolver *r, int fd)
{
    for (struct watch **at = &r->watches; *at; at = &(*at)->next) {
        struct watch *w = *at;

        if (w->fd != fd)
            continue;
        *at = w->next;
        (void)event_del(&w->io);
        free(w);
        return;
    }
}

static void watch_socket(void *owner, ares_socket_t fd, int readable, int writable)
{
    struct net_resolver *r = owner;
    short what = (short)((readable ? EV_READ : 0) | (writable ? EV_WRITE : 0));
    struct watch *w;

    drop_watch(r, fd);
    if (!what || (w = calloc(1, sizeof *w)) == NULL) /* no memory: the query's time runs out */
        return;
    w->resolver = r;
    w->fd = fd;
    w->next = r->watches;
    r->watches = w;
    event_assign(&w->io, net_base_events(r->base), fd, (short)(what | EV_PERSIST), on_socket, w);
    (void)event_add(&w->io, NULL);
}

/* ---- /etc/hosts, read once ---- */

static bool parse_ip(const char *text, struct net_address *out)
{
    struct sockaddr_in *four = (struct sockaddr_in *)&out->sa;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&out->sa;

    *out = (struct net_address){0};
    if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        out->n = sizeof *four;
        return true;
    }
    six->sin6_family = AF_INET6;
    out->n = sizeof *six;
    return inet_pton(AF_INET6, text, &six->sin6_addr) == 1;
}

static void take_hosts_line(struct net_resolver *r, char *line)
{
    char *rest = NULL, *word;
    struct net_address a;

    line[strcspn(line, "#\r\n")] = 0;
    word = strtok_r(line, " \t", &rest);
    if (!word || !parse_ip(word, &a))
        return;
    while ((word = strtok_r(NULL, " \t", &rest)) != NULL) {
        struct host_line *more;

        if (r->host_count == HOSTS_MAX || strlen(word) >= sizeof more->name)
            continue;
        more = realloc(r->hosts, (r->host_count + 1) * sizeof *more);
        if (!more)
            return;
        r->hosts = more;
        more += r->host_count++;
        snprintf(more->name, sizeof more->name, "%s", word);
        more->address = a;
    }
}

static void read_hosts(struct net_resolver *r)
{
    FILE *f = fopen(HOSTS_FILE, "re");
    char line[2048];

    if (!f)
        return;
    while (fgets(line, sizeof line, f))
        take_hosts_line(r, line);
    (void)fclose(f);
}

/* ---- queries ---- */

static void unlink_query(struct net_query *q)
{
    struct net_query **at = &q->resolver->queries;

    while (*at != q)
        at = &(*at)->next;
    *at = q->next;
}

static void free_query(struct net_query *q)
{
    (void)evtimer_del(&q->told);
    unlink_query(q);
    free(q);
}

static void on_told(evutil_socket_t fd, short what, void *owner)
{
    struct net_query *q = owner;

    (void)fd;
    (void)what;
    if (q->done)
        q->done(q->owner, &q->found);
    free_query(q);
}

static void tell_soon(struct net_query *q)
{
    struct timeval now = {0, 0};

    q->asked = false;
    (void)evtimer_add(&q->told, &now);
}

/* True: there is an answer to read. */
static bool take_status(struct net_query *q, int status)
{
    if (status == ARES_SUCCESS)
        return true;
    if (status != ARES_ENOTFOUND && status != ARES_ENODATA) {
        q->found.failed = true;
        q->found.text = ares_strerror(status);
    }
    return false;
}

static struct net_found_record *next_record(struct net_query *q)
{
    return q->found.count < NET_FOUND_MAX ? &q->found.record[q->found.count] : NULL;
}

static void add_address(struct net_query *q, const struct sockaddr *sa, socklen_t n)
{
    struct net_found_record *r = next_record(q);

    if (!r || n > sizeof r->address.sa)
        return;
    memcpy(&r->address.sa, sa, n);
    r->address.n = n;
    q->found.count++;
}

static void on_addresses(void *owner, int status, int timeouts, struct ares_addrinfo *found)
{
    struct net_query *q = owner;

    (void)timeouts;
    if (take_status(q, status))
        for (struct ares_addrinfo_node *n = found->nodes; n; n = n->ai_next)
            if (n->ai_family == AF_INET || n->ai_family == AF_INET6)
                add_address(q, n->ai_addr, n->ai_addrlen);
    if (found)
        ares_freeaddrinfo(found);
    tell_soon(q);
}

/* A name or a target that does not fit is none of ours. */
static void on_srv(void *owner, int status, int timeouts, unsigned char *bytes, int n)
{
    struct net_query *q = owner;
    struct ares_srv_reply *list = NULL;
    struct net_found_record *r;

    (void)timeouts;
    if (take_status(q, status) && take_status(q, ares_parse_srv_reply(bytes, n, &list)))
        for (struct ares_srv_reply *s = list; s && (r = next_record(q)) != NULL; s = s->next) {
            if (strlen(s->host) >= sizeof r->host)
                continue;
            snprintf(r->host, sizeof r->host, "%s", s->host);
            r->port = s->port;
            r->priority = s->priority;
            r->weight = s->weight;
            q->found.count++;
        }
    if (list)
        ares_free_data(list);
    tell_soon(q);
}

static void on_uri(void *owner, int status, int timeouts, unsigned char *bytes, int n)
{
    struct net_query *q = owner;
    struct ares_uri_reply *list = NULL;
    struct net_found_record *r;

    (void)timeouts;
    if (take_status(q, status) && take_status(q, ares_parse_uri_reply(bytes, n, &list)))
        for (struct ares_uri_reply *u = list; u && (r = next_record(q)) != NULL; u = u->next) {
            if (strlen(u->uri) >= sizeof r->target)
                continue;
            snprintf(r->target, sizeof r->target, "%s", u->uri);
            r->priority = u->priority;
            r->weight = u->weight;
            q->found.count++;
        }
    if (list)
        ares_free_data(list);
    tell_soon(q);
}

/* Addresses as text and names of the hosts file need no DNS. */
static bool find_here(struct net_query *q, const char *name)
{
    struct net_address a;

    if (parse_ip(name, &a))
        add_address(q, (const struct sockaddr *)&a.sa, a.n);
    for (size_t i = 0; i < q->resolver->host_count; i++)
        if (sp_same_nocase(sp_str(q->resolver->hosts[i].name), sp_str(name)))
            add_address(q, (const struct sockaddr *)&q->resolver->hosts[i].address.sa,
                        q->resolver->hosts[i].address.n);
    return q->found.count > 0;
}

static void ask(struct net_query *q, enum net_lookup what, const char *name)
{
    static const struct ares_addrinfo_hints hints = {.ai_flags = ARES_AI_NOSORT, .ai_family = AF_UNSPEC};
    ares_channel c = q->resolver->channel;

    q->asked = true;
    switch (what) {
    case NET_LOOKUP_ADDRESS:
        ares_getaddrinfo(c, name, NULL, &hints, on_addresses, q);
        break;
    case NET_LOOKUP_SRV:
        ares_query(c, name, TYPE_IN, TYPE_SRV, on_srv, q);
        break;
    case NET_LOOKUP_URI:
        ares_query(c, name, TYPE_IN, TYPE_URI, on_uri, q);
        break;
    }
    set_timer(q->resolver);
}

struct net_query *net_resolve(struct net_resolver *r, enum net_lookup what, const char *name,
                              net_found_done *done, void *owner)
{
    struct net_query *q = calloc(1, sizeof *q);

    if (!q)
        return NULL;
    q->resolver = r;
    q->done = done;
    q->owner = owner;
    q->found.text = "";
    q->next = r->queries;
    r->queries = q;
    evtimer_assign(&q->told, net_base_events(r->base), on_told, q);
    if (what == NET_LOOKUP_ADDRESS && find_here(q, name))
        tell_soon(q);
    else
        ask(q, what, name);
    return q;
}

/* c-ares cannot take back a question: then the answer finds nobody. */
void net_query_cancel(struct net_query *q)
{
    q->done = NULL;
    if (!q->asked)
        free_query(q);
}

/* ---- all of it ---- */

static bool open_channel(struct net_resolver *r, const char *servers, struct sp_err *e)
{
    static char dns_only[] = "b";
    struct ares_options o = {
        .flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
        .timeout = TRY_MS,
        .tries = TRIES,
        .lookups = dns_only,
        .sock_state_cb = watch_socket,
        .sock_state_cb_data = r,
    };
    int mask =
        ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB;
    int status = ares_library_init(ARES_LIB_INIT_ALL);

    if (status == ARES_SUCCESS)
        status = ares_init_options(&r->channel, &o, mask);
    r->open = status == ARES_SUCCESS;
    if (!r->open)
        return sp_fail(e, SP_EBACKEND, status, "c-ares could not begin: %s", ares_strerror(status));
    if (servers && (status = ares_set_servers_ports_csv(r->channel, servers)) != ARES_SUCCESS)
        return sp_fail(e, SP_EINPUT, status, "\"%.60s\" are no DNS servers: %s", servers,
                       ares_strerror(status));
    return true;
}

struct net_resolver *net_resolver_new(struct net_base *b, const char *servers, struct sp_err *e)
{
    struct net_resolver *r = calloc(1, sizeof *r);

    if (!r) {
        (void)sp_fail(e, SP_ENOMEM, 0, "no memory");
        return NULL;
    }
    r->base = b;
    evtimer_assign(&r->timer, net_base_events(b), on_timer, r);
    if (!open_channel(r, servers, e)) {
        net_resolver_free(r);
        return NULL;
    }
    read_hosts(r);
    return r;
}

void net_resolver_free(struct net_resolver *r)
{
    if (!r)
        return;
    if (r->open) {
        ares_destroy(r->channel); /* calls back with ARES_EDESTRUCTION */
        ares_library_cleanup();
    }
    while (r->queries) {
        struct net_query *q = r->queries;
        r->queries = q->next;
        (void)evtimer_del(&q->told);
        free(q);
    }
    while (r->watches)
        drop_watch(r, r->watches->fd);
    (void)evtimer_del(&r->timer);
    free(r->hosts);
    free(r);
}
