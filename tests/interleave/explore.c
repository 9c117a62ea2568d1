/* SPDX-License-Identifier: LGPL-2.1-or-later */
#undef _FORTIFY_SOURCE
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/local/poll-fd.h"
#include "tests/interleave/world.h"

/* Runs a program again and again, each time in another order. Before each run all variables of the program
 * and of the library are set back. */

extern char __data_start[], _edata[], __bss_start[], _end[];

static char *first_data, *first_bss;
static size_t data_size, bss_size;

static void keep_variables(void)
{
        data_size = (size_t) (_edata - __data_start);
        bss_size = (size_t) (_end - __bss_start);
        first_data = malloc(data_size);
        first_bss = malloc(bss_size);
        memcpy(first_bss, __bss_start, bss_size);
        memcpy(first_data, __data_start, data_size);
}

static void set_back(void)
{
        memcpy(__data_start, first_data, data_size);
        memcpy(__bss_start, first_bss, bss_size);
        coroutine_reset();
        memory_reset();
        descriptors_reset();
        for (size_t i = 0; i < THREADS_MAX; i++) {
                struct thread *thread = &world->threads[i];

                memset((char *) thread + offsetof(struct thread, state), 0,
                                sizeof *thread - offsetof(struct thread, state));
                thread->until_usec = NEVER;
        }
        world->current = NULL;
        world->now_usec = UINT64_C(1000000000);
        world->signal_is_due = world->program->on_signal;
        world->n_idle = world->n_steps = world->n_decisions = world->n_deviations = 0;
        world->n_preemptions = world->depth = 0;
}

static void *run_body(void *userdata)
{
        const struct program *program = world->program;

        program->threads[(uintptr_t) userdata]();
        return NULL;
}

/* Returns false if it failed. */
static bool run_once(void)
{
        const struct program *program = world->program;

        world->n_all_steps += world->n_steps;
        set_back();
        if (_setjmp(world->failed) != 0)
                return false;
        for (uintptr_t i = 0; i < 3; i++)
                if (program->threads[i])
                        thread_add(run_body, (void *) i, false);
        if (program->setup)
                program->setup();
        schedule_run();
        if (program->check)
                program->check();
        poll_fd_close_kept();
        if (!program->may_leak && memory_left() > 0)
                fail("%zu blocks of memory were not freed", memory_left());
        if (!program->may_leak && descriptors_left() > 0)
                fail("%u descriptors were not closed", descriptors_left());
        return true;
}

/* The next sequence of choices. */
static bool advance(void)
{
        while (world->n_choices > 0) {
                struct choice *last = &world->choices[world->n_choices - 1];

                if (last->taken + 1 < last->n) {
                        last->taken++;
                        return true;
                }
                world->n_choices--;
        }
        return false;
}

static double seconds_now(void)
{
        struct timespec ts;

        /* Not the function that the program sees. */
        timespec_get(&ts, TIME_UTC);
        return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

/* Of the processor: the machine may be busy with other things. */
static double seconds_used(void)
{
        return (double) clock() / CLOCKS_PER_SEC;
}

static void begin(const struct program *program, enum strategy strategy)
{
        world->program = program;
        world->strategy = strategy;
        world->replay = "";
        world->random = 88172645463325252ull;
        memset(world->shared, 0, sizeof world->shared);
        if (!first_bss)
                keep_variables();
}

/* Returns false if it failed. */
static bool run_with_bound(unsigned bound, uint64_t steps, uint64_t *ret_n)
{
        world->bound = bound;
        /* If an order shows that two threads use the same memory, where they were not let on before, it
         * begins again. */
        do {
                world->n_choices = 0;
                world->has_learned = false;
                *ret_n = 0;
                world->n_all_steps = 0;
                do {
                        world->depth = 0;
                        ++*ret_n;
                        if (!run_once())
                                return false;
                } while (!world->has_learned && world->n_all_steps <= steps && advance());
        } while (world->has_learned);
        return true;
}

static bool run_random(uint64_t n)
{
        world->bound = UINT32_MAX;
        world->one_in = 2u << (n % 6);
        return run_once();
}

struct result explore_all(const struct program *program, unsigned bound, uint64_t steps, bool quiet)
{
        double start = seconds_used();
        struct result result = {};

        begin(program, STRATEGY_ALL);
        /* Those with few preemptions come first, so that the order that is found is a simple one. */
        for (unsigned i = 0; i <= bound && !result.has_failed; i++) {
                uint64_t n;

                result.has_failed = !run_with_bound(i, steps, &n);
                if (world->n_all_steps > steps)
                        break;
                result.bound = i;
                result.n_orders = n;
        }
        if (result.bound < bound && !result.has_failed)
                world->strategy = STRATEGY_RANDOM;
        world->n_all_steps = 0;
        for (; world->strategy == STRATEGY_RANDOM && !result.has_failed && world->n_all_steps < steps / 4;
                        result.n_random++)
                result.has_failed = !run_random(result.n_random);
        if (result.has_failed && !quiet)
                report_failure();
        result.seconds = seconds_used() - start;
        return result;
}

struct result explore_random(const struct program *program, uint64_t seed, double seconds, bool quiet)
{
        double start = seconds_now();
        struct result result = {};

        begin(program, STRATEGY_RANDOM);
        world->random = (seed + 1) * 0x9E3779B97F4A7C15u;
        do
                result.has_failed = !run_random(result.n_random++);
        while (!result.has_failed && (result.n_random % 64 != 0 || seconds_now() - start < seconds));
        if (result.has_failed && !quiet)
                report_failure();
        result.seconds = seconds_now() - start;
        return result;
}

struct result explore_replay(const struct program *program, const char *deviations)
{
        struct result result = {.n_random = 1};

        begin(program, STRATEGY_REPLAY);
        world->replay = deviations;
        world->bound = UINT32_MAX;
        result.has_failed = !run_once();
        if (result.has_failed)
                report_failure();
        return result;
}
