/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The process whose exit ends a context (law 28). The pidfd tells of the exit, so another process that gets
 * the pid later is never taken for the owner, and an owner that had exited before is noticed at once. */

struct anchor;
struct process;

/* Once it is set it stays: -EBUSY. -ESRCH: the process has exited. */
int owner_bind(struct anchor *anchor, struct process *p);
void owner_unbind(struct anchor *anchor); /* if it has one */
