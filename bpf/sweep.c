/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* When the sweeps take place, and what follows from them. No verdict follows from two samples if the
 * machine was suspended between them. If the probe itself is late, the verdicts wait: a thread that should
 * have woken may not have got a CPU either. But they do not wait for ever, since some machines are always
 * late. While nothing is watched, there are no sweeps. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bpf/chain.h"
#include "bpf/probe.h"
#include "bpf/publish.h"
#include "bpf/verdict.h"
#include "bpf/waits.h"
#include "util/clock.h"
#include "util/log.h"

#define BASELINE_USEC UINT64_C(50000)
#define INTERVAL_MIN_USEC UINT64_C(50000)
#define INTERVAL_MAX_USEC UINT64_C(2000000)
#define INTERVAL_IDLE_USEC UINT64_C(5000000)
/* Between sweeps that could not judge everybody, so that they take a fraction of a CPU alone. */
#define BEHIND_USEC UINT64_C(1000000)
#define LATE_USEC UINT64_C(100000)
#define LATE_WAIT_USEC UINT64_C(1000000)
#define LATE_MAX 5
#define SUSPEND_USEC INT64_C(20000)

static uint64_t min_usec(uint64_t a, uint64_t b)
{
        return a < b ? a : b;
}

static uint64_t max_usec(uint64_t a, uint64_t b)
{
        return a > b ? a : b;
}

/* How long the machine has been suspended: the difference between two clocks. They are read one after the
 * other, and once more if something else ran in between. */
static int64_t suspended_usec(void)
{
        int64_t before, boottime = 0;

        for (int i = 0; i < 5; i++) {
                before = (int64_t) now_monotonic_usec();
                boottime = (int64_t) now_boottime_usec();
                if ((int64_t) now_monotonic_usec() - before < SUSPEND_USEC / 2)
                        break;
        }
        return boottime - before;
}

/* A sweep */

static void on_sample(const struct sample *sample, void *userdata)
{
        struct sweeper *s = userdata;

        if (s->n_samples == s->n_allocated) {
                size_t n = s->n_allocated ? s->n_allocated * 2 : 64;
                struct sample *larger = reallocarray(s->samples, n, sizeof *larger);

                if (!larger)
                        return;
                s->samples = larger;
                s->n_allocated = n;
        }
        s->samples[s->n_samples] = *sample;
        s->samples[s->n_samples].comm[sizeof sample->comm - 1] = '\0';
        waits_make_printable(s->samples[s->n_samples].comm);
        s->n_samples++;
}

static void drop_thread(struct probe *probe, struct thread *thread, const char *how)
{
        leak_leave(probe, thread, how);
        thread_free(&probe->watches, thread);
}

static bool is_told_as_blocked(const struct thread *thread)
{
        return thread->more == PROBE_LEAK_BLOCKED ||
               (thread->leak && thread->leak->key.kind == PROBE_LEAK_BLOCKED);
}

static void update_threads(struct probe *probe, uint64_t end, bool suspended)
{
        struct sweeper *s = &probe->sweeper;
        struct thread *thread, *next;

        for (size_t i = 0; i < s->n_samples; i++) {
                const struct sample *sample = &s->samples[i];
                struct watch *watch = watches_get(&probe->watches, sample->context_id);

                thread = watch ? watches_thread(&probe->watches, &probe->accounts, watch, sample) : NULL;
                if (!thread)
                        continue;
                if (thread->sweep == 0)
                        s->changed_usec = end;
                thread->sweep = s->number;
                thread->sample = *sample;
                if (thread_clock_feed(&thread->clock, sample, end) > 0 && is_told_as_blocked(thread)) {
                        s->changed_usec = end;
                        leak_leave(probe, thread, "it woke up");
                }
                if (suspended)
                        thread_clock_restart(&thread->clock, sample, end);
        }
        HASH_ITER (hh, probe->watches.threads, thread, next) {
                if (thread->sweep != s->number && !backend_missed(probe->backend, thread->key.pid)) {
                        s->changed_usec = end;
                        drop_thread(probe, thread, "it has left");
                }
        }
}

