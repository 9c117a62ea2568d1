/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "tests/world/world.h"

/* What the tests of descendants share, where the kernel does not know them: no probe is started there, and
 * nobody has a control group of its own. */

static const struct policy quiet = {.signal = 0, .kill_after_usec = CTXD_USEC_INFINITY};
static const struct policy term = {.signal = SIGTERM, .kill_after_usec = CTXD_USEC_INFINITY};

struct child *start_three(void); /* it has a child, which has one, and goes when it is told to */
/* For child_start(): its child is told what to breed. */
void body_breeder_below(int in, int out);
/* The child in between goes, and its child becomes ours. */
void orphan(struct child *child, pid_t last);

/* The members of the context, max at most. Returns how many there are. */
size_t list(struct context *c, struct member_process *ret, size_t max);
/* Cancels it, and signals all. Returns how many. */
uint32_t cancel_all(struct context *c);

pid_t only_child_of(pid_t pid);
/* For proc_each_child(): of two pids the second one is the child that is not the first one. */
int take_other(void *userdata, pid_t child);
bool is_zombie(uint32_t pid);
