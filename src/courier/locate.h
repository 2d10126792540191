/* SPDX-License-Identifier: MIT */
/* The file run/sallyport/locate (decision 32): which realms the courier carries, where on this host's
 * loopback it takes their requests, and which realms have no way just now. The daemon writes it whole and
 * puts it in its place by rename; sallyport_locate.so reads it in other people's programs. Pure codec.
 *
 *     "SPLOCATE" | version u16 = 1 | count u16 | size u32, of the whole file | generation u64 | written u64
 *     count times: size u16, of the rest of the entry | aliases u8 | doors u8 | no way until u64
 *                  name, aliases: length u8, bytes
 *                  doors: service u8 | transport u8 | address length u8, address | port u16
 *
 * Big-endian. Times are microseconds of CLOCK_BOOTTIME: what was true before a suspended night is not fresh
 * after it. */
#ifndef SP_COURIER_LOCATE_H
#define SP_COURIER_LOCATE_H

#include "base/err.h"
#include "base/span.h"

#define LOCATE_FILE_NAME "locate" /* in run/sallyport */
#define LOCATE_FILE_MAX (256u * 1024)
#define LOCATE_REALMS_MAX 512u
#define LOCATE_ALIASES_MAX 32u
#define LOCATE_DOORS_MAX 16u
#define LOCATE_NAME_MAX 255u
/* "No way" counts so long at most behind the time of the file. */
#define LOCATE_NO_WAY_MAX_US INT64_C(60000000)

enum locate_service { LOCATE_KDC = 1, LOCATE_KPASSWD = 2 };
enum locate_transport { LOCATE_UDP = 1, LOCATE_TCP = 2 };

struct locate_door {
    enum locate_service service;
    enum locate_transport transport;
    uint8_t n; /* 4 or 16 */
    uint8_t ip[16];
    uint16_t port;
};

struct locate_realm {
    struct sp_span name;
    struct sp_span alias[LOCATE_ALIASES_MAX];
    uint32_t alias_count;
    struct locate_door door[LOCATE_DOORS_MAX];
    uint32_t door_count;
    int64_t no_way_until_us; /* 0: there is a way, or nothing is known */
};

struct locate_head {
    uint64_t generation; /* grows with every file */
    int64_t written_us;
    uint32_t realm_count;
};

/* The bytes of a file, at the end of buf. SP_EINPUT: a realm without a name, a door that is not on loopback,
 * more than the limits above, a "no way" that lasts too long; SP_EFULL: buf is too small. */
SP_MUST bool locate_make(const struct locate_head *head, const struct locate_realm *realms, uint8_t *buf,
                         size_t max, struct sp_span *out, struct sp_err *e);

/* Reads all of the file and refuses it whole (SP_EINPUT); then *out is the realm that is meant: by name, else
 * by alias or by either without regard to case. SP_ENOTFOUND: none. Spans lie in the file. */
SP_MUST bool locate_find(struct sp_span file, struct sp_span realm, struct locate_head *head,
                         struct locate_realm *out, struct sp_err *e);

/* Whether the writer's knowledge that there is no way is still fresh. */
bool locate_is_no_way(const struct locate_head *head, const struct locate_realm *r, int64_t boot_us);

#endif
