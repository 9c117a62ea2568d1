/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>
#include <stddef.h>

#include "lib/local/fork.h"

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

static void before_fork(void)
{
        for (struct fork_part *part = parts; part; part = part->next)
                if (part->lock)
                        lock_acquire(part->lock);
}

static void release_locks(void)
{
        for (struct fork_part *part = parts; part; part = part->next)
                if (part->lock)
                        lock_release(part->lock);
}

static void after_fork_in_child(void)
{
        fork_generation++;
        fork_lock_mark = fork_generation << 24;
        for (struct fork_part *part = parts; part; part = part->next)
                if (part->in_child)
                        part->in_child();
        release_locks();
}

__attribute__((constructor)) static void register_handler(void)
{
        pthread_atfork(before_fork, release_locks, after_fork_in_child);
}
