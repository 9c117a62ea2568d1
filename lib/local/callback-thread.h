/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/local/ctx.h"

/* The thread that runs callbacks, and the timers that make contexts with callbacks done at their deadline. */

struct ctx_timer {
        /* The index in the heap, plus 1; 0: it is not there. Read and written under the lock of the heap. */
        uint32_t index;
        /* Called under that lock, when the timer is due. Takes the references that fire() needs; false:
         * fire() is not called. */
        bool (*hold)(struct ctx_timer *timer);
        /* Called once after hold(), without a lock. */
        void (*fire)(struct ctx_timer *timer);
};

/* Starts the thread if it is not running. 0, or a negative errno. */
int callback_thread_start(void);
/* Starts a second thread, which serves timers only, if it is not running. A timer for a direct callback needs
 * it: it must not wait until a callback of the program returns. With an event loop of the program's there is
 * no such thread. 0, or a negative errno. */
int timer_thread_start(void);
int timer_arm(struct ctx_timer *timer, uint64_t deadline_usec);
/* After this, hold() is not called any more. */
void timer_disarm(struct ctx_timer *timer);
/* Sets a timerfd to a time of its clock. 0 or a negative errno. */
int timer_set_fd(int fd, uint64_t usec);

void callback_thread_push(struct ctx_after *after);
void callback_thread_wake(void);

/* For a program with its own event loop. No thread is started. Returns an epoll descriptor, which can be
 * polled and nested. It is readable when callback_thread_dispatch(0) has something to do, and when `other` is
 * readable, which the caller serves. -EBUSY: the thread is running. */
int callback_thread_take_over(int other);
/* When to dispatch even if the descriptor is not readable, on CLOCK_MONOTONIC; CTX_NEVER: not needed. */
uint64_t callback_thread_retry_usec(void);
/* Waits as epoll_wait() does, and then runs what is due. Returns whether there was anything. */
bool callback_thread_dispatch(int timeout);
