/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/proc.h"
#include "ctl/run-command.h"

/* Where ctxd does not answer, nobody else ends what we have started. It is whoever descends from us: who
 * loses its parent comes to us, the nearest subreaper. Where a shell had children before it became us, we may
 * signal only the command and whom it has below it. */

#define FAMILY_MAX 65536 /* more would be a fork bomb; the next look finds others */

struct relative {
        pid_t pid, parent;
};

struct family {
        struct relative *items;
        size_t n, allocated;
        pid_t parent; /* of those that are added */
        pid_t agent;  /* polkit's, which is none of them */
};

static int add(void *userdata, pid_t child)
{
        struct family *family = userdata;

        if (child == family->agent || family->n == FAMILY_MAX)
                return 0;
        if (family->n == family->allocated) {
                size_t more = family->allocated ? family->allocated * 2 : 16;
                struct relative *items = reallocarray(family->items, more, sizeof *items);

                if (!items)
                        return -ENOMEM;
                family->items = items;
                family->allocated = more;
        }
        family->items[family->n++] = (struct relative){child, family->parent};
        return 0;
}

static void find(struct family *family, const struct run *run, pid_t command)
{
        if (run->has_children)
                (void) add(family, command);
        else
                (void) proc_each_child(family->parent, add, family);
        for (size_t i = 0; i < family->n; i++) {
                family->parent = family->items[i].pid;
                (void) proc_each_child(family->parent, add, family);
        }
}

/* Its parent may have exited since. By then it is our child. */
static bool is_still(const struct relative *relative, const struct proc_stat *stat)
{
        return !proc_is_dead(stat) && (stat->ppid == relative->parent || stat->ppid == getpid());
}

size_t run_signal_family(struct ctl *ctl, const struct run *run, pid_t command, int signal)
{
        struct family family = {.parent = getpid(), .agent = ctl->agent};
        struct proc_stat stat;
        size_t n = 0;

        find(&family, run, command);
        /* A parent that ends first would leave its children behind. */
        for (size_t i = family.n; i-- > 0;) {
                _cleanup_close_ int pidfd = pidfd_open_process(family.items[i].pid);

                if (pidfd < 0 || proc_stat_read(family.items[i].pid, &stat) < 0 ||
                                !is_still(family.items + i, &stat))
                        continue;
                n++;
                if (signal != 0)
                        (void) pidfd_signal(pidfd, signal);
                if (signal != 0 && stat.state == 'T')
                        (void) pidfd_signal(pidfd, SIGCONT);
        }
        free(family.items);
        return n;
}
