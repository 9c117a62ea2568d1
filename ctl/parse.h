/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* Numbers, times, signals and processes, as people write them on the command line. A read_ function
 * returns 0, or a positive exit status after an error message. */

/* "5s", "1min 30s", "1.5h", "500ms". A number without a unit is seconds. "infinity" is UINT64_MAX. option:
 * what the error message calls it. */
int read_timespan(const char *option, const char *text, uint64_t *ret_usec);
/* The same, for what is done again and again: it must not be 0. */
int read_interval(const char *option, const char *text, uint64_t *ret_usec);
/* "TERM", "SIGTERM", "15". "none" is 0. */
int read_signal(const char *text, int *ret_signal);
/* A process id. Opens the process as a pidfd. */
int read_process(const char *text, int *ret_pidfd);

/* Decimal digits and nothing else, up to max. 0 or -EINVAL. */
int parse_unsigned(const char *text, uint64_t max, uint64_t *ret);
