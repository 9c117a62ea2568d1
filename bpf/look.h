/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* A look at a process of somebody's can take as long as its owner likes. Where it is in the middle of an
 * execve(), which its own file system makes last, most files of its /proc directory wait for that; and where
 * its memory is a file of such a file system, so does who reads it. So another process of ours looks, at one
 * after the other. Where that takes too long it is killed, and the one at whom it looked is left out for a
 * while; and where this comes often, or looks sleep for long in all (look-cost.h), all of the same user (or
 * his block of uids, util/share.h). What others leak is reported meanwhile. It is a process and no thread,
 * since a thread cannot be killed alone, and what it hangs in may keep the kernel from other things. To ask
 * it costs some 15 us.
 *
 * A look is a function and what it is about, in memory that both share. It may use all that was there before
 * the other process was forked, and has its own copy of it. */

#define LOOK_JOB_MAX 262144

/* Forks the other process now: later there may be no room for one. */
void look_start(void);
/* For the next look; all 0 up to size, which is LOOK_JOB_MAX at most. NULL: there is no memory. It is there
 * until look_run() fails. */
void *look_job(size_t size);
/* Calls run with that, in the other process. pid, uid: at whom it looks, and who pays; 0: nobody else's
 * is left out for it. 0; -EBUSY: it took too long, now or before, so that nothing is known; or another
 * -errno. */
int look_run(void (*run)(void *job), pid_t pid, uid_t uid);
/* Who is to pay: the real user, where the kernel says it (Linux 6.13), or else the effective one. */
uid_t look_payer(pid_t pid);
/* For run(): a number of its own, below LOOKERS_MAX, for each of those processes that is still there. */
unsigned look_place(void);
/* The other process does not keep that open. It would seem to others that we are there as long as it is. */
void look_without(int fd);
void look_stop(void);

/* As open(), fstat() and read() of a file of /proc that fits; the text ends with a NUL. Its length, or
 * -errno. ret_owner may be NULL. */
ssize_t look_file(const char *path, pid_t pid, uid_t uid, char *ret, size_t size, uid_t *ret_owner);
