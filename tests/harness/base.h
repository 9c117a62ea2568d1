/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What tests and benchmarks need of processes, files and time. It needs no test framework: what cannot be done ends the
 * program with a message and the status 1. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/clock.h"

#define WIDE_SEC 60 /* the limit for what has to happen, however busy the machine is */

/* Looks again and again until the condition holds, and is false if it did not within that limit. */
#define HAPPENS(condition)                                                               \
        ({                                                                               \
                uint64_t end_usec_ = now_boottime_usec() + WIDE_SEC * UINT64_C(1000000); \
                bool happened_;                                                          \
                                                                                         \
                while (!(happened_ = (condition)) && now_boottime_usec() < end_usec_)    \
                        nap(5000);                                                       \
                happened_;                                                               \
        })

_Noreturn void give_up(const char *what, int error);
void nap(uint64_t usec);

bool is_readable(int fd);      /* now */
bool becomes_readable(int fd); /* within the limit */

/* Makes a directory that everybody may enter. The path ends in XXXXXX, which is replaced. */
void directory_make(char *path);
void directory_remove(const char *path); /* with all that is in it */

/* fork(). The child is killed when the parent ends. */
pid_t fork_tied(void);
/* Ties a child to its parent once more: the kernel forgets it when the child changes its uid. */
void tie_to_parent(pid_t parent);

/* The letter of /proc/PID/task/TID/stat; 'X' if there is no such thread. */
char task_state(pid_t pid, pid_t tid);
/* All threads of a process, but for one (0: none), wait for something to do. Whoever has been given something is running,
 * though it may not have a CPU yet. */
bool process_sleeps(pid_t pid, pid_t but);
unsigned count_fds(pid_t pid);
unsigned count_threads(void); /* of this process */
