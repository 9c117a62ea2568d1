/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>
#include <time.h>

/* Waiting for a word to change, and waking whoever waits. */

void futex_wake_one(_Atomic uint32_t *word);
void futex_wake_all(_Atomic uint32_t *word);
/* Returns when *word is not value, and sometimes before. */
void futex_wait(_Atomic uint32_t *word, uint32_t value);
/* The same, for at most usec (CTX_NEVER: without limit). No wait is longer than FUTEX_WAIT_MAX_USEC: a
 * deadline also counts the time for which the machine is suspended, and the kernel's timeout does not. */
#define FUTEX_WAIT_MAX_USEC UINT64_C(60000000)
void futex_wait_for(_Atomic uint32_t *word, uint32_t value, uint64_t usec);

static inline struct timespec timespec_of_usec(uint64_t usec)
{
        return (struct timespec){
                        .tv_sec = (time_t) (usec / 1000000), .tv_nsec = (long) (usec % 1000000) * 1000};
}
