/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/local/ctx.h"

/* What was first, a cancel from above or the deadline (overdue.c). */

/* The process has local contexts with a deadline. */
extern _Atomic bool deadline_in_use __attribute__((visibility("hidden")));

/* To be called before a context with children is made done, and when all below it is done. The first returns
 * the time; 0: it is not needed, since no context has a deadline. */
uint64_t walk_begin(void);
void walk_over(uint64_t began);
/* The same for one that a thread of that stripe (nest_thread_stripe()) has begun. */
void walk_over_for(unsigned stripe, uint64_t began);

/* The deadline of an active context has passed. Its new `end`, with a reference on the cause. */
uintptr_t deadline_end(struct ctx *source);
