/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "daemon/world/internal.h"
#include "daemon/world/proc.h"
#include "util/clock.h"
#include "util/log.h"

/* The exit of its owner ends a context (law 28). The pidfd tells of it, so a pid that was used again is never
 * mistaken for the owner; an owner that had exited before is noticed at once. */

int owner_bind(struct effects *e, struct context *c, struct process *p)
{
        int r;

        if (context_is_background(c) || c->owner)
                return -EBUSY;
        if (context_is_done(c))
                return 0;
        r = process_watch(p);
        if (r < 0)
                return r;
        c->owner = process_ref(p);
        LIST_INSERT_HEAD(&p->owned, c, owned);
        return 0;
}

void owner_unbind(struct context *c)
{
        struct process *p = c->owner;

        if (!p)
                return;
        LIST_REMOVE(c, owned);
        c->owner = NULL;
        process_unref(p);
}

void owner_exited(struct effects *e, struct process *p)
{
        uint64_t now_usec = now_boottime_usec();
        struct proc_stat stat;
        struct context *c;

        /* It may have execed since it was bound; a zombie still says as what it died. */
        if (!LIST_EMPTY(&p->owned) && proc_stat_read(p->identity.pid, &stat) >= 0 &&
                        stat.start_ticks == p->identity.start_ticks)
                memcpy(p->comm, stat.comm, sizeof p->comm);

        while ((c = LIST_FIRST(&p->owned))) {
                struct refused refused = {};
                struct cause *cause = cause_new(ECANCELED, "owner exited", p->uid, p->identity.pid, p->comm);
                uint32_t n;
                int r;

                owner_unbind(c);
                r = tree_cancel(e->tree, now_usec, &caller_daemon, c, cause, &n, &refused);
                if (r < 0)
                        log_warning("Cannot cancel context %llu after its owner's exit: %s",
                                        (unsigned long long) c->id, strerror(-r));
        }
}
