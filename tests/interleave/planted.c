/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/interleave/tester.h"
#include "util/clock.h"

/* The tester itself: programs with a fault of order, each of a kind, which it has to find; and programs that
 * are right although they look alike, where it must find nothing. */

static _Atomic uint32_t one, two, word;
static _Atomic(int *) pointer;

static void sleep_while(_Atomic uint32_t *futex, uint32_t value)
{
        syscall(SYS_futex, futex, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake_all(_Atomic uint32_t *futex)
{
        syscall(SYS_futex, futex, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0);
}

/* The number is not added in one step. */
static void add_in_two_steps(void)
{
        atomic_store(&word, atomic_load(&word) + 1);
}

static void add_in_one_step(void)
{
        atomic_fetch_add(&word, 1);
}

static void word_is_two(void)
{
        EXPECT(word == 2);
}

/* It looks at one word, and sleeps whatever that is by then. */
static void sleep_late(void)
{
        if (atomic_load(&word) == 0)
                sleep_while(&two, 0);
}

static void wake_without_change(void)
{
        atomic_store(&word, 1);
        wake_all(&two);
}

static void sleep_right(void)
{
        while (atomic_load(&word) == 0)
                sleep_while(&word, 0);
}

static void wake_right(void)
{
        atomic_store(&word, 1);
        wake_all(&word);
}

/* Locks that spin, in this order and in the other. */
static void lock(_Atomic uint32_t *spin)
{
        uint32_t free_word = 0;

        while (!atomic_compare_exchange_strong(spin, &free_word, 1))
                while (atomic_load(spin))
                        free_word = 0;
}

static void lock_one_then_two(void)
{
        lock(&one);
        lock(&two);
        atomic_store(&two, 0);
        atomic_store(&one, 0);
}

static void lock_two_then_one(void)
{
        lock(&two);
        lock(&one);
        atomic_store(&one, 0);
        atomic_store(&two, 0);
}

/* The same with locks that sleep. */
static void sleep_lock(_Atomic uint32_t *futex)
{
        while (atomic_exchange(futex, 1))
                sleep_while(futex, 1);
}

static void sleep_unlock(_Atomic uint32_t *futex)
{
        atomic_store(futex, 0);
        wake_all(futex);
}

static void sleep_one_then_two(void)
{
        sleep_lock(&one);
        sleep_lock(&two);
        sleep_unlock(&two);
        sleep_unlock(&one);
}

static void sleep_two_then_one(void)
{
        sleep_lock(&two);
        sleep_lock(&one);
        sleep_unlock(&one);
        sleep_unlock(&two);
}

static void make_number(void)
{
        pointer = malloc(sizeof(int));
        *pointer = 7;
        word = 2;
}

/* "Am I the last?" in two steps. */
static void drop_badly(void)
{
        if (atomic_load(&word) == 1) {
                free(pointer);
                return;
        }
        atomic_fetch_sub(&word, 1);
        EXPECT(*pointer == 7);
}

static void drop(void)
{
        EXPECT(*pointer == 7);
        if (atomic_fetch_sub(&word, 1) == 1)
                free(pointer);
}

/* Neither of the two may think that it is the last. */
static void drop_in_two_steps(void)
{
        uint32_t n = atomic_load(&word);

        atomic_store(&word, n - 1);
        if (n == 1)
                free(pointer);
}

static void free_number(void)
{
        free(atomic_load(&pointer));
}

/* The deadline is compared with a time that was read before. */
static void look_at_time(void)
{
        uint64_t deadline = atomic_load(&word) ? 2000000000 : 1000001000;

        if (now_boottime_usec() >= deadline)
                EXPECT(atomic_load(&word) == 0);
}

static void extend(void)
{
        atomic_store(&word, 1);
        clock_advance(2000);
}

static void hold_a_lock(void)
{
        lock(&one);
        atomic_store(&one, 0);
}

static void set_in_handler(void)
{
        atomic_store(&word, 2);
}

static void nothing(void) {}

static void free_at_cancel(void *memory)
{
        free(memory);
        wake_right();
}

static void sleep_and_be_cancelled(void)
{
        void *memory = malloc(1);

        pthread_cleanup_push(free_at_cancel, memory);
        for (int i = 0; i < 3; i++)
                pthread_testcancel();
        pthread_cleanup_pop(1);
}

static void hold_and_be_cancelled(void)
{
        lock(&one);
        pthread_testcancel();
        atomic_store(&one, 0);
}

static void cancel_a(void)
{
        cancel_thread('A');
}

static void take_after_cancel(void)
{
        cancel_thread('A');
        hold_a_lock();
}

static void fork_and_lock(void)
{
        fork_as_child();
        hold_a_lock();
}

const struct program planted_programs[] = {
                {"planted_lost_update", NULL, {add_in_two_steps, add_in_two_steps}, word_is_two, .bound = 1,
                                .finds = "word == 2"},
                {"sound_update", NULL, {add_in_one_step, add_in_one_step}, word_is_two, .bound = 3},
                {"planted_lost_wakeup", NULL, {sleep_late, wake_without_change}, .bound = 1,
                                .finds = "nobody wakes thread A"},
                {"sound_wakeup", NULL, {sleep_right, wake_right, sleep_right}, .bound = 3},
                {"planted_spinning_deadlock", NULL, {lock_one_then_two, lock_two_then_one}, .bound = 1,
                                .finds = "spins for ever"},
                {"sound_spinning_locks", NULL, {lock_one_then_two, lock_one_then_two}, .bound = 3},
                {"planted_sleeping_deadlock", NULL, {sleep_one_then_two, sleep_two_then_one}, .bound = 1,
                                .finds = "nobody wakes thread A B"},
                {"sound_sleeping_locks", NULL, {sleep_one_then_two, sleep_one_then_two}, .bound = 3},
                {"planted_use_after_free", make_number, {drop_badly, drop_badly}, .bound = 2,
                                .finds = "used after it was freed"},
                {"planted_leak", make_number, {drop_in_two_steps, drop_in_two_steps}, .bound = 2,
                                .finds = "not freed"},
                {"sound_references", make_number, {drop, drop}, .bound = 3},
                {"planted_double_free", make_number, {free_number, free_number}, .bound = 0,
                                .finds = "freed before is freed"},
                {"planted_old_time", NULL, {look_at_time, extend}, .bound = 1, .finds = "word) == 0"},
                {"planted_lock_in_a_handler", NULL, {hold_a_lock}, .on_signal = hold_a_lock, .bound = 1,
                                .finds = "spins for ever"},
                {"planted_handler_between", NULL, {add_in_two_steps, nothing}, word_is_two, set_in_handler,
                                .bound = 1, .finds = "word == 2"},
                {"sound_handler_that_wakes", NULL, {sleep_right, nothing}, NULL, wake_right, .bound = 2},
                {"planted_cancel_with_a_lock", NULL, {hold_and_be_cancelled, take_after_cancel}, .bound = 2,
                                .finds = "spins for ever"},
                {"sound_cancel", NULL, {sleep_and_be_cancelled, cancel_a, sleep_right}, .bound = 2},
                {"planted_fork_with_a_lock", NULL, {hold_a_lock, fork_and_lock}, .bound = 2,
                                .finds = "spins for ever"},
                {},
};
