/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "tests/fuzz/answers.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/world.h"

/* Shared by answers.c and answers-calls.c alone. */

struct forest_of_nodes {
        struct node nodes[NODES_MAX]; /* parents before their children; the background first */
        unsigned n;
        uint64_t now_usec, last_id;
        struct node *member_of[VICTIMS]; /* NULL: none */
        uid_t attached_by[VICTIMS];
};

extern struct forest_of_nodes those;

void node_born(struct node *n); /* its fields are set */
void node_lose_path(struct node *root);
