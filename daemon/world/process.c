/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "daemon/world/internal.h"
#include "util/proc.h"
#include "util/cleanup.h"
#include "util/log.h"

/* A process is its pid and its start time: with a pidfd that was alive after both had been read they are of
 * one process. Asking again for the same one gives the same object. */

static int process_exited(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct process *p = process_ref(userdata);
        struct effects *e = p->effects;

        p->exited = true;
        sd_event_source_set_enabled(source, SD_EVENT_OFF);
        owner_exited(e, p);
        handles_drop_process(e, p);
        membership_process_exited(e, p);
        threads_drop_process(e, p);
        process_unref(p);
        effects_event(e);
        return 0;
}

/* Takes over pidfd on success. */
static int process_new(struct effects *e, int pidfd, pid_t pid, uint64_t wanted_ticks, struct process **ret)
{
        struct proc_stat stat;
        struct process *p;
        uid_t uids[3];
        pid_t tgid;
        struct {
                pid_t pid;
                uint64_t start_ticks;
        } identity;
        int r;

        r = proc_stat_read(pid, &stat);
        if (r < 0)
                return r;
        r = proc_status_read(pid, uids, &tgid);
        if (r < 0)
                return r;
        if (proc_pidfd_exited(pidfd) || (wanted_ticks > 0 && stat.start_ticks != wanted_ticks))
                return -ESRCH;
        if (tgid != pid)
                return -EINVAL; /* a thread's */

        memset(&identity, 0, sizeof identity); /* the padding is hashed, too */
        identity.pid = pid;
        identity.start_ticks = stat.start_ticks;
        HASH_FIND(hh, e->processes, &identity, sizeof identity, p);
        if (p) {
                p->uid = uids[0];
                memcpy(p->comm, stat.comm, sizeof p->comm);
                close(pidfd);
                *ret = process_ref(p);
                return 0;
        }

        p = calloc(1, sizeof *p);
        if (!p)
                return -ENOMEM;
        p->effects = e;
        p->n_ref = 1;
        memcpy(&p->identity, &identity, sizeof identity);
        p->pidfd = -1;
        p->uid = uids[0];
        memcpy(p->comm, stat.comm, sizeof p->comm);
        HASH_ADD(hh, e->processes, identity, sizeof p->identity, p);
        if (!p->hh.tbl) {
                free(p);
                return -ENOMEM;
        }
        p->pidfd = pidfd;
        *ret = p;
        return 0;
}

int process_acquire(struct effects *e, int pidfd, struct process **ret)
{
        _cleanup_close_ int fd = -1;
        pid_t pid;
        int r;

        r = proc_pidfd_to_pid(
                        pidfd, &pid); /* before anything else that a hostile descriptor could make block */
        if (r < 0)
                return r == -EBADF ? -EINVAL : r;
        fd = fcntl(pidfd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
                return -errno;
        r = process_new(e, fd, pid, 0, ret);
        if (r >= 0)
                TAKE_FD(fd);
        return r;
}

int process_acquire_start(struct effects *e, pid_t pid, uint64_t start_ticks, struct process **ret)
{
        _cleanup_close_ int fd = -1;
        int r;

        if (pid <= 0)
                return -ESRCH;
        fd = pidfd_open_process(pid);
        if (fd < 0)
                return fd == -EINVAL || fd == -ENOENT
                                       ? -ESRCH
                                       : fd; /* a thread's, as older and newer kernels say it */
        r = process_new(e, fd, pid, start_ticks, ret);
        if (r >= 0)
                TAKE_FD(fd);
        return r == -EINVAL ? -ESRCH : r;
}

int process_acquire_pid(struct effects *e, pid_t pid, struct process **ret)
{
        return process_acquire_start(e, pid, 0, ret);
}

int process_acquire_member(struct effects *e, const struct member_process *member, struct process **ret)
{
        return process_acquire_start(
                        e, (pid_t) member->pid, proc_nsec_to_ticks(member->start_usec * 1000), ret);
}

struct process *process_ref(struct process *p)
{
        if (p)
                p->n_ref++;
        return p;
}

struct process *process_unref(struct process *p)
{
        if (!p || --p->n_ref > 0)
                return NULL;
        HASH_DEL(p->effects->processes, p);
        sd_event_source_disable_unref(p->exit_source);
        close(p->pidfd);
        free(p);
        return NULL;
}

pid_t process_pid(const struct process *p)
{
        return p->identity.pid;
}

int process_pidfd(const struct process *p)
{
        return p->pidfd;
}

int process_read(const struct process *p, uid_t ret_uids[3], char *ret_comm)
{
        struct proc_stat stat;
        uid_t uids[3];
        int r;

        r = proc_status_read(p->identity.pid, uids, NULL);
        if (r < 0)
                return r;
        r = proc_stat_read(p->identity.pid, &stat);
        if (r < 0)
                return r;
        if (stat.start_ticks != p->identity.start_ticks || proc_pidfd_exited(p->pidfd))
                return -ESRCH;
        memcpy(ret_uids, uids, sizeof uids);
        memcpy(ret_comm, stat.comm, sizeof stat.comm);
        return 0;
}

int process_watch(struct process *p)
{
        int r;

        if (p->exited)
                return -ESRCH;
        if (!p->exit_source) {
                r = sd_event_add_io(p->effects->event, &p->exit_source, p->pidfd, EPOLLIN, process_exited, p);
                if (r < 0)
                        return r;
                (void) sd_event_source_set_description(p->exit_source, "process-exit");
        }
        return 0;
}
