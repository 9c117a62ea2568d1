/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <time.h>

#include "tests/bench/local/floor.h"

__attribute__((visibility("default"))) int floor_load(_Atomic uint32_t *word)
{
        return atomic_load_explicit(word, memory_order_acquire) != 0;
}

__attribute__((visibility("default"))) int floor_load_and_clock(_Atomic uint32_t *word)
{
        struct timespec ts;

        clock_gettime(CLOCK_BOOTTIME, &ts);
        return atomic_load_explicit(word, memory_order_acquire) != 0 || ts.tv_sec == 0;
}
