/* SPDX-License-Identifier: MIT */
/* cc embed.c $(pkg-config --cflags --libs sallyport): a password, a keytab and a KDC in one process. */
#include <sallyport/sallyport.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

static bool fill(void *user, void *p, size_t n)
{
    return !user && getentropy(p, n) == 0; /* for keys and nonces, shorter than its 256 bytes */
}

static int64_t now_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int main(void)
{
    char keys[4096];
    struct sallyport_options o = {.size = sizeof o, .random = fill};
    struct sallyport *lib = sallyport_new(&o, NULL);
    struct sallyport_kdc_options ko = {.size = sizeof ko, .realm = "NAS1"};
    struct sallyport_kdc *kdc = lib ? sallyport_kdc_new(lib, &ko, NULL) : NULL;
    struct sallyport_account alice = {
        .size = sizeof alice, .name = "alice", .password = {"secret", 6}
    };
    struct sallyport_account host = {.size = sizeof host, .name = "host/nas1"};
    struct sallyport_keytab_options kt = {
        .size = sizeof kt, .keytab = {keys, sizeof keys}
    };
    if (!kdc || !sallyport_kdc_add(kdc, &alice, NULL) || !sallyport_kdc_add(kdc, &host, NULL) ||
        !sallyport_kdc_keytab(kdc, host.name, keys, &kt.keytab.n, NULL))
        return 1;
    struct sallyport_initiator io = {.size = sizeof io, .client = "alice@NAS1", .target = "host/nas1"};
    io.password = alice.password, io.flags = SALLYPORT_MUTUAL | SALLYPORT_CONF;
    struct sallyport_acceptor ao = {.size = sizeof ao, .realm = "NAS1"};
    struct sallyport_context *side[2] = {sallyport_initiator_new(lib, &io, NULL), NULL};
    ao.keytab = sallyport_keytab_new(lib, &kt, NULL);
    side[1] = sallyport_acceptor_new(lib, &ao, NULL);
    struct sallyport_event ev = {.size = sizeof ev, .kind = SALLYPORT_START};
    struct sallyport_action act = {.size = sizeof act};
    struct sallyport_request q = {
        .size = sizeof q, .source = {"alice", 5}
    };
    struct sallyport_answer a = {.size = sizeof a};
    for (int turn = 0, done = 0; side[0] && side[1] && done < 2;) {
        q.wall_us = ev.wall_us = now_us(CLOCK_REALTIME), q.mono_us = ev.mono_us = now_us(CLOCK_MONOTONIC);
        enum sallyport_do what = sallyport_step(side[turn], &ev, &act);
        if (what == SALLYPORT_STOP)
            return fprintf(stderr, "refused: %s\n", act.why->text), 1;
        if (what == SALLYPORT_CARRY) { /* a service would send these bytes to a KDC of act.realm */
            q.bytes = act.message, ev.kind = SALLYPORT_CARRIED;
            ev.bytes = sallyport_kdc_step(kdc, &q, &a, NULL) ? a.reply : (struct sallyport_bytes){NULL, 0};
            continue;
        }
        done += what == SALLYPORT_DONE;
        printf("%d sends %zu bytes; its peer: %s\n", turn, act.token.n, act.peer ? act.peer : "unknown");
        ev.kind = SALLYPORT_TOKEN, ev.bytes = act.token, turn = !turn;
    }
    sallyport_context_free(side[0]), sallyport_context_free(side[1]);
    sallyport_keytab_free(ao.keytab), sallyport_kdc_free(kdc), sallyport_free(lib);
}
