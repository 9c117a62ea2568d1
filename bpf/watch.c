/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/account.h"
#include "bpf/watch.h"
#include "util/share.h"

int watches_add(struct watches *watches, const struct probe_watch *record, uint64_t baseline_usec,
                struct watch **ret)
{
        struct watch *watch = watches_get(watches, record->context_id);
        int added = 0;

        if (!watch) {
                watch = calloc(1, sizeof *watch);
                if (!watch)
                        return -ENOMEM;
                watch->n_ref = 1;
                LIST_INIT(&watch->threads);
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
        struct entered_thread *entered = NULL;
        uint32_t n = record->n < PROBE_THREADS_MAX ? record->n : PROBE_THREADS_MAX;

        if (!watch)
                return -ENOENT;
        if (n > 0) {
                entered = calloc(n, sizeof *entered);
                if (!entered)
                        return -ENOMEM;
                for (uint32_t i = 0; i < n; i++)
                        entered[i] = (struct entered_thread){.pid = record->threads[i].pid,
                                        .tid = record->threads[i].tid,
                                        .uid = record->threads[i].uid};
        }
        free(watch->entered);
        watch->entered = entered;
        watch->n_entered = n;
        watch->n_unnamed = record->n_more;
        return 0;
}

static bool admit(struct accounts *accounts, uint32_t uid, size_t n)
{
        struct account *account = account_ref(accounts, uid);
        bool admitted = account && share_admits(account->n_entered, n, ENTERED_MAX);

        if (admitted)
                account->n_entered++;
        account_unref(account);
        return admitted;
}

void watches_admit_entered(struct watches *watches, struct accounts *accounts)
{
        struct account *account, *next_account;
        struct watch *watch, *next;
        size_t n = 0;

        HASH_ITER (hh, accounts->by_party, account, next_account)
                account->n_entered = 0;
        HASH_ITER (hh, watches->by_id, watch, next) {
                watch->n_unseen = watch->n_unnamed;
                for (uint32_t i = 0; i < watch->n_entered; i++) {
                        struct entered_thread *t = &watch->entered[i];

                        t->is_looked_at = admit(accounts, t->uid, n);
                        n += t->is_looked_at;
                        watch->n_unseen += !t->is_looked_at;
                }
        }
}

void watch_free(struct watches *watches, struct watch *watch)
{
        HASH_DELETE(hh, watches->by_id, watch);
        watch_unref(watch);
}

struct watch *watch_ref(struct watch *watch)
{
        watch->n_ref++;
        return watch;
}

void watch_unref(struct watch *watch)
{
        if (--watch->n_ref > 0)
                return;
        free(watch->entered);
        free(watch);
}

struct thread *watches_thread(struct watches *watches, struct accounts *accounts, struct watch *watch,
                const struct sample *sample)
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
                thread->account = account_ref(accounts, sample->uid);
                if (!thread->account) {
                        free(thread);
                        return NULL;
                }
                thread->key = key;
                thread->watch = watch;
                LIST_INSERT_HEAD(&watch->threads, thread, in_watch);
                HASH_ADD(hh, watches->threads, key, sizeof key, thread);
        } else if (!account_is_of(thread->account, sample->uid)) {
                /* It has become another user. What it has caused before stays where it was charged. */
                struct account *account = account_ref(accounts, sample->uid);

                if (account) {
                        account_unref(thread->account);
                        thread->account = account;
                }
        }
        return thread;
}

void thread_free(struct watches *watches, struct thread *thread)
{
        assert(!thread->leak && !thread->more);
        HASH_DELETE(hh, watches->threads, thread);
        LIST_REMOVE(thread, in_watch);
        account_unref(thread->account);
        free(thread);
}
