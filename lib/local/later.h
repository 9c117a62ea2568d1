/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/local/ctx.h"

/* What a cancel leaves to be freed (later.c). */

/* There may be something. The next unref looks at this. */
extern _Atomic bool later_any __attribute__((visibility("hidden")));

/* Called as later_take(), for what a cancel of a shared context has left. Set when the library is loaded;
 * NULL: there are no shared ones. */
extern void (*later_settle)(void) __attribute__((visibility("hidden")));
void later_shared(void);

/* A list of contexts, as of ctx_dead_add(). */
void later_contexts(struct ctx *dead);
/* A registration that has ended. */
void later_callback(struct ctx_after *after);
/* As cause_drop(). */
void later_cause_drop(struct cause *cause, int64_t n);

/* Frees what has been left, but for the contexts: these are returned, as a list. The caller holds no lock,
 * and is in no signal handler. */
struct ctx *later_take(void);
