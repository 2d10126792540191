/* SPDX-License-Identifier: MIT */
/* A byte stream (RFC 4120 7.2.2) cut at places that the first byte chooses: the same messages come out
 * however it arrives, and what is kept is never more than what came. */
#include "world.h"

#include "net/framing.h"

#include <stdlib.h>

struct seen {
    uint32_t count, sum;
    bool wrong;
};

static const struct net_frame_limits limits = {1, 4096};

static void drain(struct net_stash *stash, struct seen *s)
{
    struct sp_span message;
    size_t used = 0;

    for (;;) {
        enum net_frame_result r = net_get_frame(sp_span(stash->p, stash->n), limits, &message, &used);

        if (r == NET_FRAME_WRONG)
            s->wrong = true;
        if (r != NET_FRAME_WHOLE)
            return;
        fuzz_must(message.n >= limits.min && message.n <= limits.max && used == message.n + 4 &&
                      used <= stash->n,
                  "a message lies inside what came");
        s->count++;
        s->sum = s->sum * 31 + (message.n ? message.p[message.n - 1] : 0) + (uint32_t)message.n;
        net_stash_drop(stash, used);
    }
}

static struct seen feed(struct sp_span in, size_t piece)
{
    struct net_stash stash = {0};
    struct seen s = {0};

    for (size_t at = 0; at < in.n && !s.wrong; at += piece) {
        size_t n = in.n - at < piece ? in.n - at : piece;

        fuzz_must(net_stash_add(&stash, sp_span(in.p + at, n)), "there is memory");
        drain(&stash, &s);
        fuzz_must(s.wrong || stash.n <= in.n, "no more is kept than came");
    }
    net_stash_free(&stash);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct seen whole, pieces;

    if (n < 2)
        return 0;
    whole = feed(sp_span(data + 1, n - 1), n - 1);
    pieces = feed(sp_span(data + 1, n - 1), 1 + data[0] % 16);
    fuzz_must(whole.count == pieces.count && whole.sum == pieces.sum && whole.wrong == pieces.wrong,
              "cutting changes nothing");
    return 0;
}
