/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "lib/local/fork.h"
#include "lib/local/inside.h"

unsigned fork_generation;
uint32_t fork_lock_mark;

static struct fork_part *parts; /* in the order of their locks */

static uint32_t rank_of(const struct fork_part *part)
{
        return part->lock ? part->lock->rank : 0;
}

void fork_register(struct fork_part *part)
{
        struct fork_part **place = &parts;

        while (*place && rank_of(*place) < rank_of(part))
                place = &(*place)->next;
        part->next = *place;
        *place = part;
}

/* The handlers before a fork are called in the reverse order of their registration. An allocator's has to be
 * called after the one here: whoever that one waits for may need memory. But an allocator may register its
 * own only when it is started, after this library was loaded (LD_PRELOAD). So this is done when the library
 * is first used. */
static _Atomic bool is_registered;
/* Two threads may both have been first. */
static __thread unsigned n_prepared __attribute__((tls_model("initial-exec")));

static void before_fork(void)
{
        if (n_prepared++ > 0)
                return;
        for (struct fork_part *part = parts; part; part = part->next)
                if (part->lock)
                        lock_acquire(part->lock);
        inside_close();
}

static void after_fork(void)
{
        if (--n_prepared > 0)
                return;
        inside_open();
        for (struct fork_part *part = parts; part; part = part->next)
                if (part->lock)
                        lock_release(part->lock);
        nest_less_deep();
}

static void start_child(void)
{
        fork_generation++;
        fork_lock_mark = fork_generation << 24;
        for (struct fork_part *part = parts; part; part = part->next)
                if (part->in_child)
                        part->in_child();
}

static void after_fork_in_child(void)
{
        if (n_prepared == 1) {
                start_child();
                inside_forget_others();
        }
        after_fork();
}

void fork_first_use(void)
{
        if (atomic_load(&is_registered))
                return;
        pthread_atfork(before_fork, after_fork, after_fork_in_child);
        atomic_store(&is_registered, true);
}

/* Until then no thread has been inside, and there is nothing to wait for. */
static void after_first_fork_in_child(void)
{
        if (n_prepared == 0)
                start_child();
}

__attribute__((constructor)) static void register_handler(void)
{
        pthread_atfork(NULL, NULL, after_first_fork_in_child);
}
