/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "daemon/world/membership/see.h"
#include "util/cleanup.h"

/* A pidfd may tell whose it is, which saves a file. */
int member_see(pid_t pid, bool wants_uids, struct member_seen *ret)
{
        _cleanup_close_ int pidfd = wants_uids ? pidfd_open_process(pid) : -1;
        struct pidfd_owner owner;
        int r;

        if (pidfd < 0 || pidfd_owner(pidfd, &owner) < 0)
                return proc_read(pid, &ret->stat, wants_uids ? &ret->status : NULL);
        r = proc_stat_read(pid, &ret->stat);
        /* Else that may be another one's. */
        if (r >= 0 && proc_pidfd_exited(pidfd) && !proc_is_dead(&ret->stat))
                return -ESRCH;
        memcpy(ret->status.uids, owner.uids, sizeof owner.uids);
        return r;
}

static const uid_t unknown[3] = {(uid_t) -1, (uid_t) -1, (uid_t) -1};

void member_see_some(pid_t pid, struct member_seen *seen)
{
        _cleanup_close_ int pidfd = pidfd_open_process(pid);
        struct pidfd_owner owner;

        (void) proc_comm_read(pid, seen->stat.comm);
        if (pidfd >= 0 && pidfd_owner(pidfd, &owner) >= 0) {
                memcpy(seen->status.uids, owner.uids, sizeof owner.uids);
                seen->status.ppid = owner.ppid;
        } else if (proc_status_read(pid, &seen->status) < 0) {
                memcpy(seen->status.uids, unknown, sizeof unknown);
        }
}
