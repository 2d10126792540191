/* SPDX-License-Identifier: MIT */
/* The courier's engine: operations of a few bytes each choose who asks for what, what becomes of tries and
 * look-ups, how time goes by, what is configured. Whatever they choose, every request ends once and in time,
 * no packet goes where none may, and in the end everything was given back. */
#include "world.h"

#include "../tests/ladder_messages.h"
#include "courier/engine.h"

enum { REALMS = 3, TAGS = 64, OPEN = 256, ROOM = 1 << 20, CANARY = 32, KINDS = 12, BLOCK = 2 << 20 };
#define MS INT64_C(1000)

static struct state {
    const uint8_t *p, *end;
    struct ladder *l;
    uint8_t *block;
    size_t bytes;
    struct sp_rng_fixed rng;
    int64_t now_us;
    struct {
        bool waits;
        int64_t since_us;
    } tag[TAGS];
    uint32_t try_id[OPEN], tries, lookup_id[OPEN], lookups;
    struct ladder_target target[REALMS][LADDER_TARGETS_MAX];
    struct ladder_realm realm[REALMS];
} f;

static uint8_t message_room[ROOM];
static _Alignas(16) uint8_t block[BLOCK];
static struct sp_span message[KINDS];
static const char *const names[REALMS] = {"NAS1", "CORP.EXAMPLE", "x"};
static const char *const hosts[] = {"192.0.2.1", "kdc.example", "127.0.0.1", "::1",
                                    "a",         "2001:db8::1", "b.example", "169.254.1.1"};

static void make_messages(void)
{
    static const int32_t stamped[] = {PA_ENC_TIMESTAMP, 0},
                         armoured[] = {PA_FX_FAST, PA_ENCRYPTED_CHALLENGE, 0};
    struct sp_arena mem;
    struct sp_span realm = sp_str(names[0]);

    sp_arena_init(&mem, message_room, sizeof message_room);
    message[0] = message_request(KRB_AS_REQ, realm, NULL, 0, &mem);
    message[1] = message_request(KRB_TGS_REQ, realm, NULL, 0, &mem);
    message[2] = message_request(KRB_AS_REQ, realm, stamped, 1500, &mem);
    message[3] = message_request(KRB_AS_REQ, sp_str(names[1]), armoured, 9, &mem);
    message[4] = message_kpasswd(realm, "changepw", &mem);
    message[5] = message_request(KRB_TGS_REQ, sp_str(names[1]), NULL, 0, &mem);
    message[6] = message_reply(KRB_AS_REP, realm, 20, &mem);
    message[7] = message_reply(KRB_TGS_REP, realm, 20, &mem);
    message[8] = message_kpasswd_reply(&mem);
    message[9] = message_error(realm, KRB_ERR_RESPONSE_TOO_BIG, &mem);
    message[10] = message_error(realm, KDC_ERR_SVC_UNAVAILABLE, &mem);
    message[11] = message_error(realm, 25, &mem);
}

static uint8_t byte(void)
{
    return f.p < f.end ? *f.p++ : 0;
}

static struct sp_env env(void)
{
    return (struct sp_env){1900000000000000 + f.now_us, f.now_us, &f.rng.rng};
}

/* A message that was made, or what follows, whatever that is. */
static struct sp_span some_bytes(uint8_t which)
{
    size_t n = byte();

    if (which % 16 < KINDS)
        return message[which % 16];
    if (n > (size_t)(f.end - f.p))
        n = (size_t)(f.end - f.p);
    f.p += n;
    return sp_span(f.p - n, n);
}

/* ---- what comes out ---- */

static bool is_listed(const struct ladder_target *t)
{
    return t->listed_ip;
}

