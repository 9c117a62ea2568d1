/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Threads that are members one by one, as their process says in its thread page (proto/thread-page.h).
 * thread-page.c makes the page and names what its threads may enter; thread-look.c reads it. */

struct anchor;
struct membership;
struct process;
struct processes;
struct thread_pages;
struct user;
struct world;

int thread_pages_new(struct thread_pages **ret, struct world *world, struct membership *membership);
struct thread_pages *thread_pages_free(struct thread_pages *tp);

/* The page of a process and its kick, made on first use and borrowed; its threads may enter that context from
 * now on. Charged to user. -EDQUOT, and of what: enum resource in *ret_resource; -EMFILE; another -errno. */
int thread_page_get(struct thread_pages *tp, struct process *p, struct anchor *anchor, struct user *user,
                int *ret_page, int *ret_kick, int *ret_resource);

/* Reads the pages: how many threads are in it. A page that was read is not read again until
 * thread_pages_forget(). */
uint32_t threads_look(struct thread_pages *tp, struct anchor *anchor);
void thread_pages_forget(struct thread_pages *tp);

struct entered_thread {
        struct process *process; /* borrowed */
        uint32_t tid;
        uint64_t since_usec;
};

/* Those in it now. The caller frees the list. */
int threads_list(struct thread_pages *tp, const struct anchor *anchor, struct entered_thread **ret,
                size_t *ret_n);

void threads_drop_context(struct anchor *anchor);
/* It has exited; contexts that its threads were in become facts. */
void threads_drop_process(struct thread_pages *tp, struct process *p);
