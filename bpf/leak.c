/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/disclosure.h"
#include "bpf/probe.h"
#include "bpf/report.h"
#include "bpf/syscall.h"
#include "bpf/waits.h"
#include "util/clock.h"

/* The first repeat comes after this many graces. Each one after it takes REPEAT_FACTOR times as long. */
#define REPEAT_GRACES 4
#define REPEAT_FACTOR 4
#define REPEAT_MIN_USEC UINT64_C(1000000)
#define REPEAT_MAX_USEC (UINT64_C(6) * 3600 * 1000000)

/* The journal gets no more than so many entries about one process in this time. */
#define BUDGET 10
#define BUDGET_WINDOW_USEC UINT64_C(60000000)

/* The innermost frames, which tell one place from another. The outer ones are the same for each system
 * call. */
#define FINGERPRINT_FRAMES 6

static uint64_t hash_more(uint64_t hash, const void *data, size_t size)
{
        const unsigned char *p = data;

        for (size_t i = 0; i < size; i++)
                hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
        return hash;
}

static uint64_t fingerprint(const struct evidence *evidence, const char *stack)
{
        uint64_t hash = UINT64_C(0xcbf29ce484222325);
        size_t n = evidence->n_frames < FINGERPRINT_FRAMES ? evidence->n_frames : FINGERPRINT_FRAMES;

        hash = hash_more(hash, &evidence->sample.syscall, sizeof evidence->sample.syscall);
        if (n == 0)
                return hash_more(hash, stack, strcspn(stack, "\n"));
        return hash_more(hash, evidence->frames, n * sizeof evidence->frames[0]);
}

struct thread *leak_headline(const struct leak *leak)
{
        return LIST_FIRST(&leak->threads);
}

int leak_join(struct probe *probe, struct thread *thread, enum probe_leak_kind kind,
                const struct evidence *evidence, const char *stack, unsigned percent)
{
        struct leak_key key = {
                        .context_id = thread->key.context_id,
                        .leader_start_nsec = thread->sample.leader_start_nsec,
                        .fingerprint = evidence ? fingerprint(evidence, stack) : 0,
                        .pid = thread->key.pid,
                        .kind = kind,
        };
        struct leak *leak;

        HASH_FIND(hh, probe->leaks.by_key, &key, sizeof key, leak);
        if (!leak) {
                leak = calloc(1, sizeof *leak);
                if (!leak)
                        return -1;
                leak->key = key;
                leak->watch = thread->watch;
                leak->percent = percent;
                LIST_INIT(&leak->threads);
                if (evidence)
                        leak->evidence = *evidence;
                else
                        leak->evidence.sample = thread->sample;
                snprintf(leak->stack, sizeof leak->stack, "%s", stack);
                HASH_ADD(hh, probe->leaks.by_key, key, sizeof leak->key, leak);
        }
        /* The thread that the evidence is about stays the first one. */
        if (LIST_EMPTY(&leak->threads))
                LIST_INSERT_HEAD(&leak->threads, thread, in_leak);
        else
                LIST_INSERT_AFTER(LIST_FIRST(&leak->threads), thread, in_leak);
        thread->leak = leak;
        leak->count++;
        return 0;
}

static struct leak_budget *budget_of(struct probe *probe, const struct leak *leak, uint64_t now)
{
        struct leak_budget *budget, like = {.key = {leak->key.leader_start_nsec, leak->key.pid}};

        HASH_FIND(hh, probe->leaks.budgets, &like.key, sizeof like.key, budget);
        if (!budget) {
                budget = calloc(1, sizeof *budget);
                if (!budget)
                        return NULL;
                budget->key = like.key;
                budget->window_usec = now;
                HASH_ADD(hh, probe->leaks.budgets, key, sizeof budget->key, budget);
        }
        if (now - budget->window_usec >= BUDGET_WINDOW_USEC) {
                budget->window_usec = now;
                budget->used = 0;
        }
        return budget;
}

