/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Reads /proc/PID/stat and status of processes of clients, for a program that nobody may hold up.
 *
 * Who reads them can be made to wait. Newer kernels lock stat while the process is in execve(), which closes
 * the process's files, and a file system of its user's own can make that last. And who reads either while
 * the process ends may be the last who has its memory. Then the reader closes the files that are mapped
 * there, from which no signal wakes it.
 *
 * So another process reads, and the caller waits for that one only for a moment. A reader that hangs is left
 * alone, and the next one takes its place: until the first one wakes up that process is refused, with
 * -EBUSY. What the caller has waited is charged to the user of the process (proc-reader-blame.c).
 *
 * Not yet: all else that is opened below /proc/PID (comm, cgroup, task/TID/children) can hang as well. To
 * look a name up there takes the lock of the directory if the name is not cached. A thread of the process can
 * hold that: it reads the directory (getdents64()) into a page that is not there, while another one waits to
 * open a new file in it.
 *
 * A program has one reader at most, and reads by itself as long as it has not started that. */

struct proc_stat;
struct proc_status;

/* -errno. The program may have no descriptors of clients yet, the last close of which could hang. */
int proc_reader_start(void);
void proc_reader_stop(void);
bool proc_reader_is_there(void);

/* For proc_read() alone. */
int proc_reader_read(pid_t pid, struct proc_stat *ret_stat, struct proc_status *ret_status);

/* How long the caller has waited for its reader, which costs it no time of its processor. */
uint64_t proc_reader_waited_usec(void);
