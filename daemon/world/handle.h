/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

/* Done and drained handles: one eventfd of each kind for each process and context. Asking again gives the
 * same one. handle.c says how they are written, whatever their holders do. */

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
struct handles *handles_free(struct handles *hs); /* all were dropped */

/* Borrowed, valid until the next handles_close_spent(); charged to user. -EDQUOT; -EMFILE; another -errno. */
int handle_get(struct handles *hs, struct process *p, struct anchor *anchor, enum handle_kind kind,
                struct user *user, int *ret_fd);
/* The same of what has happened already: nothing is kept of it, and so nothing is charged. */
int handle_get_signalled(struct handles *hs, int *ret_fd);
/* The holder gives it up. -ENOENT: there is none, or it was signalled. */
int handle_drop(struct handles *hs, struct process *p, struct anchor *anchor, enum handle_kind kind);

/* All of that kind become readable; then handles_disarm(), once for many. */
void handles_signal(struct handles *hs, struct anchor *anchor, enum handle_kind kind);
void handles_disarm(struct handles *hs);
/* What was written is let go of soon; while a large end is under way (is_busy), only where there is too much
 * of it. */
void handles_tidy(struct handles *hs, bool is_busy);
/* Now, since descriptors are short. False: there was none to give back. */
bool handles_give_back(struct handles *hs);
/* Those that handle_get_signalled() gave were sent by now. */
void handles_close_spent(struct handles *hs);

void handles_drop_context(struct handles *hs, struct anchor *anchor);
void handles_drop_process(struct handles *hs, struct process *p);
