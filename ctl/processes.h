/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ctl/ctxctl.h"

/* The processes that are members of a context. */

/* How the end of its context reaches it (endings.h). */
struct ending {
        bool known;
        int signal;               /* 0: none */
        uint64_t kill_after_usec; /* UINT64_MAX: never */
        uint32_t attached_by;
        char unsignalled[16]; /* "": the signal reaches it; else a word of the daemon's for why not */
        uint32_t n_threads;   /* that have entered its context, of a process that is no member; else 0 */
};

struct process {
        uint32_t pid;
        uint64_t start_usec;
        uint32_t uid;
        char comm[64];
        struct ending ending;
};

struct process_list {
        struct process *items;
        size_t n;
        bool with_endings; /* they were asked for */
        bool truncated;    /* there are more */
        /* With endings: no members, but threads of theirs have entered. */
        struct process *entered;
        size_t n_entered;
};

#define PROCESSES_MAX 10000

/* The processes of a context; recursive: also those of the contexts below it. 0, or a positive exit status
 * after an error message. */
int process_list_read(struct ctl *ctl, const char *path, bool recursive, struct process_list *ret);
/* It is the same process, also where one of the times is of the kernel's ticks only. */
bool process_is_same(const struct process *a, const struct process *b);
/* As a member. */
bool process_list_has(const struct process_list *list, const struct process *process);
int process_list_add(struct process_list *list, const struct process *process); /* 0 or -ENOMEM */
void process_list_deinit(struct process_list *list);
/* The same, but whoever may not read that has no list, and sees no error. Returns whether there is one. */
bool process_list_ask(struct ctl *ctl, const char *path, struct process_list *ret);
/* The members, and then the processes of which threads have entered. */
size_t process_list_rows(const struct process_list *list);
const struct process *process_list_row(const struct process_list *list, size_t i);
/* How many threads of others have entered. */
uint32_t process_list_entered(const struct process_list *list);
/* "1 process", "8 processes", "8 processes and 2 threads of others"; with --full also how many threads they
 * have, where threads are counted: n_tasks is what ctxd counts, with those that have entered, or 0:
 * it is not known. The buffer has PROCESS_COUNT_MAX bytes. */
#define PROCESS_COUNT_MAX 128
char *process_count(struct ctl *ctl, const struct process_list *list, uint32_t n_tasks, char *buffer);
/* "has" or "have", of the same. */
const char *process_count_verb(const struct process_list *list);
json_object *process_to_json(const struct process *process, bool with_ending);
json_object *process_list_to_json(const struct process_list *list);

#define COMMAND_MAX 4096
/* The command line of a process on one line, or its name if the command line cannot be read. The buffer
 * has COMMAND_MAX bytes. process_command_to_fit() cuts it for a terminal on whose line `used` columns are
 * taken. */
char *process_command(const struct process *process, char *buffer);
char *process_command_to_fit(const struct process *process, size_t used, char *buffer);
