/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

/* Control groups, of the second version: in the unified hierarchy, wherever that is mounted. */

/* The directory of the group that a process is in, to be freed. -ENOENT: there is no unified hierarchy, or it is in
 * the root of it, or in one that we do not see; -ESRCH: there is no such process. */
int cgroup_of(pid_t pid, char **ret_directory);

/* Calls cb for each process in the group and those below it; stops when that returns other than 0, and returns it.
 * A group that has gone has none. */
int cgroup_each(const char *directory, int (*cb)(void *userdata, pid_t pid), void *userdata);

/* Its cgroup.events: a descriptor that polls with EPOLLPRI when what it says has changed, until it is asked. */
int cgroup_events_open(const char *directory);
/* 1: there are processes in it or below it; 0: there are none, or it has gone. */
int cgroup_events_populated(int fd);
