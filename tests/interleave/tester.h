/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The tester of interleavings: what its programs see of it.
 *
 * A program is two or three short threads and what has to hold. The tester runs it in every order that has at
 * most some number of preemptions, or in random orders. All threads are coroutines of one thread, so an order
 * can be repeated exactly. Another thread can go on before each atomic operation, each call that waits or
 * wakes, each look at the clock and each free(). The library and the programs are compiled with
 * -fsanitize=thread, which makes a call out of every access to memory, and the tester has these functions
 * (accesses.c). So the library is tested as it is.
 *
 * Memory is sequentially consistent here: what a missing barrier does, ThreadSanitizer has to find
 * (lib-storm-tsan). Between two atomic operations no other thread runs, since plain memory is not shared
 * without a lock.
 *
 * These are failures: an expectation that does not hold; an access to memory that was freed, or is not
 * allocated; memory or descriptors that are left at the end; threads that wait for each other, or for a
 * wake-up that was lost; a thread that spins for ever.
 *
 * A thread that reads the same word with the same value over and over spins, and gives way until another
 * thread has written something. So do sched_yield() and nanosleep(). */

struct program {
        const char *name;
        /* Runs alone, before the threads. All variables have their first values again. */
        void (*setup)(void);
        /* A, B and C. They start in any order. */
        void (*threads[3])(void);
        /* Runs alone, when the threads have ended and the library's own threads have nothing to do. */
        void (*check)(void);
        /* A signal handler. It runs once, or not at all, at any step of thread A. */
        void (*on_signal)(void);
        /* How many preemptions ./test tries. A signal counts as one. */
        unsigned bound;
        bool may_leak; /* a thread is cancelled or forked away, and its own objects stay */
        /* There is a fault, and the tester has to find it, with a message that has this in it. */
        const char *finds;
};

/* Each ends with one that has no name. */
extern const struct program local_programs[], deadline_programs[], lock_programs[], channel_programs[],
                shared_programs[], remote_programs[], callback_programs[], signal_programs[],
                cancel_programs[], planted_programs[];

#define EXPECT(condition) ((condition) ? (void) 0 : fail("%s:%d: %s", __FILE__, __LINE__, #condition))
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Virtual time, in µs, on every clock. It moves if a thread moves it; and if all threads sleep, and one of
 * them for a limited time. */
uint64_t clock_now(void);
void clock_advance(uint64_t usec);

/* pthread_cancel() of thread 'A', 'B' or 'C'. */
void cancel_thread(char name);
/* What fork() does to the calling thread, with the library's handlers. The program says in which of the two
 * processes it goes on: in the child there is no other thread. */
void fork_as_child(void);
void fork_as_parent(void);

/* Is the descriptor readable? Not a step. */
bool fd_is_readable(int fd);
/* Another process writes to its copy of an eventfd. Ours may be closed by then. */
void fd_fill(int fd);
