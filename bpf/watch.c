/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/watch.h"

int watches_add(struct watches *watches, const struct probe_watch *record, uint64_t baseline_usec,
                struct watch **ret)
{
        struct watch *watch = watches_get(watches, record->context_id);
        int added = 0;

        if (!watch) {
                watch = calloc(1, sizeof *watch);
                if (!watch)
                        return -ENOMEM;
                watch->context_id = record->context_id;
                watch->baseline_usec = baseline_usec;
                HASH_ADD(hh, watches->by_id, context_id, sizeof watch->context_id, watch);
                added = 1;
        }
        watch->record = *record;
        if (watch->record.n_pids > PROBE_PIDS_MAX)
                watch->record.n_pids = PROBE_PIDS_MAX;
        if (watch->record.n_uids > PROBE_UIDS_MAX)
                watch->record.n_uids = PROBE_UIDS_MAX;
        watch->confirmed = true;
        *ret = watch;
        return added;
}

struct watch *watches_get(const struct watches *watches, uint64_t context_id)
{
        struct watch *watch;

        HASH_FIND(hh, watches->by_id, &context_id, sizeof context_id, watch);
        return watch;
}

int watches_set_entered(struct watches *watches, const struct probe_threads *record)
{
        struct watch *watch = watches_get(watches, record->context_id);
        struct probe_thread *entered = NULL;
        uint32_t n = record->n < PROBE_THREADS_MAX ? record->n : PROBE_THREADS_MAX;

        if (!watch)
                return -ENOENT;
        if (n > 0) {
                entered = calloc(n, sizeof *entered);
                if (!entered)
                        return -ENOMEM;
                memcpy(entered, record->threads, n * sizeof *entered);
        }
        free(watch->entered);
        watch->entered = entered;
        watch->n_entered = n;
        return 0;
}

void watch_free(struct watches *watches, struct watch *watch)
{
        HASH_DELETE(hh, watches->by_id, watch);
        free(watch->entered);
        free(watch);
}

struct thread *watches_thread(struct watches *watches, struct watch *watch, const struct sample *sample)
{
        struct thread_key key = {
                        .context_id = sample->context_id,
                        .start_nsec = sample->start_nsec,
                        .pid = sample->pid,
                        .tid = sample->tid,
        };
        struct thread *thread;

        HASH_FIND(hh, watches->threads, &key, sizeof key, thread);
        if (!thread) {
                thread = calloc(1, sizeof *thread);
                if (!thread)
                        return NULL;
                thread->key = key;
                thread->watch = watch;
                HASH_ADD(hh, watches->threads, key, sizeof key, thread);
        }
        return thread;
}

void thread_free(struct watches *watches, struct thread *thread)
{
        assert(!thread->leak);
        HASH_DELETE(hh, watches->threads, thread);
        free(thread);
}
