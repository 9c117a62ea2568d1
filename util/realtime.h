/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

/* A short time at a real-time priority. It stands around each operation on task storage, and around each read
 * of an iterator that uses task storage. During such an operation the kernel marks the CPU as busy. If it
 * preempts us then (preempt=full), the fork and exit hooks fail on that CPU: children are no members, and
 * counts stay too high. At the lowest real-time priority no ordinary task preempts us.
 *
 * Where this is not allowed (RLIMIT_RTPRIO is 0, and there is no CAP_SYS_NICE) the work goes on without it,
 * and one debug line says so. A thread that had a real-time priority before keeps it. */
struct realtime {
        int policy; /* what to go back to; negative: nothing was changed */
};

/* Raises RLIMIT_RTPRIO as far as is needed, where that may be done. Returns false if it may not. */
bool realtime_allow(void);

struct realtime realtime_begin(void);
void realtime_end(struct realtime before);
