/* SPDX-License-Identifier: LGPL-2.1-or-later */
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/interleave/world.h"

/* When one thread gives way to another. */

/* So many equal loads in a row are a thread that spins. */
#define LOADS_MAX 3
#define IDLE_MAX 500

char thread_name(const struct thread *thread)
{
        return thread ? (char) ('A' + (thread - world->threads)) : '-';
}

void fail(const char *format, ...)
{
        va_list args;

        va_start(args, format);
        vsnprintf(world->message, sizeof world->message, format, args);
        va_end(args);
        world->is_exploring = false;
        _longjmp(world->failed, 1);
}

static bool is_over(struct thread *thread)
{
        return thread->was_woken || thread->until_usec <= world->now_usec ||
               (thread->is_ready && thread->is_ready(thread));
}

static bool may_be_interrupted(const struct thread *thread)
{
        return world->signal_is_due && thread == &world->threads[0] && !thread->signals_blocked;
}

static bool is_enabled(struct thread *thread)
{
        if (thread->state == THREAD_READY)
                return true;
        return thread->state == THREAD_BLOCKED &&
               (is_over(thread) || may_be_interrupted(thread) || cancellation_is_due(thread));
}

/* Those that can go on instead of the current one. */
static unsigned others(struct thread **ret, char *names)
{
        unsigned n = 0;

        for (size_t i = 0; i < THREADS_MAX; i++) {
                struct thread *thread = &world->threads[i];

                if (thread == world->current || thread->yields || !is_enabled(thread))
                        continue;
                names[n] = thread_name(thread);
                ret[n++] = thread;
        }
        return n;
}

static bool end_yields(void)
{
        bool any = false;

        for (size_t i = 0; i < THREADS_MAX; i++) {
                any |= world->threads[i].yields;
                world->threads[i].yields = false;
        }
        return any;
}

/* Everybody sleeps: the earliest of those that sleep for a limited time wakes up. */
static bool pass_time(void)
{
        uint64_t earliest = NEVER;

        for (size_t i = 0; i < THREADS_MAX; i++)
                if (world->threads[i].state == THREAD_BLOCKED && world->threads[i].until_usec < earliest)
                        earliest = world->threads[i].until_usec;
        if (earliest == NEVER)
                return false;
        world->now_usec = earliest;
        return true;
}

static void check_all_ended(void)
{
        char text[200] = "";

        for (size_t i = 0; i < THREADS_MAX; i++) {
                const struct thread *thread = &world->threads[i];

                if (thread->state == THREAD_BLOCKED && !thread->is_librarys)
                        snprintf(text + strlen(text), sizeof text - strlen(text), " %c", thread_name(thread));
        }
        if (*text)
                fail("nobody wakes thread%s any more", text);
}

/* The current thread cannot go on, or wants to give way. */
static void give_way(const void *pc)
{
        struct thread *next[THREADS_MAX];
        char names[THREADS_MAX + 2];
        unsigned n;

        while ((n = others(next, names)) == 0) {
                if (world->current && world->current->state == THREAD_READY) {
                        /* It spins, and nobody else can do anything. */
                        if (++world->n_idle > IDLE_MAX && !pass_time())
                                fail("thread %c spins for ever", thread_name(world->current));
                        end_yields();
                        if (others(next, names) == 0)
                                return;
                        continue;
                }
                if (world->current && is_enabled(world->current))
                        return;
                if (end_yields())
                        continue;
                if (!pass_time()) {
                        check_all_ended();
                        world->current = NULL;
                        _longjmp(world->main, 1);
                }
        }
        coroutine_switch(next[choose(names, n, true, pc)]);
}

static void deliver_signal(struct thread *thread)
{
        int saved = errno;

        world->signal_is_due = false;
        world->program->on_signal();
        thread->n_loads = 0;
        errno = saved;
}

