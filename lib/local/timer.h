/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Timers that make contexts done at their deadline, where nobody may ask before: contexts with callbacks, and
 * those whose deadline was moved. */

struct ctx_timer {
        /* The index in the heap, plus 1; 0: it is not there. Read and written under the lock of the heap. */
        uint32_t index;
        /* Called under that lock, when the time has come. Returns the deadline as it is now: if it was moved
         * to a later time, the timer waits on. Else it takes what fire() needs. */
        uint64_t (*hold)(struct ctx_timer *timer, uint64_t now_usec);
        /* Called once after hold(), without a lock. */
        void (*fire)(struct ctx_timer *timer);
};

/* How long after a refusal the kernel is asked for a timer again. */
#define TIMER_RETRY_MSEC 100

int timer_arm(struct ctx_timer *timer, uint64_t deadline_usec);
/* Arms it, or sets it to an earlier time: at a later one hold() finds out. After a failure it stays armed, if
 * it was. */
int timer_set(struct ctx_timer *timer, uint64_t deadline_usec);
/* Gives a timer that was armed another time. It cannot fail. A timer that has fired, or was armed before a
 * fork, stays as it is. */
void timer_move(struct ctx_timer *timer, uint64_t deadline_usec);
/* After this, hold() is not called any more. */
void timer_disarm(struct ctx_timer *timer);
/* Sets a timerfd to a time of its clock. 0 or a negative errno. */
int timer_set_fd(int fd, uint64_t usec);

/* The timerfd, which becomes readable when there is something to fire; or a negative errno. Before the first
 * timer. */
int timer_open(void);
void timer_close(void);
/* When the descriptor is readable. Returns false: nothing has been done yet. */
bool timer_drain(void);
/* Fires what is due. Returns whether there was anything. */
bool timer_fire_due(void);
/* When to fire even if the descriptor is not readable, on CLOCK_MONOTONIC; CTX_NEVER: not needed. */
uint64_t timer_retry_usec(void);
