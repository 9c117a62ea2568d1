/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

/* The callbacks that have to run, and the threads that run them. */

struct ctx_after;

/* Adds one. Takes no lock, because the caller may hold locks of nests, and wakes nobody. */
void pool_push(struct ctx_after *after);
/* The next one; NULL: there is none. ret_more: there are others behind it, and callback_thread_wake() has to
 * be called for them. */
struct ctx_after *pool_take(bool *ret_more);
/* How many there are. */
unsigned pool_waiting(void);

/* Starts the first thread if there is none, which stays. 0 or a negative errno. */
int pool_start(void);
/* Wakes a thread that has nothing to do. False: all are in callbacks, and pool_tend() is needed. */
bool pool_wake(void);
/* Sees to it that what waits is run soon, if need be by one more thread. Returns after how many milliseconds
 * it has to be called again; -1: not before pool_wake() returns false. */
int pool_tend(void);
