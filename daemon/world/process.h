/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

/* Processes. One is its pid and its start time: a pidfd that was alive after both had been read holds that
 * very process, so a number that was used again is never taken for it. To ask again for the same one gives
 * the same object. */

struct anchor;
struct attached;
struct handle;
struct process;
struct processes;
struct threads;
struct world;

/* What other rooms have tied to a process; each changes its own. */
struct process_ties {
        LIST_HEAD(, handle) handles;
        LIST_HEAD(, anchor) owned;
        struct attached *attached; /* membership, backend direct */
        bool is_moving;            /* membership, from one backend to another */
        struct threads *threads;   /* thread-page */
};

int processes_new(struct processes **ret, struct world *world);
struct processes *processes_free(struct processes *ps); /* all processes were given up */

/* The pidfd is duplicated. -ESRCH: it has exited, or is not in our pid namespace; -EINVAL: no pidfd, or a
 * thread's. The caller owns a reference. */
int process_acquire(struct processes *ps, int pidfd, struct process **ret);
/* start_ticks 0: whoever has that pid now. */
int process_acquire_pid(struct processes *ps, pid_t pid, uint64_t start_ticks, struct process **ret);
/* One that is there; borrowed, or NULL. */
struct process *process_find(struct processes *ps, pid_t pid, uint64_t start_ticks);
struct process *process_ref(struct process *p);
struct process *process_unref(struct process *p);

/* Its exit becomes a fact from now on. 0; -ESRCH: it has exited. */
int process_watch(struct process *p);

pid_t process_pid(const struct process *p);
uint64_t process_start_ticks(const struct process *p);
int process_pidfd(const struct process *p); /* borrowed */
uid_t process_uid(const struct process *p); /* the real one, when it was last acquired */
const char *process_comm(const struct process *p);
bool process_has_exited(const struct process *p); /* as far as was noticed */
struct process_ties *process_ties(struct process *p);

/* From /proc, now: real, effective and saved uid, and command (16 bytes with NUL). -ESRCH: it has gone. */
int process_read(const struct process *p, uid_t ret_uids[3], char *ret_comm);
/* After its exit: the command it had last, as far as its zombie still says. */
void process_update_comm(struct process *p);

static inline void process_unrefp(struct process **p)
{
        process_unref(*p);
}
