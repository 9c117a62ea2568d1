/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bpf/sample.h"

/* The verdict on one thread. It follows from samples and the time, and from nothing else.
 *
 * Blocked: the thread sleeps, and between two samples that are a grace apart neither its switch counts nor
 * its start time have changed. (Three quarters of a grace are enough if the first sample is the baseline,
 * which is taken just after the context was done.) A thread that is held by somebody is not blocked: it is
 * stopped, traced, frozen, dumping core, exiting, or waits for a child in vfork. Time in which it was held
 * does not count: its clock starts again afterwards.
 *
 * Ignoring: the thread has been there for a grace and has run for a good part of it, or it has kept waking
 * up for two graces. A thread that has not got a CPU since it was first seen could not leave, and is not
 * ignoring. */

enum activity {
        ACTIVITY_RUNS,
        ACTIVITY_SLEEPS,
        ACTIVITY_HELD,
};

struct thread_clock {
        uint64_t first_usec;    /* first seen in its done context; all in CLOCK_BOOTTIME */
        uint64_t first_runtime; /* nsec it had run by then */
        uint64_t first_switches;
        uint64_t asleep_usec; /* it has slept on since then; 0: it does not sleep */
        uint64_t switches;
        bool baseline; /* it slept already at the first sample */
};

enum activity sample_activity(const struct sample *sample);

/* Takes in a sample that had been taken by the time `end`. Returns 1 if the thread has run since the sample
 * before. */
int thread_clock_feed(struct thread_clock *clock, const struct sample *sample, uint64_t end);
/* Starts again with this sample: no verdict may follow from the samples before. */
void thread_clock_restart(struct thread_clock *clock, const struct sample *sample, uint64_t now);

/* The time at which the thread becomes blocked if it does not run. UINT64_MAX: it does not sleep, or the
 * grace is infinite. */
uint64_t thread_clock_blocked_at(const struct thread_clock *clock, uint64_t done, uint64_t grace);
/* Whether the thread is ignoring. ret_percent: the share of a CPU that it has taken since it was first
 * seen. */
bool thread_clock_ignoring(const struct thread_clock *clock, const struct sample *sample, uint64_t now,
                uint64_t done, uint64_t grace, unsigned *ret_percent);
