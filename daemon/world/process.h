/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

/* Processes. A process is known by its pid and its start time. The daemon reads both from /proc, and then
 * looks whether the pidfd still lives. If it does, the two belong to the process of that pidfd, so a process
 * that gets the pid later is never taken for it. There is one object for each process. */

struct anchor;
struct attached;
struct handle;
struct process;
struct processes;
struct threads;
struct world;

/* What other rooms have tied to a process. Each room changes only its own fields. */
struct process_ties {
        LIST_HEAD(, handle) handles;
        LIST_HEAD(, anchor) owned;
        struct attached *attached;    /* membership, backend direct */
        LIST_HEAD(, attached) reaped; /* the same: whose orphans are its children */
        uint64_t parted_ticks;        /* but those that have started since then are nobody's; 0: all are */
        bool is_moving;               /* membership: from one backend to another */
        struct threads *threads;      /* thread-page */
};

int processes_new(struct processes **ret, struct world *world);
struct processes *processes_free(struct processes *ps); /* all references have to be given up before */

/* Gives a reference to the process of a pidfd, which is duplicated. -ESRCH: the process has exited, or is not
 * in our pid namespace; -EINVAL: the descriptor is no pidfd, or a thread's; -EBUSY: it cannot be looked at
 * now (util/proc-reader.h). */
int process_acquire(struct processes *ps, int pidfd, struct process **ret);
/* The same by pid and start time. With start_ticks 0 it takes the process that has the pid now. */
int process_acquire_pid(struct processes *ps, pid_t pid, uint64_t start_ticks, struct process **ret);
/* The same where that gives -EBUSY, for one whose start time was read before: it is still its parent's child.
 * -EOPNOTSUPP: the kernel does not tell. */
int process_acquire_child(
                struct processes *ps, pid_t pid, uint64_t start_ticks, pid_t parent, struct process **ret);
/* Gives the object of a process if there is one, without a reference; else NULL. */
struct process *process_find(struct processes *ps, pid_t pid, uint64_t start_ticks);
struct process *process_ref(struct process *p);
struct process *process_unref(struct process *p);

/* From now on the exit of the process is raised as a fact. -ESRCH: it has exited. */
int process_watch(struct process *p);
/* Raises that fact once more: there was more to do than one turn takes. */
void process_exit_again(struct process *p);

pid_t process_pid(const struct process *p);
uint64_t process_start_ticks(const struct process *p);
int process_pidfd(const struct process *p); /* borrowed; nobody else may have the file (given.h) */
int process_open(const struct process *p);  /* one for others; -ESRCH: it has exited */
uid_t process_uid(const struct process *p); /* the real one, when it was last acquired */
/* The real, effective and saved one, as they were then. */
const uid_t *process_uids(const struct process *p);
const char *process_comm(const struct process *p);
bool process_is_kernel(const struct process *p);  /* a thread of the kernel */
bool process_has_exited(const struct process *p); /* as far as we have noticed */
struct process_ties *process_ties(struct process *p);

/* Reads the real, effective and saved uid, and the command (16 bytes with NUL). -ESRCH: it has gone. */
int process_read(const struct process *p, uid_t ret_uids[3], char *ret_comm);
/* Reads the command again. After an exit this works while there is still a zombie. */
void process_update_comm(struct process *p);

static inline void process_unrefp(struct process **p)
{
        process_unref(*p);
}
