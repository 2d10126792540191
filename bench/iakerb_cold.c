/* SPDX-License-Identifier: MIT */
/* bench-iakerb-cold: a login with a password through libgssapi's IAKERB, its own or with GSS_MECH_CONFIG
 * ours.
 *
 *   bench-iakerb-cold pair USER PASSWORD SERVICE@HOST COUNT          both sides in this process; medians
 *   bench-iakerb-cold connect USER PASSWORD SERVICE@HOST ADDRESS     one, to 'sallyport gss serve'
 *
 * The keytab is KRB5_KTNAME's; how a KDC is reached is the acceptor's matter. As a JSON object. */
#include "arguments.h"
#include "setup.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gss_side.h" /* behind our enums, whose names libgssapi has as macros */

enum { COUNT_MAX = 10000, FRAME_MAX = 65536 };

static struct bench_how how = {.mech = &bench_iakerb};

static gss_cred_id_t take_password(const char *user, const char *password)
{
    gss_buffer_desc secret = {strlen(password), (void *)(uintptr_t)password};
    gss_OID_set_desc only = {1, how.mech};
    gss_name_t name = bench_gss_name(&how, user, GSS_C_NT_USER_NAME);
    OM_uint32 minor, major;
    gss_cred_id_t c;

    major = gss_acquire_cred_with_password(&minor, name, &secret, 0, &only, GSS_C_INITIATE, &c, NULL, NULL);
    bench_gss_must(&how, major, minor, "gss_acquire_cred_with_password");
    (void)gss_release_name(&minor, &name);
    return c;
}

/* ---- both sides here ---- */

static void run_pairs(char **word, uint32_t count)
{
    static double initiator[COUNT_MAX], acceptor[COUNT_MAX], wall[COUNT_MAX];
    uint32_t round_trips = 0;

    how.acceptor = bench_gss_acquire(&how, GSS_C_ACCEPT);
    for (uint32_t n = 0; n < count; n++) {
        struct bench_side i, a;
        OM_uint32 minor;
        uint64_t began = bench_mono_ns();

        how.initiator = take_password(word[0], word[1]); /* MIT keeps what it fetched in the credential */
        round_trips = bench_gss_shake_hands(&how, &i, &a);
        wall[n] = (double)(bench_mono_ns() - began) / 1e3;
        bench_gss_close(&i);
        bench_gss_close(&a);
        (void)gss_release_cred(&minor, &how.initiator);
        initiator[n] = (double)i.ns / 1e3;
        acceptor[n] = (double)a.ns / 1e3;
    }
    printf("{\"round_trips\":%u,\"initiator_us\":%.2f,\"acceptor_us\":%.2f,\"wall_us\":%.2f}\n", round_trips,
           bench_median(initiator, count), bench_median(acceptor, count), bench_median(wall, count));
}

/* ---- the other side elsewhere ---- */

static int dial(const char *address)
{
    struct sockaddr_in to;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    if (!bench_read_address(address, &to) || fd < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        bench_die("connecting", NULL);
    return fd;
}

static void put_frame(int fd, const gss_buffer_desc *b)
{
    static uint8_t frame[4 + FRAME_MAX];
    uint32_t n = htonl((uint32_t)b->length);

    if (b->length > FRAME_MAX)
        bench_die("a long token", NULL);
    memcpy(frame, &n, 4);
    memcpy(frame + 4, b->value, b->length);
    if (send(fd, frame, 4 + b->length, MSG_NOSIGNAL) != (ssize_t)(4 + b->length))
        bench_die("sending", NULL);
}

static gss_buffer_desc get_frame(int fd)
{
    static uint8_t room[FRAME_MAX];
    uint32_t n;

    if (recv(fd, &n, 4, MSG_WAITALL) != 4 || ntohl(n) > sizeof room ||
        recv(fd, room, ntohl(n), MSG_WAITALL) != (ssize_t)ntohl(n))
        bench_die("receiving", NULL);
    return (gss_buffer_desc){ntohl(n), room};
}

static void echo(int fd, gss_ctx_id_t ctx)
{
    gss_buffer_desc plain = {5, (void *)(uintptr_t) "hello"}, token, back;
    OM_uint32 minor, major = gss_wrap(&minor, ctx, 1, GSS_C_QOP_DEFAULT, &plain, NULL, &token);

    bench_gss_must(&how, major, minor, "gss_wrap");
    put_frame(fd, &token);
    (void)gss_release_buffer(&minor, &token);
    token = get_frame(fd);
    major = gss_unwrap(&minor, ctx, &token, &back, NULL, NULL);
    bench_gss_must(&how, major, minor, "gss_unwrap");
    if (back.length != plain.length || memcmp(back.value, plain.value, plain.length) != 0)
        bench_die("the echo differs", NULL);
    (void)gss_release_buffer(&minor, &back);
}

static void run_login(char **word)
{
    struct bench_side i = {0};
    gss_buffer_desc in = GSS_C_EMPTY_BUFFER;
    OM_uint32 minor;
    int fd, tokens = 0;

    how.initiator = take_password(word[0], word[1]);
    fd = dial(word[3]);
    do {
        bench_gss_initiate(&how, &i, tokens ? &in : GSS_C_NO_BUFFER);
        if (i.out.length > 0) {
            put_frame(fd, &i.out);
            (void)gss_release_buffer(&minor, &i.out);
            in = get_frame(fd);
            tokens++;
        }
    } while (i.major != GSS_S_COMPLETE);
    echo(fd, i.ctx);
    bench_gss_close(&i);
    (void)close(fd);
    printf("{\"tokens\":%d,\"echo\":\"hello\"}\n", tokens);
}

int main(int argc, char **argv)
{
    uint32_t count;

    if (argc != 6)
        goto usage;
    how.target = bench_gss_name(&how, argv[4], GSS_C_NT_HOSTBASED_SERVICE);
    if (strcmp(argv[1], "pair") == 0 && bench_read_number(argv[5], COUNT_MAX, &count))
        run_pairs(argv + 2, count);
    else if (strcmp(argv[1], "connect") == 0)
        run_login(argv + 2);
    else
        goto usage;
    return 0;
usage:
    fputs("usage: bench-iakerb-cold pair USER PASSWORD SERVICE@HOST COUNT\n"
          "       bench-iakerb-cold connect USER PASSWORD SERVICE@HOST ADDRESS\n",
          stderr);
    return 2;
}
