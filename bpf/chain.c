/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "bpf/chain.h"
#include "bpf/judge.h"
#include "bpf/syscall.h"

#define FLAG_EXITING 0x4

static int compare_parent(const void *a, const void *b)
{
        const struct sample *x = a, *y = b;

        return x->ppid < y->ppid ? -1 : x->ppid > y->ppid;
}

static bool is_alive(const struct sample *sample)
{
        return sample->exit_state == 0 && !(sample->flags & FLAG_EXITING);
}

/* Whether the thread `waiter` waits for the process of `child`, which must be a child of the waiter's
 * process. */
static bool waits_for(const struct sample *waiter, const struct sample *child)
{
        int32_t pid = (int32_t) waiter->args[0];

        if (child->ppid != waiter->pid || child->pid == waiter->pid || !is_alive(child))
                return false;
        switch (syscall_kind(waiter->syscall)) {
        case SYSCALL_WAIT4:
                return pid <= 0 || (uint32_t) pid == child->pid;
        case SYSCALL_WAITID:
                /* Only P_PID names one process. A pidfd may be that of any child. */
                return pid != 1 || (uint32_t) waiter->args[1] == child->pid;
        case SYSCALL_VFORK:
                return child->vfork && child->ptid == waiter->tid;
        default:
                return false;
        }
}

void chain_sort(struct sample *samples, size_t n)
{
        if (n > 0)
                qsort(samples, n, sizeof *samples, compare_parent);
}

const struct sample *chain_awaited(const struct sample *samples, size_t n, const struct sample *waiter)
{
        size_t low = 0, high = n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (samples[middle].ppid < waiter->pid)
                        low = middle + 1;
                else
                        high = middle;
        }
        for (; low < n && samples[low].ppid == waiter->pid; low++)
                if (waits_for(waiter, &samples[low]))
                        return &samples[low];
        return NULL;
}

const struct sample *chain_waiter(const struct sample *samples, size_t n, const struct sample *child)
{
        for (size_t i = 0; i < n; i++)
                if (samples[i].pid == child->ppid && sample_activity(&samples[i]) == ACTIVITY_SLEEPS &&
                                waits_for(&samples[i], child))
                        return &samples[i];
        return NULL;
}
