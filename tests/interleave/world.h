/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/interleave/tester.h"

/* The inside of the tester: the state that stays while everything else is set back for the next order. */

#define THREADS_MAX 12
#define STEPS_MAX 20000
#define CHOICES_MAX 4096
#define KEYS_MAX 8
#define NEVER UINT64_MAX

enum step_kind {
        STEP_LOAD,
        STEP_STORE,
        STEP_UPDATE,
        STEP_WAIT,
        STEP_WAKE,
        STEP_CLOCK,
        STEP_CALL,
        STEP_FREE,
        STEP_YIELD,
};

enum thread_state {
        THREAD_ABSENT,
        THREAD_READY,
        THREAD_BLOCKED,
        THREAD_ENDED,
};

struct thread {
        jmp_buf entry; /* where it begins, on its own stack */
        jmp_buf here;
        unsigned char *tls; /* its thread-local variables, while it does not run */

        /* From here on for one order. */
        enum thread_state state;
        bool is_librarys; /* nobody waits for it at the end */
        bool yields;
        void *(*fn)(void *userdata);
        void *userdata;
        int saved_errno;

        /* While it is blocked. */
        const void *words[2]; /* of a futex */
        bool (*is_ready)(struct thread *thread);
        const void *ready_data;
        uint64_t until_usec;
        bool was_woken;

        /* The last load, and how often it was the same one. */
        const void *load_address, *load_pc;
        uint64_t load_value;
        unsigned n_loads;

        /* n_cancellable: in how many cancellation points it is, and whether it may be cancelled anywhere. */
        bool cancel_pending, cancel_disabled, is_asynchronous, is_cancelled;
        unsigned n_cancellable;
        void *cleanup; /* __pthread_unwind_buf_t, the innermost */
        bool signals_blocked;
        void *keys[KEYS_MAX];
};

/* One step of the order that is running: for the report. */
struct trace {
        const void *pc, *address;
        uint8_t thread, kind;
};

/* A decision that was not the usual one: at which, and who goes on ('!': the signal is delivered). */
struct deviation {
        uint32_t at;
        char to;
};

/* A decision that can be made differently, for the search. */
struct choice {
        const void *pc;
        uint8_t n, taken;
        bool is_free; /* the thread that was running could not go on: not a preemption */
};

enum strategy {
        STRATEGY_ALL,
        STRATEGY_RANDOM,
        STRATEGY_REPLAY,
};

struct world {
        const struct program *program;
        bool is_exploring;
        uint64_t now_usec;
        struct thread threads[THREADS_MAX], *current;
        jmp_buf main, failed;
        char message[512];
        bool signal_is_due;
        unsigned n_idle; /* how often in a row all threads only gave way */

        struct trace steps[STEPS_MAX];
        uint32_t n_steps;
        uint64_t n_all_steps; /* of all orders up to now */
        uint32_t n_decisions;
        struct deviation deviations[CHOICES_MAX];
        uint32_t n_deviations;

        enum strategy strategy;
        unsigned bound, n_preemptions;
        struct choice choices[CHOICES_MAX];
        uint32_t n_choices, depth;
        uint64_t random;
        unsigned one_in; /* random: how seldom a thread is preempted */
        const char *replay;

        /* Which memory is used by several threads: only there another thread is let on. Learned. */
        struct {
                uintptr_t key;
                uint32_t threads;
        } shared[4096];
        bool has_learned;
};

/* Allocated, so that it is not set back. */
extern struct world *world;

/* coroutine.c */
void coroutine_init(void);
void coroutine_reset(void);
struct thread *thread_add(void *(*fn)(void *userdata), void *userdata, bool is_librarys);
void coroutine_switch(struct thread *next);
/* The thread-local variables of the stack that is no coroutine. */
void coroutine_keep_main(void);
void coroutine_back_to_main(void);

/* schedule.c */
/* Before an operation of the current thread. */
void step(enum step_kind kind, const void *address, const void *pc);
/* After a load. */
void step_loaded(const void *address, uint64_t value, const void *pc);
/* The current thread, whose words, is_ready and until_usec the caller sets before it blocks. */
struct thread *thread_about_to_block(void);
/* Until it is woken or ready: 0; until the time is there: ETIMEDOUT; or until a signal: EINTR. */
int thread_block(void);
_Noreturn void thread_end(void);
char thread_name(const struct thread *thread);
/* Runs all threads until none can go on. */
void schedule_run(void);

/* choose.c: which of n goes on. The first one is the usual one. */
unsigned choose(const char *names, unsigned n, bool is_free, const void *pc);

/* explore.c */
struct result {
        uint64_t n_orders;
        unsigned bound;    /* up to so many preemptions these are all orders */
        uint64_t n_random; /* and so many others */
        double seconds;
        bool has_failed;
};
/* Runs a program in all orders with up to bound preemptions, but if these have more steps, only in all with
 * fewer preemptions, and in some random ones; in random ones from a seed, for some seconds; or in one.
 * Stops at the first failure, and prints it unless quiet. */
struct result explore_all(const struct program *program, unsigned bound, uint64_t steps, bool quiet);
struct result explore_random(const struct program *program, uint64_t seed, double seconds, bool quiet);
struct result explore_replay(const struct program *program, const char *deviations);

/* report.c */
void report_failure(void);

/* memory.c */
void memory_init(void);
void memory_reset(void);
/* Is it memory that may be used? The message says what is wrong, or NULL. */
void memory_check(const void *address, size_t size);
/* The block or word that an address belongs to. */
uintptr_t memory_key(const void *address);
/* What has not been freed. */
size_t memory_left(void);

/* descriptors.c */
void descriptors_reset(void);
unsigned descriptors_left(void);
/* A system call without the C library's function, which is no cancellation point. Returns false if it is none
 * of a descriptor's. */
bool descriptor_syscall(long number, const long a[6], const void *pc, long *ret);

/* pthreads.c */
/* A cancellation point, which waits between begin and end, or does not. May not return. */
void cancellation_point(void);
void cancellation_begin(void);
void cancellation_end(void);
bool cancellation_is_due(const struct thread *thread);
void run_key_destructors(struct thread *thread);
