/* SPDX-License-Identifier: MIT */
/* sallyport_locate.so, which libkrb5 loads into every program that has a context: where the KDC of a realm
 * is, out of the courier's file. No state, no threads, no environment, nothing but libc. Where no daemon
 * stands behind the file it says nothing, and libkrb5 goes its usual way. */
#include <errno.h>
#include <netinet/in.h> /* before the next: it names struct sockaddr and does not include it */
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include <krb5/locate_plugin.h>

#include "courier/locate.h"
#include "plugin/locate/view.h"

/* Only there where libkrb5 is in the program's own scope; without it the message is the stock one. */
#pragma weak krb5_set_error_message

struct locator {
    krb5_context context;
    struct locate_view *view; /* NULL: no daemon */
};

struct offer { /* what libkrb5 asked for, and where it wants it told */
    enum locate_service service;
    int socktype, family;
    int (*tell)(void *, int, struct sockaddr *);
    void *data;
};

/* libkrb5 1.20 does this for every look-up, UDP and TCP together. */
static krb5_error_code begin(krb5_context context, void **out)
{
    struct locator *l = calloc(1, sizeof *l);

    if (!l)
        return ENOMEM;
    *l = (struct locator){context, locate_view_read(LOCATE_DIRECTORY)};
    *out = l;
    return 0;
}

static void end(void *state)
{
    struct locator *l = state;

    if (l)
        free(l->view);
    free(l);
}

static int64_t boot_us(void)
{
    struct timespec t;

    return clock_gettime(CLOCK_BOOTTIME, &t) == 0 ? (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000 : 0;
}

static bool tell_v4(const struct locate_door *d, const struct offer *o)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(d->port)};

    memcpy(&sa.sin_addr, d->ip, sizeof sa.sin_addr);
    return o->tell(o->data, o->socktype, (struct sockaddr *)&sa) == 0;
}

static bool tell_v6(const struct locate_door *d, const struct offer *o)
{
    struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_port = htons(d->port)};

    memcpy(&sa.sin6_addr, d->ip, sizeof sa.sin6_addr);
    return o->tell(o->data, o->socktype, (struct sockaddr *)&sa) == 0;
}

/* Whether libkrb5 wants to hear more. */
static bool tell_door(const struct locate_door *d, const struct offer *o)
{
    int socktype = d->transport == LOCATE_TCP ? SOCK_STREAM : SOCK_DGRAM;
    int family = d->n == 4 ? AF_INET : AF_INET6;

    if (d->service != o->service || (o->socktype != 0 && o->socktype != socktype) ||
        (o->family != AF_UNSPEC && o->family != family))
        return true;
    struct offer exact = *o;
    exact.socktype = socktype;
    return d->n == 4 ? tell_v4(d, &exact) : tell_v6(d, &exact);
}

static bool has_door(const struct locate_realm *r, enum locate_service service)
{
    for (uint32_t i = 0; i < r->door_count; i++)
        if (r->door[i].service == service)
            return true;
    return false;
}

/* A door of the other transport alone is an answer too: none here, and none to be sought elsewhere. */
static krb5_error_code tell_doors(const struct locate_realm *r, const struct offer *o)
{
    if (!has_door(r, o->service))
        return KRB5_PLUGIN_NO_HANDLE;
    for (uint32_t i = 0; i < r->door_count && tell_door(&r->door[i], o); i++)
        ;
    return 0;
}

/* Any other error than NO_HANDLE ends the look-up: no krb5.conf, no DNS, no 18 s for a silent port. */
static krb5_error_code fail_at_once(const struct locator *l, const char *realm)
{
    if (krb5_set_error_message)
        krb5_set_error_message(
            l->context, KRB5_KDC_UNREACH,
            "No way to a KDC of realm '%s' is open just now; \"sallyport status\" says why", realm);
    return KRB5_KDC_UNREACH;
}

static krb5_error_code answer(const struct locate_realm *r, enum locate_service_type svc, struct offer *o)
{
    switch (svc) {
    case locate_service_kdc:
        o->service = LOCATE_KDC;
        return tell_doors(r, o);
    case locate_service_kpasswd:
        o->service = LOCATE_KPASSWD;
        return tell_doors(r, o);
    case locate_service_primary_kdc: /* known to be none: libkrb5 would look in the DNS, and there repeat a
                                        failed login (decision 58) */
        return has_door(r, LOCATE_KDC) ? 0 : KRB5_PLUGIN_NO_HANDLE;
    case locate_service_kadmin:
    case locate_service_krb524:
        break;
    }
    return KRB5_PLUGIN_NO_HANDLE;
}

static krb5_error_code look_up(void *state, enum locate_service_type svc, const char *realm, int socktype,
                               int family, int (*tell)(void *, int, struct sockaddr *), void *data)
{
    const struct locator *l = state;
    struct offer o = {.socktype = socktype, .family = family, .tell = tell, .data = data};
    struct locate_realm r;
    struct locate_head head;
    struct sp_err e = {0};

    if (!l || !l->view || !realm ||
        !locate_find(sp_span(l->view->bytes, l->view->n), sp_str(realm), &head, &r, &e))
        return KRB5_PLUGIN_NO_HANDLE;
    if (locate_is_no_way(&head, &r, boot_us()))
        return fail_at_once(l, realm);
    return answer(&r, svc, &o);
}

__attribute__((visibility("default"))) extern krb5plugin_service_locate_ftable service_locator;
krb5plugin_service_locate_ftable service_locator = {
    .minor_version = 0, .init = begin, .fini = end, .lookup = look_up};
