/* SPDX-License-Identifier: MIT */
#include "arguments.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <string.h>

int bench_read_options(int argc, char **argv, const struct option *names, bench_option_fn *set, void *into)
{
    int letter;

    while ((letter = getopt_long(argc, argv, "+", names, NULL)) != -1)
        if (letter == '?' || !set(into, letter, optarg))
            return -1;
    return optind;
}

bool bench_read_number(const char *text, uint32_t max, uint32_t *out)
{
    uint64_t n;

    if (!sp_decimal(sp_str(text), max, &n) || n == 0)
        return false;
    *out = (uint32_t)n;
    return true;
}

bool bench_read_address(const char *text, struct sockaddr_in *out)
{
    char host[INET_ADDRSTRLEN] = "";
    const char *colon = strrchr(text, ':');
    uint32_t port;

    if (!colon || (size_t)(colon - text) >= sizeof host || !bench_read_number(colon + 1, 65535, &port))
        return false;
    memcpy(host, text, (size_t)(colon - text));
    *out = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return inet_pton(AF_INET, host, &out->sin_addr) == 1;
}

bool bench_read_etype(const char *text, int32_t *out)
{
    uint32_t n;

    if (!bench_read_number(text, 20, &n) || (n != 18 && n != 20))
        return false;
    *out = (int32_t)n;
    return true;
}
