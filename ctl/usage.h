/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl/processes.h"

/* How busy processes are between two looks at them, and how much memory they have. */

struct usage {
        bool cpu_known;  /* there were two looks */
        double percent;  /* of one CPU */
        uint64_t memory; /* bytes in RAM */
};

struct usage_look;

/* A look at no process yet. NULL: there is no memory. */
struct usage_look *usage_look_new(void);
struct usage_look *usage_look_free(struct usage_look *look);
/* Adds processes. 0 or -ENOMEM. One that has gone uses nothing. */
int usage_look_add(struct usage_look *look, const struct process_list *list);
/* Afterwards none can be added. */
void usage_look_end(struct usage_look *look);
/* What a process uses, from an earlier look (NULL: there was none) to this one. */
struct usage usage_of(const struct usage_look *earlier, const struct usage_look *look,
                const struct process *process);
