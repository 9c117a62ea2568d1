/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* Times and users, as people read them. Each function writes to a buffer of FORMAT_MAX bytes and returns
 * it. */

#define FORMAT_MAX 128

/* "3d 2h", "1min 30s", "5.0s", "500ms". */
char *format_timespan(char *buffer, uint64_t usec);
/* A time on CLOCK_BOOTTIME, as the wall clock shows it: "Mon 2026-11-23 11:48:01 UTC". */
char *format_timestamp(char *buffer, uint64_t boottime_usec);
/* "2min 3s ago" or "3.0s left". */
char *format_relative(char *buffer, uint64_t boottime_usec);
char *format_user(char *buffer, uid_t uid);
char *format_group(char *buffer, gid_t gid);
