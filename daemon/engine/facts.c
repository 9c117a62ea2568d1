/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "daemon/engine/internal.h"
#include "util/log.h"

/* Turns facts into verbs of the model. A fact names a context or a process by its number, and what it names
 * may be gone by now. Then nothing happens. */

static void cancel(struct engine *e, struct context *c, struct cause *cause)
{
        struct refused refused = {};
        uint32_t n;
        int r;

        r = tree_cancel(e->tree, e->world.now_usec, &caller_daemon, c, cause, &n, &refused);
        if (r < 0)
                log_warning("Cannot cancel context %llu, though %s: %s", (unsigned long long) c->id,
                                cause ? "its end has come" : "memory is short", strerror(-r));
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
        while ((a = LIST_FIRST(&process_ties(p)->owned))) {
                owner_unbind(a);
                cancel(e, a->context,
                                cause_new(ECANCELED, "owner exited", process_uid(p), process_pid(p),
                                                process_comm(p)));
        }
        handles_drop_process(e->handles, p);
        membership_process_exited(e->membership, p);
        threads_drop_process(e->thread_pages, p);
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

void facts_take(struct engine *e)
{
        struct fact fact;

        while (fact_take(&e->world.facts, &fact))
                take(e, &fact);
}
