/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

#include "lib/local/lock.h"

/* What becomes of the library in a child of fork(2): the one handler, and those who take part in it.
 *
 * In the child only the thread that forked goes on. What other threads held at that moment is held for ever, and the
 * library's own threads are not there. So a part of the library that has a lock or a thread of the whole process
 * registers itself, in a constructor. Before the fork the locks of all parts are taken, in the order of their ranks,
 * so that what they guard is whole in the child. */

struct fork_part {
        struct lock *lock;      /* NULL: none is taken */
        void (*in_child)(void); /* under that lock; NULL: there is nothing to put right */
        struct fork_part *next;
};

void fork_register(struct fork_part *part);

/* How many forks lie between the program's start and this process; and the same as it stands beside CTX_LOCK in the
 * word of a nest. A nest's lock with another mark was held by a thread of the parent process when it forked: nobody
 * holds it here. */
extern unsigned fork_generation;
extern uint32_t fork_lock_mark;
