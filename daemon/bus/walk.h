/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/bus/request.h"
#include "daemon/bus/turns.h"

/* Calls whose cost grows with the tree. They go through it in slices, each in a turn of the caller's uid, and
 * others are served between. The reply is sent at the end.
 *
 * Between two slices any context may go, also the one that was asked about; the cursor (tree.h) stays
 * right. */

struct walk {
        struct request request; /* its context may be gone: cursor.root is what counts */
        struct cursor cursor;
        /* Goes on with so many contexts. Returns 0 if there is more; else what a handler has to return, or
         * what walk_send() does. */
        int (*step)(struct walk *w, uint32_t budget);
        sd_bus_message *reply; /* as far as it has come; NULL: it has not begun */

        /* Of the steps. */
        uint32_t limit, contexts, members;
        uint64_t bytes; /* of the reply, roughly, where that can be long */
        uint64_t after_id,
                        after_parent; /* ids: it begins behind that child of that parent; 0: it has begun */
        bool flag;
        bool may_go; /* its context: then the call has done what it should */
        bool stays;  /* it changes the tree, and must not stop half way; its peer may be NULL */
        bool is_truncated;
        struct leak_cursor leaks;
        uint64_t n_leaks;
        struct shown *shown;
        struct members_look *look;
        size_t next_member; /* of that */
        struct signal_pass *signals;
        uint64_t look_id; /* of the context at whose members it looks, where a walk looks at several */

        /* Of walk.c and park.c. */
        struct taker taker;
        sd_bus_error error;
        bool is_made;        /* the reply, which has to be sent */
        bool is_over;        /* it has counted, and its message comes once more */
        bool is_parked;      /* it gets no turn until the bus has taken what is sent, */
        uint64_t park_until; /* or until then; 0: it has not waited yet */
        TAILQ_ENTRY(walk) parked;
        LIST_ENTRY(walk) of_peer;
        LIST_ENTRY(walk) staying; /* that stay, and have to wait for turns */
};

/* A walk from next on, below root. NULL: there is no memory. The request is copied. */
struct walk *walk_new(const struct request *q, const struct context *root, const struct context *next,
                int (*step)(struct walk *w, uint32_t budget));
/* Goes through a small tree now, and through a large one in other turns. Returns what a handler has to
 * return. */
int walk_begin(struct walk *w);
struct walk *walk_free(struct walk *w);
/* For a call that looks at the members of q->context, and of all below it: each step goes on with
 * walk_look(). */
int walk_members(const struct request *q, bool recursive, bool with_uids, uint32_t limit,
                int (*step)(struct walk *w, uint32_t budget));
/* So many processes are looked at in a step: each may have to be read from /proc. */
#define WALK_LOOKS 2
/* Goes on with its look at members. 1: that is over; 0: the step is; or -errno. */
int walk_look(struct walk *w);
/* The reply is made. Sends it, now or as soon as it need not wait (park.h). */
int walk_send(struct walk *w);
/* The same, but first ends the array of a reply that also says whether it was cut (w->is_truncated). r: an
 * error so far, which is returned. */
int walk_send_list(struct walk *w, int r);
/* Its peer goes. What only looks ends here. What changes the tree goes on, in turns of the same uid, and
 * nobody is told. */
void walk_leave(struct walk *w);
/* The daemon ends: what changes the tree is done now, and answered. */
void walks_finish(struct service *s);

void walks_deinit(struct service *s);

/* Property getters cannot reply later. So the contexts, members and leaks that the caller may read are
 * counted when a call that asks for properties of the Manager comes (walk_count, a handler of its object). If
 * that takes long the message comes once more, when they have been counted. */
int walk_count(sd_bus_message *m, void *userdata, sd_bus_error *error);
/* Whether the message comes for the second time. */
bool walk_has_counted(const struct peer *p, const sd_bus_message *m);
