/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/local/ctx.h"

/* Makes a local context done for a signal handler that has interrupted the library (nest_is_inside()). done:
 * its new `end`, with no reference on a cause. 1, 0 as ctx_end(); -ENOMEM. */
int handler_end(struct ctx *ctx, uintptr_t done);
/* The same for a context that may be done already, while what is below it is not. */
int handler_finish(struct ctx *ctx, uintptr_t done);

struct postponed;
/* In the service thread: does what was left to it. Returns whether there was anything. */
bool handler_serve(void);
/* In the child of a fork: takes over what the handlers of another thread have put off. */
void handler_adopt(struct postponed *list);
