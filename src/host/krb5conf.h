/* SPDX-License-Identifier: MIT */
/* Single values out of krb5.conf(5), includes and all: KRB5_CONFIG, else /etc/krb5.conf. */
#ifndef SP_HOST_KRB5CONF_H
#define SP_HOST_KRB5CONF_H

#include <stdbool.h>
#include <stddef.h>

/* key of [section]; false when no file sets it. */
bool host_find_krb5(const char *section, const char *key, char *out, size_t max);
/* The realm that [domain_realm] maps a host to: its own line, then those of the domains above it, with a dot
 * before them and without (as libkrb5 looks them up). false: none does. line: the key that did. */
bool host_find_mapped(const char *host, char *realm, size_t max, char *line, size_t line_max);

#endif
