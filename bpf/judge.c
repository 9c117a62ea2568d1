/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bpf/judge.h"

/* From include/linux/sched.h and sched/jobctl.h; they are the same since 5.19. A task's frozen flag does
 * not mean that the freezer holds it: a stopped task and one that waits in vfork have the flag, too. */
#define STATE_INTERRUPTIBLE 0x1
#define STATE_UNINTERRUPTIBLE 0x2
#define STATE_FROZEN 0x8000
/* Stopped, traced, dead, parked. */
#define STATE_HELD (0x4 | 0x8 | 0x10 | 0x20 | 0x40 | STATE_FROZEN)
/* JOBCTL_TRAP_FREEZE, JOBCTL_STOPPED, JOBCTL_TRACED. */
#define JOBCTL_HELD (1ULL << 23 | 1ULL << 26 | 1ULL << 27)
/* Exiting, after a core dump, dumping core. */
#define FLAGS_HELD (0x4 | 0x8 | 0x200)

/* A thread that takes less of a CPU than this is not busy. */
#define BUSY_PERCENT 25

enum activity sample_activity(const struct sample *sample)
{
        if (sample->exit_state || sample->core || (sample->state & STATE_HELD) ||
                        (sample->jobctl & JOBCTL_HELD) || (sample->flags & FLAGS_HELD))
                return ACTIVITY_HELD;
        if (sample->state & (STATE_INTERRUPTIBLE | STATE_UNINTERRUPTIBLE))
                return ACTIVITY_SLEEPS;
        return ACTIVITY_RUNS;
}

int thread_clock_feed(struct thread_clock *clock, const struct sample *sample, uint64_t end)
{
        uint64_t switches = sample->nvcsw + sample->nivcsw;
        bool first = clock->first_usec == 0;
        int moved = !first && clock->switches != switches;

        if (first) {
                clock->first_usec = end;
                clock->first_runtime = sample->runtime_nsec;
                clock->first_switches = switches;
        }
        if (sample_activity(sample) != ACTIVITY_SLEEPS) {
                clock->asleep_usec = 0;
                clock->baseline = false;
        } else if (first || moved || clock->asleep_usec == 0) {
                clock->asleep_usec = end;
                clock->baseline = first;
        }
        clock->switches = switches;
        return moved;
}

void thread_clock_restart(struct thread_clock *clock, const struct sample *sample, uint64_t now)
{
        clock->first_usec = now;
        clock->first_runtime = sample->runtime_nsec;
        clock->first_switches = sample->nvcsw + sample->nivcsw;
        if (clock->asleep_usec > 0)
                clock->asleep_usec = now;
        clock->baseline = false;
}

uint64_t thread_clock_blocked_at(const struct thread_clock *clock, uint64_t done, uint64_t grace)
{
        if (clock->asleep_usec == 0 || grace > UINT64_MAX - clock->asleep_usec)
                return UINT64_MAX;
        if (clock->baseline && clock->asleep_usec <= done + grace / 4)
                return done + grace;
        return clock->asleep_usec + grace;
}

bool thread_clock_ignoring(const struct thread_clock *clock, const struct sample *sample, uint64_t now,
                uint64_t done, uint64_t grace, unsigned *ret_percent)
{
        uint64_t elapsed = now > clock->first_usec ? now - clock->first_usec : 0;
        uint64_t ran = (sample->runtime_nsec - clock->first_runtime) / 1000;
        unsigned percent;

        if (clock->first_usec == 0 || grace == UINT64_MAX || elapsed == 0 || now < done + grace ||
                        sample_activity(sample) == ACTIVITY_HELD)
                return false;
        if (sample->runtime_nsec == clock->first_runtime &&
                        sample->nvcsw + sample->nivcsw == clock->first_switches)
                return false;
        percent = (unsigned) (ran * 100 / elapsed);
        *ret_percent = percent;
        if (percent >= BUSY_PERCENT)
                return elapsed >= grace - grace / 4;
        /* A thread that has been asleep for a while may become blocked; it is judged as that. */
        if (clock->asleep_usec > 0 && now - clock->asleep_usec > grace / 2)
                return false;
        return elapsed / 2 >= grace;
}
