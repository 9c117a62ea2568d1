/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>

#include "util/log.h"
#include "util/realtime.h"

bool realtime_allow(void)
{
        struct rlimit limit = {};

        if (getrlimit(RLIMIT_RTPRIO, &limit) >= 0 && limit.rlim_cur >= 1)
                return true;
        if (limit.rlim_max < 1)
                limit.rlim_max = 1;
        limit.rlim_cur = 1;
        return setrlimit(RLIMIT_RTPRIO, &limit) >= 0;
}

struct realtime realtime_begin(void)
{
        static const struct sched_param lowest = {.sched_priority = 1};
        static bool said;
        int policy = sched_getscheduler(0);

        if (policy >= 0)
                policy &= ~SCHED_RESET_ON_FORK;
        if (policy != SCHED_OTHER && policy != SCHED_BATCH && policy != SCHED_IDLE)
                return (struct realtime){-1};
        if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &lowest) < 0) {
                if (!said)
                        log_debug("no real-time priority (%s): with preempt=full members may be missed",
                                        strerror(errno));
                said = true;
                return (struct realtime){-1};
        }
        return (struct realtime){policy};
}

void realtime_end(struct realtime before)
{
        /* The flag stays, because only CAP_SYS_NICE may remove it. The kernel keeps the nice value. */
        if (before.policy >= 0)
                (void) sched_setscheduler(0, before.policy | SCHED_RESET_ON_FORK, &(struct sched_param){});
}
