/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* Done and drained handles. A process gets one eventfd of each kind for each context, and gets the same one
 * when it asks again. As another uid it gets another one. handle-write.h says how the daemon can write them,
 * whatever their holders do. */

struct anchor;
struct handles;
struct process;
struct user;
struct world;

enum handle_kind {
        HANDLE_DONE,
        HANDLE_DRAINED,
};

int handles_new(struct handles **ret, struct world *world);
struct handles *handles_free(struct handles *hs); /* all handles have to be dropped before */

/* Gives a handle, which is charged to user. The descriptor is borrowed and stays valid until the next
 * handles_close_spent(). 1: the process did not have it before. -EDQUOT; -EMFILE; another -errno. */
int handle_get(struct handles *hs, struct process *p, struct anchor *anchor, enum handle_kind kind,
                struct user *user, int *ret_fd);
/* Gives a handle that is readable from the beginning, for something that has happened already. The daemon
 * does not keep it, so nothing is charged. */
int handle_get_signalled(struct handles *hs, int *ret_fd);
/* The holder gives the handle up. -ENOENT: there is none, or it was signalled. */
int handle_drop(struct handles *hs, struct process *p, uid_t uid, struct anchor *anchor,
                enum handle_kind kind);

/* Makes all handles of that kind readable. Call handles_disarm() after the last of these calls. */
void handles_signal(struct handles *hs, struct anchor *anchor, enum handle_kind kind);
void handles_disarm(struct handles *hs);
/* Has the written handles freed soon. While a large end is under way (is_busy), it does so only if there are
 * too many of them. */
void handles_tidy(struct handles *hs, bool is_busy);
/* Frees some of the written handles now, because descriptors are short. Returns false if there were none. */
bool handles_give_back(struct handles *hs);
/* Closes the descriptors that handle_get_signalled() gave: they were sent by now. */
void handles_close_spent(struct handles *hs);

void handles_drop_context(struct handles *hs, struct anchor *anchor);
/* Frees up to n handles of a process; returns how many. The caller holds a reference to the process. */
uint32_t handles_drop_process(struct handles *hs, struct process *p, uint32_t n);
