/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/local/ctx.h"

/* The thread that runs callbacks, and the timers that end contexts which have some. */

struct ctx_timer {
        uint32_t index; /* in the heap, plus 1; 0: not there. Under the helper's lock */
        bool (*hold)(struct
                        ctx_timer *timer); /* under that lock: takes what fire() needs, or false: skip it */
        void (*fire)(struct ctx_timer *timer); /* with no lock held, once */
};

/* Starts the thread if there is none. 0 or why not. */
int callback_thread_start(void);
/* For a timer whose end is the library's own business, and must not wait for a callback of the program's: a second
 * thread that serves timers alone. In a program's own loop there is none. 0 or why not. */
int timer_thread_start(void);
int timer_arm(struct ctx_timer *timer, uint64_t deadline_usec);
/* After it, hold() is not called any more. */
void timer_disarm(struct ctx_timer *timer);

void callback_thread_push(struct ctx_after *after);
void callback_thread_wake(void);

/* For a program with a loop of its own: no thread is started, and this descriptor is readable (it is an epoll
 * descriptor, which can be polled or nested) when callback_thread_dispatch(0) has something to do, or when `other` is
 * readable, one that the caller serves. -EBUSY: there is a thread. */
int callback_thread_take_over(int other);
/* When to dispatch although the descriptor says nothing, on CLOCK_MONOTONIC; CTX_NEVER: not needed. */
uint64_t callback_thread_retry_usec(void);
/* Waits as epoll_wait does, and runs what is due, callbacks included. Was there anything? */
bool callback_thread_dispatch(int timeout);
