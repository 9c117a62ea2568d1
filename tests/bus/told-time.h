/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <time.h>

/* The linker hands a test program's clock_gettime() to this (--wrap), so that the test says what the
 * monotonic time is. For its one file that does. */

/* tv_sec 0: as it is. */
static struct timespec now;

int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
        if (clock != CLOCK_MONOTONIC || now.tv_sec == 0)
                return __real_clock_gettime(clock, ret);
        *ret = now;
        return 0;
}
