/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/world/membership/internal.h"
#include "daemon/world/membership/look.h"

/* What signals.c, signals-pass.c and signals-send.c share. Nobody else includes this. */

/* A pass over the members of some slots. */
enum pass_state {
        PASS_IDLE, /* the next one has not begun */
        PASS_LISTS,
        PASS_GIVES,
};

struct signal_pass {
        enum pass_state state;
        struct membership *membership;
        bool is_held; /* somebody waits for it, and goes on with it */
        bool is_over;
        TAILQ_ENTRY(signal_pass) firsts;
        LIST_HEAD(, member_slot) slots;
        struct member_look look;
        struct target *targets;
        size_t n, allocated, next; /* next: the index of the next target */
        uint64_t number;
        uint32_t n_counted;  /* members of slots that count */
        bool found;          /* this pass has found somebody new, or may have missed somebody */
        unsigned n_restless; /* how many passes in a row have */
        bool is_unread;      /* one that this pass was to meet, or to signal, cannot be read now */
        bool ended;          /* this pass has ended somebody new, or come too late for somebody */
        unsigned n_races;    /* how many passes in a row have */
        bool is_race;        /* meanwhile members have forked */
        bool failing;
        unsigned n_failed; /* how often a first pass has */
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

/* signals-pass.c */
/* Goes on with the pass, or begins the next one, until that time, and as long as *budget lasts, which a
 * process takes one or two of. 1: it is over; 0: it is not; or -errno: it begins anew. */
int pass_go(struct membership *m, struct signal_pass *p, uint64_t until_usec, uint32_t *budget);
void pass_stop(struct signal_pass *p);

/* signals-send.c */
/* Sends the signal that the target has to get now, if any. 1: the process was not met before, or is killed
 * for the first time; 2: that has ended it, or it has gone; 0: there was nothing to do; or -errno: there is
 * no memory or descriptor, and it has to be tried again. */
int signals_give(struct membership *m, const struct target *t, uint64_t pass_number, uint64_t now_usec);
/* Forgets the processes that this pass has not met. The pass has to be over. */
void signals_forget_gone(struct membership *m, const struct signal_pass *pass);
