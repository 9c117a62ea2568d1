/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The owner of a context is a process whose exit cancels it (law 28). The owner's pidfd tells of the exit. So
 * another process that gets the pid later is never taken for the owner, and an owner that has exited before
 * is noticed at once. */

struct anchor;
struct process;

/* -EBUSY: the context has an owner, which stays. -ESRCH: the process has exited. */
int owner_bind(struct anchor *anchor, struct process *p);
/* Does nothing if there is no owner. */
void owner_unbind(struct anchor *anchor);
