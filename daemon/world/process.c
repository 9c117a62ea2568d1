/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include <unistd.h>
#include <uthash.h>

#include "daemon/world/process.h"
#include "daemon/world/world.h"
#include "util/cleanup.h"
#include "util/proc.h"
#include "util/watch.h"

struct process {
        struct processes *processes;
        unsigned n_ref;
        struct {
                pid_t pid;
                uint64_t start_ticks;
        } identity;
        int pidfd;
        uid_t uids[3]; /* real, effective, saved */
        char comm[PROC_COMM_SIZE];
        bool has_exited, is_kernel;
        struct watch exit;
        struct fact exited;
        struct process_ties ties;
        UT_hash_handle hh;
};

struct processes {
        struct world *world;
        struct process *by_identity;
};

int processes_new(struct processes **ret, struct world *world)
{
        struct processes *ps = calloc(1, sizeof *ps);

        if (!ps)
                return -ENOMEM;
        ps->world = world;
        *ret = ps;
        return 0;
}

struct processes *processes_free(struct processes *ps)
{
        if (!ps)
                return NULL;
        assert(!ps->by_identity);
        free(ps);
        return NULL;
}

void process_exit_again(struct process *p)
{
        fact_raise(&p->processes->world->facts, &p->exited);
}

static void on_exit_event(struct watch *w)
{
        struct process *p = (struct process *) ((char *) w - offsetof(struct process, exit));

        p->has_exited = true;
        process_exit_again(p);
        facts_wake(&p->processes->world->facts);
}

struct process *process_find(struct processes *ps, pid_t pid, uint64_t start_ticks)
{
        struct process *p;
        struct {
                pid_t pid;
                uint64_t start_ticks;
        } identity;

        /* The padding is hashed, too. */
        memset(&identity, 0, sizeof identity);
        identity.pid = pid;
        identity.start_ticks = start_ticks;
        HASH_FIND(hh, ps->by_identity, &identity, sizeof identity, p);
        return p;
}

/* A pidfd may tell whose it is, which saves a file. */
static int read_identity(int pidfd, pid_t pid, struct proc_stat *ret_stat, uid_t ret_uids[3], pid_t *ret_tgid)
{
        struct proc_status status;
        struct pidfd_owner owner;
        bool tells = pidfd_owner(pidfd, &owner) >= 0;
        int r = proc_read(pid, ret_stat, tells ? NULL : &status);

        if (r < 0)
                return r;
        memcpy(ret_uids, tells ? owner.uids : status.uids, sizeof owner.uids);
        *ret_tgid = tells ? owner.tgid : status.tgid;
        return 0;
}

/* Takes pidfd over. Reads again what may have changed of one that is known. */
static int process_make(struct processes *ps, int pidfd, pid_t pid, const struct proc_stat *stat,
                const uid_t uids[3], struct process **ret)
{
        struct process *p = process_find(ps, pid, stat->start_ticks);

        if (p) {
                memcpy(p->uids, uids, sizeof p->uids);
                memcpy(p->comm, stat->comm, sizeof p->comm);
                close(pidfd);
                *ret = process_ref(p);
                return 0;
        }

        p = calloc(1, sizeof *p);
        if (!p)
                return -ENOMEM;
        p->processes = ps;
        p->n_ref = 1;
        p->identity.pid = pid;
        p->identity.start_ticks = stat->start_ticks;
        p->exited = (struct fact){
                        .kind = FACT_PROCESS_EXITED, .id = (uint64_t) pid, .start_ticks = stat->start_ticks};
        LIST_INIT(&p->ties.handles);
        LIST_INIT(&p->ties.owned);
        LIST_INIT(&p->ties.reaped);
        memcpy(p->uids, uids, sizeof p->uids);
        memcpy(p->comm, stat->comm, sizeof p->comm);
        HASH_ADD(hh, ps->by_identity, identity, sizeof p->identity, p);
        if (!p->hh.tbl) {
                free(p);
                return -ENOMEM;
        }
        p->pidfd = pidfd;
        p->is_kernel = stat->is_kernel;
        *ret = p;
        return 0;
}

/* Takes pidfd over on success. */
static int process_get(
                struct processes *ps, int pidfd, pid_t pid, uint64_t wanted_ticks, struct process **ret)
{
        struct proc_stat stat;
        uid_t uids[3];
        pid_t tgid;
        int r;

        r = read_identity(pidfd, pid, &stat, uids, &tgid);
        if (r < 0)
                return r;
        if (proc_pidfd_exited(pidfd) || (wanted_ticks > 0 && stat.start_ticks != wanted_ticks))
                return -ESRCH;
        if (tgid != pid)
                return -EINVAL; /* a thread's */
        return process_make(ps, pidfd, pid, &stat, uids, ret);
}

