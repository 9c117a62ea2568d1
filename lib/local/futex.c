/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/local/ctx.h"

void futex_wake_one(_Atomic uint32_t *word)
{
        syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void futex_wake_all(_Atomic uint32_t *word)
{
        syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void futex_wait_for(_Atomic uint32_t *word, uint32_t value, uint64_t usec)
{
        struct timespec ts;

        if (usec != CTX_NEVER) {
                if (usec > FUTEX_WAIT_MAX_USEC)
                        usec = FUTEX_WAIT_MAX_USEC;
                ts = timespec_of_usec(usec);
        }
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, usec == CTX_NEVER ? NULL : &ts, NULL, 0);
}

void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
        futex_wait_for(word, value, CTX_NEVER);
}

uint32_t ctx_announce_wait(struct ctx *source)
{
        uint32_t word = atomic_load_explicit(&source->nest.word, memory_order_acquire);

        if (!(word & (CTX_WAITERS | CTX_STATE))) {
                word = nest_lock(&source->nest);
                if (!(word & CTX_STATE))
                        word |= CTX_WAITERS;
                nest_unlock(&source->nest, word);
        }
        return word & CTX_STATE ? 0 : word;
}
