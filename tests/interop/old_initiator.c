/* SPDX-License-Identifier: MIT */
/* An initiator over TCP with the IAKERB that is built into libgssapi: old_initiator PORT SERVICE@HOST USER
 * PASSWORD. In C, because MIT 1.20 takes the empty buffer that python3-gssapi passes in the first call for a
 * token. */
#include <arpa/inet.h>
#include <gssapi/gssapi.h>
#include <gssapi/gssapi_ext.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static gss_OID_desc iakerb = {6, (void *)"\x2b\x06\x01\x05\x02\x05"};

static void must(OM_uint32 major, OM_uint32 minor, const char *what)
{
    OM_uint32 ignored, more = 0;
    gss_buffer_desc text;

    if (!GSS_ERROR(major))
        return;
    (void)gss_display_status(&ignored, minor, GSS_C_MECH_CODE, &iakerb, &more, &text);
    printf("%s: %.*s\n", what, (int)text.length, (char *)text.value);
    exit(1);
}

static void put(int fd, const gss_buffer_desc *b)
{
    uint32_t n = htonl((uint32_t)b->length);

    if (write(fd, &n, 4) != 4 || write(fd, b->value, b->length) != (ssize_t)b->length)
        exit(2);
}

static void get(int fd, gss_buffer_desc *b)
{
    static char room[65536];
    uint32_t n;

    if (recv(fd, &n, 4, MSG_WAITALL) != 4 || ntohl(n) > sizeof room ||
        recv(fd, room, ntohl(n), MSG_WAITALL) != (ssize_t)ntohl(n)) {
        printf("the peer is gone\n");
        exit(2);
    }
    *b = (gss_buffer_desc){ntohl(n), room};
}

static gss_name_t name_of(const char *text, gss_OID type)
{
    gss_buffer_desc b = {strlen(text), (void *)(uintptr_t)text};
    gss_name_t name;
    OM_uint32 minor, major = gss_import_name(&minor, &b, type, &name);

    must(major, minor, "name");
    return name;
}

static void echo(int fd, gss_ctx_id_t ctx)
{
    gss_buffer_desc plain = {8, "good day"}, token, back;
    OM_uint32 minor, major = gss_wrap(&minor, ctx, 1, GSS_C_QOP_DEFAULT, &plain, NULL, &token);

    must(major, minor, "wrap");
    put(fd, &token);
    get(fd, &token);
    major = gss_unwrap(&minor, ctx, &token, &back, NULL, NULL);
    must(major, minor, "unwrap");
    printf("echo=%.*s\n", (int)back.length, (char *)back.value);
}

int main(int argc, char **argv)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    gss_OID_set_desc mechs = {1, &iakerb};
    gss_buffer_desc password, in, out;
    gss_ctx_id_t ctx = GSS_C_NO_CONTEXT;
    gss_cred_id_t cred;
    OM_uint32 minor, major;
    int tokens = 0;

    if (argc != 5)
        return 2;
    to.sin_port = htons((uint16_t)atoi(argv[1]));
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        return 2;
    password = (gss_buffer_desc){strlen(argv[4]), argv[4]};
    major = gss_acquire_cred_with_password(&minor, name_of(argv[3], GSS_C_NT_USER_NAME), &password, 0, &mechs,
                                           GSS_C_INITIATE, &cred, NULL, NULL);
    must(major, minor, "credential");
    for (gss_buffer_t token = GSS_C_NO_BUFFER;; token = &in) {
        major = gss_init_sec_context(&minor, cred, &ctx, name_of(argv[2], GSS_C_NT_HOSTBASED_SERVICE),
                                     &iakerb, GSS_C_MUTUAL_FLAG | GSS_C_CONF_FLAG | GSS_C_INTEG_FLAG, 0, NULL,
                                     token, NULL, &out, NULL, NULL);
        if (out.length > 0) {
            put(fd, &out);
            tokens++;
        }
        must(major, minor, "init_sec_context");
        if (major == GSS_S_COMPLETE)
            break;
        get(fd, &in);
    }
    printf("tokens=%d\n", tokens);
    echo(fd, ctx);
    return 0;
}
