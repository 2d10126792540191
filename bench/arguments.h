/* SPDX-License-Identifier: MIT */
/* Command lines of the measuring programs. */
#ifndef SP_BENCH_ARGUMENTS_H
#define SP_BENCH_ARGUMENTS_H

#include <getopt.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

/* One option: its letter and, where it takes one, its value. False: the value is none. */
typedef bool bench_option_fn(void *into, int letter, const char *value);

/* Hands each option to set; the index of the first word behind them, argc when there is none. -1: an option
 * is not among the names, or set said no. */
int bench_read_options(int argc, char **argv, const struct option *names, bench_option_fn *set, void *into);

/* A number from 1 to max; false when the text is none. */
bool bench_read_number(const char *text, uint32_t max, uint32_t *out);
/* "127.0.0.1:88" */
bool bench_read_address(const char *text, struct sockaddr_in *out);
/* An encryption type that the bench realm can have: 18 or 20. */
bool bench_read_etype(const char *text, int32_t *out);

#endif
