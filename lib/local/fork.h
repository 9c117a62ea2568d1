/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

#include "lib/local/lock.h"

/* What happens to the library in a child of fork(2): the one handler, and the parts of the library that take
 * part in it.
 *
 * In the child only the thread that has forked goes on. A lock that another thread held at that moment is
 * held for ever, and the library's own threads do not exist. So each part that has a lock or a thread for the
 * whole process registers itself, in a constructor. Before the fork the locks of all parts are taken, in the
 * order of their ranks. So what they guard is complete in the child. Then it waits for the lists of children,
 * and for walks (inside.h). */

struct fork_part {
        struct lock *lock;      /* NULL: none is taken */
        void (*in_child)(void); /* called under that lock; NULL: there is nothing to do */
        struct fork_part *next;
};

void fork_register(struct fork_part *part);
/* Before a thread is inside for the first time, or takes a lock of a part. */
void fork_first_use(void);

/* Registers a part when the library is loaded: FORK_PART(.lock = ..., .in_child = ...) */
#define FORK_PART(...)                                                    \
        static struct fork_part fork_part = {__VA_ARGS__};                \
                                                                          \
        __attribute__((constructor)) static void register_fork_part(void) \
        {                                                                 \
                fork_register(&fork_part);                                \
        }

/* How many forks there are between the start of the program and this process. The mark is the same number, as
 * it stands beside CTX_LOCK in the word of a nest. A lock with another mark was held by a thread of the
 * parent process during the fork: here it counts as free. */
extern unsigned fork_generation __attribute__((visibility("hidden")));
extern uint32_t fork_lock_mark __attribute__((visibility("hidden")));
