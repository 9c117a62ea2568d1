/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dlfcn.h>

#include "lib/local/deadline.h"
#include "lib/local/fork.h"
#include "util/clock.h"

/* Whether a deadline has passed, for calls that ask again and again.
 *
 * To read CLOCK_BOOTTIME takes several times as long as the rest of ctx_err(). CLOCK_MONOTONIC_COARSE is two
 * loads: the kernel moves it at each tick, and when the machine is suspended and resumed. So while it stands
 * still, a thread that has read both clocks knows that it is in the same tick, that the machine was not
 * suspended meanwhile, and that a deadline which was far away still is. A step of CLOCK_REALTIME matters to
 * neither. Once in each tick the thread reads both clocks.
 *
 * The coarse clock may stand still for longer than a tick if the processor that moves it does not run: in a
 * virtual machine, say. So only what is further away than COARSE_LAG_MAX_USEC counts as far away. */

#define COARSE_LAG_MAX_USEC 1000000

/* When this thread last read both clocks, the coarse one first, so that `usec` is not too early for `tick`.
 * One reader at a time writes both: a signal handler that interrupts it finds TICK_WRITING. */
struct seen {
        volatile int64_t tick; /* the coarse clock in ns */
        volatile uint64_t usec;
};

static __thread struct seen seen __attribute__((tls_model("initial-exec")));

#define TICK_NONE 0
#define TICK_WRITING (-1)

static int (*read_clock)(clockid_t clock, struct timespec *ret) = clock_gettime;

/* The kernel's own function, which takes half as long as the C library's around it. */
__attribute__((constructor)) static void find_kernels_function(void)
{
        static const char *const names[] = {"__vdso_clock_gettime", "__kernel_clock_gettime"};
        void *vdso = sizeof(long) == 8 ? dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD) : NULL;

        for (size_t i = 0; vdso && i < sizeof(names) / sizeof(names[0]); i++) {
                void *symbol = dlsym(vdso, names[i]);

                if (symbol)
                        read_clock = (int (*)(clockid_t, struct timespec *)) symbol;
        }
}

static inline int64_t now_tick(void)
{
        struct timespec ts;

        read_clock(CLOCK_MONOTONIC_COARSE, &ts);
        return (int64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* These two are not inline, so that the usual way saves no registers. */
__attribute__((noinline)) static bool look(uint64_t usec)
{
        return now_boottime_usec() >= usec;
}

__attribute__((noinline)) static bool look_and_keep(uint64_t usec, int64_t tick)
{
        uint64_t now = now_boottime_usec();

        if (seen.tick != TICK_WRITING) {
                seen.tick = TICK_WRITING;
                seen.usec = now;
                seen.tick = tick;
        }
        return now >= usec;
}

/* The protector would be for the struct timespec, which only the kernel's function writes. */
__attribute__((no_stack_protector)) bool deadline_has_passed(uint64_t usec)
{
        /* In this order: a handler in between makes seen.usec later. */
        int64_t seen_tick = seen.tick, tick;

        if (usec <= COARSE_LAG_MAX_USEC || seen.usec >= usec - COARSE_LAG_MAX_USEC)
                return look(usec);
        tick = now_tick();
        return tick != seen_tick && look_and_keep(usec, tick);
}

/* The child may be in another time namespace. */
static void after_fork_in_child(void)
{
        seen.tick = TICK_NONE;
}

FORK_PART(.in_child = after_fork_in_child)
