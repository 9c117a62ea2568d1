/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* Lifelines (law 29). The daemon holds the read end of a pipe, and clients hold write ends. When the last
 * write end is closed, however its holder has ended, the kernel hangs up the read end. So the daemon must not
 * keep a write end. When somebody asks again, it opens another one through the read end. Nobody reads what a
 * client writes to the pipe; the pipe takes little, and then it is full. */

struct lifeline;
struct user;
struct world;

/* Makes a lifeline, which is charged to user as a handle. *ret_fd is the write end; the caller closes it.
 * -EDQUOT; another -errno. */
int lifeline_new(struct lifeline **ret, struct world *world, uint64_t context_id, struct user *user,
                int *ret_fd);
/* Returns another write end of the same pipe, which the caller closes, or -errno. */
int lifeline_open(const struct lifeline *l);
struct lifeline *lifeline_free(struct lifeline *l);