/* Frees old budgets: their processes have had no new entry for long. */
static void budgets_trim(struct probe *probe, uint64_t now)
{
        struct leak_budget *budget, *next;

        HASH_ITER (hh, probe->leaks.budgets, budget, next) {
                if (now - budget->window_usec < 2 * BUDGET_WINDOW_USEC)
                        continue;
                HASH_DELETE(hh, probe->leaks.budgets, budget);
                free(budget);
        }
}

static void journal_found(struct probe *probe, struct leak *leak, uint64_t now)
{
        struct leak_budget *budget = budget_of(probe, leak, now);

        if (budget && budget->used >= BUDGET) {
                budget->left_out++;
                return;
        }
        report_found(probe, leak, budget ? budget->left_out : 0);
        leak->journaled = true;
        if (budget) {
                budget->used++;
                budget->left_out = 0;
        }
}

static void fill_times(struct leak *leak, uint64_t now)
{
        const struct thread *thread = leak_headline(leak);
        uint64_t done = leak->watch->record.done_usec, blocked = UINT64_MAX;

        leak->record.since_done_usec = now > done ? now - done : 0;
        leak->record.count = leak->count;
        if (leak->key.kind == PROBE_LEAK_BLOCKED) {
                /* The kernel's figure, where it has one. The thread has slept for at least as long as it
                 * was seen to. */
                uint64_t seen = thread->clock.asleep_usec > 0 ? now - thread->clock.asleep_usec : 0;

                if (leak->evidence.sample.slept_nsec != UINT64_MAX)
                        blocked = leak->evidence.sample.slept_nsec / 1000 + (now - leak->found_usec);
                if (blocked == UINT64_MAX || blocked < seen)
                        blocked = seen;
        }
        leak->record.blocked_usec = blocked;
}

/* Only how long the thread has slept is left. */
static void drop_evidence(struct leak *leak)
{
        struct probe_leak *record = &leak->record;

        memset(record->syscall_text, 0, sizeof record->syscall_text);
        memset(record->waits_on, 0, sizeof record->waits_on);
        memset(record->why, 0, sizeof record->why);
        memset(record->kernel_stack, 0, sizeof record->kernel_stack);
        memset(record->stack, 0, sizeof record->stack);
        memset(leak->stack, 0, sizeof leak->stack);
        leak->evidence = (struct evidence){
                        .sample = {.syscall = -1, .slept_nsec = leak->evidence.sample.slept_nsec}};
}

/* Fills in where the thread is and why it does not end, if that may be told. */
static void fill_evidence(struct probe *probe, struct leak *leak)
{
        const struct sample *sample = &leak_headline(leak)->sample;
        struct probe_leak *record = &leak->record;
        struct evidence *evidence = &leak->evidence;

        if (!disclosure_is_allowed(&leak->watch->record, sample)) {
                drop_evidence(leak);
                return;
        }
        memcpy(record->kernel_stack, leak->stack, sizeof record->kernel_stack);
        if (leak->key.kind == PROBE_LEAK_BLOCKED) {
                waits_syscall(&evidence->sample, record->syscall_text, sizeof record->syscall_text);
                waits_on(probe, evidence, record->waits_on, sizeof record->waits_on);
        }
        waits_why(probe, sample, record->why, sizeof record->why);
}

/* Sends a leak that was sent before. Meanwhile its process may have become one of which less may be told. */
static void leak_tell(struct probe *probe, struct leak *leak)
{
        if (!disclosure_is_allowed(&leak->watch->record, &leak_headline(leak)->sample))
                drop_evidence(leak);
        link_send(probe, &leak->record.header);
}

static void fill_record(struct probe *probe, struct leak *leak, uint64_t now)
{
        const struct thread *thread = leak_headline(leak);
        struct probe_leak *record = &leak->record;

        record->header.type = PROBE_LEAK;
        record->header.size = sizeof *record;
        record->leak_id = leak->id;
        record->context_id = leak->key.context_id;
        record->kind = leak->key.kind;
        record->backend = backend_kind(probe->backend);
        record->pid = thread->key.pid;
        record->tid = thread->key.tid;
        memcpy(record->comm, thread->sample.comm, sizeof record->comm);
        fill_evidence(probe, leak);
        fill_times(leak, now);
}

static void leak_unlink(struct leaks *leaks, struct leak *leak)
{
        HASH_DELETE(hh, leaks->by_key, leak);
        free(leak);
}

