/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/model/tree.h"

/* Puts a tree together again from what was decided about its contexts (enum decision). There is no caller
 * and no time, and nothing is refused: what was acknowledged once is so for ever, whatever the limits and
 * the grammar of names are today. A quota may be exceeded by it.
 *
 * The steps are: tree_restore_begin() with an empty tree; the decisions in their order;
 * tree_restore_finish(); then the world, which calls tree_attached() for each context that had members when
 * it was looked at last, also where none is left, and tree_handles_given(); tree_restored(). From then on
 * the tree is like any other, and the world says tree_left() of those of whom nobody is left. No time passes
 * before: what ends when its members are not known yet would be called drained.
 *
 * A decision says how things are, not what changes, so the same one again does no harm. What follows from
 * others is worked out in tree_restore_finish(): effective deadlines, the ends and the releases of what is
 * below. A large end that was under way is over then. It is as if it had gone on.
 *
 * Not kept: since when a done context is held by nobody. Its retention begins anew in tree_restored(), so it
 * is known for longer, never for less long. Nor how far a tree_extend_some() had come: it is over, too. */

struct restore {
        struct tree *tree;
        struct index ids;       /* all contexts, by id, until the tree's own indices have them */
        struct context *last;   /* that came in order; or NULL */
        struct context *parent; /* of the last one; or NULL */
        uint64_t highest_id;
};

struct restored_cause {
        int error;
        uid_t uid;
        pid_t pid;
        char comm[16];
        const char *message; /* or NULL */
};

struct restored_end {
        enum context_state state;
        bool by_itself;
        bool again; /* perhaps not all of it was carried out: its effects are left again */
        unsigned origin_up;
        uint64_t done_usec, drained_usec, deadline_usec; /* drained_usec 0: it was not, or when it was done */
};

struct restored_context {
        uint64_t id, parent_id;
        const char *label, *description;
        uid_t uid;
        gid_t gid;
        uint16_t mode;
        bool implied, released;
        bool is_in_order; /* after the one before it that was so, in the order of context_next() */
        uint64_t created_usec, own_deadline_usec, grace_usec;
        const struct value *values;
        size_t n_values;
        const struct restored_cause *cause; /* or NULL */
        const struct restored_end *end;     /* or NULL: it is active */
};

/* No id and no number of a label is larger, so that those that come can be counted. */
#define RESTORE_ID_MAX (UINT64_MAX / 2)

/* They return 0, -ENOMEM, -ENOENT (no such context or parent), or -EBADMSG (no tree can be so). After an
 * error the tree is only good for tree_free(). */
int tree_restore_begin(struct restore *r, struct tree *t);
int tree_restore_context(struct restore *r, const struct restored_context *d);
int tree_restore_end(struct restore *r, uint64_t id, const struct restored_end *end,
                const struct restored_cause *cause);
int tree_restore_drained(struct restore *r, uint64_t id, uint64_t drained_usec);
int tree_restore_released(struct restore *r, uint64_t id);
int tree_restore_deadline(struct restore *r, uint64_t id, uint64_t own_deadline_usec);
int tree_restore_policies(struct restore *r, uint64_t id, const struct policy *policies, unsigned n);
int tree_restore_forgotten(struct restore *r, uint64_t id);
/* Ids and labels up to these were used. */
int tree_restore_used(struct restore *r, uint64_t last_id, uint64_t last_label);
int tree_restore_finish(struct restore *r);
/* Also after an error. */
void tree_restore_deinit(struct restore *r);

void tree_restored(struct tree *t, uint64_t now_usec);
