/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>
#include <sys/queue.h>

#include "lib/blocking/ctx-futex.h"

/* Threads that work for one context. The first error of one of them cancels the others, and the caller can
 * wait for all.
 *
 * A thread is joined, so that nothing of it is left when a wait returns: not by the thread itself, but by who
 * waits, or by who starts the next one. If the group is given up before, its threads are detached. One lock
 * for all groups of the process guards what is in them. It is held over a fork, so that the child finds them
 * whole; but their threads are not there. */

struct member {
        TAILQ_ENTRY(member) entry;
        struct ctx_group *group;
        int (*fn)(struct ctx *ctx, void *userdata);
        void *userdata;
        int *ret_result;
        int result;
        bool entered;
        pthread_t thread;
        bool has_thread; /* thread is written */
        bool has_ended;  /* fn has returned */
};

TAILQ_HEAD(members, member);

struct ctx_group {
        _Atomic uint32_t refs;
        _Atomic uint32_t changed; /* a futex: another value after each change somebody may wait for */
        unsigned sleeping;        /* at that futex */
        unsigned running, limit;  /* limit 0: none */
        unsigned n_threads;       /* that were not joined yet */
        bool abandoned;
        unsigned fork_generation;
        int error;           /* the first one */
        struct cause *cause; /* of the error; NULL: that of the context */
        struct ctx *ctx;
        struct members active, ended; /* ended: they can be joined */
};

static inline bool group_is_of_parent_process(const struct ctx_group *group)
{
        return group->fork_generation != fork_generation;
}

extern struct lock group_lock;
/* The group that this thread belongs to. */
extern __thread struct ctx_group *group_own __attribute__((tls_model("initial-exec")));

/* Without the lock. */

void group_drop(struct ctx_group *group);
/* fn has returned r, a negative errno. */
void group_fail_plainly(struct ctx_group *group, int r);

/* The lock is held, in these. */

/* Something has changed that somebody may wait for. */
void group_changed(struct ctx_group *group);
/* Sleeps until something has changed in the group. The lock is released meanwhile, and not taken again if the
 * thread is cancelled. */
int group_sleep(struct ctx *ctx, struct ctx_group *group, enum futex_cancel cancel);
void member_free(struct members *members, struct member *member);
