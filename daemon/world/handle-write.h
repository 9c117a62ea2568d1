/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* Writes to handles, whatever their holders do.
 *
 * The client shares the file description. It can fill the counter and make the description block, and then a
 * write of ours would sleep as long as the client likes. So a timer, the guard, runs while handles are
 * written. Its signal interrupts a write that sleeps; a write that does not sleep is never interrupted. A
 * handle whose counter is not 0 is readable already, so its holder has lost nothing.
 *
 * The client can also have a hundred thousand epoll sets wait for its handle, and then a write of ours has to
 * wake them all. So each write is measured. What counts is the time on the processor, since those who are
 * woken may run first.
 *
 * The uid of who does either is remembered for a minute. */

struct world;

#define HOSTILE_MAX 16

struct handle_writer {
        struct world *world;
        timer_t guard;
        bool has_guard, is_armed;
        uint64_t thread_nsec, since_nsec; /* writes are measured from then on, on this thread's clock */
        struct {
                uid_t uid;
                uint64_t until_usec;
        } hostile[HOSTILE_MAX];
        unsigned n_hostile, n_found;
};

int writer_init(struct handle_writer *w, struct world *world);
void writer_deinit(struct handle_writer *w);

/* Makes a handle of that uid readable for ever. Call writer_disarm() after the last one. */
void writer_write(struct handle_writer *w, int fd, uid_t uid);
void writer_disarm(struct handle_writer *w);
/* Whether a write to a handle of that uid has slept or taken long in the last minute. */
bool writer_knows_hostile(struct handle_writer *w, uid_t uid);
