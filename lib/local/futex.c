/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
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

/* 0, or a negative errno. */
static int wait_one(_Atomic uint32_t *word, uint32_t value, uint64_t usec)
{
        struct timespec ts;

        if (usec != CTX_NEVER) {
                if (usec > FUTEX_WAIT_MAX_USEC)
                        usec = FUTEX_WAIT_MAX_USEC;
                ts = timespec_of_usec(usec);
        }
        return syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, usec == CTX_NEVER ? NULL : &ts, NULL, 0) <
                                               0
                               ? -errno
                               : 0;
}

void futex_wait_for(_Atomic uint32_t *word, uint32_t value, uint64_t usec)
{
        wait_one(word, value, usec);
}

void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
        futex_wait_for(word, value, CTX_NEVER);
}

/* A filter of system calls is a thread's, so this is, too. */
static __thread bool no_waitv __attribute__((tls_model("initial-exec")));

/* Without futex_waitv(2), which Linux has since 5.16, and which a filter may refuse: nobody can sleep on two
 * words. Who wakes by the first word has to find the thread there. So it sleeps there, and looks at the
 * second one from time to time. */
#define FIRST_LOOK_USEC 500
#define LAST_LOOK_USEC 10000

static void wait_and_look(const struct futex_pair *pair, uint64_t usec)
{
        for (uint64_t next = FIRST_LOOK_USEC; usec > 0;
                        next = next * 2 < LAST_LOOK_USEC ? next * 2 : LAST_LOOK_USEC) {
                uint64_t now = next < usec ? next : usec;

                if (wait_one(pair->word, pair->value, now) != -ETIMEDOUT ||
                                atomic_load(pair->other) != pair->other_value)
                        return;
                if (usec != CTX_NEVER)
                        usec -= now;
        }
}

static struct timespec monotonic_after(uint64_t usec)
{
        return timespec_of_usec(now_monotonic_usec() + usec + 1);
}

static void wait_two(const struct futex_pair *pair, uint64_t usec)
{
        struct futex_waitv waiters[2] = {
                        {.val = pair->value,
                                        .uaddr = (uintptr_t) pair->word,
                                        .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG},
                        {.val = pair->other_value,
                                        .uaddr = (uintptr_t) pair->other,
                                        .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG},
        };
        struct timespec ts;

        if (!no_waitv) {
                if (usec != CTX_NEVER)
                        ts = monotonic_after(usec);
                if (syscall(SYS_futex_waitv, waiters, 2, 0, usec == CTX_NEVER ? NULL : &ts,
                                    CLOCK_MONOTONIC) >= 0 ||
                                errno == EAGAIN || errno == EINTR || errno == ETIMEDOUT)
                        return;
                no_waitv = errno != ENOMEM;
        }
        wait_and_look(pair, usec);
}

void futex_wait_pair(const struct futex_pair *pair, uint64_t usec, enum futex_cancel cancel)
{
        int type = PTHREAD_CANCEL_DEFERRED;

        if (usec > FUTEX_WAIT_MAX_USEC && usec != CTX_NEVER)
                usec = FUTEX_WAIT_MAX_USEC;
        if (cancel == FUTEX_CANCELLABLE)
                pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
        if (pair->other)
                wait_two(pair, usec);
        else
                wait_one(pair->word, pair->value, usec);
        if (cancel == FUTEX_CANCELLABLE)
                pthread_setcanceltype(type, NULL);
}

uint32_t ctx_announce_wait(struct ctx *source)
{
        uint32_t word = atomic_load_explicit(&source->nest.word, memory_order_acquire);

        if (!(word & CTX_WAITERS)) {
                word = nest_lock(&source->nest) | CTX_WAITERS;
                nest_unlock(&source->nest, word);
        }
        /* Whoever makes it done after this sees the flag, and changes the word. */
        return atomic_load_explicit(&source->end, memory_order_seq_cst) & END_STATE ? 0 : word;
}
