/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/model/tree.h"

/* The model again, in the naive way: a flat list of nodes, and every question answered by looking at all of
 * them. It is slow and keeps nothing twice, so that it can be seen to be right; the simulator holds the two
 * side by side. */

enum { NODES_MAX = 512, KILLS_MAX = 3 };

struct node {
        bool used;
        struct context *c; /* its counterpart */
        uint64_t id;
        struct node *parent; /* NULL: the background */
        char label[32];
        uid_t uid;
        bool implied, released, forgotten, busy;
        unsigned n_handles;
        enum context_state state;
        struct node *origin;
        int cause;               /* of its deadline, then of its cancel; 0: none */
        int value;               /* of the key that is tried; 0: none */
        uint64_t own, effective; /* deadlines; effective is kept from when it is done */
        uint64_t done_usec, drained_usec, unheld_usec;
        uint64_t kills[KILLS_MAX], kill_from;
        unsigned n_kills;
        unsigned effects;
};

struct reference_model {
        struct node nodes[NODES_MAX];
        uint64_t settled_usec, retain_usec;
        uint64_t limit; /* contexts of a user */
};

struct node *node_new(struct reference_model *m, struct node *parent, const char *label);
struct node *node_child(struct reference_model *m, const struct node *parent,
                const char *label); /* that has its path */
bool node_is_below(const struct node *n, const struct node *a);
bool node_has_children(const struct reference_model *m, const struct node *n);
bool node_is_held(const struct node *n);
bool node_waits(const struct reference_model *m,
                const struct node *n); /* to be forgotten: its time is not over yet */
uint64_t node_effective(const struct node *n);
void node_path(const struct node *n, char *buffer, size_t size);

void reference_born(struct reference_model *m, uint64_t now_usec, struct node *n);
unsigned reference_end(
                struct reference_model *m, uint64_t now_usec, struct node *root, enum context_state state);
void reference_settle(struct reference_model *m, uint64_t now_usec);
void reference_forget(struct reference_model *m, uint64_t now_usec);
void reference_release(struct reference_model *m, uint64_t now_usec, struct node *root);
void reference_extend(struct reference_model *m, uint64_t now_usec, struct node *n, uint64_t deadline_usec);
void reference_drain(struct reference_model *m, uint64_t now_usec);
uint64_t reference_next(const struct reference_model *m);
