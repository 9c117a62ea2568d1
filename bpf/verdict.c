/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/chain.h"
#include "bpf/disclosure.h"
#include "bpf/probe.h"
#include "bpf/publish.h"
#include "bpf/verdict.h"
#include "util/clock.h"

#define EVIDENCE_USEC UINT64_C(200000)

static void become_leak(struct probe *probe, struct thread *thread, enum probe_leak_kind kind,
                const struct evidence *evidence, const char *stack, unsigned percent)
{
        struct leak *leak;

        if (thread->leak || thread->more)
                leak_leave(probe, thread, "it is blocked now");
        leak = leak_join(probe, thread, kind, evidence, stack, percent);
        if (leak)
                publish_describe(probe, leak);
}

/* A thread that has run since the verdict is not accused. */
static void accuse_blocked(struct probe *probe, struct thread *thread)
{
        struct evidence evidence = {};
        char stack[sizeof(((struct leak_detail *) NULL)->stack)] = "";
        int r;

        if (!leaks_have_room(&probe->leaks, thread->account)) {
                /* If it was ignoring, that leak stays. */
                if (!thread->leak)
                        leak_count_more(probe, thread, PROBE_LEAK_BLOCKED);
                return;
        }
        if (disclosure_reader(&thread->watch->record, &thread->sample) == PROBE_NOBODY) {
                if (backend_unchanged(probe->backend, &thread->sample))
                        become_leak(probe, thread, PROBE_LEAK_BLOCKED, NULL, "", 0);
                return;
        }
        r = backend_evidence(probe->backend, &thread->sample, &evidence, stack, sizeof stack);
        if (r == -EBUSY && backend_unchanged(probe->backend, &thread->sample))
                become_leak(probe, thread, PROBE_LEAK_BLOCKED, NULL, "", 0); /* who hides is told of, too */
        if (r < 0)
                return;
        if (evidence.sample.start_nsec != thread->sample.start_nsec ||
                        evidence.sample.tid != thread->sample.tid ||
                        evidence.sample.context_id != thread->sample.context_id ||
                        evidence.nvcsw_after + evidence.nivcsw_after != thread->clock.switches ||
                        sample_activity(&evidence.sample) != ACTIVITY_SLEEPS)
                return;
        become_leak(probe, thread, PROBE_LEAK_BLOCKED, &evidence, stack, 0);
}

/* Whether the thread is blocked. If it waits for another member, that one is to blame. */
static bool is_blocked(const struct probe *probe, const struct thread *thread, uint64_t begin)
{
        const struct probe_watch *record = &thread->watch->record;
        const struct sweeper *s = &probe->sweeper;

        return begin >= thread_clock_blocked_at(&thread->clock, record->done_usec, record->grace_usec) &&
               !chain_awaited(s->samples, s->n_samples, &thread->sample);
}

/* Who has not had a turn in this sweep is first in the next one. */
static void put_first(struct probe *probe, struct account_queue *waiting)
{
        struct account *account;

        TAILQ_FOREACH_REVERSE(account, waiting, account_queue, waiting)
        {
                TAILQ_REMOVE(&probe->accounts.all, account, all);
                TAILQ_INSERT_HEAD(&probe->accounts.all, account, all);
                TAILQ_INIT(&account->due);
        }
}

static bool judge_blocked(struct probe *probe, uint64_t begin)
{
        uint64_t end = now_monotonic_usec() + EVIDENCE_USEC;
        struct account_queue waiting = TAILQ_HEAD_INITIALIZER(waiting);
        struct account *account;
        struct thread *thread, *next;

        HASH_ITER (hh, probe->watches.threads, thread, next) {
                if (thread->leak && thread->leak->key.kind == PROBE_LEAK_BLOCKED)
                        continue;
                if (is_blocked(probe, thread, begin))
                        TAILQ_INSERT_TAIL(&thread->account->due, thread, due);
                else if (thread->more == PROBE_LEAK_BLOCKED)
                        leak_leave(probe, thread, "it waits for another one now");
        }
        if (!probe->accounts.by_party)
                return false;
        TAILQ_FOREACH (account, &probe->accounts.all, all)
                if (!TAILQ_EMPTY(&account->due))
                        TAILQ_INSERT_TAIL(&waiting, account, waiting);
        while ((account = TAILQ_FIRST(&waiting)) && now_monotonic_usec() < end) {
                TAILQ_REMOVE(&waiting, account, waiting);
                thread = TAILQ_FIRST(&account->due);
                TAILQ_REMOVE(&account->due, thread, due);
                accuse_blocked(probe, thread);
                if (!TAILQ_EMPTY(&account->due))
                        TAILQ_INSERT_TAIL(&waiting, account, waiting);
        }
        put_first(probe, &waiting);
        return account != NULL;
}

/* What is known of a process, while its threads are looked at one after the other. */
struct suspect {
        struct {
                uint64_t context_id, start_nsec, pid;
        } key;
        struct thread *thread; /* the busiest one that is ignoring */
        unsigned percent;
        bool excused; /* one of its threads is reported, or held, or waits for a child */
        UT_hash_handle hh;
};

static void accuse_ignoring(struct probe *probe, struct thread *thread, unsigned percent)
{
        if (leaks_have_room(&probe->leaks, thread->account))
                become_leak(probe, thread, PROBE_LEAK_IGNORING, NULL, "", percent);
        else
                leak_count_more(probe, thread, PROBE_LEAK_IGNORING);
}

static void judge_ignoring(struct probe *probe, uint64_t now)
{
        const struct sweeper *s = &probe->sweeper;
        struct suspect *suspects = NULL, *suspect, *following;
        struct thread *thread, *next;

        HASH_ITER (hh, probe->watches.threads, thread, next) {
                const struct probe_watch *record = &thread->watch->record;
                unsigned percent = 0;

                suspect = calloc(1, sizeof *suspect);
                if (!suspect)
                        break;
                suspect->key.context_id = thread->key.context_id;
                suspect->key.start_nsec = thread->sample.leader_start_nsec;
                suspect->key.pid = thread->key.pid;
                HASH_FIND(hh, suspects, &suspect->key, sizeof suspect->key, following);
                if (following) {
                        free(suspect);
                        suspect = following;
                } else {
                        HASH_ADD(hh, suspects, key, sizeof suspect->key, suspect);
                }
                /* What was not looked at in this sweep may have stopped since. */
                if (thread->sweep != s->number || thread->leak ||
                                (thread->more && !leaks_have_room(&probe->leaks, thread->account)) ||
                                sample_activity(&thread->sample) == ACTIVITY_HELD ||
                                chain_awaited(s->samples, s->n_samples, &thread->sample))
                        suspect->excused = true;
                else if (thread_clock_ignoring(&thread->clock, &thread->sample, now, record->done_usec,
                                         record->grace_usec, &percent) &&
                                (!suspect->thread || percent > suspect->percent ||
                                                (percent == suspect->percent &&
                                                                thread->key.tid == thread->key.pid))) {
                        suspect->thread = thread;
                        suspect->percent = percent;
                }
        }
        HASH_ITER (hh, suspects, suspect, following) {
                if (suspect->thread && !suspect->excused)
                        accuse_ignoring(probe, suspect->thread, suspect->percent);
                HASH_DELETE(hh, suspects, suspect);
                free(suspect);
        }
}

bool verdict_pass(struct probe *probe, uint64_t begin)
{
        bool is_behind = judge_blocked(probe, begin);

        judge_ignoring(probe, begin);
        return is_behind;
}
