/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <stdlib.h>

#include "admin/private.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void put_group(char out[4], const uint8_t *p, size_t n)
{
    uint32_t v = (uint32_t)p[0] << 16 | (n > 1 ? (uint32_t)p[1] << 8 : 0) | (n > 2 ? p[2] : 0);

    out[0] = digits[v >> 18];
    out[1] = digits[v >> 12 & 63];
    out[2] = (char)(n > 1 ? digits[v >> 6 & 63] : '=');
    out[3] = (char)(n > 2 ? digits[v & 63] : '=');
}

char *admin_base64(struct sp_span s, unsigned wrap)
{
    size_t room = (s.n + 2) / 3 * 4, at = 0;
    char *out = malloc(room + (wrap ? room / wrap + 1 : 0) + 1);

    if (!out)
        return NULL;
    for (size_t i = 0; i < s.n; i += 3) {
        put_group(out + at, s.p + i, s.n - i);
        at += 4;
        if (wrap && (i / 3 + 1) * 4 % wrap == 0)
            out[at++] = '\n';
    }
    if (wrap && at > 0 && out[at - 1] != '\n')
        out[at++] = '\n';
    out[at] = 0;
    return out;
}

static int value_of(char c)
{
    const char *at = c ? strchr(digits, c) : NULL;

    return at ? (int)(at - digits) : -1;
}

uint8_t *admin_unbase64(const char *text, size_t *n)
{
    uint8_t *out = malloc(strlen(text) / 4 * 3 + 3);
    uint32_t bits = 0;
    unsigned have = 0, pad = 0, digits_n = 0;
    bool ok = out != NULL;

    *n = 0;
    for (; ok && *text; text++) {
        int v = value_of(*text);

        if (isspace((unsigned char)*text))
            continue;
        digits_n++;
        if (*text == '=') {
            pad++;
            continue;
        }
        ok = v >= 0 && pad == 0;
        bits = bits << 6 | (uint32_t)(v & 63);
        have += 6;
        if (have >= 8)
            out[(*n)++] = (uint8_t)(bits >> (have -= 8));
    }
    if (ok && digits_n % 4 == 0 && pad <= 2 && (bits & ((1u << have) - 1)) == 0)
        return out;
    free(out);
    return NULL;
}
