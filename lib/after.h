/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/ctx.h"

enum after_state {
        AFTER_PENDING,
        AFTER_QUEUED,
        AFTER_STOPPED,
        AFTER_RUNNING,
        AFTER_RUNNING_AWAITED, /* somebody sleeps until it is over */
        AFTER_FINISHED,
};

/* A callback stands in the context's list of children, so that to register is to link and to stop is to unlink, and
 * holds the context as a child does. Two references: the program's, and that of the registration, which goes when
 * the callback is stopped or over. */
struct ctx_after {
        struct child child;
        _Atomic uint32_t state;   /* enum after_state; a futex */
        uint32_t heap_index;      /* plus 1, in the helper's heap of deadlines; 0: not there. Under its lock */
        struct ctx_after *queued; /* the next in the helper's queue */
        void (*fn)(void *userdata);
        void *userdata;
        unsigned fork_generation;
};

/* On the helper's thread: runs it, unless it was stopped, and ends the registration. */
void after_run(struct ctx_after *after);
