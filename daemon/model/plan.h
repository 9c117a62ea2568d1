/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/model/internal.h"

/* What is to be made: the labels below base. All but the last are ancestors that nobody asked for by name. */
struct plan {
        struct context *base;          /* the deepest that is there */
        const struct context *visible; /* the deepest on the way there that the caller may read */
        struct context *existing;  /* the one that was asked for, if it is there; base is its parent then */
        struct context *displaced; /* it is done, and loses its path to the one that is made */
        const char *first_missing; /* in the path; NULL: the label is to be made up */
        size_t labels;             /* of the whole path, with the one that is made up */
        size_t n_new;
        size_t hidden; /* where the first part below that ends which the caller may not read; 0: none */
        bool off;      /* the id that was given is not of the one that has that part of the path */
};

/* Finds what is there of the path. */
void plan_path(const struct tree *t, const struct caller *caller, const struct reference *ref,
                struct plan *ret);
/* What can be refused: the name, what is there already, and what the caller may. *ret_own_tree: the first
 * label is that of a user's tree, which is made on first use. 0 or a negative errno. */
int plan_check(const struct tree *t, const struct caller *caller, const struct reference *ref,
                const struct create_options *o, const struct plan *plan, bool *ret_own_tree,
                struct refused *ret_refused);
/* The one that is there is done, and another one is made in its place. */
void plan_displace(struct plan *plan, const struct reference *ref);
