/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/local/ctx.h"
#include "lib/local/timer.h"

enum after_state {
        AFTER_PENDING,
        AFTER_QUEUED,
        AFTER_STOPPED,
        AFTER_RUNNING,
        AFTER_RUNNING_AWAITED, /* and a thread sleeps until the callback has returned */
        AFTER_FINISHED,
};

/* A callback. It is in the context's list of children, and holds the context as a child does. To register is
 * to link it, and to stop is to unlink it. There are two references: that of the program, and that of the
 * registration. The registration ends when the callback is stopped or has returned, and its timer does not
 * fire just then. So its place in the list keeps the context alive for the timer, which takes no reference on
 * it: the last one may be given up at that moment. */
struct ctx_after {
        struct child child;
        _Atomic uint32_t state; /* enum after_state; a futex */
        /* The source of its context; NULL if that is never done. Only who holds it may look into it. */
        struct ctx *ctx;
        /* A reference on what was registered with, if the place in the list does not hold that; or NULL. */
        struct ctx *held;
        bool timed; /* the timer may be in the heap */
        /* With a timer: 1 until the callback is stopped or has returned, and 1 while the timer fires. */
        _Atomic uint8_t holds;
        /* fn is the library's own, and does not block. Whichever thread makes the context done runs it. */
        bool direct;
        struct ctx_timer timer; /* fires at the context's deadline */
        /* The next in the queue. While it runs: the callback in which its thread has been before. */
        struct ctx_after *queued;
        void (*fn)(void *userdata);
        void *userdata;
        /* Of the process in which it was registered; and while it runs, of the one in which it runs. */
        unsigned fork_generation;
};

struct ctx_after *after_new(struct ctx *ctx, void (*fn)(void *userdata), void *userdata, bool direct);
/* Runs the callback unless it was stopped. Then the registration ends. */
void after_run(struct ctx_after *after);
/* The registration ends. Contexts that have to be freed now are put on *dead, as by ctx_drop(). */
void after_end(struct ctx_after *after, struct ctx **dead);
