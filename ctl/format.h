/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Times, signals and users, as people write and read them. */

#define FORMAT_MAX 128

/* "5s", "1min 30s", "1.5h", "500ms"; a bare number is seconds; "infinity" is UINT64_MAX. 0 or -EINVAL,
 * -ERANGE. */
int parse_timespan(const char *text, uint64_t *ret_usec);
/* The same, and says what is wrong with it. 0, or a positive exit status. */
int read_timespan(const char *option, const char *text, uint64_t *ret_usec);

/* "TERM", "SIGTERM", "15"; "none" is 0. 0 or -EINVAL. */
int parse_signal(const char *text, int *ret_signal);
int read_signal(const char *text, int *ret_signal);

int parse_unsigned(const char *text, uint64_t max, uint64_t *ret);

/* Each writes to a buffer of FORMAT_MAX bytes and returns it. */
char *format_timespan(char *buffer, uint64_t usec);
/* A point in time on CLOCK_BOOTTIME, as the wall clock shows it: "Mon 2026-11-23 11:48:01 UTC". */
char *format_timestamp(char *buffer, uint64_t boottime_usec);
/* "2min 3s ago" or "3s left". */
char *format_relative(char *buffer, uint64_t boottime_usec);
char *format_user(char *buffer, uid_t uid);
char *format_group(char *buffer, gid_t gid);

/* A process's command line on one line, as far as it can be read, else its name. Written to a buffer of size
 * bytes. */
char *format_command(char *buffer, size_t size, pid_t pid, const char *comm);
