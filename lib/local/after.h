/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/local/callback-thread.h"

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
        _Atomic uint32_t state; /* enum after_state; a futex */
        struct ctx *ctx;  /* its source; NULL: one that is never done. Not to be looked into unless held */
        struct ctx *held; /* a reference, where the place in the list does not hold what was asked for */
        bool timed;       /* armed, perhaps */
        bool direct;      /* fn is the library's own and does not block: run by whoever makes it done */
        struct ctx_timer timer;   /* the context's deadline */
        struct ctx_after *queued; /* the next in the queue */
        void (*fn)(void *userdata);
        void *userdata;
        unsigned fork_generation;
};

struct ctx_after *after_new(struct ctx *ctx, void (*fn)(void *userdata), void *userdata, bool direct);
/* Runs it, unless it was stopped, and ends the registration. */
void after_run(struct ctx_after *after);
