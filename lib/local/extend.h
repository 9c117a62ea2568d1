/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/local/ctx.h"

/* Deadlines that are moved (extend.c). */

/* A deadline was moved, or is going to be, somewhere in this process. */
extern _Atomic bool deadline_moves __attribute__((visibility("hidden")));

/* The deadline of the context's own, whatever is above; CTX_NEVER: it has none. */
uint64_t deadline_own(const struct ctx *source);
/* The cause that belongs to the deadline that counts, where deadlines were moved. Nothing above may be freed
 * meanwhile. */
struct cause *deadline_cause_from(const struct ctx *source);
/* Looks again at what is above: it may have been moved while the context was being linked. */
void deadline_recheck(struct ctx *source);

/* mover.c: the timer of a context whose deadline was moved. */

struct mover;
/* Locks the context, and sees to it that there is a timer if one is needed for this deadline. 0, or a
 * negative errno without the lock. */
int mover_lock(struct ctx *source, struct extra *extra, uint64_t usec);
/* When the deadline has been moved, and the lock is released. */
void mover_correct(const struct ctx *source, struct extra *extra);
void mover_free(struct mover *mover);
/* For a timer: the deadline, and none that a thread has tried to set just now and takes back. */
uint64_t deadline_settled(struct ctx *source);
