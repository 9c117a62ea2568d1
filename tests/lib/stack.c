/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "lib/local/stack.h"
#include "tests/law/local.h"

/* Is it certain that the caller is in no signal handler? If it says so in one, a thread may wait for itself.
 * If it does not say so elsewhere, the daemon learns of a cancel later than it could. */

static volatile int in_handler;

static void handler(int signal)
{
        in_handler = stack_is_ordinary();
}

__attribute__((noinline)) static int far_below(unsigned depth, int (*fn)(void))
{
        volatile char room[1000];

        room[depth % sizeof room] = 1;
        return depth == 0 ? fn() : far_below(depth - 1, fn) + (room[depth % sizeof room] - 1);
}

static int is_ordinary(void)
{
        return stack_is_ordinary();
}

static int is_interrupted(void)
{
        in_handler = -1;
        raise(SIGUSR1);
        return in_handler;
}

static void deep_handler(int signal)
{
        in_handler = far_below(300, is_ordinary);
}

static void set_handler(void (*fn)(int), int flags)
{
        struct sigaction action = {.sa_handler = fn, .sa_flags = flags};

        sigaction(SIGUSR1, &action, NULL);
}

static void on_other_stack(char *memory, size_t size)
{
        stack_t before;

        ck_assert_int_eq(sigaltstack(&(stack_t){.ss_sp = memory, .ss_size = size}, &before), 0);
        set_handler(handler, SA_ONSTACK);
        ck_assert_int_eq(is_interrupted(), 0);
        ck_assert_int_eq(sigaltstack(&before, NULL), 0);
}

static void *look(void *unused)
{
        char here[65536];
        void *there = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (stack_is_ordinary())
                ck_assert_int_eq(far_below(300, is_ordinary), 1);
        for (int flags = 0; flags <= SA_SIGINFO; flags += SA_SIGINFO) {
                set_handler(handler, flags | SA_NODEFER);
                ck_assert_int_eq(is_interrupted(), 0);
                ck_assert_int_eq(far_below(300, is_interrupted), 0);
        }
        set_handler(deep_handler, 0);
        ck_assert_int_eq(is_interrupted(), 0);
        on_other_stack(here, sizeof here);
        on_other_stack(there, 65536);
        munmap(there, 65536);
        return NULL;
}

static void in_thread(void *(*fn)(void *), size_t size)
{
        pthread_attr_t attr;
        pthread_t thread;

        pthread_attr_init(&attr);
        if (size > 0)
                pthread_attr_setstacksize(&attr, size);
        ck_assert_int_eq(pthread_create(&thread, &attr, fn, NULL), 0);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        pthread_attr_destroy(&attr);
}

START_TEST(a_handler_is_found_wherever_it_is)
{
        look(NULL);
        in_thread(look, 0);
        in_thread(look, 1 << 20);
}
END_TEST

static void *expect_ordinary(void *unused)
{
        ck_assert(stack_is_ordinary());
        ck_assert_int_eq(far_below(300, is_ordinary), 1);
        return NULL;
}

START_TEST(a_thread_that_no_signal_has_met_is_ordinary)
{
#if defined(__x86_64__) || defined(__aarch64__)
        expect_ordinary(NULL);
        in_thread(expect_ordinary, 0);
        in_thread(expect_ordinary, 1 << 20);
#endif
}
END_TEST

static ucontext_t back, other;
static int on_coroutine;

static void run_coroutine(void)
{
        on_coroutine = is_interrupted();
}

/* Its stack ends where nothing can be read. */
START_TEST(a_stack_of_the_programs_own)
{
        char *memory = mmap(NULL, 4 * 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        ck_assert_int_eq(mprotect(memory + 65536, 65536, PROT_READ | PROT_WRITE), 0);
        set_handler(handler, 0);
        getcontext(&other);
        other.uc_stack.ss_sp = memory + 65536;
        other.uc_stack.ss_size = 65536;
        other.uc_link = &back;
        makecontext(&other, run_coroutine, 0);
        swapcontext(&back, &other);
        ck_assert_int_eq(on_coroutine, 0);
        munmap(memory, 4 * 65536);
}
END_TEST

int main(void)
{
        const TTest *tests[] = {a_handler_is_found_wherever_it_is,
                        a_thread_that_no_signal_has_met_is_ordinary, a_stack_of_the_programs_own, NULL};

        return run_laws("the stack of a signal handler", tests);
}
