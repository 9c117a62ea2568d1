/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdio.h>

#include "ctl/ctxctl.h"
#include "ctl/processes.h"

/* Who is left of a context that is done, shown while somebody waits for them: on a terminal a list that is
 * redrawn, elsewhere a line for each process that comes or leaves. */
struct left {
        struct ctl *ctl;
        const char *path;
        FILE *to;
        bool silent;
        bool terminal;                 /* with --full it is none: what is not cut could not be erased */
        uint64_t since_usec;           /* when the waiting began */
        size_t lines;                  /* of the list on the terminal */
        struct process_list processes; /* as they were shown last */
};

/* Asks who is left, and shows it. 0, or a positive exit status. */
int left_update(struct left *left);
/* Takes the list off the terminal. */
void left_erase(struct left *left);
/* Says that those who were shown last have left. */
void left_print_gone(struct left *left);
/* Asks how the end reaches those who are left. 0, or a positive exit status. */
int left_read_endings(struct left *left);
/* One line for each, with why no signal can end it, where that is so, as left_read_endings() has it. These
 * lines need not fit a terminal. */
void left_print(const struct left *left);
/* Says in one sentence on the standard error how many they are, and who. Says nothing where nobody is. */
void left_tell(struct left *left);
void left_deinit(struct left *left);

/* The line of one process in such a list. The last one's ends the tree. why: "" or a text behind it. */
void left_print_process(FILE *to, const struct process *process, bool last, const char *why);

/* "process" or "processes", what comes after the stem. */
const char *left_plural(size_t n);
