/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <time.h>

#include "tests/interleave/world.h"

/* Futexes, sleep and the clocks. To wake somebody up is no access to the word: the kernel compares addresses,
 * and a wake-up for memory that was freed meanwhile harms nobody. */

#define PC __builtin_return_address(0)
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

long __real_syscall(long number, ...);

uint64_t clock_now(void)
{
        return world->now_usec;
}

void clock_advance(uint64_t usec)
{
        step(STEP_CLOCK, &world->now_usec, PC);
        world->now_usec += usec;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
        uint64_t now;

        step(STEP_CLOCK, &world->now_usec, PC);
        now = world->now_usec;
        if (clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_REALTIME_COARSE)
                now -= now % 4000;
        *ret = (struct timespec){
                        .tv_sec = (time_t) (now / 1000000), .tv_nsec = (long) (now % 1000000) * 1000};
        return 0;
}

int __wrap_sched_yield(void)
{
        step(STEP_YIELD, NULL, PC);
        return 0;
}

int __wrap_nanosleep(const struct timespec *ts, struct timespec *left)
{
        cancellation_point();
        step(STEP_YIELD, NULL, PC);
        return 0;
}

static uint64_t usec_of(const struct timespec *ts)
{
        return (uint64_t) ts->tv_sec * 1000000 + (uint64_t) (ts->tv_nsec + 999) / 1000;
}

static long refuse(int error)
{
        if (error == 0)
                return 0;
        errno = error;
        return -1;
}

static long wait_on(const uint32_t *word, uint32_t value, uint64_t until_usec, const void *pc)
{
        step(STEP_WAIT, word, pc);
        memory_check(word, sizeof *word);
        if (*word != value)
                return refuse(EAGAIN);
        thread_about_to_block()->words[0] = word;
        world->current->until_usec = until_usec;
        return refuse(thread_block());
}

static long wait_on_several(
                const struct futex_waitv *waiters, unsigned n, const struct timespec *until, const void *pc)
{
        if (n > 2)
                fail("the tester knows no futex_waitv() of %u words", n);
        for (unsigned i = 0; i < n; i++)
                step(STEP_WAIT, (const void *) (uintptr_t) waiters[i].uaddr, pc);
        for (unsigned i = 0; i < n; i++) {
                const uint32_t *word = (const uint32_t *) (uintptr_t) waiters[i].uaddr;

                memory_check(word, sizeof *word);
                if (*word != waiters[i].val)
                        return refuse(EAGAIN);
                thread_about_to_block()->words[i] = word;
        }
        world->current->until_usec = until ? usec_of(until) : NEVER;
        return refuse(thread_block());
}

static long wake(const uint32_t *word, long n, const void *pc)
{
        long woken = 0;

        step(STEP_WAKE, word, pc);
        for (size_t i = 0; i < THREADS_MAX && woken < n; i++) {
                struct thread *thread = &world->threads[i];

                if (thread->state != THREAD_BLOCKED || thread->was_woken ||
                                (thread->words[0] != word && thread->words[1] != word))
                        continue;
                thread->was_woken = true;
                woken++;
        }
        return woken;
}

static long futex(const uint32_t *word, int op, uint32_t value, const struct timespec *ts, const void *pc)
{
        switch (op & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME)) {
        case FUTEX_WAIT:
                return wait_on(word, value, ts ? world->now_usec + usec_of(ts) : NEVER, pc);
        case FUTEX_WAIT_BITSET:
                return wait_on(word, value, ts ? usec_of(ts) : NEVER, pc);
        case FUTEX_WAKE:
        case FUTEX_WAKE_BITSET:
                return wake(word, (int) value, pc);
        default:
                fail("the tester knows no futex operation %d", op);
        }
}

long __wrap_syscall(long number, ...)
{
        long a[6], r;
        va_list args;

        va_start(args, number);
        for (size_t i = 0; i < 6; i++)
                a[i] = va_arg(args, long);
        va_end(args);
        if (number == SYS_clock_nanosleep) {
                step(STEP_YIELD, NULL, PC);
                return 0;
        }
        if (descriptor_syscall(number, a, PC, &r))
                return r;
        if (number == SYS_futex)
                return futex((const uint32_t *) a[0], (int) a[1], (uint32_t) a[2],
                                (const struct timespec *) a[3], PC);
        if (number == SYS_futex_waitv)
                return wait_on_several((const struct futex_waitv *) a[0], (unsigned) a[1],
                                (const struct timespec *) a[3], PC);
        /* Memory is sequentially consistent here. */
        if (number == SYS_membarrier)
                return 0;
        return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
