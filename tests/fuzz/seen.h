/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/model/tree.h"

/* What was seen of a tree, to hold the laws against. */

#define CONTEXTS_MAX 1024 /* in the life of one tree */

/* What is known of a context, by id; it outlives the context. */
struct seen {
        bool done, told_new, told_done, told_drained, told_removed;
        enum context_state state;
        uint64_t done_usec, deadline_usec, created_usec;
        int error;
        char cause[64]; /* its beginning */
};

struct forest {
        struct tree *tree;
        uint64_t now_usec;
        struct seen seen[CONTEXTS_MAX];
};

extern struct forest forest;

/* All that is there, with what was there before. */
void check(void);

/* Until nothing is overdue. */
void settle(void);

/* Drains as the engine does, but a handle may stay for a while, as one does whose client makes a write block. */
void drain(bool keep_handles);

/* What a refusal must leave as it was. */
struct figures {
        uint64_t contexts, done, released, bytes, members, handles, next_usec;
};

struct figures measure(void);
void refused(const struct figures *before, int r, const struct refused *why);
