/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/probe.h"
#include "bpf/publish.h"
#include "util/clock.h"
#include "util/share.h"

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

void leaks_init(struct leaks *leaks)
{
        TAILQ_INIT(&leaks->news);
        leaks->max = PROBE_LEAKS_MAX;
}

struct thread *leak_headline(const struct leak *leak)
{
        return LIST_FIRST(&leak->threads);
}

bool leaks_have_room(const struct leaks *leaks, const struct account *account)
{
        return share_admits(account->n_leaks, leaks->n, leaks->max);
}

static bool is_charged(const struct leak *leak)
{
        return leak->key.kind != PROBE_LEAK_MORE;
}

static void leak_free(struct leak *leak)
{
        if (leak->watch)
                watch_unref(leak->watch);
        account_unref(leak->account);
        free(leak->detail);
        free(leak);
}

static struct leak *leak_new(struct probe *probe, const struct leak_key *key, const struct thread *thread)
{
        struct leak *leak = calloc(1, sizeof *leak);

        if (!leak)
                return NULL;
        leak->key = *key;
        if (is_charged(leak)) {
                leak->detail = calloc(1, sizeof *leak->detail);
                if (!leak->detail) {
                        leak_free(leak);
                        return NULL;
                }
        }
        leak->record = leak->detail ? &leak->detail->record : &probe->leaks.more;
        leak->watch = watch_ref(thread->watch);
        leak->account = account_share(thread->account);
        LIST_INIT(&leak->threads);
        HASH_ADD(hh, probe->leaks.by_key, key, sizeof leak->key, leak);
        if (is_charged(leak)) {
                leak->account->n_leaks++;
                probe->leaks.n++;
        }
        return leak;
}

/* It is not open any more. */
static void leak_unlink(struct probe *probe, struct leak *leak)
{
        HASH_DELETE(hh, probe->leaks.by_key, leak);
        if (is_charged(leak)) {
                leak->account->n_leaks--;
                probe->leaks.n--;
        } else {
                leak->watch->more = NULL;
        }
}

/* One that is resolved stays until everybody knows. */
static void leak_free_resolved(struct leak *leak)
{
        if (leak->resolved_usec > 0 && !leak->is_news && !leak->is_late)
                leak_free(leak);
}

struct leak *leak_join(struct probe *probe, struct thread *thread, enum probe_leak_kind kind,
                const struct evidence *evidence, const char *stack, unsigned percent)
{
        struct leak_key key = {
                        .context_id = thread->key.context_id,
                        .leader_start_nsec = thread->sample.leader_start_nsec,
                        .fingerprint = evidence ? fingerprint(evidence, stack) : 0,
                        .pid = thread->key.pid,
                        .kind = kind,
        };
        struct leak *leak, *new = NULL;

        HASH_FIND(hh, probe->leaks.by_key, &key, sizeof key, leak);
        if (!leak) {
                leak = new = leak_new(probe, &key, thread);
                if (!leak)
                        return NULL;
                leak->percent = percent;
                leak->named = thread->sample.named;
                if (evidence)
                        leak->detail->evidence = *evidence;
                else
                        leak->detail->evidence.sample = thread->sample;
                snprintf(leak->detail->stack, sizeof leak->detail->stack, "%s", stack);
        }
        /* The thread that the evidence is about stays the first one. */
        if (LIST_EMPTY(&leak->threads))
                LIST_INSERT_HEAD(&leak->threads, thread, in_leak);
        else
                LIST_INSERT_AFTER(LIST_FIRST(&leak->threads), thread, in_leak);
        thread->leak = leak;
        leak->count++;
        return new;
}

void leak_count_more(struct probe *probe, struct thread *thread, enum probe_leak_kind kind)
{
        struct leak_key key = {.context_id = thread->key.context_id, .kind = PROBE_LEAK_MORE};
        struct watch *watch = thread->watch;

        if (!watch->more) {
                watch->more = leak_new(probe, &key, thread);
                if (!watch->more)
                        return;
        }
        watch->more->count += thread->more == 0;
        thread->more = kind;
}

static void leak_resolve(struct probe *probe, struct leak *leak, const char *how)
{
        leak_unlink(probe, leak);
        leak->resolved_usec = now_boottime_usec();
        leak->how = is_charged(leak) ? how : "they have left or woken up";
        if (leak->is_journaled)
                publish_resolved(probe, leak);
        if (leak->is_told) {
                leak_tell(probe, leak);
                return;
        }
        if (leak->is_news)
                TAILQ_REMOVE(&probe->leaks.news, leak, news);
        leak->is_news = false;
        leak_free_resolved(leak);
}

void leak_leave(struct probe *probe, struct thread *thread, const char *how)
{
        struct leak *leak = thread->leak;

        if (thread->more) {
                leak = thread->watch->more;
                thread->more = 0;
        } else if (leak) {
                LIST_REMOVE(thread, in_leak);
                thread->leak = NULL;
        } else {
                return;
        }
        if (--leak->count == 0)
                leak_resolve(probe, leak, how);
}

bool leak_verify(struct probe *probe, struct leak *leak)
{
        struct thread *thread;

        if (leak->key.kind != PROBE_LEAK_BLOCKED)
                return true;
        while ((thread = leak_headline(leak))) {
                if (backend_unchanged(probe->backend, &thread->sample))
                        return true;
                LIST_REMOVE(thread, in_leak);
                thread->leak = NULL;
                leak->count--;
        }
        leak_unlink(probe, leak);
        leak_free(leak);
        return false;
}

void leak_tell(struct probe *probe, struct leak *leak)
{
        if (leak->is_news)
                return;
        leak->is_news = true;
        TAILQ_INSERT_TAIL(&probe->leaks.news, leak, news);
}

void leaks_tell(struct probe *probe, const struct watch *watch)
{
        struct leak *leak, *next;

        HASH_ITER (hh, probe->leaks.by_key, leak, next)
                if (leak->watch == watch && leak->id > 0)
                        leak_tell(probe, leak);
}

struct leak *leaks_first_news(const struct leaks *leaks)
{
        return TAILQ_FIRST(&leaks->news);
}

void leak_told(struct probe *probe, struct leak *leak)
{
        TAILQ_REMOVE(&probe->leaks.news, leak, news);
        leak->is_news = false;
        leak->is_told = true;
        leak_free_resolved(leak);
}

void leaks_drop_news(struct probe *probe)
{
        struct leak *leak, *next;

        while ((leak = leaks_first_news(&probe->leaks)))
                leak_told(probe, leak);
        /* The next ctxd knows none of them. */
        HASH_ITER (hh, probe->leaks.by_key, leak, next)
                leak->is_told = false;
}

void leak_not_late(struct leak *leak)
{
        TAILQ_REMOVE(&leak->account->late, leak, late);
        leak->is_late = false;
        leak_free_resolved(leak);
}

void leaks_deinit(struct leaks *leaks)
{
        struct leak_budget *budget, *next_budget;
        struct leak *leak, *next;

        while ((leak = leaks_first_news(leaks))) {
                TAILQ_REMOVE(&leaks->news, leak, news);
                leak->is_news = false;
                leak_free_resolved(leak);
        }
        HASH_ITER (hh, leaks->by_key, leak, next) {
                HASH_DELETE(hh, leaks->by_key, leak);
                leak_free(leak);
        }
        HASH_ITER (hh, leaks->budgets, budget, next_budget) {
                HASH_DELETE(hh, leaks->budgets, budget);
                free(budget);
        }
        leaks->timer = sd_event_source_disable_unref(leaks->timer);
}
