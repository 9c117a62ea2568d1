/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "daemon/engine/internal.h"
#include "util/log.h"

/* Turns facts into verbs of the model. A fact names a context or a process by its number, and what it names
 * may be gone by now. Then nothing happens.
 *
 * Thousands of facts may come at one moment, and one of them may be a lot of work: the end of a process that
 * owns thousands of contexts, or has as many handles. So a drain has a budget, in units of about half a
 * microsecond. What it does not come to waits for the next turn, with others served between. A request's
 * drain takes a few, since they may be another user's. */

#define BUDGET 128
#define BUDGET_IN_PASSING 64
#define COST_LOOK 4
#define COST_CANCEL 8
#define COST_HANDLE 2
#define COST_RECORDS 128

static void spend(struct engine *e, uint32_t cost)
{
        e->facts_budget -= cost < e->facts_budget ? cost : e->facts_budget;
}

static void cancel(struct engine *e, struct context *c, struct cause *cause)
{
        struct refused refused = {};
        uint32_t n = 0;
        int r;

        r = tree_cancel(e->tree, e->world.now_usec, &caller_daemon, c, cause, &n, &refused);
        if (r < 0)
                log_warning("Cannot cancel context %llu, though %s: %s", (unsigned long long) c->id,
                                cause ? "its end has come" : "memory is short", strerror(-r));
        spend(e, COST_CANCEL + n);
}

static void process_exited(struct engine *e, const struct fact *fact)
{
        struct process *p = process_find(e->processes, (pid_t) fact->id, fact->start_ticks);
        struct anchor *a;

        if (!p)
                return;
        process_ref(p);
        /* It may have executed another program since it was bound. */
        if (!LIST_EMPTY(&process_ties(p)->owned))
                process_update_comm(p);
        while (e->facts_budget > 0 && (a = LIST_FIRST(&process_ties(p)->owned))) {
                owner_unbind(a);
                cancel(e, a->context,
                                cause_new(ECANCELED, "owner exited", process_uid(p), process_pid(p),
                                                process_comm(p)));
        }
        spend(e, COST_HANDLE * handles_drop_process(e->handles, p, e->facts_budget / COST_HANDLE));
        if (e->facts_budget < COST_HANDLE) {
                process_exit_again(p);
        } else {
                membership_process_exited(e->membership, p);
                threads_drop_process(e->thread_pages, p);
        }
        process_unref(p);
}

static void lifeline_closed(struct engine *e, struct anchor *a)
{
        cancel(e, a->context, cause_new(ECANCELED, "lifeline closed", (uid_t) -1, 0, NULL));
}

static void handles_closed(struct engine *e, struct anchor *a)
{
        if (LIST_EMPTY(&a->handles))
                tree_handles_closed(e->tree, e->world.now_usec, a->context);
}

static void take(struct engine *e, const struct fact *fact)
{
        struct anchor *a;

        spend(e, fact->kind == FACT_PROBE_READY ? COST_RECORDS : COST_LOOK);
        switch (fact->kind) {
        /* The drain that follows settles what is due. */
        case FACT_TIME:
                return;
        case FACT_PROCESS_EXITED:
                process_exited(e, fact);
                return;
        case FACT_PROBE_READY:
                engine_serve_probe(e);
                return;
        default:
                break;
        }
        a = anchor_find(e, fact->id);
        if (!a)
                return;
        if (fact->kind == FACT_LIFELINE_CLOSED)
                lifeline_closed(e, a);
        else if (fact->kind == FACT_HANDLES_CLOSED)
                handles_closed(e, a);
        else if (fact->kind == FACT_MEMBER_LEFT)
                members_look(e, a);
        else if (fact->kind == FACT_THREADS_CHANGED)
                probe_threads(e->probe, a);
}

void engine_begin_turn(struct engine *e)
{
        e->facts_budget = BUDGET;
}

void facts_begin(struct engine *e)
{
        if (e->facts_budget == 0)
                e->facts_budget = BUDGET_IN_PASSING;
}

void facts_take(struct engine *e)
{
        struct fact fact;

        while (e->facts_budget > 0 && fact_take(&e->world.facts, &fact))
                take(e, &fact);
}
