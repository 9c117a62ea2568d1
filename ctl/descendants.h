/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A process and all that descend from it, as far as /proc shows them. Who was seen once stays known, also
 * when its parent has exited. */

struct descendant {
        pid_t pid;
        uint64_t start_ticks;
};

#define ANCESTORS_MAX 32

struct descendants {
        struct descendant *items; /* the process itself, then others, parents before children */
        size_t n, allocated;
        uint64_t began_ticks;           /* when the first look was taken */
        pid_t ancestors[ANCESTORS_MAX]; /* of the process: orphans come to one of these, or to process 1 */
        size_t n_ancestors;
};

/* Of that process, without a look. 0 or -errno; -ESRCH: it has gone. */
int descendants_begin(struct descendants *d, pid_t pid);
/* Looks once, and adds those that are new; without our own process and what descends from that. 0 or
 * -errno. */
int descendants_look(struct descendants *d);
/* Calls cb for each process that was born since the first look, and that may descend from one that had exited
 * before a look could see it. */
void descendants_each_orphan(struct descendants *d, void (*cb)(void *userdata, pid_t pid), void *userdata);
void descendants_deinit(struct descendants *d);
