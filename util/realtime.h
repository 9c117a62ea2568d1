/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

/* Around each operation on task storage, and each read of an iterator that uses it. The kernel marks the CPU
 * as busy meanwhile; where it preempts us then (preempt=full), the fork and exit hooks fail on that CPU:
 * children that are no members, counts that stay. At the lowest real-time priority no ordinary task preempts
 * us.
 *
 * Where that is not allowed (RLIMIT_RTPRIO is 0, and no CAP_SYS_NICE) it goes on without, and says so once,
 * to who debugs. What ran at a real-time priority before is left as it is. */
struct realtime {
        int policy; /* to go back to; negative: nothing was changed */
};

struct realtime realtime_begin(void);
void realtime_end(struct realtime before);
