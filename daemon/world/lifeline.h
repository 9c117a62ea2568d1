/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* Lifelines (law 29). We hold the read end of a pipe, and nothing but read ends: the kernel hangs it up when
 * the last write end is closed, however its holders have ended. So we keep no write end to give out again;
 * another one is opened through the read end. Nobody reads what is written to it; a pipe holds little, and no
 * more than that. */

struct lifeline;
struct user;
struct world;

/* Charged as a handle to user. *ret_fd is the write end, the caller's. -EDQUOT; another -errno. */
int lifeline_new(struct lifeline **ret, struct world *world, uint64_t context_id, struct user *user,
                int *ret_fd);
/* Another write end of the same pipe, the caller's, or -errno. */
int lifeline_open(const struct lifeline *l);
struct lifeline *lifeline_free(struct lifeline *l);