static bool is_shared(const void *address)
{
        uint32_t mine = 1u << (world->current - world->threads);
        uintptr_t key = memory_key(address);

        for (size_t i = key / 8;; i++) {
                typeof(world->shared[0]) *entry = &world->shared[i % 4096];

                if (entry->key == 0)
                        entry->key = key;
                if (entry->key != key)
                        continue;
                if (!(entry->threads & mine)) {
                        if (entry->threads)
                                world->has_learned = true;
                        entry->threads |= mine;
                }
                return (entry->threads & (entry->threads - 1)) != 0;
        }
}

static void maybe_preempt(struct thread *thread, const void *address, const void *pc)
{
        struct thread *next[THREADS_MAX + 1];
        char names[THREADS_MAX + 2] = {thread_name(thread)};
        bool signal = may_be_interrupted(thread);
        bool shared = address && is_shared(address);
        unsigned n = 1, chosen;

        if (shared || world->strategy == STRATEGY_REPLAY)
                n += others(next + 1, names + 1);
        if (signal)
                names[n++] = '!';
        world->n_decisions++;
        if (n == 1 || world->n_preemptions >= world->bound)
                return;
        chosen = choose(names, n, false, pc);
        if (chosen == 0)
                return;
        world->n_preemptions++;
        if (names[chosen] == '!')
                deliver_signal(thread);
        else
                coroutine_switch(next[chosen]);
}

void step(enum step_kind kind, const void *address, const void *pc)
{
        struct thread *thread = world->current;

        if (!world->is_exploring || !thread)
                return;
        if (world->n_steps == STEPS_MAX)
                fail("it does not end");
        world->steps[world->n_steps++] = (struct trace){.pc = pc,
                        .address = address,
                        .thread = (uint8_t) (thread - world->threads),
                        .kind = (uint8_t) kind};
        if (kind == STEP_YIELD || (kind == STEP_LOAD && thread->n_loads >= LOADS_MAX &&
                                                  thread->load_address == address && thread->load_pc == pc)) {
                thread->n_loads = 0;
                thread->yields = true;
                give_way(pc);
                thread->yields = false;
        } else {
                maybe_preempt(thread, address, pc);
        }
        if (thread->is_asynchronous)
                cancellation_point();
        if (kind == STEP_STORE || kind == STEP_UPDATE || kind == STEP_WAKE || kind == STEP_FREE) {
                world->n_idle = 0;
                end_yields();
                thread->n_loads = 0;
        }
}

void step_loaded(const void *address, uint64_t value, const void *pc)
{
        struct thread *thread = world->current;

        if (!world->is_exploring || !thread)
                return;
        if (thread->n_loads > 0 && thread->load_address == address && thread->load_pc == pc &&
                        thread->load_value == value) {
                thread->n_loads++;
                return;
        }
        thread->load_address = address;
        thread->load_pc = pc;
        thread->load_value = value;
        thread->n_loads = 1;
}

struct thread *thread_about_to_block(void)
{
        if (!world->is_exploring || !world->current)
                fail("it waits, and there is nobody else");
        return world->current;
}

int thread_block(void)
{
        struct thread *thread = world->current;
        int r;

        thread->state = THREAD_BLOCKED;
        thread->was_woken = false;
        world->n_idle = 0;
        give_way(NULL);
        if (thread->was_woken || (thread->is_ready && thread->is_ready(thread)))
                r = 0;
        else
                r = is_over(thread) ? ETIMEDOUT : EINTR;
        thread->state = THREAD_READY;
        thread->words[0] = thread->words[1] = NULL;
        thread->is_ready = NULL;
        thread->until_usec = NEVER;
        if (thread->is_asynchronous)
                cancellation_point();
        if (r == EINTR && may_be_interrupted(thread))
                deliver_signal(thread);
        return r;
}

void thread_end(void)
{
        struct thread *thread = world->current;

        run_key_destructors(thread);
        thread->state = THREAD_ENDED;
        world->n_idle = 0;
        end_yields();
        give_way(NULL);
        fail("a thread that has ended goes on");
}

void schedule_run(void)
{
        world->is_exploring = true;
        coroutine_keep_main();
        if (_setjmp(world->main) == 0)
                give_way(NULL);
        coroutine_back_to_main();
        world->is_exploring = false;
}
