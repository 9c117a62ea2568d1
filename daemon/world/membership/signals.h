/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/world/membership/internal.h"

/* What the two files of signals share. */

/* Who was a member when a pass began. */
struct target {
        uint64_t context_id;
        uint32_t slot;
        uint32_t policy;
        uint32_t pid, ppid;
        uint64_t start_nsec; /* of its process */
        uint64_t pending;    /* signals that its parent was about to be given when it was born */
        char comm[16];
};

/* signals-send.c: gives it what it is due. 1: it was due something, and had had nothing of that kind before;
 * 0; -ENOMEM. */
int signals_give(struct membership *m, const struct target *t, uint64_t pass_number, uint64_t now_usec);
void signals_forget_gone(
                struct membership *m, uint64_t pass_number); /* whom that pass, a whole one, has not met */
