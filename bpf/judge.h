/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bpf/sample.h"

/* The verdict on one thread, from samples and the time alone.
 *
 * Blocked: it sleeps, and neither its switch counts nor its start time have changed between two samples that
 * lie a grace apart (three quarters of one, where the first is the baseline just after its context was done).
 * It is not blocked while somebody holds it: stopped, traced, frozen, dumping core, exiting, or waiting for a
 * vforked child. Such a time does not count either; its clock starts anew.
 *
 * Ignoring: it has been there for a grace and runs for a good part of it, or has been waking up for two
 * graces. One that has not had a turn on a CPU since it was first seen has had no chance to leave. */

enum activity {
        ACTIVITY_RUNS,
        ACTIVITY_SLEEPS,
        ACTIVITY_HELD,
};

struct thread_clock {
        uint64_t first_usec;    /* when it was first seen in its done context; CLOCK_BOOTTIME, all of them */
        uint64_t first_runtime; /* nsec on the CPU by then */
        uint64_t first_switches;
        uint64_t asleep_usec; /* since when its sleep is known to be unbroken; 0: it does not sleep */
        uint64_t switches;
        bool baseline; /* the sleep was already there at the first sample */
};

enum activity sample_activity(const struct sample *sample);

/* A sample that was taken between begin and end. Returns 1 if the thread has moved since the sample before.
 */
int thread_clock_feed(struct thread_clock *clock, const struct sample *sample, uint64_t end);
/* Forgets what was before: the samples do not bear a verdict. */
void thread_clock_restart(struct thread_clock *clock, const struct sample *sample, uint64_t now);

/* From when on it counts as blocked, if it does not move; UINT64_MAX: it does not sleep, or grace is endless.
 */
uint64_t thread_clock_blocked_at(const struct thread_clock *clock, uint64_t done, uint64_t grace);
/* Whether it runs through its grace; the share of a CPU it has taken since it was first seen, in percent. */
bool thread_clock_ignoring(const struct thread_clock *clock, const struct sample *sample, uint64_t now,
                uint64_t done, uint64_t grace, unsigned *ret_percent);
