/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* Lifelines (law 29). The daemon holds the write end of a pipe, and clients hold read ends. When the last
 * read end is closed, however its holder has ended, the kernel tells the write end. So the daemon must not
 * keep a read end. When somebody asks again, it opens another one through the write end. Nobody ever writes.
 *
 * Clients get no write end: who writes holds the kernel's lock of the pipe while it reads his memory, which
 * may take him as long as he likes, and both to close our end and to open another one want that lock. A
 * client of another uid cannot open a write end either, because the mode of a pipe is 0600. Nor would a pair
 * of sockets do, because one holder's shutdown() hangs up for all. */

struct lifeline;
struct user;
struct world;

/* Makes a lifeline, which is charged to user as a handle. *ret_fd is the read end; the caller closes it.
 * -EDQUOT; another -errno. */
int lifeline_new(struct lifeline **ret, struct world *world, uint64_t context_id, struct user *user,
                int *ret_fd);
/* Returns another read end of the same pipe, which the caller closes, or -errno. */
int lifeline_open(const struct lifeline *l);
struct lifeline *lifeline_free(struct lifeline *l);
