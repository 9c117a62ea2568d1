/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The library's own thread, which serves what may happen at any time: timers, descriptors, callbacks that
 * wait. It runs no callbacks of the program. Or the same in the program's own event loop. */

/* Starts the thread if it is not running. Does nothing with an event loop of the program's. 0 or a negative
 * errno. */
int service_thread_start(void);
/* The same, and sees to it that callbacks are run. */
int callback_thread_start(void);
/* From now on calls serve() when fd is readable. It returns whether it has done anything. fd stays there
 * until a fork. The thread has been started. */
int service_thread_add(int fd, bool (*serve)(void));

/* What hangup.c has in the same epoll set has this bit in its data, and is served there. */
#define HANGUP_MARK (UINT64_C(1) << 63)
struct epoll_event;
int service_thread_watch(int operation, int fd, struct epoll_event *event); /* as epoll_ctl(2) */
void service_thread_unwatch(int fd);
void hangup_serve(uint64_t data, uint32_t events);

/* May be called in a signal handler. false: also with an event loop of the program's. */
bool service_thread_is_there(void);
void service_thread_wake(void);
/* After pool_push(). May be called in a signal handler. */
void callback_thread_wake(void);

/* For a program with its own event loop. No thread is started. Returns an epoll descriptor, which can be
 * polled and nested. It is readable when callback_thread_dispatch() has something to do, and when `other` is
 * readable, which the caller serves. -EBUSY: the thread is running. */
int callback_thread_take_over(int other);
/* Does what is due, runs the callbacks that wait, and does not wait for more. Returns whether there was
 * anything. */
bool callback_thread_dispatch(void);
