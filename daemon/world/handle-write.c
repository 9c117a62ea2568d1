/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/world/handle-write.h"
#include "daemon/world/world.h"
#include "util/eventfd.h"
#include "util/log.h"

/* If a timer is due before the kernel's next tick, the kernel has to program the clock. That costs more than
 * all the rest of a cancel. So the first tick of the guard is far off, as long as nobody is hostile. */

#define GUARD_SIGNAL (SIGRTMIN + 5)
/* How long a write can sleep if nobody has made one sleep in the last minute. */
#define GUARD_FIRST_NSEC 20000000
/* How long it can sleep if somebody has. */
#define GUARD_NSEC 1000000
#define HOSTILE_USEC 60000000
/* So long may a write take, and after so long it is not tried again. */
#define WRITE_NSEC 200000
#define LONG_NSEC 5000000

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static void guard_tick(int signal_number) {}

static uint64_t clock_nsec(clockid_t clock)
{
        struct timespec t = {};

        (void) clock_gettime(clock, &t);
        return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

static void measure_from_now(struct handle_writer *w)
{
        w->thread_nsec = clock_nsec(CLOCK_THREAD_CPUTIME_ID);
        w->since_nsec = clock_nsec(CLOCK_MONOTONIC);
}

/* How long a write has taken that began then; 0: it was short. Those who are woken may run first, so what
 * counts is the thread's time on the processor. To ask for that is a system call, so it is asked for only
 * where this much time has passed. What the thread did before this write was on the processor for as long as
 * it took, at most; so the rest was this write's. */
static uint64_t has_taken(struct handle_writer *w, uint64_t began_nsec)
{
        uint64_t before = began_nsec - w->since_nsec, since = w->thread_nsec;

        if (clock_nsec(CLOCK_MONOTONIC) - began_nsec <= WRITE_NSEC)
                return 0;
        measure_from_now(w);
        return w->thread_nsec - since > before + WRITE_NSEC ? w->thread_nsec - since - before : 0;
}

/* An interrupt is on this thread's clock, too, and so may be what another guest of the machine takes. So all
 * who wait are woken once more where the write has taken long. That takes long again only if they are many.
 */
static bool takes_long(struct handle_writer *w, int fd, uint64_t began_nsec)
{
        uint64_t nsec = has_taken(w, began_nsec);

        if (nsec == 0 || nsec > LONG_NSEC)
                return nsec > 0;
        began_nsec = clock_nsec(CLOCK_MONOTONIC);
        eventfd_wake(fd);
        return has_taken(w, began_nsec) > 0;
}

static void guard_set(struct handle_writer *w, bool on)
{
        struct itimerspec tick = {};

        if (w->is_armed == on)
                return;
        if (on) {
                measure_from_now(w);
                tick.it_interval.tv_nsec = GUARD_NSEC;
                tick.it_value.tv_nsec = w->n_hostile > 0 ? GUARD_NSEC : GUARD_FIRST_NSEC;
        }
        (void) timer_settime(w->guard, 0, &tick, NULL);
        w->is_armed = on;
}

void writer_disarm(struct handle_writer *w)
{
        guard_set(w, false);
}

bool writer_knows_hostile(struct handle_writer *w, uid_t uid)
{
        uint64_t now;

        if (w->n_hostile == 0)
                return false;
        now = world_now_usec(w->world);
        for (unsigned i = 0; i < w->n_hostile;) {
                if (w->hostile[i].until_usec <= now)
                        w->hostile[i] = w->hostile[--w->n_hostile];
                else if (w->hostile[i].uid == uid)
                        return true;
                else
                        i++;
        }
        return false;
}

static void set_hostile(struct handle_writer *w, uid_t uid)
{
        unsigned i;

        w->n_found++;
        if (writer_knows_hostile(w, uid))
                return;
        i = w->n_hostile < HOSTILE_MAX ? w->n_hostile++ : w->n_found % HOSTILE_MAX;
        w->hostile[i].uid = uid;
        w->hostile[i].until_usec = world_now_usec(w->world) + HOSTILE_USEC;
        log_debug("Uid %u has made a write to its done handle block, or take long", (unsigned) uid);
}

void writer_write(struct handle_writer *w, int fd, uid_t uid)
{
        uint64_t began_nsec;

        guard_set(w, true);
        began_nsec = clock_nsec(CLOCK_MONOTONIC);
        if (eventfd_fill(fd) < 0 || takes_long(w, fd, began_nsec))
                set_hostile(w, uid);
}

int writer_init(struct handle_writer *w, struct world *world)
{
        struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = GUARD_SIGNAL};
        /* Without SA_RESTART, so that the signal interrupts a write. */
        struct sigaction action = {.sa_handler = guard_tick};
        sigset_t guard_signal;

        *w = (struct handle_writer){.world = world};
        sigemptyset(&guard_signal);
        sigaddset(&guard_signal, GUARD_SIGNAL);
        event.sigev_notify_thread_id = (pid_t) syscall(SYS_gettid);
        if (sigaction(GUARD_SIGNAL, &action, NULL) < 0 ||
                        timer_create(CLOCK_MONOTONIC, &event, &w->guard) < 0)
                return -errno;
        w->has_guard = true;
        return -pthread_sigmask(SIG_UNBLOCK, &guard_signal, NULL);
}

void writer_deinit(struct handle_writer *w)
{
        if (!w->has_guard)
                return;
        guard_set(w, false);
        timer_delete(w->guard);
        w->has_guard = false;
}