/* When the next sweep is due: at the time of the next verdict, or after half a grace, to see who has left.
 * Where nothing has changed for long, sweeps are rare. */
static uint64_t next_sweep(const struct probe *probe, uint64_t now)
{
        const struct sweeper *s = &probe->sweeper;
        uint64_t at = UINT64_MAX, settled;
        struct thread *thread, *next_thread;
        struct watch *watch, *next_watch;

        settled = min_usec((now - s->changed_usec) / 8, INTERVAL_IDLE_USEC);
        HASH_ITER (hh, probe->watches.by_id, watch, next_watch) {
                uint64_t grace = watch->record.grace_usec, interval;

                if (watch->baseline_usec > 0) {
                        at = min_usec(at, watch->baseline_usec);
                        continue;
                }
                if (grace == UINT64_MAX)
                        continue;
                interval = min_usec(max_usec(grace / 2, INTERVAL_MIN_USEC), INTERVAL_MAX_USEC);
                at = min_usec(at, now + max_usec(interval, settled));
                if (watch->record.done_usec + grace > now)
                        at = min_usec(at, watch->record.done_usec + grace);
        }
        HASH_ITER (hh, probe->watches.threads, thread, next_thread) {
                const struct probe_watch *record = &thread->watch->record;
                uint64_t due;

                if (thread->leak || thread->more)
                        continue;
                due = thread_clock_blocked_at(&thread->clock, record->done_usec, record->grace_usec);
                /* One that was due before, and was excused, is looked at in the next interval. */
                if (due != UINT64_MAX && due > now)
                        at = min_usec(at, max_usec(due, s->not_before_usec));
        }
        if (s->not_before_usec > now)
                at = min_usec(at, s->not_before_usec);
        if (s->behind_usec > now)
                at = min_usec(at, s->behind_usec);
        return at;
}

