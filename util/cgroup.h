/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

/* Control groups of version 2, in the unified hierarchy, wherever that is mounted. */

/* The directory of the group that a process is in; the caller frees it. -ENOENT: there is no unified
 * hierarchy, or the process is in its root, or in a group that we do not see. -ESRCH: there is no such
 * process. */
int cgroup_of(pid_t pid, char **ret_directory);

/* Whether the freezer holds a process: the nearest group that was told to freeze. 1, and the caller frees the
 * directory; 0; or -errno as above. */
int cgroup_frozen_by(pid_t pid, char **ret_directory);

/* Calls cb for each process in the group and in the groups below it. Stops when cb returns a value other than
 * 0, and returns that. A group that has gone has no processes. */
int cgroup_each(const char *directory, int (*cb)(void *userdata, pid_t pid), void *userdata);

/* Opens the group's cgroup.events. The descriptor polls with EPOLLPRI when the content has changed since it
 * was last read. */
int cgroup_events_open(const char *directory);
/* 1: there are processes in it or below it; 0: there are none, or it has gone. */
int cgroup_events_populated(int fd);
