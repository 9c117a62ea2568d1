/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "daemon/world/internal.h"
#include "util/cleanup.h"

/* What the probe is told, in order, as fast as its socket takes it and no faster. */

#define QUEUE_MAX 65536
#define STALLED_USEC 30000000

/* A context that the probe has to watch or to forget; written out when the socket takes it. */
struct announcement {
        uint64_t context_id;
        uint32_t type; /* PROBE_WATCH, PROBE_FORGET or PROBE_THREADS */
        STAILQ_ENTRY(announcement) queue;
};

void probe_queue_clear(struct probe_link *l)
{
        struct announcement *a;

        while ((a = STAILQ_FIRST(&l->queue))) {
                STAILQ_REMOVE_HEAD(&l->queue, queue);
                free(a);
        }
        l->n_queued = 0;
}

int probe_send_welcome(struct effects *e)
{
        const int *kept = bpf_membership_fds(e->membership.bpf);
        struct probe_welcome welcome = {
                        .header = {PROBE_WELCOME, sizeof welcome},
                        .version = PROBE_PROTOCOL_VERSION,
                        .kept = kept ? PROBE_FDS : 0,
                        .backend = e->link.mode == PROBE_MODE_PROC ? PROBE_BACKEND_PROC : PROBE_BACKEND_BPF,
                        .strict = e->link.mode == PROBE_MODE_BPF,
        };
        int r;

        r = probe_connection_send(&e->link.connection, &welcome.header, kept, kept ? PROBE_FDS : 0);
        return r > 0 ? 0 : r < 0 ? r : -EAGAIN;
}

static int send_forget(struct effects *e, uint64_t context_id)
{
        struct probe_forget forget = {{PROBE_FORGET, sizeof forget}, context_id};

        return probe_connection_send(&e->link.connection, &forget.header, NULL, 0);
}

_Static_assert(CONTEXT_POLICIES_MAX <= PROBE_UIDS_MAX, "all that have attached fit into a record");

static int send_watch(struct effects *e, uint64_t context_id)
{
        struct member_slot *slot = membership_slot(e, context_id);
        struct probe_watch w;
        struct context *c;

        if (!slot || !slot->context || !slot->announced)
                return 1; /* it has gone meanwhile */
        c = slot->context;
        memset(&w, 0, sizeof w);
        w.header = (struct probe_header){PROBE_WATCH, sizeof w};
        w.context_id = c->id;
        w.slot = e->membership.backend == &membership_bpf ? slot->number : 0;
        w.state = c->state;
        w.done_usec = c->done_usec;
        w.grace_usec = c->grace_usec;
        if (w.slot == 0)
                w.n_pids = (uint32_t) direct_pids(e, slot, w.pids, ELEMENTSOF(w.pids));
        for (unsigned i = 0; i < c->n_policies; i++)
                w.uids[w.n_uids++] = c->policies[i].uid;
        context_path(c, w.path);
        snprintf(w.cause, sizeof w.cause, "%s", context_cause(c, NULL));
        return probe_connection_send(&e->link.connection, &w.header, NULL, 0);
}

static int add_thread(void *userdata, struct process *p, uint32_t tid, uint64_t since_usec)
{
        struct probe_threads *t = userdata;

        if (t->n < PROBE_THREADS_MAX)
                t->threads[t->n++] = (struct probe_thread){(uint32_t) process_pid(p), tid};
        return 0;
}

static int send_threads(struct effects *e, uint64_t context_id)
{
        struct member_slot *slot = membership_slot(e, context_id);
        struct probe_threads t = {.header = {PROBE_THREADS, sizeof t}, .context_id = context_id};

        if (!slot || !slot->context || !slot->announced)
                return 1; /* it has gone meanwhile */
        (void) threads_each(e, slot, add_thread, &t);
        return probe_connection_send(&e->link.connection, &t.header, NULL, 0);
}

static int send_announcement(struct effects *e, const struct announcement *a)
{
        switch (a->type) {
        case PROBE_WATCH:
                return send_watch(e, a->context_id);
        case PROBE_THREADS:
                return send_threads(e, a->context_id);
        default:
                return send_forget(e, a->context_id);
        }
}

static void want_to_write(struct effects *e, bool want)
{
        (void) sd_event_source_set_io_events(e->link.source, want ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

void probe_queue_flush(struct effects *e)
{
        struct probe_link *l = &e->link;
        struct announcement *a;
        int r;

        while ((a = STAILQ_FIRST(&l->queue))) {
                r = send_announcement(e, a);
                if (r == 0) {
                        want_to_write(e, true);
                        return;
                }
                if (r < 0) {
                        probe_link_lost(e, "its socket was closed");
                        return;
                }
                STAILQ_REMOVE_HEAD(&l->queue, queue);
                l->n_queued--;
                free(a);
        }
        want_to_write(e, false);
}

static void announce(struct effects *e, uint32_t type, uint64_t context_id)
{
        struct probe_link *l = &e->link;
        struct announcement *a;
        bool idle = STAILQ_EMPTY(&l->queue);

        if (!l->said_hello)
                return; /* all that is to be known is said after HELLO */
        if (idle)
                probe_connection_restart_clock(&l->connection);
        else if (l->n_queued >= QUEUE_MAX || probe_connection_is_stalled(&l->connection, STALLED_USEC)) {
                probe_link_lost(e, "it does not read what it is told");
                return;
        }
        a = calloc(1, sizeof *a);
        if (!a) {
                probe_link_lost(e, "out of memory");
                return;
        }
        a->context_id = context_id;
        a->type = type;
        STAILQ_INSERT_TAIL(&l->queue, a, queue);
        l->n_queued++;
        if (idle)
                probe_queue_flush(e);
}

void probe_link_watch(struct effects *e, struct member_slot *slot)
{
        slot->announced = true;
        announce(e, PROBE_WATCH, slot->context_id);
        if (!LIST_EMPTY(&slot->entrances))
                probe_link_threads(e, slot);
}

void probe_link_threads(struct effects *e, struct member_slot *slot)
{
        if (slot->announced)
                announce(e, PROBE_THREADS, slot->context_id);
}

void probe_link_forget(struct effects *e, struct member_slot *slot)
{
        if (!slot->announced)
                return;
        slot->announced = false;
        announce(e, PROBE_FORGET, slot->context_id);
}

void probe_announce_all(struct effects *e)
{
        struct member_slot *slot, *next;

        HASH_ITER (hh, e->membership.by_id, slot, next)
                if (slot->context && context_is_done(slot->context) && slot->context->busy)
                        probe_link_watch(e, slot);
}
