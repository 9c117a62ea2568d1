/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Lists of processes that may be long: the children of one, and the processes of a control group. They are
 * read a step at a time, so that others can be served between. Each _next() makes one step. It returns 1 and
 * a pid; 0 after the last one; -EAGAIN where this step has found none; or another negative errno.
 *
 * Who comes or goes meanwhile may be missed, as in any look at /proc. */

/* A file of numbers. */
struct pid_file {
        int fd; /* -1: it is not open */
        size_t at, n;
        pid_t number;
        char text[1024];
};

struct child_list {
        pid_t parent;
        bool by_parent; /* all of /proc is looked at, because the kernel lists no children */
        DIR *directory;
        unsigned n_threads; /* that have been looked at */
        bool is_last;       /* the main thread is looked at once more */
        struct pid_file file;
};

/* Where there is no such process, there are no children. is_single: it has one thread. A
 * child may come twice. */
int child_list_open(struct child_list *l, pid_t parent, bool is_single);
int child_list_next(struct child_list *l, pid_t *ret);
void child_list_close(struct child_list *l);

/* The processes in a control group and in all groups below it. What has gone meanwhile is empty. */
struct group_list {
        char **directories; /* still to be looked at */
        size_t n, n_allocated;
        char *directory; /* that is looked at now */
        DIR *below;
        struct pid_file file;
};

int group_list_open(struct group_list *l, const char *directory);
int group_list_next(struct group_list *l, pid_t *ret);
void group_list_close(struct group_list *l);
