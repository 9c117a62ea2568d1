/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "ctl/contexts.h"
#include "ctl/processes.h"

/* Contexts as a tree, or as several. Below each context are the processes that are members of exactly that
 * one. */

struct tree_node {
        const struct listed *listed; /* NULL: the root, above all that was listed */
        const char *label;
        struct tree_node *children, *next; /* sorted by label */
        struct process_list processes;
};

struct forest {
        struct tree_node *nodes; /* one for each listed context, the root last */
        struct tree_node *root;
        struct listing listing;
};

/* Reads a context and all below it, with their processes; "/" is all. 0, or a positive exit status after an
 * error message. */
int forest_read(struct ctl *ctl, const char *prefix, struct forest *ret);
void forest_deinit(struct forest *forest);

/* What is called for each line of a drawing: for a context, or for a process of it. prefix and branch are to
 * be printed in front of it. */
typedef void forest_visitor(void *userdata, const struct tree_node *node, const struct process *process,
                const char *prefix, const char *branch);
/* with_root: also for the root, as "/". */
void forest_walk(const struct forest *forest, bool with_root, forest_visitor *visit, void *userdata);

/* The same as JSON: an array of contexts, each with its processes and its children. decorate: called to add
 * more to the object of a context, or of a process of it; may be NULL. */
typedef void forest_decorator(void *userdata, const struct tree_node *node, const struct process *process,
                json_object *object);
json_object *forest_to_json(const struct forest *forest, forest_decorator *decorate, void *userdata);

/* Prints a context's label, its state, and the time that is left or the cause. */
void tree_node_print(const struct tree_node *node, FILE *out);
