/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl/processes.h"

/* How the end of their context reaches processes (struct ending), and whom it does not reach, and why. Where
 * the daemon is older than that, nothing is known of it. */

#define WHY_MAX 256

/* Asks for those of a list that was read with the same arguments. 0, or a positive exit status after an error
 * message. */
int endings_read(struct ctl *ctl, const char *path, bool recursive, struct process_list *list);
/* Calls cb for each process, in the order of their pids. It returns 0 or -errno. *ret_all: there are no
 * more. */
struct ending_row {
        uint32_t pid;
        uint64_t start_usec;
        const char *context; /* path#id */
        const char *comm;
        struct ending ending; /* with n_threads: it is no member */
};
int endings_each(struct ctl *ctl, const char *path, bool recursive,
                int (*cb)(void *userdata, const struct ending_row *row), void *userdata, bool *ret_all);
/* Says in the buffer, which has WHY_MAX bytes, why no signal reaches the process, or none has. "": one
 * does. */
const char *ending_why(const struct process *process, char *buffer);
/* "SIGTERM", or "signal 34". The buffer has 32 bytes. */
const char *signal_name(int number, char *buffer);
/* Adds when SIGKILL comes, if it does. */
void ending_add_kill(const struct process *process, char *buffer);

size_t endings_count_unsignalled(const struct process_list *list);
/* How many get no signal, and who, and why; verb: what is said of one and of several. Prints nothing where
 * all get one. */
void endings_print_unsignalled(const struct process_list *list, const char *const verb[2]);
/* The same as an array. */
json_object *endings_unsignalled_to_json(const struct process_list *list);
/* Adds one of which threads have entered. What comes of one process becomes one row. 0 or
 * -ENOMEM. */
int endings_add(struct process_list *list, const struct process *process);
/* The processes of which threads have entered, a line for each. */
void endings_print_entered(const struct process_list *list);
/* Adds the same to an array. */
void endings_add_entered(const struct process_list *list, json_object *array);
