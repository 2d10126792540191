/* SPDX-License-Identifier: MIT */
/* Messages in a byte stream: four bytes of length, big-endian, then the message (RFC 4120 7.2.2). Pure logic:
 * no descriptor in here. Nothing is ever allocated because a peer claimed a length: what is kept is what
 * came. */
#ifndef SP_NET_FRAMING_H
#define SP_NET_FRAMING_H

#include "base/span.h"

enum net_frame_result {
    NET_FRAME_MORE,  /* no whole message yet */
    NET_FRAME_WHOLE, /* *message is one; *used bytes belong to it */
    NET_FRAME_WRONG, /* too long, too short, or the reserved high bit (RFC 4120 7.2.2: KRB_ERR_FIELD_TOOLONG,
                        then close) */
};

/* Looks at the first message in `in`. Shorter than min or longer than max bytes is WRONG as soon as its
 * length is there. */
struct net_frame_limits {
    uint32_t min, max;
};
enum net_frame_result net_get_frame(struct sp_span in, struct net_frame_limits limits,
                                    struct sp_span *message, size_t *used);
void net_put_frame_length(uint8_t out[4], size_t n);

/* Bytes that wait for the rest of their message. Grows as they come, doubling, and gives everything back when
 * emptied. */
struct net_stash {
    uint8_t *p;
    size_t n, max;
};
/* false: out of memory, nothing changed. */
bool net_stash_add(struct net_stash *s, struct sp_span bytes);
/* Forgets the first n bytes. */
void net_stash_drop(struct net_stash *s, size_t n);
/* Wiped: passwords travel through admin.sock. */
void net_stash_free(struct net_stash *s);

#endif
