/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/local/ctx.h"

/* The descriptor that threads of the library poll until a context is done (poll-fd.c). */

/* The calling thread is going to poll. Returns a descriptor that becomes readable once a cancel has made the
 * source done; it is not to be read, written or kept. Or a negative errno. The deadline and a shared ancestor
 * do not make it readable. A cancel that came before this call may not either: the caller looks at the state
 * once more before it sleeps. */
int poll_fd_enter(struct ctx *source);
/* After a success, when the thread polls no more. generation: the fork_generation at the time of the other
 * call. */
void poll_fd_leave(struct ctx *source, unsigned generation);

/* Makes it readable, if a thread polls it. The state is set, and no lock is held. */
void poll_fd_fire(struct ctx *source, struct extra *extra);
void poll_fd_free(struct extra *extra);
/* Closes those that nobody uses now. */
void poll_fd_close_kept(void);
