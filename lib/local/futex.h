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

/* Two words, and what is in them while a thread sleeps. */
struct futex_pair {
        _Atomic uint32_t *word, *other; /* other may be NULL */
        uint32_t value, other_value;
};

enum futex_cancel {
        FUTEX_NOT_CANCELLABLE,
        /* pthread_cancel(3) ends the thread while it sleeps here: at any instruction, also once it was woken.
         * The caller holds no lock, and its clean-up handler passes on a wake-up that it may have had. */
        FUTEX_CANCELLABLE,
};

/* Returns when one of the words has changed or after usec (CTX_NEVER: no limit), and sometimes before. */
void futex_wait_pair(const struct futex_pair *pair, uint64_t usec, enum futex_cancel cancel);

static inline struct timespec timespec_of_usec(uint64_t usec)
{
        return (struct timespec){
                        .tv_sec = (time_t) (usec / 1000000), .tv_nsec = (long) (usec % 1000000) * 1000};
}