static void check_try(const struct ladder_action *a)
{
    fuzz_must(a->until_us > f.now_us && a->bytes.n > 0, "a try has time and bytes");
    fuzz_must(!a->target == (a->carry == LADDER_BY_WORKER),
              "and a target, but for the engine of this machine");
    if (a->target)
        fuzz_must((names_may_send(f.l, &a->address) || is_listed(a->target)) && a->port != 0,
                  "that may be sent to");
    fuzz_must(a->carry != LADDER_BY_NEGOTIATE || a->target->timestamp_allowed ||
                  !sp_same(a->bytes, message[2]),
              "and no timestamp goes to a host that nobody vouches for");
    if (f.tries < OPEN)
        f.try_id[f.tries++] = a->id;
}

static void end_tag(uint64_t tag)
{
    fuzz_must(tag < TAGS && f.tag[tag].waits, "a request ends once");
    fuzz_must(f.now_us - f.tag[tag].since_us <= f.l->limit.all_ms * MS, "and in time");
    f.tag[tag].waits = false;
}

static void drain(void)
{
    struct ladder_action a;

    while (ladder_next(f.l, env(), &a)) {
        fuzz_must(a.what == LADDER_CANCEL || a.realm.n > 0, "an action has a realm");
        if (a.what == LADDER_TRY)
            check_try(&a);
        else if (a.what == LADDER_LOOK_UP && f.lookups < OPEN)
            f.lookup_id[f.lookups++] = a.id;
        else if (a.what == LADDER_ANSWER || a.what == LADDER_REFUSE)
            end_tag(a.tag);
        fuzz_must(a.what != LADDER_ANSWER || a.bytes.n > 0, "an answer has bytes");
        fuzz_must(a.what != LADDER_REFUSE || a.code != 0, "a refusal has a code");
    }
}

/* ---- what goes in ---- */

static void configure_realm(uint32_t i)
{
    struct ladder_realm *r = &f.realm[i];
    uint8_t shape = byte(), more = byte();

    *r = (struct ladder_realm){.name = sp_str(names[i]), .targets = f.target[i]};
    for (uint32_t k = 0; k < LADDER_RUNGS; k++)
        if (shape & 1u << k)
            r->ladder[r->rung_count++] = (enum ladder_rung)((k + (shape >> 4)) % LADDER_RUNGS);
    r->discover = (enum ladder_discover)(more % 4);
    r->kpasswd = more & 4;
    r->per_second_max = more & 8 ? 2 : 0;
    r->in_flight_max = more & 16 ? 2 : 0;
    r->target_count = (more >> 5) * 2;
    for (uint32_t k = 0; k < r->target_count; k++) {
        uint8_t how = byte();
        f.target[i][k] = (struct ladder_target){.rung = (enum ladder_rung)(1 + how % 3),
                                                .host = sp_str(hosts[how >> 5]),
                                                .port = (uint16_t)(88 + k % 2),
                                                .listed_ip = how & 4,
                                                .tcp_only = how & 8,
                                                .primary = how & 16,
                                                .timestamp_allowed = how & 8};
    }
}

static void configure(void)
{
    struct sp_err e = {0};
    uint32_t count = byte() % (REALMS + 1);

    for (uint32_t i = 0; i < count; i++)
        configure_realm(i);
    if (!ladder_configure(f.l, env(), f.realm, count, &e))
        fuzz_must(e.kind == SP_EINPUT || e.kind == SP_EFULL, "a configuration is refused with a reason");
}

static void ask(void)
{
    uint8_t which = byte(), how = byte(), tag = byte() % TAGS;
    struct ladder_request q = {.tag = tag,
                               .door = (enum ladder_door)(how % 4),
                               .prefer_primary = how & 4,
                               .armoured_only = how & 8,
                               .source = {how >> 6}};
    struct sp_err e = {0};

    if (f.tag[tag].waits)
        return;
    q.realm = how & 16 ? sp_str(names[how >> 6 & 1]) : (struct sp_span){0};
    q.message = some_bytes(which);
    f.tag[tag].waits = true;
    f.tag[tag].since_us = f.now_us;
    if (ladder_ask(f.l, env(), &q, &e))
        return;
    fuzz_must(e.proto != 0, "a refusal has a code");
    f.tag[tag].waits = false;
}