int process_acquire(struct processes *ps, int pidfd, struct process **ret)
{
        _cleanup_close_ int fd = -1;
        pid_t pid;
        int r;

        /* This comes first, because anything else could block on a hostile descriptor. */
        r = proc_pidfd_to_pid(pidfd, &pid);
        if (r < 0)
                return r == -EBADF ? -EINVAL : r;
        fd = fcntl(pidfd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
                return -errno;
        r = process_get(ps, fd, pid, 0, ret);
        if (r >= 0)
                TAKE_FD(fd);
        return r;
}

int process_acquire_pid(struct processes *ps, pid_t pid, uint64_t start_ticks, struct process **ret)
{
        _cleanup_close_ int fd = -1;
        struct process *p;
        int r;

        if (pid <= 0)
                return -ESRCH;
        fd = pidfd_open_process(pid);
        /* Older and newer kernels say in these two ways that the number is a thread's. */
        if (fd == -EINVAL || fd == -ENOENT)
                return -ESRCH;
        if (fd < 0)
                return fd;
        r = process_get(ps, fd, pid, start_ticks, ret);
        if (r >= 0)
                TAKE_FD(fd);
        p = r == -EBUSY ? process_find(ps, pid, start_ticks) : NULL;
        if (p && !proc_pidfd_exited(p->pidfd)) {
                *ret = process_ref(p);
                return 0;
        }
        return r == -EINVAL ? -ESRCH : r;
}

int process_acquire_child(
                struct processes *ps, pid_t pid, uint64_t start_ticks, pid_t parent, struct process **ret)
{
        _cleanup_close_ int fd = pidfd_open_process(pid);
        struct proc_stat stat = {.start_ticks = start_ticks};
        struct pidfd_owner owner;
        int r = fd < 0 ? fd : pidfd_owner(fd, &owner);

        if (r >= 0)
                r = proc_comm_read(pid, stat.comm);
        if (r >= 0 && (owner.ppid != parent || proc_pidfd_exited(fd)))
                r = -ESRCH;
        if (r >= 0)
                r = process_make(ps, fd, pid, &stat, owner.uids, ret);
        if (r >= 0)
                TAKE_FD(fd);
        return r;
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
        assert(LIST_EMPTY(&p->ties.handles) && LIST_EMPTY(&p->ties.owned) && !p->ties.attached &&
                        LIST_EMPTY(&p->ties.reaped) && !p->ties.threads);
        fact_withdraw(&p->processes->world->facts, &p->exited);
        HASH_DEL(p->processes->by_identity, p);
        watch_end(&p->exit);
        close(p->pidfd);
        free(p);
        return NULL;
}

pid_t process_pid(const struct process *p)
{
        return p->identity.pid;
}

uint64_t process_start_ticks(const struct process *p)
{
        return p->identity.start_ticks;
}

int process_open(const struct process *p)
{
        int fd = pidfd_open_process(p->identity.pid);

        /* Until it has exited nobody else can have its pid. */
        if (fd >= 0 && proc_pidfd_exited(p->pidfd)) {
                close(fd);
                return -ESRCH;
        }
        return fd;
}

int process_pidfd(const struct process *p)
{
        return p->pidfd;
}

uid_t process_uid(const struct process *p)
{
        return p->uids[0];
}

const uid_t *process_uids(const struct process *p)
{
        return p->uids;
}

const char *process_comm(const struct process *p)
{
        return p->comm;
}

bool process_is_kernel(const struct process *p)
{
        return p->is_kernel;
}

bool process_has_exited(const struct process *p)
{
        return p->has_exited;
}

struct process_ties *process_ties(struct process *p)
{
        return &p->ties;
}

void process_update_comm(struct process *p)
{
        char comm[PROC_COMM_SIZE];
        pid_t pid;

        /* As long as it is not reaped nobody else can have its pid. */
        if (proc_comm_read(p->identity.pid, comm) >= 0 && proc_pidfd_to_pid(p->pidfd, &pid) >= 0)
                memcpy(p->comm, comm, sizeof p->comm);
}

int process_read(const struct process *p, uid_t ret_uids[3], char *ret_comm)
{
        struct proc_status status;
        struct pidfd_owner owner;
        char comm[PROC_COMM_SIZE];
        bool tells = pidfd_owner(p->pidfd, &owner) >= 0;
        int r = tells ? 0 : proc_status_read(p->identity.pid, &status);

        if (r >= 0)
                r = proc_comm_read(p->identity.pid, comm);
        if (r < 0)
                return r;
        if (proc_pidfd_exited(p->pidfd))
                return -ESRCH;
        memcpy(ret_uids, tells ? owner.uids : status.uids, sizeof owner.uids);
        memcpy(ret_comm, comm, sizeof comm);
        return 0;
}

int process_watch(struct process *p)
{
        if (p->has_exited)
                return -ESRCH;
        if (p->exit.watches)
                return 0;
        p->exit.ready = on_exit_event;
        return watch_begin(p->processes->world->watches, &p->exit, p->pidfd, EPOLLIN);
}