static int plan(struct probe *probe, uint64_t at)
{
        struct sweeper *s = &probe->sweeper;
        int r;

        s->planned_usec = at;
        if (at == UINT64_MAX)
                return sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
        r = sd_event_source_set_time(s->timer, at);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(s->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct probe *probe = userdata;
        struct sweeper *s = &probe->sweeper;
        struct watch *watch, *next;
        uint64_t begin = now_boottime_usec(), end;
        int64_t offset = suspended_usec();
        bool suspended = offset - s->suspended_usec > SUSPEND_USEC ||
                         s->suspended_usec - offset > SUSPEND_USEC;
        int r;

        if (s->entered_changed) {
                s->entered_changed = false;
                watches_admit_entered(&probe->watches, &probe->accounts);
                backend_entered(probe->backend, &probe->watches);
                publish_unseen(probe, begin);
        }
        s->suspended_usec = offset;
        s->number++;
        s->n_samples = 0;
        if (begin <= s->planned_usec + LATE_USEC)
                s->n_late = 0;
        else if (s->n_late++ < LATE_MAX)
                s->not_before_usec = begin + LATE_WAIT_USEC;

        r = backend_sweep(probe->backend, &probe->watches, on_sample, s);
        end = now_boottime_usec();
        if (r < 0) {
                log_warning("a sweep has failed: %s", strerror(-r));
                return plan(probe, end + INTERVAL_MAX_USEC);
        }
        chain_sort(s->samples, s->n_samples);
        update_threads(probe, end, suspended);
        HASH_ITER (hh, probe->watches.by_id, watch, next) {
                if (watch->baseline_usec <= begin)
                        watch->baseline_usec = 0;
        }
        s->behind_usec = 0;
        if (begin >= s->not_before_usec && !suspended && probe->backend && verdict_pass(probe, begin))
                s->behind_usec = begin + BEHIND_USEC;
        publish_all(probe, now_boottime_usec());
        s->swept_usec = begin;
        link_tell(probe);
        if (!probe->link.greeted)
                return plan(probe, UINT64_MAX);
        return plan(probe, next_sweep(probe, now_boottime_usec()));
}

int sweeper_init(struct probe *probe)
{
        struct sweeper *s = &probe->sweeper;
        int r;

        s->planned_usec = UINT64_MAX;
        s->suspended_usec = suspended_usec();
        r = publish_init(probe);
        if (r < 0)
                return r;
        r = sd_event_add_time(probe->event, &s->timer, CLOCK_BOOTTIME, 0, 1000, on_timer, probe);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
}

void sweeper_deinit(struct probe *probe)
{
        struct thread *thread, *next_thread;
        struct watch *watch, *next_watch;

        publish_deinit(probe);
        HASH_ITER (hh, probe->watches.threads, thread, next_thread) {
                thread->leak = NULL;
                thread->more = 0;
                thread_free(&probe->watches, thread);
        }
        HASH_ITER (hh, probe->watches.by_id, watch, next_watch)
                watch_free(&probe->watches, watch);
        accounts_deinit(&probe->accounts);
        probe->sweeper.timer = sd_event_source_disable_unref(probe->sweeper.timer);
        free(probe->sweeper.samples);
}

int sweeper_watch(struct probe *probe, const struct probe_watch *record)
{
        struct sweeper *s = &probe->sweeper;
        uint64_t now = now_boottime_usec();
        uint64_t baseline = record->done_usec + min_usec(BASELINE_USEC, record->grace_usec / 4);
        struct watch *watch;
        int r;

        if (!probe->backend)
                return 0;
        r = watches_add(&probe->watches, record, max_usec(baseline, now), &watch);
        if (r < 0)
                return r;
        if (r == 0) {
                leaks_tell(probe, watch);
                link_tell(probe);
                return plan(probe, next_sweep(probe, now));
        }
        if (watch->record.grace_usec == UINT64_MAX)
                watch->baseline_usec = 0;
        s->changed_usec = now;
        if (watch->baseline_usec > 0 && watch->baseline_usec < s->planned_usec)
                return plan(probe, watch->baseline_usec);
        return 0;
}

int sweeper_threads(struct probe *probe, const struct probe_threads *record)
{
        int r = watches_set_entered(&probe->watches, record);

        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        /* The backend is told before the next sweep, however often they change until then. Threads that have
         * left are noticed by a sweep, so it must come soon. */
        probe->sweeper.entered_changed = true;
        return plan(probe, next_sweep(probe, now_boottime_usec()));
}

void sweeper_forget(struct probe *probe, uint64_t context_id, const char *how)
{
        struct watch *watch = watches_get(&probe->watches, context_id);
        struct thread *thread, *next;

        if (!watch)
                return;
        for (thread = LIST_FIRST(&watch->threads); thread; thread = next) {
                next = LIST_NEXT(thread, in_watch);
                drop_thread(probe, thread, how);
        }
        probe->sweeper.entered_changed |= watch->n_entered > 0;
        watch_free(&probe->watches, watch);
        link_tell(probe);
        if (HASH_COUNT(probe->watches.by_id) == 0)
                (void) plan(probe, UINT64_MAX);
}

void sweeper_pause(struct probe *probe)
{
        struct watch *watch, *next;

        HASH_ITER (hh, probe->watches.by_id, watch, next)
                watch->confirmed = false;
        (void) plan(probe, UINT64_MAX);
}

void sweeper_resume(struct probe *probe)
{
        struct sweeper *s = &probe->sweeper;
        uint64_t now = now_boottime_usec();

        if (HASH_COUNT(probe->watches.by_id) > 0) {
                s->not_before_usec = now + INTERVAL_MIN_USEC;
                (void) plan(probe, s->not_before_usec);
        }
}
