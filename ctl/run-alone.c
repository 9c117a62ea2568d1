/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/proc.h"
#include "ctl/bus.h"
#include "ctl/descendants.h"
#include "ctl/run-command.h"

/* Where ctxd does not answer, nobody else ends what we have started. It is whoever descends from us: who
 * loses its parent comes to us, the nearest subreaper. Where a shell had children before it became us, we may
 * signal only the command and whom it has below it. */

static bool signal_one(const struct descendant *d, int signal)
{
        _cleanup_close_ int pidfd = pidfd_open_process(d->pid);
        struct proc_stat stat;

        if (pidfd < 0 || proc_stat_read(d->pid, &stat) < 0 || stat.start_ticks != d->start_ticks ||
                        proc_is_dead(&stat))
                return false;
        if (signal != 0)
                (void) pidfd_signal(pidfd, signal);
        if (signal != 0 && stat.state == 'T')
                (void) pidfd_signal(pidfd, SIGCONT);
        return true;
}

size_t run_signal_family(struct ctl *ctl, const struct run *run, int signal)
{
        pid_t first = run->has_children ? run->pid : getpid();
        struct descendants d;
        size_t n = 0;

        /* 0: the command has ended, and whom it has left behind does not come to us. */
        if (first == 0 || descendants_begin(&d, first) < 0)
                return 0;
        (void) descendants_look(&d);
        /* A parent that ends first would leave its children behind. */
        for (size_t i = d.n; i-- > 0;)
                if (d.items[i].pid != getpid() && d.items[i].pid != ctl->agent)
                        n += signal_one(d.items + i, signal);
        descendants_deinit(&d);
        return n;
}

void run_tell_unseen(struct ctl *ctl, const struct run *run)
{
        _cleanup_free_ char *backend = NULL;

        if (!run->has_children || run->wants_scope)
                return;
        if (!run->alone &&
                        (bus_property(ctl, "MembershipBackend", &backend) > 0 || strcmp(backend, "bpf") == 0))
                return;
        print_error("whom the command has left behind may go on unseen: there is no BPF, and ctxctl was "
                    "executed by a shell that had children; run it without exec, or with --scope");
}
