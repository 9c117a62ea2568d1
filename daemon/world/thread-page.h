/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Threads that have entered a context one by one. Their process says so in its thread page
 * (proto/thread-page.h). thread-page.c makes the page, and notes which contexts the threads may enter.
 * thread-look.c reads the page. */

struct anchor;
struct membership;
struct process;
struct processes;
struct thread_pages;
struct user;
struct world;

int thread_pages_new(struct thread_pages **ret, struct world *world, struct membership *membership);
struct thread_pages *thread_pages_free(struct thread_pages *tp);

/* Gives the page of a process, and the eventfd by which the process kicks the daemon. Both are borrowed, and
 * made on first use, and again where the process has become another user's. From now on the threads of the
 * process may enter that context. This is charged to user. 1: they could not before. -EDQUOT: *ret_resource
 * (enum resource) says which limit it is; -EMFILE; another -errno. */
int thread_page_get(struct thread_pages *tp, struct process *p, struct anchor *anchor, struct user *user,
                int *ret_page, int *ret_kick, int *ret_resource);

/* Returns how many threads are in the context. It reads the pages for that, but none twice before
 * thread_pages_forget() is called. */
uint32_t threads_look(struct thread_pages *tp, struct anchor *anchor);
void thread_pages_forget(struct thread_pages *tp);

struct entered_thread {
        struct process *process; /* borrowed */
        uint32_t tid;
        uint64_t since_usec;
};

/* Lists the threads that are in the context now. The caller frees the list. */
int threads_list(struct thread_pages *tp, const struct anchor *anchor, struct entered_thread **ret,
                size_t *ret_n);

/* The context is forgotten. */
void threads_drop_context(struct anchor *anchor);
/* The process does not enter that context any more. */
void threads_leave(struct thread_pages *tp, struct process *p, struct anchor *anchor);
/* The process has exited. Raises a fact for each done context that its threads could be in. */
void threads_drop_process(struct thread_pages *tp, struct process *p);
