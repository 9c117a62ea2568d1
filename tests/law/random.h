/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Numbers that a seed brings again: `state` is set to it first. */

static uint64_t state;

static inline uint64_t next_random(void) /* splitmix64 */
{
        uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

static inline unsigned random_below(unsigned n)
{
        return (unsigned) (next_random() % n);
}

static inline bool chance(unsigned percent)
{
        return random_below(100) < percent;
}