static void tell(void)
{
    uint8_t which = byte(), how = byte();
    struct ladder_outcome o = {.end = (enum ladder_end)(how % 4), .text = SP_LIT("so it was")};
    uint32_t i = f.tries ? which % f.tries : 0;

    o.try_id = f.tries ? f.try_id[i] : which;
    o.bytes = some_bytes(how >> 2);
    if (f.tries)
        f.try_id[i] = f.try_id[--f.tries];
    ladder_tell(f.l, env(), &o);
}

static void tell_found(void)
{
    uint8_t which = byte(), how = byte();
    struct ladder_found v = {.failed = how & 1, .count = how >> 1 & 3};
    uint32_t i = f.lookups ? which % f.lookups : 0;

    v.lookup_id = f.lookups ? f.lookup_id[i] : which;
    if (f.lookups)
        f.lookup_id[i] = f.lookup_id[--f.lookups];
    for (uint32_t k = 0; k < v.count; k++) {
        uint8_t r = byte();
        v.record[k] = (struct ladder_record){
            .host = sp_str(hosts[r % 8]),
            .port = r & 8    ? 88
                    : r & 16 ? 464
                             : 0,
            .priority = r >> 6,
            .kkdcp = r & 32,
            .address = {r & 8 ? 4 : 16, {r, byte(), 0, 1}}
        };
    }
    ladder_tell_found(f.l, env(), &v);
}

static void pass(int64_t us)
{
    int64_t to = f.now_us + us, due;

    while ((due = ladder_due_us(f.l)) >= 0 && due <= to) {
        f.now_us = due > f.now_us ? due : f.now_us;
        ladder_tick(f.l, env());
        fuzz_must(ladder_due_us(f.l) < 0 || ladder_due_us(f.l) > f.now_us, "time goes on");
        drain();
    }
    f.now_us = to;
}

static void forget(void)
{
    uint8_t tag = byte() % TAGS;

    ladder_forget(f.l, env(), tag);
    f.tag[tag].waits = false;
}

static void operate(void)
{
    switch (byte() % 8) {
    case 0:
    case 1:
        ask();
        break;
    case 2:
        tell();
        break;
    case 3:
        tell_found();
        break;
    case 4:
        pass(byte() * byte() * MS);
        break;
    case 5:
        forget();
        break;
    case 6:
        ladder_network_changed(f.l, env());
        break;
    default:
        configure();
        break;
    }
    drain();
    fuzz_must(f.l->hold.used <= f.l->limit.bytes && f.l->in_flight <= f.l->limit.requests, "limits hold");
}

static void check_end(void)
{
    pass(60000 * MS);
    ladder_tick(f.l, env());
    for (uint32_t i = 0; i < TAGS; i++)
        fuzz_must(!f.tag[i].waits, "every request ends");
    fuzz_must(f.l->in_flight == 0 && f.l->hold.used == 0 && f.l->probes == 0 && f.l->sick == 0 &&
                  ladder_due_us(f.l) < 0,
              "everything is given back");
    for (size_t i = 0; i < CANARY; i++)
        fuzz_must(f.block[f.bytes + i] == 0xa5, "nothing is written behind the block");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct ladder_limits limits = {
        .requests = 8, .per_source = 6, .sources = 4, .realms = REALMS, .bytes = 1 << 17};

    if (!message[0].n)
        make_messages();
    f = (struct state){.p = data, .end = data + n, .now_us = 1000000 * MS};
    limits.requests += byte() % 32;
    f.bytes = ladder_bytes(&limits);
    f.block = block;
    fuzz_must(f.bytes + CANARY <= sizeof block, "there is memory");
    memset(f.block + f.bytes, 0xa5, CANARY);
    sp_rng_fixed_init(&f.rng, n);
    f.l = ladder_init(f.block, &limits, &f.rng.rng);
    configure();
    while (f.p < f.end)
        operate();
    check_end();
    return 0;
}