void leak_leave(struct probe *probe, struct thread *thread, const char *how)
{
        struct leak *leak = thread->leak;
        uint64_t now = now_boottime_usec();

        if (!leak)
                return;
        LIST_REMOVE(thread, in_leak);
        thread->leak = NULL;
        leak->count--;
        if (leak->count > 0)
                return;
        if (leak->id > 0) {
                struct probe_resolved record = {
                                .header = {.type = PROBE_RESOLVED, .size = sizeof record},
                                .leak_id = leak->id,
                                .context_id = leak->key.context_id,
                };

                link_send(probe, &record.header);
                if (leak->journaled)
                        report_resolved(probe, leak, now, how);
        }
        leak_unlink(&probe->leaks, leak);
}

/* Is called after the evidence was read: threads that have run since are taken out of the leak. The
 * evidence may be that of such a thread. It still fits the ones that are left, which are in the same place.
 * False: none is left. */
static bool leak_verify(struct probe *probe, struct leak *leak)
{
        if (leak->key.kind != PROBE_LEAK_BLOCKED)
                return true;
        while (leak_headline(leak)) {
                struct thread *thread = leak_headline(leak);

                if (backend_unchanged(probe->backend, &thread->sample))
                        return true;
                LIST_REMOVE(thread, in_leak);
                thread->leak = NULL;
                leak->count--;
        }
        return false;
}

static void publish_new(struct probe *probe, struct leak *leak, uint64_t now)
{
        uint64_t grace = leak->watch->record.grace_usec;

        leak->found_usec = now;
        fill_record(probe, leak, now);
        if (!leak_verify(probe, leak)) {
                leak_unlink(&probe->leaks, leak);
                return;
        }
        if (leak->record.tid != leak_headline(leak)->key.tid)
                fill_record(probe, leak, now);
        leak->id = leak->record.leak_id = ++probe->leaks.last_id;
        leak->interval_usec =
                        grace < REPEAT_MAX_USEC / REPEAT_GRACES ? grace * REPEAT_GRACES : REPEAT_MAX_USEC;
        if (leak->interval_usec < REPEAT_MIN_USEC)
                leak->interval_usec = REPEAT_MIN_USEC;
        leak->repeat_usec = now + leak->interval_usec;
        leak->count_told = leak->count;
        link_send(probe, &leak->record.header);
        journal_found(probe, leak, now);
}

void leaks_publish(struct probe *probe, uint64_t now)
{
        struct leak *leak, *next;

        HASH_ITER (hh, probe->leaks.by_key, leak, next) {
                if (leak->id == 0) {
                        publish_new(probe, leak, now);
                        continue;
                }
                if (leak->count == leak->count_told && now < leak->repeat_usec)
                        continue;
                fill_times(leak, now);
                leak->record.pid = leak_headline(leak)->key.pid;
                leak->record.tid = leak_headline(leak)->key.tid;
                leak->count_told = leak->count;
                leak_tell(probe, leak);
                if (now >= leak->repeat_usec) {
                        journal_found(probe, leak, now);
                        leak->interval_usec = leak->interval_usec < REPEAT_MAX_USEC / REPEAT_FACTOR
                                                              ? leak->interval_usec * REPEAT_FACTOR
                                                              : REPEAT_MAX_USEC;
                        leak->repeat_usec = now + leak->interval_usec;
                }
        }
        budgets_trim(probe, now);
}

void leaks_tell(struct probe *probe, const struct watch *watch)
{
        struct leak *leak, *next;

        HASH_ITER (hh, probe->leaks.by_key, leak, next) {
                if (leak->watch == watch && leak->id > 0)
                        leak_tell(probe, leak);
        }
}

void leaks_deinit(struct leaks *leaks)
{
        struct leak_budget *budget, *next_budget;
        struct leak *leak, *next;

        HASH_ITER (hh, leaks->by_key, leak, next)
                leak_unlink(leaks, leak);
        HASH_ITER (hh, leaks->budgets, budget, next_budget) {
                HASH_DELETE(hh, leaks->budgets, budget);
                free(budget);
        }
}
