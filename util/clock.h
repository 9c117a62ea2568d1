/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_usec(clockid_t clock)
{
        struct timespec ts;

        clock_gettime(clock, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

/* CLOCK_BOOTTIME in µs: for every point in time that clients see. */
static inline uint64_t now_boottime_usec(void)
{
        return clock_usec(CLOCK_BOOTTIME);
}

/* CLOCK_MONOTONIC in µs: for time limits inside a program. */
static inline uint64_t now_monotonic_usec(void)
{
        return clock_usec(CLOCK_MONOTONIC);
}
