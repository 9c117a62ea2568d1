/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/internal.h"
#include "util/cleanup.h"
#include "util/log.h"

/* Takes the records that the probe has sent, and forms those that it is to have from what the tree and the
 * rooms know. */

#define RECORDS_AT_ONCE 256

/* A new probe knows nothing yet. It is told of every done context that has members. */
static void announce_all(struct engine *e)
{
        struct anchor *a = NULL;

        while ((a = membership_next_context(e->membership, a)))
                if (context_is_done(a->context) && a->context->busy)
                        probe_watch(e->probe, a);
}

static int take_hello(struct engine *e, struct probe_message *m)
{
        const struct probe_hello *hello = &m->hello;
        bool has_kept = hello->kept && membership_bpf_fds(e->membership);
        bool with_fds = hello->backend == PROBE_BACKEND_BPF && !has_kept;
        int r;

        if (probe_is_known(e->probe) || hello->version != PROBE_PROTOCOL_VERSION ||
                        hello->backend > PROBE_BACKEND_BPF || (with_fds && m->n_fds == 0))
                return -EPROTO;
        if (with_fds) {
                r = membership_use_bpf(e->membership, m->fds);
                if (r < 0) {
                        log_warning("Cannot use the probe's maps: %s", strerror(-r));
                        return r;
                }
                /* The room has taken the descriptors over. */
                m->n_fds = 0;
        }
        probe_accept(e->probe, hello);
        leaks_probe_new(e->leaks);
        announce_all(e);
        return 0;
}

static int take_record(struct engine *e, struct probe_message *m)
{
        struct anchor *a;

        if (m->header.type == PROBE_HELLO)
                return take_hello(e, m);
        if (!probe_is_known(e->probe))
                return -EPROTO;
        switch (m->header.type) {
        case PROBE_LEAK:
                a = anchor_find(e, m->leak.context_id);
                /* If the context has no members any more, they have left while the report was on its way. */
                if (a && a->context->busy)
                        leaks_add(e->leaks, a, &m->leak);
                return 0;
        case PROBE_RESOLVED:
                a = anchor_find(e, m->resolved.context_id);
                if (a)
                        leaks_resolve(e->leaks, a, &m->resolved);
                return 0;
        case PROBE_SWEPT:
                probe_swept(e->probe, &m->swept);
                return 0;
        default:
                return -EPROTO;
        }
}

void engine_serve_probe(struct engine *e)
{
        struct probe_message m;

        if (probe_is_new(e->probe))
                probe_send_welcome(e->probe, membership_bpf_fds(e->membership));
        for (unsigned i = 0; i < RECORDS_AT_ONCE && probe_receive(e->probe, &m) > 0; i++) {
                int r = take_record(e, &m);

                probe_message_close(&m);
                if (r < 0)
                        probe_lost(e->probe, "it does not speak our language");
        }
}

_Static_assert(CONTEXT_POLICIES_MAX <= PROBE_UIDS_MAX, "all that have attached fit into a record");

static void form_watch(struct engine *e, struct anchor *a, struct probe_watch *w)
{
        const struct context *c = a->context, *origin = context_origin(c);
        const struct cause *cause = origin ? origin->cause : NULL;

        memset(w, 0, sizeof *w);
        w->header = (struct probe_header){PROBE_WATCH, sizeof *w};
        w->context_id = c->id;
        w->slot = membership_slot_number(e->membership, a);
        w->state = c->state;
        w->done_usec = c->done_usec;
        w->grace_usec = c->grace_usec;
        if (w->slot == 0)
                w->n_pids = (uint32_t) membership_pids(e->membership, a, w->pids, ELEMENTSOF(w->pids));
        for (unsigned i = 0; i < c->n_policies; i++)
                w->uids[w->n_uids++] = c->policies[i].uid;
        context_path(c, w->path);
        snprintf(w->cause, sizeof w->cause, "%s", context_cause(c, NULL));
        w->cause_uid = cause && cause->message[0] && (cause->pid != 0 || cause->uid != (uid_t) -1)
                                       ? cause->uid
                                       : PROBE_NOBODY;
}

static void form_threads(struct engine *e, struct anchor *a, struct probe_threads *t)
{
        struct entered_thread *threads = NULL;
        size_t n = 0;

        *t = (struct probe_threads){.header = {PROBE_THREADS, sizeof *t}, .context_id = a->context_id};
        if (threads_list(e->thread_pages, a, &threads, &n) < 0)
                return;
        for (; t->n < n && t->n < PROBE_THREADS_MAX; t->n++)
                t->threads[t->n] = (struct probe_thread){(uint32_t) process_pid(threads[t->n].process),
                                threads[t->n].tid, process_uid(threads[t->n].process)};
        t->n_more = (uint32_t) (n - t->n);
        free(threads);
}

/* Sends the record of that type about that context. 0: the socket takes no more now. */
static int send_one(struct engine *e, unsigned type, uint64_t context_id)
{
        struct anchor *a = anchor_find(e, context_id);
        union {
                struct probe_header header;
                struct probe_watch watch;
                struct probe_threads threads;
                struct probe_forget forget;
        } record;

        if (type == PROBE_FORGET) {
                record.forget = (struct probe_forget){{PROBE_FORGET, sizeof record.forget}, context_id};
        } else if (!a) {
                return probe_send(e->probe, NULL);
        } else if (type == PROBE_WATCH) {
                form_watch(e, a, &record.watch);
        } else {
                form_threads(e, a, &record.threads);
        }
        return probe_send(e->probe, &record.header);
}

void engine_tell_probe(struct engine *e)
{
        uint64_t context_id;
        unsigned type;

        while ((type = probe_next(e->probe, &context_id)) != 0)
                if (send_one(e, type, context_id) == 0)
                        return;
}
