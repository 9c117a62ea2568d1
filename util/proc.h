/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What /proc says of a process. All of it is a look at one instant: who needs it to be of one process for
 * certain holds a pidfd meanwhile and compares the start time. */

#define PROC_COMM_SIZE 16

struct proc_stat {
        char state;
        bool is_kernel; /* a thread of the kernel */
        pid_t ppid;
        unsigned n_threads;   /* a zombie with more than one lives on in others than its leader */
        uint64_t start_ticks; /* since boot, as this time namespace sees it */
        uint64_t cpu_ticks;   /* the time that it has run, in user space and in the kernel */
        uint64_t rss_pages;   /* the memory that it has in RAM */
        char comm[PROC_COMM_SIZE];
};

/* Reads a file of /proc that fits, as a string. 0, or a negative errno; -ESRCH where it does not exist. */
int proc_read_small(const char *path, char *text, size_t size);

int proc_stat_parse(const char *text, struct proc_stat *ret); /* -EBADMSG */

/* It may not have been reaped yet. */
static inline bool proc_is_dead(const struct proc_stat *stat)
{
        return (stat->state == 'Z' && stat->n_threads <= 1) || stat->state == 'X';
}

struct proc_status {
        pid_t tgid, ppid; /* its process, where pid is a thread's; and the parent of that */
        uid_t uids[3];    /* real, effective, saved */
        gid_t gid;        /* the effective one */
        uint64_t pending; /* signals that were sent to it, or to its process, and are not handled yet */
        uint64_t blocked, ignored, caught;
};

/* What is NULL is not read. 0, or a negative errno: -ESRCH: there is no such process; -EBUSY: it cannot be
 * looked at now (util/proc-reader.h). To ask for both at once is cheaper. */
int proc_read(pid_t pid, struct proc_stat *ret_stat, struct proc_status *ret_status);
int proc_stat_read(pid_t pid, struct proc_stat *ret);
int proc_status_read(pid_t pid, struct proc_status *ret);
/* The command, for which no process makes anybody wait. */
int proc_comm_read(pid_t pid, char ret_comm[PROC_COMM_SIZE]);

/* The same, by the caller itself, who may wait for as long as the process likes. */
int proc_stat_read_directly(pid_t pid, struct proc_stat *ret);
/* With memory of the caller's, from which proc_status_uid() can be told while the call goes on. */
int proc_status_read_directly(pid_t pid, char *text, size_t size, struct proc_status *ret);
bool proc_status_uid(const char *text, uid_t *ret); /* the real one */

/* Whether the process could do something of its own on that signal: it catches it, or blocks it for a thread
 * that waits for it (the program itself, not the C library for the time of a fork). *ret_ignored: it does
 * nothing at all. */
bool proc_handles_signal(const struct proc_status *status, int signal, bool *ret_ignored);
/* Whether it was sent to the process, or to its main thread, and not handled yet. */
bool proc_signal_is_pending(pid_t pid, int signal);

/* Whether a descriptor is a pidfd. Nothing is asked of the file itself, which may be anybody's: some answer
 * only after a long time, or never. */
bool proc_fd_is_pidfd(int fd);

/* Whether descriptors wait in a socket of AF_UNIX; true also if this cannot be known. */
bool proc_socket_holds_fds(int fd);

/* The process that a pidfd stands for, in the caller's numbering. -EBADF: no pidfd; -ESRCH: reaped, or
 * elsewhere. */
int proc_pidfd_to_pid(int pidfd, pid_t *ret);

/* The process has exited; its zombie may still be there. pidfd must be known to be one. */
bool proc_pidfd_exited(int pidfd);

struct pidfd_owner {
        pid_t pid, tgid, ppid;
        uid_t uids[3]; /* real, effective, saved */
};

/* Whose process a pidfd stands for, from the kernel, which waits for nobody: Linux 6.13, else -EOPNOTSUPP.
 * -ESRCH: it has been reaped. */
int pidfd_owner(int pidfd, struct pidfd_owner *ret);

/* How /proc shows a start time that the kernel has in ns. */
uint64_t proc_nsec_to_ticks(uint64_t nsec);
uint64_t proc_ticks_to_nsec(uint64_t ticks);

/* Calls cb for each child that pid has now; stops when that returns other than 0, and returns it. */
int proc_each_child(pid_t pid, int (*cb)(void *userdata, pid_t child), void *userdata);

int pidfd_open_process(pid_t pid); /* descriptor, or -errno */
int pidfd_signal(int pidfd, int signal);
