/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/world/membership/internal.h"

/* What signals.c and signals-send.c share. Nobody else includes this. */

/* A pass over the members of some slots. */
struct signal_pass {
        LIST_HEAD(, member_slot) slots;
        struct target *targets;
        size_t n, allocated, next; /* next: the index of the next target */
        uint64_t number;
        bool underway;
        bool found;          /* this pass has found somebody new, or may have missed somebody */
        unsigned n_restless; /* how many passes in a row have */
        bool failing;
};

/* A task that was a member when a pass began. */
struct target {
        uint64_t context_id;
        uint32_t slot;
        uint32_t policy;
        uint32_t pid, ppid;
        uint64_t start_nsec; /* of its process */
        uint64_t pending;    /* signals that were pending for its parent when it was born */
        char comm[16];
};

/* signals-send.c */
/* Sends the signal that the target has to get now, if any. 1: the process was not met before, or is killed
 * for the first time; 0: there was nothing to do; -ENOMEM. */
int signals_give(struct membership *m, const struct target *t, uint64_t pass_number, uint64_t now_usec);
/* Forgets the processes that this pass has not met. The pass has to be over. */
void signals_forget_gone(struct membership *m, const struct signal_pass *pass);
