/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/queue.h>

#include "daemon/world/membership/backend.h"
#include "util/pid-list.h"

/* A look at the members of some slots, in parts. To read one process from /proc takes some 25 us, as to have
 * the kernel list dozens, and a user may have thousands. So a part looks at a few, and between two parts
 * others are served. Meanwhile members, slots, and even the backend may come and go; the look stays right.
 * Who forks meanwhile may have children that are not met (is_restless, signals.c). */

struct attached;
struct kin;
struct looked_slot;

enum look_phase {
        LOOK_BEGIN,
        LOOK_GROUP,    /* at the processes in the attached process's control group */
        LOOK_ORPHANS,  /* at the children of its reaper */
        LOOK_CHILDREN, /* and at its children, or those of one of its kin */
        LOOK_KIN,      /* at one of its kin */
        LOOK_ITSELF,
};

struct member_look {
        member_cb cb;
        void *userdata;
        bool wants_uids; /* of each process; they take another read */
        bool without_children;
        bool is_thorough; /* who dies while its children are listed is noticed; this takes a read of each */
        bool is_restless; /* a process had gone when it was to be read: its children may have been missed */
        bool is_unread; /* a process cannot be read now (util/proc-reader.h), and was not met, if it is one */

        /* Of look.c, and of the backend. */
        const struct membership_backend *backend;
        unsigned n_moves; /* of the membership, when it began */
        struct looked_slot *slots;
        size_t n_slots, next_slot;
        LIST_ENTRY(member_look) looks;

        /* Of the backend bpf. */
        int iterator; /* if it iterates */
        bool iterates;

        /* Of the backend direct: where it is. */
        struct attached *attached; /* NULL: at the next slot */
        enum look_phase phase;
        struct kin *kin;            /* NULL: at the attached process itself */
        bool found;                 /* the attached process was seen in its own group */
        uint64_t dead, dead_before; /* whom this phase has met, and whom the last one did (dead_sum()) */
        union {
                struct group_list group;
                struct child_list children;
        };
};

/* At the members of all slots that are wanted now (list.c). The caller has set cb and userdata; the rest of
 * *l is zero. 0 or -ENOMEM. */
int member_look_begin(struct membership *m, struct member_look *l);
/* Goes on. Takes one from *budget for each process that is read, or for some that the kernel lists. 1: it is
 * over, or cb has ended it; 0: the budget is used up; -ESTALE: members are known in another way by now, and
 * it begins again; or another negative errno. */
int member_look_go(struct membership *m, struct member_look *l, uint32_t *budget);
void member_look_end(struct member_look *l); /* also of one that has not begun */

/* The next slot of the look that is still there; NULL: it was the last one. */
struct member_slot *member_look_next_slot(struct membership *m, struct member_look *l);
/* One of an attached process's kin leaves it, and comes no more. */
void member_looks_pass(struct membership *m, struct kin *k);
/* An attached process leaves its slot. */
void member_looks_leave(struct membership *m, struct attached *a);
