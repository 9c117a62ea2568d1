/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* Times and users, as people read them. Each function writes to a buffer of FORMAT_MAX bytes and returns
 * it. */

#define FORMAT_MAX 128

#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_PER_MINUTE (60 * USEC_PER_SEC)
#define USEC_PER_HOUR (60 * USEC_PER_MINUTE)
#define USEC_PER_DAY (24 * USEC_PER_HOUR)

/* "3d 2h", "1min 30s", "5.0s", "500ms". */
char *format_timespan(char *buffer, uint64_t usec);
/* A time on CLOCK_BOOTTIME, as the wall clock shows it: "Mon 2026-11-23 11:48:01 UTC". */
char *format_timestamp(char *buffer, uint64_t boottime_usec);
/* "2min 3s ago" or "3.0s left". */
char *format_relative(char *buffer, uint64_t boottime_usec);
char *format_user(char *buffer, uid_t uid);
char *format_group(char *buffer, gid_t gid);
