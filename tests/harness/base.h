/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What tests and benchmarks need to handle processes, files and time. It needs no test framework. If
 * something cannot be done, it prints a message and ends the program with status 1. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/clock.h"

#define WIDE_SEC 60 /* the limit for what has to happen, however busy the machine is */

/* Looks again and again until the condition holds. False if it did not hold within WIDE_SEC. */
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

/* Makes a directory that everybody may enter. The path must end in XXXXXX, which is replaced. */
void directory_make(char *path);
void directory_remove(const char *path); /* with all that is in it */

/* fork(). The child is killed when the parent ends. */
pid_t fork_tied(void);
/* Ties a child to its parent again. The kernel forgets the tie when the child changes its uid. */
void tie_to_parent(pid_t parent);

/* The letter of /proc/PID/task/TID/stat; 'X' if there is no such thread. */
char task_state(pid_t pid, pid_t tid);
/* Whether all threads of a process, except the thread `but` (0: no exception), wait for something to do. A
 * thread that has got something to do does not count as waiting, even if it has no CPU yet. */
bool process_sleeps(pid_t pid, pid_t but);
unsigned count_fds(pid_t pid); /* 0 if they cannot be counted */
unsigned count_eventfds(void); /* of this process */
bool may_open(unsigned n);     /* so many descriptors, by this process and those that it will start */
unsigned count_threads(void);  /* of this process */
